"""The online form: a page of answers is saved, a critical answer is noticed at once, a form is handed in.

What the floor above must weigh comes back as signals and revisions; the door passes them on in the same transaction.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from instruments import scoring
from instruments.definition import Instrument
from screening import access, audit, results, rounds, same_child, tiers
from screening.errors import Conflict, HouseError, InvalidUpload, NotFound, Problem, Refused
from screening.results import Revision, Revisions, Signal
from screening.statements import Statement

Answers = Mapping[str, int | None]


@dataclass(frozen=True)
class Saved:
    """What came of saving a page. Without consent nothing is kept, and critical answers are signals all the same."""

    is_kept: bool
    signals: tuple[Signal, ...]
    rules: rounds.RoundRules


@dataclass(frozen=True)
class Submitted:
    """What came of handing in. `revisions` is None when exactly the same was handed in before."""

    student_id: uuid.UUID
    round_id: uuid.UUID
    revisions: Revisions | None
    rules: rounds.RoundRules


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


FIRST_ATTEMPT = 1
"""What is answered online is the first attempt."""
Sent = Mapping[str, object]
"""A page as it came, before each of its answers was found to be one."""


class NotKept(HouseError):
    """Answers that are not kept. The door commits what comes of their `signals` before it says so."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        place: "_Place",
        pages: Mapping[str, Answers],
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(detail, code=code, problems=problems)
        self.signals = _safety_signals(place, pages)
        self.rules = place.rules


class NotKeptNow(NotKept, Refused):
    """The round does not take them, or nobody has consented."""


class NotKeptBeside(NotKept, Conflict):
    """Other answers were handed in before."""


class NotKeptAsSent(NotKept, InvalidUpload):
    """Some items or codes are not of this form: each is named, and the page is to be sent again."""


def waiting(session: Session, assignment_id: uuid.UUID, *, now: dt.datetime | None = None) -> Waiting:
    """What is to be filled in at this place, `now` or at the transaction's own time. Raises NotFound."""
    place = _read_place(session, assignment_id, now)
    informant = place.row["informant"]
    return Waiting(
        round_id=place.round_id,
        is_open=place.row["opening_state"] == "open" and not place.rules.is_historical,
        forms=[(place.rules.instruments[code], form) for code, form in place.forms.items()],
        saved=place.with_drafts({}),
        handed_in=frozenset(code for code, who, *_ in place.stored if who == informant),
    )


def save(
    session: Session, assignment_id: uuid.UUID, answers: Sent, *, by: access.Actor, now: dt.datetime | None = None
) -> Saved:
    """Saves a page of answers (item id -> code, None for a blank); the same page again changes nothing.

    It is saved `now`, or at the transaction's own time, for which nobody has to ask the database first.

    A critical answer is kept for itself, so that changing it later does not undo it. Raises NotFound, NotKeptNow when
    the round is not open here, NotKeptAsSent naming every item or code that is not of this form.
    """
    place = _place(session, assignment_id, now)
    pages = _by_instrument(place, answers)
    _must_be_open(place, pages)
    signals = _safety_signals(place, pages)
    if place.has_consent:
        _keep_drafts(session, place, pages)
        _keep_safety_answers(session, place, pages)
        audit.record(session, by, "answers.saved", "assignment", assignment_id, items=len(answers))
    return Saved(place.has_consent, signals, place.rules)


def submit(
    session: Session,
    assignment_id: uuid.UUID,
    *,
    by: access.Actor,
    now: dt.datetime | None = None,
    answers: Sent | None = None,
) -> Submitted:
    """Hands in what was saved, with `answers` as its last page: scored, decided and appended as a result revision.

    It is handed in `now`, or at the transaction's own time. Handing in the same again is once. Raises what `save`
    raises, Conflict (`differs`) when other answers were handed in before, Refused (`no_consent`, `nothing_answered`).
    """
    place = _place(session, assignment_id, now)
    pages = place.with_drafts(_by_instrument(place, answers or {}))
    _must_be_open(place, pages)
    if not place.has_consent:
        words = "There is no consent in force for this student."
        raise NotKeptNow(words, code="no_consent", place=place, pages=pages)
    new, repeated = _new_forms(place, pages)
    if not new:
        if repeated:
            return Submitted(place.student_id, place.round_id, None, place.rules)
        raise Refused("Nothing was answered yet.", code="nothing_answered")
    revisions = _append(session, place, new, by)
    audit.record(session, by, "answers.submitted", "assignment", assignment_id, forms=len(new))
    return Submitted(place.student_id, place.round_id, revisions, place.rules)


# -- a place in a round --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
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


def _place(session: Session, assignment_id: uuid.UUID, now: dt.datetime | None) -> _Place:
    """Locks the assignment and reads it then, so that of a double click, or of two pages saved at the same moment,
    the second finds what the first did: a lock in the same statement would come after its snapshot."""
    about = {"district": access.scope_of(session).district_id, "assignment": assignment_id}
    _LOCK_PLACE.later(session, about)
    return _read_place(session, assignment_id, now)


def _read_place(session: Session, assignment_id: uuid.UUID, now: dt.datetime | None) -> _Place:
    about = {"district": access.scope_of(session).district_id, "assignment": assignment_id}
    row = _READ_PLACE.first(session, about | {"now": now, "schools": access.schools_of(session)})
    if row is None or not (access.reaches(session, row["school_id"]) and access.reaches(session, row["placed_at"])):
        raise NotFound("There is no such assignment.")
    rules = rounds.rules_of(session, row["round_id"])
    informant = row["informant"]
    forms = {
        code: form for code, names in rules.forms.items() for form in names if results.informant_of(form) == informant
    }
    return _Place(row, rules, forms)


def _must_be_open(place: _Place, pages: Mapping[str, Answers]) -> None:
    if place.rules.is_historical:
        words = "This round holds answers that were given earlier; they come in by file."
        raise NotKeptNow(words, code="round_historical", place=place, pages=pages)
    if place.row["opening_state"] != "open":
        words = "The round is not open at this school."
        raise NotKeptNow(words, code="round_not_open", place=place, pages=pages)


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


def _by_instrument(place: _Place, answers: Sent) -> dict[str, dict[str, int | None]]:
    pages: dict[str, dict[str, int | None]] = {}
    problems = []
    allowed = {item.id: (code, item) for code in place.forms for item in place.rules.instruments[code].items}
    for item_id, answer in answers.items():
        if item_id not in allowed:
            problems.append(Problem("unknown_item", "The form has no such item.", column=item_id))
            continue
        code, item = allowed[item_id]
        if answer is None or (type(answer) is int and answer in item.codes):
            pages.setdefault(code, {})[item_id] = answer
        else:
            codes = ", ".join(map(str, sorted(item.codes)))
            problems.append(Problem("outside_codes", f"The answer is not one of {codes}.", column=item_id))
    if problems:
        raise NotKeptAsSent(
            "Some answers are not of this form.", code="invalid_answers", place=place, pages=pages, problems=problems
        )
    return pages


# -- saving --------------------------------------------------------------------------------------------------------


def _safety_signals(place: _Place, pages: Mapping[str, Answers]) -> tuple[Signal, ...]:
    forms = [
        (code, place.forms[code], scoring.score_one(page, place.rules.instruments[code], place.forms[code]))
        for code, page in pages.items()
        if _critical_answers(place, code, page)
    ]
    if not forms:
        return ()
    verdict = tiers.decide_one(
        forms,
        place.rules.policy,
        place.rules.instruments,
        age=place.row["age"],
        prior_tier=0,
        only_safety=True,
    )
    return tuple(
        Signal(
            student_id=place.student_id,
            school_id=place.row["school_id"],
            rule=rule_id,
            tier=place.rules.policy.rule(rule_id).tier,
            is_self_harm=True,
            source=f"safety_answer/{place.round_id}/{FIRST_ATTEMPT}",
            round_id=place.round_id,
        )
        for rule_id in verdict.reasons
    )


def _critical_answers(place: _Place, code: str, page: Answers) -> dict[str, int]:
    """The critical items of a page that were answered so that somebody should know."""
    instrument, form = place.rules.instruments[code], place.forms[code]
    asked = [c for c in instrument.critical_items if page.get(c.item) is not None and form in (c.forms or (form,))]
    if not asked:
        return {}
    scored = scoring.score_one(page, instrument, form)
    return {
        critical.item: answer
        for critical in asked
        if scored[f"critical_{critical.id}"] and (answer := page[critical.item]) is not None
    }


def _keep_drafts(session: Session, place: _Place, pages: Mapping[str, Answers]) -> None:
    for code, whole in place.with_drafts(pages).items():
        if code in pages:
            _KEEP_DRAFT.later(
                session,
                _owner(session, place)
                | {
                    "instrument": code,
                    "answers": [whole.get(item) for item in results.item_ids(place.rules.instruments[code])],
                    "now": place.now,
                },
            )


def _keep_safety_answers(session: Session, place: _Place, pages: Mapping[str, Answers]) -> None:
    for code, page in pages.items():
        for item, answer in _critical_answers(place, code, page).items():
            _KEEP_SAFETY_ANSWER.later(
                session,
                _owner(session, place) | {"instrument": code, "item": item, "answer": answer, "now": place.now},
            )


_KEEP_DRAFT = Statement(
    "insert into drafts (district_id, assignment_id, instrument, school_id, answers, saved_at)"
    " values (:district, :assignment, :instrument, :school, :answers, :now)"
    " on conflict (district_id, assignment_id, instrument)"
    " do update set answers = excluded.answers, saved_at = excluded.saved_at"
)
_KEEP_SAFETY_ANSWER = Statement(
    "insert into safety_answers (district_id, assignment_id, item, answer, school_id, instrument, answered_at)"
    " values (:district, :assignment, :item, :answer, :school, :instrument, :now) on conflict do nothing"
)


def _owner(session: Session, place: _Place) -> dict[str, Any]:
    return {
        "district": access.scope_of(session).district_id,
        "assignment": place.row["id"],
        "school": place.row["school_id"],
    }


# -- handing in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """One instrument as it stands for the student: new (attempt 1, revision 1), or stored."""

    code: str
    form: str
    attempt: int
    revision: int
    answers: tuple[int | None, ...]
    scored: Mapping[str, object]

    @property
    def label(self) -> str:
        return f"{self.code}/{results.informant_of(self.form)}/{self.attempt}/{self.revision}"


def _new_forms(place: _Place, pages: Mapping[str, Answers]) -> tuple[list[_Form], bool]:
    """The forms that were answered and are not stored yet; and whether others are there already."""
    stored = {code: answers for code, informant, _, _, answers in place.stored if informant == place.row["informant"]}
    new: list[_Form] = []
    repeated = False
    for code, page in pages.items():
        answers = tuple(page.get(item) for item in results.item_ids(place.rules.instruments[code]))
        if all(answer is None for answer in answers):
            continue
        if code not in stored:
            new.append(_form(place, code, place.forms[code], 1, 1, answers))
        elif stored[code] == answers:
            repeated = True
        else:
            words = f"Other answers to {code} were handed in before."
            raise NotKeptBeside(words, code="differs", place=place, pages=pages)
    return new, repeated


def _form(place: _Place, code: str, form: str, attempt: int, revision: int, answers: tuple[int | None, ...]) -> _Form:
    instrument = place.rules.instruments[code]
    by_item = dict(zip(results.item_ids(instrument), answers, strict=True))
    return _Form(code, form, attempt, revision, answers, scoring.score_one(by_item, instrument, form))


def _append(session: Session, place: _Place, new: Sequence[_Form], by: access.Actor) -> Revisions:
    forms = [*new, *_stored_forms(place)]
    verdict = tiers.decide_one(
        [(form.code, form.form, form.scored) for form in forms],
        place.rules.policy,
        place.rules.instruments,
        age=place.row["age"],
        prior_tier=place.prior_tier,
    )
    revision, reasons_before, forms_before = place.row["standing"] or (0, (), ())
    parameters: dict[str, Any] = {
        "district": access.scope_of(session).district_id,
        "round": place.round_id,
        "student": place.student_id,
        "revision": revision + 1,
        "school": place.row["school_id"],
        "tier": verdict.tier,
    }
    _APPEND.later(
        session,
        parameters
        | _columns(place, new)
        | {
            "by": by.person,
            "now": place.now,
            "rules": place.rules.rule_set_id,
            "assignment": place.row["id"],
            "validity": verdict.validity,
            "reasons": list(verdict.reasons),
            "forms": sorted(form.label for form in forms),
            "prior_tier": place.prior_tier,
            "age": place.row["age"],
        },
    )
    attempt, before = max(form.attempt for form in forms), results.latest_attempt(forms_before)
    return Revisions(
        round_id=place.round_id,
        is_historical=False,
        relation=results.ONE_NEW,
        parameters=parameters,
        with_reasons=(
            Revision(
                student_id=place.student_id,
                school_id=place.row["school_id"],
                reasons=verdict.reasons,
                reasons_before=tuple(reasons_before),
                attempt=attempt,
                is_new_attempt=attempt > before > 0,
            ),
        ),
    )


def _stored_forms(place: _Place) -> list[_Form]:
    """What the student has in this round already: of every attempt the revision that stands."""
    standing = {
        (code, informant, attempt): (revision, answers)
        for code, informant, attempt, revision, answers in sorted(place.stored, key=lambda stored: stored[3])
    }
    return [
        _form(place, code, results.form_of(place.rules.instruments[code], informant), attempt, revision, answers)
        for (code, informant, attempt), (revision, answers) in standing.items()
    ]


def _columns(place: _Place, new: Sequence[_Form]) -> dict[str, list[Any]]:
    return {
        "instrument": [form.code for form in new],
        "answers": [_array_text(form.answers) for form in new],
        "status": [form.scored["status"] for form in new],
        "missing": [form.scored["n_missing"] for form in new],
        "scores": [
            _array_text([form.scored[scale.id] for scale in place.rules.instruments[form.code].scales]) for form in new
        ],
    }


def _array_text(values: Sequence[object]) -> str:
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"


_APPEND = Statement(
    "with filled_in as (insert into administrations (district_id, round_id, student_id, informant, instrument, attempt,"
    "  revision, school_id, answers, status, missing_count, scores, recorded_by, recorded_at)"
    " select a.district_id, a.round_id, a.student_id, a.informant, n.instrument, 1, 1, :school,"
    "  cast(n.answers as smallint[]), n.status, n.missing, cast(n.scores as real[]), :by, :now from assignments a,"
    " unnest(cast(:instrument as text[]), cast(:answers as text[]), cast(:status as text[]),"
    "  cast(:missing as smallint[]), cast(:scores as text[])) as n (instrument, answers, status, missing, scores)"
    " where a.district_id = :district and a.id = :assignment),"
    " handed_in as (delete from drafts where district_id = :district and assignment_id = :assignment)"
    " insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons, forms,"
    " prior_tier, age, rule_set_id, recorded_by, recorded_at)"
    " values (:district, :round, :student, :revision, :school, :tier, :validity, :reasons, :forms, :prior_tier, :age,"
    " :rules, :by, :now)"
)
