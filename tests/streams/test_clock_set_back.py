"""The machine's clock is set back by an hour while a platform works: what is accepted afterwards is processed all the same."""

import asyncio
from pathlib import Path

from hengliu.events.catalog import Catalog
from hengliu.intake.service import IntakePolicy
from hengliu.ports.clock import Clock, ManualClock, SteadyClock, SystemClock
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


def test_a_steady_clock_goes_on_where_the_other_goes_back() -> None:
    wall = ManualClock(1_000)
    clock = SteadyClock(wall)
    seen = []
    for step in (0, 5, -700, 10, 0, 2_000):
        wall.advance(step)
        seen.append(clock.now_ms())
    assert seen == [1_000, 1_005, 1_005, 1_015, 1_015, 3_015]


async def forwarded(city: City, count: int, seconds: float) -> bool:
    """Whether so many weighings reach the exchange topic in time."""
    for _ in range(int(seconds / 0.05)):
        records = await city.records("by-vehicle")
        if sum(headers.type != CLOCK_TYPE for headers, _ in records) >= count:
            return True
        await asyncio.sleep(0.05)
    return False


async def processed_after_the_steps(folder: Path, wall: Wall, tasks: Clock, seconds: float) -> bool:
    """Whether a weighing accepted after the clock was set back comes through."""
    policy = IntakePolicy(tick_after_ms=100)
    async with running(folder / "log.sqlite", policy=policy, clock=wall) as city:
        topology = Topology(city.log, tasks, Catalog(), PARTITIONS, policy=CommitPolicy(interval_ms=600))
        supervisor = Supervisor(topology, topology.task_ids([EXCHANGE]))
        await supervisor.start()
        try:
            await city.intake.submit(DEVICE, [weighing(1)])
            assert await forwarded(city, 1, 30)
            for _ in range(6):  # one of them falls between an effect and its commit, where a task waits
                wall.back_ms += HOUR_MS
                await asyncio.sleep(0.25)
            await city.intake.submit(DEVICE, [weighing(2)])
            return await forwarded(city, 2, seconds)
        finally:
            await supervisor.stop()


async def test_what_is_accepted_after_the_step_is_processed(tmp_path: Path) -> None:
    wall = Wall()
    assert await processed_after_the_steps(tmp_path, wall, SteadyClock(wall), 30)


async def test_tasks_that_pace_themselves_by_the_wall_clock_would_stand(tmp_path: Path) -> None:
    """What ``SteadyClock`` is for: a commit that is due at a time is not due before the clock has come there again."""
    wall = Wall()
    assert not await processed_after_the_steps(tmp_path, wall, wall, 3)
