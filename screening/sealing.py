"""Sealing under keys: the master key wraps a district's, the district's wraps a student's; row ids are bound in.

A sealed value is one byte of key number, twelve of nonce, then AES-256-GCM of the plain bytes. What it belongs to
is authenticated with it (`bound_to`), so that a value copied to another row does not open.
"""

import functools
import os
import uuid
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import select
from sqlalchemy.orm import Session

from screening.models import District

KEY_NUMBER = 1
NONCE_BYTES = 12
LOOKUP_BYTES = 16


class CannotOpen(Exception):
    """The value was not sealed under this key, not for this row, or has been changed."""


def seal(key: bytes, plain: bytes, bound_to: str) -> bytes:
    """Seals `plain` under a 32-byte key; only the same key and the same `bound_to` open it again."""
    nonce = os.urandom(NONCE_BYTES)
    return bytes([KEY_NUMBER]) + nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())


def unseal(key: bytes, sealed: bytes, bound_to: str) -> bytes:
    """The plain bytes. Raises CannotOpen for another key, another row or a changed byte."""
    if len(sealed) < 1 + NONCE_BYTES or sealed[0] != KEY_NUMBER:
        raise CannotOpen
    nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, body, bound_to.encode())
    except InvalidTag:
        raise CannotOpen from None


def keyed_hash(key: bytes, text: bytes) -> bytes:
    """The first 16 bytes of HMAC-SHA256: finds an exact value again without keeping it."""
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(text)
    return mac.finalize()[:LOOKUP_BYTES]


def derive(key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose, so that no key is used for two."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(key)


def new_key() -> bytes:
    return os.urandom(32)


@dataclass(frozen=True)
class Keys:
    """What one district's key can do. Holds key material: never logged, never sent, never in a repr."""

    district_id: uuid.UUID
    _key: bytes

    def __repr__(self) -> str:
        return f"Keys({self.district_id})"

    def seal(self, plain: bytes, bound_to: str) -> bytes:
        return seal(_purpose(self._key, "seal"), plain, bound_to)

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        return unseal(_purpose(self._key, "seal"), sealed, bound_to)

    def seal_text(self, text: str, bound_to: str) -> bytes:
        return self.seal(text.encode(), bound_to)

    def open_text(self, sealed: bytes, bound_to: str) -> str:
        return self.open(sealed, bound_to).decode()

    def lookup(self, text: str, purpose: str) -> bytes:
        return keyed_hash(_purpose(self._key, f"lookup {purpose}"), text.encode())

    def lookup_key(self, purpose: str) -> bytes:
        """The key of `lookup`, for callers that hash a whole column in one loop."""
        return _purpose(self._key, f"lookup {purpose}")


@functools.lru_cache(maxsize=4096)
def _purpose(key: bytes, purpose: str) -> bytes:
    return derive(key, purpose)


def wrap_district_key(master: bytes, district_id: uuid.UUID, key: bytes) -> bytes:
    return seal(_purpose(master, "wrap district"), key, f"district/{district_id}")


def account_lookup(master: bytes, email: str) -> bytes:
    """How an account is found before any district is known."""
    return keyed_hash(_purpose(master, "lookup account"), email.strip().casefold().encode())


def token_lookup(master: bytes, token: str) -> bytes:
    return keyed_hash(_purpose(master, "lookup token"), token.encode())


def session_lookup(master: bytes, secret: str) -> bytes:
    return keyed_hash(_purpose(master, "lookup session"), secret.encode())


def code_lookup(master: bytes, code: str) -> bytes:
    return keyed_hash(_purpose(master, "lookup code"), code.encode())


def fact_lookup(master: bytes, fact: str) -> bytes:
    return keyed_hash(_purpose(master, "lookup fact"), fact.encode())


def guess_lookup(master: bytes, what: str) -> bytes:
    return keyed_hash(_purpose(master, "lookup guess"), what.encode())


def subject_lookup(master: bytes, issuer: str, subject: str) -> bytes:
    """How an account is found that another sign-in service vouches for."""
    return keyed_hash(_purpose(master, "lookup subject"), f"{len(issuer)}/{issuer}/{subject}".encode())


def purpose_key(master: bytes, purpose: str) -> bytes:
    """A key for one purpose outside any district."""
    return _purpose(master, purpose)


def keys(session: Session) -> Keys:
    """The keys of the district whose scope the session has entered; unwrapped once per session."""
    district_id: uuid.UUID = session.info["scope"].district_id
    held: Keys | None = session.info.get("keys")
    if held is None or held.district_id != district_id:
        wrapped = session.execute(select(District.wrapped_key).where(District.id == district_id)).scalar_one()
        held = Keys(district_id, _unwrap(session.info["master_key"], district_id, wrapped))
        session.info["keys"] = held
    return held


@functools.lru_cache(maxsize=1024)
def _unwrap(master: bytes, district_id: uuid.UUID, wrapped: bytes) -> bytes:
    return unseal(_purpose(master, "wrap district"), wrapped, f"district/{district_id}")
