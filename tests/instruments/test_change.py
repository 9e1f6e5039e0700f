"""Reliable change: the published arithmetic, and a named refusal wherever no coefficient stands behind it."""

import math

import numpy as np
import polars as pl
import pytest

from instruments import change
from instruments.change import NoReliability, Reliability, TooFewRetests


def reliability(retest_r: float = 0.78, sd: float = 4.9, n: int = 500, **other: object) -> Reliability:
    fields = {"instrument": "phq9", "form": "self", "scale": "total", "days": 28, "sample": "made up", "source": "here"}
    return Reliability(retest_r=retest_r, sd=sd, n=n, **{**fields, **other})  # type: ignore[arg-type]


def test_the_threshold_is_that_of_the_published_example() -> None:
    assert reliability().threshold == pytest.approx(6.4, abs=0.05)
    assert reliability(retest_r=0.6, sd=1.0).threshold == pytest.approx(1.75, abs=0.01)
    assert reliability().threshold == pytest.approx(1.96 * math.sqrt(2) * 4.9 * math.sqrt(1 - 0.78))


def test_only_a_difference_of_the_whole_threshold_is_a_change() -> None:
    # sd 1 / (1.96 sqrt 2 sqrt .5) makes the threshold exactly 1.
    unit = reliability(retest_r=0.5, sd=1 / (1.96 * math.sqrt(2) * math.sqrt(0.5)))
    before = pl.Series([10, 10, 10, 10, None, 10], dtype=pl.Int16)
    after = pl.Series([11, 9, 10, None, 3, 7], dtype=pl.Int16)
    found = change.judge(before, after, unit, is_high_good=False)
    assert found["change"].to_list() == ["worse", "better", "no_reliable_change", None, None, "better"]
    assert found["difference"].to_list() == [1, -1, 0, None, None, -3]
    good = change.judge(before, after, unit, is_high_good=True)
    assert good["change"].to_list()[:2] == ["better", "worse"]


def test_nothing_ships_so_every_instrument_is_refused_by_name() -> None:
    with pytest.raises(NoReliability, match=r"phq9 \(self, total\).*r \.74 .*200 retests"):
        change.reliability_of("phq9", "self", "total", [])
    with pytest.raises(NoReliability, match=r"k6 \(self, total\)"):
        change.reliability_of("k6", "self", "total", [reliability()])


def test_a_coefficient_speaks_for_its_own_scale_and_form_only() -> None:
    small, large = reliability(n=200), reliability(n=900)
    assert change.reliability_of("phq9", "self", "total", [small, large]) is large
    for other in (("phq9", "parent", "total"), ("phq9", "self", "phq2"), ("gad7", "self", "total")):
        with pytest.raises(NoReliability):
            change.reliability_of(*other, [small, large])


@pytest.mark.parametrize(
    "wrong",
    [{"retest_r": 1.0}, {"retest_r": 0.0}, {"sd": 0.0}, {"sd": math.nan}, {"n": 1}, {"source": " "}, {"sample": ""}],
)
def test_a_coefficient_without_sense_or_source_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        reliability(**wrong)  # type: ignore[arg-type]


def estimate(before: pl.Series, after: pl.Series) -> Reliability:
    return change.re_estimate(
        before,
        after,
        instrument="k6",
        form="self",
        scale="total",
        days=14,
        sample="pupils of 12 to 15, both forms valid, nobody in care between them",
        source="own retests, 2026-11-23",
    )


def test_two_hundred_retests_give_an_own_coefficient() -> None:
    chance = np.random.default_rng(1)
    true = chance.normal(10, 4, 5_000)
    before, after = (pl.Series(true + chance.normal(0, 2, 5_000)) for _ in range(2))
    found = estimate(before, after)
    assert found.retest_r == pytest.approx(0.8, abs=0.02)
    assert found.sd == pytest.approx(math.sqrt(20), rel=0.03)
    low, high = found.r_interval
    assert low < 0.8 < high
    # 5 % of pairs without any true change lie beyond it.
    moved = change.judge(before, after, found, is_high_good=False)["change"]
    assert (moved != "no_reliable_change").mean() == pytest.approx(0.05, abs=0.01)


def test_fewer_retests_give_none_and_blanks_do_not_count() -> None:
    before = pl.Series([float(n % 7) for n in range(200)])
    after = before + pl.Series([float(n % 3) for n in range(200)])
    assert estimate(before, after).n == 200
    with pytest.raises(TooFewRetests, match="199 retests of k6"):
        estimate(before.clone().scatter(5, None), after)
    with pytest.raises(ValueError, match="do not vary"):
        estimate(before * 0, after)
    with pytest.raises(ValueError, match="no pairs"):
        estimate(before, after[:-1])
