"""What a model is made from over real rows of three schools, and what its commands say."""

import uuid

import numpy as np
import pytest
from sqlalchemy import text

from alerts import labels, models_at_work, routine_chats
from screening import db
from screening.models import Round
from screening.risk_model import fitting, registry
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


def test_the_commands_say_what_they_did(
    cast: Cast, talked_with: Round, run: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick: dict[str, object] = models_at_work.train.__kwdefaults__ or {}
    monkeypatch.setitem(quick, "settings", fitting.Settings(rounds=20, folds=3))
    district = ("--district", cast.district.code)
    with cast.database.unit(cast.scope) as session:
        known = labels.known(session, at=db.now(session))
        assert known.height > 60
        assert known["weight"].sum() == pytest.approx(EACH * 3, rel=0.15)
        email = f"{uuid.uuid4().hex[:8]}@example.test"
        make_staff(session, ("district_admin", None), email=email)
    trained = run("model", "train", "m2", *district)
    assert trained.exit_code == 0, trained.output
    assert "stands in shadow" in trained.stdout
    with cast.database.unit(cast.scope) as session:
        made = registry.get(session, "m2")
        assert made.card["schools_left_out"]["auroc"] > 0.85
        assert (made.card["labels_by_lot"], made.card["rounds"]) == (known.height, [str(talked_with.id)])
        model, baseline = registry.opened(session, made)
        assert "phq9.self.phq9_1" in model.columns
        assert set(baseline.columns) == {"phq9.self.total", "gad7.self.total"}
        # what it learned from is no evidence
        assert len(models_at_work.evidence(session, made, now=db.now(session)).truth) == 0
    again = run("model", "train", "m2", *district)
    assert again.exit_code == 1, again.output
    refused = run("model", "promote", "m2", "--email", email)
    assert refused.exit_code == 1
    assert "shadow_round" in refused.stdout
    assert "m2" in run("model", "list", *district).stdout
    assert run("model", "retire", "m2", *district).exit_code == 0
    assert '"retired"' in run("model", "list", "--json", *district).stdout
    assert run("model", "evaluate", "m9", *district).exit_code == 2
