"""Files at the doors: streamed into the database, loaded by the worker, answered by a receipt."""

import csv
import io
import json
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from api import multipart
from api.v1.uploads import as_csv, harmless
from screening.errors import Problem
from screening.models import Upload
from tests.alerts.episodes import race
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import PHQ9, Caller, answers_csv, app_on, caller, round_body, work


@pytest.fixture
def client(cast: Cast) -> Iterator[TestClient]:
    with TestClient(app_on(cast.database)) as opened:
        yield opened


@pytest.fixture
def secretary(cast: Cast, client: TestClient) -> Caller:
    return caller(client, cast.database, cast.school_admin_a)


@pytest.fixture
def address(cast: Cast, client: TestClient) -> str:
    admin = caller(client, cast.database, cast.district_admin)
    made = admin.post("/v1/rounds", json=round_body())
    admin.post(f"{made.headers['location']}/open")
    return f"{made.headers['location']}/uploads"


FORM = "multipart/form-data; boundary=x"


def sent(content: str | bytes, name: str = "a.csv") -> dict[str, tuple[str, str | bytes]]:
    return {"file": (name, content)}


def test_a_file_becomes_results_and_a_receipt(cast: Cast, client: TestClient, secretary: Caller, address: str) -> None:
    came = secretary.post(address, files=sent(answers_csv({"A001": 1, "A007": 3, "A006": "x", "nobody": 0})))
    assert (came.status_code, came.json()["state"]) == (202, "received")
    work(cast)
    ended = secretary.get(came.headers["location"]).json()
    assert (ended["state"], ended["progress"]) == ("loaded", 1.0)
    counted = ended["receipt"]["forms"]["phq9/self"]
    assert (counted["accepted"], counted["rejected"]) == (2, 2)
    assert {(problem["row"], problem["code"]) for problem in ended["problems"]} >= {
        (4, "not_a_code"),
        (5, "unknown_student"),
    }
    table = secretary.get(f"{came.headers['location']}/problems.csv")
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text.removeprefix("\ufeff"))))
    assert len(rows) == ended["receipt"]["problems"]
    an = caller(client, cast.database, cast.an)
    for alert in an.get("/v1/alerts").json()["alerts"]:
        an.post(f"/v1/alerts/{alert['id']}/acknowledgement")
    student = cast.students.guardian_grant_16.id
    round_id = ended["round_id"]
    result = an.get(f"/v1/results/{student}/{round_id}").json()
    assert result["result"]["tier"] == "red"
    assert result["forms"][0]["answers"] == dict.fromkeys(PHQ9, 3) | {"phq9_10": None}
    assert result["forms"][0]["scores"]["total"] == 27
    assert result["forms"][0]["bands"]["total"] == "severe"
    why = an.get(f"/v1/results/{student}/{round_id}/explanation").json()
    assert why["tier"] == "red" == why["reasons"][0]["tier"]
    history = an.get(f"/v1/students/{student}/history").json()["rounds"]
    assert [(each["round_id"], each["result"]["tier"]) for each in history] == [(round_id, "red")]


def test_the_column_map_and_the_school_come_as_fields_before_the_file(
    cast: Cast, client: TestClient, address: str
) -> None:
    admin = caller(client, cast.database, cast.district_admin)
    content = "nr," + ",".join(f"q{n}" for n in range(1, 10)) + "\nA001," + ",".join("0" * 9) + "\n"
    columns = {"nr": "student_number"} | {f"q{n}": f"phq9_{n}" for n in range(1, 10)}
    fields = {"school": "A", "map": json.dumps(columns)}
    came = admin.post(address, data=fields, files=sent(content))
    work(cast)
    ended = admin.get(came.headers["location"]).json()
    assert (ended["state"], ended["receipt"]["forms"]["phq9/self"]["accepted"]) == ("loaded", 1)


def test_a_dry_run_keeps_nothing(cast: Cast, secretary: Caller, address: str) -> None:
    came = secretary.post(f"{address}?dry_run=true", files=sent(answers_csv({"A001": 1})))
    work(cast)
    ended = secretary.get(came.headers["location"]).json()
    assert (ended["state"], ended["is_dry_run"]) == ("loaded", True)
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select count(*) from results")).scalar_one() == 0


def test_ten_at_once_are_one_load_and_ten_same_receipts(cast: Cast, secretary: Caller, address: str) -> None:
    content = answers_csv({"A001": 1, "A007": 3})
    came = race(*[lambda: secretary.post(address, files=sent(content))] * 10)
    places = {each.headers["location"] for each in came if not isinstance(each, Exception)}
    assert len(places) == 1
    work(cast)
    assert secretary.get(places.pop()).json()["receipt"]["students"] == 2
    with cast.database.unit(cast.scope) as session:
        assert session.query(Upload).count() == 1
        assert session.execute(text("select count(*) from results")).scalar_one() == 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"map": "not json"}, "invalid_map"),
        ({"map": "[]"}, "invalid_map"),
        ({"map": '{"a": 1}'}, "invalid_map"),
        ({"map": '{"a": "\\u0000"}'}, "invalid_map"),
        ({"surprise": "x"}, "unknown_field"),
        ({"map": "x" * 300_000}, "too_large"),
    ],
)
def test_a_field_that_is_none_is_told(secretary: Caller, address: str, fields: dict[str, str], code: str) -> None:
    came = secretary.post(address, data=fields, files=sent("a,b\n"))
    assert (came.status_code in (413, 422), came.json()["code"]) == (True, code), came.text


def raw(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    return (
        b"".join(
            b"--x\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + body + b"\r\n"
            for head, body in parts
        )
        + end
    )


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"", FORM, "form_cut_off"),
        (raw(), FORM, "no_file"),
        (raw(('name="map"', b"{}")), FORM, "no_file"),
        (raw(('name="file"; filename="a"', b"a,b"), ('name="map"', b"{}")), FORM, "file_not_last"),
        (raw(('name="file"; filename="a"', b"a,b"), end=b""), FORM, "form_cut_off"),
        (raw(('name="other"; filename="a"', b"a,b")), FORM, "unknown_field"),
        (raw(('name="map"', b"\xff"), ('name="file"; filename="a"', b"a")), FORM, "unreadable_field"),
        (b"nonsense", FORM, "unreadable_form"),
        (b"a,b", "multipart/form-data", "not_a_form"),
        (b"a,b", "text/csv", "not_a_form"),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_told_and_nothing_of_it_is_kept(
    cast: Cast, secretary: Caller, address: str, body: bytes, kind: str, code: str
) -> None:
    came = secretary.post(address, content=body, headers={"Content-Type": kind})
    assert (came.status_code, came.json()["code"]) == (422, code), came.text
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select count(*) from stored_files")).scalar_one() == 0


def test_a_file_that_is_too_large_is_cut_while_it_comes(
    cast: Cast, secretary: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "MOST_FILE_BYTES", 50_000)
    came = secretary.post(address, files=sent("x" * 60_000))
    assert (came.status_code, came.json()["code"]) == (413, "too_large")
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select count(*) from file_chunks")).scalar_one() == 0


def test_the_parts_of_a_file_come_together_wherever_the_network_cuts_them() -> None:
    content = bytes(range(256)) * 40 + b"\r\n--x\r\r\n--"
    body = raw(('name="map"', '{"名": "phq9_1"}'.encode()), ('name="file"; filename="表.csv"', content))
    for size in (1, 2, 3, 7, 100, len(body)):
        pieces = iter([body[at : at + size] for at in range(0, len(body), size)])
        form = multipart.SentForm(
            "multipart/form-data; boundary=x", lambda pieces=pieces: next(pieces, b""), fields=frozenset({"map"})
        )
        assert form.mapping("map") == {"名": "phq9_1"}
        assert form.file_name == "表.csv"
        assert b"".join(form.content()) == content


def test_a_cell_that_a_spreadsheet_would_run_is_text() -> None:
    risky = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "＝1", " =1", "|x", "%0", "\x00=1"]
    assert all(str(harmless(cell)).startswith("'") for cell in risky)
    assert [harmless(cell) for cell in (-1, 3, "plain", None)] == [-1, 3, "plain", ""]
    told = list(csv.reader(io.StringIO(as_csv([Problem("odd", "Look here.", "=A1", 3, "+x")]).removeprefix("\ufeff"))))
    assert told[1] == ["'=A1", "3", "'+x", "odd", "Look here."]


def test_a_roster_becomes_a_proposal_and_is_committed(cast: Cast, secretary: Caller, client: TestClient) -> None:
    listed = "student_number,student_name,grade,class_name,guardian_consent\nA900,新同学,8,2,yes\n,无名,8,2,yes\n"
    came = secretary.post("/v1/rosters", files=sent(listed, "roster.csv"))
    assert (came.status_code, came.json()["state"]) == (202, "received")
    work(cast)
    address = came.headers["location"]
    proposal = secretary.get(address).json()
    assert (proposal["state"], proposal["counts"]["new"], proposal["counts"]["refused"]) == ("proposed", 1, 1)
    assert proposal["rows"][0]["listed"]["student_name"] == "新同学"
    first_page = secretary.get(f"{address}?limit=1")
    assert [row["row"] for row in first_page.json()["rows"]] == [2]
    next_page = first_page.headers["link"].split(">")[0].removeprefix("<")
    assert [row["row"] for row in secretary.get(next_page).json()["rows"]] == [3]
    done = secretary.post(f"{address}/commit", json={})
    assert (done.status_code, done.json()["state"]) == (200, "committed")
    assert secretary.post(f"{address}/commit", json={}).json()["code"] == "roster_committed"
    names = {student["name"] for student in secretary.get("/v1/students?grade=8&class_name=2").json()["students"]}
    assert names == {"新同学"}


def test_pages_of_a_list_join_without_a_gap_or_a_repetition(cast: Cast, client: TestClient) -> None:
    an = caller(client, cast.database, cast.an)
    seen: list[str] = []
    address: str | None = "/v1/students?limit=3"
    while address:
        came = an.get(address)
        seen += [student["id"] for student in came.json()["students"]]
        address = came.headers["link"].split(">")[0].removeprefix("<") if "link" in came.headers else None
    assert len(seen) == len(set(seen)) == 10


def test_the_queue_pages_by_tier_and_time(cast: Cast, client: TestClient, secretary: Caller, address: str) -> None:
    came = secretary.post(address, files=sent(answers_csv({"A001": 2, "A006": 3, "A007": 1, "A010": 3})))
    work(cast)
    assert secretary.get(came.headers["location"]).json()["receipt"]["students"] == 4
    an = caller(client, cast.database, cast.an)
    whole = [(alert["tier"], alert["id"]) for alert in an.get("/v1/alerts").json()["alerts"]]
    assert [tier for tier, _ in whole] == ["red", "red", "orange", "orange"]
    paged, next_page = [], "/v1/alerts?limit=1"
    while next_page:
        page = an.get(next_page)
        paged += [(alert["tier"], alert["id"]) for alert in page.json()["alerts"]]
        next_page = page.headers["link"].split(">")[0].removeprefix("<") if "link" in page.headers else ""
    assert paged == whole
    reds = an.get("/v1/alerts?tier=red&status=new&school=A").json()["alerts"]
    assert len(reds) == 2


def test_a_page_of_answers_rings_before_it_is_handed_in(cast: Cast, client: TestClient, address: str) -> None:
    an = caller(client, cast.database, cast.an)
    round_address = address.removesuffix("/uploads")
    waiting = an.get(f"{round_address}/assignments").json()["waiting"]
    own = next(each for each in waiting if each["student_id"] == str(cast.students.granted_13.id))
    place = own["assignment_ids"][0]
    saved = an.ask("PUT", f"/v1/assignments/{place}/answers", json={"answers": {"phq9_9": 3}})
    assert saved.json() == {"assignment_id": place, "is_kept": True}
    assert [alert["tier"] for alert in an.get("/v1/alerts").json()["alerts"]] == ["red"]
    answers = dict.fromkeys(PHQ9, 0) | {"phq9_9": None}
    done = an.post(f"/v1/assignments/{place}/submit", json={"answers": answers})
    assert done.status_code == 200
    assert [alert["tier"] for alert in an.get("/v1/alerts").json()["alerts"]] == ["red"]
    assert an.ask("PUT", f"/v1/assignments/{place}/answers", json={"answers": {"phq9_9": 9}}).status_code == 422
    assert an.ask("PUT", f"/v1/assignments/{place}/answers", json={"answers": {"phq9_9": "3"}}).status_code == 422


def test_released_figures_are_all_that_the_district_sees(
    cast: Cast, client: TestClient, secretary: Caller, address: str
) -> None:
    secretary.post(address, files=sent(answers_csv({"A001": 2, "A007": 3})))
    work(cast)
    round_id = address.split("/")[3]
    admin = caller(client, cast.database, cast.district_admin)
    analyst = caller(client, cast.database, cast.district_analyst)
    made = admin.post("/v1/coverage/releases", json={"round_id": round_id})
    assert made.status_code == 201
    assert made.json() == admin.get(made.headers["location"]).json()
    told = analyst.get(f"/v1/coverage?round={round_id}&by=school").json()
    assert told["kind"] == "released"
    assert all(row["suppressed"] and row["counts"]["red"] is None for row in told["rows"])
    table = analyst.get(f"/v1/coverage?round={round_id}&by=school", headers={"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == len(told["rows"]) + 1
    outcomes = caller(client, cast.database, cast.lead).get(f"/v1/outcomes?round={round_id}").json()
    assert (outcomes["raised"], outcomes["raised_red"], outcomes["closed_loop_share"]) == (2, 1, 0.0)
