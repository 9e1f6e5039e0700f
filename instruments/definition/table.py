"""One TOML table being read: every wrong word is noted with its place, none stops the reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from instruments.definition.parts import Fact, Problem

IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

_REQUIRED: Any = object()


class Table:
    """One TOML table being read: wrong things are noted and a harmless value stands in, so that reading goes on."""

    def __init__(self, content: Mapping[str, Any], place: str, problems: list[Problem]) -> None:
        self._left = dict(content)
        self.place = place
        self.problems = problems

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def note(self, key: str, message: str) -> None:
        self.problems.append(Problem(self.at(key), message))

    def names(self) -> tuple[str, ...]:
        """The keys not read yet."""
        return tuple(self._left)

    def rest(self) -> dict[str, Any]:
        """Everything not read yet, as it stands."""
        taken, self._left = self._left, {}
        return taken

    def take(self, key: str, kinds: type | tuple[type, ...], what: str, default: Any, stand_in: Any) -> Any:
        if key not in self._left:
            if default is _REQUIRED:
                self.note(key, "is missing")
                return stand_in
            return default
        value = self._left.pop(key)
        allowed = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            self.note(key, f"must be {what}, not {value!r}")
            return stand_in
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> Any:
        value = self.take(key, str, "text", default, "?")
        if isinstance(value, str) and not value.strip():
            self.note(key, "is empty")
        return value

    def identifier(self, key: str, default: Any = _REQUIRED) -> str:
        value = str(self.text(key, default))
        if value != "?" and not IDENTIFIER.fullmatch(value):
            self.note(key, f"{value!r} must be small letters, digits and single underscores")
        return value

    def whole(self, key: str, default: Any = _REQUIRED) -> Any:
        return self.take(key, int, "a whole number", default, 0)

    def number(self, key: str, default: Any = _REQUIRED) -> Any:
        return self.take(key, (int, float), "a number", default, 0)

    def yes(self, key: str, default: Any = _REQUIRED) -> bool:
        return bool(self.take(key, bool, "true or false", default, False))

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _REQUIRED) -> Any:
        value = self.take(key, str, "text", default, allowed[0])
        if value is not None and value not in allowed:
            self.note(key, f"must be one of {', '.join(allowed)}, not {value!r}")
            return allowed[0]
        return value

    def texts(self, key: str, default: Any = _REQUIRED, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = self.take(key, list, "a list", default, [])
        for index, value in enumerate(values):
            if not isinstance(value, str):
                self.note(f"{key}[{index}]", f"must be text, not {value!r}")
            elif allowed and value not in allowed:
                self.note(f"{key}[{index}]", f"must be one of {', '.join(allowed)}, not {value!r}")
        if len(set(map(str, values))) < len(values):
            self.note(key, "names something twice")
        return tuple(map(str, values))

    def languages(self, key: str, default: Any = _REQUIRED) -> dict[str, str]:
        table = self.take(key, dict, "a table of texts by language", default, {})
        for language, value in table.items():
            if not isinstance(value, str) or not value.strip():
                self.note(f"{key}.{language}", "must be text")
        return {str(k): str(v) for k, v in table.items()}

    def whole_map(self, key: str) -> dict[int, int]:
        table = self.take(key, dict, "a table of whole numbers", {}, {})
        found: dict[int, int] = {}
        for name, value in table.items():
            if not re.fullmatch(r"-?\d+", name) or not isinstance(value, int) or isinstance(value, bool):
                self.note(f"{key}.{name}", "must give a whole number for a whole number")
            else:
                found[int(name)] = value
        return found

    def table(self, key: str, default: Any = _REQUIRED) -> Table | None:
        value = self.take(key, dict, "a table", default, {})
        return None if value is None else Table(value, self.at(key), self.problems)

    def tables(self, key: str) -> list[Table]:
        rows = self.take(key, list, "a list of tables", [], [])
        good = []
        for index, row in enumerate(rows):
            if isinstance(row, dict):
                good.append(Table(row, self.at(f"{key}[{index}]"), self.problems))
            else:
                self.note(f"{key}[{index}]", f"must be a table, not {row!r}")
        return good

    def named(self, key: str) -> dict[str, Table]:
        table = self.take(key, dict, "a table of tables", {}, {})
        good = {}
        for name, row in table.items():
            if isinstance(row, dict):
                good[name] = Table(row, self.at(f"{key}.{name}"), self.problems)
            else:
                self.note(f"{key}.{name}", f"must be a table, not {row!r}")
        return good

    def fact(self) -> Fact:
        """Takes `source` with either `seen` or `confirm = true`; a fact without one of the two is a problem."""
        source = str(self.text("source"))
        is_open = self.yes("confirm", False)
        seen = self.choice("seen", ("source", "ours"), None)
        if is_open == bool(seen):
            self.note("seen", 'say seen = "source" or seen = "ours", or else confirm = true')
        return Fact(source, "" if is_open else seen or "source")

    def finish(self) -> None:
        for key in self._left:
            self.note(key, "is not a word of this format")
