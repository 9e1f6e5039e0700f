"""What is looked through and found to hold or not: the service, stored results, the account of who did what."""

import contextlib
import datetime as dt
import uuid
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select

from api.cli import finding
from api.cli.finding import DistrictCode
from api.terminal import NO, SHOWN_PROBLEMS, in_words, say, tell, wrong
from screening import access, db
from screening.db import Database
from screening.models import District
from screening.settings import Settings

accounts_kept = typer.Typer(no_args_is_help=True, help="The account of who did what.")


@in_words
def doctor() -> int:
    """Looks whether everything is as it should be here, and says what is not."""
    from api import health, serving
    from screening import embedded, migration

    settings = Settings.read()
    faults: list[str] = []
    with contextlib.closing(finding.Held(serving.open_database(settings))) as held:
        with held.database.unit() as session:
            connection = session.connection()
            if migration.current(connection) != migration.head():
                wrong("The database is not migrated: run screening migrate.")
            role = connection.engine.url.username or embedded.APP
            faults += migration.faults(connection, role)
            for name, wanted in (("synchronous_commit", "on"), ("fsync", "on"), ("full_page_writes", "on")):
                if (stands := connection.exec_driver_sql(f"show {name}").scalar()) != wanted:
                    faults.append(f"{name} is {stands}: a confirmed answer could be lost")
            apart = abs(db.now(session) - dt.datetime.now(dt.UTC))
            if apart > dt.timedelta(seconds=5):
                faults.append(f"this machine's clock and the database's are {apart.total_seconds():.0f} s apart")
            districts = [(row.id, row.code) for row in session.execute(select(District.id, District.code))]
        for district_id, code in districts:
            faults += _cannot_open(held.database, district_id, code)
        faults += [
            f"{f.name} ({f.where}): {f.detail}" for f in health.faults_of_loop(held.database) if not f.is_warning
        ]
    for fault in faults:
        say(fault)
    tell(f"{len(faults)} things are not as they should be." if faults else "All is well.")
    return NO if faults else 0


@in_words
def replay(
    since: Annotated[str | None, typer.Option(help="YYYY-MM-DD: only what was recorded from then on.")] = None,
    district: DistrictCode = None,
) -> int:
    """Derives stored results again from stored answers, under the stored rules; exit 1 if any differs."""
    from screening import replay as replaying

    settings = Settings.read()
    start = None if since is None else finding.moment(since, settings)
    replayed = differing = 0
    with finding.database() as database:
        for scope, code in finding.districts(database, district):
            with database.unit(scope) as session:
                found = replaying.replay(session, since=start)
            replayed += found.replayed
            differing += len(found.differences)
            for round_id, student_id, revision in found.differences[:SHOWN_PROBLEMS]:
                say(f"{code}: round {round_id} student {student_id} revision {revision} differs")
    tell(f"{replayed} results derived again, {differing} differences")
    return NO if differing else 0


@accounts_kept.command("verify")
@in_words
def verify_audit(
    heads: Annotated[
        Path | None,
        typer.Option(help="A copy of the signed heads: a file, or a folder of them; else SCREENING_LEDGERS."),
    ] = None,
    district: DistrictCode = None,
) -> int:
    """Walks the chain of every district and compares it with the signed heads; exit 1 if anything does not hold."""
    from screening import audit, audit_chain

    folder = Settings.read().ledgers / audit_chain.FOLDER
    outside = audit_chain.in_files(heads or folder) if heads or folder.exists() else {}
    verdicts = []
    with finding.database() as database:
        chains = {scope.district_id: code for scope, code in finding.districts(database, district)}
        if district is None:  # and of districts that are gone: that is no way to hide a chain
            gone = audit_chain.told_by(outside, database.master_key) - chains.keys()
            chains |= {audit.NOWHERE: "nowhere"} | {each: str(each) for each in gone - {audit.NOWHERE}}
        for district_id, code in chains.items():
            found = audit_chain.verify(database, district_id, outside.get(district_id, []))
            verdicts.append(found)
            for fault in found.faults[:SHOWN_PROBLEMS]:
                say(f"{code}: {'' if fault.sequence is None else f'{fault.sequence}: '}{fault.words}")
            bad = f"first bad sequence {found.first_bad}" if found.first_bad else f"{len(found.faults)} faults"
            tell(f"{code}: {found.entries} lines, {found.heads} heads, {bad if found.faults else 'whole'}")
    return NO if any(each.faults for each in verdicts) else 0


def _cannot_open(database: Database, district_id: uuid.UUID, code: str) -> list[str]:
    from screening import sealing

    try:
        with database.unit(access.Scope(district_id)) as session:
            sealing.keys(session)
    except sealing.CannotOpen:
        return [f"the master key does not open the district {code}"]
    return []
