"""Versioned local rules: what tiers are called, which findings give which tier, consent, clocks and the ladder.

A policy is a TOML file. It names bands and cut-offs of instruments and never a score number; a round freezes one,
by its digest. This file reads and checks it; `tiers` applies its rules, `alerts.clocks` its times.
"""

import datetime as dt
import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, TypeVar

from instruments.definition import Instrument
from screening import expressions
from screening.errors import NotFound, Problem
from screening.expressions import TIERS, Expression, Leaf, Signal

LOCALES = ("en", "zh_CN")
MODEL_CONTEXT = ("grade", "sex")
CLOSURE_CHECKS = ("guardian_informed", "two_contacts")
"""What a policy may demand of a tier before a case ends, beyond what always stands in the way."""
KINDS = ("symptom", "self_harm", "function", "history", "follow_up")
LADDER_ROLES = ("counselor", "deputy", "lead", "principal", "duty_officer")
GIVERS = ("guardian", "student")
DECISIONS = ("granted", "declined", "withdrawn")

Unit = Literal["min", "h", "day", "school day"]
_SPAN = re.compile(r"(\d{1,4}) ?(min|h|day|school day)s?")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CLOCK_NAMES = ("yellow", "yellow_self_harm", "orange", "orange_self_harm", "red")
_RESERVED_IDS = ("tier", "prior_tier", "impairment")
_REQUIRED: Any = object()
_Read = TypeVar("_Read")


class PolicyError(ValueError):
    """A policy that cannot be trusted. `problems` holds every one of them as `place: what is wrong`."""

    def __init__(self, origin: str, problems: Iterable[str]) -> None:
        self.origin = origin
        self.problems = tuple(problems)
        super().__init__(f"{origin}: " + "; ".join(self.problems))

    def __reduce__(self) -> tuple[type["PolicyError"], tuple[str, tuple[str, ...]]]:
        return type(self), (self.origin, self.problems)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time as a policy says it: minutes and hours, calendar days, or school days."""

    amount: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Clock:
    """How soon a tier is answered and the student seen, and when the next contact is promised by default.

    `acknowledge_off_hours` replaces `acknowledge` for an alert raised while the school is shut. `rescreens` says how
    long after it the student is asked the questions again, each in its turn.
    """

    acknowledge: Span
    acknowledge_off_hours: Span
    see: Span
    follow_up: Span
    rescreens: tuple[Span, ...] = ()

    @property
    def is_in_school_days(self) -> bool:
        return self.acknowledge.unit == "school day"


@dataclass(frozen=True, slots=True)
class Rung:
    """Who hears next: at a share of the time until the answer is due, or (`after`, by tier) that long after it."""

    role: str
    share: float | None
    after: Mapping[int, Span]


@dataclass(frozen=True, slots=True)
class ConsentRule:
    """From this age on (completed years) a student may decide; below it, or at an unknown age, a guardian does."""

    student_from_age: int
    is_guardian_told: bool


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From when until when, by the clock on the wall, only what cannot wait is sent; the same time twice: never."""

    starts: dt.time = dt.time(21)
    ends: dt.time = dt.time(7)

    def holds(self, at: dt.time) -> bool:
        if self.starts <= self.ends:
            return self.starts <= at < self.ends
        return at >= self.starts or at < self.ends


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How many days after a student left school the answers go, and how many more the notes of a red case stay."""

    answers_days: int
    red_notes_days: int


@dataclass(frozen=True, slots=True)
class ClosureRule:
    """From which tier on a second person closes a case, and the codes of the reasons with their words."""

    second_person_from: int
    reasons: Mapping[str, Mapping[str, str]]
    checklist: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By tier: what is demanded beyond what always is, out of CLOSURE_CHECKS."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A finding and the tier it gives. A combination is a rule about what the other rules gave.

    `tier` is 1 to 3, `when` the checked expression, `text` its words in the file; ages are completed years,
    inclusive, None for no limit. `title` is what a counselor reads, by locale.
    """

    id: str
    tier: int
    kind: str
    text: str
    when: Expression
    title: Mapping[str, str]
    min_age: int | None
    max_age: int | None

    @property
    def instruments(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(leaf.instrument for leaf in expressions.leaves(self.when)))


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """The rules of a place in one version. Two are equal when their files are byte for byte.

    `tier_names` maps a locale to the four names, none first. `coverage_target` is a share (0.95), `disclosure_k` the
    smallest number that statistics show, `file_retention_days` how long an answered upload's file is kept.
    """

    code: str
    version: str
    title: Mapping[str, str]
    tier_names: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    combinations: tuple[Rule, ...]
    consent: ConsentRule
    clocks: Mapping[str, Clock]
    ladder: tuple[Rung, ...]
    overdue_role: str
    closure: ClosureRule
    look_back_days: int
    coverage_target: float
    disclosure_k: int
    file_retention_days: int
    retention: RetentionRule
    quiet_hours: QuietHours
    model_may_use: tuple[str, ...]
    """Of grade and sex those that a model may look at; nothing else about a student is ever offered to one."""
    digest: str
    body: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """Rules, then combinations: the order in which reasons are listed."""
        return self.rules + self.combinations

    def rule(self, rule_id: str) -> Rule:
        """The rule or combination of that id; ValueError when this policy has none."""
        found = _rules_by_id(self).get(rule_id)
        if found is None:
            raise ValueError(f"policy {self.code} {self.version} has no rule {rule_id!r}")
        return found

    def tier_name(self, tier: int, locale: str) -> str:
        """What this place calls the tier; English where the locale is unknown."""
        return self.tier_names.get(locale, self.tier_names["en"])[tier]

    def clock(self, tier: int, has_self_harm: bool) -> Clock:
        """The clock of a tier from 1 to 3; a self-harm reason has its own where the policy gives one."""
        return (has_self_harm and self.clocks.get(f"{TIERS[tier]}_self_harm")) or self.clocks[TIERS[tier]]

    def consent_needed(self, age: int | None) -> frozenset[str]:
        """Whose decision is asked for at this age (completed years; None is treated as a young child)."""
        return frozenset({"guardian"} if self._is_child(age) else {"student"})

    def consent_accepted(self, age: int | None) -> frozenset[str]:
        """Any grant of one of these suffices at this age, as long as nobody refused."""
        return frozenset({"guardian"} if self._is_child(age) else GIVERS)

    def has_consent(self, age: int | None, decisions: Mapping[str, str]) -> bool:
        """Whether screening may use this student's answers.

        `decisions` maps guardian and student to their latest decision (granted, declined, withdrawn); who has not
        decided is absent. A refusal by either stands at every age: nobody is tested against their will.
        """
        is_refused = any(decision != "granted" for decision in decisions.values())
        return not is_refused and any(giver in decisions for giver in self.consent_accepted(age))

    def _is_child(self, age: int | None) -> bool:
        return age is None or age < self.consent.student_from_age


def model_reason(tier: int) -> str:
    """The reason that a result carries when a model raised it to this tier: yellow or orange, never red."""
    return MODEL_RULES[tier - 1].id


MODEL_RULES = tuple(
    Rule(
        id=f"model_raised_{TIERS[tier]}",
        tier=tier,
        kind="model",
        text="",
        when=expressions.parse('prior_tier >= "yellow"', is_combination=True),
        title=titles,
        min_age=None,
        max_age=None,
    )
    for tier, titles in (
        (1, {"en": "Raised to yellow by the model, to be judged by a person", "zh_CN": "模型提示：黄色，须由人判断"}),
        (2, {"en": "Raised to orange by the model, to be judged by a person", "zh_CN": "模型提示：橙色，须由人判断"}),
    )
)
"""What a model may say. They stand in no policy and their `when` is never asked: only a model's revision names them."""


@lru_cache(maxsize=256)
def _rules_by_id(policy: Policy) -> Mapping[str, Rule]:
    # ours come last: no policy can give the model's reasons another tier
    return {rule.id: rule for rule in (*policy.all_rules, *MODEL_RULES)}


def parse(text: str | bytes, origin: str) -> Policy:
    """Reads a policy: `text` is the content of a TOML file, `origin` its name for messages.

    The exact text stays in `body`, its SHA-256 in `digest`. Raises PolicyError with all problems.
    """
    try:
        body = text.decode("utf-8") if isinstance(text, bytes) else text
        content = tomllib.loads(body)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(origin, [f"file: {error}"]) from error
    problems: list[str] = []
    policy = _policy(_Table(content, "", problems), body)
    problems.extend(_inconsistencies(policy))
    if problems:
        raise PolicyError(origin, problems)
    return policy


@lru_cache(maxsize=256)
def parse_stored(body: str) -> Policy:
    """Reads a policy back from the text that was stored with a round, at most once per text and process."""
    return parse(body, "stored policy")


@lru_cache(maxsize=16)
def shipped(code: str = "cn_default") -> Policy:
    """A policy that comes with the product. Raises NotFound, which names those that do."""
    files = {file.name.removesuffix(".toml"): file for file in (resources.files("screening") / "policies").iterdir()}
    if code not in files or not _IDENTIFIER.fullmatch(code):
        raise NotFound(f"there is no policy {code!r}; known are {', '.join(sorted(files))}", code="policy_unknown")
    return parse(files[code].read_bytes(), f"{code}.toml")


def check(policy: Policy, instruments: Mapping[str, Instrument]) -> list[Problem]:
    """What is wrong with this policy for these instruments (by code): `column` holds the place in the policy.

    Every name in a rule must exist in its instrument. A rule whose instrument is not among them is inert and no
    problem; an instrument's self-harm item that no rule raises to orange or red is one.
    """
    found = []
    for index, rule in enumerate(policy.rules):
        for leaf in expressions.leaves(rule.when):
            if leaf.instrument in instruments:
                for message in _unknown(leaf, instruments[leaf.instrument]):
                    found.append(Problem("unknown_name", message, column=f"rules[{index}].when"))
    return [*found, *_unheard(policy, instruments)]


def forms_of(instrument: Instrument, informant: str | None) -> tuple[str, ...]:
    """The instrument's forms that this informant fills in, or the form of that name; all of them for None."""
    return tuple(name for name, form in instrument.forms.items() if informant in (None, name, form.informant))


def signal_column(instrument: Instrument, form: str, name: str) -> str | None:
    """The column of the scores that this yes/no name means in a form; None where the form does not have it."""
    if name == "critical_blank" and instrument.critical_items:
        return name
    if any(c.id == name and (not c.forms or form in c.forms) for c in instrument.critical_items):
        return f"critical_{name}"
    forms_with = {cut_off.name: cut_off.forms for cut_off in instrument.cut_offs}
    forms_with |= {derived.name: derived.forms for derived in instrument.derived}
    forms_with |= {rule.name: () for rule in instrument.validity_rules}
    is_here = name in forms_with and (not forms_with[name] or form in forms_with[name])
    return name if is_here else None


def bands_of(instrument: Instrument, form: str, scale: str, scheme: str | None) -> tuple[str, ...]:
    """The names of a scale's bands in a form, low score first, under a scheme (None: the primary one); () for none."""
    for one in instrument.band_schemes:
        is_meant = one.is_primary if scheme is None else one.name == scheme
        if is_meant and scale in one.bands and (not one.forms or form in one.forms):
            return tuple(band.name for band in one.bands[scale])
    return ()


def _unknown(leaf: Leaf, instrument: Instrument) -> Iterator[str]:
    forms = forms_of(instrument, leaf.informant)
    who = f"{leaf.informant} form of {instrument.code}" if leaf.informant else instrument.code
    if not forms:
        known = ", ".join(sorted({form.informant for form in instrument.forms.values()}))
        yield f"{instrument.code} has no form for {leaf.informant}, only for {known}"
    elif isinstance(leaf, Signal):
        if not any(signal_column(instrument, form, leaf.name) for form in forms):
            is_scale = any(scale.id == leaf.name for scale in instrument.scales)
            hint = "is a scale: compare it with a band" if is_scale else "is no cut-off or critical answer"
            yield f"{leaf.name} {hint} of the {who}" if leaf.informant else f"{leaf.name} {hint} of {who}"
    else:
        bands = [bands_of(instrument, form, leaf.scale, leaf.scheme) for form in forms]
        if not any(bands):
            yield f"{leaf.scale} is no scale with {leaf.scheme or 'primary'} bands of {who}"
        elif not any(leaf.band in names for names in bands):
            known = ", ".join(dict.fromkeys(name for names in bands for name in names))
            yield f"{leaf.band!r} is no band of {who} {leaf.scale}: {known}"


def _unheard(policy: Policy, instruments: Mapping[str, Instrument]) -> Iterator[Problem]:
    heard = {
        (leaf.instrument, leaf.name)
        for rule in policy.rules
        if rule.kind == "self_harm" and rule.tier >= TIERS.index("orange")
        for leaf in expressions.leaves(rule.when)
        if isinstance(leaf, Signal)
    }
    for code, instrument in instruments.items():
        for critical in instrument.critical_items:
            if critical.kind == "self_harm" and (code, critical.id) not in heard:
                message = f"no rule of kind self_harm raises {code}.{critical.id} to orange or red"
                yield Problem("critical_unheard", message, column="rules")


class _Table:
    """One TOML table being read: what is wrong is noted with its place and a harmless value stands in."""

    def __init__(self, content: Mapping[str, Any], place: str, problems: list[str]) -> None:
        self._left = dict(content)
        self.place = place
        self.problems = problems

    def note(self, key: str, message: str) -> None:
        self.problems.append(f"{self.place}.{key}: {message}" if self.place else f"{key}: {message}")

    def take(self, key: str, kind: type, what: str, stand_in: Any, default: Any = _REQUIRED) -> Any:
        if key not in self._left:
            if default is _REQUIRED:
                self.note(key, "is missing")
                return stand_in
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.note(key, f"must be {what}")
            return stand_in
        return value

    def text(self, key: str) -> str:
        value = str(self.take(key, str, "text", "?"))
        if not value.strip():
            self.note(key, "is empty")
        return value

    def identifier(self, key: str) -> str:
        value = self.text(key)
        if value != "?" and not _IDENTIFIER.fullmatch(value):
            self.note(key, f"{value!r} must be small letters, digits and single underscores")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _REQUIRED) -> str:
        value = str(self.take(key, str, "text", allowed[0], default))
        if value not in allowed:
            self.note(key, f"{value!r} is none of {', '.join(allowed)}")
            return allowed[0]
        return value

    def whole(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> Any:
        value = self.take(key, int, "a whole number", low, default)
        if value is not None and not low <= value <= high:
            self.note(key, f"must be from {low} to {high}")
            return low
        return value

    def span(self, key: str, default: Any = _REQUIRED) -> Any:
        value = self.take(key, str, "text like '30 min' or '2 school days'", None, default)
        if not isinstance(value, str):
            return default if isinstance(default, Span) else Span(1, "min")
        found = _SPAN.fullmatch(value)
        if found is None or int(found[1]) == 0:
            self.note(key, f"{value!r} is no span: say it like '30 min', '24 h', '14 days' or '2 school days'")
            return Span(1, "min")
        return Span(int(found[1]), found[2])  # type: ignore[arg-type]  # the pattern allows the four units only

    def time(self, key: str, default: dt.time) -> dt.time:
        written = str(self.take(key, str, 'a time like "21:00"', "00:00", default.isoformat("minutes")))
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", written):
            self.note(key, 'must be a time like "21:00"')
            return default
        return dt.time.fromisoformat(written)

    def spans(self, key: str) -> tuple[Span, ...]:
        """A list of spans, each as `span` reads one; none where the key is absent."""
        found = []
        for index, value in enumerate(self.take(key, list, "a list like ['14 days', '42 days']", [], [])):
            one = _Table({key: value}, self.place, [])
            found.append(one.span(key))
            self.problems.extend(problem.replace(f"{key}:", f"{key}[{index}]:", 1) for problem in one.problems)
        return tuple(found)

    def table(self, key: str, default: Any = _REQUIRED) -> "_Table":
        place = f"{self.place}.{key}" if self.place else key
        return _Table(self.take(key, dict, "a table", {}, default), place, self.problems)

    def tables(self, key: str, default: Any = _REQUIRED) -> list["_Table"]:
        rows = self.take(key, list, "a list of tables", [], default)
        place = f"{self.place}.{key}" if self.place else key
        found = []
        for index, row in enumerate(rows):
            if isinstance(row, dict):
                found.append(_Table(row, f"{place}[{index}]", self.problems))
            else:
                self.note(f"{key}[{index}]", "must be a table")
        return found

    def words(self, key: str) -> Mapping[str, str]:
        """The same words in every language of the product."""
        table = self.table(key)
        return table.finish({locale: table.text(locale) for locale in LOCALES})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._left)

    def finish(self, value: _Read) -> _Read:
        for key in self._left:
            self.note(key, "is not known here")
        return value


def _policy(table: _Table, body: str) -> Policy:
    policy = Policy(
        code=table.identifier("code"),
        version=table.text("version"),
        title=table.words("title"),
        tier_names=_tier_names(table.table("tier_names")),
        rules=tuple(_rule(row, is_combination=False) for row in table.tables("rules")),
        combinations=tuple(_rule(row, is_combination=True) for row in table.tables("combine", [])),
        consent=_consent(table.table("consent")),
        clocks=_clocks(table.table("clocks")),
        ladder=tuple(_rung(row) for row in table.tables("ladder")),
        overdue_role=table.choice("overdue_follow_up_goes_to", LADDER_ROLES),
        closure=_closure(table.table("closure")),
        look_back_days=table.whole("look_back_days", 0, 3660),
        coverage_target=table.whole("coverage_target_percent", 1, 100) / 100,
        disclosure_k=table.whole("disclosure_k", 5, 1000),
        file_retention_days=table.whole("file_retention_days", 0, 365),
        retention=_retention(table.table("retention", {})),
        quiet_hours=_quiet_hours(table.table("quiet_hours", {})),
        model_may_use=_model_may_use(table),
        digest=hashlib.sha256(body.encode("utf-8")).hexdigest(),
        body=body,
    )
    return table.finish(policy)


def _retention(table: _Table) -> RetentionRule:
    """Schools commonly keep such files until a student leaves; a policy without the table keeps them a year more."""
    return table.finish(
        RetentionRule(
            answers_days=table.whole("answers_days_after_leaving", 0, 3660, 365),
            red_notes_days=table.whole("red_notes_days_more", 0, 3660, 3 * 365),
        )
    )


def _quiet_hours(table: _Table) -> QuietHours:
    usual = QuietHours()
    return table.finish(QuietHours(table.time("from", usual.starts), table.time("until", usual.ends)))


def _model_may_use(table: _Table) -> tuple[str, ...]:
    wanted = table.take("model_may_use", list, f"a list of {', '.join(MODEL_CONTEXT)}", [], [])
    if any(name not in MODEL_CONTEXT for name in wanted):
        table.note("model_may_use", f"may name {' and '.join(MODEL_CONTEXT)} and nothing else")
    return tuple(wanted)


def _tier_names(table: _Table) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for locale in LOCALES:
        names = table.table(locale)
        found[locale] = names.finish(tuple(names.text(tier) for tier in TIERS))
    return table.finish(found)


def _rule(table: _Table, *, is_combination: bool) -> Rule:
    text = table.text("when")
    rule = Rule(
        id=table.identifier("id"),
        tier=TIERS.index(table.choice("tier", TIERS[1:])),
        kind=table.choice("kind", KINDS),
        text=text,
        when=_expression(table, text, is_combination),
        title=table.words("title"),
        min_age=table.whole("min_age", 0, 120, None),
        max_age=table.whole("max_age", 0, 120, None),
    )
    return table.finish(rule)


def _expression(table: _Table, text: str, is_combination: bool) -> Expression:
    try:
        return expressions.parse(text, is_combination=is_combination)
    except expressions.ExpressionRefused as refused:
        for problem in refused.problems if text != "?" else ():
            table.note("when", problem)
        return expressions.AnyOf(())


def _consent(table: _Table) -> ConsentRule:
    rule = ConsentRule(
        student_from_age=table.whole("student_from_age", 0, 120),
        is_guardian_told=table.take("guardian_is_told", bool, "true or false", True),
    )
    return table.finish(rule)


def _clocks(table: _Table) -> Mapping[str, Clock]:
    needed = {tier for tier in TIERS[1:] if tier not in table.names}
    for name in sorted(needed):
        table.note(name, "is missing")
    found = {name: _clock(table.table(name)) for name in _CLOCK_NAMES if name in table.names}
    return table.finish(found)


def _clock(table: _Table) -> Clock:
    acknowledge = table.span("acknowledge")
    clock = Clock(
        acknowledge=acknowledge,
        acknowledge_off_hours=table.span("acknowledge_off_hours", acknowledge),
        see=table.span("see"),
        follow_up=table.span("follow_up"),
        rescreens=table.spans("rescreen"),
    )
    return table.finish(clock)


def _rung(table: _Table) -> Rung:
    role = table.choice("role", LADDER_ROLES)
    share = table.whole("at_percent", 0, 100, None)
    after = table.table("after", {})
    spans = {TIERS.index(tier): after.span(tier) for tier in TIERS[1:] if tier in after.names}
    after.finish(None)
    if (share is None) == (not spans):
        table.note("at_percent", "a rung has either at_percent or after, by tier")
    return table.finish(Rung(role, None if share is None else share / 100, spans))


def _closure(table: _Table) -> ClosureRule:
    second = TIERS.index(table.choice("second_person_from", TIERS[1:]))
    reasons = table.table("reasons")
    words = {code: reasons.words(code) for code in reasons.names}
    return table.finish(ClosureRule(second, words, _checklist(table.table("checklist", {}))))


def _checklist(table: _Table) -> Mapping[int, tuple[str, ...]]:
    found = {}
    for tier in [name for name in TIERS[1:] if name in table.names]:
        wanted = table.take(tier, list, f"a list of {', '.join(CLOSURE_CHECKS)}", [])
        if any(name not in CLOSURE_CHECKS for name in wanted):
            table.note(tier, f"may name {' and '.join(CLOSURE_CHECKS)} and nothing else")
        found[TIERS.index(tier)] = tuple(wanted)
    return table.finish(found)


def _inconsistencies(policy: Policy) -> Iterator[str]:
    """What only the whole can tell."""
    ids = [rule.id for rule in policy.all_rules]
    for rule_id in sorted({rule_id for rule_id in ids if ids.count(rule_id) > 1 and rule_id != "?"}):
        yield f"rules: {rule_id} is given twice"
    for rule in policy.all_rules:
        if rule.id in _RESERVED_IDS:
            yield f"rules: {rule.id} already means something in combinations"
        if rule.min_age is not None and rule.max_age is not None and rule.min_age > rule.max_age:
            yield f"rules: {rule.id} has min_age above max_age"
    base_ids = {rule.id for rule in policy.rules}
    for rule in policy.combinations:
        for name in expressions.rules_named(rule.when):
            if name not in base_ids:
                yield f"combine: {rule.id} names {name}, which is no base rule"
    for name, clock in policy.clocks.items():
        spans = (clock.acknowledge, clock.acknowledge_off_hours, clock.see, clock.follow_up)
        if name not in ("yellow", "orange") and any(span.unit == "school day" for span in spans):
            yield f"clocks.{name}: red and self-harm run day and night, not in school days"
        if clock.follow_up.unit == "school day":
            yield f"clocks.{name}.follow_up: is promised in calendar days"
        if any(span.unit != "day" for span in clock.rescreens):
            yield f"clocks.{name}.rescreen: is told in days"
        if list(clock.rescreens) != sorted(clock.rescreens, key=lambda span: span.amount):
            yield f"clocks.{name}.rescreen: each comes after the one before it"
    if policy.closure.second_person_from > TIERS.index("orange"):
        yield "closure.second_person_from: orange and red always need a second person"
    if not policy.closure.reasons:
        yield "closure.reasons: there is none"
    if not policy.ladder or policy.ladder[0].share != 0:
        yield "ladder[0]: the first role hears at once (at_percent = 0)"
