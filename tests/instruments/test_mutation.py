"""Typical bugs planted in copies of the definitions: the checks notice every one of them."""

import random
from dataclasses import replace

import pytest

from instruments import catalogue, scoring
from instruments.definition import Instrument, Scale
from tests.instruments.mutants import mutants
from tests.instruments.noticing import Noticing

FEWEST = 15


@pytest.mark.storm
@pytest.mark.parametrize("code", catalogue.codes())
def test_every_planted_bug_is_noticed(code: str, is_storm: bool) -> None:
    planted = list(mutants(catalogue.get(code)))
    assert len(planted) >= FEWEST
    chosen = planted if is_storm else random.Random(code).sample(planted, max(2, len(planted) // 20))  # noqa: S311
    noticing = Noticing(code)
    survivors = [bug for bug, mutant in chosen if not noticing.differences(mutant)]
    by_vectors = sum(bool(noticing.vectors(mutant)) for _, mutant in chosen)
    noticed = len(chosen) - len(survivors)
    told = f"{code}: {len(chosen)} of {len(planted)} bugs planted, {noticed} noticed ({by_vectors} by vectors alone)"
    print(told)  # noqa: T201 - the figure
    assert survivors == []


@pytest.mark.parametrize("code", ["phqa", "sdq"])
def test_rounding_half_to_even_is_noticed(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_even(scale: Scale, n_blank: int, raw: int) -> object:
        exact = right(scale, n_blank, raw)
        answered = len(scale.items) - n_blank
        is_made_up = exact is not None and n_blank and scale.missing.kind in ("prorate", "minimum_answered")
        return round(raw * len(scale.items) / answered) if is_made_up else exact

    right = scoring.scale_score
    monkeypatch.setattr(scoring, "scale_score", to_even)
    assert Noticing(code).differences(_afresh(catalogue.get(code)))


def _afresh(instrument: Instrument) -> Instrument:
    """The same under another digest, so that nothing that is remembered stands in."""
    return replace(instrument, digest=f"{instrument.digest}:again")
