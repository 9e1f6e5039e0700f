"""Forms come in while everything that can be killed is killed: nothing acknowledged is lost, nothing is there twice."""

import random
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from screening import access, db, identity, sealing, staff
from screening.db import Database
from screening.settings import Settings
from tests import storming
from tests.factories import make_round, make_staff
from tests.storming import Kill, Service, Stream

KINDS = ("worker", "web", "backend", "postmaster")
KILLS = 200
FEW = ("backend",)
"""What is killed in the ordinary run, after the postmaster: a process of ours takes seconds to come back, and that a
worker does is seen where the service is started and ended."""
RATE = 100.0
FEW_RATE = 10.0
RED_IN = 10
"""One in so many forms tells of self-harm nearly every day."""
MOST_AFTER_DATABASE = 5.0


def settled(service: Service, folder: Path, count: int, rate: float) -> Stream:
    """A district with a school of so many students who consented, its round open, and who hands in for them."""
    settings = Settings.read({"SCREENING_HOME": str(folder)}, serving=True)
    with storming.prepared(folder) as server:
        service.superuser_url = server.url(role="superuser")
        database = Database(server.app_url, sealing.Ring([settings.master_key()]))
        district = staff.create_district(database, "storm", "District of the storm")
        scope = access.Scope(district.id)
        with database.unit(scope) as session:
            school = staff.create_school(session, "S", "School", by=access.system(district.id))
            session.execute(
                STUDENTS,
                {
                    "district": district.id,
                    "school": school.id,
                    "ids": [uuid.uuid4() for _ in range(count)],
                    "hashes": identity.number_hashes(sealing.keys(session), [f"{n:06}" for n in range(count)]),
                },
            )
        with database.unit(scope) as session:
            _, counselor = make_staff(session, ("counselor", school.id))
            make_staff(session, ("lead", school.id))
            make_staff(session, ("duty_officer", None))
            make_round(session, instruments=[("phq9", ["self"])], opens_at=db.now(session))
            assert counselor.account_id is not None
            token = staff.issue_token(session, counselor.account_id, 600, by=counselor, now=db.now(session))
            places = list(session.scalars(text("select id from assignments order by id")))
        database.dispose()
    assert len(places) == count
    return Stream(service.port, token, places, frozenset(places[::RED_IN]), rate)


STUDENTS = text(
    "with n as (select * from unnest(cast(:ids as uuid[]), cast(:hashes as bytea[])) as n (id, hash)),"
    " made as (insert into students (district_id, id, school_id, sex, born_month)"
    "  select :district, id, :school, 'f', '2011-03-01' from n),"
    " placed as (insert into enrollments (district_id, id, student_id, school_id, grade, class_name, number_hash,"
    "  since_on) select :district, gen_random_uuid(), id, :school, 8, '1', hash, '2026-09-01' from n)"
    " insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version, channel,"
    "  decided_at) select :district, gen_random_uuid(), id, :school, 'granted', 'guardian', '1', 'paper',"
    "  now() - interval '1 day' from n"
)


@pytest.mark.storm
def test_whatever_is_killed_while_forms_come_in_nothing_acknowledged_is_lost_or_doubled(is_storm: bool) -> None:
    turns, chance = KINDS * (KILLS // len(KINDS)) if is_storm else FEW, random.Random(1)  # noqa: S311 - who, when
    with storming.home() as folder:
        service = Service(folder, storming.free_port(), "")
        stream = settled(service, folder, *((150_000, RATE) if is_storm else (2_000, FEW_RATE)))
        service.start()
        try:
            storming.waited(service.does_web_answer, time.monotonic())
            sending = stream.begin()
            alone = storming.kill(service, "postmaster", chance)  # the web itself has to bring it back
            service.has_worker_apart = is_storm
            kills = killed(service, turns, chance, pause=2.5 if is_storm else 0.5)
            stream.ending.set()
            sending.join(2 * storming.PATIENCE)
            found = looked_up(service, stream)
        finally:
            service.stop()
    assert alone is not None
    tell(stream, [alone, *kills], found)
    assert len(kills) == len(turns)
    assert len(stream.acknowledged) == stream.sent > 0
    assert found == {
        "acknowledged": stream.sent,
        "lost": 0,
        "twice": 0,
        "unweighed": 0,
        "reds": len(stream.acknowledged & stream.reds),
        "reds without their one open alert": 0,
        "alerts without a red": 0,
        "reds of which nobody is told": 0,
    }
    if is_storm:  # a few kills beside other tests would time the machine
        assert max(each.web_after_database for each in kills if each.kind != "web") <= MOST_AFTER_DATABASE


def killed(service: Service, turns: Sequence[str], chance: random.Random, *, pause: float) -> list[Kill]:
    kills: list[Kill] = []
    waiting = chance.sample(turns, len(turns))
    while waiting:
        time.sleep(chance.uniform(0.1, pause))
        found = storming.kill(service, waiting[-1], chance)
        if found is not None:
            kills.append(found)
            waiting.pop()
    return kills


_FOUND = """
with acknowledged as (
    select a.district_id, a.id, a.student_id, a.round_id, a.id = any(%(reds)s) as is_red
    from assignments a where a.id = any(%(places)s)
)
select count(*) as acknowledged,
    count(*) filter (where forms = 0 or results = 0) as lost,
    count(*) filter (where forms > 1 or results > 1) as twice,
    count(*) filter (where weighings <> 1) as unweighed,
    count(*) filter (where is_red) as reds,
    count(*) filter (where is_red and (alerts <> 1 or open_reds <> 1)) as "reds without their one open alert",
    count(*) filter (where not is_red and alerts > 0) as "alerts without a red",
    count(*) filter (where is_red and told < 2) as "reds of which nobody is told"
from (
    select k.*,
        (select count(*) from administrations x where x.district_id = k.district_id and x.student_id = k.student_id)
            as forms,
        (select count(*) from results x where x.district_id = k.district_id and x.student_id = k.student_id)
            as results,
        (select count(*) from weighings x where x.district_id = k.district_id and x.student_id = k.student_id)
            as weighings,
        (select count(*) from alerts x where x.district_id = k.district_id and x.student_id = k.student_id) as alerts,
        (select count(*) from alerts x where x.district_id = k.district_id and x.student_id = k.student_id
            and x.tier = 3 and x.closed_at is null) as open_reds,
        (select count(*) from alerts x join deliveries d on d.district_id = x.district_id and d.subject_id = x.id
            where x.district_id = k.district_id and x.student_id = k.student_id) as told
    from acknowledged k
) k
"""


def looked_up(service: Service, stream: Stream) -> dict[str, Any]:
    with psycopg.connect(service.superuser_url) as connection:
        connection.execute("analyze")
        parameters = {"places": list(stream.acknowledged), "reds": list(stream.reds)}
        cursor = connection.execute(_FOUND, parameters)
        row = cursor.fetchone()
        assert row is not None and cursor.description is not None
        return dict(zip([column.name for column in cursor.description], row, strict=True))


def tell(stream: Stream, kills: list[Kill], found: dict[str, Any]) -> None:
    late = sorted(stream.latencies)
    words = [
        f"{len(kills)} kills {dict(Counter(each.kind for each in kills))} while {stream.sent / stream.seconds:.0f}"
        f" forms/s came in for {stream.seconds:.0f} s: {len(stream.acknowledged)} of {stream.sent} acknowledged,"
        f" {stream.retries} sent again, statuses {dict(stream.statuses)},"
        f" p50 {late[len(late) // 2]:.2f} s, p99 {late[int(0.99 * len(late))]:.2f} s, longest {late[-1]:.2f} s",
        str(found),
    ]
    for kind in KINDS:
        own = [each for each in kills if each.kind == kind]
        if not own:
            continue
        for what in ("database_after", "web_after", "web_after_database"):
            seconds = [getattr(each, what) for each in own]
            words.append(f"{kind}: {what} median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s")
    print("\n".join(words))  # noqa: T201 - the figures are the point
