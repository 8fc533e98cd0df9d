"""Two workers on Kafka, one held and let go again, the other killed: tasks move twice, and nothing is lost or counted twice.

The held one is the hard case: it is not dead, believes that its tasks are its own, and writes when it is let go. Fencing must
end it, and whoever took its tasks over must go on from what was committed, with records pending that are read again.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from simulator.city import City, registry
from simulator.run import Feeder, wall_ms
from tests.e2e.deployment import Deployment
from tests.e2e.figures import settled
from tests.kill.platform import deployed, log_faults

HOUR_MS = 3_600_000
HELD_S = 8.0
"""Longer than the session (``deployed``): the group gives the held worker's tasks away."""
HOURS = 8
"""Some thousand events: enough to be still arriving when the second worker dies."""


async def fed(deployment: Deployment, feeder: Feeder) -> None:
    """Feed the city while one worker is held, let go, and the other one killed."""
    first = deployment.processes["worker"]
    await deployment.start_role("worker")
    second = deployment.processes["worker"]
    deployment.processes |= {"worker": first, "second worker": second}
    feeding = asyncio.create_task(feeder.run())
    await asyncio.sleep(2)
    first.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(HELD_S)
    finally:
        first.send_signal(signal.SIGCONT)
    await asyncio.sleep(1)
    second.kill()
    await second.wait()
    report = await feeding
    assert report.unexpected_count == 0, report.unexpected[:3]
    assert first.returncode is None, deployment.output("worker")


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.clickhouse
@pytest.mark.postgres
@pytest.mark.timeout(400)
async def test_tasks_move_between_workers_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    city = City(11, "tiny")
    until = wall_ms() // HOUR_MS * HOUR_MS
    start = until - HOURS * HOUR_MS
    async with deployed("kafka", tmp_path) as (deployment, settings):
        await deployment.start()
        await deployment.register(registry(city))
        feeder = Feeder(city, deployment.url, deployment.token, start=start, until=until, batch=50)
        await fed(deployment, feeder)
        balance = feeder.world.ledger.as_of(until, time_outs=False)
        assert balance.tickets
        async with deployment.client() as client:
            assert await settled(client, lambda: balance, start, until, timeout_s=120) == []
        await deployment.stop()
        assert await log_faults(settings, sum(balance.accepted.values())) == []
