"""Parquet files: typed columns turned into the text that a spreadsheet would show."""

import io
from collections.abc import Iterator, Sequence
from functools import cached_property

import polars as pl

from screening.reading.files import Batch, File, HeadRow, invalid
from screening.reading.plan import Limits

_ROWS = 50_000


def open_parquet(data: bytes, limits: Limits) -> File:
    """Opens a Parquet file. Raises InvalidUpload when it is damaged or over a limit."""
    try:
        frame = pl.scan_parquet(io.BytesIO(data))
        schema = frame.collect_schema()
        n_rows = int(frame.select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise invalid("not_a_table", "The Parquet file is damaged.") from error
    if len(schema) > limits.columns:
        raise invalid("too_many_columns", f"There are more than {limits.columns:,} columns.")
    if n_rows > limits.rows:
        raise invalid("too_many_rows", f"There are more than {limits.rows:,} rows; send the file in parts.")
    return File("parquet", None, iter([_ParquetSheet(frame, schema, n_rows)]), (), has_typed_cells=True)


class _ParquetSheet:
    name = None

    def __init__(self, frame: pl.LazyFrame, schema: pl.Schema, n_rows: int) -> None:
        self._frame, self._schema, self._n_rows = frame, schema, n_rows

    @cached_property
    def head(self) -> Sequence[HeadRow]:
        return [HeadRow(1, self._schema.names())]

    def batches(self, header: HeadRow) -> Iterator[Batch]:
        shown = [_shown(name, kind).alias(str(i)) for i, (name, kind) in enumerate(self._schema.items())]
        for start in range(0, self._n_rows, _ROWS):
            cells = self._frame.slice(start, _ROWS).select(shown).collect()
            yield Batch(cells, pl.int_range(start + 2, start + 2 + cells.height, dtype=pl.Int32, eager=True))

    def close(self) -> None:
        self._frame = pl.LazyFrame()


def _shown(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        # Not text, and not blank either: whoever needs the column will name the cell.
        return pl.when(column.is_null()).then(pl.lit("")).otherwise(pl.lit("[...]"))
    return column.cast(pl.String, strict=False).fill_null("")
