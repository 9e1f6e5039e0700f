"""A policy's parts: rules, clocks, the ladder, consent, closing, retention."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from screening import expressions
from screening.expressions import TIERS, Expression

LOCALES = ("en", "zh_CN")
MODEL_CONTEXT = ("grade", "sex")
CLOSURE_CHECKS = ("guardian_informed", "two_contacts")
"""What a policy may demand of a tier before a case ends, beyond what always stands in the way."""
KINDS = ("symptom", "self_harm", "function", "history", "follow_up")
LADDER_ROLES = ("counselor", "deputy", "lead", "principal", "duty_officer")
GIVERS = ("guardian", "student")
DECISIONS = ("granted", "declined", "withdrawn")


Unit = Literal["min", "h", "day", "school day"]


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
