"""Sessions: nobody plants one, no other site uses one, and none outlives what it rests on."""

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import event, text

from api.app import create_app
from screening import access, accounts, sessions, staff
from screening.db import Database
from tests.cast import Cast
from tests.doors import Caller, app_on, settings
from tests.signing import PASSWORD, Browser, Known, browser, do, somebody_known, token_of

ACK = f"/v1/alerts/{uuid.UUID(int=7)}/acknowledgement"


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@pytest.fixture
def counselor(cast: Cast) -> Known:
    return somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))


@pytest.fixture
def here(app: FastAPI, counselor: Known) -> Browser:
    """The counselor's browser, signed in."""
    opened = browser(app, address=f"10.1.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}")
    opened.sign_in(counselor)
    return opened


def is_in(one: Browser) -> bool:
    status = one.get("/v1/alerts").status_code
    assert status in (200, 401)
    return status == 200


# -- cookies --------------------------------------------------------------------------------------------


def test_a_planted_session_is_not_kept(app: FastAPI, counselor: Known) -> None:
    victim = browser(app, address="10.2.0.1")
    victim.client.cookies.set("screening", "planted-by-somebody-else-0123456789")
    came = victim.sign_in(counselor)
    secret = came.cookies["screening"]
    assert secret != "planted-by-somebody-else-0123456789"
    attacker = browser(app)
    attacker.client.cookies.set("screening", "planted-by-somebody-else-0123456789")
    assert not is_in(attacker)
    again = victim.sign_in(counselor)
    assert again.cookies["screening"] != secret


def test_the_first_step_gives_no_session(app: FastAPI, counselor: Known) -> None:
    one = browser(app, address="10.2.0.2")
    came = one.first_step(counselor.email)
    assert came.json()["state"] == "second_factor_needed"
    assert "set-cookie" not in came.headers
    one.client.cookies.set("screening", came.json()["challenge"])
    assert one.get("/v1/alerts").status_code == 401


def test_in_production_cookies_are_bound_to_the_host_and_to_https(database: Database, counselor: Known) -> None:
    safe = dataclasses.replace(settings(), base_url="https://screening.example")
    one = browser(create_app(database, safe), address="10.2.0.3", base="https://screening.example")
    came = one.sign_in(counselor)
    kept = {line.split("=")[0]: line for line in came.headers.get_list("set-cookie")}
    assert set(kept) == {"__Host-screening", "__Host-screening-device"}
    for line in kept.values():
        flags = {part.strip().lower() for part in line.split(";")[1:]}
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)
    assert is_in(one)
    plain = browser(create_app(database, safe), base="https://screening.example")
    plain.client.cookies.set("screening", one.client.cookies["__Host-screening"])
    assert plain.get("/v1/alerts").status_code == 401  # under the name that http could set it is nothing


def test_in_development_cookies_are_kept_from_scripts_too(app: FastAPI, counselor: Known) -> None:
    came = browser(app, address="10.2.0.4").sign_in(counselor)
    for line in came.headers.get_list("set-cookie"):
        assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in line.split(";")}


# -- other sites ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({}, True),
        ({"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}, True),
        ({"X-CSRF-Token": ""}, False),
        ({"X-CSRF-Token": "0" * 32}, False),
        ({"X-CSRF-Token": "ключ".encode()}, False),
        ({"Origin": "https://elsewhere.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://testserver.elsewhere.example"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_a_change_by_cookie_must_come_from_our_own_page(
    here: Browser, headers: dict[str, str | bytes], is_taken: bool
) -> None:
    came = here.post(ACK, headers=headers)
    assert came.status_code == (404 if is_taken else 403)
    if not is_taken:
        assert came.json()["code"] == "csrf"
    assert is_in(here)


def test_one_sessions_token_is_no_others(app: FastAPI, here: Browser, counselor: Known) -> None:
    other = browser(app, address="10.2.0.5")
    other.sign_in(counselor)
    assert here.post(ACK, headers={"X-CSRF-Token": other.csrf}).status_code == 403
    assert here.get("/v1/sessions/current").json()["csrf_token"] == here.csrf


def test_whoever_bears_a_token_needs_no_other(app: FastAPI, counselor: Known) -> None:
    caller = Caller(browser(app).client, token_of(app.state.database, counselor))
    assert caller.post(ACK, headers={"Origin": "https://elsewhere.example"}).status_code == 404


def test_another_site_signs_nobody_in(app: FastAPI, counselor: Known) -> None:
    one = browser(app, address="10.2.0.6")
    assert one.first_step(counselor.email, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    as_form = f'{{"email": "{counselor.email}", "password": "{PASSWORD}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        came = one.post("/v1/sessions", content=as_form, headers={"Content-Type": kind})
        assert came.status_code == 422


# -- ends -----------------------------------------------------------------------------------------------


def test_after_signing_out_the_cookie_is_nothing(app: FastAPI, here: Browser) -> None:
    secret = here.client.cookies["screening"]
    came = here.ask("DELETE", "/v1/sessions/current")
    assert came.status_code == 204
    assert "screening" not in here.client.cookies
    here.client.cookies.set("screening", secret)
    assert not is_in(here)


@pytest.mark.parametrize(("minutes", "is_kept"), [(13, True), (16, False)])
def test_a_session_that_stands_idle_is_over(
    database: Database, counselor: Known, here: Browser, minutes: int, is_kept: bool
) -> None:
    _age(database, counselor, seen=dt.timedelta(minutes=minutes))
    assert is_in(here) == is_kept
    if is_kept:  # and use keeps it alive
        _age(database, counselor, seen=dt.timedelta(minutes=minutes))
        assert is_in(here)


def test_a_session_is_over_after_eight_hours_however_it_is_used(
    database: Database, counselor: Known, here: Browser
) -> None:
    for _ in range(8 * 6 - 1):
        _age(database, counselor, seen=dt.timedelta(minutes=10), whole=dt.timedelta(minutes=10))
        assert is_in(here)
    _age(database, counselor, seen=dt.timedelta(minutes=10), whole=dt.timedelta(minutes=10))
    assert not is_in(here)


def _age(
    database: Database, who: Known, *, seen: dt.timedelta = dt.timedelta(), whole: dt.timedelta = dt.timedelta()
) -> None:
    """As if so much of the database's time had gone by."""
    do(
        database,
        "update sessions set seen_at = seen_at - :seen, expires_at = expires_at - :whole where account_id = :id",
        seen=seen,
        whole=whole,
        id=who.account_id,
    )


Change = Callable[[Cast, Known], None]


def _revoked(cast: Cast, who: Known) -> None:
    with cast.database.unit(cast.scope) as session:
        staff.revoke(session, who.staff_id, "counselor", cast.school_a.id, by=cast.district_admin)


def _given(cast: Cast, who: Known) -> None:
    with cast.database.unit(cast.scope) as session:
        staff.grant(session, who.staff_id, "class_teacher", cast.school_a.id, by=cast.district_admin)


def _moved(cast: Cast, who: Known) -> None:
    _revoked(cast, who)
    with cast.database.unit(cast.scope) as session:
        staff.grant(session, who.staff_id, "counselor", cast.school_b.id, by=cast.district_admin)


def _new_password(cast: Cast, who: Known) -> None:
    with cast.database.unit(cast.scope) as session:
        accounts.set_password(session, who.account_id, "other lanterns at dusk 4", email=None, by=who.actor)


def _reset(cast: Cast, who: Known) -> None:
    with cast.database.unit(cast.scope) as session:
        accounts.reset_second_factor(session, who.account_id, by=cast.district_admin)


def _ended(cast: Cast, who: Known) -> None:
    with cast.database.unit(cast.scope) as session:
        accounts.disable(session, who.account_id, by=cast.district_admin)


@pytest.mark.parametrize("change", [_revoked, _given, _moved, _new_password, _reset, _ended])
def test_the_next_request_after_a_change_is_refused(
    app: FastAPI, cast: Cast, counselor: Known, here: Browser, change: Change
) -> None:
    other = browser(app, address="10.2.0.7")
    colleague = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    other.sign_in(colleague)
    token = Caller(browser(app).client, token_of(cast.database, counselor))
    halfway = browser(app, address="10.2.0.8").first_step(counselor.email).json()["challenge"]
    assert is_in(here)
    change(cast, counselor)
    assert here.get("/v1/accounts/me").status_code == 401
    came = browser(app, address="10.2.0.9").second_step(halfway, counselor.code() if counselor.secret else "000000")
    assert came.status_code == 401  # what was halfway is over too
    # a token lives on under the roles of the moment, unless what it rests on was changed
    lives_on = change in (_revoked, _given, _moved)
    assert (token.get("/v1/accounts/me").status_code != 401) == lives_on
    assert is_in(other)


def test_changing_ones_password_ends_every_session(app: FastAPI, here: Browser, counselor: Known) -> None:
    other = browser(app, address="10.2.0.10")
    other.sign_in(counselor)
    wrong = here.ask("PUT", "/v1/accounts/me/password", json={"current": "no", "new": "other lanterns at dusk 4"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
    weak = here.ask("PUT", "/v1/accounts/me/password", json={"current": PASSWORD, "new": "short"})
    assert (weak.status_code, weak.json()["code"]) == (422, "invalid_password")
    done = here.ask("PUT", "/v1/accounts/me/password", json={"current": PASSWORD, "new": "other lanterns at dusk 4"})
    assert done.status_code == 204
    assert not is_in(here)
    assert not is_in(other)
    assert here.first_step(counselor.email).status_code == 401
    assert here.first_step(counselor.email, "other lanterns at dusk 4").status_code == 200


def test_ones_own_sessions_are_listed_and_ended(app: FastAPI, cast: Cast, here: Browser, counselor: Known) -> None:
    other = browser(app, address="10.2.0.11")
    other.sign_in(counselor)
    found = here.get("/v1/sessions").json()["sessions"]
    assert [one["is_this"] for one in found] == [False, True]
    stranger = browser(app, address="10.2.0.12")
    stranger.sign_in(somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id)))
    assert stranger.ask("DELETE", f"/v1/sessions/{found[0]['id']}").status_code == 404
    assert is_in(other)
    assert here.ask("DELETE", f"/v1/sessions/{found[0]['id']}").status_code == 204
    assert here.ask("DELETE", f"/v1/sessions/{found[0]['id']}").status_code == 404
    assert not is_in(other)
    assert is_in(here)
    assert len(here.get("/v1/sessions").json()["sessions"]) == 1


def test_a_repeated_keyed_request_is_answered_by_cookie_too(app: FastAPI, cast: Cast) -> None:
    admin = browser(app, address="10.2.0.13")
    admin.sign_in(somebody_known(cast.database, cast.scope, ("district_admin", None)))
    body = {"code": "Z9", "name": "Ninth School"}
    first = admin.post("/v1/schools", json=body, headers={"Idempotency-Key": "k1"})
    again = admin.post("/v1/schools", json=body, headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())


def test_what_is_long_over_is_deleted(database: Database, counselor: Known, here: Browser) -> None:
    _age(database, counselor, whole=dt.timedelta(days=31))
    with database.unit() as session:
        sessions.forget(session)
        left = session.execute(
            text("select count(*) from sessions where account_id = :id"), {"id": counselor.account_id}
        )
        assert left.scalar() == 0


# -- tokens for machines --------------------------------------------------------------------------------


def test_a_token_is_made_in_a_session_only_and_listed_and_ended(app: FastAPI, here: Browser) -> None:
    made = here.post("/v1/tokens", json={"minutes": 60}).json()["token"]
    machine = Caller(browser(app).client, made)
    assert machine.get("/v1/alerts").status_code == 200
    assert machine.post("/v1/tokens", json={"minutes": 60}).json()["code"] == "session_needed"
    [listed] = here.get("/v1/tokens").json()["tokens"]
    assert made not in str(listed)
    assert here.ask("DELETE", f"/v1/tokens/{listed['id']}").status_code == 204
    assert machine.get("/v1/alerts").status_code == 401
    assert here.get("/v1/tokens").json()["tokens"] == []


def test_a_token_acts_in_its_roles_and_for_its_purpose_only(app: FastAPI, cast: Cast) -> None:
    both = somebody_known(
        cast.database, cast.scope, ("counselor", cast.school_a.id), ("school_admin", cast.school_a.id)
    )
    office = Caller(browser(app).client, token_of(cast.database, both, roles=["school_admin"]))
    assert office.get("/v1/alerts").status_code == 403
    assert office.get("/v1/students").status_code == 200
    reading = Caller(browser(app).client, token_of(cast.database, both, purpose="reading"))
    assert reading.get("/v1/alerts").status_code == 200
    refused = reading.post(ACK)
    assert (refused.status_code, refused.json()["code"]) == (403, "token_purpose")
    sending = Caller(browser(app).client, token_of(cast.database, both, purpose="sending"))
    assert sending.get("/v1/alerts").status_code == 403
    assert sending.get("/v1/rounds").status_code == 200
    assert (
        sending.post("/v1/rosters", files={"file": ("r.csv", "student_number,student_name,grade\n")}).status_code == 202
    )
    assert sending.get("/v1/accounts/me").status_code == 200
    assert sending.ask("DELETE", "/v1/tokens/current").status_code == 204
    # a role that was taken is gone from the token as well
    with cast.database.unit(cast.scope) as session:
        staff.revoke(session, both.staff_id, "school_admin", cast.school_a.id, by=cast.district_admin)
    assert office.get("/v1/students").status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"minutes": 0},
        {"minutes": 366 * 24 * 60 + 1},
        {"minutes": 5, "purpose": "ranking"},
        {"minutes": 5, "roles": []},
        {"minutes": 5, "roles": ["emperor"]},
    ],
)
def test_a_token_of_no_sense_is_not_made(here: Browser, body: dict[str, object]) -> None:
    assert here.post("/v1/tokens", json=body).status_code == 422


# -- what it costs --------------------------------------------------------------------------------------


def test_a_session_is_looked_up_in_no_more_statements_than_a_token(
    database: Database, counselor: Known, here: Browser
) -> None:
    token, secret = token_of(database, counselor), here.client.cookies["screening"]
    asked: list[str] = []

    def listen(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", listen)
    try:
        assert staff.actor_by_token(database, token) is not None
        by_token = len(asked)
        assert sessions.actor_by_session(database, secret) is not None
    finally:
        event.remove(database.engine, "before_cursor_execute", listen)
    assert len(asked) - by_token == by_token


def test_an_actor_of_a_session_says_when_the_second_factor_was_shown(
    database: Database, counselor: Known, here: Browser
) -> None:
    found = sessions.actor_by_session(database, here.client.cookies["screening"])
    assert found is not None
    assert found.proved_at is not None
    assert found.own == {}
    assert isinstance(found, access.Actor)
