"""Everything that the format must be able to say, each on a small made-up instrument."""

from fractions import Fraction

import polars as pl
import pytest

from instruments import catalogue, scoring
from instruments.definition import parse
from tests.instruments.made_up import EVERYTHING, SEEN, codes, definition, item_ids, scale


def score(code: str, *answers: int | None, form: str | None = None) -> dict[str, object]:
    instrument = EVERYTHING[code]
    ids = [item.id for item in instrument.items]
    return scoring.score_one(dict(zip(ids, answers, strict=True)), instrument, form)


def test_uneven_codes_are_summed_as_they_are_and_the_holes_do_not_exist() -> None:
    assert score("uneven", 0, 1, 3, 5)["total"] == 9
    assert score("uneven", 0, 1, 2, 5)["status"] == "out_of_range"
    assert score("uneven", 0, 1, 4, None)["n_missing"] == 1


def test_a_printed_sheet_is_a_layout_with_its_own_numbers_and_codes() -> None:
    sheet = EVERYTHING["printed"].layouts["sheet"]
    printed = [1, 5, 2]
    answers = {item: sheet.codes[code] for item, code in zip(sheet.items, printed, strict=True)}
    assert answers == {"printed_3": 4, "printed_1": 0, "printed_2": 3}
    assert scoring.score_one(dict(answers), EVERYTHING["printed"])["total"] == 7


def test_printed_codes_may_be_what_is_stored() -> None:
    assert score("printedcodes", 1, 1, 1)["total"] == 12
    assert score("printedcodes", 5, 5, 5)["total"] == 0
    assert score("printedcodes", 0, 5, 5)["status"] == "out_of_range"


def test_reversed_items_and_a_mean_with_its_bands() -> None:
    assert score("mean", 5, 1, 5, 1, 5, 1)["total"] == 5.0
    sum_25 = score("mean", 5, 2, 4, 2, 4, 2)
    assert (sum_25["total"], sum_25["total_band"]) == (pytest.approx(25 / 6), "middle")
    sum_26 = score("mean", 5, 1, 4, 2, 4, 2)
    assert (sum_26["total"], sum_26["total_band"]) == (pytest.approx(26 / 6), "high")
    sum_18 = score("mean", 3, 3, 3, 3, 3, 3)
    assert (sum_18["total"], sum_18["total_band"]) == (3.0, "middle")
    assert score("mean", 2, 3, 3, 3, 3, 3)["total_band"] == "low"
    assert score("mean", None, 3, 3, 3, 3, 3)["total"] is None


def test_linear_scales_keep_whole_numbers_whole() -> None:
    twelve = score("linear", 5, 5, 2, 0, 0)
    assert (twelve["raw"], twelve["percent"], twelve["le50"], twelve["percent_band"]) == (12, 48, True, "low")
    assert twelve["tenth"] == pytest.approx(0.2)
    thirteen = score("linear", 5, 5, 3, 0, 0)
    assert (thirteen["percent"], thirteen["le50"], thirteen["percent_band"]) == (52, False, "high")
    blank = score("linear", 5, 5, 3, 0, None)
    assert (blank["status"], blank["percent"], blank["tenth"], blank["percent_band"]) == ("not_scorable",) + (None,) * 3
    schema = scoring.score(pl.DataFrame({f"linear_{n}": [1] for n in range(1, 6)}), EVERYTHING["linear"]).schema
    assert (schema["percent"], schema["tenth"]) == (pl.Int16(), pl.Float64())


def test_proration_rounds_half_up() -> None:
    half = score("prorated", 4 - 1, 1, 0, 0, 0, 0, 0, 0, None)
    assert (half["total"], half["status"], half["total_band"]) == (5, "prorated", "middle")  # 4 * 9 / 8 = 4.5
    assert (half["partial_raw"], half["n_high"]) == (4, 1)
    two_blank = score("prorated", 3, 3, 3, 1, 0, 0, None, None, 0)
    assert (two_blank["total"], two_blank["n_missing"]) == (13, 2)  # 10 * 9 / 7 = 12.857
    three_blank = score("prorated", None, None, None, 3, 3, 3, 3, 3, 3)
    assert (three_blank["total"], three_blank["status"], three_blank["partial_raw"]) == (None, "not_scorable", 18)
    assert score("prorated", *[0] * 9)["status"] == "scored"


def test_every_tie_of_a_prorated_sum_goes_up() -> None:
    total = EVERYTHING["prorated"].scale("total")
    for n_blank in range(3):
        for raw in range(3 * (9 - n_blank) + 1):
            exact = Fraction(raw * 9, 9 - n_blank)
            rounded = scoring.scale_score(total, n_blank, raw)
            assert rounded is not None
            assert Fraction(-1, 2) < rounded - exact <= Fraction(1, 2)
    assert scoring.scale_score(total, 3, 5) is None


def test_minimum_answered_rounds_half_up_and_a_total_lacks_what_its_parts_lack() -> None:
    tie = score("strengths", 2, 0, 0, 0, None, 0, 2, 0, 0, 0)
    assert (tie["worry"], tie["anger"], tie["total"], tie["status"]) == (3, 0, 3, "prorated")  # 2 of 4 items: 2.5
    reverse_first = score("strengths", 0, 0, 0, 0, 0, None, 0, None, 1, 1)
    assert reverse_first["anger"] == 7  # 2 + 1 + 1 of 3 items: 6.67
    gone = score("strengths", None, None, None, 2, 2, 0, 2, 0, 0, 0)
    assert (gone["worry"], gone["anger"], gone["total"], gone["status"]) == (None, 0, None, "not_scorable")
    assert (gone["worry_band"], gone["total_band"]) == (None, None)


def test_band_schemes_stand_side_by_side_and_follow_the_form() -> None:
    answers = (2, 2, 0, 0, 0, 0, 2, 0, 0, 0)
    own = score("strengths", *answers)
    assert (own["worry"], own["worry_band"], own["worry_band__shanghai"], own["total_band"]) == (4, "low", "low", "low")
    parent = score("strengths", *answers, form="parent")
    assert (parent["worry_band"], parent["worry_band__shanghai"]) == ("middle", "low")
    assert "total_band" not in parent


def test_blanks_as_zero_without_a_limit_always_score() -> None:
    found = score("prorated", *[None] * 9)
    assert (found["partial_raw"], found["total"], found["status"], found["n_answered"]) == (0, None, "not_scorable", 0)


def test_a_void_form_keeps_its_numbers_and_its_critical_items() -> None:
    void = score("lying", 0, 0, 0, 0, 1, 1, 1, 1)
    assert (void["status"], void["total"], void["lie"], void["lie_high"]) == ("invalid", 1, 3, True)
    assert void["critical_despair"] is True
    suspect = score("lying", 0, 0, 0, 0, 0, 1, 1, 0)
    assert (suspect["status"], suspect["lie_high"], suspect["lie_some"]) == ("scored", False, True)
    unsure = score("lying", 0, 0, 0, 0, 0, None, 1, 1)
    assert (unsure["status"], unsure["lie_high"], unsure["n_missing"]) == ("scored", None, 1)


def test_quality_hints_are_read() -> None:
    lying = EVERYTHING["lying"]
    assert lying.contradictory_pairs == (("lying_1", "lying_2"),)
    assert [(hint.item, hint.code) for hint in lying.instructed_items] == [("lying_3", 1)]


def test_an_item_that_is_not_asked_is_not_missing() -> None:
    no = score("asked", 0, 0, 0, 0, None)
    assert (no["status"], no["n_missing"], no["n_answered"], no["positive"]) == ("scored", 0, 4, False)
    assert no["critical_blank"] is False
    yes = score("asked", 1, 0, 0, 0, None)
    assert (yes["n_missing"], yes["positive"], yes["critical_blank"], yes["critical_now"]) == (1, True, True, False)
    acute = score("asked", 1, 1, 0, 0, 1)
    assert (acute["n_yes"], acute["two_yes"], acute["critical_now"]) == (2, True, True)


def test_a_refusal_counts_where_the_definition_says_so() -> None:
    refused = score("asked", None, None, None, None, None)
    assert (refused["positive"], refused["n_missing"], refused["two_yes"]) == (True, 5, None)
    assert score("asked", 0, None, 0, 0, None)["n_missing"] == 2
    contradictory = score("asked", 0, 0, 0, 0, 1)
    assert (contradictory["positive"], contradictory["critical_now"]) == (True, True)
    one_sure = score("asked", 1, None, 0, 0, 0)
    assert (one_sure["two_yes"], score("asked", 1, 0, 0, 0, 0)["two_yes"]) == (None, False)


def test_skipped_items_score_nothing_and_do_not_cost_the_total() -> None:
    skipped = score("skipping", 0, 1, None, None)
    assert (skipped["total"], skipped["status"], skipped["n_missing"], skipped["n_answered"]) == (1, "scored", 0, 2)
    assert score("skipping", 1, 1, None, 1)["total"] is None
    assert score("skipping", None, 1, None, 1)["status"] == "not_scorable"


def test_without_any_use_only_the_first_of_six_is_asked() -> None:
    none = score("using", 0, 0, 0, 1, None, None, None, None, None)
    assert (none["n_yes"], none["status"], none["n_missing"], none["any_use"]) == (1, "scored", 0, False)
    some = score("using", 0, 7, 0, 1, 1, 0, 0, 0, 0)
    assert (some["n_yes"], some["ge2"], some["any_use"]) == (2, True, True)
    short = score("using", 0, 7, 0, 1, 1, 0, None, 0, 0)
    assert (short["n_yes"], short["ge2"], short["n_missing"], short["status"]) == (None, None, 1, "not_scorable")
    unsaid = score("using", 0, None, 0, 1, None, None, None, None, None)
    assert (unsaid["n_yes"], unsaid["n_missing"]) == (None, 6)


def test_bands_for_one_sex_and_one_age_stand_beside_the_others_under_their_names() -> None:
    found = score("cut", 1, 1)
    assert {name: found[name] for name in found if "_band" in name} == {
        "total_band": "low",
        "total_band__whole": "low",
        "total_band__girls": "high",
        "total_band__boys": "low",
        "total_band__young": "high",
    }
    schemes = {scheme.name: scheme for scheme in EVERYTHING["cut"].band_schemes}
    assert (schemes["girls"].sex, schemes["boys"].sex) == ("f", "m")
    assert (schemes["young"].min_age, schemes["young"].max_age) == (6, 9)


def test_a_result_by_cases_takes_the_first_that_holds() -> None:
    asq = catalogue.get("asq")

    def result(*answers: int | None) -> object:
        return scoring.score_one({f"asq_{n}": a for n, a in enumerate(answers, start=1)}, asq)["result_band"]

    assert result(0, 0, 0, 0, None) == "negative"
    assert result(0, 0, 0, 0, 0) == "negative"
    assert result(0, 1, 0, 0, 0) == "non_acute_positive"
    assert result(0, None, 0, 0, 0) == "non_acute_positive"
    assert result(0, 1, 0, 0, None) == result(None, 0, 0, 0, None) == "positive_q5_unanswered"
    assert result(0, 1, 0, 0, 1) == result(0, 0, 0, 0, 1) == result(None, None, None, None, 1) == "acute_positive"
    assert result(0, 1, 0, 0, 7) is None


def test_scores_need_not_follow_the_codes() -> None:
    assert score("crooked", 1, 1, 1, None)["total"] == 3  # item 2 is reversed: 0 + 3 + 0
    assert score("crooked", 2, 2, 3, None)["total"] == 2 + 1 + 3
    assert score("crooked", 4, 2, 3, None)["status"] == "out_of_range"
    assert score("crooked", 0, 2, 3, None)["status"] == "out_of_range"


def test_an_optional_item_may_carry_an_impairment_mark_and_costs_nothing() -> None:
    burdened = score("crooked", 2, 2, 3, 3)
    assert (burdened["burden"], burdened["burdened"], burdened["n_missing"]) == (3, True, 0)
    unknown = score("crooked", 2, 2, 3, 9)
    assert (unknown["burden"], unknown["burdened"], unknown["status"]) == (None, None, "scored")
    without = scoring.score(pl.DataFrame({f"crooked_{n}": [2, 2] for n in (1, 2, 3)}), EVERYTHING["crooked"])
    assert without["burden"].to_list() == [None, None]
    assert EVERYTHING["crooked"].cut_offs[0].marks == "impairment"


def test_long_instruments_outgrow_sixteen_bits_without_harm() -> None:
    full = score("wide", *[20] * 60)
    assert (full["total"], full["half"]) == (1200, 20.0)
    half = score("wide", *[20] * 30, *[None] * 30)
    assert (half["total"], half["status"], half["half"]) == (1200, "prorated", 20.0)
    assert score("wide", *[20] * 29, *[None] * 31)["total"] is None


def test_a_mean_may_leave_blanks_out() -> None:
    rule = '{ rule = "prorate", max_blank = 1, rounding = "half_up", seen = "source", source = "made up" }'
    instrument = parse(
        definition(
            "loose",
            answers=codes(1, 2, 3),
            n_items=3,
            missing=rule,
            body=scale("total", item_ids("loose", 1, 2, 3), "mean")
            + f'[cut_offs.ge2]\nscale = "total"\nop = ">="\nvalue = 2\n{SEEN}',
        ),
        "made up",
    )
    found = scoring.score_one({"loose_1": 1, "loose_2": 2}, instrument)
    assert (found["total"], found["status"], found["ge2"]) == (1.5, "prorated", False)
    assert scoring.score_one({"loose_1": 1, "loose_3": 3}, instrument)["ge2"] is True
