"""The figures by which a model is judged, each against a plain count, and the gates that it has to pass."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.risk_model import judging
from screening.risk_model.judging import Evidence

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


# -- the gates --------------------------------------------------------------------------------------------------------


def evidence(*, unfair: bool = False, rows: int = 4000) -> Evidence:
    """Labels by lot and by flag of a model that is good, and better than its baseline; to girls only, if `unfair`."""
    chance = np.random.default_rng(5)
    felt = chance.normal(size=rows)
    sex = chance.choice(["f", "m"], rows)
    seen = felt + chance.normal(scale=0.1, size=rows)
    if unfair:
        seen = np.where(sex == "m", chance.normal(size=rows) - 2, seen)
    rule_tier = np.where(felt + chance.normal(scale=0.6, size=rows) > 2.2, 1, 0)
    truth = (chance.random(rows) < 1 / (1 + np.exp(-(6 * seen - 7)))).astype(float)
    if unfair:
        truth = (chance.random(rows) < 1 / (1 + np.exp(-(6 * felt - 7)))).astype(float)
    return Evidence(
        truth=truth,
        probability=1 / (1 + np.exp(-(6 * seen - 7))),
        baseline=1 / (1 + np.exp(-(felt + chance.normal(size=rows)))),
        weight=np.ones(rows),
        is_below=rule_tier == 0,
        rule_tier=rule_tier,
        schools=chance.integers(0, 10, rows),
        groups={"sex": sex},
        capacity=0.17,
        whole_rounds_in_shadow=1,
    )


def test_a_good_model_passes_every_gate() -> None:
    found = judging.gates(evidence())
    assert judging.is_open(found), found


def test_labels_of_flagged_students_only_are_refused_with_the_reason() -> None:
    known = evidence()
    only = known.rule_tier > 0
    flagged = replace(
        known,
        **{
            name: getattr(known, name)[only]
            for name in ("truth", "probability", "baseline", "weight", "is_below", "rule_tier", "schools")
        },
        groups={"sex": known.groups["sex"][only]},
    )
    found = {gate.name: gate for gate in judging.gates(flagged)}
    assert not judging.is_open(list(found.values()))
    assert found["labels_below_threshold"].is_met is False
    assert "flagged students only" in found["labels_below_threshold"].seen


def test_a_model_that_misses_boys_is_refused_with_the_table() -> None:
    gate = next(gate for gate in judging.gates(evidence(unfair=True)) if gate.name == "missed_by_sex")
    assert gate.is_met is False
    assert "f:" in gate.seen
    assert "m:" in gate.seen


def test_without_a_whole_round_in_shadow_nothing_goes_live() -> None:
    assert not judging.is_open(judging.gates(replace(evidence(), whole_rounds_in_shadow=0)))


def test_a_model_no_better_than_its_baseline_is_refused() -> None:
    known = evidence()
    found = {g.name: g for g in judging.gates(replace(known, probability=known.baseline, baseline=known.probability))}
    assert found["beats_baseline"].is_met is False


def test_too_few_cases_in_a_group_keep_the_shadow() -> None:
    known = evidence()
    rare = np.where(np.arange(4000) < 12, "rare", "others")
    gate = judging.gates(replace(known, groups={"group": rare}))[-1]
    assert gate.is_met is None
    assert "not enough to say" in gate.seen


def test_no_more_are_raised_than_can_be_seen() -> None:
    known = evidence()
    raised = judging.raised_by(known.probability, known.rule_tier, 0.01)
    assert 0 < raised.sum() <= 40
    assert not (raised & (known.rule_tier > 0)).any()
