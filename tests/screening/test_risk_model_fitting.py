"""The model's own sums: what it learns, what it can never do, and how it lives with questions that nobody asked."""

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from screening.risk_model import fitting, judging
from screening.risk_model.fitting import Matrix, Model, Numbers

DATA = Path(__file__).parents[3] / "shared" / "data"
COLUMNS = tuple(f"q{number}" for number in range(8))
DIRECTIONS = (1, 1, 1, 1, -1, 0, 0, 0)
QUICK = fitting.Settings(rounds=40, folds=3)


def made_up(rows: int, seed: int = 1) -> tuple[Matrix, Numbers, np.ndarray]:
    """Answers 0-3, the need that they partly show, and twelve schools of which some left out whole questions."""
    chance = np.random.default_rng(seed)
    felt = chance.normal(size=rows)
    x = np.clip(np.round(felt[:, None] + chance.normal(size=(rows, 8)) + 1), 0, 3).astype(np.float32)
    x[:, 4] = 3 - x[:, 4]
    x[:, 5:] = chance.integers(0, 4, (rows, 3))
    schools = chance.integers(0, 12, rows)
    x[np.isin(schools, (3, 7))[:, None] & np.isin(np.arange(8), (0, 2))] = np.nan
    return x, (felt + chance.normal(scale=0.7, size=rows) > 1).astype(float), schools


@cache
def fitted() -> Model:
    x, y, schools = made_up(1500)
    return fitting.fit(x, y, schools, columns=COLUMNS, directions=DIRECTIONS, settings=QUICK)


def test_it_finds_those_in_need_at_schools_it_never_saw() -> None:
    x, y, schools = made_up(1500)
    found = fitting.left_out(x, y, schools, columns=COLUMNS, directions=DIRECTIONS, settings=QUICK)
    judged = judging.judge(y, found, schools, draws=50)
    assert judged.auroc > 0.8
    assert judged.ece < 0.06
    assert 0.8 < judged.slope < 1.2


def test_the_baseline_does_not_collapse_where_whole_questions_were_left_out() -> None:
    x, y, schools = made_up(3000)
    found = fitting.left_out(x, y, schools, columns=COLUMNS, directions=DIRECTIONS, is_baseline=True)
    where = np.isin(schools, (3, 7))
    assert judging.auroc(y[where], found[where]) > 0.75


def test_the_same_rows_and_seed_make_the_same_model() -> None:
    x, y, schools = made_up(400)
    first, second = (
        fitting.fit(x, y, schools, columns=COLUMNS, directions=DIRECTIONS, settings=QUICK) for _ in range(2)
    )
    assert (first.probability(x) == second.probability(x)).all()


@settings(max_examples=40, deadline=None)
@given(
    row=arrays.arrays(np.float32, 8, elements=st.one_of(st.just(float("nan")), st.integers(-2, 5).map(float))),
    item=st.sampled_from([place for place, direction in enumerate(DIRECTIONS) if direction]),
    by=st.integers(1, 4),
)
def test_raising_a_symptom_never_lowers_the_probability(row: np.ndarray, item: int, by: int) -> None:
    if np.isnan(row[item]):
        row[item] = 0.0
    worse = row.copy()
    worse[item] += by * DIRECTIONS[item]
    before, after = fitted().probability(np.vstack([row, worse]))
    assert after >= before - 1e-12


def test_a_row_of_nothing_but_blanks_has_a_probability() -> None:
    found = fitted().probability(np.full((1, 8), np.nan, dtype=np.float32))
    assert 0 < found[0] < 1


def test_a_column_that_nobody_answered_is_no_obstacle() -> None:
    x, y, schools = made_up(300)
    x[:, 6] = np.nan
    found = fitting.fit(x, y, schools, columns=COLUMNS, directions=DIRECTIONS, settings=QUICK).probability(x)
    assert np.isfinite(found).all()


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="8 columns"):
        fitted().probability(np.zeros((1, 7), dtype=np.float32))


@pytest.mark.parametrize("labels", [0.0, 1.0])
def test_labels_of_one_kind_are_refused(labels: float) -> None:
    x, _, schools = made_up(50)
    with pytest.raises(ValueError, match="both kinds"):
        fitting.fit(x, np.full(50, labels), schools, columns=COLUMNS, directions=DIRECTIONS, settings=QUICK)


def test_a_group_is_never_on_both_sides() -> None:
    schools = np.random.default_rng(3).integers(0, 9, 200)
    outside_once = np.zeros(200)
    for inside, outside in fitting.folds(schools, 4, seed=1):
        assert not set(schools[inside]) & set(schools[outside])
        outside_once += outside
    assert (outside_once == 1).all()


def test_recalibrating_moves_the_level_and_not_the_order() -> None:
    x, _, _ = made_up(500)
    moved = fitted().recalibrated(x, 0.05)
    assert moved.probability(x).mean() == pytest.approx(0.05, abs=1e-6)
    assert (np.argsort(moved.margin(x)) == np.argsort(fitted().margin(x))).all()


@pytest.mark.skipif(not (DATA / "yrbs2019_us").exists(), reason="the survey's file is absent")
@pytest.mark.parametrize(("target", "least"), [("Q28", 0.84), ("Q26", 0.86)])
def test_a_national_survey_is_predicted_at_units_left_out(target: str, least: float, is_storm: bool) -> None:
    frame = pl.read_parquet(DATA / "yrbs2019_us" / "dev_psus.parquet").filter(pl.col(target).is_not_null())
    columns = [f"Q{n}" for n in range(1, 100) if n not in (26, 27, 28, 29) and frame[f"Q{n}"].dtype.is_numeric()]
    truth = (frame[target] > 1 if target == "Q28" else frame[target] == 1).to_numpy().astype(float)
    x, units = frame.select(pl.col(columns).cast(pl.Float32)).to_numpy(), frame["psu"].to_numpy()
    directions = [-1 if name in ("Q23", "Q24", "Q25", "Q98") else 0 for name in columns]
    # the trees take a minute; the linear part alone must hold too
    how = fitting.Settings(folds=5 if is_storm else 3)
    for is_baseline in (True, False) if is_storm else (True,):
        found = fitting.left_out(
            x, truth, units, columns=columns, directions=directions, settings=how, is_baseline=is_baseline
        )
        judged = judging.judge(truth, found, units, draws=20)
        assert judged.auroc >= (least if is_storm else least - 0.01)
        assert judged.ece <= 0.05
        assert judged.ece_recalibrated <= 0.03
