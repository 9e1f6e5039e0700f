"""Policies: a small language that only names things, every problem at once, and the rules of the default policy."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments import catalogue
from screening import expressions, policy
from screening.errors import NotFound
from screening.expressions import AnyOf, Banded, Count, Impairment, Informants, Not, RuleMet, Signal, TierIs

BATTERY = {code: catalogue.get(code) for code in ("phq9", "gad7", "psc17")}
default = policy.shipped("cn_default")


def changed(old: str, new: str) -> policy.Policy:
    """The default policy with one place of its text changed."""
    assert old in default.body
    return policy.parse(default.body.replace(old, new, 1), "changed.toml")


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(policy.PolicyError) as raised:
        policy.parse(text, "bad.toml")
    return raised.value.problems


# -- the language -------------------------------------------------------------------------------------


def test_names_bands_and_counts_are_read_into_a_tree() -> None:
    assert expressions.parse('phq9.total >= "moderate"') == Banded("phq9", None, "total", None, ">=", "moderate")
    assert expressions.parse('sdq.total__cn2008 == "raised"') == Banded("sdq", None, "total", "cn2008", "==", "raised")
    assert expressions.parse("psc17.teacher.total_ge15") == Signal("psc17", "teacher", "total_ge15")
    assert expressions.parse("phq9.self_harm or not gad7.ge10") == AnyOf(
        (Signal("phq9", None, "self_harm"), Not(Signal("gad7", None, "ge10")))
    )
    assert expressions.parse("informants(psc17.total_ge15) >= 2") == Informants(
        Signal("psc17", None, "total_ge15"), ">=", 2
    )


def test_combinations_speak_of_tiers_and_rules() -> None:
    read = expressions.parse('psc17_raised or impairment or prior_tier == "red"', is_combination=True)
    assert read == AnyOf((RuleMet("psc17_raised"), Impairment(), TierIs("prior_tier", "==", 3)))
    assert expressions.parse('count_constructs("yellow") >= 2', is_combination=True) == Count("constructs", 1, ">=", 2)


@pytest.mark.parametrize(
    "text",
    [
        "phq9.total >= 10",
        '10 <= phq9.total <= "severe"',
        "__import__('os').system('true')",
        "phq9.total.__class__.__mro__",
        "[x for x in phq9]",
        "lambda: phq9.self_harm",
        "phq9['total']",
        "phq9.total + gad7.total",
        "phq9.self_harm if gad7.ge10 else phq9.ge10",
        "(x := phq9.self_harm)",
        "f'{phq9}'",
        "phq9.self_harm; gad7.ge10",
        "eval('1')",
        "informants(psc17.total_ge15)",
        "informants(psc17.total_ge15) >= 2.5",
        "informants(psc17.total_ge15) >= True",
        "informants(psc17.total_ge15, gad7.ge10) >= 2",
        "informants(psc17.total_ge15 or gad7.ge10) >= 2",
        'count_constructs("yellow") >= 2',
        'tier >= "yellow"',
        "phq9.grandmother.self_harm",
        "phq9",
        "True",
        "",
        "phq9.self_harm or",
        ") or (",
        "phq9.self_harm\\",
        "phq9.self_harm # nobody reads on",
        "phq9.self_harm\x00",
        "not " * 200 + "phq9.self_harm",
        "(" * 400 + "phq9.self_harm" + ")" * 400,
        "phq9.self_harm or " * 100 + "phq9.self_harm",
        "phq9．self_harm",
    ],
)
def test_everything_else_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(expressions.ExpressionRefused) as raised:
        expressions.parse(text)
    assert all(raised.value.problems)


def test_a_refusal_says_where_and_lists_all() -> None:
    with pytest.raises(expressions.ExpressionRefused) as raised:
        expressions.parse("phq9.total >= 10 or gad7.total > 3")
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["column 15", "column 34"]


@given(st.text(st.sampled_from("phq9.totalself_harm()\"' <>=!ornotand0123456789\n"), max_size=80))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    for is_combination in (False, True):
        try:
            expressions.parse(text, is_combination=is_combination)
        except expressions.ExpressionRefused as refused:
            assert refused.problems


# -- the file -----------------------------------------------------------------------------------------


def test_the_default_policy_knows_every_name_it_uses() -> None:
    assert policy.check(default, BATTERY) == []
    assert policy.check(default, {"phq9": BATTERY["phq9"]}) == []


def test_the_default_policy_says_everything_in_both_languages_and_diagnoses_nothing() -> None:
    for rule in default.all_rules:
        assert set(rule.title) == {"en", "zh_CN"}
        words = " ".join(rule.title.values()).lower()
        assert not re.search(
            "depress|anxi|disorder|diagnos|patient|抑郁|焦虑|障碍|症|患", words.replace("儿科症状", "")
        )
    assert default.tier_name(3, "zh_CN").startswith("红色")
    assert default.tier_name(0, "fr") == "No current concern"


def test_a_policy_is_known_by_its_bytes() -> None:
    again = policy.parse(default.body.encode(), "copy.toml")
    assert again == default
    assert again.digest == default.digest
    assert policy.parse_stored(default.body) is policy.parse_stored(default.body)
    assert changed('version = "1.2.0"', 'version = "1.0.1"') != default


def test_a_policy_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="cn_default"):
        policy.shipped("../cn_default")


def test_every_problem_is_listed_with_its_place() -> None:
    text = (
        default.body.replace("disclosure_k = 10", "disclosure_k = 2\ncolour = 1")
        .replace('acknowledge = "30 min"', 'acknowledge = "soon"')
        .replace('kind = "self_harm"', 'kind = "illness"', 1)
        .replace('when = "phq9.self_harm"', 'when = "phq9.total > 9"')
        .replace('title.zh_CN = "PHQ-9：自伤相关题目未作答，请当面了解"\n', "")
    )
    assert [problem.split(":")[0] for problem in problems_of(text)] == [
        "rules[0].kind",
        "rules[1].when",
        "rules[4].title.zh_CN",
        "clocks.red.acknowledge",
        "disclosure_k",
        "colour",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('acknowledge = "24 h"', 'acknowledge = "1 school day"', "clocks.orange_self_harm"),
        ('follow_up = "28 days"', 'follow_up = "20 school days"', "clocks.yellow.follow_up"),
        ('see = "60 min"', 'see = "0 min"', "clocks.red.see"),
        ("[clocks.yellow]", "[clocks.green]", "clocks.yellow"),
        ('second_person_from = "orange"', 'second_person_from = "red"', "closure.second_person_from"),
        ('id = "phq9_raised"', 'id = "phq9_high"', "rules"),
        ('id = "gad7_raised"', 'id = "tier"', "rules"),
        ('"psc17_raised and impairment"', '"psc17_odd and impairment"', "combine"),
        ("at_percent = 0\n", "at_percent = 10\n", "ladder[0]"),
        ("at_percent = 50\n", "", "ladder[1].at_percent"),
        ('role = "principal"', 'role = "mayor"', "ladder[3].role"),
        ('from = "21:00"', 'from = "9 pm"', "quiet_hours.from"),
        ('until = "07:00"', 'until = "24:00"', "quiet_hours.until"),
        ("student_from_age = 14", "student_from_age = true", "consent.student_from_age"),
        ('code = "cn_default"', 'code = "CN default"', "code"),
        ('[tier_names.zh_CN]\nnone = "暂无关注"', "[tier_names.zh_CN]", "tier_names.zh_CN.none"),
    ],
)
def test_what_would_do_harm_is_refused(old: str, new: str, place: str) -> None:
    assert old in default.body
    assert place in [problem.split(":")[0] for problem in problems_of(default.body.replace(old, new, 1))]


@pytest.mark.parametrize("text", [b"\xff\xfe", "rules = 3", "", "= nothing", "[" * 2000])
def test_what_is_no_policy_is_refused(text: str | bytes) -> None:
    with pytest.raises(policy.PolicyError):
        policy.parse(text, "none.toml")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ('phq9.total >= "terrible"', "no band"),
        ('phq9.sum >= "moderate"', "no scale"),
        ('phq9.total__local >= "moderate"', "local bands"),
        ("phq9.total", "compare it with a band"),
        ("phq9.parent.ge10", "no form for parent"),
        ("phq9.sadness", "is no cut-off"),
        ("phq9.__class__", "is no cut-off"),
        ("gad7.critical_blank", "is no cut-off"),
        ("psc17.parent.total_ge17_china_teacher", "parent form"),
    ],
)
def test_a_name_that_its_instrument_does_not_have_is_found_with_its_place(new: str, message: str) -> None:
    own = changed("'phq9.total >= \"moderate\"'", f"'{new}'")
    (problem,) = policy.check(own, BATTERY)
    assert problem.code == "unknown_name"
    assert problem.column == "rules[3].when"
    assert message in problem.message


def test_a_policy_that_would_not_hear_a_self_harm_answer_is_found() -> None:
    own = changed('when = "phq9.self_harm"', 'when = "phq9.self_harm_daily"')
    assert [problem.code for problem in policy.check(own, BATTERY)] == ["critical_unheard"]


# -- consent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [None, 6, 13])
def test_below_fourteen_a_guardian_decides(age: int | None) -> None:
    assert default.consent_needed(age) == {"guardian"}
    assert default.has_consent(age, {"guardian": "granted"})
    assert not default.has_consent(age, {"student": "granted"})
    assert not default.has_consent(age, {})


@pytest.mark.parametrize("age", [14, 17, 20])
def test_from_fourteen_the_grant_of_either_counts(age: int) -> None:
    assert default.consent_needed(age) == {"student"}
    assert default.has_consent(age, {"student": "granted"})
    assert default.has_consent(age, {"guardian": "granted"})
    assert not default.has_consent(age, {})


@pytest.mark.parametrize("age", [None, 9, 16])
@pytest.mark.parametrize("refusal", ["declined", "withdrawn"])
def test_a_refusal_by_either_stands_at_any_age(age: int | None, refusal: str) -> None:
    assert not default.has_consent(age, {"guardian": "granted", "student": refusal})
    assert not default.has_consent(age, {"guardian": refusal, "student": "granted"})


def test_when_a_student_is_asked_again_is_told_in_days_and_in_order() -> None:
    days = [span.amount for span in policy.shipped().clock(3, False).rescreens]
    assert days == [14, 42]
    given = 'rescreen = ["14 days", "42 days"]'
    for wrong, place in (
        ('rescreen = ["42 days", "14 days"]', "clocks.red.rescreen: each comes after the one before it"),
        ('rescreen = ["2 school days"]', "clocks.red.rescreen: is told in days"),
        ('rescreen = ["14 days", "soon"]', "clocks.red.rescreen[1]: 'soon' is no span"),
        ('rescreen = ["14 days", 3]', "clocks.red.rescreen[1]: must be text"),
        ("rescreen = 14", "clocks.red.rescreen: must be a list"),
    ):
        with pytest.raises(policy.PolicyError) as refused:
            policy.parse(policy.shipped().body.replace(given, wrong, 1), "mine")
        assert any(problem.startswith(place) for problem in refused.value.problems), refused.value.problems
