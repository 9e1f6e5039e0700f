"""Reads a policy's tables into its parts, and says what only the whole can tell."""

import hashlib
from collections.abc import Iterator, Mapping

from screening import expressions
from screening.expressions import TIERS, Expression
from screening.policy.parts import (
    CLOSURE_CHECKS,
    KINDS,
    LADDER_ROLES,
    LOCALES,
    MODEL_CONTEXT,
    Clock,
    ClosureRule,
    ConsentRule,
    Policy,
    QuietHours,
    RetentionRule,
    Rule,
    Rung,
)
from screening.policy.table import Table

_CLOCK_NAMES = ("yellow", "yellow_self_harm", "orange", "orange_self_harm", "red")
_RESERVED_IDS = ("tier", "prior_tier", "impairment")


def policy(table: Table, body: str) -> Policy:
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


def inconsistencies(policy: Policy) -> Iterator[str]:
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


def _retention(table: Table) -> RetentionRule:
    """Schools commonly keep such files until a student leaves; a policy without the table keeps them a year more."""
    return table.finish(
        RetentionRule(
            answers_days=table.whole("answers_days_after_leaving", 0, 3660, 365),
            red_notes_days=table.whole("red_notes_days_more", 0, 3660, 3 * 365),
        )
    )


def _quiet_hours(table: Table) -> QuietHours:
    usual = QuietHours()
    return table.finish(QuietHours(table.time("from", usual.starts), table.time("until", usual.ends)))


def _model_may_use(table: Table) -> tuple[str, ...]:
    wanted = table.take("model_may_use", list, f"a list of {', '.join(MODEL_CONTEXT)}", [], [])
    if any(name not in MODEL_CONTEXT for name in wanted):
        table.note("model_may_use", f"may name {' and '.join(MODEL_CONTEXT)} and nothing else")
    return tuple(wanted)


def _tier_names(table: Table) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for locale in LOCALES:
        names = table.table(locale)
        found[locale] = names.finish(tuple(names.text(tier) for tier in TIERS))
    return table.finish(found)


def _rule(table: Table, *, is_combination: bool) -> Rule:
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


def _expression(table: Table, text: str, is_combination: bool) -> Expression:
    try:
        return expressions.parse(text, is_combination=is_combination)
    except expressions.ExpressionRefused as refused:
        for problem in refused.problems if text != "?" else ():
            table.note("when", problem)
        return expressions.AnyOf(())


def _consent(table: Table) -> ConsentRule:
    rule = ConsentRule(
        student_from_age=table.whole("student_from_age", 0, 120),
        is_guardian_told=table.take("guardian_is_told", bool, "true or false", True),
    )
    return table.finish(rule)


def _clocks(table: Table) -> Mapping[str, Clock]:
    needed = {tier for tier in TIERS[1:] if tier not in table.names}
    for name in sorted(needed):
        table.note(name, "is missing")
    found = {name: _clock(table.table(name)) for name in _CLOCK_NAMES if name in table.names}
    return table.finish(found)


def _clock(table: Table) -> Clock:
    acknowledge = table.span("acknowledge")
    clock = Clock(
        acknowledge=acknowledge,
        acknowledge_off_hours=table.span("acknowledge_off_hours", acknowledge),
        see=table.span("see"),
        follow_up=table.span("follow_up"),
        rescreens=table.spans("rescreen"),
    )
    return table.finish(clock)


def _rung(table: Table) -> Rung:
    role = table.choice("role", LADDER_ROLES)
    share = table.whole("at_percent", 0, 100, None)
    after = table.table("after", {})
    spans = {TIERS.index(tier): after.span(tier) for tier in TIERS[1:] if tier in after.names}
    after.finish(None)
    if (share is None) == (not spans):
        table.note("at_percent", "a rung has either at_percent or after, by tier")
    return table.finish(Rung(role, None if share is None else share / 100, spans))


def _closure(table: Table) -> ClosureRule:
    second = TIERS.index(table.choice("second_person_from", TIERS[1:]))
    reasons = table.table("reasons")
    words = {code: reasons.words(code) for code in reasons.names}
    return table.finish(ClosureRule(second, words, _checklist(table.table("checklist", {}))))


def _checklist(table: Table) -> Mapping[int, tuple[str, ...]]:
    found = {}
    for tier in [name for name in TIERS[1:] if name in table.names]:
        wanted = table.take(tier, list, f"a list of {', '.join(CLOSURE_CHECKS)}", [])
        if any(name not in CLOSURE_CHECKS for name in wanted):
            table.note(tier, f"may name {' and '.join(CLOSURE_CHECKS)} and nothing else")
        found[TIERS.index(tier)] = tuple(wanted)
    return table.finish(found)
