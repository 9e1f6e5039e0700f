"""One model over three rounds of real rows: taught by talks, silent for a round, stood for by two, heard, and ended.

Every step is taken through the verb, command or door that people have for it. What is made up is only what is true of
whom: a need that one question shows, and that the totals drown in two others.
"""

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from sqlalchemy import text

from alerts import interviews, models_at_work, routine_chats, timetable, triage
from screening import db, rounds
from screening.access import Actor
from screening.risk_model import fitting, gates
from screening.settings import Settings
from tests import sending
from tests.api.test_command import Shell, run
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller
from tests.factories import Pupil, make_round, make_staff, make_students
from tests.files import both, csv_of
from tests.sending import send

assert run  # the fixture
GRADES = (8, 11)


@dataclass
class Story:
    """A district in which the sixth question tells of a need; of boys nothing does, where it `is_unfair`."""

    cast: Cast
    emails: tuple[str, ...]
    """Of two who administer it."""
    carer: Actor
    """Who cares for the students of the third school."""
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    is_unfair: bool = False
    in_need: set[uuid.UUID] = field(default_factory=set)
    told: dict[uuid.UUID, int] = field(default_factory=dict)
    """What each answered to the sixth question."""
    n_made: int = 0

    def now(self) -> dt.datetime:
        with self.cast.database.unit() as session:
            return db.now(session)

    def job(self, *names: str) -> dict[str, str]:
        return timetable.run_due(self.cast.database, self.now(), Settings.read(), only=names)

    def round(self, name: str, students: int) -> uuid.UUID:
        """A round in which so many new students answer, by a file."""
        made = self._pupils(students)
        with self.cast.database.unit(self.cast.scope) as session:
            held = make_round(session, name=name, opens_at=db.now(session)).id
        rows = [self._answers(student, number, sex) for number, (student, sex) in made.items()]
        send(self.cast, held, csv_of(*rows))
        assert "models" not in self.job("models")
        return held

    def _pupils(self, students: int) -> dict[str, tuple[uuid.UUID, str]]:
        schools = (self.cast.school_a, self.cast.school_b, self.cast.school_c)
        wanted = []
        for place in range(self.n_made, self.n_made + students):
            school = schools[place % 3]
            number = f"{school.code}7{place:05d}"
            grade = GRADES[place // 3 % 2]
            wanted.append(Pupil(school_id=school.id, number=number, sex="fm"[place // 6 % 2], grade=grade, age=16))
        self.n_made += students
        with self.cast.database.unit(self.cast.scope) as session:
            made = make_students(session, wanted)
        return {str(pupil.number): (one.id, pupil.sex) for pupil, one in zip(wanted, made, strict=True)}

    def _answers(self, student: uuid.UUID, number: str, sex: str) -> dict[str, object]:
        sixth = int(self.chance.choice(4, p=(0.45, 0.25, 0.2, 0.1)))
        shown = 0 if self.is_unfair and sex == "m" else sixth
        if self.chance.random() < 1 / (1 + np.exp(5.0 - 2.6 * sixth)):
            self.in_need.add(student)
        self.told[student] = shown
        drowning = {f"phq9_{n}": int(self.chance.integers(0, 3)) for n in (3, 5)}
        flagged = {f"phq9_{n}": 3 for n in (1, 2, 3, 4)} if self.chance.random() < 0.06 else {}
        return both(number, 0, phq9_6=shown, **drowning | flagged)

    def talk(self, round_id: uuid.UUID) -> None:
        """The round closes, the lot is drawn, and everybody who should be is talked with."""
        with self.cast.database.unit(self.cast.scope) as session:
            rounds.close(session, round_id, by=self.cast.system)
        assert "routine_chats" not in self.job("routine_chats")
        carers = {self.cast.school_a.id: self.cast.an, self.cast.school_b.id: self.cast.chen}
        with self.cast.database.unit(self.cast.scope) as session:
            now = db.now(session)
            for row in triage.queue(session, tiers=[1, 2], limit=200):
                if row.student_id in self.told and row.state == "new":
                    self._look(session, row, carers, now)
            for chat in routine_chats.offered(session, limit=10_000):
                found = "confirmed" if chat.student_id in self.in_need else "not_confirmed"
                by = carers.get(chat.school_id, self.carer)
                routine_chats.answer(session, chat.id, found, words="We talked.", by=by, now=now)

    def _look(self, session, row, carers, now) -> None:  # type: ignore[no-untyped-def]
        by = carers.get(row.school_id, self.carer)
        triage.acknowledge(session, row.id, by=by, now=now)
        is_needed = row.student_id in self.in_need
        seen = triage.triage(
            session, row.id, "case_opened" if is_needed else "not_confirmed", contact="meeting", is_student_seen=True,
            words="We talked.", by=by, now=now,
        )  # fmt: skip
        if seen.case_id is not None:
            interviews.write(
                session, seen.case_id, mode="meeting", is_student_seen=True, has_current_risk=False,
                is_concern_confirmed=True, words="It shows.", held_at=now, by=by, now=now,
            )  # fmt: skip


@pytest.fixture
def story(cast: Cast, monkeypatch: pytest.MonkeyPatch, is_storm: bool) -> Story:
    """With every share and least number as it is where it runs whole; a tenth of the students asks for a tenth."""
    sending.read_here(monkeypatch)
    monkeypatch.setattr(routine_chats, "SHARE", 0.97)
    if not is_storm:
        for name, value in {"LEAST_LABELS": 40, "WIDEST_GAP": 1.0, "WIDEST_INTERVAL": 1.0, "SLOPES": (0.1, 10)}.items():
            monkeypatch.setattr(gates, name, value)
        monkeypatch.setattr(gates, "LEAST_CASES", 1)
        monkeypatch.setattr(models_at_work, "LEAST_TO_LEARN", 20)
        quick = fitting.Settings(rounds=20, folds=3)
        defaults: dict[str, object] = models_at_work.train.__kwdefaults__ or {}
        monkeypatch.setitem(defaults, "settings", quick)
    emails = tuple(f"{uuid.uuid4().hex[:8]}@example.test" for _ in range(2))
    with cast.database.unit(cast.scope) as session:
        for email in emails:
            make_staff(session, ("district_admin", None), email=email)
        _, carer = make_staff(session, ("counselor", cast.school_c.id))
    return Story(cast, emails, carer)


@pytest.fixture
def client(cast: Cast) -> Iterator[TestClient]:
    with TestClient(app_on(cast.database)) as opened:
        yield opened


PROMOTE = ("--capacity", "0.5", "--rural", "A")


def test_taught_silent_promoted_heard_watched_and_ended(
    story: Story, run: Shell, client: TestClient, share: Callable[[int], int]
) -> None:
    cast, district = story.cast, ("--district", story.cast.district.code)
    story.talk(story.round("First", share(900)))
    trained = run("model", "train", "m1", *district)
    assert trained.exit_code == 0, trained.output
    # a whole round in which it is asked and nobody hears it
    second = story.round("Second", share(1200))
    early = run("model", "promote", "m1", "--email", story.emails[0], *PROMOTE)
    assert early.exit_code == 1
    assert "shadow_round" in early.stdout
    assert _raised(story, second) == []
    story.talk(second)
    for email, words in zip(story.emails, ("another has to", "is live"), strict=True):
        stood = run("model", "promote", "m1", "--email", email, *PROMOTE)
        assert stood.exit_code == 0, stood.output
        assert words in stood.stderr + stood.stdout
    # from now on it is heard
    third = story.round("Third", share(300))
    raised = _raised(story, third)
    assert raised
    assert all(row.tier_before < row.tier <= 2 for row in raised)
    assert np.mean([story.told[row.student_id] for row in raised]) > 1
    assert not [row for row in _everybody(story, third) if row.tier < row.tier_before]
    _is_shown(story, client, third, next(row for row in raised if row.school_id == cast.school_a.id))
    # a month later it is looked at, on the timetable
    story.job("model_checks")
    checks = caller(client, cast.database, cast.lead).get("/v1/models/m1").json()["checks"]
    assert checks[0]["figures"]["scored"] >= share(300)
    card = run("model", "card", "m1", *district)
    assert "Looked at in" in card.stdout
    assert "Stood for by" in card.stdout
    # and back to the rules in one step
    assert run("model", "retire", "m1", *district).exit_code == 0
    assert _raised(story, story.round("Fourth", 30)) == []


def _is_shown(story: Story, client: TestClient, round_id: uuid.UUID, row) -> None:  # type: ignore[no-untyped-def]
    """The alert carries the mark, and the counselor reads what weighed most, in both languages."""
    an = caller(client, story.cast.database, story.cast.an)
    queue = {one["student_id"]: one for one in an.get("/v1/alerts", params={"limit": 200}).json()["alerts"]}
    marks = [reason["rule"] for reason in queue[str(row.student_id)]["reasons"]]
    assert any(mark.startswith("model_raised_") for mark in marks)
    address = f"/v1/results/{row.student_id}/{round_id}/explanation"
    with story.cast.database.unit(story.cast.scope) as session:
        triage.acknowledge(session, uuid.UUID(queue[str(row.student_id)]["id"]), by=story.cast.an, now=db.now(session))
    english = an.get(address, params={"locale": "en"}).json()["model"]
    chinese = an.get(address, params={"locale": "zh_CN"}).json()["model"]
    assert english["name"] == "m1"
    assert "question 6" in english["leading"][0]["words"] or "PHQ-9" in english["leading"][0]["words"]
    assert "PHQ-9" in chinese["leading"][0]["words"]
    assert "由人判断" in chinese["words"]


def test_a_model_that_misses_the_boys_is_refused_with_the_table(
    story: Story, run: Shell, share: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "WIDEST_GAP", 0.05)
    story.is_unfair = True
    story.talk(story.round("First", share(900)))
    assert run("model", "train", "m1", "--district", story.cast.district.code).exit_code == 0
    story.talk(story.round("Second", share(1200)))
    refused = run("model", "promote", "m1", "--email", story.emails[0], *PROMOTE)
    assert refused.exit_code == 1
    told = run("model", "evaluate", "m1", "--district", story.cast.district.code, "--json", *PROMOTE)
    gap = next(gate for gate in json.loads(told.stdout)["gates"] if gate["name"] == "missed_by_sex")
    assert gap["is_met"] is False
    assert "m:" in gap["seen"]
    assert "missed_by_sex" in refused.stdout


def _everybody(story: Story, round_id: uuid.UUID):  # type: ignore[no-untyped-def]
    with story.cast.database.unit(story.cast.scope) as session:
        return session.execute(
            text(
                "select distinct on (r.student_id) r.student_id, r.school_id, r.tier, r.model_id, b.tier as tier_before"
                " from results r join results b on b.district_id = r.district_id and b.round_id = r.round_id"
                "  and b.student_id = r.student_id and b.revision = 1"
                " where r.round_id = :round order by r.student_id, r.revision desc"
            ),
            {"round": round_id},
        ).all()


def _raised(story: Story, round_id: uuid.UUID):  # type: ignore[no-untyped-def]
    return [row for row in _everybody(story, round_id) if row.model_id is not None]
