"""The directory of places that a student can be referred to."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import Field

from alerts import destinations
from api.deps import CARING, ActorDep, Body, Door, Id, NowDep, SessionDep, View, Word, located

door = Door(prefix="/v1/destinations", tag="destinations")

Kind = Literal["counselling_centre", "hospital", "guidance_team", "hotline"]
READING = CARING | {"principal", "school_admin", "duty_officer", "district_admin"}


class DestinationBody(Body):
    kind: Kind
    name: Word
    phone: Annotated[Word | None, Field(max_length=60)] = None
    address: Word | None = None
    hours: Word | None = None
    is_emergency: bool = False


class DestinationView(View):
    id: uuid.UUID
    kind: str
    name: str
    phone: str | None
    address: str | None
    hours: str | None
    is_emergency: bool
    retired_at: dt.datetime | None


class DestinationsView(View):
    destinations: list[DestinationView]


@door.get("", roles=READING)
def listed(session: SessionDep, kind: Annotated[Kind | None, Query()] = None) -> DestinationsView:
    """The places there are, those open day and night first."""
    found = destinations.listed(session, kind=kind)
    return DestinationsView(destinations=[DestinationView.model_validate(each) for each in found])


@door.post("", roles={"district_admin"}, status=201)
def add(body: DestinationBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> DestinationView:
    """Puts a place into the directory."""
    made = destinations.add(session, **body.model_dump(), by=by, now=now)
    located(response, f"/v1/destinations/{made.id}")
    return DestinationView.model_validate(made)


@door.get("/{destination_id}", roles=READING)
def show(destination_id: Id, session: SessionDep) -> DestinationView:
    """One place, retired or not."""
    return DestinationView.model_validate(destinations.get(session, destination_id))


@door.delete("/{destination_id}", roles={"district_admin"})
def retire(destination_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> DestinationView:
    """Nobody is referred there any more."""
    return DestinationView.model_validate(destinations.retire(session, destination_id, by=by, now=now))
