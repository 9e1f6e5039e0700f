"""FHIR R4, both ways: an instrument as a Questionnaire, answers as QuestionnaireResponses and back.

Nothing is guessed on the way in. An answer counts when its question and its code are known, by our own ids, by LOINC,
or by the Questionnaire that was sent along; anything else is a named problem and a blank, never a score.
"""

from instruments.fhir.linking import Link, link
from instruments.fhir.naming import BASE, LOINC, canonical, slug
from instruments.fhir.questionnaires import questionnaire
from instruments.fhir.reading import PROBLEMS, Responses, read
from instruments.fhir.responses import bundle, ndjson, response
from instruments.fhir.sources import NotFhir, is_fhir

__all__ = [
    "BASE",
    "LOINC",
    "PROBLEMS",
    "Link",
    "NotFhir",
    "Responses",
    "bundle",
    "canonical",
    "is_fhir",
    "link",
    "ndjson",
    "questionnaire",
    "read",
    "response",
    "slug",
]
