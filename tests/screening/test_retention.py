"""Who left long enough ago is erased without anybody asking; what is still open is no matter of the past."""

import datetime as dt
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import timetable
from screening import db, erasure, retention
from screening.models import Student
from tests.alerts.episodes import ORANGE, RED, in_case, made_up_settings
from tests.cast import Cast
from tests.factories import make_student

DAY = dt.timedelta(days=1)


def leave(session: Session, student: Student, *, days_ago: int) -> Student:
    session.execute(
        text("update enrollments set since_on = current_date - 4000, until_on = current_date - :days"
             " where student_id = :id"),
        {"days": days_ago, "id": student.id},
    )  # fmt: skip
    return student


def case_ended(session: Session, student: Student, tier: int, cast: Cast, *, days_ago: int) -> None:
    case = in_case(session, student, tier, cast.an)
    wanted = {"id": case.id, "student": student.id, "days": days_ago}
    session.execute(text("update cases set state = 'closed', tier = :tier,"
                         " closed_at = now() - make_interval(days => :days) where id = :id"),
                    wanted | {"tier": tier})  # fmt: skip
    session.execute(text("update alerts set closed_at = now() where student_id = :student"), wanted)


def asked(session: Session, student: Student) -> list[tuple[str, str]]:
    return [(each.extent, each.reason) for each in erasure.of_student(session, student.id)]


def test_who_left_more_than_a_year_ago_goes_and_nobody_else(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        here = cast.students.granted_13
        lately, long_ago, open_case, red_lately, red_long_ago = (
            make_student(session, cast.school_a.id) for _ in range(5)
        )
        leave(session, lately, days_ago=364)
        leave(session, long_ago, days_ago=366)
        in_case(session, leave(session, open_case, days_ago=900), RED, cast.an)
        case_ended(session, leave(session, red_lately, days_ago=900), RED, cast, days_ago=1000)
        case_ended(session, leave(session, red_long_ago, days_ago=3000), RED, cast, days_ago=1500)
        assert retention.ask_due(session, now=now) == 2
        assert retention.ask_due(session, now=now) == 0
        assert asked(session, here) == asked(session, lately) == asked(session, open_case) == []
        assert asked(session, long_ago) == asked(session, red_long_ago) == [("person", "retention")]
        assert asked(session, red_lately) == []  # no answers were kept; the notes stay until their day
        assert retention.ask_due(session, now=now + 500 * DAY) == 2  # the notes' day, and who left lately


def test_answers_go_on_their_day_and_the_notes_of_a_red_case_stay(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        student = leave(session, make_student(session, cast.school_a.id), days_ago=400)
        case_ended(session, student, RED, cast, days_ago=400)
        session.execute(
            text("insert into results (district_id, student_id, round_id, revision, school_id, tier, validity, reasons)"
                 " select :d, :s, id, 1, :school, 0, 'valid', '{}' from rounds limit 0"),
            {"d": cast.district.id, "s": student.id, "school": student.school_id},
        )  # fmt: skip
        assert retention.ask_due(session, now=db.now(session)) == 0


def test_the_worker_asks_and_erases_in_one_go(cast: Cast, tmp_path: Path) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        student = leave(session, make_student(session, cast.school_a.id), days_ago=800)
        case_ended(session, student, ORANGE, cast, days_ago=500)
    settings = made_up_settings(tmp_path)
    for job in timetable.JOBS:
        if job.name in ("retention", "erasures"):
            assert list(job.run(cast.database, cast.district.id, now + DAY, settings)) == []
    with cast.database.unit(cast.scope) as session:
        [receipt] = erasure.of_student(session, student.id)
        assert (receipt.state, receipt.reason) == ("done", "retention")
        kept = session.execute(text("select count(*) from identities where student_id = :id"), {"id": student.id})
        assert kept.scalar() == 0
