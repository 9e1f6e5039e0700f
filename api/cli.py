"""The command `screening`: the same verbs as the API, for whoever runs the service.

Exit codes: 0 done, 1 the answer is no, 2 wrong use or bad input, told in words and never by a traceback.
"""

import contextlib
import datetime as dt
import importlib
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.model_commands import models
from api.terminal import (
    NO,
    SHOWN_PROBLEMS,
    AsJson,
    Map,
    answer,
    bar,
    ignored,
    in_words,
    mapping,
    pieces,
    say,
    say_problems,
    tell,
    wrong,
)
from instruments import catalogue
from instruments.definition import DefinitionError, Instrument, line_of, parse
from screening import access, db
from screening.db import Database
from screening.errors import NotFound
from screening.models import District, Round, School
from screening.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0])
library = typer.Typer(invoke_without_command=True, help="The library of instruments; by itself, its list.")
rules = typer.Typer(no_args_is_help=True, help="Policies.")
people = typer.Typer(no_args_is_help=True, help="Accounts: invitations, lost second factors, ends.")
districts = typer.Typer(no_args_is_help=True, help="Districts, made by whoever runs the service.")
key_ring = typer.Typer(no_args_is_help=True, help="The keys that everything is sealed under.")
accounts_kept = typer.Typer(no_args_is_help=True, help="The account of who did what.")
app.add_typer(library, name="instruments")
app.add_typer(accounts_kept, name="audit")
app.add_typer(key_ring, name="keys")
app.add_typer(districts, name="district")
app.add_typer(people, name="account")
school_calendars = typer.Typer(no_args_is_help=True, help="School days: terms, holidays, make-up days.")
app.add_typer(rules, name="policy")
app.add_typer(models, name="model")
app.add_typer(school_calendars, name="calendar")

OPERATOR_ID = uuid.UUID("6f706572-6174-4f72-8000-000000000001")
"""Under which the account knows whoever has the operator's shell."""
DistrictCode = Annotated[str | None, typer.Option("--district", help="The district's code, where there are several.")]
SchoolCode = Annotated[str | None, typer.Option("--school", help="The school's code.")]
RoundName = Annotated[str, typer.Option("--round", help="The round's id or name.")]
Email = Annotated[str, typer.Option(help="The account's address.")]
InputFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]


def main() -> None:
    """The entry point of the command."""
    app()


# -- running --------------------------------------------------------------------------------------------


@app.command()
@in_words
def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64)] = 1,
) -> int:
    """Web and API; with the embedded database also one worker, so that one command is a whole service."""
    from api import serving

    return serving.serve(Settings.read(serving=True), host=host, port=port, workers=workers)


@app.command()
@in_words
def worker(
    once: Annotated[bool, typer.Option("--once", help="Run everything that is due, then end.")] = False,
    at: Annotated[str | None, typer.Option(help="Pretend this time (development only), for drills.")] = None,
    beside: Annotated[int, typer.Option("--beside", hidden=True, help="End with this process, which began it.")] = 0,
) -> int:
    """Timetable, uploads, deliveries."""
    from api import serving
    from api import worker as work

    settings = Settings.read(serving=True)
    if at is not None and settings.is_production:
        wrong("A time is pretended in development only.")
    if at is not None and not once:
        wrong("A time is pretended with --once only.")
    pretended = None if at is None else _moment(at, settings)
    with contextlib.closing(_Held(serving.open_database(settings))) as held:
        if once:
            problems = work.once(held.database, settings, at=pretended)
            for job, words in problems.items():
                say(f"{job}: {words}")
            return NO if any("failed " in words for words in problems.values()) else 0
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if beside:
            threading.Thread(target=_end_with_parent, args=(stop, beside), daemon=True).start()
        work.run(held.database, settings, stop)
    return 0


@app.command()
@in_words
def watchdog() -> int:
    """One look at the whole loop, for cron: what stands still is told to whom it concerns; exit 1 if anything does."""
    from alerts.watchdog import Watchdog

    settings = Settings.read(serving=True)
    with _database() as database:
        bad = Watchdog(database, settings).watch()
    for finding in bad:
        say(f"{finding.name} ({finding.where}): {finding.detail}")
    tell(f"{len(bad)} things stand still." if bad else "The loop turns.")
    return NO if bad else 0


@app.command()
@in_words
def bounce() -> int:
    """Takes one returned mail from standard input, as a mail server pipes it: what came back is told to the next."""
    from alerts import bounces

    with _database() as database:
        is_ours = bounces.take(database, sys.stdin.buffer.read(bounces.LONGEST + 1))
    tell("One of our messages came back; the next person hears." if is_ours else "No message of ours came back.")
    return 0


def _end_with_parent(stop: threading.Event, parent: int) -> None:
    """A web server that was killed leaves no worker behind, were it killed before its worker had begun to look."""
    while os.getppid() == parent:
        time.sleep(1)
    stop.set()


@app.command()
@in_words
def migrate() -> int:
    """Brings the schema up to date, then checks roles and row security."""
    from api import serving

    faults = serving.migrate(Settings.read())
    for fault in faults:
        say(fault)
    tell("The schema is up to date; the walls stand." if not faults else "The walls do not stand.")
    return NO if faults else 0


@app.command()
@in_words
def doctor() -> int:
    """Looks whether everything is as it should be here, and says what is not."""
    from api import health, serving
    from screening import embedded, migration

    settings = Settings.read()
    faults: list[str] = []
    with contextlib.closing(_Held(serving.open_database(settings))) as held:
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


def _cannot_open(database: Database, district_id: uuid.UUID, code: str) -> list[str]:
    from screening import sealing

    try:
        with database.unit(access.Scope(district_id)) as session:
            sealing.keys(session)
    except sealing.CannotOpen:
        return [f"the master key does not open the district {code}"]
    return []


@app.command()
@in_words
def demo(
    seed: int = 1,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End when the loop has been run.")] = False,
    as_json: AsJson = False,
) -> int:
    """A made-up district, one real round, and what came of it."""
    from api import ahead

    settings = Settings.read()
    ahead.begin(settings)
    made_up = _module("api.demo")
    code: int = made_up.main(settings, seed=seed, is_served=not no_serve, as_json=as_json)
    return code


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@in_words
def bench(context: typer.Context, as_json: AsJson = False) -> int:
    """The benchmarks of bench/, which takes further words: --quick, --only, --rows, --runs."""
    sys.path.insert(0, str(Path.cwd()))
    code: int = _module("bench").main(context.args, as_json=as_json)
    return code


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        wrong(f"{name} is not part of this installation; run this in a checkout.")


# -- the library ----------------------------------------------------------------------------------------


@app.command()
@in_words
def score(
    instrument: Annotated[str, typer.Argument(help="A code (phq9), or a definition file of one's own (mine.toml).")],
    file: Annotated[str, typer.Argument(help="A CSV, XLSX or Parquet file; - is standard input.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help=".csv, .xlsx or .parquet; else CSV out.")
    ] = None,
    columns: Map = None,
    form: Annotated[str | None, typer.Option(help="self, youth, parent or teacher.")] = None,
    layout: Annotated[str | None, typer.Option(help="The printed edition whose numbers the columns have.")] = None,
) -> int:
    """Scores a file without any database: one row out for each row in."""
    from api import score_file

    wanted = catalogue.load(Path(instrument)) if instrument.endswith(".toml") else _shipped(instrument)
    data = sys.stdin.buffer.read() if file in ("-", "") else Path(file).read_bytes()
    with bar(f"{instrument}", unit_is_rows=True) as advance:
        found = score_file.score(
            data, wanted, column_map=mapping(columns), form=form, layout=layout, on_progress=advance
        )
    to_stdout = output is None or str(output) == "-"
    written = score_file.write(found.rows, None if to_stdout else output)
    if written is not None:
        sys.stdout.buffer.write(written)
        sys.stdout.buffer.flush()
    say_problems(found.problems, limit=None)
    return NO if found.problems else 0


@library.callback()
def without_more(context: typer.Context) -> None:
    """The library of instruments; by itself, its list."""
    if context.invoked_subcommand is None:
        list_instruments()


@library.command("list")
@in_words
def list_instruments() -> int:
    """Every instrument that ships."""
    table = Table("code", "edition", "title", "forms", "scales", "released")
    for each in catalogue.all():
        forms = ", ".join(each.forms)
        scales = ", ".join(scale.id for scale in each.scales)
        state = "yes" if each.is_released else f"no: {len(each.open_facts)} to confirm"
        table.add_row(each.code, each.edition, each.title["en"], forms, scales, state)
    Console().print(table)
    return 0


@library.command("show")
@in_words
def show_instrument(code: str) -> int:
    """One instrument's definition, as it stands in its file."""
    tell(_shipped(code).body)
    return 0


@library.command("check")
@in_words
def check_instrument(file: InputFile) -> int:
    """Checks a definition file; every error is named with its line and place."""
    content = file.read_bytes()
    try:
        found = parse(content, file.name)
    except DefinitionError as error:
        body = content.decode("utf-8", errors="replace")
        for problem in error.problems:
            line = line_of(body, problem.place)
            say(f"{file.name}{'' if line is None else f':{line}'}: {problem}")
        return NO
    tell(f"{found.code} {found.version} is sound: {len(found.items)} items, {len(found.scales)} scales.")
    for place, fact in found.open_facts:
        tell(f"to be confirmed before it is released: {place}: {fact.source}")
    return 0


@library.command("licence")
@in_words
def record_licence(
    code: str,
    holder: Annotated[str, typer.Option(help="Who holds the licence.")],
    terms: Annotated[str, typer.Option(help="By which agreement: its number, or its words.")],
    until: Annotated[dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its last day.")] = None,
    district: DistrictCode = None,
) -> int:
    """Records a district's licence for an instrument that is off without one."""
    from screening import wordings

    instrument = _shipped(code)
    with _database() as database:
        scope, by = _district(database, district)
        with database.unit(scope) as session:
            until_on = until.date() if until else None
            wordings.record_licence(session, instrument, holder=holder, terms=terms, until_on=until_on, by=by)
    tell(f"Recorded: {holder} may use {instrument.edition}.")
    return 0


@library.command("load-text")
@in_words
def load_text(
    code: str,
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX.")] = None,
    holder: Annotated[str, typer.Option(help="Who holds the licence for this text.")] = "",
    terms: Annotated[str, typer.Option(help="By which agreement: its number, or its words.")] = "",
    until: Annotated[dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The licence's last day.")] = None,
    layout: Annotated[str | None, typer.Option(help="The printed edition whose numbers the ids have.")] = None,
    template: Annotated[bool, typer.Option("--template", help="Print an empty sheet to fill in.")] = False,
    district: DistrictCode = None,
) -> int:
    """Loads a site's licensed wording, one column per language, after checking it against the definition."""
    from screening import wordings

    instrument = _shipped(code)
    if template:
        tell("\n".join(["id,en,zh_CN", *(f"{row_id},," for row_id, _ in wordings.rows_of(instrument))]))
        return 0
    if file is None:
        wrong("Name the file, or ask for --template.")
    texts = wordings.parse(file.read_bytes(), instrument, layout=layout)
    with _database() as database:
        scope, by = _district(database, district)
        with database.unit(scope) as session:
            until_on = until.date() if until else None
            licence = wordings.record_licence(session, instrument, holder=holder, terms=terms, until_on=until_on, by=by)
            wordings.load(session, instrument, texts, licence, by=by)
    for language, text in texts.items():
        tell(f"{instrument.edition} {language}: {len(text.items)} items loaded under the licence of {holder}.")
    return 0


def _shipped(code: str) -> Instrument:
    try:
        return catalogue.get(code)
    except catalogue.UnknownInstrument as error:
        wrong(f"{error}.")


@rules.command("check")
@in_words
def check_policy(file: InputFile) -> int:
    """Checks a policy file against the instruments that ship; every error is named."""
    from screening import policy

    try:
        found = policy.parse(file.read_bytes(), file.name)
    except policy.PolicyError as error:
        for words in error.problems:
            say(str(words))
        return NO
    # of what it speaks about; that a battery is heard as a whole is checked when a round is planned
    named = {code for rule in found.all_rules for code in rule.instruments} & set(catalogue.codes())
    problems = policy.check(found, {code: catalogue.get(code) for code in sorted(named)})
    say_problems(problems)
    tell(f"{found.code} {found.version}: {len(found.all_rules)} rules, {len(problems)} problems.")
    return NO if problems else 0


@rules.command("simulate")
@in_words
def simulate_policy(file: InputFile, round_name: RoundName, district: DistrictCode = None) -> int:
    """What a round's alerts would be under this policy, by school; exit 1 if a red would be lost."""
    from screening import policy, simulating

    try:
        draft = policy.parse(file.read_bytes(), file.name)
    except policy.PolicyError as error:
        wrong("\n".join(map(str, error.problems)))
    with _database() as database:
        scope, _ = _district(database, district)
        with database.unit(scope) as session:
            found = simulating.simulate(session, _round(session, round_name).id, draft)
    say_problems(list(found.problems))
    if any(problem.code == "unknown_name" for problem in found.problems):
        return NO
    names = ("students", "alerts", "alerts_then", "new", "lost", "raised", "lowered", "reds", "reds_then", "reds_lost")
    table = Table("school", *names, title=f"{draft.code} {draft.version}")
    for shift in found.shifts:
        table.add_row(shift.school, *(str(getattr(shift, name)) for name in names))
    Console().print(table)
    tell(f"{found.reds_lost} reds would be lost.")
    return NO if found.reds_lost or found.problems else 0


# -- school days ----------------------------------------------------------------------------------------

CalendarName = Annotated[str, typer.Option("--calendar", help="The calendar's name; the district's own, else.")]


@school_calendars.command("load")
@in_words
def load_calendar(
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help="An ICS file.")] = None,
    china: Annotated[list[int] | None, typer.Option(help="A year of mainland China's; may be repeated.")] = None,
    taught: Annotated[bool, typer.Option("--taught", help="The file's days are taught, not free.")] = False,
    name: CalendarName = "district",
    district: DistrictCode = None,
) -> int:
    """Enters holidays and make-up days: of China by the year, of any other place from an ICS file."""
    from screening import calendars

    if (file is None) == (not china):
        wrong("Name an ICS file, or a year with --china.")
    with _database() as database:
        scope, by = _district(database, district)
        with database.unit(scope) as session:
            now = db.now(session)
            count = sum(calendars.load_china(session, year, calendar=name, by=by, now=now) for year in china or ())
            if file is not None:
                content = file.read_bytes()
                count = calendars.load_ics(session, content, calendar=name, is_taught=taught, by=by, now=now)
    tell(f"{count} days entered into the calendar {name}.")
    return 0


@school_calendars.command("terms")
@in_words
def set_terms(
    spans: Annotated[list[str], typer.Argument(help="2026-09-01:2027-01-22, one for each term.")],
    name: CalendarName = "district",
    district: DistrictCode = None,
) -> int:
    """The terms, in place of those that stood: between two of them there is no school."""
    from screening import calendars

    terms = []
    for span in spans:
        first, _, last = span.partition(":")
        terms.append((dt.date.fromisoformat(first), dt.date.fromisoformat(last)))
    with _database() as database:
        scope, by = _district(database, district)
        with database.unit(scope) as session:
            calendars.set_terms(session, name, terms, by=by)
    tell(f"{len(terms)} terms in the calendar {name}.")
    return 0


@school_calendars.command("list")
@in_words
def list_calendars(district: DistrictCode = None) -> int:
    """Every calendar: until when it is known, its terms, and who follows it."""
    from screening import calendars

    table = Table("calendar", "known until", "source", "terms", "schools")
    with _database() as database:
        scope, _ = _district(database, district)
        with database.unit(scope) as session:
            for each in calendars.listed(session):
                terms = ", ".join(f"{first} to {last}" for first, last in each.terms)
                table.add_row(each.name, str(each.covers_until or "-"), each.source, terms, ", ".join(each.schools))
    Console().print(table)
    return 0


# -- operating ------------------------------------------------------------------------------------------


@districts.command("create")
@in_words
def create_district(
    code: Annotated[str, typer.Argument(help="A short code, e.g. d1.")],
    name: Annotated[str, typer.Argument(help="The district's name.")],
    admin: Annotated[str, typer.Option(help="The address of its first administrator.")],
    admin_name: Annotated[str, typer.Option("--admin-name", help="Their name.")] = "",
) -> int:
    """A district and its first administrator, who makes schools, people and rounds."""
    from screening import staff

    with _database() as database:
        if staff.actor_by_email(database, admin) is not None:
            wrong("There is an account for this address already.")
        made = staff.create_district(database, code, name)
        by = _operator(made.id)
        with database.unit(access.Scope(made.id)) as session:
            hired = staff.hire(session, admin, admin_name or admin, by=by)
            staff.grant(session, hired, "district_admin", None, by=by)
    tell(f"District {code} stands. Its administrator's way in: screening account invite --email {admin}")
    return 0


@districts.command("export")
@in_words
def export_district(
    code: Annotated[str, typer.Argument(help="The code of the district that leaves.")],
    path: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    key: Annotated[Path, typer.Option(help="The public half of the receiver's key (screening keys backup).")],
) -> int:
    """Everything of a district in one file sealed for its receiver; two persons of the district say so first."""
    from screening import backup as backups
    from screening import leaving

    public_key = backups.read_public_key(key)
    with _database() as database:
        [(scope, _)] = _districts(database, code)
        by = _operator(scope.district_id)
        counts = leaving.hand_over(database, scope.district_id, path, public_key, by=by)
    tell(f"{path}: {sum(counts.values())} rows of {len(counts)} tables, the persons, and the keys. Only its receiver")
    tell("opens it. When they have: screening district erase.")
    return 0


@districts.command("erase")
@in_words
def erase_district(
    code: Annotated[str, typer.Argument(help="The code of the district that leaves.")],
    again: Annotated[str, typer.Option("--again", help="The same code again: there is no way back.")],
    handed_over: Annotated[Path, typer.Option("--handed-over", help="The file that was handed over.", exists=True)],
) -> int:
    """Erases a district that was handed over: its key, then every row but the account; needs the owner's connection."""
    import psycopg

    from api import serving
    from screening import erasure, leaving

    if again != code:
        wrong("Nothing was erased: --again has to repeat the code.")
    settings = Settings.read()
    with _database() as database:
        [(scope, _)] = _districts(database, code)
        with database.unit(scope) as session:
            now = db.now(session)
            leaving.require_handed_over(session, handed_over, now=now)
    with psycopg.connect(serving.owner_url(settings), autocommit=True) as owner:
        gone = erasure.erase_district(owner, scope.district_id, settings.ledgers / erasure.FOLDER, now)
        left = erasure.left_of_district(owner, scope.district_id)
    tell(
        f"{code}: {gone} rows erased, {sum(left.values())} left but for the account. Restored backups erase them again,"
    )
    tell(f"as long as {settings.ledgers} is kept.")
    return NO if left else 0


@app.command()
@in_words
def token(
    email: Email,
    minutes: Annotated[int, typer.Option(min=1, max=527_040)] = 60,
    roles: Annotated[list[str] | None, typer.Option("--role", help="Only in this role; may be repeated.")] = None,
    purpose: Annotated[str, typer.Option(help="everything, reading or sending.")] = "everything",
) -> int:
    """Prints a bearer token for that account; that it was made is kept account of."""
    from screening import staff

    with _account(email) as (session, account_id, by):
        made = staff.issue_token(
            session, account_id, minutes, by=by, now=db.now(session), roles=roles or None, purpose=purpose
        )
    tell(made)
    return 0


@people.command("invite")
@in_words
def invite(email: Email) -> int:
    """Prints a link, good once and for three days, by which its owner sets a password."""
    from screening import accounts

    with _account(email) as (session, account_id, by):
        code, until = accounts.invite(session, account_id, by=by)
    tell(f"{Settings.read().base_url}/welcome#{code}")
    say(f"Good once, until {until:%Y-%m-%d %H:%M %Z}. Hand it to nobody else.")
    return 0


@people.command("reset-second-factor")
@in_words
def reset_second_factor(email: Email) -> int:
    """Takes a lost second factor away; the next sign-in sets up another. Sessions and tokens end."""
    from screening import accounts

    with _account(email) as (session, account_id, by):
        accounts.reset_second_factor(session, account_id, by=by)
    tell("The second factor is gone, and every session and token with it.")
    return 0


@people.command("end")
@in_words
def end_account(email: Email) -> int:
    """Ends an account, its sessions and its tokens."""
    from screening import accounts

    with _account(email) as (session, account_id, by):
        accounts.disable(session, account_id, by=by)
    tell("The account is ended.")
    return 0


@people.command("sign-out")
@in_words
def sign_out(district: DistrictCode = None) -> int:
    """Ends every session, token and code of a district at once, as after a theft; everybody signs in again."""
    from screening import accounts

    with _database() as database:
        scope, by = _district(database, district)
        with database.unit(scope) as session:
            count = accounts.sign_everybody_out(session, by=by)
    tell(f"{count} accounts are signed out; codes on paper are of no use any more.")
    return 0


@contextlib.contextmanager
def _account(email: str) -> Iterator[tuple[Session, uuid.UUID, access.Actor]]:
    """A unit in which the operator does something about the account of this address."""
    from screening import staff

    with _database() as database:
        actor = staff.actor_by_email(database, email)
        if actor is None or actor.account_id is None:
            wrong("There is no account for this address.")
        with database.unit(access.Scope(actor.district_id)) as session:
            yield session, actor.account_id, _operator(actor.district_id)


@app.command()
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

    with _database() as database:
        scope, by = _district(database, district)
        with database.unit(scope) as session, file.open("rb") as content:
            received = rosters.receive(
                session,
                pieces(content, ignored),
                file.name,
                by=by,
                school_id=_school(session, school),
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


def _is_proposed(database: Database, scope: access.Scope, roster_id: uuid.UUID) -> bool:
    from screening import roster as rosters

    with database.unit(scope) as session:
        return rosters.get(session, roster_id).state != "received"


@app.command()
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

    with _database() as database:
        scope, by = _district(database, district)
        size = file.stat().st_size
        with bar("stored", total=size) as advance, file.open("rb") as content, database.unit(scope) as session:
            received = intake.receive(
                session,
                _round(session, round_name).id,
                pieces(content, advance),
                file_name=file.name,
                by=by,
                school_id=_school(session, school),
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


@app.command()
@in_words
def replay(
    since: Annotated[str | None, typer.Option(help="YYYY-MM-DD: only what was recorded from then on.")] = None,
    district: DistrictCode = None,
) -> int:
    """Derives stored results again from stored answers, under the stored rules; exit 1 if any differs."""
    from screening import replay as replaying

    settings = Settings.read()
    start = None if since is None else _moment(since, settings)
    replayed = differing = 0
    with _database() as database:
        for scope, code in _districts(database, district):
            with database.unit(scope) as session:
                found = replaying.replay(session, since=start)
            replayed += found.replayed
            differing += len(found.differences)
            for round_id, student_id, revision in found.differences[:SHOWN_PROBLEMS]:
                say(f"{code}: round {round_id} student {student_id} revision {revision} differs")
    tell(f"{replayed} results derived again, {differing} differences")
    return NO if differing else 0


@key_ring.command("rotate")
@in_words
def rotate_keys(
    districts: Annotated[
        bool, typer.Option("--districts", help="Also a new key for each district, and its students' keys under it.")
    ] = False,
) -> int:
    """A new master key while the service runs; the file holds both until nothing is under the old one."""
    from screening import key_rotation, sealing

    settings = Settings.read()
    with _database() as database:
        keys = settings.master_keys()
        if len(keys) == 1:  # else a run was broken off, or somebody put the new one in: that is the one
            keys = [sealing.new_key(), *keys]
            settings.keep_master_keys(keys)
        database.ring.read_anew()
        try:
            found = key_rotation.rotate_master(database, keys, settings.keep_master_keys, by_id=OPERATOR_ID)
            for scope, _ in _districts(database, None) if districts else ():
                found.students += key_rotation.rotate_district(database, scope.district_id, by_id=OPERATOR_ID)
        except sealing.CannotOpen:
            wrong("A value is under none of the keys in SCREENING_MASTER_KEY_FILE; no key was taken away.")
        except key_rotation.StillRunning as error:
            wrong(str(error))
    tell(f"{found.districts} districts are under the new master key, {found.students} students' keys wrapped anew.")
    return 0


@key_ring.command("backup")
@in_words
def make_backup_key(
    private: Annotated[Path, typer.Argument(help="Where the private half goes: a medium that is then taken away.")],
) -> int:
    """Makes the pair of keys for backups: the public half is kept here, the private half opens them."""
    from screening import backup as backups

    public = Settings.read().backup_key_file
    for path in (private, public):
        if path.exists():
            wrong(f"{path} is there already; a key is never written over.")
    backups.make_key_pair(private, public)
    tell(f"Backups are encrypted for {public}. Take {private} away from here: without it no backup opens.")
    return 0


@app.command()
@in_words
def backup(
    path: Annotated[Path, typer.Argument(help="The file to write; what is there is replaced when done.")],
) -> int:
    """An encrypted backup of the whole database, which only the private half of the backup key opens."""
    from api import serving
    from screening import backup as backups

    settings = Settings.read()
    if not settings.backup_key_file.exists() and not settings.is_production:
        backups.make_key_pair(settings.made_home() / "backup.key", settings.backup_key_file)
    public_key = backups.read_public_key(settings.backup_key_file)
    count = backups.dump(serving.owner_url(settings), path, public_key)
    tell(
        f"{path}: {count} bytes of dump, encrypted. It opens with the private half of {settings.backup_key_file} only."
    )
    return 0


@app.command()
@in_words
def restore(
    path: InputFile,
    key: Annotated[
        Path | None, typer.Option(help="The private half of the backup key; in development the home's.")
    ] = None,
    former_key: Annotated[
        Path | None, typer.Option(help="The master key of that day, where keys were rotated since.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of the embedded database that is there.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Brings a backup back: proved, at the present schema, rid of what was erased since, nothing sent twice."""
    from api import serving
    from screening import backup as backups

    settings = Settings.read()
    private_key = backups.read_private_key(key or settings.home / "backup.key")
    found = serving.restore(settings, path, private_key, former_key_file=former_key, is_replacing=replace)
    for words in (*found.faults, *(f"lost: {words}" for words in found.lost)):
        say(words)
    for code, verdict in found.verdicts:
        for fault in verdict.faults[:SHOWN_PROBLEMS]:
            say(f"{code}: {fault.sequence or ''} {fault.words}")
    told = {
        "rows": sum(found.counts.values()),
        "deliveries_held_back": found.deliveries_held_back,
        "erasures_applied": found.erasures_applied,
        "account_lines": sum(verdict.entries for _, verdict in found.verdicts),
    }
    answer(told, (), as_json=as_json)
    return 0 if found.is_whole else NO


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
    with _database() as database:
        chains = {scope.district_id: code for scope, code in _districts(database, district)}
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


@app.command()
@in_words
def coverage(
    round_name: RoundName,
    by: Annotated[
        Literal["district", "school", "grade", "sex"], typer.Option(help="What the figures are by.")
    ] = "district",
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format")] = "table",
    on: Annotated[str | None, typer.Option(help="YYYY-MM-DD: the release of that date, not the last.")] = None,
    district: DistrictCode = None,
) -> int:
    """The released statistics of a round: what the district's statistics doors tell, and no more."""
    from api.v1.coverage import as_csv, released

    day = None if on is None else dt.date.fromisoformat(on)
    with _database() as database:
        scope, _ = _district(database, district)
        with database.unit(scope) as session:
            view = released(session, _round(session, round_name).id, by, day)
    if form == "json":
        tell(view.model_dump_json(indent=2))
    elif form == "csv":
        sys.stdout.write(as_csv(view))
    else:
        lines = [line.split(",") for line in as_csv(view).removeprefix("\ufeff").splitlines()]
        table = Table(*lines[0], title=f"released on {view.on}, k = {view.k}")
        for line in lines[1:]:
            table.add_row(*line)
        Console().print(table)
    return 0


@app.command("yield")
@in_words
def alert_yield(
    round_name: RoundName,
    by: Annotated[Literal["rule", "instrument", "school"], typer.Option(help="What alerts are grouped by.")] = "rule",
    district: DistrictCode = None,
) -> int:
    """Of a round's alerts that a person looked into, how many were confirmed; few are not told apart."""
    from alerts import yields
    from screening import rounds

    with _database() as database:
        scope, _ = _district(database, district)
        with database.unit(scope) as session:
            round_id = _round(session, round_name).id
            k = rounds.rules_of(session, round_id).policy.disclosure_k
            found = yields.shielded(yields.of_round(session, round_id, by), k)
    table = Table(by, "alerts", "looked into (n)", "confirmed", "share", "95%")
    for each in found:
        few = f"<{k}" if each.is_hidden and each.raised is None else "-"
        rate = each.rate
        table.add_row(
            each.group,
            few if each.raised is None else str(each.raised),
            few if each.settled is None else str(each.settled),
            "-" if each.confirmed is None else str(each.confirmed),
            "-" if rate is None else f"{rate.value:.0%}",
            "-" if rate is None else f"{rate.low:.0%} to {rate.high:.0%}",
        )
    Console().print(table)
    return 0


sla = typer.Typer(no_args_is_help=True, help="Clocks.")
app.add_typer(sla, name="sla")


@sla.command("due")
@in_words
def show_due(alert: Annotated[uuid.UUID, typer.Option(help="The alert's id.")], district: DistrictCode = None) -> int:
    """By when an alert is to be answered and the student seen, and who hears when if nobody answers."""
    from alerts import escalation

    with _database() as database:
        for scope, _ in _districts(database, district):
            with database.unit(scope) as session:
                found = escalation.due(session, alert)
            if found is not None:
                break
        else:
            raise NotFound("There is no such alert.")
    zone = database.timezone
    tell(f"answer by {found.answer_by.astimezone(zone):%Y-%m-%d %H:%M}")
    tell(f"see by    {found.see_by.astimezone(zone):%Y-%m-%d %H:%M}")
    for rung in found.rungs:
        told = "waits" if rung.climbed_at is None else f"told {rung.climbed_at.astimezone(zone):%Y-%m-%d %H:%M:%S}"
        tell(f"rung {rung.number}    {rung.due_at.astimezone(zone):%Y-%m-%d %H:%M}  {rung.role}: {told}")
    if found.is_answered:
        tell("It is answered: nobody else is told.")
    return 0


# -- what commands share --------------------------------------------------------------------------------


class _Held:
    """A database that is closed at the end of a command."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def close(self) -> None:
        self.database.dispose()


@contextlib.contextmanager
def _database() -> Iterator[Database]:
    from api import serving
    from screening import migration

    with contextlib.closing(_Held(serving.open_database(Settings.read()))) as held:
        with held.database.unit() as session:
            if migration.current(session.connection()) != migration.head():
                wrong("The database is not migrated: run screening migrate.")
        yield held.database


def _operator(district_id: uuid.UUID) -> access.Actor:
    return access.Actor(account_id=OPERATOR_ID, district_id=district_id, roles=(access.RoleAt("operator"),))


def _districts(database: Database, code: str | None) -> list[tuple[access.Scope, str]]:
    with database.unit() as session:
        rows = session.execute(
            select(District.id, District.code).where(~District.is_probe).order_by(District.code)
        ).all()
    found = [(access.Scope(row.id), row.code) for row in rows if code in (None, row.code)]
    if code is not None and not found:
        raise NotFound(f"There is no district with the code {code}.")
    return found


def _district(database: Database, code: str | None) -> tuple[access.Scope, access.Actor]:
    found = _districts(database, code)
    if not found:
        raise NotFound("There is no district yet.")
    if len(found) > 1:
        raise ValueError(f"There are several districts; name one with --district: {', '.join(c for _, c in found)}")
    scope = found[0][0]
    return scope, _operator(scope.district_id)


def _round(session: Session, wanted: str) -> Round:
    """The round of that id or name. Raises NotFound for none, ValueError for several of one name."""
    from screening import rounds

    with contextlib.suppress(ValueError):
        return rounds.get(session, uuid.UUID(wanted))
    found = session.scalars(
        select(Round).where(Round.district_id == access.scope_of(session).district_id, Round.name == wanted)
    ).all()
    if not found:
        raise NotFound(f"There is no round {wanted!r}.")
    if len(found) > 1:
        raise ValueError(f"Several rounds are called {wanted!r}; give an id: {', '.join(str(r.id) for r in found)}")
    return found[0]


def _school(session: Session, code: str | None) -> uuid.UUID | None:
    if code is None:
        return None
    found = session.scalar(
        select(School.id).where(School.district_id == access.scope_of(session).district_id, School.code == code)
    )
    if found is None:
        raise NotFound(f"There is no school with the code {code}.")
    return found


def _moment(text: str, settings: Settings) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time like 2026-09-01T08:00") from None
    return found if found.tzinfo else found.replace(tzinfo=settings.timezone)


if __name__ == "__main__":
    main()
