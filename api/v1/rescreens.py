"""Who should be asked the questions again by now."""

import datetime as dt
import uuid

from alerts import rescreens
from api.deps import CARING, ActorDep, Door, NowDep, PageDep, SessionDep, View, moment
from screening import students

door = Door(prefix="/v1/rescreens", tag="rescreens")


class RescreenView(View):
    """`due_at` is the policy's day after the alert; a result from a week before it on is the answer."""

    alert_id: uuid.UUID
    student_id: uuid.UUID
    student_name: str | None
    due_at: dt.datetime
    is_overdue: bool


class RescreensView(View):
    rescreens: list[RescreenView]


@door.get("", roles=CARING)
def listed(session: SessionDep, by: ActorDep, now: NowDep, page: PageDep) -> RescreensView:
    """The students of one's schools whose day has come and who were not asked again, the longest waiting first."""
    after = page.after(moment, uuid.UUID)
    found = [each for each in rescreens.waiting(session, now=now) if after is None or _key(each) > after]
    rows = page.cut(found[: page.limit + 1], lambda each: (each.due_at.isoformat(), each.alert_id))
    names = students.named(session, {each.student_id for each in rows}, by=by)
    return RescreensView(
        rescreens=[
            RescreenView(
                alert_id=each.alert_id,
                student_id=each.student_id,
                student_name=names.get(each.student_id),
                due_at=each.due_at,
                is_overdue=each.is_overdue(now),
            )
            for each in rows
        ]
    )


def _key(each: rescreens.Rescreen) -> tuple[dt.datetime, uuid.UUID]:
    return each.due_at, each.alert_id
