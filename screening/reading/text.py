"""Delimited text: encodings, delimiters, records and their row numbers; block by block, so that memory stays small.

A block without quotes (or with needless ones only), in which every line has exactly as many delimiters as the header,
means the same to every reader of CSV and goes through Polars. Any other block is read record by record.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from screening.reading.files import HEAD_ROWS, Batch, File, HeadRow, invalid
from screening.reading.plan import Limits

_BLOCK = 4_000_000
_PIECE = 1 << 20
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_DELIMITERS = (",", ";", "\t")
_LONGEST_RECORD = 200
"""Lines of one record. A quote still open after so many was never closed."""
_MOST_OPEN_QUOTES = 100
"""After so many quotes that never close, quotes in this file mean nothing."""
_BROKEN_QUOTES = ("broken_quotes", "A quotation mark in this row is not closed, or not in its place.")
csv.field_size_limit(1_000_000)


def open_text(data: bytes, limits: Limits) -> File:
    """Opens delimited text in UTF-8, UTF-16 (by its mark) or GB18030. Raises InvalidUpload for anything else."""
    encoding, content = _as_utf8(data)
    del data
    if (at := content.find(b"\x00")) >= 0:
        row = content.count(b"\n", 0, at) + 1
        raise invalid(
            "has_nul", f"There are zero bytes in line {row}: this is no text file, or a damaged one.", row=row
        )
    return File("csv", encoding, iter([_TextSheet(content, limits)]), (), has_typed_cells=False)


def _as_utf8(data: bytes) -> tuple[str, bytes]:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            content = _recoded(data, name, len(mark))
            if content is None:
                raise invalid("not_text", f"The file says it is {name.upper()} text, but it is not; save it again.")
            return name, content
    for name in ("utf-8", "gb18030"):
        if (content := _recoded(data, name, 0)) is not None:
            return name, content
    raise invalid("not_text", "The file is no text in UTF-8, UTF-16 or GB18030; save it as .xlsx or as CSV UTF-8.")


def _recoded(data: bytes, encoding: str, start: int) -> bytes | None:
    """The text in UTF-8, None when it is not in `encoding`. Piece by piece: decoded text is up to four times as big."""
    decoder = codecs.getincrementaldecoder(encoding)()
    is_same = encoding == "utf-8"
    recoded = bytearray()
    try:
        for at in range(start, len(data), _PIECE):
            piece = decoder.decode(data[at : at + _PIECE], at + _PIECE >= len(data))
            if not is_same:
                recoded += piece.encode()
    except UnicodeError:
        return None
    return (data[start:] if start else data) if is_same else bytes(recoded)


@dataclass(frozen=True)
class _Record:
    cells: list[str]
    end: int
    """How many lines were used up to here."""
    fault: tuple[str, str] | None = None


class _TextSheet:
    name = None

    def __init__(self, content: bytes, limits: Limits) -> None:
        self._content = content
        self._limits = limits
        self._delimiter = ","
        self._starts: dict[int, int] = {}
        self._open_quotes = 0

    @cached_property
    def head(self) -> Sequence[HeadRow]:
        """The first rows that are not blank, and where the rows below each begin."""
        block = self._content[: _block_end(self._content, 0)]
        lines = block.splitlines(keepends=True)
        self._delimiter = _sniff(lines)
        rows: list[HeadRow] = []
        at, used = 0, 0
        for number, record in enumerate(self._records(lines), start=1):
            at += sum(map(len, lines[used : record.end]))
            used = record.end
            if any(cell.strip() for cell in record.cells):
                if len(record.cells) > self._limits.columns:
                    raise invalid(
                        "too_many_columns", f"There are more than {self._limits.columns:,} columns.", row=number
                    )
                rows.append(HeadRow(number, record.cells))
                self._starts[number] = at
            if len(rows) == HEAD_ROWS:
                break
        if not rows:
            raise invalid("empty_file", "The file holds only blank lines.")
        return rows

    def batches(self, header: HeadRow) -> Iterator[Batch]:
        width = len(header.cells)
        named = max((i for i, cell in enumerate(header.cells, start=1) if cell.strip()), default=0)
        at, row, carried = self._starts[header.row], header.row + 1, b""
        while at < len(self._content):
            end = _block_end(self._content, at)
            block, at = carried + self._content[at:end], end
            cells = _plain(block, width, self._delimiter) if not carried else None
            if cells is not None:
                batch, carried = Batch(cells, _numbers(row, cells.height)), b""
            else:
                batch, carried = self._careful(block, width, named, row, is_last=at >= len(self._content))
            row += batch.cells.height
            yield batch

    def close(self) -> None:
        self._content = b""

    def _careful(self, block: bytes, width: int, named: int, row: int, is_last: bool) -> tuple[Batch, bytes]:
        """The records of a block one by one, and the bytes of a last one that goes on in the next block."""
        lines = block.splitlines(keepends=True)
        rows: list[list[str]] = []
        faults: list[tuple[int, str, str]] = []
        used = 0
        for record in self._records(lines, is_last, width):
            cells, used = record.cells, record.end
            fault = record.fault or _ragged(cells, width, named)
            if fault:
                faults.append((len(rows), *fault))
            rows.append([*cells[:width], *[""] * (width - len(cells))] if len(cells) != width else cells)
        columns = zip(*rows, strict=True) if rows else [()] * width
        cells_frame = pl.DataFrame(
            [pl.Series(str(i), column, dtype=pl.String) for i, column in enumerate(columns)], orient="col"
        )
        return Batch(cells_frame, _numbers(row, len(rows)), faults), b"".join(lines[used:])

    def _records(self, lines: list[bytes], is_last: bool = True, width: int | None = None) -> Iterator[_Record]:
        """Records by the rules of CSV. One whose quotes are broken is cut at its first line, with the fault named."""
        source = _Lines(lines)
        reader = csv.reader(source, delimiter=self._delimiter, strict=True)
        while True:
            start, fault = source.used, None
            is_quoted = self._open_quotes < _MOST_OPEN_QUOTES
            try:
                cells = next(reader) if is_quoted else self._unquoted(source)
            except StopIteration:
                return
            except csv.Error:
                if source.is_exhausted and not is_last and source.used - start <= _LONGEST_RECORD:
                    return
                fault = _BROKEN_QUOTES
            else:
                n_lines = source.used - start
                # Text that swallowed whole rows up to the next quote gives itself away by its length or width.
                if n_lines > _LONGEST_RECORD or (n_lines > 1 and width is not None and len(cells) != width):
                    fault = _BROKEN_QUOTES
            if fault:
                self._open_quotes += 1
                source.used, source.is_exhausted = start, False
                cells = self._unquoted(source)
                reader = csv.reader(source, delimiter=self._delimiter, strict=True)
            yield _Record(cells, source.used, fault)

    def _unquoted(self, source: "_Lines") -> list[str]:
        return next(source).rstrip("\r\n").split(self._delimiter)


class _Lines:
    """Lines for csv.reader, which counts how many were used and whether more were wanted than there are."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self.used = 0
        self.is_exhausted = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.used >= len(self._lines) or self.is_exhausted:
            self.is_exhausted = True
            raise StopIteration
        self.used += 1
        return self._lines[self.used - 1].decode()


def _sniff(lines: list[bytes]) -> str:
    """The delimiter that the first line with any of them has most of, quoted text left out."""
    for line in lines[: 5 * HEAD_ROWS]:
        outside = "".join(line.decode().split('"')[::2])
        counts = {delimiter: outside.count(delimiter) for delimiter in _DELIMITERS}
        best = max(_DELIMITERS, key=lambda delimiter: counts[delimiter])
        if counts[best]:
            return best
    return ","


def _block_end(content: bytes, start: int) -> int:
    """Where the block that begins at `start` ends: behind a line end, so that a line is never cut."""
    if len(content) - start <= _BLOCK:
        return len(content)
    for end_of_line in (b"\n", b"\r"):
        cut = content.rfind(end_of_line, start, start + _BLOCK)
        if cut >= 0:
            return cut + 1
    raise invalid("line_too_long", f"A line has more than {_BLOCK:,} characters: this is no table.")


def _plain(block: bytes, width: int, delimiter: str) -> pl.DataFrame | None:
    """The block by Polars, or None when it is not so plain that there is only one way to read it."""
    if b'"' in block:
        if not _has_needless_quotes(block, delimiter.encode()):
            return None
        block = block.replace(b'"', b"")
    n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    if width < 2 or block.count(delimiter.encode()) != n_lines * (width - 1):
        return None
    if (returns := block.count(b"\r")) and returns != block.count(b"\r\n"):
        return None
    try:
        cells = pl.read_csv(
            block,
            has_header=False,
            schema={str(i): pl.String for i in range(width)},
            separator=delimiter,
            quote_char=None,
            empty_string_is_null=False,
            truncate_ragged_lines=False,
        )
    except pl.exceptions.PolarsError:
        return None
    return cells if cells.height == n_lines else None


def _has_needless_quotes(block: bytes, delimiter: bytes) -> bool:
    """Whether every quote encloses a whole cell that would read the same without it, as where all cells are quoted."""
    pieces = block.split(b'"')
    if len(pieces) % 2 == 0:
        return False
    edges = (delimiter, b"\n", b"\r")
    enclosed, between = set(pieces[1::2]), set(pieces[2:-1:2])
    return (
        not any(edge in cell for cell in enclosed for edge in edges)
        # An empty piece between two quotes is a quote that belongs to a cell.
        and all(piece.startswith(edges) and piece.endswith(edges) for piece in between)
        and (not pieces[0] or pieces[0].endswith(edges))
        and (not pieces[-1] or pieces[-1].startswith(edges))
    )


def _ragged(cells: list[str], width: int, named: int) -> tuple[str, str] | None:
    """A row that is shorter than the named columns, or goes on behind the last: its cells may have moved."""
    if not any(cell.strip() for cell in cells):
        return None
    n = len(cells)
    if n < named or any(cell.strip() for cell in cells[width:]):
        return "ragged_row", f"This row has {n} cells, the header has {named}; a delimiter is missing or one too many."
    return None


def _numbers(first: int, n: int) -> pl.Series:
    return pl.int_range(first, first + n, dtype=pl.Int32, eager=True)
