"""The queue, who answers, and how an alert ends."""

import uuid
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from alerts import cases, raising, triage
from screening import policy
from screening.access import Actor
from screening.errors import Conflict, NotFound, Refused
from screening.results import Signal
from screening.statements import Statement
from tests.alerts.episodes import (
    HOUR,
    MONDAY,
    ORANGE,
    RED,
    YELLOW,
    answered,
    in_case,
    in_unit,
    look,
    race,
    ring,
    stands,
)
from tests.cast import Cast
from tests.factories import make_student


def test_the_queue_shows_reds_first_and_then_who_is_due_first(cast: Cast) -> None:
    people = cast.students
    with cast.database.unit(cast.scope) as session:
        late_yellow = ring(session, people.granted_13, YELLOW, at=MONDAY - 72 * HOUR)
        orange = ring(session, people.own_grant_15, ORANGE, at=MONDAY)
        earlier_orange = ring(session, people.unknown_age, ORANGE, at=MONDAY - 24 * HOUR)
        red = ring(session, people.granted_17, RED, at=MONDAY)
    with cast.database.unit(cast.scope_a) as session:
        assert [row.id for row in triage.queue(session)] == [red.id, earlier_orange.id, orange.id, late_yellow.id]


def test_the_queue_can_be_walked_page_by_page_without_a_gap(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        for n in range(13):
            ring(session, make_student(session, cast.school_a.id), 1 + n % 3, at=MONDAY + n % 4 * HOUR)
    with cast.database.unit(cast.scope_a) as session:
        whole = triage.queue(session, limit=200)
        walked: list[triage.QueueRow] = []
        while page := triage.queue(session, after=walked[-1].cursor if walked else None, limit=4):
            walked += page
    assert len(whole) == 13
    assert walked == whole


def test_the_queue_is_one_schools_or_the_whole_districts(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        in_a = ring(session, cast.students.granted_13, RED)
        in_b = ring(session, cast.students.in_school_b, RED)
        assert {row.id for row in triage.queue(session)} == {in_a.id, in_b.id}
        assert [row.id for row in triage.queue(session, school_id=cast.school_b.id)] == [in_b.id]
    with cast.database.unit(cast.scope_a) as session:
        assert [row.id for row in triage.queue(session)] == [in_a.id]
        assert triage.queue(session, school_id=cast.school_b.id) == []


def test_the_queue_filters_by_tier_state_and_time(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        yellow = ring(session, cast.students.granted_13, YELLOW)
        red = answered(session, cast.students.granted_17, RED, cast.an)
        case = in_case(session, cast.students.own_grant_15, ORANGE, cast.an)
        assert [row.id for row in triage.queue(session, tiers=[YELLOW])] == [yellow.id]
        assert [row.id for row in triage.queue(session, states=["acknowledged"])] == [red.id]
        assert [row.student_id for row in triage.queue(session, states=["triaged"])] == [case.student_id]
        assert [row.id for row in triage.queue(session, due_before=MONDAY + 2 * HOUR)] == [red.id]


def test_a_row_of_the_queue_says_why(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        ring(session, cast.students.granted_13, YELLOW)
        ring(session, cast.students.granted_13, RED, rule="phq9_self_harm_daily", is_self_harm=True, at=MONDAY + HOUR)
        (row,) = triage.queue(session)
    assert [(reason.rule, reason.tier) for reason in row.reasons] == [("phq9_self_harm_daily", 3), ("phq9_raised", 1)]
    assert row.has_self_harm
    assert not row.is_late(MONDAY + HOUR)
    assert row.is_late(MONDAY + 3 * HOUR)


def test_the_queue_asks_one_question_however_long_it_is(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    later = Statement.later

    def counted(self: Statement, *about: Any) -> Any:
        asked.append(self.sql)
        return later(self, *about)

    def statements(limit: int) -> int:
        with cast.database.unit(cast.scope_a) as session:
            asked.clear()
            event.listen(cast.database.engine, "before_cursor_execute", unheard_of)
            rows = triage.queue(session, limit=limit)
            event.remove(cast.database.engine, "before_cursor_execute", unheard_of)
        assert len(rows) == limit
        return len(asked)

    def unheard_of(*_: object) -> None:
        asked.append("by the session")

    with cast.database.unit(cast.scope) as session:
        for _ in range(30):
            ring(session, make_student(session, cast.school_a.id), ORANGE)
    monkeypatch.setattr(Statement, "later", counted)
    assert statements(2) == statements(30) == 1


def test_an_upload_concern_stands_in_the_queue_with_its_place(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        concern = upload_concern(session, cast.school_a.id)
        of_no_school = upload_concern(session, None, place="Sheet1!9")
        rows = triage.queue(session)
    assert {(row.id, row.student_id, row.place) for row in rows} == {
        (concern, None, "Sheet1!7"),
        (of_no_school, None, "Sheet1!9"),
    }
    with cast.database.unit(cast.scope_a) as session:
        assert [row.id for row in triage.queue(session)] == [concern]


# -- acknowledging ------------------------------------------------------------------------------------


def test_acknowledging_says_who_looks_and_twice_is_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = ring(session, cast.students.granted_13, RED)
        first = triage.acknowledge(session, alert.id, by=cast.an, now=MONDAY)
        again = triage.acknowledge(session, alert.id, by=cast.an, now=MONDAY + HOUR)
        assert (again.id, again.at) == (first.id, MONDAY)
        assert (stands(session, alert.id).state, stands(session, alert.id).owner_id) == ("acknowledged", cast.an.person)


def test_the_second_to_acknowledge_learns_who_was_first(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, RED, cast.an)
        with pytest.raises(cases.TakenByAnother) as taken:
            triage.acknowledge(session, alert.id, by=cast.lead, now=MONDAY)
    assert taken.value.winner == cast.an.person
    assert str(cast.an.person) in taken.value.detail


def test_of_many_who_acknowledge_at_once_exactly_one_wins(cast: Cast) -> None:
    people = [cast.an, cast.bo, cast.lead, cast.principal, cast.duty_officer]
    with cast.database.unit(cast.scope) as session:
        alerts = [ring(session, make_student(session, cast.school_a.id), RED).id for _ in range(4)]
    for alert_id in alerts:
        came = race(*(in_unit(cast, triage.acknowledge, alert_id, by=who, now=MONDAY) for who in people))
        won = [made for made in came if not isinstance(made, Exception)]
        lost = [error for error in came if isinstance(error, cases.TakenByAnother)]
        assert (len(won), len(lost)) == (1, 4)
        assert {error.winner for error in lost} == {won[0].by}


def test_an_alert_raised_again_wants_a_new_answer(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.an)
        ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        assert stands(session, alert.id).state == "new"
        triage.acknowledge(session, alert.id, by=cast.bo, now=MONDAY + 2 * HOUR)
        assert len(triage.alert(session, alert.id).acknowledgements) == 2


def test_who_may_not_see_an_alert_cannot_acknowledge_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED)
        for stranger in (cast.chen, cast.school_admin_a, cast.district_analyst, cast.auditor, cast.district_admin):
            with pytest.raises(NotFound):
                triage.acknowledge(session, alert.id, by=stranger, now=MONDAY)
    with cast.database.unit(cast.scope_b) as session, pytest.raises(NotFound):
        triage.acknowledge(session, alert.id, by=cast.chen, now=MONDAY)


def test_whoever_was_told_of_an_alert_may_acknowledge_it(cast: Cast) -> None:
    """Where a school has nobody, the district's administrator hears in the end, and has to be able to answer."""
    with cast.database.unit(cast.scope) as session:
        session.execute(text("update staff_roles set until_at = now() where role = 'duty_officer'"))
        alert = ring(session, cast.students.in_school_c, RED)
        triage.acknowledge(session, alert.id, by=cast.district_admin, now=MONDAY)
        assert stands(session, alert.id).state == "acknowledged"


# -- triage -------------------------------------------------------------------------------------------


def test_a_yellow_alert_ends_as_monitored_after_a_contact(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, YELLOW, cast.an)
        made = look(session, alert.id, "monitor", by=cast.an, is_student_seen=False, contact="phone")
        now_stands = stands(session, alert.id)
        assert (now_stands.state, now_stands.closed_at) == ("triaged", MONDAY)
        assert triage.note_of(session, made) == "We talked."
        assert b"talked" not in made.sealed_note


@pytest.mark.parametrize("outcome", triage.ENDING)
def test_no_alert_ends_without_a_contact_with_the_student(cast: Cast, outcome: str) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, YELLOW, cast.an)
        with pytest.raises(Refused, match="contact"):
            look(session, alert.id, outcome, by=cast.an, contact="none", is_student_seen=False)


@pytest.mark.parametrize("tier", [ORANGE, RED])
@pytest.mark.parametrize("outcome", triage.ENDING)
def test_orange_and_red_end_only_on_two_persons_word(cast: Cast, outcome: str, tier: int) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, tier, cast.an)
        look(session, alert.id, outcome, by=cast.an)
        assert stands(session, alert.id).closed_at is None
        (row,) = triage.queue(session)
        assert row.proposed_by == cast.an.person
        with pytest.raises(Refused, match="second person"):
            triage.confirm_triage(session, alert.id, by=cast.an, now=MONDAY)
        for other in (cast.principal, cast.school_admin_a, cast.chen):
            with pytest.raises(NotFound):
                triage.confirm_triage(session, alert.id, by=other, now=MONDAY)
        confirmed = triage.confirm_triage(session, alert.id, by=cast.bo, now=MONDAY + HOUR)
        assert (confirmed.proposed_by, confirmed.confirmed_by) == (cast.an.person, cast.bo.person)
        assert stands(session, alert.id).closed_at == MONDAY + HOUR
        assert triage.queue(session) == []


def test_a_signal_after_the_proposal_voids_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.an)
        look(session, alert.id, "not_confirmed", by=cast.an)
        ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        with pytest.raises(Conflict):
            triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY + 2 * HOUR)
        triage.acknowledge(session, alert.id, by=cast.bo, now=MONDAY + 2 * HOUR)
        with pytest.raises(Conflict):
            triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY + 2 * HOUR)
        assert stands(session, alert.id).closed_at is None


def test_of_two_who_confirm_at_once_one_wins(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, RED, cast.an)
        look(session, alert.id, "monitor", by=cast.an)
    came = race(
        *(
            in_unit(cast, triage.confirm_triage, alert.id, by=who, now=MONDAY)
            for who in (cast.bo, cast.lead, cast.duty_officer)
        )
    )
    won = [made for made in came if not isinstance(made, Exception)]
    lost = [error for error in came if isinstance(error, cases.TakenByAnother)]
    assert (len(won), len(lost)) == (1, 2)
    assert {error.winner for error in lost} == {won[0].confirmed_by}


def test_opening_a_case_is_possible_whatever_somebody_proposes(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.an)
        look(session, alert.id, "not_confirmed", by=cast.an)
        with pytest.raises(cases.TakenByAnother):
            look(session, alert.id, "monitor", by=cast.bo)
        made = look(session, alert.id, "case_opened", by=cast.bo, at=MONDAY + HOUR)
        assert made.case_id is not None
        with pytest.raises(Conflict):
            triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY + HOUR)
        assert stands(session, alert.id).closed_at is None


def test_triage_opens_a_case_once_and_a_later_alert_joins_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.an)
        first = look(session, alert.id, "case_opened", by=cast.an)
        again = look(session, alert.id, "case_opened", by=cast.an)
        assert (first.id, first.outcome) == (again.id, "case_opened")
        ring(session, cast.students.granted_13, RED, at=MONDAY + HOUR)
        triage.acknowledge(session, alert.id, by=cast.bo, now=MONDAY + HOUR)
        merged = look(session, alert.id, "case_opened", by=cast.bo, at=MONDAY + HOUR)
        assert (merged.case_id, merged.outcome) == (first.case_id, "merged")
        assert first.case_id is not None
        assert cases.get(session, first.case_id).tier == RED


def test_of_two_who_triage_at_once_one_wins_and_one_case_is_opened(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, RED, cast.an)
    came = race(*(in_unit(cast, look, alert.id, "case_opened", by=who) for who in (cast.an, cast.bo, cast.lead)))
    assert sum(isinstance(error, cases.TakenByAnother) for error in came) == 2
    with cast.database.unit(cast.scope) as session:
        assert len(cases.listed(session)) == 1


def test_a_tier_is_raised_at_triage_and_never_lowered(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.an)
        with pytest.raises(Refused, match="never lowered"):
            look(session, alert.id, "case_opened", by=cast.an, tier=YELLOW)
        made = look(session, alert.id, "case_opened", by=cast.an, tier=RED)
        assert made.case_id is not None
        assert (stands(session, alert.id).tier, cases.get(session, made.case_id).tier) == (RED, RED)
        assert "raised_at_triage" in {reason.rule for reason in triage.alert(session, alert.id).row.reasons}


def test_raising_to_orange_while_ending_asks_for_a_second_person(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, YELLOW, cast.an)
        look(session, alert.id, "monitor", by=cast.an, tier=ORANGE)
        assert stands(session, alert.id).closed_at is None


@pytest.mark.parametrize("who", ["principal", "school_admin_a", "chen", "district_admin", "duty_officer"])
def test_only_who_works_in_cases_triages(cast: Cast, who: str) -> None:
    actor: Actor = getattr(cast, who)
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, YELLOW, cast.an)
        with pytest.raises(NotFound):
            look(session, alert.id, "case_opened", by=actor)


def test_an_alert_is_acknowledged_before_it_is_triaged(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = ring(session, cast.students.granted_13, YELLOW)
        with pytest.raises(Refused, match="Acknowledge"):
            look(session, alert.id, "monitor", by=cast.an)


@pytest.mark.parametrize(
    ("outcome", "more"),
    [("closed", {}), ("monitor", {"contact": "letter"}), ("case_opened", {"tier": 4}), ("monitor", {"words": "  "})],
)
def test_what_cannot_be_understood_is_refused(cast: Cast, outcome: str, more: dict[str, object]) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert = answered(session, cast.students.granted_13, YELLOW, cast.an)
        with pytest.raises(Refused):
            look(session, alert.id, outcome, by=cast.an, **more)


# -- upload concerns and people's concerns ------------------------------------------------------------


def test_an_upload_concern_goes_into_the_alert_of_the_student_it_is_found_to_be(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        concern = upload_concern(session, cast.school_a.id)
        own = ring(session, student, YELLOW)
        first = triage.identify(session, concern, student.id, by=cast.an, now=MONDAY + HOUR)
        again = triage.identify(session, concern, student.id, by=cast.an, now=MONDAY + HOUR)
        assert first.id == again.id
        assert stands(session, concern).closed_at == MONDAY + HOUR
        assert (stands(session, own.id).tier, stands(session, own.id).has_self_harm) == (RED, True)
        assert {reason.source for reason in triage.alert(session, own.id).row.reasons} > {"upload/file/Sheet1!7"}
        with pytest.raises(cases.TakenByAnother):
            triage.identify(session, concern, student.id, by=cast.bo, now=MONDAY + HOUR)


def test_an_upload_concern_is_identified_only_by_who_cares_for_that_student(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        concern = upload_concern(session, cast.school_a.id)
        for who in (cast.chen, cast.school_admin_a, cast.principal):
            with pytest.raises(NotFound):
                triage.identify(session, concern, cast.students.granted_13.id, by=who, now=MONDAY)


def test_a_red_upload_concern_ends_only_on_two_persons_word(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        concern = upload_concern(session, cast.school_a.id)
        triage.acknowledge(session, concern, by=cast.an, now=MONDAY)
        with pytest.raises(Refused, match="whose answers"):
            look(session, concern, "case_opened", by=cast.an)
        look(session, concern, "not_confirmed", by=cast.an, contact="none", is_student_seen=False, words="A test row.")
        assert stands(session, concern).closed_at is None
        triage.confirm_triage(session, concern, by=cast.lead, now=MONDAY)
        assert stands(session, concern).closed_at == MONDAY


def test_a_persons_concern_is_a_reason_with_sealed_words(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        alert_id = triage.raise_concern(
            session, cast.students.granted_13.id, ORANGE, "He gave his things away.", by=cast.an, now=MONDAY
        )
        again = triage.raise_concern(
            session, cast.students.granted_13.id, RED, "He said goodbye.", by=cast.principal, now=MONDAY + HOUR
        )
        assert alert_id == again
        found = triage.alert(session, alert_id)
        assert found.concerns == ("He gave his things away.", "He said goodbye.")
        assert (found.row.tier, found.row.state) == (RED, "new")
        stored = session.execute(text("select sealed from alert_reasons where alert_id = :id"), {"id": alert_id})
        assert all(b"goodbye" not in words for words in stored.scalars())


def test_a_concern_joins_an_alert_that_still_stands_at_the_old_school(cast: Cast) -> None:
    gone = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        old = ring(session, gone, ORANGE).id
        change = "update students set school_id = :school where district_id = :district and id = :id"
        session.execute(text(change), {"school": cast.school_b.id, "district": cast.district.id, "id": gone.id})
    with cast.database.unit(cast.scope_b) as session:
        assert triage.raise_concern(session, gone.id, RED, "She said goodbye.", by=cast.chen, now=MONDAY) == old
        with pytest.raises(NotFound):
            triage.alert(session, old)
    with cast.database.unit(cast.scope_a) as session:
        assert triage.alert(session, old).concerns == ("She said goodbye.",)


def test_a_concern_about_another_schools_student_finds_nobody(cast: Cast) -> None:
    with cast.database.unit(cast.scope_b) as session, pytest.raises(NotFound):
        triage.raise_concern(session, cast.students.granted_13.id, RED, "Seen.", by=cast.chen, now=MONDAY)


def test_every_act_is_kept_account_of(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = answered(session, cast.students.granted_13, ORANGE, cast.an)
        look(session, alert.id, "monitor", by=cast.an)
        triage.confirm_triage(session, alert.id, by=cast.lead, now=MONDAY)
        lines = session.execute(
            text("select action from audit_entries where subject_id = :id order by id"), {"id": str(alert.id)}
        ).scalars()
        assert list(lines) == ["alert.raised", "alert.acknowledged", "alert.triaged", "alert.triage_confirmed"]


def upload_concern(session: Session, school_id: uuid.UUID | None, *, place: str = "Sheet1!7") -> uuid.UUID:
    signal = Signal(
        student_id=None,
        school_id=school_id,
        rule="phq9_self_harm_daily",
        tier=RED,
        is_self_harm=True,
        source=f"upload/file/{place}",
        file_digest=b"file" + place.encode(),
        place=place,
    )
    (alert_id,) = raising.raise_alerts(session, [signal], now=MONDAY, policy=policy.shipped())
    return alert_id
