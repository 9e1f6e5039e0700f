"""What went wrong, answered as RFC 9457 problems: one map from the house's errors to statuses and words."""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api import logs
from instruments import catalogue
from screening.errors import (
    AccessNeeded,
    Conflict,
    HouseError,
    InvalidUpload,
    NotFound,
    NotSignedIn,
    Problem,
    Refused,
    ServiceBusy,
    TooManyAttempts,
)
from screening.models import Base

MEDIA_TYPE = "application/problem+json"
NOTHING_HERE = "There is nothing here, or it is not for you."
RETRY_AFTER_SECONDS = 2
MOST_PROBLEMS_SHOWN = 1_000

WRONG_INPUT = frozenset(
    {
        "extent_missing",
        "in_the_future",
        "in_the_past",
        "no_contact",
        "not_for_guardians",
        "note_missing",
        "parts_missing",
        "reason_missing",
        "school_missing",
        "school_not_wanted",
        "tier_lowered",
        "too_long",
        "unknown_contact",
        "unknown_urgency",
        "unknown_school",
        "unknown_owner",
        "unknown_kind",
        "unknown_entry",
        "unknown_basis",
        "unknown_attendance",
        "plan_incomplete",
        "form_incomplete",
        "unknown_mode",
        "unknown_outcome",
        "unknown_purpose",
        "unknown_reason",
        "unknown_role",
        "unknown_tier",
    }
)
"""Codes of `Refused` that blame what was said, not the state of the house."""


class Unauthenticated(HouseError):
    """Nobody, or nobody any more."""

    code = "unauthenticated"


class Forbidden(HouseError):
    """Somebody, but in none of the roles of this door."""

    code = "forbidden"


class InvalidInput(HouseError):
    """A parameter or a body that cannot be taken."""

    code = "invalid_input"


class TooLarge(HouseError):
    """More bytes than this door takes."""

    code = "too_large"


class TooSlow(HouseError):
    """A body that does not come."""

    code = "too_slow"


class IdempotencyMismatch(HouseError):
    """The same key with another request."""

    code = "idempotency_mismatch"


class PreconditionFailed(HouseError):
    """The thing is not what the caller last saw."""

    code = "precondition_failed"


STATUSES: Sequence[tuple[type[HouseError], int]] = (
    (Unauthenticated, 401),
    (NotSignedIn, 401),
    (Forbidden, 403),
    (AccessNeeded, 403),
    (NotFound, 404),
    (TooSlow, 408),
    (PreconditionFailed, 412),
    (TooLarge, 413),
    (InvalidInput, 422),
    (IdempotencyMismatch, 422),
    (InvalidUpload, 422),
    (Conflict, 409),
    (Refused, 409),
    (TooManyAttempts, 429),
    (ServiceBusy, 503),
)


class ProblemView(BaseModel):
    """One thing that is wrong: where it stands, and what to do."""

    sheet: str | None = None
    row: int | None = None
    column: str | None = None
    code: str
    message: str

    @classmethod
    def of(cls, problem: Problem) -> "ProblemView":
        return cls(
            sheet=problem.sheet, row=problem.row, column=problem.column, code=problem.code, message=problem.message
        )


class ProblemDetails(BaseModel):
    """RFC 9457, with every problem at once."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    problems: list[ProblemView]


def status_of(error: HouseError) -> int:
    """The status that says it."""
    if isinstance(error, Refused) and error.code in WRONG_INPUT:
        return 422
    if isinstance(error, InvalidUpload) and error.code == "too_large":
        return 413
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def answer(
    status: int,
    code: str,
    detail: str,
    problems: Iterable[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    body = ProblemDetails(
        type=f"urn:screening:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        problems=[ProblemView.of(problem) for problem in list(problems)[:MOST_PROBLEMS_SHOWN]],
    )
    content = json.dumps(body.model_dump(), ensure_ascii=True).encode()
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def of_house(error: HouseError) -> Response:
    """The house's error as a response; absent and forbidden things look alike to the letter."""
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, TooManyAttempts):
        headers["Retry-After"] = str(error.wait_seconds)
    if status == 404:
        return answer(404, NotFound.code, NOTHING_HERE)
    return answer(status, error.code, error.detail, map(_without_own_words, error.problems), headers)


def _without_own_words(problem: Problem) -> Problem:
    """An item that no form has is a word of whoever sent it."""
    if problem.code != "unknown_item" or problem.column is None:
        return problem
    return replace(problem, column=_told(problem.column, is_sent=True))


def of_unknown(error: BaseException, *, method: str, route: str) -> Response:
    """What nobody foresaw: written down without its words, and told without them too."""
    logs.get().error("unexpected", error=type(error).__name__, where=logs.where(error), method=method, route=route)
    return answer(500, "unexpected", "Something went wrong here, not with you. It was written down; try again later.")


def install(app: FastAPI) -> None:
    """Teaches the app to answer every error in the house's way."""
    for kind, answering in (
        (HouseError, _house),
        (RequestValidationError, _validation),
        (ResponseValidationError, _unknown),
        (HTTPException, _http),
        (DataError, _data),
        (IntegrityError, _integrity),
        (OperationalError, _busy),
        (InterfaceError, _busy),
        (PoolTimeout, _busy),
        (DBAPIError, _database),
    ):
        app.add_exception_handler(kind, answering)


async def _house(_: Request, error: Exception) -> Response:
    if not isinstance(error, HouseError):
        raise error
    return of_house(error)


async def _validation(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [_problem(found) for found in error.errors()]
    return answer(422, InvalidInput.code, "Some of this cannot be taken; every problem is named.", problems)


async def _http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 400:  # what cannot be parsed at all
        return answer(422, "unreadable_body", "The body cannot be read as what its type says it is.")
    if error.status_code == 404:
        return answer(404, NotFound.code, NOTHING_HERE)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return answer(error.status_code, code, HTTPStatus(error.status_code).description, headers=error.headers)


async def _data(_: Request, __: Exception) -> Response:
    return answer(422, InvalidInput.code, "A value in this is out of its range.")


async def _integrity(request: Request, error: Exception) -> Response:
    logs.get().warning("lost_race", error=type(error).__name__, where=logs.where(error), method=request.method)
    return answer(409, Conflict.code, "Somebody else changed this at the same moment. Look again, then decide.")


async def _busy(request: Request, error: Exception) -> Response:
    logs.get().warning("database_busy", error=type(error).__name__, where=logs.where(error), method=request.method)
    busy = "The service cannot answer just now. Nothing was lost that was confirmed before; try again shortly."
    return answer(503, ServiceBusy.code, busy, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _database(request: Request, error: Exception) -> Response:
    """A link that breaks in the middle of an answer has no code of the database's, and no class of its own."""
    is_cut = isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) is None
    return await _busy(request, error) if is_cut else await _unknown(request, error)


async def _unknown(request: Request, error: Exception) -> Response:
    return of_unknown(error, method=request.method, route=getattr(request.scope.get("route"), "path", ""))


# -- the words of validation ----------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_SPOKEN = frozenset(
    {
        "bool_type",
        "extra_forbidden",
        "greater_than",
        "greater_than_equal",
        "int_type",
        "less_than",
        "less_than_equal",
        "list_type",
        "literal_error",
        "missing",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "string_type",
        "too_long",
        "too_short",
        "value_error",
    }
)
"""Kinds of which pydantic's own words repeat nothing that was sent."""


def _problem(found: Mapping[str, Any]) -> Problem:
    kind, where = str(found["type"]), str(found["loc"][0])
    place = [str(part) if isinstance(part, int) else _told(part, is_sent=where == "body") for part in found["loc"][1:]]
    words = str(found["msg"]).removeprefix("Value error, ") if kind in _SPOKEN else "This cannot be read as it stands."
    return Problem(kind, words, column=".".join(place) or None)


def _told(part: str, *, is_sent: bool) -> str:
    """A part of a place. What stands in a body may be anybody's own word, a name or a number, and is told as `?`."""
    is_known = part in _our_names() if is_sent else _NAME.fullmatch(part) is not None
    return part if is_known else "?"


@functools.cache
def _our_names() -> frozenset[str]:
    """Every name that a body of ours may hold: fields, columns, and the items of all instruments."""
    from api.deps import Body  # it tells its errors by this file

    kinds, names = [Body], set[str]()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        names |= kind.model_fields.keys()
    columns = {column.name for table in Base.metadata.tables.values() for column in table.columns}
    items = {item.id for instrument in catalogue.all() for item in instrument.items}
    return frozenset(names | columns | items)
