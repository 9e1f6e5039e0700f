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


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.code)
def test_the_whole_forms_are_all_that_whole_forms_stand_for(instrument: Instrument) -> None:
    forms = alike.whole_forms(instrument, most=4_000)
    assert len(set(forms)) == len(forms)
    assert all(alike.stand_in(form, instrument) == form for form in forms)
    rng = random.Random(1)  # noqa: S311 - no secret
    codes = [sorted(item.codes) if item.is_scored else [None] for item in instrument.items]
    drawn = {alike.stand_in([rng.choice(own) for own in codes], instrument) for _ in range(200)}
    assert not forms or drawn <= set(forms)


def test_a_phq9_has_as_many_whole_forms_as_scoring_tells_apart() -> None:
    # two core items, six others and the one on self-harm, of four codes each
    assert len(alike.whole_forms(catalogue.get("phq9"), most=4_000)) == 10 * 84 * 4
    assert alike.whole_forms(catalogue.get("phq9"), most=10 * 84 * 4 - 1) == []


@given(forms())
def test_a_form_scored_alone_is_scored_as_among_others(drawn: tuple[Instrument, str, list[int | None]]) -> None:
    instrument, form, answers = drawn
    ids = [item.id for item in instrument.items]
    frame = pl.DataFrame([answers], schema=dict.fromkeys(ids, pl.Int16), orient="row")
    alone = scoring.score_one(dict(zip(ids, answers, strict=True)), instrument, form)
    assert alone == scoring.score(frame, instrument, form).row(0, named=True)


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
