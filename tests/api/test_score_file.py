"""Scoring a file of one's own: printed editions, files that are not of this instrument, texts loaded by a site."""

import datetime as dt
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from api import score_file
from api.cli import app
from instruments import catalogue, fhir
from screening import wordings
from screening.errors import InvalidUpload
from tests.api.test_command import Shell, run, write
from tests.cast import Cast

__all__ = ["run"]
ON = dt.date(2026, 11, 23)
PHQ9 = catalogue.get("phq9")
ITEMS = ",".join(f"phq9_{n}" for n in range(1, 10))


def score(code: str, file: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["score", code, file, *words])


def rows(came: Result) -> list[dict[str, object]]:
    return pl.read_csv(io.StringIO(came.stdout)).to_dicts()


@pytest.mark.parametrize("name", ["order_b", "orderB", "Order-B"])
def test_a_printed_order_gives_the_numbers_their_items(tmp_path: Path, name: str) -> None:
    # best in order b: its items 2, 5, 6, 8, 9 are the reversed ones
    file = write(tmp_path, "a.csv", "1,2,3,4,5,6,7,8,9,10\n3,0,3,3,0,0,3,0,0,3\n")
    [row] = rows(score("rses", file, "--layout", name))
    assert (row["total"], row["total_band"], row["total_1to4_coding"]) == (30, "high", 40)
    assert rows(score("rses", file))[0]["total"] != 30


def test_an_item_that_an_edition_words_as_a_strength_is_read_so_and_gets_no_band(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "1,2,3,4,5,6,7,8,9,10\n3,3,0,3,0,3,3,3,0,0\n")
    came = score("rses", file, "--layout", "orderA+item8_as_written")
    assert (rows(came)[0]["total"], rows(came)[0]["total_band"]) == (30, None)


def test_printed_codes_are_turned_and_others_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "k6_1,k6_2,k6_3,k6_4,k6_5,k6_6\n1,1,1,1,1,1\n5,5,5,5,5,5\n0,1,1,1,1,1\n")
    came = score("k6", file, "--layout", "printed")
    assert (came.exit_code, [row["total"] for row in rows(came)]) == (1, [24, 0, None])
    assert "row 4, column k6_1: 0 is not one of 1, 2, 3, 4, 5" in came.stderr


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (ITEMS.replace(",phq9_9", ""), "No column holds phq9_9"),
        (ITEMS + ",phq9_11,phq9_12", "phq9 has no item 11, only 1 to 10"),
        (",".join(map(str, range(1, 13))), "phq9 has no item 11, only 1 to 10"),
        (ITEMS + ",PHQ9-1", "'phq9_1' and 'PHQ9-1' mean the same"),
        ("a,b,c", "No column holds an item of phq9"),
    ],
)
def test_a_file_of_another_edition_is_refused_whole_and_nothing_is_written(
    tmp_path: Path, header: str, said: str
) -> None:
    out = tmp_path / "out.csv"
    file = write(tmp_path, "a.csv", header + "\n" + ",".join(["1"] * len(header.split(","))) + "\n")
    came = score("phq9", file, "-o", str(out))
    assert (came.exit_code, out.exists()) == (2, False)
    assert said in came.stderr
    assert "Traceback" not in came.stderr


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"PK\x03\x04 not a workbook", b"PAR1 not parquet PAR1"])
def test_an_unreadable_file_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    came = score("phq9", str(tmp_path / "a.csv"), "-o", str(tmp_path / "out.csv"))
    assert (came.exit_code, (tmp_path / "out.csv").exists()) == (2, False)
    assert came.stderr
    assert "Traceback" not in came.stderr


def test_bad_cells_cost_their_rows_only_and_each_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", f"who,{ITEMS}\na,1,1,1,1,1,1,1,1,1\nb,x,1,1,1,1,1,1,9,1\nc,1,1,1,1,1,1,1,1,0\n")
    came = score("phq9", file)
    assert came.exit_code == 1
    assert [(row["who"], row["status"], row["total"]) for row in rows(came)] == [
        ("a", "scored", 9),
        ("b", "out_of_range", None),
        ("c", "scored", 8),
    ]
    assert [row["critical"] for row in rows(came)] == ["phq9_9", "phq9_9", None]
    assert [line.partition(":")[0] for line in came.stderr.splitlines()] == [
        "row 3, column phq9_1",
        "row 3, column phq9_8",
    ]


def test_questions_that_not_every_edition_prints_need_no_column(tmp_path: Path) -> None:
    items = [f"phqa_{n}" for n in range(1, 10)]
    short = write(tmp_path, "a.csv", ",".join(items) + "\n" + ",".join(["0"] * 9) + "\n")
    assert rows(score("phqa", short))[0]["critical"] is None
    long = write(tmp_path, "b.csv", ",".join([*items, "phqa_12", "phqa_13"]) + "\n" + ",".join(["0"] * 9) + ",0,1\n")
    assert rows(score("phqa", long))[0]["critical"] == "phqa_13"


# -- a site's own wording -------------------------------------------------------------------------------


def test_a_site_fills_in_the_template_and_loads_it(run: Shell, cast: Cast, tmp_path: Path) -> None:
    template = run("instruments", "load-text", "ais", "--template")
    assert template.stdout.splitlines()[:2] == ["id,en,zh_CN", "stem,,"]
    filled = template.stdout.replace(",,", ",words,文字")
    file = write(tmp_path, "ais.csv", filled)
    words = ("--holder", "Riverside", "--terms", "contract 7", "--district", cast.district.code)
    came = run("instruments", "load-text", "ais", file, *words)
    assert (came.exit_code, came.stderr) == (0, "")
    assert "ais_2000_8 zh_CN: 8 items loaded under the licence of Riverside" in came.stdout
    with cast.database.unit(cast.scope) as session:
        found = wordings.shown(session, catalogue.get("ais"), "zh_CN", ON)
        assert found is not None
        assert found.items["ais_8"] == "文字"


def test_a_text_that_does_not_fit_or_has_no_holder_is_refused(run: Shell, cast: Cast, tmp_path: Path) -> None:
    template = run("instruments", "load-text", "ais", "--template").stdout.replace(",,", ",words,文字")
    district = ("--district", cast.district.code)
    short = write(tmp_path, "short.csv", "\n".join(template.splitlines()[:-1]))
    came = run("instruments", "load-text", "ais", short, "--holder", "R", "--terms", "7", *district)
    assert came.exit_code == 2
    assert "ais has 8 items, this text has 7; missing: ais_8" in came.stderr
    whole = write(tmp_path, "whole.csv", template)
    assert run("instruments", "load-text", "ais", whole, *district).exit_code == 2
    assert run("instruments", "load-text", "ais").exit_code == 2
    assert run("instruments", "load-text", "nope", whole).exit_code == 2
    with cast.database.unit(cast.scope) as session:
        assert wordings.shown(session, catalogue.get("ais"), "en", ON) is None


def test_a_licence_is_recorded_by_itself(run: Shell, cast: Cast) -> None:
    words = ("--holder", "R", "--terms", "YM-7", "--until", "2030-07-31", "--district", cast.district.code)
    assert run("instruments", "licence", "sdq", *words).exit_code == 0
    with cast.database.unit(cast.scope) as session:
        found = wordings.licence_of(session, catalogue.get("sdq"), ON)
        assert found is not None
        assert (found.holder, found.terms, str(found.until_on)) == ("R", "YM-7", "2030-07-31")


# -- FHIR -----------------------------------------------------------------------------------------------


def response(number: int, answers: Mapping[str, int | None]) -> dict[str, Any]:
    return fhir.response(PHQ9, answers, response_id=f"r{number}", subject=f"{number:04}")


def test_responses_are_scored_each_in_its_row() -> None:
    answers = {f"phq9_{n}": 1 for n in range(1, 10)}
    data = b"".join(fhir.ndjson([response(1, answers), response(2, answers | {"phq9_9": None})]))
    found = score_file.score(data, PHQ9)
    assert found.problems == ()
    shown = found.rows.select("line", "subject", "status", "total", "critical", "critical_blank").rows()
    assert shown == [(1, "0001", "scored", 9, "phq9_9", False), (2, "0002", "not_scorable", None, None, True)]


def test_a_code_that_nobody_knows_costs_the_score_and_not_the_critical_answer() -> None:
    odd = response(1, {f"phq9_{n}": 2 for n in range(1, 10)})
    odd["item"][3]["answer"][0]["valueCoding"]["code"] = "LA0-0"
    found = score_file.score(json.dumps(odd).encode(), PHQ9)
    (problem,) = found.problems
    assert (problem.row, problem.column, problem.code) == (1, "phq9_4", "unknown_code")
    assert found.rows.select("status", "total", "critical").rows() == [("out_of_range", None, "phq9_9")]


def test_link_ids_of_another_questionnaire_are_mapped_or_named() -> None:
    theirs = response(1, {f"phq9_{n}": 0 for n in range(1, 10)})
    del theirs["questionnaire"]
    for n, item in enumerate(theirs["item"], start=1):
        item["linkId"] = f"q{n}"
    data = json.dumps(theirs).encode()
    with pytest.raises(InvalidUpload) as refused:
        score_file.score(data, PHQ9)
    assert [problem.code for problem in refused.value.problems] == ["no_responses", "unknown_questionnaire"]
    mapped = score_file.score(data, PHQ9, column_map={f"q{n}": f"phq9_{n}" for n in range(1, 10)})
    assert mapped.rows["total"].to_list() == [0]
