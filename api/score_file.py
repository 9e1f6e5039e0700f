"""Scores a file without any database: one row out for each row in, every bad cell named, nothing guessed."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from instruments import scoring
from instruments.definition import Instrument, Item
from screening.errors import InvalidUpload, Problem
from screening.reading import cells, columns
from screening.reading.files import Batch, File, HeadRow, Sheet, open_file
from screening.reading.plan import Limits

LIMITS = Limits(
    file_bytes=20_000_000_000,
    rows=100_000_000,
    columns=100_000,
    workbook_cells=200_000_000,
    unpacked_bytes=20_000_000_000,
)
"""Of one's own files on one's own machine."""
_OUT_OF_RANGE = -30_000
"""A code that no item has: it makes its form `out_of_range`, as a code that cannot be read should."""


@dataclass(frozen=True)
class Scored:
    """The input's columns as they were, then status, n_missing, scales, bands, cut-offs and `critical`."""

    rows: pl.DataFrame
    problems: tuple[Problem, ...]


def score(
    data: bytes,
    instrument: Instrument,
    *,
    column_map: Mapping[str, str] | None = None,
    form: str | None = None,
    layout: str | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Scored:
    """Scores every row of a CSV, Excel or Parquet file's content.

    Columns are understood by item id (phq9_9), by number (9), or by `column_map` (column -> either). Raises
    InvalidUpload for a file that cannot be read or lacks a scored item, ValueError for an unknown form or layout.
    """
    name = instrument.form_name(form)
    items = _items(instrument, layout)
    codes = instrument.layouts[layout].codes if layout is not None else {}
    file = open_file(data, LIMITS)
    sheet, header, places = _table(file, instrument, items, column_map or {}, scoring.item_columns(instrument, name))
    names = _unique([columns.shown(cell) or f"column_{n}" for n, cell in enumerate(header.cells, start=1)])
    frames: list[pl.DataFrame] = []
    problems: list[Problem] = []
    for batch in sheet.batches(header):
        answers, found = _answers(batch, instrument, places, codes, names)
        problems += [replace(problem, sheet=sheet.name) for problem in found]
        kept = batch.cells.select(pl.nth(n).replace("", None).alias(name) for n, name in enumerate(names))
        frames.append(_beside(kept, _outputs(scoring.score(answers, instrument, name), instrument), instrument))
        on_progress(batch.cells.height)
    if not frames:
        raise _unusable("no_rows", "There is no row below the header.")
    rows = pl.concat(frames)
    if file.format == "parquet":
        # its columns have types, which the text that was read for scoring has lost
        typed = pl.read_parquet(io.BytesIO(data))
        rows = typed.rename(dict(zip(typed.columns, names, strict=True))).hstack(
            rows.select(rows.columns[len(names) :])
        )
    return Scored(rows, tuple(sorted(problems, key=lambda problem: problem.row or 0)))


def write(rows: pl.DataFrame, path: Path | None) -> bytes | None:
    """Writes rows to a file by the kind that its name says; without a path they are returned as CSV."""
    if path is None:
        return rows.write_csv().encode()
    kind = path.suffix.lower()
    if kind == ".parquet":
        rows.write_parquet(path)
    elif kind == ".xlsx":
        rows.write_excel(path)
    elif kind in (".csv", ".txt"):
        rows.write_csv(path)
    else:
        raise ValueError(f"the output is .csv, .xlsx or .parquet, not {kind or 'a file without an ending'}")
    return None


# -- the header -----------------------------------------------------------------------------------------


def _items(instrument: Instrument, layout: str | None) -> dict[int, Item]:
    """Printed number -> item."""
    if layout is None:
        return {item.number: item for item in instrument.items}
    if layout not in instrument.layouts:
        known = ", ".join(instrument.layouts) or "none"
        raise ValueError(f"{instrument.code} has no layout {layout!r}; known: {known}")
    return {n: instrument.item(item) for n, item in enumerate(instrument.layouts[layout].items, start=1)}


def _table(
    file: File, instrument: Instrument, items: Mapping[int, Item], column_map: Mapping[str, str], needed: Sequence[str]
) -> tuple[Sheet, HeadRow, dict[str, int]]:
    """The first sheet and row that name items, and where each item stands in it."""
    by_key = {columns.item_key(f"{instrument.code}_{number}"): item.id for number, item in items.items()}

    def by_name(name: str) -> str | None:
        return by_key.get(columns.item_key(name) or "")

    def by_number(name: str) -> str | None:
        plain = cells.narrowed(name)
        if plain.isascii() and plain.isdigit() and len(plain) < 4:
            return items[int(plain)].id if int(plain) in items else None
        return by_name(name)

    for sheet in file.sheets:
        for position, head in enumerate(sheet.head):
            # further down a row of numbers is answers, not a header
            layout = columns.lay_out(head.cells, column_map, by_name if position else by_number)
            if not layout.places and not layout.twice:
                continue
            problems = [*layout.map_problems, *layout.twice.values()]
            lacking = [item for item in needed if item not in layout.places and item not in layout.twice]
            if lacking:
                problems.append(Problem("items_missing", f"No column holds {', '.join(lacking)}; name or map them."))
            if problems:
                raise InvalidUpload(problems[0].message, problems=problems)
            return sheet, head, dict(layout.places)
    raise _unusable("no_item_columns", f"No column holds an item of {instrument.code}; call them like {needed[0]}.")


def _unique(names: Sequence[str]) -> list[str]:
    taken: dict[str, int] = {}
    unique = []
    for name in names:
        taken[name] = taken.get(name, 0) + 1
        unique.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return unique


# -- the rows -------------------------------------------------------------------------------------------


def _answers(
    batch: Batch, instrument: Instrument, places: Mapping[str, int], codes: Mapping[int, int], names: Sequence[str]
) -> tuple[pl.DataFrame, list[Problem]]:
    """The items as codes, in which a cell that cannot be read makes its row out of range; and each such cell."""
    problems = [Problem(code, words, row=batch.rows[at]) for at, code, words in batch.faults]
    broken = pl.Series([False]).new_from_index(0, batch.cells.height).scatter([at for at, _, _ in batch.faults], True)
    found: list[pl.Series] = []
    for item_id, place in places.items():
        item = instrument.item(item_id)
        what = f"{instrument.code} item {item.number}"
        # a layout's codes are the printed ones: which cell is right is told by them
        read = cells.answers(batch.cells[str(place)], batch.rows, codes or item.codes, what, pl.Int16())
        values = read.values if not codes else read.values.replace_strict(codes, default=None, return_dtype=pl.Int16())
        bad = broken if read.bad is None else broken | read.bad
        found.append(values.set(bad, _OUT_OF_RANGE).rename(item_id))
        if read.problems is not None:
            problems += _named(read.problems, names[place])
    return pl.DataFrame(found), problems


def _named(found: pl.DataFrame, column: str) -> Iterator[Problem]:
    for row in found.iter_rows(named=True):
        yield Problem(row["code"], row["message"], row=row["row"], column=column)


def _outputs(scored: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """The scorer's columns, critical items told by their ids in one column."""
    critical = list(instrument.critical_items)
    kept = [name for name in scored.columns if not name.startswith("critical_") and name != "n_answered"]
    ids = dict.fromkeys(each.item for each in critical)
    told = [
        pl.when(pl.any_horizontal([pl.col(f"critical_{each.id}") for each in critical if each.item == item])).then(
            pl.lit(item)
        )
        for item in ids
    ]
    column = pl.concat_str(told, separator=" ", ignore_nulls=True) if told else pl.lit("")
    return scored.select(*kept, column.replace("", None).alias("critical"))


def _beside(kept: pl.DataFrame, scored: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Scores beside the input; a score whose name the input has already is called after its instrument."""
    taken = set(kept.columns)
    return kept.hstack(scored.rename({name: f"{instrument.code}_{name}" for name in scored.columns if name in taken}))


def _unusable(code: str, words: str) -> InvalidUpload:
    return InvalidUpload(words, problems=[Problem(code, words)])
