"""A page as it came: whether its answers are of this form, whether they are taken, and what is said when not."""

from collections.abc import Mapping, Sequence

from screening.assignments.places import Answers, Place
from screening.assignments.safety import safety_signals
from screening.errors import Conflict, HouseError, InvalidUpload, Problem, Refused

Sent = Mapping[str, object]
"""A page as it came, before each of its answers was found to be one."""


class NotKept(HouseError):
    """Answers that are not kept. The door commits what comes of their `signals` before it says so."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        place: Place,
        pages: Mapping[str, Answers],
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(detail, code=code, problems=problems)
        self.signals = safety_signals(place, pages)
        self.rules = place.rules


class NotKeptNow(NotKept, Refused):
    """The round does not take them, or nobody has consented."""


class NotKeptBeside(NotKept, Conflict):
    """Other answers were handed in before."""


class NotKeptAsSent(NotKept, InvalidUpload):
    """Some items or codes are not of this form: each is named, and the page is to be sent again."""


def by_instrument(place: Place, answers: Sent) -> dict[str, dict[str, int | None]]:
    pages: dict[str, dict[str, int | None]] = {}
    problems = []
    allowed = {item.id: (code, item) for code in place.forms for item in place.rules.instruments[code].items}
    for item_id, answer in answers.items():
        if item_id not in allowed:
            problems.append(Problem("unknown_item", "The form has no such item.", column=item_id))
            continue
        code, item = allowed[item_id]
        if answer is None or (type(answer) is int and answer in item.codes):
            pages.setdefault(code, {})[item_id] = answer
        else:
            codes = ", ".join(map(str, sorted(item.codes)))
            problems.append(Problem("outside_codes", f"The answer is not one of {codes}.", column=item_id))
    if problems:
        raise NotKeptAsSent(
            "Some answers are not of this form.", code="invalid_answers", place=place, pages=pages, problems=problems
        )
    return pages


def must_be_open(place: Place, pages: Mapping[str, Answers]) -> None:
    if place.rules.is_historical:
        words = "This round holds answers that were given earlier; they come in by file."
        raise NotKeptNow(words, code="round_historical", place=place, pages=pages)
    if place.row["opening_state"] != "open":
        words = "The round is not open at this school."
        raise NotKeptNow(words, code="round_not_open", place=place, pages=pages)
