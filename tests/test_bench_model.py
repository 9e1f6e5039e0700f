"""The model's figures on anybody's file: what predicts, what may not, and clear words for what cannot be used."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench import model

ROWS = 240


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight units, of which one asked no first question; beside answers what tells of target, units and rows."""
    chance = np.random.default_rng(2)
    felt = chance.normal(size=ROWS)
    unit = np.arange(ROWS) % 8
    asked = np.clip(np.round(felt[:, None] + chance.normal(size=(ROWS, 4)) + 1), 0, 3)
    need = (felt + chance.normal(scale=0.5, size=ROWS) > 0.8).astype(int)
    frame = pl.DataFrame(
        {
            **{f"q{n}": asked[:, n] for n in range(4)},
            "unit": [f"u{n}" for n in unit],
            "need": need,
            "needs_too": 2 - need,
            "plan": np.where(need == 1, chance.integers(0, 3, ROWS), 0),
            "plans_too": 0,
            "layer": unit // 2,
            "row": np.arange(ROWS) + 0.5,
            "sex": chance.choice(["f", "m"], ROWS),
        }
    ).with_columns(
        q0=pl.when(pl.col("unit") == "u3").then(None).otherwise("q0"),
        plans_too=pl.when(pl.col("plan") > 0).then(1).otherwise(0),
    )
    path = tmp_path_factory.mktemp("bench") / "answers.csv"
    frame.write_csv(path, null_value="NA")
    return path


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_file_a_target_and_a_group_are_enough(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(file), "--target", "need>0", "--group", "unit", "--leave-out", "plan", "--rising", "q1"]
    assert model.main([*asked, "--by", "sex", "--folds", "2"]) == 0
    first, *rest = said(capsys)
    assert (first["rows"], first["groups"], first["columns"], first["monotone"]) == (ROWS, 8, 4, {"q1": 1})
    assert first["left_out_as_of_groups"] == ["layer"]
    assert first["left_out_as_row_numbers"] == ["row"]
    assert first["left_out_as_the_target"] == ["needs_too"]
    assert first["left_out_as_recoded"] == ["plans_too"]
    whole = {line["of"]: line for line in rest if "auroc_interval" in line and "by" not in line}
    assert set(whole) == {"logistic", "model"}
    assert all(isinstance(one["auroc"], float) and one["auroc"] > 0.75 for one in whole.values())
    assert {"brier", "slope", "ece", "ece_recalibrated", "sensitivity", "ppv"} <= set(whole["model"])
    assert {line["group"] for line in rest if line.get("by") == "sex"} == {"f", "m"}
    assert any("said_and_seen_by_tenth" in line for line in rest)


def test_a_score_has_its_best_cut(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert model.main([str(file), "--target", "need==1", "--score", "q1"]) == 0
    assert said(capsys)[0]["cut"] in {1.0, 2.0}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "need>0"], "--group is needed"),
        (["--target", "need", "--group", "unit"], "no condition"),
        (["--target", "gone>0", "--group", "unit"], "no column gone"),
        (["--target", "need>0", "--group", "gone"], "no column gone"),
        (["--target", "need>0", "--group", "unit", "--by", "gone"], "no column gone"),
        (["--target", "need>5", "--group", "unit"], "true of 0 of 240 rows"),
        (["--target", "sex>1", "--group", "unit"], "is no number"),
        (["--target", "need==f", "--group", "unit"], "is no text"),
        (["--target", "need>0", "--group", "sex"], "fewer than three groups"),
        (["--target", "need>0", "--group", "unit", "--columns", "x*"], "no numeric column is left"),
    ],
)
def test_what_cannot_be_used_is_said(
    file: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model.main([str(file), *words]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_not_there_or_no_table_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("gone.csv", "a.csv"):
        assert model.main([str(tmp_path / name), "--target", "a>0", "--group", "b"]) == 2
        assert capsys.readouterr().err
