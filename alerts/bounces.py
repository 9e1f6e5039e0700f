"""A mail server took a message and another one sent it back: then nobody has read it, and the next person hears."""

import email
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.policy import default

from sqlalchemy import select, text

from alerts import delivery
from screening import access, db
from screening.db import Database
from screening.models import District

LONGEST = 1 << 20
"""Of a returned mail: whatever is longer is none of ours."""
_OURS = re.compile(r"<?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:@[^>]*>)?")
_FAILED = re.compile(r"5\.\d{1,3}\.\d{1,3}")


@dataclass(frozen=True)
class Bounce:
    """Which of our messages came back for good, and the status that was given for it (RFC 3463)."""

    delivery_id: uuid.UUID
    status: str


def read(content: bytes) -> Bounce | None:
    """A report of a mail server (RFC 3464) that one of our messages failed for good; None for any other mail.

    What is only late, or is no such report, says nothing: an out-of-office answer is no refusal.
    """
    if len(content) > LONGEST:
        return None
    mail = email.message_from_bytes(content, policy=default)
    if mail.get_content_type() != "multipart/report" or mail.get_param("report-type") != "delivery-status":
        return None
    statuses = [_final(part) for part in mail.walk()]
    named = [_of(part) for part in mail.walk()]
    status, ours = next(filter(None, statuses), None), next(filter(None, named), None)
    return None if status is None or ours is None else Bounce(ours, status)


def take(database: Database, content: bytes) -> bool:
    """Where the mail tells that a message of ours came back: it was not read, and the next on the ladder is told.

    Answers whether it was one of ours. The same report twice is once.
    """
    found = read(content)
    if found is None:
        return False
    with database.unit() as session:
        now, districts = db.now(session), session.scalars(select(District.id)).all()
    for district_id in districts:
        with database.unit(access.Scope(district_id)) as session:
            if session.execute(_IS_HERE, {"district": district_id, "id": found.delivery_id}).scalar():
                delivery.came_back(session, found.delivery_id, f"bounced_{found.status}", now=now)
                return True
    return False


_IS_HERE = text("select exists (select from deliveries where district_id = :district and id = :id)")


def _final(part: Message) -> str | None:
    """The status of a recipient to whom it will never be delivered."""
    if part.get_content_type() != "message/delivery-status":
        return None
    blocks = part.get_payload()
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, Message):
            continue
        status = _FAILED.match(str(block.get("Status", "")).strip())
        if status and str(block.get("Action", "")).strip().lower() == "failed":
            return status[0]
    return None


def _of(part: Message) -> uuid.UUID | None:
    """The delivery that the returned message, or its headers, names."""
    for returned in _returned(part):
        for header in ("X-Screening-Delivery", "Message-ID"):
            if found := _OURS.match(str(returned.get(header, "")).strip()):
                return uuid.UUID(found[1])
    return None


def _returned(part: Message) -> Iterator[Message]:
    if part.get_content_type() == "text/rfc822-headers":
        content = part.get_payload(decode=True)
        yield email.message_from_bytes(content if isinstance(content, bytes) else b"", policy=default)
    elif part.get_content_type() == "message/rfc822":
        inside = part.get_payload()
        yield from (one for one in inside if isinstance(one, Message)) if isinstance(inside, list) else ()
