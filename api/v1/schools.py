"""Schools of the district."""

import uuid

from fastapi import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.deps import STAFF, ActorDep, Body, Door, Id, PageDep, SessionDep, View, Word, located
from screening import access, staff
from screening.errors import NotFound
from screening.models import School

door = Door(prefix="/v1/schools", tag="schools")


class SchoolView(View):
    id: uuid.UUID
    code: str
    name: str


class SchoolsView(View):
    schools: list[SchoolView]


class SchoolBody(Body):
    code: Word
    name: Word


@door.get("", roles=STAFF)
def listed(session: SessionDep, page: PageDep) -> SchoolsView:
    """The schools at which the caller has a role, by code."""
    (after,) = page.after(str) or (None,)
    scope = access.scope_of(session)
    wanted = select(School).where(School.district_id == scope.district_id).order_by(School.code).limit(page.limit + 1)
    if scope.schools is not None:
        wanted = wanted.where(School.id.in_(scope.schools))
    if after is not None:
        wanted = wanted.where(School.code > after)
    rows = page.cut(list(session.scalars(wanted)), lambda school: (school.code,))
    return SchoolsView(schools=[SchoolView.model_validate(school) for school in rows])


@door.post("", roles={"district_admin"}, status=201)
def create(body: SchoolBody, session: SessionDep, by: ActorDep, response: Response) -> SchoolView:
    """A new school of the district."""
    made = staff.create_school(session, body.code, body.name, by=by)
    located(response, f"/v1/schools/{made.id}")
    return SchoolView.model_validate(made)


@door.get("/{school_id}", roles=STAFF)
def show(school_id: Id, session: SessionDep) -> SchoolView:
    """One school."""
    return SchoolView.model_validate(_one(session, school_id))


def _one(session: Session, school_id: uuid.UUID) -> School:
    scope = access.scope_of(session)
    found = session.get(School, (scope.district_id, school_id))
    if found is None or (scope.schools is not None and school_id not in scope.schools):
        raise NotFound("There is no such school.")
    return found
