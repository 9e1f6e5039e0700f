"""Whatever people do in whatever order: no tier falls, and nothing orange or red ends on one person's word."""

import datetime as dt
import uuid
from collections.abc import Callable
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from alerts import cases, follow_ups, interviews, triage
from screening.access import Actor
from screening.errors import HouseError
from screening.models import Student
from tests.alerts.episodes import HOUR, MONDAY, YELLOW, ring
from tests.cast import Cast
from tests.factories import make_student

CARING = st.sampled_from(["an", "bo", "lead"])
PEOPLE = CARING | st.sampled_from(["principal", "chen", "duty_officer", "school_admin_a"])
TIERS = st.integers(1, 3)

LOST = """
select a.id from alerts a where a.student_id = :student and a.closed_at is not null and a.tier > 1
and not exists (
    select from triages t where t.alert_id = a.id and t.outcome in ('monitor', 'not_confirmed')
    and t.confirmed_by <> t.proposed_by and t.tier = a.tier
) and not exists (
    select from triages t join cases c on c.id = t.case_id join closures k on k.case_id = c.id
    where t.alert_id = a.id and c.state = 'closed' and c.tier >= a.tier
    and k.rejected_at is null and k.confirmed_by <> k.proposed_by
    and exists (select from interviews i where i.case_id = c.id and i.is_student_seen)
)
"""
ENDED_ALONE = """
select c.id from cases c where c.student_id = :student and c.state = 'closed' and c.tier > 1
and not exists (
    select from closures k where k.case_id = c.id and k.rejected_at is null and k.confirmed_by <> k.proposed_by
)
"""


class Episode(RuleBasedStateMachine):
    """One student, several people who each do what they like."""

    cast: ClassVar[Cast]

    @initialize()
    def begin(self) -> None:
        self.now = MONDAY
        self.worst: dict[uuid.UUID, int] = {}
        with self.cast.database.unit(self.cast.scope) as session:
            self.student: Student = make_student(session, self.cast.school_a.id)

    def act(self, who: str, verb: Callable[..., object], *about: object, **more: object) -> None:
        """Does it in a transaction of its own; what the house refuses has not happened."""
        self.now += HOUR
        by: Actor = getattr(self.cast, who)
        try:
            with self.cast.database.unit(self.cast.scope_a) as session:
                verb(session, *about, by=by, now=self.now, **more)
        except HouseError:
            pass

    def latest(self, table: str) -> uuid.UUID | None:
        order = {"alerts": "opened_at", "cases": "opened_at"}[table]
        with self.cast.database.unit(self.cast.scope) as session:
            found: uuid.UUID | None = session.execute(
                text(f"select id from {table} where student_id = :student order by {order} desc limit 1"),
                {"student": self.student.id},
            ).scalar()
            return found

    @rule(tier=TIERS)
    def a_signal_comes(self, tier: int) -> None:
        self.now += HOUR
        with self.cast.database.unit(self.cast.scope) as session:
            ring(session, self.student, tier, at=self.now)

    @rule(who=PEOPLE)
    def somebody_acknowledges(self, who: str) -> None:
        if (alert_id := self.latest("alerts")) is not None:
            self.act(who, triage.acknowledge, alert_id)

    @rule(
        who=PEOPLE,
        outcome=st.sampled_from(["case_opened", "merged", "monitor", "not_confirmed"]),
        contact=st.sampled_from(triage.CONTACTS),
        tier=st.none() | TIERS,
    )
    def somebody_triages(self, who: str, outcome: str, contact: str, tier: int | None) -> None:
        if (alert_id := self.latest("alerts")) is not None:
            more = {"contact": contact, "is_student_seen": contact != "none", "words": "So.", "tier": tier}
            self.act(who, triage.triage, alert_id, outcome, **more)

    @rule(who=PEOPLE)
    def somebody_confirms_a_triage(self, who: str) -> None:
        if (alert_id := self.latest("alerts")) is not None:
            self.act(who, triage.confirm_triage, alert_id)

    @rule(who=CARING, second=PEOPLE, outcome=st.sampled_from(triage.ENDING))
    def somebody_ends_the_alert_and_another_confirms(self, who: str, second: str, outcome: str) -> None:
        self.somebody_acknowledges(who)
        self.somebody_triages(who, outcome, "meeting", None)
        self.somebody_confirms_a_triage(second)

    @rule(who=CARING)
    def somebody_takes_the_student_into_care(self, who: str) -> None:
        self.somebody_acknowledges(who)
        self.somebody_triages(who, "case_opened", "meeting", None)
        self.somebody_talks_with_the_student(who, has_risk=False)

    @rule(who=CARING, second=PEOPLE)
    def somebody_ends_the_case_and_another_confirms(self, who: str, second: str) -> None:
        self.somebody_proposes_the_end(who)
        self.somebody_confirms_the_end(second)

    @rule(who=CARING, second=PEOPLE, tier=TIERS)
    def a_signal_comes_while_a_case_ends(self, who: str, second: str, tier: int) -> None:
        self.somebody_proposes_the_end(who)
        self.a_signal_comes(tier)
        self.somebody_confirms_the_end(second)

    @rule(who=PEOPLE, has_risk=st.booleans())
    def somebody_talks_with_the_student(self, who: str, has_risk: bool) -> None:
        if (case_id := self.latest("cases")) is not None:
            self.act(
                who,
                interviews.write,
                case_id,
                mode="meeting",
                is_student_seen=True,
                has_current_risk=has_risk,
                is_concern_confirmed=True,
                words="So.",
                held_at=self.now,
            )

    @rule(who=PEOPLE)
    def somebody_promises_a_contact(self, who: str) -> None:
        if (case_id := self.latest("cases")) is not None:
            self.act(who, follow_ups.plan, case_id, "phone")

    @rule(who=PEOPLE, tier=TIERS)
    def somebody_raises_the_case(self, who: str, tier: int) -> None:
        if (case_id := self.latest("cases")) is not None:
            self.act(who, cases.raise_tier, case_id, tier)

    @rule(who=PEOPLE)
    def somebody_proposes_the_end(self, who: str) -> None:
        if (case_id := self.latest("cases")) is not None:
            self.act(who, cases.propose_closure, case_id, "resolved", "So.")

    @rule(who=PEOPLE)
    def somebody_confirms_the_end(self, who: str) -> None:
        if (case_id := self.latest("cases")) is not None:
            self.act(who, cases.confirm_closure, case_id)

    @rule(who=PEOPLE)
    def somebody_rejects_the_end(self, who: str) -> None:
        if (case_id := self.latest("cases")) is not None:
            self.act(who, cases.reject_closure, case_id)

    @rule(days=st.integers(1, 40))
    def time_passes(self, days: int) -> None:
        self.now += dt.timedelta(days=days)
        with self.cast.database.unit(self.cast.scope) as session:
            follow_ups.fall_due(session, now=self.now)

    @invariant()
    def nothing_serious_ends_on_one_persons_word(self) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            for lost in (LOST, ENDED_ALONE):
                assert session.execute(text(lost), {"student": self.student.id}).all() == []

    @invariant()
    def no_tier_falls(self) -> None:
        both = "select id, tier from alerts where student_id = :student union all select id, tier from cases where student_id = :student"  # noqa: E501
        with self.cast.database.unit(self.cast.scope) as session:
            for row in session.execute(text(both), {"student": self.student.id}):
                assert row.tier >= self.worst.get(row.id, YELLOW)
                self.worst[row.id] = row.tier

    @invariant()
    def what_nobody_triaged_is_in_the_queue(self) -> None:
        with self.cast.database.unit(self.cast.scope_a) as session:
            waiting = session.execute(
                text("select id from alerts where student_id = :student and state <> 'triaged'"),
                {"student": self.student.id},
            ).scalars()
            assert set(waiting) <= {row.id for row in triage.queue(session, limit=200)}


def test_no_order_of_acts_loses_a_red(cast: Cast, share: Callable[[int], int]) -> None:
    Episode.cast = cast
    run_state_machine_as_test(
        Episode,
        settings=settings(
            max_examples=share(100),
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
