"""How many requests work at once: as many as there are connections, so that none waits for another's.

Brief ones also let each other go first. Those of one process take turns in its interpreter, and a second core does
not change that: sixteen at once get through no more than five do, but each of them is at it for longer.
"""

import functools
from collections.abc import Sequence

import anyio
from starlette.types import Scope

from screening.errors import ServiceBusy

SEAT_SECONDS = 10
KEPT_FOR_THE_QUICK = 4
"""Seats that no file on its way in can take, so that answers come while files do."""
BRIEF_AT_ONCE = 5
"""Brief ones that work side by side: one in the interpreter, and the others at the database meanwhile."""
PATIENCE_SECONDS = 0.25
"""How long a brief one lets others go first: they may wait for a lock that somebody holds for long."""


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

    @functools.cached_property
    def _brief(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(BRIEF_AT_ONCE)

    def taken(self, scope: Scope, *, is_file: bool = False, is_brief: bool = False) -> "_Sitting":
        """Holds a seat; what is asked again on behalf of a request that sits already needs none."""
        if scope.get("state", {}).get("is_replay"):
            return _Sitting([])
        return _Sitting([self._files, self._all] if is_file else [self._all], self._brief if is_brief else None)


class _Sitting:
    """From taking all of its seats to giving them back."""

    def __init__(self, wanted: Sequence[anyio.CapacityLimiter], turns: anyio.CapacityLimiter | None = None) -> None:
        self._wanted = wanted
        self._turns = turns
        self._held: list[anyio.CapacityLimiter] = []

    async def __aenter__(self) -> None:
        try:
            if self._turns is not None:
                await self._is_taken(self._turns, PATIENCE_SECONDS)
            for limiter in self._wanted:
                if not await self._is_taken(limiter, SEAT_SECONDS):
                    raise ServiceBusy("Too much is asked at once. Try again shortly.")
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def _is_taken(self, limiter: anyio.CapacityLimiter, patience: float) -> bool:
        try:
            limiter.acquire_on_behalf_of_nowait(self)  # nearly always: a watched wait costs as much as the work
        except anyio.WouldBlock:
            with anyio.move_on_after(patience) as watch:
                await limiter.acquire_on_behalf_of(self)
            if watch.cancelled_caught:
                return False
        self._held.append(limiter)
        return True

    def _leave(self) -> None:
        while self._held:
            self._held.pop().release_on_behalf_of(self)
