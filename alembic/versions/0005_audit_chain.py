"""audit chain"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APPEND_ONLY = ("audit_heads", "audit_seals")
"""Whoever seals adds a place to the chain; nobody who serves can move one or take one away."""


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    for table in APPEND_ONLY:
        yield from row_security.wall(table, by_school=False)
    yield from row_security.grant(app_role, APPEND_ONLY, "select, insert")


def upgrade() -> None:
    op.add_column(
        "audit_entries",
        sa.Column(
            "xact", sa.BigInteger(), server_default=sa.text("(pg_current_xact_id())::text::bigint"), nullable=False
        ),
    )
    op.create_index(
        "ix_audit_entries_xact",
        "audit_entries",
        ["xact"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_table(
        "audit_seals",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("district_id", "sequence", name=op.f("pk_audit_seals")),
        sa.UniqueConstraint("district_id", "entry_id", name=op.f("uq_audit_seals_district_id_entry_id")),
    )
    op.create_table(
        "audit_heads",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("xact_below", sa.BigInteger(), nullable=False),
        sa.Column("id_above", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("district_id", "sequence", name=op.f("pk_audit_heads")),
    )
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("audit_heads")
    op.drop_table("audit_seals")
    op.drop_index("ix_audit_entries_xact", table_name="audit_entries")
    op.drop_column("audit_entries", "xact")
