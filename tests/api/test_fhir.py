"""The FHIR door: every form of every instrument as a valid Questionnaire, under the address it states."""

import json
from collections.abc import Iterator

import pytest
from fhir.resources.R4B.questionnaire import Questionnaire

from instruments import catalogue, fhir
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import Caller, app_on, caller, settings


@pytest.fixture
def an(cast: Cast) -> Iterator[Caller]:
    with TestClient(app_on(cast.database)) as client:
        yield caller(client, cast.database, cast.an)


def test_every_form_is_served_as_fhir_under_its_own_address(an: Caller) -> None:
    base = f"{settings().base_url.rstrip('/')}/fhir"
    for instrument in catalogue.all():
        for form in instrument.forms:
            name = fhir.slug(instrument, form)
            came = an.get(f"/fhir/Questionnaire/{name}")
            assert (came.status_code, came.headers["content-type"]) == (200, "application/fhir+json"), name
            assert came.json()["url"] == f"{base}/Questionnaire/{name}"
            assert came.json() == json.loads(json.dumps(fhir.questionnaire(instrument, form, base=base)))
            Questionnaire.model_validate_json(came.content)


def test_language_and_our_own_code_are_understood_and_anything_else_named(an: Caller) -> None:
    chinese = an.get("/fhir/Questionnaire/phq9?language=zh_CN").json()
    assert (chinese["language"], chinese["title"]) == ("zh-CN", catalogue.get("phq9").title["zh_CN"])
    assert [an.get(f"/fhir/Questionnaire/{name}").status_code for name in ("psc17-teacher", "psc17_teacher")] == [
        200,
        200,
    ]
    for name in ("nothing", "phq9-teacher", "PHQ9"):
        came = an.get(f"/fhir/Questionnaire/{name}")
        assert (came.status_code, came.json()["code"]) == (404, "not_found")
    assert an.get("/fhir/Questionnaire/phq9?language=fr").status_code == 422
    assert an.get(f"/fhir/Questionnaire/{'x' * 65}").status_code == 422


def test_the_description_names_the_content_type(an: Caller) -> None:
    described = an.get("/openapi.json").json()["paths"]["/fhir/Questionnaire/{code}"]["get"]
    assert list(described["responses"]["200"]["content"]) == ["application/fhir+json"]
    assert "counselor" in described["x-roles"]
