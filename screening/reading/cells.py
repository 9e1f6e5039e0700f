"""What one cell says: text cells of people and numbers cleaned, answers turned into codes or into a named problem."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import polars as pl

from screening.reading.plan import PROBLEM_SCHEMA

BLANK_MARKS = frozenset({"", "na", "n/a", "null", "none", "nan", "-", "—", "/", "无", "未答"})
"""What people write into a cell that has no answer, small letters. A closed list: all else must be an answer."""

# Only the full-width forms: NFKC would also read ③ and ³ as 3, and where ① is the first option that is a wrong answer.
_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_INVISIBLE = " \t\r\n\v\f\u00a0\u3000\u200b\u200c\u200d\u2060\ufeff"
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
_HARMLESS = re.compile(r"[0-9+\-.]{1,6}")
_LOST_DIGITS = r"^[0-9](\.[0-9]+)?[eE]\+?[0-9]+$"


@dataclass(frozen=True)
class Fault:
    """Why a cell could not be taken."""

    code: str
    message: str


def narrowed(text: str) -> str:
    """The text with full-width letters, digits and signs made narrow and invisible ends cut off."""
    return text.translate(_WIDTH).strip(_INVISIBLE)


def understand(text: str, codes: Collection[int], what: str) -> int | Fault | None:
    """The code a cell holds, None for a blank, or the fault. `what` names the item: "GAD-7 item 5".

    The cell is quoted only when it is a short number: other text may be a name, a phone number, or a confession.
    """
    text = narrowed(text)
    if text.casefold() in BLANK_MARKS:
        return None
    allowed = ", ".join(map(str, sorted(codes)))
    quoted = text if _HARMLESS.fullmatch(text) else None
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return Fault("not_a_code", f"{quoted or 'This cell'} is no whole number; allowed are {allowed} ({what})")
    number = int(whole[1]) if len(whole[1]) < 10 else None
    if number is not None and number in codes:
        return number
    return Fault("outside_codes", f"{quoted or 'This number'} is not one of {allowed} ({what})")


@dataclass(frozen=True)
class Read:
    """A column of cells, read: its values, where it could not be read (None: nowhere), and the problems."""

    values: pl.Series
    bad: pl.Series | None
    problems: pl.DataFrame | None


def answers(column: pl.Series, rows: pl.Series, codes: Collection[int], what: str, kind: pl.DataType) -> Read:
    """Reads the cells of one item. Plain codes go through Polars; each other text is understood once."""
    values = column.cast(kind, strict=False)
    low, high = min(codes), max(codes)
    is_code = values.is_between(low, high) if high - low == len(codes) - 1 else values.is_in(sorted(codes))
    odd = ~is_code.fill_null(False) & (column != "")
    if not odd.any():
        return Read(values, None, None)
    return _odd_ones(values, odd, column, rows, lambda text: understand(text, codes, what))


def by_word(
    column: pl.Series, rows: pl.Series, kind: pl.DataType, understand_word: Callable[[str], object | Fault | None]
) -> Read:
    """Reads a column of which each different text is understood once."""
    values = pl.Series(column.name, [None], dtype=kind).new_from_index(0, column.len())
    return _odd_ones(values, column != "", column, rows, understand_word)


def _odd_ones(
    values: pl.Series,
    odd: pl.Series,
    column: pl.Series,
    rows: pl.Series,
    understand_word: Callable[[str], object | Fault | None],
) -> Read:
    texts = column.filter(odd).unique(maintain_order=True).to_list()
    meanings = {text: understand_word(text) for text in texts}
    good = {text: meaning for text, meaning in meanings.items() if not isinstance(meaning, Fault)}
    faults = {text: meaning for text, meaning in meanings.items() if isinstance(meaning, Fault)}
    read = column.replace_strict(list(good), list(good.values()), default=None, return_dtype=values.dtype)
    values = values.zip_with(~odd, read)
    if not faults:
        return Read(values, None, None)
    bad = odd & column.is_in(list(faults))
    cells = column.filter(bad)
    problems = pl.DataFrame(
        {
            "row": rows.filter(bad),
            "code": cells.replace_strict(list(faults), [fault.code for fault in faults.values()]),
            "message": cells.replace_strict(list(faults), [fault.message for fault in faults.values()]),
        }
    )
    return Read(values, bad, problems)


def texts(column: pl.Series, rows: pl.Series, longest: int, is_number: bool, has_typed_cells: bool) -> Read:
    """Cleans cells that are kept as text; blank becomes null.

    `is_number`: an identifier, whose "123.0" from a typed cell is 123, and which must not have been turned into
    4.3E+17, because its last digits are gone then.
    """
    if column.str.len_bytes().sum() != column.str.len_chars().sum():
        column = column.str.normalize("NFKC")
    column = column.str.strip_chars(_INVISIBLE)
    if is_number and has_typed_cells:
        column = column.str.replace(r"^([0-9]+)\.0$", "$1")
    too_long = column.str.len_chars() > longest
    lost = column.str.contains(_LOST_DIGITS) if is_number else pl.Series([False]).new_from_index(0, column.len())
    bad = too_long | lost
    values = column.set(column == "", None)
    if not bad.any():
        return Read(values, None, None)
    found = [
        _same(rows.filter(too_long), "cell_too_long", f"This cell has more than {longest:,} characters."),
        _same(rows.filter(lost & ~too_long), "number_lost_digits", "Excel has rounded this number; format it as text."),
    ]
    return Read(values.set(bad, None), bad, pl.concat(found))


def _same(rows: pl.Series, code: str, message: str) -> pl.DataFrame:
    return pl.DataFrame({"row": rows}).with_columns(code=pl.lit(code), message=pl.lit(message))


class Problems:
    """The problems of a file as they are found: kept as frames, up to a limit, sorted when they are handed out."""

    def __init__(self, sheet: str | None, names: Sequence[str], limit: int) -> None:
        self._sheet, self._names, self._limit = sheet, names, limit
        self._frames: list[pl.DataFrame] = []
        self._n = 0
        self.left_out = 0

    def add(self, found: pl.DataFrame, at: int | None = None) -> None:
        """Takes `row, code, message`, each of its own `column`, or all of that in place `at` (None: of the row)."""
        room = self._limit - self._n
        self.left_out += max(0, found.height - room)
        self._n += min(found.height, max(0, room))
        if room > 0:
            self._frames.append(
                found.head(room).select(
                    sheet=pl.lit(self._sheet, pl.String),
                    row=pl.col("row").cast(pl.Int32),
                    column="column"
                    if "column" in found.columns
                    else pl.lit(None if at is None else self._names[at], pl.String),
                    code="code",
                    message="message",
                    at=pl.lit(-1 if at is None else at, pl.Int32),
                )
            )

    def add_rows(self, found: Sequence[tuple[int, str, str]], at: int | None = None) -> None:
        """Takes (row, code, message) one by one."""
        if found:
            self.add(
                pl.DataFrame(found, schema={"row": pl.Int32, "code": pl.String, "message": pl.String}, orient="row"), at
            )

    def sorted(self) -> pl.DataFrame:
        """All of them, by row and place in the row."""
        if not self._frames:
            return pl.DataFrame(schema=PROBLEM_SCHEMA)
        return pl.concat(self._frames).sort("row", "at", maintain_order=True).drop("at")
