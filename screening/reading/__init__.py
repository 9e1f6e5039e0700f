"""A file's bytes -> frame of answers (or students) + frame of problems, in a child process with limits.

Call `read_answers` or `read_roster`. Everything that touches a file's content runs in `child`; this side only feeds
it, keeps the time, and takes frames.
"""

from screening.reading.nests import prepare
from screening.reading.packing import PackedPart, pack, unpack
from screening.reading.plan import (
    TAKEN,
    AnswersPlan,
    Limits,
    Part,
    ReaderFailed,
    RosterPart,
    RosterPlan,
    Summary,
)
from screening.reading.process import read_answers, read_roster

__all__ = [
    "TAKEN",
    "AnswersPlan",
    "Limits",
    "PackedPart",
    "Part",
    "ReaderFailed",
    "RosterPart",
    "RosterPlan",
    "Summary",
    "pack",
    "prepare",
    "read_answers",
    "read_roster",
    "unpack",
]
