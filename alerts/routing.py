"""Who should hear: the staff on whom a rung of the ladder calls at a school, and under whose policy."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, policy
from screening.policy import Policy

LADDER = ("counselor", "deputy", "lead", "principal", "duty_officer", "district_admin")
"""Whom to ask in turn. Where nobody holds a role the next one hears; the last is always asked."""


@dataclass(frozen=True)
class Rota:
    """Who holds which role where at this moment, read once and asked for any number of alerts."""

    holders: Mapping[tuple[str, uuid.UUID | None], tuple[uuid.UUID, ...]]

    def holding(self, role: str, school_id: uuid.UUID | None) -> tuple[uuid.UUID, ...]:
        """Those of the school first, then those of the whole district, each once."""
        at_school = self.holders.get((role, school_id), ()) if school_id else ()
        return tuple(dict.fromkeys([*at_school, *self.holders.get((role, None), ())]))

    def hearers(self, role: str, school_id: uuid.UUID | None, subject_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
        """Who hears for this rung, or for the next one that somebody holds; nobody only in an empty district.

        A counselor's alert has one named reader, always the same for the same subject, since what is sent to all is
        read by none; the school's other counselors are the deputies.
        """
        for rung in LADDER[LADDER.index(role) if role in LADDER else len(LADDER) - 1 :]:
            found = self._on(rung, school_id, subject_id)
            if found:
                return found
        return ()

    def has_anybody(self, school_id: uuid.UUID | None) -> bool:
        """Whether somebody below the district's administrator would hear of an alert of this school."""
        return any(self.holding(role, school_id) for role in LADDER[:-1])

    def _on(self, rung: str, school_id: uuid.UUID | None, subject_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
        if rung not in ("counselor", "deputy"):
            return self.holding(rung, school_id)
        counselors = self.holding("counselor", school_id)
        first = counselors[subject_id.int % len(counselors)] if counselors else None
        return tuple(one for one in counselors if (one == first) == (rung == "counselor"))


_HOLDERS = text(
    "select r.role, r.school_id, r.staff_id from staff_roles r"
    " join staff s on s.district_id = r.district_id and s.id = r.staff_id"
    " join accounts a on a.id = s.account_id"
    " where r.district_id = :district and r.role = any(:roles) and a.disabled_at is null"
    " and r.since_at <= now() and (r.until_at is null or r.until_at > now())"
    " order by r.since_at, r.id"
)


def rota(session: Session) -> Rota:
    """The roles in force at this moment in the session's district, in one query."""
    found: dict[tuple[str, uuid.UUID | None], list[uuid.UUID]] = defaultdict(list)
    parameters = {"district": access.scope_of(session).district_id, "roles": list(LADDER)}
    for row in session.execute(_HOLDERS, parameters):
        found[row.role, row.school_id].append(row.staff_id)
    return Rota({key: tuple(staff) for key, staff in found.items()})


_UNHEARD = text(
    "select s.id, s.code from schools s where s.district_id = :district and ("
    " exists (select from alerts a where a.district_id = s.district_id and a.school_id = s.id and a.closed_at is null)"
    " or exists (select from openings o where o.district_id = s.district_id and o.school_id = s.id"
    " and o.state = 'open')) order by s.code"
)


def schools_unheard(session: Session) -> list[str]:
    """The codes of schools with open alerts or an open round where nobody of the ladder would hear."""
    held = rota(session)
    parameters = {"district": access.scope_of(session).district_id}
    return [row.code for row in session.execute(_UNHEARD, parameters) if not held.has_anybody(row.id)]


_POLICIES = text(
    "select r.id, d.body from rounds r"
    " join rule_sets s on s.district_id = r.district_id and s.id = r.rule_set_id"
    " join definitions d on d.district_id = s.district_id and d.digest = s.policy_digest"
    " where r.district_id = :district and r.id = any(:rounds)"
)


def policies(session: Session, round_ids: Iterable[uuid.UUID | None]) -> dict[uuid.UUID | None, Policy]:
    """The policy that each of these rounds froze; a concern that came without a round has the shipped one."""
    wanted = {round_id for round_id in round_ids if round_id is not None}
    found: dict[uuid.UUID | None, Policy] = {None: policy.shipped()}
    if wanted:
        parameters = {"district": access.scope_of(session).district_id, "rounds": list(wanted)}
        for row in session.execute(_POLICIES, parameters):
            found[row.id] = policy.parse_stored(row.body)
    return found


_LATEST_ROUND = text(
    "select round_id from alerts where district_id = :district and student_id = :student and round_id is not null"
    " order by closed_at is null desc, opened_at desc limit 1"
)


def policy_of_student(session: Session, student_id: uuid.UUID) -> Policy:
    """The policy of the round that last raised an alert of this student."""
    parameters = {"district": access.scope_of(session).district_id, "student": student_id}
    round_id = session.scalar(_LATEST_ROUND, parameters)
    return policies(session, [round_id])[round_id]
