"""student merges, and what an erasure of one row asks of the other's"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from screening import row_security

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None

_ERASE = """
create or replace function erase_student(p_district uuid, p_student uuid, p_extent text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  perform erase_student_rows(p_district, p_student, p_extent);
  if p_extent = 'person' then
    update rights_requests set sealed_words = '', sealed_answer = case when state = 'waiting' then null else ''::bytea end
      where district_id = p_district and student_id = p_student;{merges}
  end if;
end $$
"""
_MERGES = """
    update student_merges set sealed_reason = '', sealed_refusal = null, sealed_split_reason = null
      where district_id = p_district and p_student in (student_id, duplicate_id);"""

_ERASE_AS_ASKED = """
create or replace function erase_as_asked(p_erasure uuid) returns text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_district uuid := nullif(current_setting('screening.district', true), '')::uuid;
  v_asked erasures%rowtype;{declared}
begin
  select * into v_asked from erasures where district_id = v_district and id = p_erasure and state = 'waiting'
    for update skip locked;
  if not found then
    return 'nothing';
  end if;{found}
  if exists (select from alerts where district_id = v_district and student_id {is_theirs}
             and tier = 3 and closed_at is null)
     or exists (select from cases where district_id = v_district and student_id {is_theirs}
                and tier = 3 and state <> 'closed') then
    update erasures set narrowed_at = coalesce(narrowed_at, now()) where district_id = v_district and id = p_erasure;
    return 'narrowed';
  end if;
  if v_asked.reason = 'withdrawal' and not exists (
      select from (select distinct on (student_id, given_by) decision from consents
                   where district_id = v_district and student_id {is_theirs}
                   order by student_id, given_by, decided_at desc, recorded_at desc, decision = 'granted') latest
      where decision <> 'granted') then
    update erasures set state = 'taken_back', ended_at = now() where district_id = v_district and id = p_erasure;
    return 'taken_back';
  end if;
  perform erase_student(v_district, v_asked.student_id, v_asked.extent);
  update erasures set state = 'done', ended_at = now() where district_id = v_district and id = p_erasure;
  return 'done';
end $$
"""
_OF_ONE_ROW = {"declared": "", "found": "", "is_theirs": "= v_asked.student_id"}
_OF_THE_CHILD = {
    "declared": "\n  v_counted uuid;\n  v_rows uuid[];",
    "found": """
  v_counted := coalesce((select student_id from student_merges where district_id = v_district and state = 'merged'
                         and duplicate_id = v_asked.student_id), v_asked.student_id);
  v_rows := array(select duplicate_id from student_merges where district_id = v_district and state = 'merged'
                  and student_id = v_counted) || v_counted;""",
    "is_theirs": "= any(v_rows)",
}
"""An open red, and a refusal, of any row of a child keeps or erases what the others hold."""


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield from row_security.wall_between("student_merges", "school_id", "duplicate_school_id")
    yield from row_security.grant(app_role, ("student_merges",), "select, insert, update")


def upgrade() -> None:
    op.create_table(
        "student_merges",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("duplicate_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("duplicate_school_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("warnings", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("sealed_reason", sa.LargeBinary(), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sealed_refusal", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_split_reason", sa.LargeBinary(), nullable=True),
        sa.Column("split_asked_by", sa.Uuid(), nullable=True),
        sa.Column("split_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("split_by", sa.Uuid(), nullable=True),
        sa.Column("split_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("student_id <> duplicate_id", name=op.f("ck_student_merges_rows")),
        sa.CheckConstraint(
            "state in ('proposed', 'merged', 'refused', 'withdrawn', 'split')", name=op.f("ck_student_merges_state")
        ),
        sa.CheckConstraint("(state = 'proposed') = (decided_by is null)", name=op.f("ck_student_merges_decided")),
        sa.CheckConstraint(
            "state = 'withdrawn' or decided_by is null or decided_by <> proposed_by", name=op.f("ck_student_merges_two")
        ),
        sa.CheckConstraint("(state = 'split') = (split_by is not null)", name=op.f("ck_student_merges_split")),
        sa.CheckConstraint(
            "split_by is null or (split_asked_by is not null and split_by <> split_asked_by)",
            name=op.f("ck_student_merges_apart"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "duplicate_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_student_merges_district_id_duplicate_id"),
        ),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_student_merges_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_student_merges")),
    )
    op.create_index(
        "uq_student_merges_standing",
        "student_merges",
        ["district_id", "duplicate_id"],
        unique=True,
        postgresql_where=sa.text("state in ('proposed', 'merged')"),
    )
    op.create_index(
        "ix_student_merges_merged",
        "student_merges",
        ["district_id", "student_id"],
        postgresql_where=sa.text("state = 'merged'"),
    )
    op.execute(_ERASE.format(merges=_MERGES))
    op.execute(_ERASE_AS_ASKED.format(**_OF_THE_CHILD))
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.execute(_ERASE_AS_ASKED.format(**_OF_ONE_ROW))
    op.execute(_ERASE.format(merges=""))
    op.drop_table("student_merges")
