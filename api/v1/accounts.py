"""People and the roles they hold; the district's administrator gives and takes them."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Request, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import auth
from api.deps import (
    ActorDep,
    Body,
    DatabaseDep,
    Door,
    Id,
    NowDep,
    Sender,
    SessionDep,
    View,
    Word,
    located,
    school_codes,
    school_id,
)
from screening import access, accounts, signing_in, staff
from screening.errors import NotFound, Refused
from screening.models import Staff, StaffRole

door = Door(prefix="/v1/accounts", tag="accounts")

GIVING = frozenset({"district_admin"})
WITH_ACCOUNT = access.ROLES - {"guardian", "student"}
FRESH = dt.timedelta(minutes=10)
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


class PasswordBody(Body):
    current: Annotated[str, Field(min_length=1, max_length=400)]
    new: Annotated[str, Field(min_length=1, max_length=400)]


class InvitationView(View):
    invitation: str
    link: str
    expires_at: dt.datetime


class RecoveryCodesView(View):
    recovery_codes: list[str]


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


@door.put("/me/password", roles=WITH_ACCOUNT, is_guarded=True, status=204)
def change_password(
    body: PasswordBody, request: Request, response: Response, by: ActorDep, database: DatabaseDep
) -> None:
    """Changes one's own password. Every session and token ends, this one too."""
    signing_in.change_password(database, body.current, body.new, auth.whence(request), by=by)
    auth.drop(request, response, "session")


@door.post("/me/recovery-codes", roles=WITH_ACCOUNT, repeats="again", status=201)
def renew_recovery_codes(session: SessionDep, by: ActorDep, now: NowDep) -> RecoveryCodesView:
    """Fresh recovery codes, shown this once; asks that the second factor was shown in the last ten minutes."""
    if by.account_id is None or by.proved_at is None or now - by.proved_at > FRESH:
        raise Refused("Show your second factor first.", code="proof_needed")
    return RecoveryCodesView(recovery_codes=accounts.issue_recovery_codes(session, by.account_id, by=by))


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


@door.post("/{staff_id}/invitation", roles=GIVING, status=201, repeats="again")
def invite(staff_id: Id, request: Request, session: SessionDep, by: ActorDep) -> InvitationView:
    """A link, shown this once, by which somebody sets a password: the first one, or one in place of a lost one."""
    code, until = accounts.invite(session, staff.account_of(session, staff_id), by=by)
    base = request.app.state.settings.base_url
    return InvitationView(invitation=code, link=f"{base}/welcome#{code}", expires_at=until)


@door.delete("/{staff_id}/second-factor", roles=GIVING, status=204)
def reset_second_factor(staff_id: Id, session: SessionDep, by: ActorDep) -> None:
    """Takes a lost second factor away; the next sign-in sets up another. Sessions and tokens end."""
    accounts.reset_second_factor(session, staff.account_of(session, staff_id), by=by)


@door.delete("/{staff_id}", roles=GIVING, status=204)
def disable(staff_id: Id, session: SessionDep, by: ActorDep) -> None:
    """Ends somebody's account, from the next request on."""
    accounts.disable(session, staff.account_of(session, staff_id), by=by)


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
