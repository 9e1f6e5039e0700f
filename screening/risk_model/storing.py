"""A model as bytes and back: skops with types of our own list, checked before anything is built from the file.

The bytes are opened only if their digest is the one that two persons approved, and only by the versions of the
libraries that wrote them. Then the file's own description is walked: a loader, a type or a place in memory that is
not on the list ends it, before skops is asked for anything. What was built is checked once more as a model, since
trees that point at each other in a ring would keep a prediction busy for ever.
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

FORMAT = 1
LARGEST = 64 * 1024 * 1024
"""Bytes, packed or not: a thousand times what a model needs."""
_DEEPEST = 60

_PLAIN = {("DictNode", "builtins", "dict"), ("ListNode", "builtins", "list"), ("TupleNode", "builtins", "tuple")}
_VALUES = {("JsonNode", "builtins", name) for name in ("str", "int", "float", "bool", "NoneType")}
_NAMES = {("TypeNode", "builtins", name) for name in ("str", "int", "float", "bool", "NoneType")}
_ARRAYS = {
    ("NdArrayNode", "numpy", name)
    for name in ("ndarray", "uint64", "uint32", "int64", "int32", "float64", "float32", "bool", "bool_")
}
_BOOSTING = "sklearn.ensemble._hist_gradient_boosting"
_ESTIMATORS = {
    ("ObjectNode", f"{_BOOSTING}.gradient_boosting", "HistGradientBoostingClassifier"),
    ("ObjectNode", f"{_BOOSTING}.binning", "_BinMapper"),
    ("ObjectNode", f"{_BOOSTING}.predictor", "TreePredictor"),
    ("ObjectNode", "sklearn.preprocessing._label", "LabelEncoder"),
    ("ObjectNode", "sklearn._loss.loss", "HalfBinomialLoss"),
    ("LossNode", "sklearn._loss._loss", "CyHalfBinomialLoss"),
    ("ObjectNode", "sklearn._loss.link", "LogitLink"),
    ("ObjectNode", "sklearn._loss.link", "Interval"),
}
ALLOWED = frozenset(_PLAIN | _VALUES | _NAMES | _ARRAYS | _ESTIMATORS)
"""Every (loader, module, class) that a stored model may name. Fixed: a file can add nothing to it."""
_CACHED = "CachedNode"
"""How skops writes the same object a second time; it names no type of its own."""
_TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


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

    if model.trees is not None:
        # only fitting needs them, and they would ask for more types on the list
        model.trees._feature_subsample_rng = None
        model.trees._preprocessor = None
    linear = model.linear
    stored: bytes = skops_io.dumps(
        {
            "format": FORMAT,
            "columns": list(model.columns),
            "directions": [int(direction) for direction in model.directions],
            "center": np.asarray(linear.center, dtype=np.float64),
            "scale": np.asarray(linear.scale, dtype=np.float64),
            "weights": np.asarray(linear.weights, dtype=np.float64),
            "numbers": np.array([linear.intercept, model.slope, model.offset]),
            "trees": model.trees,
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

        return _model(skops_io.loads(body, trusted=_TRUSTED))
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
    )
    if not is_whole:
        raise ModelUnusable("The file's numbers are not those of a model.")
    if stored["trees"] is not None:
        _check_trees(stored["trees"], len(columns), directions)
    return Model(columns, directions, Linear(center, scale, weights, intercept), stored["trees"], slope, offset)


def _check_trees(trees: Any, columns: int, directions: tuple[int, ...]) -> None:
    """Every branch leads on to later nodes of its own tree, every question is a column, every leaf a number."""
    if type(trees).__name__ != "HistGradientBoostingClassifier" or trees.n_features_in_ != columns:
        raise ModelUnusable("The trees are of another kind.")
    if list(trees.monotonic_cst) != list(directions) or list(trees.classes_) != [0.0, 1.0]:
        raise ModelUnusable("The trees were fitted to other columns.")
    for stage in trees._predictors:
        for tree in stage:
            nodes = tree.nodes
            inner = nodes[nodes["is_leaf"] == 0]
            place = np.flatnonzero(nodes["is_leaf"] == 0)
            is_sound = (
                len(nodes) > 0
                and not inner["is_categorical"].any()
                and ((inner["feature_idx"] >= 0) & (inner["feature_idx"] < columns)).all()
                and ((inner["left"] > place) & (inner["left"] < len(nodes))).all()
                and ((inner["right"] > place) & (inner["right"] < len(nodes))).all()
                and np.isfinite(nodes["value"]).all()
            )
            if not is_sound:
                raise ModelUnusable("A tree of the file leads nowhere.")
