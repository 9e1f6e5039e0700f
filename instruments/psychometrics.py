"""How well a scale measures in a site's own answers: alpha, omega, item-rest correlations, DIF between groups.

All functions take a frame with one column of KEYED scores per item: reversing is done, once. They use complete rows
only and say how many. A value is only as good as its n, so every value comes with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

FEWEST_ROWS = 50
"""Complete rows below which nothing is computed (ours)."""
FEWEST_IN_GROUP = 200
"""Rows that a group needs to be compared for DIF (Scott 2009 asks for 200 a group for ordinal logistic regression)."""
ALPHA_LEVEL = 0.01
"""Level of the likelihood-ratio test."""
SIZES = (0.035, 0.07)
"""Nagelkerke R2 change from which DIF is moderate and large (Jodoin & Gierl 2001)."""

_ROUNDS = 60
Floats = NDArray[np.float64]


class TooFewRows(ValueError):
    """Too few complete rows, or too few in two groups."""


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A reliability coefficient with its 95% interval (None where there is no formula for it)."""

    value: float
    low: float | None
    high: float | None
    n: int
    n_items: int


def alpha(items: pl.DataFrame) -> Coefficient:
    """Cronbach's alpha with Feldt's exact interval (1965, as in Feldt, Woodruff & Salih 1987).

    Raises `TooFewRows`, ValueError for fewer than 2 items or a total that does not vary.
    """
    scores = _complete(items)
    n, k = scores.shape
    value = _alpha(np.cov(scores, rowvar=False))
    low, high = special.fdtri(n - 1, (n - 1) * (k - 1), [0.975, 0.025])
    return Coefficient(value, 1 - (1 - value) * float(low), 1 - (1 - value) * float(high), n, k)


def omega(items: pl.DataFrame) -> Coefficient:
    """McDonald's omega total of one factor: the factor's part of the variance of the sum.

    Loadings by unweighted least squares (iterated principal axes) on the covariances. It has no interval here. It
    supposes ONE factor: for a total over several subscales, read it per subscale. Raises as `alpha` does.
    """
    scores = _complete(items)
    covariance = np.cov(scores, rowvar=False)
    _alpha(covariance)
    loadings = _one_factor(covariance)
    unique = np.clip(np.diag(covariance) - loadings**2, 0, None).sum()
    common = loadings.sum() ** 2
    return Coefficient(float(common / (common + unique)), None, None, *scores.shape)


def item_statistics(items: pl.DataFrame) -> pl.DataFrame:
    """A row per item: item, n, mean, sd, item_rest (correlation with the sum of the others), alpha_without.

    A negative item_rest is the usual mark of an item that was reversed twice or not at all. Null where an item does
    not vary. Raises as `alpha` does.
    """
    scores = _complete(items)
    covariance = np.cov(scores, rowvar=False)
    _alpha(covariance)
    variance = np.diag(covariance)
    with_rest = covariance.sum(0) - variance
    of_rest = covariance.sum() - 2 * covariance.sum(0) + variance
    with np.errstate(invalid="ignore", divide="ignore"):
        item_rest = with_rest / np.sqrt(variance * of_rest)
    keep = [np.delete(np.arange(len(variance)), one) for one in range(len(variance))]
    without = [_alpha(covariance[np.ix_(rest, rest)]) if len(rest) > 1 else None for rest in keep]
    return pl.DataFrame(
        {
            "item": items.columns,
            "n": [len(scores)] * items.width,
            "mean": scores.mean(0),
            "sd": np.sqrt(variance),
            "item_rest": pl.Series(item_rest, nan_to_null=True),
            "alpha_without": pl.Series(without, dtype=pl.Float64),
        }
    )


def dif(items: pl.DataFrame, group: pl.Series, *, purify: bool = True, fewest: int = FEWEST_IN_GROUP) -> pl.DataFrame:
    """Differential item functioning between groups, by ordinal logistic regression (Zumbo 1999; Crane 2006).

    For each item three proportional-odds models are compared: the score alone, with group, with group x score. The
    score is the sum of the items; with `purify` items found to differ are taken out of it (never the studied one)
    until the set stands still, as long as half of the items stay in. Groups under `fewest` complete rows and rows
    without a group are left out.

    Returns a row per item: item, n, n_groups, chi2_uniform, p_uniform, chi2_nonuniform, p_nonuniform, chi2_total,
    p_total, mcfadden and nagelkerke (R2 change of group and its interaction), size ("negligible", "moderate",
    "large" by `SIZES`, null where p_total >= ALPHA_LEVEL) and differs (p_total < ALPHA_LEVEL). With thousands of rows
    nearly every item differs: look at the size. A difference is a question about the item, not about the group.
    Raises `TooFewRows` when fewer than two groups remain.
    """
    scores, groups = _grouped(items, group, fewest)
    used = np.ones(items.width, dtype=np.bool_)
    seen: set[tuple[bool, ...]] = set()
    while True:
        seen.add(tuple(used.tolist()))
        found = [_dif_of(scores, one, groups, used) for one in range(items.width)]
        differs = np.array([row["p_total"] < ALPHA_LEVEL for row in found])
        is_settled = tuple((~differs).tolist()) in seen
        # With most of it out, the few that are left would decide what a difference is.
        if not purify or is_settled or 2 * (~differs).sum() < items.width:
            break
        used = ~differs
    frame = pl.DataFrame(
        [
            {"item": name, "n": len(scores), "n_groups": int(groups.max()) + 1, **row}
            for name, row in zip(items.columns, found, strict=True)
        ]
    )
    is_sure, moved = pl.col("p_total") < ALPHA_LEVEL, pl.col("nagelkerke")
    moderate, large = SIZES
    size = pl.when(moved >= large).then(pl.lit("large")).when(moved >= moderate).then(pl.lit("moderate"))
    return frame.with_columns(
        pl.when(is_sure).then(size.otherwise(pl.lit("negligible"))).alias("size"), is_sure.alias("differs")
    )


def _complete(items: pl.DataFrame) -> Floats:
    if items.width < 2:
        raise ValueError("a scale has at least 2 items")
    wrong = [name for name, kind in items.schema.items() if not kind.is_numeric()]
    if wrong:
        raise ValueError(f"these columns hold no numbers: {', '.join(wrong)}")
    complete = items.cast(pl.Float64).drop_nulls()
    if complete.height < FEWEST_ROWS:
        raise TooFewRows(f"{complete.height} complete rows; {FEWEST_ROWS} are needed")
    return complete.to_numpy()


def _alpha(covariance: Floats) -> float:
    k, total = len(covariance), float(covariance.sum())
    if total <= 0:
        raise ValueError("the sum of the items does not vary")
    return float(k / (k - 1) * (1 - np.trace(covariance) / total))


def _one_factor(covariance: Floats) -> Floats:
    """Loadings whose products come nearest to the covariances."""
    common = np.diag(covariance).copy() * 0.5
    loadings = np.zeros(len(covariance))
    for _ in range(2_000):
        reduced = covariance.copy()
        np.fill_diagonal(reduced, common)
        values, vectors = np.linalg.eigh(reduced)
        loadings = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
        # A part that is shared cannot exceed the whole (Heywood).
        better = np.minimum(loadings**2, np.diag(covariance))
        if np.abs(better - common).max() < 1e-9 * max(1.0, float(np.diag(covariance).max())):
            break
        common = better
    return loadings if loadings.sum() >= 0 else -loadings


def _grouped(items: pl.DataFrame, group: pl.Series, fewest: int) -> tuple[Floats, NDArray[np.intp]]:
    if len(group) != items.height:
        raise ValueError(f"{len(group)} group values for {items.height} rows")
    frame = items.cast(pl.Float64).with_columns(group.cast(pl.String).alias("·group")).drop_nulls()
    large = frame.group_by("·group").len().filter(pl.col("len") >= fewest)["·group"].sort()
    if len(large) < 2:
        raise TooFewRows(f"{len(large)} groups with {fewest} complete rows; 2 are needed")
    kept = frame.filter(pl.col("·group").is_in(large.implode()))
    order = {name: number for number, name in enumerate(large)}
    groups = kept["·group"].replace_strict(order, return_dtype=pl.Int64).to_numpy().astype(np.intp)
    return kept.drop("·group").to_numpy(), groups


def _dif_of(scores: Floats, item: int, groups: NDArray[np.intp], used: NDArray[np.bool_]) -> dict[str, float]:
    matching = used.copy()
    matching[item] = True
    total, place = np.unique(scores[:, matching].sum(1), return_inverse=True)
    answers = np.unique(scores[:, item], return_inverse=True)[1].reshape(-1)
    n_answers, n_groups = int(answers.max()) + 1, int(groups.max()) + 1
    if n_answers == 1:
        return dict.fromkeys(_DIF_NUMBERS, 0.0) | dict.fromkeys(("p_uniform", "p_nonuniform", "p_total"), 1.0)
    # Equal rows are counted once, so time grows with the different ones and not with the district.
    cells, counts = np.unique((place.reshape(-1) * n_groups + groups) * n_answers + answers, return_counts=True)
    kinds, answers = np.divmod(cells, n_answers)
    places, members = np.divmod(kinds, n_groups)
    weight = counts.astype(np.float64)
    n, n_more = len(scores), n_groups - 1
    trait = (total - total.mean()) / (total.std() or 1.0)
    trait = trait[places]
    member = (members[:, None] == np.arange(1, n_groups)).astype(np.float64)
    none, score, uniform, crossing = (
        log_likelihood(answers, design, weight)
        for design in (
            np.empty((len(cells), 0)),
            trait[:, None],
            np.column_stack([trait, member]),
            np.column_stack([trait, member, member * trait[:, None]]),
        )
    )
    steps = {
        "uniform": (2 * (uniform - score), n_more),
        "nonuniform": (2 * (crossing - uniform), n_more),
        "total": (2 * (crossing - score), 2 * n_more),
    }
    found = {}
    for name, (chi2, freedom) in steps.items():
        found[f"chi2_{name}"] = max(chi2, 0.0)
        found[f"p_{name}"] = float(special.chdtrc(freedom, max(chi2, 0.0)))
    found["mcfadden"] = (crossing - score) / -none
    top = -np.expm1(2 * none / n)
    found["nagelkerke"] = float((np.exp(2 * (none - score) / n) - np.exp(2 * (none - crossing) / n)) / top)
    return found


_DIF_NUMBERS = (
    "chi2_uniform", "p_uniform", "chi2_nonuniform", "p_nonuniform", "chi2_total", "p_total", "mcfadden", "nagelkerke",
)  # fmt: skip


def log_likelihood(answers: NDArray[np.intp], design: Floats, weight: Floats) -> float:
    """The highest log-likelihood of a proportional-odds model of ordered answers (0 .. J-1, all present).

    P(answer <= j) = logistic(a_j - design b). Newton's steps, halved where they overshoot; the surface is concave
    (Pratt 1981). `weight` says how often each row occurs. Raises ValueError when it does not converge (a design that
    separates the answers).
    """
    shares = np.cumsum(np.bincount(answers, weight))[:-1] / weight.sum()
    beta = np.concatenate([np.log(shares / (1 - shares)), np.zeros(design.shape[1])])
    upper, lower = _edges(answers, design, len(shares))
    value, gradient, hessian = _likelihood(beta, upper, lower, answers, len(shares), weight)
    for _ in range(_ROUNDS):
        step = np.linalg.lstsq(-hessian, gradient, rcond=None)[0]
        if float(gradient @ step) < 1e-8:
            return value
        for halving in range(30):
            moved = beta + step / 2**halving
            after = _likelihood(moved, upper, lower, answers, len(shares), weight)
            if after[0] >= value:
                break
        beta, (value, gradient, hessian) = moved, after
    raise ValueError("the proportional-odds model did not converge")


def _edges(y: NDArray[np.intp], x: Floats, n_cuts: int) -> tuple[Floats, Floats]:
    """Rows that turn the parameters into the upper and the lower edge of each answer's interval."""
    cuts = np.vstack([np.eye(n_cuts), np.zeros(n_cuts)])
    return np.column_stack([cuts[y], -x]), np.column_stack([cuts[y - 1], -x])


def _likelihood(
    beta: Floats, upper: Floats, lower: Floats, y: NDArray[np.intp], n_cuts: int, weight: Floats
) -> tuple[float, Floats, Floats]:
    high = np.where(y == n_cuts, np.inf, upper @ beta)
    low = np.where(y == 0, -np.inf, lower @ beta)
    at_high, at_low = special.expit(high), special.expit(low)
    chance = at_high - at_low
    if chance.min() <= 0:
        return -np.inf, np.zeros(len(beta)), np.eye(len(beta))
    slope_high, slope_low = at_high * (1 - at_high), at_low * (1 - at_low)
    score = (slope_high / chance)[:, None] * upper - (slope_low / chance)[:, None] * lower
    bend_high = weight * slope_high * (1 - 2 * at_high) / chance
    bend_low = weight * slope_low * (1 - 2 * at_low) / chance
    hessian: Floats = (
        upper.T @ (bend_high[:, None] * upper)
        - lower.T @ (bend_low[:, None] * lower)
        - score.T @ (weight[:, None] * score)
    )
    gradient: Floats = score.T @ weight
    return float(weight @ np.log(chance)), gradient, hessian
