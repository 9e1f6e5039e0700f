"""What stands on every answer, whatever came of the request; and what is refused before anybody thinks about it."""

import dataclasses
import gzip
import json
import uuid
from collections.abc import Iterator
from typing import NoReturn

import pytest
from fastapi import FastAPI
from httpx2 import Response
from opentelemetry import _logs, metrics, trace

from api.app import create_app
from api.bodies import BODY_BYTES
from api.deps import PUBLIC, DoorRoute
from screening.db import Database
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import NOBODY, app_on, settings, token_for

WANTED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}
DEEP = b"[" * 200_000


@pytest.fixture(scope="module")
def app(database: Database) -> FastAPI:
    """As it stands behind https."""
    return create_app(database, dataclasses.replace(settings(), base_url="https://testserver"))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="https://testserver", raise_server_exceptions=False) as opened:
        yield opened


def missing(came: Response) -> list[str]:
    """What is not as it should be on this answer."""
    faults = [f"{name}: {came.headers.get(name)}" for name, value in WANTED.items() if came.headers.get(name) != value]
    policy = came.headers.get("content-security-policy", "")
    faults += [part for part in ("default-src", "frame-ancestors 'none'", "base-uri") if part not in policy]
    faults += [part for part in ("unsafe-inline", "unsafe-eval", "*") if part in policy]
    if int(came.headers.get("strict-transport-security", "max-age=0").split("=")[1].split(";")[0]) < 31_536_000:
        faults.append("strict-transport-security")
    return faults + [name for name in ("server", "x-powered-by") if name in came.headers]


def addresses(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        if isinstance(route, DoorRoute):
            path = route.path
            for name in route.param_convertors:
                path = path.replace("{" + name + "}", str(NOBODY))
            yield from ((method, path) for method in sorted(route.methods or ()))


def test_every_route_answers_with_them_to_everybody(
    app: FastAPI, cast: Cast, client: TestClient, is_storm: bool
) -> None:
    bearers = {
        "nobody": {},
        "a stranger": {"Authorization": f"Bearer {'x' * 43}"},
        "an administrator": {"Authorization": f"Bearer {token_for(cast.database, cast.district_admin)}"},
        "a counselor": {"Authorization": f"Bearer {token_for(cast.database, cast.an)}"},
    }
    seen: dict[int, int] = {}
    for turn, (method, path) in enumerate(addresses(app)):
        for who in list(bearers) if is_storm else ("nobody", list(bearers)[1 + turn % 3]):
            if path == "/v1/tokens/current":
                continue  # it would be the last one
            came = client.request(method, path, headers=bearers[who])
            assert missing(came) == [], (who, method, path, came.status_code)
            seen[came.status_code] = seen.get(came.status_code, 0) + 1
    assert set(seen) >= {200, 401, 403, 404, 422}
    assert sum(seen.values()) > 250


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing/here", 404),
        ("GET", "/v1/alerts/../../etc/passwd", 404),
        ("PATCH", "/v1/alerts", 405),
        ("TRACE", "/health/live", 405),
        ("OPTIONS", "/v1/alerts", 405),
        ("HEAD", "/health/live", 405),
        ("GET", "/openapi.json", 200),
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 200),
    ],
)
def test_they_stand_where_there_is_no_route_too(client: TestClient, method: str, path: str, status: int) -> None:
    came = client.request(method, path)
    assert came.status_code == status
    assert missing(came) == []


def test_they_stand_on_what_nobody_foresaw_and_on_a_full_house(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api import auth

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(auth, "actor_of", broken)
    came = client.get("/v1/alerts", headers={"Authorization": f"Bearer {'x' * 43}"})
    assert came.status_code == 500
    assert missing(came) == []
    assert "secret words" not in came.text


def test_over_plain_http_nothing_promises_https(database: Database) -> None:
    with TestClient(app_on(database)) as plain:
        assert "strict-transport-security" not in plain.get("/health/live").headers


# -- bodies ---------------------------------------------------------------------------------------------


def bodies(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every route that takes JSON."""
    for route in app.routes:
        if isinstance(route, DoorRoute) and route.body_field is not None and not route.is_streamed:
            path = route.path
            for name in route.param_convertors:
                path = path.replace("{" + name + "}", str(NOBODY))
            yield from ((method, path) for method in sorted(route.methods or ()))


def refusals(app: FastAPI, cast: Cast, client: TestClient) -> Iterator[tuple[str, Response, Response, Response]]:
    """Of each route that takes JSON: its answers to a deep body, a packed one and a huge one."""
    people = [
        {"Authorization": f"Bearer {token_for(cast.database, actor)}"}
        for actor in (cast.district_admin, cast.an, cast.lead)
    ]
    public = {route.path for route in app.routes if isinstance(route, DoorRoute) and route.roles == PUBLIC}
    as_json = {"Content-Type": "application/json"}
    for method, path in bodies(app):
        for who in [{}] if path in public else people:
            deep = client.request(method, path, headers=who | as_json, content=DEEP)
            if deep.status_code == 403:
                continue
            packed = client.request(
                method, path, headers=who | as_json | {"Content-Encoding": "gzip"}, content=gzip.compress(b"{}")
            )
            yield (
                path,
                deep,
                packed,
                client.request(method, path, headers=who | as_json, content=b" " * (BODY_BYTES + 1)),
            )
            break


def test_deep_packed_and_huge_bodies_are_refused_plainly(app: FastAPI, cast: Cast, client: TestClient) -> None:
    tried = 0
    for path, deep, packed, huge in refusals(app, cast, client):
        assert (deep.status_code, deep.json()["code"]) == (422, "unreadable_body"), path
        assert (packed.status_code, packed.json()["code"]) == (422, "content_encoding"), path
        assert (huge.status_code, huge.json()["code"]) == (413, "too_large"), path
        assert missing(deep) + missing(packed) + missing(huge) == []
        tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    "body",
    [
        {"email": "a@b.example", "password": "x" * 401},
        {"email": "a" * 251, "password": "x"},
        {"email": "a@b.example", "password": ""},
        {"email": "a@b.example", "password": 12},
        {"email": "a@b.example", "password": "x", "role": "district_admin"},
        ["email"],
        None,
    ],
)
def test_the_fields_of_a_sign_in_have_limits(client: TestClient, body: object) -> None:
    came = client.post("/v1/sessions", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert came.status_code == 422
    assert missing(came) == []


def test_odd_signs_in_a_sign_in_are_a_wrong_sign_in(client: TestClient) -> None:
    for email, password in (
        ("a\x00b@c.example", "x"),
        ("a@b.example", "\x00"),
        (f"{uuid.uuid4()}@ünï.example", "密" * 300),
    ):
        assert client.post("/v1/sessions", json={"email": email, "password": password}).status_code in (401, 422)
    lone = b'{"email": "\\ud800@b.example", "password": "\\ud800"}'
    assert client.post("/v1/sessions", content=lone, headers={"Content-Type": "application/json"}).status_code == 422


def test_the_framework_tells_nobody_what_was_asked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*_: object) -> NoReturn:
        raise AssertionError("somebody was told")

    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(trace, "get_tracer_provider", told)
    monkeypatch.setattr(metrics, "get_meter_provider", told)
    monkeypatch.setattr(_logs, "get_logger_provider", told)
    with TestClient(create_app(database, settings())) as client:
        assert client.get("/health/live").status_code == 200
        assert client.post("/v1/sessions", json={"email": 7}).status_code == 422
