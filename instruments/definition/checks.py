"""What only the whole of a definition can tell: names that point nowhere, bands with holes, facts still open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations, pairwise

from instruments.definition.parts import (
    CriticalItem,
    Instrument,
    Item,
    ItemCondition,
    Problem,
    ScaleCondition,
    has_whole_scores,
    holds,
)
from instruments.definition.table import IDENTIFIER

RESERVED_COLUMNS = ("status", "n_missing", "n_answered", "critical_blank", "critical")


def check(instrument: Instrument) -> Iterator[Problem]:
    """Every problem that reading alone could not see."""
    yield from _check_items(instrument)
    yield from _check_names(instrument)
    references = list(_check_references(instrument))
    yield from references
    yield from _check_wording(instrument)
    if not references:
        yield from _check_bands(instrument)
        yield from _check_missing(instrument)
    if instrument.is_released:
        for place, fact in instrument.facts():
            if fact.is_open:
                yield Problem(place, "is still to be confirmed, so the definition cannot be released")


def check_rest(instrument: Instrument, noted: Sequence[Problem]) -> list[Problem]:
    """What can be told beside the problems that reading has noted, without any that only follow from them."""
    broken = {problem.place.partition(".")[0].partition("[")[0] for problem in noted}
    has_items, has_scales = not broken & {"code", "items", "options"}, "scales" not in broken
    found = chain(_check_items(instrument), _check_names(instrument), _check_references(instrument))
    return [
        problem
        for problem in found
        if not any(problem.place.startswith(known.place) for known in noted)
        and (has_items or not problem.message.startswith(("there is no item", "no answer of", "there is no scored")))
        and (has_scales or not problem.message.startswith("there is no scale"))
        and "?" not in problem.message
    ]


def _check_items(instrument: Instrument) -> Iterator[Problem]:
    if not instrument.scored_items:
        yield Problem("items", "there is no scored item")
    numbers = [item.number for item in instrument.items]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            yield Problem(f"items[{index}].number", f"{number} is given twice")
    earlier: set[str] = set()
    for index, item in enumerate(instrument.items):
        for name in item.asked_if.any_of if item.asked_if else ():
            if name not in earlier:
                yield Problem(f"items[{index}].asked_if.any_of", f"{name} is no earlier item")
        earlier.add(item.id)


def _check_names(instrument: Instrument) -> Iterator[Problem]:
    """Every name becomes a column of the scores, so one name means one thing."""
    taken: dict[str, str] = dict.fromkeys(RESERVED_COLUMNS, "a column that every instrument has")
    taken |= {item.id: "an item" for item in instrument.items}
    named = chain(
        ((f"scales.{s.id}", s.id) for s in instrument.scales),
        ((f"cut_offs.{c.name}", c.name) for c in instrument.cut_offs),
        ((f"derived.{d.name}", d.name) for d in instrument.derived),
        ((f"validity.{v.name}", v.name) for v in instrument.validity_rules),
    )
    for place, name in named:
        if not IDENTIFIER.fullmatch(name):
            yield Problem(place, "a name is small letters, digits and single underscores")
        if name.endswith("_band") or name.startswith("critical_"):
            yield Problem(place, "names like ..._band and critical_... belong to other columns")
        if name in taken:
            yield Problem(place, f"{name} is already {taken[name]}")
        taken[name] = place
    for critical in instrument.critical_items:
        if critical.id == "blank" or not IDENTIFIER.fullmatch(critical.id):
            yield Problem(f"critical.{critical.id}", "is not a name that a critical item can have")


def _check_references(instrument: Instrument) -> Iterator[Problem]:
    items = {item.id for item in instrument.items}
    scales: set[str] = set()
    if not instrument.forms:
        yield Problem("forms", "there is no form")
    elif instrument.default_form not in instrument.forms:
        yield Problem("default_form", f"there is no forms.{instrument.default_form}")
    for scale in instrument.scales:
        for index, name in enumerate(scale.items):
            if name not in items:
                yield Problem(f"scales.{scale.id}.items[{index}]", f"there is no item {name}")
        for index, name in enumerate(scale.of):
            if name not in scales:
                yield Problem(f"scales.{scale.id}.of[{index}]", f"there is no scale {name} above this one")
        for index, level in enumerate(scale.levels):
            yield from _check_conditions(f"scales.{scale.id}.levels[{index}]", level.all_of, items, scales)
        scales.add(scale.id)
    if instrument.primary_scale not in scales:
        yield Problem("primary_scale", f"there is no scales.{instrument.primary_scale}")
    for name, layout in instrument.layouts.items():
        for index, item in enumerate(layout.items):
            if item not in items:
                yield Problem(f"layouts.{name}.items[{index}]", f"there is no item {item}")
        for item in (i.id for i in instrument.scored_items if i.id not in layout.items):
            yield Problem(f"layouts.{name}.items", f"{item} is not in it")
        for index, item in enumerate(layout.mirrored):
            if item not in items:
                yield Problem(f"layouts.{name}.mirrored[{index}]", f"there is no item {item}")
        known = {code for i in instrument.scored_items for code in i.codes}
        for printed, code in layout.codes.items():
            if code not in known:
                yield Problem(f"layouts.{name}.codes.{printed}", f"no item has the code {code}")
    for index, scheme in enumerate(instrument.band_schemes):
        for name in scheme.bands:
            if name not in scales:
                yield Problem(f"band_schemes[{index}].bands.{name}", f"there is no scale {name}")
    for cut_off in instrument.cut_offs:
        if cut_off.scale not in scales:
            yield Problem(f"cut_offs.{cut_off.name}.scale", f"there is no scale {cut_off.scale}")
    for rule in instrument.validity_rules:
        if rule.scale not in scales:
            yield Problem(f"validity.{rule.name}.scale", f"there is no scale {rule.scale}")
    for derived in instrument.derived:
        yield from _check_conditions(f"derived.{derived.name}", derived.all_of, items, scales)
    yield from _check_item_references(instrument, items)
    for place, forms in chain(
        ((f"band_schemes[{i}]", s.forms) for i, s in enumerate(instrument.band_schemes)),
        ((f"cut_offs.{c.name}", c.forms) for c in instrument.cut_offs),
        ((f"derived.{d.name}", d.forms) for d in instrument.derived),
        ((f"critical.{c.id}", c.forms) for c in instrument.critical_items),
    ):
        for form in forms:
            if form not in instrument.forms:
                yield Problem(f"{place}.forms", f"there is no forms.{form}")


def _check_conditions(
    place: str, conditions: Iterable[ItemCondition | ScaleCondition], items: set[str], scales: set[str]
) -> Iterator[Problem]:
    for index, condition in enumerate(conditions):
        if isinstance(condition, ScaleCondition):
            if condition.scale not in scales:
                yield Problem(f"{place}.all_of[{index}].scale", f"there is no scale {condition.scale}")
        else:
            for name in condition.any_of:
                if name not in items:
                    yield Problem(f"{place}.all_of[{index}].any_of", f"there is no item {name}")


def _check_item_references(instrument: Instrument, items: set[str]) -> Iterator[Problem]:
    for critical in instrument.critical_items:
        if critical.item not in items:
            yield Problem(f"critical.{critical.id}.item", f"there is no item {critical.item}")
        elif not _can_hold(instrument.item(critical.item), critical):
            yield Problem(f"critical.{critical.id}.value", "no answer of that item can ever reach it")
    for index, pair in enumerate(instrument.contradictory_pairs):
        for name in pair:
            if name not in items:
                yield Problem(f"quality.contradictory[{index}]", f"there is no item {name}")
    for index, instructed in enumerate(instrument.instructed_items):
        if instructed.item not in items:
            yield Problem(f"quality.instructed[{index}].item", f"there is no item {instructed.item}")
        elif instructed.code not in instrument.item(instructed.item).codes:
            yield Problem(f"quality.instructed[{index}].code", f"{instructed.item} has no code {instructed.code}")


def _can_hold(item: Item, critical: CriticalItem) -> bool:
    return any(holds(score, critical.op, critical.value) for score in item.codes.values())


def _check_wording(instrument: Instrument) -> Iterator[Problem]:
    """Wording without a licence is a problem, and so is a licence for wording that is not there."""
    if not instrument.licences:
        yield Problem("licence", "there is no licence block")
    for index, item in enumerate(instrument.items):
        for language in item.text:
            licence = instrument.licences.get(language)
            if licence is None or licence.verdict != "TEXT":
                yield Problem(f"items[{index}].text.{language}", f"licence.{language} does not allow wording here")
        for language in instrument.languages:
            if language not in item.text:
                yield Problem(f"items[{index}].text.{language}", f"is missing, though licence.{language} is TEXT")
            for option in item.options:
                if language not in option.text:
                    yield Problem(
                        f"items[{index}].options", f"code {option.code} has no {language} text, licence says TEXT"
                    )
    for scheme in instrument.band_schemes:
        for band in chain.from_iterable(scheme.bands.values()):
            if band.name not in instrument.band_titles:
                yield Problem(f"band_titles.{band.name}", f"is missing, but scheme {scheme.name} uses it")


def _check_bands(instrument: Instrument) -> Iterator[Problem]:
    for index, scheme in enumerate(instrument.band_schemes):
        for scale_id, bands in scheme.bands.items():
            place = f"band_schemes[{index}].bands.{scale_id}"
            if not bands:
                yield Problem(place, "has no band")
                continue
            low, high = instrument.score_range(scale_id)
            if bands[0].low != low or bands[-1].high != high:
                yield Problem(place, f"must cover {low:g} to {high:g}")
            whole = has_whole_scores(instrument, scale_id)
            for lower, upper in pairwise(bands):
                if upper.low <= lower.high:
                    yield Problem(f"{place}.{upper.name}", f"overlaps {lower.name}")
                elif whole and upper.low != lower.high + 1:
                    yield Problem(f"{place}.{upper.name}", f"leaves a gap after {lower.name}")
    for (i, one), (j, two) in combinations(enumerate(instrument.band_schemes), 2):
        shared_forms = not one.forms or not two.forms or set(one.forms) & set(two.forms)
        if not shared_forms or not set(one.bands) & set(two.bands):
            continue
        if one.name == two.name:
            yield Problem(f"band_schemes[{j}].name", f"band_schemes[{i}] has the same name for the same form and scale")
        elif one.is_primary and two.is_primary:
            yield Problem(f"band_schemes[{j}].primary", f"band_schemes[{i}] is already primary for the same form")


def _check_missing(instrument: Instrument) -> Iterator[Problem]:
    for scale in instrument.scales:
        n_items, limit = len(scale.items), scale.missing.limit
        if not scale.items or limit is None:
            continue
        if scale.missing.kind == "prorate" and limit >= n_items:
            yield Problem(f"scales.{scale.id}.missing", f"cannot prorate {limit} blanks of {n_items} items")
        if scale.missing.kind == "minimum_answered" and limit > n_items:
            yield Problem(f"scales.{scale.id}.missing", f"cannot ask for {limit} answers of {n_items} items")
