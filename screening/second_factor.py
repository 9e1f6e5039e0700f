"""The second factor: six digits by the clock (RFC 6238), and recovery codes for when the phone is gone. Pure."""

import base64
import datetime as dt
import secrets

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

STEP_SECONDS = 30
DIGITS = 6
SECRET_BYTES = 20
ISSUER = "Screening"
RECOVERY_CODES = 10
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's 32: none is taken for another when it is read aloud or copied by hand."""
_RECOVERY_LETTERS = 16


def new_secret() -> bytes:
    """What the codes are made from, as RFC 4226 asks for: 160 random bits."""
    return secrets.token_bytes(SECRET_BYTES)


def in_letters(secret: bytes) -> str:
    """The secret as a person types it into an app."""
    return base64.b32encode(secret).decode().rstrip("=")


def address(secret: bytes, account_name: str) -> str:
    """The otpauth address that an app reads from a QR code."""
    return _totp(secret).get_provisioning_uri(account_name, ISSUER)


def code_at(secret: bytes, at: dt.datetime) -> str:
    """The code of that moment."""
    return _totp(secret).generate(int(at.timestamp())).decode()


def step_of(secret: bytes, code: str, now: dt.datetime) -> int | None:
    """The time step that this code is of: the present one, or the one before or after; None for a wrong code."""
    step = int(now.timestamp()) // STEP_SECONDS
    totp = _totp(secret)
    # all three are compared, whichever fits: time tells nothing
    fitting = [
        at
        for at in (step - 1, step, step + 1)
        if secrets.compare_digest(totp.generate(at * STEP_SECONDS), code.encode("ascii", "replace"))
    ]
    return fitting[-1] if fitting else None


def new_recovery_codes() -> list[str]:
    """Codes of 80 bits, each good once."""
    return [readable(letters(_RECOVERY_LETTERS)) for _ in range(RECOVERY_CODES)]


def letters(count: int) -> str:
    """So many random letters, 5 bits each."""
    return "".join(secrets.choice(LETTERS) for _ in range(count))


def readable(code: str, *, group: int = 4) -> str:
    """In groups, as it is printed."""
    return "-".join(code[start : start + group] for start in range(0, len(code), group))


def as_typed(code: str) -> str:
    """A code as it is compared: without case, blanks and hyphens, and with the letters people take for others."""
    plain = "".join(sign for sign in code.upper() if sign.isalnum())
    return plain.translate(str.maketrans("OIL", "011"))


def _totp(secret: bytes) -> TOTP:
    # SHA-1 is what every authenticator app knows; RFC 6238's security does not rest on collisions
    return TOTP(secret, DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303
