"""Alerts that come when nobody is there: each rung at its time to the last, and none after somebody answers."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import clocks, escalation, triage
from alerts.models import Alert
from screening import calendars, policy
from screening.school_days import Calendar
from tests.alerts.episodes import ORANGE, RED, ring
from tests.cast import Cast

SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")
MINUTE = dt.timedelta(minutes=1)
RULES = policy.shipped("cn_default")

AT_NIGHT = dt.datetime(2026, 4, 1, 2, 10, tzinfo=SHANGHAI)
FRIDAY = dt.datetime(2026, 4, 3, 16, 55, tzinfo=SHANGHAI)
"""Five minutes before the school closes for Qingming: Saturday to Monday; Tuesday is taught."""
BEFORE_SPRING = dt.datetime(2026, 2, 13, 16, 55, tzinfo=SHANGHAI)
"""A Friday too: the Saturday after it is taught, and then there is no school until Tuesday the 24th."""


def on(month: int, day: int, hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime(2026, month, day, hour, minute, tzinfo=SHANGHAI)


LADDERS = [
    pytest.param(
        RED,
        AT_NIGHT,
        [
            ("deputy", on(4, 1, 2, 40)),
            ("lead", on(4, 1, 3, 10)),
            ("principal", on(4, 1, 3, 40)),
            ("duty_officer", on(4, 1, 4, 10)),
        ],
        id="a red at 02:10",
    ),
    pytest.param(
        RED,
        FRIDAY + dt.timedelta(days=1),
        [
            ("deputy", on(4, 4, 17, 25)),
            ("lead", on(4, 4, 17, 55)),
            ("principal", on(4, 4, 18, 25)),
            ("duty_officer", on(4, 4, 18, 55)),
        ],
        id="a red in the holiday",
    ),
    pytest.param(
        ORANGE,
        FRIDAY,
        [("deputy", on(4, 7, 8)), ("lead", on(4, 7, 16, 55)), ("principal", on(4, 8, 16, 55))],
        id="an orange on Friday at 16:55 before a holiday",
    ),
    pytest.param(
        ORANGE,
        BEFORE_SPRING,
        [("deputy", on(2, 14, 8)), ("lead", on(2, 14, 16, 55)), ("principal", on(2, 24, 8))],
        id="an orange on Friday at 16:55 before a Saturday that is taught and ten days without school",
    ),
]


@pytest.fixture
def holidays(cast: Cast) -> Cast:
    """The district keeps China's days of 2026 as the state named them."""
    with cast.database.unit(cast.scope) as session:
        calendars.load_china(session, 2026, by=cast.district_admin, now=BEFORE_SPRING)
    return cast


@pytest.mark.parametrize(("tier", "raised", "ladder"), LADDERS)
def test_when_nobody_answers_each_rung_is_climbed_in_its_minute_to_the_last(
    holidays: Cast, tier: int, raised: dt.datetime, ladder: list[tuple[str, dt.datetime]]
) -> None:
    with holidays.database.unit(holidays.scope) as session:
        alert = ring(session, holidays.students.granted_13, tier, at=raised)
        for number, (role, due_at) in enumerate(ladder, start=1):
            assert escalation.escalate(session, now=due_at - MINUTE) == 0
            assert escalation.escalate(session, now=due_at) == 1
            assert climbed(session, alert)[-1] == (number, role, due_at)
            assert told(session, alert, number)
        assert escalation.escalate(session, now=ladder[-1][1] + dt.timedelta(days=400)) == 0
        assert climbed(session, alert) == [(number, *rung) for number, rung in enumerate(ladder, start=1)]


@pytest.mark.parametrize(("tier", "raised", "ladder"), LADDERS)
@pytest.mark.parametrize("answered_after", [0, 1, 2])
def test_it_stops_at_once_when_somebody_answers(
    holidays: Cast, tier: int, raised: dt.datetime, ladder: list[tuple[str, dt.datetime]], answered_after: int
) -> None:
    with holidays.database.unit(holidays.scope) as session:
        alert = ring(session, holidays.students.granted_13, tier, at=raised)
        for _, due_at in ladder[:answered_after]:
            escalation.escalate(session, now=due_at)
        answered_at = ladder[answered_after][1] - dt.timedelta(seconds=1)
        triage.acknowledge(session, alert.id, by=holidays.an, now=answered_at)
        assert escalation.escalate(session, now=min(ladder[answered_after][1], alert.see_by - MINUTE)) == 0
        escalation.escalate(session, now=ladder[-1][1] + dt.timedelta(days=400))
        rungs = [number for number, *_ in climbed(session, alert) if number != escalation.UNSEEN_RUNG]
        assert rungs == list(range(1, answered_after + 1))


@pytest.mark.parametrize(
    "raised",
    [
        dt.datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN),
        dt.datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1),
        dt.datetime(2026, 3, 29, 1, 50, tzinfo=BERLIN),
        dt.datetime(2028, 2, 28, 23, 50, tzinfo=BERLIN),
        dt.datetime(2028, 2, 29, 23, 50, tzinfo=BERLIN),
        dt.datetime(2026, 12, 31, 23, 50, tzinfo=BERLIN),
    ],
)
def test_a_red_takes_two_hours_to_the_top_also_where_the_clock_on_the_wall_jumps(raised: dt.datetime) -> None:
    calendar = Calendar({}, BERLIN)
    answer_by = clocks.due(RULES, RED, True, raised, calendar).answer_by
    began = raised.astimezone(dt.UTC)
    rungs = clocks.rungs(RULES, RED, True, raised, answer_by, calendar)
    assert [(at.astimezone(dt.UTC) - began) / MINUTE for _, _, at in rungs] == [30, 60, 90, 120]


@pytest.mark.parametrize(("friday", "hours"), [((2026, 10, 23), 73), ((2026, 3, 27), 71), ((2028, 2, 25), 72)])
def test_an_orange_on_a_friday_is_answered_by_the_same_hour_of_monday(friday: tuple[int, int, int], hours: int) -> None:
    raised = dt.datetime(*friday, 16, 55, tzinfo=BERLIN)
    answer_by = clocks.due(RULES, ORANGE, False, raised, Calendar({}, BERLIN)).answer_by
    assert answer_by.astimezone(BERLIN).strftime("%a %H:%M") == "Mon 16:55"
    assert answer_by - raised.astimezone(dt.UTC) == dt.timedelta(hours=hours)


def climbed(session: Session, alert: Alert) -> list[tuple[int, str, dt.datetime]]:
    rows = session.execute(
        text("select rung, role, due_at from escalations where subject_id = :id order by due_at, rung"),
        {"id": alert.id},
    )
    return [(row.rung, row.role, row.due_at) for row in rows]


def told(session: Session, alert: Alert, rung: int) -> bool:
    """Whether somebody is told on this rung."""
    found = session.execute(
        text("select count(*) from deliveries where subject_id = :id and occasion like :occasion"),
        {"id": alert.id, "occasion": f"rung/{rung}/%"},
    )
    return bool(found.scalar_one())
