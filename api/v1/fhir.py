"""The library for programs that speak FHIR R4: each instrument as a Questionnaire."""

import json
from typing import Annotated, Literal

from fastapi import Path, Query, Request, Response

from api.deps import STAFF, Door
from instruments import catalogue, fhir
from instruments.definition import Instrument
from screening.errors import NotFound
from screening.settings import Settings

door = Door(prefix="/fhir", tag="fhir")

FHIR = "application/fhir+json"


@door.get(
    "/Questionnaire/{code}",
    roles=STAFF,
    response_class=Response,
    responses={200: {"content": {FHIR: {"schema": {"type": "object"}}}, "description": "A FHIR R4 Questionnaire."}},
)
def show(
    request: Request,
    code: Annotated[
        str, Path(max_length=64, description="phq9, or psc17-teacher for a form that is not the usual one")
    ],
    language: Annotated[Literal["en", "zh_CN"], Query(description="Of title and wording, where it ships.")] = "en",
) -> Response:
    """One form as a Questionnaire: item ids as linkIds, LOINC codes where seen, no wording where none ships."""
    instrument, form = _form(code)
    settings: Settings = request.app.state.settings
    base = f"{settings.base_url.rstrip('/')}/fhir"
    found = fhir.questionnaire(instrument, form, language=language, base=base)
    return Response(json.dumps(found, ensure_ascii=False), media_type=FHIR)


def _form(code: str) -> tuple[Instrument, str]:
    """The form of that FHIR id. An id knows no underscore, so our own code is understood too."""
    wanted = code.replace("_", "-")
    for instrument in catalogue.all():
        for form in instrument.forms:
            if fhir.slug(instrument, form) == wanted:
                return instrument, form
    raise NotFound("There is no such questionnaire.")
