"""The side that may die: a process of its own, with limits, that turns a file's bytes into parts.

It is started with an empty environment, opens no file and no connection, and ends with its parent.
"""

import contextlib
import ctypes
import dataclasses
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

from screening.errors import InvalidUpload
from screening.reading import answers, files, students, wire
from screening.reading.plan import AnswersPlan, Limits, Part, RosterPart, Summary, from_json

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Reads an order and a file from the standard input, writes frames to the standard output."""
    _end_with_parent()
    out = _own_output()
    source = os.fdopen(0, "rb", buffering=0)
    order = wire.read_text(source.read)
    if order is None:
        return 1
    plan, limits = from_json(order)
    _limit(limits)
    try:
        file = files.open_file(source.readall(), limits)
        parts = answers.read(file, plan, limits) if isinstance(plan, AnswersPlan) else students.read(file, plan, limits)
        for part in parts:
            _say(out, part)
    except InvalidUpload as error:
        wire.write_frame(out, {"kind": "invalid", "problems": [dataclasses.asdict(p) for p in error.problems]})
    except MemoryError:
        wire.write_frame(out, {"kind": "failed", "reason": "memory", "where": ""})
    except BrokenPipeError:
        return 1
    except BaseException as error:  # a parser's panic is no Exception
        wire.write_frame(out, {"kind": "failed", "reason": "died", "where": _where(error)})
    return 0


def _say(out: BinaryIO, part: Part | RosterPart | Summary) -> None:
    match part:
        case Summary():
            wire.write_frame(out, {"kind": "summary", "summary": dataclasses.asdict(part)})
        case Part():
            wire.write_frame(out, {"kind": "part"}, [part.answers, part.problems, part.repeated])
        case RosterPart():
            wire.write_frame(out, {"kind": "part"}, [part.students, part.problems])


def _own_output() -> BinaryIO:
    """The pipe to the parent, out of reach of anything that prints."""
    out = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    return out


def _end_with_parent() -> None:
    # Where there is no prctl, a parent that dies leaves a broken pipe, at the next frame at the latest.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(limits: Limits) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + limits.cpu_seconds
    wanted = {"RLIMIT_AS": limits.memory_bytes, "RLIMIT_CPU": cpu, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0}
    for name, value in wanted.items():
        # Some systems do not have a limit, or do not let it be set.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
    with contextlib.suppress(OSError):
        os.nice(10)


def _where(error: BaseException) -> str:
    """The kind of error and the lines of our own code it came through; its message may quote the file."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "screening" in frame.filename]
    lines = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in ours)
    return f"{type(error).__name__} at {lines}"


if __name__ == "__main__":
    sys.exit(main())
