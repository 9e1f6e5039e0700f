"""erasure"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

READINGS = "action in ('alert.read', 'case.read', 'result.read', 'student.named')"

ERASE_STUDENT = """
create function erase_student(p_district uuid, p_student uuid, p_extent text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_places uuid[] := array(select id from assignments where district_id = p_district and student_id = p_student);
  v_alerts uuid[] := array(select id from alerts where district_id = p_district and student_id = p_student);
  v_cases uuid[] := array(select id from cases where district_id = p_district and student_id = p_student);
  v_uploads uuid[] := array(
    select upload_id from administrations where district_id = p_district and student_id = p_student
    union select upload_id from results where district_id = p_district and student_id = p_student);
begin
  delete from file_chunks c using uploads u
    where c.district_id = p_district and u.district_id = p_district and u.id = any(v_uploads) and c.file_id = u.file_id;
  delete from risk_scores where district_id = p_district and student_id = p_student;
  delete from routine_chats where district_id = p_district and student_id = p_student;
  delete from weighings where district_id = p_district and student_id = p_student;
  delete from results where district_id = p_district and student_id = p_student;
  delete from administrations where district_id = p_district and student_id = p_student;
  delete from drafts where district_id = p_district and assignment_id = any(v_places);
  delete from safety_answers where district_id = p_district and assignment_id = any(v_places);
  delete from alert_reasons where district_id = p_district and alert_id = any(v_alerts);
  insert into alert_reasons (district_id, alert_id, rule, source, school_id, tier, noticed_at)
    select district_id, id, 'erased', 'erased', school_id, tier, opened_at from alerts
    where district_id = p_district and id = any(v_alerts);
  if p_extent <> 'person' then
    return;
  end if;
  delete from identities where district_id = p_district and student_id = p_student;
  delete from special_groups where district_id = p_district and student_id = p_student;
  delete from roster_rows where district_id = p_district and student_id = p_student;
  delete from sessions where code_id in (select id from codes where district_id = p_district and student_id = p_student);
  delete from codes where district_id = p_district and student_id = p_student;
  update students set born_month = null, sex = 'x' where district_id = p_district and id = p_student;
  update enrollments set number_hash = sha256(gen_random_uuid()::text::bytea),
    until_on = coalesce(until_on, greatest(since_on, current_date))
    where district_id = p_district and student_id = p_student;
  update access_requests set sealed_reason = '', sealed_review = null
    where district_id = p_district and student_id = p_student;
  update triages set sealed_note = '' where district_id = p_district and alert_id = any(v_alerts);
  update case_entries set sealed = null where district_id = p_district and case_id = any(v_cases);
  update closures set sealed_note = '' where district_id = p_district and case_id = any(v_cases);
  update conferences set sealed_decision = '' where district_id = p_district and case_id = any(v_cases);
  update follow_ups set sealed_note = null where district_id = p_district and case_id = any(v_cases);
  update interviews set sealed_note = '', sealed_form = null
    where district_id = p_district and case_id = any(v_cases);
  update plans set sealed = '' where district_id = p_district and case_id = any(v_cases);
  update referrals set sealed_shared = '', sealed_reason = null
    where district_id = p_district and case_id = any(v_cases);
  update transfers set sealed_summary = null, sealed_answer = null
    where district_id = p_district and student_id = p_student;
end $$
"""
ERASE_AS_ASKED = """
create function erase_as_asked(p_erasure uuid) returns text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_district uuid := nullif(current_setting('screening.district', true), '')::uuid;
  v_asked erasures%rowtype;
begin
  select * into v_asked from erasures where district_id = v_district and id = p_erasure and state = 'waiting'
    for update skip locked;
  if not found then
    return 'nothing';
  end if;
  if exists (select from alerts where district_id = v_district and student_id = v_asked.student_id
             and tier = 3 and closed_at is null)
     or exists (select from cases where district_id = v_district and student_id = v_asked.student_id
                and tier = 3 and state <> 'closed') then
    update erasures set narrowed_at = coalesce(narrowed_at, now()) where district_id = v_district and id = p_erasure;
    return 'narrowed';
  end if;
  if v_asked.reason = 'withdrawal' and not exists (
      select from (select distinct on (given_by) decision from consents
                   where district_id = v_district and student_id = v_asked.student_id
                   order by given_by, decided_at desc, recorded_at desc, decision = 'granted') latest
      where decision <> 'granted') then
    update erasures set state = 'taken_back', ended_at = now() where district_id = v_district and id = p_erasure;
    return 'taken_back';
  end if;
  perform erase_student(v_district, v_asked.student_id, v_asked.extent);
  update erasures set state = 'done', ended_at = now() where district_id = v_district and id = p_erasure;
  return 'done';
end $$
"""


def walls_and_grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield from row_security.wall("erasures", by_school=True)
    yield from row_security.grant(app_role, ("erasures",), "select, insert")
    # the app deletes no answer by itself: only what an entry of this table asks for, and the function looks
    yield "revoke all on function erase_student(uuid, uuid, text) from public"
    yield "revoke all on function erase_as_asked(uuid) from public"
    yield f"grant execute on function erase_as_asked(uuid) to {app_role}"


def upgrade() -> None:
    op.create_index(
        "ix_audit_entries_readings",
        "audit_entries",
        ["district_id", "subject_id"],
        unique=False,
        postgresql_where=sa.text(READINGS),
    )
    op.create_table(
        "erasures",
        sa.Column("district_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("extent", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("asked_by", sa.Uuid(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("narrowed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("extent in ('answers', 'person')", name=op.f("ck_erasures_extent")),
        sa.CheckConstraint("reason in ('withdrawal', 'request', 'retention')", name=op.f("ck_erasures_reason")),
        sa.CheckConstraint("state in ('waiting', 'done', 'taken_back')", name=op.f("ck_erasures_state")),
        sa.ForeignKeyConstraint(
            ["district_id", "student_id"],
            ["students.district_id", "students.id"],
            name=op.f("fk_erasures_district_id_student_id"),
        ),
        sa.PrimaryKeyConstraint("district_id", "id", name=op.f("pk_erasures")),
    )
    op.create_index(
        "uq_erasures_waiting",
        "erasures",
        ["district_id", "student_id", "extent"],
        unique=True,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.execute(ERASE_STUDENT)
    op.execute(ERASE_AS_ASKED)
    for statement in walls_and_grants():
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop function erase_as_asked(uuid)")
    op.execute("drop function erase_student(uuid, uuid, text)")
    op.drop_table("erasures")
    op.drop_index("ix_audit_entries_readings", table_name="audit_entries")
