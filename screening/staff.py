"""Who works where and in which role: districts, schools, accounts, staff, roles, and the tokens that name an actor."""

import datetime as dt
import json
import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Select, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from screening import access, audit, sealing
from screening.db import Database
from screening.errors import Conflict, NotFound, Refused
from screening.models import Account, District, School, Staff, StaffRole, Token
from screening.statements import Row, Statement

SCHOOL_ROLES = frozenset({"school_admin", "principal", "counselor", "class_teacher"})
"""Roles that are always held at one school."""
DISTRICT_ROLES = frozenset({"operator", "district_admin", "district_analyst", "privacy_officer", "auditor"})
"""Roles that are always held in the whole district."""
PURPOSES = ("everything", "reading", "sending")
"""What a token may be for: any door, those that only read, those that take files."""


def create_district(database: Database, code: str, name: str, *, is_probe: bool = False) -> District:
    """A new district with a data key of its own, wrapped by the master key. Raises Conflict for a code in use.

    `is_probe` is the one where nobody lives.
    """
    district_id = uuid.uuid4()
    wrapped = sealing.wrap_district_key(database.ring, district_id, sealing.new_key())
    with database.unit() as session:
        made = session.execute(
            postgresql.insert(District)
            .values(id=district_id, code=code, name=name, wrapped_key=wrapped, is_probe=is_probe)
            .on_conflict_do_nothing(index_elements=["code"])
            .returning(District)
        ).scalar_one_or_none()
        if made is None:
            raise Conflict(f"There is already a district with the code {code}.")
        access.enter(session, access.Scope(district_id))
        audit.record(session, access.system(district_id), "district.created", "district", district_id)
        return made


def create_school(session: Session, code: str, name: str, *, by: access.Actor) -> School:
    """A new school of the session's district. Raises Conflict for a code in use."""
    school_id = uuid.uuid4()
    made = session.execute(
        postgresql.insert(School)
        .values(district_id=access.scope_of(session).district_id, id=school_id, code=code.strip(), name=name)
        .on_conflict_do_nothing(index_elements=["district_id", "code"])
        .returning(School)
    ).scalar_one_or_none()
    if made is None:
        raise Conflict(f"There is already a school with the code {code}.")
    audit.record(session, by, "school.created", "school", school_id)
    return made


def hire(session: Session, email: str, name: str, *, by: access.Actor) -> Staff:
    """An account for this address, and the person behind it; roles come apart. Raises Conflict for a known address."""
    district_id = access.scope_of(session).district_id
    account_id, staff_id = uuid.uuid4(), uuid.uuid4()
    email_hash = sealing.account_lookup(session.info["master_key"], email)
    made = session.execute(
        postgresql.insert(Account)
        .values(id=account_id, district_id=district_id, email_hash=email_hash)
        .on_conflict_do_nothing(index_elements=["email_hash"])
        .returning(Account.id)
    ).one_or_none()
    if made is None:
        raise Conflict("There is already an account for this address.")
    plain = json.dumps({"name": name, "email": email.strip()}, ensure_ascii=False)
    hired = Staff(
        district_id=district_id,
        id=staff_id,
        account_id=account_id,
        sealed=sealing.keys(session).seal_text(plain, f"staff/{staff_id}"),
    )
    session.add(hired)
    session.flush()
    audit.record(session, by, "account.created", "account", account_id)
    return hired


def grant(
    session: Session, staff: Staff | uuid.UUID, role: str, school_id: uuid.UUID | None = None, *, by: access.Actor
) -> StaffRole:
    """Gives a role at a school, or in the whole district; a role that is held already is answered as it stands.

    Raises Refused for an unknown role, or for one that does not go with a school (or without one).
    """
    _check_role(role, school_id)
    district_id, staff_id = access.scope_of(session).district_id, _staff_id(staff)
    if school_id is not None and session.get(School, (district_id, school_id)) is None:
        raise NotFound("There is no such school.")
    held = session.execute(_current_roles(district_id, staff_id, role, school_id)).scalars().first()
    if held is not None:
        return held
    given = StaffRole(district_id=district_id, id=uuid.uuid4(), staff_id=staff_id, role=role, school_id=school_id)
    session.add(given)
    session.flush()
    _end_sessions(session, staff_id)
    audit.record(session, by, "role.granted", "staff", staff_id, role=role, school=str(school_id or "*"))
    return given


def revoke(
    session: Session,
    staff: Staff | uuid.UUID,
    role: str,
    school_id: uuid.UUID | None = None,
    *,
    by: access.Actor,
) -> None:
    """Ends a role from this transaction on. Raises NotFound when it is not held."""
    district_id, staff_id = access.scope_of(session).district_id, _staff_id(staff)
    held = session.execute(_current_roles(district_id, staff_id, role, school_id)).scalars().all()
    if not held:
        raise NotFound("This role is not held.")
    session.execute(
        update(StaffRole)
        .where(StaffRole.district_id == district_id, StaffRole.id.in_([role.id for role in held]))
        .values(until_at=text("now()"))
    )
    _end_sessions(session, staff_id)
    audit.record(session, by, "role.revoked", "staff", staff_id, role=role, school=str(school_id or "*"))


def issue_token(
    session: Session,
    account_id: uuid.UUID,
    lifetime: dt.timedelta | int,
    *,
    by: access.Actor,
    now: dt.datetime,
    roles: Iterable[str] | None = None,
    purpose: str = "everything",
) -> str:
    """A bearer token for this account, shown this once; only its keyed hash is kept.

    `lifetime` is a timedelta or minutes; `roles` are those of the account's that act through it (None: all), `purpose`
    is one of PURPOSES. Raises Refused for a lifetime that is not positive or an unknown role or purpose, NotFound for
    no such account.
    """
    only = None if roles is None else sorted(set(roles))
    if purpose not in PURPOSES:
        raise Refused(f"A token is for {', '.join(PURPOSES)}.", code="unknown_purpose")
    if only is not None and not access.ROLES.issuperset(only):
        raise Refused("There is no such role.", code="unknown_role")
    lasting = lifetime if isinstance(lifetime, dt.timedelta) else dt.timedelta(minutes=lifetime)
    if lasting <= dt.timedelta():
        raise Refused("A token must last at least a minute.")
    account = session.get(Account, account_id)
    if account is None or account.district_id != access.scope_of(session).district_id or account.disabled_at:
        raise NotFound("There is no such account.")
    token = secrets.token_urlsafe(32)
    made = session.execute(
        insert(Token)
        .values(
            token_hash=sealing.token_lookup(session.info["master_key"], token),
            account_id=account_id,
            expires_at=now + lasting,
            roles=only,
            purpose=purpose,
        )
        .returning(Token.id)
    ).scalar_one()
    minutes = int(lasting.total_seconds() // 60)
    scope = {"roles": only, "purpose": purpose}
    audit.record(session, by, "token.issued", "token", made, account=str(account_id), minutes=minutes, **scope)
    return token


def tokens_of(session: Session, account_id: uuid.UUID) -> Sequence[Token]:
    """The account's tokens that are still good, the latest first."""
    return session.scalars(
        select(Token)
        .where(Token.account_id == account_id, Token.revoked_at.is_(None), Token.expires_at > text("now()"))
        .order_by(Token.created_at.desc(), Token.id)
    ).all()


def revoke_token_of(session: Session, account_id: uuid.UUID, token_id: uuid.UUID, *, by: access.Actor) -> None:
    """Ends one of the account's tokens by its id. Raises NotFound."""
    ended = session.execute(
        update(Token)
        .where(Token.id == token_id, Token.account_id == account_id, Token.revoked_at.is_(None))
        .values(revoked_at=text("now()"))
        .returning(Token.id)
    ).one_or_none()
    if ended is None:
        raise NotFound("There is no such token.")
    audit.record(session, by, "token.revoked", "token", token_id)


def revoke_token(session: Session, token: str, *, by: access.Actor, now: dt.datetime) -> None:
    """Ends a token at once; one that has ended stays as it is. Raises NotFound for a token of no account here."""
    found = session.execute(
        select(Token)
        .join(Account, Account.id == Token.account_id)
        .where(
            Token.token_hash == sealing.token_lookup(session.info["master_key"], token),
            Account.district_id == access.scope_of(session).district_id,
        )
    ).scalar_one_or_none()
    if found is None:
        raise NotFound("There is no such token.")
    if found.revoked_at is None:
        found.revoked_at = now
        session.flush()
        audit.record(session, by, "token.revoked", "token", found.id)


ROLES_HELD = "r.staff_id, r.role, r.school_id as held_at"
"""What is asked of `roles_of_account` (as r), alone or beside whose account it is."""
_ACCOUNT_BY_TOKEN = Statement(
    f"select a.id, a.district_id, t.roles, t.purpose, {ROLES_HELD}"  # noqa: S608 - made of the constant above
    " from tokens t join accounts a on a.id = t.account_id"
    " left join lateral roles_of_account(a.district_id, a.id) r on true"
    " where t.token_hash = :token and t.revoked_at is null and t.expires_at > now() and a.disabled_at is null"
)
_ACCOUNT_BY_EMAIL = text("select id, district_id from accounts where email_hash = :email and disabled_at is null")
_ROLES = Statement(f"select {ROLES_HELD} from roles_of_account(:district, :account) r")  # noqa: S608 - as above


def actor_by_token(database: Database, token: str) -> access.Actor | None:
    """Who bears this token, with the roles of this moment; None when it is unknown, ended or its account disabled."""
    token_hash = sealing.token_lookup(database.master_key, token)
    rows = _ACCOUNT_BY_TOKEN.alone(database.engine, {"token": token_hash})
    if not rows:
        return None
    found = rows[0]
    actor = actor_of_rows(found["id"], found["district_id"], rows)
    if found["roles"] is not None:
        actor = replace(actor, roles=tuple(at for at in actor.roles if at.role in found["roles"]))
    return actor if found["purpose"] == "everything" else replace(actor, purpose=found["purpose"])


def actor_by_email(database: Database, email: str) -> access.Actor | None:
    """Who has this address, with the roles of this moment; None when there is no such account or it is disabled."""
    with database.unit() as session:
        found = session.execute(
            _ACCOUNT_BY_EMAIL, {"email": sealing.account_lookup(database.master_key, email)}
        ).one_or_none()
        return None if found is None else actor_of(session, found.id, found.district_id)


def people_with(session: Session, roles: Iterable[str], school_id: uuid.UUID | None) -> list[uuid.UUID]:
    """The staff who hold one of these roles at that school or in the whole district: those of the school first.

    With no school only those of the whole district. Disabled accounts are left out.
    """
    at_school: ColumnElement[bool] = StaffRole.school_id.is_(None)
    if school_id is not None:
        at_school = or_(at_school, StaffRole.school_id == school_id)
    found = session.execute(
        select(StaffRole.staff_id)
        .join(Staff, (Staff.district_id == StaffRole.district_id) & (Staff.id == StaffRole.staff_id))
        .join(Account, Account.id == Staff.account_id)
        .where(
            StaffRole.district_id == access.scope_of(session).district_id,
            StaffRole.role.in_(list(roles)),
            StaffRole.since_at <= text("now()"),
            or_(StaffRole.until_at.is_(None), StaffRole.until_at > text("now()")),
            Account.disabled_at.is_(None),
            at_school,
        )
        .order_by(StaffRole.school_id.is_(None), StaffRole.since_at, StaffRole.id)
    ).scalars()
    return list(dict.fromkeys(found))


def email_of(session: Session, staff_id: uuid.UUID) -> str:
    """The address of one of the staff. Raises NotFound."""
    return _person(session, staff_id)["email"]


def name_of(session: Session, staff_id: uuid.UUID) -> str:
    """The name of one of the staff. Raises NotFound."""
    return _person(session, staff_id)["name"]


def actor_of(session: Session, account_id: uuid.UUID, district_id: uuid.UUID) -> access.Actor:
    """An account as an actor, with the roles of this moment; enters the scope of its district, without any school."""
    access.enter(session, access.Scope(district_id, frozenset()))
    rows = _ROLES.run(session, {"district": district_id, "account": account_id})
    return actor_of_rows(account_id, district_id, rows)


def actor_of_rows(account_id: uuid.UUID, district_id: uuid.UUID, rows: Sequence[Row]) -> access.Actor:
    """An account as an actor, from rows of ROLES_HELD: one for each role, or one without."""
    return access.Actor(
        account_id=account_id,
        district_id=district_id,
        staff_id=rows[0]["staff_id"] if rows else None,
        roles=tuple(access.RoleAt(row["role"], row["held_at"]) for row in rows if row["role"]),
    )


def account_of(session: Session, staff_id: uuid.UUID) -> uuid.UUID:
    """The account of one of the staff. Raises NotFound."""
    found = session.get(Staff, (access.scope_of(session).district_id, staff_id))
    if found is None:
        raise NotFound("There is nobody of that name on the staff.")
    return found.account_id


def _end_sessions(session: Session, staff_id: uuid.UUID) -> None:
    """Whoever's rights change signs in again: sessions of an earlier generation are over."""
    account_id = account_of(session, staff_id)
    session.execute(update(Account).where(Account.id == account_id).values(generation=Account.generation + 1))


def _check_role(role: str, school_id: uuid.UUID | None) -> None:
    if role not in access.ROLES:
        raise Refused(f"There is no role {role}.", code="unknown_role")
    if role in SCHOOL_ROLES and school_id is None:
        raise Refused(f"The role {role} is held at a school: name the school.", code="school_missing")
    if role in DISTRICT_ROLES and school_id is not None:
        raise Refused(f"The role {role} is held in the whole district, not at a school.", code="school_not_wanted")


def _current_roles(
    district_id: uuid.UUID, staff_id: uuid.UUID, role: str, school_id: uuid.UUID | None
) -> Select[StaffRole]:
    return select(StaffRole).where(
        StaffRole.district_id == district_id,
        StaffRole.staff_id == staff_id,
        StaffRole.role == role,
        StaffRole.school_id.is_not_distinct_from(school_id),
        StaffRole.until_at.is_(None),
    )


def _staff_id(staff: Staff | uuid.UUID) -> uuid.UUID:
    return staff if isinstance(staff, uuid.UUID) else staff.id


def _person(session: Session, staff_id: uuid.UUID) -> dict[str, str]:
    keys = sealing.keys(session)
    sealed = session.execute(
        select(Staff.sealed).where(Staff.district_id == keys.district_id, Staff.id == staff_id)
    ).scalar_one_or_none()
    if sealed is None:
        raise NotFound("There is nobody of that name on the staff.")
    person: dict[str, str] = json.loads(keys.open(sealed, f"staff/{staff_id}"))
    return person
