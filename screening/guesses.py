"""Guesses at secrets, counted so that nobody gets many and nobody is locked out for good.

Each attempt counts as a wrong one before it is looked at, and is forgiven when it was right: many at the same moment
are no way round. What is counted is kept as a keyed hash. No count shuts a door for good, since whoever can shut a
duty officer out has a weapon.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from screening import sealing
from screening.db import Database
from screening.errors import TooManyAttempts


@dataclass(frozen=True)
class Growing:
    """After two wrong ones the wait doubles from 15 s to 5 minutes: at most four in the first minute."""

    what: str


@dataclass(frozen=True)
class Steady:
    """`burst` at once, and one more each `seconds`: over a time T never more than burst + T / seconds."""

    what: str
    seconds: float
    burst: int


Limit = Growing | Steady

FIRST_WAIT = 15.0
LONGEST_WAIT = 300.0
FORGOTTEN_AFTER = dt.timedelta(days=1)


def admit(database: Database, limits: Iterable[Limit]) -> None:
    """Counts one attempt against every limit. Raises TooManyAttempts, and counts nothing, when one is used up."""
    with database.unit() as session:
        for key, limit in _keyed(session, limits):
            statement, more = _statement(limit)
            if session.execute(statement, {"key": key} | more).first() is None:
                raise TooManyAttempts(_wait(session, key, limit))


def forgive(session: Session, limits: Iterable[Limit]) -> None:
    """Takes back the attempt that `admit` counted: it was right."""
    for key, limit in _keyed(session, limits):
        if isinstance(limit, Growing):
            session.execute(text("delete from guesses where key_hash = :key"), {"key": key})
        else:
            session.execute(
                text("update guesses set free_at = free_at - :each, failures = failures - 1 where key_hash = :key"),
                {"key": key, "each": dt.timedelta(seconds=limit.seconds)},
            )


def forget(session: Session) -> None:
    """Deletes what no longer holds anybody up."""
    session.execute(text("delete from guesses where free_at < now() - :old"), {"old": FORGOTTEN_AFTER})


def _keyed(session: Session, limits: Iterable[Limit]) -> list[tuple[bytes, Limit]]:
    # in one order for everybody, so that two who share limits never wait for each other in a ring
    keys = [(sealing.guess_lookup(session.info["master_key"], limit.what), limit) for limit in limits]
    return sorted(keys, key=lambda pair: pair[0])


def _statement(limit: Limit) -> tuple[TextClause, dict[str, object]]:
    if isinstance(limit, Growing):
        return _GROW, {"first": FIRST_WAIT, "longest": LONGEST_WAIT, "old": FORGOTTEN_AFTER}
    each = dt.timedelta(seconds=limit.seconds)
    return _ADD, {"each": each, "burst": each * limit.burst}


def _wait(session: Session, key: bytes, limit: Limit) -> float:
    free_in = session.execute(
        text("select extract(epoch from free_at - now()) from guesses where key_hash = :key"), {"key": key}
    ).scalar_one()
    ahead = 0.0 if isinstance(limit, Growing) else limit.seconds * (limit.burst - 1)
    return max(1.0, float(free_in) - ahead)


_GROW = text(
    "insert into guesses as g (key_hash, failures, free_at) values (:key, 1, now())"
    " on conflict (key_hash) do update set"
    " failures = case when g.free_at < now() - :old then 1 else g.failures + 1 end,"
    " free_at = case when g.free_at < now() - :old then now()"
    "  else now() + make_interval(secs => least(:longest, :first * 2 ^ least(g.failures - 1, 20))) end"
    " where g.free_at <= now() returning 1"
)
_ADD = text(
    "insert into guesses as g (key_hash, failures, free_at) values (:key, 1, now() + :each)"
    " on conflict (key_hash) do update set failures = g.failures + 1,"
    " free_at = greatest(g.free_at, now()) + :each"
    " where greatest(g.free_at, now()) + :each <= now() + :burst returning 1"
)
