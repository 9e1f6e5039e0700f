"""A definition checks itself: all problems at once, each with its place."""

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from instruments import catalogue, scoring
from instruments.definition import DefinitionError, Instrument, parse
from tests.instruments.made_up import (
    EVERYTHING,
    LYING,
    OURS,
    PRORATED,
    SEEN,
    TITLES,
    UNEVEN,
    bands,
    codes,
    definition,
    item_ids,
    made_of,
    scale,
)

SHIPPED = Path(__file__).parents[2] / "instruments" / "questionnaires"


def problems_of(text: str | bytes) -> dict[str, str]:
    with pytest.raises(DefinitionError) as caught:
        parse(text, "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    return {problem.place: problem.message for problem in caught.value.problems}


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def banded(table: str) -> str:
    body = scale("total", item_ids("b", 1, 2)) + TITLES + bands("one", table, is_primary=True)
    return definition("b", answers=codes(0, 1, 2), n_items=2, body=body)


def test_phq9_names_its_safety_path_and_its_loinc_codes() -> None:
    phq9 = catalogue.get("phq9")
    assert [(c.id, c.item, c.op, c.value, c.kind) for c in phq9.critical_items] == [
        ("self_harm", "phq9_9", ">=", 1, "self_harm"),
        ("self_harm_daily", "phq9_9", "==", 3, "self_harm"),
    ]
    assert (phq9.loinc, phq9.scale("total").loinc, phq9.item("phq9_9").loinc) == ("44249-1", "44261-6", "44260-8")
    assert (phq9.item("phq9_9").sensitivity, phq9.item("phq9_10").is_scored) == ("sensitive", False)
    assert phq9.score_range("total") == (0, 27)


def test_the_body_is_the_file_and_can_be_read_back() -> None:
    for instrument in catalogue.all():
        content = (SHIPPED / f"{instrument.code}.toml").read_bytes()
        assert instrument.body.encode() == content
        again = catalogue.parse_stored(instrument.body)
        assert again == instrument
        assert again.digest == instrument.digest
        assert catalogue.parse_stored(instrument.body) is again
        assert catalogue.load(SHIPPED / f"{instrument.code}.toml") == instrument


def test_an_instrument_is_frozen_hashable_and_travels_between_processes() -> None:
    phq9 = catalogue.get("phq9")
    with pytest.raises(FrozenInstanceError):
        phq9.version = "2"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(phq9)) == phq9  # noqa: S301
    assert len({phq9, catalogue.get("gad7"), parse(phq9.body, "again")}) == 2


def test_the_catalogue_knows_what_it_has() -> None:
    assert {"phq9", "gad7", "psc17"} <= {instrument.code for instrument in catalogue.all()}
    assert catalogue.get("phq9") is catalogue.get("phq9", "1")
    with pytest.raises(catalogue.UnknownInstrument, match=r"no instrument 'phq8'; known are .*phq9"):
        catalogue.get("phq8")
    with pytest.raises(catalogue.UnknownInstrument, match="phq9 is here in version 1, not '7'"):
        catalogue.get("phq9", "7")


def test_all_problems_are_named_at_once_each_with_its_place() -> None:
    text = changed(UNEVEN, 'title = { en = "Made up" }', "titel = 3")
    text = changed(text, "number = 2", 'number = "two"')
    text = changed(text, 'method = "sum"', 'method = "product"')
    text = changed(text, '"uneven_4"]', '"uneven_9"]')
    text = changed(text, "min_age = 6", "min_age = true")
    found = problems_of(text)
    assert found["title"] == "is missing"
    assert found["titel"] == "is not a word of this format"
    assert found["items[1].number"] == "must be a whole number, not 'two'"
    assert found["scales.total.method"] == "must be one of sum, mean, count, linear, level, not 'product'"
    assert found["forms.self.min_age"] == "must be a whole number, not True"


def test_names_that_point_nowhere_are_problems() -> None:
    text = changed(UNEVEN, '"uneven_3", "uneven_4"]', '"uneven_8", "uneven_9"]')
    text += f'[cut_offs.ge3]\nscale = "sum"\nop = ">="\nvalue = 3\nforms = ["teacher"]\n{SEEN}'
    text += f'[critical.one]\nitem = "uneven_7"\nop = ">="\nvalue = 1\nkind = "self_harm"\n{SEEN}'
    text += f'[validity.odd]\nscale = "lie"\nop = ">="\nvalue = 1\nverdict = "invalid"\n{SEEN}'
    text += f'[derived.both]\nall_of = [{{ scale = "x", op = ">", value = 1 }}, {{ any_of = ["y"] }}]\n{SEEN}'
    text += '[quality]\ncontradictory = [["uneven_1", "z"]]\n'
    found = problems_of(text)
    assert found["scales.total.items[2]"] == "there is no item uneven_8"
    assert found["scales.total.items[3]"] == "there is no item uneven_9"
    assert found["cut_offs.ge3.scale"] == "there is no scale sum"
    assert found["cut_offs.ge3.forms"] == "there is no forms.teacher"
    assert found["critical.one.item"] == "there is no item uneven_7"
    assert found["validity.odd.scale"] == "there is no scale lie"
    assert found["derived.both.all_of[0].scale"] == "there is no scale x"
    assert found["derived.both.all_of[1].any_of"] == "there is no item y"
    assert found["quality.contradictory[0]"] == "there is no item z"


@pytest.mark.parametrize(
    ("table", "place", "message"),
    [
        ("low = [0, 1]\nhigh = [3, 4]", ".high", "leaves a gap after low"),
        ("low = [0, 2]\nhigh = [2, 4]", ".high", "overlaps low"),
        ("low = [0, 1]\nhigh = [2, 3]", "", "must cover 0 to 4"),
        ("low = [1, 1]\nhigh = [2, 4]", "", "must cover 0 to 4"),
        ("low = [1, 0]\nhigh = [0, 4]", ".low", "its low end is above its high end"),
        ("low = 3\nhigh = [0, 4]", ".low", "must be two numbers, low and high, not 3"),
        ("", "", "has no band"),
    ],
)
def test_bands_leave_no_hole_and_no_overlap(table: str, place: str, message: str) -> None:
    found = problems_of(banded(f"[band_schemes.bands.total]\n{table}"))
    assert found[f"band_schemes[0].bands.total{place}"] == message


def test_one_scheme_is_primary_for_a_form() -> None:
    whole = "[band_schemes.bands.total]\nlow = [0, 4]"
    text = banded(whole) + bands("two", whole, is_primary=True) + bands("one", whole)
    found = problems_of(text)
    assert found["band_schemes[1].primary"] == "band_schemes[0] is already primary for the same form"
    assert found["band_schemes[2].name"] == "band_schemes[0] has the same name for the same form and scale"


def test_a_released_definition_has_no_open_fact() -> None:
    text = changed(LYING, 'verdict = "invalid"\nseen = "source"', 'verdict = "invalid"\nconfirm = true')
    assert problems_of(text) == {"validity.lie_high": "is still to be confirmed, so the definition cannot be released"}
    draft = parse(changed(text, "released = true", "released = false"), "draft")
    assert [place for place, fact in draft.facts() if fact.is_open] == ["validity.lie_high"]


def test_a_fact_says_where_it_was_seen_or_that_it_was_not() -> None:
    neither = changed(LYING, 'verdict = "invalid"\nseen = "source"\n', 'verdict = "invalid"\n')
    both = changed(LYING, 'verdict = "invalid"\n', 'verdict = "invalid"\nconfirm = true\n')
    for text in (neither, both):
        assert problems_of(text)["validity.lie_high.seen"].startswith('say seen = "source"')
    assert "scales.total.source" in problems_of(
        changed(LYING, SEEN + "\n[scales.lie]", '\nseen = "source"\n[scales.lie]')
    )


def test_wording_needs_a_licence_and_a_licence_its_wording() -> None:
    stolen = changed(UNEVEN, "number = 2\n", 'number = 2\ntext = { en = "Words", fr = "Mots" }\n')
    found = problems_of(stolen)
    assert found["items[1].text.en"] == "licence.en does not allow wording here"
    assert found["items[1].text.fr"] == "licence.fr does not allow wording here"
    wordless = problems_of(changed(UNEVEN, 'verdict = "STRUCTURE"', 'verdict = "TEXT"'))
    assert wordless["items[0].text.en"] == "is missing, though licence.en is TEXT"
    assert wordless["items[0].options"] == "code 5 has no en text, licence says TEXT"


def test_columns_keep_one_meaning() -> None:
    cut = '[cut_offs.{}]\nscale = "total"\nop = ">="\nvalue = 1\n' + SEEN
    text = UNEVEN + "".join(cut.format(name) for name in ("status", "total", "uneven_1", "total_band", "Big"))
    found = problems_of(text)
    assert found["cut_offs.status"] == "status is already a column that every instrument has"
    assert found["cut_offs.total"] == "total is already scales.total"
    assert found["cut_offs.uneven_1"] == "uneven_1 is already an item"
    assert found["cut_offs.total_band"] == "names like ..._band and critical_... belong to other columns"
    assert found["cut_offs.Big"] == "a name is small letters, digits and single underscores"


def test_critical_items_can_be_reached() -> None:
    text = changed(LYING, 'item = "lying_5"\nop = ">="\nvalue = 1', 'item = "lying_5"\nop = ">="\nvalue = 2')
    assert problems_of(text) == {"critical.despair.value": "no answer of that item can ever reach it"}


def test_branching_looks_back_only() -> None:
    text = definition(
        "later",
        answers=codes(0, 1),
        n_items=2,
        extra={1: 'asked_if = { any_of = ["later_2"], at_least = 2 }\n'},
        body=scale("total", item_ids("later", 1, 2)),
    )
    assert problems_of(text)["items[0].asked_if.at_least"] == "must lie between 1 and 1"
    found = problems_of(changed(text, ", at_least = 2", ""))
    assert found == {"items[0].asked_if.any_of": "later_2 is no earlier item"}


def test_scales_are_made_one_way() -> None:
    body = (
        scale("total", item_ids("s", 1, 2), rest='of = ["total"]')
        + made_of("line", '["total", "total"]', "linear")
        + made_of("average", '["total"]', "mean")
        + scale("n_high", item_ids("s", 1, 2), "count")
        + scale("n_some", item_ids("s", 1, 2), "count", "thresholds = { s_1 = 1 }")
        + scale("twice", item_ids("s", 1), rest="multiply = 2")
        + made_of("early", '["late"]')
        + made_of("late", '["total"]', rest=f"missing = {OURS}")
    )
    found = problems_of(definition("s", answers=codes(0, 1), n_items=2, body=body))
    assert found["scales.total.items"] == "give either items or of (other scales), one of the two"
    assert found["scales.line.of"] in ("names something twice", "a linear scale is made of exactly one scale")
    assert found["scales.average.method"] == "only sum and linear can be made of other scales"
    assert found["scales.n_high.thresholds"] == "belong to a count scale, and a count scale needs them"
    assert found["scales.n_some.thresholds.s_2"] == "has no threshold, and there is no `every`"
    assert found["scales.twice.multiply"] == "multiply and add belong to a linear scale"
    assert found["scales.late.missing"] == "a scale made of scales follows theirs"
    early = definition(
        "s", answers=codes(0, 1), n_items=2, body=scale("total", item_ids("s", 1)) + made_of("e", '["l"]')
    )
    assert problems_of(early) == {"scales.e.of[0]": "there is no scale l above this one"}


def test_missing_rules_fit_their_scale() -> None:
    too_many = changed(PRORATED, "max_blank = 2", "max_blank = 9")
    assert problems_of(too_many)["scales.total.missing"] == "cannot prorate 9 blanks of 9 items"
    unrounded = changed(PRORATED, 'rounding = "half_up"', 'rounding = "half_even"')
    assert problems_of(unrounded)["missing.rounding"] == "must be one of half_up, not 'half_even'"


def test_answers_are_codes_of_their_own() -> None:
    twice = problems_of(changed(UNEVEN, "{ code = 1 }", "{ code = 0 }"))
    assert twice["options.answers.answers"] == "gives one code twice"
    far = problems_of(changed(UNEVEN, "{ code = 5 }", "{ code = 50000 }"))
    assert far["options.answers.answers"] == "codes and scores lie between -999 and 999"


@pytest.mark.parametrize("text", ["code = ", "= 3", b"\xff\xfe", "[a]\n[a]"])
def test_what_is_no_toml_is_one_problem(text: str | bytes) -> None:
    assert list(problems_of(text)) == ["file"]


@pytest.mark.parametrize("text", ["", 'code = "x"', "items = 3\nscales = []\nforms = [1]\nlicence = 2\noptions = true"])
def test_hardly_anything_is_still_answered_with_problems(text: str) -> None:
    assert "edition" in problems_of(text)


def test_an_error_travels_between_processes() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse("", "empty.toml")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (again.origin, again.problems) == ("empty.toml", caught.value.problems)


@pytest.mark.parametrize("instrument", [*catalogue.all(), *EVERYTHING.values()], ids=lambda i: str(i.edition))
def test_every_name_is_a_column_once(instrument: Instrument) -> None:
    for form in instrument.forms:
        columns = scoring.score_columns(instrument, form)
        assert len(columns) == len(set(columns))
