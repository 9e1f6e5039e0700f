"""The side that stays alive: starts the reading process, feeds it a file, takes its parts, ends it in any case."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

import polars as pl

from screening.errors import InvalidUpload, Problem
from screening.reading import nests, wire
from screening.reading.nests import Child
from screening.reading.plan import (
    AnswersPlan,
    Limits,
    Part,
    ReaderFailed,
    RosterPart,
    RosterPlan,
    Summary,
    as_json,
    summary_from,
)

_OUT_OF_MEMORY = frozenset({-6, -9, -11, 127})
"""Abort: the parsers' allocator ends so; kill: the system's own limit; 127: the loader finds no room for its tables."""
_OUT_OF_TIME = -24  # SIGXCPU
_STANDARD = Limits()


def read_answers(chunks: Iterable[bytes], plan: AnswersPlan, limits: Limits = _STANDARD) -> Iterator[Part | Summary]:
    """Reads and scores a file of answers in a limited process of its own.

    `chunks`: the file's bytes in order. Yields parts in the file's order, then one `Summary`. Raises `InvalidUpload`
    with every problem when no row of the file can be read at all, `ReaderFailed` when the process died or ran over a
    limit; whatever was yielded before must then not be used. Nothing is written to disk, and closing the iterator
    ends the process.
    """
    for header, tables in _converse(chunks, as_json(plan, limits), limits):
        if header["kind"] == "summary":
            yield summary_from(header["summary"])
        else:
            yield Part(*tables)


def read_roster(
    chunks: Iterable[bytes], plan: RosterPlan, limits: Limits = _STANDARD
) -> Iterator[RosterPart | Summary]:
    """Reads a roster file; yields and raises as `read_answers` does."""
    for header, tables in _converse(chunks, as_json(plan, limits), limits):
        if header["kind"] == "summary":
            yield summary_from(header["summary"])
        else:
            yield RosterPart(*tables)


def _converse(
    chunks: Iterable[bytes], order: bytes, limits: Limits
) -> Iterator[tuple[dict[str, Any], list[pl.DataFrame]]]:
    child = _start()
    clock = _Clock(child, limits.wall_seconds)
    is_whole = False
    try:
        _feed(child, order, chunks, limits)
        for header, tables in _frames(child):
            match header["kind"]:
                case "invalid":
                    problems = [Problem(**problem) for problem in header["problems"]]
                    raise InvalidUpload("The file cannot be read: " + problems[0].message, problems=problems)
                case "failed":
                    raise ReaderFailed(header["reason"], header["where"])
                case "summary":
                    is_whole = True
            yield header, tables
        if not is_whole:
            raise ReaderFailed(_reason(child, clock))
    except wire.BrokenFrame as error:
        raise ReaderFailed(_reason(child, clock)) from error
    finally:
        clock.stop()
        _end(child)


def _start() -> Child:
    """A process that has seen no other file and inherits no key and no address."""
    if sys.platform == "linux":
        return nests.hatch()
    return subprocess.Popen(
        [sys.executable, "-s", "-m", "screening.reading.child"],
        env=nests.environment(),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # What a dying parser prints may quote the file.
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
    )


class _Clock:
    """Kills the child when its time is up."""

    def __init__(self, child: Child, seconds: float) -> None:
        self.is_up = False
        self._child = child
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self.is_up = True
        self._child.kill()

    def stop(self) -> None:
        self._timer.cancel()


def _feed(child: Child, order: bytes, chunks: Iterable[bytes], limits: Limits) -> None:
    pipe = cast(IO[bytes], child.stdin)
    sent = 0
    # A child that has died leaves a broken pipe; what it has to say, or its exit code, is read afterwards.
    with contextlib.suppress(BrokenPipeError):
        _write_all(pipe, len(order).to_bytes(4, "big") + order)
        for chunk in chunks:
            sent += len(chunk)
            if sent > limits.file_bytes:
                size = f"{limits.file_bytes / 1e6:g} MB"
                problem = Problem("file_too_large", f"The file is larger than {size}; send it in parts.")
                raise InvalidUpload(problem.message, problems=[problem])
            _write_all(pipe, chunk)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _write_all(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _frames(child: Child) -> Iterator[tuple[dict[str, Any], list[pl.DataFrame]]]:
    read = cast(IO[bytes], child.stdout).read
    while (frame := wire.read_frame(read)) is not None:
        yield frame


def _reason(child: Child, clock: _Clock) -> str:
    try:
        code = child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "died"
    if clock.is_up or code == _OUT_OF_TIME:
        return "time"
    return "memory" if code in _OUT_OF_MEMORY else "died"


def _end(child: Child) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    child.wait()
