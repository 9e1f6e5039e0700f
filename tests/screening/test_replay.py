"""What was decided can be decided again from what was stored, under the rules of its time, and any change shows."""

import datetime as dt

import psycopg
import pytest

from screening import replay
from screening.embedded import Server
from screening.models import Round
from screening.replay import Replay
from tests import sending
from tests.cast import Cast
from tests.factories import make_round
from tests.files import both, csv_of, of_informant, phq9
from tests.sending import send


@pytest.fixture
def told(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Round:
    """Two rounds with corrections, informants, blanks and reds; the first of them is returned."""
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        first = make_round(session)
        second = make_round(session, name="Second", instruments=[("psc17", ("youth", "parent", "teacher"))])
    send(
        cast, first.id, csv_of(both("A001", 1), both("A006", 3), phq9("A007", 1, phq9_4=""), phq9("B001", 0, phq9_9=""))
    )
    send(cast, first.id, csv_of(phq9("A001", 0)), is_correction=True)
    for informant in ("youth", "parent", "teacher"):
        send(cast, second.id, csv_of(of_informant("A006", informant, 1), of_informant("A007", informant, "")))
    return first


def replayed(cast: Cast, **more: object) -> Replay:
    with cast.database.unit(cast.scope) as session:
        return replay.replay(session, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 2, 50_000])
def test_everything_is_derived_again_in_batches_of_any_size(cast: Cast, told: Round, batch: int) -> None:
    found = replayed(cast, batch=batch)

    assert found.replayed == sending.counts(cast)["results"] == 8
    assert found.differences == ()


def test_since_leaves_out_what_is_older(cast: Cast, told: Round) -> None:
    now = dt.datetime.now(dt.UTC)

    assert replayed(cast, since=now - dt.timedelta(hours=1)).replayed == 8
    assert replayed(cast, since=now + dt.timedelta(hours=1)) == Replay(0, ())


def test_a_school_replays_its_own(cast: Cast, told: Round) -> None:
    with cast.database.unit(cast.scope_b) as session:
        assert replay.replay(session) == Replay(1, ())


CHANGES = {
    "a tier": "update results set tier = 3 - tier",
    "a validity": "update results set validity = 'valid'",
    "a reason more": "update results set reasons = reasons || '{gad7_high}'",
    "a prior tier": "update results set tier = 2, prior_tier = 2",
    "an answer": "update administrations set answers[9] = 3",
    "a score": "update administrations set scores[1] = 27",
    "a status": "update administrations set status = 'prorated'",
    "a form gone": "delete from administrations",
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_is_named_and_nothing_else(cast: Cast, told: Round, server: Server, what: str) -> None:
    student = cast.students.in_school_b.id
    with psycopg.connect(server.url(database="tests", role="superuser"), autocommit=True) as owner:
        changed = owner.execute(f"{CHANGES[what]} where student_id = '{student}'".encode())
        assert changed.rowcount == 1

    assert replayed(cast).differences == ((told.id, student, 1),)
