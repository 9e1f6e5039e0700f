"""Answers as FHIR R4 QuestionnaireResponses: one, a Bundle of them, or NDJSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from instruments.definition import Instrument
from instruments.fhir.naming import BASE, canonical, coding_of


def response(
    instrument: Instrument,
    answers: Mapping[str, int | None],
    *,
    form: str | None = None,
    response_id: str | None = None,
    subject: str | None = None,
    authored: str | None = None,
    language: str = "en",
    base: str = BASE,
) -> dict[str, Any]:
    """One form's answers, as JSON values.

    `answers`: item id -> stored code (before any reversing), None or absent for a blank, which is left out. `subject`
    is the student's number, `authored` an RFC 3339 time with its zone. Raises ValueError, naming the item, for an
    item or a code that the instrument does not have: nothing wrong is ever written down as an answer.
    """
    unknown = answers.keys() - {item.id for item in instrument.items}
    if unknown:
        raise ValueError(f"{instrument.code} has no item {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {"resourceType": "QuestionnaireResponse"}
    if response_id is not None:
        found["id"] = response_id
    found |= {
        "questionnaire": f"{canonical(instrument, form, base=base)}|{instrument.version}",
        "status": "completed",
    }
    if subject is not None:
        found["subject"] = {"identifier": {"value": subject}}
    if authored is not None:
        found["authored"] = authored
    items = _items(instrument, answers, language, base)
    return {**found, "item": items} if items else found


def bundle(responses: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A Bundle of resources, in their order; it has no entries when there are none (FHIR knows no empty list)."""
    entries = [{"resource": dict(each)} for each in responses]
    return {"resourceType": "Bundle", "type": "collection", **({"entry": entries} if entries else {})}


def ndjson(responses: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines of an NDJSON file in UTF-8, one resource each, with their line ends."""
    for each in responses:
        yield json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _items(instrument: Instrument, answers: Mapping[str, int | None], language: str, base: str) -> list[dict[str, Any]]:
    found = []
    for item in instrument.items:
        code = answers.get(item.id)
        if code is None:
            continue
        options = [option for option in item.options if option.code == code]
        if not options:
            raise ValueError(f"{item.id} has no answer {code!r}, only {', '.join(map(str, item.codes))}")
        coding = coding_of(instrument, item, options[0], language, base=base)
        found.append({"linkId": item.id, "answer": [{"valueCoding": coding}]})
    return found
