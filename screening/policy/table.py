"""One TOML table of a policy being read: every problem with its place."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from screening.policy.parts import LOCALES, Span

IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SPAN = re.compile(r"(\d{1,4}) ?(min|h|day|school day)s?")
_REQUIRED: Any = object()
_Read = TypeVar("_Read")


class Table:
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
        if value != "?" and not IDENTIFIER.fullmatch(value):
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
            one = Table({key: value}, self.place, [])
            found.append(one.span(key))
            self.problems.extend(problem.replace(f"{key}:", f"{key}[{index}]:", 1) for problem in one.problems)
        return tuple(found)

    def table(self, key: str, default: Any = _REQUIRED) -> "Table":
        place = f"{self.place}.{key}" if self.place else key
        return Table(self.take(key, dict, "a table", {}, default), place, self.problems)

    def tables(self, key: str, default: Any = _REQUIRED) -> list["Table"]:
        rows = self.take(key, list, "a list of tables", [], default)
        place = f"{self.place}.{key}" if self.place else key
        found = []
        for index, row in enumerate(rows):
            if isinstance(row, dict):
                found.append(Table(row, f"{place}[{index}]", self.problems))
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
