"""File locks: who uses a server, and who supervises it."""

import fcntl
import functools
import os
from pathlib import Path


class Lock:
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


def _forget(lock: Lock) -> None:
    if lock.handle is not None:
        os.close(lock.handle)
    lock.handle, lock.is_held = None, False
