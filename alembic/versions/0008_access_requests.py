"""access requests"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE = "access_requests"


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield from row_security.wall(TABLE, by_school=True)
    yield from row_security.grant(app_role, (TABLE,), "select, insert, update")


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sealed_reason", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("review_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reviewed_by", sa.Uuid(), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_justified", sa.Boolean(), nullable=True),
        sa.Column("sealed_review", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("kind in ('assignment', 'request', 'break_glass')", name=op.f("ck_access_requests_kind")),
        sa.CheckConstraint(
            "state in ('waiting', 'granted', 'refused', 'ended')", name=op.f("ck_access_requests_state")
        ),
        sa.CheckConstraint(
            "kind = 'break_glass' or decided_by is null or decided_by <> person_id",
            name=op.f("ck_access_requests_two"),
        ),
        sa.CheckConstraint(
            "kind <> 'break_glass' or (until_at <= asked_at + interval '4 hours' and review_by is not null)",
            name=op.f("ck_access_requests_glass"),
        ),
        sa.CheckConstraint(
            "kind <> 'request' or state = 'waiting' or state = 'refused' or until_at is not null",
            name=op.f("ck_access_requests_box"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_access_requests_district_id_student_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "person_id"],
            ["staff.district_id", "staff.id"],
            name=op.f("fk_access_requests_district_id_person_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_access_requests")),
    )
    op.create_index(op.f("ix_access_requests_district_id_student_id"), TABLE, ["district_id", "student_id"])
    op.create_index(op.f("ix_access_requests_district_id_person_id"), TABLE, ["district_id", "person_id"])
    op.create_index(
        "ix_access_requests_waiting", TABLE, ["district_id", "school_id"], postgresql_where="state = 'waiting'"
    )
    op.create_index(
        "ix_access_requests_review",
        TABLE,
        ["district_id", "review_by"],
        postgresql_where="review_by is not null and reviewed_at is null",
    )
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_table(TABLE)
