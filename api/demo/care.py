"""What people then do in the made-up district: they look, talk, promise, come back, and end what has ended.

Each act is the product's own verb at a moment of a made-up time after the alert; nobody waits for a clock on the wall.
The counselors of the made-up district find on talking what is true of a student, whatever the answers said.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import cases, delivery, entries, follow_ups, interviews, triage
from alerts.triage import QueueRow
from api.demo.hands import Crew
from api.demo.stage import AUTUMN, Stage, db_now, ids_by_number
from api.demo.town import SCHOOLS, Pupil, Town
from screening import access, coverage, db, identity, rounds
from screening.db import Database
from screening.settings import Settings

MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
NEGLECT = 125 * MINUTE
"""How long one red is left alone: long enough for every rung, by day and by night, too short for any other alert."""
FORGOTTEN_UNTIL = 3 * HOUR
END = 40 * DAY
"""When all this is over, and the figures are taken."""
ORANGES, YELLOWS = 4, 2
"""How many at each school are looked at here; the others are left to whoever visits the demo."""


@dataclass(frozen=True)
class Ringing:
    """An alert, and of whom it is in truth."""

    row: QueueRow
    pupil: Pupil

    def after(self, passed: dt.timedelta) -> dt.datetime:
        return self.row.opened_at + passed


@dataclass(frozen=True)
class Care:
    """What is done by the people of each school for its own students, begun when the school's answers are in."""

    town: Town
    crew: Crew
    _reds: dict[str, "Future[list[Ringing]]"] = field(default_factory=dict)

    def begin(self, stage: Stage, code: str) -> None:
        """Its reds, but for the one of the whole district that is neglected."""
        here = [pupil for pupil in self.town.pupils if code in (pupil.school, pupil.school_now)]
        self._reds[code] = self.crew.begin(_care_for_reds, stage.database, stage.bare, code, here, self._neglected)

    def end(self, stage: Stage, settings: Settings) -> None:
        """All the rest, of every school and of the district."""
        ringing = {code: begun.result() for code, begun in self._reds.items()}
        looking = [
            self.crew.begin(_look_at_others, stage.database, stage.bare, code, here) for code, here in ringing.items()
        ]
        left = [one for here in ringing.values() for one in here if one.row.tier == 3 and one.pupil == self._neglected]
        if left:
            _neglect(stage, settings, left[0])
        _recount(stage)
        for begun in looking:
            begun.result()
        _concern_of_a_teacher(stage, self.town)
        _release(stage)

    @property
    def _neglected(self) -> Pupil | None:
        order = [school.code for school in SCHOOLS]
        in_danger = [pupil for pupil in self.town.pupils if pupil.is_in_danger]
        return min(in_danger, key=lambda pupil: (order.index(pupil.school_now), pupil.number), default=None)


class Drawer:
    """Where the messages to the made-up staff go: they have no mail, and the console has better things to show."""

    name = "demo"

    def __call__(self, address: str, message: delivery.Message) -> None:
        """Nobody reads it."""


def deliver(database: Database, district_id: uuid.UUID, settings: Settings) -> None:
    """Sends what waits to be sent, as the worker does; may run beside whatever else is done."""
    delivery.deliver_pending(database, district_id, settings, now=db_now(database), send=Drawer())


def _find_whose(stage: Stage, code: str, here: Sequence[Pupil]) -> None:
    """A row that fitted nobody: the counselor knows by name whose number was mistyped."""
    mistyped = [pupil for pupil in here if pupil.school_now == code and pupil.manner == "mistyped"]
    if not mistyped:
        return
    by = stage.who("counselor", code)
    with stage.database.unit(stage.scope_of(code)) as session:
        known = ids_by_number(session, stage.schools[code])
        concerns = [row for row in triage.queue(session, tiers=[3], limit=200) if row.student_id is None]
        for row, pupil in zip(concerns, mistyped, strict=False):
            triage.identify(session, row.id, known[pupil.number], by=by, now=row.opened_at + 10 * MINUTE)


def _ringing(stage: Stage, code: str, by_number: Mapping[str, Pupil]) -> list[Ringing]:
    """The school's alerts about students, as the counselor's queue shows them, in an order that is always the same."""
    with stage.database.unit(stage.scope_of(code)) as session:
        rows = [row for tier in (3, 2, 1) for row in _queue(session, tier) if row.student_id is not None]
        people = identity.people(session, [row.student_id for row in rows if row.student_id])
    found = [Ringing(row, by_number[people[row.student_id].number]) for row in rows if row.student_id]
    return sorted(found, key=lambda one: (-one.row.tier, one.pupil.number))


def _queue(session: Session, tier: int) -> Iterable[QueueRow]:
    after = None
    while page := triage.queue(session, tiers=[tier], states=["new"], after=after, limit=200):
        yield from page
        after = page[-1].cursor


# -- reds ---------------------------------------------------------------------------------------------


def _care_for_reds(
    database: Database, bare: Stage, code: str, here: Sequence[Pupil], neglected: Pupil | None
) -> list[Ringing]:
    """The school's alerts, each of whose reds but one has ended."""
    stage = replace(bare, database=database)
    _find_whose(stage, code, here)
    ringing = _ringing(stage, code, {pupil.number: pupil for pupil in here})
    _see_reds(stage, code, [one for one in ringing if one.row.tier == 3 and one.pupil != neglected])
    return ringing


def _see_reds(stage: Stage, code: str, reds: Sequence[Ringing]) -> None:
    by, lead = stage.who("counselor", code), stage.who("lead", code)
    with stage.database.unit(stage.scope_of(code)) as session:
        for one in reds:
            triage.acknowledge(session, one.row.id, by=by, now=one.after(10 * MINUTE))
            _see_red(session, one, by, one.after(45 * MINUTE))
    with stage.database.unit(stage.scope_of(code)) as session:
        for one in reds:
            _second_person(session, one, lead)


def _see_red(session: Session, one: Ringing, by: access.Actor, at: dt.datetime) -> None:
    """Seen within the hour: a case with what it takes to end it, or not confirmed, which a second person decides."""
    if not one.pupil.is_at_risk:
        _triaged(session, one, "not_confirmed", "当面交谈，随意作答，未见风险。", by, at)
        return
    case = _case(session, one, by, at, has_current_risk=one.pupil.is_in_danger)
    contact = follow_ups.plan(session, case, "meeting", by=by, now=at, due_at=at + DAY)
    follow_ups.done(session, contact.id, "情绪平稳，家长已接回。", by=by, now=at + 20 * HOUR)
    contact = follow_ups.plan(session, case, "phone", by=by, now=at + 20 * HOUR)
    follow_ups.done(session, contact.id, "电话随访，状态稳定。", by=by, now=at + 3 * DAY)
    _settle(session, case, by, at + 30 * DAY)


def _case(session: Session, one: Ringing, by: access.Actor, at: dt.datetime, *, has_current_risk: bool) -> uuid.UUID:
    case = _triaged(session, one, "case_opened", "当面交谈，需要跟进。", by, at)
    if case is None:
        raise LookupError("a case was opened, but the triage names none")
    interviews.write(
        session, case, mode="meeting", is_student_seen=True, has_current_risk=has_current_risk,
        is_concern_confirmed=one.pupil.is_at_risk, words="安全评估与支持计划。", held_at=at, by=by, now=at,
    )  # fmt: skip
    said: dict[str, str | bool] = {"how": "phone", "is_reached": True, "response": "agrees"}
    entries.fill(session, case, "guardian_contact", said, "当日电话告知家长，家长同意配合。", by=by, now=at)
    return case


def _triaged(
    session: Session, one: Ringing, outcome: str, words: str, by: access.Actor, at: dt.datetime
) -> uuid.UUID | None:
    """Looked at in person; the case that it led to."""
    made = triage.triage(
        session, one.row.id, outcome, contact="meeting", is_student_seen=True, words=words, by=by, now=at
    )
    return made.case_id


def _settle(session: Session, case: uuid.UUID, by: access.Actor, at: dt.datetime) -> None:
    """A last talk that finds no danger, and the proposal to end."""
    interviews.write(
        session, case, mode="meeting", is_student_seen=True, has_current_risk=False, is_concern_confirmed=True,
        words="两次联系均稳定。", held_at=at, by=by, now=at,
    )  # fmt: skip
    cases.propose_closure(session, case, "resolved", "稳定，家长知情，九十天后复查。", by=by, now=at)


def _second_person(session: Session, one: Ringing, by: access.Actor) -> None:
    if not one.pupil.is_at_risk:
        triage.confirm_triage(session, one.row.id, by=by, now=one.after(20 * HOUR))
        return
    for made in triage.alert(session, one.row.id).triages:
        if made.case_id is not None:
            cases.confirm_closure(session, made.case_id, by=by, now=one.after(31 * DAY))


def _neglect(stage: Stage, settings: Settings, one: Ringing) -> None:
    """Nobody answers: the worker climbs the ladder up to the duty officer, and somebody is called out after all.

    The worker's jobs are run for this district alone: a made-up time must not touch another one.
    """
    from alerts import timetable  # with all that the worker does: the making of the district does without until here

    code = one.pupil.school_now
    lead, counselor, duty = stage.who("lead", code), stage.who("counselor", code), stage.who("duty_officer")
    timetable.escalate(stage.database, stage.district_id, one.after(NEGLECT), settings)
    with stage.database.unit(stage.scope) as session:
        triage.acknowledge(session, one.row.id, by=duty, now=one.after(NEGLECT + 2 * MINUTE))
    with stage.database.unit(stage.scope_of(code)) as session:
        at = one.after(NEGLECT + 10 * MINUTE)
        case = _case(session, one, counselor, at, has_current_risk=True)
        promised = follow_ups.plan(session, case, "phone", by=counselor, now=at, due_at=one.after(FORGOTTEN_UNTIL))
    late = one.after(FORGOTTEN_UNTIL + 15 * MINUTE)
    timetable.let_follow_ups_fall_due(stage.database, stage.district_id, late, settings)
    timetable.escalate(stage.database, stage.district_id, late, settings)
    with stage.database.unit(stage.scope_of(code)) as session:
        follow_ups.done(session, promised.id, "补打电话，学生在家，家长陪同。", by=counselor, now=late + 15 * MINUTE)
        _settle(session, case, counselor, one.after(30 * DAY))
    with stage.database.unit(stage.scope_of(code)) as session:
        cases.confirm_closure(session, case, by=lead, now=one.after(31 * DAY))


# -- the others ---------------------------------------------------------------------------------------


def _look_at_others(database: Database, bare: Stage, code: str, here: Sequence[Ringing]) -> None:
    """The first oranges and yellows: a case where the need is real, a talk and an end where it is not."""
    stage = replace(bare, database=database)
    by, lead = stage.who("counselor", code), stage.who("lead", code)
    oranges = [one for one in here if one.row.tier == 2][:ORANGES]
    yellows = [one for one in here if one.row.tier == 1][:YELLOWS]
    with stage.database.unit(stage.scope_of(code)) as session:
        for one in (*oranges, *yellows):
            waited = (6 if one.row.tier == 2 else 30) * HOUR
            triage.acknowledge(session, one.row.id, by=by, now=one.after(waited))
            _see(session, one, by, one.after(waited + 20 * HOUR))
    with stage.database.unit(stage.scope_of(code)) as session:
        for one in oranges:
            if not one.pupil.is_at_risk:
                triage.confirm_triage(session, one.row.id, by=lead, now=one.after(2 * DAY))


def _see(session: Session, one: Ringing, by: access.Actor, at: dt.datetime) -> None:
    if not one.pupil.is_at_risk:
        _triaged(session, one, "not_confirmed" if one.row.tier == 2 else "monitor", "交谈后未见明显困难。", by, at)
        return
    case = _case(session, one, by, at, has_current_risk=False)
    follow_ups.plan(session, case, "meeting", by=by, now=at)


def _concern_of_a_teacher(stage: Stage, town: Town) -> None:
    """Somebody in need whose answers said nothing, and whom a teacher noticed: the questionnaire is not alone."""
    hiding = [pupil for pupil in town.pupils if pupil.manner == "hides" and pupil.grade >= 7]
    if not hiding:
        return
    pupil = max(hiding, key=lambda pupil: pupil.distress)
    by = stage.who("class_teacher", pupil.school_now)
    with stage.database.unit(stage.scope_of(pupil.school_now)) as session:
        student = ids_by_number(session, stage.schools[pupil.school_now])[pupil.number]
        at = rounds.get(session, stage.rounds[AUTUMN]).opens_at + DAY
        triage.raise_concern(session, student, 2, "近两周独来独往，常在课上哭。", by=by, now=at)


def _recount(stage: Stage) -> None:
    with stage.database.unit(stage.scope) as session:
        for round_id in stage.rounds.values():
            coverage.recount(session, round_id, None, db.now(session))


def _release(stage: Stage) -> None:
    """The coverage of the round for the district's statistics: the last of it all, by which it is known to be whole,
    and with which all before it is on the disk."""
    with stage.database.unit(stage.scope) as session:
        session.execute(text("set local synchronous_commit = on"))
        coverage.release(session, stage.rounds[AUTUMN], stage.today, by=stage.who("district_admin"))
