"""Accounts in the operator's shell: a first way in, a way back, and an end."""

import pytest

from api.cli import app
from screening import signing_in, staff
from screening.errors import NotSignedIn
from screening.signing_in import Whence
from tests.api.test_command import Shell, run
from tests.cast import Cast
from tests.doors import Caller, app_on
from tests.signing import PASSWORD, browser, somebody_known

assert run  # the fixture
assert app
HERE = Whence("10.6.0.1")


def test_an_invitation_from_the_shell_sets_a_password(cast: Cast, run: Shell) -> None:
    who = somebody_known(cast.database, cast.scope, ("district_admin", None), password=None, has_second_factor=False)
    came = run("account", "invite", "--email", who.email)
    assert came.exit_code == 0, came.output
    link = came.stdout.splitlines()[0]
    assert link.startswith("http://127.0.0.1:8000/welcome#")
    one = browser(app_on(cast.database), address="10.6.0.2")
    body = {"invitation": link.partition("#")[2], "password": PASSWORD}
    assert one.post("/v1/sessions/invitation", json=body).status_code == 204
    assert one.first_step(who.email).json()["state"] == "enrollment_needed"


def test_a_lost_second_factor_is_taken_away_and_an_account_ended(cast: Cast, run: Shell) -> None:
    who = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    assert run("account", "reset-second-factor", "--email", who.email).exit_code == 0
    assert signing_in.sign_in(cast.database, who.email, PASSWORD, HERE).stage == "enrollment"
    assert run("account", "end", "--email", who.email).exit_code == 0
    with pytest.raises(NotSignedIn):
        signing_in.sign_in(cast.database, who.email, PASSWORD, HERE)
    assert staff.actor_by_email(cast.database, who.email) is None
    assert run("account", "end", "--email", who.email).exit_code == 2


def test_a_token_from_the_shell_may_be_for_one_role_or_purpose(cast: Cast, run: Shell) -> None:
    who = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id), ("school_admin", cast.school_a.id))
    client = browser(app_on(cast.database)).client
    for words, opens in (
        (("--role", "school_admin"), {"/v1/students": 200, "/v1/alerts": 403}),
        (("--purpose", "sending"), {"/v1/rounds": 200, "/v1/alerts": 403}),
    ):
        token = run("token", "--email", who.email, *words).stdout.strip()
        assert {address: Caller(client, token).get(address).status_code for address in opens} == opens
    assert run("token", "--email", who.email, "--purpose", "ranking").exit_code == 2
    assert run("token", "--email", who.email, "--role", "emperor").exit_code == 2


def test_after_a_theft_everybody_signs_in_again(cast: Cast, run: Shell) -> None:
    client = browser(app_on(cast.database)).client
    who = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    token = run("token", "--email", who.email).stdout.strip()
    assert Caller(client, token).get("/v1/alerts").status_code == 200
    assert run("account", "sign-out", "--district", cast.district.code).exit_code == 0
    assert Caller(client, token).get("/v1/alerts").status_code == 401
    assert signing_in.sign_in(cast.database, who.email, PASSWORD, HERE).stage == "second_factor"
