"""Why a model raised a result, in plain words: for whoever looks at it, and for the student who asks.

Nothing is asked of the model here: what weighed most was kept when it spoke.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from instruments.definition import Instrument
from screening import access, rounds

ABOUT = {
    "en": "A model asked for this student to be looked at. It decides nothing: a person does, and the student may have"
    " these reasons and ask for a person's decision.",
    "zh_CN": "由模型提示，请人查看。模型不作任何决定，一切由人判断；学生可以知道这些理由，并要求由人作出决定。",
}
SILENT = {
    "en": "The model {name} could not be asked ({problem}). Every tier stands as the rules gave it.",
    "zh_CN": "模型{name}未能运行（{problem}）。所有等级均按规则判定。",
}
_CHANGE = {"en": "{what}: its change since the last round", "zh_CN": "{what}：与上一轮相比的变化"}
_BLANK = {"en": "{what}: questions left blank", "zh_CN": "{what}：未作答的题数"}
_QUESTION = {"en": "{what}, question {number}", "zh_CN": "{what}第{number}题"}
_SCALE = {"en": "{what}: {scale}", "zh_CN": "{what}：{scale}"}
_CONTEXT = {"grade": {"en": "grade", "zh_CN": "年级"}, "sex": {"en": "sex", "zh_CN": "性别"}}


@dataclass(frozen=True)
class Pointed:
    """The model that raised a result, and (feature, words) of what weighed most, the heaviest first."""

    model: str
    leading: tuple[tuple[str, str], ...]


_SAID = text(
    "select m.name, s.reasons from results r"
    " join risk_models m on m.district_id = r.district_id and m.id = r.model_id"
    " join risk_scores s on s.district_id = r.district_id and s.model_id = r.model_id and s.round_id = r.round_id"
    "  and s.student_id = r.student_id and s.revision = r.revision - 1"
    " where r.district_id = :district and r.round_id = :round and r.student_id = :student and r.revision = :revision"
)


def of_result(
    session: Session,
    student_id: uuid.UUID,
    round_id: uuid.UUID,
    revision: int,
    *,
    locale: str,
    with_questions: bool = True,
) -> Pointed | None:
    """What a model said of the result revision that it raised; None where the rules alone decided.

    Without `with_questions` an answer is named by its instrument alone, for those who may not see answers. English
    where the locale is unknown.
    """
    said = session.execute(
        _SAID,
        {
            "district": access.scope_of(session).district_id,
            "round": round_id,
            "student": student_id,
            "revision": revision,
        },
    ).one_or_none()
    if said is None:
        return None
    instruments = rounds.rules_of(session, round_id).instruments
    features = [name if with_questions else without_question(name, instruments) for name in said.reasons]
    return Pointed(said.name, tuple((name, words(name, instruments, locale)) for name in dict.fromkeys(features)))


def words(feature: str, instruments: Mapping[str, Instrument], locale: str) -> str:
    """A column of the table of features as a person would name it; the column's own name where there is no better."""
    if feature in _CONTEXT:
        return _in(_CONTEXT[feature], locale)
    code, _, rest = feature.partition(".")
    instrument = instruments.get(code)
    if instrument is None:
        return feature
    of, _, change = rest.partition(".")[2].partition(".")
    what = _in(instrument.title, locale)
    if of == "blank":
        return _in(_BLANK, locale).format(what=what)
    item = next((item for item in instrument.items if item.id == of), None)
    scale = next((scale for scale in instrument.scales if scale.id == of), None)
    if item is not None:
        what = _in(_QUESTION, locale).format(what=what, number=item.number)
        return _in(_SCALE, locale).format(what=what, scale=item.text[locale]) if locale in item.text else what
    if scale is not None:
        what = _in(_SCALE, locale).format(what=what, scale=_in(scale.title, locale))
    return _in(_CHANGE, locale).format(what=what) if change else what


def without_question(feature: str, instruments: Mapping[str, Instrument]) -> str:
    """The questionnaire that an answer was given in, in the place of the answer; anything else as it is."""
    code, _, rest = feature.partition(".")
    form, _, of = rest.partition(".")
    is_item = code in instruments and any(item.id == of for item in instruments[code].items)
    return f"{code}.{form}" if is_item else feature


def _in(spoken: Mapping[str, str], locale: str) -> str:
    return spoken.get(locale, spoken["en"])
