"""Every role check is taken away once, to see that the look at the doors notices; and what is foreign takes no longer
to refuse than what is not there."""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI

from api.deps import DoorRoute
from screening.access import ROLES
from screening.db import Database
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import Caller, app_on, caller, somebody
from tests.test_doors import ANYBODY, EXPECTED, LET_IN, SEED, Things, address_of, made_things, routes

KEEPING = frozenset({"/v1/tokens/current"})
ALIKE = (
    "/v1/students/{student_id}",
    "/v1/students/{student_id}/history",
    "/v1/results/{student_id}/{round_id}",
    "/v1/alerts/{alert_id}",
    "/v1/cases/{case_id}",
)


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as opened:
        yield opened


@contextmanager
def opened_to(route: DoorRoute, roles: frozenset[str]) -> Iterator[None]:
    """The route as if its roles were these."""
    own = route.roles
    route.roles = roles
    try:
        yield
    finally:
        route.roles = own


def is_as_expected(comer: Caller, role: str, method: str, path: str) -> bool:
    """What `test_a_role_is_let_in_where_the_matrix_says_so_and_nowhere_else` asks of one route."""
    came = comer.ask(method, address_of(path))
    return (came.status_code in LET_IN) == (role in EXPECTED[method, path])


@pytest.mark.storm
def test_a_role_check_that_is_taken_away_or_too_tight_is_noticed(
    cast: Cast, app: FastAPI, client: TestClient, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    comers = {role: caller(client, cast.database, somebody(cast, role)) for role in sorted(ROLES)}
    mutants = [
        (method, route, role, without)
        for method, route in routes(app)
        if EXPECTED[method, route.path] != ANYBODY and route.path not in KEEPING
        for role in comers
        for without in (EXPECTED[method, route.path] - {role} or frozenset({"operator"}),)
    ]
    taken = mutants if is_storm else random.Random(SEED).sample(mutants, len(mutants) // 40)  # noqa: S311 - a sample
    survivors = []
    for method, route, role, without in taken:
        is_let_in = role in EXPECTED[method, route.path]
        assert is_as_expected(comers[role], role, method, route.path), (method, route.path, role)
        with opened_to(route, without if is_let_in else ROLES):
            if is_as_expected(comers[role], role, method, route.path):
                survivors.append((method, route.path, role))
    with capsys.disabled():
        print(f"\nrole checks: {len(taken)} of {len(mutants)} mutants, {len(taken) - len(survivors)} noticed")  # noqa: T201
    assert survivors == []


# -- as long as what is not there -----------------------------------------------------------------------


def seconds(ask: Callable[[], object]) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


def area(left: list[float], right: list[float]) -> float:
    """How well a threshold tells the two apart: 0.5 is not at all (area under the curve, by ranks)."""
    ranked = sorted([(value, 0) for value in left] + [(value, 1) for value in right])
    ranks = sum(place for place, (_, kind) in enumerate(ranked, 1) if kind)
    found = (ranks - len(right) * (len(right) + 1) / 2) / (len(left) * len(right))
    return max(found, 1 - found)


@pytest.mark.storm
def test_what_is_foreign_is_refused_in_the_time_of_what_is_not_there(
    cast: Cast, client: TestClient, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """In turn, and each pair in a drawn order, so that whatever else the machine does falls on both alike."""
    things: Things = made_things(cast, client)
    chen = caller(client, cast.database, cast.chen)
    drawn = random.Random(SEED)  # noqa: S311 - an order
    areas, told = [], []
    for path in ALIKE:
        addresses = (address_of(path), things.at(path, cast.school_a.id))
        came = [chen.get(address) for address in addresses]
        assert (
            (came[0].status_code, came[0].content) == (came[1].status_code, came[1].content) == (404, came[0].content)
        )
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(400 if is_storm else 12):
            for kind in drawn.sample((0, 1), 2):
                times[kind].append(seconds(lambda address=addresses[kind]: chen.get(address)))  # type: ignore[misc]
        areas.append(area(*times))
        medians = [statistics.median(each) * 1_000 for each in times]
        told.append(f"{path}: absent {medians[0]:.2f} ms, foreign {medians[1]:.2f} ms, area {areas[-1]:.3f}")
    with capsys.disabled():
        print("\n" + "\n".join(told))  # noqa: T201
    if is_storm:  # a dozen pairs tell nothing of time
        assert statistics.mean(areas) <= 0.55
        assert max(areas) <= 0.6


def test_the_area_of_what_is_alike_and_of_what_is_not() -> None:
    assert area([1, 2, 3], [4, 5, 6]) == area([4, 5, 6], [1, 2, 3]) == 1
    assert area([1, 3, 5, 7], [2, 3.1, 4.9, 7.1]) == pytest.approx(0.5625)
