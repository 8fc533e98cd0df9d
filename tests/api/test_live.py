"""The live hub: one frame for everybody, slow viewers lose frames and nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from api.live import Client, Hub, Panel, shanghai_day_start
from api.progress import StageProgress
from hengliu.metrics import Meters
from hengliu.ports.clock import ManualClock
from hengliu.ports.log import TopicPartition

NOW = 1_772_331_000_000


class Table:
    """A stage whose position a test moves."""

    name = "projector"

    def __init__(self) -> None:
        self.position = 0

        self.warnings = 0

    def positions(self) -> Mapping[TopicPartition, int]:
        return {TopicPartition("weighing", 0): self.position, TopicPartition("warning", 0): self.warnings}


class Panels:
    """Counts how often each panel is asked; one of them can fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.failing = ""

    async def run(self, panel: Panel, now_ms: int) -> list[dict[str, Any]]:
        self.asked += 1
        if panel.name == self.failing:
            raise RuntimeError("the table is gone")
        return [{"n": self.asked, "at": datetime.fromtimestamp(now_ms / 1000, UTC), "mass": Decimal("1.500")}]


ONE = (Panel("weighings", "weighings", lambda now: {}, 20), Panel("overview", "overview", lambda now: {}, 1, single=True))


@contextlib.asynccontextmanager
async def hub(panels: Panels, table: Table, max_clients: int = 200, shown: tuple[Panel, ...] = ONE) -> AsyncIterator[Hub]:
    made = Hub(panels.run, StageProgress([table]), ManualClock(NOW), Meters(), shown, max_clients)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_the_day_begins_at_midnight_in_shanghai() -> None:
    midnight = datetime.fromtimestamp(shanghai_day_start(NOW) / 1000, UTC)
    assert midnight == datetime(2026, 2, 28, 16, 0, tzinfo=UTC)
    assert shanghai_day_start(shanghai_day_start(NOW)) == shanghai_day_start(NOW)


def test_a_slow_client_keeps_the_two_newest_frames() -> None:
    client = Client()
    for n in range(1000):
        client.offer(f"{n}")
    assert client.dropped == 998
    assert asyncio.run(client.next()) == "998"


async def test_frames_are_made_once_for_all_and_only_while_somebody_looks() -> None:
    panels, table = Panels(), Table()
    async with hub(panels, table) as made:
        await asyncio.sleep(0.05)
        assert panels.asked == 0, "nobody looks"
        clients = [made.join() for _ in range(50)]
        frames = [await asyncio.wait_for(c.next(), 3) for c in clients if c is not None]
        assert len(set(frames)) == 1
        assert panels.asked == len(ONE)
        frame = orjson.loads(frames[0])
        assert frame["at"] == "2026-03-01T02:10:00.000Z"
        assert frame["weighings"] == [{"n": 1, "at": "2026-03-01T02:10:00.000Z", "mass": "1.500"}]
        assert frame["overview"]["n"] == 2
        assert frame["failed"] == []


async def test_a_commit_brings_a_frame_and_many_commits_bring_one_a_second() -> None:
    panels, table = Panels(), Table()
    async with hub(panels, table) as made:
        client = made.join()
        assert client is not None
        seqs: list[int] = []
        began = asyncio.get_running_loop().time()
        while len(seqs) < 3:
            table.position += 1
            with contextlib.suppress(TimeoutError):
                seqs.append(orjson.loads(await asyncio.wait_for(client.next(), 0.05))["seq"])
        assert seqs == [1, 2, 3]
        assert 1.8 < asyncio.get_running_loop().time() - began < 4


async def test_a_failing_panel_is_null_and_named_and_the_others_stand() -> None:
    panels, table = Panels(), Table()
    panels.failing = "weighings"
    async with hub(panels, table) as made:
        frame = orjson.loads(await made.frame())
    assert frame["weighings"] is None
    assert frame["failed"] == ["weighings"]
    assert frame["overview"] is not None


async def test_viewers_beyond_the_limit_find_no_place() -> None:
    async with hub(Panels(), Table(), max_clients=2) as made:
        first, second = made.join(), made.join()
        assert first is not None
        assert second is not None
        assert made.join() is None
        made.leave(first)
        assert made.join() is not None


async def test_waiting_for_a_position_ends_when_it_is_reached_or_the_time_is_over() -> None:
    table = Table()
    progress = StageProgress([table])
    tp = TopicPartition("weighing", 0)
    assert not await progress.wait_for(tp, 5, 0.05)
    asyncio.get_running_loop().call_later(0.05, lambda: setattr(table, "position", 5))
    assert await progress.wait_for(tp, 5, 2)
    assert not await progress.wait_for(TopicPartition("nowhere", 0), 1, 0.05)


@pytest.mark.parametrize("positions", [(3, 7), (7, 3)])
async def test_the_tables_include_what_every_projector_has(positions: tuple[int, int]) -> None:
    a, b = Table(), Table()
    a.position, b.position = positions
    assert StageProgress([a, b]).positions() == {TopicPartition("weighing", 0): 3, TopicPartition("warning", 0): 0}


HURRIED = (*ONE, Panel("warnings", "warnings", lambda now: {}, 20, at_once="warning"))


async def test_a_new_warning_does_not_wait_for_the_next_frame() -> None:
    panels, table = Panels(), Table()
    async with hub(panels, table, shown=HURRIED) as made:
        client = made.join()
        assert client is not None
        first = orjson.loads(await asyncio.wait_for(client.next(), 3))
        assert set(first) == {"at", "seq", "weighings", "overview", "warnings", "failed"}
        await asyncio.sleep(0.2)  # it has seen where the tables stand
        asked, table.warnings = panels.asked, 1
        part = orjson.loads(await asyncio.wait_for(client.next(), 3))
        assert set(part) == {"at", "seq", "warnings", "failed"}
        assert part["seq"] > first["seq"]
        assert part["warnings"] == [{"n": asked + 1, "at": "2026-03-01T02:10:00.000Z", "mass": "1.500"}]


async def test_a_frame_that_takes_long_does_not_take_a_warning_back() -> None:
    table = Table()
    slow, rest = asyncio.Event(), asyncio.Event()

    async def run(panel: Panel, now_ms: int) -> list[dict[str, Any]]:
        if panel.name == "last":
            slow.set()
            await rest.wait()
        return [{"n": table.warnings}]

    shown = (Panel("warnings", "warnings", lambda now: {}, 20, at_once="warning"), Panel("last", "last", lambda now: {}))
    made = Hub(run, StageProgress([table]), ManualClock(NOW), Meters(), shown)
    client = made.join()
    assert client is not None
    task = asyncio.create_task(made.run())
    try:
        await asyncio.wait_for(slow.wait(), 3)
        await asyncio.sleep(0.2)
        table.warnings = 1
        part = orjson.loads(await asyncio.wait_for(client.next(), 3))
        rest.set()
        frame = orjson.loads(await asyncio.wait_for(client.next(), 3))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (part["warnings"], frame["warnings"]) == ([{"n": 1}], [{"n": 1}])
    assert frame["seq"] > part["seq"]


def test_a_part_makes_room_for_a_newer_part_and_a_frame_has_all_of_it() -> None:
    client = Client()
    client.offer("frame")
    client.offer_part("old")
    client.offer_part("new")
    assert [asyncio.run(client.next()), asyncio.run(client.next())] == ["frame", "new"]
    client.offer_part("part")
    client.offer("newer frame")
    assert asyncio.run(client.next()) == "newer frame"
    assert client.dropped == 1
    assert client._part is None
