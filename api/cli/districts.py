"""Districts, made by whoever runs the service, handed over and erased when they leave."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli import finding
from api.terminal import NO, in_words, tell, wrong
from screening import access, db
from screening.settings import Settings

districts = typer.Typer(no_args_is_help=True, help="Districts, made by whoever runs the service.")


@districts.command("create")
@in_words
def create_district(
    code: Annotated[str, typer.Argument(help="A short code, e.g. d1.")],
    name: Annotated[str, typer.Argument(help="The district's name.")],
    admin: Annotated[str, typer.Option(help="The address of its first administrator.")],
    admin_name: Annotated[str, typer.Option("--admin-name", help="Their name.")] = "",
) -> int:
    """A district and its first administrator, who makes schools, people and rounds."""
    from screening import staff

    with finding.database() as database:
        if staff.actor_by_email(database, admin) is not None:
            wrong("There is an account for this address already.")
        made = staff.create_district(database, code, name)
        by = finding.operator(made.id)
        with database.unit(access.Scope(made.id)) as session:
            hired = staff.hire(session, admin, admin_name or admin, by=by)
            staff.grant(session, hired, "district_admin", None, by=by)
    tell(f"District {code} stands. Its administrator's way in: screening account invite --email {admin}")
    return 0


@districts.command("export")
@in_words
def export_district(
    code: Annotated[str, typer.Argument(help="The code of the district that leaves.")],
    path: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    key: Annotated[Path, typer.Option(help="The public half of the receiver's key (screening keys backup).")],
) -> int:
    """Everything of a district in one file sealed for its receiver; two persons of the district say so first."""
    from screening import backup as backups
    from screening import leaving

    public_key = backups.read_public_key(key)
    with finding.database() as database:
        [(scope, _)] = finding.districts(database, code)
        by = finding.operator(scope.district_id)
        counts = leaving.hand_over(database, scope.district_id, path, public_key, by=by)
    tell(f"{path}: {sum(counts.values())} rows of {len(counts)} tables, the persons, and the keys. Only its receiver")
    tell("opens it. When they have: screening district erase.")
    return 0


@districts.command("erase")
@in_words
def erase_district(
    code: Annotated[str, typer.Argument(help="The code of the district that leaves.")],
    again: Annotated[str, typer.Option("--again", help="The same code again: there is no way back.")],
    handed_over: Annotated[Path, typer.Option("--handed-over", help="The file that was handed over.", exists=True)],
) -> int:
    """Erases a district that was handed over: its key, then every row but the account; needs the owner's connection."""
    import psycopg

    from api import serving
    from screening import erasure, leaving

    if again != code:
        wrong("Nothing was erased: --again has to repeat the code.")
    settings = Settings.read()
    with finding.database() as database:
        [(scope, _)] = finding.districts(database, code)
        with database.unit(scope) as session:
            now = db.now(session)
            leaving.require_handed_over(session, handed_over, now=now)
    with psycopg.connect(serving.owner_url(settings), autocommit=True) as owner:
        gone = erasure.erase_district(owner, scope.district_id, settings.ledgers / erasure.FOLDER, now)
        left = erasure.left_of_district(owner, scope.district_id)
    tell(
        f"{code}: {gone} rows erased, {sum(left.values())} left but for the account. Restored backups erase them again,"
    )
    tell(f"as long as {settings.ledgers} is kept.")
    return NO if left else 0
