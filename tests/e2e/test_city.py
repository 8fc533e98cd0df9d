"""A simulated city through the whole platform, on both deployments: every figure equals the simulator's ledger."""

import asyncio
from typing import Any

import httpx
import pytest

from simulator.city import City, registry
from simulator.run import Feeder, wall_ms
from streams.operators.catalog import GROUPS
from streams.topology import EXCHANGE
from tests.e2e.deployment import Deployment, deployment
from tests.e2e.figures import settled

__all__ = ["deployment"]

HOUR_MS = 3_600_000


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_figure_equals_the_ledger(deployment: Deployment) -> None:
    city = City(7, "tiny")
    await deployment.register(registry(city))
    until = wall_ms() // HOUR_MS * HOUR_MS
    start = until - 30 * HOUR_MS
    feeder = Feeder(city, deployment.url, deployment.token, start=start, until=until)
    report = await feeder.run()
    assert report.unexpected_count == 0, report.unexpected[:3]
    assert report.accepted > 3_000
    async with deployment.client() as client:
        balance = feeder.world.ledger.as_of(until, time_outs=False)
        assert balance.tickets
        assert balance.overloads
        assert await settled(client, lambda: balance, start, until) == []
        await every_group_is_seen(client)


async def every_group_is_seen(client: httpx.AsyncClient) -> None:
    """``/v1/stats`` and ``/readyz`` follow each operator group, in whichever process it runs."""
    groups = {EXCHANGE, *(group.name for group in GROUPS)}
    seen: set[str] = set()
    told: Any = None
    for _ in range(300):
        positions = (await client.get("/v1/stats")).json()["positions"]
        seen = {name for place in positions for name, position in place["processed"].items() if position > 0}
        told = (await client.get("/readyz")).json()
        if groups <= seen and told["status"] == "ready":
            break
        await asyncio.sleep(0.1)
    assert groups <= seen
    assert told == {"status": "ready", "reasons": [], "warnings": []}
