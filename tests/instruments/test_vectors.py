"""Published scoring vectors: through the batch, through the scorer of one form, and through the command on a file."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from api.cli import app
from instruments import catalogue, scoring
from instruments.definition import Instrument
from tests.instruments import vectors
from tests.instruments.vectors import Vector

pytestmark = pytest.mark.skipif(not vectors.VECTORS.exists(), reason="the shared folder with the vectors is not here")
CODES = sorted(vectors.by_code())


def by_item(instrument: Instrument, layout: str | None, vector: Vector) -> dict[str, int | None]:
    """The vector's answers by item id, in our codes."""
    answers = vectors.printed(instrument.code, vector)
    if layout is None:
        return answers
    sheet = instrument.layouts[layout]
    return {
        item: None if answer is None else sheet.codes_of(instrument.item(item))[answer]
        for item, answer in zip(sheet.items, answers.values(), strict=True)
    }


def differences(instrument: Instrument, layout: str | None, vector: Vector, found: dict[str, Any]) -> list[str]:
    """Where a scored form is not what the vector expects."""
    wanted = vectors.expected(instrument.code, vector)
    critical = {c.item for c in instrument.critical_items if found.get(f"critical_{c.id}")}
    told = found | {"critical": critical}
    if layout and not instrument.layouts[layout].is_banded:
        wanted = {name: value for name, value in wanted.items() if "_band" not in name}
    return [
        f"{vector['id']}: {name} is {told.get(name, 'no column')!r}, not {value!r}"
        for name, value in wanted.items()
        if not _is_same(told.get(name, "no column"), value)
    ]


def _is_same(found: object, wanted: object) -> bool:
    if isinstance(wanted, tuple):
        return any(_is_same(found, each) for each in wanted)
    if isinstance(wanted, float) and isinstance(found, int | float):
        return abs(found - wanted) < 1e-5
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def test_there_are_vectors_for_every_instrument_that_ships() -> None:
    assert tuple(CODES) == catalogue.codes()


@pytest.mark.parametrize("code", CODES)
def test_one_batch_gives_what_every_vector_expects(code: str) -> None:
    instrument = catalogue.get(code)
    for (form, layout), group in vectors.groups(code).items():
        schema = dict.fromkeys(scoring.item_columns(instrument, form), pl.Int8)
        batch = pl.DataFrame([by_item(instrument, layout, vector) for vector in group], schema=schema)
        scored = scoring.score(batch, instrument, form).to_dicts()
        pairs = zip(group, scored, strict=True)
        assert [line for vector, found in pairs for line in differences(instrument, layout, vector, found)] == []


@pytest.mark.parametrize("code", CODES)
def test_one_form_gives_what_every_vector_expects(code: str) -> None:
    instrument = catalogue.get(code)
    for (form, layout), group in vectors.groups(code).items():
        for vector in group:
            found = scoring.score_one(by_item(instrument, layout, vector), instrument, form)
            assert differences(instrument, layout, vector, found) == []


# -- the command on a file ------------------------------------------------------------------------------


def sheet_of(code: str, group: list[Vector]) -> bytes:
    """One row per vector, the vector's name in front, columns by printed number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["who", *vectors.printed(code, group[0])])
    writer.writeheader()
    writer.writerows({"who": vector["id"]} | vectors.printed(code, vector) for vector in group)
    return text.getvalue().encode()


def words_of(form: str | None, layout: str | None) -> list[str]:
    return [*(["--form", form] if form else []), *(["--layout", layout] if layout else [])]


def rows_of(code: str, layout: str | None, out: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows as the scorer would tell them: critical items as a set, blank ones left to the scorer's own tests."""
    return [row | {"critical": set((row["critical"] or "").split())} for row in out.to_dicts()]


@pytest.mark.parametrize("code", CODES)
def test_the_command_gives_what_every_vector_expects(code: str, tmp_path: Path) -> None:
    for number, ((form, layout), group) in enumerate(vectors.groups(code).items()):
        source, out = tmp_path / f"{number}.csv", tmp_path / f"{number}.parquet"
        source.write_bytes(sheet_of(code, group))
        came = CliRunner().invoke(app, ["score", code, str(source), "-o", str(out), *words_of(form, layout)])
        has_bad = any(vector["expected"]["status"] == "error_out_of_range" for vector in group)
        assert came.exit_code == (1 if has_bad else 0), came.output
        rows = rows_of(code, layout, pl.read_parquet(out))
        assert [row["who"] for row in rows] == [vector["id"] for vector in group]
        assert told_by_the_command(code, layout, group, rows) == []


def told_by_the_command(code: str, layout: str | None, group: list[Vector], rows: list[dict[str, Any]]) -> list[str]:
    """Differences in what the command writes: `critical` holds item ids; it has no columns for single criticals."""
    is_banded = layout is None or catalogue.get(code).layouts[layout].is_banded
    found = []
    for vector, row in zip(group, rows, strict=True):
        wanted = {n: v for n, v in vectors.expected(code, vector).items() if is_banded or "_band" not in n}
        acute = wanted.pop("critical_thoughts_now", None)
        if acute is not None:
            wanted_now = {"asq_5"} if acute else set()
            found += [] if row["critical"] & {"asq_5"} == wanted_now else [f"{vector['id']}: {row['critical']}"]
        if not catalogue.get(code).critical_items:
            wanted.pop("critical_blank", None)
        found += [
            f"{vector['id']}: {name} is {row.get(name, 'no column')!r}, not {value!r}"
            for name, value in wanted.items()
            if not _is_same(row.get(name, "no column"), value)
        ]
    return found


def test_the_installed_command_scores_a_file_and_writes_it_to_standard_output(tmp_path: Path) -> None:
    group = vectors.groups("sdq")[("teacher", None)]
    source = tmp_path / "sdq.csv"
    source.write_bytes(sheet_of("sdq", group))
    came = subprocess.run(
        [sys.executable, "-W", "error", "-m", "api.cli", "score", "sdq", str(source), "--form", "teacher"],
        capture_output=True,
        check=False,
    )
    assert (came.returncode, came.stderr) == (0, b"")
    rows = rows_of("sdq", None, pl.read_csv(came.stdout))
    assert told_by_the_command("sdq", None, group, rows) == []
