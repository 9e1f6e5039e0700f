"""Scores a file without any database: one row out for each row in, every bad cell named, nothing guessed."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from instruments import fhir, scoring
from instruments.definition import Instrument, Item, Layout
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
    """Scores every row of a CSV, Excel or Parquet file's content, or every response of a FHIR one.

    Columns are understood by item id (phq9_9), by number (9), or by `column_map` (column or linkId -> either). Raises
    InvalidUpload for a file that cannot be read or lacks a scored item, ValueError for an unknown form or layout.
    """
    name = instrument.form_name(form)
    edition = None if layout is None else _edition(instrument, layout)
    file = open_file(data, LIMITS)
    if file.responses is not None:
        return _of_responses(file.responses, instrument, name, column_map or {})
    sheet, header, places = _table(file, instrument, _items(instrument, edition), column_map or {})
    names = _unique([columns.shown(cell) or f"column_{n}" for n, cell in enumerate(header.cells, start=1)])
    frames: list[pl.DataFrame] = []
    problems: list[Problem] = []
    for batch in sheet.batches(header):
        answers, found = _answers(batch, instrument, places, edition, names)
        problems += [replace(problem, sheet=sheet.name) for problem in found]
        kept = batch.cells.select(pl.nth(n).replace("", None).alias(name) for n, name in enumerate(names))
        scored = _outputs(scoring.score(answers, instrument, name), instrument)
        frames.append(_beside(kept, _unbanded(scored) if edition and not edition.is_banded else scored, instrument))
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


def _of_responses(data: bytes, instrument: Instrument, form: str, link_ids: Mapping[str, str]) -> Scored:
    """A row per response; one that was not taken is out of range, and its critical answers are told all the same."""
    try:
        found = fhir.read(data, [(instrument, form)], link_ids=link_ids)
    except fhir.NotFhir as error:
        raise _unusable(error.code, str(error)) from error
    problems = [Problem(code, words, row=line, column=link) for line, link, code, words in found.problems.iter_rows()]
    if not found.answers:
        words = f"No response in this file belongs to {instrument.code}."
        raise InvalidUpload(words, problems=[Problem("no_responses", words), *problems])
    responses = found.answers[instrument.code, form].filter(~pl.col("is_repeat"))
    items = [item.id for item in instrument.items if item.id in responses.columns]
    critical = {each.item for each in instrument.critical_items}
    spoiled = next(
        item.id for item in instrument.scored_items if item.id not in critical or len(critical) == len(items)
    )
    refused = ~pl.col("is_taken")
    answers = responses.select(
        pl.when(refused & (pl.col(name).is_null() if name != spoiled else True))
        .then(_OUT_OF_RANGE)
        .otherwise(name)
        .alias(name)
        for name in items
    )
    kept = responses.select("line", "id", "subject", "authored", *items)
    rows = _beside(kept, _outputs(scoring.score(answers, instrument, form), instrument), instrument)
    return Scored(rows, tuple(problems))


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


def _edition(instrument: Instrument, name: str) -> Layout:
    """The layout of that name; case and separators do not count."""
    known = {_plain(each): layout for each, layout in instrument.layouts.items()}
    if _plain(name) not in known:
        listed = ", ".join(instrument.layouts) or "none"
        raise ValueError(f"{instrument.code} has no layout {name!r}; known: {listed}")
    return known[_plain(name)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _items(instrument: Instrument, edition: Layout | None) -> dict[int, Item]:
    """Printed number -> item."""
    if edition is None:
        return {item.number: item for item in instrument.items}
    return {n: instrument.item(item) for n, item in enumerate(edition.items, start=1)}


def _table(
    file: File, instrument: Instrument, items: Mapping[int, Item], column_map: Mapping[str, str]
) -> tuple[Sheet, HeadRow, dict[str, int]]:
    """The first sheet and row that name items, and where each item stands in it."""
    by_key = {_item_key(instrument, number): item.id for number, item in items.items()}

    def by_name(name: str) -> str | None:
        return by_key.get(columns.item_key(name) or "")

    def by_number(name: str) -> str | None:
        number = _bare_number(name)
        return by_name(name) if number is None else items[number].id if number in items else None

    for sheet in file.sheets:
        for position, head in enumerate(sheet.head):
            # further down a row of numbers is answers, not a header
            layout = columns.lay_out(head.cells, column_map, by_name if position else by_number)
            if not layout.places and not layout.twice:
                continue
            is_numbered = any(_bare_number(layout.names[place]) is not None for place in layout.places.values())
            others = [name for name in layout.ignored if is_numbered or _bare_number(name) is None]
            problems = [*layout.map_problems, *layout.twice.values(), *_strangers(instrument, items, others)]
            there = layout.places.keys() | layout.twice.keys()
            lacking = [item.id for item in items.values() if item.is_scored and item.id not in there]
            if lacking:
                problems.append(Problem("items_missing", f"No column holds {', '.join(lacking)}; name or map them."))
            if problems:
                raise InvalidUpload(problems[0].message, problems=problems)
            return sheet, head, dict(layout.places)
    example = instrument.items[0].id
    raise _unusable("no_item_columns", f"No column holds an item of {instrument.code}; call them like {example}.")


def _item_key(instrument: Instrument, number: int) -> str:
    return columns.item_key(f"{instrument.code}_{number}") or ""


def _bare_number(name: str) -> int | None:
    plain = cells.narrowed(name)
    return int(plain) if plain.isascii() and plain.isdigit() and len(plain) < 4 else None


def _strangers(instrument: Instrument, items: Mapping[int, Item], ignored: Sequence[str]) -> Iterator[Problem]:
    """Columns that call themselves items of this instrument and are none: then this is another edition."""
    for name in ignored:
        number = _bare_number(name)
        if number is None and (key := columns.item_key(name)):
            words, _, digits = key.partition("|")
            number = int(digits) if key == _item_key(instrument, int(digits)) and words else None
        if number is not None and number not in items:
            message = f"{instrument.code} has no item {number}, only 1 to {max(items)}; is this another edition?"
            yield Problem("unknown_item", message, column=name)


def _unique(names: Sequence[str]) -> list[str]:
    taken: dict[str, int] = {}
    unique = []
    for name in names:
        taken[name] = taken.get(name, 0) + 1
        unique.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return unique


# -- the rows -------------------------------------------------------------------------------------------


def _answers(
    batch: Batch, instrument: Instrument, places: Mapping[str, int], edition: Layout | None, names: Sequence[str]
) -> tuple[pl.DataFrame, list[Problem]]:
    """The items as codes, in which a cell that cannot be read makes its row out of range; and each such cell."""
    problems = [Problem(code, words, row=batch.rows[at]) for at, code, words in batch.faults]
    broken = pl.Series([False]).new_from_index(0, batch.cells.height).scatter([at for at, _, _ in batch.faults], True)
    found: list[pl.Series] = []
    for item_id, place in places.items():
        item = instrument.item(item_id)
        what = f"{instrument.code} item {item.number}"
        # an edition's codes are the printed ones: which cell is right is told by them
        codes = edition.codes_of(item) if edition else {}
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
    """The scorer's columns, critical items told by their ids in one column, and whether one was left blank."""
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
    blank = ["critical_blank"] if critical else []
    return scored.select(*kept, column.replace("", None).alias("critical"), *blank)


def _unbanded(scored: pl.DataFrame) -> pl.DataFrame:
    """The bands were made for another wording, so they say nothing here; their columns stay."""
    return scored.with_columns(pl.lit(None, pl.String).alias(name) for name in scored.columns if "_band" in name)


def _beside(kept: pl.DataFrame, scored: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Scores beside the input; a score whose name the input has already is called after its instrument."""
    taken = set(kept.columns)
    return kept.hstack(scored.rename({name: f"{instrument.code}_{name}" for name in scored.columns if name in taken}))


def _unusable(code: str, words: str) -> InvalidUpload:
    return InvalidUpload(words, problems=[Problem(code, words)])
