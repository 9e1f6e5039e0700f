"""Frame of answers in, frame of scores out: recode, reverse, missing rule, bands, cut-offs, critical items.

Every scale made of items is one whole number per row, its key: each blank adds the scale's width, each answer its
score. The key therefore holds the number of blanks and the raw sum apart from each other, and what they mean is
looked up in a table that `scale_score` fills by the published rule, a rule on two plain numbers. The same
expressions score one row and millions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from operator import add, and_, or_
from typing import TypeVar

import polars as pl

from instruments import alike
from instruments.definition import (
    Band,
    BandScheme,
    CriticalItem,
    CutOff,
    Derived,
    Instrument,
    Item,
    ItemCondition,
    Scale,
    ScaleCondition,
    has_whole_scores,
    holds,
    is_whole,
)

STATUS = pl.Enum(["scored", "prorated", "scored_blanks_as_0", "not_scorable", "invalid", "out_of_range"])
"""scored: no blank in the primary scale. prorated and scored_blanks_as_0: blanks were dealt with by the rule.
not_scorable: too many for it. invalid: the form is void (its numbers stand when a validity scale says so, and are
null when too many blanks do). out_of_range: a code that does not exist, and no number from this form."""

_CHUNK_ROWS = (32_768, 262_144)  # fewer are not worth a thread, more only fill memory
_LONGEST_UINT16 = 65_535
_FEW_FORMS = 4_000  # all of them at once take no longer than ten one by one
_NO_CODE = -30_000  # stands for codes that Int16 cannot hold; no item may have one near it
_Limited = TypeVar("_Limited", BandScheme, CutOff, Derived, CriticalItem)


def score(answers: pl.DataFrame, instrument: Instrument, form: str | None = None) -> pl.DataFrame:
    """Scores one form per row.

    `answers` has one column of whole numbers per scored item, named by item id (phq9_1 ..), null for a blank; other
    columns are ignored, and an optional item may be absent. Returns a frame of the same height and row order with
    exactly the columns of `score_columns`: status (`STATUS`), n_missing and n_answered (Int16), each scale (Int16, or
    Float64 where scores are no whole numbers), its bands (Enum, low to high), cut-offs, derived and validity rules
    (Boolean, null where the scale has no score), critical items (Boolean, never null). A blank is never read as 0
    unless the definition says so. Raises ValueError naming every column that is missing or holds no whole numbers.
    """
    plan = _plan(instrument, instrument.form_name(form))
    _check_columns(answers, plan)
    n_threads = pl.thread_pool_size()
    fewest, most = _CHUNK_ROWS
    rows = min(most, max(fewest, -(-answers.height // n_threads)))
    if answers.height <= rows:
        return _run(_places(answers, plan), plan)
    chunks = [answers.slice(start, rows) for start in range(0, answers.height, rows)]
    with ThreadPoolExecutor(n_threads) as threads:
        return pl.concat(threads.map(lambda chunk: _run(_places(chunk, plan), plan), chunks))


def score_one(answers: Mapping[str, int | None], instrument: Instrument, form: str | None = None) -> dict[str, object]:
    """Scores one form, by the same path as `score`; what it said of a form that scores alike is remembered.

    `answers` maps item id to code; an id that is absent or None is a blank. Returns the columns of `score` by name,
    status and bands as text. Raises ValueError for an unknown item or an answer that is no whole number.
    """
    name = instrument.form_name(form)
    ids = _item_ids(instrument)
    unknown = [item_id for item_id in answers if item_id not in ids]
    if unknown:
        raise ValueError(f"{instrument.code} has no item {', '.join(map(str, unknown))}")
    wrong = [name for name, code in answers.items() if code is not None and type(code) is not int]
    if wrong:
        raise ValueError(f"not a whole number: {', '.join(f'{name}={answers[name]!r}' for name in wrong)}")
    stand_in = alike.stand_in([answers.get(item_id) for item_id in ids], instrument)
    return dict(_whole_forms(instrument, name).get(stand_in) or _scored(stand_in, instrument, name))


@lru_cache(maxsize=64)
def _whole_forms(instrument: Instrument, form: str) -> Mapping[tuple[int | None, ...], Mapping[str, object]]:
    """What is said of each form without a blank, where these are few: the engine is started once for all of them."""
    forms = alike.whole_forms(instrument, most=_FEW_FORMS)
    return dict(zip(forms, _scored_alone(forms, instrument, form), strict=True)) if forms else {}


@lru_cache(maxsize=10_000)
def _scored(stand_in: tuple[int | None, ...], instrument: Instrument, form: str) -> Mapping[str, object]:
    return _scored_alone([stand_in], instrument, form)[0]


def _scored_alone(
    forms: Sequence[tuple[int | None, ...]], instrument: Instrument, form: str
) -> Sequence[Mapping[str, object]]:
    plan = _plan(instrument, form)
    codes = dict(zip(_item_ids(instrument), zip(*forms, strict=True), strict=True))
    places = {name: [_place_of_one(code, first) for code in codes[name]] for name, first in plan.items.items()}
    return _run(pl.DataFrame(places, schema=dict.fromkeys(places, pl.UInt16)), plan).rows(named=True)


@lru_cache(maxsize=512)
def _item_ids(instrument: Instrument) -> Mapping[str, None]:
    return dict.fromkeys(item.id for item in instrument.items)


def expressions(
    instrument: Instrument, form: str | None = None, column: Callable[[str], str] | None = None
) -> list[pl.Expr]:
    """The columns of `score` as expressions, for use inside a caller's own lazy query.

    `column` says what the column of an item id is called (default: the id). Every item that `item_columns` lists must
    be there, as whole numbers that fit Int16 (a larger one raises). Use them in a LAZY select: they share most of
    their work, which only the lazy engine's elimination of common subexpressions finds. `score` is about twice as
    fast, takes any whole numbers and needs no optional columns.
    """
    name = instrument.form_name(form)
    return list(_inline(instrument, name)) if column is None else _Builder(instrument, name, _Inline(column)).outputs()


def item_columns(instrument: Instrument, form: str | None = None) -> list[str]:
    """Ids of the items that scoring reads: all scored items, and the optional ones that some scale uses."""
    return list(_plan(instrument, instrument.form_name(form)).items)


def score_columns(instrument: Instrument, form: str | None = None) -> list[str]:
    """Names of the columns that `score` returns for this form, in order."""
    return list(_plan(instrument, instrument.form_name(form)).columns)


def scale_score(scale: Scale, n_blank: int, raw: int) -> int | Fraction | None:
    """The score of a scale made of items: `raw` is the sum over the answered items, `n_blank` of them are blank.

    None where the missing rule gives no score. Whole-number results are rounded half up; a mean is exact. The limit of
    blank_as_zero concerns the whole form and is not applied here.
    """
    n_items = len(scale.items)
    if n_blank > scale.missing.max_blank(n_items):
        return None
    answered = n_items if scale.missing.kind == "blank_as_zero" else n_items - n_blank
    if answered == 0:
        return None
    if scale.method == "mean":
        return Fraction(raw, answered)
    return raw if answered == n_items else (2 * raw * n_items + answered) // (2 * answered)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Expressions ready to run: `items` maps item id to its first code, `optional` are those that may be absent."""

    items: Mapping[str, int]
    optional: frozenset[str]
    steps: tuple[list[pl.Expr], ...]
    outputs: list[pl.Expr]
    columns: tuple[str, ...]


class _Staged:
    """Keeps shared values as columns of an earlier step, so that each is computed once without any optimizer."""

    def __init__(self) -> None:
        self.steps: list[list[pl.Expr]] = []

    def item(self, item: Item) -> pl.Expr:
        return pl.col(item.id)

    def keep(self, step: int, name: str, value: pl.Expr) -> pl.Expr:
        while len(self.steps) <= step:
            self.steps.append([])
        self.steps[step].append(value.alias(f"·{name}"))
        return pl.col(f"·{name}")


class _Inline:
    """Leaves shared values where they are used."""

    def __init__(self, column: Callable[[str], str]) -> None:
        self._column = column
        self.steps: list[list[pl.Expr]] = []

    def item(self, item: Item) -> pl.Expr:
        return _place(pl.col(self._column(item.id)), pl.Int16(), min(item.codes))

    def keep(self, step: int, name: str, value: pl.Expr) -> pl.Expr:
        return value


@lru_cache(maxsize=512)
def _plan(instrument: Instrument, form: str) -> _Plan:
    staged = _Staged()
    outputs = _Builder(instrument, form, staged).outputs()
    used = _used_items(instrument)
    return _Plan(
        items={item.id: min(item.codes) for item in used},
        optional=frozenset(item.id for item in used if not item.is_scored),
        steps=tuple(step for step in staged.steps if step),
        outputs=outputs,
        columns=tuple(output.meta.output_name() for output in outputs),
    )


@lru_cache(maxsize=512)
def _inline(instrument: Instrument, form: str) -> tuple[pl.Expr, ...]:
    return tuple(_Builder(instrument, form, _Inline(str)).outputs())


def _run(places: pl.DataFrame, plan: _Plan) -> pl.DataFrame:
    """Scores a frame of places (see `_place`)."""
    # One thread: several rows' worth of work is shared out by chunks, and for one row threads cost more than they gain.
    for step in plan.steps:
        places = places.with_columns_seq(step)
    return places.select_seq(plan.outputs)


def _check_columns(answers: pl.DataFrame, plan: _Plan) -> None:
    schema = answers.schema
    problems = [f"{name} is missing" for name in plan.items if name not in schema and name not in plan.optional]
    for name in plan.items:
        kind = schema.get(name)
        if kind is not None and not kind.is_integer() and kind != pl.Null:
            problems.append(f"{name} holds {kind}, not whole numbers")
    if problems:
        raise ValueError("cannot score: " + "; ".join(problems))


def _places(answers: pl.DataFrame, plan: _Plan) -> pl.DataFrame:
    schema = answers.schema
    absent = pl.lit(None, pl.UInt16)
    return answers.select(
        (_place(pl.col(name), schema[name], first) if name in schema else absent).alias(name)
        for name, first in plan.items.items()
    )


def _place(code: pl.Expr, kind: pl.DataType, first: int) -> pl.Expr:
    """A code's place above the item's first code, as UInt16: codes below the first and far above become large."""
    if kind not in (pl.Int8, pl.UInt8, pl.Int16, pl.Null):
        is_beyond = code > -_NO_CODE
        if kind.is_signed_integer():
            is_beyond |= code < _NO_CODE
        code = pl.when(is_beyond).then(_NO_CODE).otherwise(code)
    above = code.cast(pl.Int16) - first if first else code.cast(pl.Int16)
    return above.reinterpret(signed=False)


def _place_of_one(code: int | None, first: int) -> int | None:
    if code is None:
        return None
    return code - first if 0 <= code - first < _LONGEST_UINT16 else _LONGEST_UINT16


def _used_items(instrument: Instrument) -> tuple[Item, ...]:
    """The items that scoring reads, in their order."""
    wanted = {item.id for item in instrument.scored_items}
    wanted |= {name for scale in instrument.scales for name in scale.items}
    wanted |= {critical.item for critical in instrument.critical_items}
    groups = [d.all_of for d in instrument.derived]
    groups += [level.all_of for scale in instrument.scales for level in scale.levels]
    wanted |= {name for group in groups for c in group if isinstance(c, ItemCondition) for name in c.any_of}
    for item in instrument.items:
        if item.id in wanted and item.asked_if:
            wanted |= set(item.asked_if.any_of)
    return tuple(item for item in instrument.items if item.id in wanted)


class _Builder:
    """Turns one instrument and form into expressions.

    Shared values come in steps, each reading only the steps before it: 0 what is blank or unknown, 1 keys read from
    items, 2 keys added up from other keys, 3 counts, 4 scores. The outputs read them all.
    """

    def __init__(self, instrument: Instrument, form: str, shared: _Staged | _Inline) -> None:
        self.instrument = instrument
        self.form = form
        self.shared = shared
        used = _used_items(instrument)
        scores = [score for item in used for score in item.codes.values()]
        self.lowest = min(scores)
        self.span = max(scores) - self.lowest
        # One width for all scales, so that the key of a total is the sum of its parts' keys.
        self.width = self.span * len(used) + 1
        self.key_type = pl.UInt16 if len(used) * self.width < _LONGEST_UINT16 else pl.UInt32
        self.keys: dict[frozenset[str], pl.Expr] = {}
        self.fresh: list[frozenset[str]] = []  # the keys that were read from items
        scored = instrument.scored_items
        unknown = pl.any_horizontal(self._is_unknown(item) for item in scored)
        self.is_out_of_range = shared.keep(0, "out_of_range", _surely(unknown))
        blank = pl.sum_horizontal(self._is_blank(item) for item in scored)
        self.n_missing = shared.keep(0, "n_missing", blank.cast(pl.Int16))
        for scale in sorted((s for s in instrument.scales if s.items), key=lambda s: len(s.items)):
            self._key(scale.items)
        self.scale_keys = {scale.id: self._scale_key(scale) for scale in instrument.scales if scale.items}
        self.scores: dict[str, pl.Expr] = {}
        for scale in instrument.scales:
            value = self._score(scale)
            # A scale made of scales reads their column, which the same step is only making.
            self.scores[scale.id] = shared.keep(4, f"score_{scale.id}", value) if scale.items else value

    def outputs(self) -> list[pl.Expr]:
        instrument = self.instrument
        n_answered = self._n_answered()
        found = [self._status().alias("status"), self.n_missing.alias("n_missing")]
        for scale in instrument.scales:
            found.append(self.scores[scale.id].alias(scale.id))
            schemes = [scheme for scheme in self._here(instrument.band_schemes) if scale.id in scheme.bands]
            for scheme in schemes:
                band = self._band(scale, scheme)
                if scheme.is_primary:
                    found.append(band.alias(f"{scale.id}_band"))
                if not scheme.is_primary or len(schemes) > 1:
                    # among several, each has its name, the primary one too
                    found.append(band.alias(f"{scale.id}_band__{scheme.name}"))
        for cut_off in self._here(instrument.cut_offs):
            found.append(_compare(self.scores[cut_off.scale], cut_off.op, cut_off.value).alias(cut_off.name))
        for derived in self._here(instrument.derived):
            found.append(self._derived(derived).alias(derived.name))
        for rule in instrument.validity_rules:
            found.append(_compare(self.scores[rule.scale], rule.op, rule.value).alias(rule.name))
        criticals = self._here(instrument.critical_items)
        for critical in criticals:
            met = self._meets(critical.item, critical.op, critical.value)
            found.append(_surely(met).alias(f"critical_{critical.id}"))
        found.append(self._critical_blank(criticals, n_answered).alias("critical_blank"))
        found.append(n_answered.cast(pl.Int16).alias("n_answered"))
        return found

    def _here(self, things: Iterable[_Limited]) -> list[_Limited]:
        return [thing for thing in things if not thing.forms or self.form in thing.forms]

    def _is_unknown(self, item: Item) -> pl.Expr:
        """True for a code that the item does not have, null for a blank."""
        place = self.shared.item(item)
        places = _places_of(item, item.codes)
        has_hole = len(places) <= places[-1]
        return ~place.is_in(places) if has_hole else place > places[-1]

    def _is_blank(self, item: Item) -> pl.Expr:
        """True where an answer is due and absent."""
        blank = self.shared.item(item).is_null()
        return blank & self._may_be_asked(item) if item.asked_if else blank

    def _item_score(self, item: Item) -> pl.Expr:
        """The score less the lowest of all, null for a blank and for an unknown code of an optional item."""
        place = self.shared.item(item)
        if not item.is_scored:
            place = pl.when(~self._is_unknown(item)).then(place)
        line = _as_line(item)
        if line is None:
            scores = [item.codes.get(code, self.lowest) for code in range(min(item.codes), max(item.codes) + 1)]
            table = pl.Series([score - self.lowest for score in scores], dtype=self.key_type)
            # Unknown codes of a scored item are masked later, but must not point outside the table now.
            score = pl.lit(table).gather(pl.when(place >= len(scores)).then(0).otherwise(place))
        else:
            factor, start = line[0], line[1] - self.lowest
            steps = place.cast(self.key_type) * abs(factor) if abs(factor) != 1 else place.cast(self.key_type)
            score = start - steps if factor < 0 else steps + start if start else steps
        if item.asked_if is None:
            return score
        floor = pl.lit(min(item.codes.values()) - self.lowest, self.key_type)
        return pl.when(place.is_null() & ~self._may_be_asked(item)).then(floor).otherwise(score)

    def _may_be_asked(self, item: Item) -> pl.Expr:
        """False only where earlier answers rule the item out; a blank among them rules nothing out."""
        condition = item.asked_if
        if condition is None:
            return pl.lit(True)
        possible = (self._meets(name, condition.op, condition.value).fill_null(True) for name in condition.any_of)
        return pl.sum_horizontal(possible) >= condition.at_least

    def _meets(self, item_id: str, op: str, value: int) -> pl.Expr:
        """Whether the item's score meets the condition: null for a blank, false for an unknown code."""
        item = self.instrument.item(item_id)
        place = self.shared.item(item)
        meeting = _places_of(item, (code for code, score in item.codes.items() if holds(score, op, value)))
        if not meeting:
            return place < 0
        if len(meeting) == 1:
            return place == meeting[0]
        if meeting[-1] - meeting[0] == len(meeting) - 1:
            return (place >= meeting[0]) & (place <= meeting[-1])
        return place.is_in(meeting)

    def _reaches(self, item_id: str, threshold: int) -> pl.Expr:
        """As `_meets` with >=, but free to answer anything for an unknown code: its row gets no number."""
        item = self.instrument.item(item_id)
        line = _as_line(item)
        if line is None or line[0] != 1 or not item.is_scored:
            return self._meets(item_id, ">=", threshold)
        return self.shared.item(item) >= max(0, threshold - line[1])

    def _key(self, items: Iterable[str]) -> pl.Expr:
        """One key per set of items. Keys of smaller sets that fill it without overlap are added up, not read again."""
        wanted = frozenset(items)
        if wanted not in self.keys:
            name = f"key_{len(self.keys)}"
            parts = _tiling(wanted, self.fresh)
            if parts:
                added = pl.sum_horizontal(self.keys[part] for part in parts)
                self.keys[wanted] = self.shared.keep(2, name, added)
            else:
                scores = [self._item_score(self.instrument.item(item)) for item in sorted(wanted)]
                packed = pl.sum_horizontal(score.fill_null(self.width) for score in scores)
                self.fresh.append(wanted)
                # An unknown code must not point outside a table; its row gets no number anyway.
                self.keys[wanted] = self.shared.keep(1, name, pl.when(self.is_out_of_range).then(0).otherwise(packed))
        return self.keys[wanted]

    def _scale_key(self, scale: Scale) -> pl.Expr:
        key = self._key(scale.items)
        if scale.method != "count":
            return key
        reached = (self._reaches(name, scale.thresholds[name]) for name in scale.items)
        count = pl.sum_horizontal(reached).cast(self.key_type)
        return self.shared.keep(3, f"count_{scale.id}", key // self.width * self.width + count)

    def _table(self, scale: Scale) -> list[int | Fraction | None]:
        """The scale's score by key, from no blank and nothing endorsed to all blank."""
        n_items = len(scale.items)
        lowest, span = (0, 1) if scale.method == "count" else (self.lowest, self.span)
        table: list[int | Fraction | None] = [None] * (n_items * self.width + 1)
        for n_blank in range(n_items + 1):
            answered = n_items - n_blank
            for above in range(answered * span + 1):
                table[n_blank * self.width + above] = scale_score(scale, n_blank, above + lowest * answered)
        return table

    def _score(self, scale: Scale) -> pl.Expr:
        kind = pl.Int16 if has_whole_scores(self.instrument, scale.id) else pl.Float64
        if scale.levels:
            return pl.when(~self.is_out_of_range).then(self._level(scale))
        if scale.method == "linear":
            part = self.scores[scale.of[0]]
            factor, shift = (int(scale.multiply), int(scale.add)) if kind == pl.Int16 else (scale.multiply, scale.add)
            return (part.cast(kind) * factor + shift).cast(kind)
        if scale.of:
            return pl.sum_horizontal([self.scores[part].cast(kind) for part in scale.of], ignore_nulls=False)
        key = self.scale_keys[scale.id]
        n_items = len(scale.items)
        max_blank = scale.missing.max_blank(n_items)
        has_score = ~self.is_out_of_range
        if max_blank < n_items:
            has_score &= key < (max_blank + 1) * self.width
        if scale.missing.kind == "blank_as_zero" and scale.missing.limit is not None:
            has_score &= self.n_missing < scale.missing.limit
        if max_blank == 0 and scale.method != "mean":
            score = key + self.lowest * n_items if scale.method == "sum" and self.lowest else key
            return pl.when(has_score).then(score).cast(kind)
        # 0 stands where the table has no score; a key that lands there is masked out or has none answered.
        filled = [0 if s is None else float(s) if kind == pl.Float64 else int(s) for s in self._table(scale)]
        return pl.when(has_score & self._any_answer(scale)).then(pl.lit(pl.Series(filled, dtype=kind)).gather(key))

    def _level(self, scale: Scale) -> pl.Expr:
        cases = [
            (reduce(and_, (_surely(self._condition(condition)) for condition in level.all_of)), level.value)
            for level in scale.levels
        ]
        return _first_of([(case, pl.lit(value, pl.Int16)) for case, value in cases], pl.lit(0, pl.Int16))

    def _any_answer(self, scale: Scale) -> pl.Expr:
        """All blank has no score, but where blanks count 0 and nothing limits them, it is 0."""
        n_items = len(scale.items)
        if scale.missing.kind == "blank_as_zero":
            return pl.lit(True)
        return self.scale_keys[scale.id] < n_items * self.width

    def _band(self, scale: Scale, scheme: BandScheme) -> pl.Expr:
        bands = scheme.bands[scale.id]
        kind = pl.Enum([band.name for band in bands])
        score = self.scores[scale.id]
        if scale.id in self.scale_keys:
            names = [None if s is None else _band_name(bands, s) for s in self._table(scale)]
            filled = pl.Series([name or bands[0].name for name in names], dtype=kind)
            return pl.when(score.is_not_null()).then(pl.lit(filled).gather(self.scale_keys[scale.id]))
        cases = [(score.is_null(), pl.lit(None, kind))]
        cases += [(score >= band.low, pl.lit(band.name, kind)) for band in reversed(bands)]
        return _first_of(cases, pl.lit(bands[0].name, kind))

    def _status(self) -> pl.Expr:
        instrument = self.instrument
        primary = instrument.scale(instrument.primary_scale)
        leaves = list(self._leaves(primary))
        limits = [s.missing.limit for s in leaves if s.missing.kind == "blank_as_zero" and s.missing.limit]
        tolerant = {s.missing.kind for s in leaves} - {"none"}
        cases = [(self.is_out_of_range, "out_of_range")]
        if limits:
            cases.append((self.n_missing >= min(limits), "invalid"))
        for rule in instrument.validity_rules:
            if rule.verdict == "invalid":
                cases.append((_compare(self.scores[rule.scale], rule.op, rule.value), "invalid"))
        cases.append((self.scores[primary.id].is_null(), "not_scorable"))
        if tolerant:
            covered = {item for leaf in leaves for item in leaf.items}
            has_blank = self._key(covered) >= self.width
            for scale in instrument.scales:
                # a scale beside the primary one (a strength, say) whose number was made up from fewer answers
                if scale.missing.kind in tolerant and not covered.issuperset(scale.items):
                    has_blank |= self.scores[scale.id].is_not_null() & (self.scale_keys[scale.id] >= self.width)
            cases.append((has_blank, "scored_blanks_as_0" if tolerant == {"blank_as_zero"} else "prorated"))
        return _first_of([(case, pl.lit(word, STATUS)) for case, word in cases], pl.lit("scored", STATUS))

    def _leaves(self, scale: Scale) -> Iterator[Scale]:
        """The scales made of items that a scale rests on."""
        if scale.items:
            yield scale
        for part in scale.of:
            yield from self._leaves(self.instrument.scale(part))

    def _n_answered(self) -> pl.Expr:
        scored = self.instrument.scored_items
        if any(item.asked_if for item in scored):
            return pl.sum_horizontal(self.shared.item(item).is_not_null() for item in scored)
        return len(scored) - self.n_missing

    def _derived(self, derived: Derived) -> pl.Expr:
        conditions = [self._condition(condition) for condition in derived.all_of]
        # Plain sums, because a sum with an unknown part is unknown, while "and" with a false part is false.
        n_met = reduce(add, (condition.cast(pl.Int8) for condition in conditions))
        return pl.when(~self.is_out_of_range).then(n_met == len(conditions))

    def _condition(self, condition: ItemCondition | ScaleCondition) -> pl.Expr:
        if isinstance(condition, ScaleCondition):
            return _compare(self.scores[condition.scale], condition.op, condition.value)
        met = [self._meets(name, condition.op, condition.value) for name in condition.any_of]
        if condition.is_blank_counted:
            due = (self._is_blank(self.instrument.item(name)) for name in condition.any_of)
            met = [_surely(m) | blank for m, blank in zip(met, due, strict=True)]
        if condition.at_least == 1:
            return reduce(or_, met)
        surely = pl.sum_horizontal(met) >= condition.at_least
        possibly = pl.sum_horizontal(m.fill_null(True) for m in met) >= condition.at_least
        return pl.when(surely).then(True).when(~possibly).then(False)

    def _critical_blank(self, criticals: list[CriticalItem], n_answered: pl.Expr) -> pl.Expr:
        if not criticals:
            return pl.lit(False)
        items = [self.instrument.item(name) for name in dict.fromkeys(critical.item for critical in criticals)]
        blank = [self._is_blank(item) for item in items if item.is_scored]
        further = [self.shared.item(item).is_null() for item in items if not item.is_scored]
        if further:
            # questions that not every edition prints: on the sheet when one of them is answered
            blank.append(reduce(or_, further) & ~reduce(and_, further))
        return reduce(or_, blank) & (n_answered >= 1)


def _first_of(cases: list[tuple[pl.Expr, pl.Expr]], otherwise: pl.Expr) -> pl.Expr:
    """The value of the first case that holds; a case that is unknown does not."""
    chosen = otherwise
    for case, value in reversed(cases):
        chosen = pl.when(case).then(value).otherwise(chosen)
    return chosen


def _surely(truth: pl.Expr) -> pl.Expr:
    """Unknown is not true."""
    return truth.eq_missing(True)


def _places_of(item: Item, codes: Iterable[int]) -> list[int]:
    first = min(item.codes)
    return sorted(code - first for code in codes)


def _as_line(item: Item) -> tuple[int, int] | None:
    """(factor, start) when every score is factor * place + start and no code is left out, else None."""
    scores = [score for _, score in sorted(item.codes.items())]
    has_hole = max(item.codes) - min(item.codes) != len(scores) - 1
    factor = scores[1] - scores[0]
    is_line = all(score == scores[0] + factor * place for place, score in enumerate(scores))
    return None if has_hole or not is_line else (factor, scores[0])


def _tiling(wanted: frozenset[str], sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """Sets without overlap that together are `wanted`, or none."""
    chosen: list[frozenset[str]] = []
    for candidate in sorted((s for s in sets if s < wanted), key=len, reverse=True):
        if not any(candidate & other for other in chosen):
            chosen.append(candidate)
    return chosen if frozenset().union(*chosen) == wanted else []


def _band_name(bands: tuple[Band, ...], score: int | Fraction) -> str:
    reached = [band.name for band in bands if score >= band.low]
    return reached[-1] if reached else bands[0].name


def _compare(score: pl.Expr, op: str, value: float) -> pl.Expr:
    limit = int(value) if is_whole(value) else value
    match op:
        case ">=":
            return score >= limit
        case ">":
            return score > limit
        case "<=":
            return score <= limit
        case "<":
            return score < limit
        case _:
            return score == limit
