"""Signals become alerts, in the transaction that brought them: each result weighed once, each signal a reason once.

At most one open alert per student: a further signal adds a reason and may raise it, never doubles or lowers it.
"""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import clocks, delivery, rules
from screening import access, audit, calendars, results, rounds
from screening.beside import beside
from screening.inserting import as_array
from screening.policy import MODEL_RULES, Policy
from screening.results import Revisions, Signal
from screening.school_days import Calendar
from screening.statements import FEW, Statement

SWEEP_REACH = dt.timedelta(days=2)


class _Due:
    """By when an alert raised now is to be answered and seen: worked out once for each tier and school."""

    def __init__(self, policy: Policy, now: dt.datetime, schools: Mapping[uuid.UUID | None, Calendar]) -> None:
        self._policy, self._now, self._schools = policy, now, schools
        self._known: dict[tuple[int, bool, uuid.UUID | None], clocks.Clocks] = {}

    def by(self, tier: int, has_self_harm: bool, school_id: uuid.UUID | None) -> clocks.Clocks:
        place = (tier, has_self_harm, school_id)
        if place not in self._known:
            calendar = self._schools.get(school_id) or self._schools[None]
            self._known[place] = clocks.due(self._policy, tier, has_self_harm, self._now, calendar)
        return self._known[place]


@dataclass(frozen=True)
class _Held:
    """An open alert as it stood when its row was locked."""

    id: uuid.UUID
    tier: int
    state: str
    has_self_harm: bool
    answer_by: dt.datetime
    see_by: dt.datetime
    school_id: uuid.UUID | None = None
    """Where it stands: a signal of a school that the student has left joins it there."""


def raise_alerts(session: Session, signals: Sequence[Signal], *, now: dt.datetime, policy: Policy) -> list[uuid.UUID]:
    """Makes every signal a reason of its student's open alert, opening or raising alerts where needed.

    Returns the alerts that ring: new ones and those put before people anew. A signal that is already a reason of an
    alert of that student, open or closed, changes nothing. Signals without a student become upload concerns.
    """
    if not signals:
        return []
    schools = {s.school_id for s in signals if s.school_id is not None}
    due = _Due(policy, now, calendars.of_schools(session, schools))
    ringing = _open_upload_concerns(session, [s for s in signals if s.student_id is None], now, due)
    noticed = _by_student(_not_yet_noticed(session, [s for s in signals if s.student_id is not None]))
    seen, waiting = _join_or_open(session, noticed, now, due)
    ringing += seen
    if waiting:
        # Whoever opened an alert between our look and our insert holds it now; or it stands at another school, to
        # which the student has gone meanwhile. A signal joins it wherever it is.
        with access.widened(session, None):
            while waiting:
                seen, waiting = _join_or_open(session, waiting, now, due)
                ringing += seen
    audit.record_many(session, access.system(access.scope_of(session).district_id), "alert.raised", "alert", ringing)
    delivery.announce(session, ringing, now=now)
    return ringing


def _join_or_open(
    session: Session, waiting: Mapping[uuid.UUID, Sequence[Signal]], now: dt.datetime, due: _Due
) -> tuple[list[uuid.UUID], Mapping[uuid.UUID, Sequence[Signal]]]:
    """The alerts that ring, and whose signals found neither an alert to join nor room for one of their own."""
    if not waiting:
        return [], {}
    held = _locked(session, list(waiting))
    ringing = _join(session, {student: waiting[student] for student in held}, held, now, due)
    fresh = {student: own for student, own in waiting.items() if student not in held}
    opened = _open(session, fresh, now, due)
    return [*ringing, *opened.values()], {student: own for student, own in fresh.items() if student not in opened}


def weigh(session: Session, revisions: Revisions, *, now: dt.datetime, policy: Policy) -> list[uuid.UUID]:
    """Weighs result revisions just appended: a Weighing for each, and alerts where the rules found something new.

    A historical round's revisions are weighed and ring nobody: its reds are a list for the lead.
    """
    weighing, parameters = _weighing_of(revisions.relation), revisions.parameters | {"now": now}
    if revisions.relation == results.NEWLY_LOADED:
        with beside(session, lambda: weighing.run(session, parameters, is_bulk=True)):
            signals = _signals(revisions, policy)
    else:
        signals = _signals(revisions, policy)
        if revisions.relation == results.ONE_NEW:
            weighing.later(session, parameters)
        else:
            weighing.run(session, parameters, is_bulk=True)
    return [] if revisions.is_historical else raise_alerts(session, signals, now=now, policy=policy)


@lru_cache
def _weighing_of(relation: str) -> Statement:
    # what this transaction has just loaded nobody else can have weighed, and to look for it costs half as much again
    unless = "" if relation == results.NEWLY_LOADED else " on conflict do nothing"
    return Statement(  # the relation is one of our own three texts
        "insert into weighings (district_id, round_id, student_id, revision, school_id, tier, weighed_at)"  # noqa: S608
        f" select :district, :round, r.student_id, r.revision, r.school_id, r.tier, :now from {relation} r{unless}"
    )


def weigh_load(
    session: Session,
    revisions: Revisions | None,
    signals: Sequence[Signal],
    now: dt.datetime,
    frozen: rounds.RoundRules,
) -> None:
    """What a load of a file brings: its revisions, and critical answers in rows and forms that were not kept."""
    if revisions is not None:
        weigh(session, revisions, now=now, policy=frozen.policy)
    raise_alerts(session, signals, now=now, policy=frozen.policy)


def sweep(session: Session, *, now: dt.datetime, reach: dt.timedelta | None = SWEEP_REACH) -> int:
    """Weighs every revision that no one weighed, as a net under the doors. Returns how many there were.

    `reach` bounds how far back it looks; None looks at everything.
    """
    found = session.execute(
        text(
            "select r.round_id, r.student_id, r.revision from results r"
            " where r.district_id = :district and (cast(:since as timestamptz) is null or r.recorded_at >= :since)"
            " and not exists (select from weighings w where w.district_id = r.district_id"
            "  and w.round_id = r.round_id and w.student_id = r.student_id and w.revision = r.revision)"
            " order by r.round_id, r.student_id, r.revision"
        ),
        {"district": access.scope_of(session).district_id, "since": None if reach is None else now - reach},
    ).all()
    for row in found:
        own = rounds.rules_of(session, row.round_id)
        revisions = Revisions.stored(session, row.round_id, row.student_id, row.revision)
        weigh(session, revisions, now=now, policy=own.policy)
    return len(found)


def _signals(revisions: Revisions, policy: Policy) -> list[Signal]:
    known = {rule.id: (rule.tier, rule.kind == "self_harm") for rule in (*policy.all_rules, *MODEL_RULES)}
    return [
        Signal(
            student_id=found.student_id,
            school_id=found.school_id,
            rule=rule,
            tier=known[rule][0],
            is_self_harm=known[rule][1],
            source=f"result/{revisions.round_id}/{found.attempt}",
            round_id=revisions.round_id,
        )
        for found in revisions.with_reasons
        for rule in rules.news(found.reasons, found.reasons_before, is_new_attempt=found.is_new_attempt)
    ]


def _by_student(signals: Sequence[Signal]) -> dict[uuid.UUID, list[Signal]]:
    grouped: dict[uuid.UUID, list[Signal]] = defaultdict(list)
    for signal in signals:
        if signal.student_id is not None:
            grouped[signal.student_id].append(signal)
    return dict(grouped)


def _not_yet_noticed(session: Session, signals: Sequence[Signal]) -> list[Signal]:
    students = {s.student_id for s in signals}
    about = {"district": access.scope_of(session).district_id, "students": as_array("uuid", students)}
    noticed = {
        (row["student_id"], row["rule"], rules.occasion(row["source"]))
        for row in _NOTICED.run(session, about, is_bulk=len(students) > FEW)
    }
    if not noticed:  # as nearly always, and then there may be tens of thousands
        return list(signals)
    return [s for s in signals if (s.student_id, s.rule, rules.occasion(s.source)) not in noticed]


_NOTICED = Statement(
    "select a.student_id, r.rule, r.source from unnest(cast(:students as uuid[])) as n (student_id)"
    " join alerts a on a.district_id = :district and a.student_id = n.student_id"
    " join alert_reasons r on r.district_id = a.district_id and r.alert_id = a.id"
)
_LOCKED = Statement(
    # a join and not an array to search: tens of thousands of students against as many alerts
    "select a.id, a.student_id, a.tier, a.state, a.has_self_harm, a.answer_by, a.see_by, a.school_id"
    " from unnest(cast(:students as uuid[])) as n (student_id)"
    " join alerts a on a.district_id = :district and a.student_id = n.student_id and a.closed_at is null"
    " order by a.student_id for no key update of a"
)


def _locked(session: Session, students: list[uuid.UUID]) -> dict[uuid.UUID, _Held]:
    """The open alerts of these students, locked in one order so that two loads never wait for each other in a ring."""
    about = {"district": access.scope_of(session).district_id, "students": as_array("uuid", students)}
    found = _LOCKED.run(session, about, is_bulk=len(students) > FEW)
    return {row.pop("student_id"): _Held(**row) for row in found}


def _open(
    session: Session,
    fresh: Mapping[uuid.UUID, Sequence[Signal]],
    now: dt.datetime,
    due: _Due,
) -> dict[uuid.UUID, uuid.UUID]:
    """Opens an alert for each student, unless another transaction was faster; returns the alerts by student."""
    if not fresh:
        return {}
    rows = [_alert_row(student, own, now, due) for student, own in sorted(fresh.items(), key=_by_id)]
    inserted = _insert_alerts(session, rows, now)
    opened = {row["student_id"]: row["id"] for row in rows if row["id"] in inserted}
    _add_reasons(session, {alert: fresh[student] for student, alert in opened.items()}, now)
    return opened


def _by_id(found: tuple[uuid.UUID, object]) -> int:
    return found[0].int


_INSERT_ALERTS = Statement(
    "insert into alerts (district_id, id, school_id, student_id, round_id, upload_id, file_digest, place, source,"
    " tier, has_self_harm, opened_at, raised_at, answer_by, see_by)"
    " select :district, n.id, n.school_id, n.student_id, n.round_id, n.upload_id, n.file_digest, n.place, n.source,"
    "  n.tier, n.has_self_harm, :now, :now, n.answer_by, n.see_by"
    " from unnest(cast(:id as uuid[]), cast(:school_id as uuid[]), cast(:student_id as uuid[]),"
    "  cast(:round_id as uuid[]), cast(:upload_id as uuid[]), cast(:file_digest as bytea[]), cast(:place as text[]),"
    "  cast(:source as text[]), cast(:tier as smallint[]), cast(:has_self_harm as boolean[]),"
    "  cast(:answer_by as timestamptz[]), cast(:see_by as timestamptz[]))"
    " as n (id, school_id, student_id, round_id, upload_id, file_digest, place, source, tier, has_self_harm,"
    "  answer_by, see_by)"
    " on conflict do nothing returning id"
)
"""RETURNING names only the rows that were inserted: whoever was faster keeps theirs."""


_ALERT_TYPES = {
    **dict.fromkeys(("id", "school_id", "student_id", "round_id", "upload_id"), "uuid"),
    "file_digest": "bytea",
    "tier": "smallint",
    "has_self_harm": "boolean",
    "answer_by": "timestamptz",
    "see_by": "timestamptz",
}


def _insert_alerts(session: Session, rows: Sequence[dict[str, Any]], now: dt.datetime) -> set[uuid.UUID]:
    columns = {name: as_array(_ALERT_TYPES.get(name, "text"), [row[name] for row in rows]) for name in rows[0]}
    about = {"district": access.scope_of(session).district_id, "now": now}
    return {row["id"] for row in _INSERT_ALERTS.run(session, columns | about, is_bulk=len(rows) > FEW)}


def _alert_row(student: uuid.UUID | None, signals: Sequence[Signal], now: dt.datetime, due: _Due) -> dict[str, Any]:
    first = signals[0]
    tier, has_self_harm = _weight(signals)
    by = due.by(tier, has_self_harm, first.school_id)
    return {
        "id": uuid.uuid4(),
        "school_id": first.school_id,
        "student_id": student,
        "round_id": first.round_id,
        "upload_id": first.upload_id if student is None else None,
        "file_digest": first.file_digest if student is None else None,
        "place": first.place if student is None else None,
        "source": _source(first),
        "tier": tier,
        "has_self_harm": has_self_harm,
        "answer_by": by.answer_by,
        "see_by": by.see_by,
    }


def _source(signal: Signal) -> str:
    if signal.student_id is None:
        return "upload"
    kind = signal.source.split("/", 1)[0]
    return kind if kind in ("safety_answer", "concern") else "result"


def _weight(signals: Collection[Signal]) -> tuple[int, bool]:
    return max(s.tier for s in signals), any(s.is_self_harm for s in signals)


def _join(
    session: Session,
    joining: Mapping[uuid.UUID, Sequence[Signal]],
    held: Mapping[uuid.UUID, _Held],
    now: dt.datetime,
    due: _Due,
) -> list[uuid.UUID]:
    """Adds signals to open alerts; returns those that ring again."""
    if not joining:
        return []
    ringing = _raise(
        session, [(held[student], _where(held[student], own)) for student, own in joining.items()], now, due
    )
    district_id = access.scope_of(session).district_id
    about = {"district": district_id, "students": as_array("uuid", joining)}
    _RAISE_CASES.run(session, about, is_bulk=len(joining) > FEW)
    reds = [student for student, own in joining.items() if _weight(own)[0] == rules.RED]
    if reds:
        about = {"district": district_id, "students": as_array("uuid", reds)}
        _CALL_CRISIS.run(session, about, is_bulk=len(reds) > FEW)
    return ringing


_RAISE_CASES = Statement(
    "update cases c set tier = a.tier from alerts a where c.district_id = :district"
    " and a.district_id = c.district_id and a.student_id = c.student_id and a.closed_at is null"
    " and c.state <> 'closed' and c.tier < a.tier and c.student_id = any(cast(:students as uuid[]))"
)
_CALL_CRISIS = Statement(
    "update cases set state = 'crisis' where district_id = :district and state <> 'closed'"
    " and student_id = any(cast(:students as uuid[]))"
)
"""A new red sets aside whatever a case had come to, the proposal of its end too."""


def _where(alert: _Held, signals: Sequence[Signal]) -> Sequence[Signal]:
    """Signals as reasons of an alert that may stand at another school by now: there they have to be seen."""
    if all(signal.school_id == alert.school_id for signal in signals):
        return signals
    return [replace(signal, school_id=alert.school_id) for signal in signals]


def _raise(
    session: Session,
    joining: Sequence[tuple[_Held, Sequence[Signal]]],
    now: dt.datetime,
    due: _Due,
) -> list[uuid.UUID]:
    _add_reasons(session, {alert.id: own for alert, own in joining}, now)
    changes = [_raised(alert, own, due.by(*_raised_weight(alert, own), own[0].school_id)) for alert, own in joining]
    columns = {name: as_array(kind, [change[name] for change in changes]) for name, kind in _CHANGE_TYPES.items()}
    about = {"district": access.scope_of(session).district_id, "now": now}
    _RAISE_ALERTS.run(session, columns | about, is_bulk=len(changes) > FEW)
    return [change["id"] for change in changes if change["rings"]]


def _raised_weight(alert: _Held, signals: Collection[Signal]) -> tuple[int, bool]:
    tier, has_self_harm = _weight(signals)
    return max(tier, alert.tier), has_self_harm or alert.has_self_harm


def _raised(alert: _Held, signals: Collection[Signal], due: clocks.Clocks) -> dict[str, Any]:
    tier, has_self_harm = _raised_weight(alert, signals)
    rings = rules.rings_again(state=alert.state, tier=alert.tier, signal_tier=_weight(signals)[0])
    was_waiting = alert.state == "new"
    return {
        "id": alert.id,
        "tier": tier,
        "has_self_harm": has_self_harm,
        "rings": rings,
        # a clock that already runs is never pushed back by a further signal
        "answer_by": min(due.answer_by, alert.answer_by) if was_waiting else due.answer_by,
        "see_by": min(due.see_by, alert.see_by),
    }


_CHANGE_TYPES = {
    "id": "uuid",
    "tier": "smallint",
    "has_self_harm": "boolean",
    "rings": "boolean",
    "answer_by": "timestamptz",
    "see_by": "timestamptz",
}
_RAISE_ALERTS = Statement(
    "update alerts a set tier = greatest(a.tier, n.tier), has_self_harm = a.has_self_harm or n.has_self_harm,"
    " state = case when n.rings then 'new' else a.state end,"
    " raised_at = case when n.rings then :now else a.raised_at end,"
    " answer_by = case when n.rings or a.state = 'new' then n.answer_by else a.answer_by end,"
    " see_by = n.see_by, closed_at = case when n.rings then null else a.closed_at end"
    " from unnest(cast(:id as uuid[]), cast(:tier as smallint[]), cast(:has_self_harm as boolean[]),"
    "  cast(:rings as boolean[]), cast(:answer_by as timestamptz[]), cast(:see_by as timestamptz[]))"
    " as n (id, tier, has_self_harm, rings, answer_by, see_by)"
    " where a.district_id = :district and a.id = n.id"
)


_ADD_REASONS = Statement(
    "insert into alert_reasons (district_id, alert_id, rule, source, school_id, tier, noticed_at, sealed)"
    " select :district, n.alert, n.rule, n.source, n.school, n.tier, :now, n.sealed"
    " from unnest(cast(:alert as uuid[]), cast(:rule as text[]), cast(:source as text[]),"
    "  cast(:school as uuid[]), cast(:tier as smallint[]), cast(:sealed as bytea[]))"
    " as n (alert, rule, source, school, tier, sealed) on conflict do nothing"
)


def _add_reasons(session: Session, by_alert: Mapping[uuid.UUID, Sequence[Signal]], now: dt.datetime) -> None:
    rows = [(alert_id, signal) for alert_id, signals in by_alert.items() for signal in signals]
    if not rows:
        return
    about = {
        "district": access.scope_of(session).district_id,
        "now": now,
        "alert": as_array("uuid", [alert_id for alert_id, _ in rows]),
        "rule": as_array("text", [signal.rule for _, signal in rows]),
        "source": as_array("text", [signal.source for _, signal in rows]),
        "school": as_array("uuid", [signal.school_id for _, signal in rows]),
        "tier": as_array("smallint", [signal.tier for _, signal in rows]),
        "sealed": as_array("bytea", [signal.sealed for _, signal in rows]),
    }
    _ADD_REASONS.run(session, about, is_bulk=len(rows) > FEW)


def _open_upload_concerns(session: Session, signals: Sequence[Signal], now: dt.datetime, due: _Due) -> list[uuid.UUID]:
    """One alert per row of a file that could not be matched to a student; the same file rings once, and again only
    where it says more than before: the same bytes may be read anew, with a better column map."""
    by_place: dict[tuple[bytes | None, str | None], list[Signal]] = defaultdict(list)
    for signal in signals:
        by_place[signal.file_digest, signal.place].append(signal)
    rows = {place: _alert_row(None, own, now, due) for place, own in by_place.items()}
    if not rows:
        return []
    opened = _insert_alerts(session, list(rows.values()), now)
    fresh = {row["id"]: by_place[place] for place, row in rows.items() if row["id"] in opened}
    _add_reasons(session, fresh, now)
    again = {place: by_place[place] for place, row in rows.items() if row["id"] not in opened}
    return [*fresh, *_raise_upload_concerns(session, again, now, due)]


def _raise_upload_concerns(
    session: Session,
    again: Mapping[tuple[bytes | None, str | None], Sequence[Signal]],
    now: dt.datetime,
    due: _Due,
) -> list[uuid.UUID]:
    """Rules that these rows did not meet before. A concern that was ended comes back if one of them outweighs it."""
    if not again:
        return []
    held = session.execute(
        text(
            "select a.id, a.tier, a.state, a.has_self_harm, a.answer_by, a.see_by, a.file_digest, a.place,"
            " array(select r.rule from alert_reasons r where r.district_id = a.district_id and r.alert_id = a.id)"
            " as rules from alerts a where a.district_id = :district and a.source = 'upload'"
            " and a.round_id = any(:rounds) and (a.file_digest, a.place) in"
            " (select n.* from unnest(cast(:digests as bytea[]), cast(:places as text[])) as n (digest, place))"
            " order by a.id for no key update of a"
        ),
        {
            "district": access.scope_of(session).district_id,
            "rounds": list({signal.round_id for own in again.values() for signal in own}),
            "digests": [digest for digest, _ in again],
            "places": [place for _, place in again],
        },
    ).all()
    joining = [
        (_Held(row.id, row.tier, row.state, row.has_self_harm, row.answer_by, row.see_by), news)
        for row in held
        if (news := [s for s in again[bytes(row.file_digest), row.place] if s.rule not in row.rules])
    ]
    return _raise(session, joining, now, due) if joining else []
