"""Between schools: alerts that have gone along with a student, and cases that the new school has to take over.

Both schools see that something waits, how urgent it is and what was promised. The summary is for those who care for
students; principals, duty officers and the district see that nobody has acted yet.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import Query, Response
from sqlalchemy.orm import Session

from alerts import delivery, following, transfers
from alerts.transfers import Handover
from api.deps import (
    CARING,
    ActorDep,
    Body,
    Door,
    Id,
    NowDep,
    PageDep,
    SessionDep,
    Tier,
    View,
    Words,
    located,
    moment,
    school_codes,
    small,
    tier_name,
)
from screening import access, audit, students

door = Door(prefix="/v1/transfers", tag="transfers")

LOOKING = CARING | {"principal", "duty_officer", "district_admin"}
State = Literal["announced", "waiting", "accepted", "declined", "withdrawn", "passed"]


class DeclineBody(Body):
    reason: Literal["not_here", "wrong_student", "summary_missing"]
    words: Words


class PromiseView(View):
    mode: str
    due_at: dt.datetime
    state: str


class HandoverView(View):
    """A transfer. What is null is not for this reader, or not there."""

    id: uuid.UUID
    state: str
    urgency: str
    from_school: str
    to_school: str
    proposed_at: dt.datetime
    accept_by: dt.datetime | None
    is_late: bool
    answered_at: dt.datetime | None
    case_id: uuid.UUID | None
    alert_id: uuid.UUID | None
    tier: Tier | None = None
    student_id: uuid.UUID | None = None
    student_name: str | None = None
    promises: list[PromiseView] | None = None
    summary: str | None = None
    proposed_by: uuid.UUID | None = None
    answered_by: uuid.UUID | None = None
    declined_reason: str | None = None
    answer: str | None = None


class HandoversView(View):
    transfers: list[HandoverView]


@door.get("", roles=LOOKING)
def listed(
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    page: PageDep,
    state: Annotated[list[State] | None, Query()] = None,
) -> HandoversView:
    """What is on its way to or from the caller's schools (or is in `state`): the most serious first."""
    found = transfers.listed(session, states=state, after=page.after(small, moment, uuid.UUID), limit=page.limit + 1)
    rows = page.cut(found, lambda each: (each.transfer.tier, each.transfer.proposed_at.isoformat(), each.transfer.id))
    return HandoversView(transfers=handover_views(session, rows, by, now))


@door.get("/{transfer_id}", roles=LOOKING)
def show(transfer_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> HandoverView:
    """One transfer; the reading is kept account of."""
    found = transfers.shown(session, transfer_id)
    audit.record(session, by, "transfer.read", "transfer", transfer_id)
    return handover_views(session, [found], by, now)[0]


@door.post("/{transfer_id}/acceptance", roles=CARING)
def accept(transfer_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> HandoverView:
    """The new school takes the case over, with its open contacts, referrals and plan."""
    transfers.accept(session, transfer_id, by=by, now=now)
    return _answered(session, transfer_id, by, now, response)


@door.post("/{transfer_id}/refusal", roles=CARING)
def decline(
    transfer_id: Id, body: DeclineBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> HandoverView:
    """The new school does not take it over; the case stays where it is, and the old school hears at once."""
    transfers.decline(session, transfer_id, body.reason, body.words, by=by, now=now)
    return _answered(session, transfer_id, by, now, response)


@door.post("/{transfer_id}/withdrawal", roles=CARING)
def withdraw(transfer_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> HandoverView:
    """The old school takes back what it only announced."""
    transfers.withdraw(session, transfer_id, by=by, now=now)
    return _answered(session, transfer_id, by, now, response)


def handover_views(
    session: Session, found: Sequence[Handover], by: access.Actor, now: dt.datetime
) -> list[HandoverView]:
    """What this reader may see of each of these transfers."""
    codes = school_codes(session)
    own = [each for each in found if _cares(by, each)]
    names = students.named(session, {each.transfer.student_id for each in own}, by=by)
    shown = []
    for each in found:
        plain = _plain(each, codes, now)
        name = names.get(each.transfer.student_id)
        shown.append(_with_words(session, plain, each, name) if each in own else plain)
    return shown


def _cares(by: access.Actor, found: Handover) -> bool:
    schools = (found.transfer.from_school_id, found.transfer.to_school_id)
    return any(by.has(*CARING, school_id=school_id) for school_id in schools)


def _plain(found: Handover, codes: Mapping[uuid.UUID, str], now: dt.datetime) -> HandoverView:
    transfer = found.transfer
    return HandoverView(
        id=transfer.id,
        state=transfer.state,
        urgency=delivery.URGENCIES[found.tier],
        from_school=codes[transfer.from_school_id],
        to_school=codes[transfer.to_school_id],
        proposed_at=transfer.proposed_at,
        accept_by=transfer.accept_by,
        is_late=found.is_late(now),
        answered_at=transfer.answered_at,
        case_id=transfer.case_id,
        alert_id=transfer.alert_id,
    )


def _with_words(session: Session, plain: HandoverView, found: Handover, name: str | None) -> HandoverView:
    transfer = found.transfer
    return plain.model_copy(
        update={
            "tier": tier_name(found.tier),
            "student_id": transfer.student_id,
            "student_name": name,
            "promises": [PromiseView.model_validate(each) for each in found.promises],
            "summary": following.unseal(session, transfer.id, transfer.sealed_summary),
            "proposed_by": transfer.proposed_by,
            "answered_by": transfer.answered_by,
            "declined_reason": transfer.declined_reason,
            "answer": following.unseal(session, transfer.id, transfer.sealed_answer),
        }
    )


def _answered(
    session: Session, transfer_id: uuid.UUID, by: access.Actor, now: dt.datetime, response: Response
) -> HandoverView:
    session.flush()
    located(response, f"/v1/transfers/{transfer_id}")
    return handover_views(session, [transfers.shown(session, transfer_id)], by, now)[0]
