"""The worker's rounds: everything that is due, once, by however many workers; a failing job stops no other."""

import datetime as dt
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from alerts import follow_ups, timetable
from alerts.timetable import Job
from screening import staff
from screening.db import Database
from screening.settings import Settings
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, in_case, made_up_settings, race, ring
from tests.cast import Cast, assemble
from tests.factories import make_round, make_student

DAY = 24 * HOUR
LATER = MONDAY + 3 * DAY

EFFECTS = {
    "escalations": "select subject_id::text, rung::text from escalations",
    "deliveries": "select subject_id::text, occasion, recipient_id::text, state, attempts::text from deliveries",
    "alerts": "select id::text, state, tier::text from alerts",
    "follow_ups": "select id::text, state from follow_ups",
    "openings": "select round_id::text, school_id::text, state from openings",
    "assignments": "select round_id::text, student_id::text, informant from assignments",
    "account": "select action, subject_id, count(*)::text from audit_entries group by action, subject_id",
}


@pytest.fixture
def home(fresh_database: Database) -> Cast:
    """The people we know, alone in a database: the timetable looks at every district."""
    return assemble(fresh_database)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made_up_settings(tmp_path)


@pytest.fixture
def busy(home: Cast) -> Iterator[Cast]:
    """A district where every kind of work is due three days after Monday."""
    with home.database.unit(home.scope) as session:
        for _ in range(10):
            ring(session, make_student(session, home.school_a.id), RED)
        for n in range(3):
            case = in_case(session, make_student(session, home.school_a.id), ORANGE, home.an)
            due_at = MONDAY + (n + 1) * DAY
            follow_ups.plan(session, case.id, "phone", due_at=due_at, by=home.an, now=MONDAY)
        make_round(session, opens_at=LATER - DAY, closes_at=LATER + DAY, is_open=False)
        make_round(session, opens_at=MONDAY - DAY, closes_at=LATER - DAY, is_open=False)
    yield home


def test_a_rung_is_climbed_and_a_red_is_sent_within_the_minute() -> None:
    rhythm = {job.name: job.every for job in timetable.JOBS}
    assert len(rhythm) == len(timetable.JOBS)
    assert rhythm["escalation"] + rhythm["deliveries"] < dt.timedelta(minutes=1)
    assert rhythm["deliveries"] < dt.timedelta(seconds=5)
    assert rhythm["weighing"] <= dt.timedelta(minutes=1)


def test_every_job_beats_its_heart(home: Cast, settings: Settings) -> None:
    assert timetable.run_due(home.database, MONDAY, settings) == {}
    assert hearts(home) == {job.name: (MONDAY, None) for job in timetable.JOBS}
    timetable.run_due(home.database, MONDAY + HOUR, settings, only={"escalation"})
    beaten = {name for name, (at, _) in hearts(home).items() if at == MONDAY + HOUR}
    assert beaten == {"escalation"}


def test_all_that_is_due_is_done(busy: Cast, settings: Settings) -> None:
    timetable.run_due(busy.database, LATER, settings)
    done = effects(busy)
    assert len(done["escalations"]) == 10 * 4 + 2
    assert sorted(state for _, state in done["follow_ups"]) == ["due", "overdue", "overdue"]
    assert {state for *_, state in done["openings"]} == {"open", "closed"}
    assert {state for *_, state, _ in done["deliveries"]} == {"sent"}


def test_doing_it_twice_changes_nothing(busy: Cast, settings: Settings) -> None:
    timetable.run_due(busy.database, LATER, settings)
    once = effects(busy)
    timetable.run_due(busy.database, LATER, settings)
    assert effects(busy) == once


def test_two_workers_at_once_do_every_effect_once(
    busy: Cast, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    came = race(*[lambda: timetable.run_due(busy.database, LATER, settings)] * 2)
    assert came == [{}, {}]
    timetable.run_due(busy.database, LATER, settings)  # what one left because the other held it
    done = effects(busy)
    assert len(done["escalations"]) == 10 * 4 + 2
    assert {attempts for *_, attempts in done["deliveries"]} == {"1"}
    assert all(count == "1" for action, _, count in done["account"] if action in ONCE_EACH)
    sent = [line.split()[1] for line in capsys.readouterr().err.splitlines() if line.startswith("delivery ")]
    assert len(sent) == len(set(sent)) == len(done["deliveries"])


ONCE_EACH = ("follow_up.overdue", "round.opened", "round.closed", "alert.raised")


def test_a_failing_job_is_named_and_stops_no_other(
    home: Cast, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> list[str]:
        raise LookupError("王小明 scored twenty-seven")

    monkeypatch.setattr(timetable, "JOBS", (Job("failing", HOUR, fail), *timetable.JOBS))
    with caplog.at_level(logging.ERROR):
        problems = timetable.run_due(home.database, MONDAY, settings)
    assert list(problems) == ["failing"]
    assert problems["failing"].startswith(f"{home.district.code}: failed LookupError at test_timetable.py:")
    beaten = hearts(home)
    assert beaten["failing"] == (MONDAY, problems["failing"])
    assert all(beaten[job.name] == (MONDAY, None) for job in timetable.JOBS if job.name != "failing")
    for canary in ("王小明", "twenty-seven"):
        assert canary not in caplog.text + problems["failing"]


def test_a_failing_district_stops_no_other(home: Cast, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    other = assemble(home.database)
    with other.database.unit(other.scope) as session:
        ring(session, other.students.granted_13, RED)
    escalate = timetable.escalate

    def fail_at_home(database: Database, district_id: uuid.UUID, now: dt.datetime, given: Settings) -> object:
        if district_id == home.district.id:
            raise LookupError
        return escalate(database, district_id, now, given)

    monkeypatch.setattr(timetable, "JOBS", (Job("escalation", HOUR, fail_at_home),))  # type: ignore[arg-type]
    problems = timetable.run_due(home.database, LATER, settings)
    assert home.district.code in problems["escalation"]
    assert len(effects(other)["escalations"]) == 4


def test_a_problem_that_is_mended_is_forgotten(home: Cast, settings: Settings) -> None:
    with home.database.unit(home.scope) as session:
        ring(session, home.students.in_school_c, RED)
        assert home.duty_officer.staff_id is not None
        staff.revoke(session, home.duty_officer.staff_id, "duty_officer", by=home.system)
    problems = timetable.run_due(home.database, MONDAY, settings)
    assert problems == {"escalation": f"{home.district.code}: rota_empty C"}
    assert hearts(home)["escalation"] == (MONDAY, problems["escalation"])
    with home.database.unit(home.scope) as session:
        staff.grant(session, home.duty_officer.staff_id, "duty_officer", by=home.system)
    assert timetable.run_due(home.database, MONDAY + HOUR, settings) == {}
    assert hearts(home)["escalation"] == (MONDAY + HOUR, None)


def effects(cast: Cast) -> dict[str, set[tuple[str, ...]]]:
    with cast.database.unit(cast.scope) as session:
        return {name: {tuple(row) for row in session.execute(text(query))} for name, query in EFFECTS.items()}


def hearts(cast: Cast) -> dict[str, tuple[dt.datetime, str | None]]:
    with cast.database.unit() as session:
        rows = session.execute(text("select name, beat_at, problem from heartbeats"))
        return {row.name: (row.beat_at, row.problem) for row in rows}
