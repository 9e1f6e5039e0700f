"""The walls of a tenant table, as SQL for migrations: forced row security, and what the app's role may do there."""

from collections.abc import Iterable, Iterator

DISTRICT = "district_id = (select nullif(current_setting('screening.district', true), '')::uuid)"
SCHOOLS = (
    "((select current_setting('screening.schools', true)) = '*' or school_id = any ("
    "(select nullif(nullif(current_setting('screening.schools', true), '*'), '')::uuid[])::uuid[]))"
)
"""Settings are read in scalar subqueries: once for a statement, not once for a row. Unset means no row."""


def wall(table: str, *, by_school: bool) -> Iterator[str]:
    """Statements that let a scope see only its own district's rows and, `by_school`, its own schools'."""
    condition = f"{DISTRICT} and {SCHOOLS}" if by_school else DISTRICT
    yield f"alter table {table} enable row level security"
    yield f"alter table {table} force row level security"
    yield f"create policy scope on {table} using ({condition}) with check ({condition})"


def wall_between(table: str, *columns: str) -> Iterator[str]:
    """Statements for a table whose rows belong to the schools that these columns name: each of them sees the row."""
    schools = " or ".join(SCHOOLS.replace("school_id", column) for column in columns)
    condition = f"{DISTRICT} and ({schools})"
    yield f"alter table {table} enable row level security"
    yield f"alter table {table} force row level security"
    yield f"create policy scope on {table} using ({condition}) with check ({condition})"


def grant(role: str, tables: Iterable[str], privileges: str) -> Iterator[str]:
    """Statements that give the app's role these privileges and no others."""
    for table in tables:
        yield f"grant {privileges} on {table} to {role}"
