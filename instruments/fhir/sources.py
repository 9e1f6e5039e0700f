"""A file's bytes -> its resources with their places: one resource, a Bundle's entries, or the lines of NDJSON."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from instruments.fhir.linking import Fault
from instruments.fhir.walking import Pieces, Raw

_QUESTIONNAIRE = re.compile(rb'"resourceType"\s*:\s*"Questionnaire"')
Resource = dict[str, Any]


class NotFhir(ValueError):
    """It is no FHIR JSON at all; `code` is a word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Source:
    """A file that could be opened. `whole`: its one JSON value, None for NDJSON, whose lines are read one by one."""

    kind: Literal["single", "bundle", "ndjson"]
    content: bytes
    whole: Resource | None

    def questionnaires(self) -> Iterator[Resource]:
        """The Questionnaires in it; those contained in responses not."""
        found = (resource for _, resource in _entries(self.whole)) if self.whole else self._matching(_QUESTIONNAIRE)
        for resource in found:
            if isinstance(resource, dict) and resource.get("resourceType") == "Questionnaire":
                yield resource

    def responses(self) -> Iterator[tuple[int, Resource | Fault, list[Raw] | None]]:
        """(line or entry from 1, resource or what is wrong there, its answers if they were cut out), in order."""
        if self.whole is not None:
            yield from ((number, resource, None) for number, resource in _entries(self.whole))
            return
        pieces = Pieces()
        for number, line in enumerate(io.BytesIO(self.content), start=1):
            if (cut := pieces.cut(line)) is not None:
                yield number, *cut
            elif line.strip():
                yield from ((number, resource, None) for _, resource in _resources(line))

    def _matching(self, pattern: re.Pattern[bytes]) -> Iterator[Resource | Fault]:
        if pattern.search(self.content):
            for line in filter(pattern.search, io.BytesIO(self.content)):
                yield from (resource for _, resource in _resources(line))


def is_fhir(data: bytes) -> bool:
    """Whether this looks like FHIR in JSON, told by its content."""
    start = data[:1000].removeprefix(codecs.BOM_UTF8).lstrip()
    return start[:1] == b"{" and b'"resourceType"' in data


def open_source(data: bytes) -> Source:
    """Opens FHIR JSON in UTF-8. Raises `NotFhir`."""
    content = data.removeprefix(codecs.BOM_UTF8)
    first, rest = _first_line(content)
    found = _parsed(first)
    if rest and not isinstance(found, Fault):
        return Source("ndjson", content, None)
    if rest and isinstance(found, Fault):
        found = _parsed(content)
        if isinstance(found, Fault) and _has_resource(content):
            return Source("ndjson", content, None)
    if isinstance(found, Fault):
        raise NotFhir(found.code, f"This cannot be read as FHIR in JSON: {found.message}")
    if "resourceType" not in found:
        raise NotFhir("not_fhir", "This is JSON, but no FHIR resource: it has no resourceType.")
    return Source("bundle" if found["resourceType"] == "Bundle" else "single", b"", found)


def _first_line(content: bytes) -> tuple[bytes, bool]:
    """The first line that is not blank, and whether there is another."""
    lines = (line for line in io.BytesIO(content) if line.strip())
    return next(lines, b""), next(lines, None) is not None


def _has_resource(content: bytes) -> bool:
    """Whether a line of it is a resource by itself."""
    return any(
        isinstance(_parsed(line), dict) for line in io.BytesIO(content) if b'"resourceType"' in line and b"{" in line
    )


def _parsed(text: bytes) -> Resource | Fault:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        return Fault("not_json", f"{error.msg}, line {error.lineno} column {error.colno}.")
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, brackets without end
        return Fault("not_json", "This cannot be read as JSON in UTF-8.")
    return found if isinstance(found, dict) else Fault("not_fhir", "This is no FHIR resource.")


def _resources(line: bytes) -> Iterator[tuple[int, Resource | Fault]]:
    found = _parsed(line)
    return _entries(found) if isinstance(found, dict) else iter([(1, found)])


def _entries(whole: Resource) -> Iterator[tuple[int, Resource | Fault]]:
    if whole.get("resourceType") != "Bundle":
        yield 1, whole
        return
    entries = whole.get("entry", [])
    if not isinstance(entries, list):
        yield 1, Fault("not_fhir", "The Bundle's entries are no list.")
        return
    for number, entry in enumerate(entries, start=1):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        yield number, resource if isinstance(resource, dict) else Fault("not_fhir", "This entry has no resource.")
