"""A message that comes back was read by nobody: the next person hears, once, and other mail changes nothing."""

import uuid

import pytest
from sqlalchemy import text

from alerts import bounces, delivery
from alerts.bounces import Bounce
from tests.alerts.episodes import MONDAY, ORANGE, ring
from tests.alerts.test_delivery import Outbox
from tests.cast import Cast
from tests.doors import settings

ID = uuid.UUID("0b1d3c5e-1111-4222-8333-444455556666")


def report(
    delivery_id: uuid.UUID, *, action: str = "failed", status: str = "5.1.1", part: str = "text/rfc822-headers"
) -> bytes:
    """As Postfix sends it (RFC 3464)."""
    return f"""From: MAILER-DAEMON@mx.example (Mail Delivery System)
To: screening@school.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b1"

--b1
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.

--b1
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
X-Postfix-Queue-ID: 4F2K
Arrival-Date: Mon,  7 Sep 2026 10:00:00 +0800 (CST)

Final-Recipient: rfc822; an@school.example
Original-Recipient: rfc822;an@school.example
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 {status} User unknown

--b1
Content-Description: Undelivered Message
Content-Type: {part}

Message-ID: <{delivery_id}@school.example>
X-Screening-Delivery: {delivery_id}
From: screening@school.example
To: an@school.example
Subject: Student wellbeing: please look soon

--b1--
""".replace("\n", "\r\n").encode()


@pytest.mark.parametrize("part", ["text/rfc822-headers", "message/rfc822"])
def test_what_failed_for_good_names_the_message(part: str) -> None:
    assert bounces.read(report(ID, part=part)) == Bounce(ID, "5.1.1")


@pytest.mark.parametrize(
    "content",
    [
        report(ID, action="delayed", status="4.4.1"),
        report(ID, action="delivered", status="2.0.0"),
        report(ID, action="failed", status="4.2.2"),
        report(ID).replace(str(ID).encode(), b"somebody-elses"),
        report(ID).replace(b"multipart/report", b"multipart/mixed"),
        b"Subject: Out of office\r\n\r\nBack on Monday. Ref " + str(ID).encode(),
        b"",
        b"\xff\xfe\x00",
        report(ID) + b" " * bounces.LONGEST,
    ],
)
def test_any_other_mail_says_nothing(content: bytes) -> None:
    assert bounces.read(content) is None


def test_the_next_person_hears_of_what_came_back_and_only_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.in_school_b, ORANGE)
    delivery.deliver_pending(cast.database, cast.district.id, settings(), now=MONDAY, send=Outbox())
    with cast.database.unit(cast.scope) as session:
        (first,) = session.execute(_ROWS, {"id": alert.id}).all()
    assert (first.recipient_id, first.state) == (cast.chen.person, "sent")
    for _ in range(2):
        assert bounces.take(cast.database, report(first.id))
    with cast.database.unit(cast.scope) as session:
        rows = session.execute(_ROWS, {"id": alert.id}).all()
        problems = delivery.problems(session, now=MONDAY)
    assert [(row.state, row.problem) for row in rows if row.id == first.id] == [("refused", "bounced_5.1.1")]
    assert {row.recipient_id for row in rows if row.id != first.id} == {cast.duty_officer.person}
    assert problems == ["deliveries_refused 1"]


def test_a_message_of_nobodys_changes_nothing(cast: Cast) -> None:
    assert not bounces.take(cast.database, report(uuid.uuid4()))


_ROWS = text("select id, recipient_id, state, problem from deliveries where subject_id = :id order by created_at")
