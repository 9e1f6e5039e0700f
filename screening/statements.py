"""SQL on the hot path: sent by the driver itself, inside the session's own transaction.

A short statement costs SQLAlchemy more time than the database: whoever hands in a form, or hears of one, waits for
several of them. Everywhere else the session's own way is the way.
"""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

_NAMED = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """One statement with `:names` as SQLAlchemy's text has them; the driver prepares what recurs."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._query = _NAMED.sub(r"%(\1)s", sql.replace("%", "%%"))

    def run(self, session: Session, parameters: Mapping[str, Any]) -> "psycopg.Cursor[dict[str, Any]]":
        """Runs it in the session's transaction; rows come as dicts. Raises what the session itself would raise."""
        session.flush()
        cursor = driver_of(session).cursor(row_factory=dict_row)
        try:
            return cursor.execute(self._query, parameters)
        except psycopg.Error as error:
            raise DBAPIError.instance(self.sql, None, error, psycopg.Error, hide_parameters=True) from error


def driver_of(session: Session) -> "psycopg.Connection[tuple[object, ...]]":
    """The driver's connection under the session's transaction."""
    transaction = session.get_transaction()
    held, connection = session.info.get("driver", (None, None))
    if transaction is None or held is not transaction:
        connection = session.connection().connection.driver_connection
        session.info["driver"] = (session.get_transaction(), connection)
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("the session does not stand on psycopg")
    return connection
