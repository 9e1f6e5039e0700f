"""Chats offered by lot to students whom nothing pointed to, and what came of them."""

import datetime as dt
import uuid
from typing import Literal

from alerts import routine_chats
from api.deps import CARING, ActorDep, Body, Door, Id, NowDep, SessionDep, View

door = Door(prefix="/v1/routine-chats", tag="routine chats")


class OutcomeBody(Body):
    """A need that showed becomes a concern, which is told in `words`."""

    outcome: Literal["confirmed", "not_confirmed", "declined"]
    words: str = ""


class ChatView(View):
    id: uuid.UUID
    student_id: uuid.UUID
    school_id: uuid.UUID
    state: str
    drawn_at: dt.datetime
    answered_at: dt.datetime | None


class ChatsView(View):
    routine_chats: list[ChatView]


@door.get("", roles=CARING)
def offered(session: SessionDep) -> ChatsView:
    """The chats that are still to be offered, the oldest first."""
    return ChatsView(routine_chats=[ChatView.model_validate(chat) for chat in routine_chats.offered(session)])


@door.post("/{chat_id}/outcome", roles=CARING)
def answer(chat_id: Id, body: OutcomeBody, session: SessionDep, actor: ActorDep, now: NowDep) -> ChatView:
    """What came of a chat; once. A need that showed opens or joins the student's alert at once."""
    made = routine_chats.answer(session, chat_id, body.outcome, words=body.words, by=actor, now=now)
    return ChatView.model_validate(made)
