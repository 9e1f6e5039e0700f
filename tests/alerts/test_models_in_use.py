"""A model beside the rules, in a district of real rows: it may raise, and whatever is wrong with it lowers nobody."""

import contextlib
import datetime as dt
import math
import uuid
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import labels, model_checks, models_at_work, raising, routine_chats, timetable, triage, watchdog
from screening import consent, db, replay, rounds
from screening.access import Actor
from screening.errors import Conflict, Refused
from screening.models import RiskModel, Round
from screening.risk_model import features, registry, speaking, storing
from screening.risk_model.fitting import Linear, Model
from screening.settings import Settings
from tests import sending
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller
from tests.factories import make_round, make_staff, make_student
from tests.files import both, csv_of
from tests.sending import send


@given(
    rule_tier=st.integers(0, 3),
    probability=st.floats(allow_nan=True, allow_infinity=True),
    yellow_from=st.floats(0, 1),
    more=st.floats(0, 1),
)
def test_model_monotone_it_never_lowers_and_never_reaches_red(
    rule_tier: int, probability: float, yellow_from: float, more: float
) -> None:
    final = speaking.final_tier(rule_tier, probability, yellow_from=yellow_from, orange_from=yellow_from + more)
    assert final >= rule_tier
    assert final <= max(rule_tier, 2)
    if not math.isfinite(probability):
        assert final == rule_tier


def lowers_or_reddens(tier_of: Any) -> bool:
    """Whether this way to hear a model ever lowers a rule's tier, reaches red by itself, or listens to no number."""
    said = [float("nan"), -math.inf, math.inf, -0.5, 0.0, 0.2, 0.5, 0.9, 1.0, 1.5]
    for rule_tier in range(4):
        for probability in said:
            final = tier_of(rule_tier, probability, yellow_from=0.3, orange_from=0.8)
            is_number = math.isfinite(probability) and 0 <= probability <= 1
            if final < rule_tier or final > max(rule_tier, 2) or (not is_number and final != rule_tier):
                return True
    return False


def _by_model_alone(rule_tier: int, p: float, *, yellow_from: float, orange_from: float) -> int:
    return 2 if p >= orange_from else 1 if p >= yellow_from else 0


def _with_red(rule_tier: int, p: float, *, yellow_from: float, orange_from: float) -> int:
    heard = speaking.final_tier(rule_tier, p, yellow_from=yellow_from, orange_from=orange_from)
    return 3 if p >= (1 + orange_from) / 2 else heard


def _of_any_number(rule_tier: int, p: float, *, yellow_from: float, orange_from: float) -> int:
    return max(rule_tier, _by_model_alone(rule_tier, p, yellow_from=yellow_from, orange_from=orange_from))


@pytest.mark.parametrize("without", [_by_model_alone, _with_red, _of_any_number])
def test_each_control_is_missed_when_it_is_gone(without: Any) -> None:
    assert not lowers_or_reddens(speaking.final_tier)
    assert lowers_or_reddens(without)


# -- in a district ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Town:
    cast: Cast
    round: Round
    model: uuid.UUID
    second: Actor
    """Who may confirm what the district's administrator approved."""

    def run(self) -> list[str]:
        """The worker's job, once."""
        with self.cast.database.unit() as session:
            now = db.now(session)
        return list(timetable.ask_models(self.cast.database, self.cast.district.id, now, Settings.read()))

    def rows(self, query: str) -> list[Any]:
        with self.cast.database.unit(self.cast.scope) as session:
            return list(session.execute(text(query)).all())

    def tiers(self) -> dict[uuid.UUID, tuple[int, tuple[str, ...]]]:
        found = self.rows("select distinct on (student_id) * from results order by student_id, revision desc")
        return {row.student_id: (row.tier, tuple(row.reasons)) for row in found}

    def change(self, **values: Any) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            model = session.get_one(RiskModel, (self.cast.district.id, self.model))
            for name, value in values.items():
                setattr(model, name, value)


def by_hand(rules: rounds.RoundRules, *, weight: float = 1.0) -> Model:
    """A model that listens to PHQ-9's first item alone: 0 is no need at all, 2 and 3 are."""
    known = features.columns(rules)
    weights = np.array([weight if feature.name == "phq9.self.phq9_1" else 0.0 for feature in known])
    linear = Linear(np.zeros(len(known)), np.ones(len(known)), weights, np.zeros((len(known),) * 2), 0.0)
    return Model(tuple(f.name for f in known), tuple(f.direction for f in known), linear, None, slope=4.0, offset=-6.0)


@pytest.fixture
def town(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A round with answers, and a model that two persons made active: yellow from 0.5, orange from 0.99."""
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        held = make_round(session)
        _, second = make_staff(session, ("district_admin", None))
        model = by_hand(rounds.rules_of(session, held.id))
        card = {"rounds": [], "reference_deciles": [0.5], "reference_missing": {}}
        stored = registry.store(session, "m1", model, model, card=card, by=cast.district_admin, now=db.now(session))
    send(
        cast,
        held.id,
        csv_of(both("A001", 0, phq9_1=2), both("A006", 0), both("A007", 0, phq9_1=3), both("A010", 3, phq9_9=3)),
    )
    return Town(cast, held, stored.id, second)


def activate(town: Town) -> None:
    with town.cast.database.unit(town.cast.scope) as session:
        model = registry.get(session, "m1")
        terms = {"gates": {}, "yellow_from": 0.5, "orange_from": 0.99, "now": db.now(session)}
        assert not registry.approve(session, model, by=town.cast.district_admin, **terms)  # type: ignore[arg-type]
        with pytest.raises(Refused, match="Another person"):
            registry.approve(session, model, by=town.cast.district_admin, **terms)  # type: ignore[arg-type]
        assert registry.approve(session, model, by=town.second, **terms)  # type: ignore[arg-type]


def test_in_shadow_it_is_asked_and_nobody_hears_it(town: Town) -> None:
    before = town.tiers()
    assert town.run() == []
    assert town.tiers() == before
    scores = town.rows("select * from risk_scores")
    assert len(scores) == 4
    assert not any(row.is_raised for row in scores)


def test_it_raises_to_yellow_and_orange_with_its_mark_and_an_alert(town: Town) -> None:
    activate(town)
    assert town.run() == []
    students, found = town.cast.students, town.tiers()
    assert found[students.granted_13.id] == (1, ("model_raised_yellow",))
    assert found[students.guardian_grant_16.id] == (2, ("model_raised_orange",))
    assert found[students.own_grant_15.id] == (0, ())
    assert found[students.granted_17.id][0] == 3
    alerts = {row.student_id: row for row in town.rows("select * from alerts")}
    assert alerts[students.guardian_grant_16.id].tier == 2
    assert alerts[students.granted_13.id].tier == 1
    leading = {row.student_id: row.reasons for row in town.rows("select * from risk_scores")}
    assert leading[students.granted_13.id] == ["phq9.self.phq9_1"]


@pytest.mark.parametrize("wrong", [0, 3])
def test_were_it_heard_wrongly_the_database_takes_neither_a_lower_tier_nor_a_red(
    town: Town, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(town)
    before = town.tiers()
    monkeypatch.setattr(speaking, "final_tier", lambda *tiers, **levels: wrong)
    with contextlib.suppress(IndexError):  # for a red the model has no reason to give
        town.run()
    assert town.tiers() == before


def test_twice_is_once_and_everything_replays(town: Town) -> None:
    activate(town)
    town.run()
    results = town.rows("select * from results")
    assert town.run() == []
    assert town.rows("select * from results") == results
    with town.cast.database.unit(town.cast.scope) as session:
        assert replay.replay(session).differences == ()
        assert raising.sweep(session, now=db.now(session)) == 0


BROKEN: dict[str, dict[str, Any]] = {
    "other bytes": {"body": b"PK\x03\x04 nothing"},
    "other libraries": {"libraries": {"scikit-learn": "0.1"}},
    "other features": {"features_version": 99},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_is_not_what_it_was_changes_nothing_and_is_named(
    town: Town, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(town)
    before = town.tiers()
    values = BROKEN[what]
    opened = registry.opened
    monkeypatch.setattr(registry, "opened", lambda session, model: opened(session, _changed(session, model, values)))
    problems = town.run()
    assert len(problems) == 1
    assert problems[0].startswith("active_model_silent m1 model_")
    assert town.tiers() == before
    assert town.rows("select problem from risk_models")[0].problem.startswith("model_")


def _changed(session: Session, model: RiskModel, values: dict[str, Any]) -> RiskModel:
    names = ("district_id", "id", "name", "state", "features_version", "body", "baseline_body", "digest", "libraries")
    return RiskModel(**({name: getattr(model, name) for name in names} | values))


@pytest.mark.parametrize("said", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_model_that_says_no_probability_changes_nothing(
    town: Town, said: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(town)
    before = town.tiers()
    monkeypatch.setattr(Model, "probability", lambda self, x: np.full(len(x), said))
    assert town.run() == ["active_model_silent m1 model_not_a_number"]
    assert town.tiers() == before
    assert town.rows("select * from risk_scores") == []


def test_a_model_that_is_too_slow_changes_nothing_and_the_queue_says_so(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(town)
    before = town.tiers()
    monkeypatch.setattr(speaking, "SLOWEST", dt.timedelta(0))
    assert town.run() == ["active_model_silent m1 model_slow"]
    assert town.tiers() == before
    assert town.rows("select * from risk_scores") == []
    with TestClient(app_on(town.cast.database)) as client:
        an = caller(client, town.cast.database, town.cast.an)
        assert an.get("/v1/alerts").json()["banner"].startswith("The model m1 could not be asked (model_slow)")
        monkeypatch.undo()
        sending.read_here(monkeypatch)
        assert town.run() == []
        assert an.get("/v1/alerts").json()["banner"] is None


def test_whoever_withdrew_is_not_scored(town: Town) -> None:
    activate(town)
    student = town.cast.students.granted_13.id
    with town.cast.database.unit(town.cast.scope) as session:
        now = db.now(session)
        consent.record(
            session, [student], "withdrawn", given_by="guardian", notice_version="1", channel="paper", decided_at=now,
            by=town.cast.system,
        )  # fmt: skip
    town.run()
    assert student not in {row.student_id for row in town.rows("select * from risk_scores")}
    assert town.tiers()[student][0] == 0


def test_whoever_withdrew_is_in_no_training_row(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routine_chats, "SHARE", 0.9999)
    with town.cast.database.unit(town.cast.scope_a) as session:
        now = db.now(session)
        routine_chats.draw(session, town.round.id, now=now, seed=1)
        for chat in routine_chats.offered(session):
            routine_chats.answer(session, chat.id, "not_confirmed", by=town.cast.an, now=now)
    student = str(town.cast.students.granted_13.id)
    assert student in known(town).get_column("student_id").to_list()
    with town.cast.database.unit(town.cast.scope) as session:
        consent.record(
            session, [uuid.UUID(student)], "withdrawn", given_by="guardian", notice_version="1", channel="paper",
            decided_at=db.now(session), by=town.cast.system,
        )  # fmt: skip
    assert student not in known(town).get_column("student_id").to_list()
    # and it is this that keeps the row out
    monkeypatch.setattr(labels, "_with_consent", lambda session, found, at: found.select("round_id", "student_id"))
    assert student in known(town).get_column("student_id").to_list()


def test_one_step_back_to_the_rules(town: Town) -> None:
    activate(town)
    with town.cast.database.unit(town.cast.scope) as session:
        registry.retire(session, registry.get(session, "m1"), by=town.cast.district_admin, now=db.now(session))
    assert town.run() == []
    assert town.rows("select * from risk_scores") == []


# -- the lot, and labels ----------------------------------------------------------------------------------------------


def known(town: Town) -> Any:
    with town.cast.database.unit(town.cast.scope) as session:
        return labels.known(session, at=db.now(session) + dt.timedelta(days=1))


def test_the_lot_is_drawn_once_among_those_below_every_threshold(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routine_chats, "SHARE", 1.0)
    with town.cast.database.unit(town.cast.scope) as session:
        now = db.now(session)
        assert routine_chats.draw(session, town.round.id, now=now, seed=7) == 3
        assert routine_chats.draw(session, town.round.id, now=now, seed=8) == 0
        drawn = {chat.student_id for chat in routine_chats.offered(session)}
    assert town.cast.students.granted_17.id not in drawn
    assert town.rows("select * from routine_draws")[0].seed == 7


def test_a_need_that_shows_in_a_chat_becomes_a_concern_and_a_label(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routine_chats, "SHARE", 0.9999)
    with town.cast.database.unit(town.cast.scope_a) as session:
        now = db.now(session)
        routine_chats.draw(session, town.round.id, now=now, seed=1)
        first, second, third = routine_chats.offered(session)
        routine_chats.answer(session, first.id, "confirmed", words="She hides how bad it is.", by=town.cast.an, now=now)
        routine_chats.answer(session, second.id, "not_confirmed", by=town.cast.an, now=now)
        routine_chats.answer(session, third.id, "declined", by=town.cast.an, now=now)
        with pytest.raises(Conflict):
            routine_chats.answer(session, first.id, "declined", by=town.cast.an, now=now)
        student = first.student_id
    assert [row.tier for row in town.rows(f"select * from alerts where student_id = '{student}'")] == [2]
    found = {row["student_id"]: row for row in known(town).to_dicts()}
    assert found[str(student)]["is_confirmed"] is True
    # two of three drawn were held: each stands for one and a half
    assert found[str(student)]["weight"] == pytest.approx(1.5, rel=0.01)


def test_labels_of_flagged_students_only_make_no_model(town: Town) -> None:
    with town.cast.database.unit(town.cast.scope) as session:
        more = [make_student(session, town.cast.school_b.id, number=f"B9{n:03d}") for n in range(60)]
        assert more
    send(town.cast, town.round.id, csv_of(*(both(f"B9{n:03d}", 2, phq9_9=0) for n in range(60))))
    with town.cast.database.unit(town.cast.scope) as session:
        now = db.now(session)
        for row in triage.queue(session, tiers=[2], limit=200):
            triage.acknowledge(session, row.id, by=town.cast.chen, now=now)
            triage.triage(
                session, row.id, "not_confirmed", contact="meeting", is_student_seen=True, words="No.",
                by=town.cast.chen, now=now,
            )  # fmt: skip
        with pytest.raises(Refused, match="flagged"):
            models_at_work.train(session, "m2", by=town.cast.district_admin, now=now + dt.timedelta(days=1))


def test_without_outcomes_nothing_is_promoted_and_every_failed_gate_has_its_number(town: Town) -> None:
    town.run()
    with town.cast.database.unit(town.cast.scope) as session:
        model = registry.get(session, "m1")
        found = models_at_work.promote(session, model, by=town.cast.district_admin, now=db.now(session))
        assert not found.is_open
        assert {gate.name for gate in found.gates if gate.is_met is False} >= {"shadow_round", "labels"}
        assert all(gate.seen and gate.needed for gate in found.gates)
        assert registry.active(session) is None


def test_a_month_is_looked_at_once(town: Town) -> None:
    town.run()
    with town.cast.database.unit(town.cast.scope) as session:
        now = db.now(session)
        assert model_checks.check_due(session, now=now) == []
        assert model_checks.check_due(session, now=now) == []
    assert len(town.rows("select * from risk_model_checks")) == 1


def test_what_drifts_is_told_all_month_and_seen_at_the_door(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_checks, "LEAST_OF_A_MONTH", 3)
    with town.cast.database.unit(town.cast.scope) as session:
        model = by_hand(rounds.rules_of(session, town.round.id))
        always_missing = {"gad7.self.gad7_1": 1.0}
        card = {
            "rounds": [],
            "reference_deciles": [0.9 + n / 100 for n in range(9)],
            "reference_missing": always_missing,
        }
        registry.store(session, "m2", model, model, card=card, by=town.cast.district_admin, now=db.now(session))
    town.run()
    with town.cast.database.unit() as session:
        now = db.now(session)
    for at in (now, now + dt.timedelta(minutes=5)):
        told = timetable.run_due(town.cast.database, at, Settings.read(), only=["model_checks"])["model_checks"]
        assert "model_drift m2 scores shifted by" in told
        assert "1 features missing otherwise than before" in told
    assert "job_problem" in {found.name for found in watchdog.findings(town.cast.database)}


# -- the table of features --------------------------------------------------------------------------------------------


def test_the_table_is_the_same_for_one_student_and_for_many(town: Town) -> None:
    students = [str(student.id) for student in (town.cast.students.granted_13, town.cast.students.granted_17)]
    with town.cast.database.unit(town.cast.scope) as session:
        whole = features.table(session, town.round.id, students)
        one = features.table(session, town.round.id, students[:1])
    assert one.equals(whole.filter(whole["student_id"] == students[0]))
    assert whole.columns[1:] == [f.name for f in features.columns(_rules(town))]


def test_change_is_since_the_round_before(town: Town) -> None:
    with town.cast.database.unit(town.cast.scope) as session:
        later = make_round(session, name="Later", opens_at=db.now(session) - dt.timedelta(hours=1))
    send(town.cast, later.id, csv_of(both("A001", 1)))
    with town.cast.database.unit(town.cast.scope) as session:
        found = features.table(session, later.id, [str(town.cast.students.granted_13.id)])
    assert found["phq9.self.total.change"].to_list() == [7.0]
    assert found["gad7.self.total.change"].to_list() == [7.0]


def test_nothing_but_instruments_and_what_the_policy_names_is_a_feature(town: Town) -> None:
    rules = _rules(town)
    assert all(f.name.startswith(("phq9.self.", "gad7.self.")) for f in features.columns(rules))
    allowed = replace(rules, policy=replace(rules.policy, model_may_use=("grade",)))
    assert [f.name for f in features.columns(allowed)][-1] == "grade"


def _rules(town: Town) -> rounds.RoundRules:
    with town.cast.database.unit(town.cast.scope) as session:
        return rounds.rules_of(session, town.round.id)


def test_the_bytes_that_are_kept_are_the_bytes_that_are_opened(town: Town) -> None:
    with town.cast.database.unit(town.cast.scope) as session:
        model = registry.get(session, "m1")
        assert model.digest == storing.digest_of(model.body + model.baseline_body)
        assert registry.opened(session, model)[0].columns == by_hand(rounds.rules_of(session, town.round.id)).columns
