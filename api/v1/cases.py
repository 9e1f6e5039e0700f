"""Cases: what is done for a student, told by those who do it, and ended by two of them where it was serious.

A case's words are for whoever wrote them, for the case's owner, in orange and red cases for the lead, and for whoever
was given access to the student; others who care at the school see what was done and when.
"""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import cases, conferences, entries, follow_ups, interviews, knowing, plans, referrals, transfers
from alerts.models import Case, Conference, Plan
from api.deps import (
    CARING,
    TIERS,
    ActorDep,
    Body,
    Door,
    Id,
    Moment,
    NowDep,
    PageDep,
    RaisedTier,
    Sender,
    SessionDep,
    Tier,
    View,
    Word,
    Words,
    etag,
    located,
    must_match,
    school_codes,
    school_id,
    tier_name,
)
from api.v1.follow_ups import FollowUpView, Mode
from api.v1.referrals import ReferralView
from api.v1.shown import SameChildView, same_child
from api.v1.transfers import HandoverView, handover_views
from screening import access, approvals, audit, db, students
from screening.db import lock
from screening.errors import NotFound

door = Door(prefix="/v1/cases", tag="cases")

ORANGE = 2
_NOWHERE = uuid.UUID(int=0)
State = Literal[
    "open",
    "assessing",
    "conference",
    "plan_active",
    "referred",
    "follow_up",
    "crisis",
    "on_leave",
    "return_assessment",
    "closure_proposed",
    "closed",
]
Audience = Literal["student", "guardian", "class_teacher", "principal", "school_doctor", "boarding_staff"]
Day = Annotated[dt.date, Field(strict=False)]


class CaseBody(Body):
    """A case that no alert began: what makes somebody open it stands in its first entry."""

    student_id: Id
    tier: RaisedTier
    words: Words


class EntryBody(Body):
    """A note; or one of the forms, with the fields that it asks for."""

    words: Words
    kind: Literal[
        "note",
        "guardian_contact",
        "absence",
        "welfare_check",
        "bullying",
        "mandatory_report",
        "leave",
        "return_assessment",
    ] = "note"
    fields: dict[str, Word | bool] = Field(default_factory=dict, max_length=20)


class SafetyCheckBody(Body):
    mode: Mode
    outcome: Literal["disclosed", "denied", "misclick", "not_answered"]
    answers: Annotated[dict[str, Word | bool], Field(max_length=20)]
    words: Words
    held_at: Moment


class ConferenceBody(Body):
    tier: RaisedTier
    attended: Annotated[list[Word], Field(max_length=20)]
    decision: Words
    held_at: Moment


class OwnerBody(Body):
    owner_id: Id
    reason: Literal["absent", "conflict", "workload", "left"]


class ReferralBody(Body):
    """`shared` is what the place is told. Without agreement only for a danger: `override` with its reason."""

    destination_id: Id
    urgency: Literal["emergency", "urgent", "routine"]
    basis: Literal["guardian", "student", "both", "override"]
    shared: Words
    reason: Words | None = None
    appointment_at: Moment | None = None


class RefusalBody(Body):
    """What was explained, and why the family does not agree."""

    destination_id: Id
    explained: Words
    reason: Words


class InterviewBody(Body):
    mode: Mode
    is_student_seen: bool
    has_current_risk: bool
    is_concern_confirmed: bool
    words: Words
    held_at: Moment


class FollowUpBody(Body):
    """Without `due_at` the policy says by when."""

    mode: Mode
    due_at: Moment | None = None


class ClosureBody(Body):
    """`reason`: one of the policy's."""

    reason: Word
    words: Words


class TransferBody(Body):
    """`summary` is the minimum that the other school has to know: nothing else that was said goes along."""

    school: Word
    summary: Words


class ActionBody(Body):
    what: Words
    who: Word
    by_on: Day


class KnowsBody(Body):
    """What one of those outside the counseling room may be told: advice that helps, never a score."""

    who: Audience
    what: Words


class PlanBody(Body):
    """`after` is the version that its writer has read; without `owner_id` whoever writes it owns it."""

    goals: Annotated[list[Words], Field(max_length=20)]
    actions: Annotated[list[ActionBody], Field(max_length=50)]
    knows: Annotated[list[KnowsBody], Field(max_length=20, default_factory=list)]
    owner_id: Id | None = None
    review_on: Day
    after: Annotated[int, Field(ge=0, lt=2**15)] | None = None


class ActionView(View):
    what: str
    who: str
    by_on: dt.date


class KnowsView(View):
    who: str
    what: str


class PlanView(View):
    """A version of a plan."""

    id: uuid.UUID
    version: int
    owner_id: uuid.UUID
    review_on: dt.date
    by: uuid.UUID
    at: dt.datetime
    goals: list[str]
    actions: list[ActionView]
    knows: list[KnowsView]


class CaseLine(View):
    """A case in a list."""

    id: uuid.UUID
    student_id: uuid.UUID
    student_name: str | None
    school: str
    tier: Tier
    state: str
    owner_id: uuid.UUID
    opened_at: dt.datetime
    closed_at: dt.datetime | None


class CasesView(View):
    cases: list[CaseLine]


class LineView(View):
    """One thing that happened; `words` are null where there are none, or none for this reader."""

    at: dt.datetime
    kind: str
    subject_id: uuid.UUID
    by: uuid.UUID | None
    words: str | None
    fields: dict[str, str | bool] | None = None


class ConferenceView(View):
    id: uuid.UUID
    tier: Tier
    attended: list[str]
    held_at: dt.datetime
    written_by: uuid.UUID
    confirmed_by: uuid.UUID | None
    confirmed_at: dt.datetime | None
    decision: str | None


class InterviewView(View):
    id: uuid.UUID
    mode: str
    outcome: str | None
    is_student_seen: bool
    has_current_risk: bool
    is_concern_confirmed: bool
    by: uuid.UUID
    held_at: dt.datetime


class ClosureView(View):
    id: uuid.UUID
    reason: str
    proposed_by: uuid.UUID
    proposed_at: dt.datetime
    confirmed_by: uuid.UUID | None
    confirmed_at: dt.datetime | None
    rejected_at: dt.datetime | None


class CaseView(CaseLine):
    prior_case_id: uuid.UUID | None
    story: list[LineView]
    interviews: list[InterviewView]
    follow_ups: list[FollowUpView]
    closures: list[ClosureView]
    plan: PlanView | None
    conferences: list[ConferenceView]
    referrals: list[ReferralView]
    same_child: list[SameChildView]


@door.get("", roles=CARING)
def listed(
    session: SessionDep,
    by: ActorDep,
    page: PageDep,
    state: Annotated[list[State] | None, Query()] = None,
    school: Sender | None = None,
) -> CasesView:
    """The cases that have not ended (or are in `state`): the most serious first, then the oldest."""
    after = page.after(uuid.UUID)
    found = cases.listed(
        session,
        states=state,
        school_id=None if school is None else school_id(session, school),
        after=None if after is None else after[0],
        limit=page.limit + 1,
    )
    rows = page.cut(found, lambda case: (case.id,))
    names = students.named(session, {case.student_id for case in rows}, by=by)
    codes = school_codes(session)
    return CasesView(cases=[_line(case, names.get(case.student_id), codes[case.school_id]) for case in rows])


@door.post("", roles=CARING, status=201)
def open(body: CaseBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> CaseView:
    """Opens a case that no alert began, or joins the one that is open."""
    student = students.get(session, body.student_id)
    tier = TIERS.index(body.tier)
    case = cases.open(session, student.id, student.school_id, tier, by.person, by=by, now=now)
    cases.note(session, case.id, body.words, by=by, now=now)
    return _answered(session, case.id, by, response)


@door.get("/{case_id}", roles=CARING)
def show(case_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> CaseView:
    """One case with its story; the reading is kept account of, with its ground."""
    view = _answered(session, case_id, by, response)
    why = knowing.ground(session, view.student_id, by=by, now=now)
    audit.record(session, by, "case.read", "case", case_id, because=why or "role")
    return view


@door.post("/{case_id}/entries", roles=CARING, status=201, is_conditional=True)
def note(
    case_id: Id, body: EntryBody, request: Request, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> CaseView:
    """A line in the story."""
    _hold(session, case_id, by, request)
    if body.kind == "note":
        cases.note(session, case_id, body.words, by=by, now=now)
    else:
        entries.fill(session, case_id, body.kind, body.fields, body.words, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/safety-checks", roles=CARING, status=201, is_conditional=True)
def check_safety(
    case_id: Id,
    body: SafetyCheckBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """What a safety check found; an imminent danger rings at once."""
    _hold(session, case_id, by, request)
    interviews.check_safety(session, case_id, **body.model_dump(), by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/conferences", roles=CARING, status=201, is_conditional=True)
def confer(
    case_id: Id,
    body: ConferenceBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """What a conference decided; a second person confirms it, and one of the two is the lead."""
    _hold(session, case_id, by, request)
    told = body.model_dump() | {"tier": TIERS.index(body.tier)}
    conferences.write(session, case_id, **told, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/conferences/{conference_id}/confirmation", roles=CARING)
def confirm_conference(
    case_id: Id, conference_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> CaseView:
    """The second person's word."""
    cases.get(session, case_id)
    if conference_id not in [each.id for each in conferences.listed(session, case_id)]:
        raise NotFound("There is no such conference.")
    conferences.confirm(session, conference_id, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/owner", roles=CARING, is_conditional=True)
def hand_over(
    case_id: Id,
    body: OwnerBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """A colleague owns the case from now on; its clocks go on."""
    _hold(session, case_id, by, request)
    cases.hand_over(session, case_id, body.owner_id, body.reason, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/referrals", roles=CARING, status=201, is_conditional=True)
def refer(
    case_id: Id,
    body: ReferralBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """Refers the student to a place of the directory."""
    _hold(session, case_id, by, request)
    told = body.model_dump(exclude={"destination_id"})
    referrals.make(session, case_id, body.destination_id, **told, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/referral-refusals", roles=CARING, status=201, is_conditional=True)
def refuse_referral(
    case_id: Id,
    body: RefusalBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """The family does not agree: a second talk is promised within two days, and the lead hears."""
    _hold(session, case_id, by, request)
    told = body.model_dump(exclude={"destination_id"})
    referrals.refuse(session, case_id, body.destination_id, **told, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/interviews", roles=CARING, status=201, is_conditional=True)
def interview(
    case_id: Id,
    body: InterviewBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """What was found on talking with the student."""
    _hold(session, case_id, by, request)
    interviews.write(session, case_id, **body.model_dump(), by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/follow-ups", roles=CARING, status=201, is_conditional=True)
def plan(
    case_id: Id,
    body: FollowUpBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """Promises a contact by a time."""
    _hold(session, case_id, by, request)
    follow_ups.plan(session, case_id, body.mode, due_at=body.due_at, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/closure", roles=CARING, is_conditional=True)
def propose(
    case_id: Id,
    body: ClosureBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """Ends a mild case, or proposes the end of a serious one; everything that stands in the way is named."""
    _hold(session, case_id, by, request)
    cases.propose_closure(session, case_id, body.reason, body.words, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/closure/confirmation", roles=CARING, is_conditional=True)
def confirm(
    case_id: Id, request: Request, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> CaseView:
    """The second person's word that the case ends."""
    _hold(session, case_id, by, request)
    cases.confirm_closure(session, case_id, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/closure/rejection", roles=CARING, is_conditional=True)
def reject(
    case_id: Id, request: Request, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> CaseView:
    """The case goes on."""
    _hold(session, case_id, by, request)
    cases.reject_closure(session, case_id, by=by, now=now)
    return _answered(session, case_id, by, response)


@door.post("/{case_id}/transfer", roles=CARING, status=201, is_conditional=True)
def transfer(
    case_id: Id,
    body: TransferBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> HandoverView:
    """Hands the case to another school, which has to take it over; or writes the summary for one on its way."""
    _hold(session, case_id, by, request)
    cases.working(session, case_id, by)
    to = next((found for found, code in school_codes(session).items() if code == body.school), _NOWHERE)
    made = transfers.propose(session, case_id, to, body.summary, by=by, now=now)
    located(response, f"/v1/transfers/{made.id}")
    return handover_views(session, [transfers.shown(session, made.id)], by, now)[0]


@door.put("/{case_id}/plan", roles=CARING, is_conditional=True)
def write_plan(
    case_id: Id,
    body: PlanBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> CaseView:
    """A further version of the individual plan; those before stay."""
    _hold(session, case_id, by, request)
    content = plans.Content(
        goals=tuple(body.goals),
        actions=tuple(plans.Action(each.what, each.who, each.by_on) for each in body.actions),
        knows=tuple(plans.Knows(each.who, each.what) for each in body.knows),
    )
    owner = body.owner_id or by.person
    plans.write(session, case_id, content, owner=owner, review_on=body.review_on, after=body.after, by=by, now=now)
    return _answered(session, case_id, by, response)


def _hold(session: Session, case_id: uuid.UUID, by: access.Actor, request: Request) -> None:
    """One door after the other, and only on what the caller has seen."""
    lock(session, f"case/{case_id}")
    if "if-match" not in request.headers:
        return
    view = _shown(session, case_id, by)
    last = view.story[-1]
    must_match(request, etag(view), f"Last: {last.kind} by {last.by} at {last.at.isoformat()}.")


def _answered(session: Session, case_id: uuid.UUID, by: access.Actor, response: Response) -> CaseView:
    session.flush()
    view = _shown(session, case_id, by)
    response.headers["ETag"] = etag(view)
    located(response, f"/v1/cases/{case_id}")
    return view


def _shown(session: Session, case_id: uuid.UUID, by: access.Actor) -> CaseView:
    found = cases.story(session, case_id)
    case = found.case
    names = students.named(session, [case.student_id], by=by)
    line = _line(case, names.get(case.student_id), school_codes(session)[case.school_id])
    reads_all = _reads_all(session, case, by)
    return CaseView(
        **line.model_dump(),
        prior_case_id=case.prior_case_id,
        story=[
            LineView(
                at=each.at,
                kind=each.kind,
                subject_id=each.subject_id,
                by=each.by,
                words=each.words if reads_all or each.by == by.person else None,
                fields=dict(each.fields) if each.fields and (reads_all or each.by == by.person) else None,
            )
            for each in found.lines
        ],
        interviews=[InterviewView.model_validate(each) for each in found.interviews],
        follow_ups=[FollowUpView.model_validate(each) for each in found.follow_ups],
        closures=[ClosureView.model_validate(each) for each in found.closures],
        plan=_plan_view(session, plans.newest(session, case.id)),
        conferences=[
            _conference_view(session, each, reads_all or by.person in (each.written_by, each.confirmed_by))
            for each in conferences.listed(session, case.id)
        ],
        referrals=[ReferralView.model_validate(each) for each in referrals.of_case(session, case.id)],
        same_child=same_child(session, case.student_id),
    )


def _plan_view(session: Session, plan: Plan | None) -> PlanView | None:
    if plan is None:
        return None
    content = plans.read(session, plan)
    return PlanView(
        id=plan.id,
        version=plan.version,
        owner_id=plan.owner_id,
        review_on=plan.review_on,
        by=plan.by,
        at=plan.at,
        goals=list(content.goals),
        actions=[ActionView.model_validate(each) for each in content.actions],
        knows=[KnowsView.model_validate(each) for each in content.knows],
    )


def _conference_view(session: Session, found: Conference, reads: bool) -> ConferenceView:
    return ConferenceView(
        id=found.id,
        tier=tier_name(found.tier),
        attended=list(found.attended),
        held_at=found.held_at,
        written_by=found.written_by,
        confirmed_by=found.confirmed_by,
        confirmed_at=found.confirmed_at,
        decision=cases.unseal(session, found.case_id, found.id, found.sealed_decision) if reads else None,
    )


def _reads_all(session: Session, case: Case, by: access.Actor) -> bool:
    if case.owner_id == by.person or (case.tier >= ORANGE and by.has("lead", school_id=case.school_id)):
        return True
    return approvals.standing(session, case.student_id, by=by, now=db.now(session)) is not None


def _line(case: Case, name: str | None, school: str) -> CaseLine:
    return CaseLine(
        id=case.id,
        student_id=case.student_id,
        student_name=name,
        school=school,
        tier=tier_name(case.tier),
        state=case.state,
        owner_id=case.owner_id,
        opened_at=case.opened_at,
        closed_at=case.closed_at,
    )
