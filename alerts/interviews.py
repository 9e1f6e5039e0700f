"""What somebody found on talking with the student."""

import datetime as dt
import json
import uuid

from sqlalchemy.orm import Session

from alerts import cases, forms, raising, routing
from alerts.models import Interview
from screening import access, audit
from screening.errors import Refused
from screening.results import Signal

ORANGE, RED = 2, 3
MODES = ("meeting", "home_visit", "video", "phone")


def write(
    session: Session,
    case_id: uuid.UUID,
    *,
    mode: str,
    is_student_seen: bool,
    has_current_risk: bool,
    is_concern_confirmed: bool,
    words: str,
    held_at: dt.datetime,
    by: access.Actor,
    now: dt.datetime,
    outcome: str | None = None,
    answers: forms.Fields | None = None,
) -> Interview:
    """An interview in a case; the words are sealed. What was written stays: a correction is another interview."""
    if mode not in MODES:
        raise Refused(f"An interview is one of these: {', '.join(MODES)}.", code="unknown_mode")
    if held_at > now:
        raise Refused("An interview is written when it has been held.", code="in_the_future")
    case = cases.working(session, case_id, by)
    interview_id = uuid.uuid4()
    interview = Interview(
        district_id=case.district_id,
        id=interview_id,
        case_id=case.id,
        school_id=case.school_id,
        mode=mode,
        is_student_seen=is_student_seen,
        has_current_risk=has_current_risk,
        is_concern_confirmed=is_concern_confirmed,
        sealed_note=cases.seal(session, case.id, interview_id, cases.required(words)),
        by=by.person,
        held_at=held_at,
        written_at=now,
        outcome=outcome,
        sealed_form=None if answers is None else cases.seal(session, case.id, interview_id, json.dumps(dict(answers))),
    )
    session.add(interview)
    session.flush()
    if is_student_seen:
        cases.advance(session, case, "assessing")
    audit.record(session, by, "interview.written", "interview", interview.id, case=str(case.id), mode=mode)
    return interview


def check_safety(
    session: Session,
    case_id: uuid.UUID,
    *,
    mode: str,
    outcome: str,
    answers: forms.Fields,
    words: str,
    held_at: dt.datetime,
    by: access.Actor,
    now: dt.datetime,
) -> Interview:
    """A safety check: an interview whose answers say whether somebody must not be left alone.

    A present risk raises the case at least to orange; an imminent one is a red signal of its own, which rings like any
    other. Whoever takes an answer back, or says it was a slip, lowers nothing.
    """
    if outcome not in forms.SAFETY_OUTCOMES:
        raise Refused(f"The outcome is one of these: {', '.join(forms.SAFETY_OUTCOMES)}.", code="unknown_outcome")
    risk = forms.risk_of(answers)
    made = write(
        session,
        case_id,
        mode=mode,
        is_student_seen=True,
        has_current_risk=risk != "none",
        is_concern_confirmed=outcome == "disclosed" or risk != "none",
        words=words,
        held_at=held_at,
        by=by,
        now=now,
        outcome=outcome,
        answers=answers,
    )
    if risk == "none":
        return made
    case = cases.get(session, case_id)
    if risk == "raised":
        cases.raise_tier(session, case_id, max(case.tier, ORANGE), by=by, now=now)
        return made
    signal = Signal(
        student_id=case.student_id,
        school_id=case.school_id,
        rule="safety_check_imminent",
        tier=RED,
        is_self_harm=True,
        source=f"interview/{made.id}",
    )
    policy = routing.policy_of_student(session, case.student_id)
    raising.raise_alerts(session, [signal], now=now, policy=policy)
    return made
