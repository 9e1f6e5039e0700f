"""Settings, read once from the environment: every problem is named at once, and unsafe production is refused."""

import base64
import binascii
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Environment = Literal["development", "production"]
Locale = Literal["zh_CN", "en"]

VARIABLES = {
    "DATABASE_URL": "the app's connection; unset: the embedded server under SCREENING_HOME",
    "DATABASE_OWNER_URL": "the owner's connection, for migrate and backup only; never given to serve or worker",
    "DATABASE_REPLICA_URL": "a read replica, for statistics only",
    "SCREENING_HOME": "the product's own folder; .screening/ in the working directory, root: /var/lib/screening",
    "SCREENING_ENV": "development (default) or production",
    "SCREENING_MASTER_KEY_FILE": "32 bytes that wrap the data keys; made in development",
    "SCREENING_BASE_URL": "the address people reach, used in links; https in production",
    "SCREENING_SMTP_URL": "smtp://[user:password@]host[:port] or smtps://...",
    "SCREENING_WEBHOOK_ALLOW": "host names that webhooks may reach, separated by commas",
    "SCREENING_PROBE_ADDRESS": "a mailbox for the synthetic red of every five minutes; unset: the way there is tried",
    "SCREENING_LOCALE": "zh_CN (default) or en",
    "SCREENING_TIMEZONE": "the district's time zone, default Asia/Shanghai",
    "SCREENING_SSO_ISSUER": "an OpenID Connect service that staff sign in with; needs the extra sso",
    "SCREENING_SSO_CLIENT_ID": "as which it knows this service",
    "SCREENING_SSO_CLIENT_SECRET_FILE": "a file with the secret that goes with it",
    "SCREENING_SSO_HOSTS": "further host names of that service, separated by commas",
    "SCREENING_LEDGERS": "a folder outside all backups, for signed heads and the erasure ledger; in SCREENING_HOME",
    "SCREENING_BACKUP_KEY_FILE": "the public half of the key that backups are encrypted for; made in development",
    "SCREENING_BACKUP_TARGET": "a folder for archives and dumps; needed to run production on the embedded server",
}

_KEY_BYTES = 32
_FEWEST_SECRET_SIGNS = 16
_SUPERUSERS = {"postgres", "root", "admin", "administrator", "rdsadmin", "cloudsqladmin", "azure_superuser"}
_DEFAULT_PASSWORDS = {
    "", "postgres", "password", "changeme", "change-me", "secret", "admin", "root", "screening", "test", "123456",
}  # fmt: skip
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


class UnsafeSettings(ValueError):
    """The environment cannot be used; `problems` says everything that is wrong with it, without its secrets."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class SignInService:
    """An OpenID Connect provider, and as whom we ask it. Nothing is fetched from any other host than these."""

    issuer: str
    client_id: str
    secret: str = field(repr=False)
    hosts: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the product is told from outside. Database URLs are libpq URLs (`postgresql://`), None when unset."""

    database_url: str | None
    database_owner_url: str | None
    replica_url: str | None
    home: Path
    environment: Environment
    master_key_file: Path
    base_url: str
    smtp_url: str | None
    webhook_allow: tuple[str, ...]
    probe_address: str | None
    locale: Locale
    timezone: ZoneInfo
    ledgers: Path
    backup_key_file: Path
    backup_target: Path | None
    sign_in_service: SignInService | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, *, serving: bool = False) -> "Settings":
        """The settings of this environment; `serving` is true for serve and worker, which never hold the owner.

        Raises UnsafeSettings with every problem at once. Creates nothing.
        """
        return _Reading(os.environ if environ is None else environ, serving=serving).settings()

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def is_embedded(self) -> bool:
        return self.database_url is None

    def made_home(self) -> Path:
        """The home folder, made with mode 0700 when absent."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.home

    def master_key(self) -> bytes:
        """The 32 bytes that wrap the data keys; made on first use in development, with mode 0600.

        Raises UnsafeSettings when the file is absent (production), open to others (production) or no key.
        """
        if not self.is_production and not os.path.lexists(self.master_key_file):
            self.made_home()
            _make_key(self.master_key_file)
        return self.master_keys()[0]

    def master_keys(self) -> list[bytes]:
        """The keys of the file, a line each: the first wraps, the others still open while a new one takes over."""
        keys, problems = _read_keys(self.master_key_file, strict=self.is_production)
        if problems:
            raise UnsafeSettings([f"SCREENING_MASTER_KEY_FILE: {problem}" for problem in problems])
        return keys

    def keep_master_keys(self, keys: Sequence[bytes]) -> None:
        """Writes these keys in the place of the file's, at once for whoever reads it."""
        aside = self.master_key_file.with_name(f".{self.master_key_file.name}.{secrets.token_hex(8)}")
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write("".join(f"{key.hex()}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.master_key_file)


class _Reading:
    """One pass over the environment that collects problems instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str], *, serving: bool) -> None:
        self.environ = environ
        self.serving = serving
        self.problems: list[str] = []

    def settings(self) -> Settings:
        environment: Environment = "development"
        if self._choice("SCREENING_ENV", ("development", "production"), "development") == "production":
            environment = "production"
        home = self._home()
        locale: Locale = "en" if self._choice("SCREENING_LOCALE", ("zh_CN", "en"), "zh_CN") == "en" else "zh_CN"
        key_file, backup_target = self._text("SCREENING_MASTER_KEY_FILE"), self._text("SCREENING_BACKUP_TARGET")
        ledgers, backup_key = self._text("SCREENING_LEDGERS"), self._text("SCREENING_BACKUP_KEY_FILE")
        settings = Settings(
            database_url=self._database("DATABASE_URL"),
            database_owner_url=self._database("DATABASE_OWNER_URL"),
            replica_url=self._database("DATABASE_REPLICA_URL"),
            home=home,
            environment=environment,
            master_key_file=_absolute(key_file) if key_file else home / "master.key",
            base_url=self._base_url(),
            smtp_url=self._smtp(),
            webhook_allow=self._hosts("SCREENING_WEBHOOK_ALLOW"),
            probe_address=self._text("SCREENING_PROBE_ADDRESS"),
            locale=locale,
            timezone=self._timezone(),
            ledgers=_absolute(ledgers) if ledgers else home / "ledgers",
            backup_key_file=_absolute(backup_key) if backup_key else home / "backup.pub",
            backup_target=_absolute(backup_target) if backup_target else None,
            sign_in_service=self._sign_in_service(is_strict=environment == "production"),
        )
        if settings.database_url is None:
            for name in ("DATABASE_OWNER_URL", "DATABASE_REPLICA_URL"):
                if self._text(name) and not self._text("DATABASE_URL"):
                    self._say(name, "is set without DATABASE_URL")
        if settings.is_production:
            self._production(settings)
        if self.problems:
            raise UnsafeSettings(self.problems)
        return settings

    def _say(self, name: str, words: str) -> None:
        self.problems.append(f"{name}: {words}")

    def _text(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def _choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self._text(name) or default
        if value not in choices:
            self._say(name, f"must be {' or '.join(choices)}, not {value!r}")
        return value

    def _home(self) -> Path:
        given = self._text("SCREENING_HOME")
        if given:
            home = _absolute(given)
        elif os.geteuid() == 0:
            home = Path("/var/lib/screening")
        else:
            home = Path.cwd() / ".screening"
        if home.exists() and not home.is_dir():
            self._say("SCREENING_HOME", f"{home} is not a folder")
        return home

    def _url(self, name: str, schemes: tuple[str, ...], *, value: str | None) -> SplitResult | None:
        # The value is never repeated: it may hold a password.
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018 - reading it is what checks it
        except ValueError:
            self._say(name, "is not an address")
            return None
        if parts.scheme not in schemes:
            self._say(name, f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
            return None
        return parts

    def _database(self, name: str) -> str | None:
        value = self._text(name)
        schemes = ("postgresql", "postgres", "postgresql+psycopg")
        parts = self._url(name, schemes, value=value)
        if parts is None or value is None:
            return None
        if not parts.path.strip("/") and "dbname=" not in parts.query:
            self._say(name, "names no database")
        if not parts.username and "user=" not in parts.query:
            self._say(name, "names no user")
        return "postgresql" + value.removeprefix(parts.scheme)

    def _base_url(self) -> str:
        value = self._text("SCREENING_BASE_URL") or "http://127.0.0.1:8000"
        parts = self._url("SCREENING_BASE_URL", ("http", "https"), value=value)
        if parts is not None and not parts.hostname:
            self._say("SCREENING_BASE_URL", "names no host")
        if parts is not None and (parts.query or parts.fragment or parts.username or parts.path.strip("/")):
            self._say("SCREENING_BASE_URL", "must be scheme, host and port only")
        return value.rstrip("/")

    def _smtp(self) -> str | None:
        value = self._text("SCREENING_SMTP_URL")
        parts = self._url("SCREENING_SMTP_URL", ("smtp", "smtps"), value=value)
        if parts is not None and not parts.hostname:
            self._say("SCREENING_SMTP_URL", "names no host")
        return value

    def _hosts(self, variable: str) -> tuple[str, ...]:
        names = (self._text(variable) or "").split(",")
        hosts = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
        for host in hosts:
            if not _HOST.fullmatch(host):
                self._say(variable, f"{host!r} is not a host name (no scheme, port, path or *)")
        return hosts

    def _sign_in_service(self, *, is_strict: bool) -> SignInService | None:
        issuer, client_id = self._text("SCREENING_SSO_ISSUER"), self._text("SCREENING_SSO_CLIENT_ID")
        file, hosts = self._text("SCREENING_SSO_CLIENT_SECRET_FILE"), self._hosts("SCREENING_SSO_HOSTS")
        if issuer is None:
            for name in ("SCREENING_SSO_CLIENT_ID", "SCREENING_SSO_CLIENT_SECRET_FILE", "SCREENING_SSO_HOSTS"):
                if self._text(name):
                    self._say(name, "is set without SCREENING_SSO_ISSUER")
            return None
        parts = self._url("SCREENING_SSO_ISSUER", ("http", "https"), value=issuer)
        host = (parts.hostname if parts else None) or ""
        is_here = host in ("127.0.0.1", "localhost", "::1") and not is_strict
        if parts is not None and parts.scheme == "http" and not is_here:
            self._say("SCREENING_SSO_ISSUER", "must be an https:// address: who signs in rests on it")
        if client_id is None:
            self._say("SCREENING_SSO_CLIENT_ID", "is missing beside SCREENING_SSO_ISSUER")
        return SignInService(
            issuer=issuer,
            client_id=client_id or "",
            secret=self._secret(file, is_strict),
            hosts=frozenset({host, *hosts}),
        )

    def _secret(self, file: str | None, is_strict: bool) -> str:
        name = "SCREENING_SSO_CLIENT_SECRET_FILE"
        if file is None:
            self._say(name, "is missing beside SCREENING_SSO_ISSUER")
            return ""
        try:
            secret = _absolute(file).read_text(encoding="utf-8").strip()
            is_open = bool(_absolute(file).stat().st_mode & 0o077)
        except (OSError, UnicodeDecodeError):
            self._say(name, f"{file} cannot be read")
            return ""
        if is_strict and is_open:
            self._say(name, f"{file} is open to other users; chmod 600 it")
        if is_strict and (len(secret) < _FEWEST_SECRET_SIGNS or secret.lower() in _DEFAULT_PASSWORDS):
            self._say(name, f"{file} holds no secret of {_FEWEST_SECRET_SIGNS} or more signs")
        return secret

    def _timezone(self) -> ZoneInfo:
        name = self._text("SCREENING_TIMEZONE") or "Asia/Shanghai"
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._say("SCREENING_TIMEZONE", f"{name!r} is not a known time zone, such as Asia/Shanghai")
            return ZoneInfo("UTC")

    def _production(self, settings: Settings) -> None:
        if not settings.base_url.startswith("https://"):
            self._say("SCREENING_BASE_URL", "production needs an https:// address: cookies never travel in the clear")
        elif (urlsplit(settings.base_url).hostname or "") in ("localhost", "127.0.0.1", "::1"):
            self._say("SCREENING_BASE_URL", "is this machine's own name; links and codes on paper would lead nowhere")
        if not self._text("SCREENING_MASTER_KEY_FILE"):
            self._say("SCREENING_MASTER_KEY_FILE", "production needs a key of its own; no default is used")
        else:
            for problem in _read_keys(settings.master_key_file, strict=True)[1]:
                self._say("SCREENING_MASTER_KEY_FILE", problem)
        if settings.is_embedded and not self._text("DATABASE_URL"):
            if not self._text("SCREENING_HOME"):
                self._say("SCREENING_HOME", "production on the embedded server needs a home that is chosen")
            if settings.backup_target is None:
                self._say("SCREENING_BACKUP_TARGET", "production on the embedded server needs a backup target")
            elif self.serving and not settings.backup_key_file.exists():
                words = f"{settings.backup_key_file} is not there; screening keys backup makes the pair"
                self._say("SCREENING_BACKUP_KEY_FILE", words)
        self._production_database(settings)

    def _production_database(self, settings: Settings) -> None:
        for name, url in (
            ("DATABASE_URL", settings.database_url),
            ("DATABASE_OWNER_URL", settings.database_owner_url),
            ("DATABASE_REPLICA_URL", settings.replica_url),
        ):
            user, password = _credentials(url)
            if _is_in_the_clear(url):
                self._say(name, "asks for no encryption (sslmode); use require or verify-full")
            if password is not None and (password.lower() in _DEFAULT_PASSWORDS or password == user):
                self._say(name, "its password is a default one")
            if name != "DATABASE_OWNER_URL" and user in _SUPERUSERS:
                self._say(name, f"the user {user!r} looks like a superuser; the app's role owns nothing")
        owner, app = _credentials(settings.database_owner_url)[0], _credentials(settings.database_url)[0]
        if owner is not None and owner == app:
            self._say("DATABASE_URL", "has the owner's user; the app's role owns nothing")
        if self.serving and settings.database_owner_url:
            self._say("DATABASE_OWNER_URL", "is never given to serve or worker; unset it here")


def _absolute(path: str) -> Path:
    return Path.cwd() / Path(path).expanduser()


def _is_in_the_clear(url: str | None) -> bool:
    asked = dict(part.partition("=")[::2] for part in urlsplit(url or "").query.split("&"))
    return asked.get("sslmode") in ("disable", "allow", "prefer")


def _credentials(url: str | None) -> tuple[str | None, str | None]:
    parts = urlsplit(url or "")
    return parts.username, parts.password


def _make_key(path: Path) -> None:
    # Written aside, then linked: of two processes at once one key wins and no reader sees half of it.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
    finally:
        aside.unlink()


def _read_keys(path: Path, *, strict: bool) -> tuple[list[bytes], list[str]]:
    """The keys in a file: 32 raw bytes, or a line each of 64 hex digits or base64; and what is wrong with it."""
    try:
        # An operator's key may be a link (mounted secrets are); one that we made ourselves never is.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if strict else os.O_NOFOLLOW))
    except OSError as error:
        return [], [f"{path} cannot be read ({error.strerror})"]
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return [], [f"{path} is not a file"]
        keys = _decoded(file.read(4096))
    problems = []
    if strict and status.st_mode & 0o077:
        problems.append(f"{path} is open to other users; chmod 600 it")
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        problems.append(f"{path} must hold 32 bytes, raw, as 64 hex digits or as base64")
    elif any(len(set(key)) < 12 for key in keys):  # 32 random bytes have fewer than 12 different ones once in 10^25
        problems.append(f"{path} holds a made-up key, not a random one")
    return keys, problems


def _decoded(content: bytes) -> list[bytes]:
    if len(content) == _KEY_BYTES:
        return [content]
    return [_from_text(line) for line in content.split()]


def _from_text(text: bytes) -> bytes:
    if re.fullmatch(rb"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text.decode())
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
