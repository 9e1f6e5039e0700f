"""The service as it is run, `screening serve` and `screening worker` on a home of their own; forms coming in; kills."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from screening import embedded, migration

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300.0
"""Seconds after which a service that does not answer fails the run; a form is sent again for three times as long."""
SCREENING = (sys.executable, "-m", "api.cli")


@dataclass
class Service:
    """Web with its worker beside, later another worker apart, kept up as a service manager keeps them."""

    home: Path
    port: int
    superuser_url: str
    has_worker_apart: bool = False
    programs: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    begun: Counter[str] = field(default_factory=Counter)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._keep_up, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        time.sleep(0.3)
        for program in self.programs.values():
            program.send_signal(signal.SIGTERM)
        for program in self.programs.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(30)
            program.kill()
            program.wait()
        self._end_the_rest()

    def _end_the_rest(self) -> None:
        """A worker whose web was killed ends by itself, and the last one stops the database."""
        waited(lambda: self._postmaster() is None, time.monotonic())

    def _keep_up(self) -> None:
        commands = {"web": ("serve", "--port", str(self.port)), "worker": ("worker",)}
        while not self._stopping.wait(0.1):
            for name, arguments in commands.items():
                if name == "worker" and not self.has_worker_apart:
                    continue
                if name not in self.programs or self.programs[name].poll() is not None:
                    self.programs[name] = self._began(name, arguments)

    def _began(self, name: str, arguments: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        self.begun[name] += 1
        with (self.home.parent / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*SCREENING, *arguments],
                cwd=ROOT,
                env={**os.environ, "SCREENING_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # -- who can be killed ----------------------------------------------------------------------------

    def victims(self, kind: str) -> list[int]:
        """The processes of that kind that run now."""
        if kind in ("web", "worker"):
            program = self.programs.get(kind)
            return [program.pid] if program is not None and program.poll() is None else []
        postmaster = self._postmaster()
        if postmaster is None or kind == "postmaster":
            return [] if postmaster is None else [postmaster]
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(postmaster).children()
            return [child.pid for child in children if "screening_app" in " ".join(child.cmdline())]
        return []

    def _postmaster(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self.home / "pg" / "data" / "postmaster.pid").read_text().splitlines()[0])
            return pid if psutil.pid_exists(pid) else None
        return None

    # -- who answers ----------------------------------------------------------------------------------

    def does_database_answer(self) -> bool:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.superuser_url, connect_timeout=2) as connection:
            return connection.execute("select 1").fetchone() == (1,)
        return False

    def does_web_answer(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=3) as wire:
            wire.settimeout(3)
            wire.sendall(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return b" 200 " in wire.recv(64)
        return False


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A short folder that the database's own user can enter."""
    with tempfile.TemporaryDirectory(prefix="storm-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "home"


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[embedded.Server]:
    """The home's own server, migrated; it stops afterwards, so that the service is the one that starts it."""
    server = embedded.start(folder)
    try:
        assert migration.migrate(server.owner_url, embedded.APP) == []
        yield server
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- forms coming in -----------------------------------------------------------------------------------


@dataclass
class Stream:
    """Forms that come at a steady rate; each is sent again under its key, ever more slowly, until it is acknowledged.

    At most so many people wait at once: where all of them do, the rate that is reached is lower than the one asked.
    """

    port: int
    token: str
    places: list[uuid.UUID]
    reds: frozenset[uuid.UUID]
    rate: float
    most_waiting: int = 300
    acknowledged: set[uuid.UUID] = field(default_factory=set)
    sent: int = 0
    retries: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0

    def begin(self) -> threading.Thread:
        thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        thread.start()
        return thread

    async def _run(self) -> None:
        chance = random.Random(5)  # noqa: S311 - when people are done
        self._free = asyncio.Semaphore(self.most_waiting)
        began = moment = time.monotonic()
        sending: set[asyncio.Task[None]] = set()
        for place in self.places:
            if self.ending.is_set():
                break
            moment = max(moment + chance.expovariate(self.rate), time.monotonic() - 1)
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            await self._free.acquire()
            self.sent += 1
            task = asyncio.create_task(self._hand_in(place, moment))
            sending.add(task)
            task.add_done_callback(sending.discard)
        self.seconds = time.monotonic() - began
        await asyncio.gather(*sending)

    async def _hand_in(self, place: uuid.UUID, since: float) -> None:
        answers = {f"phq9_{number}": 0 for number in range(1, 9)} | {"phq9_9": 3 if place in self.reds else 0}
        body = json.dumps({"answers": answers}).encode()
        head = (
            f"POST /v1/assignments/{place}/submit HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.token}\r\n"
            f"Idempotency-Key: {place}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        pause = 0.25
        while time.monotonic() < since + 3 * PATIENCE:
            status = await self._asked(head + body)
            self.statuses[status] += 1
            if status == 200:
                self.acknowledged.add(place)
                self.latencies.append(time.monotonic() - since)
                break
            self.retries += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, 4.0)
        self._free.release()

    async def _asked(self, request: bytes) -> int:
        """The status; 0 when there was no answer."""
        try:
            async with asyncio.timeout(15):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(request)
                    line = await reader.readline()
                    return int(line.split()[1])
                finally:
                    writer.close()
        except (OSError, TimeoutError, IndexError, ValueError):
            return 0


# -- kills ---------------------------------------------------------------------------------------------


@dataclass
class Kill:
    """One SIGKILL: what it met, and how long until the database and the service answered again."""

    kind: str
    database_after: float
    web_after: float

    @property
    def web_after_database(self) -> float:
        return max(0.0, self.web_after - self.database_after)


def kill(service: Service, kind: str, chance: random.Random) -> Kill | None:
    """Kills one of that kind, and waits until all answer; None when there was nobody to kill."""
    running = service.victims(kind)
    if not running:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(running), signal.SIGKILL)
    began = time.monotonic()
    database_after = waited(service.does_database_answer, began)
    return Kill(kind, database_after, waited(service.does_web_answer, began))


def waited(answers: Callable[[], bool], began: float) -> float:
    while time.monotonic() < began + PATIENCE:
        if answers():
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"no answer within {PATIENCE:g} s")
