"""roles of account"""

from collections.abc import Iterator

from alembic import context, op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None

# within the caller's own walls: it enters the account's district as whoever asks would, for this statement alone
ROLES = """
create function roles_of_account(p_district uuid, p_account uuid)
returns table (staff_id uuid, role text, school_id uuid)
language plpgsql security invoker set search_path = public, pg_temp as $$
begin
  perform set_config('screening.district', p_district::text, true), set_config('screening.schools', '{}', true);
  return query
    select s.id, r.role, r.school_id
    from staff s left join staff_roles r on r.district_id = s.district_id and r.staff_id = s.id
      and r.since_at <= now() and (r.until_at is null or r.until_at > now())
    where s.district_id = p_district and s.account_id = p_account
    order by r.school_id is not null, r.since_at, r.role;
end $$
"""


def grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield "revoke all on function roles_of_account(uuid, uuid) from public"
    yield f"grant execute on function roles_of_account(uuid, uuid) to {app_role}"


def upgrade() -> None:
    op.execute(ROLES)
    for statement in grants():
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop function roles_of_account(uuid, uuid)")
