"""The little language of a policy's rules: text in, a checked tree out. Nothing in it is ever run as code.

A base rule speaks of what instruments found, in names only, never in score numbers:
    phq9.total >= "moderate"              a scale's band, in the order of its bands (its primary scheme)
    sdq.total__cn2008 >= "raised"         the same under another band scheme
    psc17.total_ge15                      a cut-off (or another named yes/no) of the instrument
    phq9.self_harm, phq9.critical_blank   a critical answer; a critical item left blank
    psc17.teacher.total_ge17              the same, of one informant or form; without one: of any
    informants(psc17.total_ge15) >= 2     how many informants of one instrument meet it
A combination speaks of what the base rules gave:
    psc17_raised                          that base rule was met
    tier >= "yellow", prior_tier == "red" the tier so far; the highest of other rounds in the look-back
    count_constructs("yellow") >= 2       how many constructs reached that tier; `count_informants` likewise
    impairment                            any instrument's impairment cut-off is met
All of it joins with and, or, not and brackets. What cannot be evaluated is unknown, and unknown is not true.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from instruments.definition import FORM_NAMES, INFORMANTS

TIERS = ("none", "yellow", "orange", "red")

_LONGEST = 1000
_DEEPEST = 24
_HIGHEST_COUNT = 99
_WHO = tuple(dict.fromkeys((*INFORMANTS, *FORM_NAMES)))
_CHARACTERS = re.compile(r'[A-Za-z0-9_ \t\n."\'()<>=!]*')
_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


@dataclass(frozen=True)
class Signal:
    """A yes/no that an instrument's form gives: cut-off, critical answer or critical blank."""

    instrument: str
    informant: str | None
    name: str


@dataclass(frozen=True)
class Banded:
    """A scale's band compared with a named one; `scheme` None is the primary scheme."""

    instrument: str
    informant: str | None
    scale: str
    scheme: str | None
    op: str
    band: str


@dataclass(frozen=True)
class Informants:
    """How many informants meet `of`, compared with a number."""

    of: "Expression"
    op: str
    n: int


@dataclass(frozen=True)
class Count:
    """How many constructs or informants reached a tier by the base rules, compared with a number."""

    what: Literal["constructs", "informants"]
    tier: int
    op: str
    n: int


@dataclass(frozen=True)
class TierIs:
    """The tier of the base rules, or the prior tier, compared with a tier."""

    which: Literal["tier", "prior_tier"]
    op: str
    tier: int


@dataclass(frozen=True)
class RuleMet:
    """That a base rule was met, by its id."""

    rule: str


@dataclass(frozen=True)
class Impairment:
    """Any instrument of the battery has an impairment cut-off met."""


@dataclass(frozen=True)
class All:
    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class AnyOf:
    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class Not:
    part: "Expression"


Leaf = Signal | Banded
Expression = Signal | Banded | Informants | Count | TierIs | RuleMet | Impairment | All | AnyOf | Not


class ExpressionRefused(ValueError):
    """The text is not of this language; `problems` holds all of them, each with its column."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


def parse(text: str, *, is_combination: bool = False) -> Expression:
    """The tree of a rule (or of a combination). Raises ExpressionRefused with every problem and its column."""
    reading = _Reading(is_combination)
    tree = _syntax(text)
    expression = reading.expression(tree.body, 0)
    if reading.problems or expression is None:
        raise ExpressionRefused(reading.problems)
    return expression


def leaves(expression: Expression) -> Iterator[Leaf]:
    """Every name of an instrument in it, from left to right."""
    match expression:
        case Signal() | Banded():
            yield expression
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part) | Informants(part):
            yield from leaves(part)


def rules_named(expression: Expression) -> Iterator[str]:
    """Every base rule that a combination names."""
    match expression:
        case RuleMet(rule):
            yield rule
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from rules_named(part)
        case Not(part):
            yield from rules_named(part)


def _syntax(text: str) -> ast.Expression:
    if len(text) > _LONGEST:
        raise ExpressionRefused([f"is longer than {_LONGEST} characters"])
    good = _CHARACTERS.match(text)
    if good is None or good.end() < len(text):
        column = good.end() if good else 0
        raise ExpressionRefused([f"column {column + 1}: {text[column]!r} has no meaning here"])
    try:
        return ast.parse(re.sub(r"\s", " ", text).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionRefused(["cannot be read: look at the brackets, the quotes and the operators"]) from None


class _Reading:
    """One walk over a syntax tree, which notes every refusal with its column and goes on."""

    def __init__(self, is_combination: bool) -> None:
        self.is_combination = is_combination
        self.problems: list[str] = []

    def refuse(self, node: ast.AST, message: str) -> None:
        self.problems.append(f"column {getattr(node, 'col_offset', 0) + 1}: {message}")

    def expression(self, node: ast.expr, depth: int) -> Expression | None:
        if depth > _DEEPEST:
            self.refuse(node, f"is nested deeper than {_DEEPEST}")
            return None
        match node:
            case ast.BoolOp(op=op, values=values):
                found = [self.expression(value, depth + 1) for value in values]
                parts = tuple(part for part in found if part is not None)
                return All(parts) if isinstance(op, ast.And) else AnyOf(parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.expression(operand, depth + 1)
                return None if part is None else Not(part)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return self.comparison(left, _OPERATORS[type(op)], right, depth)
            case ast.Name() | ast.Attribute():
                return self.signal(node)
        self.refuse(node, "only names, bands in quotes, comparisons of two, and/or/not and the counts are known here")
        return None

    def comparison(self, left: ast.expr, op: str, right: ast.expr, depth: int) -> Expression | None:
        if isinstance(left, ast.Call):
            return self.count(left, op, right, depth)
        if not isinstance(right, ast.Constant) or not isinstance(right.value, str):
            self.refuse(right, "compare with a band or a tier in quotes; a score number belongs to the instrument")
            return None
        return self.tier(left, op, right) if self.is_combination else self.band(left, op, right.value)

    def tier(self, left: ast.expr, op: str, right: ast.Constant) -> Expression | None:
        level = self.level(right)
        match left:
            case ast.Name(id="tier") if level is not None:
                return TierIs("tier", op, level)
            case ast.Name(id="prior_tier") if level is not None:
                return TierIs("prior_tier", op, level)
            case ast.Name(id="tier" | "prior_tier"):
                return None
        self.refuse(left, "a combination compares only tier and prior_tier with a tier")
        return None

    def level(self, node: ast.expr) -> int | None:
        if isinstance(node, ast.Constant) and node.value in TIERS:
            return TIERS.index(str(node.value))
        self.refuse(node, f"is no tier: {', '.join(TIERS)}")
        return None

    def band(self, left: ast.expr, op: str, band: str) -> Expression | None:
        named = self.named(left)
        if named is None:
            return None
        instrument, informant, name = named
        scale, _, scheme = name.partition("__")
        return Banded(instrument, informant, scale, scheme or None, op, band)

    def signal(self, node: ast.expr) -> Expression | None:
        if not self.is_combination:
            named = self.named(node)
            return None if named is None else Signal(*named)
        match node:
            case ast.Name(id="impairment"):
                return Impairment()
            case ast.Name(id=name) if name not in ("tier", "prior_tier"):
                return RuleMet(name)
        self.refuse(node, "a combination knows rule ids, impairment, tier and prior_tier (compared) and two counts")
        return None

    def named(self, node: ast.expr) -> tuple[str, str | None, str] | None:
        """instrument.name or instrument.informant.name"""
        match node:
            case ast.Attribute(value=ast.Name(id=instrument), attr=name):
                return instrument, None, name
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id=instrument), attr=informant), attr=name):
                if informant in _WHO:
                    return instrument, informant, name
                self.refuse(node, f"{informant} is no informant: {', '.join(_WHO)}")
                return None
        self.refuse(node, "a name is instrument.name or instrument.informant.name")
        return None

    def count(self, call: ast.Call, op: str, right: ast.expr, depth: int) -> Expression | None:
        n = self.number(right)
        match call:
            case ast.Call(func=ast.Name(id="informants"), args=[argument], keywords=[]) if not self.is_combination:
                of = self.of_one_instrument(call, self.expression(argument, depth + 1))
                return None if of is None or n is None else Informants(of, op, n)
            case ast.Call(
                func=ast.Name(id="count_constructs" | "count_informants" as name), args=[argument], keywords=[]
            ) if self.is_combination:
                level = self.level(argument)
                what: Literal["constructs", "informants"] = (
                    "constructs" if name.endswith("constructs") else "informants"
                )
                return None if level is None or n is None else Count(what, level, op, n)
        known = "count_constructs(tier), count_informants(tier)" if self.is_combination else "informants(expression)"
        self.refuse(call, f"the only counts known here: {known}")
        return None

    def number(self, node: ast.expr) -> int | None:
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= _HIGHEST_COUNT:
            return node.value
        self.refuse(node, f"a count is compared with a whole number up to {_HIGHEST_COUNT}")
        return None

    def of_one_instrument(self, call: ast.Call, of: Expression | None) -> Expression | None:
        if of is not None and len({leaf.instrument for leaf in leaves(of)}) > 1:
            self.refuse(call, "informants() counts for one instrument at a time")
            return None
        return of
