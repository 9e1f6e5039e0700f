"""Forms that score alike: whatever may be traded between items changes no column of what the engine says."""

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments import alike, catalogue, scoring
from instruments.definition import Instrument

INSTRUMENTS = catalogue.all()


@st.composite
def forms(draw: st.DrawFn) -> tuple[Instrument, str, list[int | None]]:
    instrument = draw(st.sampled_from(INSTRUMENTS))
    codes = [[None, *item.codes, max(item.codes) + 1] for item in instrument.items]
    rng = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311 - no secret
    odds = draw(st.sampled_from((0.0, 0.05, 0.4)))
    answers = [rng.choice(own) if rng.random() < odds else rng.choice(own[1:-1]) for own in codes]
    return instrument, draw(st.sampled_from(sorted(instrument.forms))), answers


@given(forms())
def test_a_form_scores_as_its_stand_in(drawn: tuple[Instrument, str, list[int | None]]) -> None:
    instrument, form, answers = drawn
    rows = [answers, list(alike.stand_in(answers, instrument))]
    ids = [item.id for item in instrument.items]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(ids, pl.Int16), orient="row")
    mine, its = scoring.score(frame, instrument, form).iter_rows(named=True)
    assert mine == its


@given(forms())
def test_a_stand_in_stands_for_itself(drawn: tuple[Instrument, str, list[int | None]]) -> None:
    instrument, _, answers = drawn
    found = alike.stand_in(answers, instrument)
    assert alike.stand_in(found, instrument) == found


def test_what_matters_alone_is_traded_with_nothing() -> None:
    phq9 = catalogue.get("phq9")
    assert alike.stand_in((0, 0, 0, 0, 0, 0, 0, 0, 1, None), phq9)[8] == 1
    assert alike.stand_in((0, 0, 1, 0, None, 0, 0, 3, 0, None), phq9)[8] == 0


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.code)
def test_a_remembered_form_cannot_be_changed_by_whoever_got_it(instrument: Instrument) -> None:
    answers = {item.id: min(item.codes) for item in instrument.scored_items}
    first = scoring.score_one(answers, instrument)
    first["status"] = "changed"
    assert scoring.score_one(answers, instrument)["status"] != "changed"
