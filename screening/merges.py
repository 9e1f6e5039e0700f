"""Two student rows that are one child: proposed by one person, confirmed by another, taken apart by two again.

A merge is a tie and no more. Alerts, cases, answers, results, consents and enrollments stay with the row that they
came to, so that taking it apart leaves both as they are; what is read as one while it stands is said in `same_child`.
"""

import datetime as dt
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit, contradictions, coverage, db, sealing, students
from screening.errors import Conflict, NotFound, Problem, Refused
from screening.models import StudentMerge

DECIDING = ("school_admin", "lead", "district_admin")
"""Who keeps a roster or stands for a school's care: they propose, confirm, refuse and take apart."""
STATES = ("proposed", "merged", "refused", "withdrawn", "split")
SHORTEST_REASON = 10
"""Signs without spaces: a dot is no reason."""

Follow = Callable[[Session, Collection[uuid.UUID], access.Actor, dt.datetime], object]
"""What people do about a child hears of it in the same transaction: these rows were tied, or taken apart."""


@dataclass(frozen=True)
class Pair:
    """A merge with what speaks against it now."""

    merge: StudentMerge
    warnings: tuple[str, ...]


def propose(
    session: Session,
    student_id: uuid.UUID,
    duplicate_id: uuid.UUID,
    reason: str,
    *,
    by: access.Actor,
    now: dt.datetime,
) -> StudentMerge:
    """Says that `duplicate_id` is the same child as `student_id`, for a second person; the same again is the same.

    Raises NotFound for a row that this person does not see or may not decide about, Refused for one row twice
    (`same_student`), for a row that was erased (`erased_student`) and where a row is tied already (`merge_chain`),
    Conflict when it is merged or proposed by somebody else (`merged`, `merge_waiting`).
    """
    schools = [_school_for(session, each, by) for each in (student_id, duplicate_id)]
    if student_id == duplicate_id:
        raise Refused("These are not two rows: name the row that stays and its duplicate.", code="same_student")
    db.lock(session, f"merges/{access.scope_of(session).district_id}")
    standing = _standing(session, student_id, duplicate_id, by)
    if standing is not None:
        return standing
    _refuse_erased(session, student_id, duplicate_id)
    made = StudentMerge(
        district_id=by.district_id,
        id=uuid.uuid4(),
        student_id=student_id,
        duplicate_id=duplicate_id,
        school_id=schools[0],
        duplicate_school_id=schools[1],
        state="proposed",
        proposed_by=by.person,
        proposed_at=now,
    )
    made.sealed_reason = _sealed(session, made.id, "reason", reason)
    session.add(made)
    session.flush()
    _account(session, by, "merge.proposed", made)
    return made


def confirm(
    session: Session, merge_id: uuid.UUID, seen: Collection[str], *, by: access.Actor, now: dt.datetime, follow: Follow
) -> StudentMerge:
    """The second person's word: from now on the two rows are one child. `seen` are the warnings that were looked at.

    Raises NotFound, Refused for one's own proposal (`second_person`) and for warnings that were not seen
    (`warnings_not_seen`, each named), Conflict when it is decided, and whatever `propose` raises of the rows.
    """
    found = _held(session, merge_id, by)
    if found.state == "merged" and found.decided_by == by.person:
        return found
    _must_wait(found)
    _require_second_person(found.proposed_by, by)
    db.lock(session, f"merges/{found.district_id}")
    _refuse_chain(session, found.student_id, found.duplicate_id, besides=found.id)
    with access.widened(session, (found.school_id, found.duplicate_school_id)):
        _refuse_erased(session, found.student_id, found.duplicate_id)
        warnings = contradictions.of(session, [found])[found.id]
    unseen = [Problem(each, contradictions.WARNINGS[each]) for each in warnings if each not in seen]
    if unseen:
        words = "Look at what speaks against it first, and say that you have seen it."
        raise Refused(words, code="warnings_not_seen", problems=unseen)
    found.state, found.warnings = "merged", list(warnings)
    found.decided_by, found.decided_at = by.person, now
    session.flush()
    _account(session, by, "merge.confirmed", found, warnings=list(warnings))
    _bring_about(session, found, by, now, follow)
    return found


def refuse(session: Session, merge_id: uuid.UUID, words: str, *, by: access.Actor, now: dt.datetime) -> StudentMerge:
    """The second person's no: to a merge that is proposed, or to taking one apart that was asked for."""
    found = _held(session, merge_id, by)
    if found.state == "refused" and found.decided_by == by.person:
        return found
    if found.state == "merged" and found.split_asked_by is not None:
        _require_second_person(found.split_asked_by, by)
        _forget_split(session, found)
        _account(session, by, "merge.split_refused", found)
        return found
    _must_wait(found)
    _require_second_person(found.proposed_by, by)
    found.state, found.decided_by, found.decided_at = "refused", by.person, now
    found.sealed_refusal = _sealed(session, found.id, "refusal", words)
    session.flush()
    _account(session, by, "merge.refused", found)
    return found


def withdraw(session: Session, merge_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> StudentMerge:
    """Whoever proposed a merge, or asked to take one apart, takes that back before a second person has spoken."""
    found = _held(session, merge_id, by)
    if found.state == "withdrawn" and found.decided_by == by.person:
        return found
    if found.state == "merged" and found.split_asked_by == by.person:
        _forget_split(session, found)
        _account(session, by, "merge.split_withdrawn", found)
        return found
    _must_wait(found)
    if found.proposed_by != by.person:
        raise Refused("Only who proposed it takes it back; you may refuse it.", code="not_yours")
    found.state, found.decided_by, found.decided_at = "withdrawn", by.person, now
    session.flush()
    _account(session, by, "merge.withdrawn", found)
    return found


def ask_split(
    session: Session, merge_id: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime
) -> StudentMerge:
    """Says that the two rows are two children after all, for a second person; until then they are one."""
    found = _held(session, merge_id, by)
    if found.state != "merged":
        raise Conflict(f"Only what is merged can be taken apart; this is {found.state}.", code="not_merged")
    if found.split_asked_by is not None:
        if found.split_asked_by == by.person:
            return found
        raise Conflict("Somebody else has asked for this already; confirm it.", code="split_waiting")
    found.split_asked_by, found.split_asked_at = by.person, now
    found.sealed_split_reason = _sealed(session, found.id, "split", reason)
    session.flush()
    _account(session, by, "merge.split_asked", found)
    return found


def confirm_split(
    session: Session, merge_id: uuid.UUID, *, by: access.Actor, now: dt.datetime, follow: Follow
) -> StudentMerge:
    """The second person's word that they are two: both rows stand as they did, with all that came to each of them."""
    found = _held(session, merge_id, by)
    if found.state == "split" and found.split_by == by.person:
        return found
    if found.state != "merged" or found.split_asked_by is None:
        raise Conflict("Nobody asks to take this apart now.", code="no_split_asked")
    _require_second_person(found.split_asked_by, by)
    db.lock(session, f"merges/{found.district_id}")
    found.state, found.split_by, found.split_at = "split", by.person, now
    session.flush()
    _account(session, by, "merge.split", found)
    _bring_about(session, found, by, now, follow)
    return found


# -- reading --------------------------------------------------------------------------------------------


def get(session: Session, merge_id: uuid.UUID) -> StudentMerge:
    """The merge, for those of either school. Raises NotFound."""
    found = session.get(StudentMerge, (access.scope_of(session).district_id, merge_id), populate_existing=True)
    if found is None or not _is_reached(session, found):
        raise NotFound("There is no such merge.")
    return found


def shown(session: Session, merge_id: uuid.UUID) -> Pair:
    """One merge with what speaks against it. Raises NotFound."""
    return _paired(session, [get(session, merge_id)])[0]


def listed(
    session: Session,
    *,
    states: Sequence[str] | None = None,
    after: tuple[dt.datetime, uuid.UUID] | None = None,
    limit: int = 50,
) -> list[Pair]:
    """Merges of the scope's schools in these states (what waits for a second person, where none is named), latest
    first."""
    scope = access.scope_of(session)
    wanted = select(StudentMerge).where(StudentMerge.district_id == scope.district_id)
    if scope.schools is not None:
        near = StudentMerge.school_id.in_(scope.schools)
        wanted = wanted.where(near | StudentMerge.duplicate_school_id.in_(scope.schools))
    if states:
        wanted = wanted.where(StudentMerge.state.in_(states))
    else:
        is_asked = StudentMerge.split_asked_by.is_not(None) & (StudentMerge.state == "merged")
        wanted = wanted.where((StudentMerge.state == "proposed") | is_asked)
    if after is not None:
        at, last = after
        earlier = StudentMerge.proposed_at < at
        wanted = wanted.where(earlier | ((StudentMerge.proposed_at == at) & (StudentMerge.id > last)))
    found = session.scalars(wanted.order_by(StudentMerge.proposed_at.desc(), StudentMerge.id).limit(limit)).all()
    return _paired(session, found)


def words_of(session: Session, found: StudentMerge, part: str) -> str | None:
    """What was written as its `reason`, `refusal` or reason to `split`, opened from its seal; None: nothing, or no
    more."""
    sealed = {
        "reason": found.sealed_reason,
        "refusal": found.sealed_refusal,
        "split": found.sealed_split_reason,
    }[part]
    return sealing.keys(session).open_text(sealed, _place(found.id, part)) if sealed else None


# -- checks and steps -----------------------------------------------------------------------------------


def _school_for(session: Session, student_id: uuid.UUID, by: access.Actor) -> uuid.UUID:
    """Where this row stands, for who may decide about it there; whatever else looks like nothing."""
    school_id = students.school_of(session, student_id)
    if not by.has(*DECIDING, school_id=school_id):
        raise NotFound("There is no such student.")
    return school_id


def _standing(
    session: Session, student_id: uuid.UUID, duplicate_id: uuid.UUID, by: access.Actor
) -> StudentMerge | None:
    """This person's own proposal of the same. Raises what stands in the way of a further one."""
    same = session.scalars(
        select(StudentMerge).where(
            StudentMerge.district_id == by.district_id,
            StudentMerge.student_id == student_id,
            StudentMerge.duplicate_id == duplicate_id,
            StudentMerge.state.in_(("proposed", "merged")),
        )
    ).one_or_none()
    if same is None:
        _refuse_chain(session, student_id, duplicate_id)
        return None
    if same.state == "merged":
        raise Conflict("These two are merged already.", code="merged")
    if same.proposed_by != by.person:
        raise Conflict("Somebody else has proposed this already; confirm it.", code="merge_waiting")
    return same


_TIED = text(
    "select state, duplicate_id = :duplicate as is_same_duplicate from student_merges"
    " where district_id = :district and state in ('proposed', 'merged')"
    " and (cast(:besides as uuid) is null or id <> :besides)"
    " and (duplicate_id in (:student, :duplicate) or student_id = :duplicate) limit 1"
)


def _refuse_chain(
    session: Session, student_id: uuid.UUID, duplicate_id: uuid.UUID, *, besides: uuid.UUID | None = None
) -> None:
    """A child is counted under one row, to which every duplicate is tied by itself: no chain, and no circle."""
    about = {"district": access.scope_of(session).district_id, "student": student_id, "duplicate": duplicate_id}
    tied = session.execute(_TIED, about | {"besides": besides}).first()
    if tied is None:
        return
    word = "tied" if tied.state == "merged" else "proposed to be tied"
    if tied.is_same_duplicate:
        raise Conflict(f"The duplicate is {word} to another row already.", code="merge_chain")
    words = f"One of these rows is {word} to another: name the row under which that child is counted."
    raise Refused(words, code="merge_chain")


_ERASED = text(
    "select exists (select from students s where s.district_id = :district and s.id = any(:students) and ("
    " not exists (select from identities i where i.district_id = s.district_id and i.student_id = s.id)"
    " or exists (select from erasures e where e.district_id = s.district_id and e.student_id = s.id"
    "  and e.extent = 'person' and e.state in ('waiting', 'done'))))"
)


def _refuse_erased(session: Session, *student_ids: uuid.UUID) -> None:
    about = {"district": access.scope_of(session).district_id, "students": list(student_ids)}
    if session.execute(_ERASED, about).scalar():
        raise Refused("One of these rows is erased, or about to be: nobody can say who it was.", code="erased_student")


def _held(session: Session, merge_id: uuid.UUID, by: access.Actor) -> StudentMerge:
    """The merge, held against others until the end of the transaction, for who may decide at one of its schools."""
    found = session.scalars(
        select(StudentMerge)
        .where(StudentMerge.district_id == access.scope_of(session).district_id, StudentMerge.id == merge_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    schools = () if found is None else (found.school_id, found.duplicate_school_id)
    if found is None or not any(by.has(*DECIDING, school_id=each) for each in schools):
        raise NotFound("There is no such merge.")
    return found


def _is_reached(session: Session, found: StudentMerge) -> bool:
    return access.reaches(session, found.school_id) or access.reaches(session, found.duplicate_school_id)


def _must_wait(found: StudentMerge) -> None:
    if found.state == "split":
        raise Conflict(f"This was taken apart by {found.split_by}.", code="decided")
    if found.state != "proposed":
        raise Conflict(f"This was {found.state} by {found.decided_by} at {found.decided_at}.", code="decided")


def _require_second_person(first: uuid.UUID, by: access.Actor) -> None:
    if by.person == first:
        raise Refused("A second person has to say so; you proposed it.", code="second_person")


def _forget_split(session: Session, found: StudentMerge) -> None:
    found.split_asked_by = found.split_asked_at = found.sealed_split_reason = None
    session.flush()


_ROUNDS = text(
    "select round_id, array_agg(distinct school_id) as schools from assignments"
    " where district_id = :district and student_id in (:student, :duplicate) group by round_id order by round_id"
)


def _bring_about(session: Session, found: StudentMerge, by: access.Actor, now: dt.datetime, follow: Follow) -> None:
    """Counts anew wherever either row has a place, and lets those who act hear of it."""
    about = {"district": found.district_id, "student": found.student_id, "duplicate": found.duplicate_id}
    with access.widened(session, None):
        for part in session.execute(_ROUNDS, about).all():
            coverage.recount(session, part.round_id, part.schools, now)
        follow(session, (found.student_id, found.duplicate_id), by, now)


def _account(session: Session, by: access.Actor, action: str, found: StudentMerge, **more: object) -> None:
    of = str(found.duplicate_id)
    audit.record(session, by, action, "student", found.student_id, merge=str(found.id), duplicate=of, **more)


def _sealed(session: Session, merge_id: uuid.UUID, part: str, words: str) -> bytes:
    if len("".join(words.split())) < SHORTEST_REASON:
        raise Refused("Say why, in words that somebody else can weigh.", code="reason_missing")
    return sealing.keys(session).seal_text(words.strip(), _place(merge_id, part))


def _place(merge_id: uuid.UUID, part: str) -> str:
    return f"student_merge/{merge_id}/{part}"


def _paired(session: Session, found: Sequence[StudentMerge]) -> list[Pair]:
    """What speaks against those that stand or wait is looked up; of the others, what was seen is told."""
    live = [each for each in found if each.state in ("proposed", "merged")]
    warnings = {}
    if live:
        schools = {school for each in live for school in (each.school_id, each.duplicate_school_id)}
        with access.widened(session, schools):
            warnings = contradictions.of(session, live)
    return [Pair(each, warnings.get(each.id, tuple(each.warnings))) for each in found]
