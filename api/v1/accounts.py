"""People and the roles they hold; the district's administrator gives and takes them."""

import uuid
from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.deps import ActorDep, Body, Door, Id, Sender, SessionDep, View, Word, located, school_codes, school_id
from screening import access, staff
from screening.errors import NotFound, Refused
from screening.models import Staff, StaffRole

door = Door(prefix="/v1/accounts", tag="accounts")

GIVING = frozenset({"district_admin"})
Role = Literal[
    "district_admin",
    "district_analyst",
    "duty_officer",
    "school_admin",
    "principal",
    "lead",
    "counselor",
    "class_teacher",
    "privacy_officer",
    "referral_partner",
    "staff_member",
    "auditor",
]
"""Roles that a district gives: operators are made on the operator's own machine."""


class RoleBody(Body):
    """`school` null: the whole district, for roles that are held there."""

    role: Role
    school: Word | None = None


class AccountBody(Body):
    email: Annotated[str, Field(pattern=r"^[^@\s\x00]{1,120}@[^@\s\x00]{1,120}$")]
    name: Word
    roles: Annotated[list[RoleBody], Field(max_length=20, default_factory=list)]


class RoleView(View):
    role: str
    school: str | None


class AccountView(View):
    """Somebody on the staff: the id under which acts are told."""

    id: uuid.UUID
    name: str
    roles: list[RoleView]


class MeView(View):
    id: uuid.UUID | None
    district_id: uuid.UUID
    roles: list[RoleView]


@door.post("", roles=GIVING, status=201)
def create(body: AccountBody, session: SessionDep, by: ActorDep, response: Response) -> AccountView:
    """An account for an address, with roles."""
    hired = staff.hire(session, body.email, body.name, by=by)
    for each in body.roles:
        staff.grant(session, hired, each.role, _at(session, each.school), by=by)
    located(response, f"/v1/accounts/{hired.id}")
    return _shown(session, hired.id)


@door.get("/me", roles=access.ROLES)
def me(session: SessionDep, by: ActorDep) -> MeView:
    """Who the token is, and in which roles at this moment."""
    codes = school_codes(session)
    return MeView(
        id=by.staff_id,
        district_id=by.district_id,
        roles=[RoleView(role=at.role, school=codes.get(at.school_id) if at.school_id else None) for at in by.roles],
    )


@door.get("/{staff_id}", roles=GIVING)
def show(staff_id: Id, session: SessionDep) -> AccountView:
    """Somebody and the roles held now."""
    return _shown(session, staff_id)


@door.post("/{staff_id}/roles", roles=GIVING, status=201)
def grant(staff_id: Id, body: RoleBody, session: SessionDep, by: ActorDep, response: Response) -> AccountView:
    """Gives a role."""
    _must_be_here(session, staff_id)
    staff.grant(session, staff_id, body.role, _at(session, body.school), by=by)
    located(response, f"/v1/accounts/{staff_id}")
    return _shown(session, staff_id)


@door.delete("/{staff_id}/roles/{role}", roles=GIVING)
def revoke(staff_id: Id, role: Role, session: SessionDep, by: ActorDep, school: Sender | None = None) -> AccountView:
    """Takes a role away, from the next request on."""
    _must_be_here(session, staff_id)
    if role == "district_admin" and staff_id == by.staff_id:
        raise Refused("Somebody else has to take this role from you.", code="own_role")
    staff.revoke(session, staff_id, role, _at(session, school), by=by)
    return _shown(session, staff_id)


def _at(session: Session, school: str | None) -> uuid.UUID | None:
    return None if school is None else school_id(session, school)


def _must_be_here(session: Session, staff_id: uuid.UUID) -> None:
    if session.get(Staff, (access.scope_of(session).district_id, staff_id)) is None:
        raise NotFound("There is nobody of that name on the staff.")


def _shown(session: Session, staff_id: uuid.UUID) -> AccountView:
    session.flush()
    codes = school_codes(session)
    held = session.execute(
        select(StaffRole.role, StaffRole.school_id)
        .where(
            StaffRole.district_id == access.scope_of(session).district_id,
            StaffRole.staff_id == staff_id,
            StaffRole.until_at.is_(None),
        )
        .order_by(StaffRole.role, StaffRole.school_id)
    )
    return AccountView(
        id=staff_id,
        name=staff.name_of(session, staff_id),
        roles=[RoleView(role=row.role, school=codes.get(row.school_id) if row.school_id else None) for row in held],
    )
