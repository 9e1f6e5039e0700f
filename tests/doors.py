"""The app on the tests' database, and people who come to its doors with a token."""

import datetime as dt
import functools
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from httpx2 import Response

from alerts import timetable
from api.app import create_app
from screening import access, db, staff
from screening.access import Actor
from screening.db import Database
from screening.settings import Settings
from tests.asking import TestClient
from tests.cast import Cast
from tests.factories import make_staff

_HOME = tempfile.TemporaryDirectory(prefix="screening-doors-")
NOBODY = uuid.UUID(int=7)
PHQ9 = [f"phq9_{n}" for n in range(1, 10)]


@functools.lru_cache(maxsize=4)
def app_on(database: Database) -> FastAPI:
    """One app for all tests of a database."""
    return create_app(database, settings())


@functools.lru_cache(maxsize=1)
def settings() -> Settings:
    return Settings.read({"SCREENING_HOME": _HOME.name, "SCREENING_LOCALE": "en"})


@dataclass(frozen=True)
class Caller:
    """Somebody with a token, or nobody without."""

    client: TestClient
    token: str | None = None

    def ask(self, method: str, address: str, **more: Any) -> Response:
        headers = dict(more.pop("headers", {}))
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return self.client.request(method, address, headers=headers, **more)

    def get(self, address: str, **more: Any) -> Response:
        return self.ask("GET", address, **more)

    def post(self, address: str, **more: Any) -> Response:
        return self.ask("POST", address, **more)


def token_for(database: Database, actor: Actor, minutes: int = 60) -> str:
    assert actor.account_id is not None
    with database.unit(access.Scope(actor.district_id)) as session:
        return staff.issue_token(session, actor.account_id, minutes, by=actor, now=db.now(session))


def caller(client: TestClient, database: Database, actor: Actor) -> Caller:
    return Caller(client, token_for(database, actor))


def somebody(cast: Cast, role: str) -> Actor:
    """Somebody who holds this role and no other: at school A, where it is held at a school."""
    in_district = role in staff.DISTRICT_ROLES | {"duty_officer", "referral_partner", "guardian", "student"}
    with cast.database.unit(cast.scope) as session:
        return make_staff(session, (role, None if in_district else cast.school_a.id))[1]


def round_body(**more: Any) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    return {
        "name": "Autumn",
        "instruments": [{"code": "phq9", "forms": ["self"]}],
        "grades": [7, 8, 9, 10, 11, 12],
        "opens_at": (now - dt.timedelta(days=1)).isoformat(),
        "closes_at": (now + dt.timedelta(days=14)).isoformat(),
        **more,
    }


def answers_csv(rows: Mapping[str, int | str]) -> str:
    """A file of PHQ-9 answers: student number -> the answer to every item."""
    lines = [",".join([number, *[str(answer)] * 9]) for number, answer in rows.items()]
    return "\n".join([",".join(["student_number", *PHQ9]), *lines]) + "\n"


def work(cast: Cast) -> None:
    """What the worker does once in this district: the others are other tests' own."""
    with cast.database.unit() as session:
        now = db.now(session)
    for job in timetable.JOBS:
        if job.name != "deliveries":
            job.run(cast.database, cast.district.id, now, settings())
