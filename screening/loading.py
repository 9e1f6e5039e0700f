"""What was read from a file of answers goes in: matched, judged, kept, weighed and answered in one transaction."""

import datetime as dt
import gc
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, coverage, matching, planner, reading, receipts, results, rounds, tiers
from screening.beside import beside
from screening.db import Database, lock, now
from screening.errors import NotFound, Problem
from screening.models import Round, Upload
from screening.results import FormKey, Revisions, Signal

KEPT = ("accepted", "not_scorable", "corrected")

Weigh = Callable[[Session, Revisions | None, Sequence[Signal], dt.datetime, rounds.RoundRules], None]
"""What the floor above does, in the same transaction, with the revisions of a load (None when nothing was kept) and
with signals from answers that were not kept."""


@dataclass(frozen=True)
class _Load:
    """What stays the same throughout one load."""

    session: Session
    upload: Upload
    rules: rounds.RoundRules
    matching: matching.Rules
    forms: tuple[FormKey, ...]
    now: dt.datetime
    is_refused: bool
    has_stored: bool
    weigh: Weigh
    file_digest: bytes

    @property
    def is_kept(self) -> bool:
        """Whether anything of the file is to be stored at all."""
        return not (self.is_refused or self.upload.is_dry_run)


def load(
    database: Database, upload: Upload, parts: Sequence[reading.PackedPart], summary: reading.Summary, weigh: Weigh
) -> None:
    """Loads all parts of a file and writes the receipt, or nothing of either.

    Students are matched within the schools that the sender may send for. A file that is refused, or a dry run, keeps
    nothing; its critical answers are signals all the same.
    """
    schools = None if upload.school_id is None else frozenset({upload.school_id})
    with _little_garbage(), database.unit(access.Scope(upload.district_id, schools)) as session:
        _plan_for(session, summary.rows)
        lock(session, f"load/{upload.round_id}")
        current = session.get(Upload, (upload.district_id, upload.id))
        if current is None or current.state != "received":
            raise NotFound("The upload has its receipt already.")
        this = rounds.get(session, upload.round_id)
        refusals = [*summary.refused, *_refusals(this)]
        own = _prepared(session, current, this, weigh, is_refused=bool(refusals))
        receipt, problems = receipts.Receipt(summary), receipts.Problems()
        problems.add_of_file(refusals)
        matching.begin(session)
        results.begin(session)
        for part in map(reading.unpack, parts):
            problems.add(part.problems)
            _load_part(own, part, receipt, problems)
        if own.is_kept:
            # a student who moved away keeps the place here, and is seen from the district only
            access.enter(session, access.Scope(upload.district_id))
            coverage.recount(session, upload.round_id, receipt.schools, own.now)
        state = "refused" if refusals else "loaded"
        receipts.end(session, current, state, receipt, problems.in_order(), problems.left_out)


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Looks for garbage seldom: a load makes many objects and hardly a cycle, and each look costs as much as it has."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


MANY_ROWS = 1_000


def _plan_for(session: Session, rows: int) -> None:
    """Tells the planner that many rows come: its statistics know nothing of tables that were filled just before, and
    a loop over a loop then takes minutes where a hash takes milliseconds."""
    session.execute(text("set local work_mem = '256MB'"))
    planner.begin_anew(session, coming=rows)
    if rows > MANY_ROWS:
        session.execute(text("set local enable_nestloop = off"))


def _refusals(this: Round) -> list[Problem]:
    if this.is_historical or this.state == "open":
        return []
    return [receipts.told("round_closed" if this.state == "closed" else "round_not_open")]


def _prepared(session: Session, upload: Upload, this: Round, weigh: Weigh, *, is_refused: bool) -> _Load:
    rules = rounds.rules_of(session, upload.round_id)
    instant = now(session)
    stored = session.execute(
        text(
            "select f.digest, exists (select from administrations a where a.district_id = :district"
            " and a.round_id = :round) as has_stored"
            " from stored_files f where f.district_id = :district and f.id = :file"
        ),
        {"district": upload.district_id, "round": upload.round_id, "file": upload.file_id},
    ).one()
    return _Load(
        session=session,
        upload=upload,
        rules=rules,
        matching=matching.Rules(
            round=this,
            policy=rules.policy,
            informants=rules.informants,
            other_rounds=matching.other_rounds(session, this, rules.policy),
            now=instant,
            makes_places=not (is_refused or upload.is_dry_run),
        ),
        forms=tuple((code, form) for code, names in rules.forms.items() for form in names),
        now=instant,
        is_refused=is_refused,
        has_stored=stored.has_stored,
        weigh=weigh,
        file_digest=stored.digest,
    )


def _load_part(own: _Load, part: reading.Part, receipt: receipts.Receipt, problems: receipts.Problems) -> None:
    rows = part.answers.with_row_index("key")
    students = rows.select("key", "student_number", "school_code", "student_name")
    matched = _once(matching.match(own.session, students, own.matching), receipt.students)
    problems.add(_verdict_problems(rows, matched))
    taken = matched.filter(pl.col("verdict").is_null())
    receipt.students.update(taken.get_column("student_id"))
    receipt.schools.update(uuid.UUID(school) for school in taken.get_column("school_id").unique())
    is_known = pl.col("student_id").is_not_null() & (
        pl.col("verdict").is_null() | ~pl.col("verdict").is_in(list(matching.NOBODY))
    )
    stored = _stored(own, matched.filter(is_known))
    judged = {form: _judged(own, form, rows, matched, stored) for form in own.forms}
    for form, frame in judged.items():
        receipt.count(form, dict(frame.group_by("outcome").len().iter_rows()))
        problems.add(_differs_problems(form, rows, frame))
    revisions = _keep(own, judged, matched, stored) if own.is_kept else None
    own.weigh(own.session, revisions, _safety_signals(own, judged, rows, matched), own.now, own.rules)


def _once(matched: pl.DataFrame, seen: Collection[str]) -> pl.DataFrame:
    """Students whom an earlier part of the file was about are not taken again: two rows may give one number apart,
    with and without the school, and which of them is right is for a person to say."""
    if not seen:
        return matched
    # a set that is there already: to hash it anew for each part would cost a second at a million students
    is_again = pl.Series([student in seen for student in matched.get_column("student_id")], dtype=pl.Boolean)
    return matched.with_columns(
        pl.when(pl.col("verdict").is_null() & is_again)
        .then(pl.lit("duplicate_student"))
        .otherwise("verdict")
        .alias("verdict")
    )


def _stored(own: _Load, known: pl.DataFrame) -> pl.DataFrame:
    """What these students already have in this round, the standing revision of each attempt, with their key."""
    if not own.has_stored or not known.height:
        return pl.DataFrame(schema={**results.ADMINISTRATION_COLUMNS, "key": pl.UInt32})
    students = known.get_column("student_id").to_list()
    return (
        results.administrations(own.session, own.upload.round_id, students)
        .sort("revision")
        .unique(["student_id", "instrument", "informant", "attempt"], keep="last", maintain_order=True)
        .join(known.select("key", "student_id"), on="student_id")
    )


# -- what becomes of each form -------------------------------------------------------------------------------------


def _judged(own: _Load, form: FormKey, rows: pl.DataFrame, matched: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """One form of every row: its answers and scores, and what becomes of it (`outcome`, `attempt`, `revision`);
    `is_stored` where exactly these answers stand in the database already, whatever becomes of the row."""
    code, name = form
    prefix = f"{code}.{name}."
    answers = [
        pl.col(column).alias(column.removeprefix(prefix)) for column in rows.columns if column.startswith(prefix)
    ]
    before = (
        rows.select("key", *answers)
        .join(matched.select("key", "verdict"), on="key", how="left", maintain_order="left")
        .join(_latest(stored, form), on="key", how="left", maintain_order="left")
    )
    has_before = pl.col("attempt_before").is_not_null()
    is_out = (pl.col("taken") == "rejected") | pl.col("verdict").is_not_null() | pl.lit(own.is_refused)
    # written out only where there is something to compare with
    is_same = results.answers_text(own.rules.instruments[code]) == pl.col("answers_before")
    is_same = is_same if stored.height else pl.lit(False)
    return before.with_columns(
        pl.when(pl.col("taken") == "not_answered")
        .then(pl.lit("not_answered"))
        .when(is_out)
        .then(pl.lit("rejected"))
        .when(has_before & is_same)
        .then(pl.lit("repeated"))
        .when(has_before)
        .then(pl.lit("corrected" if own.upload.is_correction else "differs"))
        .when(~pl.col("status").cast(pl.String).is_in(tiers.SCORABLE))
        .then(pl.lit("not_scorable"))
        .otherwise(pl.lit("accepted"))
        .alias("outcome"),
        (has_before & is_same).fill_null(False).alias("is_stored"),
        pl.col("attempt_before").fill_null(1).alias("attempt"),
        (pl.col("revision_before").fill_null(0) + 1).alias("revision"),
    )


def _latest(stored: pl.DataFrame, form: FormKey) -> pl.DataFrame:
    """The standing answers of a form's latest attempt."""
    code, name = form
    return (
        stored.filter((pl.col("instrument") == code) & (pl.col("informant") == results.informant_of(name)))
        .sort("attempt")
        .unique("key", keep="last", maintain_order=True)
        .select(
            "key",
            pl.col("answers").alias("answers_before"),
            pl.col("attempt").alias("attempt_before"),
            pl.col("revision").alias("revision_before"),
        )
    )


def _keep(own: _Load, judged: Mapping[FormKey, pl.DataFrame], matched: pl.DataFrame, stored: pl.DataFrame) -> Revisions:
    """Appends what is to be kept of a part, and the result of every student of whom something was."""
    account: dict[str, Any] = {
        "rules": own.rules,
        "upload_id": own.upload.id,
        "recorded_by": own.upload.received_by,
        "at": own.now,
    }
    is_kept = pl.col("outcome").is_in(KEPT)
    sent = {form: frame.with_columns(is_kept.alias("is_kept")) for form, frame in judged.items()}
    results.send_forms(own.session, sent, matched, own.rules)
    with beside(own.session, lambda: results.append_forms(own.session, **account)):
        new = {form: frame.filter(is_kept) for form, frame in judged.items()}
        verdicts = _verdicts(own, new, matched, stored)
        drawn = None if own.has_stored else results.drawn_up(verdicts, matched)
    if drawn is None:
        before = results.standing(own.session, own.upload.round_id, verdicts, matched)
        drawn = results.drawn_up(verdicts, matched, before)
    return results.append_results(own.session, drawn, **account)


def _verdicts(
    own: _Load, new: Mapping[FormKey, pl.DataFrame], matched: pl.DataFrame, stored: pl.DataFrame
) -> pl.DataFrame:
    """What the rules make of every student of whom something is new."""
    touched = pl.concat([frame.select("key") for frame in new.values()]).unique()
    earlier = _unreplaced(stored, new).join(touched, on="key", how="semi")
    students = matched.join(touched, on="key", how="semi").select("key", "age", "prior_tier")
    return results.decided(students, _together(new, results.unpacked(earlier, own.rules)), own.rules)


def _unreplaced(stored: pl.DataFrame, new: Mapping[FormKey, pl.DataFrame]) -> pl.DataFrame:
    """Stored forms without those that a correction replaces."""
    replaced = pl.concat(
        [
            frame.filter(pl.col("outcome") == "corrected").select(
                "key",
                pl.lit(code).alias("instrument"),
                pl.lit(results.informant_of(form)).alias("informant"),
                pl.col("attempt").cast(pl.Int16),
            )
            for (code, form), frame in new.items()
        ]
    )
    return stored.join(replaced, on=["key", "instrument", "informant", "attempt"], how="anti")


def _together(
    new: Mapping[FormKey, pl.DataFrame], earlier: Mapping[FormKey, pl.DataFrame]
) -> dict[FormKey, pl.DataFrame]:
    frames = {form: frame for form, frame in new.items() if frame.height}
    for form, frame in earlier.items():
        beside = frames.get(form)
        frames[form] = frame if beside is None else pl.concat([beside.select(frame.columns).cast(frame.schema), frame])
    return frames


# -- critical answers in what is not kept --------------------------------------------------------------------------


def _safety_signals(
    own: _Load, judged: Mapping[FormKey, pl.DataFrame], rows: pl.DataFrame, matched: pl.DataFrame
) -> list[Signal]:
    """Critical answers in forms that were not kept: of the student, or of the row where nobody is certain."""
    unkept = {form: _critical_and_unkept(own, frame) for form, frame in judged.items()}
    unkept = {form: frame for form, frame in unkept.items() if frame.height}
    if not unkept:
        return []
    keys = pl.concat([frame.select("key") for frame in unkept.values()]).unique().sort("key")
    places = rows.select("key", "sheet", "row", "school_code")
    about = keys.join(places, on="key", maintain_order="left").join(matched, on="key", maintain_order="left")
    verdicts = tiers.decide(
        about.select("key", pl.lit(0, pl.Int8).alias("prior_tier"), "age"),
        unkept,
        own.rules.policy,
        own.rules.instruments,
        only_safety=True,
    )
    schools = _schools_by_code(own, about)
    return [
        signal
        for row in about.join(verdicts.select("key", "reasons"), on="key").iter_rows(named=True)
        for signal in _signals_of_row(own, row, schools)
    ]


def _critical_and_unkept(own: _Load, frame: pl.DataFrame) -> pl.DataFrame:
    critical = [pl.col(column) for column in frame.columns if column.startswith("critical_")]
    if not critical:
        return frame.clear()
    is_kept = pl.col("outcome").is_in(KEPT) & pl.lit(own.is_kept)
    return frame.filter(pl.any_horizontal(critical) & ~(is_kept | pl.col("is_stored")))


def _signals_of_row(own: _Load, row: Mapping[str, Any], schools: Mapping[str, uuid.UUID]) -> Iterator[Signal]:
    is_known = row["student_id"] is not None and row["verdict"] not in matching.NOBODY
    place = f"{row['sheet']}!{row['row']}" if row["sheet"] else str(row["row"])
    school = schools.get(row["school_code"] or "", own.upload.school_id)
    if is_known or (school is None and row["verdict"] == "name_differs"):
        school = uuid.UUID(row["school_id"])
    for rule_id in row["reasons"]:
        rule = own.rules.policy.rule(rule_id)
        yield Signal(
            student_id=uuid.UUID(row["student_id"]) if is_known else None,
            school_id=school,
            rule=rule_id,
            tier=rule.tier,
            is_self_harm=rule.kind == "self_harm",
            source=f"upload/{own.file_digest.hex()}/{place}",
            round_id=own.upload.round_id,
            upload_id=own.upload.id,
            file_digest=own.file_digest,
            place=place,
        )


def _schools_by_code(own: _Load, about: pl.DataFrame) -> dict[str, uuid.UUID]:
    """The schools that rows name, as far as the sender may send for them."""
    scope = access.scope_of(own.session)
    rows = own.session.execute(
        text("select code, id from schools where district_id = :district and code = any(:codes)"),
        {"district": scope.district_id, "codes": about.get_column("school_code").drop_nulls().unique().to_list()},
    )
    return {row.code: row.id for row in rows if scope.schools is None or row.id in scope.schools}


# -- problems ------------------------------------------------------------------------------------------------------


def _verdict_problems(rows: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    """A problem for each row that cannot be taken; a row without a number was named by the reader already."""
    return (
        rows.select("key", "sheet", "row", "student_number")
        .join(matched.select("key", "verdict"), on="key", how="left", maintain_order="left")
        .filter(pl.col("verdict").is_not_null() & pl.col("student_number").is_not_null())
        .select(
            "sheet",
            "row",
            pl.lit(None, pl.String).alias("column"),
            pl.col("verdict").alias("code"),
            pl.col("verdict").replace_strict(matching.MESSAGES, return_dtype=pl.String).alias("message"),
        )
    )


def _differs_problems(form: FormKey, rows: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    return (
        judged.filter(pl.col("outcome") == "differs")
        .select("key")
        .join(rows.select("key", "sheet", "row"), on="key", how="left", maintain_order="left")
        .select(
            "sheet",
            "row",
            pl.lit(form[0]).alias("column"),
            pl.lit("differs").alias("code"),
            pl.lit(
                f"Other answers to {form[0]} are stored for this student; these were not kept."
                " If they are right, a named person sends them as a correction."
            ).alias("message"),
        )
    )
