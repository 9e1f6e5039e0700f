"""A client that asks the app in the caller's own thread.

The framework's hands every step of a request to another thread and waits for it, which takes several times as long as
our doors do. What is asked and answered is the same.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote

import httpx2
from starlette.types import ASGIApp, Message, Scope

_PORTS = {"http": 80, "https": 443}
_held = threading.local()


class TestClient(httpx2.Client):
    """Used as the framework's own, but that nothing begins and ends with it: our app waits for neither."""

    __test__ = False

    def __init__(
        self,
        app: ASGIApp,
        base_url: str = "http://testserver",
        raise_server_exceptions: bool = True,
        client: tuple[str, int] = ("testclient", 50_000),
    ) -> None:
        self.app = app
        way = _InThisThread(app, client, raises=raise_server_exceptions)
        super().__init__(base_url=base_url, headers={"user-agent": "testclient"}, transport=way, follow_redirects=True)


class _InThisThread(httpx2.BaseTransport):
    def __init__(self, app: ASGIApp, client: tuple[str, int], *, raises: bool) -> None:
        self.app, self.client, self.raises = app, client, raises

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        visit = _Visit(request.read())
        try:
            _run(visit.go(self.app, self._scope(request)))
        except Exception:
            if self.raises:
                raise
        if visit.start is None:
            return httpx2.Response(500, request=request)
        body = b"" if request.method == "HEAD" else b"".join(visit.parts)
        return httpx2.Response(
            visit.start["status"],
            headers=visit.start["headers"],
            stream=httpx2.ByteStream(body),
            request=request,
        )

    def _scope(self, request: httpx2.Request) -> Scope:
        url = request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(url.path),
            "raw_path": url.raw_path.split(b"?", 1)[0],
            "root_path": "",
            "scheme": url.scheme,
            "query_string": url.query,
            "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.multi_items()],
            "client": self.client,
            "server": [url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]],
            "extensions": {},
            "state": {},
        }


class _Visit:
    """One request: what the app has said so far."""

    def __init__(self, body: bytes) -> None:
        self.body: bytes | None = body
        self.start: Message | None = None
        self.parts: list[bytes] = []
        self.is_over = False

    async def go(self, app: ASGIApp, scope: Scope) -> None:
        self.ending = asyncio.Event()
        await app(scope, self.receive, self.send)

    async def receive(self) -> Message:
        if self.body is None:
            await self.ending.wait()
            return {"type": "http.disconnect"}
        body, self.body = self.body, None
        return {"type": "http.request", "body": body}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert self.start is None, "an answer begins once"
            self.start = message
        elif message["type"] == "http.response.body":
            assert self.start is not None, "an answer begins before it goes on"
            assert not self.is_over, "nothing is said after the end"
            self.parts.append(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                self.is_over = True
                self.ending.set()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs it to its end; the main thread keeps its loop, for there are thousands of these."""
    if threading.current_thread() is not threading.main_thread():
        asyncio.run(work)
        return
    if not hasattr(_held, "runner"):
        _held.runner = asyncio.Runner()
    _held.runner.get_loop().run_until_complete(work)


def end() -> None:
    """Closes what the main thread kept."""
    if hasattr(_held, "runner"):
        _held.runner.close()
        del _held.runner
