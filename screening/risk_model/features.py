"""One table of features, for training and for one student alike: what a model may know, column by column.

Items as scored, scale scores, how many items were left blank, and how far each scale moved since the student's last
round; grade and sex only where the policy names them. Special groups, marks, discipline and words a student wrote are
not in it and have no way in: a column exists only because an instrument or the policy names it.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from sqlalchemy.orm import Session

from instruments.definition import Instrument, Item
from screening import access, results, rounds
from screening.copying import copy_out
from screening.risk_model.fitting import Matrix

VERSION = 1
"""Of this table. A model is asked only with the table it learned from."""


@dataclass(frozen=True)
class Feature:
    """A column: `direction` 1 where a higher value is a worse symptom, -1 where a better one, 0 where neither."""

    name: str
    direction: int


def columns(rules: rounds.RoundRules) -> list[Feature]:
    """The table's columns for a battery, in a fixed order."""
    found: list[Feature] = []
    for code, form in _forms(rules):
        instrument = rules.instruments[code]
        place = f"{code}.{form}"
        found += [Feature(f"{place}.{item.id}", direction_of(instrument, item.id)) for item in _asked(instrument)]
        for scale in instrument.scales:
            direction = -1 if scale.is_high_good else 1
            found.append(Feature(f"{place}.{scale.id}", direction))
            found.append(Feature(f"{place}.{scale.id}.change", direction))
        found.append(Feature(f"{place}.blank", 0))
    return [*found, *(Feature(name, 0) for name in rules.policy.model_may_use)]


def totals(rules: rounds.RoundRules) -> list[Feature]:
    """The columns of the baseline: the main scale of each form."""
    found = []
    for code, form in _forms(rules):
        instrument = rules.instruments[code]
        scale = next(scale for scale in instrument.scales if scale.id == instrument.primary_scale)
        found.append(Feature(f"{code}.{form}.{scale.id}", -1 if scale.is_high_good else 1))
    return found


def direction_of(instrument: Instrument, item_id: str) -> int:
    """Which way an item counts: as every scale that it is in; 0 where it is in none, or scales disagree."""
    ways = {-1 if scale.is_high_good else 1 for scale in instrument.scales if item_id in scale.items}
    return ways.pop() if len(ways) == 1 else 0


def table(session: Session, round_id: uuid.UUID, students: Sequence[str]) -> pl.DataFrame:
    """A row per student with answers in this round: `student_id` (text) and every column of `columns`, null as blank.

    Of several attempts and corrections of a form the last one counts.
    """
    rules = rounds.rules_of(session, round_id)
    stored = results.administrations(session, round_id, list(students))
    who = stored.select("student_id").unique().sort("student_id").with_row_index("key")
    forms = results.unpacked(stored.join(who, on="student_id"), rules)
    found = who
    for (code, form), frame in forms.items():
        last = frame.sort("attempt", "revision").unique("key", keep="last", maintain_order=True)
        found = found.join(_columns_of(last, rules.instruments[code], f"{code}.{form}"), on="key", how="left")
    found = _with_change(session, round_id, rules, found)
    if rules.policy.model_may_use:
        found = found.join(_context(session, round_id), on="student_id", how="left")
    wanted = [feature.name for feature in columns(rules)]
    missing = [pl.lit(None, pl.Float64).alias(name) for name in wanted if name not in found.columns]
    return found.with_columns(missing).select("student_id", *wanted)


def matrix(frame: pl.DataFrame, names: Sequence[str]) -> Matrix:
    """Rows of `table` in a model's own columns; a column that this battery does not have is missing throughout."""
    here = set(frame.columns)
    places = [place for place, name in enumerate(names) if name in here]
    found = np.full((frame.height, len(names)), np.nan, dtype=np.float32)
    if places:
        # one cast of the whole: an expression per column takes longer for one student than the model does
        found[:, places] = frame.select([names[place] for place in places]).to_numpy()
    return found


def _forms(rules: rounds.RoundRules) -> list[tuple[str, str]]:
    return [(code, form) for code, forms in rules.forms.items() for form in forms]


def _asked(instrument: Instrument) -> list[Item]:
    return [item for item in instrument.items if item.is_scored]


def _columns_of(frame: pl.DataFrame, instrument: Instrument, place: str) -> pl.DataFrame:
    items = [
        pl.col(item.id)
        .replace_strict(dict(item.codes), default=None, return_dtype=pl.Float64)
        .alias(f"{place}.{item.id}")
        for item in _asked(instrument)
    ]
    scales = [pl.col(scale.id).cast(pl.Float64).alias(f"{place}.{scale.id}") for scale in instrument.scales]
    return frame.select("key", *items, *scales, pl.col("n_missing").cast(pl.Float64).alias(f"{place}.blank"))


# -- since earlier rounds ---------------------------------------------------------------------------------------------

_EARLIER = (
    "select distinct on (d.student_id, d.instrument, d.informant) d.student_id, d.instrument, d.informant,"
    " s.instruments ->> d.instrument, d.scores from administrations d"
    " join rounds o on o.district_id = d.district_id and o.id = d.round_id"
    " join rule_sets s on s.district_id = o.district_id and s.id = o.rule_set_id"
    " join rounds own on own.district_id = d.district_id and own.id = %s"
    " where d.district_id = %s and d.student_id = any(%s::uuid[]) and o.opens_at < own.opens_at"
    " and o.opens_at >= own.opens_at - make_interval(days => %s)"
    " order by d.student_id, d.instrument, d.informant, o.opens_at desc, d.attempt desc, d.revision desc"
)
_EARLIER_COLUMNS: dict[str, type[pl.DataType]] = {
    "student_id": pl.String,
    "instrument": pl.String,
    "informant": pl.String,
    "digest": pl.String,
    "scores": pl.String,
}


def _with_change(session: Session, round_id: uuid.UUID, rules: rounds.RoundRules, found: pl.DataFrame) -> pl.DataFrame:
    district_id = access.scope_of(session).district_id
    students = found.get_column("student_id").to_list()
    before = copy_out(
        session, _EARLIER, (round_id, district_id, students, rules.policy.look_back_days), _EARLIER_COLUMNS
    )
    for (code, informant), group in before.group_by("instrument", "informant"):
        instrument = rules.instruments.get(str(code))
        if instrument is None:
            continue
        place = f"{code}.{results.form_of(instrument, str(informant))}"
        # scores of another edition are other numbers
        same = group.filter(pl.col("digest") == instrument.digest).with_columns(results.numbers("scores", pl.Float64))
        names = [f"{place}.{scale.id}" for scale in instrument.scales]
        if names[0] not in found.columns or same.is_empty():
            continue
        earlier = same.select(
            "student_id", *(pl.col("scores").list.get(i, null_on_oob=True).alias("_" + n) for i, n in enumerate(names))
        )
        found = (
            found.join(earlier, on="student_id", how="left")
            .with_columns((pl.col(name) - pl.col("_" + name)).alias(f"{name}.change") for name in names)
            .drop("_" + name for name in names)
        )
    return found


_CONTEXT = (
    "select a.student_id, max(a.grade), max(case s.sex when 'f' then 1 when 'm' then 0 end) from assignments a"
    " join students s on s.district_id = a.district_id and s.id = a.student_id"
    " where a.district_id = %s and a.round_id = %s group by a.student_id"
)


def _context(session: Session, round_id: uuid.UUID) -> pl.DataFrame:
    schema: dict[str, type[pl.DataType]] = {"student_id": pl.String, "grade": pl.Float64, "sex": pl.Float64}
    return copy_out(session, _CONTEXT, (access.scope_of(session).district_id, round_id), schema)
