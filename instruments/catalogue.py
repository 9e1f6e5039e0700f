"""Finds and loads the definitions: those that ship with the package by code, stored ones by their text."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

from instruments.definition import Instrument, parse


class UnknownInstrument(KeyError):
    """No instrument of that code, or none in that version; the message names what there is."""

    def __str__(self) -> str:
        return str(self.args[0])


def get(code: str, version: str | None = None) -> Instrument:
    """The shipped instrument `code` ("phq9"), in `version` when one is named.

    Loaded once per process. Raises `UnknownInstrument`, which names the known codes or the version that is there.
    """
    shipped = _shipped()
    if code not in shipped:
        raise UnknownInstrument(f"there is no instrument {code!r}; known are {', '.join(shipped)}")
    instrument = shipped[code]
    if version is not None and version != instrument.version:
        raise UnknownInstrument(f"{code} is here in version {instrument.version}, not {version!r}")
    return instrument


def all() -> tuple[Instrument, ...]:
    """Every shipped instrument, by code."""
    return tuple(_shipped().values())


def load(path: Path) -> Instrument:
    """Reads a definition file of one's own. Raises `DefinitionError` with every problem, `OSError` when unreadable."""
    return parse(path.read_bytes(), path.name)


@lru_cache(maxsize=256)
def parse_stored(body: str) -> Instrument:
    """Reads a definition back from the text that was stored with results, at most once per text and process."""
    return parse(body, "stored definition")


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Instrument]:
    folder = resources.files("instruments") / "questionnaires"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    loaded = [parse(file.read_bytes(), file.name) for file in files]
    return {instrument.code: instrument for instrument in sorted(loaded, key=lambda i: i.code)}
