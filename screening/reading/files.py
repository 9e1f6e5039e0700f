"""What kind of file it is, told by its content and never by its name, and its sheets of text cells."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from screening.errors import InvalidUpload, Problem
from screening.reading.plan import Limits

HEAD_ROWS = 10
"""How many rows that are not blank are looked at to find the header."""


@dataclass(frozen=True)
class HeadRow:
    """One of the first rows of a sheet: its number as the spreadsheet shows it, and its cells."""

    row: int
    cells: Sequence[str]


@dataclass(frozen=True)
class Batch:
    """Rows after the header. `cells`: one String column per column of the header, named "0", "1" .., "" for blank.

    `rows`: their numbers, Int32. `faults`: (place in the batch, code, words) of rows that are broken as rows. A format
    that knows more than a cell can say: `bad`, prefix of a form -> places where that form cannot be taken, and `told`,
    the problems it has named for that (`row, column, code, message`). Its rows are never blank.
    """

    cells: pl.DataFrame
    rows: pl.Series
    faults: Sequence[tuple[int, str, str]] = ()
    bad: Mapping[str, Sequence[int]] = field(default_factory=dict)
    told: pl.DataFrame | None = None


class Sheet(Protocol):
    """One table of a file."""

    @property
    def name(self) -> str | None: ...
    @property
    def head(self) -> Sequence[HeadRow]: ...
    def batches(self, header: HeadRow) -> Iterator[Batch]:
        """The rows below `header`, blank ones too, in order."""
        ...

    def close(self) -> None:
        """Lets go of the file's content; nothing can be read any more."""


@dataclass(frozen=True)
class File:
    """A file that could be opened. `has_typed_cells`: numbers were numbers in it, so an id may read "123.0".

    `responses`: FHIR, of which only a plan of forms can make a sheet.
    """

    format: str
    encoding: str | None
    sheets: Iterator[Sheet]
    sheet_names: Sequence[str]
    has_typed_cells: bool
    notices: Sequence[Problem] = ()
    responses: bytes | None = None


def invalid(code: str, message: str, *, row: int | None = None, sheet: str | None = None) -> InvalidUpload:
    """The error of a file that cannot be read at all."""
    return InvalidUpload(message, problems=[Problem(code, message, row=row, sheet=sheet)])


_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"\x1f\x8b", "a compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed file"),
    (b"Rar!", "a compressed file"),
    (b"{\\rtf", "a text document"),
    (b"SQLite format 3\x00", "a database"),
)
_MARKUP = (b"<html", b"<!doctype", b"<?xml", b"<table", b"<meta", b"<head")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def open_file(data: bytes, limits: Limits) -> File:
    """Opens a file by its content. Raises InvalidUpload when it is no table that we read."""
    # Each kind of file is imported only when it is met: starting up is most of a small file's time.
    if not data.strip(b"\x00\t\r\n \xef\xbb\xbf\xff\xfe"):
        raise invalid("empty_file", "The file is empty.")
    if data.startswith(_ZIP) or data.startswith(_OLD_EXCEL):
        from screening.reading import workbook

        return workbook.open_workbook(data, limits)
    if data.startswith(b"PAR1"):
        from screening.reading import parquet

        return parquet.open_parquet(data, limits)
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            raise not_a_table(name)
    if data[:2000].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP):
        raise not_a_table("a web page or an XML document")
    if data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"resourceType"' in data:
        from screening.reading import fhir

        return fhir.open_fhir(data)
    from screening.reading import text

    return text.open_text(data, limits)


def not_a_table(what: str) -> InvalidUpload:
    """The error of a file that is something else, whatever its name says."""
    return invalid("not_a_table", f"This is {what}, not a table. Save the table as .xlsx or .csv and send that.")
