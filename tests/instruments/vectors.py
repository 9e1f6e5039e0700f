"""The published scoring vectors: read from their file, and put into the names of our forms, layouts and columns."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[2] / ".." / "shared" / "reference" / "scoring_vectors.json"
STATUS = {"invalid_too_many_blank": "invalid", "error_out_of_range": "out_of_range"}
LAYOUTS = {"orderA": None, "orderB": "order_b", "orderA+item8_as_written": "order_a_item8_as_written"}

Vector = dict[str, Any]


@cache
def by_code() -> dict[str, list[Vector]]:
    """Every instrument's vectors; nothing where the shared folder is absent."""
    if not VECTORS.exists():
        return {}
    everything = json.loads(VECTORS.read_text(encoding="utf-8"))["instruments"]
    return {code: list(content["vectors"]) for code, content in everything.items()}


def groups(code: str) -> dict[tuple[str | None, str | None], list[Vector]]:
    """An instrument's vectors by (form, layout), None for the default of each."""
    found: dict[tuple[str | None, str | None], list[Vector]] = {}
    for vector in by_code()[code]:
        variant = vector.get("variant")
        place = (None, LAYOUTS[variant]) if variant in LAYOUTS else (variant, None)
        found.setdefault(place, []).append(vector)
    return found


def printed(code: str, vector: Vector) -> dict[str, int | None]:
    """The answers by printed number, as a file would have them."""
    return {f"{code}_{number}": answer for number, answer in vector["answers"].items()}


def expected(code: str, vector: Vector) -> dict[str, object]:
    """What the vector expects, by the names of our columns; `critical` and `blank` are sets of item ids.

    Names ending in _from_memory are ours without the ending: there the definition says `confirm`.
    """
    told = vector["expected"]
    wanted: dict[str, object] = {"status": STATUS.get(told["status"], told["status"])}
    if "n_missing" in told:
        wanted["n_missing"] = told["n_missing"]
    for part in ("scores", "algorithm"):
        wanted |= told.get(part, {})
    wanted |= {f"{name}_sum": value for name, value in told.get("sums", {}).items()}
    for name, value in told.get("cutoffs", {}).items():
        wanted |= _cut_off(code, name, value)
    for name, value in told.get("bands", {}).items():
        wanted |= _band(name, value)
    if "validity" in told:
        verdict = told["validity"]["verdict"]
        wanted |= {"lie": told["validity"]["lie"], "lie_ge7": None if verdict is None else verdict != "ok"}
    if "flags" in told:
        wanted |= _critical(code, told["flags"])
    return wanted


def _cut_off(code: str, name: str, value: Any) -> dict[str, object]:
    if not isinstance(value, list):
        return {_plain(name): value}
    edge = name.rpartition("_")[2]  # scales_ge8, factors_ge2: those that reach it
    names = {"mht": MHT_SCALES, "mssmhs": MSSMHS_FACTORS}[code]
    return {f"{scale}_{edge}": True for scale in value} | {
        f"{scale}_{edge}": (False, None) for scale in names if scale not in value
    }


def _band(name: str, value: Any) -> dict[str, object]:
    if isinstance(value, dict):
        return {f"{scale}_band__{_plain(name)}": band for scale, band in value.items()}
    scale, _, scheme = name.partition("_okajima")
    return {f"{scale}_band__okajima{scheme}" if scheme else f"{name}_band": value}


def _critical(code: str, flags: list[str]) -> dict[str, object]:
    if code == "asq":
        return {"positive": "critical" in flags, "critical_thoughts_now": "imminent" in flags}
    items = {f"{code}_{m[2]}" for flag in flags if (m := re.fullmatch(r"(critical|attention):(\d+)", flag))}
    blank = any(flag.startswith("policy:critical_item_blank") for flag in flags)
    return {"critical": items, "critical_blank": blank}


def _plain(name: str) -> str:
    return name.removesuffix("_from_memory")


MHT_SCALES = (
    "study_anxiety",
    "social_anxiety",
    "loneliness",
    "self_blame",
    "oversensitivity",
    "physical_symptoms",
    "phobia",
    "impulsivity",
)
MSSMHS_FACTORS = (
    "obsessive",
    "paranoid",
    "hostility",
    "interpersonal",
    "depression",
    "anxiety",
    "study_pressure",
    "maladjustment",
    "mood_swings",
    "psych_imbalance",
)
