"""Keeping account: lines, their chain, and requests that were answered already."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Tenant, of_district


class IdempotencyKey(Tenant):
    """The first answer to a keyed request: enough to answer it again under today's rights."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (of_district(),)
    account_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes]
    status: Mapped[int]
    location: Mapped[str]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class AuditEntry(Tenant):
    """One line of account: who did what to which pseudonym; codes only, never content. Append-only by grant."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_xact", "xact", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
        Index(
            "ix_audit_entries_readings",
            "district_id",
            "subject_id",
            postgresql_where="action in ('alert.read', 'case.read', 'result.read', 'student.named')",
        ),
        Index("ix_audit_entries_opened", "district_id", "actor_id", "at", postgresql_where="action = 'result.read'"),
        Index(
            "ix_audit_entries_named",
            "district_id",
            "at",
            postgresql_where="action in ('alert.read', 'case.read', 'result.read', 'student.named')",
        ),
    )
    id: Mapped[int] = mapped_column(BigInteger, sa.Identity(always=True), primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    actor_id: Mapped[uuid.UUID | None]
    role: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    subject_id: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    xact: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id())::text::bigint"))
    """The transaction that wrote it: how whoever seals knows that no earlier one can still come to light."""


class AuditSeal(Tenant):
    """A line's place in its district's chain: the hash of the place before, this place's number, and the line."""

    __tablename__ = "audit_seals"
    __table_args__ = (UniqueConstraint("district_id", "entry_id"),)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]


class AuditHead(Tenant):
    """Where a chain ended when lines were last sealed, signed; the same is written outside the database."""

    __tablename__ = "audit_heads"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes]
    sealed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    signature: Mapped[bytes]
    xact_below: Mapped[int] = mapped_column(BigInteger)
    """Every line of a transaction below this is sealed."""
    id_above: Mapped[int] = mapped_column(BigInteger)
    """Lines up to this id came from another server with its own count of transactions, and are sealed."""
