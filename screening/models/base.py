"""What every table stands on: the base, the tenant's key, references inside a district, the lists of exceptions."""

import datetime as dt
import uuid
from typing import Any, ClassVar

from sqlalchemy import ARRAY, Date, DateTime, ForeignKeyConstraint, LargeBinary, MetaData, SmallInteger, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

GLOBAL_TABLES = frozenset(
    {
        "districts",
        "accounts",
        "tokens",
        "sessions",
        "codes",
        "recovery_codes",
        "guesses",
        "heartbeats",
        "lookup_keys",
        "feeds",
    }
)
"""Tables without clinical content that are found by exact id or keyed hash, before any scope can be set."""

DISTRICT_WIDE_TABLES = frozenset({"duties", "staff_roles"})
"""Tables with a `school_id` that are read to find out the scope itself, so only the district stands in their policy."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        bytes: LargeBinary(),
        dt.datetime: DateTime(timezone=True),
        dt.date: Date(),
        uuid.UUID: Uuid(),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(SmallInteger()),
    }


def new_id() -> uuid.UUID:
    return uuid.uuid4()


def tenant(table: str, *columns: str) -> ForeignKeyConstraint:
    """A reference inside the same district: (district_id, column ..) -> table's (district_id, key ..)."""
    keys = {"student_id": "id", "school_id": "id", "round_id": "id"}
    remote = [keys.get(c, c) if table in _KEYED_BY_ID else c for c in columns]
    if table in _KEYED_BY_ID and len(columns) == 1:
        remote = ["id"]
    return ForeignKeyConstraint(["district_id", *columns], [f"{table}.district_id", *(f"{table}.{r}" for r in remote)])


def of_district() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["district_id"], ["districts.id"])


_KEYED_BY_ID = frozenset(
    {
        "schools",
        "staff",
        "students",
        "rounds",
        "rule_sets",
        "stored_files",
        "uploads",
        "rosters",
        "alerts",
        "cases",
        "destinations",
        "licences",
        "risk_models",
    }
)


class Tenant(Base):
    """Whatever belongs to one district. Only tables that refer to no other tenant table name `districts` itself."""

    __abstract__ = True
    district_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, sort_order=-3)


class Row(Tenant):
    """A tenant's row that has an id of its own."""

    __abstract__ = True
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, sort_order=-2)
