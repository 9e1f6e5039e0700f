"""What stands in the way of a case's end: counted in the database, judged in plain words, all of it at once."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts.models import Case
from screening import access, same_child
from screening.errors import Problem


@dataclass(frozen=True)
class Facts:
    """What there is in a case, as its school sees it."""

    seen: int
    is_at_risk: bool
    promised: int
    unanswered: int
    is_elsewhere: bool
    is_leaving: bool
    open_referrals: int
    is_refusal_unanswered: bool
    is_bullying_open: bool
    is_on_leave: bool
    is_missing: bool
    is_denial_unchecked: bool
    is_guardian_informed: bool
    contacts: int


def obstacles(facts: Facts, demanded: Collection[str]) -> list[Problem]:
    """Every obstacle; `demanded` are the further checks that the policy makes for this tier (policy.CLOSURE_CHECKS)."""
    checks = {
        "no_interview": (not facts.seen, "Nobody has written of an interview with the student."),
        "current_risk": (facts.is_at_risk, "The latest interview found a current risk."),
        "follow_up_open": (facts.promised > 0, f"Follow-ups that are still promised: {facts.promised}."),
        "alert_open": (facts.unanswered > 0, "The student has an alert that nobody has triaged yet."),
        # a red of the new school's would not be seen from here
        "transfer_open": (
            facts.is_elsewhere or facts.is_leaving,
            "Another school is to take this case over; it may end there.",
        ),
        "referral_open": (
            facts.open_referrals > 0,
            f"Referrals whose first visit is not known of: {facts.open_referrals}.",
        ),
        "refusal_open": (
            facts.is_refusal_unanswered,
            "A referral was refused; the lead talks once more with the family, and writes of it.",
        ),
        "bullying_open": (facts.is_bullying_open, "What was reported of bullying is not settled yet."),
        "return_open": (facts.is_on_leave, "The student is on leave; nobody has assessed the return."),
        "student_missing": (facts.is_missing, "Nobody has reached the student since the absence was written down."),
        "denial_unchecked": (
            facts.is_denial_unchecked,
            "The student took the answer back; talk once more on another day.",
        ),
        "guardian_informed": (
            "guardian_informed" in demanded and not facts.is_guardian_informed,
            "No guardian was informed, and no report made instead.",
        ),
        "two_contacts": (
            "two_contacts" in demanded and facts.contacts < 2,
            "Fewer than two contacts with the student.",
        ),
    }
    return [Problem(code, words) for code, (stands, words) in checks.items() if stands]


def facts_of(session: Session, case: Case) -> Facts:
    """What is known of this case now."""
    about = {"district": case.district_id, "case": case.id, "student": case.student_id, "school": case.school_id}
    here = {"schools": access.schools_of(session), "zone": str(session.info["timezone"])}
    return Facts(**session.execute(_FACTS, about | here).one()._mapping)


_OWN = f"{{0}}.district_id = :district and {{0}}.case_id = :case and {access.within('{0}.school_id')}"
_FACTS = text(
    f"""
with talks as (select i.* from interviews i where {_OWN.format("i")}),
lines as (select e.kind, e.at from case_entries e where {_OWN.format("e")}),
promises as (select f.* from follow_ups f where {_OWN.format("f")}),
sent as (select r.* from referrals r where {_OWN.format("r")}),
refusal as (select max(made_at) as at from sent where state = 'refused'),
absence as (select kind, at from lines where kind like 'absence/%' order by at desc limit 1),
denial as (
    select held_at from (select * from talks where outcome is not null order by held_at desc, written_at desc limit 1) l
    where outcome <> 'disclosed'
)
select
    (select count(*) from talks where is_student_seen) as seen,
    coalesce((select has_current_risk from talks order by held_at desc, written_at desc limit 1), false) as is_at_risk,
    (select count(*) from promises where state in ('planned', 'due', 'overdue')) as promised,
    (select count(*) from alerts a where a.district_id = :district
        and a.student_id in {same_child.rows_of("cast(:student as uuid)")}
        and a.closed_at is null and a.state <> 'triaged' and {access.within("a.school_id")}) as unanswered,
    not exists (select from students s where s.district_id = :district and s.id = :student
        and s.school_id = :school) as is_elsewhere,
    exists (select from transfers t where t.district_id = :district and t.case_id = :case
        and t.state in ('announced', 'waiting')) as is_leaving,
    (select count(*) from sent where state in ('sent', 'accepted')) as open_referrals,
    exists (select from refusal where at is not null
        and not exists (select from sent where state <> 'refused' and made_at > refusal.at)
        and not exists (
            select from talks join staff_roles o on o.district_id = :district and o.staff_id = talks.by
            and o.role = 'lead' and (o.school_id is null or o.school_id = :school)
            where talks.written_at > refusal.at
        )) as is_refusal_unanswered,
    coalesce((select kind from lines where kind like 'bullying/%' order by at desc limit 1), '') = 'bullying/open'
        as is_bullying_open,
    coalesce((select kind from lines where kind = 'leave/begun' or kind like 'return_assessment/%'
        order by at desc limit 1), 'return_assessment/fit') <> 'return_assessment/fit' as is_on_leave,
    exists (select from absence where kind <> 'absence/safe'
        and not exists (select from talks where is_student_seen and held_at > absence.at)) as is_missing,
    exists (select from denial where not exists (
        select from talks where is_student_seen
        and (held_at at time zone :zone)::date > (denial.held_at at time zone :zone)::date
    ) and not exists (
        select from promises where state = 'done'
        and (ended_at at time zone :zone)::date > (denial.held_at at time zone :zone)::date
    )) as is_denial_unchecked,
    exists (select from lines where kind = 'guardian_contact/reached' or kind like 'mandatory_report/%')
        as is_guardian_informed,
    (select count(*) from talks where is_student_seen) + (select count(*) from promises where state = 'done')
        as contacts
"""  # noqa: S608 - our own SQL
)
