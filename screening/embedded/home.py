"""A home: where things lie in it, whose they are, and who can reach them."""

import contextlib
import os
import pwd
import secrets
from dataclasses import dataclass
from pathlib import Path

from screening.embedded import commands

# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the closing zero included; one limit for both, so that
# a home can be moved between them.
_LONGEST_SOCKET = 103
SOCKET = ".s.PGSQL.5432"


class CannotStart(RuntimeError):
    """The embedded server cannot run here; the words say what to change."""


@dataclass(frozen=True)
class Places:
    home: Path
    own: Path
    data: Path
    socket: Path
    log: Path
    passwords: Path

    @classmethod
    def under(cls, home: Path) -> "Places":
        home = home.resolve()  # one spelling: processes are found again by it
        places = cls(
            home=home,
            own=home / "pg",
            data=home / "pg" / "data",
            socket=home / "pg" / "run",
            log=home / "pg" / "postgres.log",
            passwords=home / "passwords.json",
        )
        excess = len(os.fsencode(places.socket / SOCKET)) - _LONGEST_SOCKET
        if excess > 0:
            raise CannotStart(
                f"the path of {home} is {excess} bytes too long for the database's socket; "
                "set SCREENING_HOME to a folder with a shorter path"
            )
        return places


def prepare(places: Places) -> pwd.struct_passwd | None:
    """Makes the home and the server's own folder in it; as root both belong to an unprivileged user."""
    places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = account_of(places)
    if account is not None:
        _must_reach(account, list(reversed(places.home.parents)))
        _hand_over(places.home, account)
    for folder in (places.own, places.socket):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if account is not None:
                os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return account


def account_of(places: Places) -> pwd.struct_passwd | None:
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


def write_private(path: Path, text: str, *, account: pwd.struct_passwd | None = None) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        if account is not None:
            os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def token() -> str:
    return secrets.token_hex(8)


def _must_reach(account: pwd.struct_passwd, folders: list[Path]) -> None:
    script = 'for folder do cd "$folder" 2>/dev/null || { echo "$folder"; exit 1; }; done'
    probe = commands.run_as(account, ["/bin/sh", "-c", script, "sh", *map(str, folders)])
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
