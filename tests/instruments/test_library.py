"""The library as it ships: who may use what, what is still open, and that the README says the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from instruments import catalogue
from instruments.definition import Instrument

ROOT = Path(__file__).parents[2]
OPEN = {
    "phqa": ["licence.en"],
    "asq": ["scales.result", "derived.positive"],
    "mht": ["scales.total", "cut_offs.total_ge56", "cut_offs.total_ge65"],
    "sdq": ["band_schemes.uk3", "band_schemes.uk4", "band_schemes.uk4"],
}
WITH_ENGLISH = {"phq9", "phq4", "gad7", "k6", "psc17", "rses", "cesd", "asq"}
LIBRARY = catalogue.all()


@pytest.mark.parametrize("instrument", LIBRARY, ids=lambda i: i.code)
def test_a_definition_is_whole_named_in_two_languages_and_sourced(instrument: Instrument) -> None:
    code = instrument.code
    assert instrument.edition.startswith(f"{code}_")
    assert set(instrument.title) == {"en", "zh_CN"}
    assert [item.id for item in instrument.items] == [f"{code}_{n}" for n in range(1, len(instrument.items) + 1)]
    assert all(len(fact.source) > 5 for _, fact in instrument.facts())
    assert set(instrument.licences) == {"en", "zh_CN"}
    assert instrument.sources
    for scale in instrument.scales:
        assert set(scale.title) == {"en", "zh_CN"}


def test_what_is_open_is_not_released_and_the_rest_is() -> None:
    assert {i.code: [place for place, _ in i.open_facts] for i in LIBRARY if not i.is_released} == OPEN
    assert [i.code for i in LIBRARY if i.needs_licence] == ["sdq"]


def test_wording_ships_only_in_english_and_only_where_it_is_free() -> None:
    assert {i.code for i in LIBRARY if i.languages} == WITH_ENGLISH
    assert all(i.languages in ((), ("en",)) for i in LIBRARY)
    assert all(not item.text for i in LIBRARY if not i.languages for item in i.items)


def test_items_about_suicide_and_harm_are_critical_sensitive_and_kept_from_young_grades() -> None:
    told = {(c.item, c.kind) for i in LIBRARY for c in i.critical_items}
    assert told == {
        ("phq9_9", "self_harm"),
        *((f"phqa_{n}", "self_harm") for n in (9, 12, 13)),
        *((f"asq_{n}", "self_harm") for n in range(1, 6)),
        *((f"mht_{n}", "self_harm") for n in (85, 97)),
        ("mssmhs_57", "self_harm"),
        ("mssmhs_52", "harm_to_others"),
    }
    for instrument in LIBRARY:
        for critical in instrument.critical_items:
            item = instrument.item(critical.item)
            assert (item.sensitivity, (item.minimum_grade or 0) >= 4) == ("sensitive", True), item.id


def test_the_readme_tells_the_same_of_every_instrument() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {m[1]: m[0] for m in re.finditer(r"^\|[^|]*\| `(\w+)` \|.*\| ([^|]*) \|$", readme, re.MULTILINE)}
    for instrument in LIBRARY:
        assert (told[instrument.code].rstrip(" |").endswith("released")) is instrument.is_released, instrument.code
        assert ("| English |" in told[instrument.code]) is ("en" in instrument.languages), instrument.code


def test_looking_one_up_does_not_read_the_others() -> None:
    code = "from instruments import catalogue; catalogue.get('phq9'); print(catalogue._shipped.cache_info().currsize)"
    came = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert came.stdout.strip() == "1"
