"""With row security taken down, what the code's own selects still keep from another school."""

from collections.abc import Iterator

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy.engine import make_url

from screening import embedded
from screening.db import Database
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.doors import app_on, caller
from tests.factories import make_staff
from tests.test_doors import made_things

TABLES = (
    "students",
    "identities",
    "enrollments",
    "access_requests",
    "rights_requests",
    "exports",
    "results",
    "student_merges",
)
ONE = (
    "/v1/students/{student_id}",
    "/v1/students/{student_id}/history",
    "/v1/results/{student_id}/{round_id}",
    "/v1/results/{student_id}/{round_id}/explanation",
    "/v1/access-requests/{request_id}",
    "/v1/rights-requests/{rights_request_id}",
    "/v1/merges/{merge_id}",
)
WRITTEN = {
    "/v1/alerts": {"tier": "yellow", "facts": "Alone at every break."},
    "/v1/rights-requests": {"asked_as": "guardian", "kind": "correct", "words": "The number is another one."},
    "/v1/access-requests": {"reason": "I know the family.", "hours": 4},
}
MANY = ("/v1/students", "/v1/access-requests", "/v1/rights-requests", "/v1/exports", "/v1/merges")


@pytest.fixture
def fallen(server: embedded.Server, fresh_database: Database) -> Iterator[tuple[Cast, TestClient]]:
    cast = assemble(fresh_database)
    app: FastAPI = app_on(fresh_database)
    with TestClient(app) as client:
        yield cast, client


def test_a_school_sees_nothing_of_another_though_the_first_wall_has_fallen(
    server: embedded.Server, fallen: tuple[Cast, TestClient]
) -> None:
    cast, client = fallen
    things = made_things(cast, client)
    name = str(make_url(cast.database.url).database)
    with psycopg.connect(server.url(database=name, role="owner"), autocommit=True) as owner:
        for table in TABLES:
            owner.execute(f"alter table {table} disable row level security".encode())
    with cast.database.unit(cast.scope) as session:
        lead_b = make_staff(session, ("lead", cast.school_b.id))[1]
    stranger = caller(client, cast.database, lead_b)
    own = caller(client, cast.database, cast.lead)
    for path in ONE:
        address = things.at(path, cast.school_a.id)
        assert own.get(address).status_code == 200, path
        assert stranger.get(address).status_code == 404, path
    about = {"student_id": str(cast.students.granted_13.id)}
    for path, body in WRITTEN.items():
        assert stranger.post(path, json=about | body).status_code == 404, path
        assert own.post(path, json=about | body).status_code == 201, path
    for path in MANY:
        mine, theirs = own.get(path).text, stranger.get(path).text
        assert str(cast.students.in_school_b.id) in theirs or len(theirs) < 60, path
        assert not any(str(each.id) in theirs for each in cast.students.all() if each.school_id == cast.school_a.id)
        assert len(mine) > 60, path
