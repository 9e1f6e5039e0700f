"""planner statistics"""

from alembic import context, op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

REFRESH = """
create function refresh_planner_statistics(variadic p_tables text[]) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_table text;
begin
  foreach v_table in array p_tables loop
    execute format('analyze public.%I', v_table);
  end loop;
end $$
"""


def upgrade() -> None:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    op.execute(REFRESH)
    op.execute("revoke all on function refresh_planner_statistics(text[]) from public")
    op.execute(f"grant execute on function refresh_planner_statistics(text[]) to {app_role}")


def downgrade() -> None:
    op.execute("drop function refresh_planner_statistics(text[])")
