"""Frames in and out of the session's own transaction by COPY: the fast way for many rows."""

import io
from collections.abc import Iterable, Sequence

import polars as pl
from sqlalchemy.orm import Session

from screening.statements import driver_of

_ROWS_OF_PIECE = 4_000


def copy_in(session: Session, table: str, frame: pl.DataFrame) -> None:
    """Writes a frame into a temporary table with the same columns in the same order."""
    copy_pieces_in(session, table, frame.iter_slices(_ROWS_OF_PIECE))


def copy_pieces_in(session: Session, table: str, pieces: Iterable[pl.DataFrame]) -> None:
    """The same with a frame that is made piece by piece: the database reads one while the next one is made."""
    connection = driver_of(session)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy {table} from stdin (format csv, null '')".encode()) as copy,
    ):
        for piece in pieces:
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
