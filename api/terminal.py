"""How commands speak: exit codes and errors in words, bars on a terminal, tables and problems."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, BinaryIO, NoReturn, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from instruments.definition import DefinitionError
from screening.embedded import CannotStart
from screening.errors import HouseError, Problem
from screening.settings import UnsafeSettings

NO, WRONG = 1, 2
SHOWN_PROBLEMS = 50
_P = ParamSpec("_P")

Map = Annotated[list[str] | None, typer.Option("--map", help="COLUMN=ITEM, as often as needed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def in_words(command: Callable[_P, int | None]) -> Callable[_P, None]:
    """A command whose return value is its exit code, and whose expected errors are told in words."""

    @functools.wraps(command)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except HouseError as error:
            wrong(error.detail, error.problems)
        except (UnsafeSettings, DefinitionError) as error:
            wrong(str(error) if isinstance(error, DefinitionError) else "\n".join(error.problems))
        except CannotStart as error:
            wrong(str(error))
        except SQLAlchemyError as error:
            wrong(f"The database does not answer as it should ({type(error).__name__}).")
        except OSError as error:
            wrong(f"{error.filename or 'A file'}: {error.strerror or type(error).__name__}")
        except ValueError as error:
            wrong(str(error))
        raise typer.Exit(code or 0)

    return told


def wrong(words: str, problems: Sequence[Problem] = ()) -> NoReturn:
    say(words)
    say_problems([problem for problem in problems if problem.message != words])
    raise typer.Exit(WRONG)


def mapping(pairs: Sequence[str] | None) -> Mapping[str, str]:
    found = {}
    for pair in pairs or ():
        column, sign, item = pair.rpartition("=")
        if not sign or not column.strip() or not item.strip():
            raise ValueError(f"--map wants COLUMN=ITEM, not {pair!r}")
        found[column.strip()] = item.strip()
    return found


def pieces(content: BinaryIO, advance: Callable[[int], None]) -> Iterator[bytes]:
    while piece := content.read(1_000_000):
        yield piece
        advance(len(piece))


def ignored(_: int) -> None:
    """For whoever shows no bar."""


@contextlib.contextmanager
def bar(words: str, *, total: float | None = None, unit_is_rows: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; nothing where standard error goes elsewhere."""
    told = MofNCompleteColumn() if unit_is_rows else TaskProgressColumn()
    parts = (TextColumn("{task.description}"), BarColumn(), told, TimeElapsedColumn())
    with Progress(*parts, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(words, total=total)
        yield lambda done: progress.advance(task, done)


def answer(told: Mapping[str, Any], problems: Sequence[Problem], *, as_json: bool) -> None:
    if as_json:
        listed = [
            {"sheet": p.sheet, "row": p.row, "column": p.column, "code": p.code, "message": p.message} for p in problems
        ]
        tell(json.dumps({**told, "problem_list": listed}, ensure_ascii=False, indent=2, default=str))
        return
    table = Table(show_header=False)
    for name, value in told.items():
        table.add_row(
            name, json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict) else str(value)
        )
    Console().print(table)
    say_problems(problems)


def say_problems(problems: Sequence[Problem], limit: int | None = SHOWN_PROBLEMS) -> None:
    """A line for each on standard error: where it stands, then what to do."""
    for problem in problems[:limit]:
        places = (("sheet", problem.sheet), ("row", problem.row), ("column", problem.column))
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        say(f"{where}: {problem.message}" if where else problem.message)
    if limit is not None and len(problems) > limit:
        say(f"... and {len(problems) - limit} more")


def tell(words: str) -> None:
    sys.stdout.write(words + "\n")


def say(words: str) -> None:
    sys.stderr.write(words + "\n")
