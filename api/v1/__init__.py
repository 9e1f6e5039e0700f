"""The JSON doors under /v1, a file per resource."""

from api.deps import Door
from api.v1 import (
    accounts,
    alerts,
    assignments,
    audit,
    cases,
    consents,
    coverage,
    follow_ups,
    instruments,
    outcomes,
    policies,
    results,
    rosters,
    rounds,
    schools,
    students,
    tokens,
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
        policies.door,
        rounds.door,
        uploads.door,
        assignments.door,
        results.door,
        alerts.door,
        cases.door,
        follow_ups.door,
        coverage.door,
        outcomes.door,
        accounts.door,
        tokens.door,
        audit.door,
    ]
