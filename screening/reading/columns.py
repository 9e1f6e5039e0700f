"""Which column of a file is what: by the column map first, then by names that are understood by themselves."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from screening.errors import Problem

_SEPARATORS = re.compile(r"[\s._\-]+")
_LONGEST_NAME = 80
_MOST_NAMED = 200
Target = TypeVar("Target")


@dataclass(frozen=True)
class Layout(Generic[Target]):
    """Where each target stands in a file (`places`), and what was wrong with its header.

    `twice`: targets with two columns, which are therefore in no place. `map_problems`: entries of the column map that
    fit neither the file nor the plan.
    """

    names: tuple[str, ...]
    places: Mapping[Target, int]
    twice: Mapping[Target, Problem]
    map_problems: Sequence[Problem]
    ignored: tuple[str, ...]
    notices: Sequence[Problem] = field(default_factory=list)


def key(name: str) -> str:
    """What a column name comes to when case, width, blanks and separators do not count: "PHQ9-1 " -> "phq9_1"."""
    return _SEPARATORS.sub("_", unicodedata.normalize("NFKC", name).strip().casefold()).strip("_")


def item_key(name: str) -> str | None:
    """A key for names that end in a number, however they are cut: phq9_1, PHQ-9.1 and "phq9 01" are the same."""
    *words, number = key(name).split("_")
    if not words or not number.isascii() or not number.isdigit():
        return None
    return f"{''.join(words)}|{int(number)}"


def lay_out(
    header: Sequence[str], column_map: Mapping[str, str], understand: Callable[[str], Target | None]
) -> Layout[Target]:
    """Reads a header. `understand` says which target a name means, None for no target of this plan."""
    names = tuple(shown(cell) for cell in header)
    mapped, map_problems = _mapped(names, column_map, understand)
    decided = {target for target in mapped.values() if target is not None}
    found: dict[Target, list[int]] = {}
    for place, name in enumerate(names):
        target = mapped[place] if place in mapped else understand(name) if name else None
        # What the map says of a target is the last word: a column that merely has its name is left alone.
        if target is not None and (place in mapped or target not in decided):
            found.setdefault(target, []).append(place)
    used = {place for places in found.values() for place in places}
    ignored = [name for place, name in enumerate(names) if name and place not in used]
    return Layout(
        names=names,
        places={target: places[0] for target, places in found.items() if len(places) == 1},
        twice={t: _twice([names[place] for place in places]) for t, places in found.items() if len(places) > 1},
        map_problems=map_problems,
        ignored=tuple(ignored[:_MOST_NAMED]),
        notices=_left_out(ignored, sum(not name for name in names)),
    )


def shown(cell: str) -> str:
    """A column name as problems name it."""
    return " ".join(cell.split())[:_LONGEST_NAME]


def _mapped(
    names: Sequence[str], column_map: Mapping[str, str], understand: Callable[[str], Target | None]
) -> tuple[dict[int, Target | None], list[Problem]]:
    mapped: dict[int, Target | None] = {}
    problems: list[Problem] = []
    for source, target_name in column_map.items():
        places = [i for i, name in enumerate(names) if name == source.strip()]
        places = places or [i for i, name in enumerate(names) if name and key(name) == key(source)]
        target = understand(target_name)
        if not places:
            words = f"The column map names a column {shown(source)!r}, and the file has none."
            problems.append(Problem("mapped_column_missing", words, column=shown(source)))
        if target is None:
            words = f"The column map sends {shown(source)!r} to {shown(target_name)!r}, which is nothing in this round."
            problems.append(Problem("unknown_map_target", words, column=shown(source)))
        mapped |= dict.fromkeys(places, target)
    return mapped, problems


def _twice(names: Sequence[str]) -> Problem:
    listed = " and ".join(repr(name) for name in names[:3])
    words = f"The columns {listed} mean the same; keep one of them, or say by the column map which one it is."
    return Problem("two_columns_for_one", words, column=names[1])


def _left_out(ignored: Sequence[str], n_unnamed: int) -> list[Problem]:
    notices = []
    if ignored:
        more = f" and {len(ignored) - 20} more" if len(ignored) > 20 else ""
        words = f"{len(ignored)} columns were not needed: {', '.join(ignored[:20])}{more}."
        notices.append(Problem("ignored_columns", words))
    if n_unnamed:
        notices.append(Problem("unnamed_columns", f"{n_unnamed} columns have no name and were not read."))
    return notices
