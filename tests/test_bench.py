"""The benchmarks run, say what they found, and notice when a figure would be of other work."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest

import bench
from bench import coverage, grounds, minimal, queue, scoring, submit, upload
from bench.figures import Figure, Report
from bench.population import Population, truth
from screening import embedded

ROWS = 300


def test_a_small_population_is_the_beginning_of_a_large_one() -> None:
    small, large = Population(1_500), Population(60_000)
    assert (large.answers[:, :1_500] == small.answers).all()
    assert large.numbers[:1_500] == small.numbers
    assert (large.bad_item[:1_500] == small.bad_item).all()


def test_numbers_begin_with_zero_and_are_nobody_elses() -> None:
    numbers = Population(60_000).numbers
    assert len(set(numbers)) == 60_000
    assert all(number.startswith("0") and len(number) == 10 for number in numbers)


def test_the_file_has_the_blanks_and_faults_it_should(tmp_path: Path) -> None:
    population = Population(50_000)
    population.write(tmp_path / "answers.csv")
    read = pl.read_csv(tmp_path / "answers.csv", infer_schema=False)
    known = set(population.numbers)
    unknown = [number for number in read["student_number"] if number not in known]
    assert len(unknown) == population.is_unknown.sum() == pytest.approx(50, abs=30)
    items = read.drop("school_code", "student_number")
    assert items.null_count().sum_horizontal().item() / (33 * read.height) == pytest.approx(0.03, abs=0.001)
    n_bad = items.select(pl.sum_horizontal(pl.all().is_in(["7", "?"]).sum())).item()
    assert n_bad == (population.bad_item >= 0).sum() == pytest.approx(50, abs=30)


def test_every_row_has_one_outcome_per_form() -> None:
    expected = truth(Population(5_000))
    assert all(sum(outcomes.values()) == 5_000 for outcomes in expected.forms.values())
    assert 0 < expected.results_by_tier[3] < expected.results_by_tier[1] < expected.results_by_tier[0]


def test_all_scorers_agree() -> None:
    found = scoring.compare(rows=2_000, runs=1)
    assert len(set(found["checksums"].values())) == 1
    assert all(seconds[0] > 0 for seconds in found["seconds"].values())


def test_a_checksum_sees_a_single_answer() -> None:
    frame = Population(100).frame()
    other = frame.with_columns(
        phq9_1=pl.when(pl.int_range(pl.len()) == 7).then(3 - pl.col("phq9_1")).otherwise("phq9_1")
    )
    assert frame["phq9_1"][7] is not None
    assert len({scoring.checksum(scoring._of_product(scoring.product(one))) for one in (frame, other)}) == 2


def test_the_minimal_app_weighs_as_the_product_does() -> None:
    rng = random.Random(1)  # noqa: S311 - no secret
    plain, weighty = ([submit.form(rng, is_weighty=w) for _ in range(500)] for w in (False, True))
    assert len(set(plain)) > 250
    assert all(minimal.scored(list(answers))[2] == 0 for answers in plain)
    assert all(minimal.scored(list(answers))[2] > 0 for answers in weighty)


def test_scoring_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "scoring", "--rows", "500", "--runs", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["failed_checks"] == []
    assert said["figures"][0]["ratio"] > 0


def test_quality_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "quality", "--rows", "2000", "--runs", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["failed_checks"] == []
    assert [figure["rows"] for figure in said["figures"]] == [2_000] * 3


def test_upload_coverage_and_queue_do_the_work_they_measure(
    server: embedded.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    grounds.prepare(server)
    report = Report(is_json=False)
    ground = upload.bench(report, server, [ROWS], runs=1)
    assert ground is not None
    coverage.bench(report, ground, runs=1, reads=2)
    queue.bench(report, ground, pages=2)
    assert report.failed == []
    by_name = {(figure.bench, figure.reference): figure for figure in report.figures}
    copied = by_name["upload", "bare COPY"].more["rows_copied"]
    assert copied["results"] == copied["weighings"] > 0.9 * ROWS
    assert "WRONG" not in capsys.readouterr().out
    ground.drop()


def test_a_wrong_count_is_said_and_ends_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(is_json=False)
    report.check("rows", 3, 4)
    report.end()
    assert not report.is_right
    assert "WRONG rows: found 3, expected 4" in capsys.readouterr().out


def test_growth_is_told_as_a_power() -> None:
    report = Report(is_json=True)
    report.growth("scoring", "product", {100: 1.0, 1_000: 10.0})
    assert report.notes[0]["exponent"] == 1.0


def test_a_ratio_is_how_fast_the_product_is_beside_its_reference() -> None:
    figure = Figure("scoring", "what", [2.0, 4.0, 3.0], "reference", [1.5, 9.0, 1.0], rows=300)
    assert figure.ratio == 0.5
    assert figure.as_json()["rows_per_s"] == 100
    assert figure.line().split(" | ")[1] == "100 students/s"


def test_fhir_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "fhir", "--rows", "300", "--runs", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["failed_checks"] == []
    assert said["figures"][0]["ratio"] > 0


def test_one_that_is_told_to_end_leaves_no_database_behind() -> None:
    command = [sys.executable, "-m", "api.cli", "bench", "--only", "submit", "--quick"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as measuring:
        assert measuring.stdout is not None
        while "server_version" not in measuring.stdout.readline():
            assert measuring.poll() is None
        servers = [one for one in psutil.Process(measuring.pid).children(recursive=True) if "postgres" in one.name()]
        assert servers
        measuring.terminate()
        _, errors = measuring.communicate(timeout=60)
    assert not any(server.is_running() for server in servers)
    assert (measuring.returncode, errors) == (128 + signal.SIGTERM, "")
