"""The district itself, how it leaves, and what stands outside any district."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Base, Row, new_id, of_district


class District(Base):
    __tablename__ = "districts"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    wrapped_key: Mapped[bytes]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    is_probe: Mapped[bool] = mapped_column(server_default="false")
    """Nobody lives there: it is where the service sends itself a red, to see whether one would arrive."""


class LookupKey(Base):
    """The one secret under which addresses, tokens, sessions and codes are found, and heads signed.

    Random, and wrapped by the master key, so that a new master key changes none of what was found by it.
    """

    __tablename__ = "lookup_keys"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    wrapped: Mapped[bytes]


class Heartbeat(Base):
    """When each part of the worker last came round: how silence is noticed."""

    __tablename__ = "heartbeats"
    name: Mapped[str] = mapped_column(primary_key=True)
    beat_at: Mapped[dt.datetime]
    problem: Mapped[str | None]


class DistrictExit(Row):
    """That a district leaves: asked by one, confirmed by another; then all of it is handed over, and then erased."""

    __tablename__ = "district_exits"
    __table_args__ = (
        of_district(),
        CheckConstraint("confirmed_by is null or confirmed_by <> asked_by", name="two"),
        CheckConstraint("exported_at is null or confirmed_at is not null", name="confirmed_first"),
        CheckConstraint("(exported_at is null) = (export_digest is null)", name="exported"),
    )
    asked_by: Mapped[uuid.UUID]
    asked_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    confirmed_at: Mapped[dt.datetime | None]
    exported_at: Mapped[dt.datetime | None]
    export_digest: Mapped[bytes | None]
    """SHA-256 of the file that was handed over."""
