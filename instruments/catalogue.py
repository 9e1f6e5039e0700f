"""Finds and loads the definitions: those that ship with the package by code, stored ones by their text."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
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
    files = _files()
    if code not in files:
        raise UnknownInstrument(f"there is no instrument {code!r}; known are {', '.join(files)}")
    instrument = _shipped(code)
    if version is not None and version != instrument.version:
        raise UnknownInstrument(f"{code} is here in version {instrument.version}, not {version!r}")
    return instrument


def codes() -> tuple[str, ...]:
    """The codes of all shipped instruments, without reading one."""
    return tuple(_files())


def all() -> tuple[Instrument, ...]:
    """Every shipped instrument, by code."""
    return tuple(_shipped(code) for code in _files())


def load(path: Path) -> Instrument:
    """Reads a definition file of one's own. Raises `DefinitionError` with every problem, `OSError` when unreadable."""
    return parse(path.read_bytes(), path.name)


@lru_cache(maxsize=256)
def parse_stored(body: str) -> Instrument:
    """Reads a definition back from the text that was stored with results, at most once per text and process."""
    return parse(body, "stored definition")


@lru_cache(maxsize=1)
def _files() -> dict[str, Traversable]:
    """Code -> file, which is named after it."""
    folder = resources.files("instruments") / "questionnaires"
    found = {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}
    return dict(sorted(found.items()))


@cache
def _shipped(code: str) -> Instrument:
    # one at a time: nobody who scores a PHQ-9 waits for a hundred items of another
    file = _files()[code]
    return parse(file.read_bytes(), file.name)
