"""Scoring PHQ-9, GAD-7 and PSC-17: every edge, blanks, unknown codes, and what a caller gets wrong."""

import polars as pl
import pytest

from instruments import catalogue, scoring
from instruments.definition import Instrument

PHQ9 = catalogue.get("phq9")
GAD7 = catalogue.get("gad7")
PSC17 = catalogue.get("psc17")


def form_of(instrument: Instrument, *answers: int | None) -> dict[str, int | None]:
    return {item.id: answer for item, answer in zip(instrument.scored_items, answers, strict=True)}


def summing_to(instrument: Instrument, total: int) -> dict[str, int | None]:
    """Answers filled from the first item on until they sum to `total`."""
    answers: dict[str, int | None] = {}
    for item in instrument.scored_items:
        answers[item.id] = min(total, max(item.codes))
        total -= answers[item.id] or 0
    return answers


@pytest.mark.parametrize(
    ("total", "band"),
    [
        (0, "none_minimal"),
        (4, "none_minimal"),
        (5, "mild"),
        (9, "mild"),
        (10, "moderate"),
        (14, "moderate"),
        (15, "moderately_severe"),
        (19, "moderately_severe"),
        (20, "severe"),
        (27, "severe"),
    ],
)
def test_phq9_bands_at_every_edge(total: int, band: str) -> None:
    found = scoring.score_one(summing_to(PHQ9, total), PHQ9)
    assert (found["total"], found["total_band"], found["status"]) == (total, band, "scored")
    assert found["ge10"] is (total >= 10)
    assert found["ge11_adolescent"] is (total >= 11)


@pytest.mark.parametrize(
    ("total", "band"),
    [
        (0, "minimal"),
        (4, "minimal"),
        (5, "mild"),
        (9, "mild"),
        (10, "moderate"),
        (14, "moderate"),
        (15, "severe"),
        (21, "severe"),
    ],
)
def test_gad7_bands_at_every_edge(total: int, band: str) -> None:
    found = scoring.score_one(summing_to(GAD7, total), GAD7)
    assert (found["total"], found["total_band"]) == (total, band)
    assert (found["ge7_hong_kong"], found["ge10"]) == (total >= 7, total >= 10)


@pytest.mark.parametrize(("answer", "any_day", "daily"), [(0, False, False), (1, True, False), (3, True, True)])
def test_phq9_item_9_speaks_for_itself_under_a_band_of_none(answer: int, any_day: bool, daily: bool) -> None:
    found = scoring.score_one(form_of(PHQ9, 0, 0, 0, 0, 0, 0, 0, 0, answer), PHQ9)
    assert found["total_band"] == "none_minimal"
    assert (found["critical_self_harm"], found["critical_self_harm_daily"]) == (any_day, daily)


def test_phq9_one_blank_leaves_no_number_but_item_9_is_read() -> None:
    found = scoring.score_one(form_of(PHQ9, 3, 3, 3, None, 3, 3, 3, 3, 3), PHQ9)
    assert (found["status"], found["n_missing"], found["n_answered"]) == ("not_scorable", 1, 8)
    assert [found[name] for name in ("total", "total_band", "n_symptoms", "ge10", "major_depressive_syndrome")] == [
        None
    ] * 5
    assert found["critical_self_harm"] is True
    assert found["critical_blank"] is False


def test_a_blank_critical_item_is_reported_once_anything_was_answered() -> None:
    assert scoring.score_one(form_of(PHQ9, 0, 0, 0, 0, 0, 0, 0, 0, None), PHQ9)["critical_blank"] is True
    nothing = scoring.score_one({}, PHQ9)
    assert (nothing["critical_blank"], nothing["n_missing"], nothing["status"]) == (False, 9, "not_scorable")


@pytest.mark.parametrize("code", [4, -1, 10, 77, 255, -300, 40_000, 2**31, -(2**40), 2**70])
def test_a_code_that_does_not_exist_costs_every_number_and_no_critical_item(code: int) -> None:
    found = scoring.score_one(form_of(PHQ9, code, 0, None, 0, 0, 0, 0, 0, 2), PHQ9)
    assert (found["status"], found["n_missing"], found["n_answered"]) == ("out_of_range", 1, 8)
    assert found["total"] is found["total_band"] is found["n_symptoms"] is found["ge10"] is None
    assert found["major_depressive_syndrome"] is None
    assert found["critical_self_harm"] is True


@pytest.mark.parametrize("code", [4, -1, 99])
def test_an_impossible_critical_answer_is_no_critical_answer(code: int) -> None:
    found = scoring.score_one(form_of(PHQ9, 0, 0, 0, 0, 0, 0, 0, 0, code), PHQ9)
    assert (found["status"], found["critical_self_harm"], found["critical_blank"]) == ("out_of_range", False, False)


@pytest.mark.parametrize("kind", [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64])
def test_any_whole_number_column_scores_alike(kind: type[pl.DataType]) -> None:
    rows = [summing_to(PHQ9, 14), form_of(PHQ9, 100, 0, 0, 0, 0, 0, 0, 0, 1), form_of(PHQ9, *[None] * 9)]
    found = scoring.score(pl.DataFrame(rows, schema=dict.fromkeys(scoring.item_columns(PHQ9), kind)), PHQ9)
    assert found["status"].to_list() == ["scored", "out_of_range", "not_scorable"]
    assert found["total"].to_list() == [14, None, None]
    assert found["critical_self_harm"].to_list() == [False, True, False]


def test_wide_codes_do_not_wrap_into_the_range() -> None:
    # 65536 and 2**32 are 0 in 16 and 32 bits.
    wide = pl.DataFrame([summing_to(GAD7, 5)] * 4, schema=dict.fromkeys(scoring.item_columns(GAD7), pl.Int64))
    wide = wide.with_columns(gad7_7=pl.Series([65_536, 2**32, -65_536, -(2**63)], dtype=pl.Int64))
    assert scoring.score(wide, GAD7)["status"].to_list() == ["out_of_range"] * 4


def test_a_column_of_blanks_needs_no_type() -> None:
    found = scoring.score(pl.DataFrame([form_of(GAD7, 1, 1, 1, 1, 1, 1, None)]), GAD7)
    assert found.select("status", "n_missing", "total").row(0) == ("not_scorable", 1, None)


def test_the_difficulty_question_is_optional_and_never_counted() -> None:
    plain = summing_to(PHQ9, 12)
    assert "phq9_10" not in scoring.item_columns(PHQ9)
    assert scoring.score_one(plain | {"phq9_10": 3}, PHQ9) == scoring.score_one(plain, PHQ9)
    assert scoring.score_one(plain | {"phq9_10": 9}, PHQ9)["status"] == "scored"


def test_psc17_three_blanks_count_zero_and_four_void_the_form() -> None:
    three = scoring.score_one(form_of(PSC17, *[None] * 3, *[2] * 14), PSC17)
    assert (three["status"], three["n_missing"], three["total"]) == ("scored_blanks_as_0", 3, 28)
    assert (three["internalizing"], three["attention"], three["externalizing"]) == (8, 6, 14)
    four = scoring.score_one(form_of(PSC17, *[None] * 4, *[2] * 13), PSC17)
    assert (four["status"], four["n_missing"]) == ("invalid", 4)
    assert four["total"] is four["internalizing"] is four["attention"] is four["total_ge15"] is None


def test_psc17_cut_offs_belong_to_forms() -> None:
    assert "total_ge17_china_teacher" not in scoring.score_columns(PSC17, "parent")
    assert "total_ge17_china_teacher" in scoring.score_columns(PSC17, "teacher")
    sixteen = scoring.score_one(summing_to(PSC17, 16), PSC17, "teacher")
    assert (sixteen["total_ge15"], sixteen["total_ge17_china_teacher"]) == (True, False)


def test_psc17_subscales_read_their_own_items() -> None:
    answers = form_of(PSC17, *[0] * 17)
    answers.update(dict.fromkeys(("psc17_2", "psc17_6", "psc17_9", "psc17_11", "psc17_15"), 2))
    found = scoring.score_one(answers, PSC17, "youth")
    assert [found[name] for name in ("internalizing", "attention", "externalizing", "total")] == [10, 0, 0, 10]


def test_columns_and_types_are_the_promised_ones() -> None:
    found = scoring.score(pl.DataFrame([summing_to(PHQ9, 10)]), PHQ9)
    assert found.columns == scoring.score_columns(PHQ9)
    assert found.columns == [
        "status",
        "n_missing",
        "total",
        "total_band",
        "n_symptoms",
        "ge10",
        "ge11_adolescent",
        "major_depressive_syndrome",
        "other_depressive_syndrome",
        "critical_self_harm",
        "critical_self_harm_daily",
        "critical_blank",
        "n_answered",
    ]
    schema = found.schema
    assert schema["status"] == scoring.STATUS
    assert {schema[name] for name in ("n_missing", "n_answered", "total", "n_symptoms")} == {pl.Int16()}
    assert schema["total_band"] == pl.Enum(["none_minimal", "mild", "moderate", "moderately_severe", "severe"])
    assert all(schema[name] == pl.Boolean for name in found.columns[5:12])


def test_an_empty_frame_scores_to_an_empty_frame_of_the_same_types() -> None:
    one = pl.DataFrame([summing_to(PSC17, 10)])
    none = scoring.score(one.clear(), PSC17)
    assert (none.height, none.schema) == (0, scoring.score(one, PSC17).schema)


def test_many_rows_keep_their_order_across_chunks() -> None:
    one_of_each = pl.DataFrame([summing_to(GAD7, total) for total in range(22)])
    many = one_of_each[list(range(22)) * 3_500]
    found = scoring.score(many, GAD7)
    assert found["total"].to_list() == list(range(22)) * 3_500
    assert found["critical_blank"].sum() == 0


def test_expressions_agree_with_the_scorer_in_a_callers_own_query() -> None:
    rows = pl.DataFrame([summing_to(PSC17, n) for n in range(0, 35, 3)] + [form_of(PSC17, *[None] * 2, 9, *[1] * 14)])
    prefixed = rows.cast(pl.Int16).rename(lambda name: f"a.{name}")
    found = prefixed.lazy().select(scoring.expressions(PSC17, "teacher", lambda item: f"a.{item}")).collect()
    assert found.equals(scoring.score(rows, PSC17, "teacher"))
    assert rows.cast(pl.Int8).lazy().select(scoring.expressions(PSC17)).collect().equals(scoring.score(rows, PSC17))


def test_a_frame_that_cannot_be_scored_names_every_column() -> None:
    frame = pl.DataFrame([summing_to(GAD7, 7)]).drop("gad7_2").with_columns(gad7_4=1.5, gad7_6=pl.lit("2"))
    with pytest.raises(ValueError, match=r"gad7_2 is missing; gad7_4 holds Float64.*; gad7_6 holds String"):
        scoring.score(frame, GAD7)


@pytest.mark.parametrize("answer", [True, 1.0, "1", 2.5])
def test_one_form_takes_whole_numbers_only(answer: object) -> None:
    with pytest.raises(ValueError, match="not a whole number: gad7_1="):
        scoring.score_one({"gad7_1": answer}, GAD7)  # type: ignore[dict-item]


def test_one_form_knows_its_items_and_forms() -> None:
    with pytest.raises(ValueError, match="gad7 has no item gad7_8, phq9_1"):
        scoring.score_one({"gad7_8": 1, "phq9_1": 0}, GAD7)
    with pytest.raises(ValueError, match="gad7 has no form 'parent', only self"):
        scoring.score_one({}, GAD7, "parent")
