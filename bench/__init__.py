"""Benchmarks: what the product costs, as ratios to a reference that is measured in the same run on the same machine.

`python -m bench` or `screening bench`. Seconds belong to a machine; the ratios are what to compare.
"""

from bench.run import main

__all__ = ["main"]
