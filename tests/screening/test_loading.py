"""What becomes of each form of each row, and of a critical answer that cannot be kept: somebody hears of it, once."""

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import text

from alerts import delivery, raising, triage
from screening import coverage, intake, loading, matching, receipts, replay, results, rounds
from screening.access import Scope
from screening.models import Round
from tests import sending
from tests.cast import Cast
from tests.factories import decide, make_round, make_student
from tests.files import both, columns_of, csv_of, gad7, of_informant, phq9
from tests.sending import Sent, receive, send

YELLOW, ORANGE, RED = 1, 2, 3
LONG_AGO = dt.timedelta(days=400)


@pytest.fixture(autouse=True)
def reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)


@pytest.fixture
def opened(cast: Cast) -> Round:
    """A round of PHQ-9 and GAD-7, open in the whole district."""
    with cast.database.unit(cast.scope) as session:
        return make_round(session)


def round_of(cast: Cast, **more: Any) -> Round:
    with cast.database.unit(cast.scope) as session:
        return make_round(session, **more)


def shut(cast: Cast, made: Round) -> None:
    with cast.database.unit(cast.scope) as session:
        rounds.close(session, made.id, by=cast.district_admin)


def end_alerts(cast: Cast) -> None:
    """However they were ended."""
    with cast.database.unit(cast.scope) as session:
        session.execute(
            text("update alerts set state = 'triaged', closed_at = now() where district_id = :district"),
            {"district": cast.district.id},
        )


def told(cast: Cast) -> set[tuple[uuid.UUID | None, uuid.UUID | None, str | None, int]]:
    """Who is to be looked at: (student, school, place in the file, tier)."""
    return {(a["student_id"], a["school_id"], a["place"], a["tier"]) for a in sending.alerts(cast)}


# -- critical answers in what is not kept ----------------------------------------------------------------

RED_9 = {"phq9_9": 3}
SOME_9 = {"phq9_9": 1}


def lost_answers(cast: Cast) -> tuple[bytes, set[tuple[uuid.UUID | None, uuid.UUID | None, str | None, int]]]:
    """A file of rows none of which can be kept, each with a critical answer; and whom it must reach where."""
    with cast.database.unit(cast.scope) as session:
        for school in (cast.school_a, cast.school_b):
            make_student(session, school.id, number="X1")
    known, a, b = cast.students, cast.school_a.id, cast.school_b.id
    listed: list[tuple[dict[str, object], uuid.UUID | None, uuid.UUID | None, str | None, int]] = [
        (phq9("nobody", **RED_9) | {"school_code": "B"}, None, b, "2", RED),
        (phq9("nobody", **SOME_9) | {"school_code": "A"}, None, a, "3", ORANGE),
        (phq9("no one", **SOME_9), None, None, "4", ORANGE),
        (phq9("X1", **SOME_9), None, None, "5", ORANGE),
        (phq9("", **SOME_9) | {"school_code": "A"}, None, a, "6", ORANGE),
        (phq9("A007", **SOME_9) | {"school_code": "A", "student_name": "张三"}, None, a, "7", ORANGE),
        (phq9("A003", **RED_9), known.declined_12.id, a, None, RED),
        (phq9("A001", phq9_3="7", **SOME_9), known.granted_13.id, a, None, ORANGE),
        (phq9("A010", **SOME_9), known.granted_17.id, a, None, ORANGE),
        (phq9("A006", 0, **SOME_9), known.own_grant_15.id, a, None, ORANGE),
        (phq9("A006", 1, **SOME_9), known.own_grant_15.id, a, None, ORANGE),
        (phq9("C001", **RED_9), known.in_school_c.id, cast.school_c.id, None, RED),
    ]
    header = dict.fromkeys(columns_of([row for row, *_ in listed]), "")
    return csv_of(*(header | row for row, *_ in listed)), {tuple(wanted) for _, *wanted in listed}  # type: ignore[misc]


def round_that_keeps_none(cast: Cast) -> Round:
    """Not for grade 11, and not open at school C."""
    return round_of(cast, grades=(7, 8, 9, 10), school_ids=[cast.school_a.id, cast.school_b.id])


def assert_every_lost_answer_is_heard_once(cast: Cast) -> None:
    content, wanted = lost_answers(cast)
    made = round_that_keeps_none(cast)

    sent = send(cast, made.id, content)

    assert sending.forms(cast, made.id) == []
    assert "accepted" not in sent.outcomes("phq9/self")
    assert told(cast) == wanted
    before = sending.counts(cast)
    send(cast, made.id, content)
    assert sending.counts(cast) == before
    end_alerts(cast)
    send(cast, made.id, content)
    assert sending.counts(cast) == before


def test_every_critical_answer_that_cannot_be_kept_is_heard_exactly_once(cast: Cast) -> None:
    assert_every_lost_answer_is_heard_once(cast)


def test_that_is_not_so_without_the_signals_of_a_load(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control has a test that fails when the control is gone."""
    monkeypatch.setattr(loading, "_safety_signals", lambda *_: [])

    with pytest.raises(AssertionError):
        assert_every_lost_answer_is_heard_once(cast)
    assert sending.alerts(cast) == []


def test_each_school_finds_its_own_rows_in_its_queue(cast: Cast) -> None:
    content, wanted = lost_answers(cast)
    send(cast, round_that_keeps_none(cast).id, content)

    for school, scope in ((cast.school_a.id, cast.scope_a), (cast.school_b.id, cast.scope_b)):
        with cast.database.unit(scope) as session:
            rows = triage.queue(session)
        assert {(r.student_id, r.school_id, r.place, r.tier) for r in rows} == {w for w in wanted if w[1] == school}
        assert all(row.has_self_harm and row.round_id for row in rows)


def test_what_a_school_sends_is_heard_at_that_school(cast: Cast, opened: Round) -> None:
    rows = csv_of(phq9("nobody", **RED_9), phq9("B001", **RED_9) | {"school_code": "B"})

    send(cast, opened.id, rows, school_id=cast.school_a.id, by=cast.school_admin_a)

    assert told(cast) == {(None, cast.school_a.id, place, RED) for place in ("2", "3")}


REFUSED: dict[str, tuple[Callable[[dict[str, object]], bytes], dict[str, object]]] = {
    "no student column": (lambda row: csv_of({k: v for k, v in row.items() if k != "student_number"}), {}),
    "two student columns": (lambda row: csv_of(row | {"学号": "A001"}), {}),
    "a map of another file": (csv_of, {"column_map": {"question 9": "phq9_9"}}),
    "an item column missing": (lambda row: csv_of({k: v for k, v in row.items() if k != "phq9_4"}), {}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_file_is_looked_through_all_the_same(cast: Cast, opened: Round, name: str) -> None:
    write, options = REFUSED[name]
    content = write(phq9("A001", **RED_9))

    sent = send(cast, opened.id, content, school_id=cast.school_a.id, **options)

    assert sending.forms(cast, opened.id) == []
    assert sent.outcomes("phq9/self") == {"rejected": 1}
    (alert,) = sending.alerts(cast)
    assert (alert["school_id"], alert["tier"]) == (cast.school_a.id, RED)
    assert alert["student_id"] == cast.students.granted_13.id or alert["place"] == "2"
    send(cast, opened.id, content, school_id=cast.school_a.id, **options)
    assert len(sending.alerts(cast)) == 1


def test_a_closed_round_keeps_nothing_and_hears_everything(cast: Cast, opened: Round) -> None:
    shut(cast, opened)
    content = csv_of(phq9("A001", **SOME_9), phq9("nobody", **RED_9) | {"school_code": "A"})

    for _ in range(2):
        sent = send(cast, opened.id, content)
        assert sent.upload.state == "refused"
        assert told(cast) == {
            (cast.students.granted_13.id, cast.school_a.id, None, ORANGE),
            (None, cast.school_a.id, "3", RED),
        }
        end_alerts(cast)
    assert len(sending.alerts(cast)) == 2


def test_a_dry_run_keeps_nothing_and_hears_everything(cast: Cast, opened: Round) -> None:
    content = csv_of(phq9("A001", **RED_9), phq9("A006", 2, phq9_9=0))

    sent = send(cast, opened.id, content, is_dry_run=True)

    assert sent.outcomes("phq9/self") == {"accepted": 2}
    assert sending.forms(cast, opened.id) == [] == sending.results(cast, opened.id)
    assert told(cast) == {(cast.students.granted_13.id, cast.school_a.id, None, RED)}
    send(cast, opened.id, content, is_dry_run=True)
    assert [alert["reasons"] for alert in sending.alerts(cast)] == [2]  # self-harm, and daily


def test_answers_that_differ_from_what_is_stored_are_heard(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001")))
    assert sending.alerts(cast) == []

    sent = send(cast, opened.id, csv_of(phq9("A001", **SOME_9)))

    assert sent.outcomes("phq9/self") == {"differs": 1}
    assert sent.places == {("differs", 2, "phq9")}
    assert told(cast) == {(cast.students.granted_13.id, cast.school_a.id, None, ORANGE)}
    assert len(sending.forms(cast, opened.id)) == 1


def test_a_file_that_was_heard_is_not_heard_again_when_the_round_is_closed(cast: Cast, opened: Round) -> None:
    """A school that sends its old file once more must not ring for what was stored and dealt with."""
    content = csv_of(phq9("A001", **SOME_9))
    send(cast, opened.id, content)
    end_alerts(cast)
    shut(cast, opened)

    send(cast, opened.id, content)

    assert len(sending.alerts(cast)) == 1


def test_a_stored_answer_is_not_news_when_consent_is_withdrawn_or_the_run_is_dry(cast: Cast, opened: Round) -> None:
    content = csv_of(phq9("A001", **SOME_9))
    send(cast, opened.id, content)
    end_alerts(cast)

    send(cast, opened.id, content, is_dry_run=True)
    with cast.database.unit(cast.scope) as session:
        now = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
        decide(session, cast.students.granted_13.id, "withdrawn", at=now)
    sent = send(cast, opened.id, content)

    assert sent.codes == {"no_consent": 1}
    assert len(sending.alerts(cast)) == 1


def test_a_row_read_anew_with_a_better_map_raises_its_concern(cast: Cast, opened: Round) -> None:
    """The same bytes under another column map can say more than they first did, and never less."""
    row = phq9("nobody", **SOME_9) | {"other": 3, "school_code": "A"}

    send(cast, opened.id, csv_of(row))
    (before,) = sending.alerts(cast)
    send(cast, opened.id, csv_of(row), column_map={"other": "phq9_9"})
    (after,) = sending.alerts(cast)
    send(cast, opened.id, csv_of(row))

    assert (before["tier"], after["tier"]) == (ORANGE, RED)
    assert after["answer_by"] <= before["answer_by"]
    assert [alert["tier"] for alert in sending.alerts(cast)] == [RED]


def test_a_name_that_differs_is_heard_at_the_school_that_gave_the_number(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A007", **SOME_9) | {"student_name": "张三"}))

    assert told(cast) == {(None, cast.school_a.id, "2", ORANGE)}


# -- student x instrument ----------------------------------------------------------------------------------


def test_a_bad_cell_of_one_form_costs_neither_the_other_form_nor_other_rows(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(both("A001", 2, gad7_5=10), both("A006", 0, phq9_9=9), both("A007")))

    kept = {(form["student_id"], form["instrument"]) for form in sending.forms(cast, opened.id)}
    known = cast.students
    assert kept == {
        (known.granted_13.id, "phq9"),
        (known.own_grant_15.id, "gad7"),
        (known.guardian_grant_16.id, "phq9"),
        (known.guardian_grant_16.id, "gad7"),
    }
    assert [result["forms"] for result in sending.results(cast, opened.id, known.granted_13.id)] == [["phq9/self/1/1"]]


def test_a_second_form_is_weighed_with_the_first(cast: Cast, opened: Round) -> None:
    student = cast.students.granted_13.id
    send(cast, opened.id, csv_of(phq9("A001", 1, phq9_9=0, phq9_1=3)))  # 10: yellow
    send(cast, opened.id, csv_of(gad7("A001", 3)))  # 21: orange

    first, second = sending.results(cast, opened.id, student)
    assert (first["tier"], first["reasons"], first["forms"]) == (YELLOW, ["phq9_raised"], ["phq9/self/1/1"])
    assert second["forms"] == ["gad7/self/1/1", "phq9/self/1/1"]
    assert (second["tier"], second["reasons"]) == (ORANGE, ["phq9_raised", "gad7_high", "gad7_raised"])
    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["rules"]) == (ORANGE, ["gad7_high", "gad7_raised", "phq9_raised"])


def test_a_later_fine_form_lowers_nothing_and_rings_nobody(cast: Cast, opened: Round) -> None:
    student = cast.students.granted_13.id
    send(cast, opened.id, csv_of(phq9("A001", **RED_9)))
    send(cast, opened.id, csv_of(gad7("A001")))

    assert [result["tier"] for result in sending.results(cast, opened.id, student)] == [RED, RED]
    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["reasons"], alert["state"]) == (RED, 2, "new")


def test_what_was_dealt_with_is_not_opened_anew_by_a_second_form(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001", **SOME_9)))
    end_alerts(cast)

    send(cast, opened.id, csv_of(gad7("A001")))
    assert len(sending.alerts(cast)) == 1

    send(cast, opened.id, csv_of(gad7("A001", 3)), is_correction=True)
    assert [alert["rules"] for alert in sending.alerts(cast)] == [["phq9_self_harm"], ["gad7_high", "gad7_raised"]]


def test_two_people_who_see_the_same_make_it_orange(cast: Cast) -> None:
    made = round_of(cast, instruments=[("psc17", ("parent", "teacher"))])
    student = cast.students.granted_13.id

    send(cast, made.id, csv_of(of_informant("A001", "parent", 1)))
    send(cast, made.id, csv_of(of_informant("A001", "teacher", 1)))

    first, second = sending.results(cast, made.id, student)
    assert (first["tier"], first["reasons"]) == (YELLOW, ["psc17_raised"])
    assert second["tier"] == ORANGE
    assert "psc17_two_informants" in second["reasons"]
    assert second["forms"] == ["psc17/parent/1/1", "psc17/teacher/1/1"]
    (alert,) = sending.alerts(cast)
    assert alert["tier"] == ORANGE


def test_two_informants_in_one_file_are_two_forms(cast: Cast) -> None:
    made = round_of(cast, instruments=[("psc17", ("youth", "parent"))])
    row = of_informant("A006", "youth", 0) | of_informant("A006", "parent", 2)

    sent = send(cast, made.id, csv_of(row))

    assert sent.outcomes("psc17/youth") == sent.outcomes("psc17/parent") == {"accepted": 1}
    assert [form["informant"] for form in sending.forms(cast, made.id)] == ["parent", "self"]


# -- corrections, revisions, attempts ----------------------------------------------------------------------


def test_a_correction_is_a_further_revision_by_a_named_person(cast: Cast, opened: Round) -> None:
    student = cast.students.granted_13.id
    send(cast, opened.id, csv_of(both("A001", 1)))
    before = sending.forms(cast, opened.id), sending.results(cast, opened.id)

    sent = send(cast, opened.id, csv_of(phq9("A001", 0)), is_correction=True, by=cast.lead)

    assert sent.outcomes("phq9/self") == {"corrected": 1}
    forms, kept = sending.forms(cast, opened.id), sending.results(cast, opened.id)
    assert [form for form in forms if form["revision"] == 1] == before[0]
    assert kept[:1] == before[1]
    (corrected,) = [form for form in forms if form["revision"] == 2]
    assert (corrected["instrument"], corrected["recorded_by"]) == ("phq9", cast.lead.staff_id)
    assert kept[1]["forms"] == ["gad7/self/1/1", "phq9/self/1/2"]
    assert kept[1]["student_id"] == student


def test_a_correction_to_nothing_leaves_the_alert_as_it_is(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001", **RED_9)))
    send(cast, opened.id, csv_of(phq9("A001")), is_correction=True)

    assert [result["tier"] for result in sending.results(cast, opened.id)] == [RED, 0]
    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["closed_at"], alert["state"]) == (RED, None, "new")


def test_a_correction_to_worse_rings(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001", **SOME_9)))
    send(cast, opened.id, csv_of(phq9("A001", **RED_9)), is_correction=True)

    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["rules"]) == (RED, ["phq9_self_harm", "phq9_self_harm_daily"])


def test_a_correction_there_and_back_is_three_revisions_and_one_alert(cast: Cast, opened: Round) -> None:
    for answer in (1, 0, 1):
        send(cast, opened.id, csv_of(phq9("A001", phq9_9=answer)), is_correction=True)
        end_alerts(cast)

    assert [result["tier"] for result in sending.results(cast, opened.id)] == [ORANGE, 0, ORANGE]
    assert len(sending.alerts(cast)) == 1


def test_every_revision_is_weighed_and_can_be_derived_again(cast: Cast, opened: Round) -> None:
    for fill in (0, 1, 2, 3):
        send(cast, opened.id, csv_of(both("A001", fill), phq9("A006", fill)), is_correction=True)

    kept = sending.counts(cast)
    assert kept["results"] == kept["weighings"] == 8
    assert kept["administrations"] == 12
    with cast.database.unit(cast.scope) as session:
        found = replay.replay(session, batch=3)
    assert (found.replayed, found.differences) == (8, ())


def test_rows_that_were_kept_cannot_be_changed_or_taken_away_by_the_app(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001", **RED_9)))

    for statement in (
        "update results set tier = 0",
        "update administrations set answers = '{0}'",
        "update weighings set tier = 0",
        "delete from results",
        "delete from administrations",
        "delete from alerts",
        "delete from alert_reasons",
    ):
        with pytest.raises(Exception, match="permission denied"), cast.database.unit(cast.scope) as session:
            session.execute(text(statement))


def test_an_earlier_round_in_red_makes_a_new_concern_orange(cast: Cast) -> None:
    now = dt.datetime.now(dt.UTC)
    recent = round_of(
        cast, is_historical=True, opens_at=now - dt.timedelta(days=300), closes_at=now - dt.timedelta(days=290)
    )
    ancient = round_of(cast, is_historical=True, opens_at=now - LONG_AGO, closes_at=now - dt.timedelta(days=390))
    send(cast, recent.id, csv_of(phq9("A001", **RED_9)))
    send(cast, ancient.id, csv_of(phq9("A006", **RED_9)))
    assert sending.alerts(cast) == []
    made = round_of(cast)

    send(cast, made.id, csv_of(*(phq9(number, 1, phq9_9=0, phq9_1=3) for number in ("A001", "A006"))))

    known = cast.students
    tiers = {r["student_id"]: (r["tier"], r["prior_tier"]) for r in sending.results(cast, made.id)}
    assert tiers == {known.granted_13.id: (ORANGE, RED), known.own_grant_15.id: (YELLOW, 0)}


# -- all or nothing ----------------------------------------------------------------------------------------

STEPS: dict[str, tuple[Any, str]] = {
    "matching": (matching, "match"),
    "keeping forms": (results, "append_forms"),
    "keeping results": (results, "append_results"),
    "weighing": (raising, "weigh"),
    "raising": (raising, "raise_alerts"),
    "opening": (raising, "_add_reasons"),
    "telling": (delivery, "announce"),
    "counting": (coverage, "recount"),
    "the receipt": (receipts, "end"),
    "the account": (receipts, "_set_erasure"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_breaks_leaves_nothing_half_and_the_file_loads_later(
    cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    module, name = STEPS[step]
    upload = receive(cast, opened.id, csv_of(both("A001", 3), phq9("nobody", **RED_9)))
    before = sending.counts(cast)
    for is_done_first in (False, True):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, _broken(getattr(module, name), is_done_first=is_done_first))
            with pytest.raises(ZeroDivisionError):
                intake.load(cast.database, cast.district.id, upload.id, weigh=raising.weigh_load)

        assert sending.counts(cast) == before
        waiting = sending.receipt_of(cast, upload.id)
        assert (waiting.upload.state, waiting.upload.receipt, waiting.problems) == ("received", None, [])

    sent = sending.load(cast, upload.id)
    assert (sent.upload.state, sent.outcomes("phq9/self")) == ("loaded", {"accepted": 1, "rejected": 1})
    assert [alert["tier"] for alert in sending.alerts(cast)] == [RED, RED]


def _broken(step: Callable[..., Any], *, is_done_first: bool) -> Callable[..., None]:
    def broken(*about: Any, **more: Any) -> None:
        if is_done_first:
            step(*about, **more)
        raise ZeroDivisionError

    return broken


def test_no_answer_without_its_weighing_and_no_weighing_without_its_alert(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(*(both(n, f) for n, f in (("A001", 3), ("A006", 1), ("A007", 0), ("B001", 2)))))

    assert _unweighed(cast.database, cast.scope) == []
    alerts = {alert["student_id"]: alert["tier"] for alert in sending.alerts(cast)}
    assert alerts == {r["student_id"]: r["tier"] for r in sending.results(cast, opened.id) if r["tier"]}


def _unweighed(database: Any, scope: Scope) -> list[Mapping[str, Any]]:
    return sending.rows(
        database,
        scope,
        "select r.student_id from results r where r.district_id = :district and not exists (select from weighings w"
        " where w.district_id = r.district_id and w.round_id = r.round_id and w.student_id = r.student_id"
        " and w.revision = r.revision and w.tier = r.tier)",
    )


def test_coverage_is_counted_for_the_schools_of_the_file(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001", **RED_9), phq9("B001")))

    with cast.database.unit(cast.scope) as session:
        by_school = {row.school_id: row.figures for row in coverage.funnel(session, opened.id, "school")}
    assert (by_school[cast.school_a.id].submitted, by_school[cast.school_a.id].tier_red) == (1, 1)
    assert (by_school[cast.school_b.id].submitted, by_school[cast.school_b.id].tier_none) == (1, 1)


def test_a_sender_who_is_named_stands_in_every_row(cast: Cast, opened: Round) -> None:
    sent: Sent = send(cast, opened.id, csv_of(phq9("A001")), by=cast.school_admin_a, school_id=cast.school_a.id)

    (form,), (result,) = sending.forms(cast, opened.id), sending.results(cast, opened.id)
    assert form["recorded_by"] == result["recorded_by"] == cast.school_admin_a.staff_id
    assert form["upload_id"] == result["upload_id"] == sent.upload.id


def test_a_student_who_moved_away_does_not_stop_the_old_school(cast: Cast, opened: Round) -> None:
    moved = cast.students.granted_17.id
    send(cast, opened.id, csv_of(phq9("A010")))
    with cast.database.unit(cast.scope) as session:
        where = {"student": moved, "to": cast.school_c.id}
        for table, key in (("students", "id"), ("identities", "student_id"), ("enrollments", "student_id")):
            session.execute(text(f"update {table} set school_id = :to where {key} = :student"), where)
    sent = send(cast, opened.id, csv_of(phq9("A007")), school_id=cast.school_a.id)
    assert sent.upload.state == "loaded"
