"""What a model has to show before it may speak: every gate with its number, and "not enough to say" is a no.

Thresholds come from capacity and are the model's alone: no rule is ever held back for want of room.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from screening.risk_model.fitting import Numbers, line_through
from screening.risk_model.judging import Gap, Missed, auroc, interval, log_odds, missed_by, net_benefit, threshold

LEAST_LABELS = 200
LEAST_AUDITED = 30
SLOPES = (0.8, 1.2)
LEAST_CASES = 20
"""Students in need in each of the groups that are compared."""
WIDEST_GAP = 0.05
WIDEST_INTERVAL = 0.10


@dataclass(frozen=True)
class Evidence:
    """What is known of a model before it may speak. Arrays are of labelled students whom it did not learn from.

    `is_below`: the rules gave no tier, so the label came by lot; `capacity`: the share of all students that counselors
    can look at beyond those the rules find; `groups`: the value of each grouping by its name; `kinds`: the values that
    there are of it among all students who were asked, labelled or not.
    """

    truth: Numbers
    probability: Numbers
    baseline: Numbers
    weight: Numbers
    is_below: npt.NDArray[np.bool_]
    rule_tier: npt.NDArray[np.int64]
    schools: npt.NDArray[Any]
    groups: Mapping[str, npt.NDArray[Any]]
    kinds: Mapping[str, Collection[str]]
    capacity: float
    whole_rounds_in_shadow: int


@dataclass(frozen=True)
class Gate:
    """One condition with the number that was seen; `is_met` None: not enough to say, which keeps the shadow."""

    name: str
    is_met: bool | None
    seen: str
    needed: str


def judged(evidence: Evidence) -> list[Gate]:
    """Every gate in order. A model goes live only when all are met; one that cannot be told is not met."""
    found = list(_gates_of_labels(evidence))
    if any(gate.is_met is False for gate in found if gate.name == "labels_below_threshold") or not _is_two_sided(
        evidence
    ):
        return found
    return [*found, *_gates_of_accuracy(evidence), *_gates_of_groups(evidence)]


def is_open(found: Sequence[Gate]) -> bool:
    """Whether the model may go live."""
    return bool(found) and all(gate.is_met is True for gate in found)


def _is_two_sided(evidence: Evidence) -> bool:
    return bool(0 < evidence.truth.sum() < len(evidence.truth))


def _gates_of_labels(evidence: Evidence) -> Iterator[Gate]:
    rounds = evidence.whole_rounds_in_shadow
    yield Gate("shadow_round", rounds >= 1, f"{rounds} whole rounds in shadow", "at least 1")
    yield Gate("labels", len(evidence.truth) >= LEAST_LABELS, f"{len(evidence.truth)}", f"at least {LEAST_LABELS}")
    audited = int(evidence.is_below.sum())
    yield Gate(
        "labels_below_threshold",
        audited >= LEAST_AUDITED,
        f"{audited} students whom the rules had not found were asked by lot"
        + ("" if audited else ": labels of flagged students only say nothing about whom it misses"),
        f"at least {LEAST_AUDITED}",
    )
    if not _is_two_sided(evidence):
        yield Gate("labels_of_both_kinds", False, f"{int(evidence.truth.sum())} confirmed", "some, not all")


def _gates_of_accuracy(evidence: Evidence) -> Iterator[Gate]:
    y, p, w = evidence.truth, evidence.probability, evidence.weight
    ours, theirs = auroc(y, p, w), auroc(y, evidence.baseline, w)
    low, high = interval(
        lambda rows: auroc(y[rows], p[rows], w[rows]) - auroc(y[rows], evidence.baseline[rows], w[rows]),
        np.arange(len(y)),
        draws=200,
    )
    yield Gate(
        "beats_baseline",
        ours > theirs,
        f"AUROC {ours:.3f} against {theirs:.3f}, difference {low:+.3f} to {high:+.3f}",
        "higher, weighted",
    )
    slope = line_through(log_odds(p), y, w)[0]
    yield Gate("calibration_slope", SLOPES[0] <= slope <= SLOPES[1], f"{slope:.2f}", f"{SLOPES[0]} to {SLOPES[1]}")
    flagged = evidence.rule_tier > 0
    raised = raised_by(p, evidence.rule_tier, evidence.capacity, w)
    at = float(np.average(y[flagged], weights=w[flagged])) / 2 if flagged.any() else float(np.average(y, weights=w))
    at = min(max(at, 0.01), 0.99)
    gain = net_benefit(y, flagged | raised, at, w) - net_benefit(y, flagged, at, w)
    yield Gate(
        "net_benefit",
        gain > 0,
        f"{gain * 1000:+.2f} per 1,000 students when {evidence.capacity:.1%} more can be seen, at {at:.2f}",
        "above 0",
    )


def _gates_of_groups(evidence: Evidence) -> Iterator[Gate]:
    for gap in fairness(evidence):
        table = ", ".join(_in_words(one) for one in gap.groups) or "nobody said who is in which group"
        needed = f"a gap of at most {WIDEST_GAP:.0%}, its interval within {WIDEST_INTERVAL:.0%}"
        name = f"missed_by_{gap.by}"
        if gap.is_of_one:
            yield Gate(name, True, f"nothing to compare ({table})", needed)
        elif gap.gap is None or gap.interval is None:
            yield Gate(name, None, f"not enough to say ({table})", needed)
        elif gap.gap > WIDEST_GAP:
            yield Gate(name, False, f"{gap.gap:.1%} ({table})", needed)
        else:
            is_within = gap.interval[1] <= WIDEST_INTERVAL
            words = "" if is_within else ", not enough to say"
            yield Gate(name, is_within or None, f"{gap.gap:.1%}, up to {gap.interval[1]:.1%}{words} ({table})", needed)


def _in_words(one: Missed) -> str:
    return f"{one.group}: " + (
        f"{one.missed:.0%} of {one.cases} missed" if one.missed is not None else f"{one.cases} in need, too few to tell"
    )


def fairness(evidence: Evidence) -> list[Gap]:
    """Whom the rules and the model together miss, in each grouping."""
    found = found_by_both(evidence)
    return [
        missed_by(
            by, of, evidence.truth, found, evidence.weight, kinds=evidence.kinds.get(by, ()), least_cases=LEAST_CASES
        )
        for by, of in evidence.groups.items()
    ]


def found_by_both(evidence: Evidence) -> npt.NDArray[np.bool_]:
    """Whom the rules flag, and whom the model would add within capacity."""
    found: npt.NDArray[np.bool_] = (evidence.rule_tier > 0) | raised_by(
        evidence.probability, evidence.rule_tier, evidence.capacity, evidence.weight
    )
    return found


def raised_by(
    probability: Numbers, rule_tier: npt.NDArray[np.int64], capacity: float, weight: Numbers | None = None
) -> npt.NDArray[np.bool_]:
    """Whom the model would add: the highest among those whom the rules leave at none, as many as can be seen."""
    below: npt.NDArray[np.bool_] = rule_tier == 0
    w = np.ones(len(probability)) if weight is None else weight
    if not below.any():
        return below
    share = min(1.0, capacity * float(w.sum()) / float(w[below].sum()))
    found: npt.NDArray[np.bool_] = below & (probability >= threshold(probability[below], share, w[below]))
    return found
