"""The online form: a page of answers is saved, a critical answer is noticed at once, a form is handed in.

What the floor above must weigh comes back as signals and revisions; the door passes them on in the same transaction.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from instruments.definition import Instrument
from screening import access, audit, results, rounds, tiers
from screening.errors import Conflict, InvalidUpload, NotFound, Problem, Refused
from screening.results import FormKey, Revision, Revisions, Signal


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


Answers = Mapping[str, int | None]


def save(session: Session, assignment_id: uuid.UUID, answers: Answers, *, by: access.Actor, now: dt.datetime) -> Saved:
    """Saves a page of answers (item id -> code, None for a blank); the same page again changes nothing.

    A critical answer is kept for itself, so that changing it later does not undo it. Raises NotFound, Refused when
    the round is not open here, InvalidUpload naming every item or code that is not of this form.
    """
    place = _place(session, assignment_id, now)
    pages = _by_instrument(place, answers)
    signals = _safety_signals(place, pages)
    if place.has_consent:
        _keep_drafts(session, place, pages, now)
        _keep_safety_answers(session, place, pages, now)
        audit.record(session, by, "answers.saved", "assignment", assignment_id, items=len(answers))
    return Saved(place.has_consent, signals, place.rules)


def submit(
    session: Session, assignment_id: uuid.UUID, *, by: access.Actor, now: dt.datetime, answers: Answers | None = None
) -> Submitted:
    """Hands in what was saved, with `answers` as its last page: scored, decided and appended as a result revision.

    Handing in the same again is once. Raises what `save` raises, Conflict (`differs`) when other answers were
    handed in before, Refused (`no_consent`, `nothing_answered`).
    """
    place = _place(session, assignment_id, now)
    if not place.has_consent:
        raise Refused("There is no consent in force for this student.", code="no_consent")
    pages = place.with_drafts(_by_instrument(place, answers or {}))
    new, repeated = _new_forms(place, pages)
    if not new:
        if repeated:
            return Submitted(place.student_id, place.round_id, None, place.rules)
        raise Refused("Nothing was answered yet.", code="nothing_answered")
    revisions = _append(session, place, new, by, now)
    audit.record(session, by, "answers.submitted", "assignment", assignment_id, forms=len(new))
    return Submitted(place.student_id, place.round_id, revisions, place.rules)


# -- a place in a round --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """An assignment with all that handing in depends on, read in one statement."""

    row: RowMapping
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
    def has_consent(self) -> bool:
        decisions: dict[str, str] = self.row["decisions"] or {}
        return self.rules.policy.has_consent(self.row["age"], decisions)

    def with_drafts(self, pages: Mapping[str, Answers]) -> dict[str, dict[str, int | None]]:
        """What was saved before, with these answers over it."""
        merged: dict[str, dict[str, int | None]] = {
            code: dict(zip(results.item_ids(self.rules.instruments[code]), answers, strict=True))
            for code, answers in (self.row["drafts"] or {}).items()
        }
        for code, page in pages.items():
            merged.setdefault(code, {}).update(page)
        return merged


def _place(session: Session, assignment_id: uuid.UUID, now: dt.datetime) -> _Place:
    """Reads and locks the assignment, so that a double click is one after the other."""
    row = (
        session.execute(
            _READ_PLACE,
            {"district": access.scope_of(session).district_id, "assignment": assignment_id, "now": now},
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise NotFound("There is no such assignment.")
    rules = rounds.rules_of(session, row["round_id"])
    if row["opening_state"] != "open":
        raise Refused("The round is not open at this school.", code="round_not_open")
    informant = row["informant"]
    forms = {
        code: form for code, names in rules.forms.items() for form in names if results.informant_of(form) == informant
    }
    return _Place(row, rules, forms)


_READ_PLACE = text(
    "select a.round_id, a.student_id, a.informant, a.id, s.school_id,"
    " cast(extract(year from age(o.opens_at, s.born_month + interval '1 month')) as smallint) as age,"
    " p.state as opening_state,"
    " (select jsonb_object_agg(c.given_by, c.decision) from (select distinct on (given_by) given_by, decision"
    "   from consents where district_id = :district and student_id = a.student_id and decided_at <= :now"
    "   order by given_by, decided_at desc, recorded_at desc, decision = 'granted') c) as decisions,"
    " (select jsonb_object_agg(d.instrument, d.answers) from drafts d"
    "   where d.district_id = :district and d.assignment_id = a.id) as drafts,"
    " (select jsonb_agg(jsonb_build_array(f.instrument, f.informant, f.attempt, f.revision, f.status,"
    "    cast(f.answers as text), cast(f.scores as text))) from administrations f where f.district_id = :district"
    "   and f.round_id = a.round_id and f.student_id = a.student_id) as stored,"
    " (select jsonb_build_array(r.revision, r.reasons, r.forms) from results r where r.district_id = :district"
    "   and r.round_id = a.round_id and r.student_id = a.student_id order by r.revision desc limit 1) as standing,"
    " (select max(t.tier) from (select distinct on (r.round_id) r.tier from results r where r.district_id = :district"
    "   and r.student_id = a.student_id and r.round_id <> a.round_id"
    "   order by r.round_id, r.revision desc) t) as prior_tier"
    " from assignments a"
    " join students s on s.district_id = a.district_id and s.id = a.student_id"
    " join rounds o on o.district_id = a.district_id and o.id = a.round_id"
    " left join openings p on p.district_id = a.district_id and p.round_id = a.round_id and p.school_id = s.school_id"
    " where a.district_id = :district and a.id = :assignment for no key update of a"
)


def _by_instrument(place: _Place, answers: Answers) -> dict[str, dict[str, int | None]]:
    pages: dict[str, dict[str, int | None]] = {}
    problems = []
    allowed = {item.id: (code, item) for code in place.forms for item in place.rules.instruments[code].items}
    for item_id, answer in answers.items():
        if item_id not in allowed:
            problems.append(Problem("unknown_item", f"{item_id} is not an item of this form.", column=item_id))
            continue
        code, item = allowed[item_id]
        if answer is not None and answer not in item.codes:
            codes = ", ".join(map(str, sorted(item.codes)))
            problems.append(Problem("outside_codes", f"{answer} is not one of {codes}.", column=item_id))
            continue
        pages.setdefault(code, {})[item_id] = answer
    if problems:
        raise InvalidUpload("Some answers are not of this form.", problems=problems)
    return pages


# -- saving --------------------------------------------------------------------------------------------------------


def _frame(instrument: Instrument, answers: Answers) -> pl.DataFrame:
    return pl.DataFrame(
        [
            pl.Series("key", [0], pl.UInt32),
            *(pl.Series(item, [answers.get(item)], pl.Int16) for item in results.item_ids(instrument)),
        ]
    )


def _students(place: _Place) -> pl.DataFrame:
    return pl.DataFrame(
        {"key": [0], "age": [place.row["age"]], "prior_tier": [place.row["prior_tier"] or 0]},
        schema={"key": pl.UInt32, "age": pl.Int16, "prior_tier": pl.Int8},
    )


def _safety_signals(place: _Place, pages: Mapping[str, Answers]) -> tuple[Signal, ...]:
    forms = {
        (code, place.forms[code]): results.scored(
            _frame(place.rules.instruments[code], page), place.rules.instruments[code], place.forms[code]
        )
        for code, page in pages.items()
        if _critical_answers(place.rules.instruments[code], page)
    }
    if not forms:
        return ()
    verdict = tiers.decide(_students(place), forms, place.rules.policy, place.rules.instruments, only_safety=True)
    return tuple(
        Signal(
            student_id=place.student_id,
            school_id=place.row["school_id"],
            rule=rule_id,
            tier=place.rules.policy.rule(rule_id).tier,
            is_self_harm=True,
            source=f"safety_answer/{place.row['id']}",
            round_id=place.round_id,
        )
        for rule_id in verdict.item(0, "reasons")
    )


def _critical_answers(instrument: Instrument, page: Answers) -> dict[str, int]:
    """The critical items of a page that were answered so that somebody should know."""
    scored = results.scored(_frame(instrument, page), instrument, instrument.default_form)
    return {
        critical.item: answer
        for critical in instrument.critical_items
        if scored.item(0, f"critical_{critical.id}") and (answer := page.get(critical.item)) is not None
    }


def _keep_drafts(session: Session, place: _Place, pages: Mapping[str, Answers], now: dt.datetime) -> None:
    for code, whole in place.with_drafts(pages).items():
        if code in pages:
            session.execute(
                text(
                    "insert into drafts (district_id, assignment_id, instrument, school_id, answers, saved_at)"
                    " values (:district, :assignment, :instrument, :school, :answers, :now)"
                    " on conflict (district_id, assignment_id, instrument)"
                    " do update set answers = excluded.answers, saved_at = excluded.saved_at"
                ),
                _owner(session, place)
                | {
                    "instrument": code,
                    "answers": [whole.get(item) for item in results.item_ids(place.rules.instruments[code])],
                    "now": now,
                },
            )


def _keep_safety_answers(session: Session, place: _Place, pages: Mapping[str, Answers], now: dt.datetime) -> None:
    for code, page in pages.items():
        for item, answer in _critical_answers(place.rules.instruments[code], page).items():
            session.execute(
                text(
                    "insert into safety_answers (district_id, assignment_id, item, answer, school_id, instrument,"
                    " answered_at) values (:district, :assignment, :item, :answer, :school, :instrument, :now)"
                    " on conflict do nothing"
                ),
                _owner(session, place) | {"instrument": code, "item": item, "answer": answer, "now": now},
            )


def _owner(session: Session, place: _Place) -> dict[str, Any]:
    return {
        "district": access.scope_of(session).district_id,
        "assignment": place.row["id"],
        "school": place.row["school_id"],
    }


# -- handing in ----------------------------------------------------------------------------------------------------


def _new_forms(place: _Place, pages: Mapping[str, Answers]) -> tuple[dict[FormKey, pl.DataFrame], bool]:
    """The forms that were answered and are not stored yet, scored; and whether others are there already."""
    stored = {row[0]: row[5] for row in place.row["stored"] or () if row[1] == place.row["informant"]}
    new: dict[FormKey, pl.DataFrame] = {}
    repeated = False
    for code, page in pages.items():
        if all(answer is None for answer in page.values()):
            continue
        instrument, form = place.rules.instruments[code], place.forms[code]
        frame = _frame(instrument, page)
        if code in stored:
            if frame.select(results.answers_text(instrument)).item() != stored[code]:
                raise Conflict(f"Other answers to {code} were handed in before.", code="differs")
            repeated = True
            continue
        attempt = frame.with_columns(pl.lit(1, pl.Int16).alias("attempt"), pl.lit(1, pl.Int16).alias("revision"))
        new[code, form] = results.scored(attempt, instrument, form)
    return new, repeated


def _append(
    session: Session, place: _Place, new: Mapping[FormKey, pl.DataFrame], by: access.Actor, now: dt.datetime
) -> Revisions:
    forms = {**results.unpacked(_stored(place), place.rules), **new}
    verdict = results.decided(_students(place), forms, place.rules).row(0, named=True)
    revision, reasons_before, forms_before = place.row["standing"] or (0, (), ())
    parameters: dict[str, Any] = {
        "district": access.scope_of(session).district_id,
        "round": place.round_id,
        "student": place.student_id,
        "revision": revision + 1,
    }
    account = {"school": place.row["school_id"], "by": by.person, "now": now}
    session.execute(_APPEND_FORMS, parameters | account | _form_columns(place, new))
    session.execute(
        _APPEND_RESULT,
        parameters
        | account
        | {"rules": place.rules.rule_set_id, "assignment": place.row["id"]}
        | {name: verdict[name] for name in ("tier", "validity", "reasons", "forms", "prior_tier", "age")},
    )
    before = results.latest_attempt(forms_before)
    return Revisions(
        round_id=place.round_id,
        is_historical=False,
        relation=results.ONE_STORED,
        parameters=parameters,
        with_reasons=(
            Revision(
                student_id=place.student_id,
                school_id=place.row["school_id"],
                reasons=tuple(verdict["reasons"]),
                reasons_before=tuple(reasons_before),
                attempt=verdict["attempt"],
                is_new_attempt=verdict["attempt"] > before > 0,
            ),
        ),
    )


def _stored(place: _Place) -> pl.DataFrame:
    """The standing revision of every stored form of this student in this round."""
    rows: Sequence[Sequence[Any]] = place.row["stored"] or ()
    schema = {name: dtype for name, dtype in results.ADMINISTRATION_COLUMNS.items() if name != "student_id"}
    return (
        pl.DataFrame(rows, schema=schema, orient="row")
        .with_columns(pl.lit(0, pl.UInt32).alias("key"))
        .sort("revision")
        .unique(["instrument", "informant", "attempt"], keep="last", maintain_order=True)
    )


def _form_columns(place: _Place, new: Mapping[FormKey, pl.DataFrame]) -> dict[str, list[Any]]:
    rows = [
        frame.select(
            pl.lit(code).alias("instrument"),
            pl.lit(results.informant_of(form)).alias("informant"),
            results.answers_text(place.rules.instruments[code]).alias("answers"),
            pl.col("status").cast(pl.String),
            pl.col("n_missing").alias("missing"),
            results.scores_text(place.rules.instruments[code]).alias("scores"),
        ).row(0, named=True)
        for (code, form), frame in new.items()
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


_APPEND_FORMS = text(
    "insert into administrations (district_id, round_id, student_id, informant, instrument, attempt, revision,"
    " school_id, answers, status, missing_count, scores, recorded_by, recorded_at)"
    " select :district, :round, :student, n.informant, n.instrument, 1, 1, :school, cast(n.answers as smallint[]),"
    "  n.status, n.missing, cast(n.scores as real[]), :by, :now"
    " from unnest(cast(:informant as text[]), cast(:instrument as text[]), cast(:answers as text[]),"
    "  cast(:status as text[]), cast(:missing as smallint[]), cast(:scores as text[]))"
    " as n (informant, instrument, answers, status, missing, scores)"
)
_APPEND_RESULT = text(
    "with gone as (delete from drafts where district_id = :district and assignment_id = :assignment)"
    " insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons, forms,"
    " prior_tier, age, rule_set_id, recorded_by, recorded_at)"
    " values (:district, :round, :student, :revision, :school, :tier, :validity, :reasons, :forms, :prior_tier, :age,"
    " :rules, :by, :now)"
)
