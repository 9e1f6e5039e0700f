"""How fast the model beside the rules answers: for a district in one go, and for one student, beside scikit-learn.

Both get the same matrix in the same run. The reference is scikit-learn's own prediction by trees of the same number
and size, without the logistic part and the calibration that the product adds to it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from bench import apart
from bench.figures import Figure, Report
from screening.risk_model import features, fitting, judging, speaking
from screening.risk_model.fitting import Matrix, Model, Numbers

_NAMES = tuple(f"q{number}" for number in range(60))
_DIRECTIONS = (1,) * 10 + (0,) * 50
_LEARNED_FROM = 20_000
_CALLS = 2_000
_PIECE = 50_000
MOST_SECONDS, MOST_MB, MOST_MS, MOST_OF_PLAIN = 10.0, 2048.0, 5.0, 1.2
"""Goals: of a million students, of one, and of the time that scikit-learn takes."""


def bench(report: Report, rows: int, runs: int) -> None:
    report.begin(f"G. The model beside the rules, {len(_NAMES)} answers a student")
    most = MOST_SECONDS * max(rows, 50_000) / 1_000_000
    found = apart.run("bench.predicting:alone", rows=rows, runs=runs)
    peak = {"process": found.peak_mb, "of it prediction": found.peak_mb - found.value["before_mb"]}
    report.add(
        Figure("model", f"{rows:,} students", found.value["seconds"], rows=rows, peak_mb=peak, goal=f"{most:g} s, 2 GB",
               is_met=statistics.median(found.value["seconds"]) <= most and found.peak_mb <= MOST_MB,
               more={"processor_s": found.value["processor"]})
    )  # fmt: skip
    report.note("model", f"of the processor {found.value['processor']:.2f} s of these")
    both = apart.run("bench.predicting:beside", rows=rows, runs=runs).value
    report.check("model: order no worse than by trees alone", both["auroc"] >= both["plain_auroc"] - 0.01, True)
    share = statistics.median(both["product"]) / statistics.median(both["plain"])
    report.add(
        Figure("model", f"{rows:,} students, one matrix", both["product"], "scikit-learn", both["plain"], rows=rows,
               goal=f"{MOST_OF_PLAIN:g} x its time", is_met=share <= MOST_OF_PLAIN, more={"of_its_time": share})
    )  # fmt: skip
    one = apart.run("bench.predicting:one").value
    for what, seconds in (("on the clock", one["clock"]), ("of the processor", one["processor"])):
        p99 = sorted(seconds)[round(0.99 * len(seconds)) - 1] * 1e3
        report.add(
            Figure("model", f"one student, {what}, p99 {p99:.2f} ms", seconds, rows=1,
                   goal=f"p99 {MOST_MS:g} ms", is_met=p99 <= MOST_MS, more={"p99_ms": p99})
        )  # fmt: skip


# -- in a process of its own ------------------------------------------------------------------------------------------


def alone(rows: int, runs: int) -> dict[str, Any]:
    """Seconds to predict each time, of the processor once, and the memory in use before."""
    model, (x, _) = _taught(), made_up(rows, 2)
    before_mb, processor = apart.peak_mb(), time.process_time()
    seconds = [_seconds(lambda: model.probability(x))[0] for _ in range(runs)]
    return {"seconds": seconds, "processor": (time.process_time() - processor) / runs, "before_mb": before_mb}


def beside(rows: int, runs: int) -> dict[str, Any]:
    """Seconds of both on the same matrix, in turn; of scikit-learn with all processors or one, whichever is faster."""
    from threadpoolctl import threadpool_limits

    model, plain, (x, truth) = _taught(), _plain(), made_up(rows, 2)
    found: dict[str, Any] = {"product": [], "plain": []}
    for _ in range(runs):
        seconds, ours = _seconds(lambda: model.probability(x))
        found["product"].append(seconds)
        tried = []
        for threads in (None, 1):
            with threadpool_limits(threads, user_api="openmp"):
                seconds, theirs = _seconds(lambda: plain.predict_proba(x)[:, 1])
            tried.append(seconds)
        found["plain"].append(min(tried))
    return found | {"auroc": judging.auroc(truth, ours), "plain_auroc": judging.auroc(truth, theirs)}


def one() -> dict[str, list[float]]:
    """Seconds for one student from the table of features to probability and reasons, by the clock and the processor."""
    model, (x, _) = _taught(), made_up(_CALLS, 3)
    table = pl.DataFrame(x, schema=list(_NAMES)).with_columns(pl.all().fill_nan(None))
    rows = [table[place : place + 1] for place in range(_CALLS)]
    _ask(model, rows[0])
    found: dict[str, list[float]] = {"clock": [], "processor": []}
    for row in rows:
        clock, processor = time.perf_counter(), time.thread_time()
        _ask(model, row)
        found["clock"].append(time.perf_counter() - clock)
        found["processor"].append(time.thread_time() - processor)
    return found


def _ask(model: Model, row: pl.DataFrame) -> None:
    x = features.matrix(row, model.columns)
    model.probability(x)
    speaking.leading(model, x)


def _taught() -> Model:
    x, y = made_up(_LEARNED_FROM, 1)
    schools, settings = np.arange(len(x)) % 40, fitting.Settings(folds=2)
    return fitting.fit(x, y, schools, columns=_NAMES, directions=_DIRECTIONS, settings=settings)


def _plain() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    usual = fitting.Settings()
    trees = HistGradientBoostingClassifier(
        max_iter=usual.rounds, max_leaf_nodes=usual.leaves, learning_rate=usual.rate, early_stopping=False,
        monotonic_cst=list(_DIRECTIONS), random_state=1,
    )  # fmt: skip
    with threadpool_limits(1, user_api="openmp"):
        return trees.fit(*made_up(_LEARNED_FROM, 1))


def made_up(rows: int, seed: int) -> tuple[Matrix, Numbers]:
    """Answers 0 to 3 of which some are blank, and the need that ten of them show; made in pieces to stay small."""
    chance = np.random.default_rng(seed)
    x, truth = np.empty((rows, len(_NAMES)), dtype=np.float32), np.empty(rows)
    for start in range(0, rows, _PIECE):
        part = x[start : start + _PIECE]
        part[:] = chance.integers(0, 4, part.shape, dtype=np.int8)
        felt = part[:, :10].sum(axis=1) / 3 + part[:, 10] * part[:, 11] / 5 - 8.5
        truth[start : start + _PIECE] = chance.random(len(part)) < 1 / (1 + np.exp(-felt))
        part[chance.random(part.shape, np.float32) < 0.03] = np.nan
    return x, truth


def _seconds(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found
