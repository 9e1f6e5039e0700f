"""who opened many"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_audit_entries_opened",
        "audit_entries",
        ["district_id", "actor_id", "at"],
        postgresql_where="action = 'result.read'",
    )


def downgrade() -> None:
    op.drop_index("ix_audit_entries_opened", table_name="audit_entries")
