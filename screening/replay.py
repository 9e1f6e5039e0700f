"""Derives stored results again from stored answers, with the rules they were decided under, and names what differs."""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, policy, results, rounds


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
        for revisions in _batches(session, round_id, since, batch):
            replayed += revisions.height
            differences += _differing(session, round_id, revisions)
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


def _batches(session: Session, round_id: uuid.UUID, since: dt.datetime | None, batch: int) -> Iterator[pl.DataFrame]:
    district_id = access.scope_of(session).district_id
    after: tuple[str, int] = (str(uuid.UUID(int=0)), 0)
    while True:
        found = session.execute(
            text(
                "select student_id::text as student_id, revision, tier, validity, reasons, forms, prior_tier, age,"
                " rule_set_id::text as rule_set_id, model_tier from results"
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
                "model_tier": pl.Int8,
            },
        ).with_row_index("key")


def _differing(
    session: Session, round_id: uuid.UUID, revisions: pl.DataFrame
) -> list[tuple[uuid.UUID, uuid.UUID, int]]:
    differing: list[tuple[uuid.UUID, uuid.UUID, int]] = []
    used = _administrations_used(session, round_id, revisions)
    for (rule_set_id,), group in revisions.group_by("rule_set_id"):
        rules = rounds.rules(session, uuid.UUID(str(rule_set_id)))
        own = used.join(group.select("key"), on="key", how="semi")
        forms = results.unpacked(own, rules)
        again = results.decided(group.select("key", "age", "prior_tier"), forms, rules)
        wrong_scores = {key for code, frame in forms.items() for key in _keys_of_other_scores(own, code, frame, rules)}
        compared = group.join(_as_raised(again, group), on="key", how="left", suffix="_again").with_columns(
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


def _as_raised(again: pl.DataFrame, revisions: pl.DataFrame) -> pl.DataFrame:
    """What the rules say with what a model added then: a tier it raised to, and the reason that says so."""
    raised = again.join(revisions.select("key", "model_tier"), on="key", how="left")
    named = pl.concat_list(
        pl.col("model_tier").replace_strict({1: policy.model_reason(1), 2: policy.model_reason(2)}, default=None)
    ).cast(pl.List(pl.String))
    return raised.with_columns(
        pl.max_horizontal("tier", pl.col("model_tier").fill_null(0)).cast(pl.Int8).alias("tier"),
        pl.when(pl.col("model_tier").is_null())
        .then(pl.col("reasons"))
        .otherwise(pl.concat_list("reasons", named))
        .alias("reasons"),
    ).drop("model_tier")


def _keys_of_other_scores(
    stored: pl.DataFrame, form: results.FormKey, again: pl.DataFrame, rules: rounds.Rules
) -> list[int]:
    instrument = rules.instruments[form[0]]
    labelled = again.select(
        "key",
        "attempt",
        "revision",
        pl.col("status").cast(pl.String).alias("status_again"),
        results.scores_text(instrument).alias("scores_again"),
    )
    compared = stored.filter(
        (pl.col("instrument") == form[0]) & (pl.col("informant") == results.informant_of(form[1]))
    ).join(labelled, on=["key", "attempt", "revision"])
    other = (pl.col("status") != pl.col("status_again")) | (_as_held("scores") != _as_held("scores_again"))
    return compared.filter(other).get_column("key").to_list()


def _as_held(scores: str) -> pl.Expr:
    """An array text with its numbers as the database holds them, so that 2.5 and 2.50 are one."""
    held = results.numbers(scores, pl.Float32).list.eval(pl.element().cast(pl.String).fill_null("NULL"))
    return held.list.join(",")


def _administrations_used(session: Session, round_id: uuid.UUID, revisions: pl.DataFrame) -> pl.DataFrame:
    """The administrations that a batch of results names in `forms`, one row for each result that used it."""
    named = (
        revisions.select("key", "student_id", pl.col("forms").alias("form"))
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
    students = revisions.get_column("student_id").unique().sort().to_list()
    stored = results.administrations(session, round_id, students)
    return named.join(stored, on=["student_id", "instrument", "informant", "attempt", "revision"], how="inner")
