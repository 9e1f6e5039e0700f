"""Fits a model that lives with whole questions missing at a school, and whose symptoms only ever count upwards.

The margin (log-odds) is the mean of two: a ridge logistic regression on standardised answers, in which the other
answers stand in for a missing one as far as they tell of it, and gradient-boosted trees that were shown the same
students a second time with whole questions blanked out, school by school. Neither learns "this question was not asked
here", which would be true of a school and of no student. One line through the margins of schools left out of the fit
makes probabilities of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from screening.risk_model.trees import Trees, flattened

Numbers = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.floating[Any]]
"""A row per student, a column per feature, NaN for what is missing."""

PREDICTED_AT_ONCE = 2_048
"""Rows: few enough for all that is asked of them to stay in the processor's cache."""
_STRENGTH = 3.2
"""Of the ridge, for each column: 1 / C of the usual notation, for rows of mean weight 1. So the margin as a whole is
expected to spread as far with few columns as with many."""
_REACH = 4.0
"""Standard deviations from the average beyond which an answer counts no further."""


_FEWEST = 50
"""Answers to a question before others may stand in for it."""
_LIKENESS = 200.0
"""Ridge of the regressions by which answers stand in for each other."""


@dataclass(frozen=True)
class Linear:
    """A ridge logistic regression on standardised features.

    `stand_ins[j, k]` is what answer k adds for feature j where j is missing; where nothing stands in, a missing answer
    counts as the average. None of it may make a symptom count downwards.
    """

    center: Numbers
    scale: Numbers
    weights: Numbers
    stand_ins: Numbers
    intercept: float

    def margin(self, by_column: Matrix) -> Numbers:
        """Log-odds of each student; `by_column` has a row per feature and a column per student."""
        z = by_column - self.center[:, None]
        z /= self.scale[:, None]
        np.clip(z, -_REACH, _REACH, out=z)
        is_missing = np.isnan(z)
        z[is_missing] = 0.0
        some = np.flatnonzero(is_missing.any(axis=1))
        counted = self.stand_ins[some].T @ is_missing[some].astype(np.float64)
        counted += self.weights[:, None]
        counted *= z
        found: Numbers = counted.sum(axis=0) + self.intercept
        return found


@dataclass(frozen=True)
class Model:
    """What was fitted. `directions` says of each column whether a higher value counts up (1), down (-1) or either (0).

    Without `trees` the linear part stands alone, as in the baseline.
    """

    columns: tuple[str, ...]
    directions: tuple[int, ...]
    linear: Linear
    trees: Trees | None
    slope: float
    offset: float

    def margin(self, x: Matrix) -> Numbers:
        """Log-odds before calibration, a number a row."""
        _must_fit(x, self.columns)
        found = np.empty(len(x))
        with _one_thread(len(x)):
            for start in range(0, len(x), PREDICTED_AT_ONCE):
                part = slice(start, start + PREDICTED_AT_ONCE)
                by_column = np.ascontiguousarray(x[part].T, dtype=np.float32)
                found[part] = self.linear.margin(by_column)
                if self.trees is not None:
                    found[part] = (found[part] + self.trees.margin(by_column)) / 2
        return found

    def probability(self, x: Matrix) -> Numbers:
        """The calibrated probability of a need that a talk would confirm, 0 to 1, a number a row."""
        return _logistic(self.offset + self.slope * self.margin(x))

    def recalibrated(self, x: Matrix, prevalence: float) -> "Model":
        """The same model with its level moved so that these rows have `prevalence` on average."""
        margins = self.slope * self.margin(x)
        return replace(self, offset=_level(margins, prevalence))


@dataclass(frozen=True)
class Settings:
    """How a model is fitted; everything random hangs on `seed`."""

    seed: int = 1
    folds: int = 5
    rounds: int = 120
    leaves: int = 4
    rate: float = 0.1
    threads: int = 1
    blanked: float = 0.5
    """At a made-up school up to this share of the questions is blanked in the second showing."""


def fit(
    x: Matrix,
    y: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    columns: Sequence[str],
    directions: Sequence[int],
    weights: Numbers | None = None,
    settings: Settings = Settings(),
    is_baseline: bool = False,
) -> Model:
    """Fits on all rows, and calibrates on margins of groups (schools) that the fit had not seen.

    `x`: a row per student; `y`: 1 where the need was confirmed; `groups`: the school of each; `weights`: how many
    students each stands for (None: one). Raises ValueError for fewer than two groups, or labels of one kind only.
    """
    truth, weight = _checked(x, y, columns, directions, weights)
    margins = np.empty(len(truth))
    for inside, outside in folds(groups, settings.folds, settings.seed):
        part = _fitted(x[inside], truth[inside], columns, directions, weight[inside], settings, is_baseline)
        margins[outside] = part.margin(x[outside])
    slope, offset = line_through(margins, truth, weight)
    whole = _fitted(x, truth, columns, directions, weight, settings, is_baseline)
    # a line that falls would turn every symptom round
    return replace(whole, slope=max(slope, 0.05), offset=offset)


def left_out(
    x: Matrix,
    y: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    columns: Sequence[str],
    directions: Sequence[int],
    weights: Numbers | None = None,
    settings: Settings = Settings(),
    is_baseline: bool = False,
) -> Numbers:
    """Probabilities for each row from a model, calibration included, that saw no row of that row's group."""
    truth, weight = _checked(x, y, columns, directions, weights)
    of = np.asarray(groups)
    found = np.empty(len(truth))
    for inside, outside in folds(of, settings.folds, settings.seed):
        part = fit(
            x[inside],
            truth[inside],
            of[inside],
            columns=columns,
            directions=directions,
            weights=weight[inside],
            settings=settings,
            is_baseline=is_baseline,
        )
        found[outside] = part.probability(x[outside])
    return found


def folds(
    groups: npt.ArrayLike, count: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """(inside, outside) masks of a cross-validation in which a group is never on both sides, of about equal size."""
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("at least two groups are needed to leave one out")
    sizes = np.bincount(of)
    count = min(count, len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    home, load = np.empty(len(names), dtype=int), np.zeros(count)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        home[group] = int(load.argmin())
        load[home[group]] += sizes[group]
    for fold in range(count):
        outside = home[of] == fold
        yield ~outside, outside


def line_through(margins: Numbers, truth: Numbers, weight: Numbers | None = None) -> tuple[float, float]:
    """Slope and offset of the logistic line of `truth` on `margins` (Platt), by Newton's method.

    A hair of ridge on the slope keeps it finite where the margins part the two kinds wholly.
    """
    share = np.ones(len(truth)) if weight is None else weight
    x = np.column_stack([margins, np.ones(len(margins))])
    ridge = np.array([1e-3, 0.0])
    found = np.array([1.0, 0.0])
    for _ in range(50):
        expected = _logistic(x @ found)
        gradient = x.T @ (share * (truth - expected)) - ridge * (found - [1.0, 0.0])
        hessian = (x * (share * expected * (1 - expected))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
        found = found + step
        if np.abs(step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])


def _checked(
    x: Matrix, y: npt.ArrayLike, columns: Sequence[str], directions: Sequence[int], weights: Numbers | None
) -> tuple[Numbers, Numbers]:
    _must_fit(x, columns)
    truth = np.asarray(y, dtype=np.float64)
    if len(directions) != len(columns) or len(truth) != len(x):
        raise ValueError("directions go with columns, labels with rows")
    if not 0 < truth.sum() < len(truth):
        raise ValueError("labels of both kinds are needed")
    return truth, np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)


def _must_fit(x: Matrix, columns: Sequence[str]) -> None:
    if x.ndim != 2 or x.shape[1] != len(columns):
        raise ValueError(f"{len(columns)} columns are needed, not {x.shape}")


def _fitted(
    x: Matrix,
    truth: Numbers,
    columns: Sequence[str],
    directions: Sequence[int],
    weight: Numbers,
    settings: Settings,
    is_baseline: bool,
) -> Model:
    return Model(
        columns=tuple(columns),
        directions=tuple(directions),
        linear=_linear(x, truth, directions, weight),
        trees=None if is_baseline else _trees(x, truth, directions, weight, settings),
        slope=1.0,
        offset=0.0,
    )


def _linear(x: Matrix, truth: Numbers, directions: Sequence[int], weight: Numbers) -> Linear:
    """Bounded where a column has a direction: a symptom may count for nothing, never the other way."""
    from scipy.optimize import minimize

    center, scale = _usual(x, weight)
    z = np.clip((x - center) / scale, -_REACH, _REACH)
    is_missing = np.isnan(z)
    z[is_missing] = 0.0
    alike = _alike(z, is_missing, weight)
    filled = np.where(is_missing, z @ alike.T, z)
    level = np.log(np.average(truth, weights=weight) / (1 - np.average(truth, weights=weight)))
    share = weight / weight.mean()

    ridge = _STRENGTH * x.shape[1]

    def loss(found: Numbers) -> tuple[float, Numbers]:
        margins = filled @ found[:-1] + found[-1]
        wrong = share * (_logistic(margins) - truth)
        value = (share * (np.logaddexp(0, margins) - truth * margins)).sum() + ridge / 2 * found[:-1] @ found[:-1]
        return float(value), np.append(filled.T @ wrong + ridge * found[:-1], wrong.sum())

    bounds = [(0.0 if d > 0 else None, 0.0 if d < 0 else None) for d in directions]
    start = np.append(np.zeros(x.shape[1]), level)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)]).x
    weights = np.asarray(best[:-1])
    stand_ins = weights[:, None] * alike
    stand_ins[stand_ins * np.asarray(directions) < 0] = 0.0
    return Linear(center, scale, weights, stand_ins, float(best[-1]))


def _usual(x: Matrix, weight: Numbers) -> tuple[Numbers, Numbers]:
    """Average and spread of each column as far as it was answered."""
    counted = np.maximum((~np.isnan(x) * weight[:, None]).sum(0), 1e-12)
    center = np.nansum(x * weight[:, None], axis=0) / counted
    spread = np.nansum(weight[:, None] * (x - center) ** 2, axis=0) / counted
    return center, np.where(spread > 1e-12, np.sqrt(np.maximum(spread, 1e-12)), 1.0)


def _alike(z: Numbers, is_missing: npt.NDArray[np.bool_], weight: Numbers) -> Numbers:
    """What each answer says of each other one: row j are the slopes of answer j on all others, ridged."""
    share = weight / weight.mean()
    inverse = np.linalg.inv((z * share[:, None]).T @ z + _LIKENESS * np.eye(z.shape[1]))
    answered = (~is_missing * share[:, None]).sum(0)
    found: Numbers = -inverse / np.diag(inverse)[:, None]
    # a missing answer stood at the average, which makes every slope smaller by as much as it was missing
    found *= (share.sum() / np.maximum(answered, 1.0))[:, None]
    np.fill_diagonal(found, 0.0)
    found[answered < _FEWEST] = 0.0
    return found


def _trees(x: Matrix, truth: Numbers, directions: Sequence[int], weight: Numbers, settings: Settings) -> Trees:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    shown = np.vstack([x, _blanked(x, settings)])
    shown[:, np.isnan(x).all(axis=0)] = 0.0  # a column that nobody answered makes the binning fail
    trees = HistGradientBoostingClassifier(
        learning_rate=settings.rate,
        max_iter=settings.rounds,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=int(np.clip(len(x) // 50, 5, 40)),
        l2_regularization=5.0,
        max_features=0.3,
        monotonic_cst=list(directions),
        early_stopping=False,
        random_state=settings.seed,
    )
    # more threads than idle cores wait for each other, ten times as long as one alone works
    with threadpool_limits(settings.threads, user_api="openmp"):
        return flattened(trees.fit(shown, np.tile(truth, 2), sample_weight=np.tile(weight / weight.mean(), 2)))


def _blanked(x: Matrix, settings: Settings) -> Matrix:
    """The same students at made-up schools, each of which left out some questions altogether."""
    chance = np.random.default_rng(settings.seed)
    found = x.copy()
    for school in np.array_split(chance.permutation(len(x)), 20):
        left_out_here = chance.random(x.shape[1]) < chance.uniform(0, settings.blanked)
        found[np.ix_(school, np.flatnonzero(left_out_here))] = np.nan
    return found


@contextmanager
def _one_thread(rows: int) -> Iterator[None]:
    """For many rows: where others work too, the threads of BLAS wait for each other longer than one alone works."""
    if rows <= PREDICTED_AT_ONCE:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def _logistic(margins: Numbers) -> Numbers:
    found: Numbers = 1 / (1 + np.exp(-np.clip(margins, -40, 40)))
    return found


def _level(margins: Numbers, prevalence: float) -> float:
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _logistic(margins + middle).mean() < prevalence else (low, middle)
    return (low + high) / 2
