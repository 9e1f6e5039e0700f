"""SQL on the hot path: spoken to the database by its own library, inside the session's own transaction.

A short statement costs SQLAlchemy more time than the database, and the driver's cursor still three times of what the
library under it takes: whoever hands in a form, or hears of one, waits for a dozen of them. Everywhere else the
session's own way is the way.
"""

import contextlib
import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

_NAMED = re.compile(r"(?<![:\w]):(\w+)")

Row = dict[str, Any]
FEW = 100
"""Up to so many students at once one plan suits all."""


class Statement:
    """One statement with `:names` as SQLAlchemy's text has them; each connection prepares it once."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._names = list(dict.fromkeys(_NAMED.findall(sql)))
        numbers = {name: f"${number}" for number, name in enumerate(self._names, start=1)}
        self._query = _NAMED.sub(lambda found: numbers[found[1]], sql).encode()
        self._formats = [PyFormat.AUTO] * len(self._names)

    def run(self, session: Session, parameters: Mapping[str, Any], *, is_bulk: bool = False) -> list[Row]:
        """Its rows, in the session's transaction. Raises what the session itself would raise.

        In bulk it is planned for these very values: what suits one student does not suit ten thousand.
        """
        session.flush()
        connection = driver_of(session)
        with self._told_as_the_session_would():
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                _checked(connection, connection.pgconn.exec_(b"begin"))
            return self._said(connection, parameters, is_bulk=is_bulk)

    def first(self, session: Session, parameters: Mapping[str, Any]) -> Row | None:
        """The first of its rows, if there is any."""
        return next(iter(self.run(session, parameters)), None)

    def alone(self, engine: Engine, parameters: Mapping[str, Any]) -> list[Row]:
        """Its rows, as a transaction of its own, in no scope. Raises what a session would raise."""
        with self._told_as_the_session_would(), contextlib.closing(engine.raw_connection()) as held:
            return self._said(_is_ours(held.driver_connection), parameters)

    @contextlib.contextmanager
    def _told_as_the_session_would(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise DBAPIError.instance(self.sql, None, error, psycopg.Error, hide_parameters=True) from error

    def _said(
        self, connection: "psycopg.Connection[Any]", parameters: Mapping[str, Any], *, is_bulk: bool = False
    ) -> list[Row]:
        line, spoken = _line_of(connection), connection.pgconn
        values = [parameters[name] for name in self._names]
        sent: Any = line.adapting.dump_sequence(values, self._formats)  # a None in it is a null
        types, formats = line.adapting.types or (), line.adapting.formats
        if is_bulk:
            found = spoken.exec_params(self._query, sent, types, formats, Format.BINARY)
        else:
            found = spoken.exec_prepared(self._prepared(connection, types), sent, formats, Format.BINARY)
        return _rows(line, _checked(connection, found))

    def _prepared(self, connection: "psycopg.Connection[Any]", types: tuple[int, ...]) -> bytes:
        prepared = _line_of(connection).prepared
        name = prepared.get((self._query, types))
        if name is None:
            name = b"said_%d" % len(prepared)
            _checked(connection, connection.pgconn.prepare(name, self._query, types))
            prepared[self._query, types] = name
        return name


@dataclass(frozen=True)
class _Line:
    """What is known of one connection: how values are written for it, and what it has prepared."""

    adapting: Transformer
    prepared: dict[tuple[bytes, tuple[int, ...]], bytes] = field(default_factory=dict)


_LINES: "weakref.WeakKeyDictionary[psycopg.Connection[Any], _Line]" = weakref.WeakKeyDictionary()


def _line_of(connection: "psycopg.Connection[Any]") -> _Line:
    line = _LINES.get(connection)
    if line is None:
        line = _LINES[connection] = _Line(psycopg.adapt.Transformer(connection))
    return line


def _checked(connection: "psycopg.Connection[Any]", found: PGresult) -> PGresult:
    if found.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        return found
    error = error_from_result(found, connection.info.encoding)
    if isinstance(error, psycopg.errors.InvalidSqlStatementName):  # somebody made the server forget what it prepared
        _LINES.pop(connection, None)
    raise error


def _rows(line: _Line, found: PGresult) -> list[Row]:
    names = [(found.fname(column) or b"").decode() for column in range(found.nfields)]
    line.adapting.set_pgresult(found)
    return line.adapting.load_rows(0, found.ntuples, lambda values: dict(zip(names, values, strict=True)))


def driver_of(session: Session) -> "psycopg.Connection[tuple[object, ...]]":
    """The driver's connection under the session's transaction."""
    transaction = session.get_transaction()
    held, connection = session.info.get("driver", (None, None))
    if transaction is None or held is not transaction:
        connection = session.connection().connection.driver_connection
        session.info["driver"] = (session.get_transaction(), connection)
    return _is_ours(connection)


def _is_ours(connection: object) -> "psycopg.Connection[tuple[object, ...]]":
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("the database is not spoken to by psycopg")
    return connection
