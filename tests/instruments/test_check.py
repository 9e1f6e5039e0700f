"""Every error of a hand-written definition is named with its place, and the place has a line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli import app
from instruments import catalogue
from instruments.definition import line_of, parse

PHQ9 = catalogue.get("phq9").body


def check(folder: Path, text: str) -> tuple[int, list[str], str]:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    came = CliRunner().invoke(app, ["instruments", "check", str(file)])
    return came.exit_code, came.stderr.splitlines(), came.stdout


def changed(*pairs: tuple[str, str]) -> str:
    text = PHQ9
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def line(text: str, words: str) -> int:
    return next(n for n, each in enumerate(text.splitlines(), start=1) if words in each)


def test_a_sound_definition_is_told_with_what_is_still_open(tmp_path: Path) -> None:
    assert check(tmp_path, PHQ9) == (0, [], "phq9 1 is sound: 10 items, 2 scales.\n")
    code, _, told = check(tmp_path, catalogue.get("mht").body)
    assert code == 0
    assert "to be confirmed before it is released: cut_offs.total_ge65: " in told


def test_ten_errors_are_named_at_once_each_with_file_line_and_place(tmp_path: Path) -> None:
    text = changed(
        ('construct = "depression"', 'construkt = "depression"'),
        ("min_age = 12", 'min_age = "twelve"'),
        ('seen = "source"\nsource = "HL7 Argonaut PHQ-9 example, c', 'source = "HL7 Argonaut PHQ-9 example, c'),
        ('number = 3\noptions = "frequency"', 'number = 2\noptions = "frequencies"'),
        ('rule = "none"', 'rule = "prorated"'),
        ('method = "count"', 'method = "average"'),
        ('[cut_offs.ge10]\nscale = "total"\nop = ">="', '[cut_offs.ge10]\nscale = "total"\nop = "=>"'),
        ("moderate = [10, 14]", "moderate = 10"),
    )
    code, told, _ = check(tmp_path, text)
    assert code == 1
    assert told == [
        f"mine.toml{where}: {problem}"
        for where, problem in [
            (
                f":{line(text, 'prorated')}",
                "missing.rule: must be one of none, prorate, minimum_answered, blank_as_zero, not 'prorated'",
            ),
            (
                f":{line(text, 'average')}",
                "scales.n_symptoms.method: must be one of sum, mean, count, linear, level, not 'average'",
            ),
            (
                f":{line(text, 'thresholds')}",
                "scales.n_symptoms.thresholds: belong to a count scale, and a count scale needs them",
            ),
            (f":{line(text, 'twelve')}", "forms.self.min_age: must be a whole number, not 'twelve'"),
            ("", "construct: is missing"),
            (f":{line(text, 'frequencies')}", "items[2].options: there is no options.frequencies"),
            (
                f":{line(text, 'moderate = 10')}",
                "band_schemes[0].bands.total.moderate: must be two numbers, low and high, not 10",
            ),
            (f":{line(text, '=>')}", "cut_offs.ge10.op: must be one of >=, >, <=, <, ==, not '=>'"),
            (
                f":{line(text, '[licence.en]')}",
                'licence.en.seen: say seen = "source" or seen = "ours", or else confirm = true',
            ),
            (f":{line(text, 'construkt')}", "construkt: is not a word of this format"),
            (f":{line(text, 'number = 2') + 6}", "items[2].number: 2 is given twice"),
        ]
    ]


def test_a_name_that_points_nowhere_is_told_beside_a_wrong_word(tmp_path: Path) -> None:
    text = changed(('item = "phq9_9"\nop = "=="', 'item = "phq9_99"\nop = "=="'), ("min_age = 12", "min_age = true"))
    code, told, _ = check(tmp_path, text)
    assert code == 1
    assert told == [
        f"mine.toml:{line(text, 'min_age')}: forms.self.min_age: must be a whole number, not True",
        f"mine.toml:{line(text, 'phq9_99')}: critical.self_harm_daily.item: there is no item phq9_99",
    ]


def test_what_only_the_whole_can_tell_has_its_line_too(tmp_path: Path) -> None:
    text = changed(
        ("mild = [5, 9]", "mild = [5, 8]"),
        ('item = "phq9_9"\nop = "=="', 'item = "phq9_99"\nop = "=="'),
        ("number = 3", "number = 2"),
        ("sources = [", "sources = ["),
    )
    code, told, _ = check(tmp_path, text)
    assert code == 1
    assert f"mine.toml:{line(text, 'phq9_99')}: critical.self_harm_daily.item: there is no item phq9_99" in told
    second = [n for n, each in enumerate(text.splitlines(), start=1) if each == "number = 2"][1]
    assert f"mine.toml:{second}: items[2].number: 2 is given twice" in told
    gap = changed(("mild = [5, 9]", "mild = [5, 8]"))
    _, told, _ = check(tmp_path, gap)
    place = "band_schemes[0].bands.total.moderate"
    assert told == [f"mine.toml:{line(gap, 'moderate = [10')}: {place}: leaves a gap after mild"]


@pytest.mark.parametrize("text", ["code = ", "\x00", "[a]\n[a]"])
def test_what_is_no_toml_is_said_with_its_line(tmp_path: Path, text: str) -> None:
    code, [told], _ = check(tmp_path, text)
    assert code == 1
    assert "line" in told or "at end of document" in told


def test_lines_are_found_below_headings_and_inside_them() -> None:
    assert line_of(PHQ9, "scales.total.items[3]") == line(PHQ9, "[scales.total]") + 3
    assert line_of(PHQ9, "items[8].text.en") == line(PHQ9, "better off dead")
    assert line_of(PHQ9, "options.frequency.answers[2].code") == line(PHQ9, "answers = [")
    assert line_of(PHQ9, "band_schemes[0].bands.total.severe") == line(PHQ9, "severe = [20, 27]")
    assert line_of(PHQ9, "nowhere.at.all") is None
    assert line_of("", "file") is None


def test_every_fact_of_every_definition_has_its_line() -> None:
    for instrument in catalogue.all():
        for place, _ in instrument.facts():
            where = place if not place.startswith("band_schemes.") else "band_schemes[0]"
            if where != f"{place.rpartition('.')[0]}.missing":
                assert line_of(instrument.body, where), (instrument.code, place)


def test_a_definition_of_ones_own_scores_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(catalogue.get("brs").body.replace("brs", "own"), encoding="utf-8")
    assert parse(file.read_bytes(), "own.toml").code == "own"
    answers = tmp_path / "a.csv"
    answers.write_text("1,2,3,4,5,6\n5,1,5,1,5,1\n", encoding="utf-8")
    came = CliRunner().invoke(app, ["score", str(file), str(answers)])
    assert (came.exit_code, came.stdout.splitlines()[1].endswith("scored,0,30,5.0,high,")) == (0, True)
    file.write_text("code = 1", encoding="utf-8")
    assert CliRunner().invoke(app, ["score", str(file), str(answers)]).exit_code == 2
