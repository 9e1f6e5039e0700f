"""The server's process: launched, adopted, asked, shut down."""

import contextlib
import hashlib
import os
import pwd
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Literal

import psutil
import psycopg

from screening.embedded.commands import ENVIRONMENT
from screening.embedded.home import SOCKET, CannotStart, Places


def launch(
    places: Places, software: Path, account: pwd.struct_passwd | None, superuser_url: str, *, patience: float
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
            env=ENVIRONMENT,
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
    while _state(places.data) != (process.pid, "ready") or answer(superuser_url) != "yes":
        if not psutil.pid_exists(process.pid):
            raise CannotStart(f"the database did not start: {_last_words(places.log)}")
        if time.monotonic() > deadline:
            raise CannotStart(f"the database did not answer within {patience:.0f} s: {_last_words(places.log)}")
        time.sleep(0.005)


def adopt(places: Places, superuser_url: str, *, patience: float) -> bool:
    """Whether a server of this home already runs and answers; what a dead one left behind is cleared away."""
    deadline = time.monotonic() + patience
    while postmaster(places.data) is not None:
        if answer(superuser_url) == "yes":
            return True
        if time.monotonic() > deadline:
            shut_down(places.data, quickly=True)
            break
        time.sleep(0.02)
    _clear_remains(places)
    return False


def postmaster(data: Path) -> int | None:
    """The postmaster's process id while it runs."""
    pid = _state(data)[0]
    return pid if pid is not None and _is_postmaster(pid, data) else None


def answer(url: str) -> Literal["yes", "busy", "no"]:
    """How the server takes a real connection; busy is an answer too (starting, recovering, full)."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return "busy" if "FATAL:" in str(error) else "no"
    return "yes"


def shut_down(data: Path, *, quickly: bool) -> None:
    pid = postmaster(data)
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


def cluster_name(data: Path) -> str:
    """A name for this data folder that its processes carry in their titles, by which they are found again."""
    return f"screening-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"


def _last_words(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()[-5:]
    return " / ".join(lines) or f"{path} is empty"


def _clear_remains(places: Places) -> None:
    left = [places.data / "postmaster.pid", places.socket / SOCKET, places.socket / f"{SOCKET}.lock"]
    if not any(os.path.lexists(path) for path in left):
        return
    title = f"postgres: {cluster_name(places.data)}: "
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


def _command(process: psutil.Process) -> list[str]:
    # Command lines may be read of every user's process; a working directory only with a right that root lacks
    # in most containers. A zombie has none.
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        return _command(psutil.Process(pid))[-2:] == ["-D", str(data)]
    except psutil.NoSuchProcess:
        return False


def _state(data: Path) -> tuple[int | None, str]:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (OSError, ValueError, IndexError):
        return None, ""
