"""A child who stands in the list twice, through the doors: named by two, counted once, asked about as one."""

import uuid
from typing import Any

import polars as pl
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import following
from screening import assignments, consent, coverage, db, history, matching, policy, roster
from screening.db import Database
from screening.models import Round, Student
from tests import sending
from tests.cast import Cast
from tests.doors import Caller, answers_csv, app_on, caller, round_body
from tests.factories import decide, make_round, make_student
from tests.screening.test_roster import a_row, frame
from tests.signing import browser

WHY = "The secretary typed her in twice."
SEEN = ["name_differs", "birth_differs", "sex_differs", "both_answered", "answers_differ"]


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_on(database)


def office(cast: Cast, app: FastAPI, who: str = "school_admin_a") -> Caller:
    return caller(browser(app).client, cast.database, getattr(cast, who))


def body(student: uuid.UUID, duplicate: uuid.UUID) -> dict[str, str]:
    return {"student_id": str(student), "duplicate_id": str(duplicate), "reason": WHY}


def merged(cast: Cast, app: FastAPI, student: Student, duplicate: Student) -> dict[str, Any]:
    made = office(cast, app, "district_admin").post("/v1/merges", json=body(student.id, duplicate.id))
    assert made.status_code == 201, made.text
    seen = {"seen": [each["code"] for each in made.json()["warnings"]]}
    came = office(cast, app).post(f"/v1/merges/{made.json()['id']}/confirmation", json=seen)
    assert came.status_code == 200, came.text
    found: dict[str, Any] = came.json()
    return found


def split(cast: Cast, app: FastAPI, merge_id: str) -> None:
    why = {"reason": "They are twins, I know both."}
    assert office(cast, app, "lead").post(f"/v1/merges/{merge_id}/split", json=why).status_code == 200
    assert office(cast, app).post(f"/v1/merges/{merge_id}/split/confirmation").json()["state"] == "split"


def test_two_persons_through_the_doors_and_nothing_of_tiers_is_told(cast: Cast, app: FastAPI) -> None:
    one, other = cast.students.granted_13, cast.students.guardian_grant_16
    secretary, lead = office(cast, app), office(cast, app, "lead")
    key = {"Idempotency-Key": "twice-is-once"}
    made = secretary.post("/v1/merges", json=body(one.id, other.id), headers=key)
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/merges/{made.json()['id']}")
    assert secretary.post("/v1/merges", json=body(one.id, other.id), headers=key).json() == made.json()
    told = made.json()
    assert {each["code"] for each in told["warnings"]} == {"name_differs", "birth_differs", "sex_differs"}
    assert (told["student"]["student_name"], told["duplicate"]["student_name"]) == ("王小明", "赵磊")
    assert (told["reason"], told["state"]) == (WHY, "proposed")
    address = made.headers["location"]
    assert [each["id"] for each in lead.get("/v1/merges").json()["merges"]] == [told["id"]]
    blind = office(cast, app, "district_admin").get(address).json()
    assert {blind[row][name] for row in ("student", "duplicate") for name in ("student_name", "sex")} == {None}
    assert secretary.post(f"{address}/confirmation", json={"seen": SEEN}).json()["code"] == "second_person"
    unseen = lead.post(f"{address}/confirmation", json={"seen": ["name_differs"]})
    assert (unseen.status_code, unseen.json()["code"]) == (409, "warnings_not_seen")
    assert {each["code"] for each in unseen.json()["problems"]} == {"birth_differs", "sex_differs"}
    assert lead.post(f"{address}/confirmation", json={"seen": SEEN}).json()["state"] == "merged"
    shown = secretary.get(f"/v1/students/{one.id}").json()
    assert shown["same_child"] == [str(other.id)]
    assert secretary.post(f"{address}/confirmation", json={"seen": SEEN}).json()["code"] == "decided"


def test_unknown_and_foreign_look_alike(cast: Cast, app: FastAPI) -> None:
    own, foreign = cast.students.granted_13.id, cast.students.in_school_b.id
    secretary = office(cast, app)
    came = [secretary.post("/v1/merges", json=body(*pair)) for pair in ((own, foreign), (own, uuid.uuid4()))]
    assert {each.status_code for each in came} == {404}
    assert came[0].json() == came[1].json()
    merge = merged(cast, app, cast.students.granted_13, cast.students.guardian_grant_16)
    stranger = office(cast, app, "school_admin_b")
    answers = [stranger.get(f"/v1/merges/{each}") for each in (merge["id"], uuid.uuid4())]
    assert {each.status_code for each in answers} == {404}
    assert answers[0].json() == answers[1].json()
    assert stranger.get("/v1/merges?state=merged").json() == {"merges": []}


def test_a_later_red_form_under_the_duplicates_number_reaches_the_queue_and_the_child_counts_once(
    cast: Cast, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.read_here(monkeypatch)
    one, other = cast.students.granted_13, cast.students.guardian_grant_16
    admin, an = office(cast, app, "district_admin"), office(cast, app, "an")
    round_id = admin.post("/v1/rounds", json=round_body()).json()["id"]
    assert admin.post(f"/v1/rounds/{round_id}/open").status_code == 200

    def counts() -> tuple[int, int, int]:
        with cast.database.unit(cast.scope) as session:
            coverage.recount(session, uuid.UUID(round_id), None, db.now(session))
            [row] = coverage.funnel(session, uuid.UUID(round_id))
            waits = coverage.outstanding(session, uuid.UUID(round_id), cast.school_a.id)
            assert len(waits) == sum(
                each.figures.eligible - each.figures.submitted
                for each in coverage.funnel(session, uuid.UUID(round_id), "school")
                if each.school_id == cast.school_a.id
            )
        return row.figures.enrolled, row.figures.submitted, row.figures.tier_red

    with cast.database.unit(cast.scope_a) as session:
        place = session.execute(text("select id from assignments where student_id = :id"), {"id": one.id}).scalar_one()
        well = {f"phq9_{n}": 0 for n in range(1, 10)}
        assignments.submit(session, place, answers=well, by=cast.an, now=db.now(session))
    everybody, answered, _ = counts()
    merge = merged(cast, app, one, other)
    assert counts() == (everybody - 1, answered, 0)
    sent = sending.send(cast, uuid.UUID(round_id), answers_csv({"A007": 3}).encode(), school_id=cast.school_a.id)
    assert sent.upload.state == "loaded"
    assert counts() == (everybody - 1, answered, 1)
    [red] = [each for each in an.get("/v1/alerts").json()["alerts"] if each["student_id"] == str(other.id)]
    assert (red["tier"], red["state"]) == ("red", "new")
    assert an.get(f"/v1/alerts/{red['id']}").json()["same_child"] == [
        {"student_id": str(one.id), "alert_id": None, "case_id": None}
    ]
    with cast.database.unit(cast.scope_a) as session:
        found = history.of_child(session, one.id, by=cast.lead)
        assert [(each.student_id, each.result.tier if each.result else None) for each in found] == [
            (student, tier) for student, tier in sorted([(one.id, 0), (other.id, 3)])
        ]
    shown = office(cast, app, "lead").get(f"/v1/students/{one.id}/history").json()["rounds"]
    assert {each["student_id"] for each in shown} == {str(one.id), str(other.id)}
    split(cast, app, merge["id"])
    assert counts() == (everybody, answered + 1, 1)
    assert an.get(f"/v1/alerts/{red['id']}").json()["tier"] == "red"


def test_an_alert_of_one_row_joins_the_case_of_the_other_and_says_which(cast: Cast, app: FastAPI) -> None:
    one, other = cast.students.granted_13, cast.students.guardian_grant_16
    merged(cast, app, one, other)
    an = office(cast, app, "an")
    opened = an.post("/v1/cases", json={"student_id": str(one.id), "tier": "yellow", "words": "She is alone."}).json()
    facts = {"student_id": str(other.id), "tier": "red", "facts": "She spoke of an end.", "is_self_harm": True}
    address = an.post("/v1/alerts", json=facts).headers["location"]
    an.post(f"{address}/acknowledgement")
    said = {"outcome": "case_opened", "contact": "meeting", "is_student_seen": True, "words": "We talked."}
    came = an.post(f"{address}/triage", json=said).json()
    assert (came["state"], came["case_id"]) == ("triaged", opened["id"])
    case = an.get(f"/v1/cases/{opened['id']}").json()
    assert case["tier"] == "red"
    assert case["same_child"] == [{"student_id": str(other.id), "alert_id": came["id"], "case_id": None}]


def test_a_refusal_of_either_row_holds_for_both_and_a_split_gives_each_its_own_back(cast: Cast, app: FastAPI) -> None:
    one, other, third = cast.students.granted_13, cast.students.guardian_grant_16, cast.students.undecided_11

    def in_force() -> set[uuid.UUID]:
        with cast.database.unit(cast.scope) as session:
            asked = [each.id for each in (one, other, third)]
            return set(consent.in_force(session, asked, at=db.now(session), policy=policy.shipped()))

    merge = merged(cast, app, one, third)
    assert in_force() == {one.id, other.id, third.id}, "a guardian's grant is for the child"
    split(cast, app, merge["id"])
    assert in_force() == {one.id, other.id}
    merge = merged(cast, app, one, other)
    with cast.database.unit(cast.scope) as session:
        decide(session, other.id, "withdrawn", at=db.now(session))
        asked = session.execute(text("select student_id from erasures where state = 'waiting' and asked_at > :then"),
                                {"then": db.now(session).replace(year=2025)})  # fmt: skip
        assert {one.id, other.id} <= set(asked.scalars())
    assert in_force() == set()
    split(cast, app, merge["id"])
    assert in_force() == {one.id}


def test_a_withdrawal_at_another_school_holds_within_a_minute(cast: Cast, app: FastAPI) -> None:
    one, other = cast.students.granted_13, cast.students.in_school_b
    made = office(cast, app, "district_admin").post("/v1/merges", json=body(one.id, other.id)).json()
    seen = {"seen": [each["code"] for each in made["warnings"]]}
    assert (
        office(cast, app, "school_admin_b").post(f"/v1/merges/{made['id']}/confirmation", json=seen).status_code == 200
    )

    def in_force() -> set[uuid.UUID]:
        with cast.database.unit(cast.scope_a) as session:
            return set(consent.in_force(session, [one.id], at=db.now(session), policy=policy.shipped()))

    def a_minute_later() -> None:
        with cast.database.unit(cast.scope) as session:
            following.follow(session, None, cast.system, db.now(session))

    assert in_force() == {one.id}
    with cast.database.unit(cast.scope_b) as session:
        decide(session, other.id, "withdrawn", at=db.now(session))
    a_minute_later()
    assert in_force() == set()
    with cast.database.unit(cast.scope) as session:
        asked = session.execute(text("select count(*) from erasures where student_id = :id"), {"id": one.id})
        assert asked.scalar_one() == 1
        shared = session.execute(text("select count(*) from consents where student_id = :id"), {"id": other.id})
        before = shared.scalar_one()
    a_minute_later()
    with cast.database.unit(cast.scope) as session:
        again = session.execute(text("select count(*) from consents where student_id = :id"), {"id": other.id})
        assert again.scalar_one() == before


def test_a_form_of_either_row_asks_for_the_consent_and_the_prior_tier_of_the_child(cast: Cast, app: FastAPI) -> None:
    one, other = cast.students.granted_13, cast.students.guardian_grant_16
    with cast.database.unit(cast.scope) as session:
        earlier, screened = make_round(session), make_round(session)
        _red(session, earlier, one.id)
        places = {
            row.student_id: row.id
            for row in session.execute(
                text("select student_id, id from assignments where round_id = :round"), {"round": screened.id}
            )
        }

    def submitted(student: Student) -> assignments.Submitted:
        with cast.database.unit(cast.scope) as session:
            sent = {f"phq9_{n}": 0 for n in range(1, 10)}
            return assignments.submit(session, places[student.id], answers=sent, by=cast.an, now=db.now(session))

    merged(cast, app, one, other)
    assert submitted(other).revisions is not None
    with cast.database.unit(cast.scope) as session:
        about = {"round": screened.id, "student": other.id}
        prior = session.execute(
            text("select prior_tier from results where round_id = :round and student_id = :student"), about
        )
        assert prior.scalar_one() == 3
        decide(session, other.id, "declined", at=db.now(session))
    with pytest.raises(assignments.NotKeptNow) as refused:
        submitted(one)
    assert refused.value.code == "no_consent"


# -- lists and files ------------------------------------------------------------------------------------


def rows_of(cast: Cast, *rows: dict[str, Any]) -> tuple[list[tuple[str, uuid.UUID | None]], list[uuid.UUID]]:
    """What a list of the district's would do, done; and whom it left out."""
    with cast.database.unit(cast.scope) as session:
        received = roster.receive(session, [uuid.uuid4().bytes], "list.csv", by=cast.district_admin).id
    empty = {"sheet": pl.String, "row": pl.Int32, "column": pl.String, "code": pl.String, "message": pl.String}
    with cast.database.unit(cast.scope) as session:
        roster.lay_out(session, received, frame(*rows), pl.DataFrame(schema=empty))
    with cast.database.unit(cast.scope) as session:
        found = roster.proposal(session, received)
        told = [(row.change, row.student_id) for row in found.rows], list(found.missing)
        on = db.now(session).date()
        roster.commit(session, received, by=cast.district_admin, on=on, follow=following.follow)
    return told


def test_a_list_that_names_either_number_means_the_child_and_makes_no_third_row(cast: Cast, app: FastAPI) -> None:
    with cast.database.unit(cast.scope) as session:
        one = make_student(session, cast.school_a.id, name="周文静", number="N1")
        other = make_student(session, cast.school_a.id, name="周文敬", number="N2")
    right_name = a_row("A", "N2", "周文静")
    assert rows_of(cast, right_name)[0] == [("refused", None)]
    merged(cast, app, one, other)
    before = _students(cast)
    told, missing = rows_of(cast, right_name)
    assert told == [("same", other.id)]
    assert not {one.id, other.id} & set(missing)
    assert rows_of(cast, a_row("A", "N1", "周文静"), right_name)[0] == [("same", one.id), ("same", other.id)]
    assert _students(cast) == before


def test_one_number_at_two_schools_is_the_child_wherever_a_list_or_a_file_names_it(cast: Cast, app: FastAPI) -> None:
    with cast.database.unit(cast.scope) as session:
        screened = make_round(session)
        one = make_student(session, cast.school_a.id, name="周文静", number="N1")
        other = make_student(session, cast.school_b.id, name="周文静", number="N1")
    moving = a_row("C", "N1", "周文静")
    assert _matched(cast, screened, "N1", "周文静") == (None, "ambiguous_student")
    assert rows_of(cast, moving)[0] == [("refused", None)]
    merged(cast, app, one, other)
    assert _matched(cast, screened, "N1", "周文静") == (str(one.id), None)
    before = _students(cast)
    assert rows_of(cast, moving)[0] == [("moved", one.id)]
    assert _students(cast) == before


def test_a_prior_red_of_either_row_is_the_childs(cast: Cast, app: FastAPI) -> None:
    one, other = cast.students.granted_13, cast.students.guardian_grant_16
    with cast.database.unit(cast.scope) as session:
        earlier, screened = make_round(session), make_round(session)
        _red(session, earlier, one.id)
    assert _prior(cast, screened, earlier.id, "A007") == 0
    merged(cast, app, one, other)
    assert _prior(cast, screened, earlier.id, "A007") == 3
    assert _prior(cast, screened, earlier.id, "A001") == 3


def _red(session: Session, screened: Round, student_id: uuid.UUID) -> None:
    session.execute(
        text(
            "insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons,"
            " forms, prior_tier, rule_set_id) select r.district_id, r.id, s.id, 1, s.school_id, 3, 'valid', '{}', '{}',"
            " 0, r.rule_set_id from rounds r, students s where r.id = :round and s.id = :student"
        ),
        {"round": screened.id, "student": student_id},
    )


def _students(cast: Cast) -> int:
    with cast.database.unit(cast.scope) as session:
        return int(session.execute(text("select count(*) from students")).scalar_one())


def _match(cast: Cast, screened: Round, others: tuple[uuid.UUID, ...], number: str, name: str | None) -> dict[str, Any]:
    schema = {"key": pl.UInt32, "student_number": pl.String, "school_code": pl.String, "student_name": pl.String}
    rows = pl.DataFrame([(0, number, None, name)], schema=schema, orient="row")
    with cast.database.unit(cast.scope) as session:
        rules = matching.Rules(screened, policy.shipped(), ("self",), others, db.now(session), False)
        matching.begin(session)
        return matching.match(session, rows, rules).row(0, named=True)


def _matched(cast: Cast, screened: Round, number: str, name: str) -> tuple[str | None, str | None]:
    found = _match(cast, screened, (), number, name)
    return (None if found["verdict"] else found["student_id"]), found["verdict"]


def _prior(cast: Cast, screened: Round, earlier: uuid.UUID, number: str) -> int:
    return int(_match(cast, screened, (earlier,), number, None)["prior_tier"])
