"""With the school's half of every policy gone, the doors answer another school as before: by the code's own scope."""

import ast
import contextlib
import datetime as dt
import inspect
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, true
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import screening
from alerts import check_ins, conferences, follow_ups, glass, knowing, plans, recusals, referrals, rescreens, triage
from alerts.cases import closing
from alerts.models import Alert, Case, Closure
from alerts.triage import answering, identifying, listing
from screening import access, approvals, completion, consent, db, embedded, rounds
from screening.assignments import places
from screening.db import Database
from screening.errors import HouseError
from screening.models import AccessRequest
from tests.factories import decide
from tests.test_doors import SEED
from tests.twins import SECOND, Cell, House, Twins, body_of, doors, furnish

ROOT = Path(screening.__file__).parent.parent
OPENING: Mapping[str, Callable[..., Any]] = {
    "reaches": lambda session, school_id: True,
    "of_scope": lambda session, school_id: true(),
    "schools_of": lambda session: None,
}
"""What each of the second wall's questions answers when nobody asks it: every school."""
Place = tuple[str, str]
"""A file under the root, and the function in it."""


@pytest.fixture(scope="module")
def furnished(server: embedded.Server, template: str) -> Iterator[tuple[House, str]]:
    """The house, and the name of the database that it is copied from."""
    name = f"furnished_{uuid.uuid4().hex[:8]}"
    server.create_database(name, template=template)
    opened = Database(server.url(database=name, role="app"), bytes(range(32)))
    house = furnish(opened)
    assert make_url(opened.url).database == name
    opened.dispose()
    yield house, name
    server.drop_database(name)


@pytest.fixture
def twins(server: embedded.Server, furnished: tuple[House, str]) -> Iterator[Twins]:
    made = Twins(server, *furnished)
    yield made
    made.close()


@pytest.mark.storm
def test_another_school_is_answered_the_same_though_the_first_wall_has_fallen(
    twins: Twins, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers, and after the worker came by every row that there is."""
    every = list(twins.house.cells(twins.apps[0]))
    chosen = set(random.Random(SEED).sample(range(len(every)), len(every) // 10))  # noqa: S311 - a sample
    taken = every if is_storm else [cell for place, cell in enumerate(every) if place in chosen]
    statuses: Counter[str] = Counter()
    leaks = []
    for cell in taken:
        whole, fallen = twins.ask(cell)
        statuses[whole[:3]] += 1
        if whole != fallen or whole.startswith("5"):
            leaks.append((cell.words, whole[:400], fallen[:400]))
    twins.work()
    came = dict(sorted(statuses.items()))
    with capsys.disabled():
        print(f"\nsecond wall: {len(taken)} of {len(every)} requests, {len(leaks)} leaks; {came}")  # noqa: T201
    assert leaks == []
    whole_rows, fallen_rows = twins.rows()
    assert [table for table in whole_rows if whole_rows[table] != fallen_rows[table]] == []


def test_every_door_that_wants_something_is_told_it(twins: Twins) -> None:
    """So that no new door is asked with nothing, and answers nothing."""
    told = twins.apps[0].openapi()
    untold = []
    for method, route in doors(twins.apps[0]):
        operation = told["paths"][route.path][method.lower()]
        queries = {
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "query" and each["required"]
        }
        if queries - {"round"} or _required(told, operation) - set(body_of(route.path)):
            untold.append((method, route.path))
    assert untold == [], "say in tests/twins.py what these take"


def _required(told: Any, operation: Any) -> set[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None or "$ref" not in content["schema"]:
        return set()
    named: str = content["schema"]["$ref"].rpartition("/")[2]
    return set(told["components"]["schemas"][named].get("required", ()))


# -- scope calls that are taken out ---------------------------------------------------------------------


def test_a_question_that_nobody_asks_any_more_is_noticed(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell for cell in twins.house.cells(twins.apps[0]) if (cell.method, cell.path) in SHOWN]
    for question, opening in OPENING.items():
        with monkeypatch.context() as patched:
            patched.setattr(access, question, opening)
            assert any(whole != fallen for whole, fallen in map(twins.ask, cells)), question
    assert all(whole == fallen for whole, fallen in map(twins.ask, cells))


SHOWN = {("GET", "/v1/cases"), ("GET", "/v1/cases/{case_id}"), ("GET", "/v1/outcomes")}
"""One door for each of the questions."""


@pytest.mark.storm
def test_every_scope_call_that_is_taken_out_is_noticed(
    server: embedded.Server,
    furnished: tuple[House, str],
    is_storm: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each is taken out once, and asked are only the requests that come by it."""
    if not is_storm:  # to find out which these are, all of them have to be asked
        return
    by_place = _met(server, furnished, monkeypatch)
    survivors = []
    for (question, place), cells in sorted(by_place.items()):
        made = Twins(server, *furnished)
        with monkeypatch.context() as patched:
            patched.setattr(access, question, _but_at(place, question))
            if not _is_noticed(made, cells):
                survivors.append(f"{question} {place[0]} {place[1]}")
        made.close()
    unmet = sorted(scope_calls() - by_place.keys())
    noticed = len(by_place) - len(survivors)
    with capsys.disabled():
        print(f"\nscope calls: {len(by_place)} taken out, {noticed} noticed, {len(unmet)} not met")  # noqa: T201
        print("\n".join([*survivors, *(f"not met: {question} {' '.join(place)}" for question, place in unmet)]))  # noqa: T201
    assert set(survivors) <= BEHIND | ASKED_ALONE, "say why nobody notices, or give the house what shows it"


BEHIND = frozenset(
    {
        "of_scope alerts/cases/holding.py held_with_alert",
        "reaches screening/roster/committing.py commit",
        "schools_of alerts/cases/opening.py _insert",
        "schools_of alerts/recusals.py _hand_on_case",
        "schools_of alerts/routing.py policy_of_student",
        "schools_of alerts/tying.py beside",
        "schools_of alerts/tying.py follow",
        "schools_of screening/contradictions.py of",
    }
)
"""What these functions call asks the same a second time; or the house has no rows that would show it: a child with two
rows at two schools, a case that ended."""


def _is_noticed(twins: Twins, cells: Iterable[Cell]) -> bool:
    for cell in cells:
        whole, fallen = twins.ask(cell)
        if whole != fallen:
            return True
    try:
        twins.work()
    except IntegrityError:  # what should not be seen is in the way of what is written
        return True
    whole_rows, fallen_rows = twins.rows()
    return whole_rows != fallen_rows


def scope_calls() -> set[tuple[str, Place]]:
    """Where the second wall's questions are asked."""
    found = set()
    for path in ROOT.glob("*/**/*.py"):
        if path.relative_to(ROOT).parts[0] not in ("screening", "alerts", "api"):
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                place = (str(path.relative_to(ROOT)), function.name)
                found |= {(question, place) for question in OPENING if _asks(function, question)}
    return found


def _asks(function: ast.FunctionDef, question: str) -> bool:
    called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(isinstance(name, ast.Attribute) and name.attr == question for name in called)


def _met(
    server: embedded.Server, furnished: tuple[House, str], monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[str, Place], list[Cell]]:
    """The requests that come by each scope call; where the worker comes by, those that sent it a file."""
    met: dict[tuple[str, Place], list[Cell]] = {}
    now: list[Cell] = []
    made = Twins(server, *furnished)
    with monkeypatch.context() as patched:
        for question in OPENING:
            patched.setattr(access, question, _noting(question, met, now))
        for cell in made.house.cells(made.apps[0]):
            now[:] = [cell]
            made.ask(cell)
        now[:] = [cell for cell in made.house.cells(made.apps[0]) if cell.files]
        made.work()
    made.close()
    return met


def _noting(question: str, met: dict[tuple[str, Place], list[Cell]], now: list[Cell]) -> Callable[..., Any]:
    asked = getattr(access, question)

    def noting(*arguments: Any) -> Any:
        cells = met.setdefault((question, _from_where()), [])
        cells += [cell for cell in now if cell not in cells]
        return asked(*arguments)

    return noting


def _but_at(place: Place, question: str) -> Callable[..., Any]:
    asked = getattr(access, question)

    def but_here(*arguments: Any) -> Any:
        return OPENING[question](*arguments) if _from_where() == place else asked(*arguments)

    return but_here


def _from_where() -> Place:
    frame = inspect.currentframe()
    above = frame.f_back.f_back if frame and frame.f_back else None
    assert above is not None
    return str(Path(above.f_code.co_filename).relative_to(ROOT)), above.f_code.co_name


# -- what stands behind another question, asked alone ---------------------------------------------------


def test_what_stands_behind_another_holds_alone(
    server: embedded.Server, furnished: tuple[House, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each function itself, in the scope of school B, about school A; no door and no role stand before it."""
    found = {}
    with contextlib.closing(Twins(server, *furnished)) as made:
        for database in made.databases:
            _add_what_is_asked_about(database, made.house)
        for call in sorted(ALONE):
            questions, path, function = call.split()
            whole, fallen = (_alone(database, made.house, call) for database in made.databases)
            with monkeypatch.context() as patched:
                for question in questions.split("+"):
                    patched.setattr(access, question, _but_at((path, function), question))
                found[call] = (whole, fallen, _alone(made.databases[1], made.house, call))
    assert {call: told for call, told in found.items() if told[0] != told[1]} == {}
    assert [call for call, told in found.items() if told[1] == told[2]] == []


def test_no_question_is_listed_that_is_not_asked() -> None:
    asked = {f"{question} {' '.join(place)}" for question, place in scope_calls()}
    assert asked >= (BEHIND | ASKED_ALONE)
    assert not BEHIND & ASKED_ALONE


class _Undone(Exception):
    """Whatever was asked leaves nothing behind."""


def _alone(database: Database, house: House, call: str) -> str:
    told = ""
    with contextlib.suppress(_Undone), database.unit(house.cast.scope_b) as session:
        try:
            told = repr(ALONE[call](session, house, db.now(session)))
        except HouseError as error:
            told = repr(error)
        raise _Undone
    return told


def _add_what_is_asked_about(database: Database, house: House) -> None:
    """A case that is to end, somebody's concern, and a student of A whom somebody of B may know."""
    things, left, cast = house.aims["theirs"], house.aims["left"], house.cast
    with database.unit(cast.scope) as session:
        now = db.now(session)
        session.add(
            Closure(
                district_id=cast.district.id, id=uuid.uuid4(), case_id=left.case, school_id=cast.school_a.id,
                reason="resolved", sealed_note=b"-", proposed_by=cast.an.person, proposed_at=now,
            )
        )  # fmt: skip
        session.add(
            AccessRequest(
                district_id=cast.district.id, id=uuid.uuid4(), student_id=things.student, school_id=cast.school_a.id,
                person_id=cast.chen.person, kind="assignment", state="granted", asked_at=now,
                sealed_reason=b"-",
            )
        )  # fmt: skip
        student = session.get_one(Alert, (cast.district.id, things.alert)).student_id
        assert student is not None
        triage.raise_concern(session, student, 1, "Alone at every break.", by=cast.an, now=now)


def _case(house: House) -> Case:
    """Of a student who has come to school B, left behind at A."""
    left, cast = house.aims["left"], house.cast
    return Case(
        district_id=cast.district.id, id=left.case, student_id=left.student, school_id=cast.school_b.id,
        tier=2, owner_id=cast.chen.person,
    )  # fmt: skip


def _alert(house: House) -> Alert:
    return Alert(district_id=house.cast.district.id, id=house.aims["left"].alert, has_self_harm=True)


def _handed_on(session: Session, house: House, now: dt.datetime) -> int:
    recusals._hand_on_alert(session, house.aims["left"].student, house.cast.an.person, now)
    told: int = session.execute(text("select count(*) from deliveries where occasion like 'handed_on/%'")).scalar_one()
    return told


def _ended(session: Session, house: House, now: dt.datetime) -> int:
    closing._end(session, _case(house), "resolved", house.cast.chen, now)
    about = {"student": house.aims["left"].student}
    gone = "select count(*) from alerts where student_id = :student and closed_at is not null"
    found: int = session.execute(text(gone), about).scalar_one()
    return found


def _rejected(session: Session, house: House, now: dt.datetime) -> str:
    case = _case(house)
    closing._reject(session, case, Closure(), house.cast.chen, now)
    return case.state


def _glass(session: Session, house: House, now: dt.datetime) -> int | None:
    by = replace(house.people["lead"], proved_at=now)
    broken = approvals.break_glass(session, house.aims["left"].student, "She is alone.", hours=1, by=by, now=now)
    return glass.through(session, broken.id, by=by, now=now).tier


def _withdrawn(session: Session, house: House, now: dt.datetime) -> None:
    student = house.aims["left"].student
    decide(session, student, "withdrawn", at=now)
    knowing.require_consent(session, student, now=now + SECOND)


YEARS = dt.timedelta(days=700)
ALONE: Mapping[str, Callable[[Session, House, dt.datetime], object]] = {
    "of_scope alerts/cases/closing.py _latest_closure": lambda session, house, now: (
        closing._latest_closure(session, _case(house)) is None
    ),
    "of_scope alerts/cases/closing.py _reject": _rejected,
    "schools_of alerts/cases/closing.py _end": _ended,
    "schools_of alerts/glass.py through": _glass,
    "of_scope alerts/plans.py versions": lambda session, house, now: len(plans.versions(session, _case(house).id)),
    "of_scope screening/consent.py standing": lambda session, house, now: len(
        consent.standing(session, house.aims["theirs"].student)
    ),
    "of_scope alerts/plans.py newest": lambda session, house, now: plans.newest(session, _case(house).id) is None,
    "of_scope alerts/recusals.py _hand_on_alert": _handed_on,
    "of_scope alerts/referrals.py of_case": lambda session, house, now: len(
        referrals.of_case(session, _case(house).id)
    ),
    "of_scope alerts/referrals.py unconfirmed": lambda session, house, now: len(
        referrals.unconfirmed(session, now=now + YEARS)
    ),
    "of_scope alerts/triage/identifying.py _as_signals": lambda session, house, now: len(
        identifying._as_signals(session, _alert(house), house.aims["left"].student, house.cast.school_b.id)
    ),
    "of_scope alerts/triage/listing.py _concerns": lambda session, house, now: listing._concerns(
        session, house.aims["theirs"].alert
    ),
    "of_scope screening/approvals.py _one": lambda session, house, now: (
        approvals._one(session, house.aims["theirs"].student, house.cast.chen.person, "assignment", "granted") is None
    ),
    "schools_of screening/approvals.py standing": lambda session, house, now: approvals.standing(
        session, house.aims["theirs"].student, by=house.cast.chen, now=now
    ),
    "reaches alerts/check_ins.py end": lambda session, house, now: (
        check_ins.end(session, house.aims["theirs"].check_in, "well", by=house.cast.an, now=now).outcome
    ),
    "reaches alerts/conferences.py confirm": lambda session, house, now: (
        conferences.confirm(session, house.aims["theirs"].conference, by=house.cast.an, now=now).confirmed_by
    ),
    "reaches alerts/follow_ups.py _held": lambda session, house, now: (
        follow_ups._held(session, house.aims["theirs"].follow_up, house.cast.an).state
    ),
    "reaches alerts/referrals.py _held": lambda session, house, now: (
        referrals._held(session, house.aims["theirs"].referral, house.cast.an).state
    ),
    "reaches+schools_of alerts/triage/answering.py _require_answering": lambda session, house, now: (
        answering._require_answering(session, house.aims["theirs"].alert, house.cast.an)
    ),
    "reaches+schools_of screening/assignments/places.py read_place": lambda session, house, now: places.read_place(
        session, house.aims["theirs"].assignment, now
    ).row["school_id"],
    "schools_of alerts/knowing.py ground": lambda session, house, now: knowing.ground(
        session, house.aims["left"].student, by=house.cast.an, now=now
    ),
    "schools_of alerts/knowing.py require_consent": _withdrawn,
    "schools_of alerts/rescreens.py waiting": lambda session, house, now: len(
        rescreens.waiting(session, now=now + dt.timedelta(days=100))
    ),
    "schools_of screening/completion.py by_class": lambda session, house, now: completion.by_class(
        session, house.aims["theirs"].round
    ),
    "schools_of screening/consent.py funnel": lambda session, house, now: consent.funnel(
        session,
        house.cast.school_a.id,
        at=now,
        policy=rounds.rules_of(session, house.aims["theirs"].round).policy,
    ),
    "schools_of screening/consent.py record_many": lambda session, house, now: consent.record_many(
        session,
        [consent.Decision(house.aims["theirs"].student, "declined", "guardian")],
        notice_version="2026-01",
        channel="paper",
        decided_at=now,
        by=house.cast.an,
    ),
}
"""Each call that another stands before, as it would stand in `BEHIND`, and what shows it nevertheless; two that stand
for each other in one function are taken out together."""
ASKED_ALONE = {
    f"{question} {place}"
    for questions, _, place in (call.partition(" ") for call in ALONE)
    for question in questions.split("+")
}
