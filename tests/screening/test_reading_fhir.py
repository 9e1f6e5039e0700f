"""FHIR as a file of answers: read by the same rules as a table, its problems by entry or line and linkId."""

import json
from collections.abc import Iterable
from typing import Any

import polars as pl
import pytest

from instruments import catalogue, fhir
from instruments.definition import Instrument
from screening import reading
from screening.errors import InvalidUpload, Problem
from screening.reading import AnswersPlan, Limits, Part, RosterPlan, Summary, answers, files, students
from tests import sending
from tests.cast import Cast
from tests.factories import make_round
from tests.sending import send

PHQ9, GAD7, PSC17 = (catalogue.get(code) for code in ("phq9", "gad7", "psc17"))
RED = 3
Reading = tuple[pl.DataFrame, list[Problem], Summary]


def plan_of(*forms: tuple[Instrument, str], **column_map: str) -> AnswersPlan:
    return AnswersPlan(tuple((i.body, name) for i, name in forms or ((PHQ9, "self"), (GAD7, "self"))), column_map)


def read(data: bytes, plan: AnswersPlan | None = None, limits: Limits | None = None) -> Reading:
    limits = limits or Limits()
    return together(answers.read(files.open_file(data, limits), plan or plan_of(), limits))


def together(found: Iterable[Part | Summary]) -> Reading:
    *parts, summary = found
    assert isinstance(summary, Summary)
    tables = [part for part in parts if isinstance(part, Part)]
    problems = pl.concat([part.problems for part in tables])
    named = [Problem(**row) for row in problems.iter_rows(named=True)]
    return pl.concat([part.answers for part in tables]), named, summary


def refusal(data: bytes, plan: AnswersPlan | None = None) -> list[str]:
    with pytest.raises(InvalidUpload) as caught:
        read(data, plan)
    return [problem.code for problem in caught.value.problems]


def one(instrument: Instrument, number: str | None, fill: int = 1, form: str | None = None, **changed: int) -> Any:
    values = {item.id: fill for item in instrument.scored_items} | changed
    return fhir.response(instrument, values, form=form, subject=number)


def lines(*responses: Any) -> bytes:
    return b"".join(fhir.ndjson(responses))


def bundle(*responses: Any) -> bytes:
    return json.dumps(fhir.bundle(responses), indent=2).encode()


def places(problems: list[Problem]) -> list[tuple[str, int | None, str | None]]:
    return [(problem.code, problem.row, problem.column) for problem in problems]


@pytest.mark.parametrize("file", [lines, bundle])
def test_two_forms_of_a_student_are_one_row_whatever_their_order(file: Any) -> None:
    data = file(one(GAD7, "0002", 2), one(PHQ9, "0001", 1), one(PHQ9, "0002", 3), one(GAD7, "0001", 0))
    table, problems, summary = read(data)
    assert problems == []
    assert (summary.format, summary.rows, summary.repeated_rows) == ("fhir", 2, 0)
    assert table["student_number"].to_list() == ["0002", "0001"]
    assert table["phq9.self.total"].to_list() == [27, 9]
    assert table["gad7.self.total"].to_list() == [14, 0]
    assert table["row"].to_list() == [1, 2]


def test_a_problem_is_named_by_its_own_entry_and_costs_its_own_form() -> None:
    broken = one(GAD7, "1", 1)
    broken["item"][4]["answer"] = [{"valueInteger": 9}]
    table, problems, _ = read(bundle(one(PHQ9, "1", 1), one(PHQ9, "2", 1), broken))
    assert places(problems) == [("outside_codes", 3, "gad7_5")]
    assert table["phq9.self.taken"].to_list() == ["answered", "answered"]
    assert table["gad7.self.taken"].to_list() == ["rejected", "not_answered"]
    assert table["gad7.self.total"].to_list() == [None, None]


def test_a_critical_answer_shows_in_what_cannot_be_taken() -> None:
    stopped = one(PHQ9, "1", 0, phq9_9=3) | {"status": "stopped"}
    odd = one(PHQ9, "2", 0, phq9_9=2)
    odd["item"][0]["linkId"] = "who knows"
    table, problems, _ = read(lines(stopped, odd))
    assert places(problems) == [("not_completed", 1, None), ("unknown_link_id", 2, "who knows")]
    assert table["phq9.self.taken"].to_list() == ["rejected", "rejected"]
    assert table["phq9.self.critical_self_harm"].to_list() == [True, True]


def test_a_response_of_which_nothing_is_understood_is_rejected_not_blank() -> None:
    nothing = one(PHQ9, "1")
    for item in nothing["item"]:
        item["answer"] = [{"valueString": "x"}]
    table, problems, _ = read(lines(nothing, one(PHQ9, "2")))
    assert len(problems) == 9
    assert table["phq9.self.taken"].to_list() == ["rejected", "answered"]
    assert table["phq9.self.n_missing"].to_list() == [9, 0]


def test_the_same_response_twice_is_taken_once_and_two_different_ones_not_at_all() -> None:
    same, other = one(PHQ9, "1", 1), one(PHQ9, "2", 1)
    table, problems, _ = read(lines(same, one(GAD7, "1"), other, same, one(PHQ9, "2", 2)))
    assert places(problems) == [("repeated_response", 4, None), ("duplicate_student", 5, "student_number")]
    assert table["student_number"].to_list() == ["1", "2", "2"]
    assert table["phq9.self.taken"].to_list() == ["answered", "rejected", "rejected"]
    assert table["gad7.self.taken"].to_list() == ["answered", "not_answered", "not_answered"]


def test_a_response_of_nobody_is_named_and_returned() -> None:
    empty = {"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "Questionnaire/phq9"}
    table, problems, _ = read(lines(one(PHQ9, None, 3), one(GAD7, None, 1), one(PHQ9, "1"), empty))
    assert places(problems) == [("no_student_number", row, "student_number") for row in (1, 2, 4)]
    assert table["phq9.self.taken"].to_list() == ["rejected", "not_answered", "answered", "not_answered"]
    assert table["gad7.self.taken"].to_list() == ["not_answered", "rejected", "not_answered", "not_answered"]
    assert table["phq9.self.critical_self_harm"][0] is True


def test_the_school_is_who_gave_the_number() -> None:
    known, unknown = one(PHQ9, "1"), one(PHQ9, "1", 2)
    known["subject"]["identifier"]["assigner"] = {"identifier": {"value": "S1"}}
    table, problems, _ = read(lines(known, unknown))
    assert problems == []
    assert sorted(table.select("school_code", "student_number").rows(), key=str) == [("S1", "1"), (None, "1")]


def test_informants_stand_side_by_side() -> None:
    plan = plan_of(*((PSC17, name) for name in ("youth", "parent", "teacher")))
    data = lines(*(one(PSC17, "1", fill, form=name) for fill, name in enumerate(("youth", "teacher"))))
    table, problems, _ = read(data, plan)
    assert problems == []
    assert table.height == 1
    taken = [table[f"psc17.{name}.taken"][0] for name in ("youth", "parent", "teacher")]
    assert taken == ["answered", "not_answered", "answered"]
    assert (table["psc17.youth.total"][0], table["psc17.teacher.total"][0]) == (0, 17)


def test_the_column_map_names_linkids() -> None:
    data = one(PHQ9, "1")
    data["item"][8]["linkId"] = "q9"
    table, problems, _ = read(lines(data), plan_of((PHQ9, "self"), q9="phq9_9"))
    assert (problems, table["phq9.self.taken"].to_list()) == ([], ["answered"])
    assert refusal(lines(data), plan_of((PHQ9, "self"), q9="phq9_99")) == ["unknown_map_target"]


def test_what_holds_no_response_of_ours_is_refused_and_says_why() -> None:
    assert refusal(lines(one(PSC17, "1"), one(PSC17, "2"))) == [
        "no_responses",
        "unknown_questionnaire",
        "unknown_questionnaire",
    ]
    assert refusal(b'{"resourceType": "Bundle", "entry": [') == ["not_json"]
    assert refusal(b'{"resourceType": "Patient"}') == ["no_responses"]
    assert refusal(b'{"answers": [1, 2, 3]}') == ["no_item_columns", "no_student_column"]


def test_other_resources_are_counted_and_broken_lines_named() -> None:
    data = lines({"resourceType": "Patient"}, one(PHQ9, "1")) + b"{oops\n" + lines(one(PHQ9, "2"))
    table, problems, summary = read(data)
    assert places(problems) == [("not_json", 3, None)]
    assert table["row"].to_list() == [2, 4]
    assert [notice.code for notice in summary.notices] == ["other_resources"]


def test_fhir_is_no_roster() -> None:
    with pytest.raises(InvalidUpload) as caught:
        list(students.read(files.open_file(lines(one(PHQ9, "1")), Limits()), RosterPlan(), Limits()))
    assert [problem.code for problem in caught.value.problems] == ["not_a_table"]


def test_parts_and_limits_hold_for_fhir_too() -> None:
    broken = one(PHQ9, "7")
    broken["item"][0]["answer"] = [{"valueInteger": 9}]
    data = lines(*(one(PHQ9, str(i)) for i in range(7)), broken, *(one(PHQ9, str(i)) for i in range(8, 20)))
    found = list(answers.read(files.open_file(data, Limits()), plan_of(), Limits(part_rows=6)))
    parts = [part for part in found if isinstance(part, Part)]
    assert [part.answers.height for part in parts] == [6, 6, 6, 2]
    assert [part.problems["row"].to_list() for part in parts] == [[], [8], [], []]
    with pytest.raises(InvalidUpload) as caught:
        read(data, limits=Limits(rows=10))
    assert [problem.code for problem in caught.value.problems] == ["too_many_rows"]


def test_the_reading_process_reads_fhir_within_its_limits() -> None:
    data = lines(*(one(PHQ9, f"{i:05}", i % 4) for i in range(2_000)))
    table, problems, summary = together(reading.read_answers([data], plan_of()))
    assert (problems, summary.rows) == ([], 2_000)
    assert table["phq9.self.total"].to_list() == [9 * (i % 4) for i in range(2_000)]
    with pytest.raises(InvalidUpload):
        list(reading.read_answers([b'{"resourceType":' * 50_000], plan_of()))


def test_a_bundle_becomes_results_and_its_rejected_critical_answers_are_heard(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    unfinished = one(PHQ9, "A010", 0, phq9_9=3) | {"status": "in-progress"}
    data = bundle(one(PHQ9, "A001", 0, phq9_9=3), one(GAD7, "A001", 1), unfinished, one(PHQ9, "nobody", 0, phq9_9=3))
    sent = send(cast, made.id, data, file_name="bundle.json")
    assert sent.outcomes("phq9/self") == {"accepted": 1, "rejected": 2}
    assert sent.outcomes("gad7/self")["accepted"] == 1
    assert {("not_completed", 3, None), ("unknown_student", 4, None)} <= sent.places
    told = {(alert["student_id"], alert["place"], alert["tier"]) for alert in sending.alerts(cast)}
    assert told == {
        (cast.students.granted_13.id, None, RED),
        (cast.students.granted_17.id, None, RED),
        (None, "4", RED),
    }
