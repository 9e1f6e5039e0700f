"""Signing in with a password: nobody learns who is known, nobody guesses often, and nobody is locked out by others."""

import statistics
import time
import uuid
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from screening import accounts, audit, guesses, passwords
from screening.access import Scope
from screening.db import Database
from screening.errors import TooManyAttempts
from screening.guesses import Growing, Steady
from tests.cast import Cast
from tests.doors import app_on
from tests.factories import unique
from tests.signing import PASSWORD, Browser, Known, browser, do, somebody_known, token_of

WRONG = "wrong lanterns in fog 7"


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@pytest.fixture
def place() -> str:
    """An address of this test's own."""
    number = uuid.uuid4().int
    return f"10.{number % 200}.{number // 200 % 200}.{number // 40_000 % 200}"


@pytest.fixture
def analyst(cast: Cast) -> Known:
    """Sees no names, so a password is enough."""
    return somebody_known(cast.database, cast.scope, ("district_analyst", None), has_second_factor=False)


def lines(cast: Cast, action: str, district: uuid.UUID | None = None) -> list[dict[str, object]]:
    with cast.database.unit(Scope(district or cast.district.id)) as session:
        rows = session.execute(
            text("select actor_id, subject, subject_id, detail from audit_entries where action = :action order by id"),
            {"action": action},
        )
        return [dict(row) for row in rows.mappings()]


def test_a_password_signs_in_and_a_cookie_then_says_who_it_is(app: FastAPI, analyst: Known, place: str) -> None:
    here = browser(app, address=place)
    came = here.sign_in(analyst)
    assert came.json()["state"] == "signed_in"
    assert here.get("/v1/accounts/me").json()["id"] == str(analyst.staff_id)


def test_wrong_unknown_and_ended_get_the_same_answer(app: FastAPI, cast: Cast, analyst: Known, place: str) -> None:
    ended = somebody_known(cast.database, cast.scope, ("district_analyst", None), has_second_factor=False)
    with cast.database.unit(cast.scope) as session:
        accounts.disable(session, ended.account_id, by=cast.district_admin)
    unset = somebody_known(
        cast.database, cast.scope, ("district_analyst", None), password=None, has_second_factor=False
    )
    here = browser(app, address=place)
    answers = [
        here.first_step(analyst.email, WRONG),
        here.first_step(f"{unique('nobody')}@example.test"),
        here.first_step(ended.email),
        here.first_step(unset.email),
    ]
    assert {came.status_code for came in answers} == {401}
    assert len({came.content for came in answers}) == 1
    assert not any("set-cookie" in came.headers for came in answers)


def test_failed_sign_ins_are_kept_account_of_without_names(
    app: FastAPI, cast: Cast, analyst: Known, place: str
) -> None:
    here = browser(app, address=place)
    here.first_step(analyst.email, WRONG)
    [line] = lines(cast, "sign_in.failed")
    assert (line["actor_id"], line["subject_id"]) == (analyst.account_id, str(analyst.account_id))
    unknown = f"{unique('nobody')}@example.test"
    before = len(lines(cast, "sign_in.failed", audit.NOWHERE))
    here.first_step(unknown)
    nowhere = lines(cast, "sign_in.failed", audit.NOWHERE)
    assert len(nowhere) == before + 1
    assert not any(secret in str([*nowhere, line]) for secret in (unknown, analyst.email, PASSWORD, WRONG, place))


def test_a_refused_door_is_kept_account_of(app: FastAPI, cast: Cast, analyst: Known, place: str) -> None:
    here = browser(app, address=place)
    here.sign_in(analyst)
    assert here.get("/v1/alerts").status_code == 403
    [line] = lines(cast, "door.refused")
    assert (line["actor_id"], line["subject_id"]) == (analyst.account_id, "/v1/alerts")
    assert line["detail"] == {"method": "GET"}


# -- guesses --------------------------------------------------------------------------------------------


def tries(here: Browser, email: str, count: int) -> list[int]:
    return [here.first_step(email, WRONG).status_code for _ in range(count)]


def test_a_guesser_is_slowed_down_and_told_for_how_long(app: FastAPI, analyst: Known, place: str) -> None:
    here = browser(app, address=place)
    assert tries(here, analyst.email, 4) == [401, 401, 429, 429]
    came = here.first_step(analyst.email)
    assert came.status_code == 429
    assert came.json()["code"] == "too_many_attempts"
    assert 1 <= int(came.headers["retry-after"]) <= 15
    unknown = f"{unique('nobody')}@example.test"
    assert tries(browser(app, address=f"{place}9"), unknown, 3) == [401, 401, 429]


def test_a_stranger_holds_nobody_up_who_signed_in_from_that_browser_before(
    app: FastAPI, analyst: Known, place: str
) -> None:
    own = browser(app, address=place)
    own.sign_in(analyst)
    stranger = browser(app, address=place)  # behind the same address, as everybody in a school is
    for other in range(40):
        tries(stranger, analyst.email, 1)
        tries(browser(app, address=f"172.16.{other}.1"), analyst.email, 2)
    assert browser(app, address=place).first_step(analyst.email).status_code == 429
    assert own.first_step(analyst.email).status_code == 200


def test_a_stranger_at_another_address_holds_a_new_browser_up_for_half_a_minute_at_most(
    app: FastAPI, database: Database, analyst: Known, place: str
) -> None:
    stranger = browser(app, address="172.17.0.1")
    assert tries(stranger, analyst.email, 20).count(401) <= 3
    new = browser(app, address=place).first_step(analyst.email)
    assert new.status_code == 200 or int(new.headers["retry-after"]) <= 30


def test_a_device_cookie_of_another_account_or_none_opens_no_way_around(
    app: FastAPI, cast: Cast, analyst: Known, place: str
) -> None:
    other = somebody_known(cast.database, cast.scope, ("district_analyst", None), has_second_factor=False)
    here = browser(app, address=place)
    here.sign_in(other)
    assert tries(here, analyst.email, 4) == [401, 401, 429, 429]
    here.client.cookies.set("screening-device", "99999999999.made-up." + "0" * 32)
    assert tries(here, analyst.email, 1) == [429]


def test_a_right_password_forgives_the_wrong_ones_before(app: FastAPI, analyst: Known, place: str) -> None:
    here = browser(app, address=place)
    for _ in range(3):
        do(app.state.database, "update guesses set free_at = free_at - interval '30 seconds'")
        assert tries(here, analyst.email, 1) == [401]
        assert here.first_step(analyst.email).status_code == 200
        here.client.cookies.clear()


def test_many_guesses_at_one_moment_are_no_way_round(database: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def guess(limit: Growing | Steady) -> bool:
        try:
            guesses.admit(database, [limit])
        except TooManyAttempts:
            return False
        return True

    with ThreadPoolExecutor(8) as many:
        for limit, most in ((Growing(unique("pair")), 2), (Steady(unique("all"), seconds=60, burst=5), 5)):
            assert sum(many.map(guess, [limit] * 40)) == most


def test_limits_hold_over_time_by_the_databases_clock(database: Database, share: object) -> None:
    """Ten thousand tries in simulated time: never more than five taken in any minute for an account, 60 an address."""
    pair, account = Growing(unique("pair")), Steady(unique("account"), seconds=30, burst=3)
    address = Steady(unique("address"), seconds=2, burst=30)
    taken: dict[str, list[float]] = {"pair": [], "account": [], "address": []}
    for step in range(200):
        for name, limit in (("pair", pair), ("account", account), ("address", address)):
            while True:
                try:
                    guesses.admit(database, [limit])
                except TooManyAttempts:
                    break
                taken[name].append(step * 5.0)
        do(database, "update guesses set free_at = free_at - interval '5 seconds'")
    for name, most in (("pair", 5), ("account", 5), ("address", 60)):
        moments = taken[name]
        assert max(sum(start <= at < start + 60 for at in moments) for start in moments) <= most, name


def test_old_guesses_are_forgotten(database: Database) -> None:
    limit = Growing(unique("pair"))
    guesses.admit(database, [limit])
    do(database, "update guesses set free_at = free_at - interval '2 days'")
    with database.unit() as session:
        guesses.forget(session)
        assert (
            session.execute(text("select count(*) from guesses where free_at < now() - interval '1 day'")).scalar() == 0
        )


# -- passwords ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    ["short 1", "aaaaaaaaaaaaaaa", "abcdefghijklmnop", "1234567890123", "qwertyuiopqwerty", "password123!", "x" * 129,
     "screening2026", "wanglili2026x"],
)  # fmt: skip
def test_what_is_easily_guessed_is_no_password(password: str) -> None:
    assert passwords.problems(password, email="wanglili@example.test")


@pytest.mark.parametrize(
    "password", [PASSWORD, "correct horse battery", "一盏灯照亮整条街道的夜晚呀", "k4!Lantern-brass"]
)
@pytest.mark.usefixtures("slow_passwords")
def test_what_is_long_enough_is_one(password: str) -> None:
    assert passwords.problems(password) == []
    kept = passwords.hashed(password)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.matches(password, kept)
    assert not passwords.matches(password + " ", kept)
    assert not passwords.matches(password, None)


def test_full_width_digits_are_the_same_password() -> None:
    assert passwords.matches("brass lanterns in fog 7", passwords.hashed("brass lanterns in fog ７"))


def test_an_invitation_sets_a_password_once(app: FastAPI, cast: Cast, place: str) -> None:
    new = somebody_known(cast.database, cast.scope, ("district_analyst", None), password=None, has_second_factor=False)
    admin = somebody_known(cast.database, cast.scope, ("district_admin", None))
    office = browser(app, address=place)
    office.sign_in(admin)
    first = office.post(f"/v1/accounts/{new.staff_id}/invitation").json()["invitation"]
    invitation = office.post(f"/v1/accounts/{new.staff_id}/invitation").json()["invitation"]
    here = browser(app, address=place)

    def accept(code: str, password: str) -> int:
        return here.post("/v1/sessions/invitation", json={"invitation": code, "password": password}).status_code

    assert accept(first, PASSWORD) == 401  # a later one takes its place
    assert accept(invitation, "password123!") == 422
    assert accept(invitation, PASSWORD) == 204
    assert accept(invitation, PASSWORD) == 401
    assert here.first_step(new.email).json()["state"] == "signed_in"


def test_an_invitation_ends_after_three_days_and_with_the_account(app: FastAPI, cast: Cast, place: str) -> None:
    new = somebody_known(cast.database, cast.scope, ("district_analyst", None), password=None, has_second_factor=False)
    here = browser(app, address=place)
    with cast.database.unit(cast.scope) as session:
        code, _ = accounts.invite(session, new.account_id, by=cast.district_admin)
    do(cast.database, "update codes set expires_at = expires_at - interval '72 hours' where account_id = :id",
       id=new.account_id)  # fmt: skip
    assert here.post("/v1/sessions/invitation", json={"invitation": code, "password": PASSWORD}).status_code == 401
    with cast.database.unit(cast.scope) as session:
        code, _ = accounts.invite(session, new.account_id, by=cast.district_admin)
        accounts.disable(session, new.account_id, by=cast.district_admin)
    assert here.post("/v1/sessions/invitation", json={"invitation": code, "password": PASSWORD}).status_code == 401


def test_secrets_are_kept_as_hashes_only(app: FastAPI, cast: Cast, place: str) -> None:
    who = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    here = browser(app, address=place)
    here.sign_in(who)
    secret = here.client.cookies["screening"]
    token = token_of(cast.database, who)
    with cast.database.unit(cast.scope) as session:
        invitation, _ = accounts.invite(session, who.account_id, by=cast.district_admin)
        kept = " ".join(
            row
            for table in ("accounts", "sessions", "tokens", "codes", "recovery_codes", "guesses", "audit_entries")
            for row in session.execute(text(f"select t::text from {table} t")).scalars()
        )
    assert who.secret is not None
    for plain in (PASSWORD, secret, token, invitation, who.email, *who.recovery_codes):
        assert plain not in kept
        assert plain.encode().hex() not in kept
    assert who.secret.hex() not in kept


# -- time -----------------------------------------------------------------------------------------------


@pytest.fixture
def measured(app: FastAPI, cast: Cast) -> Iterator[dict[str, str]]:
    known = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    ended = somebody_known(cast.database, cast.scope, ("counselor", cast.school_a.id))
    without = somebody_known(cast.database, cast.scope, ("district_analyst", None), has_second_factor=False)
    with cast.database.unit(cast.scope) as session:
        accounts.disable(session, ended.account_id, by=cast.district_admin)
    yield {
        "known": known.email,
        "unknown": f"{unique('nobody')}@example.test",
        "ended": ended.email,
        "no second factor": without.email,
    }


@pytest.mark.storm
@pytest.mark.usefixtures("slow_passwords")
def test_time_does_not_tell_who_is_known(
    app: FastAPI, database: Database, measured: dict[str, str], is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    here = browser(app, address="10.9.9.9")
    seconds: dict[str, list[float]] = {kind: [] for kind in measured}
    for number in range(500 if is_storm else 10):
        for kind in sorted(measured, key=lambda kind: hash((kind, number))):
            do(database, "delete from guesses")
            begun = time.perf_counter()
            assert here.first_step(measured[kind], WRONG).status_code == 401
            seconds[kind].append(time.perf_counter() - begun)
    medians = {kind: statistics.median(found) * 1e3 for kind, found in seconds.items()}
    aucs = {kind: _auc(seconds["known"], found) for kind, found in seconds.items() if kind != "known"}
    if is_storm:
        with capsys.disabled():
            print(f"\nmedian ms {medians}, AUC against known {aucs}")  # noqa: T201
        for median in medians.values():
            assert abs(median / medians["known"] - 1) <= 0.05, medians
        assert all(abs(auc - 0.5) <= 0.05 for auc in aucs.values()), aucs


def _auc(first: list[float], second: list[float]) -> float:
    """How often one is slower than the other: a half says nothing."""
    ranked = sorted([(at, 0) for at in first] + [(at, 1) for at in second])
    ranks = sum(rank for rank, (_, whose) in enumerate(ranked, start=1) if whose == 0)
    return (ranks - len(first) * (len(first) + 1) / 2) / (len(first) * len(second))
