"""Sealing under keys: the master key wraps a district's, the district's wraps a student's; row ids are bound in.

A sealed value is one byte of key number, twelve of nonce, then AES-256-GCM of the plain bytes. What it belongs to
is authenticated with it (`bound_to`), so that a value copied to another row does not open.
"""

import contextlib
import functools
import hmac
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from screening.statements import Statement

KEY_NUMBER = 1
NONCE_BYTES = 12
LOOKUP_BYTES = 16
KEY_BYTES = 32
_DISTRICT = "wrap district"


class CannotOpen(Exception):
    """The value was not sealed under this key, not for this row, or has been changed."""


def seal(key: bytes, plain: bytes, bound_to: str, *, number: int = KEY_NUMBER) -> bytes:
    """Seals `plain` under a 32-byte key; only the same key and the same `bound_to` open it again."""
    nonce = os.urandom(NONCE_BYTES)
    return bytes([number]) + nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())


def unseal(key: bytes, sealed: bytes, bound_to: str, *, number: int = KEY_NUMBER) -> bytes:
    """The plain bytes. Raises CannotOpen for another key, another row or a changed byte."""
    if len(sealed) < 1 + NONCE_BYTES or sealed[0] != number:
        raise CannotOpen
    return _opened(AESGCM(key), sealed, bound_to)


def _opened(cipher: AESGCM, sealed: bytes, bound_to: str) -> bytes:
    try:
        return cipher.decrypt(sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :], bound_to.encode())
    except InvalidTag:
        raise CannotOpen from None


def keyed_hash(key: bytes, text: bytes) -> bytes:
    """The first 16 bytes of HMAC-SHA256: finds an exact value again without keeping it."""
    return hmac.digest(key, text, "sha256")[:LOOKUP_BYTES]


def derive(key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose, so that no key is used for two."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(key)


def new_key() -> bytes:
    return os.urandom(32)


class Ring:
    """The master keys: the first wraps, all of them open. Holds key material: never in a repr.

    When none opens a value, they are read anew, once: another process may have begun to wrap with a new one.
    """

    def __init__(self, keys: Sequence[bytes], reread: Callable[[], Sequence[bytes]] | None = None) -> None:
        self._keys = tuple(keys)
        self._reread = reread

    def __repr__(self) -> str:
        return f"Ring({len(self._keys)} keys)"

    @property
    def keys(self) -> tuple[bytes, ...]:
        return self._keys

    @property
    def first(self) -> bytes:
        return self._keys[0]

    def read_anew(self) -> None:
        if self._reread is not None:
            self._keys = tuple(self._reread())

    def wrap(self, plain: bytes, purpose: str, bound_to: str) -> bytes:
        return seal(_purpose(self.first, purpose), plain, bound_to)

    def unwrap(self, wrapped: bytes, purpose: str, bound_to: str) -> bytes:
        """Raises CannotOpen when no key of the ring wrapped this for that."""
        try:
            return _unwrap(self._keys, wrapped, purpose, bound_to)
        except CannotOpen:
            if self._reread is None:
                raise
            self.read_anew()
            return _unwrap(self._keys, wrapped, purpose, bound_to)


@dataclass(frozen=True)
class Keys:
    """What one district's keys can do. Holds key material: never logged, never sent, never in a repr.

    The `number`th of them seals; each value says in its first byte which one opens it. What is found by keyed hash
    is found under the first for good.
    """

    district_id: uuid.UUID
    _keys: tuple[bytes, ...]
    number: int = KEY_NUMBER

    def __repr__(self) -> str:
        return f"Keys({self.district_id})"

    def seal(self, plain: bytes, bound_to: str) -> bytes:
        return seal(_purpose(self._keys[self.number - 1], "seal"), plain, bound_to, number=self.number)

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        number = sealed[0] if sealed else 0
        if not 1 <= number <= len(self._keys) or len(sealed) < 1 + NONCE_BYTES:
            raise CannotOpen
        return _opened(_sealing_cipher(self._keys[number - 1]), sealed, bound_to)

    def seal_text(self, text: str, bound_to: str) -> bytes:
        return self.seal(text.encode(), bound_to)

    def open_text(self, sealed: bytes, bound_to: str) -> str:
        return self.open(sealed, bound_to).decode()

    def lookup(self, text: str, purpose: str) -> bytes:
        return keyed_hash(_purpose(self._keys[0], f"lookup {purpose}"), text.encode())

    def lookup_key(self, purpose: str) -> bytes:
        """The key of `lookup`, for callers that hash a whole column in one loop."""
        return _purpose(self._keys[0], f"lookup {purpose}")

    def with_one_more(self) -> "Keys":
        """With a fresh key that opens but does not seal yet: whoever reads has to know it before anybody uses it."""
        return replace(self, _keys=(*self._keys, new_key()))

    def with_the_last(self) -> "Keys":
        """With the last key as the one that seals."""
        return replace(self, number=len(self._keys))

    def exported(self) -> dict[str, object]:
        """The keys themselves, for the sealed file of a district that leaves and for nothing else.

        A value opens under HKDF-SHA256 of the key that its first byte numbers, with the information `seal`.
        """
        return {"district": str(self.district_id), "number": self.number, "keys": [key.hex() for key in self._keys]}

    def wrapped(self, ring: Ring) -> bytes:
        """As the district keeps them: a single key as it is, several after the number of the one that seals."""
        plain = self._keys[0] if len(self._keys) == 1 else bytes([self.number]) + b"".join(self._keys)
        return ring.wrap(plain, _DISTRICT, f"district/{self.district_id}")


@functools.lru_cache(maxsize=4096)
def _purpose(key: bytes, purpose: str) -> bytes:
    return derive(key, purpose)


@functools.lru_cache(maxsize=4096)
def _sealing_cipher(key: bytes) -> AESGCM:
    """Of a district's key: a page of names opens under it as many times."""
    return AESGCM(_purpose(key, "seal"))


def wrap_district_key(ring: Ring, district_id: uuid.UUID, key: bytes) -> bytes:
    return Keys(district_id, (key,)).wrapped(ring)


def wrap_lookup_key(ring: Ring, key: bytes) -> bytes:
    return ring.wrap(key, "wrap lookup", "lookup")


def unwrap_lookup_key(ring: Ring, wrapped: bytes) -> bytes:
    return ring.unwrap(wrapped, "wrap lookup", "lookup")


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
        found = _WRAPPED.first(session, {"district": district_id})
        if found is None:
            raise NoResultFound(f"there is no district {district_id}")
        held = unwrap_district_keys(session.info["ring"], district_id, found["wrapped_key"])
        session.info["keys"] = held
    return held


_WRAPPED = Statement("select wrapped_key from districts where id = :district")


def unwrap_district_keys(ring: Ring, district_id: uuid.UUID, wrapped: bytes) -> Keys:
    """Raises CannotOpen for another master key, another district's keys or a changed byte."""
    plain = ring.unwrap(wrapped, _DISTRICT, f"district/{district_id}")
    if len(plain) == KEY_BYTES:
        return Keys(district_id, (plain,))
    several = tuple(plain[place : place + KEY_BYTES] for place in range(1, len(plain), KEY_BYTES))
    return Keys(district_id, several, plain[0])


@functools.lru_cache(maxsize=1024)
def _unwrap(ring: tuple[bytes, ...], wrapped: bytes, purpose: str, bound_to: str) -> bytes:
    for key in ring:
        with contextlib.suppress(CannotOpen):
            return unseal(_purpose(key, purpose), wrapped, bound_to)
    raise CannotOpen
