"""Whether the service lives, is ready, and whether its loop still turns; nothing here is about a person."""

import datetime as dt
import threading
import time
from collections.abc import Iterator

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from alerts import delivery, routing, timetable
from api.deps import PUBLIC, DatabaseDep, Door
from screening import access, db, migration
from screening.db import Database
from screening.models import District, Heartbeat

door = Door(tag="health")

SILENCE = dt.timedelta(minutes=3)
"""How long after its time a job may be silent."""
UNWEIGHED = dt.timedelta(minutes=2)
UNSENT = dt.timedelta(minutes=5)
UNLOADED = dt.timedelta(minutes=15)
REACH = dt.timedelta(days=2)
ASKED_ONCE_IN_SECONDS = 5.0
"""Anybody may ask, so the database is not asked each time."""


class Alive(BaseModel):
    status: str


class Fault(BaseModel):
    """One bad thing: its name, where (a job or a district's code), and since when or how many."""

    name: str
    where: str
    detail: str


class Loop(BaseModel):
    status: str
    faults: list[Fault]


_RESPONSES = {503: {"description": "Not so; what is wrong is named.", "model": Loop}}


@door.get("/health/live", roles=PUBLIC)
def live() -> Alive:
    """The process answers."""
    return Alive(status="alive")


@door.get("/health/ready", roles=PUBLIC, responses=_RESPONSES)
def ready(database: DatabaseDep, response: Response) -> Loop:
    """The database answers and its schema is the one that this code knows. What a proxy asks."""
    return _answer(response, list(_unready(database)))


@door.get("/health/loop", roles=PUBLIC, responses=_RESPONSES)
def loop(request: Request, database: DatabaseDep, response: Response) -> Loop:
    """From answer to person: heartbeats, results without a weighing, messages unsent, files unread, empty rotas."""
    state = request.app.state
    if not hasattr(state, "loop_lock"):
        state.loop_lock, state.loop_seen = threading.Lock(), (float("-inf"), [])
    with state.loop_lock:
        asked, faults = state.loop_seen
        if time.monotonic() - asked > ASKED_ONCE_IN_SECONDS:
            faults = faults_of_loop(database)
            state.loop_seen = (time.monotonic(), faults)
    return _answer(response, faults)


@door.get("/metrics", roles=PUBLIC, response_class=Response)
def metrics(request: Request) -> Response:
    """Counts and times of requests, for Prometheus."""
    return Response(generate_latest(request.app.state.meters.registry), media_type=CONTENT_TYPE_LATEST)


def _answer(response: Response, faults: list[Fault]) -> Loop:
    if faults:
        response.status_code = 503
    return Loop(status="bad" if faults else "good", faults=faults)


def _unready(database: Database) -> Iterator[Fault]:
    try:
        with database.unit() as session:
            standing = migration.current(session.connection())
    except SQLAlchemyError:
        yield Fault(name="database_unreachable", where="database", detail="It does not answer.")
        return
    if standing != migration.head():
        yield Fault(name="migrations_due", where="database", detail=f"It stands at {standing or 'nothing'}.")


def faults_of_loop(database: Database) -> list[Fault]:
    """Everything that is bad on the way from an answer to a person, each named."""
    try:
        with database.unit() as session:
            now = db.now(session)
            faults = list(_heartbeats(session, now))
            districts = [(row.id, row.code) for row in session.execute(select(District.id, District.code))]
        for district_id, code in districts:
            with database.unit(access.Scope(district_id)) as session:
                faults += _of_district(session, code, now)
    except SQLAlchemyError:
        return [Fault(name="database_unreachable", where="database", detail="It does not answer.")]
    return faults


def _heartbeats(session: Session, now: dt.datetime) -> Iterator[Fault]:
    beats = {row.name: row for row in session.execute(select(Heartbeat.name, Heartbeat.beat_at, Heartbeat.problem))}
    for job in timetable.JOBS:
        beat = beats.get(job.name)
        if beat is None:
            yield Fault(name="worker_silent", where=job.name, detail="It never ran.")
        elif now - beat.beat_at > job.every + SILENCE:
            yield Fault(name="worker_silent", where=job.name, detail=f"Silent since {beat.beat_at.isoformat()}.")
        elif beat.problem:
            yield Fault(name="job_problem", where=job.name, detail=beat.problem)


_OLDEST = text(
    "select"
    " (select min(r.recorded_at) from results r where r.district_id = :district and r.recorded_at >= :since"
    "  and not exists (select from weighings w where w.district_id = r.district_id and w.round_id = r.round_id"
    "  and w.student_id = r.student_id and w.revision = r.revision)) as unweighed,"
    " (select min(d.created_at) from deliveries d where d.district_id = :district and d.state = 'pending') as unsent,"
    " (select min(u.received_at) from uploads u where u.district_id = :district and u.state = 'received') as unloaded,"
    " (select min(t.received_at) from rosters t where t.district_id = :district and t.state = 'received') as unread"
)


def _of_district(session: Session, code: str, now: dt.datetime) -> Iterator[Fault]:
    district_id = access.scope_of(session).district_id
    oldest = session.execute(_OLDEST, {"district": district_id, "since": now - REACH}).one()
    for name, since, patience in (
        ("result_unweighed", oldest.unweighed, UNWEIGHED),
        ("delivery_unsent", oldest.unsent, UNSENT),
        ("upload_stuck", oldest.unloaded, UNLOADED),
        ("roster_stuck", oldest.unread, UNLOADED),
    ):
        if since is not None and now - since > patience:
            yield Fault(name=name, where=code, detail=f"The oldest since {since.isoformat()}.")
    for school in routing.schools_unheard(session):
        yield Fault(name="rota_empty", where=code, detail=f"Nobody would hear of an alert of school {school}.")
    for problem in delivery.problems(session, now=now):
        yield Fault(name="deliveries_failing", where=code, detail=problem)
