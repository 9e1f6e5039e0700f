"""A made-up district, built, screened and cared for through the product's own verbs; then the service to look at it.

What is true of its people is known (`town`), so that what the product finds can be told apart from what it should
have found (`figures`). The district of a seed is made once in a database; a later start finds it there.
"""

import contextlib
import datetime as dt
import gc
import importlib
import json
import secrets
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from alerts import raising
from api import ahead, serving
from api.demo import care, figures, hands, making, stage, town
from api.demo.figures import Figures
from api.demo.hands import Hands
from api.demo.stage import Stage
from api.demo.town import STUDENTS, Town
from api.terminal import say, tell
from screening import access, accounts, reading, second_factor, staff
from screening.db import Database
from screening.loading import Weigh
from screening.settings import Settings

NOT_CLOSED, WRONG = 1, 2
GRACE_SECONDS = 5.0
SIGNED_IN_FOR = dt.timedelta(hours=12)
SHOWN: Sequence[tuple[str, str | None]] = (
    ("counselor", "S01"),
    ("lead", "S01"),
    ("principal", "S01"),
    ("school_admin", "S01"),
    ("class_teacher", "S01"),
    ("counselor", "S04"),
    ("duty_officer", None),
    ("district_admin", None),
    ("district_analyst", None),
)
"""Whose tokens are printed: one of every kind, and a counselor of another school, who sees nothing of the first."""


@dataclass(frozen=True)
class SignIn:
    """A demo sign-in."""

    role: str
    school: str | None
    email: str
    password: str
    secret: str
    """Of the second factor, as an authenticator app takes it: made up, and printed in the demo only."""
    token: str


def main(
    settings: Settings | None = None,
    *,
    seed: int = 1,
    is_served: bool = True,
    as_json: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    students: int = STUDENTS,
) -> int:
    """Builds or finds the district of this seed, tells its figures, then serves it until it is stopped.

    Answers an exit code: 0, 1 when the loop did not close (without serving), 2 in production or when the port is taken.
    Whoever calls may have stopped the collection of garbage, of which the making leaves little: serving begins it.
    """
    began = time.perf_counter()
    settings = settings or Settings.read()
    if settings.is_production:
        say("The demo makes up people: it runs in development only, never with SCREENING_ENV=production.")
        return WRONG
    if is_served and not _is_free(host, port):
        say(f"Something listens on {host}:{port} already. Stop it, or name another port.")
        return WRONG
    beginning = ahead.begin(settings)
    reading.prepare()
    inhabited = town.build(seed, students, dt.datetime.now(settings.timezone).date())
    is_migrated = beginning is not None and beginning.exception() is None and beginning.result()
    invited: list[SignIn] = []
    with hands.in_process(settings) as beside:
        database = _open(settings, is_migrated=is_migrated)
        shown = staged(
            database,
            settings,
            inhabited,
            code_of(seed, students),
            beside=beside,
            told=_clocked(began),
            meanwhile=_import_the_web if is_served else _nothing,
            meet=(lambda made: invited.extend(sign_ins(made))) if is_served else _nothing,
        )
    address = f"http://{host}:{port}"
    with contextlib.closing(_Told(database)) as told:
        if as_json or not is_served:
            found = figures.take(shown, inhabited)
            served = {"address": address, "sign_ins": [vars(one) for one in invited]} if is_served else {}
            said = {"seed": seed, **found.as_json(), **served}
            tell(json.dumps(said, ensure_ascii=False, indent=2)) if as_json else _show(found)
        else:
            _invite(invited, address)
            told.begin(lambda: _show(figures.take(shown, inhabited)), after=lambda: _is_served(host, port))
        if not is_served:
            return 0 if found.is_closed else NOT_CLOSED
        sys.stdout.flush()
        say(f"{time.perf_counter() - began:5.1f} s  up to here; it serves from now on, and Ctrl-C ends it")
        gc.freeze()
        gc.enable()
        return serving.serve(settings, host=host, port=port, workers=1)


class _Told:
    """What is told beside the service, when that has begun; the database is let go when all is said."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._telling: threading.Thread | None = None
        self._closing = threading.Event()

    def begin(self, telling: Callable[[], None], *, after: Callable[[], bool]) -> None:
        self._telling = threading.Thread(target=self._tell, args=(telling, after), name="figures", daemon=True)
        self._telling.start()

    def _tell(self, telling: Callable[[], None], after: Callable[[], bool]) -> None:
        while not after() and not self._closing.wait(0.1):
            pass
        telling()

    def close(self) -> None:
        self._closing.set()
        if self._telling is not None:
            self._telling.join(GRACE_SECONDS)
        self._database.dispose()


def _nothing(*_: object) -> None:
    pass


def _import_the_web() -> None:
    """What serving takes beside what the making does; the one is imported while the other waits."""
    for name in ("api.app", "api.worker", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"):
        importlib.import_module(name)


def staged(
    database: Database,
    settings: Settings,
    inhabited: Town,
    code: str,
    *,
    beside: Hands,
    weigh: Weigh = raising.weigh_load,
    told: Callable[[str], None] = _nothing,
    meanwhile: Callable[[], None] = _nothing,
    meet: Callable[[Stage], None] = _nothing,
) -> Stage:
    """The district of that code as it stands, or made now. One whose making was broken off is left aside.

    `meanwhile` is done while others work; `meet` is given the stage when all its people are there.
    """
    for attempt in count(1):
        own = code if attempt == 1 else f"{code}-{attempt}"
        if not stage.is_begun(database, own):
            made = _made(database, settings, inhabited, own, beside, weigh, told, meanwhile, meet)
            told("people who looked, talked and came back")
            return made
        standing = stage.find(database, own)
        if standing is not None:
            told("the district of an earlier start")
            with ThreadPoolExecutor(1) as aside:
                meeting = aside.submit(meet, standing)
                meanwhile()
                meeting.result()
            return standing
    raise LookupError(code)


def _made(
    database: Database,
    settings: Settings,
    inhabited: Town,
    code: str,
    beside: Hands,
    weigh: Weigh,
    told: Callable[[str], None],
    meanwhile: Callable[[], None],
    meet: Callable[[Stage], None],
) -> Stage:
    besides = list[Future[None]]()
    with hands.crew(beside) as crew, ThreadPoolExecutor(2) as aside:
        cared = care.Care(inhabited, crew)
        made = making.build(
            database,
            code,
            inhabited,
            beside=beside,
            weigh=weigh,
            told=told,
            meanwhile=meanwhile,
            are_there=lambda begun: besides.append(aside.submit(meet, begun)),
            is_in=cared.begin,
        )
        besides.append(aside.submit(care.deliver, database, made.district_id, settings))
        cared.end(made, settings)
        for one in besides:
            one.result()
    return made


def _open(settings: Settings, *, is_migrated: bool) -> Database:
    if not is_migrated and (settings.is_embedded or settings.database_owner_url is not None):
        for fault in serving.migrate(settings):
            say(fault)
    database = serving.open_database(settings)
    return _for_the_making(database) if settings.is_embedded else database


def _for_the_making(database: Database) -> Database:
    """Without waiting for the disk at each step: nothing is acknowledged to anybody before all of it is made, and what
    is made ends with a commit that waits for all before it. Whoever is served comes by connections that wait."""
    database.dispose()
    return Database(f"{database.url}&options=-csynchronous_commit%3Doff", database.ring, timezone=database.timezone)


def code_of(seed: int, students: int) -> str:
    """The code of the district of this seed and size."""
    return f"demo-{seed}" if students == STUDENTS else f"demo-{seed}-of-{students}"


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError:
            return False
    return True


def _is_served(host: str, port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((host, port)) == 0


def _clocked(began: float) -> Callable[[str], None]:
    return lambda words: say(f"{time.perf_counter() - began:5.1f} s  {words}")


# -- what is shown ------------------------------------------------------------------------------------

_PAIRS: Mapping[str, str] = {
    "students": "enrolled",
    "covered": "covered",
    "valid_coverage": "valid_coverage",
    "reds": "reds",
    "critical": "critical",
    "at_risk": "at_risk_alerted",
    "escalations": "escalations",
}
_FOUND_ALONE = (
    "alerts",
    "sensitivity",
    "precision",
    "precision_looked_at",
    "hours_to_first_contact",
    "closed_loop_share_of_reds",
    "closed_loop_share",
    "duplicates",
    "replay_differences",
)


def _show(found: Figures) -> None:
    table = Table("", "planted", "found", title="The made-up district")
    for planted, name in _PAIRS.items():
        table.add_row(planted, str(found.planted[planted]), str(found.found[name]))
    for name in _FOUND_ALONE:
        table.add_row(name, "", str(found.found[name]))
    Console().print(table)
    for name, holds in found.checks.items():
        if not holds:
            say(f"The loop did not close: {name}.")


def _invite(invited: Sequence[SignIn], address: str) -> None:
    table = Table("role", "school", "account", "password", "second factor", "token", title="Demo sign-ins")
    for one in invited:
        table.add_row(one.role, one.school or "the district", one.email, one.password, one.secret, one.token)
    # a token that is broken over two lines cannot be copied
    Console(width=240, soft_wrap=True).print(table)
    tell(f"Address: {address}   API: {address}/openapi.json   Health: {address}/health/ready")
    tell(f"A counselor's queue: curl -H 'Authorization: Bearer {invited[0].token}' '{address}/v1/alerts'")


def sign_ins(shown: Stage) -> list[SignIn]:
    """Fresh passwords, second factors and tokens for those who are SHOWN; earlier ones end."""
    now = stage.db_now(shown.database)
    chosen = [next(one for one in shown.people if (one.role, one.school) == wanted) for wanted in SHOWN]

    def one_by_one(one: stage.Person) -> SignIn:
        with shown.database.unit(shown.scope) as session:
            return _sign_in(session, one, now)

    with ThreadPoolExecutor(2) as hashing:  # a password takes its time by design, and needs no lock of ours
        return list(hashing.map(one_by_one, chosen))


def _sign_in(session: Session, one: stage.Person, now: dt.datetime) -> SignIn:
    by, account_id = access.system(one.actor.district_id), _account(one.actor)
    password, secret = secrets.token_urlsafe(12), second_factor.new_secret()
    accounts.set_password(session, account_id, password, email=one.email, by=by)
    accounts.reset_second_factor(session, account_id, by=by)
    accounts.add_second_factor(session, account_id, secret, by=by)
    token = staff.issue_token(session, account_id, SIGNED_IN_FOR, by=by, now=now)
    return SignIn(one.role, one.school, one.email, password, second_factor.in_letters(secret), token)


def _account(actor: access.Actor) -> uuid.UUID:
    if actor.account_id is None:
        raise LookupError("nobody signs in as the worker")
    return actor.account_id
