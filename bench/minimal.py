"""The smallest honest web app that takes a form: checked, scored, stored with its alert and audit line, then answered.

The reference for submit. It knows no sign-in, no scope and no policy, and shares nothing with the product. `psycopg`:
a statement per step in one transaction, on pooled connections. `orm`: the same through SQLAlchemy's Session.
"""

import contextlib
import queue
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import psycopg
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

POOL = 16
ITEMS = 9
SCHEMA = """
    create table minimal_students (school integer, id bigint, number text not null, has_consent boolean not null,
        primary key (school, id), unique (school, number));
    create table minimal_responses (school integer, student bigint, round integer, answers smallint[] not null,
        total smallint, band smallint, tier smallint not null, at timestamptz not null default now(),
        primary key (school, student, round), foreign key (school, student) references minimal_students);
    create table minimal_alerts (school integer, student bigint, round integer, tier smallint not null,
        state text not null default 'open', due_at timestamptz not null, primary key (school, student, round),
        foreign key (school, student) references minimal_students);
    create table minimal_audit (id bigint generated always as identity primary key,
        at timestamptz not null default now(), actor text not null, action text not null, detail jsonb not null)
"""


class Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    school: int
    number: Annotated[str, Field(min_length=1, max_length=32)]
    answers: Annotated[list[Annotated[int, Field(ge=0, le=3)] | None], Field(min_length=ITEMS, max_length=ITEMS)]


def scored(answers: list[int | None]) -> tuple[int | None, int | None, int]:
    """Total, band and tier of a PHQ-9."""
    total = None if None in answers else sum(answer or 0 for answer in answers)
    band = None if total is None else sum(total >= cut for cut in (5, 10, 15, 20))
    tier = 0 if total is None else sum(total >= cut for cut in (10, 15))
    last = answers[-1]
    if last is None:
        return total, band, max(tier, 1)
    return total, band, max(tier, 3 if last == 3 else 2 if last else 0)


def app(mode: str, url: str) -> FastAPI:
    made = FastAPI()
    store = {"psycopg": _by_steps, "orm": _by_session}[mode](url)

    @made.post("/submit")
    def submit(form: Form) -> dict[str, str]:
        store(form, *scored(form.answers))
        return {"status": "stored"}

    return made


Store = Callable[[Form, int | None, int | None, int], None]


def _by_steps(url: str) -> Store:
    pool: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()
    for _ in range(POOL):
        pool.put(psycopg.connect(url, autocommit=True))

    @contextlib.contextmanager
    def connected() -> Iterator["psycopg.Connection[Any]"]:
        connection = pool.get()
        try:
            with connection.transaction():
                yield connection
        finally:
            pool.put(connection)

    def store(form: Form, total: int | None, band: int | None, tier: int) -> None:
        with connected() as connection:
            found = connection.execute(
                "select id from minimal_students where school = %s and number = %s and has_consent",
                (form.school, form.number),
            ).fetchone()
            if found is None:
                raise HTTPException(404)
            stored = connection.execute(
                "insert into minimal_responses (school, student, round, answers, total, band, tier)"
                " values (%s, %s, 1, %s, %s, %s, %s) on conflict do nothing",
                (form.school, found[0], form.answers, total, band, tier),
            )
            if stored.rowcount == 0:
                raise HTTPException(409)
            if tier:
                connection.execute(
                    "insert into minimal_alerts (school, student, round, tier, due_at)"
                    " values (%s, %s, 1, %s, now() + interval '1 day')",
                    (form.school, found[0], tier),
                )
            connection.execute(
                "insert into minimal_audit (actor, action, detail) values (%s, 'submitted', %s)",
                (form.number, Jsonb({"round": 1})),
            )

    return store


class _Base(DeclarativeBase):
    pass


class _Student(_Base):
    __tablename__ = "minimal_students"
    school: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    number: Mapped[str]
    has_consent: Mapped[bool]


class _Response(_Base):
    __tablename__ = "minimal_responses"
    school: Mapped[int] = mapped_column(primary_key=True)
    student: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    answers: Mapped[list[int | None]] = mapped_column(ARRAY(sa.SmallInteger))
    total: Mapped[int | None] = mapped_column(sa.SmallInteger)
    band: Mapped[int | None] = mapped_column(sa.SmallInteger)
    tier: Mapped[int] = mapped_column(sa.SmallInteger)


class _Alert(_Base):
    __tablename__ = "minimal_alerts"
    school: Mapped[int] = mapped_column(primary_key=True)
    student: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    tier: Mapped[int] = mapped_column(sa.SmallInteger)
    due_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))


class _Audit(_Base):
    __tablename__ = "minimal_audit"
    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    actor: Mapped[str]
    action: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)


def _by_session(url: str) -> Store:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"), pool_size=POOL, max_overflow=0, hide_parameters=True
    )

    def store(form: Form, total: int | None, band: int | None, tier: int) -> None:
        with Session(engine) as session, session.begin():
            student = session.scalars(
                sa.select(_Student).where(
                    _Student.school == form.school, _Student.number == form.number, _Student.has_consent
                )
            ).one_or_none()
            if student is None:
                raise HTTPException(404)
            place = {"school": student.school, "student": student.id, "round": 1}
            session.add(_Response(**place, answers=form.answers, total=total, band=band, tier=tier))
            if tier:
                session.add(_Alert(**place, tier=tier, due_at=datetime.now(UTC) + timedelta(days=1)))
            session.add(_Audit(actor=form.number, action="submitted", detail={"round": 1}))

    return store
