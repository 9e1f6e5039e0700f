"""One TOML file into an instrument, part by part; what only the whole can tell is left to the checks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from instruments.definition.parts import (
    FORM_NAMES,
    INFORMANTS,
    METHODS,
    OPERATORS,
    SENSITIVITIES,
    VERDICTS,
    Band,
    BandScheme,
    CriticalItem,
    CutOff,
    Derived,
    Fact,
    Form,
    InstructedItem,
    Instrument,
    Item,
    ItemCondition,
    Layout,
    Level,
    Licence,
    MissingRule,
    Option,
    Problem,
    Scale,
    ScaleCondition,
    ValidityRule,
)
from instruments.definition.table import Table

FARTHEST_CODE = 999


def instrument_of(top: Table, body: str) -> Instrument:
    code = top.identifier("code")
    options = {name: _options(table) for name, table in top.named("options").items()}
    default_missing = _missing(top.table("missing"))
    scales = tuple(_scale(name, table, default_missing) for name, table in top.named("scales").items())
    forms = {name: _form(name, table) for name, table in top.named("forms").items()}
    quality = top.table("quality", None)
    instrument = Instrument(
        code=code,
        edition=top.identifier("edition"),
        version=str(top.text("version")),
        title=top.languages("title"),
        stem=top.languages("stem", {}),
        construct=top.identifier("construct"),
        time_frame=top.text("time_frame", None),
        is_released=top.yes("released"),
        needs_licence=top.yes("needs_licence", False),
        loinc=top.text("loinc", None),
        default_form=str(top.text("default_form")),
        primary_scale=str(top.text("primary_scale", "total")),
        forms=forms,
        layouts={name: _layout(name, table) for name, table in top.named("layouts").items()},
        items=tuple(_item(code, table, options) for table in top.tables("items")),
        scales=scales,
        band_titles={name: _titles(table) for name, table in top.named("band_titles").items()},
        band_schemes=tuple(_scheme(table) for table in top.tables("band_schemes")),
        cut_offs=tuple(_cut_off(name, table) for name, table in top.named("cut_offs").items()),
        derived=tuple(_derived(name, table) for name, table in top.named("derived").items()),
        critical_items=tuple(_critical(name, table) for name, table in top.named("critical").items()),
        validity_rules=tuple(_validity(name, table) for name, table in top.named("validity").items()),
        contradictory_pairs=_pairs(quality),
        instructed_items=_instructed(quality),
        licences={name: _licence(name, table) for name, table in top.named("licence").items()},
        sources=top.texts("sources"),
        digest=hashlib.sha256(body.encode()).hexdigest(),
        body=body,
    )
    if quality:
        quality.finish()
    top.finish()
    return instrument


def _options(table: Table) -> tuple[Option, ...]:
    found = []
    for row in table.tables("answers"):
        code = row.whole("code")
        found.append(Option(code, row.whole("score", code), row.languages("text", {}), row.text("loinc", None)))
        row.finish()
    if len(found) < 2:
        table.note("answers", "needs at least two answers")
    if any(abs(option.code) > FARTHEST_CODE or abs(option.score) > FARTHEST_CODE for option in found):
        table.note("answers", f"codes and scores lie between -{FARTHEST_CODE} and {FARTHEST_CODE}")
    if len({option.code for option in found}) < len(found):
        table.note("answers", "gives one code twice")
    table.finish()
    return tuple(found)


def _item(code: str, table: Table, options: Mapping[str, tuple[Option, ...]]) -> Item:
    number = table.whole("number")
    name = table.text("options")
    if name not in options and name != "?":
        table.note("options", f"there is no options.{name}")
    answers = options.get(name, ())
    is_reversed = table.yes("reversed", False)
    scores = [option.score for option in answers]
    mirror = min(scores, default=0) + max(scores, default=0)
    item = Item(
        id=f"{code}_{number}",
        number=number,
        answer_set=str(name),
        options=answers,
        codes={o.code: mirror - o.score if is_reversed else o.score for o in answers},
        is_reversed=is_reversed,
        is_scored=table.yes("scored", True),
        text=table.languages("text", {}),
        minimum_grade=table.whole("minimum_grade", None),
        sensitivity=table.choice("sensitivity", SENSITIVITIES, "ordinary"),
        loinc=table.text("loinc", None),
        asked_if=_item_condition(table.table("asked_if", None)),
    )
    table.finish()
    return item


def _item_condition(table: Table | None) -> ItemCondition | None:
    if table is None:
        return None
    condition = ItemCondition(
        any_of=table.texts("any_of"),
        op=table.choice("op", OPERATORS, ">="),
        value=table.whole("value", 1),
        at_least=table.whole("at_least", 1),
        is_blank_counted=table.yes("blank_counts", False),
    )
    if not 1 <= condition.at_least <= max(1, len(condition.any_of)):
        table.note("at_least", f"must lie between 1 and {len(condition.any_of)}")
    table.finish()
    return condition


def _missing(table: Table | None) -> MissingRule:
    if table is None:
        return MissingRule("none", None, Fact("?", "source"))
    kind = table.choice("rule", ("none", "prorate", "minimum_answered", "blank_as_zero"))
    limit: int | None = None
    match kind:
        case "prorate":
            limit = table.whole("max_blank")
        case "minimum_answered":
            limit = table.whole("minimum")
        case "blank_as_zero":
            limit = table.whole("invalid_from", None)
    if limit is not None and limit < 1:
        table.note("rule", "its limit must be 1 or more")
    if kind in ("prorate", "minimum_answered"):
        table.choice("rounding", ("half_up",))
    rule = MissingRule(kind, limit, table.fact())
    table.finish()
    return rule


def _scale(name: str, table: Table, default: MissingRule) -> Scale:
    thresholds = table.table("thresholds", None)
    own = table.table("missing", None)
    items = table.texts("items", [])
    scale = Scale(
        id=name,
        title=table.languages("title", {}),
        method=table.choice("method", METHODS),
        items=items,
        of=table.texts("of", []),
        thresholds=_thresholds(thresholds, items),
        multiply=table.number("multiply", 1),
        add=table.number("add", 0),
        levels=tuple(_level(row) for row in table.tables("levels")),
        missing=_missing(own) if own else default,
        is_high_good=table.yes("high_is_good", False),
        loinc=table.text("loinc", None),
        fact=table.fact(),
    )
    if scale.method == "level":
        if not scale.levels or scale.items or scale.of:
            table.note("levels", "a level scale is made of levels, and of nothing else")
    elif bool(scale.items) == bool(scale.of):
        table.note("items", "give either items or of (other scales), one of the two")
    elif scale.levels:
        table.note("levels", "belong to a level scale")
    if scale.method == "linear" and len(scale.of) != 1:
        table.note("of", "a linear scale is made of exactly one scale")
    if scale.method in ("mean", "count") and scale.of:
        table.note("method", "only sum and linear can be made of other scales")
    if (scale.method == "count") != (thresholds is not None):
        table.note("thresholds", "belong to a count scale, and a count scale needs them")
    if own and scale.of:
        table.note("missing", "a scale made of scales follows theirs")
    if scale.method != "linear" and (scale.multiply != 1 or scale.add != 0):
        table.note("multiply", "multiply and add belong to a linear scale")
    table.finish()
    return scale


def _level(table: Table) -> Level:
    level = Level(table.whole("value"), _conditions(table))
    table.finish()
    return level


def _conditions(table: Table) -> tuple[ItemCondition | ScaleCondition, ...]:
    conditions: list[ItemCondition | ScaleCondition] = []
    for row in table.tables("all_of"):
        if "scale" in row.names():
            conditions.append(ScaleCondition(str(row.text("scale")), row.choice("op", OPERATORS), row.number("value")))
            row.finish()
        elif condition := _item_condition(row):
            conditions.append(condition)
    if not conditions:
        table.note("all_of", "needs at least one condition")
    return tuple(conditions)


def _thresholds(table: Table | None, items: tuple[str, ...]) -> dict[str, int]:
    """`every = 2` speaks for all items, `phq9_9 = 1` for one."""
    if table is None:
        return {}
    every = table.whole("every", None)
    found = {item: table.whole(item, every) for item in items}
    for item, threshold in found.items():
        if threshold is None:
            table.note(item, "has no threshold, and there is no `every`")
    table.finish()
    return {item: threshold or 0 for item, threshold in found.items()}


def _form(name: str, table: Table) -> Form:
    if name not in FORM_NAMES:
        table.problems.append(Problem(table.place, f"a form is called one of {', '.join(FORM_NAMES)}"))
    form = Form(
        name,
        table.choice("informant", INFORMANTS),
        table.whole("min_age"),
        table.whole("max_age", None),
        table.fact(),
    )
    if form.max_age is not None and form.max_age < form.min_age:
        table.note("max_age", "is below min_age")
    table.finish()
    return form


def _layout(name: str, table: Table) -> Layout:
    layout = Layout(
        name,
        table.texts("items"),
        table.whole_map("codes"),
        table.texts("mirrored", []),
        table.yes("bands", True),
        table.fact(),
    )
    table.finish()
    return layout


def _titles(table: Table) -> dict[str, str]:
    return {language: str(table.text(language)) for language in table.names()}


def _scheme(table: Table) -> BandScheme:
    scheme = BandScheme(
        name=table.identifier("name"),
        is_primary=table.yes("primary", False),
        forms=table.texts("forms", [], FORM_NAMES),
        population=str(table.text("population")),
        min_age=table.whole("min_age", None),
        max_age=table.whole("max_age", None),
        sex=table.choice("sex", ("f", "m"), None),
        bands={name: _bands(bands) for name, bands in table.named("bands").items()},
        fact=table.fact(),
    )
    table.finish()
    return scheme


def _bands(table: Table) -> tuple[Band, ...]:
    found = []
    for name, ends in table.rest().items():
        is_pair = isinstance(ends, list) and len(ends) == 2 and all(type(end) in (int, float) for end in ends)
        if not is_pair:
            table.note(name, f"must be two numbers, low and high, not {ends!r}")
        elif ends[0] > ends[1]:
            table.note(name, "its low end is above its high end")
        else:
            found.append(Band(name, ends[0], ends[1]))
    return tuple(found)


def _cut_off(name: str, table: Table) -> CutOff:
    cut_off = CutOff(
        name,
        str(table.text("scale")),
        table.choice("op", OPERATORS),
        table.number("value"),
        table.choice("marks", ("screen", "impairment"), "screen"),
        table.texts("forms", [], FORM_NAMES),
        table.fact(),
    )
    table.finish()
    return cut_off


def _derived(name: str, table: Table) -> Derived:
    derived = Derived(name, _conditions(table), table.texts("forms", [], FORM_NAMES), table.fact())
    table.finish()
    return derived


def _critical(name: str, table: Table) -> CriticalItem:
    critical = CriticalItem(
        name,
        str(table.text("item")),
        table.choice("op", OPERATORS),
        table.whole("value"),
        table.identifier("kind"),
        table.texts("forms", [], FORM_NAMES),
        table.fact(),
    )
    table.finish()
    return critical


def _validity(name: str, table: Table) -> ValidityRule:
    rule = ValidityRule(
        name,
        str(table.text("scale")),
        table.choice("op", OPERATORS),
        table.number("value"),
        table.choice("verdict", ("invalid", "suspect")),
        table.fact(),
    )
    table.finish()
    return rule


def _licence(language: str, table: Table) -> Licence:
    licence = Licence(language, table.choice("verdict", VERDICTS), str(table.text("text")), table.fact())
    table.finish()
    return licence


def _pairs(quality: Table | None) -> tuple[tuple[str, str], ...]:
    if quality is None:
        return ()
    rows = quality.take("contradictory", list, "a list of pairs of item ids", [], [])
    good = []
    for index, row in enumerate(rows):
        if isinstance(row, list) and len(row) == 2:
            good.append((str(row[0]), str(row[1])))
        else:
            quality.note(f"contradictory[{index}]", "must be a pair of item ids")
    return tuple(good)


def _instructed(quality: Table | None) -> tuple[InstructedItem, ...]:
    if quality is None:
        return ()
    found = []
    for row in quality.tables("instructed"):
        found.append(InstructedItem(str(row.text("item")), row.whole("code")))
        row.finish()
    return tuple(found)
