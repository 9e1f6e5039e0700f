"""Policies: checked, and tried on a round that was."""

import typer
from rich.console import Console
from rich.table import Table

from api.cli import finding
from api.cli.finding import DistrictCode, InputFile, RoundName
from api.terminal import NO, in_words, say, say_problems, tell, wrong
from instruments import catalogue

rules = typer.Typer(no_args_is_help=True, help="Policies.")


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
    with finding.database() as database:
        scope, _ = finding.district(database, district)
        with database.unit(scope) as session:
            found = simulating.simulate(session, finding.round_named(session, round_name).id, draft)
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
