"""Sends what is pending, by webhook or mail: an urgency, a link, a school and a time, and nothing else."""

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from alerts import routing, webhooks
from alerts.channels import Channel as Channel
from alerts.channels import Message as Message
from alerts.channels import Probe as Probe
from alerts.channels import Smtp
from alerts.channels import Undeliverable as Undeliverable
from alerts.channels import channel_of as channel_of
from alerts.channels import written as written
from screening import access, audit, staff
from screening.db import Database
from screening.errors import NotFound
from screening.inserting import as_array
from screening.policy import QuietHours
from screening.settings import Settings
from screening.statements import FEW, Statement

URGENCIES = {1: "routine", 2: "soon", 3: "immediate"}
"""How a message says how quickly somebody should look; the tier's own name stays in the house."""
TELLING_FROM = 2
"""A yellow alert waits in the queue and interrupts nobody."""
ATTEMPTS = 8
HANDS, MANY = 4, 8
"""So many send at once where so many messages wait."""
LONGEST_DELAY = dt.timedelta(hours=1)
NEVER_QUIET = ("immediate", "fault")
"""What goes out in the policy's quiet hours too."""
_EACH_ONCE = ("digest",)
"""What is only for its one reader: where it cannot be handed over, nobody else hears of it."""
_RESOURCES = {
    "alert": "/v1/alerts/{id}",
    "follow_up": "/v1/follow-ups/{id}",
    "transfer": "/v1/transfers/{id}",
    "referral": "/v1/referrals/{id}",
    "check_in": "/v1/check-ins/{id}",
    "digest": "/v1/alerts",
    "fault": "/health/loop",
    "access_request": "/v1/access-requests/{id}",
    "rights_request": "/v1/rights-requests/{id}",
    "export": "/v1/exports",
    "reading": "/v1/audit?action=result.read&actor={id}",
}


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


@dataclass(frozen=True)
class _Ringing:
    """An alert of which somebody is to hear."""

    id: uuid.UUID
    school_id: uuid.UUID | None
    tier: int
    has_self_harm: bool
    owner_id: uuid.UUID | None
    raised_at: dt.datetime
    answer_by: dt.datetime


_RINGING = Statement(
    "select id, school_id, tier, has_self_harm, owner_id, raised_at, answer_by from alerts"
    " where district_id = :district and id = any(cast(:alerts as uuid[])) and tier >= :from_tier"
    " and closed_at is null order by id"
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
    is_bulk = len(wanted) > FEW
    ringing = [_Ringing(**row) for row in _RINGING.run(session, parameters, is_bulk=is_bulk)]
    schools = {alert.school_id for alert in ringing}
    rota = routing.rota(session, now=now, schools=schools) if ringing else routing.Rota({})
    notices = []
    for alert in ringing:
        is_red = alert.tier == max(URGENCIES)
        first = (alert.owner_id,) if alert.owner_id else _first(rota, alert)
        lead = rota.hearers("lead", alert.school_id, alert.id) if is_red else ()
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


def _first(rota: routing.Rota, alert: _Ringing) -> tuple[uuid.UUID, ...]:
    is_day_and_night = alert.tier == max(URGENCIES) or alert.has_self_harm
    return rota.hearers("counselor", alert.school_id, alert.id, is_day_and_night=is_day_and_night)


_PUT = Statement(
    "insert into deliveries (district_id, id, school_id, recipient_id, subject, subject_id, occasion, urgency, due_at,"
    " try_at) select :district, gen_random_uuid(), n.* from unnest(cast(:schools as uuid[]),"
    " cast(:recipients as uuid[]), cast(:subjects as text[]), cast(:subject_ids as uuid[]), cast(:occasions as text[]),"
    " cast(:urgencies as text[]), cast(:dues as timestamptz[]), cast(:tries as timestamptz[])) as n"
    " on conflict do nothing returning id"
)


def put(session: Session, notices: Sequence[Notice], *, now: dt.datetime) -> int:
    """Writes messages down before they are sent; the same person is told of the same occasion once."""
    if not notices:
        return 0
    timezone: ZoneInfo = session.info["timezone"]
    can_wait = any(notice.urgency not in NEVER_QUIET for notice in notices)
    quiet = routing.quiet_hours(session) if can_wait else QuietHours()
    made = _PUT.run(
        session,
        {
            "district": access.scope_of(session).district_id,
            "schools": as_array("uuid", [notice.school_id for notice in notices]),
            "recipients": as_array("uuid", [notice.recipient_id for notice in notices]),
            "subjects": as_array("text", [notice.subject for notice in notices]),
            "subject_ids": as_array("uuid", [notice.subject_id for notice in notices]),
            "occasions": as_array("text", [notice.occasion for notice in notices]),
            "urgencies": as_array("text", [notice.urgency for notice in notices]),
            "dues": as_array("timestamptz", [notice.due_at for notice in notices]),
            "tries": as_array("timestamptz", [send_at(notice.urgency, now, timezone, quiet) for notice in notices]),
        },
        is_bulk=len(notices) > FEW,
    )
    return len(made)


def send_at(urgency: str, now: dt.datetime, timezone: dt.tzinfo, quiet: QuietHours) -> dt.datetime:
    """When a message of this urgency may go out: now, or where that is a quiet hour and it can wait, at its end."""
    local = now.astimezone(timezone)
    if urgency in NEVER_QUIET or not quiet.holds(local.time()):
        return now
    on = local.date() + dt.timedelta(days=local.time() >= quiet.ends)
    return dt.datetime.combine(on, quiet.ends, timezone).astimezone(dt.UTC)


# -- sending ------------------------------------------------------------------------------------------

_CLAIM = text(
    "select d.id, d.school_id, d.recipient_id, d.subject, d.subject_id, d.urgency, d.due_at, d.attempts,"
    " coalesce(s.name, '') as school, t.is_probe, exists (select from webhooks w where w.district_id = d.district_id"
    "  and w.staff_id = d.recipient_id and w.ended_at is null) as has_webhook"
    " from deliveries d join districts t on t.id = d.district_id"
    " left join schools s on s.district_id = d.district_id and s.id = d.school_id"
    " where d.district_id = :district and d.state = 'pending' and d.try_at <= :now"
    " and (cast(:subject as text) is null or d.subject = :subject)"
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
    database: Database,
    district_id: uuid.UUID,
    settings: Settings,
    *,
    now: dt.datetime,
    send: Channel | None = None,
    subject: str | None = None,
) -> Delivered:
    """Sends all that is due in a district, the urgent first, each message in a transaction of its own.

    The row is held while its message is handed over, so two workers never send the same one; a worker that dies in
    between leaves it pending, and it goes out again under the same id. What fails is tried again ever more slowly;
    where an address is refused, the next person hears at once. `subject` keeps it to messages about that.
    """
    sender = _Sender(settings, send, now)
    sent = failed = 0
    with sender.mail.keeping() if isinstance(sender.mail, Smtp) else contextlib.nullcontext():
        while True:
            with database.unit(access.Scope(district_id)) as session:
                outcome = sender.next(session, subject)
            if outcome is None:
                return Delivered(sent, failed)
            sent, failed = sent + outcome, failed + (not outcome)


def deliver_all(database: Database, district_id: uuid.UUID, settings: Settings, *, now: dt.datetime) -> Delivered:
    """`deliver_pending` by several hands at once where many messages wait: most of each is waiting for others."""
    with database.unit(access.Scope(district_id)) as session:
        waiting = session.execute(_WAITING, {"district": district_id, "now": now}).scalar_one()
    hands = HANDS if waiting >= MANY else 1
    with ThreadPoolExecutor(hands, "sender") as senders:
        sending = [senders.submit(deliver_pending, database, district_id, settings, now=now) for _ in range(hands)]
        done = [each.result() for each in sending]
    return Delivered(sum(each.sent for each in done), sum(each.failed for each in done))


_WAITING = text(
    "select count(*) from deliveries where district_id = :district and state = 'pending' and try_at <= :now"
)
_UNHEARD = text(
    "select (select count(distinct d.recipient_id) from deliveries d where d.district_id = :district"
    "  and d.state = 'refused' and d.created_at > :now - interval '7 days'"
    "  and not exists (select from deliveries l where l.district_id = :district and l.recipient_id = d.recipient_id"
    "   and l.state = 'sent' and l.sent_at > d.try_at)) as refused,"
    " (select count(*) from deliveries d where d.district_id = :district and d.state = 'pending' and d.attempts > 2)"
    "  as stuck"
)


def problems(session: Session, *, now: dt.datetime) -> list[str]:
    """What a watchdog has to shout: people whom nothing reached in the last week, messages that fail and fail."""
    found = session.execute(_UNHEARD, {"district": access.scope_of(session).district_id, "now": now}).one()
    named = {"deliveries_refused": found.refused, "deliveries_failing": found.stuck}
    return [f"{name} {count}" for name, count in named.items() if count]


def delay_after(attempts: int) -> dt.timedelta:
    """How long to wait after so many attempts: a minute, doubled each time, an hour at most."""
    return min(dt.timedelta(minutes=2 ** min(attempts - 1, 12)), LONGEST_DELAY)


def link(settings: Settings, subject: str, subject_id: uuid.UUID) -> str:
    """Where the thing can be looked at after signing in."""
    return settings.base_url + _RESOURCES[subject].format(id=subject_id)


class _Sender:
    """Hands over one message after another."""

    def __init__(self, settings: Settings, send: Channel | None, now: dt.datetime) -> None:
        self.settings, self.now = settings, now
        self.mail: Channel = send or channel_of(settings)

    def next(self, session: Session, subject: str | None) -> bool | None:
        """Whether the next message went out; None when there is none."""
        district_id = access.scope_of(session).district_id
        claimed = {"district": district_id, "now": self.now, "subject": subject}
        row = session.execute(_CLAIM, claimed).one_or_none()
        if row is None:
            return None
        own = {"district": district_id, "id": row.id}
        name, failure = self._hand_over(session, row)
        if failure is None:
            session.execute(_SENT, own | {"channel": name, "now": self.now})
        else:
            self._keep_failure(session, row, own | {"channel": name}, failure)
        return failure is None

    def _hand_over(self, session: Session, row: Row[Any]) -> tuple[str, Undeliverable | None]:
        """By the person's own webhook, and by mail where there is none or it fails; the way that was gone last."""
        link_to = link(self.settings, row.subject, row.subject_id)
        message = Message(row.id, row.urgency, link_to, row.school, row.due_at)
        if row.is_probe:
            return _try(Probe(channel_of(self.settings), self.settings.probe_address), "", message)
        hook = webhooks.of(session, row.recipient_id, self.settings, now=self.now) if row.has_webhook else None
        if hook is not None:
            name, failure = _try(hook, "", message)
            if failure is None:
                return name, None
        try:
            address = _address(session, row.recipient_id)
        except Undeliverable as nowhere:
            return self.mail.name, nowhere
        return _try(self.mail, address, message)

    def _keep_failure(self, session: Session, row: Row[Any], own: dict[str, Any], failure: Undeliverable) -> None:
        attempts = row.attempts + 1
        is_over = failure.is_final or attempts >= ATTEMPTS
        fate = {
            "state": "refused" if is_over else "pending",
            "try_at": self.now + delay_after(attempts),
            "problem": failure.problem,
        }
        session.execute(_FAILED, own | fate)
        system = access.system(own["district"])
        if is_over:
            audit.record(session, system, "delivery.refused", "delivery", row.id, problem=failure.problem)
        if failure.is_refused and row.subject not in _EACH_ONCE:
            _pass_on(session, row, self.now)


_RETURNED = text(
    "update deliveries set state = 'refused', problem = :problem"
    " where district_id = :district and id = :id and state in ('sent', 'pending')"
    " returning id, school_id, subject, subject_id, urgency, due_at"
)


def came_back(session: Session, delivery_id: uuid.UUID, problem: str, *, now: dt.datetime) -> bool:
    """A message that was handed over came back: it counts as refused, and the next person hears. Twice is once."""
    district_id = access.scope_of(session).district_id
    about = {"district": district_id, "id": delivery_id, "problem": problem}
    row = session.execute(_RETURNED, about).one_or_none()
    if row is None:
        return False
    audit.record(session, access.system(district_id), "delivery.refused", "delivery", delivery_id, problem=problem)
    if row.subject not in _EACH_ONCE:
        _pass_on(session, row, now)
    return True


def _try(way: Channel, address: str, message: Message) -> tuple[str, Undeliverable | None]:
    try:
        way(address, message)
    except Undeliverable as failure:
        return way.name, failure
    return way.name, None


_TOLD = text(
    "select recipient_id, occasion from deliveries"
    " where district_id = :district and subject = :subject and subject_id = :id"
)


def _pass_on(session: Session, row: Row[Any], now: dt.datetime) -> None:
    """An address that takes nothing is a reader who is away: the next on the ladder who was not told hears now."""
    district_id = access.scope_of(session).district_id
    told = session.execute(_TOLD, {"district": district_id, "subject": row.subject, "id": row.subject_id}).all()
    occasion = f"passed_on/{row.id}"
    if any(each.occasion == occasion for each in told):
        return
    already = {each.recipient_id for each in told}
    rota = routing.rota(session, now=now)
    groups = (rota.hearers(role, row.school_id, row.subject_id) for role in routing.LADDER)
    fresh = next((group for group in groups if not already.issuperset(group)), ())
    notices = [
        Notice(one, row.school_id, row.subject, row.subject_id, occasion, row.urgency, row.due_at)
        for one in fresh
        if one not in already
    ]
    if put(session, notices, now=now):
        audit.record(session, access.system(district_id), "delivery.passed_on", "delivery", row.id)


def _address(session: Session, staff_id: uuid.UUID) -> str:
    try:
        address = staff.email_of(session, staff_id)
    except NotFound:
        raise Undeliverable("no_address", is_final=True) from None
    if not address:
        raise Undeliverable("no_address", is_final=True)
    return address
