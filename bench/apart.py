"""Work in a process of its own, so that its memory and its processor time are its alone.

`python -m bench.apart module:function` reads the function's arguments as JSON from stdin and answers JSON.
"""

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What the function returned, the process's peak resident memory, and the largest of its own children's."""

    value: Any
    peak_mb: float
    child_peak_mb: float


def run(function: str, **arguments: Any) -> Outcome:
    """Calls `module:function` in a fresh interpreter. Raises RuntimeError with its last words when it fails."""
    child = _start(function, output=subprocess.PIPE)
    watch = _Watch(child.pid)
    try:
        output, errors = child.communicate(json.dumps(arguments))
    finally:
        watch.stop()
        if child.poll() is None:
            child.kill()
    if child.returncode:
        raise RuntimeError(f"{function} failed: {errors[-2000:]}")
    answer = json.loads(output.splitlines()[-1])
    return Outcome(answer["value"], answer["peak_mb"], watch.child_peak_mb)


@contextlib.contextmanager
def running(function: str, **arguments: Any) -> Iterator[int]:
    """The function runs in a process of its own until the block ends; yields the process id."""
    child = _start(function, output=subprocess.DEVNULL)
    try:
        if child.stdin:
            child.stdin.write(json.dumps(arguments))
            child.stdin.close()
            child.stdin = None
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stderr:
            child.stderr.close()


def peak_mb(pid: int | None = None) -> float:
    """The most memory a process ever held, in MB; 0 when it is gone."""
    try:
        # rusage would count what the parent held when it forked
        for line in Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    if pid is not None:
        return 0.0
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _start(function: str, *, output: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", "bench.apart", function],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.PIPE if output == subprocess.PIPE else None,
        text=True,
    )


class _Watch:
    """Notes how large a process's children grow: the peak of one that has ended cannot be asked for."""

    def __init__(self, pid: int) -> None:
        self.child_peak_mb = 0.0
        self._pid = pid
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _look(self) -> None:
        children: list[int] = []
        n_looks = 0
        while not self._stopping.wait(0.03):
            if n_looks % 8 == 0:
                children = self._children()
            n_looks += 1
            self.child_peak_mb = max([self.child_peak_mb, *map(peak_mb, children)])

    def _children(self) -> list[int]:
        try:
            return [child.pid for child in psutil.Process(self._pid).children(recursive=True)]
        except psutil.Error:
            return []


def _answer() -> None:
    module, name = sys.argv[1].split(":")
    arguments = json.load(sys.stdin)
    value = getattr(importlib.import_module(module), name)(**arguments)
    sys.stdout.write("\n" + json.dumps({"value": value, "peak_mb": peak_mb()}) + "\n")


if __name__ == "__main__":
    _answer()
