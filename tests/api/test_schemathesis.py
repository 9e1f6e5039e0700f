"""Requests nobody thought of, made from the app's own description of itself: none of them breaks a door."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks

from screening.access import Actor
from tests.cast import Cast
from tests.doors import app_on, caller, round_body, token_for

EXAMPLES = 200 if os.environ.get("SCREENING_STORM") == "1" else 1
load_all_checks()
FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
HELD = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]
ROLES: dict[str, Callable[[Cast], Actor]] = {
    "counselor": lambda cast: cast.an,
    "school_admin": lambda cast: cast.school_admin_a,
    "district_admin": lambda cast: cast.district_admin,
}


@pytest.mark.storm
@pytest.mark.parametrize("role", ROLES)
def test_no_request_breaks_a_door_or_is_answered_otherwise_than_documented(cast: Cast, role: str) -> None:
    app = app_on(cast.database)
    with TestClient(app) as client:
        caller(client, cast.database, cast.district_admin).post("/v1/rounds", json=round_body())
    token = token_for(cast.database, ROLES[role](cast))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    answered: Counter[int] = Counter()

    @FEW
    def ask(case: schemathesis.Case) -> None:
        came = case.call_and_validate(checks=HELD, headers={"Authorization": f"Bearer {token}"})
        answered[came.status_code] += 1

    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in ("/health/loop", "/v1/tokens/current"):
            continue  # one looks at all tests' districts, the other ends this very token
        for mode in schemathesis.GenerationMode:
            with contextlib.suppress(Unsatisfiable):  # an operation may have nothing to get wrong
                given(case=operation.as_strategy(generation_mode=mode))(ask)()
    assert answered.total() >= 50 * EXAMPLES
    assert answered[200]
    assert answered[422]
