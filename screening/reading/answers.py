"""A file of answers: its cells become codes or named problems, its forms are scored, its repeated rows are found.

All rows are kept, a byte per answer, until the last one was read: only then is it known whether a student stands in
the file twice. Then they are scored and handed out part by part.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from instruments import catalogue, scoring
from instruments.definition import Instrument, Item
from screening.errors import InvalidUpload, Problem
from screening.reading import cells, columns
from screening.reading.files import Batch, File, HeadRow, Sheet, invalid
from screening.reading.plan import TAKEN, AnswersPlan, Limits, Part, Summary, problem_frame

ROLES: Mapping[str, frozenset[str]] = {
    "student_number": frozenset({"student_number", "student_no", "学号", "学籍号"}),
    "school_code": frozenset({"school_code", "school", "school_id", "学校代码", "学校"}),
    "student_name": frozenset({"student_name", "name", "姓名"}),
}
_INT8 = range(-128, 128)
Target = tuple[str, str]
"""("", role) or (prefix of a form, item id)."""


@dataclass(frozen=True)
class Form:
    """One form of the plan: an instrument as one informant answers it."""

    instrument: Instrument
    name: str
    informant: str

    @property
    def prefix(self) -> str:
        return f"{self.instrument.code}.{self.informant}."

    @property
    def label(self) -> str:
        """The short name people know: what the title has in brackets, or its code."""
        title = self.instrument.title.get("en", "")
        short = title.rpartition("(")[2].removesuffix(")") if title.endswith(")") else ""
        return short or self.instrument.code

    def column(self, item: Item) -> str:
        return self.prefix + item.id

    def kind(self, item: Item) -> pl.DataType:
        return pl.Int8() if all(code in _INT8 for code in item.codes) else pl.Int16()


def read(file: File, plan: AnswersPlan, limits: Limits) -> Iterator[Part | Summary]:
    """Reads a file of answers; yields parts, then a summary. Raises InvalidUpload when no row can be read."""
    forms = [_form(body, informant) for body, informant in plan.forms]
    column_map = plan.column_map
    if file.responses is not None:
        from screening.reading import fhir

        file, column_map = fhir.laid_out(file, forms, column_map), {}
    sheet, header, layout = _choose(file, forms, column_map)
    table = _Table(file, sheet, forms, layout, limits)
    for batch in sheet.batches(header):
        table.take(batch)
    sheet.close()
    yield from table.parts(_sheet_notices(file, sheet))


def _form(body: str, informant: str) -> Form:
    instrument = catalogue.parse_stored(body)
    names = [name for name, form in instrument.forms.items() if informant in (name, form.informant)]
    if not names:
        raise ValueError(f"{instrument.code} has no form for {informant}")
    return Form(instrument, instrument.default_form if instrument.default_form in names else names[0], informant)


# -- the header ---------------------------------------------------------------------------------------


def _choose(
    file: File, forms: Sequence[Form], column_map: Mapping[str, str]
) -> tuple[Sheet, HeadRow, columns.Layout[Target]]:
    """The first sheet with students and items; else the first with items, whose rows are read for safety alone."""
    understand = _Names(forms)
    fallback: tuple[Sheet, HeadRow, columns.Layout[Target]] | None = None
    has_student = False
    for sheet in file.sheets:
        for head in sheet.head:
            layout = columns.lay_out(head.cells, column_map, understand)
            targets = layout.places.keys() | layout.twice.keys()
            has_student |= ("", "student_number") in targets
            if not any(prefix for prefix, _ in targets):
                continue
            if ("", "student_number") in layout.places:
                return sheet, head, layout
            fallback = fallback or (sheet, head, layout)
            break
    if fallback:
        return fallback
    codes = ", ".join(form.label for form in forms)
    problems = [Problem("no_item_columns", f"No column holds an item of {codes}; name them like phq9_1, or map them.")]
    if not has_student:
        problems.append(_no_student_column())
    raise InvalidUpload(problems[0].message, problems=problems)


class _Names:
    """Which target of the plan a column name means."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self._roles: dict[str, Target] = {word: ("", role) for role, words in ROLES.items() for word in words}
        self._items: dict[str, Target] = {}
        for form in forms:
            same = [other for other in forms if other.instrument.code == form.instrument.code]
            # Without an informant in its name a column belongs to the only form, or to the default one of several.
            is_plain = len(same) == 1 or form.name == form.instrument.default_form
            for item in form.instrument.items:
                spoken = {f"{form.instrument.code}_{who}_{item.number}" for who in (form.informant, form.name)}
                spoken |= {item.id, f"{form.instrument.code}_{item.number}"} if is_plain else set()
                for name in spoken:
                    if item_key := columns.item_key(name):
                        self._items.setdefault(item_key, (form.prefix, item.id))

    def __call__(self, name: str) -> Target | None:
        item_key = columns.item_key(name)
        if item_key in self._items:
            return self._items[item_key]
        return self._roles.get(columns.key(name))


def _no_student_column() -> Problem:
    words = "No column holds the student number; call it student_number or 学号, or say by the column map which it is."
    return Problem("no_student_column", words)


def _sheet_notices(file: File, used: Sheet) -> list[Problem]:
    others = [name for name in file.sheet_names if name != used.name]
    if not others:
        return list(file.notices)
    words = f"Only the sheet {used.name!r} was read, not: {', '.join(others)}."
    return [*file.notices, Problem("other_sheets", words, sheet=used.name)]


# -- the rows -----------------------------------------------------------------------------------------


class _Table:
    """All rows of a file, as they are read and as they are handed out."""

    def __init__(
        self, file: File, sheet: Sheet, forms: Sequence[Form], layout: columns.Layout[Target], limits: Limits
    ) -> None:
        self._file, self._sheet, self._forms, self._layout, self._limits = file, sheet, forms, layout, limits
        self._problems = cells.Problems(sheet.name, layout.names, limits.problems)
        self._refused, self._whole_file, self._broken = _judge(layout, forms)
        self._kept: list[pl.DataFrame] = []
        self._n_rows = 0
        self._n_blank = 0

    def take(self, batch: Batch) -> None:
        """Reads one batch of rows."""
        batch = self._without_blank_rows(batch)
        self._n_rows += batch.cells.height
        if self._n_rows + self._n_blank > self._limits.rows:
            words = f"There are more than {self._limits.rows:,} rows; send the file in parts."
            raise invalid("too_many_rows", words, sheet=self._sheet.name)
        if not batch.cells.height:
            return
        rows = batch.rows.rename("row")
        found = [rows]
        is_broken = _marks(batch.cells.height, [place for place, _, _ in batch.faults])
        self._problems.add_rows([(rows[place], code, words) for place, code, words in batch.faults])
        if batch.told is not None:
            self._problems.add(batch.told)
        for role in ROLES:
            read = self._role(batch, role)
            found.append(read.values.rename(role))
            if read.bad is not None and role != "student_name":
                is_broken = is_broken | read.bad
            if role == "student_number":
                is_broken = is_broken | self._unnumbered(rows, read)
        for form in self._forms:
            found += self._form(batch, form)
        self._kept.append(pl.DataFrame([*found, is_broken.rename("is_broken")]))

    def _without_blank_rows(self, batch: Batch) -> Batch:
        """The batch without rows that are blank in every column, needed or not."""
        # Nearly every row has a number; only the few others are looked at as a whole.
        telling = self._layout.places.get(("", "student_number"), min(self._layout.places.values(), default=0))
        doubtful = batch.cells[str(telling)].str.strip_chars() == ""
        if batch.bad or not doubtful.any():
            return batch
        says_something = pl.any_horizontal(pl.all().str.strip_chars() != "")
        blank = doubtful.arg_true().filter(~batch.cells.filter(doubtful).select(says_something).to_series())
        is_kept = ~_marks(batch.cells.height, sorted(set(blank.to_list()) - {place for place, _, _ in batch.faults}))
        self._n_blank += batch.cells.height - int(is_kept.sum())
        places = is_kept.cast(pl.Int64).cum_sum() - 1
        faults = [(int(places[at]), code, words) for at, code, words in batch.faults]
        return Batch(batch.cells.filter(is_kept), batch.rows.filter(is_kept), faults)

    def _role(self, batch: Batch, role: str) -> cells.Read:
        at = self._layout.places.get(("", role))
        if at is None:
            return cells.Read(pl.Series([None], dtype=pl.String).new_from_index(0, batch.cells.height), None, None)
        read = cells.texts(
            batch.cells[str(at)],
            batch.rows,
            self._limits.cell_chars,
            is_number=role != "student_name",
            has_typed_cells=self._file.has_typed_cells,
        )
        if read.problems is not None:
            self._problems.add(read.problems, at)
        return read

    def _unnumbered(self, rows: pl.Series, numbers: cells.Read) -> pl.Series:
        missing = numbers.values.is_null()
        at = self._layout.places.get(("", "student_number"))
        if at is not None and missing.any():
            blank = missing if numbers.bad is None else missing & ~numbers.bad
            words = "There is no student number in this row."
            self._problems.add_rows([(row, "no_student_number", words) for row in rows.filter(blank)], at)
        return missing

    def _form(self, batch: Batch, form: Form) -> list[pl.Series]:
        """The items of one form, and whether a cell of it could not be read."""
        found: list[pl.Series] = []
        is_bad = _marks(batch.cells.height, batch.bad.get(form.prefix, ()))
        for item in form.instrument.items:
            at = self._layout.places.get((form.prefix, item.id))
            if at is None:
                blank = pl.Series([None], dtype=form.kind(item)).new_from_index(0, batch.cells.height)
                found.append(blank.rename(form.column(item)))
                continue
            what = f"{form.label} item {item.number}"
            read = cells.answers(batch.cells[str(at)], batch.rows, item.codes, what, form.kind(item))
            found.append(read.values.rename(form.column(item)))
            if read.problems is not None and read.bad is not None:
                self._problems.add(read.problems, at)
                is_bad = is_bad | read.bad
        return [*found, is_bad.rename(form.prefix + "is_bad")]

    # -- handing out --

    def parts(self, notices: Sequence[Problem]) -> Iterator[Part | Summary]:
        """Everything that was read, scored; the summary last."""
        if not self._kept:
            words = "The file has a header and no rows below it."
            raise invalid("no_rows", words, sheet=self._sheet.name)
        table = pl.concat(self._kept, rechunk=False)
        self._kept.clear()
        if ("", "student_number") in self._layout.places:
            table, repeated = self._twice_is_once(table)
        else:
            repeated = problem_frame([])
        if self._problems.left_out:
            words = f"More than {self._limits.problems:,} cells have problems; something is wrong with the whole file."
            self._refused.append(Problem("too_many_problems", words, sheet=self._sheet.name))
        whole_file = problem_frame([*self._whole_file, *self._refused])
        problems, handed_out = self._problems.sorted(), -1
        n_parts = max(1, -(-table.height // self._limits.part_rows))
        for i in range(n_parts):
            rows = table.slice(i * self._limits.part_rows, self._limits.part_rows)
            last = rows["row"][-1] if i < n_parts - 1 else None
            here = pl.col("row").is_between(handed_out + 1, last) if last is not None else pl.col("row") > handed_out
            listed = problems.filter(here)
            listed = pl.concat([listed, whole_file]) if last is None else listed
            yield Part(self._scored(rows), listed, repeated.filter(here))
            handed_out = last if last is not None else handed_out
        yield Summary(
            format=self._file.format,
            encoding=self._file.encoding,
            sheet=self._sheet.name,
            rows=self._n_rows,
            blank_rows=self._n_blank,
            repeated_rows=repeated.height,
            ignored_columns=self._layout.ignored,
            notices=(*notices, *self._layout.notices),
            refused=tuple(self._refused),
            problems_left_out=self._problems.left_out,
        )

    def _twice_is_once(self, table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Leaves out rows that repeat an earlier one; where one student has different rows, none of them is taken."""
        who = ["school_code", "student_number"]
        has_number = table["student_number"].is_not_null()
        is_double = table.select(pl.struct(who).is_duplicated()).to_series() & has_number
        if not is_double.any():
            return table, problem_frame([])
        doubles = table.filter(is_double).with_row_index("place")
        first = doubles.select(pl.col("place").first().over(who)).to_series()
        content = [name for name in table.columns if name != "row"]
        is_same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).gather(first)) for name in content)
        doubles = doubles.select(
            "row",
            *who,
            first_row=pl.col("row").gather(first),
            is_later=pl.col("place") != first,
            differs=~is_same,
        ).with_columns(differs=pl.col("differs").any().over(who))
        at = self._layout.places["", "student_number"]
        clashes = doubles.filter(pl.col("differs") & pl.col("is_later"))
        self._problems.add(clashes.select("row", code=pl.lit("duplicate_student"), message=_clash()), at)
        repeats = doubles.filter(~pl.col("differs") & pl.col("is_later"))
        table = table.with_columns(
            is_broken=pl.col("is_broken") | pl.col("row").is_in(doubles.filter("differs")["row"].to_list())
        ).filter(~pl.col("row").is_in(repeats["row"].to_list()))
        words = pl.format("This row says the same as row {}; it was taken once.", "first_row")
        return table, repeats.select(
            sheet=pl.lit(self._sheet.name, pl.String),
            row="row",
            column=pl.lit(self._layout.names[at], pl.String),
            code=pl.lit("repeated_row"),
            message=words,
        )

    def _scored(self, rows: pl.DataFrame) -> pl.DataFrame:
        found = [rows.select(pl.lit(self._sheet.name, pl.String).alias("sheet"), "row", *ROLES)]
        for form in self._forms:
            items = rows.select(pl.col(form.column(item)).alias(item.id) for item in form.instrument.items)
            scores = scoring.score(items, form.instrument, form.name)
            taken = rows.select(self._taken(form)).to_series()
            whole = pl.concat([items, scores, pl.DataFrame([taken])], how="horizontal")
            found.append(whole.rename({name: form.prefix + name for name in whole.columns}))
        return pl.concat(found, how="horizontal")

    def _taken(self, form: Form) -> pl.Expr:
        is_bad = pl.col(form.prefix + "is_bad")
        is_answered = pl.any_horizontal(pl.col(form.column(item)).is_not_null() for item in form.instrument.items)
        is_broken = pl.lit(True) if self._refused else pl.col("is_broken")
        is_rejected = pl.lit(True) if form.prefix in self._broken else is_bad | (is_answered & is_broken)
        taken = pl.when(is_rejected).then(pl.lit("rejected")).when(is_answered).then(pl.lit("answered"))
        return taken.otherwise(pl.lit("not_answered")).cast(TAKEN).alias("taken")


def _judge(layout: columns.Layout[Target], forms: Sequence[Form]) -> tuple[list[Problem], list[Problem], set[str]]:
    """Why the file is refused, what else is wrong with all of it, and the prefixes of forms that cannot be taken."""
    refused, whole_file, broken = list(layout.map_problems), [], set()
    for (prefix, _), problem in layout.twice.items():
        if prefix:
            whole_file.append(problem)
            broken.add(prefix)
        else:
            refused.append(problem)
    if ("", "student_number") not in layout.places.keys() | layout.twice.keys():
        refused.append(_no_student_column())
    for form in forms:
        scored = [item.id for item in form.instrument.scored_items]
        there = {item for prefix, item in layout.places.keys() | layout.twice.keys() if prefix == form.prefix}
        missing = [item for item in scored if item not in there]
        if there and missing:
            words = f"{form.label} has no column for {', '.join(missing)}; none of its answers can be taken."
            whole_file.append(Problem("missing_item_columns", words))
            broken.add(form.prefix)
    return refused, whole_file, broken


def _clash() -> pl.Expr:
    words = "Rows {} and {} have the same student number and do not say the same; none of this student's rows is taken."
    return pl.format(words, "first_row", "row")


def _marks(n: int, places: Sequence[int]) -> pl.Series:
    marks = pl.Series([False]).new_from_index(0, n)
    return marks.scatter(list(places), True) if places else marks
