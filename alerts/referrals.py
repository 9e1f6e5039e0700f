"""A student is referred to a place outside the school, with consent or for a danger; and was the first visit kept?

The place learns what it needs and answers accept or decline and whether the visit was kept, never a diagnosis.
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import cases, delivery, destinations, follow_ups, routing
from alerts.models import Case, Destination, Referral
from screening import access, audit, guesses, sealing
from screening.db import Database
from screening.errors import Conflict, NotFound, NotSignedIn, Refused
from screening.guesses import Steady

URGENCIES = ("emergency", "urgent", "routine")
CONFIRM_WITHIN = {"emergency": dt.timedelta(days=1), "urgent": dt.timedelta(days=7), "routine": dt.timedelta(weeks=6)}
"""By when the first visit should be known of: a red within 7 days, an orange within 6 weeks."""
CONSENTING = ("guardian", "student", "both")
SECOND_TALK_WITHIN = dt.timedelta(days=2)
VISITS = {"kept": "kept", "not_kept": "not_kept", "refused": "visit_refused"}
OPEN = ("sent", "accepted")
LINK_BYTES, FACT_DIGITS = 20, 6
LINK_DAYS = 60
_OVER = "This link or the number with it is not right, or it is over. Ask the school."


def make(
    session: Session,
    case_id: uuid.UUID,
    destination_id: uuid.UUID,
    *,
    urgency: str,
    basis: str,
    shared: str,
    by: access.Actor,
    now: dt.datetime,
    reason: str | None = None,
    appointment_at: dt.datetime | None = None,
) -> Referral:
    """Refers the student. `shared` is what the place is told; `basis` says who agreed.

    Without agreement only for a danger that is written down (`override` with `reason`), which the lead hears of.
    """
    if urgency not in URGENCIES:
        raise Refused(f"The urgency is one of these: {', '.join(URGENCIES)}.", code="unknown_urgency")
    if basis not in (*CONSENTING, "override"):
        raise Refused("Say who agreed, or override with a reason.", code="unknown_basis")
    if (basis == "override") != bool(reason and reason.strip()):
        raise Refused("An override, and only that, is given a reason: what the danger is.", code="reason_missing")
    case = cases.working(session, case_id, by)
    place = destinations.get(session, destination_id)
    if place.retired_at is not None:
        raise Refused("Nobody is referred to this place any more.", code="destination_retired")
    made = _row(session, case, place, urgency, basis, "sent", shared, reason, by, now)
    made.appointment_at = appointment_at
    session.add(made)
    session.flush()
    cases.advance(session, case, "referred")
    audit.record(session, by, "referral.made", "referral", made.id, case=str(case.id), basis=basis, urgency=urgency)
    if basis == "override":
        _tell_lead(session, case, made, now)
    return made


def refuse(
    session: Session,
    case_id: uuid.UUID,
    destination_id: uuid.UUID,
    *,
    explained: str,
    reason: str,
    by: access.Actor,
    now: dt.datetime,
) -> Referral:
    """The guardian (or the student) does not agree: what was explained and why they refuse is kept.

    The lead hears, and a second talk is promised within two days. A refusal alone never ends a case.
    """
    case = cases.working(session, case_id, by)
    place = destinations.get(session, destination_id)
    made = _row(session, case, place, "urgent", "refused", "refused", explained, cases.required(reason), by, now)
    session.add(made)
    session.flush()
    follow_ups.plan(session, case.id, "meeting", by=by, now=now, due_at=now + SECOND_TALK_WITHIN)
    audit.record(session, by, "referral.refused", "referral", made.id, case=str(case.id))
    _tell_lead(session, case, made, now)
    return made


def answer(
    session: Session, referral_id: uuid.UUID, is_accepted: bool, *, by: access.Actor, now: dt.datetime
) -> Referral:
    """The place takes the student, or does not; written down by the school where it heard so."""
    found = _held(session, referral_id, by)
    return _answered(session, found, is_accepted, by, now)


def visit(
    session: Session, referral_id: uuid.UUID, outcome: str, on: dt.date, *, by: access.Actor, now: dt.datetime
) -> Referral:
    """Whether the first visit was kept: `kept`, `not_kept` or `refused`, and on which day."""
    found = _held(session, referral_id, by)
    return _visited(session, found, outcome, on, by, now)


def withdraw(session: Session, referral_id: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime) -> Referral:
    """The student is not referred there after all; why stands in the case's story."""
    found = _held(session, referral_id, by)
    if found.state == "withdrawn" and found.ended_by == by.person:
        return found
    _must_be(found, *OPEN)
    case = cases.working(session, found.case_id, by)
    cases.tell(session, case, "referral/withdrawn", by, now, cases.required(reason))
    _end(session, found, "withdrawn", by, now)
    return found


def get(session: Session, referral_id: uuid.UUID) -> Referral:
    """Raises NotFound."""
    found = session.get(Referral, (access.scope_of(session).district_id, referral_id), populate_existing=True)
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such referral.")
    return found


def of_case(session: Session, case_id: uuid.UUID) -> Sequence[Referral]:
    return session.scalars(
        select(Referral)
        .where(Referral.district_id == access.scope_of(session).district_id, Referral.case_id == case_id)
        .where(access.of_scope(session, Referral.school_id))
        .order_by(Referral.made_at)
    ).all()


def unconfirmed(session: Session, *, now: dt.datetime, limit: int = 200) -> Sequence[Referral]:
    """Those of which it should be known by now whether the first visit was kept, the longest overdue first."""
    return session.scalars(
        select(Referral)
        .where(
            Referral.district_id == access.scope_of(session).district_id,
            Referral.state.in_(OPEN),
            Referral.confirm_by <= now,
            access.of_scope(session, Referral.school_id),
        )
        .order_by(Referral.confirm_by, Referral.id)
        .limit(limit)
    ).all()


def shared(session: Session, found: Referral) -> str:
    """What the place was told, or what was explained, opened from its seal."""
    return cases.unseal(session, found.case_id, found.id, found.sealed_shared) or ""


# -- the place's own door -----------------------------------------------------------------------------


def link(session: Session, referral_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> tuple[str, str]:
    """A link for the place and the number that goes with it by another way; both are shown this once.

    A link that was made before ends.
    """
    found = _held(session, referral_id, by)
    _must_be(found, *OPEN)
    secret = f"{found.district_id.hex}{secrets.token_urlsafe(LINK_BYTES)}"
    fact = "".join(secrets.choice("0123456789") for _ in range(FACT_DIGITS))
    master = session.info["master_key"]
    found.code_hash = sealing.code_lookup(master, f"referral/{secret}")
    found.fact_hash = sealing.fact_lookup(master, f"referral/{secret}/{fact}")
    found.code_until = now + dt.timedelta(days=LINK_DAYS)
    session.flush()
    audit.record(session, by, "referral.linked", "referral", found.id)
    return secret, fact


def scope_of_link(secret: str) -> access.Scope:
    """The district that a link belongs to: no secret, it is the link's first half. Raises NotSignedIn."""
    try:
        return access.Scope(uuid.UUID(hex=secret[:32]))
    except ValueError:
        raise NotSignedIn(_OVER) from None


def admit(database: Database, secret: str) -> Steady:
    """Counts a guess at a link's number: ten at once, and one more each day."""
    limit = Steady(f"referral/{secret}", seconds=86_400, burst=10)
    guesses.admit(database, [limit])
    return limit


def opened(session: Session, secret: str, fact: str, *, now: dt.datetime) -> Referral:
    """The one referral that a link opens together with its number. Raises NotSignedIn."""
    master = session.info["master_key"]
    found = session.scalars(
        select(Referral)
        .where(
            Referral.district_id == access.scope_of(session).district_id,
            Referral.code_hash == sealing.code_lookup(master, f"referral/{secret}"),
        )
        .with_for_update(key_share=True)
    ).one_or_none()
    told = sealing.fact_lookup(master, f"referral/{secret}/{fact.strip()}")
    if found is None or found.fact_hash is None or found.code_until is None or found.code_until <= now:
        raise NotSignedIn(_OVER)
    if not secrets.compare_digest(told, found.fact_hash):
        raise NotSignedIn(_OVER)
    return found


def answered_by_place(session: Session, found: Referral, is_accepted: bool, *, now: dt.datetime) -> Referral:
    return _answered(session, found, is_accepted, partner(found), now)


def visited_at_place(session: Session, found: Referral, outcome: str, on: dt.date, *, now: dt.datetime) -> Referral:
    return _visited(session, found, outcome, on, partner(found), now)


def partner(found: Referral) -> access.Actor:
    """Whoever holds the link, acting for the place."""
    role = access.RoleAt("referral_partner", found.school_id)
    return access.Actor(account_id=None, district_id=found.district_id, roles=(role,))


# -- steps --------------------------------------------------------------------------------------------


def _row(
    session: Session,
    case: Case,
    place: Destination,
    urgency: str,
    basis: str,
    state: str,
    shared: str,
    reason: str | None,
    by: access.Actor,
    now: dt.datetime,
) -> Referral:
    referral_id = uuid.uuid4()
    return Referral(
        district_id=case.district_id,
        id=referral_id,
        case_id=case.id,
        school_id=case.school_id,
        destination_id=place.id,
        urgency=urgency,
        basis=basis,
        state=state,
        sealed_shared=cases.seal(session, case.id, referral_id, cases.required(shared)),
        sealed_reason=None if reason is None else cases.seal(session, case.id, referral_id, reason.strip()),
        confirm_by=now + CONFIRM_WITHIN[urgency],
        made_by=by.person,
        made_at=now,
    )


def _held(session: Session, referral_id: uuid.UUID, by: access.Actor) -> Referral:
    found = session.scalars(
        select(Referral)
        .where(Referral.district_id == access.scope_of(session).district_id, Referral.id == referral_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such referral.")
    cases.require(by, cases.CARING, found.school_id)
    return found


def _answered(session: Session, found: Referral, is_accepted: bool, by: access.Actor, now: dt.datetime) -> Referral:
    wanted = "accepted" if is_accepted else "declined"
    if found.state == wanted:
        return found
    _must_be(found, "sent")
    found.answered_at = now
    if is_accepted:
        found.state = "accepted"
    else:
        _end(session, found, "declined", by, now)
        _tell_owner(session, found, now)
    session.flush()
    audit.record(session, by, f"referral.{wanted}", "referral", found.id)
    return found


def _visited(
    session: Session, found: Referral, outcome: str, on: dt.date, by: access.Actor, now: dt.datetime
) -> Referral:
    if outcome not in VISITS:
        raise Refused(f"A visit was one of these: {', '.join(VISITS)}.", code="unknown_outcome")
    if on > now.astimezone(session.info["timezone"]).date():
        raise Refused("A visit is written when its day has come.", code="in_the_future")
    if found.state == VISITS[outcome] and found.visited_on == on:
        return found
    # what was missed at first may be kept later; what was kept stays kept
    _must_be(found, *OPEN, "not_kept", "visit_refused")
    found.visited_on = on
    _end(session, found, VISITS[outcome], by, now)
    audit.record(session, by, "referral.visit", "referral", found.id, outcome=outcome)
    if outcome != "kept":
        _tell_owner(session, found, now)
    return found


def _end(session: Session, found: Referral, state: str, by: access.Actor, now: dt.datetime) -> None:
    found.state, found.ended_by, found.ended_at = state, by.staff_id or by.account_id, now
    session.flush()


def _must_be(found: Referral, *states: str) -> None:
    if found.state not in states:
        raise Conflict(f"This referral is {found.state} already.", code="referral_over")


def _tell_lead(session: Session, case: Case, made: Referral, now: dt.datetime) -> None:
    rota = routing.rota(session, now=now)
    _tell(session, made, rota.hearers("lead", case.school_id, case.id), made.state, case.tier, now)


def _tell_owner(session: Session, found: Referral, now: dt.datetime) -> None:
    """What did not come about outside is the school's again, at once."""
    case = cases.get(session, found.case_id)
    _tell(session, found, (case.owner_id,), found.state, case.tier, now)


def _tell(
    session: Session, found: Referral, to: Sequence[uuid.UUID], occasion: str, tier: int, now: dt.datetime
) -> None:
    notices = [
        delivery.Notice(
            recipient_id=recipient,
            school_id=found.school_id,
            subject="referral",
            subject_id=found.id,
            occasion=f"{occasion}/{now.isoformat()}",
            urgency=delivery.URGENCIES[tier],
            due_at=min(found.confirm_by, now + SECOND_TALK_WITHIN),
        )
        for recipient in to
    ]
    delivery.put(session, notices, now=now)
