"""Bearer tokens: whoever holds one can end it."""

from fastapi import Request

from api.deps import ActorDep, Door, NowDep, SessionDep
from screening import access, staff

door = Door(prefix="/v1/tokens", tag="tokens")


@door.delete("/current", roles=access.ROLES, status=204)
def revoke(request: Request, session: SessionDep, by: ActorDep, now: NowDep) -> None:
    """Ends the token that came with this request, at once."""
    staff.revoke_token(session, request.state.token, by=by, now=now)
