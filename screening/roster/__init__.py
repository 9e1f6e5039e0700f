"""Lists of students: a file becomes a proposal, which a person commits. Nobody is attached to a child by guess.

A row is about a known student when school and number agree and so does the name; about a student who moved when
number and name (and the birth date, where both are known) agree with one student of another school. Whatever is
less certain is refused with a reason, and a person decides. A student whom a list leaves out is only named as such.
"""

from screening.roster.committing import commit
from screening.roster.listing import CHANGES, Listed, Proposal, ProposedRow
from screening.roster.proposing import (
    KEPT_DAYS,
    MOST_ATTEMPTS,
    forget_due,
    get,
    lay_out,
    proposal,
    propose,
    propose_waiting,
    receive,
)

__all__ = [
    "CHANGES",
    "KEPT_DAYS",
    "MOST_ATTEMPTS",
    "Listed",
    "Proposal",
    "ProposedRow",
    "commit",
    "forget_due",
    "get",
    "lay_out",
    "proposal",
    "propose",
    "propose_waiting",
    "receive",
]
