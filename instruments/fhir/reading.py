"""QuestionnaireResponses -> a frame of answers per form + a frame of problems: one, a Bundle, or NDJSON.

Each resource is walked once and let go. Of an answer only the number of its kind stays: the few distinct answers are
understood one by one, the many by a look-up in Polars.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from instruments.definition import Instrument
from instruments.fhir.addressing import Addresses, Way
from instruments.fhir.linking import Answer, Fault
from instruments.fhir.sources import Resource, open_source
from instruments.fhir.walking import MISSHAPEN, Raw, walk

PROBLEMS: dict[str, pl.DataType] = {
    "line": pl.Int32(),
    "link_id": pl.String(),
    "code": pl.String(),
    "message": pl.String(),
}
_HEAD: dict[str, pl.DataType] = {
    "line": pl.Int32(),
    "id": pl.String(),
    "subject": pl.String(),
    "school": pl.String(),
    "name": pl.String(),
    "authored": pl.String(),
    "status": pl.String(),
}
_DONE = frozenset({"completed", "amended"})
_TEXTS = frozenset({str, type(None)})
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Responses:
    """What was read.

    `answers`: (instrument code, form) -> one row per response, in the file's order: `line` Int32 (the line of NDJSON,
    the entry of a Bundle, from 1), `id`, `subject` (the student's number: its identifier, else the last part of the
    reference), `school` (the identifier of who assigned that number), `name`, `authored`, `status` String, `is_taken`
    and `is_repeat` Boolean (the latter: it says word for word what an earlier one says), then every item's stored
    code, Int16, null for a blank and for whatever was not understood. A row that is not taken is named among the
    problems; use it only to look for answers that somebody must see. Forms that nobody answered are absent.
    `problems`: `line`, `link_id` (null: of the response itself), `code`, `message`, in the file's order.
    `kind`: single, bundle or ndjson. `others`: how many resources were no responses.
    """

    answers: Mapping[tuple[str, str], pl.DataFrame]
    problems: pl.DataFrame
    kind: str
    others: int


def read(
    data: bytes,
    forms: Sequence[tuple[Instrument, str]],
    *,
    questionnaires: Iterable[Mapping[str, Any]] = (),
    link_ids: Mapping[str, str] | None = None,
) -> Responses:
    """Reads a QuestionnaireResponse, a Bundle or NDJSON of them (R4 or STU3, UTF-8).

    `forms`: which (instrument, form name) may be answered in it. `questionnaires`: those made elsewhere that the
    responses answer, as JSON values; the file's own are found by themselves, contained ones too. `link_ids`: linkId
    -> item id, where neither LOINC nor a Questionnaire says it. Raises `NotFhir` when the file is no FHIR JSON at all,
    ValueError for a wrong argument; every other problem is named and costs its own response only.
    """
    addresses = Addresses(forms, link_ids or {})
    with _uncollected():
        return _read(data, addresses, questionnaires)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles, which JSON has none of: walking a Bundle's values again and again, it doubles
    the time that reading takes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(data: bytes, addresses: Addresses, questionnaires: Iterable[Mapping[str, Any]]) -> Responses:
    source = open_source(data)
    for each in questionnaires:
        addresses.learn(each)
    for found in source.questionnaires():
        addresses.learn(found)
    taking = _Taking(addresses)
    for line, resource, answers in source.responses():
        taking.take(line, resource, answers)
    return taking.responses(source.kind)


@dataclass
class _Form:
    """The responses to one form as they come: their heads, and for each answer its row and the number of its kind."""

    heads: list[tuple[Any, ...]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)


class _Taking:
    """All responses of a file, as they are read and as they are handed out."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._problems: list[tuple[int, str | None, str, str]] = []
        self._forms: dict[tuple[str, str], _Form] = {}
        self._known: dict[Way, dict[Raw, int]] = {}
        self._n_kinds = 0
        self._others = 0

    def take(self, line: int, found: Resource | Fault, answers: list[Raw] | None) -> None:
        """Reads one resource; `answers` are those of its questions, where they were cut out of it."""
        if isinstance(found, Fault):
            self._problems.append((line, None, *found))
        elif found.get("resourceType") == "QuestionnaireResponse":
            try:
                self._response(line, found, walk(found.get("item") or []) if answers is None else answers)
            except MISSHAPEN:
                words = "This QuestionnaireResponse is not built as FHIR says; nothing of it was read."
                self._problems.append((line, None, "misshapen", words))
        elif "resourceType" in found:
            self._others += 1
        else:
            self._problems.append((line, None, "not_fhir", "This is no FHIR resource: it has no resourceType."))

    def _response(self, line: int, found: Resource, answers: list[Raw]) -> None:
        head = (line, *_head(found))
        status = head[-1]
        if status not in _DONE:
            self._problems.append((line, None, "not_completed", _not_done(status)))
        way = self._addresses.way(found, tuple([answer[0] for answer in answers]))
        if isinstance(way, Fault):
            self._problems.append((line, None, *way))
            return
        if status == "entered-in-error":
            answers = []
        numbers = self._numbered(way, answers)
        form = self._forms.setdefault((way.link.instrument.code, way.form), _Form())
        form.rows += [len(form.heads)] * len(numbers)
        form.kinds += numbers
        form.heads.append((*head, status in _DONE))

    def _numbered(self, way: Way, answers: list[Raw]) -> list[int]:
        known = self._known.setdefault(way, {})
        for answer in answers:
            if answer not in known:
                known[answer] = self._n_kinds
                self._n_kinds += 1
        return [known[answer] for answer in answers]

    # -- handing out --

    def responses(self, kind: str) -> Responses:
        meanings = self._meanings()
        told = [pl.DataFrame(self._problems, schema=PROBLEMS, orient="row")]
        answers = {}
        for (code, name), form in self._forms.items():
            frame, problems = _frame(self._addresses.instrument(code), form, meanings)
            frame, repeated = _once(frame)
            answers[code, name] = frame
            told += [problems, repeated]
        return Responses(answers, pl.concat(told).sort("line", maintain_order=True), kind, self._others)

    def _meanings(self) -> pl.DataFrame:
        """For each kind of answer, by its number: `item`, `value`, or `fault` and `message`; all null: not ours."""
        found: list[tuple[str | None, int | None, str, str | None, str | None]] = [
            ("", 0, "", None, None)
        ] * self._n_kinds
        for way, known in self._known.items():
            for raw, number in known.items():
                answer = Answer(*raw)
                name = " ".join(answer.link_id.split())[:_LONGEST_NAME]
                meaning = way.link.meaning(answer)
                if isinstance(meaning, Fault):
                    found[number] = (None, None, name, *meaning)
                else:
                    found[number] = (*(meaning or (None, None)), name, None, None)
        schema = {"item": pl.String, "value": pl.Int16, "link_id": pl.String, "fault": pl.String, "message": pl.String}
        return pl.DataFrame(found, schema=schema, orient="row")


# -- one response -------------------------------------------------------------------------------------


def _head(found: Resource) -> tuple[str | None, ...]:
    subject = found.get("subject") or {}
    identifier = subject.get("identifier") or {}
    assigner = identifier.get("assigner") or {}
    number = identifier.get("value") or _last(subject.get("reference"))
    school = (assigner.get("identifier") or {}).get("value") or _last(assigner.get("reference"))
    name, authored, status = subject.get("display"), found.get("authored"), found.get("status")
    head = (found.get("id"), number, school, name, authored, status)
    if not _TEXTS.issuperset(map(type, head)):
        raise TypeError("text was expected")
    return head


def _last(reference: str | None) -> str | None:
    return reference.partition("/_history/")[0].rpartition("/")[2] or None if reference else None


def _not_done(status: object) -> str:
    known = ("in-progress", "stopped", "entered-in-error")
    said = f"is {status}" if status in known else "is missing or unknown"
    return f"The status {said}; only completed and amended responses are taken."


# -- all of a form ------------------------------------------------------------------------------------


def _frame(instrument: Instrument, form: _Form, meanings: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The form's answers as a frame, and what is wrong with them."""
    heads = pl.DataFrame(form.heads, schema={**_HEAD, "is_taken": pl.Boolean()}, orient="row").with_row_index("row")
    kinds = pl.Series(form.kinds, dtype=pl.UInt32)
    given = meanings.select(pl.all().gather(kinds)).with_columns(row=pl.Series(form.rows, dtype=pl.UInt32))
    counted = (
        given.filter(pl.col("item").is_not_null())
        .group_by("row", "item", maintain_order=True)
        .agg(pl.col("value").first(), pl.col("link_id").last(), n=pl.len())
    )
    words = pl.format("{} is answered more than once.", "item")
    twice = counted.filter(pl.col("n") > 1).with_columns(fault=pl.lit("answered_twice"), message=words)
    columns = ["row", "link_id", "fault", "message"]
    faults = pl.concat([given.filter(pl.col("fault").is_not_null()).select(columns), twice.select(columns)])
    wide = _wide(instrument, counted.filter(pl.col("n") == 1))
    frame = heads.join(wide, on="row", how="left", maintain_order="left").with_columns(
        is_taken=pl.col("is_taken") & ~pl.col("row").is_in(faults["row"].unique().implode())
    )
    lines = faults.select(line=heads["line"].gather(faults["row"]), link_id="link_id", code="fault", message="message")
    return frame.drop("row"), lines


def _wide(instrument: Instrument, answers: pl.DataFrame) -> pl.DataFrame:
    names = [item.id for item in instrument.items]
    wide = answers.pivot(on="item", on_columns=names, index="row", values="value", aggregate_function="first")
    return wide.select("row", *names)


def _once(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Names responses that say word for word what an earlier one says, and different ones with one id.

    Of equal ones the first stays; of different ones with one id none does, since nothing says which is right.
    """
    content = pl.struct(pl.exclude("line", "is_taken"))
    is_known = pl.col("id").is_not_null() | pl.col("subject").is_not_null()
    marked = frame.with_columns(
        is_repeat=is_known & ~content.is_first_distinct(),
        first=pl.col("line").first().over(content),
        n_contents=content.n_unique().over("id"),
    ).with_columns(is_clash=pl.col("id").is_not_null() & (pl.col("n_contents") > 1))
    repeats = marked.filter(pl.col("is_repeat") & ~pl.col("is_clash")).select(
        "line",
        link_id=pl.lit(None, pl.String),
        code=pl.lit("repeated_response"),
        message=pl.format("This response says the same as number {}; it was taken once.", "first"),
    )
    clashes = marked.filter("is_clash").select(
        "line",
        link_id=pl.lit(None, pl.String),
        code=pl.lit("duplicate_id"),
        message=pl.lit("Several responses have this id and do not say the same; none of them is taken."),
    )
    is_taken = pl.col("is_taken") & ~pl.col("is_repeat") & ~pl.col("is_clash")
    shown = [*_HEAD, "is_taken", "is_repeat"]
    return marked.with_columns(is_taken=is_taken).select(*shown, pl.col(frame.columns).exclude(shown)), pl.concat(
        [repeats, clashes]
    )
