"""Which student rows are one child: SQL that others fold into their own, and the question about one row.

A merge that stands ties a duplicate to the row under which the child is counted; a row is never both, so that one
step leads to it. Nothing that is kept of either is moved: whoever asks about a child asks about all rows of it.
"""

import uuid
from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access

_MERGED = "{0}.district_id = :district and {0}.state = 'merged'"

COUNTED = f"(select m.duplicate_id, m.student_id from student_merges m where {_MERGED.format('m')})"  # noqa: S608 - our own SQL
"""SQL relation (duplicate_id, student_id): under which row a duplicate's child is counted; others are not in it."""

OTHERS = (
    f"(select m.student_id, m.duplicate_id as other_id from student_merges m where {_MERGED.format('m')}"  # noqa: S608 - our own SQL
    f" union all select m.duplicate_id, m.student_id from student_merges m where {_MERGED.format('m')}"
    " union all select m.duplicate_id, n.duplicate_id from student_merges m join student_merges n"
    "  on n.district_id = m.district_id and n.student_id = m.student_id and n.id <> m.id"
    f" where {_MERGED.format('m')} and {_MERGED.format('n')})"
)
"""SQL relation (student_id, other_id): for every row of a child each other row of it, both ways round."""


def rows_of(student: str) -> str:
    """SQL of the ids of all rows of the child of whom `student` (SQL of an id) is one, itself among them.

    It reads the table twice at most, and once for nearly every child: this stands in what is asked at each submit.
    """
    return (
        f"(select {student} union all select unnest(array[n.student_id, n.duplicate_id])"  # noqa: S608 - our own SQL
        " from student_merges m join student_merges n on n.district_id = m.district_id"
        " and n.student_id = m.student_id and n.state = 'merged'"
        f" where {_MERGED.format('m')} and (m.student_id = {student} or m.duplicate_id = {student}))"
    )


_OTHERS_OF = text(f"select o.student_id, o.other_id from {OTHERS} o where o.student_id = any(:students)")  # noqa: S608 - our own SQL


def others(session: Session, student_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, frozenset[uuid.UUID]]:
    """The other rows of each of these children, as far as the scope reaches; who has none is not in it."""
    about = {"district": access.scope_of(session).district_id, "students": list(student_ids)}
    found: dict[uuid.UUID, set[uuid.UUID]] = {}
    for row in session.execute(_OTHERS_OF, about):
        found.setdefault(row.student_id, set()).add(row.other_id)
    return {student_id: frozenset(rows) for student_id, rows in found.items()}
