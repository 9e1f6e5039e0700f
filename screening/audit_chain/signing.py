"""Signing of heads: Ed25519, so that an auditor can check them with a public key that can sign nothing.

The key is derived from the secret beside the data and never from anything in it: whoever owns the database can
rewrite a chain, but cannot sign where it ends.
"""

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from screening import sealing


def sign(master: bytes, message: bytes) -> bytes:
    return _private(master).sign(message)


def public_key(master: bytes) -> bytes:
    """The 32 raw bytes that check what `sign` signs."""
    return _private(master).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=8)
def _private(master: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sealing.purpose_key(master, "audit heads"))
