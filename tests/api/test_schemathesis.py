"""Requests nobody thought of, made from the app's own description of itself, in every role: none of them breaks a
door, is answered otherwise than documented, or is answered at all where nobody may ask."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response

from screening.access import ROLES
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, somebody, token_for
from tests.test_doors import ANYBODY, EXPECTED, SEED, Things, made_things

EXAMPLES = 100
"""Of each operation in each mode (as described, and not as described), in the whole run."""
EVERY = 6
"""Of the operations the ordinary run asks every sixth, half of them as described and half not as described."""
ROLES_EACH = 3
"""A door that opens to more roles than that is asked by so many of them in turn."""
REFUSED_EXAMPLES = 4
"""So many of them are asked by everybody who is not let in, too."""
OWN = {"counselor": "an", "lead": "lead", "school_admin": "school_admin_a", "district_admin": "district_admin"}
"""Who made the things, and finds them at their addresses."""
ENDING = frozenset({("DELETE", "/v1/tokens/current"), ("DELETE", "/v1/sessions/current")})
"""They end what the caller comes with; elsewhere they are tried for what they are."""
load_all_checks()
HELD = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "ignored_auth",
    )
]
REJECTS_WHAT_IS_WRONG = CHECKS.get_one("negative_data_rejection")


@dataclass
class Asked:
    """What was asked of whom, and all that was found."""

    things: Things
    headers: Mapping[str, Mapping[str, str]]
    """Of each role; `nobody` comes with nothing, `anybody` with a token that was never given out."""
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def ask(self, case: "schemathesis.Case[Any]", role: str, roles: frozenset[str]) -> None:
        sent = {"headers": dict(self.headers[role])}
        came = case.call(**sent)
        # what is too large is refused before anybody looks whether it is right
        held = HELD if came.status_code != 413 else [each for each in HELD if each is not REJECTS_WHAT_IS_WRONG]
        try:
            case.validate_response(came, held, headers=sent["headers"], transport_kwargs=sent)
        except FailureGroup as group:
            self.found += [f"{role} {case.operation.label} {case.body!r:.200}: {each}" for each in group.exceptions]
            return
        self.answered[role, came.status_code] += 1
        if roles != ANYBODY and not self._is_right(role, came, is_let_in=role in roles):
            self.found.append(f"{role} {case.operation.label}: {came.status_code}")

    def _is_right(self, role: str, came: Response, *, is_let_in: bool) -> bool:
        """405: a method of the same address that is not there, which says nothing of anybody."""
        if role in ("nobody", "anybody"):
            return came.status_code in (401, 404, 405)
        if is_let_in:  # a second factor or a password may be wrong, whoever shows it
            return came.status_code != 401 or came.json()["code"] != "unauthenticated"
        return came.status_code in (403, 404, 405)


@pytest.mark.storm
def test_no_request_in_any_role_breaks_a_door_or_is_answered_otherwise_than_documented(
    cast: Cast, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    app = app_on(cast.database)
    with TestClient(app) as client:
        asked = Asked(made_things(cast, client), _headers(cast, client))
    operations = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
    modes = list(schemathesis.GenerationMode)
    for number, operation in enumerate(operations):
        key = (operation.method.upper(), operation.path)
        if key in ENDING or operation.path == "/health/loop":  # which looks at all tests' districts
            continue
        if is_storm:
            for mode in modes:
                _ask_all(asked, operation, mode, EXPECTED[key], number, is_storm=True)
        elif number % EVERY == SEED % EVERY:
            _ask_all(asked, operation, modes[number // EVERY % 2], EXPECTED[key], number, is_storm=False)
        if number + 1 == len(operations) or (is_storm and number % 10 == 9):
            with capsys.disabled():
                print(f"\nschemathesis: {_told(asked, number + 1)}", flush=True)  # noqa: T201
    assert asked.found == [], "\n".join(asked.found)
    assert {status for _, status in asked.answered} >= {200, 401, 403, 404, 422}


def _ask_all(
    asked: Asked,
    operation: "schemathesis.APIOperation[Any, Any, Any, Any]",
    mode: schemathesis.GenerationMode,
    roles: frozenset[str],
    number: int,
    *,
    is_storm: bool,
) -> None:
    """Makes examples of one operation and asks each in many roles: making one costs more than asking it."""
    let_in = sorted(ROLES if roles == ANYBODY else roles)
    others = sorted(asked.headers.keys() - set(let_in))
    turn = itertools.count()

    @settings(
        max_examples=EXAMPLES if is_storm else 1,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: "schemathesis.Case[Any]") -> None:
        place = next(turn)
        if mode is schemathesis.GenerationMode.POSITIVE and place % 2 == 0:
            _name_own(case, asked.things)
        for role in _in_turn(let_in, ROLES_EACH if is_storm else 1, number + place):
            asked.ask(case, role, roles)
        if not is_storm or place < REFUSED_EXAMPLES:
            for role in _in_turn(others, len(others) if is_storm else 1, number):
                asked.ask(case, role, roles)

    with contextlib.suppress(Unsatisfiable):  # an operation may have nothing to get wrong
        ask()


def _in_turn(roles: list[str], count: int, turn: int) -> list[str]:
    return [roles[(turn * count + place) % len(roles)] for place in range(min(count, len(roles)))]


def _name_own(case: "schemathesis.Case[Any]", things: Things) -> None:
    """Puts ids of what is there in the place of ids by chance."""
    for name in case.path_parameters or {}:
        kept = getattr(things, name.removesuffix("_id"), None)
        if name.endswith("_id") and kept is not None:
            case.path_parameters[name] = str(kept)


def _headers(cast: Cast, client: TestClient) -> dict[str, dict[str, str]]:
    people = {role: getattr(cast, OWN[role]) if role in OWN else somebody(cast, role) for role in ROLES}
    tokens = {role: token_for(cast.database, actor, 600) for role, actor in people.items()}
    return {
        **{role: {"Authorization": f"Bearer {token}"} for role, token in tokens.items()},
        "nobody": {},
        "anybody": {"Authorization": f"Bearer {'x' * 43}"},
    }


def _told(asked: Asked, operations: int) -> str:
    by_role = Counter[str]()
    for (role, _), count in asked.answered.items():
        by_role[role] += count
    statuses = Counter[int]()
    for (_, status), count in asked.answered.items():
        statuses[status] += count
    return (
        f"{by_role.total()} requests at {operations} operations in {len(by_role)} roles, {len(asked.found)} findings;"
        f" {dict(sorted(statuses.items()))}; {dict(sorted(by_role.items()))}"
    )
