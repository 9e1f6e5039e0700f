"""A student's own copy: what is kept of one person, in plain parts, for whoever may have it."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from screening import access, audit, history, identity, rights, rounds, tiers
from screening.history import RoundOfStudent
from screening.models import RightsRequest

OPENED = "action in ('alert.read', 'case.read', 'result.read', 'student.named')"
"""The account's lines that say that somebody opened something about a student."""
OWN_FORMS = frozenset({"self", "youth"})


def of_student(
    session: Session, request: RightsRequest, *, locale: str, by: access.Actor
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The parts that a granted request names, each a list of plain rows; that they were handed out is kept account of.

    Without the words of others: notes of cases are asked for by word of mouth, since they may do harm.
    """
    over_rounds = history.of_student(session, request.student_id, by=by, because="own_copy")
    known = _Known(session, request.student_id, over_rounds, locale)
    found = {part: _READERS[part](known) for part in rights.PARTS if part in request.parts}
    audit.record(
        session, by, "rights.copied", "student", request.student_id,
        request=str(request.id), parts=list(found), purpose="rights",
    )  # fmt: skip
    return found


@dataclass(frozen=True)
class _Known:
    session: Session
    student_id: uuid.UUID
    over_rounds: Sequence[RoundOfStudent]
    locale: str

    def rows(self, statement: TextClause) -> list[Mapping[str, Any]]:
        wanted = {"district": access.scope_of(self.session).district_id, "student": self.student_id}
        return [dict(row) for row in self.session.execute(statement, wanted).mappings()]


def _identity(known: _Known) -> list[Mapping[str, Any]]:
    person = identity.people(known.session, [known.student_id]).get(known.student_id)
    if person is None:
        return []
    told = {"name": person.name, "number": person.number, "born_on": person.born_on, "phone": person.phone}
    return [told, *known.rows(_ENROLLED)]


def _consents(known: _Known) -> list[Mapping[str, Any]]:
    return known.rows(_CONSENTS)


def _rounds(known: _Known) -> list[Mapping[str, Any]]:
    return [
        {"round": each.name, "opened_at": each.opens_at, "forms": [form.instrument for form in each.forms]}
        for each in known.over_rounds
    ]


def _answers(known: _Known) -> list[Mapping[str, Any]]:
    """One's own: what a parent or a teacher answered is theirs."""
    return [
        {
            "round": each.name,
            "instrument": form.instrument,
            "answered_at": form.recorded_at,
            "answers": dict(form.answers),
        }
        for each in known.over_rounds
        for form in each.forms
        if form.informant in OWN_FORMS
    ]


def _results(known: _Known) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for each in known.over_rounds:
        if each.result is not None:
            policy = rounds.rules_of(known.session, each.round_id).policy
            why = [words for _, _, words in tiers.explain(each.result.reasons, policy, known.locale)]
            tier = policy.tier_name(each.result.tier, known.locale)
            found.append({"round": each.name, "at": each.result.recorded_at, "tier": tier, "because": why})
    return found


def _readings(known: _Known) -> list[Mapping[str, Any]]:
    return known.rows(_READINGS)


_READERS: Mapping[str, Callable[[_Known], list[Mapping[str, Any]]]] = {
    "identity": _identity,
    "consents": _consents,
    "rounds": _rounds,
    "answers": _answers,
    "results": _results,
    "readings": _readings,
}
_ENROLLED = text(
    "select c.code as school, e.grade, e.class_name, e.since_on, e.until_on from enrollments e"
    " join schools c on c.district_id = e.district_id and c.id = e.school_id"
    " where e.district_id = :district and e.student_id = :student order by e.since_on"
)
_CONSENTS = text(
    "select decision, given_by, notice_version, channel, decided_at from consents"
    " where district_id = :district and student_id = :student order by decided_at, recorded_at"
)
_READINGS = text(
    "select at, role, case action when 'student.named' then 'name' else 'record' end as what from audit_entries"  # noqa: S608 - our own SQL
    f" where district_id = :district and {OPENED}"
    " and subject_id in (select cast(:student as uuid)::text"
    " union all select id::text from alerts where district_id = :district and student_id = :student"
    " union all select id::text from cases where district_id = :district and student_id = :student)"
    " order by id desc limit 1000"
)
