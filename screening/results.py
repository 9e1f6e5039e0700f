"""Stored answers to result revisions: scores, decides the tier, appends what was decided from what; replays it.

The same frames serve one submitted form and a district's file. `key` numbers the students of one batch, 0 .. n-1.
"""

import datetime as dt
import io
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from instruments import scoring
from instruments.definition import Instrument
from screening import access, rounds, tiers
from screening.db import psycopg_connection

FormKey = tuple[str, str]
"""Instrument code and the name of its form (self, youth, parent, teacher)."""

SCORABLE = ("scored", "prorated", "scored_blanks_as_0")


@dataclass(frozen=True)
class Signal:
    """One reason why somebody should look at a student; what alerts are made of.

    `source` says where it comes from in a way that is the same when it comes again: result/<round>/<attempt>,
    safety_answer/<assignment>/<item>, upload/<file digest>/<place>, concern/<id>. A signal from a row that matched no
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


def item_ids(instrument: Instrument) -> list[str]:
    """The items in the order in which `administrations.answers` holds them."""
    return [item.id for item in instrument.items]


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
    """Stored administrations (key, instrument, informant, attempt, revision, answers list) as scored frames by form."""
    frames: dict[FormKey, pl.DataFrame] = {}
    for (code, informant), group in administrations.group_by("instrument", "informant"):
        instrument = rules.instruments[str(code)]
        answers = group.select(
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


def scores_expression(instrument: Instrument) -> pl.Expr:
    """`administrations.scores`: one number per scale, in the definition's order."""
    return pl.concat_list([pl.col(scale.id).cast(pl.Float32) for scale in instrument.scales])


# -- replay --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """What came of deriving stored results again: how many, and which differ (round, student, revision)."""

    replayed: int
    differences: tuple[tuple[uuid.UUID, uuid.UUID, int], ...]


def replay(session: Session, *, since: dt.datetime | None = None, batch: int = 50_000) -> Replay:
    """Derives every stored result of the scope again from its stored inputs, with the rules it was decided under.

    `since` leaves out what was recorded before it. A difference is any other tier, validity, reasons, or stored
    score of a form it was decided from. Reads only; memory is bounded by `batch` results.
    """
    replayed = 0
    differences: list[tuple[uuid.UUID, uuid.UUID, int]] = []
    for round_id in _rounds_with_results(session, since):
        for results in _result_batches(session, round_id, since, batch):
            replayed += results.height
            differences += _differing(session, round_id, results)
    return Replay(replayed, tuple(differences))


def _rounds_with_results(session: Session, since: dt.datetime | None) -> list[uuid.UUID]:
    return list(
        session.execute(
            text(
                "select distinct round_id from results where district_id = :district"
                " and (cast(:since as timestamptz) is null or recorded_at >= :since) order by round_id"
            ),
            {"district": access.scope_of(session).district_id, "since": since},
        ).scalars()
    )


def _result_batches(
    session: Session, round_id: uuid.UUID, since: dt.datetime | None, batch: int
) -> Iterator[pl.DataFrame]:
    district_id = access.scope_of(session).district_id
    after: tuple[str, int] = (str(uuid.UUID(int=0)), 0)
    while True:
        found = session.execute(
            text(
                "select student_id::text as student_id, revision, tier, validity, reasons, forms, prior_tier, age,"
                " rule_set_id::text as rule_set_id from results"
                " where district_id = :district and round_id = :round"
                " and (cast(:since as timestamptz) is null or recorded_at >= :since)"
                " and (student_id, revision) > (cast(:student as uuid), cast(:revision as smallint))"
                " order by student_id, revision limit :batch"
            ),
            {
                "district": district_id,
                "round": round_id,
                "since": since,
                "student": after[0],
                "revision": after[1],
                "batch": batch,
            },
        ).all()
        if not found:
            return
        after = (found[-1].student_id, found[-1].revision)
        yield pl.DataFrame(
            [tuple(row) for row in found],
            orient="row",
            schema={
                "student_id": pl.String,
                "revision": pl.Int16,
                "tier": pl.Int8,
                "validity": pl.String,
                "reasons": pl.List(pl.String),
                "forms": pl.List(pl.String),
                "prior_tier": pl.Int8,
                "age": pl.Int16,
                "rule_set_id": pl.String,
            },
        ).with_row_index("key")


def _differing(session: Session, round_id: uuid.UUID, results: pl.DataFrame) -> list[tuple[uuid.UUID, uuid.UUID, int]]:
    differing: list[tuple[uuid.UUID, uuid.UUID, int]] = []
    used = _administrations_used(session, round_id, results)
    for (rule_set_id,), group in results.group_by("rule_set_id"):
        rules = rounds.rules(session, uuid.UUID(str(rule_set_id)))
        own = used.join(group.select("key"), on="key", how="semi")
        forms = unpacked(own, rules)
        again = decided(group.select("key", "age", "prior_tier"), forms, rules)
        wrong_scores = {key for code, frame in forms.items() for key in _keys_of_other_scores(own, code, frame, rules)}
        compared = group.join(again, on="key", how="left", suffix="_again").with_columns(
            same=(
                pl.col("tier").eq_missing(pl.col("tier_again"))
                & pl.col("validity").eq_missing(pl.col("validity_again"))
                & pl.col("reasons").list.join(",").eq_missing(pl.col("reasons_again").list.join(","))
                & pl.col("forms").list.sort().list.join(",").eq_missing(pl.col("forms_again").list.join(","))
            )
            & ~pl.col("key").is_in(list(wrong_scores))
        )
        differing += [
            (round_id, uuid.UUID(student), revision)
            for student, revision in compared.filter(~pl.col("same")).select("student_id", "revision").iter_rows()
        ]
    return differing


def _keys_of_other_scores(stored: pl.DataFrame, form: FormKey, again: pl.DataFrame, rules: rounds.Rules) -> list[int]:
    instrument = rules.instruments[form[0]]
    labelled = again.select(
        "key",
        "attempt",
        "revision",
        pl.col("status").cast(pl.String).alias("status_again"),
        scores_expression(instrument).alias("scores_again"),
    )
    compared = stored.filter((pl.col("instrument") == form[0]) & (pl.col("informant") == informant_of(form[1]))).join(
        labelled, on=["key", "attempt", "revision"]
    )
    return (
        compared.filter((pl.col("status") != pl.col("status_again")) | (_joined("scores") != _joined("scores_again")))
        .get_column("key")
        .to_list()
    )


def _joined(scores: str) -> pl.Expr:
    return pl.col(scores).list.eval(pl.element().cast(pl.Float32).cast(pl.String).fill_null("-")).list.join(",")


def _administrations_used(session: Session, round_id: uuid.UUID, results: pl.DataFrame) -> pl.DataFrame:
    """The administrations that a batch of results names in `forms`, one row for each result that used it."""
    named = (
        results.select("key", "student_id", pl.col("forms").alias("form"))
        .explode("form")
        .with_columns(pl.col("form").str.split("/"))
        .select(
            "key",
            "student_id",
            pl.col("form").list.get(0).alias("instrument"),
            pl.col("form").list.get(1).alias("informant"),
            pl.col("form").list.get(2).cast(pl.Int16).alias("attempt"),
            pl.col("form").list.get(3).cast(pl.Int16).alias("revision"),
        )
    )
    students = results.get_column("student_id").unique().sort().to_list()
    stored = administrations(session, round_id, students)
    return named.join(stored, on=["student_id", "instrument", "informant", "attempt", "revision"], how="inner")


ADMINISTRATION_COLUMNS = {
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
    """All stored administrations of these students (ids as text) in a round, every revision, as a frame."""
    connection = psycopg_connection(session)
    buffer = io.BytesIO()
    query = (
        "copy (select student_id, instrument, informant, attempt, revision, status, answers, scores"
        " from administrations where district_id = %s and round_id = %s and student_id = any(%s::uuid[]))"
        " to stdout (format csv)"
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(query, (access.scope_of(session).district_id, round_id, students)) as copy,
    ):
        for part in copy:
            buffer.write(part)
    return with_lists(read_copy(buffer, ADMINISTRATION_COLUMNS))


def read_copy(buffer: io.BytesIO, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    """What COPY .. TO STDOUT (FORMAT CSV) wrote, as a frame of this schema."""
    if buffer.tell() == 0:
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema)


def with_lists(rows: pl.DataFrame) -> pl.DataFrame:
    """PostgreSQL's array texts of `answers` and `scores` ({1,NULL,3}) as lists."""
    return rows.with_columns(
        pl.col("answers").str.strip_chars("{}").str.split(",").list.eval(pl.element().cast(pl.Int16, strict=False)),
        pl.col("scores").str.strip_chars("{}").str.split(",").list.eval(pl.element().cast(pl.Float32, strict=False)),
    )
