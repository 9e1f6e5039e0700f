"""Coverage of a loaded district: what the funnel costs to read and a school to recount, beside plain SQL.

The reference is a table of our own with one line per school, read whole; and the same figures counted afresh from
the product's tables by GROUP BY, which is what a district without summaries would pay each time.
"""

import random
from typing import Any

import psycopg

from bench.figures import Figure, Report, timed
from bench.grounds import Ground
from screening import coverage, db
from screening.access import Scope

MOST_TIMES_A_READ = 10.0
MOST_MS_OF_A_SCHOOL = 3.0

_GROUPED = """
    select s.school_id, count(*) as enrolled, count(r.student_id) as submitted,
        count(*) filter (where r.validity = 'valid') as valid, count(*) filter (where r.tier = 0) as none,
        count(*) filter (where r.tier = 1) as yellow, count(*) filter (where r.tier = 2) as orange,
        count(*) filter (where r.tier = 3) as red
    from (select distinct student_id, school_id from assignments where district_id = %(district)s
        and round_id = %(round)s{only}) s
    left join (select distinct on (student_id) student_id, tier, validity from results where district_id = %(district)s
        and round_id = %(round)s{theirs} order by student_id, revision desc) r on r.student_id = s.student_id
    group by s.school_id order by s.school_id
"""
_ALL = _GROUPED.format(only="", theirs="")
_ONE = _GROUPED.format(
    only=" and school_id = %(school)s",
    theirs=" and student_id in (select student_id from assignments where school_id = %(school)s"
    " and round_id = %(round)s)",
)
_COMPARED = ("enrolled", "submitted", "valid", "tier_none", "tier_yellow", "tier_orange", "tier_red")


def bench(report: Report, ground: Ground, runs: int, *, reads: int = 30) -> None:
    rows, n_schools = ground.population.rows, ground.population.n_schools
    report.begin(f"D. Coverage of {n_schools:,} schools, {rows:,} students")
    with ground.superuser() as connection, ground.database() as database:
        one = {"district": ground.district_id, "round": ground.round_id, "school": ground.schools[-1]}
        keys = {"district": ground.district_id, "round": ground.round_id}
        counting, grouped = timed(lambda: _rows(connection, _ALL, keys), runs)
        _summarize(connection, keys)
        reading, _ = timed(lambda: _rows(connection, "select * from bench_summary", {}), reads, warm=5)
        with database.unit(ground.scope) as session:
            funnel, found = timed(lambda: coverage.funnel(session, ground.round_id, by="school"), reads, warm=5)
        told = [(row.school_id, *(getattr(row.figures, name) for name in _COMPARED)) for row in found]
        report.check(f"coverage {rows} rows: by school", sorted(told), sorted(tuple(row) for row in grouped))
        read = Figure("coverage", "funnel of all schools", funnel, "summary read", reading, rows=n_schools,
                      unit="schools", goal=f"<= {MOST_TIMES_A_READ:g} x a read")  # fmt: skip
        report.add(Figure(**{**read.__dict__, "is_met": 1 / (read.ratio or 1) <= MOST_TIMES_A_READ}))
        report.add(Figure("coverage", "funnel of all schools, against counting", funnel, "GROUP BY", counting))
        reading, _ = timed(
            lambda: _rows(connection, "select * from bench_summary where school_id = %(school)s", one), reads, warm=5
        )
        with database.unit(Scope(ground.district_id, frozenset({one["school"]}))) as session:
            funnel, _ = timed(lambda: coverage.funnel(session, ground.round_id, by="grade"), reads, warm=5)
        figure = Figure("coverage", "funnel of one school, by grade", funnel, "summary read", reading,
                        goal=f"<= {MOST_MS_OF_A_SCHOOL:g} ms")  # fmt: skip
        report.add(Figure(**{**figure.__dict__, "is_met": figure.median * 1e3 <= MOST_MS_OF_A_SCHOOL}))
        counting_one, _ = timed(lambda: _rows(connection, _ONE, one), reads, warm=5)
        recounted = _recounted(ground, database, reads)
        report.add(
            Figure("coverage", "recount of one school, with its commit", recounted, "GROUP BY of it", counting_one)
        )
        with database.unit(ground.scope) as session:
            whole, _ = timed(lambda: coverage.recount(session, ground.round_id, None, db.now(session)), 1)
        report.add(Figure("coverage", "recount of the whole round", whole, "GROUP BY", counting, rows=rows))
        connection.execute("drop table bench_summary")


def _rows(connection: "psycopg.Connection[Any]", query: str, keys: dict[str, Any]) -> list[tuple[Any, ...]]:
    return connection.execute(query, keys, prepare=True).fetchall()


def _summarize(connection: "psycopg.Connection[Any]", keys: dict[str, Any]) -> None:
    cursor = psycopg.ClientCursor(connection)
    cursor.execute(f"create table bench_summary as {_ALL}", keys)
    cursor.execute("alter table bench_summary add primary key (school_id)")
    cursor.execute("vacuum (analyze) bench_summary")


def _recounted(ground: Ground, database: db.Database, reads: int) -> list[float]:
    """One school after another, each in a transaction of its own."""
    schools = random.Random(1).choices(ground.schools, k=reads)  # noqa: S311 - no secret
    waiting = iter([ground.schools[0]] * 3 + schools)

    def recount() -> None:
        with database.unit(ground.scope) as session:
            coverage.recount(session, ground.round_id, [next(waiting)], db.now(session))

    return timed(recount, len(schools), warm=3)[0]
