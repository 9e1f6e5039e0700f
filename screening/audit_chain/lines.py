"""What is hashed: a line of account as canonical bytes, and its link to the place before it. Pure."""

import datetime as dt
import hashlib
import uuid

BEGINNING = bytes(32)
"""Stands before the first place of a chain."""

CANONICAL = (
    "concat_ws('|', e.district_id, e.id, e.xact, extract(epoch from e.at), coalesce(e.actor_id::text, '-'),"
    " octet_length(e.role), e.role, octet_length(e.action), e.action, octet_length(e.subject), e.subject,"
    " octet_length(e.subject_id), e.subject_id, e.detail)"
)
"""SQL for the whole of a line `e` as one text: every column, texts after their length, so that none reads two ways."""


def link(before: bytes, sequence: int, canonical: bytes) -> bytes:
    """The 32-byte hash of a place: SHA-256 over the hash before it, its number in eight bytes, and its line."""
    return hashlib.sha256(before + sequence.to_bytes(8, "big") + canonical).digest()


def head_message(district_id: uuid.UUID, sequence: int, chain_hash: bytes, sealed_at: dt.datetime) -> bytes:
    """What is signed of a head: which chain, how far, where it stood, and when."""
    told = sealed_at.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return f"screening audit head/{district_id}/{sequence}/{chain_hash.hex()}/{told}".encode()
