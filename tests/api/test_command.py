"""The command: the same verbs in words and exit codes, and never a traceback."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from api.cli import app
from screening.models import Staff
from tests.asking import TestClient
from tests.cast import Cast
from tests.conftest import MASTER_KEY
from tests.doors import PHQ9, Caller, answers_csv, app_on, caller, round_body
from tests.factories import make_staff

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "medstudents_mx" / "depression_data.csv"


@pytest.fixture
def run(cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Shell]":
    key = tmp_path / "key"
    key.write_bytes(MASTER_KEY)
    key.chmod(0o600)
    for name, value in {
        "DATABASE_URL": cast.database.url,
        "SCREENING_HOME": str(tmp_path / "home"),
        "SCREENING_MASTER_KEY_FILE": str(key),
    }.items():
        monkeypatch.setenv(name, value)
    yield Shell()


class Shell:
    """Runs the command in this process."""

    def __call__(self, *words: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, words, input=stdin, catch_exceptions=False)


def write(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return str(folder / name)


# -- scoring a file -------------------------------------------------------------------------------------


def test_each_row_keeps_its_columns_and_gets_its_scores(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "id,1,2,3,4,5,6,7,8,9\na,0,1,2,3,0,1,2,3,0\nb,３,3,3,3,3.0,3,3,3,1\nc,,,,,,,,,\n")
    out = tmp_path / "out.csv"
    came = CliRunner().invoke(app, ["score", "phq9", file, "-o", str(out)])
    assert came.exit_code == 0, came.output
    rows = pl.read_csv(out, schema_overrides={"1": pl.String}).to_dicts()
    assert [(row["id"], row["status"], row["n_missing"], row["total"], row["total_band"]) for row in rows] == [
        ("a", "scored", 0, 12, "moderate"),
        ("b", "scored", 0, 25, "severe"),
        ("c", "not_scorable", 9, None, None),
    ]
    assert [row["critical"] for row in rows] == [None, "phq9_9", None]
    assert [row["ge10"] for row in rows] == [True, True, None]


def test_a_bad_cell_costs_its_row_and_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "id," + ",".join(PHQ9) + "\na,0,1,2,3,0,1,2,7,3\nb,0,0,0,0,0,0,0,0,0\n")
    came = CliRunner().invoke(app, ["score", "phq9", file])
    assert came.exit_code == 1
    rows = pl.read_csv(io.StringIO(came.stdout)).to_dicts()
    assert [(row["status"], row["total"]) for row in rows] == [("out_of_range", None), ("scored", 0)]
    assert rows[0]["critical"] == "phq9_9"
    assert "row 2, column phq9_8" in came.stderr


@pytest.mark.parametrize("ending", ["xlsx", "parquet", "csv"])
def test_every_kind_of_file_goes_in_and_out(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"who": ["a", "b"], **{item: [1, 2] for item in PHQ9}})
    source, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    {"xlsx": frame.write_excel, "parquet": frame.write_parquet, "csv": frame.write_csv}[ending](source)
    came = CliRunner().invoke(app, ["score", "phq9", str(source), "-o", str(out)])
    assert came.exit_code == 0, came.output
    scored = {"xlsx": pl.read_excel, "parquet": pl.read_parquet, "csv": pl.read_csv}[ending](out)
    assert scored["total"].cast(pl.Int64).to_list() == [9, 18]
    assert scored["who"].to_list() == ["a", "b"]
    if ending == "parquet":
        assert scored["phq9_1"].dtype == pl.Int64


def test_a_name_that_is_taken_stays_the_inputs_own(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "total,status," + ",".join(PHQ9) + "\n99,mine" + ",1" * 9 + "\n")
    came = CliRunner().invoke(app, ["score", "phq9", file])
    (row,) = pl.read_csv(io.StringIO(came.stdout)).to_dicts()
    assert (row["total"], row["status"], row["phq9_total"], row["phq9_status"]) == (99, "mine", 9, "scored")


def test_a_file_that_cannot_be_scored_is_said_in_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    out = str(tmp_path / "out.csv")
    items = ",".join(PHQ9)
    for words, name, content in (
        ("The file is empty.", "empty.csv", ""),
        ("No column holds an item of phq9", "other.csv", "a,b\n1,2\n3,4\n"),
        ("No column holds phq9_9", "lacking.csv", ",".join(PHQ9[:-1]) + "\n" + ",".join("0" * 8) + "\n"),
        ("mean the same", "twice.csv", items + ",PHQ9-1\n" + ",".join("0" * 10) + "\n"),
        ("There is no row", "bare.csv", items + "\n"),
        ("a PDF document", "pdf.csv", "%PDF-1.7 ..."),
    ):
        came = CliRunner().invoke(app, ["score", "phq9", write(tmp_path, name, content), "-o", out])
        assert (came.exit_code, words in came.stderr) == (2, True), (name, came.stderr)
        assert "Traceback" not in came.stderr
        assert not Path(out).exists()
    file = write(tmp_path, "good.csv", items + "\n" + ",".join("0" * 9) + "\n")
    for words in (
        ["score", "nope", file],
        ["score", "phq9", str(tmp_path / "absent.csv")],
        ["score", "phq9", file, "--form", "teacher"],
        ["score", "phq9", file, "--layout", "nope"],
        ["score", "phq9", file, "--map", "nonsense"],
        ["score", "phq9", file, "--map", "absent=phq9_1"],
        ["score", "phq9", file, "-o", str(tmp_path / "out.doc")],
    ):
        came = CliRunner().invoke(app, words)
        assert came.exit_code == 2, (words, came.output)
        assert came.stderr.strip()


def test_a_pipe_scores_from_standard_input(tmp_path: Path) -> None:
    content = (",".join(PHQ9) + "\n" + ",".join("2" * 9) + "\n").encode()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "api.cli", "score", "phq9", "-"],
        input=content,
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=120,
    )
    assert pl.read_csv(done.stdout)["total"].to_list() == [18]


def test_real_answers_sum_as_a_plain_sum_does() -> None:
    if not REAL.exists():
        pytest.skip("the published data are not in the folder beside this checkout")
    maps = [word for n in range(1, 10) for word in ("--map", f"phq{n}=phq9_{n}")]
    came = CliRunner().invoke(app, ["score", "phq9", str(REAL), *maps])
    scored = pl.read_csv(io.StringIO(came.stdout), infer_schema_length=None)
    plain = pl.read_csv(REAL, infer_schema=False).select(
        [pl.col(f"phq{n}").cast(pl.Int64, strict=False) for n in range(1, 10)]
    )
    whole = plain.with_columns(
        total=pl.when(pl.all_horizontal(pl.all().is_between(0, 3))).then(pl.sum_horizontal(pl.all()))
    )["total"]
    complete = scored["status"] == "scored"
    assert complete.sum() == whole.is_not_null().sum() > 700
    assert scored.filter(complete)["total"].to_list() == whole.drop_nulls().to_list()


# -- the library ----------------------------------------------------------------------------------------


def test_the_library_is_listed_shown_and_checked(tmp_path: Path) -> None:
    assert "phq9" in CliRunner().invoke(app, ["instruments"]).stdout
    shown = CliRunner().invoke(app, ["instruments", "show", "phq9"])
    good = write(tmp_path, "good.toml", shown.stdout)
    assert CliRunner().invoke(app, ["instruments", "check", good]).exit_code == 0
    bad = write(tmp_path, "bad.toml", "code = 1\n")
    came = CliRunner().invoke(app, ["instruments", "check", bad])
    assert came.exit_code == 1
    assert len(came.stderr.splitlines()) > 3
    assert CliRunner().invoke(app, ["instruments", "show", "nope"]).exit_code == 2


def test_a_policy_is_checked(tmp_path: Path) -> None:
    shipped = ROOT / "screening" / "policies" / "cn_default.toml"
    assert CliRunner().invoke(app, ["policy", "check", str(shipped)]).exit_code == 0
    bad = write(tmp_path, "bad.toml", shipped.read_text().replace("phq9", "phq99"))
    assert CliRunner().invoke(app, ["policy", "check", bad]).exit_code in (0, 1)
    broken = write(tmp_path, "broken.toml", "x = [")
    came = CliRunner().invoke(app, ["policy", "check", broken])
    assert (came.exit_code, bool(came.stderr)) == (1, True)


# -- operating ------------------------------------------------------------------------------------------


@pytest.fixture
def round_id(cast: Cast) -> str:
    with TestClient(app_on(cast.database)) as client:
        admin = caller(client, cast.database, cast.district_admin)
        made = admin.post("/v1/rounds", json=round_body(name="Autumn round"))
        admin.post(f"{made.headers['location']}/open")
    return str(made.json()["id"])


def test_an_upload_is_loaded_and_answered(cast: Cast, run: Shell, round_id: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", answers_csv({"A001": 3, "A007": 1, "nobody": 0}))
    common = ["--district", cast.district.code]
    dry = run("upload", "--round", round_id, file, "--dry-run", "--json", *common)
    assert (dry.exit_code, json.loads(dry.stdout)["state"]) == (0, "loaded")
    came = run("upload", "--round", "Autumn round", file, *common)
    assert came.exit_code == 0, came.stderr
    assert "row 4" in came.stderr
    again = json.loads(run("upload", "--round", round_id, file, "--json", *common).stdout)
    assert again["forms"]["phq9/self"]["repeated"] == 2
    assert again["problem_list"][0]["row"] == 4
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select count(*) from results")).scalar_one() == 2
        told = session.execute(text("select count(*) from audit_entries where role = 'operator'")).scalar_one()
    assert told >= 3
    replayed = run("replay", *common)
    assert (replayed.exit_code, replayed.stdout) == (0, "2 results derived again, 0 differences\n")


def test_an_upload_that_is_refused_says_why(cast: Cast, run: Shell, round_id: str, tmp_path: Path) -> None:
    common = ["--round", round_id, "--district", cast.district.code]
    refused = run("upload", write(tmp_path, "other.csv", "a,b\n1,2\n"), *common)
    assert refused.exit_code == 1
    assert "No column holds" in refused.stderr
    for words in (
        ["upload", write(tmp_path, "empty.csv", ""), *common],
        ["upload", write(tmp_path, "a.csv", "a\n"), "--round", "nope", "--district", cast.district.code],
        ["upload", write(tmp_path, "a.csv", "a\n"), *common, "--school", "nope"],
        ["upload", write(tmp_path, "a.csv", "a\n"), "--round", round_id, "--district", "nope"],
        ["upload", "absent.csv", *common],
        ["upload"],
    ):
        came = run(*words)
        assert came.exit_code == 2, (words, came.output)
        assert "Traceback" not in came.stderr


def test_a_roster_is_proposed_and_committed(cast: Cast, run: Shell, tmp_path: Path) -> None:
    file = write(tmp_path, "r.csv", "school_code,student_number,student_name,grade\nA,N1,新,8\nA,N2,同,99\n")
    proposed = json.loads(run("roster", file, "--district", cast.district.code, "--json").stdout)
    assert (proposed["state"], proposed["new"], proposed["refused"]) == ("proposed", 1, 1)
    done = run("roster", file, "--district", cast.district.code, "--commit")
    assert (done.exit_code, "committed" in done.stdout) == (0, True)
    assert "row 3" in done.stderr


def test_a_token_opens_the_doors_and_is_kept_account_of(cast: Cast, run: Shell) -> None:
    email = f"{cast.district.code}@x.test"
    with cast.database.unit(cast.scope) as session:
        hired, _ = make_staff(session, ("counselor", cast.school_a.id), email=email)
        assert isinstance(hired, Staff)
    came = run("token", "--email", email, "--minutes", "5")
    assert came.exit_code == 0
    with TestClient(app_on(cast.database)) as client:
        assert Caller(client, came.stdout.strip()).get("/v1/alerts").status_code == 200
    with cast.database.unit(cast.scope) as session:
        line = session.execute(text("select role, detail from audit_entries where action = 'token.issued'")).one()
    assert (line.role, line.detail["minutes"]) == ("operator", 5)
    unknown = run("token", "--email", "nobody@x.test")
    assert (unknown.exit_code, unknown.stderr) == (2, "There is no account for this address.\n")


def test_coverage_is_told_as_released(cast: Cast, run: Shell, round_id: str) -> None:
    common = ["--round", round_id, "--district", cast.district.code]
    assert run("coverage", *common).exit_code == 2
    with TestClient(app_on(cast.database)) as client:
        admin = caller(client, cast.database, cast.district_admin)
        admin.post("/v1/coverage/releases", json={"round_id": round_id})
        told = admin.get(f"/v1/coverage?round={round_id}&by=school").json()
        table = admin.get(f"/v1/coverage?round={round_id}&by=school", headers={"Accept": "text/csv"}).text
    assert json.loads(run("coverage", *common, "--by", "school", "--format", "json").stdout) == told
    assert run("coverage", *common, "--by", "school", "--format", "csv").stdout.splitlines() == table.splitlines()
    assert "released on" in run("coverage", *common).stdout


def test_unusable_settings_are_named_all_at_once(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREENING_ENV", "staging")
    monkeypatch.setenv("SCREENING_TIMEZONE", "Mars/Olympus")
    came = run("token", "--email", "a@x.test")
    assert came.exit_code == 2
    assert [line.split(":")[0] for line in came.stderr.splitlines()] == ["SCREENING_ENV", "SCREENING_TIMEZONE"]


def test_a_database_that_does_not_answer_is_said_in_words(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@/nowhere?host=/nonexistent")
    came = run("replay")
    assert (came.exit_code, "does not answer" in came.stderr) == (2, True)


def test_a_drill_pretends_a_time_in_development_only(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("worker", "--at", "2026-09-01").exit_code == 2
    assert run("worker", "--once", "--at", "noon").exit_code == 2
