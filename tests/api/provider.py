"""A small OpenID Connect provider on a local port, with keys of its own: what a district's sign-in service is to us."""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "screening", "a secret that both of them know"


@dataclass
class Provider:
    """Lets in whoever `who` says, by the book; `lies` are what a token claims beside or instead of it."""

    address: str = ""
    who: dict[str, Any] = field(default_factory=dict)
    lies: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    signs_with: str = "own"
    asked: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.describe),
                Route("/keys", self.keys),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
            ]
        )

    async def describe(self, _: Request) -> Response:
        at = self.address
        told = {"issuer": at, "authorization_endpoint": f"{at}/authorize", "token_endpoint": f"{at}/token"}
        return JSONResponse(told | {"jwks_uri": f"{at}/keys"} | self.endpoints)

    async def keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def token(self, request: Request) -> Response:
        form = dict(await request.form())
        asked = self.codes.pop(str(form.get("code")), None)
        challenge = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        known = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        is_right = (
            asked is not None
            and request.headers.get("authorization") == known
            and asked.get("code_challenge_method") == "S256"
            and asked.get("code_challenge") == base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
            and asked.get("redirect_uri") == form.get("redirect_uri")
        )
        if asked is None or not is_right:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        signed = self.signed(
            {name: value for name, value in (claims | self.who | self.lies).items() if value is not None}
        )
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "expires_in": 300, "id_token": signed})

    def signed(self, claims: dict[str, Any]) -> str:
        if self.signs_with == "none":
            return (_part({"alg": "none"}) + b"." + _part(claims) + b".").decode()
        if self.signs_with == "public":  # a public key taken for a shared secret
            head = _part({"alg": "HS256", "kid": "one"}) + b"." + _part(claims)
            mac = hmac.digest(self.key.as_pem(private=False), head, "sha256")
            return (head + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
        key = self.key if self.signs_with == "own" else RSAKey.generate_key(2048, {"kid": "one"})
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)


def _part(claims: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")


@contextlib.contextmanager
def running() -> Iterator[Provider]:
    """A provider that answers on a local port."""
    provider = Provider()
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        provider.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(provider.app(), log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield provider
        server.should_exit = True
        thread.join()
