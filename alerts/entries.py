"""What is written in a case beside notes: contacts with guardians, absence, bullying, reports, leave and return."""

import datetime as dt
import json
import uuid

from sqlalchemy.orm import Session

from alerts import cases, delivery, follow_ups, forms, routing
from alerts.models import Case, CaseEntry
from screening import access, audit
from screening.errors import Refused

TRY_AGAIN = dt.timedelta(minutes=30)
"""After this long without having reached anybody, the lead decides whether the police look for the student."""


def fill(
    session: Session,
    case_id: uuid.UUID,
    kind: str,
    fields: forms.Fields,
    words: str,
    *,
    by: access.Actor,
    now: dt.datetime,
) -> CaseEntry:
    """An entry of one of forms.FORMS: its fields are checked and sealed with the words, what came of it is its kind."""
    outcome = forms.filled(kind, fields)
    case = cases.working(session, case_id, by)
    cases.require(by, forms.FORMS[kind].roles, case.school_id)
    _move(case, kind, outcome)
    told = json.dumps({"fields": dict(fields), "words": cases.required(words)}, ensure_ascii=False)
    entry = cases.tell(session, case, f"{kind}/{outcome}", by, now, told)
    audit.record(session, by, "case.noted", "case", case.id, entry=str(entry.id), kind=f"{kind}/{outcome}")
    if (kind, outcome) == ("absence", "unreached"):
        _call_lead(session, case, entry, by, now)
    return entry


def _move(case: Case, kind: str, outcome: str) -> None:
    """Leave and return are stages of their own, so that nobody comes back without having been looked at."""
    if kind == "leave":
        if case.state == "closure_proposed":
            raise Refused("Somebody proposes to end this case; reject that first.", code="closure_open")
        case.state = "on_leave"
    elif kind == "return_assessment":
        if case.state not in ("on_leave", "return_assessment"):
            raise Refused("This student is not on leave.", code="not_on_leave")
        case.state = "plan_active" if outcome == "fit" else "return_assessment"


def _call_lead(session: Session, case: Case, entry: CaseEntry, by: access.Actor, now: dt.datetime) -> None:
    """Nobody knows where the student is: the lead hears at once, and somebody tries again within half an hour."""
    promised = follow_ups.plan(session, case.id, "phone", by=by, now=now, due_at=now + TRY_AGAIN)
    rota = routing.rota(session, now=now)
    notices = [
        delivery.Notice(
            recipient_id=recipient,
            school_id=case.school_id,
            subject="follow_up",
            subject_id=promised.id,
            occasion=f"absent/{entry.id}",
            urgency=delivery.URGENCIES[3],
            due_at=promised.due_at,
        )
        for recipient in rota.hearers("lead", case.school_id, case.id)
    ]
    delivery.put(session, notices, now=now)
