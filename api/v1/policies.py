"""The rules by which answers become tiers, and tiers become work."""

from collections.abc import Mapping

from api.deps import Door, Tier, View, tier_name
from screening import policy
from screening.errors import NotFound

door = Door(prefix="/v1/policies", tag="policies")

READING = frozenset(
    {"counselor", "lead", "school_admin", "district_analyst", "district_admin", "privacy_officer", "auditor"}
)
SHIPPED = ("cn_default",)


class RuleView(View):
    """One rule as the policy's file says it."""

    id: str
    tier: Tier
    kind: str
    when: str
    title: dict[str, str]


class PolicyView(View):
    code: str
    version: str
    digest: str
    title: dict[str, str]
    tier_names: dict[str, list[str]]
    student_consents_from_age: int
    disclosure_k: int
    rules: list[RuleView]
    closure_reasons: dict[str, dict[str, str]]


class PoliciesView(View):
    policies: list[PolicyView]


@door.get("", roles=READING)
def listed() -> PoliciesView:
    """The policies that ship."""
    return PoliciesView(policies=[_shown(code) for code in SHIPPED])


@door.get("/{code}", roles=READING)
def show(code: str) -> PolicyView:
    """One policy."""
    if code not in SHIPPED:
        raise NotFound("There is no such policy.")
    return _shown(code)


def _shown(code: str) -> PolicyView:
    found = policy.shipped(code)
    return PolicyView(
        code=found.code,
        version=found.version,
        digest=found.digest,
        title=dict(found.title),
        tier_names={locale: list(names) for locale, names in found.tier_names.items()},
        student_consents_from_age=found.consent.student_from_age,
        disclosure_k=found.disclosure_k,
        rules=[
            RuleView(id=rule.id, tier=tier_name(rule.tier), kind=rule.kind, when=rule.text, title=dict(rule.title))
            for rule in (*found.rules, *found.combinations)
        ],
        closure_reasons=_titles(found.closure.reasons),
    )


def _titles(reasons: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {reason: dict(titles) for reason, titles in reasons.items()}
