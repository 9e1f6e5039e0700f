"""What came of it: a round's coverage, how many of its alerts were confirmed, an alert's clocks."""

import datetime as dt
import sys
import uuid
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from api.cli import finding
from api.cli.finding import DistrictCode, RoundName
from api.terminal import in_words, tell
from screening.errors import NotFound

sla = typer.Typer(no_args_is_help=True, help="Clocks.")


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
    with finding.database() as database:
        scope, _ = finding.district(database, district)
        with database.unit(scope) as session:
            view = released(session, finding.round_named(session, round_name).id, by, day)
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


@in_words
def alert_yield(
    round_name: RoundName,
    by: Annotated[Literal["rule", "instrument", "school"], typer.Option(help="What alerts are grouped by.")] = "rule",
    district: DistrictCode = None,
) -> int:
    """Of a round's alerts that a person looked into, how many were confirmed; few are not told apart."""
    from alerts import yields
    from screening import rounds

    with finding.database() as database:
        scope, _ = finding.district(database, district)
        with database.unit(scope) as session:
            round_id = finding.round_named(session, round_name).id
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


@sla.command("due")
@in_words
def show_due(alert: Annotated[uuid.UUID, typer.Option(help="The alert's id.")], district: DistrictCode = None) -> int:
    """By when an alert is to be answered and the student seen, and who hears when if nobody answers."""
    from alerts import escalation

    with finding.database() as database:
        for scope, _ in finding.districts(database, district):
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
