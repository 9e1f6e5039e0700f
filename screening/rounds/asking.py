"""A round asked about: itself, what is not released in it, who was red in a historical one."""

import datetime as dt
import uuid
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit
from screening.errors import NotFound, Refused
from screening.models import Round, RoundInstrument

RED = 3


@dataclass(frozen=True)
class Red:
    """A student whose standing result of a round is red."""

    student_id: uuid.UUID
    school_id: uuid.UUID
    reasons: tuple[str, ...]
    recorded_at: dt.datetime


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


def reds_of_historical(session: Session, round_id: uuid.UUID, *, by: access.Actor) -> list[Red]:
    """The students in scope who were red in a historical round, which runs no clocks: one list for the lead.

    Raises Refused for a round that is not historical; its reds are alerts.
    """
    if not get(session, round_id).is_historical:
        raise Refused("The reds of this round are in the queue of alerts.", code="round_not_historical")
    rows = session.execute(
        text(
            "select * from (select distinct on (student_id) student_id, school_id, tier, reasons, recorded_at"  # noqa: S608 - our own SQL
            f" from results where district_id = :district and round_id = :round and {access.within('school_id')}"
            " order by student_id, revision desc) r"
            " where r.tier = :red order by r.school_id, r.student_id"
        ),
        {
            "district": access.scope_of(session).district_id,
            "round": round_id,
            "red": RED,
            "schools": access.schools_of(session),
        },
    ).all()
    audit.record(session, by, "round.reds_read", "round", round_id, count=len(rows))
    return [Red(row.student_id, row.school_id, tuple(row.reasons), row.recorded_at) for row in rows]
