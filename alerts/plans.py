"""The individual plan of a case: goals, actions, an owner, a day to look again, and who may know what. By versions."""

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import cases
from alerts.models import Case, Plan
from screening import access, audit
from screening.errors import Conflict, Problem, Refused

AUDIENCES = ("student", "guardian", "class_teacher", "principal", "school_doctor", "boarding_staff")
"""Who outside the counseling room may be told something; each only what the plan says, and never a score."""
LONGEST_REVIEW = dt.timedelta(days=180)


@dataclass(frozen=True)
class Action:
    """What somebody does for the student, by a day."""

    what: str
    who: str
    by_on: dt.date


@dataclass(frozen=True)
class Knows:
    """What one of AUDIENCES may know: advice that helps, like "check in every Monday"."""

    who: str
    what: str


@dataclass(frozen=True)
class Content:
    """What a plan says."""

    goals: tuple[str, ...]
    actions: tuple[Action, ...]
    knows: tuple[Knows, ...]


def write(
    session: Session,
    case_id: uuid.UUID,
    content: Content,
    *,
    owner: uuid.UUID,
    review_on: dt.date,
    by: access.Actor,
    now: dt.datetime,
    after: int | None = None,
) -> Plan:
    """A further version of the plan; those before stay. `after` names the version that its writer has read.

    Raises Refused with everything that is missing, Conflict when somebody wrote a version in between.
    """
    case = cases.working(session, case_id, by)
    _refuse_incomplete(content, review_on, now.astimezone(session.info["timezone"]).date())
    latest = newest(session, case.id)
    version = 0 if latest is None else latest.version
    if after is not None and after != version:
        raise Conflict(f"Version {version} of this plan was written meanwhile.", code="plan_changed")
    if latest is not None and (latest.owner_id, latest.review_on, read(session, latest)) == (owner, review_on, content):
        return latest
    made = _version(session, case, version + 1, content, owner, review_on, by, now)
    cases.advance(session, case, "plan_active")
    audit.record(session, by, "plan.written", "plan", made.id, case=str(case.id), version=made.version)
    return made


def newest(session: Session, case_id: uuid.UUID) -> Plan | None:
    return session.scalars(
        select(Plan)
        .where(Plan.district_id == access.scope_of(session).district_id, Plan.case_id == case_id)
        .where(access.of_scope(session, Plan.school_id))
        .order_by(Plan.version.desc())
        .limit(1)
    ).one_or_none()


def versions(session: Session, case_id: uuid.UUID) -> Sequence[Plan]:
    """Every version, the first one first."""
    return session.scalars(
        select(Plan)
        .where(Plan.district_id == access.scope_of(session).district_id, Plan.case_id == case_id)
        .where(access.of_scope(session, Plan.school_id))
        .order_by(Plan.version)
    ).all()


def read(session: Session, plan: Plan) -> Content:
    """What a version says, opened from its seal."""
    found = json.loads(cases.unseal(session, plan.case_id, plan.id, plan.sealed) or "{}")
    return Content(
        goals=tuple(found["goals"]),
        actions=tuple(
            Action(each["what"], each["who"], dt.date.fromisoformat(each["by_on"])) for each in found["actions"]
        ),
        knows=tuple(Knows(**each) for each in found["knows"]),
    )


def carry_over(session: Session, case: Case, *, by: access.Actor, now: dt.datetime) -> Plan | None:
    """The plan as it stands, as a version of the school that has the case now; its owner is whoever took it over."""
    latest = newest(session, case.id)
    if latest is None or latest.school_id == case.school_id:
        return latest
    return _version(session, case, latest.version + 1, read(session, latest), by.person, latest.review_on, by, now)


def _version(
    session: Session,
    case: Case,
    version: int,
    content: Content,
    owner: uuid.UUID,
    review_on: dt.date,
    by: access.Actor,
    now: dt.datetime,
) -> Plan:
    plan_id = uuid.uuid4()
    made = Plan(
        district_id=case.district_id,
        id=plan_id,
        case_id=case.id,
        school_id=case.school_id,
        version=version,
        owner_id=owner,
        review_on=review_on,
        sealed=cases.seal(session, case.id, plan_id, json.dumps(asdict(content), default=str, ensure_ascii=False)),
        by=by.person,
        at=now,
    )
    session.add(made)
    session.flush()
    return made


def _refuse_incomplete(content: Content, review_on: dt.date, today: dt.date) -> None:
    problems = []
    if not content.goals:
        problems.append(Problem("goal_missing", "Write at least one goal.", column="goals"))
    if not content.actions:
        problems.append(Problem("action_missing", "Write at least one action.", column="actions"))
    if not today < review_on <= today + LONGEST_REVIEW:
        problems.append(Problem("review_day", "Look at the plan again within half a year.", column="review_on"))
    problems += [
        Problem("unknown_audience", f"Who may know is one of these: {', '.join(AUDIENCES)}.", column="knows")
        for each in content.knows
        if each.who not in AUDIENCES
    ]
    if problems:
        raise Refused("This plan is not complete.", code="plan_incomplete", problems=problems)
