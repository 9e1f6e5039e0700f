"""What things are called in FHIR: addresses, code systems, and the coding of each answer."""

from __future__ import annotations

import re
from typing import Any

from instruments.definition import Instrument, Item, Option

LOINC = "http://loinc.org"
BASE = "https://student-wellbeing-screening.invalid/fhir"
"""Identifies and never resolves (RFC 2606 keeps .invalid free); a site names its own address instead."""
ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"
ORDINALS = frozenset(
    {
        ORDINAL,
        "http://hl7.org/fhir/StructureDefinition/valueset-ordinalValue",
        "http://hl7.org/fhir/StructureDefinition/questionnaire-ordinalValue",
        "http://hl7.org/fhir/StructureDefinition/iso21090-CO-value",
        "http://hl7.org/fhir/StructureDefinition/itemWeight",
    }
)
"""The same number under the names of STU3, R4 and R5."""
TRANSLATION = "http://hl7.org/fhir/StructureDefinition/translation"


def slug(instrument: Instrument, form: str | None = None) -> str:
    """The instrument's id in FHIR, which knows no underscore: "psc17" for its default form, else "psc17-teacher"."""
    name = instrument.form_name(form)
    plain = instrument.code.replace("_", "-")
    return plain if name == instrument.default_form else f"{plain}-{name}"


def canonical(instrument: Instrument, form: str | None = None, *, base: str = BASE) -> str:
    """The address of the instrument's Questionnaire, without its version."""
    return f"{base}/Questionnaire/{slug(instrument, form)}"


def local_system(instrument: Instrument, item: Item, *, base: str = BASE) -> str:
    """The code system of an item's answers: one for each set of answers that the instrument has."""
    sets: list[tuple[Option, ...]] = []
    for each in instrument.items:
        if each.options not in sets:
            sets.append(each.options)
    number = "" if len(sets) == 1 else f"-{sets.index(item.options) + 1}"
    return f"{base}/CodeSystem/{slug(instrument)}{number}"


def is_local(system: str, instrument: Instrument) -> bool:
    """Whether the system is one of this instrument's own, at whichever site it was written."""
    return re.search(rf"/CodeSystem/{re.escape(slug(instrument))}(-\d+)?$", system) is not None


def coding_of(instrument: Instrument, item: Item, option: Option, language: str, *, base: str = BASE) -> dict[str, Any]:
    """How one answer is coded: by its LOINC answer code where one was seen, else by our own code."""
    system = LOINC if option.loinc else local_system(instrument, item, base=base)
    coding: dict[str, Any] = {"system": system, "code": option.loinc or str(option.code)}
    if language in option.text:
        coding["display"] = option.text[language]
    return coding
