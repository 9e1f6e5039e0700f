"""The parts of an instrument: frozen values, each sourced, and what can be asked of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

FORM_NAMES = ("self", "youth", "parent", "teacher")
INFORMANTS = ("student", "parent", "teacher", "staff")
METHODS = ("sum", "mean", "count", "linear", "level")
OPERATORS = (">=", ">", "<=", "<", "==")
VERDICTS = ("TEXT", "TEXT-NC", "STRUCTURE", "NO")
SENSITIVITIES = ("ordinary", "sensitive")

_Named = TypeVar("_Named", "Item", "Scale")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a definition: `place` such as `scales.total.items[2]`, `message` in plain words."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class DefinitionError(ValueError):
    """A definition that cannot be trusted. `problems` holds every problem found, in the order of the file."""

    def __init__(self, origin: str, problems: tuple[Problem, ...]) -> None:
        self.origin = origin
        self.problems = problems
        super().__init__(f"{origin}: " + "; ".join(map(str, problems)))

    def __reduce__(self) -> tuple[type[DefinitionError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.origin, self.problems)


@dataclass(frozen=True, slots=True)
class Fact:
    """Where a statement comes from.

    `seen` is "source" (read there), "ours" (decided by this project, `source` says why) or "" while it is open.
    An open fact was written from memory and must be confirmed before the definition may be released.
    """

    source: str
    seen: Literal["source", "ours", ""]

    @property
    def is_open(self) -> bool:
        return not self.seen


@dataclass(frozen=True, slots=True)
class Licence:
    """What may be done with the wording in one language. Only the verdict TEXT lets a file carry wording."""

    language: str
    verdict: Literal["TEXT", "TEXT-NC", "STRUCTURE", "NO"]
    text: str
    fact: Fact


@dataclass(frozen=True, slots=True)
class Form:
    """Who answers about whom: ages in completed years, inclusive; `max_age` None means no upper limit."""

    name: str
    informant: str
    min_age: int
    max_age: int | None
    fact: Fact


@dataclass(frozen=True, slots=True)
class Option:
    """One answer: the `code` that is stored, the `score` before any reversing, its words, its LOINC answer code."""

    code: int
    score: int
    text: Mapping[str, str]
    loinc: str | None


@dataclass(frozen=True, slots=True)
class ItemCondition:
    """True when at least `at_least` of the items `any_of` have a score that meets `op value`.

    With `is_blank_counted` a blank counts as meeting it where the item was due (a refusal that must be treated as a
    yes).
    """

    any_of: tuple[str, ...]
    op: str
    value: int
    at_least: int
    is_blank_counted: bool


@dataclass(frozen=True, slots=True)
class ScaleCondition:
    """True when the scale's score meets `op value`; unknown when it has none."""

    scale: str
    op: str
    value: float


@dataclass(frozen=True, slots=True)
class Level:
    """A value of a level scale, taken when all its conditions surely hold and no level above it does."""

    value: int
    all_of: tuple[ItemCondition | ScaleCondition, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `codes` maps every accepted code to its score, reversing already done.

    An item that is not scored (`is_scored` false) is optional: it never counts as missing, and a code that it does
    not know costs no other item its score. `asked_if` names the condition under which it is asked at all;
    `answer_set` is the name under which the file lists its options. `minimum_grade` is the lowest grade whose pupils
    may be shown it.
    """

    id: str
    number: int
    answer_set: str
    options: tuple[Option, ...]
    codes: Mapping[int, int]
    is_reversed: bool
    is_scored: bool
    text: Mapping[str, str]
    minimum_grade: int | None
    sensitivity: str
    loinc: str | None
    asked_if: ItemCondition | None


@dataclass(frozen=True, slots=True)
class MissingRule:
    """What blanks do to a scale.

    none: one blank and there is no score. prorate: up to `limit` blanks, sum * items / answered. minimum_answered:
    at least `limit` items answered, same formula (mean times items). blank_as_zero: a blank adds 0; from `limit`
    blanks in the WHOLE form on, the form is invalid (None: never). Sums are rounded half up, in whole numbers.
    """

    kind: Literal["none", "prorate", "minimum_answered", "blank_as_zero"]
    limit: int | None
    fact: Fact

    def max_blank(self, n_items: int) -> int:
        """How many of `n_items` may be blank before the scale has no score."""
        match self.kind:
            case "prorate":
                return self.limit or 0
            case "minimum_answered":
                return n_items - (self.limit or n_items)
            case "blank_as_zero":
                return n_items
            case _:
                return 0


@dataclass(frozen=True, slots=True)
class Scale:
    """One number made of items, or of other scales (`of`).

    sum, mean: of the item scores. count: items whose score reaches its threshold in `thresholds`. linear: `multiply`
    times the one scale in `of`, plus `add`. A scale made of scales has no score when one of them has none. level: the
    value of the first of `levels` that holds, else 0; it always has a value, because what is unknown does not hold.
    """

    id: str
    title: Mapping[str, str]
    method: Literal["sum", "mean", "count", "linear", "level"]
    items: tuple[str, ...]
    of: tuple[str, ...]
    thresholds: Mapping[str, int]
    multiply: float
    add: float
    levels: tuple[Level, ...]
    missing: MissingRule
    is_high_good: bool
    loinc: str | None
    fact: Fact


@dataclass(frozen=True, slots=True)
class Band:
    """A labelled range of one scale, both ends inclusive."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BandScheme:
    """One published way of cutting scales into bands, for one population. `bands` maps scale id to bands, low first.

    Age range and sex say whom the scheme is for; scoring computes it for everybody and leaves that choice to the
    reader. `forms` empty means every form. Exactly one primary scheme may speak for a scale of a form.
    """

    name: str
    is_primary: bool
    forms: tuple[str, ...]
    population: str
    min_age: int | None
    max_age: int | None
    sex: Literal["f", "m"] | None
    bands: Mapping[str, tuple[Band, ...]]
    fact: Fact


@dataclass(frozen=True, slots=True)
class CutOff:
    """A named threshold on a scale; `marks` says whether it screens or marks impairment."""

    name: str
    scale: str
    op: str
    value: float
    marks: Literal["screen", "impairment"]
    forms: tuple[str, ...]
    fact: Fact


@dataclass(frozen=True, slots=True)
class Derived:
    """A named yes/no that holds when all its conditions hold; unknown when one of them is unknown."""

    name: str
    all_of: tuple[ItemCondition | ScaleCondition, ...]
    forms: tuple[str, ...]
    fact: Fact


@dataclass(frozen=True, slots=True)
class CriticalItem:
    """An answer that matters alone, whatever the form is worth. `value` is compared with the item's score."""

    id: str
    item: str
    op: str
    value: int
    kind: str
    forms: tuple[str, ...]
    fact: Fact


@dataclass(frozen=True, slots=True)
class ValidityRule:
    """A scale that doubts the form. `invalid` becomes the form's status; `suspect` is only reported beside it."""

    name: str
    scale: str
    op: str
    value: float
    verdict: Literal["invalid", "suspect"]
    fact: Fact


@dataclass(frozen=True, slots=True)
class Layout:
    """A printed edition: item ids in printed order, number 1 first; `codes` maps its printed codes to ours.

    `mirrored` are items that this edition words the other way round, so that their answers run backwards. Bands that
    were made for another wording do not hold here: then `is_banded` is false.
    """

    name: str
    items: tuple[str, ...]
    codes: Mapping[int, int]
    mirrored: tuple[str, ...]
    is_banded: bool
    fact: Fact

    def codes_of(self, item: Item) -> Mapping[int, int]:
        """What this edition prints for the item's answers -> the item's own codes."""
        printed = self.codes or {code: code for code in item.codes}
        if item.id not in self.mirrored:
            return printed
        own = sorted(item.codes)
        back = dict(zip(own, reversed(own), strict=True))
        return {code: back[ours] for code, ours in printed.items() if ours in back}


@dataclass(frozen=True, slots=True)
class InstructedItem:
    """An item whose right answer the form itself tells."""

    item: str
    code: int


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """A questionnaire in one version, complete and checked. Two are equal when their files are byte for byte."""

    code: str
    edition: str
    version: str
    title: Mapping[str, str]
    stem: Mapping[str, str]
    construct: str
    time_frame: str | None
    is_released: bool
    needs_licence: bool
    loinc: str | None
    default_form: str
    primary_scale: str
    forms: Mapping[str, Form]
    layouts: Mapping[str, Layout]
    items: tuple[Item, ...]
    scales: tuple[Scale, ...]
    band_titles: Mapping[str, Mapping[str, str]]
    band_schemes: tuple[BandScheme, ...]
    cut_offs: tuple[CutOff, ...]
    derived: tuple[Derived, ...]
    critical_items: tuple[CriticalItem, ...]
    validity_rules: tuple[ValidityRule, ...]
    contradictory_pairs: tuple[tuple[str, str], ...]
    instructed_items: tuple[InstructedItem, ...]
    licences: Mapping[str, Licence]
    sources: tuple[str, ...]
    digest: str
    body: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instrument) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def scored_items(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.is_scored)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages whose whole wording this file carries."""
        return tuple(name for name, licence in self.licences.items() if licence.verdict == "TEXT")

    @property
    def open_facts(self) -> tuple[tuple[str, Fact], ...]:
        """What is still to be confirmed, with its place in the file."""
        return tuple((place, fact) for place, fact in self.facts() if fact.is_open)

    def item(self, item_id: str) -> Item:
        """The item of that id; KeyError when there is none."""
        return _by_id(self.items, item_id)

    def scale(self, scale_id: str) -> Scale:
        """The scale of that id; KeyError when there is none."""
        return _by_id(self.scales, scale_id)

    def form_name(self, form: str | None = None) -> str:
        """`form`, or the default form for None; ValueError that names the forms when there is no such form."""
        name = self.default_form if form is None else form
        if name not in self.forms:
            raise ValueError(f"{self.code} has no form {name!r}, only {', '.join(self.forms)}")
        return name

    def facts(self) -> Iterator[tuple[str, Fact]]:
        """Every sourced statement with its place in the file."""
        for name, form in self.forms.items():
            yield f"forms.{name}", form.fact
        for name, layout in self.layouts.items():
            yield f"layouts.{name}", layout.fact
        for scale in self.scales:
            yield f"scales.{scale.id}", scale.fact
            yield f"scales.{scale.id}.missing", scale.missing.fact
        for scheme in self.band_schemes:
            yield f"band_schemes.{scheme.name}", scheme.fact
        for place, things in (
            ("cut_offs", self.cut_offs),
            ("derived", self.derived),
            ("validity", self.validity_rules),
        ):
            for thing in things:
                yield f"{place}.{thing.name}", thing.fact
        for critical in self.critical_items:
            yield f"critical.{critical.id}", critical.fact
        for language, licence in self.licences.items():
            yield f"licence.{language}", licence.fact

    def score_range(self, scale_id: str) -> tuple[float, float]:
        """Lowest and highest score that the scale can have, inclusive."""
        return _score_range(self.scale(scale_id), {s.id: s for s in self.scales}, {i.id: i for i in self.items})


def holds(score: float, op: str, value: float) -> bool:
    """Whether `score op value`, for the operators of the format."""
    match op:
        case ">=":
            return score >= value
        case ">":
            return score > value
        case "<=":
            return score <= value
        case "<":
            return score < value
        case _:
            return score == value


def is_whole(value: float) -> bool:
    """Whether the number has no fraction."""
    return float(value).is_integer()


def has_whole_scores(instrument: Instrument, scale_id: str) -> bool:
    """Whether every score of the scale is a whole number (then its column is Int16, otherwise Float64)."""
    scale = instrument.scale(scale_id)
    if scale.method == "mean" or not (is_whole(scale.multiply) and is_whole(scale.add)):
        return False
    return all(has_whole_scores(instrument, part) for part in scale.of)


def _score_range(scale: Scale, scales: Mapping[str, Scale], items: Mapping[str, Item]) -> tuple[float, float]:
    if scale.levels:
        values = [0, *(level.value for level in scale.levels)]
        return min(values), max(values)
    if scale.of:
        parts = [_score_range(scales[name], scales, items) for name in scale.of]
        ends = [scale.multiply * sum(part[end] for part in parts) + scale.add for end in (0, 1)]
        return min(ends), max(ends)
    if scale.method == "count":
        return 0, len(scale.items)
    scores = [items[name].codes.values() for name in scale.items]
    low, high = sum(map(min, scores)), sum(map(max, scores))
    # A blank that counts as zero can pull a form below the lowest score that answers alone can give.
    low = min(low, 0) if scale.missing.kind == "blank_as_zero" and scale.missing.limit is None else low
    return (low / len(scores), high / len(scores)) if scale.method == "mean" else (low, high)


def _by_id(things: tuple[_Named, ...], wanted: str) -> _Named:
    for thing in things:
        if thing.id == wanted:
            return thing
    raise KeyError(wanted)
