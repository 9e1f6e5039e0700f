"""Signing in and out: staff by password and second factor, students and guardians by a code, and one's own sessions."""

import datetime as dt
import io
import uuid
from collections.abc import Sequence
from typing import Annotated, Literal

import segno
from fastapi import Request, Response
from pydantic import Field

from api import auth
from api.deps import PUBLIC, ActorDep, Body, DatabaseDep, Door, Id, SessionDep, View
from screening import access, accounts, codes, sessions, signing_in
from screening.db import Database
from screening.models import SignIn
from screening.signing_in import Enrollment, Entered

door = Door(prefix="/v1/sessions", tag="sessions")

WITH_ACCOUNT = access.ROLES - {"guardian", "student"}
Secret = Annotated[str, Field(min_length=1, max_length=400)]
Email = Annotated[str, Field(min_length=3, max_length=250)]
_STATES: dict[sessions.Stage, Literal["signed_in", "second_factor_needed", "enrollment_needed"]] = {
    "whole": "signed_in",
    "second_factor": "second_factor_needed",
    "enrollment": "enrollment_needed",
}


class PasswordBody(Body):
    email: Email
    password: Secret


class SecondFactorBody(Body):
    """`challenge` from the first step; `code` six digits, or a recovery code."""

    challenge: Secret
    code: Secret


class CodeBody(Body):
    """A link's code, or a short code with its second fact: a birth date (20120315), or the end of a phone number."""

    code: Secret
    fact: Secret | None = None


class InvitationBody(Body):
    invitation: Secret
    password: Secret


class ProofBody(Body):
    code: Secret


class EnrollmentView(View):
    """What an authenticator app needs, to type or to scan; shown this once."""

    secret: str
    address: str
    qr: str


class EnteredView(View):
    """How far it came. Signed in: the cookie is set, and `csrf_token` goes with every change as X-CSRF-Token.

    Else `challenge` continues at /v1/sessions/second-factor, within minutes.
    """

    state: Literal["signed_in", "second_factor_needed", "enrollment_needed"]
    expires_at: dt.datetime
    csrf_token: str | None = None
    challenge: str | None = None
    enrollment: EnrollmentView | None = None
    recovery_codes: Sequence[str] = ()


class OpenedView(View):
    """A student's or a guardian's session, and the one thing it is for."""

    kind: Literal["student", "guardian"]
    expires_at: dt.datetime
    csrf_token: str
    student_id: uuid.UUID
    assignment_id: uuid.UUID | None


class SessionView(View):
    id: uuid.UUID
    created_at: dt.datetime
    seen_at: dt.datetime
    expires_at: dt.datetime
    proved_at: dt.datetime | None
    is_this: bool


class SessionsView(View):
    sessions: list[SessionView]


class CurrentView(SessionView):
    csrf_token: str


@door.post("", roles=PUBLIC, is_guarded=True)
def enter(body: PasswordBody, request: Request, response: Response, database: DatabaseDep) -> EnteredView:
    """The first step: address and password."""
    entered = signing_in.sign_in(database, body.email, body.password, auth.whence(request))
    return shown(entered, request, response, database)


@door.post("/second-factor", roles=PUBLIC, is_guarded=True)
def complete(body: SecondFactorBody, request: Request, response: Response, database: DatabaseDep) -> EnteredView:
    """The second step; the first time it sets the second factor up, and answers recovery codes."""
    entered = signing_in.complete(database, body.challenge, body.code, auth.whence(request))
    return shown(entered, request, response, database)


@door.post("/code", roles=PUBLIC, is_guarded=True)
def by_code(body: CodeBody, request: Request, response: Response, database: DatabaseDep) -> OpenedView:
    """A student's way to their form, a guardian's to their child's consent; what was begun with it before ends."""
    opened = codes.enter(database, body.code, auth.whence(request), fact=body.fact)
    auth.keep(request, response, "session", opened.secret)
    return OpenedView(
        kind=opened.kind,
        expires_at=opened.until,
        csrf_token=auth.csrf_token(database, opened.secret),
        student_id=opened.student_id,
        assignment_id=opened.assignment_id,
    )


@door.post("/invitation", roles=PUBLIC, is_guarded=True, status=204)
def accept(body: InvitationBody, database: DatabaseDep) -> None:
    """Sets a password by an invitation, which is good once; then one signs in with it."""
    accounts.accept(database, body.invitation, body.password)


@door.get("", roles=WITH_ACCOUNT)
def listed(session: SessionDep, by: ActorDep) -> SessionsView:
    """One's own sessions that are not over."""
    found = sessions.listed(session, by.account_id) if by.account_id else ()
    return SessionsView(sessions=[_session(one, by) for one in found])


@door.get("/current", roles=access.ROLES)
def current(session: SessionDep, by: ActorDep, request: Request, database: DatabaseDep) -> CurrentView:
    """The session in which this is asked; 404 for the bearer of a token."""
    found = sessions.get(session, by)
    token = auth.csrf_token(database, request.state.credential.secret)
    return CurrentView(**_session(found, by).model_dump(), csrf_token=token)


@door.delete("/current", roles=access.ROLES, status=204)
def leave(session: SessionDep, by: ActorDep, request: Request, response: Response) -> None:
    """Signs out."""
    sessions.end(session, sessions.get(session, by).id, by=by)
    auth.drop(request, response, "session")


@door.delete("/{session_id}", roles=WITH_ACCOUNT, status=204)
def end(session_id: Id, session: SessionDep, by: ActorDep) -> None:
    """Ends another of one's own sessions: a lost laptop, a shared computer."""
    sessions.end(session, session_id, by=by)


@door.post("/current/proof", roles=WITH_ACCOUNT, is_guarded=True, repeats="again", status=204)
def prove(body: ProofBody, request: Request, by: ActorDep, database: DatabaseDep) -> None:
    """Shows the second factor again, before what asks for it."""
    signing_in.prove(database, body.code, auth.whence(request), by=by)


def shown(entered: Entered, request: Request, response: Response, database: Database) -> EnteredView:
    """How far somebody came; who is signed in gets a cookie of a session that nobody held before."""
    if entered.stage != "whole":
        return EnteredView(
            state=_STATES[entered.stage],
            expires_at=entered.until,
            challenge=entered.secret,
            enrollment=None if entered.enrollment is None else _enrollment(entered.enrollment),
        )
    auth.keep(request, response, "session", entered.secret)
    if entered.device:
        auth.keep_device(request, response, entered.device)
    return EnteredView(
        state="signed_in",
        expires_at=entered.until,
        csrf_token=auth.csrf_token(database, entered.secret),
        recovery_codes=entered.recovery_codes,
    )


def _enrollment(made: Enrollment) -> EnrollmentView:
    return EnrollmentView(secret=made.secret, address=made.address, qr=qr(made.address))


def qr(address: str) -> str:
    """An address as a QR code, in SVG that needs no style of its own."""
    drawn = io.BytesIO()
    segno.make(address, micro=False, error="m").save(drawn, kind="svg", xmldecl=False, scale=4, border=4)
    return drawn.getvalue().decode()


def _session(found: SignIn, by: access.Actor) -> SessionView:
    return SessionView(
        id=found.id,
        created_at=found.created_at,
        seen_at=found.seen_at,
        expires_at=found.expires_at,
        proved_at=found.proved_at,
        is_this=found.id == by.session_id,
    )
