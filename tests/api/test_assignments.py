"""The form at its door: what is refused there is heard all the same."""

from collections.abc import Iterator

import pytest

from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller, round_body


@pytest.fixture
def client(cast: Cast) -> Iterator[TestClient]:
    with TestClient(app_on(cast.database)) as opened:
        yield opened


@pytest.mark.parametrize("typo", [4, "x", 2.5, True])
def test_a_critical_answer_beside_a_typo_reaches_the_queue(cast: Cast, client: TestClient, typo: object) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    an = caller(client, cast.database, cast.an)
    address = admin.post("/v1/rounds", json=round_body()).headers["location"]
    admin.post(f"{address}/open")
    waiting = an.get(f"{address}/assignments").json()["waiting"]
    place = next(
        each["assignment_ids"][0] for each in waiting if each["student_id"] == str(cast.students.granted_13.id)
    )

    for _ in range(2):
        refused = an.ask("PUT", f"/v1/assignments/{place}/answers", json={"answers": {"phq9_1": typo, "phq9_9": 3}})
        assert (refused.status_code, refused.json()["problems"][0]["column"]) == (422, "phq9_1")

    [alert] = an.get("/v1/alerts").json()["alerts"]
    assert (alert["tier"], alert["student_id"]) == ("red", str(cast.students.granted_13.id))
