"""licensed wordings"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from screening import row_security

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("licences", "wordings")
"""A text that was shown under a licence stays as it was shown; a better one is a further revision."""


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    for table in APPEND_ONLY:
        yield from row_security.wall(table, by_school=False)
    yield from row_security.grant(app_role, APPEND_ONLY, "select, insert")


def upgrade() -> None:
    op.create_table(
        "licences",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("until_on", sa.Date(), nullable=True),
        sa.Column("recorded_by", sa.Uuid(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_licences_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_licences")),
    )
    op.create_table(
        "wordings",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False),
        sa.Column("licence_id", sa.Uuid(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("loaded_by", sa.Uuid(), nullable=True),
        sa.Column("loaded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "licence_id"],
            ["licences.district_id", "licences.id"],
            name=op.f("fk_wordings_district_id_licence_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "instrument", "language", "revision", name=op.f("pk_wordings")),
    )
    op.add_column("round_instruments", sa.Column("unreleased_reason", sa.Text(), nullable=True))
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_column("round_instruments", "unreleased_reason")
    op.drop_table("wordings")
    op.drop_table("licences")
