"""The queue: who waits to be looked at, who answers, and what came of looking.

Those who care for students see reasons and names; principals and duty officers see that somebody must look, and by
when.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from alerts import delivery, knowing, recusals, triage
from alerts.triage import AlertStory, Cursor, QueueRow
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
    Words,
    located,
    moment,
    school_id,
    small,
    tier_name,
)
from api.v1.shown import SameChildView, same_child
from screening import access, audit, db, policy, rounds, students
from screening.errors import NotFound
from screening.risk_model import registry
from screening.risk_model.reasons import SILENT

door = Door(prefix="/v1/alerts", tag="alerts")

LOOKING = CARING | {"principal", "duty_officer"}
ANSWERING = LOOKING | {"district_admin"}
"""The district's administrator is the last whom the ladder calls."""

State = Literal["new", "acknowledged", "triaged"]


class ConcernBody(Body):
    """What somebody observed: facts, never a diagnosis."""

    student_id: Id
    tier: RaisedTier
    facts: Words
    is_self_harm: bool = False


class TriageBody(Body):
    outcome: Literal["case_opened", "merged", "monitor", "not_confirmed"]
    contact: Literal["none", "meeting", "home_visit", "video", "phone"]
    is_student_seen: bool
    words: Words
    tier: RaisedTier | None = None


class StudentBody(Body):
    student_id: Id


class MisplacedBody(Body):
    """Whose alert it really is, and how one knows."""

    student_id: Id
    words: Words


class RecusalBody(Body):
    person_id: Id
    reason: Literal["subject", "relative", "other"]


class ReasonView(TypedDict):
    rule: str
    words: str
    tier: Tier
    noticed_at: dt.datetime


class _Plain(TypedDict):
    """What everybody who looks may see: that somebody must look, and by when."""

    id: uuid.UUID
    urgency: str
    state: str
    school: str | None
    case_id: uuid.UUID | None
    opened_at: dt.datetime
    raised_at: dt.datetime
    answer_by: dt.datetime
    see_by: dt.datetime
    is_late: bool
    owner_id: uuid.UUID | None
    closed_at: dt.datetime | None


class _Told(TypedDict):
    """What is for those who care for the student."""

    tier: Tier | None
    has_self_harm: bool | None
    source: str | None
    student_id: uuid.UUID | None
    student_name: str | None
    round_id: uuid.UUID | None
    upload_id: uuid.UUID | None
    place: str | None
    proposed_by: uuid.UUID | None
    reasons: list[ReasonView] | None


class AlertView(_Plain, _Told):
    """An alert. What is null is not for this reader, or not there: an upload concern has no student."""


class TriageView(View):
    outcome: str
    contact: str
    is_student_seen: bool
    tier: Tier
    words: str | None
    proposed_by: uuid.UUID
    proposed_at: dt.datetime
    confirmed_by: uuid.UUID | None
    confirmed_at: dt.datetime | None


class AnswerView(View):
    by: uuid.UUID
    at: dt.datetime


class AlertStoryView(AlertView):
    acknowledgements: list[AnswerView]
    concerns: list[str] | None
    triages: list[TriageView] | None
    same_child: list[SameChildView] | None


class QueueView(View):
    """`banner` says that the model beside the rules is silent; null while it speaks, or where there is none."""

    alerts: list[AlertView]
    banner: str | None


class ConcernView(View):
    """That it was taken down, and where it stands for those who may read it."""

    location: str


@door.get("", roles=LOOKING, is_brief=True)
def queue(
    request: Request,
    session: SessionDep,
    by: ActorDep,
    page: PageDep,
    tier: Annotated[list[RaisedTier] | None, Query()] = None,
    status: Annotated[list[State] | None, Query()] = None,
    school: Sender | None = None,
    due_before: Moment | None = None,
) -> QueueView:
    """The open alerts that wait for a decision: the most serious first, then by their time."""
    after = page.after(small, moment, uuid.UUID)
    silent = registry.silent(session)
    rows = triage.queue(
        session,
        tiers=None if tier is None else [TIERS.index(each) for each in tier],
        states=status,
        school_id=None if school is None else school_id(session, school),
        due_before=due_before,
        after=None if after is None else Cursor(*after),
        limit=page.limit + 1,
    )
    kept = page.cut(rows, lambda row: (row.tier, row.answer_by.isoformat(), row.id))
    audit.record(session, by, "queue.read", "alert", "many", count=len(kept))
    locale = request.app.state.settings.locale
    shown = _shown(session, kept, by, db.now(session), locale)
    banner = next((SILENT[locale].format(**found) for found in silent.rows()), None)
    return QueueView.model_construct(alerts=shown, banner=banner)  # of rows that are typed: no need to check each


@door.post("", roles=triage.CONCERNED, status=201, repeats="location")
def raise_concern(body: ConcernBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> ConcernView:
    """What somebody observed becomes a reason of the student's alert."""
    made = triage.raise_concern(
        session,
        body.student_id,
        TIERS.index(body.tier),
        body.facts,
        is_self_harm=body.is_self_harm,
        by=by,
        now=now,
    )
    located(response, f"/v1/alerts/{made}")
    return ConcernView(location=f"/v1/alerts/{made}")


@door.get("/{alert_id}", roles=ANSWERING)
def show(alert_id: Id, request: Request, session: SessionDep, by: ActorDep, now: NowDep) -> AlertStoryView:
    """One alert, with what was said and done about it; the reading is kept account of."""
    shown = _story(session, alert_id, by, now, request.app.state.settings.locale)
    student_id = shown["student_id"]
    why = None if student_id is None else knowing.ground(session, student_id, by=by, now=now)
    audit.record(session, by, "alert.read", "alert", alert_id, because=why or "role")
    return shown


@door.post("/{alert_id}/acknowledgement", roles=ANSWERING, is_brief=True)
def acknowledge(
    alert_id: Id, request: Request, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> AlertStoryView:
    """ "I am looking": exactly one person takes it; whoever comes later is told who."""
    triage.acknowledge(session, alert_id, by=by, now=now)
    located(response, f"/v1/alerts/{alert_id}")
    return _story(session, alert_id, by, now, request.app.state.settings.locale)


@door.post("/{alert_id}/triage", roles=CARING)
def decide(
    alert_id: Id,
    body: TriageBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> AlertStoryView:
    """What came of looking: a case, or an end without one (of orange and red by a second person's word)."""
    triage.triage(
        session,
        alert_id,
        body.outcome,
        contact=body.contact,
        is_student_seen=body.is_student_seen,
        words=body.words,
        tier=None if body.tier is None else TIERS.index(body.tier),
        by=by,
        now=now,
    )
    located(response, f"/v1/alerts/{alert_id}")
    return _story(session, alert_id, by, now, request.app.state.settings.locale)


@door.post("/{alert_id}/triage/confirmation", roles=triage.CONFIRMING)
def confirm(
    alert_id: Id, request: Request, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> AlertStoryView:
    """The second person's word that an alert ends without a case."""
    triage.confirm_triage(session, alert_id, by=by, now=now)
    located(response, f"/v1/alerts/{alert_id}")
    return _story(session, alert_id, by, now, request.app.state.settings.locale)


@door.post("/{alert_id}/student", roles=CARING)
def identify(
    alert_id: Id,
    body: StudentBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> AlertStoryView:
    """Says whose answers an upload concern is about; its reasons go into that student's own alert."""
    triage.identify(session, alert_id, body.student_id, by=by, now=now)
    located(response, f"/v1/alerts/{alert_id}")
    return _story(session, alert_id, by, now, request.app.state.settings.locale)


@door.post("/{alert_id}/misplacement", roles=CARING)
def misplace(
    alert_id: Id,
    body: MisplacedBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> AlertStoryView:
    """It is about another student, whose alert rings at once; this one ends on a second person's word."""
    triage.misplace(session, alert_id, body.student_id, body.words, by=by, now=now)
    located(response, f"/v1/alerts/{alert_id}")
    return _story(session, alert_id, by, now, request.app.state.settings.locale)


@door.post("/{alert_id}/recusal", roles=CARING | {"principal"})
def recuse(
    alert_id: Id,
    body: RecusalBody,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    response: Response,
) -> AlertStoryView:
    """Keeps somebody out of what concerns this student: themselves, or said by the lead or the principal."""
    found = triage.alert(session, alert_id).row
    if found.student_id is None:
        raise NotFound("There is no such alert.")
    recusals.recuse(session, found.student_id, body.person_id, body.reason, by=by, now=now)
    located(response, f"/v1/alerts/{alert_id}")
    return _story(session, alert_id, by, now, request.app.state.settings.locale)


# -- what is shown to whom ------------------------------------------------------------------------------


def _story(session: Session, alert_id: uuid.UUID, by: access.Actor, now: dt.datetime, locale: str) -> AlertStoryView:
    found = triage.alert(session, alert_id)
    row = found.row
    if not (by.has(*LOOKING, school_id=row.school_id) or row.tier == 3 or row.is_late(now)):
        raise NotFound("There is no such alert.")
    (shown,) = _shown(session, [row], by, now, locale)
    if row.case_id is None and row.state == "triaged" and row.closed_at is None:
        # it joined the case of the same child's other row
        shown["case_id"] = next((each.case_id for each in reversed(found.triages) if each.case_id), None)
    cares = _cares(by, row.school_id)
    reads = cares and _reads_words(session, row, by, now)
    return {
        **shown,
        "acknowledgements": [AnswerView(by=each.by, at=each.at) for each in found.acknowledgements],
        "concerns": list(found.concerns) if reads else None,
        "triages": _triages(session, found, reads=reads) if cares else None,
        "same_child": same_child(session, row.student_id) if cares and row.student_id is not None else None,
    }


def _reads_words(session: Session, row: QueueRow, by: access.Actor, now: dt.datetime) -> bool:
    """What nobody has answered yet, or waits for a second person, hides nothing from whoever could act on it."""
    if row.student_id is None or row.state == "new" or row.proposed_by is not None:
        return True
    return knowing.ground(session, row.student_id, by=by, now=now) is not None


def _triages(session: Session, found: AlertStory, *, reads: bool) -> list[TriageView]:
    return [
        TriageView(
            outcome=each.outcome,
            contact=each.contact,
            is_student_seen=each.is_student_seen,
            tier=tier_name(each.tier),
            words=triage.note_of(session, each) if reads else None,
            proposed_by=each.proposed_by,
            proposed_at=each.proposed_at,
            confirmed_by=each.confirmed_by,
            confirmed_at=each.confirmed_at,
        )
        for each in found.triages
    ]


def _cares(by: access.Actor, school_id: uuid.UUID | None) -> bool:
    if school_id is None:  # of no one school: for those who care in the whole district
        return by.schools_as(*CARING) is None
    return by.has(*CARING, school_id=school_id)


def _shown(
    session: Session, rows: Sequence[QueueRow], by: access.Actor, now: dt.datetime, locale: str
) -> list[AlertView]:
    cares = {school_id: _cares(by, school_id) for school_id in {row.school_id for row in rows}}
    cared_for = [cares[row.school_id] for row in rows]
    named = [row.student_id for row, is_told in zip(rows, cared_for, strict=True) if is_told and row.student_id]
    names = students.named(session, named, by=by)
    say = _Speaker(session, locale)
    return [
        {**_plain(row, now), **(_told(row, names, say) if is_told else _NOT_TOLD)}
        for row, is_told in zip(rows, cared_for, strict=True)
    ]


def _plain(row: QueueRow, now: dt.datetime) -> _Plain:
    return {
        "id": row.id,
        "urgency": delivery.URGENCIES[row.tier],
        "state": row.state,
        "school": row.school,
        "case_id": row.case_id,
        "opened_at": row.opened_at,
        "raised_at": row.raised_at,
        "answer_by": row.answer_by,
        "see_by": row.see_by,
        "is_late": row.is_late(now),
        "owner_id": row.owner_id,
        "closed_at": row.closed_at,
    }


def _told(row: QueueRow, names: Mapping[uuid.UUID, str], say: "_Speaker") -> _Told:
    words = say.words(row.round_id)
    return {
        "tier": TIERS[row.tier],
        "has_self_harm": row.has_self_harm,
        "source": row.source,
        "student_id": row.student_id,
        "student_name": None if row.student_id is None else names.get(row.student_id),
        "round_id": row.round_id,
        "upload_id": row.upload_id,
        "place": row.place,
        "proposed_by": row.proposed_by,
        "reasons": [
            {"rule": rule, "words": words.get(rule, rule), "tier": TIERS[tier], "noticed_at": noticed_at}
            for rule, _, tier, noticed_at in row.reasons
        ],
    }


_NOT_TOLD: _Told = {
    "tier": None,
    "has_self_harm": None,
    "source": None,
    "student_id": None,
    "student_name": None,
    "round_id": None,
    "upload_id": None,
    "place": None,
    "proposed_by": None,
    "reasons": None,
}


_SPOKEN = {
    "concern": {"en": "Somebody is concerned.", "zh_CN": "有人表示担忧。"},
    "concern_self_harm": {"en": "Somebody is concerned about self-harm.", "zh_CN": "有人担忧学生自伤。"},
    "safety_check_imminent": {"en": "A talk found a danger that is near.", "zh_CN": "面谈发现迫近的危险。"},
    "rescreen_overdue": {"en": "The questions were to be asked again, and were not.", "zh_CN": "应复测而尚未复测。"},
    "raised_at_triage": {"en": "Raised by the one who looked.", "zh_CN": "查看者提高了等级。"},
}


class _Speaker:
    """Says rules in words; each of a page's rounds is looked up once."""

    def __init__(self, session: Session, locale: str) -> None:
        self.session, self.locale = session, locale
        self._words: dict[uuid.UUID | None, Mapping[str, str]] = {}

    def words(self, round_id: uuid.UUID | None) -> Mapping[str, str]:
        """The rules that may stand in an alert of this round, or of none, in words."""
        found = self._words.get(round_id)
        if found is None:
            found = self._words[round_id] = self._of(round_id)
        return found

    def _of(self, round_id: uuid.UUID | None) -> Mapping[str, str]:
        if round_id is None:
            return _spoken(self.locale)
        return _titles(rounds.rules_of(self.session, round_id).policy, self.locale)


@lru_cache(maxsize=256)
def _titles(frozen: policy.Policy, locale: str) -> Mapping[str, str]:
    titles = {each.id: each.title.get(locale, each.title["en"]) for each in (*frozen.all_rules, *policy.MODEL_RULES)}
    return titles | _spoken(locale)


def _spoken(locale: str) -> dict[str, str]:
    return {rule: words[locale] for rule, words in _SPOKEN.items()}
