"""Need to know: what is kept of a student is for those who have to do with them; others ask, or break the glass."""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from alerts import cases, glass, knowing, plans, triage
from screening import access, approvals, audit, db
from screening.access import Actor
from screening.errors import Conflict, NotFound, Refused
from tests.alerts.episodes import RED, ring
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import PHQ9, Caller, answers_csv, app_on, caller, round_body, work
from tests.factories import make_staff
from tests.signing import Browser, Known, browser, do, somebody_known

WHY = "Her mother called and asks how she is."
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def now(cast: Cast) -> dt.datetime:
    with cast.database.unit() as session:
        return db.now(session)


@pytest.fixture
def officer(cast: Cast) -> Actor:
    with cast.database.unit(cast.scope) as session:
        return make_staff(session, ("privacy_officer", None))[1]


@pytest.fixture
def client(cast: Cast) -> Iterator[TestClient]:
    with TestClient(app_on(cast.database)) as opened:
        yield opened


def lines(cast: Cast, action: str) -> list[Any]:
    with cast.database.unit(cast.scope) as session:
        found = session.execute(
            text("select subject_id, role, detail from audit_entries where action = :action order by id"),
            {"action": action},
        )
        return list(found)


def ground(cast: Cast, who: Actor, student_id: uuid.UUID, now: dt.datetime) -> str | None:
    with cast.database.unit(cast.scope_a) as session:
        return knowing.ground(session, student_id, by=who, now=now)


# -- on what ground -------------------------------------------------------------------------------------


def test_a_counselor_knows_whom_she_has_to_do_with_and_nobody_else(cast: Cast, now: dt.datetime) -> None:
    student = cast.students.granted_13
    assert ground(cast, cast.an, student.id, now) is None
    assert ground(cast, cast.lead, student.id, now) == "lead"
    with cast.database.unit(cast.scope_a) as session:
        alert = ring(session, student, RED, at=now)
        told = session.execute(
            text("select recipient_id from deliveries where subject_id = :id"), {"id": alert.id}
        ).scalars()
        heard = set(told)
    an_or_bo = {cast.an.staff_id: cast.an, cast.bo.staff_id: cast.bo}
    (first,) = heard & an_or_bo.keys()
    other = next(actor for staff_id, actor in an_or_bo.items() if staff_id != first)
    assert ground(cast, an_or_bo[first], student.id, now) == "alert_told"
    assert ground(cast, other, student.id, now) is None
    with cast.database.unit(cast.scope_a) as session:
        triage.acknowledge(session, alert.id, by=other, now=now)
    assert ground(cast, other, student.id, now) == "alert_owner"
    with cast.database.unit(cast.scope_a) as session:
        case = cases.open(session, student.id, student.school_id, RED, other.person, by=other, now=now)
        assert case.owner_id == other.person
    assert ground(cast, other, student.id, now) == "case_owner"
    assert ground(cast, other, cast.students.own_grant_15.id, now) is None


def test_the_only_counselor_of_a_school_has_to_do_with_all_of_it(cast: Cast, now: dt.datetime) -> None:
    with cast.database.unit(cast.scope_b) as session:
        assert knowing.ground(session, cast.students.in_school_b.id, by=cast.chen, now=now) == "only_counselor"
        with pytest.raises(NotFound):
            knowing.ground(session, cast.students.granted_13.id, by=cast.chen, now=now)


def test_whoever_stands_back_from_a_student_has_no_ground(cast: Cast, now: dt.datetime) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        alert = ring(session, student, RED, at=now)
        triage.acknowledge(session, alert.id, by=cast.an, now=now)
        session.execute(
            text(
                "insert into recusals (district_id, id, student_id, school_id, person_id, reason, by, at)"
                " values (:district, gen_random_uuid(), :student, :school, :person, 'relative', :person, now())"
            ),
            {
                "district": cast.district.id,
                "student": student.id,
                "school": student.school_id,
                "person": cast.an.person,
            },
        )
    assert ground(cast, cast.an, student.id, now) is None


# -- asked for and granted ------------------------------------------------------------------------------


def test_access_is_granted_by_a_second_person_for_a_while_and_ends_by_itself(
    cast: Cast, officer: Actor, now: dt.datetime
) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        asked = approvals.ask(session, student.id, WHY, hours=2, by=cast.an, now=now)
        assert approvals.ask(session, student.id, WHY, hours=2, by=cast.an, now=now).id == asked.id
    assert ground(cast, cast.an, student.id, now) is None
    with cast.database.unit(cast.scope) as session:
        approvals.decide(session, asked.id, is_granted=True, by=officer, now=now)
        assert approvals.reason_of(session, approvals.get(session, asked.id)) == WHY
    assert ground(cast, cast.an, student.id, now) == "request"
    assert ground(cast, cast.bo, student.id, now) is None
    assert ground(cast, cast.an, cast.students.own_grant_15.id, now) is None
    assert ground(cast, cast.an, student.id, now + 2 * HOUR) is None
    with cast.database.unit(cast.scope_a) as session:
        approvals.end(session, asked.id, by=cast.an, now=now)
    assert ground(cast, cast.an, student.id, now) is None
    assert [line.subject_id for line in lines(cast, "access.granted")] == [str(student.id)]
    assert WHY not in str(lines(cast, "access.asked"))


def test_nobody_grants_anything_to_oneself(cast: Cast, now: dt.datetime) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        asked = approvals.ask(session, student.id, WHY, hours=2, by=cast.lead, now=now)
        with pytest.raises(Refused, match="second person"):
            approvals.decide(session, asked.id, is_granted=True, by=cast.lead, now=now)
        with pytest.raises(Refused, match="second person"):
            approvals.assign(session, student.id, cast.lead.person, WHY, by=cast.lead, now=now)


def test_what_is_refused_or_late_opens_nothing(cast: Cast, now: dt.datetime) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        asked = approvals.ask(session, student.id, WHY, hours=1, by=cast.an, now=now)
        with pytest.raises(Conflict):
            approvals.decide(session, asked.id, is_granted=True, by=cast.lead, now=now + 2 * HOUR)
        approvals.decide(session, asked.id, is_granted=False, by=cast.lead, now=now)
        with pytest.raises(Conflict):
            approvals.decide(session, asked.id, is_granted=True, by=cast.lead, now=now)
    assert ground(cast, cast.an, student.id, now) is None


@pytest.mark.parametrize(
    ("reason", "hours", "code"), [(" . . . . . . . ", 2, "reason_missing"), (WHY, 337, "too_long")]
)
def test_asking_takes_a_reason_and_an_end(cast: Cast, now: dt.datetime, reason: str, hours: int, code: str) -> None:
    with cast.database.unit(cast.scope_a) as session, pytest.raises(Refused) as refused:
        approvals.ask(session, cast.students.granted_13.id, reason, hours=hours, by=cast.an, now=now)
    assert refused.value.code == code


def test_a_counselor_who_is_given_a_student_knows_until_it_is_ended(cast: Cast, now: dt.datetime) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        given = approvals.assign(session, student.id, cast.an.person, WHY, by=cast.lead, now=now)
        assert approvals.assign(session, student.id, cast.an.person, WHY, by=cast.lead, now=now).id == given.id
        with pytest.raises(NotFound):
            approvals.assign(session, student.id, cast.chen.person, WHY, by=cast.lead, now=now)
    assert ground(cast, cast.an, student.id, now + 400 * 24 * HOUR) == "assignment"
    with cast.database.unit(cast.scope_a) as session:
        approvals.end(session, given.id, by=cast.lead, now=now)
    assert ground(cast, cast.an, student.id, now) is None


# -- at the doors -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Screened:
    """A student with a yellow result, and a colleague to whom nobody gave the student."""

    student: uuid.UUID
    round: str
    an: Caller
    lead: Caller

    @property
    def addresses(self) -> list[str]:
        result = f"/v1/results/{self.student}/{self.round}"
        return [result, f"{result}/explanation", f"/v1/students/{self.student}/history"]


@pytest.fixture
def screened(cast: Cast, client: TestClient) -> Screened:
    admin, secretary = (caller(client, cast.database, who) for who in (cast.district_admin, cast.school_admin_a))
    round_id = admin.post("/v1/rounds", json=round_body()).json()["id"]
    assert admin.post(f"/v1/rounds/{round_id}/open").status_code == 200
    rows = {"A001": ",".join("1" * 8 + "0")}
    lines_of = answers_csv({}).splitlines() + [f"{number},{cells}" for number, cells in rows.items()]
    secretary.post(f"/v1/rounds/{round_id}/uploads", files={"file": ("a.csv", "\n".join(lines_of) + "\n")})
    work(cast)
    return Screened(
        cast.students.granted_13.id,
        round_id,
        caller(client, cast.database, cast.an),
        caller(client, cast.database, cast.lead),
    )


def test_a_result_is_shown_on_a_ground_and_the_account_says_which(cast: Cast, screened: Screened) -> None:
    for address in screened.addresses:
        came = screened.an.get(address)
        assert (came.status_code, came.json()["code"]) == (403, "access_needed"), address
    asked = screened.an.post(
        "/v1/access-requests", json={"student_id": str(screened.student), "reason": WHY, "hours": 2}
    )
    assert (asked.status_code, asked.json()["state"]) == (201, "waiting")
    where = asked.headers["location"]
    assert screened.an.post(f"{where}/decision", json={"is_granted": True}).status_code == 403
    told = screened.lead.get("/v1/access-requests?state=waiting").json()["access_requests"]
    assert [(each["id"], each["reason"]) for each in told] == [(asked.json()["id"], WHY)]
    assert screened.lead.post(f"{where}/decision", json={"is_granted": True}).json()["state"] == "granted"
    for address in screened.addresses:
        assert screened.an.get(address).status_code == 200, address
    whole = screened.an.get(screened.addresses[0]).json()["forms"][0]["answers"]
    assert {name: whole[name] for name in PHQ9} == dict.fromkeys(PHQ9, 1) | {"phq9_9": 0}
    assert {line.detail["because"] for line in lines(cast, "result.read")} == {"request"}
    assert screened.an.post(f"{where}/end").json()["state"] == "ended"
    assert screened.an.get(screened.addresses[0]).status_code == 403


def test_a_lead_sees_the_items_of_safety_and_no_other_answer(cast: Cast, screened: Screened) -> None:
    found = screened.lead.get(screened.addresses[0]).json()
    assert found["result"]["tier"] in ("none", "yellow")
    assert found["forms"][0]["answers"] == {"phq9_9": 0}
    assert {line.detail["because"] for line in lines(cast, "result.read")} == {"lead"}


def test_a_red_is_hidden_from_nobody_who_could_act(cast: Cast, client: TestClient, now: dt.datetime) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = ring(session, cast.students.granted_13, RED, at=now)
    for who in (cast.an, cast.bo, cast.lead):
        comer = caller(client, cast.database, who)
        (shown,) = comer.get("/v1/alerts").json()["alerts"]
        assert (shown["urgency"], shown["tier"], bool(shown["student_name"])) == ("immediate", "red", True)
        assert comer.get(f"/v1/alerts/{alert.id}").json()["concerns"] is not None
    an, bo = (caller(client, cast.database, who) for who in (cast.an, cast.bo))
    assert an.post(f"/v1/alerts/{alert.id}/acknowledgement").status_code == 200
    assert an.get(f"/v1/alerts/{alert.id}").json()["concerns"] is not None
    assert bo.get("/v1/alerts").json()["alerts"][0]["tier"] == "red"


# -- breaking the glass -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Glass:
    principal: Known
    browser: Browser
    student: uuid.UUID

    def break_it(self, reason: str = WHY, hours: int = 4, student: uuid.UUID | None = None) -> Any:
        body = {"student_id": str(student or self.student), "reason": reason, "hours": hours}
        return self.browser.post("/v1/access-requests/break-glass", json=body)


@pytest.fixture
def before(cast: Cast, now: dt.datetime) -> Glass:
    """A principal who has just signed in, and a student with a plan for bad moments."""
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        ring(session, student, RED, at=now)
        case = cases.open(session, student.id, student.school_id, RED, cast.an.person, by=cast.an, now=now)
        on = (now + dt.timedelta(days=20)).date()
        content = plans.Content(("To be safe.",), (plans.Action("Call her aunt first", "lead", on),), ())
        plans.write(session, case.id, content, owner=cast.an.person, review_on=on, by=cast.an, now=now)
        cases.note(session, case.id, "What only the counselor knows.", by=cast.an, now=now)
    principal = somebody_known(cast.database, cast.scope, ("principal", cast.school_a.id))
    comer = browser(app_on(cast.database))
    comer.sign_in(principal)
    return Glass(principal, comer, student.id)


def test_a_broken_glass_shows_contact_tier_and_plan_and_tells_others_at_once(
    cast: Cast, before: Glass, officer: Actor
) -> None:
    came = before.break_it()
    assert came.status_code == 201, came.text
    shown = before.browser.get(f"{came.headers['location']}/emergency")
    assert shown.status_code == 200
    found = shown.json()
    assert set(found) == {"name", "phone", "tier", "plan", "until_at"}
    assert (bool(found["name"]), found["tier"]) == (True, "red")
    assert [each["what"] for each in found["plan"]] == ["Call her aunt first"]
    assert "only the counselor" not in shown.text
    with cast.database.unit(cast.scope) as session:
        told = session.execute(
            text(
                "select recipient_id, state, urgency, try_at <= now() as is_due from deliveries where subject_id = :id"
            ),
            {"id": came.json()["id"]},
        ).all()
    assert {row.recipient_id for row in told} >= {cast.an.staff_id, cast.bo.staff_id, officer.staff_id}
    assert {(row.urgency, row.is_due) for row in told} == {("immediate", True)}
    assert len(lines(cast, "access.glass_broken")) == len(lines(cast, "access.glass_opened")) == 1


def test_a_broken_glass_opens_nothing_wider(cast: Cast, before: Glass) -> None:
    where = before.break_it().headers["location"]
    for address in (
        f"/v1/students/{before.student}",
        f"/v1/students/{before.student}/history",
        "/v1/cases",
        "/v1/audit",
    ):
        assert before.browser.get(address).status_code == 403, address
    assert before.break_it(student=cast.students.in_school_b.id).status_code == 404
    with cast.database.unit(cast.scope_a) as session:
        assert approvals.standing(session, before.student, by=before.principal.actor, now=db.now(session)) is None
    other = somebody_known(cast.database, cast.scope, ("principal", cast.school_a.id))
    stranger = browser(app_on(cast.database))
    stranger.sign_in(other)
    assert stranger.get(f"{where}/emergency").status_code == 404


@pytest.mark.parametrize(
    ("reason", "hours", "status"), [("  ", 4, 422), ("urgent", 4, 422), (WHY, 5, 422), (WHY, 0, 422), (WHY, 9_999, 422)]
)
def test_no_glass_is_broken_without_a_reason_or_for_longer(
    cast: Cast, before: Glass, reason: str, hours: int, status: int
) -> None:
    assert before.break_it(reason, hours).status_code == status
    assert lines(cast, "access.glass_broken") == []


def test_no_glass_is_broken_without_a_second_factor_shown_just_now(
    cast: Cast, before: Glass, client: TestClient
) -> None:
    do(
        cast.database,
        "update sessions set proved_at = now() - interval '11 minutes' where account_id = :id",
        id=before.principal.account_id,
    )
    refused = before.break_it()
    assert (refused.status_code, refused.json()["code"]) == (409, "second_factor_old")
    assert [line.detail["code"] for line in lines(cast, "access.glass_refused")] == ["second_factor_old"]
    by_token = caller(client, cast.database, cast.principal).post(
        "/v1/access-requests/break-glass", json={"student_id": str(before.student), "reason": WHY}
    )
    assert (by_token.status_code, by_token.json()["code"]) == (409, "second_factor_old")
    assert lines(cast, "access.glass_broken") == []


def test_a_glass_closes_after_four_hours(cast: Cast, now: dt.datetime) -> None:
    who = Actor(
        cast.principal.account_id,
        cast.district.id,
        cast.principal.staff_id,
        cast.principal.roles,
        session_id=uuid.uuid4(),
        proved_at=now,
    )
    with cast.database.unit(cast.scope_a) as session:
        made = glass.broken(session, cast.students.granted_13.id, WHY, hours=4, by=who, now=now)
        last = now + 4 * HOUR - dt.timedelta(seconds=1)
        assert glass.through(session, made.id, by=who, now=last).name is not None
        for later in (now + 4 * HOUR, now + 30 * HOUR):
            with pytest.raises(NotFound):
                glass.through(session, made.id, by=who, now=later)


def test_the_database_itself_keeps_a_glass_from_staying_open(cast: Cast, before: Glass) -> None:
    made = before.break_it().json()["id"]
    for change in ("until_at = asked_at + interval '5 hours'", "review_by = null"):
        with pytest.raises(Exception, match="ck_access_requests_glass"), cast.database.unit(cast.scope) as session:
            session.execute(text(f"update access_requests set {change} where id = :id"), {"id": made})


@pytest.mark.parametrize("role", ["counselor", "school_admin", "class_teacher", "district_admin", "auditor"])
def test_others_break_no_glass(cast: Cast, role: str) -> None:
    school = None if role in ("district_admin", "auditor") else cast.school_a.id
    comer = browser(app_on(cast.database))
    comer.sign_in(somebody_known(cast.database, cast.scope, (role, school)))
    came = comer.post(
        "/v1/access-requests/break-glass",
        json={"student_id": str(cast.students.granted_13.id), "reason": WHY},
    )
    assert came.status_code == 403


def test_every_broken_glass_is_looked_into_by_a_privacy_officer_and_counted(
    cast: Cast, before: Glass, officer: Actor, client: TestClient, now: dt.datetime
) -> None:
    where = before.break_it().headers["location"]
    looking = caller(client, cast.database, officer)
    (due,) = looking.get("/v1/access-requests?is_due=true").json()["access_requests"]
    assert (due["kind"], due["reason"], due["is_review_late"]) == ("break_glass", WHY, False)
    assert now < dt.datetime.fromisoformat(due["review_by"]) <= now + dt.timedelta(days=6)
    with cast.database.unit(cast.scope) as session:
        later = approvals.figures(session, now - HOUR, now=now + dt.timedelta(days=9))
        assert (later.glasses_broken, later.reviewed, later.reviews_overdue) == (1, 0, 1)
    body = {"is_justified": True, "words": "The aunt was reached."}
    assert before.browser.post(f"{where}/review", json=body).status_code == 403
    assert looking.post(f"{where}/review", json=body).json()["is_justified"] is True
    assert looking.get("/v1/access-requests?is_due=true").json()["access_requests"] == []
    counted = looking.get("/v1/access-requests/figures").json()
    assert (counted["glasses_broken"], counted["reviewed"], counted["reviews_overdue"]) == (1, 1, 0)
    assert set(approvals.BREAKING) <= access.ROLES


# -- opening many -----------------------------------------------------------------------------------------


def opened_many(cast: Cast, who: Actor) -> None:
    with cast.database.unit(cast.scope_a) as session:
        for _ in range(knowing.BUDGET):
            audit.record(session, who, "result.read", "student", uuid.uuid4())


def test_whoever_opens_many_is_told_of_and_needs_a_second_person(
    cast: Cast, screened: Screened, officer: Actor, now: dt.datetime
) -> None:
    assert screened.lead.get(screened.addresses[0]).status_code == 200
    opened_many(cast, cast.lead)
    for address in screened.addresses:
        came = screened.lead.get(address)
        assert (came.status_code, came.json()["code"]) == (403, "budget_spent"), address
    with cast.database.unit(cast.scope) as session:
        told = session.execute(text("select recipient_id from deliveries where subject = 'reading'")).scalars().all()
    assert told == [officer.staff_id]
    assert len(lines(cast, "access.budget_spent")) == 3
    with cast.database.unit(cast.scope_a) as session:
        asked = approvals.ask(session, screened.student, WHY, hours=2, by=cast.lead, now=now)
    with cast.database.unit(cast.scope) as session:
        approvals.decide(session, asked.id, is_granted=True, by=officer, now=now)
    assert screened.lead.get(screened.addresses[0]).status_code == 200


def test_what_one_was_asked_to_look_at_is_refused_to_nobody_and_still_told_of(
    cast: Cast, screened: Screened, now: dt.datetime
) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = ring(session, cast.students.granted_13, RED, at=now)
        triage.acknowledge(session, alert.id, by=cast.an, now=now)
    opened_many(cast, cast.an)
    assert screened.an.get(screened.addresses[0]).status_code == 200
    assert len(lines(cast, "access.budget_spent")) == 1
