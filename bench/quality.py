"""The whole library on one district: every instrument scored, and every sign of careless answering beside it.

All instruments together are one sitting here, far more than any child should be asked: the worst that can come. The
reference of a single scale is a Mahalanobis distance in plain NumPy, the one index nobody can do without a matrix.
"""

import time
from typing import Any

import numpy as np
import polars as pl

from bench import apart
from bench.figures import Figure, Report
from instruments import catalogue, quality, scoring

_SCALE = [f"item_{number}" for number in range(1, 21)]


def bench(report: Report, sizes: list[int], runs: int) -> None:
    n_items = sum(len(one.items) for one in catalogue.all())
    report.begin(f"F. Signs of careless answering, {len(catalogue.all())} instruments, {n_items} items")
    medians = {}
    for rows in sizes:
        found = apart.run("bench.quality:library", rows=rows)
        report.check(f"quality {rows} rows: verdicts", found.value["verdicts"], rows)
        peak = {"process": found.peak_mb, "of it signs": found.peak_mb - found.value["before_mb"]}
        report.add(Figure("quality", f"{rows:,} students, all scored", [found.value["scoring"]], rows=rows))
        report.add(Figure("quality", f"{rows:,} students, all signs", [found.value["signs"]], rows=rows, peak_mb=peak))
        medians[rows] = found.value["signs"]
    report.growth("quality", "signs", medians)
    rows = min(sizes[-1], 100_000)
    one = apart.run("bench.quality:scale", rows=rows, runs=runs).value
    report.check(f"quality {rows} rows: distances", one["differing"], 0)
    report.add(
        Figure("quality", f"{rows:,} sheets of 20 items", one["product"], "NumPy distance alone", one["numpy"],
               rows=rows, unit="sheets")
    )  # fmt: skip


# -- in a process of its own ---------------------------------------------------------------------------------------


def library(rows: int) -> dict[str, float]:
    """Seconds to score all instruments and to look for every sign, and the memory in use before the signs."""
    battery = quality.of_instruments((one, None) for one in catalogue.all())
    answers = _answers(rows)
    start = time.perf_counter()
    for instrument in catalogue.all():
        scoring.score(answers, instrument)
    scored = time.perf_counter()
    before_mb = apart.peak_mb()
    began = time.perf_counter()
    found = quality.signs(answers, battery, seconds=pl.DataFrame({"phq9": np.full(rows, 40.0)}))
    return {
        "scoring": scored - start,
        "signs": time.perf_counter() - began,
        "before_mb": before_mb,
        "verdicts": found.height - found["verdict"].null_count(),
    }


def scale(rows: int, runs: int) -> dict[str, Any]:
    """Seconds for all signs of one 20-item scale, and for its distances alone by hand."""
    chance = np.random.default_rng(20)
    felt = chance.normal(size=(rows, 1)) + chance.normal(size=(rows, len(_SCALE)))
    codes = np.digitize(felt, [0.3, 1.0, 1.8]).astype(np.int8)
    answers, battery = pl.DataFrame(codes, schema=_SCALE), quality.of_columns("scale", [_SCALE], range(4))
    reference = quality.reference_of(answers, battery)
    seconds: dict[str, list[float]] = {"product": [], "numpy": []}
    for _ in range(runs):
        start = time.perf_counter()
        found = quality.signs(answers, battery, reference=reference)
        middle = time.perf_counter()
        by_hand = _distances(codes, rows)
        seconds["product"].append(middle - start)
        seconds["numpy"].append(time.perf_counter() - middle)
    differing = int((~np.isclose(found["mahalanobis"].to_numpy(), by_hand)).sum())
    return {**seconds, "differing": differing}


def _distances(codes: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    values = codes / 3.0
    sample = values[:: max(1, -(-rows // 20_000))]
    centred = values - sample.mean(0)
    squared: np.ndarray[Any, Any] = ((centred @ np.linalg.inv(np.cov(sample, rowvar=False))) * centred).sum(1)
    return squared


def _answers(rows: int) -> pl.DataFrame:
    """One trouble more or less, some noise, every 300th answer blank; whole numbers as small as they come."""
    chance = np.random.default_rng(19)
    trouble = chance.normal(size=rows).astype(np.float32)
    columns = {}
    for instrument in catalogue.all():
        for item in instrument.items:
            felt = trouble + chance.standard_normal(rows, dtype=np.float32)
            codes = np.array(sorted(item.codes), dtype=np.int8)
            places = np.digitize(felt, np.linspace(0.3, 2.2, len(codes) - 1))
            answered = pl.Series(chance.random(rows, dtype=np.float32) > 1 / 300)
            columns[item.id] = pl.select(pl.when(answered).then(pl.Series(codes[places]))).to_series()
    return pl.DataFrame(columns)
