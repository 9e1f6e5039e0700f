"""The figures by which a model is judged, each against a plain count."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.risk_model import judging

DATA = Path(__file__).parents[3] / "shared" / "data"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(1, 3)), min_size=2, max_size=25))
def test_auroc_counts_pairs(rows: list[tuple[bool, int, int]]) -> None:
    found = judging.auroc([r[0] for r in rows], [r[1] for r in rows], np.array([r[2] for r in rows], dtype=float))
    pairs = [(p, n) for p in rows if p[0] for n in rows if not n[0]]
    if not pairs:
        assert np.isnan(found)
        return
    won = sum(p[2] * n[2] * ((p[1] > n[1]) + (p[1] == n[1]) / 2) for p, n in pairs)
    assert found == pytest.approx(won / sum(p[2] * n[2] for p, n in pairs))


def test_the_top_tenth_of_a_perfect_order() -> None:
    truth = np.array([1.0] * 5 + [0.0] * 95)
    assert judging.at_capacity(truth, truth, 0.1) == pytest.approx((1.0, 0.5263157), abs=0.03)
    assert judging.at_capacity(truth, np.arange(100)[::-1] / 100, 0.1) == pytest.approx((1.0, 0.5))


def test_calibration_error_of_probabilities_that_are_true_is_small_and_of_doubled_ones_is_not() -> None:
    chance = np.random.default_rng(1)
    p = chance.uniform(0.01, 0.4, 20_000)
    truth = (chance.random(20_000) < p).astype(float)
    assert judging.calibration_error(truth, p) < 0.01
    assert judging.calibration_error(truth, p * 2) == pytest.approx(truth.mean(), abs=0.02)
    assert judging.calibration_error(truth, judging.at_own_level(truth, p * 2, np.zeros(20_000))) < 0.06


@pytest.mark.skipif(not (DATA / "dsi_suicide_attempt").exists(), reason="the study's file is absent")
def test_the_cut_of_a_published_study() -> None:
    with (DATA / "dsi_suicide_attempt" / "dsi_suicide.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = judging.best_cut([row["suicide"] == "yes" for row in rows], [float(row["dsi"]) for row in rows])
    assert (round(found.auroc, 4), found.cut, round(found.sum, 4)) == (0.9238, 2.0, 1.7518)


def test_sensitivity_is_corrected_for_those_nobody_asked() -> None:
    # 100 flagged, all asked, 50 in need; 1,000 not flagged, 50 asked by lot, 2 in need: 40 of a thousand
    truth = np.array([1.0] * 50 + [0.0] * 50 + [1.0] * 2 + [0.0] * 48)
    flagged = np.array([True] * 100 + [False] * 50)
    found, (low, high) = judging.corrected_sensitivity(truth, flagged, np.where(flagged, 1.0, 20.0))
    assert found == pytest.approx(50 / 90)
    assert low < 0.45 < found < high
    naive = truth[flagged].sum() / truth.sum()
    assert naive > 0.95


def test_a_lot_that_found_nobody_says_nothing_about_whom_is_missed() -> None:
    truth = np.array([1.0] * 5 + [0.0] * 30)
    flagged = np.array([True] * 5 + [False] * 30)
    assert judging.corrected_sensitivity(truth, flagged, np.ones(35)) == (1.0, (0.0, 1.0))


def test_the_gap_between_groups_is_told_only_with_enough_cases() -> None:
    truth, found = np.ones(60), np.array([True] * 55 + [False] * 5)
    few = judging.missed_by("sex", np.array(["f"] * 55 + ["m"] * 5), truth, found)
    assert few.gap is None
    even = judging.missed_by("sex", np.array(["f", "m"] * 30), truth, found)
    assert even.gap == pytest.approx(1 / 30, abs=0.02)


def test_a_group_without_a_case_leaves_the_gap_unsaid() -> None:
    truth, found = np.ones(60), np.ones(60, dtype=bool)
    sex = np.array(["f", "m"] * 30)
    assert judging.missed_by("sex", sex, truth, found).gap == 0
    assert judging.missed_by("sex", sex, truth, found, kinds=["f", "m", "x"]).gap is None
    alone = judging.missed_by("sex", sex[::2], truth[::2], found[::2])
    assert alone.is_of_one
    assert not judging.missed_by("sex", sex[::2], truth[::2], found[::2], kinds=["f", "m"]).is_of_one


def test_a_flag_that_had_every_case_of_the_lot_is_not_sure_of_the_rest() -> None:
    truth, by_lot = np.array([1.0] * 30 + [0.0] * 70), np.array([False] * 20 + [True] * 80)
    found, (low, high) = judging.corrected_sensitivity(truth, truth == 1, np.ones(100), is_asked_by_lot=by_lot)
    assert (found, high) == (1.0, 1.0)
    assert 0.8 < low < 0.95


def test_tenths_and_the_shift_of_a_score() -> None:
    chance = np.random.default_rng(1)
    before = chance.beta(1, 6, 4000)
    tenths = judging.deciles(before, np.ones(4000))
    assert tenths == pytest.approx(np.quantile(before, np.arange(1, 10) / 10), abs=0.002)
    assert judging.shift(chance.beta(1, 6, 3000), tenths) < 0.02
    assert judging.shift(chance.beta(2, 4, 3000), tenths) > 0.2
