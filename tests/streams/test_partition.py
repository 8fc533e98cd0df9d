"""Windows over one partition on the real local log: partitions on their own, silence, values that do not decode, restarts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from hengliu.ports.clock import ManualClock
from hengliu.ports.log import EventLog, Headers, Record, TaskId, TopicKind, TopicPartition, TopicSpec, UnknownPartition
from infra.local_log import LocalLog
from streams.kernel.ahead import FAR_PER_KEY
from streams.kernel.partition import PartitionTopology
from streams.kernel.sessions import Session, SessionSpec
from streams.kernel.task import CommitPolicy
from streams.kernel.windows import Result, WindowSpec

BASE = 1_795_000_020_000
SECOND = 1_000
HEADERS = Headers(received=0, type="test")


class Reading(msgspec.Struct):
    key: str
    at: int
    value: int
    number: int = 0


class Job:
    window: ClassVar[WindowSpec] = WindowSpec(60 * SECOND)
    name: ClassVar[str] = "readings"
    record: ClassVar[Any] = Reading

    def rows(self, records: Sequence[Reading]) -> list[tuple[str, int, int]]:
        return [(r.key, r.at, r.value) for r in records]

    def ids(self, records: Sequence[Reading]) -> Sequence[int] | None:
        return [r.number for r in records] if records and records[0].number else None

    def result(self, result: Any) -> Record:
        return Record(result.key.encode(), msgspec.json.encode(result), HEADERS)


def reading(key: str, at: int, value: int, number: int = 0) -> Record:
    return Record(key.encode(), msgspec.json.encode(Reading(key, BASE + at, value, number)), HEADERS)


class Bench:
    """A log, its tasks, and clocks that a test moves: the machine's, and how many seconds have passed."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.clock = ManualClock(1_800_000_000_000)
        self.passed = 0.0
        self.idle_ms: int | None = None
        self.job: Any = Job()

    def topology(self) -> PartitionTopology:
        return PartitionTopology(
            self.log,
            self.clock,
            self.job,
            "in",
            "out",
            2,
            side="side",
            idle_ms=self.idle_ms,
            policy=CommitPolicy(interval_ms=0),
            seconds=lambda: self.passed,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        topology = self.topology()
        tasks = [topology.build(TaskId("windows", p)) for p in range(2)]
        loops = [asyncio.create_task(t.run()) for t in tasks]
        try:
            yield
        finally:
            for task in tasks:
                task.stop()
            for loop in loops:
                loop.cancel()
            for ended in await asyncio.gather(*loops, return_exceptions=True):
                assert ended is None or isinstance(ended, asyncio.CancelledError), ended

    async def send(self, partition: int, *records: Record) -> None:
        await self.log.append("in", partition, records)

    async def read(self, topic: str, partition: int) -> list[Any]:
        tp = TopicPartition(topic, partition)
        end = (await self.log.end_positions([tp]))[tp]
        return [msgspec.json.decode(v) for v in (await self.log.read_range(tp, 0, end)).values]

    async def results(self, partition: int, count: int, seconds: float = 10.0) -> list[Result]:
        """At least so many results; then a moment more, for those that must not come."""
        async with asyncio.timeout(seconds):
            while len(await self.read("out", partition)) < count:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return [Result(*row) for row in await self.read("out", partition)]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with LocalLog.open(tmp_path / "log.sqlite") as log:
        await log.create_topics([TopicSpec(name, TopicKind.DERIVED, 2) for name in ("in", "out", "side")])
        yield Bench(log)


def row(key: str, start: int, values: Sequence[int], revision: int = 0) -> Result:
    return Result(key, BASE + start, sum(values), len(values), min(values), max(values), revision)


async def test_a_partition_read_far_ahead_closes_no_window_of_another(bench: Bench) -> None:
    async with bench.running():
        await bench.send(1, reading("far", 0, 1), reading("far", 3_600 * SECOND, 1), reading("far", 7_200 * SECOND, 1))
        assert await bench.results(1, 2) == [row("far", 0, [1]), row("far", 3_600 * SECOND, [1])]
        await bench.send(0, reading("near", 0, 5), reading("near", 59 * SECOND, 6))
        assert await bench.results(0, 0) == []
        await bench.send(0, reading("near", 30 * SECOND, 7), reading("near", 61 * SECOND, 1))
        assert await bench.results(0, 1) == [row("near", 0, [5, 6, 7])]
    assert await bench.read("side", 0) == []


async def test_a_topic_that_falls_silent_still_gets_its_final_windows(bench: Bench) -> None:
    bench.idle_ms = 2_000
    async with bench.running():
        await bench.send(0, reading("a", 0, 5), reading("a", 50 * SECOND, 6))
        await asyncio.sleep(1.2)
        bench.passed += 5
        assert await bench.results(0, 0) == [], "its minute is not over: five seconds of silence are not ten"
        bench.passed += 6
        assert await bench.results(0, 1) == [row("a", 0, [5, 6])]
    # Decided and committed: whoever goes on sees the window closed, and what comes late corrects it.
    async with bench.running():
        await bench.send(0, reading("a", 1, 1), reading("a", 90 * SECOND, 2), reading("a", 130 * SECOND, 3))
        assert await bench.results(0, 3) == [
            row("a", 0, [5, 6]), row("a", 0, [5, 6, 1], revision=1), row("a", 60 * SECOND, [2]),
        ]  # fmt: skip


async def test_silence_is_not_measured_by_a_clock_that_can_be_set(bench: Bench) -> None:
    """Set ahead it would close windows of a source that is only slow, set back it would leave those of a silent one open."""
    bench.idle_ms = 2_000
    async with bench.running():
        await bench.send(0, reading("a", 0, 5), reading("a", 50 * SECOND, 6))
        await asyncio.sleep(1.2)
        bench.clock.advance(3_600 * SECOND)
        await asyncio.sleep(1.2)
        assert await bench.results(0, 0) == []
        bench.clock.advance(-7_200 * SECOND)
        bench.passed += 11
        assert await bench.results(0, 1) == [row("a", 0, [5, 6])]


@pytest.mark.parametrize("lacking", [{"target": "narrow"}, {"side": "narrow"}])
async def test_a_topic_with_too_few_partitions_is_told_at_the_start(bench: Bench, lacking: dict[str, str]) -> None:
    await bench.log.create_topics([TopicSpec("narrow", TopicKind.DERIVED, 1)])
    topology = replace(bench.topology(), **lacking)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        with pytest.raises(UnknownPartition, match="narrow/1"):
            await topology.build(TaskId("windows", 1)).run()


async def test_a_silent_partition_holds_no_other_back(bench: Bench) -> None:
    async with bench.running():
        await bench.send(1, reading("quiet", 0, 1))
        await bench.send(0, reading("a", 0, 1), reading("a", 60 * SECOND, 1))
        assert await bench.results(0, 1) == [row("a", 0, [1])]
        assert await bench.results(1, 0) == []


BAD: Mapping[str, bytes] = {
    "not JSON": b"{",
    "a wrong type": b'{"key":"a","at":"now","value":1}',
    "two values in one": b'{"key":"a","at":1,"value":1},{"key":"a","at":1,"value":1}',
    "nothing": b"",
    "nested without end": b'{"key":"a","at":1,"value":1,"x":' + b"[" * 100_000,
    "invalid UTF-8": b'{"key":"\xff","at":1,"value":1}',
}


@pytest.mark.parametrize("name", BAD)
async def test_a_value_that_does_not_decode_is_put_aside_and_nothing_else_is_lost(bench: Bench, name: str) -> None:
    async with bench.running():
        await bench.send(
            0, reading("a", 0, 1), Record(b"", BAD[name], HEADERS), reading("a", 1, 2), reading("a", 61 * SECOND, 1)
        )
        assert await bench.results(0, 1) == [row("a", 0, [1, 2])]
    aside = await bench.read("side", 0)
    assert [one["origin"] for one in aside] == ["in/0/1"]
    assert aside[0]["error"]


HALVES: Mapping[str, tuple[bytes, bytes]] = {
    "cut between members": (b'{"key":"a","at":%d' % BASE, b'"value":90}'),
    "cut in a text": (b'{"key":"a","at":%d,"x":"}' % BASE, b'{","value":90}'),
    "cut in a list": (b'{"key":"a","at":%d,"x":[{}' % BASE, b'{}],"value":90}'),
}


@pytest.mark.parametrize("name", HALVES)
async def test_values_that_only_decode_together_are_each_refused(bench: Bench, name: str) -> None:
    """Two halves, and beside them a value that is two: joined by commas they would be as many as there are records."""
    whole = reading("a", 1, 30).value
    async with bench.running():
        await bench.send(
            0, reading("a", 0, 1), *(Record(b"", half, HEADERS) for half in HALVES[name]),
            Record(b"", whole + b"," + whole, HEADERS), reading("a", 2, 2), reading("a", 61 * SECOND, 1),
        )  # fmt: skip
        assert await bench.results(0, 1) == [row("a", 0, [1, 2])]
    assert [one["origin"] for one in await bench.read("side", 0)] == ["in/0/1", "in/0/2", "in/0/3"]


class NarrowJob(Job):
    """Counts by sites, and knows two of them."""

    sites: ClassVar[Mapping[str, str]] = {"a": "north", "b": "south"}

    def rows(self, records: Sequence[Reading]) -> list[tuple[str, int, int]]:
        return [(self.sites[r.key], r.at, r.value) for r in records]

    def result(self, result: Any) -> Record:
        if result.key == "south":
            raise ArithmeticError("south is not wanted")
        return super().result(result)


async def test_a_record_that_the_job_cannot_map_goes_aside_alone(bench: Bench) -> None:
    bench.job = NarrowJob()
    async with bench.running():
        await bench.send(
            0, reading("a", 0, 1, number=1), reading("nowhere", 0, 5, number=2), reading("a", 1, 2, number=3),
            reading("a", 1, 2, number=3), reading("a", 61 * SECOND, 1, number=4),
        )  # fmt: skip
        assert await bench.results(0, 1) == [row("north", 0, [1, 2])]
    (aside,) = await bench.read("side", 0)
    assert (aside["origin"], aside["error"]) == ("in/0/1", "KeyError: 'nowhere'")
    assert msgspec.json.decode(aside["value"], type=Reading).value == 5


async def test_a_result_that_the_job_cannot_make_goes_aside_with_its_figures(bench: Bench) -> None:
    bench.job = NarrowJob()
    async with bench.running():
        await bench.send(0, reading("a", 0, 1), reading("b", 0, 5), reading("a", 61 * SECOND, 1))
        assert await bench.results(0, 1) == [row("north", 0, [1])]
    (aside,) = await bench.read("side", 0)
    assert aside["result"] == row("south", 0, [5])._asdict()


async def test_a_record_whose_key_would_fit_into_no_result_goes_aside(bench: Bench) -> None:
    huge = Record(b"", reading("k" * 700_000, 0, 5).value, HEADERS)
    async with bench.running():
        await bench.send(0, reading("a", 0, 1), huge, reading("a", 1, 2), reading("a", 61 * SECOND, 1))
        assert await bench.results(0, 1) == [row("a", 0, [1, 2])]
    (aside,) = await bench.read("side", 0)
    assert (aside["origin"], aside["error"]) == ("in/0/1", "ValueError: a key has more than 4096 characters")


class TooShortJob(Job):
    def rows(self, records: Sequence[Reading]) -> list[tuple[str, int, int]]:
        return [row for row in super().rows(records) if row[2]]


async def test_a_record_of_which_the_job_makes_no_row_goes_aside(bench: Bench) -> None:
    """Rows and records belong together: one row less would give every later record the offset of its neighbour."""
    bench.job = TooShortJob()
    async with bench.running():
        await bench.send(0, reading("a", 0, 1), reading("a", 0, 0), reading("a", 1, 2), reading("a", 61 * SECOND, 1))
        assert await bench.results(0, 1) == [row("a", 0, [1, 2])]
    assert [one["origin"] for one in await bench.read("side", 0)] == ["in/0/1"]


BEYOND: Mapping[str, Record] = {
    "a value": reading("a", 0, 1 << 63, number=9),
    "a value below": reading("a", 0, -(1 << 63) - 1, number=9),
    "a time": reading("a", 1 << 63, 1, number=9),
    "a time below": reading("a", -(1 << 65), 1, number=9),
    "an id": reading("a", 0, 1, number=1 << 63),
}


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("name", BEYOND)
async def test_what_has_more_than_64_bits_goes_aside_alone(bench: Bench, name: str, windows: bool) -> None:
    bench.job = Job() if windows else SessionJob()
    most, least = (1 << 63) - 1, -(1 << 63)
    async with bench.running():
        await bench.send(
            0, reading("a", 0, most, number=most), BEYOND[name], reading("a", 0, most, number=least),
            reading("a", 0, most, number=1), reading("b", 0, least, number=2), reading("b", 0, least, number=3),
        )  # fmt: skip
        await asyncio.sleep(0.1)  # committed: what follows reads the sums from the state
    async with bench.running():
        await bench.send(0, reading("a", 61 * SECOND, 1, number=5))
        async with asyncio.timeout(10):
            while len(found := await bench.read("out", 0)) < 2:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.01)
    assert [one["origin"] for one in await bench.read("side", 0)] == ["in/0/1"]
    at = 2 if windows else 3
    assert [tuple(one[at : at + 4]) for one in found] == [(3 * most, 3, most, most), (2 * least, 2, least, least)]


async def test_what_comes_after_the_window_is_let_go_is_put_aside_with_its_cause(bench: Bench) -> None:
    async with bench.running():
        late = reading("a", 5, 9, number=7)
        await bench.send(
            0, reading("a", 0, 1, number=1), reading("a", 3_600 * SECOND, 1, number=2), Record(b"", b"{", HEADERS),
            reading("a", 0, 1, number=1), late, reading("a", 3_601 * SECOND, 1, number=3),
        )  # fmt: skip
        await bench.results(0, 1)
    bad, aside = await bench.read("side", 0)
    assert bad["origin"] == "in/0/2"
    assert aside["late"] == {"key": "a", "time": BASE + 5, "value": 9, "clock": BASE + 3_601 * SECOND}
    assert (aside["origin"], aside["value"]) == ("in/0/4", late.value.decode())


async def test_a_clock_far_in_the_future_is_told_once_there_is_no_room_for_it(bench: Bench) -> None:
    """Its ids are not remembered either: nothing grows with what is refused."""
    year, task = 365 * 86_400 * SECOND, bench.topology().build(TaskId("windows", 0))
    loop = asyncio.create_task(task.run())
    try:
        records: list[Record] = []
        for n in range(2 * FAR_PER_KEY):
            far = reading("far", year + 60 * n * SECOND, 1, number=2 * n + 2)
            records += (reading("a", 0, 1, number=2 * n + 1), far)
        await bench.send(0, *records)
        async with asyncio.timeout(10):
            while len(aside := await bench.read("side", 0)) < FAR_PER_KEY:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.01)
    finally:
        task.stop()
        await loop
    assert task.too_far_ahead == task.progress.dead_letters == len(aside) == FAR_PER_KEY
    assert aside[0]["ahead"] == {"key": "far", "time": BASE + year + 60 * FAR_PER_KEY * SECOND, "value": 1, "clock": BASE}
    assert aside[0]["origin"] == f"in/0/{2 * FAR_PER_KEY + 1}"
    assert len(task._seen._panes) == FAR_PER_KEY + 1


async def test_a_second_copy_is_counted_once_also_after_a_restart(bench: Bench) -> None:
    async with bench.running():
        await bench.send(
            0, *(reading("a", n % 50, n, number=n) for n in range(1, 200)), reading("a", 60 * SECOND, 1, number=500)
        )
        assert await bench.results(0, 1) == [row("a", 0, range(1, 200))]
    async with bench.running():
        await bench.send(
            0, *(reading("a", n % 50, n, number=n) for n in range(150, 210)), reading("a", 120 * SECOND, 1, number=501)
        )
        assert await bench.results(0, 3) == [
            row("a", 0, range(1, 200)), row("a", 0, range(1, 210), revision=1), row("a", 60 * SECOND, [1]),
        ]  # fmt: skip


class SessionJob(Job):
    window: ClassVar[SessionSpec] = SessionSpec(10 * SECOND)  # type: ignore[assignment]


async def test_sessions_run_as_windows_do_and_go_on_after_a_restart(bench: Bench) -> None:
    bench.job = SessionJob()
    async with bench.running():
        await bench.send(0, reading("a", 0, 1), reading("a", 5 * SECOND, 2), reading("b", 8 * SECOND, 3))
        assert await bench.read("out", 0) == []
    async with bench.running():
        await bench.send(0, reading("a", 30 * SECOND, 4))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while len(found := await bench.read("out", 0)) < 2:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.01)
    assert [Session(*row) for row in found] == [
        Session("a", BASE, BASE + 5 * SECOND, 3, 2, 1, 2, 0, []),  # type: ignore[arg-type]
        Session("b", BASE + 8 * SECOND, BASE + 8 * SECOND, 3, 1, 3, 3, 0, []),  # type: ignore[arg-type]
    ]
