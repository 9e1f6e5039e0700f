"""Accounts: how a password and a second factor are set, reset and ended, and what ends with them."""

import datetime as dt
import secrets
import uuid

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from screening import access, audit, db, passwords, sealing, second_factor, staff
from screening.db import Database
from screening.errors import Conflict, InvalidUpload, NotFound, NotSignedIn, Refused
from screening.models import Account, Code, RecoveryCode, SignIn, Token

INVITED_FOR = dt.timedelta(hours=72)

# -- passwords --------------------------------------------------------------------------------------------


def set_password(
    session: Session, account_id: uuid.UUID, password: str, *, email: str | None, by: access.Actor
) -> None:
    """Sets a password; every session and token of the account ends. Raises InvalidUpload naming what is wrong."""
    found = passwords.problems(password, email=email)
    if found:
        raise InvalidUpload("This cannot be a password here.", code="invalid_password", problems=found)
    keep_password(session, account_id, password)
    _end_everything(session, account_id)
    audit.record(session, by, "password.changed", "account", account_id)


def invite(session: Session, account_id: uuid.UUID, *, by: access.Actor) -> tuple[str, dt.datetime]:
    """A link's code, shown this once, by which somebody sets a password; an earlier one ends. Raises NotFound."""
    account = session.get(Account, account_id)
    if account is None or account.district_id != access.scope_of(session).district_id or account.disabled_at:
        raise NotFound("There is no such account.")
    code, until = secrets.token_urlsafe(32), db.now(session) + INVITED_FOR
    session.execute(
        update(Code).where(Code.account_id == account_id, Code.ended_at.is_(None)).values(ended_at=func.now())
    )
    session.execute(
        insert(Code).values(
            id=uuid.uuid4(),
            kind="invitation",
            code_hash=sealing.code_lookup(session.info["master_key"], code),
            district_id=account.district_id,
            account_id=account_id,
            expires_at=until,
        )
    )
    audit.record(session, by, "invitation.issued", "account", account_id)
    return code, until


def accept(database: Database, code: str, password: str) -> None:
    """Sets a password by an invitation, which is good once. Raises NotSignedIn, InvalidUpload."""
    with database.unit() as session:
        found = session.execute(
            update(Code)
            .where(
                Code.code_hash == sealing.code_lookup(database.master_key, code),
                Code.kind == "invitation",
                Code.ended_at.is_(None),
                Code.expires_at > func.now(),
                Code.account_id.in_(select(Account.id).where(Account.disabled_at.is_(None))),
            )
            .values(ended_at=func.now())
            .returning(Code.account_id, Code.district_id)
        ).one_or_none()
        if found is None or found.account_id is None:
            raise NotSignedIn("This invitation is over. Ask for a new one.")
        by = staff.actor_of(session, found.account_id, found.district_id)
        email = staff.email_of(session, by.staff_id) if by.staff_id else None
        audit.record(session, by, "invitation.accepted", "account", found.account_id)
        set_password(session, found.account_id, password, email=email, by=by)


# -- second factors ---------------------------------------------------------------------------------------


def add_second_factor(session: Session, account_id: uuid.UUID, secret: bytes, *, by: access.Actor) -> list[str]:
    """Sets up a second factor and answers its recovery codes. Raises Conflict when one is there already."""
    sealed = sealing.keys(session).seal(secret, bound(account_id))
    added = session.execute(
        update(Account)
        .where(Account.id == account_id, Account.sealed_secret.is_(None))
        .values(sealed_secret=sealed)
        .returning(Account.id)
    ).one_or_none()
    if added is None:
        raise Conflict("A second factor is set up already.")
    audit.record(session, by, "second_factor.added", "account", account_id)
    return issue_recovery_codes(session, account_id, by=by)


def issue_recovery_codes(session: Session, account_id: uuid.UUID, *, by: access.Actor) -> list[str]:
    """Fresh recovery codes, shown this once; earlier ones end."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    codes = second_factor.new_recovery_codes()
    master = session.info["master_key"]
    session.execute(
        insert(RecoveryCode),
        [{"code_hash": recovery_hash(master, account_id, code), "account_id": account_id} for code in codes],
    )
    audit.record(session, by, "recovery_codes.issued", "account", account_id)
    return codes


def reset_second_factor(session: Session, account_id: uuid.UUID, *, by: access.Actor) -> None:
    """Takes a lost second factor away; the next sign-in sets up a new one. Every session and token ends."""
    session.execute(update(Account).where(Account.id == account_id).values(sealed_secret=None, last_step=0))
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    _end_everything(session, account_id)
    audit.record(session, by, "second_factor.reset", "account", account_id)


def disable(session: Session, account_id: uuid.UUID, *, by: access.Actor) -> None:
    """Ends an account from the next request on; twice is once."""
    if account_id == by.account_id:
        raise Refused("Somebody else has to end your account.", code="own_account")
    ended = session.execute(
        update(Account)
        .where(Account.id == account_id, Account.disabled_at.is_(None))
        .values(disabled_at=func.now())
        .returning(Account.id)
    ).one_or_none()
    if ended is not None:
        _end_everything(session, account_id)
        audit.record(session, by, "account.disabled", "account", account_id)


def sign_everybody_out(session: Session, *, by: access.Actor) -> int:
    """Ends every session, token and code of the scope's district at once, and answers of how many accounts."""
    district_id = access.scope_of(session).district_id
    accounts = session.scalars(select(Account.id).where(Account.district_id == district_id)).all()
    for account_id in accounts:
        _end_everything(session, account_id)
    codes = select(Code.id).where(Code.district_id == district_id).scalar_subquery()
    session.execute(
        update(SignIn).where(SignIn.code_id.in_(codes), SignIn.ended_at.is_(None)).values(ended_at=func.now())
    )
    session.execute(
        update(Code).where(Code.district_id == district_id, Code.ended_at.is_(None)).values(ended_at=func.now())
    )
    audit.record(session, by, "account.signed_out", "account", "many", count=len(accounts))
    return len(accounts)


# -- what is kept ----------------------------------------------------------------------------------------


def keep_password(session: Session, account_id: uuid.UUID, password: str) -> None:
    kept = passwords.hashed(password)
    session.execute(update(Account).where(Account.id == account_id).values(password_hash=kept))


def _end_everything(session: Session, account_id: uuid.UUID) -> None:
    session.execute(update(Account).where(Account.id == account_id).values(generation=Account.generation + 1))
    session.execute(
        update(Token).where(Token.account_id == account_id, Token.revoked_at.is_(None)).values(revoked_at=func.now())
    )


def bound(account_id: uuid.UUID) -> str:
    return f"second_factor/{account_id}"


def recovery_hash(master: bytes, account_id: uuid.UUID, code: str) -> bytes:
    return sealing.code_lookup(master, f"recovery/{account_id}/{second_factor.as_typed(code)}")
