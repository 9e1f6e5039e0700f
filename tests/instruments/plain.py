"""A second scorer in plain Python, from the tables of facts alone: slow, obvious, and no part of the product."""

import random
from collections.abc import Iterator, Mapping
from fractions import Fraction

from tests.instruments.facts import Facts, Numbers

Form = dict[int, int | None]
"""Printed number -> code, None for a blank."""


def score(facts: Facts, form: str, answers: Mapping[int, int | None]) -> dict[str, object]:
    """Every column that the facts speak of, by its name."""
    items = range(1, facts.n_items + 1)
    due = [n for n in items if answers[n] is None]
    if facts.primary == "result" and not _asks_fifth(answers) and 5 in due:
        due.remove(5)
    broken = any(answers[n] is not None and answers[n] not in facts.codes for n in items)
    found: dict[str, object] = {"n_missing": len(due)}
    scales = _scales(facts, answers, len(due)) if not broken else dict.fromkeys(_names(facts))
    found |= scales
    found["status"] = "out_of_range" if broken else _status(facts, answers, scales, len(due))
    for column, forms in facts.bands.items():
        named = forms.get(form, forms.get(""))
        value = scales[column.partition("_band")[0]]
        if named is not None:
            found[column] = None if value is None else next(name for name, last in named if value <= Fraction(last))
    for name, (scale, op, limit) in {**facts.cuts, **facts.doubts}.items():
        if form in facts.cuts_of_form.get(name, (form,)):
            value = scales[scale]
            found[name] = None if value is None else _holds(value, op, limit)
    for name, (item, op, limit) in facts.critical.items():
        code = answers.get(item)
        known = facts.optional.get(item, facts.codes)
        found[f"critical_{name}"] = code is not None and code in known and _holds(code, op, limit)
    found["critical_blank"] = _critical_blank(facts, answers, due)
    if facts.primary == "result":
        found |= _asq(answers, broken)
    if facts.has_syndromes:
        found |= _syndromes(answers, scales["n_symptoms"])
    return found


def _names(facts: Facts) -> list[str]:
    parts = (facts.sums, facts.means, facts.counts, facts.partial, facts.of, facts.linear)
    return [*(name for part in parts for name in part), *(["result"] if facts.primary == "result" else [])]


def _scales(facts: Facts, answers: Mapping[int, int | None], n_blank: int) -> dict[str, Fraction | int | None]:
    low, high = min(facts.codes), max(facts.codes)
    scores = {
        n: None if (code := answers[n]) is None else low + high - code if n in facts.reversed else code
        for n in range(1, facts.n_items + 1)
    }
    found: dict[str, Fraction | int | None] = {}
    for name, numbers in facts.sums.items():
        found[name] = _sum(facts, [scores[n] for n in numbers], n_blank)
    for name, numbers in facts.means.items():
        total = _sum(facts, [scores[n] for n in numbers], n_blank)
        found[name] = None if total is None else Fraction(total, len(numbers))
    for name, thresholds in facts.counts.items():
        reached = [None if scores[n] is None else int((scores[n] or 0) >= t) for n, t in thresholds.items()]
        found[name] = _sum(facts, reached, n_blank)
    for name, numbers in facts.partial.items():
        found[name] = sum(scores[n] or 0 for n in numbers)
    for name, parts in facts.of.items():
        values = [found[part] for part in parts]
        found[name] = None if None in values else sum(value for value in values if value is not None)
    for name, (part, times, plus) in facts.linear.items():
        value = found[part]
        found[name] = None if value is None else value * times + plus
    return found


def _sum(facts: Facts, scores: list[int | None], n_blank: int) -> int | None:
    there = [score for score in scores if score is not None]
    rule, limit = facts.blanks
    if rule == "zero":
        return sum(there) if n_blank < limit else None
    blank = len(scores) - len(there)
    if blank and (rule == "none" or not there or (rule == "prorate" and blank > limit)):
        return None
    if rule == "minimum" and len(there) < limit:
        return None
    # to the nearest whole number, a half upwards
    return int((Fraction(sum(there) * len(scores), len(there)) + Fraction(1, 2)) // 1) if blank else sum(there)


def _status(
    facts: Facts, answers: Mapping[int, int | None], scales: Mapping[str, Fraction | int | None], n_blank: int
) -> str:
    rule, limit = facts.blanks
    if rule == "zero":
        return "invalid" if n_blank >= limit else "scored_blanks_as_0" if n_blank else "scored"
    if facts.primary != "result" and scales[facts.primary] is None:
        return "not_scorable"
    made_up = any(scales[name] is not None and any(answers[n] is None for n in ns) for name, ns in facts.sums.items())
    return "prorated" if made_up and rule != "none" else "scored"


def _critical_blank(facts: Facts, answers: Mapping[int, int | None], due: list[int]) -> bool:
    items = {item for item, _, _ in facts.critical.values()}
    further = [answers.get(item) for item in items if item in facts.optional]
    is_half = None in further and any(answer is not None for answer in further)
    is_answered = any(answers[n] is not None for n in range(1, facts.n_items + 1))
    return is_answered and (bool(items & set(due)) or is_half)


def _asks_fifth(answers: Mapping[int, int | None]) -> bool:
    return any(answers[n] in (None, 1) for n in (1, 2, 3, 4))


def _asq(answers: Mapping[int, int | None], broken: bool) -> dict[str, object]:
    if broken:
        return {"result": None, "result_band": None, "positive": None}
    if answers[5] == 1:
        word = "acute_positive"
    elif not _asks_fifth(answers):
        word = "negative"
    else:
        word = "non_acute_positive" if answers[5] == 0 else "positive_q5_unanswered"
    level = ("negative", "non_acute_positive", "positive_q5_unanswered", "acute_positive").index(word)
    return {"result": level, "result_band": word, "positive": word != "negative"}


def _syndromes(answers: Mapping[int, int | None], n_symptoms: Fraction | int | None) -> dict[str, object]:
    if n_symptoms is None:
        return {"major_depressive_syndrome": None, "other_depressive_syndrome": None}
    has_core = any((answers[n] or 0) >= 2 for n in (1, 2))
    return {
        "major_depressive_syndrome": has_core and n_symptoms >= 5,
        "other_depressive_syndrome": has_core and 2 <= n_symptoms <= 4,
    }


def _holds(value: Fraction | int, op: str, limit: int) -> bool:
    return {">=": value >= limit, ">": value > limit, "<=": value <= limit, "==": value == limit}[op]


# -- answers that tell rules apart ----------------------------------------------------------------------


def forms(facts: Facts, seed: int, n_random: int = 120) -> Iterator[Form]:
    """Forms at every edge: one item alone, each scale swept from end to end, blanks by number and place, bad codes."""
    items = range(1, facts.n_items + 1)
    low, high = min(facts.codes), max(facts.codes)
    rest: dict[int, int | None] = dict.fromkeys(facts.optional)
    quiet = {n: high if n in facts.reversed else low for n in items}
    loud = {n: low if n in facts.reversed else high for n in items}
    for code in facts.codes:
        yield {**dict.fromkeys(items, code), **rest}
    yield {**dict.fromkeys(items), **rest}
    for base in (quiet, loud):
        yield {**base, **rest}
        for n in items:
            for answer in (*facts.codes, None, high + 1, low - 1):
                yield {**base, n: answer, **rest}
    for n, codes in facts.optional.items():
        for further in (*codes, max(codes) + 1):
            yield {**quiet, **rest, n: further}
    for numbers in _groups(facts):
        yield from ({**swept, **rest} for swept in _sweep(facts, quiet, numbers, ()))
        most = 1 if facts.blanks[0] == "none" else min(6, len(numbers))
        for n_blank in range(1, most):
            for blanks in (numbers[:n_blank], numbers[-n_blank:]):
                yield from ({**swept, **rest} for swept in _sweep(facts, quiet, numbers, blanks))
    draw = random.Random(seed)  # noqa: S311 - made-up answers
    for _ in range(n_random):
        share = draw.choice((0.0, 0.0, 0.02, 0.1, 0.4))
        form: Form = {n: None if draw.random() < share else draw.choice(facts.codes) for n in items}
        yield form | {n: draw.choice((None, *codes)) for n, codes in facts.optional.items()}


def _groups(facts: Facts) -> list[Numbers]:
    """The items of each scale, and those of each scale made of scales."""
    whole = {**facts.sums, **facts.means, **facts.partial}
    made = [tuple(n for part in parts for n in whole[part]) for parts in facts.of.values()]
    return list(dict.fromkeys([*whole.values(), *made]))


def _sweep(facts: Facts, quiet: Mapping[int, int], numbers: Numbers, blanks: Numbers) -> Iterator[Form]:
    """The scale's score from its lowest to its highest, a point at a time."""
    form: Form = {n: None if n in blanks else code for n, code in quiet.items()}
    yield dict(form)
    for n in (n for n in numbers if n not in blanks):
        steps = reversed(facts.codes[:-1]) if n in facts.reversed else facts.codes[1:]
        for code in steps:
            form[n] = code
            yield dict(form)
