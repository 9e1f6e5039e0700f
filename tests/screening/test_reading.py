"""A file of answers as schools really send it: each cell is read right or named by its row and column."""

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import catalogue
from screening.errors import InvalidUpload, Problem
from screening.reading import AnswersPlan, Limits, Part, Summary, answers, files
from screening.reading import text as text_reading
from tests.sharing import examples

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PHQ9 = [f"phq9_{i}" for i in range(1, 10)]
GAD7 = [f"gad7_{i}" for i in range(1, 8)]
Reading = tuple[pl.DataFrame, list[Problem], Summary]


def plan_of(*forms: tuple[str, str], column_map: Mapping[str, str] | None = None) -> AnswersPlan:
    forms = forms or (("phq9", "student"), ("gad7", "student"))
    return AnswersPlan(tuple((catalogue.get(code).body, informant) for code, informant in forms), column_map or {})


def read(data: bytes | str, plan: AnswersPlan | None = None, limits: Limits | None = None) -> Reading:
    limits = limits or Limits()
    data = data.encode() if isinstance(data, str) else data
    parts, summary = split(answers.read(files.open_file(data, limits), plan or plan_of(), limits))
    table = pl.concat([part.answers for part in parts])
    problems = pl.concat([part.problems for part in parts])
    return table, [Problem(**row) for row in problems.iter_rows(named=True)], summary


def split(found: Iterable[Part | Summary]) -> tuple[list[Part], Summary]:
    *parts, summary = found
    assert isinstance(summary, Summary)
    return [part for part in parts if isinstance(part, Part)], summary


def refusal(data: bytes | str, plan: AnswersPlan | None = None, limits: Limits | None = None) -> list[str]:
    with pytest.raises(InvalidUpload) as caught:
        read(data, plan, limits)
    assert caught.value.problems
    return [problem.code for problem in caught.value.problems]


def text_of(*rows: list[Any], header: list[str] | None = None) -> str:
    header = header or ["student_number", *PHQ9, *GAD7]
    return "".join(",".join(map(str, row)) + "\n" for row in [header, *rows])


def filled(number: str, value: object = 1, **changed: object) -> list[Any]:
    cells = dict.fromkeys([*PHQ9, *GAD7], value) | changed
    return [number, *cells.values()]


def workbook_of(*sheets: list[list[Any]], names: tuple[str, ...] = ()) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as workbook:
        for i, rows in enumerate(sheets):
            sheet = workbook.add_worksheet(names[i] if names else None)
            for r, row in enumerate(rows):
                for c, cell in enumerate(row):
                    sheet.write(r, c, cell)
    return out.getvalue()


def with_part(workbook: bytes, name: str, content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as old, zipfile.ZipFile(out, "w", kind) as new:
        for part in old.namelist():
            new.writestr(part, content if part == name else old.read(part))
        if name not in old.namelist():
            new.writestr(name, content)
    return out.getvalue()


def phq9(table: pl.DataFrame, column: str = "total") -> list[Any]:
    return table[f"phq9.student.{column}"].to_list()


def gad7(table: pl.DataFrame, column: str = "total") -> list[Any]:
    return table[f"gad7.student.{column}"].to_list()


# -- what is no table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"   \n\n", b"\xef\xbb\xbf", b"\xff\xfe", ",,,\n,,,\n".encode("utf-16")])
def test_an_empty_file_says_so(data: bytes) -> None:
    assert refusal(data) == ["empty_file"]


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\nstudent_number,phq9_1\n1,2\n",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"<html><table><tr><td>phq9_1</td></tr></table></html>",
        b"\xef\xbb\xbf<?xml version='1.0'?><Workbook/>",
        b"PK\x03\x04 this is no zip",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        b"PAR1" + bytes(20) + b"PAR1",
        b"\x1f\x8b" + bytes(30),
    ],
)
def test_a_file_that_is_no_table_is_refused_whatever_its_name(data: bytes) -> None:
    assert refusal(data) == ["not_a_table"]


def test_a_zip_of_something_else_and_a_locked_workbook_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr("word/document.xml", "<w/>")
    assert refusal(out.getvalue()) == ["not_a_table"]
    locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    assert refusal(locked) == ["encrypted"]


def test_zero_bytes_are_named_by_line() -> None:
    with pytest.raises(InvalidUpload) as caught:
        read(text_of(filled("1")).encode() + b"2,\x00,1\n")
    assert [(p.code, p.row) for p in caught.value.problems] == [("has_nul", 3)]


def test_bytes_that_are_no_text_are_refused() -> None:
    assert refusal(b"student_number,phq9_1\n\xff\xff\xff\xfe,1\n") == ["not_text"]


def test_a_header_alone_has_no_rows() -> None:
    assert refusal(text_of()) == ["no_rows"]
    assert refusal(workbook_of([["student_number", *PHQ9]])) == ["no_rows"]


def test_a_file_without_items_names_both_lacks_and_quotes_no_cell() -> None:
    with pytest.raises(InvalidUpload) as caught:
        read("张三,13800000000,1\n李四,13900000000,2\n")
    assert [problem.code for problem in caught.value.problems] == ["no_item_columns", "no_student_column"]
    assert "张三" not in str(caught.value.problems)


# -- encodings, delimiters, numbers -------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_delimiter_and_line_end_reads_the_same(encoding: str, delimiter: str, end: str) -> None:
    header = ["学号", "姓名", *PHQ9]
    text = text_of(["0001", "张三", *[1] * 9], ["0002", "李四", *[2] * 9], header=header)
    text = text.replace(",", delimiter).replace("\n", end)
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    table, problems, summary = read((mark + text).encode(encoding), plan_of(("phq9", "student")))
    assert problems == []
    assert table["student_number"].to_list() == ["0001", "0002"]
    assert table["student_name"].to_list() == ["张三", "李四"]
    assert phq9(table) == [9, 18]
    assert summary.encoding is not None and encoding.startswith(summary.encoding[:6])


def test_full_width_digits_and_whole_decimals_are_numbers() -> None:
    table, problems, _ = read(text_of(filled("１２", phq9_1="３", phq9_2=" 3.0 ", phq9_3="２．００", phq9_4="　1")))
    assert problems == []
    assert table["student_number"].to_list() == ["12"]
    assert table.select(pl.col("^phq9.student.phq9_[1-4]$")).row(0) == (3, 3, 2, 1)


@pytest.mark.parametrize(
    "cell", ["1e0", "0x1", "1.5", "③", "³", "一", "TRUE", "1 0", "'1", "１，０", "--", "13800000000a"]
)
def test_what_is_no_whole_number_is_named_and_its_form_rejected(cell: str) -> None:
    table, problems, _ = read(text_of(filled("1", gad7_5=cell)))
    assert [(p.code, p.row, p.column) for p in problems] == [("not_a_code", 2, "gad7_5")]
    assert gad7(table, "taken") == ["rejected"]
    assert phq9(table, "taken") == ["answered"]
    assert table["gad7.student.gad7_5"].to_list() == [None]


def test_a_number_outside_the_codes_names_what_is_allowed() -> None:
    table, problems, _ = read(text_of(filled("1", gad7_5="10", phq9_2="-1")))
    assert [(p.code, p.message) for p in problems] == [
        ("outside_codes", "-1 is not one of 0, 1, 2, 3 (PHQ-9 item 2)"),
        ("outside_codes", "10 is not one of 0, 1, 2, 3 (GAD-7 item 5)"),
    ]
    assert gad7(table, "taken") == phq9(table, "taken") == ["rejected"]


@pytest.mark.parametrize("cell", ["王小明", "13812345678", "想死", "1.23456", "tel 5"])
def test_text_and_long_numbers_are_never_quoted(cell: str) -> None:
    _, problems, _ = read(text_of(filled("1", gad7_5=cell)))
    assert len(problems) == 1
    assert cell not in problems[0].message


@pytest.mark.parametrize("cell", ["", " ", "　", "NA", "n/a", "null", "None", "NaN", "-", "—", "/", "无", "未答"])
def test_a_blank_is_a_blank_and_never_zero(cell: str) -> None:
    table, problems, _ = read(text_of(filled("1", gad7_5=cell)))
    assert problems == []
    assert table["gad7.student.gad7_5"].to_list() == [None]
    assert gad7(table, "n_missing") == [1]


def test_a_form_with_no_answer_was_not_answered() -> None:
    table, problems, _ = read(text_of(filled("1", **dict.fromkeys(GAD7, ""))))
    assert problems == []
    assert (phq9(table, "taken"), gad7(table, "taken")) == (["answered"], ["not_answered"])
    assert gad7(table) == [None]


def test_a_critical_answer_in_a_rejected_form_is_seen() -> None:
    table, _, _ = read(text_of(filled("1", phq9_1="x", phq9_9="1"), filled("2", phq9_9="0")))
    assert phq9(table, "taken") == ["rejected", "answered"]
    assert phq9(table, "critical_self_harm") == [True, False]


# -- the header ---------------------------------------------------------------------------------------


def test_item_names_are_understood_in_many_spellings() -> None:
    header = ["STUDENT NUMBER", "PHQ9-1", "phq9.2", " Phq9 3", "ｐｈｑ９＿４", "PHQ-9_5", "phq9_06", "phq9_student_7"]
    table, problems, _ = read(
        text_of(["1", *range(9)], header=[*header, "phq9_self_8", "phq9_9"])
        .replace(",8\n", ",3\n")
        .replace("4,5,6,7", "0,1,2,3"),
        plan_of(("phq9", "student")),
    )
    assert problems == []
    assert table.select(pl.col("^phq9.student.phq9_.$")).row(0) == (0, 1, 2, 3, 0, 1, 2, 3, 3)


def test_informants_are_kept_apart() -> None:
    header = ["student_number", *(f"psc17_{who}_{i}" for who in ("parent", "teacher") for i in range(1, 18))]
    plan = plan_of(("psc17", "parent"), ("psc17", "teacher"))
    table, problems, _ = read(text_of(["1", *[1] * 17, *[2] * 17], header=header), plan)
    assert problems == []
    assert table["psc17.parent.total"].to_list() == [17]
    assert table["psc17.teacher.total"].to_list() == [34]


def test_the_column_map_wins() -> None:
    header = ["id", "student_number", *(f"q{i}" for i in range(1, 10)), "phq9_1"]
    column_map = {"ID": "student_number", **{f"q{i}": f"phq9_{i}" for i in range(1, 10)}}
    plan = plan_of(("phq9", "student"), column_map=column_map)
    table, problems, summary = read(text_of(["007", "x", *[1] * 9, 3], header=header), plan)
    assert problems == []
    assert table["student_number"].to_list() == ["007"]
    assert phq9(table) == [9]
    assert summary.ignored_columns == ("student_number", "phq9_1")


def test_a_wrong_column_map_refuses_the_file_and_still_delivers_its_rows() -> None:
    plan = plan_of(column_map={"absent": "phq9_1", "gad7_1": "gad7_99"})
    table, problems, summary = read(text_of(filled("1", 2)), plan)
    assert {p.code for p in summary.refused} == {"mapped_column_missing", "unknown_map_target"}
    assert set(summary.refused) <= set(problems)
    assert phq9(table, "taken") == ["rejected"]
    assert phq9(table, "critical_self_harm") == [True]


def test_a_file_without_student_numbers_is_refused_and_its_criticals_are_delivered() -> None:
    table, problems, summary = read(text_of([*[3] * 9], header=PHQ9), plan_of(("phq9", "student")))
    assert [p.code for p in summary.refused] == [p.code for p in problems] == ["no_student_column"]
    assert table["student_number"].to_list() == [None]
    assert (phq9(table, "taken"), phq9(table, "critical_self_harm")) == (["rejected"], [True])


def test_a_form_without_all_its_columns_is_rejected_and_the_others_go_on() -> None:
    header = ["student_number", *PHQ9, *GAD7[:5]]
    table, problems, summary = read(text_of(["1", *[1] * 14], header=header))
    assert [(p.code, p.row) for p in problems] == [("missing_item_columns", None)]
    assert "gad7_6, gad7_7" in problems[0].message
    assert summary.refused == ()
    assert (phq9(table, "taken"), gad7(table, "taken")) == (["answered"], ["rejected"])


def test_two_columns_for_one_item_reject_its_form() -> None:
    table, problems, _ = read(text_of(["1", *[1] * 17], header=["student_number", *PHQ9, *GAD7, "GAD7-1"]))
    assert [p.code for p in problems] == ["two_columns_for_one"]
    assert (phq9(table, "taken"), gad7(table, "taken")) == (["answered"], ["rejected"])


def test_two_columns_for_the_student_refuse_the_file() -> None:
    table, _, summary = read(
        text_of(["1", "2", *[3] * 9], header=["学号", "学籍号", *PHQ9]), plan_of(("phq9", "student"))
    )
    assert [p.code for p in summary.refused] == ["two_columns_for_one"]
    assert phq9(table, "critical_self_harm") == [True]


def test_two_hundred_columns_are_no_trouble() -> None:
    header = ["student_number", *PHQ9, *GAD7, *(f"extra{i}" for i in range(183))]
    table, problems, summary = read(text_of([*filled("1"), *range(183)], header=header))
    assert problems == []
    assert phq9(table) == [9]
    assert len(summary.ignored_columns) == 183
    assert [notice.code for notice in summary.notices] == ["ignored_columns"]


def test_caps_are_kept() -> None:
    wide = text_of([*filled("1"), *[1] * 3000], header=["student_number", *PHQ9, *GAD7, *map(str, range(3000))])
    assert refusal(wide) == ["too_many_columns"]
    assert refusal(text_of(*(filled(str(i)) for i in range(20))), limits=Limits(rows=10)) == ["too_many_rows"]
    assert refusal(b"student_number,phq9_1\n" + b"1" * 5_000_000) == ["line_too_long"]


def test_too_many_problems_refuse_the_file_and_say_how_many_were_left_out() -> None:
    rows = [filled(str(i), "x") for i in range(10)]
    _, problems, summary = read(text_of(*rows), limits=Limits(problems=100))
    assert [p.code for p in summary.refused] == ["too_many_problems"]
    assert summary.problems_left_out == 60
    assert len(problems) == 101


# -- rows ---------------------------------------------------------------------------------------------


def test_blank_lines_count_as_rows_and_are_skipped() -> None:
    text = (
        "\n"
        + text_of(filled("1"), filled("2", gad7_1="x")).replace("\n2,", "\n\n  \n,,\n2,")
        + "\n\n"
        + ",".join(map(str, filled("3", gad7_1="y")))
    )
    table, problems, summary = read(text)
    assert table["row"].to_list() == [3, 7, 10]
    assert [(p.row, p.column) for p in problems] == [(7, "gad7_1"), (10, "gad7_1")]
    assert (summary.rows, summary.blank_rows) == (3, 5)


def test_a_cell_of_many_lines_is_one_row() -> None:
    header = ["student_number", "note", *PHQ9]
    text = text_of(header=header) + '1,"a\nb, ""c""\n\nd",' + "1," * 8 + "1\n" + "2,," + "1," * 8 + "7\n"
    table, problems, _ = read(text, plan_of(("phq9", "student")))
    assert table["row"].to_list() == [2, 3]
    assert [(p.row, p.column) for p in problems] == [(3, "phq9_9")]


def test_row_numbers_hold_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reading, "_BLOCK", 20_000)
    rows = [filled(str(i), i % 4) for i in range(5_000)]
    rows[2_777][3] = "9"
    rows[4_999][10] = "x"
    quoted = [['"0,\n1"', *row[1:]] if row[0] == "55" else row for row in rows]
    table, problems, _ = read(text_of(*quoted))
    assert [(p.row, p.column) for p in problems] == [(2_779, "phq9_3"), (5_001, "gad7_1")]
    assert table["row"].to_list() == list(range(2, 5_002))
    assert table["student_number"][55] == "0,\n1"
    items = table.select(pl.sum_horizontal("^phq9.student.phq9_.$")).to_series()
    assert items.sum() == sum(9 * (i % 4) for i in range(5_000) if i != 2_777) + 8 * (2_777 % 4)


def test_a_record_may_span_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    header = ["student_number", "note", *PHQ9]
    body = text_of(*([f"{i}", f'"line\n{i}\n\n"', *[i % 4] * 9] for i in range(300)), header=header)
    whole = read(body, plan_of(("phq9", "student")))
    monkeypatch.setattr(text_reading, "_BLOCK", 500)
    in_blocks = read(body, plan_of(("phq9", "student")))
    assert in_blocks[0].equals(whole[0])
    assert whole[1] == in_blocks[1] == []
    assert whole[0]["row"].to_list() == list(range(2, 302))


def test_ragged_rows_are_named_and_not_taken() -> None:
    rows = [filled("1"), filled("2", 3)[:-1], [*filled("3"), "extra"], [*filled("4"), "", ""], filled("5")]
    table, problems, _ = read(text_of(*rows))
    assert [(p.code, p.row) for p in problems] == [("ragged_row", 3), ("ragged_row", 4)]
    assert phq9(table, "taken") == ["answered", "rejected", "rejected", "answered", "answered"]
    assert phq9(table, "critical_self_harm")[1] is True


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_around_every_cell_read_the_same(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["student_number", *PHQ9, *GAD7], *(filled(str(i), i % 4) for i in range(40))]
    quoted = "".join(",".join(f'"{cell}"' for cell in row) + end for row in rows)
    plain = "".join(",".join(map(str, row)) + end for row in rows)
    assert read(quoted)[0].equals(read(plain)[0])
    monkeypatch.setattr(text_reading, "_plain", lambda *_: None)
    assert read(quoted)[0].equals(read(plain)[0])


@pytest.mark.parametrize(
    "block", ['"a,b"', '"a""b"', '"a\nb"', 'x"a"', '"a"x', ' "a"', '"a', '"', 'a",x,"b', '"a" ,b', '""""']
)
def test_quotes_that_matter_are_never_taken_away(block: str) -> None:
    lone = text_reading._has_needless_quotes(block.encode(), b",")
    assert not lone
    assert text_reading._plain(f"{block},1\n".encode(), 2, ",") is None


@pytest.mark.parametrize("place", [0, 3, 10])
def test_a_quote_that_never_closes_costs_its_own_row(place: int) -> None:
    rows = [filled(str(i)) for i in range(11)]
    rows[place][0] = f'"{place}'
    table, problems, _ = read(text_of(*rows))
    assert [(p.code, p.row) for p in problems] == [("broken_quotes", place + 2)]
    assert table["row"].to_list() == list(range(2, 13))
    assert [taken == "rejected" for taken in phq9(table, "taken")] == [i == place for i in range(11)]


def test_two_open_quotes_do_not_swallow_the_rows_between_them() -> None:
    rows = [filled(str(i)) for i in range(9)]
    rows[2][0], rows[6][0] = '"2', '"6'
    table, problems, _ = read(text_of(*rows))
    assert [(p.code, p.row) for p in problems] == [("broken_quotes", 4), ("broken_quotes", 8)]
    assert table.height == 9


def test_open_quotes_in_every_row_end_soon() -> None:
    table, problems, _ = read(text_of(*([f'"{i}', *[1] * 16] for i in range(3000))))
    assert table.height == 3000
    assert {p.code for p in problems} <= {"broken_quotes", "ragged_row"}


def test_a_row_without_a_number_is_named_and_returned() -> None:
    text = text_of(filled(" ", 3), ["", *[""] * 16], ["", *[""] * 15, "total"])
    table, problems, summary = read(text)
    assert [(p.code, p.row, p.column) for p in problems] == [
        ("no_student_number", 2, "student_number"),
        ("no_student_number", 4, "student_number"),
        ("not_a_code", 4, "gad7_7"),
    ]
    assert (phq9(table, "taken")[0], phq9(table, "critical_self_harm")[0]) == ("rejected", True)
    assert summary.blank_rows == 1


def test_a_note_in_a_column_that_is_not_needed_makes_a_row() -> None:
    text = text_of(
        [*filled("1"), ""], [*[""] * 17, "printed on Monday"], header=["student_number", *PHQ9, *GAD7, "note"]
    )
    table, problems, _ = read(text)
    assert [(p.code, p.row) for p in problems] == [("no_student_number", 3)]
    assert phq9(table, "taken") == ["answered", "not_answered"]


def test_the_same_row_twice_is_once() -> None:
    table, problems, summary = read(text_of(filled("1"), filled("2"), filled("1"), filled("１")))
    assert problems == []
    assert table["row"].to_list() == [2, 3]
    assert (summary.rows, summary.repeated_rows) == (4, 2)


def test_one_student_with_two_answers_is_taken_from_neither() -> None:
    table, problems, _ = read(text_of(filled("1", 0), filled("2", 0), filled("1", 0, phq9_9=2), filled("1", 0)))
    assert [(p.code, p.row, p.column) for p in problems] == [
        ("duplicate_student", 4, "student_number"),
        ("duplicate_student", 5, "student_number"),
    ]
    assert "2 and 4" in problems[0].message
    assert phq9(table, "taken") == ["rejected", "answered", "rejected", "rejected"]
    assert phq9(table, "critical_self_harm") == [False, False, True, False]


def test_one_number_in_two_schools_is_two_students() -> None:
    header = ["school", "student_number", *PHQ9]
    text = text_of(["A", "1", *[1] * 9], ["B", "1", *[2] * 9], header=header)
    table, problems, _ = read(text, plan_of(("phq9", "student")))
    assert problems == []
    assert phq9(table, "taken") == ["answered", "answered"]


def test_a_number_that_excel_has_rounded_is_named() -> None:
    table, problems, _ = read(text_of(filled("4.30102E+17")))
    assert [p.code for p in problems] == ["number_lost_digits"]
    assert (table["student_number"].to_list(), phq9(table, "taken")) == ([None], ["rejected"])


def test_a_cell_too_long_is_named() -> None:
    _, problems, _ = read(text_of(filled("1" * 1001)))
    assert [(p.code, p.row) for p in problems] == [("cell_too_long", 2)]


def test_a_large_file_comes_in_parts_with_its_problems() -> None:
    limits = Limits(part_rows=4)
    text = text_of(*(filled(str(i), "x" if i in (3, 4) else 1) for i in range(10)))
    parts, _ = split(answers.read(files.open_file(text.encode(), limits), plan_of(), limits))
    assert [part.answers.height for part in parts] == [4, 4, 2]
    assert [part.problems.height for part in parts] == [16, 16, 0]


# -- workbooks and Parquet ----------------------------------------------------------------------------


def test_a_workbook_reads_like_text_with_its_own_row_numbers() -> None:
    rows: list[list[Any]] = [
        ["2026 autumn"],
        [],
        ["学号", *PHQ9],
        [7.0, *[1] * 9],
        [],
        ["00123", *[1.0] * 8, "３"],
        ["8", *[2] * 8, 2.5],
    ]
    table, problems, summary = read(workbook_of(rows, names=("答卷",)), plan_of(("phq9", "student")))
    assert table["row"].to_list() == [4, 6, 7]
    assert table["sheet"].to_list() == ["答卷"] * 3
    assert table["student_number"].to_list() == ["7", "00123", "8"]
    assert phq9(table)[:2] == [9, 11]
    assert [(p.sheet, p.row, p.column, p.code) for p in problems] == [("答卷", 7, "phq9_9", "not_a_code")]
    assert summary.format == "xlsx"


def test_the_first_sheet_with_students_and_items_is_read() -> None:
    notes: list[list[Any]] = [["notes"], ["x"]]
    good: list[list[Any]] = [["student_number", *PHQ9], ["1", *[1] * 9]]
    table, _, summary = read(workbook_of(notes, good, good, names=("a", "b", "c")), plan_of(("phq9", "student")))
    assert (summary.sheet, table.height) == ("b", 1)
    assert [notice.code for notice in summary.notices] == ["other_sheets"]


def test_a_formula_error_is_named_not_blank() -> None:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["student_number", *PHQ9])
        sheet.write_row(1, 0, ["1", *[1] * 9])
        sheet.write_formula(1, 4, "=NA()", value="#N/A")
    table, problems, _ = read(out.getvalue(), plan_of(("phq9", "student")))
    assert [(p.row, p.column, p.code) for p in problems] == [(2, "phq9_4", "not_a_code")]
    assert phq9(table, "taken") == ["rejected"]


@pytest.mark.parametrize("cell", ["XFD1048576", "ZZZ5", "A1048576", "xfd1048576"])
@pytest.mark.parametrize("spelled", ['r="{}"', "r='{}'", 'r = "{}"', 'r\n=\t"{}"'])
def test_a_far_cell_is_refused_before_any_parser_allocates_for_it(cell: str, spelled: str) -> None:
    workbook = workbook_of([["student_number", *PHQ9], ["1", *[1] * 9]])
    row = re.sub(r"\D", "", cell)
    far = f"<row {spelled.format(row)}><c {spelled.format(cell)}><v>1</v></c></row></sheetData>".encode()
    with zipfile.ZipFile(io.BytesIO(workbook)) as package:
        sheet = package.read("xl/worksheets/sheet1.xml").replace(b"</sheetData>", far)
    bomb = with_part(workbook, "xl/worksheets/sheet1.xml", sheet)
    assert refusal(bomb, limits=Limits(workbook_cells=2_000_000)) == ["sheet_too_large"]


def test_a_zip_bomb_is_refused() -> None:
    workbook = workbook_of([["student_number", *PHQ9], ["1", *[1] * 9]])
    assert refusal(with_part(workbook, "xl/sharedStrings.xml", bytes(30_000_000))) == ["file_too_large"]
    assert refusal(with_part(workbook, "xl/media/image1.png", bytes(30_000_000))) == ["file_too_large"]
    many = io.BytesIO(workbook)
    with zipfile.ZipFile(many, "a") as package:
        for i in range(2_100):
            package.writestr(f"x{i}", b"")
    assert refusal(many.getvalue()) == ["file_too_large"]


def test_too_many_sheets_and_damaged_parts_are_refused() -> None:
    assert refusal(workbook_of(*[[["a"]]] * 51)) == ["too_many_sheets"]
    workbook = workbook_of([["student_number", *PHQ9], ["1", *[1] * 9]])
    assert refusal(with_part(workbook, "xl/worksheets/sheet1.xml", b"<worksheet><sheetData><row")) in (
        ["not_a_table"],
        ["no_item_columns", "no_student_column"],
    )
    assert refusal(workbook[: len(workbook) // 2]) == ["not_a_table"]


def test_parquet_reads_like_text() -> None:
    frame = pl.DataFrame({"student_number": [1.0, 2.0], **{name: [1, 3] for name in PHQ9}, "tags": [["a"], None]})
    frame = frame.with_columns(phq9_2=pl.Series([0.5, None]), phq9_3=pl.Series([True, False]))
    out = io.BytesIO()
    frame.write_parquet(out)
    table, problems, summary = read(out.getvalue(), plan_of(("phq9", "student")))
    assert table["student_number"].to_list() == ["1", "2"]
    assert [(p.row, p.column, p.code) for p in problems] == [
        (2, "phq9_2", "not_a_code"),
        (2, "phq9_3", "not_a_code"),
        (3, "phq9_3", "not_a_code"),
    ]
    assert (summary.format, summary.ignored_columns) == ("parquet", ("tags",))


# -- anything at all ----------------------------------------------------------------------------------

_HOSTILE = st.one_of(
    st.sampled_from(
        ["0", "1", "2", "3", "3.0", "３", "", " ", "NA", "10", "-1", "x", '"', '"1"', '"a\nb"', "1,0", "\r"]
    ),
    st.text(max_size=6).filter(lambda text: "\x00" not in text),
)


@pytest.mark.storm
@settings(max_examples=examples(80), deadline=None)
@given(rows=st.lists(st.lists(_HOSTILE, max_size=6), max_size=8))
def test_no_grid_breaks_the_reader(rows: list[list[str]]) -> None:
    body = "\n".join(",".join(row) for row in rows)
    data = ("student_number,phq9_1,phq9_2,phq9_9\n" + body).encode("utf-8", "replace")
    try:
        table, problems, summary = read(data, plan_of(("phq9", "student")))
    except InvalidUpload as error:
        assert error.problems
        return
    assert table.height + summary.repeated_rows == summary.rows
    assert all(problem.message for problem in problems)


@pytest.mark.storm
@settings(max_examples=examples(100), deadline=None)
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"PK\x03\x04", b"\xff\xfe", b"phq9_1,", b"PAR1"]))
def test_no_bytes_break_the_reader(data: bytes, start: bytes) -> None:
    try:
        read(start + data)
    except InvalidUpload as error:
        assert error.problems


def plain_reading(cell: str) -> int | str | None:
    """What a cell says, told apart from the reader: a code, None for blank, or "bad"."""
    cell = cell.strip().strip("　").translate(str.maketrans("０１２３４５６７８９．", "0123456789."))
    if cell.lower() in {"", "na", "n/a", "null", "none", "nan", "-", "—", "/", "无", "未答"}:
        return None
    try:
        number = float(cell) if set(cell) <= set("0123456789.-+") else 0.5
    except ValueError:
        return "bad"
    return int(number) if number in (0, 1, 2, 3) else "bad"


_CELL = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "3",
        "０",
        "３",
        "2.0",
        " 1 ",
        "",
        "NA",
        "-",
        "无",
        "4",
        "10",
        "x",
        "2.5",
        "-1",
        "？",
        "1e0",
        "a,b",
        'q"q',
    ]
)


@pytest.mark.storm
@settings(max_examples=examples(40), deadline=None)
@given(rows=st.lists(st.lists(_CELL, min_size=9, max_size=9), min_size=1, max_size=12), quoting=st.sampled_from([0, 1]))
def test_every_cell_is_read_right_or_named(rows: list[list[str]], quoting: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL)
    writer.writerows([["student_number", *PHQ9], *([f"s{i}", *row] for i, row in enumerate(rows))])
    table, problems, _ = read(out.getvalue(), plan_of(("phq9", "student")))
    named = {(p.row, p.column) for p in problems}
    assert len(named) == len(problems)
    for i, row in enumerate(rows):
        for name, cell in zip(PHQ9, row, strict=True):
            said, found = plain_reading(cell), table[f"phq9.student.{name}"][i]
            assert ((i + 2, name) in named) == (said == "bad")
            assert found == (None if said == "bad" else said)


# -- real files ---------------------------------------------------------------------------------------


def real(folder: str, name: str) -> list[dict[str, str]]:
    path = SHARED / folder / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def numbered(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["student_no", *rows[0]])
    writer.writeheader()
    writer.writerows({"student_no": f"{i:06d}", **row} for i, row in enumerate(rows))
    return out.getvalue()


def test_the_medical_students_file() -> None:
    rows = real("medstudents_mx", "depression_data.csv")
    column_map = {f"phq{i}": f"phq9_{i}" for i in range(1, 10)} | {f"gad{i}": f"gad7_{i}" for i in range(1, 8)}
    table, problems, _ = read(numbered(rows), plan_of(column_map=column_map))
    phq = [[row[f"phq{i}"] for i in range(1, 10)] for row in rows]
    complete = [answered for answered in phq if set(answered) <= set("0123")]
    scored = table.filter((pl.col("phq9.student.taken") == "answered") & (pl.col("phq9.student.n_missing") == 0))
    assert scored.height == len(complete) == 779
    assert scored["phq9.student.total"].sum() == sum(int(code) for answered in complete for code in answered)
    at = [(i + 2, f"gad{k}") for i, row in enumerate(rows) for k in range(1, 8) if row[f"gad{k}"] == "10"]
    assert [(p.code, p.row, p.column) for p in problems] == [("outside_codes", *at[0])]
    assert "10 is not one of 0, 1, 2, 3" in problems[0].message
    critical = table["phq9.student.critical_self_harm"].sum()
    assert critical == sum(row["phq9"] in ("1", "2", "3") for row in rows)


@pytest.mark.parametrize(
    ("folder", "name", "phq", "gad"),
    [
        ("phq_gad_2wave", "t1.csv", "PHQ", "GAD"),
        ("phq_gad_2wave", "t2.csv", "PHQ", "GAD"),
        ("ukm_students_my", "psychological_aspects.csv", "D", "A"),
    ],
)
def test_other_real_files_agree_with_a_plain_sum(folder: str, name: str, phq: str, gad: str) -> None:
    rows = real(folder, name)
    column_map = {f"{phq}{i}": f"phq9_{i}" for i in range(1, 10)} | {f"{gad}{i}": f"gad7_{i}" for i in range(1, 8)}
    table, _, _ = read(numbered(rows), plan_of(column_map=column_map))
    whole = [row for row in rows if all(row[f"{phq}{i}"] in set("0123") for i in range(1, 10))]
    kept = table.filter((pl.col("phq9.student.taken") == "answered") & (pl.col("phq9.student.n_missing") == 0))
    assert kept.height == len(whole) > 200
    assert kept["phq9.student.total"].sum() == sum(int(row[f"{phq}{i}"]) for row in whole for i in range(1, 10))


def test_an_old_workbook_opens() -> None:
    path = SHARED / "wjx_export" / "wjx_800_text.xls"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert refusal(path.read_bytes()) == ["no_item_columns", "no_student_column"]
    file = files.open_file(path.read_bytes(), Limits())
    sheet = next(iter(file.sheets))
    assert sum(batch.cells.height for batch in sheet.batches(sheet.head[0])) == 800
