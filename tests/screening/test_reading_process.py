"""The reading process: it answers as reading at home does, dies alone, keeps its limits, and inherits no secret."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from screening import reading
from screening.errors import InvalidUpload
from screening.reading import Limits, Part, ReaderFailed, Summary, process, wire
from tests.screening.test_reading import PHQ9, filled, plan_of, read, split, text_of


def readers() -> list[psutil.Process]:
    """The reading processes at work for this one: forks of its nest, or its own children where there is none."""
    begun = [child for child in psutil.Process().children() if "-m" in child.cmdline()]
    nests = [child for child in begun if "screening.reading.nest" in child.cmdline()]
    forked = [child for nest in nests for child in nest.children() if child.status() != psutil.STATUS_ZOMBIE]
    return forked + [child for child in begun if "screening.reading.child" in child.cmdline()]


def test_the_process_says_what_reading_at_home_says() -> None:
    data = text_of(filled("1"), filled("2", phq9_9="3", gad7_1="x"), filled("1")).encode()
    pieces = (data[i : i + 7] for i in range(0, len(data), 7))
    parts, summary = split(reading.read_answers(pieces, plan_of()))
    table, problems, at_home = read(data)
    assert len(parts) == 1
    assert parts[0].answers.equals(table)
    assert parts[0].answers.schema == table.schema
    assert [row[3] for row in parts[0].problems.iter_rows()] == [p.code for p in problems]
    assert parts[0].repeated["row"].to_list() == [4]
    assert summary == at_home


def test_a_refused_file_names_its_problems_across_the_pipe() -> None:
    with pytest.raises(InvalidUpload) as caught:
        list(reading.read_answers([b"%PDF-1.7"], plan_of()))
    assert [problem.code for problem in caught.value.problems] == ["not_a_table"]


def test_too_many_bytes_are_refused_while_they_come() -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield bytes(1000)

    with pytest.raises(InvalidUpload) as caught:
        list(reading.read_answers(endless(), plan_of(), Limits(file_bytes=10_000)))
    assert [problem.code for problem in caught.value.problems] == ["file_too_large"]
    assert len(taken) == 11


def test_memory_over_the_limit_ends_the_process_and_not_us() -> None:
    header = ",".join(["student_number", *PHQ9]).encode() + b"\n"
    rows = b"1,1,1,1,1,1,1,1,1,1\n" * 200_000
    limits = Limits(memory_bytes=100_000_000)
    with pytest.raises(ReaderFailed) as caught:
        list(reading.read_answers([header, rows], plan_of(("phq9", "student")), limits))
    assert caught.value.reason == "memory"


def test_time_over_the_limit_ends_the_process() -> None:
    def chunks() -> Iterator[bytes]:
        yield text_of(filled("1")).encode()
        (child,) = readers()
        child.wait(10)

    with pytest.raises(ReaderFailed) as caught:
        list(reading.read_answers(chunks(), plan_of(), Limits(wall_seconds=0.2)))
    assert caught.value.reason == "time"


def test_a_killed_process_is_a_failure_and_never_a_short_file() -> None:
    def chunks() -> Iterator[bytes]:
        yield text_of(filled("1")).encode()
        (child,) = readers()
        os.kill(child.pid, signal.SIGTERM)
        child.wait(10)
        yield text_of(filled("2")).encode()

    with pytest.raises(ReaderFailed) as caught:
        list(reading.read_answers(chunks(), plan_of()))
    assert caught.value.reason == "died"


def test_what_breaks_in_the_process_is_named_without_the_files_words() -> None:
    plan = reading.AnswersPlan((("code = 'no instrument'", "student"),))
    with pytest.raises(ReaderFailed) as caught:
        list(reading.read_answers([text_of(filled("secret")).encode()], plan))
    assert caught.value.where.startswith("DefinitionError at child.py:")


def test_leaving_early_or_failing_to_feed_leaves_no_process() -> None:
    limits = Limits(part_rows=1)
    parts = reading.read_answers([text_of(filled("1"), filled("2")).encode()], plan_of(), limits)
    assert isinstance(next(parts), Part)
    parts.close()  # type: ignore[attr-defined]

    def broken() -> Iterator[bytes]:
        yield b"student"
        raise RuntimeError("the database is gone")

    with pytest.raises(RuntimeError, match="the database is gone"):
        list(reading.read_answers(broken(), plan_of()))
    assert readers() == []


def test_the_process_inherits_no_environment_and_no_open_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:secret@db/screening")
    monkeypatch.setenv("SCREENING_MASTER_KEY_FILE", "/etc/key")
    seen: dict[str, str] = {}
    files: list[str] = []

    def chunks() -> Iterator[bytes]:
        (child,) = readers()
        seen.update(child.environ())
        files.extend(opened.path for opened in child.open_files())
        yield text_of(filled("1")).encode()

    list(reading.read_answers(chunks(), plan_of()))
    assert seen and not any("secret" in value or "DATABASE" in name for name, value in seen.items())
    assert not any(name.startswith("SCREENING") for name in seen)
    assert files == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_the_process_dies_with_its_parent() -> None:
    script = (
        "import sys, time\n"
        "from screening.reading import process\n"
        "child = process._start()\n"
        "child.stdin.write((3).to_bytes(4, 'big'))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(process.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(15)
    assert not child.is_running()


def test_frames_that_are_cut_or_false_are_told_apart_from_the_end() -> None:
    out = io.BytesIO()
    wire.write_frame(out, {"kind": "part"}, [pl.DataFrame({"a": [1, 2]})])
    whole = out.getvalue()
    found = wire.read_frame(io.BytesIO(whole).read)
    assert found is not None and found[1][0].to_dict(as_series=False) == {"a": [1, 2]}
    assert wire.read_frame(io.BytesIO(b"").read) is None
    for broken in (whole[:2], whole[:20], whole[:-1], b"\xff" * 40, whole[:-60] + bytes(60)):
        with pytest.raises(wire.BrokenFrame):
            wire.read_frame(io.BytesIO(broken).read)


def test_a_district_of_28000_is_read_in_little_memory() -> None:
    data = text_of(*(filled(str(i), i % 4) for i in range(28_000))).encode()
    peaks = []
    for part in reading.read_answers([data], plan_of(), Limits(part_rows=7_000)):
        if isinstance(part, Summary):
            assert part.rows == 28_000
        else:
            peaks += [child.memory_info().rss for child in readers()]
    assert peaks and max(peaks) < 300_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each reading process begins by itself")
def test_a_nest_that_died_is_begun_anew_and_each_child_reads_one_file() -> None:
    seen: list[tuple[int, int]] = []

    def chunks() -> Iterator[bytes]:
        seen.extend((child.pid, child.ppid()) for child in readers())
        yield text_of(filled("1")).encode()

    list(reading.read_answers(chunks(), plan_of()))
    list(reading.read_answers(chunks(), plan_of()))
    os.kill(seen[0][1], signal.SIGKILL)
    list(reading.read_answers(chunks(), plan_of()))
    (first, nest), (second, same), (third, anew) = seen
    assert len({first, second, third}) == 3
    assert nest == same != anew
