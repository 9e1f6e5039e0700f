"""Whether a policy holds for the instruments that a round asks: every name there, every self-harm item heard."""

from collections.abc import Iterator, Mapping

from instruments.definition import Instrument
from screening import expressions
from screening.errors import Problem
from screening.expressions import TIERS, Leaf, Signal
from screening.policy.parts import Policy


def check(policy: Policy, instruments: Mapping[str, Instrument]) -> list[Problem]:
    """What is wrong with this policy for these instruments (by code): `column` holds the place in the policy.

    Every name in a rule must exist in its instrument. A rule whose instrument is not among them is inert and no
    problem; an instrument's self-harm item that no rule raises to orange or red is one.
    """
    found = []
    for index, rule in enumerate(policy.rules):
        for leaf in expressions.leaves(rule.when):
            if leaf.instrument in instruments:
                for message in _unknown(leaf, instruments[leaf.instrument]):
                    found.append(Problem("unknown_name", message, column=f"rules[{index}].when"))
    return [*found, *_unheard(policy, instruments)]


def forms_of(instrument: Instrument, informant: str | None) -> tuple[str, ...]:
    """The instrument's forms that this informant fills in, or the form of that name; all of them for None."""
    return tuple(name for name, form in instrument.forms.items() if informant in (None, name, form.informant))


def signal_column(instrument: Instrument, form: str, name: str) -> str | None:
    """The column of the scores that this yes/no name means in a form; None where the form does not have it."""
    if name == "critical_blank" and instrument.critical_items:
        return name
    if any(c.id == name and (not c.forms or form in c.forms) for c in instrument.critical_items):
        return f"critical_{name}"
    forms_with = {cut_off.name: cut_off.forms for cut_off in instrument.cut_offs}
    forms_with |= {derived.name: derived.forms for derived in instrument.derived}
    forms_with |= {rule.name: () for rule in instrument.validity_rules}
    is_here = name in forms_with and (not forms_with[name] or form in forms_with[name])
    return name if is_here else None


def bands_of(instrument: Instrument, form: str, scale: str, scheme: str | None) -> tuple[str, ...]:
    """The names of a scale's bands in a form, low score first, under a scheme (None: the primary one); () for none."""
    for one in instrument.band_schemes:
        is_meant = one.is_primary if scheme is None else one.name == scheme
        if is_meant and scale in one.bands and (not one.forms or form in one.forms):
            return tuple(band.name for band in one.bands[scale])
    return ()


def _unknown(leaf: Leaf, instrument: Instrument) -> Iterator[str]:
    forms = forms_of(instrument, leaf.informant)
    who = f"{leaf.informant} form of {instrument.code}" if leaf.informant else instrument.code
    if not forms:
        known = ", ".join(sorted({form.informant for form in instrument.forms.values()}))
        yield f"{instrument.code} has no form for {leaf.informant}, only for {known}"
    elif isinstance(leaf, Signal):
        if not any(signal_column(instrument, form, leaf.name) for form in forms):
            is_scale = any(scale.id == leaf.name for scale in instrument.scales)
            hint = "is a scale: compare it with a band" if is_scale else "is no cut-off or critical answer"
            yield f"{leaf.name} {hint} of the {who}" if leaf.informant else f"{leaf.name} {hint} of {who}"
    else:
        bands = [bands_of(instrument, form, leaf.scale, leaf.scheme) for form in forms]
        if not any(bands):
            yield f"{leaf.scale} is no scale with {leaf.scheme or 'primary'} bands of {who}"
        elif not any(leaf.band in names for names in bands):
            known = ", ".join(dict.fromkeys(name for names in bands for name in names))
            yield f"{leaf.band!r} is no band of {who} {leaf.scale}: {known}"


def _unheard(policy: Policy, instruments: Mapping[str, Instrument]) -> Iterator[Problem]:
    heard = {
        (leaf.instrument, leaf.name)
        for rule in policy.rules
        if rule.kind == "self_harm" and rule.tier >= TIERS.index("orange")
        for leaf in expressions.leaves(rule.when)
        if isinstance(leaf, Signal)
    }
    for code, instrument in instruments.items():
        for critical in instrument.critical_items:
            if critical.kind == "self_harm" and (code, critical.id) not in heard:
                message = f"no rule of kind self_harm raises {code}.{critical.id} to orange or red"
                yield Problem("critical_unheard", message, column="rules")
