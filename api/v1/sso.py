"""Signing in through another service: to it and back."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from api import auth
from api.deps import PUBLIC, DatabaseDep, Door
from api.v1.sessions import EnteredView, shown
from screening import db, signing_in
from screening.db import Database
from screening.errors import NotFound, NotSignedIn
from screening.settings import Settings, SignInService

door = Door(prefix="/v1/sessions/sso", tag="sessions")

Brought = Annotated[str, Query(max_length=2_000)]
_ELSEWHERE: dict[int | str, dict[str, Any]] = {303: {"description": "To the sign-in service."}}


@door.get("", roles=PUBLIC, is_guarded=True, status=303, response_class=Response, responses=_ELSEWHERE)
def begin(request: Request, database: DatabaseDep) -> Response:
    """Sends the browser to the sign-in service; 404 where there is none."""
    from api import sso

    service = _service(request)
    address, attempt = sso.begin(service, _callback(request), now=_now(database))
    response = RedirectResponse(address, 303)
    auth.keep(request, response, "sso", sso.seal(database.master_key, attempt), seconds=sso.SECONDS)
    return response


@door.get("/callback", roles=PUBLIC, is_guarded=True)
def callback(
    request: Request, response: Response, database: DatabaseDep, code: Brought = "", state: Brought = ""
) -> EnteredView:
    """Where the sign-in service sends the browser back to: signed in, or on to our own second factor."""
    from api import sso

    service = _service(request)
    attempt = sso.unseal(database.master_key, auth.kept(request, "sso"))
    if not code:
        raise NotSignedIn("The sign-in service let nobody in. Begin again.")
    vouched = sso.finish(service, _callback(request), attempt, code=code, state=state, now=_now(database))
    entered = signing_in.sign_in_by(
        database,
        vouched.issuer,
        vouched.subject,
        verified_email=vouched.verified_email,
        has_second_factor=vouched.has_second_factor,
        whence=auth.whence(request),
    )
    auth.drop(request, response, "sso")
    return shown(entered, request, response, database)


def _service(request: Request) -> SignInService:
    settings: Settings = request.app.state.settings
    if settings.sign_in_service is None:
        raise NotFound("No other sign-in service is set up.")
    return settings.sign_in_service


def _callback(request: Request) -> str:
    settings: Settings = request.app.state.settings
    return f"{settings.base_url}/v1/sessions/sso/callback"


def _now(database: Database) -> int:
    with database.unit() as session:
        return int(db.now(session).timestamp())
