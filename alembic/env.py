"""Runs the migrations as the owner's role; the app's role gets its grants in them and owns nothing."""

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

import alerts.models  # noqa: F401 - its tables belong to the schema
from screening.models import Base
from screening.settings import Settings


def owner_url() -> str:
    given = context.config.attributes.get("owner_url")
    return str(given or Settings.read().database_owner_url or "")


def run() -> None:
    engine = create_engine(make_url(owner_url()).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
        with context.begin_transaction():
            context.run_migrations()


run()
