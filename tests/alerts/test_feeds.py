"""The feed of one's promised contacts: times and links, by an address that is hashed, replaced and ended."""

import icalendar
import pytest
from sqlalchemy import text

from alerts import follow_ups
from screening import db, staff
from tests.alerts.episodes import HOUR, ORANGE, in_case
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import Caller, app_on, caller

DAY = 24 * HOUR


@pytest.fixture
def client(cast: Cast) -> TestClient:
    return TestClient(app_on(cast.database))


def path_of(address: str) -> str:
    return address.removeprefix("http://127.0.0.1:8000")


def test_it_holds_ones_own_times_and_links_and_no_word_about_anybody(cast: Cast, client: TestClient) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an, at=now)
        mine = follow_ups.plan(session, case.id, "phone", due_at=now + DAY, by=cast.an, now=now)
        other = in_case(session, cast.students.own_grant_15, ORANGE, cast.bo, at=now)
        follow_ups.plan(session, other.id, "phone", due_at=now + DAY, by=cast.bo, now=now)
        kept = follow_ups.plan(session, case.id, "phone", due_at=now + 2 * DAY, by=cast.an, now=now)
        follow_ups.done(session, kept.id, "We talked.", by=cast.an, now=now)
    made = caller(client, cast.database, cast.an).post("/v1/feeds")
    assert made.status_code == 201
    came = Caller(client).get(path_of(made.json()["address"]))
    assert (came.status_code, came.headers["content-type"]) == (200, "text/calendar; charset=utf-8")
    [event] = icalendar.Calendar.from_ical(came.content).walk("VEVENT")
    assert str(event["UID"]).startswith(str(mine.id))
    assert event["DTSTART"].dt == (now + DAY).replace(microsecond=0)
    assert str(event["SUMMARY"]) == "Promised contact"
    everything = came.text.replace("\r\n ", "").lower()
    for canary in ("王小明", "a001", "phone", "orange", "school", str(cast.students.granted_13.id), str(case.id)):
        assert canary not in everything


def test_a_new_address_ends_the_older_one_and_an_ended_one_leads_nowhere(cast: Cast, client: TestClient) -> None:
    an = caller(client, cast.database, cast.an)
    assert an.get("/v1/feeds").status_code == 404
    first, second = (path_of(an.post("/v1/feeds").json()["address"]) for _ in range(2))
    assert (Caller(client).get(first).status_code, Caller(client).get(second).status_code) == (404, 200)
    assert set(an.get("/v1/feeds").json()) == {"made_at"}
    assert an.ask("DELETE", "/v1/feeds").status_code == 204
    assert an.ask("DELETE", "/v1/feeds").status_code == 404
    assert Caller(client).get(second).content == Caller(client).get("/calendar/nonsense.ics").content
    with cast.database.unit() as session:
        kept = session.execute(text("select token_hash from feeds where account_id = :id"), {"id": cast.an.account_id})
        secret = second.removeprefix("/calendar/").removesuffix(".ics").encode()
        assert all(secret not in bytes(row.token_hash) for row in kept)


def test_who_cares_for_nobody_any_more_reads_nothing(cast: Cast, client: TestClient) -> None:
    address = path_of(caller(client, cast.database, cast.chen).post("/v1/feeds").json()["address"])
    assert Caller(client).get(address).status_code == 200
    assert cast.chen.staff_id is not None
    with cast.database.unit(cast.scope) as session:
        staff.revoke(session, cast.chen.staff_id, "counselor", cast.school_b.id, by=cast.system)
    assert Caller(client).get(address).status_code == 404
