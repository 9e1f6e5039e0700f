"""What speaks against two student rows being one child: looked up each time, for those who have to decide."""

import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, identity
from screening.models import StudentMerge

WARNINGS: Mapping[str, str] = {
    "name_differs": "The two rows have different names.",
    "sex_differs": "The two rows say different things of the sex.",
    "birth_differs": "The two rows have different birth dates.",
    "school_differs": "The two rows stand at different schools.",
    "both_answered": "Both rows have answers in the same round; both are kept, and the higher tier counts.",
    "answers_differ": "The answers to the same form of the same round differ.",
}
"""What speaks against two rows being one child. None of it forbids a merge; whoever confirms has to have seen it."""


def of(session: Session, found: Sequence[StudentMerge]) -> dict[uuid.UUID, tuple[str, ...]]:
    """Codes of WARNINGS by the id of the merge. Needs the schools of both rows in scope."""
    about = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "merges": [each.id for each in found],
    }
    told = {row.id: {code for code in WARNINGS if getattr(row, code)} for row in session.execute(_BESIDE, about)}
    born = {
        student_id: person.born_on
        for student_id, person in identity.people(
            session, {student for each in found for student in (each.student_id, each.duplicate_id)}
        ).items()
    }
    for each in found:
        days = {born.get(each.student_id), born.get(each.duplicate_id)} - {None}
        if len(days) > 1:
            told[each.id].add("birth_differs")
    return {merge_id: tuple(code for code in WARNINGS if code in codes) for merge_id, codes in told.items()}


_BESIDE = text(
    "select m.id, a.name_hash <> b.name_hash as name_differs,"  # noqa: S608 - our own SQL
    " s.sex <> d.sex and 'x' not in (s.sex, d.sex) as sex_differs, s.born_month <> d.born_month as birth_differs,"
    " s.school_id <> d.school_id as school_differs,"
    " exists (select from administrations f join administrations g on g.district_id = f.district_id"
    "  and g.round_id = f.round_id and g.student_id = d.id"
    "  where f.district_id = m.district_id and f.student_id = s.id"
    f"  and {access.within('f.school_id')} and {access.within('g.school_id')}) as both_answered,"
    " exists (select from administrations f join administrations g on g.district_id = f.district_id"
    "  and g.round_id = f.round_id and g.student_id = d.id and g.informant = f.informant"
    "  and g.instrument = f.instrument and g.attempt = f.attempt and g.answers <> f.answers"
    "  where f.district_id = m.district_id and f.student_id = s.id"
    f"  and {access.within('f.school_id')} and {access.within('g.school_id')}) as answers_differ"
    " from student_merges m join students s on s.district_id = m.district_id and s.id = m.student_id"
    " join students d on d.district_id = m.district_id and d.id = m.duplicate_id"
    " left join identities a on a.district_id = m.district_id and a.student_id = s.id"
    " left join identities b on b.district_id = m.district_id and b.student_id = d.id"
    " where m.district_id = :district and m.id = any(:merges)"
)
