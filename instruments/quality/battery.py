"""What signs of careless answering need to know about the forms of one sitting: keys, facets, pairs, lie scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from instruments.definition import Instrument, Item, Scale, ValidityRule

Floats = NDArray[np.float64]
Places = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One question: `places` maps a code to its place on the printed form, `steps` to its place after reversing.

    Both count from 0. A code that is not in them is read as a blank; scoring is who names it.
    """

    id: str
    places: Mapping[int, int]
    steps: Mapping[int, int]
    is_reversed: bool

    @property
    def n_places(self) -> int:
        """The last place; the first is 0."""
        return max(self.places.values())

    @property
    def n_steps(self) -> int:
        return max(self.steps.values())


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The questions of one form, in printed order."""

    code: str
    questions: tuple[Question, ...]
    facets: tuple[tuple[str, ...], ...]
    """Groups of questions about one trait, without overlap."""
    contradictory: tuple[tuple[str, str], ...]
    instructed: tuple[tuple[str, int], ...]
    lies: tuple[ValidityRule, ...]
    instrument: Instrument | None
    form: str | None

    @property
    def is_mixed_keyed(self) -> bool:
        return len({question.is_reversed for question in self.questions}) == 2


@dataclass(frozen=True, slots=True, eq=False)
class Battery:
    """The forms that one person fills in at one sitting. What is derived from one is kept with it, so make it once."""

    sheets: tuple[Sheet, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        return tuple(question for sheet in self.sheets for question in sheet.questions)

    @property
    def facets(self) -> tuple[tuple[str, ...], ...]:
        return tuple(facet for sheet in self.sheets for facet in sheet.facets)


def of_instruments(forms: Iterable[tuple[Instrument, str | None]]) -> Battery:
    """The battery of these forms: (instrument, form name or None for its default form).

    Raises ValueError when an instrument stands in it twice.
    """
    return _of_instruments(tuple((instrument, instrument.form_name(form)) for instrument, form in forms))


@lru_cache(maxsize=128)
def _of_instruments(forms: tuple[tuple[Instrument, str], ...]) -> Battery:
    codes = [instrument.code for instrument, _ in forms]
    if len(set(codes)) < len(codes):
        raise ValueError(f"an instrument stands twice in the battery {', '.join(codes)}")
    return Battery(tuple(_sheet(instrument, form) for instrument, form in forms))


def of_columns(
    code: str, facets: Sequence[Sequence[str]], codes: Sequence[int], reversed_items: Iterable[str] = ()
) -> Battery:
    """A battery for data without a definition: one sheet, columns by facet, the same `codes` everywhere.

    `reversed_items` are columns still to be reversed; name none whose values already are.
    """
    backwards = frozenset(reversed_items)
    order = {value: place for place, value in enumerate(sorted(codes))}
    mirrored = {value: len(order) - 1 - place for value, place in order.items()}
    questions = tuple(
        Question(name, order, mirrored if name in backwards else order, name in backwards)
        for facet in facets
        for name in facet
    )
    return Battery((Sheet(code, questions, tuple(map(tuple, facets)), (), (), (), None, None),))


def joined(batteries: Iterable[Battery]) -> Battery:
    """Several batteries answered at one sitting."""
    return Battery(tuple(sheet for battery in batteries for sheet in battery.sheets))


def places_of(answers: pl.DataFrame, battery: Battery) -> Places:
    """Rows x questions: each answer's place on the printed form, -1 for a blank or an unknown code."""
    table = _table(battery)
    cells = _cells(battery, frozenset(answers.columns).intersection(one.id for one in battery.questions))
    codes = answers.select(pl.repeat(0, pl.len(), dtype=pl.Int16).alias("·"), *cells).to_numpy()[:, 1:]
    found: Places = table[np.arange(len(table)), codes]
    return found


@lru_cache(maxsize=128)
def _table(battery: Battery) -> Places:
    """Question x code: places. The first cell and the one after the last code always say "blank"."""
    spans = [max(question.places) - min(question.places) for question in battery.questions]
    table = np.full((len(spans), max(spans) + 3), -1, dtype=np.int8)
    for row, question in enumerate(battery.questions):
        for code, place in question.places.items():
            table[row, code - min(question.places) + 1] = place
    return table


@lru_cache(maxsize=128)
def _cells(battery: Battery, known: frozenset[str]) -> tuple[pl.Expr, ...]:
    """Each answer's cell in `_table`: blanks and codes beyond either end fall on the two that say "blank"."""
    return tuple(
        pl.col(one.id).cast(pl.Int64).fill_null(below).clip(below, above).cast(pl.Int16) - below
        if one.id in known
        else pl.lit(0, pl.Int16).alias(one.id)
        for one, below, above in ((one, min(one.places) - 1, max(one.places) + 1) for one in battery.questions)
    )


def steps_of(places: Places, questions: Sequence[Question]) -> Places:
    """The same after reversing: rows x questions, -1 for a blank."""
    table = np.full((len(questions), int(places.max(initial=0)) + 2), -1, dtype=np.int8)
    for row, question in enumerate(questions):
        for code, place in question.places.items():
            if place + 1 < table.shape[1]:
                table[row, place + 1] = question.steps[code]
    found: Places = table[np.arange(len(questions)), places + 1]
    return found


def _sheet(instrument: Instrument, form: str) -> Sheet:
    lie_scales = {rule.scale for rule in instrument.validity_rules}
    told = {instructed.item for instructed in instrument.instructed_items}
    lie_items = {name for scale in instrument.scales if scale.id in lie_scales for name in scale.items}
    optional = {item.id for item in instrument.items if not item.is_scored}
    return Sheet(
        code=instrument.code,
        questions=tuple(
            _question(item) for item in sorted(instrument.scored_items, key=lambda i: i.number) if item.id not in told
        ),
        facets=_facets([s for s in instrument.scales if s.id not in lie_scales], told | lie_items | optional),
        contradictory=instrument.contradictory_pairs,
        instructed=tuple((one.item, one.code) for one in instrument.instructed_items),
        lies=instrument.validity_rules,
        instrument=instrument,
        form=form,
    )


def _question(item: Item) -> Question:
    rank = {score: step for step, score in enumerate(sorted(set(item.codes.values())))}
    return Question(
        item.id,
        {option.code: place for place, option in enumerate(item.options)},
        {code: rank[score] for code, score in item.codes.items()},
        item.is_reversed,
    )


def _facets(scales: Sequence[Scale], left_out: set[str]) -> tuple[tuple[str, ...], ...]:
    """The finest scales that are scales in their own right.

    A total that its parts make up is no facet; nor is a part of a scale (the two questions of PHQ-2 in PHQ-9) that
    leaves some of it unspoken for.
    """
    sets = {frozenset(s.items) - left_out: s for s in scales if s.items and s.method in ("sum", "mean")}
    sets.pop(frozenset(), None)
    whole = [s for s in sets if frozenset().union(*(part for part in sets if part < s)) != s]
    chosen: list[frozenset[str]] = []
    for candidate in sorted(whole, key=len, reverse=True):
        if not any(candidate & other for other in chosen):
            chosen.append(candidate)
    return tuple(tuple(name for name in sets[one].items if name not in left_out) for one in chosen)
