"""The ladder: who hears next while nobody answers, once for each rung, whatever happens to the worker."""

import datetime as dt
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import escalation, follow_ups, routing, triage
from screening import access, staff
from screening.db import Database
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, answered, in_case, in_unit, look, race, ring
from tests.cast import Cast
from tests.factories import make_district, make_school, make_staff, make_student

MINUTE = dt.timedelta(minutes=1)
DAY = 24 * HOUR


def test_a_red_is_told_to_one_counselor_and_the_lead_as_it_is_raised(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED)
        told = recipients(session, alert.id)
    assert len(told) == 2
    assert cast.lead.person in told
    assert told & {cast.an.person, cast.bo.person}


def test_an_orange_is_told_to_one_counselor_and_a_yellow_to_nobody(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        orange = ring(session, cast.students.granted_13, ORANGE)
        yellow = ring(session, cast.students.own_grant_15, YELLOW)
        assert len(recipients(session, orange.id)) == 1
        assert recipients(session, yellow.id) == set()


def test_an_alert_raised_again_is_told_again(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.bo)
        ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        occasions = deliveries(session, alert.id)
    assert len({occasion for _, occasion, _ in occasions}) == 2
    assert cast.bo.person in {who for who, _, urgency in occasions if urgency == "immediate"}


def test_an_unanswered_red_climbs_the_whole_ladder(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED)
        first = recipients(session, alert.id)
        assert escalation.escalate(session, now=MONDAY + 14 * MINUTE) == 0
        climbed = []
        for minutes in (15, 30, 60, 90):
            assert escalation.escalate(session, now=MONDAY + minutes * MINUTE) == 1
            assert escalation.escalate(session, now=MONDAY + minutes * MINUTE) == 0
            climbed.append(rungs(session, alert.id)[-1])
        assert [role for role, _ in climbed] == ["deputy", "lead", "principal", "duty_officer"]
        assert [due_at for _, due_at in climbed] == [MONDAY + minutes * MINUTE for minutes in (15, 30, 60, 90)]
        everybody = recipients(session, alert.id)
    assert first | {cast.principal.person, cast.duty_officer.person} < everybody
    assert {cast.an.person, cast.bo.person} < everybody


def test_after_an_outage_every_missed_rung_is_climbed_at_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED)
        assert escalation.escalate(session, now=MONDAY + DAY) == 4
        assert [role for role, _ in rungs(session, alert.id)] == ["deputy", "lead", "principal", "duty_officer"]
        assert escalation.escalate(session, now=MONDAY + 2 * DAY) == 0


def test_whoever_answers_stops_the_ladder(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, ORANGE)
        triage.acknowledge(session, alert.id, by=cast.an, now=MONDAY)
        assert escalation.escalate(session, now=MONDAY + 2 * HOUR) == 0


def test_a_raised_alert_climbs_anew(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED)
        escalation.escalate(session, now=MONDAY + 3 * HOUR)
        triage.acknowledge(session, alert.id, by=cast.an, now=MONDAY + 3 * HOUR)
        ring(session, cast.students.granted_13, RED, at=MONDAY + 4 * HOUR)
        assert escalation.escalate(session, now=MONDAY + 8 * HOUR) == 4


def test_a_yellow_waits_quietly_until_its_time_is_over(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, YELLOW)
        assert escalation.escalate(session, now=MONDAY + 4 * DAY) == 0
        assert escalation.escalate(session, now=MONDAY + 9 * DAY) == 1
        assert recipients(session, alert.id) == {cast.lead.person}


def test_an_alert_that_was_acknowledged_and_then_forgotten_is_told_to_the_lead(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, RED, cast.an)
        assert escalation.escalate(session, now=MONDAY + 59 * MINUTE) == 0
        assert escalation.escalate(session, now=MONDAY + 61 * MINUTE) == 1
        assert escalation.escalate(session, now=MONDAY + 5 * HOUR) == 0
        last = {who for who, occasion, _ in deliveries(session, alert.id) if occasion.startswith("rung/99/")}
        assert last == {cast.an.person, cast.lead.person}


def test_an_alert_that_was_looked_at_in_time_rests(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, RED, cast.an)
        look(session, alert.id, "monitor", by=cast.an, at=MONDAY + HOUR / 2)
        assert escalation.escalate(session, now=MONDAY + 5 * HOUR) == 0


def test_an_overdue_contact_is_told_once_to_the_owner_and_the_lead(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        promised = follow_ups.plan(session, case.id, "phone", due_at=MONDAY + DAY, by=cast.an, now=MONDAY)
        follow_ups.fall_due(session, now=MONDAY + DAY)
        assert escalation.escalate(session, now=MONDAY + DAY) == 0
        follow_ups.fall_due(session, now=MONDAY + 2 * DAY)
        assert escalation.escalate(session, now=MONDAY + 2 * DAY) == 1
        assert escalation.escalate(session, now=MONDAY + 9 * DAY) == 0
        assert {(who, urgency) for who, _, urgency in deliveries(session, promised.id)} == {
            (cast.an.person, "overdue"),
            (cast.lead.person, "overdue"),
        }


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_at_once_climb_each_rung_once(cast: Cast, workers: int) -> None:
    with cast.database.unit(cast.scope) as session:
        alerts = [ring(session, make_student(session, cast.school_a.id), RED).id for _ in range(10)]
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        follow_ups.plan(session, case.id, "phone", due_at=MONDAY + HOUR, by=cast.an, now=MONDAY)
        follow_ups.fall_due(session, now=MONDAY + DAY)
    came = race(*[in_unit(cast, escalation.escalate, now=MONDAY + DAY)] * workers)
    assert not [error for error in came if isinstance(error, Exception)]
    with cast.database.unit(cast.scope) as session:
        escalation.escalate(session, now=MONDAY + DAY)  # what one skipped because the other held it
        assert all(len(rungs(session, alert_id)) == 4 for alert_id in alerts)
        lines = session.execute(text("select count(*) from audit_entries where action = 'alert.escalated'"))
        assert lines.scalar_one() == 41
        twice = "select 1 from deliveries group by subject_id, occasion, recipient_id having count(*) > 1"
        assert session.execute(text(twice)).all() == []


def test_climbing_waits_for_nobody_who_answers_at_that_moment(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        held, free = (ring(session, make_student(session, cast.school_a.id), RED).id for _ in range(2))
    with cast.database.unit(cast.scope) as answering:
        triage.acknowledge(answering, held, by=cast.an, now=MONDAY + HOUR)
        with cast.database.unit(cast.scope) as session:
            assert escalation.escalate(session, now=MONDAY + 20 * MINUTE) == 1
            assert len(rungs(session, free)) == 1


# -- who hears ----------------------------------------------------------------------------------------


def test_where_nobody_holds_a_role_the_next_one_hears(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert_id = uuid.uuid4()
        rota = routing.rota(session)
        assert rota.hearers("counselor", cast.school_b.id, alert_id) == (cast.chen.person,)
        assert rota.hearers("deputy", cast.school_b.id, alert_id) == (cast.duty_officer.person,)
        assert rota.hearers("counselor", cast.school_c.id, alert_id) == (cast.duty_officer.person,)
        assert rota.hearers("principal", cast.school_a.id, alert_id) == (cast.principal.person,)
        assert rota.hearers("nobody_knows", cast.school_a.id, alert_id) == (cast.district_admin.person,)


def test_a_role_that_ended_and_a_disabled_account_do_not_hear(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        assert cast.chen.staff_id is not None
        staff.revoke(session, cast.chen.staff_id, "counselor", cast.school_b.id, by=cast.system)
        gone = make_staff(session, ("counselor", cast.school_b.id))[1]
        session.execute(text("update accounts set disabled_at = now() where id = :id"), {"id": gone.account_id})
    with cast.database.unit(cast.scope) as session:
        assert routing.rota(session).holding("counselor", cast.school_b.id) == ()


def test_counselors_share_the_alerts_and_each_has_one_reader_and_deputies() -> None:
    school, people = uuid.uuid4(), tuple(uuid.uuid4() for _ in range(3))
    rota = routing.Rota({("counselor", school): people})
    firsts = set()
    for n in range(12):
        (first,) = rota.hearers("counselor", school, uuid.UUID(int=n))
        assert set(rota.hearers("deputy", school, uuid.UUID(int=n))) == set(people) - {first}
        firsts.add(first)
    assert firsts == set(people)


def test_a_school_that_nobody_looks_after_is_named(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_c, RED)
        assert routing.schools_unheard(session) == []
        assert cast.duty_officer.staff_id is not None
        staff.revoke(session, cast.duty_officer.staff_id, "duty_officer", by=cast.system)
    with cast.database.unit(cast.scope) as session:
        assert routing.schools_unheard(session) == ["C"]
        another = ring(session, make_student(session, cast.school_c.id), RED)
        assert recipients(session, another.id) == {cast.district_admin.person}


def test_an_empty_district_still_climbs(database: Database) -> None:
    district = make_district(database)
    with database.unit(access.Scope(district.id)) as session:
        student = make_student(session, make_school(session).id)
        alert = ring(session, student, RED)
        assert escalation.escalate(session, now=MONDAY + DAY) == 4
        assert recipients(session, alert.id) == set()
        assert len(routing.schools_unheard(session)) == 1


def deliveries(session: Session, subject_id: uuid.UUID) -> set[tuple[uuid.UUID, str, str]]:
    rows = session.execute(
        text("select recipient_id, occasion, urgency from deliveries where subject_id = :id"), {"id": subject_id}
    )
    return {(row.recipient_id, row.occasion, row.urgency) for row in rows}


def recipients(session: Session, subject_id: uuid.UUID) -> set[uuid.UUID]:
    return {who for who, _, _ in deliveries(session, subject_id)}


def rungs(session: Session, subject_id: uuid.UUID) -> list[tuple[str, dt.datetime]]:
    rows = session.execute(
        text("select role, due_at from escalations where subject_id = :id order by rung"), {"id": subject_id}
    )
    return [(row.role, row.due_at) for row in rows]
