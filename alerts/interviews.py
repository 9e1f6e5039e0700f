"""What somebody found on talking with the student."""

import datetime as dt
import uuid

from sqlalchemy.orm import Session

from alerts import cases
from alerts.models import Interview
from screening import access, audit
from screening.errors import Refused

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
    )
    session.add(interview)
    session.flush()
    audit.record(session, by, "interview.written", "interview", interview.id, case=str(case.id), mode=mode)
    return interview
