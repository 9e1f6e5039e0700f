"""Sessions: who signed in, kept on the server, over when they stand idle, grow old, or what they rest on changes.

What a browser holds is a random secret; kept is its keyed hash. All ages are the database's: no other clock counts.
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import and_, func, or_, select, text, update
from sqlalchemy.orm import Session

from screening import access, audit, sealing, staff
from screening.db import Database
from screening.errors import NotFound
from screening.models import Account, SignIn
from screening.statements import Statement

IDLE = dt.timedelta(minutes=15)
LONGEST = dt.timedelta(hours=8)
HALFWAY = dt.timedelta(minutes=5)
"""How long somebody who showed a password has to show the second factor."""
NOTED = dt.timedelta(minutes=1)
"""Use is written down once in a minute: a session ends 14 to 15 minutes after it was last used."""
AFTERGLOW = dt.timedelta(minutes=2)
"""How long a student's session outlives the form, for an answer that got lost on its way and is asked for again."""
KEPT = dt.timedelta(days=30)

Stage = Literal["second_factor", "enrollment", "whole"]


def begin(
    session: Session,
    account_id: uuid.UUID,
    generation: int,
    *,
    stage: Stage = "whole",
    proved_at: dt.datetime | None = None,
    sealed_secret: bytes | None = None,
) -> tuple[uuid.UUID, str, dt.datetime]:
    """A session of an account as it stood in that generation: its id, its secret (shown this once), its latest end."""
    return _insert(
        session,
        account_id=account_id,
        generation=generation,
        stage=stage,
        proved_at=proved_at,
        sealed_secret=sealed_secret,
        lasting=LONGEST if stage == "whole" else HALFWAY,
    )


def begin_for_code(session: Session, code_id: uuid.UUID, until: dt.datetime) -> tuple[uuid.UUID, str, dt.datetime]:
    """A session of a code, at the latest until then; those that were begun with it before are over."""
    _end(session, SignIn.code_id == code_id)
    return _insert(session, code_id=code_id, stage="whole", lasting=LONGEST, until=until)


def halfway(session: Session, secret: str) -> SignIn | None:
    """What was begun with a password and waits for a second factor."""
    return session.execute(
        select(SignIn)
        .join(Account, Account.id == SignIn.account_id)
        .where(
            SignIn.session_hash == sealing.session_lookup(session.info["master_key"], secret),
            SignIn.stage != "whole",
            SignIn.ended_at.is_(None),
            SignIn.expires_at > func.now(),
            Account.disabled_at.is_(None),
            Account.generation == SignIn.generation,
        )
    ).scalar_one_or_none()


def actor_by_session(database: Database, secret: str) -> access.Actor | None:
    """Who holds this session, with the roles of this moment, and notes its use; None when it is unknown or over."""
    secret_hash = sealing.session_lookup(database.master_key, secret)
    rows = _FIND.alone(database.engine, {"hash": secret_hash, "idle": IDLE, "noted": NOTED})
    if not rows:
        return None
    found = rows[0]
    if found["account_id"] is None:
        return _by_code(found)
    actor = staff.actor_of_rows(found["account_id"], found["district_id"], rows)
    return replace(actor, session_id=found["id"], proved_at=found["proved_at"])


def listed(session: Session, account_id: uuid.UUID) -> Sequence[SignIn]:
    """The account's sessions that are not over, the latest first."""
    return session.scalars(
        select(SignIn)
        .join(Account, Account.id == SignIn.account_id)
        .where(
            SignIn.account_id == account_id,
            Account.generation == SignIn.generation,
            SignIn.stage == "whole",
            SignIn.ended_at.is_(None),
            SignIn.expires_at > func.now(),
            SignIn.seen_at > func.now() - IDLE,
        )
        .order_by(SignIn.created_at.desc(), SignIn.id)
    ).all()


def get(session: Session, by: access.Actor) -> SignIn:
    """The session in which this is asked. Raises NotFound for the bearer of a token."""
    found = session.get(SignIn, by.session_id) if by.session_id else None
    if found is None:
        raise NotFound("There is no such session.")
    return found


def end(session: Session, session_id: uuid.UUID, *, by: access.Actor) -> None:
    """Ends one of one's own sessions at once. Raises NotFound for another's, or one that is over."""
    is_own = and_(SignIn.account_id.is_not(None), SignIn.account_id == by.account_id)
    mine = or_(is_own, SignIn.id == by.session_id) if by.session_id else is_own
    if not _end(session, SignIn.id == session_id, mine):
        raise NotFound("There is no such session.")
    audit.record(session, by, "session.ended", "session", session_id)


def let_out(session: Session, by: access.Actor) -> None:
    """Lets a session end shortly: what it was for is done."""
    session.execute(
        update(SignIn)
        .where(SignIn.id == by.session_id, SignIn.expires_at > func.now() + AFTERGLOW)
        .values(expires_at=func.now() + AFTERGLOW)
    )


def forget(session: Session) -> None:
    """Deletes what has been over for a month."""
    session.execute(text("delete from sessions where expires_at < now() - :kept"), {"kept": KEPT})


def _insert(
    session: Session, *, lasting: dt.timedelta, until: dt.datetime | None = None, **values: object
) -> tuple[uuid.UUID, str, dt.datetime]:
    secret = secrets.token_urlsafe(32)
    session_id = uuid.uuid4()
    made = session.execute(
        _INSERT,
        {
            "id": session_id,
            "hash": sealing.session_lookup(session.info["master_key"], secret),
            "account": values.get("account_id"),
            "code": values.get("code_id"),
            "stage": values["stage"],
            "generation": values.get("generation", 0),
            "sealed": values.get("sealed_secret"),
            "proved": values.get("proved_at"),
            "lasting": lasting,
            "until": until,
        },
    ).scalar_one()
    return session_id, secret, made


def _end(session: Session, *which: object) -> bool:
    ended = session.execute(
        update(SignIn).where(*which, SignIn.ended_at.is_(None)).values(ended_at=func.now()).returning(SignIn.id)  # type: ignore[arg-type]
    )
    return bool(ended.all())


def _by_code(found: Mapping[str, Any]) -> access.Actor:
    """A student or a guardian: nothing is theirs but the one thing that the code was made for."""
    own = {"student_id": found["student_id"]}
    if found["assignment_id"] is not None:
        own["assignment_id"] = found["assignment_id"]
    return access.Actor(
        account_id=found["student_id"] if found["kind"] == "student" else found["code_id"],
        district_id=found["district_id"],
        roles=(access.RoleAt(found["kind"], found["school_id"]),),
        session_id=found["id"],
        own=own,
    )


_INSERT = text(
    "insert into sessions (id, session_hash, account_id, code_id, stage, generation, sealed_secret, proved_at,"
    " expires_at) values (:id, :hash, :account, :code, :stage, :generation, :sealed, :proved,"
    " least(now() + :lasting, cast(:until as timestamptz))) returning expires_at"
)
_FIND = Statement(
    "with found as (select s.id, s.account_id, s.proved_at, s.seen_at, c.id as code_id, c.kind, c.student_id,"  # noqa: S608 - our own SQL
    "  c.assignment_id, c.school_id, coalesce(a.district_id, c.district_id) as district_id"
    "  from sessions s left join accounts a on a.id = s.account_id left join codes c on c.id = s.code_id"
    "  where s.session_hash = :hash and s.stage = 'whole' and s.ended_at is null and s.expires_at > now()"
    "  and s.seen_at > now() - :idle"
    "  and (c.id is not null or (a.disabled_at is null and a.generation = s.generation))),"
    " noted as (update sessions set seen_at = now() where id = (select id from found where seen_at < now() - :noted))"
    f" select f.*, {staff.ROLES_HELD} from found f"
    " left join lateral roles_of_account(f.district_id, f.account_id) r on true"
)
