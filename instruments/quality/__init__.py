"""Signs of careless answering, a whole school at once: every index shown, and a verdict on the sheet.

Nothing here silences anything. A verdict says how far a sheet can be relied on; critical items are read before and
apart from it, and a doubtful sheet is a question to be asked again, not an answer "nothing found".
"""

from instruments.quality.battery import Battery, Question, Sheet, joined, of_columns, of_instruments
from instruments.quality.judging import INDICES, LIE, SIGNS, VERDICT, reference_of, signs
from instruments.quality.reference import FEWEST_PEOPLE, FEWEST_PER_QUESTION, Reference

__all__ = [
    "FEWEST_PEOPLE",
    "FEWEST_PER_QUESTION",
    "INDICES",
    "LIE",
    "SIGNS",
    "VERDICT",
    "Battery",
    "Question",
    "Reference",
    "Sheet",
    "joined",
    "of_columns",
    "of_instruments",
    "reference_of",
    "signs",
]
