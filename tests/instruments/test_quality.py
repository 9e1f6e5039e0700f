"""Signs of careless answering: each index against a slow and plain reckoning, and the verdict by its rules."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from instruments import catalogue, quality, scoring
from instruments.definition import Instrument
from instruments.quality import indices
from tests.instruments.made_up import EVERYTHING

PHQ9, GAD7, PSC17 = (catalogue.get(code) for code in ("phq9", "gad7", "psc17"))
BATTERY = quality.of_instruments([(PHQ9, None), (GAD7, None), (PSC17, "youth")])
LYING = EVERYTHING["lying"]


def sheets(n: int, n_blank: int = 0, seed: int = 1) -> pl.DataFrame:
    """Answers to the battery by people who have more or less of one trouble; some questions are heavier."""
    chance = np.random.default_rng(seed)
    trouble = chance.normal(size=n)
    columns = {}
    for question in BATTERY.questions:
        weight = 0.7 * trouble + 0.7 * chance.normal(size=n) - chance.normal() * 0.5
        columns[question.id] = (weight[:, None] > 0.2 + 0.7 * np.arange(question.n_steps)).sum(1)
    frame = pl.DataFrame(columns).cast(pl.Int16)
    for _ in range(n_blank):
        at = pl.Series(chance.integers(0, frame.width, n))
        frame = frame.with_columns(
            pl.when(at == place).then(None).otherwise(pl.col(name)).alias(name)
            for place, name in enumerate(frame.columns)
        )
    return frame


def one_sheet(**answers: int | None) -> pl.DataFrame:
    return pl.DataFrame({name: [value] for name, value in answers.items()}).cast(pl.Int16)


def lying(*codes: int | None, seconds: float | None = None) -> dict[str, object]:
    answers = one_sheet(**{f"lying_{number}": code for number, code in enumerate(codes, 1)})
    time = None if seconds is None else pl.DataFrame({"lying": [seconds]})
    return quality.signs(answers, quality.of_instruments([(LYING, None)]), seconds=time).row(0, named=True)


# -- facets and places ---------------------------------------------------------------------------------------------


def test_facets_are_the_finest_scales_and_never_overlap() -> None:
    assert [len(facet) for facet in BATTERY.facets] == [9, 7, 7, 5, 5]
    for instrument in (*catalogue.all(), *EVERYTHING.values()):
        facets = quality.of_instruments([(instrument, None)]).facets
        names = [name for facet in facets for name in facet]
        assert len(set(names)) == len(names)


def test_an_instructed_item_and_a_lie_scale_measure_nothing_themselves() -> None:
    battery = quality.of_instruments([(LYING, None)])
    assert "lying_3" not in {question.id for question in battery.questions}
    assert battery.facets == (("lying_1", "lying_2", "lying_4", "lying_5"),)


def test_reversed_answers_keep_their_place_on_the_form_and_turn_their_step() -> None:
    reversed_one = quality.of_instruments([(EVERYTHING["mean"], None)]).questions[1]
    assert (reversed_one.places[1], reversed_one.steps[1]) == (0, 4)


def test_a_code_that_does_not_exist_is_read_as_a_blank() -> None:
    strange = one_sheet(phq9_1=9, phq9_2=-30_000, phq9_3=1)
    alone = one_sheet(phq9_3=1)
    battery = quality.of_instruments([(PHQ9, None)])
    assert quality.signs(strange, battery).equals(quality.signs(alone, battery))


# -- indices against plain reckoning -------------------------------------------------------------------------------


def plain_errors(steps: list[int], n_steps: int, order: list[tuple[int, int]]) -> int:
    """Pairs of steps where the easier one is failed and the harder one passed."""
    passed = [steps[question] >= step for question, step in order]
    return sum(not easy and hard for i, easy in enumerate(passed) for hard in passed[i + 1 :])


def test_guttman_errors_are_the_pairs_out_of_order_and_their_maximum_is_reached() -> None:
    chance = np.random.default_rng(7)
    steps = np.minimum(chance.poisson([0.4, 0.8, 1.2, 1.6], (300, 4)), 3).astype(np.int8)
    n_steps = np.full(4, 3)
    ladder = indices.ladder(steps, range(4), n_steps)
    easy_first = sorted(
        ((question, step) for question in range(4) for step in (1, 2, 3)),
        key=lambda one: (-(steps[:, one[0]] >= one[1]).sum(), one[1], one[0]),
    )
    every = np.array(list(np.ndindex(4, 4, 4, 4)), dtype=np.int8)
    errors = np.array([plain_errors(row.tolist(), 3, easy_first) for row in every])
    most = np.array([errors[every.sum(1) == total].max() for total in range(13)])
    assert ladder.most.tolist() == most.tolist()
    found = indices.guttman(every, [ladder])
    with np.errstate(invalid="ignore"):
        expected = errors / most[every.sum(1)]
    np.testing.assert_allclose(found, expected)
    assert np.isnan(found[[0, -1]]).all(), "all lowest and all highest leave no room for an error"


def test_a_distance_with_blanks_is_the_distance_without_those_questions() -> None:
    chance = np.random.default_rng(2)
    answers = chance.normal(size=(500, 10)) @ chance.normal(size=(10, 10))
    means, covariance = answers.mean(0), np.cov(answers, rowvar=False)
    answered = (chance.random((500, 10)) > 0.12).astype(float)
    values = indices.Values(answers * answered, answered)
    found, freedom = indices.distance(values, means, np.linalg.inv(covariance), np.ones(10, dtype=bool))
    for row in range(500):
        here = answered[row] == 1
        if (~here).sum() > 2:
            assert np.isnan(found[row])
            continue
        apart = (answers[row] - means)[here]
        plain = apart @ np.linalg.solve(covariance[np.ix_(here, here)], apart)
        assert found[row] == pytest.approx(plain, rel=1e-8)
        assert freedom[row] == here.sum()


def test_person_total_and_spread_are_pearson_and_standard_deviation() -> None:
    chance = np.random.default_rng(3)
    answers, means = chance.random((50, 12)), chance.random(12)
    answered = (chance.random((50, 12)) > 0.2).astype(float)
    values = indices.Values(answers * answered, answered)
    correlation, spread = indices.person_total(values, means), indices.spread(values)
    for row in range(50):
        here = answered[row] == 1
        assert correlation[row] == pytest.approx(np.corrcoef(answers[row, here], means[here])[0, 1])
        assert spread[row] == pytest.approx(answers[row, here].std(ddof=1))


def test_even_odd_needs_five_facets_and_sees_who_agrees_with_himself() -> None:
    facets = [[2 * n, 2 * n + 1] for n in range(5)]
    same = np.repeat([[0.0, 1.0, 0.3, 0.8, 0.1]], 2, axis=0).repeat(2, axis=1)
    same[1, 1::2] = np.roll(same[1, 1::2], 1)
    values = indices.Values(same, np.ones_like(same))
    steady, shuffled = indices.even_odd(values, facets)
    assert steady == pytest.approx(1.0)
    assert shuffled < 0.5
    assert np.isnan(indices.even_odd(values, facets[:4])).all()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0, 0, 0, 0], 1.0),
        ([0, 0, 1, 1], 0.0),  # each run stays on one side of the keying
        ([2, 1, 1, 2], 0.5),
        ([1, -1, 1, 1], 0.0),
        ([-1, -1, -1, -1], np.nan),
    ],
)
def test_only_a_run_across_the_keying_is_long(answers: list[int], expected: float) -> None:
    is_reversed = np.array([False, False, True, True])
    found = indices.longest_run(np.array([answers], dtype=np.int8), is_reversed)
    np.testing.assert_equal(found, [expected])


def test_the_median_time_counts_a_form_as_often_as_it_has_questions() -> None:
    chance = np.random.default_rng(4)
    times, weights = chance.random((40, 3)), np.array([3, 1, 4])
    times[::5, 1] = np.nan
    found = indices.weighted_median(times, weights)
    for row in range(40):
        repeated = np.repeat(times[row], weights)
        assert found[row] == pytest.approx(np.nanmedian(repeated))


# -- the frame -----------------------------------------------------------------------------------------------------


def test_every_index_is_shown_and_null_where_it_cannot_be_computed() -> None:
    few = quality.signs(sheets(30), BATTERY)
    assert set(quality.INDICES) <= set(few.columns)
    for needs_more in ("guttman", "person_total", "mahalanobis", "mahalanobis_p", "seconds_per_item", "lie_scale"):
        assert few[needs_more].is_null().all()
    assert few["even_odd"].null_count() < 30
    many = quality.signs(sheets(400), BATTERY)
    assert many["mahalanobis"].null_count() == 0
    assert many["n_checked"].max() == 2


def test_a_distance_needs_five_people_per_question() -> None:
    n = quality.FEWEST_PER_QUESTION * len(BATTERY.questions)
    assert quality.signs(sheets(n - 1), BATTERY)["mahalanobis"].is_null().all()
    assert quality.signs(sheets(n), BATTERY)["mahalanobis"].is_not_null().all()


def test_order_of_rows_further_columns_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = sheets(3_000, n_blank=1)
    plain = quality.signs(answers, BATTERY)
    order = np.random.default_rng(5).permutation(3_000)
    dressed = answers.with_columns(tier=pl.lit(3), spread=pl.lit("x"))
    turned = quality.signs(dressed[order], BATTERY)
    assert_close(turned, plain[order])
    monkeypatch.setattr("instruments.quality.judging._CHUNK_CELLS", 1)
    monkeypatch.setattr("instruments.quality.judging._FEWEST_ROWS", 700)
    assert_close(quality.signs(answers, BATTERY), plain)


def test_one_sheet_against_a_reference_is_what_it_was_in_the_batch() -> None:
    answers = sheets(500, n_blank=1)
    reference = quality.reference_of(answers, BATTERY)
    batch = quality.signs(answers, BATTERY)
    for row in (0, 17, 499):
        assert_close(quality.signs(answers[row], BATTERY, reference=reference), batch[row])


def test_without_a_reference_a_sheet_is_judged_by_itself_alone() -> None:
    answers = sheets(500, n_blank=1)
    together = quality.signs(answers, BATTERY, reference=None)
    assert together["guttman"].is_null().all()
    assert pl.concat([quality.signs(answers[n], BATTERY, reference=None) for n in range(20)]).equals(together.head(20))


def test_more_blanks_than_a_fifth_leave_no_distance() -> None:
    answers = sheets(400)
    holes = answers.with_columns(
        pl.when(pl.int_range(pl.len()) > 0).then(pl.col(n)).alias(n) for n in answers.columns[:7]
    )
    found = quality.signs(holes, BATTERY)
    assert found["mahalanobis"][0] is None
    assert found["mahalanobis"][1] is not None


def test_nobody_is_blamed_for_having_no_trouble() -> None:
    answers = pl.concat([sheets(400), sheets(3).with_columns(pl.all() * 0)])
    calm = quality.signs(answers, BATTERY).tail(3)
    assert calm["verdict"].to_list() == ["valid"] * 3
    assert calm["guttman"].is_null().all()
    assert calm["longstring"].is_null().all(), "no form of this battery is keyed both ways"


def test_one_rare_answer_among_zeros_is_no_misfit() -> None:
    alone = sheets(1).with_columns(pl.all() * 0).with_columns(phq9_9=pl.lit(3, pl.Int16))
    found = quality.signs(pl.concat([sheets(400), alone]), BATTERY).row(-1, named=True)
    assert found["guttman"] is None
    assert "disordered" not in found["signs"]


def test_an_empty_sheet_has_no_verdict() -> None:
    empty = quality.signs(sheets(2).with_columns(pl.all().cast(pl.Int16) * None), BATTERY)
    assert empty["verdict"].is_null().all()
    assert empty["carelessness"].is_null().all()


def test_the_straight_line_through_a_mixed_keyed_form_is_seen() -> None:
    battery = quality.of_instruments([(EVERYTHING["mean"], None)])
    answers = pl.DataFrame({f"mean_{n}": [4, 4 if n % 2 else 2] for n in range(1, 7)}).cast(pl.Int16)
    straight, honest = quality.signs(answers, battery).to_dicts()
    assert (straight["longstring"], straight["signs"]) == (1.0, ["longstring"])
    assert (honest["longstring"], honest["signs"]) == (0.0, [])


# -- the verdict ---------------------------------------------------------------------------------------------------


def test_one_sign_is_a_note_two_are_suspect() -> None:
    assert lying(0, 0, 1, 0, 0, 0, 0, 0)["verdict"] == "valid"
    missed = lying(0, 0, 0, 0, 0, 0, 0, 0)
    assert (missed["instructed_missed"], missed["signs"], missed["verdict"]) == (1, ["instructed"], "valid")
    both = lying(0, 0, 0, 0, 0, 1, 1, 0)
    assert (both["lie_scale"], both["signs"], both["verdict"]) == ("suspect", ["instructed", "lie"], "suspect")


def test_a_lie_scale_over_its_limit_is_invalid() -> None:
    found = lying(0, 0, 1, 0, 0, 1, 1, 1)
    assert (found["lie_scale"], found["verdict"]) == ("invalid", "invalid")


def test_speed_alone_is_a_note_and_with_another_sign_invalid() -> None:
    fast = lying(0, 0, 1, 0, 0, 0, 0, 0, seconds=4)
    assert (fast["seconds_per_item"], fast["signs"], fast["verdict"]) == (0.571428571, ["fast"], "valid")
    assert lying(0, 0, 0, 0, 0, 0, 0, 0, seconds=4)["verdict"] == "invalid"


def test_haste_counts_beside_another_sign_only() -> None:
    hurried = lying(0, 0, 0, 0, 0, 0, 0, 0, seconds=8)
    assert (hurried["signs"], hurried["verdict"]) == (["instructed"], "suspect")
    assert lying(0, 0, 0, 0, 0, 0, 0, 0, seconds=14)["verdict"] == "valid"
    assert lying(0, 0, 1, 0, 0, 0, 0, 0, seconds=8)["verdict"] == "valid"


def test_doubt_puts_the_verdict_first_and_the_carelessness_within_it() -> None:
    sheets = [lying(0, 0, 1, 0, 0, 0, 0, 0), lying(0, 0, 0, 0, 0, 1, 1, 0), lying(0, 0, 1, 0, 0, 1, 1, 1)]
    assert [sheet["verdict"] for sheet in sheets] == ["valid", "suspect", "invalid"]
    for grade, sheet in enumerate(sheets):
        assert sheet["doubt"] == pytest.approx((grade + sheet["carelessness"]) / 3)
        assert grade / 3 <= sheet["doubt"] <= (grade + 1) / 3


def test_the_worst_twentieth_of_a_reference_are_outliers() -> None:
    chance = np.random.default_rng(11)
    level, ease = chance.normal(size=(2_000, 1)), np.linspace(-1.5, 1.5, 20)
    answers = pl.DataFrame(
        np.clip(np.round(1.5 + level + ease + chance.normal(0, 0.7, (2_000, 20))), 0, 3).astype(np.int16),
        schema=[f"q{n}" for n in range(20)],
    )
    found = quality.signs(answers, quality.of_columns("b", [answers.columns], range(4)))
    assert not (found["guttman"] >= 0.45).any(), "none is without order"
    is_outlier = found["signs"].list.contains("disordered")
    assert 0.05 <= is_outlier.mean() <= 0.10
    last, first = found.filter(is_outlier), found.filter(~is_outlier)
    assert last.filter(
        pl.col("guttman") < first["guttman"].max(), pl.col("person_total") > first["person_total"].min()
    ).is_empty()


def test_one_contradiction_is_shown_and_no_sign_yet() -> None:
    found = lying(1, 0, 1, 0, 0, 0, 0, 0)
    assert (found["contradictory"], found["signs"]) == (1, [])
    assert lying(1, None, 1, 0, 0, 0, 0, 0)["contradictory"] is None


def test_a_blank_instructed_item_is_no_miss_and_a_blank_lie_scale_no_truth() -> None:
    found = lying(0, 0, None, 0, 0, None, None, None)
    assert found["instructed_missed"] is None
    assert found["lie_scale"] is None
    assert found["n_checked"] == 1


def test_a_lie_scale_already_scored_is_not_scored_again() -> None:
    answers = one_sheet(**{f"lying_{number}": 0 for number in range(1, 9)})
    scored = answers.with_columns(lie_high=pl.lit(True), lie_some=pl.lit(True))
    found = quality.signs(scored, quality.of_instruments([(LYING, None)]))
    assert found["lie_scale"].to_list() == ["invalid"]


@pytest.mark.parametrize("instrument", [PHQ9, LYING], ids=["phq9", "lying"])
def test_invalid_never_masks_critical(instrument: Instrument) -> None:
    """The worst sheet there can be still says its critical item, and no column here is about one."""
    n = 200
    chance = np.random.default_rng(6)
    answers = pl.DataFrame({item.id: chance.choice(sorted(item.codes), n) for item in instrument.scored_items}).cast(
        pl.Int16
    )
    before = scoring.score(answers, instrument)
    beside = answers.hstack(before)
    seconds = pl.DataFrame({instrument.code: np.full(n, 0.5)})
    found = quality.signs(beside, quality.of_instruments([(instrument, None)]), seconds=seconds)
    assert "invalid" in found["verdict"].to_list()
    assert not [name for name in found.columns if name.startswith("critical")]
    assert beside.equals(answers.hstack(scoring.score(answers, instrument)))
    criticals = [name for name in before.columns if name.startswith("critical_")]
    loud = before.filter(found["verdict"] == "invalid").select(criticals)
    assert loud.select(pl.any_horizontal(pl.all())).to_series().any()
    quiet = beside.with_columns(pl.lit(False).alias(name) for name in criticals)
    again = quality.signs(quiet, quality.of_instruments([(instrument, None)]), seconds=seconds)
    assert again.equals(found), "a verdict does not look at them either"


def test_strong_agreement_with_everything_in_a_form_on_self_esteem_is_suspect() -> None:
    rses = catalogue.get("rses")
    battery = quality.of_instruments([(rses, None)])
    [found] = quality.signs(one_sheet(**{item.id: item.options[0].code for item in rses.items}), battery).to_dicts()
    assert (found["contradictory"], found["longstring"]) == (3, 1.0)
    assert (found["signs"], found["verdict"]) == (["contradictory", "longstring"], "suspect")


# -- wrong use -----------------------------------------------------------------------------------------------------


def test_wrong_times_are_named() -> None:
    with pytest.raises(ValueError, match="1 rows of seconds for 2 rows"):
        quality.signs(sheets(2), BATTERY, seconds=pl.DataFrame({"phq9": [3.0]}))
    with pytest.raises(ValueError, match="no question and no instrument"):
        quality.signs(sheets(1), BATTERY, seconds=pl.DataFrame({"phq8": [3.0]}))
    with pytest.raises(ValueError, match="twice"):
        quality.of_instruments([(PHQ9, None), (PHQ9, "self")])


def test_a_time_of_zero_or_less_is_no_time() -> None:
    found = quality.signs(sheets(3), BATTERY, seconds=pl.DataFrame({"phq9": [0.0, -5.0, None]}))
    assert found["seconds_per_item"].is_null().all()


@pytest.mark.parametrize("instrument", [*catalogue.all(), *EVERYTHING.values()], ids=lambda i: i.edition)
def test_every_instrument_has_signs(instrument: Instrument) -> None:
    chance = np.random.default_rng(8)
    answers = pl.DataFrame({item.id: chance.choice(sorted(item.codes), 120) for item in instrument.items})
    found = quality.signs(answers.cast(pl.Int16), quality.of_instruments([(instrument, None)]))
    assert found.height == 120
    assert found["verdict"].null_count() == 0


def assert_close(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Equal but for the last digits, which depend on how rows were grouped."""
    assert_frame_equal(found, expected, check_exact=False, rel_tol=1e-6, abs_tol=1e-6)
