"""The entry point of the command; and what a start does beside its imports: the database comes up, a new one with its
schema, by a process of its own."""

import contextlib
import gc
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

from screening import embedded
from screening.settings import Settings, UnsafeSettings


def main() -> None:
    """The command `screening`: where it is going to make the demo, the database begins before all else is imported."""
    if sys.argv[1:2] == ["demo"] and "--help" not in sys.argv:
        gc.disable()  # a fifth of the time would go into looking for garbage that is hardly there
        with contextlib.suppress(UnsafeSettings):  # told in words by the command itself
            begin(Settings.read())
    from api import cli

    cli.main()


@cache
def begin(settings: Settings) -> "Future[embedded.Server] | None":
    """Begins to bring up the embedded server of these settings, which this process then holds; None where it is
    another database, or production. What is wrong is for whoever needs the database to meet and to tell."""
    if settings.is_production or not settings.is_embedded:
        return None
    one = ThreadPoolExecutor(1)
    beginning = one.submit(_database, settings.made_home())
    one.shutdown(wait=False)
    return beginning


def _database(home: Path) -> embedded.Server:
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
        [sys.executable, "-c", "from api import ahead; ahead.migrate()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def migrate() -> None:
    """Migrates the database whose owner's address comes in; where it did not start, none does."""
    import alerts.models  # noqa: F401 - a part of the schema
    from screening import migration

    owner_url = sys.stdin.readline().strip()
    if owner_url:
        migration.migrate(owner_url, embedded.APP)


if __name__ == "__main__":
    main()
