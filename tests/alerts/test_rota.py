"""The rota: who is on duty hears first, the desk while schools are shut, and home needs somebody at every hour."""

import datetime as dt
import uuid
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import escalation, routing
from screening import db, duties, rounds
from screening.access import Actor
from screening.errors import Conflict, NotFound, Refused
from screening.models import CalendarDay, Duty
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, ring
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.doors import app_on, caller, round_body
from tests.factories import make_round, make_staff

MINUTE = dt.timedelta(minutes=1)
DAY = 24 * HOUR
NIGHT = dt.datetime(2026, 9, 7, 18, 10, tzinfo=dt.UTC)
"""Ten past two in Shanghai."""


def on(
    session: Session,
    cast: Cast,
    who: Actor,
    place: str = "first",
    *,
    school: uuid.UUID | None = None,
    since: dt.datetime = MONDAY,
    hours: float = 24,
) -> Duty:
    (made,) = duties.plan(
        session, who.person, place, since, since + hours * HOUR, school_id=school, by=cast.district_admin, now=MONDAY
    )
    return made


def told(session: Session, alert_id: uuid.UUID) -> set[uuid.UUID]:
    return set(session.scalars(text("select recipient_id from deliveries where subject_id = :id"), {"id": alert_id}))


# -- who hears ----------------------------------------------------------------------------------------


def test_who_is_on_duty_hears_first_and_the_deputy_next(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        on(session, cast, cast.principal, school=cast.school_a.id)
        on(session, cast, cast.lead, "deputy", school=cast.school_a.id)
        alert = ring(session, cast.students.granted_13, ORANGE)
        assert told(session, alert.id) == {cast.principal.person}
        red = ring(session, cast.students.own_grant_15, RED)
        assert told(session, red.id) == {cast.principal.person, cast.lead.person}
        rota = routing.rota(session, now=MONDAY)
        assert rota.hearers("deputy", cast.school_a.id, alert.id) == (cast.lead.person,)
        assert escalation.escalate(session, now=MONDAY + 15 * MINUTE) == 1
        assert told(session, red.id) == {cast.principal.person, cast.lead.person}


def test_outside_the_shift_the_counselors_hear_as_ever(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        on(session, cast, cast.principal, school=cast.school_a.id, since=MONDAY + HOUR)
        gone = on(session, cast, cast.duty_officer, school=cast.school_b.id)
        duties.cancel(session, gone.id, by=cast.district_admin, now=MONDAY)
        alert = ring(session, cast.students.granted_13, ORANGE)
        assert told(session, alert.id) <= {cast.an.person, cast.bo.person}
        other = ring(session, cast.students.in_school_b, ORANGE)
        assert told(session, other.id) == {cast.chen.person}


def test_at_night_the_desk_hears_of_a_red_beside_the_school(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        other = make_staff(session, ("duty_officer", None))[1]
        on(session, cast, other, hours=7 * 24)
        by_day = ring(session, cast.students.own_grant_15, RED)
        assert other.person not in told(session, by_day.id)
        by_night = ring(session, cast.students.granted_13, RED, at=NIGHT)
        assert other.person in told(session, by_night.id)
        assert told(session, by_night.id) & {cast.an.person, cast.bo.person}


def test_in_the_holidays_the_desk_hears_of_red_and_self_harm_and_of_nothing_else(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        session.add(
            CalendarDay(district_id=cast.district.id, calendar="district", day=MONDAY.date(), is_school_day=False)
        )
        session.flush()
        on(session, cast, cast.duty_officer)
        harm = ring(session, cast.students.granted_13, ORANGE, is_self_harm=True, rule="phq9_self_harm")
        plain = ring(session, cast.students.own_grant_15, ORANGE)
        assert cast.duty_officer.person in told(session, harm.id)
        assert cast.duty_officer.person not in told(session, plain.id)


def test_where_somebody_is_on_duty_at_the_school_the_desk_sleeps(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        on(session, cast, cast.duty_officer, since=NIGHT - HOUR)
        on(session, cast, cast.an, school=cast.school_a.id, since=NIGHT - HOUR)
        alert = ring(session, cast.students.granted_13, RED, at=NIGHT)
        assert told(session, alert.id) == {cast.an.person, cast.lead.person}


def test_a_desk_is_who_is_on_duty_there_not_everybody_who_could_be(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        other = make_staff(session, ("duty_officer", None))[1]
        on(session, cast, other)
        rota = routing.rota(session, now=MONDAY)
        assert rota.hearers("duty_officer", cast.school_a.id, uuid.uuid4()) == (other.person,)
        assert rota.has_anybody(cast.school_c.id)


def test_who_hears_at_a_school_is_the_same_whether_others_are_looked_up_or_not(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        on(session, cast, cast.chen, school=cast.school_b.id)
        on(session, cast, cast.duty_officer)
        whole, alert = routing.rota(session, now=MONDAY), uuid.uuid4()
        for school in (cast.school_a.id, cast.school_b.id, cast.school_c.id, None):
            own = routing.rota(session, now=MONDAY, schools={school})
            for rung in routing.LADDER:
                assert own.hearers(rung, school, alert) == whole.hearers(rung, school, alert)
        assert {place for _, place in routing.rota(session, now=MONDAY, schools={None}).holders} <= {None}


def test_whose_account_was_ended_is_not_on_duty(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        on(session, cast, cast.chen, school=cast.school_b.id)
        session.execute(text("update accounts set disabled_at = now() where id = :id"), {"id": cast.chen.account_id})
        assert routing.rota(session, now=MONDAY).on_duty == {}
        assert cast.school_b.id in duties.uncovered(session, [cast.school_b.id], MONDAY, MONDAY + HOUR)


# -- planning -----------------------------------------------------------------------------------------


def test_a_shift_that_cannot_be_is_refused(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        good = {"school_id": cast.school_a.id, "by": cast.system, "now": MONDAY}
        later = MONDAY + HOUR
        for place, starts, ends in (
            ("third", MONDAY, later),
            ("first", later, MONDAY),
            ("first", MONDAY, MONDAY),
            ("first", MONDAY - 2 * HOUR, MONDAY - HOUR),
            ("first", MONDAY, MONDAY + 93 * DAY),
        ):
            with pytest.raises(Refused):
                duties.plan(session, cast.an.person, place, starts, ends, **good)  # type: ignore[arg-type]
        with pytest.raises(Refused, match="one of these roles"):
            duties.plan(session, cast.school_admin_a.person, "first", MONDAY, later, **good)  # type: ignore[arg-type]
        with pytest.raises(Refused, match="one of these roles"):
            duties.plan(session, cast.chen.person, "first", MONDAY, later, **good)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            duties.plan(session, uuid.uuid4(), "first", MONDAY, later, **good)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            duties.plan(
                session,
                cast.an.person,
                "first",
                MONDAY,
                later,
                school_id=uuid.uuid4(),
                by=cast.district_admin,
                now=MONDAY,
            )
        past = on(session, cast, cast.an, school=cast.school_a.id, hours=1)
        with pytest.raises(Conflict):
            duties.cancel(session, past.id, by=cast.district_admin, now=MONDAY + 2 * HOUR)


def test_a_week_later_is_the_same_hour_by_the_clock_on_the_wall() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = dt.datetime(2026, 3, 25, 20, 0, tzinfo=berlin)
    assert duties.later(before, 1, berlin).astimezone(berlin).isoformat() == "2026-04-01T20:00:00+02:00"
    autumn = dt.datetime(2026, 10, 21, 20, 0, tzinfo=berlin)
    assert duties.later(autumn, 1, berlin).astimezone(berlin).isoformat() == "2026-10-28T20:00:00+01:00"
    leap = dt.datetime(2028, 2, 22, 20, 0, tzinfo=berlin)
    assert duties.later(leap, 1, berlin).astimezone(berlin).isoformat() == "2028-02-29T20:00:00+01:00"


moments = st.integers(0, 100).map(lambda minute: MONDAY + minute * MINUTE)


@given(st.lists(st.tuples(moments, moments)), moments, moments)
def test_a_gap_is_every_minute_that_no_span_holds(
    spans: list[tuple[dt.datetime, dt.datetime]], starts: dt.datetime, ends: dt.datetime
) -> None:
    real = [(a, b) for a, b in spans if a < b]
    found = duties.gaps(real, starts, ends)
    for minute in range(-1, 102):
        at = MONDAY + minute * MINUTE
        is_gap = starts <= at < ends and not any(a <= at < b for a, b in real)
        assert any(a <= at < b for a, b in found) == is_gap


# -- forms at home ------------------------------------------------------------------------------------


def test_a_round_at_home_opens_only_where_every_hour_is_somebodys(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        made = make_round(session, is_at_home=True, is_open=False, school_ids=[cast.school_a.id])
        with pytest.raises(Refused, match="school A from") as refused:
            rounds.open(session, made.id, by=cast.district_admin)
        assert refused.value.code == "rota_missing"
        assert rounds.open_due(session, now) == 0
        assert len(rounds.unguarded(session, now, ahead=HOUR)) == 1
        spans = {"first": (now - HOUR, now + 7 * DAY), "rest": (now + 8 * DAY, now + 15 * DAY)}
        for starts, ends in spans.values():
            duties.plan(
                session,
                cast.an.person,
                "first",
                starts,
                ends,
                school_id=cast.school_a.id,
                by=cast.district_admin,
                now=now,
            )
        with pytest.raises(Refused, match="school A from"):  # a day between them
            rounds.open(session, made.id, by=cast.district_admin)
        duties.plan(
            session,
            cast.lead.person,
            "deputy",
            now,
            now + 15 * DAY,
            school_id=cast.school_a.id,
            by=cast.district_admin,
            now=now,
        )
        with pytest.raises(Refused):  # a deputy covers nothing by herself
            rounds.open(session, made.id, by=cast.district_admin)
        duties.plan(
            session,
            cast.duty_officer.person,
            "first",
            now + 6 * DAY,
            now + 9 * DAY,
            school_id=None,
            by=cast.district_admin,
            now=now,
        )
        assert rounds.open(session, made.id, by=cast.district_admin).state == "open"
        assert rounds.unguarded(session, now, ahead=HOUR) == []


def test_a_round_at_school_or_without_such_questions_needs_no_rota(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        assert make_round(session).state == "open"
        assert make_round(session, instruments=[("gad7", ("self",))], is_at_home=True).state == "open"


# -- doors --------------------------------------------------------------------------------------------


def test_shifts_are_planned_listed_and_cancelled_by_those_who_run_the_school(cast: Cast, tmp_path: Path) -> None:
    client = TestClient(app_on(cast.database))
    secretary, chen, admin = (
        caller(client, cast.database, who) for who in (cast.school_admin_a, cast.chen, cast.district_admin)
    )
    now = dt.datetime.now(dt.UTC)
    hours = {"starts_at": now.isoformat(), "ends_at": (now + 8 * HOUR).isoformat()}
    made = secretary.post("/v1/duty", json={"staff_id": str(cast.an.person), "weeks": 3, **hours})
    assert (made.status_code, made.json()["school"], made.json()["name"]) == (201, "A", "An")
    assert secretary.get(made.headers["location"]).json() == made.json()
    assert len(secretary.get("/v1/duty").json()["shifts"]) == 3
    assert chen.get("/v1/duty").json()["shifts"] == []
    elsewhere = secretary.post("/v1/duty", json={"staff_id": str(cast.chen.person), "school": "B", **hours})
    assert elsewhere.status_code == 404
    desk = admin.post("/v1/duty", json={"staff_id": str(cast.duty_officer.person), **hours}).json()
    assert desk["school"] is None
    assert [shift["id"] for shift in chen.get("/v1/duty").json()["shifts"]] == [desk["id"]]
    assert secretary.ask("DELETE", f"/v1/duty/{desk['id']}").status_code == 404
    gone = secretary.ask("DELETE", made.headers["location"])
    assert (gone.status_code, gone.json()["is_cancelled"]) == (200, True)
    assert len(secretary.get("/v1/duty").json()["shifts"]) == 3  # two of the school, one of the desk


def test_a_round_at_home_is_refused_at_the_door_until_there_is_a_rota(cast: Cast) -> None:
    client = TestClient(app_on(cast.database))
    admin = caller(client, cast.database, cast.district_admin)
    made = admin.post("/v1/rounds", json=round_body(is_at_home=True, schools=["A"])).json()
    assert made["is_at_home"] is True
    refused = admin.post(f"/v1/rounds/{made['id']}/open")
    assert (refused.status_code, refused.json()["code"]) == (409, "rota_missing")
    now = dt.datetime.now(dt.UTC)
    hours = {"starts_at": now.isoformat(), "ends_at": (now + 15 * DAY).isoformat()}
    admin.post("/v1/duty", json={"staff_id": str(cast.duty_officer.person), **hours})
    assert admin.post(f"/v1/rounds/{made['id']}/open").json()["state"] == "open"


def test_another_district_sees_no_shift_of_this_one(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        shift = on(session, cast, cast.an, school=cast.school_a.id)
    other = assemble(cast.database)
    with other.database.unit(other.scope) as session:
        assert duties.listed(session, MONDAY, MONDAY + HOUR) == []
        with pytest.raises(NotFound):
            duties.get(session, shift.id)
