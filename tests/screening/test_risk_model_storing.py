"""A stored model comes back the same; a poisoned, damaged or foreign one never runs a line of its own."""

import copy
import dataclasses
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import api.v1
from screening.risk_model import fitting, storing
from screening.risk_model.storing import ModelUnusable

COLUMNS = ("a", "b", "c")


@cache
def stored() -> bytes:
    chance = np.random.default_rng(1)
    x = chance.integers(0, 4, (200, 3)).astype(np.float32)
    y = (x[:, 0] + chance.normal(size=200) > 2).astype(float)
    settings = fitting.Settings(rounds=4, folds=2)
    model = fitting.fit(x, y, np.arange(200) % 4, columns=COLUMNS, directions=(1, 0, 0), settings=settings)
    return storing.dump(model)


def test_a_model_comes_back_the_same() -> None:
    x = np.random.default_rng(2).integers(0, 4, (50, 3)).astype(np.float32)
    first = storing.load(stored(), digest=storing.digest_of(stored()), versions=storing.libraries())
    assert (first.probability(x) == storing.read(storing.dump(first)).probability(x)).all()


def test_other_bytes_than_the_approved_ones_are_not_opened() -> None:
    with pytest.raises(ModelUnusable, match="approved"):
        storing.load(stored() + b" ", digest=storing.digest_of(stored()), versions=storing.libraries())


def test_other_library_versions_are_not_trusted() -> None:
    with pytest.raises(ModelUnusable, match="versions"):
        storing.load(stored(), digest=storing.digest_of(stored()), versions={"scikit-learn": "0.1"})


# -- poison -----------------------------------------------------------------------------------------------------------


class _Runs:
    """Pickled, it touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def _repacked(change: Callable[[dict[str, Any]], None], **parts: bytes) -> bytes:
    """The good file with its description changed, and further parts in it."""
    with zipfile.ZipFile(io.BytesIO(stored())) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    schema = json.loads(content["schema.json"])
    change(schema)
    content["schema.json"] = json.dumps(schema).encode()
    content |= {name.replace("__", "."): body for name, body in parts.items()}
    return _packed(content)


def _packed(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, body in content.items():
            packed.writestr(name, body)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A few kilobytes that unpack to more than any model is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("schema.json", b"{}")
        packed.writestr("1.npy", bytes(storing.LARGEST))
    return buffer.getvalue()


def _replaced(node: dict[str, Any]) -> bytes:
    """The good file with `node` in the place of its column names."""

    def change(schema: dict[str, Any]) -> None:
        schema["content"]["columns"] = copy.deepcopy(node) | {"__id__": 1}

    return _repacked(change)


def _json(value: object) -> dict[str, Any]:
    return {"__loader__": "JsonNode", "__module__": "builtins", "__class__": "str", "content": json.dumps(value),
            "is_json": True, "__id__": 2}  # fmt: skip


def _call(loader: str | None, module: str, name: str, command: str, **more: Any) -> dict[str, Any]:
    arguments = {"__loader__": "TupleNode", "__module__": "builtins", "__class__": "tuple",
                 "content": [_json(command)], "__id__": 3}  # fmt: skip
    called = {"__loader__": loader, "__module__": module, "__class__": name, "content": name}
    return called | {"args": arguments, "attrs": arguments, "reduce": arguments} | more


CALLS = [
    ("FunctionNode", "os", "system"),
    ("FunctionNode", "posix", "system"),
    ("FunctionNode", "subprocess", "getoutput"),
    ("FunctionNode", "builtins", "eval"),
    ("FunctionNode", "builtins", "exec"),
    ("FunctionNode", "importlib", "import_module"),
    ("PartialNode", "functools", "partial"),
    ("TypeNode", "subprocess", "Popen"),
    ("TypeNode", "os", "system"),
    ("ObjectNode", "subprocess", "Popen"),
    ("ObjectNode", "tests.screening.test_risk_model_storing", "_Runs"),
    ("ObjectNode", "builtins", "eval"),
    ("MethodNode", "posix", "system"),
    ("MethodNode", "builtins", "method"),
    ("OperatorFuncNode", "operator", "methodcaller"),
    ("OperatorFuncNode", "os", "system"),
    ("ReduceNode", "posix", "system"),
    ("LossNode", "os", "system"),
    ("TreeNode", "os", "system"),
    ("RandomGeneratorNode", "os", "system"),
    ("UfuncNode", "os", "system"),
    ("DictNode", "os", "system"),
    ("DictNode", "collections", "defaultdict"),
    ("DefaultDictNode", "collections", "defaultdict"),
    ("JsonNode", "os", "system"),
    ("NoSuchNode", "os", "system"),
    ("SparseMatrixNode", "scipy.sparse", "csr_matrix"),
    ("ObjectNode", "sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
    ("ObjectNode", "sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingClassifier"),
    ("CachedNode", "os", "system"),
    (None, "os", "system"),
]


def poisons(marker: Path) -> dict[str, bytes]:
    """Every file that would like to run something, by what it tries."""
    command = f"touch {marker}"
    pickled = pickle.dumps(_Runs(marker))
    objects = io.BytesIO()
    np.save(objects, np.array([_Runs(marker)], dtype=object), allow_pickle=True)

    def an_array_of_objects(schema: dict[str, Any]) -> None:
        schema["content"]["center"] |= {"type": "json"}

    def deep(schema: dict[str, Any]) -> None:
        node: dict[str, Any] = _json(command)
        for _ in range(400):
            node = {"__loader__": "ListNode", "__module__": "builtins", "__class__": "list", "content": [node]}
        schema["content"]["columns"] = node

    center = json.loads(zipfile.ZipFile(io.BytesIO(stored())).read("schema.json"))["content"]["center"]["file"]
    return {
        **{" ".join(map(str, call)): _replaced(_call(*call, command)) for call in CALLS},
        "a pickle": pickled,
        "a pickle named as part": _repacked(lambda schema: None, model__pkl=pickled),
        "a pickle in an array": _repacked(lambda schema: None, **{center.replace(".", "__"): objects.getvalue()}),
        "an array of objects": _repacked(an_array_of_objects),
        "layer under layer": _repacked(deep),
        "no zip": b"PK\x03\x04" + pickled,
        "nothing": b"",
        "a bomb": _bomb(),
        "half a file": stored()[: len(stored()) // 2],
    }  # fmt: skip


def test_no_poisoned_file_runs_anything(tmp_path: Path) -> None:
    marker = tmp_path / "it_ran"
    files = poisons(marker)
    assert len(files) >= 30
    for name, body in files.items():
        with pytest.raises(ModelUnusable):
            storing.load(body, digest=storing.digest_of(body), versions=storing.libraries())
        assert not marker.exists(), name


def test_a_bomb_is_small_until_it_is_unpacked() -> None:
    body = _bomb()
    assert len(body) < 100_000
    with pytest.raises(ModelUnusable, match="when unpacked"):
        storing.read(body)


def test_no_door_asks_a_model_or_opens_its_bytes() -> None:
    doors = Path(api.v1.__file__).parent.glob("*.py")
    asked = re.compile(r"\b(speaking|storing|fitting|probability\(|registry\.opened)")
    assert [door.name for door in doors if asked.search(door.read_text(encoding="utf-8"))] == []


def test_the_marker_would_be_there_if_anything_ran(tmp_path: Path) -> None:
    marker = tmp_path / "it_ran"
    pickle.loads(pickle.dumps(_Runs(marker)))  # noqa: S301 - that this runs code is the point
    assert marker.exists()


BROKEN_TREES: dict[str, dict[str, Any]] = {
    "a question of no column": {"feature": np.array([[9, 0, 0]] * 4, dtype=np.int32)},
    "a question of a column before the first": {"feature": np.array([[-1, 0, 0]] * 4, dtype=np.int32)},
    "a threshold that is none": {"threshold": np.full((4, 3), np.nan, dtype=np.float32)},
    "too few answers": {"worth": np.zeros((4, 4))},
    "worth no number": {"worth": np.full((4, 8), np.inf)},
    "a symptom that counts downwards": {
        "feature": np.zeros((4, 3), dtype=np.int32),
        "worth": np.tile([0.0, 1.0] * 4, (4, 1)),
    },
    "another kind of number": {"feature": np.zeros((4, 3))},
}


@pytest.mark.parametrize("what", BROKEN_TREES)
def test_trees_that_no_model_has_are_refused(what: str) -> None:
    model = storing.read(stored())
    assert model.trees is not None
    assert model.trees.feature.shape == (4, 3)
    changed = dataclasses.replace(model, trees=dataclasses.replace(model.trees, **BROKEN_TREES[what]))
    with pytest.raises(ModelUnusable, match="trees are not"):
        storing.read(storing.dump(changed))


@pytest.mark.parametrize("what", ["slope", "weights"])
def test_numbers_that_no_model_has_are_refused(what: str) -> None:
    model = storing.read(stored())
    linear = dataclasses.replace(model.linear, weights=np.array([-1.0, 0.0, np.nan]))
    changed = dataclasses.replace(model, **({"slope": -1.0} if what == "slope" else {"linear": linear}))
    with pytest.raises(ModelUnusable, match="numbers"):
        storing.read(storing.dump(changed))
