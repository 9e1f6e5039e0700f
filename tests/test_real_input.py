"""Real answers, sent as schools send them: what the house makes of them is what plain arithmetic makes of them."""

import csv
import datetime as dt
import io
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerts import following, raising
from screening import history, identity, intake, replay, roster, rounds
from screening.db import Database
from screening.embedded import Server
from screening.models import Round
from tests import sending
from tests.cast import Cast, assemble
from tests.factories import make_round, make_school
from tests.sending import Sent, send

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PHQ9 = [f"phq{i}" for i in range(1, 10)]
GAD7 = [f"gad{i}" for i in range(1, 8)]
COLUMN_MAP = {f"phq{i}": f"phq9_{i}" for i in range(1, 10)} | {f"gad{i}": f"gad7_{i}" for i in range(1, 8)}
ON = dt.date(2026, 9, 1)
YELLOW, ORANGE, RED = 1, 2, 3


def real(folder: str, name: str) -> list[dict[str, str]]:
    path = DATA / folder / name
    if not path.exists():
        pytest.skip(f"{folder} is not beside the project")
    with path.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def numbered(rows: list[dict[str, str]], prefix: str) -> list[dict[str, str]]:
    return [row | {"student_number": f"{prefix}{i:04}"} for i, row in enumerate(rows, start=1)]


def as_csv(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def enroll(cast: Cast, listed: list[dict[str, str]]) -> None:
    """Makes students of a list through the product's own verbs."""
    with cast.database.unit(cast.scope) as session:
        received = roster.receive(session, [as_csv(listed)], "roster.csv", by=cast.district_admin)
    roster.propose_waiting(cast.database, cast.district.id)
    with cast.database.unit(cast.scope) as session:
        roster.commit(session, received.id, by=cast.district_admin, on=ON, follow=following.follow)


def on_roster(row: Mapping[str, str], school: str, grade: int, sex: str) -> dict[str, str]:
    number = row["student_number"]
    return {
        "school_code": school,
        "student_number": number,
        "student_name": f"Student {number}",
        "sex": sex,
        "grade": str(grade),
        "born_on": "2010-03-15",
        "student_consent": "granted",
    }


# -- the same in plain arithmetic ----------------------------------------------------------------------


@dataclass
class Expected:
    """What a row means by the default policy, spelled out: PHQ-9 and GAD-7 alone, no earlier rounds."""

    row: Mapping[str, str]
    rules: set[str] = field(default_factory=set)
    totals: dict[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        phq9, gad7 = ([self.row[name] for name in names] for names in (PHQ9, GAD7))
        item_9 = phq9[8]
        # an answer above "not at all" to item 9 is orange, "nearly every day" is red, whatever the rest says
        self.meets("phq9_self_harm_daily", item_9 == "3")
        self.meets("phq9_self_harm", item_9 in ("1", "2", "3"))
        # a blank there is a reason to ask, if anything of the form was answered
        self.meets("phq9_critical_blank", item_9 == "" and any(phq9))
        # totals need every item: PHQ-9 from 10 yellow, from 15 orange; GAD-7 from 10 yellow, from 15 orange
        for name, answers in (("phq9", phq9), ("gad7", gad7)):
            total = sum(map(int, answers)) if all(answer in ("0", "1", "2", "3") for answer in answers) else None
            self.totals[name] = total
            self.meets(f"{name}_high", total is not None and total >= 15)
            self.meets(f"{name}_raised", total is not None and total >= 10)

    def meets(self, rule: str, is_met: bool) -> None:
        if is_met:
            self.rules.add(rule)

    @property
    def tier(self) -> int:
        if "phq9_self_harm_daily" in self.rules:
            return RED
        return ORANGE if self.rules & {"phq9_self_harm", "phq9_high", "gad7_high"} else YELLOW if self.rules else 0

    @property
    def is_phq9_complete(self) -> bool:
        return self.totals["phq9"] is not None


# -- one district of students, for all tests of this file ----------------------------------------------


@dataclass
class Loaded:
    cast: Cast
    round: Round
    rows: list[dict[str, str]]
    content: bytes
    sent: Sent

    @property
    def expected(self) -> list[Expected]:
        return [Expected(row) for row in self.rows]

    def tier_and_reasons(self) -> dict[str, tuple[int, set[str]]]:
        numbers = self.numbers()
        return {
            numbers[result["student_id"]]: (result["tier"], set(result["reasons"]))
            for result in sending.results(self.cast, self.round.id)
        }

    def numbers(self) -> dict[uuid.UUID, str]:
        with self.cast.database.unit(self.cast.scope) as session:
            found = sending.rows(
                self.cast.database,
                self.cast.scope,
                "select student_id from enrollments where district_id = :district",
            )
            people = identity.people(session, [row["student_id"] for row in found])
            return {student: person.number for student, person in people.items()}


@pytest.fixture(scope="module")
def medical(database: Database) -> Loaded:
    """783 medical students, on a roster of their own, and the file with their answers."""
    rows = numbered(real("medstudents_mx", "depression_data.csv"), "S")
    cast = assemble(database)
    # years 1 to 4 stand in for grades 9 to 12
    enroll(cast, [on_roster(row, "A", int(row["year"]) + 8, row["sex"]) for row in rows])
    with database.unit(cast.scope) as session:
        made = make_round(session)
    content = as_csv(rows)
    return Loaded(cast, made, rows, content, send(cast, made.id, content, column_map=COLUMN_MAP))


def test_the_receipt_accepts_what_is_complete_and_names_the_one_bad_cell(medical: Loaded) -> None:
    expected = medical.expected
    incomplete = [e for e in expected if not e.is_phq9_complete and any(e.row[name] for name in PHQ9)]
    bad_row = next(i for i, row in enumerate(medical.rows, start=2) if row["gad5"] == "10")

    assert medical.sent.upload.state == "loaded"
    assert medical.sent.receipt["rows"] == 783
    assert medical.sent.outcomes("phq9/self")["accepted"] == 779 == sum(e.is_phq9_complete for e in expected)
    assert medical.sent.outcomes("phq9/self").get("not_scorable", 0) == len(incomplete)
    assert [(p.code, p.row, p.column) for p in medical.sent.problems] == [("outside_codes", bad_row, "gad5")]
    assert "10" in medical.sent.problems[0].message
    assert medical.sent.outcomes("gad7/self")["rejected"] == 1


def test_the_form_with_the_bad_cell_is_not_scored_and_the_other_of_its_row_is(medical: Loaded) -> None:
    bad = next(row for row in medical.rows if row["gad5"] == "10")
    student = next(s for s, number in medical.numbers().items() if number == bad["student_number"])

    stored = sending.forms(medical.cast, medical.round.id, student)

    assert [form["instrument"] for form in stored] == ["phq9"]


def test_totals_are_plain_sums(medical: Loaded) -> None:
    numbers = medical.numbers()
    stored = {
        (numbers[form["student_id"]], form["instrument"]): form["scores"][0]
        for form in sending.forms(medical.cast, medical.round.id)
    }

    wanted = {
        (e.row["student_number"], code): total
        for e in medical.expected
        for code, total in e.totals.items()
        if (e.row["student_number"], code) in stored
    }

    assert stored == wanted
    assert sum(total is not None for total in wanted.values()) == 779 + sum(
        e.totals["gad7"] is not None for e in medical.expected
    )


def test_each_tier_and_each_reason_is_that_of_the_policy_in_plain_words(medical: Loaded) -> None:
    wanted = {
        e.row["student_number"]: (e.tier, e.rules)
        for e in medical.expected
        if any(e.row[name] for name in (*PHQ9, *GAD7))
    }

    assert medical.tier_and_reasons() == wanted


def test_there_is_one_alert_for_each_student_with_a_tier(medical: Loaded) -> None:
    wanted = Counter(e.tier for e in medical.expected if e.tier)
    found = sending.alerts(medical.cast)

    assert Counter(alert["tier"] for alert in found) == wanted
    assert len({alert["student_id"] for alert in found}) == len(found) == sum(wanted.values())
    assert {alert["state"] for alert in found} == {"new"}


def test_an_incomplete_form_with_a_critical_answer_is_in_the_queue(medical: Loaded) -> None:
    numbers = medical.numbers()
    tier_of = {numbers[alert["student_id"]]: alert["tier"] for alert in sending.alerts(medical.cast)}
    incomplete = [e for e in medical.expected if not e.is_phq9_complete and e.row["phq9"] in ("1", "2", "3")]

    for each in incomplete:
        assert tier_of[each.row["student_number"]] >= ORANGE


def test_the_same_file_again_adds_nothing(medical: Loaded) -> None:
    before = sending.counts(medical.cast)

    again = send(medical.cast, medical.round.id, medical.content, column_map=COLUMN_MAP)

    assert sending.counts(medical.cast) == before
    assert again.upload.id != medical.sent.upload.id
    assert again.outcomes("phq9/self")["repeated"] == 783 - again.outcomes("phq9/self").get("not_answered", 0)
    assert "accepted" not in again.outcomes("phq9/self")


def test_deriving_everything_again_finds_no_difference(medical: Loaded) -> None:
    with medical.cast.database.unit(medical.cast.scope) as session:
        found = replay.replay(session)

    assert found.replayed == len(sending.results(medical.cast, medical.round.id))
    assert found.differences == ()


@pytest.mark.parametrize(
    "column, other",
    [("tier", "3 - tier"), ("reasons", "'{phq9_high}'"), ("validity", "'suspect'"), ("forms", "'{phq9/self/1/2}'")],
)
def test_a_changed_result_is_named_by_deriving_it_again(
    medical: Loaded, server: Server, column: str, other: str
) -> None:
    numbers = medical.numbers()
    quiet = next(e for e in medical.expected if e.tier == 0 and e.is_phq9_complete and e.totals["gad7"] is not None)
    student = next(s for s, number in numbers.items() if number == quiet.row["student_number"])

    with tampered(server, "results", column, other, student):
        found = derived(medical)

    assert found == ((medical.round.id, student, 1),)
    assert derived(medical) == ()


@pytest.mark.parametrize("column, other", [("scores", "'{26}'"), ("answers", "'{0,0,0,0,0,0,0,0,3,NULL}'")])
def test_a_changed_form_is_named_by_deriving_its_result_again(
    medical: Loaded, server: Server, column: str, other: str
) -> None:
    numbers = medical.numbers()
    quiet = next(e for e in medical.expected if e.tier == 0 and e.is_phq9_complete)
    student = next(s for s, number in numbers.items() if number == quiet.row["student_number"])

    with tampered(server, "administrations", column, other, student):
        assert derived(medical) == ((medical.round.id, student, 1),)


class tampered:  # noqa: N801 - reads as a verb
    """One stored value of a student changed by somebody who owns the machine, and put back."""

    def __init__(self, server: Server, table: str, column: str, other: str, student: uuid.UUID) -> None:
        self.url = server.url(database="tests", role="superuser")
        self.about = f" from {table} where student_id = '{student}'"
        self.table, self.column, self.other = table, column, other
        if table == "administrations":
            self.about += " and instrument = 'phq9'"

    def __enter__(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as owner:
            self.before = owner.execute(f"select {self.column}::text{self.about}".encode()).fetchone()
            self._write(owner, self.other)

    def __exit__(self, *_: object) -> None:
        assert self.before is not None
        with psycopg.connect(self.url, autocommit=True) as owner:
            self._write(owner, f"'{self.before[0]}'")

    def _write(self, owner: psycopg.Connection[Any], value: str) -> None:
        where = self.about.partition(" where ")[2]
        changed = owner.execute(f"update {self.table} set {self.column} = {value} where {where}".encode())
        assert changed.rowcount == 1


def derived(medical: Loaded) -> tuple[tuple[uuid.UUID, uuid.UUID, int], ...]:
    with medical.cast.database.unit(medical.cast.scope) as session:
        return replay.replay(session, batch=100).differences


def test_the_same_file_ten_times_at_once_is_one_load(medical: Loaded) -> None:
    cast = medical.cast
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, name="Ten at once")

    def deliver(_: int) -> tuple[uuid.UUID, dict[str, Any]]:
        upload = sending.receive(cast, made.id, medical.content, column_map=COLUMN_MAP)
        intake.load(cast.database, cast.district.id, upload.id, weigh=raising.weigh_load)
        return upload.id, waited_for(cast, upload.id).receipt

    with ThreadPoolExecutor(10) as pool:
        came = list(pool.map(deliver, range(10)))

    assert len({upload_id for upload_id, _ in came}) == 1
    assert all(receipt == came[0][1] for _, receipt in came)
    assert came[0][1]["forms"]["phq9/self"]["accepted"] == 779
    assert len(sending.results(cast, made.id)) == len(sending.results(cast, medical.round.id))


def waited_for(cast: Cast, upload_id: uuid.UUID) -> Sent:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        sent = sending.receipt_of(cast, upload_id)
        if sent.upload.state != "received":
            return sent
        time.sleep(0.05)  # another thread loads it
    raise AssertionError("the upload never got its receipt")


# -- two waves -----------------------------------------------------------------------------------------


@dataclass
class Waves:
    cast: Cast
    first: Round
    second: Round
    before: list[dict[str, str]]
    after: list[dict[str, str]]
    students: dict[str, uuid.UUID]


@pytest.fixture(scope="module")
def waves(database: Database) -> Iterator[Waves]:
    """403 people asked twice: the first time stands as history, the second is a round of today."""
    before, after = (
        numbered([{key.lower(): cell for key, cell in row.items()} for row in real("phq_gad_2wave", name)], "W")
        for name in ("t1.csv", "t2.csv")
    )
    cast = assemble(database)
    with database.unit(cast.scope) as session:
        make_school(session, code="W", name="School W")
    enroll(cast, [on_roster(row, "W", 10, "f") for row in before])
    with database.unit(cast.scope) as session:
        now = dt.datetime.now(dt.UTC)
        first = make_round(
            session,
            name="Last spring",
            is_historical=True,
            opens_at=now - dt.timedelta(days=200),
            closes_at=now - dt.timedelta(days=190),
        )
        second = make_round(session, name="This autumn")
    send(cast, first.id, as_csv(before), column_map=COLUMN_MAP)
    students = {number: student for student, number in numbers_of(cast).items()}
    yield Waves(cast, first, second, before, after, students)


def numbers_of(cast: Cast) -> dict[uuid.UUID, str]:
    return Loaded.numbers(Loaded(cast, None, [], b"", None))  # type: ignore[arg-type]


def test_a_historical_round_rings_nobody_and_lists_its_reds(waves: Waves) -> None:
    expected = {row["student_number"]: Expected(row) for row in waves.before}
    reds = {waves.students[number] for number, each in expected.items() if each.tier == RED}

    with waves.cast.database.unit(waves.cast.scope) as session:
        listed = rounds.reds_of_historical(session, waves.first.id, by=waves.cast.district_admin)

    assert len(sending.results(waves.cast, waves.first.id)) == 403
    assert sending.alerts(waves.cast) == []
    assert {red.student_id for red in listed} == reds
    assert len(reds) > 0


def test_the_second_wave_weighs_the_first_and_each_student_has_a_history(waves: Waves) -> None:
    sent = send(waves.cast, waves.second.id, as_csv(waves.after), column_map=COLUMN_MAP)
    assert sent.outcomes("phq9/self") == {"accepted": 403}
    tiers = {result["student_id"]: result["tier"] for result in sending.results(waves.cast, waves.second.id)}

    for was, now in zip(map(Expected, waves.before), map(Expected, waves.after), strict=True):
        student = waves.students[now.row["student_number"]]
        # a concern within a year after a red one is orange at least
        assert tiers[student] == (max(now.tier, ORANGE) if was.tier == RED and now.tier else now.tier)
    wanted = Counter(tier for tier in tiers.values() if tier)
    assert Counter(alert["tier"] for alert in sending.alerts(waves.cast)) == wanted

    with waves.cast.database.unit(waves.cast.scope) as session:
        for was, now in list(zip(map(Expected, waves.before), map(Expected, waves.after), strict=True))[::40]:
            student = waves.students[now.row["student_number"]]
            first, second = history.of_student(session, student, by=waves.cast.district_admin)
            for told, each in ((first, was), (second, now)):
                assert {form.instrument: form.scores["total"] for form in told.forms} == each.totals
            assert (first.is_historical, second.is_historical) == (True, False)


# -- a third set: other names for the same items, and columns that no one asked for ------------------------


def test_other_names_for_the_same_items_are_read_by_the_column_map(database: Database) -> None:
    rows = numbered(real("ukm_students_my", "psychological_aspects.csv"), "U")
    cast = assemble(database)
    enroll(cast, [on_roster(row, "A", 12, "f") for row in rows])
    with database.unit(cast.scope) as session:
        made = make_round(session)
    column_map = {f"D{i}": f"phq9_{i}" for i in range(1, 10)} | {f"A{i}": f"gad7_{i}" for i in range(1, 8)}

    sent = send(cast, made.id, as_csv(rows), column_map=column_map)

    named = [
        row | {f"phq{i}": row[f"D{i}"] for i in range(1, 10)} | {f"gad{i}": row[f"A{i}"] for i in range(1, 8)}
        for row in rows
    ]
    expected = {row["student_number"]: Expected(row) for row in named}
    numbers = numbers_of(cast)
    found = {numbers[result["student_id"]]: result["tier"] for result in sending.results(cast, made.id)}
    assert sent.receipt["rows"] == len(rows) == 223
    assert found == {number: each.tier for number, each in expected.items() if number in found}
    assert len(found) == 223
    assert Counter(alert["tier"] for alert in sending.alerts(cast)) == Counter(t for t in found.values() if t)
