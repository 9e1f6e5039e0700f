"""The indices themselves: arrays in, one number per row out, NaN where it cannot be computed. No loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from instruments.quality.battery import Floats, Places

FEWEST_OFF_MODE = 5
"""Fewer answers than this beside the commonest one say nothing about their order (ours): one honest "several days"
in a sheet of zeros would otherwise be the worst fit there can be."""
FEWEST_FACETS = 5
"""A correlation over fewer pairs of halves is noise (ours; Johnson 2005 had 30 facets)."""
N_SPLITS = 20
MOST_BLANK = 0.2
"""With a larger part of the questions blank, no distance is given (ours)."""


def off_mode(places: Places) -> NDArray[np.int64]:
    """How many answers of a row differ from its commonest place."""
    counts = np.stack([(places == place).sum(1) for place in range(int(places.max(initial=0)) + 1)])
    found: NDArray[np.int64] = (places >= 0).sum(1) - counts.max(0)
    return found


@dataclass(frozen=True, slots=True)
class Values:
    """Answers as 0 .. 1 of what each question allows: `filled` has 0 for a blank, `answered` 1 or 0 says which."""

    filled: Floats
    answered: Floats


def scaled(places: Places, n_steps: NDArray[np.int64]) -> Values:
    answered = places >= 0
    return Values(np.where(answered, places / n_steps, 0.0), answered.astype(np.float64))


def spread(values: Values) -> Floats:
    """Within-person standard deviation over all questions (intra-individual response variability, Dunn 2018)."""
    n = values.answered.sum(1)
    added, squares = values.filled.sum(1), np.square(values.filled).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n >= 2, np.sqrt(np.maximum(squares - added**2 / n, 0) / (n - 1)), np.nan)


def person_total(values: Values, means: Floats) -> Floats:
    """Correlation of a row with the reference's means of the questions it answered (Curran 2016)."""
    x, y = values.filled, np.nan_to_num(means)
    return _correlation(
        values.answered.sum(1),
        x.sum(1),
        values.answered @ y,
        np.square(x).sum(1),
        values.answered @ np.square(y),
        x @ y,
        fewest=3,
    )


def even_odd(values: Values, facets: Sequence[Sequence[int]]) -> Floats:
    """Consistency of two halves of each facet, over facets, lengthened by Spearman-Brown (Johnson 2005).

    The mean over the even-odd split and 19 fixed others, because one split is one accident (resampled individual
    reliability, Curran 2016). -1 .. 1, the lengthening mirrored below 0; needs `FEWEST_FACETS` facets with
    both halves answered.
    """
    wide = [list(facet) for facet in facets if len(facet) >= 2]
    n_rows = len(values.filled)
    if len(wide) < FEWEST_FACETS:
        return np.full(n_rows, np.nan)
    n, x1, y1, xx, yy, xy = (np.zeros((n_rows, N_SPLITS)) for _ in range(6))
    for number, facet in enumerate(wide):
        one, other, both = _halves(values, facet, _splits(len(facet), number))
        n += both
        x1 += one
        y1 += other
        xx += one * one
        yy += other * other
        xy += one * other
    r = _correlation(n, x1, y1, xx, yy, xy, fewest=FEWEST_FACETS)
    known = ~np.isnan(r)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, r, 0).sum(1) / known.sum(1)
    found: Floats = 2 * mean / (1 + np.abs(mean))
    return found


@lru_cache(maxsize=1_024)
def _splits(n_questions: int, number: int) -> Floats:
    """Questions x splits, 1 where the question is in the first half; the first split is even-odd.

    `number` is the facet's, so that facets of one size are not all split alike.
    """
    chance = np.random.default_rng(number)
    orders = [np.arange(n_questions), *(chance.permutation(n_questions) for _ in range(N_SPLITS - 1))]
    return np.stack([order % 2 == 0 for order in orders], axis=1).astype(np.float64)


def _halves(values: Values, facet: Sequence[int], splits: Floats) -> tuple[Floats, Floats, Floats]:
    """Means of both halves in every split, and 1 where both have an answer (else all three are 0)."""
    filled, answered = values.filled[:, facet], values.answered[:, facet]
    first, n_first = filled @ splits, answered @ splits
    second, n_second = filled.sum(1)[:, None] - first, answered.sum(1)[:, None] - n_first
    both = (n_first > 0) & (n_second > 0)
    first = np.where(both, first / np.maximum(n_first, 1), 0.0)
    second = np.where(both, second / np.maximum(n_second, 1), 0.0)
    return first, second, both.astype(np.float64)


def _correlation(n: Floats, x1: Floats, y1: Floats, xx: Floats, yy: Floats, xy: Floats, *, fewest: int) -> Floats:
    """Pearson's r from sums; NaN below `fewest` pairs or where one side does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sxx, syy = xx - x1 * x1 / n, yy - y1 * y1 / n
        r = (xy - x1 * y1 / n) / np.sqrt(sxx * syy)
        found: Floats = np.where((n >= fewest) & (sxx > 1e-9) & (syy > 1e-9), np.clip(r, -1, 1), np.nan)
    return found


@dataclass(frozen=True, slots=True)
class Ladder:
    """The steps of one facet by how many people take them: what a Guttman error is counted against.

    A step (question i answered at x or higher) passed while an easier one is failed is one error. With the steps
    ranked from easiest to hardest the errors of a row are the ranks of its passed steps, added up, less s(s-1)/2 for
    s passed steps; `weights` holds the added ranks by question and answer, `most` the worst that s steps allow.
    """

    columns: tuple[int, ...]
    weights: Floats
    most: Floats


def ladder(steps: Places, columns: Sequence[int], n_steps: NDArray[np.int64]) -> Ladder:
    """The ladder of the facet in `columns`, from a reference's keyed places (rows x questions, -1 blank)."""
    passed = []
    for row, column in enumerate(columns):
        answers = steps[:, column]
        answered = max(1, int((answers >= 0).sum()))
        for step in range(1, int(n_steps[column]) + 1):
            # Ties go by step, then by question, so that a step of one question never precedes an easier one of it.
            passed.append((-(answers >= step).sum() / answered, step, row))
    rank = {(row, step): place for place, (_, step, row) in enumerate(sorted(passed))}
    weights = np.zeros((len(columns), int(n_steps.max()) + 1))
    for row, column in enumerate(columns):
        for step in range(1, int(n_steps[column]) + 1):
            weights[row, step] = weights[row, step - 1] + rank[row, step]
    return Ladder(tuple(columns), weights, _most_errors(weights, [int(n_steps[c]) for c in columns]))


def _most_errors(weights: Floats, n_steps: Sequence[int]) -> Floats:
    """The largest number of errors for every number of passed steps: items are added one after the other."""
    best = np.zeros(1)
    for row, steps in enumerate(n_steps):
        wider = np.full(len(best) + steps, -np.inf)
        for step in range(steps + 1):
            reach = slice(step, step + len(best))
            wider[reach] = np.maximum(wider[reach], best + weights[row, step])
        best = wider
    s = np.arange(len(best))
    found: Floats = best - s * (s - 1) / 2
    return found


def guttman(steps: Places, ladders: Sequence[Ladder]) -> Floats:
    """Normed polytomous Guttman errors: errors over the most that such totals allow, all complete facets together.

    0 is the order that people in general have, about .45 no order at all, 1 the order upside down. NaN where no facet
    is complete or none leaves room for an error (all lowest, all highest).
    """
    errors, most = np.zeros(len(steps)), np.zeros(len(steps))
    for one in ladders:
        answers = steps[:, one.columns].astype(np.intp)
        is_complete = answers.min(axis=1) >= 0
        answers = np.where(is_complete[:, None], answers, 0)
        s = answers.sum(1)
        added = one.weights[np.arange(len(one.columns)), answers].sum(1)
        errors += np.where(is_complete, added - s * (s - 1) / 2, 0)
        most += np.where(is_complete, one.most[s], 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(most > 0, errors / most, np.nan)


def distance(values: Values, means: Floats, precision: Floats, is_used: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Squared Mahalanobis distance and its degrees of freedom.

    Over the answered questions only, exactly: a blank is put where it makes the distance smallest, which is the
    distance in the space without it. Rows with more than `MOST_BLANK` blank are NaN.
    """
    blank = values.answered[:, is_used] == 0
    n_blank = blank.sum(1)
    z = np.where(blank, 0.0, values.filled[:, is_used] - means[is_used])
    pulled = z @ precision
    found = (pulled * z).sum(1)
    n_used = int(is_used.sum())
    for count in np.unique(n_blank[(n_blank > 0) & (n_blank <= MOST_BLANK * n_used)]):
        rows = np.flatnonzero(n_blank == count)
        holes = np.nonzero(blank[rows])[1].reshape(len(rows), count)
        inside = precision[holes[:, :, None], holes[:, None, :]]
        pull = np.take_along_axis(pulled[rows], holes, 1)[:, :, None]
        found[rows] -= (pull * np.linalg.solve(inside, pull)).sum((1, 2))
    freedom = (n_used - n_blank).astype(np.float64)
    is_known = (n_blank <= MOST_BLANK * n_used) & (freedom > 0)
    return np.where(is_known, np.maximum(found, 0.0), np.nan), np.where(is_known, freedom, np.nan)


def longest_run(places: Places, is_reversed: NDArray[np.bool_]) -> Floats:
    """Longest run of one printed answer that crosses the keying, as a part of the form's questions.

    Only such runs contradict themselves; the same answer to questions keyed alike is a pattern of symptoms. 0 when no
    run crosses, NaN when nothing is answered.
    """
    n, k = places.shape
    run, turned, best = np.zeros(n), np.zeros(n), np.zeros(n)
    before = np.full(n, -1, dtype=np.int8)
    for column in range(k):
        here = places[:, column]
        goes_on = (here == before) & (here >= 0)
        run = np.where(goes_on, run + 1, here >= 0)
        turned = np.where(goes_on, turned, 0) + ((here >= 0) & is_reversed[column])
        best = np.where((turned > 0) & (turned < run), np.maximum(best, run), best)
        before = here
    return np.where((places >= 0).any(1), best / k, np.nan)


def weighted_median(values: Floats, weights: NDArray[np.int64]) -> Floats:
    """Median of each row where column j stands `weights[j]` times; NaN entries are left out."""
    order = np.argsort(values, axis=1)  # NaN last
    ranked = np.take_along_axis(values, order, 1)
    weight = np.where(np.isnan(ranked), 0, weights[order])
    reached = weight.cumsum(1)
    half = reached[:, -1] / 2
    low = (reached >= half[:, None]).argmax(1)
    high = (reached > half[:, None]).argmax(1)
    rows = np.arange(len(values))
    high = np.where(reached[rows, low] > half, low, high)
    median: Floats = (ranked[rows, low] + ranked[rows, high]) / 2
    return np.where(half > 0, median, np.nan)
