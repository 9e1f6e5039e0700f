"""What people then do in the made-up district: they look, talk, promise, come back, and end what has ended.

Each act is the product's own verb at a moment of a made-up time after the alert; nobody waits for a clock on the wall.
The counselors of the made-up district find on talking what is true of a student, whatever the answers said.
"""

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session

from alerts import cases, delivery, entries, follow_ups, interviews, timetable, triage
from alerts.triage import QueueRow
from api.demo import hands
from api.demo.hands import Hands
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
_G = TypeVar("_G")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Ringing:
    """An alert, and of whom it is in truth."""

    row: QueueRow
    pupil: Pupil

    def after(self, passed: dt.timedelta) -> dt.datetime:
        return self.row.opened_at + passed


def live(stage: Stage, town: Town, settings: Settings, *, beside: Hands) -> None:
    """Everything that people and the worker do, in the order in which it happens; each school has its own people."""
    with _shared(stage, beside) as at_every_school:
        ringing = at_every_school(_found_and_ringing, {school.code: _here(town, school.code) for school in SCHOOLS})
        reds = {code: [one for one in here if one.row.tier == 3] for code, here in ringing.items()}
        neglected = next((one for here in reds.values() for one in here if one.pupil.is_in_danger), None)
        left = {code: [one for one in here if one is not neglected] for code, here in reds.items()}
        at_every_school(_care_for_reds, left)
        if neglected is not None:
            _neglect(stage, settings, neglected)
        at_every_school(_look_at_others, ringing)
    _concern_of_a_teacher(stage, town)
    _count(stage)


def _here(town: Town, code: str) -> list[Pupil]:
    """Who may have an alert at a school: its own, and whoever is on its way from or to another."""
    return [pupil for pupil in town.pupils if code in (pupil.school, pupil.school_now)]


@contextmanager
def _shared(stage: Stage, beside: Hands) -> Iterator["_AtEverySchool"]:
    """The schools one by one, each by whoever is free: we, or the hands beside."""
    free = SimpleQueue[Hands]()
    with hands.in_thread() as own, ThreadPoolExecutor(2) as both:
        for each in (own, beside):
            free.put(each)

        def at_one(act: Callable[[Stage, str, Any], Any], code: str, given: Any) -> Any:
            taken = free.get()
            try:
                return taken.begin(_act, stage.database, stage.bare, act, code, given).result()
            finally:
                free.put(taken)

        def at_every_school(act: Callable[[Stage, str, _G], _R], given: Mapping[str, _G]) -> dict[str, _R]:
            return dict(zip(given, both.map(at_one, repeat(act), given, given.values()), strict=True))

        yield at_every_school


class _AtEverySchool(Protocol):
    def __call__(self, act: Callable[[Stage, str, _G], _R], given: Mapping[str, _G]) -> dict[str, _R]:
        """What the act came to at each school, a function of this module that is given the stage, the school's code
        and what is its own."""


def _act(database: Database, bare: Stage, act: Callable[[Stage, str, _G], _R], code: str, given: _G) -> _R:
    return act(replace(bare, database=database), code, given)


class Drawer:
    """Where the messages to the made-up staff go: they have no mail, and the console has better things to show."""

    name = "demo"

    def __call__(self, address: str, message: delivery.Message) -> None:
        """Nobody reads it."""


def deliver(database: Database, district_id: uuid.UUID, settings: Settings) -> None:
    """Sends what waits to be sent, as the worker does; may run beside whatever else is done."""
    delivery.deliver_pending(database, district_id, settings, now=db_now(database), send=Drawer())


def _found_and_ringing(stage: Stage, code: str, here: Sequence[Pupil]) -> list[Ringing]:
    _find_whose(stage, code, here)
    return _ringing(stage, code, {pupil.number: pupil for pupil in here})


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


def _care_for_reds(stage: Stage, code: str, reds: list[Ringing]) -> None:
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


def _look_at_others(stage: Stage, code: str, here: list[Ringing]) -> None:
    """The first oranges and yellows: a case where the need is real, a talk and an end where it is not."""
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


def _count(stage: Stage) -> None:
    """The coverage of the round, counted anew and released for the district's statistics."""
    by = stage.who("district_admin")
    with stage.database.unit(stage.scope) as session:
        for round_id in stage.rounds.values():
            coverage.recount(session, round_id, None, db.now(session))
        coverage.release(session, stage.rounds[AUTUMN], stage.today, by=by)
