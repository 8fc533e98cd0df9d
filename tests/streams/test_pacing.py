"""When a task looks and commits: together with its stage while little comes, without a pause under a backlog."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hengliu.events.catalog import Catalog
from hengliu.ports.log import (
    EventLog,
    Headers,
    LogReader,
    Record,
    Slice,
    TaskId,
    TaskState,
    TopicKind,
    TopicPartition,
    TopicSpec,
)
from infra.local_log import LocalLog
from streams.kernel.task import CommitPolicy, Outputs, StreamTask, Wiring
from streams.topology import EXCHANGE, Topology

IN, OUT = TopicPartition("in", 0), TopicPartition("out", 0)


class Echo(StreamTask):
    """Copies what begins with ``o``; counts its looks."""

    def __init__(self, log: EventLog, policy: CommitPolicy, clocked: Sequence[str] = ()) -> None:
        super().__init__(TaskId("echo", 0), Wiring(log, policy), clocked, 1)
        self.at, self.looks, self.told, self.seconds = 0, 0, 0, 0.0

    @property
    def clock(self) -> int:
        return self.told

    def positions(self) -> Mapping[TopicPartition, int]:  # type: ignore[override]
        return {IN: self.at}

    def process(self, pieces: Sequence[Slice], outputs: Outputs) -> int:
        self.looks += 1
        count = 0
        for piece in pieces:
            self.at = piece.next_position
            for value, headers in zip(piece.values, piece.headers, strict=True):
                count += 1
                self.told = headers.received
                if value.startswith(b"o"):
                    outputs.add("out", 0, Record(b"", value, headers))
        return count

    def checkpoint(self) -> dict[bytes, bytes | None]:
        return {}

    def restore(self, state: TaskState) -> None:
        self.at = state.positions.get(IN, 0)


async def run(folder: Path, policy: CommitPolicy, values: Sequence[bytes], pause_s: float, settle_s: float = 0.0) -> Echo:
    """Append the values one by one; the task, when all that begins with ``o`` is out again."""
    async with LocalLog.open(folder / "log.db") as log:
        await log.create_topics([TopicSpec(tp.topic, TopicKind.CANONICAL, 1) for tp in (IN, OUT)])
        task = Echo(log, policy)
        running = asyncio.create_task(task.run())
        began = asyncio.get_running_loop().time()
        reader: LogReader = await log.open_reader({OUT: 0})
        for n, value in enumerate(values):
            await log.append(IN.topic, 0, [Record(b"", value, Headers(received=n, type="x"))])
            await asyncio.sleep(pause_s)
        found: list[bytes] = []
        async with asyncio.timeout(20):
            while len(found) < sum(v.startswith(b"o") for v in values):
                found += [bytes(v) for piece in await reader.poll(1_000, 1_000) for v in piece.values]
        assert found == [v for v in values if v.startswith(b"o")]
        task.seconds = asyncio.get_running_loop().time() - began
        await asyncio.sleep(settle_s)
        task.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await reader.close()
        return task


@pytest.mark.parametrize("phase", [10, None])
async def test_where_little_comes_a_task_looks_once_an_interval(tmp_path: Path, phase: int | None) -> None:
    """Two looks an interval at most: that something came, and to take it. Without a phase every arrival is one."""
    values = [b"o%d" % n for n in range(100)]
    task = await run(tmp_path, CommitPolicy(interval_ms=100, phase_ms=phase), values, 0.005)
    if phase is None:
        assert task.looks > 20, "or this shows nothing"
    else:
        assert task.looks <= 2 * (task.seconds / 0.1 + 2)
    assert task.progress.commits <= task.looks


async def test_state_that_nobody_waits_for_is_committed_later(tmp_path: Path) -> None:
    waited = await run(tmp_path / "a", CommitPolicy(interval_ms=20, phase_ms=0, quiet_ms=60_000), [b"s"] * 40 + [b"o"], 0.005)
    assert waited.progress.commits == 1, "the output alone, with the positions of all"
    later = await run(tmp_path / "b", CommitPolicy(interval_ms=20, phase_ms=0, quiet_ms=60), [b"s"], 0.0, settle_s=0.5)
    assert later.progress.commits == 1
    assert later.progress.positions


async def test_a_backlog_is_read_without_a_pause(tmp_path: Path) -> None:
    """With a rest after each look this took a second a look."""
    async with LocalLog.open(tmp_path / "log.db") as log:
        await log.create_topics([TopicSpec(tp.topic, TopicKind.CANONICAL, 1) for tp in (IN, OUT)])
        for first in range(0, 20_000, 1_000):
            await log.append(
                IN.topic, 0, [Record(b"", b"o%d" % n, Headers(received=n, type="x")) for n in range(first, first + 1_000)]
            )
        task = Echo(log, CommitPolicy(interval_ms=1_000, phase_ms=0, max_records=600, max_pending=100_000))
        running = asyncio.create_task(task.run())
        loop = asyncio.get_running_loop()
        began = loop.time()
        while task.at < 20_000:
            assert loop.time() - began < 20, f"{task.looks} looks, {task.at} records"
            await asyncio.sleep(0.01)
        task.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert task.looks >= 20_000 // 600


def test_stages_follow_each_other(tmp_path: Path) -> None:
    topology = Topology(None, Catalog(), 2)  # type: ignore[arg-type]  # nothing is opened here
    stages = {group: topology.stage(group) for group in topology.group_names}
    assert stages[EXCHANGE] == 1
    assert {stages[g] for g in ("vehicle", "meter", "device", "market")} == {2}
    assert stages["site"] == stages["enterprise"] == 3
