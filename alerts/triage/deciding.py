"""What came of looking: a case, or an end that a second person confirms."""

import datetime as dt
import uuid

from sqlalchemy.orm import Session

from alerts import cases, routing
from alerts.models import Alert, AlertReason, Triage
from alerts.triage.holding import held_alert, latest_triage, proposal, taken
from screening import access, audit, sealing
from screening.errors import Conflict, Refused

CONFIRMING = ("lead", "counselor", "duty_officer")
"""Who may be the second person that ends an alert without a case."""
CONTACTS = ("none", "meeting", "home_visit", "video", "phone")
ENDING = ("monitor", "not_confirmed")
"""Outcomes without a case."""
PROPOSED = (*ENDING, "wrong_student")
"""Outcomes that wait for a second person's word."""


def triage(
    session: Session,
    alert_id: uuid.UUID,
    outcome: str,
    *,
    contact: str,
    is_student_seen: bool,
    words: str,
    by: access.Actor,
    now: dt.datetime,
    tier: int | None = None,
) -> Triage:
    """What came of looking: a case is opened or joined, or the alert ends as monitor or not_confirmed.

    Without a case an alert ends only after a contact with the student, and from the policy's tier on only after
    `confirm_triage` by a second person: until then it stays open. A tier may be raised here at once, never lowered.
    """
    held = held_alert(session, alert_id)
    cases.require(by, cases.CARING, held.school_id)
    cases.refuse_recused(session, by, held.student_id)
    _check_triage(held, outcome, contact, is_student_seen, tier)
    standing = _standing_triage(session, held, outcome, by)
    if standing is not None:
        return standing
    if held.state == "new":
        raise Refused("Acknowledge this alert first, so that others see who is looking.", code="not_acknowledged")
    _raise(session, held, tier, by, now)
    made = proposal(held, outcome, contact, is_student_seen, by, now)
    made.sealed_note = sealing.keys(session).seal_text(cases.required(words), f"alert/{held.id}/{made.id}")
    if outcome not in ENDING:
        _take_into_case(session, held, made, by, now)
    elif held.tier < _second_person_from(session, held):
        held.state, held.closed_at = "triaged", now
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.triaged", "alert", held.id, outcome=made.outcome, tier=held.tier)
    return made


def confirm_triage(session: Session, alert_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Triage:
    """The second person's word that an alert ends without a case. A signal since the proposal voids it."""
    held = held_alert(session, alert_id)
    cases.require(by, CONFIRMING, held.school_id)
    cases.refuse_recused(session, by, held.student_id)
    proposed = latest_triage(session, held)
    if proposed is not None and proposed.confirmed_by is not None and proposed.confirmed_at is not None:
        if proposed.confirmed_by == by.person:
            return proposed
        raise cases.TakenByAnother("This was confirmed", proposed.confirmed_by, proposed.confirmed_at)
    if proposed is None or not _is_pending(held, proposed):
        raise Conflict("Nobody proposes to end this alert now; it may have been raised again.")
    cases.require_second_person(by, proposed.proposed_by)
    proposed.confirmed_by, proposed.confirmed_at = by.person, now
    held.state, held.closed_at = "triaged", now
    session.flush()
    audit.record(session, by, "alert.triage_confirmed", "alert", held.id, outcome=proposed.outcome, tier=held.tier)
    return proposed


def _check_triage(held: Alert, outcome: str, contact: str, is_student_seen: bool, tier: int | None) -> None:
    if outcome not in ("case_opened", "merged", *ENDING):
        raise Refused("The outcome is case_opened, merged, monitor or not_confirmed.", code="unknown_outcome")
    if contact not in CONTACTS:
        raise Refused(f"The contact is one of these: {', '.join(CONTACTS)}.", code="unknown_contact")
    if tier is not None and not held.tier <= tier <= 3:
        raise Refused("A tier may be raised here, never lowered.", code="tier_lowered")
    if held.student_id is None and outcome not in ENDING:
        raise Refused("Say first whose answers these are.", code="not_identified")
    if held.student_id is not None and outcome in ENDING and contact == "none" and not is_student_seen:
        raise Refused("An alert ends without a case only after a contact with the student.", code="no_contact")


def _standing_triage(session: Session, held: Alert, outcome: str, by: access.Actor) -> Triage | None:
    """What the same person did already; what another did is a conflict. None when there is work to do."""
    standing = latest_triage(session, held)
    if held.state != "triaged" and (standing is None or not _is_pending(held, standing)):
        return None
    if held.state != "triaged" and outcome not in ENDING:
        return None  # opening a case is always possible, whatever somebody proposes
    if standing is None or standing.proposed_by != by.person:
        raise taken(standing)
    is_same = standing.outcome == outcome or {standing.outcome, outcome} == {"case_opened", "merged"}
    if held.state == "triaged" and not is_same:
        raise taken(standing)
    return standing if is_same else None


def _is_pending(held: Alert, proposed: Triage) -> bool:
    """Whether a proposal to end this alert waits for a second person, and nothing has come up since."""
    return (
        held.state == "acknowledged"
        and proposed.outcome in PROPOSED
        and proposed.confirmed_at is None
        and proposed.tier == held.tier
        and proposed.proposed_at >= held.raised_at
    )


def _second_person_from(session: Session, held: Alert) -> int:
    return routing.policies(session, [held.round_id])[held.round_id].closure.second_person_from


def _raise(session: Session, held: Alert, tier: int | None, by: access.Actor, now: dt.datetime) -> None:
    """A person's judgement is a signal like any other: it stands among the reasons."""
    if tier is None or tier == held.tier:
        return
    held.tier = tier
    session.add(
        AlertReason(
            district_id=held.district_id,
            alert_id=held.id,
            rule="raised_at_triage",
            source=f"triage/{by.person}/{now.isoformat()}",
            school_id=held.school_id,
            tier=tier,
            noticed_at=now,
        )
    )


def _take_into_case(session: Session, held: Alert, made: Triage, by: access.Actor, now: dt.datetime) -> None:
    if held.student_id is None or held.school_id is None:
        raise Refused("Say first whose answers these are.", code="not_identified")
    case = cases.open(session, held.student_id, held.school_id, held.tier, held.owner_id or by.person, by=by, now=now)
    made.case_id = case.id
    made.outcome = "case_opened" if case.opened_at == now and case.opened_by == by.person else "merged"
    held.state = "triaged"
