"""Whatever is sent is answered by clear problems, or scored right: nothing half, and no blank counted as 0."""

import datetime as dt
import uuid
from collections.abc import Callable

import pytest

from screening import rounds
from screening.access import Scope
from screening.errors import InvalidUpload, NotFound
from screening.models import Round
from screening.reading import Limits
from tests import sending
from tests.cast import Cast
from tests.factories import make_district, make_round, make_school, make_student
from tests.files import both, csv_of, gad7, phq9, xlsx_of
from tests.sending import Sent, receive, send


@pytest.fixture(autouse=True)
def reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)


@pytest.fixture
def opened(cast: Cast) -> Round:
    """A round of PHQ-9 and GAD-7, open in the whole district."""
    with cast.database.unit(cast.scope) as session:
        return make_round(session)


def answers_of(cast: Cast, made: Round) -> dict[tuple[uuid.UUID, str], list[int | None]]:
    return {(form["student_id"], form["instrument"]): form["answers"] for form in sending.forms(cast, made.id)}


def assert_nothing_kept(cast: Cast, made: Round) -> None:
    assert sending.forms(cast, made.id) == []
    assert sending.results(cast, made.id) == []
    assert sending.alerts(cast) == []


# -- files that are none -----------------------------------------------------------------------------


def test_an_empty_file_is_refused_at_the_door(cast: Cast, opened: Round) -> None:
    with pytest.raises(InvalidUpload) as refused:
        receive(cast, opened.id, b"")

    assert [problem.code for problem in refused.value.problems] == ["empty_file"]
    assert sending.rows(cast.database, cast.scope, "select id from uploads where district_id = :district") == []
    assert sending.rows(cast.database, cast.scope, "select id from stored_files where district_id = :district") == []


UNREADABLE = {
    "white space": (b" \r\n\r\n \t\r\n", "empty_file"),
    "a PDF named .csv": (b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\n", "not_a_table"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "not_a_table"),
    "a web page": (b"<html><body><table><tr><td>1</td></tr></table></body></html>", "not_a_table"),
    "bytes of no text": (b"student_number,phq9_1\n\xff\xfe\x81\xff\xff,1\n", "not_text"),
    "zero bytes": (b"student_number,phq9_1\nA\x00,1\n", "has_nul"),
    "half a workbook": (xlsx_of(phq9("A001"))[:900], None),
    "a header alone": (csv_of(phq9("A001")).splitlines(keepends=True)[0], "no_rows"),
    "no column of the round": (b"student_number,sdq_1\nA001,2\n", "no_item_columns"),
    "prose": ("亲爱的老师，附件请查收。".encode(), "no_item_columns"),
}


def test_what_is_no_table_of_answers_is_refused_in_words(cast: Cast, opened: Round) -> None:
    for name, (content, code) in UNREADABLE.items():
        sent = send(cast, opened.id, content)
        assert sent.upload.state == "refused", name
        assert sent.problems and all(problem.message.endswith((".", ")")) for problem in sent.problems), name
        assert code is None or code in sent.codes, name
        assert sent.receipt["rows"] == 0, name
    assert_nothing_kept(cast, opened)


# -- rounds that do not take it ----------------------------------------------------------------------


def test_a_round_that_is_not_there_is_not_there_for_anybody(cast: Cast) -> None:
    other = make_district(cast.database)
    with cast.database.unit(Scope(other.id)) as session:
        make_school(session)
        theirs = make_round(session)

    for round_id in (uuid.uuid4(), theirs.id):
        with pytest.raises(NotFound):
            receive(cast, round_id, csv_of(phq9("A001")))


def test_a_round_that_is_closed_or_not_open_yet_takes_nothing(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        closed = make_round(session, name="Closed")
        rounds.close(session, closed.id, by=cast.district_admin)
        planned = make_round(session, name="Planned", is_open=False)

    for made, code in ((closed, "round_closed"), (planned, "round_not_open")):
        sent = send(cast, made.id, csv_of(phq9("A001")))
        assert sent.upload.state == "refused"
        assert sent.problems[0].code == code
        assert sent.outcomes("phq9/self") == {"rejected": 1}
        assert_nothing_kept(cast, made)


def test_a_school_whose_part_is_closed_takes_nothing_while_others_do(cast: Cast, opened: Round) -> None:
    with cast.database.unit(cast.scope_b) as session:
        rounds.close(session, opened.id, by=cast.school_admin_b)

    sent = send(cast, opened.id, csv_of(phq9("A001"), phq9("B001")))

    assert sent.places == {("school_not_open", 3, None)}
    assert {student for student, _ in answers_of(cast, opened)} == {cast.students.granted_13.id}


# -- rows that are about nobody, or somebody else -----------------------------------------------------


def test_each_row_that_cannot_be_taken_is_named_and_costs_no_other(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, grades=(7, 8, 9, 10))
        for school in (cast.school_a, cast.school_b):
            make_student(session, school.id, number="X1", grade=8)
    rows = [
        phq9("A001"),
        phq9("nobody"),
        phq9("X1"),
        phq9("A010"),  # grade 11
        phq9("A003"),  # declined
        phq9("A006", 1),
        phq9("A006", 2),
        phq9(""),
        phq9("A007") | {"student_name": "张三"},
        phq9("A009") | {"student_name": " 周 敏 "},
        phq9("B001") | {"student_name": "王小明", "school_code": "A"},
    ]

    sent = send(cast, made.id, csv_of(*rows))

    assert sent.places >= {
        ("unknown_student", 3, None),
        ("ambiguous_student", 4, None),
        ("grade_not_in_round", 5, None),
        ("no_consent", 6, None),
        ("no_student_number", 9, "student_number"),
        ("name_differs", 10, None),
        ("unknown_student", 12, None),
    }
    assert {row for code, row, _ in sent.places if code == "duplicate_student"} == {7, 8}
    assert set(answers_of(cast, made)) == {
        (cast.students.granted_13.id, "phq9"),
        (cast.students.unknown_age.id, "phq9"),
    }
    assert sent.outcomes("phq9/self") == {"accepted": 2, "rejected": 9}
    assert all(problem.message for problem in sent.problems)


def test_a_number_that_two_schools_gave_is_taken_with_a_school_code(cast: Cast, opened: Round) -> None:
    with cast.database.unit(cast.scope) as session:
        at_a = make_student(session, cast.school_a.id, number="X1")
        at_b = make_student(session, cast.school_b.id, number="X1")

    sent = send(
        cast,
        opened.id,
        csv_of(phq9("X1", 1) | {"school_code": "A"}, phq9("X1", 2) | {"school_code": "B"}),
    )

    assert sent.problems == []
    stored = answers_of(cast, opened)
    assert stored[at_a.id, "phq9"][:9] == [1] * 9
    assert stored[at_b.id, "phq9"][:9] == [2] * 9


def test_a_school_sends_for_its_own_students_only(cast: Cast, opened: Round) -> None:
    sent = send(
        cast,
        opened.id,
        csv_of(phq9("A001"), phq9("B001"), phq9("B001") | {"school_code": "B"}),
        by=cast.school_admin_a,
        school_id=cast.school_a.id,
    )

    assert {student for student, _ in answers_of(cast, opened)} == {cast.students.granted_13.id}
    assert {row for code, row, _ in sent.places if code in ("unknown_student", "duplicate_student")} == {3, 4}


# -- cells ---------------------------------------------------------------------------------------------


def test_two_hundred_columns_are_read_for_those_that_matter(cast: Cast, opened: Round) -> None:
    extra = {f"question {i}": i for i in range(190)}

    sent = send(cast, opened.id, csv_of(phq9("A001", 1) | extra))

    assert sent.outcomes("phq9/self") == {"accepted": 1}
    assert sent.outcomes("gad7/self") == {"not_answered": 1}
    assert len(sent.receipt["ignored_columns"]) == 190


WRITTEN = {
    "UTF-8 with a mark": lambda *rows: csv_of(*rows, encoding="utf-8-sig"),
    "GB18030": lambda *rows: csv_of(*rows, encoding="gb18030"),
    "UTF-16": lambda *rows: csv_of(*rows, encoding="utf-16"),
    "semicolons": lambda *rows: csv_of(*rows, delimiter=";"),
    "tabs": lambda *rows: csv_of(*rows, delimiter="\t"),
    "a workbook": xlsx_of,
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_the_same_table_means_the_same_however_it_is_written(
    cast: Cast, opened: Round, written: Callable[..., bytes]
) -> None:
    row = phq9("A001", 1, phq9_4="３", phq9_5="2.0", phq9_6=" 0 ", phq9_7="３．０", phq9_8="")
    chinese = {"学号": row.pop("student_number"), "姓名": "王小明", **row}

    sent = send(cast, opened.id, written(chinese))

    assert sent.problems == []
    assert answers_of(cast, opened)[cast.students.granted_13.id, "phq9"] == [1, 1, 1, 3, 2, 0, 3, None, 1, None]
    (form,) = sending.forms(cast, opened.id)
    assert (form["status"], form["missing_count"], form["scores"][0]) == ("not_scorable", 1, None)
    assert sent.outcomes("phq9/self") == {"not_scorable": 1}


def test_blank_lines_and_blank_marks_are_no_answers(cast: Cast, opened: Round) -> None:
    first, *others = csv_of(phq9("A001"), phq9("A006", "无"), phq9("A007", "N/A"), phq9("A009", "")).split(b"\r\n")
    content = b"\r\n".join([first, b"", others[0], b",,,,,,,,,", b"  ", *others[1:], b"", b""])

    sent = send(cast, opened.id, content)

    assert sent.problems == []
    assert sent.outcomes("phq9/self") == {"accepted": 1, "not_answered": 3}
    assert len(answers_of(cast, opened)) == 1


def test_a_cell_that_is_no_code_costs_its_form_and_nothing_else(cast: Cast, opened: Round) -> None:
    bad = {"A001": "4", "A006": "-1", "A007": "yes", "A009": "1.5", "B001": "1e0", "C001": "②"}
    rows = [both(number, 1, gad7_3=cell) for number, cell in bad.items()]

    sent = send(cast, opened.id, csv_of(*rows))

    assert [(p.row, p.column) for p in sent.problems] == [(row, "gad7_3") for row in range(2, 8)]
    assert set(sent.codes) == {"outside_codes", "not_a_code"}
    assert "yes" not in " ".join(problem.message for problem in sent.problems)
    assert sent.outcomes("phq9/self") == {"accepted": 6}
    assert sent.outcomes("gad7/self") == {"rejected": 6}
    assert {instrument for _, instrument in answers_of(cast, opened)} == {"phq9"}


def test_one_row_with_everything_wrong(cast: Cast, opened: Round) -> None:
    row = both("nobody", "x", phq9_1="9", phq9_2=" ") | {"school_code": "Z", "student_name": "?"}

    sent = send(cast, opened.id, csv_of(row))

    assert sent.codes["not_a_code"] == 14
    assert sent.codes["outside_codes"] == 1
    assert sent.codes["unknown_student"] == 1
    assert {problem.row for problem in sent.problems} == {2}
    assert sent.outcomes("phq9/self") == sent.outcomes("gad7/self") == {"rejected": 1}
    assert_nothing_kept(cast, opened)


def test_rows_that_say_the_same_twice_are_taken_once(cast: Cast, opened: Round) -> None:
    sent = send(cast, opened.id, csv_of(phq9("A001", 1), phq9("A006"), phq9("A001", 1)))

    assert (sent.receipt["rows"], sent.receipt["repeated_rows"]) == (3, 1)
    assert sent.outcomes("phq9/self") == {"accepted": 2}


def test_a_student_in_two_parts_of_a_long_file_is_taken_from_neither_by_guess(
    cast: Cast, opened: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.read_here(monkeypatch, Limits(part_rows=2))
    rows = [
        phq9("A001", 0) | {"school_code": ""},
        phq9("A006", 0) | {"school_code": ""},
        phq9("A007", 0) | {"school_code": "A"},
        phq9("A001", 1) | {"school_code": "A"},
        phq9("A009", 0) | {"school_code": "A"},
    ]

    sent = send(cast, opened.id, csv_of(*rows))

    assert sent.upload.state == "loaded"
    assert ("duplicate_student", 5, None) in sent.places
    assert len(answers_of(cast, opened)) == 4


# -- what a receipt does not say -------------------------------------------------------------------------


def test_no_receipt_tells_whether_an_answer_was_critical(cast: Cast) -> None:
    def file_with(answer: int) -> bytes:
        return csv_of(
            both("A001", 0, phq9_9=answer),
            both("nobody", 0, phq9_9=answer),
            both("A003", 0, phq9_9=answer),
            both("A006", 0, phq9_9=answer, phq9_2="x"),
            both("A007", 0, phq9_9=answer, phq9_2=""),
        )

    told: list[tuple[str, dict[str, object], list[object]]] = []
    for answer in (0, 3):
        for school_id in (None, cast.school_a.id):
            with cast.database.unit(cast.scope) as session:
                made = make_round(session, name=f"{answer} {school_id}")
            sent = send(cast, made.id, file_with(answer), school_id=school_id)
            told.append((sent.upload.state, sent.receipt, list(sent.problems)))

    assert told[0] == told[2]
    assert told[1] == told[3]
    assert len(sending.alerts(cast)) > 0


def test_the_receipt_of_a_school_names_no_student_of_another(cast: Cast, opened: Round) -> None:
    unknown = send(cast, opened.id, csv_of(phq9("nobody")), school_id=cast.school_a.id)
    foreign = send(cast, opened.id, csv_of(phq9("B001")), school_id=cast.school_a.id)

    assert foreign.problems == unknown.problems
    assert foreign.receipt == unknown.receipt


# -- a round's own times -------------------------------------------------------------------------------


def test_a_historical_round_takes_students_who_have_moved_up_since(cast: Cast) -> None:
    now = dt.datetime.now(dt.UTC)
    with cast.database.unit(cast.scope) as session:
        made = make_round(
            session,
            is_historical=True,
            grades=(7,),
            opens_at=now - dt.timedelta(days=400),
            closes_at=now - dt.timedelta(days=390),
        )

    sent: Sent = send(cast, made.id, csv_of(phq9("A010"), gad7("A001")))

    assert sent.problems == []
    assert len(answers_of(cast, made)) == 2
