"""case work"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WALLED_BY_SCHOOL = ("check_ins", "conferences", "plans", "recusals", "referrals")
APPEND_ONLY = ("plans", "recusals")
CHANGEABLE = ("check_ins", "conferences", "destinations", "referrals", "transfers")
CHECKS = {
    ("cases", "state"): (
        "state in ('open', 'follow_up', 'closure_proposed', 'closed')",
        "state in ('open', 'assessing', 'conference', 'plan_active', 'referred', 'follow_up', 'crisis',"
        " 'on_leave', 'return_assessment', 'closure_proposed', 'closed')",
    ),
    ("escalations", "subject"): (
        "subject in ('alert', 'follow_up')",
        "subject in ('alert', 'follow_up', 'transfer', 'referral', 'check_in')",
    ),
    ("follow_ups", "state"): (
        "state in ('planned', 'due', 'overdue', 'done', 'missed')",
        "state in ('planned', 'due', 'overdue', 'done', 'missed', 'left')",
    ),
    ("triages", "outcome"): (
        "outcome in ('case_opened', 'merged', 'monitor', 'not_confirmed')",
        "outcome in ('case_opened', 'merged', 'monitor', 'not_confirmed', 'wrong_student')",
    ),
}
"""What each of these allowed before, and what it allows from now on."""


def app_role() -> str:
    return str(context.config.attributes.get("app_role", "screening_app"))


def walls_and_grants() -> Iterator[str]:
    yield from row_security.wall("destinations", by_school=False)
    for table in WALLED_BY_SCHOOL:
        yield from row_security.wall(table, by_school=True)
    yield from row_security.wall_between("transfers", "from_school_id", "to_school_id")
    yield from row_security.grant(app_role(), APPEND_ONLY, "select, insert")
    yield from row_security.grant(app_role(), CHANGEABLE, "select, insert, update")
    # a reason's words stay as they were written; it goes along when its alert goes to another school
    yield from row_security.grant(app_role(), ("alert_reasons",), "update (school_id)")


def upgrade() -> None:
    op.create_table(
        "destinations",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("hours", sa.Text(), nullable=True),
        sa.Column("is_emergency", sa.Boolean(), nullable=False),
        sa.Column("added_by", sa.Uuid(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind in ('counselling_centre', 'hospital', 'guidance_team', 'hotline')", name=op.f("ck_destinations_kind")
        ),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_destinations_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_destinations")),
        sa.UniqueConstraint("district_id", "kind", "name", name=op.f("uq_destinations_district_id_kind_name")),
    )
    op.create_table(
        "check_ins",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('planned', 'done', 'missed')", name=op.f("ck_check_ins_state")),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_check_ins_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_check_ins")),
    )
    op.create_index(
        op.f("ix_check_ins_district_id_student_id"), "check_ins", ["district_id", "student_id"], unique=False
    )
    op.create_index(
        "ix_check_ins_due",
        "check_ins",
        ["district_id", "school_id", "due_on"],
        unique=False,
        postgresql_where="state = 'planned'",
    )
    op.create_index(
        "uq_check_ins_waiting",
        "check_ins",
        ["district_id", "student_id"],
        unique=True,
        postgresql_where="state = 'planned'",
    )
    op.create_table(
        "recusals",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("reason in ('subject', 'relative', 'other')", name=op.f("ck_recusals_reason")),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_recusals_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_recusals")),
        sa.UniqueConstraint(
            "district_id", "student_id", "person_id", name=op.f("uq_recusals_district_id_student_id_person_id")
        ),
    )
    op.create_table(
        "conferences",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("attended", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("sealed_decision", sa.LargeBinary(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_by", sa.Uuid(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Uuid(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("confirmed_by <> written_by", name=op.f("ck_conferences_two")),
        sa.CheckConstraint("tier between 1 and 3", name=op.f("ck_conferences_tier")),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"],
            ["cases.district_id", "cases.id"],
            name=op.f("fk_conferences_district_id_case_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_conferences")),
    )
    op.create_index(op.f("ix_conferences_district_id_case_id"), "conferences", ["district_id", "case_id"], unique=False)
    op.create_table(
        "plans",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("review_on", sa.Date(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("by", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"], ["cases.district_id", "cases.id"], name=op.f("fk_plans_district_id_case_id")
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_plans")),
        sa.UniqueConstraint("district_id", "case_id", "version", name=op.f("uq_plans_district_id_case_id_version")),
    )
    op.create_table(
        "referrals",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("destination_id", sa.Uuid(), nullable=False),
        sa.Column("urgency", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sealed_shared", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_reason", sa.LargeBinary(), nullable=True),
        sa.Column("appointment_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirm_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.Uuid(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("visited_on", sa.Date(), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code_hash", sa.LargeBinary(), nullable=True),
        sa.Column("fact_hash", sa.LargeBinary(), nullable=True),
        sa.Column("code_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(basis = 'refused') = (state = 'refused')", name=op.f("ck_referrals_refused")),
        sa.CheckConstraint(
            "(basis in ('override', 'refused')) = (sealed_reason is not null)", name=op.f("ck_referrals_reason")
        ),
        sa.CheckConstraint(
            "basis in ('guardian', 'student', 'both', 'override', 'refused')", name=op.f("ck_referrals_basis")
        ),
        sa.CheckConstraint(
            "state in ('refused', 'sent', 'accepted', 'declined', 'kept', 'not_kept', 'visit_refused', 'withdrawn')",
            name=op.f("ck_referrals_state"),
        ),
        sa.CheckConstraint("urgency in ('emergency', 'urgent', 'routine')", name=op.f("ck_referrals_urgency")),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"], ["cases.district_id", "cases.id"], name=op.f("fk_referrals_district_id_case_id")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "destination_id"],
            ["destinations.district_id", "destinations.id"],
            name=op.f("fk_referrals_district_id_destination_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_referrals")),
        sa.UniqueConstraint("district_id", "code_hash", name=op.f("uq_referrals_district_id_code_hash")),
    )
    op.create_index(op.f("ix_referrals_district_id_case_id"), "referrals", ["district_id", "case_id"], unique=False)
    op.create_index(
        "ix_referrals_waiting",
        "referrals",
        ["district_id", "confirm_by"],
        unique=False,
        postgresql_where="state in ('sent', 'accepted')",
    )
    op.create_table(
        "transfers",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("alert_id", sa.Uuid(), nullable=True),
        sa.Column("from_school_id", sa.Uuid(), nullable=False),
        sa.Column("to_school_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sealed_summary", sa.LargeBinary(), nullable=True),
        sa.Column("proposed_by", sa.Uuid(), nullable=True),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accept_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answered_by", sa.Uuid(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("declined_reason", sa.Text(), nullable=True),
        sa.Column("sealed_answer", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("(state <> 'waiting') or (accept_by is not null)", name=op.f("ck_transfers_clock")),
        sa.CheckConstraint("(state = 'passed') = (case_id is null)", name=op.f("ck_transfers_case")),
        sa.CheckConstraint(
            "state in ('announced', 'waiting', 'accepted', 'declined', 'withdrawn', 'passed')",
            name=op.f("ck_transfers_state"),
        ),
        sa.CheckConstraint("from_school_id <> to_school_id", name=op.f("ck_transfers_schools")),
        sa.CheckConstraint("tier between 1 and 3", name=op.f("ck_transfers_tier")),
        sa.ForeignKeyConstraint(
            ["district_id", "alert_id"],
            ["alerts.district_id", "alerts.id"],
            name=op.f("fk_transfers_district_id_alert_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "case_id"], ["cases.district_id", "cases.id"], name=op.f("fk_transfers_district_id_case_id")
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_transfers_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_transfers")),
    )
    op.create_index(
        "ix_transfers_clock",
        "transfers",
        ["district_id", "accept_by"],
        unique=False,
        postgresql_where="state = 'waiting'",
    )
    op.create_index(
        op.f("ix_transfers_district_id_from_school_id_state"),
        "transfers",
        ["district_id", "from_school_id", "state"],
        unique=False,
    )
    op.create_index(
        op.f("ix_transfers_district_id_student_id"), "transfers", ["district_id", "student_id"], unique=False
    )
    op.create_index(
        op.f("ix_transfers_district_id_to_school_id_state"),
        "transfers",
        ["district_id", "to_school_id", "state"],
        unique=False,
    )
    op.create_index(
        "uq_transfers_open",
        "transfers",
        ["district_id", "case_id"],
        unique=True,
        postgresql_where="state in ('announced', 'waiting')",
    )
    op.drop_constraint(
        op.f("uq_escalations_district_id_subject_subject_id_clock_at_rung"), "escalations", type_="unique"
    )
    op.create_unique_constraint(
        "uq_escalations_rung",
        "escalations",
        ["district_id", "subject", "subject_id", "school_id", "clock_at", "rung"],
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("follow_ups", sa.Column("left_reason", sa.Text(), nullable=True))
    op.add_column("interviews", sa.Column("outcome", sa.Text(), nullable=True))
    op.add_column("interviews", sa.Column("sealed_form", sa.LargeBinary(), nullable=True))
    op.create_check_constraint(
        op.f("ck_interviews_outcome"), "interviews", "outcome in ('disclosed', 'denied', 'misclick', 'not_answered')"
    )
    for (table, name), (_, after) in CHECKS.items():
        _replace_check(table, name, after)
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.execute(f"revoke update (school_id) on alert_reasons from {app_role()}")
    for (table, name), (before, _) in CHECKS.items():
        _replace_check(table, name, before)
    op.drop_constraint(op.f("ck_interviews_outcome"), "interviews", type_="check")
    op.drop_column("interviews", "sealed_form")
    op.drop_column("interviews", "outcome")
    op.drop_column("follow_ups", "left_reason")
    op.drop_constraint("uq_escalations_rung", "escalations", type_="unique")
    op.create_unique_constraint(
        op.f("uq_escalations_district_id_subject_subject_id_clock_at_rung"),
        "escalations",
        ["district_id", "subject", "subject_id", "clock_at", "rung"],
    )
    for table in ("transfers", "referrals", "plans", "conferences", "recusals", "check_ins", "destinations"):
        op.drop_table(table)


def _replace_check(table: str, name: str, condition: str) -> None:
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
