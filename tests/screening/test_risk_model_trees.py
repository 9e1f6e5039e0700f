"""Trees as arrays say what scikit-learn's own say, of every kind of answer and of one that is missing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from screening.risk_model import trees


def fitted(*, seed: int = 1, leaves: int = 4, directions: tuple[int, ...] = (1, -1, 0, 0)) -> Any:
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(300, 4)).astype(np.float32)
    x[:, 3] = chance.integers(0, 3, 300)
    felt = x[:, 0] - x[:, 1] + (x[:, 3] == 1)
    x[chance.random(x.shape) < 0.2] = np.nan
    y = felt + chance.normal(size=300) > 0.5
    found = HistGradientBoostingClassifier(
        max_iter=8, max_leaf_nodes=leaves, monotonic_cst=directions, early_stopping=False, random_state=seed
    )
    with threadpool_limits(1, user_api="openmp"):
        return found.fit(x, y)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), leaves=st.integers(2, 8))
def test_the_arrays_say_what_the_trees_say(seed: int, leaves: int) -> None:
    whole = fitted(seed=seed, leaves=leaves)
    flat = trees.flattened(whole)
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(200, 4)).astype(np.float32)
    x[chance.random(x.shape) < 0.2] = np.nan
    # answers that stand exactly on a question
    x[: flat.feature.size, 0] = flat.threshold.ravel()[:200]
    with threadpool_limits(1, user_api="openmp"):
        expected = whole.decision_function(x)
    assert flat.margin(np.ascontiguousarray(x.T)) == pytest.approx(expected, abs=1e-9)
    assert not flat.goes_against((1, -1, 0, 0))


def test_a_direction_that_does_not_hold_is_seen() -> None:
    flat = trees.flattened(fitted())
    assert flat.goes_against((-1, -1, 0, 0))
    assert flat.goes_against((1, 1, 0, 0))


def test_trees_of_too_many_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="7 questions"):
        trees.flattened(fitted(leaves=20))


def test_no_tree_at_all_is_the_level_alone() -> None:
    empty = trees.Trees(
        np.zeros((0, 1), dtype=np.int32), np.zeros((0, 1), dtype=np.float32), np.zeros((0, 1), dtype=bool),
        np.zeros((0, 2)), -1.5,
    )  # fmt: skip
    assert empty.margin(np.zeros((2, 3), dtype=np.float32)).tolist() == [-1.5] * 3
