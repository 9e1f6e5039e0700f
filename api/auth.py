"""Proof of identity: a request's bearer token or session cookie becomes an actor with the roles of this moment.

A browser sends its cookie along whoever made it ask; so whoever comes with a cookie and wants to change something
shows that the page which asked is ours: by where the request came from, and by a token that only our pages know.
"""

import ipaddress
import re
import secrets
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.requests import HTTPConnection

from api.errors import Forbidden, Unauthenticated
from screening import access, sealing, sessions, staff
from screening.db import Database
from screening.settings import Settings
from screening.signing_in import DEVICE_KNOWN_FOR, Whence

CSRF_HEADER = "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ANYWAY = frozenset({"/v1/accounts/me", "/v1/tokens/current"})
"""What the bearer of any token may ask, whatever it was made for."""
SENDING = frozenset({"rosters", "uploads"})
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_\-]{20,100})")
_SECRET = re.compile(r"[A-Za-z0-9_\-]{20,100}")
_DEVICE = re.compile(r"[0-9]{1,12}\.[A-Za-z0-9_\-]{1,40}\.[0-9a-f]{32}")
_DETAIL = "Sign in, or send a valid token: Authorization: Bearer."
_NOT_OURS = "This did not come from a page of this service."

Keeping = Literal["session", "device", "sso"]


@dataclass(frozen=True)
class Credential:
    """What a request shows of who sends it."""

    secret: str
    is_cookie: bool

    def __repr__(self) -> str:
        return "Credential(sealed)"


def credential_of(request: HTTPConnection) -> Credential:
    """The bearer token that came along, or else the session's cookie. Raises Unauthenticated."""
    shown = request.headers.get("authorization")
    if shown is not None:
        found = _BEARER.fullmatch(shown)
        if found is None:
            raise Unauthenticated(_DETAIL)
        return Credential(found[1], is_cookie=False)
    secret = kept(request, "session")
    if secret is None or not _SECRET.fullmatch(secret):
        raise Unauthenticated(_DETAIL)
    return Credential(secret, is_cookie=True)


def actor_of(database: Database, credential: Credential) -> access.Actor:
    """Who shows it; asked anew for each request, so that what was revoked ends at once. Raises Unauthenticated."""
    find = sessions.actor_by_session if credential.is_cookie else staff.actor_by_token
    found = find(database, credential.secret)
    if found is None:
        raise Unauthenticated(_DETAIL)
    return found


def suits(purpose: str, method: str, path: str, tag: str) -> bool:
    """Whether a token that was made for this purpose opens that door."""
    if purpose == "everything" or path in ANYWAY:
        return True
    if purpose == "reading":
        return method in SAFE
    return tag in SENDING or (tag == "rounds" and method in SAFE)


# -- whoever comes with a cookie ------------------------------------------------------------------------


def must_be_ours(request: Request, credential: Credential) -> None:
    """Refuses what another site's page made a browser ask. Raises Forbidden (`csrf`)."""
    if request.method in SAFE or not credential.is_cookie:
        return
    must_come_from_us(request)
    wanted = csrf_token(request.app.state.database, credential.secret)
    if not secrets.compare_digest(wanted, request.headers.get(CSRF_HEADER, "").encode("ascii", "replace").decode()):
        raise Forbidden(f"Send the {CSRF_HEADER} of this session.", code="csrf")


def must_come_from_us(request: Request) -> None:
    """Refuses a request that says it comes from elsewhere. Raises Forbidden (`csrf`)."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden(_NOT_OURS, code="csrf")
    origin = request.headers.get("origin")
    if origin is not None and origin not in _origins(request):
        raise Forbidden(_NOT_OURS, code="csrf")


def csrf_token(database: Database, secret: str) -> str:
    """What a page of ours sends with every change: made from the session's secret, which no page can read."""
    key = sealing.purpose_key(database.master_key, "csrf")
    return sealing.keyed_hash(key, secret.encode()).hex()


def _origins(request: Request) -> set[str]:
    settings = _settings(request)
    base = urlsplit(settings.base_url)
    origins = {f"{base.scheme}://{base.netloc}"}
    if not settings.is_production:  # under any name that this machine has
        origins.add(f"{request.url.scheme}://{request.url.netloc}")
    return origins


# -- cookies --------------------------------------------------------------------------------------------


def cookie_name(settings: Settings, what: Keeping) -> str:
    """`__Host-` binds a cookie to this very host and to https; plain http, in development, cannot have it."""
    name = "screening" if what == "session" else f"screening-{what}"
    return f"__Host-{name}" if _is_https(settings) else name


def kept(request: HTTPConnection, what: Keeping) -> str | None:
    """What a browser keeps for us under that name."""
    return request.cookies.get(cookie_name(_settings(request), what))


def keep(request: Request, response: Response, what: Keeping, value: str, *, seconds: int | None = None) -> None:
    """Gives a browser something to keep: for the site alone, out of reach of scripts."""
    settings = _settings(request)
    response.set_cookie(
        cookie_name(settings, what),
        value,
        max_age=seconds,
        path="/",
        secure=_is_https(settings),
        httponly=True,
        samesite="lax",
    )


def drop(request: Request, response: Response, what: Keeping) -> None:
    """Takes it back."""
    settings = _settings(request)
    response.delete_cookie(
        cookie_name(settings, what), path="/", secure=_is_https(settings), httponly=True, samesite="lax"
    )


def keep_device(request: Request, response: Response, device: str) -> None:
    keep(request, response, "device", device, seconds=int(DEVICE_KNOWN_FOR.total_seconds()))


def whence(request: Request) -> Whence:
    """Where a request comes from: the client's address (of IPv6 the network), and the browser if it is known."""
    device = kept(request, "device")
    return Whence(_place(request.client.host if request.client else ""), device if _is_device(device) else None)


def _place(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:100]
    if isinstance(address, ipaddress.IPv6Address):  # one household or attacker has a whole /64
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _is_device(device: str | None) -> bool:
    return device is not None and _DEVICE.fullmatch(device) is not None


def _is_https(settings: Settings) -> bool:
    return settings.base_url.startswith("https://")


def _settings(request: HTTPConnection) -> Settings:
    settings: Settings = request.app.state.settings
    return settings
