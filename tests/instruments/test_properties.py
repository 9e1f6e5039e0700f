"""What must hold for any answers at all."""

import functools
import os
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import catalogue, scoring
from instruments.definition import Instrument
from tests.instruments.made_up import EVERYTHING

# The sixty wide items have their own tests; here they would only be slow.
INSTRUMENTS = [i for i in (*catalogue.all(), *EVERYTHING.values()) if i.code != "wide"]
ids = [instrument.edition for instrument in INSTRUMENTS]
# The optimizer takes seconds over many scales at once; those are for the long run.
IS_STORM = os.environ.get("SCREENING_STORM") == "1"
INLINED = [i for i in INSTRUMENTS if len(i.scales) <= 5 or IS_STORM]
QUICK = settings(max_examples=40 if IS_STORM else 4)

pytestmark = pytest.mark.storm

Form = dict[str, int | None]


@functools.cache
def forms_of(instrument: Instrument) -> st.SearchStrategy[list[Form]]:
    """A few forms: mostly existing codes, some blanks, now and then a code that does not exist."""
    answers = {}
    for item in instrument.items:
        known = st.sampled_from(sorted(item.codes))
        answers[item.id] = st.one_of(known, known, known, st.none(), st.integers(-400, 400))
    return st.lists(st.fixed_dictionaries(answers), min_size=1, max_size=5)


def frame_of(instrument: Instrument, forms: list[Form]) -> pl.DataFrame:
    return pl.DataFrame(forms, schema={item.id: pl.Int16 for item in instrument.items})


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=ids)
@QUICK
@given(data=st.data())
def test_one_form_and_the_batch_agree(instrument: Instrument, data: st.DataObject) -> None:
    forms = data.draw(forms_of(instrument))
    for form in instrument.forms:
        batch = scoring.score(frame_of(instrument, forms), instrument, form)
        assert batch.to_dicts() == [scoring.score_one(answers, instrument, form) for answers in forms]


@pytest.mark.parametrize("instrument", INLINED, ids=lambda one: str(one.edition))
def test_the_expressions_agree_with_the_batch(instrument: Instrument) -> None:
    draw = random.Random(instrument.code)  # noqa: S311 - made-up answers
    forms: list[Form] = [
        {item.id: draw.choice((None, *item.codes, *item.codes, max(item.codes) + 1)) for item in instrument.items}
        for _ in range(50)
    ]
    forms += [{item.id: draw.choice(tuple(item.codes)) for item in instrument.items} for _ in range(50)]
    for form in instrument.forms:
        batch = scoring.score(frame_of(instrument, forms), instrument, form)
        inline = frame_of(instrument, forms).lazy().select(scoring.expressions(instrument, form)).collect()
        assert inline.equals(batch)


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=ids)
@QUICK
@given(data=st.data())
def test_order_of_rows_and_further_columns_change_nothing(instrument: Instrument, data: st.DataObject) -> None:
    forms = data.draw(forms_of(instrument))
    order = data.draw(st.permutations(range(len(forms))))
    answers = frame_of(instrument, forms)
    plain = scoring.score(answers, instrument)
    dressed = answers.with_columns(status=pl.lit("x"), total=pl.lit(99), other=pl.lit(None)).select(
        "other", *reversed(answers.columns), "total", "status"
    )
    assert scoring.score(dressed[order], instrument).equals(plain[order])


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=ids)
@QUICK
@given(data=st.data())
def test_no_code_outside_the_definition_is_ever_scored(instrument: Instrument, data: st.DataObject) -> None:
    forms = data.draw(forms_of(instrument))
    for answers, found in zip(forms, scoring.score(frame_of(instrument, forms), instrument).to_dicts(), strict=True):
        scored = [(answers[item.id], item.codes) for item in instrument.scored_items]
        has_unknown = any(code is not None and code not in codes for code, codes in scored)
        assert (found["status"] == "out_of_range") is has_unknown
        if has_unknown:
            assert all(found[scale.id] is None for scale in instrument.scales)
        for critical in instrument.critical_items:
            if answers[critical.item] not in instrument.item(critical.item).codes:
                assert found[f"critical_{critical.id}"] is False


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=ids)
@QUICK
@given(data=st.data())
def test_scores_stay_in_range_and_bands_follow_them(instrument: Instrument, data: st.DataObject) -> None:
    forms = data.draw(forms_of(instrument))
    for found in scoring.score(frame_of(instrument, forms), instrument).to_dicts():
        for scale in instrument.scales:
            value = found[scale.id]
            low, high = instrument.score_range(scale.id)
            assert value is None or low <= value <= high
            for scheme in instrument.band_schemes:
                if scale.id in scheme.bands and scheme.is_primary and not scheme.forms:
                    assert (found[f"{scale.id}_band"] is None) is (value is None)


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=ids)
@QUICK
@given(data=st.data())
def test_a_critical_answer_is_never_lost(instrument: Instrument, data: st.DataObject) -> None:
    forms = data.draw(forms_of(instrument))
    for critical in instrument.critical_items:
        item = instrument.item(critical.item)
        answer = next(code for code, score in item.codes.items() if score >= critical.value)
        loud = [answers | {critical.item: answer} for answers in forms]
        found = scoring.score(frame_of(instrument, loud), instrument)
        assert found[f"critical_{critical.id}"].all()
