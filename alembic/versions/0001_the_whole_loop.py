"""the whole loop"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from screening import row_security

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WALLED_BY_DISTRICT = (
    "audit_entries",
    "calendar_days",
    "coverage_releases",
    "definitions",
    "idempotency_keys",
    "round_instruments",
    "rounds",
    "rule_sets",
    "schools",
    "staff",
    "staff_roles",
)
WALLED_BY_SCHOOL = (
    "acknowledgements",
    "administrations",
    "alert_reasons",
    "alerts",
    "assignments",
    "case_entries",
    "cases",
    "closures",
    "consents",
    "coverage_summaries",
    "deliveries",
    "drafts",
    "enrollments",
    "escalations",
    "file_chunks",
    "follow_ups",
    "identities",
    "interviews",
    "openings",
    "results",
    "roster_rows",
    "rosters",
    "safety_answers",
    "special_groups",
    "stored_files",
    "students",
    "triages",
    "upload_problems",
    "uploads",
    "weighings",
)
APPEND_ONLY = (
    "acknowledgements",
    "administrations",
    "alert_reasons",
    "audit_entries",
    "case_entries",
    "consents",
    "coverage_releases",
    "definitions",
    "escalations",
    "file_chunks",
    "interviews",
    "results",
    "roster_rows",
    "rule_sets",
    "safety_answers",
    "upload_problems",
    "weighings",
)
"""Rows that are added and never changed, so that no door and no mistake can rewrite them."""
CHANGEABLE = (
    "accounts",
    "alerts",
    "assignments",
    "calendar_days",
    "cases",
    "closures",
    "coverage_summaries",
    "deliveries",
    "districts",
    "drafts",
    "enrollments",
    "follow_ups",
    "heartbeats",
    "idempotency_keys",
    "identities",
    "openings",
    "rosters",
    "round_instruments",
    "rounds",
    "schools",
    "special_groups",
    "staff",
    "staff_roles",
    "stored_files",
    "students",
    "tokens",
    "triages",
    "uploads",
)
ERASABLE = (
    "coverage_summaries",
    "drafts",
    "file_chunks",
    "roster_rows",
)
"""What does not outlive its use: drafts once submitted, files once answered, counts that are made again."""


def app_role() -> str:
    return str(context.config.attributes.get("app_role", "screening_app"))


def walls_and_grants() -> Iterator[str]:
    for table in WALLED_BY_DISTRICT:
        yield from row_security.wall(table, by_school=False)
    for table in WALLED_BY_SCHOOL:
        yield from row_security.wall(table, by_school=True)
    yield f"grant usage on schema public to {app_role()}"
    yield from row_security.grant(app_role(), APPEND_ONLY, "select, insert")
    yield from row_security.grant(app_role(), CHANGEABLE, "select, insert, update")
    yield from row_security.grant(app_role(), ERASABLE, "delete")
    yield f"grant select on alembic_version to {app_role()}"


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_audit_entries")),
    )
    op.create_table(
        "deliveries",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("recipient_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("occasion", sa.Text(), nullable=False),
        sa.Column("urgency", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('pending', 'sent', 'refused')", name=op.f("ck_deliveries_state")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "district_id",
            "subject",
            "subject_id",
            "occasion",
            "recipient_id",
            name=op.f("uq_deliveries_district_id_subject_subject_id_occasion_recipient_id"),
        ),
    )
    op.create_index(
        "ix_deliveries_pending",
        "deliveries",
        ["district_id", "try_at"],
        unique=False,
        postgresql_where="state = 'pending'",
    )
    op.create_table(
        "districts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_districts")),
        sa.UniqueConstraint("code", name=op.f("uq_districts_code")),
    )
    op.create_table(
        "escalations",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("clock_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rung", sa.SmallInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("subject in ('alert', 'follow_up')", name=op.f("ck_escalations_subject")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_escalations")),
        sa.UniqueConstraint(
            "district_id",
            "subject",
            "subject_id",
            "clock_at",
            "rung",
            name=op.f("uq_escalations_district_id_subject_subject_id_clock_at_rung"),
        ),
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("email_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_accounts_district_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("email_hash", name=op.f("uq_accounts_email_hash")),
    )
    op.create_table(
        "calendar_days",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("calendar", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("is_school_day", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_calendar_days_district_id")),
        sa.PrimaryKeyConstraint("district_id", "calendar", "day", name=op.f("pk_calendar_days")),
    )
    op.create_table(
        "definitions",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint("kind in ('instrument', 'policy')", name=op.f("ck_definitions_kind")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_definitions_district_id")),
        sa.PrimaryKeyConstraint("district_id", "digest", name=op.f("pk_definitions")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_idempotency_keys_district_id")),
        sa.PrimaryKeyConstraint("district_id", "account_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "schools",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("calendar", sa.Text(), server_default="district", nullable=False),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_schools_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_schools")),
        sa.UniqueConstraint("district_id", "code", name=op.f("uq_schools_district_id_code")),
    )
    op.create_table(
        "stored_files",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("sealed_name", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("erase_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_stored_files_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_stored_files")),
    )
    op.create_index(
        op.f("ix_stored_files_district_id_erase_at"), "stored_files", ["district_id", "erase_at"], unique=False
    )
    op.create_table(
        "file_chunks",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "file_id"],
            ["stored_files.district_id", "stored_files.id"],
            name=op.f("fk_file_chunks_district_id_file_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "file_id", "position", name=op.f("pk_file_chunks")),
    )
    op.create_table(
        "rosters",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="received", nullable=False),
        sa.Column("column_map", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("received_by", sa.Uuid(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("committed_by", sa.Uuid(), nullable=True),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('received', 'proposed', 'committed', 'refused')", name=op.f("ck_rosters_state")),
        sa.ForeignKeyConstraint(
            ["district_id", "file_id"],
            ["stored_files.district_id", "stored_files.id"],
            name=op.f("fk_rosters_district_id_file_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_rosters")),
    )
    op.create_index(
        "ix_rosters_waiting", "rosters", ["district_id"], unique=False, postgresql_where="state = 'received'"
    )
    op.create_table(
        "rule_sets",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("policy_digest", sa.Text(), nullable=False),
        sa.Column("instruments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "policy_digest"],
            ["definitions.district_id", "definitions.digest"],
            name=op.f("fk_rule_sets_district_id_policy_digest"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_rule_sets")),
        sa.UniqueConstraint("district_id", "digest", name=op.f("uq_rule_sets_district_id_digest")),
    )
    op.create_table(
        "staff",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_staff_account_id")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_staff_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_staff")),
        sa.UniqueConstraint("district_id", "account_id", name=op.f("uq_staff_district_id_account_id")),
    )
    op.create_table(
        "students",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("sex", sa.Text(), server_default="x", nullable=False),
        sa.Column("born_month", sa.Date(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sex in ('f', 'm', 'x')", name=op.f("ck_students_sex")),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_students_district_id_school_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_students")),
    )
    op.create_index(op.f("ix_students_district_id_school_id"), "students", ["district_id", "school_id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_tokens_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_table(
        "cases",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("opened_by", sa.Uuid(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("prior_case_id", sa.Uuid(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('open', 'follow_up', 'closure_proposed', 'closed')", name=op.f("ck_cases_state")),
        sa.CheckConstraint("tier between 1 and 3", name=op.f("ck_cases_tier")),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_cases_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_cases")),
    )
    op.create_index(
        op.f("ix_cases_district_id_school_id_state"), "cases", ["district_id", "school_id", "state"], unique=False
    )
    op.create_index(
        "uq_cases_open", "cases", ["district_id", "student_id"], unique=True, postgresql_where="state <> 'closed'"
    )
    op.create_table(
        "consents",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("notice_version", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("recorded_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint("decision in ('granted', 'declined', 'withdrawn')", name=op.f("ck_consents_decision")),
        sa.CheckConstraint("given_by in ('guardian', 'student')", name=op.f("ck_consents_given_by")),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_consents_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_consents")),
    )
    op.create_index(
        op.f("ix_consents_district_id_student_id_given_by_decided_at"),
        "consents",
        ["district_id", "student_id", "given_by", "decided_at"],
        unique=False,
    )
    op.create_table(
        "enrollments",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("grade", sa.SmallInteger(), nullable=False),
        sa.Column("class_name", sa.Text(), server_default="", nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("since_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_enrollments_district_id_school_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_enrollments_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_enrollments")),
    )
    op.create_index(
        "uq_enrollments_current",
        "enrollments",
        ["district_id", "student_id"],
        unique=True,
        postgresql_where="until_on is null",
    )
    op.create_index(
        "uq_enrollments_number",
        "enrollments",
        ["district_id", "number_hash", "school_id"],
        unique=True,
        postgresql_where="until_on is null",
    )
    op.create_table(
        "identities",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("name_hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_identities_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "student_id", name=op.f("pk_identities")),
    )
    op.create_table(
        "roster_rows",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("roster_id", sa.Uuid(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "change in ('new', 'changed', 'moved', 'same', 'refused')", name=op.f("ck_roster_rows_change")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "roster_id"],
            ["rosters.district_id", "rosters.id"],
            name=op.f("fk_roster_rows_district_id_roster_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "roster_id", "row_number", name=op.f("pk_roster_rows")),
    )
    op.create_table(
        "rounds",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rule_set_id", sa.Uuid(), nullable=False),
        sa.Column("grades", sa.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("opens_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False),
        sa.Column("is_historical", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('planned', 'open', 'closed')", name=op.f("ck_rounds_state")),
        sa.CheckConstraint("opens_at < closes_at", name=op.f("ck_rounds_window")),
        sa.ForeignKeyConstraint(
            ["district_id", "rule_set_id"],
            ["rule_sets.district_id", "rule_sets.id"],
            name=op.f("fk_rounds_district_id_rule_set_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("district_id", "id", "rule_set_id", name=op.f("uq_rounds_district_id_id_rule_set_id")),
    )
    op.create_index(
        "ix_rounds_due", "rounds", ["district_id", "state"], unique=False, postgresql_where="state <> 'closed'"
    )
    op.create_table(
        "special_groups",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("group_code", sa.Text(), nullable=False),
        sa.Column("since_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_special_groups_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_special_groups")),
    )
    op.create_index(
        op.f("ix_special_groups_district_id_student_id"), "special_groups", ["district_id", "student_id"], unique=False
    )
    op.create_table(
        "staff_roles",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("staff_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("since_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_staff_roles_district_id_school_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "staff_id"],
            ["staff.district_id", "staff.id"],
            name=op.f("fk_staff_roles_district_id_staff_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_staff_roles")),
    )
    op.create_table(
        "assignments",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("informant", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("grade", sa.SmallInteger(), nullable=False),
        sa.Column("class_name", sa.Text(), server_default="", nullable=False),
        sa.Column("exempt_reason", sa.Text(), nullable=True),
        sa.Column("exempted_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_assignments_district_id_round_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_assignments_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", "student_id", "informant", name=op.f("pk_assignments")),
        sa.UniqueConstraint("district_id", "id", name=op.f("uq_assignments_district_id_id")),
    )
    op.create_index(
        op.f("ix_assignments_district_id_student_id"), "assignments", ["district_id", "student_id"], unique=False
    )
    op.create_index(op.f("ix_assignments_school_id_round_id"), "assignments", ["school_id", "round_id"], unique=False)
    op.create_table(
        "case_entries",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("by", sa.Uuid(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"],
            ["cases.district_id", "cases.id"],
            name=op.f("fk_case_entries_district_id_case_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_case_entries")),
    )
    op.create_index(
        op.f("ix_case_entries_district_id_case_id_at"), "case_entries", ["district_id", "case_id", "at"], unique=False
    )
    op.create_table(
        "closures",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sealed_note", sa.LargeBinary(), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Uuid(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rejected_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"], ["cases.district_id", "cases.id"], name=op.f("fk_closures_district_id_case_id")
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_closures")),
    )
    op.create_index(op.f("ix_closures_district_id_case_id"), "closures", ["district_id", "case_id"], unique=False)
    op.create_table(
        "coverage_releases",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("released_on", sa.Date(), nullable=False),
        sa.Column("tables", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("released_by", sa.Uuid(), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_coverage_releases_district_id_round_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", "released_on", name=op.f("pk_coverage_releases")),
    )
    op.create_table(
        "coverage_summaries",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("grade", sa.SmallInteger(), nullable=False),
        sa.Column("sex", sa.Text(), nullable=False),
        sa.Column("enrolled", sa.Integer(), nullable=False),
        sa.Column("exempt", sa.Integer(), nullable=False),
        sa.Column("consented", sa.Integer(), nullable=False),
        sa.Column("declined", sa.Integer(), nullable=False),
        sa.Column("invited", sa.Integer(), nullable=False),
        sa.Column("submitted", sa.Integer(), nullable=False),
        sa.Column("valid", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.Integer(), nullable=False),
        sa.Column("invalid", sa.Integer(), nullable=False),
        sa.Column("tier_none", sa.Integer(), nullable=False),
        sa.Column("tier_yellow", sa.Integer(), nullable=False),
        sa.Column("tier_orange", sa.Integer(), nullable=False),
        sa.Column("tier_red", sa.Integer(), nullable=False),
        sa.Column(
            "eligible",
            sa.Integer(),
            sa.Computed(
                "enrolled - exempt",
            ),
            nullable=False,
        ),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_coverage_summaries_district_id_round_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_coverage_summaries_district_id_school_id"),
        ),
        sa.PrimaryKeyConstraint(
            "district_id", "round_id", "school_id", "grade", "sex", name=op.f("pk_coverage_summaries")
        ),
    )
    op.create_table(
        "follow_ups",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False),
        sa.Column("planned_by", sa.Uuid(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("missed_reason", sa.Text(), nullable=True),
        sa.Column("sealed_note", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name=op.f("ck_follow_ups_mode")),
        sa.CheckConstraint(
            "state in ('planned', 'due', 'overdue', 'done', 'missed')", name=op.f("ck_follow_ups_state")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"],
            ["cases.district_id", "cases.id"],
            name=op.f("fk_follow_ups_district_id_case_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_follow_ups")),
    )
    op.create_index(op.f("ix_follow_ups_district_id_case_id"), "follow_ups", ["district_id", "case_id"], unique=False)
    op.create_index(
        "ix_follow_ups_waiting",
        "follow_ups",
        ["district_id", "due_at"],
        unique=False,
        postgresql_where="state in ('planned', 'due', 'overdue')",
    )
    op.create_table(
        "interviews",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("is_student_seen", sa.Boolean(), nullable=False),
        sa.Column("has_current_risk", sa.Boolean(), nullable=False),
        sa.Column("is_concern_confirmed", sa.Boolean(), nullable=False),
        sa.Column("sealed_note", sa.LargeBinary(), nullable=False),
        sa.Column("by", sa.Uuid(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name=op.f("ck_interviews_mode")),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"],
            ["cases.district_id", "cases.id"],
            name=op.f("fk_interviews_district_id_case_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_interviews")),
    )
    op.create_index(op.f("ix_interviews_district_id_case_id"), "interviews", ["district_id", "case_id"], unique=False)
    op.create_table(
        "openings",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("opens_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False),
        sa.CheckConstraint("state in ('planned', 'open', 'closed')", name=op.f("ck_openings_state")),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_openings_district_id_round_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "school_id"],
            ["schools.district_id", "schools.id"],
            name=op.f("fk_openings_district_id_school_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", "school_id", name=op.f("pk_openings")),
    )
    op.create_table(
        "results",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("validity", sa.Text(), nullable=False),
        sa.Column("reasons", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("forms", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("prior_tier", sa.SmallInteger(), nullable=False),
        sa.Column("age", sa.SmallInteger(), nullable=True),
        sa.Column("rule_set_id", sa.Uuid(), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=True),
        sa.Column("recorded_by", sa.Uuid(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("validity in ('valid', 'suspect', 'invalid')", name=op.f("ck_results_validity")),
        sa.CheckConstraint("tier between 0 and 3", name=op.f("ck_results_tier")),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id", "rule_set_id"],
            ["rounds.district_id", "rounds.id", "rounds.rule_set_id"],
            name=op.f("fk_results_district_id_round_id_rule_set_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_results_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", "student_id", "revision", name=op.f("pk_results")),
    )
    op.create_index(op.f("ix_results_district_id_student_id"), "results", ["district_id", "student_id"], unique=False)
    op.create_index("ix_results_recorded", "results", ["recorded_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "round_instruments",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("forms", sa.ARRAY(sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_round_instruments_district_id_round_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", "instrument", name=op.f("pk_round_instruments")),
    )
    op.create_table(
        "uploads",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), server_default="received", nullable=False),
        sa.Column("is_dry_run", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_correction", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("column_map", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("progress", sa.REAL(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("interruptions", sa.Integer(), server_default="0", nullable=False),
        sa.Column("receipt", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("received_by", sa.Uuid(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('received', 'loaded', 'refused')", name=op.f("ck_uploads_state")),
        sa.ForeignKeyConstraint(
            ["district_id", "file_id"],
            ["stored_files.district_id", "stored_files.id"],
            name=op.f("fk_uploads_district_id_file_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_uploads_district_id_round_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_digest", "uploads", ["district_id", "round_id", "digest"], unique=False)
    op.create_index(
        "ix_uploads_waiting",
        "uploads",
        ["district_id", "received_at"],
        unique=False,
        postgresql_where="state = 'received'",
    )
    op.create_table(
        "administrations",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("informant", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("revision", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("answers", sa.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("missing_count", sa.SmallInteger(), nullable=False),
        sa.Column("scores", sa.ARRAY(sa.REAL()), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=True),
        sa.Column("recorded_by", sa.Uuid(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id", "student_id", "informant"],
            ["assignments.district_id", "assignments.round_id", "assignments.student_id", "assignments.informant"],
            name=op.f("fk_administrations_district_id_round_id_student_id_informant"),
        ),
        sa.PrimaryKeyConstraint(
            "district_id",
            "round_id",
            "student_id",
            "informant",
            "instrument",
            "attempt",
            "revision",
            name=op.f("pk_administrations"),
        ),
    )
    op.create_table(
        "alerts",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("student_id", sa.Uuid(), nullable=True),
        sa.Column("round_id", sa.Uuid(), nullable=True),
        sa.Column("upload_id", sa.Uuid(), nullable=True),
        sa.Column("file_digest", sa.LargeBinary(), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("has_self_harm", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), server_default="new", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("see_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(student_id is null) = (source = 'upload')", name=op.f("ck_alerts_student")),
        sa.CheckConstraint("source in ('result', 'safety_answer', 'concern', 'upload')", name=op.f("ck_alerts_source")),
        sa.CheckConstraint("state in ('new', 'acknowledged', 'triaged')", name=op.f("ck_alerts_state")),
        sa.CheckConstraint("tier between 1 and 3", name=op.f("ck_alerts_tier")),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id"],
            ["rounds.district_id", "rounds.id"],
            name=op.f("fk_alerts_district_id_round_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_alerts_district_id_student_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "upload_id"],
            ["uploads.district_id", "uploads.id"],
            name=op.f("fk_alerts_district_id_upload_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_alerts")),
    )
    op.create_index(
        "ix_alerts_clock",
        "alerts",
        ["district_id", "answer_by"],
        unique=False,
        postgresql_where="closed_at is null and state = 'new'",
    )
    op.create_index(op.f("ix_alerts_district_id_student_id"), "alerts", ["district_id", "student_id"], unique=False)
    op.create_index(
        "ix_alerts_queue",
        "alerts",
        ["district_id", "school_id", "tier", "answer_by", "id"],
        unique=False,
        postgresql_where="closed_at is null",
    )
    op.create_index(
        "uq_alerts_open", "alerts", ["district_id", "student_id"], unique=True, postgresql_where="closed_at is null"
    )
    op.create_index(
        "uq_alerts_upload_row",
        "alerts",
        ["district_id", "round_id", "file_digest", "place"],
        unique=True,
        postgresql_where="source = 'upload'",
    )
    op.create_table(
        "drafts",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("answers", sa.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "assignment_id"],
            ["assignments.district_id", "assignments.id"],
            name=op.f("fk_drafts_district_id_assignment_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "assignment_id", "instrument", name=op.f("pk_drafts")),
    )
    op.create_table(
        "safety_answers",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("answer", sa.SmallInteger(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "assignment_id"],
            ["assignments.district_id", "assignments.id"],
            name=op.f("fk_safety_answers_district_id_assignment_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "assignment_id", "item", "answer", name=op.f("pk_safety_answers")),
    )
    op.create_table(
        "upload_problems",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("sheet", sa.Text(), nullable=True),
        sa.Column("row_number", sa.Integer(), nullable=True),
        sa.Column("column_name", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "upload_id"],
            ["uploads.district_id", "uploads.id"],
            name=op.f("fk_upload_problems_district_id_upload_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "upload_id", "position", name=op.f("pk_upload_problems")),
    )
    op.create_table(
        "weighings",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("weighed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "round_id", "student_id", "revision"],
            ["results.district_id", "results.round_id", "results.student_id", "results.revision"],
            name=op.f("fk_weighings_district_id_round_id_student_id_revision"),
        ),
        sa.PrimaryKeyConstraint("district_id", "round_id", "student_id", "revision", name=op.f("pk_weighings")),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "alert_id"],
            ["alerts.district_id", "alerts.id"],
            name=op.f("fk_acknowledgements_district_id_alert_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_acknowledgements")),
    )
    op.create_index(
        op.f("ix_acknowledgements_district_id_alert_id"), "acknowledgements", ["district_id", "alert_id"], unique=False
    )
    op.create_table(
        "alert_reasons",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["district_id", "alert_id"],
            ["alerts.district_id", "alerts.id"],
            name=op.f("fk_alert_reasons_district_id_alert_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "alert_id", "rule", "source", name=op.f("pk_alert_reasons")),
    )
    op.create_table(
        "triages",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=True),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("contact", sa.Text(), nullable=False),
        sa.Column("is_student_seen", sa.Boolean(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("sealed_note", sa.LargeBinary(), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Uuid(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "outcome in ('case_opened', 'merged', 'monitor', 'not_confirmed')", name=op.f("ck_triages_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "alert_id"],
            ["alerts.district_id", "alerts.id"],
            name=op.f("fk_triages_district_id_alert_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"], ["cases.district_id", "cases.id"], name=op.f("fk_triages_district_id_case_id")
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_triages")),
    )
    op.create_index(op.f("ix_triages_district_id_alert_id"), "triages", ["district_id", "alert_id"], unique=False)
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.drop_index(op.f("ix_triages_district_id_alert_id"), table_name="triages")
    op.drop_table("triages")
    op.drop_table("alert_reasons")
    op.drop_index(op.f("ix_acknowledgements_district_id_alert_id"), table_name="acknowledgements")
    op.drop_table("acknowledgements")
    op.drop_table("weighings")
    op.drop_table("upload_problems")
    op.drop_table("safety_answers")
    op.drop_table("drafts")
    op.drop_index("uq_alerts_upload_row", table_name="alerts", postgresql_where="source = 'upload'")
    op.drop_index("uq_alerts_open", table_name="alerts", postgresql_where="closed_at is null")
    op.drop_index("ix_alerts_queue", table_name="alerts", postgresql_where="closed_at is null")
    op.drop_index(op.f("ix_alerts_district_id_student_id"), table_name="alerts")
    op.drop_index("ix_alerts_clock", table_name="alerts", postgresql_where="closed_at is null and state = 'new'")
    op.drop_table("alerts")
    op.drop_table("administrations")
    op.drop_index("ix_uploads_waiting", table_name="uploads", postgresql_where="state = 'received'")
    op.drop_index("ix_uploads_digest", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("round_instruments")
    op.drop_index("ix_results_recorded", table_name="results", postgresql_using="brin")
    op.drop_index(op.f("ix_results_district_id_student_id"), table_name="results")
    op.drop_table("results")
    op.drop_table("openings")
    op.drop_index(op.f("ix_interviews_district_id_case_id"), table_name="interviews")
    op.drop_table("interviews")
    op.drop_index(
        "ix_follow_ups_waiting", table_name="follow_ups", postgresql_where="state in ('planned', 'due', 'overdue')"
    )
    op.drop_index(op.f("ix_follow_ups_district_id_case_id"), table_name="follow_ups")
    op.drop_table("follow_ups")
    op.drop_table("coverage_summaries")
    op.drop_table("coverage_releases")
    op.drop_index(op.f("ix_closures_district_id_case_id"), table_name="closures")
    op.drop_table("closures")
    op.drop_index(op.f("ix_case_entries_district_id_case_id_at"), table_name="case_entries")
    op.drop_table("case_entries")
    op.drop_index(op.f("ix_assignments_school_id_round_id"), table_name="assignments")
    op.drop_index(op.f("ix_assignments_district_id_student_id"), table_name="assignments")
    op.drop_table("assignments")
    op.drop_table("staff_roles")
    op.drop_index(op.f("ix_special_groups_district_id_student_id"), table_name="special_groups")
    op.drop_table("special_groups")
    op.drop_index("ix_rounds_due", table_name="rounds", postgresql_where="state <> 'closed'")
    op.drop_table("rounds")
    op.drop_table("roster_rows")
    op.drop_table("identities")
    op.drop_index("uq_enrollments_number", table_name="enrollments", postgresql_where="until_on is null")
    op.drop_index("uq_enrollments_current", table_name="enrollments", postgresql_where="until_on is null")
    op.drop_table("enrollments")
    op.drop_index(op.f("ix_consents_district_id_student_id_given_by_decided_at"), table_name="consents")
    op.drop_table("consents")
    op.drop_index("uq_cases_open", table_name="cases", postgresql_where="state <> 'closed'")
    op.drop_index(op.f("ix_cases_district_id_school_id_state"), table_name="cases")
    op.drop_table("cases")
    op.drop_table("tokens")
    op.drop_index(op.f("ix_students_district_id_school_id"), table_name="students")
    op.drop_table("students")
    op.drop_table("staff")
    op.drop_table("rule_sets")
    op.drop_index("ix_rosters_waiting", table_name="rosters", postgresql_where="state = 'received'")
    op.drop_table("rosters")
    op.drop_table("file_chunks")
    op.drop_index(op.f("ix_stored_files_district_id_erase_at"), table_name="stored_files")
    op.drop_table("stored_files")
    op.drop_table("schools")
    op.drop_table("idempotency_keys")
    op.drop_table("definitions")
    op.drop_table("calendar_days")
    op.drop_table("accounts")
    op.drop_table("heartbeats")
    op.drop_table("escalations")
    op.drop_table("districts")
    op.drop_index("ix_deliveries_pending", table_name="deliveries", postgresql_where="state = 'pending'")
    op.drop_table("deliveries")
    op.drop_table("audit_entries")
