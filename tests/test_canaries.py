"""Names, numbers and free text that come in by every road, good and bad: none of them comes out in logs, errors,
addresses, metrics, headers, messages, the account or a file on a disk."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from tests.asking import TestClient
from tests.cast import Cast
from tests.conftest import MASTER_KEY
from tests.doors import Caller, app_on, caller, round_body, somebody, work
from tests.test_doors import Things, made_things

ROOT = Path(__file__).parents[1]
PLAIN_TABLES = (
    "deliveries",
    "audit_entries",
    "heartbeats",
    "idempotency_keys",
    "weighings",
    "alert_reasons",
    "guesses",
)
"""What holds no name by its purpose; that nothing else lies open is looked at in the dump and the data files."""


@dataclass
class Sent:
    """One canary after another, each by a road of its own, and all that came back or was written meanwhile."""

    people: dict[str, Caller]
    things: Things
    planted: list[str] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    def send(self, count: int) -> None:
        for road in itertools.islice(itertools.cycle(ROADS), count):
            canary = f"canary{uuid.uuid4().hex}"
            self.planted.append(canary)
            who, method, address, more = road(canary, self.things)
            asked = {"headers": {}, **more}
            came = self.people[who].ask(method, address, **asked)
            self.told.append((f"headers of {method} {address}", repr(came.headers)))
            if came.status_code >= 400:
                self.told.append((f"{came.status_code} of {method} {address}", came.text))

    def found(self) -> list[str]:
        """Where one of them stands, without the address that we asked at."""
        known = set(self.planted)
        return [where.partition("canary")[0] for where, content in self.told if _canaries(content) & known]


def _canaries(content: str) -> set[str]:
    return {f"canary{part[:32]}" for part in content.split("canary")[1:]}


Road = Callable[[str, Things], tuple[str, str, str, dict[str, Any]]]
CONCERN = {"tier": "yellow"}
WHEN = "2026-09-01T08:00:00+08:00"
ROADS: tuple[Road, ...] = (
    # roads on which it is welcome
    lambda c, t: ("an", "POST", f"/v1/cases/{t.case}/entries", {"json": {"words": c}}),
    lambda c, t: ("an", "POST", "/v1/access-requests", {"json": {"student_id": t.student, "reason": c, "hours": 1}}),
    lambda c, t: ("office", "POST", "/v1/rosters", {"files": {"file": (f"{c}.csv", _roster(c))}}),
    lambda c, t: ("office", "POST", f"/v1/rounds/{t.round}/uploads", {"files": {"file": (f"{c}.csv", _answers(c))}}),
    lambda c, t: ("office", "POST", "/v1/rights-requests", {"json": {
        "student_id": t.student, "asked_as": "guardian", "kind": "see", "words": c}}),
    lambda c, t: ("an", "POST", "/v1/alerts", {"json": CONCERN | {"student_id": t.student, "facts": c}}),
    # roads on which it is refused: as a name, a value, a key, an id, a code, a header, a file
    lambda c, t: ("admin", "POST", "/v1/schools", {"json": {"code": 5, "name": [c], c: c}}),
    lambda c, t: ("admin", "POST", "/v1/rounds", {"json": round_body(name=[c], grades=[c], opens_at=c)}),
    lambda c, t: ("an", "POST", "/v1/alerts", {"json": {"student_id": c, "words": c, "urgency": c}}),
    lambda c, t: ("an", "POST", f"/v1/cases/{t.case}/interviews", {"json": {"words": c, "mode": c, "held_at": c}}),
    lambda c, t: ("office", "POST", "/v1/consents", {"json": {
        "notice_version": "1", "channel": "paper", "decided_at": WHEN,
        "decisions": [{"student_number": c, "decision": c}]}}),
    lambda c, t: ("an", "PUT", f"/v1/assignments/{t.assignment}/answers", {"json": {"answers": {c: 3}}}),
    lambda c, t: ("an", "PUT", f"/v1/assignments/{t.assignment}/answers", {"json": {"answers": {"phq9_1": c}}}),
    lambda c, t: ("an", "GET", f"/v1/students/{c}", {}),
    lambda c, t: ("an", "GET", f"/v1/results/{c}/{t.round}", {}),
    lambda c, t: ("an", "GET", "/v1/students", {"params": {"grade": c, "after": c}}),
    lambda c, t: ("an", "GET", "/v1/alerts", {"params": {"tier": c, "school": c}}),
    lambda c, t: ("an", "GET", f"/{c}/nowhere", {}),
    lambda c, t: ("nobody", "POST", "/v1/sessions", {"json": {"email": f"{c}@x.test", "password": c}}),
    lambda c, t: ("nobody", "POST", "/v1/sessions/code", {"json": {"code": c, "fact": c}}),
    lambda c, t: ("nobody", "GET", "/v1/alerts", {"headers": {"Authorization": f"Bearer {c}"}}),
    lambda c, t: ("nobody", "GET", "/v1/alerts", {"headers": {"Cookie": f"screening={c}"}}),
    lambda c, t: ("an", "POST", "/v1/schools", {"json": {"code": c}, "headers": {"Idempotency-Key": f"{c} {c}"}}),
    lambda c, t: ("an", "GET", "/v1/alerts", {"headers": {"Origin": c, "User-Agent": c, "X-Forwarded-For": c}}),
    lambda c, t: ("an", "POST", "/v1/alerts", {
        "content": f'{{"words": "{c}', "headers": {"Content-Type": "application/json"}}),
    lambda c, t: ("an", "POST", "/v1/alerts", {
        "content": c, "headers": {"Content-Type": f"text/{c}", "Content-Encoding": c}}),
    lambda c, t: ("office", "POST", "/v1/rosters", {"files": {c: (c, c)}}),
    lambda c, t: ("analyst", "GET", f"/v1/coverage?round={c}&{c}={c}", {}),
    lambda c, t: ("guardian", "GET", f"/v1/rights-requests/students/{c}", {}),
)  # fmt: skip


def _roster(canary: str) -> str:
    return f"student_number,student_name,grade,{canary}\n{canary[:40]},{canary},8,x\n{canary},{canary},{canary},x\n"


def _answers(canary: str) -> str:
    return f"student_number,phq9_1,{canary}\n{canary},{canary},1\n"


def _sent(cast: Cast, client: Any, things: Things) -> Sent:
    actors = {"an": cast.an, "office": cast.school_admin_a, "admin": cast.district_admin,
              "analyst": cast.district_analyst, "guardian": somebody(cast, "guardian")}  # fmt: skip
    people = {name: caller(client, cast.database, actor) for name, actor in actors.items()}
    return Sent(people | {"nobody": Caller(client)}, things)


def _plain_rows(cast: Cast) -> Iterator[tuple[str, str]]:
    with cast.database.unit(cast.scope) as session:
        for table in PLAIN_TABLES:
            rows = session.execute(text(f"select t::text from {table} t")).scalars()
            yield table, "\n".join(rows)


@pytest.mark.storm
def test_no_canary_comes_out_where_it_does_not_belong(
    cast: Cast,
    is_storm: bool,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each road twice in this process, with every library at its most talkative; whole, five thousand against the
    service as it is run, in a process of its own that prints into a file."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with TestClient(app_on(cast.database)) as client:
        things = made_things(cast, client)
    opened = _served(cast, tmp_path) if is_storm else TestClient(app_on(cast.database))
    with opened as client, caplog.at_level("DEBUG"):
        sent = _sent(cast, client, things)
        sent.send(5_000 if is_storm else 2 * len(ROADS))
        work(cast)
        sent.told.append(("/metrics", client.get("/metrics").text))
    kept = [each.getMessage() for each in caplog.records if not each.name.startswith(CLIENTS)]
    sent.told += [("a log", "\n".join(kept)), ("printed", "".join(capsys.readouterr()))]
    sent.told += [*_plain_rows(cast), *_files(tmp_path)]
    found = sent.found()
    told = f"{len(sent.planted)} sent on {len(ROADS)} roads, {len(sent.told)} places, {len(found)} found"
    with capsys.disabled():
        print(f"\ncanaries: {told}")  # noqa: T201
    assert found == []


CLIENTS = ("httpx", "httpcore", "asyncio")
"""Whoever asks may know what is asked; what is written by the service counts."""


@contextlib.contextmanager
def _served(cast: Cast, folder: Path) -> Iterator[httpx2.Client]:
    """The service as it is run, on the tests' database."""
    key = folder / "key"
    key.write_bytes(MASTER_KEY)
    key.chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCREENING_", "DATABASE_"))}
    ours = {"DATABASE_URL": cast.database.url, "SCREENING_HOME": str(folder / "home"), "SCREENING_LOCALE": "en"}
    command = [sys.executable, "-m", "api.cli", "serve", "--port", str(port)]
    with (folder / "printed").open("wb") as printed:
        service = subprocess.Popen(
            command, cwd=ROOT, env=kept | ours | {"SCREENING_MASTER_KEY_FILE": str(key)}, stdout=printed, stderr=printed
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_for(client)
            yield client
    finally:
        service.terminate()
        service.wait(60)


def _wait_for(client: httpx2.Client) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx2.TransportError):
            if client.get("/health/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the service never came up")


def test_a_look_for_canaries_finds_one() -> None:
    sent = Sent({}, None, ["canary" + "0" * 32], [("there", "x canarycanary" + "0" * 32)])  # type: ignore[arg-type]
    assert sent.found() == ["there"]


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.name + path.read_bytes().decode("latin-1")
