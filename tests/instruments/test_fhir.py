"""FHIR both ways: what we write is valid and comes back unchanged, what others write is understood or named."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.questionnaire import Questionnaire
from fhir.resources.R4B.questionnaireresponse import QuestionnaireResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import catalogue, fhir, scoring
from instruments.definition import Instrument, parse
from instruments.fhir import walking

ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"
ARGONAUT = Path(__file__).resolve().parents[3] / "shared" / "data" / "fhir_phq9"
needs_argonaut = pytest.mark.skipif(not ARGONAUT.exists(), reason="the Argonaut examples are not on this machine")
PHQ9, GAD7, PSC17 = (catalogue.get(code) for code in ("phq9", "gad7", "psc17"))
FORMS = [(instrument, form) for instrument in catalogue.all() for form in instrument.forms]
BOTH = [(PHQ9, "self"), (GAD7, "self")]
LOINC = "http://loinc.org"


def argonaut(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ARGONAUT / f"argonaut_{name}-example-phq9.json").read_bytes())
    return found


def told(found: fhir.Responses) -> list[tuple[int, str | None, str]]:
    return found.problems.select("line", "link_id", "code").rows()


def only(found: fhir.Responses) -> dict[str, Any]:
    """The one response that was read."""
    ((_, frame),) = found.answers.items()
    return frame.row(0, named=True)


def answering(*answers: dict[str, Any], link_ids: list[str] | None = None, **more: Any) -> bytes:
    """A PHQ-9 response: these answers first, then "not at all"."""
    names = link_ids or [item.id for item in PHQ9.scored_items]
    values = [*answers, *[{"valueInteger": 0}] * (len(names) - len(answers))]
    items = [{"linkId": name, "answer": [value]} for name, value in zip(names, values, strict=True)]
    head = {"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "x/Questionnaire/phq9"}
    return json.dumps({**head, "subject": {"reference": "Patient/7"}, "item": items, **more}).encode()


def coded(code: Any, system: str | None = None, **more: Any) -> dict[str, Any]:
    return {"valueCoding": {**({"system": system} if system else {}), "code": code, **more}}


def some_answers(instrument: Instrument, chance: random.Random) -> dict[str, int | None]:
    return {item.id: chance.choice([*item.codes, None]) for item in instrument.items}


# -- out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("instrument", "form"), FORMS, ids=lambda part: getattr(part, "code", part))
@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_every_questionnaire_is_valid_r4_and_survives_a_round_trip(
    instrument: Instrument, form: str, language: str
) -> None:
    ours = fhir.questionnaire(instrument, form, language=language)
    theirs = Questionnaire.model_validate_json(json.dumps(ours))
    assert json.loads(theirs.model_dump_json()) == json.loads(json.dumps(ours))
    assert [item["linkId"] for item in ours["item"] if item["type"] == "choice"] == [i.id for i in instrument.items]
    assert ours["status"] == ("active" if instrument.is_released else "draft")
    assert len(ours["id"]) <= 64 and ours["id"].replace("-", "").isalnum()
    assert all(licence.text in ours["copyright"] for licence in instrument.licences.values())


@pytest.mark.parametrize(("instrument", "form"), FORMS, ids=lambda part: getattr(part, "code", part))
def test_every_questionnaire_maps_back_to_its_instrument(instrument: Instrument, form: str) -> None:
    link = fhir.link(fhir.questionnaire(instrument, form), instrument)
    assert link.missing == ()
    assert link.others == frozenset()
    assert {name: item.id for name, item in link.items.items()} == {item.id: item.id for item in instrument.items}


def test_a_questionnaire_shows_loinc_codes_ordinals_and_wording() -> None:
    ours = fhir.questionnaire(PHQ9, base="https://here/fhir")
    assert (ours["url"], ours["version"]) == ("https://here/fhir/Questionnaire/phq9", PHQ9.version)
    assert ours["code"] == [{"system": LOINC, "code": "44249-1"}]
    first = ours["item"][1]
    assert first["code"] == [{"system": LOINC, "code": "44250-9"}]
    assert first["text"] == PHQ9.items[0].text["en"]
    assert [option["valueCoding"]["code"] for option in first["answerOption"]] == [
        "LA6568-5",
        "LA6569-3",
        "LA6570-1",
        "LA6571-9",
    ]
    assert [option["extension"][0]["valueDecimal"] for option in first["answerOption"]] == [0, 1, 2, 3]
    assert "required" not in first  # a blank is the student's right


def test_where_no_wording_ships_there_is_the_number_and_our_own_code() -> None:
    body = PSC17.body.replace('verdict = "TEXT"', 'verdict = "STRUCTURE"')
    lines = [line for line in body.splitlines() if not line.startswith("text = { en")]
    bare = parse(
        "\n".join(lines)
        .replace(', text = { en = "Never" }', "")
        .replace(', text = { en = "Sometimes" }', "")
        .replace(', text = { en = "Often" }', ""),
        "bare.toml",
    )
    ours = fhir.questionnaire(bare, "teacher")
    Questionnaire.model_validate(ours)
    item = ours["item"][1]
    assert (ours["id"], item["text"]) == ("psc17-teacher", "Item 1")
    assert item["answerOption"][1]["valueCoding"] == {"system": f"{fhir.BASE}/CodeSystem/psc17", "code": "1"}
    assert fhir.questionnaire(bare, language="zh_CN")["item"][1]["text"] == "第1题"


BRANCHING = """
[[items]]
number = 20
options = "frequency"
scored = false
text = {{ en = "More about it" }}
asked_if = {{ any_of = ["gad7_1", "gad7_2"], op = ">=", value = 2, {more} }}
"""


def branching(more: str) -> dict[str, Any]:
    body = GAD7.body.replace("[layouts.official]", BRANCHING.format(more=more) + "\n[layouts.official]", 1)
    found = fhir.questionnaire(parse(body, "branching.toml"))
    Questionnaire.model_validate(found)
    return next(dict(item) for item in found["item"] if item["linkId"] == "gad7_20")


def test_branching_becomes_enable_when() -> None:
    anyone = branching("at_least = 1")
    assert anyone["enableBehavior"] == "any"
    assert [(test["question"], test["answerCoding"]["code"]) for test in anyone["enableWhen"]] == [
        ("gad7_1", "LA6570-1"),
        ("gad7_1", "LA6571-9"),
        ("gad7_2", "LA6570-1"),
        ("gad7_2", "LA6571-9"),
    ]
    blanks = branching("at_least = 1, blank_counts = true")["enableWhen"]
    assert {"question": "gad7_1", "operator": "exists", "answerBoolean": False} in blanks
    everyone = branching("at_least = 2")
    assert everyone["enableBehavior"] == "all"
    assert {test["operator"] for test in everyone["enableWhen"]} == {"exists", "!="}
    assert "enableWhen" not in branching("at_least = 2, blank_counts = true")  # offered always, never too rarely


def test_an_answer_that_does_not_exist_is_never_written_down() -> None:
    with pytest.raises(ValueError, match="phq9_1 has no answer 4"):
        fhir.response(PHQ9, {"phq9_1": 4})
    with pytest.raises(ValueError, match="no item phq9_77"):
        fhir.response(PHQ9, {"phq9_77": 1})


# -- out and in again ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("instrument", "form"), FORMS, ids=lambda part: getattr(part, "code", part))
def test_answers_survive_the_way_out_and_in_again(instrument: Instrument, form: str) -> None:
    chance = random.Random(f"{instrument.code} {form}")  # noqa: S311 - answers, not secrets
    given_ = [some_answers(instrument, chance) for _ in range(8)]
    ours = [
        fhir.response(
            instrument, each, form=form, response_id=f"r{n}", subject=f"{n:04}", authored="2026-09-01T08:00:00+08:00"
        )
        for n, each in enumerate(given_)
    ]
    for each in ours:
        theirs = QuestionnaireResponse.model_validate_json(json.dumps(each))
        assert json.loads(theirs.model_dump_json()) == each
    Bundle.model_validate(fhir.bundle(ours))
    names = [item.id for item in instrument.items]
    for data in (json.dumps(fhir.bundle(ours), indent=1).encode(), b"".join(fhir.ndjson(ours))):
        found = fhir.read(data, [(instrument, name) for name in instrument.forms])
        assert told(found) == []
        frame = found.answers[instrument.code, form]
        assert frame.select(names).to_dicts() == given_
        assert frame["subject"].to_list() == [f"{n:04}" for n in range(8)]
        assert frame["line"].to_list() == list(range(1, 9))
        assert frame["is_taken"].all()


def test_a_single_response_reads_like_a_bundle_of_one() -> None:
    one = fhir.response(PHQ9, {"phq9_9": 3}, subject="7")
    single, bundle, lines = (
        fhir.read(data, BOTH)
        for data in (
            json.dumps(one, indent=2).encode(),
            json.dumps(fhir.bundle([one])).encode(),
            b"\xef\xbb\xbf" + b"\n\r\n".join([json.dumps(one).encode()]) + b"\n\n",
        )
    )
    assert (single.kind, bundle.kind, lines.kind) == ("single", "bundle", "single")
    assert only(single) == only(bundle) == only(lines)
    assert fhir.read(json.dumps(fhir.bundle([])).encode(), BOTH).answers == {}


# -- what others write --------------------------------------------------------------------------------


@needs_argonaut
def test_the_questionnaire_of_the_argonaut_guide_maps_to_ours_by_loinc() -> None:
    link = fhir.link(argonaut("questionnaire"), PHQ9)
    assert {name: item.id for name, item in link.items.items()} == {
        **{f"g1.q{n}": f"phq9_{n}" for n in range(1, 10)},
        "g2.q1": "phq9_10",
    }
    assert link.missing == ()


@needs_argonaut
def test_the_response_of_the_argonaut_guide_loads_and_scores() -> None:
    theirs = argonaut("questionnaireresponse")
    found = fhir.read(json.dumps(theirs).encode(), BOTH, questionnaires=[argonaut("questionnaire")])
    assert told(found) == []
    assert (only(found)["subject"], only(found)["is_taken"]) == ("subject1", True)
    scores = scoring.score(found.answers["phq9", "self"], PHQ9).row(0, named=True)
    assert (scores["status"], scores["total"], scores["critical_self_harm"]) == ("scored", 0, False)
    theirs["item"][0]["item"][9]["answer"] = [coded("LA6571-9", LOINC)]  # after the heading: the ninth question
    together = fhir.bundle([theirs, argonaut("questionnaire")])
    scores = scoring.score(fhir.read(json.dumps(together).encode(), BOTH).answers["phq9", "self"], PHQ9).row(
        0, named=True
    )
    assert (scores["total"], scores["critical_self_harm"], scores["critical_self_harm_daily"]) == (3, True, True)


@needs_argonaut
def test_an_adaptive_response_brings_its_questionnaire_and_its_blanks_stay_blank() -> None:
    found = fhir.read(json.dumps(argonaut("adaptive-questionnaireresponse")).encode(), BOTH)
    assert told(found) == []
    given_ = {name: only(found)[name] for name in (item.id for item in PHQ9.scored_items)}
    assert {name for name, code in given_.items() if code == 0} == {"phq9_1", "phq9_4", "phq9_8"}
    assert sum(code is None for code in given_.values()) == 6
    assert scoring.score(found.answers["phq9", "self"], PHQ9)["status"].to_list() == ["not_scorable"]


@needs_argonaut
def test_without_its_questionnaire_the_argonaut_response_belongs_to_nothing() -> None:
    found = fhir.read(json.dumps(argonaut("questionnaireresponse")).encode(), BOTH)
    assert found.answers == {}
    assert told(found) == [(1, None, "unknown_questionnaire")]


@pytest.mark.parametrize(
    "answer",
    [
        coded("LA6570-1", LOINC),
        coded("LA6570-1", LOINC, display="More than half the days"),
        coded("2", f"{fhir.BASE}/CodeSystem/phq9-1"),
        coded("2", "https://elsewhere/fhir/CodeSystem/phq9-1"),
        coded("2"),
        coded("2", "urn:oid:1.2.3", display="more than half  the days"),
        coded(
            "q-2",
            "urn:x",
            extension=[{"url": ORDINAL, "valueDecimal": 2}],
        ),
        coded(
            "3", "urn:x", extension=[{"url": "http://hl7.org/fhir/StructureDefinition/itemWeight", "valueDecimal": 2.0}]
        ),
        {
            **coded("at0049", "urn:x"),
            "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/valueset-ordinalValue", "valueDecimal": 2}],
        },
        {"valueInteger": 2},
        {"valueDecimal": 2.0},
    ],
)
def test_an_answer_is_understood_however_it_is_coded(answer: dict[str, Any]) -> None:
    found = fhir.read(answering(answer), BOTH)
    assert told(found) == []
    assert only(found)["phq9_1"] == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (coded("LA9999-1", LOINC), "unknown_code"),
        (coded("2", LOINC), "unknown_code"),
        (coded("two", "urn:x"), "unknown_code"),
        (coded("4"), "unknown_code"),
        (coded(2), "unknown_code"),
        (coded(True), "unknown_code"),
        ({"valueCoding": {"display": "Several days"}}, "unknown_code"),
        (coded("1", "urn:x", display="Not at all"), "codes_disagree"),
        (coded("LA6571-9", LOINC, display="Not at all"), "codes_disagree"),
        (coded("LA6571-9", LOINC, extension=[{"url": ORDINAL, "valueDecimal": 0}]), "codes_disagree"),
        ({"valueInteger": 4}, "outside_codes"),
        ({"valueInteger": -1}, "outside_codes"),
        ({"valueInteger": True}, "outside_codes"),
        ({"valueInteger": "1"}, "outside_codes"),
        ({"valueDecimal": 1.5}, "outside_codes"),
        ({"valueDecimal": float("nan")}, "outside_codes"),
        ({"valueInteger": 10**30}, "outside_codes"),
        ({"valueBoolean": True}, "unsupported_value"),
        ({"valueString": "I cannot go on, call 13800000000"}, "unsupported_value"),
        ({"valueInteger": 1, "valueDecimal": 2}, "several_answers"),
        ({}, "no_value"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_understood_is_named_and_never_zero(answer: dict[str, Any], code: str) -> None:
    found = fhir.read(answering(answer), BOTH)
    assert told(found) == [(1, "phq9_1", code)]
    assert (only(found)["phq9_1"], only(found)["phq9_2"], only(found)["is_taken"]) == (None, 0, False)
    assert "138" not in found.problems["message"][0]
    scores = scoring.score(found.answers["phq9", "self"], PHQ9).row(0, named=True)
    assert (scores["status"], scores["total"]) == ("not_scorable", None)


@pytest.mark.parametrize("name", ["phq9_{n}", "{loinc}", "/{loinc}", "/44249-1/{loinc}"])
def test_a_question_is_known_by_our_id_or_by_loinc(name: str) -> None:
    link_ids = [name.format(n=item.number, loinc=item.loinc) for item in PHQ9.scored_items]
    data = answering({"valueInteger": 3}, link_ids=link_ids, questionnaire="https://elsewhere/Questionnaire/44249-1")
    found = fhir.read(data, BOTH)
    assert told(found) == []
    assert (only(found)["phq9_1"], only(found)["phq9_9"]) == (3, 0)


@pytest.mark.parametrize("name", ["phq9_99", "9", "q9", "44260-9", "PHQ9_9", "/", "phq9_9 "])
def test_an_unknown_question_is_named_and_its_response_not_taken(name: str) -> None:
    link_ids = [*(item.id for item in PHQ9.scored_items[:8]), name]
    found = fhir.read(answering(link_ids=link_ids), BOTH)
    assert told(found) == [(1, name.strip(), "unknown_link_id")]
    assert (only(found)["phq9_9"], only(found)["is_taken"]) == (None, False)


def test_a_name_may_be_given_to_a_linkid() -> None:
    link_ids = [*(item.id for item in PHQ9.scored_items[:8]), "q9"]
    found = fhir.read(answering(link_ids=link_ids), BOTH, link_ids={"q9": "phq9_9"})
    assert (told(found), only(found)["phq9_9"]) == ([], 0)
    with pytest.raises(ValueError, match="phq9_99"):
        fhir.read(answering(), BOTH, link_ids={"q9": "phq9_99"})


def test_a_question_left_without_its_code_is_not_lost_in_silence() -> None:
    theirs = fhir.questionnaire(PHQ9, base="https://elsewhere")
    for n, item in enumerate(theirs["item"]):
        item["linkId"] = f"q{n}"
    del theirs["item"][9]["code"]
    theirs |= {"url": "https://elsewhere/q", "id": "q"}
    data = answering(link_ids=[f"q{n}" for n in range(1, 10)], questionnaire="https://elsewhere/q|3")
    found = fhir.read(data, BOTH, questionnaires=[theirs])
    assert told(found) == [(1, "q9", "unmapped_link_id")]
    assert "phq9_9" in found.problems["message"][0]
    assert (only(found)["phq9_1"], only(found)["phq9_9"], only(found)["is_taken"]) == (0, None, False)


def test_the_total_of_another_program_is_no_answer_of_ours() -> None:
    data = json.loads(answering())
    data["item"].append({"linkId": "/44261-6", "answer": [{"valueDecimal": 27}]})
    assert told(fhir.read(json.dumps(data).encode(), BOTH)) == []


def test_groups_and_answers_below_answers_are_read_at_any_depth() -> None:
    flat = json.loads(answering({"valueInteger": 3}))
    first, *rest = flat["item"]
    last = rest.pop()
    first["answer"][0]["item"] = [last]
    flat["item"] = [
        {"linkId": "g", "item": [{"linkId": "h", "text": "x", "item": [first, {"linkId": "i", "item": rest}]}]}
    ]
    found = fhir.read(json.dumps(flat).encode(), BOTH)
    assert told(found) == []
    assert [only(found)[f"phq9_{n}"] for n in range(1, 10)] == [3, *[0] * 8]


def test_a_blank_stays_blank() -> None:
    data = json.loads(answering())
    absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "asked-declined"}
    data["item"][0] = {"linkId": "phq9_1"}
    data["item"][1] = {"linkId": "phq9_2", "answer": []}
    data["item"][2] = {"linkId": "phq9_3", "answer": [{"extension": [absent]}]}
    del data["item"][3]
    found = fhir.read(json.dumps(data).encode(), BOTH)
    assert told(found) == []
    assert [only(found)[f"phq9_{n}"] for n in range(1, 6)] == [None] * 4 + [0]


def test_two_answers_to_one_question_are_none() -> None:
    data = json.loads(answering())
    data["item"].append({"linkId": "/44260-8", "answer": [{"valueInteger": 3}]})
    data["item"][0]["answer"].append({"valueInteger": 1})
    found = fhir.read(json.dumps(data).encode(), BOTH)
    assert sorted(told(found)) == [(1, "/44260-8", "answered_twice"), (1, "phq9_1", "several_answers")]
    assert (only(found)["phq9_9"], only(found)["phq9_1"], only(found)["is_taken"]) == (None, None, False)


@pytest.mark.parametrize("status", ["in-progress", "stopped", None, "done", "entered-in-error"])
def test_only_finished_responses_are_taken(status: str | None) -> None:
    found = fhir.read(answering({"valueInteger": 3}, status=status), BOTH)
    assert told(found) == [(1, None, "not_completed")]
    assert not only(found)["is_taken"]
    # What was entered in error may be another student's; whatever else was said, somebody may have to see.
    assert only(found)["phq9_1"] == (None if status == "entered-in-error" else 3)
    assert told(fhir.read(answering(status="amended"), BOTH)) == []


def test_the_number_is_the_identifier_or_the_end_of_the_reference() -> None:
    school = {"identifier": {"value": "S1"}}
    for subject, number in (
        ({"identifier": {"value": "0012", "assigner": school}, "reference": "Patient/x"}, "0012"),
        ({"reference": "https://h/fhir/Patient/0012/_history/3"}, "0012"),
        ({"reference": "Patient/0012"}, "0012"),
        ({"display": "Somebody"}, None),
        (None, None),
    ):
        found = only(fhir.read(answering(subject=subject), BOTH))
        assert found["subject"] == number
        assert found["school"] == ("S1" if subject and "assigner" in str(subject) else None)


def test_the_form_is_that_of_the_questionnaire_or_of_who_answered() -> None:
    forms = [(PSC17, name) for name in ("youth", "parent", "teacher")]
    given_ = {item.id: 1 for item in PSC17.items}

    def form(offered: list[tuple[Instrument, str]], **more: Any) -> list[Any]:
        data = fhir.response(PSC17, given_, form=more.pop("form", None)) | more
        found = fhir.read(json.dumps(data).encode(), offered)
        return [name for _, name in found.answers] or [code for _, _, code in told(found)]

    assert form(forms, form="teacher") == ["teacher"]
    assert form(forms) == ["parent"]
    assert form(forms[:1], form="teacher") == ["other_form"]
    elsewhere = "https://elsewhere/Questionnaire/7"
    assert form(forms, questionnaire=elsewhere, source={"reference": "Patient/1"}) == ["youth"]
    assert form(forms, questionnaire=elsewhere, source={"reference": "RelatedPerson/1"}) == ["parent"]
    assert form(forms[:1], questionnaire=elsewhere, source={"reference": "RelatedPerson/1"}) == ["other_form"]


def test_questions_that_two_instruments_share_are_not_given_to_either() -> None:
    twin = parse(PHQ9.body.replace('code = "phq9"', 'code = "twin"').replace("phq9_", "twin_"), "twin.toml")
    link_ids = [str(item.loinc) for item in PHQ9.scored_items]
    data = answering(link_ids=link_ids, questionnaire="https://elsewhere/7")
    assert told(fhir.read(data, [(PHQ9, "self"), (twin, "self")])) == [(1, None, "ambiguous_questionnaire")]
    assert told(fhir.read(answering(link_ids=link_ids), [(PHQ9, "self"), (twin, "self")])) == []


# -- files --------------------------------------------------------------------------------------------


def test_problems_are_named_by_line_and_by_entry() -> None:
    good, bad = answering(), answering({"valueInteger": 9}, subject={"reference": "Patient/8"})
    lines = b"\n".join([good, b"", b"{broken", bad, b"[1]", b'{"x": 1}', b'{"resourceType": "Patient"}', b"\xff{}"])
    found = fhir.read(lines, BOTH)
    assert (found.kind, found.others) == ("ndjson", 1)
    assert told(found) == [
        (3, None, "not_json"),
        (4, "phq9_1", "outside_codes"),
        (5, None, "not_fhir"),
        (6, None, "not_fhir"),
        (8, None, "not_json"),
    ]
    assert found.answers["phq9", "self"]["line"].to_list() == [1, 4]
    entries = {
        "resourceType": "Bundle",
        "entry": [{"resource": json.loads(good)}, {}, {"resource": json.loads(bad)}, 5],
    }
    assert told(fhir.read(json.dumps(entries).encode(), BOTH)) == [
        (2, None, "not_fhir"),
        (3, "phq9_1", "outside_codes"),
        (4, None, "not_fhir"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"item": {"linkId": "a"}},
        {"item": ["x"]},
        {"item": [{"linkId": 5, "answer": [{"valueInteger": 1}]}]},
        {"item": [{"answer": [{"valueInteger": 1}]}]},
        {"item": [{"linkId": "phq9_1", "answer": {"valueInteger": 1}}]},
        {"item": [{"linkId": "phq9_1", "answer": ["x"]}]},
        {"item": [{"linkId": "phq9_1", "answer": [{"valueCoding": "LA6568-5"}]}]},
        {"item": [{"linkId": "phq9_1", "answer": [{"valueCoding": {"code": ["x"]}}]}]},
        {"subject": "Patient/7"},
        {"subject": {"identifier": {"value": 7}}},
        {"id": 7},
        {"contained": [5], "questionnaire": "#q"},
    ],
)
def test_a_misshapen_response_costs_itself_only(changed: dict[str, Any]) -> None:
    data = answering() + b"\n" + answering(**changed) + b"\n" + answering(subject={"reference": "Patient/9"})
    found = fhir.read(data, BOTH)
    assert told(found) == [(2, None, "misshapen")]
    assert found.answers["phq9", "self"]["line"].to_list() == [1, 3]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_json"),
        (b"phq9_1,phq9_2\n1,2\n", "not_json"),
        (b'{"a": 1}', "not_fhir"),
        (b"[1, 2]", "not_fhir"),
        (b'{"resourceType": "Bundle",\n"entry": [\n', "not_json"),
        (b'{"a":' * 100_000, "not_json"),
    ],
)
def test_what_is_no_fhir_says_so(data: bytes, code: str) -> None:
    with pytest.raises(fhir.NotFhir) as caught:
        fhir.read(data, BOTH)
    assert caught.value.code == code


def test_repeated_responses_are_taken_once_and_different_ones_with_one_id_not_at_all() -> None:
    one, same, other = answering(id="a"), answering(id="a"), answering({"valueInteger": 1}, id="b")
    clash = answering({"valueInteger": 2}, id="b")
    found = fhir.read(b"\n".join([one, other, same, clash]), BOTH)
    assert told(found) == [(2, None, "duplicate_id"), (3, None, "repeated_response"), (4, None, "duplicate_id")]
    assert found.answers["phq9", "self"]["is_taken"].to_list() == [True, False, False, False]
    nobody = answering(subject=None)
    assert told(fhir.read(nobody + b"\n" + nobody, BOTH)) == []  # two people may answer alike


# -- in bulk ------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [
        {"linkId": "nobody", "answer": [{"valueInteger": 1}]},
        {"linkId": "phq9_3", "answer": [{"valueInteger": 1}, {"valueInteger": 2}]},
        {"linkId": "phq9_4", "answer": [coded("1", "urn:x", display="a } ] , { \"linkId\" b")]},
        {"answer": [{"valueInteger": 1}], "linkId": "phq9_5"},
        {"linkId": "g", "item": [{"linkId": "phq9_6", "answer": [{"valueInteger": 2}]}, {"linkId": "phq9_6"}]},
        {"linkId": "g", "item": [{"linkId": "h", "item": [{"linkId": "phq9_6"}]}], "x": [{"linkId": "no"}]},
        {"linkId": "g", "answer": [{"valueInteger": 1}], "item": [{"linkId": "phq9_6"}]},
        {"linkId": "g", "item": []},
        {"linkId": "phq9_7", "answer": [{"valueInteger": 2, "item": [{"linkId": "phq9_8", "answer": [coded("3")]}]}]},
        {"linkId": "phq9_9", "text": "…", "answer": [coded("LA6571-9", LOINC)]},
        {"linkId": "phq9_1"},
    ]
)  # fmt: skip


@given(
    items=st.lists(ODD, max_size=5),
    spaces=st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]),
    is_last=st.booleans(),
    more=st.sampled_from(
        [{}, {"extension": [{"item": []}]}, {"contained": [{"linkId": "phq9_1"}]}, {"x": {"item": 1}}]
    ),
)
@settings(max_examples=100)
def test_a_line_cut_at_its_questions_says_what_it_says_as_a_whole(
    items: list[dict[str, Any]], spaces: tuple[str, str], is_last: bool, more: dict[str, Any]
) -> None:
    head = {"resourceType": "QuestionnaireResponse", "status": "completed"}
    whole = {**head, **more, "item": items} if is_last else {"item": items, **head, **more}
    line = json.dumps(whole, separators=spaces).encode() + b"\n"
    pieces = walking.Pieces()
    for _ in range(2):
        cut = pieces.cut(line)
        if cut is not None:
            around, answers = cut
            assert sorted(answers, key=str) == sorted(walking.walk(items), key=str)
            assert {name: around[name] for name in around if name != "item"} == head | more


def test_lines_as_most_programs_write_them_are_cut() -> None:
    questions = [{"linkId": f"q{n}", "answer": [{"valueInteger": n}]} for n in range(4)]
    head = {"resourceType": "QuestionnaireResponse"}
    groups = [{"linkId": "g", "text": "x", "item": questions[:2]}, {"linkId": "h", "item": questions[2:]}]
    for items in (questions, groups, [{"linkId": "all", "item": groups}]):
        for separators in ((",", ":"), (", ", ": ")):
            for whole in ({**head, "item": items}, {"item": items, **head}):
                cut = walking.Pieces().cut(json.dumps(whole, separators=separators).encode())
                assert cut is not None, whole
                assert sorted(cut[1]) == sorted(walking.walk(items))


@pytest.mark.parametrize(
    "line",
    [
        b'{"resourceType":"QuestionnaireResponse","item":[{"linkId":"a"} {"linkId":"b"}]}',
        b'{"resourceType":"QuestionnaireResponse","item":[{"linkId":"a"},]}',
        b'{"resourceType":"QuestionnaireResponse","item":[{"linkId":"a"},{"linkId":"b"}}',
        b'{"resourceType":"QuestionnaireResponse","item":[],"x":[{"linkId":"a","answer":[{"valueInteger":1}]}]}',
        b'{"resourceType":"QuestionnaireResponse","x":[{"linkId":"a"}]}',
        b'{"resourceType":"QuestionnaireResponse","item":[{"x":[{"linkId":"a"}]}]}',
        b'{"resourceType":"QuestionnaireResponse","item":[0,{"linkId":"a"}]}',
        b'{"resourceType":"QuestionnaireResponse","item":{"linkId":"a"}}',
        b'{"resourceType":"Questionnaire","item":[{"linkId":"a"}]}',
        b'{"linkId":"a"},{"linkId":"b"}',
        b'{"resourceType":"QuestionnaireResponse","item":[{"linkId":"a"}],"x":{"item":[{"linkId":"b"}]}}',
        b'{"resourceType":"QuestionnaireResponse","item":[{"linkId":"a"}],"item":[{"linkId":"b"}]}',
        b'{"resourceType":"QuestionnaireResponse","item":[{"linkId":"a"}],"contained":[{"linkId":"b"}]}',
    ],
)
def test_a_line_that_is_no_flat_list_is_not_cut(line: bytes) -> None:
    assert walking.Pieces().cut(line) is None


def many(n: int) -> bytes:
    chance = random.Random(7)  # noqa: S311 - answers, not secrets
    names = [item.id for item in PHQ9.scored_items]
    made = (
        fhir.response(PHQ9, {name: chance.randrange(4) for name in names}, response_id=f"r{i}", subject=f"{i:06}")
        for i in range(n)
    )
    return b"".join(fhir.ndjson(made))


def test_a_file_of_many_lines_reads_as_each_line_alone() -> None:
    data = many(3_000)
    lines = data.splitlines()
    odd = json.loads(lines[500])
    odd["item"][8]["answer"][0]["valueCoding"]["code"] = "LA0-0"
    lines[500] = json.dumps(odd).encode()
    lines[2_000] = json.dumps(json.loads(lines[2_000]) | {"status": "stopped"}).encode()
    found = fhir.read(b"\n".join(lines), BOTH)
    assert told(found) == [(501, "phq9_9", "unknown_code"), (2_001, None, "not_completed")]
    alone = [only(fhir.read(line, BOTH)) for line in lines[::97]]
    expected = found.answers["phq9", "self"][::97]
    assert [row | {"line": 0} for row in alone] == [row | {"line": 0} for row in expected.iter_rows(named=True)]
    assert expected.select(pl.col("^phq9_.$")).dtypes == [pl.Int16] * 9


def test_reading_does_not_change_what_it_reads() -> None:
    theirs = fhir.questionnaire(PHQ9)
    before = copy.deepcopy(theirs)
    fhir.read(answering(), BOTH, questionnaires=[theirs])
    assert theirs == before
