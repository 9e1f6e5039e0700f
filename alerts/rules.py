"""What a signal does: pure, on plain values."""

from collections.abc import Sequence

RED = 3


def news(reasons: Sequence[str], reasons_before: Sequence[str], *, is_new_attempt: bool) -> list[str]:
    """The rules that a revision met and the one before it did not; all of them when a form was taken anew.

    A later form of the same round must not ring again for what was already answered; a retest that finds the same
    again must.
    """
    return [rule for rule in reasons if is_new_attempt or rule not in reasons_before]


def occasion(source: str) -> str:
    """When something was said: an answer that rang as it was saved is the same when its form is handed in."""
    kind, _, rest = source.partition("/")
    return rest if kind in ("result", "safety_answer") else source


def rings_again(*, state: str, tier: int, signal_tier: int) -> bool:
    """Whether an open alert is put before people anew: when a signal raises it, and for every red once answered."""
    return signal_tier > tier or (signal_tier == RED and state != "new")
