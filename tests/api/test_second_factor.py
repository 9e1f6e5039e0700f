"""The second factor: set up at the first sign-in, asked at each, no code good twice, and a way back when it is lost."""

import datetime as dt
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI

from screening import db, second_factor, signing_in
from screening.access import ROLES
from screening.db import Database
from tests.cast import Cast
from tests.doors import app_on
from tests.signing import Browser, Known, browser, do, somebody_known

AT = dt.datetime(2026, 9, 1, 8, 0, 10, tzinfo=dt.UTC)


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@pytest.fixture
def here(app: FastAPI) -> Browser:
    return browser(app, address=f"10.3.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}")


@pytest.fixture
def counselor(cast: Cast) -> Known:
    return somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))


@pytest.fixture
def newcomer(cast: Cast) -> Known:
    """Has a password, and no second factor yet."""
    return somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id), has_second_factor=False)


# RFC 6238, appendix B, SHA-1, the last six of its eight digits
@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037"),
     (20000000000, "353130")],
)  # fmt: skip
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    assert second_factor.code_at(b"12345678901234567890", at) == code
    assert second_factor.step_of(b"12345678901234567890", code, at) == seconds // 30


@pytest.mark.parametrize(("off", "fits"), [(-61, False), (-30, True), (0, True), (30, True), (61, False)])
def test_a_phone_may_be_half_a_minute_off(off: int, fits: bool) -> None:
    secret = second_factor.new_secret()
    code = second_factor.code_at(secret, AT + dt.timedelta(seconds=off))
    assert (second_factor.step_of(secret, code, AT) is not None) == fits


def test_whoever_may_see_names_needs_one(cast: Cast) -> None:
    assert {"district_analyst", "staff_member"} == signing_in.NAMELESS
    assert signing_in.NAMELESS < ROLES


def test_the_first_sign_in_sets_it_up(here: Browser, newcomer: Known, database: Database) -> None:
    first = here.first_step(newcomer.email).json()
    assert first["state"] == "enrollment_needed"
    assert here.get("/v1/accounts/me").status_code == 401
    address = urlsplit(first["enrollment"]["address"])
    asked = parse_qs(address.query)
    assert (address.scheme, address.netloc, asked["issuer"]) == ("otpauth", "totp", ["Screening"])
    assert asked["secret"] == [first["enrollment"]["secret"]]
    assert first["enrollment"]["qr"].startswith("<svg")
    secret = _secret(first)
    assert here.second_step(first["challenge"], "000000").status_code == 401
    done = here.second_step(first["challenge"], _code(database, secret))
    assert done.json()["state"] == "signed_in"
    assert len(set(done.json()["recovery_codes"])) == 10
    assert here.get("/v1/alerts").status_code == 200
    assert here.second_step(first["challenge"], _code(database, secret)).status_code == 401
    assert here.first_step(newcomer.email).json()["state"] == "second_factor_needed"


def test_one_that_is_begun_twice_is_set_up_once(here: Browser, newcomer: Known, database: Database) -> None:
    one, two = here.first_step(newcomer.email).json(), here.first_step(newcomer.email).json()
    assert here.second_step(one["challenge"], _code(database, _secret(one))).status_code == 200
    do(database, "update accounts set last_step = 0 where id = :id", id=newcomer.account_id)
    assert here.second_step(two["challenge"], _code(database, _secret(two))).status_code == 409


def test_a_code_is_taken_once(here: Browser, app: FastAPI, counselor: Known) -> None:
    code = counselor.code()
    assert here.second_step(_challenge(here, counselor), code).status_code == 200
    # known from over a shoulder, in the same half minute
    other = browser(app, address="10.3.251.1")
    came = other.second_step(_challenge(other, counselor), code)
    assert (came.status_code, came.json()["code"]) == (401, "wrong_code")


def test_an_older_code_is_not_taken_after_a_newer(here: Browser, counselor: Known) -> None:
    before, newer = counselor.code(dt.timedelta(seconds=-30)), counselor.code()
    assert here.second_step(_challenge(here, counselor), newer).status_code == 200
    assert here.second_step(_challenge(here, counselor), before).status_code == 401


def test_a_recovery_code_is_good_once_however_it_is_typed(here: Browser, counselor: Known) -> None:
    code = counselor.recovery_codes[0]
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert here.second_step(_challenge(here, counselor), typed).status_code == 200
    assert here.second_step(_challenge(here, counselor), code).status_code == 401


def test_anothers_recovery_code_is_nothing(here: Browser, cast: Cast, counselor: Known) -> None:
    other = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    assert here.second_step(_challenge(here, counselor), other.recovery_codes[0]).status_code == 401


def test_fresh_recovery_codes_end_the_old_and_ask_for_a_fresh_proof(
    here: Browser, counselor: Known, database: Database
) -> None:
    here.sign_in(counselor)
    do(database, "update sessions set proved_at = proved_at - interval '11 minutes' where account_id = :id",
       id=counselor.account_id)  # fmt: skip
    assert here.post("/v1/accounts/me/recovery-codes").json()["code"] == "proof_needed"
    assert here.post("/v1/sessions/current/proof", json={"code": "000000"}).status_code == 401
    assert here.post("/v1/sessions/current/proof", json={"code": counselor.code()}).status_code == 204
    fresh = here.post("/v1/accounts/me/recovery-codes").json()["recovery_codes"]
    assert here.second_step(_challenge(here, counselor), counselor.recovery_codes[1]).status_code == 401
    assert here.second_step(_challenge(here, counselor), fresh[0]).status_code == 200


def test_guessing_codes_is_slowed_down(app: FastAPI, here: Browser, counselor: Known) -> None:
    challenge = _challenge(here, counselor)
    assert [here.second_step(challenge, "000000").status_code for _ in range(4)] == [401, 401, 429, 429]
    others = [browser(app, address=f"10.3.252.{number}") for number in range(5)]
    taken = [one.second_step(challenge, "000000").status_code for one in others]
    assert taken.count(401) <= 1  # all addresses together: three at once, then one each half minute


def test_halfway_ends_after_five_minutes(here: Browser, counselor: Known, database: Database) -> None:
    challenge = _challenge(here, counselor)
    do(database, "update sessions set expires_at = expires_at - interval '5 minutes' where account_id = :id",
       id=counselor.account_id)  # fmt: skip
    assert here.second_step(challenge, counselor.code()).json()["code"] == "not_signed_in"


def test_a_lost_one_is_reset_by_the_administrator_and_set_up_anew(
    app: FastAPI, here: Browser, cast: Cast, counselor: Known
) -> None:
    office = browser(app, address="10.3.253.1")
    office.sign_in(somebody_known(cast.database, cast.scope, ("district_admin", None)))
    assert office.ask("DELETE", f"/v1/accounts/{counselor.staff_id}/second-factor").status_code == 204
    first = here.first_step(counselor.email).json()
    assert first["state"] == "enrollment_needed"
    assert here.second_step(first["challenge"], counselor.recovery_codes[0]).status_code == 401
    assert here.second_step(first["challenge"], _code(cast.database, _secret(first))).status_code == 200


def test_an_administrator_does_not_end_the_own_account(app: FastAPI, cast: Cast) -> None:
    admin = somebody_known(cast.database, cast.scope, ("district_admin", None))
    office = browser(app, address="10.3.253.2")
    office.sign_in(admin)
    assert office.ask("DELETE", f"/v1/accounts/{admin.staff_id}").json()["code"] == "own_account"
    other = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    assert office.ask("DELETE", f"/v1/accounts/{other.staff_id}").status_code == 204
    assert browser(app, address="10.3.253.3").first_step(other.email).status_code == 401


def _challenge(one: Browser, who: Known) -> str:
    challenge: str = one.first_step(who.email).json()["challenge"]
    return challenge


def _secret(first: dict[str, dict[str, str]]) -> bytes:
    import base64

    letters = first["enrollment"]["secret"]
    return base64.b32decode(letters + "=" * (-len(letters) % 8))


def _code(database: Database, secret: bytes) -> str:
    with database.unit() as session:
        return second_factor.code_at(secret, db.now(session))
