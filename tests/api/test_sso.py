"""Signing in through a district's own service: a real provider on a local port, by the book and against it."""

import dataclasses
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import FastAPI
from httpx2 import Response

from api.app import create_app
from screening.db import Database
from screening.settings import SignInService
from tests.api import provider as providers
from tests.api.provider import CLIENT, SECRET, Provider
from tests.cast import Cast
from tests.doors import app_on, settings
from tests.factories import unique
from tests.signing import Browser, Known, browser, somebody_known


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with providers.running() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.who, running.lies, running.endpoints, running.signs_with = {}, {}, {}, "own"
    running.asked.clear()
    return running


@pytest.fixture(scope="module")
def app(database: Database, running: Provider) -> FastAPI:
    service = SignInService(issuer=running.address, client_id=CLIENT, secret=SECRET, hosts=frozenset({"127.0.0.1"}))
    return create_app(database, dataclasses.replace(settings(), sign_in_service=service))


@pytest.fixture
def here(app: FastAPI, provider: Provider) -> Browser:
    return browser(app, address=f"10.5.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}")


@pytest.fixture
def counselor(cast: Cast) -> Known:
    return somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id), password=None)


def vouch(provider: Provider, who: Known, **more: Any) -> None:
    claims = {"sub": unique("subject"), "email": who.email, "email_verified": True, "amr": ["pwd", "mfa"]}
    provider.who = claims | more


def to_the_service(one: Browser) -> str:
    came = one.get("/v1/sessions/sso", follow_redirects=False)
    assert came.status_code == 303, came.text
    return str(came.headers["location"])


def back(one: Browser, address: str) -> Response:
    """What the browser does there, and what we say to what it brings back."""
    with httpx2.Client(trust_env=False) as there:
        returned = there.get(address).headers["location"]
    return one.get(urlsplit(returned)._replace(scheme="", netloc="").geturl())


def test_whoever_it_vouches_for_is_signed_in(here: Browser, provider: Provider, counselor: Known) -> None:
    vouch(provider, counselor)
    came = back(here, to_the_service(here))
    assert came.json()["state"] == "signed_in", came.text
    assert here.get("/v1/alerts").status_code == 200
    assert "screening-sso" not in here.client.cookies
    [asked] = provider.asked
    assert (asked["response_type"], asked["code_challenge_method"], asked["scope"]) == ("code", "S256", "openid email")
    assert len(asked["nonce"]) >= 32
    assert len(asked["state"]) >= 32


def test_next_time_the_subject_counts_and_not_the_address(
    here: Browser, provider: Provider, counselor: Known, cast: Cast
) -> None:
    vouch(provider, counselor, sub="subject-" + counselor.email)
    back(here, to_the_service(here))
    other = somebody_known(cast.database, cast.scope, ("counselor", cast.school_b.id), password=None)
    provider.who["email"] = other.email
    assert back(here, to_the_service(here)).status_code == 200
    assert here.get("/v1/accounts/me").json()["id"] == str(counselor.staff_id)
    # and another subject does not take over an account that is linked
    vouch(provider, counselor)
    assert back(here, to_the_service(here)).status_code == 401


@pytest.mark.parametrize("amr", [None, ["pwd"], [], ["face"]])
def test_where_it_asked_for_a_password_only_our_second_factor_is_asked_for(
    here: Browser, provider: Provider, counselor: Known, amr: list[str] | None
) -> None:
    vouch(provider, counselor, amr=amr)
    first = back(here, to_the_service(here)).json()
    assert first["state"] == "second_factor_needed"
    assert here.get("/v1/accounts/me").status_code == 401
    assert here.second_step(first["challenge"], counselor.code()).json()["state"] == "signed_in"


@pytest.mark.parametrize(
    "lie",
    [
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": "nobody-at-all@example.test"},
        {"iss": "https://elsewhere.example"},
        {"aud": "another client"},
        {"aud": None},
        {"nonce": "another nonce"},
        {"nonce": None},
        {"exp": int(time.time()) - 3_600},
        {"exp": None},
        {"iat": int(time.time()) + 3_600},
        {"sub": None},
        {"azp": "another client", "aud": [CLIENT, "another client"]},
    ],
)
def test_a_token_that_does_not_add_up_signs_nobody_in(
    here: Browser, provider: Provider, counselor: Known, lie: dict[str, object]
) -> None:
    vouch(provider, counselor)
    provider.lies = lie
    came = back(here, to_the_service(here))
    assert (came.status_code, came.json()["code"]) == (401, "not_signed_in"), came.text
    assert "screening" not in here.client.cookies


@pytest.mark.parametrize("signs_with", ["other", "none", "public"])
def test_a_token_signed_otherwise_signs_nobody_in(
    here: Browser, provider: Provider, counselor: Known, signs_with: str
) -> None:
    vouch(provider, counselor)
    provider.signs_with = signs_with
    assert back(here, to_the_service(here)).status_code == 401


def test_what_another_browser_began_is_nothing_here(
    app: FastAPI, here: Browser, provider: Provider, counselor: Known
) -> None:
    vouch(provider, counselor)
    victim = browser(app, address="10.5.251.1")
    to_the_service(victim)
    assert back(victim, to_the_service(here)).status_code == 401  # the attacker's code and state, the victim's browser
    assert back(browser(app, address="10.5.251.2"), to_the_service(here)).status_code == 401


def test_a_code_is_good_once_and_an_attempt_ten_minutes(
    here: Browser, provider: Provider, counselor: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    vouch(provider, counselor)
    address = to_the_service(here)
    kept = here.client.cookies["screening-sso"]
    with httpx2.Client(trust_env=False) as there:
        returned = urlsplit(there.get(address).headers["location"])
    again = returned._replace(scheme="", netloc="").geturl()
    assert here.get(again).status_code == 200
    here.client.cookies.clear()
    here.client.cookies.set("screening-sso", kept)
    assert here.get(again).status_code == 401
    from api import sso

    address = to_the_service(here)
    monkeypatch.setattr(sso, "SECONDS", -1)
    assert back(here, address).status_code == 401


def test_a_refusal_there_is_one_here(here: Browser) -> None:
    to_the_service(here)
    assert here.get("/v1/sessions/sso/callback?error=access_denied&state=x").status_code == 401
    assert here.get("/v1/sessions/sso/callback").status_code == 401
    assert here.get(f"/v1/sessions/sso/callback?code={'x' * 3_000}").status_code == 422


def test_nothing_is_fetched_from_a_host_that_is_not_named(here: Browser, provider: Provider) -> None:
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "issuer"):
        provider.endpoints = {name: "http://169.254.169.254/latest"}
        if name in ("authorization_endpoint", "issuer"):
            assert here.get("/v1/sessions/sso", follow_redirects=False).status_code == 503
        else:
            came = back(here, to_the_service(here))
            assert (came.status_code, "SCREENING_SSO_HOSTS" in came.json()["detail"]) == (503, True)


def test_a_service_that_is_down_is_told(database: Database, provider: Provider) -> None:
    down = SignInService(issuer="http://127.0.0.1:1", client_id=CLIENT, secret=SECRET, hosts=frozenset({"127.0.0.1"}))
    one = browser(create_app(database, dataclasses.replace(settings(), sign_in_service=down)))
    assert one.get("/v1/sessions/sso", follow_redirects=False).status_code == 503


def test_a_wrong_secret_of_ours_signs_nobody_in(database: Database, provider: Provider, counselor: Known) -> None:
    vouch(provider, counselor)
    wrong = SignInService(
        issuer=provider.address, client_id=CLIENT, secret="another secret", hosts=frozenset({"127.0.0.1"})
    )
    one = browser(create_app(database, dataclasses.replace(settings(), sign_in_service=wrong)))
    assert back(one, to_the_service(one)).status_code == 401


def test_without_a_service_there_is_no_door(database: Database) -> None:
    one = browser(app_on(database))
    assert one.get("/v1/sessions/sso").status_code == 404
    assert one.get("/v1/sessions/sso/callback?code=x&state=y").status_code == 404


def test_the_address_shows_no_secret(here: Browser) -> None:
    asked = parse_qs(urlsplit(to_the_service(here)).query)
    assert set(asked) == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method",
    }  # fmt: skip
    assert asked["redirect_uri"] == ["http://127.0.0.1:8000/v1/sessions/sso/callback"]
