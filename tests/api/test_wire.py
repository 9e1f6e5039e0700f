"""The app behind a real server: what no test client shows, because it is about time and broken connections."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from sqlalchemy import text

from api import bodies
from api.app import create_app
from screening.db import Database
from tests.cast import Cast
from tests.doors import round_body, settings, token_for


@pytest.fixture
def port(database: Database) -> Iterator[int]:
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(database, settings()), log_config=None, access_log=False, server_header=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def talk(port: int, *pieces: bytes, is_cut: bool = False) -> bytes:
    """Sends pieces as they are and reads all that comes, or hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if is_cut:
            return b""
        answer = b""
        with contextlib.suppress(ConnectionError):
            while came := connection.recv(65536):
                answer += came
        return answer


def head(method: str, address: str, token: str, *more: str) -> bytes:
    lines = [f"{method} {address} HTTP/1.1", "Host: x", "Connection: close", f"Authorization: Bearer {token}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nstudent_number,phq9_1\n'
FORM = "Content-Type: multipart/form-data; boundary=x"


@pytest.fixture
def uploads(cast: Cast) -> str:
    from fastapi.testclient import TestClient

    from tests.doors import app_on, caller

    with TestClient(app_on(cast.database)) as client:
        made = caller(client, cast.database, cast.district_admin).post("/v1/rounds", json=round_body())
    return f"{made.headers['location']}/uploads"


def kept(cast: Cast) -> int:
    with cast.database.unit(cast.scope) as session:
        return int(session.execute(text("select count(*) from stored_files")).scalar_one())


def test_a_body_that_does_not_come_is_cut_off(
    cast: Cast, port: int, uploads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_SECONDS", 0.2)
    token = token_for(cast.database, cast.school_admin_a)
    for request in (
        head("POST", uploads, token, FORM, "Content-Length: 5000") + PART,
        head("POST", "/v1/consents", token, "Content-Type: application/json", "Content-Length: 50") + b"{",
    ):
        answer = talk(port, request)
        assert answer.startswith(b"HTTP/1.1 408 "), answer[:200]
        assert b'"code": "too_slow"' in answer
        assert b"\nserver:" not in answer.lower()
    assert kept(cast) == 0


def test_a_sender_who_hangs_up_leaves_nothing(cast: Cast, port: int, uploads: str) -> None:
    token = token_for(cast.database, cast.school_admin_a)
    talk(port, head("POST", uploads, token, FORM, "Content-Length: 5000") + PART, is_cut=True)
    whole = PART + b"A001,1\r\n--x--\r\n"
    answer = talk(port, head("POST", uploads, token, FORM, f"Content-Length: {len(whole)}"), whole[:50], whole[50:])
    assert answer.startswith(b"HTTP/1.1 202 "), answer[:200]
    assert kept(cast) == 1


def test_a_body_that_is_announced_too_long_is_refused_unread(cast: Cast, port: int, uploads: str) -> None:
    token = token_for(cast.database, cast.school_admin_a)
    answer = talk(port, head("POST", uploads, token, FORM, "Content-Length: 999999999"))
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    stranger = talk(port, head("POST", uploads, "x" * 43, FORM, "Content-Length: 999999999"))
    assert stranger.startswith(b"HTTP/1.1 401 ")


def test_files_that_trickle_in_leave_room_for_answers(cast: Cast, port: int, uploads: str) -> None:
    token, an = token_for(cast.database, cast.school_admin_a), token_for(cast.database, cast.an)
    start = head("POST", uploads, token, FORM, "Content-Length: 5000") + PART
    with contextlib.ExitStack() as open_connections:
        for _ in range(20):
            slow = open_connections.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            slow.sendall(start)
        time.sleep(0.3)
        begun = time.monotonic()
        assert talk(port, head("GET", "/v1/alerts", an)).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - begun < 5
