"""How good a model is, in plain numbers: order, calibration, what it finds within capacity, and whom it misses.

Everything takes weights, so that a student who stands for many because few like him were asked counts for as many.
Sources: Begg and Greenes 1983 (verification bias), Vickers and Elkin 2006 (net benefit), Wilson 1927 (intervals).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from screening.risk_model.fitting import Numbers, line_through

Interval = tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """The figures of one set of rows; shares are 0 to 1, intervals 95%."""

    rows: int
    positives: int
    prevalence: float
    auroc: float
    auroc_interval: Interval
    brier: float
    slope: float
    ece: float
    ece_recalibrated: float
    """After the level was moved to each group's own prevalence: what is left is shape."""
    share: float
    sensitivity: float
    ppv: float


@dataclass(frozen=True)
class CutPoint:
    """The best cut of a score, `>= cut`, by sensitivity plus specificity."""

    auroc: float
    cut: float
    sensitivity: float
    specificity: float

    @property
    def sum(self) -> float:
        return self.sensitivity + self.specificity


@dataclass(frozen=True)
class Missed:
    """Of those in need in one group, the share that is not found, and of how many; None for too few to tell."""

    group: str
    cases: int
    missed: float | None
    interval: Interval


@dataclass(frozen=True)
class Gap:
    """The largest difference of missed shares between two groups; None: too few cases to say.

    One group alone is compared with nothing, and errs no more for it than for anybody.
    """

    by: str
    groups: tuple[Missed, ...]
    gap: float | None
    interval: Interval | None

    @property
    def is_of_one(self) -> bool:
        """Whether there is nobody to compare with."""
        return len(self.groups) == 1


def auroc(truth: npt.ArrayLike, score: npt.ArrayLike, weight: Numbers | None = None) -> float:
    """The weighted chance that one in need scores above one who is not, ties counting half; NaN for one kind only."""
    y, s, w = _three(truth, score, weight)
    order = np.argsort(s, kind="stable")
    y, s, w = y[order], s[order], w[order]
    starts = np.flatnonzero(np.append(True, s[1:] != s[:-1]))
    positives, negatives = np.add.reduceat(w * y, starts), np.add.reduceat(w * (1 - y), starts)
    below = np.cumsum(negatives) - negatives
    both = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / both) if both > 0 else float("nan")


def interval(
    figure: Callable[[npt.NDArray[np.intp]], float], groups: npt.ArrayLike, *, draws: int = 400, seed: int = 1
) -> Interval:
    """The middle 95% of `figure` (of row numbers) over draws of whole groups: students of a school are alike."""
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    rows, sizes = np.argsort(of, kind="stable"), np.bincount(of, minlength=len(names))
    first = np.cumsum(sizes) - sizes
    chance = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = chance.integers(len(names), size=len(names))
        of_each = sizes[chosen]
        within = np.arange(of_each.sum()) - np.repeat(np.cumsum(of_each) - of_each, of_each)
        drawn.append(figure(rows[np.repeat(first[chosen], of_each) + within]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5]) if not np.isnan(drawn).all() else (float("nan"), float("nan"))
    return float(low), float(high)


def judge(
    truth: npt.ArrayLike,
    probability: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    weight: Numbers | None = None,
    share: float = 0.1,
    draws: int = 400,
) -> Judged:
    """Every figure of these probabilities; `share` is how many of all can be looked at."""
    y, p, w = _three(truth, probability, weight)
    of = np.asarray(groups)
    found, right = at_capacity(y, p, share, w)
    return Judged(
        rows=len(y),
        positives=int(y.sum()),
        prevalence=float(np.average(y, weights=w)),
        auroc=auroc(y, p, w),
        auroc_interval=interval(lambda rows: auroc(y[rows], p[rows], w[rows]), of, draws=draws),
        brier=float(np.average((p - y) ** 2, weights=w)),
        slope=line_through(log_odds(p), y, w)[0],
        ece=calibration_error(y, p, w),
        ece_recalibrated=calibration_error(y, at_own_level(y, p, of, w), w),
        share=share,
        sensitivity=found,
        ppv=right,
    )


def by_group(
    truth: npt.ArrayLike, probability: npt.ArrayLike, groups: npt.ArrayLike, of: npt.ArrayLike, *, share: float = 0.1
) -> dict[str, Judged]:
    """The same for each value of `of`, at one threshold for all: the one that takes `share` of everybody."""
    y, p, _ = _three(truth, probability, None)
    kinds, schools = np.asarray(of), np.asarray(groups)
    cut = threshold(p, share)
    found = {}
    for kind in np.unique(kinds[~_absent(kinds)]):
        rows = kinds == kind
        if 0 < y[rows].sum() < rows.sum():
            judged = judge(y[rows], p[rows], schools[rows], share=float((p[rows] >= cut).mean()), draws=200)
            found[str(kind)] = judged
    return found


def at_capacity(truth: Numbers, probability: Numbers, share: float, weight: Numbers | None = None) -> Interval:
    """(sensitivity, positive predictive value) when the top `share` of all is looked at; ties are taken in part."""
    y, p, w = _three(truth, probability, weight)
    order = np.argsort(-p, kind="stable")
    room = share * w.sum()
    _, tied = np.unique(-p[order], return_inverse=True)
    size, cases = np.bincount(tied, w[order]), np.bincount(tied, (w * y)[order])
    taken = np.clip((room - (np.cumsum(size) - size)) / np.maximum(size, 1e-12), 0, 1)
    found = float((taken * cases).sum())
    return found / max(float((w * y).sum()), 1e-12), found / max(float((taken * size).sum()), 1e-12)


def threshold(probability: Numbers, share: float, weight: Numbers | None = None) -> float:
    """The least probability of the top `share`; infinite when nobody is to be taken."""
    p = np.asarray(probability, dtype=np.float64)
    w = np.ones(len(p)) if weight is None else weight
    order = np.argsort(-p, kind="stable")
    taken = int(np.searchsorted(np.cumsum(w[order]), share * w.sum() + 1e-9, side="right"))
    return float(p[order][taken - 1]) if taken else float("inf")


def calibration_error(truth: Numbers, probability: Numbers, weight: Numbers | None = None, bins: int = 10) -> float:
    """Expected calibration error: the mean distance of said and seen over bins of equal weight."""
    y, p, w = _three(truth, probability, weight)
    order = np.argsort(p, kind="stable")
    place = np.minimum((np.cumsum(w[order]) - w[order] / 2) / w.sum() * bins, bins - 1).astype(int)
    said, seen = np.bincount(place, (w * p)[order], bins), np.bincount(place, (w * y)[order], bins)
    return float(np.abs(said - seen).sum() / w.sum())


def at_own_level(truth: Numbers, probability: Numbers, groups: npt.ArrayLike, weight: Numbers | None = None) -> Numbers:
    """The probabilities with each group's level moved to that group's prevalence, shape untouched."""
    y, p, w = _three(truth, probability, weight)
    of, found = np.asarray(groups), p.copy()
    for group in np.unique(of):
        rows = of == group
        wanted, low, high = np.average(y[rows], weights=w[rows]), -20.0, 20.0
        margins = log_odds(p[rows])
        for _ in range(60):
            middle = (low + high) / 2
            is_below = np.average(_share(margins + middle), weights=w[rows]) < wanted
            low, high = (middle, high) if is_below else (low, middle)
        found[rows] = _share(margins + (low + high) / 2)
    return found


def log_odds(probability: Numbers) -> Numbers:
    p = np.clip(probability, 1e-9, 1 - 1e-9)
    found: Numbers = np.log(p / (1 - p))
    return found


def net_benefit(truth: Numbers, chosen: npt.NDArray[np.bool_], at: float, weight: Numbers | None = None) -> float:
    """True positives less false ones at the exchange rate that a threshold probability `at` stands for, per student."""
    y, picked, w = _three(truth, chosen, weight)
    return float((w * picked * (y - (1 - y) * at / (1 - at))).sum() / w.sum())


def best_cut(truth: npt.ArrayLike, score: npt.ArrayLike) -> CutPoint:
    """The cut of a score at which sensitivity and specificity add up highest; the higher cut where two tie."""
    y, s, _ = _three(truth, score, None)
    cuts = np.unique(s)
    sensitivity = np.array([(s[y == 1] >= cut).mean() for cut in cuts])
    specificity = np.array([(s[y == 0] < cut).mean() for cut in cuts])
    best = len(cuts) - 1 - int((sensitivity + specificity)[::-1].argmax())
    return CutPoint(auroc(y, s), float(cuts[best]), float(sensitivity[best]), float(specificity[best]))


def missed_by(
    by: str,
    of: npt.ArrayLike,
    truth: Numbers,
    is_found: npt.NDArray[np.bool_],
    weight: Numbers | None = None,
    *,
    kinds: Collection[str] = (),
    least_cases: int = 20,
) -> Gap:
    """How many of those in need are missed in each value of `of`, and the widest gap between two.

    A value with fewer than `least_cases` in need, or with none at all, leaves the gap unsaid; `kinds` names values that
    there are beyond these rows.
    """
    y, found, w = _three(truth, is_found, weight)
    values = np.asarray(of)
    every = sorted({str(kind) for kind in values[~_absent(values)]} | set(kinds))
    rows = [(kind, (values == kind) & (y == 1)) for kind in every]
    missed = tuple(_missed(kind, found[mask], w[mask], least_cases) for kind, mask in rows)
    shares = [(one.missed, one) for one in missed if one.missed is not None]
    if len(shares) < 2 or len(shares) < len(missed):
        return Gap(by, missed, None, None)
    high, low = max(shares, key=lambda pair: pair[0]), min(shares, key=lambda pair: pair[0])
    return Gap(by, missed, high[0] - low[0], _difference(*high, *low))


def wilson(share: float, n: float) -> Interval:
    """Wilson's 95% interval of a share out of n; (0, 1) for none."""
    if n <= 0:
        return 0.0, 1.0
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def corrected_sensitivity(
    truth: Numbers,
    is_flagged: npt.NDArray[np.bool_],
    weight: Numbers,
    *,
    is_asked_by_lot: npt.NDArray[np.bool_] | None = None,
    draws: int = 1000,
    seed: int = 1,
) -> tuple[float, Interval]:
    """Sensitivity of a flag when the unflagged were asked by lot: each asked student counts for 1 / his probability.

    Begg and Greenes' correction by inverse probability. The interval is drawn within those asked by lot (None: the
    unflagged) and the others apart, as they were sampled. It is (0, 1) when the lot found nobody in need, because then
    it says nothing, and Wilson's where it found some and the flag had them all.
    """
    y, flagged, w = _three(truth, is_flagged, weight)
    by_lot = flagged == 0 if is_asked_by_lot is None else is_asked_by_lot
    whole = float((w * y).sum())
    figure = float((w * y * flagged).sum() / whole) if whole else float("nan")
    if not (y * by_lot).any():
        return figure, (0.0, 1.0)
    if not (y * (1 - flagged)).any():
        cases = w[y == 1]
        return figure, wilson(figure, float(cases.sum() ** 2 / (cases**2).sum()))
    chance = np.random.default_rng(seed)
    parts = [np.flatnonzero(by_lot == kind) for kind in (False, True)]
    drawn = []
    for _ in range(draws):
        rows = np.concatenate([chance.choice(part, len(part)) for part in parts if len(part)])
        cases = w[rows] * y[rows]
        drawn.append(float((cases * flagged[rows]).sum() / cases.sum()) if cases.sum() else np.nan)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return figure, (float(low), float(high))


def deciles(probability: Numbers, weight: Numbers) -> list[float]:
    """The nine cuts between tenths of weight."""
    order = np.argsort(probability)
    at = np.searchsorted(np.cumsum(weight[order]), np.arange(1, 10) / 10 * weight.sum())
    return [float(probability[order][min(place, len(order) - 1)]) for place in at]


def shift(said: Numbers, tenths: Sequence[float]) -> float:
    """Population stability index over the deciles of the reference: 0 the same, above 0.2 another population."""
    edges = np.unique(tenths)
    expected = np.bincount(np.searchsorted(edges, tenths), minlength=len(edges) + 1) / 10
    expected[-1] += 1 - expected.sum()
    seen = np.bincount(np.searchsorted(edges, said), minlength=len(edges) + 1) / len(said)
    expected, seen = np.clip(expected, 0.005, None), np.clip(seen, 0.005, None)
    return float(((seen - expected) * np.log(seen / expected)).sum())


def _missed(kind: str, found: Numbers, weight: Numbers, least_cases: int) -> Missed:
    if len(found) < max(1, least_cases):  # of few, a share would tell of each
        return Missed(kind, len(found), None, (0.0, 1.0))
    share = float(np.average(1 - found, weights=weight))
    # the number of equally weighted students who would tell as much (Kish)
    return Missed(kind, len(found), share, wilson(share, float(weight.sum() ** 2 / (weight**2).sum())))


def _difference(high: float, of_high: Missed, low: float, of_low: Missed) -> Interval:
    """Newcombe's interval of a difference, from the two intervals."""
    gap = high - low
    below = np.hypot(high - of_high.interval[0], of_low.interval[1] - low)
    above = np.hypot(of_high.interval[1] - high, low - of_low.interval[0])
    return float(gap - below), float(gap + above)


def _three(first: npt.ArrayLike, second: npt.ArrayLike, weight: Numbers | None) -> tuple[Numbers, Numbers, Numbers]:
    y, s = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return y, s, np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)


def _absent(kinds: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.array([kind is None or kind != kind for kind in kinds.tolist()], dtype=bool)


def _share(margins: Numbers) -> Numbers:
    found: Numbers = 1 / (1 + np.exp(-np.clip(margins, -40, 40)))
    return found
