"""The web application: every door under one roof, and none without its roles."""

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route

from api import auth, errors, health, idempotency
from api.deps import PUBLIC, Door, DoorRoute, problem_schema
from api.seats import Seats
from api.shell import Meters, Shell
from api.v1 import doors
from screening.db import Database
from screening.settings import Settings, UnsafeSettings

VERSION = "1"
OPEN = frozenset(
    {
        "/v1/sessions",
        "/v1/sessions/second-factor",
        "/v1/sessions/code",
        "/v1/sessions/invitation",
        "/v1/referrals/at-place",
        "/v1/referrals/at-place/answer",
        "/v1/referrals/at-place/visit",
        "/v1/sessions/sso",
        "/v1/sessions/sso/callback",
    }
)
"""Where people say who they are: the only doors under /v1 that ask for nobody's name first."""
NOTHING_TOLD: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""What was asked and what went wrong holds children's answers: the framework sends it to nobody, whatever stands in
the environment. /metrics and our own logs tell what may be told."""
SPARE_THREADS = 4
"""For doors that take no seat: whoever asks after the service's health must not wait behind a full house."""


def create_app(database: Database, settings: Settings) -> FastAPI:
    """The app on this database. Raises RuntimeError when a route states no roles."""
    if settings.sign_in_service is not None and importlib.util.find_spec("authlib") is None:
        raise UnsafeSettings(
            ["SCREENING_SSO_ISSUER: needs the extra sso (pip install student-wellbeing-screening[sso])"]
        )
    app = FastAPI(
        title="Student wellbeing screening", version=VERSION, docs_url=None, redoc_url=None, telemetry=NOTHING_TOLD
    )
    app.state.database = database
    app.state.settings = settings
    n_connections = database.engine.pool.size()  # type: ignore[attr-defined]
    app.state.seats = Seats(n_connections)
    app.state.threads = ThreadPoolExecutor(n_connections + SPARE_THREADS, "door")
    app.state.meters = Meters()
    for door in (health.door, *doors()):
        add(app, door)
    check(app)
    errors.install(app)
    app.add_exception_handler(idempotency.Replayed, idempotency.replay)
    app.add_middleware(Shell, meters=app.state.meters, is_https=settings.base_url.startswith("https://"))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def add(app: FastAPI, door: Door) -> None:
    """Puts a door's routes into the app as they are: nothing between them and their roles."""
    app.router.routes.extend(door.routes)


def check(app: FastAPI) -> None:
    """That no route of ours is open by mistake. Raises RuntimeError naming every one that is."""
    faults = list(_faults(app))
    if faults:
        raise RuntimeError("; ".join(faults))


def _faults(app: FastAPI) -> Iterator[str]:
    for route in app.routes:
        path = getattr(route, "path", "?")
        if path == "/openapi.json" and isinstance(route, Route):
            continue
        if not isinstance(route, DoorRoute) or not route.roles:
            yield f"{path} states no roles"
        elif route.roles == PUBLIC and path.startswith("/v1") and path not in OPEN:
            yield f"{path} is public"


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = schema.setdefault("components", {})
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": auth.cookie_name(app.state.settings, "session")},
        }
        details = dict(problem_schema())
        schemas = parts.setdefault("schemas", {})
        schemas |= details.pop("$defs", {})
        schemas["ProblemDetails"] = details
        app.openapi_schema = schema
    return app.openapi_schema
