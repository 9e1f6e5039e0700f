"""Which forms score alike: items that play the same part may trade their answers.

A form that is scored alone is scored as the form like it that was scored first. Across a school most forms are alike,
and the engine, made for millions of rows, is started for the others only.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations_with_replacement, product

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


def whole_forms(instrument: Instrument, *, most: int) -> list[tuple[int | None, ...]]:
    """Every stand-in of a form on which all that is scored is answered; none at all where there are more than `most`.

    Each is a code per item, in the definition's order, and None for an item that is not scored: nine items of four
    codes make a few thousand.
    """
    traded = _interchangeable(instrument)
    together = set(chain.from_iterable(traded))
    groups = [*traded, *((place,) for place in range(len(instrument.items)) if place not in together)]
    answers = [(_codes(instrument.items[places[0]]), len(places)) for places in groups]
    if math.prod(math.comb(len(codes) + size - 1, size) for codes, size in answers) > most:
        return []
    places = list(chain.from_iterable(groups))
    order = sorted(range(len(places)), key=places.__getitem__)
    choices = (combinations_with_replacement(codes, size) for codes, size in answers)
    flat = (tuple(chain.from_iterable(parts)) for parts in product(*choices))
    return [tuple(arranged[place] for place in order) for arranged in flat]


def _codes(item: Item) -> Sequence[int | None]:
    return sorted(item.codes) if item.is_scored else [None]


def _blank_last(answer: int | None) -> tuple[bool, int]:
    return answer is None, answer or 0


@lru_cache(maxsize=512)
def _interchangeable(instrument: Instrument) -> tuple[tuple[int, ...], ...]:
    """Places of items that differ in nothing that scoring looks at; those that stand alone are left out."""
    critical = {each.item for each in instrument.critical_items}  # whose answer matters for itself
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(instrument.items):
        if item.id not in critical and item.asked_if is None:
            groups[_part(item, instrument)].append(place)
    return tuple(tuple(places) for places in groups.values() if len(places) > 1)


def _part(item: Item, instrument: Instrument) -> Hashable:
    scales = ((s.id, s.thresholds.get(item.id)) for s in instrument.scales if item.id in s.items)
    counted = (number for number, condition in enumerate(_conditions(instrument)) if item.id in condition.any_of)
    return tuple(sorted(item.codes.items())), item.is_scored, tuple(scales), tuple(counted)


def _conditions(instrument: Instrument) -> Iterator[ItemCondition]:
    """All that counts answers beside the sums; which of its items they are of is the same to each."""
    yield from (item.asked_if for item in instrument.items if item.asked_if is not None)
    groups = [derived.all_of for derived in instrument.derived]
    groups += [level.all_of for scale in instrument.scales for level in scale.levels]
    yield from (condition for condition in chain.from_iterable(groups) if isinstance(condition, ItemCondition))
