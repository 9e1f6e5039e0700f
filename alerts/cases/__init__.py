"""The student's open concern: open or join, note, raise, propose and confirm its end; and its story."""

from alerts.cases.closing import confirm_closure, go_on, propose_closure, reject_closure
from alerts.cases.holding import (
    CARING,
    COMES_FROM,
    TakenByAnother,
    advance,
    get,
    held,
    held_with_alert,
    refuse_recused,
    require,
    require_second_person,
    required,
    seal,
    tell,
    unseal,
    working,
)
from alerts.cases.opening import HANDED_OVER, give_to, hand_over, listed, note, open, raise_tier
from alerts.cases.story import Line, Story, story

__all__ = [
    "CARING",
    "COMES_FROM",
    "HANDED_OVER",
    "Line",
    "Story",
    "TakenByAnother",
    "advance",
    "confirm_closure",
    "get",
    "give_to",
    "go_on",
    "hand_over",
    "held",
    "held_with_alert",
    "listed",
    "note",
    "open",
    "propose_closure",
    "raise_tier",
    "refuse_recused",
    "reject_closure",
    "require",
    "require_second_person",
    "required",
    "seal",
    "story",
    "tell",
    "unseal",
    "working",
]
