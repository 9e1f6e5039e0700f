"""sign-in"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CHANGEABLE = ("sessions", "codes", "recovery_codes", "guesses")
"""Global: found by keyed hash, before anybody's district is known; deleted once they are long over."""


def grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield from row_security.grant(app_role, CHANGEABLE, "select, insert, update, delete")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("password_hash", sa.Text(), nullable=True))
    op.add_column("accounts", sa.Column("sealed_secret", sa.LargeBinary(), nullable=True))
    op.add_column("accounts", sa.Column("last_step", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("accounts", sa.Column("subject_hash", sa.LargeBinary(), nullable=True))
    op.add_column("accounts", sa.Column("generation", sa.Integer(), server_default="0", nullable=False))
    op.create_unique_constraint(op.f("uq_accounts_subject_hash"), "accounts", ["subject_hash"])
    op.add_column("tokens", sa.Column("roles", sa.ARRAY(sa.Text()), nullable=True))
    op.add_column("tokens", sa.Column("purpose", sa.Text(), server_default="everything", nullable=False))
    op.create_check_constraint(op.f("ck_tokens_purpose"), "tokens", "purpose in ('everything', 'reading', 'sending')")
    op.create_index(op.f("ix_tokens_account_id"), "tokens", ["account_id"], unique=False)
    op.create_table(
        "codes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("short_hash", sa.LargeBinary(), nullable=True),
        sa.Column("fact", sa.Text(), nullable=True),
        sa.Column("fact_hash", sa.LargeBinary(), nullable=True),
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("student_id", sa.Uuid(), nullable=True),
        sa.Column("assignment_id", sa.Uuid(), nullable=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('student', 'guardian', 'invitation')", name=op.f("ck_codes_kind")),
        sa.CheckConstraint("fact in ('birth_date', 'phone')", name=op.f("ck_codes_fact")),
        sa.CheckConstraint("(kind = 'invitation') = (account_id is not null)", name=op.f("ck_codes_account")),
        sa.CheckConstraint("(kind = 'invitation') = (student_id is null)", name=op.f("ck_codes_student")),
        sa.CheckConstraint("(kind = 'student') = (assignment_id is not null)", name=op.f("ck_codes_assignment")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_codes_district_id")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_codes_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_codes")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_codes_code_hash")),
        sa.UniqueConstraint("short_hash", name=op.f("uq_codes_short_hash")),
    )
    op.create_index(op.f("ix_codes_account_id"), "codes", ["account_id"], unique=False)
    op.create_index(op.f("ix_codes_district_id_student_id"), "codes", ["district_id", "student_id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("code_id", sa.Uuid(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("proved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("stage in ('second_factor', 'enrollment', 'whole')", name=op.f("ck_sessions_stage")),
        sa.CheckConstraint("(account_id is null) <> (code_id is null)", name=op.f("ck_sessions_one")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_sessions_account_id")),
        sa.ForeignKeyConstraint(["code_id"], ["codes.id"], name=op.f("fk_sessions_code_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("session_hash", name=op.f("uq_sessions_session_hash")),
    )
    op.create_index(op.f("ix_sessions_account_id"), "sessions", ["account_id"], unique=False)
    op.create_index(op.f("ix_sessions_code_id"), "sessions", ["code_id"], unique=False)
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)
    op.create_table(
        "recovery_codes",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_recovery_codes_account_id")),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_recovery_codes")),
    )
    op.create_index(op.f("ix_recovery_codes_account_id"), "recovery_codes", ["account_id"], unique=False)
    op.create_table(
        "guesses",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name=op.f("pk_guesses")),
    )
    op.create_index(op.f("ix_guesses_free_at"), "guesses", ["free_at"], unique=False)
    for statement in grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("guesses")
    op.drop_table("recovery_codes")
    op.drop_table("sessions")
    op.drop_table("codes")
    op.drop_index(op.f("ix_tokens_account_id"), table_name="tokens")
    op.drop_constraint(op.f("ck_tokens_purpose"), "tokens", type_="check")
    op.drop_column("tokens", "purpose")
    op.drop_column("tokens", "roles")
    op.drop_constraint(op.f("uq_accounts_subject_hash"), "accounts", type_="unique")
    op.drop_column("accounts", "generation")
    op.drop_column("accounts", "subject_hash")
    op.drop_column("accounts", "last_step")
    op.drop_column("accounts", "sealed_secret")
    op.drop_column("accounts", "password_hash")
