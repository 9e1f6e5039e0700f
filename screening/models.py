"""The whole schema of this floor on one page: districts .. results, the vault, uploads, coverage, audit.

Every tenant table begins its primary key, unique keys and foreign keys with `district_id`, so that a reference
across districts cannot be written. A table with `school_id` is named work: its row security tests the district
AND the schools of the scope. `GLOBAL_TABLES` is the closed list of tables that stand outside any district.
"""

import datetime as dt
import uuid
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    CheckConstraint,
    Computed,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

GLOBAL_TABLES = frozenset(
    {
        "districts",
        "accounts",
        "tokens",
        "sessions",
        "codes",
        "recovery_codes",
        "guesses",
        "heartbeats",
        "lookup_keys",
        "feeds",
    }
)
"""Tables without clinical content that are found by exact id or keyed hash, before any scope can be set."""

DISTRICT_WIDE_TABLES = frozenset({"duties", "staff_roles"})
"""Tables with a `school_id` that are read to find out the scope itself, so only the district stands in their policy."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        bytes: LargeBinary(),
        dt.datetime: DateTime(timezone=True),
        dt.date: Date(),
        uuid.UUID: Uuid(),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(SmallInteger()),
    }


def new_id() -> uuid.UUID:
    return uuid.uuid4()


def tenant(table: str, *columns: str) -> ForeignKeyConstraint:
    """A reference inside the same district: (district_id, column ..) -> table's (district_id, key ..)."""
    keys = {"student_id": "id", "school_id": "id", "round_id": "id"}
    remote = [keys.get(c, c) if table in _KEYED_BY_ID else c for c in columns]
    if table in _KEYED_BY_ID and len(columns) == 1:
        remote = ["id"]
    return ForeignKeyConstraint(["district_id", *columns], [f"{table}.district_id", *(f"{table}.{r}" for r in remote)])


def of_district() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["district_id"], ["districts.id"])


_KEYED_BY_ID = frozenset(
    {
        "schools",
        "staff",
        "students",
        "rounds",
        "rule_sets",
        "stored_files",
        "uploads",
        "rosters",
        "alerts",
        "cases",
        "destinations",
        "licences",
        "risk_models",
    }
)


class Tenant(Base):
    """Whatever belongs to one district. Only tables that refer to no other tenant table name `districts` itself."""

    __abstract__ = True
    district_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, sort_order=-3)


class Row(Tenant):
    """A tenant's row that has an id of its own."""

    __abstract__ = True
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, sort_order=-2)


# -- outside any district -----------------------------------------------------------------------------


class District(Base):
    __tablename__ = "districts"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    wrapped_key: Mapped[bytes]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    is_probe: Mapped[bool] = mapped_column(server_default="false")
    """Nobody lives there: it is where the service sends itself a red, to see whether one would arrive."""


class LookupKey(Base):
    """The one secret under which addresses, tokens, sessions and codes are found, and heads signed.

    Random, and wrapped by the master key, so that a new master key changes none of what was found by it.
    """

    __tablename__ = "lookup_keys"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    wrapped: Mapped[bytes]


class Account(Base):
    """Who can sign in. The address is kept as a keyed hash; the person stands in `staff`."""

    __tablename__ = "accounts"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    district_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("districts.id"))
    email_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[dt.datetime | None]
    password_hash: Mapped[str | None]
    sealed_secret: Mapped[bytes | None]
    """What the codes of the second factor are made from, under the district's key; None: none is set up."""
    last_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The latest time step whose code was taken: none is taken twice."""
    subject_hash: Mapped[bytes | None] = mapped_column(unique=True)
    """By whom another sign-in service (issuer, subject) knows this account."""
    generation: Mapped[int] = mapped_column(server_default="0")
    """Goes up with every change of password, second factor or roles: sessions of an earlier one are over."""


class Token(Base):
    """A bearer token: kept as a keyed hash, bound to one account, ends on its own."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("purpose in ('everything', 'reading', 'sending')", name="purpose"),
        Index(None, "account_id"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime]
    revoked_at: Mapped[dt.datetime | None]
    roles: Mapped[list[str] | None]
    """Of the account's roles only these act through it; None: all."""
    purpose: Mapped[str] = mapped_column(server_default="everything")


class Code(Base):
    """What opens one door without an account: a student's form, a guardian's consent, a colleague's first password.

    Kept as keyed hashes. `fact_hash` is the second fact that has to be told with it.
    """

    __tablename__ = "codes"
    __table_args__ = (
        CheckConstraint("kind in ('student', 'guardian', 'invitation')", name="kind"),
        CheckConstraint("fact in ('birth_date', 'phone')", name="fact"),
        CheckConstraint("(kind = 'invitation') = (account_id is not null)", name="account"),
        CheckConstraint("(kind = 'invitation') = (student_id is null)", name="student"),
        CheckConstraint("(kind = 'student') = (assignment_id is not null)", name="assignment"),
        Index(None, "account_id"),
        Index(None, "district_id", "student_id"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str]
    code_hash: Mapped[bytes] = mapped_column(unique=True)
    short_hash: Mapped[bytes | None] = mapped_column(unique=True)
    fact: Mapped[str | None]
    fact_hash: Mapped[bytes | None]
    district_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("districts.id"))
    school_id: Mapped[uuid.UUID | None]
    account_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("accounts.id"))
    student_id: Mapped[uuid.UUID | None]
    assignment_id: Mapped[uuid.UUID | None]
    issued_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class SignIn(Base):
    """A session, or the first half of one: who proved what, when it was last used, when it is over at the latest."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("stage in ('second_factor', 'enrollment', 'whole')", name="stage"),
        CheckConstraint("(account_id is null) <> (code_id is null)", name="one"),
        Index(None, "account_id"),
        Index(None, "code_id"),
        Index(None, "expires_at"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    session_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("accounts.id"))
    code_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("codes.id"))
    stage: Mapped[str]
    generation: Mapped[int] = mapped_column(server_default="0")
    sealed_secret: Mapped[bytes | None]
    """In `enrollment`: the second factor that is being set up."""
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    proved_at: Mapped[dt.datetime | None]
    """When the second factor was last shown in it."""
    expires_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class RecoveryCode(Base):
    """Stands in for the second factor, once."""

    __tablename__ = "recovery_codes"
    __table_args__ = (Index(None, "account_id"),)
    code_hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    used_at: Mapped[dt.datetime | None]


class Guess(Base):
    """How often a secret was guessed wrongly by somebody, somewhere, and when the next guess is taken."""

    __tablename__ = "guesses"
    __table_args__ = (Index(None, "free_at"),)
    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default="0")
    free_at: Mapped[dt.datetime]


class Feed(Base):
    """An address under which somebody's own calendar reads their promised contacts: kept as a keyed hash."""

    __tablename__ = "feeds"
    __table_args__ = (Index(None, "account_id"),)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    made_at: Mapped[dt.datetime]
    revoked_at: Mapped[dt.datetime | None]


class Heartbeat(Base):
    """When each part of the worker last came round: how silence is noticed."""

    __tablename__ = "heartbeats"
    name: Mapped[str] = mapped_column(primary_key=True)
    beat_at: Mapped[dt.datetime]
    problem: Mapped[str | None]


# -- schools and the people who work there ------------------------------------------------------------


class School(Row):
    __tablename__ = "schools"
    __table_args__ = (
        of_district(),
        UniqueConstraint("district_id", "code"),
    )
    code: Mapped[str]
    name: Mapped[str]
    calendar: Mapped[str] = mapped_column(server_default="district")


class CalendarDay(Tenant):
    """An exception to Monday-Friday: a holiday, or a weekend day that is taught."""

    __tablename__ = "calendar_days"
    __table_args__ = (of_district(),)
    calendar: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(primary_key=True)
    is_school_day: Mapped[bool]


class Term(Tenant):
    """A span in which there is school; between two of them there is none."""

    __tablename__ = "terms"
    __table_args__ = (of_district(), CheckConstraint("starts_on <= ends_on", name="days"))
    calendar: Mapped[str] = mapped_column(primary_key=True)
    starts_on: Mapped[dt.date] = mapped_column(primary_key=True)
    ends_on: Mapped[dt.date]


class CalendarLoad(Row):
    """That holidays were taken from somewhere, and for which days they are known."""

    __tablename__ = "calendar_loads"
    __table_args__ = (of_district(),)
    calendar: Mapped[str]
    source: Mapped[str]
    covers_from: Mapped[dt.date]
    covers_until: Mapped[dt.date]
    loaded_by: Mapped[uuid.UUID | None]
    loaded_at: Mapped[dt.datetime]


class Staff(Row):
    __tablename__ = "staff"
    __table_args__ = (
        of_district(),
        UniqueConstraint("district_id", "account_id"),
    )
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    sealed: Mapped[bytes]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class StaffRole(Row):
    """A role at one school, or in the whole district when `school_id` is null."""

    __tablename__ = "staff_roles"
    __table_args__ = (tenant("staff", "staff_id"), tenant("schools", "school_id"))
    staff_id: Mapped[uuid.UUID]
    role: Mapped[str]
    school_id: Mapped[uuid.UUID | None]
    since_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    until_at: Mapped[dt.datetime | None]


class Duty(Row):
    """A shift: who is to be reached for a school, or at the district's desk, from when until when."""

    __tablename__ = "duties"
    __table_args__ = (
        tenant("staff", "staff_id"),
        tenant("schools", "school_id"),
        CheckConstraint("place in ('first', 'deputy')", name="place"),
        CheckConstraint("starts_at < ends_at", name="hours"),
        Index("ix_duties_hours", "district_id", "ends_at", postgresql_where="cancelled_at is null"),
    )
    school_id: Mapped[uuid.UUID | None]
    """None: the district's desk."""
    staff_id: Mapped[uuid.UUID]
    place: Mapped[str]
    starts_at: Mapped[dt.datetime]
    ends_at: Mapped[dt.datetime]
    planned_by: Mapped[uuid.UUID]
    planned_at: Mapped[dt.datetime]
    cancelled_by: Mapped[uuid.UUID | None]
    cancelled_at: Mapped[dt.datetime | None]


# -- students, the vault, enrollment, consent ---------------------------------------------------------


class Student(Row):
    """A pseudonym: what screening needs to know, and nothing that names the child."""

    __tablename__ = "students"
    __table_args__ = (
        tenant("schools", "school_id"),
        Index(None, "district_id", "school_id"),
        CheckConstraint("sex in ('f', 'm', 'x')", name="sex"),
    )
    school_id: Mapped[uuid.UUID]
    sex: Mapped[str] = mapped_column(server_default="x")
    born_month: Mapped[dt.date | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Identity(Tenant):
    """The vault: name, number, birth date and phone of one student, sealed under that student's own key."""

    __tablename__ = "identities"
    __table_args__ = (tenant("students", "student_id"),)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID]
    wrapped_key: Mapped[bytes]
    sealed: Mapped[bytes]
    name_hash: Mapped[bytes]


class SpecialGroup(Row):
    """Membership of a special group, kept apart from both the vault and the answers."""

    __tablename__ = "special_groups"
    __table_args__ = (
        tenant("students", "student_id"),
        Index(None, "district_id", "student_id"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    group_code: Mapped[str]
    since_on: Mapped[dt.date]
    until_on: Mapped[dt.date | None]


class Enrollment(Row):
    """A student's span at a school, in a grade and a class, under the number that school gave."""

    __tablename__ = "enrollments"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("schools", "school_id"),
        Index(
            "uq_enrollments_current",
            "district_id",
            "student_id",
            unique=True,
            postgresql_where="until_on is null",
        ),
        Index(
            "uq_enrollments_number",
            "district_id",
            "number_hash",
            "school_id",
            unique=True,
            postgresql_where="until_on is null",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    grade: Mapped[int] = mapped_column(SmallInteger)
    class_name: Mapped[str] = mapped_column(server_default="")
    number_hash: Mapped[bytes]
    since_on: Mapped[dt.date]
    until_on: Mapped[dt.date | None]


class Consent(Row):
    """One decision by one person; the latest by each giver is the one in force."""

    __tablename__ = "consents"
    __table_args__ = (
        tenant("students", "student_id"),
        Index(None, "district_id", "student_id", "given_by", "decided_at"),
        CheckConstraint("decision in ('granted', 'declined', 'withdrawn')", name="decision"),
        CheckConstraint("given_by in ('guardian', 'student')", name="given_by"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    decision: Mapped[str]
    given_by: Mapped[str]
    notice_version: Mapped[str]
    channel: Mapped[str]
    decided_at: Mapped[dt.datetime]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    recorded_by: Mapped[uuid.UUID | None]


class Erasure(Row):
    """That a student's answers, or all that is known of the person, are to be erased; the fact outlives the content."""

    __tablename__ = "erasures"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("extent in ('answers', 'person')", name="extent"),
        CheckConstraint("reason in ('withdrawal', 'request', 'retention')", name="reason"),
        CheckConstraint("state in ('waiting', 'done', 'taken_back')", name="state"),
        Index(
            "uq_erasures_waiting",
            "district_id",
            "student_id",
            "extent",
            unique=True,
            postgresql_where="state = 'waiting'",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    extent: Mapped[str]
    reason: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    asked_by: Mapped[uuid.UUID | None]
    asked_at: Mapped[dt.datetime]
    due_at: Mapped[dt.datetime]
    narrowed_at: Mapped[dt.datetime | None]
    """Since when an open red keeps it waiting: until that is resolved, what is left serves safety alone."""
    ended_at: Mapped[dt.datetime | None]


class RightsRequest(Row):
    """What a student or a guardian asks for as of right: to see, copy, correct or delete, or that a person looks again.

    It is answered in writing by a day, granted or not.
    """

    __tablename__ = "rights_requests"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("kind in ('see', 'copy', 'correct', 'delete', 'review')", name="kind"),
        CheckConstraint("asked_as in ('student', 'guardian')", name="asked_as"),
        CheckConstraint("state in ('waiting', 'granted', 'refused')", name="state"),
        CheckConstraint("(state = 'waiting') = (decided_by is null)", name="decided"),
        CheckConstraint("(state = 'waiting') = (sealed_answer is null)", name="answered"),
        CheckConstraint("extent in ('answers', 'person')", name="extent"),
        Index(
            "uq_rights_requests_waiting",
            "district_id",
            "student_id",
            "kind",
            "asked_as",
            unique=True,
            postgresql_where="state = 'waiting'",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    asked_as: Mapped[str]
    asked_by: Mapped[uuid.UUID]
    """Whoever asked, or wrote down what was asked on paper."""
    sealed_words: Mapped[bytes]
    asked_at: Mapped[dt.datetime]
    due_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    sealed_answer: Mapped[bytes | None]
    parts: Mapped[list[str]] = mapped_column(server_default="{}")
    """What may be seen and copied."""
    until_at: Mapped[dt.datetime | None]
    """Until when."""
    extent: Mapped[str | None]
    """What is erased: answers or the person."""


class StudentMerge(Row):
    """That two student rows are one child: proposed by one person, confirmed by another, and undone by two again.

    Nothing that is kept of either row is moved or written anew; while it stands (`merged`), both are read as one.
    It belongs to the schools of both rows: each sees it.
    """

    __tablename__ = "student_merges"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("students", "duplicate_id"),
        CheckConstraint("student_id <> duplicate_id", name="rows"),
        CheckConstraint("state in ('proposed', 'merged', 'refused', 'withdrawn', 'split')", name="state"),
        CheckConstraint("(state = 'proposed') = (decided_by is null)", name="decided"),
        CheckConstraint("state = 'withdrawn' or decided_by is null or decided_by <> proposed_by", name="two"),
        CheckConstraint("(state = 'split') = (split_by is not null)", name="split"),
        CheckConstraint(
            "split_by is null or (split_asked_by is not null and split_by <> split_asked_by)", name="apart"
        ),
        Index(
            "uq_student_merges_standing",
            "district_id",
            "duplicate_id",
            unique=True,
            postgresql_where="state in ('proposed', 'merged')",
        ),
        Index("ix_student_merges_merged", "district_id", "student_id", postgresql_where="state = 'merged'"),
    )
    student_id: Mapped[uuid.UUID]
    """The row under which the child is counted."""
    duplicate_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    duplicate_school_id: Mapped[uuid.UUID]
    state: Mapped[str]
    warnings: Mapped[list[str]] = mapped_column(server_default="{}")
    """What spoke against it, as codes, and was seen by whoever confirmed it."""
    sealed_reason: Mapped[bytes]
    proposed_by: Mapped[uuid.UUID]
    proposed_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    sealed_refusal: Mapped[bytes | None]
    sealed_split_reason: Mapped[bytes | None]
    split_asked_by: Mapped[uuid.UUID | None]
    split_asked_at: Mapped[dt.datetime | None]
    split_by: Mapped[uuid.UUID | None]
    split_at: Mapped[dt.datetime | None]


class Export(Row):
    """Rows by name that left in one piece: for which purpose, how many, and who said so where they were many.

    Its id is the mark that stands in each row of what was handed out.
    """

    __tablename__ = "exports"
    __table_args__ = (
        tenant("schools", "school_id"),
        CheckConstraint("what in ('student_codes', 'guardian_codes')", name="what"),
        CheckConstraint("purpose in ('screening', 'consent')", name="purpose"),
        CheckConstraint("state in ('waiting', 'granted', 'refused', 'done')", name="state"),
        CheckConstraint("decided_by is null or decided_by <> person_id", name="two"),
        CheckConstraint("state <> 'done' or row_count <= 50 or decided_by is not null", name="many"),
        Index(None, "district_id", "asked_at"),
    )
    school_id: Mapped[uuid.UUID]
    person_id: Mapped[uuid.UUID]
    what: Mapped[str]
    purpose: Mapped[str]
    state: Mapped[str]
    row_count: Mapped[int]
    asked_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    until_at: Mapped[dt.datetime | None]


class DistrictExit(Row):
    """That a district leaves: asked by one, confirmed by another; then all of it is handed over, and then erased."""

    __tablename__ = "district_exits"
    __table_args__ = (
        of_district(),
        CheckConstraint("confirmed_by is null or confirmed_by <> asked_by", name="two"),
        CheckConstraint("exported_at is null or confirmed_at is not null", name="confirmed_first"),
        CheckConstraint("(exported_at is null) = (export_digest is null)", name="exported"),
    )
    asked_by: Mapped[uuid.UUID]
    asked_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    confirmed_at: Mapped[dt.datetime | None]
    exported_at: Mapped[dt.datetime | None]
    export_digest: Mapped[bytes | None]
    """SHA-256 of the file that was handed over."""


# -- files, rosters, uploads --------------------------------------------------------------------------


class StoredFile(Row):
    """A file as it was handed in, sealed under the district's key; erased some days after it was answered."""

    __tablename__ = "stored_files"
    __table_args__ = (
        of_district(),
        Index(None, "district_id", "erase_at"),
    )
    school_id: Mapped[uuid.UUID | None]
    sealed_name: Mapped[bytes]
    digest: Mapped[bytes]
    byte_count: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    erase_at: Mapped[dt.datetime | None]


class FileChunk(Tenant):
    __tablename__ = "file_chunks"
    __table_args__ = (tenant("stored_files", "file_id"),)
    file_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID | None]
    sealed: Mapped[bytes]


class Roster(Row):
    """A list of students: read into a proposal, which a person commits."""

    __tablename__ = "rosters"
    __table_args__ = (
        tenant("stored_files", "file_id"),
        CheckConstraint("state in ('received', 'proposed', 'committed', 'refused')", name="state"),
        Index("ix_rosters_waiting", "district_id", postgresql_where="state = 'received'"),
    )
    school_id: Mapped[uuid.UUID | None]
    file_id: Mapped[uuid.UUID]
    state: Mapped[str] = mapped_column(server_default="received")
    column_map: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    attempts: Mapped[int] = mapped_column(server_default="0")
    received_by: Mapped[uuid.UUID | None]
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    committed_by: Mapped[uuid.UUID | None]
    committed_at: Mapped[dt.datetime | None]


class RosterRow(Tenant):
    """One row of a proposal; what it says stays sealed until it is committed."""

    __tablename__ = "roster_rows"
    __table_args__ = (
        tenant("rosters", "roster_id"),
        CheckConstraint("change in ('new', 'changed', 'moved', 'same', 'refused')", name="change"),
    )
    roster_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    row_number: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID | None]
    change: Mapped[str]
    student_id: Mapped[uuid.UUID | None]
    sealed: Mapped[bytes]


class Upload(Row):
    """A file of answers for a round, from `received` to its receipt."""

    __tablename__ = "uploads"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("stored_files", "file_id"),
        CheckConstraint("state in ('received', 'loaded', 'refused')", name="state"),
        Index("ix_uploads_waiting", "district_id", "received_at", postgresql_where="state = 'received'"),
        Index("ix_uploads_digest", "district_id", "round_id", "digest"),
    )
    round_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID | None]
    file_id: Mapped[uuid.UUID]
    digest: Mapped[bytes]
    """Keyed hash of the bytes, the column map and the options: the same work has the same digest."""
    state: Mapped[str] = mapped_column(server_default="received")
    is_dry_run: Mapped[bool] = mapped_column(server_default="false")
    is_correction: Mapped[bool] = mapped_column(server_default="false")
    column_map: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    progress: Mapped[float] = mapped_column(REAL, server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    interruptions: Mapped[int] = mapped_column(server_default="0")
    receipt: Mapped[dict[str, Any] | None]
    received_by: Mapped[uuid.UUID | None]
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[dt.datetime | None]


class UploadProblem(Tenant):
    __tablename__ = "upload_problems"
    __table_args__ = (tenant("uploads", "upload_id"),)
    upload_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID | None]
    sheet: Mapped[str | None]
    row_number: Mapped[int | None]
    column_name: Mapped[str | None]
    code: Mapped[str]
    message: Mapped[str]


# -- rules, rounds, assignments -----------------------------------------------------------------------


class Definition(Tenant):
    """The exact text of an instrument or a policy as it was used, so that a result can be re-derived years later."""

    __tablename__ = "definitions"
    __table_args__ = (
        of_district(),
        CheckConstraint("kind in ('instrument', 'policy')", name="kind"),
    )
    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    code: Mapped[str]
    version: Mapped[str]
    body: Mapped[str]


class Licence(Row):
    """A district's own permission to use an instrument, as it was told: who holds it, by which agreement, how long."""

    __tablename__ = "licences"
    __table_args__ = (of_district(),)
    instrument: Mapped[str]
    edition: Mapped[str]
    holder: Mapped[str]
    terms: Mapped[str]
    until_on: Mapped[dt.date | None]
    recorded_by: Mapped[uuid.UUID | None]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Wording(Tenant):
    """A district's licensed text of an instrument in one language; the highest revision is the one that is shown."""

    __tablename__ = "wordings"
    __table_args__ = (tenant("licences", "licence_id"),)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    language: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    edition: Mapped[str]
    licence_id: Mapped[uuid.UUID]
    body: Mapped[dict[str, Any]]
    """stem, items by id, answers by name and code, as texts."""
    loaded_by: Mapped[uuid.UUID | None]
    loaded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class RuleSet(Row):
    """One policy and the instruments it is used with, frozen."""

    __tablename__ = "rule_sets"
    __table_args__ = (
        ForeignKeyConstraint(["district_id", "policy_digest"], ["definitions.district_id", "definitions.digest"]),
        UniqueConstraint("district_id", "digest"),
    )
    digest: Mapped[str]
    policy_digest: Mapped[str]
    instruments: Mapped[dict[str, Any]]
    """Instrument code -> digest of its definition, in the order of the battery."""
    engine: Mapped[str]


class Round(Row):
    __tablename__ = "rounds"
    __table_args__ = (
        tenant("rule_sets", "rule_set_id"),
        UniqueConstraint("district_id", "id", "rule_set_id"),
        CheckConstraint("state in ('planned', 'open', 'closed')", name="state"),
        CheckConstraint("opens_at < closes_at", name="window"),
        Index("ix_rounds_due", "district_id", "state", postgresql_where="state <> 'closed'"),
    )
    name: Mapped[str]
    rule_set_id: Mapped[uuid.UUID]
    grades: Mapped[list[int]]
    opens_at: Mapped[dt.datetime]
    closes_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="planned")
    is_historical: Mapped[bool] = mapped_column(server_default="false")
    is_at_home: Mapped[bool] = mapped_column(server_default="false")
    """Whether forms may be filled in away from school, at hours when nobody is there."""
    created_by: Mapped[uuid.UUID | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class RoundInstrument(Tenant):
    """An instrument of a round, and the forms of it (self, youth, parent, teacher) that are asked for."""

    __tablename__ = "round_instruments"
    __table_args__ = (tenant("rounds", "round_id"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    forms: Mapped[list[str]]
    unreleased_reason: Mapped[str | None]
    """Why an administrator asks it although its definition is not released."""


class Opening(Tenant):
    """One school's part of a round."""

    __tablename__ = "openings"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("schools", "school_id"),
        CheckConstraint("state in ('planned', 'open', 'closed')", name="state"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    opens_at: Mapped[dt.datetime]
    closes_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="planned")


class Assignment(Tenant):
    """A student's (and informant's) place in a round, with school, grade and class as they were on that day."""

    __tablename__ = "assignments"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("students", "student_id"),
        UniqueConstraint("district_id", "id"),
        # not led by the district: before statistics exist the planner would take such an index for a key's check,
        # and read the whole round for each answer
        Index(None, "school_id", "round_id"),
        Index(None, "district_id", "student_id"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    informant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(default=new_id, server_default=func.gen_random_uuid())
    school_id: Mapped[uuid.UUID]
    grade: Mapped[int] = mapped_column(SmallInteger)
    class_name: Mapped[str] = mapped_column(server_default="")
    exempt_reason: Mapped[str | None]
    exempted_by: Mapped[uuid.UUID | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Draft(Tenant):
    """Answers saved page by page before the form is submitted."""

    __tablename__ = "drafts"
    __table_args__ = (
        ForeignKeyConstraint(["district_id", "assignment_id"], ["assignments.district_id", "assignments.id"]),
    )
    assignment_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID]
    answers: Mapped[list[int]]
    saved_at: Mapped[dt.datetime]


class SafetyAnswer(Tenant):
    """A critical answer that was given on an unfinished form; it stays when the answer is changed afterwards."""

    __tablename__ = "safety_answers"
    __table_args__ = (
        ForeignKeyConstraint(["district_id", "assignment_id"], ["assignments.district_id", "assignments.id"]),
    )
    assignment_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    instrument: Mapped[str]
    answered_at: Mapped[dt.datetime]


# -- answers and results ------------------------------------------------------------------------------


class Administration(Tenant):
    """One instrument, filled in once: the answers in the definition's order, and what they score.

    A correction is a further revision by a named person; a retest is a further attempt. Nothing is overwritten.
    """

    __tablename__ = "administrations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["district_id", "round_id", "student_id", "informant"],
            [
                "assignments.district_id",
                "assignments.round_id",
                "assignments.student_id",
                "assignments.informant",
            ],
        ),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    informant: Mapped[str] = mapped_column(primary_key=True)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default="1")
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default="1")
    school_id: Mapped[uuid.UUID]
    answers: Mapped[list[int]]
    status: Mapped[str]
    missing_count: Mapped[int] = mapped_column(SmallInteger)
    scores: Mapped[list[float | None]] = mapped_column(ARRAY(REAL))
    """One number per scale, in the definition's order; null where the scale could not be scored."""
    upload_id: Mapped[uuid.UUID | None]
    recorded_by: Mapped[uuid.UUID | None]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Result(Tenant):
    """A student's round in sum. Append-only: the highest revision stands, and holds the inputs it was decided from."""

    __tablename__ = "results"
    __table_args__ = (
        tenant("students", "student_id"),
        # one check for both: a result is decided under the rule set of its round, and no other
        ForeignKeyConstraint(
            ["district_id", "round_id", "rule_set_id"],
            ["rounds.district_id", "rounds.id", "rounds.rule_set_id"],
        ),
        CheckConstraint("tier between 0 and 3", name="tier"),
        CheckConstraint("validity in ('valid', 'suspect', 'invalid')", name="validity"),
        Index(None, "district_id", "student_id"),
        Index("ix_results_recorded", "recorded_at", postgresql_using="brin"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    validity: Mapped[str]
    reasons: Mapped[list[str]]
    """The ids of the policy's rules that were met; the tier is the highest of theirs."""
    forms: Mapped[list[str]]
    """The administrations it was decided from: instrument/informant/attempt/revision."""
    prior_tier: Mapped[int] = mapped_column(SmallInteger)
    """The highest tier of this student's other rounds in the policy's look-back, as it was then."""
    age: Mapped[int | None] = mapped_column(SmallInteger)
    rule_set_id: Mapped[uuid.UUID]
    upload_id: Mapped[uuid.UUID | None]
    recorded_by: Mapped[uuid.UUID | None]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    model_id: Mapped[uuid.UUID | None]
    """The model that raised it, in a revision of its own; None: the rules alone decided."""
    model_tier: Mapped[int | None] = mapped_column(SmallInteger)


# -- the model beside the rules -----------------------------------------------------------------------


class RiskModel(Row):
    """A fitted model and its baseline as stored bytes, with what they were made from and what is known of them.

    In `shadow` it is asked and nobody hears it; `active` it may raise; at most one of a district is.
    """

    __tablename__ = "risk_models"
    __table_args__ = (
        of_district(),
        UniqueConstraint("district_id", "name"),
        CheckConstraint("state in ('shadow', 'active', 'retired')", name="state"),
        Index("uq_risk_models_active", "district_id", unique=True, postgresql_where="state = 'active'"),
    )
    name: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="shadow")
    features_version: Mapped[int] = mapped_column(SmallInteger)
    body: Mapped[bytes] = mapped_column(deferred=True)
    baseline_body: Mapped[bytes] = mapped_column(deferred=True)
    digest: Mapped[str]
    """SHA-256 of both bodies, one after the other."""
    libraries: Mapped[dict[str, Any]]
    card: Mapped[dict[str, Any]]
    """Counts and figures of the training, without any student."""
    trained_by: Mapped[uuid.UUID | None]
    trained_at: Mapped[dt.datetime]
    retired_by: Mapped[uuid.UUID | None]
    retired_at: Mapped[dt.datetime | None]
    problem: Mapped[str | None]
    """Why it could not be asked when it was last tried; None: it could."""


class RiskModelApproval(Row):
    """That somebody stands for a model going live: for these bytes, with these gates and these thresholds."""

    __tablename__ = "risk_model_approvals"
    __table_args__ = (
        tenant("risk_models", "model_id"),
        UniqueConstraint("district_id", "model_id", "by"),
    )
    model_id: Mapped[uuid.UUID]
    digest: Mapped[str]
    gates: Mapped[dict[str, Any]]
    yellow_from: Mapped[float] = mapped_column(sa.Double)
    orange_from: Mapped[float] = mapped_column(sa.Double)
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class RiskModelCheck(Tenant):
    """What a month's look at a model found: drift of features, scores, calibration and yield."""

    __tablename__ = "risk_model_checks"
    __table_args__ = (tenant("risk_models", "model_id"),)
    model_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    month: Mapped[dt.date] = mapped_column(primary_key=True)
    figures: Mapped[dict[str, Any]]
    problems: Mapped[list[str]]
    checked_at: Mapped[dt.datetime]


class RiskScore(Tenant):
    """What a model said of one result revision, in shadow or not, beside what its baseline said."""

    __tablename__ = "risk_scores"
    __table_args__ = (
        tenant("risk_models", "model_id"),
        tenant("students", "student_id"),
        Index(None, "district_id", "student_id"),
    )
    model_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    probability: Mapped[float] = mapped_column(sa.Double)
    baseline: Mapped[float] = mapped_column(sa.Double)
    rule_tier: Mapped[int] = mapped_column(SmallInteger)
    is_raised: Mapped[bool]
    reasons: Mapped[list[str]]
    """The features that weighed most, as codes."""
    scored_at: Mapped[dt.datetime]


class RoutineChat(Row):
    """A student below every threshold, drawn by lot and offered a talk, so that missed needs can be counted."""

    __tablename__ = "routine_chats"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("students", "student_id"),
        UniqueConstraint("district_id", "round_id", "student_id"),
        CheckConstraint("state in ('offered', 'held', 'declined')", name="state"),
        CheckConstraint("(state = 'held') = (is_concern_confirmed is not null)", name="outcome"),
        CheckConstraint("probability > 0 and probability <= 1", name="probability"),
        Index(None, "district_id", "student_id"),
        Index("ix_routine_chats_offered", "district_id", "school_id", postgresql_where="state = 'offered'"),
    )
    round_id: Mapped[uuid.UUID]
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    seed: Mapped[int] = mapped_column(BigInteger)
    probability: Mapped[float] = mapped_column(sa.Double)
    """With which this student could be drawn."""
    state: Mapped[str] = mapped_column(server_default="offered")
    is_concern_confirmed: Mapped[bool | None]
    drawn_at: Mapped[dt.datetime]
    answered_by: Mapped[uuid.UUID | None]
    answered_at: Mapped[dt.datetime | None]


class RoutineDraw(Tenant):
    """That the lot was drawn for a round, from how many, with which seed and probability: once."""

    __tablename__ = "routine_draws"
    __table_args__ = (tenant("rounds", "round_id"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    probability: Mapped[float] = mapped_column(sa.Double)
    eligible: Mapped[int]
    drawn: Mapped[int]
    drawn_at: Mapped[dt.datetime]


# -- coverage -----------------------------------------------------------------------------------------


class CoverageSummary(Tenant):
    """Counts of one round, school, grade and sex; recounted for a touched school, never counted up."""

    __tablename__ = "coverage_summaries"
    __table_args__ = (tenant("rounds", "round_id"), tenant("schools", "school_id"))
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    grade: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    sex: Mapped[str] = mapped_column(primary_key=True)
    enrolled: Mapped[int]
    exempt: Mapped[int]
    consented: Mapped[int]
    declined: Mapped[int]
    invited: Mapped[int]
    submitted: Mapped[int]
    valid: Mapped[int]
    suspect: Mapped[int]
    invalid: Mapped[int]
    tier_none: Mapped[int]
    tier_yellow: Mapped[int]
    tier_orange: Mapped[int]
    tier_red: Mapped[int]
    eligible: Mapped[int] = mapped_column(Computed("enrolled - exempt"))
    counted_at: Mapped[dt.datetime]


class CoverageRelease(Tenant):
    """Statistics as they were released on a date: what statistics doors serve, and all they serve."""

    __tablename__ = "coverage_releases"
    __table_args__ = (tenant("rounds", "round_id"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    released_on: Mapped[dt.date] = mapped_column(primary_key=True)
    tables: Mapped[dict[str, Any]]
    released_by: Mapped[uuid.UUID | None]
    released_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


# -- who may see more ---------------------------------------------------------------------------------


class AccessRequest(Row):
    """That one of the staff may see what is kept of one student: assigned, asked for and granted, or in an emergency.

    An `assignment` lasts until somebody ends it; what was asked for or opened by breaking the glass ends by itself.
    """

    __tablename__ = "access_requests"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("staff", "person_id"),
        CheckConstraint("kind in ('assignment', 'request', 'break_glass')", name="kind"),
        CheckConstraint("state in ('waiting', 'granted', 'refused', 'ended')", name="state"),
        CheckConstraint("kind = 'break_glass' or decided_by is null or decided_by <> person_id", name="two"),
        CheckConstraint(
            "kind <> 'break_glass' or (until_at <= asked_at + interval '4 hours' and review_by is not null)",
            name="glass",
        ),
        CheckConstraint(
            "kind <> 'request' or state = 'waiting' or state = 'refused' or until_at is not null", name="box"
        ),
        Index(None, "district_id", "student_id"),
        Index(None, "district_id", "person_id"),
        Index("ix_access_requests_waiting", "district_id", "school_id", postgresql_where="state = 'waiting'"),
        Index(
            "ix_access_requests_review",
            "district_id",
            "review_by",
            postgresql_where="review_by is not null and reviewed_at is null",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    person_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    state: Mapped[str]
    sealed_reason: Mapped[bytes]
    asked_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    until_at: Mapped[dt.datetime | None]
    ended_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[dt.datetime | None]
    review_by: Mapped[dt.datetime | None]
    """By when a broken glass has to be looked into."""
    reviewed_by: Mapped[uuid.UUID | None]
    reviewed_at: Mapped[dt.datetime | None]
    is_justified: Mapped[bool | None]
    sealed_review: Mapped[bytes | None]


# -- keeping account ----------------------------------------------------------------------------------


class IdempotencyKey(Tenant):
    """The first answer to a keyed request: enough to answer it again under today's rights."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (of_district(),)
    account_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes]
    status: Mapped[int]
    location: Mapped[str]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class AuditEntry(Tenant):
    """One line of account: who did what to which pseudonym; codes only, never content. Append-only by grant."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_xact", "xact", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
        Index(
            "ix_audit_entries_readings",
            "district_id",
            "subject_id",
            postgresql_where="action in ('alert.read', 'case.read', 'result.read', 'student.named')",
        ),
        Index("ix_audit_entries_opened", "district_id", "actor_id", "at", postgresql_where="action = 'result.read'"),
        Index(
            "ix_audit_entries_named",
            "district_id",
            "at",
            postgresql_where="action in ('alert.read', 'case.read', 'result.read', 'student.named')",
        ),
    )
    id: Mapped[int] = mapped_column(BigInteger, sa.Identity(always=True), primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    actor_id: Mapped[uuid.UUID | None]
    role: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    subject_id: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    xact: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id())::text::bigint"))
    """The transaction that wrote it: how whoever seals knows that no earlier one can still come to light."""


class AuditSeal(Tenant):
    """A line's place in its district's chain: the hash of the place before, this place's number, and the line."""

    __tablename__ = "audit_seals"
    __table_args__ = (UniqueConstraint("district_id", "entry_id"),)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]


class AuditHead(Tenant):
    """Where a chain ended when lines were last sealed, signed; the same is written outside the database."""

    __tablename__ = "audit_heads"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes]
    sealed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    signature: Mapped[bytes]
    xact_below: Mapped[int] = mapped_column(BigInteger)
    """Every line of a transaction below this is sealed."""
    id_above: Mapped[int] = mapped_column(BigInteger)
    """Lines up to this id came from another server with its own count of transactions, and are sealed."""
