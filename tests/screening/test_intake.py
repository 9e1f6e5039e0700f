"""From the bytes to the receipt: stored sealed, joined while it runs, loaded once, refused by name or not at all."""

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError, OperationalError

from alerts import raising
from screening import access, coverage, files, intake, loading, matching, receipts
from screening.errors import InvalidUpload, NotFound
from screening.models import Round
from screening.reading import process
from screening.reading.nests import Child
from tests import sending
from tests.cast import Cast
from tests.factories import make_round
from tests.files import both, csv_of, phq9
from tests.sending import load, receipt_of, receive, send


@pytest.fixture
def opened(cast: Cast) -> Round:
    with cast.database.unit(cast.scope) as session:
        return make_round(session)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)


def attempt(cast: Cast, upload_id: uuid.UUID) -> bool:
    return intake.load(cast.database, cast.district.id, upload_id, weigh=raising.weigh_load)


# -- receiving -----------------------------------------------------------------------------------------


def test_the_same_file_joins_a_load_that_is_still_to_come(cast: Cast, opened: Round) -> None:
    content = csv_of(phq9("A001"))

    first = receive(cast, opened.id, content)

    assert receive(cast, opened.id, content).id == first.id
    others = [
        receive(cast, opened.id, content + b" "),
        receive(cast, opened.id, content, column_map={"phq9_1": "phq9_1"}),
        receive(cast, opened.id, content, is_dry_run=True),
        receive(cast, opened.id, content, is_correction=True),
        receive(cast, opened.id, content, school_id=cast.school_a.id),
    ]
    assert len({first.id, *(other.id for other in others)}) == 6
    stored = sending.rows(cast.database, cast.scope, "select file_id from file_chunks where district_id = :district")
    assert len(stored) == 6


def test_the_same_file_after_its_receipt_is_a_load_of_its_own(cast: Cast, opened: Round, quick: None) -> None:
    content = csv_of(phq9("A001"))
    first = send(cast, opened.id, content)

    again = receive(cast, opened.id, content)

    assert again.id != first.upload.id
    assert load(cast, again.id).outcomes("phq9/self") == {"repeated": 1}


def test_a_file_is_kept_sealed_and_its_name_too(cast: Cast, opened: Round) -> None:
    content = csv_of(phq9("A001") | {"student_name": "王小明"})

    receive(cast, opened.id, content, file_name="王小明.csv")

    for table, column in (("file_chunks", "sealed"), ("stored_files", "sealed_name")):
        (row,) = sending.rows(cast.database, cast.scope, f"select {column} from {table} where district_id = :district")
        assert "王小明".encode() not in row[column]


def test_a_file_that_is_too_large_leaves_nothing(cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidUpload) as refused, cast.database.unit(cast.scope) as session:
        monkeypatch.setattr(files, "store_file", _with_limit(files.store_file, 1_500_000))
        intake.receive(session, opened.id, iter([bytes(1_000_000)] * 2), file_name="x", by=cast.district_admin)

    assert refused.value.code == "too_large"
    assert sending.rows(cast.database, cast.scope, "select id from stored_files where district_id = :district") == []


def _with_limit(store: Any, limit: int) -> Any:
    return lambda *about, **more: store(*about, **more, max_bytes=limit)


def test_another_district_does_not_see_the_upload(cast: Cast, opened: Round) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001")), school_id=cast.school_a.id)

    for scope in (access.Scope(uuid.uuid4()), cast.scope_b):
        with cast.database.unit(scope) as session:
            for look in (intake.get, intake.problems):
                with pytest.raises(NotFound):
                    look(session, upload.id)


# -- loading once ----------------------------------------------------------------------------------------


def test_ten_who_send_and_load_at_once_share_one_load(cast: Cast, opened: Round, quick: None) -> None:
    content = csv_of(both("A001", 3), phq9("A006"), phq9("nobody", 3))

    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda _: receive(cast, opened.id, content).id, range(10)))
        loaded = list(pool.map(lambda upload_id: attempt(cast, upload_id), ids))

    assert len(set(ids)) == 1
    assert loaded.count(True) == 1
    assert receipt_of(cast, ids[0]).outcomes("phq9/self") == {"accepted": 2, "rejected": 1}
    assert len(sending.alerts(cast)) == 2


def test_two_files_about_the_same_students_at_once(cast: Cast, opened: Round, quick: None) -> None:
    """One is second: it finds everything repeated, and no alert is doubled."""
    ids = [receive(cast, opened.id, csv_of(phq9("A001", 3), phq9("A006", 3)) + tail).id for tail in (b"", b"\r\n")]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda upload_id: attempt(cast, upload_id), ids)) == [True, True]

    outcomes = sorted(str(receipt_of(cast, upload_id).outcomes("phq9/self")) for upload_id in ids)
    assert outcomes == ["{'accepted': 2}", "{'repeated': 2}"]
    assert sending.counts(cast)["results"] == sending.counts(cast)["alerts"] == 2


def test_a_load_that_another_worker_holds_is_left_to_it(cast: Cast, opened: Round, quick: None) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001")))
    with cast.database.direct() as holder:
        holder.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [f"upload/{upload.id}"])
        assert not attempt(cast, upload.id)
        assert receipt_of(cast, upload.id).upload.state == "received"

    assert attempt(cast, upload.id)
    assert not attempt(cast, upload.id)


def test_whatever_waits_is_loaded_oldest_first(cast: Cast, opened: Round, quick: None) -> None:
    for fill in (0, 1):
        receive(cast, opened.id, csv_of(phq9("A001", fill)))

    assert intake.load_waiting(cast.database, cast.district.id, weigh=raising.weigh_load) == 2
    assert intake.load_waiting(cast.database, cast.district.id, weigh=raising.weigh_load) == 0

    (form,) = sending.forms(cast, opened.id)
    assert form["answers"][:9] == [0] * 9


def test_an_upload_that_breaks_holds_up_none_behind_it(
    cast: Cast, opened: Round, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = receive(cast, opened.id, csv_of(phq9("A001", 1)))
    sound = receive(cast, opened.id, csv_of(phq9("A006", 1)))
    whole = loading.load

    def breaking(database: Any, upload: Any, *about: Any) -> None:
        if upload.id == broken.id:
            raise ZeroDivisionError
        whole(database, upload, *about)

    monkeypatch.setattr(loading, "load", breaking)
    with pytest.raises(ZeroDivisionError):
        intake.load_waiting(cast.database, cast.district.id, weigh=raising.weigh_load)

    assert receipt_of(cast, sound.id).upload.state == "loaded"
    assert receipt_of(cast, broken.id).upload.state == "received"


def test_a_receipt_says_when_and_the_file_is_erased_after_the_policys_days(
    cast: Cast, opened: Round, quick: None
) -> None:
    sent = send(cast, opened.id, csv_of(phq9("A001")))

    assert sent.upload.finished_at is not None and sent.upload.finished_at >= sent.upload.received_at
    assert sent.upload.progress == 1.0
    (row,) = sending.rows(cast.database, cast.scope, "select erase_at from stored_files where district_id = :district")
    days = row["erase_at"] - sent.upload.finished_at
    assert dt.timedelta(days=6, hours=23) < days < dt.timedelta(days=7, hours=1)


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_a_reading_process_that_is_killed_is_tried_again_and_in_the_end_refused_by_name(
    cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001", 3)))
    start = process._start

    def start_and_kill() -> Child:
        child = start()
        child.kill()
        return child

    monkeypatch.setattr(process, "_start", start_and_kill)
    assert [attempt(cast, upload.id) for _ in range(intake.MOST_FAILURES)] == [False, False, True]
    assert not attempt(cast, upload.id)

    sent = receipt_of(cast, upload.id)
    assert sent.upload.state == "refused"
    assert [problem.code for problem in sent.problems] == ["unreadable_memory"]
    assert sending.forms(cast, opened.id) == []


def test_a_reading_process_that_was_killed_once_costs_nothing(
    cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001", 3)))
    start = process._start
    with monkeypatch.context() as once:

        def start_and_kill() -> Child:
            child = start()
            child.kill()
            return child

        once.setattr(process, "_start", start_and_kill)
        assert not attempt(cast, upload.id)

    assert load(cast, upload.id).outcomes("phq9/self") == {"accepted": 1}


def test_a_load_that_is_interrupted_again_and_again_is_refused_by_name(
    cast: Cast, opened: Round, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001", 3)))
    monkeypatch.setattr(intake, "MOST_INTERRUPTIONS", 2)
    with monkeypatch.context() as dying:
        dying.setattr(loading, "load", lambda *_: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                attempt(cast, upload.id)

    attempt(cast, upload.id)

    sent = receipt_of(cast, upload.id)
    assert (sent.upload.state, [p.code for p in sent.problems]) == ("refused", ["interrupted_too_often"])


def test_a_race_is_tried_again_at_once(cast: Cast, opened: Round, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another door stores the student between our look and our insert."""
    upload = receive(cast, opened.id, csv_of(phq9("A001", 1)))
    looked = matching.match
    is_first = True

    def match_and_lose(session: Any, *about: Any) -> Any:
        nonlocal is_first
        found = looked(session, *about)
        if is_first:
            is_first = False
            _somebody_is_faster(cast, opened)
        return found

    monkeypatch.setattr(matching, "match", match_and_lose)

    assert load(cast, upload.id).outcomes("phq9/self") == {"repeated": 1}
    assert len(sending.forms(cast, opened.id)) == 1


def _somebody_is_faster(cast: Cast, made: Round) -> None:
    with cast.database.unit(cast.scope) as session:
        session.execute(
            text(
                "insert into administrations (district_id, round_id, student_id, informant, instrument, school_id,"
                " answers, status, missing_count, scores) values (:district, :round, :student, 'self', 'phq9', :school,"
                " '{1,1,1,1,1,1,1,1,1,NULL}', 'scored', 0, '{9,NULL}')"
            ),
            {
                "district": cast.district.id,
                "round": made.id,
                "student": cast.students.granted_13.id,
                "school": cast.school_a.id,
            },
        )


@pytest.mark.parametrize(
    "statement, error, failures",
    [
        ("select pg_terminate_backend(pg_backend_pid())", OperationalError, 0),
        ("do $$ begin raise exception using errcode = '53100'; end $$", OperationalError, 0),
        ("do $$ begin raise exception using errcode = 'XX000'; end $$", InternalError, 1),
    ],
    ids=["connection lost", "disk full", "an error of the database"],
)
def test_a_database_that_goes_down_is_no_fault_of_the_file(
    cast: Cast,
    opened: Round,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    error: type[Exception],
    failures: int,
) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001", 3)))
    with monkeypatch.context() as falling:
        falling.setattr(coverage, "recount", lambda session, *_: session.execute(text(statement)))
        with pytest.raises(error):
            attempt(cast, upload.id)

    waiting = receipt_of(cast, upload.id).upload
    assert (waiting.state, waiting.failures) == ("received", failures)
    assert sending.counts(cast)["administrations"] == sending.counts(cast)["alerts"] == 0
    assert load(cast, upload.id).outcomes("phq9/self") == {"accepted": 1}


def test_a_receipt_is_written_once(cast: Cast, opened: Round, quick: None) -> None:
    sent = send(cast, opened.id, csv_of(phq9("A001")))

    with pytest.raises(NotFound), cast.database.unit(cast.scope) as session:
        receipts.refuse(session, intake.get(session, sent.upload.id), [receipts.told("round_closed")])

    assert receipt_of(cast, sent.upload.id).receipt == sent.receipt


def test_progress_can_be_seen_while_a_file_is_loaded(
    cast: Cast, opened: Round, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = receive(cast, opened.id, csv_of(phq9("A001")))
    seen: list[float] = []
    watching = threading.Event()

    def look(*_: Any) -> None:
        seen.append(receipt_of(cast, upload.id).upload.progress)
        watching.set()

    monkeypatch.setattr(coverage, "recount", look)
    load(cast, upload.id)

    assert watching.is_set() and 0 < seen[0] < 1
