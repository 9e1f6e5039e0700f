"""A load generator of its own process: sends what a plan says, at the times it says, and does not wait for answers.

Open model: requests go out on schedule whatever comes back, and latency counts from the scheduled time, so that a
server which stalls pays for everybody who had to wait. Closed model: so many at once, each waits: the ceiling.
"""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PATIENCE = 15.0
_MOST_IDLE = 2.0  # a server closes idle connections, and must not do so while we send


def drive(
    port: int, plan: str, first: int, most: int, *, rate: float = 0.0, at_once: int = 0, seconds: float, seed: int = 1
) -> dict[str, Any]:
    """Sends at most `most` lines of a plan from `first` on: `rate` per second at random moments, or `at_once` in turn.

    A line is JSON: path, headers, body. Returns latencies (seconds, of answered requests), how late the generator
    itself was, statuses, errors, and the numbers of the lines that were acknowledged (2xx).
    """
    lines = [json.loads(line) for line in Path(plan).read_text().splitlines()[first : first + most]]
    load = _Load(port, [_request(*line) for line in lines], first)
    went = asyncio.run(load.open(rate, seconds, seed) if rate else load.closed(at_once, seconds))
    return {
        "seconds": went,
        "sent": load.n_sent,
        "latencies": load.latencies,
        "lags": load.lags,
        "statuses": {str(status): count for status, count in load.statuses.items()},
        "errors": dict(load.errors),
        "acknowledged": load.acknowledged,
        "sample": load.sample,
    }


def _request(path: str, headers: dict[str, str], body: str) -> bytes:
    content = body.encode()
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(content)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


@dataclass
class _Load:
    port: int
    requests: list[bytes]
    first: int
    n_sent: int = 0
    latencies: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: list[int] = field(default_factory=list)
    sample: str = ""
    idle: "deque[tuple[_Connection, float]]" = field(default_factory=deque)

    async def open(self, rate: float, seconds: float, seed: int) -> float:
        start = time.perf_counter() + 0.1
        sending = set()
        for number, scheduled in enumerate(_schedule(start, rate, seconds, seed)):
            if number >= len(self.requests):
                break
            await asyncio.sleep(max(0.0, scheduled - time.perf_counter()))
            self.lags.append(time.perf_counter() - scheduled)
            sending.add(asyncio.create_task(self._send(number, scheduled)))
        await asyncio.gather(*sending)
        return time.perf_counter() - start

    async def closed(self, at_once: int, seconds: float) -> float:
        start = time.perf_counter()
        numbers = itertools.count()

        async def one() -> None:
            while time.perf_counter() < start + seconds:
                number = next(numbers)
                if number >= len(self.requests):
                    return
                await self._send(number, time.perf_counter())

        await asyncio.gather(*(one() for _ in range(at_once)))
        return time.perf_counter() - start

    async def _send(self, number: int, since: float) -> None:
        self.n_sent += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = await self._connected()
                try:
                    status, body = await connection.ask(self.requests[number])
                except BaseException:
                    connection.end()
                    raise
        except Exception as error:
            self.errors[type(error).__name__] += 1
            return
        if connection.is_open:
            self.idle.append((connection, time.perf_counter()))
        self.statuses[status] += 1
        if 200 <= status < 300:
            self.latencies.append(time.perf_counter() - since)
            self.acknowledged.append(self.first + number)
        elif not self.sample:
            self.sample = body[:300].decode(errors="replace")

    async def _connected(self) -> "_Connection":
        while self.idle:
            connection, since = self.idle.pop()
            if connection.is_open and time.perf_counter() - since < _MOST_IDLE:
                return connection
            connection.end()
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(_Connection, "127.0.0.1", self.port)
        return made


def _schedule(start: float, rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments of independent senders: the gaps between them are exponential."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    moment = start + rng.expovariate(rate)
    while moment < start + seconds:
        yield moment
        moment += rng.expovariate(rate)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 kept alive, one request at a time; answers must say how long they are."""

    def __init__(self) -> None:
        self.is_open = False
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport, self.is_open = transport, True

    def connection_lost(self, reason: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(reason or ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not mark or self._answer is None or self._answer.done():
            return
        status, *lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines)
        if len(rest) < int(headers.get(b"content-length", b"0")):
            return
        self._received.clear()
        if headers.get(b"connection", b"").strip() == b"close":
            self.end()
        self._answer.set_result((int(status.split(b" ")[1]), rest))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self._transport is None:
            raise ConnectionResetError("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def end(self) -> None:
        self.is_open = False
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.abort()
