"""The library of instruments: scoring by it, its list, its checks, licences and licensed wording."""

import datetime as dt
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.cli import finding
from api.cli.finding import DistrictCode, InputFile
from api.terminal import NO, Map, bar, in_words, mapping, say, say_problems, tell, wrong
from instruments import catalogue
from instruments.definition import DefinitionError, Instrument, line_of, parse

library = typer.Typer(invoke_without_command=True, help="The library of instruments; by itself, its list.")


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
    with finding.database() as database:
        scope, by = finding.district(database, district)
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
    with finding.database() as database:
        scope, by = finding.district(database, district)
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
