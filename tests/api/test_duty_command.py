"""The commands about duty, school days and policies: in words, with exit codes that a script can read."""

from pathlib import Path

import pytest

from screening import policy
from tests import sending
from tests.alerts.episodes import MONDAY, RED, ring
from tests.api.test_command import Shell, run
from tests.cast import Cast
from tests.factories import make_round
from tests.files import both, csv_of, phq9
from tests.sending import send

__all__ = ["run"]


def test_a_policy_that_would_lose_a_red_is_answered_no(
    cast: Cast, run: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    send(cast, made.id, csv_of(both("A001", 3), phq9("A007", 0)))
    more = ("--round", str(made.id), "--district", cast.district.code)
    same = tmp_path / "same.toml"
    same.write_text(policy.shipped().body, encoding="utf-8")
    came = run("policy", "simulate", str(same), *more)
    assert came.exit_code == 0, came.output
    assert "0 reds would be lost." in came.output
    softer = tmp_path / "softer.toml"
    body = policy.shipped().body.replace('daily"\ntier = "red"', 'daily"\ntier = "orange"')
    softer.write_text(body, encoding="utf-8")
    came = run("policy", "simulate", str(softer), *more)
    assert came.exit_code == 1
    assert "1 reds would be lost." in came.output
    broken = tmp_path / "broken.toml"
    broken.write_text(body.replace('role = "lead"', 'role = "nobody"'), encoding="utf-8")
    came = run("policy", "check", str(broken))
    assert (came.exit_code, "ladder[2].role" in came.output) == (1, True)
    assert run("policy", "simulate", str(broken), *more).exit_code == 2
    told = run("yield", *more)
    assert told.exit_code == 0, told.output
    assert "<10" in told.output  # one alert is nobody's statistic


def test_the_clocks_of_an_alert_are_told(cast: Cast, run: Shell) -> None:
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED, at=MONDAY)
    came = run("sla", "due", "--alert", str(alert.id), "--district", cast.district.code)
    assert came.exit_code == 0, came.output
    assert "answer by 2026-09-07 10:30" in came.output
    assert "rung 4    2026-09-07 11:30  duty_officer: waits" in came.output
    nobody = run("sla", "due", "--alert", str(cast.district.id), "--district", cast.district.code)
    assert nobody.exit_code == 2


def test_school_days_are_loaded(cast: Cast, run: Shell, tmp_path: Path) -> None:
    here = ("--district", cast.district.code)
    came = run("calendar", "load", "--china", "2025", "--china", "2026", *here)
    assert came.exit_code == 0, came.output
    assert "days entered into the calendar district" in came.output
    assert run("calendar", "terms", "2026-09-01:2027-01-22", *here).exit_code == 0
    assert "2026-12-31" in run("calendar", "list", *here).output
    file = tmp_path / "x.ics"
    file.write_text("nothing", encoding="utf-8")
    assert run("calendar", "load", str(file), *here).exit_code == 2
    assert run("calendar", "load", *here).exit_code == 2
    assert run("calendar", "terms", "2027-01-22:2026-09-01", *here).exit_code == 2
