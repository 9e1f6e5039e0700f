"""Accounts: tokens, invitations, lost second factors, ends."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from api.cli import finding
from api.cli.finding import DistrictCode
from api.terminal import in_words, say, tell, wrong
from screening import access, db
from screening.settings import Settings

people = typer.Typer(no_args_is_help=True, help="Accounts: invitations, lost second factors, ends.")


Email = Annotated[str, typer.Option(help="The account's address.")]


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

    with finding.database() as database:
        scope, by = finding.district(database, district)
        with database.unit(scope) as session:
            count = accounts.sign_everybody_out(session, by=by)
    tell(f"{count} accounts are signed out; codes on paper are of no use any more.")
    return 0


@contextlib.contextmanager
def _account(email: str) -> Iterator[tuple[Session, uuid.UUID, access.Actor]]:
    """A unit in which the operator does something about the account of this address."""
    from screening import staff

    with finding.database() as database:
        actor = staff.actor_by_email(database, email)
        if actor is None or actor.account_id is None:
            wrong("There is no account for this address.")
        with database.unit(access.Scope(actor.district_id)) as session:
            yield session, actor.account_id, finding.operator(actor.district_id)
