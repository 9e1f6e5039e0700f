"""Many people say at the same moment that they are looking: one has it, and all others are told who."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

from httpx2 import ASGITransport, AsyncClient, Response
from sqlalchemy import text

from tests.alerts.episodes import RED, ring
from tests.cast import Cast
from tests.doors import app_on, token_for
from tests.factories import make_staff, make_student

CONTENDERS = 8
ANSWERS = 10_000
AT_ONCE = 4
"""Alerts for which people race at the same time, so that winners of one are losers of another."""


def test_of_all_who_acknowledge_at_once_one_has_it_and_the_others_are_told_who(
    cast: Cast, share: Callable[[int], int], is_storm: bool
) -> None:
    races = ANSWERS // CONTENDERS if is_storm else 8
    with cast.database.unit(cast.scope) as session:
        alerts = [str(ring(session, make_student(session, cast.school_a.id), RED).id) for _ in range(races)]
        people = [make_staff(session, ("counselor", cast.school_a.id))[1] for _ in range(CONTENDERS)]
    tokens = {str(one.person): token_for(cast.database, one) for one in people}
    came = asyncio.run(_race(cast, alerts, tokens))
    won = {alert: _winner(answers) for alert, answers in came.items()}
    with cast.database.unit(cast.scope) as session:
        rows = session.execute(
            text(
                "select a.alert_id::text as alert, a.by::text as by, l.owner_id::text as owner from acknowledgements a"
                " join alerts l on l.district_id = a.district_id and l.id = a.alert_id where a.district_id = :district"
            ),
            {"district": cast.district.id},
        ).all()
    assert Counter(row.alert for row in rows) == dict.fromkeys(alerts, 1)
    assert {row.alert: row.by for row in rows} == {row.alert: row.owner for row in rows} == won
    print(f"{races * CONTENDERS} racing acknowledgements of {races} alerts: {len(won)} winners")  # noqa: T201


def _winner(answers: Sequence[tuple[str, Response]]) -> str:
    """Who has it, as the others were told; everybody else got the same answer."""
    assert Counter(answer.status_code for _, answer in answers) == {200: 1, 409: CONTENDERS - 1}
    (winner,) = [who for who, answer in answers if answer.status_code == 200]
    for _, answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "taken_by_another"
            assert f" by {winner} at " in answer.json()["detail"]
    return winner


async def _race(cast: Cast, alerts: Sequence[str], tokens: dict[str, str]) -> dict[str, list[tuple[str, Response]]]:
    chance = random.Random(11)  # noqa: S311 - who is first at which
    came: dict[str, list[tuple[str, Response]]] = {alert: [] for alert in alerts}
    async with AsyncClient(transport=ASGITransport(app_on(cast.database)), base_url="http://testserver") as client:

        async def say(who: str, alert: str) -> None:
            headers = {"Authorization": f"Bearer {tokens[who]}"}
            came[alert].append((who, await client.post(f"/v1/alerts/{alert}/acknowledgement", headers=headers)))

        for start in range(0, len(alerts), AT_ONCE):
            acts = [(who, alert) for alert in alerts[start : start + AT_ONCE] for who in tokens]
            chance.shuffle(acts)
            await asyncio.gather(*(say(*act) for act in acts))
    return came
