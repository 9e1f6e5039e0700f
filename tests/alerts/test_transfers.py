"""A student changes school: the alert goes along at once, the case when the other school takes it, nothing is lost."""

import datetime as dt
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import cases, escalation, follow_ups, following, plans, raising, transfers, triage
from alerts.models import Alert, Case, Transfer
from screening import access, policy
from screening.access import Actor
from screening.errors import Conflict, NotFound, Refused
from screening.results import Signal
from tests.alerts.episodes import (
    HOUR,
    MONDAY,
    ORANGE,
    RED,
    YELLOW,
    answered,
    cared,
    in_case,
    in_unit,
    look,
    race,
    ring,
    stands,
    talk,
)
from tests.alerts.moving import listed_at, move
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller
from tests.factories import make_staff

MINUTE, DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)
CONTENT = plans.Content(
    goals=("She sleeps through.",),
    actions=(plans.Action("Talk each Monday", "counselor", dt.date(2026, 9, 21)),),
    knows=(plans.Knows("class_teacher", "Let her leave the room when she asks."),),
)


@pytest.fixture
def lead_b(cast: Cast) -> Actor:
    with cast.database.unit(cast.scope) as session:
        return make_staff(session, ("lead", cast.school_b.id), name="Lead B")[1]


def queue_of(session: Session) -> list[uuid.UUID]:
    return [row.id for row in triage.queue(session, states=["new", "acknowledged", "triaged"])]


def told(session: Session, subject: str, subject_id: uuid.UUID) -> set[uuid.UUID]:
    rows = session.execute(
        text("select recipient_id from deliveries where subject = :subject and subject_id = :id"),
        {"subject": subject, "id": subject_id},
    )
    return set(rows.scalars())


def on_the_way(session: Session) -> Transfer:
    (found,) = transfers.listed(session)
    return found.transfer


def moved_with_case(cast: Cast, tier: int = RED, *, at: dt.datetime = MONDAY) -> Case:
    """A student of school A in a case, who then stands on school B's list."""
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, student, tier, cast.an)
        move(session, student, cast.school_b, by=cast.district_admin, at=at)
    return case


# -- alerts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", [YELLOW, ORANGE, RED])
def test_an_open_alert_goes_along_with_the_list_that_moves_its_student(cast: Cast, lead_b: Actor, tier: int) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        before = ring(session, student, tier)
    listed_at(cast, student, cast.school_b)
    with cast.database.unit(cast.scope_b) as session:
        assert queue_of(session) == [before.id]
        found = triage.alert(session, before.id).row
        assert [reason.rule for reason in found.reasons] == ["phq9_raised" if tier == YELLOW else "phq9_high"]
        assert (found.tier, found.state) == (tier, "new")
        assert (found.answer_by, found.see_by, found.opened_at) == (before.answer_by, before.see_by, MONDAY)
        triage.acknowledge(session, before.id, by=cast.chen, now=MONDAY + HOUR)
    with cast.database.unit(cast.scope_a) as session:
        assert queue_of(session) == []
        (gone,) = transfers.listed(session, states=["passed"])
        assert (gone.transfer.alert_id, gone.tier) == (before.id, tier)
        with pytest.raises(NotFound):
            triage.acknowledge(session, before.id, by=cast.an, now=MONDAY)
    with cast.database.unit(cast.scope) as session:
        if tier > YELLOW:
            assert told(session, "alert", before.id) >= {cast.chen.staff_id, lead_b.staff_id}
        assert told(session, "transfer", gone.transfer.id) == {cast.an.staff_id, cast.bo.staff_id, cast.lead.staff_id}


def test_an_acknowledged_alert_wants_an_answer_at_the_new_school_and_is_seen_no_later(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        before = answered(session, student, RED, cast.an)
        see_by = before.see_by
        move(session, student, cast.school_b, by=cast.district_admin, at=MONDAY + 10 * MINUTE)
        after = stands(session, before.id)
        assert (after.state, after.owner_id, after.school_id) == ("new", None, cast.school_b.id)
        assert (after.raised_at, after.see_by) == (MONDAY + 10 * MINUTE, see_by)
        assert after.answer_by == MONDAY + 40 * MINUTE
        triage.acknowledge(session, before.id, by=cast.chen, now=MONDAY + 20 * MINUTE)
        assert stands(session, before.id).owner_id == cast.chen.person


def test_what_one_person_proposed_does_not_end_the_alert_at_the_new_school(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, student, RED, cast.an)
        look(session, alert.id, "not_confirmed", by=cast.an)
        move(session, student, cast.school_b, by=cast.district_admin, at=MONDAY + HOUR)
        with pytest.raises(NotFound):
            triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY + HOUR)
        with pytest.raises(Conflict):
            triage.confirm_triage(session, alert.id, by=cast.chen, now=MONDAY + HOUR)
        assert stands(session, alert.id).closed_at is None


def test_the_ladder_is_climbed_anew_at_the_new_school_on_the_same_clock(cast: Cast, lead_b: Actor) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, student, RED)
        escalation.escalate(session, now=MONDAY + 45 * MINUTE)
        move(session, student, cast.school_b, by=cast.district_admin, at=MONDAY + 50 * MINUTE)
        assert escalation.escalate(session, now=MONDAY + 51 * MINUTE) > 0
        assert escalation.escalate(session, now=MONDAY + 51 * MINUTE) == 0
        roles = session.execute(
            text("select role from escalations where school_id = :school order by rung"), {"school": cast.school_b.id}
        ).scalars()
        assert list(roles) == ["deputy", "lead"]
        escalation.escalate(session, now=MONDAY + 3 * HOUR)
        assert cast.duty_officer.staff_id in told(session, "alert", alert.id)


def test_a_signal_of_the_school_a_student_has_left_joins_the_alert_where_it_stands(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, student, ORANGE)
        move(session, student, cast.school_b, by=cast.district_admin)
    late = Signal(
        student_id=student.id,
        school_id=cast.school_a.id,
        rule="phq9_self_harm_daily",
        tier=RED,
        is_self_harm=True,
        source=f"safety_answer/{uuid.uuid4()}/phq9_9",
    )
    with cast.database.unit(cast.scope_a) as session:  # a form that was opened before the student left
        assert raising.raise_alerts(session, [late], now=MONDAY + HOUR, policy=policy.shipped()) == [alert.id]
        assert access.scope_of(session) == cast.scope_a
        assert queue_of(session) == []
    with cast.database.unit(cast.scope_b) as session:
        (row,) = triage.queue(session)
        assert (row.tier, {reason.rule for reason in row.reasons}) == (RED, {"phq9_high", "phq9_self_harm_daily"})


def test_the_timetable_brings_after_what_a_race_has_left_behind(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, student, RED, cast.an)
        other = ring(session, cast.students.granted_17, RED)
        for each in (student, cast.students.granted_17):
            session.execute(
                text("update students set school_id = :school where id = :id"),
                {"school": cast.school_b.id, "id": each.id},
            )
        assert following.follow(session, None, cast.system, MONDAY + HOUR) == 3
        assert following.follow(session, None, cast.system, MONDAY + HOUR) == 0
        assert stands(session, other.id).school_id == cast.school_b.id
        assert on_the_way(session).case_id == case.id
        assert on_the_way(session).proposed_by is None


# -- cases --------------------------------------------------------------------------------------------


def test_a_case_waits_for_the_new_school_and_both_see_how_serious_it_is_and_what_was_promised(
    cast: Cast, lead_b: Actor
) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, student, RED, cast.an)
        promised = follow_ups.plan(session, case.id, "phone", by=cast.an, now=MONDAY, due_at=MONDAY + DAY)
    listed_at(cast, student, cast.school_b)
    for scope in (cast.scope_a, cast.scope_b):
        with cast.database.unit(scope) as session:
            (seen,) = transfers.listed(session)
            assert (seen.tier, seen.transfer.state, seen.transfer.case_id) == (RED, "waiting", case.id)
            assert [(each.mode, each.due_at) for each in seen.promises] == [("phone", promised.due_at)]
            assert access.scope_of(session) == scope
    with cast.database.unit(cast.scope) as session:
        recipients = told(session, "transfer", seen.transfer.id)
        assert recipients == {one.staff_id for one in (cast.an, cast.bo, cast.lead, cast.chen, lead_b)}
    with cast.database.unit(Scope_c(cast)) as session:
        assert transfers.listed(session) == []
        with pytest.raises(NotFound):
            transfers.get(session, seen.transfer.id)


def Scope_c(cast: Cast) -> access.Scope:  # noqa: N802 - reads as the others do
    return access.Scope(cast.district.id, frozenset({cast.school_c.id}))


def test_whoever_takes_it_over_has_the_case_its_open_work_and_the_summary_and_no_other_word(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, student, ORANGE, cast.an)
        cases.note(session, case.id, "Her brother must not know.", by=cast.an, now=MONDAY)
        talk(session, case, cast.an)
        done = follow_ups.plan(session, case.id, "phone", by=cast.an, now=MONDAY)
        follow_ups.done(session, done.id, "She laughed.", by=cast.an, now=MONDAY + HOUR)
        waiting = follow_ups.plan(session, case.id, "meeting", by=cast.an, now=MONDAY)
        plans.write(
            session, case.id, CONTENT, owner=cast.an.person, review_on=dt.date(2026, 10, 1), by=cast.an, now=MONDAY
        )
    with cast.database.unit(cast.scope) as session:
        move(session, student, cast.school_b, by=cast.district_admin)
    with cast.database.unit(cast.scope_a) as session:
        transfers.propose(session, case.id, cast.school_b.id, "Weekly talks helped.", by=cast.an, now=MONDAY + HOUR)
    with cast.database.unit(cast.scope_b) as session:
        taken = transfers.accept(session, on_the_way(session).id, by=cast.chen, now=MONDAY + 2 * HOUR)
        assert access.scope_of(session) == cast.scope_b
        assert (taken.school_id, taken.owner_id, taken.tier) == (cast.school_b.id, cast.chen.person, ORANGE)
        story = cases.story(session, case.id)
        assert [each.id for each in story.follow_ups] == [waiting.id]
        assert story.interviews == ()
        words = " ".join(line.words or "" for line in story.lines)
        assert "Weekly talks helped." in words
        assert not any(said in words for said in ("brother", "laughed", "sleeps badly"))
        plan = plans.newest(session, case.id)
        assert plan is not None
        assert (plan.version, plan.owner_id, plans.read(session, plan)) == (2, cast.chen.person, CONTENT)
        follow_ups.done(session, waiting.id, "We met.", by=cast.chen, now=MONDAY + 3 * HOUR)
    with cast.database.unit(cast.scope_a) as session:
        with pytest.raises(NotFound):
            cases.get(session, case.id)
        (gone,) = transfers.listed(session, states=["accepted"])
        assert gone.transfer.answered_by == cast.chen.person
        assert cast.an.staff_id in told(session, "transfer", gone.transfer.id)


def test_of_two_who_take_it_over_at_once_one_has_it(cast: Cast, lead_b: Actor) -> None:
    moved_with_case(cast)
    with cast.database.unit(cast.scope) as session:
        waiting = on_the_way(session).id
    came = race(*(in_unit(cast, transfers.accept, waiting, by=who, now=MONDAY) for who in (cast.chen, lead_b)))
    won = [made for made in came if not isinstance(made, Exception)]
    lost = [error for error in came if isinstance(error, cases.TakenByAnother)]
    assert (len(won), len(lost)) == (1, 1), came
    assert lost[0].winner == won[0].owner_id


def test_the_same_person_taking_it_over_twice_is_once(cast: Cast) -> None:
    moved_with_case(cast)
    with cast.database.unit(cast.scope_b) as session:
        waiting = on_the_way(session).id
        first = transfers.accept(session, waiting, by=cast.chen, now=MONDAY)
        again = transfers.accept(session, waiting, by=cast.chen, now=MONDAY + HOUR)
        assert first.id == again.id
        arrived = [line for line in cases.story(session, first.id).lines if line.kind == "transfer/arrived"]
        assert len(arrived) == 1


@pytest.mark.parametrize("who", ["an", "lead", "principal", "school_admin_b", "district_admin", "duty_officer"])
def test_only_the_new_schools_counselor_or_lead_takes_it_over_or_declines(cast: Cast, who: str) -> None:
    moved_with_case(cast)
    by = getattr(cast, who)
    with cast.database.unit(cast.scope) as session:
        waiting = on_the_way(session).id
        with pytest.raises(NotFound):
            transfers.accept(session, waiting, by=by, now=MONDAY)
        with pytest.raises(NotFound):
            transfers.decline(session, waiting, "not_here", "No.", by=by, now=MONDAY)


def test_a_declined_case_stays_with_the_old_school_which_hears_and_may_send_it_again(cast: Cast) -> None:
    case = moved_with_case(cast)
    with cast.database.unit(cast.scope_b) as session:
        first = on_the_way(session)
        transfers.decline(session, first.id, "summary_missing", "What helped?", by=cast.chen, now=MONDAY + HOUR)
        with pytest.raises(cases.TakenByAnother):
            transfers.accept(session, first.id, by=cast.chen, now=MONDAY + HOUR)
    with cast.database.unit(cast.scope) as session:
        assert cast.lead.staff_id in told(session, "transfer", first.id)
        assert following.follow(session, None, cast.system, MONDAY + 2 * HOUR) == 0
        assert cases.get(session, case.id).school_id == cast.school_a.id
    with cast.database.unit(cast.scope_a) as session:
        again = transfers.propose(session, case.id, cast.school_b.id, "Talks did.", by=cast.bo, now=MONDAY + 2 * HOUR)
        assert (again.state, again.tier) == ("waiting", RED)
    with cast.database.unit(cast.scope_b) as session:
        assert transfers.accept(session, again.id, by=cast.chen, now=MONDAY + 3 * HOUR).tier == RED


def test_nobody_takes_it_over_in_time_and_the_duty_officer_hears_once(cast: Cast) -> None:
    moved_with_case(cast)
    with cast.database.unit(cast.scope) as session:
        waiting = on_the_way(session)
        assert waiting.accept_by == MONDAY + 30 * MINUTE
        assert not _climbed(session, MONDAY + 29 * MINUTE)
        assert _climbed(session, MONDAY + 30 * MINUTE) == ["duty_officer"]
        assert _climbed(session, MONDAY + 31 * MINUTE) == ["duty_officer"]
        assert cast.duty_officer.staff_id in told(session, "transfer", waiting.id)
        assert _climbed(session, MONDAY + 5 * HOUR) == ["duty_officer", "district_admin"]
        transfers.accept(session, waiting.id, by=cast.chen, now=MONDAY + 6 * HOUR)
        assert _climbed(session, MONDAY + DAY) == ["duty_officer", "district_admin"]


def _climbed(session: Session, now: dt.datetime) -> list[str]:
    escalation.escalate(session, now=now)
    return list(
        session.execute(
            text("select role from escalations where district_id = :district and subject = 'transfer' order by rung"),
            {"district": access.scope_of(session).district_id},
        ).scalars()
    )


def test_a_case_on_its_way_cannot_be_closed_by_the_old_school(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, student, RED, cast.an)
        cared(session, case, cast.an)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY)
    with cast.database.unit(cast.scope) as session:
        move(session, student, cast.school_b, by=cast.district_admin)
    with cast.database.unit(cast.scope_a) as session, pytest.raises(Refused) as refused:
        cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY + HOUR)
    assert [problem.code for problem in refused.value.problems] == ["transfer_open"]
    with cast.database.unit(cast.scope_b) as session:
        taken = transfers.accept(session, on_the_way(session).id, by=cast.chen, now=MONDAY + HOUR)
        assert taken.state not in ("closure_proposed", "closed")
        with pytest.raises(Conflict):
            cases.confirm_closure(session, case.id, by=cast.chen, now=MONDAY + HOUR)


def test_a_red_at_the_new_school_raises_the_case_that_arrives(cast: Cast) -> None:
    case = moved_with_case(cast, YELLOW)
    with cast.database.unit(cast.scope_b) as session:
        student = cast.students.granted_13
        alert = ring(session, student, RED, at=MONDAY + HOUR, school_id=cast.school_b.id)
        triage.acknowledge(session, alert.id, by=cast.chen, now=MONDAY + HOUR)
        with pytest.raises(Conflict, match="take it over first"):
            look(session, alert.id, "case_opened", by=cast.chen, at=MONDAY + HOUR)
        assert transfers.shown(session, on_the_way(session).id).tier == RED
        taken = transfers.accept(session, on_the_way(session).id, by=cast.chen, now=MONDAY + HOUR)
        assert (taken.id, taken.tier) == (case.id, RED)
        assert look(session, alert.id, "merged", by=cast.chen, at=MONDAY + HOUR).case_id == case.id


# -- moving on, moving back ---------------------------------------------------------------------------


def test_whoever_moves_on_before_anybody_took_it_over_is_awaited_at_the_third_school_no_later(cast: Cast) -> None:
    case = moved_with_case(cast)
    with cast.database.unit(cast.scope_a) as session:
        first = transfers.propose(session, case.id, cast.school_b.id, "Be gentle.", by=cast.an, now=MONDAY)
    with cast.database.unit(cast.scope) as session:
        move(session, cast.students.granted_13, cast.school_c, by=cast.district_admin, at=MONDAY + 10 * MINUTE)
        second = on_the_way(session)
        assert (second.to_school_id, second.from_school_id) == (cast.school_c.id, cast.school_a.id)
        assert second.accept_by == first.accept_by
        assert following.unseal(session, second.id, second.sealed_summary) == "Be gentle."
        assert transfers.get(session, first.id).state == "withdrawn"
        with pytest.raises(Conflict):
            transfers.accept(session, first.id, by=cast.chen, now=MONDAY + HOUR)


def test_whoever_comes_back_is_where_the_case_is(cast: Cast) -> None:
    case = moved_with_case(cast)
    with cast.database.unit(cast.scope) as session:
        move(session, cast.students.granted_13, cast.school_a, by=cast.district_admin, at=MONDAY + HOUR)
        assert transfers.listed(session) == []
        assert cases.get(session, case.id).school_id == cast.school_a.id
    with cast.database.unit(cast.scope_a) as session:
        assert len(queue_of(session)) == 1
        cared(session, case, cast.an, at=MONDAY + 2 * HOUR)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + 2 * HOUR)


def test_whoever_comes_back_after_it_was_taken_over_brings_it_back_and_the_old_words_are_there_again(
    cast: Cast,
) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, student, RED, cast.an)
        cases.note(session, case.id, "Her brother must not know.", by=cast.an, now=MONDAY)
    with cast.database.unit(cast.scope) as session:
        move(session, student, cast.school_b, by=cast.district_admin)
        transfers.accept(session, on_the_way(session).id, by=cast.chen, now=MONDAY + HOUR)
        move(session, student, cast.school_a, by=cast.district_admin, at=MONDAY + DAY)
        transfers.accept(session, on_the_way(session).id, by=cast.bo, now=MONDAY + DAY)
    with cast.database.unit(cast.scope_a) as session:
        story = cases.story(session, case.id)
        assert (story.case.tier, story.case.owner_id) == (RED, cast.bo.person)
        assert "Her brother must not know." in [line.words for line in story.lines]


def test_a_move_while_an_alert_is_being_acknowledged_loses_neither(cast: Cast, share: Callable[[int], int]) -> None:
    student = cast.students.granted_13
    for n in range(share(100)):
        at = MONDAY + n * DAY
        there = (cast.school_b, cast.school_a)[n % 2]
        by = (cast.an, cast.chen)[n % 2]
        with cast.database.unit(cast.scope) as session:
            alert = ring(session, student, RED, at=at, school_id=(cast.school_a, cast.school_b)[n % 2].id)
        race(
            in_unit(cast, move, student, there, by=cast.district_admin, at=at + MINUTE),
            in_unit(cast, triage.acknowledge, alert.id, by=by, now=at + MINUTE),
        )
        with cast.database.unit(access.Scope(cast.district.id, frozenset({there.id}))) as session:
            (found,) = triage.queue(session)
            assert (found.id, found.tier, found.state, found.owner_id) == (alert.id, RED, "new", None)


def test_a_case_opened_while_the_student_is_moved_is_followed_by_the_timetable(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, student, RED, cast.an)
    came = race(
        in_unit(cast, move, student, cast.school_b, by=cast.district_admin),
        in_unit(cast, look, alert.id, "case_opened", by=cast.an),
    )
    with cast.database.unit(cast.scope) as session:
        following.follow(session, None, cast.system, MONDAY + HOUR)
        found = session.get(Alert, (cast.district.id, alert.id))
        assert found is not None
        assert (found.school_id, found.closed_at) == (cast.school_b.id, None)
        if isinstance(came[1], Exception):
            assert found.state == "new"
        else:
            assert on_the_way(session).to_school_id == cast.school_b.id


# -- by hand ------------------------------------------------------------------------------------------


def test_a_transfer_by_hand_is_announced_until_the_student_stands_on_the_other_list(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, student, ORANGE, cast.an)
        made = transfers.propose(session, case.id, cast.school_b.id, "She comes on Monday.", by=cast.an, now=MONDAY)
        assert (made.state, made.accept_by) == ("announced", None)
        again = transfers.propose(session, case.id, cast.school_b.id, "On Tuesday.", by=cast.bo, now=MONDAY)
        assert again.id == made.id
        with pytest.raises(Conflict):
            transfers.propose(session, case.id, cast.school_c.id, "Or here.", by=cast.an, now=MONDAY)
        with pytest.raises(Refused):
            transfers.propose(session, case.id, cast.school_a.id, "Or here.", by=cast.an, now=MONDAY)
    with cast.database.unit(cast.scope_b) as session, pytest.raises(Refused, match="list"):
        transfers.accept(session, made.id, by=cast.chen, now=MONDAY + HOUR)
    listed_at(cast, student, cast.school_b)
    with cast.database.unit(cast.scope_b) as session:
        waiting = on_the_way(session)
        assert (waiting.id, waiting.state) == (made.id, "waiting")
        assert waiting.accept_by is not None
        assert following.unseal(session, waiting.id, waiting.sealed_summary) == "On Tuesday."
        transfers.accept(session, made.id, by=cast.chen, now=MONDAY + HOUR)


def test_what_was_only_announced_is_taken_back_and_what_has_gone_is_not(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, student, ORANGE, cast.an)
        made = transfers.propose(session, case.id, cast.school_b.id, "Soon.", by=cast.an, now=MONDAY)
        with pytest.raises(NotFound):
            transfers.withdraw(session, made.id, by=cast.chen, now=MONDAY)
        assert transfers.withdraw(session, made.id, by=cast.an, now=MONDAY).state == "withdrawn"
        talk(session, case, cast.an)
    with cast.database.unit(cast.scope) as session:
        move(session, student, cast.school_b, by=cast.district_admin)
    with cast.database.unit(cast.scope_a) as session, pytest.raises(Refused, match="follow"):
        transfers.withdraw(session, on_the_way(session).id, by=cast.an, now=MONDAY)


def test_at_the_doors_both_schools_see_it_and_only_those_who_care_read_it(cast: Cast) -> None:
    client = TestClient(app_on(cast.database))
    an, chen, duty, stranger = (
        caller(client, cast.database, who) for who in (cast.an, cast.chen, cast.duty_officer, cast.school_admin_b)
    )
    case = moved_with_case(cast)
    sent = an.post(f"/v1/cases/{case.id}/transfer", json={"school": "B", "summary": "Be gentle."})
    assert sent.status_code == 201, sent.text
    address = sent.headers["location"]
    for reader in (an, chen):
        (seen,) = reader.get("/v1/transfers").json()["transfers"]
        assert (seen["tier"], seen["summary"], seen["from_school"], seen["to_school"]) == (
            "red",
            "Be gentle.",
            "A",
            "B",
        )
    assert (chen.get(address).json()["student_name"], an.get(address).json()["student_name"]) == ("王小明", None)
    plain = duty.get(address).json()
    assert plain["urgency"] == "immediate"
    assert [plain[name] for name in ("tier", "summary", "student_id", "promises")] == [None] * 4
    assert stranger.get(address).status_code == 403
    assert an.post(f"{address}/acceptance").status_code == 404
    declined = chen.post(f"{address}/refusal", json={"reason": "wrong_student", "words": "Not ours."})
    assert declined.json()["state"] == "declined"
    again = an.post(f"/v1/cases/{case.id}/transfer", json={"school": "B", "summary": "Same child."})
    taken = chen.post(f"{again.headers['location']}/acceptance")
    assert (taken.status_code, taken.json()["state"]) == (200, "accepted")
    assert chen.get(f"/v1/cases/{case.id}").json()["tier"] == "red"
    assert an.get(f"/v1/cases/{case.id}").status_code == 404
    assert an.post(f"/v1/cases/{case.id}/transfer", json={"school": "X", "summary": "?"}).status_code == 404
