"""Disclosure control: the only maker of a `Release`, which is all that statistics doors accept.

One round is a fixed hierarchy of nodes: the district, each school, each grade, each school x grade, each sex.
Completion counts are not sensitive and are hidden under a denominator of k alone. Tiers and declines follow the
full rule: too small a count, or too small a complement, hides the node; then further nodes are hidden until every
hidden count could, for all that is public, lie k lower and k higher.

How that is proven. Whoever reads a release knows (we assume the worst) every count that is shown, exactly, and at
each node how many students there are in all. He does not know which student of a hidden node has which tier. If
in school S a yellow of grade 4 and a none of grade 5 change places, and in school T a none of grade 4 and a yellow
of grade 5, then every school and grade keeps its sums: when those four nodes are hidden he cannot tell the two
worlds apart. `_reach` counts such exchanges that can be made at once; a hidden count that can be moved far enough
in both directions is protected, because the other world has been constructed. What cannot be moved far enough
makes `_protect` hide one more node, and look again: the hidden only grow, so it ends, at the latest when nothing
is shown. It may hide more than an optimal solver would; it cannot hide less than is safe.

The free range. A count can never be more uncertain than the completion figures, public by rule, leave it: among 12
answered forms there are 0 to 12 reds. A hidden count is owed min(2k, that range), k to either side where there is
room. Invalid forms are no cell of a release: they are submitted minus valid, and both are public by rule.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = Literal["district", "school", "grade", "sex", "school_grade"]
TABLES: tuple[Table, ...] = ("district", "school", "grade", "sex", "school_grade")
COMPLETION = ("enrolled", "eligible", "consented", "invited", "submitted", "valid")
SENSITIVE = ("declined", "none", "yellow", "orange_or_red", "orange", "red")
RATES: Mapping[str, tuple[str, str]] = {
    "consent": ("consented", "eligible"),
    "invited": ("invited", "consented"),
    "response": ("submitted", "invited"),
    "valid_coverage": ("valid", "eligible"),
    "completion": ("submitted", "eligible"),
    "declined": ("declined", "eligible"),
    "none": ("none", "valid"),
    "yellow": ("yellow", "valid"),
    "orange_or_red": ("orange_or_red", "valid"),
    "orange": ("orange", "valid"),
    "red": ("red", "valid"),
}
"""Name of a rate -> the counts it divides."""

ROUNDING = 5
MIN_RATE_DENOMINATOR = 30


class Summary(NamedTuple):
    """Counts of students of one school, grade and sex; tiers count a result at most once, `valid` includes suspect."""

    school: uuid.UUID
    grade: int
    sex: str
    enrolled: int
    eligible: int
    consented: int
    invited: int
    submitted: int
    valid: int
    declined: int
    none: int
    yellow: int
    orange: int
    red: int


_COUNTED = Summary._fields[3:]


@dataclass(frozen=True)
class Figures:
    """What is public about one node: counts rounded to 5, percents whole or "<=5" / ">=95"; hidden is None."""

    school: uuid.UUID | None
    grade: int | None
    sex: str | None
    counts: Mapping[str, int | None]
    rates: Mapping[str, int | str | None]

    @property
    def suppressed(self) -> tuple[str, ...]:
        """The counts that are hidden here."""
        return tuple(name for name, count in self.counts.items() if count is None)

    @property
    def key(self) -> tuple[uuid.UUID | None, int | None, str | None]:
        return (self.school, self.grade, self.sex)


_MAKER = object()


@dataclass(frozen=True)
class Release:
    """Statistics that may leave the district. Made by `release` and `reopen` alone."""

    k: int
    tables: Mapping[Table, Sequence[Figures]]
    maker: object = None

    def __post_init__(self) -> None:
        if self.maker is not _MAKER:
            raise TypeError("a Release is made by suppression.release alone")

    def as_json(self) -> dict[str, Any]:
        """What is stored and served: per table the nodes with counts, rates and the names of what is hidden."""
        tables: dict[str, Any] = {name: [_as_json(f) for f in rows] for name, rows in self.tables.items()}
        return {"k": self.k, **tables}


def release(summaries: Iterable[Summary], *, k: int = 10, previous: Release | None = None) -> Release:
    """Public figures of one round out of its true counts.

    `k` is the least count shown (the policy's). `previous` is the last release of the same round: a sensitive node
    is shown again only as it stood there or changed by k or more in every count, and what was hidden there appears
    only with counts of 2k and 2k more answered; otherwise the node keeps what it showed.
    """
    hierarchy = _Hierarchy.of(list(summaries))
    earlier = _Earlier(previous)
    cover = {family.name: _cover(hierarchy, family, k, earlier) for family in _FAMILIES}
    is_split = _split_is_safe(hierarchy, cover[_TIERS.name], k)
    rows: dict[Table, list[Figures]] = {name: [] for name in TABLES}
    for node in hierarchy.nodes():
        place, i, j = node.place
        states = {name: int(of[place][i, j]) for name, of in cover.items()}
        states[_SPLIT.name] = states[_TIERS.name]
        if node.table != "district" or (not is_split and not earlier.shown(node, _SPLIT.shown)):
            states[_SPLIT.name] = DARK
        elif not is_split:
            states[_SPLIT.name] = max(states[_SPLIT.name], HELD)
        rows[node.table].append(_figures(node, states, k, earlier))
    return Release(k, {name: tuple(figures) for name, figures in rows.items()}, _MAKER)


def reopen(stored: Mapping[str, Any]) -> Release:
    """A release as it was stored (`Release.as_json`)."""
    return Release(stored["k"], {name: reopen_rows(stored[name]) for name in TABLES}, _MAKER)


def reopen_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Figures, ...]:
    """One table of a release as it was stored."""
    return tuple(_from_json(row) for row in rows)


def rounded(count: int) -> int:
    """To the nearest 5: within 2 of the truth."""
    return ROUNDING * ((count + 2) // ROUNDING)


def percent(part: int, whole: int) -> int | str | None:
    """Whole percent, its ends coded; None under a denominator of 30."""
    if whole < MIN_RATE_DENOMINATOR:
        return None
    value = (200 * part + whole) // (2 * whole)
    if value <= 5:
        return "<=5"
    return ">=95" if value >= 95 else value


# -- the hierarchy ------------------------------------------------------------------------------------

Grid = NDArray[np.int64]
Mask = NDArray[np.bool_]


class _Node(NamedTuple):
    table: Table
    place: tuple[str, int, int]
    """(grid or line, row, column)"""
    school: uuid.UUID | None
    grade: int | None
    sex: str | None
    counts: dict[str, int]


@dataclass(frozen=True)
class _Hierarchy:
    """The true counts: a grid of schools x grades whose last row and column are the margins, and a line of sexes."""

    schools: list[uuid.UUID]
    grades: list[int]
    sexes: list[str]
    grid: dict[str, Grid]
    line: dict[str, Grid]

    @classmethod
    def of(cls, summaries: list[Summary]) -> "_Hierarchy":
        schools = sorted({s.school for s in summaries})
        grades = sorted({s.grade for s in summaries})
        sexes = sorted({s.sex for s in summaries})
        at_school, at_grade, at_sex = (
            np.array([order[s[position]] for s in summaries], dtype=np.int64)
            for position, order in enumerate(
                {key: i for i, key in enumerate(keys)} for keys in (schools, grades, sexes)
            )
        )
        grid: dict[str, Grid] = {}
        line: dict[str, Grid] = {}
        for position, name in enumerate(_COUNTED, start=3):
            counts = np.array([s[position] for s in summaries], dtype=np.int64)
            inner = np.zeros((len(schools), len(grades)), dtype=np.int64)
            np.add.at(inner, (at_school, at_grade), counts)
            grid[name] = np.pad(inner, ((0, 1), (0, 1)))
            grid[name][:-1, -1] = inner.sum(axis=1)
            grid[name][-1, :] = grid[name][:-1, :].sum(axis=0)
            across = np.bincount(at_sex, weights=counts, minlength=len(sexes)).astype(np.int64)
            line[name] = np.append(across, across.sum())[None, :]
        for counted in (grid, line):
            counted["orange_or_red"] = counted["orange"] + counted["red"]
            asked_in_vain = counted["eligible"] - counted["consented"] - counted["declined"]
            counted["unanswered"] = np.maximum(asked_in_vain, 0)
        return cls(schools, grades, sexes, grid, line)

    def nodes(self) -> Iterator[_Node]:
        """Every node with a student in it; the district's is told once, from the grid."""
        rows = [*self.schools, None]
        columns = [*self.grades, None]
        stacked = np.stack(list(self.grid.values()), axis=-1).tolist()
        for i, school in enumerate(rows):
            for j, grade in enumerate(columns):
                counts = dict(zip(self.grid, stacked[i][j], strict=True))
                if counts["enrolled"] or (school is None and grade is None):
                    yield _Node(_table_of(school, grade), ("grid", i, j), school, grade, None, counts)
        for j, sex in enumerate(self.sexes):
            counts = {name: int(counted[0, j]) for name, counted in self.line.items()}
            if counts["enrolled"]:
                yield _Node("sex", ("line", 0, j), None, None, sex, counts)


def _table_of(school: uuid.UUID | None, grade: int | None) -> Table:
    if school is None:
        return "district" if grade is None else "grade"
    return "school" if grade is None else "school_grade"


# -- what is hidden together --------------------------------------------------------------------------


_ANYBODY = "anybody"
_COUNTLESS = 10**6


@dataclass(frozen=True)
class _Family:
    """Sensitive counts of which a node shows all or none."""

    name: str
    shown: tuple[str, ...]
    partings: tuple[tuple[str, ...], ...]
    """Readers the family is protected against: the categories into which each sees the students of a node fall.

    One who knows from the completion figures how many they are sees exchanges inside that number alone; one who
    looks at a single count sees no bound above it (`_ANYBODY`). Neither is protected against by the other's proof.
    """
    least: Mapping[str, int]
    """How many k a count has at least to be shown."""
    moves_with: str
    """The public count without whose change this family hardly changes."""


_TIERS = _Family(
    name="tiers",
    shown=("none", "yellow", "orange_or_red"),
    partings=(
        ("none", "yellow", "orange_or_red"),
        ("none", _ANYBODY),
        ("yellow", _ANYBODY),
        ("orange_or_red", _ANYBODY),
    ),
    # Shown together, orange and red bound each other: only 2k leaves each of them a range of 2k.
    least={"none": 1, "yellow": 1, "orange_or_red": 2},
    moves_with="submitted",
)
_DECLINES = _Family(
    name="declines",
    shown=("declined",),
    partings=(("declined", "unanswered"), ("declined", _ANYBODY)),
    least={"declined": 1},
    moves_with="consented",
)
_FAMILIES = (_TIERS, _DECLINES)
_SPLIT = _Family(name="split", shown=("orange", "red"), partings=(), least={}, moves_with="submitted")
"""Orange and red apart, for the whole district alone: below it reds are nearly everywhere too few."""

SHOWN, HELD, DARK = 0, 1, 2
"""A node shows its counts; or it stands as the previous release had it; or it shows nothing."""


@dataclass(frozen=True)
class _Protected:
    """One additive table and one reader of it: rows x columns, the last column the margin.

    The grid has a row of margins too; a line (the sexes) has one row and no second direction. `low` and `high` are
    what the reader knows of each count beforehand: from the size of the node and from the previous release.
    """

    k: int
    is_line: bool
    targets: tuple[str, ...]
    counts: Mapping[str, Grid]
    low: Mapping[str, Grid]
    high: Mapping[str, Grid]
    size: Grid
    hidden: Mask
    """Shared by all readers of the table: what is hidden for one is hidden for all."""


@dataclass(frozen=True)
class _Past:
    """What the previous release means for one table: where it showed the family, where that stands, what is known."""

    was_shown: Mask
    held: Mask
    low: Mapping[str, Grid]
    high: Mapping[str, Grid]


def _cover(hierarchy: _Hierarchy, family: _Family, k: int, earlier: "_Earlier") -> dict[str, Grid]:
    """Whether each node of the grid and of the line is shown, held or dark.

    Two readers in turn: one takes every count that stands for the truth of today, and must not tell the dark ones
    from it; one knows which counts may be out of date, and must tell neither those nor the dark ones.
    """
    places = {"grid": hierarchy.grid, "line": hierarchy.line}
    dark = {place: _hidden_alone(family, counts, k) for place, counts in places.items()}
    past = {place: _Past(*_blank(family, counts)) for place, counts in places.items()}
    if earlier.exists:
        for node in hierarchy.nodes():
            _remember(node, family, k, earlier, dark[node.place[0]], past[node.place[0]])
    count = -1
    while count < (count := sum(int(dark[place].sum() + past[place].held.sum()) for place in places)):
        _protect_all(family, places, past, k, dark)
        hidden = {place: dark[place] | past[place].held for place in places}
        if earlier.exists:
            _protect_all(family, places, past, k, hidden)
        if any(mask.all() for mask in hidden.values()):
            return {place: np.where(past[place].was_shown, HELD, DARK) for place in places}
        for place in places:
            past[place].held[:] = (past[place].held | hidden[place]) & past[place].was_shown & ~dark[place]
            dark[place] |= hidden[place] & ~past[place].was_shown
    return {place: np.where(dark[place], DARK, np.where(past[place].held, HELD, SHOWN)) for place in places}


def _blank(family: _Family, counts: Mapping[str, Grid]) -> tuple[Mask, Mask, dict[str, Grid], dict[str, Grid]]:
    shape = counts["enrolled"].shape
    low = {name: np.zeros(shape, dtype=np.int64) for name in family.shown}
    high = {name: np.full(shape, _COUNTLESS) for name in family.shown}
    return np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_), low, high


def _protect_all(
    family: _Family,
    places: Mapping[str, Mapping[str, Grid]],
    past: Mapping[str, _Past],
    k: int,
    hidden: Mapping[str, Mask],
) -> None:
    """Hides what is needed against every reader of every table; one who is served may undo what served another."""
    tables = [
        _read_by(parting, family, places[place], k, hidden[place], past[place])
        for place in places
        for parting in family.partings
    ]
    count = -1
    while count < (count := sum(int(mask.sum()) for mask in hidden.values())):
        for table in tables:
            _protect(table)


def _hidden_alone(family: _Family, counts: Mapping[str, Grid], k: int) -> Mask:
    """Primary suppression: what each node hides for its own sake, a count or its complement under k, zero included."""
    whole = counts["eligible"] if family is _DECLINES else np.sum([counts[name] for name in family.shown], axis=0)
    hidden = np.zeros(whole.shape, dtype=np.bool_)
    for name in family.shown:
        hidden |= (counts[name] < k * family.least[name]) | (whole - counts[name] < k)
    return hidden


def _read_by(
    parting: tuple[str, ...],
    family: _Family,
    counts: Mapping[str, Grid],
    k: int,
    hidden: Mask,
    past: _Past,
) -> _Protected:
    anybody = np.where(counts["eligible"] > 0, _COUNTLESS, 0)
    of = {name: counts[name] if name != _ANYBODY else anybody for name in parting}
    size: Grid = np.sum(list(of.values()), axis=0)
    low = {name: past.low.get(name, np.zeros_like(size)).copy() for name in parting}
    high = {name: np.minimum(past.high.get(name, size), size) for name in parting}
    for name in parting:
        # Grid and line end in the same total. So that what moves in one need not move in the other, it stays.
        low[name][-1, -1] = high[name][-1, -1] = of[name][-1, -1]
    targets = tuple(name for name in parting if name in family.shown)
    return _Protected(k, size.shape[0] == 1, targets, of, low, high, size, hidden)


# -- complementary suppression ------------------------------------------------------------------------


def _protect(table: _Protected) -> None:
    """Hides more until every hidden count can be moved as far as it is owed, or nothing is shown."""
    is_changed = True
    while is_changed and not table.hidden.all():
        before = table.hidden.copy()
        for target in table.targets:
            is_short, is_short_in_row = _shortfall(table, before, target)
            for i, j in np.argwhere(is_short & before).tolist():
                if is_short_in_row[i, j]:
                    _hide_in_row(table, before, i)
                else:
                    _hide_in_column(table, before, i, j, target)
        is_changed = bool((table.hidden != before).any())


def _shortfall(table: _Protected, hidden: Mask, target: str) -> tuple[Mask, Mask]:
    """Where a hidden target cannot be moved as far as it is owed, and where its row alone is to blame."""
    others = [c for c in table.counts if c != target]
    down = table.counts[target] - table.low[target]
    up = table.high[target] - table.counts[target]
    # Nor can the target go where the others, in what is known of them, leave it no room.
    down = np.minimum(down, sum(table.high[c] - table.counts[c] for c in others))
    up = np.minimum(up, sum(table.counts[c] - table.low[c] for c in others))
    owed = {
        True: np.minimum(up, np.maximum(table.k, 2 * table.k - down)),
        False: np.minimum(down, np.maximum(table.k, 2 * table.k - up)),
    }
    is_silent: Mask = np.all(hidden, axis=1, keepdims=True)
    is_short = np.zeros(hidden.shape, dtype=np.bool_)
    is_short_in_row = is_short.copy()
    for is_up, least in owed.items():
        reach = _reach(table, hidden, target, is_up=is_up, is_line=table.is_line)
        if (hidden & (reach < least)).any():
            in_row = _reach(table, hidden, target, is_up=is_up, is_line=True)
            # Of a row where nothing is new, nothing is told that was not known of it beforehand.
            told = np.where(is_silent, np.minimum(least, in_row), least)
            is_short |= reach < told
            is_short_in_row |= in_row < told
    return is_short, is_short_in_row


def _reach(table: _Protected, hidden: Mask, target: str, *, is_up: bool, is_line: bool) -> Grid:
    """How many exchanges, made at once, move the target up (or down) at each node while nothing shown changes.

    An exchange at (i, j) is made good at a partner (i, p) of the same row, and at (o, j) and (o, p) of any other
    row o. A margin counts against its line, so there the exchange goes the other way round. Every exchange takes
    one student at most from each of its four nodes: after `done` exchanges, a detour that had room for n has room
    for n - done at least. A lower bound, then; longer ways round are left aside.
    """
    rows, columns = hidden.shape
    reach = np.zeros_like(table.size)
    down = {c: np.where(hidden, table.counts[c] - table.low[c], 0) for c in table.counts}
    up = {c: np.where(hidden, table.high[c] - table.counts[c], 0) for c in table.counts}
    pairs = [(target, c) if is_up else (c, target) for c in table.counts if c != target]

    def room(pair: tuple[str, str], at: int, spent: Mapping[tuple[int, str], Grid]) -> Grid:
        """Students of a column's nodes that can still pass from the pair's second category to its first."""
        win, lose = pair
        return np.minimum(down[lose][:, at] - spent[at, lose], up[win][:, at] - spent[at, win])

    nothing = {(at, c): np.zeros(rows, dtype=np.int64) for at in range(columns) for c in table.counts}
    for j in range(columns):
        done = np.zeros(rows, dtype=np.int64)
        spent = {key: zeros.copy() for key, zeros in nothing.items()}
        for p in [p for p in range(columns) if p != j]:
            is_mixed = columns - 1 in (j, p)
            for pair in pairs:
                opposite = pair[::-1]
                at_partner, at_fourth = (pair, opposite) if is_mixed else (opposite, pair)
                step = np.minimum(room(pair, j, spent), room(at_partner, p, spent))
                if not is_line:
                    with_grain = np.minimum(room(opposite, j, nothing), room(at_fourth, p, nothing))
                    against = np.minimum(room(pair, j, nothing), room(at_partner, p, nothing))
                    step = np.minimum(step, _detour(with_grain, against) - done)
                step = np.maximum(step, 0)
                done += step
                for at in (j, p):
                    for category in pair:
                        spent[at, category] += step
        reach[:, j] = done
    return reach


def _detour(with_grain: Grid, against: Grid) -> Grid:
    """For each row what all other rows can make good together; a row of margins stands against the others."""
    detour: Grid = with_grain.sum() - with_grain[-1] - with_grain + against[-1]
    detour[-1] = against[:-1].sum()
    return detour


def _hide_in_row(table: _Protected, before: Mask, i: int) -> None:
    """Hides the fullest node of the row that is still shown; else the row's margin."""
    if (table.hidden[i] != before[i]).any():
        return  # a node of this row has just been hidden: look again first
    inner = np.flatnonzero(~before[i, :-1] & (table.size[i, :-1] > 0))
    has_total = table.is_line or i == before.shape[0] - 1
    if inner.size:
        table.hidden[i, inner[np.argmax(table.size[i, inner])]] = True
    elif not before[i, -1] and not has_total:
        table.hidden[i, -1] = True
    else:
        table.hidden[:] = True


def _hide_in_column(table: _Protected, before: Mask, i: int, j: int, target: str) -> None:
    """Hides the node's column and a partner's in one row more: the smallest school that is large enough alone."""
    if (table.hidden[:, j] != before[:, j]).any():
        return
    last = table.size.shape[0] - 1, table.size.shape[1] - 1
    capacity = np.minimum(table.counts[target], table.size - table.counts[target])
    partners = np.flatnonzero(before[i])
    for p in partners[np.argsort(-table.size[i, partners], kind="stable")]:
        both = np.minimum(capacity[:, j], capacity[:, p])
        both[before[:, j] & before[:, p]] = 0
        both[i] = 0
        if last[1] in (j, p):
            both[last[0]] = 0  # the district's total is no detour
        ample = np.flatnonzero(both[:-1] >= 2 * table.k)
        if p != j and both.any():
            other = ample[np.argmin(table.size[ample, -1])] if ample.size else np.argmax(both)
            table.hidden[other, [j, p]] = True
            return
    table.hidden[:] = True


def _split_is_safe(hierarchy: _Hierarchy, cover: Mapping[str, Grid], k: int) -> bool:
    """Whether the district's orange and red can stand apart: each node could have had k more and k fewer of each.

    The two totals are all that is shown of them, so inside what is known of orange and red together, an orange of
    the node may change places with any red outside it.
    """
    for place, counts in (("grid", hierarchy.grid), ("line", hierarchy.line)):
        orange, red = counts["orange"], counts["red"]
        if min(orange[-1, -1], red[-1, -1]) < 2 * k:
            return False
        size = np.sum([counts[name] for name in _TIERS.shown], axis=0)
        known = np.where(cover[place] == SHOWN, counts["orange_or_red"], size)
        for one, other in ((orange, red), (red, orange)):
            up, down = known - one, one
            is_safe = one[-1, -1] - one >= np.minimum(up, np.maximum(k, 2 * k - down))
            is_safe &= other[-1, -1] - other >= np.minimum(down, np.maximum(k, 2 * k - up))
            is_safe[-1, -1] = True
            if not is_safe.all():
                return False
    return True


# -- the previous release -----------------------------------------------------------------------------


class _Earlier:
    """What the previous release of the round showed, by node."""

    def __init__(self, previous: Release | None) -> None:
        self.exists = previous is not None
        tables = previous.tables if previous else {}
        self._figures = {(table, figures.key): figures for table, rows in tables.items() for figures in rows}

    def at(self, node: _Node) -> Figures | None:
        return self._figures.get((node.table, (node.school, node.grade, node.sex)))

    def shown(self, node: _Node, names: Sequence[str]) -> dict[str, int]:
        """These counts as they stood; empty unless all of them did."""
        then = self.at(node)
        counts = {name: then.counts[name] for name in names} if then else {}
        shown = {name: count for name, count in counts.items() if count is not None}
        return shown if len(shown) == len(names) else {}


def _remember(node: _Node, family: _Family, k: int, earlier: _Earlier, dark: Mask, past: _Past) -> None:
    """Holds a node against the previous release: whether it may be shown, and what a reader knows of its counts."""
    at = node.place[1:]
    then = earlier.shown(node, family.shown)
    moved = abs(node.counts[family.moves_with] - earlier.shown(node, [family.moves_with]).get(family.moves_with, 0))
    if not then:
        is_new = moved >= 2 * k + 2 and all(node.counts[name] >= 2 * k for name in family.shown)
        dark[at] |= not is_new
        return
    past.was_shown[at] = True
    # One that looks as it stood cannot be told from one that is held, so it may be taken for either.
    is_same = all(rounded(node.counts[name]) == count for name, count in then.items())
    past.held[at] = bool(dark[at]) or is_same or not _may_replace(node, then, k)
    dark[at] = False
    # Within this distance of what stands the reader knows each count beforehand, so no further may it be moved.
    changes = [abs(node.counts[name] - count) for name, count in then.items()]
    drift = k + 1 if max(changes) <= k + 1 else max(k + 1, moved + 4)
    for name, count in then.items():
        past.low[name][at] = min(max(count - drift, 0), node.counts[name])
        past.high[name][at] = max(count + drift, node.counts[name])


def _may_replace(node: _Node, then: Mapping[str, int], k: int) -> bool:
    """Whether every count looks as it stood, or changed by k whatever the rounding hid."""
    return all(
        rounded(node.counts[name]) == count or abs(node.counts[name] - count) >= k + 2 for name, count in then.items()
    )


# -- what is shown ------------------------------------------------------------------------------------


def _figures(node: _Node, states: Mapping[str, int], k: int, earlier: _Earlier) -> Figures:
    """The node as it is, or where a family is held as the previous release had it."""
    then = earlier.at(node)
    counts: dict[str, int | None] = dict.fromkeys((*COMPLETION, *SENSITIVE))
    if node.counts["eligible"] >= k:
        for name in COMPLETION:
            counts[name] = _completion(node.counts[name], then.counts[name] if then else None, k)
    standing: dict[str, int | str | None] = {}
    for family in (*_FAMILIES, _SPLIT):
        past = earlier.shown(node, family.shown)
        if states[family.name] == SHOWN and _may_replace(node, past, k):
            counts |= {name: rounded(node.counts[name]) for name in family.shown}
        elif states[family.name] != DARK and then is not None:
            counts |= past
            standing |= {name: then.rates[name] for name in past}
    return Figures(node.school, node.grade, node.sex, counts, _rates(node, counts, then) | standing)


def _completion(count: int, past: int | None, k: int) -> int:
    """Shown as it stood unless it changed by k, whatever the rounding hid."""
    return past if past is not None and abs(count - past) < k + 2 else rounded(count)


def _rates(node: _Node, counts: Mapping[str, int | None], then: Figures | None) -> dict[str, int | str | None]:
    """Sensitive rates are made of the shown counts, so that they tell no more than those.

    Completion rates are made of the true counts, and stand as they stood while both of their counts do.
    """
    rates: dict[str, int | str | None] = {}
    for name, (part, whole) in RATES.items():
        shown_part, shown_whole = counts[part], counts[whole]
        if shown_part is None or shown_whole is None:
            rates[name] = None
        elif part in SENSITIVE:
            rates[name] = percent(shown_part, shown_whole)
        elif then is not None and (then.counts[part], then.counts[whole]) == (shown_part, shown_whole):
            rates[name] = then.rates[name]
        else:
            rates[name] = percent(node.counts[part], node.counts[whole])
    return rates


# -- as stored ----------------------------------------------------------------------------------------


def _as_json(figures: Figures) -> dict[str, Any]:
    return {
        "school": str(figures.school) if figures.school else None,
        "grade": figures.grade,
        "sex": figures.sex,
        "counts": dict(figures.counts),
        "rates": dict(figures.rates),
        "suppressed": bool(figures.suppressed),
    }


def _from_json(row: Mapping[str, Any]) -> Figures:
    school = uuid.UUID(row["school"]) if row["school"] else None
    return Figures(school, row["grade"], row["sex"], row["counts"], row["rates"])
