"""Where a score stands among a site's own valid results: percentile by grade and sex, with n and date."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

FEWEST_IN_CELL = 100
"""Valid results below which a grade and sex has no norm (ours): the 95th percentile then has a standard error of about
2 points, and nobody's own score can be read from the table."""

_COLUMNS = {"grade": pl.Int16, "sex": pl.String, "score": pl.Float64}


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Percentiles of one scale of one form.

    `table`: grade, sex (null: both together, unknown sex included), n, score, below, upto (results under and up to
    that score). `taken_on` is the day on which the results were taken together, `n` how many were used.
    """

    instrument: str
    form: str
    scale: str
    taken_on: dt.date
    n: int
    table: pl.DataFrame

    def cells(self) -> pl.DataFrame:
        """The groups that have a norm: grade, sex (null: both), n; by grade, both sexes first."""
        return self.table.select("grade", "sex", "n").unique().sort("grade", "sex", nulls_last=False)

    def percentile(self, students: pl.DataFrame) -> pl.DataFrame:
        """`students` (grade, sex, score) -> percentile (0 .. 100, mid-rank), n and taken_on, in the same order.

        Who has no sex on file is compared with the whole grade. Percentile and n are null where the score is, or where
        the grade and sex had too few valid results: there is no silent fallback to another group.
        """
        asked = _typed(students).with_row_index("place")
        known = asked.filter(pl.col("score").is_not_null() & pl.col("grade").is_not_null())
        found = (
            known.with_columns(pl.col("sex").fill_null(_BOTH))
            .sort("score")
            .join_asof(
                self.table.with_columns(pl.col("sex").fill_null(_BOTH)).sort("score"),
                on="score",
                by=["grade", "sex"],
                strategy="backward",
                coalesce=False,
                check_sortedness=False,
            )
        )
        sizes = self.cells().with_columns(pl.col("sex").fill_null(_BOTH))
        found = found.drop("n").join(sizes, on=["grade", "sex"], how="left")
        is_own = pl.col("score") == pl.col("score_right")
        # Below the lowest result of the group nothing was found, and nobody stands below.
        rank = pl.when(is_own).then((pl.col("below") + pl.col("upto")) / 2).otherwise(pl.col("upto").fill_null(0))
        ranked = found.select("place", "n", (100 * rank / pl.col("n")).alias("percentile"))
        return (
            asked.select("place")
            .join(ranked, on="place", how="left")
            .sort("place")
            .select("percentile", "n", pl.lit(self.taken_on).alias("taken_on"))
        )


_BOTH = "·"


def of_results(
    results: pl.DataFrame, *, instrument: str, form: str, scale: str, taken_on: dt.date, fewest: int = FEWEST_IN_CELL
) -> Norms:
    """Norms from results with the columns grade, sex ("f", "m" or null), score and validity; one row per student.

    Only rows with validity "valid" and a score count: a suspect, invalid or blank one says nothing about anybody.
    Groups with fewer than `fewest` get no norm. Raises ValueError for a missing column or `fewest` below 20.
    """
    if fewest < 20:
        raise ValueError(f"a norm needs more than {fewest} results in a cell; 20 is the least that may be asked for")
    missing = [name for name in (*_COLUMNS, "validity") if name not in results.columns]
    if missing:
        raise ValueError(f"results come without {', '.join(missing)}")
    valid = _typed(results.filter(pl.col("validity").cast(pl.String) == "valid")).drop_nulls(["grade", "score"])
    both = valid.with_columns(pl.lit(None, pl.String).alias("sex"))
    groups = pl.concat([both, valid.filter(pl.col("sex").is_not_null())])
    by = ["grade", "sex"]
    table = (
        groups.group_by(*by, "score")
        .agg(pl.len().alias("count"))
        .sort(*by, "score")
        .with_columns(pl.col("count").cum_sum().over(by).alias("upto"), pl.col("count").sum().over(by).alias("n"))
        .with_columns((pl.col("upto") - pl.col("count")).alias("below"))
        .filter(pl.col("n") >= fewest)
        .select(*by, pl.col("n", "below", "upto").cast(pl.Int64), "score")
    )
    return Norms(instrument, form, scale, taken_on, valid.height, table)


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(kind) for name, kind in _COLUMNS.items())
