"""A file sealed for a key that is not here: X25519 agrees on a key of its own, AES-256-GCM seals it in pieces.

The machine that makes backups holds the public half only, so that whoever takes the machine, or a backup, or both,
can open none. Each piece is bound to its number and to whether it is the last: nothing can be cut off, swapped or
put in between. A flipped bit, another key and a file that ends early are refused before the bytes are used.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"SCREENING BACKUP 1\n"
PIECE_BYTES = 1_000_000
TAG_BYTES = 16
KEY_BYTES = 32
_NAME = b"screening backup key, public half\n"
_PRIVATE_NAME = b"screening backup key, private half: keep it away from the service and from the backups\n"


class CannotRead(ValueError):
    """The file is no backup, is for another key, or was changed on the way; told in one line."""


def make_key_pair(private: Path, public: Path) -> None:
    """Makes a new pair; the private half goes to a file that did not exist. Raises FileExistsError."""
    key = X25519PrivateKey.generate()
    _write(private, _PRIVATE_NAME, key.private_bytes_raw(), 0o600)
    _write(public, _NAME, key.public_key().public_bytes_raw(), 0o644)


def read_public_key(path: Path) -> bytes:
    return _read(path, _NAME)


def read_private_key(path: Path) -> bytes:
    return _read(path, _PRIVATE_NAME)


def seal(pieces: Iterable[bytes], target: BinaryIO, public: bytes) -> int:
    """Writes the sealed file and answers how many plain bytes are in it."""
    once = X25519PrivateKey.generate()
    header = MAGIC + once.public_key().public_bytes_raw() + public
    target.write(header)
    cipher = AESGCM(_agreed(once.exchange(X25519PublicKey.from_public_bytes(public)), header))
    count, waiting = 0, None
    for number, piece in enumerate(_even(pieces)):
        count += len(piece)
        if waiting is not None:
            target.write(cipher.encrypt(_nonce(number - 1, is_last=False), waiting, None))
        waiting = piece
    last = 0 if not count else (count - 1) // PIECE_BYTES
    target.write(cipher.encrypt(_nonce(last, is_last=True), waiting or b"", None))
    return count


def unseal(source: BinaryIO, private: bytes) -> Iterator[bytes]:
    """The plain bytes, a piece at a time, each proved before it is handed out. Raises CannotRead."""
    header = source.read(len(MAGIC) + 2 * KEY_BYTES)
    if len(header) != len(MAGIC) + 2 * KEY_BYTES or not header.startswith(MAGIC):
        raise CannotRead("This is no backup of ours.")
    once, meant = header[len(MAGIC) :][:KEY_BYTES], header[-KEY_BYTES:]
    key = X25519PrivateKey.from_private_bytes(private)
    if key.public_key().public_bytes_raw() != meant:
        raise CannotRead("The backup is for another key than this one.")
    cipher = AESGCM(_agreed(key.exchange(X25519PublicKey.from_public_bytes(once)), header))
    number, piece = 0, source.read(PIECE_BYTES + TAG_BYTES)
    while True:
        following = source.read(PIECE_BYTES + TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(number, is_last=not following), piece, None)
        except InvalidTag:
            raise CannotRead(
                f"The backup was changed or cut off (in piece {number + 1}); nothing of it is used."
            ) from None
        if not following:
            return
        number, piece = number + 1, following


def _agreed(shared: bytes, header: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"backup" + header).derive(shared)


def _nonce(number: int, *, is_last: bool) -> bytes:
    return struct.pack(">?xxxQ", is_last, number)


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PIECE_BYTES:
            yield bytes(held[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    if held:
        yield bytes(held)


def _write(path: Path, name: bytes, key: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(name + key.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, name: bytes) -> bytes:
    content = path.read_bytes()
    try:
        key = bytes.fromhex(content.removeprefix(name).decode())
    except ValueError:
        key = b""
    if not content.startswith(name) or len(key) != KEY_BYTES:
        raise CannotRead(f"{path} is not a {name.decode().split(':')[0].strip()}.")
    return key
