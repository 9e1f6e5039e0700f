"""A worker that is told to end does so, whatever its jobs are at."""

import datetime as dt
import threading
import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from alerts import timetable
from alerts.timetable import Job
from api import worker
from screening.db import Database
from screening.settings import Settings
from tests.factories import make_district


def test_a_long_statement_is_cut_off_when_the_worker_ends(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    make_district(database)
    make_district(database)
    reached, told = threading.Event(), threading.Event()
    begun: list[uuid.UUID] = []

    def long(of: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
        begun.append(district_id)
        with of.unit() as session:
            reached.set()
            session.execute(text("select pg_sleep(600)"))
        return ()

    monkeypatch.setattr(timetable, "JOBS", (Job("long", dt.timedelta(hours=1), long),))
    monkeypatch.setattr(worker, "ENDING_SECONDS", 0.2)
    name = {"application_name": "the worker that is told to end"}  # only its own is cut off
    url = make_url(database.url).update_query_dict(name).render_as_string(hide_password=False)
    working = Database(url, database.ring)
    thread = threading.Thread(target=worker.run, args=(working, Settings.read({}), told))
    thread.start()
    try:
        assert reached.wait(30)
    finally:
        told.set()
        thread.join(60)
        working.dispose()
    assert not thread.is_alive()
    assert len(begun) == 1  # and nothing more was begun
    with database.unit() as session:
        beats = session.execute(text("select count(*) from heartbeats where name = 'long'")).scalar_one()
    assert beats == 0
