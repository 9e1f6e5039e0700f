"""One process's hold on the server of a home: begun, opened, watched, left."""

import atexit
import logging
import pwd
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from screening.embedded import configuration, first_start, home, installation, process, roles
from screening.embedded.home import CannotStart, Places
from screening.embedded.locks import Lock
from screening.embedded.roles import DATABASE, ROLES, SUPERUSER, Role

log = logging.getLogger(__name__)


class Server:
    """One process's hold on the server of a home; made by `start`."""

    def __init__(self, home: Path, *, settings: Mapping[str, str], patience: float) -> None:
        self.places = Places.under(home)
        self.given_settings = settings
        self.patience = patience
        self.is_lost = False
        self._users = Lock(self.places.home / "embedded.users")
        self._supervisor = Lock(self.places.home / "embedded.supervisor")
        self._passwords: dict[str, str] = {}
        self._initializing: Callable[[], None] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def is_supervisor(self) -> bool:
        """Whether this process is the one that keeps the server running."""
        return self._supervisor.is_held

    @property
    def is_beginning(self) -> bool:
        """Whether it is a first start, of which initdb runs."""
        return self._initializing is not None

    @property
    def superuser_url(self) -> str:
        return self.url(database="postgres", role="superuser")

    @property
    def owner_url(self) -> str:
        return self.url(role="owner")

    @property
    def app_url(self) -> str:
        return self.url(role="app")

    @property
    def socket_folder(self) -> Path:
        return self.places.socket

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return process.postmaster(self.places.data)

    def url(self, *, database: str = DATABASE, role: Role = "app") -> str:
        """A libpq URL for one role on one database, its password in it."""
        user = ROLES[role]
        password = quote(self._passwords[user], safe="")
        return f"postgresql://{user}:{password}@/{quote(database, safe='')}?host={quote(str(self.places.socket))}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """An empty database, or a copy of `template`, that the owner owns and the app may only use."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            roles.create_database(connection, name, template=template)

    def drop_database(self, name: str) -> None:
        """Removes a database if it is there, ending whatever is connected to it."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def replace_database(self, name: str, by: str) -> None:
        """Removes a database, ending whatever is connected to it, and gives its name to another."""
        self.drop_database(name)
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(by), sql.Identifier(name))
            )

    def is_alive(self) -> bool:
        """Whether the server answers a real connection just now."""
        return bool(self._passwords) and process.answer(self.superuser_url) == "yes"

    def begin(self) -> None:
        """Begins what a first start begins with; anything else is left to `open`. Use the module's `begin`."""
        account = home.prepare(self.places)
        self._users.share()
        if self._supervisor.take() and not self.places.data.exists():
            self._passwords = roles.passwords(self.places)
            software = installation.software(self.places, account)
            self._initializing = first_start.initializing(self.places, software, account, self._passwords[SUPERUSER])

    def open(self) -> None:
        """Starts, adopts or joins. Use `start`."""
        if self.pid is None and self._initializing is None:
            home.prepare(self.places)
        self._users.share()
        deadline = time.monotonic() + self.patience
        while not self._supervisor.take():
            if self._joined():
                return
            if time.monotonic() > deadline:
                raise CannotStart(f"another process supervises {self.places.home}, but its server does not answer")
            time.sleep(0.02)
        self._bring_up(home.account_of(self.places))

    def supervise(self, *, limit: float = 300, on_lost: Callable[[str], None] | None = None) -> None:
        """Keeps the server running from a thread: restarts it after a crash, takes over when the supervisor leaves.

        After `limit` seconds of failing it gives up loudly: a critical log line, `is_lost`, and `on_lost(words)`.
        """
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._watch, args=(limit, on_lost), name="embedded-supervisor", daemon=True
            )
            self._watcher.start()

    def stop(self, *, quickly: bool = False) -> None:
        """Leaves the server; the last to leave shuts it down. `quickly` skips the closing checkpoint."""
        self._stopping.set()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(timeout=10)
        self._supervisor.release()
        if self._users.is_held and self._users.take():
            process.shut_down(self.places.data, quickly=quickly)
        self._users.release()
        atexit.unregister(self.stop)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _joined(self) -> bool:
        if not self.places.passwords.exists():
            return False
        self._passwords = roles.read_passwords(self.places)
        return process.answer(self.app_url) == "yes"

    def _bring_up(self, account: pwd.struct_passwd | None) -> None:
        """Makes the server answer. Runs under the supervisor's lock only."""
        self._passwords = roles.passwords(self.places)
        if not process.adopt(self.places, self.superuser_url, patience=self.patience):
            software = installation.software(self.places, account)
            if not self.places.data.exists():
                initializing = self._initializing or first_start.initializing(
                    self.places, software, account, self._passwords[SUPERUSER]
                )
                self._initializing = None
                initializing()
            configuration.configure(self.places, account, self.given_settings)
            process.launch(self.places, software, account, self.superuser_url, patience=self.patience)
        roles.establish(self.superuser_url, self._passwords)

    def _watch(self, limit: float, on_lost: Callable[[str], None] | None) -> None:
        trouble_since: float | None = None
        checked_at = time.monotonic()
        while not self._stopping.wait(0.1):
            if not self._supervisor.is_held and not self._supervisor.take():
                continue
            running = self.pid is not None
            if running and trouble_since is None and time.monotonic() - checked_at < 2:
                continue
            checked_at = time.monotonic()
            if running and process.answer(self.superuser_url) != "no":
                trouble_since = None
                continue
            trouble_since = trouble_since or checked_at
            if self._is_recovered(running=running, silent_for=checked_at - trouble_since):
                trouble_since = None
            elif time.monotonic() - trouble_since > limit:
                self._lose(limit, on_lost)
                return

    def _is_recovered(self, *, running: bool, silent_for: float) -> bool:
        if running and silent_for < 30:
            return False  # it may only be busy; silence this long means that it hangs
        try:
            if running:
                process.shut_down(self.places.data, quickly=True)
            self._bring_up(home.account_of(self.places))
        except (CannotStart, OSError, psycopg.Error, psutil.Error) as error:
            log.error("embedded server not restarted yet: %s", type(error).__name__)
            self._stopping.wait(0.2)
            return False
        log.warning("embedded server restarted")
        return True

    def _lose(self, limit: float, on_lost: Callable[[str], None] | None) -> None:
        words = (
            f"the embedded database under {self.places.home} could not be brought back within {limit:.0f} s; "
            f"its log is {self.places.log}"
        )
        self.is_lost = True
        log.critical(words)
        if on_lost is not None:
            on_lost(words)
