"""Temporary servers: where their folders lie, and the end of those that killed runs left behind."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from screening.embedded import process
from screening.embedded.locks import Lock

TEMPORARY = "screening-"


def short_folder() -> Path:
    folder = Path(tempfile.gettempdir()).absolute()
    return folder if len(os.fsencode(folder)) < 60 else Path("/tmp")  # noqa: S108 - mkdtemp makes it ours alone


def sweep_abandoned(place: Path) -> None:
    """Ends the temporary servers of killed runs: nobody holds their lock any more."""
    for path in place.glob(f"{TEMPORARY}*/embedded.users"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < 5:
                continue
            lock = Lock(path)
            if lock.take():
                process.shut_down(path.parent / "pg" / "data", quickly=True)
                shutil.rmtree(path.parent)
            lock.release()
