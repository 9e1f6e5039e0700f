"""Whether a score has changed by more than its error: only where a retest coefficient and its source are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

FEWEST_RETESTS = 200
"""Pairs below which a site's own coefficient is not estimated (our design default)."""
CHANGE = pl.Enum(["better", "no_reliable_change", "worse"])

_Z = 1.96


class NoReliability(LookupError):
    """No coefficient that may be used; the message says for what, and what was seen instead."""

    def __str__(self) -> str:
        return str(self.args[0])


class TooFewRetests(ValueError):
    """Fewer than FEWEST_RETESTS pairs."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """A retest correlation and the standard deviation of the first scores, both of ONE sample.

    `days` is the usual time between the two, `sample` who they were, `source` where it stands or who estimated it and
    when. Alpha is no retest correlation: it says nothing about change over weeks.
    """

    instrument: str
    form: str
    scale: str
    retest_r: float
    sd: float
    n: int
    days: int
    sample: str
    source: str

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.retest_r < 1:
            problems.append(f"a retest correlation lies between 0 and 1, not {self.retest_r}")
        if not (math.isfinite(self.sd) and self.sd > 0):
            problems.append(f"a standard deviation is above 0, not {self.sd}")
        if self.n < 2 or self.days < 1:
            problems.append("n is at least 2 and days at least 1")
        problems += [f"{name} is empty" for name in ("sample", "source") if not getattr(self, name).strip()]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def threshold(self) -> float:
        """The difference that reliable change reaches: 1.96 standard errors of a difference (Jacobson & Truax 1991)."""
        return _Z * math.sqrt(2) * self.sd * math.sqrt(1 - self.retest_r)

    @property
    def r_interval(self) -> tuple[float, float]:
        """95% interval of the retest correlation (Fisher's z); (-1, 1) for fewer than 4 pairs."""
        if self.n < 4:
            return -1.0, 1.0
        z, half = math.atanh(self.retest_r), _Z / math.sqrt(self.n - 3)
        return math.tanh(z - half), math.tanh(z + half)


WITHOUT_SD: Mapping[str, str] = {
    "phqa": "r .70 over 1 week in patients of 12-18, doi 10.1186/s12888-024-05783-3",
    "phq9": "r .74 over 2 weeks in adult patients, PMC7525967",
    "ais": "r .80 over 2 weeks in Hong Kong pupils of 12-19, PMID 21493134",
    "scared": "r .57 to .61 in Chinese pupils, Wang 2005",
}
"""Retest correlations that were seen without the standard deviation of the same sample: no threshold follows."""


def reliability_of(instrument: str, form: str, scale: str, known: Iterable[Reliability]) -> Reliability:
    """The coefficient for this scale of this form; of several the one with the largest sample.

    `known` is what a site has: nothing ships, because no instrument of the library had both a retest correlation and
    a standard deviation from one sample of pupils. Raises `NoReliability`, which says what is missing.
    """
    fitting = [one for one in known if (one.instrument, one.form, one.scale) == (instrument, form, scale)]
    if fitting:
        return max(fitting, key=lambda one: one.n)
    seen = WITHOUT_SD.get(instrument)
    raise NoReliability(
        f"no reliable change for {instrument} ({form}, {scale}): no retest correlation and standard deviation of one"
        f" sample are known"
        + (f"; seen without a standard deviation: {seen}" if seen else "")
        + f". {FEWEST_RETESTS} retests of one's own give one"
    )


def judge(before: pl.Series, after: pl.Series, reliability: Reliability, *, is_high_good: bool) -> pl.DataFrame:
    """Each pair of scores of one scale: difference (after - before, Float64) and change (`CHANGE`).

    Null where either score is. "better" and "worse" need a difference of at least the threshold. A drop may be
    regression to the mean: it proposes looking again, and lowers nothing by itself.
    """
    _check_pairs(before, after)
    gain = 1 if is_high_good else -1
    # A score and its threshold come from sums of whole numbers; the margin is for their last binary digit.
    limit = reliability.threshold - 1e-9
    return pl.DataFrame({"difference": after.cast(pl.Float64) - before.cast(pl.Float64)}).with_columns(
        pl.when(pl.col("difference") * gain >= limit)
        .then(pl.lit("better", CHANGE))
        .when(pl.col("difference") * gain <= -limit)
        .then(pl.lit("worse", CHANGE))
        .when(pl.col("difference").is_not_null())
        .then(pl.lit("no_reliable_change", CHANGE))
        .alias("change")
    )


def re_estimate(
    before: pl.Series, after: pl.Series, *, instrument: str, form: str, scale: str, days: int, sample: str, source: str
) -> Reliability:
    """A site's own coefficient from pairs of VALID scores, taken without treatment or crisis between the two.

    `source` should say who estimated it and on which date. Pairs with a null are left out. Raises `TooFewRetests`
    below FEWEST_RETESTS pairs, ValueError when the scores do not vary or do not correlate positively.
    """
    _check_pairs(before, after)
    pairs = pl.DataFrame({"before": before.cast(pl.Float64), "after": after.cast(pl.Float64)}).drop_nulls()
    if pairs.height < FEWEST_RETESTS:
        raise TooFewRetests(f"{pairs.height} retests of {instrument} ({form}, {scale}); {FEWEST_RETESTS} are needed")
    first, second = pairs["before"].to_numpy(), pairs["after"].to_numpy()
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ValueError(f"the scores of {instrument} ({form}, {scale}) do not vary")
    return Reliability(
        instrument=instrument,
        form=form,
        scale=scale,
        retest_r=float(np.corrcoef(first, second)[0, 1]),
        sd=float(first.std(ddof=1)),
        n=pairs.height,
        days=days,
        sample=sample,
        source=source,
    )


def _check_pairs(before: pl.Series, after: pl.Series) -> None:
    if len(before) != len(after):
        raise ValueError(f"{len(before)} first scores and {len(after)} second ones are no pairs")
