"""The counselor's queue: who waits to be looked at, who answers, and what came of looking."""

from alerts.triage.answering import ANSWERING, acknowledge
from alerts.triage.concerns import CONCERNED, raise_concern
from alerts.triage.deciding import CONFIRMING, CONTACTS, ENDING, PROPOSED, confirm_triage, triage
from alerts.triage.identifying import identify, misplace
from alerts.triage.listing import WAITING, AlertStory, Cursor, QueueRow, Reason, alert, note_of, queue

__all__ = [
    "ANSWERING",
    "CONCERNED",
    "CONFIRMING",
    "CONTACTS",
    "ENDING",
    "PROPOSED",
    "WAITING",
    "AlertStory",
    "Cursor",
    "QueueRow",
    "Reason",
    "acknowledge",
    "alert",
    "confirm_triage",
    "identify",
    "misplace",
    "note_of",
    "queue",
    "raise_concern",
    "triage",
]
