"""Parts that wait for their turn, small: a million rows read are held until the file's end, and then loaded at once."""

from dataclasses import dataclass

import polars as pl

from screening.reading.plan import Part


@dataclass(frozen=True)
class PackedPart:
    """A part's frames as compressed bytes."""

    bodies: tuple[bytes, bytes, bytes]


def pack(part: Part) -> PackedPart:
    """The part, in about a tenth of its memory."""
    return PackedPart((_bytes(part.answers), _bytes(part.problems), _bytes(part.repeated)))


def unpack(packed: PackedPart) -> Part:
    """What was packed."""
    answers, problems, repeated = map(pl.read_ipc_stream, packed.bodies)
    return Part(answers, problems, repeated)


def _bytes(frame: pl.DataFrame) -> bytes:
    return frame.write_ipc_stream(None, compression="zstd").getvalue()
