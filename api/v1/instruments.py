"""The library of instruments: what is asked, in which forms, and by which rules it is scored."""

from typing import Any

from api.deps import STAFF, Door, View
from instruments import catalogue
from instruments.definition import Instrument
from screening.errors import NotFound

door = Door(prefix="/v1/instruments", tag="instruments")


class FormView(View):
    name: str
    informant: str
    min_age: int
    max_age: int | None


class ItemView(View):
    """`codes`: what may be written down for an answer -> what it scores."""

    id: str
    number: str
    is_scored: bool
    codes: dict[str, int]
    text: dict[str, str]


class CutOffView(View):
    name: str
    scale: str
    op: str
    value: float


class CriticalView(View):
    id: str
    item: str
    kind: str


class InstrumentView(View):
    code: str
    edition: str
    version: str
    digest: str
    title: dict[str, str]
    measures: str
    is_released: bool
    forms: list[FormView]
    scales: list[str]


class DefinitionView(InstrumentView):
    items: list[ItemView]
    cut_offs: list[CutOffView]
    critical_items: list[CriticalView]
    sources: list[str]
    licences: dict[str, str]


class InstrumentsView(View):
    instruments: list[InstrumentView]


@door.get("", roles=STAFF)
def listed() -> InstrumentsView:
    """Every instrument that ships."""
    return InstrumentsView(instruments=[InstrumentView(**_head(each)) for each in catalogue.all()])


@door.get("/{code}", roles=STAFF)
def show(code: str) -> DefinitionView:
    """One instrument's definition."""
    try:
        found = catalogue.get(code)
    except catalogue.UnknownInstrument:
        raise NotFound("There is no such instrument.") from None
    return DefinitionView(
        **_head(found),
        items=[
            ItemView(
                id=item.id,
                number=str(item.number),
                is_scored=item.is_scored,
                codes={str(code): int(score) for code, score in item.codes.items()},
                text=dict(item.text),
            )
            for item in found.items
        ],
        cut_offs=[
            CutOffView(name=each.name, scale=each.scale, op=each.op, value=each.value) for each in found.cut_offs
        ],
        critical_items=[CriticalView(id=each.id, item=each.item, kind=each.kind) for each in found.critical_items],
        sources=list(found.sources),
        licences={language: licence.verdict for language, licence in found.licences.items()},
    )


def _head(found: Instrument) -> dict[str, Any]:
    return {
        "code": found.code,
        "edition": found.edition,
        "version": found.version,
        "digest": found.digest,
        "title": dict(found.title),
        "measures": found.construct,
        "is_released": found.is_released,
        "forms": [
            FormView(name=form.name, informant=form.informant, min_age=form.min_age, max_age=form.max_age)
            for form in found.forms.values()
        ],
        "scales": [scale.id for scale in found.scales],
    }
