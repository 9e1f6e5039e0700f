"""Rounds: a planned screening of the district, an opening per school, and the rules that it freezes.

What a round asks and how it judges is decided once, when it is made: the exact texts of its policy and instruments
are stored, and the round names them by digest. Nothing that ships later changes what an earlier round means.
"""

from screening.rounds.asking import RED, Red, get, reds_of_historical, unreleased
from screening.rounds.frozen import ENGINE, RoundRules, Rules, rules, rules_of
from screening.rounds.openings import close, close_due, open, open_due, unguarded
from screening.rounds.places import EXEMPT_REASONS, enroll_late, exempt
from screening.rounds.planning import HIGHEST_GRADE, create

__all__ = [
    "ENGINE",
    "EXEMPT_REASONS",
    "HIGHEST_GRADE",
    "RED",
    "Red",
    "RoundRules",
    "Rules",
    "close",
    "close_due",
    "create",
    "enroll_late",
    "exempt",
    "get",
    "open",
    "open_due",
    "reds_of_historical",
    "rules",
    "rules_of",
    "unguarded",
    "unreleased",
]
