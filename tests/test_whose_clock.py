"""Time is the database's: where a process's own clock is read, nothing that is due depends on it."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}
ALLOWED = {
    "alerts/channels.py": 1,  # the date on a mail
    "alerts/watchdog.py": 1,  # while the database cannot be asked
    "api/cli/checking.py": 1,  # `screening doctor` compares the two
    "api/worker.py": 1,  # when the first tick comes: what is due in it the database says
    "screening/embedded/sweeping.py": 1,  # how old an abandoned folder of tests is
}


def test_nothing_that_is_due_depends_on_a_processs_own_clock() -> None:
    found = {
        str(path.relative_to(ROOT)): count
        for room in ("instruments", "screening", "alerts", "api")
        for path in (ROOT / room).rglob("*.py")
        if (count := len(list(reads_of(path)))) and "demo" not in path.parts
    }
    assert found == ALLOWED


def reads_of(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            whose = node.func.value
            name = whose.attr if isinstance(whose, ast.Attribute) else whose.id if isinstance(whose, ast.Name) else ""
            if (name, node.func.attr) in READS:
                yield node
