"""Clocks: red and self-harm run day and night, the rest in school days, and silence climbs the ladder."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import clocks
from screening import policy
from screening.school_days import Calendar

SHANGHAI = ZoneInfo("Asia/Shanghai")
HOLIDAY = {dt.date(2026, 10, day): False for day in range(1, 9)}
calendar = Calendar(HOLIDAY, SHANGHAI)
rules = policy.shipped("cn_default")
YELLOW, ORANGE, RED = 1, 2, 3


def at(day: int, hour: int, minute: int = 0, month: int = 9) -> dt.datetime:
    return dt.datetime(2026, month, day, hour, minute, tzinfo=SHANGHAI)


FRIDAY_AT_TEN = at(25, 10)
WEDNESDAY_BEFORE_THE_HOLIDAY = at(30, 10)


@pytest.mark.parametrize(
    ("tier", "has_self_harm", "raised", "answer_by", "see_by"),
    [
        (RED, True, FRIDAY_AT_TEN, at(25, 10, 30), at(25, 11)),
        (RED, True, at(26, 22), at(26, 23), at(26, 23)),
        (RED, False, at(3, 22, month=10), at(3, 23, month=10), at(3, 23, month=10)),
        (ORANGE, False, FRIDAY_AT_TEN, at(28, 10), at(30, 10)),
        (ORANGE, False, WEDNESDAY_BEFORE_THE_HOLIDAY, at(9, 10, month=10), at(13, 10, month=10)),
        (ORANGE, True, FRIDAY_AT_TEN, at(26, 10), at(28, 10)),
        (ORANGE, True, at(3, 22, month=10), at(4, 22, month=10), at(6, 22, month=10)),
        (YELLOW, False, at(7, 10), at(14, 10), at(21, 10)),
        (YELLOW, False, at(6, 10), at(14, 8), at(21, 8)),
    ],
)
def test_each_tier_has_its_clock(
    tier: int, has_self_harm: bool, raised: dt.datetime, answer_by: dt.datetime, see_by: dt.datetime
) -> None:
    assert clocks.due(rules, tier, has_self_harm, raised, calendar) == clocks.Clocks(answer_by, see_by)


def climb(tier: int, has_self_harm: bool, raised: dt.datetime) -> list[tuple[int, str, dt.datetime]]:
    answer_by = clocks.due(rules, tier, has_self_harm, raised, calendar).answer_by
    return list(clocks.rungs(rules, tier, has_self_harm, raised, answer_by, calendar))


def test_an_unanswered_red_climbs_to_the_duty_officer_at_any_hour() -> None:
    assert climb(RED, True, at(26, 22)) == [
        (1, "deputy", at(26, 22, 30)),
        (2, "lead", at(26, 23)),
        (3, "principal", at(26, 23, 30)),
        (4, "duty_officer", at(27, 0)),
    ]


def test_an_unanswered_orange_climbs_to_the_principal_within_school_hours() -> None:
    assert climb(ORANGE, False, at(24, 10)) == [
        (1, "deputy", at(25, 8)),
        (2, "lead", at(25, 10)),
        (3, "principal", at(28, 8)),
    ]


def test_a_self_harm_orange_does_not_wait_for_the_school_to_open() -> None:
    assert climb(ORANGE, True, at(25, 20)) == [
        (1, "deputy", at(26, 8)),
        (2, "lead", at(26, 20)),
        (3, "principal", at(27, 20)),
    ]


def test_an_unanswered_yellow_ends_with_the_lead() -> None:
    assert [role for _, role, _ in climb(YELLOW, False, at(7, 10))] == ["deputy", "lead"]


@pytest.mark.parametrize(("tier", "days"), [(RED, 3), (ORANGE, 14), (YELLOW, 28)])
def test_the_next_contact_is_promised_by_tier(tier: int, days: int) -> None:
    assert clocks.follow_up_by(rules, tier, FRIDAY_AT_TEN) == FRIDAY_AT_TEN + dt.timedelta(days=days)


MOMENTS = st.integers(0, 6_000_000).map(lambda minutes: at(1, 0) + dt.timedelta(minutes=minutes))


@given(raised=MOMENTS, tier=st.integers(1, 3), has_self_harm=st.booleans())
def test_clocks_end_after_they_start_and_rungs_come_in_order(
    raised: dt.datetime, tier: int, has_self_harm: bool
) -> None:
    due = clocks.due(rules, tier, has_self_harm, raised, calendar)
    moments = [moment for _, _, moment in climb(tier, has_self_harm, raised)]
    assert raised < due.answer_by <= due.see_by
    assert moments == sorted(moments)
    assert all(moment > raised for moment in moments)


@given(raised=MOMENTS)
def test_a_higher_tier_is_never_answered_later(raised: dt.datetime) -> None:
    yellow, orange, red = (clocks.due(rules, tier, False, raised, calendar).answer_by for tier in (1, 2, 3))
    assert red < orange < yellow
    assert clocks.due(rules, ORANGE, True, raised, calendar).answer_by <= orange


def test_a_student_is_asked_again_after_the_policys_days() -> None:
    assert clocks.rescreens_at(rules, RED, False, at(1, 10)) == (at(15, 10), at(1, 10) + dt.timedelta(days=42))
    assert clocks.rescreens_at(rules, ORANGE, True, at(1, 10)) == clocks.rescreens_at(rules, RED, False, at(1, 10))
    assert len(clocks.rescreens_at(rules, YELLOW, False, at(1, 10))) == 1
