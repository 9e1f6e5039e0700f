"""Which forms score alike: items that play the same part may trade their answers.

A form that is scored alone is scored as the form like it that was scored first. Across a school most forms are alike,
and the engine, made for millions of rows, is started for the others only.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache

from instruments.definition import Instrument, Item, ItemCondition


def stand_in(answers: Sequence[int | None], instrument: Instrument) -> tuple[int | None, ...]:
    """The first in order of all forms that score like this one.

    `answers`: a code or None (a blank) per item, in the definition's order; the result likewise. Two forms with the
    same stand-in have the same columns in `scoring.score`, whatever the codes are.
    """
    arranged = list(answers)
    for places in _interchangeable(instrument):
        traded = sorted((answers[place] for place in places), key=_blank_last)
        for place, answer in zip(places, traded, strict=True):
            arranged[place] = answer
    return tuple(arranged)


def _blank_last(answer: int | None) -> tuple[bool, int]:
    return answer is None, answer or 0


@lru_cache(maxsize=512)
def _interchangeable(instrument: Instrument) -> tuple[tuple[int, ...], ...]:
    """Places of items that differ in nothing that scoring looks at; those that stand alone are left out."""
    alone = _asked_for_alone(instrument)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(instrument.items):
        if item.id not in alone and item.asked_if is None:
            groups[_part(item, instrument)].append(place)
    return tuple(tuple(places) for places in groups.values() if len(places) > 1)


def _part(item: Item, instrument: Instrument) -> Hashable:
    scales = ((s.id, s.thresholds.get(item.id)) for s in instrument.scales if item.id in s.items)
    return tuple(sorted(item.codes.items())), item.is_scored, tuple(scales)


def _asked_for_alone(instrument: Instrument) -> set[str]:
    """Items whose answer matters for itself, beside any sum."""
    conditions = [item.asked_if for item in instrument.items]
    conditions += [c for derived in instrument.derived for c in derived.all_of if isinstance(c, ItemCondition)]
    conditions += [
        c for scale in instrument.scales for lv in scale.levels for c in lv.all_of if isinstance(c, ItemCondition)
    ]
    named = {name for condition in conditions if condition is not None for name in condition.any_of}
    return named | {critical.item for critical in instrument.critical_items}
