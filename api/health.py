"""Whether the service lives, is ready, and whether its loop still turns; nothing here is about a person."""

import threading
import time
from collections.abc import Iterator

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from alerts import watchdog
from alerts.watchdog import Finding
from api.deps import PUBLIC, DatabaseDep, Door
from screening import migration
from screening.db import Database

door = Door(tag="health")

ASKED_ONCE_IN_SECONDS = 5.0
"""Anybody may ask, so the database is not asked each time."""


class Alive(BaseModel):
    status: str


class Fault(BaseModel):
    """One bad thing: its name, where (a job or a district's code), and since when or how many."""

    name: str
    where: str
    detail: str


class Ready(BaseModel):
    status: str
    faults: list[Fault]


class Loop(Ready):
    """`warnings` will be faults one day if nobody does anything, and make nothing bad today."""

    warnings: list[Fault]


_RESPONSES = {503: {"description": "Not so; what is wrong is named.", "model": Ready}}


@door.get("/health/live", roles=PUBLIC)
def live() -> Alive:
    """The process answers."""
    return Alive(status="alive")


@door.get("/health/ready", roles=PUBLIC, responses=_RESPONSES)
def ready(database: DatabaseDep, response: Response) -> Ready:
    """The database answers and its schema is the one that this code knows. What a proxy asks."""
    return _answer(response, list(_unready(database)))


@door.get("/health/loop", roles=PUBLIC, responses=_RESPONSES)
def loop(request: Request, database: DatabaseDep, response: Response) -> Loop:
    """From answer to person: heartbeats, unweighed results, unsent messages, lost alerts, rotas, the synthetic red."""
    state = request.app.state
    if not hasattr(state, "loop_lock"):
        state.loop_lock, state.loop_seen = threading.Lock(), (float("-inf"), [])
    with state.loop_lock:
        asked, faults = state.loop_seen
        if time.monotonic() - asked > ASKED_ONCE_IN_SECONDS:
            faults = faults_of_loop(database)
            state.loop_seen = (time.monotonic(), faults)
    bad = _answer(response, [_fault(found) for found in faults if not found.is_warning])
    return Loop(status=bad.status, faults=bad.faults, warnings=[_fault(found) for found in faults if found.is_warning])


@door.get("/metrics", roles=PUBLIC, response_class=Response)
def metrics(request: Request) -> Response:
    """Counts and times of requests, for Prometheus."""
    return Response(generate_latest(request.app.state.meters.registry), media_type=CONTENT_TYPE_LATEST)


def _answer(response: Response, faults: list[Fault]) -> Ready:
    if faults:
        response.status_code = 503
    return Ready(status="bad" if faults else "good", faults=faults)


def _fault(found: Finding) -> Fault:
    return Fault(name=found.name, where=found.where, detail=found.detail)


def _unready(database: Database) -> Iterator[Fault]:
    try:
        with database.unit() as session:
            standing = migration.current(session.connection())
    except SQLAlchemyError:
        yield Fault(name="database_unreachable", where="database", detail="It does not answer.")
        return
    if standing != migration.head():
        yield Fault(name="migrations_due", where="database", detail=f"It stands at {standing or 'nothing'}.")


def faults_of_loop(database: Database) -> list[Finding]:
    """Everything that is bad on the way from an answer to a person, each named; and what will be."""
    return watchdog.findings(database)
