"""A row per school of two districts in every tenant table, for whatever looks at walls rather than at what rows say."""

import uuid
from dataclasses import dataclass

import psycopg
from psycopg import sql

import alerts.models  # noqa: F401 - its tables belong to the schema
from screening.models import DISTRICT_WIDE_TABLES, GLOBAL_TABLES, Base

TENANTS = sorted(Base.metadata.tables.keys() - GLOBAL_TABLES)
SCHOOL_COLUMNS = {
    name: [c.name for c in Base.metadata.tables[name].columns if c.name.endswith("school_id")] for name in TENANTS
}
NAMED = sorted(name for name in TENANTS if SCHOOL_COLUMNS[name] and name not in DISTRICT_WIDE_TABLES)
"""Named work: its rows belong to schools."""

_NUMBER = "floor(random() * 30000)"
_VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "gen_random_uuid()::text",
    "bytea": "uuid_send(gen_random_uuid())",
    "integer": _NUMBER,
    "bigint": _NUMBER,
    "smallint": _NUMBER,
    "real": "1",
    "double precision": "1",
    "numeric": "1",
    "boolean": "false",
    "date": f"current_date + {_NUMBER}::int",
    "timestamp with time zone": "now()",
    "jsonb": "'{}'::jsonb",
    "ARRAY": "'{}'",
}
"""By chance, so that no key is taken twice."""


@dataclass(frozen=True)
class Filled:
    """Whose rows there are, and how one more is added to any table."""

    ours: uuid.UUID
    theirs: uuid.UUID
    school_a: uuid.UUID
    school_b: uuid.UUID
    columns: dict[str, list[tuple[str, str]]]

    def insert(self, table: str, district_id: uuid.UUID, school_id: uuid.UUID) -> str:
        """A statement that adds a row of that district and school to any tenant table."""
        values = {name: _VALUES[kind] for name, kind in self.columns[table]}
        values |= dict.fromkeys(SCHOOL_COLUMNS[table], f"'{school_id}'")
        values |= {"district_id": f"'{district_id}'"}
        return f"insert into {table} ({', '.join(values)}) values ({', '.join(values.values())})"


def fill(superuser_url: str) -> Filled:
    """Fills a database of a test's own; what a row says and refers to is no matter there, only whose it is."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        made = Filled(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), _needed(connection))
        for table, constraint in connection.execute(
            "select conrelid::regclass::text, conname from pg_constraint where contype = 'c'"
            " and connamespace = 'public'::regnamespace"
        ).fetchall():
            drop = sql.SQL("alter table {} drop constraint {}")
            connection.execute(drop.format(sql.Identifier(str(table)), sql.Identifier(str(constraint))))
        connection.execute("set session_replication_role = replica")
        theirs = (uuid.uuid4(), uuid.uuid4())
        for district_id, schools in ((made.ours, (made.school_a, made.school_b)), (made.theirs, theirs)):
            for school_id in schools:
                for table in TENANTS:
                    connection.execute(made.insert(table, district_id, school_id).encode())
    return made


def _needed(connection: "psycopg.Connection[tuple[object, ...]]") -> dict[str, list[tuple[str, str]]]:
    """The columns of every table that a row must give."""
    found: dict[str, list[tuple[str, str]]] = {}
    for table, name, kind in connection.execute(
        "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public'"
        " and is_generated = 'NEVER' and is_identity = 'NO' and column_default is null and is_nullable = 'NO'"
    ).fetchall():
        found.setdefault(str(table), []).append((str(name), str(kind)))
    return found
