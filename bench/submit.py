"""A PHQ-9 handed in over HTTP, one web process: latency at a steady rate, the ceiling, and whether all of it is stored.

The product answers with sign-in, roles, row security, scoring, tier, weighing, alert and audit in it; the reference is
an app of our own with the bare steps (`minimal`), on the same server in the same run.
"""

import contextlib
import datetime as dt
import json
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from bench import apart, grounds, minimal, upload
from bench.figures import Figure, Report
from bench.grounds import MASTER_KEY, Ground
from bench.population import PER_SCHOOL
from screening import access, assignments, db, embedded, staff
from screening.db import Database

AT_ONCE = 16
MOST_P99_MS = 50.0
MOST_LAG_MS = 3.0
_MOST_PER_SECOND = 1_600  # more than any of the peers reaches on few cores; a ceiling run ends early if one does
_WARM_SECONDS = 2.0

WEIGHTY_IN = 14
"""One in so many forms tells of self-harm, after which somebody is alerted."""
_LIGHT = 7
"""What the others add up to at most: nobody is alerted."""


@dataclass(frozen=True)
class Plan:
    """How the apps are driven."""

    rate: int = 150
    seconds: float = 20.0
    upload_rows: int = 100_000
    """Of a file that is loaded while forms come in."""

    @property
    def ceiling_seconds(self) -> float:
        return min(5.0, self.seconds / 2)

    @property
    def most_steady(self) -> int:
        return int(1.3 * self.rate * self.seconds) + 50

    @property
    def most_of_ceiling(self) -> int:
        return int(_MOST_PER_SECOND * self.ceiling_seconds)

    def n_forms(self, runs: int) -> int:
        """Enough for everything that is sent, in whole schools."""
        n_steady, n_ceiling = (runs + 1) * self.most_steady, (runs + 2) * self.most_of_ceiling
        return -(-(n_steady + n_ceiling) // PER_SCHOOL) * PER_SCHOOL


def bench(report: Report, server: embedded.Server, plan: Plan, runs: int) -> None:
    report.begin(f"C. Submit of a PHQ-9 over HTTP, one web process, {plan.seconds:g} s each, {runs} runs in turn")
    n_forms = plan.n_forms(runs)
    ground = grounds.filled(server, n_forms + plan.upload_rows, name="bench_submit")
    _prepare_minimal(ground, n_forms)
    forms = _forms(n_forms)
    with TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        product = _product(ground, forms, folder)
        peers = [product, *(_minimal(ground, forms, folder, mode) for mode in ("psycopg", "orm"))]
        for peer in peers:
            stack.enter_context(peer.served())
            peer.drive(most=plan.most_of_ceiling, at_once=8, seconds=_WARM_SECONDS)
        steady: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
        ceiling: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
        for number in range(runs):
            for peer in peers:
                steady[peer.name].append(_steady(peer, plan, number))
                how = {"most": plan.most_of_ceiling, "at_once": AT_ONCE, "seconds": plan.ceiling_seconds}
                ceiling[peer.name].append(peer.drive(**how))
        steady["product, during an upload"] = [_during_an_upload(product, ground, plan, n_forms, folder)]
        memory = apart.peak_mb(product.pid)
    _report(report, steady, ceiling, plan, memory)
    for peer in peers:
        _check(report, ground, peer)
    _verbs(report, ground)
    ground.drop()


def _steady(peer: "_Peer", plan: Plan, number: int) -> dict[str, Any]:
    return peer.drive(most=plan.most_steady, rate=plan.rate, seconds=plan.seconds, seed=number + 1)


def _during_an_upload(product: "_Peer", ground: Ground, plan: Plan, first: int, folder: Path) -> dict[str, Any]:
    path = folder / "answers.csv"
    ground.population.write(path, first=first)
    upload_id = upload.received(ground, path)
    with ThreadPoolExecutor(1) as aside:
        loading = aside.submit(upload.worked, ground, upload_id)
        found = _steady(product, plan, 99)
        return found | {"upload_seconds": loading.result().value["seconds"]}


def _report(
    report: Report, steady: dict[str, list[dict[str, Any]]], ceiling: dict[str, list[dict[str, Any]]], plan: Plan,
    memory: float,
) -> None:  # fmt: skip
    for name, found in steady.items():
        at = {f"p{part}": _percentile(found, part) * 1e3 for part in (50, 95, 99)}
        lag = statistics.median(_quantile(one["lags"], 0.99) for one in found) * 1e3
        n_errors = sum(sum(one["errors"].values()) + _refused(one) for one in found)
        words = ", ".join(f"{part} {value:.1f} ms" for part, value in at.items())
        trust = "" if lag < MOST_LAG_MS else " (the generator was late: not to be trusted)"
        verdict = ""
        if name.startswith("product"):
            is_met = at["p99"] <= MOST_P99_MS and n_errors == 0
            verdict = f" | goal p99 <= {MOST_P99_MS:g} ms, no errors: {'met' if is_met else 'MISSED'}"
        during = f" ({plan.upload_rows:,} rows in {found[0]['upload_seconds']:.1f} s)" if "upload" in name else ""
        lagging = f"generator's lag p99 {lag:.1f} ms{trust}"
        line = f"{name}{during} at {plan.rate}/s: {words} | {n_errors} errors | {lagging}{verdict}"
        sample = next((one["sample"] for one in found if one["sample"]), "")
        report.note("submit", line, peer=name, rate=plan.rate, errors=n_errors, lag_p99_ms=round(lag, 2), sample=sample,
                    **{f"{part}_ms": round(value, 2) for part, value in at.items()})  # fmt: skip
    per_form = {name: [one["seconds"] / max(1, len(one["acknowledged"])) for one in ceiling[name]] for name in ceiling}
    for reference, aim in (("orm", "first stage >= 0.5"), ("psycopg", "aim >= 0.5")):
        figure = Figure("submit", f"ceiling, {AT_ONCE} at once, product", per_form["product"], f"minimal {reference}",
                        per_form[reference], rows=1, unit="forms", peak_mb={"web": memory}, goal=aim)  # fmt: skip
        report.add(Figure(**{**figure.__dict__, "is_met": (figure.ratio or 0) >= 0.5}))


# -- who is driven --------------------------------------------------------------------------------------------------


@dataclass
class _Peer:
    """One app that takes forms, with the plan of what is sent to it and what it acknowledged of that."""

    name: str
    app: str
    arguments: dict[str, str]
    plan: Path
    weights: Sequence[bool]
    places: Sequence[Any] = ()
    port: int = 0
    pid: int = 0
    next_line: int = 0

    def __post_init__(self) -> None:
        self.acknowledged: list[int] = []
        self.n_sent = 0
        self.n_unanswered = 0

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        self.port = free_port()
        with apart.running(self.app, port=self.port, **self.arguments) as self.pid:
            wait_for(self.port)
            yield

    def drive(self, **how: Any) -> dict[str, Any]:
        found: dict[str, Any] = apart.run(
            "bench.load:drive", port=self.port, plan=str(self.plan), first=self.next_line, **how
        ).value
        self.next_line += found["sent"]
        self.n_sent += found["sent"]
        self.n_unanswered += sum(found["errors"].values())
        self.acknowledged += found["acknowledged"]
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the web process does not answer")


def _forms(n_forms: int) -> list[tuple[int, ...]]:
    rng = random.Random(14)  # noqa: S311 - no secret
    return [form(rng, is_weighty=rng.random() < 1 / WEIGHTY_IN) for _ in range(n_forms)]


def form(rng: random.Random, *, is_weighty: bool) -> tuple[int, ...]:
    """Answers to the nine items, seldom twice the same: nothing that was remembered of one form helps the next."""
    answers = [0] * 9
    for _ in range(rng.randint(0, 20 if is_weighty else _LIGHT)):
        item = rng.randrange(8)
        answers[item] = min(3, answers[item] + 1)
    answers[8] = rng.randint(1, 3) if is_weighty else 0
    return tuple(answers)


def _is_weighty(answers: Sequence[int]) -> bool:
    return answers[8] > 0


def _write_plan(path: Path, lines: Iterator[tuple[str, dict[str, str], str]]) -> None:
    with path.open("w") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


def _product(ground: Ground, forms: list[tuple[int, ...]], folder: Path) -> _Peer:
    tokens = tokens_of_schools(ground)
    places = _places(ground, len(forms))
    lines = (
        (
            f"/v1/assignments/{place}/submit",
            {"Authorization": f"Bearer {tokens[str(school)]}"},
            json.dumps({"answers": {f"phq9_{item}": code for item, code in enumerate(answers, start=1)}}),
        )
        for (place, school), answers in zip(places, forms, strict=True)
    )
    plan = folder / "product.jsonl"
    _write_plan(plan, lines)
    arguments = {"url": ground.url, "home": str(folder)}
    return _Peer("product", "bench.submit:serve_product", arguments, plan, [_is_weighty(one) for one in forms],
                 [place for place, _ in places])  # fmt: skip


_SCHOOL = {"psycopg": 1, "orm": 2}
"""The two modes share their tables: each takes the forms of a school of its own."""


def _minimal(ground: Ground, forms: list[tuple[int, ...]], folder: Path, mode: str) -> _Peer:
    school = _SCHOOL[mode]
    lines: Iterator[tuple[str, dict[str, str], str]] = (
        ("/submit", {}, json.dumps({"school": school, "number": f"{number:010d}", "answers": form}))
        for number, form in enumerate(forms, start=1)
    )
    plan = folder / f"{mode}.jsonl"
    _write_plan(plan, lines)
    arguments = {"mode": mode, "url": ground.server.url(database=ground.name, role="superuser")}
    return _Peer(mode, "bench.submit:serve_minimal", arguments, plan, [_is_weighty(one) for one in forms])


def tokens_of_schools(ground: Ground) -> dict[str, str]:
    """A counselor at every school, each with a token of her own."""
    by = access.system(ground.district_id)
    tokens = {}
    with ground.database() as database, database.unit(ground.scope) as session:
        now = db.now(session)
        for number, school in enumerate(ground.schools):
            hired = staff.hire(session, f"counselor{number}@bench.example", f"Counselor {number}", by=by)
            staff.grant(session, hired, "counselor", school, by=by)
            tokens[str(school)] = staff.issue_token(session, hired.account_id, dt.timedelta(days=1), by=by, now=now)
    return tokens


def _places(ground: Ground, n_forms: int) -> list[tuple[Any, Any]]:
    """The students' own places at the first schools, in no order, with their schools."""
    with ground.superuser() as connection:
        return connection.execute(
            "select id, school_id from assignments where informant = 'self' and school_id = any(%s)"
            " order by md5(id::text)",
            [list(ground.schools[: n_forms // PER_SCHOOL])],
        ).fetchall()


def _prepare_minimal(ground: Ground, n_forms: int) -> None:
    with ground.superuser() as connection:
        for statement in minimal.SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(
            "insert into minimal_students select school, number, lpad(number::text, 10, '0'), true"
            " from generate_series(1, 2) school, generate_series(1, %s) number",
            [n_forms],
        )
        connection.execute("vacuum (analyze) minimal_students")


def serve_product(port: int, url: str, home: str) -> None:
    from api import serving
    from api.app import create_app
    from screening.settings import Settings

    settings = Settings.read({"DATABASE_URL": url, "SCREENING_HOME": home}, serving=True)
    app = create_app(Database(url, MASTER_KEY), settings)
    serving.keep_for_good()
    _serve(app, port)


def serve_minimal(port: int, mode: str, url: str) -> None:
    from api import serving

    app = minimal.app(mode, url)
    serving.keep_for_good()  # no worse off than the product
    _serve(app, port)


def _serve(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, port=port, log_level="error", access_log=False)


# -- what is stored -------------------------------------------------------------------------------------------------


def _check(report: Report, ground: Ground, peer: _Peer) -> None:
    """Acknowledged is stored and weighed, and every weighty form that was acknowledged has its alert."""
    weighty = sum(peer.weights[number] for number in peer.acknowledged)
    with ground.superuser() as connection:
        stored, alerts = _stored(connection, peer)
    if peer.n_unanswered == 0:
        report.check(f"submit: stored by {peer.name}", stored, len(peer.acknowledged))
        report.check(f"submit: alerts of {peer.name}", alerts, weighty)
    words = f"{peer.name}: sent {peer.n_sent:,}, acknowledged {len(peer.acknowledged):,}, of them stored {stored:,}"
    report.note("submit", f"{words}; weighty {weighty:,}, alerts {alerts:,}")


_OF_PRODUCT = """
    select count(*) filter (where w.student_id is not null and d.student_id is not null), count(l.id)
    from assignments a
    left join administrations d on d.round_id = a.round_id and d.student_id = a.student_id
    left join weighings w on w.round_id = a.round_id and w.student_id = a.student_id
    left join alerts l on l.student_id = a.student_id
    where a.id = any(%s)
"""
_OF_MINIMAL = """
    select count(*), count(a.student) from minimal_responses r
    left join minimal_alerts a on a.school = r.school and a.student = r.student where r.school = %s
"""


def _stored(connection: "psycopg.Connection[Any]", peer: _Peer) -> tuple[int, int]:
    if peer.name == "product":
        acknowledged = [peer.places[number] for number in peer.acknowledged]
        row = connection.execute(_OF_PRODUCT, [acknowledged]).fetchone()
    else:
        row = connection.execute(_OF_MINIMAL, [_SCHOOL[peer.name]]).fetchone()
    return (row[0], row[1]) if row else (0, 0)


# -- without the web ------------------------------------------------------------------------------------------------


def _verbs(report: Report, ground: Ground, seconds: float = 3.0) -> None:
    """The same verbs without HTTP, to tell what the door costs and what the floors below it do."""
    with ground.superuser() as connection:
        places = connection.execute(
            "select a.id, a.school_id from assignments a where a.informant = 'self' and not exists (select"
            " from administrations d where d.round_id = a.round_id and d.student_id = a.student_id)"
        ).fetchall()
    rng = random.Random(15)  # noqa: S311 - no secret
    waiting = iter([(place, school, form(rng, is_weighty=False)) for place, school in places])
    with ground.database() as database:
        for n_threads in (1, AT_ONCE):
            done = _in_threads(_submitting(ground, database, waiting), n_threads, seconds)
            report.note("submit", f"verbs alone, {n_threads} at once: {done / seconds:,.0f} forms/s",
                        at_once=n_threads, per_s=round(done / seconds))  # fmt: skip


def _submitting(
    ground: Ground, database: Database, waiting: Iterator[tuple[Any, Any, tuple[int, ...]]]
) -> Callable[[], None]:
    from alerts import raising

    by = access.Actor(ground.schools[0], ground.district_id, ground.schools[0], (access.RoleAt("counselor"),))

    def submit() -> None:
        place, school, given = next(waiting)
        answers = {f"phq9_{item}": code for item, code in enumerate(given, start=1)}
        with database.unit(access.Scope(ground.district_id, frozenset({school}))) as session:
            now = db.now(session)
            done = assignments.submit(session, place, answers=answers, by=by, now=now)
            if done.revisions is not None:
                raising.weigh(session, done.revisions, now=now, policy=done.rules.policy)

    return submit


def _in_threads(act: Callable[[], None], n_threads: int, seconds: float) -> int:
    end = time.perf_counter() + seconds
    done = count()

    def work() -> None:
        while time.perf_counter() < end:
            act()
            next(done)

    with ThreadPoolExecutor(n_threads) as threads:
        for finished in [threads.submit(work) for _ in range(n_threads)]:
            finished.result()
    return next(done)


# -- percentiles ----------------------------------------------------------------------------------------------------


def _percentile(found: list[dict[str, Any]], part: int) -> float:
    """The median over the runs of a percentile within each."""
    return statistics.median(_quantile(one["latencies"], part / 100) for one in found)


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values) or [float("inf")]
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _refused(found: dict[str, Any]) -> int:
    return sum(count for status, count in found["statuses"].items() if not status.startswith("2"))
