"""Where in a definition's text a problem stands: its line, found by the headings and keys of the file as written."""

from __future__ import annotations

import re

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_HEADING = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*\"?([A-Za-z0-9_-]+)\"?\s*[=.]")


def line_of(body: str, place: str) -> int | None:
    """The line, from 1, of a place such as `scales.total.items[2]` or `items[3].number`; None where it is not there.

    It is the line of the longest part of the place that is written in the file: of the key, or else of its table.
    """
    steps = [name or int(number) for name, number in _STEP.findall(place)]
    at: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    for number, line in enumerate(body.splitlines(), start=1):
        if heading := _HEADING.match(line):
            table = _table(heading[2], heading[1] == "[[", counts)
            at.setdefault(table, number)
        elif key := _KEY.match(line):
            at.setdefault((*table, key[1]), number)
    for length in range(len(steps), 0, -1):
        if (found := at.get(tuple(steps[:length]))) is not None:
            return found
    return None


def _table(name: str, is_list: bool, counts: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """The path of a heading; a list's table gets its place, and what stands below belongs to the last one."""
    path: tuple[str | int, ...] = ()
    words = [word.strip().strip('"') for word in name.split(".")]
    for position, word in enumerate(words):
        path = (*path, word)
        if is_list and position == len(words) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
