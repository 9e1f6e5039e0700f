"""What runs: the web, the worker, the watchdog, the demo, the benchmarks; and what a service needs before."""

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli import finding
from api.terminal import NO, AsJson, in_words, say, tell, wrong
from screening.settings import Settings


@in_words
def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64)] = 1,
) -> int:
    """Web and API; with the embedded database also one worker, so that one command is a whole service."""
    from api import serving

    return serving.serve(Settings.read(serving=True), host=host, port=port, workers=workers)


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
    pretended = None if at is None else finding.moment(at, settings)
    with contextlib.closing(finding.Held(serving.open_database(settings))) as held:
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


@in_words
def watchdog() -> int:
    """One look at the whole loop, for cron: what stands still is told to whom it concerns; exit 1 if anything does."""
    from alerts.watchdog import Watchdog

    settings = Settings.read(serving=True)
    with finding.database() as database:
        bad = Watchdog(database, settings).watch()
    for fault in bad:
        say(f"{fault.name} ({fault.where}): {fault.detail}")
    tell(f"{len(bad)} things stand still." if bad else "The loop turns.")
    return NO if bad else 0


@in_words
def bounce() -> int:
    """Takes one returned mail from standard input, as a mail server pipes it: what came back is told to the next."""
    from alerts import bounces

    with finding.database() as database:
        is_ours = bounces.take(database, sys.stdin.buffer.read(bounces.LONGEST + 1))
    tell("One of our messages came back; the next person hears." if is_ours else "No message of ours came back.")
    return 0


@in_words
def migrate() -> int:
    """Brings the schema up to date, then checks roles and row security."""
    from api import serving

    faults = serving.migrate(Settings.read())
    for fault in faults:
        say(fault)
    tell("The schema is up to date; the walls stand." if not faults else "The walls do not stand.")
    return NO if faults else 0


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


@in_words
def bench(context: typer.Context, as_json: AsJson = False) -> int:
    """The benchmarks of bench/, which takes further words: --quick, --only, --rows, --runs."""
    sys.path.insert(0, str(Path.cwd()))
    code: int = _module("bench").main(context.args, as_json=as_json)
    return code


def _end_with_parent(stop: threading.Event, parent: int) -> None:
    """A web server that was killed leaves no worker behind, were it killed before its worker had begun to look."""
    while os.getppid() == parent:
        time.sleep(1)
    stop.set()


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        wrong(f"{name} is not part of this installation; run this in a checkout.")
