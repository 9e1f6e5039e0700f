"""Typical bugs, each planted in a copy of a definition: what a tired hand or a wrong web page would get wrong."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from instruments.definition import (
    Band,
    BandScheme,
    CutOff,
    Instrument,
    Item,
    ItemCondition,
    Layout,
    Level,
    MissingRule,
    Scale,
)

Mutant = tuple[str, Instrument]
STRICT = {">=": ">", ">": ">=", "<=": "<", "<": "<=", "==": ">="}


def mutants(instrument: Instrument) -> Iterator[Mutant]:
    """(what is wrong, the definition with it). A digest of its own keeps each apart from whatever is remembered."""
    for number, (bug, changed) in enumerate(_planted(instrument)):
        yield bug, replace(changed, digest=f"{instrument.digest}:{number}")


def _planted(one: Instrument) -> Iterator[Mutant]:
    for plant in (_items, _scales, _blanks, _bands, _cut_offs, _critical, _levels, _layouts):
        yield from plant(one)


def _items(one: Instrument) -> Iterator[Mutant]:
    turned = [item for item in one.scored_items if item.is_reversed]
    for item in turned[:1] + turned[-1:]:
        yield f"{item.id} is not reversed", _with_item(one, _mirrored(item))
    straight = [item for item in one.scored_items if not item.is_reversed]
    for item in (straight[0], straight[len(straight) // 2], straight[-1]):
        yield f"{item.id} is reversed", _with_item(one, _mirrored(item))
    item = straight[0]
    top, bottom = max(item.codes), min(item.codes)
    yield "the highest answer scores one less", _recoded(one, item, {**item.codes, top: item.codes[top] - 1})
    yield "the lowest answer scores one more", _recoded(one, item, {**item.codes, bottom: item.codes[bottom] + 1})
    yield "a code too many", _recoded(one, item, {**item.codes, top + 1: item.codes[top] + 1})
    if len(item.codes) > 2:
        few = {code: score for code, score in item.codes.items() if code != top}
        yield "a code too few", _recoded(one, item, few)
    for item in one.items:
        if item.asked_if:
            yield f"{item.id} is always asked", _with_item(one, replace(item, asked_if=None))


def _scales(one: Instrument) -> Iterator[Mutant]:
    made = [scale for scale in one.scales if scale.items]
    for scale in (made[0], made[-1]):
        yield f"{scale.id} begins an item late", _with_scale(one, replace(scale, items=scale.items[1:]))
        yield f"{scale.id} ends an item early", _with_scale(one, replace(scale, items=scale.items[:-1]))
    ids = [item.id for item in one.scored_items]
    for scale in made:
        beside = [item for item in ids if item not in scale.items]
        if beside:
            moved = (*scale.items[:-1], beside[0])
            yield f"{scale.id} has a wrong last item", _with_scale(one, replace(scale, items=moved))
            break
    for first, second in pairwise(made):
        if set(first.items) != set(second.items) and first.method == second.method:
            swapped = _with_scale(
                _with_scale(one, replace(first, items=second.items)), replace(second, items=first.items)
            )
            yield f"{first.id} and {second.id} are swapped", swapped
            break
    plain = next((scale for scale in made if scale.method in ("sum", "mean") and len(scale.items) > 1), None)
    if plain:
        other: Any = "mean" if plain.method == "sum" else "sum"
        yield f"{plain.id} is a {other}", _with_scale(one, replace(plain, method=other))
    for scale in one.scales:
        if scale.method == "linear":
            yield f"{scale.id} has a wrong multiplier", _with_scale(one, replace(scale, multiply=scale.multiply + 1))
            yield f"{scale.id} has a wrong constant", _with_scale(one, replace(scale, add=scale.add - 5))
        if scale.method == "count":
            every = dict.fromkeys(scale.items, 2)
            yield f"{scale.id} counts every item from 2", _with_scale(one, replace(scale, thresholds=every))
            low = dict.fromkeys(scale.items, 1)
            yield f"{scale.id} counts every item from 1", _with_scale(one, replace(scale, thresholds=low))
        if len(scale.of) > 1:
            yield f"{scale.id} lacks its last part", _with_scale(one, replace(scale, of=scale.of[:-1]))
            if any(s.id == "lie" for s in one.scales):
                yield f"{scale.id} contains the lie scale", _with_scale(one, replace(scale, of=(*scale.of, "lie")))


def _blanks(one: Instrument) -> Iterator[Mutant]:
    kinds = {scale.missing.kind for scale in one.scales if scale.items}
    fact = one.scales[0].missing.fact
    main = one.scale(one.primary_scale)
    kind = next((scale.missing.kind for scale in one.scales if scale.items and scale.id in (main.id, *main.of)), "none")
    if kind in kinds and kind != "blank_as_zero":
        yield "a blank counts 0", _with_rule(one, kind, MissingRule("blank_as_zero", None, fact))
    if kind != "none":
        yield "no blank is tolerated", _with_rule(one, kind, MissingRule("none", None, fact))
    for scale in one.scales:
        limit = scale.missing.limit
        if scale.items and limit is not None:
            for wrong in (limit - 1, limit + 1):
                yield f"the limit of blanks is {wrong}", _with_rule(one, kind, replace(scale.missing, limit=wrong))
            break
    if kind == "none" and kind in kinds:
        yield "one blank is prorated", _with_rule(one, "none", MissingRule("prorate", 1, fact))
    if kind == "blank_as_zero":
        yield "blanks never void the form", _with_rule(one, kind, MissingRule("blank_as_zero", None, fact))


def _bands(one: Instrument) -> Iterator[Mutant]:
    for place, scheme in enumerate(one.band_schemes):
        scale_id, bands = next(iter(scheme.bands.items()))
        step = _step(one, scale_id) if float(bands[1].low).is_integer() else 0.4
        for wrong in (step, -step):
            moved = (replace(bands[0], high=bands[0].high + wrong), replace(bands[1], low=bands[1].low + wrong))
            yield (
                f"a band of {scale_id} in {scheme.name} ends {wrong:+g}",
                _with_scheme(one, place, scale_id, (*moved, *bands[2:])),
            )
        last = (replace(bands[-2], high=bands[-2].high + step), replace(bands[-1], low=bands[-1].low + step))
        if len(bands) > 2 and last[1].low <= last[1].high:
            yield f"the top band of {scale_id} begins late", _with_scheme(one, place, scale_id, (*bands[:-2], *last))
        turned = tuple(replace(b, name=n.name) for b, n in zip(bands, reversed(bands), strict=True))
        yield f"bands of {scale_id} in {scheme.name} are upside down", _with_scheme(one, place, scale_id, turned)
    if one.band_schemes:
        yield "a band scheme is dropped", replace(one, band_schemes=one.band_schemes[1:])
    named = [place for place, scheme in enumerate(one.band_schemes) if scheme.forms]
    if len(named) > 1:
        a, b = named[:2]
        schemes = list(one.band_schemes)
        schemes[a] = replace(schemes[a], forms=one.band_schemes[b].forms)
        schemes[b] = replace(schemes[b], forms=one.band_schemes[a].forms)
        yield "bands of two informants are swapped", replace(one, band_schemes=tuple(schemes))


def _cut_offs(one: Instrument) -> Iterator[Mutant]:
    for cut in one.cut_offs[:2] + one.cut_offs[-1:]:
        step = _step(one, cut.scale)
        wrong: list[tuple[str, CutOff]] = [
            (f"{cut.name} is one score higher", replace(cut, value=cut.value + step)),
            (f"{cut.name} is one score lower", replace(cut, value=cut.value - step)),
        ]
        if cut.value % step == 0:  # else no score lies on it, and strict is the same
            wrong.append((f"{cut.name} is {STRICT[cut.op]}", replace(cut, op=STRICT[cut.op])))
        for bug, changed in wrong:
            cuts = tuple(changed if each.name == cut.name else each for each in one.cut_offs)
            yield bug, replace(one, cut_offs=cuts)
    if one.cut_offs:
        yield f"{one.cut_offs[-1].name} is dropped", replace(one, cut_offs=one.cut_offs[:-1])
    for rule in one.validity_rules:
        yield f"{rule.name} is strict", replace(one, validity_rules=(replace(rule, op=">"),))
        yield f"{rule.name} voids the form", replace(one, validity_rules=(replace(rule, verdict="invalid"),))
        yield f"{rule.name} is dropped", replace(one, validity_rules=())


def _critical(one: Instrument) -> Iterator[Mutant]:
    for critical in one.critical_items[:1] + one.critical_items[-1:]:
        others = tuple(each for each in one.critical_items if each.id != critical.id)
        yield f"critical {critical.id} is dropped", replace(one, critical_items=others)
        scores = one.item(critical.item).codes.values()
        for value in {critical.value + 1, critical.value - 1} & {*scores, min(scores)}:
            yield (
                f"critical {critical.id} is met at {value}",
                replace(one, critical_items=(*others, replace(critical, op=">=", value=value))),
            )
        number = one.item(critical.item).number
        beside = f"{one.code}_{number - 1 if number > 1 else number + 1}"
        moved = replace(one, critical_items=(*others, replace(critical, item=beside)))
        yield f"critical {critical.id} is asked by {beside}", moved


def _levels(one: Instrument) -> Iterator[Mutant]:
    for scale in one.scales:
        for place, level in enumerate(scale.levels):
            rest = scale.levels[:place] + scale.levels[place + 1 :]
            yield f"{scale.id} lacks the level {level.value}", _with_scale(one, replace(scale, levels=rest))
            deaf = tuple(
                replace(c, is_blank_counted=False) if isinstance(c, ItemCondition) else c for c in level.all_of
            )
            if deaf != level.all_of:
                changed = (*scale.levels[:place], Level(level.value, deaf), *scale.levels[place + 1 :])
                yield f"a refusal is no {level.value}", _with_scale(one, replace(scale, levels=changed))
    for derived in one.derived:
        yield f"{derived.name} is dropped", replace(one, derived=tuple(d for d in one.derived if d is not derived))


def _layouts(one: Instrument) -> Iterator[Mutant]:
    for name, layout in one.layouts.items():
        order = (layout.items[1], layout.items[0], *layout.items[2:])
        yield f"the layout {name} swaps two items", _with_layout(one, replace(layout, items=order))
        if layout.codes:
            shifted = {code + 1: ours for code, ours in layout.codes.items()}
            yield f"the layout {name} prints other codes", _with_layout(one, replace(layout, codes=shifted))
        if layout.mirrored:
            yield f"the layout {name} mirrors nothing", _with_layout(one, replace(layout, mirrored=()))


def _step(one: Instrument, scale_id: str) -> int:
    """How far two neighbouring scores of the scale are apart: WHO-5 moves by fours."""
    scale = one.scale(scale_id)
    return int(scale.multiply) if scale.method == "linear" else 1


# -- copies ---------------------------------------------------------------------------------------------


def _mirrored(item: Item) -> Item:
    ends = min(item.codes.values()) + max(item.codes.values())
    return replace(item, codes={code: ends - score for code, score in item.codes.items()})


def _recoded(one: Instrument, item: Item, codes: dict[int, int]) -> Instrument:
    return _with_item(one, replace(item, codes=codes))


def _with_item(one: Instrument, item: Item) -> Instrument:
    return replace(one, items=tuple(item if each.id == item.id else each for each in one.items))


def _with_scale(one: Instrument, scale: Scale) -> Instrument:
    return replace(one, scales=tuple(scale if each.id == scale.id else each for each in one.scales))


def _with_rule(one: Instrument, kind: str, rule: MissingRule) -> Instrument:
    changed: Callable[[Scale], Scale] = lambda s: replace(s, missing=rule) if s.missing.kind == kind else s  # noqa: E731
    return replace(one, scales=tuple(map(changed, one.scales)))


def _with_scheme(one: Instrument, place: int, scale_id: str, bands: tuple[Band, ...]) -> Instrument:
    scheme: BandScheme = one.band_schemes[place]
    changed = replace(scheme, bands={**scheme.bands, scale_id: bands})
    return replace(one, band_schemes=(*one.band_schemes[:place], changed, *one.band_schemes[place + 1 :]))


def _with_layout(one: Instrument, layout: Layout) -> Instrument:
    return replace(one, layouts={**one.layouts, layout.name: layout})
