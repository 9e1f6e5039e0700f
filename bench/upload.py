"""A file of answers from `received` to its committed receipt, beside a bare COPY of exactly the rows it left behind.

The reference is taken in the product's own schema: the rows that a load added are copied out, their tables emptied,
and the same rows copied in by a superuser, past row security but with every key, index and foreign key in place.
"""

import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from psycopg import sql

from bench import apart, grounds
from bench.figures import Figure, Report
from bench.grounds import MASTER_KEY, Ground
from bench.population import Truth, truth
from instruments import catalogue
from screening import access, embedded, intake, reading
from screening.db import Database

MOST_SECONDS = {28_000: 5.0}
MOST_MB = 600
LEAST_RATIO = 0.25
_PIECE = 1 << 18


def bench(report: Report, server: embedded.Server, sizes: list[int], runs: int) -> Ground | None:
    """Measures every size; returns the ground of the last one, with its answers loaded."""
    report.begin("B. Upload of PHQ-9, GAD-7 and PSC-17, from `received` to the committed receipt")
    medians, ground = {}, None
    for rows in sizes:
        if ground is not None:
            ground.drop()
        ground, opened = _ground(server, rows)
        report.note("upload", f"{rows:,} students: preparing them and opening the round took {opened:.1f} s")
        medians[rows] = _size(report, ground, runs)
    report.growth("upload", "product", medians)
    return ground


def loaded(report: Report, server: embedded.Server, rows: int) -> Ground:
    """A district whose answers were loaded by the product, for benchmarks of what comes after."""
    ground = grounds.filled(server, rows, name=f"bench_loaded_{rows}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "answers.csv"
        ground.population.write(path)
        _load(report, ground, received(ground, path), truth(ground.population))
    return ground


def _ground(server: embedded.Server, rows: int) -> tuple[Ground, float]:
    start = time.perf_counter()
    return grounds.filled(server, rows), time.perf_counter() - start


def _size(report: Report, ground: Ground, runs: int) -> float:
    rows = ground.population.rows
    expected = truth(ground.population)
    found: list[_Load] = []
    copied: list[_Copied] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "answers.csv"
        ground.population.write(path)
        megabytes = path.stat().st_size / 1e6
        for number in range(runs):
            upload_id = received(ground, path)
            before = _Before.of(ground)
            found.append(_load(report, ground, upload_id, expected))
            copied.append(_copied(ground, before, Path(folder), is_last=number == runs - 1))
    report.check(f"upload {rows} rows: rows left by each run", len({str(sorted(c.rows.items())) for c in copied}), 1)
    seconds, bare = [load.seconds for load in found], [copy.seconds for copy in copied]
    most = MOST_SECONDS.get(rows)
    worker, reader = max(load.worker_mb for load in found), max(load.reader_mb for load in found)
    figure = Figure(
        "upload", f"{rows:,} students, file of {megabytes:.1f} MB", seconds, "bare COPY", bare,
        rows=rows, peak_mb={"worker": worker, "reader": reader},
        goal=f"ratio >= {LEAST_RATIO}, <= {MOST_MB} MB each" + (f", <= {most:g} s" if most else ""),
        more={"rows_copied": copied[0].rows},
    )  # fmt: skip
    is_met = (figure.ratio or 0) >= LEAST_RATIO and max(worker, reader) <= MOST_MB
    is_met = is_met and (most is None or figure.median <= most)
    report.add(Figure(**{**figure.__dict__, "is_met": is_met}))
    middle = sorted(found, key=lambda load: load.seconds)[len(found) // 2]
    phases = " | ".join(f"{name} {value:.2f}" for name, value in middle.phases.items())
    report.note("upload", f"  seconds of {middle.seconds:.2f}: {phases}", phases=middle.phases, rows=rows)
    slowest = dict(sorted(middle.statements.items(), key=lambda found: -found[1])[:6])
    report.note("upload", f"  slowest statements: {'; '.join(f'{v:.2f} {k}' for k, v in slowest.items())}",
                statements=middle.statements, rows=rows)  # fmt: skip
    taxed = statistics.median(copy.seconds / copy.seconds_unchecked for copy in copied)
    report.note(
        "upload", f"  foreign keys: bare COPY takes {taxed:.2f} x what it takes without them", taxed=round(taxed, 3)
    )
    slowest = dict(sorted(copied[-1].tables.items(), key=lambda found: -found[1])[:6])
    report.note("upload", f"  bare COPY: {'; '.join(f'{v:.2f} {k}' for k, v in slowest.items())}",
                tables=copied[-1].tables, rows=rows)  # fmt: skip
    return figure.median


# -- one load -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Load:
    seconds: float
    worker_mb: float
    reader_mb: float
    phases: dict[str, float]
    statements: dict[str, float]


def received(ground: Ground, path: Path) -> uuid.UUID:
    """Hands the file in; returns the upload that waits."""
    with ground.database() as database, database.unit(ground.scope) as session:
        by = access.Actor(uuid.uuid4(), ground.district_id, uuid.uuid4(), (access.RoleAt("district_admin"),))
        sent = intake.receive(session, ground.round_id, _pieces(path), file_name="answers.csv", by=by)
        return sent.id


def _load(report: Report, ground: Ground, upload_id: uuid.UUID, expected: Truth) -> _Load:
    """Loads what waits, and checks what came of it."""
    done = worked(ground, upload_id)
    _check(report, ground, upload_id, expected)
    return _Load(
        done.value["seconds"], done.peak_mb, done.child_peak_mb, done.value["phases"], done.value["statements"]
    )


def worked(ground: Ground, upload_id: uuid.UUID) -> apart.Outcome:
    """Lets a worker in a process of its own load what waits."""
    return apart.run("bench.upload:work", url=ground.url, district=str(ground.district_id), upload=str(upload_id))


def _check(report: Report, ground: Ground, upload_id: uuid.UUID, expected: Truth) -> None:
    rows = ground.population.rows
    with ground.superuser() as connection:

        def asked(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query, {"upload": upload_id, "round": ground.round_id}).fetchall()

        (state, receipt) = asked("select state, receipt from uploads where id = %(upload)s")[0]
        report.check(f"upload {rows} rows: state", state, "loaded")
        for form, outcomes in expected.forms.items():
            told = {name: number for name, number in receipt["forms"][form].items() if number}
            report.check(f"upload {rows} rows: {form}", told, {name: n for name, n in outcomes.items() if n})
        tiers = dict(asked("select tier, count(*) from results where round_id = %(round)s group by tier"))
        report.check(f"upload {rows} rows: results by tier", tiers, expected.results_by_tier)
        alerts = dict(asked("select tier, count(*) from alerts where round_id = %(round)s group by tier"))
        report.check(f"upload {rows} rows: alerts by tier", alerts, expected.alerts_by_tier)
        (unweighed,) = asked(
            "select count(*) from results r where not exists (select from weighings w where w.round_id = r.round_id"
            " and w.student_id = r.student_id and w.revision = r.revision)"
        )[0]
        report.check(f"upload {rows} rows: unweighed results", unweighed, 0)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


# -- in the worker's process ----------------------------------------------------------------------------------------


def work(url: str, district: str, upload: str) -> dict[str, Any]:
    """Loads one upload as the worker does; returns seconds in all, by phase and by statement."""
    from alerts import raising

    database = Database(url, MASTER_KEY)
    with database.unit() as session:  # a worker that has been running is connected, and has read files before
        session.connection()
    _read_something()
    watch = _Watch(database)
    start = time.perf_counter()
    is_done = intake.load(
        database, uuid.UUID(district), uuid.UUID(upload), weigh=watch.watched("weighing, alerts", raising.weigh_load)
    )
    seconds = time.perf_counter() - start
    database.dispose()
    if not is_done:
        raise RuntimeError("the upload was not loaded")
    phases = dict(watch.phases) | {"the rest": seconds - sum(watch.phases.values())}
    return {"seconds": seconds, "phases": phases, "statements": dict(watch.statements)}


def _read_something() -> None:
    plan = reading.AnswersPlan(((catalogue.get("phq9").body, "self"),))
    for _ in reading.read_answers([b"student_number,phq9_1\n1,0\n"], plan):
        pass


class _Watch:
    """Where the time goes: a few calls of a load, and its SQL statements, by the clock."""

    def __init__(self, database: Database) -> None:
        from sqlalchemy import event

        from screening import coverage, matching, reading, receipts, results

        self.phases: dict[str, float] = defaultdict(float)
        self.statements: dict[str, float] = defaultdict(float)
        self._began = 0.0
        reading.read_answers = self._watched_reading(reading.read_answers)
        for module, name, phase in (
            (matching, "match", "matching"),
            (results, "send_forms", "sending forms"),
            (results, "append_forms", "forms"),
            (results, "decided", "deciding"),
            (results, "append_results", "results"),
            (coverage, "recount", "coverage"),
            (receipts, "end", "receipt"),
        ):
            setattr(module, name, self.watched(phase, getattr(module, name)))
        event.listen(database.engine, "before_cursor_execute", self._before)
        event.listen(database.engine, "after_cursor_execute", self._after)

    def watched(self, phase: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._phase(phase):
                return act(*args, **kwargs)

        return timed

    def _watched_reading(self, read: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def timed(*args: Any) -> Iterator[Any]:
            with self._phase("reading"):
                found = list(read(*args))  # the loader keeps all parts too
            yield from found

        return timed

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] += time.perf_counter() - start

    def _before(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _after(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self.statements[" ".join(statement.split())[:60]] += time.perf_counter() - self._began


# -- the reference --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Before:
    """How the tables stood before a load."""

    rows: dict[str, int]
    transaction: int

    @classmethod
    def of(cls, ground: Ground) -> "_Before":
        with ground.superuser() as connection:
            row = connection.execute("select pg_current_xact_id()::text").fetchone()
            return cls(_row_counts(connection), int(row[0]) if row else 0)


@dataclass(frozen=True)
class _Copied:
    seconds: float
    tables: dict[str, float]
    rows: dict[str, int]
    seconds_unchecked: float
    """The same with every foreign key unchecked: what those cost."""


def _copied(ground: Ground, before: _Before, folder: Path, *, is_last: bool) -> _Copied:
    """Copies the rows a load added out and in again. They stay after the last run, and are removed otherwise."""
    with ground.superuser() as connection:
        now = _row_counts(connection)
        tables = [table for table in _parents_first(connection) if now[table] > before.rows[table]]
        columns = {table: _columns(connection, table) for table in tables}
        for table in tables:
            _copy_out(connection, table, columns[table], before.transaction, folder / table)
        _empty(connection, tables)
        connection.execute("set session_replication_role = replica")
        unchecked = _timed_copy(connection, columns, folder)
        connection.execute("reset session_replication_role")
        _empty(connection, tables)
        found = _timed_copy(connection, columns, folder)
        rows = {table: count for table, count in _row_counts(connection).items() if table in tables}
        if not is_last:
            _empty(connection, tables)
    return _Copied(sum(found.values()), found, rows, sum(unchecked.values()))


def _timed_copy(
    connection: "psycopg.Connection[Any]", columns: dict[str, sql.Composed], folder: Path
) -> dict[str, float]:
    """Seconds by table, and of the commit."""
    found = {}
    began = time.perf_counter()
    with connection.transaction():
        for table, names in columns.items():
            _copy_in(connection, table, names, folder / table)
            found[table], began = time.perf_counter() - began, time.perf_counter()
    return found | {"commit": time.perf_counter() - began}


def _row_counts(connection: "psycopg.Connection[Any]") -> dict[str, int]:
    tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    counts = {}
    for (table,) in tables:
        row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
        counts[table] = row[0] if row else 0
    return counts


def _parents_first(connection: "psycopg.Connection[Any]") -> list[str]:
    references = connection.execute(
        "select distinct conrelid::regclass::text, confrelid::regclass::text from pg_constraint"
        " where contype = 'f' and conrelid <> confrelid"
    ).fetchall()
    waiting = {row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")}
    ordered: list[str] = []
    while waiting:
        ready = sorted(
            table for table in waiting if not any(parent in waiting for child, parent in references if child == table)
        )
        if not ready:
            raise RuntimeError(f"{', '.join(sorted(waiting))} refer to each other")
        ordered += ready
        waiting -= set(ready)
    return ordered


def _columns(connection: "psycopg.Connection[Any]", table: str) -> sql.Composed:
    found = connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        " and attgenerated = '' order by attnum",
        [table],
    )
    return sql.SQL(", ").join(sql.Identifier(row[0]) for row in found)


def _copy_out(connection: "psycopg.Connection[Any]", table: str, columns: sql.Composed, since: int, path: Path) -> None:
    query = sql.SQL("copy (select {} from {} where xmin::text::bigint >= {}) to stdout").format(
        columns, sql.Identifier(table), sql.Literal(since)
    )
    with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(query) as copy:
        for piece in copy:
            file.write(piece)


def _copy_in(connection: "psycopg.Connection[Any]", table: str, columns: sql.Composed, path: Path) -> None:
    statement = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for piece in _pieces(path):
            copy.write(piece)


def _empty(connection: "psycopg.Connection[Any]", tables: list[str]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    connection.execute(sql.SQL("truncate {} cascade").format(names))
    connection.execute("checkpoint")
