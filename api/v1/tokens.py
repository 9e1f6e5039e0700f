"""Bearer tokens for machines: made in a session, for some roles or one purpose; whoever holds one can end it."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field

from api.deps import ActorDep, Body, Door, Id, NowDep, SessionDep, View
from screening import access, staff
from screening.access import Actor
from screening.errors import Refused

door = Door(prefix="/v1/tokens", tag="tokens")

WITH_ACCOUNT = access.ROLES - {"guardian", "student"}
MOST_MINUTES = 366 * 24 * 60
RoleName = Annotated[str, Field(min_length=1, max_length=40)]


class TokenBody(Body):
    """`roles`: those of one's own that act through it (null: all). `sending` takes files, `reading` changes nothing."""

    minutes: Annotated[int, Field(ge=1, le=MOST_MINUTES)]
    purpose: Literal["everything", "reading", "sending"] = "everything"
    roles: Annotated[list[RoleName], Field(min_length=1, max_length=20)] | None = None


class TokenView(View):
    id: uuid.UUID
    purpose: str
    roles: list[str] | None
    created_at: dt.datetime
    expires_at: dt.datetime


class IssuedView(View):
    """The token itself is shown this once."""

    token: str


class TokensView(View):
    tokens: list[TokenView]


@door.post("", roles=WITH_ACCOUNT, status=201, repeats="again")
def issue(body: TokenBody, session: SessionDep, by: ActorDep, now: NowDep) -> IssuedView:
    """A token for a machine that acts for oneself. Asked for in a session only: no token makes another."""
    if by.session_id is None or by.account_id is None:
        raise Refused("Sign in to make a token; a token makes none.", code="session_needed")
    made = staff.issue_token(
        session, by.account_id, body.minutes, by=by, now=now, roles=body.roles, purpose=body.purpose
    )
    return IssuedView(token=made)


@door.get("", roles=WITH_ACCOUNT)
def listed(session: SessionDep, by: ActorDep) -> TokensView:
    """One's own tokens that are still good."""
    return TokensView(tokens=[TokenView.model_validate(one) for one in staff.tokens_of(session, _account(by))])


@door.delete("/current", roles=access.ROLES, status=204)
def revoke(request: Request, session: SessionDep, by: ActorDep, now: NowDep) -> None:
    """Ends the token that came with this request, at once."""
    staff.revoke_token(session, request.state.credential.secret, by=by, now=now)


@door.delete("/{token_id}", roles=WITH_ACCOUNT, status=204)
def end(token_id: Id, session: SessionDep, by: ActorDep) -> None:
    """Ends one of one's own tokens."""
    staff.revoke_token_of(session, _account(by), token_id, by=by)


def _account(by: Actor) -> uuid.UUID:
    return by.account_id or by.person
