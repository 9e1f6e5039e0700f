"""The command `screening`: the same verbs as the API, for whoever runs the service.

Exit codes: 0 done, 1 the answer is no, 2 wrong use or bad input, told in words and never by a traceback.
"""

import signal
import sys

import typer

from api.cli import (
    accounts,
    calendars,
    checking,
    districts,
    figures,
    keys,
    library,
    models,
    policies,
    receiving,
    running,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0])

app.command()(running.serve)
app.command()(running.worker)
app.command()(running.watchdog)
app.command()(running.bounce)
app.command()(running.migrate)
app.command()(checking.doctor)
app.command()(running.demo)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(running.bench)
app.command()(library.score)
app.command()(accounts.token)
app.command()(receiving.roster)
app.command()(receiving.upload)
app.command()(checking.replay)
app.command()(keys.backup)
app.command()(keys.restore)
app.command()(figures.coverage)
app.command("yield")(figures.alert_yield)

app.add_typer(library.library, name="instruments")
app.add_typer(checking.accounts_kept, name="audit")
app.add_typer(keys.key_ring, name="keys")
app.add_typer(districts.districts, name="district")
app.add_typer(accounts.people, name="account")
app.add_typer(policies.rules, name="policy")
app.add_typer(models.models, name="model")
app.add_typer(calendars.school_calendars, name="calendar")
app.add_typer(figures.sla, name="sla")


def main() -> None:
    """The entry point of the command. One that is told to end puts away what it began: a database, files, children."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()
