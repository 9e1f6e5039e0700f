"""School days: terms, holidays, make-up days."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.cli import finding
from api.cli.finding import DistrictCode
from api.terminal import in_words, tell, wrong
from screening import db

school_calendars = typer.Typer(no_args_is_help=True, help="School days: terms, holidays, make-up days.")


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
    with finding.database() as database:
        scope, by = finding.district(database, district)
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
    with finding.database() as database:
        scope, by = finding.district(database, district)
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
    with finding.database() as database:
        scope, _ = finding.district(database, district)
        with database.unit(scope) as session:
            for each in calendars.listed(session):
                terms = ", ".join(f"{first} to {last}" for first, last in each.terms)
                table.add_row(each.name, str(each.covers_until or "-"), each.source, terms, ", ".join(each.schools))
    Console().print(table)
    return 0
