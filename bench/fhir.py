"""Questionnaire responses as NDJSON, read into answers: beside what it takes only to parse their JSON, line by line."""

import json
import random
import time

from bench import apart
from bench.figures import Figure, Report
from instruments import catalogue, fhir

LEAST_PER_SECOND = 20_000


def bench(report: Report, rows: int, runs: int) -> None:
    report.begin(f"G. {rows:,} PHQ-9 responses in FHIR R4, one per line")
    found = apart.run("bench.fhir:read", rows=rows, runs=runs)
    report.check(f"fhir {rows} responses: taken", found.value["taken"], [rows] * runs)
    figure = Figure("fhir", f"{rows:,} responses to answers", found.value["product"], "json.loads of each line",
                    found.value["json"], rows=rows, unit="responses", peak_mb={"process": found.peak_mb},
                    goal=f">= {LEAST_PER_SECOND:,}/s")  # fmt: skip
    report.add(Figure(**{**figure.__dict__, "is_met": rows / figure.median >= LEAST_PER_SECOND}))


def read(rows: int, runs: int) -> dict[str, list[float]]:
    """Seconds of each run, and how many responses were taken."""
    content = _lines(rows)
    forms = [(catalogue.get("phq9"), "self")]
    seconds: dict[str, list[float]] = {"product": [], "json": [], "taken": []}
    for _ in range(runs):
        start = time.perf_counter()
        found = fhir.read(content, forms)
        middle = time.perf_counter()
        for line in content.splitlines():
            json.loads(line)
        seconds["product"].append(middle - start)
        seconds["json"].append(time.perf_counter() - middle)
        seconds["taken"].append(int(found.answers["phq9", "self"]["is_taken"].sum()))
    return seconds


def _lines(rows: int) -> bytes:
    rng = random.Random(21)  # noqa: S311 - no secret
    phq9 = catalogue.get("phq9")
    names = [item.id for item in phq9.scored_items]
    return b"".join(
        fhir.ndjson(
            fhir.response(
                phq9, {name: rng.randrange(4) for name in names}, response_id=f"r{number}", subject=f"{number:010}"
            )
            for number in range(rows)
        )
    )
