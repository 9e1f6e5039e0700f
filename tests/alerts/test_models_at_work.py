"""A model from the first talk to the first round in shadow, over real rows of three schools."""

import uuid

import numpy as np
import pytest
from sqlalchemy import text

from alerts import labels, models_at_work, routine_chats, timetable
from screening import db
from screening.models import RiskModel, Round
from screening.risk_model import fitting, gates, registry
from screening.settings import Settings
from tests import sending
from tests.api.test_command import Shell, run
from tests.cast import Cast
from tests.factories import make_round, make_staff, make_student
from tests.files import both, csv_of
from tests.sending import send

assert run  # the fixture
EACH = 30


@pytest.fixture
def talked_with(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Round:
    """A round of ninety students at three schools; nearly all below threshold were drawn, and talked with."""
    sending.read_here(monkeypatch)
    monkeypatch.setattr(routine_chats, "SHARE", 0.9)
    chance = np.random.default_rng(4)
    schools = {"A": cast.school_a, "B": cast.school_b, "C": cast.school_c}
    with cast.database.unit(cast.scope) as session:
        held = make_round(session)
        for code, school in schools.items():
            for place in range(EACH):
                make_student(session, school.id, number=f"{code}5{place:03d}")
    rows = []
    for code in schools:
        for place in range(EACH):
            first = int(chance.integers(0, 3))
            rows.append(both(f"{code}5{place:03d}", 0, phq9_1=first, phq9_2=int(chance.integers(0, 2))))
    send(cast, held.id, csv_of(*rows))
    with cast.database.unit(cast.scope) as session:
        assert routine_chats.draw(session, held.id, now=db.now(session), seed=3) > 60
        # who said 2 to the first question is in need, as every talk finds
        session.execute(
            text(
                "update routine_chats c set state = 'held', answered_at = now(), is_concern_confirmed = (select"
                " d.answers[1] = 2 from administrations d where d.student_id = c.student_id and d.round_id = c.round_id"
                " and d.instrument = 'phq9')"
            )
        )
    return held


def test_it_learns_what_talks_found_and_the_next_round_is_its_shadow(cast: Cast, talked_with: Round) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        known = labels.known(session, at=now)
        assert known.height > 60
        assert known["weight"].sum() == pytest.approx(EACH * 3, rel=0.15)
        quick = fitting.Settings(rounds=20, folds=3)
        made = models_at_work.train(session, "m1", by=cast.district_admin, now=now, settings=quick)
        assert made.state == "shadow"
        assert made.card["schools_left_out"]["auroc"] > 0.85
        assert made.card["labels_by_lot"] == known.height
        assert str(talked_with.id) in made.card["rounds"]
        model, baseline = registry.opened(session, made)
        assert "phq9.self.phq9_1" in model.columns
        assert set(baseline.columns) == {"phq9.self.total", "gad7.self.total"}
        later = make_round(session, name="Later", opens_at=now)
    send(cast, later.id, csv_of(*(both(f"A5{place:03d}", 0, phq9_1=place % 3) for place in range(EACH))))
    assert not timetable.ask_models(cast.database, cast.district.id, _now(cast), Settings.read())
    with cast.database.unit(cast.scope) as session:
        scored = session.execute(text("select round_id, probability, is_raised from risk_scores")).all()
        assert sum(row.round_id == later.id for row in scored) == EACH
        assert not any(row.is_raised for row in scored)
        stored = session.get_one(RiskModel, (cast.district.id, made.id))
        known_of_it = models_at_work.evidence(session, stored, now=_now(cast))
        # what it learned from is no evidence, and of the new round nobody has been talked with
        assert len(known_of_it.truth) == 0
        assert gates.judged(known_of_it)[0].is_met is False


def test_the_commands_say_what_they_did(cast: Cast, talked_with: Round, run: Shell) -> None:
    district = ("--district", cast.district.code)
    with cast.database.unit(cast.scope) as session:
        email = f"{uuid.uuid4().hex[:8]}@example.test"
        make_staff(session, ("district_admin", None), email=email)
    trained = run("model", "train", "m2", *district)
    assert trained.exit_code == 0, trained.output
    assert "stands in shadow" in trained.stdout
    again = run("model", "train", "m2", *district)
    assert again.exit_code == 1, again.output
    refused = run("model", "promote", "m2", "--email", email)
    assert refused.exit_code == 1
    assert "shadow_round" in refused.stdout
    assert "m2" in run("model", "list", *district).stdout
    assert run("model", "retire", "m2", *district).exit_code == 0
    assert '"retired"' in run("model", "list", "--json", *district).stdout
    assert run("model", "evaluate", "m9", *district).exit_code == 2


def _now(cast: Cast):  # type: ignore[no-untyped-def]
    with cast.database.unit() as session:
        return db.now(session)
