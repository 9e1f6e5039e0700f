"""What a command works on, found by what was typed: the database, a district, a round, a school, a time."""

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.terminal import wrong
from screening import access
from screening.db import Database
from screening.errors import NotFound
from screening.models import District, Round, School
from screening.settings import Settings

OPERATOR_ID = uuid.UUID("6f706572-6174-4f72-8000-000000000001")
"""Under which the account knows whoever has the operator's shell."""
DistrictCode = Annotated[str | None, typer.Option("--district", help="The district's code, where there are several.")]
SchoolCode = Annotated[str | None, typer.Option("--school", help="The school's code.")]
RoundName = Annotated[str, typer.Option("--round", help="The round's id or name.")]
InputFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]


class Held:
    """A database that is closed at the end of a command."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def close(self) -> None:
        self.database.dispose()


@contextlib.contextmanager
def database() -> Iterator[Database]:
    from api import serving
    from screening import migration

    with contextlib.closing(Held(serving.open_database(Settings.read()))) as held:
        with held.database.unit() as session:
            if migration.current(session.connection()) != migration.head():
                wrong("The database is not migrated: run screening migrate.")
        yield held.database


def operator(district_id: uuid.UUID) -> access.Actor:
    return access.Actor(account_id=OPERATOR_ID, district_id=district_id, roles=(access.RoleAt("operator"),))


def districts(database: Database, code: str | None) -> list[tuple[access.Scope, str]]:
    with database.unit() as session:
        rows = session.execute(
            select(District.id, District.code).where(~District.is_probe).order_by(District.code)
        ).all()
    found = [(access.Scope(row.id), row.code) for row in rows if code in (None, row.code)]
    if code is not None and not found:
        raise NotFound(f"There is no district with the code {code}.")
    return found


def district(database: Database, code: str | None) -> tuple[access.Scope, access.Actor]:
    found = districts(database, code)
    if not found:
        raise NotFound("There is no district yet.")
    if len(found) > 1:
        raise ValueError(f"There are several districts; name one with --district: {', '.join(c for _, c in found)}")
    scope = found[0][0]
    return scope, operator(scope.district_id)


def round_named(session: Session, wanted: str) -> Round:
    """The round of that id or name. Raises NotFound for none, ValueError for several of one name."""
    from screening import rounds

    with contextlib.suppress(ValueError):
        return rounds.get(session, uuid.UUID(wanted))
    found = session.scalars(
        select(Round).where(Round.district_id == access.scope_of(session).district_id, Round.name == wanted)
    ).all()
    if not found:
        raise NotFound(f"There is no round {wanted!r}.")
    if len(found) > 1:
        raise ValueError(f"Several rounds are called {wanted!r}; give an id: {', '.join(str(r.id) for r in found)}")
    return found[0]


def school(session: Session, code: str | None) -> uuid.UUID | None:
    if code is None:
        return None
    found = session.scalar(
        select(School.id).where(School.district_id == access.scope_of(session).district_id, School.code == code)
    )
    if found is None:
        raise NotFound(f"There is no school with the code {code}.")
    return found


def moment(text: str, settings: Settings) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time like 2026-09-01T08:00") from None
    return found if found.tzinfo else found.replace(tzinfo=settings.timezone)
