"""A roster file: what schools write of grade, birth date, sex and consent is understood, or named and not guessed."""

import datetime as dt
import io
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from screening import reading
from screening.errors import InvalidUpload, Problem
from screening.reading import Limits, RosterPart, RosterPlan, Summary, cells, files, students
from tests.screening.test_reading import text_of
from tests.sharing import examples

HEADER = [
    "学校代码",
    "学号",
    "姓名",
    "性别",
    "年级",
    "班级",
    "出生日期",
    "家长电话",
    "特殊群体",
    "监护人同意",
    "学生同意",
]


def read(data: bytes | str, column_map: Mapping[str, str] | None = None) -> tuple[pl.DataFrame, list[Problem], Summary]:
    data = data.encode() if isinstance(data, str) else data
    *parts, summary = students.read(files.open_file(data, Limits()), RosterPlan(column_map or {}), Limits())
    assert isinstance(summary, Summary)
    tables = [part for part in parts if isinstance(part, RosterPart)]
    problems = pl.concat([part.problems for part in tables])
    found = [Problem(**row) for row in problems.iter_rows(named=True)]
    return pl.concat([part.students for part in tables]), found, summary


def refusal(data: str, column_map: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidUpload) as caught:
        read(data, column_map)
    return [problem.code for problem in caught.value.problems]


def row(number: object = "001", **changed: object) -> list[Any]:
    told = {"school": "S1", "number": number, "name": "张三", "sex": "女", "grade": "七年级", "class": "3班"}
    told |= {"born": "2012-09-01", "phone": "138 1234 5678", "groups": "", "guardian": "同意", "student": "是"}
    return list((told | changed).values())


def test_a_roster_in_chinese_is_read() -> None:
    table, problems, summary = read(text_of(row(), row("002", sex="男", guardian="不同意"), header=HEADER))
    assert problems == []
    assert table.drop("sheet").row(0, named=True) == {
        "row": 2,
        "school_code": "S1",
        "student_number": "001",
        "student_name": "张三",
        "sex": "f",
        "grade": 7,
        "class_name": "3班",
        "born_on": dt.date(2012, 9, 1),
        "guardian_phone": "13812345678",
        "special_groups": None,
        "guardian_consent": "granted",
        "student_consent": "granted",
        "is_proposable": True,
    }
    assert table["guardian_consent"].to_list() == ["granted", "declined"]
    assert (summary.rows, summary.refused) == (2, ())


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("7", 7),
        ("７", 7),
        ("7.0", 7),
        ("七年级", 7),
        ("初一", 7),
        ("初三", 9),
        ("高一", 10),
        ("高中三年级", 12),
        ("高三", 12),
        ("grade 7", 7),
        ("G7", 7),
        ("Grade 12", 12),
        ("十二年级", 12),
        ("小学六年级", 6),
        ("一年级", 1),
        ("7年级", 7),
        ("初2", 8),
    ],
)
def test_grades_are_understood(text: str, grade: int) -> None:
    assert students.grade(text) == grade


@pytest.mark.parametrize(
    "text", ["0", "13", "初四", "高七", "小学七年级", "七班", "seven", "7a", "十三年级", "2012", "③"]
)
def test_other_grades_are_not_guessed(text: str) -> None:
    assert isinstance(students.grade(text), cells.Fault)


@pytest.mark.parametrize(
    "text",
    [
        "2012-09-01",
        "2012/9/1",
        "2012.9.1",
        "20120901",
        "2012年9月1日",
        "2012年09月01日",
        "41153",
        "41153.0",
        "2012-09-01 00:00:00",
        "２０１２-０９-０１",
    ],
)
def test_birth_dates_are_understood(text: str) -> None:
    assert students.born_on(text) == dt.date(2012, 9, 1)


@pytest.mark.parametrize(
    "text", ["2012-13-01", "2012-02-30", "1/9/2012", "12-09-01", "2012", "20121301", "99999", "soon"]
)
def test_other_dates_are_not_guessed(text: str) -> None:
    assert isinstance(students.born_on(text), cells.Fault)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("同意", "granted"),
        ("YES", "granted"),
        ("granted", "granted"),
        ("不同意", "declined"),
        ("no", "declined"),
        ("", None),
        ("-", None),
        ("未答", None),
    ],
)
def test_consent_takes_clear_words(text: str, said: str | None) -> None:
    assert students.consent(text) == said


@pytest.mark.parametrize("text", ["1", "0", "maybe", "ok", "不", "同 意", "已通知"])
def test_consent_is_never_guessed(text: str) -> None:
    assert isinstance(students.consent(text), cells.Fault)


def test_every_cell_in_doubt_is_named_and_not_quoted() -> None:
    doubtful = row("003", sex="外星", grade="幼儿园大班", born="去年", phone="打给外婆", guardian="问过了")
    table, problems, _ = read(text_of(row(), doubtful, header=HEADER))
    assert [(p.row, p.column, p.code) for p in problems] == [
        (3, "性别", "not_a_sex"),
        (3, "年级", "not_a_grade"),
        (3, "出生日期", "not_a_date"),
        (3, "家长电话", "not_a_phone"),
        (3, "监护人同意", "not_a_decision"),
    ]
    assert not any(word in str(problems) for word in ("外星", "大班", "去年", "外婆", "问过了"))
    assert table["sex"].to_list() == ["f", "x"]
    assert table["guardian_consent"].to_list() == ["granted", None]
    assert table["is_proposable"].to_list() == [True, False]


def test_number_name_and_grade_are_required() -> None:
    text = text_of(row(""), row("2", name=" "), row("3", grade=""), row("4", sex="", born="", phone=""), header=HEADER)
    table, problems, _ = read(text)
    assert [(p.row, p.code) for p in problems] == [(2, "no_student_number"), (3, "no_student_name"), (4, "no_grade")]
    assert table["is_proposable"].to_list() == [False, False, False, True]
    assert table["sex"].to_list()[3] == "x"


def test_a_number_twice_in_one_school_proposes_neither() -> None:
    text = text_of(row("1"), row("2"), row("１", name="李四"), row("1", school="S2"), header=HEADER)
    table, problems, _ = read(text)
    assert [(p.row, p.code) for p in problems] == [(4, "duplicate_student")]
    assert "2 and 4" in problems[0].message
    assert table["is_proposable"].to_list() == [False, True, False, True]


def test_blank_ragged_and_typed_rows() -> None:
    text = (
        text_of(row("1"), header=HEADER)
        + "\n"
        + text_of(row("2")[:-2], [""] * 11, row("3"), header=HEADER).partition("\n")[2]
    )
    table, problems, summary = read(text)
    assert table["row"].to_list() == [2, 4, 6]
    assert [(p.row, p.code) for p in problems] == [(4, "ragged_row")]
    assert table["is_proposable"].to_list() == [True, False, True]
    assert summary.blank_rows == 2


def test_a_workbook_with_true_dates_and_numbers() -> None:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as workbook:
        sheet = workbook.add_worksheet("名单")
        day = workbook.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write_row(1, 0, HEADER)
        sheet.write_row(2, 0, row(20260001.0, grade=7, born="", phone=13812345678.0))
        sheet.write_datetime(2, 6, dt.datetime(2012, 9, 1), day)  # noqa: DTZ001 - a spreadsheet's date has no zone
    table, problems, _ = read(out.getvalue())
    assert problems == []
    assert table.select("sheet", "row", "student_number", "grade", "born_on", "guardian_phone").row(0) == (
        "名单",
        3,
        "20260001",
        7,
        dt.date(2012, 9, 1),
        "13812345678",
    )


def test_the_column_map_wins_and_its_faults_are_named() -> None:
    text = text_of(["7", "1", "Ann"], header=["level", "id", "who"])
    table, _, _ = read(text, {"level": "grade", "id": "student_number", "who": "student_name"})
    assert table.select("student_number", "student_name", "grade").row(0) == ("1", "Ann", 7)
    assert refusal(text, {"id": "student_number", "absent": "grade", "who": "shoe_size"}) == [
        "mapped_column_missing",
        "unknown_map_target",
        "no_name_column",
        "no_grade_column",
    ]


def test_a_roster_without_its_columns_is_refused() -> None:
    assert refusal("a,b\n1,2\n") == ["no_student_column"]
    assert refusal("学号,姓名\n1,2\n") == ["no_grade_column"]
    assert refusal("学号,学籍号,姓名,年级\n1,1,2,7\n") == ["two_columns_for_one"]
    assert refusal(text_of(header=HEADER)) == ["no_rows"]


def test_a_roster_crosses_the_pipe() -> None:
    data = text_of(*(row(str(i)) for i in range(50)), row("x", grade="?"), header=HEADER)
    part, summary = reading.read_roster([data.encode("gb18030")], RosterPlan())
    assert isinstance(part, RosterPart) and isinstance(summary, Summary)
    at_home, problems, told = read(data.encode("gb18030"))
    assert part.students.equals(at_home) and part.students.schema == at_home.schema
    assert part.problems["code"].to_list() == [p.code for p in problems] == ["not_a_grade"]
    assert summary == told


@pytest.mark.storm
@settings(max_examples=examples(60), deadline=None)
@given(rows=st.lists(st.lists(st.text(max_size=8).filter(lambda t: "\x00" not in t), max_size=12), max_size=6))
def test_no_roster_breaks_the_reader(rows: list[list[str]]) -> None:
    try:
        table, _, summary = read(text_of(*rows, header=HEADER).encode("utf-8", "replace"))
    except InvalidUpload as error:
        assert error.problems
        return
    assert table.height == summary.rows
