"""What the tests would notice in a definition: wrong scores on designed answers, wrong layouts, broken vectors."""

from functools import cache
from typing import Any

import polars as pl

from instruments import scoring
from instruments.definition import Instrument, Layout
from tests.instruments import plain, vectors
from tests.instruments.facts import FACTS, Facts
from tests.instruments.test_vectors import by_item, differences


class Noticing:
    """The checks of one instrument, made ready once: what is expected does not depend on the definition."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.facts = FACTS[code]

    def differences(self, instrument: Instrument) -> list[str]:
        """Where this definition does not say what the facts say; at most one line for each form and layout."""
        return [
            *(line for form in self.facts.forms for line in self._of_form(instrument, form)),
            *(line for name in self.facts.layouts for line in self._of_layout(instrument, name)),
        ]

    def vectors(self, instrument: Instrument) -> list[str]:
        """Vectors that this definition breaks."""
        found = []
        for (form, layout), group in vectors.groups(self.code).items() if vectors.by_code() else ():
            for vector in group:
                try:
                    scored = scoring.score_one(by_item(instrument, layout, vector), instrument, form)
                except (KeyError, ValueError) as error:
                    found.append(f"{vector['id']}: {error!r}")
                else:
                    found += differences(instrument, layout, vector, scored)
        return found

    def _of_form(self, instrument: Instrument, form: str) -> list[str]:
        answers, expected = _expected(self.code, form)
        if form not in instrument.forms:
            return [f"there is no {form} form"]
        try:
            found = scoring.score(answers, instrument, form)
        except (ValueError, pl.exceptions.PolarsError) as error:
            return [f"{form}: {error}"]
        for name in expected.columns:
            if name not in found.columns:
                return [f"{form}: there is no column {name}"]
            wrong = _wrong(found[name], expected[name])
            if wrong is not None:
                return [f"{form}, row {wrong}: {name} is {found[name][wrong]}, not {expected[name][wrong]}"]
        further = {c for c in found.columns if c not in expected.columns and c != "n_answered"}
        return [f"{form}: nobody published {', '.join(sorted(further))}"] if further else []

    def _of_layout(self, instrument: Instrument, name: str) -> list[str]:
        layout = instrument.layouts.get(name)
        if layout is None:
            return [f"there is no layout {name}"]
        order = tuple(int(item.rpartition("_")[2]) for item in layout.items)
        if order != self.facts.layouts[name]:
            return [f"layout {name} has the order {order}"]
        wanted = _codes(self.facts, name)
        for item in instrument.scored_items:
            told = _scores(instrument, layout, item.id)
            if told != wanted(item.number):
                return [f"layout {name}: item {item.number} scores {told}, not {wanted(item.number)}"]
        return []


@cache
def _expected(code: str, form: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Answers at every edge, and what the plain scorer makes of them."""
    facts = FACTS[code]
    made = list(plain.forms(facts, seed=len(code)))
    answers = pl.DataFrame(
        [{f"{code}_{n}": answer for n, answer in one.items()} for one in made],
        schema={f"{code}_{n}": pl.Int16 for n in (*range(1, facts.n_items + 1), *facts.optional)},
    )
    rows: list[dict[str, Any]] = [plain.score(facts, form, one) for one in made]
    for row in rows:
        row.update({name: float(value) for name, value in row.items() if _is_number(value)})
    return answers, pl.DataFrame(rows, infer_schema_length=None)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool | str) and value is not None


def _wrong(found: pl.Series, expected: pl.Series) -> int | None:
    """The first row where they differ."""
    if expected.dtype == pl.Null:
        same = found.is_null()
    elif expected.dtype == pl.Float64:
        if not found.dtype.is_numeric():
            return 0
        apart = (found.cast(pl.Float64) - expected).abs() < 1e-9
        same = apart.fill_null(False) | (found.is_null() & expected.is_null())
    elif expected.dtype == pl.String:
        same = found.cast(pl.String).eq_missing(expected)
    else:
        same = found.eq_missing(expected) if found.dtype == pl.Boolean else pl.Series([False] * len(found))
    return None if same.all() else (~same).arg_max()


def _codes(facts: Facts, layout: str) -> Any:
    """Printed number of an item -> printed code -> score, reversing done."""
    low, high = min(facts.codes), max(facts.codes)
    printed = facts.printed.get(layout) or {code: code for code in facts.codes}

    def of_item(number: int) -> dict[int, int]:
        is_turned = (number in facts.reversed) != (number in facts.mirrored.get(layout, ()))
        return {code: low + high - score if is_turned else score for code, score in printed.items()}

    return of_item


def _scores(instrument: Instrument, layout: Layout, item_id: str) -> dict[int, int]:
    item = instrument.item(item_id)
    return {code: item.codes[ours] for code, ours in layout.codes_of(item).items() if ours in item.codes}
