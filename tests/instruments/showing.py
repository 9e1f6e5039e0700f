"""Figures that a test shows, whether or not pytest captures what tests print."""

import sys
from collections.abc import Iterable

import pytest


def show(capsys: pytest.CaptureFixture[str], lines: Iterable[str]) -> None:
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
