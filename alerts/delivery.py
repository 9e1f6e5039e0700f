"""Sends what is pending, by mail or to the console: an urgency, a link, a school and a time, and nothing else."""

import datetime as dt
import smtplib
import ssl
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import routing
from screening import access, audit, staff
from screening.db import Database
from screening.errors import NotFound
from screening.inserting import as_array
from screening.settings import Settings

URGENCIES = {1: "routine", 2: "soon", 3: "immediate"}
"""How a message says how quickly somebody should look; the tier's own name stays in the house."""
TELLING_FROM = 2
"""A yellow alert waits in the queue and interrupts nobody."""
ATTEMPTS = 8
LONGEST_DELAY = dt.timedelta(hours=1)
TIMEOUT_SECONDS = 10
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Message:
    """What leaves the house. `id` is the same on every attempt."""

    id: uuid.UUID
    urgency: str
    link: str
    school: str
    due_at: dt.datetime


class Undeliverable(Exception):
    """It could not be handed over now; `problem` is a code without any address in it."""

    def __init__(self, problem: str, *, is_final: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_final = is_final


class Channel(Protocol):
    """A way out of the house. Raises Undeliverable."""

    @property
    def name(self) -> str: ...

    def __call__(self, address: str, message: Message) -> None: ...


@dataclass(frozen=True)
class Notice:
    """That one person should be told of one thing, on one occasion."""

    recipient_id: uuid.UUID
    school_id: uuid.UUID | None
    subject: str
    subject_id: uuid.UUID
    occasion: str
    urgency: str
    due_at: dt.datetime


@dataclass(frozen=True)
class Delivered:
    sent: int = 0
    failed: int = 0


# -- what is to be sent -------------------------------------------------------------------------------

_RINGING = text(
    "select id, school_id, tier, owner_id, raised_at, answer_by from alerts where district_id = :district"
    " and id = any(cast(:alerts as uuid[])) and tier >= :from_tier and closed_at is null order by id"
)


def announce(session: Session, alert_ids: Iterable[uuid.UUID], *, now: dt.datetime) -> int:
    """Writes down who is to be told that these alerts were raised; returns how many messages are new.

    One counselor hears of each (its owner, if it has one), and of a red the lead at once as well. In the raising
    transaction: only rows are written here, and nothing waits for a mail server.
    """
    wanted = list(alert_ids)
    if not wanted:
        return 0
    parameters = {
        "district": access.scope_of(session).district_id,
        "alerts": as_array("uuid", wanted),
        "from_tier": TELLING_FROM,
    }
    ringing = session.execute(_RINGING, parameters).all()
    rota = routing.rota(session) if ringing else routing.Rota({})
    notices = []
    for alert in ringing:
        first = (alert.owner_id,) if alert.owner_id else rota.hearers("counselor", alert.school_id, alert.id)
        lead = rota.hearers("lead", alert.school_id, alert.id) if alert.tier == max(URGENCIES) else ()
        for recipient_id in dict.fromkeys([*first, *lead]):
            notices.append(
                Notice(
                    recipient_id=recipient_id,
                    school_id=alert.school_id,
                    subject="alert",
                    subject_id=alert.id,
                    occasion=f"raised/{alert.raised_at.isoformat()}",
                    urgency=URGENCIES[alert.tier],
                    due_at=alert.answer_by,
                )
            )
    return put(session, notices, now=now)


_PUT = text(
    "insert into deliveries (district_id, id, school_id, recipient_id, subject, subject_id, occasion, urgency, due_at,"
    " try_at) select :district, gen_random_uuid(), n.* , :now from unnest(cast(:schools as uuid[]),"
    " cast(:recipients as uuid[]), cast(:subjects as text[]), cast(:subject_ids as uuid[]), cast(:occasions as text[]),"
    " cast(:urgencies as text[]), cast(:dues as timestamptz[])) as n on conflict do nothing returning id"
)


def put(session: Session, notices: Sequence[Notice], *, now: dt.datetime) -> int:
    """Writes messages down before they are sent; the same person is told of the same occasion once."""
    if not notices:
        return 0
    made = session.execute(
        _PUT,
        {
            "district": access.scope_of(session).district_id,
            "now": now,
            "schools": as_array("uuid", [notice.school_id for notice in notices]),
            "recipients": as_array("uuid", [notice.recipient_id for notice in notices]),
            "subjects": as_array("text", [notice.subject for notice in notices]),
            "subject_ids": as_array("uuid", [notice.subject_id for notice in notices]),
            "occasions": as_array("text", [notice.occasion for notice in notices]),
            "urgencies": as_array("text", [notice.urgency for notice in notices]),
            "dues": as_array("timestamptz", [notice.due_at for notice in notices]),
        },
    ).all()
    return len(made)


# -- sending ------------------------------------------------------------------------------------------

_CLAIM = text(
    "select d.id, d.recipient_id, d.subject, d.subject_id, d.urgency, d.due_at, d.attempts,"
    " coalesce(s.name, '') as school from deliveries d"
    " left join schools s on s.district_id = d.district_id and s.id = d.school_id"
    " where d.district_id = :district and d.state = 'pending' and d.try_at <= :now"
    " order by d.urgency <> 'immediate', d.try_at, d.id limit 1 for no key update of d skip locked"
)
_SENT = text(
    "update deliveries set state = 'sent', channel = :channel, attempts = attempts + 1, sent_at = :now, problem = null"
    " where district_id = :district and id = :id"
)
_FAILED = text(
    "update deliveries set state = :state, channel = :channel, attempts = attempts + 1, try_at = :try_at,"
    " problem = :problem where district_id = :district and id = :id"
)


def deliver_pending(
    database: Database, district_id: uuid.UUID, settings: Settings, *, now: dt.datetime, send: Channel | None = None
) -> Delivered:
    """Sends all that is due in a district, the urgent first, each message in a transaction of its own.

    The row is held while its message is handed over, so two workers never send the same one; a worker that dies in
    between leaves it pending, and it goes out again under the same id. What fails is tried again ever more slowly.
    """
    channel = send or channel_of(settings)
    sent = failed = 0
    while True:
        with database.unit(access.Scope(district_id)) as session:
            outcome = _deliver_one(session, district_id, settings, channel, now)
        if outcome is None:
            return Delivered(sent, failed)
        sent, failed = sent + outcome, failed + (not outcome)


_UNHEARD = text(
    "select count(*) filter (where state = 'refused' and created_at > :now - interval '7 days') as refused,"
    " count(*) filter (where state = 'pending' and attempts > 2) as stuck"
    " from deliveries where district_id = :district and (state = 'refused' or state = 'pending')"
)


def problems(session: Session, *, now: dt.datetime) -> list[str]:
    """What a watchdog has to shout: messages given up in the last week, and those that fail again and again."""
    found = session.execute(_UNHEARD, {"district": access.scope_of(session).district_id, "now": now}).one()
    named = {"deliveries_refused": found.refused, "deliveries_failing": found.stuck}
    return [f"{name} {count}" for name, count in named.items() if count]


def delay_after(attempts: int) -> dt.timedelta:
    """How long to wait after so many attempts: a minute, doubled each time, an hour at most."""
    return min(dt.timedelta(minutes=2 ** min(attempts - 1, 12)), LONGEST_DELAY)


def _deliver_one(
    session: Session, district_id: uuid.UUID, settings: Settings, channel: Channel, now: dt.datetime
) -> bool | None:
    """Whether the next message went out; None when there is none."""
    row = session.execute(_CLAIM, {"district": district_id, "now": now}).one_or_none()
    if row is None:
        return None
    own = {"district": district_id, "id": row.id, "channel": channel.name}
    message = Message(row.id, row.urgency, link(settings, row.subject, row.subject_id), row.school, row.due_at)
    try:
        channel(_address(session, row.recipient_id), message)
    except Undeliverable as failure:
        attempts = row.attempts + 1
        is_over = failure.is_final or attempts >= ATTEMPTS
        fate = {
            "state": "refused" if is_over else "pending",
            "try_at": now + delay_after(attempts),
            "problem": failure.problem,
        }
        session.execute(_FAILED, own | fate)
        if is_over:
            system = access.system(district_id)
            audit.record(session, system, "delivery.refused", "delivery", row.id, problem=failure.problem)
        return False
    session.execute(_SENT, own | {"now": now})
    return True


def _address(session: Session, staff_id: uuid.UUID) -> str:
    try:
        address = staff.email_of(session, staff_id)
    except NotFound:
        raise Undeliverable("no_address", is_final=True) from None
    if not address:
        raise Undeliverable("no_address", is_final=True)
    return address


# -- channels -----------------------------------------------------------------------------------------

_WORDS = {
    "en": {
        "immediate": "please look now",
        "soon": "please look soon",
        "routine": "please look",
        "overdue": "a promised contact is overdue",
        "title": "Student wellbeing",
        "body": "{what}\n\nSchool: {school}\nDue: {due}\n{link}\n",
    },
    "zh_CN": {
        "immediate": "请立即查看",
        "soon": "请尽快查看",
        "routine": "请查看",
        "overdue": "有一项约定的联系已逾期",
        "title": "学生心理健康工作",
        "body": "{what}\n\n学校：{school}\n时限：{due}\n{link}\n",
    },
}


def link(settings: Settings, subject: str, subject_id: uuid.UUID) -> str:
    """Where the thing can be looked at after signing in."""
    resource = {"alert": "alerts", "follow_up": "follow-ups"}[subject]
    return f"{settings.base_url}/v1/{resource}/{subject_id}"


def channel_of(settings: Settings) -> Channel:
    """Mail where a server is set; else the console in development, and in production a way that leads nowhere."""
    if settings.smtp_url is not None:
        return Smtp(settings)
    return Nowhere() if settings.is_production else Console(settings)


class Smtp:
    """Mail by the server of SCREENING_SMTP_URL."""

    name = "smtp"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, address: str, message: Message) -> None:
        try:
            with self._connection() as server:
                server.send_message(self._mail(address, message))
        except smtplib.SMTPRecipientsRefused as refusal:
            codes = [code for code, _ in refusal.recipients.values()]
            raise Undeliverable(f"smtp_{codes[0] if codes else 'refused'}") from None
        except smtplib.SMTPResponseException as refusal:
            raise Undeliverable(f"smtp_{refusal.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as failure:
            raise Undeliverable(f"smtp_{type(failure).__name__}") from None

    def _connection(self) -> smtplib.SMTP:
        parts = urlsplit(self.settings.smtp_url or "")
        host, me = parts.hostname or "localhost", self._host()  # our own name is known: smtplib would ask the DNS
        if parts.scheme == "smtps":
            context = ssl.create_default_context()
            port = parts.port or 465
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, me, timeout=TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, parts.port or 25, me, timeout=TIMEOUT_SECONDS)
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
            elif parts.username and host not in _LOOPBACK:
                raise Undeliverable("smtp_without_tls")  # a password never travels in the clear
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        return server

    def _host(self) -> str:
        return urlsplit(self.settings.base_url).hostname or "localhost"

    def _mail(self, address: str, message: Message) -> EmailMessage:
        host = self._host()
        subject, body = written(message, self.settings)
        mail = EmailMessage()
        mail["Message-ID"] = f"<{message.id}@{host}>"
        mail["X-Screening-Delivery"] = str(message.id)
        mail["Date"] = format_datetime(dt.datetime.now(dt.UTC))
        mail["From"] = f"screening@{'localhost' if host in _LOOPBACK else host}"
        mail["To"] = address
        mail["Subject"] = subject
        mail.set_content(body)
        return mail


class Console:
    """A line on standard error, for development."""

    name = "console"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, address: str, message: Message) -> None:
        due = message.due_at.isoformat(timespec="minutes")
        sys.stderr.write(f"delivery {message.id} {message.urgency} due {due} {message.link}\n")


class Nowhere:
    """Production without a mail server: nothing is sent, and every attempt says so."""

    name = "none"

    def __call__(self, address: str, message: Message) -> None:
        raise Undeliverable("no_channel")


def written(message: Message, settings: Settings) -> tuple[str, str]:
    """Subject and body in the place's language and time."""
    words = _WORDS[settings.locale]
    what = words[message.urgency]
    due = message.due_at.astimezone(settings.timezone).strftime("%Y-%m-%d %H:%M")
    body = words["body"].format(what=what, school=message.school or "-", due=due, link=message.link)
    return f"{words['title']}: {what}", body
