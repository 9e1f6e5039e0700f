"""What a round is decided by: definitions, licences and wordings, frozen rule sets."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, SmallInteger, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, Tenant, of_district, tenant


class Definition(Tenant):
    """The exact text of an instrument or a policy as it was used, so that a result can be re-derived years later."""

    __tablename__ = "definitions"
    __table_args__ = (
        of_district(),
        CheckConstraint("kind in ('instrument', 'policy')", name="kind"),
    )
    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    code: Mapped[str]
    version: Mapped[str]
    body: Mapped[str]


class Licence(Row):
    """A district's own permission to use an instrument, as it was told: who holds it, by which agreement, how long."""

    __tablename__ = "licences"
    __table_args__ = (of_district(),)
    instrument: Mapped[str]
    edition: Mapped[str]
    holder: Mapped[str]
    terms: Mapped[str]
    until_on: Mapped[dt.date | None]
    recorded_by: Mapped[uuid.UUID | None]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Wording(Tenant):
    """A district's licensed text of an instrument in one language; the highest revision is the one that is shown."""

    __tablename__ = "wordings"
    __table_args__ = (tenant("licences", "licence_id"),)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    language: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    edition: Mapped[str]
    licence_id: Mapped[uuid.UUID]
    body: Mapped[dict[str, Any]]
    """stem, items by id, answers by name and code, as texts."""
    loaded_by: Mapped[uuid.UUID | None]
    loaded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class RuleSet(Row):
    """One policy and the instruments it is used with, frozen."""

    __tablename__ = "rule_sets"
    __table_args__ = (
        ForeignKeyConstraint(["district_id", "policy_digest"], ["definitions.district_id", "definitions.digest"]),
        UniqueConstraint("district_id", "digest"),
    )
    digest: Mapped[str]
    policy_digest: Mapped[str]
    instruments: Mapped[dict[str, Any]]
    """Instrument code -> digest of its definition, in the order of the battery."""
    engine: Mapped[str]
