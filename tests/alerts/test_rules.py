"""What a signal does, on plain values."""

import pytest

from alerts import rules


@pytest.mark.parametrize(
    "reasons, before, is_new_attempt, news",
    [
        ((), (), False, []),
        (("a", "b"), (), False, ["a", "b"]),
        (("a", "b"), ("a",), False, ["b"]),
        (("a",), ("a", "b"), False, []),
        (("a",), ("b",), False, ["a"]),
        (("a", "b"), ("a", "b"), True, ["a", "b"]),
        ((), ("a",), True, []),
    ],
)
def test_what_was_met_before_is_no_news_unless_it_is_a_new_attempt(
    reasons: tuple[str, ...], before: tuple[str, ...], is_new_attempt: bool, news: list[str]
) -> None:
    assert rules.news(reasons, before, is_new_attempt=is_new_attempt) == news


@pytest.mark.parametrize(
    "state, tier, signal_tier, rings",
    [
        ("new", 1, 1, False),
        ("new", 1, 2, True),
        ("new", 3, 3, False),  # it rings already
        ("acknowledged", 2, 2, False),
        ("acknowledged", 2, 1, False),
        ("acknowledged", 2, 3, True),
        ("acknowledged", 3, 3, True),  # every red once answered
        ("triaged", 3, 3, True),
        ("triaged", 3, 2, False),
    ],
)
def test_an_alert_rings_again_when_it_is_raised_and_for_every_red(
    state: str, tier: int, signal_tier: int, rings: bool
) -> None:
    assert rules.rings_again(state=state, tier=tier, signal_tier=signal_tier) is rings
