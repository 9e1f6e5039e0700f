"""Files that were handed in: lists of students, and answers."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import REAL, BigInteger, CheckConstraint, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, Tenant, of_district, tenant


class StoredFile(Row):
    """A file as it was handed in, sealed under the district's key; erased some days after it was answered."""

    __tablename__ = "stored_files"
    __table_args__ = (
        of_district(),
        Index(None, "district_id", "erase_at"),
    )
    school_id: Mapped[uuid.UUID | None]
    sealed_name: Mapped[bytes]
    digest: Mapped[bytes]
    byte_count: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    erase_at: Mapped[dt.datetime | None]


class FileChunk(Tenant):
    __tablename__ = "file_chunks"
    __table_args__ = (tenant("stored_files", "file_id"),)
    file_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID | None]
    sealed: Mapped[bytes]


class Roster(Row):
    """A list of students: read into a proposal, which a person commits."""

    __tablename__ = "rosters"
    __table_args__ = (
        tenant("stored_files", "file_id"),
        CheckConstraint("state in ('received', 'proposed', 'committed', 'refused')", name="state"),
        Index("ix_rosters_waiting", "district_id", postgresql_where="state = 'received'"),
    )
    school_id: Mapped[uuid.UUID | None]
    file_id: Mapped[uuid.UUID]
    state: Mapped[str] = mapped_column(server_default="received")
    column_map: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    attempts: Mapped[int] = mapped_column(server_default="0")
    received_by: Mapped[uuid.UUID | None]
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    committed_by: Mapped[uuid.UUID | None]
    committed_at: Mapped[dt.datetime | None]


class RosterRow(Tenant):
    """One row of a proposal; what it says stays sealed until it is committed."""

    __tablename__ = "roster_rows"
    __table_args__ = (
        tenant("rosters", "roster_id"),
        CheckConstraint("change in ('new', 'changed', 'moved', 'same', 'refused')", name="change"),
    )
    roster_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    row_number: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID | None]
    change: Mapped[str]
    student_id: Mapped[uuid.UUID | None]
    sealed: Mapped[bytes]


class Upload(Row):
    """A file of answers for a round, from `received` to its receipt."""

    __tablename__ = "uploads"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("stored_files", "file_id"),
        CheckConstraint("state in ('received', 'loaded', 'refused')", name="state"),
        Index("ix_uploads_waiting", "district_id", "received_at", postgresql_where="state = 'received'"),
        Index("ix_uploads_digest", "district_id", "round_id", "digest"),
    )
    round_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID | None]
    file_id: Mapped[uuid.UUID]
    digest: Mapped[bytes]
    """Keyed hash of the bytes, the column map and the options: the same work has the same digest."""
    state: Mapped[str] = mapped_column(server_default="received")
    is_dry_run: Mapped[bool] = mapped_column(server_default="false")
    is_correction: Mapped[bool] = mapped_column(server_default="false")
    column_map: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    progress: Mapped[float] = mapped_column(REAL, server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    interruptions: Mapped[int] = mapped_column(server_default="0")
    receipt: Mapped[dict[str, Any] | None]
    received_by: Mapped[uuid.UUID | None]
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[dt.datetime | None]


class UploadProblem(Tenant):
    __tablename__ = "upload_problems"
    __table_args__ = (tenant("uploads", "upload_id"),)
    upload_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID | None]
    sheet: Mapped[str | None]
    row_number: Mapped[int | None]
    column_name: Mapped[str | None]
    code: Mapped[str]
    message: Mapped[str]
