"""SQL on the hot path: spoken to the database by its own library, inside the session's own transaction.

A short statement costs SQLAlchemy more time than the database, and the driver's cursor still three times of what the
library under it takes; and each trip to the database and back wakes two processes, which costs both of them more than
most statements do. Whoever hands in a form, or hears of one, waits for a dozen of them: they go straight to the
library, what need not be answered at once goes along with what is asked next, and what is only written may be sent
ahead. Everywhere else the session's own way is the way.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.abc import PQGen, Transformer
from psycopg.adapt import PyFormat
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Wait
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import PoolProxiedConnection

_NAMED = re.compile(r"(?<![:\w]):(\w+)")

Row = dict[str, Any]
FEW = 100
"""Up to so many students at once one plan suits all."""


class Statement:
    """One statement with `:names` as SQLAlchemy's text has them; each connection prepares it once.

    One that `is_planned_once` is not planned anew for the values of each time, even where the planner believes that
    to pay: a long statement takes longer to plan than to run.
    """

    def __init__(self, sql: str, *, is_planned_once: bool = False) -> None:
        self.sql = sql
        self.is_planned_once = is_planned_once
        self.names = list(dict.fromkeys(_NAMED.findall(sql)))
        numbers = {name: f"${number}" for number, name in enumerate(self.names, start=1)}
        self.query = _NAMED.sub(lambda found: numbers[found[1]], sql).encode()
        self.formats = [PyFormat.AUTO] * len(self.names)

    def run(self, session: Session, parameters: Mapping[str, Any], *, is_bulk: bool = False) -> list[Row]:
        """Its rows, in the session's transaction. Raises what the session itself would raise.

        In bulk it is planned for these very values: what suits one student does not suit ten thousand.
        """
        if is_bulk:
            return _line_in(session).said_in_bulk(self, parameters)
        return self.later(session, parameters).rows()

    def first(self, session: Session, parameters: Mapping[str, Any]) -> Row | None:
        """The first of its rows, if there is any."""
        return next(iter(self.run(session, parameters)), None)

    def later(self, session: Session, parameters: Mapping[str, Any]) -> "Later":
        """Puts it off until something is asked in the session's transaction, or it commits: one trip for both.

        It is always said before whatever comes after it, and what it raises is raised then.
        """
        return _line_in(session).put_off(self, parameters)

    def alone(self, engine: Engine, parameters: Mapping[str, Any]) -> list[Row]:
        """Its rows, as a transaction of its own, in no scope. Raises what a session would raise."""
        try:
            with contextlib.closing(engine.raw_connection()) as held:
                line = _line_of(held)
                asked = Later(line, self, *line.written(self, parameters))
                line.say([asked])
                return asked.rows()
        except psycopg.Error as error:  # there is no line, or it breaks while it is given back
            raise _as_the_session_would(self, error) from error


@dataclass(eq=False)
class Later:
    """A statement that was put off."""

    line: "_Line"
    statement: Statement
    sent: Any
    types: tuple[int, ...]
    formats: Sequence[Format]
    answer: PGresult | None = None

    def rows(self) -> list[Row]:
        """Its rows, for which it is said now if it was not yet. Raises what the session itself would raise."""
        return self.line.rows(self._answered())

    def tuples(self) -> list[tuple[Any, ...]]:
        """Its rows without names, for those who want many."""
        return self.line.tuples(self._answered())

    def _answered(self) -> PGresult:
        if self.answer is None:
            self.line.say_what_waits()
        if self.answer is None:
            raise RuntimeError("this was put off in a transaction that is over")
        return self.answer


_BEGIN, _COMMIT = Statement("begin"), Statement("commit")
_PLAN_ONCE, _PLAN_AS_USUAL = (
    Statement(f"select set_config('plan_cache_mode', '{mode}', true)") for mode in ("force_generic_plan", "auto")
)


@dataclass(eq=False)
class _Line:
    """One connection: how values are written for it, what it has prepared, what waits to be said, or heard."""

    connection: "psycopg.Connection[Any]"
    adapting: Transformer
    prepared: dict[tuple[bytes, tuple[int, ...]], bytes] = field(default_factory=dict)
    waiting: list[Later] = field(default_factory=list)
    unheard: list[Later] = field(default_factory=list)
    n_prepared: int = 0

    def put_off(self, statement: Statement, parameters: Mapping[str, Any]) -> Later:
        self._begin()
        made = Later(self, statement, *self.written(statement, parameters))
        if statement.is_planned_once:
            self.waiting += [self._plain(_PLAN_ONCE), made, self._plain(_PLAN_AS_USUAL)]
        else:
            self.waiting.append(made)
        return made

    def _plain(self, statement: Statement) -> Later:
        return Later(self, statement, [], (), [])

    def _begin(self) -> None:
        is_at_it = self.waiting or self.unheard
        if not is_at_it and self.connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self.waiting.append(self._plain(_BEGIN))

    def written(self, statement: Statement, parameters: Mapping[str, Any]) -> tuple[Any, tuple[int, ...], Any]:
        values = [parameters[name] for name in statement.names]
        sent = self.adapting.dump_sequence(values, statement.formats)  # a None in it is a null
        return sent, self.adapting.types or (), self.adapting.formats

    def say_what_waits(self) -> None:
        waiting, self.waiting = self.waiting, []
        if waiting:
            self.say(waiting)
        elif self.unheard:
            self.hear()

    def say(self, asked: Sequence[Later]) -> None:
        """In one trip. Raises for the first that failed; what came after it was not done either."""
        if len(asked) == 1 and not self.unheard:
            asked[0].answer = self._answer_to(asked[0])
            return
        self._send(asked)
        self.hear()

    def send_what_waits(self) -> None:
        waiting, self.waiting = self.waiting, []
        if waiting:
            self._send(waiting)
            with self._in_step(waiting):
                self.connection.wait(self._flushed())

    def hear(self) -> None:
        """The answers to what was sent. Raises for the first that failed, as `say` does."""
        asked, self.unheard = self.unheard, []
        with self._in_step(asked):
            self.connection.pgconn.pipeline_sync()
            answers = self.connection.wait(self._heard())
            self.connection.pgconn.exit_pipeline_mode()
        for each, answer in zip(asked, answers, strict=True):
            each.answer = self._checked(each.statement, answer)

    def said_in_bulk(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        self._begin()
        self.say_what_waits()
        sent, types, formats = self.written(statement, parameters)
        try:
            answer = self.connection.pgconn.exec_params(statement.query, sent, types, formats, Format.BINARY)
        except psycopg.Error as error:
            raise _as_the_session_would(statement, error) from error
        return self.rows(self._checked(statement, answer))

    def tuples(self, answer: PGresult) -> list[tuple[Any, ...]]:
        self.adapting.set_pgresult(answer)
        return self.adapting.load_rows(0, answer.ntuples, tuple)

    def rows(self, answer: PGresult) -> list[Row]:
        names = [(answer.fname(column) or b"").decode() for column in range(answer.nfields)]
        return [dict(zip(names, values, strict=True)) for values in self.tuples(answer)]

    def _answer_to(self, asked: Later) -> PGresult:
        name = self._name_of(asked)
        try:
            answer = self.connection.pgconn.exec_prepared(name, asked.sent, asked.formats, Format.BINARY)
        except psycopg.Error as error:
            raise _as_the_session_would(asked.statement, error) from error
        return self._checked(asked.statement, answer)

    def _send(self, asked: Sequence[Later]) -> None:
        names = [self._name_of(each) for each in asked]
        spoken = self.connection.pgconn
        with self._in_step(asked):
            spoken.enter_pipeline_mode()
            for each, name in zip(asked, names, strict=True):
                spoken.send_query_prepared(name, each.sent, each.formats, Format.BINARY)
        self.unheard += asked

    @contextlib.contextmanager
    def _in_step(self, asked: Sequence[Later]) -> Iterator[None]:
        """What is sent and what is heard belong together: a connection that lost its place is of no use any more."""
        try:
            yield
        except BaseException as error:
            self.unheard.clear()
            self.connection.pgconn.finish()
            if isinstance(error, psycopg.Error):
                raise _as_the_session_would(asked[-1].statement, error) from error
            raise

    def _name_of(self, asked: Later) -> bytes:
        key = (asked.statement.query, asked.types)
        name = self.prepared.get(key)
        if name is None:
            if self.unheard:
                self.hear()  # nothing can be prepared between what was sent and its answer
            name = b"said_%d" % self.n_prepared
            self.n_prepared += 1
            try:
                answer = self.connection.pgconn.prepare(name, *key)
            except psycopg.Error as error:
                raise _as_the_session_would(asked.statement, error) from error
            self._checked(asked.statement, answer)
            self.prepared[key] = name
        return name

    def _heard(self) -> PQGen[list[PGresult]]:
        """The answer to each, up to the sign that there is no more."""
        yield from self._flushed()
        spoken = self.connection.pgconn
        answers: list[PGresult] = []
        while True:
            while spoken.is_busy():
                yield Wait.R
                spoken.consume_input()
            answer = spoken.get_result()
            if answer is None:
                continue
            if answer.status == ExecStatus.PIPELINE_SYNC:
                return answers
            answers.append(answer)

    def _flushed(self) -> PQGen[None]:
        while self.connection.pgconn.flush():  # more than the way to the database holds at once
            yield Wait.RW
            self.connection.pgconn.consume_input()

    def _checked(self, statement: Statement, answer: PGresult) -> PGresult:
        if answer.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            return answer
        error: psycopg.Error = error_from_result(answer, self.connection.info.encoding)
        if self.connection.pgconn.status == ConnStatus.BAD:  # the library says that it broke, and gives no code
            error = psycopg.OperationalError(str(error))
        elif isinstance(error, psycopg.errors.InvalidSqlStatementName):  # somebody made the server forget it
            self.prepared.clear()
        raise _as_the_session_would(statement, error) from error


def _as_the_session_would(statement: Statement, error: psycopg.Error) -> BaseException:
    return DBAPIError.instance(statement.sql, None, error, psycopg.Error, hide_parameters=True)


# -- whose line ---------------------------------------------------------------------------------------------------


def driver_of(session: Session) -> "psycopg.Connection[tuple[object, ...]]":
    """The driver's connection under the session's transaction, to which nothing is left to say."""
    line = _line_of_transaction(session)
    line.say_what_waits()
    return line.connection


def send_what_waits(session: Session) -> None:
    """Sends what was put off and hears of it later: the database is at it while its asker does something else.

    What it raises is raised by what is said next in the session's transaction, at the latest by the commit.
    """
    _line_in(session).send_what_waits()


def _line_in(session: Session) -> _Line:
    """The line of the session's transaction, in which what the session itself had to write is written."""
    session.flush()
    return _line_of_transaction(session)


def _line_of_transaction(session: Session) -> _Line:
    transaction = _transaction_of(session)
    known: tuple[object, _Line] | None = session.info.get("line")
    if transaction is not None and known is not None and known[0] is transaction:
        return known[1]
    line = _line_of(session.connection().connection)
    session.info["line"] = (_transaction_of(session), line)
    return line


def _transaction_of(session: Session) -> SessionTransaction | None:
    """The innermost: a savepoint begins when the session is asked for its connection, which has to be done in each."""
    return session.get_nested_transaction() or session.get_transaction()


def _line_of(held: PoolProxiedConnection) -> _Line:
    line: _Line | None = held.info.get("line")
    if line is None:
        connection = held.driver_connection
        if not isinstance(connection, psycopg.Connection):
            raise TypeError("the database is not spoken to by psycopg")
        line = held.info["line"] = _Line(connection, psycopg.adapt.Transformer(connection))
    return line


@event.listens_for(Engine, "before_cursor_execute")
def _say_what_waits(connection: Connection, *_: object) -> None:
    line: _Line | None = connection.info.get("line")
    if line is not None:
        line.say_what_waits()


@event.listens_for(Engine, "commit")
def _say_it_with_the_commit(connection: Connection) -> None:
    line: _Line | None = connection.info.get("line")
    if line is not None and (line.waiting or line.unheard):
        line.put_off(_COMMIT, {})
        line.say_what_waits()


@event.listens_for(Engine, "rollback")
@event.listens_for(Engine, "rollback_savepoint")
def _leave_unsaid(connection: Connection, *_: object) -> None:
    if connection.closed or connection.invalidated:
        return
    line: _Line | None = connection.info.get("line")
    if line is not None:
        line.waiting.clear()
        with contextlib.suppress(DBAPIError):  # whatever became of it is undone
            line.say_what_waits()
