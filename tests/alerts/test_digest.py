"""The morning's digest: one message to whoever has something waiting, once, and on days of school only."""

import datetime as dt
from pathlib import Path

from sqlalchemy import text

from alerts import delivery, digests, follow_ups, triage
from screening.models import CalendarDay
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, YELLOW, in_case, in_unit, made_up_settings, race, ring
from tests.alerts.test_delivery import Outbox
from tests.cast import Cast
from tests.factories import make_student

DAY = 24 * HOUR
MORNING = MONDAY + DAY - dt.timedelta(hours=2, minutes=30)
"""Half past seven on Tuesday."""


def test_yellow_alerts_and_todays_contacts_make_one_message_each_person(cast: Cast, tmp_path: Path) -> None:
    with cast.database.unit(cast.scope) as session:
        for _ in range(3):
            ring(session, make_student(session, cast.school_b.id), YELLOW)
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        follow_ups.plan(session, case.id, "phone", due_at=MONDAY + DAY, by=cast.an, now=MONDAY)
        assert digests.put_due(session, now=MORNING - HOUR) == 0
        assert digests.put_due(session, now=MORNING) == 2
        assert digests.put_due(session, now=MORNING + HOUR) == 0
    outbox = Outbox()
    settings = made_up_settings(tmp_path, SCREENING_LOCALE="en")
    delivery.deliver_pending(cast.database, cast.district.id, settings, now=MORNING, send=outbox, subject="digest")
    assert {(message.urgency, message.school) for _, message in outbox.taken} == {("digest", "")}
    subject, words = delivery.written(outbox.taken[0][1], settings)
    assert subject == "Student wellbeing: there is something for you to look at today"
    assert not any(sign.isdigit() for sign in words.split("Due:")[0])  # not even how many


def test_what_was_answered_or_done_is_in_no_digest(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.in_school_b, YELLOW)
        triage.acknowledge(session, alert.id, by=cast.chen, now=MONDAY)
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        promised = follow_ups.plan(session, case.id, "phone", due_at=MONDAY + DAY, by=cast.an, now=MONDAY)
        follow_ups.done(session, promised.id, "We talked.", by=cast.an, now=MONDAY + HOUR)
        follow_ups.plan(session, case.id, "phone", due_at=MONDAY + 3 * DAY, by=cast.an, now=MONDAY)
        assert digests.put_due(session, now=MORNING) == 0
        assert digests.put_due(session, now=MORNING + 2 * DAY) == 1


def test_there_is_none_on_days_without_school(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_b, YELLOW)
        tuesday = (MORNING + HOUR).date()
        session.add(CalendarDay(district_id=cast.district.id, calendar="district", day=tuesday, is_school_day=False))
        session.flush()
        assert digests.put_due(session, now=MORNING) == 0
        assert digests.put_due(session, now=MORNING + 4 * DAY) == 0  # Saturday
        assert digests.put_due(session, now=MORNING + DAY) == 1


def test_two_workers_write_it_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        for _ in range(5):
            ring(session, make_student(session, cast.school_a.id), YELLOW)
    came = race(*[in_unit(cast, digests.put_due, now=MORNING)] * 3)
    assert not [error for error in came if isinstance(error, Exception)]
    with cast.database.unit(cast.scope) as session:
        twice = "select 1 from deliveries where subject = 'digest' group by recipient_id having count(*) > 1"
        assert session.execute(text(twice)).all() == []
