"""People with passwords, second factors and browsers: what a test about signing in begins with."""

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from httpx2 import Response

from api.auth import CSRF_HEADER
from screening import access, accounts, db, second_factor, staff
from screening.access import Actor
from screening.db import Database
from tests.asking import TestClient
from tests.factories import make_staff, unique

PASSWORD = "brass lanterns in fog 7"


@dataclass(frozen=True)
class Known:
    """Somebody on the staff who can sign in."""

    database: Database
    actor: Actor
    email: str
    secret: bytes | None
    recovery_codes: list[str] = field(default_factory=list)

    def code(self, later: dt.timedelta = dt.timedelta()) -> str:
        """A code of the second factor that was not taken yet, by the database's clock."""
        assert self.secret is not None
        forget_step(self.database, self.account_id)
        with self.database.unit() as session:
            return second_factor.code_at(self.secret, db.now(session) + later)

    @property
    def account_id(self) -> uuid.UUID:
        assert self.actor.account_id is not None
        return self.actor.account_id

    @property
    def staff_id(self) -> uuid.UUID:
        assert self.actor.staff_id is not None
        return self.actor.staff_id


def somebody_known(
    database: Database,
    scope: access.Scope,
    *roles: tuple[str, uuid.UUID | None],
    password: str | None = PASSWORD,
    has_second_factor: bool = True,
) -> Known:
    """Somebody with these roles, a password and, unless told otherwise, a second factor."""
    email = f"{unique('known')}@example.test"
    secret = second_factor.new_secret() if has_second_factor else None
    recovery_codes = []
    with database.unit(scope) as session:
        _, actor = make_staff(session, *roles, email=email)
        assert actor.account_id is not None
        if password is not None:
            accounts.set_password(session, actor.account_id, password, email=email, by=actor)
        if secret is not None:
            recovery_codes = accounts.add_second_factor(session, actor.account_id, secret, by=actor)
    return Known(database, actor, email, secret, recovery_codes)


def forget_step(database: Database, account_id: uuid.UUID) -> None:
    """Lets the code of this very half minute be taken once more, as if time had passed."""
    do(database, "update accounts set last_step = 0 where id = :id", id=account_id)


def do(database: Database, statement: str, **parameters: Any) -> None:
    from sqlalchemy import text

    with database.unit() as session:
        session.execute(text(statement), parameters)


@dataclass
class Browser:
    """Keeps cookies and the page's token, and sends them along."""

    client: TestClient
    csrf: str | None = None

    def ask(self, method: str, address: str, **more: Any) -> Response:
        headers = dict(more.pop("headers", {}))
        if self.csrf is not None and method != "GET":
            headers.setdefault(CSRF_HEADER, self.csrf)
        return self.client.request(method, address, headers=headers, **more)

    def get(self, address: str, **more: Any) -> Response:
        return self.ask("GET", address, **more)

    def post(self, address: str, **more: Any) -> Response:
        return self.ask("POST", address, **more)

    def first_step(self, email: str, password: str = PASSWORD, **more: Any) -> Response:
        return self.post("/v1/sessions", json={"email": email, "password": password}, **more)

    def second_step(self, challenge: str, code: str) -> Response:
        came = self.post("/v1/sessions/second-factor", json={"challenge": challenge, "code": code})
        if came.status_code == 200:
            self.csrf = came.json()["csrf_token"]
        return came

    def sign_in(self, who: Known) -> Response:
        """Both steps."""
        first = self.first_step(who.email)
        assert first.status_code == 200, first.text
        if who.secret is None:
            self.csrf = first.json()["csrf_token"]
            return first
        came = self.second_step(first.json()["challenge"], who.code())
        assert came.status_code == 200, came.text
        return came

    def enter(self, code: str, fact: str | None = None) -> Response:
        came = self.post("/v1/sessions/code", json={"code": code, "fact": fact})
        if came.status_code == 200:
            self.csrf = came.json()["csrf_token"]
        return came


def browser(app: FastAPI, *, address: str = "10.0.0.1", base: str = "http://testserver") -> Browser:
    """A browser of its own, at this address."""
    return Browser(TestClient(app, base_url=base, client=(address, 50_000)))


def token_of(database: Database, who: Known, **more: Any) -> str:
    with database.unit(access.Scope(who.actor.district_id)) as session:
        return staff.issue_token(session, who.account_id, 60, by=who.actor, now=db.now(session), **more)
