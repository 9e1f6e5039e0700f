"""Schools and their days."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, Tenant, of_district


class School(Row):
    __tablename__ = "schools"
    __table_args__ = (
        of_district(),
        UniqueConstraint("district_id", "code"),
    )
    code: Mapped[str]
    name: Mapped[str]
    calendar: Mapped[str] = mapped_column(server_default="district")


class CalendarDay(Tenant):
    """An exception to Monday-Friday: a holiday, or a weekend day that is taught."""

    __tablename__ = "calendar_days"
    __table_args__ = (of_district(),)
    calendar: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(primary_key=True)
    is_school_day: Mapped[bool]


class Term(Tenant):
    """A span in which there is school; between two of them there is none."""

    __tablename__ = "terms"
    __table_args__ = (of_district(), CheckConstraint("starts_on <= ends_on", name="days"))
    calendar: Mapped[str] = mapped_column(primary_key=True)
    starts_on: Mapped[dt.date] = mapped_column(primary_key=True)
    ends_on: Mapped[dt.date]


class CalendarLoad(Row):
    """That holidays were taken from somewhere, and for which days they are known."""

    __tablename__ = "calendar_loads"
    __table_args__ = (of_district(),)
    calendar: Mapped[str]
    source: Mapped[str]
    covers_from: Mapped[dt.date]
    covers_until: Mapped[dt.date]
    loaded_by: Mapped[uuid.UUID | None]
    loaded_at: Mapped[dt.datetime]
