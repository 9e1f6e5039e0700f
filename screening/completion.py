"""How far each class has come in one round, for whoever minds a class: done or not done, and nothing else."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, rounds


@dataclass(frozen=True, slots=True)
class ClassCompletion:
    """Places of one class and informant: how many there are, and how many of them have handed in."""

    school_id: uuid.UUID
    grade: int
    class_name: str
    informant: str
    places: int
    exempt: int
    completed: int


_IS_DONE = (
    "exists (select from administrations d where d.district_id = a.district_id and d.round_id = a.round_id"
    " and d.student_id = a.student_id and d.informant = a.informant)"
)
_HERE = (
    f"a.district_id = :district and a.round_id = :round and {access.within('a.school_id')}"
    " and (cast(:among as uuid[]) is null or a.school_id = any(:among))"
)
_BY_CLASS = text(
    "select a.school_id, a.grade, a.class_name, a.informant, count(*) as places,"  # noqa: S608 - our own SQL
    " count(*) filter (where a.exempt_reason is not null) as exempt,"
    f" count(*) filter (where {_IS_DONE}) as completed from assignments a where {_HERE}"
    " group by a.school_id, a.grade, a.class_name, a.informant"
    " order by a.school_id, a.grade, a.class_name, a.informant"
)


def by_class(
    session: Session, round_id: uuid.UUID, *, school_ids: Collection[uuid.UUID] | None = None
) -> list[ClassCompletion]:
    """How many of each class have handed in. `school_ids` None: every school of the scope. Raises NotFound."""
    rounds.get(session, round_id)
    wanted = {
        "district": access.scope_of(session).district_id,
        "round": round_id,
        "schools": access.schools_of(session),
        "among": None if school_ids is None else list(school_ids),
    }
    return [ClassCompletion(*row) for row in session.execute(_BY_CLASS, wanted)]
