"""Norms from a site's own valid results: mid-rank percentiles, and silence where there are too few."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from instruments import norms
from instruments.norms import FEWEST_IN_CELL, Norms

DAY = dt.date(2026, 11, 23)


def results(n: int = 1_000, seed: int = 1) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "grade": chance.integers(7, 10, n),
            "sex": chance.choice(["f", "m", ""], n, p=[0.48, 0.48, 0.04]),
            "score": chance.poisson(5, n),
            "validity": chance.choice(["valid", "suspect", "invalid"], n, p=[0.9, 0.05, 0.05]),
        }
    ).with_columns(pl.col("sex").replace("", None))


def made(frame: pl.DataFrame, fewest: int = FEWEST_IN_CELL) -> Norms:
    return norms.of_results(frame, instrument="phq9", form="self", scale="total", taken_on=DAY, fewest=fewest)


def test_a_percentile_is_the_mid_rank_among_the_valid_of_that_grade_and_sex() -> None:
    frame = results()
    asked = pl.DataFrame({"grade": [8] * 26, "sex": ["f"] * 26, "score": [n - 3.0 for n in range(26)]})
    found = made(frame).percentile(asked)
    own = frame.filter(grade=8, sex="f", validity="valid")["score"].to_numpy()
    expected = [100 * ((own < x).sum() + (own == x).sum() / 2) / len(own) for x in asked["score"]]
    np.testing.assert_allclose(found["percentile"], expected)
    assert set(found["n"]) == {len(own)}
    assert set(found["taken_on"]) == {DAY}


def test_who_has_no_sex_on_file_stands_among_the_whole_grade() -> None:
    frame = results()
    asked = pl.DataFrame({"grade": [7], "sex": [None], "score": [6]}, schema_overrides={"sex": pl.String})
    found = made(frame).percentile(asked)
    assert found["n"][0] == frame.filter(grade=7, validity="valid").height


def test_only_valid_results_make_a_norm() -> None:
    frame = results()
    doubtful = frame.filter(pl.col("validity") != "valid").with_columns(score=pl.lit(27))
    assert made(pl.concat([frame.filter(validity="valid"), doubtful.cast({"score": pl.Int64})])).table.equals(
        made(frame.filter(validity="valid")).table
    )


def test_a_small_group_has_no_norm_and_no_neighbour_lends_it_one() -> None:
    frame = results(300)
    found = made(frame)
    groups = found.cells()
    assert groups["sex"].null_count() == groups.height, "a third of 270, halved by sex, is too few"
    asked = pl.DataFrame({"grade": [8, 12, 8, None], "sex": ["f", "f", None, "m"], "score": [5, 5, None, 5]})
    assert found.percentile(asked).select("percentile", "n").null_count().row(0) == (4, 4)


def test_order_is_kept_and_the_ends_stay_within_0_and_100() -> None:
    found = made(results(2_000))
    asked = pl.DataFrame({"grade": [9, 7, 8, 7], "sex": ["m", "f", None, "f"], "score": [99.0, -1.0, 5.0, 5.0]})
    together = found.percentile(asked)
    alone = pl.concat([found.percentile(asked[row]) for row in range(4)])
    assert together.equals(alone)
    assert (together["percentile"][0], together["percentile"][1]) == (100.0, 0.0)


def test_percentiles_rise_with_the_score() -> None:
    found = made(results(2_000))
    asked = pl.DataFrame({"grade": [7] * 30, "sex": ["m"] * 30, "score": list(range(30))})
    assert found.percentile(asked)["percentile"].is_sorted()


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match="without sex, validity"):
        made(results().drop("sex", "validity"))
    with pytest.raises(ValueError, match="20 is the least"):
        made(results(), fewest=5)
    empty = made(results().head(0))
    assert (empty.n, empty.cells().height) == (0, 0)
