"""`screening model`: train, evaluate, card, promote, list, retire."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.cli import finding
from api.cli.finding import DistrictCode
from api.terminal import NO, AsJson, in_words, say, tell, wrong
from screening import access, db
from screening.errors import NotFound, Refused
from screening.models import School

if TYPE_CHECKING:
    from screening.risk_model.gates import Gate
    from screening.risk_model.judging import Gap

models = typer.Typer(no_args_is_help=True, help="The model beside the rules, which may only raise.")

Name = Annotated[str, typer.Argument(help="The model's name.")]
Email = Annotated[str, typer.Option("--email", help="The account of the person who does it.")]
Capacity = Annotated[float, typer.Option(min=0.001, max=0.5, help="Of all students, how many more counselors can see.")]

Rural = Annotated[
    str | None,
    typer.Option(help="Codes of the rural schools, with commas; none: all are urban. Nobody knows unless told."),
]


@models.command("train")
@in_words
def train(name: Name, district: DistrictCode = None) -> int:
    """Fits a model on every outcome that is known, and keeps it in shadow; exit 1 if the outcomes cannot carry one."""
    from alerts import models_at_work

    with _unit(district) as (session, by):
        try:
            made = models_at_work.train(session, name, by=by, now=db.now(session))
        except Refused as refused:
            say(refused.detail)
            return NO
        card = made.card
    left_out = card["schools_left_out"]
    tell(
        f"{name}: {card['labels']} outcomes ({card['labels_by_lot']} by lot) of {card['schools']} schools;"
        f" at schools left out AUROC {left_out['auroc']}, the baseline {card['baseline_auroc']}. It stands in shadow."
    )
    return 0


@models.command("evaluate")
@in_words
def evaluate(
    name: Annotated[str | None, typer.Argument(help="The model's name.")] = None,
    district: DistrictCode = None,
    capacity: Capacity = 0.02,
    rural: Rural = None,
    demo: Annotated[bool, typer.Option("--demo", help="On a made-up district, of which the truth is known.")] = False,
    seed: Annotated[int, typer.Option(help="Of the made-up district.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Every gate of a model with its number, and whom it misses; or, with --demo, rules and model by planted truth."""
    if demo:
        from api.demo import planted

        found = planted.evaluate(seed)
        if as_json:
            _as_json(found)
        else:
            _show_planted(found)
        return 0
    if name is None:
        wrong("Name a model, or give --demo.")
    from alerts import models_at_work
    from screening.risk_model import registry

    with _unit(district) as (session, _):
        model = registry.get(session, name)
        known = models_at_work.evidence(
            session, model, capacity=capacity, rural=_schools(session, rural), now=db.now(session)
        )
    seen = models_at_work.evaluate(known)
    if as_json:
        _as_json(models_at_work.plain(asdict(seen)))
        return 0
    _show_gates(seen.gates)
    _show_fairness(seen.fairness)
    if seen.labels:
        for who, by in (("The rules alone", seen.rules), ("The rules and the model", seen.rules_and_model)):
            tell(f"{who} find {by.sensitivity:.0%} of those in need ({by.interval[0]:.0%} to {by.interval[1]:.0%}).")
    return 0


@models.command("card")
@in_words
def card(name: Name, district: DistrictCode = None, as_json: AsJson = False) -> int:
    """A model's card as a page (Markdown) or as JSON: what it was made from, its figures, and what it cannot say."""
    from alerts import model_cards
    from screening.risk_model import registry

    with _unit(district) as (session, _):
        found = model_cards.card(session, registry.get(session, name))
    if as_json:
        _as_json(found)
    else:
        tell(model_cards.page(found).rstrip())
    return 0


@models.command("promote")
@in_words
def promote(name: Name, email: Email, capacity: Capacity = 0.02, rural: Rural = None) -> int:
    """Stands for a model, if every gate is open; the second person's word makes it live. Exit 1 with what failed."""
    from alerts import models_at_work
    from screening.risk_model import registry

    with _unit_of(email) as (session, by):
        try:
            model = registry.get(session, name)
            found = models_at_work.promote(
                session, model, capacity=capacity, rural=_schools(session, rural), by=by, now=db.now(session)
            )
        except Refused as refused:
            say(refused.detail)
            return NO
    _show_gates(found.gates)
    if not found.is_open:
        say("The model stays in shadow.")
        return NO
    tell(f"{name} is live." if found.is_active else "One person stands for it; another has to.")
    return 0


@models.command("list")
@in_words
def listed(district: DistrictCode = None, as_json: AsJson = False) -> int:
    """Every model of the district with its state."""
    from screening.risk_model import registry

    with _unit(district) as (session, _):
        rows: list[dict[str, Any]] = [
            {"name": m.name, "state": m.state, "trained_at": m.trained_at.isoformat(), "labels": m.card.get("labels"),
             "problem": m.problem, "digest": m.digest}
            for m in registry.listed(session)
        ]  # fmt: skip
    if as_json:
        _as_json(rows)
        return 0
    table = Table("name", "state", "trained", "outcomes", "problem")
    for row in rows:
        table.add_row(row["name"], row["state"], row["trained_at"][:16], str(row["labels"]), row["problem"] or "")
    Console().print(table)
    return 0


@models.command("retire")
@in_words
def retire(name: Name, district: DistrictCode = None) -> int:
    """Back to the rules alone, in one step."""
    from screening.risk_model import registry

    with _unit(district) as (session, by):
        registry.retire(session, registry.get(session, name), by=by, now=db.now(session))
    tell(f"{name} says nothing more.")
    return 0


def _as_json(found: object) -> None:
    Console(soft_wrap=True).print_json(json.dumps(found, ensure_ascii=False))


@contextlib.contextmanager
def _unit(district: str | None) -> Iterator[tuple[Session, access.Actor]]:
    with finding.database() as database:
        scope, by = finding.district(database, district)
        with database.unit(scope) as session:
            yield session, by


@contextlib.contextmanager
def _unit_of(email: str) -> Iterator[tuple[Session, access.Actor]]:
    """A unit in which the person of this address acts: two persons are two accounts, even in one shell."""
    from screening import staff

    with finding.database() as database:
        actor = staff.actor_by_email(database, email)
        if actor is None:
            raise NotFound("There is no account for this address.")
        with database.unit(access.Scope(actor.district_id)) as session:
            yield session, actor


def _show_gates(gates: "tuple[Gate, ...] | list[Gate]") -> None:
    table = Table("gate", "", "seen", "needed")
    for gate in gates:
        word = {True: "open", False: "closed", None: "cannot say"}[gate.is_met]
        table.add_row(gate.name, word, gate.seen, gate.needed)
    Console().print(table)


def _show_fairness(found: "tuple[Gap, ...]") -> None:
    table = Table("by", "group", "in need", "missed", "95%", title="Whom rules and model miss")
    for gap in found:
        for one in gap.groups:
            missed = "" if one.missed is None else f"{one.missed:.0%}"
            table.add_row(gap.by, one.group, str(one.cases), missed, f"{one.interval[0]:.0%} to {one.interval[1]:.0%}")
    Console().print(table)


def _schools(session: Session, given: str | None) -> list[str] | None:
    """The codes that were given, each of a school that there is; nobody's: none."""
    if given is None:
        return None
    codes = [] if given == "none" else [code.strip() for code in given.split(",")]
    if unknown := sorted(set(codes) - set(session.scalars(select(School.code)))):
        wrong(f"There is no school {', '.join(unknown)}.")
    return codes


def _show_planted(found: dict[str, Any]) -> None:
    table = Table("what", "looked at", "found", "of those in need", "of those looked at", title="Planted truth")
    for name, row in found["arms"].items():
        table.add_row(
            name, str(row["looked_at"]), str(row["found"]), f"{row['sensitivity']:.1%}", f"{row['precision']:.1%}"
        )
    Console().print(table)
    tell(f"{found['in_need']} of {found['students']} students with answers are in need (seed {found['seed']}).")
