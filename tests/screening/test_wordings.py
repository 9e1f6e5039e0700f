"""A site's licensed wording: checked against the definition, kept by revision, shown while its licence lasts."""

import datetime as dt

import pytest
from sqlalchemy import select, text

from instruments import catalogue
from screening import wordings
from screening.access import Scope
from screening.errors import InvalidUpload, Refused
from screening.models import AuditEntry, RoundInstrument
from tests.cast import Cast
from tests.factories import make_district, make_round

AIS = catalogue.get("ais")
ON = dt.date(2026, 11, 23)


def sheet(languages: str = "en,zh_CN", *, without: str = "", also: str = "") -> bytes:
    rows = [f"{row},{row} in words,{row} 的文字" for row, _ in wordings.rows_of(AIS) if row != without]
    return "\n".join([f"id,{languages}", *rows, *([also] if also else [])]).encode()


def problems(content: bytes) -> list[tuple[str, int | None]]:
    with pytest.raises(InvalidUpload) as refused:
        wordings.parse(content, AIS)
    return [(problem.code, problem.row) for problem in refused.value.problems]


def test_a_sheet_is_read_by_language_whatever_its_encoding() -> None:
    for encoding in ("utf-8", "utf-8-sig", "gb18030", "utf-16"):
        texts = wordings.parse(sheet().decode().encode(encoding), AIS)
        assert set(texts) == {"en", "zh_CN"}
        assert texts["zh_CN"].items["ais_8"] == "ais_8 的文字"
        assert texts["en"].answer("severity", 3) == "severity=3 in words"
        assert texts["en"].stem == "stem in words"


def test_whatever_does_not_fit_is_named_with_its_row() -> None:
    assert problems(sheet(without="ais_4")) == [("ids_missing", None)]
    assert problems(sheet(without="severity=2")) == [("ids_missing", None)]
    assert problems(sheet(also="ais_9,nine,九")) == [("unknown_id", 15)]
    assert problems(sheet(also="ais_8,again,又")) == [("id_twice", 15)]
    assert [problem[0] for problem in problems(sheet("en,en"))] == ["language_twice"]
    assert problems(sheet("en,chinese")) == [("unknown_language", None)]
    assert problems(sheet().replace("ais_3 的文字".encode(), b"")) == [("text_missing", 9)]
    assert problems(b"item,en\nais_1,x") == [("no_id_column", None)]
    assert problems(b"id\nais_1")[0] == ("no_language", None)


def test_an_optional_item_may_be_left_out_but_not_its_answers() -> None:
    phqa = catalogue.get("phqa")
    required = [row for row, is_required in wordings.rows_of(phqa) if is_required]
    lines = ["id,en", *(f"{row},words" for row in required)]
    assert set(wordings.parse("\n".join(lines).encode(), phqa)["en"].items) == {f"phqa_{n}" for n in range(1, 10)}
    with pytest.raises(InvalidUpload) as refused:
        wordings.parse("\n".join([*lines, "phqa_12,words"]).encode(), phqa)
    assert {problem.code for problem in refused.value.problems} == {"text_missing"}


def test_numbers_may_be_those_of_a_printed_edition_but_not_of_one_that_scores_otherwise() -> None:
    rses = catalogue.get("rses")
    lines = ["id,zh_CN", *(f"{row},{row} 的文字" for row, _ in wordings.rows_of(rses))]
    content = "\n".join(lines).encode()
    assert wordings.parse(content, rses, layout="order_b")["zh_CN"].items["rses_7"] == "rses_1 的文字"
    with pytest.raises(Refused, match="rses_8 runs the other way"):
        wordings.parse(content, rses, layout="order_a_item8_as_written")


def test_a_text_is_kept_by_revision_under_its_licence_and_seen_by_its_own_district_alone(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        licence = wordings.record_licence(
            session, AIS, holder="Riverside", terms="contract 7", until_on=ON, by=cast.district_admin
        )
        first = wordings.load(session, AIS, wordings.parse(sheet(), AIS), licence, by=cast.district_admin)
        better = wordings.parse(sheet().replace(b"ais_1 in words", b"better words"), AIS)
        again = wordings.load(session, AIS, {"en": better["en"]}, licence, by=cast.district_admin)
        assert [(w.language, w.revision) for w in (*first, *again)] == [("en", 1), ("zh_CN", 1), ("en", 2)]
        found = wordings.shown(session, AIS, "en", ON)
        assert found is not None
        assert (found.items["ais_1"], found.answer("severity", 0)) == ("better words", "severity=0 in words")
        assert wordings.shown(session, AIS, "en", ON + dt.timedelta(days=1)) is None
        assert wordings.shown(session, AIS, "fr", ON) is None
        told = session.scalars(select(AuditEntry.action).where(AuditEntry.district_id == cast.district.id)).all()
        assert sorted(a for a in told if a.startswith(("licence", "wording"))) == [
            "licence.recorded",
            *["wording.loaded"] * 3,
        ]
    elsewhere = make_district(cast.database)
    with cast.database.unit(Scope(elsewhere.id)) as session:
        assert wordings.shown(session, AIS, "en", ON) is None
        assert wordings.licence_of(session, AIS, ON) is None
        assert session.execute(text("select count(*) from wordings")).scalar() == 0


def test_what_ships_is_shown_before_what_a_site_loads(cast: Cast) -> None:
    phq9 = catalogue.get("phq9")
    with cast.database.unit(cast.scope) as session:
        found = wordings.shown(session, phq9, "en", ON)
        assert found is not None
        assert (found.items["phq9_1"], found.answer("frequency", 0)) == (phq9.items[0].text["en"], "Not at all")
        assert wordings.shown(session, phq9, "zh_CN", ON) is None


def test_a_licence_names_its_holder_and_its_edition(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        with pytest.raises(Refused, match="who holds the licence"):
            wordings.record_licence(session, AIS, holder=" ", terms="x", by=cast.district_admin)
        other = wordings.record_licence(session, catalogue.get("sdq"), holder="R", terms="x", by=cast.district_admin)
        with pytest.raises(Refused, match="That licence is for sdq"):
            wordings.load(session, AIS, wordings.parse(sheet(), AIS), other, by=cast.district_admin)


# -- what a round may ask -------------------------------------------------------------------------------


def refused_codes(cast: Cast, **plan: object) -> list[str]:
    with cast.database.unit(cast.scope) as session, pytest.raises(InvalidUpload) as refused:
        make_round(session, **plan)  # type: ignore[arg-type]
    return [problem.code for problem in refused.value.problems]


def test_an_instrument_that_needs_a_licence_is_off_until_one_is_recorded(cast: Cast) -> None:
    sdq = catalogue.get("sdq")
    plan = {"instruments": [("sdq", ["parent"])], "unreleased": {"sdq": "the bands in use are the Shanghai ones"}}
    assert refused_codes(cast, **plan) == ["licence_missing"]
    with cast.database.unit(cast.scope) as session:
        wordings.record_licence(session, sdq, holder="R", terms="1", until_on=ON, by=cast.district_admin)
    assert refused_codes(cast, **plan) == ["licence_missing"]  # it ends before the round does
    with cast.database.unit(cast.scope) as session:
        wordings.record_licence(session, sdq, holder="R", terms="2", by=cast.district_admin)
        made = make_round(session, **plan)  # type: ignore[arg-type]
        asked = session.scalars(select(RoundInstrument).where(RoundInstrument.round_id == made.id)).all()
        assert [each.unreleased_reason for each in asked] == ["the bands in use are the Shanghai ones"]
        told = session.scalars(select(AuditEntry.action).where(AuditEntry.subject_id == str(made.id))).all()
        assert "round.unreleased_allowed" in told


def test_an_empty_reason_is_none(cast: Cast) -> None:
    plan = {"instruments": [("sdq", ["parent"])], "unreleased": {"sdq": "  "}}
    assert refused_codes(cast, **plan) == ["instrument_unreleased", "licence_missing"]


def test_a_round_is_refused_with_the_items_that_its_youngest_must_not_see(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(InvalidUpload) as refused:
        make_round(session, instruments=[("phq9", ["self"]), ("psc17", ["parent"])], grades=(6, 7, 8))
    assert [(problem.code, problem.message) for problem in refused.value.problems] == [
        ("item_gated", "phq9_9 (sensitive) is for grade 7 and above, not for 6.")
    ]
