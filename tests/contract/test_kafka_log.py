"""What only the Kafka log can show: open and aborted transactions, its topics' settings, its state topic."""

import asyncio
import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka import AIOKafkaProducer

from hengliu.ports.log import (
    Append,
    Headers,
    LogError,
    LogUnavailable,
    Slice,
    TaskState,
    TopicKind,
    TopicMismatch,
    TopicPartition,
    TopicSpec,
)
from infra.kafka_log import KafkaLog
from infra.kafka_log.admin import Admin
from infra.kafka_log.bulk import BulkReader
from infra.kafka_log.codec import StateReader, decode_headers, encode_entry, encode_headers, encode_positions
from infra.log_guards import ALL_GUARDS
from infra.services.kafka import KafkaService
from tests.contract.event_log_support import KafkaBed, make_topic, read_until, record, task, values, values_of

pytestmark = pytest.mark.kafka


class Crash(Exception):
    """Raised by a hook where a process would have died."""


async def _aborted_between(bed: KafkaBed, *, read_committed: bool) -> list[bytes]:
    """What a reader sees of a commit, an aborted one and another commit."""
    armed = False

    def hook(step: str) -> None:
        if armed and step == "4-written":
            raise Crash

    async with bed.open(replace(ALL_GUARDS, read_committed=read_committed), hook) as log:
        tp = await make_topic(log, bed)
        session = await log.open_task(task())
        await session.commit([Append(tp.topic, 0, [record("before")])], {}, {})
        armed = True
        with pytest.raises(Crash):
            await session.commit([Append(tp.topic, 0, [record("aborted")])], {}, {})
        armed = False
        session = await log.open_task(task())
        await session.commit([Append(tp.topic, 0, [record("after")])], {}, {})
        reader = await log.open_reader({tp: 0})
        found = values(await read_until(reader, 2 if read_committed else 3))
        await reader.close()
        return found


async def test_aborted_records_are_not_read(kafka_bed: KafkaBed) -> None:
    assert await _aborted_between(kafka_bed, read_committed=True) == [b"before", b"after"]


async def test_guard_read_committed_off_shows_aborted_records(kafka_bed: KafkaBed) -> None:
    assert await _aborted_between(kafka_bed, read_committed=False) == [b"before", b"aborted", b"after"]


async def test_an_open_transaction_holds_readers_back_until_a_successor_takes_over(kafka_bed: KafkaBed) -> None:
    """A producer that stopped in a transaction hides even what others committed behind it; init_transactions frees it."""
    async with kafka_bed.open() as log:
        tp = await make_topic(log, kafka_bed)
        session = await log.open_task(task(1))
        await session.commit([Append(tp.topic, 0, [record("1")])], {}, {})
        stuck = AIOKafkaProducer(bootstrap_servers=kafka_bed.bootstrap, transactional_id=f"{kafka_bed.prefix}-{task(0)}")
        await stuck.start()
        await stuck.begin_transaction()
        await stuck.send_and_wait(tp.topic, b"open", key=b"k", partition=0, headers=encode_headers(Headers(1, "t")))
        last = await session.commit([Append(tp.topic, 0, [record("2")])], {}, {})
        reader = await log.open_reader({tp: 0})
        assert values(await read_until(reader, 2, 1.0)) == [b"1"]
        assert (await log.end_positions([tp]))[tp] < last[tp]
        await log.open_task(task(0))
        assert values(await read_until(reader, 1)) == [b"2"]
        await reader.close()
        with pytest.raises(Exception, match="newer producer"):
            await stuck.commit_transaction()
        await stuck.stop()
        sender = stuck._sender.sender_task
        assert sender is not None
        assert sender.exception() is not None


async def test_state_behind_nothing_but_markers_is_found(kafka_bed: KafkaBed) -> None:
    """The tail of a state partition may be aborted records and markers only."""
    armed = False

    def hook(step: str) -> None:
        if armed and step == "4-written":
            raise Crash

    async with kafka_bed.open(hook=hook) as log:
        tp = await make_topic(log, kafka_bed)
        session = await log.open_task(task())
        await session.commit([], {b"k": b"v"}, {tp: 1})
        for _ in range(3):
            armed = True
            with pytest.raises(Crash):
                await session.commit([], {b"k": b"never"}, {tp: 2})
            armed = False
            session = await log.open_task(task())
        assert await session.restore() == TaskState({tp: 1}, {b"k": b"v"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("retention.ms", "60000"), ("max.message.bytes", "5000"), ("message.timestamp.type", "LogAppendTime")],
)
async def test_a_topic_with_other_settings_is_refused(kafka_bed: KafkaBed, setting: str, value: str) -> None:
    """A ledger topic that somebody made with a week's retention would forget: start refuses it."""
    name = kafka_bed.name("weighing")
    await asyncio.to_thread(Admin(kafka_bed.bootstrap, 1).ensure, {name: (2, {setting: value})})
    async with kafka_bed.open() as log:
        with pytest.raises(TopicMismatch, match=setting):
            await log.create_topics([TopicSpec(name, TopicKind.CANONICAL, 2)])


async def test_two_processes_may_create_the_same_topics_at_once(kafka_bed: KafkaBed) -> None:
    specs = [TopicSpec(kafka_bed.name(f"t{i}"), TopicKind.CANONICAL, 2) for i in range(5)]
    async with kafka_bed.open() as one, kafka_bed.open() as two:
        await asyncio.gather(one.create_topics(specs), two.create_topics(specs))
        assert list(await one.topics()) == list(await two.topics()) == specs
        # What one process creates the other can use without being told.
        later = TopicSpec(kafka_bed.name("later"), TopicKind.DERIVED, 1)
        await one.create_topics([later])
        await two.append(later.name, 0, [record("x")])
        assert await values_of(one, TopicPartition(later.name, 0), 1) == [b"x"]


async def test_records_far_ahead_of_the_clock_are_taken(kafka_bed: KafkaBed) -> None:
    """A simulated month runs ahead; a broker's default refuses times an hour ahead."""
    async with kafka_bed.open() as log:
        tp = await make_topic(log, kafka_bed)
        session = await log.open_task(task())
        await session.commit([Append(tp.topic, 0, [record("future", received=4_000_000_000_000)])], {}, {})
        await session.commit([Append(tp.topic, 0, [record("past", received=1)])], {}, {})
        assert await values_of(log, tp, 2) == [b"future", b"past"]


async def test_a_position_that_the_log_does_not_have_is_an_error(kafka_bed: KafkaBed) -> None:
    """Not a silent jump to either end, as a consumer does by default."""
    async with kafka_bed.open() as log:
        tp = await make_topic(log, kafka_bed)
        await log.append(tp.topic, 0, [record("a")])
        reader = await log.open_reader({tp: 1000})
        with pytest.raises(LogError, match="outside"):
            await reader.poll(10, 10_000)
        await reader.close()


async def test_a_poll_that_raised_has_lost_nothing_of_what_it_fetched(kafka_bed: KafkaBed) -> None:
    async with kafka_bed.open() as log:
        tp = await make_topic(log, kafka_bed)
        await log.append(tp.topic, 0, [record(str(i)) for i in range(500)])
        reader = await log.open_reader({tp: 0}, bulk=True)
        assert isinstance(reader, BulkReader)
        cut, fails = reader._slices, [False, True, False, True]

        def failing(messages: list[Any]) -> list[Slice]:
            if messages and fails and fails.pop(0):
                raise LogUnavailable("made by this test")
            return cut(messages)

        reader._slices = failing  # type: ignore[method-assign]
        slices: list[Slice] = []
        while sum(map(len, slices)) < 500:
            with contextlib.suppress(LogUnavailable):
                slices += await reader.poll(100, 10_000)
        assert fails == []
        assert values(slices) == [str(i).encode() for i in range(500)]
        assert [s.position for s in slices] == [0, *(s.next_position for s in slices[:-1])]
        await reader.close()


async def test_a_poll_raises_again_while_its_cause_stays_and_then_goes_on(kafka_bed: KafkaBed) -> None:
    async with kafka_bed.open() as log:
        tp = await make_topic(log, kafka_bed)
        beyond = TopicPartition(tp.topic, 1)
        await log.append(tp.topic, 0, [record(str(i)) for i in range(500)])
        reader = await log.open_reader({tp: 0, beyond: 1000}, bulk=True)
        slices: list[Slice] = []

        async def read_on() -> None:
            async with asyncio.timeout(10):
                while True:
                    slices.extend(await reader.poll(1_000, 1_000))

        await asyncio.sleep(0.5)  # until both partitions lie in the client's queue
        with pytest.raises(LogError, match="outside"):
            await read_on()
        with pytest.raises(LogError, match="outside"):
            await read_on()
        reader.seek(beyond, 0)
        slices += await read_until(reader, 500 - sum(map(len, slices)))
        assert values(slices) == [str(i).encode() for i in range(500)]
        assert slices[0].position == 0
        await reader.close()


async def test_nobody_at_the_address_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.kafka_log.admin.CONNECT_SECONDS", 0.5)
    with pytest.raises(LogUnavailable):
        await KafkaLog.open("127.0.0.1:1")


async def test_ranges_of_a_foreign_topic_are_read_without_its_headers(kafka_bed: KafkaBed) -> None:
    """Whoever only counts what is there, as a task that looks for silence does, does not fail on records of others."""
    name = f"{kafka_bed.prefix}-foreign"
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_bed.bootstrap})
    async with kafka_bed.open() as log:
        assert isinstance(log, KafkaLog)
        await asyncio.to_thread(log._admin.ensure, {name: (1, {})})
        for number in range(3):
            producer.produce(name, b"%d" % number, partition=0)
        await asyncio.to_thread(producer.flush, 30)
        await log.adopt([name])
        tp = TopicPartition(name, 0)
        piece = await log.read_range(tp, 0, (await log.end_positions([tp]))[tp])
        assert list(piece.values) == [b"0", b"1", b"2"]
        with pytest.raises(LogError, match="foreign record"):
            piece.headers[0]


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_state_survives_compaction(tmp_path: Path) -> None:
    """54 MB of commits whose live state is a fifth of it: the cleaner drops the rest, what is restored does not change."""

    def stored() -> int:
        return sum(f.stat().st_size for f in (tmp_path / "data" / "hengliu-state-vehicle-0").glob("*.log"))

    wanted: dict[bytes, bytes] = {}
    written = 0  # counted, not looked up: on a busy machine the cleaner is at work before the last commit
    position = TopicPartition("in", 0)
    async with KafkaService(tmp_path, heap_mb=384) as bootstrap, KafkaLog.open(bootstrap) as log:
        await log.create_topics([TopicSpec("in", TopicKind.CANONICAL, 1)])
        session = await log.open_task(task())
        for i in range(60):
            bucket = b"tiny" if i == 50 else os.urandom(700_000 if i % 5 else 2_000_000)
            written += len(bucket)
            changes: dict[bytes, bytes | None] = {b"bucket%d" % (i % 7): bucket, b"once%d" % i: b"x", b"round": b"%d" % i}
            if i:
                changes[b"once%d" % (i - 1)] = None
            await session.commit([], changes, {position: i})
            wanted |= {key: value for key, value in changes.items() if value is not None}
            wanted.pop(b"once%d" % (i - 1), None)
        for _ in range(300):
            await asyncio.sleep(0.2)
            if (now := await asyncio.to_thread(stored)) < written / 2:
                break
        assert now < written / 2
        session = await log.open_task(task())
        assert await session.restore() == TaskState({position: 59}, wanted)
        await session.commit([], {b"after": b"1"}, {})
    async with KafkaService(tmp_path, heap_mb=384) as bootstrap, KafkaLog.open(bootstrap) as log:
        session = await log.open_task(task())
        assert await session.restore() == TaskState({position: 59}, wanted | {b"after": b"1"})


class TestStateCodec:
    """No broker needed: what compaction may leave behind is put together by hand."""

    def _restore(self, *records: tuple[bytes, bytes | None]) -> TaskState:
        reader = StateReader()
        for key, value in records:
            reader.add(key, value)
        return reader.result()[0]

    def test_old_higher_chunks_do_not_count(self) -> None:
        big, _ = encode_entry(b"k", os.urandom(2_000_000), 0)
        small, _ = encode_entry(b"k", b"small", 0)  # as if nobody had known of the chunks before
        assert self._restore(*big, *small).entries == {b"k": b"small"}

    def test_shrinking_and_deleting_leave_tombstones(self) -> None:
        big, count = encode_entry(b"k", os.urandom(2_000_000), 0)
        assert (len(big), count) == (3, 3)
        small, count = encode_entry(b"k", b"small", 3)
        assert [value is None for _, value in small] == [False, True, True]
        assert count == 1
        gone, count = encode_entry(b"k", None, 3)
        assert [value for _, value in gone] == [None] * 3
        assert count == 0

    def test_a_missing_or_mixed_chunk_is_an_error(self) -> None:
        one, _ = encode_entry(b"k", os.urandom(1_500_000), 0)
        two, _ = encode_entry(b"k", os.urandom(1_500_000), 0)
        for damaged in ([one[0]], [one[0], two[1]]):
            with pytest.raises(LogError, match="damaged"):
                self._restore(*damaged)

    def test_positions_come_back(self) -> None:
        positions = {TopicPartition("车", 1): 2**39, TopicPartition("a", 0): 0}
        assert self._restore((b"p", encode_positions(positions))).positions == positions

    def test_records_of_others_are_refused(self) -> None:
        with pytest.raises(LogError, match="foreign record"):
            decode_headers([("something", b"else")], "t", 7)
        kept = decode_headers([*encode_headers(Headers(1, "t", site="S")), ("traceparent", b"\xff")], "t", 7)
        assert kept == Headers(1, "t", site="S")
