"""Planted beside found: what was put into the made-up district, what came out of it, and whether the loop closed."""

import dataclasses
import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import outcomes
from api.demo.care import END, FORGOTTEN_UNTIL, HOUR
from api.demo.stage import AUTUMN, HISTORY, PARENTS, Stage
from api.demo.town import Town, Truth, truth
from screening import access, coverage, identity, replay, rounds

DEFINITIONS = {
    "at_risk": "students planted as in need (made-up distress above 1.6 standard deviations) who answered with consent,"
    " at least one of their forms kept; those who never answered are counted apart",
    "sensitivity": "of at_risk, the share with an alert that came from answers, not from a person's concern",
    "precision": "of students with an alert from answers, the share planted as in need, answered or not",
    "precision_looked_at": "the same of those whose alert somebody has triaged",
    "reds": "students, or rows that fit no student, with the highest answer to PHQ-9 item 9, in any row or page sent",
    "critical": "the same with any answer to it but the lowest",
    "closed_loop_share_of_reds": "of the reds found, those whose alert ended after a look: with a case that was closed"
    " by two persons, or not confirmed by two persons",
    "valid_coverage": "students with a form complete enough to score, of the eligible (enrolled and not exempt)",
    "hours_to_first_contact": "median over alerts whose student was seen, in the made-up time of the demo",
}
LADDER_CLIMBED = FORGOTTEN_UNTIL + HOUR
RUNGS = 4
"""The ladder above the counselor: deputy, lead, principal, duty officer."""


@dataclass(frozen=True)
class Figures:
    """Everything that the demo can tell; `checks` are what must hold for the loop to be closed."""

    planted: Mapping[str, Any]
    found: Mapping[str, Any]
    checks: Mapping[str, bool]

    @property
    def is_closed(self) -> bool:
        return all(self.checks.values())

    def as_json(self) -> dict[str, Any]:
        return {"loop_closed": self.is_closed, **dataclasses.asdict(self), "definitions": DEFINITIONS}


def take(stage: Stage, town: Town) -> Figures:
    """Compares the truth of the town with what stands in the database."""
    planted = truth(town)
    with stage.database.unit(stage.scope) as session:
        found = (
            _alerted(session, planted, town, stage.started_at + END)
            | _loop(session, stage.started_at + END)
            | _coverage(session, stage)
            | _nothing_twice(session, stage)
        )
        replayed = replay.replay(session)
    found |= {"results_replayed": replayed.replayed, "replay_differences": len(replayed.differences)}
    return Figures(_as_planted(planted, town), found, _checks(planted, found))


def _as_planted(planted: Truth, town: Town) -> dict[str, Any]:
    manners = [pupil.manner for pupil in town.pupils]
    return {
        "students": len(town.pupils),
        "reds": len(planted.reds),
        "critical": len(planted.critical),
        "historical_reds": len(planted.past_reds),
        "at_risk": len(planted.at_risk),
        "at_risk_unreached": planted.at_risk_unreached,
        "enrolled": planted.enrolled,
        "eligible": planted.eligible,
        "consented": planted.consented,
        "declined": planted.declined,
        "submitted": planted.submitted,
        "covered": planted.covered,
        "valid_coverage": _share(planted.covered, planted.eligible),
        "late_joiners": sum(pupil.is_late for pupil in town.pupils),
        "movers": sum(pupil.moved_to is not None for pupil in town.pupils),
        "in_special_groups": sum(bool(pupil.groups) for pupil in town.pupils),
        "taking_part": {manner: manners.count(manner) for manner in sorted(set(manners))},
        "escalations": RUNGS + 1,
    }


def _checks(planted: Truth, found: Mapping[str, Any]) -> dict[str, bool]:
    return {
        "every_red_alerted": found["reds"] == len(planted.reds),
        "every_critical_answer_alerted": found["critical"] == len(planted.critical),
        "every_red_closed": found["reds"] > 0 and found["closed_loop_share_of_reds"] == 1,
        "every_result_weighed": found["unweighed"] == 0,
        "historical_reds_listed": found["historical_reds"] == len(planted.past_reds),
        "nothing_twice": found["duplicates"] == 0,
        "coverage_as_planted": all(
            found[name] == getattr(planted, name)
            for name in ("enrolled", "eligible", "consented", "declined", "submitted", "covered")
        ),
        "every_file_answered": found["files_waiting"] == 0 and found["files_refused"] == 0,
        "each_rung_once": found["escalations"] == RUNGS + 1,
        "replay_without_differences": found["replay_differences"] == 0,
    }


# -- alerts -------------------------------------------------------------------------------------------

# An upload concern whose student was found lives on in the student's alert, so it is not counted a second time.
_ALERTS = text(
    "select a.id, a.student_id,"
    " coalesce(cast(a.student_id as text), a.place || encode(a.file_digest, 'hex')) as subject,"
    " a.closed_at <= :at as is_closed, a.state = 'triaged' as is_looked_at,"
    " bool_or(r.rule = 'phq9_self_harm_daily') as is_red,"
    " bool_or(r.rule in ('phq9_self_harm_daily', 'phq9_self_harm')) as is_critical"
    " from alerts a join alert_reasons r on r.district_id = a.district_id and r.alert_id = a.id"
    " where a.district_id = :district and r.source not like 'concern/%'"
    " and not (a.student_id is null and exists (select from triages t where t.district_id = a.district_id"
    "  and t.alert_id = a.id and t.outcome = 'merged'))"
    " group by a.district_id, a.id"
)


def _alerted(session: Session, planted: Truth, town: Town, at: dt.datetime) -> dict[str, Any]:
    rows = session.execute(_ALERTS, {"district": access.scope_of(session).district_id, "at": at}).all()
    people = identity.people(session, [row.student_id for row in rows if row.student_id])
    in_need = {pupil.number for pupil in town.pupils if pupil.is_at_risk}
    known = {people[row.student_id].number: row.is_looked_at for row in rows if row.student_id}
    looked_at = {number for number, is_looked_at in known.items() if is_looked_at}
    reds = [row for row in rows if row.is_red]
    return {
        "alerts": len(rows),
        "reds": len({row.subject for row in reds}),
        "critical": len({row.subject for row in rows if row.is_critical}),
        "at_risk_alerted": len(planted.at_risk & known.keys()),
        "sensitivity": _share(len(planted.at_risk & known.keys()), len(planted.at_risk)),
        "precision": _share(len(in_need & known.keys()), len(known)),
        "precision_looked_at": _share(len(in_need & looked_at), len(looked_at)),
        "closed_loop_share_of_reds": _share(sum(bool(row.is_closed) for row in reds), len(reds)),
    }


def _loop(session: Session, at: dt.datetime) -> dict[str, Any]:
    funnel = outcomes.funnel(session, at=at)
    answered = session.execute(
        text("select count(distinct alert_id) from acknowledgements where district_id = :district"),
        {"district": access.scope_of(session).district_id},
    ).scalar_one()
    hours = funnel.hours_to_contact
    return {
        "raised_yellow": funnel.raised_yellow,
        "raised_orange": funnel.raised_orange,
        "raised_red": funnel.raised_red,
        "acknowledged": answered,
        "acknowledged_in_time": funnel.answered_in_time,
        "seen": funnel.seen,
        "seen_in_time": funnel.seen_in_time,
        "hours_to_first_contact": None if hours is None else round(hours, 2),
        "cases_opened": funnel.cases_opened,
        "cases_closed": funnel.cases_closed,
        "follow_ups_done": funnel.follow_ups_done,
        "follow_ups_on_time": funnel.follow_ups_on_time,
        "loops_closed": funnel.loops_closed,
        "closed_loop_share": _share(funnel.loops_closed, funnel.raised),
    }


# -- coverage -----------------------------------------------------------------------------------------


def _coverage(session: Session, stage: Stage) -> dict[str, Any]:
    parts = [coverage.funnel(session, stage.rounds[name])[0].figures for name in (AUTUMN, PARENTS)]
    counted = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("enrolled", "eligible", "consented", "declined", "submitted", "covered", "suspect", "invalid")
    }
    return counted | {"valid_coverage": _share(counted["covered"], counted["eligible"])}


# -- nothing lost, nothing twice ----------------------------------------------------------------------

_NOTHING_TWICE = text(
    "select"
    " (select count(*) from (select 1 from administrations where district_id = :district"
    "   group by round_id, student_id, informant, instrument having count(*) > 1) d)"
    " + (select count(*) from (select 1 from alerts where district_id = :district and source in ('result',"
    "   'safety_answer') group by student_id having count(*) > 1) d)"
    " + (select count(*) from (select 1 from alerts where district_id = :district and student_id is null"
    "   group by file_digest, place having count(*) > 1) d) as duplicates,"
    " (select count(*) from results r where r.district_id = :district and not exists (select from weighings w"
    "   where w.district_id = r.district_id and w.round_id = r.round_id and w.student_id = r.student_id"
    "   and w.revision = r.revision)) as unweighed,"
    " (select count(*) from uploads where district_id = :district and state = 'received') as files_waiting,"
    " (select count(*) from uploads where district_id = :district and state = 'refused') as files_refused,"
    " (select count(*) from escalations where district_id = :district and at <= :until) as escalations"
)


def _nothing_twice(session: Session, stage: Stage) -> dict[str, Any]:
    district_id: uuid.UUID = access.scope_of(session).district_id
    counted = session.execute(
        _NOTHING_TWICE, {"district": district_id, "until": stage.started_at + LADDER_CLIMBED}
    ).one()
    by = access.system(district_id)
    reds = rounds.reds_of_historical(session, stage.rounds[HISTORY], by=by)
    return {**counted._mapping, "historical_reds": len(reds)}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
