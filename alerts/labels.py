"""What is known to be true of students, for a model to learn from and be judged by, and how many each stands for.

A label is what a person found on talking: of students the rules found (or somebody raised), and of those drawn by lot
among the others. Each counts for one over the share of students like it that were talked with (Begg and Greenes).
"""

import datetime as dt
import uuid

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, consent, rounds

_LABELS = """
with standing as (
    select distinct on (r.round_id, r.student_id) r.round_id, r.student_id, r.school_id, r.tier, r.model_tier
    from results r join rounds o on o.district_id = r.district_id and o.id = r.round_id
    where r.district_id = :district and not o.is_historical and r.recorded_at <= :at
    order by r.round_id, r.student_id, r.revision desc
), talked as (
    select a.round_id, a.student_id,
        bool_or(t.case_id is not null and exists (select from interviews i where i.district_id = t.district_id
            and i.case_id = t.case_id and i.is_student_seen and i.held_at <= :at
            and (i.is_concern_confirmed or i.has_current_risk))) as is_confirmed
    from alerts a join triages t on t.district_id = a.district_id and t.alert_id = a.id
    where a.district_id = :district and a.round_id is not null and a.source in ('result', 'safety_answer')
        and t.proposed_at <= :at and t.is_student_seen and t.outcome <> 'wrong_student'
        and (t.case_id is null or exists (select from interviews i where i.district_id = t.district_id
            and i.case_id = t.case_id and i.is_student_seen and i.held_at <= :at))
    group by a.round_id, a.student_id
)
select s.round_id, s.student_id, s.school_id, s.tier, s.model_tier is not null as is_by_model,
    t.is_confirmed, c.is_concern_confirmed as is_lot_confirmed, c.probability,
    count(*) over (partition by s.round_id, s.tier, s.model_tier) as n_like,
    count(t.is_confirmed) over (partition by s.round_id, s.tier, s.model_tier) as n_talked,
    count(c.id) over (partition by s.round_id) as n_drawn,
    count(c.is_concern_confirmed) over (partition by s.round_id) as n_held
from standing s
left join talked t on t.round_id = s.round_id and t.student_id = s.student_id
left join routine_chats c on c.district_id = :district and c.round_id = s.round_id and c.student_id = s.student_id
"""

SCHEMA = {
    "round_id": pl.String,
    "student_id": pl.String,
    "school_id": pl.String,
    "tier": pl.Int64,
    "is_by_lot": pl.Boolean,
    "is_confirmed": pl.Boolean,
    "weight": pl.Float64,
}


def known(session: Session, *, at: dt.datetime) -> pl.DataFrame:
    """A row (SCHEMA) per student and round with an outcome by then, in the session's scope.

    `tier` is the rules' own, `weight` how many students of the round it stands for. Whoever withdrew, or refused since,
    is in no row.
    """
    found = session.execute(text(_LABELS), {"district": access.scope_of(session).district_id, "at": at}).all()
    rows = []
    for row in found:
        if row.is_lot_confirmed is not None:
            weight = row.n_drawn / row.n_held / row.probability
            rows.append((row, True, row.is_lot_confirmed, weight))
        elif row.is_confirmed is not None and row.tier > 0:
            rows.append((row, False, row.is_confirmed, row.n_like / row.n_talked))
    frame = pl.DataFrame(
        [
            (str(r.round_id), str(r.student_id), str(r.school_id), r.tier, is_by_lot, is_confirmed, weight)
            for r, is_by_lot, is_confirmed, weight in rows
        ],
        schema=SCHEMA,
        orient="row",
    )
    return frame.join(_with_consent(session, frame, at), on=["round_id", "student_id"], how="semi")


def _with_consent(session: Session, labels: pl.DataFrame, at: dt.datetime) -> pl.DataFrame:
    kept = []
    for (round_id,), group in labels.group_by("round_id"):
        policy = rounds.rules_of(session, uuid.UUID(str(round_id))).policy
        students = [uuid.UUID(student) for student in group.get_column("student_id")]
        allowed = consent.in_force(session, students, at=at, policy=policy)
        kept += [(str(round_id), str(student)) for student in allowed]
    return pl.DataFrame(kept, schema={"round_id": pl.String, "student_id": pl.String}, orient="row")
