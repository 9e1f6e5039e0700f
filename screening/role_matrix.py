"""The privacy matrix as it was signed: which role sees how much of which kind of data, and who may change it.

Doors, field lists and tests are driven from here: a role that is not named sees nothing.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from screening.access import ROLES

Reach = Literal["own", "assigned", "class", "school", "district", "safety", "urgency", "counts", "masked", "released"]
"""How far a role sees into a kind of data.

own: one's own; assigned: of students one has to do with; class, school, district: of those; safety: tiers and the
items of safety; urgency: that somebody must look and by when; counts: numbers of a school; masked: codes and
pseudonyms; released: statistics after suppression.
"""
Kind = Literal[
    "account",
    "account_log",
    "access",
    "alert",
    "answers",
    "arrangements",
    "case",
    "codes",
    "completion",
    "concern",
    "consent",
    "directory",
    "emergency",
    "exports",
    "files",
    "follow_up",
    "form",
    "leaving",
    "library",
    "merges",
    "notes",
    "rights",
    "roster",
    "round",
    "rules",
    "service",
    "staff",
    "statistics",
    "tiers",
]
KINDS: frozenset[Kind] = frozenset(get_args(Kind))

_STAFF = ROLES - {"guardian", "student", "referral_partner"}
_CARE: Mapping[str, Reach] = {"counselor": "school", "lead": "school"}
_LOOK: Mapping[str, Reach] = {**_CARE, "principal": "urgency", "duty_officer": "urgency", "district_admin": "urgency"}

READS: Mapping[Kind, Mapping[str, Reach]] = {
    "account": dict.fromkeys(ROLES, "own"),
    "account_log": {"auditor": "masked", "privacy_officer": "masked", "student": "own", "guardian": "own"},
    "access": {
        **dict.fromkeys(("counselor", "principal", "duty_officer"), "own"),
        "lead": "school",
        "privacy_officer": "district",
        "auditor": "counts",
        "district_admin": "counts",
    },
    "alert": _LOOK,
    "answers": {"counselor": "assigned", "lead": "safety"},
    "arrangements": dict.fromkeys(_STAFF, "district"),
    "case": _CARE,
    "codes": {},
    "completion": {
        **_CARE,
        "school_admin": "school",
        "class_teacher": "class",
    },
    "concern": {},
    "consent": {**_CARE, "school_admin": "school", "principal": "counts", "student": "own", "guardian": "own"},
    "directory": dict.fromkeys(_STAFF, "district"),
    "emergency": dict.fromkeys(("lead", "principal", "duty_officer"), "own"),
    "exports": {"lead": "school", "principal": "school", "privacy_officer": "district", "auditor": "masked"},
    "files": {**_CARE, "school_admin": "school", "district_admin": "counts"},
    "follow_up": {**_CARE, "principal": "urgency"},
    "form": {"counselor": "own", "lead": "own", "student": "own"},
    "leaving": dict.fromkeys(("district_admin", "privacy_officer", "auditor"), "district"),
    "library": dict.fromkeys(_STAFF, "district"),
    "merges": {**_CARE, "school_admin": "school", "district_admin": "district"},
    "notes": {"counselor": "assigned", "lead": "safety"},
    "rights": {"student": "own", "guardian": "own", "lead": "school", "privacy_officer": "district"},
    "roster": {**_CARE, "school_admin": "school"},
    "round": {
        **_CARE,
        **dict.fromkeys(("principal", "school_admin", "class_teacher", "duty_officer", "district_admin"), "district"),
        "district_analyst": "district",
        "auditor": "district",
    },
    "rules": dict.fromkeys(
        (
            "counselor",
            "lead",
            "school_admin",
            "district_analyst",
            "district_admin",
            "privacy_officer",
            "auditor",
        ),
        "district",
    ),
    "service": {},
    "staff": {"district_admin": "district"},
    "statistics": {
        **dict.fromkeys(("counselor", "lead", "principal", "school_admin", "class_teacher"), "counts"),
        **dict.fromkeys(("district_analyst", "district_admin", "privacy_officer"), "released"),
    },
    "tiers": {"counselor": "assigned", "lead": "school"},
}
"""Who sees a kind of data, and how far."""

CHANGES: Mapping[Kind, frozenset[str]] = {
    "account": ROLES,
    "access": frozenset({"counselor", "lead", "principal", "duty_officer", "privacy_officer"}),
    "alert": frozenset({"counselor", "lead", "principal", "duty_officer", "district_admin"}),
    "arrangements": frozenset({"district_admin", "lead", "principal", "school_admin"}),
    "case": frozenset({"counselor", "lead"}),
    "codes": frozenset({"lead", "school_admin"}),
    "concern": frozenset(_STAFF) - {"operator", "district_analyst", "privacy_officer", "auditor"},
    "consent": frozenset({"counselor", "lead", "school_admin", "student", "guardian"}),
    "directory": frozenset({"district_admin"}),
    "emergency": frozenset({"lead", "principal", "duty_officer"}),
    "exports": frozenset({"lead", "principal", "privacy_officer"}),
    "files": frozenset({"counselor", "lead", "school_admin", "district_admin"}),
    "follow_up": frozenset({"counselor", "lead"}),
    "form": frozenset({"counselor", "lead", "student"}),
    "leaving": frozenset({"district_admin", "privacy_officer"}),
    "merges": frozenset({"lead", "school_admin", "district_admin"}),
    "rights": frozenset({"student", "guardian", "lead", "school_admin", "privacy_officer"}),
    "roster": frozenset({"school_admin", "district_admin"}),
    "round": frozenset({"district_admin"}),
    "rules": frozenset({"district_admin"}),
    "staff": frozenset({"district_admin"}),
    "statistics": frozenset({"district_admin"}),
}
"""Who may change a kind of data, or add to it."""

FIELDS: Mapping[Kind, frozenset[str]] = {
    "answers": frozenset({"answers"}),
    "tiers": frozenset(
        {"tier", "reasons", "has_self_harm", "scores", "bands", "validity", "prior_tier", "tier_red", "tier_orange"}
    ),
    "roster": frozenset({"student_name", "sex", "born_month"}),
    "notes": frozenset({"concerns", "triages", "summary", "answer", "story", "interviews", "goals", "knows"}),
}
"""Names in an answer's body that carry a kind of data: filled only for roles that see it."""


def reach(kind: Kind, role: str) -> Reach | None:
    """How far this role sees into that kind of data; None: not at all."""
    return READS.get(kind, {}).get(role)


def openers(kind: Kind, *, changes: bool) -> frozenset[str]:
    """The roles to which a door to this kind of data may open."""
    return CHANGES.get(kind, frozenset()) if changes else frozenset(READS.get(kind, {}))


def hidden(role: str) -> frozenset[str]:
    """The names that must never be filled in an answer to this role, and this role alone."""
    kinds = (kind for kind in FIELDS if reach(kind, role) is None)
    return frozenset(name for kind in kinds for name in FIELDS[kind])
