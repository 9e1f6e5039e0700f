"""FHIR responses as the table that every other file is: a row per student, a column per item, problems named already.

The row of a problem is the line of NDJSON or the entry of a Bundle, its column the linkId.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from instruments import fhir
from screening.errors import InvalidUpload, Problem
from screening.reading.files import Batch, File, HeadRow, Sheet, invalid, not_a_table

if TYPE_CHECKING:
    from screening.reading.answers import Form

_ROWS = 50_000
_MOST_NAMED = 100
_WHO = ["school", "subject", "nth", "place"]


def open_fhir(data: bytes) -> File:
    """A file of FHIR JSON. What it says depends on who asks: `laid_out` makes it a table of answers."""
    return File("fhir", "utf-8", _no_table(), (), has_typed_cells=False, responses=data)


def _no_table() -> Iterator[Sheet]:
    raise not_a_table("FHIR data")
    yield


def laid_out(file: File, forms: Sequence[Form], column_map: Mapping[str, str]) -> File:
    """The same file as a table with the columns of these forms; `column_map`: linkId -> item id.

    Raises InvalidUpload when it is no FHIR, or when no response in it belongs to one of the forms.
    """
    link_ids = _link_ids(forms, column_map)
    try:
        found = fhir.read(file.responses or b"", [(form.instrument, form.name) for form in forms], link_ids=link_ids)
    except fhir.NotFhir as error:
        raise invalid(error.code, str(error)) from error
    if not found.answers:
        raise _nothing(forms, found)
    notices = []
    if found.others:
        notices.append(Problem("other_resources", f"{found.others:,} resources are no responses and were not read."))
    sheet = _FhirSheet([(form, found.answers[key]) for form in forms if (key := _key(form)) in found.answers], found)
    return dataclasses.replace(file, sheets=iter([sheet]), notices=(*file.notices, *notices), responses=None)


def _key(form: Form) -> tuple[str, str]:
    return form.instrument.code, form.name


def _link_ids(forms: Sequence[Form], column_map: Mapping[str, str]) -> dict[str, str]:
    items = {item.id for form in forms for item in form.instrument.items}
    wrong = [
        Problem("unknown_map_target", f"The column map sends {name[:80]!r} to {target[:80]!r}, which is no item here.")
        for name, target in column_map.items()
        if target not in items
    ]
    if wrong:
        raise InvalidUpload(wrong[0].message, problems=wrong)
    return dict(column_map)


def _nothing(forms: Sequence[Form], found: fhir.Responses) -> InvalidUpload:
    words = f"No response in this file belongs to {', '.join(form.label for form in forms)}."
    listed = found.problems.head(_MOST_NAMED).rows()
    problems = [Problem(code, message, row=line, column=link_id) for line, link_id, code, message in listed]
    return InvalidUpload(words, problems=[Problem("no_responses", words), *problems])


class _FhirSheet:
    name = None

    def __init__(self, answered: Sequence[tuple[Form, pl.DataFrame]], found: fhir.Responses) -> None:
        frames = [_counted(place, frame) for place, (_, frame) in enumerate(answered)]
        self._rows = _students(frames)
        self._has_school = self._rows["school"].is_not_null().any()
        self._forms = [form for form, _ in answered]
        self._frames = frames
        self._told = found.problems.rename({"line": "row", "link_id": "column"})

    @property
    def head(self) -> Sequence[HeadRow]:
        items = [
            f"{form.instrument.code}_{form.informant}_{item.number}"
            for form in self._forms
            for item in form.instrument.items
        ]
        return [HeadRow(0, ["student_number", *(["school_code"] if self._has_school else []), *items])]

    def batches(self, header: HeadRow) -> Iterator[Batch]:
        told: pl.DataFrame | None = self._told
        for start in range(0, max(1, self._rows.height), _ROWS):
            yield self._batch(self._rows.slice(start, _ROWS), told)
            told = None

    def _batch(self, rows: pl.DataFrame, told: pl.DataFrame | None) -> Batch:
        cells = [rows["subject"].fill_null(""), *([rows["school"].fill_null("")] if self._has_school else [])]
        bad: dict[str, list[int]] = {}
        for form, frame in zip(self._forms, self._frames, strict=True):
            here = rows.join(frame, on=_WHO, how="left", nulls_equal=True, maintain_order="left")
            cells += [here[item.id].cast(pl.String).fill_null("") for item in form.instrument.items]
            bad[form.prefix] = (here["is_taken"] == False).fill_null(False).arg_true().to_list()  # noqa: E712
        table = pl.DataFrame([column.rename(str(at)) for at, column in enumerate(cells)])
        return Batch(table, rows["line"], bad=bad, told=told)

    def close(self) -> None:
        self._frames, self._rows = [], self._rows.clear()


def _counted(form: int, frame: pl.DataFrame) -> pl.DataFrame:
    """A form's responses without repeated ones, numbered for each student; each of nobody stands for itself."""
    return frame.filter(~pl.col("is_repeat")).with_columns(
        nth=pl.int_range(pl.len(), dtype=pl.UInt32).over("school", "subject"),
        place=pl.when(pl.col("subject").is_null()).then(pl.lit(form, pl.Int32)).otherwise(-1),
    )


def _students(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row for the first response of each form, one for the second ..: two forms of one student are one row, two
    answers to one form are two, of which the reader will say that they differ."""
    heads = pl.concat([frame.select(*_WHO, "line") for frame in frames])
    return heads.group_by(_WHO).agg(pl.col("line").min()).sort("line", "nth", "place")
