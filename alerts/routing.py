"""Who should hear: the staff on whom a rung of the ladder calls at a school, and under whose policy."""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, calendars, db, policy
from screening.inserting import as_array
from screening.policy import Policy, QuietHours
from screening.statements import Statement

LADDER = ("counselor", "deputy", "lead", "principal", "duty_officer", "district_admin")
"""Whom to ask in turn. Where nobody holds a role the next one hears; the last is always asked."""


_Place = tuple[str, uuid.UUID | None]


@dataclass(frozen=True)
class Rota:
    """Who holds which role where and who is on duty at this moment, read once and asked for any number of alerts."""

    holders: Mapping[_Place, tuple[uuid.UUID, ...]]
    on_duty: Mapping[_Place, tuple[uuid.UUID, ...]] = field(default_factory=dict)
    """By place (first, deputy) and school; under None the district's desk."""
    is_shut: Callable[[uuid.UUID | None], bool] = lambda _: False
    """Whether a school is closed now: only then does the desk hear in its stead."""
    _held: dict[_Place, tuple[uuid.UUID, ...]] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What `holding` has said: the alerts of a file all ask the same."""

    def holding(self, role: str, school_id: uuid.UUID | None) -> tuple[uuid.UUID, ...]:
        """Those of the school first, then those of the whole district, each once."""
        place = (role, school_id)
        if place not in self._held:
            at_school = self.holders.get(place, ()) if school_id else ()
            self._held[place] = tuple(dict.fromkeys([*at_school, *self.holders.get((role, None), ())]))
        return self._held[place]

    def hearers(
        self, role: str, school_id: uuid.UUID | None, subject_id: uuid.UUID, *, is_day_and_night: bool = True
    ) -> tuple[uuid.UUID, ...]:
        """Who hears for this rung, or for the next one that somebody holds; nobody only in an empty district.

        Whoever is on duty hears first. Without a shift a counselor's alert has one named reader, always the same for
        the same subject, since what is sent to all is read by none; the school's other counselors are the deputies.
        What `is_day_and_night` also goes to the district's desk while the school is shut.
        """
        for rung in LADDER[LADDER.index(role) if role in LADDER else len(LADDER) - 1 :]:
            found = self._on(rung, school_id, subject_id)
            if found:
                return tuple(dict.fromkeys([*self._desk(rung, school_id, is_day_and_night), *found]))
        return ()

    def has_anybody(self, school_id: uuid.UUID | None) -> bool:
        """Whether somebody below the district's administrator would hear of an alert of this school."""
        is_on_duty = bool(self.on_duty.get(("first", school_id)) or self.on_duty.get(("first", None)))
        return is_on_duty or any(self.holding(role, school_id) for role in LADDER[:-1])

    def _on(self, rung: str, school_id: uuid.UUID | None, subject_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
        if rung == "duty_officer":
            return self.on_duty.get(("first", None)) or self.holding(rung, school_id)
        if rung not in _PLACES:
            return self.holding(rung, school_id)
        on_duty = self.on_duty.get((_PLACES[rung], school_id), ()) if school_id else ()
        counselors = self.holding("counselor", school_id)
        first = counselors[subject_id.int % len(counselors)] if counselors else None
        return on_duty or tuple(one for one in counselors if (one == first) == (rung == "counselor"))

    def _desk(self, rung: str, school_id: uuid.UUID | None, is_day_and_night: bool) -> tuple[uuid.UUID, ...]:
        place = _PLACES.get(rung)
        if place is None or not is_day_and_night or (school_id and self.on_duty.get((place, school_id))):
            return ()
        desk = self.on_duty.get((place, None), ())
        return desk if desk and self.is_shut(school_id) else ()


_PLACES = {"counselor": "first", "deputy": "deputy"}
_HOLDERS = Statement(
    "select r.role, r.school_id, r.staff_id, false as is_duty, r.since_at as at, r.id from staff_roles r"
    " join staff s on s.district_id = r.district_id and s.id = r.staff_id"
    " join accounts a on a.id = s.account_id"
    " where r.district_id = :district and r.role = any(:roles) and a.disabled_at is null"
    " and (r.school_id is null or cast(:schools as uuid[]) is null or r.school_id = any(cast(:schools as uuid[])))"
    " and r.since_at <= now() and (r.until_at is null or r.until_at > now())"
    " union all"
    " select d.place, d.school_id, d.staff_id, true, d.starts_at, d.id from duties d"
    " join staff s on s.district_id = d.district_id and s.id = d.staff_id"
    " join accounts a on a.id = s.account_id"
    " where d.district_id = :district and a.disabled_at is null and d.cancelled_at is null"
    " and d.starts_at <= :now and d.ends_at > :now"
    " and (d.school_id is null or cast(:schools as uuid[]) is null or d.school_id = any(cast(:schools as uuid[])))"
    " order by at, id"
)


def rota(
    session: Session, *, now: dt.datetime | None = None, schools: Collection[uuid.UUID | None] | None = None
) -> Rota:
    """The roles in force and the shifts that run in the session's district, in one query.

    `now` is the moment whose shifts are meant; without it, the database's. With `schools` it can be asked about these
    alone: a red must not wait until the people of hundreds of others were read.
    """
    at = now or db.now(session)
    held: dict[_Place, list[uuid.UUID]] = defaultdict(list)
    on_duty: dict[_Place, list[uuid.UUID]] = defaultdict(list)
    parameters = {
        "district": access.scope_of(session).district_id,
        "roles": list(LADDER),
        "now": at,
        "schools": None if schools is None else as_array("uuid", [each for each in schools if each is not None]),
    }
    for row in _HOLDERS.run(session, parameters):
        (on_duty if row["is_duty"] else held)[row["role"], row["school_id"]].append(row["staff_id"])

    def is_shut(school_id: uuid.UUID | None) -> bool:
        found = calendars.of_schools(session, [school_id] if school_id else [])
        return not found.get(school_id, found[None]).is_school_hours(at)

    return Rota({key: tuple(each) for key, each in held.items()}, {k: tuple(v) for k, v in on_duty.items()}, is_shut)


_UNHEARD = text(
    "select s.id, s.code from schools s where s.district_id = :district and ("
    " exists (select from alerts a where a.district_id = s.district_id and a.school_id = s.id and a.closed_at is null)"
    " or exists (select from openings o where o.district_id = s.district_id and o.school_id = s.id"
    " and o.state = 'open')) order by s.code"
)


def schools_unheard(session: Session, *, now: dt.datetime | None = None) -> list[str]:
    """The codes of schools with open alerts or an open round where nobody of the ladder would hear."""
    held = rota(session, now=now)
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


_LATEST_POLICY = Statement(
    "select d.body from rounds r join rule_sets s on s.district_id = r.district_id and s.id = r.rule_set_id"
    " join definitions d on d.district_id = s.district_id and d.digest = s.policy_digest"
    " where r.district_id = :district and r.state <> 'planned' order by r.opens_at desc, r.id limit 1"
)


def quiet_hours(session: Session) -> QuietHours:
    """In which hours the district wants quiet: as the policy of its latest round says, or the shipped one."""
    found = _LATEST_POLICY.first(session, {"district": access.scope_of(session).district_id})
    return (policy.shipped() if found is None else policy.parse_stored(found["body"])).quiet_hours


_LATEST_ROUND = text(
    "select round_id from alerts where district_id = :district and student_id = :student and round_id is not null"  # noqa: S608 - our own SQL
    f" and {access.within('school_id')}"
    " order by closed_at is null desc, opened_at desc limit 1"
)


def policy_of_student(session: Session, student_id: uuid.UUID) -> Policy:
    """The policy of the round that last raised an alert of this student."""
    parameters = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "student": student_id,
    }
    round_id = session.scalar(_LATEST_ROUND, parameters)
    return policies(session, [round_id])[round_id]
