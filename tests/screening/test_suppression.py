"""Disclosure control: what a release hides, and an attack on it by a solver that knows nothing of how it was made."""

import itertools
import json
import time
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
Rows = tuple[Any, Any]
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
    was held, else by no more than the number of those who answered since. What he can tell from that alone, this
    release did not tell him.
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
    known: list[tuple[dict[int, float], float]] = []
    sexes = [c for c in cells if c[2]]
    for name in names:  # both tables sum to the same district
        row = vector((None, None, None), (name,))
        row.update({places[sex, name]: -1.0 for sex in sexes})
        known.append((row, 0.0))
    hidden: list[tuple[Node, str, float, float]] = []
    within: list[tuple[dict[int, float], float]] = []
    for figures in every_node(made):
        if knows_sizes:
            known.append((vector(figures.key, names), float(size(figures.key))))
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
    bounded = matrix_of(within, len(places))
    exact, beforehand = matrix_of(known + equations, len(places)), matrix_of(known, len(places))
    found = []
    for node, name, least, most in hidden:
        value = true[node][name]
        aim = np.zeros(len(places))
        aim[list(vector(node, aims[name]))] = 1.0
        low, high = (solve(aim, exact, bounded, sense=sense) for sense in (1, -1))
        is_near = low > max(least, value - K) + 0.01 or high < min(value + K, most) - 0.01
        if (is_near and not within) or high - low < min(2 * K, most - least) - 0.01:
            if within and high - low > width(aim, beforehand, bounded) - 0.01:
                continue
            found.append(Found(node, name, value, low, high))
    return found


def width(aim: "np.ndarray[Any, Any]", exact: Rows, bounded: Rows) -> float:
    return solve(aim, exact, bounded, sense=-1) - solve(aim, exact, bounded, sense=1)


def naive_attack(summaries: list[Summary], made: Release, *, name: str) -> list[Found]:
    """What a script does that takes every count that stands for the truth of today, within its rounding."""
    nodes = {figures.key: figures for figures in every_node(made)}
    cells = [key for key in nodes if (key[0] and key[1]) or key[2]]
    places = {cell: i for i, cell in enumerate(cells)}
    rows: list[tuple[dict[int, float], float]] = []
    for key, figures in nodes.items():
        row = vector_of(key, cells, places)
        shown = figures.counts[name]
        if shown is not None:
            rows += [(row, shown + 2.0), (dict.fromkeys(row, -1.0), 2.0 - shown)]
    whole = {places[c]: -1.0 if c[2] else 1.0 for c in cells}
    exact, bounded = matrix_of([(whole, 0.0)], len(cells)), matrix_of(rows, len(cells))
    found = []
    for key, figures in nodes.items():
        if figures.counts[name] is None:
            aim = np.zeros(len(cells))
            aim[list(vector_of(key, cells, places))] = 1.0
            try:
                low, high = (solve(aim, exact, bounded, sense=sense) for sense in (1, -1))
            except AssertionError:
                return []  # it contradicts itself: some counts are out of date
            if high - low < 2 * K:
                found.append(Found(key, name, truth(summaries)[key][name], low, high))
    return found


def vector_of(node: Node, cells: list[Node], places: dict[Node, int]) -> dict[int, float]:
    inside = (
        [node]
        if node in places
        else [c for c in cells if not c[2] and node[0] in (None, c[0]) and node[1] in (None, c[1])]
    )
    return {places[cell]: 1.0 for cell in inside}


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


@pytest.mark.parametrize(
    ("measure", "knows_sizes", "first"),
    [("tiers", True, 0), ("tiers", False, 3), ("declines", True, 2), ("declines", False, 5)],
)
def test_a_solver_narrows_no_hidden_count(measure: str, knows_sizes: bool, first: int, is_storm: bool) -> None:
    shown = 0
    for seed in range(first, first + (40 if is_storm else 2)):
        district = make_district(seed, **SHAPES[seed % len(SHAPES)])
        made = suppression.release(district, k=K)
        assert attack(district, made, measure=measure, knows_sizes=knows_sizes) == []
        shown += sum(f.counts["none" if measure == "tiers" else "declined"] is not None for f in every_node(made))
    assert shown > 0  # it was not bought by hiding everything


def test_without_complements_the_same_solver_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression, "_protect", lambda table: None)
    district = make_district(5, **SHAPES[5])
    made = suppression.release(district, k=K)
    assert any(f.high - f.low < 0.01 for f in attack(district, made, measure="tiers", knows_sizes=False))
    assert naive_attack(district, made, name="orange_or_red") != []


def test_a_split_of_orange_and_red_that_is_not_safe_is_found_by_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression, "_split_is_safe", lambda *_: True)
    district = make_district(3, schools=2, grades=1, size=(200, 300), rates=(0.6, 0.2, 0.19, 0.01))
    found = attack(district, suppression.release(district, k=K), measure="tiers", knows_sizes=True)
    assert {f.name for f in found} >= {"orange", "red"}


def test_four_dates_differ_by_nothing_or_by_k_and_tell_no_more_together(share: Callable[[int], int]) -> None:
    refreshed = 0
    for seed in range(9, 9 + share(10)):
        district = make_district(seed, **SHAPES[seed % len(SHAPES)], answered=0.35)
        previous: Release | None = None
        for date in range(4):
            made = suppression.release(district, k=K, previous=previous)
            if previous is not None:
                refreshed += assert_differs_by_nothing_or_k(made, previous)
            found = attack(district, made, measure="tiers", knows_sizes=date % 2 == 1, previous=previous)
            assert found == []
            for name in ("none", "yellow", "orange_or_red"):
                assert naive_attack(district, made, name=name) == []
            previous, district = made, grow(district, seed * 10 + date, share=0.4)
    assert refreshed > 10  # it was not bought by standing still


def assert_differs_by_nothing_or_k(made: Release, previous: Release) -> int:
    then = {(table, f.key): f for table, rows in previous.tables.items() for f in rows}
    changed = 0
    for table, rows in made.tables.items():
        for figures in rows:
            for name, count in figures.counts.items():
                before = then[table, figures.key].counts[name]
                if count is not None and before is not None:
                    assert count == before or abs(count - before) >= K
                    changed += count != before and name in suppression.SENSITIVE
    return changed


def test_the_same_counts_give_the_same_release() -> None:
    district = make_district(4, **SHAPES[4])
    first = suppression.release(district, k=K)
    assert suppression.release(list(reversed(district)), k=K) == first
    assert suppression.release(district, k=K, previous=first).as_json() == first.as_json()


def test_what_was_hidden_appears_only_when_much_was_added() -> None:
    district = [summary(number, grade, none=60, yellow=25, red=25) for number in (1, 2, 3) for grade in (1, 2)]
    district[0] = district[0]._replace(yellow=5)
    first = suppression.release(district, k=K)
    hidden = {f.key for f in every_node(first) if f.counts["yellow"] is None}
    assert hidden
    district[0] = district[0]._replace(yellow=12, none=70, submitted=district[0].submitted + 17)
    later = suppression.release(district, k=K, previous=first)
    assert {f.key for f in every_node(later) if f.counts["yellow"] is None} >= hidden - {
        f.key for f in every_node(later) if f.key[0] is None
    }


# -- the rules, one by one ----------------------------------------------------------------------------


def summary(
    number: int,
    grade: int = 1,
    sex: str = "f",
    *,
    none: int = 200,
    yellow: int = 60,
    orange: int = 40,
    red: int = 40,
    declined: int = 30,
    unanswered: int = 30,
) -> Summary:
    """A school's grade in which everybody who consented has answered."""
    answered = none + yellow + orange + red
    eligible = answered + declined + unanswered
    school = uuid.UUID(int=number)
    return Summary(
        school, grade, sex, eligible, eligible, answered, answered, answered, answered, declined, none, yellow,
        orange, red,
    )  # fmt: skip


def plain_district(**odd: int) -> list[Summary]:
    """Six schools, three grades, two sexes, everything plentiful; `odd` is said of one cell."""
    made = [summary(n, grade, sex) for n in range(1, 7) for grade in (1, 2, 3) for sex in ("f", "m")]
    cell = made[0]
    changed = cell._replace(**odd)
    answered = changed.none + changed.yellow + changed.orange + changed.red
    made[0] = changed._replace(submitted=answered, valid=answered)
    return made


def figures_of(made: Release, table: suppression.Table, *key: Any) -> Figures:
    return next(f for f in made.tables[table] if f.key == key)


FIRST = uuid.UUID(int=1)


def test_plenty_is_shown_rounded_to_five_and_in_whole_percents() -> None:
    made = suppression.release(plain_district(none=203), k=K)
    cell = figures_of(made, "school_grade", FIRST, 1, None)
    assert cell.counts | {"orange": None, "red": None} == {
        "enrolled": 800,
        "eligible": 800,
        "consented": 680,
        "invited": 680,
        "submitted": 685,
        "valid": 685,
        "declined": 60,
        "none": 405,
        "yellow": 120,
        "orange_or_red": 160,
        "orange": None,
        "red": None,
    }
    assert cell.rates["consent"] == 85
    assert cell.rates["invited"] == ">=95"
    assert cell.rates["yellow"] == 18
    district = figures_of(made, "district", None, None, None)
    assert (district.counts["red"], district.counts["orange"]) == (1440, 1440)
    assert district.suppressed == ()


@pytest.mark.parametrize("yellow", [0, 1, 9])
def test_a_small_count_is_hidden_with_all_that_would_give_it_away(yellow: int) -> None:
    district = plain_district()
    district[0] = district[0]._replace(yellow=yellow)
    district[1] = district[1]._replace(yellow=0)
    made = suppression.release(district, k=K)
    for name in ("none", "yellow", "orange_or_red"):
        assert figures_of(made, "school_grade", FIRST, 1, None).counts[name] is None
    assert_two_or_none(made, "yellow")


def test_all_or_nothing_is_hidden_too() -> None:
    district = [row._replace(declined=row.eligible - row.consented) for row in plain_district()]
    everybody = [row._replace(consented=0, declined=row.eligible) if row.grade == 1 else row for row in district]
    made = suppression.release(everybody, k=K)
    assert figures_of(made, "grade", None, 1, None).counts["declined"] is None


def assert_two_or_none(made: Release, name: str) -> None:
    """Every margin that is shown has no hidden part, or two."""
    for table, within in (("school", 0), ("grade", 1), ("district", None)):
        for margin in made.tables[table]:  # type: ignore[index]
            if margin.counts[name] is None:
                continue
            groups: list[list[Figures]] = []
            if within is None:
                groups = [list(made.tables[t]) for t in ("school", "grade", "sex")]
            else:
                groups = [[f for f in made.tables["school_grade"] if f.key[within] == margin.key[within]]]
            for group in groups:
                assert sum(f.counts[name] is None for f in group) != 1


def test_every_shown_margin_has_two_hidden_parts_or_none() -> None:
    for seed in range(7):
        made = suppression.release(make_district(seed, **SHAPES[seed % len(SHAPES)]), k=K)
        for name in ("none", "yellow", "orange_or_red", "declined"):
            assert_two_or_none(made, name)


def test_completion_is_hidden_under_a_denominator_of_ten_only() -> None:
    district = plain_district()
    district.append(summary(7, none=3, yellow=2, orange=0, red=0, declined=2, unanswered=2))
    district.append(summary(8, none=30, yellow=0, orange=0, red=0, declined=0, unanswered=0))
    made = suppression.release(district, k=K)
    tiny = figures_of(made, "school", uuid.UUID(int=7), None, None)
    assert all(tiny.counts[name] is None for name in suppression.COMPLETION)
    good = figures_of(made, "school", uuid.UUID(int=8), None, None)
    assert good.counts["valid"] == good.counts["eligible"] == 30
    assert good.rates["valid_coverage"] == ">=95"
    assert good.counts["declined"] is None
    assert good.counts["none"] is None


def test_few_reds_are_told_with_the_orange_only() -> None:
    district = [row._replace(none=row.none + row.red, red=0) for row in plain_district()]
    district[0] = district[0]._replace(none=district[0].none - 4, red=4)
    made = suppression.release(district, k=K)
    whole = figures_of(made, "district", None, None, None)
    assert whole.counts["orange_or_red"] == 1445
    assert whole.counts["red"] is None
    assert whole.counts["orange"] is None


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(1, 29, None), (0, 30, "<=5"), (5, 100, "<=5"), (6, 100, 6), (94, 100, 94), (189, 200, ">=95"), (30, 30, ">=95")],
)
def test_percents_are_whole_and_their_ends_coded(part: int, whole: int, shown: int | str | None) -> None:
    assert suppression.percent(part, whole) == shown


def test_rounding_is_to_the_nearest_five() -> None:
    assert [suppression.rounded(n) for n in (0, 2, 3, 7, 8, 12, 13)] == [0, 0, 5, 5, 10, 10, 15]


def test_a_release_is_made_here_alone_and_comes_back_as_it_was_stored() -> None:
    made = suppression.release(plain_district(), k=K)
    assert suppression.reopen(json.loads(json.dumps(made.as_json()))) == made
    with pytest.raises(TypeError):
        Release(K, {})


def test_a_round_without_students_shows_nothing() -> None:
    made = suppression.release([], k=K)
    (district,) = every_node(made)
    assert set(district.counts.values()) == {None}


def test_a_thousand_schools_are_protected_in_seconds() -> None:
    district = make_district(1, schools=1000, grades=6, size=(20, 120))
    started = time.process_time()
    made = suppression.release(district, k=K)
    assert time.process_time() - started < 10
    assert sum(f.counts["yellow"] is not None for f in made.tables["school"]) > 100
