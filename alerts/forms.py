"""What is asked beside free words when something is written in a case: fields, and what came of it as a code. Pure.

The questions of the safety check are our own: what is there now (thoughts, plan, means, intent, earlier attempts) and
who is with the student. They sort nothing into diagnoses; they say who must not be left alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from screening.errors import Problem, Refused

Fields = Mapping[str, str | bool]
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Form:
    """A kind of entry: for each field the values it may have, the code of what came of it, and who may write it."""

    fields: Mapping[str, tuple[str, ...]]
    outcome: Callable[[Fields], str]
    roles: tuple[str, ...] = ("counselor", "lead")


FORMS: Mapping[str, Form] = {
    "guardian_contact": Form(
        {
            "how": ("phone", "meeting", "message", "home_visit"),
            "is_reached": YES_NO,
            "response": ("agrees", "undecided", "refuses", "none"),
        },
        lambda said: "reached" if said["is_reached"] else "not_reached",
    ),
    "absence": Form(
        {"is_guardian_phoned": YES_NO, "is_guardian_reached": YES_NO, "is_student_safe": YES_NO},
        lambda said: "safe" if said["is_student_safe"] else "reached" if said["is_guardian_reached"] else "unreached",
    ),
    "welfare_check": Form(
        {"decision": ("police", "home_visit", "not_needed")}, lambda said: str(said["decision"]), ("lead",)
    ),
    "bullying": Form(
        {
            "part": ("target", "bystander", "accused"),
            "kind": ("physical", "verbal", "relational", "online", "property"),
            "is_stopped": YES_NO,
            "is_reported_to_school": YES_NO,
            "are_guardians_told": YES_NO,
            "is_settled": YES_NO,
        },
        lambda said: "settled" if said["is_settled"] else "open",
    ),
    "mandatory_report": Form(
        {
            "to": ("public_security", "civil_affairs", "education"),
            "how": ("phone", "in_person", "letter"),
            "is_guardian_suspected": YES_NO,
        },
        lambda said: str(said["to"]),
    ),
    "leave": Form({"why": ("health", "family", "other"), "is_guardian_informed": YES_NO}, lambda said: "begun"),
    "return_assessment": Form(
        {
            "finding": ("fit", "fit_with_support", "not_yet"),
            "is_clinic_heard": YES_NO,
            "is_guardian_present": YES_NO,
        },
        lambda said: "not_yet" if said["finding"] == "not_yet" else "fit",
    ),
}
"""The mandatory report is that of article 11 of the Law on the Protection of Minors: whoever at a school finds a child
harmed or in danger reports it at once to public security, civil affairs or education."""

SAFETY_CHECK: Mapping[str, tuple[str, ...]] = {
    "thoughts": ("none", "passing", "frequent"),
    "plan": ("none", "vague", "specific"),
    "means": ("none", "within_reach"),
    "intent": ("none", "some", "strong"),
    "attempt": ("none", "earlier", "last_three_months"),
    "company": ("with_somebody", "alone"),
    "hold": ("several", "few", "none"),
}
"""What is asked in a safety check; `hold` is what speaks for living, in the student's own words kept in the note."""
SAFETY_OUTCOMES = ("disclosed", "denied", "misclick", "not_answered")
"""What the student said of the answer that led here. "misclick" is a finding like any other: it deletes nothing."""


def filled(kind: str, fields: Fields) -> str:
    """What came of a form of this kind. Raises Refused with every field that is missing, unknown or cannot be so."""
    form = FORMS.get(kind)
    if form is None:
        raise Refused(f"An entry is one of these: note, {', '.join(FORMS)}.", code="unknown_entry")
    _refuse_wrong(form.fields, fields)
    return form.outcome(fields)


def risk_of(answers: Fields) -> str:
    """How a safety check ends: `none`, `raised` or `imminent`. Raises Refused with every answer that cannot be so."""
    _refuse_wrong(SAFETY_CHECK, answers)
    has_plan_at_hand = answers["plan"] == "specific" and answers["means"] == "within_reach"
    if answers["intent"] == "strong" or has_plan_at_hand:
        return "imminent"
    is_quiet = answers["thoughts"] != "frequent" and answers["plan"] == "none" and answers["intent"] == "none"
    return "none" if is_quiet and answers["attempt"] != "last_three_months" else "raised"


def _refuse_wrong(wanted: Mapping[str, tuple[str, ...]], fields: Fields) -> None:
    problems = []
    for name, allowed in wanted.items():
        if name not in fields:
            problems.append(Problem("field_missing", f"{name} is missing.", column=name))
        elif allowed == YES_NO and not isinstance(fields[name], bool):
            problems.append(Problem("field_unknown", f"{name} is true or false.", column=name))
        elif allowed != YES_NO and fields[name] not in allowed:
            problems.append(Problem("field_unknown", f"{name} is one of these: {', '.join(allowed)}.", column=name))
    problems += [Problem("field_unknown", f"{name} is not asked here.", column=name) for name in fields.keys() - wanted]
    if problems:
        raise Refused("This form is not complete.", code="form_incomplete", problems=problems)
