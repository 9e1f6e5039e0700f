"""How well the model's own code predicts, on a file of anybody's; how fast it is, `screening bench --only model` says.

    python -m bench.model FILE --target 'Q28>1' --group psu [--columns 'Q*'] [--leave-out Q26,Q27] [--by Q2]
    python -m bench.model FILE --score dsi_suicide --target 'suicide==yes'

Of a file with groups every probability comes from a model that saw no row of that row's group; with --test FILE, from
a model of the whole first file. Of the numeric columns those do not predict that are the target or a column left out
under another name, that say something of a group and nothing of anybody in it, or that number the rows. Prints one
JSON object a line; ends with 2 and one line of words for a file, column or condition that cannot be used.
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
_FOLLOWS, _ENOUGH = 0.05, 50
"""Of the errors of a guess, as few as this remain where a column is another one recoded; from so many rows."""


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
    _need(frame, [asked.score])
    frame = frame.drop_nulls(asked.score)
    found = judging.best_cut(_truth(frame, asked.target), frame[asked.score].to_numpy())
    yield {"score": asked.score, "target": asked.target, "rows": frame.height, **asdict(found), "sum": found.sum}


def _of_file(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    frame = _usable(asked.file, asked)
    truth = _truth(frame, asked.target)
    columns, dropped = _columns(frame, truth, asked)
    directions = [_direction(name, asked) for name in columns]
    yield {
        "file": Path(asked.file).name, "target": asked.target, "rows": frame.height, "positives": int(truth.sum()),
        "groups": frame[asked.group].n_unique(), "columns": len(columns), **dropped,
        "monotone": {c: d for c, d in zip(columns, directions, strict=True) if d},
    }  # fmt: skip
    settings = Settings(seed=asked.seed, folds=asked.folds, threads=asked.threads)
    tested = frame if asked.test is None else _usable(asked.test, asked)
    _need(tested, columns)
    known: dict[str, Any] = {"columns": columns, "directions": directions, "settings": settings}
    for name, is_baseline in (("logistic", True), ("model", False)):
        start, x, groups = time.perf_counter(), _matrix(frame, columns), frame[asked.group].to_numpy()
        if asked.test is None:
            found = fitting.left_out(x, truth, groups, is_baseline=is_baseline, **known)
        else:
            model = fitting.fit(x, truth, groups, is_baseline=is_baseline, **known)
            found = model.probability(_matrix(tested, columns))
        yield {"of": name, "seconds": time.perf_counter() - start}
        yield from _figures(name, tested, found, columns, asked)


def _figures(
    name: str, frame: pl.DataFrame, found: Numbers, columns: Sequence[str], asked: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    truth, groups = _truth(frame, asked.target), frame[asked.group].to_numpy()
    yield {"of": name, **asdict(judging.judge(truth, found, groups, share=asked.share))}
    yield {"of": name, "said_and_seen_by_tenth": _said_and_seen(truth, found)}
    where, questions = _gaps(_matrix(frame, columns), groups)
    if 0 < truth[where].sum() < where.sum():
        yield {
            "of": name, "where_at_least_so_many_questions_were_left_out": questions, "rows": int(where.sum()),
            "auroc": judging.auroc(truth[where], found[where]),
        }  # fmt: skip
    for by in asked.by:
        for kind, judged in judging.by_group(truth, found, groups, frame[by].to_numpy(), share=asked.share).items():
            yield {"of": name, "by": by, "group": kind, **asdict(judged)}


def _said_and_seen(truth: Numbers, found: Numbers) -> list[tuple[float, float]]:
    tenths = np.array_split(np.argsort(found, kind="stable"), 10)
    return [(float(found[rows].mean()), float(truth[rows].mean())) for rows in tenths if len(rows)]


def _gaps(x: Matrix, groups: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], int]:
    """Rows of the half of the groups at which most questions were left out by nearly all, and how many at least."""
    counts = {group: int((np.isnan(x[groups == group]).mean(axis=0) > 0.9).sum()) for group in np.unique(groups)}
    middle = max(1, int(np.median(list(counts.values()))))
    return np.array([counts[group] >= middle for group in groups]), middle


def _usable(path: str, asked: argparse.Namespace) -> pl.DataFrame:
    """The rows of which target and group are known."""
    frame = _known(_read(path), asked.target)
    _need(frame, [asked.group, *asked.by, *(asked.rising if asked.test is None else []), *asked.falling])
    frame = frame.drop_nulls(asked.group)
    truth = _truth(frame, asked.target)
    if not 0 < truth.sum() < len(truth):
        raise ValueError(f"{asked.target} is true of {int(truth.sum())} of {len(truth)} rows: both kinds are needed")
    if asked.test is None and frame[asked.group].n_unique() < 3:
        raise ValueError(f"{asked.group} names fewer than three groups, so none can be left out")
    return frame


def _need(frame: pl.DataFrame, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in frame.columns]:
        raise ValueError(f"the file has no column {', '.join(missing)}")


def _read(path: str) -> pl.DataFrame:
    if path.endswith(".parquet"):
        return pl.read_parquet(path)
    return pl.read_csv(path, infer_schema_length=None, null_values=["", "NA", "NaN"])


def _condition(target: str) -> tuple[str, Callable[[Any, Any], Any], float | str]:
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*", target)
    if found is None:
        raise ValueError(f"{target!r} is no condition like Q28>1 or suicide==yes")
    name, sign, value = found.groups()
    with_number = re.fullmatch(r"-?\d+(\.\d+)?", value)
    return name, _COMPARED[sign], float(value) if with_number else value


def _known(frame: pl.DataFrame, target: str) -> pl.DataFrame:
    name, _, value = _condition(target)
    _need(frame, [name])
    if isinstance(value, float) and not frame[name].dtype.is_numeric():
        raise ValueError(f"{name} is no number, so {target!r} cannot be told of it")
    if isinstance(value, str) and frame[name].dtype != pl.String:
        raise ValueError(f"{name} is no text, so {target!r} cannot be told of it")
    known = frame.filter(pl.col(name).is_not_null())
    return known.filter(pl.col(name).is_not_nan()) if frame[name].dtype.is_float() else known


def _truth(frame: pl.DataFrame, target: str) -> Numbers:
    name, compared, value = _condition(target)
    return frame.select(compared(pl.col(name), value).cast(pl.Float64)).to_series().to_numpy()


def _columns(frame: pl.DataFrame, truth: Numbers, asked: argparse.Namespace) -> tuple[list[str], dict[str, list[str]]]:
    """What predicts, and what does not by the reason why not."""
    target = _condition(asked.target)[0]
    numbers = [name for name in frame.columns if frame[name].dtype.is_numeric()]
    left_out = {target, *(n for n in numbers if any(fnmatch.fnmatchcase(n, pattern) for pattern in asked.leave_out))}
    named = [
        name
        for name in numbers
        if name not in {*left_out, asked.group} and any(fnmatch.fnmatchcase(name, one) for one in asked.columns)
    ]
    values = {name: frame[name].cast(pl.Float64).fill_nan(None) for name in {*named, *left_out} & set(numbers)}
    dropped: dict[str, list[str]] = {"left_out_as_of_groups": [], "left_out_as_row_numbers": [],
                                     "left_out_as_the_target": [], "left_out_as_recoded": []}  # fmt: skip
    for name in named:
        if _is_of_groups(values[name], frame[asked.group]):
            dropped["left_out_as_of_groups"].append(name)
        elif values[name].n_unique() == frame.height:
            dropped["left_out_as_row_numbers"].append(name)
        elif _tells(values[name].to_numpy(), truth) > _TELLS_TOO_MUCH:
            dropped["left_out_as_the_target"].append(name)
        elif any(_is_recoded(values[name], values[other]) for other in left_out if other in values):
            dropped["left_out_as_recoded"].append(name)
    gone = {name for names in dropped.values() for name in names}
    columns = [name for name in named if name not in gone]
    if not columns:
        raise ValueError("no numeric column is left to predict with")
    return columns, {why: names for why, names in dropped.items() if names}


def _is_of_groups(column: pl.Series, groups: pl.Series) -> bool:
    """Whether it has one value throughout each group, and not the same in all."""
    within = pl.DataFrame({"value": column, "group": groups}).drop_nulls().group_by("group").agg(
        pl.col("value").n_unique().alias("n"), pl.col("value").first()
    )  # fmt: skip
    return within.height > 0 and within["n"].max() == 1 and within["value"].n_unique() > 1


def _is_recoded(column: pl.Series, of: pl.Series) -> bool:
    """Whether the value follows nearly always from a column that was left out: far oftener than from nothing."""
    both = pl.DataFrame({"value": column, "of": of}).drop_nulls()
    if both.height < _ENOUGH or both["of"].n_unique() > both.height / 10:  # everything follows from a row's number
        return False
    usual = both.height - int(both["value"].value_counts()["count"].max())  # type: ignore[arg-type]
    counts = both.group_by("of", "value").len().group_by("of").agg(pl.col("len").max())
    return both.height - int(counts["len"].sum()) < _FOLLOWS * usual


def _tells(column: npt.NDArray[Any], truth: Numbers) -> float:
    known = ~np.isnan(column)
    if known.sum() < _ENOUGH or not 0 < truth[known].sum() < known.sum():
        return 0.0
    found = judging.auroc(truth[known], column[known])
    return max(found, 1 - found)


def _direction(name: str, asked: argparse.Namespace) -> int:
    return int(name in asked.rising) - int(name in asked.falling)


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> Matrix:
    return frame.select(pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in columns).to_numpy()


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
