"""Rights: asked for by whoever they belong to, answered in writing by whoever may, and then acted on."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from alerts import timetable
from screening import db, erasure, identity
from screening.db import Database
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import Caller, app_on, caller, round_body, settings, somebody
from tests.factories import decide, make_staff
from tests.signing import Browser, browser
from tests.test_doors import made_things

WHY = {"kind": "copy", "words": "I want to know what you keep of my child."}


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@dataclass(frozen=True)
class Family:
    """A guardian at their own door, and who answers them."""

    cast: Cast
    guardian: Browser
    lead: Caller
    officer: Caller

    @property
    def student_id(self) -> uuid.UUID:
        return self.cast.students.granted_13.id

    @property
    def own(self) -> str:
        return f"/v1/rights-requests/students/{self.student_id}"

    def decided(self, request_id: str, **body: Any) -> Any:
        return self.officer.post(f"/v1/rights-requests/{request_id}/decision", json={"answer": "As you asked."} | body)


@pytest.fixture
def family(cast: Cast, app: FastAPI) -> Family:
    phone = "13800138000"
    with cast.database.unit(cast.scope) as session:
        student = cast.students.granted_13
        person = identity.people(session, [student.id])[student.id]
        known = identity.Person(person.name, person.number, person.born_on, phone)
        identity.replace_many(session, [(student.id, student.school_id, known)])
    client = browser(app).client
    office = caller(client, cast.database, cast.school_admin_a)
    slips = office.post("/v1/codes/guardians", json={}).json()["slips"]
    [slip] = [each for each in slips if each["student_id"] == str(student.id)]
    guardian = browser(app)
    came = guardian.enter(slip["link"].partition("#")[2], phone[-4:])
    assert came.status_code == 200, came.text
    officer = caller(client, cast.database, somebody(cast, "privacy_officer"))
    return Family(cast, guardian, caller(client, cast.database, cast.lead), officer)


def test_a_guardian_asks_is_answered_and_has_a_copy_for_a_while(family: Family) -> None:
    assert family.guardian.get(f"{family.own}/copy").status_code == 404
    asked = family.guardian.post(family.own, json=WHY)
    assert asked.status_code == 201, asked.text
    assert family.guardian.post(family.own, json=WHY).json()["id"] == asked.json()["id"]
    seen = family.lead.get("/v1/rights-requests?state=waiting").json()["requests"]
    assert [(each["words"], each["asked_as"], each["is_late"]) for each in seen] == [(WHY["words"], "guardian", False)]
    due = dt.datetime.fromisoformat(seen[0]["due_at"]) - dt.datetime.fromisoformat(seen[0]["asked_at"])
    assert due == dt.timedelta(days=15)
    request_id = asked.json()["id"]
    for wrong, code in (({}, "parts_missing"), ({"parts": ["answers"]}, "not_for_guardians")):
        refused = family.decided(request_id, is_granted=True, **wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    granted = family.decided(request_id, is_granted=True, parts=["identity", "consents", "results", "readings"])
    assert (granted.status_code, granted.json()["state"]) == (200, "granted"), granted.text
    assert family.decided(request_id, is_granted=False).status_code == 409
    told = family.guardian.get(family.own).json()["requests"][0]
    assert (told["state"], told["answer"]) == ("granted", "As you asked.")
    copy = family.guardian.get(f"{family.own}/copy").json()
    assert (copy["purpose"], copy["mark"]) == ("rights", request_id)
    assert set(copy["parts"]) == {"identity", "consents", "results", "readings"}
    assert copy["parts"]["identity"][0]["name"] == "王小明"
    with family.cast.database.unit(family.cast.scope) as session:
        actions = session.execute(
            text("select action from audit_entries where subject_id = :id"), {"id": str(family.student_id)}
        ).scalars()
        assert {"rights.asked", "rights.decided", "rights.copied"} <= set(actions)


def test_what_is_refused_says_why_in_writing_and_opens_nothing(family: Family) -> None:
    request_id = family.guardian.post(family.own, json=WHY).json()["id"]
    assert family.decided(request_id, is_granted=False, answer="It would harm her brother.").status_code == 200
    told = family.guardian.get(family.own).json()["requests"][0]
    assert (told["state"], told["answer"]) == ("refused", "It would harm her brother.")
    assert family.guardian.get(f"{family.own}/copy").status_code == 404


def test_deleting_is_the_privacy_officers_word_and_queues_an_erasure(family: Family) -> None:
    request_id = family.guardian.post(family.own, json={"kind": "delete", "words": "All of it."}).json()["id"]
    address = f"/v1/rights-requests/{request_id}/decision"
    body = {"is_granted": True, "answer": "Yes.", "extent": "person"}
    assert family.lead.post(address, json=body).status_code == 404
    assert family.decided(request_id, is_granted=True).json()["code"] == "extent_missing"
    assert family.officer.post(address, json=body).json()["extent"] == "person"
    with family.cast.database.unit(family.cast.scope) as session:
        [receipt] = erasure.of_student(session, family.student_id)
        assert (receipt.extent, receipt.reason, receipt.state) == ("person", "request", "waiting")
        now = db.now(session)
    erasure.erase_due(
        family.cast.database, family.cast.district.id, now + dt.timedelta(days=4), settings().ledgers / erasure.FOLDER
    )
    told = family.officer.get(f"/v1/rights-requests/{request_id}").json()
    assert (told["state"], told["words"], told["answer"]) == ("granted", None, None)


def test_nobody_asks_for_another_child_and_no_school_sees_anothers(family: Family, app: FastAPI) -> None:
    other = family.cast.students.in_school_b.id
    assert family.guardian.get(f"/v1/rights-requests/students/{other}").status_code == 404
    assert family.guardian.post(f"/v1/rights-requests/students/{other}", json=WHY).status_code == 404
    request_id = family.guardian.post(family.own, json=WHY).json()["id"]
    with family.cast.database.unit(family.cast.scope) as session:
        lead_b = make_staff(session, ("lead", family.cast.school_b.id))[1]
    elsewhere = caller(browser(app).client, family.cast.database, lead_b)
    assert elsewhere.get(f"/v1/rights-requests/{request_id}").status_code == 404
    assert elsewhere.get("/v1/rights-requests").json()["requests"] == []


def test_what_was_asked_on_paper_is_written_down_and_an_unanswered_one_is_shouted(family: Family, app: FastAPI) -> None:
    office = caller(browser(app).client, family.cast.database, family.cast.school_admin_a)
    body = {"student_id": str(family.student_id), "asked_as": "student", "kind": "review", "words": "Look again."}
    made = office.post("/v1/rights-requests", json=body)
    assert made.status_code == 201, made.text
    assert "words" not in made.json()
    decision, body_of_it = made.headers["location"] + "/decision", {"is_granted": False, "answer": "It stays."}
    assert family.officer.post(decision, json=body_of_it).status_code == 404
    assert family.lead.post(decision, json=body_of_it).status_code == 200
    office.post("/v1/rights-requests", json=body)
    job = next(each for each in timetable.JOBS if each.name == "rights")
    with family.cast.database.unit() as session:
        now: dt.datetime = session.execute(text("select now()")).scalar_one()
    where = (family.cast.database, family.cast.district.id)
    assert list(job.run(*where, now + dt.timedelta(days=14), settings())) == []
    assert list(job.run(*where, now + dt.timedelta(days=16), settings())) == ["rights_unanswered 1"]


def test_a_student_has_their_own_answers_while_their_code_is_good(cast: Cast, app: FastAPI) -> None:
    client = browser(app).client
    admin = caller(client, cast.database, cast.district_admin)
    round_id = admin.post("/v1/rounds", json=round_body()).json()["id"]
    admin.post(f"/v1/rounds/{round_id}/open")
    student = cast.students.own_grant_15
    slips = caller(client, cast.database, cast.school_admin_a).post("/v1/codes", json={"round_id": round_id}).json()
    [slip] = [each for each in slips["slips"] if each["student_id"] == str(student.id)]
    own = browser(app)
    assert own.enter(slip["link"].partition("#")[2]).status_code == 200
    address = f"/v1/rights-requests/students/{student.id}"
    asked = own.post(address, json={"kind": "see", "words": "My own answers, please."})
    lead = caller(client, cast.database, cast.lead)
    parts = ["identity", "consents", "rounds", "answers", "results", "readings"]
    decision = {"is_granted": True, "answer": "Here they are.", "parts": parts}
    assert lead.post(f"/v1/rights-requests/{asked.json()['id']}/decision", json=decision).status_code == 200
    assert list(own.get(f"{address}/copy").json()["parts"]) == parts


def test_from_a_withdrawal_on_answers_are_shown_to_nobody_unless_a_red_is_open(cast: Cast, app: FastAPI) -> None:
    with TestClient(app) as client:
        things = made_things(cast, client)
        lead = caller(client, cast.database, cast.lead)
        red, orange = cast.students.granted_13.id, cast.students.guardian_grant_16.id
        doors = [
            "/v1/results/{}/" + str(things.round),
            "/v1/results/{}/" + str(things.round) + "/explanation",
            "/v1/students/{}/history",
        ]
        assert {lead.get(door.format(each)).status_code for door in doors for each in (red, orange)} == {200}
        with cast.database.unit(cast.scope) as session:
            for each in (red, orange):
                decide(session, each, "withdrawn", at=db.now(session))
        for door in doors:
            came = lead.get(door.format(orange))
            assert (came.status_code, came.json()["code"]) == (409, "consent_withdrawn")
            assert lead.get(door.format(red)).status_code == 200
