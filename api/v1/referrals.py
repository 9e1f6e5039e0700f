"""Referrals after they were made: what the place answered, whether the first visit was kept, and the place's own door.

The place comes with a link and the number that it was told by another way. It sees its one referral: what was shared,
how urgent it is and the school; it says yes or no, and whether the visit was kept. It is asked for no diagnosis.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import destinations, referrals
from alerts.models import Referral
from api.deps import (
    CARING,
    PUBLIC,
    ActorDep,
    Body,
    DatabaseDep,
    Door,
    Id,
    NowDep,
    SessionDep,
    View,
    Word,
    Words,
    located,
)
from screening import access, audit, db, guesses
from screening.db import Database
from screening.models import School

door = Door(prefix="/v1/referrals", tag="referrals")

Visit = Literal["kept", "not_kept", "refused"]
Day = Annotated[dt.date, Field(strict=False)]


class AnswerBody(Body):
    is_accepted: bool


class VisitBody(Body):
    outcome: Visit
    on: Day


class WithdrawalBody(Body):
    reason: Words


class KeyBody(Body):
    """What a place shows: the secret of its link, and the number that goes with it."""

    code: Word
    number: Word


class PlaceAnswerBody(KeyBody):
    is_accepted: bool


class PlaceVisitBody(KeyBody):
    outcome: Visit
    on: Day


class ReferralView(View):
    """How far a referral has come."""

    id: uuid.UUID
    case_id: uuid.UUID
    destination_id: uuid.UUID
    urgency: str
    basis: str
    state: str
    appointment_at: dt.datetime | None
    confirm_by: dt.datetime
    made_by: uuid.UUID
    made_at: dt.datetime
    answered_at: dt.datetime | None
    visited_on: dt.date | None
    ended_at: dt.datetime | None


class ReferralsView(View):
    referrals: list[ReferralView]


class LinkView(View):
    """Shown this once: the secret for the link, and the number to tell by another way."""

    code: str
    number: str
    until: dt.datetime


class AtPlaceView(View):
    """The one referral of a link."""

    place: str
    school: str
    urgency: str
    state: str
    shared: str
    appointment_at: dt.datetime | None
    confirm_by: dt.datetime
    visited_on: dt.date | None


# -- the place's own door -------------------------------------------------------------------------------

# before the addresses with an id, which would take "at-place" for one


@door.post("/at-place", roles=PUBLIC, is_guarded=True)
def show_to_place(body: KeyBody, database: DatabaseDep) -> AtPlaceView:
    """The one referral of this link."""
    with _opened(database, body) as (session, found, _):
        audit.record(session, referrals.partner(found), "referral.read", "referral", found.id)
        return _at_place(session, found)


@door.post("/at-place/answer", roles=PUBLIC, is_guarded=True)
def answer_of_place(body: PlaceAnswerBody, database: DatabaseDep) -> AtPlaceView:
    """The place takes the student, or does not."""
    with _opened(database, body) as (session, found, now):
        return _at_place(session, referrals.answered_by_place(session, found, body.is_accepted, now=now))


@door.post("/at-place/visit", roles=PUBLIC, is_guarded=True)
def visit_at_place(body: PlaceVisitBody, database: DatabaseDep) -> AtPlaceView:
    """Whether the first visit was kept."""
    with _opened(database, body) as (session, found, now):
        return _at_place(session, referrals.visited_at_place(session, found, body.outcome, body.on, now=now))


# -- the school's doors -----------------------------------------------------------------------------------


@door.get("", roles=CARING)
def unconfirmed(session: SessionDep, now: NowDep) -> ReferralsView:
    """Those of which it should be known by now whether the first visit was kept."""
    found = referrals.unconfirmed(session, now=now)
    return ReferralsView(referrals=[ReferralView.model_validate(each) for each in found])


@door.get("/{referral_id}", roles=CARING)
def show(referral_id: Id, session: SessionDep, by: ActorDep) -> ReferralView:
    """One referral; the reading is kept account of."""
    found = referrals.get(session, referral_id)
    audit.record(session, by, "referral.read", "referral", referral_id)
    return ReferralView.model_validate(found)


@door.post("/{referral_id}/answer", roles=CARING)
def answer(
    referral_id: Id, body: AnswerBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> ReferralView:
    """What the place said to the school."""
    referrals.answer(session, referral_id, body.is_accepted, by=by, now=now)
    return _answered(session, referral_id, response)


@door.post("/{referral_id}/visit", roles=CARING)
def visit(
    referral_id: Id, body: VisitBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> ReferralView:
    """Whether the first visit was kept."""
    referrals.visit(session, referral_id, body.outcome, body.on, by=by, now=now)
    return _answered(session, referral_id, response)


@door.post("/{referral_id}/withdrawal", roles=CARING)
def withdraw(
    referral_id: Id, body: WithdrawalBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> ReferralView:
    """The student is not referred there after all."""
    referrals.withdraw(session, referral_id, body.reason, by=by, now=now)
    return _answered(session, referral_id, response)


@door.post("/{referral_id}/link", roles=CARING, status=201, repeats="again")
def link(referral_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> LinkView:
    """A link for the place; one made before ends. Send the link and tell the number by telephone."""
    code, number = referrals.link(session, referral_id, by=by, now=now)
    return LinkView(code=code, number=number, until=now + dt.timedelta(days=referrals.LINK_DAYS))


def _answered(session: Session, referral_id: uuid.UUID, response: Response) -> ReferralView:
    session.flush()
    located(response, f"/v1/referrals/{referral_id}")
    return ReferralView.model_validate(referrals.get(session, referral_id))


@contextmanager
def _opened(database: Database, key: KeyBody) -> Iterator[tuple[Session, Referral, dt.datetime]]:
    """A transaction that sees the referral's school and no other; each wrong number is counted."""
    scope = referrals.scope_of_link(key.code)
    limit = referrals.admit(database, key.code)
    with database.unit(scope) as session:
        now = db.now(session)
        found = referrals.opened(session, key.code, key.number, now=now)
        guesses.forgive(session, [limit])
        access.enter(session, access.Scope(scope.district_id, frozenset({found.school_id})))
        yield session, found, now


def _at_place(session: Session, found: Referral) -> AtPlaceView:
    place = destinations.get(session, found.destination_id)
    school = session.get(School, (found.district_id, found.school_id))
    return AtPlaceView(
        place=place.name,
        school=school.name if school else "",
        urgency=found.urgency,
        state=found.state,
        shared=referrals.shared(session, found),
        appointment_at=found.appointment_at,
        confirm_by=found.confirm_by,
        visited_on=found.visited_on,
    )
