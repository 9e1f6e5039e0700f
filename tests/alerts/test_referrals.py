"""A referral from consent to its first visit; what is overdue is found; a place sees one referral and no more."""

import datetime as dt
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import cases, destinations, escalation, referrals
from alerts.models import Destination, Referral
from screening import access
from screening.errors import Conflict, NotFound, NotSignedIn, Refused, TooManyAttempts
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, in_case, talk
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller

DAY = 24 * HOUR
ON = MONDAY.date()


@pytest.fixture
def place(cast: Cast) -> Destination:
    with cast.database.unit(cast.scope) as session:
        return destinations.add(
            session, "counselling_centre", "The Centre", phone="024-1", by=cast.district_admin, now=MONDAY
        )


def sent(session: Session, cast: Cast, place: Destination, *, tier: int = ORANGE, urgency: str = "routine") -> Referral:
    case = in_case(session, cast.students.granted_13, tier, cast.an)
    return referrals.make(
        session, case.id, place.id, urgency=urgency, basis="guardian", shared="Sleeps badly.", by=cast.an, now=MONDAY
    )


@pytest.mark.parametrize(("urgency", "days"), [("emergency", 1), ("urgent", 7), ("routine", 42)])
def test_a_referral_says_by_when_its_first_visit_is_known_of(
    cast: Cast, place: Destination, urgency: str, days: int
) -> None:
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place, urgency=urgency)
        assert (made.state, made.confirm_by) == ("sent", MONDAY + days * DAY)
        assert cases.get(session, made.case_id).state == "referred"
        assert referrals.shared(session, made) == "Sleeps badly."


def test_what_is_told_outside_lies_sealed(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope_a) as session:
        sent(session, cast, place)
        stored = session.execute(text("select sealed_shared from referrals")).scalars()
        assert all(b"Sleeps" not in bytes(each) for each in stored)


@pytest.mark.parametrize(
    "wrong",
    [
        {"urgency": "soon"},
        {"basis": "teacher"},
        {"basis": "override"},
        {"reason": "Why not."},
        {"basis": "override", "reason": " "},
        {"shared": " "},
    ],
)
def test_nobody_is_referred_without_consent_or_a_written_danger(
    cast: Cast, place: Destination, wrong: dict[str, str]
) -> None:
    known = {"urgency": "urgent", "basis": "guardian", "shared": "So.", "by": cast.an, "now": MONDAY}
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        with pytest.raises(Refused):
            referrals.make(session, case.id, place.id, **(known | wrong))  # type: ignore[arg-type]


def test_a_case_does_not_end_before_it_is_known_how_the_referral_went(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place, tier=YELLOW)
        case = cases.get(session, made.case_id)
        talk(session, case, cast.an)
        with pytest.raises(Refused) as refused:
            cases.propose_closure(session, case.id, "in_treatment", "There.", by=cast.an, now=MONDAY)
        assert [problem.code for problem in refused.value.problems] == ["referral_open"]
        referrals.answer(session, made.id, True, by=cast.an, now=MONDAY + HOUR)
        referrals.visit(session, made.id, "kept", ON, by=cast.an, now=MONDAY + 2 * HOUR)
        cases.propose_closure(session, case.id, "in_treatment", "There.", by=cast.an, now=MONDAY + 3 * HOUR)


def test_an_overdue_confirmation_is_found_by_the_timetable_and_told_once(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope) as session:
        made = sent(session, cast, place, urgency="urgent")
        assert referrals.unconfirmed(session, now=MONDAY + 6 * DAY) == []
        assert [each.id for each in referrals.unconfirmed(session, now=MONDAY + 7 * DAY)] == [made.id]
        for _ in range(2):
            escalation.escalate(session, now=MONDAY + 7 * DAY)
        told = session.execute(
            text("select recipient_id from deliveries where subject = 'referral' and subject_id = :id"),
            {"id": made.id},
        ).scalars()
        assert sorted(told) == sorted({cast.an.staff_id, cast.lead.staff_id})


@pytest.mark.parametrize(("outcome", "state"), [("not_kept", "not_kept"), ("refused", "visit_refused")])
def test_a_visit_that_was_not_kept_comes_back_to_the_owner_and_may_be_kept_later(
    cast: Cast, place: Destination, outcome: str, state: str
) -> None:
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place)
        assert referrals.visit(session, made.id, outcome, ON, by=cast.an, now=MONDAY + HOUR).state == state
        told = session.execute(text("select count(*) from deliveries where subject_id = :id"), {"id": made.id})
        assert told.scalar_one() == 1
        assert referrals.visit(session, made.id, "kept", ON, by=cast.bo, now=MONDAY + DAY).state == "kept"
        with pytest.raises(Conflict):
            referrals.visit(session, made.id, "not_kept", ON, by=cast.bo, now=MONDAY + DAY)
        with pytest.raises(Refused):
            referrals.visit(session, made.id, "kept", ON + dt.timedelta(days=30), by=cast.bo, now=MONDAY + DAY)


def test_a_referral_is_withdrawn_with_a_reason_in_the_story(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place)
        with pytest.raises(Refused):
            referrals.withdraw(session, made.id, " ", by=cast.an, now=MONDAY)
        referrals.withdraw(session, made.id, "They moved.", by=cast.an, now=MONDAY)
        assert "referral/withdrawn" in [line.kind for line in cases.story(session, made.case_id).lines]
        with pytest.raises(Conflict):
            referrals.answer(session, made.id, True, by=cast.an, now=MONDAY)


@pytest.mark.parametrize("who", ["principal", "chen", "district_admin", "duty_officer", "school_admin_a"])
def test_only_those_who_care_at_the_school_refer(cast: Cast, place: Destination, who: str) -> None:
    by = getattr(cast, who)
    with cast.database.unit(cast.scope) as session:
        made = sent(session, cast, place)
        acts = [
            lambda: referrals.answer(session, made.id, True, by=by, now=MONDAY),
            lambda: referrals.visit(session, made.id, "kept", ON, by=by, now=MONDAY),
            lambda: referrals.withdraw(session, made.id, "So.", by=by, now=MONDAY),
            lambda: referrals.link(session, made.id, by=by, now=MONDAY),
            lambda: referrals.refuse(session, made.case_id, place.id, explained="So.", reason="So.", by=by, now=MONDAY),
        ]
        for act in acts:
            with pytest.raises(NotFound):
                act()


# -- the directory ------------------------------------------------------------------------------------


def test_the_directory_is_the_districts_and_a_place_stands_in_it_once(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope) as session:
        with pytest.raises(Conflict):
            destinations.add(session, "counselling_centre", " The Centre ", by=cast.district_admin, now=MONDAY)
        with pytest.raises(Refused):
            destinations.add(session, "temple", "X", by=cast.district_admin, now=MONDAY)
        with pytest.raises(NotFound):
            destinations.add(session, "hotline", "X", by=cast.an, now=MONDAY)
        destinations.add(session, "hotline", "12356", is_emergency=True, by=cast.district_admin, now=MONDAY)
        assert [each.name for each in destinations.listed(session)] == ["12356", "The Centre"]
        destinations.retire(session, place.id, by=cast.district_admin, now=MONDAY)
        assert [each.name for each in destinations.listed(session)] == ["12356"]
    with cast.database.unit(cast.scope_a) as session, pytest.raises(Refused, match="any more"):
        sent(session, cast, place)


# -- the place's link ---------------------------------------------------------------------------------


def test_a_link_opens_its_one_referral_with_the_number_and_not_without(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place)
        secret, fact = referrals.link(session, made.id, by=cast.an, now=MONDAY)
    scope = referrals.scope_of_link(secret)
    assert scope == access.Scope(cast.district.id)
    with cast.database.unit(scope) as session:
        assert referrals.opened(session, secret, fact, now=MONDAY).id == made.id
        for wrong in ((secret, "000000" if fact != "000000" else "1"), (secret[:-1], fact), ("x", fact)):
            with pytest.raises(NotSignedIn):
                referrals.opened(session, *wrong, now=MONDAY)
        with pytest.raises(NotSignedIn):
            referrals.opened(session, secret, fact, now=MONDAY + 61 * DAY)
        found = referrals.opened(session, secret, fact, now=MONDAY)
        referrals.answered_by_place(session, found, True, now=MONDAY)
        assert referrals.visited_at_place(session, found, "kept", ON, now=MONDAY).ended_by is None
    with pytest.raises(NotSignedIn):
        referrals.scope_of_link("no link")


def test_a_newer_link_ends_the_one_before(cast: Cast, place: Destination) -> None:
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place)
        old = referrals.link(session, made.id, by=cast.an, now=MONDAY)
        new = referrals.link(session, made.id, by=cast.an, now=MONDAY)
        with pytest.raises(NotSignedIn):
            referrals.opened(session, *old, now=MONDAY)
        assert referrals.opened(session, *new, now=MONDAY).id == made.id


def test_the_number_is_guessed_at_ten_times_and_no_more(cast: Cast) -> None:
    secret = cast.district.id.hex + uuid.uuid4().hex
    for _ in range(10):
        referrals.admit(cast.database, secret)
    with pytest.raises(TooManyAttempts):
        referrals.admit(cast.database, secret)


def test_at_its_own_door_a_place_sees_one_referral_and_answers(cast: Cast, place: Destination) -> None:
    client = TestClient(app_on(cast.database))
    an = caller(client, cast.database, cast.an)
    with cast.database.unit(cast.scope_a) as session:
        made = sent(session, cast, place)
    key = an.post(f"/v1/referrals/{made.id}/link").json()
    shown = {"code": key["code"], "number": key["number"]}
    seen = client.post("/v1/referrals/at-place", json=shown)
    assert (seen.status_code, seen.json()["shared"], seen.json()["place"]) == (200, "Sleeps badly.", "The Centre")
    assert not {"student_id", "student_name", "case_id", "tier"} & seen.json().keys()
    wrong = client.post("/v1/referrals/at-place", json=shown | {"number": "no"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "not_signed_in")
    assert (
        client.post("/v1/referrals/at-place/answer", json=shown | {"is_accepted": True}).json()["state"] == "accepted"
    )
    visit = {"outcome": "kept", "on": "2026-09-07"}
    assert client.post("/v1/referrals/at-place/visit", json=shown | visit).json()["state"] == "kept"
    assert an.get(f"/v1/referrals/{made.id}").json()["state"] == "kept"
    codes = [client.post("/v1/referrals/at-place", json=shown | {"number": "no"}).status_code for _ in range(12)]
    assert codes[-1] == 429
