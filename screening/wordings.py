"""A district's own texts of instruments whose wording cannot ship: who holds the licence, and what pupils read.

A text comes as a sheet (CSV or XLSX): one row for each item, answer and the introduction, one column per language.
"""

import datetime as dt
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from instruments.definition import Instrument
from screening import access, audit
from screening.errors import InvalidUpload, Problem, Refused
from screening.models import Licence, Wording
from screening.reading import files
from screening.reading.plan import Limits

LONGEST_TEXT = 2_000
LIMITS = Limits(file_bytes=5_000_000, rows=5_000, columns=50, cell_chars=LONGEST_TEXT)
_LANGUAGE = re.compile(r"[a-z]{2}(_[A-Z]{2})?")


@dataclass(frozen=True)
class Text:
    """What is shown in one language: `items` by id, `answers` by answer set and code."""

    stem: str | None
    items: Mapping[str, str]
    answers: Mapping[str, Mapping[str, str]]

    def answer(self, answer_set: str, code: int) -> str:
        """The words of one answer."""
        return self.answers[answer_set][str(code)]


def rows_of(instrument: Instrument) -> list[tuple[str, bool]]:
    """The rows of an instrument's sheet, in order: (id, whether a text must stand there).

    `stem` is the introduction, `frequency=0` the answer with code 0 of the answer set frequency, phq9_1 an item.
    """
    sets = {item.answer_set: item.options for item in instrument.items}
    required = {item.answer_set for item in instrument.scored_items}
    answers = [(f"{name}={option.code}", name in required) for name, options in sets.items() for option in options]
    return [("stem", False), *answers, *((item.id, item.is_scored) for item in instrument.items)]


def parse(content: bytes, instrument: Instrument, *, layout: str | None = None) -> dict[str, Text]:
    """Reads a sheet: its texts by language.

    `layout` names the printed edition whose numbers the item ids have. Raises InvalidUpload with every problem: an id
    that the instrument does not have, one that is missing or stands twice, a text that one language lacks.
    """
    header, rows = _table(content)
    languages = {place: name for place, name in enumerate(header[1:], start=1) if name}
    problems = list(_header_problems(languages))
    ids = _ids(instrument, layout)
    found: dict[str, dict[str, str]] = {language: {} for language in languages.values()}
    seen: dict[str, int] = {}
    for number, cells in rows:
        row_id = ids.get(cells[0].strip().casefold())
        if row_id is None:
            problems.append(Problem("unknown_id", f"{instrument.code} has no {cells[0]!r}.", row=number, column="id"))
            continue
        if row_id in seen:
            words = f"{cells[0]} stands in row {seen[row_id]} already."
            problems.append(Problem("id_twice", words, row=number, column="id"))
        seen[row_id] = number
        for place, language in languages.items():
            text = " ".join(cells[place].split())
            if len(text) > LONGEST_TEXT:
                words = f"The text is longer than {LONGEST_TEXT} characters."
                problems.append(Problem("text_too_long", words, row=number, column=language))
            if text:
                found[language][row_id] = text
    problems += _absent(instrument, seen)
    for language, texts in found.items():
        problems += _gaps(instrument, language, texts, seen)
    if problems:
        raise InvalidUpload(f"The text does not fit {instrument.edition}.", code="invalid_wording", problems=problems)
    return {language: _text(texts) for language, texts in found.items()}


def record_licence(
    session: Session,
    instrument: Instrument,
    *,
    holder: str,
    terms: str,
    until_on: dt.date | None = None,
    by: access.Actor,
) -> Licence:
    """Keeps who may use the instrument, by which agreement (`terms`: its number or words) and until when."""
    if not holder.strip() or not terms.strip():
        raise Refused("Say who holds the licence, and by which agreement.", code="licence_unnamed")
    licence = Licence(
        district_id=access.scope_of(session).district_id,
        id=uuid.uuid4(),
        instrument=instrument.code,
        edition=instrument.edition,
        holder=holder.strip(),
        terms=terms.strip(),
        until_on=until_on,
        recorded_by=by.staff_id or by.account_id,
    )
    session.add(licence)
    session.flush()
    audit.record(session, by, "licence.recorded", "licence", licence.id, instrument=instrument.code)
    return licence


def load(
    session: Session, instrument: Instrument, texts: Mapping[str, Text], licence: Licence, *, by: access.Actor
) -> list[Wording]:
    """Stores the texts, each as the next revision of its language, under the licence that allows them."""
    if licence.edition != instrument.edition:
        raise Refused(f"That licence is for {licence.edition}, not {instrument.edition}.", code="licence_of_another")
    district_id = access.scope_of(session).district_id
    loaded = []
    for language, text in texts.items():
        latest = session.scalar(
            select(func.max(Wording.revision)).where(
                Wording.district_id == district_id,
                Wording.instrument == instrument.code,
                Wording.language == language,
            )
        )
        wording = Wording(
            district_id=district_id,
            instrument=instrument.code,
            language=language,
            revision=(latest or 0) + 1,
            edition=instrument.edition,
            licence_id=licence.id,
            body=asdict(text),
            loaded_by=by.staff_id or by.account_id,
        )
        session.add(wording)
        session.flush()
        subject = f"{instrument.code}/{language}/{wording.revision}"
        audit.record(session, by, "wording.loaded", "wording", subject, items=len(text.items))
        loaded.append(wording)
    return loaded


def licence_of(session: Session, instrument: Instrument, on: dt.date) -> Licence | None:
    """The licence for this edition that is in force on a day, the latest recorded first."""
    return session.scalars(
        select(Licence)
        .where(
            Licence.district_id == access.scope_of(session).district_id,
            Licence.instrument == instrument.code,
            Licence.edition == instrument.edition,
            (Licence.until_on.is_(None)) | (Licence.until_on >= on),
        )
        .order_by(Licence.recorded_at.desc(), Licence.id)
    ).first()


def shown(session: Session, instrument: Instrument, language: str, on: dt.date) -> Text | None:
    """What a pupil reads in that language: the text that ships, else the district's own; None where neither is.

    A text is not shown after the licence that it was loaded under has ended, nor for another edition.
    """
    if language in instrument.languages:
        return _shipped(instrument, language)
    found = session.execute(
        select(Wording.body)
        .join(Licence, (Licence.district_id == Wording.district_id) & (Licence.id == Wording.licence_id))
        .where(
            Wording.district_id == access.scope_of(session).district_id,
            Wording.instrument == instrument.code,
            Wording.language == language,
            Wording.edition == instrument.edition,
            (Licence.until_on.is_(None)) | (Licence.until_on >= on),
        )
        .order_by(Wording.revision.desc())
    ).first()
    return None if found is None else Text(**found.body)


# -- the sheet -------------------------------------------------------------------------------------------


def _table(content: bytes) -> tuple[Sequence[str], list[tuple[int, list[str]]]]:
    for sheet in files.open_file(content, LIMITS).sheets:
        for head in sheet.head:
            if head.cells and head.cells[0].strip().casefold() == "id":
                rows = []
                for batch in sheet.batches(head):
                    cells = batch.cells.rows()
                    rows += [(n, list(row)) for n, row in zip(batch.rows, cells, strict=True) if any(row)]
                return [cell.strip() for cell in head.cells], rows
    words = "The first column must be called id, and the others by their language: en, zh_CN."
    raise InvalidUpload(words, problems=[Problem("no_id_column", words)])


def _header_problems(languages: Mapping[int, str]) -> Iterator[Problem]:
    if not languages:
        yield Problem("no_language", "No column is called by a language, like en or zh_CN.")
    for name in languages.values():
        if not _LANGUAGE.fullmatch(name):
            yield Problem("unknown_language", f"{name!r} is no language like en or zh_CN.", column=name)
    for name in sorted({n for n in languages.values() if list(languages.values()).count(n) > 1}):
        yield Problem("language_twice", f"Two columns are called {name}.", column=name)


def _ids(instrument: Instrument, layout: str | None) -> dict[str, str]:
    """What a row may be called, small letters -> its id."""
    ids = {row_id.casefold(): row_id for row_id, _ in rows_of(instrument)}
    if layout is None:
        return ids
    if layout not in instrument.layouts:
        raise ValueError(f"{instrument.code} has no layout {layout!r}; known: {', '.join(instrument.layouts)}")
    edition = instrument.layouts[layout]
    if edition.mirrored:
        # the form would be scored as if they ran the usual way
        words = f"{', '.join(edition.mirrored)} runs the other way in {layout}; its answers can come by file only."
        raise Refused(words, code="layout_mirrored")
    return ids | {f"{instrument.code}_{number}": item for number, item in enumerate(edition.items, start=1)}


def _absent(instrument: Instrument, seen: Mapping[str, int]) -> Iterator[Problem]:
    absent = [row_id for row_id, is_required in rows_of(instrument) if is_required and row_id not in seen]
    if absent:
        scored = instrument.scored_items
        n_there = sum(item.id in seen for item in scored)
        words = f"{instrument.code} has {len(scored)} items, this text has {n_there}; missing: {', '.join(absent)}."
        yield Problem("ids_missing", words)


def _gaps(
    instrument: Instrument, language: str, texts: Mapping[str, str], seen: Mapping[str, int]
) -> Iterator[Problem]:
    wanted = [row_id for row_id, is_required in rows_of(instrument) if is_required]
    for row_id in wanted:
        if row_id in seen and row_id not in texts:
            yield Problem("text_missing", f"{row_id} has no {language} text.", row=seen[row_id], column=language)
    # an optional item is shown with its answers or not at all
    sets = {item.answer_set: item for item in instrument.items if not item.is_scored and item.id in texts}
    for name, item in sets.items():
        for option in item.options:
            row_id = f"{name}={option.code}"
            if row_id not in texts and row_id not in wanted:
                yield Problem("text_missing", f"{item.id} is answered by {row_id}, which has no text.", column=language)


def _text(texts: Mapping[str, str]) -> Text:
    answers: dict[str, dict[str, str]] = {}
    for row_id, words in texts.items():
        name, sign, code = row_id.partition("=")
        if sign:
            answers.setdefault(name, {})[code] = words
    items = {row_id: words for row_id, words in texts.items() if "=" not in row_id and row_id != "stem"}
    return Text(texts.get("stem"), items, answers)


def _shipped(instrument: Instrument, language: str) -> Text:
    answers = {
        item.answer_set: {str(option.code): option.text[language] for option in item.options}
        for item in instrument.items
    }
    items = {item.id: item.text[language] for item in instrument.items}
    return Text(instrument.stem.get(language), items, answers)
