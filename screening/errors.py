"""What can go wrong in the house, named for what went wrong; no HTTP here (api/errors.py answers for the doors)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in what was handed in, where it stands, and what to do.

    `row` is numbered as the spreadsheet shows it (the header is row 1); `sheet`, `row` and `column` are None
    where the problem is not of one place. `code` is stable and lower_snake; `message` is for a school secretary.
    """

    code: str
    message: str
    sheet: str | None = None
    row: int | None = None
    column: str | None = None


class HouseError(Exception):
    """Base of all errors that a door answers in words; `code` is the stable name, the text is the detail."""

    code = "refused"

    def __init__(self, detail: str, *, code: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.problems = tuple(problems)


class NotFound(HouseError):
    """The thing does not exist for this reader: absent and forbidden look alike."""

    code = "not_found"


class AccessNeeded(HouseError):
    """It is there and of one's own school, but for those who have to do with it."""

    code = "access_needed"


class Refused(HouseError):
    """The rules of the house do not allow it now (closed round, missing second person ...)."""

    code = "refused"


class Conflict(HouseError):
    """Somebody else was faster, or the thing is no longer in the state the caller believes."""

    code = "conflict"


class InvalidUpload(HouseError):
    """A file or form that cannot be taken as it stands; every problem is listed."""

    code = "invalid_upload"


class ServiceBusy(HouseError):
    """Too much at once; the caller may try again shortly."""

    code = "busy"


class NotSignedIn(HouseError):
    """What was shown does not prove who it is; not said which part of it was wrong."""

    code = "not_signed_in"


class TooManyAttempts(HouseError):
    """So many wrong attempts that the next one is taken only after a while."""

    code = "too_many_attempts"

    def __init__(self, wait_seconds: float) -> None:
        self.wait_seconds = math.ceil(wait_seconds)
        super().__init__(f"Too many attempts. The next one is taken in {self.wait_seconds} seconds.")
