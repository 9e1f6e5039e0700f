"""Disclosure control: what a release hides, and an attack on it by a solver that knows nothing of how it was made."""

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_array

from screening import suppression
from screening.suppression import Figures, Release, Summary

K = 10
TIERS = ("none", "yellow", "orange", "red")
TOGETHER = (("none", "yellow", "orange_or_red"), ("orange", "red"), ("declined",))
Node = tuple[uuid.UUID | None, int | None, str | None]


def make_district(
    seed: int,
    *,
    schools: int = 3,
    grades: int = 3,
    size: tuple[int, int] = (5, 120),
    rates: tuple[float, float, float, float] = (0.72, 0.16, 0.08, 0.04),
    answered: float = 0.9,
) -> list[Summary]:
    """A made-up district: some schools do not have every grade, some classes are tiny."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(schools):
        school = uuid.UUID(bytes=draw.bytes(16))
        first, last = sorted(draw.integers(0, grades, size=2).tolist()) if draw.random() < 0.4 else (0, grades - 1)
        scale = draw.choice([0.2, 1.0, 2.0])
        for grade, sex in itertools.product(range(first, last + 1), "fm"):
            enrolled = int(draw.integers(*size) * scale) + 1
            eligible = enrolled - int(draw.binomial(enrolled, 0.02))
            consented = int(draw.binomial(eligible, draw.choice([0.7, 0.9, 0.98])))
            declined = int(draw.binomial(eligible - consented, 0.5))
            submitted = int(draw.binomial(consented, answered))
            tiers = draw.multinomial(submitted, rates).tolist()
            valid = submitted - int(draw.binomial(submitted, 0.05))
            made.append(
                Summary(
                    school, grade + 1, sex, enrolled, eligible, consented, consented, submitted, valid, declined, *tiers
                )
            )
    return made


def grow(summaries: list[Summary], seed: int, *, share: float) -> list[Summary]:
    """The same district later: some of those who had not answered have answered now."""
    draw = np.random.default_rng(seed)
    grown = []
    for s in summaries:
        late = int(draw.binomial(s.consented - s.submitted, share))
        none, yellow, orange, red = draw.multinomial(late, (0.72, 0.16, 0.08, 0.04)).tolist()
        grown.append(
            s._replace(
                submitted=s.submitted + late,
                valid=s.valid + late,
                none=s.none + none,
                yellow=s.yellow + yellow,
                orange=s.orange + orange,
                red=s.red + red,
            )
        )
    return grown


def every_node(made: Release) -> Iterator[Figures]:
    return itertools.chain.from_iterable(made.tables.values())


def truth(summaries: list[Summary]) -> dict[Node, dict[str, int]]:
    """The true counts of every node, summed from the rows."""
    sums: dict[Node, dict[str, int]] = {}
    for s in summaries:
        nodes: list[Node] = [
            (None, None, None),
            (s.school, None, None),
            (None, s.grade, None),
            (s.school, s.grade, None),
            (None, None, s.sex),
        ]
        for node in nodes:
            at = sums.setdefault(node, dict.fromkeys((*Summary._fields[3:], "orange_or_red"), 0))
            for name in Summary._fields[3:]:
                at[name] += getattr(s, name)
            at["orange_or_red"] += s.orange + s.red
    return sums


# -- the attack ---------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A hidden count that the attacker narrowed down too far."""

    node: Node
    name: str
    true: int
    low: float
    high: float


def attack(
    summaries: list[Summary], made: Release, *, measure: str, knows_sizes: bool, previous: Release | None = None
) -> list[Found]:
    """Linear programming against one family of counts; the attacker is given the shown counts without rounding.

    With `knows_sizes` he also knows how many students stand behind each node (answered forms for tiers, eligible
    without consent for declines). Where a node shows what it showed in the previous release, he knows whether it was
    held back, and how far its counts can have moved since: by less than k (and 2 for rounding) if that is why it
    was held, else by no more than the number of those who answered since.
    """
    true = truth(summaries)
    names = TIERS if measure == "tiers" else ("declined", "unanswered")
    aims: dict[str, tuple[str, ...]] = {"declined": ("declined",)}
    if measure == "tiers":
        aims = {name: (name,) for name in TIERS} | {"orange_or_red": ("orange", "red")}
    cells: list[Node] = [n for n in true if (n[0] and n[1]) or n[2]]
    places = {(cell, name): i for i, (cell, name) in enumerate(itertools.product(cells, names))}

    def parts(node: Node) -> list[Node]:
        if node in cells:
            return [node]
        return [c for c in cells if not c[2] and (node[0] in (None, c[0])) and (node[1] in (None, c[1]))]

    def vector(node: Node, of: tuple[str, ...]) -> dict[int, float]:
        return {places[cell, name]: 1.0 for cell in parts(node) for name in of}

    def size(node: Node) -> int:
        at = true[node]
        if measure == "tiers":
            return sum(at[name] for name in TIERS)
        return at["eligible"] - at["consented"]

    equations: list[tuple[dict[int, float], float]] = []
    sexes = [c for c in cells if c[2]]
    for name in names:  # both tables sum to the same district
        row = vector((None, None, None), (name,))
        row.update({places[sex, name]: -1.0 for sex in sexes})
        equations.append((row, 0.0))
    hidden: list[tuple[Node, str, float, float]] = []
    within: list[tuple[dict[int, float], float]] = []
    for figures in every_node(made):
        if knows_sizes:
            equations.append((vector(figures.key, names), float(size(figures.key))))
        for name, of in aims.items():
            shown, value, row = figures.counts[name], true[figures.key][name], vector(figures.key, of)
            beyond = float(size(figures.key)) if knows_sizes else 1e6
            if name in ("orange", "red") and figures.counts["orange_or_red"] is not None:
                beyond = min(beyond, true[figures.key]["orange_or_red"])
            drift = drift_of(figures, name, true[figures.key], previous)
            if shown is None:
                hidden.append((figures.key, name, 0.0, beyond))
            elif drift is None:
                equations.append((row, float(value)))
            else:
                least, most = min(max(0, shown - drift), value), max(min(shown + drift, beyond), value)
                within += [(row, most), (dict.fromkeys(row, -1.0), -least)]
                hidden.append((figures.key, name, least, most))
    exact, bounded = matrix_of(equations, len(places)), matrix_of(within, len(places))
    found = []
    for node, name, least, most in hidden:
        value = true[node][name]
        aim = np.zeros(len(places))
        aim[list(vector(node, aims[name]))] = 1.0
        low, high = solve(aim, exact, bounded, sense=1), solve(aim, exact, bounded, sense=-1)
        is_near = low > max(least, value - K) + 0.01 or high < min(value + K, most) - 0.01
        if (is_near and not within) or high - low < min(2 * K, most - least) - 0.01:
            found.append(Found(node, name, value, low, high))
    return found


def drift_of(figures: Figures, name: str, true: dict[str, int], previous: Release | None) -> int | None:
    """How far from what is shown the truth can be for all the attacker knows; None where it is up to date."""
    together = next(names for names in TOGETHER if name in names)
    changes = [abs(true[n] - (figures.counts[n] or 0)) for n in together]
    if all(figures.counts[n] == suppression.rounded(true[n]) for n in together):
        return None
    if previous is None or max(changes) <= K + 1:
        return K + 1
    then = next(f for f in every_node(previous) if f.key == figures.key)
    public = "consented" if name == "declined" else "submitted"
    return max(K + 1, abs(true[public] - (then.counts[public] or 0)) + 4)


Rows = tuple[Any, Any]


def matrix_of(rows: list[tuple[dict[int, float], float]], width: int) -> Rows:
    at = ([i for i, (row, _) in enumerate(rows) for _ in row], [c for row, _ in rows for c in row])
    values = [value for row, _ in rows for value in row.values()]
    return csr_array((values, at), shape=(len(rows), width)), np.array([right for _, right in rows])


def solve(aim: "np.ndarray[Any, Any]", exact: Rows, bounded: Rows, *, sense: int) -> float:
    """The least (sense 1) or greatest (sense -1) value of what is aimed at."""
    solved = linprog(
        sense * aim, A_eq=exact[0], b_eq=exact[1], A_ub=bounded[0], b_ub=bounded[1], bounds=(0, None), method="highs"
    )
    if solved.status == 3:
        return float("inf") * -sense
    assert solved.status == 0, solved.message
    return float(sense * solved.fun)


SHAPES: list[dict[str, Any]] = [
    {"schools": 3, "grades": 3},
    {"schools": 2, "grades": 2, "size": (10, 300)},
    {"schools": 5, "grades": 2, "size": (30, 200)},
    {"schools": 4, "grades": 4, "size": (20, 150), "rates": (0.5, 0.25, 0.15, 0.1)},
    {"schools": 1, "grades": 4, "size": (60, 200)},
    {"schools": 6, "grades": 3, "size": (60, 300), "rates": (0.6, 0.2, 0.12, 0.08)},
    {"schools": 4, "grades": 3, "size": (100, 400), "rates": (0.97, 0.02, 0.008, 0.002)},
]


@pytest.mark.parametrize("knows_sizes", [True, False])
@pytest.mark.parametrize("measure", ["tiers", "declines"])
def test_a_solver_narrows_no_hidden_count(measure: str, knows_sizes: bool, share: Callable[[int], int]) -> None:
    shown = 0
    for seed in range(share(70)):
        district = make_district(seed, **SHAPES[seed % len(SHAPES)])
        made = suppression.release(district, k=K)
        assert attack(district, made, measure=measure, knows_sizes=knows_sizes) == []
        shown += sum(f.counts["none" if measure == "tiers" else "declined"] is not None for f in every_node(made))
    assert shown > 10  # it was not bought by hiding everything


def test_without_complements_the_same_solver_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression, "_protect", lambda table: None)
    district = make_district(5, **SHAPES[5])
    found = attack(district, suppression.release(district, k=K), measure="tiers", knows_sizes=False)
    assert any(f.high - f.low < 0.01 for f in found)


def test_a_split_of_orange_and_red_that_is_not_safe_is_found_by_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression, "_split_is_safe", lambda *_: True)
    district = make_district(3, schools=2, grades=1, size=(200, 300), rates=(0.6, 0.2, 0.19, 0.01))
    found = attack(district, suppression.release(district, k=K), measure="tiers", knows_sizes=True)
    assert {f.name for f in found} >= {"orange", "red"}
