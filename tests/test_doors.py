"""Every route for every role: who is let in, who is not, and that what is not one's own looks like nothing."""

import datetime as dt
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest
from fastapi import FastAPI

from alerts.models import CheckIn
from api.app import add, check
from api.deps import PUBLIC, Door, DoorRoute, SessionDep
from api.kinds import SHOWS
from screening import access, approvals, db, exports, merges, role_matrix, sessions
from screening.access import ROLES
from screening.db import Database
from screening.models import Account, Base, DistrictExit, RoutineChat
from screening.staff import DISTRICT_ROLES
from tests.asking import TestClient
from tests.cast import Cast, assemble
from tests.doors import NOBODY, Caller, answers_csv, app_on, caller, round_body, somebody, token_for, work
from tests.factories import make_staff

ANYBODY = frozenset({"*"})
EVERYBODY = frozenset(ROLES)
STAFF = EVERYBODY - {"guardian", "student", "referral_partner"}
WITH_ACCOUNT = EVERYBODY - {"guardian", "student"}
CARE = frozenset({"counselor", "lead"})
LOOK = CARE | {"principal", "duty_officer"}
ADMIN = frozenset({"district_admin"})
SEND = CARE | {"school_admin", "district_admin"}
SEE_ROUNDS = CARE | {
    "principal",
    "school_admin",
    "class_teacher",
    "district_admin",
    "district_analyst",
    "duty_officer",
    "auditor",
}
PLAN_DUTY = frozenset({"lead", "principal", "school_admin", "district_admin"})
MERGING = frozenset({"school_admin", "lead", "district_admin"})
KNOW_RULES = CARE | {"school_admin", "district_analyst", "district_admin", "privacy_officer", "auditor"}

EXPECTED: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/health/live"): ANYBODY,
    ("GET", "/health/ready"): ANYBODY,
    ("GET", "/health/loop"): ANYBODY,
    ("GET", "/metrics"): ANYBODY,
    ("POST", "/v1/rosters"): frozenset({"school_admin", "district_admin"}),
    ("GET", "/v1/rosters/{roster_id}"): frozenset({"school_admin", "district_admin"}),
    ("POST", "/v1/rosters/{roster_id}/commit"): frozenset({"school_admin", "district_admin"}),
    ("GET", "/v1/schools"): STAFF,
    ("POST", "/v1/schools"): ADMIN,
    ("GET", "/v1/schools/{school_id}"): STAFF,
    ("GET", "/v1/students"): CARE | {"school_admin"},
    ("GET", "/v1/students/{student_id}"): CARE | {"school_admin"},
    ("GET", "/v1/students/{student_id}/history"): CARE,
    ("POST", "/v1/consents/{student_id}"): frozenset({"guardian", "student"}),
    ("GET", "/v1/consents/{student_id}"): frozenset({"guardian", "student"}),
    ("POST", "/v1/consents"): CARE | {"school_admin"},
    ("GET", "/v1/consents"): CARE | {"school_admin", "principal"},
    ("GET", "/v1/instruments"): STAFF,
    ("GET", "/v1/instruments/{code}"): STAFF,
    ("GET", "/fhir/Questionnaire/{code}"): STAFF,
    ("GET", "/v1/policies"): KNOW_RULES,
    ("GET", "/v1/policies/{code}"): KNOW_RULES,
    ("GET", "/v1/models"): KNOW_RULES - {"school_admin"},
    ("GET", "/v1/models/{name}"): KNOW_RULES - {"school_admin"},
    ("GET", "/v1/models/{name}/evaluation"): KNOW_RULES - {"school_admin", "counselor", "lead"},
    ("POST", "/v1/models/{name}/promotion"): ADMIN,
    ("POST", "/v1/models/{name}/retirement"): ADMIN,
    ("GET", "/v1/routine-chats"): CARE,
    ("POST", "/v1/routine-chats/{chat_id}/outcome"): CARE,
    ("POST", "/v1/rounds"): ADMIN,
    ("GET", "/v1/rounds"): SEE_ROUNDS,
    ("GET", "/v1/rounds/{round_id}"): SEE_ROUNDS,
    ("POST", "/v1/rounds/{round_id}/open"): ADMIN,
    ("POST", "/v1/rounds/{round_id}/close"): ADMIN,
    ("GET", "/v1/rounds/{round_id}/assignments"): CARE | {"school_admin", "class_teacher"},
    ("GET", "/v1/rounds/{round_id}/reds"): frozenset({"lead"}),
    ("POST", "/v1/rounds/{round_id}/uploads"): SEND,
    ("GET", "/v1/uploads/{upload_id}"): SEND,
    ("GET", "/v1/uploads/{upload_id}/problems.csv"): SEND,
    ("GET", "/v1/assignments/{assignment_id}"): CARE | {"student"},
    ("PUT", "/v1/assignments/{assignment_id}/answers"): CARE | {"student"},
    ("POST", "/v1/assignments/{assignment_id}/submit"): CARE | {"student"},
    ("GET", "/v1/results/{student_id}/{round_id}"): CARE,
    ("GET", "/v1/results/{student_id}/{round_id}/explanation"): CARE,
    ("GET", "/v1/alerts"): LOOK,
    ("POST", "/v1/alerts"): LOOK | {"class_teacher", "school_admin", "staff_member", "district_admin"},
    ("GET", "/v1/alerts/{alert_id}"): LOOK | ADMIN,
    ("POST", "/v1/alerts/{alert_id}/acknowledgement"): LOOK | ADMIN,
    ("POST", "/v1/alerts/{alert_id}/triage"): CARE,
    ("POST", "/v1/alerts/{alert_id}/triage/confirmation"): CARE | {"duty_officer"},
    ("POST", "/v1/alerts/{alert_id}/student"): CARE,
    ("GET", "/v1/cases"): CARE,
    ("POST", "/v1/cases"): CARE,
    ("GET", "/v1/cases/{case_id}"): CARE,
    ("POST", "/v1/cases/{case_id}/entries"): CARE,
    ("POST", "/v1/cases/{case_id}/interviews"): CARE,
    ("POST", "/v1/cases/{case_id}/follow-ups"): CARE,
    ("POST", "/v1/cases/{case_id}/closure"): CARE,
    ("POST", "/v1/cases/{case_id}/closure/confirmation"): CARE,
    ("POST", "/v1/cases/{case_id}/closure/rejection"): CARE,
    ("GET", "/v1/follow-ups"): CARE | {"principal"},
    ("GET", "/v1/follow-ups/{follow_up_id}"): CARE | {"principal"},
    ("POST", "/v1/follow-ups/{follow_up_id}/done"): CARE,
    ("POST", "/v1/follow-ups/{follow_up_id}/missed"): CARE,
    ("POST", "/v1/cases/{case_id}/transfer"): CARE,
    ("POST", "/v1/cases/{case_id}/safety-checks"): CARE,
    ("POST", "/v1/cases/{case_id}/conferences"): CARE,
    ("POST", "/v1/cases/{case_id}/conferences/{conference_id}/confirmation"): CARE,
    ("POST", "/v1/cases/{case_id}/owner"): CARE,
    ("POST", "/v1/cases/{case_id}/referrals"): CARE,
    ("POST", "/v1/cases/{case_id}/referral-refusals"): CARE,
    ("POST", "/v1/alerts/{alert_id}/misplacement"): CARE,
    ("POST", "/v1/alerts/{alert_id}/recusal"): CARE | {"principal"},
    ("POST", "/v1/follow-ups/{follow_up_id}/leaving"): CARE,
    ("GET", "/v1/check-ins"): CARE,
    ("GET", "/v1/rescreens"): CARE,
    ("GET", "/v1/check-ins/{check_in_id}"): CARE,
    ("POST", "/v1/check-ins/{check_in_id}/outcome"): CARE,
    ("GET", "/v1/referrals"): CARE,
    ("GET", "/v1/referrals/{referral_id}"): CARE,
    ("POST", "/v1/referrals/{referral_id}/answer"): CARE,
    ("POST", "/v1/referrals/{referral_id}/visit"): CARE,
    ("POST", "/v1/referrals/{referral_id}/withdrawal"): CARE,
    ("POST", "/v1/referrals/{referral_id}/link"): CARE,
    ("POST", "/v1/referrals/at-place"): ANYBODY,
    ("POST", "/v1/referrals/at-place/answer"): ANYBODY,
    ("POST", "/v1/referrals/at-place/visit"): ANYBODY,
    ("GET", "/v1/destinations"): LOOK | {"school_admin", "district_admin"},
    ("POST", "/v1/destinations"): ADMIN,
    ("GET", "/v1/destinations/{destination_id}"): LOOK | {"school_admin", "district_admin"},
    ("DELETE", "/v1/destinations/{destination_id}"): ADMIN,
    ("PUT", "/v1/cases/{case_id}/plan"): CARE,
    ("GET", "/v1/transfers"): LOOK | ADMIN,
    ("GET", "/v1/transfers/{transfer_id}"): LOOK | ADMIN,
    ("POST", "/v1/transfers/{transfer_id}/acceptance"): CARE,
    ("POST", "/v1/transfers/{transfer_id}/refusal"): CARE,
    ("POST", "/v1/transfers/{transfer_id}/withdrawal"): CARE,
    ("POST", "/v1/merges"): MERGING,
    ("GET", "/v1/merges"): MERGING | CARE,
    ("GET", "/v1/merges/{merge_id}"): MERGING | CARE,
    ("POST", "/v1/merges/{merge_id}/confirmation"): MERGING,
    ("POST", "/v1/merges/{merge_id}/refusal"): MERGING,
    ("POST", "/v1/merges/{merge_id}/withdrawal"): MERGING,
    ("POST", "/v1/merges/{merge_id}/split"): MERGING,
    ("POST", "/v1/merges/{merge_id}/split/confirmation"): MERGING,
    ("GET", "/v1/coverage"): CARE
    | {"principal", "school_admin", "class_teacher", "district_analyst", "district_admin", "privacy_officer"},
    ("POST", "/v1/coverage/releases"): ADMIN,
    ("GET", "/v1/outcomes"): CARE,
    ("GET", "/v1/rounds/{round_id}/yield"): frozenset({"lead", "district_analyst", "district_admin"}),
    ("POST", "/v1/accounts"): ADMIN,
    ("GET", "/v1/accounts/me"): EVERYBODY,
    ("GET", "/v1/accounts/{staff_id}"): ADMIN,
    ("POST", "/v1/accounts/{staff_id}/roles"): ADMIN,
    ("DELETE", "/v1/accounts/{staff_id}/roles/{role}"): ADMIN,
    ("PUT", "/v1/accounts/me/password"): WITH_ACCOUNT,
    ("POST", "/v1/accounts/me/recovery-codes"): WITH_ACCOUNT,
    ("POST", "/v1/accounts/{staff_id}/invitation"): ADMIN,
    ("DELETE", "/v1/accounts/{staff_id}/second-factor"): ADMIN,
    ("DELETE", "/v1/accounts/{staff_id}"): ADMIN,
    ("POST", "/v1/sessions"): ANYBODY,
    ("POST", "/v1/sessions/second-factor"): ANYBODY,
    ("POST", "/v1/sessions/code"): ANYBODY,
    ("POST", "/v1/sessions/invitation"): ANYBODY,
    ("GET", "/v1/sessions/sso"): ANYBODY,
    ("GET", "/v1/sessions/sso/callback"): ANYBODY,
    ("GET", "/v1/sessions"): WITH_ACCOUNT,
    ("GET", "/v1/sessions/current"): EVERYBODY,
    ("DELETE", "/v1/sessions/current"): EVERYBODY,
    ("DELETE", "/v1/sessions/{session_id}"): WITH_ACCOUNT,
    ("POST", "/v1/sessions/current/proof"): WITH_ACCOUNT,
    ("POST", "/v1/tokens"): WITH_ACCOUNT,
    ("GET", "/v1/tokens"): WITH_ACCOUNT,
    ("DELETE", "/v1/tokens/current"): EVERYBODY,
    ("DELETE", "/v1/tokens/{token_id}"): WITH_ACCOUNT,
    ("POST", "/v1/codes"): frozenset({"lead", "school_admin"}),
    ("POST", "/v1/codes/guardians"): frozenset({"lead", "school_admin"}),
    ("GET", "/v1/duty"): CARE | PLAN_DUTY | {"duty_officer"},
    ("POST", "/v1/duty"): PLAN_DUTY,
    ("GET", "/v1/duty/{duty_id}"): CARE | PLAN_DUTY | {"duty_officer"},
    ("DELETE", "/v1/duty/{duty_id}"): PLAN_DUTY,
    ("POST", "/v1/feeds"): CARE,
    ("GET", "/v1/feeds"): CARE,
    ("DELETE", "/v1/feeds"): CARE,
    ("GET", "/calendar/{token}.ics"): ANYBODY,
    ("GET", "/v1/calendars"): STAFF,
    ("POST", "/v1/calendars/{name}/loads"): ADMIN,
    ("PUT", "/v1/calendars/{name}/terms"): ADMIN,
    ("PUT", "/v1/calendars/{name}/schools"): ADMIN,
    ("PUT", "/v1/webhooks"): LOOK | ADMIN,
    ("GET", "/v1/webhooks"): LOOK | ADMIN,
    ("DELETE", "/v1/webhooks"): LOOK | ADMIN,
    ("GET", "/v1/audit"): frozenset({"auditor", "privacy_officer"}),
    ("GET", "/v1/audit/{student_id}"): frozenset({"guardian", "student"}),
    ("GET", "/v1/access-requests"): LOOK | {"privacy_officer"},
    ("GET", "/v1/access-requests/figures"): frozenset({"lead", "privacy_officer", "auditor", "district_admin"}),
    ("POST", "/v1/access-requests"): CARE,
    ("POST", "/v1/access-requests/assignments"): frozenset({"lead", "privacy_officer"}),
    ("POST", "/v1/access-requests/break-glass"): frozenset({"lead", "principal", "duty_officer"}),
    ("GET", "/v1/access-requests/{request_id}"): LOOK | {"privacy_officer"},
    ("GET", "/v1/access-requests/{request_id}/emergency"): frozenset({"lead", "principal", "duty_officer"}),
    ("POST", "/v1/access-requests/{request_id}/decision"): frozenset({"lead", "privacy_officer"}),
    ("POST", "/v1/access-requests/{request_id}/end"): LOOK | {"privacy_officer"},
    ("POST", "/v1/access-requests/{request_id}/review"): frozenset({"privacy_officer"}),
    ("POST", "/v1/rights-requests/students/{student_id}"): frozenset({"guardian", "student"}),
    ("GET", "/v1/rights-requests/students/{student_id}"): frozenset({"guardian", "student"}),
    ("GET", "/v1/rights-requests/students/{student_id}/copy"): frozenset({"guardian", "student"}),
    ("GET", "/v1/rights-requests"): frozenset({"lead", "privacy_officer"}),
    ("POST", "/v1/rights-requests"): frozenset({"lead", "privacy_officer", "school_admin"}),
    ("GET", "/v1/rights-requests/{rights_request_id}"): frozenset({"lead", "privacy_officer"}),
    ("POST", "/v1/rights-requests/{rights_request_id}/decision"): frozenset({"lead", "privacy_officer"}),
    ("GET", "/v1/exports"): frozenset({"lead", "principal", "privacy_officer", "auditor"}),
    ("POST", "/v1/exports/{export_id}/decision"): frozenset({"lead", "principal", "privacy_officer"}),
    ("GET", "/v1/district-exits"): ADMIN | {"privacy_officer", "auditor"},
    ("POST", "/v1/district-exits"): ADMIN | {"privacy_officer"},
    ("POST", "/v1/district-exits/{exit_id}/confirmation"): ADMIN | {"privacy_officer"},
}
"""The signed matrix. A route that is not in it fails."""

LET_IN = {200, 201, 202, 204, 404, 409, 422}


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as opened:
        yield opened


def routes(app: FastAPI) -> Iterator[tuple[str, DoorRoute]]:
    for route in app.routes:
        if isinstance(route, DoorRoute):
            for method in sorted(route.methods or ()):
                yield method, route


def address_of(path: str) -> str:
    """The route's address with ids of nothing."""
    for name in ("code", "role"):
        path = path.replace("{" + name + "}", {"code": "phq9", "role": "counselor"}[name])
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        path = path[:start] + str(NOBODY) + path[end + 1 :]
    return path


def test_every_route_has_an_expected_answer_for_every_role(app: FastAPI) -> None:
    assert {(method, route.path): route.roles for method, route in routes(app)} == EXPECTED


def test_every_route_says_which_kind_of_data_it_shows_and_opens_to_no_role_that_the_matrix_shuts_out() -> None:
    closed = {key for key, roles in EXPECTED.items() if roles != ANYBODY}
    assert closed - SHOWS.keys() == set(), "say in api/kinds.py what these show"
    assert SHOWS.keys() - EXPECTED.keys() == set()
    may = {key: role_matrix.openers(SHOWS[key], changes=key[0] != "GET") for key in closed}
    assert {key: sorted(EXPECTED[key] - may[key]) for key in closed if EXPECTED[key] - may[key]} == {}


def test_the_matrix_names_roles_that_there_are_and_hides_from_all_who_are_not_in_it() -> None:
    for table in (*role_matrix.READS.values(), *role_matrix.CHANGES.values()):
        assert set(table) <= ROLES
    assert role_matrix.READS.keys() == role_matrix.KINDS
    for role in ROLES - CARE:
        assert role_matrix.hidden(role) >= role_matrix.FIELDS["answers"] | role_matrix.FIELDS["tiers"], role


@pytest.mark.parametrize("turn, role", list(enumerate(sorted(ROLES))))
def test_a_role_is_let_in_where_the_matrix_says_so_and_nowhere_else(
    cast: Cast, client: TestClient, turn: int, role: str, is_storm: bool
) -> None:
    comer = caller(client, cast.database, somebody(cast, role))
    wrong = []
    taken = list(EXPECTED.items())[slice(None) if is_storm else slice(turn % 8, None, 8)]
    for (method, path), roles in taken:
        if path == "/v1/tokens/current":
            continue  # it would be the last one
        came = comer.ask(method, address_of(path))
        may = roles == ANYBODY or role in roles
        if roles != ANYBODY and (came.status_code in LET_IN) != may:
            wrong.append((method, path, came.status_code))
        if not may:
            assert came.status_code == 403
            assert came.json()["code"] == "forbidden"
    assert wrong == []


def test_nobody_is_let_in_without_a_token_and_before_a_word_is_read(client: TestClient) -> None:
    stranger = Caller(client)
    for (method, path), roles in EXPECTED.items():
        if roles == ANYBODY:
            continue
        came = stranger.ask(
            method, address_of(path), content=b"{not json", headers={"Content-Type": "application/json"}
        )
        assert (came.status_code, came.headers["www-authenticate"]) == (401, "Bearer"), path
        assert Caller(client, "x" * 43).ask(method, address_of(path)).status_code == 401


def test_a_role_that_was_taken_opens_nothing_at_the_next_request(cast: Cast, client: TestClient) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    made = admin.post("/v1/accounts", json={"email": f"{uuid.uuid4()}@x.test", "name": "New", "roles": []}).json()
    granted = admin.post(f"/v1/accounts/{made['id']}/roles", json={"role": "counselor", "school": "A"})
    assert granted.json()["roles"] == [{"role": "counselor", "school": "A"}]

    from screening.models import Staff

    with cast.database.unit(cast.scope) as session:
        hired = session.get(Staff, (cast.district.id, uuid.UUID(made["id"])))
        assert hired is not None
        actor = access.Actor(hired.account_id, cast.district.id, hired.id)
    new = caller(client, cast.database, actor)
    assert new.get("/v1/alerts").status_code == 200
    gone = admin.ask("DELETE", f"/v1/accounts/{made['id']}/roles/counselor?school=A")
    assert gone.json()["roles"] == []
    assert new.get("/v1/alerts").status_code == 403


def test_a_token_that_was_ended_is_nobody(cast: Cast, client: TestClient) -> None:
    an = caller(client, cast.database, cast.an)
    assert an.ask("DELETE", "/v1/tokens/current").status_code == 204
    assert an.get("/v1/alerts").status_code == 401


def test_a_route_without_roles_cannot_be_made_or_served(database: Database) -> None:
    door = Door(prefix="/v1/open", tag="open")
    with pytest.raises(TypeError):
        door.get("/")(lambda: None)
    with pytest.raises(ValueError, match="must state its roles"):
        door.get("/", roles=())(lambda: None)
    with pytest.raises(ValueError, match="must state its roles"):
        door.get("/", roles={"emperor"})(lambda: None)
    app = FastAPI(docs_url=None, redoc_url=None)
    public = Door(prefix="/v1/open", tag="open")

    @public.get("/all", roles=PUBLIC)
    def everything(session: SessionDep) -> None:
        """Too much."""

    add(app, public)
    app.get("/v1/other")(lambda: None)
    with pytest.raises(RuntimeError, match="/v1/open/all is public; /v1/other states no roles"):
        check(app)


# -- what is not one's own ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Things:
    """One of everything in school A."""

    student: uuid.UUID
    round: uuid.UUID
    upload: uuid.UUID
    roster: uuid.UUID
    assignment: uuid.UUID
    alert: uuid.UUID
    case: uuid.UUID
    follow_up: uuid.UUID
    transfer: uuid.UUID
    conference: uuid.UUID
    referral: uuid.UUID
    check_in: uuid.UUID
    destination: uuid.UUID
    duty: uuid.UUID
    chat: uuid.UUID
    session: uuid.UUID
    token: uuid.UUID
    request: uuid.UUID
    rights_request: uuid.UUID
    exit: uuid.UUID
    export: uuid.UUID
    merge: uuid.UUID
    staff: uuid.UUID | None

    def at(self, path: str, school_id: uuid.UUID) -> str:
        """The route's address with the ids of these things."""
        for thing in fields(self):
            path = path.replace("{" + thing.name + "_id}", str(getattr(self, thing.name)))
        return address_of(path.replace("{school_id}", str(school_id)))


def made_things(cast: Cast, client: TestClient) -> Things:
    admin = caller(client, cast.database, cast.district_admin)
    an = caller(client, cast.database, cast.an)
    secretary = caller(client, cast.database, cast.school_admin_a)
    round_id = admin.post("/v1/rounds", json=round_body()).json()["id"]
    assert admin.post(f"/v1/rounds/{round_id}/open").status_code == 200
    sent = secretary.post(
        f"/v1/rounds/{round_id}/uploads", files={"file": ("a.csv", answers_csv({"A001": 3, "A007": 2}))}
    )
    listed = secretary.post("/v1/rosters", files={"file": ("r.csv", "student_number,student_name,grade\nA500,甲,8\n")})
    work(cast)
    upload = secretary.get(sent.headers["location"]).json()
    assert upload["state"] == "loaded", upload
    alerts = an.get("/v1/alerts").json()["alerts"]
    waiting = an.get(f"/v1/rounds/{round_id}/assignments").json()["waiting"]
    for alert in alerts:
        an.post(f"/v1/alerts/{alert['id']}/acknowledgement")
    triage = {"outcome": "case_opened", "contact": "meeting", "is_student_seen": True, "words": "We talked."}
    case_id = an.post(f"/v1/alerts/{alerts[0]['id']}/triage", json=triage).json()["case_id"]
    place = admin.post("/v1/destinations", json={"kind": "hospital", "name": "First Hospital"}).json()
    refer = BODIES["/v1/cases/{case_id}/referrals"] | {"destination_id": place["id"]}
    assert an.post(f"/v1/cases/{case_id}/referrals", json=refer).status_code == 201
    confer = BODIES["/v1/cases/{case_id}/conferences"]
    assert an.post(f"/v1/cases/{case_id}/conferences", json=confer).status_code == 201
    case = an.post(f"/v1/cases/{case_id}/follow-ups", json={"mode": "phone"}).json()
    transfer = an.post(f"/v1/cases/{case_id}/transfer", json={"school": "C", "summary": "What helped."}).json()
    return Things(
        student=alerts[0]["student_id"],
        round=round_id,
        upload=upload["id"],
        roster=listed.json()["id"],
        assignment=waiting[0]["assignment_ids"][0],
        alert=alerts[1]["id"],
        case=case_id,
        follow_up=case["follow_ups"][0]["id"],
        transfer=transfer["id"],
        conference=case["conferences"][0]["id"],
        referral=case["referrals"][0]["id"],
        check_in=_check_in_of(cast),
        destination=place["id"],
        duty=_shift_of(cast, secretary),
        chat=_chat_of(cast, uuid.UUID(round_id)),
        session=_session_of(cast, cast.an),
        token=an.get("/v1/tokens").json()["tokens"][0]["id"],
        request=an.post("/v1/access-requests", json=ask_for(cast.students.undecided_11.id)).json()["id"],
        rights_request=_right_of(cast, secretary),
        exit=_exit_of(cast),
        export=_export_of(cast),
        merge=_merge_of(cast),
        staff=somebody(cast, "counselor").staff_id,
    )


def _chat_of(cast: Cast, round_id: uuid.UUID) -> uuid.UUID:
    """A routine chat that was drawn for somebody of school A."""
    with cast.database.unit(cast.scope) as session:
        student = cast.students.own_grant_15
        chat = RoutineChat(
            district_id=cast.district.id, id=uuid.uuid4(), round_id=round_id, student_id=student.id,
            school_id=student.school_id, seed=1, probability=0.01, state="offered", drawn_at=db.now(session),
        )  # fmt: skip
        session.add(chat)
        return chat.id


def _check_in_of(cast: Cast) -> uuid.UUID:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        planned = CheckIn(
            district_id=cast.district.id,
            id=uuid.uuid4(),
            student_id=student.id,
            school_id=student.school_id,
            due_on=dt.date(2026, 10, 1),
        )
        session.add(planned)
        return planned.id


def _shift_of(cast: Cast, secretary: Caller) -> uuid.UUID:
    now = dt.datetime.now(dt.UTC)
    hours = {"starts_at": now.isoformat(), "ends_at": (now + dt.timedelta(hours=8)).isoformat()}
    made: uuid.UUID = secretary.post("/v1/duty", json={"staff_id": str(cast.an.person), **hours}).json()["id"]
    return made


def _right_of(cast: Cast, secretary: Caller) -> uuid.UUID:
    asked = {"student_id": str(cast.students.undecided_11.id), "asked_as": "guardian", "kind": "correct"}
    made: uuid.UUID = secretary.post("/v1/rights-requests", json=asked | {"words": "She is 12."}).json()["id"]
    return made


def _export_of(cast: Cast) -> uuid.UUID:
    with cast.database.unit(cast.scope_a) as session:
        now = db.now(session)
        return exports.ask(session, "student_codes", cast.school_a.id, 51, by=cast.school_admin_a, now=now).id


def _merge_of(cast: Cast) -> uuid.UUID:
    with cast.database.unit(cast.scope_a) as session:
        pair = (cast.students.undecided_11.id, cast.students.own_grant_13.id)
        words = "The number was given twice."
        return merges.propose(session, *pair, words, by=cast.school_admin_a, now=db.now(session)).id


def _exit_of(cast: Cast) -> uuid.UUID:
    with cast.database.unit(cast.scope) as session:
        made = DistrictExit(district_id=cast.district.id, asked_by=NOBODY, asked_at=db.now(session))
        session.add(made)
        session.flush()
        return made.id


def _session_of(cast: Cast, actor: access.Actor) -> uuid.UUID:
    assert actor.account_id is not None
    with cast.database.unit(cast.scope) as session:
        account = session.get(Account, actor.account_id)
        assert account is not None
        return sessions.begin(session, account.id, account.generation)[0]


def ask_for(student_id: uuid.UUID) -> dict[str, Any]:
    return {"student_id": str(student_id), "reason": "His mother called me.", "hours": 2}


BODIES: dict[str, Any] = {
    "/v1/access-requests/{request_id}/decision": {"is_granted": True},
    "/v1/access-requests/{request_id}/review": {"is_justified": True, "words": "The aunt was reached."},
    "/v1/rights-requests/{rights_request_id}/decision": {"is_granted": True, "answer": "It was put right."},
    "/v1/accounts/{staff_id}/roles": {"role": "district_analyst"},
    "/v1/exports/{export_id}/decision": {"is_granted": True},
    "/v1/merges/{merge_id}/confirmation": {"seen": ["name_differs", "birth_differs"]},
    "/v1/merges/{merge_id}/refusal": {"reason": "They are two, I know both."},
    "/v1/merges/{merge_id}/split": {"reason": "They are two, I know both."},
    "/v1/rosters/{roster_id}/commit": {},
    "/v1/assignments/{assignment_id}/answers": {"answers": {"phq9_9": 3}},
    "/v1/assignments/{assignment_id}/submit": {"answers": {"phq9_9": 3}},
    "/v1/alerts/{alert_id}/triage": {
        "outcome": "monitor",
        "contact": "phone",
        "is_student_seen": True,
        "words": "All is well.",
    },
    "/v1/cases/{case_id}/entries": {"words": "A note."},
    "/v1/cases/{case_id}/interviews": {
        "mode": "phone",
        "is_student_seen": True,
        "has_current_risk": False,
        "is_concern_confirmed": False,
        "words": "We talked.",
        "held_at": "2026-09-01T08:00:00+08:00",
    },
    "/v1/cases/{case_id}/follow-ups": {"mode": "phone"},
    "/v1/cases/{case_id}/closure": {"reason": "resolved", "words": "It is over."},
    "/v1/cases/{case_id}/safety-checks": {
        "mode": "meeting",
        "outcome": "denied",
        "answers": {
            "thoughts": "none",
            "plan": "none",
            "means": "none",
            "intent": "none",
            "attempt": "none",
            "company": "with_somebody",
            "hold": "several",
        },
        "words": "We talked.",
        "held_at": "2026-09-01T08:00:00+08:00",
    },
    "/v1/cases/{case_id}/conferences": {
        "tier": "red",
        "attended": ["counselor", "lead"],
        "decision": "A plan.",
        "held_at": "2026-09-01T08:00:00+08:00",
    },
    "/v1/cases/{case_id}/owner": {"owner_id": str(NOBODY), "reason": "absent"},
    "/v1/cases/{case_id}/referrals": {
        "destination_id": str(NOBODY),
        "urgency": "routine",
        "basis": "guardian",
        "shared": "Sleeps badly.",
    },
    "/v1/cases/{case_id}/referral-refusals": {
        "destination_id": str(NOBODY),
        "explained": "What may happen.",
        "reason": "Shame.",
    },
    "/v1/alerts/{alert_id}/misplacement": {"student_id": str(NOBODY), "words": "Two of one name."},
    "/v1/alerts/{alert_id}/recusal": {"person_id": str(NOBODY), "reason": "relative"},
    "/v1/follow-ups/{follow_up_id}/leaving": {"reason": "replaced", "words": "We meet instead."},
    "/v1/check-ins/{check_in_id}/outcome": {"outcome": "well"},
    "/v1/referrals/{referral_id}/answer": {"is_accepted": True},
    "/v1/referrals/{referral_id}/visit": {"outcome": "kept", "on": "2026-09-01"},
    "/v1/referrals/{referral_id}/withdrawal": {"reason": "They moved."},
    "/v1/cases/{case_id}/transfer": {"school": "B", "summary": "What helped."},
    "/v1/cases/{case_id}/plan": {
        "goals": ["To sleep through."],
        "actions": [{"what": "A talk each Monday", "who": "counselor", "by_on": "2026-12-01"}],
        "review_on": "2026-12-24",
    },
    "/v1/transfers/{transfer_id}/refusal": {"reason": "not_here", "words": "She never came."},
    "/v1/routine-chats/{chat_id}/outcome": {"outcome": "declined"},
    "/v1/follow-ups/{follow_up_id}/done": {"words": "We talked."},
    "/v1/follow-ups/{follow_up_id}/missed": {"reason": "not_reached"},
}


def test_what_is_another_schools_or_districts_looks_like_what_is_not_there(
    cast: Cast, client: TestClient, database: Database
) -> None:
    own = made_things(cast, client)
    elsewhere = assemble(database)
    people = {
        "counselor of school B": [cast.chen],
        "secretary of school B": [cast.school_admin_b],
        "another district's": [
            elsewhere.an,
            elsewhere.lead,
            elsewhere.school_admin_a,
            elsewhere.district_admin,
            elsewhere.duty_officer,
        ],
    }
    strangers = {kind: [(who, caller(client, database, who)) for who in actors] for kind, actors in people.items()}
    tried = 0
    for (method, path), roles in EXPECTED.items():
        if "_id}" not in path or "staff" in path or path == "/v1/rounds/{round_id}/uploads":
            continue
        for kind, actors in strangers.items():
            for actor, stranger in actors:
                # a round is the district's: every school of it sees it
                is_shared = (
                    path.startswith(("/v1/rounds", "/v1/destinations")) and actor.district_id == cast.district.id
                )
                if not actor.has(*roles) or is_shared:
                    continue
                body = BODIES.get(path, {"student_id": str(own.student)} if path.endswith("/student") else None)
                foreign, absent = own.at(path, cast.school_a.id), address_of(path)
                first = stranger.ask(method, foreign, json=body)
                second = stranger.ask(method, absent, json=body)
                assert first.status_code == second.status_code == 404, (kind, method, path, first.text, second.text)
                assert first.content == second.content, (kind, method, path)
                tried += 1
    assert tried > 60


def test_nobody_sees_more_than_the_role_is_given(cast: Cast, client: TestClient) -> None:
    own = made_things(cast, client)
    principal = caller(client, cast.database, cast.principal)
    plain = principal.get(f"/v1/alerts/{own.alert}").json()
    assert plain["urgency"] in ("soon", "immediate")
    for name in ("tier", "reasons", "student_id", "student_name", "has_self_harm", "triages", "concerns", "source"):
        assert plain[name] is None, name
    secretary = caller(client, cast.database, cast.school_admin_a)
    receipt = secretary.get(f"/v1/uploads/{own.upload}").text
    for word in ("critical", "tier", "orange", "alert", "self_harm"):
        assert word not in receipt, word
    figures = secretary.get(f"/v1/coverage?round={own.round}").json()["rows"][0]
    assert figures["counts"]["submitted"] == 2
    assert {name: count for name, count in figures["counts"].items() if name.startswith("tier_")} == {
        "tier_none": None,
        "tier_yellow": None,
        "tier_orange": None,
        "tier_red": None,
    }
    teacher = caller(client, cast.database, somebody(cast, "class_teacher"))
    completion = teacher.get(f"/v1/rounds/{own.round}/assignments").json()
    assert completion["waiting"] == []
    assert sum(each["completed"] for each in completion["classes"]) == 2
    an = caller(client, cast.database, cast.an)
    assert an.get(f"/v1/coverage?round={own.round}").json()["rows"][0]["counts"]["tier_red"] == 1
    analyst = caller(client, cast.database, cast.district_analyst)
    assert analyst.get(f"/v1/coverage?round={own.round}").status_code == 404


def test_a_cases_words_are_for_those_who_wrote_them_and_the_lead(cast: Cast, client: TestClient) -> None:
    own = made_things(cast, client)
    an, bo, lead = (caller(client, cast.database, who) for who in (cast.an, cast.bo, cast.lead))
    an.post(f"/v1/cases/{own.case}/entries", json={"words": "Between us."})
    told = {who: caller.get(f"/v1/cases/{own.case}").text for who, caller in (("an", an), ("bo", bo), ("lead", lead))}
    assert {who: "Between us." in text for who, text in told.items()} == {"an": True, "bo": False, "lead": True}


def test_every_answer_carries_its_headers(cast: Cast, client: TestClient) -> None:
    an = caller(client, cast.database, cast.an)
    answers = [
        an.get("/v1/alerts"),
        an.get("/v1/rounds/nonsense"),
        an.get("/nowhere"),
        an.post("/v1/instruments"),
        an.get("/health/live"),
        an.get("/openapi.json"),
        Caller(client).get("/v1/alerts"),
    ]
    assert [each.status_code for each in answers] == [200, 422, 404, 405, 200, 200, 401]
    for each in answers:
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in each.headers["content-security-policy"]
        assert "server" not in each.headers


def test_openapi_tells_roles_statuses_and_the_problem_of_each_route(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    for (method, path), roles in EXPECTED.items():
        operation = told["paths"][path][method.lower()]
        assert operation["x-roles"] == sorted(roles), path
        if roles == ANYBODY:
            continue
        for status in ("401", "403", "404", "422"):
            content = operation["responses"][status]["content"]
            assert content == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
            }, (path, status)
        assert operation["security"] == [{"bearer": []}, {"session": []}]
    assert "ProblemView" in told["components"]["schemas"]


def test_a_token_that_has_run_out_is_nobody(cast: Cast, client: TestClient) -> None:
    from screening import db, staff

    with cast.database.unit(access.Scope(cast.district.id)) as session:
        assert cast.an.account_id is not None
        yesterday = db.now(session) - dt.timedelta(days=1)
        old = staff.issue_token(session, cast.an.account_id, 60, by=cast.an, now=yesterday)
    assert Caller(client, old).get("/v1/alerts").status_code == 401
    assert Caller(client, token_for(cast.database, cast.an)).get("/v1/alerts").status_code == 200


# -- every cell -----------------------------------------------------------------------------------------

PLACES = ("own", "same school, not assigned", "other school", "other district")
SEED = 20260901


@dataclass(frozen=True)
class Comer:
    """Somebody in one role, and where that is from the things' point of view."""

    role: str
    place: str
    caller: Caller


def comers(cast: Cast, elsewhere: Cast, client: TestClient) -> list[Comer]:
    """Everybody of each role in each place where it can be held, and nobody."""
    found = [Comer("anonymous", place, Caller(client)) for place in PLACES]
    own = {"counselor": cast.an, "lead": cast.lead}
    for role in sorted(ROLES):
        at = {"own": own.get(role) or _holder(cast, role, cast.school_a.id)}
        at["other district"] = _holder(elsewhere, role, elsewhere.school_a.id)
        if not _is_of_district(role):
            at["same school, not assigned"] = _holder(cast, role, cast.school_a.id)
            at["other school"] = _holder(cast, role, cast.school_b.id)
        found += [Comer(role, place, caller(client, cast.database, who)) for place, who in at.items()]
    return found


def _is_of_district(role: str) -> bool:
    return role in DISTRICT_ROLES | {"referral_partner", "guardian", "student"}


def _holder(cast: Cast, role: str, school_id: uuid.UUID) -> access.Actor:
    with cast.database.unit(cast.scope) as session:
        return make_staff(session, (role, None if _is_of_district(role) else school_id))[1]


@dataclass(frozen=True)
class House:
    """One of everything in school A of one district, and all who might come for it."""

    cast: Cast
    things: Things
    comers: list[Comer]

    @property
    def secrets(self) -> list[str]:
        """What nobody of another school or district may find in any answer."""
        named = (
            *("student", "upload", "roster", "assignment", "alert", "case", "follow_up", "transfer", "request"),
            *("rights_request", "export"),
        )
        return [str(getattr(self.things, name)) for name in named] + [NOTE]

    def body(self, path: str) -> Any:
        return BODIES.get(path, {"student_id": str(self.things.student)} if path.endswith("/student") else None)

    def fault(self, comer: Comer, method: str, path: str) -> str | None:
        """What is wrong with the answer in this cell; None when it is as the matrix says."""
        address = self.things.at(path, self.cast.school_a.id)
        came = comer.caller.ask(method, address, json=self.body(path))
        if comer.role == "anonymous":
            return None if came.status_code == 401 else f"{came.status_code}"
        if comer.role not in EXPECTED[method, path]:
            is_right = (came.status_code, came.json().get("code")) == (403, "forbidden")
            return None if is_right else f"{came.status_code} {came.text[:200]}"
        if comer.place == "own":
            return None if came.status_code in LET_IN else f"{came.status_code} {came.text[:200]}"
        if comer.place == "same school, not assigned":
            return self._of_same_school(comer, method, path, came)
        return self._of_elsewhere(comer, method, path, came)

    def _of_same_school(self, comer: Comer, method: str, path: str, came: Any) -> str | None:
        if NOTE in came.text and comer.role == "counselor":
            return "another's words"
        if method == "GET" and role_matrix.reach(SHOWS[method, path], comer.role) == "assigned":
            is_right = (came.status_code, came.json().get("code")) == (403, "access_needed")
            return None if is_right else f"{came.status_code} not asked for a need to know"
        return None if came.status_code in LET_IN else f"{came.status_code} {came.text[:200]}"

    def _of_elsewhere(self, comer: Comer, method: str, path: str, came: Any) -> str | None:
        leaked = [secret for secret in self.secrets if secret in came.text]
        if leaked:
            return f"leaks {leaked}"
        is_shared = path.startswith(("/v1/rounds", "/v1/destinations")) and comer.place == "other school"
        if "_id}" not in path or is_shared:
            return None if came.status_code in LET_IN else f"{came.status_code} {came.text[:200]}"
        absent = comer.caller.ask(method, address_of(path), json=self.body(path))
        if (came.status_code, came.content) != (absent.status_code, absent.content):
            return f"{came.status_code} {came.text[:100]} is not {absent.status_code} {absent.text[:100]}"
        return None if came.status_code in (404, 422) else f"{came.status_code}"


NOTE = "canary-note-3f9a"
ENDING = frozenset({"/v1/tokens/current", "/v1/sessions/current"})


@pytest.fixture
def house(cast: Cast, client: TestClient, database: Database) -> House:
    things = made_things(cast, client)
    caller(client, database, cast.an).post(f"/v1/cases/{things.case}/entries", json={"words": NOTE})
    with database.unit(cast.scope_a) as session:
        why = "She has been seeing her since spring."
        student = uuid.UUID(str(things.student))
        approvals.assign(session, student, cast.an.person, why, by=cast.lead, now=db.now(session))
    return House(cast, things, comers(cast, assemble(database), client))


@pytest.mark.storm
def test_every_cell_is_as_the_matrix_says(house: House, is_storm: bool, capsys: pytest.CaptureFixture[str]) -> None:
    routes_of = [key for key, roles in EXPECTED.items() if roles != ANYBODY and key[1] not in ENDING]
    # what ends or changes a thing comes last, so that the others still find it
    cells = [(comer, key) for key in sorted(routes_of) for comer in house.comers]
    taken = cells if is_storm else random.Random(SEED).sample(cells, len(cells) // 20)  # noqa: S311 - a sample
    wrong = []
    for comer, (method, path) in taken:
        fault = house.fault(comer, method, path)
        if fault is not None:
            wrong.append((comer.role, comer.place, method, path, fault))
    with capsys.disabled():
        places = dict(Counter(comer.place for comer, _ in taken))
        print(f"\ndoors: {len(taken)} of {len(cells)} cells, {len(taken) - len(wrong)} as the matrix says; {places}")  # noqa: T201
    assert wrong == []


def _filled(body: Any) -> set[str]:
    """The names in a body that hold something."""
    if isinstance(body, list):
        return set().union(*map(_filled, body))
    if not isinstance(body, dict):
        return set()
    return {name for name, value in body.items() if value is not None}.union(*map(_filled, body.values()))


def test_no_name_is_filled_for_a_role_that_does_not_see_its_kind(
    house: House, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, looked = [], 0
    read = [(path, roles) for (method, path), roles in EXPECTED.items() if method == "GET"]
    shown = [(comer, path) for comer in house.comers for path, roles in read if comer.role in roles]
    taken = shown if is_storm else random.Random(SEED).sample(shown, len(shown) // 5)  # noqa: S311 - a sample
    for comer, path in taken:
        came = comer.caller.get(house.things.at(path, house.cast.school_a.id))
        if came.status_code != 200 or "json" not in came.headers["content-type"]:
            continue
        looked += 1
        hidden = _filled(came.json()) & (role_matrix.hidden(comer.role) - KNOWN_ELSEWHERE.get(path, frozenset()))
        wrong += [(comer.role, comer.place, path, sorted(hidden))] if hidden else []
    with capsys.disabled():
        print(f"\nfields: {looked} bodies of 200 looked through")  # noqa: T201
    assert wrong == []


KNOWN_ELSEWHERE: dict[str, frozenset[str]] = {
    "/v1/policies": frozenset({"tier", "reasons"}),  # of a rule, not of a student
    "/v1/policies/{code}": frozenset({"tier", "reasons"}),
    "/v1/coverage": frozenset({"sex"}),  # of a group
}


def _named(told: Any, schema: Any) -> set[str]:
    """The names that a body may have."""
    if "$ref" in schema:
        return set(told["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"])
    return set().union(*(_named(told, each) for each in schema.get("anyOf", ())))


def test_no_column_can_be_written_that_a_body_does_not_name(
    house: House, app: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {column.name for table in Base.metadata.tables.values() for column in table.columns}
    told, tried, taken = app.openapi()["paths"], 0, []
    for comer in house.comers:
        for (method, path), roles in EXPECTED.items():
            operation = told.get(path, {}).get(method.lower(), {})
            content = operation.get("requestBody", {}).get("content", {})
            if comer.role not in roles or comer.place != "own" or "application/json" not in content:
                continue
            body = {name: None for name in columns} | (house.body(path) or {})  # noqa: C420 - so it is said
            came = comer.caller.ask(method, house.things.at(path, house.cast.school_a.id), json=body)
            refused = {each["column"] for each in came.json().get("problems", []) if each["code"] == "extra_forbidden"}
            tried += len(columns)
            named = _named(app.openapi(), content["application/json"]["schema"])
            is_refused = came.status_code == 422 and columns - named <= refused
            has_no_code = came.status_code == 404 and comer.role in ("guardian", "student")
            taken += [] if is_refused or has_no_code else [(comer.role, method, path)]
    with capsys.disabled():
        print(f"\nmass assignment: {tried} columns sent, {len(taken)} bodies taken")  # noqa: T201
    assert taken == []
