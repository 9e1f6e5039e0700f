"""Two student rows that are one child: tied and taken apart by two persons, and no red of either falls or is muted."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from alerts import cases, knowing, recusals, triage, tying
from alerts.models import Alert, Case
from screening import access, contradictions, erasure, history, merges, same_child, students
from screening.access import Actor
from screening.errors import Conflict, HouseError, NotFound, Refused
from screening.models import Student, StudentMerge
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, answered, cared, in_case, look, race, ring, stands
from tests.alerts.moving import move
from tests.cast import Cast
from tests.factories import decide, make_student

WHY = "The secretary typed her in twice."


@dataclass
class Twice:
    """A child who stands in school A's list twice, and those who say so."""

    cast: Cast
    student: Student
    duplicate: Student

    def unit(self, scope: access.Scope | None = None) -> Any:
        return self.cast.database.unit(scope or self.cast.scope)

    def propose(self, by: Actor | None = None, **more: Any) -> StudentMerge:
        with self.unit() as session:
            pair = (more.get("student", self.student).id, more.get("duplicate", self.duplicate).id)
            return merges.propose(session, *pair, WHY, by=by or self.cast.school_admin_a, now=MONDAY)

    def confirm(self, merge: StudentMerge, by: Actor | None = None, *, at: dt.datetime = MONDAY) -> StudentMerge:
        with self.unit() as session:
            every = tuple(contradictions.WARNINGS)
            return merges.confirm(session, merge.id, every, by=by or self.cast.lead, now=at, follow=tying.follow)

    def merge(self) -> StudentMerge:
        return self.confirm(self.propose())

    def split(self, merge: StudentMerge, *, at: dt.datetime = MONDAY) -> StudentMerge:
        with self.unit() as session:
            merges.ask_split(session, merge.id, "They are twins, I know both.", by=self.cast.lead, now=at)
        with self.unit() as session:
            return merges.confirm_split(session, merge.id, by=self.cast.school_admin_a, now=at, follow=tying.follow)

    def alert(self, alert: Alert) -> Alert:
        with self.unit() as session:
            return stands(session, alert.id)

    def case(self, case: Case) -> Case:
        with self.unit() as session:
            return cases.get(session, case.id)


@pytest.fixture
def twice(cast: Cast) -> Twice:
    with cast.database.unit(cast.scope) as session:
        return Twice(cast, make_student(session, cast.school_a.id), make_student(session, cast.school_a.id))


def refusal(act: Any, *about: Any, **more: Any) -> str:
    with pytest.raises(HouseError) as refused:
        act(*about, **more)
    return refused.value.code


# -- two persons, and their walls -----------------------------------------------------------------------


def test_one_proposes_and_another_confirms(twice: Twice) -> None:
    made = twice.propose()
    with twice.unit() as session:
        assert same_child.others(session, [twice.student.id]) == {}
    assert refusal(twice.confirm, made, twice.cast.school_admin_a) == "second_person"
    assert twice.confirm(made).state == "merged"
    assert twice.confirm(made).decided_by == twice.cast.lead.person  # twice is once
    with twice.unit() as session:
        found = same_child.others(session, [twice.student.id, twice.duplicate.id])
    assert found == {
        twice.student.id: frozenset({twice.duplicate.id}),
        twice.duplicate.id: frozenset({twice.student.id}),
    }
    assert refusal(twice.confirm, made, twice.cast.district_admin) == "decided"


def test_the_database_itself_takes_no_one_persons_word(twice: Twice) -> None:
    made = twice.propose()
    for column in ("state = 'merged', decided_by = proposed_by", "state = 'merged'"):
        with pytest.raises(Exception, match="ck_student_merges"), twice.unit() as session:
            session.execute(text(f"update student_merges set {column} where id = :id"), {"id": made.id})


def test_of_two_who_confirm_at_once_one_wins_and_the_other_is_told_who(twice: Twice) -> None:
    cast = twice.cast
    made = twice.propose()
    came = race(*(lambda by=by: twice.confirm(made, by) for by in (cast.lead, cast.district_admin)))
    [won] = [each for each in came if isinstance(each, StudentMerge)]
    [lost] = [each for each in came if isinstance(each, Conflict)]
    assert str(won.decided_by) in str(lost)


def test_what_is_not_ones_own_looks_like_nothing(twice: Twice) -> None:
    cast = twice.cast
    foreign, nobody = cast.students.in_school_b, uuid.uuid4()
    told = set()
    for other in (foreign.id, nobody):
        for pair in ((twice.student.id, other), (other, twice.student.id)):
            with pytest.raises(NotFound) as refused, twice.unit(cast.scope_a) as session:
                merges.propose(session, *pair, WHY, by=cast.school_admin_a, now=MONDAY)
            told.add(str(refused.value))
    assert told == {"There is no such student."}
    made = twice.propose()
    for look_up in (merges.get, merges.shown):
        with pytest.raises(NotFound), twice.unit(cast.scope_b) as session:
            look_up(session, made.id)
    for by in (cast.school_admin_b, cast.an, cast.principal):
        assert refusal(twice.confirm, made, by) == "not_found"
        assert refusal(twice.propose, by) == "not_found"


def test_between_two_schools_the_district_proposes_and_either_school_confirms(twice: Twice) -> None:
    cast = twice.cast
    foreign = cast.students.in_school_b
    assert refusal(twice.propose, cast.school_admin_a, duplicate=foreign) == "not_found"
    made = twice.propose(cast.district_admin, duplicate=foreign)
    for scope in (cast.scope_a, cast.scope_b):
        with twice.unit(scope) as session:
            assert [each.merge.id for each in merges.listed(session)] == [made.id]
    assert refusal(twice.confirm, made, cast.school_admin_c) == "not_found"
    with twice.unit(cast.scope_b) as session:
        every = tuple(contradictions.WARNINGS)
        merges.confirm(session, made.id, every, by=cast.school_admin_b, now=MONDAY, follow=tying.follow)
    with twice.unit(cast.scope_b) as session:
        assert students.school_of(session, foreign.id) == cast.school_b.id
        with pytest.raises(NotFound):
            students.school_of(session, twice.student.id)


def test_it_is_refused_taken_back_and_never_twice_over(twice: Twice) -> None:
    cast = twice.cast
    with twice.unit() as session:
        third = make_student(session, cast.school_a.id)
    assert refusal(twice.propose, duplicate=twice.student) == "same_student"
    made = twice.propose()
    assert twice.propose().id == made.id
    assert refusal(twice.propose, cast.lead) == "merge_waiting"
    assert refusal(twice.propose, student=third) == "merge_chain"
    assert refusal(twice.propose, student=twice.duplicate, duplicate=third) == "merge_chain"
    assert refusal(twice.propose, student=twice.duplicate, duplicate=twice.student) == "merge_chain"
    with twice.unit() as session:
        words = "I know them both, they are two."
        assert refusal(merges.refuse, session, made.id, words, by=cast.school_admin_a, now=MONDAY) == "second_person"
        assert refusal(merges.withdraw, session, made.id, by=cast.lead, now=MONDAY) == "not_yours"
        assert merges.refuse(session, made.id, words, by=cast.lead, now=MONDAY).state == "refused"
        assert merges.words_of(session, made, "reason") == WHY
    again = twice.propose()
    with twice.unit() as session:
        assert merges.withdraw(session, again.id, by=cast.school_admin_a, now=MONDAY).state == "withdrawn"
    last = twice.merge()
    assert refusal(twice.propose) == "merged"
    assert refusal(twice.propose, student=twice.duplicate, duplicate=third) == "merge_chain"
    star = twice.confirm(twice.propose(duplicate=third))
    with twice.unit() as session:
        assert same_child.others(session, [third.id])[third.id] == {twice.student.id, twice.duplicate.id}
    assert {last.state, star.state} == {"merged"}


def test_who_was_erased_is_nobody_to_be_merged(twice: Twice) -> None:
    with twice.unit() as session:
        erasure.ask(session, [twice.duplicate.id], "person", "request", by=twice.cast.system, now=MONDAY)
    assert refusal(twice.propose) == "erased_student"


def test_what_speaks_against_it_has_to_be_seen(twice: Twice) -> None:
    with twice.unit() as session:
        session.execute(text("update students set sex = 'm' where id = :id"), {"id": twice.duplicate.id})
    made = twice.propose()
    with twice.unit() as session, pytest.raises(Refused) as refused:
        merges.confirm(session, made.id, ["name_differs"], by=twice.cast.lead, now=MONDAY, follow=tying.follow)
    assert [each.code for each in refused.value.problems] == ["sex_differs"]
    assert list(twice.confirm(made).warnings) == ["name_differs", "sex_differs"]


# -- no red falls ---------------------------------------------------------------------------------------


def test_both_reds_stay_red_open_and_in_the_queue_through_merge_and_split(twice: Twice) -> None:
    with twice.unit() as session:
        held = [ring(session, each, RED) for each in (twice.student, twice.duplicate)]
    before = [(a.tier, a.state, a.answer_by, a.see_by, a.closed_at) for a in held]
    merge = twice.merge()
    for _ in range(2):
        now = [twice.alert(each) for each in held]
        assert [(a.tier, a.state, a.answer_by, a.see_by, a.closed_at) for a in now] == before
        with twice.unit(twice.cast.scope_a) as session:
            assert {a.id for a in held} <= {each.id for each in triage.queue(session, tiers=[RED])}
        if merge.state == "merged":
            merge = twice.split(merge)


def test_two_open_cases_rise_to_the_higher_and_each_ends_by_itself(twice: Twice) -> None:
    an, bo = twice.cast.an, twice.cast.bo
    with twice.unit() as session:
        low = in_case(session, twice.student, YELLOW, an)
        high = in_case(session, twice.duplicate, RED, bo)
        [alert] = session.execute(text("select id from alerts where student_id = :id"), {"id": twice.duplicate.id})
    merge = twice.merge()
    assert [twice.case(each).tier for each in (low, high)] == [RED, RED]
    with twice.unit() as session:
        [other] = tying.beside(session, twice.student.id)
        assert (other.student_id, other.alert_id, other.case_id) == (twice.duplicate.id, alert.id, high.id)
        cared(session, low, an)
        cases.propose_closure(session, low.id, "resolved", "So.", by=an, now=MONDAY)
        assert refusal(cases.confirm_closure, session, low.id, by=an, now=MONDAY) == "second_person"
        cases.confirm_closure(session, low.id, by=bo, now=MONDAY)
    assert (twice.case(high).state, twice.case(high).tier) == ("open", RED)
    assert twice.case(low).tier == RED
    twice.split(merge)
    with twice.unit() as session:
        assert stands(session, alert.id).closed_at is None


def test_a_later_signal_of_the_duplicate_waits_in_the_queue_raises_the_case_and_joins_it(twice: Twice) -> None:
    cast = twice.cast
    with twice.unit() as session:
        case = in_case(session, twice.student, YELLOW, cast.an)
    twice.merge()
    with twice.unit() as session:
        red = ring(session, twice.duplicate, RED, at=MONDAY + HOUR)
        assert red.id in {each.id for each in triage.queue(session, tiers=[RED])}
        tying.follow(session, None, cast.system, MONDAY + HOUR)
    assert (twice.case(case).tier, twice.case(case).state) == (RED, "crisis")
    with twice.unit() as session:
        cared(session, cases.get(session, case.id), cast.an, at=MONDAY + 2 * HOUR)
        tying.follow(session, None, cast.system, MONDAY + 2 * HOUR)
        assert cases.get(session, case.id).state == "assessing"  # called once
        late = MONDAY + 3 * HOUR
        with pytest.raises(Refused) as refused:
            cases.propose_closure(session, case.id, "resolved", "So.", by=cast.an, now=late)
        assert "alert_open" in [each.code for each in refused.value.problems]
        triage.acknowledge(session, red.id, by=cast.an, now=late)
        assert look(session, red.id, "case_opened", by=cast.an, at=late).case_id == case.id
        cases.propose_closure(session, case.id, "resolved", "So.", by=cast.an, now=late)
        cases.confirm_closure(session, case.id, by=cast.bo, now=late)
    assert twice.alert(red).closed_at is not None


def test_a_red_in_the_case_of_a_child_that_is_another_after_all_rings_again(twice: Twice) -> None:
    cast = twice.cast
    with twice.unit() as session:
        case = in_case(session, twice.student, ORANGE, cast.an)
    merge = twice.merge()
    with twice.unit() as session:
        red = answered(session, twice.duplicate, RED, cast.an, at=MONDAY + HOUR)
        assert look(session, red.id, "case_opened", by=cast.an, at=MONDAY + HOUR).case_id == case.id
    see_by = twice.alert(red).see_by
    twice.split(merge, at=MONDAY + 2 * HOUR)
    rung = twice.alert(red)
    assert (rung.state, rung.tier, rung.owner_id, rung.closed_at) == ("new", RED, None, None)
    assert rung.see_by <= see_by
    with twice.unit() as session:
        told = "select count(*) from deliveries where subject_id = :id and occasion like :rung"
        about = {"id": red.id, "rung": f"%{rung.raised_at.isoformat()}%"}
        assert session.execute(text(told), about).scalar_one() > 0
        triage.acknowledge(session, red.id, by=cast.bo, now=MONDAY + 3 * HOUR)
        own = look(session, red.id, "case_opened", by=cast.bo, at=MONDAY + 3 * HOUR)
        assert own.case_id not in (None, case.id)
        cared(session, cases.get(session, case.id), cast.an, at=MONDAY + 4 * HOUR)
        cases.propose_closure(session, case.id, "resolved", "So.", by=cast.an, now=MONDAY + 4 * HOUR)
        cases.confirm_closure(session, case.id, by=cast.bo, now=MONDAY + 4 * HOUR)
    assert twice.alert(red).closed_at is None


def test_taking_apart_wants_two_persons_again_and_can_be_refused(twice: Twice) -> None:
    cast = twice.cast
    merge = twice.merge()
    with twice.unit() as session:
        why = "They are twins, I know both."
        assert refusal(merges.confirm_split, session, merge.id, by=cast.lead, now=MONDAY, follow=tying.follow) == (
            "no_split_asked"
        )
        merges.ask_split(session, merge.id, why, by=cast.lead, now=MONDAY)
        assert refusal(merges.ask_split, session, merge.id, why, by=cast.school_admin_a, now=MONDAY) == "split_waiting"
        assert refusal(merges.confirm_split, session, merge.id, by=cast.lead, now=MONDAY, follow=tying.follow) == (
            "second_person"
        )
        assert [each.merge.id for each in merges.listed(session)] == [merge.id]
        merges.refuse(session, merge.id, "No: one child, I saw her papers.", by=cast.school_admin_a, now=MONDAY)
        assert merges.get(session, merge.id).split_asked_by is None
        merges.ask_split(session, merge.id, why, by=cast.lead, now=MONDAY)
        merges.withdraw(session, merge.id, by=cast.lead, now=MONDAY)
        assert same_child.others(session, [twice.student.id]) != {}
    assert twice.split(merge).state == "split"
    with twice.unit() as session:
        assert same_child.others(session, [twice.student.id]) == {}
        actions = session.execute(text("select action from audit_entries where action like 'merge.%' order by id"))
        assert [action.removeprefix("merge.") for action in actions.scalars()] == [
            "proposed", "confirmed", "split_asked", "split_refused", "split_asked", "split_withdrawn",
            "split_asked", "split",
        ]  # fmt: skip
    assert twice.merge().state == "merged"


def test_who_keeps_out_of_one_row_keeps_out_of_the_child(twice: Twice) -> None:
    cast = twice.cast
    with twice.unit() as session:
        case = in_case(session, twice.student, ORANGE, cast.an)
        recusals.recuse(session, twice.duplicate.id, cast.bo.person, "relative", by=cast.lead, now=MONDAY)
        cases.note(session, case.id, "So.", by=cast.bo, now=MONDAY)
    twice.merge()
    with twice.unit() as session:
        assert refusal(cases.note, session, case.id, "So.", by=cast.bo, now=MONDAY) == "recused"


def test_who_has_the_case_of_one_row_has_to_do_with_the_child(twice: Twice) -> None:
    an, bo = twice.cast.an, twice.cast.bo
    with twice.unit() as session:
        in_case(session, twice.student, ORANGE, an)
        assert knowing.ground(session, twice.duplicate.id, by=an, now=MONDAY) is None
    twice.merge()
    with twice.unit() as session:
        assert knowing.ground(session, twice.duplicate.id, by=an, now=MONDAY) == "case_owner"
        assert knowing.ground(session, twice.duplicate.id, by=bo, now=MONDAY) is None


def test_a_merge_is_seen_by_the_school_to_which_a_row_has_moved(twice: Twice) -> None:
    cast = twice.cast
    merge = twice.merge()
    with twice.unit() as session:
        move(session, twice.duplicate, cast.school_b, by=cast.district_admin)
    with twice.unit(cast.scope_b) as session:
        assert merges.get(session, merge.id).duplicate_school_id == cast.school_b.id
        assert same_child.others(session, [twice.duplicate.id]) != {}


def test_a_red_in_the_case_of_the_other_row_rings_again_where_its_own_row_moves(twice: Twice) -> None:
    cast = twice.cast
    with twice.unit() as session:
        in_case(session, twice.student, ORANGE, cast.an)
    twice.merge()
    with twice.unit() as session:
        red = answered(session, twice.duplicate, RED, cast.an, at=MONDAY + HOUR)
        look(session, red.id, "case_opened", by=cast.an, at=MONDAY + HOUR)
        move(session, twice.duplicate, cast.school_b, by=cast.district_admin, at=MONDAY + HOUR)
    with twice.unit(cast.scope_b) as session:
        assert [(each.id, each.state) for each in triage.queue(session, tiers=[RED])] == [(red.id, "new")]


def test_an_open_red_of_either_row_holds_the_erasure_of_both_and_a_persons_takes_the_words(twice: Twice) -> None:
    cast = twice.cast

    def erased(extent: str) -> str:
        with twice.unit() as session:
            erasure.ask(session, [twice.duplicate.id], extent, "request", by=cast.system, now=MONDAY)
            waiting = "select id from erasures where student_id = :id and state = 'waiting' and extent = :extent"
            about = {"id": twice.duplicate.id, "extent": extent}
            asked = session.execute(text(waiting), about).scalar_one()
            return str(session.execute(text("select erase_as_asked(:id)"), {"id": asked}).scalar_one())

    merge = twice.merge()
    with twice.unit() as session:
        ring(session, twice.student, RED)
    assert erased("answers") == "narrowed"
    twice.split(merge)
    assert erased("answers") == "done"
    assert erased("person") == "done"
    with twice.unit() as session:
        kept = merges.get(session, merge.id)
        assert [merges.words_of(session, kept, part) for part in ("reason", "refusal", "split")] == [None] * 3
        assert kept.state == "split"


def test_a_withdrawal_of_one_row_erases_the_other_unless_they_are_two_by_then(twice: Twice) -> None:
    merge = twice.merge()
    with twice.unit() as session:
        decide(session, twice.student.id, "withdrawn", at=MONDAY)
        waiting = "select id from erasures where student_id = :id and state = 'waiting'"
        asked = session.execute(text(waiting), {"id": twice.duplicate.id}).scalar_one()
    twice.split(merge)
    with twice.unit() as session:
        assert session.execute(text("select erase_as_asked(:id)"), {"id": asked}).scalar_one() == "taken_back"


def test_the_record_shows_both_logs_and_whose_each_is(twice: Twice) -> None:
    with twice.unit() as session:
        assert history.of_child(session, twice.student.id, by=twice.cast.lead) == []
    twice.merge()
    with twice.unit() as session:
        history.of_child(session, twice.student.id, by=twice.cast.lead)
        read = session.execute(
            text("select count(*) from audit_entries where action = 'result.read' and subject_id = :id"),
            {"id": str(twice.duplicate.id)},
        )
        assert read.scalar_one() == 1
        with pytest.raises(Conflict):
            merges.propose(session, twice.student.id, twice.duplicate.id, WHY, by=twice.cast.school_admin_a, now=MONDAY)
