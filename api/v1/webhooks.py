"""One's own webhook: how a member of staff hears in a chat instead of by mail."""

import datetime as dt
from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field

from alerts import webhooks
from api.deps import CARING, ActorDep, Body, Door, NowDep, SessionDep, View, Word
from screening.errors import NotFound

door = Door(prefix="/v1/webhooks", tag="webhooks")

HEARING = CARING | {"principal", "duty_officer", "district_admin"}
Address = Annotated[str, Field(min_length=8, max_length=2_000)]


class WebhookBody(Body):
    """`address` must be on one of the operator's hosts. `body` is what the receiver understands.

    `chat_secret` is what DingTalk or Feishu showed for a robot that takes signed messages only.
    """

    address: Address
    body: Literal["generic", "wecom", "dingtalk", "feishu"] = "generic"
    chat_secret: Word | None = None


class WebhookView(View):
    """The address itself is a secret and is not shown again."""

    host: str
    body: str
    added_at: dt.datetime


class AddedView(WebhookView):
    """`secret` signs every message (X-Screening-Signature), and is shown this once."""

    secret: str


@door.put("", roles=HEARING, repeats="again")
def add(body: WebhookBody, request: Request, session: SessionDep, by: ActorDep, now: NowDep) -> AddedView:
    """From now on messages to oneself go there, and by mail where that fails."""
    settings = request.app.state.settings
    made, secret = webhooks.add(
        session,
        by.person,
        body.address,
        body.body,
        settings=settings,
        by=by,
        now=now,
        chat_secret=body.chat_secret,
    )
    return AddedView(secret=secret, host=made.host, body=made.body, added_at=made.added_at)


@door.get("", roles=HEARING)
def show(session: SessionDep, by: ActorDep) -> WebhookView:
    """Where one hears."""
    found = webhooks.standing(session, by.person)
    if found is None:
        raise NotFound("There is no webhook.")
    return WebhookView.model_validate(found)


@door.delete("", roles=HEARING, status=204)
def end(session: SessionDep, by: ActorDep, now: NowDep) -> None:
    """From now on by mail again."""
    webhooks.end(session, by.person, by=by, now=now)
