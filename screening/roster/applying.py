"""Does what a proposal says: students arrive, move and change, set-based, in the committing transaction."""

import dataclasses
import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, consent, identity, planner, sealing
from screening.identity import Person
from screening.inserting import insert_many
from screening.models import Roster
from screening.roster.listing import Known, Listed, Verdict


def apply(
    session: Session,
    roster: Roster,
    rows: Sequence[tuple[Listed, Verdict]],
    on: dt.date,
    notice_version: str,
    by: access.Actor,
) -> None:
    arriving = [(uuid.uuid4(), row, verdict) for row, verdict in rows if verdict.change == "new"]
    known = [
        (verdict.known, row, verdict)
        for row, verdict in rows
        if verdict.change in ("changed", "moved") and verdict.known
    ]
    planner.begin_anew(session, coming=len(rows))
    _admit(session, arriving, on)
    planner.refresh(session, "students", "identities", "enrollments", changed=len(arriving))
    _move(session, [each for each in known if each[2].change == "moved"])
    _update_people(session, known)
    placed = {"school", "grade", "class_name"}
    _reenroll(session, [each for each in known if placed & set(each[2].differences)], on)
    students = [(student_id, row, verdict) for student_id, row, verdict in arriving]
    students += [(before.student_id, row, verdict) for before, row, verdict in known]
    _regroup(session, students, on)
    consent.record_many(
        session,
        [
            consent.Decision(student_id, decision, giver)
            for student_id, _, verdict in students
            for giver, decision in verdict.decisions.items()
        ],
        notice_version=notice_version,
        channel="roster",
        decided_at=roster.received_at,
        by=by,
    )
    planner.refresh(session, "consents", changed=len(students))


def _admit(session: Session, arriving: Sequence[tuple[uuid.UUID, Listed, Verdict]], on: dt.date) -> None:
    keys = sealing.keys(session)
    insert_many(
        session,
        "students",
        {"id": "uuid", "school_id": "uuid", "sex": "text", "born_month": "date"},
        [
            {"id": student_id, "school_id": verdict.school_id, "sex": row.sex or "x", "born_month": _month(row.born_on)}
            for student_id, row, verdict in arriving
        ],
    )
    identity.enter_many(
        session,
        (
            (student_id, verdict.school_id, Person(row.name, row.number, row.born_on, row.phone))
            for student_id, row, verdict in arriving
            if verdict.school_id
        ),
    )
    numbers = identity.number_hashes(keys, [row.number for _, row, _ in arriving])
    _enroll(
        session,
        [
            {
                "id": uuid.uuid4(),
                "student_id": student_id,
                "school_id": verdict.school_id,
                "grade": row.grade,
                "class_name": row.class_name or "",
                "number_hash": number,
                "since_on": on,
            }
            for (student_id, row, verdict), number in zip(arriving, numbers, strict=True)
        ],
    )


_Change = tuple[Known, Listed, Verdict]


def _move(session: Session, moved: Sequence[_Change]) -> None:
    """What is kept of a student goes along; the consents are written again, because their rows cannot change."""
    if not moved:
        return
    parameters = {
        "district": access.scope_of(session).district_id,
        "students": [before.student_id for before, _, _ in moved],
        "schools": [verdict.school_id for _, _, verdict in moved],
    }
    to = "unnest(cast(:students as uuid[]), cast(:schools as uuid[])) as n(student_id, school_id)"
    for table, key in (("students", "id"), ("identities", "student_id"), ("special_groups", "student_id")):
        session.execute(
            text(
                f"update {table} t set school_id = n.school_id from {to}"  # noqa: S608 - our own SQL
                f" where t.district_id = :district and t.{key} = n.student_id"
            ),
            parameters,
        )
    session.execute(
        text(
            "insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version, channel,"  # noqa: S608 - our own SQL
            " decided_at, recorded_at, recorded_by)"
            " select c.district_id, gen_random_uuid(), c.student_id, n.school_id, c.decision, c.given_by,"
            f" c.notice_version, c.channel, c.decided_at, c.recorded_at, c.recorded_by from {to}"
            " join consents c on c.district_id = :district and c.student_id = n.student_id"
            " where not exists (select from consents h where h.district_id = c.district_id"
            " and h.student_id = c.student_id and h.school_id = n.school_id and h.given_by = c.given_by"
            " and h.decided_at = c.decided_at and h.decision = c.decision)"
        ),
        parameters,
    )


def _update_people(session: Session, known: Sequence[_Change]) -> None:
    district_id = access.scope_of(session).district_id
    told = [each for each in known if {"sex", "born_on"} & set(each[2].differences)]
    if told:
        session.execute(
            text(
                "update students s set sex = coalesce(n.sex, s.sex), born_month = coalesce(n.born_month, s.born_month)"
                " from unnest(cast(:students as uuid[]), cast(:sexes as text[]), cast(:months as date[]))"
                " as n(id, sex, born_month) where s.district_id = :district and s.id = n.id"
            ),
            {
                "district": district_id,
                "students": [before.student_id for before, _, _ in told],
                "sexes": [None if row.sex == "x" else row.sex for _, row, _ in told],
                "months": [_month(row.born_on) for _, row, _ in told],
            },
        )
    vaulted = [each for each in known if {"born_on", "guardian_phone"} & set(each[2].differences)]
    people = identity.people(session, [before.student_id for before, _, _ in vaulted])
    identity.replace_many(
        session,
        (
            (
                before.student_id,
                verdict.school_id,
                dataclasses.replace(
                    people[before.student_id],
                    born_on=people[before.student_id].born_on or row.born_on,
                    phone=row.phone or people[before.student_id].phone,
                ),
            )
            for before, row, verdict in vaulted
            if verdict.school_id
        ),
    )


def _reenroll(session: Session, known: Sequence[_Change], on: dt.date) -> None:
    """Ends the span and begins another, so that what was true on an earlier day can still be told."""
    if not known:
        return
    keys = sealing.keys(session)
    session.execute(
        text(
            "update enrollments set until_on = greatest(since_on, :on) where district_id = :district"
            " and student_id = any(:students) and until_on is null"
        ),
        {"district": keys.district_id, "students": [before.student_id for before, _, _ in known], "on": on},
    )
    numbers = identity.number_hashes(keys, [row.number for _, row, _ in known])
    _enroll(
        session,
        [
            {
                "id": uuid.uuid4(),
                "student_id": before.student_id,
                "school_id": verdict.school_id,
                "grade": before.grade if row.grade is None else row.grade,
                "class_name": _class_name(before, row, verdict),
                "number_hash": number,
                "since_on": on,
            }
            for (before, row, verdict), number in zip(known, numbers, strict=True)
        ],
    )


def _class_name(before: Known, row: Listed, verdict: Verdict) -> str:
    if row.class_name is not None:
        return row.class_name
    return before.class_name if verdict.school_id == before.school_id else ""


def _regroup(session: Session, students: Sequence[tuple[uuid.UUID, Listed, Verdict]], on: dt.date) -> None:
    told = [each for each in students if each[1].groups and each[2].change in ("new", "changed", "moved")]
    if not told:
        return
    parameters = {
        "district": access.scope_of(session).district_id,
        "on": on,
        "all": [student_id for student_id, _, _ in told],
        "students": [student_id for student_id, row, _ in told for _ in row.groups],
        "schools": [verdict.school_id for _, row, verdict in told for _ in row.groups],
        "codes": [code for _, row, _ in told for code in row.groups],
    }
    listed = (
        "unnest(cast(:students as uuid[]), cast(:schools as uuid[]), cast(:codes as text[]))"
        " as n(student_id, school_id, group_code)"
    )
    session.execute(
        text(
            "update special_groups g set until_on = greatest(g.since_on, :on) where g.district_id = :district"  # noqa: S608 - our own SQL
            " and g.student_id = any(:all) and g.until_on is null and not exists"
            f" (select from {listed} where n.student_id = g.student_id and n.group_code = g.group_code)"
        ),
        parameters,
    )
    session.execute(
        text(
            "insert into special_groups (district_id, id, student_id, school_id, group_code, since_on)"  # noqa: S608 - our own SQL
            f" select :district, gen_random_uuid(), n.student_id, n.school_id, n.group_code, :on from {listed}"
            " where not exists (select from special_groups g where g.district_id = :district"
            " and g.student_id = n.student_id and g.group_code = n.group_code and g.until_on is null)"
        ),
        parameters,
    )


def _enroll(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    types = {
        "id": "uuid",
        "student_id": "uuid",
        "school_id": "uuid",
        "grade": "smallint",
        "class_name": "text",
        "number_hash": "bytea",
        "since_on": "date",
    }
    insert_many(session, "enrollments", types, rows)


def _month(day: dt.date | None) -> dt.date | None:
    return day.replace(day=1) if day else None
