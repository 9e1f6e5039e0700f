"""What a benchmark found: figures with their reference, checks that the same work was done, and how both are shown."""

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Figure:
    """One thing that was measured `len(seconds)` times.

    `ratio` is how fast the product is beside the reference: 1 as fast, 0.5 half as fast. `is_met` is None where no
    goal is set.
    """

    bench: str
    what: str
    seconds: Sequence[float]
    reference: str | None = None
    reference_seconds: Sequence[float] = ()
    rows: int | None = None
    unit: str = "students"
    peak_mb: Mapping[str, float] = field(default_factory=dict)
    goal: str | None = None
    is_met: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.reference_seconds) / self.median if self.reference_seconds else None

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "bench": self.bench,
            "what": self.what,
            "median_s": round(self.median, 6),
            "min_s": round(min(self.seconds), 6),
            "max_s": round(max(self.seconds), 6),
            "runs": len(self.seconds),
        }
        if self.rows is not None:
            found |= {"rows": self.rows, "unit": self.unit, "rows_per_s": round(self.rows / self.median)}
        if self.ratio is not None:
            found |= {
                "reference": self.reference,
                "reference_median_s": round(statistics.median(self.reference_seconds), 6),
                "ratio": round(self.ratio, 4),
            }
        if self.peak_mb:
            found["peak_mb"] = {name: round(value) for name, value in self.peak_mb.items()}
        if self.goal is not None:
            found |= {"goal": self.goal, "is_met": self.is_met}
        return found | dict(self.more)

    def line(self) -> str:
        spread = f" ({_time(min(self.seconds))} - {_time(max(self.seconds))})" if len(self.seconds) > 1 else ""
        parts = [f"{_time(self.median)}{spread}"]
        if self.rows is not None:
            parts.append(f"{self.rows / self.median:,.0f} {self.unit}/s")
        if self.ratio is not None:
            times = f"{_time(statistics.median(self.reference_seconds))}"
            parts.append(f"ratio {self.ratio:.2f} to {self.reference} {times}")
        if self.peak_mb:
            parts.append("peak " + ", ".join(f"{name} {value:,.0f} MB" for name, value in self.peak_mb.items()))
        if self.goal is not None:
            parts.append(f"goal {self.goal}: {'met' if self.is_met else 'MISSED'}")
        return f"  {self.what:<44} " + " | ".join(parts)


class Report:
    """Collects figures, notes and checks; says each as it comes, or all at the end as one JSON object."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json
        self.figures: list[Figure] = []
        self.notes: list[dict[str, Any]] = []
        self.failed: list[str] = []
        self.n_checks = 0
        self.machine: dict[str, Any] = {}

    @property
    def is_right(self) -> bool:
        """Whether every check held: a figure of other work than was asked for is worth nothing."""
        return not self.failed

    def begin(self, title: str) -> None:
        self._say(f"\n{title}")

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        self._say(figure.line())

    def note(self, bench: str, words: str, **more: Any) -> None:
        self.notes.append({"bench": bench, "words": words, **more})
        self._say(f"  {words}")

    def check(self, what: str, found: object, expected: object) -> None:
        self.n_checks += 1
        if found != expected:
            self.failed.append(f"{what}: found {found}, expected {expected}")
            self._say(f"  WRONG {self.failed[-1]}")

    def growth(self, bench: str, what: str, sizes: Mapping[int, float]) -> None:
        """States how seconds grow from the smallest size to the largest."""
        if len(sizes) < 2:
            return
        small, large = min(sizes), max(sizes)
        exponent = math.log(sizes[large] / sizes[small]) / math.log(large / small)
        words = f"{what}: {large / small:.1f} x the rows take {sizes[large] / sizes[small]:.1f} x the time"
        self.note(bench, f"{words} (n^{exponent:.2f})", exponent=round(exponent, 3))

    def describe(self, **more: Any) -> None:
        """Adds to what is known of the machine and says it."""
        self.machine |= more
        self._say(", ".join(f"{name} {value}" for name, value in more.items()))

    def end(self) -> None:
        self.describe(load_at_end=_load())
        if self.is_json:
            found = {
                "machine": self.machine,
                "figures": [figure.as_json() for figure in self.figures],
                "notes": self.notes,
                "checks": self.n_checks,
                "failed_checks": self.failed,
            }
            sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        else:
            words = "all held" if self.is_right else f"{len(self.failed)} FAILED"
            self._say(f"{self.n_checks} checks that the same work was done: {words}")

    def _say(self, words: str) -> None:
        if not self.is_json:
            sys.stdout.write(words + "\n")
            sys.stdout.flush()


def machine() -> dict[str, Any]:
    """Where the figures come from; a load of other work above 0 makes them worth less."""
    return {
        "python": platform.python_version(),
        "polars": metadata.version("polars"),
        "cpus": os.cpu_count(),
        "load_at_start": _load(),
    }


def timed(act: Callable[[], _T], runs: int, *, warm: int = 0) -> tuple[list[float], _T]:
    """Seconds of each of `runs` calls after `warm` uncounted ones, and what the last returned."""
    for _ in range(warm):
        act()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = act()
        seconds.append(time.perf_counter() - start)
    return seconds, result


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.2f} ms"
