"""School days, pure: Monday to Friday within terms, with a district's exceptions, in the local time of its schools."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

_LONGEST_BREAK = 366


@dataclass(frozen=True)
class Calendar:
    """When a school is open. Instants come in any zone (one without a zone is read as UTC) and go out in UTC.

    `exceptions` says of a date whether it is a school day against the rule of Monday to Friday: a holiday (False)
    or a weekend day that is taught (True). A date that nobody entered follows the rule, so that a calendar which
    ends too soon makes clocks run, never stop; and so before the first and after the last of the `terms`, first and
    last day each in order. Between two of them there is no school, whatever else is said of a day. Nothing here raises.
    """

    exceptions: Mapping[dt.date, bool] = field(default_factory=dict)
    timezone: dt.tzinfo = dt.UTC
    opens: dt.time = dt.time(8)
    closes: dt.time = dt.time(17)
    terms: tuple[tuple[dt.date, dt.date], ...] = ()

    def is_school_day(self, on: dt.date) -> bool:
        if self._is_between_terms(on):
            return False
        return self.exceptions.get(on, on.weekday() < 5)

    def is_school_hours(self, at: dt.datetime) -> bool:
        """Whether the school is open at this instant: from `opens` on, `closes` no more."""
        local = self._local(at)
        return self.is_school_day(local.date()) and self.opens <= local.time() < self.closes

    def next_school_hours(self, at: dt.datetime) -> dt.datetime:
        """This instant if the school is open, else the next opening."""
        local = self._local(at)
        if self.is_school_hours(local):
            return _utc(local)
        if self.is_school_day(local.date()) and local.time() < self.opens:
            return self._opening(local.date())
        return self._opening(self._next_school_day(local.date()))

    def add_school_days(self, at: dt.datetime, n: int) -> dt.datetime:
        """`n` school days later at the same local time; outside school hours the clock starts at the next opening.

        Where no school day comes in a year, calendar days are counted instead: a clock always ends.
        """
        local = self._local(self.next_school_hours(at))
        on = local.date()
        for _ in range(n):
            on = self._next_school_day(on)
        return _utc(dt.datetime.combine(on, local.time(), self.timezone))

    def _is_between_terms(self, on: dt.date) -> bool:
        is_known = bool(self.terms) and self.terms[0][0] <= on <= self.terms[-1][1]
        return is_known and not any(first <= on <= last for first, last in self.terms)

    def _next_school_day(self, on: dt.date) -> dt.date:
        days_left = min(_LONGEST_BREAK, (dt.date.max - on).days)
        days = (on + dt.timedelta(days=ahead) for ahead in range(1, days_left + 1))
        return next((day for day in days if self.is_school_day(day)), on + dt.timedelta(days=min(1, days_left)))

    def _opening(self, on: dt.date) -> dt.datetime:
        return _utc(dt.datetime.combine(on, self.opens, self.timezone))

    def _local(self, at: dt.datetime) -> dt.datetime:
        aware = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
        try:
            return aware.astimezone(self.timezone)
        except OverflowError:  # the first and last hours that a datetime can say
            return aware.replace(tzinfo=self.timezone)


def _utc(local: dt.datetime) -> dt.datetime:
    try:
        return local.astimezone(dt.UTC)
    except OverflowError:
        return local.replace(tzinfo=dt.UTC)
