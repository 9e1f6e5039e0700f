"""Versioned local rules: what tiers are called, which findings give which tier, consent, clocks and the ladder.

A policy is a TOML file. It names bands and cut-offs of instruments and never a score number; a round freezes one,
by its digest. It is read and checked here; `tiers` applies its rules, `alerts.clocks` its times.
"""

import tomllib
from functools import lru_cache
from importlib import resources

from screening.errors import NotFound
from screening.policy import reading
from screening.policy.checks import bands_of, check, forms_of, signal_column
from screening.policy.parts import (
    CLOSURE_CHECKS,
    DECISIONS,
    GIVERS,
    KINDS,
    LADDER_ROLES,
    LOCALES,
    MODEL_CONTEXT,
    MODEL_RULES,
    Clock,
    ClosureRule,
    ConsentRule,
    Policy,
    PolicyError,
    QuietHours,
    RetentionRule,
    Rule,
    Rung,
    Span,
    Unit,
    model_reason,
)
from screening.policy.table import IDENTIFIER, Table

__all__ = [
    "CLOSURE_CHECKS",
    "DECISIONS",
    "GIVERS",
    "KINDS",
    "LADDER_ROLES",
    "LOCALES",
    "MODEL_CONTEXT",
    "MODEL_RULES",
    "Clock",
    "ClosureRule",
    "ConsentRule",
    "Policy",
    "PolicyError",
    "QuietHours",
    "RetentionRule",
    "Rule",
    "Rung",
    "Span",
    "Unit",
    "bands_of",
    "check",
    "forms_of",
    "model_reason",
    "parse",
    "parse_stored",
    "shipped",
    "signal_column",
]


def parse(text: str | bytes, origin: str) -> Policy:
    """Reads a policy: `text` is the content of a TOML file, `origin` its name for messages.

    The exact text stays in `body`, its SHA-256 in `digest`. Raises PolicyError with all problems.
    """
    try:
        body = text.decode("utf-8") if isinstance(text, bytes) else text
        content = tomllib.loads(body)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(origin, [f"file: {error}"]) from error
    problems: list[str] = []
    policy = reading.policy(Table(content, "", problems), body)
    problems.extend(reading.inconsistencies(policy))
    if problems:
        raise PolicyError(origin, problems)
    return policy


@lru_cache(maxsize=256)
def parse_stored(body: str) -> Policy:
    """Reads a policy back from the text that was stored with a round, at most once per text and process."""
    return parse(body, "stored policy")


@lru_cache(maxsize=16)
def shipped(code: str = "cn_default") -> Policy:
    """A policy that comes with the product. Raises NotFound, which names those that do."""
    files = {file.name.removesuffix(".toml"): file for file in (resources.files("screening") / "policies").iterdir()}
    if code not in files or not IDENTIFIER.fullmatch(code):
        raise NotFound(f"there is no policy {code!r}; known are {', '.join(sorted(files))}", code="policy_unknown")
    return parse(files[code].read_bytes(), f"{code}.toml")
