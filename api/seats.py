"""How many requests work at once: as many as there are connections, so that none waits for another's."""

import functools
from collections.abc import Sequence

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

    def taken(self, scope: Scope, *, is_file: bool = False) -> "_Sitting":
        """Holds a seat; what is asked again on behalf of a request that sits already needs none."""
        if scope.get("state", {}).get("is_replay"):
            return _Sitting([])
        return _Sitting([self._files, self._all] if is_file else [self._all])


class _Sitting:
    """From taking all of its seats to giving them back."""

    def __init__(self, wanted: Sequence[anyio.CapacityLimiter]) -> None:
        self._wanted = wanted
        self._held: list[anyio.CapacityLimiter] = []

    async def __aenter__(self) -> None:
        try:
            for limiter in self._wanted:
                await self._take(limiter)
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def _take(self, limiter: anyio.CapacityLimiter) -> None:
        try:
            limiter.acquire_on_behalf_of_nowait(self)  # nearly always: a watched wait costs as much as the work
        except anyio.WouldBlock:
            with anyio.move_on_after(SEAT_SECONDS) as watch:
                await limiter.acquire_on_behalf_of(self)
            if watch.cancelled_caught:
                raise ServiceBusy("Too much is asked at once. Try again shortly.") from None
        self._held.append(limiter)

    def _leave(self) -> None:
        while self._held:
            self._held.pop().release_on_behalf_of(self)
