"""What a request brings along: read whole where it is small, by the handler's own thread where it is a file."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.types import Message, Receive

from api.errors import InvalidInput, TooLarge, TooSlow
from api.multipart import SentForm

BODY_BYTES = 1_000_000
SMALL_BYTES = 64_000
PATIENCE_SECONDS = 30


def refuse_long(request: Request, limit: int) -> None:
    """Refuses what announces too much, or comes encoded, before any of it is read."""
    if "content-encoding" in request.headers:
        raise InvalidInput("Send the body as it is, without a content encoding.", code="content_encoding")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length[:19]) > limit:
        raise TooLarge(f"At most {limit // 1_000_000} MB are taken here.")


def is_small(request: Request) -> bool:
    """Whether it announces so little that anybody may send it."""
    if "transfer-encoding" in request.headers:
        return False
    length = request.headers.get("content-length", "0")
    return len(length) <= 5 and length.isdigit() and int(length) <= SMALL_BYTES


async def read(request: Request) -> bytes:
    """The whole body. Raises TooLarge, TooSlow, InvalidInput."""
    refuse_long(request, BODY_BYTES)
    body, is_more = bytearray(), True
    while is_more:
        message = await _next(request.receive)
        if message["type"] == "http.disconnect":
            raise TooSlow("The connection ended before the body did.")
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
        if len(body) > BODY_BYTES:
            raise TooLarge(f"At most {BODY_BYTES // 1_000_000} MB are taken here.")
    return bytes(body)


def again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, for whoever reads next; then whatever the connection says."""
    is_given = False

    async def given() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given


async def _next(receive: Receive) -> Message:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await receive()
    except TimeoutError:
        raise TooSlow(f"Nothing came for {PATIENCE_SECONDS} seconds. Send it again.") from None


async def _sent_form(request: Request) -> Callable[..., SentForm]:
    """A form with a file, read by the handler's own thread while it comes."""
    loop = asyncio.get_running_loop()
    is_more = True

    def chunks() -> bytes:
        nonlocal is_more
        while is_more:
            message = asyncio.run_coroutine_threadsafe(_next(request.receive), loop).result()
            if message["type"] == "http.disconnect":
                raise TooSlow("The connection ended before the file did.")
            is_more = message.get("more_body", False)
            if message.get("body"):
                return bytes(message["body"])
        return b""

    def read_form(*fields: str) -> SentForm:
        form = SentForm(request.headers.get("content-type", ""), chunks, fields=frozenset(fields))
        request.state.form = form
        return form

    return read_form


SentDep = Annotated[Callable[..., SentForm], Depends(_sent_form)]


def form_body(**fields: str) -> dict[str, Any]:
    """How OpenAPI tells of a form with a file: the fields with what they are for, and the file last."""
    properties: dict[str, Any] = {name: {"type": "string", "description": words} for name, words in fields.items()}
    properties["file"] = {"type": "string", "format": "binary", "description": "The last part of the form."}
    schema = {"type": "object", "properties": properties, "required": ["file"], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
