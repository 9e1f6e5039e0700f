"""probes forgotten"""

from collections.abc import Iterator

from alembic import context, op

revision = "0014"
down_revision = "0015"
branch_labels = None
depends_on = None

FORGET = """
create function forget_probes(p_before timestamptz) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_district uuid := nullif(current_setting('screening.district', true), '')::uuid;
  v_rounds uuid[];
  v_places uuid[];
  v_alerts uuid[];
begin
  -- in a district where children live there is nothing to forget here
  if not exists (select from districts where id = v_district and is_probe) then
    return 0;
  end if;
  v_rounds := array(select r.id from rounds r where r.district_id = v_district and r.closes_at < p_before
    and not exists (select from alerts a where a.district_id = v_district and a.round_id = r.id
                    and a.closed_at is null) limit 50);
  v_places := array(select id from assignments where district_id = v_district and round_id = any(v_rounds));
  v_alerts := array(select id from alerts where district_id = v_district and round_id = any(v_rounds));
  delete from deliveries where district_id = v_district and subject = 'alert' and subject_id = any(v_alerts);
  delete from escalations where district_id = v_district and subject = 'alert' and subject_id = any(v_alerts);
  delete from triages where district_id = v_district and alert_id = any(v_alerts);
  delete from acknowledgements where district_id = v_district and alert_id = any(v_alerts);
  delete from alert_reasons where district_id = v_district and alert_id = any(v_alerts);
  delete from alerts where district_id = v_district and id = any(v_alerts);
  delete from risk_scores where district_id = v_district and round_id = any(v_rounds);
  delete from routine_chats where district_id = v_district and round_id = any(v_rounds);
  delete from routine_draws where district_id = v_district and round_id = any(v_rounds);
  delete from weighings where district_id = v_district and round_id = any(v_rounds);
  delete from results where district_id = v_district and round_id = any(v_rounds);
  delete from administrations where district_id = v_district and round_id = any(v_rounds);
  delete from drafts where district_id = v_district and assignment_id = any(v_places);
  delete from safety_answers where district_id = v_district and assignment_id = any(v_places);
  delete from assignments where district_id = v_district and id = any(v_places);
  delete from coverage_summaries where district_id = v_district and round_id = any(v_rounds);
  delete from coverage_releases where district_id = v_district and round_id = any(v_rounds);
  delete from openings where district_id = v_district and round_id = any(v_rounds);
  delete from round_instruments where district_id = v_district and round_id = any(v_rounds);
  delete from rounds where district_id = v_district and id = any(v_rounds);
  return cardinality(v_alerts);
end $$
"""


def grants() -> Iterator[str]:
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    yield "revoke all on function forget_probes(timestamptz) from public"
    yield f"grant execute on function forget_probes(timestamptz) to {app_role}"


def upgrade() -> None:
    op.execute(FORGET)
    for statement in grants():
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop function forget_probes(timestamptz)")
