"""The account made tamper-evident: lines sealed into a chain, its heads signed and kept outside, and both walked."""

from screening.audit_chain.heads import (
    FOLDER,
    Head,
    HeadsMissing,
    file_of,
    in_database,
    in_files,
    set_aside,
    told_by,
    write_heads,
)
from screening.audit_chain.linking import seal
from screening.audit_chain.verifying import Fault, Verdict, verify

__all__ = [
    "FOLDER",
    "Fault",
    "Head",
    "HeadsMissing",
    "Verdict",
    "file_of",
    "in_database",
    "in_files",
    "seal",
    "set_aside",
    "told_by",
    "verify",
    "write_heads",
]
