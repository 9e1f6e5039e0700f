"""Backups: a dump of the whole database that only a key kept elsewhere opens, and the way back from it."""

from screening.backup.dumping import dump, dump_nightly
from screening.backup.restoring import Restored, restore
from screening.backup.sealed_file import CannotRead, make_key_pair, read_private_key, read_public_key

__all__ = [
    "CannotRead",
    "Restored",
    "dump",
    "dump_nightly",
    "make_key_pair",
    "read_private_key",
    "read_public_key",
    "restore",
]
