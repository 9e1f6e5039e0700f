"""Scoring in memory: the product beside Polars expressions and NumPy tables that are written by hand for this battery.

All three must come to the same totals, blanks, bands and levels, which `checksum` proves.
"""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench import apart
from bench.figures import Figure, Report
from bench.population import BATTERY, BLANK, ITEMS, PLACES, SUBSCALES, Population
from instruments import catalogue, scoring

_BANDS = {"phq9": (5, 10, 15, 20), "gad7": (5, 10, 15)}
_LEVELS = {"phq9": (10, 15, 20), "gad7": (10, 15)}
"""Totals from which on a form counts 1, 2, 3: a rule of this benchmark, so that all do what a screening does."""
Scored = Mapping[str, NDArray[Any]]


def bench(report: Report, sizes: list[int], runs: int) -> None:
    report.begin(f"A. Scoring in memory, {len(BATTERY)} instruments, {len(ITEMS)} items")
    medians = {}
    for rows in sizes:
        found = apart.run("bench.scoring:compare", rows=rows, runs=max(runs, 3)).value
        memory = apart.run("bench.scoring:product_alone", rows=rows)
        for peer, checksum in found["checksums"].items():
            report.check(f"scoring {rows} rows: {peer}'s checksum", checksum, found["checksums"]["polars"])
        seconds = found["seconds"]
        figure = Figure(
            "scoring",
            f"{rows:,} students, product",
            seconds["product"],
            "hand-written Polars",
            seconds["polars"],
            rows=rows,
            peak_mb={"process": memory.peak_mb, "of it scoring": memory.peak_mb - memory.value},
            goal=">= 0.5",
            more={"checksum": found["checksums"]["product"]},
        )
        report.add(_judged(figure))
        medians[rows] = figure.median
        report.add(
            Figure("scoring", f"{rows:,} students, NumPy tables", seconds["numpy"], "hand-written Polars",
                   seconds["polars"], rows=rows)
        )  # fmt: skip
    report.growth("scoring", "product", medians)


def _judged(figure: Figure) -> Figure:
    return Figure(**{**figure.__dict__, "is_met": (figure.ratio or 0) >= 0.5})


# -- in a process of its own ----------------------------------------------------------------------------------------


def compare(rows: int, runs: int) -> dict[str, Any]:
    """Seconds of each peer, in turn so that noise falls on all of them, and their checksums."""
    population = Population(rows)
    frame, answers = population.frame(), population.answers
    peers: dict[str, tuple[Callable[[], Any], Callable[[Any], Scored]]] = {
        "product": (lambda: product(frame), _of_product),
        "polars": (lambda: by_hand(frame), _of_hand),
        "numpy": (lambda: by_tables(answers), _of_tables),
    }
    checksums = {peer: checksum(read(act())) for peer, (act, read) in peers.items()}
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(runs):
        for peer, (act, _) in peers.items():
            start = time.perf_counter()
            scored = act()
            seconds[peer].append(time.perf_counter() - start)
            del scored
    return {"seconds": seconds, "checksums": checksums}


def product_alone(rows: int) -> float:
    """Scores once; returns the memory that was needed before."""
    frame = Population(rows).frame()
    before = apart.peak_mb()
    product(frame)
    return before


def product(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {code: scoring.score(frame, catalogue.get(code), form) for code, form, _ in BATTERY}


def checksum(scored: Scored) -> str:
    """Of figures by name: how many there are, and their sum; the missing ones are NaN or negative."""
    found = {}
    for name, values in sorted(scored.items()):
        there = values[values >= 0]
        found[name] = [int(there.size), int(there.sum())]
    return json.dumps(found)


# -- Polars by hand -------------------------------------------------------------------------------------------------


def by_hand(frame: pl.DataFrame) -> pl.DataFrame:
    """What an analyst who knows Polars writes for these three instruments: sums, then totals, then bands and levels."""

    def items(code: str) -> list[pl.Expr]:
        return [pl.col(item) for item in ITEMS[PLACES[code]]]

    sums = [pl.sum_horizontal(item.cast(pl.Int16) for item in items(code)).alias(f"{code}_sum") for code in PLACES]
    blanks = [
        pl.sum_horizontal(item.is_null().cast(pl.Int16) for item in items(code)).alias(f"{code}_blank")
        for code in PLACES
    ]
    parts = [
        pl.sum_horizontal(pl.col(f"psc17_{number}").cast(pl.Int16) for number in numbers).alias(f"{name}_sum")
        for name, (numbers, _) in SUBSCALES.items()
    ]
    self_harm = (pl.col("phq9_9") >= 1).fill_null(False).alias("self_harm")
    totals = [
        pl.when(pl.col(f"{code}_blank") < most).then(pl.col(f"{code}_sum")).alias(code)
        for code, most in (("phq9", 1), ("gad7", 1), ("psc17", 4))
    ]
    valid_parts = [pl.when(pl.col("psc17_blank") < 4).then(pl.col(f"{name}_sum")).alias(name) for name in SUBSCALES]
    bands = [
        pl.when(pl.col(code).is_not_null()).then(_steps(pl.col(code), _BANDS[code])).alias(f"{code}_band")
        for code in _BANDS
    ]
    is_over = pl.any_horizontal(pl.col(name) >= cut for name, (_, cut) in SUBSCALES.items())
    levels = [
        pl.when(pl.col("self_harm")).then(3).otherwise(_steps(pl.col("phq9"), _LEVELS["phq9"])).alias("phq9_level"),
        _steps(pl.col("gad7"), _LEVELS["gad7"]).alias("gad7_level"),
        pl.when(pl.col("psc17") >= 15).then(2).when(is_over).then(1).otherwise(0).alias("psc17_level"),
    ]
    return (
        frame.lazy()
        .with_columns(*sums, *blanks, *parts, self_harm)
        .with_columns(*totals, *valid_parts)
        .with_columns(*bands, *(level.cast(pl.Int8) for level in levels))
        .collect()
    )


def _steps(score: pl.Expr, cuts: tuple[int, ...]) -> pl.Expr:
    """How many of the cuts are reached; 0 for no score."""
    chosen = pl.lit(0, pl.Int8)
    for step, cut in enumerate(cuts, start=1):
        chosen = pl.when(score >= cut).then(pl.lit(step, pl.Int8)).otherwise(chosen)
    return chosen


# -- NumPy tables ---------------------------------------------------------------------------------------------------

_WIDTH = 16_384


def by_tables(answers: NDArray[np.int8]) -> list[dict[str, NDArray[Any]]]:
    """About the limit: blocks that fit the cache, two threads, sums in single bytes, everything else looked up."""
    blocks = [answers[:, start : start + _WIDTH] for start in range(0, answers.shape[1], _WIDTH)]
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(_block, blocks))


def _block(answers: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    is_blank = answers == BLANK
    codes = np.where(is_blank, np.int8(0), answers)
    found: dict[str, NDArray[Any]] = {"self_harm": codes[8] > 0}
    for code in _BANDS:
        raw = codes[PLACES[code]].sum(axis=0, dtype=np.int8)
        blank = is_blank[PLACES[code]].sum(axis=0, dtype=np.int8)
        found[f"{code}_blank"] = blank
        found[code] = np.where(blank == 0, raw, np.int8(-1))
        found[f"{code}_band"] = _TABLES[code, "bands"][found[code]]
        found[f"{code}_level"] = _TABLES[code, "levels"][found[code]]
    found["phq9_level"] = np.where(found["self_harm"], np.int8(3), found["phq9_level"])
    first = PLACES["psc17"].start - 1
    parts = {
        name: codes[[first + number for number in numbers]].sum(axis=0, dtype=np.int8)
        for name, (numbers, _) in SUBSCALES.items()
    }
    found["psc17_blank"] = is_blank[PLACES["psc17"]].sum(axis=0, dtype=np.int8)
    is_valid = found["psc17_blank"] < 4
    total = parts["internalizing"] + parts["attention"] + parts["externalizing"]
    found["psc17"] = np.where(is_valid, total, np.int8(-1))
    is_over = np.zeros(total.shape, bool)
    for name, (_, cut) in SUBSCALES.items():
        found[name] = np.where(is_valid, parts[name], np.int8(-1))
        is_over |= found[name] >= cut
    found["psc17_level"] = np.where(found["psc17"] >= 15, np.int8(2), is_over.astype(np.int8))
    return found


def _table(cuts: tuple[int, ...], missing: int) -> NDArray[np.int8]:
    """Steps reached by total; its last place, which -1 finds, stands for no total."""
    return np.array([*(sum(total >= cut for cut in cuts) for total in range(28)), missing], np.int8)


_TABLES = {(code, "bands"): _table(cuts, -1) for code, cuts in _BANDS.items()} | {
    (code, "levels"): _table(cuts, 0) for code, cuts in _LEVELS.items()
}


# -- the same figures of each ---------------------------------------------------------------------------------------


def _of_hand(frame: pl.DataFrame) -> Scored:
    names = [f"{code}{end}" for code in PLACES for end in ("", "_blank", "_level")]
    names += [f"{code}_band" for code in _BANDS]
    return {name: _numbers(frame[name]) for name in (*names, *SUBSCALES, "self_harm")}


def _of_tables(blocks: list[dict[str, NDArray[Any]]]) -> Scored:
    return {name: np.concatenate([block[name] for block in blocks]).astype(np.int64) for name in blocks[0]}


def _of_product(frames: Mapping[str, pl.DataFrame]) -> Scored:
    found = {f"{code}_blank": _numbers(frame["n_missing"]) for code, frame in frames.items()}
    found |= {code: _numbers(frame["total"]) for code, frame in frames.items()}
    found |= {name: _numbers(frames["psc17"][name]) for name in SUBSCALES}
    found |= {f"{code}_band": _numbers(frames[code]["total_band"].to_physical()) for code in _BANDS}
    found["self_harm"] = _numbers(frames["phq9"]["critical_self_harm"])
    for code, cuts in _LEVELS.items():
        found[f"{code}_level"] = np.searchsorted(cuts, found[code], side="right")
    found["phq9_level"] = np.where(found["self_harm"] > 0, 3, found["phq9_level"])
    psc17 = frames["psc17"]
    is_over = psc17.select(
        pl.any_horizontal(f"{name}_ge{cut}" for name, (_, cut) in SUBSCALES.items()).fill_null(False)
    )
    level = np.where(found["psc17"] >= 15, 2, _numbers(is_over.to_series()))
    return found | {"psc17_level": level}


def _numbers(column: pl.Series) -> NDArray[np.int64]:
    return column.cast(pl.Int64).fill_null(-1).to_numpy()
