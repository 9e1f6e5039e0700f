"""To which instrument and form a response belongs: by its Questionnaire, else by the questions it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from instruments.definition import Instrument
from instruments.fhir.linking import Fault, Link, link
from instruments.fhir.naming import LOINC, slug
from instruments.fhir.sources import Resource


@dataclass(frozen=True, eq=False)
class Way:
    """Where a response goes, and how its linkIds are read there."""

    link: Link
    form: str


@dataclass(frozen=True)
class _Foreign:
    """A Questionnaire made elsewhere, as each instrument sees it."""

    panels: frozenset[str]
    links: Mapping[str, Link] = field(default_factory=dict)


class Addresses:
    """The forms that may be answered, and the Questionnaires known so far."""

    def __init__(self, forms: Sequence[tuple[Instrument, str]], link_ids: Mapping[str, str]) -> None:
        self._instruments = {instrument.code: instrument for instrument, _ in forms}
        self._forms = {code: [name for i, name in forms if i.code == code] for code in self._instruments}
        self._slugs = {slug(i, name): (i.code, name) for i in self._instruments.values() for name in i.forms}
        items = {item.id: item for instrument in self._instruments.values() for item in instrument.items}
        unknown = set(link_ids.values()) - items.keys()
        if unknown:
            raise ValueError(f"no item is called {', '.join(sorted(unknown))}")
        self._named = {
            code: {link_id: items[name] for link_id, name in link_ids.items() if items[name] in instrument.items}
            for code, instrument in self._instruments.items()
        }
        self._own = {code: Link(i, self._named[code]) for code, i in self._instruments.items()}
        self._foreign: dict[str, _Foreign] = {}
        self._ways: dict[tuple[str, tuple[str, ...], str], Way | Fault] = {}

    def instrument(self, code: str) -> Instrument:
        return self._instruments[code]

    def learn(self, questionnaire: Mapping[str, Any]) -> Fault | None:
        """Remembers a Questionnaire under its address and its id."""
        found = self._read(questionnaire)
        if isinstance(found, Fault):
            return found
        name = questionnaire.get("id")
        for key in (questionnaire.get("url"), f"Questionnaire/{name}" if name else None):
            if isinstance(key, str):
                self._foreign[key] = found
        return None

    def way(self, response: Resource, link_ids: tuple[str, ...]) -> Way | Fault:
        """Where a response goes that answers these linkIds."""
        stated = response.get("questionnaire") or ""
        address = str(stated.get("reference") or "") if isinstance(stated, dict) else str(stated)
        source = str((response.get("source") or {}).get("reference") or "")
        who = "RelatedPerson" if "RelatedPerson/" in source else "Patient" if "Patient/" in source else ""
        if address.startswith("#"):
            return self._find(self._contained(response, address), address, link_ids, who)
        key = (address, link_ids, who)
        if key not in self._ways:
            self._ways[key] = self._find(self._foreign_of(address), address, link_ids, who)
        return self._ways[key]

    def _find(self, foreign: _Foreign | Fault | None, address: str, link_ids: tuple[str, ...], who: str) -> Way | Fault:
        if isinstance(foreign, Fault):
            return foreign
        links = foreign.links if foreign else self._own
        hint = self._slugs.get(address.partition("|")[0].rpartition("/")[2])
        code = hint[0] if hint else self._best(links, link_ids, foreign.panels if foreign else frozenset())
        if isinstance(code, Fault):
            return code
        form = self._form(code, hint[1] if hint else None, who)
        return form if isinstance(form, Fault) else Way(links[code], form)

    def _best(self, links: Mapping[str, Link], link_ids: tuple[str, ...], panels: frozenset[str]) -> str | Fault:
        """The instrument that knows most of the questions; where two know as many, the one whose panel it is."""
        known = {code: sum(each.item(link_id) is not None for link_id in link_ids) for code, each in links.items()}
        most = max(known.values(), default=0)
        best = [code for code, count in known.items() if count == most]
        named = [code for code in best if self._instruments[code].loinc in panels]
        if most and len(best) > 1 and len(named) == 1:
            return named[0]
        listed = ", ".join(self._instruments)
        if not most:
            words = f"Neither its Questionnaire nor its linkIds say that this is one of: {listed}."
            return Fault("unknown_questionnaire", words)
        if len(best) > 1:
            return Fault("ambiguous_questionnaire", f"It could be any of {', '.join(best)}: name its Questionnaire.")
        return best[0]

    def _form(self, code: str, stated: str | None, who: str) -> str | Fault:
        instrument, offered = self._instruments[code], self._forms[code]
        default = instrument.default_form
        if stated is not None and (stated in offered or stated != default):
            words = f"The {stated} form of {code} is not asked here."
            return stated if stated in offered else Fault("other_form", words)
        informant = {"RelatedPerson": "parent", "Patient": "student"}.get(who)
        fitting = [name for name in offered if instrument.forms[name].informant == informant]
        if who == "RelatedPerson" and not fitting:
            return Fault(
                "other_form", f"A related person has filled this in, and no parent form of {code} is asked here."
            )
        among = fitting or offered
        return default if default in among else among[0]

    def _foreign_of(self, address: str) -> _Foreign | None:
        plain = address.partition("|")[0]
        short = "/".join(plain.split("/")[-2:])
        return self._foreign.get(plain) or self._foreign.get(short)

    def _contained(self, response: Resource, address: str) -> _Foreign | Fault | None:
        wanted = [each for each in response.get("contained", []) if each.get("id") == address[1:]]
        if not wanted:
            return Fault("unknown_questionnaire", "It names a contained Questionnaire that it does not contain.")
        text = json.dumps(wanted[0], sort_keys=True)
        if text not in self._foreign:
            found = self._read(wanted[0])
            if isinstance(found, Fault):
                return found
            self._foreign[text] = found
        return self._foreign[text]

    def _read(self, questionnaire: Mapping[str, Any]) -> _Foreign | Fault:
        try:
            codes = [
                *questionnaire.get("code", []),
                *(c for i in questionnaire.get("item", []) for c in i.get("code", [])),
            ]
            panels = frozenset(str(code["code"]) for code in codes if code.get("system") == LOINC)
            links = {code: self._with_named(link(questionnaire, i)) for code, i in self._instruments.items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            return Fault("misshapen", "This Questionnaire is not built as FHIR says.")
        return _Foreign(panels, links)

    def _with_named(self, found: Link) -> Link:
        named = self._named[found.instrument.code]
        return replace(found, items={**found.items, **named}, others=found.others - named.keys()) if named else found
