"""Settings: every problem is named at once, production refuses what is unsafe, the master key is kept private."""

import base64
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from screening.settings import VARIABLES, Settings, UnsafeSettings


def problems(environ: Mapping[str, str], *, serving: bool = False) -> dict[str, str]:
    with pytest.raises(UnsafeSettings) as caught:
        Settings.read(environ, serving=serving)
    return dict(problem.split(": ", 1) for problem in caught.value.problems)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "wrap.key"
    path.write_bytes(secrets.token_bytes(32))
    path.chmod(0o600)
    return path


@pytest.fixture
def production(key_file: Path) -> dict[str, str]:
    return {
        "SCREENING_ENV": "production",
        "DATABASE_URL": "postgresql://screening_app:k4-lanterns@db.example/screening",
        "SCREENING_BASE_URL": "https://screening.example",
        "SCREENING_MASTER_KEY_FILE": str(key_file),
    }


def test_nothing_set_is_development_on_the_embedded_server() -> None:
    settings = Settings.read({})
    assert settings.is_embedded
    assert not settings.is_production
    assert settings.base_url == "http://127.0.0.1:8000"
    assert settings.locale == "zh_CN"
    assert str(settings.timezone) == "Asia/Shanghai"
    assert settings.webhook_allow == ()
    assert settings.master_key_file == settings.home / "master.key"


def test_home_is_beside_the_work_and_under_var_lib_for_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Settings.read({}).home == tmp_path / ".screening"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Settings.read({}).home == Path("/var/lib/screening")
    assert Settings.read({"SCREENING_HOME": "here"}).home == tmp_path / "here"
    assert not (tmp_path / "here").exists()


def test_every_variable_is_read(tmp_path: Path, key_file: Path) -> None:
    settings = Settings.read(
        {
            "DATABASE_URL": "postgres://app:a@db.example/screening",
            "DATABASE_OWNER_URL": "postgresql+psycopg://owner:b@db.example/screening",
            "DATABASE_REPLICA_URL": "postgresql:///screening?host=/run/db&user=reader",
            "SCREENING_HOME": str(tmp_path),
            "SCREENING_ENV": "development",
            "SCREENING_MASTER_KEY_FILE": str(key_file),
            "SCREENING_BASE_URL": "https://screening.example/",
            "SCREENING_SMTP_URL": "smtps://mailer:c@mail.example:465",
            "SCREENING_WEBHOOK_ALLOW": "Hooks.example, qyapi.weixin.qq.com,,hooks.example",
            "SCREENING_LOCALE": "en",
            "SCREENING_TIMEZONE": "Asia/Urumqi",
            "SCREENING_BACKUP_TARGET": str(tmp_path / "backup"),
        }
    )
    assert settings.database_url == "postgresql://app:a@db.example/screening"
    assert settings.database_owner_url == "postgresql://owner:b@db.example/screening"
    assert settings.replica_url == "postgresql:///screening?host=/run/db&user=reader"
    assert settings.home == tmp_path
    assert settings.master_key() == key_file.read_bytes()
    assert settings.base_url == "https://screening.example"
    assert settings.smtp_url == "smtps://mailer:c@mail.example:465"
    assert settings.webhook_allow == ("hooks.example", "qyapi.weixin.qq.com")
    assert (settings.locale, str(settings.timezone)) == ("en", "Asia/Urumqi")
    assert settings.backup_target == tmp_path / "backup"


def test_every_bad_value_is_named_at_once_and_no_secret_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = problems(
        {
            "DATABASE_URL": "mysql://app:hush-hush@db.example/screening",
            "DATABASE_OWNER_URL": "postgresql://owner:hush-hush@db.example:port/screening",
            "DATABASE_REPLICA_URL": "postgresql://reader:hush-hush@db.example",
            "SCREENING_HOME": str(tmp_path / "file"),
            "SCREENING_ENV": "staging",
            "SCREENING_BASE_URL": "screening.example",
            "SCREENING_SMTP_URL": "http://mailer:hush-hush@mail.example",
            "SCREENING_WEBHOOK_ALLOW": "https://hooks.example/x",
            "SCREENING_SSO_ISSUER": "http://id.example",
            "SCREENING_SSO_HOSTS": "https://id.example",
            "SCREENING_LOCALE": "fr",
            "SCREENING_TIMEZONE": "Asia/Atlantis",
        }
    )
    anything_will_do = {
        "SCREENING_MASTER_KEY_FILE",
        "SCREENING_LEDGERS",
        "SCREENING_PROBE_ADDRESS",
        "SCREENING_BACKUP_KEY_FILE",
        "SCREENING_BACKUP_TARGET",
    }
    assert set(said) == set(VARIABLES) - anything_will_do
    assert said["SCREENING_ENV"] == "must be development or production, not 'staging'"
    assert said["DATABASE_REPLICA_URL"] == "names no database"
    assert not any("hush-hush" in words for words in said.values())


@pytest.mark.parametrize("host", ["*", "*.example", "hooks.example:443", "a b", "-x.example", "x/../y", "例.example"])
def test_a_webhook_host_is_a_plain_host_name(host: str) -> None:
    assert "SCREENING_WEBHOOK_ALLOW" in problems({"SCREENING_WEBHOOK_ALLOW": host})


def test_an_owner_or_replica_needs_the_app_s_database_too() -> None:
    said = problems({"DATABASE_OWNER_URL": "postgresql://o@h/d", "DATABASE_REPLICA_URL": "postgresql://r@h/d"})
    assert said == dict.fromkeys(("DATABASE_OWNER_URL", "DATABASE_REPLICA_URL"), "is set without DATABASE_URL")


def test_a_safe_production_is_accepted(production: dict[str, str], key_file: Path) -> None:
    settings = Settings.read(production, serving=True)
    assert settings.is_production
    assert settings.master_key() == key_file.read_bytes()


def test_an_empty_production_names_everything_that_is_missing() -> None:
    assert set(problems({"SCREENING_ENV": "production"})) == {
        "SCREENING_BASE_URL",
        "SCREENING_MASTER_KEY_FILE",
        "SCREENING_HOME",
        "SCREENING_BACKUP_TARGET",
    }


def test_production_may_be_embedded_with_a_home_and_a_backup_target(production: dict[str, str], tmp_path: Path) -> None:
    del production["DATABASE_URL"]
    embedded = {"SCREENING_HOME": str(tmp_path), "SCREENING_BACKUP_TARGET": str(tmp_path / "backup")}
    assert Settings.read(production | embedded).is_embedded


def test_production_refuses_plain_http(production: dict[str, str]) -> None:
    assert "https://" in problems(production | {"SCREENING_BASE_URL": "http://a.example"})["SCREENING_BASE_URL"]


@pytest.mark.parametrize("user", ["postgres", "root", "rdsadmin"])
def test_production_refuses_a_superuser_for_the_app(production: dict[str, str], user: str) -> None:
    url = f"postgresql://{user}:k4-lanterns@db.example/screening"
    assert "superuser" in problems(production | {"DATABASE_URL": url})["DATABASE_URL"]


@pytest.mark.parametrize("password", ["postgres", "changeme", "Password", "screening_app", ""])
def test_production_refuses_a_default_password(production: dict[str, str], password: str) -> None:
    url = f"postgresql://screening_app:{password}@db.example/screening"
    assert problems(production | {"DATABASE_URL": url})["DATABASE_URL"] == "its password is a default one"


def test_production_refuses_the_owner_in_the_app_s_place(production: dict[str, str]) -> None:
    said = problems(production | {"DATABASE_OWNER_URL": production["DATABASE_URL"]}, serving=True)
    assert said == {
        "DATABASE_URL": "has the owner's user; the app's role owns nothing",
        "DATABASE_OWNER_URL": "is never given to serve or worker; unset it here",
    }


def test_production_refuses_an_absent_an_open_a_short_and_a_made_up_key(
    production: dict[str, str], key_file: Path
) -> None:
    def said() -> str:
        return problems(production)["SCREENING_MASTER_KEY_FILE"]

    key_file.chmod(0o640)
    assert "chmod 600" in said()
    key_file.chmod(0o600)
    key_file.write_bytes(b"short")
    assert "must hold 32 bytes" in said()
    key_file.write_bytes(bytes(32))
    assert "made-up" in said()
    key_file.unlink()
    assert "cannot be read" in said()


def test_a_key_file_may_be_raw_hex_or_base64(key_file: Path) -> None:
    key = secrets.token_bytes(32)
    for content in (key, key.hex().encode() + b"\n", base64.b64encode(key) + b"\n"):
        key_file.write_bytes(content)
        assert Settings.read({"SCREENING_MASTER_KEY_FILE": str(key_file)}).master_key() == key


def test_development_makes_a_key_once_and_keeps_it_private(tmp_path: Path) -> None:
    settings = Settings.read({"SCREENING_HOME": str(tmp_path / "home")})
    key = settings.master_key()
    assert len(key) == 32
    assert settings.master_key() == key
    assert stat.S_IMODE(settings.master_key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
    assert [entry.name for entry in settings.home.iterdir()] == ["master.key"]


def test_a_key_that_we_made_is_never_read_through_a_link(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "master.key").symlink_to(key_file)
    with pytest.raises(UnsafeSettings):
        Settings.read({"SCREENING_HOME": str(tmp_path)}).master_key()


def test_a_sign_in_service_is_known_whole_or_not_at_all(tmp_path: Path) -> None:
    secret = tmp_path / "client.secret"
    secret.write_text("a secret of the client\n")
    whole = {
        "SCREENING_SSO_ISSUER": "https://id.example/tenant",
        "SCREENING_SSO_CLIENT_ID": "screening",
        "SCREENING_SSO_CLIENT_SECRET_FILE": str(secret),
        "SCREENING_SSO_HOSTS": "keys.id.example",
    }
    found = Settings.read(whole).sign_in_service
    assert found is not None
    assert (found.issuer, found.secret) == ("https://id.example/tenant", "a secret of the client")
    assert found.hosts == {"id.example", "keys.id.example"}
    assert "a secret" not in repr(found)
    assert Settings.read({}).sign_in_service is None
    without = {name: value for name, value in whole.items() if name != "SCREENING_SSO_ISSUER"}
    assert problems(without) == dict.fromkeys(without, "is set without SCREENING_SSO_ISSUER")
    alone = problems({"SCREENING_SSO_ISSUER": "https://id.example"})
    assert set(alone) == {"SCREENING_SSO_CLIENT_ID", "SCREENING_SSO_CLIENT_SECRET_FILE"}


def test_production_refuses_an_open_a_short_and_a_plain_sign_in_service(
    production: dict[str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "client.secret"
    secret.write_text("short")
    secret.chmod(0o644)
    said = []
    for issuer in ("http://127.0.0.1:9/", "https://id.example"):
        with pytest.raises(UnsafeSettings) as caught:
            Settings.read(
                production
                | {
                    "SCREENING_SSO_ISSUER": issuer,
                    "SCREENING_SSO_CLIENT_ID": "screening",
                    "SCREENING_SSO_CLIENT_SECRET_FILE": str(secret),
                }
            )
        said.append(" ".join(caught.value.problems))
    assert "must be an https:// address" in said[0]
    assert "chmod 600" in said[1]
    assert "16 or more signs" in said[1]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_production_refuses_an_address_that_only_this_machine_knows(production: dict[str, str], host: str) -> None:
    assert "own name" in problems(production | {"SCREENING_BASE_URL": f"https://{host}"})["SCREENING_BASE_URL"]


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_production_refuses_a_database_in_the_clear(production: dict[str, str], mode: str) -> None:
    url = production["DATABASE_URL"] + f"?sslmode={mode}"
    assert "no encryption" in problems(production | {"DATABASE_URL": url})["DATABASE_URL"]


def test_production_lists_everything_that_is_unsafe_at_once(tmp_path: Path) -> None:
    said = problems(
        {
            "SCREENING_ENV": "production",
            "SCREENING_BASE_URL": "http://screening.example",
            "DATABASE_URL": "postgresql://screening_app:changeme@db.example/screening",
            "DATABASE_OWNER_URL": "postgresql://owner:k4-lanterns@db.example/screening?sslmode=disable",
            "SCREENING_SSO_ISSUER": "http://id.example",
        }
    )
    assert set(said) == {
        "SCREENING_BASE_URL",
        "SCREENING_MASTER_KEY_FILE",
        "DATABASE_URL",
        "DATABASE_OWNER_URL",
        "SCREENING_SSO_ISSUER",
        "SCREENING_SSO_CLIENT_ID",
        "SCREENING_SSO_CLIENT_SECRET_FILE",
    }
