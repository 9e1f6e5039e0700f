"""Made-up instruments, small ones, that together say everything the format can say."""

from instruments.definition import Instrument, parse

SEEN = 'seen = "source"\nsource = "made up"\n'
OURS = '{ rule = "none", seen = "ours", source = "made up" }'


def definition(
    code: str,
    *,
    answers: str,
    n_items: int,
    body: str,
    missing: str = OURS,
    reversed_items: tuple[int, ...] = (),
    extra: dict[int, str] | None = None,
    forms: str = "",
    top: str = "",
) -> str:
    """The text of a definition without wording: `answers` as TOML, `extra` adds lines to items by number."""
    items = "".join(
        f'[[items]]\nnumber = {n}\noptions = "answers"\n'
        + ("reversed = true\n" if n in reversed_items else "")
        + (extra or {}).get(n, "")
        + "\n"
        for n in range(1, n_items + 1)
    )
    return f"""
code = "{code}"
edition = "{code}_made_up"
version = "1"
construct = "made_up"
released = true
default_form = "self"
sources = ["made up"]
title = {{ en = "Made up" }}
missing = {missing}
{top}
[licence.en]
verdict = "STRUCTURE"
text = "no wording"
{SEEN}
[forms.self]
informant = "student"
min_age = 6
{SEEN}
{forms}
[options.answers]
answers = [{answers}]

{items}
{body}
"""


def codes(*values: int) -> str:
    return ", ".join(f"{{ code = {value} }}" for value in values)


def item_ids(code: str, *numbers: int) -> str:
    return "[" + ", ".join(f'"{code}_{number}"' for number in numbers) + "]"


def scale(name: str, items: str, method: str = "sum", rest: str = "") -> str:
    return f'[scales.{name}]\nmethod = "{method}"\nitems = {items}\n{rest}\n{SEEN}\n'


def made_of(name: str, parts: str, method: str = "sum", rest: str = "") -> str:
    return f'[scales.{name}]\nmethod = "{method}"\nof = {parts}\n{rest}\n{SEEN}\n'


def bands(scheme: str, table: str, *, is_primary: bool = False, forms: str = "[]") -> str:
    primary = "true" if is_primary else "false"
    return (
        f'[[band_schemes]]\nname = "{scheme}"\nprimary = {primary}\nforms = {forms}\npopulation = "made up"\n'
        f"{SEEN}{table}\n"
    )


TITLES = """
[band_titles]
low = { en = "Low" }
middle = { en = "Middle" }
high = { en = "High" }
"""

UNEVEN = definition("uneven", answers=codes(0, 1, 3, 5), n_items=4, body=scale("total", item_ids("uneven", 1, 2, 3, 4)))

# The sheet prints 1 for "all of the time" and 5 for "none"; what is stored is the score.
PRINTED = definition(
    "printed",
    answers=codes(0, 1, 2, 3, 4),
    n_items=3,
    body=scale("total", item_ids("printed", 1, 2, 3))
    + f"[layouts.sheet]\nitems = {item_ids('printed', 3, 1, 2)}\n"
    + "codes = { 1 = 4, 2 = 3, 3 = 2, 4 = 1, 5 = 0 }\n"
    + SEEN,
)

# The same sheet, stored as it is printed.
PRINTED_CODES = definition(
    "printedcodes",
    answers=", ".join(f"{{ code = {code}, score = {5 - code} }}" for code in range(1, 6)),
    n_items=3,
    body=scale("total", item_ids("printedcodes", 1, 2, 3)),
)

MEAN = definition(
    "mean",
    answers=codes(1, 2, 3, 4, 5),
    n_items=6,
    reversed_items=(2, 4, 6),
    body=scale("total", item_ids("mean", 1, 2, 3, 4, 5, 6), "mean", "high_is_good = true")
    + TITLES
    + bands(
        "standard",
        "[band_schemes.bands.total]\nlow = [1.0, 2.99]\nmiddle = [3.0, 4.30]\nhigh = [4.31, 5.0]",
        is_primary=True,
    ),
)

LINEAR = definition(
    "linear",
    answers=codes(0, 1, 2, 3, 4, 5),
    n_items=5,
    top='primary_scale = "percent"',
    body=scale("raw", item_ids("linear", 1, 2, 3, 4, 5))
    + made_of("percent", '["raw"]', "linear", "multiply = 4\nhigh_is_good = true")
    + made_of("tenth", '["raw"]', "linear", "multiply = 0.1\nadd = -1")
    + '[cut_offs.le50]\nscale = "percent"\nop = "<="\nvalue = 50\n'
    + SEEN
    + TITLES
    + bands("standard", "[band_schemes.bands.percent]\nlow = [0, 50]\nhigh = [51, 100]", is_primary=True),
)

PRORATED = definition(
    "prorated",
    answers=codes(0, 1, 2, 3),
    n_items=9,
    missing='{ rule = "prorate", max_blank = 2, rounding = "half_up", seen = "source", source = "made up" }',
    body=scale("total", item_ids("prorated", *range(1, 10)))
    + scale(
        "partial_raw",
        item_ids("prorated", *range(1, 10)),
        rest='missing = { rule = "blank_as_zero", seen = "source", source = "made up" }',
    )
    + scale("n_high", item_ids("prorated", *range(1, 10)), "count", "thresholds = { every = 2, prorated_9 = 1 }")
    + TITLES
    + bands("standard", "[band_schemes.bands.total]\nlow = [0, 4]\nmiddle = [5, 9]\nhigh = [10, 27]", is_primary=True)
    + bands("other", "[band_schemes.bands.total]\nlow = [0, 7]\nhigh = [8, 27]"),
)

STRENGTHS = definition(
    "strengths",
    answers=codes(0, 1, 2),
    n_items=10,
    reversed_items=(7,),
    missing='{ rule = "minimum_answered", minimum = 3, rounding = "half_up", seen = "source", source = "made up" }',
    forms=f'[forms.parent]\ninformant = "parent"\nmin_age = 4\nmax_age = 17\n{SEEN}',
    body=scale("worry", item_ids("strengths", 1, 2, 3, 4, 5))
    + scale("anger", item_ids("strengths", 6, 7, 8, 9, 10))
    + made_of("total", '["worry", "anger"]')
    + TITLES
    + bands(
        "uk",
        "[band_schemes.bands.worry]\nlow = [0, 5]\nmiddle = [6, 6]\nhigh = [7, 10]\n"
        "[band_schemes.bands.total]\nlow = [0, 13]\nhigh = [14, 20]",
        is_primary=True,
        forms='["self"]',
    )
    + bands(
        "uk",
        "[band_schemes.bands.worry]\nlow = [0, 3]\nmiddle = [4, 4]\nhigh = [5, 10]",
        is_primary=True,
        forms='["parent"]',
    )
    + bands("shanghai", "[band_schemes.bands.worry]\nlow = [0, 4]\nmiddle = [5, 5]\nhigh = [6, 10]"),
)

LYING = definition(
    "lying",
    answers=codes(0, 1),
    n_items=8,
    body=scale("total", item_ids("lying", 1, 2, 3, 4, 5))
    + scale("lie", item_ids("lying", 6, 7, 8))
    + f'[validity.lie_high]\nscale = "lie"\nop = ">="\nvalue = 3\nverdict = "invalid"\n{SEEN}'
    + f'[validity.lie_some]\nscale = "lie"\nop = ">="\nvalue = 2\nverdict = "suspect"\n{SEEN}'
    + f'[critical.despair]\nitem = "lying_5"\nop = ">="\nvalue = 1\nkind = "self_harm"\n{SEEN}'
    + '[quality]\ncontradictory = [["lying_1", "lying_2"]]\n'
    + '[[quality.instructed]]\nitem = "lying_3"\ncode = 1\n',
)

# Four questions, and a fifth only after a yes; a refusal is treated as a yes.
ASKED = definition(
    "asked",
    answers=codes(0, 1),
    n_items=5,
    top='primary_scale = "n_yes"',
    extra={5: f"asked_if = {{ any_of = {item_ids('asked', 1, 2, 3, 4)}, at_least = 1 }}\n"},
    body=scale(
        "n_yes",
        item_ids("asked", 1, 2, 3, 4),
        rest='missing = { rule = "blank_as_zero", seen = "source", source = "made up" }',
    )
    + "[derived.positive]\nall_of = [{ any_of = ["
    + ", ".join(f'"asked_{n}"' for n in range(1, 6))
    + f"], blank_counts = true }}]\n{SEEN}"
    + f"[derived.two_yes]\nall_of = [{{ any_of = {item_ids('asked', 1, 2, 3, 4)}, at_least = 2 }}]\n{SEEN}"
    + f'[critical.now]\nitem = "asked_5"\nop = "=="\nvalue = 1\nkind = "imminent"\n{SEEN}',
)

# No use in item 1: only item 2 is asked of the rest.
SKIPPING = definition(
    "skipping",
    answers=codes(0, 1),
    n_items=4,
    extra=dict.fromkeys((3, 4), 'asked_if = { any_of = ["skipping_1"] }\n'),
    body=scale("total", item_ids("skipping", 2, 3, 4)),
)

# As the CRAFFT: three questions on days of use, then six of which the last five are asked of those with any use.
USING = definition(
    "using",
    answers=codes(*range(8)),
    n_items=9,
    extra={
        **{n: f"asked_if = {{ any_of = {item_ids('using', 1, 2, 3)} }}\n" for n in range(5, 10)},
    },
    top='primary_scale = "n_yes"',
    body=scale(
        "n_yes",
        item_ids("using", *range(4, 10)),
        "count",
        "thresholds = { every = 1 }",
    )
    + f'[cut_offs.ge2]\nscale = "n_yes"\nop = ">="\nvalue = 2\n{SEEN}'
    + f"[derived.any_use]\nall_of = [{{ any_of = {item_ids('using', 1, 2, 3)} }}]\n{SEEN}",
)

# One scale cut in four ways: for everybody, for girls, for boys, for the youngest.
CUT = definition(
    "cut",
    answers=codes(0, 1, 2),
    n_items=2,
    body=scale("total", item_ids("cut", 1, 2))
    + TITLES
    + bands("whole", "[band_schemes.bands.total]\nlow = [0, 2]\nhigh = [3, 4]", is_primary=True)
    + bands("girls", "[band_schemes.bands.total]\nlow = [0, 1]\nhigh = [2, 4]").replace("forms = []", 'sex = "f"')
    + bands("boys", "[band_schemes.bands.total]\nlow = [0, 3]\nhigh = [4, 4]").replace("forms = []", 'sex = "m"')
    + bands("young", "[band_schemes.bands.total]\nlow = [0, 0]\nhigh = [1, 4]").replace(
        "forms = []", "min_age = 6\nmax_age = 9"
    ),
)

# Scores that are no straight line over the codes, and an optional item that has a scale of its own.
CROOKED = definition(
    "crooked",
    answers="{ code = 1, score = 0 }, { code = 2, score = 2 }, { code = 3, score = 3 }",
    n_items=4,
    reversed_items=(2,),
    extra={4: "scored = false\n"},
    body=scale("total", item_ids("crooked", 1, 2, 3), rest="")
    + scale("burden", item_ids("crooked", 4))
    + f'[cut_offs.burdened]\nscale = "burden"\nop = ">"\nvalue = 2\nmarks = "impairment"\n{SEEN}',
)

# Sixty items of twenty points: keys beyond 16 bits.
WIDE = definition(
    "wide",
    answers=codes(*range(21)),
    n_items=60,
    missing='{ rule = "prorate", max_blank = 30, rounding = "half_up", seen = "source", source = "made up" }',
    body=scale("total", item_ids("wide", *range(1, 61)))
    + scale("half", item_ids("wide", *range(1, 31)), "mean", f"missing = {OURS}"),
)

EVERYTHING: dict[str, Instrument] = {
    instrument.code: instrument
    for instrument in (
        parse(text, "made up")
        for text in (
            UNEVEN,
            PRINTED,
            PRINTED_CODES,
            MEAN,
            LINEAR,
            PRORATED,
            STRENGTHS,
            LYING,
            ASKED,
            SKIPPING,
            USING,
            CUT,
            CROOKED,
            WIDE,
        )
    )
}
