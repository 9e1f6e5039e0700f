"""Errors at the doors: one format, every problem at once, nothing of what was sent and nothing of the database."""

import json
import logging
from collections.abc import Iterator

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import DatabaseError, OperationalError

from api import errors, seats
from api.app import add, create_app
from api.deps import PUBLIC, Door
from api.health import Alive
from screening.db import Database
from tests.cast import Cast
from tests.doors import app_on, caller, round_body, settings

PARTS = {"type", "title", "status", "code", "detail", "problems"}


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    with TestClient(app_on(database)) as opened:
        yield opened


def test_every_problem_of_a_body_is_named_at_once_and_nothing_of_it_is_repeated(cast: Cast, client: TestClient) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    body = round_body(name="", grades=[0, "secret-grade"], opens_at=5, surprise="secret-value")
    came = admin.post("/v1/rounds", json=body)
    assert came.status_code == 422
    assert came.headers["content-type"] == "application/problem+json"
    told = came.json()
    assert set(told) == PARTS
    assert (told["status"], told["code"], told["title"]) == (422, "invalid_input", "Unprocessable Entity")
    assert {problem["column"] for problem in told["problems"]} == {
        "name",
        "grades.0",
        "grades.1",
        "opens_at",
        "?",  # a name that is none of ours may be somebody's
    }
    assert "secret" not in came.text


def test_the_houses_own_problems_keep_their_place(cast: Cast, client: TestClient) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    wrong = round_body(instruments=[{"code": "nope", "forms": ["self"]}, {"code": "phq9", "forms": ["parent"]}])
    told = admin.post("/v1/rounds", json=wrong).json()
    assert told["code"] == "invalid_round"
    assert [problem["code"] for problem in told["problems"]] == ["unknown_instrument", "unknown_form"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"name": ' + b"1" * 5_000 + b"}",
        b'"\\ud800"',
        b"\xff\xfe",
        b'{"code": "a\\u0000b", "name": "x"}',
        b'{"code": "\\ud800", "name": "x"}',
        b'{"\\ud800": 1}',
        json.dumps({"code": "x" * 201, "name": "x"}).encode(),
        json.dumps({"code": 1, "name": ["x"]}).encode(),
    ],
)
def test_a_body_that_is_no_body_is_told_so(cast: Cast, client: TestClient, body: bytes) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    came = admin.post("/v1/schools", content=body, headers={"Content-Type": "application/json"})
    assert came.status_code == 422, came.text
    assert set(came.json()) == PARTS


@pytest.mark.parametrize(
    "address",
    [
        "/v1/alerts?limit=0",
        "/v1/alerts?limit=201",
        "/v1/alerts?limit=99999999999999999999",
        "/v1/alerts?after=nonsense",
        "/v1/alerts?after=W10",
        "/v1/alerts?tier=purple",
        "/v1/alerts?due_before=5",
        "/v1/alerts?due_before=0001-01-01T00:00:00Z",
        "/v1/alerts?due_before=9999-12-31T23:59:59-14:00",
        "/v1/alerts?school=%00",
        "/v1/students?class_name=%00",
        "/v1/students?grade=99999999999",
        "/v1/alerts/1",
        "/v1/alerts/%00",
        "/v1/coverage?round=x",
    ],
)
def test_a_parameter_out_of_range_is_a_problem_and_never_a_crash(cast: Cast, client: TestClient, address: str) -> None:
    came = caller(client, cast.database, cast.an).get(address)
    assert came.status_code == 422, came.text
    assert came.json()["problems"]


@pytest.mark.parametrize("body", [b"{", b'{"surprise": 1}', b"[" * 70_000])
@pytest.mark.parametrize("place", ["", "?limit=none"])
def test_who_is_not_let_in_hears_nothing_of_what_was_wrong(
    cast: Cast, client: TestClient, body: bytes, place: str
) -> None:
    secretary = caller(client, cast.database, cast.bo)
    sent = {"content": body, "headers": {"Content-Type": "application/json"}}
    assert client.post(f"/v1/rounds{place}", **sent).status_code == 401
    assert secretary.post(f"/v1/rounds{place}", **sent).status_code == 403
    admin = caller(client, cast.database, cast.district_admin)
    assert admin.post(f"/v1/rounds{place}", **sent).status_code == 422


def test_absent_and_forbidden_things_are_told_in_the_same_words(cast: Cast, client: TestClient) -> None:
    an = caller(client, cast.database, cast.an)
    absent = an.get("/v1/students/00000000-0000-0000-0000-000000000007")
    foreign = an.get(f"/v1/students/{cast.students.in_school_b.id}")
    assert (absent.status_code, foreign.status_code) == (404, 404)
    assert absent.content == foreign.content


def test_a_body_that_is_too_long_is_refused_by_its_length_and_while_it_comes(
    cast: Cast, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    assert admin.post("/v1/schools", content=b"x" * 1_000_001).status_code == 413
    said = admin.post("/v1/schools", content=(b"x" * 600_000 for _ in range(2)))
    assert (said.status_code, said.json()["code"]) == (413, "too_large")
    packed = admin.post("/v1/schools", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (packed.status_code, packed.json()["code"]) == (422, "content_encoding")


@pytest.fixture
def broken(database: Database) -> Iterator[TestClient]:
    """An app with a door that breaks in every way."""
    app: FastAPI = create_app(database, settings())
    door = Door(tag="broken")

    @door.get("/broken/{how}", roles=PUBLIC)
    def fail(how: str) -> Alive:
        if how == "busy":
            raise OperationalError("select secret", {}, Exception("secret"))
        if how == "cut":
            raise DatabaseError("select secret", {}, psycopg.DatabaseError("server closed the connection: secret"))
        if how == "wrong":
            raise DatabaseError("select secret", {}, psycopg.errors.UndefinedTable("secret"))
        if how == "answer":
            return "secret"  # type: ignore[return-value]
        raise RuntimeError("secret of a child")

    add(app, door)
    with TestClient(app) as opened:
        yield opened


def test_what_nobody_foresaw_is_told_and_logged_without_its_words(
    broken: TestClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        came = broken.get("/broken/crash")
    assert (came.status_code, came.json()["code"]) == (500, "unexpected")
    assert came.headers["x-content-type-options"] == "nosniff"
    logged = capfd.readouterr().err
    assert '"error": "RuntimeError"' in logged
    assert '"route": "/broken/{how}"' in logged
    assert "secret" not in came.text + logged + caplog.text


def test_an_answer_that_is_not_as_promised_is_no_answer(broken: TestClient) -> None:
    came = broken.get("/broken/answer")
    assert came.status_code == 500
    assert "secret" not in came.text


@pytest.mark.parametrize("kind", ["busy", "cut"])
def test_a_database_that_does_not_answer_asks_to_come_back(broken: TestClient, kind: str) -> None:
    came = broken.get(f"/broken/{kind}")
    assert (came.status_code, came.json()["code"]) == (503, "busy")
    assert came.headers["retry-after"] == str(errors.RETRY_AFTER_SECONDS)
    assert "secret" not in came.text


def test_a_statement_that_is_wrong_is_no_busy_database(broken: TestClient) -> None:
    came = broken.get("/broken/wrong")
    assert (came.status_code, came.json()["code"]) == (500, "unexpected")
    assert "secret" not in came.text


def test_ready_says_so_and_a_missing_database_is_named(client: TestClient, database: Database) -> None:
    assert client.get("/health/ready").json() == {"status": "good", "faults": []}
    gone = Database(database.url.replace("/tests?", "/nowhere?"), database.master_key)
    came = TestClient(create_app(gone, settings())).get("/health/ready")
    assert came.status_code == 503
    assert came.json()["faults"][0]["name"] == "database_unreachable"
    gone.dispose()


def test_no_seat_in_time_is_told_at_once(cast: Cast, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "SEAT_SECONDS", 0.05)
    app = create_app(database, settings())
    with TestClient(app) as client:
        an = caller(client, database, cast.an)

        async def fill() -> list[object]:
            taken = [object() for _ in range(16)]
            for holder in taken:
                app.state.seats._all.acquire_on_behalf_of_nowait(holder)
            return taken

        assert client.portal is not None
        client.portal.call(fill)
        came = an.get("/v1/alerts")
        assert (came.status_code, came.json()["code"]) == (503, "busy")
        assert client.get("/health/live").status_code == 200
