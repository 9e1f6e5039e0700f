"""A place in a round: an assignment with all that handing in depends on, and what waits there to be filled in."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from instruments.definition import Instrument
from screening import access, results, rounds, same_child
from screening.errors import NotFound
from screening.statements import Statement

Answers = Mapping[str, int | None]


@dataclass(frozen=True)
class Waiting:
    """What somebody has to fill in, and how far they are."""

    round_id: uuid.UUID
    is_open: bool
    forms: Sequence[tuple[Instrument, str]]
    """Instrument and form, in the round's order."""
    saved: Mapping[str, Answers]
    """By instrument, the page that was saved and not handed in yet."""
    handed_in: frozenset[str]


@dataclass(frozen=True)
class Place:
    """An assignment with all that handing in depends on, read in one statement."""

    row: Mapping[str, Any]
    rules: rounds.RoundRules
    forms: Mapping[str, str]
    """Instrument code -> the form that this informant fills in."""

    @property
    def student_id(self) -> uuid.UUID:
        found: uuid.UUID = self.row["student_id"]
        return found

    @property
    def round_id(self) -> uuid.UUID:
        return self.rules.round_id

    @property
    def now(self) -> dt.datetime:
        found: dt.datetime = self.row["now"]
        return found

    @property
    def has_consent(self) -> bool:
        decisions: dict[str, str] = self.row["decisions"] or {}
        return self.rules.policy.has_consent(self.row["age_now"], decisions)

    @property
    def prior_tier(self) -> int:
        """The highest tier of the student's other rounds in the policy's look-back."""
        days = self.rules.policy.look_back_days
        return max((tier for tier, days_before in self.row["earlier"] or () if days_before <= days), default=0)

    @property
    def stored(self) -> list[tuple[str, str, int, int, tuple[int | None, ...]]]:
        """Stored forms of the student in this round: instrument, informant, attempt, revision, answers."""
        return [(*stored[:4], tuple(stored[4])) for stored in self.row["stored"] or ()]

    def with_drafts(self, pages: Mapping[str, Answers]) -> dict[str, dict[str, int | None]]:
        """What was saved before, with these answers over it."""
        merged: dict[str, dict[str, int | None]] = {
            code: dict(zip(results.item_ids(self.rules.instruments[code]), answers, strict=True))
            for code, answers in (self.row["drafts"] or {}).items()
        }
        for code, page in pages.items():
            merged.setdefault(code, {}).update(page)
        return merged


def waiting(session: Session, assignment_id: uuid.UUID, *, now: dt.datetime | None = None) -> Waiting:
    """What is to be filled in at this place, `now` or at the transaction's own time. Raises NotFound."""
    place = read_place(session, assignment_id, now)
    informant = place.row["informant"]
    return Waiting(
        round_id=place.round_id,
        is_open=place.row["opening_state"] == "open" and not place.rules.is_historical,
        forms=[(place.rules.instruments[code], form) for code, form in place.forms.items()],
        saved=place.with_drafts({}),
        handed_in=frozenset(code for code, who, *_ in place.stored if who == informant),
    )


def hold_place(session: Session, assignment_id: uuid.UUID, now: dt.datetime | None) -> Place:
    """Locks the assignment and reads it then, so that of a double click, or of two pages saved at the same moment,
    the second finds what the first did: a lock in the same statement would come after its snapshot."""
    about = {"district": access.scope_of(session).district_id, "assignment": assignment_id}
    _LOCK_PLACE.later(session, about)
    return read_place(session, assignment_id, now)


def read_place(session: Session, assignment_id: uuid.UUID, now: dt.datetime | None) -> Place:
    about = {"district": access.scope_of(session).district_id, "assignment": assignment_id}
    row = _READ_PLACE.first(session, about | {"now": now, "schools": access.schools_of(session)})
    if row is None or not (access.reaches(session, row["school_id"]) and access.reaches(session, row["placed_at"])):
        raise NotFound("There is no such assignment.")
    rules = rounds.rules_of(session, row["round_id"])
    informant = row["informant"]
    forms = {
        code: form for code, names in rules.forms.items() for form in names if results.informant_of(form) == informant
    }
    return Place(row, rules, forms)


_LOCK_PLACE = Statement("select from assignments where district_id = :district and id = :assignment for no key update")
_READ_PLACE = Statement(
    "select a.round_id, a.student_id, a.informant, a.id, s.school_id, a.school_id as placed_at, t.now,"  # noqa: S608 - our own SQL
    " cast(extract(year from age(o.opens_at, s.born_month + interval '1 month')) as smallint) as age,"
    " cast(extract(year from age(t.now, s.born_month + interval '1 month')) as smallint)"
    "  as age_now,"
    " p.state as opening_state,"
    # of several rows of a child a refusal of either giver counts before any grant
    " (select jsonb_object_agg(c.given_by, c.decision) from (select distinct on (given_by) given_by, decision"
    "   from (select distinct on (student_id, given_by) given_by, decision from consents"
    "    where district_id = :district and student_id = any(child.rows) and decided_at <= t.now"
    f"    and {access.within('school_id')}"
    "    order by student_id, given_by, decided_at desc, recorded_at desc, decision = 'granted') l"
    "   order by given_by, decision = 'granted') c) as decisions,"
    " (select jsonb_object_agg(d.instrument, d.answers) from drafts d"
    "   where d.district_id = :district and d.assignment_id = a.id) as drafts,"
    " (select jsonb_agg(jsonb_build_array(f.instrument, f.informant, f.attempt, f.revision,"
    "   to_jsonb(f.answers)) order by f.attempt, f.revision) from administrations f where f.district_id = :district"
    f"   and f.round_id = a.round_id and f.student_id = a.student_id and {access.within('f.school_id')}) as stored,"
    " (select jsonb_build_array(r.revision, r.reasons, r.forms) from results r where r.district_id = :district"
    f"   and r.round_id = a.round_id and r.student_id = a.student_id and {access.within('r.school_id')}"
    "   order by r.revision desc limit 1) as standing,"
    " (select jsonb_agg(jsonb_build_array(t.tier, extract(epoch from o.opens_at - e.opens_at) / 86400))"
    "   from (select distinct on (r.round_id, r.student_id) r.round_id, r.tier from results r"
    "    where r.district_id = :district and r.student_id = any(child.rows) and r.round_id <> a.round_id"
    f"    and {access.within('r.school_id')}"
    "    order by r.round_id, r.student_id, r.revision desc) t"
    "   join rounds e on e.district_id = :district and e.id = t.round_id) as earlier"
    " from (select coalesce(cast(:now as timestamptz), now()) as now) t cross join assignments a"
    " join students s on s.district_id = a.district_id and s.id = a.student_id"
    " join rounds o on o.district_id = a.district_id and o.id = a.round_id"
    " left join openings p on p.district_id = a.district_id and p.round_id = a.round_id and p.school_id = s.school_id"
    # with an offset they are found once, not once for each of the two that ask
    f" cross join lateral (select array{same_child.rows_of('a.student_id')} as rows offset 0) child"
    " where a.district_id = :district and a.id = :assignment"
)
