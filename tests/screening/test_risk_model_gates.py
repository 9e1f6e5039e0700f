"""What a model has to show before it may speak, each gate closed by one thing alone."""

from dataclasses import replace

import numpy as np

from screening.risk_model import gates
from screening.risk_model.gates import Evidence


def evidence(*, unfair: bool = False, rows: int = 4000) -> Evidence:
    """Labels by lot and by flag of a model that is good, and better than its baseline; to girls only, if `unfair`."""
    chance = np.random.default_rng(5)
    felt = chance.normal(size=rows)
    sex = chance.choice(["f", "m"], rows)
    seen = felt + chance.normal(scale=0.1, size=rows)
    if unfair:
        seen = np.where(sex == "m", chance.normal(size=rows) - 2, seen)
    rule_tier = np.where(felt + chance.normal(scale=0.6, size=rows) > 2.2, 1, 0)
    truth = (chance.random(rows) < 1 / (1 + np.exp(-(6 * seen - 7)))).astype(float)
    if unfair:
        truth = (chance.random(rows) < 1 / (1 + np.exp(-(6 * felt - 7)))).astype(float)
    return Evidence(
        truth=truth,
        probability=1 / (1 + np.exp(-(6 * seen - 7))),
        baseline=1 / (1 + np.exp(-(felt + chance.normal(size=rows)))),
        weight=np.ones(rows),
        is_below=rule_tier == 0,
        rule_tier=rule_tier,
        schools=chance.integers(0, 10, rows),
        groups={"sex": sex},
        kinds={"sex": ["f", "m"]},
        capacity=0.17,
        whole_rounds_in_shadow=1,
    )


def test_a_good_model_passes_every_gate() -> None:
    found = gates.judged(evidence())
    assert gates.is_open(found), found


def test_labels_of_flagged_students_only_are_refused_with_the_reason() -> None:
    known = evidence()
    only = known.rule_tier > 0
    flagged = replace(
        known,
        **{
            name: getattr(known, name)[only]
            for name in ("truth", "probability", "baseline", "weight", "is_below", "rule_tier", "schools")
        },
        groups={"sex": known.groups["sex"][only]},
    )
    found = {gate.name: gate for gate in gates.judged(flagged)}
    assert not gates.is_open(list(found.values()))
    assert found["labels_below_threshold"].is_met is False
    assert "flagged students only" in found["labels_below_threshold"].seen


def test_a_model_that_misses_boys_is_refused_with_the_table() -> None:
    gate = next(gate for gate in gates.judged(evidence(unfair=True)) if gate.name == "missed_by_sex")
    assert gate.is_met is False
    assert "f:" in gate.seen
    assert "m:" in gate.seen


def test_without_a_whole_round_in_shadow_nothing_goes_live() -> None:
    assert not gates.is_open(gates.judged(replace(evidence(), whole_rounds_in_shadow=0)))


def test_a_model_no_better_than_its_baseline_is_refused() -> None:
    known = evidence()
    found = {g.name: g for g in gates.judged(replace(known, probability=known.baseline, baseline=known.probability))}
    assert found["beats_baseline"].is_met is False


def test_too_few_cases_in_a_group_keep_the_shadow() -> None:
    known = evidence()
    rare = np.where(np.arange(4000) < 12, "rare", "others")
    gate = gates.judged(replace(known, groups={"group": rare}, kinds={}))[-1]
    assert gate.is_met is None
    assert "not enough to say" in gate.seen


def test_no_more_are_raised_than_can_be_seen() -> None:
    known = evidence()
    raised = gates.raised_by(known.probability, known.rule_tier, 0.01)
    assert 0 < raised.sum() <= 40
    assert not (raised & (known.rule_tier > 0)).any()


def test_nobody_said_who_is_rural_and_that_is_not_enough_to_say() -> None:
    known = evidence()
    untold = replace(known, groups={"setting": np.full(4000, None)}, kinds={"setting": []})
    gate = gates.judged(untold)[-1]
    assert (gate.name, gate.is_met) == ("missed_by_setting", None)
    assert "nobody said" in gate.seen


def test_where_all_are_alike_there_is_nothing_to_compare_and_where_they_only_seem_so_there_is() -> None:
    known = evidence()
    urban = {"setting": np.full(4000, "urban")}
    assert gates.judged(replace(known, groups=urban, kinds={"setting": ["urban"]}))[-1].is_met is True
    assert gates.judged(replace(known, groups=urban, kinds={"setting": ["rural", "urban"]}))[-1].is_met is None
