"""What leaves the house: little, once, in the end, and loudly when it does not."""

import asyncio
import datetime as dt
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message as Mail
from email.policy import default as modern
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import delivery, routing, triage
from screening import policy, staff
from screening.policy import QuietHours
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, made_up_settings, race, ring
from tests.cast import Cast
from tests.factories import make_round, make_student

NIGHT = QuietHours()
MINUTE = dt.timedelta(minutes=1)


@dataclass
class Outbox:
    """A channel that keeps what it is given, and fails as often as it is told to."""

    name: str = "outbox"
    failures: int = 0
    is_final: bool = False
    taken: list[tuple[str, delivery.Message]] = field(default_factory=list)
    refused: list[uuid.UUID] = field(default_factory=list)

    def __call__(self, address: str, message: delivery.Message) -> None:
        if len(self.refused) < self.failures:
            self.refused.append(message.id)
            raise delivery.Undeliverable("outbox_full", is_final=self.is_final)
        self.taken.append((address, message))


class Inbox:
    """A mail server's side: keeps mails, after answering the first ones with these words."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.seen: list[Mail] = []
        self.mails: list[Mail] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        mail = message_from_bytes(envelope.content, policy=modern)
        self.seen.append(mail)
        await asyncio.sleep(0)
        if self.answers:
            return self.answers.pop(0)
        self.mails.append(mail)
        return "250 OK"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def port(inbox: Inbox, free_port: int) -> Iterator[int]:
    server = Controller(inbox, hostname="127.0.0.1", port=free_port)
    server.start()
    try:
        yield free_port
    finally:
        server.stop()


def test_a_message_says_how_urgently_where_and_by_when_and_nothing_else(
    cast: Cast, tmp_path: Path, inbox: Inbox, port: int
) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED, rule="phq9_self_harm_daily", is_self_harm=True)
    settings = made_up_settings(tmp_path, SCREENING_SMTP_URL=f"smtp://127.0.0.1:{port}", SCREENING_LOCALE="en")
    assert delivery.deliver_pending(cast.database, cast.district.id, settings, now=MONDAY).sent == 2
    for mail in inbox.mails:
        body = mail.get_content()  # type: ignore[attr-defined]
        assert body.replace("\r\n", "\n") == (
            f"please look now\n\nSchool: School A\nDue: 2026-09-07 10:30\nhttp://127.0.0.1:8000/v1/alerts/{alert.id}\n"
        )
        everything = f"{mail}{body}".lower()
        for canary in ("王小明", "a001", "phq", "harm", "score", "tier", "orange", str(cast.students.granted_13.id)):
            assert canary not in everything
        assert "red" not in everything.split()


def test_the_words_are_in_the_places_language(tmp_path: Path) -> None:
    settings = made_up_settings(tmp_path, SCREENING_LOCALE="zh_CN")
    message = delivery.Message(uuid.uuid4(), "immediate", "http://x/y", "第一中学", MONDAY)
    subject, body = delivery.written(message, settings)
    assert subject == "学生心理健康工作: 请立即查看"
    assert body == "请立即查看\n\n学校：第一中学\n时限：2026-09-07 10:00\nhttp://x/y\n"


@pytest.mark.parametrize("answer", ["450 mailbox busy", "421 closing"])
def test_a_refused_mail_goes_out_again_under_the_same_id(
    cast: Cast, tmp_path: Path, inbox: Inbox, port: int, answer: str
) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.granted_13, ORANGE)
    inbox.answers.append(answer)
    settings = made_up_settings(tmp_path, SCREENING_SMTP_URL=f"smtp://127.0.0.1:{port}")
    assert send(cast, settings, MONDAY) == (0, 1)
    assert send(cast, settings, MONDAY + MINUTE / 2) == (0, 0)
    assert send(cast, settings, MONDAY + MINUTE) == (1, 0)
    assert send(cast, settings, MONDAY + HOUR) == (0, 0)
    first, second = inbox.seen
    assert first["Message-ID"] == second["Message-ID"]
    with cast.database.unit(cast.scope) as session:
        row = session.execute(text("select state, attempts, channel, problem, sent_at from deliveries")).one()
        assert tuple(row) == ("sent", 2, "smtp", None, MONDAY + MINUTE)


def test_where_an_address_is_refused_the_next_person_hears_at_once(
    cast: Cast, tmp_path: Path, inbox: Inbox, port: int
) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, ORANGE)
        (first,) = recipients(session, alert.id)
    inbox.answers.append("550 no such user")
    settings = made_up_settings(tmp_path, SCREENING_SMTP_URL=f"smtp://127.0.0.1:{port}")
    assert send(cast, settings, MONDAY) == (1, 1)
    with cast.database.unit(cast.scope) as session:
        (second,) = recipients(session, alert.id) - {first}
        assert {first, second} == {cast.an.person, cast.bo.person}
        assert inbox.mails[-1]["To"] == staff.email_of(session, second)
    assert send(cast, settings, MONDAY + MINUTE) == (1, 0)  # the address may have been mended
    with cast.database.unit(cast.scope) as session:
        assert len(recipients(session, alert.id)) == 2


def test_a_refusal_by_everybody_goes_up_the_ladder_to_its_end(
    cast: Cast, tmp_path: Path, inbox: Inbox, port: int
) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, ORANGE)
    inbox.answers.extend(["550 no such user"] * 20)
    settings = made_up_settings(tmp_path, SCREENING_SMTP_URL=f"smtp://127.0.0.1:{port}")
    assert send(cast, settings, MONDAY) == (0, 6)
    with cast.database.unit(cast.scope) as session:
        told = recipients(session, alert.id)
    ladder = (cast.an, cast.bo, cast.lead, cast.principal, cast.duty_officer, cast.district_admin)
    assert told == {one.person for one in ladder}


def test_at_night_only_what_cannot_wait_goes_out(cast: Cast) -> None:
    shanghai = ZoneInfo("Asia/Shanghai")
    night = dt.datetime(2026, 9, 7, 18, 10, tzinfo=dt.UTC)  # ten past two
    morning = dt.datetime(2026, 9, 7, 23, 0, tzinfo=dt.UTC)  # seven
    assert delivery.send_at("immediate", night, shanghai, NIGHT) == night
    assert delivery.send_at("fault", night, shanghai, NIGHT) == night
    for urgency in ("soon", "routine", "overdue", "digest"):
        assert delivery.send_at(urgency, night, shanghai, NIGHT) == morning
        assert (
            delivery.send_at(urgency, night - 4 * HOUR, shanghai, NIGHT) == morning
        )  # ten past ten the evening before
        assert delivery.send_at(urgency, MONDAY, shanghai, NIGHT) == MONDAY


@pytest.mark.parametrize(
    ("quiet", "hours"),
    [
        (QuietHours(dt.time(22), dt.time(6)), {22, 23, *range(6)}),
        (QuietHours(dt.time(1), dt.time(5)), {1, 2, 3, 4}),
        (QuietHours(dt.time(8), dt.time(8)), set()),
    ],
)
def test_the_policy_says_which_hours_are_quiet(quiet: QuietHours, hours: set[int]) -> None:
    waits = set()
    for hour in range(24):
        at = dt.datetime(2026, 9, 7, hour, 30, tzinfo=dt.UTC)
        goes = delivery.send_at("soon", at, dt.UTC, quiet)
        assert delivery.send_at("immediate", at, dt.UTC, quiet) == at
        if goes != at:
            waits.add(hour)
            assert goes > at
            assert goes.time() == quiet.ends
            assert goes - at < dt.timedelta(days=1)
    assert waits == hours


def test_the_hours_are_those_of_the_districts_latest_round(cast: Cast) -> None:
    night = dt.datetime(2026, 9, 7, 18, 10, tzinfo=dt.UTC)  # ten past two
    body = policy.shipped().body.replace('from = "21:00"\nuntil = "07:00"', 'from = "23:00"\nuntil = "02:00"')
    with cast.database.unit(cast.scope) as session:
        assert routing.quiet_hours(session) == policy.shipped().quiet_hours
        make_round(session, rules=policy.parse(body, "a copy"))
        ring(session, cast.students.granted_13, ORANGE, at=night)
        tries = session.execute(text("select distinct try_at from deliveries")).scalars().all()
    assert tries == [night]


def test_an_orange_of_the_night_is_in_the_queue_at_once_and_in_the_mail_in_the_morning(
    cast: Cast, tmp_path: Path
) -> None:
    night = dt.datetime(2026, 9, 7, 18, 10, tzinfo=dt.UTC)
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.granted_13, ORANGE, at=night)
        ring(session, cast.students.own_grant_15, RED, at=night)
        assert len(triage.queue(session)) == 2
    outbox, settings = Outbox(), made_up_settings(tmp_path)
    send(cast, settings, night, outbox)
    assert {message.urgency for _, message in outbox.taken} == {"immediate"}
    send(cast, settings, night + 5 * HOUR, outbox)
    assert [message.urgency for _, message in outbox.taken][-1] == "soon"


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ("2026-03-28T21:30:00+01:00", "2026-03-29T07:00:00+02:00"),  # the night that is an hour shorter
        ("2026-10-24T23:30:00+02:00", "2026-10-25T07:00:00+01:00"),  # and the one that is longer
        ("2026-10-25T02:30:00+01:00", "2026-10-25T07:00:00+01:00"),
        ("2028-02-28T22:00:00+01:00", "2028-02-29T07:00:00+01:00"),
    ],
)
def test_the_night_ends_by_the_clock_on_the_wall(now: str, wanted: str) -> None:
    came = delivery.send_at("soon", dt.datetime.fromisoformat(now), ZoneInfo("Europe/Berlin"), NIGHT)
    assert came == dt.datetime.fromisoformat(wanted)


def test_a_mail_server_that_is_away_keeps_nothing_waiting_and_loses_nothing(
    cast: Cast, tmp_path: Path, free_port: int
) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED)
        assert [row.id for row in triage.queue(session)] == [alert.id]
    settings = made_up_settings(tmp_path, SCREENING_SMTP_URL=f"smtp://127.0.0.1:{free_port}")
    assert send(cast, settings, MONDAY) == (0, 2)
    with cast.database.unit(cast.scope) as session:
        states = session.execute(text("select state, problem from deliveries")).all()
        assert [tuple(row) for row in states] == [("pending", "smtp_ConnectionRefusedError")] * 2


def test_what_fails_is_tried_ever_more_slowly_and_given_up_loudly(cast: Cast, tmp_path: Path) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.granted_13, ORANGE)
    outbox, settings, now = Outbox(failures=99), made_up_settings(tmp_path), MONDAY
    for attempt in range(1, delivery.ATTEMPTS + 1):
        assert send(cast, settings, now, outbox) == (0, 1)
        now += delivery.delay_after(attempt)
    assert send(cast, settings, now + 24 * HOUR, outbox) == (0, 0)
    assert len(set(outbox.refused)) == 1
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select state, problem from deliveries")).one() == ("refused", "outbox_full")
        assert delivery.problems(session, now=dt.datetime.now(dt.UTC)) == ["deliveries_refused 1"]


def test_the_delay_doubles_up_to_an_hour() -> None:
    minutes = [delivery.delay_after(attempt) / MINUTE for attempt in range(1, 10)]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_urgent_goes_first(cast: Cast, tmp_path: Path) -> None:
    with cast.database.unit(cast.scope) as session:
        for _ in range(3):
            ring(session, make_student(session, cast.school_b.id), ORANGE)
        ring(session, make_student(session, cast.school_b.id), RED, at=MONDAY + MINUTE)
    outbox = Outbox()
    send(cast, made_up_settings(tmp_path), MONDAY + MINUTE, outbox)
    urgencies = [message.urgency for _, message in outbox.taken]
    assert urgencies == sorted(urgencies, key=["immediate", "soon"].index)


def test_two_workers_send_each_message_once(cast: Cast, tmp_path: Path) -> None:
    with cast.database.unit(cast.scope) as session:
        for _ in range(20):
            ring(session, make_student(session, cast.school_a.id), RED)
    outbox, settings = Outbox(), made_up_settings(tmp_path)
    race(*[lambda: send(cast, settings, MONDAY, outbox)] * 3)
    assert len(outbox.taken) == len({message.id for _, message in outbox.taken}) == 40


def test_a_message_goes_to_the_person_who_should_hear(cast: Cast, tmp_path: Path) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_b, ORANGE)
        assert cast.chen.staff_id is not None
        address = staff.email_of(session, cast.chen.staff_id)
    outbox = Outbox()
    send(cast, made_up_settings(tmp_path), MONDAY, outbox)
    assert [to for to, _ in outbox.taken] == [address]


def test_without_a_mail_server_development_writes_a_line(
    cast: Cast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, ORANGE)
    assert send(cast, made_up_settings(tmp_path), MONDAY) == (1, 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(alert.id) in line
    assert "soon" in line


def test_production_without_a_mail_server_says_so(tmp_path: Path) -> None:
    key = tmp_path / "master.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    settings = made_up_settings(
        tmp_path,
        SCREENING_ENV="production",
        SCREENING_BASE_URL="https://screening.example",
        SCREENING_MASTER_KEY_FILE=str(key),
        SCREENING_BACKUP_TARGET=str(tmp_path),
    )
    channel = delivery.channel_of(settings)
    with pytest.raises(delivery.Undeliverable, match="no_channel"):
        channel("somebody@example.test", delivery.Message(uuid.uuid4(), "soon", "x", "y", MONDAY))


def test_a_worker_that_dies_after_sending_sends_again_under_the_same_id(cast: Cast, tmp_path: Path) -> None:
    """A hand-over to a mail server may repeat when the worker is killed; it never goes missing."""
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.in_school_b, ORANGE)

    class Killed(Outbox):
        def __call__(self, address: str, message: delivery.Message) -> None:
            super().__call__(address, message)
            raise KeyboardInterrupt

    killed, outbox = Killed(), Outbox()
    with pytest.raises(KeyboardInterrupt):
        send(cast, made_up_settings(tmp_path), MONDAY, killed)
    send(cast, made_up_settings(tmp_path), MONDAY, outbox)
    assert [message.id for _, message in killed.taken] == [message.id for _, message in outbox.taken]


def recipients(session: Session, alert_id: uuid.UUID) -> set[uuid.UUID]:
    return set(session.scalars(text("select recipient_id from deliveries where subject_id = :id"), {"id": alert_id}))


def send(cast: Cast, settings: Any, now: dt.datetime, channel: delivery.Channel | None = None) -> tuple[int, int]:
    came = delivery.deliver_pending(cast.database, cast.district.id, settings, now=now, send=channel)
    return came.sent, came.failed


def test_many_messages_are_sent_by_several_hands_each_once(cast: Cast, tmp_path: Path, inbox: Inbox, port: int) -> None:
    with cast.database.unit(cast.scope) as session:
        for _ in range(delivery.MANY):
            ring(session, make_student(session, cast.school_a.id), RED)
    settings = made_up_settings(tmp_path, SCREENING_SMTP_URL=f"smtp://127.0.0.1:{port}")
    came = delivery.deliver_all(cast.database, cast.district.id, settings, now=MONDAY)
    assert (came.sent, came.failed) == (2 * delivery.MANY, 0)
    assert delivery.deliver_all(cast.database, cast.district.id, settings, now=MONDAY).sent == 0
    with cast.database.unit(cast.scope) as session:
        rows = session.execute(text("select state, attempts from deliveries")).all()
    assert {tuple(row) for row in rows} == {("sent", 1)}
