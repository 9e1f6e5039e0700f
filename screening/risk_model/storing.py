"""A model as bytes and back: skops with types of our own list, checked before anything is built from the file.

The bytes are opened only if their digest is the one that two persons approved, and only by the versions of the
libraries that wrote them. Then the file's own description is walked: a loader, a type or a place in memory that is
not on the list ends it, before skops is asked for anything. A model is plain arrays, so the list holds no class of any
library; what was built is checked once more as a model, down to whether a symptom counts upwards.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np

from screening.errors import Refused
from screening.risk_model.fitting import Linear, Model
from screening.risk_model.trees import MOST_QUESTIONS, Trees

FORMAT = 2
LARGEST = 64 * 1024 * 1024
"""Bytes, packed or not: a thousand times what a model needs."""
MOST_TREES = 2_000
"""More would take longer to ask than people can be kept waiting."""
_DEEPEST = 60

ALLOWED = frozenset(
    {
        ("DictNode", "builtins", "dict"),
        ("ListNode", "builtins", "list"),
        ("JsonNode", "builtins", "str"),
        ("TypeNode", "builtins", "str"),
        ("NdArrayNode", "numpy", "ndarray"),
    }
)
"""Every (loader, module, class) that a stored model may name. Fixed: a file can add nothing to it."""
_CACHED = "CachedNode"
"""How skops writes the same object a second time; it names no type of its own."""


class ModelUnusable(Refused):
    """The stored model is not opened: another digest, other library versions, or a file that is not a model."""

    def __init__(self, detail: str, *, code: str = "model_unusable") -> None:
        super().__init__(detail, code=code)


def libraries() -> dict[str, str]:
    """The versions that a model depends on."""
    return {name: metadata.version(name) for name in ("scikit-learn", "skops", "numpy", "scipy")}


def digest_of(body: bytes) -> str:
    """SHA-256 of the stored bytes, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def dump(model: Model) -> bytes:
    """The model as a file of skops."""
    from skops import io as skops_io

    linear, trees = model.linear, model.trees
    stored: bytes = skops_io.dumps(
        {
            "format": FORMAT,
            "columns": list(model.columns),
            "directions": [int(direction) for direction in model.directions],
            "center": np.asarray(linear.center, dtype=np.float64),
            "scale": np.asarray(linear.scale, dtype=np.float64),
            "weights": np.asarray(linear.weights, dtype=np.float64),
            "stand_ins": np.asarray(linear.stand_ins, dtype=np.float64),
            "numbers": np.array([linear.intercept, model.slope, model.offset]),
            "trees": None
            if trees is None
            else {
                "feature": trees.feature,
                "threshold": trees.threshold,
                "is_missing_low": trees.is_missing_low,
                "worth": trees.worth,
                "base": np.array([trees.base]),
            },
        }
    )
    return stored


def load(body: bytes, *, digest: str, versions: Mapping[str, str]) -> Model:
    """The model of these bytes, if they are the approved ones, written by the libraries that are here.

    Raises ModelUnusable for anything else, whatever it is; no code of the file is ever run.
    """
    if digest_of(body) != digest:
        raise ModelUnusable("The stored model is not the one that was approved.", code="model_digest")
    if dict(versions) != libraries():
        raise ModelUnusable("The model was stored by other versions of its libraries.", code="model_versions")
    return read(body)


def read(body: bytes) -> Model:
    """The model of bytes that nobody has vouched for: the same walk and checks, without digest and versions."""
    strangers = _strangers(body)
    if strangers:
        raise ModelUnusable(f"The file names what no model has: {', '.join(strangers[:5])}.", code="model_type")
    try:
        from skops import io as skops_io

        return _model(skops_io.loads(body, trusted=[]))
    except ModelUnusable:
        raise
    except Exception as error:  # whatever a damaged file makes a library raise, it is no model
        raise ModelUnusable("The file cannot be read as a model.") from error


def _strangers(body: bytes) -> list[str]:
    """What the file names that is not allowed; an unreadable file is refused at once."""
    if len(body) > LARGEST:
        raise ModelUnusable("The file is larger than any model.")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as packed:
            names = [part.filename for part in packed.infolist()]
            if sum(part.file_size for part in packed.infolist()) > LARGEST:
                raise ModelUnusable("The file is larger than any model when unpacked.")
            schema = json.loads(packed.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise ModelUnusable("The file cannot be read as a model.") from error
    odd = [name for name in names if name != "schema.json" and not _is_array_name(name)]
    if len(names) != len(set(names)):
        odd.append("the same name twice")
    return sorted({*odd, *_strange_nodes(schema)})


def _is_array_name(name: str) -> bool:
    return name.endswith(".npy") and name[:-4].isdigit()


def _strange_nodes(node: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        yield "too many layers"
        return
    if isinstance(node, dict):
        if "__loader__" in node or "__module__" in node or "__class__" in node:
            yield from _strange_node(node)
        for inner in node.values():
            yield from _strange_nodes(inner, depth + 1)
    elif isinstance(node, list):
        for inner in node:
            yield from _strange_nodes(inner, depth + 1)


def _strange_node(node: Mapping[str, Any]) -> Iterator[str]:
    named = (node.get("__loader__"), node.get("__module__"), node.get("__class__"))
    if named[0] == _CACHED or named in ALLOWED:
        if node.get("__loader__") == "NdArrayNode" and node.get("type") != "numpy":
            yield "an array of objects"
        return
    yield f"{named[1]}.{named[2]} by {named[0]}"


def _model(stored: Any) -> Model:
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ModelUnusable("The file is of another format.")
    columns, directions = tuple(stored["columns"]), tuple(stored["directions"])
    center, scale, weights = (np.asarray(stored[name], dtype=np.float64) for name in ("center", "scale", "weights"))
    stand_ins = np.asarray(stored["stand_ins"], dtype=np.float64)
    intercept, slope, offset = (float(number) for number in np.asarray(stored["numbers"], dtype=np.float64))
    is_whole = (
        all(isinstance(name, str) for name in columns)
        and len(directions) == len(columns)
        and set(directions) <= {-1, 0, 1}
        and all(array.shape == (len(columns),) and np.isfinite(array).all() for array in (center, scale, weights))
        and np.isfinite([intercept, slope, offset]).all()
        and slope > 0
        and (scale > 0).all()
        and (weights * np.array(directions) >= 0).all()
        and stand_ins.shape == (len(columns), len(columns))
        and np.isfinite(stand_ins).all()
        and (stand_ins * np.array(directions) >= 0).all()
    )
    if not is_whole:
        raise ModelUnusable("The file's numbers are not those of a model.")
    trees = None if stored["trees"] is None else _trees(stored["trees"], directions)
    return Model(columns, directions, Linear(center, scale, weights, stand_ins, intercept), trees, slope, offset)


def _trees(stored: Mapping[str, Any], directions: tuple[int, ...]) -> Trees:
    """Every question is of a column, every set of answers is worth a number, and no symptom counts downwards."""
    feature, threshold, is_missing_low, worth = (
        np.asarray(stored[name]) for name in ("feature", "threshold", "is_missing_low", "worth")
    )
    is_whole = (
        (feature.dtype, threshold.dtype, is_missing_low.dtype, worth.dtype)
        == (np.dtype(np.int32), np.dtype(np.float32), np.dtype(bool), np.dtype(np.float64))
        and feature.ndim == 2
        and feature.shape == threshold.shape == is_missing_low.shape
        and len(feature) <= MOST_TREES
        and 1 <= feature.shape[1] <= MOST_QUESTIONS
        and worth.shape == (len(feature), 1 << feature.shape[1])
        and ((feature >= 0) & (feature < len(directions))).all()
        and not np.isnan(threshold).any()
        and np.isfinite(worth).all()
    )
    if not is_whole:
        raise ModelUnusable("The file's trees are not those of a model.")
    base = float(np.asarray(stored["base"], dtype=np.float64)[0])
    found = Trees(feature, threshold, is_missing_low, worth, base)
    if not np.isfinite(base) or found.goes_against(directions):
        raise ModelUnusable("The file's trees are not those of a model.")
    return found
