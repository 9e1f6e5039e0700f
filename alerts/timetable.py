"""One table of what the worker does: job name, rhythm, function. Every job does all that is due, and twice is once."""

import datetime as dt
import logging
import traceback
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from polars.exceptions import PanicException
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import (
    breadth,
    check_ins,
    delivery,
    digests,
    escalation,
    follow_ups,
    following,
    model_checks,
    probes,
    raising,
    rescreens,
    routine_chats,
    routing,
)
from screening import (
    access,
    audit,
    audit_chain,
    backup,
    codes,
    coverage,
    embedded,
    erasure,
    files,
    guesses,
    intake,
    retention,
    rights,
    roster,
    rounds,
    sessions,
)
from screening.db import Database
from screening.models import District
from screening.risk_model import speaking
from screening.settings import Settings

log = logging.getLogger(__name__)

Run = Callable[[Database, uuid.UUID, dt.datetime, Settings], Sequence[str]]
"""Does what is due in one district at that time, in units of its own; answers what a watchdog has to shout."""


@dataclass(frozen=True)
class Job:
    name: str
    every: dt.timedelta
    run: Run
    is_for_nowhere: bool = False
    """Whether it has work, too, for what is under no district: refusals of whom nobody knew."""


def send_probe(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """Nothing to do but in the district of the probes; a worker makes that one when it begins."""
    with _unit(database, district_id) as session:
        district = session.get(District, district_id)
    if district is not None and district.is_probe:
        probes.run(database, district_id, now=now)
    return ()


def load_rosters(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    roster.propose_waiting(database, district_id)
    return ()


def load_uploads(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    intake.load_waiting(database, district_id, weigh=raising.weigh_load)
    return ()


def weigh_results(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """The net under the doors: whatever it finds was forgotten by one of them, and that is worth a shout."""
    with _unit(database, district_id) as session:
        found = raising.sweep(session, now=now)
    return [f"results_unweighed {found}"] if found else ()


def follow_students(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """The net under those who move or tie students: an alert that was raised while its student was on the way."""
    with _unit(database, district_id) as session:
        following.follow(session, None, access.system(district_id), now)
    return ()


def ask_models(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """After the rules have committed; a model that fails leaves a word here, and every tier as it was."""
    for _ in range(_ASKED_AT_MOST):
        with _unit(database, district_id) as session:
            said = speaking.speak(session, now=now)
            for revisions in said.raised:
                policy = rounds.rules_of(session, revisions.round_id).policy
                raising.weigh(session, revisions, now=now, policy=policy)
        if said.problems or not said.asked:
            return said.problems
    return ()


def check_models(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        return model_checks.check_due(session, now=now)


def draw_routine_chats(
    database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings
) -> Sequence[str]:
    with _unit(database, district_id) as session:
        routine_chats.draw_due(session, now=now)
    return ()


_ASKED_AT_MOST = 50
"""Batches in one go; other jobs wait for the same thread."""


def plan_check_ins(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        check_ins.plan_due(session, now=now)
    return ()


def ring_for_rescreens(
    database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings
) -> Sequence[str]:
    with _unit(database, district_id) as session:
        rescreens.raise_overdue(session, now=now)
    return ()


def open_and_close_rounds(
    database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings
) -> Sequence[str]:
    with _unit(database, district_id) as session:
        rounds.open_due(session, now)
    with _unit(database, district_id) as session:
        rounds.close_due(session, now)
    return ()


def let_follow_ups_fall_due(
    database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings
) -> Sequence[str]:
    with _unit(database, district_id) as session:
        follow_ups.fall_due(session, now=now)
    return ()


def escalate(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    climbed = escalation.BATCH
    while climbed == escalation.BATCH:
        with _unit(database, district_id) as session:
            climbed = escalation.escalate(session, now=now)
    with _unit(database, district_id) as session:
        return [f"rota_empty {code}" for code in routing.schools_unheard(session, now=now)]


def put_digests(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        digests.put_due(session, now=now)
    return ()


def deliver(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    delivery.deliver_all(database, district_id, settings, now=now)
    with _unit(database, district_id) as session:
        return delivery.problems(session, now=now)


def count_coverage(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        parts = session.execute(_OPEN_PARTS, {"district": district_id}).all()
    for part in parts:
        with _unit(database, district_id) as session:
            coverage.recount(session, part.round_id, part.schools, now)
    return ()


def erase_files(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        roster.forget_due(session, now)
    with _unit(database, district_id) as session:
        files.erase_due(session, now)
    return ()


def erase_due(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    erasure.erase_due(database, district_id, now, settings.ledgers / erasure.FOLDER)
    return ()


def retain(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """Queues who is beyond the policy's periods; the erasures themselves are the next job's."""
    with _unit(database, district_id) as session:
        retention.ask_due(session, now=now)
    return ()


def watch_rights(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        late = rights.overdue(session, now=now)
    return [f"rights_unanswered {late}"] if late else ()


def watch_breadth(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    with _unit(database, district_id) as session:
        breadth.watch(session, now=now)
    return ()


def seal_audit(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    audit_chain.seal(database, district_id)
    return ()


def dump_nightly(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """One dump a night of the whole embedded database: of one's own server others make backups, as its owner."""
    is_night = now.astimezone(settings.timezone).hour >= DUMP_HOUR
    if district_id != audit.NOWHERE or settings.backup_target is None or not settings.is_embedded or not is_night:
        return ()
    public_key = backup.read_public_key(settings.backup_key_file)
    with embedded.start(settings.home) as server:
        on = now.astimezone(settings.timezone).date()
        backup.dump_nightly(server.owner_url, settings.backup_target, public_key, on)
    return ()


def write_heads(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    return audit_chain.write_heads(database, district_id, settings.ledgers / audit_chain.FOLDER)


def forget_sign_ins(database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    """Sessions and codes belong to no district's walls: whichever district comes first clears them for all."""
    with database.unit() as session:
        sessions.forget(session)
        codes.forget(session)
        guesses.forget(session)
    return ()


DUMP_HOUR = 2
"""From this hour on the night's dump is made; a worker that was down makes it when it is back."""
_SECOND, _MINUTE = dt.timedelta(seconds=1), dt.timedelta(minutes=1)

JOBS: tuple[Job, ...] = (
    Job("rosters", 2 * _SECOND, load_rosters),
    Job("rounds", _MINUTE, open_and_close_rounds),
    Job("uploads", 2 * _SECOND, load_uploads),
    Job("weighing", _MINUTE, weigh_results),
    Job("models", 30 * _SECOND, ask_models),
    Job("routine_chats", 60 * _MINUTE, draw_routine_chats),
    Job("model_checks", 6 * 60 * _MINUTE, check_models),
    Job("following", _MINUTE, follow_students),
    Job("check_ins", 60 * _MINUTE, plan_check_ins),
    Job("rescreens", 60 * _MINUTE, ring_for_rescreens),
    Job("follow_ups", _MINUTE, let_follow_ups_fall_due),
    Job("escalation", 15 * _SECOND, escalate),
    Job("digests", _MINUTE, put_digests),
    Job("probes", _MINUTE, send_probe),
    Job("deliveries", 2 * _SECOND, deliver),
    Job("coverage", 10 * _MINUTE, count_coverage),
    Job("erasure", 60 * _MINUTE, erase_files),
    Job("retention", 60 * _MINUTE, retain),
    Job("erasures", 15 * _MINUTE, erase_due),
    Job("rights", 60 * _MINUTE, watch_rights),
    Job("breadth", _MINUTE, watch_breadth),
    Job("sign_ins", 60 * _MINUTE, forget_sign_ins),
    Job("sealing", 5 * _SECOND, seal_audit, is_for_nowhere=True),
    Job("heads", 5 * _SECOND, write_heads, is_for_nowhere=True),
    Job("dump", 30 * _MINUTE, dump_nightly, is_for_nowhere=True),
)
"""In the order in which `worker --once` runs them: what comes in first, what goes out of it after."""


def run_due(
    database: Database,
    now: dt.datetime,
    settings: Settings,
    *,
    only: Collection[str] | None = None,
    is_ending: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """Runs these jobs (all, when none are named) in every district, and beats their hearts.

    Returns the problems by job. A job that fails in one district stops neither the next district nor the next job.
    When the process `is_ending`, no further district is begun: whoever comes after does what is due in all of them.
    """
    with database.unit() as session:
        districts = [(row.id, row.code) for row in session.execute(select(District.id, District.code))]
    found = {}
    for job in JOBS:
        if only is not None and job.name not in only:
            continue
        problems = [
            f"{code}: {problem}"
            for district_id, code in [*districts, *([(audit.NOWHERE, "nowhere")] if job.is_for_nowhere else [])]
            if not is_ending()
            for problem in _run(job, database, district_id, now, settings)
        ]
        if is_ending():
            break
        _beat(database, job, now, problems)
        if problems:
            found[job.name] = "; ".join(problems)
    return found


def _run(job: Job, database: Database, district_id: uuid.UUID, now: dt.datetime, settings: Settings) -> Sequence[str]:
    try:
        return job.run(database, district_id, now, settings)
    except (Exception, PanicException) as error:
        # The message of a database error may hold values of rows: only its kind and its place are kept.
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind, where = type(error).__name__, f"{Path(place.filename).name}:{place.lineno}"
        log.error("job failed: %s in district %s: %s at %s", job.name, district_id, kind, where)
        return [f"failed {kind} at {where}"]


_BEAT = text(
    "insert into heartbeats (name, beat_at, problem) values (:name, :now, :problem)"
    " on conflict (name) do update set beat_at = greatest(heartbeats.beat_at, excluded.beat_at),"
    " problem = excluded.problem"
)
_OPEN_PARTS = text(
    "select round_id, array_agg(school_id order by school_id) as schools from openings"
    " where district_id = :district and state = 'open' group by round_id order by round_id"
)


def _beat(database: Database, job: Job, now: dt.datetime, problems: Sequence[str]) -> None:
    problem = "; ".join(problems)[:2000] or None
    with database.unit() as session:
        session.execute(_BEAT, {"name": job.name, "now": now, "problem": problem})


def _unit(database: Database, district_id: uuid.UUID) -> AbstractContextManager[Session]:
    return database.unit(access.Scope(district_id))
