"""Signs of careless answering on real answers: against attention items, and against sheets filled in at random.

Nothing in `instruments.quality` was fitted to these files.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats

from instruments import quality
from tests.instruments.showing import show

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
SCIOPS = SHARED / "careless_sciops"
BEST_SINGLE = 0.767
"""AUROC of the file's own Mahalanobis distance, the best of its single indices."""
MARGIN = 0.03

pytestmark = pytest.mark.skipif(not SCIOPS.exists(), reason="the shared folder with real answers is not here")

FACETS = {"7u7d": ("7u", "7d"), "gad7": ("gad7",), "pswq": ("pswq",), "bisbas": ("bis", "bas"), "shaps": ("shaps",)}
CODES = {"7u7d": range(4), "gad7": range(4), "pswq": range(5), "bisbas": range(5), "shaps": range(4)}
WORSE_IS = {"seconds_per_item": -1, "guttman": 1, "person_total": -1, "even_odd": -1, "mahalanobis": 1, "spread": 1}


def auroc(worse: NDArray[np.float64], is_careless: NDArray[np.bool_]) -> tuple[float, float, float, int]:
    """Area under the curve and its 95% interval (DeLong 1988), over the rows that have the index; n."""
    known = ~np.isnan(worse)
    cases, others = worse[known & is_careless], worse[known & ~is_careless]
    beats = (cases[:, None] > others) + 0.5 * (cases[:, None] == others)
    area = float(beats.mean())
    half = 1.96 * np.sqrt(beats.mean(1).var(ddof=1) / len(cases) + beats.mean(0).var(ddof=1) / len(others))
    return area, area - half, min(1.0, area + half), int(known.sum())


def sciops() -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """The signs of every survey that has attention items, and whether it missed one."""
    read = {
        name: pl.read_csv(SCIOPS / f"01_Original_{name}.csv", infer_schema_length=None)
        for name in ("items", "metrics", "surveys")
    }
    asked = read["metrics"].select("subject", "infreq")
    answers = asked.join(read["items"], on="subject", how="left", maintain_order="left")
    times = asked.join(read["surveys"], on="subject", how="left", maintain_order="left")
    battery = quality.joined(
        quality.of_columns(code, [[c for c in answers.columns if c.startswith(f"{f}_q")] for f in facets], CODES[code])
        for code, facets in FACETS.items()
    )
    seconds = times.select(pl.col(f"{code}_rt").alias(code) for code in FACETS)
    return quality.signs(answers, battery, seconds=seconds), (asked["infreq"] >= 1).to_numpy()


def test_carelessness_finds_those_who_missed_an_attention_item(capsys: pytest.CaptureFixture[str]) -> None:
    found, is_careless = sciops()
    assert (len(is_careless), int(is_careless.sum())) == (386, 85)
    lines = ["AUROC against infrequency >= 1, 85 of 386 (95% interval, DeLong)"]
    areas = {}
    for name, sign in {**WORSE_IS, "carelessness": 1, "doubt": 1}.items():
        areas[name] = auroc(sign * found[name].cast(pl.Float64).to_numpy(), is_careless)
        lines.append("  {:<17} {:.3f} ({:.3f} to {:.3f}), n {}".format(name, *areas[name]))
    grades = auroc(found["verdict"].to_physical().cast(pl.Float64).to_numpy(), is_careless)
    lines.append(
        "  {:<17} {:.3f} ({:.3f} to {:.3f}), n {}: its three words alone, made to accuse few".format("verdict", *grades)
    )
    for careless in (False, True):
        counts = found.filter(pl.Series(is_careless == careless))["verdict"].value_counts().sort("verdict")
        lines.append(f"  {'missed' if careless else 'passed'}: {dict(counts.iter_rows())}")
    show(capsys, lines)
    assert areas["mahalanobis"][0] == pytest.approx(BEST_SINGLE, abs=0.001), "the same index as the file's own"
    assert areas["doubt"][0] >= BEST_SINGLE - MARGIN
    is_doubted = (found["verdict"] != "valid").to_numpy()
    assert is_doubted[is_careless].mean() > 0.15
    assert is_doubted[~is_careless].mean() < 0.03


def test_the_distance_is_the_one_the_file_gives() -> None:
    found, _ = sciops()
    given = pl.read_csv(SCIOPS / "01_Original_metrics.csv")["mahalanobis"].to_numpy()
    assert stats.spearmanr(found["mahalanobis"].to_numpy(), given).statistic > 0.99


@pytest.mark.parametrize("file", ["cdi_youth_us/cdi_youth.csv", "dass42_openpsych/dass42_5000.csv"])
def test_sheets_filled_in_at_random_are_suspect_and_few_others(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    real = pl.read_csv(SHARED / file, infer_schema_length=None)
    names = [c for c in real.columns if c.startswith("CDI") or (c.startswith("dass") and "_" in c)]
    facets = [[n for n in names if n.endswith(end)] for end in ("_S", "_A", "_D")] if "dass1_S" in names else [names]
    codes = sorted(set(real.select(pl.concat_list(names).explode().unique()).to_series()))
    chance = np.random.default_rng(1)
    is_random = chance.random(real.height) < 0.05
    answers = real.select(names).to_numpy().astype(np.int16)
    answers[is_random] = chance.choice(codes, (int(is_random.sum()), len(names)))
    battery = quality.of_columns("battery", facets, codes)
    found = quality.signs(pl.DataFrame(answers, schema=names), battery)
    is_doubted = (found["verdict"] != "valid").to_numpy()
    area = auroc(found["carelessness"].to_numpy(), is_random)
    caught, blamed = is_doubted[is_random].mean(), is_doubted[~is_random].mean()
    show(
        capsys,
        [
            f"{file}: {is_random.sum()} of {real.height} sheets at random",
            "  carelessness AUROC {:.3f} ({:.3f} to {:.3f}), n {}".format(*area),
            f"  suspect or invalid: {caught:.3f} of the random, {blamed:.3f} of the others",
        ],
    )
    assert area[0] > 0.9
    assert caught > 0.5
    assert blamed < 0.03


def test_auroc_agrees_with_a_rank_test() -> None:
    chance = np.random.default_rng(9)
    worse, is_careless = chance.integers(0, 5, 200).astype(float), chance.random(200) < 0.3
    u = stats.mannwhitneyu(worse[is_careless], worse[~is_careless]).statistic
    area, low, high, n = auroc(worse, is_careless)
    assert area == pytest.approx(u / (is_careless.sum() * (~is_careless).sum()))
    assert low < area < high
    assert n == 200
