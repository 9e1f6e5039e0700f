"""A lot among students whom nothing pointed to: a few are offered a routine chat, so that missed needs are counted.

Without them a model would be judged on those it was told about. To everybody in the school it is what it is called: a
chat that anybody may be offered and may decline. A need that shows in it becomes a concern like any other.
"""

import datetime as dt
import random
import secrets
import uuid
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import triage
from screening import access, audit, consent, db, rounds
from screening.errors import Conflict, NotFound, Refused
from screening.models import RoutineChat

SHARE = 0.015
"""Of the students below every threshold: between the 1 and 2 in a hundred that the design asks for."""
OUTCOMES = ("confirmed", "not_confirmed", "declined")


def draw(session: Session, round_id: uuid.UUID, *, now: dt.datetime, seed: int | None = None) -> int:
    """Draws the lot of a round once: each student whose standing result is valid and below every threshold, and whose
    consent is in force, is drawn with the same recorded probability. Returns how many were; 0 when it was drawn before.
    """
    district_id = access.scope_of(session).district_id
    db.lock(session, f"routine_chats/{round_id}")
    drawn_before = session.execute(
        text("select 1 from routine_draws where district_id = :district and round_id = :round"),
        {"district": district_id, "round": round_id},
    ).first()
    if drawn_before:
        return 0
    eligible = _eligible(session, round_id, now)
    seed = secrets.randbits(31) if seed is None else seed
    lot = random.Random(seed)  # noqa: S311 - to be drawn again by whoever checks it; the seed is not known before
    drawn = [row for row in eligible if lot.random() < SHARE]
    session.add_all(
        RoutineChat(
            district_id=district_id, id=uuid.uuid4(), round_id=round_id, student_id=student, school_id=school,
            seed=seed, probability=SHARE, state="offered", drawn_at=now,
        )
        for student, school in drawn
    )  # fmt: skip
    session.flush()
    session.execute(
        text(
            "insert into routine_draws (district_id, round_id, seed, probability, eligible, drawn, drawn_at)"
            " values (:district, :round, :seed, :share, :eligible, :drawn, :now)"
        ),
        {"district": district_id, "round": round_id, "seed": seed, "share": SHARE, "eligible": len(eligible),
         "drawn": len(drawn), "now": now},
    )  # fmt: skip
    by = access.system(district_id)
    audit.record(session, by, "routine_chats.drawn", "round", round_id, seed=seed, eligible=len(eligible))
    return len(drawn)


def draw_due(session: Session, *, now: dt.datetime) -> int:
    """Draws for every round that has closed and was not drawn for; historical ones are nobody's to talk about."""
    due = session.execute(
        text(
            "select id from rounds o where o.district_id = :district and o.state = 'closed' and not o.is_historical"
            " and not exists (select from routine_draws d where d.district_id = o.district_id and d.round_id = o.id)"
        ),
        {"district": access.scope_of(session).district_id},
    ).scalars()
    return sum(draw(session, round_id, now=now) for round_id in list(due))


def offered(session: Session, *, limit: int = 200) -> Sequence[RoutineChat]:
    """The chats of the scope that are still to be held, the oldest first."""
    wanted = select(RoutineChat).where(RoutineChat.state == "offered", access.of_scope(session, RoutineChat.school_id))
    return session.scalars(wanted.order_by(RoutineChat.drawn_at, RoutineChat.id).limit(limit)).all()


def answer(
    session: Session, chat_id: uuid.UUID, outcome: str, *, words: str = "", by: access.Actor, now: dt.datetime
) -> RoutineChat:
    """What came of a chat: a need that showed, none, or that the student would rather not; once.

    A need becomes an orange concern in the same transaction, and for that `words` are needed.
    Raises NotFound, Conflict for one that was answered, Refused for an unknown outcome or a need without words.
    """
    if outcome not in OUTCOMES:
        raise Refused(f"A routine chat ends as one of these: {', '.join(OUTCOMES)}.", code="unknown_outcome")
    chat = session.scalars(select(RoutineChat).where(RoutineChat.id == chat_id).with_for_update(key_share=True)).first()
    if chat is None or not access.reaches(session, chat.school_id):
        raise NotFound("There is no such chat.")
    if chat.state != "offered":
        raise Conflict("Somebody has answered this chat already.", code="chat_answered")
    if outcome == "confirmed":
        triage.raise_concern(session, chat.student_id, 2, words, by=by, now=now)
    chat.state = "declined" if outcome == "declined" else "held"
    chat.is_concern_confirmed = None if outcome == "declined" else outcome == "confirmed"
    chat.answered_by, chat.answered_at = by.person, now
    session.flush()
    audit.record(session, by, "routine_chat.answered", "routine_chat", chat.id, state=chat.state)
    return chat


def _eligible(session: Session, round_id: uuid.UUID, now: dt.datetime) -> list[tuple[uuid.UUID, uuid.UUID]]:
    in_force = consent.in_force_sql(rounds.rules_of(session, round_id).policy, at=":now")
    rows = session.execute(
        text(
            "select r.student_id, r.school_id from ("  # noqa: S608 - our own SQL
            " select distinct on (student_id) student_id, school_id, tier, validity from results"
            " where district_id = :district and round_id = :round order by student_id, revision desc) r"
            f" join ({in_force}) f on f.student_id = r.student_id and f.is_in_force"
            " where r.tier = 0 and r.validity = 'valid' and not exists (select from alerts a"
            "  where a.district_id = :district and a.student_id = r.student_id and a.closed_at is null)"
            " order by r.student_id"
        ),
        {"district": access.scope_of(session).district_id, "round": round_id, "now": now},
    )
    return [(row.student_id, row.school_id) for row in rows]
