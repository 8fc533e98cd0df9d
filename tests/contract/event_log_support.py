"""Beds on which the event log's contract is tested: one per adapter, each with names of its own per test."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hengliu.ports.log import (
    EventLog,
    Headers,
    LogReader,
    Record,
    Slice,
    TaskId,
    TopicKind,
    TopicPartition,
    TopicSpec,
)
from infra.kafka_log import KafkaLog
from infra.local_log import LocalLog
from infra.log_guards import ALL_GUARDS, Guards, StepHook, no_hook
from infra.services.kafka import KafkaService

_numbers = itertools.count()


class LocalBed:
    """The local log in a directory of the test.

    ``wake_ms`` bounds the time from a commit's answer to a waiting reader's return, far above what is usual.
    """

    wake_ms = 500
    max_record_bytes = 200_000

    def __init__(self, directory: Path) -> None:
        self.path = directory / "log.db"

    def name(self, name: str) -> str:
        return name

    @asynccontextmanager
    async def open(self, guards: Guards = ALL_GUARDS, hook: StepHook = no_hook) -> AsyncIterator[EventLog]:
        async with LocalLog.open(self.path, max_record_bytes=self.max_record_bytes, guards=guards, hook=hook) as log:
            yield log


class KafkaBed:
    """A broker shared by the test run; names keep the tests apart."""

    wake_ms = 5000
    max_record_bytes = 200_000

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"t{os.getpid()}-{next(_numbers)}"

    def name(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    @asynccontextmanager
    async def open(self, guards: Guards = ALL_GUARDS, hook: StepHook = no_hook) -> AsyncIterator[EventLog]:
        async with KafkaLog.open(
            self.bootstrap,
            prefix=self.prefix,
            state_partitions=8,
            max_record_bytes=self.max_record_bytes,
            guards=guards,
            hook=hook,
        ) as log:
            yield log


class _Broker:
    """One broker however many modules import the fixture; driven from a loop that runs only while it starts and stops."""

    def __init__(self) -> None:
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: KafkaService | None = None

    def enter(self, directory: Path) -> str:
        if self._service is None:
            self._loop = asyncio.new_event_loop()
            service = KafkaService(directory, heap_mb=384)
            try:
                self._loop.run_until_complete(service.start())
            except BaseException:
                self._loop.close()
                raise
            self._service = service
        self._users += 1
        return self._service.bootstrap

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0 and self._service is not None and self._loop is not None:
            self._loop.run_until_complete(self._service.stop())
            self._loop.close()
            self._service = None


_broker = _Broker()


@pytest.fixture(scope="session")
def event_log_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real broker, one for the whole run."""
    yield _broker.enter(tmp_path_factory.mktemp("kafka"))
    _broker.leave()


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> LocalBed | KafkaBed:
    """One adapter after the other."""
    if request.param == "local":
        return LocalBed(tmp_path)
    return KafkaBed(request.getfixturevalue("event_log_kafka"))


@pytest.fixture
def kafka_bed(event_log_kafka: str) -> KafkaBed:
    return KafkaBed(event_log_kafka)


@pytest.fixture
def local_bed(tmp_path: Path) -> LocalBed:
    return LocalBed(tmp_path)


def record(value: bytes | str, key: bytes = b"urn:dev:org:32473-scale-1", received: int = 1_700_000_000_000) -> Record:
    """A record of no particular meaning."""
    data = value.encode() if isinstance(value, str) else value
    return Record(key, data, Headers(received, "weighing.measured", principal="scale", site="S1"))


async def make_topic(log: EventLog, bed: LocalBed | KafkaBed, name: str = "weighing", partitions: int = 2) -> TopicPartition:
    """A new topic; its partition 0."""
    topic = bed.name(name)
    await log.create_topics([TopicSpec(topic, TopicKind.CANONICAL, partitions)])
    return TopicPartition(topic, 0)


async def read_until(reader: LogReader, count: int, seconds: float = 20.0) -> list[Slice]:
    """Slices holding at least ``count`` records, or what came within the time."""
    slices: list[Slice] = []
    deadline = asyncio.get_running_loop().time() + seconds
    while sum(map(len, slices)) < count and asyncio.get_running_loop().time() < deadline:
        slices += await reader.poll(10_000, 200)
    return slices


async def values_of(log: EventLog, tp: TopicPartition, count: int) -> list[bytes]:
    """All committed values of a partition, once there are at least ``count``: committed is not yet readable.

    A test that says what must not appear commits something after it, so that the wait covers it.
    """
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        end = (await log.end_positions([tp]))[tp]
        found = list((await log.read_range(tp, 0, end)).values)
        if len(found) >= count or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.01)


async def end_after(log: EventLog, tp: TopicPartition, position: int) -> int:
    """The end position of a partition, once what was committed up to ``position`` is readable, its marker included."""
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        end = (await log.end_positions([tp]))[tp]
        if end > position or asyncio.get_running_loop().time() > deadline:
            return end
        await asyncio.sleep(0.01)


def values(slices: Sequence[Slice]) -> list[bytes]:
    return [value for found in slices for value in found.values]


def task(partition: int = 0, group: str = "vehicle") -> TaskId:
    return TaskId(group, partition)
