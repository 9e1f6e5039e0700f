"""Which benchmarks run, at which sizes: the arguments of `screening bench`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.figures import Report, machine

BENCHES = ("scoring", "quality", "fhir", "model", "upload", "submit", "coverage", "queue")
ON_A_SERVER = ("upload", "submit", "coverage", "queue")


@dataclass(frozen=True)
class Sizes:
    """How much each benchmark takes on."""

    scoring: tuple[int, ...] = (100_000, 1_000_000)
    quality: tuple[int, ...] = (100_000, 1_000_000)
    fhir: int = 50_000
    model: int = 1_000_000
    upload: tuple[int, ...] = (28_000, 100_000, 1_000_000)
    coverage: int = 1_000_000
    queue_door: int = 100_000
    submit: dict[str, int] = field(default_factory=dict)


QUICK = Sizes(
    scoring=(5_000, 20_000),
    quality=(3_000,),
    fhir=1_000,
    model=5_000,
    upload=(2_000, 8_000),
    coverage=8_000,
    queue_door=3_000,
    submit={"rate": 50, "seconds": 3, "upload_rows": 2_000},
)


def main(argv: Sequence[str] = (), *, as_json: bool = False) -> int:
    """Measures and reports. Returns 0, or 1 when a check failed: then some figure is of other work than it says."""
    asked = _arguments().parse_args([*argv, *(["--json"] if as_json else [])])
    wanted = [name for name in BENCHES if name in asked.only]
    report = Report(is_json=asked.json)
    report.describe(**machine())
    sizes = _sizes(asked)
    if "scoring" in wanted:
        from bench import scoring

        scoring.bench(report, list(sizes.scoring), asked.runs)
    if "quality" in wanted:
        from bench import quality

        quality.bench(report, list(sizes.quality), asked.runs)
    if "fhir" in wanted:
        from bench import fhir

        fhir.bench(report, sizes.fhir, asked.runs)
    if "model" in wanted:
        from bench import predicting

        predicting.bench(report, sizes.model, asked.runs)
    if set(wanted) & set(ON_A_SERVER):
        _on_a_server(report, wanted, sizes, asked.runs)
    report.end()
    return 0 if report.is_right else 1


def _on_a_server(report: Report, wanted: list[str], sizes: Sizes, runs: int) -> None:
    from bench import coverage, grounds, queue, queue_door, submit, upload

    with grounds.server() as server:
        report.describe(**grounds.settings(server))
        loaded = None
        if "upload" in wanted:
            loaded = upload.bench(report, server, list(sizes.upload), runs)
        if {"coverage", "queue"} & set(wanted):
            if loaded is None or loaded.population.rows != sizes.coverage:
                loaded = upload.loaded(report, server, sizes.coverage)
            grounds.settle(loaded)
            if "coverage" in wanted:
                coverage.bench(report, loaded, runs)
            if "queue" in wanted:
                queue.bench(report, loaded)
        if "queue" in wanted:
            queue_door.bench(report, server, sizes.queue_door)
        if "submit" in wanted:
            submit.bench(report, server, submit.Plan(**sizes.submit), runs)


def _sizes(asked: argparse.Namespace) -> Sizes:
    sizes = QUICK if asked.quick else Sizes()
    if asked.rows is None:
        return sizes
    return replace(
        sizes, scoring=(asked.rows,), quality=(asked.rows,), fhir=asked.rows, model=asked.rows,
        upload=(asked.rows,), coverage=asked.rows,
    )  # fmt: skip


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="screening bench", description="Benchmarks, as ratios to a reference.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--only", type=_names, default=list(BENCHES), metavar=",".join(BENCHES))
    parser.add_argument("--rows", type=_whole, help="this many students, instead of the usual sizes")
    parser.add_argument("--runs", type=_whole, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast it is")
    return parser


def _names(given: str) -> list[str]:
    names = [name.strip() for name in given.split(",")]
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(BENCHES)}")
    return names


def _whole(given: str) -> int:
    number = int(given.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
