"""Silence is noticed: each kind of it, by breaking one thing, within five minutes, by people and by the health door."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from alerts import delivery, probes, raising, timetable, watchdog
from alerts.watchdog import Watchdog
from api.app import create_app
from screening import access, assignments, db, duties, embedded, intake, rounds, staff
from screening.db import Database
from screening.settings import Settings
from tests.alerts.episodes import HOUR, RED, made_up_settings, ring
from tests.alerts.test_delivery import Outbox
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.doors import PHQ9, answers_csv
from tests.factories import make_round, make_student

MINUTE = dt.timedelta(minutes=1)
FIVE = 5 * MINUTE
DAY = 24 * HOUR


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made_up_settings(tmp_path, SCREENING_LOCALE="en")


@pytest.fixture
def home(fresh_database: Database) -> Cast:
    return assemble(fresh_database)


@pytest.fixture
def start(home: Cast) -> dt.datetime:
    """Now, by the database: what it writes by itself lies before it."""
    with home.database.unit() as session:
        return db.now(session)


@pytest.fixture
def alive(home: Cast, settings: Settings, start: dt.datetime) -> Iterator[Cast]:
    """A district whose loop turns: everything was due once, a red was raised and sent, a synthetic one too."""
    probes.ensure(home.database)
    with home.database.unit(home.scope) as session:
        make_round(session)
        ring(session, home.students.granted_13, RED, at=start)
    work(home, settings, start)
    yield home


def work(cast: Cast, settings: Settings, now: dt.datetime, without: frozenset[str] = frozenset()) -> None:
    """What a worker does at that time; all but some jobs."""
    timetable.run_due(cast.database, now, settings, only={job.name for job in timetable.JOBS} - without)


def keep_working(
    cast: Cast, settings: Settings, start: dt.datetime, until: dt.timedelta, **more: frozenset[str]
) -> None:
    for minute in range(int(until / MINUTE) + 1):
        work(cast, settings, start + minute * MINUTE, **more)


def names(cast: Cast, now: dt.datetime) -> set[str]:
    return {finding.name for finding in watchdog.findings(cast.database, now=now) if not finding.is_warning}


def told(cast: Cast) -> set[tuple[uuid.UUID, str]]:
    with cast.database.unit(cast.scope) as session:
        return {
            tuple(row)
            for row in session.execute(text("select recipient_id, state from deliveries where subject = 'fault'"))
        }


def test_where_everything_turns_nobody_is_told(alive: Cast, settings: Settings, start: dt.datetime) -> None:
    keep_working(alive, settings, start, FIVE)
    outbox = Outbox()
    assert Watchdog(alive.database, settings, send=outbox).watch(now=start + FIVE) == []
    assert outbox.taken == []


# -- each kind of silence -----------------------------------------------------------------------------


def no_worker(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    """Nobody does anything any more."""


def no_sweeper(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    keep_working(cast, settings, start, FIVE, without=frozenset({"weighing"}))


def refused_mail(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.own_grant_15, RED, at=start)
    for minute in range(5):
        delivery.deliver_pending(
            cast.database, cast.district.id, settings, now=start + minute * MINUTE, send=Outbox(failures=99)
        )
    keep_working(cast, settings, start, FIVE, without=frozenset({"deliveries"}))


def no_sender(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.own_grant_15, RED, at=start)
    keep_working(cast, settings, start, FIVE, without=frozenset({"deliveries"}))


def empty_rota(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    assert cast.duty_officer.staff_id is not None
    with cast.database.unit(cast.scope) as session:
        staff.revoke(session, cast.duty_officer.staff_id, "duty_officer", by=cast.system)
    keep_working(cast, settings, start, FIVE)


def unweighed_result(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    with cast.database.unit(cast.scope) as session:
        hand_in(session, cast, start)  # and no door weighs it
    keep_working(cast, settings, start, FIVE, without=frozenset({"weighing"}))


def stuck_upload(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    with cast.database.unit(cast.scope) as session:
        round_id = session.execute(text("select id from rounds")).scalar_one()
        content = [answers_csv({"A001": 1}).encode()]
        intake.receive(session, round_id, content, file_name="a.csv", by=cast.district_admin)
    keep_working(cast, settings, start, FIVE, without=frozenset({"uploads"}))


def no_probe(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    """Its job is silent at once, long before the next red would have been due."""
    keep_working(cast, settings, start, FIVE, without=frozenset({"probes"}))


def late_probe(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    """The one that was due after five minutes does not come."""
    keep_working(cast, settings, start, 2 * FIVE, without=frozenset({"probes"}))


def deaf_probe(cast: Cast, settings: Settings, start: dt.datetime) -> None:
    """It was handed in, and nobody takes it."""
    with cast.database.unit(access.Scope(probes.ensure(cast.database))) as session:
        session.execute(text("update deliveries set state = 'pending', sent_at = null, try_at = 'infinity'"))
    keep_working(cast, settings, start + MINUTE, FIVE - MINUTE)


BROKEN: list[tuple[Callable[[Cast, Settings, dt.datetime], None], str, dt.timedelta]] = [
    (no_worker, "worker_silent", FIVE),
    (no_sweeper, "worker_silent", FIVE),
    (refused_mail, "deliveries_failing", FIVE),
    (no_sender, "delivery_unsent", FIVE),
    (empty_rota, "rota_empty", FIVE),
    (unweighed_result, "result_unweighed", FIVE),
    (stuck_upload, "upload_stuck", FIVE),
    (no_probe, "worker_silent", FIVE),
    (deaf_probe, "synthetic_red", FIVE),
    (late_probe, "synthetic_red", 2 * FIVE),  # five minutes after it was due
]


@pytest.mark.parametrize(("break_it", "name", "after"), BROKEN, ids=lambda each: getattr(each, "__name__", None))
def test_each_kind_of_silence_is_told_within_five_minutes(
    alive: Cast,
    settings: Settings,
    start: dt.datetime,
    break_it: Callable[[Cast, Settings, dt.datetime], None],
    name: str,
    after: dt.timedelta,
) -> None:
    assert names(alive, start + MINUTE / 2) == set()
    break_it(alive, settings, start)
    outbox, now = Outbox(), start + after
    found = Watchdog(alive.database, settings, send=outbox).watch(now=now)
    assert name in {finding.name for finding in found}
    officers = {alive.duty_officer.person, alive.district_admin.person}
    if break_it is empty_rota:
        officers -= {alive.duty_officer.person}
    assert told(alive) == {(one, "sent") for one in officers}
    assert {message.link for _, message in outbox.taken} == {"http://127.0.0.1:8000/health/loop"}


def test_an_alert_that_was_deleted_by_hand_is_missed(
    alive: Cast, settings: Settings, start: dt.datetime, server: embedded.Server
) -> None:
    with alive.database.unit(alive.scope) as session:
        hand_in(session, alive, start, is_weighed=True)
    assert names(alive, start) == set()
    gone = ("deliveries where subject = 'alert'", "alert_reasons where true", "alerts where true")
    delete_by_hand(server, alive, *gone)
    assert "alert_missing" in names(alive, start)


def test_only_its_reasons_gone_an_alert_is_missed_too(alive: Cast, start: dt.datetime, server: embedded.Server) -> None:
    with alive.database.unit(alive.scope) as session:
        hand_in(session, alive, start, is_weighed=True)
    delete_by_hand(server, alive, "alert_reasons where source like 'result/%%'")
    assert "alert_missing" in names(alive, start)


def test_a_round_answered_at_home_needs_somebody_on_duty_at_every_hour_of_it(alive: Cast, start: dt.datetime) -> None:
    assert alive.an.staff_id is not None
    with alive.database.unit(alive.scope) as session:
        for school_id in (alive.school_a.id, alive.school_b.id, alive.school_c.id):
            duties.plan(
                session,
                alive.duty_officer.person,
                "first",
                start - HOUR,
                start + 15 * 24 * HOUR,
                school_id=school_id,
                by=alive.district_admin,
                now=start,
            )
        at_home = make_round(session, name="At home", is_at_home=True)
        assert at_home.state == "open"
    assert names(alive, start) == set()
    with alive.database.unit(alive.scope) as session:
        (shift,) = [one for one in duties.listed(session, start, start + HOUR) if one.school_id == alive.school_b.id]
        duties.cancel(session, shift.id, by=alive.district_admin, now=start)
    assert "rota_gap" in names(alive, start)


# -- how it is told -----------------------------------------------------------------------------------


def test_it_is_told_once_and_again_after_hours_and_anew_after_it_was_mended(
    alive: Cast, settings: Settings, start: dt.datetime
) -> None:
    outbox = Outbox()
    dog = Watchdog(alive.database, settings, send=outbox)
    for seconds in range(0, 3600, 30):
        dog.watch(now=start + FIVE + dt.timedelta(seconds=seconds))
    first = len(outbox.taken)
    # two people; jobs fall silent one after the other, in their rhythms
    assert 2 <= first <= 2 * len({job.every for job in timetable.JOBS})
    dog.watch(now=start + 6 * HOUR)
    assert first < len(outbox.taken) <= first + 2
    work(alive, settings, start + 7 * HOUR)
    work(alive, settings, start + 7 * HOUR + MINUTE)
    assert dog.watch(now=start + 7 * HOUR + MINUTE) == []
    again = len(outbox.taken)
    dog.watch(now=start + 7 * HOUR + 6 * MINUTE)
    assert len(outbox.taken) == again + 2


def test_two_watchdogs_tell_once(alive: Cast, settings: Settings, start: dt.datetime) -> None:
    outbox = Outbox()
    for _ in range(2):
        Watchdog(alive.database, settings, send=outbox).watch(now=start + FIVE)
    assert len(outbox.taken) == 2


def test_when_the_database_is_gone_those_who_were_known_are_told(
    alive: Cast, settings: Settings, start: dt.datetime
) -> None:
    outbox = Outbox()
    dog = Watchdog(alive.database, settings, send=outbox)
    assert dog.watch(now=start) == []
    gone = Database("postgresql://nobody@127.0.0.1:1/nothing", alive.database.master_key)
    dog.database = gone
    for second in (1, 30, 60):
        assert [finding.name for finding in dog.watch(now=start + second * dt.timedelta(seconds=1))] == [
            "database_unreachable"
        ]
    gone.dispose()
    assert len(outbox.taken) == 2


def test_the_health_door_names_it_and_is_not_good(alive: Cast, settings: Settings) -> None:
    client = TestClient(create_app(alive.database, settings))
    came = client.get("/health/loop")
    assert (came.status_code, came.json()["status"]) == (200, "good")
    with alive.database.unit(alive.scope) as session:
        session.execute(text("update heartbeats set beat_at = beat_at - interval '1 day' where name = 'escalation'"))
    came = TestClient(create_app(alive.database, settings)).get("/health/loop")
    assert came.status_code == 503
    assert [(fault["name"], fault["where"]) for fault in came.json()["faults"]] == [("worker_silent", "escalation")]


# -- the synthetic red --------------------------------------------------------------------------------


def test_a_synthetic_red_goes_the_whole_way_every_five_minutes_and_leaves_nothing_open(
    home: Cast, settings: Settings, start: dt.datetime, is_storm: bool
) -> None:
    reds = 7 if is_storm else 4
    last = start + (reds - 1) * FIVE
    district_id = probes.ensure(home.database)
    assert probes.ensure(home.database) == district_id
    keep_working(home, settings, start, last - start + MINUTE)
    with home.database.unit(access.Scope(district_id)) as session:
        raised = session.execute(text("select opened_at, tier, closed_at is null from alerts order by opened_at")).all()
        sent = session.execute(
            text("select count(*) from deliveries where subject = 'alert' and state = 'sent'")
        ).scalar_one()
        heard = probes.heard(session)
    assert [row.opened_at for row in raised] == [start + 5 * n * MINUTE for n in range(reds)]
    assert {row.tier for row in raised} == {3}
    assert [row[2] for row in raised] == [False] * reds
    assert sent == 2 * reds  # the counselor and the lead
    assert heard is not None
    assert (heard.at, heard.seconds) == (last, 0)


def test_nobody_elses_district_knows_of_it(home: Cast, settings: Settings, start: dt.datetime) -> None:
    probes.ensure(home.database)
    keep_working(home, settings, start, FIVE)
    with home.database.unit(home.scope) as session:
        for table in (
            "alerts",
            "deliveries",
            "results",
            "rounds",
            "students where id not in (select student_id from enrollments)",
        ):
            assert session.execute(text(f"select count(*) from {table}")).scalar_one() == 0


def test_two_workers_hand_in_one(home: Cast, settings: Settings, start: dt.datetime) -> None:
    district_id = probes.ensure(home.database)
    assert [probes.run(home.database, district_id, now=start) for _ in range(2)] == [True, False]


def test_the_next_day_has_its_own_round_and_the_same_students(
    home: Cast, settings: Settings, start: dt.datetime
) -> None:
    district_id = probes.ensure(home.database)
    for day in range(3):
        keep_working(home, settings, start + day * 24 * HOUR, MINUTE)
    with home.database.unit(access.Scope(district_id)) as session:
        counts = session.execute(
            text(
                "select (select count(*) from rounds), (select count(*) from students),"
                " (select count(*) from alerts where closed_at is not null)"
            )
        ).one()
    assert tuple(counts) == (3, 1, 3)


def test_synthetic_reds_are_forgotten_after_a_while_and_nothing_else_is(
    home: Cast, settings: Settings, start: dt.datetime
) -> None:
    with home.database.unit(home.scope) as session:
        make_round(session, opens_at=start - 60 * DAY, closes_at=start - 30 * DAY, is_historical=True)
        ring(session, home.students.granted_13, RED, at=start - 40 * DAY)
    district_id = probes.ensure(home.database)
    for day in (0, 1, 20, 21):
        keep_working(home, settings, start + day * DAY, MINUTE)
    with home.database.unit(access.Scope(district_id)) as session:
        left = [count(session, table) for table in ("rounds", "alerts", "results", "assignments", "deliveries")]
        assert left == [2, 2, 2, 2, 4]
    with home.database.unit(home.scope) as session:
        assert probes.forget(session, now=start + 400 * DAY) == 0
        assert [count(session, table) for table in ("rounds", "alerts")] == [1, 1]


def count(session: Session, table: str) -> int:
    return int(session.execute(text(f"select count(*) from {table}")).scalar_one())


def hand_in(session: Session, cast: Cast, now: dt.datetime, *, is_weighed: bool = False) -> None:
    """A red form of somebody, handed in."""
    student = make_student(session, cast.school_a.id)
    round_id = session.execute(text("select id from rounds")).scalar_one()
    rounds.enroll_late(session, round_id, student_ids=[student.id])
    place = session.execute(text("select id from assignments where student_id = :id"), {"id": student.id}).scalar_one()
    done = assignments.submit(session, place, by=cast.an, now=now, answers=dict.fromkeys(PHQ9, 3))
    if is_weighed:
        assert done.revisions is not None
        raising.weigh(session, done.revisions, now=now, policy=done.rules.policy)


def delete_by_hand(server: embedded.Server, cast: Cast, *what: str) -> None:
    """What somebody with the owner's password might do."""
    name = str(make_url(cast.database.url).database)
    with psycopg.connect(server.url(database=name, role="owner")) as connection:
        for table in what:
            connection.execute(f"delete from {table} and district_id = %s", [cast.district.id])
