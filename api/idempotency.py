"""The same keyed request twice has one effect, and the first answer under today's rights.

Kept of an answer are its digest, status and address. A repetition rolls back whatever it did and reads again what
stands at that address, so that it shows no more than its sender may see now.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from api.errors import IdempotencyMismatch, InvalidInput
from screening import access
from screening.errors import Problem
from screening.statements import Statement

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class Replayed(Exception):
    """This was done before; nothing is kept of doing it again."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status = status
        self.location = location


@dataclass(frozen=True)
class Once:
    """One keyed request in its transaction."""

    session: Session
    by: access.Actor
    key: str
    first: tuple[bytes, int, str] | None
    """Digest, status and address of the first answer; None when this is the first."""

    def begin(self, digest: bytes) -> None:
        """Ends a repetition before it does anything, where the request is known already."""
        if self.first is not None:
            self._repeat(digest)

    def finish(self, digest: bytes, status: int, location: str) -> None:
        """Writes down the first answer; a repetition is only found out here when its body had to be stored first."""
        if self.first is not None:
            self._repeat(digest)
            return
        about = {"district": self.by.district_id, "account": self.by.account_id, "key": self.key}
        _KEEP.later(self.session, about | {"digest": digest, "status": status, "location": location})

    def _repeat(self, digest: bytes) -> None:
        if self.first is None:
            return
        of_first, status, location = self.first
        if of_first != digest:
            raise IdempotencyMismatch("This key came with another request before. Use a new key for a new request.")
        if location:  # without an address the act is one of which twice is once, and is simply done again
            raise Replayed(status, location)


def key_of(request: Request) -> str | None:
    """The key that came along, if any. Raises InvalidInput for one that is none."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        words = "A key has 1 to 200 printable characters, without blanks."
        raise InvalidInput(words, problems=[Problem("invalid_key", words, column=HEADER)])
    return key


def once(session: Session, by: access.Actor, key: str) -> Once:
    """Takes the key: who comes with it at the same moment waits until this transaction has ended."""
    _TAKE.later(session, {"what": f"once/{by.account_id}/{key}"})
    found = _FIND.first(session, {"district": by.district_id, "account": by.account_id, "key": key})
    first = None if found is None else (bytes(found["request_digest"]), found["status"], found["location"])
    return Once(session, by, key, first)


_TAKE = Statement("select pg_advisory_xact_lock(hashtextextended(:what, 0))")
_FIND = Statement(
    "select request_digest, status, location from idempotency_keys"
    " where district_id = :district and account_id = :account and key = :key"
)
_KEEP = Statement(
    "insert into idempotency_keys (district_id, account_id, key, request_digest, status, location)"
    " values (:district, :account, :key, :digest, :status, :location)"
)


def digest_of(request: Request, body: bytes) -> bytes:
    """What makes two requests the same: method, address and the body's bytes (or their digest)."""
    whole = hashlib.sha256()
    asked = request.scope
    for part in (asked["method"].encode(), asked["path"].encode(), asked["query_string"], body):
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()


async def replay(request: Request, error: Exception) -> Response:
    """The first answer: its status, and what stands at its address for this reader now."""
    if not isinstance(error, Replayed):
        raise error
    if getattr(request.scope["route"], "repeats", "thing") == "location":
        return JSONResponse({"location": error.location}, error.status, {"Location": error.location, **_REPLAYED})
    scope = {key: value for key, value in request.scope.items() if key in _KEPT} | {
        "method": "GET",
        "path": error.location.partition("?")[0],
        "raw_path": error.location.partition("?")[0].encode(),
        "query_string": error.location.partition("?")[2].encode(),
        "headers": [pair for pair in request.scope["headers"] if pair[0] in _SHOWN],
        "state": {"is_replay": True},
    }
    sent: dict[str, Any] = {"body": b""}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            sent["status"], sent["headers"] = message["status"], dict(message["headers"])
        else:
            sent["body"] += message.get("body", b"")

    await request.app(scope, receive, send)
    headers = {"Location": error.location, **_REPLAYED}
    headers |= {"ETag": sent["headers"][b"etag"].decode()} if b"etag" in sent["headers"] else {}
    return Response(
        sent["body"],
        status_code=error.status if sent["status"] == 200 else sent["status"],
        media_type=sent["headers"].get(b"content-type", b"application/json").decode(),
        headers=headers,
    )


_REPLAYED = {"Idempotency-Replayed": "true"}
_SHOWN = (b"authorization", b"cookie", b"host", b"accept")
_KEPT = ("type", "asgi", "http_version", "scheme", "server", "client", "root_path", "app", "extensions")
