"""What the sender is told: counts, and problems in the file's order, as many as anybody can read."""

import uuid
from typing import Any

import polars as pl
import pytest

from screening import intake, receipts
from screening.errors import NotFound, Problem
from screening.reading import Summary
from screening.reading.plan import PROBLEM_SCHEMA
from tests import sending
from tests.cast import Cast
from tests.factories import make_round
from tests.files import csv_of, phq9


def found(*rows: tuple[str | None, int | None, str | None, str]) -> pl.DataFrame:
    return pl.DataFrame([(*row, "Words.") for row in rows], schema=PROBLEM_SCHEMA, orient="row")


def test_problems_are_told_in_the_order_of_the_file_those_of_all_of_it_first() -> None:
    told = receipts.Problems()
    told.add(found((None, 9, "phq9_1", "outside_codes"), (None, 3, "phq9_2", "not_a_code")))
    told.add(found((None, 3, None, "no_consent")))
    told.add_of_file([Problem("round_closed", "Words.")])

    assert [(p.code, p.row, p.column) for p in told.in_order()] == [
        ("round_closed", None, None),
        ("no_consent", 3, None),
        ("not_a_code", 3, "phq9_2"),
        ("outside_codes", 9, "phq9_1"),
    ]


def test_the_same_problem_is_told_once() -> None:
    told = receipts.Problems()
    told.add_of_file([Problem("round_closed", "Words.")] * 2)
    told.add(found((None, 3, None, "no_consent")))
    told.add(found((None, 3, None, "no_consent")))

    assert [p.code for p in told.in_order()] == ["round_closed", "no_consent"]


def test_more_problems_than_anybody_reads_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "MOST_PROBLEMS_KEPT", 3)
    told = receipts.Problems()
    told.add(found(*((None, row, None, "no_consent") for row in range(2, 4))))
    told.add(found(*((None, row, None, "no_consent") for row in range(4, 9))))

    assert [p.row for p in told.in_order()] == [2, 3, 4]
    assert told.left_out == 4


def test_a_receipt_counts_each_outcome_of_each_form() -> None:
    receipt = receipts.Receipt(Summary("csv", "utf-8", None, 9, 1, 2, ("x",), (), (), 0))
    receipt.count(("phq9", "self"), {"accepted": 2, "rejected": 1})
    receipt.count(("phq9", "self"), {"accepted": 1})
    receipt.students.update({"a", "b"})

    told: dict[str, Any] = receipt.as_json()

    assert (told["rows"], told["blank_rows"], told["repeated_rows"], told["students"]) == (9, 1, 2, 2)
    assert told["forms"] == {"phq9/self": dict.fromkeys(receipts.OUTCOMES, 0) | {"accepted": 3, "rejected": 1}}


def test_every_reason_to_refuse_a_file_has_words() -> None:
    for code in receipts.REFUSALS:
        problem = receipts.told(code)
        assert problem.code == code and problem.message.endswith(".")


def test_a_receipt_that_is_there_stays_and_whatever_stood_beside_it_is_undone(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    sent = sending.send(cast, made.id, csv_of(phq9("A001")))

    with pytest.raises(NotFound), cast.database.unit(cast.scope) as session:
        make_round(session, name="Beside it")
        receipts.refuse(session, intake.get(session, sent.upload.id), [receipts.told("round_closed")])

    names = sending.rows(cast.database, cast.scope, "select name from rounds where district_id = :district")
    assert [row["name"] for row in names] == ["Autumn round"]
    assert sending.receipt_of(cast, sent.upload.id).upload.state == "loaded"


def test_what_is_told_is_kept_account_of(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    sent = sending.send(cast, made.id, csv_of(phq9("nobody", 3)))

    lines = sending.rows(
        cast.database,
        cast.scope,
        "select action, detail from audit_entries where district_id = :district and subject = 'upload' order by id",
    )
    assert [line["action"] for line in lines] == ["upload.received", "upload.loaded"]
    assert all("phq9" not in str(line["detail"]) for line in lines)
    assert isinstance(sent.upload.id, uuid.UUID)
