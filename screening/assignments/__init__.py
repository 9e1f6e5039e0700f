"""The online form: a page of answers is saved, a critical answer is noticed at once, a form is handed in.

What the floor above must weigh comes back as signals and revisions; the door passes them on in the same transaction.
"""

from screening.assignments.pages import NotKept, NotKeptAsSent, NotKeptBeside, NotKeptNow, Sent
from screening.assignments.places import Answers, Waiting, waiting
from screening.assignments.safety import FIRST_ATTEMPT
from screening.assignments.saving import Saved, save
from screening.assignments.submitting import Submitted, submit

__all__ = [
    "FIRST_ATTEMPT",
    "Answers",
    "NotKept",
    "NotKeptAsSent",
    "NotKeptBeside",
    "NotKeptNow",
    "Saved",
    "Sent",
    "Submitted",
    "Waiting",
    "save",
    "submit",
    "waiting",
]
