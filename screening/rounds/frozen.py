"""What a round froze: its policy and instruments, stored by digest, read back once per process."""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from instruments import catalogue
from instruments.definition import Instrument
from screening import access
from screening import policy as policies
from screening.errors import NotFound
from screening.models import Definition, RoundInstrument, RuleSet
from screening.policy import Policy
from screening.rounds.asking import get

ENGINE = "1"
"""Changes when the same definitions and answers would give another score or tier than before."""
_INFORMANT = {"self": "self", "youth": "self", "parent": "parent", "teacher": "teacher"}


@dataclass(frozen=True)
class Rules:
    """A rule set: how answers are judged. `instruments` by code."""

    rule_set_id: uuid.UUID
    digest: str
    engine: str
    policy: Policy
    instruments: Mapping[str, Instrument]


@dataclass(frozen=True)
class RoundRules(Rules):
    """What a round froze: its rule set, and which forms it asks for (names by instrument code)."""

    round_id: uuid.UUID
    forms: Mapping[str, tuple[str, ...]]
    is_historical: bool

    @property
    def informants(self) -> tuple[str, ...]:
        """Who has a place in the round: the student has one for self and youth forms together."""
        return _informants(name for names in self.forms.values() for name in names)


def rules_of(session: Session, round_id: uuid.UUID) -> RoundRules:
    """What the round froze. Read once per process: a round's rules never change. Raises NotFound."""
    place = (access.scope_of(session).district_id, round_id)
    return _kept(_by_round, place, lambda: _read_round(session, round_id))


def rules(session: Session, rule_set_id: uuid.UUID) -> Rules:
    """A rule set by itself, as results name the one that they were decided under. Raises NotFound."""
    place = (access.scope_of(session).district_id, rule_set_id)
    return _kept(_by_rule_set, place, lambda: _read_rules(session, rule_set_id))


def freeze(session: Session, policy: Policy, chosen: Mapping[str, Instrument]) -> uuid.UUID:
    district_id = access.scope_of(session).district_id
    texts = [("policy", policy.code, policy.version, policy.digest, policy.body)]
    texts += [("instrument", i.code, i.version, i.digest, i.body) for i in chosen.values()]
    for kind, code, version, digest, body in texts:
        session.execute(
            postgresql.insert(Definition)
            .values(district_id=district_id, digest=digest, kind=kind, code=code, version=version, body=body)
            .on_conflict_do_nothing()
        )
    digests = {code: instrument.digest for code, instrument in chosen.items()}
    whole = json.dumps([ENGINE, policy.digest, list(digests.items())], separators=(",", ":"))
    digest = hashlib.sha256(whole.encode()).hexdigest()
    session.execute(
        postgresql.insert(RuleSet)
        .values(
            district_id=district_id,
            id=uuid.uuid4(),
            digest=digest,
            policy_digest=policy.digest,
            instruments=digests,
            engine=ENGINE,
        )
        .on_conflict_do_nothing(index_elements=["district_id", "digest"])
    )
    return session.execute(
        select(RuleSet.id).where(RuleSet.district_id == district_id, RuleSet.digest == digest)
    ).scalar_one()


_Place = tuple[uuid.UUID, uuid.UUID]
_Frozen = TypeVar("_Frozen", bound=Rules)
_RULES_KEPT = 512
_by_round: dict[_Place, RoundRules] = {}
_by_rule_set: dict[_Place, Rules] = {}


def _kept(known: dict[_Place, _Frozen], place: _Place, read: Callable[[], _Frozen]) -> _Frozen:
    found = known.get(place)
    if found is None:
        found = read()
        if len(known) >= _RULES_KEPT:
            known.clear()
        known[place] = found
    return found


def _read_round(session: Session, round_id: uuid.UUID) -> RoundRules:
    found = get(session, round_id)
    frozen = rules(session, found.rule_set_id)
    asked = session.execute(
        select(RoundInstrument.instrument, RoundInstrument.forms)
        .where(RoundInstrument.district_id == found.district_id, RoundInstrument.round_id == round_id)
        .order_by(RoundInstrument.position)
    ).all()
    return RoundRules(
        rule_set_id=frozen.rule_set_id,
        digest=frozen.digest,
        engine=frozen.engine,
        policy=frozen.policy,
        instruments={row.instrument: frozen.instruments[row.instrument] for row in asked},
        round_id=round_id,
        forms={row.instrument: tuple(row.forms) for row in asked},
        is_historical=found.is_historical,
    )


def _read_rules(session: Session, rule_set_id: uuid.UUID) -> Rules:
    frozen = session.get(RuleSet, (access.scope_of(session).district_id, rule_set_id))
    if frozen is None:
        raise NotFound("There is no such rule set.")
    stored = session.execute(
        select(Definition.digest, Definition.body).where(
            Definition.district_id == frozen.district_id,
            Definition.digest.in_([frozen.policy_digest, *frozen.instruments.values()]),
        )
    ).all()
    bodies = {row.digest: row.body for row in stored}
    return Rules(
        rule_set_id=rule_set_id,
        digest=frozen.digest,
        engine=frozen.engine,
        policy=policies.parse_stored(bodies[frozen.policy_digest]),
        instruments={code: catalogue.parse_stored(bodies[digest]) for code, digest in frozen.instruments.items()},
    )


def _informants(form_names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_INFORMANT[name] for name in form_names))
