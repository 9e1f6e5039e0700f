"""What people do about a result: weighing, alert, triage, case and all the work in it, escalation, delivery."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, Tenant, of_district, tenant


class Weighing(Tenant):
    """That a result revision was looked at by the rules, whether or not an alert came of it."""

    __tablename__ = "weighings"
    __table_args__ = (
        tenant("results", "round_id", "student_id", "revision"),
        Index("ix_weighings_red", "district_id", "student_id", "round_id", postgresql_where="tier = 3"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    weighed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Alert(Row):
    """Asks a person to look by a time: one per student and open episode, every signal a reason in it.

    An alert is open until `closed_at`: it ends when triage finds nothing to do, or when its case is closed.
    An upload concern has no student: a critical answer in a row that could not be matched to one.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("rounds", "round_id"),
        tenant("uploads", "upload_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint("state in ('new', 'acknowledged', 'triaged')", name="state"),
        CheckConstraint("source in ('result', 'safety_answer', 'concern', 'upload')", name="source"),
        CheckConstraint("(student_id is null) = (source = 'upload')", name="student"),
        Index("uq_alerts_open", "district_id", "student_id", unique=True, postgresql_where="closed_at is null"),
        Index(None, "district_id", "student_id"),
        Index(
            "uq_alerts_upload_row",
            "district_id",
            "round_id",
            "file_digest",
            "place",
            unique=True,
            postgresql_where="source = 'upload'",
        ),
        Index(
            "ix_alerts_queue",
            "district_id",
            "school_id",
            "tier",
            "answer_by",
            "id",
            postgresql_where="closed_at is null",
        ),
        Index(
            "ix_alerts_clock",
            "district_id",
            "answer_by",
            postgresql_where="closed_at is null and state = 'new'",
        ),
    )
    school_id: Mapped[uuid.UUID | None]
    student_id: Mapped[uuid.UUID | None]
    round_id: Mapped[uuid.UUID | None]
    upload_id: Mapped[uuid.UUID | None]
    file_digest: Mapped[bytes | None]
    """Keyed hash of the file's bytes, so that the same file sent again does not ring again."""
    place: Mapped[str | None]
    """Sheet and row in the uploaded file, as the spreadsheet shows them."""
    source: Mapped[str]
    tier: Mapped[int] = mapped_column(SmallInteger)
    has_self_harm: Mapped[bool]
    state: Mapped[str] = mapped_column(server_default="new")
    opened_at: Mapped[dt.datetime]
    raised_at: Mapped[dt.datetime]
    """When it was last raised: the clocks run from here."""
    answer_by: Mapped[dt.datetime]
    see_by: Mapped[dt.datetime]
    owner_id: Mapped[uuid.UUID | None]
    closed_at: Mapped[dt.datetime | None]


class AlertReason(Tenant):
    """A signal in an alert: which rule, from which source, once each."""

    __tablename__ = "alert_reasons"
    __table_args__ = (tenant("alerts", "alert_id"),)
    alert_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    """result/<round>/<attempt>, safety_answer/<round>/<attempt>, upload/<file digest>/<place>, concern/<id>."""
    school_id: Mapped[uuid.UUID | None]
    tier: Mapped[int] = mapped_column(SmallInteger)
    noticed_at: Mapped[dt.datetime]
    sealed: Mapped[bytes | None]
    """What a person wrote when raising a concern."""


class Acknowledgement(Row):
    __tablename__ = "acknowledgements"
    __table_args__ = (tenant("alerts", "alert_id"), Index(None, "district_id", "alert_id"))
    alert_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID | None]
    raised_at: Mapped[dt.datetime]
    """Of the alert that was answered: an alert raised again wants a new answer."""
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class Triage(Row):
    """What a person found on looking: the alert's outcome, never a lower tier."""

    __tablename__ = "triages"
    __table_args__ = (
        tenant("alerts", "alert_id"),
        tenant("cases", "case_id"),
        Index(None, "district_id", "alert_id"),
        CheckConstraint(
            "outcome in ('case_opened', 'merged', 'monitor', 'not_confirmed', 'wrong_student')", name="outcome"
        ),
    )
    alert_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID | None]
    case_id: Mapped[uuid.UUID | None]
    outcome: Mapped[str]
    contact: Mapped[str]
    is_student_seen: Mapped[bool]
    tier: Mapped[int] = mapped_column(SmallInteger)
    sealed_note: Mapped[bytes]
    proposed_by: Mapped[uuid.UUID]
    proposed_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    """The second person, without whom an orange or red alert cannot end as monitor or not_confirmed."""
    confirmed_at: Mapped[dt.datetime | None]


class Case(Row):
    """The student's open concern: at most one at a time; its tier is the highest of every signal."""

    __tablename__ = "cases"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint(
            "state in ('open', 'assessing', 'conference', 'plan_active', 'referred', 'follow_up', 'crisis',"
            " 'on_leave', 'return_assessment', 'closure_proposed', 'closed')",
            name="state",
        ),
        Index("uq_cases_open", "district_id", "student_id", unique=True, postgresql_where="state <> 'closed'"),
        Index(None, "district_id", "school_id", "state"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(server_default="open")
    owner_id: Mapped[uuid.UUID]
    opened_by: Mapped[uuid.UUID]
    opened_at: Mapped[dt.datetime]
    prior_case_id: Mapped[uuid.UUID | None]
    closed_at: Mapped[dt.datetime | None]


class CaseEntry(Row):
    """A line of the case's story; the words (and the fields of a form) are sealed, the kind is not."""

    __tablename__ = "case_entries"
    __table_args__ = (tenant("cases", "case_id"), Index(None, "district_id", "case_id", "at"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    sealed: Mapped[bytes | None]
    by: Mapped[uuid.UUID | None]
    at: Mapped[dt.datetime]


class Interview(Row):
    __tablename__ = "interviews"
    __table_args__ = (
        tenant("cases", "case_id"),
        Index(None, "district_id", "case_id"),
        CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name="mode"),
        CheckConstraint("outcome in ('disclosed', 'denied', 'misclick', 'not_answered')", name="outcome"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    mode: Mapped[str]
    is_student_seen: Mapped[bool]
    has_current_risk: Mapped[bool]
    is_concern_confirmed: Mapped[bool]
    sealed_note: Mapped[bytes]
    outcome: Mapped[str | None]
    """Of a safety check: what the student said when asked. None for any other talk."""
    sealed_form: Mapped[bytes | None]
    """The answers of a safety check."""
    by: Mapped[uuid.UUID]
    held_at: Mapped[dt.datetime]
    written_at: Mapped[dt.datetime]


class FollowUp(Row):
    """A contact that was promised by a time."""

    __tablename__ = "follow_ups"
    __table_args__ = (
        tenant("cases", "case_id"),
        CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name="mode"),
        CheckConstraint("state in ('planned', 'due', 'overdue', 'done', 'missed', 'left')", name="state"),
        Index(None, "district_id", "case_id"),
        Index(
            "ix_follow_ups_waiting",
            "district_id",
            "due_at",
            postgresql_where="state in ('planned', 'due', 'overdue')",
        ),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    mode: Mapped[str]
    due_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="planned")
    planned_by: Mapped[uuid.UUID]
    planned_at: Mapped[dt.datetime]
    ended_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[dt.datetime | None]
    missed_reason: Mapped[str | None]
    left_reason: Mapped[str | None]
    """Why it was taken off the list before its time: without a reason nothing leaves."""
    sealed_note: Mapped[bytes | None]


class Closure(Row):
    """How a case ended: proposed by one person and, for orange and red, confirmed by another."""

    __tablename__ = "closures"
    __table_args__ = (tenant("cases", "case_id"), Index(None, "district_id", "case_id"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    reason: Mapped[str]
    sealed_note: Mapped[bytes]
    proposed_by: Mapped[uuid.UUID]
    proposed_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    confirmed_at: Mapped[dt.datetime | None]
    rejected_at: Mapped[dt.datetime | None]


class Transfer(Row):
    """That a student's alert or case went from one school to another. It belongs to both: each sees it.

    An open alert has `passed` at once. A case waits until the new school takes it over; `announced` is one whose
    student does not stand on the new school's list yet.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("cases", "case_id"),
        tenant("alerts", "alert_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint(
            "state in ('announced', 'waiting', 'accepted', 'declined', 'withdrawn', 'passed')", name="state"
        ),
        CheckConstraint("(state = 'passed') = (case_id is null)", name="case"),
        CheckConstraint("(state <> 'waiting') or (accept_by is not null)", name="clock"),
        CheckConstraint("from_school_id <> to_school_id", name="schools"),
        Index(
            "uq_transfers_open",
            "district_id",
            "case_id",
            unique=True,
            postgresql_where="state in ('announced', 'waiting')",
        ),
        Index(None, "district_id", "to_school_id", "state"),
        Index(None, "district_id", "from_school_id", "state"),
        Index(None, "district_id", "student_id"),
        Index("ix_transfers_clock", "district_id", "accept_by", postgresql_where="state = 'waiting'"),
    )
    student_id: Mapped[uuid.UUID]
    case_id: Mapped[uuid.UUID | None]
    alert_id: Mapped[uuid.UUID | None]
    from_school_id: Mapped[uuid.UUID]
    to_school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str]
    sealed_summary: Mapped[bytes | None]
    """The minimum that the old school's counselor wants the new one to know; all other words stay where they are."""
    proposed_by: Mapped[uuid.UUID | None]
    """None: the list of students moved the child."""
    proposed_at: Mapped[dt.datetime]
    accept_by: Mapped[dt.datetime | None]
    answered_by: Mapped[uuid.UUID | None]
    answered_at: Mapped[dt.datetime | None]
    declined_reason: Mapped[str | None]
    sealed_answer: Mapped[bytes | None]


class Plan(Row):
    """One version of a student's individual plan; a better one is a further version."""

    __tablename__ = "plans"
    __table_args__ = (tenant("cases", "case_id"), UniqueConstraint("district_id", "case_id", "version"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    version: Mapped[int] = mapped_column(SmallInteger)
    owner_id: Mapped[uuid.UUID]
    review_on: Mapped[dt.date]
    sealed: Mapped[bytes]
    """Goals, actions, and who may know what."""
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class Conference(Row):
    """A decision about a case that two people stand for, one of them the school's lead."""

    __tablename__ = "conferences"
    __table_args__ = (
        tenant("cases", "case_id"),
        Index(None, "district_id", "case_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint("confirmed_by <> written_by", name="two"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    attended: Mapped[list[str]]
    """The functions of those who were there, never names."""
    sealed_decision: Mapped[bytes]
    held_at: Mapped[dt.datetime]
    written_by: Mapped[uuid.UUID]
    written_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    confirmed_at: Mapped[dt.datetime | None]


class Destination(Row):
    """Where a student can be referred to: an entry of the district's directory."""

    __tablename__ = "destinations"
    __table_args__ = (
        of_district(),
        CheckConstraint("kind in ('counselling_centre', 'hospital', 'guidance_team', 'hotline')", name="kind"),
        UniqueConstraint("district_id", "kind", "name"),
    )
    kind: Mapped[str]
    name: Mapped[str]
    phone: Mapped[str | None]
    address: Mapped[str | None]
    hours: Mapped[str | None]
    is_emergency: Mapped[bool]
    """Whether somebody is there day and night."""
    added_by: Mapped[uuid.UUID]
    added_at: Mapped[dt.datetime]
    retired_at: Mapped[dt.datetime | None]


class Referral(Row):
    """That a student was sent, or offered, to a place outside the school; and whether the first visit was kept."""

    __tablename__ = "referrals"
    __table_args__ = (
        tenant("cases", "case_id"),
        tenant("destinations", "destination_id"),
        CheckConstraint("urgency in ('emergency', 'urgent', 'routine')", name="urgency"),
        CheckConstraint("basis in ('guardian', 'student', 'both', 'override', 'refused')", name="basis"),
        CheckConstraint(
            "state in ('refused', 'sent', 'accepted', 'declined', 'kept', 'not_kept', 'visit_refused', 'withdrawn')",
            name="state",
        ),
        CheckConstraint("(basis in ('override', 'refused')) = (sealed_reason is not null)", name="reason"),
        CheckConstraint("(basis = 'refused') = (state = 'refused')", name="refused"),
        UniqueConstraint("district_id", "code_hash"),
        Index(None, "district_id", "case_id"),
        Index("ix_referrals_waiting", "district_id", "confirm_by", postgresql_where="state in ('sent', 'accepted')"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    destination_id: Mapped[uuid.UUID]
    urgency: Mapped[str]
    basis: Mapped[str]
    """Who agreed; `override`: nobody, for a danger that is written down; `refused`: so nobody was sent."""
    state: Mapped[str]
    sealed_shared: Mapped[bytes]
    """What was told to the place, or, of a refusal, what was explained."""
    sealed_reason: Mapped[bytes | None]
    appointment_at: Mapped[dt.datetime | None]
    confirm_by: Mapped[dt.datetime]
    """By when it must be known whether the first visit was kept."""
    made_by: Mapped[uuid.UUID]
    made_at: Mapped[dt.datetime]
    answered_at: Mapped[dt.datetime | None]
    visited_on: Mapped[dt.date | None]
    ended_by: Mapped[uuid.UUID | None]
    """Who said how it ended; None where the place itself did."""
    ended_at: Mapped[dt.datetime | None]
    code_hash: Mapped[bytes | None]
    """Of the link that opens this one referral to the place, together with a second fact."""
    fact_hash: Mapped[bytes | None]
    code_until: Mapped[dt.datetime | None]


class CheckIn(Row):
    """A friendly look at a student of a special group: scheduled by membership alone, which raises no tier."""

    __tablename__ = "check_ins"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("state in ('planned', 'done', 'missed')", name="state"),
        Index("uq_check_ins_waiting", "district_id", "student_id", unique=True, postgresql_where="state = 'planned'"),
        Index("ix_check_ins_due", "district_id", "school_id", "due_on", postgresql_where="state = 'planned'"),
        Index(None, "district_id", "student_id"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    due_on: Mapped[dt.date]
    state: Mapped[str] = mapped_column(server_default="planned")
    outcome: Mapped[str | None]
    ended_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[dt.datetime | None]


class Recusal(Row):
    """That somebody must not decide about a student: is the subject of what is said, or close to the family."""

    __tablename__ = "recusals"
    __table_args__ = (
        tenant("students", "student_id"),
        UniqueConstraint("district_id", "student_id", "person_id"),
        CheckConstraint("reason in ('subject', 'relative', 'other')", name="reason"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    person_id: Mapped[uuid.UUID]
    reason: Mapped[str]
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class Escalation(Row):
    """That a clock ran out and the next person was told; once per subject, school, clock and rung."""

    __tablename__ = "escalations"
    __table_args__ = (
        UniqueConstraint(
            "district_id",
            "subject",
            "subject_id",
            "school_id",
            "clock_at",
            "rung",
            name="uq_escalations_rung",
            postgresql_nulls_not_distinct=True,  # of no school is a place too
        ),
        CheckConstraint("subject in ('alert', 'follow_up', 'transfer', 'referral', 'check_in')", name="subject"),
    )
    school_id: Mapped[uuid.UUID | None]
    subject: Mapped[str]
    subject_id: Mapped[uuid.UUID]
    clock_at: Mapped[dt.datetime]
    """The instant that ran out, so that an alert raised again climbs again."""
    rung: Mapped[int] = mapped_column(SmallInteger)
    role: Mapped[str]
    due_at: Mapped[dt.datetime]
    at: Mapped[dt.datetime]


class Delivery(Row):
    """A message that somebody should look; written before it is sent, never with anything clinical in it."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("district_id", "subject", "subject_id", "occasion", "recipient_id"),
        CheckConstraint("state in ('pending', 'sent', 'refused')", name="state"),
        Index("ix_deliveries_pending", "district_id", "try_at", postgresql_where="state = 'pending'"),
    )
    school_id: Mapped[uuid.UUID | None]
    recipient_id: Mapped[uuid.UUID]
    subject: Mapped[str]
    subject_id: Mapped[uuid.UUID]
    occasion: Mapped[str]
    """raised/<instant>, rung/<n>/<instant>, overdue: the same occasion is told once."""
    urgency: Mapped[str]
    due_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="pending")
    channel: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    try_at: Mapped[dt.datetime]
    sent_at: Mapped[dt.datetime | None]
    problem: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Webhook(Row):
    """Where one of the staff hears instead of by mail: address and secret are sealed, the host is not."""

    __tablename__ = "webhooks"
    __table_args__ = (
        tenant("staff", "staff_id"),
        CheckConstraint("body in ('generic', 'wecom', 'dingtalk', 'feishu')", name="body"),
        Index("uq_webhooks_staff", "district_id", "staff_id", unique=True, postgresql_where="ended_at is null"),
    )
    staff_id: Mapped[uuid.UUID]
    body: Mapped[str]
    host: Mapped[str]
    sealed: Mapped[bytes]
    added_by: Mapped[uuid.UUID]
    added_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class Fault(Row):
    """That something on the way from an answer to a person stood still, since when, and when somebody was told."""

    __tablename__ = "faults"
    __table_args__ = (
        of_district(),
        Index("uq_faults_open", "district_id", "name", "place", unique=True, postgresql_where="ended_at is null"),
    )
    name: Mapped[str]
    place: Mapped[str]
    since_at: Mapped[dt.datetime]
    told_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]
