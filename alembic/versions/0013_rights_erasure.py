"""rights, and what erases the requests for them"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from screening import row_security

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ERASE_STUDENT = """
create function erase_student(p_district uuid, p_student uuid, p_extent text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  perform erase_student_rows(p_district, p_student, p_extent);
  if p_extent = 'person' then
    update rights_requests set sealed_words = '', sealed_answer = case when state = 'waiting' then null else ''::bytea end
      where district_id = p_district and student_id = p_student;
  end if;
end $$
"""


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield from row_security.wall("rights_requests", by_school=True)
    yield from row_security.wall("district_exits", by_school=False)
    yield from row_security.grant(app_role, ("rights_requests", "district_exits"), "select, insert, update")
    yield "revoke all on function erase_student(uuid, uuid, text) from public"


def upgrade() -> None:
    op.create_table(
        "rights_requests",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("asked_as", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Uuid(), nullable=False),
        sa.Column("sealed_words", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sealed_answer", sa.LargeBinary(), nullable=True),
        sa.Column("parts", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("extent", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind in ('see', 'copy', 'correct', 'delete', 'review')", name=op.f("ck_rights_requests_kind")
        ),
        sa.CheckConstraint("asked_as in ('student', 'guardian')", name=op.f("ck_rights_requests_asked_as")),
        sa.CheckConstraint("state in ('waiting', 'granted', 'refused')", name=op.f("ck_rights_requests_state")),
        sa.CheckConstraint("(state = 'waiting') = (decided_by is null)", name=op.f("ck_rights_requests_decided")),
        sa.CheckConstraint("(state = 'waiting') = (sealed_answer is null)", name=op.f("ck_rights_requests_answered")),
        sa.CheckConstraint("extent in ('answers', 'person')", name=op.f("ck_rights_requests_extent")),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_rights_requests_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_rights_requests")),
    )
    op.create_index(
        "uq_rights_requests_waiting",
        "rights_requests",
        ["district_id", "student_id", "kind", "asked_as"],
        unique=True,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "district_exits",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("asked_by", sa.Uuid(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Uuid(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("export_digest", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("confirmed_by is null or confirmed_by <> asked_by", name=op.f("ck_district_exits_two")),
        sa.CheckConstraint(
            "exported_at is null or confirmed_at is not null", name=op.f("ck_district_exits_confirmed_first")
        ),
        sa.CheckConstraint("(exported_at is null) = (export_digest is null)", name=op.f("ck_district_exits_exported")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_district_exits_district_id")),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_district_exits")),
    )
    # what erased a student before goes on under another name, as the first half of what erases one now
    op.execute("alter function erase_student(uuid, uuid, text) rename to erase_student_rows")
    op.execute(ERASE_STUDENT)
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop function erase_student(uuid, uuid, text)")
    op.execute("alter function erase_student_rows(uuid, uuid, text) rename to erase_student")
    op.drop_table("district_exits")
    op.drop_table("rights_requests")
