"""What the documents say is there: every setting, command and instrument is named, and the worked example works."""

import re
from pathlib import Path
from typing import Any

import typer.main

from api import cli
from instruments import catalogue, definition
from screening.settings import VARIABLES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_every_setting_command_and_instrument() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert [name for name in VARIABLES if f"`{name}`" not in README] == []
    assert [name for name in commands if f"`screening {name}" not in README] == []
    named = README.replace("-", "").lower()
    assert [one.code for one in catalogue.all() if one.code not in named] == []


def test_the_worked_example_of_an_instrument_is_a_definition() -> None:
    [example] = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/instruments.md").read_text(encoding="utf-8"), re.DOTALL)
    made = definition.parse(example, "four.toml")
    assert (made.code, len(made.items), made.is_released) == ("four", 4, True)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_command_and_file_that_a_runbook_names_is_there() -> None:
    commands = typer.main.get_command(cli.app)
    for name in ("breach.md", "mlps.md", "data-protection.md"):
        words = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for command in re.findall(r"`screening ([a-z -]+?)(?: [A-Z`-]|`)", words):
            found: Any = commands
            for part in command.split():
                found = found.commands[part]
        for file in re.findall(r"`[^`]*?((?:tests|screening|docs|api)/[\w/.-]+\.(?:py|md))", words):
            assert (ROOT / file).exists(), (name, file)
        for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", words):
            assert (ROOT / "docs" / target).exists(), (name, target)
