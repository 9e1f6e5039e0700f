"""The owner's side of the nest: one per process that reads files, begun when first needed, and anew when it died."""

import atexit
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from screening.reading.wire import BEGIN, KILL

_ROOT = Path(__file__).resolve().parents[2]
_KILLED = -9
_PATIENCE_SECONDS = 5.0


class Child(Protocol):
    """A reading process, as its owner holds it."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def hatch() -> Child:
    """A reading process fresh from this process's nest."""
    with _lock:
        for _ in range(2):
            nest = _own()
            with contextlib.suppress(OSError, EOFError):
                return nest.hatch()
            nest.end()  # it died since: the next is a new one
        raise OSError("reading processes cannot be begun")


def prepare() -> None:
    """Begins the nest ahead of need: its imports then run beside whatever else its owner has to do."""
    if sys.platform == "linux":
        with _lock:
            _own()


def environment() -> dict[str, str]:
    """All that a reading process is told: no key and no address is within its reach."""
    return {
        "PYTHONPATH": str(_ROOT),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "POLARS_MAX_THREADS": "1",
        # Freed memory goes back soon: a third less at the peak of a large file. At once would cost a third of its time.
        # And no thread of the allocator's own, which would not live on in a fork.
        "_RJEM_MALLOC_CONF": "background_thread:false,dirty_decay_ms:250,muzzy_decay_ms:0",
        **{name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ},
    }


class _Nest:
    """A process of the module `nest`, and the link to it: whole messages, which may carry files."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-s", "-m", "screening.reading.nest", str(theirs.fileno())],
                env=environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def hatch(self) -> "_Hatched":
        """Raises OSError or EOFError when the nest is dead."""
        with contextlib.ExitStack() as theirs:
            source, to_child = _pipe(theirs, is_theirs="read")
            from_child, out = _pipe(theirs, is_theirs="write")
            ended, status = _pipe(theirs, is_theirs="write")
            try:
                socket.send_fds(self._link, [BEGIN], [source, out, status])
                answer = self._link.recv(4)
                if not answer:
                    raise EOFError
            except BaseException:
                for ours in (to_child, from_child, ended):
                    os.close(ours)
                raise
        return _Hatched(int.from_bytes(answer, "big"), to_child, from_child, ended, self._kill)

    def end(self) -> None:
        self._link.close()  # it ends when nobody is at the other end, and its children with it
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_SECONDS)

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            self._link.send(KILL + pid.to_bytes(4, "big"))


class _Hatched:
    """A reading process that the nest has forked."""

    def __init__(self, pid: int, stdin: int, stdout: int, ended: int, kill: Callable[[int], None]) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb", buffering=0)
        self._ended = ended
        self._kill = kill
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:
            self._kill(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; that of a kill when the nest died with it. Raises subprocess.TimeoutExpired."""
        if self._code is None:
            ready, _, _ = select.select([self._ended], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("reading", timeout or 0)
            self._code = int(os.read(self._ended, 16) or _KILLED)
            os.close(self._ended)
        return self._code


def _pipe(theirs: contextlib.ExitStack, *, is_theirs: str) -> tuple[int, int]:
    """Read end and write end; the end that goes to the child is closed here afterwards."""
    ends = os.pipe()
    theirs.callback(os.close, ends[0] if is_theirs == "read" else ends[1])
    return ends


_lock = threading.Lock()
_nest: _Nest | None = None


def _own() -> _Nest:
    global _nest
    if _nest is None or _nest.owner != os.getpid() or _nest._process.poll() is not None:
        _nest = _Nest()
        atexit.register(_nest.end)
    return _nest
