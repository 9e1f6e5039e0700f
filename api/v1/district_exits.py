"""A district that leaves: asked for by one, confirmed by another; then whoever runs the service hands it over."""

import datetime as dt
import uuid

from fastapi import Response

from api.deps import ActorDep, Door, Id, NowDep, SessionDep, View, located
from screening import leaving

door = Door(prefix="/v1/district-exits", tag="district-exits")


class ExitView(View):
    id: uuid.UUID
    asked_by: uuid.UUID
    asked_at: dt.datetime
    confirmed_by: uuid.UUID | None
    confirmed_at: dt.datetime | None
    exported_at: dt.datetime | None


class ExitsView(View):
    exits: list[ExitView]


@door.get("", roles=leaving.ASKING | {"auditor"})
def listed(session: SessionDep, now: NowDep) -> ExitsView:
    """The exit that stands, if any."""
    found = leaving.latest(session, now=now)
    return ExitsView(exits=[] if found is None else [ExitView.model_validate(found)])


@door.post("", roles=leaving.ASKING, status=201, repeats="again")
def ask(session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> ExitView:
    """Asks that the district leave; needs the second factor shown just now."""
    made = leaving.ask(session, by=by, now=now)
    located(response, "/v1/district-exits")
    return ExitView.model_validate(made)


@door.post("/{exit_id}/confirmation", roles=leaving.ASKING, repeats="again")
def confirm(exit_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> ExitView:
    """The second person's word; needs the second factor shown just now."""
    return ExitView.model_validate(leaving.confirm(session, exit_id, by=by, now=now))
