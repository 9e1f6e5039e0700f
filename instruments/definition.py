"""What an instrument is: items, scales, bands, cut-offs, critical items and licence, read from one TOML file.

A definition checks itself completely while it is read. Whatever is wrong is named at once, each problem with its
place in the file, and nothing half-right ever becomes an `Instrument`.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import Any, Literal, TypeVar

FormName = Literal["self", "youth", "parent", "teacher"]
FORM_NAMES = ("self", "youth", "parent", "teacher")
INFORMANTS = ("student", "parent", "teacher", "staff")
METHODS = ("sum", "mean", "count", "linear")
OPERATORS = (">=", ">", "<=", "<", "==")
VERDICTS = ("TEXT", "TEXT-NC", "STRUCTURE", "NO")
SENSITIVITIES = ("ordinary", "sensitive")
FARTHEST_CODE = 999
RESERVED_COLUMNS = ("status", "n_missing", "n_answered", "critical_blank", "critical")

_IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_REQUIRED: Any = object()
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

    With `is_blank_counted` a blank counts as meeting it (a refusal that must be treated as a yes).
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
class Item:
    """One question. `codes` maps every accepted code to its score, reversing already done.

    An item that is not scored (`is_scored` false) is optional: it never counts as missing, and a code that it does
    not know costs no other item its score. `asked_if` names the condition under which it is asked at all.
    """

    id: str
    number: int
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
    times the one scale in `of`, plus `add`. A scale made of scales has no score when one of them has none.
    """

    id: str
    title: Mapping[str, str]
    method: Literal["sum", "mean", "count", "linear"]
    items: tuple[str, ...]
    of: tuple[str, ...]
    thresholds: Mapping[str, int]
    multiply: float
    add: float
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
    """A printed edition: item ids in printed order, number 1 first; `codes` maps its printed codes to ours."""

    name: str
    items: tuple[str, ...]
    codes: Mapping[int, int]
    fact: Fact


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


def parse(text: str | bytes, origin: str) -> Instrument:
    """Reads a definition.

    `text` is the content of a TOML file, `origin` its name for messages. The exact text stays in `body`, its SHA-256
    in `digest`, so that a stored copy can be read again years later. Raises `DefinitionError` with all problems.
    """
    problems: list[Problem] = []
    try:
        body = text.decode("utf-8") if isinstance(text, bytes) else text
        content = tomllib.loads(body)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(origin, (Problem("file", str(error)),)) from error
    instrument = _instrument(_Table(content, "", problems), body)
    if not problems:
        problems.extend(_check(instrument))
    if problems:
        raise DefinitionError(origin, tuple(problems))
    return instrument


def is_whole(value: float) -> bool:
    """Whether the number has no fraction."""
    return float(value).is_integer()


class _Table:
    """One TOML table being read: wrong things are noted and a harmless value stands in, so that reading goes on."""

    def __init__(self, content: Mapping[str, Any], place: str, problems: list[Problem]) -> None:
        self._left = dict(content)
        self.place = place
        self.problems = problems

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def note(self, key: str, message: str) -> None:
        self.problems.append(Problem(self.at(key), message))

    def _take(self, key: str, kinds: type | tuple[type, ...], what: str, default: Any, stand_in: Any) -> Any:
        if key not in self._left:
            if default is _REQUIRED:
                self.note(key, "is missing")
                return stand_in
            return default
        value = self._left.pop(key)
        allowed = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            self.note(key, f"must be {what}, not {value!r}")
            return stand_in
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> Any:
        value = self._take(key, str, "text", default, "?")
        if isinstance(value, str) and not value.strip():
            self.note(key, "is empty")
        return value

    def identifier(self, key: str, default: Any = _REQUIRED) -> str:
        value = str(self.text(key, default))
        if value != "?" and not _IDENTIFIER.fullmatch(value):
            self.note(key, f"{value!r} must be small letters, digits and single underscores")
        return value

    def whole(self, key: str, default: Any = _REQUIRED) -> Any:
        return self._take(key, int, "a whole number", default, 0)

    def number(self, key: str, default: Any = _REQUIRED) -> Any:
        return self._take(key, (int, float), "a number", default, 0)

    def yes(self, key: str, default: Any = _REQUIRED) -> bool:
        return bool(self._take(key, bool, "true or false", default, False))

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _REQUIRED) -> Any:
        value = self._take(key, str, "text", default, allowed[0])
        if value is not None and value not in allowed:
            self.note(key, f"must be one of {', '.join(allowed)}, not {value!r}")
            return allowed[0]
        return value

    def texts(self, key: str, default: Any = _REQUIRED, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = self._take(key, list, "a list", default, [])
        for index, value in enumerate(values):
            if not isinstance(value, str):
                self.note(f"{key}[{index}]", f"must be text, not {value!r}")
            elif allowed and value not in allowed:
                self.note(f"{key}[{index}]", f"must be one of {', '.join(allowed)}, not {value!r}")
        if len(set(map(str, values))) < len(values):
            self.note(key, "names something twice")
        return tuple(map(str, values))

    def languages(self, key: str, default: Any = _REQUIRED) -> dict[str, str]:
        table = self._take(key, dict, "a table of texts by language", default, {})
        for language, value in table.items():
            if not isinstance(value, str) or not value.strip():
                self.note(f"{key}.{language}", "must be text")
        return {str(k): str(v) for k, v in table.items()}

    def whole_map(self, key: str) -> dict[int, int]:
        table = self._take(key, dict, "a table of whole numbers", {}, {})
        found: dict[int, int] = {}
        for name, value in table.items():
            if not re.fullmatch(r"-?\d+", name) or not isinstance(value, int) or isinstance(value, bool):
                self.note(f"{key}.{name}", "must give a whole number for a whole number")
            else:
                found[int(name)] = value
        return found

    def table(self, key: str, default: Any = _REQUIRED) -> _Table | None:
        value = self._take(key, dict, "a table", default, {})
        return None if value is None else _Table(value, self.at(key), self.problems)

    def tables(self, key: str) -> list[_Table]:
        rows = self._take(key, list, "a list of tables", [], [])
        good = []
        for index, row in enumerate(rows):
            if isinstance(row, dict):
                good.append(_Table(row, self.at(f"{key}[{index}]"), self.problems))
            else:
                self.note(f"{key}[{index}]", f"must be a table, not {row!r}")
        return good

    def named(self, key: str) -> dict[str, _Table]:
        table = self._take(key, dict, "a table of tables", {}, {})
        good = {}
        for name, row in table.items():
            if isinstance(row, dict):
                good[name] = _Table(row, self.at(f"{key}.{name}"), self.problems)
            else:
                self.note(f"{key}.{name}", f"must be a table, not {row!r}")
        return good

    def fact(self) -> Fact:
        """Takes `source` with either `seen` or `confirm = true`; a fact without one of the two is a problem."""
        source = str(self.text("source"))
        is_open = self.yes("confirm", False)
        seen = self.choice("seen", ("source", "ours"), None)
        if is_open == bool(seen):
            self.note("seen", 'say seen = "source" or seen = "ours", or else confirm = true')
        return Fact(source, "" if is_open else seen or "source")

    def finish(self) -> None:
        for key in self._left:
            self.note(key, "is not a word of this format")


def _instrument(top: _Table, body: str) -> Instrument:
    code = top.identifier("code")
    options = {name: _options(table) for name, table in top.named("options").items()}
    default_missing = _missing(top.table("missing"))
    scales = tuple(_scale(name, table, default_missing) for name, table in top.named("scales").items())
    forms = {name: _form(name, table) for name, table in top.named("forms").items()}
    quality = top.table("quality", None)
    instrument = Instrument(
        code=code,
        edition=top.identifier("edition"),
        version=str(top.text("version")),
        title=top.languages("title"),
        stem=top.languages("stem", {}),
        construct=top.identifier("construct"),
        time_frame=top.text("time_frame", None),
        is_released=top.yes("released"),
        loinc=top.text("loinc", None),
        default_form=str(top.text("default_form")),
        primary_scale=str(top.text("primary_scale", "total")),
        forms=forms,
        layouts={name: _layout(name, table) for name, table in top.named("layouts").items()},
        items=tuple(_item(code, table, options) for table in top.tables("items")),
        scales=scales,
        band_titles={name: _titles(table) for name, table in top.named("band_titles").items()},
        band_schemes=tuple(_scheme(table) for table in top.tables("band_schemes")),
        cut_offs=tuple(_cut_off(name, table) for name, table in top.named("cut_offs").items()),
        derived=tuple(_derived(name, table) for name, table in top.named("derived").items()),
        critical_items=tuple(_critical(name, table) for name, table in top.named("critical").items()),
        validity_rules=tuple(_validity(name, table) for name, table in top.named("validity").items()),
        contradictory_pairs=_pairs(quality),
        instructed_items=_instructed(quality),
        licences={name: _licence(name, table) for name, table in top.named("licence").items()},
        sources=top.texts("sources"),
        digest=hashlib.sha256(body.encode()).hexdigest(),
        body=body,
    )
    if quality:
        quality.finish()
    top.finish()
    return instrument


def _options(table: _Table) -> tuple[Option, ...]:
    found = []
    for row in table.tables("answers"):
        code = row.whole("code")
        found.append(Option(code, row.whole("score", code), row.languages("text", {}), row.text("loinc", None)))
        row.finish()
    if len(found) < 2:
        table.note("answers", "needs at least two answers")
    if any(abs(option.code) > FARTHEST_CODE or abs(option.score) > FARTHEST_CODE for option in found):
        table.note("answers", f"codes and scores lie between -{FARTHEST_CODE} and {FARTHEST_CODE}")
    if len({option.code for option in found}) < len(found):
        table.note("answers", "gives one code twice")
    table.finish()
    return tuple(found)


def _item(code: str, table: _Table, options: Mapping[str, tuple[Option, ...]]) -> Item:
    number = table.whole("number")
    name = table.text("options")
    if name not in options and name != "?":
        table.note("options", f"there is no options.{name}")
    answers = options.get(name, ())
    is_reversed = table.yes("reversed", False)
    scores = [option.score for option in answers]
    mirror = min(scores, default=0) + max(scores, default=0)
    item = Item(
        id=f"{code}_{number}",
        number=number,
        options=answers,
        codes={o.code: mirror - o.score if is_reversed else o.score for o in answers},
        is_reversed=is_reversed,
        is_scored=table.yes("scored", True),
        text=table.languages("text", {}),
        minimum_grade=table.whole("minimum_grade", None),
        sensitivity=table.choice("sensitivity", SENSITIVITIES, "ordinary"),
        loinc=table.text("loinc", None),
        asked_if=_item_condition(table.table("asked_if", None)),
    )
    table.finish()
    return item


def _item_condition(table: _Table | None) -> ItemCondition | None:
    if table is None:
        return None
    condition = ItemCondition(
        any_of=table.texts("any_of"),
        op=table.choice("op", OPERATORS, ">="),
        value=table.whole("value", 1),
        at_least=table.whole("at_least", 1),
        is_blank_counted=table.yes("blank_counts", False),
    )
    if not 1 <= condition.at_least <= max(1, len(condition.any_of)):
        table.note("at_least", f"must lie between 1 and {len(condition.any_of)}")
    table.finish()
    return condition


def _missing(table: _Table | None) -> MissingRule:
    if table is None:
        return MissingRule("none", None, Fact("?", "source"))
    kind = table.choice("rule", ("none", "prorate", "minimum_answered", "blank_as_zero"))
    limit: int | None = None
    match kind:
        case "prorate":
            limit = table.whole("max_blank")
        case "minimum_answered":
            limit = table.whole("minimum")
        case "blank_as_zero":
            limit = table.whole("invalid_from", None)
    if limit is not None and limit < 1:
        table.note("rule", "its limit must be 1 or more")
    if kind in ("prorate", "minimum_answered"):
        table.choice("rounding", ("half_up",))
    rule = MissingRule(kind, limit, table.fact())
    table.finish()
    return rule


def _scale(name: str, table: _Table, default: MissingRule) -> Scale:
    thresholds = table.table("thresholds", None)
    own = table.table("missing", None)
    items = table.texts("items", [])
    scale = Scale(
        id=name,
        title=table.languages("title", {}),
        method=table.choice("method", METHODS),
        items=items,
        of=table.texts("of", []),
        thresholds=_thresholds(thresholds, items),
        multiply=table.number("multiply", 1),
        add=table.number("add", 0),
        missing=_missing(own) if own else default,
        is_high_good=table.yes("high_is_good", False),
        loinc=table.text("loinc", None),
        fact=table.fact(),
    )
    if bool(scale.items) == bool(scale.of):
        table.note("items", "give either items or of (other scales), one of the two")
    if scale.method == "linear" and len(scale.of) != 1:
        table.note("of", "a linear scale is made of exactly one scale")
    if scale.method in ("mean", "count") and scale.of:
        table.note("method", "only sum and linear can be made of other scales")
    if (scale.method == "count") != (thresholds is not None):
        table.note("thresholds", "belong to a count scale, and a count scale needs them")
    if own and scale.of:
        table.note("missing", "a scale made of scales follows theirs")
    if scale.method != "linear" and (scale.multiply != 1 or scale.add != 0):
        table.note("multiply", "multiply and add belong to a linear scale")
    table.finish()
    return scale


def _thresholds(table: _Table | None, items: tuple[str, ...]) -> dict[str, int]:
    """`every = 2` speaks for all items, `phq9_9 = 1` for one."""
    if table is None:
        return {}
    every = table.whole("every", None)
    found = {item: table.whole(item, every) for item in items}
    for item, threshold in found.items():
        if threshold is None:
            table.note(item, "has no threshold, and there is no `every`")
    table.finish()
    return {item: threshold or 0 for item, threshold in found.items()}


def _form(name: str, table: _Table) -> Form:
    if name not in FORM_NAMES:
        table.problems.append(Problem(table.place, f"a form is called one of {', '.join(FORM_NAMES)}"))
    form = Form(
        name,
        table.choice("informant", INFORMANTS),
        table.whole("min_age"),
        table.whole("max_age", None),
        table.fact(),
    )
    if form.max_age is not None and form.max_age < form.min_age:
        table.note("max_age", "is below min_age")
    table.finish()
    return form


def _layout(name: str, table: _Table) -> Layout:
    layout = Layout(name, table.texts("items"), table.whole_map("codes"), table.fact())
    table.finish()
    return layout


def _titles(table: _Table) -> dict[str, str]:
    titles = {language: str(table.text(language)) for language in list(table._left)}
    table.finish()
    return titles


def _scheme(table: _Table) -> BandScheme:
    scheme = BandScheme(
        name=table.identifier("name"),
        is_primary=table.yes("primary", False),
        forms=table.texts("forms", [], FORM_NAMES),
        population=str(table.text("population")),
        min_age=table.whole("min_age", None),
        max_age=table.whole("max_age", None),
        sex=table.choice("sex", ("f", "m"), None),
        bands={name: _bands(bands) for name, bands in table.named("bands").items()},
        fact=table.fact(),
    )
    table.finish()
    return scheme


def _bands(table: _Table) -> tuple[Band, ...]:
    found = []
    for name in list(table._left):
        ends = table._take(name, list, "two numbers, low and high", _REQUIRED, [])
        is_pair = len(ends) == 2 and all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends)
        if not is_pair:
            table.note(name, "must be two numbers, low and high")
        elif ends[0] > ends[1]:
            table.note(name, "its low end is above its high end")
        else:
            found.append(Band(name, ends[0], ends[1]))
    table.finish()
    return tuple(found)


def _cut_off(name: str, table: _Table) -> CutOff:
    cut_off = CutOff(
        name,
        str(table.text("scale")),
        table.choice("op", OPERATORS),
        table.number("value"),
        table.choice("marks", ("screen", "impairment"), "screen"),
        table.texts("forms", [], FORM_NAMES),
        table.fact(),
    )
    table.finish()
    return cut_off


def _derived(name: str, table: _Table) -> Derived:
    conditions: list[ItemCondition | ScaleCondition] = []
    for row in table.tables("all_of"):
        if "scale" in row._left:
            conditions.append(ScaleCondition(str(row.text("scale")), row.choice("op", OPERATORS), row.number("value")))
            row.finish()
        elif condition := _item_condition(row):
            conditions.append(condition)
    if not conditions:
        table.note("all_of", "needs at least one condition")
    derived = Derived(name, tuple(conditions), table.texts("forms", [], FORM_NAMES), table.fact())
    table.finish()
    return derived


def _critical(name: str, table: _Table) -> CriticalItem:
    critical = CriticalItem(
        name,
        str(table.text("item")),
        table.choice("op", OPERATORS),
        table.whole("value"),
        table.identifier("kind"),
        table.texts("forms", [], FORM_NAMES),
        table.fact(),
    )
    table.finish()
    return critical


def _validity(name: str, table: _Table) -> ValidityRule:
    rule = ValidityRule(
        name,
        str(table.text("scale")),
        table.choice("op", OPERATORS),
        table.number("value"),
        table.choice("verdict", ("invalid", "suspect")),
        table.fact(),
    )
    table.finish()
    return rule


def _licence(language: str, table: _Table) -> Licence:
    licence = Licence(language, table.choice("verdict", VERDICTS), str(table.text("text")), table.fact())
    table.finish()
    return licence


def _pairs(quality: _Table | None) -> tuple[tuple[str, str], ...]:
    if quality is None:
        return ()
    rows = quality._take("contradictory", list, "a list of pairs of item ids", [], [])
    good = []
    for index, row in enumerate(rows):
        if isinstance(row, list) and len(row) == 2:
            good.append((str(row[0]), str(row[1])))
        else:
            quality.note(f"contradictory[{index}]", "must be a pair of item ids")
    return tuple(good)


def _instructed(quality: _Table | None) -> tuple[InstructedItem, ...]:
    if quality is None:
        return ()
    found = []
    for row in quality.tables("instructed"):
        found.append(InstructedItem(str(row.text("item")), row.whole("code")))
        row.finish()
    return tuple(found)


def _check(instrument: Instrument) -> Iterator[Problem]:
    """What only the whole can tell: names that point nowhere, bands with holes, facts still open."""
    yield from _check_items(instrument)
    yield from _check_names(instrument)
    references = list(_check_references(instrument))
    yield from references
    yield from _check_wording(instrument)
    if not references:
        yield from _check_bands(instrument)
        yield from _check_missing(instrument)
    if instrument.is_released:
        for place, fact in instrument.facts():
            if fact.is_open:
                yield Problem(place, "is still to be confirmed, so the definition cannot be released")


def _check_items(instrument: Instrument) -> Iterator[Problem]:
    if not instrument.scored_items:
        yield Problem("items", "there is no scored item")
    numbers = [item.number for item in instrument.items]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            yield Problem(f"items[{index}].number", f"{number} is given twice")
    earlier: set[str] = set()
    for index, item in enumerate(instrument.items):
        for name in item.asked_if.any_of if item.asked_if else ():
            if name not in earlier:
                yield Problem(f"items[{index}].asked_if.any_of", f"{name} is no earlier item")
        earlier.add(item.id)


def _check_names(instrument: Instrument) -> Iterator[Problem]:
    """Every name becomes a column of the scores, so one name means one thing."""
    taken: dict[str, str] = dict.fromkeys(RESERVED_COLUMNS, "a column that every instrument has")
    taken |= {item.id: "an item" for item in instrument.items}
    named = chain(
        ((f"scales.{s.id}", s.id) for s in instrument.scales),
        ((f"cut_offs.{c.name}", c.name) for c in instrument.cut_offs),
        ((f"derived.{d.name}", d.name) for d in instrument.derived),
        ((f"validity.{v.name}", v.name) for v in instrument.validity_rules),
    )
    for place, name in named:
        if not _IDENTIFIER.fullmatch(name):
            yield Problem(place, "a name is small letters, digits and single underscores")
        if name.endswith("_band") or name.startswith("critical_"):
            yield Problem(place, "names like ..._band and critical_... belong to other columns")
        if name in taken:
            yield Problem(place, f"{name} is already {taken[name]}")
        taken[name] = place
    for critical in instrument.critical_items:
        if critical.id == "blank" or not _IDENTIFIER.fullmatch(critical.id):
            yield Problem(f"critical.{critical.id}", "is not a name that a critical item can have")


def _check_references(instrument: Instrument) -> Iterator[Problem]:
    items = {item.id for item in instrument.items}
    scales: set[str] = set()
    if not instrument.forms:
        yield Problem("forms", "there is no form")
    elif instrument.default_form not in instrument.forms:
        yield Problem("default_form", f"there is no forms.{instrument.default_form}")
    for scale in instrument.scales:
        for index, name in enumerate(scale.items):
            if name not in items:
                yield Problem(f"scales.{scale.id}.items[{index}]", f"there is no item {name}")
        for index, name in enumerate(scale.of):
            if name not in scales:
                yield Problem(f"scales.{scale.id}.of[{index}]", f"there is no scale {name} above this one")
        scales.add(scale.id)
    if instrument.primary_scale not in scales:
        yield Problem("primary_scale", f"there is no scales.{instrument.primary_scale}")
    for name, layout in instrument.layouts.items():
        for index, item in enumerate(layout.items):
            if item not in items:
                yield Problem(f"layouts.{name}.items[{index}]", f"there is no item {item}")
        for item in (i.id for i in instrument.scored_items if i.id not in layout.items):
            yield Problem(f"layouts.{name}.items", f"{item} is not in it")
    for index, scheme in enumerate(instrument.band_schemes):
        for name in scheme.bands:
            if name not in scales:
                yield Problem(f"band_schemes[{index}].bands.{name}", f"there is no scale {name}")
    for cut_off in instrument.cut_offs:
        if cut_off.scale not in scales:
            yield Problem(f"cut_offs.{cut_off.name}.scale", f"there is no scale {cut_off.scale}")
    for rule in instrument.validity_rules:
        if rule.scale not in scales:
            yield Problem(f"validity.{rule.name}.scale", f"there is no scale {rule.scale}")
    for derived in instrument.derived:
        for index, condition in enumerate(derived.all_of):
            place = f"derived.{derived.name}.all_of[{index}]"
            if isinstance(condition, ScaleCondition):
                if condition.scale not in scales:
                    yield Problem(f"{place}.scale", f"there is no scale {condition.scale}")
            else:
                for name in condition.any_of:
                    if name not in items:
                        yield Problem(f"{place}.any_of", f"there is no item {name}")
    yield from _check_item_references(instrument, items)
    for place, forms in chain(
        ((f"band_schemes[{i}]", s.forms) for i, s in enumerate(instrument.band_schemes)),
        ((f"cut_offs.{c.name}", c.forms) for c in instrument.cut_offs),
        ((f"derived.{d.name}", d.forms) for d in instrument.derived),
        ((f"critical.{c.id}", c.forms) for c in instrument.critical_items),
    ):
        for form in forms:
            if form not in instrument.forms:
                yield Problem(f"{place}.forms", f"there is no forms.{form}")


def _check_item_references(instrument: Instrument, items: set[str]) -> Iterator[Problem]:
    for critical in instrument.critical_items:
        if critical.item not in items:
            yield Problem(f"critical.{critical.id}.item", f"there is no item {critical.item}")
        elif not _can_hold(instrument.item(critical.item), critical):
            yield Problem(f"critical.{critical.id}.value", "no answer of that item can ever reach it")
    for index, pair in enumerate(instrument.contradictory_pairs):
        for name in pair:
            if name not in items:
                yield Problem(f"quality.contradictory[{index}]", f"there is no item {name}")
    for index, instructed in enumerate(instrument.instructed_items):
        if instructed.item not in items:
            yield Problem(f"quality.instructed[{index}].item", f"there is no item {instructed.item}")
        elif instructed.code not in instrument.item(instructed.item).codes:
            yield Problem(f"quality.instructed[{index}].code", f"{instructed.item} has no code {instructed.code}")


def _can_hold(item: Item, critical: CriticalItem) -> bool:
    return any(holds(score, critical.op, critical.value) for score in item.codes.values())


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


def _check_wording(instrument: Instrument) -> Iterator[Problem]:
    """Wording without a licence is a problem, and so is a licence for wording that is not there."""
    if not instrument.licences:
        yield Problem("licence", "there is no licence block")
    for index, item in enumerate(instrument.items):
        for language in item.text:
            licence = instrument.licences.get(language)
            if licence is None or licence.verdict != "TEXT":
                yield Problem(f"items[{index}].text.{language}", f"licence.{language} does not allow wording here")
        for language in instrument.languages:
            if language not in item.text:
                yield Problem(f"items[{index}].text.{language}", f"is missing, though licence.{language} is TEXT")
            for option in item.options:
                if language not in option.text:
                    yield Problem(
                        f"items[{index}].options", f"code {option.code} has no {language} text, licence says TEXT"
                    )
    for scheme in instrument.band_schemes:
        for band in chain.from_iterable(scheme.bands.values()):
            if band.name not in instrument.band_titles:
                yield Problem(f"band_titles.{band.name}", f"is missing, but scheme {scheme.name} uses it")


def _check_bands(instrument: Instrument) -> Iterator[Problem]:
    for index, scheme in enumerate(instrument.band_schemes):
        for scale_id, bands in scheme.bands.items():
            place = f"band_schemes[{index}].bands.{scale_id}"
            if not bands:
                yield Problem(place, "has no band")
                continue
            low, high = instrument.score_range(scale_id)
            if bands[0].low != low or bands[-1].high != high:
                yield Problem(place, f"must cover {low:g} to {high:g}")
            whole = has_whole_scores(instrument, scale_id)
            for lower, upper in pairwise(bands):
                if upper.low <= lower.high:
                    yield Problem(f"{place}.{upper.name}", f"overlaps {lower.name}")
                elif whole and upper.low != lower.high + 1:
                    yield Problem(f"{place}.{upper.name}", f"leaves a gap after {lower.name}")
    for (i, one), (j, two) in combinations(enumerate(instrument.band_schemes), 2):
        shared_forms = not one.forms or not two.forms or set(one.forms) & set(two.forms)
        if not shared_forms or not set(one.bands) & set(two.bands):
            continue
        if one.name == two.name:
            yield Problem(f"band_schemes[{j}].name", f"band_schemes[{i}] has the same name for the same form and scale")
        elif one.is_primary and two.is_primary:
            yield Problem(f"band_schemes[{j}].primary", f"band_schemes[{i}] is already primary for the same form")


def _check_missing(instrument: Instrument) -> Iterator[Problem]:
    for scale in instrument.scales:
        n_items, limit = len(scale.items), scale.missing.limit
        if not scale.items or limit is None:
            continue
        if scale.missing.kind == "prorate" and limit >= n_items:
            yield Problem(f"scales.{scale.id}.missing", f"cannot prorate {limit} blanks of {n_items} items")
        if scale.missing.kind == "minimum_answered" and limit > n_items:
            yield Problem(f"scales.{scale.id}.missing", f"cannot ask for {limit} answers of {n_items} items")


def has_whole_scores(instrument: Instrument, scale_id: str) -> bool:
    """Whether every score of the scale is a whole number (then its column is Int16, otherwise Float64)."""
    scale = instrument.scale(scale_id)
    if scale.method == "mean" or not (is_whole(scale.multiply) and is_whole(scale.add)):
        return False
    return all(has_whole_scores(instrument, part) for part in scale.of)


def _score_range(scale: Scale, scales: Mapping[str, Scale], items: Mapping[str, Item]) -> tuple[float, float]:
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
