"""What rules alone and rules with a model find in a made-up district, at the same number of students looked at.

The truth is planted, so nothing has to be estimated: the model learns, as a real one would, from talks with flagged
students and from a lot among the others, in towns of other seeds, and is asked about a town that it never saw.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from api.demo import town
from instruments import catalogue, scoring
from screening import policy, tiers
from screening.risk_model import fitting, judging
from screening.risk_model.features import direction_of
from screening.risk_model.fitting import Matrix, Model, Numbers

FORMS = (town.PHQ9, town.GAD7)
LOT = 0.02
LEARNED_FROM = 3
"""Towns of other seeds."""
EXTRA = 0.02
"""Of all with answers, how many more are looked at than the rules find."""


@dataclass(frozen=True)
class _Sheets:
    """The answers of a town as a model sees them, what the rules say, and what is true."""

    x: Matrix
    columns: tuple[str, ...]
    directions: tuple[int, ...]
    totals: tuple[int, ...]
    tier: npt.NDArray[np.int64]
    truth: Numbers
    schools: npt.NDArray[Any]


def evaluate(seed: int, *, students: int = town.STUDENTS, today: dt.date = dt.date(2026, 9, 1)) -> dict[str, Any]:
    """Students looked at and found, by the rules, by the rules with the highest totals beside them, and with a model.

    The last two look at the same number of students, so what differs is only who they are.
    """
    learned = [_sheets(town.build(seed + 1000 + number, students, today)) for number in range(LEARNED_FROM)]
    model, baseline = _taught(learned, seed), _taught(learned, seed, is_baseline=True)
    asked = _sheets(town.build(seed, students, today))
    rules = asked.tier > 0
    totals = asked.x[:, asked.totals]
    by_model = rules | _highest(model.probability(asked.x), rules)
    by_total = rules | _highest(baseline.probability(totals), rules)
    return {
        "seed": seed,
        "students": len(asked.truth),
        "in_need": int(asked.truth.sum()),
        "arms": {
            "rules alone": _arm(asked, rules),
            "rules, and the highest totals": _arm(asked, by_total),
            "rules, and the model": _arm(asked, by_model),
        },
        "auroc": {
            "model": judging.auroc(asked.truth, model.probability(asked.x)),
            "totals": judging.auroc(asked.truth, baseline.probability(totals)),
        },
    }


def _highest(probability: Numbers, looked_at: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """So many more as EXTRA says, to the student: of ties the first."""
    order = np.argsort(-np.where(looked_at, -1.0, probability), kind="stable")
    found = np.zeros(len(probability), dtype=bool)
    found[order[: round(EXTRA * len(probability))]] = True
    return found


def _arm(asked: _Sheets, looked_at: npt.NDArray[np.bool_]) -> dict[str, Any]:
    found = int((asked.truth * looked_at).sum())
    return {
        "looked_at": int(looked_at.sum()),
        "found": found,
        "sensitivity": found / max(1, int(asked.truth.sum())),
        "precision": found / max(1, int(looked_at.sum())),
    }


def _taught(learned: Sequence[_Sheets], seed: int, *, is_baseline: bool = False) -> Model:
    """Fitted on who was talked with: every flagged student, and a lot among the others that stands for all of them."""
    x = np.vstack([one.x for one in learned])
    tier = np.concatenate([one.tier for one in learned])
    known = (tier > 0) | (np.random.default_rng(seed).random(len(tier)) < LOT)
    weights = np.where(tier > 0, 1.0, 1 / LOT)[known]
    schools = np.concatenate([np.char.add(one.schools.astype(str), str(i)) for i, one in enumerate(learned)])[known]
    first = learned[0]
    chosen = list(first.totals) if is_baseline else list(range(len(first.columns)))
    return fitting.fit(
        x[known][:, chosen],
        np.concatenate([one.truth for one in learned])[known],
        schools,
        columns=[first.columns[place] for place in chosen],
        directions=[first.directions[place] for place in chosen],
        weights=weights,
        is_baseline=is_baseline,
    )


def _sheets(made: town.Town) -> _Sheets:
    """Of everybody whose own sheet would be taken; who stands twice in a file has none."""
    kept = [
        sheet
        for sheet in (*made.files, *made.online)
        if sheet.pupil and sheet.pupil.has_consent and sheet.number not in made.doubled
        and sheet.number == sheet.pupil.number and set(sheet.answers) == set(FORMS)
        and all(town.state(code, cells) in ("complete", "incomplete") for code, cells in sheet.answers.items())
    ]  # fmt: skip
    frames, columns, directions, totals = {}, list[pl.Series](), list[int](), list[int]()
    for code in FORMS:
        instrument = catalogue.get(code)
        items = [item.id for item in instrument.items][: town.ITEMS[code]]
        cells = [[cell if isinstance(cell, int) else None for cell in sheet.answers[code]] for sheet in kept]
        answers = pl.DataFrame(cells, schema=dict.fromkeys(items, pl.Int16), orient="row")
        scored = answers.hstack(scoring.score(answers, instrument))
        frames[code, "self"] = scored.with_row_index("key")
        scored_items = [item.id for item in instrument.items if item.is_scored]
        columns += [scored[item].cast(pl.Float32).alias(f"{code}.{item}") for item in scored_items]
        directions += [direction_of(instrument, item) for item in scored_items]
        totals.append(len(columns))
        columns.append(scored[instrument.primary_scale].cast(pl.Float32).alias(f"{code}.total"))
        directions.append(1)
    who = pl.DataFrame({"key": range(len(kept)), "prior_tier": [0] * len(kept), "age": [15] * len(kept)}).with_columns(
        pl.col("key").cast(pl.UInt32), pl.col("prior_tier").cast(pl.Int8), pl.col("age").cast(pl.Int16)
    )
    verdicts = tiers.decide(who, frames, policy.shipped(), {code: catalogue.get(code) for code in FORMS})
    return _Sheets(
        x=pl.DataFrame(columns).fill_null(float("nan")).to_numpy().astype(np.float32),
        columns=tuple(column.name for column in columns),
        directions=tuple(directions),
        totals=tuple(totals),
        tier=verdicts["tier"].to_numpy().astype(np.int64),
        truth=np.array([float(sheet.pupil.is_at_risk) for sheet in kept if sheet.pupil]),
        schools=np.array([sheet.school for sheet in kept]),
    )
