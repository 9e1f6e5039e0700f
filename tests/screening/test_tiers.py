"""Tiers: each rule of the default policy, and what must hold for every student and every set of forms."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import catalogue, scoring
from instruments.definition import Instrument, parse
from screening import policy, tiers
from tests.sharing import examples

BATTERY = {code: catalogue.get(code) for code in ("phq9", "gad7", "psc17")}
default = policy.shipped("cn_default")
NONE, YELLOW, ORANGE, RED = range(4)

Answers = Sequence[int | None]
Forms = Mapping[tuple[str, str], Answers]


def score(instrument: Instrument, form: str, rows: Sequence[tuple[int, Answers]]) -> pl.DataFrame:
    """(key, answers) rows as a scored frame."""
    items = scoring.item_columns(instrument, form)
    schema: dict[str, Any] = {"key": pl.UInt32, **dict.fromkeys(items, pl.Int16)}
    answers = pl.DataFrame([(key, *given) for key, given in rows], schema=schema, orient="row")
    return answers.select("key").hstack(scoring.score(answers, instrument, form))


def students(n: int, prior_tier: Sequence[int] = (), age: Sequence[int | None] = ()) -> pl.DataFrame:
    return pl.DataFrame(
        {"key": range(n), "prior_tier": prior_tier or [0] * n, "age": age or [None] * n},
        schema={"key": pl.UInt32, "prior_tier": pl.Int8, "age": pl.Int16},
    )


def decide(
    forms: Forms,
    rules: policy.Policy = default,
    battery: Mapping[str, Instrument] = BATTERY,
    *,
    prior_tier: int = 0,
    age: int | None = None,
    only_safety: bool = False,
) -> dict[str, Any]:
    """What one student's forms mean."""
    frames = {(code, form): score(battery[code], form, [(0, given)]) for (code, form), given in forms.items()}
    one = students(1, [prior_tier], [age])
    return tiers.decide(one, frames, rules, battery, only_safety=only_safety).row(0, named=True)


def phq9(total: int, last: int | None = 0) -> Answers:
    """Eight items that sum to `total`, and the ninth."""
    return [*spread(total, 8, 3), last]


def gad7(total: int) -> Answers:
    return spread(total, 7, 3)


def psc17(total: int) -> Answers:
    """Items that reach a total while every subscale stays as low as it can: 4 internalizing, 6 of each other one."""
    room = {"internalizing": 4, "attention": 6, "externalizing": 6}
    answers = dict.fromkeys(scoring.item_columns(BATTERY["psc17"], "parent"), 0)
    for scale, limit in room.items():
        items = BATTERY["psc17"].scale(scale).items
        for item, value in zip(items, spread(min(limit, total), len(items), 2), strict=True):
            answers[item] = value
        total -= min(limit, total)
    assert total == 0
    return list(answers.values())


def spread(total: int, items: int, highest: int) -> list[int]:
    answers = []
    for _ in range(items):
        answers.append(min(highest, total))
        total -= answers[-1]
    assert total == 0
    return answers


# -- the rules of the default policy ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "tier", "reasons"),
    [
        (9, NONE, []),
        (10, YELLOW, ["phq9_raised"]),
        (14, YELLOW, ["phq9_raised"]),
        (15, ORANGE, ["phq9_high", "phq9_raised"]),
        (24, ORANGE, ["phq9_high", "phq9_raised"]),
    ],
)
def test_phq9_by_its_bands(total: int, tier: int, reasons: list[str]) -> None:
    found = decide({("phq9", "self"): phq9(total)})
    assert (found["tier"], found["reasons"], found["has_self_harm"]) == (tier, reasons, False)


@pytest.mark.parametrize(("answer", "tier"), [(0, NONE), (1, ORANGE), (2, ORANGE), (3, RED)])
def test_phq9_item_nine_counts_alone(answer: int, tier: int) -> None:
    found = decide({("phq9", "self"): phq9(0, answer)})
    assert (found["tier"], found["has_self_harm"]) == (tier, answer > 0)


def test_a_blank_item_nine_is_followed_up() -> None:
    found = decide({("phq9", "self"): phq9(3, None)})
    assert (found["tier"], found["reasons"], found["validity"]) == (YELLOW, ["phq9_critical_blank"], "invalid")


def test_item_nine_is_heard_from_a_form_that_cannot_be_scored() -> None:
    found = decide({("phq9", "self"): [None] * 8 + [3]})
    assert (found["tier"], found["has_self_harm"], found["validity"]) == (RED, True, "invalid")


@pytest.mark.parametrize(("total", "tier"), [(9, NONE), (10, YELLOW), (14, YELLOW), (15, ORANGE), (21, ORANGE)])
def test_gad7_by_its_bands(total: int, tier: int) -> None:
    assert decide({("gad7", "self"): gad7(total)})["tier"] == tier


@pytest.mark.parametrize(
    ("form", "total", "tier"),
    [("parent", 14, NONE), ("parent", 15, YELLOW), ("youth", 15, YELLOW), ("teacher", 16, NONE)],
)
def test_psc17_by_its_total(form: str, total: int, tier: int) -> None:
    assert decide({("psc17", form): psc17(total)})["tier"] == tier


def test_psc17_of_a_chinese_teacher_counts_from_seventeen() -> None:
    seventeen = [1] * 17
    assert decide({("psc17", "teacher"): seventeen})["reasons"] == ["psc17_raised"]


@pytest.mark.parametrize(("scale", "cut"), [("internalizing", 5), ("attention", 7), ("externalizing", 7)])
def test_psc17_by_a_subscale(scale: str, cut: int) -> None:
    items = BATTERY["psc17"].scale(scale).items
    for total, tier in ((cut - 1, NONE), (cut, YELLOW)):
        given = dict(zip(items, spread(total, len(items), 2), strict=True))
        answers = [given.get(item, 0) for item in scoring.item_columns(BATTERY["psc17"], "teacher")]
        assert decide({("psc17", "teacher"): answers})["tier"] == tier


def test_psc17_of_two_informants() -> None:
    both = decide({("psc17", "parent"): psc17(15), ("psc17", "youth"): psc17(16)})
    assert (both["tier"], both["reasons"]) == (ORANGE, ["psc17_two_informants", "psc17_raised", "two_informants"])
    one = decide({("psc17", "parent"): psc17(15), ("psc17", "teacher"): psc17(16)})
    assert (one["tier"], one["reasons"]) == (YELLOW, ["psc17_raised"])


def test_two_informants_of_different_instruments() -> None:
    found = decide({("gad7", "self"): gad7(10), ("psc17", "parent"): psc17(15)})
    assert (found["tier"], found["reasons"]) == (ORANGE, ["gad7_raised", "psc17_raised", "two_informants"])


def test_two_findings_of_one_informant_stay_yellow_without_impairment() -> None:
    found = decide({("gad7", "self"): gad7(10), ("phq9", "self"): phq9(10), ("psc17", "youth"): psc17(15)})
    assert found["tier"] == YELLOW


def test_a_blank_is_no_second_informant() -> None:
    assert decide({("phq9", "self"): phq9(0, None), ("psc17", "parent"): psc17(15)})["tier"] == YELLOW


def test_an_earlier_red_makes_any_yellow_orange() -> None:
    found = decide({("gad7", "self"): gad7(10)}, prior_tier=RED)
    assert (found["tier"], found["reasons"]) == (ORANGE, ["gad7_raised", "prior_red"])
    assert decide({("gad7", "self"): gad7(9)}, prior_tier=RED)["tier"] == NONE
    assert decide({("gad7", "self"): gad7(10)}, prior_tier=ORANGE)["tier"] == YELLOW


IMPAIRMENT = parse(
    """
code = "daily_life"
edition = "daily_life_1"
version = "1"
construct = "impairment"
released = false
default_form = "self"
primary_scale = "total"
sources = ["made up for this test"]
title.en = "Daily life"
[forms.self]
informant = "student"
min_age = 6
seen = "ours"
source = "made up"
[licence.en]
verdict = "STRUCTURE"
text = "none"
seen = "ours"
source = "made up"
[options.often]
answers = [{ code = 0, score = 0 }, { code = 1, score = 1 }, { code = 2, score = 2 }]
[[items]]
number = 1
options = "often"
[layouts.only]
items = ["daily_life_1"]
seen = "ours"
source = "made up"
[missing]
rule = "none"
seen = "ours"
source = "made up"
[scales.total]
method = "sum"
items = ["daily_life_1"]
title.en = "Total"
seen = "ours"
source = "made up"
[cut_offs.is_affected]
scale = "total"
op = ">="
value = 2
marks = "impairment"
seen = "ours"
source = "made up"
""",
    "daily_life.toml",
)
WITH_IMPAIRMENT = BATTERY | {"daily_life": IMPAIRMENT}


@pytest.mark.parametrize(("answer", "tier"), [(1, YELLOW), (2, ORANGE)])
def test_two_constructs_with_impairment(answer: int, tier: int) -> None:
    forms = {("gad7", "self"): gad7(10), ("phq9", "self"): phq9(10), ("daily_life", "self"): [answer]}
    found = decide(forms, battery=WITH_IMPAIRMENT)
    assert found["tier"] == tier
    assert ("two_constructs_with_impairment" in found["reasons"]) == (tier == ORANGE)


def test_one_construct_with_impairment_stays_yellow() -> None:
    forms = {("gad7", "self"): gad7(10), ("daily_life", "self"): [2]}
    assert decide(forms, battery=WITH_IMPAIRMENT)["tier"] == YELLOW
    assert decide({("daily_life", "self"): [2]}, battery=WITH_IMPAIRMENT)["tier"] == NONE


def test_psc17_with_impairment() -> None:
    forms = {("psc17", "youth"): psc17(15), ("daily_life", "self"): [2]}
    assert decide(forms, battery=WITH_IMPAIRMENT)["reasons"] == ["psc17_raised", "psc17_with_impairment"]


# -- policies of one's own ----------------------------------------------------------------------------


def own(old: str, new: str) -> policy.Policy:
    assert old in default.body
    return policy.parse(default.body.replace(old, new, 1), "own.toml")


def test_a_rule_for_an_age_spares_others_but_not_an_unknown_age() -> None:
    from_twelve = own("when = 'gad7.total >= \"moderate\"'", "min_age = 12\nwhen = 'gad7.total >= \"moderate\"'")
    found = [decide({("gad7", "self"): gad7(10)}, from_twelve, age=age)["tier"] for age in (11, 12, None)]
    assert found == [NONE, YELLOW, YELLOW]


@pytest.mark.parametrize(
    ("when", "total", "is_met"),
    [
        ('gad7.total == "mild"', 5, True),
        ('gad7.total == "mild"', 10, False),
        ('gad7.total != "mild"', 10, True),
        ('gad7.total < "moderate"', 9, True),
        ('gad7.total <= "moderate"', 15, False),
        ('gad7.total > "moderate"', 15, True),
        ("not gad7.ge10", 9, True),
        ("gad7.ge10 and gad7.ge7_hong_kong", 9, False),
        ("gad7.student.ge10", 10, True),
        ("gad7.ge10 or elsewhere.ge1", 10, True),
        ("gad7.ge10 and elsewhere.ge1", 10, False),
        ("not elsewhere.ge1", 10, False),
        ("informants(gad7.ge10) == 1", 10, True),
    ],
)
def test_the_words_of_the_language(when: str, total: int, is_met: bool) -> None:
    rules = own("when = 'gad7.total >= \"moderate\"'", f"when = '{when}'")
    assert ("gad7_raised" in decide({("gad7", "self"): gad7(total)}, rules)["reasons"]) == is_met


def test_what_cannot_be_evaluated_is_never_true() -> None:
    rules = own("when = 'gad7.total >= \"moderate\"'", "when = 'not gad7.ge10'")
    assert decide({("gad7", "self"): [None] * 7}, rules)["tier"] == NONE
    assert decide({("phq9", "self"): phq9(0)}, rules)["tier"] == NONE


def test_a_policy_may_have_more_rules_than_a_number_has_bits() -> None:
    more = "".join(
        f'\n[[rules]]\nid = "more_{n}"\ntier = "yellow"\nkind = "symptom"\nwhen = "gad7.ge10"\n'
        f'title.en = "More"\ntitle.zh_CN = "更多"\n'
        for n in range(130)
    )
    rules = policy.parse(default.body + more, "more.toml")
    assert decide({("gad7", "self"): gad7(10)}, rules)["reasons"] == ["gad7_raised", *(f"more_{n}" for n in range(130))]


# -- every other instrument that has rules -------------------------------------------------------------


def answered(code: str, form: str = "self", total: int = 0, **given: int | None) -> Answers:
    """Answers that score this total with the first of its questions as high as they go, and these given on top."""
    instrument = catalogue.get(code)
    counted = {item for scale in instrument.scales if scale.id != "prosocial" for item in scale.items}
    by_item: dict[str, int | None] = {}
    for item in scoring.item_columns(instrument, form):
        codes = {score: code for code, score in instrument.item(item).codes.items()}
        base = min(codes)
        reached = max(score for score in codes if score - base <= (total if item in counted else 0))
        total -= reached - base
        by_item[item] = codes[reached]
    assert total == 0
    return list((by_item | {f"{code}_{item[1:]}": answer for item, answer in given.items()}).values())


def mssmhs(overall: int, **given: int | None) -> Answers:
    return list((dict.fromkeys([f"q{n}" for n in range(1, 61)], overall) | given).values())


@pytest.mark.parametrize(
    ("code", "answers", "tier", "reasons"),
    [
        ("phqa", answered("phqa", total=9, q12=0, q13=0), NONE, []),
        ("phqa", answered("phqa", total=10, q12=0, q13=0), YELLOW, ["phqa_raised"]),
        ("phqa", answered("phqa", total=15, q12=0, q13=0), ORANGE, ["phqa_high", "phqa_raised"]),
        ("phqa", answered("phqa", q9=1, q12=0, q13=0), ORANGE, ["phqa_self_harm"]),
        ("phqa", answered("phqa", q9=3, q12=0, q13=0), RED, ["phqa_self_harm_daily", "phqa_self_harm"]),
        ("phqa", answered("phqa", q9=0, q12=1, q13=0), ORANGE, ["phqa_self_harm"]),
        ("phqa", answered("phqa", q9=0, q12=0, q13=1), ORANGE, ["phqa_self_harm"]),
        ("asq", [0, 0, 0, 0, None], NONE, []),
        ("asq", [0, 0, 0, 1, 0], ORANGE, ["asq_positive"]),
        ("asq", [0, 1, 0, 0, 1], RED, ["asq_now", "asq_positive"]),
        ("asq", [0, None, 0, 0, None], YELLOW, ["asq_critical_blank"]),
        ("mssmhs", mssmhs(1), NONE, []),
        ("mssmhs", mssmhs(2, q52=1, q57=1), NONE, []),
        ("mssmhs", mssmhs(3, q52=1, q57=1), YELLOW, ["mssmhs_raised"]),
        ("mssmhs", mssmhs(4, q52=1, q57=1), ORANGE, ["mssmhs_high", "mssmhs_raised"]),
        ("mssmhs", mssmhs(1, q57=2), ORANGE, ["mssmhs_self_harm"]),
        ("mssmhs", mssmhs(1, q52=2), YELLOW, ["mssmhs_harm_to_others"]),
        ("mssmhs", mssmhs(1, q57=None), YELLOW, ["mssmhs_critical_blank"]),
        ("k6", answered("k6", total=7), NONE, []),
        ("k6", answered("k6", total=8), YELLOW, ["k6_raised"]),
        ("k6", answered("k6", total=13), ORANGE, ["k6_high", "k6_raised"]),
        ("smfq", answered("smfq", total=11), NONE, []),
        ("smfq", answered("smfq", total=12), YELLOW, ["smfq_raised"]),
        ("cesd", answered("cesd", total=15), NONE, []),
        ("cesd", answered("cesd", total=16), YELLOW, ["cesd_raised"]),
        ("cesdc", answered("cesdc", total=14), NONE, []),
        ("cesdc", answered("cesdc", total=15), YELLOW, ["cesdc_raised"]),
        ("scared", answered("scared", total=22), NONE, []),
        ("scared", answered("scared", total=23), YELLOW, ["scared_raised"]),
        ("mht", answered("mht"), NONE, []),
        ("mht", answered("mht", q85=1), ORANGE, ["mht_self_harm"]),
        ("mht", answered("mht", q97=1), ORANGE, ["mht_self_harm"]),
        ("mht", answered("mht", q97=None), YELLOW, ["mht_critical_blank"]),
    ],
)
def test_each_instrument_of_the_table_is_heard_at_its_edges(
    code: str, answers: Answers, tier: int, reasons: list[str]
) -> None:
    found = decide({(code, "self"): answers}, battery={code: catalogue.get(code)})
    assert (found["tier"], found["reasons"]) == (tier, reasons)


@pytest.mark.parametrize(("child", "parent", "tier"), [(12, 12, ORANGE), (12, 11, YELLOW), (11, 13, NONE)])
def test_a_students_and_a_parents_low_mood_weigh_more_together(child: int, parent: int, tier: int) -> None:
    forms = {("smfq", "self"): answered("smfq", total=child), ("smfq", "parent"): answered("smfq", "parent", parent)}
    assert decide(forms, battery={"smfq": catalogue.get("smfq")})["tier"] == tier


@pytest.mark.parametrize(("form", "total", "tier"), [("self", 18, YELLOW), ("self", 17, NONE), ("parent", 17, YELLOW)])
def test_difficulties_are_heard_by_the_norms_of_the_form(form: str, total: int, tier: int) -> None:
    forms = {("sdq", form): answered("sdq", form, total)}
    assert decide(forms, battery={"sdq": catalogue.get("sdq")})["tier"] == tier


def test_every_critical_answer_of_the_library_is_heard() -> None:
    for instrument in catalogue.all():
        assert list(policy.check(default, {instrument.code: instrument})) == []


# -- safety, validity, explanation --------------------------------------------------------------------


def test_only_safety_hears_self_harm_and_nothing_else() -> None:
    assert {rule.id for rule in tiers.safety_rules(default)} == {
        "phq9_self_harm_daily",
        "phq9_self_harm",
        "phqa_self_harm_daily",
        "phqa_self_harm",
        "asq_now",
        "asq_positive",
        "mssmhs_self_harm",
        "mht_self_harm",
    }
    found = decide({("phq9", "self"): phq9(24, 1)}, prior_tier=RED, only_safety=True)
    assert (found["tier"], found["reasons"]) == (ORANGE, ["phq9_self_harm"])
    assert decide({("phq9", "self"): phq9(24, None)}, only_safety=True)["tier"] == NONE
    assert decide({("gad7", "self"): gad7(21)}, only_safety=True)["reasons"] == []


@pytest.mark.parametrize(
    ("phq", "gad", "validity"),
    [
        (phq9(3), gad7(3), "valid"),
        (phq9(3), [None] * 7, "suspect"),
        (phq9(3), [9] * 7, "suspect"),
        ([None] * 9, [None] * 7, "invalid"),
    ],
)
def test_validity_says_how_many_forms_can_be_scored(phq: Answers, gad: Answers, validity: str) -> None:
    assert decide({("phq9", "self"): phq, ("gad7", "self"): gad})["validity"] == validity


def test_a_student_without_a_form_has_no_tier_and_no_valid_result() -> None:
    frames = {("gad7", "self"): score(BATTERY["gad7"], "self", [(1, gad7(10))])}
    found = tiers.decide(students(2), frames, default, BATTERY)
    assert found.rows() == [(0, NONE, [], False, "invalid"), (1, YELLOW, ["gad7_raised"], False, "valid")]
    assert tiers.decide(students(1), {}, default, BATTERY).rows() == [(0, NONE, [], False, "invalid")]


def test_a_later_attempt_never_silences_an_earlier_one() -> None:
    rows = [(0, phq9(0, 3)), (0, phq9(0, 0)), (1, phq9(12)), (1, [None] * 8 + [0])]
    found = tiers.decide(students(2), {("phq9", "self"): score(BATTERY["phq9"], "self", rows)}, default, BATTERY)
    assert found["tier"].to_list() == [RED, YELLOW]
    assert found["validity"].to_list() == ["valid", "valid"]


def test_the_explanation_adds_up_to_the_tier() -> None:
    found = decide({("phq9", "self"): phq9(15, 3)})
    words = tiers.explain(found["reasons"], default, "zh_CN")
    assert max(tier for _, tier, _ in words) == found["tier"] == RED
    assert words[0] == ("phq9_self_harm_daily", RED, "PHQ-9：几乎每天有自伤或不如死去的念头")
    assert tiers.explain(["gad7_raised"], default, "fr")[0][2].startswith("GAD-7: answers about worry")
    with pytest.raises(ValueError, match="no rule 'unheard_of'"):
        tiers.explain(["unheard_of"], default, "en")


def test_what_does_not_belong_is_refused() -> None:
    frame = score(BATTERY["phq9"], "self", [(0, phq9(0))])
    one = students(1)
    with pytest.raises(ValueError, match="not in this battery"):
        tiers.decide(one, {("phq9", "self"): frame}, default, {"gad7": BATTERY["gad7"]})
    with pytest.raises(ValueError, match="no form for parent"):
        tiers.decide(one, {("phq9", "parent"): frame}, default, BATTERY)
    with pytest.raises(ValueError, match="critical_self_harm"):
        tiers.decide(one, {("phq9", "self"): frame.drop("critical_self_harm")}, default, BATTERY)
    with pytest.raises(ValueError, match="not among the students"):
        tiers.decide(one, {("phq9", "self"): frame.with_columns(key=pl.lit(7, pl.UInt32))}, default, BATTERY)


# -- what holds for everybody -------------------------------------------------------------------------

ITEMS = {"phq9": (9, 3), "gad7": (7, 3), "psc17": (17, 2)}
PLACES = [("phq9", "self"), ("gad7", "self"), ("psc17", "youth"), ("psc17", "parent"), ("psc17", "teacher")]


def answers_to(code: str) -> st.SearchStrategy[list[int | None]]:
    n, highest = ITEMS[code]
    return st.lists(st.one_of(st.none(), st.integers(0, highest), st.just(highest)), min_size=n, max_size=n)


FORMS = st.fixed_dictionaries({}, optional={place: answers_to(place[0]) for place in PLACES})
BATCHES = st.lists(st.tuples(FORMS, st.integers(0, 3)), min_size=1, max_size=6)


def decide_all(batch: Sequence[tuple[Forms, int]]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], list[tuple[int, Answers]]] = {}
    for key, (forms, _) in enumerate(batch):
        for place, answers in forms.items():
            rows.setdefault(place, []).append((key, answers))
    frames = {place: score(BATTERY[place[0]], place[1], own_rows) for place, own_rows in rows.items()}
    found = tiers.decide(students(len(batch), [prior for _, prior in batch]), frames, default, BATTERY)
    return found.drop("key").rows(named=True)


@pytest.mark.storm
@given(forms=FORMS, prior=st.integers(0, 3))
@settings(deadline=None, max_examples=examples(30))
def test_the_tier_is_the_highest_rule_met(forms: Forms, prior: int) -> None:
    found = decide(forms, prior_tier=prior)
    rules = [default.rule(reason) for reason in found["reasons"]]
    assert found["tier"] == max((rule.tier for rule in rules), default=0)
    assert found["has_self_harm"] == any(rule.kind == "self_harm" for rule in rules)
    assert [rule.id for rule in default.all_rules if rule in rules] == found["reasons"]


@pytest.mark.storm
@given(forms=FORMS, place=st.sampled_from(PLACES), data=st.data())
@settings(deadline=None, max_examples=examples(30))
def test_another_form_never_lowers_the_tier(forms: Forms, place: tuple[str, str], data: st.DataObject) -> None:
    more = {**forms, place: data.draw(answers_to(place[0]))} if place not in forms else forms
    before, after = decide(forms), decide(more)
    assert after["tier"] >= before["tier"]
    assert set(after["reasons"]) >= set(before["reasons"])


@pytest.mark.storm
@given(forms=FORMS, data=st.data())
@settings(deadline=None, max_examples=examples(30))
def test_a_worse_answer_never_lowers_the_tier(forms: Forms, data: st.DataObject) -> None:
    if not forms:
        return
    place = data.draw(st.sampled_from(sorted(forms)))
    worse = list(forms[place])
    index = data.draw(st.integers(0, len(worse) - 1))
    given = worse[index]
    if given is not None:
        worse[index] = min(ITEMS[place[0]][1], given + 1)
    assert decide({**forms, place: worse})["tier"] >= decide(forms)["tier"]


@pytest.mark.storm
@given(forms=FORMS, answer=st.integers(1, 3), blanks=st.lists(st.booleans(), min_size=8, max_size=8))
@settings(deadline=None, max_examples=examples(20))
def test_blanks_never_hide_item_nine(forms: Forms, answer: int, blanks: list[bool]) -> None:
    answers = [None if is_blank else 0 for is_blank in blanks] + [answer]
    found = decide({**forms, ("phq9", "self"): answers})
    assert found["has_self_harm"]
    assert found["tier"] >= (RED if answer == 3 else ORANGE)


@pytest.mark.storm
@given(batch=BATCHES)
@settings(deadline=None, max_examples=examples(20))
def test_one_student_is_judged_like_many(batch: list[tuple[Forms, int]]) -> None:
    assert decide_all(batch) == [decide_all([one])[0] for one in batch]


@pytest.mark.storm
@given(batch=BATCHES, data=st.data())
@settings(deadline=None, max_examples=examples(30))
def test_the_order_of_students_and_of_forms_changes_nothing(
    batch: list[tuple[Forms, int]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(batch))))
    shuffled = [(dict(reversed(list(batch[i][0].items()))), batch[i][1]) for i in order]
    found = decide_all(batch)
    assert decide_all(shuffled) == [found[i] for i in order]


def test_a_thousand_students_in_any_order_of_their_forms() -> None:
    rows = [(key, phq9(key % 25, key % 4)) for key in range(1000)]
    in_order = {("phq9", "self"): score(BATTERY["phq9"], "self", rows)}
    backwards = {("phq9", "self"): score(BATTERY["phq9"], "self", rows[::-1])}
    with_gaps = {("phq9", "self"): score(BATTERY["phq9"], "self", [row for row in rows if row[0] % 3])}
    everybody = tiers.decide(students(1000), in_order, default, BATTERY)
    assert tiers.decide(students(1000), backwards, default, BATTERY).equals(everybody)
    gaps = tiers.decide(students(1000), with_gaps, default, BATTERY)
    assert gaps.filter(pl.col("key") % 3 != 0).equals(everybody.filter(pl.col("key") % 3 != 0))
    assert gaps["key"].to_list() == list(range(1000))
    upside_down = students(1000)[::-1]
    assert tiers.decide(upside_down, in_order, default, BATTERY).equals(everybody[::-1])
