"""Rows by name leave under a mark and for a purpose, many only by the word of two; who reads many is told of."""

import csv
import datetime as dt
import io
import uuid
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from alerts import breadth
from screening import audit, db, exports
from screening.db import Database
from tests.cast import Cast
from tests.doors import Caller, app_on, caller, somebody
from tests.factories import make_student
from tests.signing import browser

FORBIDDEN = ("admission", "ranking", "discipline", "marks", "award", "file")


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


def office(cast: Cast, app: FastAPI) -> Caller:
    return caller(browser(app).client, cast.database, cast.school_admin_a)


def crowd(cast: Cast, count: int) -> None:
    with cast.database.unit(cast.scope) as session:
        for _ in range(count):
            make_student(session, cast.school_a.id)


def sheet(one: Caller, **more: Any) -> Any:
    return one.post("/v1/codes/guardians", json={}, **more)


def lines(cast: Cast, action: str) -> int:
    with cast.database.unit(cast.scope) as session:
        found = session.execute(text("select count(*) from audit_entries where action = :action"), {"action": action})
        return int(found.scalar_one())


def test_each_row_has_its_purpose_and_a_mark_that_the_account_knows(cast: Cast, app: FastAPI) -> None:
    came = sheet(office(cast, app), headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(came.text.lstrip("\ufeff"))))
    [mark] = {row["mark"] for row in rows}
    assert {row["purpose"] for row in rows} == {"consent"}
    assert mark in came.headers["content-disposition"]
    auditor = caller(browser(app).client, cast.database, cast.auditor)
    [told] = auditor.get("/v1/exports").json()["exports"]
    assert (told["id"], told["state"], told["row_count"]) == (mark, "done", len(rows))
    with cast.database.unit(cast.scope) as session:
        detail = session.execute(text("select detail from audit_entries where subject_id = :mark"), {"mark": mark})
        assert detail.scalar_one() == {"what": "guardian_codes", "purpose": "consent", "count": len(rows)}


def test_no_purpose_is_admission_marks_ranking_or_discipline_and_the_database_knows_no_other(cast: Cast) -> None:
    assert set(exports.PURPOSES.values()) == {"screening", "consent"}
    for purpose in FORBIDDEN:
        with pytest.raises(IntegrityError), cast.database.unit(cast.scope) as session:
            made = exports.ask(session, "student_codes", cast.school_a.id, 1, by=cast.an, now=db.now(session))
            made.purpose = purpose


def test_many_rows_need_a_second_person_each_time(cast: Cast, app: FastAPI) -> None:
    crowd(cast, exports.MANY)
    one = office(cast, app)
    for _ in range(2):
        refused = sheet(one)
        assert (refused.status_code, refused.json()["code"]) == (403, "second_person")
    principal = caller(browser(app).client, cast.database, cast.principal)
    [asked] = principal.get("/v1/exports").json()["exports"]
    assert (asked["state"], asked["row_count"]) == ("waiting", exports.MANY + 9)
    with cast.database.unit(cast.scope) as session:  # nothing was made of what was refused
        assert session.execute(text("select count(*) from codes where district_id = :id"),
                               {"id": cast.district.id}).scalar() == 0  # fmt: skip
    address = f"/v1/exports/{asked['id']}/decision"
    assert principal.post(address, json={"is_granted": True}).json()["state"] == "granted"
    assert principal.post(address, json={"is_granted": True}).status_code == 409
    came = sheet(one)
    assert (came.status_code, came.json()["mark"], len(came.json()["slips"])) == (201, asked["id"], exports.MANY + 9)
    assert sheet(one).status_code == 403  # the word was for one
    assert (lines(cast, "export.asked"), lines(cast, "export.made")) == (2, 1)
    with cast.database.unit(cast.scope) as session:
        told = session.execute(text("select occasion from deliveries where subject = 'export'")).scalars()
        assert {"asked"} <= set(told)


def test_nobody_grants_their_own_and_a_word_lasts_a_day(cast: Cast, app: FastAPI) -> None:
    crowd(cast, exports.MANY)
    lead = caller(browser(app).client, cast.database, cast.lead)
    assert sheet(lead).status_code == 403
    [asked] = lead.get("/v1/exports").json()["exports"]
    refused = lead.post(f"/v1/exports/{asked['id']}/decision", json={"is_granted": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "second_person")
    with cast.database.unit(cast.scope_a) as session:
        now = db.now(session)
        exports.decide(
            session, uuid.UUID(asked["id"]), is_granted=True, by=cast.principal, now=now - dt.timedelta(hours=25)
        )
    assert sheet(lead).status_code == 403


def test_who_is_shown_many_is_told_of_once_an_hour_whichever_doors_it_were(cast: Cast) -> None:
    officer = somebody(cast, "privacy_officer")
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        for place in range(breadth.OPENED):
            action = ("alert.read", "case.read", "result.read")[place % 3]
            audit.record(session, cast.an, action, "student", str(place))
        assert breadth.watch(session, now=now) == 0
        audit.record(session, cast.an, "case.read", "case", "one more")
        for place in range(breadth.NAMED + 1):
            audit.record(session, cast.school_admin_a, "student.named", "student", str(place))
        assert breadth.watch(session, now=now) == 2
        assert breadth.watch(session, now=now) == 0
        told = session.execute(
            text("select subject_id from deliveries where subject = 'reading' and recipient_id = :officer"),
            {"officer": officer.person},
        ).scalars()
        assert set(told) == {cast.an.account_id, cast.school_admin_a.account_id}
