"""exports, and how named readings are found by their hour"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None

NAMED = "action in ('alert.read', 'case.read', 'result.read', 'student.named')"


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield from row_security.wall("exports", by_school=True)
    yield from row_security.grant(app_role, ("exports",), "select, insert, update")


def upgrade() -> None:
    op.create_index("ix_audit_entries_named", "audit_entries", ["district_id", "at"], postgresql_where=sa.text(NAMED))
    op.create_table(
        "exports",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("what in ('student_codes', 'guardian_codes')", name=op.f("ck_exports_what")),
        sa.CheckConstraint("purpose in ('screening', 'consent')", name=op.f("ck_exports_purpose")),
        sa.CheckConstraint("state in ('waiting', 'granted', 'refused', 'done')", name=op.f("ck_exports_state")),
        sa.CheckConstraint("decided_by is null or decided_by <> person_id", name=op.f("ck_exports_two")),
        sa.CheckConstraint(
            "state <> 'done' or row_count <= 50 or decided_by is not null", name=op.f("ck_exports_many")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_exports_district_id_school_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_exports")),
    )
    op.create_index(op.f("ix_exports_district_id_asked_at"), "exports", ["district_id", "asked_at"])
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("exports")
    op.drop_index("ix_audit_entries_named", table_name="audit_entries")
