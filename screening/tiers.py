"""What a student's forms mean under a policy: the tier, the rules that were met, and how much the forms are worth.

Pure. A policy's rules become Polars expressions once per policy, battery and set of forms; one student and a
million go the same way. A tier is the highest of the rules met, and nothing here can lower one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from instruments.definition import Instrument
from screening import expressions
from screening.expressions import (
    All,
    AnyOf,
    Banded,
    Count,
    Expression,
    Impairment,
    Informants,
    Leaf,
    Not,
    RuleMet,
    Signal,
    TierIs,
)
from screening.policy import Policy, Rule, bands_of, forms_of, signal_column

SCORABLE = ("scored", "prorated", "scored_blanks_as_0")
VALIDITY = ("valid", "suspect", "invalid")

# A blank or an earlier round is a reason to look, not a finding of a construct or of an informant.
_COUNTED_KINDS = ("symptom", "self_harm", "function")
_RULES_PER_WORD = 60
_UNKNOWN = pl.lit(None, pl.Boolean)


def decide(
    students: pl.DataFrame,
    forms: Mapping[tuple[str, str], pl.DataFrame],
    policy: Policy,
    instruments: Mapping[str, Instrument],
    *,
    only_safety: bool = False,
) -> pl.DataFrame:
    """The tier of each student by this policy.

    `students`: `key` (UInt32, once each), `prior_tier` (Int8, highest tier of other rounds in the policy's look-back)
    and `age` (completed years, or null). `forms`: (instrument code, informant or form name) -> frame with `key` and
    the columns of `scoring.score` for that form; several rows of one key are attempts, and what one of them says
    holds. A row whose `status` is null is no form. `instruments`: the battery, by code; rules about others are inert.
    With `only_safety` only self-harm rules speak: for forms that are unfinished or could not be accepted.

    Returns, in the students' order: `key`, `tier` (Int8), `reasons` (List[String], ids of the rules met in the
    policy's order), `has_self_harm` (Boolean), `validity` (String: valid when every form present can be scored,
    invalid when none can or there is none, suspect otherwise). What cannot be evaluated is not true, and a form that
    cannot be scored still gives its critical answers. Raises ValueError for a form of an unknown instrument or
    informant, a form without a column that its definition has, and forms of students who are not among `students`.
    """
    blocks = tuple(_block(code, who, frame, instruments) for (code, who), frame in forms.items())
    battery = tuple(sorted(instruments.values(), key=lambda instrument: instrument.code))
    plan = _plan(policy, battery, blocks, only_safety)
    wide = students.select("key", "prior_tier", "age")
    for (_, frame), block, signals in zip(forms.items(), blocks, plan.signals, strict=True):
        wide = _beside(wide, frame, signals, block)
    met = wide.with_columns(plan.base).with_columns(plan.combined).select(plan.words)
    words = list(plan.word_names)
    return met.join(_verdicts(met.select(words), plan.rules), on=words, how="left", maintain_order="left").select(
        "key", "tier", "reasons", "has_self_harm", "validity"
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `decide` says of one student."""

    tier: int
    reasons: tuple[str, ...]
    validity: str


def decide_one(
    forms: Iterable[tuple[str, str, Mapping[str, object]]],
    policy: Policy,
    instruments: Mapping[str, Instrument],
    *,
    age: int | None,
    prior_tier: int,
    only_safety: bool = False,
) -> Verdict:
    """`decide` for one student: `forms` are (instrument code, form, the columns of `scoring.score` by name).

    Rules see bands, cut-offs and critical answers, never numbers, so that few students differ: what the batch engine
    said of such forms once is remembered.
    """
    seen = tuple(
        (code, form, tuple((name, value) for name, value in row.items() if _is_seen(instruments[code], name)))
        for code, form, row in forms
    )
    battery = tuple(sorted(instruments.values(), key=lambda instrument: instrument.code))
    return _decided_one(seen, policy, battery, age, prior_tier, only_safety)


@lru_cache(maxsize=50_000)
def _decided_one(
    seen: tuple[tuple[str, str, tuple[tuple[str, object], ...]], ...],
    policy: Policy,
    battery: tuple[Instrument, ...],
    age: int | None,
    prior_tier: int,
    only_safety: bool,
) -> Verdict:
    rows: dict[tuple[str, str], list[dict[str, object]]] = {}
    for code, form, columns in seen:
        rows.setdefault((code, form), []).append({"key": 0, **dict(columns)})
    students = pl.DataFrame(
        {"key": [0], "age": [age], "prior_tier": [prior_tier]},
        schema={"key": pl.UInt32, "age": pl.Int16, "prior_tier": pl.Int8},
    )
    forms = {form: _typed(own) for form, own in rows.items()}
    found = decide(students, forms, policy, {i.code: i for i in battery}, only_safety=only_safety).row(0, named=True)
    return Verdict(found["tier"], tuple(found["reasons"]), found["validity"])


@lru_cache(maxsize=10_000)
def _is_seen(instrument: Instrument, column: str) -> bool:
    """Whether rules can see this column: all but the numbers."""
    return column not in ("key", "n_missing", "n_answered") and all(scale.id != column for scale in instrument.scales)


def _typed(rows: list[dict[str, object]]) -> pl.DataFrame:
    is_text = {name for name in rows[0] if name == "status" or "_band" in name}
    kinds = {name: pl.String() if name in is_text else pl.Boolean() for name in rows[0]}
    return pl.DataFrame(rows, schema={**kinds, "key": pl.UInt32()})


def safety_rules(policy: Policy) -> tuple[Rule, ...]:
    """The rules that speak for a form which is unfinished, void or could not be accepted."""
    return tuple(rule for rule in policy.rules if rule.kind == "self_harm")


def explain(reasons: Iterable[str], policy: Policy, locale: str) -> list[tuple[str, int, str]]:
    """Why: (rule id, tier, words) of each reason, highest tier first; their highest is the stored tier.

    English where the locale is unknown. Raises ValueError for a reason that is no rule of this policy.
    """
    rules = sorted(map(policy.rule, reasons), key=lambda rule: -rule.tier)
    return [(rule.id, rule.tier, rule.title.get(locale, rule.title["en"])) for rule in rules]


@dataclass(frozen=True, slots=True)
class _Block:
    """One form in the battery, and the columns that its frame has."""

    instrument: Instrument
    form: str
    columns: tuple[str, ...]

    @property
    def informant(self) -> str:
        return self.instrument.forms[self.form].informant

    @property
    def prefix(self) -> str:
        return f"{self.instrument.code}.{self.form}"


@dataclass(frozen=True, slots=True)
class _Plan:
    rules: tuple[Rule, ...]
    signals: tuple[tuple[pl.Expr, ...], ...]
    base: tuple[pl.Expr, ...]
    combined: tuple[pl.Expr, ...]
    words: tuple[pl.Expr, ...]
    word_names: tuple[str, ...]


def _block(code: str, who: str, frame: pl.DataFrame, instruments: Mapping[str, Instrument]) -> _Block:
    if code not in instruments:
        raise ValueError(f"{code} is not in this battery: {', '.join(instruments)}")
    instrument = instruments[code]
    names = (who,) if who in instrument.forms else forms_of(instrument, who)
    if not names:
        raise ValueError(f"{code} has no form for {who}, only {', '.join(instrument.forms)}")
    return _Block(instrument, names[0], tuple(frame.columns))


def _beside(wide: pl.DataFrame, frame: pl.DataFrame, signals: Sequence[pl.Expr], block: _Block) -> pl.DataFrame:
    """The form's signals beside the students: row by row where the keys are the same, else joined by key."""
    found, keys = frame.select("key", *signals), wide.get_column("key")
    if not found.get_column("key").equals(keys):
        found = found.sort("key")
    if found.get_column("key").equals(keys):
        return wide.hstack(found.drop("key"))
    if found.get_column("key").n_unique() < found.height:
        found = found.group_by("key").agg(pl.all().max())  # true if any attempt says so, null if none says anything
    if found.join(wide, on="key", how="anti").height:
        raise ValueError(f"there are {block.prefix} forms of students who are not among the students")
    return wide.join(found, on="key", how="left", maintain_order="left")


@lru_cache(maxsize=256)
def _plan(policy: Policy, battery: tuple[Instrument, ...], blocks: tuple[_Block, ...], only_safety: bool) -> _Plan:
    return _Compiler(policy, battery, blocks, only_safety).plan()


class _Compiler:
    """Turns one policy into expressions, in three steps: signals on each form, base rules, combinations."""

    def __init__(
        self, policy: Policy, battery: tuple[Instrument, ...], blocks: tuple[_Block, ...], only_safety: bool
    ) -> None:
        self.blocks = blocks
        self.constructs = {instrument.code: instrument.construct for instrument in battery}
        codes = {block.instrument.code for block in blocks}
        speaking = safety_rules(policy) if only_safety else policy.rules
        # A rule about forms that are not here is unknown, which is not met: it need not be asked.
        self.rules = [rule for rule in speaking if codes.intersection(rule.instruments)]
        self.combinations = () if only_safety else policy.combinations
        self.signals: dict[_Block, dict[str, pl.Expr]] = {block: {} for block in blocks}
        self.parts: dict[str, pl.Expr] = {}

    def plan(self) -> _Plan:
        base = [_met(rule, self.anybody(rule.when)) for rule in self.rules]
        combined = [_met(rule, self.combination(rule.when)) for rule in self.combinations]
        words = [_word(rules) for rules in _in_words((*self.rules, *self.combinations))]
        names = tuple(f"word_{number}" for number in range(len(words)))
        validity = self.validity()
        return _Plan(
            rules=(*self.rules, *self.combinations),
            signals=tuple(tuple(self.signals[block].values()) for block in self.blocks),
            base=(*base, *self.parts.values()),
            combined=tuple(combined),
            words=(pl.col("key"), *(word.alias(name) for word, name in zip(words, names, strict=True)), validity),
            word_names=names,
        )

    def anybody(self, when: Expression) -> pl.Expr:
        return self.base(when, self.blocks)

    def base(self, when: Expression, blocks: Sequence[_Block]) -> pl.Expr:
        """A base rule as these forms see it; null where they cannot tell."""
        match when:
            case Signal() | Banded():
                found = [signal for block in _meant(when, blocks) if (signal := self.signal(when, block)) is not None]
                return _any(found)
            case All(parts):
                return pl.all_horizontal([self.base(part, blocks) for part in parts])
            case AnyOf(parts):
                return _any([self.base(part, blocks) for part in parts])
            case Not(part):
                return ~self.base(part, blocks)
            case Informants(of, op, n):
                return self.informants(of, op, n, blocks)
        raise TypeError(f"{type(when).__name__} belongs in a combination")

    def informants(self, of: Expression, op: str, n: int, blocks: Sequence[_Block]) -> pl.Expr:
        asked = {leaf.instrument for leaf in expressions.leaves(of)}
        by_informant = _by_informant([block for block in blocks if block.instrument.code in asked])
        if not by_informant:
            return _UNKNOWN
        return _compared(_how_many([self.base(of, theirs) for theirs in by_informant.values()]), op, n)

    def signal(self, leaf: Leaf, block: _Block) -> pl.Expr | None:
        """The column that will hold this name's yes or no beside the students; None where the form lacks it."""
        on_form = _signal(leaf, block)
        return None if on_form is None else self.keep(block, _label(leaf), on_form)

    def keep(self, block: _Block, label: str, on_form: pl.Expr) -> pl.Expr:
        name = f"{block.prefix}: {label}"
        self.signals[block][name] = on_form.alias(name)
        return pl.col(name)

    def combination(self, when: Expression) -> pl.Expr:
        match when:
            case All(parts):
                return pl.all_horizontal([self.combination(part) for part in parts])
            case AnyOf(parts):
                return _any([self.combination(part) for part in parts])
            case Not(part):
                return ~self.combination(part)
            case RuleMet(rule):
                return _rule_column(rule) if any(rule == known.id for known in self.rules) else pl.lit(False)
            case Impairment():
                return self.impairment()
            case TierIs("tier", ">=", tier) if tier:
                return _any([_rule_column(rule.id) for rule in self.rules if rule.tier >= tier])
            case TierIs("tier", op, tier):
                tiers = [_rule_column(rule.id).cast(pl.Int8) * rule.tier for rule in self.rules]
                return _compared(pl.max_horizontal(pl.lit(0, pl.Int8), *tiers), op, tier)
            case TierIs(_, op, tier):
                return _compared(pl.col("prior_tier").fill_null(0), op, tier)
            case Count(what, tier, op, n):
                counted = [rule for rule in self.rules if rule.tier >= tier and rule.kind in _COUNTED_KINDS]
                groups = self.constructs_met(counted) if what == "constructs" else self.informants_met(counted)
                return _compared(_how_many([_any(group) for group in groups if group]), op, n)
        raise TypeError(f"{type(when).__name__} belongs in a base rule")

    def impairment(self) -> pl.Expr:
        found = []
        for block in self.blocks:
            for cut_off in block.instrument.cut_offs:
                leaf = Signal(block.instrument.code, None, cut_off.name)
                if cut_off.marks == "impairment" and (signal := self.signal(leaf, block)) is not None:
                    found.append(signal)
        return _any(found)

    def constructs_met(self, counted: Sequence[Rule]) -> list[list[pl.Expr]]:
        """Of each construct, the rules about it; a rule that mixes instruments speaks for no construct."""
        groups: dict[str, list[pl.Expr]] = {}
        for rule in counted:
            if len(rule.instruments) == 1 and rule.instruments[0] in self.constructs:
                groups.setdefault(self.constructs[rule.instruments[0]], []).append(_rule_column(rule.id))
        return list(groups.values())

    def informants_met(self, counted: Sequence[Rule]) -> list[list[pl.Expr]]:
        """Of each informant, the rules as that informant's forms alone meet them."""
        by_informant = _by_informant(self.blocks)
        return [
            [
                self.part(rule, who, blocks)
                for rule in counted
                if any(b.instrument.code in rule.instruments for b in blocks)
            ]
            for who, blocks in by_informant.items()
        ]

    def part(self, rule: Rule, informant: str, blocks: Sequence[_Block]) -> pl.Expr:
        speaking = [block for block in self.blocks if block.instrument.code in rule.instruments]
        if all(block.informant == informant for block in speaking):
            return _rule_column(rule.id)
        name = f"{rule.id} by {informant}"
        self.parts[name] = _met(rule, self.base(rule.when, blocks)).alias(name)
        return pl.col(name)

    def validity(self) -> pl.Expr:
        is_scorable = [
            self.keep(block, "scorable", pl.col("status").cast(pl.String).is_in(SCORABLE)) for block in self.blocks
        ]
        any_good = pl.any_horizontal(pl.lit(False), *is_scorable).fill_null(False)
        any_bad = pl.any_horizontal(pl.lit(False), *(~one for one in is_scorable)).fill_null(False)
        valid, suspect, invalid = map(pl.lit, VALIDITY)
        return pl.when(~any_good).then(invalid).when(any_bad).then(suspect).otherwise(valid).alias("validity")


def _meant(leaf: Leaf, blocks: Iterable[_Block]) -> list[_Block]:
    return [
        block
        for block in blocks
        if block.instrument.code == leaf.instrument and leaf.informant in (None, block.form, block.informant)
    ]


def _by_informant(blocks: Iterable[_Block]) -> dict[str, list[_Block]]:
    found: dict[str, list[_Block]] = {}
    for block in blocks:
        found.setdefault(block.informant, []).append(block)
    return found


def _label(leaf: Leaf) -> str:
    if isinstance(leaf, Signal):
        return leaf.name
    return f"{leaf.scale}__{leaf.scheme or 'primary'} {leaf.op} {leaf.band}"


def _signal(leaf: Leaf, block: _Block) -> pl.Expr | None:
    """The name as an expression on the form's own frame; None where this form does not have it."""
    if isinstance(leaf, Signal):
        column = signal_column(block.instrument, block.form, leaf.name)
        return None if column is None else pl.col(_present(column, block))
    bands = bands_of(block.instrument, block.form, leaf.scale, leaf.scheme)
    if leaf.band not in bands:
        return None
    column = _present(f"{leaf.scale}_band" + (f"__{leaf.scheme}" if leaf.scheme else ""), block)
    # The cast keeps the order of the bands for a column that came as plain text; it costs nothing for an Enum.
    return _compared(pl.col(column).cast(pl.Enum(bands)), leaf.op, pl.lit(leaf.band, pl.Enum(bands)))


def _present(column: str, block: _Block) -> str:
    if column not in block.columns:
        raise ValueError(f"the {block.prefix} forms come without the column {column}")
    return column


def _rule_column(rule_id: str) -> pl.Expr:
    return pl.col(f"rule: {rule_id}")


def _met(rule: Rule, when: pl.Expr) -> pl.Expr:
    """The rule, for whom it is made: an unknown age is everybody's. Unknown is not met."""
    age = pl.col("age")
    if rule.min_age is not None:
        when = when & (age >= rule.min_age).fill_null(True)
    if rule.max_age is not None:
        when = when & (age <= rule.max_age).fill_null(True)
    return when.fill_null(False).alias(f"rule: {rule.id}")


def _any(conditions: Sequence[pl.Expr]) -> pl.Expr:
    """True if one is, unknown if none is and one is unknown (or there is none to ask)."""
    if len(conditions) > 1:
        return pl.any_horizontal(conditions)
    return conditions[0] if conditions else _UNKNOWN


def _how_many(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return pl.sum_horizontal(pl.lit(0, pl.Int16), *(one.fill_null(False).cast(pl.Int16) for one in conditions))


def _compared(left: pl.Expr, op: str, right: int | pl.Expr) -> pl.Expr:
    match op:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _in_words(rules: Sequence[Rule]) -> list[Sequence[Rule]]:
    return [rules[start : start + _RULES_PER_WORD] for start in range(0, max(1, len(rules)), _RULES_PER_WORD)]


def _word(rules: Sequence[Rule]) -> pl.Expr:
    """Which of these rules were met, as the bits of one number: few students differ, so each pattern is read once."""
    bits = [_rule_column(rule.id).cast(pl.UInt64) * pl.lit(1 << bit, pl.UInt64) for bit, rule in enumerate(rules)]
    return pl.sum_horizontal(pl.lit(0, pl.UInt64), *bits)


def _verdicts(words: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """Each pattern of rules met, and what it means."""
    patterns = words.unique()
    met = [
        [rule for rules_of, word in zip(_in_words(rules), row, strict=True) for rule in _bits_set(rules_of, word)]
        for row in patterns.rows()
    ]
    return patterns.hstack(
        [
            pl.Series("tier", [max((rule.tier for rule in one), default=0) for one in met], dtype=pl.Int8),
            pl.Series("reasons", [[rule.id for rule in one] for one in met], dtype=pl.List(pl.String)),
            pl.Series(
                "has_self_harm", [any(rule.kind == "self_harm" for rule in one) for one in met], dtype=pl.Boolean
            ),
        ]
    )


def _bits_set(rules: Sequence[Rule], word: int) -> list[Rule]:
    return [rule for bit, rule in enumerate(rules) if word >> bit & 1]
