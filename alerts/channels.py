"""Ways out of the house: mail, the console, and nowhere. What goes out holds an urgency, a link, a school, a time."""

import contextlib
import datetime as dt
import smtplib
import ssl
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

from screening.settings import Settings

TIMEOUT_SECONDS = 10
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PERMANENT = range(500, 600)
"""What a mail server answers when it will never take this message for this address."""


@dataclass(frozen=True)
class Message:
    """What leaves the house. `id` is the same on every attempt."""

    id: uuid.UUID
    urgency: str
    link: str
    school: str
    due_at: dt.datetime


class Undeliverable(Exception):
    """It could not be handed over now; `problem` is a code without any address in it.

    `is_final`: trying again is of no use. `is_refused`: the other side says that this address takes nothing, so
    that somebody else has to hear at once.
    """

    def __init__(self, problem: str, *, is_final: bool = False, is_refused: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_final = is_final
        self.is_refused = is_refused or is_final


class Channel(Protocol):
    """A way out of the house. Raises Undeliverable."""

    @property
    def name(self) -> str: ...

    def __call__(self, address: str, message: Message) -> None: ...


_WORDS = {
    "en": {
        "immediate": "please look now",
        "soon": "please look soon",
        "routine": "please look",
        "overdue": "a promised contact is overdue",
        "digest": "there is something for you to look at today",
        "fault": "the service needs a look: something stands still",
        "title": "Student wellbeing",
        "body": "{what}\n\nSchool: {school}\nDue: {due}\n{link}\n",
    },
    "zh_CN": {
        "immediate": "请立即查看",
        "soon": "请尽快查看",
        "routine": "请查看",
        "overdue": "有一项约定的联系已逾期",
        "digest": "今日有待处理事项",
        "fault": "系统需要检查：有环节停止运行",
        "title": "学生心理健康工作",
        "body": "{what}\n\n学校：{school}\n时限：{due}\n{link}\n",
    },
}


_RESOURCES = {
    "alert": "alerts",
    "follow_up": "follow-ups",
    "transfer": "transfers",
    "referral": "referrals",
    "check_in": "check-ins",
}


def channel_of(settings: Settings) -> "Smtp | Console | Nowhere":
    """Mail where a server is set; else the console in development, and in production a way that leads nowhere."""
    if settings.smtp_url is not None:
        return Smtp(settings)
    return Nowhere() if settings.is_production else Console(settings)


class Smtp:
    """Mail by the server of SCREENING_SMTP_URL."""

    name = "smtp"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._kept: smtplib.SMTP | None = None
        self._is_keeping = False

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """One connection for all messages of the block: greeting and securing it takes longer than a message."""
        self._is_keeping = True
        try:
            yield
        finally:
            self._is_keeping = False
            self._leave()

    def __call__(self, address: str, message: Message) -> None:
        try:
            with self._at_hand() as server:
                server.send_message(self._mail(address, message))
        except smtplib.SMTPRecipientsRefused as refusal:
            codes = [code for code, _ in refusal.recipients.values()]
            is_refused = bool(codes) and codes[0] in _PERMANENT
            raise Undeliverable(f"smtp_{codes[0] if codes else 'refused'}", is_refused=is_refused) from None
        except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as refusal:
            raise Undeliverable(f"smtp_{refusal.smtp_code}", is_refused=refusal.smtp_code in _PERMANENT) from None
        except smtplib.SMTPResponseException as refusal:  # of ourselves, not of the address
            raise Undeliverable(f"smtp_{refusal.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as failure:
            raise Undeliverable(f"smtp_{type(failure).__name__}") from None

    def check(self) -> None:
        """Goes up to where a message would be handed over, and hands none over. Raises Undeliverable."""
        try:
            with self._connection() as server:
                server.noop()
        except (smtplib.SMTPException, OSError) as failure:
            raise Undeliverable(f"smtp_{type(failure).__name__}") from None

    @contextlib.contextmanager
    def _at_hand(self) -> Iterator[smtplib.SMTP]:
        if not self._is_keeping:
            with self._connection() as server:
                yield server
            return
        if self._kept is None or not _answers(self._kept):
            self._leave()
            self._kept = self._connection()
        yield self._kept

    def _leave(self) -> None:
        left, self._kept = self._kept, None
        if left is not None:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                left.quit()
            left.close()

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


def _answers(server: smtplib.SMTP) -> bool:
    """Whether a connection that was kept still holds; a server may hang up whenever it likes."""
    try:
        return server.noop()[0] == 250
    except (smtplib.SMTPException, OSError):
        return False


class Console:
    """A line on standard error, for development."""

    name = "console"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, address: str, message: Message) -> None:
        due = message.due_at.isoformat(timespec="minutes")
        sys.stderr.write(f"delivery {message.id} {message.urgency} due {due} {message.link}\n")

    def check(self) -> None:
        """A console is always there."""


class Nowhere:
    """Production without a mail server: nothing is sent, and every attempt says so."""

    name = "none"

    def __call__(self, address: str, message: Message) -> None:
        raise Undeliverable("no_channel")

    def check(self) -> None:
        raise Undeliverable("no_channel")


class Probe:
    """The way of a synthetic red: the same as everybody's, to the operator's own mailbox.

    Where no mailbox is named it ends at the door of the mail server: that one could hand over is then all it tells.
    """

    def __init__(self, way: "Smtp | Console | Nowhere", address: str | None) -> None:
        self.name = f"{way.name}_probe"
        self.way, self.address = way, address

    def __call__(self, address: str, message: Message) -> None:
        if self.address is None or isinstance(self.way, Console):
            self.way.check()
        else:
            self.way(self.address, message)


def written(message: Message, settings: Settings) -> tuple[str, str]:
    """Subject and body in the place's language and time."""
    words = _WORDS[settings.locale]
    what = words[message.urgency]
    due = message.due_at.astimezone(settings.timezone).strftime("%Y-%m-%d %H:%M")
    body = words["body"].format(what=what, school=message.school or "-", due=due, link=message.link)
    return f"{words['title']}: {what}", body
