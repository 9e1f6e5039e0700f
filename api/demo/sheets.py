"""The made-up district's files, as schools would send them: lists of students, and answers as CSV or XLSX."""

import csv
import io
from collections.abc import Iterable, Sequence

import xlsxwriter

from api.demo.town import ITEMS, SCHOOLS, Cell, Pupil, Sheet

_SEX = {"f": "女", "m": "男"}
_DECISION = {"granted": "同意", "declined": "不同意", None: ""}
_STUDENT_COLUMNS = (
    "学校代码", "学号", "姓名", "性别", "年级", "班级", "出生日期", "家长电话", "特殊群体", "家长同意", "学生同意",
)  # fmt: skip
_KINDS = {school.code: school.file_kind for school in SCHOOLS}
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


def roster(pupils: Sequence[Pupil], *, is_now: bool = False) -> bytes:
    """A list of students as CSV; `is_now` names the school to which those who move have moved."""
    rows: list[Sequence[Cell]] = [
        (
            pupil.school_now if is_now else pupil.school,
            pupil.number,
            pupil.name,
            _SEX[pupil.sex],
            pupil.grade,
            pupil.class_name,
            pupil.born_on.isoformat(),
            pupil.phone,
            "、".join(pupil.groups),
            _DECISION[pupil.guardian],
            _DECISION[pupil.student],
        )
        for pupil in pupils
    ]
    if not is_now and any(pupil.school == "S01" for pupil in pupils):
        # somebody of whom the office knew no grade: refused by name, and nobody's concern afterwards
        rows.append(("S01", "01079999", "无名", "女", None, "1班", "", "", "", "同意", ""))
    return _csv(_STUDENT_COLUMNS, rows, "utf-8-sig")


def answers(school: str, sheets: Sequence[Sheet]) -> bytes:
    """A school's answers in the kind of file that it is used to; an answer now and then stands in an odd shape."""
    forms = list(dict.fromkeys(form for sheet in sheets for form in sheet.answers))
    header = ("学号", "姓名", *(f"{form}_{n}" for form in forms for n in range(1, _items(form) + 1)))
    rows = [_row(place, sheet, forms) for place, sheet in enumerate(sheets)]
    if rows:
        rows.append(rows[0])  # a row that was pasted twice
    kind = _KINDS.get(school, "xlsx")
    if kind == "xlsx":
        return _xlsx(header, rows)
    return _csv(header, rows, "gb18030" if kind == "gb18030" else "utf-8-sig")


def file_name(school: str, what: str) -> str:
    """How such a file is called: in Chinese, as it comes."""
    named = {one.code: one.name for one in SCHOOLS}.get(school, "全区")
    return f"{named}_{what}.{'xlsx' if _KINDS.get(school, 'xlsx') == 'xlsx' else 'csv'}"


def _items(form: str) -> int:
    return ITEMS[form.partition("_")[0]]


def _row(place: int, sheet: Sheet, forms: Sequence[str]) -> Sequence[Cell]:
    cells: list[Cell] = [sheet.number, sheet.name]
    for form in forms:
        cells += sheet.answers.get(form) or [None] * _items(form)
    if place % 97 == 5:
        cells = [*cells[:2], *(_odd(cell) for cell in cells[2:])]
    return cells


def _odd(cell: Cell) -> Cell:
    return str(cell).translate(_FULL_WIDTH) if isinstance(cell, int) else cell


def _csv(header: Sequence[str], rows: Iterable[Sequence[Cell]], encoding: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def _xlsx(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        page = book.add_worksheet("测评")
        page.write_row(0, 0, header)
        for place, row in enumerate(rows, start=1):
            page.write_row(place, 0, row)
    return content.getvalue()
