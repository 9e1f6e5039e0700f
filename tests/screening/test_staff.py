"""Who works where: roles begin and end, tokens name an actor and expire, nobody acts with yesterday's rights."""

import datetime as dt

import pytest
from sqlalchemy import text

from screening import access, db, staff
from screening.access import RoleAt, Scope
from screening.db import Database
from screening.errors import Conflict, NotFound, Refused
from tests.cast import Cast
from tests.factories import make_district, make_staff, unique

HOUR = dt.timedelta(hours=1)


def token_for(
    cast: Cast, actor: access.Actor, lifetime: dt.timedelta = HOUR, age: dt.timedelta = dt.timedelta()
) -> str:
    assert actor.account_id is not None
    with cast.database.unit(cast.scope) as session:
        issued_at = db.now(session) - age
        return staff.issue_token(session, actor.account_id, lifetime, by=cast.district_admin, now=issued_at)


def test_a_token_names_its_bearer_with_the_roles_of_the_moment(cast: Cast) -> None:
    found = staff.actor_by_token(cast.database, token_for(cast, cast.bo))
    assert found is not None
    assert (found.account_id, found.district_id, found.staff_id) == (
        cast.bo.account_id,
        cast.district.id,
        cast.bo.staff_id,
    )
    assert set(found.roles) == {RoleAt("counselor", cast.school_a.id), RoleAt("duty_officer", cast.school_a.id)}
    assert found.schools_as("counselor") == frozenset({cast.school_a.id})


def test_a_district_role_reaches_every_school(cast: Cast) -> None:
    found = staff.actor_by_token(cast.database, token_for(cast, cast.district_admin))
    assert found is not None
    assert found.schools_as("district_admin") is None


def test_an_unknown_an_expired_and_a_revoked_token_name_nobody(cast: Cast) -> None:
    assert staff.actor_by_token(cast.database, "made-up") is None
    assert staff.actor_by_token(cast.database, token_for(cast, cast.an, HOUR, age=HOUR * 2)) is None
    token = token_for(cast, cast.an)
    with cast.database.unit(cast.scope) as session:
        staff.revoke_token(session, token, by=cast.an, now=db.now(session))
        staff.revoke_token(session, token, by=cast.an, now=db.now(session))
    assert staff.actor_by_token(cast.database, token) is None


def test_a_token_cannot_be_revoked_from_another_district(cast: Cast) -> None:
    token = token_for(cast, cast.an)
    elsewhere = make_district(cast.database)
    with cast.database.unit(Scope(elsewhere.id)) as session, pytest.raises(NotFound):
        staff.revoke_token(session, token, by=access.system(elsewhere.id), now=db.now(session))
    assert staff.actor_by_token(cast.database, token) is not None


def test_a_disabled_account_acts_no_more(cast: Cast) -> None:
    token = token_for(cast, cast.an)
    with cast.database.unit(cast.scope) as session:
        session.execute(text("update accounts set disabled_at = now() where id = :id"), {"id": cast.an.account_id})
    assert staff.actor_by_token(cast.database, token) is None
    with cast.database.unit(cast.scope) as session:
        assert cast.an.staff_id not in staff.people_with(session, ["counselor"], cast.school_a.id)


def test_a_revoked_role_is_gone_at_the_next_request(cast: Cast) -> None:
    token = token_for(cast, cast.an)
    assert cast.an.staff_id is not None
    with cast.database.unit(cast.scope) as session:
        staff.revoke(session, cast.an.staff_id, "counselor", cast.school_a.id, by=cast.district_admin)
    found = staff.actor_by_token(cast.database, token)
    assert found is not None
    assert found.roles == ()
    assert found.scope_as(access.ROLES).schools == frozenset()


def test_a_token_is_kept_as_a_keyed_hash_only(cast: Cast) -> None:
    token = token_for(cast, cast.an)
    with cast.database.unit(cast.scope) as session:
        rows = session.execute(text("select t::text from tokens t")).scalars()
        assert not any(token in row or token.encode().hex() in row for row in rows)


def test_an_actor_is_found_by_address_in_any_case(database: Database) -> None:
    district = make_district(database)
    email = f"{unique('Li.Na')}@Example.test"
    with database.unit(Scope(district.id)) as session:
        hired, _ = make_staff(session, email=email, name="李娜")
        assert staff.email_of(session, hired.id) == email
        assert staff.name_of(session, hired.id) == "李娜"
    found = staff.actor_by_email(database, f" {email.upper()} ")
    assert found is not None
    assert found.staff_id == hired.id
    assert staff.actor_by_email(database, "nobody@example.test") is None


def test_an_address_has_one_account(cast: Cast) -> None:
    email = f"{unique('twice')}@example.test"
    with cast.database.unit(cast.scope) as session:
        make_staff(session, email=email)
    with cast.database.unit(cast.scope) as session, pytest.raises(Conflict):
        make_staff(session, email=email.upper())


def test_codes_are_given_once(cast: Cast) -> None:
    with pytest.raises(Conflict):
        staff.create_district(cast.database, cast.district.code, "Again")
    with cast.database.unit(cast.scope) as session, pytest.raises(Conflict):
        staff.create_school(session, "A", "Again", by=cast.district_admin)


def test_granting_twice_is_granting_once(cast: Cast) -> None:
    assert cast.an.staff_id is not None
    with cast.database.unit(cast.scope) as session:
        first = staff.grant(session, cast.an.staff_id, "lead", cast.school_a.id, by=cast.district_admin)
        again = staff.grant(session, cast.an.staff_id, "lead", cast.school_a.id, by=cast.district_admin)
        assert first.id == again.id


@pytest.mark.parametrize(
    ("role", "has_school"), [("wizard", True), ("counselor", False), ("district_admin", True), ("system", False)]
)
def test_a_role_in_the_wrong_place_is_refused(cast: Cast, role: str, has_school: bool) -> None:
    assert cast.an.staff_id is not None
    with cast.database.unit(cast.scope) as session, pytest.raises(Refused):
        school_id = cast.school_a.id if has_school else None
        staff.grant(session, cast.an.staff_id, role, school_id, by=cast.district_admin)


def test_a_role_at_no_school_of_the_district_is_not_found(cast: Cast) -> None:
    assert cast.an.staff_id is not None
    with cast.database.unit(cast.scope) as session, pytest.raises(NotFound):
        staff.grant(session, cast.an.staff_id, "counselor", cast.district.id, by=cast.district_admin)
    with cast.database.unit(cast.scope) as session, pytest.raises(NotFound):
        staff.revoke(session, cast.an.staff_id, "lead", cast.school_a.id, by=cast.district_admin)


def test_who_should_hear_is_of_the_school_first_then_of_the_district(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        assert set(staff.people_with(session, ["counselor"], cast.school_a.id)) == {cast.an.staff_id, cast.bo.staff_id}
        assert staff.people_with(session, ["duty_officer"], cast.school_a.id) == [
            cast.bo.staff_id,
            cast.duty_officer.staff_id,
        ]
        assert staff.people_with(session, ["duty_officer"], None) == [cast.duty_officer.staff_id]
        assert staff.people_with(session, ["counselor"], cast.school_c.id) == []


def test_a_token_lasts_a_while_and_is_for_an_account_of_the_district(cast: Cast) -> None:
    elsewhere = make_district(cast.database)
    assert cast.an.account_id is not None
    with cast.database.unit(cast.scope) as session, pytest.raises(Refused):
        staff.issue_token(session, cast.an.account_id, 0, by=cast.an, now=db.now(session))
    with cast.database.unit(Scope(elsewhere.id)) as session, pytest.raises(NotFound):
        staff.issue_token(session, cast.an.account_id, 5, by=access.system(elsewhere.id), now=db.now(session))


def test_what_was_done_is_kept_account_of(cast: Cast) -> None:
    token_for(cast, cast.an)
    with cast.database.unit(cast.scope) as session:
        make_staff(session, ("counselor", cast.school_a.id))
        actions = set(session.execute(text("select action from audit_entries")).scalars())
    assert {"district.created", "school.created", "account.created", "role.granted", "token.issued"} <= actions
