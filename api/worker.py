"""The worker: gives the timetable a clock. What is due stands in tables, so any number of workers may run."""

import contextlib
import datetime as dt
import threading

import psycopg
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.exc import SQLAlchemyError

from alerts import probes, timetable, watchdog
from alerts.watchdog import Watchdog
from api import logs
from screening import db, reading
from screening.db import Database
from screening.settings import Settings

SOON = frozenset({"rosters", "uploads"})
"""Jobs for which somebody sits and waits: looked after every second, by a thread of their own."""
SOON_SECONDS = 1.0
ENDING_SECONDS = 15.0
"""How long jobs have to end of themselves when the worker is told to; every one is safe to be cut off anywhere."""


def once(database: Database, settings: Settings, *, at: dt.datetime | None = None) -> dict[str, str]:
    """Runs everything that is due, at the database's time or at the one that a drill pretends; answers the problems."""
    probes.ensure(database)
    return timetable.run_due(database, at or _now(database), settings)


def run(database: Database, settings: Settings, stop: threading.Event) -> None:
    """Runs until `stop`: every job in its rhythm, uploads and rosters within a second or so.

    A job never overlaps itself here, and rhythms that were missed are made up for by one run.
    """
    log = logs.get()
    _ensure_probes(database)
    reading.prepare()
    clock = BackgroundScheduler(timezone=dt.UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
    for job in timetable.JOBS:
        if job.name not in SOON:
            trigger = IntervalTrigger(seconds=int(job.every.total_seconds()), timezone=dt.UTC)
            arguments = (database, settings, frozenset({job.name}), stop)
            clock.add_job(_tick, trigger, args=arguments, id=job.name, next_run_time=dt.datetime.now(dt.UTC))
    ended = threading.Event()
    threading.Thread(target=_cut_off, args=(database, stop, ended), name="cut-off", daemon=True).start()
    clock.start()
    log.info("worker_started", count=len(timetable.JOBS))
    try:
        while not stop.wait(SOON_SECONDS):
            _tick(database, settings, SOON, stop)
    finally:
        clock.shutdown(wait=True)
        ended.set()
        log.info("worker_stopped")


def _cut_off(database: Database, stop: threading.Event, ended: threading.Event) -> None:
    stop.wait()
    seconds = ENDING_SECONDS
    while not ended.wait(seconds):
        with contextlib.suppress(psycopg.Error):
            database.cut_off()
        seconds = 1.0  # a job may ask for something more before it ends


def watch(database: Database, settings: Settings, stop: threading.Event) -> None:
    """Runs until `stop`, beside the web and apart from any worker: looks, and says what it finds."""
    dog = Watchdog(database, settings)
    while not stop.wait(watchdog.EVERY.total_seconds()):
        try:
            bad = dog.watch()
        except Exception as error:  # whatever it is, the next look comes
            logs.get().error("watchdog_failed", error=type(error).__name__, where=logs.where(error))
            continue
        for finding in bad:
            logs.get().error("loop_bad", job=finding.name, where=finding.where)


def _ensure_probes(database: Database) -> None:
    try:
        probes.ensure(database)
    except SQLAlchemyError as error:  # the next start makes it; until then the watchdog misses it
        logs.get().error("probes_failed", error=type(error).__name__)


def _tick(database: Database, settings: Settings, names: frozenset[str], stop: threading.Event) -> None:
    """One round of these jobs. Without a database there is nothing to do but to try again at the next tick."""
    try:
        problems = timetable.run_due(database, _now(database), settings, only=names, is_ending=stop.is_set)
    except SQLAlchemyError as error:
        logs.get().error("job_failed", job=",".join(sorted(names)), error=type(error).__name__)
        return
    for job in problems:
        logs.get().warning("job_problem", job=job)


def _now(database: Database) -> dt.datetime:
    with database.unit() as session:
        return db.now(session)
