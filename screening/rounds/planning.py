"""Plans a round: every problem of the plan at once, then its rows."""

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import access, audit, battery
from screening import policy as policies
from screening.errors import InvalidUpload, Problem
from screening.models import Opening, Round, RoundInstrument, School
from screening.policy import Policy
from screening.rounds import frozen

HIGHEST_GRADE = 20


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
    rule_set = frozen.freeze(session, policy, chosen)
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
