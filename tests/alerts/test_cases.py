"""A case from its opening to its end: who may, what stands in the way, and two people at once."""

import datetime as dt
import uuid

import pytest
from sqlalchemy import text

from alerts import cases, follow_ups, interviews, triage
from screening.errors import Conflict, NotFound, Refused
from tests.alerts.episodes import (
    HOUR,
    MONDAY,
    ORANGE,
    RED,
    YELLOW,
    cared,
    in_case,
    in_unit,
    look,
    race,
    ring,
    stands,
    talk,
)
from tests.cast import Cast

DAY = 24 * HOUR


def test_two_who_open_a_case_at_once_get_the_same_one(cast: Cast) -> None:
    student = cast.students.granted_13
    about = (student.id, student.school_id)
    came = race(
        in_unit(cast, cases.open, *about, YELLOW, cast.an.person, by=cast.an, now=MONDAY),
        in_unit(cast, cases.open, *about, RED, cast.bo.person, by=cast.bo, now=MONDAY),
        in_unit(cast, cases.open, *about, ORANGE, cast.lead.person, by=cast.lead, now=MONDAY),
    )
    assert len({made.id for made in came if not isinstance(made, Exception)}) == 1
    assert not [error for error in came if isinstance(error, Exception)]
    with cast.database.unit(cast.scope) as session:
        (case,) = cases.listed(session)
        assert case.tier == RED


def test_a_case_after_a_closed_one_remembers_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        first = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        cared(session, first, cast.an)
        cases.propose_closure(session, first.id, "resolved", "Better.", by=cast.an, now=MONDAY + HOUR)
        second = in_case(session, cast.students.granted_13, ORANGE, cast.an, at=MONDAY + DAY)
        assert second.id != first.id
        assert second.prior_case_id == first.id


def test_another_schools_open_case_is_neither_joined_nor_shown(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_b) as session:
        with pytest.raises(NotFound):
            cases.get(session, case.id)
        with pytest.raises(Conflict):
            cases.open(session, student.id, cast.school_b.id, RED, cast.chen.person, by=cast.chen, now=MONDAY)


def test_a_note_is_sealed_and_told_in_the_story(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        cases.note(session, case.id, "Her mother called.", by=cast.an, now=MONDAY + HOUR)
        talk(session, case, cast.an, at=MONDAY + 2 * HOUR)
        promised = follow_ups.plan(session, case.id, "phone", by=cast.an, now=MONDAY + 3 * HOUR)
        follow_ups.done(session, promised.id, "He laughed.", by=cast.an, now=MONDAY + DAY)
        told = [(line.kind, line.words) for line in cases.story(session, case.id).lines]
        stored = session.execute(text("select sealed from case_entries where case_id = :id"), {"id": case.id}).scalars()
        assert all(b"mother" not in sealed for sealed in stored)
    assert told == [
        ("opened", None),
        ("triage/case_opened", "We talked."),
        ("note", "Her mother called."),
        ("interview", "She sleeps badly."),
        ("follow_up/planned", None),
        ("follow_up/done", "He laughed."),
    ]


def test_the_tier_of_a_case_is_raised_and_never_lowered(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        assert cases.raise_tier(session, case.id, RED, by=cast.bo, now=MONDAY).tier == RED
        assert cases.raise_tier(session, case.id, RED, by=cast.bo, now=MONDAY).tier == RED
        with pytest.raises(Refused, match="never lowered"):
            cases.raise_tier(session, case.id, ORANGE, by=cast.lead, now=MONDAY)


# -- closing ------------------------------------------------------------------------------------------


def test_a_yellow_case_ends_at_once_and_its_alert_with_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        (alert,) = triage.queue(session, states=["triaged"])
        cared(session, case, cast.an)
        closure = cases.propose_closure(session, case.id, "resolved", "Well again.", by=cast.an, now=MONDAY + HOUR)
        again = cases.propose_closure(session, case.id, "resolved", "Well again.", by=cast.an, now=MONDAY + HOUR)
        assert closure.id == again.id
        assert (cases.get(session, case.id).state, stands(session, alert.id).closed_at) == ("closed", MONDAY + HOUR)
        with pytest.raises(Refused, match="closed"):
            cases.note(session, case.id, "More.", by=cast.an, now=MONDAY + HOUR)


@pytest.mark.parametrize("tier", [ORANGE, RED])
def test_an_orange_or_red_case_ends_only_on_two_persons_word(cast: Cast, tier: int) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, tier, cast.an)
        cared(session, case, cast.an)
        cases.propose_closure(session, case.id, "resolved", "Well again.", by=cast.an, now=MONDAY + HOUR)
        assert cases.get(session, case.id).state == "closure_proposed"
        with pytest.raises(Refused, match="second person"):
            cases.confirm_closure(session, case.id, by=cast.an, now=MONDAY + HOUR)
        for other in (cast.principal, cast.school_admin_a, cast.chen, cast.district_admin, cast.duty_officer):
            with pytest.raises(NotFound):
                cases.confirm_closure(session, case.id, by=other, now=MONDAY + HOUR)
        with pytest.raises(cases.TakenByAnother):
            cases.propose_closure(session, case.id, "resolved", "Yes.", by=cast.bo, now=MONDAY + HOUR)
        confirmed = cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY + 2 * HOUR)
        assert cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY + 3 * HOUR).id == confirmed.id
        assert confirmed.confirmed_by == cast.lead.person
        closed = cases.get(session, case.id)
        assert (closed.state, closed.closed_at) == ("closed", MONDAY + 2 * HOUR)
        assert triage.queue(session, states=["new", "acknowledged", "triaged"]) == []


def test_of_two_who_confirm_an_end_at_once_one_wins(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        cared(session, case, cast.an)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY)
    came = race(*(in_unit(cast, cases.confirm_closure, case.id, by=who, now=MONDAY) for who in (cast.bo, cast.lead)))
    won = [made for made in came if not isinstance(made, Exception)]
    lost = [error for error in came if isinstance(error, cases.TakenByAnother)]
    assert (len(won), len(lost)) == (1, 1)
    assert lost[0].winner == won[0].confirmed_by


def test_everything_that_stands_in_the_way_is_said_at_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        follow_ups.plan(session, case.id, "meeting", by=cast.an, now=MONDAY)
        ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        with pytest.raises(Refused) as refused:
            cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + HOUR)
    always = {"no_interview", "follow_up_open", "alert_open"}
    of_a_red = {"guardian_informed", "two_contacts"}
    assert {problem.code for problem in refused.value.problems} == always | of_a_red


def test_a_case_does_not_end_while_the_latest_interview_found_a_risk(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        talk(session, case, cast.an, has_current_risk=False)
        talk(session, case, cast.an, has_current_risk=True, at=MONDAY + HOUR)
        with pytest.raises(Refused) as refused:
            cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + HOUR)
        assert [problem.code for problem in refused.value.problems] == ["current_risk"]


def test_a_red_raised_meanwhile_keeps_the_case_open(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        cared(session, case, cast.an)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY)
        alert = ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        assert cases.get(session, case.id).state == "crisis"
        with pytest.raises(Conflict):
            cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY + HOUR)
        with pytest.raises(Refused) as refused:
            cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + HOUR)
        assert [problem.code for problem in refused.value.problems] == ["alert_open"]
        triage.acknowledge(session, alert.id, by=cast.bo, now=MONDAY + HOUR)
        look(session, alert.id, "merged", by=cast.bo, at=MONDAY + HOUR)
        joined = cases.get(session, case.id)
        assert (joined.state, joined.tier) == ("crisis", RED)
        with pytest.raises(Conflict):
            cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY + HOUR)


def test_closing_and_a_new_red_at_the_same_moment_never_lose_the_red(cast: Cast) -> None:
    student = cast.students.granted_13
    for n in range(5):
        at = MONDAY + n * DAY
        with cast.database.unit(cast.scope) as session:
            case = in_case(session, student, ORANGE, cast.an, at=at)
            cared(session, case, cast.an, at=at)
            cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=at)
        race(
            in_unit(cast, cases.confirm_closure, case.id, by=cast.lead, now=at + HOUR),
            in_unit(cast, ring, student, RED, at=at + HOUR),
        )
        with cast.database.unit(cast.scope) as session:
            (red,) = triage.queue(session)
            assert (red.tier, red.state) == (RED, "new")
            # answer it, so that the next time begins with a closed story
            triage.acknowledge(session, red.id, by=cast.an, now=at + 2 * HOUR)
            made = look(session, red.id, "case_opened", by=cast.an, at=at + 2 * HOUR)
            held = cases.get(session, made.case_id)
            cared(session, held, cast.an, at=at + 2 * HOUR)
            cases.propose_closure(session, held.id, "resolved", "Well.", by=cast.an, now=at + 2 * HOUR)
            cases.confirm_closure(session, held.id, by=cast.bo, now=at + 2 * HOUR)


def test_a_proposed_end_is_taken_back_and_proposed_again(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        cared(session, case, cast.an)
        first = cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY)
        cases.reject_closure(session, case.id, by=cast.lead, now=MONDAY + HOUR)
        assert cases.get(session, case.id).state == "assessing"
        second = cases.propose_closure(session, case.id, "in_treatment", "Clinic.", by=cast.bo, now=MONDAY + DAY)
        assert second.id != first.id
        cases.confirm_closure(session, case.id, by=cast.an, now=MONDAY + DAY)
        assert cases.get(session, case.id).state == "closed"


def test_a_case_ends_for_a_reason_of_the_policy_only(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        talk(session, case, cast.an)
        for reason in ("guardian_refused", "term_ended", ""):
            with pytest.raises(Refused, match="reasons"):
                cases.propose_closure(session, case.id, reason, "So.", by=cast.an, now=MONDAY)


@pytest.mark.parametrize("who", ["principal", "school_admin_a", "chen", "district_admin", "duty_officer", "auditor"])
def test_only_counselor_and_lead_of_the_school_work_in_a_case(cast: Cast, who: str) -> None:
    by = getattr(cast, who)
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        promised = follow_ups.plan(session, case.id, "meeting", by=cast.an, now=MONDAY)
        acts = [
            lambda: cases.note(session, case.id, "Hm.", by=by, now=MONDAY),
            lambda: cases.raise_tier(session, case.id, RED, by=by, now=MONDAY),
            lambda: cases.propose_closure(session, case.id, "resolved", "So.", by=by, now=MONDAY),
            lambda: cases.reject_closure(session, case.id, by=by, now=MONDAY),
            lambda: cases.open(session, uuid.uuid4(), cast.school_a.id, 1, by.person, by=by, now=MONDAY),
            lambda: talk(session, case, by),
            lambda: follow_ups.plan(session, case.id, "meeting", by=by, now=MONDAY),
            lambda: follow_ups.done(session, promised.id, "So.", by=by, now=MONDAY),
            lambda: follow_ups.missed(session, promised.id, "not_reached", by=by, now=MONDAY),
        ]
        for act in acts:
            with pytest.raises(NotFound):
                act()


def test_an_interview_is_of_the_past_and_of_a_known_kind(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        known = {
            "mode": "meeting",
            "is_student_seen": True,
            "has_current_risk": False,
            "is_concern_confirmed": False,
            "words": "Fine.",
            "held_at": MONDAY,
            "by": cast.an,
            "now": MONDAY,
        }
        for wrong in ({"mode": "letter"}, {"held_at": MONDAY + HOUR}, {"words": " "}):
            with pytest.raises(Refused):
                interviews.write(session, case.id, **(known | wrong))  # type: ignore[arg-type]


def test_cases_are_listed_page_by_page_the_gravest_first(cast: Cast) -> None:
    people = cast.students
    with cast.database.unit(cast.scope_a) as session:
        yellow = in_case(session, people.granted_13, YELLOW, cast.an)
        red = in_case(session, people.granted_17, RED, cast.an, at=MONDAY + HOUR)
        orange = in_case(session, people.own_grant_15, ORANGE, cast.an)
        first = cases.listed(session, limit=2)
        rest = cases.listed(session, after=first[-1].id, limit=2)
        assert [case.id for case in [*first, *rest]] == [red.id, orange.id, yellow.id]
        assert cases.listed(session, states=["closed"]) == []


def test_times_are_kept_as_instants(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        assert cases.get(session, case.id).opened_at.astimezone(dt.UTC) == MONDAY
