"""Proof of identity: the bearer token of a request becomes an actor with the roles of this moment."""

import re

from starlette.requests import HTTPConnection

from api.errors import Unauthenticated
from screening import access, staff
from screening.db import Database

_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_\-]{20,100})")
_DETAIL = "Send a valid token: Authorization: Bearer."


def token_of(request: HTTPConnection) -> str:
    """The bearer token that came along. Raises Unauthenticated."""
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        raise Unauthenticated(_DETAIL)
    return found[1]


def actor_of(database: Database, token: str) -> access.Actor:
    """Who bears the token; asked anew for each request, so that what was revoked ends at once."""
    found = staff.actor_by_token(database, token)
    if found is None:
        raise Unauthenticated(_DETAIL)
    return found
