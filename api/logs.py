"""What is written down about the running service: an event's name and ids, from a closed list of keys."""

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

KEYS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "address",
        "count",
        "district",
        "error",
        "job",
        "method",
        "milliseconds",
        "pid",
        "roster",
        "route",
        "status",
        "upload",
        "where",
        "workers",
    }
)
"""Nothing else reaches a log: no bodies, no values, no names. `error` is the class of an error, never its words."""


def only_allowed(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drops every key that is not on the list."""
    return {key: value for key, value in event.items() if key in KEYS}


def get() -> Any:
    """The service's log, on standard error."""
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            only_allowed,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        cache_logger_on_first_use=False,
    )


def where(error: BaseException) -> str:
    """The innermost line of our own code that an error passed, which says nothing of the values it held."""
    found, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if any(f"/{room}/" in code.co_filename for room in ("api", "alerts", "screening", "instruments")):
            found = f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
