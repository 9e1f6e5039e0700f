"""One house in two databases, in one of which nothing but the code itself keeps a school's rows from another school.

Whatever is asked is asked of both: where the answers differ, row security alone kept something back.
"""

import base64
import contextlib
import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from fastapi import FastAPI
from sqlalchemy import text

from alerts import transfers
from api.app import create_app
from api.deps import DoorRoute
from screening import consent, coverage, db, embedded, row_security
from screening.access import Actor
from screening.db import Database
from screening.models import Student
from tests.alerts.moving import move
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.conftest import MASTER_KEY
from tests.doors import NOBODY, Caller, answers_csv, app_on, caller, settings, token_for, work
from tests.factories import decide, make_staff
from tests.screening.every_table import NAMED, TENANTS
from tests.test_doors import BODIES, Things, ask_for, made_things, routes

SCHOOL_ROLES = ("class_teacher", "counselor", "duty_officer", "lead", "principal", "school_admin", "staff_member")
OF_ONES_OWN = frozenset(
    {
        "/v1/accounts/me/password",
        "/v1/accounts/me/recovery-codes",
        "/v1/sessions/current",
        "/v1/sessions/current/proof",
        "/v1/tokens",
        "/v1/tokens/current",
        "/v1/webhooks",
    }
)
"""Whatever is changed here is the account's of whoever asks, and of no school."""


def doors(app: FastAPI) -> list[tuple[str, DoorRoute]]:
    """Every door that has to do with schools, what changes nothing first."""
    asked = [
        (method, route)
        for method, route in routes(app)
        if route.roles & set(SCHOOL_ROLES) and (method == "GET" or route.path not in OF_ONES_OWN)
    ]
    return sorted(asked, key=lambda door: (door[0] != "GET", door[1].path))


@dataclass(frozen=True)
class Cell:
    """One request of somebody of school B."""

    method: str
    path: str
    role: str
    address: str
    body: Any = None
    files: Mapping[str, tuple[str, str]] | None = None

    @property
    def words(self) -> str:
        return f"{self.role}: {self.method} {self.address}"


@dataclass(frozen=True)
class House:
    """A lively school A; a school B whose people come; students who went from A to B and left their past behind."""

    cast: Cast
    people: Mapping[str, Actor]
    """Who comes, by their role at school B."""
    tokens: Mapping[str, str]
    aims: Mapping[str, Things]
    """By what they have to do with school B: what the addresses and the bodies name."""

    def cells(self, app: FastAPI) -> Iterator[Cell]:
        """Everything these people may ask of any door, what changes nothing first."""
        told = app.openapi()["paths"]
        for method, route in doors(app):
            operation = told[route.path][method.lower()]
            for role, actor in self.people.items():
                if actor.has(*route.roles):
                    yield from self._asked(method, route.path, role, operation)

    def _asked(self, method: str, path: str, role: str, operation: Any) -> Iterator[Cell]:
        seen = set()
        takes = operation.get("requestBody", {}).get("content", {})
        for things in self.aims.values():
            address = things.at(path, self.cast.school_a.id)
            for query in self._queries(operation, things) if method == "GET" else [""]:
                for body in self._bodies(path, things) if "application/json" in takes else [None]:
                    cell = Cell(method, path, role, address + query, body, _FILES.get(path))
                    if repr(cell) not in seen:
                        seen.add(repr(cell))
                        yield cell

    def _queries(self, operation: Any, things: Things) -> Iterator[str]:
        """Without a word, for either school, and in every state there is, of whatever the door understands."""
        known = {each["name"]: each["schema"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        always = f"&round={things.round}" if "round" in known else ""
        yield "?" + always
        for school in ("A", "B") if "school" in known else ():
            yield f"?school={school}{always}"
        for name, schema in known.items():
            for values in _choices(schema):
                yield "?" + "&".join(f"{name}={value}" for value in values) + always
        if "after" in known:
            yield f"?after={_cursor(things.case)}{always}"

    def _bodies(self, path: str, things: Things) -> Iterator[Any]:
        body = body_of(path)
        names = {
            "{student}": str(things.student),
            "{person}": str(self.cast.an.person),
            "{other}": str(self.cast.students.in_school_b.id),
            "{round}": str(things.round),
            str(NOBODY): str(self._named_in(path, things)),
        }
        written = json.dumps(body)
        for name, value in names.items():
            written = written.replace(name, value)
        yield json.loads(written)
        if '"school": "A"' in written:
            yield json.loads(written.replace('"school": "A"', '"school": "B"'))

    def _named_in(self, path: str, things: Things) -> uuid.UUID:
        if "destination_id" in json.dumps(BODIES.get(path, "")):
            return things.destination
        if "student_id" in json.dumps(BODIES.get(path, "")):
            return self.aims["theirs"].student
        return self.people["counselor"].person


def body_of(path: str) -> Any:
    """What is sent there, with names in place of what is the things' own."""
    return (BODIES | _MORE_BODIES).get(path, {"student_id": "{student}"} if path.endswith("/student") else {})


_MORE_BODIES: Mapping[str, Any] = {
    "/v1/access-requests": ask_for(uuid.UUID(int=0)) | {"student_id": "{student}"},
    "/v1/access-requests/assignments": {"student_id": "{student}", "person_id": "{person}", "reason": "She knows him."},
    "/v1/access-requests/break-glass": ask_for(uuid.UUID(int=0)) | {"student_id": "{student}"},
    "/v1/alerts": {"student_id": "{student}", "tier": "yellow", "facts": "Alone at every break."},
    "/v1/cases": {"student_id": "{student}", "tier": "yellow", "words": "His mother called."},
    "/v1/codes": {"school": "A", "round_id": "{round}"},
    "/v1/codes/guardians": {"school": "A"},
    "/v1/consents": {
        "notice_version": "2026-01",
        "channel": "paper",
        "decided_at": "2026-09-02T08:00:00+08:00",
        "decisions": [
            {"student_number": number, "given_by": "guardian", "decision": "declined"}
            for number in ("A002", "A009", "A010", "B001")
        ],
    },
    "/v1/duty": {
        "staff_id": "{person}",
        "school": "A",
        "starts_at": "2027-09-01T08:00:00+08:00",
        "ends_at": "2027-09-01T16:00:00+08:00",
    },
    "/v1/merges": {"student_id": "{student}", "duplicate_id": "{other}", "reason": "The number was given twice."},
    "/v1/rights-requests": {
        "student_id": "{student}",
        "asked_as": "guardian",
        "kind": "correct",
        "words": "She is 12.",
    },
}
_FILES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "/v1/rounds/{round_id}/uploads": {
        "file": ("b.csv", answers_csv({"A002": 3, "A007": 1, "A009": 2, "A010": 2, "B001": 2}))
    },
    "/v1/rosters": {"file": ("b.csv", "student_number,student_name,grade\nA002,李华,8\nA010,吴强,8\nB009,甲,8\n")},
}


def _choices(schema: Any) -> Iterator[list[str]]:
    for each in (schema, *schema.get("anyOf", ())):
        if each.get("type") == "array" and "enum" in each["items"]:
            yield each["items"]["enum"]
        elif "enum" in each:
            yield from ([value] for value in each["enum"])
        elif each.get("type") == "boolean":
            yield ["true"]


def _cursor(found: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(json.dumps([str(found)]).encode()).decode().rstrip("=")


# -- how it is made -------------------------------------------------------------------------------------


def furnish(database: Database) -> House:
    """Furnishes it once, before it is copied."""
    cast = assemble(database)
    with TestClient(app_on(database)) as client:
        theirs = made_things(cast, client)
        gone = (cast.students.granted_17, cast.students.unknown_age, cast.students.own_grant_15)
        left, followed, accepted = _gone(cast, client, theirs, *gone)
        own = _of_school_b(cast, client, theirs)
    with database.unit(cast.scope) as session:
        for student in gone:
            _move_alone(session, student, cast.school_b.id)
        for student in gone[1:]:
            move(session, student, cast.school_b, by=cast.system, at=db.now(session))
        people = {role: make_staff(session, (role, cast.school_b.id))[1] for role in SCHOOL_ROLES}
        hats = [("counselor", cast.school_a.id), ("school_admin", cast.school_b.id), ("principal", cast.school_b.id)]
        people["counselor of A"] = make_staff(session, *hats)[1]
        coverage.recount(session, theirs.round, [each.id for each in _schools(cast)], db.now(session))
    people["counselor"] = cast.chen
    accepted = _taken_over(cast, accepted)
    tokens = {role: token_for(database, actor) for role, actor in people.items()}
    return House(
        cast, people, tokens, {"theirs": theirs, "left": left, "followed": followed, "accepted": accepted, "own": own}
    )


def _schools(cast: Cast) -> tuple[Any, ...]:
    return cast.school_a, cast.school_b, cast.school_c


def _gone(cast: Cast, client: TestClient, things: Things, *students: Student) -> list[Things]:
    """What there is of students of school A before they go: answers, an alert, a case, a follow-up."""
    an = caller(client, cast.database, cast.an)
    secretary = caller(client, cast.database, cast.school_admin_a)
    sent = secretary.post(
        f"/v1/rounds/{things.round}/uploads", files={"file": ("m.csv", answers_csv({"A010": 3, "A009": 3, "A006": 3}))}
    )
    work(cast)
    assert secretary.get(sent.headers["location"]).json()["state"] == "loaded"
    made = [replace(things, **_cared_for(cast, an, student.id)) for student in students]
    for each in made:
        _worked_in(an, each)
    return made


def _worked_in(by: Caller, things: Things) -> None:
    """What stays at the school where it was said: a conference, a plan, a talk, a referral."""
    for path in ("/v1/cases/{case_id}/conferences", "/v1/cases/{case_id}/interviews"):
        assert by.post(things.at(path, NOBODY), json=BODIES[path]).status_code == 201
    plan = "/v1/cases/{case_id}/plan"
    assert by.ask("PUT", things.at(plan, NOBODY), json=BODIES[plan]).status_code == 200
    refer = "/v1/cases/{case_id}/referrals"
    sent = BODIES[refer] | {"destination_id": str(things.destination)}
    assert by.post(things.at(refer, NOBODY), json=sent).status_code == 201


def _cared_for(cast: Cast, by: Caller, student_id: uuid.UUID) -> dict[str, Any]:
    with cast.database.unit(cast.scope) as session:
        about = {"district": cast.district.id, "student": student_id}
        alert_id = session.execute(_ALERT, about).scalar_one()
        assignment_id = session.execute(_ASSIGNMENT, about).scalar()
    assert by.post(f"/v1/alerts/{alert_id}/acknowledgement").status_code == 200
    triage = {"outcome": "case_opened", "contact": "meeting", "is_student_seen": True, "words": "We talked."}
    case_id = by.post(f"/v1/alerts/{alert_id}/triage", json=triage).json()["case_id"]
    case = by.post(f"/v1/cases/{case_id}/follow-ups", json={"mode": "phone"}).json()
    made = {"student": student_id, "alert": alert_id, "case": uuid.UUID(case_id)}
    return made | {"follow_up": case["follow_ups"][0]["id"], "assignment": assignment_id}


SECOND = dt.timedelta(seconds=1)
_ALERT = text("select id from alerts where district_id = :district and student_id = :student and closed_at is null")
_ASSIGNMENT = text("select id from assignments where district_id = :district and student_id = :student limit 1")


def _of_school_b(cast: Cast, client: TestClient, things: Things) -> Things:
    """What is school B's own, so that its people are let in and name school A's in what they send."""
    chen = caller(client, cast.database, cast.chen)
    student = cast.students.in_school_b.id
    told = {"student_id": str(student), "tier": "orange", "facts": "Alone at every break."}
    assert chen.post("/v1/alerts", json=told).status_code == 201
    made = _cared_for(cast, chen, student)
    return replace(things, **{name: value for name, value in made.items() if value is not None})


def _taken_over(cast: Cast, things: Things) -> Things:
    """School B has taken the case over; what was said in it before stays at school A."""
    with cast.database.unit(cast.scope_b) as session:
        (waiting,) = [each.transfer for each in transfers.listed(session) if each.transfer.case_id == things.case]
        transfers.accept(session, waiting.id, by=cast.chen, now=db.now(session))
        return replace(things, transfer=waiting.id)


def _move_alone(session: Any, student: Student, school_id: uuid.UUID) -> None:
    """To another school with what a list of students moves; what is open about them has not followed yet."""
    for table, key in (("students", "id"), ("identities", "student_id"), ("enrollments", "student_id")):
        session.execute(
            text(f"update {table} set school_id = :school where district_id = :district and {key} = :student"),
            {"school": school_id, "district": student.district_id, "student": student.id},
        )
    for standing in consent.standing(session, student.id):
        decide(session, student.id, standing.decision, given_by=standing.given_by, at=standing.decided_at + SECOND)


# -- the two of them ------------------------------------------------------------------------------------


class Twins:
    """The house with both walls, and the house whose policies no longer ask for the school."""

    def __init__(self, server: embedded.Server, house: House, template: str) -> None:
        self.house = house
        name = f"twin_{uuid.uuid4().hex[:8]}"
        self._server, self._names = server, (f"{name}_whole", f"{name}_fallen")
        for each in self._names:
            server.create_database(each, template=template)
        take_school_half_away(server, self._names[1])
        self.databases = [Database(server.url(database=each, role="app"), MASTER_KEY) for each in self._names]
        self.apps = [create_app(database, settings()) for database in self.databases]
        self.known = frozenset(_ids(server.url(database=self._names[0], role="superuser")))

    def ask(self, cell: Cell) -> tuple[str, str]:
        """What each of them answers, without what differs between any two."""
        first, second = (self._asked(app, cell) for app in self.apps)
        return first, second

    def _asked(self, app: FastAPI, cell: Cell) -> str:
        comer = Caller(TestClient(app), self.house.tokens[cell.role])
        more = {"files": cell.files} if cell.files else {} if cell.body is None else {"json": cell.body}
        came = comer.ask(cell.method, cell.address, **more)
        return f"{came.status_code} {self.plain(came.text)}"

    def plain(self, told: str) -> str:
        with contextlib.suppress(ValueError):
            told = _sorted(json.loads(told))
        masked = _UUID.sub(lambda found: found[0] if found[0] in self.known else "?", told)
        for pattern in _ALWAYS_NEW:
            masked = pattern.sub("?", masked)
        try:
            return _sorted(json.loads(masked))
        except ValueError:
            return masked

    def work(self) -> None:
        for database in self.databases:
            work(replace(self.house.cast, database=database))

    def rows(self) -> list[dict[str, list[str]]]:
        """Every row of every table of each, in the same plain words."""
        return [
            {table: sorted(map(self.plain, found)) for table, found in _rows(self._server, name).items()}
            for name in self._names
        ]

    def close(self) -> None:
        for database in self.databases:
            database.dispose()
        for name in self._names:
            self._server.drop_database(name)


def take_school_half_away(server: embedded.Server, name: str) -> None:
    """Leaves of every policy the district's half alone."""
    with psycopg.connect(server.url(database=name, role="owner"), autocommit=True) as owner:
        for table in NAMED:
            half = f"using ({row_security.DISTRICT}) with check ({row_security.DISTRICT})"
            owner.execute(f"alter policy scope on {table} {half}".encode())


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ALWAYS_NEW = (
    re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:\d\d)?)?"),
    re.compile(r"\\+x[0-9a-f]+"),
    re.compile(r'(?<="number": )"\d{6}"'),
    re.compile(r'(?<="xact": )\d+'),
    re.compile(r'(?<="xact_below": )\d+'),
    re.compile(r"(?<![\w-])[\w-]{22,}(?![\w-])"),
)
"""Moments, what is sealed, secrets, and numbers of transactions."""


def _sorted(found: Any) -> str:
    """In an order of its own: what was made in the same moment may come in any."""
    if isinstance(found, dict):
        return "{" + ", ".join(f'"{name}": {_sorted(found[name])}' for name in sorted(found)) + "}"
    if isinstance(found, list):
        return "[" + ", ".join(sorted(map(_sorted, found))) + "]"
    return json.dumps(found, ensure_ascii=False)


def _rows(server: embedded.Server, name: str) -> dict[str, list[str]]:
    with psycopg.connect(server.url(database=name, role="superuser"), autocommit=True) as connection:
        return {
            table: [row[0] for row in connection.execute(f"select to_jsonb(t)::text from {table} t".encode())]
            for table in TENANTS
        }


def _ids(url: str) -> Iterator[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        for table in TENANTS:
            for (row,) in connection.execute(f"select to_jsonb(t)::text from {table} t".encode()):
                yield from _UUID.findall(row)
