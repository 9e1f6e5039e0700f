"""Doors and what every handler asks for: who comes, in which roles, in one transaction, and a page at a time.

A route is made by a `Door`, which demands its roles. Before anything is done with what came along, and before more
than a little of it is read, the caller is known and holds one of them; the session that the handler gets sees only
schools where the caller holds one.
"""

import asyncio
import base64
import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from api import auth, bodies, idempotency, kinds
from api.answering import ActorDep as ActorDep
from api.answering import DatabaseDep as DatabaseDep
from api.answering import NowDep as NowDep
from api.answering import SessionDep as SessionDep
from api.answering import answering
from api.bodies import SentDep as SentDep
from api.bodies import form_body as form_body
from api.errors import Forbidden, InvalidInput, PreconditionFailed, ProblemDetails
from api.multipart import MOST_FIELD_BYTES, MOST_FILE_BYTES
from api.seats import Seats
from screening import access, audit
from screening.errors import HouseError, NotFound, Problem, Refused
from screening.models import School
from screening.statements import Statement

PUBLIC: frozenset[str] = frozenset({"*"})
"""Says in so many words that a route asks for nobody's name."""
STAFF = access.ROLES - {"guardian", "student", "referral_partner"}
"""Everybody who works in the district."""
CARING = frozenset({"counselor", "lead"})
OWN_ONLY = frozenset({"student", "guardian"})
"""Who sees their own alone: without a code that says what that is, nothing."""

Repeats = Literal["thing", "location", "again"]
"""What a repeated keyed request is answered with: the thing at its address, the address, or doing it once more."""

_R = TypeVar("_R")
_Handler = TypeVar("_Handler", bound=Callable[..., Any])


# -- doors ----------------------------------------------------------------------------------------------


class DoorRoute(APIRoute):
    """A route that knows its roles and lets nobody else in."""

    roles: frozenset[str] = frozenset()
    repeats: Repeats = "thing"
    is_streamed: bool = False
    is_guarded: bool = False
    is_brief: bool = False

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        seats: Seats = request.app.state.seats
        if self.roles == PUBLIC:
            await self._handle_for_anybody(request, seats, send)
            return
        request.state.credential = auth.credential_of(request)
        if not bodies.is_small(request):  # who sends much is let in first
            async with seats.taken(scope):
                await _in_thread(request, self.let_in, request)
        if self.is_streamed:
            bodies.refuse_long(request, MOST_FILE_BYTES + MOST_FIELD_BYTES)
        else:
            body = await bodies.read(request)
            request.state.digest = idempotency.digest_of(request, body)
            receive = bodies.again(body, receive)
        async with seats.taken(scope, is_file=self.is_streamed, is_brief=self.is_brief):
            await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handler_for_whom_is_let_in(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception:  # who is not let in is not told what was wrong with the rest either
                await _in_thread(request, self.let_in, request)
                raise

        return handler_for_whom_is_let_in

    def let_in(self, request: Request) -> None:
        """Finds out who comes and whether this door opens for them, once. Raises Unauthenticated, Forbidden, NotFound.

        The handler's own thread does so before anything else: a thread more costs as much as the work.
        """
        if self.roles == PUBLIC or hasattr(request.state, "is_asked_who"):
            return
        request.state.is_asked_who = True
        credential: auth.Credential = request.state.credential
        by = auth.actor_of(request.app.state.database, credential)
        if (refusal := self._refusal(request, credential, by)) is not None:
            self._refuse(request, by)
            raise refusal
        request.state.actor = by

    async def _handle_for_anybody(self, request: Request, seats: Seats, send: Send) -> None:
        if not self.is_guarded:  # how the service is must be told in a full house too
            await super().handle(request.scope, request.receive, send)
            return
        if request.method not in auth.SAFE:
            auth.must_come_from_us(request)
        body = await bodies.read(request)
        async with seats.taken(request.scope):
            await super().handle(request.scope, bodies.again(body, request.receive), send)

    def _refusal(self, request: Request, credential: auth.Credential, by: access.Actor) -> HouseError | None:
        """Why this caller is not let in; None for whoever is."""
        try:
            auth.must_be_ours(request, credential)
        except Forbidden as refused:
            return refused
        if not by.has(*self.roles):
            return Forbidden("None of your roles opens this.")
        if not auth.suits(by.purpose, request.method, self.path, str(self.tags[0])):
            return Forbidden(f"This token was made for {by.purpose} only.", code="token_purpose")
        is_let_in_as_staff = by.has(*(self.roles - OWN_ONLY))
        if not is_let_in_as_staff and not all(_is_own(by, *named) for named in request.path_params.items()):
            return NotFound("There is nothing here for a student or a guardian but what is their own.")
        return None

    def _refuse(self, request: Request, by: access.Actor) -> None:
        audit.security_event(
            request.app.state.database,
            "door.refused",
            "door",
            self.path,
            district_id=by.district_id,
            account_id=by.account_id,
            role=by.leading_role,
            method=request.method,
        )


def _is_own(by: access.Actor, parameter: str, value: str) -> bool:
    return bool(by.own) and by.may_name(parameter, value)


async def _in_thread(request: Request, function: Callable[..., _R], *arguments: object) -> _R:
    return await asyncio.get_running_loop().run_in_executor(request.app.state.threads, function, *arguments)


class Door(APIRouter):
    """Makes the routes of one resource. Each states its roles: there is no default."""

    def __init__(self, *, prefix: str = "", tag: str) -> None:
        super().__init__(prefix=prefix, tags=[tag], route_class=DoorRoute)

    def at(
        self,
        method: Literal["GET", "POST", "PUT", "DELETE"],
        path: str,
        *,
        roles: Collection[str],
        status: int = 200,
        repeats: Repeats = "thing",
        is_streamed: bool = False,
        is_conditional: bool = False,
        is_guarded: bool = False,
        is_brief: bool = False,
        **more: Any,
    ) -> Callable[[_Handler], _Handler]:
        """Declares a route; `roles` open it, or PUBLIC; where it `is_guarded`, wrong secrets are counted.

        One that `is_brief` takes milliseconds, and many come at once: they let each other go first.
        """
        allowed = frozenset(roles)
        if not allowed or not (allowed == PUBLIC or allowed <= access.ROLES):
            raise ValueError(f"{method} {path} must state its roles, of those there are")
        shows = kinds.SHOWS.get((method, self.prefix + path))
        extra = {"x-roles": sorted(allowed), "x-shows": shows, **more.pop("openapi_extra", {})}
        if allowed != PUBLIC:
            extra |= {"security": [{"bearer": []}, {"session": []}]}
        documented = _documented(method, allowed, is_streamed, is_conditional, is_guarded)
        responses = {**documented, **more.pop("responses", {})}

        def make(handler: _Handler) -> _Handler:
            self.add_api_route(
                path,
                answering(handler),
                methods=[method],
                status_code=status,
                responses=responses,
                openapi_extra=extra,
                description=_described(handler, allowed),
                **more,
            )
            made = self.routes[-1]
            if not isinstance(made, DoorRoute):
                raise TypeError("a door makes door routes")
            made.roles, made.repeats = allowed, repeats
            made.is_streamed, made.is_guarded, made.is_brief = is_streamed, is_guarded, is_brief
            return handler

        return make

    def get(self, path: str, **more: Any) -> Callable[[_Handler], _Handler]:
        return self.at("GET", path, **more)

    def post(self, path: str, **more: Any) -> Callable[[_Handler], _Handler]:
        return self.at("POST", path, **more)

    def put(self, path: str, **more: Any) -> Callable[[_Handler], _Handler]:
        return self.at("PUT", path, **more)

    def delete(self, path: str, **more: Any) -> Callable[[_Handler], _Handler]:
        return self.at("DELETE", path, **more)


_STATUS_WORDS = {
    401: "Nobody: no session or token, one that is over, or a secret that is not right.",
    403: "None of the caller's roles opens this, it asks for a need to know, or it came from a page that is not ours.",
    404: "Absent, or not for this caller: the two look alike.",
    408: "The body did not come in time.",
    409: "It cannot be done in the present state, or somebody else was faster.",
    412: "The thing has changed since it was read (If-Match).",
    413: "The body is too large.",
    422: "Something in the request cannot be taken; every problem is named.",
    429: "Too many wrong attempts; see Retry-After.",
    503: "Too busy, or the database does not answer; see Retry-After.",
}


def _documented(
    method: str, roles: frozenset[str], is_streamed: bool, is_conditional: bool, is_guarded: bool
) -> dict[int | str, dict[str, Any]]:
    statuses = {503} if roles == PUBLIC and not is_guarded else {401, 403, 404, 408, 409, 413, 422, 503}
    if method != "GET":
        statuses |= {409}
    if is_guarded:
        statuses |= {429}
    if is_conditional:
        statuses |= {412}
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {
            "description": _STATUS_WORDS[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in sorted(statuses)
    }


def _described(handler: Callable[..., object], roles: frozenset[str]) -> str:
    words = (handler.__doc__ or "").strip()
    who = "anybody" if roles == PUBLIC else ", ".join(sorted(roles))
    return f"{words}\n\nRoles: {who}."


# -- what is written in requests ------------------------------------------------------------------------


def _plain(text: str) -> str:
    if "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("This holds a sign that is no text.")
    return text


def _text_only(value: object) -> object:
    if isinstance(value, int | float | bytes):
        raise ValueError("Write a time as text, like 2026-09-01T08:00:00+08:00.")
    return value


def _in_this_century(moment: dt.datetime) -> dt.datetime:
    if not 2000 <= moment.year < 2100:
        raise ValueError("This time is out of range.")
    return moment


def _uuid_text(value: object) -> object:
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            raise ValueError("This is no id.") from None
    return value


Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Words = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_plain)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text_only), AfterValidator(_in_this_century)]
Id = Annotated[uuid.UUID, BeforeValidator(_uuid_text)]
Tier = Literal["none", "yellow", "orange", "red"]
RaisedTier = Literal["yellow", "orange", "red"]
Sender = Annotated[str, Query(max_length=200), AfterValidator(_plain)]

TIERS: Sequence[Tier] = ("none", "yellow", "orange", "red")


def tier_name(tier: int) -> Tier:
    return TIERS[tier]


class Body(BaseModel):
    """What is sent: nothing is guessed, and nothing that was not asked for is taken."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """What is shown."""

    model_config = ConfigDict(from_attributes=True)


# -- schools --------------------------------------------------------------------------------------------


def school_id(session: Session, code: str | None) -> uuid.UUID | None:
    """The school of that code within the scope; without a code the one school of the scope, or the whole district.

    Raises NotFound for a school that is not there or not the caller's, Refused when one of several must be named.
    """
    scope = access.scope_of(session)
    if code is None:
        if scope.schools is None:
            return None
        if len(scope.schools) != 1:
            raise Refused("Say for which school this is.", code="school_missing")
        return next(iter(scope.schools))
    found = session.scalar(select(School.id).where(School.district_id == scope.district_id, School.code == code))
    if found is None or (scope.schools is not None and found not in scope.schools):
        raise NotFound("There is no such school.")
    return found


_CODES = Statement("select id, code from schools where district_id = :district")


def school_codes(session: Session) -> dict[uuid.UUID, str]:
    """The code of every school of the district."""
    return {row["id"]: row["code"] for row in _CODES.run(session, {"district": access.scope_of(session).district_id})}


# -- lists ----------------------------------------------------------------------------------------------


class Page:
    """A page of a list by keyset: where to begin, how much, and the link to what follows."""

    def __init__(self, request: Request, response: Response, limit: int, after: str | None) -> None:
        self.limit = limit
        self._request, self._response = request, response
        self._after = after

    def after(self, *kinds: Callable[[str], Any]) -> tuple[Any, ...] | None:
        """The last key of the page before, each part understood by its kind. Raises InvalidInput."""
        if self._after is None:
            return None
        try:
            parts = json.loads(base64.urlsafe_b64decode(self._after + "=" * (-len(self._after) % 4)))
            if not isinstance(parts, list) or len(parts) != len(kinds):
                raise ValueError
            return tuple(kind(_plain(str(part))) for kind, part in zip(kinds, parts, strict=True))
        except (ValueError, TypeError, RecursionError):
            words = "Take this from the link to the next page, as it stands."
            raise InvalidInput(words, problems=[Problem("invalid_cursor", words, column="after")]) from None

    def next(self, *key: object) -> None:
        """Says that more follows after this key."""
        text = json.dumps([str(part) for part in key]).encode()
        cursor = base64.urlsafe_b64encode(text).decode().rstrip("=")
        asked = [(name, value) for name, value in self._request.query_params.multi_items() if name != "after"]
        query = urlencode([*asked, ("after", cursor)])
        self._response.headers["Link"] = f'<{self._request.scope["path"]}?{query}>; rel="next"'

    def cut(self, rows: Sequence[_R], key: Callable[[_R], Sequence[object]]) -> Sequence[_R]:
        """Of `limit + 1` rows those of this page; the link when one is left over."""
        if len(rows) > self.limit:
            self.next(*key(rows[self.limit - 1]))
        return rows[: self.limit]


async def _page(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=400, description="From the link to the next page.")] = None,
) -> Page:
    return Page(request, response, limit, after)


PageDep = Annotated[Page, Depends(_page)]


def moment(text: str) -> dt.datetime:
    """A moment out of a cursor."""
    found = dt.datetime.fromisoformat(text)
    if found.tzinfo is None or not 2000 <= found.year < 2100:
        raise ValueError(text)
    return found


def small(text: str) -> int:
    """A number out of a cursor that any column can hold."""
    found = int(text[:12])
    if not -(2**15) <= found < 2**15:
        raise ValueError(text)
    return found


def small_row(text: str) -> int:
    """A row's number out of a cursor."""
    found = int(text[:12])
    if not -1 <= found < 2**31:
        raise ValueError(text)
    return found


# -- versions -------------------------------------------------------------------------------------------


def etag(view: BaseModel) -> str:
    """A version of what is shown: it changes when anything of it does."""
    return f'"{hashlib.sha256(view.model_dump_json().encode()).hexdigest()[:24]}"'


def must_match(request: Request, current: str, now_stands: str) -> None:
    """Raises PreconditionFailed when the caller names another version; `now_stands` says what is there instead."""
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    if current not in [part.strip() for part in wanted.split(",")]:
        raise PreconditionFailed(f"This has changed since you read it. {now_stands}")


def located(response: Response, address: str) -> None:
    response.headers["Location"] = address


def problem_schema() -> Mapping[str, Any]:
    """The schema that every documented error names."""
    return ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
