"""What an instrument is: items, scales, bands, cut-offs, critical items and licence, read from one TOML file.

A definition checks itself completely while it is read. Whatever is wrong is named at once, each problem with its
place in the file, and nothing half-right ever becomes an `Instrument`.
"""

from __future__ import annotations

import tomllib

from instruments.definition import checks, reading
from instruments.definition.lines import line_of
from instruments.definition.parts import (
    FORM_NAMES,
    INFORMANTS,
    Band,
    BandScheme,
    CriticalItem,
    CutOff,
    DefinitionError,
    Derived,
    Fact,
    Form,
    InstructedItem,
    Instrument,
    Item,
    ItemCondition,
    Layout,
    Level,
    Licence,
    MissingRule,
    Option,
    Problem,
    Scale,
    ScaleCondition,
    ValidityRule,
    has_whole_scores,
    holds,
    is_whole,
)
from instruments.definition.table import Table

__all__ = [
    "FORM_NAMES",
    "INFORMANTS",
    "Band",
    "BandScheme",
    "CriticalItem",
    "CutOff",
    "DefinitionError",
    "Derived",
    "Fact",
    "Form",
    "InstructedItem",
    "Instrument",
    "Item",
    "ItemCondition",
    "Layout",
    "Level",
    "Licence",
    "MissingRule",
    "Option",
    "Problem",
    "Scale",
    "ScaleCondition",
    "ValidityRule",
    "has_whole_scores",
    "holds",
    "is_whole",
    "line_of",
    "parse",
]


def parse(text: str | bytes, origin: str) -> Instrument:
    """Reads a definition.

    `text` is the content of a TOML file, `origin` its name for messages. The exact text stays in `body`, its SHA-256
    in `digest`, so that a stored copy can be read again years later. Raises `DefinitionError` with all problems.
    """
    problems: list[Problem] = []
    try:
        body = text.decode("utf-8") if isinstance(text, bytes) else text
        content = tomllib.loads(body)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(origin, (Problem("file", str(error)),)) from error
    instrument = reading.instrument_of(Table(content, "", problems), body)
    problems.extend(checks.check_rest(instrument, problems) if problems else checks.check(instrument))
    if problems:
        raise DefinitionError(origin, tuple(problems))
    return instrument
