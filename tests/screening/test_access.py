"""What an actor holds where: pure rules, each of which a careless change would widen."""

import uuid

import pytest

from screening import role_matrix
from screening.access import ROLES, Actor, RoleAt, Scope
from screening.role_matrix import FIELDS, KINDS, READS

A, B = uuid.UUID(int=1), uuid.UUID(int=2)
DISTRICT = uuid.UUID(int=9)


def actor(*held: tuple[str, uuid.UUID | None]) -> Actor:
    return Actor(uuid.UUID(int=5), DISTRICT, roles=tuple(RoleAt(role, school) for role, school in held))


def test_a_role_is_held_at_its_school_or_in_the_whole_district() -> None:
    counselor, analyst = actor(("counselor", A)), actor(("district_analyst", None))
    assert counselor.has("counselor", school_id=A)
    assert not counselor.has("counselor", school_id=B)
    assert not counselor.has("lead", school_id=A)
    assert analyst.has("district_analyst", school_id=B)


def test_only_the_roles_of_a_door_make_its_scope() -> None:
    both = actor(("counselor", A), ("school_admin", B))
    assert both.scope_as({"counselor"}) == Scope(DISTRICT, frozenset({A}))
    assert both.scope_as({"counselor", "school_admin"}) == Scope(DISTRICT, frozenset({A, B}))
    assert both.scope_as({"lead"}) == Scope(DISTRICT, frozenset())
    assert actor(("counselor", A), ("duty_officer", None)).scope_as({"duty_officer"}).schools is None


def test_nobody_who_has_no_code_may_name_what_is_anybodys() -> None:
    student = Actor(None, DISTRICT, own={"student_id": A})
    assert student.may_name("student_id", str(A).upper())
    assert not student.may_name("student_id", str(B))
    assert not student.may_name("case_id", str(A))


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_that_the_matrix_does_not_name_sees_nothing(role: str) -> None:
    for kind in KINDS:
        assert (role_matrix.reach(kind, role) is None) == (role not in READS[kind])
    for kind, names in FIELDS.items():
        assert (names <= role_matrix.hidden(role)) == (role not in READS[kind])


def test_answers_are_seen_by_those_who_have_to_do_with_the_student_alone() -> None:
    assert READS["answers"] == {"counselor": "assigned", "lead": "safety"}
    assert {role for role, far in READS["account_log"].items() if far != "own"} == {"auditor", "privacy_officer"}
    for role in ("operator", "class_teacher", "staff_member", "referral_partner"):
        seen = {kind for kind in KINDS if role_matrix.reach(kind, role)}
        assert not seen & {"answers", "tiers", "notes", "roster", "alert", "case", "emergency"}, role
