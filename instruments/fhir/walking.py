"""The answers of one response as they stand: walked through its JSON, or cut out of its line.

Most of a file's time is JSON. But most questions of a file say the same, word for word, as in the line before; a
line whose questions are a flat list is therefore cut at them, each different piece is parsed once, and only what
surrounds the list is parsed every time. A line that is not surely such a list is walked.
"""

from __future__ import annotations

import json
import re
from typing import Any

from instruments.fhir.linking import ordinal_of

Raw = tuple[str, str, str | None, str | None, str | None, str | None]
"""The fields of a `linking.Answer`, not yet looked at."""

MISSHAPEN = (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)
"""What walking raises where JSON is not built as FHIR says."""

_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_CUT = b'{"linkId"'
_OPENED = re.compile(rb'"item"\s*:\s*\[\s*$')
_MOST_PIECES = 50_000
_decode = json.JSONDecoder().raw_decode


def walk(items: list[Any]) -> list[Raw]:
    """Every answer, at whatever depth. Raises one of `MISSHAPEN`."""
    found: list[Raw] = []
    waiting = [items]
    while waiting:
        for item in waiting.pop():
            answers = item.get("answer")
            if answers:
                link_id = item["linkId"]
                if type(link_id) is not str:
                    raise TypeError("linkId")
                if len(answers) > 1:
                    found.append((link_id, "several", None, None, None, None))
                elif (raw := _value(link_id, answers[0])) is not None:
                    found.append(raw)
                waiting += [answer["item"] for answer in answers if "item" in answer]
            if "item" in item:
                waiting.append(item["item"])
    return found


def _value(link_id: str, answer: dict[str, Any]) -> Raw | None:
    kinds = [name for name in answer if name.startswith("value")]
    if not kinds:
        is_absent = any(each.get("url") == _ABSENT for each in answer.get("extension", ()))
        return None if is_absent else (link_id, "none", None, None, None, None)
    if len(kinds) > 1:
        return link_id, "several", None, None, None, None
    value = answer[kinds[0]]
    if kinds[0] != "valueCoding":
        return link_id, kinds[0], repr(value), None, None, None
    ordinal = ordinal_of(answer, value)
    return link_id, "valueCoding", value.get("code"), value.get("system"), value.get("display"), ordinal


class Pieces:
    """Lines cut at their questions; see above."""

    def __init__(self) -> None:
        self._inner: dict[bytes, list[Raw] | None] = {}
        self._last: dict[bytes, tuple[list[Raw], bytes] | None] = {}

    def cut(self, line: bytes) -> tuple[dict[str, Any], list[Raw]] | None:
        """The response without its questions, and its answers; None for a line that must be parsed as a whole."""
        head, *pieces = line.split(_CUT)
        if not pieces or head.count(b'"item"') != 1 or not _OPENED.search(head):
            return None
        found: list[Raw] = []
        for piece in pieces[:-1]:
            answers = self._inner[piece] if piece in self._inner else self._learn_inner(piece)
            if answers is None:
                return None
            found += answers
        end = self._last[pieces[-1]] if pieces[-1] in self._last else self._learn_last(pieces[-1])
        if end is None:
            return None
        around = _parsed(head + end[1])
        # With its questions cut out, the response's own list is an empty one; any other place was cut wrongly.
        if around is None or around.get("item") != [] or around.get("resourceType") != "QuestionnaireResponse":
            return None
        return around, found + end[0]

    def _learn_inner(self, piece: bytes) -> list[Raw] | None:
        known = _question(piece)
        answers = known[0] if known and known[1].strip() == b"," else None
        if len(self._inner) < _MOST_PIECES:
            self._inner[piece] = answers
        return answers

    def _learn_last(self, piece: bytes) -> tuple[list[Raw], bytes] | None:
        known = _question(piece)
        end = known if known and b'"item"' not in known[1] else None
        if len(self._last) < _MOST_PIECES:
            self._last[piece] = end
        return end


def _question(piece: bytes) -> tuple[list[Raw], bytes] | None:
    """A question's answers and what follows it; None when the piece does not begin with a whole question."""
    try:
        text = (_CUT + piece).decode()
        question, end = _decode(text)
        return walk([question]), text[end:].encode()
    except MISSHAPEN:
        return None


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        plain = text.decode().strip()
        found, end = _decode(plain)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and end == len(plain) else None
