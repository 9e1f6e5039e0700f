"""How many requests work at once: as many as there are connections, so that none waits for another's."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.types import Scope

from screening.errors import ServiceBusy

SEAT_SECONDS = 10
KEPT_FOR_THE_QUICK = 4
"""Seats that no file on its way in can take, so that answers come while files do."""


class Seats:
    """Whoever finds no seat in time is told to come back, while those inside are served."""

    def __init__(self, count: int) -> None:
        self._count = count

    @functools.cached_property
    def _all(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self._count)

    @functools.cached_property
    def _files(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(max(1, self._count - KEPT_FOR_THE_QUICK))

    @asynccontextmanager
    async def taken(self, scope: Scope, *, is_file: bool = False) -> AsyncIterator[None]:
        """Holds a seat; what is asked again on behalf of a request that sits already needs none."""
        if scope.get("state", {}).get("is_replay"):
            yield
            return
        wanted = [self._files, self._all] if is_file else [self._all]
        holder = object()
        held: list[anyio.CapacityLimiter] = []
        try:
            await _take(wanted, held, holder)
            if len(held) < len(wanted):
                raise ServiceBusy("Too much is asked at once. Try again shortly.")
            yield
        finally:
            for limiter in held:
                limiter.release_on_behalf_of(holder)


async def _take(wanted: list[anyio.CapacityLimiter], held: list[anyio.CapacityLimiter], holder: object) -> None:
    for limiter in wanted:
        try:
            limiter.acquire_on_behalf_of_nowait(holder)  # nearly always: a watched wait costs as much as the work
        except anyio.WouldBlock:
            with anyio.move_on_after(SEAT_SECONDS):
                await limiter.acquire_on_behalf_of(holder)
                held.append(limiter)
                continue
            return
        held.append(limiter)
