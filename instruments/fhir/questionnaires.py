"""An instrument as a FHIR R4 Questionnaire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruments.definition import Instrument, Item, ItemCondition, holds
from instruments.fhir.naming import BASE, LOINC, ORDINAL, TRANSLATION, canonical, coding_of, slug

_FORMS_ZH = {"self": "自评版", "youth": "青少年版", "parent": "家长版", "teacher": "教师版"}


def questionnaire(
    instrument: Instrument, form: str | None = None, *, language: str = "en", base: str = BASE
) -> dict[str, Any]:
    """The Questionnaire of one form, as JSON values.

    Item linkIds are our item ids, in the definition's order. `language` ("en", "zh_CN") is that of titles and
    wording; other languages that the definition carries follow as translations. Where a licence lets no wording
    ship, an item's text is its number alone. An answer is coded by LOINC where its code was seen, else by our own
    code system; its ordinal value is what it adds to the score, reversing done. A definition that is not released
    is a draft. Raises ValueError for a form that the instrument does not have.
    """
    found: dict[str, Any] = {
        "resourceType": "Questionnaire",
        "id": slug(instrument, form),
        "language": _tag(language),
        "url": canonical(instrument, form, base=base),
        "identifier": [{"system": f"{base}/edition", "value": instrument.edition}],
        "version": instrument.version,
        "name": "".join(part.capitalize() for part in slug(instrument, form).split("-")),
        **_text("title", _titles(instrument, form), language),
        "status": "active" if instrument.is_released else "draft",
        "subjectType": ["Patient"],
    }
    if words := _copyright(instrument):
        found["copyright"] = words
    if instrument.loinc:
        found["code"] = [{"system": LOINC, "code": instrument.loinc}]
    stem = [] if not instrument.stem else [_stem(instrument, language)]
    found["item"] = [*stem, *(_item(instrument, item, language, base) for item in instrument.items)]
    return found


def _titles(instrument: Instrument, form: str | None) -> Mapping[str, str]:
    name = instrument.form_name(form)
    if name == instrument.default_form:
        return instrument.title
    return {
        language: f"{title}（{_FORMS_ZH[name]}）" if language.startswith("zh") else f"{title}, {name} form"
        for language, title in instrument.title.items()
    }


def _copyright(instrument: Instrument) -> str:
    return "\n".join(f"{_tag(language)}: {licence.text}" for language, licence in instrument.licences.items())


def _stem(instrument: Instrument, language: str) -> dict[str, Any]:
    return {"linkId": f"{instrument.code}_stem", **_text("text", instrument.stem, language), "type": "display"}


def _item(instrument: Instrument, item: Item, language: str, base: str) -> dict[str, Any]:
    label = {"en": f"Item {item.number}", "zh_CN": f"第{item.number}题"}
    found: dict[str, Any] = {"linkId": item.id}
    if item.loinc:
        found["code"] = [{"system": LOINC, "code": item.loinc}]
    found |= {"prefix": f"{item.number}.", **_text("text", item.text or label, language), "type": "choice"}
    if item.asked_if is not None:
        found |= _branching(instrument, item.asked_if, language, base)
    found["answerOption"] = [
        {
            "extension": [{"url": ORDINAL, "valueDecimal": item.codes[option.code]}],
            "valueCoding": coding_of(instrument, item, option, language, base=base),
        }
        for option in item.options
    ]
    return found


def _branching(instrument: Instrument, asked_if: ItemCondition, language: str, base: str) -> dict[str, Any]:
    """enableWhen, which can say "any of" and "all of". Of the rest the item is offered always: never too few."""
    items = [instrument.item(name) for name in asked_if.any_of]
    if asked_if.at_least == 1:
        tests = [test for item in items for test in _meets(instrument, item, asked_if, language, base)]
        return {"enableWhen": tests, "enableBehavior": "any"}
    if asked_if.at_least == len(items) and not asked_if.is_blank_counted:
        tests = [test for item in items for test in _fails_not(instrument, item, asked_if, language, base)]
        return {"enableWhen": tests, "enableBehavior": "all"}
    return {}


def _meets(
    instrument: Instrument, item: Item, asked_if: ItemCondition, language: str, base: str
) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = [
        {
            "question": item.id,
            "operator": "=",
            "answerCoding": coding_of(instrument, item, option, language, base=base),
        }
        for option in item.options
        if holds(item.codes[option.code], asked_if.op, asked_if.value)
    ]
    blank = {"question": item.id, "operator": "exists", "answerBoolean": False}
    return [*tests, blank] if asked_if.is_blank_counted else tests


def _fails_not(
    instrument: Instrument, item: Item, asked_if: ItemCondition, language: str, base: str
) -> list[dict[str, Any]]:
    others: list[dict[str, Any]] = [
        {
            "question": item.id,
            "operator": "!=",
            "answerCoding": coding_of(instrument, item, option, language, base=base),
        }
        for option in item.options
        if not holds(item.codes[option.code], asked_if.op, asked_if.value)
    ]
    return [{"question": item.id, "operator": "exists", "answerBoolean": True}, *others]


def _text(name: str, words: Mapping[str, str], language: str) -> dict[str, Any]:
    """The element in `language`, or in the first language there is, with the others as translations."""
    main = language if language in words else next(iter(words))
    others = [_translation(other, text) for other, text in words.items() if other != main]
    return {name: words[main], **({f"_{name}": {"extension": others}} if others else {})}


def _translation(language: str, text: str) -> dict[str, Any]:
    parts = [{"url": "lang", "valueCode": _tag(language)}, {"url": "content", "valueString": text}]
    return {"url": TRANSLATION, "extension": parts}


def _tag(language: str) -> str:
    return language.replace("_", "-")
