"""risk models"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from screening import row_security

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WALLED_BY_DISTRICT = ("risk_models", "risk_model_approvals", "risk_model_checks", "routine_draws")
WALLED_BY_SCHOOL = ("risk_scores", "routine_chats")


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    for table in WALLED_BY_DISTRICT:
        yield from row_security.wall(table, by_school=False)
    for table in WALLED_BY_SCHOOL:
        yield from row_security.wall(table, by_school=True)
    yield from row_security.grant(
        app_role, ("risk_model_approvals", "risk_model_checks", "routine_draws"), "select, insert"
    )
    yield from row_security.grant(app_role, ("routine_chats",), "select, insert, update")
    # what a model said goes with the student's answers when they are erased
    yield from row_security.grant(app_role, ("risk_scores",), "select, insert, delete")
    # the bytes of a model are never changed, only what became of it
    yield from row_security.grant(app_role, ("risk_models",), "select, insert")
    yield f"grant update (state, retired_by, retired_at, problem) on risk_models to {app_role}"


def upgrade() -> None:
    op.create_table(
        "risk_models",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="shadow", nullable=False),
        sa.Column("features_version", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("baseline_body", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("libraries", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("card", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trained_by", sa.Uuid(), nullable=True),
        sa.Column("trained_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_by", sa.Uuid(), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.CheckConstraint("state in ('shadow', 'active', 'retired')", name=op.f("ck_risk_models_state")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_risk_models_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_risk_models")),
        sa.UniqueConstraint("district_id", "name", name=op.f("uq_risk_models_district_id_name")),
    )
    op.create_index(
        "uq_risk_models_active", "risk_models", ["district_id"], unique=True, postgresql_where="state = 'active'"
    )
    op.create_table(
        "risk_model_approvals",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("gates", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("yellow_from", sa.Double(), nullable=False),
        sa.Column("orange_from", sa.Double(), nullable=False),
        sa.Column("by", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "model_id"],
            ["risk_models.district_id", "risk_models.id"],
            name=op.f("fk_risk_model_approvals_district_id_model_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_risk_model_approvals")),
        sa.UniqueConstraint(
            "district_id", "model_id", "by", name=op.f("uq_risk_model_approvals_district_id_model_id_by")
        ),
    )
    op.create_table(
        "risk_model_checks",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("figures", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("problems", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "model_id"],
            ["risk_models.district_id", "risk_models.id"],
            name=op.f("fk_risk_model_checks_district_id_model_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "model_id", "month", name=op.f("pk_risk_model_checks")),
    )
    op.create_table(
        "risk_scores",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("baseline", sa.Double(), nullable=False),
        sa.Column("rule_tier", sa.SmallInteger(), nullable=False),
        sa.Column("is_raised", sa.Boolean(), nullable=False),
        sa.Column("reasons", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "model_id"],
            ["risk_models.district_id", "risk_models.id"],
            name=op.f("fk_risk_scores_district_id_model_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_risk_scores_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint(
            "district_id", "model_id", "round_id", "student_id", "revision", name=op.f("pk_risk_scores")
        ),
    )
    op.create_index(
        op.f("ix_risk_scores_district_id_student_id"), "risk_scores", ["district_id", "student_id"], unique=False
    )
    op.create_table(
        "routine_chats",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), server_default="offered", nullable=False),
        sa.Column("is_concern_confirmed", sa.Boolean(), nullable=True),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_by", sa.Uuid(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'held') = (is_concern_confirmed is not null)", name=op.f("ck_routine_chats_outcome")
        ),
        sa.CheckConstraint("state in ('offered', 'held', 'declined')", name=op.f("ck_routine_chats_state")),
        sa.CheckConstraint("probability > 0 and probability <= 1", name=op.f("ck_routine_chats_probability")),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_routine_chats_district_id_round_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_routine_chats_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_routine_chats")),
        sa.UniqueConstraint(
            "district_id", "round_id", "student_id", name=op.f("uq_routine_chats_district_id_round_id_student_id")
        ),
    )
    op.create_index(
        op.f("ix_routine_chats_district_id_student_id"), "routine_chats", ["district_id", "student_id"], unique=False
    )
    op.create_index(
        "ix_routine_chats_offered",
        "routine_chats",
        ["district_id", "school_id"],
        unique=False,
        postgresql_where="state = 'offered'",
    )
    op.create_table(
        "routine_draws",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("eligible", sa.Integer(), nullable=False),
        sa.Column("drawn", sa.Integer(), nullable=False),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_routine_draws_district_id_round_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", name=op.f("pk_routine_draws")),
    )
    op.add_column("results", sa.Column("model_id", sa.Uuid(), nullable=True))
    op.add_column("results", sa.Column("model_tier", sa.SmallInteger(), nullable=True))
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_column("results", "model_tier")
    op.drop_column("results", "model_id")
    for table in ("routine_draws", "routine_chats", "risk_scores", "risk_model_checks", "risk_model_approvals"):
        op.drop_table(table)
    op.drop_table("risk_models")
