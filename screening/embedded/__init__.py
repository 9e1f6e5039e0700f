"""The embedded PostgreSQL: a wheel's binaries under our own small supervisor, private to one home folder.

Any number of processes may share a home. One of them supervises (an exclusive file lock); the others join.
Each holds a shared lock for as long as it uses the server; whoever leaves last stops it. Locks fall with their
process, so after a SIGKILL the next process adopts the running server, or recovers it, without a manual step.
"""

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from screening.embedded import installation, sweeping
from screening.embedded.home import CannotStart, Places
from screening.embedded.roles import APP, DATABASE, OWNER, SUPERUSER, Role
from screening.embedded.server import Server

__all__ = [
    "APP",
    "DATABASE",
    "OWNER",
    "SUPERUSER",
    "CannotStart",
    "Role",
    "Server",
    "begin",
    "is_begun",
    "programs",
    "start",
    "started",
    "temporary",
]


def start(home: Path, *, settings: Mapping[str, str] | None = None, patience: float = 300) -> "Server":
    """The running server of `home`: started, adopted from a dead supervisor, or joined.

    `settings` are PostgreSQL settings on top of the product's, used when this call is the one that starts it.
    Raises CannotStart in words after at most `patience` seconds.
    """
    return started(Server(home, settings=settings or {}, patience=patience))


def begin(home: Path) -> "Server":
    """The server of `home` for `started`, which goes on with it: where it is a first start, initdb runs meanwhile."""
    server = Server(home, settings={}, patience=300)
    try:
        server.begin()
    except BaseException:
        server.stop()
        raise
    return server


def started(server: "Server") -> "Server":
    """This server, running; raises CannotStart as `start` does."""
    try:
        server.open()
    except BaseException:
        server.stop()
        raise
    atexit.register(server.stop)
    return server


@contextlib.contextmanager
def temporary(settings: Mapping[str, str] | None = None, *, within: Path | None = None) -> Iterator["Server"]:
    """A server in a short folder of its own that is gone afterwards, for tests and measurements.

    It keeps the product's settings, fsync too, unless `settings` says otherwise; `within` is where the folder is
    made, the system's place for temporary files unless it is given.
    """
    place = within or sweeping.short_folder()
    sweeping.sweep_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=sweeping.TEMPORARY, dir=place))
    try:
        server = start(folder, settings=settings)
        try:
            yield server
        finally:
            server.stop(quickly=True)
    finally:
        shutil.rmtree(folder)


def is_begun(home: Path) -> bool:
    """Whether there is a database in this home, running or not."""
    return Places.under(home).data.exists()


def programs() -> Path:
    """The folder with PostgreSQL's own programs (pg_dump, pg_restore) as the wheel ships them."""
    return installation.shipped() / "bin"
