"""How the two sides speak: frames of a JSON header and Arrow bodies, each with its length in front."""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import polars as pl

BEGIN, KILL = b"b", b"k"
"""What a nest is asked for: a child, with its files; or the end of the child with the id that follows."""
_LENGTH = struct.Struct("!I")
_LONGEST_HEADER = 64_000_000
_LONGEST_BODY = 2_000_000_000


class BrokenFrame(Exception):
    """The other side stopped in the middle, or said something that is no frame."""


def write_text(out: BinaryIO, text: bytes) -> None:
    """Writes one length-prefixed text."""
    out.write(_LENGTH.pack(len(text)))
    out.write(text)


def read_text(read: Callable[[int], bytes]) -> bytes | None:
    """Reads what `write_text` wrote; None when the other side ended before it."""
    prefix = _exactly(read, _LENGTH.size, may_end=True)
    if not prefix:
        return None
    (length,) = _LENGTH.unpack(prefix)
    if length > _LONGEST_HEADER:
        raise BrokenFrame
    return _exactly(read, length)


def write_frame(out: BinaryIO, header: dict[str, Any], tables: Sequence[pl.DataFrame] = ()) -> None:
    """Writes one frame: the header and its tables."""
    # lz4 costs less time than moving the bytes it saves through a pipe.
    bodies = [t.write_ipc_stream(None, compression="lz4").getbuffer() for t in tables]
    write_text(out, json.dumps({**header, "sizes": [len(body) for body in bodies]}).encode())
    for body in bodies:
        out.write(body)
    out.flush()


def read_frame(read: Callable[[int], bytes]) -> tuple[dict[str, Any], list[pl.DataFrame]] | None:
    """Reads what `write_frame` wrote; None at the end. Raises BrokenFrame."""
    text = read_text(read)
    if text is None:
        return None
    try:
        header = json.loads(text)
        sizes = [int(size) for size in header["sizes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenFrame from error
    if any(not 0 <= size <= _LONGEST_BODY for size in sizes):
        raise BrokenFrame
    bodies = [_exactly(read, size) for size in sizes]
    try:
        return header, [pl.read_ipc_stream(body) for body in bodies]
    except Exception as error:
        raise BrokenFrame from error


def _exactly(read: Callable[[int], bytes], n: int, may_end: bool = False) -> bytes:
    pieces, missing = [], n
    while missing:
        piece = read(missing)
        if not piece:
            if may_end and missing == n:
                return b""
            raise BrokenFrame
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
