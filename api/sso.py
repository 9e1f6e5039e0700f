"""Another sign-in service vouches for staff: OpenID Connect by Authlib (extra `sso`), code flow with PKCE and nonce.

What it says of a second factor counts (`amr`); where it says nothing, ours is asked for. Nothing is fetched from a
host that the settings do not name, and no redirect is followed.
"""

import base64
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from screening import sealing
from screening.errors import NotSignedIn, ServiceBusy
from screening.settings import SignInService

SECONDS = 600
"""How long somebody may take at the other service."""
PATIENCE_SECONDS = 5.0
LEEWAY_SECONDS = 60
SECOND_FACTORS = frozenset({"mfa", "otp", "hwk"})
"""RFC 8176: of these one in `amr` says that more than a password was asked for."""
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Signatures by a key that only the service has: never a shared secret, never none."""
_NOT_VOUCHED = "The sign-in service did not vouch for anybody. Begin again."


@dataclass(frozen=True)
class Attempt:
    """What a browser carries from us to the service and back, sealed."""

    state: str
    nonce: str
    verifier: str
    begun: int


@dataclass(frozen=True)
class Vouched:
    """Whom the service vouches for; the address only when it says that it has verified it."""

    issuer: str
    subject: str
    verified_email: str | None
    has_second_factor: bool


def begin(service: SignInService, callback: str, *, now: int) -> tuple[str, Attempt]:
    """Where to send the browser, and what it has to bring back. Raises ServiceBusy."""
    attempt = Attempt(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), now)
    with _client(service, callback) as client:
        address, _ = client.create_authorization_url(
            _endpoint(service, _described(service, client), "authorization_endpoint"),
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
        )
    return str(address), attempt


def finish(
    service: SignInService, callback: str, attempt: Attempt | None, *, code: str, state: str, now: int
) -> Vouched:
    """Whom the service vouches for, by the code that the browser brought. Raises NotSignedIn, ServiceBusy."""
    is_ours = attempt is not None and secrets.compare_digest(attempt.state.encode(), state.encode())
    if attempt is None or not is_ours or not 0 <= now - attempt.begun <= SECONDS:
        raise NotSignedIn(_NOT_VOUCHED)
    with _client(service, callback) as client:
        described = _described(service, client)
        keys = _fetched(service, client, _endpoint(service, described, "jwks_uri"))
        try:
            token = client.fetch_token(
                _endpoint(service, described, "token_endpoint"), code=code, code_verifier=attempt.verifier
            )
            return _vouched(service, token, keys, attempt, now)
        except httpx2.HTTPError:
            raise ServiceBusy("The sign-in service does not answer. Try again shortly.") from None
        except (AuthlibBaseError, JoseError, ValueError, TypeError, KeyError):
            # its words may hold what the browser sent: none of them is repeated
            raise NotSignedIn(_NOT_VOUCHED) from None


def seal(master: bytes, attempt: Attempt) -> str:
    """An attempt as a browser keeps it."""
    sealed = sealing.seal(sealing.purpose_key(master, "sso"), json.dumps(asdict(attempt)).encode(), "sso")
    return base64.urlsafe_b64encode(sealed).decode()


def unseal(master: bytes, kept: str | None) -> Attempt | None:
    """The attempt that a browser kept; None for anything else."""
    try:
        sealed = base64.urlsafe_b64decode(kept or "")
        return Attempt(**json.loads(sealing.unseal(sealing.purpose_key(master, "sso"), sealed, "sso")))
    except (ValueError, TypeError, sealing.CannotOpen):
        return None


def _vouched(
    service: SignInService, token: dict[str, Any], keys: dict[str, Any], attempt: Attempt, now: int
) -> Vouched:
    decoded = jwt.decode(token["id_token"], KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        {
            "iss": {"essential": True, "value": service.issuer},
            "aud": {"essential": True, "value": service.client_id},
            "sub": {"essential": True},
            "exp": {"essential": True},
            "iat": {"essential": True},
            "nonce": {"essential": True, "value": attempt.nonce},
        },
        {"nonce": attempt.nonce, "client_id": service.client_id, "access_token": token.get("access_token")},
    )
    claims.validate(now=now, leeway=LEEWAY_SECONDS)
    email = claims.get("email") if claims.get("email_verified") is True else None
    return Vouched(
        issuer=service.issuer,
        subject=str(claims["sub"])[:400],
        verified_email=email if isinstance(email, str) and email else None,
        has_second_factor=not SECOND_FACTORS.isdisjoint(claims.get("amr") or ()),
    )


def _client(service: SignInService, callback: str) -> OAuth2Client:
    return OAuth2Client(
        client_id=service.client_id,
        client_secret=service.secret,
        scope="openid email",
        redirect_uri=callback,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic",  # noqa: S106 - the name of a method
        timeout=PATIENCE_SECONDS,
        follow_redirects=False,
        trust_env=False,
    )


def _described(service: SignInService, client: OAuth2Client) -> dict[str, Any]:
    found = _fetched(service, client, service.issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != service.issuer:
        raise ServiceBusy("The sign-in service says that it is another one.")
    return found


def _fetched(service: SignInService, client: OAuth2Client, address: str) -> dict[str, Any]:
    _must_be_named(service, address)
    try:
        came = client.request("GET", address, withhold_token=True)
        came.raise_for_status()
        found = came.json()
    except (httpx2.HTTPError, ValueError):
        raise ServiceBusy("The sign-in service does not answer. Try again shortly.") from None
    if not isinstance(found, dict):
        raise ServiceBusy("The sign-in service does not answer as one.")
    return found


def _endpoint(service: SignInService, described: dict[str, Any], name: str) -> str:
    address = str(described.get(name, ""))
    _must_be_named(service, address)
    return address


def _must_be_named(service: SignInService, address: str) -> None:
    parts, issuer = urlsplit(address), urlsplit(service.issuer)
    if parts.scheme != issuer.scheme or (parts.hostname or "") not in service.hosts:
        raise ServiceBusy("The sign-in service names a host that is not in SCREENING_SSO_HOSTS.")
