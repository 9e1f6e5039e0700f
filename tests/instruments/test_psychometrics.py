"""Alpha, omega, item-rest and DIF: against slow reckoning, against what was planted, and on two public samples."""

import math
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from instruments import psychometrics
from instruments.psychometrics import TooFewRows
from tests.instruments.showing import show

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
CDI = SHARED / "cdi_youth_us" / "cdi_youth.csv"
DASS = SHARED / "dass42_openpsych" / "dass42_5000.csv"

needs_real = pytest.mark.skipif(not CDI.exists(), reason="the shared folder with real answers is not here")


def one_trait(
    n: int, loadings: list[float], seed: int = 1, n_steps: int = 3
) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    chance = np.random.default_rng(seed)
    trait = chance.normal(size=n)
    columns = {}
    for number, loading in enumerate(loadings, 1):
        felt = loading * trait + math.sqrt(1 - loading**2) * chance.normal(size=n)
        columns[f"i{number}"] = (felt[:, None] > 0.2 + 0.6 * np.arange(n_steps)).sum(1)
    return pl.DataFrame(columns), trait


# -- reliability ---------------------------------------------------------------------------------------------------


def test_alpha_is_that_of_the_formula_and_lies_in_its_interval() -> None:
    items, _ = one_trait(400, [0.7] * 6)
    scores = items.to_numpy()
    plain = 6 / 5 * (1 - scores.var(0, ddof=1).sum() / scores.sum(1).var(ddof=1))
    found = psychometrics.alpha(items)
    assert found.value == pytest.approx(plain)
    assert (found.n, found.n_items) == (400, 6)
    f = stats.f(399, 399 * 5)
    assert found.low == pytest.approx(1 - (1 - plain) * f.ppf(0.975))
    assert found.high == pytest.approx(1 - (1 - plain) * f.ppf(0.025))


def test_the_interval_holds_the_true_alpha_as_often_as_it_says() -> None:
    """Parallel parts with normal errors: alpha = k r / (1 + (k - 1) r)."""
    chance = np.random.default_rng(2)
    k, r, held = 5, 0.4, 0
    for _ in range(400):
        scores = math.sqrt(r) * chance.normal(size=(60, 1)) + math.sqrt(1 - r) * chance.normal(size=(60, k))
        found = psychometrics.alpha(pl.DataFrame(scores))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= k * r / (1 + (k - 1) * r) <= found.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_omega_is_alpha_when_all_load_alike_and_above_it_otherwise() -> None:
    chance = np.random.default_rng(3)

    def continuous(loadings: list[float]) -> pl.DataFrame:
        weights = np.array(loadings)
        noise = np.sqrt(1 - weights**2) * chance.normal(size=(20_000, len(weights)))
        return pl.DataFrame(chance.normal(size=(20_000, 1)) * weights + noise)

    alike = continuous([0.6] * 5)
    assert psychometrics.omega(alike).value == pytest.approx(psychometrics.alpha(alike).value, abs=0.003)
    weights = [0.9, 0.8, 0.5, 0.3, 0.2]
    uneven = continuous(weights)
    true = sum(weights) ** 2 / (sum(weights) ** 2 + sum(1 - w**2 for w in weights))
    assert psychometrics.omega(uneven).value == pytest.approx(true, abs=0.01)
    assert psychometrics.omega(uneven).value > psychometrics.alpha(uneven).value + 0.02


def test_item_statistics_are_the_correlations_with_the_rest() -> None:
    items, _ = one_trait(300, [0.8, 0.5, 0.6, 0.7])
    scores = items.to_numpy().astype(float)
    for place, row in enumerate(psychometrics.item_statistics(items).to_dicts()):
        rest = np.delete(scores, place, axis=1)
        assert row["item_rest"] == pytest.approx(np.corrcoef(scores[:, place], rest.sum(1))[0, 1])
        assert row["alpha_without"] == pytest.approx(psychometrics.alpha(pl.DataFrame(rest)).value)
        assert row["sd"] == pytest.approx(scores[:, place].std(ddof=1))


def test_only_complete_rows_count_and_too_few_are_refused() -> None:
    items, _ = one_trait(120, [0.7] * 4)
    holes = items.with_columns(pl.when(pl.int_range(pl.len()) >= 60).then(pl.col("i2")).alias("i2"))
    assert psychometrics.alpha(holes).n == 60
    assert psychometrics.alpha(holes).value == psychometrics.alpha(items.tail(60)).value
    with pytest.raises(TooFewRows, match="49 complete rows"):
        psychometrics.alpha(items.head(49))
    with pytest.raises(ValueError, match="does not vary"):
        psychometrics.alpha(items * 0)
    with pytest.raises(ValueError, match="no numbers: name"):
        psychometrics.alpha(items.with_columns(name=pl.lit("x")))


# -- DIF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_model_reaches_the_likelihood_that_another_optimizer_finds(seed: int) -> None:
    chance = np.random.default_rng(seed)
    design = np.column_stack([chance.normal(size=400), chance.integers(0, 2, 400)])
    felt = design @ [1.2, -0.7] + chance.logistic(size=400)
    answers = np.digitize(felt, [-0.5, 0.8, 2.0])

    def minus_log_likelihood(given: NDArray[np.float64]) -> float:
        cuts = np.concatenate([[-np.inf], np.cumsum([given[0], *np.exp(given[1:3])]), [np.inf]])
        reach = stats.logistic.cdf(cuts[:, None] - design @ given[3:])
        return -float(np.log(np.diff(reach, axis=0)[answers, np.arange(400)]).sum())

    best = optimize.minimize(minus_log_likelihood, [-0.5, 0.0, 0.0, 0.0, 0.0], method="BFGS")
    assert psychometrics.log_likelihood(answers.astype(np.intp), design, np.ones(400)) == pytest.approx(
        -best.fun, abs=1e-4
    )


def test_without_a_predictor_the_likelihood_is_that_of_the_shares() -> None:
    expected = sum(n * math.log(n / 100) for n in (50, 30, 20))
    assert psychometrics.log_likelihood(np.arange(3), np.empty((3, 0)), np.array([50.0, 30.0, 20.0])) == pytest.approx(
        expected
    )


def planted(shift: float, slope: float = 1.0, n: int = 3_000) -> tuple[pl.DataFrame, pl.Series]:
    """Eight items; the third is easier for group b by `shift`, and follows the trait `slope` times as closely."""
    chance = np.random.default_rng(5)
    is_b = chance.random(n) < 0.4
    trait = chance.normal(size=n) + 0.5 * is_b
    columns = {}
    for number in range(1, 9):
        felt = 1.7 * trait + chance.logistic(size=n)
        if number == 3:
            felt = np.where(is_b, 1.7 * slope * trait + shift, 1.7 * trait) + chance.logistic(size=n)
        columns[f"i{number}"] = np.digitize(felt, [0.3, 1.5, 2.7])
    return pl.DataFrame(columns), pl.Series(np.where(is_b, "b", "a"))


def test_a_planted_difference_is_found_and_a_mere_group_difference_is_not() -> None:
    """Group b stands higher on the trait in both: that alone is no DIF."""
    found = psychometrics.dif(*planted(shift=1.2))
    assert found.filter("differs")["item"].to_list() == ["i3"]
    assert found["p_uniform"][2] < 1e-6
    assert found["p_nonuniform"][2] > 0.01
    assert psychometrics.dif(*planted(shift=0.0))["differs"].sum() == 0


def test_an_item_that_works_less_well_in_one_group_differs_non_uniformly() -> None:
    found = psychometrics.dif(*planted(shift=0.0, slope=0.2))
    assert found["p_nonuniform"][2] < 1e-6
    assert found["differs"][2]


def test_size_follows_the_change_in_r2() -> None:
    small, large = (psychometrics.dif(*planted(shift))["size"][2] for shift in (0.6, 3.5))
    assert (small, large) == ("negligible", "large")
    assert psychometrics.dif(*planted(0.0))["size"].is_null().all()


def test_small_groups_and_rows_without_a_group_stay_out() -> None:
    items, group = planted(shift=1.2)
    with_third = group.clone().scatter(list(range(199)), "c").scatter(list(range(300, 330)), None)
    found = psychometrics.dif(items, with_third)
    assert (found["n"][0], found["n_groups"][0]) == (3_000 - 199 - 30, 2)
    with pytest.raises(TooFewRows, match="1 groups with 200"):
        psychometrics.dif(items, pl.Series(["a"] * 3_000))
    with pytest.raises(ValueError, match="group values"):
        psychometrics.dif(items, group.head(5))


def test_an_item_that_everybody_answers_alike_cannot_differ() -> None:
    items, group = planted(shift=0.0)
    found = psychometrics.dif(items.with_columns(i9=pl.lit(0)), group)
    assert found.row(8, named=True)["p_total"] == 1.0


def test_an_item_that_one_group_never_answers_high_still_gets_its_figures() -> None:
    """There the best fit lies at infinity; its likelihood does not."""
    items, group = planted(shift=0.0)
    never = items.with_columns(i3=pl.when(group == "a").then(pl.col("i3")).otherwise(0))
    found = psychometrics.dif(never, group).row(2, named=True)
    assert found["size"] == "large"
    assert math.isfinite(found["chi2_total"])


# -- public samples ------------------------------------------------------------------------------------------------


@needs_real
def test_the_childrens_depression_inventory(capsys: pytest.CaptureFixture[str]) -> None:
    """2,290 pupils, 26 items, of which those called ..r are reversed already; published: 77 % of the items differ by
    race (Vaughn-Coaxum, Mair & Weisz 2016)."""
    real = pl.read_csv(CDI, infer_schema_length=None)
    items = real.drop("race")
    assert (items.height, items.width) == (2_290, 26)
    assert (items.min().min_horizontal()[0], items.max().max_horizontal()[0]) == (0, 2)
    assert "CDI9" not in items.columns
    alpha, omega = psychometrics.alpha(items), psychometrics.omega(items)
    twice = items.with_columns((2 - pl.col(name)).alias(name) for name in items.columns if name.endswith("r"))
    backwards = psychometrics.item_statistics(twice).filter(pl.col("item_rest") < 0).height
    began = time.perf_counter()
    found = psychometrics.dif(items, real["race"], fewest=150)
    seconds = time.perf_counter() - began
    sizes = dict(found.filter("differs")["size"].value_counts().sort("size").iter_rows())
    show(
        capsys,
        [
            f"CDI: alpha {alpha.value:.3f} ({alpha.low:.3f} to {alpha.high:.3f}), omega {omega.value:.3f}",
            f"  reversed once more: alpha {psychometrics.alpha(twice).value:.3f}, {backwards} items against the rest",
            f"  DIF by race (4 groups): {found['differs'].sum()} of 26 items, {sizes}, {seconds:.2f} s",
        ],
    )
    assert psychometrics.item_statistics(items)["item_rest"].min() > 0.3, "as the file stands, every item agrees"
    assert (round(alpha.value, 3), round(omega.value, 3)) == (0.880, 0.882)
    assert psychometrics.alpha(twice).value < 0
    assert found["n_groups"][0] == 4
    assert found["differs"].sum() == 20
    assert found["differs"].mean() == pytest.approx(0.77, abs=0.005)
    assert psychometrics.dif(items, real["race"])["n_groups"][0] == 3, "174 of one group are under the usual 200"


@needs_real
def test_the_depression_anxiety_stress_scales(capsys: pytest.CaptureFixture[str]) -> None:
    """5,000 volunteers, 42 items coded 1-4 where the published cut-offs want 0-3."""
    real = pl.read_csv(DASS, infer_schema_length=None)
    names = [name for name in real.columns if name.startswith("dass") and "_" in name]
    items = real.select(names)
    assert (items.height, items.width, (real["age"] < 18).sum()) == (5_000, 42, 909)
    assert (items.min().min_horizontal()[0], items.max().max_horizontal()[0]) == (1, 4)
    assert items.sum_horizontal().equals(real["dasssum"].cast(items.sum_horizontal().dtype), check_names=False)
    lines, counts, alphas = ["DASS-42, 5,000 volunteers"], {}, {}
    for letter, title in (("D", "Depression"), ("A", "Anxiety"), ("S", "Stress")):
        scale = items.select(name for name in names if name.endswith(f"_{letter}"))
        total = scale.sum_horizontal()
        assert (total == real[title]).all(), "the file's own totals are sums of 1-4"
        assert ((scale - 1).sum_horizontal() == total - 14).all(), "14 too high for cut-offs made for 0-3"
        alphas[title] = psychometrics.alpha(scale)
        assert psychometrics.alpha(scale - 1).value == pytest.approx(alphas[title].value), "alpha does not notice"
        found = {name: psychometrics.dif(scale, real[name]) for name in ("gender", "engnat", "urban")}
        found["under 18"] = psychometrics.dif(scale, real["age"] < 18)
        counts[title] = {name: int(frame["differs"].sum()) for name, frame in found.items()}
        assert all(set(frame.filter("differs")["size"]) <= {"negligible"} for frame in found.values())
        lines.append(
            f"  {title}: alpha {alphas[title].value:.3f} ({alphas[title].low:.3f} to {alphas[title].high:.3f}),"
            f" omega {psychometrics.omega(scale).value:.3f}, items of 14 with DIF {counts[title]}, all negligible"
        )
    show(capsys, lines)
    assert [round(one.value, 3) for one in alphas.values()] == [0.956, 0.916, 0.927]
    assert counts == {
        "Depression": {"gender": 7, "engnat": 8, "urban": 0, "under 18": 4},
        "Anxiety": {"gender": 8, "engnat": 8, "urban": 0, "under 18": 7},
        "Stress": {"gender": 9, "engnat": 10, "urban": 1, "under 18": 3},
    }
