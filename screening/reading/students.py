"""A roster file: its rows become students as the file states them, and every cell in doubt a named problem."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping

import polars as pl

from screening.errors import InvalidUpload, Problem
from screening.reading import cells, columns
from screening.reading.files import Batch, File, HeadRow, Sheet, invalid
from screening.reading.plan import Limits, RosterPart, RosterPlan, Summary, problem_frame

ROLES: Mapping[str, frozenset[str]] = {
    "school_code": frozenset({"school_code", "school", "school_id", "学校代码", "学校"}),
    "student_number": frozenset({"student_number", "student_no", "学号", "学籍号"}),
    "student_name": frozenset({"student_name", "name", "姓名", "学生姓名"}),
    "sex": frozenset({"sex", "gender", "性别"}),
    "grade": frozenset({"grade", "年级"}),
    "class_name": frozenset({"class_name", "class", "班级"}),
    "born_on": frozenset({"born_on", "birth_date", "date_of_birth", "dob", "出生日期", "出生年月日", "生日"}),
    "guardian_phone": frozenset({"guardian_phone", "parent_phone", "监护人电话", "家长电话", "家长手机", "联系电话"}),
    "special_groups": frozenset({"special_groups", "special_group", "特殊群体", "特殊类别"}),
    "guardian_consent": frozenset({"guardian_consent", "parent_consent", "监护人同意", "家长同意"}),
    "student_consent": frozenset({"student_consent", "学生同意", "本人同意"}),
}
_MEANINGS = {word: role for role, words in ROLES.items() for word in words}
_REQUIRED = {
    "student_number": ("no_student_number", "There is no student number in this row."),
    "student_name": ("no_student_name", "There is no name in this row."),
    "grade": ("no_grade", "There is no grade in this row."),
}
_MISSING_COLUMN = {
    "student_number": Problem("no_student_column", "No column holds the student number (student_number, 学号)."),
    "student_name": Problem("no_name_column", "No column holds the student's name (student_name, 姓名)."),
    "grade": Problem("no_grade_column", "No column holds the grade (grade, 年级)."),
}

_SEXES = {
    **dict.fromkeys(("f", "female", "girl", "女", "女生", "女性", "女孩"), "f"),
    **dict.fromkeys(("m", "male", "boy", "男", "男生", "男性", "男孩"), "m"),
    **dict.fromkeys(("x", "other", "其他"), "x"),
}
_DECISIONS = {
    **dict.fromkeys(("yes", "y", "granted", "agree", "agreed", "true", "同意", "已同意", "是"), "granted"),
    **dict.fromkeys(("no", "n", "declined", "disagree", "refused", "false", "不同意", "拒绝", "否"), "declined"),
}
_CHINESE = {"一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10}
_CHINESE |= {"十一": 11, "十二": 12}
_STAGES = {"": (0, 12), "小学": (0, 6), "初": (6, 3), "初中": (6, 3), "高": (9, 3), "高中": (9, 3)}
_GRADE = re.compile(
    r"(?:grade|year|g)?\s*([0-9]{1,2})(?:\.0)?(?:年级|级)?"
    r"|(小学|初中?|高中?|)([一二三四五六七八九十]{1,2}|[1-9])(?:年级)?"
)
_DATE = re.compile(r"([0-9]{4})(?:-|/|\.|年)([0-9]{1,2})(?:-|/|\.|月)([0-9]{1,2})日?(?:[ T]00:00(?::00(?:\.0*)?)?)?")
_PLAIN_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:\.0)?")
_SERIAL = re.compile(r"([0-9]{5})(?:\.0)?")
_SERIAL_ZERO = dt.date(1899, 12, 30)
_YEARS = range(1950, 2100)
_PHONE = re.compile(r"\+?[0-9][0-9 ()\-]{4,24}")


def read(file: File, plan: RosterPlan, limits: Limits) -> Iterator[RosterPart | Summary]:
    """Reads a roster; yields parts, then a summary. Raises InvalidUpload when a required column is not there."""
    sheet, header, layout = _choose(file, plan.column_map)
    roster = _Roster(file, sheet, layout, limits)
    for batch in sheet.batches(header):
        roster.take(batch)
    sheet.close()
    yield from roster.parts()


def _choose(file: File, column_map: Mapping[str, str]) -> tuple[Sheet, HeadRow, columns.Layout[str]]:
    """The first sheet with students in it; its header must have every required column once."""
    for sheet in file.sheets:
        for head in sheet.head:
            layout = columns.lay_out(head.cells, column_map, _understand)
            if "student_number" not in layout.places.keys() | layout.twice.keys():
                continue
            there = layout.places.keys() | layout.twice.keys()
            missing = [problem for role, problem in _MISSING_COLUMN.items() if role not in there]
            if problems := [*layout.map_problems, *layout.twice.values(), *missing]:
                raise InvalidUpload(problems[0].message, problems=problems)
            return sheet, head, layout
    problem = _MISSING_COLUMN["student_number"]
    raise InvalidUpload(problem.message, problems=[problem])


def _understand(name: str) -> str | None:
    return _MEANINGS.get(columns.key(name))


class _Roster:
    """All rows of a roster, as they are read and as they are handed out."""

    def __init__(self, file: File, sheet: Sheet, layout: columns.Layout[str], limits: Limits) -> None:
        self._file, self._sheet, self._layout, self._limits = file, sheet, layout, limits
        self._problems = cells.Problems(sheet.name, layout.names, limits.problems)
        self._kept: list[pl.DataFrame] = []
        self._n_rows = 0
        self._n_blank = 0

    def take(self, batch: Batch) -> None:
        """Reads one batch of rows."""
        faulty = {place for place, _, _ in batch.faults}
        is_blank = ~batch.cells.select(pl.any_horizontal(pl.all().str.strip_chars() != "")).to_series()
        is_kept = ~is_blank | pl.Series([place in faulty for place in range(batch.cells.height)], dtype=pl.Boolean)
        self._n_blank += batch.cells.height - int(is_kept.sum())
        self._n_rows += int(is_kept.sum())
        if self._n_rows + self._n_blank > self._limits.rows:
            words = f"There are more than {self._limits.rows:,} rows; send the file in parts."
            raise invalid("too_many_rows", words, sheet=self._sheet.name)
        self._problems.add_rows([(batch.rows[place], code, words) for place, code, words in batch.faults])
        is_whole = pl.Series([place not in faulty for place in range(batch.cells.height)], dtype=pl.Boolean)
        cells_kept, rows = batch.cells.filter(is_kept), batch.rows.filter(is_kept).rename("row")
        is_whole = is_whole.filter(is_kept)
        found = [rows]
        for role in ROLES:
            values, is_readable = self._column(role, cells_kept, rows)
            found.append(values.rename(role))
            if role in _REQUIRED:
                is_whole = is_whole & is_readable & values.is_not_null()
        self._kept.append(pl.DataFrame([*found, is_whole.rename("is_proposable")]))

    def _column(self, role: str, table: pl.DataFrame, rows: pl.Series) -> tuple[pl.Series, pl.Series]:
        """One column's values, and where they could be read."""
        kind = _KINDS.get(role, (pl.String(), None))[0]
        readable = pl.Series([True]).new_from_index(0, table.height)
        at = self._layout.places.get(role)
        if at is None:
            absent = "x" if role == "sex" else None
            return pl.Series([absent], dtype=kind).new_from_index(0, table.height), readable
        read = self._read(role, table[str(at)], rows)
        values = read.values.fill_null("x") if role == "sex" else read.values
        if read.problems is not None and read.bad is not None:
            self._problems.add(read.problems, at)
            readable = ~read.bad
        if role in _REQUIRED:
            code, words = _REQUIRED[role]
            blank = rows.filter(values.is_null() & readable)
            self._problems.add_rows([(row, code, words) for row in blank], at)
        return values, readable

    def _read(self, role: str, column: pl.Series, rows: pl.Series) -> cells.Read:
        kind, understand_word = _KINDS.get(role, (pl.String(), None))
        if understand_word is not None:
            return cells.by_word(column, rows, kind, understand_word)
        is_number = role in ("student_number", "school_code")
        return cells.texts(column, rows, self._limits.cell_chars, is_number, self._file.has_typed_cells)

    # -- handing out --

    def parts(self) -> Iterator[RosterPart | Summary]:
        """Everything that was read; the summary last."""
        if not self._n_rows:
            raise invalid("no_rows", "The file has a header and no rows below it.", sheet=self._sheet.name)
        table = self._without_doubles(pl.concat(self._kept))
        refused = []
        if self._problems.left_out:
            words = f"More than {self._limits.problems:,} cells have problems; something is wrong with the whole file."
            refused.append(Problem("too_many_problems", words, sheet=self._sheet.name))
        problems, handed_out = self._problems.sorted(), -1
        for start in range(0, table.height, self._limits.part_rows):
            rows = table.slice(start, self._limits.part_rows)
            is_last = start + self._limits.part_rows >= table.height
            last = rows["row"][-1]
            here = pl.col("row") > handed_out if is_last else pl.col("row").is_between(handed_out + 1, last)
            listed = pl.concat([problems.filter(here), problem_frame(refused if is_last else [])])
            yield RosterPart(rows.select(pl.lit(self._sheet.name, pl.String).alias("sheet"), pl.all()), listed)
            handed_out = last
        yield Summary(
            format=self._file.format,
            encoding=self._file.encoding,
            sheet=self._sheet.name,
            rows=self._n_rows,
            blank_rows=self._n_blank,
            repeated_rows=0,
            ignored_columns=self._layout.ignored,
            notices=(*self._file.notices, *self._layout.notices),
            refused=tuple(refused),
            problems_left_out=self._problems.left_out,
        )

    def _without_doubles(self, table: pl.DataFrame) -> pl.DataFrame:
        """Of students whose number stands twice in one school none is proposed: nobody can tell which row is right."""
        who = ["school_code", "student_number"]
        is_double = table.select(pl.struct(who).is_duplicated() & pl.col("student_number").is_not_null()).to_series()
        if not is_double.any():
            return table
        doubles = table.filter(is_double).select("row", first_row=pl.col("row").first().over(who))
        words = pl.format("Rows {} and {} have the same student number in one school.", "first_row", "row")
        later = doubles.filter(pl.col("row") != pl.col("first_row"))
        at = self._layout.places["student_number"]
        self._problems.add(later.select("row", code=pl.lit("duplicate_student"), message=words), at)
        return table.with_columns(is_proposable=pl.col("is_proposable") & ~is_double)


def sex(text: str) -> str | cells.Fault | None:
    """f, m or x for a clear word; anything else is a fault."""
    text = cells.narrowed(text).casefold()
    if text in cells.BLANK_MARKS:
        return None
    return _SEXES.get(text) or cells.Fault("not_a_sex", "This cell is none of 男, 女, 其他, m, f, x.")


def grade(text: str) -> int | cells.Fault | None:
    """1 to 12 for "7", "grade 7", "G7", 七年级, 初一, 高一, 初中二年级; anything else is a fault."""
    text = cells.narrowed(text).casefold()
    if text in cells.BLANK_MARKS:
        return None
    number = 0
    if match := _GRADE.fullmatch(text):
        plain, stage, counted = match.groups()
        if plain:
            number = int(plain)
        else:
            before, highest = _STAGES[stage]
            within = _CHINESE.get(counted) or (int(counted) if counted.isascii() else 0)
            number = before + within if within <= highest else 0
    return number if 1 <= number <= 12 else cells.Fault("not_a_grade", "This cell is no grade from 1 to 12.")


def born_on(text: str) -> dt.date | cells.Fault | None:
    """A date as 2012-09-01, 2012/9/1, 20120901, 2012年9月1日 or Excel's count of days; anything else is a fault."""
    text = cells.narrowed(text)
    if text.casefold() in cells.BLANK_MARKS:
        return None
    day: dt.date | None = None
    if match := _DATE.fullmatch(text) or _PLAIN_DATE.fullmatch(text):
        try:
            day = dt.date(*map(int, match.groups()))
        except ValueError:
            day = None
    elif match := _SERIAL.fullmatch(text):
        day = _SERIAL_ZERO + dt.timedelta(days=int(match[1]))
    if day is None or day.year not in _YEARS:
        return cells.Fault("not_a_date", "This cell is no date; write it as 2012-09-01.")
    return day


def consent(text: str) -> str | cells.Fault | None:
    """granted or declined for a clear word, None for a blank: no answer is no consent. Anything else is a fault."""
    text = cells.narrowed(text).casefold()
    if text in cells.BLANK_MARKS:
        return None
    return _DECISIONS.get(text) or cells.Fault("not_a_decision", "This cell is neither yes nor no (同意, 不同意).")


def phone(text: str) -> str | cells.Fault | None:
    """A telephone number without blanks and dashes; anything else is a fault."""
    text = cells.narrowed(text)
    if text.casefold() in cells.BLANK_MARKS:
        return None
    if not _PHONE.fullmatch(text.removesuffix(".0")):
        return cells.Fault("not_a_phone", "This cell is no telephone number.")
    return re.sub(r"[ ()\-]", "", text.removesuffix(".0"))


_KINDS: Mapping[str, tuple[pl.DataType, Callable[[str], object | cells.Fault | None] | None]] = {
    "sex": (pl.String(), sex),
    "grade": (pl.Int8(), grade),
    "born_on": (pl.Date(), born_on),
    "guardian_phone": (pl.String(), phone),
    "guardian_consent": (pl.String(), consent),
    "student_consent": (pl.String(), consent),
}
