"""The database: engine, one transaction per unit of work, and the database's own clock."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from screening import access


class Database:
    """One PostgreSQL database under the app's role. Makes transactions; nothing else in the house commits."""

    def __init__(
        self, url: str, master_key: bytes, *, timezone: ZoneInfo = ZoneInfo("Asia/Shanghai"), pool_size: int = 16
    ) -> None:
        self.url = url
        self.master_key = master_key
        self.timezone = timezone
        self.engine: Engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            hide_parameters=True,
        )

    @contextlib.contextmanager
    def unit(self, scope: access.Scope | None = None) -> Iterator[Session]:
        """One transaction: commits at the end of the block, rolls back if it raises.

        `scope` is what row security lets it see; None sees only the global tables.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.info["master_key"] = self.master_key
            session.info["timezone"] = self.timezone
            if scope is not None:
                access.enter(session, scope)
            yield session

    def direct(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its own in autocommit: its session locks fall when its holder dies."""
        return psycopg.connect(make_url(self.url).set(drivername="postgresql").render_as_string(False), autocommit=True)

    def dispose(self) -> None:
        self.engine.dispose()


def now(session: Session) -> dt.datetime:
    """The database's clock, so that machines with different clocks agree; the same throughout a transaction."""
    known: dt.datetime | None = session.info.get("now")  # read when the scope was entered
    return known or session.execute(text("select now()")).scalar_one()


def lock(session: Session, what: str) -> None:
    """Held until the transaction ends: those who do the same thing do it one after the other."""
    session.execute(text("select pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": what})
