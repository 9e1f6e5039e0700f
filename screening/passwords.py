"""Passwords: what is taken for one, and how it is kept (argon2id with OWASP's 19 MiB and two passes)."""

import functools
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from screening.errors import Problem

FEWEST, MOST = 12, 128
_DIFFERENT = 6
_RUNS = (
    "0123456789012345678901234567890",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "qwertyuiopqwertyuiop",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)
_KNOWN = ("password", "passw0rd", "p@ssw0rd", "screening", "iloveyou", "woaini", "welcome", "administrator")
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def problems(password: str, *, email: str | None = None) -> list[Problem]:
    """Everything that speaks against a password; nothing is asked of it but length and that it is no common one."""
    plain = _normal(password).casefold()
    found = []
    if not FEWEST <= len(plain) <= MOST:
        found.append(Problem("password_length", f"A password has {FEWEST} to {MOST} characters.", column="password"))
    is_run = any(plain in run or plain[::-1] in run for run in _RUNS)
    rest = plain
    for known in (*_KNOWN, (email or "").partition("@")[0].casefold()):
        rest = rest.replace(known, "") if len(known) > 3 else rest
    if is_run or len(set(plain)) < _DIFFERENT or len(rest) < FEWEST // 2:
        words = "This is easily guessed: use several words that only you would put together."
        found.append(Problem("password_common", words, column="password"))
    return found


def hashed(password: str) -> str:
    """What is kept of a password."""
    return _HASHER.hash(_normal(password))


def matches(password: str, kept: str | None) -> bool:
    """Whether this is the password. Without a kept one it takes as long, so that time does not tell who is known."""
    try:
        is_it = _HASHER.verify(kept or _nobodys(), _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return is_it and kept is not None


def is_outdated(kept: str) -> bool:
    """Whether it was kept with less work than is asked today."""
    return _HASHER.check_needs_rehash(kept)


@functools.cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_urlsafe(32))


def _normal(password: str) -> str:
    # the same signs from another keyboard are the same password
    return unicodedata.normalize("NFKC", password)
