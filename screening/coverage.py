"""Whom a round reached: enrolled, consented, answered, valid and by tier; per school, grade and sex.

One definition for every door. A school reads its own progress live (`funnel`); the district's statistics are
releases, made once for a date and told again unchanged (`release`, `released`).
"""

import datetime as dt
import math
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from screening import access, audit, consent, db, rounds, same_child, suppression
from screening.errors import NotFound, Refused
from screening.models import CoverageRelease, CoverageSummary
from screening.policy import Policy
from screening.suppression import Release, Summary, Table

By = Literal["school", "grade", "sex", "school_grade"]
_COLUMNS: dict[By | None, tuple[str, ...]] = {
    None: (),
    "school": ("school_id",),
    "grade": ("grade",),
    "sex": ("sex",),
    "school_grade": ("school_id", "grade"),
}
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of students: `value` with the Wilson 95% interval, all between 0 and 1."""

    value: float
    low: float
    high: float
    part: int
    whole: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Students of one round, each counted once. A rate over nobody is None.

    `consented` have consent in force, `declined` a refusal (or withdrawal) by either giver; `invited` are the
    consented at schools that have opened; `submitted` handed in a form at least. `valid`, `suspect` and `invalid`
    part those who have a result. A raised tier counts whatever the validity; `tier_none` only where something could
    be said: an invalid form is a task for a retest, and never "none".
    """

    enrolled: int = 0
    exempt: int = 0
    consented: int = 0
    declined: int = 0
    invited: int = 0
    submitted: int = 0
    valid: int = 0
    suspect: int = 0
    invalid: int = 0
    tier_none: int = 0
    tier_yellow: int = 0
    tier_orange: int = 0
    tier_red: int = 0

    @property
    def eligible(self) -> int:
        """L: whom the round should reach. Missed students stay in it."""
        return self.enrolled - self.exempt

    @property
    def covered(self) -> int:
        """V: students with a valid or a suspect (marked) result."""
        return self.valid + self.suspect

    @property
    def unanswered(self) -> int:
        """Eligible students for whom nobody has granted or refused in force."""
        return self.eligible - self.consented - self.declined

    @property
    def consent_rate(self) -> Rate | None:
        return rate(self.consented, self.eligible)

    @property
    def decline_rate(self) -> Rate | None:
        return rate(self.declined, self.eligible)

    @property
    def invited_rate(self) -> Rate | None:
        return rate(self.invited, self.consented)

    @property
    def response_rate(self) -> Rate | None:
        return rate(self.submitted, self.invited)

    @property
    def valid_coverage(self) -> Rate | None:
        """The headline: V / L."""
        return rate(self.covered, self.eligible)

    @property
    def completion_rate(self) -> Rate | None:
        return rate(self.submitted, self.eligible)

    @property
    def invalid_rate(self) -> Rate | None:
        return rate(self.submitted - self.covered, self.submitted)

    @property
    def yellow_rate(self) -> Rate | None:
        return rate(self.tier_yellow, self.covered)

    @property
    def orange_rate(self) -> Rate | None:
        return rate(self.tier_orange, self.covered)

    @property
    def red_rate(self) -> Rate | None:
        return rate(self.tier_red, self.covered)


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one school, grade or sex; what it is not divided by is None."""

    school_id: uuid.UUID | None
    grade: int | None
    sex: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Outstanding:
    """An eligible student from whom nothing has come in yet, and the places where it could."""

    student_id: uuid.UUID
    school_id: uuid.UUID
    grade: int
    class_name: str
    assignment_ids: tuple[uuid.UUID, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """One table of the statistics as they were released on a date."""

    round_id: uuid.UUID
    on: dt.date
    k: int
    rows: tuple[suppression.Figures, ...]


def rate(part: int, whole: int) -> Rate | None:
    """A share with its Wilson 95% interval; None over nobody.

    Withdrawals can leave more answers than consents: the share is then told as it is, its interval ends at 1.
    """
    if whole <= 0:
        return None
    share = part / whole
    p = min(share, 1.0)
    spread = _Z95 * math.sqrt(p * (1 - p) / whole + _Z95**2 / (4 * whole**2))
    middle, scale = p + _Z95**2 / (2 * whole), 1 + _Z95**2 / whole
    return Rate(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale), part, whole)


def recount(session: Session, round_id: uuid.UUID, school_ids: Iterable[uuid.UUID] | None, at: dt.datetime) -> None:
    """Counts these schools' part of a round anew (None: every school of the scope), with consent as it is at `at`.

    One statement, whatever the number of schools; lines that nobody stands behind any more are removed. Raises
    NotFound when there is no such round.
    """
    policy = rounds.rules_of(session, round_id).policy
    given: dict[str, object] = {"district": access.scope_of(session).district_id, "round": round_id, "at": at}
    # Whoever counts later must also read later: without this, counts of an older snapshot could be written last.
    db.lock(session, f"coverage/{round_id}")
    is_sought = False
    if school_ids is not None:
        given["schools"] = schools = list(school_ids)
        worth = _worth_seeking(session, round_id)
        given["students"] = students = _students_with_a_place(session, round_id, schools, most=math.ceil(worth))
        is_sought = len(students) < worth
    session.execute(text(_recount_sql(policy, of_schools=school_ids is not None, is_sought=is_sought)), given)


def funnel(session: Session, round_id: uuid.UUID, by: By | None = None) -> list[Row]:
    """Live progress of the schools in scope, as last counted, in order of `by`; None is one row, even of nobody.

    Named work, not statistics: small numbers are not hidden. Raises NotFound when there is no such round.
    """
    rounds.get(session, round_id)
    keys = [getattr(CoverageSummary, column) for column in _COLUMNS[by]]
    sums = [func.coalesce(func.sum(getattr(CoverageSummary, name)), 0) for name in Figures.__dataclass_fields__]
    found = session.execute(
        select(*keys, *sums)
        .where(
            CoverageSummary.district_id == access.scope_of(session).district_id, CoverageSummary.round_id == round_id
        )
        .where(access.of_scope(session, CoverageSummary.school_id))
        .group_by(*keys)
        .order_by(*keys)
    )
    rows = []
    for counted in found:
        place = dict(zip(_COLUMNS[by], counted, strict=False))
        figures = Figures(*(int(count) for count in counted[len(keys) :]))
        rows.append(Row(place.get("school_id"), place.get("grade"), place.get("sex"), figures))
    return rows


def outstanding(session: Session, round_id: uuid.UUID, school_id: uuid.UUID) -> list[Outstanding]:
    """Who of a school has not handed in anything: as many as eligible less submitted, by grade and class."""
    rounds.get(session, round_id)
    given = {"district": access.scope_of(session).district_id, "round": round_id, "school": school_id}
    students = _students_with_a_place(session, round_id, [school_id])
    found = session.execute(text(_OUTSTANDING), given | {"students": students})
    return [
        Outstanding(row.student_id, row.school_id, row.grade, row.class_name, tuple(row.assignment_ids))
        for row in found
    ]


def release(
    session: Session, round_id: uuid.UUID, on: dt.date, *, by: access.Actor, k: int | None = None
) -> CoverageRelease:
    """The statistics of a round on a date, made from the counts as they stand; asked again, the same as the first time.

    `k` is the policy's where none is given. Needs the whole district in scope, for statistics of a part would tell
    apart what those of the whole hide. Raises Refused otherwise, and for a date before the last release.
    """
    scope = access.scope_of(session)
    if scope.schools is not None:
        raise Refused("Statistics are released for the whole district.", code="scope_too_small")
    policy = rounds.rules_of(session, round_id).policy
    db.lock(session, f"coverage/{round_id}")
    stored = session.get(CoverageRelease, (scope.district_id, round_id, on))
    if stored is not None:
        return stored
    last = _last(session, round_id)
    if last is not None and last.released_on > on:
        raise Refused("Statistics of a later date are out already.", code="release_in_past")
    previous = suppression.reopen(last.tables) if last else None
    made = suppression.release(_summaries(session, round_id), k=k or policy.disclosure_k, previous=previous)
    return _store(session, round_id, on, made, by)


def released(session: Session, round_id: uuid.UUID, *, by: Table = "district", on: dt.date | None = None) -> Released:
    """One table of the last release, or of that of a date. Raises NotFound when nothing was released."""
    query = select(CoverageRelease.released_on, CoverageRelease.tables["k"], CoverageRelease.tables[by]).where(
        CoverageRelease.district_id == access.scope_of(session).district_id, CoverageRelease.round_id == round_id
    )
    if on is not None:
        query = query.where(CoverageRelease.released_on == on)
    found = session.execute(query.order_by(CoverageRelease.released_on.desc()).limit(1)).one_or_none()
    if found is None:
        raise NotFound("No statistics of this round have been released.")
    released_on, k, rows = found
    return Released(round_id, released_on, k, suppression.reopen_rows(rows))


# -- counting -----------------------------------------------------------------------------------------

_HERE = "a.district_id = :district and a.round_id = :round"
_THESE = " and a.student_id = any(:students)"

# A student has a place per informant, and stands where the first of them stands.
_FIRST = "(array_agg(a.{} order by a.created_at, a.informant))[1]"


def _students_with_a_place(
    session: Session, round_id: uuid.UUID, schools: Collection[uuid.UUID], *, most: int | None = None
) -> list[uuid.UUID]:
    """Who has a place at these schools, and every other row of the same children; no more than `most` of them."""
    found = session.execute(
        text(
            f"select a.student_id from assignments a where {_HERE} and a.school_id = any(:schools)"  # noqa: S608 - our own SQL
            f" union select o.other_id from assignments a join {same_child.OTHERS} o on o.student_id = a.student_id"
            f" where {_HERE} and a.school_id = any(:schools) limit :most"
        ),
        {"district": access.scope_of(session).district_id, "round": round_id, "schools": list(schools), "most": most},
    )
    return list(found.scalars())


def _worth_seeking(session: Session, round_id: uuid.UUID) -> float:
    """Up to so many students are sought one by one; for more it is quicker to read the whole round and leave some."""
    enrolled = session.scalar(
        select(func.sum(CoverageSummary.enrolled)).where(
            CoverageSummary.district_id == access.scope_of(session).district_id, CoverageSummary.round_id == round_id
        )
    )
    return max(2_000.0, (enrolled or 0) / 5)


def _recount_sql(policy: Policy, *, of_schools: bool, is_sought: bool) -> str:
    """Facts from each table, one under the other, then gathered by child: under the row where a child of several rows
    is counted, with the higher tier and the better form of them, exempt only where all of them are.

    No large table is joined to another: the planner, who knows nothing of tables that were filled a moment ago, can
    make no loop within a loop of it. Who has handed something in is not exempt, whatever was written down before: no
    answer falls out of the figures.
    """
    # The offset keeps each a look-up per student by a key, in any state of the planner's statistics.
    sought = "unnest(cast(:students as uuid[])) u (id) cross join lateral (select * from {} offset 0) a where true"
    # Not so for consents, which are joined to students: where loops are off, each look-up would read all students.
    consents = f"({consent.in_force_sql(policy, students='cast(:students as uuid[])' if is_sought else '')}) a"

    def rows(table: str, student: str = "student_id", here: str = _HERE) -> str:
        found = f"{table} a where {here}"
        return sought.format(f"{found} and a.{student} = u.id") if is_sought else found

    return f"""
    with facts as (
        select a.student_id, {_FIRST.format("school_id")} as school_id, {_FIRST.format("grade")} as grade,
            bool_or(a.exempt_reason is not null) as is_exempt, cast(null as text) as sex,
            cast(null as boolean) as is_in_force, cast(null as boolean) as is_refused,
            cast(null as boolean) as is_submitted, cast(null as smallint) as tier, cast(null as text) as validity
        from {rows("assignments")} group by a.student_id
        union all
        select a.id, null, null, null, a.sex, null, null, null, null, null
        from {rows("students", "id", "a.district_id = :district")}
        union all
        select a.student_id, null, null, null, null, a.is_in_force, a.is_refused, null, null, null from {consents}
        union all
        select a.student_id, null, null, null, null, null, null, true, null, null
        from {rows("administrations")} group by a.student_id
        union all
        select r.student_id, null, null, null, null, null, null, null, r.tier, r.validity
        from (select distinct on (a.student_id) a.student_id, a.tier, a.validity
            from {rows("results")} order by a.student_id, a.revision desc) r),
    gathered as (
        select {_of_counted_row("min(grade)")} as grade, {_of_counted_row("min(sex)")} as sex,
            max(tier) as tier, max(validity) as validity,
            {_of_counted_row("(array_agg(school_id) {})[1]", "school_id is not null")} as school_id,
            coalesce(bool_or(is_submitted), false) as is_submitted,
            bool_and(is_exempt) and bool_or(is_submitted) is null as is_exempt,
            bool_and(is_in_force) as is_in_force, bool_or(is_refused) as is_refused
        from facts f left join {same_child.COUNTED} k on k.duplicate_id = f.student_id
        group by coalesce(k.student_id, f.student_id) having min(grade) is not null),
    counted as (
        select school_id, grade, sex, count(*) as enrolled,
            count(*) filter (where is_exempt) as exempt,
            count(*) filter (where is_in_force and not is_exempt) as consented,
            count(*) filter (where is_refused and not is_exempt) as declined,
            count(*) filter (where is_submitted) as submitted,
            count(*) filter (where validity = 'valid') as valid,
            count(*) filter (where validity = 'suspect') as suspect,
            count(*) filter (where validity = 'invalid') as invalid,
            count(*) filter (where tier = 0 and validity <> 'invalid') as tier_none,
            count(*) filter (where tier = 1) as tier_yellow,
            count(*) filter (where tier = 2) as tier_orange, count(*) filter (where tier = 3) as tier_red
        from gathered {"where school_id = any(:schools)" if of_schools else ""} group by school_id, grade, sex),
    opened as materialized (
        select c.*, case when o.state <> 'planned' then c.consented else 0 end as invited
        from counted c left join openings o
        on o.district_id = :district and o.round_id = :round and o.school_id = c.school_id),
    gone as (
        delete from coverage_summaries s where s.district_id = :district and s.round_id = :round
        {"and s.school_id = any(:schools)" if of_schools else ""} and (s.school_id, s.grade, s.sex) not in
        (select school_id, grade, sex from opened))
    insert into coverage_summaries (district_id, round_id, counted_at, {_COUNTED})
    select :district, :round, :at, {_COUNTED} from opened order by school_id, grade, sex
    on conflict (district_id, round_id, school_id, grade, sex) do update set
    (counted_at, {_COUNTED}) = row (excluded.counted_at, {_EXCLUDED})
    """  # noqa: S608 - our own SQL


def _of_counted_row(value: str, only: str = "true") -> str:
    """SQL of a value of the row under which a child is counted; of a duplicate, where that one has none here."""
    said = value if "{}" in value else f"{value} {{}}"
    own, other = (said.format(f"filter (where k.duplicate_id is {is_own} null and {only})") for is_own in ("", "not"))
    return f"coalesce({own}, {other})"


_COUNTED = ", ".join(("school_id", "grade", "sex", *Figures.__dataclass_fields__))
_EXCLUDED = ", ".join(f"excluded.{name}" for name in ("school_id", "grade", "sex", *Figures.__dataclass_fields__))


_OUTSTANDING = f"""
    select * from (
        select a.student_id, {_FIRST.format("school_id")} as school_id, {_FIRST.format("grade")} as grade,
            {_FIRST.format("class_name")} as class_name, bool_or(a.exempt_reason is not null) as is_exempt,
            array_agg(a.id order by a.created_at, a.informant) as assignment_ids
        from assignments a where {_HERE}{_THESE} and a.student_id not in
            (select a.student_id from administrations a where {_HERE}{_THESE}
            union all select o.other_id from administrations a join {same_child.OTHERS} o on o.student_id = a.student_id
            where {_HERE}{_THESE}
            union all select k.duplicate_id from assignments a
            join {same_child.COUNTED} k on k.student_id = a.student_id where {_HERE}{_THESE})
        group by a.student_id) a
    where not a.is_exempt and a.school_id = :school order by a.grade, a.class_name, a.student_id
"""  # noqa: S608 - our own SQL


# -- releasing ----------------------------------------------------------------------------------------


def _summaries(session: Session, round_id: uuid.UUID) -> list[Summary]:
    found = session.execute(
        select(CoverageSummary.__table__).where(
            CoverageSummary.district_id == access.scope_of(session).district_id, CoverageSummary.round_id == round_id
        )
    )
    return [
        Summary(
            row.school_id,
            row.grade,
            row.sex,
            enrolled=row.enrolled,
            eligible=row.eligible,
            consented=row.consented,
            invited=row.invited,
            submitted=row.submitted,
            valid=row.valid + row.suspect,
            declined=row.declined,
            none=row.tier_none,
            yellow=row.tier_yellow,
            orange=row.tier_orange,
            red=row.tier_red,
        )
        for row in found
    ]


def _last(session: Session, round_id: uuid.UUID) -> CoverageRelease | None:
    return session.scalars(
        select(CoverageRelease)
        .where(
            CoverageRelease.district_id == access.scope_of(session).district_id, CoverageRelease.round_id == round_id
        )
        .order_by(CoverageRelease.released_on.desc())
        .limit(1)
    ).one_or_none()


def _store(session: Session, round_id: uuid.UUID, on: dt.date, made: Release, by: access.Actor) -> CoverageRelease:
    stored = CoverageRelease(
        district_id=access.scope_of(session).district_id,
        round_id=round_id,
        released_on=on,
        tables=made.as_json(),
        released_by=by.staff_id or by.account_id,
    )
    session.add(stored)
    session.flush()
    audit.record(session, by, "coverage.released", "round", round_id, on=on.isoformat())
    return stored
