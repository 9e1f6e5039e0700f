"""What a round may ask, at its door: unreleased, unlicensed and gated, each refused in words that say what to do."""

from instruments import catalogue
from screening import wordings
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller, round_body


def test_an_unreleased_instrument_is_asked_when_an_administrator_says_why(cast: Cast) -> None:
    with TestClient(app_on(cast.database)) as client:
        admin = caller(client, cast.database, cast.district_admin)
        sdq = {"code": "sdq", "forms": ["parent"]}
        refused = admin.post("/v1/rounds", json=round_body(instruments=[sdq]))
        assert refused.status_code == 422
        told = {problem["code"]: problem["message"] for problem in refused.json()["problems"]}
        assert set(told) == {"instrument_unreleased", "licence_missing"}
        assert "band_schemes.uk4" in told["instrument_unreleased"]
        with cast.database.unit(cast.scope) as session:
            licence = {"holder": "Riverside", "terms": "YM-7", "by": cast.district_admin}
            wordings.record_licence(session, catalogue.get("sdq"), **licence)  # type: ignore[arg-type]
        reason = "The Shanghai bands are used, and they are confirmed."
        made = admin.post("/v1/rounds", json=round_body(instruments=[{**sdq, "unreleased_reason": reason}]))
        assert made.status_code == 201, made.text
        assert made.json()["unreleased"] == {"sdq": reason}
        assert admin.get(made.headers["location"]).json()["unreleased"] == {"sdq": reason}
        plain = admin.post("/v1/rounds", json=round_body())
        assert plain.json()["unreleased"] == {}


def test_a_round_that_would_show_a_gated_item_is_refused_with_the_items_and_grades(cast: Cast) -> None:
    with TestClient(app_on(cast.database)) as client:
        admin = caller(client, cast.database, cast.district_admin)
        refused = admin.post("/v1/rounds", json=round_body(grades=[6, 7]))
        assert refused.status_code == 422
        [problem] = refused.json()["problems"]
        assert problem["code"] == "item_gated"
        assert problem["message"] == "phq9_9 (sensitive) is for grade 7 and above, not for 6."
