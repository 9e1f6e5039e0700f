"""Webhooks: how one of the staff hears in a chat instead of by mail; to allowed hosts only, signed, and never followed.

The host's name is asked for once for each message, its addresses are checked, and the connection goes to the address
that was checked: an answer that changes in between leads nowhere.
"""

import base64
import datetime as dt
import hashlib
import hmac
import http.client
import ipaddress
import json
import secrets
import socket
import ssl
import uuid
from dataclasses import dataclass
from urllib.parse import SplitResult, urlencode, urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts.channels import TIMEOUT_SECONDS, Message, Undeliverable, written
from alerts.models import Webhook
from screening import access, audit, sealing
from screening.errors import NotFound, Refused
from screening.models import Staff
from screening.settings import Settings

BODIES = ("generic", "wecom", "dingtalk", "feishu")
SIGNED_BY_CHAT = ("dingtalk", "feishu")
"""Chats whose robots can be told to take signed messages only, under a secret that they give out."""
_LONGEST_ANSWER = 65_536
_TRY_LATER = (408, 425, 429)
_LONGEST_ADDRESS = 2_000


def add(
    session: Session,
    staff_id: uuid.UUID,
    address: str,
    body: str,
    *,
    settings: Settings,
    by: access.Actor,
    now: dt.datetime,
    chat_secret: str | None = None,
) -> tuple[Webhook, str]:
    """Lets one of the staff hear at this address from now on, in place of an earlier one; with the signing secret.

    The secret is told this once. `chat_secret` is the one that a chat's robot was given there, where it takes signed
    messages only. Raises Refused for an address that may not be reached, NotFound for nobody.
    """
    if body not in BODIES:
        raise Refused(f"The body is one of these: {', '.join(BODIES)}.", code="unknown_body")
    if chat_secret is not None and body not in SIGNED_BY_CHAT:
        raise Refused(f"Only these sign by a secret of theirs: {', '.join(SIGNED_BY_CHAT)}.", code="no_chat_secret")
    parts = _allowed(address, settings)
    district_id = access.scope_of(session).district_id
    if session.get(Staff, (district_id, staff_id)) is None:
        raise NotFound("There is nobody with this id.")
    _end(session, staff_id, now)
    secret = secrets.token_urlsafe(32)
    made = Webhook(
        district_id=district_id,
        id=uuid.uuid4(),
        staff_id=staff_id,
        body=body,
        host=parts.hostname or "",
        sealed=b"",
        added_by=by.person,
        added_at=now,
    )
    plain = json.dumps({"address": address, "secret": secret, "chat_secret": chat_secret})
    made.sealed = sealing.keys(session).seal_text(plain, f"webhook/{made.id}")
    session.add(made)
    session.flush()
    audit.record(session, by, "webhook.added", "staff", staff_id, body=body, host=made.host)
    return made, secret


def end(session: Session, staff_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> None:
    """From now on they hear by mail. Raises NotFound where there is no webhook."""
    if not _end(session, staff_id, now):
        raise NotFound("There is no webhook.")
    audit.record(session, by, "webhook.ended", "staff", staff_id)


def standing(session: Session, staff_id: uuid.UUID) -> Webhook | None:
    """The webhook by which this person hears."""
    return session.scalars(
        select(Webhook).where(
            Webhook.district_id == access.scope_of(session).district_id,
            Webhook.staff_id == staff_id,
            Webhook.ended_at.is_(None),
        )
    ).one_or_none()


def of(session: Session, staff_id: uuid.UUID, settings: Settings, *, now: dt.datetime) -> "Hook | None":
    """The way to this person by webhook; None where there is none."""
    found = standing(session, staff_id)
    if found is None:
        return None
    told = json.loads(sealing.keys(session).open_text(found.sealed, f"webhook/{found.id}"))
    return Hook(settings, told["address"], told["secret"], found.body, now, told.get("chat_secret"))


@dataclass(frozen=True)
class Hook:
    """A channel to one address. The answer's status, and in chats its error code, say whether it was taken."""

    settings: Settings
    target: str
    secret: str
    body: str
    now: dt.datetime
    chat_secret: str | None = None
    name: str = "webhook"

    def __call__(self, address: str, message: Message) -> None:
        try:
            parts = _allowed(self.target, self.settings)
        except Refused:
            raise Undeliverable("webhook_not_allowed", is_refused=True) from None
        content = payload(self.body, message, self.settings, **self._signed_in_body())
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "screening",
            "X-Screening-Delivery": str(message.id),
            "X-Screening-Signature": signature(self.secret, content),
        }
        try:
            status, answer = _post(self._signed_in_address(parts), content, headers, self.settings)
        except (OSError, http.client.HTTPException) as failure:
            raise Undeliverable(f"webhook_{type(failure).__name__}") from None
        _check(status, answer, self.body)

    def _signed_in_body(self) -> dict[str, object]:
        if self.body != "feishu" or self.chat_secret is None:
            return {}
        timestamp = str(int(self.now.timestamp()))
        return {"timestamp": timestamp, "sign": chat_signature("feishu", self.chat_secret, timestamp)}

    def _signed_in_address(self, parts: SplitResult) -> SplitResult:
        if self.body != "dingtalk" or self.chat_secret is None:
            return parts
        timestamp = str(int(self.now.timestamp() * 1000))
        signed = {"timestamp": timestamp, "sign": chat_signature("dingtalk", self.chat_secret, timestamp)}
        return parts._replace(query="&".join(filter(None, [parts.query, urlencode(signed)])))


def chat_signature(body: str, secret: str, timestamp: str) -> str:
    """What a chat compares: DingTalk signs time and secret under the secret, Feishu nothing under both of them."""
    told = f"{timestamp}\n{secret}".encode()
    key, content = (secret.encode(), told) if body == "dingtalk" else (told, b"")
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def payload(body: str, message: Message, settings: Settings, **more: object) -> bytes:
    """The bytes that are sent: an urgency, a link, a school and a time, as this receiver wants them."""
    subject, words = written(message, settings)
    if body == "generic":
        told: dict[str, object] = {
            "delivery": str(message.id),
            "urgency": message.urgency,
            "link": message.link,
            "school": message.school,
            "due": message.due_at.astimezone(dt.UTC).isoformat(),
        }
    elif body == "feishu":
        told = {"msg_type": "text", "content": {"text": f"{subject}\n{words}"}}
    else:
        told = {"msgtype": "text", "text": {"content": f"{subject}\n{words}"}}
    return json.dumps(told | more, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: str, content: bytes) -> str:
    """What the receiver compares: the HMAC-SHA256 of the body under the shared secret."""
    return "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def _end(session: Session, staff_id: uuid.UUID, now: dt.datetime) -> bool:
    found = standing(session, staff_id)
    if found is not None:
        found.ended_at = now
        session.flush()
    return found is not None


# -- where it may go ----------------------------------------------------------------------------------


def _allowed(address: str, settings: Settings) -> SplitResult:
    """The address in its parts. Raises Refused when it is none, or not to a host of the list."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise Refused("This is no address.", code="webhook_address") from None
    host = (parts.hostname or "").lower()
    if len(address) > _LONGEST_ADDRESS or not address.isascii() or any(sign <= " " for sign in address):
        raise Refused("This is no address.", code="webhook_address")
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password or parts.fragment:
        raise Refused("Give an https:// address without a name, password or fragment in it.", code="webhook_address")
    if host not in settings.webhook_allow:
        raise Refused("This host is not on the operator's list of hosts (SCREENING_WEBHOOK_ALLOW).", code="not_allowed")
    if parts.scheme == "http" and not _is_private(host):
        raise Refused("A webhook outside this network needs an https:// address.", code="webhook_address")
    if port == 0:
        raise Refused("This is no address.", code="webhook_address")
    return parts


def _is_private(host: str) -> bool:
    """Whether this is written as an address within the own network, which the list then names as such."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _checked_address(parts: SplitResult, settings: Settings) -> tuple[str, int]:
    """The one address that is connected to. Raises Undeliverable when any that the name has is not public."""
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        bare = ipaddress.ip_address(address.split("%")[0])
        mapped = getattr(bare, "ipv4_mapped", None) or bare
        if not (mapped.is_global and not mapped.is_multicast) and str(mapped) not in settings.webhook_allow:
            raise Undeliverable("webhook_private_address", is_refused=True)
    return found[0], port


def _post(parts: SplitResult, content: bytes, headers: dict[str, str], settings: Settings) -> tuple[int, bytes]:
    address, port = _checked_address(parts, settings)
    connection = http.client.HTTPConnection(parts.hostname or "", port, timeout=TIMEOUT_SECONDS)
    plain = socket.create_connection((address, port), timeout=TIMEOUT_SECONDS)
    try:
        if parts.scheme == "https":
            plain = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
        connection.sock = plain
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body=content, headers=headers)
        came = connection.getresponse()
        return came.status, came.read(_LONGEST_ANSWER)
    finally:
        connection.close()
        plain.close()


def _check(status: int, answer: bytes, body: str) -> None:
    if status in _TRY_LATER or status >= 500:
        raise Undeliverable(f"webhook_{status}")
    if not 200 <= status < 300:  # a redirect is one too: nobody follows it
        raise Undeliverable(f"webhook_{status}", is_refused=True)
    if body == "generic":
        return
    try:
        told = json.loads(answer)
        code = told.get("errcode", told.get("code", told.get("StatusCode"))) if isinstance(told, dict) else None
    except (ValueError, RecursionError):
        code = None
    if code != 0:  # chats answer 200 and say in the body that they took nothing
        raise Undeliverable(f"webhook_{body}_{code if isinstance(code, int) else 'unreadable'}")
