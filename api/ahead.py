"""What a start does beside its imports: the database comes up, and a new one is migrated by a process of its own."""

import contextlib
import subprocess
import sys

from screening import embedded
from screening.settings import Settings


def database(settings: Settings) -> embedded.Server:
    """The embedded server of these settings, held by this process, with the schema in it.

    A migration that fails here is tried again, and told of, by whoever needs it.
    """
    home = settings.made_home()
    if embedded.is_begun(home):
        return embedded.start(home)
    with _migrating() as migrating:
        server = embedded.start(home)
        with contextlib.suppress(BrokenPipeError):
            migrating.communicate(server.owner_url.encode())
    return server


def _migrating() -> "subprocess.Popen[bytes]":
    """It imports what it needs while the server starts, and then hears where that is: not in words that stand in any
    list of processes."""
    return subprocess.Popen(
        [sys.executable, "-m", "api.ahead"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _migrate() -> None:
    """Migrates the database whose owner's address comes in; where it did not start, none does."""
    import alerts.models  # noqa: F401 - a part of the schema
    from screening import migration

    owner_url = sys.stdin.readline().strip()
    if owner_url:
        migration.migrate(owner_url, embedded.APP)


if __name__ == "__main__":
    _migrate()
