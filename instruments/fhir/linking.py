"""What a linkId and an answer mean for one instrument, alone or through a Questionnaire made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from instruments.definition import Instrument, Item
from instruments.fhir.naming import LOINC, ORDINALS, is_local

_WHOLE = re.compile(r"(-?\d{1,6})(\.0*)?")
_QUOTABLE = re.compile(r"(?!.*\d{6})[A-Za-z0-9._\-]{1,20}")


class Answer(NamedTuple):
    """One answer as it stands in a response: text alone, so that 1, 1.0 and true are never taken for one another.

    `kind` is the name of its value ("valueCoding", "valueInteger" ..), "several" for more than one answer to one
    question, or "none" for an answer without a value. `ordinal`: the number that an extension gives it.
    """

    link_id: str
    kind: str
    value: str | None
    system: str | None
    display: str | None
    ordinal: str | None


class Fault(NamedTuple):
    """Why an answer is not understood."""

    code: str
    message: str


Meaning = tuple[str, int] | Fault | None
"""(item id, stored code), what is wrong, or None for an answer that is none of the instrument's (a total, say)."""


@dataclass(frozen=True)
class Link:
    """How the questions of a Questionnaire map to an instrument.

    `items`: linkId -> our item. `codings`: (linkId, system, code) -> our stored code, as far as the Questionnaire
    itself says it by LOINC codes or ordinal values. `others`: its linkIds that are none of ours. `missing`: ids of
    scored items that the Questionnaire does not ask.
    """

    instrument: Instrument
    items: Mapping[str, Item]
    codings: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    read_only: frozenset[str] = frozenset()

    @property
    def missing(self) -> tuple[str, ...]:
        asked = {item.id for item in self.items.values()}
        return tuple(item.id for item in self.instrument.scored_items if item.id not in asked)

    def item(self, link_id: str) -> Item | None:
        """The item that a linkId stands for: as the Questionnaire says, our own id, or a LOINC code ("/44250-9")."""
        if link_id in self.others or link_id in self.items:
            return self.items.get(link_id)
        return _by_name(self.instrument).get(link_id.rpartition("/")[2])

    def meaning(self, answer: Answer) -> Meaning:
        """What an answer says."""
        item = self.item(answer.link_id)
        if item is None:
            return self._elsewhere(answer)
        if not all(part is None or isinstance(part, str) for part in answer):
            return Fault("unknown_code", f"The code of the answer to {item.id} is no text.")
        if answer.kind == "valueCoding":
            return self._coding(item, answer)
        code = _number(answer, item)
        return code if isinstance(code, Fault) else (item.id, code)

    def _elsewhere(self, answer: Answer) -> Fault | None:
        name = answer.link_id.rpartition("/")[2]
        scales = {scale.loinc for scale in self.instrument.scales} - {None}
        if name in scales or answer.link_id in self.read_only:
            return None
        if answer.link_id not in self.others:
            return Fault("unknown_link_id", f"No question of {self.instrument.code} is called so.")
        # A question left without its code could be one of those that are missing: nothing may be lost unnamed.
        if not self.missing:
            return None
        words = f"The Questionnaire does not say which item this is, and has none for {', '.join(self.missing)}."
        return Fault("unmapped_link_id", words)

    def _coding(self, item: Item, answer: Answer) -> tuple[str, int] | Fault:
        by_ordinal = _by_ordinal(item, answer.ordinal)
        code = self._code(item, answer, by_ordinal)
        if code is None:
            quoted = answer.value if answer.value and _QUOTABLE.fullmatch(answer.value) else "This code"
            return Fault("unknown_code", f"{quoted} is no answer to {item.id}; known are {_known(item)}.")
        if answer.system != LOINC and not self._is_ours(answer.system):
            by_ordinal = None  # it has already decided, or the Questionnaire has
        by_words = _by_words(item, answer.display)
        if any(other is not None and other != code for other in (by_ordinal, by_words)):
            return Fault("codes_disagree", f"The answer's code, its words and its ordinal value differ ({item.id}).")
        return item.id, code

    def _code(self, item: Item, answer: Answer, by_ordinal: int | None) -> int | None:
        system, value = answer.system or "", answer.value or ""
        if system == LOINC:
            by_loinc = {option.loinc: option.code for option in item.options if option.loinc}
            if value in by_loinc:
                return by_loinc[value]
        elif system and self._is_ours(system):
            return _known_code(item, value)
        if (said := self.codings.get((answer.link_id, system, value))) is not None:
            return said
        if by_ordinal is not None:
            return by_ordinal
        return None if system == LOINC else _known_code(item, value)

    def _is_ours(self, system: str | None) -> bool:
        return system is not None and is_local(system, self.instrument)


def link(questionnaire: Mapping[str, Any], instrument: Instrument) -> Link:
    """Maps a Questionnaire (JSON values, STU3 to R5) to an instrument by LOINC codes and our own ids.

    A question is found by its LOINC code, or by a linkId that is our item id or a LOINC code. Two questions for one
    item: neither is taken, since nothing says which. Raises ValueError when the questions are no list of objects.
    """
    names = _by_name(instrument)
    contained = {each.get("id"): each for each in _objects(questionnaire.get("contained"))}
    items: dict[str, Item] = {}
    codings: dict[tuple[str, str, str], int] = {}
    others, read_only = set(), set()
    for question in _questions(questionnaire):
        link_id = str(question.get("linkId"))
        spoken = [str(code.get("code")) for code in _objects(question.get("code")) if code.get("system") == LOINC]
        item = next((names[name] for name in [*spoken, link_id.rpartition("/")[2]] if name in names), None)
        if item is None:
            others.add(link_id)
            if question.get("readOnly") is True:
                read_only.add(link_id)
            continue
        items[link_id] = item
        for system, code, ordinal in _choices(question, contained):
            known = _by_ordinal(item, ordinal)
            if known is not None:
                codings[link_id, system, code] = known
    asked = [item.id for item in items.values()]
    twice = {link_id for link_id, item in items.items() if asked.count(item.id) > 1}
    kept = {link_id: item for link_id, item in items.items() if link_id not in twice}
    return Link(instrument, kept, codings, frozenset(others | twice), frozenset(read_only))


def ordinal_of(*elements: object) -> str | None:
    """The ordinal value that one of these elements carries in an extension, as text."""
    for element in elements:
        if not isinstance(element, dict):
            continue
        for extension in _objects(element.get("extension")):
            if extension.get("url") in ORDINALS:
                value = extension.get("valueDecimal", extension.get("valueInteger"))
                return None if value is None else repr(value)
    return None


def _by_name(instrument: Instrument) -> dict[str, Item]:
    own = {item.id: item for item in instrument.items}
    return own | {item.loinc: item for item in instrument.items if item.loinc}


def _questions(questionnaire: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every question, at whatever depth; groups and texts to read are none."""
    waiting = [*reversed(_objects(questionnaire.get("item")))]
    while waiting:
        item = waiting.pop()
        if item.get("type") not in ("group", "display"):
            yield item
        waiting += reversed(_objects(item.get("item")))


def _choices(question: Mapping[str, Any], contained: Mapping[Any, Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """(system, code, ordinal value) of every answer that a question offers with one."""
    offered = [
        (option, option.get("valueCoding"))
        for name in ("answerOption", "option")
        for option in _objects(question.get(name))
    ]
    where = question.get("answerValueSet") or (question.get("options") or {}).get("reference") or ""
    values = contained.get(str(where).removeprefix("#"), {})
    expansion = _objects((values.get("expansion") or {}).get("contains"))
    included = [
        {"system": include.get("system"), **concept}
        for include in _objects((values.get("compose") or {}).get("include"))
        for concept in _objects(include.get("concept"))
    ]
    for around, coding in [*offered, *((each, each) for each in (*expansion, *included))]:
        if isinstance(coding, dict) and (ordinal := ordinal_of(around, coding)) is not None:
            yield str(coding.get("system") or ""), str(coding.get("code")), ordinal


def _objects(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("a list of objects was expected")
    return value


def _known_code(item: Item, text: str) -> int | None:
    whole = _WHOLE.fullmatch(text)
    code = int(whole[1]) if whole else None
    return code if code in item.codes else None


def _by_ordinal(item: Item, ordinal: str | None) -> int | None:
    """The answer with that score, when exactly one has it. For a reversed item an ordinal says nothing certain:
    some publishers give it before the reversing and some after."""
    whole = _WHOLE.fullmatch(ordinal or "")
    if whole is None or item.is_reversed:
        return None
    codes = [code for code, score in item.codes.items() if score == int(whole[1])]
    return codes[0] if len(codes) == 1 else None


def _by_words(item: Item, display: str | None) -> int | None:
    """The answer whose wording, in any language, is that display."""
    if not display:
        return None
    spoken = _plain(display)
    codes = [option.code for option in item.options if spoken in map(_plain, option.text.values())]
    return codes[0] if len(codes) == 1 else None


def _plain(words: str) -> str:
    return re.sub(r"\W+", " ", words).strip().casefold()


def _number(answer: Answer, item: Item) -> int | Fault:
    allowed = ", ".join(map(str, item.codes))
    match answer.kind:
        case "valueInteger" | "valueDecimal":
            code = _known_code(item, answer.value or "")
            if code is not None:
                return code
            return Fault("outside_codes", f"This number is not one of {allowed} ({item.id}).")
        case "valueBoolean" if set(item.codes) == {0, 1} and answer.value in ("True", "False"):
            return int(answer.value == "True")
        case "several":
            return Fault("several_answers", f"There is more than one answer to {item.id}.")
        case "none":
            return Fault("no_value", f"The answer to {item.id} has no value.")
        case _:
            return Fault("unsupported_value", f"A {answer.kind} is no answer to {item.id}; use a coding or a number.")


def _known(item: Item) -> str:
    loinc = [option.loinc for option in item.options if option.loinc]
    return ", ".join([*loinc, *map(str, item.codes)])
