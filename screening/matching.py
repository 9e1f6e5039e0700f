"""Rows of a file to the students they are about: inside the load's transaction, set-based, never by guess.

`incoming` and `matched` are temporary tables of one transaction; `key` numbers the rows of one batch.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, consent, identity, same_child, sealing
from screening.copying import copy_in, copy_out
from screening.models import Round
from screening.policy import Policy

MESSAGES = {
    "unknown_student": "No student with this number is enrolled here. Check the number, or load the roster first.",
    "ambiguous_student": "More than one school has a student with this number. Add a column with the school code.",
    "name_differs": "The name is not that of the student with this number. Check both before sending it again.",
    "grade_not_in_round": "This student's grade is not part of the round.",
    "school_not_open": "The round is not open at this student's school.",
    "no_consent": "There is no consent in force for this student; the answers were not kept.",
    "duplicate_student": "Two rows of the file are about this student. Keep the right one.",
}
"""Why a row is not taken, in words for who sent it."""

NOBODY = frozenset({"unknown_student", "ambiguous_student", "name_differs"})
"""Verdicts after which it is not certain whom the row is about."""


@dataclass(frozen=True)
class Rules:
    """What decides whether a row may be taken."""

    round: Round
    policy: Policy
    informants: Sequence[str]
    other_rounds: Sequence[uuid.UUID]
    """Rounds in the policy's look-back, whose tiers a student may have brought along."""
    now: dt.datetime
    makes_places: bool
    """Whether students who may be taken are given the place in the round that they lack."""


def other_rounds(session: Session, this: Round, policy: Policy) -> list[uuid.UUID]:
    """The district's other rounds that opened no longer before this one than the policy looks back."""
    return list(
        session.execute(
            text("select id from rounds where district_id = :district and id <> :round and opens_at >= :since"),
            {
                "district": this.district_id,
                "round": this.id,
                "since": this.opens_at - dt.timedelta(days=policy.look_back_days),
            },
        ).scalars()
    )


def begin(session: Session) -> None:
    """Makes the transaction's temporary tables."""
    session.execute(
        text(
            "create temp table incoming (key integer, number_hash bytea, name_hash bytea, school_code text)"
            " on commit drop"
        )
    )
    session.execute(
        text(
            "create temp table matched (key integer, student_id uuid, school_id uuid, grade smallint,"
            " class_name text, age smallint, prior_tier smallint, verdict text) on commit drop"
        )
    )


MATCHED = {
    "key": pl.UInt32,
    "student_id": pl.String,
    "school_id": pl.String,
    "age": pl.Int16,
    "prior_tier": pl.Int8,
    "verdict": pl.String,
}


def match(session: Session, rows: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Whom each row is about and whether it may be taken.

    `rows`: key (UInt32), student_number, school_code, student_name (String or null). Returns for every row of the
    batch key, student_id, school_id (text, null where nobody was found), age (completed years at the round's start,
    counted so that an unknown day of birth makes nobody older), prior_tier and verdict: null for a row that may be
    taken, else a key of MESSAGES. Students who may be taken get their place in the round if they have none.
    """
    session.execute(text("truncate incoming, matched"))
    _copy_incoming(session, rows)
    names = rows.get_column("student_name").is_not_null().any()
    scope = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "round": rules.round.id,
        "at": rules.now,
    }
    session.execute(
        text(_FIND.format(name_test=_NAME_TEST if names else "", name_join=_NAME_JOIN if names else "")),
        scope | {"opens": rules.round.opens_at, "grades": rules.round.grades, "any_time": rules.round.is_historical},
    )
    # the verdict too: unanalyzed, next to no row is believed to be without one, and a loop over such few to be cheap
    session.execute(text("analyze matched (key, student_id, verdict)"))
    among = "select m.student_id from matched m where m.verdict is null"
    session.execute(
        text(
            "update matched set verdict = 'no_consent' where verdict is null and not exists (select from"  # noqa: S608 - our own SQL
            f" ({consent.in_force_sql(rules.policy, among=among)}) f"
            " where f.student_id = matched.student_id and f.is_in_force)"
        ),
        scope,
    )
    if rules.other_rounds:
        session.execute(text(_PRIOR_TIERS), scope | {"others": list(rules.other_rounds)})
    if rules.makes_places:
        session.execute(text(_PLACES), scope | {"informants": list(rules.informants)})
    found = _fetch(session)
    return (
        rows.select("key")
        .join(found, on="key", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("student_id").is_null() & pl.col("verdict").is_null())
            .then(pl.lit("unknown_student"))
            .otherwise("verdict")
            .alias("verdict"),
            pl.col("prior_tier").fill_null(0),
        )
    )


def _copy_incoming(session: Session, rows: pl.DataFrame) -> None:
    keys = sealing.keys(session)
    numbered = rows.filter(pl.col("student_number").is_not_null())
    hashes = identity.number_hashes(keys, numbered.get_column("student_number").to_list())
    name_hashes = [
        None if name is None else identity.name_hash(keys, name) for name in numbered.get_column("student_name")
    ]
    frame = numbered.select("key", "school_code").with_columns(
        pl.Series("number_hash", [f"\\x{value.hex()}" for value in hashes], dtype=pl.String),
        pl.Series(
            "name_hash", [None if value is None else f"\\x{value.hex()}" for value in name_hashes], dtype=pl.String
        ),
    )
    copy_in(session, "incoming", frame.select("key", "number_hash", "name_hash", "school_code"))


_NAME_TEST = (
    " when f.name_hash is not null and f.name_hash <> v.name_hash and not exists ("
    # a child of several rows is known by the name of each
    f"select from {same_child.OTHERS} o join identities n on n.district_id = :district and n.student_id = o.other_id"
    " and n.name_hash = f.name_hash where o.student_id = f.student_id) then 'name_differs'"
)
_NAME_JOIN = " join identities v on v.district_id = :district and v.student_id = f.student_id"
_FIND = (
    "insert into matched"  # noqa: S608 - our own SQL
    " select distinct on (f.key) f.key, f.student_id, f.school_id, f.grade, f.class_name,"
    "  extract(year from age(cast(:opens as timestamptz), s.born_month + interval '1 month')), 0,"
    "  case when f.hits > 1 then 'ambiguous_student'{name_test}"
    "   when f.places > 1 then 'duplicate_student'"
    "   when not :any_time and not f.grade = any(cast(:grades as smallint[])) then 'grade_not_in_round'"
    "   when not :any_time and o.state is distinct from 'open' then 'school_not_open' end"
    " from (select i.key, i.name_hash, e.student_id, e.school_id, e.grade, e.class_name,"
    "   count(*) over (partition by i.key) as hits, count(*) over (partition by e.student_id) as places"
    "  from incoming i left join schools c on c.district_id = :district and c.code = i.school_code"
    "  join enrollments e on e.district_id = :district and e.number_hash = i.number_hash and e.until_on is null"
    f"   and (i.school_code is null or e.school_id = c.id) and {access.within('e.school_id')}"
    # one child under one number at two schools is no two: the row under which it is counted
    f"  where not exists (select from {same_child.COUNTED} k join enrollments z on z.district_id = :district"
    "   and z.student_id = k.student_id and z.number_hash = i.number_hash and z.until_on is null"
    "   where k.duplicate_id = e.student_id and i.school_code is null)) f"
    " join students s on s.district_id = :district and s.id = f.student_id"
    f" and {access.within('s.school_id')}{{name_join}}"
    " left join openings o on o.district_id = :district and o.round_id = :round and o.school_id = f.school_id"
    " order by f.key"
)
_STANDING_OF = (
    "(select distinct on (round_id, student_id) student_id, tier from results"  # noqa: S608 - our own SQL
    " where district_id = :district and round_id = any(:others) and student_id in ({0})"
    f" and {access.within('school_id')}"
    " order by round_id, student_id, revision desc)"
)
_TIED = f"{same_child.OTHERS} o join matched t on t.student_id = o.student_id"
_OWN, _OF_OTHERS = (
    _STANDING_OF.format(f"select {who}") for who in ("student_id from matched", f"o.other_id from {_TIED}")
)
_PRIOR_TIERS = (
    "update matched m set prior_tier = p.tier from (select r.student_id, max(r.tier) as tier from"  # noqa: S608 - our own SQL
    f" (select * from {_OWN} own union all"
    f" select o.student_id, w.tier from {_TIED} join {_OF_OTHERS} w on w.student_id = o.other_id) r"
    " group by r.student_id) p where p.student_id = m.student_id"
)
_PLACES = (
    "insert into assignments (district_id, round_id, student_id, informant, school_id, grade, class_name)"
    " select :district, :round, m.student_id, i.informant, m.school_id, m.grade, m.class_name"
    " from matched m cross join unnest(cast(:informants as text[])) as i (informant)"
    " where m.verdict is null and not exists (select from assignments a where a.district_id = :district"
    "  and a.round_id = :round and a.student_id = m.student_id and a.informant = i.informant)"
    " on conflict do nothing"
)


def _fetch(session: Session) -> pl.DataFrame:
    return copy_out(
        session, "select key, student_id, school_id, age, prior_tier, verdict from matched order by key", (), MATCHED
    )
