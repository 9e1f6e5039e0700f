"""One command is a whole service: it comes up on an empty folder, works, and ends in order."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 90


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sc", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def service(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SCREENING_", "DATABASE_"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", "--port", str(port)],
        cwd=ROOT,
        env={**environment, "SCREENING_HOME": str(home)},
        stderr=subprocess.DEVNULL,
    )
    yield process, f"http://127.0.0.1:{port}"
    if process.poll() is None:
        process.terminate()
    process.wait(timeout=PATIENCE)


def ask(address: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own address
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)
    except OSError:
        return 0, {}


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def running_in(home: Path) -> list[int]:
    """Processes that keep something open under this home, by its name in their command or environment."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if str(home) in " ".join(process.info["cmdline"] or []):
            found.append(process.info["pid"])
    return found


def test_it_comes_up_works_and_ends_with_all_that_it_began(
    service: tuple[subprocess.Popen[bytes], str], home: Path
) -> None:
    process, address = service
    wait_until(lambda: ask(f"{address}/health/ready")[0] == 200, "never ready")
    wait_until(lambda: ask(f"{address}/health/loop")[0] == 200, "the worker never came round")
    workers = psutil.Process(process.pid).children(recursive=False)
    worker = next(child for child in workers if "worker" in child.cmdline())
    worker.kill()
    wait_until(
        lambda: any("worker" in child.cmdline() for child in psutil.Process(process.pid).children() if child != worker),
        "no new worker",
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 0
    wait_until(lambda: not running_in(home), "something was left behind")
