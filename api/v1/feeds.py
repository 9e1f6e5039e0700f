"""One's own promised contacts as a calendar feed: an address for the phone, made, looked at and ended."""

import datetime as dt

from fastapi import Request, Response

from alerts import feeds
from api.deps import CARING, PUBLIC, ActorDep, DatabaseDep, Door, NowDep, SessionDep, View
from screening import db
from screening.errors import NotFound

door = Door(prefix="/v1/feeds", tag="feeds")
calendar_door = Door(prefix="/calendar", tag="feeds")


class FeedView(View):
    made_at: dt.datetime


class MadeView(FeedView):
    """`address` is shown this once: whoever knows it reads the times."""

    address: str


@door.post("", roles=CARING, status=201, repeats="again")
def make(request: Request, session: SessionDep, by: ActorDep, now: NowDep) -> MadeView:
    """A new address, in place of an earlier one."""
    made, token = feeds.make(session, by=by, now=now)
    return MadeView(made_at=made.made_at, address=f"{request.app.state.settings.base_url}/calendar/{token}.ics")


@door.get("", roles=CARING)
def show(session: SessionDep, by: ActorDep) -> FeedView:
    """Whether there is one, and since when."""
    found = feeds.standing(session, by.account_id)
    if found is None:
        raise NotFound("There is no feed.")
    return FeedView.model_validate(found)


@door.delete("", roles=CARING, status=204)
def revoke(session: SessionDep, by: ActorDep, now: NowDep) -> None:
    """Ends it at once."""
    feeds.revoke(session, by=by, now=now)


@calendar_door.get("/{token}.ics", roles=PUBLIC, is_guarded=True, response_class=Response)
def read(token: str, request: Request, database: DatabaseDep) -> Response:
    """The times of one's promised contacts, with links that ask for a sign-in; no name and no other word."""
    with database.unit() as session:
        now = db.now(session)
    content = feeds.read(database, token, request.app.state.settings, now=now)
    return Response(content, media_type="text/calendar; charset=utf-8")
