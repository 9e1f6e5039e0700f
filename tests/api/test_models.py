"""The models at their doors and commands: cards to read, gates that say why, and a lot whose outcomes are told once."""

import uuid
from collections.abc import Iterator

import pytest

from api.demo import planted
from screening import db, rounds
from screening.models import RoutineChat
from screening.risk_model import registry
from tests.alerts.test_models_in_use import by_hand
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.doors import app_on, caller
from tests.factories import make_round


@pytest.fixture
def client(cast: Cast) -> Iterator[TestClient]:
    with TestClient(app_on(cast.database)) as opened:
        yield opened


@pytest.fixture
def name(cast: Cast) -> str:
    """A model that stands in shadow."""
    with cast.database.unit(cast.scope) as session:
        model = by_hand(rounds.rules_of(session, make_round(session).id))
        card = {"rounds": [], "limits": ["It diagnoses nothing."]}
        registry.store(session, "m1", model, model, card=card, by=cast.district_admin, now=db.now(session))
    return "m1"


def test_the_card_is_read_and_another_districts_is_not_there(cast: Cast, client: TestClient, name: str) -> None:
    card = caller(client, cast.database, cast.lead).get(f"/v1/models/{name}").json()
    assert (card["name"], card["state"], card["problem"], card["approvals"]) == ("m1", "shadow", None, [])
    assert card["card"]["limits"] == ["It diagnoses nothing."]
    elsewhere = caller(client, cast.database, assemble(cast.database).district_admin)
    assert elsewhere.get(f"/v1/models/{name}").status_code == 404
    assert elsewhere.get("/v1/models").json() == {"models": []}


def test_closed_gates_are_told_with_their_numbers(cast: Cast, client: TestClient, name: str) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    refused = admin.post(f"/v1/models/{name}/promotion", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "gates_closed")
    told = {problem["code"]: problem["message"] for problem in refused.json()["problems"]}
    assert told["labels"] == "0; needed: at least 200"
    assert admin.post(f"/v1/models/{name}/retirement").json()["state"] == "retired"


def test_the_evaluation_says_what_is_not_known(cast: Cast, client: TestClient, name: str) -> None:
    lead, admin = (caller(client, cast.database, who) for who in (cast.lead, cast.district_admin))
    assert lead.get(f"/v1/models/{name}/evaluation").status_code == 403
    found = admin.get(f"/v1/models/{name}/evaluation", params={"rural_school": "A"}).json()
    assert (found["labels"], found["rules"]["sensitivity"]) == (0, None)
    assert found["rules"]["interval"] == found["rules_and_model"]["interval"] == [0, 1]
    assert {gap["by"] for gap in found["fairness"]} == {"sex", "stage", "setting"}
    assert all(gap["gap"] is None for gap in found["fairness"])
    assert {gate["name"]: gate["is_met"] for gate in found["gates"]}["shadow_round"] is False
    assert admin.get(f"/v1/models/{name}/evaluation", params={"rural_school": "Z"}).status_code == 404


def test_a_routine_chat_is_answered_once_by_its_school(cast: Cast, client: TestClient) -> None:
    with cast.database.unit(cast.scope) as session:
        student = cast.students.own_grant_15
        chat = RoutineChat(
            district_id=cast.district.id, id=uuid.uuid4(), round_id=make_round(session).id, student_id=student.id,
            school_id=student.school_id, seed=1, probability=0.01, state="offered", drawn_at=db.now(session),
        )  # fmt: skip
        session.add(chat)
    an, chen = (caller(client, cast.database, who) for who in (cast.an, cast.chen))
    assert [one["id"] for one in an.get("/v1/routine-chats").json()["routine_chats"]] == [str(chat.id)]
    assert chen.get("/v1/routine-chats").json() == {"routine_chats": []}
    address = f"/v1/routine-chats/{chat.id}/outcome"
    assert chen.post(address, json={"outcome": "declined"}).status_code == 404
    assert an.post(address, json={"outcome": "confirmed", "words": "She cries at night."}).json()["state"] == "held"
    assert an.post(address, json={"outcome": "declined"}).status_code == 409
    assert an.get("/v1/routine-chats").json() == {"routine_chats": []}
    assert [alert["tier"] for alert in an.get("/v1/alerts").json()["alerts"]] == ["orange"]


def test_rules_and_model_look_at_the_same_number_where_the_truth_was_planted() -> None:
    found = planted.evaluate(3, students=600)["arms"]
    rules, totals, model = (
        found[arm] for arm in ("rules alone", "rules, and the highest totals", "rules, and the model")
    )
    assert totals["looked_at"] == model["looked_at"] > rules["looked_at"]
    assert model["found"] >= rules["found"]
