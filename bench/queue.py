"""A page of the counselor's queue, beside the same select on a table that has nothing but the ideal index."""

import random
import uuid
from functools import partial
from typing import Any

import psycopg

from alerts import triage
from bench.figures import Figure, Report, timed
from bench.grounds import Ground
from screening.access import Scope

MOST_TIMES_THE_SELECT = 3.0
PAGE = 50
_WARM = 5

_IDEAL = """
    create table bench_queue as select * from alerts;
    create index on bench_queue (school_id, tier desc, answer_by, id) where closed_at is null;
    create index on bench_queue (tier desc, answer_by, id) where closed_at is null;
    alter table bench_queue add primary key (id);
    vacuum (analyze) bench_queue
"""
_OF_SCHOOL = "select * from bench_queue where school_id = %s and closed_at is null"
_OF_ALL = "select * from bench_queue where closed_at is null"
_ORDER = f" order by tier desc, answer_by, id limit {PAGE}"


def bench(report: Report, ground: Ground, *, pages: int = 100) -> None:
    rows, n_schools = ground.population.rows, ground.population.n_schools
    with ground.superuser() as connection, ground.database() as database:
        for statement in _IDEAL.split(";"):
            connection.execute(statement)
        row = connection.execute("select count(*) from bench_queue where closed_at is null").fetchone()
        report.begin(f"D. The first {PAGE} of the queue, {row[0] if row else 0:,} open alerts of {rows:,} students")
        schools = random.Random(2).choices(ground.schools, k=pages + _WARM)  # noqa: S311 - no secret

        ideal, product, is_same = [], [], True
        for number, school in enumerate(schools):
            with database.unit(Scope(ground.district_id, frozenset({school}))) as session:
                own, page = timed(lambda: triage.queue(session, limit=PAGE), 1)
            other, expected = timed(partial(_ids, connection, _OF_SCHOOL + _ORDER, [school]), 1)
            is_same = is_same and [line.id for line in page] == expected
            if number >= _WARM:
                product += own
                ideal += other
        report.check(f"queue {rows} rows: pages of single schools", is_same, True)
        _add(report, "a school's counselor", product, ideal)

        with database.unit(ground.scope) as session:
            product, page = timed(lambda: triage.queue(session, limit=PAGE), 10, warm=3)
        ideal, expected = timed(lambda: _ids(connection, _OF_ALL + _ORDER, []), 10, warm=3)
        report.check(f"queue {rows} rows: page of the district", [line.id for line in page], expected)
        _add(report, f"the duty officer of {n_schools:,} schools", product, ideal)
        connection.execute("drop table bench_queue")


def _add(report: Report, what: str, product: list[float], ideal: list[float]) -> None:
    figure = Figure("queue", what, product, "the bare select", ideal, goal=f"<= {MOST_TIMES_THE_SELECT:g} x")
    report.add(Figure(**{**figure.__dict__, "is_met": 1 / (figure.ratio or 1) <= MOST_TIMES_THE_SELECT}))


def _ids(connection: "psycopg.Connection[Any]", query: str, parameters: list[uuid.UUID]) -> list[uuid.UUID]:
    names = connection.execute(query, parameters, prepare=True)
    return [row[1] for row in names.fetchall()]
