"""A link to PostgreSQL that breaks when told: after the n-th message that was sent to the server."""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url

from screening.db import Database
from tests.conftest import MASTER_KEY

_SOCKET = ".s.PGSQL.5432"
_NAME = "by_the_link"
_SIZE = 4


class Link:
    """Passes on what goes between a program and the server, message by message."""

    def __init__(self, folder: Path, server: Path) -> None:
        self._server = server
        self._guard = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._left: int | None = None
        self.passed = 0
        self.is_cut = False
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / _SOCKET))
        self._listening.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, count: int | None) -> None:
        """From now on: so many messages arrive, then every connection breaks at once; later ones hold. None: whole."""
        with self._guard:
            self._left, self.passed, self.is_cut = count, 0, False

    def close(self) -> None:
        self._listening.close()
        self._break()

    def _accept(self) -> None:
        while True:
            try:
                program, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server / _SOCKET))
            self._pairs.add((program, server))
            threading.Thread(target=self._to_server, args=(program, server), daemon=True).start()
            threading.Thread(target=self._back, args=(program, server), daemon=True).start()

    def _to_server(self, program: socket.socket, server: socket.socket) -> None:
        waiting, has_begun = b"", False
        with contextlib.suppress(OSError):
            while received := program.recv(65_536):
                waiting += received
                while message := _first(waiting, has_begun):
                    waiting, has_begun = waiting[len(message) :], True
                    self._pass(server, message)
        _end(program, server)

    def _pass(self, server: socket.socket, message: bytes) -> None:
        with self._guard:
            server.sendall(message)
            self.passed += 1
            if self._left is None:
                return
            self._left -= 1
            if self._left > 0:
                return
            self._left, self.is_cut = None, True
        self._break()

    def _back(self, program: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := server.recv(65_536):
                program.sendall(received)
        _end(program, server)

    def _break(self) -> None:
        for pair in list(self._pairs):
            _end(*pair)
            self._pairs.discard(pair)


def _first(waiting: bytes, has_begun: bool) -> bytes:
    """The first whole message; the very first has no letter before its length."""
    start = 1 if has_begun else 0
    if len(waiting) < start + _SIZE:
        return b""
    size = start + int.from_bytes(waiting[start : start + _SIZE])
    return waiting[:size] if len(waiting) >= size else b""


def _end(*both: socket.socket) -> None:
    for one in both:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextlib.contextmanager
def cuttable(database: Database) -> Iterator[tuple[Link, Database]]:
    """The same database over a link that can be cut."""
    url = make_url(database.url)
    with tempfile.TemporaryDirectory(prefix="cut-") as folder:
        link = Link(Path(folder), Path(str(url.query["host"])))
        by_link = url.update_query_dict({"host": folder, "application_name": _NAME})
        opened = Database(by_link.render_as_string(hide_password=False), MASTER_KEY, pool_size=8)
        try:
            yield link, opened
        finally:
            opened.dispose()
            link.close()


def settled(database: Database) -> None:
    """Waits until the server, too, has ended what was cut."""
    busy = text("select count(*) from pg_stat_activity where application_name = :name")
    for _ in range(2_000):
        with database.unit() as session:
            if session.execute(busy, {"name": _NAME}).scalar_one() == 0:
                return
        time.sleep(0.005)
    raise AssertionError("the server still works on what was cut")
