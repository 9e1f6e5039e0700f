"""The database: engine, one transaction per unit of work, and the database's own clock."""

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from screening import access, sealing
from screening.statements import Later


class Database:
    """One PostgreSQL database under the app's role. Makes transactions; nothing else in the house commits."""

    def __init__(
        self,
        url: str,
        master_key: bytes | sealing.Ring,
        *,
        timezone: ZoneInfo = ZoneInfo("Asia/Shanghai"),
        pool_size: int = 16,
    ) -> None:
        self.url = url
        self._name = str(make_url(url).query.get("application_name") or f"screening {os.getpid()}")
        self.ring = master_key if isinstance(master_key, sealing.Ring) else sealing.Ring([master_key])
        self._lookup_key: bytes | None = None
        self.timezone = timezone
        self.engine: Engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            hide_parameters=True,
            # the driver would throw away what `Statement` prepared along with its own, at every rollback
            connect_args={"prepare_threshold": None, "application_name": self._name},
        )

    @contextlib.contextmanager
    def unit(self, scope: access.Scope | None = None) -> Iterator[Session]:
        """One transaction: commits at the end of the block, rolls back if it raises.

        `scope` is what row security lets it see; None sees only the global tables.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.info["ring"] = self.ring
            session.info["master_key"] = self.master_key
            session.info["timezone"] = self.timezone
            if scope is not None:
                access.enter(session, scope)
            yield session

    @property
    def master_key(self) -> bytes:
        """Under which addresses, tokens, sessions and codes are found, and heads signed; read once, made at first."""
        if self._lookup_key is None:
            try:
                with self.engine.begin() as connection:
                    self._lookup_key = _lookup_key(connection, self.ring)
            except ProgrammingError:  # not migrated so far: nothing is found in it either
                return self.ring.first
        return self._lookup_key

    def direct(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its own in autocommit: its session locks fall when its holder dies."""
        return psycopg.connect(make_url(self.url).set(drivername="postgresql").render_as_string(False), autocommit=True)

    def cut_off(self) -> None:
        """Ends what this process asks the database for at the moment; whoever asked gets an error."""
        with contextlib.closing(self.direct()) as connection:
            connection.execute(_CUT_OFF, {"name": self._name})

    def dispose(self) -> None:
        self.engine.dispose()


_CUT_OFF = (
    "select pg_cancel_backend(pid) from pg_stat_activity"
    " where application_name = %(name)s and state = 'active' and pid <> pg_backend_pid()"
)


def _lookup_key(connection: Connection, ring: sealing.Ring) -> bytes:
    found = connection.execute(_FIND_LOOKUP_KEY).scalar()
    if found is None:
        # a database from before there was this key was searched under the master key itself, and still is
        is_old = connection.execute(text("select exists (select from accounts)")).scalar()
        made = sealing.wrap_lookup_key(ring, ring.first if is_old else sealing.new_key())
        connection.execute(_KEEP_LOOKUP_KEY, {"wrapped": made})
        found = connection.execute(_FIND_LOOKUP_KEY).scalar_one()  # whoever was first has made it
    return sealing.unwrap_lookup_key(ring, bytes(found))


_FIND_LOOKUP_KEY = text("select wrapped from lookup_keys")
_KEEP_LOOKUP_KEY = text("insert into lookup_keys (id, wrapped) values (1, :wrapped) on conflict do nothing")


def now(session: Session) -> dt.datetime:
    """The database's clock, so that machines with different clocks agree; the same throughout a transaction."""
    entered: Later | None = session.info.get("entered")  # to enter a scope asks for the time too
    now: dt.datetime = entered.rows()[0]["now"] if entered else session.execute(text("select now()")).scalar_one()
    return now


def lock(session: Session, what: str) -> None:
    """Held until the transaction ends: those who do the same thing do it one after the other."""
    session.execute(text("select pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": what})
