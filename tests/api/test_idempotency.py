"""A keyed request twice is once, whoever is faster; and what is answered again is what may be seen now."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from screening import access, staff
from screening.db import Database
from tests.alerts.episodes import race
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import Caller, answers_csv, app_on, caller, round_body, somebody


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    with TestClient(app_on(database)) as opened:
        yield opened


@pytest.fixture
def admin(cast: Cast, client: TestClient) -> Caller:
    return caller(client, cast.database, cast.district_admin)


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def count(cast: Cast, table: str) -> int:
    with cast.database.unit(cast.scope) as session:
        return int(session.execute(text(f"select count(*) from {table}")).scalar_one())


def test_the_same_request_again_is_answered_with_the_first_answer(cast: Cast, admin: Caller) -> None:
    key, body = keyed(), round_body()
    first = admin.post("/v1/rounds", json=body, headers=key)
    again = admin.post("/v1/rounds", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert count(cast, "rounds") == 1


def test_another_request_with_the_same_key_is_a_mismatch(admin: Caller) -> None:
    key = keyed()
    assert admin.post("/v1/schools", json={"code": "X", "name": "X"}, headers=key).status_code == 201
    for other in (
        admin.post("/v1/schools", json={"code": "Y", "name": "Y"}, headers=key),
        admin.post("/v1/rounds", json=round_body(), headers=key),
    ):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_a_key_is_its_senders_own(cast: Cast, client: TestClient, admin: Caller) -> None:
    key = keyed()
    other = caller(client, cast.database, somebody(cast, "district_admin"))
    assert admin.post("/v1/schools", json={"code": "X", "name": "X"}, headers=key).status_code == 201
    assert other.post("/v1/schools", json={"code": "Y", "name": "Y"}, headers=key).status_code == 201


def test_what_failed_may_be_tried_again_with_the_same_key(admin: Caller) -> None:
    key = keyed()
    assert admin.post("/v1/schools", json={"code": "A", "name": "taken"}, headers=key).status_code == 409
    assert admin.post("/v1/schools", json={"code": "Z", "name": "free"}, headers=key).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 201])
def test_a_key_that_is_none_is_a_problem(admin: Caller, key: str) -> None:
    sent = {"Idempotency-Key": key.encode("latin-1")}
    came = admin.post("/v1/schools", json={"code": "X", "name": "X"}, headers=sent)
    assert (came.status_code, came.json()["problems"][0]["column"]) == (422, "Idempotency-Key")


def test_ten_at_once_are_one(cast: Cast, admin: Caller) -> None:
    key, body = keyed(), round_body()
    came = race(*[lambda: admin.post("/v1/rounds", json=body, headers=key)] * 10)
    assert {each.status_code for each in came if not isinstance(each, Exception)} == {201}
    assert len({each.headers["location"] for each in came if not isinstance(each, Exception)}) == 1
    assert count(cast, "rounds") == 1
    assert count(cast, "idempotency_keys") == 1


def test_a_file_again_is_the_same_upload_and_another_file_is_a_mismatch(
    cast: Cast, client: TestClient, admin: Caller
) -> None:
    round_id = admin.post("/v1/rounds", json=round_body()).json()["id"]
    secretary = caller(client, cast.database, cast.school_admin_a)
    key, address = keyed(), f"/v1/rounds/{round_id}/uploads"
    first = secretary.post(address, files={"file": ("a.csv", answers_csv({"A001": 0}))}, headers=key)
    again = secretary.post(address, files={"file": ("a.csv", answers_csv({"A001": 0}))}, headers=key)
    other = secretary.post(address, files={"file": ("a.csv", answers_csv({"A001": 1}))}, headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert first.headers["location"] == again.headers["location"]
    assert again.json()["id"] == first.json()["id"]
    assert other.json()["code"] == "idempotency_mismatch"
    assert count(cast, "uploads") == 1
    assert count(cast, "stored_files") == 1


def test_a_replay_shows_no_more_than_may_be_seen_now(cast: Cast, client: TestClient, admin: Caller) -> None:
    actor = somebody(cast, "counselor")
    counselor = caller(client, cast.database, actor)
    key = keyed()
    body = {"student_id": str(cast.students.granted_13.id), "tier": "orange", "words": "She was seen crying."}
    assert counselor.post("/v1/cases", json=body, headers=key).status_code == 201
    with cast.database.unit(access.Scope(cast.district.id)) as session:
        assert actor.staff_id is not None
        staff.revoke(session, actor.staff_id, "counselor", cast.school_a.id, by=cast.district_admin)
        staff.grant(session, actor.staff_id, "counselor", cast.school_b.id, by=cast.district_admin)
    again = counselor.post("/v1/cases", json=body, headers=key)
    assert again.status_code == 404
    assert "crying" not in again.text


def test_a_concern_twice_is_one_reason_for_whoever_may_not_read_it(cast: Cast, client: TestClient) -> None:
    teacher = caller(client, cast.database, somebody(cast, "class_teacher"))
    key = keyed()
    body = {"student_id": str(cast.students.granted_13.id), "tier": "orange", "facts": "He talks of giving up."}
    first = teacher.post("/v1/alerts", json=body, headers=key)
    again = teacher.post("/v1/alerts", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json() == {"location": first.headers["location"]}
    assert teacher.get(first.headers["location"]).status_code == 403
    assert count(cast, "alert_reasons") == 1


def test_a_list_of_consents_twice_says_the_same_and_writes_once(cast: Cast, client: TestClient) -> None:
    an = caller(client, cast.database, cast.an)
    before = count(cast, "consents")
    body = {
        "notice_version": "2026-01",
        "channel": "paper",
        "decided_at": "2026-09-02T08:00:00+08:00",
        "decisions": [
            {"student_number": "A001", "decision": "granted"},
            {"student_number": "nobody", "decision": "granted"},
        ],
    }
    key = keyed()
    first, again = (an.post("/v1/consents", json=body, headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert (first.json()["listed"], first.json()["recorded"]) == (2, 1)
    assert first.json()["problems"][0]["code"] == "unknown_student"
    assert count(cast, "consents") == before + 1
    other = an.post("/v1/consents", json=body | {"channel": "portal"}, headers=key)
    assert other.json()["code"] == "idempotency_mismatch"


def test_a_lost_race_is_412_and_says_what_stands(cast: Cast, client: TestClient, admin: Caller) -> None:
    made = admin.post("/v1/rounds", json=round_body())
    seen = {"If-Match": made.headers["etag"]}
    came = race(*[lambda: admin.post(f"{made.headers['location']}/open", headers=seen)] * 4)
    codes = sorted(each.status_code for each in came if not isinstance(each, Exception))
    assert codes == [200, 412, 412, 412]
    lost = next(each for each in came if not isinstance(each, Exception) and each.status_code == 412)
    assert "open" in lost.json()["detail"]
    an = caller(client, cast.database, cast.an)
    body = {"student_id": str(cast.students.granted_13.id), "tier": "yellow", "words": "Tired."}
    case = an.post("/v1/cases", json=body)
    note = {"words": "Seen."}
    address = f"{case.headers['location']}/entries"
    assert an.post(address, json=note, headers={"If-Match": case.headers["etag"]}).status_code == 201
    late = an.post(address, json=note, headers={"If-Match": case.headers["etag"]})
    assert late.status_code == 412
    assert str(cast.an.staff_id) in late.json()["detail"]
