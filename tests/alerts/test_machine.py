"""One person alone, with every verb there is, and whatever else may happen: a red stays red, open and in sight."""

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from alerts import (
    cases,
    conferences,
    destinations,
    entries,
    escalation,
    follow_ups,
    following,
    interviews,
    plans,
    raising,
    recusals,
    referrals,
    transfers,
    triage,
    tying,
)
from alerts.models import Destination
from screening import access, contradictions, db, merges, policy, rounds
from screening.db import Database
from screening.errors import HouseError
from screening.models import Round, Student, StudentMerge
from screening.results import Signal
from tests.alerts.episodes import HOUR, MONDAY, RED, ring
from tests.alerts.moving import move
from tests.cast import Cast
from tests.factories import make_round, make_staff, make_student

CARING = ("an", "bo", "lead", "chen")
PEOPLE = (*CARING, *CARING, "principal", "duty_officer", "district_admin", "school_admin_a")
"""Whoever may do most comes most often."""
QUIET = {
    "thoughts": "none",
    "plan": "none",
    "means": "none",
    "intent": "none",
    "attempt": "none",
    "company": "with_somebody",
    "hold": "several",
}


class Alone(RuleBasedStateMachine):
    """A student with a red, and one person who is on their own for the whole sequence."""

    cast: ClassVar[Cast]
    place: ClassVar[Destination]
    round: ClassVar[Round]
    chief: ClassVar[access.Actor]
    """A second one who may decide in the whole district."""
    done: ClassVar[Counter[str]] = Counter()

    @initialize(who=st.sampled_from(PEOPLE), is_in_case=st.booleans(), is_tied=st.booleans())
    def begin(self, who: str, is_in_case: bool, is_tied: bool) -> None:
        self.now = MONDAY
        self.by: access.Actor = getattr(self.cast, who)
        self.scope = self.by.scope_as({held.role for held in self.by.roles})
        with self.cast.database.unit(self.cast.scope) as session:
            self.student: Student = make_student(session, self.cast.school_a.id)
            self.other: Student = make_student(session, self.cast.school_a.id)
            self.alert = ring(session, self.student, RED, at=MONDAY).id
        self.worst: dict[uuid.UUID, int] = {}
        with self.cast.database.unit(self.cast.scope) as session:
            if is_in_case:
                helper = self.cast.bo if who != "bo" else self.cast.an
                triage.acknowledge(session, self.alert, by=helper, now=MONDAY)
                known = {"contact": "meeting", "is_student_seen": True, "words": "So."}
                triage.triage(session, self.alert, "case_opened", by=helper, now=MONDAY, **known)  # type: ignore[arg-type]
        self.done["sequences"] += 1
        if is_tied:
            self.two_others_tie_the_rows(is_the_student_counted=is_in_case)
        else:
            self.tie_and_untie(is_the_student_counted=is_in_case)

    def act(self, verb: Callable[..., object], *about: object, **more: object) -> None:
        """The person's own act in their own scope; what the house refuses has not happened."""
        self.now += HOUR
        self.done["acts"] += 1
        try:
            with self.cast.database.unit(self.scope) as session:
                verb(session, *about, by=self.by, now=self.now, **more)
        except HouseError:
            self.done["refused"] += 1

    def happens(self, verb: Callable[..., object], *about: object, **more: object) -> None:
        self.now += HOUR
        self.done["events"] += 1
        with self.cast.database.unit(self.cast.scope) as session:
            verb(session, *about, **more)

    def happens_if_allowed(self, verb: Callable[..., object], *about: object, by: access.Actor, **more: object) -> None:
        try:
            self.happens(verb, *about, by=by, now=self.now, **more)
        except HouseError:
            self.done["not allowed"] += 1

    @property
    def merge(self) -> StudentMerge | None:
        """The latest that was proposed of the two rows."""
        with self.cast.database.unit(self.cast.scope) as session:
            return self.merge_in(session)

    def merge_in(self, session: Session) -> StudentMerge | None:
        return session.scalars(
            select(StudentMerge)
            .where(StudentMerge.duplicate_id.in_([self.student.id, self.other.id]))
            .order_by(StudentMerge.proposed_at.desc())
            .limit(1)
        ).one_or_none()

    def somebody_else(self, than: uuid.UUID | None) -> access.Actor:
        """Somebody who may decide about the two rows wherever they stand, and is not that person."""
        chief: access.Actor = self.cast.district_admin
        return self.chief if than == chief.person else chief

    def latest(self, table: str, order: str) -> uuid.UUID:
        with self.cast.database.unit(self.cast.scope) as session:
            found: uuid.UUID | None = session.execute(
                text(f"select t.id from {table} t order by t.{order} desc limit 1")
                if table in ("transfers",)
                else text(
                    f"select t.id from {table} t join cases c on c.id = t.case_id where c.student_id = :student"
                    f" order by t.{order} desc limit 1"
                ),
                {"student": self.student.id},
            ).scalar()
            return found or uuid.uuid4()

    @property
    def case(self) -> uuid.UUID:
        with self.cast.database.unit(self.cast.scope) as session:
            found: uuid.UUID | None = session.execute(
                text("select id from cases where student_id = :student order by opened_at desc limit 1"),
                {"student": self.student.id},
            ).scalar()
            return found or uuid.uuid4()

    # -- what one person may try ----------------------------------------------------------------------

    @rule()
    def acknowledge(self) -> None:
        self.act(triage.acknowledge, self.alert)

    @rule(
        outcome=st.sampled_from(["case_opened", "merged", "monitor", "not_confirmed", "wrong_student"]),
        contact=st.sampled_from(triage.CONTACTS),
        tier=st.none() | st.integers(1, 3),
    )
    def answer(self, outcome: str, contact: str, tier: int | None) -> None:
        more = {"contact": contact, "is_student_seen": contact != "none", "words": "So.", "tier": tier}
        self.act(triage.acknowledge, self.alert)
        self.act(triage.triage, self.alert, outcome, **more)
        self.act(triage.confirm_triage, self.alert)

    @rule()
    def say_it_is_another(self) -> None:
        self.act(triage.misplace, self.alert, self.other.id, "Two of one name.")
        self.act(triage.confirm_triage, self.alert)

    @rule(tier=st.integers(0, 3))
    def raise_or_lower(self, tier: int) -> None:
        self.act(cases.raise_tier, self.case, tier)
        self.act(
            conferences.write,
            self.case,
            tier=tier,
            attended=["counselor", "lead"],
            decision="So.",
            held_at=self.now,
        )
        self.act(conferences.confirm, self.latest("conferences", "written_at"))

    @rule(has_risk=st.booleans())
    def talk(self, has_risk: bool) -> None:
        self.act(
            interviews.write,
            self.case,
            mode="meeting",
            is_student_seen=True,
            has_current_risk=has_risk,
            is_concern_confirmed=False,
            words="So.",
            held_at=self.now,
        )

    @rule(outcome=st.sampled_from(["denied", "misclick", "disclosed"]))
    def check(self, outcome: str) -> None:
        about = {"mode": "meeting", "outcome": outcome, "answers": QUIET, "words": "So.", "held_at": self.now}
        self.act(interviews.check_safety, self.case, **about)

    @rule(reason=st.sampled_from(["resolved", "in_treatment", "transferred", "not_confirmed"]))
    def end(self, reason: str) -> None:
        self.talk(has_risk=False)
        self.act(cases.propose_closure, self.case, reason, "So.")
        self.act(cases.confirm_closure, self.case)

    @rule()
    def go_on(self) -> None:
        self.act(cases.reject_closure, self.case)

    @rule()
    def promise_and_leave(self) -> None:
        self.act(follow_ups.plan, self.case, "phone")
        self.act(follow_ups.leave, self.latest("follow_ups", "planned_at"), "no_longer_needed", "So.")
        self.act(follow_ups.missed, self.latest("follow_ups", "planned_at"), "not_reached")
        self.act(follow_ups.done, self.latest("follow_ups", "planned_at"), "So.")

    @rule()
    def plan(self) -> None:
        today = self.now.date()
        action = plans.Action("A talk", "counselor", today + dt.timedelta(days=7))
        content = plans.Content(("To sleep.",), (action,), ())
        review = today + dt.timedelta(days=30)
        self.act(plans.write, self.case, content, owner=self.by.person, review_on=review)

    @rule(basis=st.sampled_from(["guardian", "override"]))
    def refer(self, basis: str) -> None:
        reason = "Danger." if basis == "override" else None
        more = {"urgency": "routine", "basis": basis, "shared": "So.", "reason": reason}
        self.act(referrals.make, self.case, self.place.id, **more)
        self.act(referrals.visit, self.latest("referrals", "made_at"), "kept", self.now.date())
        self.act(referrals.refuse, self.case, self.place.id, explained="So.", reason="So.")

    @rule(kind=st.sampled_from(["leave", "return_assessment", "absence"]))
    def write_entry(self, kind: str) -> None:
        fields: dict[str, dict[str, str | bool]] = {
            "leave": {"why": "health", "is_guardian_informed": True},
            "return_assessment": {"finding": "fit", "is_clinic_heard": True, "is_guardian_present": True},
            "absence": {"is_guardian_phoned": True, "is_guardian_reached": False, "is_student_safe": True},
        }
        self.act(entries.fill, self.case, kind, fields[kind], "So.")

    @rule(to=st.sampled_from(["an", "bo", "lead"]))
    def pass_on(self, to: str) -> None:
        self.act(cases.hand_over, self.case, getattr(self.cast, to).person, "absent")

    @rule(whom=st.sampled_from(["an", "bo", "lead"]))
    def keep_out(self, whom: str) -> None:
        self.act(recusals.recuse, self.student.id, getattr(self.cast, whom).person, "relative")

    @rule(school=st.sampled_from(["school_a", "school_b", "school_c"]))
    def send_away(self, school: str) -> None:
        self.act(transfers.propose, self.case, getattr(self.cast, school).id, "So.")
        self.act(transfers.withdraw, self.latest("transfers", "proposed_at"))

    @rule(is_taken=st.booleans())
    def take_over(self, is_taken: bool) -> None:
        last = self.latest("transfers", "proposed_at")
        if is_taken:
            self.act(transfers.accept, last)
        else:
            self.act(transfers.decline, last, "not_here", "So.")

    @rule(is_the_student_counted=st.booleans())
    def tie_and_untie(self, is_the_student_counted: bool) -> None:
        pair = [self.student.id, self.other.id]
        self.act(merges.propose, *(pair if is_the_student_counted else pair[::-1]), "They are one child.")
        if (merge := self.merge) is not None:
            self.act(merges.confirm, merge.id, list(contradictions.WARNINGS), follow=tying.follow)
            self.act(merges.ask_split, merge.id, "They are two children.")
            self.act(merges.confirm_split, merge.id, follow=tying.follow)

    @rule(is_said=st.booleans())
    def take_back(self, is_said: bool) -> None:
        if (merge := self.merge) is not None:
            self.act(merges.refuse, merge.id, "No, I know them both.")
            self.act(merges.withdraw, merge.id)

    @rule(outcome=st.sampled_from(["case_opened", "monitor", "not_confirmed"]))
    def answer_the_other(self, outcome: str) -> None:
        for alert in self.open_alerts(self.other):
            self.act(triage.acknowledge, alert)
            self.act(triage.triage, alert, outcome, contact="meeting", is_student_seen=True, words="So.")
            self.act(triage.confirm_triage, alert)

    @rule(reason=st.sampled_from(["resolved", "not_confirmed"]))
    def end_the_others_case(self, reason: str) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            found = session.execute(text("select id from cases where student_id = :id"), {"id": self.other.id})
            ids = list(found.scalars())
        for case_id in ids:
            self.act(interviews.write, case_id, mode="meeting", is_student_seen=True, has_current_risk=False,
                     is_concern_confirmed=False, words="So.", held_at=self.now)  # fmt: skip
            self.act(cases.propose_closure, case_id, reason, "So.")
            self.act(cases.confirm_closure, case_id)

    # -- what happens besides -------------------------------------------------------------------------

    @rule(school=st.sampled_from(["school_a", "school_b", "school_c"]))
    def a_list_moves_the_student(self, school: str) -> None:
        self.happens(move, self.student, getattr(self.cast, school), by=self.cast.district_admin, at=self.now)

    @rule(tier=st.integers(1, 3), kind=st.sampled_from(["model", "phq9_raised", "phq9_high"]))
    def an_upload_or_a_model_says_something_milder_or_not(self, tier: int, kind: str) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            school = session.execute(
                text("select school_id from students where id = :id"), {"id": self.student.id}
            ).scalar_one()
        signal = Signal(
            student_id=self.student.id,
            school_id=school,
            rule=kind,
            tier=min(tier, 2) if kind == "model" else tier,
            is_self_harm=False,
            source=f"result/{self.round.id}/{uuid.uuid4()}",
        )
        self.happens(raising.raise_alerts, [signal], now=self.now, policy=policy.shipped())

    @rule(tier=st.integers(1, 3), is_in_care=st.booleans())
    def the_other_rings(self, tier: int, is_in_care: bool) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            alert = ring(session, self.other, tier, at=self.now)
        self.done["events"] += 1
        if is_in_care:
            helper = next(each for each in (self.cast.an, self.cast.bo) if each.person != self.by.person)
            self.happens_if_allowed(triage.acknowledge, alert.id, by=helper)
            known = {"contact": "meeting", "is_student_seen": True, "words": "So."}
            self.happens_if_allowed(triage.triage, alert.id, "case_opened", by=helper, **known)

    @rule(is_the_student_counted=st.booleans())
    def two_others_tie_the_rows(self, is_the_student_counted: bool) -> None:
        pair = [self.student.id, self.other.id]
        pair = pair if is_the_student_counted else pair[::-1]
        self.happens_if_allowed(merges.propose, *pair, "They are one child.", by=self.somebody_else(self.by.person))
        if (merge := self.merge) is not None:
            second, seen = self.somebody_else(merge.proposed_by), list(contradictions.WARNINGS)
            self.happens_if_allowed(merges.confirm, merge.id, seen, by=second, follow=tying.follow)
            self.done["ties"] += self.is_tied

    @rule()
    def two_others_take_them_apart(self) -> None:
        if (merge := self.merge) is not None and merge.state == "merged":
            asking = self.somebody_else(self.by.person)
            self.happens_if_allowed(merges.ask_split, merge.id, "They are two children.", by=asking)
            if (asked := self.merge) is not None:
                second = self.somebody_else(asked.split_asked_by)
                self.happens_if_allowed(merges.confirm_split, merge.id, by=second, follow=tying.follow)
            self.done["splits"] += not self.is_tied

    @property
    def is_tied(self) -> bool:
        found = self.merge
        return found is not None and found.state == "merged"

    @rule(days=st.integers(1, 200))
    def time_passes(self, days: int) -> None:
        self.now += dt.timedelta(days=days)
        self.happens(follow_ups.fall_due, now=self.now)
        self.happens(escalation.escalate, now=self.now)
        self.happens(following.follow, None, self.cast.system, self.now)

    @rule()
    def the_round_closes(self) -> None:
        self.happens(lambda session: rounds.close_due(session, db.now(session) + dt.timedelta(days=90)))

    @rule()
    def the_student_graduates(self) -> None:
        self.happens(
            lambda session: session.execute(
                text("update enrollments set until_on = since_on where student_id = :id"), {"id": self.student.id}
            )
        )

    # -- what must stay true --------------------------------------------------------------------------

    def open_alerts(self, student: Student) -> list[uuid.UUID]:
        with self.cast.database.unit(self.cast.scope) as session:
            wanted = "select id from alerts where student_id = :id and closed_at is null"
            return list(session.execute(text(wanted), {"id": student.id}).scalars())

    @invariant()
    def no_alert_of_either_row_falls_and_no_red_of_either_ends(self) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            found = session.execute(_ALERTS, {"students": [self.student.id, self.other.id]}).all()
            merge = self.merge_in(session)
        if merge is not None and merge.state in ("merged", "split"):
            assert merge.decided_by not in (None, merge.proposed_by), "tied on one person's word"
            assert merge.state != "split" or merge.split_by not in (None, merge.split_asked_by)
        for alert in found:
            assert alert.tier >= self.worst.get(alert.id, 0)
            self.worst[alert.id] = alert.tier
            assert alert.tier < RED or alert.closed_at is None
            if (
                alert.state == "triaged"
                and alert.closed_at is None
                and alert.in_case_of not in (None, alert.student_id)
            ):
                assert merge is not None and merge.state == "merged", "a red in the case of another child"
                assert (alert.case_state != "closed", alert.case_tier >= alert.tier) == (True, True)
                assert alert.case_school == alert.school_id
        assert self.worst.keys() == {alert.id for alert in found}

    @invariant()
    def the_red_is_open_red_and_where_its_student_is(self) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            row = session.execute(_STANDS, {"student": self.student.id, "alert": self.alert}).one()
        assert (row.tier, row.closed_at, row.school_id) == (RED, None, row.school)
        assert all(tier == RED and state != "closed" for tier, state in zip(row.tiers, row.states, strict=True))
        assert row.state != "triaged" or bool(row.tiers) or self.is_tied
        if row.state != "triaged":
            with self.cast.database.unit(access.Scope(self.cast.district.id, frozenset({row.school}))) as session:
                assert self.alert in {each.id for each in triage.queue(session, tiers=[RED], limit=200)}
        for case_id, school in zip(row.cases, row.schools, strict=True):
            if school != row.school:
                self.both_see_it(case_id, school, row.school)

    def both_see_it(self, case_id: uuid.UUID, *schools: uuid.UUID) -> None:
        """A case between two schools stands before the people of each."""
        for school in schools:
            with self.cast.database.unit(access.Scope(self.cast.district.id, frozenset({school}))) as session:
                seen = transfers.listed(session, states=["waiting", "declined"], limit=200)
                assert case_id in {each.transfer.case_id for each in seen}

    def teardown(self) -> None:
        """Whatever was begun is put away by hand, so that the next sequence has the queues for itself."""
        with self.cast.database.unit(self.cast.scope) as session:
            for put_away in _PUT_AWAY:
                session.execute(text(put_away), {"students": [self.student.id, self.other.id]})


_STANDS = text(
    "select a.tier, a.state, a.closed_at, a.school_id, s.school_id as school,"
    " array_remove(array_agg(c.tier), null) as tiers, array_remove(array_agg(c.state), null) as states,"
    " array_remove(array_agg(c.id), null) as cases, array_remove(array_agg(c.school_id), null) as schools"
    " from alerts a join students s on s.id = :student left join cases c on c.student_id = s.id"
    " where a.id = :alert group by 1, 2, 3, 4, 5"
)
_ALERTS = text(
    "select a.id, a.student_id, a.school_id, a.tier, a.state, a.closed_at, l.* from alerts a left join lateral"
    " (select c.student_id as in_case_of, c.state as case_state, c.tier as case_tier, c.school_id as case_school"
    "  from triages t join cases c on c.id = t.case_id where t.alert_id = a.id order by t.proposed_at desc limit 1) l"
    " on true where a.student_id = any(:students)"
)
_PUT_AWAY = (
    "update alerts set closed_at = now(), state = 'triaged' where student_id = any(:students) and closed_at is null",
    "update transfers set state = 'withdrawn' where student_id = any(:students) and state in ('announced', 'waiting')",
    "update follow_ups set state = 'left' where state in ('planned', 'due', 'overdue')"
    " and case_id in (select id from cases where student_id = any(:students))",
    "update cases set state = 'closed', closed_at = now() where student_id = any(:students) and state <> 'closed'",
)


def hasty(cast: Cast) -> Cast:
    """The same people on connections that do not wait for the disk: nothing here asks what a crash leaves."""
    url = make_url(cast.database.url).update_query_dict({"options": "-csynchronous_commit=off"})
    return replace(cast, database=Database(url.render_as_string(hide_password=False), cast.database.ring))


@pytest.mark.storm
def test_nobody_alone_and_nothing_that_happens_lowers_closes_mutes_or_deletes_a_red(
    cast: Cast, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cast, sequences = hasty(cast), 300 if is_storm else 12
    Alone.cast, Alone.done = cast, Counter()
    with cast.database.unit(cast.scope) as session:
        Alone.place = destinations.add(session, "hospital", "First Hospital", by=cast.district_admin, now=MONDAY)
        Alone.round = make_round(session)
        Alone.chief = make_staff(session, ("district_admin", None))[1]
    run_state_machine_as_test(
        Alone,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    cast.database.dispose()
    done = Alone.done
    with capsys.disabled():
        print(  # noqa: T201 - the number is the point
            f"\nred: {done['sequences']} sequences of one person alone,"
            f" {done['acts']} acts ({done['refused']} refused),"
            f" {done['events']} events ({done['ties']} merges and {done['splits']} splits by two others);"
            " 0 reds lowered, closed, muted or lost"
        )
    assert done["sequences"] >= sequences
