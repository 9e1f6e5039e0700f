"""The paths that go wrong elsewhere: absent, denied, refused, too close, the wrong child. None of them loses a red."""

import datetime as dt
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import (
    cases,
    conferences,
    destinations,
    entries,
    escalation,
    follow_ups,
    forms,
    interviews,
    recusals,
    referrals,
    triage,
)
from alerts.cases import checklist
from screening.errors import Conflict, NotFound, Refused
from screening.models import Student
from tests.alerts.episodes import (
    HOUR,
    MONDAY,
    ORANGE,
    RED,
    YELLOW,
    answered,
    cared,
    family_told,
    in_case,
    look,
    ring,
    stands,
    talk,
)
from tests.cast import Cast
from tests.factories import make_student

MINUTE, DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)
QUIET = {
    "thoughts": "none",
    "plan": "none",
    "means": "none",
    "intent": "none",
    "attempt": "none",
    "company": "with_somebody",
    "hold": "several",
}
ABSENT = {"is_guardian_phoned": True, "is_guardian_reached": False, "is_student_safe": False}


def check(session: Session, case_id: uuid.UUID, by, outcome: str, at: dt.datetime, **answers: str):  # type: ignore[no-untyped-def]
    return interviews.check_safety(
        session,
        case_id,
        mode="meeting",
        outcome=outcome,
        answers=QUIET | answers,
        words="So.",
        held_at=at,
        by=by,
        now=at,
    )


def obstacles(session: Session, case_id: uuid.UUID, cast: Cast, at: dt.datetime) -> set[str]:
    with pytest.raises(Refused) as refused:
        cases.propose_closure(session, case_id, "resolved", "Well.", by=cast.an, now=at)
    return {problem.code for problem in refused.value.problems}


def told(session: Session, subject_id: uuid.UUID) -> set[uuid.UUID]:
    return set(
        session.execute(
            text("select recipient_id from deliveries where subject_id = :id"), {"id": subject_id}
        ).scalars()
    )


# -- the student is not there -------------------------------------------------------------------------


def test_a_red_whose_student_is_absent_runs_on_although_a_case_was_opened(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, RED, cast.an)
        look(session, alert.id, "case_opened", by=cast.an, contact="none", is_student_seen=False)
        escalation.escalate(session, now=alert.see_by - MINUTE)
        before = told(session, alert.id)
        escalation.escalate(session, now=alert.see_by)
        rungs = session.execute(
            text("select rung from escalations where subject_id = :id and clock_at = :at"),
            {"id": alert.id, "at": alert.see_by},
        ).scalars()
        assert list(rungs) == [escalation.UNSEEN_RUNG]
        assert cast.lead.staff_id in told(session, alert.id)
        assert cast.an.staff_id in told(session, alert.id) | before


def test_nobody_reached_calls_the_lead_at_once_and_promises_another_try_in_half_an_hour(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        entries.fill(session, case.id, "absence", ABSENT, "Nobody at home.", by=cast.an, now=MONDAY + HOUR)
        (promised,) = cases.story(session, case.id).follow_ups
        assert promised.due_at == MONDAY + HOUR + 30 * MINUTE
        assert told(session, promised.id) == {cast.lead.staff_id}
        with pytest.raises(NotFound):
            entries.fill(
                session, case.id, "welfare_check", {"decision": "police"}, "Go.", by=cast.an, now=MONDAY + HOUR
            )
        entries.fill(session, case.id, "welfare_check", {"decision": "police"}, "Go.", by=cast.lead, now=MONDAY + HOUR)
        follow_ups.done(session, promised.id, "No answer.", by=cast.an, now=MONDAY + 2 * HOUR)
        assert "student_missing" in obstacles(session, case.id, cast, MONDAY + 2 * HOUR)
        cared(session, case, cast.an, at=MONDAY + 3 * HOUR)
        cases.propose_closure(session, case.id, "resolved", "Found.", by=cast.an, now=MONDAY + 3 * HOUR)


# -- the student denies -------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["denied", "misclick"])
def test_a_denial_lowers_nothing_and_wants_a_second_contact_on_another_day(cast: Cast, outcome: str) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        made = check(session, case.id, cast.an, outcome, MONDAY + HOUR)
        assert (made.outcome, made.has_current_risk, cases.get(session, case.id).tier) == (outcome, False, RED)
        family_told(session, case, cast.an)
        assert obstacles(session, case.id, cast, MONDAY + HOUR) == {"denial_unchecked", "two_contacts"}
        talk(session, case, cast.bo, at=MONDAY + 2 * HOUR)
        assert obstacles(session, case.id, cast, MONDAY + 2 * HOUR) == {"denial_unchecked"}
        talk(session, case, cast.bo, at=MONDAY + DAY)
        cases.propose_closure(session, case.id, "not_confirmed", "A slip.", by=cast.an, now=MONDAY + DAY)
        assert cases.get(session, case.id).state == "closure_proposed"


@pytest.mark.parametrize(
    ("answers", "risk"),
    [
        ({}, "none"),
        ({"attempt": "earlier", "thoughts": "passing"}, "none"),
        ({"thoughts": "frequent"}, "raised"),
        ({"attempt": "last_three_months"}, "raised"),
        ({"plan": "specific"}, "raised"),
        ({"intent": "some"}, "raised"),
        ({"plan": "specific", "means": "within_reach"}, "imminent"),
        ({"intent": "strong"}, "imminent"),
    ],
)
def test_what_a_safety_check_says(answers: dict[str, str], risk: str) -> None:
    assert forms.risk_of(QUIET | answers) == risk


def test_an_incomplete_safety_check_is_refused_with_every_problem() -> None:
    with pytest.raises(Refused) as refused:
        forms.risk_of({"thoughts": "often", "plan": "none", "mood": "low"})
    assert {problem.column for problem in refused.value.problems} == {*QUIET, "mood"} - {"plan"}


def test_a_safety_check_that_finds_danger_raises_the_case_and_rings(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        check(session, case.id, cast.an, "disclosed", MONDAY + HOUR, thoughts="frequent")
        assert cases.get(session, case.id).tier == ORANGE
        check(session, case.id, cast.an, "denied", MONDAY + 2 * HOUR, intent="strong")
        case = cases.get(session, case.id)
        assert (case.tier, case.state) == (RED, "crisis")
        (row,) = triage.queue(session)
        assert (row.tier, row.state, row.has_self_harm) == (RED, "new", True)
        check(session, case.id, cast.an, "disclosed", MONDAY + 3 * HOUR)
        assert (cases.get(session, case.id).tier, cases.get(session, case.id).state) == (RED, "assessing")


# -- the guardian refuses -----------------------------------------------------------------------------


def test_a_refused_referral_never_ends_a_case_before_the_lead_has_talked_once_more(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        place = destinations.add(session, "hospital", "First Hospital", by=cast.district_admin, now=MONDAY)
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        cared(session, case, cast.an)
        refused = referrals.refuse(
            session, case.id, place.id, explained="What may happen.", reason="Shame.", by=cast.an, now=MONDAY + HOUR
        )
        assert refused.state == "refused"
        assert told(session, refused.id) == {cast.lead.staff_id}
        (promised,) = cases.story(session, case.id).follow_ups
        assert promised.due_at == MONDAY + HOUR + 2 * DAY
        assert obstacles(session, case.id, cast, MONDAY + HOUR) == {"follow_up_open", "refusal_open"}
        follow_ups.done(session, promised.id, "They stay firm.", by=cast.an, now=MONDAY + DAY)
        talk(session, case, cast.an, at=MONDAY + DAY)
        assert obstacles(session, case.id, cast, MONDAY + DAY) == {"refusal_open"}
        talk(session, case, cast.lead, at=MONDAY + DAY)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + 2 * DAY)


def test_a_danger_overrides_a_refusal_with_a_reason_and_the_lead_hears(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        place = destinations.add(session, "hospital", "First Hospital", by=cast.district_admin, now=MONDAY)
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        known = {"urgency": "emergency", "basis": "override", "shared": "A plan.", "by": cast.an, "now": MONDAY}
        with pytest.raises(Refused):
            referrals.make(session, case.id, place.id, **known)  # type: ignore[arg-type]
        made = referrals.make(session, case.id, place.id, reason="Life is in danger.", **known)  # type: ignore[arg-type]
        assert (made.state, made.confirm_by) == ("sent", MONDAY + DAY)
        assert told(session, made.id) == {cast.lead.staff_id}


def test_where_the_guardian_is_the_danger_the_report_stands_for_telling_them(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        report = {"to": "public_security", "how": "phone", "is_guardian_suspected": True}
        entries.fill(session, case.id, "mandatory_report", report, "At 10:40.", by=cast.an, now=MONDAY + HOUR)
        assert checklist.facts_of(session, cases.get(session, case.id)).is_guardian_informed
        line = cases.story(session, case.id).lines[-1]
        assert (line.kind, line.words, line.fields) == ("mandatory_report/public_security", "At 10:40.", report)


# -- conflict of interest, absence of the counselor ---------------------------------------------------


def test_a_counselor_who_is_too_close_is_out_and_a_deputy_inherits_the_clocks(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        student = cast.students.granted_13
        alert = answered(session, student, RED, cast.an)
        clocks = (alert.answer_by, alert.see_by)
        with pytest.raises(NotFound):
            recusals.recuse(session, student.id, cast.an.person, "relative", by=cast.bo, now=MONDAY + MINUTE)
        recusals.recuse(session, student.id, cast.an.person, "relative", by=cast.an, now=MONDAY + MINUTE)
        recusals.recuse(session, student.id, cast.an.person, "relative", by=cast.lead, now=MONDAY + MINUTE)
        after = stands(session, alert.id)
        assert (after.state, after.owner_id, (after.answer_by, after.see_by)) == ("new", None, clocks)
        assert {cast.bo.staff_id, cast.lead.staff_id} <= told(session, alert.id)
        triage.acknowledge(session, alert.id, by=cast.bo, now=MONDAY + HOUR)
        for outcome in ("case_opened", "not_confirmed"):
            with pytest.raises(Refused, match="keep out"):
                look(session, alert.id, outcome, by=cast.an, at=MONDAY + HOUR)
        look(session, alert.id, "not_confirmed", by=cast.bo, at=MONDAY + HOUR)
        with pytest.raises(Refused, match="keep out"):
            triage.confirm_triage(session, alert.id, by=cast.an, now=MONDAY + HOUR)


def test_whoever_is_out_works_in_no_case_of_the_student_and_confirms_no_end(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        student = cast.students.granted_13
        case = in_case(session, student, RED, cast.an)
        recusals.recuse(session, student.id, cast.an.person, "subject", by=cast.lead, now=MONDAY)
        held = cases.get(session, case.id)
        assert held.owner_id in {cast.bo.person, cast.lead.person}
        with pytest.raises(Refused, match="keep out"):
            cases.note(session, case.id, "Hm.", by=cast.an, now=MONDAY)
        cared(session, case, cast.bo)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.bo, now=MONDAY)
        with pytest.raises(Refused, match="keep out"):
            cases.confirm_closure(session, case.id, by=cast.an, now=MONDAY)
        with pytest.raises(Refused):
            cases.hand_over(session, case.id, cast.an.person, "absent", by=cast.lead, now=MONDAY)
        cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY)


def test_an_absent_counselors_case_goes_to_a_colleague_with_its_clocks(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        promised = follow_ups.plan(session, case.id, "phone", by=cast.an, now=MONDAY)
        assert cases.hand_over(session, case.id, cast.bo.person, "absent", by=cast.lead, now=MONDAY).tier == RED
        assert cases.get(session, case.id).owner_id == cast.bo.person
        assert cases.story(session, case.id).follow_ups[0].due_at == promised.due_at
        for nobody in (cast.principal.person, cast.chen.person, uuid.uuid4()):
            with pytest.raises(Refused):
                cases.hand_over(session, case.id, nobody, "absent", by=cast.lead, now=MONDAY)


# -- the wrong student --------------------------------------------------------------------------------


def test_a_red_of_the_wrong_student_rings_for_the_right_one_at_once_and_ends_on_two_words(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        right: Student = make_student(session, cast.school_a.id)
        alert = answered(session, cast.students.granted_13, RED, cast.an)
        triage.misplace(session, alert.id, right.id, "Two of the same name.", by=cast.an, now=MONDAY + HOUR)
        found = {row.student_id: row for row in triage.queue(session)}
        assert (found[right.id].tier, found[right.id].state) == (RED, "new")
        assert [r.rule for r in found[right.id].reasons] == [r.rule for r in found[alert.student_id].reasons]
        assert stands(session, alert.id).closed_at is None
        assert found[alert.student_id].proposed_by == cast.an.person
        with pytest.raises(Refused, match="second person"):
            triage.confirm_triage(session, alert.id, by=cast.an, now=MONDAY + HOUR)
        triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY + HOUR)
        assert stands(session, alert.id).closed_at == MONDAY + HOUR
        assert [row.student_id for row in triage.queue(session)] == [right.id]


def test_even_a_yellow_of_the_wrong_student_needs_two_and_a_new_signal_voids_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        right = make_student(session, cast.school_a.id)
        alert = answered(session, cast.students.granted_13, YELLOW, cast.an)
        with pytest.raises(Refused):
            triage.misplace(session, alert.id, cast.students.granted_13.id, "Hm.", by=cast.an, now=MONDAY)
        with pytest.raises(NotFound):
            triage.misplace(session, alert.id, cast.students.in_school_b.id, "Hm.", by=cast.an, now=MONDAY)
        triage.misplace(session, alert.id, right.id, "Two of the same name.", by=cast.an, now=MONDAY)
        assert stands(session, alert.id).closed_at is None
        ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        with pytest.raises(Conflict):
            triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY + HOUR)


# -- leave, bullying, lists ---------------------------------------------------------------------------


def test_nobody_comes_back_from_leave_without_having_been_looked_at(cast: Cast) -> None:
    back = {"finding": "not_yet", "is_clinic_heard": True, "is_guardian_present": True}
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        cared(session, case, cast.an)
        with pytest.raises(Refused, match="not on leave"):
            entries.fill(session, case.id, "return_assessment", back, "Early.", by=cast.an, now=MONDAY)
        leave = {"why": "health", "is_guardian_informed": True}
        entries.fill(session, case.id, "leave", leave, "Four weeks.", by=cast.an, now=MONDAY)
        assert cases.get(session, case.id).state == "on_leave"
        assert obstacles(session, case.id, cast, MONDAY) == {"return_open"}
        entries.fill(session, case.id, "return_assessment", back, "Too soon.", by=cast.an, now=MONDAY + DAY)
        assert cases.get(session, case.id).state == "return_assessment"
        assert obstacles(session, case.id, cast, MONDAY + DAY) == {"return_open"}
        entries.fill(
            session, case.id, "return_assessment", back | {"finding": "fit"}, "Ready.", by=cast.an, now=MONDAY + 2 * DAY
        )
        assert cases.get(session, case.id).state == "plan_active"


def test_bullying_has_to_be_settled_before_a_case_ends(cast: Cast) -> None:
    said = {
        "part": "target",
        "kind": "online",
        "is_stopped": True,
        "is_reported_to_school": True,
        "are_guardians_told": True,
        "is_settled": False,
    }
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        talk(session, case, cast.an)
        entries.fill(session, case.id, "bullying", said, "A chat group.", by=cast.an, now=MONDAY)
        assert obstacles(session, case.id, cast, MONDAY) == {"bullying_open"}
        entries.fill(session, case.id, "bullying", said | {"is_settled": True}, "Over.", by=cast.an, now=MONDAY + HOUR)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + HOUR)


def test_no_promised_contact_leaves_the_list_without_a_reason_and_a_serious_case_stays_on_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        first = follow_ups.plan(session, case.id, "phone", by=cast.an, now=MONDAY)
        with pytest.raises(Refused, match="left for"):
            follow_ups.leave(session, first.id, "", "So.", by=cast.an, now=MONDAY)
        with pytest.raises(Refused, match="next contact first"):
            follow_ups.leave(session, first.id, "replaced", "So.", by=cast.an, now=MONDAY)
        follow_ups.plan(session, case.id, "meeting", by=cast.an, now=MONDAY)
        left = follow_ups.leave(session, first.id, "replaced", "We meet instead.", by=cast.an, now=MONDAY)
        assert (left.state, left.left_reason) == ("left", "replaced")


def test_a_conference_stands_on_two_one_of_them_the_lead(cast: Cast) -> None:
    known = {"tier": RED, "attended": ["counselor", "principal"], "decision": "A plan.", "held_at": MONDAY}
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        made = conferences.write(session, case.id, by=cast.an, now=MONDAY, **known)  # type: ignore[arg-type]
        assert (cases.get(session, case.id).tier, cases.get(session, case.id).state) == (RED, "conference")
        with pytest.raises(Refused, match="second person"):
            conferences.confirm(session, made.id, by=cast.an, now=MONDAY)
        with pytest.raises(Conflict, match="lead"):
            conferences.confirm(session, made.id, by=cast.bo, now=MONDAY)
        assert conferences.confirm(session, made.id, by=cast.lead, now=MONDAY).confirmed_by == cast.lead.person
        by_lead = conferences.write(session, case.id, by=cast.lead, now=MONDAY, **known)  # type: ignore[arg-type]
        conferences.confirm(session, by_lead.id, by=cast.bo, now=MONDAY)
        with pytest.raises(Refused, match="lowered"):
            conferences.write(session, case.id, by=cast.an, now=MONDAY, **known | {"tier": ORANGE})  # type: ignore[arg-type]
