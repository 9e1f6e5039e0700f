"""Rounds: a planned screening of the district, an opening per school, and the rules that it freezes.

What a round asks and how it judges is decided once, when it is made: the exact texts of its policy and instruments
are stored, and the round names them by digest. Nothing that ships later changes what an earlier round means.
"""

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from instruments import catalogue
from instruments.definition import Instrument
from screening import access, audit, battery, db, duties, planner
from screening import policy as policies
from screening.errors import InvalidUpload, NotFound, Problem, Refused
from screening.models import Definition, Opening, Round, RoundInstrument, RuleSet, School
from screening.policy import Policy

ENGINE = "1"
"""Changes when the same definitions and answers would give another score or tier than before."""
HIGHEST_GRADE = 20
EXEMPT_REASONS = frozenset({"absent_long", "health", "disability", "language", "in_treatment", "left", "other"})
RED = 3


_INFORMANT = {"self": "self", "youth": "self", "parent": "parent", "teacher": "teacher"}


@dataclass(frozen=True)
class Rules:
    """A rule set: how answers are judged. `instruments` by code."""

    rule_set_id: uuid.UUID
    digest: str
    engine: str
    policy: Policy
    instruments: Mapping[str, Instrument]


@dataclass(frozen=True)
class RoundRules(Rules):
    """What a round froze: its rule set, and which forms it asks for (names by instrument code)."""

    round_id: uuid.UUID
    forms: Mapping[str, tuple[str, ...]]
    is_historical: bool

    @property
    def informants(self) -> tuple[str, ...]:
        """Who has a place in the round: the student has one for self and youth forms together."""
        return _informants(name for names in self.forms.values() for name in names)


@dataclass(frozen=True)
class Red:
    """A student whose standing result of a round is red."""

    student_id: uuid.UUID
    school_id: uuid.UUID
    reasons: tuple[str, ...]
    recorded_at: dt.datetime


def create(
    session: Session,
    name: str,
    policy: Policy,
    instruments: Sequence[tuple[str, Sequence[str]]],
    grades: Iterable[int],
    *,
    opens_at: dt.datetime,
    closes_at: dt.datetime,
    school_ids: Collection[uuid.UUID] | None = None,
    is_historical: bool = False,
    is_at_home: bool = False,
    unreleased: Mapping[str, str] | None = None,
    by: access.Actor,
) -> Round:
    """Plans a round and freezes its rules: `instruments` are (code, form names), in the order in which they are asked.

    `school_ids` None means every school of the scope. A historical round takes answers that were given earlier: it
    is open from the start and has no window. One whose forms may be filled in `is_at_home` opens only where somebody
    is on duty for all of its hours, if it asks about self-harm. `unreleased` says, by code, why an instrument is asked
    whose sources are not all confirmed. Raises InvalidUpload with every problem of the plan.
    """
    reasons = {code: reason.strip() for code, reason in (unreleased or {}).items()}
    wanted = sorted(set(grades))
    schools = _schools(session, school_ids)
    chosen, problems = battery.choose(instruments, reasons)
    problems += _window_problems(name, wanted, schools, school_ids, opens_at, closes_at)
    problems += battery.licence_problems(session, chosen, closes_at.date())
    problems += battery.grade_problems(chosen, instruments, [] if is_historical else wanted)
    problems += policies.check(policy, chosen)
    if problems:
        raise InvalidUpload("The round cannot be planned like this.", code="invalid_round", problems=problems)
    rule_set = _freeze(session, policy, chosen)
    state = "open" if is_historical else "planned"
    planned = Round(
        district_id=access.scope_of(session).district_id,
        id=uuid.uuid4(),
        name=name.strip(),
        rule_set_id=rule_set,
        grades=wanted,
        opens_at=opens_at,
        closes_at=closes_at,
        state=state,
        is_historical=is_historical,
        is_at_home=is_at_home,
        created_by=by.staff_id or by.account_id,
    )
    session.add(planned)
    session.flush()
    allowed = {code: reasons[code] for code, instrument in chosen.items() if not instrument.is_released}
    session.add_all(_parts(planned, instruments, schools, allowed))
    session.flush()
    audit.record(session, by, "round.created", "round", planned.id, schools=len(schools), historical=is_historical)
    for code in allowed:
        audit.record(session, by, "round.unreleased_allowed", "round", planned.id, instrument=code)
    return planned


def get(session: Session, round_id: uuid.UUID) -> Round:
    """The round of that id. Raises NotFound."""
    found = session.get(Round, (access.scope_of(session).district_id, round_id))
    if found is None:
        raise NotFound("There is no such round.")
    return found


def unreleased(session: Session, round_id: uuid.UUID) -> dict[str, str]:
    """Why the round asks instruments that are not released, by code; mostly nothing."""
    asked = session.execute(
        select(RoundInstrument.instrument, RoundInstrument.unreleased_reason).where(
            RoundInstrument.district_id == access.scope_of(session).district_id,
            RoundInstrument.round_id == round_id,
            RoundInstrument.unreleased_reason.is_not(None),
        )
    )
    return {row.instrument: row.unreleased_reason for row in asked}


def open(session: Session, round_id: uuid.UUID, *, by: access.Actor) -> Round:
    """Opens the round now at every school of the scope where it is still planned; open already is left as it is.

    Raises Refused when it was closed or its time is over, or where hours of it are nobody's duty (`rota_missing`).
    """
    found = get(session, round_id)
    now = db.now(session)
    if found.state == "closed" or found.closes_at <= now:
        raise Refused("This round is closed.", code="round_closed")
    due = _parts_due(session, "planned", round_id)
    unguarded = _unguarded(session, due, now)
    if unguarded:
        words = "Nobody is on duty for all hours of a round that asks about self-harm at home: "
        raise Refused(words + "; ".join(unguarded.values()), code="rota_missing")
    _open_parts(session, due, now, by)
    session.refresh(found)
    return found


def close(session: Session, round_id: uuid.UUID, *, by: access.Actor) -> Round:
    """Closes the round now at every school of the scope; closed already is left as it is."""
    found = get(session, round_id)
    _close_parts(session, _parts_due(session, "unclosed", round_id), by)
    session.refresh(found)
    return found


def open_due(session: Session, now: dt.datetime) -> int:
    """Opens each school's part whose time has come, with its assignments; answers how many. Twice is once.

    A part of which hours are nobody's duty waits until somebody is; `unguarded` names it.
    """
    found = session.execute(
        text(
            "select round_id, school_id from openings where district_id = :district and state = 'planned'"
            " and opens_at <= :now and closes_at > :now order by round_id, school_id for no key update"
        ),
        {"district": access.scope_of(session).district_id, "now": now},
    )
    due = [(row.round_id, row.school_id) for row in found]
    unguarded = _unguarded(session, due, now)
    return _open_parts(session, [part for part in due if part not in unguarded], now, _timetable(session))


def unguarded(session: Session, now: dt.datetime, *, ahead: dt.timedelta) -> list[str]:
    """Parts of rounds that ask about self-harm at home, and that nobody's duty covers, in words.

    Those that should have opened and could not, and open ones with a gap in the time `ahead`.
    """
    parts = session.execute(
        text(
            "select o.round_id, o.school_id, o.state from openings o join rounds r on r.district_id = o.district_id"
            " and r.id = o.round_id and r.is_at_home where o.district_id = :district and o.opens_at <= :now"
            " and o.closes_at > :now and o.state in ('planned', 'open')"
        ),
        {"district": access.scope_of(session).district_id, "now": now},
    ).all()
    waiting = [(row.round_id, row.school_id) for row in parts if row.state == "planned"]
    running = [(row.round_id, row.school_id) for row in parts if row.state == "open"]
    return [
        *_unguarded(session, waiting, now).values(),
        *_unguarded(session, running, now, until=now + ahead).values(),
    ]


def close_due(session: Session, now: dt.datetime) -> int:
    """Closes each school's part whose time is over; answers how many. A historical round is closed by hand only."""
    due = session.execute(
        text(
            "select o.round_id, o.school_id from openings o join rounds r"
            " on r.district_id = o.district_id and r.id = o.round_id and not r.is_historical"
            " where o.district_id = :district and o.state <> 'closed' and o.closes_at <= :now"
            " order by o.round_id, o.school_id for no key update of o"
        ),
        {"district": access.scope_of(session).district_id, "now": now},
    )
    return _close_parts(session, [(row.round_id, row.school_id) for row in due], _timetable(session))


def enroll_late(session: Session, round_id: uuid.UUID, *, student_ids: Collection[uuid.UUID] | None = None) -> int:
    """Gives a place in the round to whoever is enrolled now and has none yet; answers how many places were new.

    In an open round these are the students of its grades at the schools where it is open. In a historical round,
    whose students may have moved up since, they are the named ones, in whatever grade.
    """
    found = get(session, round_id)
    if found.is_historical and student_ids is None:
        raise Refused("A historical round takes its students from its files.", code="round_historical")
    return _assign(session, round_id, student_ids=student_ids, is_any_grade=found.is_historical)


def exempt(session: Session, round_id: uuid.UUID, student_id: uuid.UUID, reason: str, *, by: access.Actor) -> None:
    """Takes a student out of the round's denominator, for one of EXEMPT_REASONS; the first reason stays.

    Raises Refused for an unknown reason or when the student has handed something in, NotFound without a place.
    """
    if reason not in EXEMPT_REASONS:
        raise Refused(f"Give one of these reasons: {', '.join(sorted(EXEMPT_REASONS))}.", code="unknown_reason")
    place = {"district": access.scope_of(session).district_id, "round": round_id, "student": student_id}
    held = session.execute(
        text(
            "select a.exempt_reason, exists (select from administrations d where d.district_id = a.district_id"
            " and d.round_id = a.round_id and d.student_id = a.student_id) as is_answered from assignments a"
            " where a.district_id = :district and a.round_id = :round and a.student_id = :student for no key update"
        ),
        place,
    ).all()
    if not held:
        raise NotFound("This student has no place in the round.")
    if held[0].is_answered:
        raise Refused("This student has answered already.", code="already_answered")
    if any(row.exempt_reason is None for row in held):
        session.execute(
            text(
                "update assignments set exempt_reason = :reason, exempted_by = :by where district_id = :district"
                " and round_id = :round and student_id = :student and exempt_reason is null"
            ),
            {**place, "reason": reason, "by": by.person},
        )
        audit.record(session, by, "student.exempted", "student", student_id, round=str(round_id), reason=reason)


def rules_of(session: Session, round_id: uuid.UUID) -> RoundRules:
    """What the round froze. Read once per process: a round's rules never change. Raises NotFound."""
    place = (access.scope_of(session).district_id, round_id)
    return _kept(_by_round, place, lambda: _read_round(session, round_id))


def rules(session: Session, rule_set_id: uuid.UUID) -> Rules:
    """A rule set by itself, as results name the one that they were decided under. Raises NotFound."""
    place = (access.scope_of(session).district_id, rule_set_id)
    return _kept(_by_rule_set, place, lambda: _read_rules(session, rule_set_id))


def reds_of_historical(session: Session, round_id: uuid.UUID, *, by: access.Actor) -> list[Red]:
    """The students in scope who were red in a historical round, which runs no clocks: one list for the lead.

    Raises Refused for a round that is not historical; its reds are alerts.
    """
    if not get(session, round_id).is_historical:
        raise Refused("The reds of this round are in the queue of alerts.", code="round_not_historical")
    rows = session.execute(
        text(
            "select * from (select distinct on (student_id) student_id, school_id, tier, reasons, recorded_at"
            " from results where district_id = :district and round_id = :round order by student_id, revision desc) r"
            " where r.tier = :red order by r.school_id, r.student_id"
        ),
        {"district": access.scope_of(session).district_id, "round": round_id, "red": RED},
    ).all()
    audit.record(session, by, "round.reds_read", "round", round_id, count=len(rows))
    return [Red(row.student_id, row.school_id, tuple(row.reasons), row.recorded_at) for row in rows]


_Place = tuple[uuid.UUID, uuid.UUID]
_Frozen = TypeVar("_Frozen", bound=Rules)
_RULES_KEPT = 512
_by_round: dict[_Place, RoundRules] = {}
_by_rule_set: dict[_Place, Rules] = {}


def _kept(known: dict[_Place, _Frozen], place: _Place, read: Callable[[], _Frozen]) -> _Frozen:
    found = known.get(place)
    if found is None:
        found = read()
        if len(known) >= _RULES_KEPT:
            known.clear()
        known[place] = found
    return found


def _schools(session: Session, school_ids: Collection[uuid.UUID] | None) -> list[uuid.UUID]:
    scope = access.scope_of(session)
    query = select(School.id).where(School.district_id == scope.district_id)
    for limit in (scope.schools, school_ids):
        if limit is not None:
            query = query.where(School.id.in_(limit))
    return list(session.execute(query.order_by(School.code)).scalars())


def _window_problems(
    name: str,
    grades: Sequence[int],
    schools: Sequence[uuid.UUID],
    school_ids: Collection[uuid.UUID] | None,
    opens_at: dt.datetime,
    closes_at: dt.datetime,
) -> list[Problem]:
    checks = [
        (not name.strip(), "no_name", "Give the round a name.", "name"),
        (not grades, "no_grade", "Name at least one grade.", "grades"),
        (any(not 1 <= g <= HIGHEST_GRADE for g in grades), "unknown_grade", "Grades are numbered from 1.", "grades"),
        (not schools and school_ids is None, "no_school", "There is no school yet.", "schools"),
        (
            school_ids is not None and (not school_ids or len(schools) < len(set(school_ids))),
            "unknown_school",
            "Name schools of this district.",
            "schools",
        ),
        (opens_at >= closes_at, "window_reversed", "The round must close after it opens.", "closes_at"),
    ]
    return [Problem(code, message, column=column) for is_wrong, code, message, column in checks if is_wrong]


def _freeze(session: Session, policy: Policy, chosen: Mapping[str, Instrument]) -> uuid.UUID:
    district_id = access.scope_of(session).district_id
    texts = [("policy", policy.code, policy.version, policy.digest, policy.body)]
    texts += [("instrument", i.code, i.version, i.digest, i.body) for i in chosen.values()]
    for kind, code, version, digest, body in texts:
        session.execute(
            postgresql.insert(Definition)
            .values(district_id=district_id, digest=digest, kind=kind, code=code, version=version, body=body)
            .on_conflict_do_nothing()
        )
    digests = {code: instrument.digest for code, instrument in chosen.items()}
    whole = json.dumps([ENGINE, policy.digest, list(digests.items())], separators=(",", ":"))
    digest = hashlib.sha256(whole.encode()).hexdigest()
    session.execute(
        postgresql.insert(RuleSet)
        .values(
            district_id=district_id,
            id=uuid.uuid4(),
            digest=digest,
            policy_digest=policy.digest,
            instruments=digests,
            engine=ENGINE,
        )
        .on_conflict_do_nothing(index_elements=["district_id", "digest"])
    )
    return session.execute(
        select(RuleSet.id).where(RuleSet.district_id == district_id, RuleSet.digest == digest)
    ).scalar_one()


def _parts(
    planned: Round,
    instruments: Sequence[tuple[str, Sequence[str]]],
    schools: Sequence[uuid.UUID],
    unreleased: Mapping[str, str],
) -> list[RoundInstrument | Opening]:
    asked = [
        RoundInstrument(
            district_id=planned.district_id,
            round_id=planned.id,
            instrument=code,
            position=position,
            forms=list(dict.fromkeys(names)),
            unreleased_reason=unreleased.get(code),
        )
        for position, (code, names) in enumerate(instruments)
    ]
    openings = [
        Opening(
            district_id=planned.district_id,
            round_id=planned.id,
            school_id=school_id,
            opens_at=planned.opens_at,
            closes_at=planned.closes_at,
            state=planned.state,
        )
        for school_id in schools
    ]
    return [*asked, *openings]


def _parts_due(session: Session, which: str, round_id: uuid.UUID) -> list[tuple[uuid.UUID, uuid.UUID]]:
    states = ["planned"] if which == "planned" else ["planned", "open"]
    rows = session.execute(
        select(Opening.round_id, Opening.school_id)
        .where(
            Opening.district_id == access.scope_of(session).district_id,
            Opening.round_id == round_id,
            Opening.state.in_(states),
        )
        .order_by(Opening.school_id)
        .with_for_update(key_share=True)
    )
    return [(row.round_id, row.school_id) for row in rows]


def _unguarded(
    session: Session,
    parts: Sequence[tuple[uuid.UUID, uuid.UUID]],
    now: dt.datetime,
    *,
    until: dt.datetime | None = None,
) -> dict[tuple[uuid.UUID, uuid.UUID], str]:
    """Of these parts, those with hours from now on for which nobody is on duty, and the first such hour in words."""
    found = {}
    for round_id in dict.fromkeys(round_id for round_id, _ in parts):
        if not _is_watched_at_home(session, round_id):
            continue
        own = [school_id for of_round, school_id in parts if of_round == round_id]
        for opening in session.scalars(
            select(Opening).where(
                Opening.district_id == access.scope_of(session).district_id,
                Opening.round_id == round_id,
                Opening.school_id.in_(own),
            )
        ):
            ends_at = min(until or opening.closes_at, opening.closes_at)
            gaps = duties.uncovered(session, [opening.school_id], now, ends_at).get(opening.school_id)
            if gaps:
                code = session.scalar(select(School.code).where(School.id == opening.school_id))
                found[round_id, opening.school_id] = f"school {code} from {gaps[0][0].isoformat(timespec='minutes')}"
    return found


def _is_watched_at_home(session: Session, round_id: uuid.UUID) -> bool:
    asked = rules_of(session, round_id).instruments.values()
    has_self_harm = any(critical.kind == "self_harm" for each in asked for critical in each.critical_items)
    return has_self_harm and get(session, round_id).is_at_home


def _open_parts(
    session: Session, parts: Sequence[tuple[uuid.UUID, uuid.UUID]], now: dt.datetime, by: access.Actor
) -> int:
    district_id = access.scope_of(session).district_id
    for round_id in dict.fromkeys(round_id for round_id, _ in parts):
        schools = [school_id for of_round, school_id in parts if of_round == round_id]
        session.execute(
            text(
                "update openings set state = 'open', opens_at = least(opens_at, :now)"
                " where district_id = :district and round_id = :round and school_id = any(:schools)"
            ),
            {"district": district_id, "round": round_id, "schools": schools, "now": now},
        )
        session.execute(
            update(Round)
            .where(Round.district_id == district_id, Round.id == round_id, Round.state == "planned")
            .values(state="open")
        )
        placed = _assign(session, round_id, schools=schools)
        audit.record(session, by, "round.opened", "round", round_id, schools=len(schools), places=placed)
    return len(parts)


def _close_parts(session: Session, parts: Sequence[tuple[uuid.UUID, uuid.UUID]], by: access.Actor) -> int:
    scope = access.scope_of(session)
    for round_id in dict.fromkeys(round_id for round_id, _ in parts):
        schools = [school_id for of_round, school_id in parts if of_round == round_id]
        session.execute(
            update(Opening)
            .where(
                Opening.district_id == scope.district_id,
                Opening.round_id == round_id,
                Opening.school_id.in_(schools),
            )
            .values(state="closed")
        )
        audit.record(session, by, "round.closed", "round", round_id, schools=len(schools))
    if scope.schools is None:
        # only who sees every school can tell that the last one closed
        session.execute(
            text(
                "update rounds r set state = 'closed' where r.district_id = :district and r.state <> 'closed'"
                " and exists (select from openings o where o.district_id = r.district_id and o.round_id = r.id)"
                " and not exists (select from openings o where o.district_id = r.district_id and o.round_id = r.id"
                " and o.state <> 'closed')"
            ),
            {"district": scope.district_id},
        )
    return len(parts)


def _assign(
    session: Session,
    round_id: uuid.UUID,
    *,
    schools: Collection[uuid.UUID] | None = None,
    student_ids: Collection[uuid.UUID] | None = None,
    is_any_grade: bool = False,
) -> int:
    """Places for the enrolled students x informants of open parts; a place that is there stays as it is."""
    among = "" if schools is None else " and o.school_id = any(:schools)"
    among += "" if student_ids is None else " and e.student_id = any(:students)"
    among += "" if is_any_grade else " and e.grade = any(r.grades)"
    placed = session.connection().execute(
        text(
            "insert into assignments (district_id, round_id, student_id, informant, id, school_id, grade, class_name)"  # noqa: S608 - our own SQL
            " select r.district_id, r.id, e.student_id, i.informant, gen_random_uuid(), e.school_id, e.grade,"
            " e.class_name from rounds r"
            " join openings o on o.district_id = r.district_id and o.round_id = r.id and o.state = 'open'"
            " join enrollments e on e.district_id = r.district_id and e.school_id = o.school_id"
            " and e.until_on is null"
            " cross join unnest(cast(:informants as text[])) as i(informant)"
            f" where r.district_id = :district and r.id = :round{among} on conflict do nothing"
        ),
        {
            "district": access.scope_of(session).district_id,
            "round": round_id,
            "informants": list(rules_of(session, round_id).informants),
            **({} if schools is None else {"schools": list(schools)}),
            **({} if student_ids is None else {"students": list(student_ids)}),
        },
    )
    planner.refresh(session, "assignments", changed=placed.rowcount)
    return placed.rowcount


def _timetable(session: Session) -> access.Actor:
    return access.system(access.scope_of(session).district_id)


def _read_round(session: Session, round_id: uuid.UUID) -> RoundRules:
    found = get(session, round_id)
    frozen = rules(session, found.rule_set_id)
    asked = session.execute(
        select(RoundInstrument.instrument, RoundInstrument.forms)
        .where(RoundInstrument.district_id == found.district_id, RoundInstrument.round_id == round_id)
        .order_by(RoundInstrument.position)
    ).all()
    return RoundRules(
        rule_set_id=frozen.rule_set_id,
        digest=frozen.digest,
        engine=frozen.engine,
        policy=frozen.policy,
        instruments={row.instrument: frozen.instruments[row.instrument] for row in asked},
        round_id=round_id,
        forms={row.instrument: tuple(row.forms) for row in asked},
        is_historical=found.is_historical,
    )


def _read_rules(session: Session, rule_set_id: uuid.UUID) -> Rules:
    frozen = session.get(RuleSet, (access.scope_of(session).district_id, rule_set_id))
    if frozen is None:
        raise NotFound("There is no such rule set.")
    stored = session.execute(
        select(Definition.digest, Definition.body).where(
            Definition.district_id == frozen.district_id,
            Definition.digest.in_([frozen.policy_digest, *frozen.instruments.values()]),
        )
    ).all()
    bodies = {row.digest: row.body for row in stored}
    return Rules(
        rule_set_id=rule_set_id,
        digest=frozen.digest,
        engine=frozen.engine,
        policy=policies.parse_stored(bodies[frozen.policy_digest]),
        instruments={code: catalogue.parse_stored(bodies[digest]) for code, digest in frozen.instruments.items()},
    )


def _informants(form_names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_INFORMANT[name] for name in form_names))
