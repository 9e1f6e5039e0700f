"""Workbooks (.xlsx, .xlsm, old .xls): looked over as a zip before any parser sees them, then read by calamine.

calamine allocates the whole rectangle between a sheet's outermost cells: 5 KB with one cell at XFD1048576 ask for
512 GiB and abort the process. So the cells' own addresses are looked at first.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import fastexcel
import polars as pl

from screening.errors import InvalidUpload, Problem
from screening.reading.files import HEAD_ROWS, Batch, File, HeadRow, invalid, not_a_table
from screening.reading.plan import Limits

_PIECE = 1 << 20
_OVERLAP = 256
_ROWS = 50_000
_MOST_PARTS = 2_000
_HIGHEST_RATIO = 200
_BIG = 10_000_000
_FAR_COLUMN = re.compile(rb' r="([A-Za-z]{2,3})[0-9]')
_FAR_ROW = re.compile(rb' r="[A-Za-z]{0,3}([0-9]{5,})"')
_ATTRIBUTE = re.compile(rb"""\s([rt])\s*=\s*["']([^"'<>]{0,20})["']""")
# How XML may also be written, though no spreadsheet does: then attributes are first put into the usual spelling.
_ODD_SPELLINGS = (b"'", b" =", b"= ", b"\t", b"\n=", b"=\n", b"\nr", b"\nt", b"\r")
_ERROR_CELL = re.compile(rb"""(<(?:\w+:)?c\b[^>]{0,200}?\bt\s*=\s*["'])e(?=["'])""")
_NEAR_ROWS = 9_999
_NEAR_COLUMNS = 26


def open_workbook(data: bytes, limits: Limits) -> File:
    """Opens a workbook. Raises InvalidUpload when it is none, damaged, encrypted, or over a limit."""
    notices: list[Problem] = []
    if data.startswith(b"PK"):
        data = _looked_over(data, limits)
        kind = "xlsx"
    else:
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise _encrypted()
        kind = "xls"
        words = "In an old .xls, formula errors (#N/A) read as blank; save as .xlsx to have them named."
        notices.append(Problem("old_excel", words))
    try:
        reader = fastexcel.read_excel(data)
    except Exception as error:
        raise not_a_table("no Excel workbook that we can open, or a damaged one") from error
    names = list(reader.sheet_names)
    if len(names) > limits.sheets:
        raise _too_many_sheets(limits)
    sheets = (_WorkbookSheet(reader, i, name, limits) for i, name in enumerate(names))
    return File(kind, None, sheets, names, has_typed_cells=True, notices=notices)


class _WorkbookSheet:
    def __init__(self, reader: fastexcel.ExcelReader, index: int, name: str, limits: Limits) -> None:
        self._reader, self._index, self.name, self._limits = reader, index, name, limits

    @cached_property
    def _cells(self) -> pl.DataFrame:
        try:
            # Without skip_rows=0 blank rows at the top are swallowed, and every row number is wrong.
            sheet = self._reader.load_sheet(self._index, header_row=None, skip_rows=0, dtypes="string")
            if sheet.width > self._limits.columns:
                words = f"There are more than {self._limits.columns:,} columns."
                raise invalid("too_many_columns", words, sheet=self.name)
            cells = sheet.to_polars()
        except InvalidUpload:
            raise
        except Exception as error:
            raise invalid("not_a_table", "This sheet is damaged.", sheet=self.name) from error
        cells.columns = [str(i) for i in range(cells.width)]
        return cells

    @cached_property
    def head(self) -> Sequence[HeadRow]:
        found: list[HeadRow] = []
        if not self._cells.width:
            return found
        for number, cells in enumerate(self._cells.head(20 * HEAD_ROWS).fill_null("").iter_rows(), start=1):
            if any(cell.strip() for cell in cells):
                found.append(HeadRow(number, cells))
            if len(found) == HEAD_ROWS:
                break
        return found

    def batches(self, header: HeadRow) -> Iterator[Batch]:
        for start in range(header.row, self._cells.height, _ROWS):
            cells = self._cells.slice(start, _ROWS).fill_null("")
            yield Batch(cells, pl.int_range(start + 1, start + 1 + cells.height, dtype=pl.Int32, eager=True))

    def close(self) -> None:
        self.__dict__.pop("_cells", None)


def _looked_over(data: bytes, limits: Limits) -> bytes:
    """The workbook, after its zip was found harmless; with its error cells made readable where it has any."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            parts = package.infolist()
            _check_parts(parts, limits)
            # Every part, whatever it is called: a workbook may keep its sheets where it likes.
            with_errors = {part.filename for part in parts if _has_error_cells(package, part, limits)}
            return _with_errors_as_text(package, parts, with_errors) if with_errors else data
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise not_a_table("a damaged workbook") from error


def _check_parts(parts: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(parts) > _MOST_PARTS:
        raise _bomb()
    if any(part.flag_bits & 1 for part in parts):
        raise _encrypted()
    names = {part.filename.lower() for part in parts}
    if not any(re.fullmatch(r"xl/workbook\d*\.xml", name) for name in names):
        raise not_a_table("a zip file or a document of another program")
    if sum(name.startswith("xl/worksheets/") and name.endswith(".xml") for name in names) > limits.sheets:
        raise _too_many_sheets(limits)
    if sum(part.file_size for part in parts) > limits.unpacked_bytes:
        raise _bomb()
    if any(part.file_size > max(_BIG, _HIGHEST_RATIO * part.compress_size) for part in parts):
        raise _bomb()


def _has_error_cells(package: zipfile.ZipFile, part: zipfile.ZipInfo, limits: Limits) -> bool:
    """Unpacks one part piece by piece, refuses cells too far out, and tells whether any holds a formula error."""
    width, height, has_errors, rest = _NEAR_COLUMNS, _NEAR_ROWS, False, b""
    with package.open(part) as stream:
        while piece := stream.read(_PIECE):
            seen = rest + piece
            if any(spelling in seen for spelling in _ODD_SPELLINGS):
                seen = _ATTRIBUTE.sub(rb' \1="\2"', seen)
            width = max([width, *map(_column_number, set(_FAR_COLUMN.findall(seen)))])
            height = max([height, *map(int, set(_FAR_ROW.findall(seen)))])
            has_errors = has_errors or (b't="e"' in seen and _ERROR_CELL.search(seen) is not None)
            rest = seen[-_OVERLAP:]
            if width > limits.columns or (height > _NEAR_ROWS and width * height > limits.workbook_cells):
                words = "A sheet has cells too far to the right or too far down; delete them, or save the sheet as CSV."
                raise invalid("sheet_too_large", words)
    return has_errors


def _with_errors_as_text(package: zipfile.ZipFile, parts: list[zipfile.ZipInfo], with_errors: set[str]) -> bytes:
    """The parser reads #N/A as blank, and a blank is no answer that went wrong: as text it will be named."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
        for part in parts:
            content = package.read(part)
            if part.filename in with_errors:
                content = _ERROR_CELL.sub(rb"\1str", content)
            copy.writestr(part.filename, content)
    return out.getvalue()


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def _bomb() -> InvalidUpload:
    return invalid("file_too_large", "Unpacked, this workbook is far larger than a table of answers can be.")


def _encrypted() -> InvalidUpload:
    return invalid("encrypted", "The workbook has a password; save it without one.")


def _too_many_sheets(limits: Limits) -> InvalidUpload:
    return invalid("too_many_sheets", f"There are more than {limits.sheets} sheets.")
