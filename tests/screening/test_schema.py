"""The rules that every table keeps, read from the database's own catalogs, so that a later table cannot forget them."""

import os
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

import alerts.models  # noqa: F401 - its tables belong to the schema
from screening import embedded, migration
from screening.db import Database
from screening.models import DISTRICT_WIDE_TABLES, GLOBAL_TABLES, Base

APP = "screening_app"
OUTSIDE = GLOBAL_TABLES | {"alembic_version"}
NEVER_DELETED = frozenset(
    {"alerts", "audit_entries", "results", "administrations", "cases", "referrals", "student_merges", "transfers"}
)
APPEND_ONLY = frozenset(
    {"audit_entries", "results", "administrations", "consents", "interviews", "plans", "recusals", "weighings"}
)

ROWS_PER_FILE = ("stored_files", "uploads")

_TABLES = """
select c.relname as name, c.relrowsecurity as is_walled, c.relforcerowsecurity as is_forced,
       exists (select from pg_attribute a where a.attrelid = c.oid and a.attname in ('school_id', 'to_school_id'))
       as has_school,
       coalesce((select a.attname from pg_constraint k join pg_attribute a
                 on a.attrelid = c.oid and a.attnum = k.conkey[1]
                 where k.conrelid = c.oid and k.contype = 'p'), '') as first_key
from pg_class c where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
"""
_UNIQUE = """
select t.relname as name, i.relname as what, coalesce(a.attname, '') as first_column
from pg_index x join pg_class t on t.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
left join pg_attribute a on a.attrelid = t.oid and a.attnum = x.indkey[0]
where x.indisunique and t.relnamespace = 'public'::regnamespace
"""
_FOREIGN = """
select t.relname as name, k.conname as what, r.relname as target, own.attname as first_column,
       far.attname as first_target
from pg_constraint k join pg_class t on t.oid = k.conrelid join pg_class r on r.oid = k.confrelid
join pg_attribute own on own.attrelid = t.oid and own.attnum = k.conkey[1]
join pg_attribute far on far.attrelid = r.oid and far.attnum = k.confkey[1]
where k.contype = 'f' and t.relnamespace = 'public'::regnamespace
"""
_LURES = """
select t.relname as name, i.relname as what
from pg_index x join pg_class t on t.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
join lateral (select array_agg(a.attname::text order by k.o) as names
              from unnest(x.indkey::int2[]) with ordinality k(n, o)
              join pg_attribute a on a.attrelid = t.oid and a.attnum = k.n) c on true
where not x.indisunique and x.indpred is null and t.relnamespace = 'public'::regnamespace
and c.names[1] = 'district_id' and t.relname <> all (:small)
and exists (select from pg_constraint f join pg_attribute a on a.attrelid = t.oid and a.attname = c.names[2]
            where f.contype = 'f' and f.confrelid = t.oid and x.indkey[0] = any (f.confkey)
            and a.attnum <> all (f.confkey))
"""
_POLICIES = """
select t.relname as name, p.polcmd as command, p.polpermissive as is_permissive,
       coalesce(pg_get_expr(p.polqual, p.polrelid), '') as reads,
       coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') as writes
from pg_policy p join pg_class t on t.oid = p.polrelid
"""
_TRIGGERS = """
select t.relname as name, g.tgname as what from pg_trigger g join pg_class t on t.oid = g.tgrelid
where not g.tgisinternal and t.relnamespace = 'public'::regnamespace
"""
_GRANTS = """
select t.relname as name, p.privilege from pg_class t
cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p(privilege)
where t.relkind in ('r', 'p') and t.relnamespace = 'public'::regnamespace
and has_table_privilege(:app, t.oid, p.privilege)
"""


def broken_rules(connection: Connection) -> list[str]:
    """Every rule that a table of this database breaks, as sentences."""
    tables = connection.execute(text(_TABLES)).all()
    tenants = {table.name for table in tables} - OUTSIDE
    return [
        *_broken_keys(connection, tenants),
        *(
            f"{table.name}: the primary key does not begin with district_id"
            for table in tables
            if table.name in tenants and table.first_key != "district_id"
        ),
        *(
            f"{table.name}: row security is not forced"
            for table in tables
            if table.name in tenants and not (table.is_walled and table.is_forced)
        ),
        *_broken_walls(connection, {table.name: table.has_school for table in tables if table.name in tenants}),
        *(f"{row.name}: has the trigger {row.what}" for row in connection.execute(text(_TRIGGERS))),
        *(
            f"{row.name}: a check of its key may take {row.what} and read the whole district"
            for row in connection.execute(text(_LURES), {"small": list(ROWS_PER_FILE)})
        ),
    ]


def _broken_keys(connection: Connection, tenants: set[str]) -> Iterator[str]:
    for row in connection.execute(text(_UNIQUE)):
        if row.name in tenants and row.first_column != "district_id":
            yield f"{row.name}: unique {row.what} does not begin with district_id"
    for row in connection.execute(text(_FOREIGN)):
        if row.name in tenants and row.target in tenants | {"districts"}:
            wanted = "id" if row.target == "districts" else "district_id"
            if (row.first_column, row.first_target) != ("district_id", wanted):
                yield f"{row.name}: reference {row.what} does not begin with district_id"


def _broken_walls(connection: Connection, tenants: dict[str, bool]) -> Iterator[str]:
    policies = connection.execute(text(_POLICIES)).all()
    for name, has_school in sorted(tenants.items()):
        settings = ["screening.district"]
        if has_school and name not in DISTRICT_WIDE_TABLES:
            settings.append("screening.schools")
        own = [policy for policy in policies if policy.name == name]
        if not own:
            yield f"{name}: has no policy"
        for policy in own:
            for side, condition in (("reading", policy.reads), ("writing", policy.writes)):
                for setting in settings:
                    if setting not in condition:
                        yield f"{name}: its policy does not test {setting} on {side}"


@pytest.fixture
def empty_name(server: embedded.Server) -> Iterator[str]:
    """A database of this test's own into which nothing was migrated."""
    name = f"empty_{os.urandom(6).hex()}"
    server.create_database(name)
    yield name
    server.drop_database(name)


def as_owner(server: embedded.Server, name: str) -> Connection:
    url = make_url(server.url(database=name, role="owner")).set(drivername="postgresql+psycopg")
    return create_engine(url, poolclass=NullPool).connect()


def name_of(database: Database) -> str:
    return str(make_url(database.url).database)


def test_every_table_keeps_the_rules(database: Database) -> None:
    with database.engine.connect() as connection:
        assert broken_rules(connection) == []
        assert migration.faults(connection, APP) == []


def test_every_table_is_a_tenants_or_on_the_closed_list() -> None:
    tables = Base.metadata.tables
    assert {name for name, table in tables.items() if "district_id" not in table.primary_key.columns} == GLOBAL_TABLES
    assert tables.keys() >= DISTRICT_WIDE_TABLES


def test_the_apps_role_owns_nothing_and_rises_above_nothing(database: Database) -> None:
    with database.engine.connect() as connection:
        role = connection.execute(
            text(
                "select rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles"
                " where rolname = current_user"
            )
        ).one()
        assert tuple(role) == (APP, False, False, False, False)
        owned = connection.execute(text("select relname from pg_class where relowner = current_user::regrole")).all()
        assert owned == []


def test_the_app_may_do_no_more_than_its_work(database: Database) -> None:
    with database.engine.connect() as connection:
        granted = {(row.name, row.privilege) for row in connection.execute(text(_GRANTS), {"app": APP})}
        may_delete = {name for name, privilege in granted if privilege == "DELETE"}
        assert not may_delete & NEVER_DELETED
        assert {name for name, privilege in granted if privilege == "UPDATE"} & APPEND_ONLY == set()
        assert {privilege for _, privilege in granted} <= {"SELECT", "INSERT", "UPDATE", "DELETE"}
        assert {privilege for name, privilege in granted if name == "alembic_version"} == {"SELECT"}
        may_create = connection.execute(text("select has_schema_privilege(current_user, 'public', 'CREATE')")).scalar()
        assert may_create is False


def test_the_migrations_make_what_the_models_say(server: embedded.Server, fresh_database: Database) -> None:
    with as_owner(server, name_of(fresh_database)) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert migration.current(connection) == migration.head()


def test_the_schema_goes_up_and_down_and_up_again(server: embedded.Server, empty_name: str) -> None:
    url = server.url(database=empty_name, role="owner")
    assert migration.migrate(url, APP) == []
    command.downgrade(migration._config(url, APP), "base")
    with as_owner(server, empty_name) as connection:
        left = connection.execute(
            text("select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
        ).scalars()
        assert set(left) == {"alembic_version"}
    assert migration.migrate(url, APP) == []
    assert migration.migrate(url, APP) == []
    with as_owner(server, empty_name) as connection:
        assert broken_rules(connection) == []


FORGOTTEN = [
    (
        "create table diaries (district_id uuid, id uuid, primary key (district_id, id))",
        {"diaries: row security is not forced", "diaries: has no policy"},
    ),
    (
        "create table diaries (id uuid primary key, district_id uuid)",
        {
            "diaries: row security is not forced",
            "diaries: has no policy",
            "diaries: the primary key does not begin with district_id",
            "diaries: unique diaries_pkey does not begin with district_id",
        },
    ),
    ("alter table alerts no force row level security", {"alerts: row security is not forced"}),
    (
        "create unique index one_number on enrollments (number_hash) where until_on is null",
        {"enrollments: unique one_number does not begin with district_id"},
    ),
    (
        "drop policy scope on cases; create policy scope on cases using"
        " (district_id = nullif(current_setting('screening.district', true), '')::uuid)",
        {
            "cases: its policy does not test screening.schools on reading",
            "cases: its policy does not test screening.district on writing",
            "cases: its policy does not test screening.schools on writing",
        },
    ),
    (
        "create unique index by_id on students (district_id, id, sex);"
        " create unique index by_single_id on students (id);"
        " alter table drafts add constraint loose foreign key (assignment_id) references students (id)",
        {
            "students: unique by_single_id does not begin with district_id",
            "drafts: reference loose does not begin with district_id",
        },
    ),
    (
        "create function nothing() returns trigger language plpgsql as 'begin return new; end';"
        " create trigger quiet before insert on results for each row execute function nothing()",
        {"results: has the trigger quiet"},
    ),
    (
        "create index newest on alerts (district_id, raised_at)",
        {"alerts: a check of its key may take newest and read the whole district"},
    ),
]


@pytest.mark.parametrize(("statement", "wanted"), FORGOTTEN)
def test_what_a_migration_forgets_is_noticed(
    server: embedded.Server, fresh_database: Database, statement: str, wanted: set[str]
) -> None:
    with as_owner(server, name_of(fresh_database)) as connection:
        connection.execute(text(statement))
        assert set(broken_rules(connection)) == wanted


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        (
            "create table diaries (district_id uuid, id uuid, primary key (district_id, id))",
            "row security is not forced on diaries",
        ),
        ("alter table alerts disable row level security", "row security is not forced on alerts"),
        ("alter table students no force row level security", "row security is not forced on students"),
    ],
)
def test_a_fallen_wall_is_named_after_migrating(
    server: embedded.Server, fresh_database: Database, statement: str, wanted: str
) -> None:
    name = name_of(fresh_database)
    with as_owner(server, name) as connection:
        connection.execute(text(statement))
        connection.commit()
    assert migration.migrate(server.url(database=name, role="owner"), APP) == [wanted]
