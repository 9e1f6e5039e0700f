"""Signing in: a password or another sign-in service, then a second factor.

What is wrong is never said apart: an unknown address, a wrong password and an ended account get the same answer after
the same work. Whoever may see names must show a second factor; it is set up at the first sign-in.
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from screening import access, accounts, audit, db, guesses, passwords, sealing, second_factor, sessions, staff
from screening.db import Database
from screening.errors import NotFound, NotSignedIn
from screening.guesses import Growing, Limit, Steady
from screening.models import Account, RecoveryCode, SignIn

NAMELESS = frozenset({"district_analyst", "staff_member"})
"""Roles that see nobody's name but their own, and do without a second factor; a role that comes later needs one."""
DEVICE_KNOWN_FOR = dt.timedelta(days=180)
_FAILED = "This is not an address and a password that go together."
_OVER = "This sign-in is over. Begin again."
_WRONG_CODE = "This code is wrong or was used. Wait for the next one."


@dataclass(frozen=True)
class Whence:
    """Where somebody comes from: the client's address, and what a browser shows that signed in here before."""

    address: str
    device: str | None = None


@dataclass(frozen=True)
class Enrollment:
    """A second factor to be set up: the secret for typing, and the address for a QR code."""

    secret: str
    address: str


@dataclass(frozen=True)
class Entered:
    """How far somebody came: `whole` is signed in, else `secret` continues at the second factor.

    `device` is what a browser keeps, to be told from strangers' at the next sign-in.
    """

    stage: sessions.Stage
    secret: str
    until: dt.datetime
    district_id: uuid.UUID
    enrollment: Enrollment | None = None
    recovery_codes: Sequence[str] = ()
    device: str | None = None


# -- signing in -------------------------------------------------------------------------------------------


def sign_in(database: Database, email: str, password: str, whence: Whence) -> Entered:
    """The first step. Raises NotSignedIn, TooManyAttempts."""
    email_hash = sealing.account_lookup(database.master_key, email)
    limits = _limits(database, "password", email_hash, whence)
    guesses.admit(database, limits)
    found = _account(database, Account.email_hash == email_hash)
    kept = found.password_hash if found and found.disabled_at is None else None
    if not passwords.matches(password, kept) or found is None:
        _refuse(database, found, "sign_in.failed", email_hash, whence)
        raise NotSignedIn(_FAILED)
    with database.unit() as session:
        guesses.forgive(session, limits)
        if kept and passwords.is_outdated(kept):
            accounts.keep_password(session, found.id, password)
        return _next_step(session, found, whence, email=email)


def sign_in_by(
    database: Database,
    issuer: str,
    subject: str,
    *,
    verified_email: str | None,
    has_second_factor: bool,
    whence: Whence,
) -> Entered:
    """The first step through another sign-in service, which vouches for the subject and, the first time, for the
    address; `has_second_factor` when it says that it asked for one. Raises NotSignedIn."""
    subject_hash = sealing.subject_lookup(database.master_key, issuer, subject)
    found = _account(database, Account.subject_hash == subject_hash)
    if found is None and verified_email:
        email_hash = sealing.account_lookup(database.master_key, verified_email)
        found = _account(database, Account.email_hash == email_hash, Account.subject_hash.is_(None))
    if found is None or found.disabled_at is not None:
        _refuse(database, found, "sign_in.failed", subject_hash, whence)
        raise NotSignedIn("Nobody here has this account. Ask your administrator.")
    with database.unit() as session:
        _link(session, found, subject_hash)
        return _next_step(session, found, whence, email=verified_email or "", has_second_factor=has_second_factor)


def complete(database: Database, secret: str, code: str, whence: Whence) -> Entered:
    """The second step: a code of the second factor, or a recovery code. Raises NotSignedIn, TooManyAttempts."""
    with database.unit() as session:
        begun = sessions.halfway(session, secret)
    if begun is None or begun.account_id is None:
        raise NotSignedIn(_OVER)
    found = _account(database, Account.id == begun.account_id)
    if found is None:
        raise NotSignedIn(_OVER)
    limits = _limits(database, "second_factor", found.email_hash, whence)
    guesses.admit(database, limits)
    with database.unit() as session:
        entered = _completed(session, found, begun, code)
        if entered is not None:
            guesses.forgive(session, limits)
            return entered
    _refuse(database, found, "second_factor.failed", found.email_hash, whence)
    raise NotSignedIn(_WRONG_CODE, code="wrong_code")


def prove(database: Database, code: str, whence: Whence, *, by: access.Actor) -> None:
    """Shows the second factor again, before something that asks for it. Raises NotSignedIn, TooManyAttempts."""
    found = _account(database, Account.id == by.account_id)
    if found is None or by.session_id is None:
        raise NotSignedIn(_OVER)
    limits = _limits(database, "second_factor", found.email_hash, whence)
    guesses.admit(database, limits)
    with database.unit() as session:
        access.enter(session, access.Scope(found.district_id, frozenset()))
        if _is_shown(session, found, code):
            guesses.forgive(session, limits)
            session.execute(update(SignIn).where(SignIn.id == by.session_id).values(proved_at=func.now()))
            audit.record(session, by, "second_factor.proved", "session", by.session_id)
            return
    _refuse(database, found, "second_factor.failed", found.email_hash, whence)
    raise NotSignedIn(_WRONG_CODE, code="wrong_code")


def change_password(database: Database, current: str, new: str, whence: Whence, *, by: access.Actor) -> None:
    """Changes one's own password, which ends every session, this one too. Raises NotSignedIn, TooManyAttempts,
    InvalidUpload."""
    found = _account(database, Account.id == by.account_id)
    if found is None:
        raise NotFound("There is no such account.")
    limits = _limits(database, "password", found.email_hash, whence)
    guesses.admit(database, limits)
    if not passwords.matches(current, found.password_hash):
        _refuse(database, found, "sign_in.failed", found.email_hash, whence)
        raise NotSignedIn("This is not your present password.", code="wrong_password")
    with database.unit() as session:
        guesses.forgive(session, limits)
    with database.unit(access.Scope(found.district_id, frozenset())) as session:
        email = staff.email_of(session, by.staff_id) if by.staff_id else None
        accounts.set_password(session, found.id, new, email=email, by=by)


# -- steps ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """An account as signing in needs it."""

    id: uuid.UUID
    district_id: uuid.UUID
    email_hash: bytes
    password_hash: str | None
    sealed_secret: bytes | None
    generation: int
    disabled_at: dt.datetime | None


def _account(database: Database, *which: object) -> _Found | None:
    with database.unit() as session:
        row = session.execute(
            select(
                Account.id,
                Account.district_id,
                Account.email_hash,
                Account.password_hash,
                Account.sealed_secret,
                Account.generation,
                Account.disabled_at,
            ).where(*which)  # type: ignore[arg-type]
        ).one_or_none()
    return None if row is None else _Found(*row)


def _next_step(
    session: Session, found: _Found, whence: Whence, *, email: str, has_second_factor: bool = False
) -> Entered:
    """The password was right: the session begins, or what is missing for it."""
    by = staff.actor_of(session, found.id, found.district_id)
    if has_second_factor:
        return _signed_in(session, found, by, is_proved=True)
    if found.sealed_secret is not None:
        _, secret, until = sessions.begin(session, found.id, found.generation, stage="second_factor")
        return Entered("second_factor", secret, until, found.district_id)
    if all(at.role in NAMELESS for at in by.roles):
        return _signed_in(session, found, by, is_proved=False)
    made = second_factor.new_secret()
    sealed = sealing.keys(session).seal(made, accounts.bound(found.id))
    _, secret, until = sessions.begin(session, found.id, found.generation, stage="enrollment", sealed_secret=sealed)
    enrollment = Enrollment(second_factor.in_letters(made), second_factor.address(made, email or "account"))
    return Entered("enrollment", secret, until, found.district_id, enrollment)


def _signed_in(
    session: Session, found: _Found, by: access.Actor, *, is_proved: bool, recovery_codes: Sequence[str] = ()
) -> Entered:
    now = db.now(session)
    session_id, secret, until = sessions.begin(
        session, found.id, found.generation, proved_at=now if is_proved else None
    )
    audit.record(session, by, "session.begun", "session", session_id)
    device = _device(session.info["master_key"], found.email_hash, now + DEVICE_KNOWN_FOR)
    return Entered("whole", secret, until, found.district_id, None, recovery_codes, device)


def _completed(session: Session, found: _Found, begun: SignIn, code: str) -> Entered | None:
    """Signed in by a fresh session; None when the code does not fit. What was halfway ends either way but the last."""
    by = staff.actor_of(session, found.id, found.district_id)
    codes: Sequence[str] = ()
    if begun.stage == "enrollment":
        secret = sealing.keys(session).open(begun.sealed_secret or b"", accounts.bound(found.id))
        if not _takes_step(session, found.id, secret, code):
            return None
        codes = accounts.add_second_factor(session, found.id, secret, by=by)
    elif not _is_shown(session, found, code):
        return None
    ended = session.execute(
        update(SignIn)
        .where(SignIn.id == begun.id, SignIn.ended_at.is_(None))
        .values(ended_at=func.now())
        .returning(SignIn.id)
    ).one_or_none()
    if ended is None:
        raise NotSignedIn(_OVER)
    return _signed_in(session, found, by, is_proved=True, recovery_codes=codes)


def _is_shown(session: Session, found: _Found, code: str) -> bool:
    if found.sealed_secret is None:
        return False
    if len(code.strip()) == second_factor.DIGITS:
        secret = sealing.keys(session).open(found.sealed_secret, accounts.bound(found.id))
        return _takes_step(session, found.id, secret, code.strip())
    used = session.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.code_hash == accounts.recovery_hash(session.info["master_key"], found.id, code),
            RecoveryCode.account_id == found.id,
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=func.now())
        .returning(RecoveryCode.account_id)
    ).one_or_none()
    return used is not None


def _takes_step(session: Session, account_id: uuid.UUID, secret: bytes, code: str) -> bool:
    """Whether the code is of a time step that was not taken yet; takes it."""
    step = second_factor.step_of(secret, code, db.now(session))
    if step is None:
        return False
    taken = session.execute(
        update(Account)
        .where(Account.id == account_id, Account.last_step < step)
        .values(last_step=step)
        .returning(Account.id)
    ).one_or_none()
    return taken is not None


def _link(session: Session, found: _Found, subject_hash: bytes) -> None:
    linked = session.execute(
        update(Account)
        .where(Account.id == found.id, Account.subject_hash.is_distinct_from(subject_hash))
        .values(subject_hash=subject_hash)
        .returning(Account.id)
    ).one_or_none()
    if linked is not None:
        by = staff.actor_of(session, found.id, found.district_id)
        audit.record(session, by, "sign_in.linked", "account", found.id)


# -- guesses ----------------------------------------------------------------------------------------------


def _limits(database: Database, what: str, email_hash: bytes, whence: Whence) -> list[Limit]:
    """What an attempt is counted against. A browser that signed in here before is counted by itself, so that no
    stranger, and nobody behind the same address, holds its owner up."""
    whose = email_hash.hex()
    if whence.device and _is_known(database, email_hash, whence.device):
        return [Growing(f"{what}/device/{whose}/{whence.device}")]
    return [
        Growing(f"{what}/pair/{whose}/{whence.address}"),
        Steady(f"{what}/account/{whose}", seconds=30, burst=3),
        Steady(f"{what}/address/{whence.address}", seconds=2, burst=30),
    ]


def _device(master: bytes, email_hash: bytes, until: dt.datetime) -> str:
    """`until.nonce.mac`: says that a browser signed in to this account, and opens nothing."""
    text_of = f"{int(until.timestamp())}.{secrets.token_urlsafe(12)}"
    return f"{text_of}.{_device_mac(master, email_hash, text_of)}"


def _is_known(database: Database, email_hash: bytes, device: str) -> bool:
    said, _, mac = device.rpartition(".")
    if not secrets.compare_digest(_device_mac(database.master_key, email_hash, said).encode(), mac.encode()):
        return False
    with database.unit() as session:
        return int(said.partition(".")[0]) > db.now(session).timestamp()


def _device_mac(master: bytes, email_hash: bytes, said: str) -> str:
    return sealing.keyed_hash(sealing.purpose_key(master, "device"), email_hash + said.encode()).hex()


def _refuse(database: Database, found: _Found | None, action: str, who: bytes, whence: Whence) -> None:
    """Keeps account of a refusal; the same work whether anybody is known by that address or not."""
    audit.security_event(
        database,
        action,
        "account",
        found.id if found else who[:8].hex(),
        district_id=found.district_id if found else None,
        account_id=found.id if found else None,
        whence=sealing.guess_lookup(database.master_key, whence.address)[:8].hex(),
    )
