"""Who can sign in: accounts, tokens, codes and sessions, found by keyed hashes."""

import datetime as dt
import uuid

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Base, new_id


class Account(Base):
    """Who can sign in. The address is kept as a keyed hash; the person stands in `staff`."""

    __tablename__ = "accounts"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    district_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("districts.id"))
    email_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[dt.datetime | None]
    password_hash: Mapped[str | None]
    sealed_secret: Mapped[bytes | None]
    """What the codes of the second factor are made from, under the district's key; None: none is set up."""
    last_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The latest time step whose code was taken: none is taken twice."""
    subject_hash: Mapped[bytes | None] = mapped_column(unique=True)
    """By whom another sign-in service (issuer, subject) knows this account."""
    generation: Mapped[int] = mapped_column(server_default="0")
    """Goes up with every change of password, second factor or roles: sessions of an earlier one are over."""


class Token(Base):
    """A bearer token: kept as a keyed hash, bound to one account, ends on its own."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("purpose in ('everything', 'reading', 'sending')", name="purpose"),
        Index(None, "account_id"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime]
    revoked_at: Mapped[dt.datetime | None]
    roles: Mapped[list[str] | None]
    """Of the account's roles only these act through it; None: all."""
    purpose: Mapped[str] = mapped_column(server_default="everything")


class Code(Base):
    """What opens one door without an account: a student's form, a guardian's consent, a colleague's first password.

    Kept as keyed hashes. `fact_hash` is the second fact that has to be told with it.
    """

    __tablename__ = "codes"
    __table_args__ = (
        CheckConstraint("kind in ('student', 'guardian', 'invitation')", name="kind"),
        CheckConstraint("fact in ('birth_date', 'phone')", name="fact"),
        CheckConstraint("(kind = 'invitation') = (account_id is not null)", name="account"),
        CheckConstraint("(kind = 'invitation') = (student_id is null)", name="student"),
        CheckConstraint("(kind = 'student') = (assignment_id is not null)", name="assignment"),
        Index(None, "account_id"),
        Index(None, "district_id", "student_id"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str]
    code_hash: Mapped[bytes] = mapped_column(unique=True)
    short_hash: Mapped[bytes | None] = mapped_column(unique=True)
    fact: Mapped[str | None]
    fact_hash: Mapped[bytes | None]
    district_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("districts.id"))
    school_id: Mapped[uuid.UUID | None]
    account_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("accounts.id"))
    student_id: Mapped[uuid.UUID | None]
    assignment_id: Mapped[uuid.UUID | None]
    issued_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class SignIn(Base):
    """A session, or the first half of one: who proved what, when it was last used, when it is over at the latest."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("stage in ('second_factor', 'enrollment', 'whole')", name="stage"),
        CheckConstraint("(account_id is null) <> (code_id is null)", name="one"),
        Index(None, "account_id"),
        Index(None, "code_id"),
        Index(None, "expires_at"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    session_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("accounts.id"))
    code_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("codes.id"))
    stage: Mapped[str]
    generation: Mapped[int] = mapped_column(server_default="0")
    sealed_secret: Mapped[bytes | None]
    """In `enrollment`: the second factor that is being set up."""
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    proved_at: Mapped[dt.datetime | None]
    """When the second factor was last shown in it."""
    expires_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class RecoveryCode(Base):
    """Stands in for the second factor, once."""

    __tablename__ = "recovery_codes"
    __table_args__ = (Index(None, "account_id"),)
    code_hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    used_at: Mapped[dt.datetime | None]


class Guess(Base):
    """How often a secret was guessed wrongly by somebody, somewhere, and when the next guess is taken."""

    __tablename__ = "guesses"
    __table_args__ = (Index(None, "free_at"),)
    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default="0")
    free_at: Mapped[dt.datetime]


class Feed(Base):
    """An address under which somebody's own calendar reads their promised contacts: kept as a keyed hash."""

    __tablename__ = "feeds"
    __table_args__ = (Index(None, "account_id"),)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    made_at: Mapped[dt.datetime]
    revoked_at: Mapped[dt.datetime | None]
