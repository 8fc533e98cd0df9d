"""Faust around the loop: same results as the bare loop, tasks that fail, apps that crash, slices that get lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

import streams.agents
from hengliu.compose.adapters import register_transports
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import (
    CLOCK_TYPE,
    Headers,
    LogUnavailable,
    Record,
    Slice,
    TaskId,
    TaskState,
    TopicPartition,
    partition_for,
)
from infra.faust_batch import MAX_OUTSTANDING_SLICES, BatchConsumer
from infra.faust_kafka import Consumer
from infra.local_log import LocalLog
from streams.agents import FaustShell, GroupHost
from streams.kernel.task import ExchangeTask, OperatorTask
from streams.supervisor import Supervisor
from streams.topology import Topology

PARTITIONS = 2
SOURCE = "urn:dev:org:32473-wb-m01-1"
CATALOG = Catalog()


class City:
    """A log that a test writes crossings and clocks to, as intake would."""

    def __init__(self, log: LocalLog) -> None:
        self.log = log
        self.clock = SystemClock()
        self.topology = Topology(log, CATALOG, PARTITIONS)
        self._sent = 0

    async def tick(self) -> None:
        now = self.clock.now_ms()
        for topic in CATALOG.canonical_topics():
            for p in range(PARTITIONS):
                await self.log.append(topic, p, [Record(b"", b"", Headers(received=now, type=CLOCK_TYPE))])

    async def truck(self, number: int) -> None:
        """One truck, empty and full: one ticket."""
        now = self.clock.now_ms()
        records = []
        for mass in (15_000, 40_000 + number):
            self._sent += 1
            data = {"plate": f"蒙C{number:05}", "mass_kg": mass, "axles": 6, "commodity": "raw", "use": "power"}
            time = now - 3_600_000 + self._sent * 1_000
            value = encode_event("weighing.measured", SOURCE, str(self._sent), time, data)
            headers = Headers(received=now, type="weighing.measured", enterprise="m01", site="m01", division="150303")
            records.append(Record(SOURCE.encode(), value, headers))
        await self.log.append("weighing", partition_for(SOURCE.encode(), PARTITIONS), records)

    async def tickets(self) -> list[str]:
        found: list[str] = []
        for p in range(PARTITIONS):
            tp = TopicPartition("ticket", p)
            ends = await self.log.end_positions([tp])
            piece = await self.log.read_range(tp, 0, ends[tp])
            found += [v.decode() for v, h in zip(piece.values, piece.headers, strict=True) if h.type != CLOCK_TYPE]
        return found

    async def wait_for_tickets(self, count: int, timeout_s: float = 30) -> list[str]:
        async with asyncio.timeout(timeout_s):
            while True:
                await self.tick()
                found = await self.tickets()
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.1)


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[City]:
    register_transports()
    async with LocalLog.open(tmp_path / "log.sqlite") as log:
        await log.create_topics(CATALOG.topic_specs(PARTITIONS))
        yield City(log)


def faust_shell(city: City) -> Any:
    return FaustShell(city.topology, {g: f"test-{g}" for g in city.topology.group_names}, "hengliu-local://")


def bare_supervisor(city: City) -> Any:
    return Supervisor(city.topology, city.topology.task_ids())


@pytest.mark.parametrize("runner", [faust_shell, bare_supervisor])
async def test_trucks_become_tickets_and_a_second_run_goes_on(city: City, runner: Callable[[City], Any]) -> None:
    for first in (0, 10):
        running = runner(city)
        await running.start()
        try:
            for number in range(first, first + 10):
                await city.truck(number)
            found = await city.wait_for_tickets(first + 10)
        finally:
            await running.stop()
        assert len(found) == first + 10
        assert running.failures == {}
    assert len({t.split('"id":"')[1][:32] for t in found}) == 20


async def test_a_crashed_faust_app_is_built_again(city: City, caplog: pytest.LogCaptureFixture) -> None:
    running = faust_shell(city)
    await running.start()
    try:
        await city.truck(1)
        await city.wait_for_tickets(1)
        vehicle = next(s for s in running._shells if s.host.group == "vehicle")
        await vehicle._app.crash(RuntimeError("made by this test"))
        await city.truck(2)
        assert len(await city.wait_for_tickets(2)) == 2
    finally:
        await running.stop()
    assert "built again" in caplog.text


test_a_crashed_faust_app_is_built_again = pytest.mark.logs_errors(test_a_crashed_faust_app_is_built_again)


async def test_a_slice_that_faust_drops_is_read_again(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock Faust drops what it holds when its flow stops for a moment; a slice is dropped here on its way to the task."""
    put = streams.agents._Feed.put
    dropped: list[int] = []

    async def lossy(self: Any, piece: Any) -> int | None:
        if piece.topic == "by-vehicle" and len(dropped) < 3 and self._expected.get(piece.tp) == piece.position:
            dropped.append(piece.position)
            return None
        return await put(self, piece)

    monkeypatch.setattr(streams.agents._Feed, "put", lossy)
    running = faust_shell(city)
    await running.start()
    try:
        for number in range(5):
            await city.truck(number)
        assert len(await city.wait_for_tickets(5)) == 5
    finally:
        await running.stop()
    assert len(dropped) == 3


class Seeks:
    """A Faust app of whose consumer only seeks are asked."""

    def __init__(self) -> None:
        self.consumer = self
        self.seeks: list[tuple[int, int]] = []

    async def seek(self, tp: TP, position: int) -> None:
        self.seeks.append((tp.partition, position))


def mark(tp: TopicPartition, position: int) -> Slice:
    """A slice of one clock mark."""
    headers = Headers(received=position, type=CLOCK_TYPE, upstream="exchange-0")
    return Slice(*tp, position, position + 1, [position], [b""], [b""], [headers])


async def test_a_slice_that_is_lost_just_after_a_seek_is_read_again_too(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic may be silent from then on: nothing arrives that would ask once more."""
    monkeypatch.setattr(streams.agents, "RESEEK_S", 0.3)
    app, tp = Seeks(), TopicPartition("by-meter", 0)
    host = GroupHost(city.topology, "meter")
    host.attach(app)
    try:
        await host.assigned([tp])
        for position in (0, 2, 3):  # 1 is lost, and 3 was fetched before the seek
            await host.deliver(mark(tp, position))
            await asyncio.sleep(0.01)
        assert app.seeks == [(0, 1)]
        for position in (1, 2, 4):  # read again; 3 is lost now
            await host.deliver(mark(tp, position))
        assert app.seeks == [(0, 1)]
        async with asyncio.timeout(10):
            while len(app.seeks) < 2:  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        for position in (5, 3):  # what came late after all needs no seek
            await host.deliver(mark(tp, position))
        await asyncio.sleep(0.4)
        assert app.seeks == [(0, 1), (0, 3)]
    finally:
        await host.stop()


class _Deaf:
    """A reader of the registry whose connection is gone."""

    async def poll(self, max_records: int, timeout_ms: int) -> list[Any]:
        raise LogUnavailable("made by this test")

    async def close(self) -> None:
        pass


async def test_a_lost_registry_reader_ends_the_task_however_busy_its_other_inputs_are() -> None:
    """Clocks keep the queue from ever being empty, so a check made only then would leave the merge standing for good."""
    tp = TopicPartition("by-meter", 0)
    feed: Any = streams.agents._Feed({tp: 0}, _Deaf())  # type: ignore[arg-type]

    async def busy() -> None:
        for position in range(5):
            mark = Headers(received=position, type=CLOCK_TYPE, upstream="exchange-0")
            await feed.put(Slice(*tp, position, position + 1, [position], [b""], [b""], [mark]))
            await feed.poll(1_000, 1_000)

    with pytest.raises(LogUnavailable):
        await busy()
    await feed.close()


async def test_a_delivery_that_is_cancelled_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.agents, "FEED_RECORDS", 3)
    tp = TopicPartition("by-meter", 0)
    feed: Any = streams.agents._Feed({tp: 0}, None)
    mark = Headers(received=1, type=CLOCK_TYPE)
    pieces = [Slice(*tp, n, n + 1, [n], [b""], [b""], [mark]) for n in range(4)]
    for piece in pieces[:-1]:
        await feed.put(piece)
    waiting = asyncio.create_task(feed.put(pieces[-1]))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert feed.position(tp) == pieces[-1].position
    await feed.close()


async def test_an_assignment_that_faust_gives_up_waiting_for_leaves_a_sound_task(city: City) -> None:
    """An app that stops while it seeks cancels the wait; the task behind it must open as if nothing had happened."""
    host = GroupHost(city.topology, "meter")
    asking = asyncio.create_task(host.assigned([TopicPartition("by-meter", 0)]))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    try:
        assert await host.assigned([TopicPartition("by-meter", 0)]) == {TopicPartition("by-meter", 0): 0}
        assert host.failures == {}
    finally:
        await host.stop()


async def test_of_two_assignments_that_overlap_the_later_holds(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first still ends what it gives away, the second gives everything away."""
    end = streams.agents._Running.end

    async def slowly(self: Any) -> None:
        await asyncio.sleep(0.05)
        await end(self)

    monkeypatch.setattr(streams.agents._Running, "end", slowly)
    host = GroupHost(city.topology, "meter")
    try:
        await host.assigned([TopicPartition("by-meter", 1)])
        first = asyncio.create_task(host.assigned([TopicPartition("by-meter", 0)]))
        await asyncio.sleep(0)
        assert await host.assigned([]) == {}
        await first
        assert host.progress() == {}
    finally:
        await host.stop()


async def test_positions_for_an_assignment_that_was_overtaken_are_not_read_from() -> None:
    tp, answers = TP("by-meter", 0), [asyncio.get_running_loop().create_future() for _ in range(2)]
    asked = iter(answers)

    async def assigned(_: Any) -> Any:
        return await next(asked)

    consumer = object.__new__(BatchConsumer)
    consumer.app = SimpleNamespace(host=SimpleNamespace(assigned=assigned))
    consumer._assigned, consumer._reader, consumer._positions_now, consumer._asked = {tp}, None, {}, 0
    first, second = (asyncio.create_task(consumer.seek_to_committed()) for _ in range(2))
    await asyncio.sleep(0)
    answers[1].set_result({TopicPartition(*tp): 7})
    assert await second == {tp: 7}
    answers[0].set_result({TopicPartition(*tp): 3})
    assert await first == {tp: 7}
    assert await consumer.position(tp) == 7


@pytest.mark.logs_errors
async def test_a_task_whose_state_cannot_be_restored_holds_no_other_up(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    restore, failing = OperatorTask.restore, [True]

    def broken(self: OperatorTask, state: TaskState) -> None:
        if self.task.partition == 1 and failing:
            raise ValueError("made by this test")
        restore(self, state)

    monkeypatch.setattr(OperatorTask, "restore", broken)
    app, host = Seeks(), GroupHost(city.topology, "meter")
    host.attach(app)
    try:
        tps = [TopicPartition("by-meter", p) for p in range(PARTITIONS)]
        assert await host.assigned(tps) == {tps[0]: 0}
        assert list(host.failures.values()) == ["ValueError: made by this test"]
        await asyncio.sleep(0.3)  # the first attempt to rebuild it fails as well
        assert (list(host.failures), app.seeks) == ([TaskId("meter", 1)], [])
        failing.clear()
        async with asyncio.timeout(10):
            while not app.seeks:  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        assert app.seeks == [(1, 0)]
        assert host.failures == {}
    finally:
        await host.stop()


@pytest.mark.logs_errors
async def test_a_group_works_on_while_one_of_its_tasks_cannot_be_opened(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    restore, failing = ExchangeTask.restore, [True, True, True]

    def broken(self: ExchangeTask, state: TaskState) -> None:
        if self.task.partition == partition_for(SOURCE.encode(), PARTITIONS) and failing:
            failing.pop()
            raise ValueError("made by this test")
        restore(self, state)

    monkeypatch.setattr(ExchangeTask, "restore", broken)
    running = faust_shell(city)
    await running.start()
    try:
        exchange = next(s for s in running._shells if s.host.group == "exchange")
        app = exchange._app
        await city.truck(1)
        assert len(await city.wait_for_tickets(1)) == 1
        assert exchange._app is app, "one task's failure has cost the group its app"
        assert failing == []
    finally:
        await running.stop()


async def test_a_seek_while_the_local_transport_reads_does_not_end_its_app(city: City) -> None:
    running = faust_shell(city)
    await running.start()
    try:
        await city.truck(1)
        await city.wait_for_tickets(1)
        vehicle = next(s for s in running._shells if s.host.group == "vehicle")
        app = vehicle._app
        for p in range(PARTITIONS):
            consumer = app.consumer
            await consumer.seek(TP("by-vehicle", p), await consumer.position(TP("by-vehicle", p)))
        await city.truck(2)
        assert len(await city.wait_for_tickets(2)) == 2
        assert vehicle._app is app
    finally:
        await running.stop()


async def test_a_poll_that_failed_is_not_taken_for_one_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group's client counts polls under way, and while there is one the member lives, whatever it does."""
    subscription = SubscriptionState()

    async def failing(*_: Any) -> Any:
        assert subscription.fetcher_idle_time == 0
        raise LogUnavailable("made by this test")

    monkeypatch.setattr(BatchConsumer, "_getmany", failing)
    consumer = object.__new__(Consumer)
    consumer._thread = SimpleNamespace(_ensure_consumer=lambda: SimpleNamespace(_subscription=subscription))
    with pytest.raises(LogUnavailable):
        await consumer._getmany(None, 1.0)
    await asyncio.sleep(0.001)
    assert subscription.fetcher_idle_time > 0


@pytest.mark.parametrize("guarded", [True, False])
async def test_no_more_is_read_than_an_agent_that_lags_can_take(
    city: City, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """Beyond four fifths of a channel Faust takes the partition out of what is read, and forgets it when the queue is cleared
    at that moment: then nobody reads it again. So the transport stops reading well before."""
    waiting: list[int] = []
    room, deliver = BatchConsumer._wait_for_room, GroupHost.deliver
    lag = asyncio.Event()

    async def watched(consumer: Any, seconds: float) -> bool:
        there_is_room = await room(consumer, 0.01)
        waiting.append(len(consumer._outstanding))
        return there_is_room or not guarded

    async def lagging(host: GroupHost, piece: Slice) -> None:
        await lag.wait()
        await deliver(host, piece)

    monkeypatch.setattr(BatchConsumer, "_wait_for_room", watched)
    monkeypatch.setattr(GroupHost, "deliver", lagging)
    trucks = 2 * MAX_OUTSTANDING_SLICES
    running = faust_shell(city)
    await running.start()
    try:
        for number in range(trucks):
            await city.truck(number)
            await asyncio.sleep(0.02)  # so that most are read as slices of their own
        assert (max(waiting) <= MAX_OUTSTANDING_SLICES) is guarded
        lag.set()
        assert len(await city.wait_for_tickets(trucks)) == trucks
    finally:
        await running.stop()
