"""The whole loop through the API and the worker: a file goes in, a child is helped, the figures agree."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from api import worker
from screening import access, db
from screening.db import Database
from tests import cast as people
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import Caller, answers_csv, app_on, caller, round_body, settings


@pytest.fixture
def alone(fresh_database: Database) -> Cast:
    """The cast in a database of its own: the worker is let loose on all of it, days ahead."""
    return people.assemble(fresh_database)


@pytest.fixture
def client(alone: Cast) -> Iterator[TestClient]:
    with TestClient(app_on(alone.database)) as opened:
        yield opened


def test_the_loop(alone: Cast, client: TestClient) -> None:
    def somebody(actor: access.Actor) -> Caller:
        return caller(client, alone.database, actor)

    admin, secretary, counselor, second = map(
        somebody, (alone.district_admin, alone.school_admin_a, alone.an, alone.lead)
    )
    analyst, of_another_school = map(somebody, (alone.district_analyst, alone.chen))

    made = admin.post("/v1/rounds", json=round_body())
    round_id = made.json()["id"]
    assert admin.post(f"/v1/rounds/{round_id}/open").status_code == 200

    # a file goes in: one red, one without any concern, one without consent whose critical answer is heard all the same
    answers = answers_csv({"A007": 3, "A001": 0, "A003": 1})
    sent = secretary.post(f"/v1/rounds/{round_id}/uploads", files={"file": ("九月.csv", answers)})
    assert sent.status_code == 202
    assert worker.once(alone.database, settings()) == {}
    receipt = secretary.get(sent.headers["location"]).json()
    assert receipt["state"] == "loaded"
    assert receipt["receipt"]["forms"]["phq9/self"]["accepted"] == 2
    assert [problem["code"] for problem in receipt["problems"]] == ["no_consent"]

    # the queue, worst first; a counselor of another school sees none of it
    queue = counselor.get("/v1/alerts").json()["alerts"]
    assert [(alert["tier"], alert["student_name"]) for alert in queue] == [("red", "赵磊"), ("orange", "张伟")]
    assert of_another_school.get("/v1/alerts").json()["alerts"] == []
    red, orange = (f"/v1/alerts/{alert['id']}" for alert in queue)
    assert of_another_school.get(red).status_code == 404

    # acknowledged, triaged into a case, talked to, a contact promised
    assert counselor.post(f"{red}/acknowledgement").status_code == 200
    triaged = counselor.post(
        f"{red}/triage",
        json={"outcome": "case_opened", "contact": "meeting", "is_student_seen": True, "words": "Came at once."},
    )
    case = f"/v1/cases/{triaged.json()['case_id']}"
    now = _now(alone.database)
    talked = counselor.post(f"{case}/interviews", json=_interview(now))
    assert talked.status_code == 201, talked.text
    told = {"how": "phone", "is_reached": True, "response": "agrees"}
    family = {"kind": "guardian_contact", "fields": told, "words": "The mother comes at four."}
    assert counselor.post(f"{case}/entries", json=family).status_code == 201
    due_at = now + dt.timedelta(days=2)
    promised = counselor.post(f"{case}/follow-ups", json={"mode": "phone", "due_at": due_at.isoformat()})
    assert promised.status_code == 201, promised.text
    follow_up = f"/v1/follow-ups/{promised.json()['follow_ups'][0]['id']}"

    # nobody rang by then: overdue, and told once, however often the worker comes round
    later = due_at + dt.timedelta(hours=1)
    worker.once(alone.database, settings(), at=later)
    worker.once(alone.database, settings(), at=later)
    assert counselor.get(follow_up).json()["state"] == "overdue"
    assert _count(alone, "escalations where subject = 'follow_up'") == 1

    # the case cannot end while a contact is owed; then it ends on two persons' word
    assert counselor.post(f"{case}/closure", json=_ending()).status_code == 409
    assert counselor.post(f"{follow_up}/done", json={"words": "Reached, is well."}).status_code == 200
    assert counselor.post(f"{case}/closure", json=_ending()).status_code == 200
    assert counselor.post(f"{case}/closure/confirmation").status_code == 409
    ended = second.post(f"{case}/closure/confirmation")
    assert (ended.status_code, ended.json()["state"]) == (200, "closed")

    # the other alert turns out to be nothing: that too takes a second person
    counselor.post(f"{orange}/acknowledgement")
    found = {"outcome": "not_confirmed", "contact": "meeting", "is_student_seen": True, "words": "A slip of the pen."}
    assert counselor.post(f"{orange}/triage", json=found).json()["closed_at"] is None
    assert second.post(f"{orange}/triage/confirmation").json()["closed_at"] is not None
    assert counselor.get("/v1/alerts").json()["alerts"] == []

    # the same file again: nothing new anywhere
    before = {table: _count(alone, table) for table in ("administrations", "results", "alerts", "alert_reasons")}
    secretary.post(f"/v1/rounds/{round_id}/uploads", files={"file": ("again.csv", answers)})
    worker.once(alone.database, settings())
    assert {table: _count(alone, table) for table in before} == before

    # coverage and outcomes say what plain SQL says
    assert second.get(f"/v1/coverage?round={round_id}").json()["rows"][0]["counts"]["submitted"] == 2
    [row] = counselor.get(f"/v1/coverage?round={round_id}").json()["rows"]
    assert {
        name: row["counts"][name] for name in ("enrolled", "consented", "submitted", "valid", "tier_red")
    } == _plain(alone)
    outcome = counselor.get(f"/v1/outcomes?round={round_id}").json()
    assert (outcome["raised"], outcome["cases_closed"], outcome["closed_loop_share"]) == (2, 1, 1.0)
    assert (outcome["follow_ups_done"], outcome["follow_ups_on_time"]) == (1, 1)

    # what the district is told is what was released, and a small school's figures are not in it
    assert analyst.get(f"/v1/coverage?round={round_id}").status_code == 404
    assert admin.post("/v1/coverage/releases", json={"round_id": round_id}).status_code == 201
    released = analyst.get(f"/v1/coverage?round={round_id}&by=school").json()
    assert released["kind"] == "released"
    assert all(row["counts"]["orange_or_red"] is None for row in released["rows"] if "orange_or_red" in row["counts"])


def _interview(now: dt.datetime) -> dict[str, Any]:
    return {
        "mode": "meeting",
        "is_student_seen": True,
        "has_current_risk": False,
        "is_concern_confirmed": True,
        "words": "Safe today; has somebody to talk to.",
        "held_at": now.isoformat(),
    }


def _ending() -> dict[str, str]:
    return {"reason": "resolved", "words": "Two stable contacts."}


def _now(database: Database) -> dt.datetime:
    with database.unit() as session:
        return db.now(session)


def _count(alone: Cast, what: str) -> int:
    with alone.database.unit(alone.scope) as session:
        return int(session.execute(text(f"select count(*) from {what}")).scalar_one())


def _plain(alone: Cast) -> dict[str, int]:
    """School A's figures counted by hand in plain SQL."""
    school = f"school_id = '{alone.school_a.id}'"
    return {
        "enrolled": _count(alone, f"(select distinct student_id from assignments where {school}) x"),
        "consented": len(alone.students.with_consent()) - 2,
        "submitted": _count(alone, f"(select distinct student_id from administrations where {school}) x"),
        "valid": _count(alone, f"results where {school} and validity <> 'invalid'"),
        "tier_red": _count(alone, f"results where {school} and tier = 3"),
    }
