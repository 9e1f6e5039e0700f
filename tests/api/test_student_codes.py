"""Codes on paper: each opens one thing for one person, and guessing at them is hopeless."""

import csv
import datetime as dt
import io
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from screening import audit, codes, identity, second_factor, staff
from screening.access import Scope
from screening.db import Database
from screening.models import Export, Student
from tests.cast import Cast
from tests.doors import NOBODY, Caller, app_on, caller, round_body, somebody
from tests.factories import make_student
from tests.signing import Browser, browser, do

DAILY = {f"phq9_{n}": 0 for n in range(1, 9)} | {"phq9_9": 3, "phq9_10": 0}
CALM = dict.fromkeys(DAILY, 0)


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


@dataclass(frozen=True)
class Room:
    """A round that is open, and the slips of school A."""

    cast: Cast
    app: FastAPI
    round_id: str
    slips: dict[str, dict[str, Any]]
    """By student id."""

    def slip(self, student: Student) -> dict[str, Any]:
        return self.slips[str(student.id)]

    def code(self, student: Student) -> str:
        return code_of(self.slip(student))

    def office(self) -> Caller:
        return caller(browser(self.app).client, self.cast.database, self.cast.school_admin_a)

    def again(self) -> "Room":
        return Room(self.cast, self.app, self.round_id, sheet(self.office(), self.round_id))


def sheet(office: Caller, round_id: str, **more: Any) -> dict[str, dict[str, Any]]:
    came = office.post("/v1/codes", json={"round_id": round_id, **more})
    assert came.status_code == 201, came.text
    return {slip["student_id"]: slip for slip in came.json()["slips"]}


def code_of(slip: dict[str, Any]) -> str:
    return str(slip["link"]).partition("#")[2]


@pytest.fixture
def room(cast: Cast, app: FastAPI) -> Room:
    admin = caller(browser(app).client, cast.database, cast.district_admin)
    round_id = admin.post("/v1/rounds", json=round_body()).json()["id"]
    assert admin.post(f"/v1/rounds/{round_id}/open").status_code == 200
    office = caller(browser(app).client, cast.database, cast.school_admin_a)
    return Room(cast, app, round_id, sheet(office, round_id))


@pytest.fixture
def here(app: FastAPI) -> Browser:
    return browser(app, address=f"10.4.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}")


def submit(one: Browser, assignment_id: str, answers: dict[str, int]) -> int:
    return one.post(f"/v1/assignments/{assignment_id}/submit", json={"answers": answers}).status_code


# -- sheets ---------------------------------------------------------------------------------------------


def test_a_sheet_holds_everybody_who_has_not_answered(room: Room, here: Browser) -> None:
    own = {str(student.id) for student in room.cast.students.all() if student.school_id == room.cast.school_a.id}
    assert set(room.slips) == own
    student = room.cast.students.granted_13
    slip = room.slip(student)
    assert (slip["name"], slip["number"], slip["fact"]) == ("王小明", "A001", "birth_date")
    opened = here.enter(room.code(student)).json()
    assert submit(here, opened["assignment_id"], CALM) == 200
    assert set(room.again().slips) == own - {str(student.id)}


def test_a_sheet_by_class_and_as_a_table(room: Room) -> None:
    office = room.office()
    assert len(sheet(office, room.round_id, grade=7)) == 3
    assert len(sheet(office, room.round_id, grade=7, class_name="9")) == 0
    came = office.post("/v1/codes", json={"round_id": room.round_id}, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(came.text.lstrip("\ufeff"))))
    assert {row["number"] for row in rows} == {f"A{n:03d}" for n in range(1, 11)}
    assert all(row["link"].startswith("http://127.0.0.1:8000/enter#") for row in rows)


def test_a_name_that_would_run_as_a_formula_is_text_in_the_table(room: Room) -> None:
    with room.cast.database.unit(room.cast.scope_a) as session:
        student = make_student(session, room.cast.school_a.id, name="=1+1", number="A600")
    slip = codes.Slip(student.id, "=1+1", "A600", 8, "1", "x", None, None)
    from api.v1.codes import as_csv

    made = Export(id=NOBODY, purpose="screening")
    assert f",'=1+1,A600,http://x/enter#x,,,screening,{NOBODY}" in as_csv([slip], "http://x", made)


def test_codes_come_as_qr_too(room: Room) -> None:
    came = room.office().post("/v1/codes?drawn=true", json={"round_id": room.round_id, "grade": 9}).json()
    assert all(slip["qr"].startswith("<svg") for slip in came["slips"])


def test_only_the_own_schools_sheets_are_made(room: Room) -> None:
    other = caller(browser(room.app).client, room.cast.database, room.cast.school_admin_b)
    found = sheet(other, room.round_id)
    assert set(found) == {str(room.cast.students.in_school_b.id)}
    assert other.post("/v1/codes", json={"round_id": room.round_id, "school": "A"}).status_code == 404
    assert other.post("/v1/codes", json={"round_id": str(NOBODY)}).status_code == 404


def test_what_a_code_is_worth_and_how_it_is_kept(room: Room) -> None:
    assert codes.LINK_BYTES * 8 >= 128
    made = [code_of(slip) for slip in room.slips.values()]
    assert len(set(made)) == len(made)
    shorts = [slip["short_code"] for slip in room.slips.values() if slip["short_code"]]
    assert all(len(second_factor.as_typed(short)) == 14 for short in shorts)
    with room.cast.database.unit(room.cast.scope) as session:
        kept = " ".join(session.execute(text("select c::text from codes c union all select e::text"
                                             " from audit_entries e")).scalars())  # fmt: skip
    for plain in (*made, *shorts, *(second_factor.as_typed(short) for short in shorts), "王小明"):
        assert plain not in kept


def test_a_code_is_given_without_a_birth_date_too_but_no_short_one(room: Room) -> None:
    slip = room.slip(room.cast.students.unknown_age)
    assert (slip["short_code"], slip["fact"]) == (None, None)


# -- students -------------------------------------------------------------------------------------------


def test_a_student_reaches_the_own_form_and_nothing_else(room: Room, here: Browser) -> None:
    student = room.cast.students.granted_13
    opened = here.enter(room.code(student)).json()
    assert (opened["kind"], opened["student_id"]) == ("student", str(student.id))
    own = opened["assignment_id"]
    assert here.ask("PUT", f"/v1/assignments/{own}/answers", json={"answers": {"phq9_1": 1}}).json()["is_kept"] is True
    other = browser(room.app, address="10.4.251.1").enter(room.code(room.cast.students.granted_17)).json()
    for assignment_id in (other["assignment_id"], str(NOBODY)):
        refused = here.ask("PUT", f"/v1/assignments/{assignment_id}/answers", json={"answers": {"phq9_1": 1}})
        assert refused.status_code == 404
        assert submit(here, assignment_id, CALM) == 404
    for address in (
        "/v1/alerts",
        f"/v1/students/{student.id}",
        f"/v1/students/{student.id}/history",
        f"/v1/results/{student.id}/{room.round_id}",
        "/v1/instruments",
        "/v1/rounds",
        "/v1/tokens",
        "/v1/sessions",
    ):
        assert here.get(address).status_code == 403, address
    assert here.post("/v1/tokens", json={"minutes": 5}).status_code == 403
    assert here.get("/v1/accounts/me").json()["roles"] == [{"role": "student", "school": "A"}]


def test_a_student_is_shown_the_questions_and_the_own_answers_so_far(room: Room, here: Browser) -> None:
    own = here.enter(room.code(room.cast.students.granted_13)).json()["assignment_id"]
    address = f"/v1/assignments/{own}"
    here.ask("PUT", f"{address}/answers", json={"answers": {"phq9_1": 1, "phq9_2": None}})
    shown = here.get(address).json()
    assert (shown["is_open"], shown["language"]) == (True, "en")
    (form,) = shown["forms"]
    assert (form["instrument"], form["form"], form["has_text"], form["is_handed_in"]) == ("phq9", "self", True, False)
    assert form["items"][0]["text"] == "Little interest or pleasure in doing things"
    assert [option["code"] for option in form["answer_sets"][form["items"][0]["answer_set"]]] == [0, 1, 2, 3]
    assert (form["saved"]["phq9_1"], form["saved"]["phq9_9"]) == (1, None)
    without = here.get(address, params={"language": "zh_CN"}).json()["forms"][0]
    assert (without["has_text"], without["items"][0]["text"], without["stem"]) == (False, None, None)
    assert without["title"] != form["title"]
    assert here.get(address, params={"language": "Klingon"}).status_code == 422
    assert here.get(f"/v1/assignments/{NOBODY}").status_code == 404
    an = caller(browser(room.app).client, room.cast.database, room.cast.an)
    assert an.get(address).json()["forms"][0]["saved"] is None, "what a student has not handed in is the student's"
    chen = caller(browser(room.app).client, room.cast.database, room.cast.chen)
    assert chen.get(address).status_code == 404


def test_what_was_handed_in_is_not_shown_again(room: Room, here: Browser) -> None:
    own = here.enter(room.code(room.cast.students.granted_13)).json()["assignment_id"]
    assert submit(here, own, CALM) == 200
    (form,) = here.get(f"/v1/assignments/{own}").json()["forms"]
    assert (form["is_handed_in"], form["saved"]) == (True, {})


def test_a_students_red_answer_reaches_the_queue_before_anything_is_handed_in(room: Room, here: Browser) -> None:
    own = here.enter(room.code(room.cast.students.granted_13)).json()["assignment_id"]
    assert here.ask("PUT", f"/v1/assignments/{own}/answers", json={"answers": {"phq9_9": 3}}).status_code == 200
    an = caller(browser(room.app).client, room.cast.database, room.cast.an)
    assert [alert["tier"] for alert in an.get("/v1/alerts").json()["alerts"]] == ["red"]


def test_a_students_red_answer_without_consent_reaches_the_queue_too(room: Room, here: Browser) -> None:
    own = here.enter(room.code(room.cast.students.declined_12)).json()["assignment_id"]
    assert submit(here, own, DAILY) == 409
    an = caller(browser(room.app).client, room.cast.database, room.cast.an)
    assert [alert["tier"] for alert in an.get("/v1/alerts").json()["alerts"]] == ["red"]


def test_a_change_by_a_students_cookie_needs_the_pages_token(room: Room, here: Browser) -> None:
    own = here.enter(room.code(room.cast.students.granted_13)).json()["assignment_id"]
    refused = here.ask("PUT", f"/v1/assignments/{own}/answers", json={"answers": {}}, headers={"X-CSRF-Token": "0"})
    assert refused.json()["code"] == "csrf"


def test_a_new_entry_ends_the_one_before(room: Room, here: Browser) -> None:
    code = room.code(room.cast.students.granted_13)
    here.enter(code)
    elsewhere = browser(room.app, address="10.4.252.1")
    assert elsewhere.enter(code).status_code == 200
    assert here.get("/v1/accounts/me").status_code == 401
    assert elsewhere.get("/v1/accounts/me").status_code == 200


def test_a_code_is_over_once_the_form_is_handed_in_and_its_session_shortly_after(room: Room, here: Browser) -> None:
    code = room.code(room.cast.students.granted_13)
    own = here.enter(code).json()["assignment_id"]
    assert submit(here, own, CALM) == 200
    assert here.enter(code).status_code == 401
    assert submit(here, own, CALM) == 200  # an answer that got lost on its way is asked for again
    do(room.cast.database, "update sessions set expires_at = expires_at - interval '2 minutes'")
    assert submit(here, own, CALM) == 401


def test_what_was_not_kept_leaves_the_code_good(room: Room, here: Browser) -> None:
    code = room.code(room.cast.students.granted_13)
    own = here.enter(code).json()["assignment_id"]
    assert submit(here, own, {"phq9_1": 9}) == 422
    assert here.enter(code).status_code == 200


def test_a_code_is_over_with_the_schools_window(room: Room, here: Browser) -> None:
    code = room.code(room.cast.students.granted_13)
    here.enter(code)
    do(room.cast.database, "update codes set expires_at = now() where kind = 'student'")
    do(room.cast.database, "update sessions set expires_at = now() where code_id is not null")
    assert here.enter(code).status_code == 401
    assert here.get("/v1/accounts/me").status_code == 401


def test_no_session_outlives_the_window(room: Room, here: Browser) -> None:
    soon = "update codes set expires_at = now() + interval '10 minutes' where kind = 'student'"
    do(room.cast.database, soon)
    until = dt.datetime.fromisoformat(here.enter(room.code(room.cast.students.granted_13)).json()["expires_at"])
    assert until < dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)


def test_codes_end_when_others_are_made_and_what_was_begun_with_them(room: Room, here: Browser) -> None:
    student = room.cast.students.granted_13
    here.enter(room.code(student))
    later = room.again()
    assert here.get("/v1/accounts/me").status_code == 401
    assert here.enter(room.code(student)).status_code == 401
    assert here.enter(later.code(student)).status_code == 200


def test_no_codes_are_made_for_a_round_that_is_over(room: Room) -> None:
    admin = caller(browser(room.app).client, room.cast.database, room.cast.district_admin)
    assert admin.post(f"/v1/rounds/{room.round_id}/close").status_code == 200
    refused = room.office().post("/v1/codes", json={"round_id": room.round_id})
    assert (refused.status_code, refused.json()["code"]) == (409, "round_not_open")


# -- short codes ----------------------------------------------------------------------------------------


def born(cast: Cast, student: Student) -> str:
    with cast.database.unit(cast.scope) as session:
        on = identity.people(session, [student.id])[student.id].born_on
    assert on is not None
    return on.isoformat()


def test_a_short_code_counts_only_with_the_birth_date(room: Room, here: Browser) -> None:
    student = room.cast.students.granted_13
    short, date = room.slip(student)["short_code"], born(room.cast, student)
    assert here.enter(short).status_code == 401
    assert here.enter(short, "2001-01-01").status_code == 401
    assert here.enter(short, born(room.cast, room.cast.students.granted_17)).status_code == 401
    for typed, told in (
        (short, date),
        (short.lower().replace("-", " "), date.replace("-", "")),
        (short, "２０１３" + date[4:]),
    ):
        assert here.enter(typed, told).status_code == 200, (typed, told)


def test_wrong_dates_use_a_short_code_up_and_the_link_stays_good(room: Room, here: Browser) -> None:
    student = room.cast.students.granted_13
    short = room.slip(student)["short_code"]
    came = [here.enter(short, f"2001-01-{day:02d}").status_code for day in range(1, 15)]
    assert came == [401] * 10 + [429] * 4
    assert here.enter(short, born(room.cast, student)).status_code == 429
    assert here.enter(room.code(student)).status_code == 200


def test_guesses_are_rationed_by_address_and_by_school(room: Room, here: Browser) -> None:
    tag = room.slip(room.cast.students.granted_13)["short_code"][:4]
    guess = f"{tag}-00000-0000"
    one = browser(room.app, address="10.4.253.1")
    came = [one.enter(f"{guess}{n}", "2012-01-01").status_code for n in "0123456789ABCDEFGHJKMNPQRSTVWXYZ0123456789"]
    assert came.count(401) <= 32
    assert came[-1] == 429
    assert here.enter(f"{guess}0", "2012-01-01").status_code == 401  # another address is another ration
    master = room.cast.database.master_key
    assert second_factor.as_typed(tag) == codes.school_tag(master, room.cast.school_a.id)
    do(room.cast.database, "update guesses set free_at = now() + interval '30 days' where failures > 30")
    assert one.enter(room.code(room.cast.students.granted_13)).status_code == 200  # a link waits for nobody


def test_all_guesses_of_a_round_together_hit_less_than_once_in_a_million_rounds() -> None:
    """A city: 1,300 schools of 5,000 students who have not answered, guessed at without pause for 30 days."""
    assert codes.expected_hits(schools=1_300, codes_per_school=5_000, days=30) <= 1e-6
    ration = codes.per_school("")
    taken = ration.burst + 30 * 86_400 / ration.seconds
    assert taken == 43_700
    assert codes.expected_hits(schools=1_300, codes_per_school=5_000, days=30) == pytest.approx(
        1_300 * 43_700 * 5_000 / 2**50 / 300
    )


# -- guardians ------------------------------------------------------------------------------------------


@pytest.fixture
def slips(room: Room) -> dict[str, dict[str, Any]]:
    with room.cast.database.unit(room.cast.scope_a) as session:
        make_student(session, room.cast.school_a.id, name="何一诺", number="A700", phone="138 0013 8000", consents=[])
    came = room.office().post("/v1/codes/guardians", json={})
    assert came.status_code == 201, came.text
    assert came.json()["without"] == [str(room.cast.students.unknown_age.id)]
    return {slip["number"]: slip for slip in came.json()["slips"]}


def decide(one: Browser, student_id: str, decision: str) -> Any:
    return one.post(f"/v1/consents/{student_id}", json={"decision": decision, "notice_version": "2026-09"})


def test_a_guardian_decides_for_the_own_child_and_nobody_elses(
    room: Room, here: Browser, slips: dict[str, dict[str, Any]]
) -> None:
    slip = slips["A700"]
    assert (slip["short_code"], slip["fact"]) == (None, "phone")
    assert here.enter(code_of(slip)).status_code == 401
    assert here.enter(code_of(slip), "8001").status_code == 401
    opened = here.enter(code_of(slip), "8000").json()
    assert (opened["kind"], opened["assignment_id"]) == ("guardian", None)
    own = opened["student_id"]
    for decision in ("granted", "withdrawn", "granted"):
        came = decide(here, own, decision)
        assert came.status_code == 200, came.text
        assert [(one["given_by"], one["decision"]) for one in came.json()["decisions"]] == [("guardian", decision)]
    other = str(room.cast.students.granted_13.id)
    assert decide(here, other, "withdrawn").status_code == 404
    assert here.get(f"/v1/consents/{other}").status_code == 404
    for address in ("/v1/consents", "/v1/alerts", f"/v1/students/{own}", f"/v1/students/{own}/history"):
        assert here.get(address).status_code == 403


def test_what_a_guardian_decides_is_kept_account_of(
    room: Room, here: Browser, slips: dict[str, dict[str, Any]]
) -> None:
    own = here.enter(code_of(slips["A700"]), "8000").json()["student_id"]
    decide(here, own, "granted")
    with room.cast.database.unit(room.cast.scope) as session:
        roles = session.execute(
            text("select role, subject_id from audit_entries where action = 'consent.recorded' and subject_id = :id"),
            {"id": own},
        ).all()
    assert [tuple(row) for row in roles] == [("guardian", own)]


def test_a_student_speaks_for_themselves(room: Room, here: Browser) -> None:
    student = room.cast.students.guardian_grant_16
    here.enter(room.code(student))
    came = decide(here, str(student.id), "declined")
    assert {(one["given_by"], one["decision"]) for one in came.json()["decisions"]} == {
        ("guardian", "granted"),
        ("student", "declined"),
    }


def test_a_guardians_ration_is_ten_and_four_a_day(here: Browser, slips: dict[str, dict[str, Any]]) -> None:
    code = code_of(slips["A700"])
    assert [here.enter(code, f"{n:04d}").status_code for n in range(12)] == [401] * 10 + [429] * 2


def test_failed_entries_are_kept_account_of_in_the_district(room: Room, here: Browser) -> None:
    here.enter(room.slip(room.cast.students.granted_13)["short_code"], "2001-01-01")
    with room.cast.database.unit(Scope(room.cast.district.id)) as session:
        rows = session.execute(text("select role, subject from audit_entries where action = 'sign_in.failed'")).all()
    assert [tuple(row) for row in rows] == [("student", "code")]


@pytest.mark.parametrize("role", ["student", "guardian"])
def test_an_account_that_was_given_such_a_role_has_nothing_of_its_own(room: Room, here: Browser, role: str) -> None:
    student = room.cast.students.granted_13
    own = here.enter(room.code(student)).json()["assignment_id"]
    odd = caller(browser(room.app).client, room.cast.database, somebody(room.cast, role))
    assert odd.ask("PUT", f"/v1/assignments/{own}/answers", json={"answers": {}}).status_code in (403, 404)
    assert (
        odd.post(f"/v1/consents/{student.id}", json={"decision": "declined", "notice_version": "1"}).status_code == 404
    )


def test_a_student_is_no_member_of_the_staff(room: Room, here: Browser) -> None:
    here.enter(room.code(room.cast.students.granted_13))
    assert staff.actor_by_token(room.cast.database, here.client.cookies["screening"]) is None


def test_a_guardian_sees_who_opened_the_childs_record_and_nobody_elses(
    room: Room, here: Browser, slips: dict[str, dict[str, Any]]
) -> None:
    own = here.enter(code_of(slips["A700"]), "8000").json()["student_id"]
    with room.cast.database.unit(room.cast.scope) as session:
        for action, subject_id in (("result.read", own), ("result.read", str(room.cast.students.granted_13.id))):
            audit.record(session, room.cast.an, action, "student", subject_id)
    told = here.get(f"/v1/audit/{own}").json()["readings"]
    assert [(one["role"], one["what"]) for one in told[:1]] == [("counselor", "record")]
    assert {one["what"] for one in told[1:]} == {"name"}  # the slip was printed with it
    assert set(told[0]) == {"at", "role", "what"}
    assert here.get(f"/v1/audit/{room.cast.students.granted_13.id}").status_code == 404
