"""The engine and the definitions against the published facts: every instrument, every form, at every edge."""

import pytest

from instruments import catalogue
from tests.instruments.facts import FACTS
from tests.instruments.noticing import Noticing

CODES = catalogue.codes()


def test_every_instrument_that_ships_has_its_facts() -> None:
    assert set(CODES) == set(FACTS)


@pytest.mark.parametrize("code", CODES)
def test_scores_are_those_of_the_published_rules(code: str) -> None:
    assert Noticing(code).differences(catalogue.get(code)) == []


@pytest.mark.parametrize("code", CODES)
def test_forms_and_printed_numbers_are_the_published_ones(code: str) -> None:
    instrument, facts = catalogue.get(code), FACTS[code]
    assert tuple(instrument.forms) == facts.forms
    assert set(instrument.layouts) == set(facts.layouts)
    assert len(instrument.items) == facts.n_items + len(facts.optional)
