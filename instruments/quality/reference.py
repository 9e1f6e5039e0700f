"""The people a sheet is compared with: means, distances, ladders and ranks, from a sample large enough."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from instruments.quality import indices
from instruments.quality.battery import Battery, Floats, Places, places_of, steps_of
from instruments.quality.indices import Values

FEWEST_PEOPLE = 100
"""Below this there is no reference, and every index that needs one is null (ours)."""
FEWEST_PER_QUESTION = 5
"""People with complete sheets per question, below which covariances and so distances are not trusted (ours)."""

_N_RANKS = 401


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What `of_sample` learned: n people; no answer of anybody can be read from it below FEWEST_PEOPLE of them.

    `precision` is None when there were too few complete sheets. `ranks` maps an index to values and their percentiles.
    """

    n: int
    battery: Battery
    means: Floats
    precision: Floats | None
    is_used: NDArray[np.bool_]
    ladders: tuple[indices.Ladder, ...]
    ranks: dict[str, tuple[Floats, Floats]]

    def percentile(self, index: str, values: Floats) -> Floats:
        """Mid-rank percentile, 0 .. 1, of values among the reference; NaN where the value or the ranks are missing.

        Straight lines join the ranks, so that the last digit of a sum never decides.
        """
        if index not in self.ranks:
            return np.full(len(values), np.nan)
        known, rank = self.ranks[index]
        return np.where(np.isnan(values), np.nan, np.interp(values, known, rank))


def of_sample(answers: pl.DataFrame, battery: Battery) -> Reference | None:
    """The reference that a sample's answers make, or None when fewer than FEWEST_PEOPLE answered anything.

    The ranks of the indices are added by the caller, who knows how they are computed (`ranked`).
    """
    questions = battery.questions
    places = places_of(answers, battery)
    answered = (places >= 0).any(1)
    n = int(answered.sum())
    if n < FEWEST_PEOPLE:
        return None
    places = places[answered]
    values = indices.scaled(places, np.array([question.n_places for question in questions]))
    precision, is_used = _precision(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = values.filled.sum(0) / values.answered.sum(0)
    return Reference(n, battery, means, precision, is_used, _ladders(steps_of(places, questions), battery), {})


def ranked(reference: Reference, columns: dict[str, Floats]) -> Reference:
    """The same reference with the percentiles of these indices."""
    ranks: dict[str, tuple[Floats, Floats]] = {}
    for name, values in columns.items():
        known, counts = np.unique(values[~np.isnan(values)], return_counts=True)
        if counts.sum() >= FEWEST_PEOPLE:
            rank = (counts.cumsum() - counts / 2) / counts.sum()
            some = np.linspace(0, len(known) - 1, min(len(known), _N_RANKS)).round().astype(np.intp)
            ranks[name] = known[some], rank[some]
    return replace(reference, ranks=ranks)


def _precision(values: Values) -> tuple[Floats | None, NDArray[np.bool_]]:
    """Inverse covariance over the questions that vary, from complete sheets."""
    complete = values.filled[values.answered.all(1)]
    if len(complete) < max(FEWEST_PEOPLE, FEWEST_PER_QUESTION * complete.shape[1]):
        return None, np.zeros(complete.shape[1], dtype=np.bool_)
    is_used: NDArray[np.bool_] = complete.max(0) > complete.min(0)
    if is_used.sum() < 2:
        return None, is_used
    covariance = np.cov(complete[:, is_used], rowvar=False)
    if np.linalg.matrix_rank(covariance, hermitian=True) < len(covariance):
        return None, is_used
    return np.asarray(np.linalg.inv(covariance), dtype=np.float64), is_used


def _ladders(steps: Places, battery: Battery) -> tuple[indices.Ladder, ...]:
    n_steps = np.array([question.n_steps for question in battery.questions])
    column = {question.id: number for number, question in enumerate(battery.questions)}
    facets = [[column[name] for name in facet] for facet in battery.facets if len(facet) >= 3]
    return tuple(indices.ladder(steps, facet, n_steps) for facet in facets)
