"""A request, answered: the transaction, the handler in it and its answer, all in one thread and in one go.

What a handler asks of its door (session, clock, caller) is filled in there. Resolved as dependencies, each would hop
between threads, and the hops cost more than the statements between them.
"""

import asyncio
import datetime as dt
import enum
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from fastapi import Request, Response
from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from api import idempotency
from api.idempotency import Once
from screening import access, db
from screening.db import Database


class Given(enum.Enum):
    """What the door gives to a handler that asks for it."""

    SESSION = enum.auto()
    CLOCK = enum.auto()
    ACTOR = enum.auto()
    DATABASE = enum.auto()


SessionDep = Annotated[Session, Given.SESSION]
"""The request's transaction in the caller's scope: committed before the answer is sent, rolled back if it fails."""
NowDep = Annotated[dt.datetime, Given.CLOCK]
ActorDep = Annotated[access.Actor, Given.ACTOR]
DatabaseDep = Annotated[Database, Given.DATABASE]

_Handler = Callable[..., object]


def answering(handler: _Handler) -> Callable[..., Coroutine[Any, Any, Response]]:
    """The handler as the web framework calls it: with what the request says, and what the door gives beside it."""
    plan = _Plan.of(handler)

    async def endpoint(**asked: Any) -> Response:
        visit = _Visit(asked[plan.request], asked[plan.response])
        wanted = {name: value for name, value in asked.items() if name in plan.asked}
        threads = visit.request.app.state.threads
        return await asyncio.get_running_loop().run_in_executor(threads, visit.answer, plan, wanted)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(endpoint, name, getattr(handler, name))
    endpoint.__signature__ = plan.signature  # type: ignore[attr-defined]
    return endpoint


@dataclass(frozen=True)
class _Plan:
    """What a handler takes, from the request and from its door, and what it gives back."""

    handler: _Handler
    signature: inspect.Signature
    """What the framework reads out of a request."""
    asked: frozenset[str]
    given: Mapping[str, Given]
    request: str
    response: str
    view: "TypeAdapter[Any] | None"
    """How the answer is written; None when the handler writes it itself."""

    @classmethod
    def of(cls, handler: _Handler) -> "_Plan":
        signature = inspect.signature(handler)
        given = {name: kind for name, p in signature.parameters.items() if (kind := _given(p.annotation)) is not None}
        asked = [p for name, p in signature.parameters.items() if name not in given]
        request, response = _named(asked, Request), _named(asked, Response)
        seen = {p.name: p for p in (*asked, request, response)}
        answer = signature.return_annotation
        is_written = isinstance(answer, type) and issubclass(answer, Response)
        return cls(
            handler,
            signature.replace(parameters=[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in seen.values()]),
            frozenset(p.name for p in asked),
            given,
            request.name,
            response.name,
            None if is_written else TypeAdapter(answer),
        )


def _named(asked: Sequence[inspect.Parameter], kind: type) -> inspect.Parameter:
    """The handler's own parameter for the request or the response, or one beside its own."""
    own = next((p for p in asked if p.annotation is kind), None)
    return own or inspect.Parameter(f"its_{kind.__name__.lower()}", inspect.Parameter.KEYWORD_ONLY, annotation=kind)


def _given(annotation: object) -> Given | None:
    return next((part for part in get_args(annotation) if isinstance(part, Given)), None)


@dataclass(frozen=True)
class _Visit:
    """One request in its thread."""

    request: Request
    response: Response
    """Where the handler may leave headers and a status."""

    def answer(self, plan: _Plan, asked: dict[str, Any]) -> Response:
        state, door = self.request.state, self.request.scope["route"]
        door.let_in(self.request)
        if Given.SESSION not in plan.given.values():
            return self._answered(plan, asked, {})
        with self._database.unit(state.actor.scope_as(door.roles)) as session:
            once = self._once(session, state.actor)
            if once is not None and not door.is_streamed:
                once.begin(state.digest)
            given: dict[Given, object] = {Given.SESSION: session}
            if Given.CLOCK in plan.given.values():
                given[Given.CLOCK] = db.now(session)
            answer = self._answered(plan, asked, given)
            if once is not None:
                self._finish(once)
        return answer

    def _answered(self, plan: _Plan, asked: dict[str, Any], given: dict[Given, object]) -> Response:
        given[Given.DATABASE] = self._database
        given[Given.ACTOR] = getattr(self.request.state, "actor", None)  # nobody at a public door
        filled = {name: given[kind] for name, kind in plan.given.items()}
        found = plan.handler(**asked, **filled)
        return found if isinstance(found, Response) else self._written(plan, found)

    def _written(self, plan: _Plan, found: object) -> Response:
        status = self._status
        body = b""
        if plan.view is not None and status != 204:
            body = plan.view.dump_json(plan.view.validate_python(found, from_attributes=True), by_alias=True)
        written = Response(body, status, media_type="application/json" if body else None)
        written.headers.raw.extend(self.response.headers.raw)
        return written

    @property
    def _status(self) -> int:
        return self.response.status_code or self.request.scope["route"].status_code or 200

    @property
    def _database(self) -> Database:
        database: Database = self.request.app.state.database
        return database

    def _once(self, session: Session, by: access.Actor) -> Once | None:
        key = idempotency.key_of(self.request) if self.request.method == "POST" else None
        return None if key is None else idempotency.once(session, by, key)

    def _finish(self, once: Once) -> None:
        state, door = self.request.state, self.request.scope["route"]
        if door.is_streamed:
            state.digest = idempotency.digest_of(self.request, state.form.digest)
        location = "" if door.repeats == "again" else self.response.headers["location"]
        once.finish(state.digest, self._status, location)
