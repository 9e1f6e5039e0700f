"""Keys, and the backups that one of them opens."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli import finding
from api.cli.finding import InputFile
from api.terminal import NO, SHOWN_PROBLEMS, AsJson, answer, in_words, say, tell, wrong
from screening.settings import Settings

key_ring = typer.Typer(no_args_is_help=True, help="The keys that everything is sealed under.")


@key_ring.command("rotate")
@in_words
def rotate_keys(
    districts: Annotated[
        bool, typer.Option("--districts", help="Also a new key for each district, and its students' keys under it.")
    ] = False,
) -> int:
    """A new master key while the service runs; the file holds both until nothing is under the old one."""
    from screening import key_rotation, sealing

    settings = Settings.read()
    with finding.database() as database:
        keys = settings.master_keys()
        if len(keys) == 1:  # else a run was broken off, or somebody put the new one in: that is the one
            keys = [sealing.new_key(), *keys]
            settings.keep_master_keys(keys)
        database.ring.read_anew()
        try:
            found = key_rotation.rotate_master(database, keys, settings.keep_master_keys, by_id=finding.OPERATOR_ID)
            for scope, _ in finding.districts(database, None) if districts else ():
                found.students += key_rotation.rotate_district(database, scope.district_id, by_id=finding.OPERATOR_ID)
        except sealing.CannotOpen:
            wrong("A value is under none of the keys in SCREENING_MASTER_KEY_FILE; no key was taken away.")
        except key_rotation.StillRunning as error:
            wrong(str(error))
    tell(f"{found.districts} districts are under the new master key, {found.students} students' keys wrapped anew.")
    return 0


@key_ring.command("backup")
@in_words
def make_backup_key(
    private: Annotated[Path, typer.Argument(help="Where the private half goes: a medium that is then taken away.")],
) -> int:
    """Makes the pair of keys for backups: the public half is kept here, the private half opens them."""
    from screening import backup as backups

    public = Settings.read().backup_key_file
    for path in (private, public):
        if path.exists():
            wrong(f"{path} is there already; a key is never written over.")
    backups.make_key_pair(private, public)
    tell(f"Backups are encrypted for {public}. Take {private} away from here: without it no backup opens.")
    return 0


@in_words
def backup(
    path: Annotated[Path, typer.Argument(help="The file to write; what is there is replaced when done.")],
) -> int:
    """An encrypted backup of the whole database, which only the private half of the backup key opens."""
    from api import serving
    from screening import backup as backups

    settings = Settings.read()
    if not settings.backup_key_file.exists() and not settings.is_production:
        backups.make_key_pair(settings.made_home() / "backup.key", settings.backup_key_file)
    public_key = backups.read_public_key(settings.backup_key_file)
    count = backups.dump(serving.owner_url(settings), path, public_key)
    tell(
        f"{path}: {count} bytes of dump, encrypted. It opens with the private half of {settings.backup_key_file} only."
    )
    return 0


@in_words
def restore(
    path: InputFile,
    key: Annotated[
        Path | None, typer.Option(help="The private half of the backup key; in development the home's.")
    ] = None,
    former_key: Annotated[
        Path | None, typer.Option(help="The master key of that day, where keys were rotated since.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of the embedded database that is there.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Brings a backup back: proved, at the present schema, rid of what was erased since, nothing sent twice."""
    from api import serving
    from screening import backup as backups

    settings = Settings.read()
    private_key = backups.read_private_key(key or settings.home / "backup.key")
    found = serving.restore(settings, path, private_key, former_key_file=former_key, is_replacing=replace)
    for words in (*found.faults, *(f"lost: {words}" for words in found.lost)):
        say(words)
    for code, verdict in found.verdicts:
        for fault in verdict.faults[:SHOWN_PROBLEMS]:
            say(f"{code}: {fault.sequence or ''} {fault.words}")
    told = {
        "rows": sum(found.counts.values()),
        "deliveries_held_back": found.deliveries_held_back,
        "erasures_applied": found.erasures_applied,
        "account_lines": sum(verdict.entries for _, verdict in found.verdicts),
    }
    answer(told, (), as_json=as_json)
    return 0 if found.is_whole else NO
