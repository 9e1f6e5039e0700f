"""All signs of a batch of sheets, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from instruments import scoring
from instruments.quality import indices
from instruments.quality.battery import Battery, Floats, Places, Sheet, places_of, steps_of
from instruments.quality.indices import Values
from instruments.quality.reference import Reference, of_sample, ranked

VERDICT = pl.Enum(["valid", "suspect", "invalid"])
LIE = pl.Enum(["ok", "suspect", "invalid"])

FAST, HURRIED = 1.0, 2.0
"""Seconds per question: below FAST is a sign, below HURRIED only beside another (the 2 s of Huang 2012; the 1 s is
ours)."""
CONTRADICTIONS = 2
"""That many pairs answered at opposite ends are a sign (ours)."""
OPPOSITE = 0.75
"""Two answers that should agree contradict each other from this part of the range on, after reversing (ours)."""
NO_ORDER = 0.45
"""Guttman errors, normed, from here on: what random answers come to (.42 to .45 in the median where they were planted
among public answers to 26 and 42 questions, beside .20 to .22 for the rest; ours)."""
AGAINST_ALL = 0.0
"""Person-total correlation below this: answers run against everybody's (Curran 2016 names negative values)."""
INCONSISTENT = 0.0
"""Even-odd consistency below this. Johnson 2005 used .30 with 30 facets; with a school's 5 to 10 that would accuse
many honest sheets, so the halves must disagree outright (ours)."""
OUTLIER = 0.95
"""Percentile of misfit, by either person-fit index or even-odd, from which a sheet is an outlier among the people it
is compared with (the one in twenty of any test; ours)."""
FAR = 0.001
"""p of the Mahalanobis distance below which it is a sign."""
LONG = 0.5
"""A run over half the questions of a mixed-keyed form, across its keying (Curran 2016: half the scale)."""

SIGNS = ("fast", "contradictory", "instructed", "lie", "disordered", "far", "longstring")
INDICES = (
    "seconds_per_item",
    "contradictory",
    "instructed_missed",
    "lie_scale",
    "guttman",
    "person_total",
    "even_odd",
    "mahalanobis",
    "mahalanobis_p",
    "spread",
    "longstring",
)
MOST_PEOPLE = 20_000
"""Of more people every k-th makes the reference: no figure in it gains from more."""

_CHUNK_CELLS = 400_000
_FEWEST_ROWS = 4_096
_RANKED = ("guttman", "person_total", "even_odd", "distance_z")


def signs(
    answers: pl.DataFrame,
    battery: Battery,
    *,
    seconds: pl.DataFrame | None = None,
    reference: Reference | Literal["batch"] | None = "batch",
) -> pl.DataFrame:
    """Signs of careless answering, one sheet (a person's whole battery) per row.

    `answers` has a column of codes per question, named by its id; other columns are ignored, a question without a
    column is a blank. The columns of validity rules are taken from it where scoring has already put them there.
    `seconds`, of the same height, has columns named by question id, or by instrument code for the whole form.
    `reference` is the sample to compare with: by default the batch itself, if it has `FEWEST_PEOPLE`. With None the
    indices that need one are null, and what is said of a sheet depends on that sheet alone, today and in a replay.

    Returns a frame of the same height and order: every index of `INDICES`, null where it cannot be computed and never
    a zero in its place; `signs`, those of `SIGNS` that hold; `n_checked`, how many of them could be computed;
    `carelessness`, 0 .. 1; `verdict` (`VERDICT`; null for an empty sheet): one sign is a note and still valid, two
    are suspect, as is haste beside one, an "invalid" lie scale, or speed beside another, is invalid; and `doubt`,
    0 .. 1, the verdict as one number: a third for each grade, and within a grade the carelessness. It says whom to
    ask first, where more sheets are doubtful than there is time.

    The verdict is about the sheet, never about the student: nothing here reads or changes a critical item's column,
    and a suspect or invalid sheet is an open question, never "no need". Raises ValueError for seconds of another
    height or with no column that is known.
    """
    if seconds is not None:
        _check_seconds(answers, seconds, battery)
    compared = reference_of(answers, battery) if reference == "batch" else reference

    def judged(chunk: tuple[pl.DataFrame, pl.DataFrame | None]) -> pl.DataFrame:
        return _judged(*chunk, battery, compared)

    if answers.height <= _rows_of_a_chunk(battery):
        return judged((answers, seconds))
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        return pl.concat(threads.map(judged, _chunks(answers, seconds, battery)))


def reference_of(answers: pl.DataFrame, battery: Battery) -> Reference | None:
    """What later sheets, even a single one, can be compared with; None below `FEWEST_PEOPLE` people.

    Give it a whole round's answers, careless ones included: it is made of medians and ranks of many, and dropping
    people by the same signs first would only make the rest look stranger.
    """
    sample = answers.gather_every(max(1, -(-answers.height // MOST_PEOPLE)))
    bare = of_sample(sample, battery)
    if bare is None:
        return None
    parts = [_oriented(_indices(chunk, None, battery, bare)) for chunk, _ in _chunks(sample, None, battery)]
    return ranked(bare, {name: np.concatenate([part[name] for part in parts]) for name in _RANKED})


def _chunks(
    answers: pl.DataFrame, seconds: pl.DataFrame | None, battery: Battery
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame | None]]:
    """Slices that keep memory bounded, whatever the school's or the district's size."""
    rows = _rows_of_a_chunk(battery)
    for start in range(0, max(1, answers.height), rows):
        yield answers.slice(start, rows), None if seconds is None else seconds.slice(start, rows)


def _rows_of_a_chunk(battery: Battery) -> int:
    return max(_FEWEST_ROWS, _CHUNK_CELLS // max(1, len(battery.questions)))


def _indices(
    answers: pl.DataFrame, seconds: pl.DataFrame | None, battery: Battery, reference: Reference | None
) -> dict[str, Floats]:
    """Every index as an array, NaN where it cannot be computed."""
    questions = battery.questions
    places = places_of(answers, battery)
    steps = steps_of(places, questions)
    column = {question.id: number for number, question in enumerate(questions)}
    values = indices.scaled(places, np.array([question.n_places for question in questions]))
    keyed = indices.scaled(steps, np.array([question.n_steps for question in questions]))
    nothing = np.full(answers.height, np.nan)
    has_order = indices.off_mode(places) >= indices.FEWEST_OFF_MODE
    found = {
        "seconds_per_item": _seconds_per_item(seconds, places, battery) if seconds is not None else nothing,
        "contradictory": _contradictory(keyed, battery, column),
        "instructed_missed": _instructed_missed(answers, battery),
        "guttman": nothing,
        "person_total": nothing,
        "even_odd": np.where(
            has_order, indices.even_odd(keyed, [[column[name] for name in facet] for facet in battery.facets]), np.nan
        ),
        "mahalanobis": nothing,
        "freedom": nothing,
        "spread": indices.spread(values),
        "longstring": _longstring(places, battery),
        "n_answered": (places >= 0).sum(1).astype(np.float64),
    }
    if reference is not None:
        found["guttman"] = np.where(has_order, indices.guttman(steps, reference.ladders), np.nan)
        found["person_total"] = np.where(has_order, indices.person_total(values, reference.means), np.nan)
        if reference.precision is not None:
            found["mahalanobis"], found["freedom"] = indices.distance(
                values, reference.means, reference.precision, reference.is_used
            )
    # The last digit of a sum depends on what else is summed beside it; a threshold must not.
    return {name: np.round(values, 9) for name, values in found.items()}


def _oriented(found: Mapping[str, Floats]) -> dict[str, Floats]:
    """The indices that are ranked, so that more is worse; the distance as a normal deviate (Wilson and Hilferty),
    so that sheets with and without blanks can stand in one order."""
    spread = 2 / (9 * found["freedom"])
    return {
        "guttman": found["guttman"],
        "person_total": -found["person_total"],
        "even_odd": -found["even_odd"],
        "distance_z": (np.cbrt(found["mahalanobis"] / found["freedom"]) - (1 - spread)) / np.sqrt(spread),
    }


def _judged(
    answers: pl.DataFrame, seconds: pl.DataFrame | None, battery: Battery, reference: Reference | None
) -> pl.DataFrame:
    found = _indices(answers, seconds, battery, reference)
    lie = _lie_scale(answers, battery)
    p = special.chdtrc(found["freedom"], found["mahalanobis"])
    ranks = _ranks(found, reference)
    checks = _checks(found, ranks, p, lie)
    grade = _grade(checks, (lie == "invalid").fill_null(False).to_numpy(), found["seconds_per_item"] < HURRIED)
    carelessness = _carelessness(found, checks, ranks)
    columns = {name: _nullable(found[name]) for name in INDICES if name in found}
    columns["contradictory"] = columns["contradictory"].cast(pl.Int16)
    columns["instructed_missed"] = columns["instructed_missed"].cast(pl.Int16)
    columns |= {"lie_scale": lie, "mahalanobis_p": _nullable(p)}
    return pl.DataFrame(
        [columns[name].alias(name) for name in INDICES]
        + [_named(checks), _n_checked(checks), _nullable(carelessness).alias("carelessness")]
        + [_verdict(grade, found["n_answered"] > 0), _doubt(grade, carelessness).alias("doubt")]
    )


def _ranks(found: Mapping[str, Floats], reference: Reference | None) -> dict[str, Floats]:
    """Percentiles among the people compared with, NaN without any."""
    if reference is None:
        return dict.fromkeys(_RANKED, np.full(len(found["n_answered"]), np.nan))
    return {name: reference.percentile(name, values) for name, values in _oriented(found).items()}


Check = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Whether a sign holds, and whether it could be computed at all."""


def _checks(found: Mapping[str, Floats], ranks: Mapping[str, Floats], p: Floats, lie: pl.Series) -> dict[str, Check]:
    """Each of `SIGNS`. An index that is NaN neither holds nor was checked; comparisons with NaN are false."""
    misfit = (found["guttman"] >= NO_ORDER) | (found["person_total"] < AGAINST_ALL) | (found["even_odd"] < INCONSISTENT)
    for index in ("guttman", "person_total", "even_odd"):
        misfit |= ranks[index] >= OUTLIER
    is_known = ~(np.isnan(found["guttman"]) & np.isnan(found["person_total"]) & np.isnan(found["even_odd"]))
    return {
        "fast": (found["seconds_per_item"] < FAST, ~np.isnan(found["seconds_per_item"])),
        "contradictory": (found["contradictory"] >= CONTRADICTIONS, ~np.isnan(found["contradictory"])),
        "instructed": (found["instructed_missed"] >= 1, ~np.isnan(found["instructed_missed"])),
        "lie": ((lie != "ok").fill_null(False).to_numpy(), lie.is_not_null().to_numpy()),
        "disordered": (misfit, is_known),
        "far": (p < FAR, ~np.isnan(p)),
        "longstring": (found["longstring"] >= LONG, ~np.isnan(found["longstring"])),
    }


def _grade(checks: Mapping[str, Check], is_void: NDArray[np.bool_], is_hurried: NDArray[np.bool_]) -> NDArray[np.int8]:
    n = np.sum([holds for holds, _ in checks.values()], axis=0)
    is_fast = checks["fast"][0]
    is_invalid = is_void | (is_fast & (n >= 2))
    found: NDArray[np.int8] = np.where(is_invalid, 2, np.where(n + (is_hurried & ~is_fast) >= 2, 1, 0)).astype(np.int8)
    return found


def _verdict(grade: NDArray[np.int8], has_answers: NDArray[np.bool_]) -> pl.Series:
    words = pl.Series("verdict", VERDICT.categories, dtype=VERDICT).gather(grade)
    return words.scatter(np.flatnonzero(~has_answers), None)


def _doubt(grade: NDArray[np.int8], carelessness: Floats) -> pl.Series:
    return _nullable((grade + carelessness) / len(VERDICT.categories))


def _carelessness(found: Mapping[str, Floats], checks: Mapping[str, Check], ranks: Mapping[str, Floats]) -> Floats:
    """The mean of what could be computed of: haste, inconsistency, misfit, distance, and each yes-or-no sign.

    Equal weights, chosen before any score of ours was compared with a file: no study gives weights that travel from
    one battery to another, and unit weights lose little. Inconsistency, misfit (its two indices averaged) and
    distance are mid-rank percentiles in the reference; haste runs from 0 at 2 s per question to 1 at 1 s, since
    only the fast end tells anything; a sign is 0 or 1. The within-person spread has no part (near chance, Goldammer
    2024).
    """
    parts = [
        np.clip((HURRIED - found["seconds_per_item"]) / (HURRIED - FAST), 0, 1),
        ranks["even_odd"],
        _mean_of_known([ranks["guttman"], ranks["person_total"]]),
        ranks["distance_z"],
        *(np.where(known, held, np.nan) for sign, (held, known) in checks.items() if sign in _YES_OR_NO),
    ]
    return _mean_of_known(parts)


_YES_OR_NO = ("contradictory", "instructed", "lie", "longstring")


def _mean_of_known(parts: list[Floats]) -> Floats:
    stacked = np.stack(parts)
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(known, stacked, 0).sum(0) / known.sum(0)
    return found


def _seconds_per_item(seconds: pl.DataFrame, places: Places, battery: Battery) -> Floats:
    """Median over questions: a form's own time is shared out over those answered on it."""
    times, weights, start = [], [], 0
    for sheet in battery.sheets:
        stop = start + len(sheet.questions)
        named = [question.id for question in sheet.questions if question.id in seconds.columns]
        if named:
            times += [_positive(seconds[name]) for name in named]
            weights += [1] * len(named)
        elif sheet.code in seconds.columns:
            n = (places[:, start:stop] >= 0).sum(1)
            times.append(np.where(n > 0, _positive(seconds[sheet.code]) / np.maximum(n, 1), np.nan))
            weights.append(len(sheet.questions))
        start = stop
    return indices.weighted_median(np.stack(times, axis=1), np.array(weights))


def _positive(times: pl.Series) -> Floats:
    found = times.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)


def _check_seconds(answers: pl.DataFrame, seconds: pl.DataFrame, battery: Battery) -> None:
    if seconds.height != answers.height:
        raise ValueError(f"{seconds.height} rows of seconds for {answers.height} rows of answers")
    known = {question.id for question in battery.questions} | {sheet.code for sheet in battery.sheets}
    if not known & set(seconds.columns):
        raise ValueError(f"seconds know no question and no instrument of this battery: {', '.join(seconds.columns)}")


def _contradictory(keyed: Values, battery: Battery, column: Mapping[str, int]) -> Floats:
    pairs = [(column[a], column[b]) for sheet in battery.sheets for a, b in sheet.contradictory]
    if not pairs:
        return np.full(len(keyed.filled), np.nan)
    first, second = np.array(pairs).T
    both = (keyed.answered[:, first] > 0) & (keyed.answered[:, second] > 0)
    apart = np.abs(keyed.filled[:, first] - keyed.filled[:, second]) >= OPPOSITE
    return np.where(both.any(1), (apart & both).sum(1), np.nan)


def _instructed_missed(answers: pl.DataFrame, battery: Battery) -> Floats:
    told = [(i, code) for sheet in battery.sheets for i, code in sheet.instructed if i in answers.columns]
    if not told:
        return np.full(answers.height, np.nan)
    given = answers.select(pl.col(item).cast(pl.Float64) for item, _ in told).to_numpy()
    is_wrong = given != np.array([code for _, code in told])
    return np.where(np.isnan(given).all(1), np.nan, (is_wrong & ~np.isnan(given)).sum(1))


def _longstring(places: Places, battery: Battery) -> Floats:
    found, start = np.full(len(places), np.nan), 0
    for sheet in battery.sheets:
        stop = start + len(sheet.questions)
        if sheet.is_mixed_keyed:
            is_reversed = np.array([question.is_reversed for question in sheet.questions])
            found = np.fmax(found, indices.longest_run(places[:, start:stop], is_reversed))
        start = stop
    return found


def _lie_scale(answers: pl.DataFrame, battery: Battery) -> pl.Series:
    """The worst that the instruments' own validity rules say; null where no such scale has a score."""
    said = [_lie_of(answers, sheet) for sheet in battery.sheets if sheet.lies]
    if not said:
        return pl.Series("lie_scale", [None] * answers.height, dtype=LIE)
    worst = pl.DataFrame(said).select(pl.max_horizontal(pl.all())).to_series()
    return pl.Series("lie_scale", LIE.categories, dtype=LIE).gather(worst)


def _lie_of(answers: pl.DataFrame, sheet: Sheet) -> pl.Series:
    assert sheet.instrument is not None  # noqa: S101 - only instruments have validity rules
    rules = [rule.name for rule in sheet.lies]
    if set(rules) <= set(answers.columns):
        scored = answers
    else:
        missing = [name for name in scoring.item_columns(sheet.instrument) if name not in answers.columns]
        full = answers.with_columns(pl.lit(None, pl.Int16).alias(name) for name in missing)
        scored = scoring.score(full, sheet.instrument, sheet.form)
    grades = [
        pl.when(pl.col(rule.name)).then(2 if rule.verdict == "invalid" else 1).when(~pl.col(rule.name)).then(0)
        for rule in sheet.lies
    ]
    return scored.select(pl.max_horizontal(grades).cast(pl.UInt32).alias(sheet.code)).to_series()


def _named(checks: Mapping[str, Check]) -> pl.Series:
    """The signs that hold, by name: few patterns occur, so each list is made once."""
    bits = np.sum([held.astype(np.uint32) << bit for bit, (held, _) in enumerate(checks.values())], axis=0)
    return _PATTERNS.gather(bits)


_PATTERNS = pl.Series(
    "signs",
    [[sign for bit, sign in enumerate(SIGNS) if pattern >> bit & 1] for pattern in range(1 << len(SIGNS))],
    dtype=pl.List(pl.Enum(SIGNS)),
)


def _n_checked(checks: Mapping[str, Check]) -> pl.Series:
    return pl.Series("n_checked", np.sum([known for _, known in checks.values()], axis=0), dtype=pl.Int8)


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64, nan_to_null=True)
