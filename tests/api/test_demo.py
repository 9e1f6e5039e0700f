"""The made-up district: what was planted is found, nothing else passes for it, and a broken loop is noticed."""

import base64
import dataclasses
import datetime as dt
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from api import demo
from api.demo import figures, hands, stage, town
from screening import embedded, second_factor, signing_in, staff
from screening.db import Database
from screening.settings import Settings
from tests.conftest import MASTER_KEY

FEW = 400
TODAY = dt.date(2026, 9, 1)


@pytest.fixture(scope="module")
def few() -> town.Town:
    return town.build(1, FEW, TODAY)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    key = home / "master.key"
    key.write_bytes(MASTER_KEY)
    return Settings.read({"SCREENING_HOME": str(home), "SCREENING_MASTER_KEY_FILE": str(key)})


@pytest.fixture(scope="module")
def built(server: embedded.Server, template: str, settings: Settings, few: town.Town) -> Iterator[str]:
    """A database in which the whole demo has run, for tests to copy."""
    name = f"demo_{os.urandom(4).hex()}"
    server.create_database(name, template=template)
    database = _opened(server, name)
    _staged(database, settings, few, demo.code_of(1, FEW))
    database.dispose()
    yield name
    server.drop_database(name)


@pytest.fixture
def copied(server: embedded.Server, built: str) -> Iterator[tuple[str, Database]]:
    """A copy of it for one test: its name, and a way in."""
    name = f"demo_{os.urandom(4).hex()}"
    server.create_database(name, template=built)
    database = _opened(server, name)
    yield name, database
    database.dispose()
    server.drop_database(name)


def test_what_was_planted_is_found(copied: tuple[str, Database], settings: Settings, few: town.Town) -> None:
    found = _figures(copied[1], settings, few)
    assert {name for name, holds in found.checks.items() if not holds} == set()
    assert found.planted["reds"] == found.found["reds"] >= 6
    assert found.found["valid_coverage"] == found.planted["valid_coverage"]
    assert found.found["closed_loop_share_of_reds"] == 1
    assert found.found["sensitivity"] > 0.6
    assert 0 < found.found["precision"] < 1
    assert found.found["hours_to_first_contact"] == 26


def test_the_made_up_staff_is_told_and_no_mail_leaves(copied: tuple[str, Database], settings: Settings) -> None:
    standing = stage.find(copied[1], demo.code_of(1, FEW))
    assert standing is not None
    with copied[1].unit(standing.scope) as session:
        told = dict(session.execute(text("select coalesce(channel, state), count(*) from deliveries group by 1")).all())
    assert told["demo"] > 10
    assert set(told) <= {"demo", "pending"}


def test_a_second_start_finds_the_district_and_changes_nothing(
    copied: tuple[str, Database], settings: Settings, few: town.Town
) -> None:
    once = _figures(copied[1], settings, few)
    assert _figures(copied[1], settings, few) == once
    with copied[1].unit() as session:
        assert session.execute(text("select code from districts")).scalars().all() == [demo.code_of(1, FEW)]


def test_main_prints_one_object_and_answers_0(
    server: embedded.Server, copied: tuple[str, Database], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    own = dataclasses.replace(settings, database_url=server.url(database=copied[0]))
    assert demo.main(own, is_served=False, as_json=True, students=FEW) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["loop_closed"] is True
    assert told["planted"]["reds"] == told["found"]["reds"]
    assert "address" not in told


def test_a_lost_red_is_noticed(
    server: embedded.Server, copied: tuple[str, Database], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    _remove_an_alert(server, copied[0], "r.rule = 'phq9_self_harm_daily' and a.student_id is not null")
    own = dataclasses.replace(settings, database_url=server.url(database=copied[0]))
    assert demo.main(own, is_served=False, as_json=True, students=FEW) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["checks"]["every_red_alerted"] is False
    assert told["found"]["reds"] == told["planted"]["reds"] - 1


def test_a_lost_row_of_a_stranger_is_noticed(
    server: embedded.Server, copied: tuple[str, Database], settings: Settings, few: town.Town
) -> None:
    _remove_an_alert(server, copied[0], "a.student_id is null and a.state = 'new'")
    checks = _figures(copied[1], settings, few).checks
    assert not checks["every_critical_answer_alerted"]


@pytest.mark.parametrize(
    ("damage", "noticed"),
    [
        ("update results set tier = 1 where tier = 0 and ctid = (select min(ctid) from results where tier = 0)",
         "replay_without_differences"),
        ("delete from weighings where ctid = (select min(ctid) from weighings)", "every_result_weighed"),
        ("update alerts set closed_at = null where tier = 3", "every_red_closed"),
        ("update coverage_summaries set valid = valid - 1 where valid > 0", "coverage_as_planted"),
        ("delete from escalations where rung = 4", "each_rung_once"),
    ],
)  # fmt: skip
def test_damage_is_noticed(
    server: embedded.Server,
    copied: tuple[str, Database],
    settings: Settings,
    few: town.Town,
    damage: str,
    noticed: str,
) -> None:
    _do(server, copied[0], damage)
    found = _figures(copied[1], settings, few)
    assert not found.checks[noticed]
    assert not found.is_closed


def test_without_weighing_nothing_closes_and_a_broken_start_is_left_aside(
    fresh_database: Database, settings: Settings, few: town.Town
) -> None:
    staff.create_district(fresh_database, "demo-x", "Begun, and never finished")
    made = _staged(fresh_database, settings, few, "demo-x", weigh=lambda *_: None)
    found = figures.take(made, few)
    assert not found.is_closed
    assert not found.checks["every_red_alerted"]
    assert not found.checks["every_result_weighed"]
    with fresh_database.unit() as session:
        assert set(session.execute(text("select code from districts")).scalars()) == {"demo-x", "demo-x-2"}


def test_the_printed_tokens_open_each_their_own(copied: tuple[str, Database]) -> None:
    standing = stage.find(copied[1], demo.code_of(1, FEW))
    assert standing is not None
    for one in demo.sign_ins(standing):
        actor = staff.actor_by_token(copied[1], one.token)
        assert actor is not None
        school = standing.schools[one.school] if one.school else None
        assert [(held.role, held.school_id) for held in actor.roles] == [(one.role, school)]


def test_the_printed_passwords_sign_in_with_the_printed_second_factor(copied: tuple[str, Database]) -> None:
    standing = stage.find(copied[1], demo.code_of(1, FEW))
    assert standing is not None
    earlier = demo.sign_ins(standing)[0]
    one = demo.sign_ins(standing)[0]
    whence = signing_in.Whence("127.0.0.1")
    first = signing_in.sign_in(copied[1], one.email, one.password, whence)
    assert first.stage == "second_factor"
    secret = base64.b32decode(one.secret)
    code = second_factor.code_at(secret, stage.db_now(copied[1]))
    assert signing_in.complete(copied[1], first.secret, code, whence).stage == "whole"
    assert staff.actor_by_token(copied[1], earlier.token) is None


def test_production_is_refused(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(dataclasses.replace(settings, environment="production")) == 2
    assert "development only" in capsys.readouterr().err
    assert not (settings.home / "pg").exists()


def test_a_taken_port_is_named_before_anything_is_built(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.main(settings, port=port) == 2
    assert str(port) in capsys.readouterr().err
    assert {path.name for path in Path(settings.home).iterdir()} == {"master.key"}


# -- the town itself ----------------------------------------------------------------------------------


def test_a_seed_makes_the_same_town() -> None:
    assert town.build(3, FEW, TODAY) == town.build(3, FEW, TODAY)
    assert town.build(3, FEW, TODAY) != town.build(4, FEW, TODAY)


def test_figures_of_a_seed_are_the_same_on_any_day(few: town.Town) -> None:
    assert town.truth(few) == town.truth(town.build(1, FEW, dt.date(2028, 2, 29)))


@pytest.mark.parametrize("seed", range(1, 9))
def test_every_way_in_which_a_red_could_be_lost_is_walked(seed: int) -> None:
    made = town.build(seed, FEW, TODAY)
    reds = {pupil.manner for pupil in made.pupils if pupil.is_in_danger}
    assert reds >= {"unfinished", "slipped", "mistyped", "spoiled", "doubled", "blank", "honest"}
    planted = town.truth(made)
    assert {pupil.number for pupil in made.pupils if pupil.is_in_danger} <= planted.reds
    assert planted.reds <= planted.critical
    assert planted.covered < planted.submitted < planted.consented < planted.eligible <= planted.enrolled


@pytest.mark.parametrize(
    ("instrument", "cells", "state"),
    [
        ("phq9", [0] * 10, "complete"),
        ("phq9", [None, *[0] * 9], "incomplete"),
        ("phq9", [*[0] * 9, None], "complete"),
        ("phq9", ["有时", *[0] * 9], "rejected"),
        ("phq9", [4, *[0] * 9], "rejected"),
        ("phq9", [None] * 10, "blank"),
        ("psc17", [*[None] * 3, *[0] * 14], "complete"),
        ("psc17", [*[None] * 4, *[0] * 13], "incomplete"),
        ("psc17", [3, *[0] * 16], "rejected"),
    ],
)
def test_what_becomes_of_a_form(instrument: str, cells: list[town.Cell], state: str) -> None:
    assert town.state(instrument, cells) == state


@pytest.mark.storm
def test_the_whole_district(fresh_database: Database, settings: Settings, is_storm: bool) -> None:
    for seed in (1, 7) if is_storm else (7,):
        made = town.build(seed, town.STUDENTS if is_storm else FEW, TODAY)
        found = figures.take(_staged(fresh_database, settings, made, f"demo-whole-{seed}"), made)
        assert {name for name, holds in found.checks.items() if not holds} == set()


def _opened(server: embedded.Server, name: str) -> Database:
    return Database(server.url(database=name), MASTER_KEY)


def _staged(database: Database, settings: Settings, made: town.Town, code: str, **given: Any) -> stage.Stage:
    with hands.in_thread() as beside:
        return demo.staged(database, settings, made, code, beside=beside, **given)


def _figures(database: Database, settings: Settings, made: town.Town) -> figures.Figures:
    return figures.take(_staged(database, settings, made, demo.code_of(1, FEW)), made)


def _do(server: embedded.Server, name: str, damage: str) -> None:
    with psycopg.connect(server.url(database=name, role="superuser")) as connection:
        connection.execute("set session_replication_role = replica")
        assert connection.execute(damage).rowcount > 0  # type: ignore[arg-type]


def _remove_an_alert(server: embedded.Server, name: str, which: str) -> None:
    one = (
        "(select a.id from alerts a join alert_reasons r on r.district_id = a.district_id and r.alert_id = a.id"
        f" where {which} and r.rule like 'phq9_self_harm%' order by a.id limit 1)"
    )
    _do(server, name, f"delete from alerts where id in {one}")
