"""A made-up district of which everything is known: who is in need, who says so, who hides it, who never answers.

Pure and seeded: the same seed, size and day make the same people, answers and files. What a screening should find is
counted here from the answers as they were given, without any of the product's own scoring.
"""

import datetime as dt
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

STUDENTS = 6_000
GROUPS = ("left_behind", "migrant", "poor", "disabled")
REASONS_OF_EXEMPTION = ("absent_long", "health", "in_treatment")
Cell = int | str | None
"""An answer as it stands in a file: a code, words where a code should be, or a blank."""
PHQ9, GAD7, PSC17 = "phq9", "gad7", "psc17"
ITEMS: Mapping[str, int] = {PHQ9: 10, GAD7: 7, PSC17: 17}
SCORED: Mapping[str, int] = {PHQ9: 9, GAD7: 7, PSC17: 17}
_CODES: Mapping[str, frozenset[Cell]] = {
    PHQ9: frozenset(range(4)),
    GAD7: frozenset(range(4)),
    PSC17: frozenset(range(3)),
}
BLANKS_ALLOWED: Mapping[str, int] = {PHQ9: 0, GAD7: 0, PSC17: 3}
SELF_HARM = 8
"""The place of PHQ-9's item 9."""
OWN_CONSENT_FROM = 14


@dataclass(frozen=True)
class School:
    """One school: which grades it has, what share of the district's students, and how it sends its answers."""

    code: str
    name: str
    grades: tuple[int, ...]
    share: float
    file_kind: str


SCHOOLS = (
    School("S01", "育才初级中学", (7, 8, 9), 0.15, "csv"),
    School("S02", "实验初级中学", (7, 8, 9), 0.12, "xlsx"),
    School("S03", "第三初级中学", (7, 8, 9), 0.07, "gb18030"),
    School("S04", "第一高级中学", (10, 11, 12), 0.24, "csv"),
    School("S05", "第五高级中学", (10, 11, 12), 0.16, "xlsx"),
    School("S06", "外国语学校", (7, 8, 9, 10, 11, 12), 0.13, "csv"),
    School("S07", "滨河九年一贯制学校", (4, 5, 6, 7, 8, 9), 0.08, "csv"),
    School("S08", "青松小学", (4, 5, 6), 0.05, "xlsx"),
)
ONLINE_SCHOOL = "S06"
HISTORY_SCHOOLS = ("S01", "S04")
LATE_SCHOOL = "S03"
EXCUSING_SCHOOLS = ("S03", "S08")
MOVES: tuple[tuple[str, str], ...] = (("S02", "S03"), ("S05", "S06"))
"""From one school to another, in the same grade."""


@dataclass(frozen=True)
class Pupil:
    """One student, with what nobody in the district knows for sure: `distress` (0 is the average), and its truth.

    `manner` is how the student takes part: honest, hides, careless, absent, exempt, online, unfinished, unasked
    (no consent, not asked), slipped (no consent, asked by mistake), mistyped, doubled, spoiled (an unreadable cell) or
    blank (an item left out).
    """

    number: str
    name: str
    school: str
    grade: int
    class_name: str
    sex: str
    born_on: dt.date
    phone: str
    groups: tuple[str, ...]
    guardian: str | None
    student: str | None
    distress: float
    is_at_risk: bool = False
    is_in_danger: bool = False
    manner: str = "honest"
    is_late: bool = False
    moved_to: str | None = None

    @property
    def school_now(self) -> str:
        return self.moved_to or self.school

    @property
    def is_refused(self) -> bool:
        return "declined" in (self.guardian, self.student)

    @property
    def has_consent(self) -> bool:
        """By the law's own words: the guardian under 14, either of both from then on, and nobody against it."""
        is_own = self.grade + 5 >= OWN_CONSENT_FROM and self.student == "granted"
        return not self.is_refused and (self.guardian == "granted" or is_own)


@dataclass(frozen=True)
class Sheet:
    """One row of answers as it was given: about whom (None: nobody of the district), and under which number."""

    school: str
    number: str
    name: str
    answers: Mapping[str, Sequence[Cell]]
    pupil: Pupil | None

    @property
    def subject(self) -> str:
        """Whom a signal of this row is about: the student, or the row where nobody can be found."""
        return self.pupil.number if self.pupil else f"row {self.number}"


@dataclass(frozen=True)
class Town:
    """The whole made-up district: people, and every sheet of answers by the way it comes in."""

    pupils: tuple[Pupil, ...]
    history: tuple[Sheet, ...] = ()
    files: tuple[Sheet, ...] = ()
    parents: tuple[Sheet, ...] = ()
    online: tuple[Sheet, ...] = ()
    unfinished: tuple[Sheet, ...] = ()
    doubled: frozenset[str] = field(default_factory=frozenset)
    """Numbers that stand twice in a file, with other answers: neither row is taken."""

    def sheets(self) -> Iterator[Sheet]:
        """Every sheet of this autumn's rounds."""
        yield from (*self.files, *self.parents, *self.online, *self.unfinished)

    def of_school(self, code: str) -> list[Pupil]:
        """Who is enrolled there once everybody who moves has moved."""
        return [pupil for pupil in self.pupils if pupil.school_now == code]


@dataclass(frozen=True)
class Truth:
    """What a screening of this town must find if nothing is lost."""

    reds: frozenset[str]
    """Subjects with "nearly every day" at PHQ-9's item 9, wherever that answer stands."""
    critical: frozenset[str]
    """Subjects with any answer but "not at all" there."""
    past_reds: frozenset[str]
    enrolled: int
    eligible: int
    consented: int
    declined: int
    submitted: int
    covered: int
    at_risk: frozenset[str]
    """Students in need who answered with consent, a form of theirs kept: of these the screening could know."""
    at_risk_unreached: int
    """Students in need who never answered, or without consent."""


def build(seed: int, students: int, today: dt.date) -> Town:
    """The town of this seed with about so many students; `today` only makes birth dates."""
    dice = Random(seed)  # noqa: S311 - made-up people, nothing secret
    pupils = _with_truth(dice, list(_people(dice, students, today)))
    return _answered(dice, tuple(pupils))


def truth(town: Town) -> Truth:
    """Counts what was planted, from the answers as given."""
    placed = [pupil for pupil in town.pupils if pupil.manner != "exempt"]
    submitted, covered = set[str](), set[str]()
    for sheet in (*town.files, *town.parents, *town.online):
        pupil = sheet.pupil
        if pupil is None or not pupil.has_consent or sheet.number != pupil.number or sheet.number in town.doubled:
            continue
        states = [state(_instrument(form), cells) for form, cells in sheet.answers.items()]
        if "complete" in states or "incomplete" in states:
            submitted.add(pupil.number)
        if "complete" in states:
            covered.add(pupil.number)
    in_need = {pupil.number for pupil in town.pupils if pupil.is_at_risk}
    return Truth(
        reds=_subjects(town.sheets(), 3),
        critical=_subjects(town.sheets(), 1),
        past_reds=_subjects(town.history, 3),
        enrolled=len(town.pupils),
        eligible=len(placed),
        consented=sum(pupil.has_consent for pupil in placed),
        declined=sum(pupil.is_refused for pupil in placed),
        submitted=len(submitted),
        covered=len(covered),
        at_risk=frozenset(in_need & submitted),
        at_risk_unreached=len(in_need - submitted),
    )


def state(instrument: str, cells: Sequence[Cell]) -> str:
    """What becomes of one form: rejected (a cell that is no answer), blank, incomplete or complete."""
    answered = [cell for cell in cells if cell is not None]
    if not _CODES[instrument].issuperset(answered):
        return "rejected"
    if not answered:
        return "blank"
    blanks = cells[: SCORED[instrument]].count(None)
    return "complete" if blanks <= BLANKS_ALLOWED[instrument] else "incomplete"


def _instrument(form: str) -> str:
    return form.partition("_")[0]


def _subjects(sheets: Iterable[Sheet], least: int) -> frozenset[str]:
    return frozenset(
        sheet.subject
        for sheet in sheets
        if PHQ9 in sheet.answers and isinstance(cell := sheet.answers[PHQ9][SELF_HARM], int) and cell >= least
    )


# -- people -------------------------------------------------------------------------------------------

_FAMILY = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰建文辉力婷宇浩然子轩雨欣梓涵晨佳怡俊博思琪若溪嘉一诺"
_CLASS = 45


def name(dice: Random) -> str:
    """A made-up Chinese name."""
    given = dice.choice(_GIVEN) + (dice.choice(_GIVEN) if dice.random() < 0.7 else "")
    return dice.choice(_FAMILY) + given


def _people(dice: Random, students: int, today: dt.date) -> Iterator[Pupil]:
    for index, school in enumerate(SCHOOLS, start=1):
        for grade in school.grades:
            for place in range(max(12, round(students * school.share / len(school.grades)))):
                yield _pupil(dice, school.code, f"{index:02d}{grade:02d}{place:04d}", grade, place, today)


def _pupil(dice: Random, school: str, number: str, grade: int, place: int, today: dt.date) -> Pupil:
    groups = tuple(group for group in GROUPS if dice.random() < 0.03)
    draw = dice.random()
    guardian = "granted" if draw < 0.93 else "declined" if draw < 0.95 else None
    draw = dice.random()
    student = None if grade + 5 < OWN_CONSENT_FROM else "granted" if draw < 0.9 else "declined" if draw < 0.91 else None
    return Pupil(
        number=number,
        name=name(dice),
        school=school,
        grade=grade,
        class_name=f"{place // _CLASS + 1}班",
        sex=dice.choice("fm"),
        # months away from any birthday, so that ages are the same whenever the demo runs
        born_on=_years_before(today, grade + 5) - dt.timedelta(days=dice.randrange(70, 290)),
        phone=f"138{dice.randrange(10**8):08d}",
        groups=groups,
        guardian=guardian,
        student=student,
        distress=dice.gauss(0.25 if groups else 0.0, 1.0),
    )


def _years_before(day: dt.date, years: int) -> dt.date:
    return day.replace(year=day.year - years, day=min(day.day, 28))


# -- what is true of them -----------------------------------------------------------------------------

_AT_RISK_FROM = 1.6
_REDS = 0.003
_FEWEST_REDS = 9
_SPECIAL = ("unfinished", "slipped", "mistyped", "spoiled", "doubled", "blank")
"""How the first of those in danger take part, so that every way in which a red could be lost is walked."""


def _with_truth(dice: Random, pupils: list[Pupil]) -> list[Pupil]:
    """Decides who is in need and how each takes part; at any size of town every way of taking part occurs."""
    known = {pupil.number: _mannered(dice, pupil) for pupil in pupils}
    older = sorted((p for p in known.values() if p.grade >= 7), key=lambda p: -p.distress)
    in_danger = older[: max(_FEWEST_REDS, round(len(older) * _REDS))]
    for place, pupil in enumerate(in_danger):
        manner = _SPECIAL[place] if place < len(_SPECIAL) else "honest"
        known[pupil.number] = _in_danger(pupil, manner)
    _pick_movers_and_late(dice, known)
    return list(known.values())


def _mannered(dice: Random, pupil: Pupil) -> Pupil:
    in_need = pupil.distress > _AT_RISK_FROM
    return replace(pupil, is_at_risk=in_need, manner=_drawn(dice, pupil, in_need))


_MANNERS = (("absent", 0.04), ("careless", 0.03), ("blank", 0.025), ("spoiled", 0.005))


def _drawn(dice: Random, pupil: Pupil, in_need: bool) -> str:
    if not pupil.has_consent:
        return "slipped" if dice.random() < 0.05 else "unasked"
    draw = dice.random()
    excused = 0.03 if pupil.school in EXCUSING_SCHOOLS else 0.0
    for manner, share in (("exempt", excused), *_MANNERS):
        if draw < share:
            return manner
        draw -= share
    return "hides" if in_need and dice.random() < 0.12 else "honest"


def _in_danger(pupil: Pupil, manner: str) -> Pupil:
    guardian = "declined" if manner == "slipped" else "granted"
    student = pupil.student if pupil.student != "declined" else "granted"
    return replace(pupil, is_at_risk=True, is_in_danger=True, manner=manner, guardian=guardian, student=student)


def _pick_movers_and_late(dice: Random, known: dict[str, Pupil]) -> None:
    """A few who move from school to school and a few who come after the round has opened."""
    for source, target in MOVES:
        grades = next(school.grades for school in SCHOOLS if school.code == target)
        here = [p for p in known.values() if p.school == source and p.grade in grades and p.manner == "honest"]
        for pupil in dice.sample(here, max(2, len(here) // 200)):
            known[pupil.number] = replace(pupil, moved_to=target)
    here = [p for p in known.values() if p.school == LATE_SCHOOL and p.manner == "honest"]
    for pupil in dice.sample(here, max(3, len(here) // 60)):
        known[pupil.number] = replace(pupil, is_late=True)
    here = [p for p in known.values() if p.school == ONLINE_SCHOOL and p.manner == "honest" and not p.is_in_danger]
    for pupil in dice.sample(here, min(12, len(here) // 4)):
        known[pupil.number] = replace(pupil, manner="online")


# -- what they answer ---------------------------------------------------------------------------------

_DIFFICULTY: Mapping[str, tuple[float, Sequence[float]]] = {
    PHQ9: (1.7, (0.9, 1.9, 2.6)),
    GAD7: (1.7, (0.8, 1.8, 2.6)),
    PSC17: (1.4, (0.6, 2.2)),
}
_RARE = (2.4, (2.7, 3.4))
"""Item 9 of those who are not in danger: its highest answer is planted, never drawn."""
_SILENT = frozenset({"absent", "exempt", "unasked", "unfinished", "online"})


def _answered(dice: Random, pupils: tuple[Pupil, ...]) -> Town:
    sheets = [_sheet(dice, pupil) for pupil in pupils if pupil.manner not in _SILENT]
    older = [sheet for sheet in sheets if sheet.pupil and sheet.pupil.grade >= 7]
    again = [_again(dice, sheet) for sheet in older if sheet.pupil and sheet.pupil.manner == "doubled"]
    return Town(
        pupils=pupils,
        history=tuple(_past(dice, pupils)),
        files=(*older, *again, *_strangers(dice)),
        parents=tuple(sheet for sheet in sheets if sheet.pupil and sheet.pupil.grade < 7),
        online=tuple(_sheet(dice, pupil) for pupil in pupils if pupil.manner == "online"),
        unfinished=tuple(_sheet(dice, pupil) for pupil in pupils if pupil.manner == "unfinished"),
        doubled=frozenset(sheet.number for sheet in again),
    )


def _sheet(dice: Random, pupil: Pupil) -> Sheet:
    answers = _parents(dice, pupil) if pupil.grade < 7 else _own(dice, pupil)
    if pupil.manner == "blank":
        _leave_out(dice, answers)
    if pupil.manner == "spoiled":
        _spoil(dice, answers)
    number = f"99{pupil.number[2:]}" if pupil.manner == "mistyped" else pupil.number
    return Sheet(pupil.school_now, number, pupil.name, answers, pupil)


def _own(dice: Random, pupil: Pupil) -> dict[str, list[Cell]]:
    if pupil.manner == "careless":
        return _careless(dice)
    felt = pupil.distress - (2.2 if pupil.manner == "hides" else 0.0)
    phq9 = _answers(dice, felt, PHQ9)
    phq9[SELF_HARM] = 3 if pupil.is_in_danger else _graded(dice, felt, *_RARE, 1)[0]
    return {PHQ9: phq9, GAD7: _answers(dice, felt, GAD7)}


def _parents(dice: Random, pupil: Pupil) -> dict[str, list[Cell]]:
    """What a parent sees is close to what the child feels, not the same; in a first class the teacher answers too."""
    seen = pupil.distress + dice.gauss(0, 0.4)
    answers = {f"{PSC17}_parent": _answers(dice, seen, PSC17)}
    if pupil.class_name == "1班":
        seen = pupil.distress + dice.gauss(-0.2, 0.6)
        answers[f"{PSC17}_teacher"] = _answers(dice, seen, PSC17)
    return answers


def _careless(dice: Random) -> dict[str, list[Cell]]:
    """One answer down the page, or any answer at all; what is found among these is found by chance."""
    draw = dice.random()
    if draw < 0.9:
        same = 0 if draw < 0.65 else 1
        return {code: [same] * ITEMS[code] for code in (PHQ9, GAD7)}
    return {code: [dice.randrange(4) for _ in range(ITEMS[code])] for code in (PHQ9, GAD7)}


def _answers(dice: Random, felt: float, instrument: str) -> list[Cell]:
    return _graded(dice, felt, *_DIFFICULTY[instrument], ITEMS[instrument])


def _graded(dice: Random, felt: float, slope: float, steps: Sequence[float], items: int) -> list[Cell]:
    """Graded responses: each step up is harder to agree to."""
    reached = sorted(1 / (1 + math.exp(-slope * (felt - step))) for step in steps)
    return [len(reached) - bisect_right(reached, dice.random()) for _ in range(items)]


def _leave_out(dice: Random, answers: dict[str, list[Cell]]) -> None:
    """Some items of one form, or of all: an incomplete form is no form that says "nothing"."""
    forms = sorted(answers) if dice.random() < 0.3 else [dice.choice(sorted(answers))]
    for form in forms:
        for place in dice.sample(range(SELF_HARM if form == PHQ9 else SCORED[_instrument(form)]), 5):
            answers[form][place] = None


def _spoil(dice: Random, answers: dict[str, list[Cell]]) -> None:
    form = min(answers, key=lambda code: code != PHQ9)
    answers[form][dice.randrange(SELF_HARM)] = dice.choice(("好几天", "有时", 10))


def _again(dice: Random, sheet: Sheet) -> Sheet:
    """The same student a second time in the file, with other answers."""
    answers = {code: list(cells) for code, cells in sheet.answers.items()}
    answers[GAD7] = [(cell + 1) % 4 if isinstance(cell, int) else cell for cell in answers[GAD7]]
    return replace(sheet, answers=answers)


def _strangers(dice: Random) -> Iterator[Sheet]:
    """Rows about nobody on the roster, some with an answer that somebody has to see."""
    for place, worst in enumerate((0, 1, 0, 2)):
        phq9: list[Cell] = [dice.randrange(2) for _ in range(ITEMS[PHQ9])]
        phq9[SELF_HARM] = worst
        school = SCHOOLS[place].code
        gad7: list[Cell] = [dice.randrange(2) for _ in range(ITEMS[GAD7])]
        yield Sheet(school, f"8800{place:04d}", name(dice), {PHQ9: phq9, GAD7: gad7}, None)


def _past(dice: Random, pupils: Sequence[Pupil]) -> Iterator[Sheet]:
    """Half a year ago at two schools: related to how it is now, with a few reds of then."""
    were_there = [
        pupil
        for pupil in pupils
        if pupil.school in HISTORY_SCHOOLS and pupil.grade not in (7, 10) and pupil.has_consent and not pupil.is_late
    ]
    reds_then = {pupil.number for pupil in dice.sample(sorted(were_there, key=lambda p: -p.distress)[:40], 4)}
    for pupil in were_there:
        felt = 0.8 * pupil.distress + dice.gauss(0, 0.6)
        phq9 = _answers(dice, felt, PHQ9)
        phq9[SELF_HARM] = 3 if pupil.number in reds_then else _graded(dice, felt, *_RARE, 1)[0]
        gad7 = _answers(dice, felt, GAD7)
        yield Sheet(pupil.school, pupil.number, pupil.name, {PHQ9: phq9, GAD7: gad7}, pupil)
