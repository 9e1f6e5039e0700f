"""Who acts, and whose students they may see: Actor, Scope, and the one place where row security's scope is set."""

import contextlib
import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from screening.errors import HouseError, NotFound
from screening.statements import Statement

ROLES = frozenset(
    {
        "operator",
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
        "guardian",
        "student",
    }
)
SYSTEM_ROLE = "system"


@dataclass(frozen=True)
class Scope:
    """What a transaction may touch: one district, and all of its schools (None) or only these."""

    district_id: uuid.UUID
    schools: frozenset[uuid.UUID] | None = None


@dataclass(frozen=True)
class RoleAt:
    """A role held at one school, or in the whole district when `school_id` is None."""

    role: str
    school_id: uuid.UUID | None = None


@dataclass(frozen=True)
class Actor:
    """Somebody who does something: the roles are those in force at this moment, read afresh for each request."""

    account_id: uuid.UUID | None
    district_id: uuid.UUID
    staff_id: uuid.UUID | None = None
    roles: tuple[RoleAt, ...] = ()
    session_id: uuid.UUID | None = None
    """The session in which it is done; None for the bearer of a token."""
    proved_at: dt.datetime | None = None
    """When the second factor was last shown in that session."""
    own: Mapping[str, uuid.UUID] = field(default_factory=dict, hash=False)
    """Of a student or a guardian: the only ids they may name, by the name of the path's parameter."""
    purpose: str = "everything"
    """What a token was made for: everything, reading, or sending files."""

    def may_name(self, parameter: str, value: str) -> bool:
        """Whether this id in an address is theirs to name; the staff may name any, and see what their scope shows."""
        return not self.own or str(self.own.get(parameter)) == value.lower()

    def has(self, *roles: str, school_id: uuid.UUID | None = None) -> bool:
        """Whether one of these roles is held, at that school or in the whole district."""
        return any(
            held.role in roles and (school_id is None or held.school_id is None or held.school_id == school_id)
            for held in self.roles
        )

    def schools_as(self, *roles: str) -> frozenset[uuid.UUID] | None:
        """The schools at which one of these roles is held; None stands for the whole district."""
        held = [at.school_id for at in self.roles if at.role in roles]
        if any(school_id is None for school_id in held):
            return None
        return frozenset(school_id for school_id in held if school_id is not None)

    def scope_as(self, roles: Iterable[str]) -> Scope:
        """The scope in which this actor acts under those roles (no role: no school)."""
        return Scope(self.district_id, self.schools_as(*roles))

    @property
    def leading_role(self) -> str:
        return self.roles[0].role if self.roles else "none"

    @property
    def person(self) -> uuid.UUID:
        """Who did it, as rows remember it."""
        found = self.staff_id or self.account_id
        if found is None:
            raise NotFound("this is nobody's act")
        return found


def system(district_id: uuid.UUID) -> Actor:
    """The worker, acting for nobody in a whole district."""
    return Actor(account_id=None, district_id=district_id, roles=(RoleAt(SYSTEM_ROLE),))


def enter(session: Session, scope: Scope) -> None:
    """Sets the scope that row security tests, for this transaction only. The one place where it is set."""
    schools = "*" if scope.schools is None else "{" + ",".join(sorted(str(s) for s in scope.schools)) + "}"
    session.info["entered"] = _ENTER.later(session, {"district": str(scope.district_id), "schools": schools})
    session.info["scope"] = scope


@contextlib.contextmanager
def widened(session: Session, schools: Collection[uuid.UUID] | None) -> Iterator[None]:
    """For an act between schools that a row of both of them allows: sees these schools too (None: the district).

    What the caller may do has to be checked before, and nothing read in here is handed out that is not theirs.
    """
    own = scope_of(session)
    if own.schools is None or (schools is not None and own.schools >= set(schools)):
        yield
        return
    session.flush()
    enter(session, Scope(own.district_id, None if schools is None else own.schools | set(schools)))
    try:
        yield
        session.flush()
    except HouseError:
        enter(session, own)
        raise
    except BaseException:  # the transaction is over, and its settings with it
        session.info["scope"] = own
        raise
    enter(session, own)


_ENTER = Statement(
    "select set_config('screening.district', :district, true), set_config('screening.schools', :schools, true),"
    " now() as now"
)


def scope_of(session: Session) -> Scope:
    """The scope that was entered; an error of ours when none was."""
    scope: Scope = session.info["scope"]
    return scope


# The second wall, where row security is the first; each has to stand alone. Whoever reads what belongs to a school
# asks one of these.


def reaches(session: Session, school_id: uuid.UUID | None) -> bool:
    """Whether that school is within the session's scope; what is of no one school is the whole district's."""
    schools = scope_of(session).schools
    return schools is None or school_id in schools


def of_scope(
    session: Session, school_id: InstrumentedAttribute[uuid.UUID] | InstrumentedAttribute[uuid.UUID | None]
) -> ColumnElement[bool]:
    """The same as a condition of a select."""
    schools = scope_of(session).schools
    return true() if schools is None else school_id.in_(schools)


def within(school_id: str) -> str:
    """The same as SQL, which is asked with `:schools` as `schools_of` gives them."""
    return f"(cast(:schools as uuid[]) is null or {school_id} = any(:schools))"


def schools_of(session: Session) -> list[uuid.UUID] | None:
    """The schools of the scope for a statement that has a `within`; None is all of the district."""
    schools = scope_of(session).schools
    return None if schools is None else list(schools)
