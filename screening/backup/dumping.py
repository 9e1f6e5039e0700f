"""Making a backup: PostgreSQL's own dump, sealed on its way to the file; nothing plain ever lies on a disk."""

import contextlib
import datetime as dt
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from screening import embedded
from screening.backup import sealed_file

KEPT = 30
NAME = re.compile(r"screening-\d{8}\.backup")


class DumpFailed(RuntimeError):
    """PostgreSQL's dump or restore ended with an error; its words hold no rows."""


def dump(owner_url: str, path: Path, public_key: bytes) -> int:
    """Writes an encrypted dump beside `path`, then puts it in its place; answers the plain bytes in it.

    Raises DumpFailed, and leaves what stood at `path` as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            count = sealed_file.seal(_dumped(owner_url), file, public_key)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return count


def dump_nightly(owner_url: str, folder: Path, public_key: bytes, on: dt.date) -> Path | None:
    """The dump of this day, once, and no more than thirty of them; None when it is there already."""
    path = folder / f"screening-{on:%Y%m%d}.backup"
    if path.exists():
        return None
    dump(owner_url, path, public_key)
    held = sorted(each for each in folder.iterdir() if NAME.fullmatch(each.name))
    for old in held[:-KEPT]:
        old.unlink()
    return path


def _dumped(owner_url: str) -> Iterator[bytes]:
    command = [tool("pg_dump"), "--format=custom", "--no-owner", "--compress=1", "--no-password"]
    with running(command, owner_url, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        while piece := process.stdout.read(1 << 20):
            yield piece


@contextlib.contextmanager
def running(
    command: list[str], url: str, *, stdin: int | None = subprocess.DEVNULL, stdout: int | None = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[bytes]"]:
    """One of PostgreSQL's programs, told the database by its environment: a command line is there for all to see."""
    with subprocess.Popen(  # noqa: S603 - our own binary
        command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=_environment(url), cwd="/"
    ) as process:
        try:
            yield process
            if process.stdin is not None:
                process.stdin.close()
            words = process.stderr.read() if process.stderr is not None else b""
            if process.wait() != 0:
                raise DumpFailed(f"{Path(command[0]).name} failed: {_first_line(words)}")
        except BrokenPipeError:
            words = process.stderr.read() if process.stderr is not None else b""
            raise DumpFailed(f"{Path(command[0]).name} failed: {_first_line(words)}") from None
        finally:
            if process.poll() is None:
                process.kill()


def tool(name: str) -> str:
    """One of PostgreSQL's own programs, as the embedded server ships them."""
    return str(embedded.programs() / name)


def _first_line(words: bytes) -> str:
    # later lines may quote rows
    return words.decode(errors="replace").strip().split("\n")[0][:300] or "it said nothing"


def _environment(url: str) -> Mapping[str, str]:
    parts = urlsplit(url)
    asked: dict[str, str] = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    found = {
        "PGHOST": asked.get("host") or parts.hostname,
        "PGPORT": str(parts.port) if parts.port else asked.get("port"),
        "PGUSER": unquote(parts.username or "") or asked.get("user"),
        "PGPASSWORD": unquote(parts.password or "") or asked.get("password"),
        "PGDATABASE": unquote(parts.path.strip("/")) or asked.get("dbname"),
        "PGSSLMODE": asked.get("sslmode"),
        "PGSSLROOTCERT": asked.get("sslrootcert"),
    }
    return {name: value for name, value in found.items() if value} | {"PATH": os.defpath, "LC_ALL": "C"}
