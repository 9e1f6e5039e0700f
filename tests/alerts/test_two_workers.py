"""A day of two workers that die at random moments: each effect once, none early, none missing, whatever was killed."""

import datetime as dt
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from alerts import delivery, escalation, follow_ups, probes, timetable
from screening.db import Database
from screening.settings import Settings
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, in_case, made_up_settings, ring
from tests.cast import Cast, assemble
from tests.factories import make_student

MINUTE = dt.timedelta(minutes=1)
KILLS, HOURS = 30, 24
JOBS = frozenset({"weighing", "follow_ups", "escalation", "digests", "deliveries", "rounds", "probes"})


class Killed(BaseException):
    """Nothing of ours catches it, as nothing catches a SIGKILL."""


@dataclass
class Reaper:
    """Ends a run before its n-th statement, or between a message's hand-over and its being written down."""

    left: int | None = None
    handed_over: list[str] = field(default_factory=list)

    def before(self, *_: object) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.left = None
                raise Killed


@pytest.fixture
def home(fresh_database: Database) -> Cast:
    return assemble(fresh_database)


@pytest.fixture
def reaper(home: Cast, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reaper]:
    found = Reaper()
    event.listen(home.database.engine, "before_cursor_execute", found.before)

    def hand_over(self: object, address: str, message: delivery.Message) -> None:
        found.handed_over.append(str(message.id))

    monkeypatch.setattr("alerts.channels.Console.__call__", hand_over)
    yield found
    event.remove(home.database.engine, "before_cursor_execute", found.before)


def story(session: Session, cast: Cast) -> None:
    """Alerts nobody answers, of every tier and at every hour, and contacts that fall due during the day."""
    for hour in range(0, HOURS, 3):
        tier = (RED, ORANGE, YELLOW)[hour // 3 % 3]
        for school in (cast.school_a, cast.school_b):
            at = MONDAY + hour * HOUR
            ring(session, make_student(session, school.id), tier, at=at, is_self_harm=tier == ORANGE)
    for hour in range(2, HOURS, 5):
        case = in_case(session, make_student(session, cast.school_a.id), ORANGE, cast.an)
        follow_ups.plan(session, case.id, "phone", due_at=MONDAY + hour * HOUR, by=cast.an, now=MONDAY)


def busy(session: Session, end: dt.datetime) -> tuple[list[dt.datetime], list[dt.datetime]]:
    """The minutes in which a rung or a contact falls due, as they are known beforehand; and these with every fifth.

    Were another one passed over, what was due in it would be late, which is asked afterwards.
    """
    quiet = {MONDAY + number * probes.EVERY for number in range(HOURS * 12)}
    due = set(session.scalars(text("select due_at from follow_ups")))
    for alert_id in session.scalars(text("select id from alerts")).all():
        ladder = escalation.due(session, alert_id)
        assert ladder is not None
        due |= {_whole_minute(rung.due_at) for rung in ladder.rungs}
    ringing, minutes = ([at for at in sorted(each) if MONDAY < at < end] for each in (due, due | quiet))
    return ringing, [MONDAY, *minutes]


def _whole_minute(at: dt.datetime) -> dt.datetime:
    return MONDAY + -((MONDAY - at) // MINUTE) * MINUTE


def a_day(
    cast: Cast, settings: Settings, reaper: Reaper, minutes: list[dt.datetime], kills: dict[dt.datetime, int]
) -> int:
    """Two workers by turns, one each minute; where one was killed, the other comes a minute later."""
    died, waiting = 0, deque(minutes)
    while waiting:
        now = waiting.popleft()
        reaper.left = kills.get(now)
        try:
            timetable.run_due(cast.database, now, settings, only=JOBS)
        except Killed:
            died += 1
            if not waiting or waiting[0] != now + MINUTE:
                waiting.appendleft(now + MINUTE)
        reaper.left = None
    return died


@pytest.mark.storm
def test_a_day_with_kills_does_each_effect_once_none_early_and_none_missing(
    home: Cast, reaper: Reaper, tmp_path: Path, share: Callable[[int], int]
) -> None:
    settings, chance = made_up_settings(tmp_path), random.Random(7)  # noqa: S311 - which turns die
    end, wanted = MONDAY + share(HOURS * 60) * MINUTE, share(KILLS)
    with home.database.unit(home.scope) as session:
        story(session, home)
        ringing, minutes = busy(session, end)
    probes.ensure(home.database)
    doomed = chance.sample(ringing, wanted // 2)  # half of them where it matters most
    doomed += chance.sample([at for at in minutes[1:] if at not in doomed], wanted - len(doomed))
    kills = {at: chance.randint(2, 60) for at in doomed}
    died = a_day(home, settings, reaper, minutes, kills)
    timetable.run_due(home.database, end, settings, only=JOBS)
    assert died == wanted
    with home.database.unit(home.scope) as session:
        found = session.execute(_CLIMBED).one()
        left = session.execute(_LEFT, {"now": end}).one()
        sent = set(session.scalars(text("select id::text from deliveries where state = 'sent'")))
        due = session.execute(
            text("select count(*) from follow_ups where state = 'planned' and due_at <= :now"), {"now": end}
        )
        assert due.scalar_one() == 0
    assert (found.early, found.twice, left.unsent, left.told_twice) == (0, 0, 0, 0)
    assert found.climbed > 0
    assert found.latest <= (1 + max(map(len, runs(sorted(kills))))) * MINUTE  # turns lost in a row
    assert sent <= set(reaper.handed_over)
    twice = len(reaper.handed_over) - len(set(reaper.handed_over))
    assert twice <= died
    print(  # noqa: T201 - the figures are the point
        f"{died} kills in {len(minutes)} busy minutes: {found.climbed} rungs climbed once each, 0 early,"
        f" the latest {found.latest} after its time; {len(set(reaper.handed_over))} messages, {twice} handed over twice"
    )


_CLIMBED = text(
    "select count(*) as climbed, count(*) filter (where at < due_at) as early, max(at - due_at) as latest,"
    " count(*) - count(distinct (subject, subject_id, clock_at, rung)) as twice from escalations"
    " where subject = 'alert'"
)
_LEFT = text(
    "select count(*) filter (where state <> 'sent' and try_at <= :now) as unsent,"
    " count(*) - count(distinct (subject, subject_id, occasion, recipient_id)) as told_twice from deliveries"
)


def runs(moments: list[dt.datetime]) -> Iterator[list[dt.datetime]]:
    """Minutes that follow each other."""
    run: list[dt.datetime] = []
    for at in moments:
        if run and at != run[-1] + MINUTE:
            yield run
            run = []
        run.append(at)
    yield run
