"""The entry point of the command; and what a start does beside its imports: the database comes up, a new one with its
schema, by a process of its own."""

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NoReturn

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
def begin(settings: Settings) -> "Future[bool] | None":
    """Begins to bring up the embedded server of these settings, which this process then holds, and answers whether it
    is a new one that has its schema; None where it is another database, or production, or cannot begin.

    What is wrong is for whoever needs the database to meet and to tell. To be called before there are other threads.
    """
    if settings.is_production or not settings.is_embedded:
        return None
    try:
        server = embedded.begin(settings.made_home())
    except (embedded.CannotStart, OSError):
        return None
    migrate = _migrator() if server.is_beginning else None
    one = ThreadPoolExecutor(1)
    beginning = one.submit(_is_new, server, migrate)
    one.shutdown(wait=False)
    return beginning


def _is_new(server: embedded.Server, migrate: Callable[[str], bool] | None) -> bool:
    owner_url = ""
    try:
        owner_url = embedded.started(server).owner_url
    finally:
        is_migrated = migrate is not None and migrate(owner_url)
    return is_migrated


def _migrator() -> Callable[[str], bool] | None:
    """Whoever migrates the database whose owner's address it is told, or none, and answers whether all went well.

    Forked with its imports, which this process needs too, while the server starts. None where a fork does not take
    the system's own libraries along: the database is then migrated by whoever opens it.
    """
    if sys.platform != "linux":
        return None
    import alerts.models  # noqa: F401 - a part of the schema
    import screening.migration  # noqa: F401

    hearing, telling = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_hear, args=(hearing, telling), daemon=True)
    process.start()
    hearing.close()

    def migrate(owner_url: str) -> bool:
        with telling, contextlib.suppress(BrokenPipeError):
            telling.send(owner_url)
        process.join()
        return process.exitcode == 0

    return migrate


def _hear(hearing: Connection, telling: Connection) -> NoReturn:
    telling.close()  # so that the end of the other one is heard
    nowhere = os.open(os.devnull, os.O_RDWR)
    for output in (1, 2):
        os.dup2(nowhere, output)
    sys.exit(0 if migrate(hearing.recv()) else 1)


def migrate(owner_url: str) -> bool:
    """Migrates the database at its owner's address, and answers whether its walls stand; "" is none that started."""
    from screening import migration

    return bool(owner_url) and not migration.migrate(owner_url, embedded.APP)


if __name__ == "__main__":
    main()
