"""The server's roles and their passwords, and the databases that they own and use."""

import json
import os
import secrets
from collections.abc import Mapping
from typing import Literal

import psycopg
from psycopg import sql

from screening.embedded import home
from screening.embedded.home import CannotStart, Places

SUPERUSER, OWNER, APP = "postgres", "screening_owner", "screening_app"
DATABASE = "screening"
Role = Literal["app", "owner", "superuser"]
ROLES: dict[Role, str] = {"app": APP, "owner": OWNER, "superuser": SUPERUSER}


def passwords(places: Places) -> dict[str, str]:
    if places.passwords.exists():
        return read_passwords(places)
    if places.data.exists():
        raise CannotStart(f"{places.passwords} is gone, and with it the way into {places.data}; put it back")
    passwords = {user: secrets.token_urlsafe(32) for user in ROLES.values()}
    aside = places.passwords.with_name(f"{places.passwords.name}.{secrets.token_hex(8)}")
    home.write_private(aside, json.dumps(passwords))
    aside.replace(places.passwords)
    return passwords


def read_passwords(places: Places) -> dict[str, str]:
    with os.fdopen(os.open(places.passwords, os.O_RDONLY | os.O_NOFOLLOW)) as file:
        passwords = json.load(file)
    return {user: str(passwords[user]) for user in ROLES.values()}


def establish(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """Roles and the product's database, if they are not there yet; a first start cut off in between is finished."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        with connection.transaction():
            if OWNER not in present:
                # Forced row security hides rows from the owner too, and data migrations must see them.
                _create_role(connection, OWNER, passwords[OWNER], "BYPASSRLS")
            if APP not in present:
                _create_role(connection, APP, passwords[APP], "NOBYPASSRLS")
                connection.execute("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            create_database(connection, DATABASE, template=None)


def create_database(connection: psycopg.Connection, name: str, *, template: str | None) -> None:
    names = {
        "name": sql.Identifier(name),
        "owner": sql.Identifier(OWNER),
        "app": sql.Identifier(APP),
        "template": sql.Identifier(template or "template1"),
    }
    connection.execute(sql.SQL("CREATE DATABASE {name} OWNER {owner} TEMPLATE {template}").format(**names))
    with connection.transaction():
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {name} FROM PUBLIC").format(**names))
        # TEMPORARY: uploads are copied into a temporary table first.
        connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {app}").format(**names))


def _create_role(connection: psycopg.Connection, name: str, password: str, row_security: str) -> None:
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {} PASSWORD {}").format(
            sql.Identifier(name), sql.SQL(row_security), sql.Literal(verifier.decode())
        )
    )
