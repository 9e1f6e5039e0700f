"""Who works at once: brief ones let each other go first, and nobody is kept waiting by that for long."""

import contextlib
from typing import Any

import anyio
import pytest

from api import seats
from api.app import create_app
from api.deps import DoorRoute
from api.seats import BRIEF_AT_ONCE, Seats
from screening.db import Database
from screening.errors import ServiceBusy
from tests.doors import settings

SCOPE: dict[str, Any] = {}


async def sit(house: Seats, held: contextlib.AsyncExitStack, count: int) -> None:
    for _ in range(count):
        await held.enter_async_context(house.taken(SCOPE, is_brief=True))


def test_a_brief_one_waits_for_its_turn_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "PATIENCE_SECONDS", 600)

    async def told() -> None:
        house, has_come = Seats(16), anyio.Event()

        async def comes() -> None:
            async with house.taken(SCOPE, is_brief=True):
                has_come.set()

        async with anyio.create_task_group() as tasks:
            async with contextlib.AsyncExitStack() as held:
                await sit(house, held, BRIEF_AT_ONCE)
                tasks.start_soon(comes)
                await anyio.wait_all_tasks_blocked()
                assert not has_come.is_set()
                async with house.taken(SCOPE):
                    pass
            await has_come.wait()

    anyio.run(told)


def test_who_waited_long_enough_goes_on_without_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "PATIENCE_SECONDS", 0.01)

    async def told() -> None:
        house = Seats(16)
        async with contextlib.AsyncExitStack() as held:
            await sit(house, held, 16)
            assert house._all.borrowed_tokens == 16
        assert house._all.borrowed_tokens == house._brief.borrowed_tokens == 0

    anyio.run(told)


def test_a_full_house_gives_the_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "SEAT_SECONDS", 0.01)

    async def told() -> None:
        house = Seats(2)
        async with contextlib.AsyncExitStack() as held:
            await sit(house, held, 2)
            with pytest.raises(ServiceBusy):
                await sit(house, held, 1)
            assert house._brief.borrowed_tokens == 2

    anyio.run(told)


def test_what_many_ask_at_once_is_brief(database: Database) -> None:
    doors = [route for route in create_app(database, settings()).routes if isinstance(route, DoorRoute)]
    assert {(min(route.methods or ()), route.path) for route in doors if route.is_brief} == {
        ("GET", "/v1/alerts"),
        ("GET", "/v1/assignments/{assignment_id}"),
        ("POST", "/v1/alerts/{alert_id}/acknowledgement"),
        ("POST", "/v1/assignments/{assignment_id}/submit"),
        ("PUT", "/v1/assignments/{assignment_id}/answers"),
    }
