"""The JSON doors under /v1, a file per resource."""

from api.deps import Door
from api.v1 import (
    accounts,
    alerts,
    assignments,
    audit,
    cases,
    codes,
    consents,
    coverage,
    fhir,
    follow_ups,
    instruments,
    outcomes,
    policies,
    results,
    rosters,
    rounds,
    schools,
    sessions,
    sso,
    students,
    tokens,
    transfers,
    uploads,
)


def doors() -> list[Door]:
    """Every door, by resource."""
    return [
        rosters.door,
        schools.door,
        students.door,
        consents.door,
        instruments.door,
        fhir.door,
        policies.door,
        rounds.door,
        uploads.door,
        assignments.door,
        results.door,
        alerts.door,
        cases.door,
        follow_ups.door,
        transfers.door,
        coverage.door,
        outcomes.door,
        accounts.door,
        sso.door,
        sessions.door,
        tokens.door,
        codes.door,
        audit.door,
    ]
