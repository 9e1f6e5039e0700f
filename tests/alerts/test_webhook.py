"""A message by webhook: signed, to allowed hosts only, never followed, and by mail where it fails."""

import base64
import datetime as dt
import hashlib
import hmac
import http.server
import ipaddress
import json
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from alerts import delivery, webhooks
from alerts.channels import Message, Undeliverable
from screening.errors import NotFound, Refused
from screening.settings import Settings
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, made_up_settings, ring
from tests.alerts.test_delivery import Outbox
from tests.cast import Cast

MINUTE = dt.timedelta(minutes=1)


@dataclass
class Receiver:
    """A server's side of a webhook: keeps what it gets, after answering the first ones like this."""

    port: int
    answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=k"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving() as found:
        yield found


class serving:  # noqa: N801 - reads as what it does
    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.found.seen.append((self.path, dict(self.headers), body))
                status, answer, more = outer.found.answers.pop(0) if outer.found.answers else (200, b"{}", {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.found = Receiver(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self.found

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made_up_settings(tmp_path, SCREENING_WEBHOOK_ALLOW="127.0.0.1,hooks.example", SCREENING_LOCALE="en")


def hear_by(cast: Cast, address: str, settings: Settings, body: str = "generic") -> str:
    """The only counselor of school B hears there from now on; the secret."""
    with cast.database.unit(cast.scope) as session:
        made = webhooks.add(session, cast.chen.person, address, body, settings=settings, by=cast.chen, now=MONDAY)
        return made[1]


def send(cast: Cast, settings: Settings, now: dt.datetime, outbox: Outbox) -> tuple[int, int]:
    came = delivery.deliver_pending(cast.database, cast.district.id, settings, now=now, send=outbox)
    return came.sent, came.failed


def test_what_arrives_is_signed_and_says_nothing_of_anybody(cast: Cast, settings: Settings, receiver: Receiver) -> None:
    secret = hear_by(cast, receiver.address, settings)
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.in_school_b, ORANGE, rule="phq9_self_harm", is_self_harm=True)
    outbox = Outbox()
    assert send(cast, settings, MONDAY, outbox) == (1, 0)
    assert outbox.taken == []
    ((path, headers, body),) = receiver.seen
    assert path == "/hook?key=k"
    assert headers["X-Screening-Signature"] == "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert set(told) == {"delivery", "urgency", "link", "school", "due"}
    assert told["link"].endswith(f"/v1/alerts/{alert.id}")
    assert (told["urgency"], told["school"]) == ("soon", "School B")
    assert uuid.UUID(headers["X-Screening-Delivery"]) == uuid.UUID(told["delivery"])
    everything = f"{headers}{body.decode()}".lower()
    for canary in ("王小明", "b001", "phq", "harm", "score", "tier", "orange", str(cast.students.in_school_b.id)):
        assert canary not in everything
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select state, channel from deliveries")).one() == ("sent", "webhook")


@pytest.mark.parametrize(
    ("body", "taken", "refused"),
    [
        ("wecom", {"errcode": 0, "errmsg": "ok"}, {"errcode": 93000, "errmsg": "invalid webhook url"}),
        ("dingtalk", {"errcode": 0, "errmsg": "ok"}, {"errcode": 310000, "errmsg": "keywords not in content"}),
        ("feishu", {"code": 0, "msg": "success"}, {"code": 19001, "msg": "param invalid"}),
        ("feishu", {"StatusCode": 0, "StatusMessage": "success"}, {"code": 9499, "msg": "Bad Request"}),
    ],
)
def test_each_chat_gets_the_body_it_understands_and_says_in_it_whether_it_took_it(
    settings: Settings, receiver: Receiver, body: str, taken: dict[str, Any], refused: dict[str, Any]
) -> None:
    hook = webhooks.Hook(settings, receiver.address, "secret", body, MONDAY)
    message = Message(uuid.uuid4(), "immediate", "http://x/y", "School A", MONDAY)
    receiver.answers.append((200, json.dumps(taken).encode(), {}))
    hook("", message)
    told = json.loads(receiver.seen[0][2])
    words = told["content"]["text"] if body == "feishu" else told["text"]["content"]
    assert told.get("msgtype", told.get("msg_type")) == "text"
    assert words == (
        "Student wellbeing: please look now\nplease look now\n\nSchool: School A\nDue: 2026-09-07 10:00\nhttp://x/y\n"
    )
    for answer in (json.dumps(refused).encode(), b"<html>", b""):
        receiver.answers.append((200, answer, {}))
        with pytest.raises(Undeliverable, match=f"webhook_{body}_"):
            hook("", message)


def test_a_robot_that_takes_signed_messages_only_can_check_them(
    cast: Cast, settings: Settings, receiver: Receiver
) -> None:
    told: dict[str, tuple[str, dict[str, Any]]] = {}
    for body in webhooks.SIGNED_BY_CHAT:
        with cast.database.unit(cast.scope) as session:
            about: dict[str, Any] = {"settings": settings, "by": cast.chen, "now": MONDAY, "chat_secret": "SECwith+/="}
            webhooks.add(session, cast.chen.person, receiver.address, body, **about)
            hook = webhooks.of(session, cast.chen.person, settings, now=MONDAY)
        assert hook is not None
        receiver.answers.append((200, b'{"errcode": 0, "code": 0}', {}))
        hook("", Message(uuid.uuid4(), "immediate", "http://x/y", "School A", MONDAY))
        path, _, sent_bytes = receiver.seen[-1]
        told[body] = (path, json.loads(sent_bytes))
    sent = parse_qs(urlsplit(told["dingtalk"][0]).query)
    assert (sent["key"], sent["timestamp"]) == (["k"], [f"{MONDAY.timestamp() * 1000:.0f}"])
    expected = hmac.new(b"SECwith+/=", f"{sent['timestamp'][0]}\nSECwith+/=".encode(), hashlib.sha256)
    assert base64.b64decode(sent["sign"][0]) == expected.digest()
    content = told["feishu"][1]
    assert content["timestamp"] == f"{MONDAY.timestamp():.0f}"
    expected = hmac.new(f"{content['timestamp']}\nSECwith+/=".encode(), b"", hashlib.sha256)
    assert base64.b64decode(content["sign"]) == expected.digest()
    assert (set(told["dingtalk"][1]), told["feishu"][0]) == ({"msgtype", "text"}, "/hook?key=k")


@pytest.mark.parametrize("body", ["generic", "wecom"])
def test_a_receiver_that_signs_by_no_secret_of_its_own_is_given_none(cast: Cast, settings: Settings, body: str) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(Refused, match="sign by a secret"):
        about: dict[str, Any] = {"settings": settings, "by": cast.chen, "now": MONDAY, "chat_secret": "x"}
        webhooks.add(session, cast.chen.person, "https://hooks.example/x", body, **about)


def test_what_fails_goes_by_mail_at_once(cast: Cast, settings: Settings, receiver: Receiver) -> None:
    hear_by(cast, receiver.address, settings)
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_b, ORANGE)
    receiver.answers.append((500, b"", {}))
    outbox = Outbox()
    assert send(cast, settings, MONDAY, outbox) == (1, 0)
    ((_, message),) = outbox.taken
    assert str(message.id) == receiver.seen[0][1]["X-Screening-Delivery"]


def test_a_retry_has_the_same_id_and_the_same_body(cast: Cast, settings: Settings, receiver: Receiver) -> None:
    hear_by(cast, receiver.address, settings)
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_b, ORANGE)
    receiver.answers.append((503, b"", {}))
    assert send(cast, settings, MONDAY, Outbox(failures=9)) == (0, 1)
    assert send(cast, settings, MONDAY + MINUTE / 2, Outbox()) == (0, 0)
    assert send(cast, settings, MONDAY + MINUTE, Outbox()) == (1, 0)
    first, second = receiver.seen
    assert first[1]["X-Screening-Delivery"] == second[1]["X-Screening-Delivery"]
    assert first[2] == second[2]


def test_a_redirect_is_not_followed(settings: Settings, receiver: Receiver) -> None:
    with serving() as elsewhere:
        receiver.answers.append((307, b"", {"Location": elsewhere.address}))
        hook = webhooks.Hook(settings, receiver.address, "secret", "generic", MONDAY)
        with pytest.raises(Undeliverable, match="webhook_307") as refused:
            hook("", Message(uuid.uuid4(), "soon", "x", "y", MONDAY))
        assert refused.value.is_refused
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    "address",
    [
        "https://elsewhere.example/hook",
        "https://127.0.0.1.elsewhere.example/",
        "https://hooks.example@elsewhere.example/",
        "https://elsewhere.example/#hooks.example",
        "https://name:word@hooks.example/",
        "http://hooks.example/",  # in the clear, outside this network
        "http://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "https://hooks.example:99999/",
        "https://hooks.example:0/",
        "https://hooks.example/a b",
        "https://hooks.example/\r\nX: y",
        "https://h\u00f6oks.example/",
        "https:///hook",
        "hooks.example",
        "https://hooks.example/" + "x" * 2000,
        "http://0177.0.0.1/",
        "http://2130706433/",
    ],
)
def test_an_address_that_may_not_be_reached_is_refused(cast: Cast, settings: Settings, address: str) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(Refused):
        webhooks.add(session, cast.chen.person, address, "generic", settings=settings, by=cast.chen, now=MONDAY)


def test_a_name_that_leads_into_this_network_leads_nowhere(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    inside = ["10.0.0.7", "127.0.0.2", "169.254.169.254", "::1", "::ffff:192.168.0.1", "fe80::1%eth0", "224.0.0.1"]

    def lookup(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(0, 0, 0, "", ("93.184.216.34", port)), (0, 0, 0, "", (inside[len(asked) - 1], port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    hook = webhooks.Hook(settings, "https://hooks.example/x", "secret", "generic", MONDAY)
    for _ in inside:
        with pytest.raises(Undeliverable, match="webhook_private_address"):
            hook("", Message(uuid.uuid4(), "soon", "x", "y", MONDAY))
    assert asked == ["hooks.example"] * len(inside)


def test_the_address_that_was_checked_is_the_one_that_is_reached(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may answer otherwise a moment later: it is asked once, and the connection names an address."""
    reached: list[tuple[str, int]] = []
    asked: list[str] = []

    def lookup(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(0, 0, 0, "", ("93.184.216.34" if len(asked) == 1 else "127.0.0.1", port))]

    def connect(where: tuple[str, int], timeout: float) -> socket.socket:
        reached.append(where)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Undeliverable, match="webhook_ConnectionRefusedError"):
        webhooks.Hook(settings, "https://hooks.example/x", "s", "generic", MONDAY)(
            "", Message(uuid.uuid4(), "soon", "x", "y", MONDAY)
        )
    assert (asked, reached) == (["hooks.example"], [("93.184.216.34", 443)])


def test_a_host_that_was_taken_off_the_list_is_not_reached_any_more(
    cast: Cast, settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    hear_by(cast, receiver.address, settings)
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_b, ORANGE)
    outbox = Outbox()
    assert send(cast, made_up_settings(tmp_path), MONDAY, outbox) == (1, 0)
    assert (len(outbox.taken), receiver.seen) == (1, [])


def test_the_receivers_certificate_is_checked(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    message = Message(uuid.uuid4(), "soon", "x", "y", MONDAY)
    with serving(context) as receiver:
        hook = webhooks.Hook(settings, f"https://127.0.0.1:{receiver.port}/", "secret", "generic", MONDAY)
        with pytest.raises(Undeliverable, match="webhook_SSLCertVerificationError"):
            hook("", message)
        assert receiver.seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        hook("", message)
        assert len(receiver.seen) == 1


def test_a_newer_webhook_takes_the_place_of_the_older_and_an_ended_one_is_gone(
    cast: Cast, settings: Settings, receiver: Receiver
) -> None:
    hear_by(cast, receiver.address, settings)
    hear_by(cast, receiver.address + "2", settings)
    with cast.database.unit(cast.scope) as session:
        stored = session.execute(text("select host, sealed from webhooks")).all()
        assert len(stored) == 2
        assert all(b"hook" not in bytes(row.sealed) for row in stored)
        webhooks.end(session, cast.chen.person, by=cast.chen, now=MONDAY)
        with pytest.raises(NotFound):
            webhooks.end(session, cast.chen.person, by=cast.chen, now=MONDAY)
        ring(session, cast.students.in_school_b, RED)
    outbox = Outbox()
    send(cast, settings, MONDAY + HOUR, outbox)
    assert (len(outbox.taken), receiver.seen) == (2, [])


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - HOUR)
        .not_valid_after(now + HOUR)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private
