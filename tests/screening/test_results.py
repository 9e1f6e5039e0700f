"""Answers as they are kept: in the definition's order, blanks as blanks, by who filled them in."""

import uuid

import polars as pl
import pytest

from instruments import catalogue
from screening import policy, results, rounds
from screening.results import Revisions
from tests import sending
from tests.cast import Cast
from tests.factories import make_round
from tests.files import both, csv_of, gad7, phq9


def rules(*codes: str) -> rounds.Rules:
    instruments = {code: catalogue.get(code) for code in codes}
    return rounds.Rules(uuid.uuid4(), "digest", rounds.ENGINE, policy.shipped(), instruments)


def students(n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"key": range(n), "age": [14] * n, "prior_tier": [0] * n},
        schema={"key": pl.UInt32, "age": pl.Int16, "prior_tier": pl.Int8},
    )


def scored(code: str, form: str, *answers: list[int | None], keys: list[int] | None = None) -> pl.DataFrame:
    instrument = catalogue.get(code)
    items = results.item_ids(instrument)
    rows = [[*given, *[None] * (len(items) - len(given))] for given in answers]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(items, pl.Int16), orient="row").with_columns(
        pl.Series("key", keys or list(range(len(rows))), pl.UInt32),
        attempt=pl.lit(1, pl.Int16),
        revision=pl.lit(1, pl.Int16),
    )
    return results.scored(frame, instrument, form)


def test_self_and_youth_forms_are_the_students_own() -> None:
    psc17, gad7_ = catalogue.get("psc17"), catalogue.get("gad7")

    assert [results.informant_of(form) for form in ("self", "youth", "parent", "teacher")] == [
        "self",
        "self",
        "parent",
        "teacher",
    ]
    for instrument in (psc17, gad7_):
        for form in instrument.forms:
            assert results.form_of(instrument, results.informant_of(form)) == form


def test_answers_are_kept_in_the_definitions_order_with_blanks_as_blanks() -> None:
    frame = scored("gad7", "self", [0, 1, None, 3, 0, 0, 2])
    instrument = catalogue.get("gad7")

    kept = frame.select(answers=results.answers_text(instrument), scores=results.scores_text(instrument))

    assert kept.item(0, "answers").startswith("{0,1,NULL,3,0,0,2")
    assert kept.item(0, "scores").startswith("{NULL")
    back = kept.select(results.numbers("answers", pl.Int16)).item(0, 0).to_list()
    assert back[:7] == [0, 1, None, 3, 0, 0, 2]


def test_the_latest_attempt_is_read_from_the_forms_that_a_result_names() -> None:
    assert results.latest_attempt([]) == 0
    assert results.latest_attempt(["phq9/self/1/4", "gad7/self/1/1"]) == 1
    assert results.latest_attempt(["phq9/self/1/4", "phq9/self/2/1"]) == 2


def test_each_student_with_a_form_is_decided_once_and_others_not_at_all() -> None:
    frames = {
        ("phq9", "self"): scored("phq9", "self", [3] * 9, [0] * 9, keys=[2, 0]),
        ("gad7", "self"): scored("gad7", "self", [3] * 7, keys=[2]),
    }

    verdicts = results.decided(students(4), frames, rules("phq9", "gad7"))

    assert verdicts.select("key", "tier", "attempt").rows() == [(0, 0, 1), (2, 3, 1)]
    assert verdicts.item(1, "forms").to_list() == ["gad7/self/1/1", "phq9/self/1/1"]


def test_nothing_is_decided_from_nothing() -> None:
    empty = scored("phq9", "self", [0] * 9).clear()

    assert results.decided(students(3), {}, rules("phq9")).is_empty()
    assert results.decided(students(3), {("phq9", "self"): empty}, rules("phq9")).is_empty()


def test_a_stored_revision_is_read_back_beside_the_one_before(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    sending.send(cast, made.id, csv_of(phq9("A001", 0, phq9_9=1)))
    sending.send(cast, made.id, csv_of(gad7("A001", 3)))

    with cast.database.unit(cast.scope) as session:
        first, second = (Revisions.stored(session, made.id, student.id, n).with_reasons[0] for n in (1, 2))

    assert (first.reasons, first.reasons_before) == (("phq9_self_harm",), ())
    assert second.reasons_before == first.reasons
    assert second.reasons == ("phq9_self_harm", "gad7_high", "gad7_raised")
    assert (first.attempt, second.attempt, second.is_new_attempt) == (1, 1, False)


def test_stored_forms_are_read_back_as_they_were_scored(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    sending.send(cast, made.id, csv_of(both("A001", 2, gad7_4="")))

    with cast.database.unit(cast.scope) as session:
        frozen = rounds.rules_of(session, made.id)
        stored = results.administrations(session, made.id, [str(student.id)])
    frames = results.unpacked(stored.with_columns(key=pl.lit(0, pl.UInt32)), frozen)

    assert set(frames) == {("phq9", "self"), ("gad7", "self")}
    assert frames["phq9", "self"].item(0, "total") == 18
    assert frames["gad7", "self"].item(0, "total") is None
    assert frames["gad7", "self"].item(0, "gad7_4") is None
