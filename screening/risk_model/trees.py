"""Boosted trees as plain arrays: all questions of all trees asked at once, and what each set of answers is worth.

Trees of a few leaves ask so few questions that asking every one of them is cheaper than walking from node to node,
for a million students and for one. Arrays can hold no code and no ring, and whether a symptom counts upwards can be
read off them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

MOST_QUESTIONS = 7
"""Of one tree: its table has a place for each set of answers."""


@dataclass(frozen=True)
class Trees:
    """An ensemble of T trees with at most K questions each.

    `feature` and `threshold` (float32), both T x K: whether column `feature` is at most `threshold`; `is_missing_low`,
    T x K: what a missing answer counts as. `worth`, T x 2**K: log-odds by the set of questions answered yes, bit k for
    question k. `base`: log-odds before any tree.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    is_missing_low: npt.NDArray[np.bool_]
    worth: Numbers
    base: float

    def margin(self, by_column: npt.NDArray[np.float32]) -> Numbers:
        """Log-odds of each student; `by_column` has a row per feature and a column per student, NaN for missing."""
        found = np.full(by_column.shape[1], self.base)
        if not len(self.feature):
            return found
        said = np.zeros((len(self.feature), by_column.shape[1]), dtype=np.uint8)
        for question in range(self.feature.shape[1]):
            said |= self._said(by_column, question).view(np.uint8) << question
        found += self.worth.ravel().take(said + np.arange(len(said))[:, None] * self.worth.shape[1]).sum(axis=0)
        return found

    def _said(self, by_column: npt.NDArray[np.float32], question: int) -> npt.NDArray[np.bool_]:
        asked = by_column[self.feature[:, question]]
        said: npt.NDArray[np.bool_] = asked <= self.threshold[:, question, None]
        low = np.flatnonzero(self.is_missing_low[:, question])
        said[low] |= np.isnan(asked[low])
        return said

    def goes_against(self, directions: Sequence[int]) -> bool:
        """Whether a worse answer in a column with a direction (1 rising, -1 falling) lowers the log-odds anywhere."""
        wanted = np.asarray(directions)[self.feature]
        codes = np.arange(self.worth.shape[1])
        for question in range(self.feature.shape[1]):
            low = codes[codes >> question & 1 == 1]
            gain = self.worth[:, low ^ 1 << question] - self.worth[:, low]
            if (gain * wanted[:, question, None] < 0).any():
                return True
        return False


def flattened(fitted: Any) -> Trees:
    """The same trees as arrays; `fitted` is a HistGradientBoostingClassifier of two classes without categories.

    Raises ValueError for a tree of more than MOST_QUESTIONS questions.
    """
    nodes = [stage[0].nodes for stage in fitted._predictors]
    inner = [np.flatnonzero(tree["is_leaf"] == 0) for tree in nodes]
    most = max((len(places) for places in inner), default=0)
    if most > MOST_QUESTIONS:
        raise ValueError(f"a tree may ask {MOST_QUESTIONS} questions, not {most}")
    shape = (len(nodes), max(most, 1))
    feature, threshold = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    is_missing_low, worth = np.zeros(shape, dtype=bool), np.zeros((shape[0], 1 << shape[1]))
    for number, (tree, places) in enumerate(zip(nodes, inner, strict=True)):
        for question, place in enumerate(places):
            feature[number, question] = tree["feature_idx"][place]
            threshold[number, question] = _at_most(float(tree["num_threshold"][place]))
            is_missing_low[number, question] = bool(tree["missing_go_to_left"][place])
        question_at = {int(place): question for question, place in enumerate(places)}
        worth[number] = [_leaf(tree, question_at, code) for code in range(worth.shape[1])]
    return Trees(feature, threshold, is_missing_low, worth, float(np.ravel(fitted._baseline_prediction)[0]))


def _leaf(tree: Any, question_at: dict[int, int], code: int) -> float:
    place = 0
    while place in question_at:
        place = int(tree["left" if code >> question_at[place] & 1 else "right"][place])
    return float(tree["value"][place])


def _at_most(threshold: float) -> np.float32:
    """The largest 32-bit number not above it, so that 32-bit answers fall on the same side."""
    near = np.float32(threshold)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near
