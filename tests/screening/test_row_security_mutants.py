"""What raw SQL as the app's role can see of any table, and that every wall and every scope that falls is noticed."""

import ast
import inspect
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import screening
from alerts import destinations, referrals
from api.v1 import referrals as referral_door
from screening import access, audit_chain, coverage, db, embedded, migration, row_security, students
from screening.access import Actor, Scope
from screening.db import Database
from screening.errors import NotFound
from screening.models import DISTRICT_WIDE_TABLES, GLOBAL_TABLES
from tests import sending
from tests.alerts.episodes import RED, in_case
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.doors import app_on, caller
from tests.factories import make_round, make_staff
from tests.files import csv_of, phq9
from tests.screening.every_table import NAMED, SCHOOL_COLUMNS, TENANTS, Filled, fill
from tests.screening.test_schema import broken_rules
from tests.signing import browser, do, somebody_known

SEED = 20260901
APP = "screening_app"
Connection = psycopg.Connection[tuple[object, ...]]

NOWHERE = ("", "00000000-0000-0000-0000-000000000000", "11111111-2222-3333-4444-555555555555")
MALFORMED = ("x", "*", "%", "' or true --", "{}", "null", "0", "🙂", "a" * 5_000, "' union select 1 --")
MALFORMED_SCHOOLS = ("x", "**", " *", "{*}", "{x}", "{", "*,*", "%", "null", "' or true --", "{{},{}}", "🙂")


def own_and(signs: str, own: object) -> list[str]:
    """An id that is ours, with something more."""
    return [f"{own}{sign}" for sign in signs] + [f"{sign}{own}" for sign in signs]


@dataclass(frozen=True)
class Try:
    """A scope as raw SQL sets it, and how many rows of a table may be seen under it; None leaves a setting alone."""

    district: str | None
    schools: str | None
    rows: int
    may_fail: bool = False


def tries(rows: Filled, table: str) -> Iterator[Try]:
    """Every scope under which nothing, or exactly this much, may be seen of a table."""
    one = 1 if table in NAMED else 2
    ours, a = str(rows.ours), str(rows.school_a)
    for district in NOWHERE:
        yield Try(district, "*", 0)
    for district in [*MALFORMED, *own_and("x,;'}", ours), f"{rows.ours},{rows.theirs}"]:
        yield Try(district, "*", 0, may_fail=True)
    for schools in ("", "{}", "{" + str(uuid.UUID(int=1)) + "}"):
        yield Try(ours, schools, 0 if table in NAMED else 2)
    for schools in [*MALFORMED_SCHOOLS, a, f"{a}*", f"{{{a}}}*"]:
        yield Try(ours, schools, 0 if table in NAMED else 2, may_fail=True)
    yield Try(ours, "{" + a + "}", one)
    yield Try(ours, "{" + f"{a},{rows.school_b}" + "}", 2)
    yield Try(ours, "*", 2)
    yield Try(str(rows.theirs), "{" + a + "}", 0 if table in NAMED else 2)
    yield Try(str(rows.theirs), "*", 2)


def seen(connection: Connection, table: str, each: Try) -> int | None:
    """How many rows of the table raw SQL sees under that scope; None when the database will not say."""
    try:
        with connection.transaction(force_rollback=True):
            for name, value in (("district", each.district), ("schools", each.schools)):
                if value is not None:
                    connection.execute("select set_config(%s, %s, true)", (f"screening.{name}", value))
            return _count(connection, table)
    except psycopg.Error as error:
        assert error.sqlstate in ("22P02", "2202E"), error  # no uuid, no array of them
        return None


def _count(connection: Connection, table: str) -> int:
    found = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
    assert found is not None
    return int(str(found[0]))


@pytest.fixture(scope="module")
def name(server: embedded.Server, template: str) -> Iterator[str]:
    """A copy of its own, which mutants may ruin."""
    server.create_database("mutants", template=template)
    yield "mutants"
    server.drop_database("mutants")


@pytest.fixture(scope="module")
def rows(server: embedded.Server, name: str) -> Filled:
    return fill(server.url(database=name, role="superuser"))


@pytest.fixture
def as_app(server: embedded.Server, name: str, rows: Filled) -> Iterator[Connection]:
    """A connection of the app's role to which nobody has said anything yet."""
    with psycopg.connect(server.url(database=name, role="app"), autocommit=True) as connection:
        yield connection


# -- raw SQL --------------------------------------------------------------------------------------------


def test_raw_sql_sees_nothing_while_no_scope_is_set(as_app: Connection) -> None:
    assert {table: _count(as_app, table) for table in TENANTS} == dict.fromkeys(TENANTS, 0)


def test_raw_sql_sees_a_scopes_rows_and_none_under_a_foreign_or_malformed_one(
    as_app: Connection, rows: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = refused = 0
    wrong = []
    for table in TENANTS:
        for each in tries(rows, table):
            found = seen(as_app, table, each)
            tried, refused = tried + 1, refused + (found is None)
            if found != each.rows and not (found is None and each.may_fail):
                wrong.append((table, each, found))
    assert wrong == []
    with capsys.disabled():
        print(f"\nraw SQL: {len(TENANTS)} tables, {tried} scopes tried, {refused} refused, 0 rows too many")  # noqa: T201


def test_an_unset_scope_after_another_is_no_scope(as_app: Connection, rows: Filled) -> None:
    for statement in ("reset screening.district", "reset all", "discard all", "set screening.district to default"):
        as_app.execute("select set_config('screening.district', %s, false)", (str(rows.ours),))
        as_app.execute("select set_config('screening.schools', '*', false)")
        assert _count(as_app, "students") == 2
        as_app.execute(statement.encode())
        assert {table: _count(as_app, table) for table in TENANTS} == dict.fromkeys(TENANTS, 0), statement


@pytest.mark.parametrize(
    "statement",
    [
        "alter table students disable row level security",
        "alter table students no force row level security",
        "drop policy scope on students",
        "create policy mine on students using (true)",
        "alter role screening_app bypassrls",
        "set role screening_owner",
        "set session authorization screening_owner",
        "set session_replication_role = replica",
        "truncate students",
        "create view v as select * from students",
        "create function f() returns bigint language sql security definer as 'select count(*) from students'",
        "copy students to program 'cat'",
        "copy (select 1) to '/tmp/x'",
        "select pg_read_file('PG_VERSION')",
        "select * from pg_authid",
    ],
)
def test_the_apps_role_cannot_take_a_wall_down(as_app: Connection, statement: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        as_app.execute(statement.encode())
    assert refused.value.sqlstate == "42501", str(refused.value)


def test_switching_row_security_off_is_an_error_and_not_a_view_of_all(as_app: Connection) -> None:
    as_app.execute("set row_security = off")
    for table in TENANTS:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _count(as_app, table)


# -- walls that fall ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    table: str
    kind: str
    statements: tuple[str, ...]


def _policy(table: str, reads: str, writes: str) -> tuple[str, ...]:
    return (
        f"drop policy scope on {table}",
        f"create policy scope on {table} using ({reads}) with check ({writes})",
    )


def mutants() -> list[Mutant]:
    """Each policy dropped or loosened, each table's row security switched off, each grant or role too wide."""
    found = []
    for table in TENANTS:
        both = " or ".join(row_security.SCHOOLS.replace("school_id", column) for column in SCHOOL_COLUMNS[table])
        whole = f"{row_security.DISTRICT} and ({both})" if table in NAMED else row_security.DISTRICT
        kinds = {
            "policy dropped": (f"drop policy scope on {table}",),
            "row security disabled": (f"alter table {table} disable row level security",),
            "row security not forced": (f"alter table {table} no force row level security",),
            "reads all": _policy(table, "true", whole),
            "writes all": _policy(table, whole, "true"),
            "another policy beside it": (f"create policy beside on {table} using (true)",),
            "truncate granted": (f"grant truncate on {table} to {APP}",),
            "owned by the app": (f"alter table {table} owner to {APP}",),
        }
        if table in NAMED:
            kinds["any school's rows read"] = _policy(table, row_security.DISTRICT, whole)
            kinds["any school's rows written"] = _policy(table, whole, row_security.DISTRICT)
            kinds["any district's rows read"] = _policy(table, both, whole)
            kinds["one school stands for all"] = _policy(table, whole.replace("= '*'", "<> ''"), whole)
        found += [Mutant(table, kind, statements) for kind, statements in kinds.items()]
    for attribute in ("superuser", "bypassrls", "createrole", "createdb"):
        found.append(Mutant("students", attribute, (f"alter role {APP} {attribute}",)))
    return found


def test_every_wall_that_falls_is_noticed(
    server: embedded.Server, name: str, rows: Filled, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    every = mutants()
    taken = every if is_storm else random.Random(SEED).sample(every, len(every) // 20)  # noqa: S311 - a sample
    url = make_url(server.url(database=name, role="superuser")).set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
    before = {table: _alarms(engine, rows, table, ()) for table in {mutant.table for mutant in taken}}
    assert {table: found for table, found in before.items() if found} == {}
    survivors, by_sight = [], 0
    for mutant in taken:
        alarms = _alarms(engine, rows, mutant.table, mutant.statements)
        by_sight += any(alarm.startswith("sight") for alarm in alarms)
        if not alarms:
            survivors.append(mutant)
    with capsys.disabled():
        killed = len(taken) - len(survivors)
        print(f"\nwalls: {len(taken)} of {len(every)} mutants, {killed} killed, {by_sight} of them by what is seen")  # noqa: T201
    assert survivors == []


def _alarms(engine: Any, rows: Filled, table: str, statements: tuple[str, ...]) -> list[str]:
    """What turns red when the database is changed so, which is taken back afterwards."""
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        alarms = [f"catalog: {rule}" for rule in (*broken_rules(connection), *migration.faults(connection, APP))]
        alarms += [f"catalog: {fault}" for fault in _rights_too_wide(connection)]
        connection.execute(text(f"set local role {APP}"))
        raw: Connection = connection.connection.driver_connection
        for each in tries(rows, table):
            found = seen(raw, table, each)
            if found != each.rows and not (found is None and each.may_fail):
                alarms.append(f"sight: {found} rows under {each}")
        alarms += [f"sight: {words}" for words in _writes_too_far(raw, rows, table)]
        connection.rollback()
    return alarms


def _rights_too_wide(connection: Any) -> Iterator[str]:
    for name, policies in connection.execute(
        text("select polrelid::regclass::text, count(*) from pg_policy group by 1 having count(*) > 1")
    ):
        yield f"{name} has {policies} policies"
    for (name,) in connection.execute(
        text(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
            " and has_table_privilege(:app, oid, 'TRUNCATE')"
        ),
        {"app": APP},
    ):
        yield f"{name} may be emptied at once"
    role = connection.execute(
        text("select rolcreaterole, rolcreatedb from pg_roles where rolname = :app"), {"app": APP}
    )
    if tuple(role.one()) != (False, False):
        yield "the app's role may make roles or databases"


def _writes_too_far(connection: Connection, rows: Filled, table: str) -> Iterator[str]:
    """Rows that raw SQL can write outside its scope."""
    attempts = [(str(rows.ours), "*", rows.theirs, rows.school_a), ("", "", rows.ours, rows.school_a)]
    if table in NAMED:
        attempts.append((str(rows.ours), "{" + str(rows.school_a) + "}", rows.ours, rows.school_b))
    for district, schools, district_id, school_id in attempts:
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("select set_config('screening.district', %s, true)", (district,))
                connection.execute("select set_config('screening.schools', %s, true)", (schools,))
                connection.execute(rows.insert(table, district_id, school_id).encode())
        except psycopg.errors.InsufficientPrivilege:
            continue
        except psycopg.errors.ForeignKeyViolation:
            pass  # the wall let it by, and only the reference did not hold
        yield f"a row of {district_id} and {school_id} was written under {district!r}, {schools!r}"


def test_each_tenants_table_has_its_walls_mutants() -> None:
    """So that a table that is added is ruined too."""
    tables = {mutant.table for mutant in mutants()}
    assert tables == set(TENANTS)
    assert not tables & GLOBAL_TABLES
    assert {name for name, columns in SCHOOL_COLUMNS.items() if columns} == set(NAMED) | DISTRICT_WIDE_TABLES


# -- scopes that are not set ----------------------------------------------------------------------------

_ENTER = access.enter
_SCREENING = Path(screening.__file__).parent


def scope_calls() -> list[tuple[str, int]]:
    """Where the scope is set: file and line of every call of `access.enter`."""
    found = []
    for path in sorted(_SCREENING.parent.glob("*/**/*.py")):
        if path.relative_to(_SCREENING.parent).parts[0] not in ("screening", "alerts", "api"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_enter(node.func, is_here=path.name == "access.py"):
                found.append((str(path), node.lineno))
    return found


def _is_enter(called: ast.expr, *, is_here: bool) -> bool:
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        return called.attr == "enter" and called.value.id == "access"
    return is_here and isinstance(called, ast.Name) and called.id == "enter"


def _without(place: tuple[str, int]) -> Callable[[Session, Scope], None]:
    def enter(session: Session, scope: Scope) -> None:
        frame = inspect.currentframe()
        above = frame.f_back if frame else None
        if above is None or (above.f_code.co_filename, above.f_lineno) != place:
            _ENTER(session, scope)

    return enter


def _settings(district: str, schools: str, *, is_local: bool = True) -> Callable[[Session, Scope], None]:
    """Sets something else than what was asked for; `{}` stands for it."""

    def enter(session: Session, scope: Scope) -> None:
        _ENTER(session, scope)
        asked = "*" if scope.schools is None else "{" + ",".join(map(str, scope.schools)) + "}"
        for name, wanted, value in (("district", district, str(scope.district_id)), ("schools", schools, asked)):
            session.execute(
                text("select set_config(:name, :value, :local)"),
                {"name": f"screening.{name}", "value": wanted.replace("{}", value), "local": is_local},
            )

    return enter


def _scope_mutants() -> dict[str, tuple[object, str, object]]:
    """By its name, what is put in place of what."""
    planted: dict[str, tuple[object, str, object]] = {
        "no district": (access, "enter", _settings("", "{}")),
        "no schools": (access, "enter", _settings("{}", "")),
        "every school": (access, "enter", _settings("{}", "*")),
        "outlives its transaction": (access, "enter", _settings("{}", "{}", is_local=False)),
        "sets nothing": (access, "enter", lambda session, scope: session.info.update(scope=scope)),
        "whole district for any role": (Actor, "scope_as", lambda self, roles: Scope(self.district_id)),
        "no school for any role": (Actor, "scope_as", lambda self, roles: Scope(self.district_id, frozenset())),
        "schools of other roles too": (
            Actor,
            "scope_as",
            lambda self, roles: Scope(self.district_id, self.schools_as(*access.ROLES)),
        ),
    }
    for place in scope_calls():
        planted[f"{Path(place[0]).relative_to(_SCREENING.parent)}:{place[1]} left out"] = (
            access,
            "enter",
            _without(place),
        )
    return planted


def test_every_scope_that_is_not_set_is_noticed(
    database: Database, is_storm: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scoped_work(database)
    every = _scope_mutants()
    count = len(every) if is_storm else max(3, len(every) // 10)
    taken = random.Random(SEED).sample(sorted(every), count)  # noqa: S311 - a sample
    survivors = []
    for name in taken:
        with monkeypatch.context() as patched:
            owner, attribute, replacement = every[name]
            patched.setattr(owner, attribute, replacement)
            if not _is_noticed(database):
                survivors.append(name)
        database.engine.dispose()  # nothing that a mutant left on a connection is met again
    with capsys.disabled():
        print(f"\nscopes: {len(taken)} of {len(every)} mutants, {len(taken) - len(survivors)} killed")  # noqa: T201
    assert survivors == []


def _is_noticed(database: Database) -> bool:
    try:
        scoped_work(database)
    except Exception:
        return True
    return False


def scoped_work(database: Database) -> None:
    """A day's work in a district of its own, in which everybody sees what is theirs and nothing else."""
    cast = assemble(database)
    own, theirs = cast.students.granted_13.id, cast.students.in_school_b.id
    with TestClient(app_on(database)) as client:
        an, chen, two_hats = (caller(client, database, who) for who in (cast.an, cast.chen, _two_hats(cast)))
        assert {each["id"] for each in chen.get("/v1/students").json()["students"]} == {str(theirs)}
        assert len(an.get("/v1/students").json()["students"]) == 10
        assert two_hats.get(f"/v1/students/{theirs}/history").status_code == 404
        assert (
            two_hats.get(f"/v1/students/{own}/history").json()["code"] == "access_needed"
        )  # is there, to be asked for
        assert chen.get(f"/v1/students/{own}").status_code == 404
    _signed_in(cast)
    _nothing_left_on_a_connection(cast)
    _widened_and_back(cast, own, theirs)
    _moved_away(cast)
    _figures_of_ones_own_school(cast)
    _place_of_one_referral(cast)
    audit_chain.seal(database, cast.district.id)
    assert audit_chain.verify(database, cast.district.id, ()).entries > 0


def _two_hats(cast: Cast) -> Actor:
    with cast.database.unit(cast.scope) as session:
        return make_staff(session, ("counselor", cast.school_a.id), ("school_admin", cast.school_b.id))[1]


def _signed_in(cast: Cast) -> None:
    """Shows the second factor once more, of which the district keeps account."""
    who = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    comer = browser(app_on(cast.database))
    comer.sign_in(who)
    do(cast.database, "update accounts set last_step = 0 where id = :id", id=who.account_id)
    assert comer.post("/v1/sessions/current/proof", json={"code": who.code()}).status_code == 204
    assert comer.get("/v1/students").status_code == 200


def _nothing_left_on_a_connection(cast: Cast) -> None:
    one = Database(cast.database.url, cast.database.ring, pool_size=1)
    try:
        with one.unit(cast.scope) as session:
            assert session.scalar(text("select count(*) from students")) == 12
        with one.unit() as session:
            assert session.scalar(text("select count(*) from students")) == 0
    finally:
        one.dispose()


def _widened_and_back(cast: Cast, own: uuid.UUID, theirs: uuid.UUID) -> None:
    """Looks across for one act and no longer, also when the act is refused."""

    def here(session: Session) -> set[uuid.UUID]:
        found = session.execute(text("select id from students where id in (:own, :theirs)"), both)
        return {row.id for row in found}

    both = {"own": own, "theirs": theirs}
    with cast.database.unit(cast.scope_a) as session:
        assert here(session) == {own}
        with access.widened(session, [cast.school_b.id]):
            assert here(session) == {own, theirs}
            assert access.scope_of(session).schools == frozenset({cast.school_a.id, cast.school_b.id})
        assert here(session) == {own}
        with pytest.raises(NotFound), access.widened(session, None):
            assert here(session) == {own, theirs}
            students.get(session, uuid.uuid4())
        assert here(session) == {own}


def _moved_away(cast: Cast) -> None:
    """A student who moved keeps the place in the old school's round, and is counted there."""
    moved = cast.students.granted_17.id
    with cast.database.unit(cast.scope) as session:
        opened = make_round(session)
        change = "update students set school_id = :school where district_id = :district and id = :id"
        session.execute(text(change), {"school": cast.school_c.id, "district": cast.district.id, "id": moved})
    content = csv_of(phq9("A001"))
    sent = sending.send(cast, opened.id, content, school_id=cast.school_a.id, by=cast.school_admin_a)
    assert sent.upload.state == "loaded"


def _figures_of_ones_own_school(cast: Cast) -> None:
    """Who counts for the district and works at a school sees that school live, and no other."""
    with cast.database.unit(cast.scope) as session:
        opened = make_round(session)
        both = make_staff(session, ("district_analyst", None), ("counselor", cast.school_a.id))[1]
        coverage.recount(session, opened.id, [cast.school_a.id, cast.school_b.id], db.now(session))
    with TestClient(app_on(cast.database)) as client:
        rows = caller(client, cast.database, both).get(f"/v1/coverage?round={opened.id}&by=school").json()["rows"]
    assert {row["school"] for row in rows} == {"A"}


def _place_of_one_referral(cast: Cast) -> None:
    """A place outside acts in the school of its referral and in no other."""
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        place = destinations.add(session, "hospital", "The Clinic", phone="024-1", by=cast.district_admin, now=now)
        case = in_case(session, cast.students.granted_13, RED, cast.an, at=now)
        made = referrals.make(
            session, case.id, place.id, urgency="urgent", basis="guardian", shared="So.", by=cast.an, now=now
        )
        code, number = referrals.link(session, made.id, by=cast.an, now=now)
    with referral_door._opened(cast.database, referral_door.KeyBody(code=code, number=number)) as (session, found, _):
        assert found.id == made.id
        schools = session.execute(text("select distinct school_id from students")).scalars().all()
        assert schools == [cast.school_a.id]
