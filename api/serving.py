"""Brings the service up: the embedded database where no other is named, migrations, the worker, the web."""

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import psycopg
from sqlalchemy.engine import make_url

from api import logs
from screening import backup, embedded, erasure, migration, sealing
from screening.db import Database
from screening.errors import Refused
from screening.settings import Settings, UnsafeSettings

if TYPE_CHECKING:  # the web takes its time to import, and who only opens a database does without
    from fastapi import FastAPI

INCOMING = "screening_incoming"
"""The name of a database that is being restored, until it takes its place."""
LOOK_SECONDS = 5
"""How long the watchdog has to end its look when the service ends."""
GRACE_SECONDS = 20
"""How long requests and a load in its last step may take to end after a stop was asked for."""
_HELD: list[embedded.Server] = []
"""Servers that this process joined; a hold lasts as long as its process."""


def open_database(settings: Settings) -> Database:
    """The database under the app's role: the named one, or the embedded one, started or joined.

    Raises UnsafeSettings when production is given a superuser's connection.
    """
    url = settings.database_url or _joined(settings).app_url
    ring = sealing.Ring([settings.master_key(), *settings.master_keys()[1:]], settings.master_keys)
    database = Database(url, ring, timezone=settings.timezone)
    try:
        _ = database.master_key
    except sealing.CannotOpen:
        words = "SCREENING_MASTER_KEY_FILE: no key in it opens this database; it is another one's, or was changed"
        raise UnsafeSettings([words]) from None
    if settings.is_production:
        _refuse_superuser(database)
    return database


def _joined(settings: Settings) -> embedded.Server:
    """The embedded server, held and watched: whoever came first has the supervisor's lock for as long as it lives."""
    server = embedded.start(settings.made_home())
    server.supervise()
    _HELD.append(server)
    return server


def migrate(settings: Settings) -> list[str]:
    """Brings the schema up to date as its owner; answers what is wrong with the walls afterwards.

    Whoever the erasure ledger names is erased again where this database, restored by whatever means, knows nothing of
    it. Raises UnsafeSettings when there is a database of one's own, but no owner's connection to it.
    """
    owner, app_role = owner_url(settings), embedded.APP
    if not settings.is_embedded:
        app_role = make_url(settings.database_url or "").username or embedded.APP
    faults = migration.migrate(owner, app_role)
    with psycopg.connect(owner, autocommit=True) as connection:
        applied = erasure.apply_ledger(connection, settings.ledgers / erasure.FOLDER)
    if applied:
        logs.get().warning("erased_again", count=applied)
    return faults


def owner_url(settings: Settings) -> str:
    """The owner's connection, for what only an owner may do. Raises UnsafeSettings when there is none."""
    if settings.is_embedded:
        return _joined(settings).owner_url
    if settings.database_owner_url is None:
        raise UnsafeSettings(["DATABASE_OWNER_URL: is needed for this; the app's role owns nothing"])
    return settings.database_owner_url


def restore(
    settings: Settings, path: Path, private_key: bytes, *, former_key_file: Path | None, is_replacing: bool
) -> backup.Restored:
    """Restores into the database of one's own, which must be empty; embedded, beside the one there, whose place it
    takes when it is whole. Raises Refused when there is one and it was not said to replace it."""
    common = {
        "master_key": sealing.Ring(
            [
                settings.master_key(),
                *settings.master_keys()[1:],
                *(replace(settings, master_key_file=former_key_file).master_keys() if former_key_file else ()),
            ]
        ),
        "private_key": private_key,
        "ledgers": settings.ledgers,
    }
    owner = owner_url(settings)
    if not settings.is_embedded:
        app_role = make_url(settings.database_url or "").username or embedded.APP
        return backup.restore(path, owner_url=owner, app_url=settings.database_url or "", app_role=app_role, **common)  # type: ignore[arg-type]
    server = _HELD[-1]
    with psycopg.connect(owner) as connection:
        row = connection.execute("select to_regclass('public.districts') is not null").fetchone()
    if row is not None and row[0] and not is_replacing:
        raise Refused("There is a database here already; say --replace if the backup is to take its place.")
    server.drop_database(INCOMING)
    server.create_database(INCOMING)
    found = backup.restore(
        path,
        owner_url=server.url(database=INCOMING, role="owner"),
        app_url=server.url(database=INCOMING, role="app"),
        app_role=embedded.APP,
        **common,  # type: ignore[arg-type]
    )
    if found.is_whole:
        server.replace_database(embedded.DATABASE, INCOMING)
    return found


def from_environment() -> "FastAPI":
    """The app as the environment describes it: what each web process makes for itself."""
    from api.app import create_app

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    settings = Settings.read(serving=True)
    app = create_app(open_database(settings), settings)
    keep_for_good()
    return app


def keep_for_good() -> None:
    """What stands now stays: looked through for garbage again and again, it held answers up for a fifth of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def serve(settings: Settings, *, host: str, port: int, workers: int) -> int:
    """Serves until a signal, answers an exit code; embedded, it migrates first and keeps a worker beside."""
    import uvicorn

    log = logs.get()
    if settings.is_embedded:
        faults = migrate(settings)
        if faults:
            log.error("walls_down", count=len(faults))
            return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    with worker_beside() if settings.is_embedded else contextlib.nullcontext(), watchdog_beside(settings):
        log.info("serving", address=f"{host}:{port}", workers=workers, pid=os.getpid())
        common = {
            "host": host,
            "port": port,
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "date_header": True,
            "timeout_graceful_shutdown": GRACE_SECONDS,
            "timeout_keep_alive": 30,
            "h11_max_incomplete_event_size": 65_536,
        }
        if workers > 1:
            uvicorn.run("api.serving:from_environment", factory=True, workers=workers, **common)  # type: ignore[arg-type]
        else:
            uvicorn.Server(uvicorn.Config(from_environment(), **common)).run()  # type: ignore[arg-type]
    return 0


def _stopped(*_: object) -> NoReturn:
    """The web server raises the signal again when it has ended; whatever stands around it ends in order too."""
    raise SystemExit(0)


@contextlib.contextmanager
def worker_beside() -> Iterator[None]:
    """One worker in a process of its own, begun anew when it dies, stopped at the end of the block."""
    stopping = threading.Event()
    keeper = threading.Thread(target=_keep_worker, args=(stopping,), name="worker-keeper", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join(timeout=GRACE_SECONDS + 5)


@contextlib.contextmanager
def watchdog_beside(settings: Settings) -> Iterator[None]:
    """A watchdog in a thread of this process, on connections of its own, stopped at the end of the block."""
    from api import worker

    stopping = threading.Event()
    database = open_database(settings)
    dog = threading.Thread(target=worker.watch, args=(database, settings, stopping), name="watchdog", daemon=True)
    dog.start()
    try:
        yield
    finally:
        stopping.set()
        dog.join(timeout=LOOK_SECONDS)
        if dog.is_alive():  # it is the last of this process that asks for anything
            with contextlib.suppress(psycopg.Error):
                database.cut_off()
            dog.join(timeout=LOOK_SECONDS)
        database.dispose()


def _keep_worker(stopping: threading.Event) -> None:
    while not stopping.is_set():
        begun = time.monotonic()
        command = [sys.executable, "-m", "api.cli", "worker", "--beside", str(os.getpid())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command
        while process.poll() is None and not stopping.wait(0.2):
            pass
        if process.poll() is None:
            _end(process)
        elif not stopping.is_set():
            logs.get().error("worker_died", status=process.returncode)
            stopping.wait(max(0.0, 2.0 - (time.monotonic() - begun)))  # not faster than it can come up


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _refuse_superuser(database: Database) -> None:
    with contextlib.closing(database.direct()) as connection:
        row = connection.execute(
            "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
        ).fetchone()
    if row is None or row[0]:
        user = urlsplit(database.url).username
        words = f"DATABASE_URL: the role {user} is above the walls; use the app's role, which owns nothing"
        raise UnsafeSettings([words])
