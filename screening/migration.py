"""Brings a database to the present schema as its owner, and checks that the walls stand."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

import screening
from screening.models import GLOBAL_TABLES

_PACKAGED = Path(screening.__file__).parent / "_migrations"
_CHECKOUT = Path(screening.__file__).parent.parent / "alembic"


def migrate(owner_url: str, app_role: str) -> list[str]:
    """Runs all migrations that are due and returns what is wrong with the walls afterwards (nothing, if all is well).

    `owner_url` is the owner's connection; `app_role` the role that serves, which gets its grants and owns nothing.
    """
    command.upgrade(_config(owner_url, app_role), "head")
    engine = create_engine(make_url(owner_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        return faults(connection, app_role)


def head() -> str:
    """The newest revision that this code knows."""
    found = ScriptDirectory.from_config(_config("", "")).get_current_head()
    if found is None:
        raise LookupError("no migrations are installed with this code")
    return found


def current(connection: Connection) -> str | None:
    """The revision at which the database stands; None before the first migration."""
    if connection.execute(text("select to_regclass('alembic_version')")).scalar() is None:
        return None
    revision: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return revision


def faults(connection: Connection, app_role: str) -> list[str]:
    """Every way in which roles or row security fall short, as sentences; empty when the walls stand."""
    return [*_role_faults(connection, app_role), *_wall_faults(connection)]


def _role_faults(connection: Connection, app_role: str) -> list[str]:
    role = connection.execute(
        text("select rolsuper, rolbypassrls from pg_roles where rolname = :role"), {"role": app_role}
    ).one_or_none()
    if role is None:
        return [f"the app's role {app_role} does not exist"]
    owned = connection.execute(
        text("select c.relname from pg_class c join pg_roles r on r.oid = c.relowner where r.rolname = :role"),
        {"role": app_role},
    ).scalars()
    found = [f"the app's role owns {name}; it must own nothing" for name in owned]
    if role.rolsuper:
        found.append("the app's role is a superuser")
    if role.rolbypassrls:
        found.append("the app's role may bypass row security")
    return found


def _wall_faults(connection: Connection) -> list[str]:
    tables = connection.execute(
        text(
            "select c.relname, c.relrowsecurity and c.relforcerowsecurity as walled,"
            " exists (select from pg_policy p where p.polrelid = c.oid) as has_policy"
            " from pg_class c where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace"
        )
    )
    open_tables = GLOBAL_TABLES | {"alembic_version"}
    return [
        f"row security is not forced on {table.relname}"
        for table in tables
        if table.relname not in open_tables and not (table.walled and table.has_policy)
    ]


def _config(owner_url: str, app_role: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_PACKAGED if _PACKAGED.is_dir() else _CHECKOUT))
    config.set_main_option("path_separator", "os")
    config.attributes["owner_url"] = owner_url
    config.attributes["app_role"] = app_role
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return config
