"""The answers of one response as they stand: walked through its JSON, or cut out of its line.

Most of a file's time is JSON. But most questions of a file say the same, word for word, as in a line before; a line is
therefore cut at them, each different piece is parsed once, and only what is around them is parsed every time. A line
of which it is not sure that this says the same is parsed as a whole.
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
    if len(answer) == 1 and "valueCoding" in answer:
        coding = answer["valueCoding"]
        if "extension" not in coding:  # nearly all are so; the rest of this function would say the same
            return link_id, "valueCoding", coding.get("code"), coding.get("system"), coding.get("display"), None
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
        self._known: dict[bytes, tuple[list[Raw], bytes] | None] = {}

    def cut(self, line: bytes) -> tuple[dict[str, Any], list[Raw]] | None:
        """The response without the questions cut out of it, and all its answers; None where it must be parsed whole.

        Only whole lists of questions are cut out: each begins right behind an `"item": [` and ends before its `]`.
        """
        head, *pieces = line.split(_CUT)
        kept, found, is_within = [head], [], False
        for piece in pieces:
            known = self._known[piece] if piece in self._known else self._learn(piece)
            if known is None and not is_within:
                kept.append(_CUT + piece)  # a group, which holds its own list
                continue
            if known is None or not (is_within or _OPENED.search(kept[-1])):
                return None
            found += known[0]
            is_within = known[1] == b","
            if not is_within:
                kept.append(known[1])
        text = b"".join(kept)
        around = None if is_within or not found else _parsed(text)
        if around is None or around.get("resourceType") != "QuestionnaireResponse":
            return None
        try:
            # Every list called item is one of the response's own, so those that were cut out are.
            is_sure = _lists(around) == text.count(b'"item"')
            return (around, found + walk(around["item"])) if is_sure else None
        except MISSHAPEN:
            return None

    def _learn(self, piece: bytes) -> tuple[list[Raw], bytes] | None:
        """What a piece says if it is a whole question, with what follows it: the next one (","), or its list's end."""
        known = _question(piece)
        if known is not None:
            end = known[1].strip()
            known = (known[0], end) if end == b"," or end.startswith(b"]") else None
        if len(self._known) < _MOST_PIECES:
            self._known[piece] = known
        return known


def _lists(response: dict[str, Any]) -> int:
    """How many lists of questions a response has, at whatever depth."""
    count, waiting = 0, [response]
    while waiting:
        each = waiting.pop()
        if "item" in each:
            count += 1
            waiting += each["item"]
        waiting += each.get("answer", ())
    return count


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
