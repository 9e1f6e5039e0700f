"""Answers to result revisions: scores, decides the tier, appends what was decided from what.

The same frames serve one submitted form and a district's file. `key` numbers the students of one batch, 0 .. n-1.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from instruments import scoring
from instruments.definition import Instrument
from screening import access, rounds, tiers
from screening.copying import copy_in, copy_out, copy_pieces_in

_STUDENTS_AT_ONCE = 4_000
FormKey = tuple[str, str]
"""Instrument code and the name of its form (self, youth, parent, teacher)."""


@dataclass(frozen=True)
class Signal:
    """One reason why somebody should look at a student; what alerts are made of.

    `source` says where it comes from in a way that is the same when it comes again: result/<round>/<attempt>,
    safety_answer/<round>/<attempt>, upload/<file digest>/<place>, concern/<id>. A signal from a row that matched no
    student has `student_id` None and is found by `file_digest` and `place`.
    """

    student_id: uuid.UUID | None
    school_id: uuid.UUID | None
    rule: str
    tier: int
    is_self_harm: bool
    source: str
    round_id: uuid.UUID | None = None
    upload_id: uuid.UUID | None = None
    file_digest: bytes | None = None
    place: str | None = None
    sealed: bytes | None = None
    """What a person wrote, sealed."""


def item_ids(instrument: Instrument) -> list[str]:
    """The items in the order in which `administrations.answers` holds them."""
    return [item.id for item in instrument.items]


@dataclass(frozen=True)
class Revision:
    """A result revision that met rules, beside what the revision before it had met."""

    student_id: uuid.UUID
    school_id: uuid.UUID
    reasons: tuple[str, ...]
    reasons_before: tuple[str, ...]
    attempt: int
    is_new_attempt: bool


@dataclass(frozen=True)
class Revisions:
    """Result revisions of one round that were appended in this transaction."""

    round_id: uuid.UUID
    is_historical: bool
    relation: str
    """SQL that yields student_id, revision, school_id and tier of all of them; ours, never from outside."""
    parameters: dict[str, Any]
    with_reasons: tuple[Revision, ...]

    @classmethod
    def stored(cls, session: Session, round_id: uuid.UUID, student_id: uuid.UUID, revision: int) -> "Revisions":
        """One stored revision, read back with the one before it."""
        parameters = {
            "district": access.scope_of(session).district_id,
            "round": round_id,
            "student": student_id,
            "revision": revision,
        }
        row = session.execute(
            text(
                "select r.school_id, r.reasons, r.forms, coalesce(p.reasons, '{}') as reasons_before,"
                " coalesce(p.forms, '{}') as forms_before, o.is_historical"
                " from results r join rounds o on o.district_id = r.district_id and o.id = r.round_id"
                " left join results p on p.district_id = r.district_id and p.round_id = r.round_id"
                "  and p.student_id = r.student_id and p.revision = r.revision - 1"
                " where r.district_id = :district and r.round_id = :round and r.student_id = :student"
                "  and r.revision = :revision"
            ),
            parameters,
        ).one()
        attempt, before = latest_attempt(row.forms), latest_attempt(row.forms_before)
        return cls(
            round_id=round_id,
            is_historical=row.is_historical,
            relation=ONE_STORED,
            parameters=parameters,
            with_reasons=(
                Revision(
                    student_id,
                    row.school_id,
                    tuple(row.reasons),
                    tuple(row.reasons_before),
                    attempt,
                    attempt > before > 0,
                ),
            ),
        )


ONE_STORED = (
    "(select student_id, revision, school_id, tier from results where district_id = :district and round_id = :round"
    " and student_id = :student and revision = :revision)"
)


ONE_NEW = (
    "(select cast(:student as uuid) as student_id, cast(:revision as smallint) as revision,"
    " cast(:school as uuid) as school_id, cast(:tier as smallint) as tier)"
)
"""What was appended a moment ago, without reading it back."""


def latest_attempt(forms: Sequence[str]) -> int:
    """The highest attempt among the forms that a result names; 0 for none."""
    return max((int(form.split("/")[2]) for form in forms), default=0)


def informant_of(form: str) -> str:
    """Who fills in a form: the student answers both `self` and `youth` forms, on one assignment."""
    return "self" if form == "youth" else form


def form_of(instrument: Instrument, informant: str) -> str:
    """The instrument's form for this informant."""
    return "youth" if informant == "self" and "youth" in instrument.forms else informant


def scored(answers: pl.DataFrame, instrument: Instrument, form: str) -> pl.DataFrame:
    """`answers` (key, attempt, revision, one column per item) with the columns of `scoring.score` beside them."""
    return answers.hstack(scoring.score(answers, instrument, form))


def unpacked(administrations: pl.DataFrame, rules: rounds.Rules) -> dict[FormKey, pl.DataFrame]:
    """Stored administrations (key and ADMINISTRATION_COLUMNS) as scored frames by form."""
    frames: dict[FormKey, pl.DataFrame] = {}
    for (code, informant), group in administrations.group_by("instrument", "informant"):
        instrument = rules.instruments[str(code)]
        answers = group.with_columns(numbers("answers", pl.Int16)).select(
            "key",
            "attempt",
            "revision",
            *(pl.col("answers").list.get(i).alias(item) for i, item in enumerate(item_ids(instrument))),
        )
        form = form_of(instrument, str(informant))
        frames[instrument.code, form] = scored(answers, instrument, form)
    return frames


def decided(students: pl.DataFrame, forms: Mapping[FormKey, pl.DataFrame], rules: rounds.Rules) -> pl.DataFrame:
    """What the rules make of a batch: a row per student with at least one form.

    `students`: key (UInt32), age (Int16 or null), prior_tier (Int8). `forms`: by instrument and form, with key,
    attempt, revision and the scored columns. Returns key, age, prior_tier, tier, validity, reasons (list),
    has_self_harm, forms (list of instrument/informant/attempt/revision) and attempt (the highest).
    """
    labels = [
        frame.select(
            "key",
            pl.col("attempt").cast(pl.Int16),
            pl.format("{}/{}/{}/{}", pl.lit(code), pl.lit(informant_of(form)), "attempt", "revision").alias("label"),
        )
        for (code, form), frame in forms.items()
        if frame.height
    ]
    if not labels:
        return _NOTHING_DECIDED
    by_student = (
        pl.concat(labels)
        .group_by("key", maintain_order=False)
        .agg(pl.col("label").sort().alias("forms"), pl.col("attempt").max())
        .sort("key")
    )
    present = students.join(by_student.select("key"), on="key", how="semi").sort("key")
    verdicts = tiers.decide(present, forms, rules.policy, rules.instruments)
    return (
        present.select("key", "age", "prior_tier").hstack(verdicts.drop("key")).join(by_student, on="key", how="left")
    )


_NOTHING_DECIDED = pl.DataFrame(
    schema={
        "key": pl.UInt32,
        "age": pl.Int16,
        "prior_tier": pl.Int8,
        "tier": pl.Int8,
        "reasons": pl.List(pl.String),
        "has_self_harm": pl.Boolean,
        "validity": pl.String,
        "forms": pl.List(pl.String),
        "attempt": pl.Int16,
    }
)


def answers_text(instrument: Instrument) -> pl.Expr:
    """`administrations.answers` as PostgreSQL writes it: the codes in the definition's order, NULL for a blank."""
    return _array_text([pl.col(item) for item in item_ids(instrument)])


def scores_text(instrument: Instrument) -> pl.Expr:
    """`administrations.scores` as PostgreSQL reads it: one number per scale, in the definition's order."""
    return _array_text([pl.col(scale.id) for scale in instrument.scales])


def _array_text(columns: Sequence[pl.Expr]) -> pl.Expr:
    numbers = pl.concat_str([column.cast(pl.String).fill_null("NULL") for column in columns], separator=",")
    return pl.concat_str([pl.lit("{"), numbers, pl.lit("}")])


def numbers(array_text: str, dtype: type[pl.DataType]) -> pl.Expr:
    """A column of PostgreSQL's array texts ({1,NULL,3}) as lists."""
    return pl.col(array_text).str.strip_chars("{}").str.split(",").list.eval(pl.element().cast(dtype, strict=False))


ADMINISTRATION_COLUMNS: dict[str, type[pl.DataType]] = {
    "student_id": pl.String,
    "instrument": pl.String,
    "informant": pl.String,
    "attempt": pl.Int16,
    "revision": pl.Int16,
    "status": pl.String,
    "answers": pl.String,
    "scores": pl.String,
}


def administrations(session: Session, round_id: uuid.UUID, students: list[str]) -> pl.DataFrame:
    """All stored administrations of these students (ids as text) in a round, every revision.

    A frame of ADMINISTRATION_COLUMNS; answers and scores are PostgreSQL's array texts.
    """
    return copy_out(
        session,
        "select student_id, instrument, informant, attempt, revision, status, answers, scores"
        " from administrations where district_id = %s and round_id = %s and student_id = any(%s::uuid[])"
        " and (%s::uuid[] is null or school_id = any(%s::uuid[]))",
        (access.scope_of(session).district_id, round_id, students, *_schools_twice(session)),
        ADMINISTRATION_COLUMNS,
    )


def _schools_twice(session: Session) -> tuple[list[uuid.UUID] | None, list[uuid.UUID] | None]:
    """What `access.within` says, where parameters have no names."""
    schools = access.schools_of(session)
    return schools, schools


# -- appending many ------------------------------------------------------------------------------------------------


def begin(session: Session) -> None:
    """Makes the temporary tables through which many forms and results are appended in one transaction."""
    session.execute(
        text(
            "create temp table new_forms (student_id uuid, school_id uuid, instrument text, informant text,"
            " attempt smallint, revision smallint, answers smallint[], status text, missing_count smallint,"
            " scores real[]) on commit drop"
        )
    )
    session.execute(
        text(
            "create temp table new_results (student_id uuid, school_id uuid, revision smallint, tier smallint,"
            " validity text, reasons text[], forms text[], prior_tier smallint, age smallint) on commit drop"
        )
    )


def send_forms(
    session: Session, forms: Mapping[FormKey, pl.DataFrame], matched: pl.DataFrame, rules: rounds.RoundRules
) -> None:
    """Brings forms to the database: frames by form, as `scored` makes them, each with one row for every `key` from 0
    on in order, of which `is_kept` are sent. In the order of the indexes: what comes one after the other goes onto the
    same page."""
    session.execute(text("truncate new_forms"))
    order = matched.filter(pl.col("student_id").is_not_null()).select("key", "student_id", "school_id")
    pieces = order.sort("student_id").iter_slices(_STUDENTS_AT_ONCE)
    copy_pieces_in(session, "new_forms", (_as_stored(forms, piece, rules) for piece in pieces))


def _as_stored(forms: Mapping[FormKey, pl.DataFrame], students: pl.DataFrame, rules: rounds.Rules) -> pl.DataFrame:
    """What of these students is kept, in the columns of `new_forms`."""
    found = []
    for (code, form), frame in forms.items():
        instrument = rules.instruments[code]
        needed = frame.select(
            *item_ids(instrument),
            *(scale.id for scale in instrument.scales),
            *("attempt", "revision", "status", "n_missing", "is_kept"),
        )
        own = pl.concat([students.drop("key"), needed[students.get_column("key")]], how="horizontal")
        found.append(
            own.filter("is_kept").select(
                "student_id",
                "school_id",
                pl.lit(code).alias("instrument"),
                pl.lit(informant_of(form)).alias("informant"),
                "attempt",
                "revision",
                answers_text(instrument).alias("answers"),
                pl.col("status").cast(pl.String),
                pl.col("n_missing").alias("missing_count"),
                scores_text(instrument).alias("scores"),
            )
        )
    return pl.concat(found, how="vertical_relaxed").sort("student_id", maintain_order=True)


def append_forms(
    session: Session,
    *,
    rules: rounds.RoundRules,
    upload_id: uuid.UUID,
    recorded_by: uuid.UUID | None,
    at: dt.datetime,
) -> None:
    """Appends what was sent, as administrations."""
    session.execute(
        text(
            "insert into administrations (district_id, round_id, student_id, informant, instrument, attempt, revision,"
            " school_id, answers, status, missing_count, scores, upload_id, recorded_by, recorded_at)"
            " select :district, :round, f.student_id, f.informant, f.instrument, f.attempt, f.revision, f.school_id,"
            "  f.answers, f.status, f.missing_count, f.scores, :upload, :by, :at from new_forms f"
        ),
        {
            "district": access.scope_of(session).district_id,
            "round": rules.round_id,
            "upload": upload_id,
            "by": recorded_by,
            "at": at,
        },
    )


def _by_student(rows: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    """With student_id and school_id in the place of `key`, in the order of the indexes."""
    return matched.select("key", "student_id", "school_id").join(rows, on="key").drop("key").sort("student_id")


@dataclass(frozen=True)
class Drawn:
    """Result revisions that are ready to be appended."""

    rows: pl.DataFrame
    """In the columns of `new_results`."""
    with_reasons: tuple[Revision, ...]


def drawn_up(verdicts: pl.DataFrame, matched: pl.DataFrame, before: pl.DataFrame | None = None) -> Drawn:
    """A revision for each verdict of `decided`, above what `standing` found of each student of `matched`."""
    above = verdicts.join(
        _NOTHING_STANDING if before is None else before, on="key", how="left", maintain_order="left"
    ).with_columns((pl.col("revision_before").fill_null(0) + 1).alias("revision"))
    lists = [pl.concat_str([pl.lit("{"), pl.col(c).list.join(","), pl.lit("}")]).alias(c) for c in ("reasons", "forms")]
    columns = ("key", "revision", "tier", "validity", "reasons", "forms", "prior_tier", "age")
    rows = above.with_columns(lists).select(columns)
    return Drawn(_by_student(rows, matched), _with_reasons(above, matched))


def append_results(
    session: Session,
    drawn: Drawn,
    *,
    rules: rounds.RoundRules,
    upload_id: uuid.UUID,
    recorded_by: uuid.UUID | None,
    at: dt.datetime,
) -> Revisions:
    """Appends what was drawn up."""
    session.execute(text("truncate new_results"))
    copy_in(session, "new_results", drawn.rows)
    parameters = {"district": access.scope_of(session).district_id, "round": rules.round_id}
    session.execute(
        text(
            "insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons,"
            " forms, prior_tier, age, rule_set_id, upload_id, recorded_by, recorded_at)"
            " select :district, :round, n.student_id, n.revision, n.school_id, n.tier, n.validity, n.reasons, n.forms,"
            "  n.prior_tier, n.age, :rules, :upload, :by, :at from new_results n"
        ),
        parameters | {"rules": rules.rule_set_id, "upload": upload_id, "by": recorded_by, "at": at},
    )
    return Revisions(
        round_id=rules.round_id,
        is_historical=rules.is_historical,
        relation=NEWLY_LOADED,
        parameters=parameters,
        with_reasons=drawn.with_reasons,
    )


NEWLY_LOADED = "new_results"
"""What `append_results` appended last, in its order."""
_STANDING: dict[str, type[pl.DataType]] = {
    "student_id": pl.String,
    "revision_before": pl.Int16,
    "reasons_before": pl.String,
    "attempt_before": pl.Int16,
}
_NOTHING_STANDING = pl.DataFrame(
    schema={
        "key": pl.UInt32,
        "revision_before": pl.Int16,
        "reasons_before": pl.List(pl.String),
        "attempt_before": pl.Int16,
    }
)


def standing(session: Session, round_id: uuid.UUID, verdicts: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    """The highest stored revision of each student who has a verdict: its number, its reasons, its latest attempt."""
    students = matched.join(verdicts.select("key"), on="key", how="semi").select("key", "student_id")
    found = copy_out(
        session,
        "select distinct on (student_id) student_id, revision, array_to_string(reasons, ','),"
        " (select max(split_part(f, '/', 3)::smallint) from unnest(forms) f)"
        " from results where district_id = %s and round_id = %s and student_id = any(%s::uuid[])"
        " and (%s::uuid[] is null or school_id = any(%s::uuid[])) order by student_id, revision desc",
        (
            access.scope_of(session).district_id,
            round_id,
            students.get_column("student_id").to_list(),
            *_schools_twice(session),
        ),
        _STANDING,
    )
    return found.join(students, on="student_id").select(
        "key",
        "revision_before",
        pl.col("reasons_before").fill_null("").str.split(",").list.filter(pl.element() != "").alias("reasons_before"),
        "attempt_before",
    )


def _with_reasons(above: pl.DataFrame, matched: pl.DataFrame) -> tuple[Revision, ...]:
    rows = (
        above.filter(pl.col("reasons").list.len() > 0)
        .select("key", "reasons", "reasons_before", "attempt", "attempt_before")
        .join(matched.select("key", "student_id", "school_id"), on="key")
    )
    return tuple(
        Revision(
            student_id=uuid.UUID(student),
            school_id=uuid.UUID(school),
            reasons=tuple(reasons),
            reasons_before=tuple(reasons_before or ()),
            attempt=attempt,
            is_new_attempt=attempt_before is not None and attempt > attempt_before,
        )
        for _, reasons, reasons_before, attempt, attempt_before, student, school in rows.iter_rows()
    )
