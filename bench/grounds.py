"""Where the benchmarks of the database take place: a temporary server, and districts of any size with a round open."""

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from bench.population import BATTERY, Population, school_codes
from screening import access, db, embedded, identity, migration, policy, rounds, sealing, staff
from screening.db import Database

MASTER_KEY = bytes(range(32))
_TEMPLATE = "bench_template"
_PIECE = 1 << 18


@dataclass(frozen=True)
class Ground:
    """A district in a database of its own: schools, consenting students, and a round that is open to all of them."""

    server: embedded.Server
    name: str
    population: Population
    district_id: uuid.UUID
    round_id: uuid.UUID
    schools: tuple[uuid.UUID, ...]
    students: pl.DataFrame
    """id (hex) and school (0 ..) in the population's order."""

    @property
    def url(self) -> str:
        """The app's own role: row security holds."""
        return self.server.url(database=self.name, role="app")

    @property
    def scope(self) -> access.Scope:
        return access.Scope(self.district_id)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        opened = Database(self.url, MASTER_KEY)
        try:
            yield opened
        finally:
            opened.dispose()

    def superuser(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.server.url(database=self.name, role="superuser"), autocommit=True)

    def drop(self) -> None:
        self.server.drop_database(self.name)


@contextlib.contextmanager
def server() -> Iterator[embedded.Server]:
    """The product's own server with the product's own settings, gone afterwards."""
    with embedded.temporary() as started:
        prepare(started)
        yield started


def prepare(server: embedded.Server) -> None:
    """Makes the migrated, empty database that grounds are copied from."""
    server.create_database(_TEMPLATE)
    faults = migration.migrate(server.url(database=_TEMPLATE, role="owner"), embedded.APP)
    if faults:
        raise RuntimeError(f"the walls do not stand: {'; '.join(faults)}")


_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "data_checksums",
    "shared_buffers",
    "max_wal_size",
)


def settings(server: embedded.Server) -> dict[str, str]:
    """What the figures of the database depend on."""
    with psycopg.connect(server.superuser_url) as connection:
        found = {name: connection.execute("select current_setting(%s)", [name]).fetchone() for name in _SETTINGS}
    return {name: row[0] if row else "?" for name, row in found.items()} | {"row_security": "on", "audit": "on"}


def filled(
    server: embedded.Server, rows: int, *, battery: Sequence[tuple[str, str, int]] = BATTERY, name: str = ""
) -> Ground:
    """A district of `rows` students with a round of `battery` open. Students come by COPY: they are no benchmark."""
    population = Population(rows)
    name = name or f"bench_{rows}"
    server.create_database(name, template=_TEMPLATE)
    database = Database(server.url(database=name, role="app"), MASTER_KEY)
    try:
        district = staff.create_district(database, "bench", "District of the benchmarks")
        by, scope = access.system(district.id), access.Scope(district.id)
        with database.unit(scope) as session:
            codes = school_codes(population).tolist()
            schools = tuple(staff.create_school(session, code, f"School {code}", by=by).id for code in codes)
            keys = sealing.keys(session)
        students = _enroll(server.url(database=name, role="superuser"), district.id, schools, keys, population)
        with database.unit(scope) as session:
            instant = db.now(session)
            planned = rounds.create(
                session,
                "Round of the benchmarks",
                policy.shipped(),
                [(code, [form]) for code, form, _ in battery],
                range(7, 13),
                opens_at=instant - dt.timedelta(hours=1),
                closes_at=instant + dt.timedelta(days=10),
                by=by,
            )
            round_id = planned.id
            rounds.open_due(session, instant)
    finally:
        database.dispose()
    ground = Ground(server, name, population, district.id, round_id, schools, students)
    settle(ground)
    return ground


def settle(ground: Ground) -> None:
    """What the server does by itself some time after many rows came: statistics, visibility, a checkpoint.

    Of tables without rows it takes no statistics. Those would tell the planner that they are empty, and as long as
    it believes that, it reads all of what has come into them since.
    """
    with ground.superuser() as connection:
        filled = connection.execute(
            "select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
            " and pg_relation_size(oid) > 0"
        )
        for (table,) in filled.fetchall():
            connection.execute(sql.SQL("vacuum (analyze) {}").format(sql.SQL(table)))
        connection.execute("checkpoint")


def copy_in(connection: "psycopg.Connection[Any]", table: str, frame: pl.DataFrame) -> None:
    """A frame into a table's columns of the same names."""
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    content = frame.write_csv(include_header=False).encode()
    statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for start in range(0, len(content), _PIECE):
            copy.write(content[start : start + _PIECE])


def _enroll(
    url: str, district_id: uuid.UUID, schools: Sequence[uuid.UUID], keys: sealing.Keys, population: Population
) -> pl.DataFrame:
    rng = np.random.default_rng([population.seed, 9])
    students = pl.DataFrame({"id": _ids(rng, population.rows), "school": population.school})
    schools_of = pl.Series([str(school) for school in schools]).gather(population.school)
    of_all = {"district_id": pl.lit(str(district_id)), "school_id": pl.lit(schools_of)}
    birth_year = 2026 - 6 - population.grades.astype(np.int32)
    with psycopg.connect(url) as connection:
        # the keys are right by construction, and checking them would only make the preparation slow
        connection.execute("set session_replication_role = replica")
        copy_in(
            connection,
            "students",
            students.select(
                "id",
                **of_all,
                sex=pl.lit(pl.Series(np.where(population.is_girl, "f", "m"))),
                born_month=pl.lit(pl.Series([f"{year}-03-01" for year in birth_year.tolist()])),
            ),
        )
        hashes = identity.number_hashes(keys, population.numbers)
        copy_in(
            connection,
            "enrollments",
            students.select(
                pl.lit(pl.Series(_ids(rng, population.rows))).alias("id"),
                pl.col("id").alias("student_id"),
                **of_all,
                grade=pl.lit(pl.Series(population.grades)),
                number_hash=pl.lit(pl.Series([f"\\x{value.hex()}" for value in hashes])),
                since_on=pl.lit("2026-09-01"),
            ),
        )
        copy_in(
            connection,
            "consents",
            students.select(
                pl.lit(pl.Series(_ids(rng, population.rows))).alias("id"),
                pl.col("id").alias("student_id"),
                **of_all,
                decision=pl.lit("granted"),
                given_by=pl.lit("guardian"),
                notice_version=pl.lit("1"),
                channel=pl.lit("paper"),
                decided_at=pl.lit("2026-09-01T08:00:00+08:00"),
            ),
        )
    return students


def _ids(rng: np.random.Generator, count: int) -> list[str]:
    """Random UUIDs of version 4, in no order, as the product makes them."""
    content = rng.integers(0, 256, (count, 16), np.uint8)
    content[:, 6] = content[:, 6] & 0x0F | 0x40
    content[:, 8] = content[:, 8] & 0x3F | 0x80
    text = content.tobytes().hex()
    return [text[start : start + 32] for start in range(0, 32 * count, 32)]
