"""The event log port: topics, partitions, positions, and the one commit primitive.

Words used everywhere in this project:

offset
    Where one record stands in its partition. Offsets are unique and increasing, **not dense**: a commit wastes at
    least one (Kafka writes a transaction marker there; the local log leaves a hole on purpose). A count is never
    end minus start, and contiguity is never "previous end plus one".
position
    The offset of the *next* record to read. ``Slice.next_position`` is the only place where one is made from an
    offset, so "+1" stands once per adapter.
task
    The unit of exactly-once: an operator group (or intake, or a projector) and a partition. One live session a task.
commit
    Outputs, state changes and input positions become visible together or not at all. "Committed" is not yet
    "readable" on every log: whoever waits for a position waits, it does not look once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class TaskId(NamedTuple):
    """A unit of exactly-once processing: an operator group and a partition number.

    Its text form ``group-partition`` is the Kafka ``transactional.id`` (behind the application's prefix).
    """

    group: str
    partition: int

    def __str__(self) -> str:
        return f"{self.group}-{self.partition}"


class TopicKind(StrEnum):
    """What a topic holds, which decides how long it is kept and who may write it."""

    CANONICAL = "canonical"
    """Accepted events as they were sent, keyed by source. Kept for ever; intake alone writes."""
    BROADCAST = "broadcast"
    """Canonical reference events (registry, rules): every task reads every partition. Kept for ever."""
    EXCHANGE = "exchange"
    """Canonical records re-keyed by subject, with upstream clocks. May be cut behind its readers."""
    DERIVED = "derived"
    """Events computed by operators. Kept for ever."""
    FOREIGN = "foreign"
    """Another program's topic, as it is: nothing is promised of its settings or of what its headers say."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as declared. ``create_topics`` refuses an existing topic whose settings differ."""

    name: str
    kind: TopicKind
    partitions: int


class Headers(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the platform knows of a record beside the sender's bytes.

    On Kafka each non-default field is a record header of the same name (UTF-8 text; integers in decimal).
    """

    received: int
    """Receive time in ms since the epoch, monotone within a partition; itself a tick of the partition's clock."""
    type: str
    """CloudEvents ``type``, so that routing needs no decode. ``clock.ticked`` marks a record without a value."""
    principal: str = ""
    """Who sent it (never a secret)."""
    enterprise: str = ""
    """Scope, stamped by intake from the device's registration: enterprise id."""
    site: str = ""
    """Scope: site id."""
    division: str = ""
    """Scope: county-level division code of GB/T 2260."""
    known_at: int = 0
    """Derived records: greatest receive time among the causes. 0: equal to ``received``."""
    upstream: str = ""
    """Exchange records and clock marks: the writing task, ``group-partition``."""
    origin: str = ""
    """Exchange records: ``topic/partition/offset`` of the canonical record that was forwarded."""
    raw: str = ""
    """Digest of the raw wire frame in the blob store, where one is kept."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record to append. ``value`` is the sender's bytes, verbatim."""

    key: bytes
    value: bytes
    headers: Headers


MAX_RECORD_BYTES = 1_048_576
"""Largest ``record_size`` on every log, so that what one takes the other takes; unless a log is opened with another limit."""


def record_size(record: Record) -> int:
    """Bytes that count against the log's limit: key, value and header text (characters, integers as 8)."""
    headers = record.headers
    return (
        len(record.key)
        + len(record.value)
        + 16
        + len(headers.type)
        + len(headers.principal)
        + len(headers.enterprise)
        + len(headers.site)
        + len(headers.division)
        + len(headers.upstream)
        + len(headers.origin)
        + len(headers.raw)
    )


@dataclass(frozen=True, slots=True)
class Append:
    """Records to append to one partition, in order."""

    topic: str
    partition: int
    records: Sequence[Record]


T = TypeVar("T")


class Column(Sequence[T], Generic[T]):
    """A column of known length that is made when it is first looked at.

    Who folds values into windows never looks at keys or headers, and making an object of each costs as much as folding it.
    """

    __slots__ = ("_items", "_length", "_make")

    def __init__(self, length: int, make: Callable[[], list[T]]) -> None:
        self._length = length
        self._make = make
        self._items: list[T] | None = None

    def _made(self) -> list[T]:
        if self._items is None:
            self._items = self._make()
        return self._items

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return self._made()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._made())


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive records of one partition, as parallel columns of equal length.

    ``position`` is where the last slice of the same reader ended (or where it was opened or sought), so that slices are
    contiguous over markers and holes too, and ``next_position`` is where to go on; records
    may be fewer than the difference. ``headers[i]``, ``keys[i]``, ``values[i]`` and ``offsets[i]`` belong together.
    """

    topic: str
    partition: int
    position: int
    next_position: int
    offsets: Sequence[int]
    keys: Sequence[bytes]
    values: Sequence[bytes]
    headers: Sequence[Headers]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the last commit of a task left: input positions and keyed state entries."""

    positions: Mapping[TopicPartition, int] = field(default_factory=dict)
    entries: Mapping[bytes, bytes] = field(default_factory=dict)


class LogError(Exception):
    """Base of the log's errors."""


class Fenced(LogError):
    """Another session of the same task has been opened. Stop this task and ask whoever placed it; never re-open at once."""


class TopicMismatch(LogError):
    """An existing topic differs from its declaration (partition count, retention, message size, timestamp type)."""


class LogUnavailable(LogError):
    """The log did not answer in time. Nothing of the call is known to be visible; the session must be thrown away."""


class RecordTooLarge(LogError):
    """A record exceeds the log's message size (``record_size``)."""


class UnknownPartition(LogError):
    """No topic of that name, or no such partition of it."""


class TaskSession(Protocol):
    """The only writer of one task. Opening a session fences every earlier one of the same task."""

    @property
    def task(self) -> TaskId: ...

    async def restore(self) -> TaskState:
        """State as of the last commit of any session of this task. Call once, after opening, before reading input.

        Opening first and restoring second is a guard of its own: state read before the predecessor was fenced can be
        older than that predecessor's last commit.
        """
        ...

    async def commit(
        self,
        outputs: Sequence[Append],
        entries: Mapping[bytes, bytes | None],
        positions: Mapping[TopicPartition, int],
    ) -> Mapping[TopicPartition, int]:
        """Make outputs, state changes and input positions visible together, durably.

        ``entries`` are upserts (``None`` deletes); keys not named stay. ``positions`` are merged into the stored ones.
        Returns, for each output partition, the position after the last record written there.

        Raises:
            Fenced: nothing of this commit is or will be visible.
            RecordTooLarge: nothing is visible; the session stays usable.
            LogUnavailable: unknown whether it is visible; throw session and in-memory state away, open anew, restore.
        """
        ...

    async def close(self) -> None: ...


class LogReader(Protocol):
    """Reads committed records of a fixed set of partitions, each in offset order. Not safe for concurrent polls."""

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Slice]:
        """Slices that hold at least one record (at most ``max_records`` in all), or an empty list after ``timeout_ms``.

        Returns as soon as anything is there.
        """
        ...

    def seek(self, tp: TopicPartition, position: int) -> None:
        """The next slice of this partition begins at ``position``; also that of a poll that waits just now."""
        ...

    def position(self, tp: TopicPartition) -> int:
        """Where the next poll of this partition goes on."""
        ...

    async def close(self) -> None: ...


class EventLog(Protocol):
    """An ordered, partitioned, durable log."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing; idempotent. Raises TopicMismatch for an existing topic that differs."""
        ...

    async def topics(self) -> Sequence[TopicSpec]: ...

    async def adopt(self, names: Sequence[str]) -> Sequence[TopicSpec]:
        """Know topics that another program made, so that tasks may read and write them. Raises UnknownPartition."""
        ...

    async def open_task(self, task: TaskId) -> TaskSession: ...

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Append outside any task (tools, benches). Durable when it returns; returns the position after the last."""
        ...

    async def open_reader(self, positions: Mapping[TopicPartition, int], *, bulk: bool = False) -> LogReader:
        """A reader of committed records. Position 0 is the beginning of a partition.

        ``bulk``: for one who reads many partitions fast; may take threads and buffers of its own, and its slices make
        offsets, keys and headers only when they are looked at.
        """
        ...

    async def read_range(self, tp: TopicPartition, start: int, end: int) -> Slice:
        """All committed records with ``start <= offset < end`` (for projection intents, replay and audit)."""
        ...

    async def end_positions(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The position after the last readable record, markers included, of each partition."""
        ...

    async def close(self) -> None: ...


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (unsigned), as in the Java client, so that every producer of a key agrees.

    Source: org.apache.kafka.common.utils.Utils#murmur2, seed 0x9747b28c.
    """
    m = 0x5BD1E995
    length = len(data)
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * m) & 0xFFFFFFFF
        k ^= k >> 24
        k = (k * m) & 0xFFFFFFFF
        h = ((h * m) & 0xFFFFFFFF) ^ k
    tail = data[whole:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * m) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * m) & 0xFFFFFFFF
    return h ^ (h >> 15)


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key. We compute it ourselves, never a client's default."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


CLOCK_TYPE = "clock.ticked"
"""Type of a record that carries only a receive time: a tick after a second of silence, or a forwarded upstream clock."""
