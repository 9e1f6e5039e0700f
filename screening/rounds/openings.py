"""Opens and closes each school's part of a round, by hand or when its time has come."""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from screening import access, audit, db, duties
from screening.errors import Refused
from screening.models import Opening, Round, School
from screening.rounds import places
from screening.rounds.asking import get
from screening.rounds.frozen import rules_of


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
        placed = places.assign(session, round_id, schools=schools)
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


def _timetable(session: Session) -> access.Actor:
    return access.system(access.scope_of(session).district_id)
