"""What weighed most with a model, as a person would name it."""

import pytest

from instruments import catalogue
from screening.risk_model import reasons

INSTRUMENTS = {code: catalogue.get(code) for code in ("phq9", "gad7")}


@pytest.mark.parametrize(
    ("feature", "english", "chinese"),
    [
        (
            "phq9.self.phq9_1",
            "Patient Health Questionnaire (PHQ-9), question 1: Little interest or pleasure in doing things",
            "患者健康问卷抑郁量表（PHQ-9）第1题",
        ),
        (
            "phq9.self.total",
            "Patient Health Questionnaire (PHQ-9): Depression severity",
            "患者健康问卷抑郁量表（PHQ-9）：抑郁程度",
        ),
        (
            "phq9.self.total.change",
            "Patient Health Questionnaire (PHQ-9): Depression severity: its change since the last round",
            "患者健康问卷抑郁量表（PHQ-9）：抑郁程度：与上一轮相比的变化",
        ),
        (
            "gad7.self.blank",
            "Generalized Anxiety Disorder scale (GAD-7): questions left blank",
            "广泛性焦虑量表（GAD-7）：未作答的题数",
        ),
        ("gad7.self", "Generalized Anxiety Disorder scale (GAD-7)", "广泛性焦虑量表（GAD-7）"),
        ("grade", "grade", "年级"),
        ("gone.self.total", "gone.self.total", "gone.self.total"),
    ],
)
def test_a_feature_in_words(feature: str, english: str, chinese: str) -> None:
    assert reasons.words(feature, INSTRUMENTS, "en") == english
    assert reasons.words(feature, INSTRUMENTS, "zh_CN") == chinese


def test_who_may_not_see_answers_is_told_the_questionnaire_alone() -> None:
    assert reasons.without_question("phq9.self.phq9_1", INSTRUMENTS) == "phq9.self"
    assert reasons.without_question("phq9.self.total", INSTRUMENTS) == "phq9.self.total"
    assert reasons.without_question("grade", INSTRUMENTS) == "grade"
