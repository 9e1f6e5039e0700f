"""How well the model's own code predicts, on a file of anybody's; how fast it is, `screening bench --only model` says.

    python -m bench.model FILE --target 'Q28>1' --group psu [--columns 'Q*'] [--leave-out Q26,Q27] [--by Q2]
    python -m bench.model FILE --score dsi_suicide --target 'suicide==yes'

Of a file with groups every probability comes from a model that saw no row of that row's group; with --test FILE, from
a model of the whole first file. Prints one JSON object a line.
"""

import argparse
import fnmatch
import json
import operator
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from screening.risk_model import fitting, judging
from screening.risk_model.fitting import Matrix, Numbers, Settings

_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_TELLS_TOO_MUCH = 0.97
"""A column that parts the two kinds this well by itself is the target under another name."""


def main(argv: Sequence[str]) -> int:
    """Prints the figures of a file. 2 for a file or column that cannot be read."""
    asked = _arguments().parse_args(argv)
    if asked.score is None and asked.group is None:
        sys.stderr.write("Besides the file and --target, --group is needed, or --score.\n")
        return 2
    try:
        _say(*(_of_score(asked) if asked.score else _of_file(asked)))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _say(*found: dict[str, Any] | Iterator[dict[str, Any]]) -> None:
    for one in found:
        for line in [one] if isinstance(one, dict) else one:
            sys.stdout.write(json.dumps(_rounded(line), ensure_ascii=False) + "\n")
            sys.stdout.flush()


def _rounded(found: Any) -> Any:
    if isinstance(found, float):
        return round(found, 4)
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    return [_rounded(one) for one in found] if isinstance(found, list | tuple) else found


# -- a file -----------------------------------------------------------------------------------------------------------


def _of_score(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    frame = _known(_read(asked.file), asked.target)
    found = judging.best_cut(_truth(frame, asked.target), frame[asked.score].to_numpy())
    yield {"score": asked.score, "target": asked.target, "rows": frame.height, **asdict(found), "sum": found.sum}


def _of_file(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    frame = _known(_read(asked.file), asked.target)
    truth = _truth(frame, asked.target)
    columns, dropped = _columns(frame, truth, asked)
    directions = [_direction(name, asked) for name in columns]
    yield {
        "file": Path(asked.file).name, "target": asked.target, "rows": frame.height, "positives": int(truth.sum()),
        "groups": frame[asked.group].n_unique(), "columns": len(columns), "left_out_as_the_target": dropped,
        "monotone": {c: d for c, d in zip(columns, directions, strict=True) if d},
    }  # fmt: skip
    settings = Settings(seed=asked.seed, folds=asked.folds, threads=asked.threads)
    tested = frame if asked.test is None else _known(_read(asked.test), asked.target)
    for name, is_baseline in (("logistic", True), ("model", False)):
        start = time.perf_counter()
        if asked.test is None:
            found = fitting.left_out(
                _matrix(frame, columns), truth, frame[asked.group].to_numpy(), columns=columns, directions=directions,
                settings=settings, is_baseline=is_baseline,
            )  # fmt: skip
        else:
            found = fitting.fit(
                _matrix(frame, columns), truth, frame[asked.group].to_numpy(), columns=columns, directions=directions,
                settings=settings, is_baseline=is_baseline,
            ).probability(_matrix(tested, columns))  # fmt: skip
        yield {"of": name, "seconds": time.perf_counter() - start}
        yield from _figures(name, tested, _truth(tested, asked.target), found, asked)


def _figures(
    name: str, frame: pl.DataFrame, truth: Numbers, found: Numbers, asked: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    groups = frame[asked.group].to_numpy()
    yield {"of": name, **asdict(judging.judge(truth, found, groups, share=asked.share))}
    for by in asked.by:
        for kind, judged in judging.by_group(truth, found, groups, frame[by].to_numpy(), share=asked.share).items():
            yield {"of": name, "by": by, "group": kind, **asdict(judged)}


def _read(path: str) -> pl.DataFrame:
    if path.endswith(".parquet"):
        return pl.read_parquet(path)
    return pl.read_csv(path, infer_schema_length=None, null_values=["", "NA"])


def _condition(target: str) -> tuple[str, Callable[[Any, Any], Any], float | str]:
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*", target)
    if found is None:
        raise ValueError(f"{target!r} is no condition like Q28>1 or suicide==yes")
    name, sign, value = found.groups()
    with_number = re.fullmatch(r"-?\d+(\.\d+)?", value)
    return name, _COMPARED[sign], float(value) if with_number else value


def _known(frame: pl.DataFrame, target: str) -> pl.DataFrame:
    return frame.filter(pl.col(_condition(target)[0]).is_not_null())


def _truth(frame: pl.DataFrame, target: str) -> Numbers:
    name, compared, value = _condition(target)
    return frame.select(compared(pl.col(name), value).cast(pl.Float64)).to_series().to_numpy()


def _columns(frame: pl.DataFrame, truth: Numbers, asked: argparse.Namespace) -> tuple[list[str], list[str]]:
    never = {_condition(asked.target)[0], asked.group}
    named = [
        name
        for name in frame.columns
        if frame[name].dtype.is_numeric()
        and name not in never
        and any(fnmatch.fnmatchcase(name, pattern) for pattern in asked.columns)
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in asked.leave_out)
    ]
    telling = [name for name in named if _tells(frame[name].to_numpy(), truth) > _TELLS_TOO_MUCH]
    return [name for name in named if name not in telling], telling


def _tells(column: npt.NDArray[Any], truth: Numbers) -> float:
    values = column.astype(np.float64)
    known = ~np.isnan(values)
    if known.sum() < 50 or not 0 < truth[known].sum() < known.sum():
        return 0.0
    found = judging.auroc(truth[known], values[known])
    return max(found, 1 - found)


def _direction(name: str, asked: argparse.Namespace) -> int:
    return int(name in asked.rising) - int(name in asked.falling)


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> Matrix:
    return frame.select(pl.col(name).cast(pl.Float32) for name in columns).to_numpy().astype(np.float32)


def _names(given: str) -> list[str]:
    return [name for name in given.split(",") if name]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.model", description="What the model's code predicts.")
    parser.add_argument("file", help="CSV or Parquet, a row per student")
    parser.add_argument("--target", required=True, help="what is predicted: COLUMN>VALUE, ==, !=, >=, <=, <")
    parser.add_argument("--group", help="the column of the unit that is left out whole")
    parser.add_argument("--columns", default=["*"], type=_names, help="patterns of predictors (default all numbers)")
    parser.add_argument("--leave-out", default=[], type=_names, help="patterns of columns that may not predict")
    parser.add_argument("--rising", default=[], type=_names, help="symptoms: a higher answer may only count up")
    parser.add_argument("--falling", default=[], type=_names, help="symptoms where a lower answer is worse")
    parser.add_argument("--by", default=[], type=_names, help="also the figures for each value of these columns")
    parser.add_argument("--share", type=float, default=0.1, help="how many of all can be looked at (default 0.1)")
    parser.add_argument("--test", help="another file: fit on the whole of the first, judge on this one")
    parser.add_argument("--score", help="instead of a model: the best cut of this one score")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
