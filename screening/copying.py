"""Frames in and out of the session's own transaction by COPY: the fast way for many rows."""

import io
from collections.abc import Sequence

import polars as pl
from sqlalchemy.orm import Session

from screening.statements import driver_of

_ROWS_OF_PIECE = 4_000


def copy_in(session: Session, table: str, frame: pl.DataFrame) -> None:
    """Writes a frame into a temporary table with the same columns in the same order."""
    columns = ", ".join(frame.columns)
    connection = driver_of(session)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy {table} ({columns}) from stdin (format csv, null '')".encode()) as copy,
    ):
        # the database reads a piece while the next one is written here
        for piece in frame.iter_slices(_ROWS_OF_PIECE):
            copy.write(piece.write_csv(include_header=False, null_value="", quote_style="necessary"))


def copy_out(
    session: Session, query: str, parameters: Sequence[object], schema: dict[str, type[pl.DataType]]
) -> pl.DataFrame:
    """What a query yields, as a frame of this schema."""
    connection = driver_of(session)
    buffer = io.BytesIO()
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy ({query}) to stdout (format csv)".encode(), parameters) as copy,
    ):
        for part in copy:
            buffer.write(part)
    if buffer.tell() == 0:
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema)
