"""The online form: a page saved twice is once, a critical answer is heard at once, and a form is what a file is."""

import datetime as dt
import itertools
import threading
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from alerts import raising, triage
from screening import assignments, coverage, rounds
from screening.assignments import NotKept, Saved, Submitted
from screening.errors import Conflict, InvalidUpload, NotFound, Refused
from screening.models import Round
from tests import sending
from tests.cast import Cast
from tests.factories import decide, make_round, make_student
from tests.files import answers, csv_of, of_informant, phq9
from tests.sending import send

YELLOW, ORANGE, RED = 1, 2, 3


@pytest.fixture(autouse=True)
def reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)


@pytest.fixture
def opened(cast: Cast) -> Round:
    with cast.database.unit(cast.scope) as session:
        return make_round(session)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def place(cast: Cast, made: Round, student: Any, informant: str = "self") -> uuid.UUID:
    (row,) = sending.rows(
        cast.database,
        cast.scope,
        "select id from assignments where district_id = :district and round_id = :round and student_id = :student"
        " and informant = :informant",
        round=made.id,
        student=student.id,
        informant=informant,
    )
    found: uuid.UUID = row["id"]
    return found


def save(cast: Cast, at: uuid.UUID, page: Mapping[str, Any]) -> Saved:
    """As a door does it: kept and heard in one transaction, or not kept and heard all the same."""
    try:
        with cast.database.unit(cast.scope) as session:
            saved = assignments.save(session, at, page, by=cast.an, now=now())
            raising.raise_alerts(session, saved.signals, now=now(), policy=saved.rules.policy)
            return saved
    except NotKept as refused:
        _hear(cast, refused)
        raise


def submit(cast: Cast, at: uuid.UUID, page: Mapping[str, Any] | None = None) -> Submitted:
    try:
        with cast.database.unit(cast.scope) as session:
            done = assignments.submit(session, at, answers=page, by=cast.an, now=now())
            if done.revisions is not None:
                raising.weigh(session, done.revisions, now=now(), policy=done.rules.policy)
            return done
    except NotKept as refused:
        _hear(cast, refused)
        raise


def _hear(cast: Cast, refused: NotKept) -> None:
    with cast.database.unit(cast.scope) as session:
        raising.raise_alerts(session, refused.signals, now=now(), policy=refused.rules.policy)


def drafts(cast: Cast) -> list[Mapping[str, Any]]:
    return sending.rows(
        cast.database, cast.scope, "select instrument, answers from drafts where district_id = :district order by 1"
    )


def safety_answers(cast: Cast) -> list[tuple[str, int]]:
    found = sending.rows(
        cast.database, cast.scope, "select item, answer from safety_answers where district_id = :district order by 1, 2"
    )
    return [(row["item"], row["answer"]) for row in found]


# -- saving --------------------------------------------------------------------------------------------


def test_a_page_saved_twice_is_once_and_a_further_page_joins_it(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)

    for _ in range(2):
        assert save(cast, at, {"phq9_1": 2, "phq9_2": None}).is_kept
    save(cast, at, {"phq9_2": 1, "gad7_7": 0})

    kept = {row["instrument"]: row["answers"] for row in drafts(cast)}
    assert kept == {"phq9": [2, 1, *[None] * 8], "gad7": [*[None] * 6, 0]}
    assert sending.alerts(cast) == []


def test_a_critical_answer_in_an_unfinished_form_is_heard_at_once(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)

    save(cast, at, {"phq9_9": 1})
    save(cast, at, {"phq9_9": 1})

    (alert,) = sending.alerts(cast)
    assert (alert["student_id"], alert["tier"], alert["source"]) == (
        cast.students.granted_13.id,
        ORANGE,
        "safety_answer",
    )
    assert alert["reasons"] == 1
    assert sending.forms(cast, opened.id) == []


def test_what_rang_as_it_was_saved_does_not_ring_again_when_it_is_handed_in(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    save(cast, at, {"phq9_9": 1})
    (alert,) = sending.alerts(cast)
    with cast.database.unit(cast.scope) as session:
        triage.acknowledge(session, alert["id"], by=cast.an, now=now())

    submit(cast, at, {f"phq9_{item}": 0 for item in range(1, 9)})

    (after,) = sending.alerts(cast)
    assert (after["reasons"], after["state"]) == (1, "acknowledged")

    worse = place(cast, opened, cast.students.granted_17)
    save(cast, worse, {"phq9_9": 1})
    submit(cast, worse, {f"phq9_{item}": 3 for item in range(1, 10)})
    assert max(alert["tier"] for alert in sending.alerts(cast)) == RED


def test_it_is_heard_in_the_same_transaction(cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody can be told, the page is not taken for saved."""
    at = place(cast, opened, cast.students.granted_13)
    monkeypatch.setattr(raising, "_add_reasons", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        save(cast, at, {"phq9_9": 1})

    assert (drafts(cast), safety_answers(cast), sending.alerts(cast)) == ([], [], [])


def test_an_answer_that_is_taken_back_was_given(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)

    for answer in (3, 0, None, 1):
        save(cast, at, {"phq9_9": answer})

    assert safety_answers(cast) == [("phq9_9", 1), ("phq9_9", 3)]
    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["rules"]) == (RED, ["phq9_self_harm", "phq9_self_harm_daily"])
    submit(cast, at, answers("phq9", 0))
    (alert,) = sending.alerts(cast)
    assert alert["tier"] == RED


def test_whoever_stops_halfway_is_in_the_queue(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    save(cast, at, {"phq9_9": 2})
    with cast.database.unit(cast.scope) as session:
        rounds.close(session, opened.id, by=cast.district_admin)

    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["closed_at"]) == (ORANGE, None)


def test_without_consent_nothing_is_kept_and_it_is_heard_all_the_same(cast: Cast, opened: Round) -> None:
    declined = cast.students.declined_12
    at = place(cast, opened, declined)

    assert not save(cast, at, {"phq9_9": 3}).is_kept
    with pytest.raises(Refused) as refused:
        submit(cast, at, answers("phq9", 3))

    assert refused.value.code == "no_consent"
    assert (drafts(cast), safety_answers(cast), sending.forms(cast, opened.id)) == ([], [], [])
    (alert,) = sending.alerts(cast)
    assert (alert["student_id"], alert["tier"]) == (declined.id, RED)


def test_what_is_refused_on_handing_in_is_heard_without_any_page_before(cast: Cast, opened: Round) -> None:
    declined = place(cast, opened, cast.students.declined_12)
    answered = place(cast, opened, cast.students.granted_13)
    submit(cast, answered, answers("phq9", 0))
    late = place(cast, opened, cast.students.in_school_b)
    with cast.database.unit(cast.scope_b) as session:
        rounds.close(session, opened.id, by=cast.school_admin_b)

    for at, error, code in (
        (declined, Refused, "no_consent"),
        (answered, Conflict, "differs"),
        (late, Refused, "round_not_open"),
    ):
        for _ in range(2):
            with pytest.raises(error) as refused:
                submit(cast, at, answers("phq9", 0, phq9_9=3))
            assert refused.value.code == code

    known = cast.students
    assert {(a["student_id"], a["school_id"], a["tier"], a["reasons"]) for a in sending.alerts(cast)} == {
        (known.declined_12.id, cast.school_a.id, RED, 2),
        (known.granted_13.id, cast.school_a.id, RED, 2),
        (known.in_school_b.id, cast.school_b.id, RED, 2),
    }
    assert [form["student_id"] for form in sending.forms(cast, opened.id)] == [known.granted_13.id]


def test_items_and_codes_that_are_not_of_the_form_are_named(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)

    for verb in (save, submit):
        with pytest.raises(InvalidUpload) as refused:
            verb(cast, at, {"phq9_1": 4, "phq9_2": 1, "psc17_1": 1, "gad7_99": 0})
        assert [(p.code, p.column) for p in refused.value.problems] == [
            ("outside_codes", "phq9_1"),
            ("unknown_item", "psc17_1"),
            ("unknown_item", "gad7_99"),
        ]
    assert drafts(cast) == []


def test_a_critical_answer_beside_a_wrong_one_is_among_the_refusals_signals(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)

    for verb in (save, submit):
        with pytest.raises(NotKept) as refused:
            verb(cast, at, {"phq9_1": 4, "phq9_9": 3})
        assert max(signal.tier for signal in refused.value.signals) == RED


def test_a_place_that_is_not_there_or_not_open_takes_nothing(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    with cast.database.unit(cast.scope) as session:
        rounds.close(session, opened.id, by=cast.district_admin)

    for verb in (save, submit):
        with pytest.raises(NotFound):
            verb(cast, uuid.uuid4(), {"phq9_1": 1})
        with pytest.raises(Refused) as refused:
            verb(cast, at, {"phq9_1": 1})
        assert refused.value.code == "round_not_open"
    assert drafts(cast) == []


def test_a_school_has_no_place_of_another_school(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.in_school_b)

    with pytest.raises(NotFound), cast.database.unit(cast.scope_a) as session:
        assignments.save(session, at, {"phq9_1": 1}, by=cast.an, now=now())


def test_a_historical_round_takes_no_answers_of_today(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, is_historical=True)
    send(cast, made.id, csv_of(phq9("A001")))

    with pytest.raises(Refused) as refused:
        submit(cast, place(cast, made, cast.students.granted_13), answers("gad7", 0))

    assert refused.value.code == "round_historical"


# -- handing in ----------------------------------------------------------------------------------------


def test_what_was_saved_is_handed_in_with_the_last_page(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    save(cast, at, {f"phq9_{i}": 1 for i in range(1, 6)})
    submit(cast, at, {f"phq9_{i}": 2 for i in range(5, 10)})

    (form,) = sending.forms(cast, opened.id)
    assert form["answers"] == [1, 1, 1, 1, 2, 2, 2, 2, 2, None]
    assert (form["status"], form["scores"][0], form["recorded_by"]) == ("scored", 14, cast.an.staff_id)
    assert drafts(cast) == []
    (result,) = sending.results(cast, opened.id)
    assert (result["tier"], result["revision"]) == (ORANGE, 1)
    assert sending.counts(cast)["weighings"] == 1


def test_handing_in_the_same_again_is_once(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    submit(cast, at, answers("phq9", 3))
    before = sending.counts(cast)

    for _ in range(2):
        assert submit(cast, at, answers("phq9", 3)).revisions is None

    assert sending.counts(cast) == before


def test_a_double_click_is_one_hand_in(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    came: list[Submitted] = []
    threads = [threading.Thread(target=lambda: came.append(submit(cast, at, answers("phq9", 3)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(done.revisions is not None for done in came) == 1
    assert len(came) == 4
    counted = sending.counts(cast)
    assert (counted["administrations"], counted["results"], counted["alerts"]) == (1, 1, 1)


def test_two_pages_saved_at_the_same_moment_are_both_kept(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    pages = [{f"phq9_{i}": 1} for i in range(1, 9)]

    threads = [threading.Thread(target=save, args=(cast, at, page)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [row["answers"] for row in drafts(cast)] == [[1] * 8 + [None, None]]


def test_other_answers_than_those_handed_in_are_refused(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    submit(cast, at, answers("phq9", 1, phq9_9=0))

    with pytest.raises(Conflict) as refused:
        submit(cast, at, answers("phq9", 0))

    assert refused.value.code == "differs"
    assert len(sending.forms(cast, opened.id)) == 1


def test_after_a_correction_the_corrected_answers_are_those_that_stand(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    submit(cast, at, answers("phq9", 0))
    for fill in (1, 2):
        send(cast, opened.id, csv_of(phq9("A001", fill)), is_correction=True)

    assert submit(cast, at, answers("phq9", 2)).revisions is None
    for fill in (0, 1):
        with pytest.raises(Conflict):
            submit(cast, at, answers("phq9", fill))


def test_nothing_answered_is_nothing_handed_in(cast: Cast, opened: Round) -> None:
    at = place(cast, opened, cast.students.granted_13)
    save(cast, at, {"phq9_1": None})

    with pytest.raises(Refused) as refused:
        submit(cast, at)

    assert refused.value.code == "nothing_answered"


def test_a_blank_is_stored_as_a_blank(cast: Cast, opened: Round) -> None:
    submit(cast, place(cast, opened, cast.students.granted_13), answers("phq9", 0, phq9_9=None))

    (form,) = sending.forms(cast, opened.id)
    assert (form["status"], form["missing_count"], form["scores"][0]) == ("not_scorable", 1, None)
    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["rules"]) == (YELLOW, ["phq9_critical_blank"])


def test_the_youth_form_and_the_parents_are_two_places(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, instruments=[("psc17", ("youth", "parent"))])
    student = cast.students.own_grant_15

    submit(cast, place(cast, made, student), answers("psc17", 1))
    submit(cast, place(cast, made, student, "parent"), answers("psc17", 1))

    first, second = sending.results(cast, made.id)
    assert (first["tier"], first["forms"]) == (YELLOW, ["psc17/self/1/1"])
    assert (second["tier"], second["forms"]) == (ORANGE, ["psc17/parent/1/1", "psc17/self/1/1"])
    assert "psc17_two_informants" in second["reasons"]


# -- online and by file ----------------------------------------------------------------------------------


def test_a_file_after_the_online_form_repeats_or_differs(cast: Cast, opened: Round) -> None:
    submit(cast, place(cast, opened, cast.students.granted_13), answers("phq9", 1, phq9_9=0))
    submit(cast, place(cast, opened, cast.students.own_grant_15), answers("phq9", 0))

    sent = send(cast, opened.id, csv_of(phq9("A001", 1, phq9_9=0), phq9("A006", 1, phq9_9=0), phq9("A007", 0)))

    assert sent.outcomes("phq9/self") == {"repeated": 1, "differs": 1, "accepted": 1}
    assert sent.places == {("differs", 3, "phq9")}


def test_an_online_form_after_the_file_repeats_or_differs(cast: Cast, opened: Round) -> None:
    send(cast, opened.id, csv_of(phq9("A001", 1, phq9_9=0)))
    at = place(cast, opened, cast.students.granted_13)

    assert submit(cast, at, answers("phq9", 1, phq9_9=0)).revisions is None
    with pytest.raises(Conflict):
        submit(cast, at, answers("phq9", 2))


def test_a_form_handed_in_while_its_file_is_loaded_is_stored_once(
    cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is second is told so, or finds it repeated; neither door leaves anything half."""
    at = place(cast, opened, cast.students.granted_13)
    inside = threading.Event()
    came: list[Submitted | Exception] = []
    recount = coverage.recount

    def slowly(*about: Any) -> None:
        inside.set()
        submitting.join(timeout=0.5)  # it waits for this transaction
        recount(*about)

    def hand_in() -> None:
        inside.wait(10)
        try:
            came.append(submit(cast, at, answers("phq9", 3)))
        except (Conflict, IntegrityError) as error:
            came.append(error)

    submitting = threading.Thread(target=hand_in)
    submitting.start()
    monkeypatch.setattr(coverage, "recount", slowly)
    send(cast, opened.id, csv_of(phq9("A001", 3)))
    submitting.join()

    assert len(came) == 1
    counted = sending.counts(cast)
    assert (counted["administrations"], counted["results"], counted["weighings"], counted["alerts"]) == (1, 1, 1, 1)
    assert submit(cast, at, answers("phq9", 3)).revisions is None


SAME = ("tier", "validity", "reasons", "forms", "prior_tier", "age", "school_id", "rule_set_id")
OF_A_FORM = ("instrument", "informant", "attempt", "revision", "answers", "status", "missing_count", "scores")
_numbers = itertools.count(1)


@given(
    phq9_answers=st.lists(st.none() | st.integers(0, 3), min_size=9, max_size=9),
    gad7_answers=st.lists(st.none() | st.integers(0, 3), min_size=7, max_size=7),
    psc17_answers=st.lists(st.none() | st.integers(0, 2), min_size=17, max_size=17),
    prior=st.sampled_from([None, 100, 500]),
    age=st.none() | st.integers(11, 18),
)
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_same_answers_are_the_same_result_by_either_door(
    cast: Cast,
    phq9_answers: list[int | None],
    gad7_answers: list[int | None],
    psc17_answers: list[int | None],
    prior: int | None,
    age: int | None,
) -> None:
    if not any(answer is not None for answer in (*phq9_answers, *gad7_answers, *psc17_answers)):
        return
    numbers = [f"twin-{next(_numbers)}" for _ in range(2)]
    with cast.database.unit(cast.scope) as session:
        twins = [make_student(session, cast.school_a.id, number=number, age=age) for number in numbers]
        if prior is not None:
            began = now() - dt.timedelta(days=prior)
            earlier = make_round(session, is_historical=True, opens_at=began, closes_at=began + dt.timedelta(days=1))
        made = make_round(
            session, instruments=[("phq9", ("self",)), ("gad7", ("self",)), ("psc17", ("youth",))], grades=(7, 8, 9)
        )
    if prior is not None:
        send(cast, earlier.id, csv_of(*(phq9(number, 3) for number in numbers)))
    page: dict[str, Any] = {f"phq9_{i}": answer for i, answer in enumerate(phq9_answers, start=1)}
    page |= {f"gad7_{i}": answer for i, answer in enumerate(gad7_answers, start=1)}
    page |= {f"psc17_{i}": answer for i, answer in enumerate(psc17_answers, start=1)}

    send(cast, made.id, csv_of({"student_number": numbers[0]} | {k: "" if v is None else v for k, v in page.items()}))
    submit(cast, place(cast, made, twins[1]), page)

    by_file, online = (sending.results(cast, made.id, twin.id)[0] for twin in twins)
    assert {name: by_file[name] for name in SAME} == {name: online[name] for name in SAME}
    forms_by_file, forms_online = (sending.forms(cast, made.id, twin.id) for twin in twins)
    assert [[form[name] for name in OF_A_FORM] for form in forms_by_file] == [
        [form[name] for name in OF_A_FORM] for form in forms_online
    ]
    alerts = {alert["student_id"]: (alert["tier"], alert["rules"]) for alert in sending.alerts(cast)}
    assert alerts.get(twins[0].id) == alerts.get(twins[1].id)


def test_who_turned_fourteen_since_the_round_began_decides_by_either_door(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        today = now().date()
        turning = make_student(session, cast.school_a.id, number="T14", age=None, consents=())
        other = make_student(session, cast.school_a.id, number="T13", age=None, consents=())
        for student, months in ((turning, 14 * 12 + 2), (other, 13 * 12)):
            month = today.year * 12 + today.month - 1 - months
            student.born_month = dt.date(month // 12, month % 12 + 1, 1)
            session.add(student)
            decide(session, student.id, "granted", given_by="student", at=now() - dt.timedelta(days=1))
        made = make_round(session, opens_at=now() - dt.timedelta(days=200))

    sent = send(cast, made.id, csv_of(phq9("T14"), phq9("T13")))

    assert sent.places == {("no_consent", 3, None)}
    assert submit(cast, place(cast, made, turning), answers("phq9", 0)).revisions is None
    with pytest.raises(Refused):
        submit(cast, place(cast, made, other), answers("phq9", 0))


def test_two_informants_by_two_doors_are_weighed_together(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, instruments=[("psc17", ("parent", "teacher"))])
    student = cast.students.granted_13

    send(cast, made.id, csv_of(of_informant("A001", "parent", 1)))
    submit(cast, place(cast, made, student, "teacher"), answers("psc17", 1))

    assert [result["tier"] for result in sending.results(cast, made.id)] == [YELLOW, ORANGE]
