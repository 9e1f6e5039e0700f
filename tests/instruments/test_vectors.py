"""Published scoring vectors, through the batch scorer and through the scorer of one form."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from instruments import catalogue, scoring

VECTORS = Path(__file__).parents[2] / ".." / "shared" / "reference" / "scoring_vectors.json"
STATUS = {"invalid_too_many_blank": "invalid", "error_out_of_range": "out_of_range"}

pytestmark = pytest.mark.skipif(not VECTORS.exists(), reason="the shared folder with the scoring vectors is not here")


@cache
def vectors_of(code: str) -> list[dict[str, Any]]:
    everything: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))["instruments"]
    return list(everything[code]["vectors"])


def answers_of(code: str, vector: dict[str, Any]) -> dict[str, int | None]:
    return {f"{code}_{number}": answer for number, answer in vector["answers"].items()}


def expected_of(code: str, vector: dict[str, Any]) -> dict[str, object]:
    """The vector's expectation in the names of our columns."""
    expected = vector["expected"]
    wanted: dict[str, object] = {"status": STATUS.get(expected["status"], expected["status"])}
    for part in ("scores", "cutoffs", "algorithm"):
        wanted |= expected.get(part, {})
    wanted |= {f"{scale}_band": band for scale, band in expected.get("bands", {}).items()}
    if "n_missing" in expected:
        wanted["n_missing"] = expected["n_missing"]
    if code == "phq9" and "flags" in expected:
        wanted["critical_self_harm"] = "critical:9" in expected["flags"]
        wanted["critical_blank"] = "policy:critical_item_blank:9" in expected["flags"]
    return wanted


@pytest.mark.parametrize("code", ["phq9", "gad7", "psc17"])
def test_one_batch_gives_what_every_vector_expects(code: str) -> None:
    instrument = catalogue.get(code)
    for form in instrument.forms:
        vectors = [v for v in vectors_of(code) if v.get("variant", instrument.default_form) == form]
        schema = dict.fromkeys(scoring.item_columns(instrument, form), pl.Int8)
        batch = pl.DataFrame([answers_of(code, vector) for vector in vectors], schema=schema)
        scored = scoring.score(batch, instrument, form).to_dicts()
        assert len(scored) == len(vectors) > 0
        for vector, found in zip(vectors, scored, strict=True):
            wanted = expected_of(code, vector)
            assert {name: found.get(name, "no such column") for name in wanted} == wanted, vector["id"]


@pytest.mark.parametrize("code", ["phq9", "gad7", "psc17"])
def test_one_form_gives_what_every_vector_expects(code: str) -> None:
    for vector in vectors_of(code):
        found = scoring.score_one(answers_of(code, vector), catalogue.get(code), vector.get("variant"))
        wanted = expected_of(code, vector)
        assert {name: found.get(name, "no such column") for name in wanted} == wanted, vector["id"]
