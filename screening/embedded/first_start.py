"""The first start of a home: its data folder is made aside, and put in place whole."""

import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from screening.embedded import commands, home
from screening.embedded.home import CannotStart, Places
from screening.embedded.roles import SUPERUSER


def initializing(
    places: Places, software: Path, account: pwd.struct_passwd | None, password: str
) -> Callable[[], None]:
    """Begins to make the data folder; what is returned waits until it stands, or raises CannotStart."""
    for leftover in places.own.glob("new.*"):  # of a first start that was killed; its initdb may still be writing
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in places.own.glob("secret.*"):
        leftover.unlink(missing_ok=True)
    aside, secret = places.own / f"new.{home.token()}", places.own / f"secret.{home.token()}"
    home.write_private(secret, password, account=account)
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
        running = commands.begin_as(account, command)
    except BaseException:
        secret.unlink()
        raise

    def wait() -> None:
        try:
            done = commands.ended(running)
        finally:
            secret.unlink()
        if done.returncode != 0:
            raise CannotStart(f"initdb failed: {done.stderr.strip()[-2000:]}")
        _settle(places, software, account, aside)

    return wait


def _settle(places: Places, software: Path, account: pwd.struct_passwd | None, aside: Path) -> None:
    synced = commands.run_as(account, [str(software / "bin" / "initdb"), "--sync-only", f"--pgdata={aside}"])
    if synced.returncode != 0:
        raise CannotStart(f"the new database could not be written to disk: {synced.stderr.strip()[-2000:]}")
    aside.rename(places.data)
