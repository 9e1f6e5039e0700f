"""Made-up students and their answers from one seed, and what the product must find in them, reckoned on its own.

The first rows are the same for every size, so that a small file is the beginning of a large one. Each student has one
hidden burden; an answer is that burden and chance, cut where the wanted share of students lies above. No clinical
statement is meant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

BATTERY = (("phq9", "self", 9), ("gad7", "self", 7), ("psc17", "parent", 17))
ITEMS = tuple(f"{code}_{number}" for code, _, count in BATTERY for number in range(1, count + 1))
PLACES = {"phq9": slice(0, 9), "gad7": slice(9, 16), "psc17": slice(16, 33)}
SUBSCALES = {
    "internalizing": ((2, 6, 9, 11, 15), 5),
    "attention": ((1, 3, 7, 13, 17), 7),
    "externalizing": ((4, 5, 8, 10, 12, 14, 16), 7),
}
"""Items of the PSC-17's parts, and from where on each is in the range that needs a look."""
PER_SCHOOL = 1_000
BLANK = -1

_BLOCK = 50_000
_BLANK_SHARE, _BAD_SHARE, _UNKNOWN_SHARE = 0.03, 0.001, 0.001
_SHARED = 0.72  # how much of an answer is the student's burden
_SHARES = {"phq9": (0.38, 0.12, 0.035), "gad7": (0.38, 0.12, 0.035), "psc17": (0.29, 0.055)}
_SELF_HARM_SHARES = (0.055, 0.018, 0.005)
_ITEM_9 = 8

_Draw = Callable[[np.random.Generator], NDArray[Any]]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Population:
    """`rows` students in schools of `PER_SCHOOL`, sorted by school as a district's file is."""

    rows: int
    seed: int = 20260901

    @property
    def n_schools(self) -> int:
        return -(-self.rows // PER_SCHOOL)

    @cached_property
    def school(self) -> NDArray[np.int64]:
        """0 .. n_schools - 1."""
        return np.arange(self.rows, dtype=np.int64) // PER_SCHOOL

    @cached_property
    def numbers(self) -> list[str]:
        """Ten digits that begin with 0: who reads them as integers loses every student."""
        scattered = (np.arange(1, self.rows + 1, dtype=np.int64) * 48_271) % 10**9
        return [f"{number:010d}" for number in scattered.tolist()]

    @cached_property
    def grades(self) -> NDArray[np.int8]:
        return self._drawn(1, lambda rng: rng.integers(7, 13, _BLOCK, np.int8))

    @cached_property
    def is_girl(self) -> Bools:
        return self._drawn(2, lambda rng: rng.random(_BLOCK) < 0.49).astype(bool)

    @cached_property
    def answers(self) -> Codes:
        """One row per item of ITEMS, `BLANK` where nothing was answered."""
        found = np.empty((len(ITEMS), self.rows), np.int8)
        for number, start in enumerate(range(0, self.rows, _BLOCK)):
            rng = np.random.default_rng([self.seed, 3, number])
            burden = rng.standard_normal(_BLOCK, np.float32)
            width = min(_BLOCK, self.rows - start)
            for place, item in enumerate(ITEMS):
                chance = rng.standard_normal(_BLOCK, np.float32)
                codes = np.digitize(_SHARED * burden + (1 - _SHARED**2) ** 0.5 * chance, _cuts(item)).astype(np.int8)
                codes[rng.random(_BLOCK, np.float32) < _BLANK_SHARE] = BLANK
                found[place, start : start + width] = codes[:width]
        return found

    @cached_property
    def bad_item(self) -> NDArray[np.int8]:
        """The place of the one cell of a row that holds no code, -1 in nearly all rows; never PHQ-9 item 9."""

        def draw(rng: np.random.Generator) -> NDArray[np.int8]:
            place = rng.integers(0, len(ITEMS) - 1, _BLOCK, np.int8)
            return np.where(rng.random(_BLOCK) < _BAD_SHARE, place + (place >= _ITEM_9), -1).astype(np.int8)

        return self._drawn(4, draw)

    @cached_property
    def is_unknown(self) -> Bools:
        """Rows whose number in the file is nobody's."""
        return self._drawn(5, lambda rng: rng.random(_BLOCK) < _UNKNOWN_SHARE).astype(bool)

    def frame(self) -> pl.DataFrame:
        """The answers as the scorer takes them: one Int8 column per item, null for a blank."""
        return pl.DataFrame(dict(zip(ITEMS, self.answers, strict=True))).with_columns(
            pl.when(pl.col(item) != BLANK).then(pl.col(item)) for item in ITEMS
        )

    def write(self, path: Path, *, first: int = 0) -> None:
        """The file that is uploaded, from row `first` on: school, number, and 33 columns of answers."""
        numbers = [
            f"9{number[1:]}" if unknown else number
            for number, unknown in zip(self.numbers, self.is_unknown.tolist(), strict=True)
        ]
        frame = pl.concat(
            [
                pl.DataFrame({"school_code": school_codes(self)[self.school], "student_number": numbers}),
                self.frame().cast(pl.String),
            ],
            how="horizontal",
        ).with_columns(pl.Series("bad", self.bad_item), pl.int_range(pl.len()).alias("row"))
        wrong = pl.when(pl.col("row") % 2 == 0).then(pl.lit("7")).otherwise(pl.lit("?"))
        cells = [
            pl.when(pl.col("bad") == place).then(wrong).otherwise(pl.col(item)).alias(item)
            for place, item in enumerate(ITEMS)
        ]
        frame.with_columns(cells).drop("bad", "row").slice(first).write_csv(path)

    def _drawn(self, stream: int, draw: _Draw) -> NDArray[Any]:
        blocks = [
            draw(np.random.default_rng([self.seed, stream, number])) for number in range(-(-self.rows // _BLOCK) or 1)
        ]
        return np.concatenate(blocks)[: self.rows]


def school_codes(population: Population) -> NDArray[np.str_]:
    return np.array([f"S{number:04d}" for number in range(1, population.n_schools + 1)])


@dataclass(frozen=True)
class Truth:
    """What loading the file must come to."""

    forms: dict[str, dict[str, int]]
    results_by_tier: dict[int, int]
    alerts_by_tier: dict[int, int]


def truth(population: Population) -> Truth:
    """The rules of the default policy for this battery, written again in NumPy: the receipt, results and alerts."""
    found = _Reckoned(population)
    unknown = population.is_unknown
    tier = found.tier()
    # a rejected form still tells of self-harm, to an alert of the student or, from an unknown number, of the row
    told = np.where(found.is_bad("phq9") | unknown, found.self_harm_tier(), 0)
    alert = np.where(unknown, told, np.maximum(tier, told))
    return Truth(
        forms={f"{code}/{form}": found.outcomes(code) for code, form, _ in BATTERY},
        results_by_tier=_counts(tier[~unknown]),
        alerts_by_tier=_counts(alert[alert > 0]),
    )


class _Reckoned:
    def __init__(self, population: Population) -> None:
        self.population = population
        self.blank = {code: (population.answers[place] == BLANK).sum(axis=0) for code, place in PLACES.items()}
        self.total = {
            code: np.maximum(population.answers[place], 0).sum(axis=0, dtype=np.int16) for code, place in PLACES.items()
        }

    def is_bad(self, code: str) -> Bools:
        place = PLACES[code]
        bad: Bools = (self.population.bad_item >= place.start) & (self.population.bad_item < place.stop)
        return bad

    def is_scorable(self, code: str) -> Bools:
        scorable: Bools = self.blank[code] < (4 if code == "psc17" else 1)
        return scorable

    def outcomes(self, code: str) -> dict[str, int]:
        rejected = self.is_bad(code) | self.population.is_unknown
        accepted = ~rejected & self.is_scorable(code)
        return {
            "accepted": int(accepted.sum()),
            "not_scorable": int((~rejected & ~self.is_scorable(code)).sum()),
            "rejected": int(rejected.sum()),
        }

    def self_harm_tier(self) -> NDArray[np.int64]:
        item = self.population.answers[_ITEM_9]
        return np.where(item == 3, 3, np.where(item >= 1, 2, 0))

    def tier(self) -> NDArray[np.int64]:
        """Of the forms that were kept."""
        answers = self.population.answers
        phq9, gad7, psc17 = (
            np.where(self.is_scorable(code) & ~self.is_bad(code), self.total[code], -1) for code in PLACES
        )
        self_harm = np.where(self.is_bad("phq9"), 0, self.self_harm_tier())
        first = PLACES["psc17"].start - 1
        over = psc17 >= 15
        for items, cut in SUBSCALES.values():
            part = sum(np.maximum(answers[first + item], 0) for item in items)
            over |= (psc17 >= 0) & (part >= cut)
        own = (self_harm > 0) | (phq9 >= 10) | (gad7 >= 10)
        unasked = (answers[_ITEM_9] == BLANK) & ~self.is_bad("phq9")
        orange = (phq9 >= 15) | (gad7 >= 15) | (own & over)
        return np.maximum(self_harm, np.where(orange, 2, np.where(own | over | unasked, 1, 0)))


def _counts(tiers: NDArray[np.int64]) -> dict[int, int]:
    values, counts = np.unique(tiers, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _cuts(item: str) -> list[float]:
    shares = _SELF_HARM_SHARES if item == ITEMS[_ITEM_9] else _SHARES[item.split("_")[0]]
    return [NormalDist().inv_cdf(1 - share) for share in shares]
