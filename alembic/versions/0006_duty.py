"""duty"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WALLED_BY_DISTRICT = ("calendar_loads", "duties", "faults", "terms", "webhooks")
"""Shifts have a school, but are read to find out who hears, before any of the school's work is."""
CHANGEABLE = ("duties", "faults", "feeds", "webhooks")


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    for table in WALLED_BY_DISTRICT:
        yield from row_security.wall(table, by_school=False)
    yield from row_security.grant(app_role, CHANGEABLE, "select, insert, update")
    yield from row_security.grant(app_role, ("calendar_loads",), "select, insert")
    yield from row_security.grant(app_role, ("terms",), "select, insert, delete")
    yield from row_security.grant(app_role, ("calendar_days",), "delete")


def upgrade() -> None:
    op.add_column("districts", sa.Column("is_probe", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("rounds", sa.Column("is_at_home", sa.Boolean(), server_default="false", nullable=False))
    op.create_table(
        "duties",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("staff_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("planned_by", sa.Uuid(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancelled_by", sa.Uuid(), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("place in ('first', 'deputy')", name=op.f("ck_duties_place")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_duties_hours")),
        sa.ForeignKeyConstraint(
            ["district_id", "staff_id"], ["staff.district_id", "staff.id"], name=op.f("fk_duties_district_id_staff_id")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_duties_district_id_school_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_duties")),
    )
    op.create_index(
        "ix_duties_hours", "duties", ["district_id", "ends_at"], unique=False, postgresql_where="cancelled_at is null"
    )
    op.create_table(
        "webhooks",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("staff_id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("added_by", sa.Uuid(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("body in ('generic', 'wecom', 'dingtalk', 'feishu')", name=op.f("ck_webhooks_body")),
        sa.ForeignKeyConstraint(
            ["district_id", "staff_id"],
            ["staff.district_id", "staff.id"],
            name=op.f("fk_webhooks_district_id_staff_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_webhooks")),
    )
    op.create_index(
        "uq_webhooks_staff",
        "webhooks",
        ["district_id", "staff_id"],
        unique=True,
        postgresql_where="ended_at is null",
    )
    op.create_table(
        "faults",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("since_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_faults_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_faults")),
    )
    op.create_index(
        "uq_faults_open",
        "faults",
        ["district_id", "name", "place"],
        unique=True,
        postgresql_where="ended_at is null",
    )
    op.create_table(
        "terms",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("calendar", sa.Text(), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.CheckConstraint("starts_on <= ends_on", name=op.f("ck_terms_days")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_terms_district_id")),
        sa.PrimaryKeyConstraint("district_id", "calendar", "starts_on", name=op.f("pk_terms")),
    )
    op.create_table(
        "calendar_loads",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("calendar", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("covers_from", sa.Date(), nullable=False),
        sa.Column("covers_until", sa.Date(), nullable=False),
        sa.Column("loaded_by", sa.Uuid(), nullable=True),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_calendar_loads_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_calendar_loads")),
    )
    op.create_table(
        "feeds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_feeds_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feeds")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_feeds_token_hash")),
    )
    op.create_index(op.f("ix_feeds_account_id"), "feeds", ["account_id"], unique=False)
    op.create_index(
        "ix_weighings_red",
        "weighings",
        ["district_id", "student_id", "round_id"],
        unique=False,
        postgresql_where="tier = 3",
    )
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    op.execute(f"revoke delete on calendar_days from {app_role}")
    op.drop_index("ix_weighings_red", table_name="weighings")
    for table in ("feeds", "calendar_loads", "terms", "faults", "webhooks", "duties"):
        op.drop_table(table)
    op.drop_column("rounds", "is_at_home")
    op.drop_column("districts", "is_probe")
