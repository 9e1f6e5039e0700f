"""The outermost layer: security headers on every answer, a last net under every error, and what is measured."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors

HEADERS: Sequence[tuple[str, str]] = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
HSTS = ("Strict-Transport-Security", "max-age=63072000; includeSubDomains")


class Meters:
    """What /metrics tells: counts and times by route, never by person, school or id."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("screening_http_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "screening_http_seconds",
            "Seconds until the answer began.",
            ("method", "route"),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )


class Shell:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, meters: Meters, is_https: bool) -> None:
        self.app = app
        self.meters = meters
        headers = [*HEADERS, HSTS] if is_https else HEADERS
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers]
        self.names = frozenset(name for name, _ in self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status: int | None = None

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = [pair for pair in message.get("headers", ()) if pair[0] not in self.names]
                message["headers"] = [*sent, *self.headers]
                self._measure(scope, status, time.perf_counter() - begun)
            await send(message)

        try:
            await self.app(scope, receive, dressed)
        except Exception as error:
            if status is not None:
                raise  # half an answer is out: the connection is cut, and the client knows
            response = errors.of_unknown(error, method=_method(scope), route=_route(scope))
            await response(scope, receive, dressed)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = _method(scope), _route(scope)
        self.meters.requests.labels(method, route, str(status)).inc()
        self.meters.seconds.labels(method, route).observe(seconds)


def _route(scope: Scope) -> str:
    """The route's pattern: an address itself would hold ids, and make as many series as there are students."""
    return str(getattr(scope.get("route"), "path", "none"))


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
