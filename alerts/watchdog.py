"""Notices when the loop stands still, from outside the worker, and says so to people: by a way of its own, in minutes.

Every finding is looked up in the tables themselves: a part that died does not have to report that it did.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from alerts import delivery, probes, routing, timetable
from screening import access, audit, calendars, db, rounds, staff
from screening.db import Database
from screening.errors import NotFound
from screening.models import District, Heartbeat
from screening.settings import Settings

EVERY = dt.timedelta(seconds=30)
SILENCE = dt.timedelta(minutes=3)
"""How long after its time a job may be silent."""
UNWEIGHED = dt.timedelta(minutes=2)
UNSENT = dt.timedelta(minutes=4)
UNLOADED = dt.timedelta(minutes=4)
LONGEST_LOAD = dt.timedelta(hours=1)
GAP_AHEAD = dt.timedelta(hours=1)
"""How long before an hour that is nobody's duty it is told."""
REACH = dt.timedelta(days=2)
AGAIN_AFTER = dt.timedelta(hours=4)
"""As long as something is wrong, it is said again after this long."""
EVERYWHERE = "everywhere"
TOLD = ("duty_officer", "district_admin")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: its name, where (a job or a district's code), since when or how many.

    `district_id` is whose it is; None: everybody's. What `is_warning` will be bad one day, and is not yet.
    """

    name: str
    where: str
    detail: str
    district_id: uuid.UUID | None = None
    is_warning: bool = False


def findings(database: Database, *, now: dt.datetime | None = None) -> list[Finding]:
    """Everything that is bad on the way from an answer to a person, each named. `now` is the database's, else."""
    try:
        with database.unit() as session:
            at = now or db.now(session)
            found = list(_heartbeats(session, at))
            districts = session.scalars(select(District).order_by(District.code)).all()
        for district in districts:
            with database.unit(access.Scope(district.id)) as session:
                found += _of_probe(session, at) if district.is_probe else _of_district(session, district, at)
        found += _without_probe(districts, at)
    except SQLAlchemyError:
        return [Finding("database_unreachable", "database", "It does not answer.")]
    return found


class Watchdog:
    """Looks and speaks. It remembers whom to tell, for the hour in which the database cannot be asked."""

    def __init__(self, database: Database, settings: Settings, *, send: delivery.Channel | None = None) -> None:
        self.database, self.settings = database, settings
        self.channel = send or delivery.channel_of(settings)
        self.addresses: dict[str, None] = {}
        self._told_at: dt.datetime | None = None

    def watch(self, *, now: dt.datetime | None = None) -> list[Finding]:
        """One round: what is bad is written down and told once, and again after `AGAIN_AFTER` while it lasts."""
        found = findings(self.database, now=now)
        bad = [finding for finding in found if not finding.is_warning]
        try:
            self._tell_districts(bad, now)
        except SQLAlchemyError:
            bad = [Finding("database_unreachable", "database", "It does not answer.")]
            self._tell_remembered(now or dt.datetime.now(dt.UTC))
        return bad

    def _tell_districts(self, bad: Sequence[Finding], now: dt.datetime | None) -> None:
        with self.database.unit() as session:
            at = now or db.now(session)
            districts = session.scalars(select(District.id).where(~District.is_probe)).all()
        for district_id in districts:
            own = [finding for finding in bad if finding.district_id in (None, district_id)]
            with self.database.unit(access.Scope(district_id)) as session:
                _note(session, own, at)
                self.addresses |= dict.fromkeys(_addresses(session, at))
            delivery.deliver_pending(
                self.database, district_id, self.settings, now=at, send=self.channel, subject="fault"
            )

    def _tell_remembered(self, now: dt.datetime) -> None:
        """Without a database nothing can be written down: those who were to be told last time are told directly."""
        if self._told_at is not None and now - self._told_at < AGAIN_AFTER:
            return
        self._told_at = now
        message = delivery.Message(uuid.uuid4(), "fault", delivery.link(self.settings, "fault", uuid.uuid4()), "", now)
        for address in self.addresses:
            try:
                self.channel(address, message)
            except delivery.Undeliverable:
                continue  # the log line and the health door remain


# -- what is wrong ------------------------------------------------------------------------------------


def _heartbeats(session: Session, now: dt.datetime) -> Iterator[Finding]:
    beats = {row.name: row for row in session.execute(select(Heartbeat.name, Heartbeat.beat_at, Heartbeat.problem))}
    for job in timetable.JOBS:
        beat = beats.get(job.name)
        if beat is None:
            yield Finding("worker_silent", job.name, "It never ran.")
        elif now - beat.beat_at > job.every + SILENCE:
            yield Finding("worker_silent", job.name, f"Silent since {beat.beat_at.isoformat()}.")
        elif beat.problem:
            yield Finding("job_problem", job.name, beat.problem)


def _of_probe(session: Session, now: dt.datetime) -> Iterator[Finding]:
    heard = probes.heard(session)
    since = heard.at if heard else session.scalars(select(District.created_at).where(District.is_probe)).one()
    unsent = session.execute(_PROBE_UNSENT, {"district": access.scope_of(session).district_id}).scalar()
    is_unsent = unsent is not None and now - unsent > probes.GRACE
    if is_unsent or now - since > probes.EVERY + probes.GRACE:
        yield Finding("synthetic_red", EVERYWHERE, f"The last one that went out is of {since.isoformat()}.")


# A red that was handed in and does not go out need not wait until the next one is due.
_PROBE_UNSENT = text(
    "select min(a.opened_at) from alerts a where a.district_id = :district and a.closed_at is null"
    " and not exists (select from deliveries d where d.district_id = a.district_id and d.subject = 'alert'"
    "  and d.subject_id = a.id and d.state = 'sent')"
)


def _without_probe(districts: Collection[District], now: dt.datetime) -> Iterator[Finding]:
    oldest = min((district.created_at for district in districts), default=now)
    if now - oldest > probes.EVERY + probes.GRACE and not any(district.is_probe for district in districts):
        yield Finding("synthetic_red", EVERYWHERE, "There never was one.")


_OLDEST = text(
    "select"
    " (select min(r.recorded_at) from results r where r.district_id = :district and r.recorded_at >= :since"
    "  and not exists (select from weighings w where w.district_id = r.district_id and w.round_id = r.round_id"
    "  and w.student_id = r.student_id and w.revision = r.revision)) as unweighed,"
    " (select min(case when d.attempts = 0 then greatest(d.created_at, d.try_at) else d.created_at end)"
    "  from deliveries d where d.district_id = :district and d.state = 'pending'"
    "  and (d.attempts > 0 or d.try_at <= :now)) as unsent,"
    " (select min(t.received_at) from rosters t where t.district_id = :district and t.state = 'received') as unread"
)


def _of_district(session: Session, district: District, now: dt.datetime) -> Iterator[Finding]:
    oldest = session.execute(_OLDEST, {"district": district.id, "since": now - REACH, "now": now}).one()
    for name, since, patience in (
        ("result_unweighed", oldest.unweighed, UNWEIGHED),
        ("delivery_unsent", oldest.unsent, UNSENT),
        ("upload_stuck", _stuck_upload(session, now), dt.timedelta()),
        ("roster_stuck", oldest.unread, UNLOADED),
    ):
        if since is not None and now - since > patience:
            yield Finding(name, district.code, f"The oldest since {since.isoformat()}.", district.id)
    for school in routing.schools_unheard(session, now=now):
        detail = f"Nobody would hear of an alert of school {school}."
        yield Finding("rota_empty", district.code, detail, district.id)
    for end in calendars.ending(session, now.date()):
        yield Finding(
            "calendar_ends", district.code, f"The {end}; from then on every weekday has school.", district.id, True
        )
    for gap in rounds.unguarded(session, now, ahead=GAP_AHEAD):
        yield Finding(
            "rota_gap", district.code, f"Nobody is on duty while forms are answered at home: {gap}.", district.id
        )
    for problem in delivery.problems(session, now=now):
        yield Finding("deliveries_failing", district.code, problem, district.id)
    missing = session.scalar(_MISSING, {"district": district.id})
    if missing:
        detail = f"{missing} students had a red answer, and no red alert stands for it."
        yield Finding("alert_missing", district.code, detail, district.id)


_UPLOADS = text(
    "select u.received_at, exists (select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 1"
    "  and l.database = (select oid from pg_database where datname = current_database())"
    "  and (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('upload/' || u.id::text, 0)) as is_loading"
    " from uploads u where u.district_id = :district and u.state = 'received' order by u.received_at"
)


def _stuck_upload(session: Session, now: dt.datetime) -> dt.datetime | None:
    """Since when a file waits although no worker is at any; or one is, for longer than any load takes."""
    waiting = session.execute(_UPLOADS, {"district": access.scope_of(session).district_id}).all()
    patience = LONGEST_LOAD if any(upload.is_loading for upload in waiting) else UNLOADED
    late: list[dt.datetime] = [upload.received_at for upload in waiting if now - upload.received_at > patience]
    return min(late, default=None)


# Results are told apart by rounds and reasons by their source, so that a red of last year hides none of this year's.
_MISSING = text(
    "select count(distinct w.student_id) from weighings w"
    " join rounds r on r.district_id = w.district_id and r.id = w.round_id and not r.is_historical"
    " where w.district_id = :district and w.tier = 3 and not exists ("
    "  select from alerts a join alert_reasons n on n.district_id = a.district_id and n.alert_id = a.id and n.tier = 3"
    "  where a.district_id = w.district_id and a.student_id = w.student_id and a.tier = 3"
    "  and split_part(n.source, '/', 2) = w.round_id::text)"
)


# -- telling ------------------------------------------------------------------------------------------

_OPEN = text(
    "insert into faults (district_id, id, name, place, since_at, told_at)"
    " select :district, gen_random_uuid(), n.name, n.place, :now, :now"
    " from unnest(cast(:names as text[]), cast(:places as text[])) as n(name, place)"
    " on conflict do nothing returning id, name"
)
_STILL = text(
    "update faults set told_at = :now where district_id = :district and ended_at is null and told_at <= :again"
    " and (name, place) in (select * from unnest(cast(:names as text[]), cast(:places as text[]))) returning id, name"
)
_OVER = text(
    "update faults set ended_at = :now where district_id = :district and ended_at is null"
    " and (name, place) not in (select * from unnest(cast(:names as text[]), cast(:places as text[])))"
)


def _note(session: Session, bad: Sequence[Finding], now: dt.datetime) -> None:
    """Keeps what is wrong and since when; one message for all that is to be told now."""
    district_id = access.scope_of(session).district_id
    places = sorted({(finding.name, finding.where) for finding in bad})
    parameters = {
        "district": district_id,
        "now": now,
        "again": now - AGAIN_AFTER,
        "names": [name for name, _ in places],
        "places": [place for _, place in places],
    }
    session.execute(_OVER, parameters)
    fresh = [*session.execute(_OPEN, parameters), *session.execute(_STILL, parameters)]
    if not fresh:
        return
    audit.record(
        session, access.system(district_id), "fault.told", "fault", fresh[0].id, names=sorted({f.name for f in fresh})
    )
    delivery.put(session, [_notice(one, fresh[0].id, now) for one in _hearers(session, now)], now=now)


def _notice(recipient_id: uuid.UUID, fault_id: uuid.UUID, now: dt.datetime) -> delivery.Notice:
    return delivery.Notice(
        recipient_id=recipient_id,
        school_id=None,
        subject="fault",
        subject_id=fault_id,
        occasion=f"fault/{now.isoformat()}",
        urgency="fault",
        due_at=now,
    )


def _hearers(session: Session, now: dt.datetime) -> tuple[uuid.UUID, ...]:
    rota = routing.rota(session, now=now)
    desk = rota.on_duty.get(("first", None), ())
    return tuple(dict.fromkeys([*desk, *(one for role in TOLD for one in rota.holding(role, None))]))


def _addresses(session: Session, now: dt.datetime) -> Iterator[str]:
    for one in _hearers(session, now):
        try:
            yield staff.email_of(session, one)
        except NotFound:
            continue
