"""The machine's clock is set back by an hour while a platform works: what is accepted afterwards is processed all the same."""

import asyncio
from pathlib import Path

from hengliu.events.catalog import Catalog
from hengliu.intake.service import IntakePolicy
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import CLOCK_TYPE
from streams.kernel.task import CommitPolicy
from streams.supervisor import Supervisor
from streams.topology import EXCHANGE, Topology
from tests.intake.city import DEVICE, PARTITIONS, City, running, weighing

HOUR_MS = 3_600_000


class Wall(SystemClock):
    back_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() - self.back_ms


async def forwarded(city: City, count: int, seconds: float) -> bool:
    """Whether so many weighings reach the exchange topic in time."""
    for _ in range(int(seconds / 0.05)):
        records = await city.records("by-vehicle")
        if sum(headers.type != CLOCK_TYPE for headers, _ in records) >= count:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_what_is_accepted_after_the_step_is_processed(tmp_path: Path) -> None:
    wall = Wall()
    policy = IntakePolicy(tick_after_ms=100)
    async with running(tmp_path / "log.sqlite", policy=policy, clock=wall) as city:
        topology = Topology(city.log, Catalog(), PARTITIONS, policy=CommitPolicy(interval_ms=600))
        supervisor = Supervisor(topology, topology.task_ids([EXCHANGE]))
        await supervisor.start()
        try:
            await city.intake.submit(DEVICE, [weighing(1)])
            assert await forwarded(city, 1, 30)
            for _ in range(6):  # one of them falls between an effect and its commit, where a task waits
                wall.back_ms += HOUR_MS
                await asyncio.sleep(0.25)
            await city.intake.submit(DEVICE, [weighing(2)])
            assert await forwarded(city, 2, 30)
        finally:
            await supervisor.stop()
