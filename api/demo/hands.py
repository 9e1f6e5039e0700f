"""A second pair of hands for the making of the demo: what one interpreter cannot do at once, two processes can."""

import ctypes
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

from screening import sealing
from screening.db import Database
from screening.settings import Settings

_PR_SET_PDEATHSIG = 1
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Hands:
    """Whoever does something beside."""

    _executor: Executor
    _settings: Settings | None = None
    """Of a process, which opens the database for itself; a thread shares it."""

    def begin(
        self, act: Callable[Concatenate[Database, _P], _R], database: Database, *args: _P.args, **kwargs: _P.kwargs
    ) -> "Future[_R]":
        """Begins an act, which must be a function of a module: what is given along and what it answers are copies."""
        if self._settings is None:
            return self._executor.submit(act, database, *args, **kwargs)
        return self._executor.submit(_act, act, database.url, self._settings, args, kwargs)


class Crew:
    """Several hands, each with one act at a time: an act is done by whoever is free, or is so first."""

    def __init__(self, members: Sequence[Hands], waiting: Executor) -> None:
        self._free = SimpleQueue[Hands]()
        for member in members:
            self._free.put(member)
        self._waiting = waiting

    def begin(
        self, act: Callable[Concatenate[Database, _P], _R], database: Database, *args: _P.args, **kwargs: _P.kwargs
    ) -> "Future[_R]":
        """Begins an act as soon as somebody is free; the same is asked of it as by `Hands.begin`."""
        return self._waiting.submit(self._done, act, database, args, kwargs)

    def _done(
        self, act: Callable[..., _R], database: Database, args: tuple[object, ...], given: dict[str, object]
    ) -> _R:
        taken = self._free.get()
        try:
            return taken.begin(act, database, *args, **given).result()
        finally:
            self._free.put(taken)


@contextmanager
def crew(beside: Hands) -> Iterator[Crew]:
    """Those beside and a thread of our own."""
    with in_thread() as own, ThreadPoolExecutor(2) as waiting:
        yield Crew([beside, own], waiting)


@contextmanager
def in_thread() -> Iterator[Hands]:
    """Hands of this process."""
    with ThreadPoolExecutor(1) as one:
        yield Hands(one)


@contextmanager
def in_process(settings: Settings) -> Iterator[Hands]:
    """Hands of a process that is forked now, imports and all: to be begun before this process has other threads."""
    if sys.platform != "linux":  # elsewhere a fork does not take the system's own libraries along
        with in_thread() as own:
            yield own
        return
    with ProcessPoolExecutor(1, get_context("fork"), _end_with_the_other) as one:
        with warnings.catch_warnings():
            # later Pythons warn of any thread: the one that waits for the database's process holds nothing
            warnings.simplefilter("ignore", DeprecationWarning)
            one.submit(int).result()
        yield Hands(one, settings)


def _end_with_the_other() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both, and the one ends the other
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _act(
    act: Callable[..., _R], url: str, settings: Settings, args: tuple[object, ...], given: dict[str, object]
) -> _R:
    return act(_own(url, settings), *args, **given)


@cache
def _own(url: str, settings: Settings) -> Database:
    return Database(url, sealing.Ring([settings.master_key()], settings.master_keys), timezone=settings.timezone)
