"""The published facts of every instrument as plain tables, written by hand and apart from the definitions.

Items are printed numbers. What a definition says is held against these tables by `tests.instruments.plain`, a scorer
that knows nothing of the engine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Numbers = tuple[int, ...]
Bands = tuple[tuple[str, float], ...]
"""(name, last score of the band), low first."""


@dataclass(frozen=True)
class Facts:
    """`blanks`: none, or (prorate, most blanks), (minimum, answered per scale), (zero, blanks that void the form)."""

    n_items: int
    codes: Numbers
    sums: Mapping[str, Numbers]
    reversed: Numbers = ()
    means: Mapping[str, Numbers] = field(default_factory=dict)
    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    linear: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    has_syndromes: bool = False
    """PHQ-9: major is a core symptom (1 or 2, from 2 on) and five in all, other is a core symptom and two to four."""
    partial: Mapping[str, Numbers] = field(default_factory=dict)
    blanks: tuple[str, int] = ("none", 0)
    primary: str = "total"
    bands: Mapping[str, Mapping[str, Bands]] = field(default_factory=dict)
    """Column -> form ("" for every form) -> bands."""
    cuts: Mapping[str, tuple[str, str, int]] = field(default_factory=dict)
    cuts_of_form: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Cut-offs that stand in some forms only."""
    critical: Mapping[str, tuple[int, str, int]] = field(default_factory=dict)
    optional: Mapping[int, Numbers] = field(default_factory=dict)
    doubts: Mapping[str, tuple[str, str, int]] = field(default_factory=dict)
    layouts: Mapping[str, Numbers] = field(default_factory=dict)
    printed: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Layout -> printed code -> score before any reversing."""
    mirrored: Mapping[str, Numbers] = field(default_factory=dict)
    forms: tuple[str, ...] = ("self",)


def upto(n: int) -> Numbers:
    return tuple(range(1, n + 1))


def through(first: int, last: int, step: int = 1) -> Numbers:
    return tuple(range(first, last + 1, step))


def bands(*named: tuple[str, float]) -> Mapping[str, Bands]:
    return {"": named}


_PHQ = bands(("none_minimal", 4), ("mild", 9), ("moderate", 14), ("moderately_severe", 19), ("severe", 27))
_MHT = {
    "study_anxiety": through(1, 15),
    "social_anxiety": through(16, 25),
    "loneliness": through(26, 35),
    "self_blame": through(36, 45),
    "oversensitivity": through(46, 55),
    "physical_symptoms": through(56, 70),
    "phobia": through(71, 80),
    "impulsivity": through(81, 99, 2),
}
_MSSMHS = {
    "obsessive": (3, 10, 12, 22, 23, 48),
    "paranoid": (11, 20, 24, 26, 47, 49),
    "hostility": (19, 21, 25, 50, 52, 58),
    "interpersonal": (4, 17, 18, 45, 51, 59),
    "depression": (5, 13, 14, 16, 44, 57),
    "anxiety": (6, 15, 34, 43, 46, 56),
    "study_pressure": (31, 33, 36, 38, 40, 55),
    "maladjustment": (1, 8, 9, 29, 39, 41),
    "mood_swings": (2, 7, 27, 32, 35, 53),
    "psych_imbalance": (28, 30, 37, 42, 54, 60),
}
_SEVERITY = bands(("none", 1.9999), ("mild", 2.9999), ("moderate", 3.9999), ("fairly_severe", 4.9999), ("severe", 5))
_SDQ = ("total", "emotional", "conduct", "hyperactivity", "peer", "prosocial")


def _three(*edges: tuple[float, float]) -> dict[str, Bands]:
    """Edges of the five difficulty scales (last normal, last borderline) and of prosocial (last abnormal, ..)."""
    words = ("normal", "borderline", "abnormal")
    named = {
        s: tuple(zip(words, (*e, 40 if s == "total" else 10), strict=True)) for s, e in zip(_SDQ, edges, strict=True)
    }
    return named | {"prosocial": tuple(zip(reversed(words), (*edges[5], 10), strict=True))}


def _four(*edges: tuple[float, float, float]) -> dict[str, Bands]:
    words = ("close_to_average", "slightly_raised", "high", "very_high")
    low = ("very_low", "low", "slightly_lowered", "close_to_average")
    named = {
        s: tuple(zip(words, (*e, 40 if s == "total" else 10), strict=True)) for s, e in zip(_SDQ, edges, strict=True)
    }
    return named | {"prosocial": tuple(zip(low, (*edges[5], 10), strict=True))}


_SDQ_SCHEMES: dict[str, dict[str, dict[str, Bands]]] = {
    "cn2008": {
        "self": _three((14, 17), (4, 5), (3, 4), (5, 6), (4, 5), (4, 5)),
        "parent": _three((14, 16), (3, 4), (2, 3), (6, 7), (4, 5), (4, 5)),
        "teacher": _three((13, 17), (3, 4), (2, 3), (6, 8), (4, 5), (3, 4)),
    },
    "uk3": {
        "self": _three((15, 19), (5, 6), (3, 4), (5, 6), (3, 5), (4, 5)),
        "parent": _three((13, 16), (3, 4), (2, 3), (5, 6), (2, 3), (4, 5)),
        "teacher": _three((11, 15), (4, 5), (2, 3), (5, 6), (3, 4), (4, 5)),
    },
    "uk4": {
        "self": _four((14, 17, 19), (4, 5, 6), (3, 4, 5), (5, 6, 7), (2, 3, 4), (4, 5, 6)),
        "parent": _four((13, 16, 19), (3, 4, 6), (2, 3, 5), (5, 7, 8), (2, 3, 4), (5, 6, 7)),
        "teacher": _four((11, 15, 18), (3, 4, 5), (2, 3, 4), (5, 7, 8), (2, 4, 5), (3, 4, 5)),
    },
}


def _sdq_bands() -> dict[str, Mapping[str, Bands]]:
    found: dict[str, dict[str, Bands]] = {}
    for scheme, forms in _SDQ_SCHEMES.items():
        for form, scales in forms.items():
            for scale, named in scales.items():
                found.setdefault(f"{scale}_band__{scheme}", {})[form] = named
                if scheme == "cn2008":
                    found.setdefault(f"{scale}_band", {})[form] = named
    return dict(found)


def _edges(scales: Iterable[str], op: str, value: int) -> dict[str, tuple[str, str, int]]:
    return {f"{scale}_ge{value}": (scale, op, value) for scale in scales}


FACTS: Mapping[str, Facts] = {
    "phq9": Facts(
        9,
        (0, 1, 2, 3),
        {"total": upto(9)},
        counts={"n_symptoms": dict.fromkeys(upto(8), 2) | {9: 1}},
        has_syndromes=True,
        bands={"total_band": _PHQ},
        cuts={"ge10": ("total", ">=", 10), "ge11_adolescent": ("total", ">=", 11)},
        critical={"self_harm": (9, ">=", 1), "self_harm_daily": (9, "==", 3)},
        optional={10: (0, 1, 2, 3)},
        layouts={"official": upto(10)},
    ),
    "phqa": Facts(
        9,
        (0, 1, 2, 3),
        {"total": upto(9)},
        partial={"partial_raw": upto(9)},
        blanks=("prorate", 2),
        bands={"total_band": _PHQ},
        cuts={"ge10": ("total", ">=", 10), "ge11_adolescent": ("total", ">=", 11)},
        critical={
            "self_harm": (9, ">=", 1),
            "self_harm_daily": (9, "==", 3),
            "thoughts_past_month": (12, "==", 1),
            "attempt_ever": (13, "==", 1),
        },
        optional={10: (0, 1), 11: (0, 1, 2, 3), 12: (0, 1), 13: (0, 1)},
        layouts={"official": upto(13)},
    ),
    "phq4": Facts(
        4,
        (0, 1, 2, 3),
        {"total": upto(4), "gad2": (1, 2), "phq2": (3, 4)},
        bands={"total_band": bands(("normal", 2), ("mild", 5), ("moderate", 8), ("severe", 12))},
        cuts={"gad2_ge3": ("gad2", ">=", 3), "phq2_ge3": ("phq2", ">=", 3)},
        layouts={"official": upto(4)},
    ),
    "gad7": Facts(
        7,
        (0, 1, 2, 3),
        {"total": upto(7)},
        bands={"total_band": bands(("minimal", 4), ("mild", 9), ("moderate", 14), ("severe", 21))},
        cuts={"ge10": ("total", ">=", 10), "ge7_hong_kong": ("total", ">=", 7)},
        layouts={"official": upto(7)},
    ),
    "k6": Facts(
        6,
        (0, 1, 2, 3, 4),
        {"total": upto(6)},
        bands={"total_band": bands(("below_13", 12), ("ge13_serious", 24))},
        cuts={"ge8": ("total", ">=", 8), "ge13": ("total", ">=", 13)},
        layouts={"official": upto(6), "printed": upto(6)},
        printed={"printed": {1: 4, 2: 3, 3: 2, 4: 1, 5: 0}},
    ),
    "psc17": Facts(
        17,
        (0, 1, 2),
        {
            "internalizing": (2, 6, 9, 11, 15),
            "attention": (1, 3, 7, 13, 17),
            "externalizing": (4, 5, 8, 10, 12, 14, 16),
            "total": upto(17),
        },
        blanks=("zero", 4),
        cuts={
            "internalizing_ge5": ("internalizing", ">=", 5),
            "attention_ge7": ("attention", ">=", 7),
            "externalizing_ge7": ("externalizing", ">=", 7),
            "total_ge15": ("total", ">=", 15),
            "total_ge17_china_teacher": ("total", ">=", 17),
        },
        cuts_of_form={"total_ge17_china_teacher": ("teacher",)},
        layouts={
            "gardner_kelleher": upto(17),
            "by_subscale": (2, 6, 9, 15, 11, 1, 3, 17, 7, 13, 8, 12, 5, 14, 10, 4, 16),
        },
        forms=("parent", "youth", "teacher"),
    ),
    "who5": Facts(
        5,
        (0, 1, 2, 3, 4, 5),
        {"raw": upto(5)},
        linear={"percent": ("raw", 4, 0)},
        primary="percent",
        bands={"percent_band": bands(("low", 50), ("adequate", 100))},
        cuts={"le50": ("percent", "<=", 50), "le28": ("percent", "<=", 28)},
        layouts={"official": upto(5)},
    ),
    "rses": Facts(
        10,
        (0, 1, 2, 3),
        {"total": upto(10)},
        reversed=(3, 5, 8, 9, 10),
        linear={"total_1to4_coding": ("total", 1, 10)},
        bands={"total_band": bands(("low", 14), ("normal", 25), ("high", 30))},
        layouts={
            "order_a": upto(10),
            "order_b": (7, 10, 2, 4, 5, 9, 1, 8, 3, 6),
            "order_a_1to4": upto(10),
            "order_b_1to4": (7, 10, 2, 4, 5, 9, 1, 8, 3, 6),
            "order_a_item8_as_written": upto(10),
        },
        printed={name: {1: 0, 2: 1, 3: 2, 4: 3} for name in ("order_a_1to4", "order_b_1to4")},
        mirrored={"order_a_item8_as_written": (8,)},
    ),
    "cesd": Facts(
        20,
        (0, 1, 2, 3),
        {"total": upto(20)},
        reversed=(4, 8, 12, 16),
        cuts={"ge16": ("total", ">=", 16)},
        layouts={"official": upto(20)},
    ),
    "cesdc": Facts(
        20,
        (0, 1, 2, 3),
        {"total": upto(20)},
        reversed=(4, 8, 12, 16),
        cuts={"ge15": ("total", ">=", 15), "gt15": ("total", ">", 15)},
        layouts={"official": upto(20)},
    ),
    "asq": Facts(
        5,
        (0, 1),
        {},
        partial={"yes_1to4": upto(4)},
        primary="result",
        critical={
            "wish_dead": (1, "==", 1),
            "better_off_dead": (2, "==", 1),
            "thoughts": (3, "==", 1),
            "attempt_ever": (4, "==", 1),
            "thoughts_now": (5, "==", 1),
        },
        layouts={"official": upto(5)},
    ),
    "mht": Facts(
        100,
        (0, 1),
        _MHT | {"lie": through(82, 100, 2)},
        of={"total": tuple(_MHT)},
        bands={f"{s}_band": bands(("low", 3), ("middle", 7), ("high", len(items))) for s, items in _MHT.items()},
        cuts={"total_ge56": ("total", ">=", 56), "total_ge65": ("total", ">=", 65), "total_gt65": ("total", ">", 65)}
        | _edges(_MHT, ">=", 8),
        critical={"self_harm_85": (85, "==", 1), "self_harm_97": (97, "==", 1)},
        doubts={"lie_ge7": ("lie", ">=", 7)},
        layouts={"official": upto(100)},
    ),
    "mssmhs": Facts(
        60,
        (1, 2, 3, 4, 5),
        {f"{factor}_sum": items for factor, items in _MSSMHS.items()} | {"total_sum": upto(60)},
        means=_MSSMHS | {"total_mean": upto(60)},
        primary="total_mean",
        bands=dict.fromkeys((f"{s}_band" for s in (*_MSSMHS, "total_mean")), _SEVERITY),
        cuts=_edges((*_MSSMHS, "total_mean"), ">=", 2),
        critical={"self_harm": (57, ">=", 2), "harm_to_others": (52, ">=", 2)},
        layouts={"official": upto(60)},
    ),
    "scared": Facts(
        41,
        (0, 1, 2),
        {
            "panic_somatic": (1, 6, 9, 12, 15, 18, 19, 22, 24, 27, 30, 34, 38),
            "generalized": (5, 7, 14, 21, 23, 28, 33, 35, 37),
            "separation": (4, 8, 13, 16, 20, 25, 29, 31),
            "social": (3, 10, 26, 32, 39, 40, 41),
            "school": (2, 11, 17, 36),
            "total": upto(41),
        },
        cuts={
            "panic_somatic_ge7": ("panic_somatic", ">=", 7),
            "generalized_ge9": ("generalized", ">=", 9),
            "separation_ge5": ("separation", ">=", 5),
            "social_ge8": ("social", ">=", 8),
            "school_ge3": ("school", ">=", 3),
            "total_ge25": ("total", ">=", 25),
            "total_gt30": ("total", ">", 30),
            "total_ge23_china": ("total", ">=", 23),
        },
        cuts_of_form={"total_ge23_china": ("self",)},
        layouts={"official": upto(41)},
        forms=("self", "parent"),
    ),
    "smfq": Facts(
        13,
        (0, 1, 2),
        {"total": upto(13)},
        cuts={
            "parent_ge12": ("total", ">=", 12),
            "ge8_angold_1995": ("total", ">=", 8),
            "ge12_nz_2018": ("total", ">=", 12),
        },
        cuts_of_form={"parent_ge12": ("parent",), "ge8_angold_1995": ("self",), "ge12_nz_2018": ("self",)},
        layouts={"official": upto(13)},
        forms=("self", "parent"),
    ),
    "sdq": Facts(
        25,
        (0, 1, 2),
        {
            "emotional": (3, 8, 13, 16, 24),
            "conduct": (5, 7, 12, 18, 22),
            "hyperactivity": (2, 10, 15, 21, 25),
            "peer": (6, 11, 14, 19, 23),
            "prosocial": (1, 4, 9, 17, 20),
        },
        reversed=(7, 11, 14, 21, 25),
        of={
            "total": ("emotional", "conduct", "hyperactivity", "peer"),
            "internalizing": ("emotional", "peer"),
            "externalizing": ("conduct", "hyperactivity"),
        },
        blanks=("minimum", 3),
        bands=_sdq_bands(),
        layouts={"official": upto(25)},
        forms=("self", "parent", "teacher"),
    ),
    "ais": Facts(
        8,
        (0, 1, 2, 3),
        {"total": upto(8)},
        bands={"total_band__okajima2020": bands(("absent", 5), ("mild", 9), ("moderate", 15), ("severe", 24))},
        cuts={"ge6": ("total", ">=", 6), "ge7_hong_kong_12to19": ("total", ">=", 7)},
        layouts={"official": upto(8)},
    ),
    "brs": Facts(
        6,
        (1, 2, 3, 4, 5),
        {"sum": upto(6)},
        reversed=(2, 4, 6),
        means={"mean": upto(6)},
        primary="mean",
        bands={"mean_band": bands(("low", 17 / 6), ("normal", 25 / 6), ("high", 5))},
        layouts={"official": upto(6)},
    ),
    "audit_c": Facts(3, (0, 1, 2, 3, 4), {"total": upto(3)}, layouts={"official": upto(3)}),
}
