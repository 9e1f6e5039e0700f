"""The database at work on a long statement while this process gets ready what comes after it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TypeVar

import psycopg
from sqlalchemy.orm import Session

from screening.statements import driver_of

T = TypeVar("T")


@contextmanager
def beside(session: Session, act: Callable[[], T]) -> Iterator["Future[T]"]:
    """Does `act`, which alone may use the session meanwhile, in a thread of its own beside the block.

    At the block's end it has been done; what it raised is raised then, if the block itself did not raise. A block that
    raises lets the database break off.
    """
    connection = driver_of(session)
    with ThreadPoolExecutor(1, "beside") as hand:
        doing = hand.submit(act)
        try:
            yield doing
        except BaseException:
            while not doing.done():  # what was not begun yet cannot be broken off
                with suppress(psycopg.Error):
                    connection.cancel_safe()
                wait([doing], timeout=0.1)
            raise
        doing.result()
