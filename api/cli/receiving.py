"""Files that come in, lists of students and answers for a round: received, done at once, and answered."""

import threading
import time
import uuid
from typing import Annotated

import typer

from api.cli import finding
from api.cli.finding import DistrictCode, InputFile, RoundName, SchoolCode
from api.terminal import NO, AsJson, Map, answer, bar, ignored, in_words, mapping, pieces
from screening import access, db
from screening.db import Database


@in_words
def roster(
    file: InputFile,
    district: DistrictCode = None,
    school: SchoolCode = None,
    columns: Map = None,
    commit: Annotated[bool, typer.Option("--commit", help="Do at once what the proposal says.")] = False,
    as_json: AsJson = False,
) -> int:
    """A list of students: what it would change, and with --commit, changes it."""
    from alerts import following
    from screening import roster as rosters

    with finding.database() as database:
        scope, by = finding.district(database, district)
        with database.unit(scope) as session, file.open("rb") as content:
            received = rosters.receive(
                session,
                pieces(content, ignored),
                file.name,
                by=by,
                school_id=finding.school(session, school),
                column_map=mapping(columns),
            )
        while not _is_proposed(database, scope, received.id):
            if not rosters.propose(database, scope.district_id, received.id):
                time.sleep(0.2)  # a worker has it
        with database.unit(scope) as session:
            found = rosters.proposal(session, received.id)
        is_refused = found.roster.state == "refused"
        if commit and not is_refused:
            with database.unit(scope) as session:
                on = db.now(session).astimezone(database.timezone).date()
                rosters.commit(session, received.id, by=by, on=on, follow=following.follow)
    state = "refused" if is_refused else "committed" if commit else "proposed"
    told = {"roster": str(received.id), "state": state, **found.counts}
    answer(told, found.problems, as_json=as_json)
    return NO if is_refused else 0


@in_words
def upload(
    file: InputFile,
    round_name: RoundName,
    columns: Map = None,
    school: SchoolCode = None,
    district: DistrictCode = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, keep nothing.")] = False,
    correction: Annotated[bool, typer.Option("--correction", help="Other answers correct stored ones.")] = False,
    as_json: AsJson = False,
) -> int:
    """A file of answers for a round: stored, loaded, and answered with its receipt."""
    from screening import intake

    with finding.database() as database:
        scope, by = finding.district(database, district)
        size = file.stat().st_size
        with bar("stored", total=size) as advance, file.open("rb") as content, database.unit(scope) as session:
            received = intake.receive(
                session,
                finding.round_named(session, round_name).id,
                pieces(content, advance),
                file_name=file.name,
                by=by,
                school_id=finding.school(session, school),
                column_map=mapping(columns),
                is_dry_run=dry_run,
                is_correction=correction,
            )
        _load(database, scope.district_id, received.id)
        with database.unit(scope) as session:
            ended = intake.get(session, received.id)
            problems = intake.problems(session, received.id)
    answer({"upload": str(ended.id), **(ended.receipt or {})}, problems, as_json=as_json)
    return 0 if ended.state == "loaded" else NO


def _is_proposed(database: Database, scope: access.Scope, roster_id: uuid.UUID) -> bool:
    from screening import roster as rosters

    with database.unit(scope) as session:
        return rosters.get(session, roster_id).state != "received"


def _load(database: Database, district_id: uuid.UUID, upload_id: uuid.UUID) -> None:
    """Loads it here unless a worker does; returns when there is a receipt."""
    from alerts import raising
    from screening import intake

    failed: list[BaseException] = []

    def work() -> None:
        try:
            intake.load(database, district_id, upload_id, weigh=raising.weigh_load)
        except Exception as error:
            failed.append(error)

    with bar("loaded", total=100) as advance:
        shown = 0
        while True:
            loader = threading.Thread(target=work)
            loader.start()
            while loader.is_alive():
                loader.join(0.1)
                with database.unit(access.Scope(district_id)) as session:
                    stands = intake.get(session, upload_id)
                advance(max(0, round(stands.progress * 100) - shown))
                shown = max(shown, round(stands.progress * 100))
            if failed:
                raise failed[0]
            with database.unit(access.Scope(district_id)) as session:
                if intake.get(session, upload_id).state != "received":
                    advance(100 - shown)
                    return
            time.sleep(0.2)  # a worker has it
