"""A task over one partition of one topic: values are decoded a slice at a time and folded into windows of event time.

For windows that are keyed by what the topic is keyed by, so that no other partition and no exchange has a say: device rates,
foreign topics. No merge; headers, keys and offsets are never looked at, unless a record has to be refused. What a record holds
and what of it is folded is a ``WindowJob``. The loop, the commit and the numbered steps are those of ``streams.kernel.task``.

A topic that falls silent gets its last windows too. Nothing in its log says that time went on, so the task decides it by how
long it has heard nothing (the loop's clock, which no setting of the machine's clock moves), and commits the decision with the
windows that it closed: a restart sees it closed, and records that come afterwards correct.
"""

import asyncio
import logging
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from hengliu.events.envelope import derived_id
from hengliu.ports.clock import Clock
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import EventLog, Headers, LogUnavailable, Record, Slice, TaskId, TaskState, TopicPartition
from streams.kernel.seen import SeenIds
from streams.kernel.sessions import Session, SessionSpec, SessionTable
from streams.kernel.task import CommitPolicy, OpenReader, Outputs, StreamTask, Wiring
from streams.kernel.windows import Aside, Result, WindowSpec, WindowTable, check_rows

__all__ = ["PartitionTask", "PartitionTopology", "WindowJob"]

logger = logging.getLogger(__name__)

SIDE_TYPE = "window.refused"
"""Type of what goes to the side topic: a value that does not decode or that the job cannot map, a record that no window takes,
or a result that the job cannot make; each with its cause."""


POLICY = CommitPolicy(interval_ms=500)
"""Nobody waits for a window within the second, so a commit carries more: each is a transaction a partition
(docs/decisions/009)."""


LOOK_RECORDS = 1_000
"""Offsets looked at in one go for whether anything but markers is there."""

NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for a value that is not JSON of the declared shape, not UTF-8, or nested without end."""


class WindowJob(Protocol):
    """What is counted. Holds configuration only."""

    @property
    def name(self) -> str: ...

    @property
    def record(self) -> Any:
        """Type that one value decodes to, with msgspec."""
        ...

    @property
    def window(self) -> WindowSpec | SessionSpec: ...

    def rows(self, records: Sequence[Any]) -> Sequence[tuple[str, int, int]]:
        """(key, event time in ms, value) of each record, in order. Key: text (``KEY_LENGTH``); time and value: signed, 64 bits.

        Each record is mapped for itself, whatever stands beside it. One for which this or ``ids`` raises, or gives something
        else, is put aside alone, with its offset and the error, and the rest goes on.
        """
        ...

    def ids(self, records: Sequence[Any]) -> Sequence[int] | None:
        """The number (signed, 64 bits) of each record where its source numbers them: a second copy is not counted.

        None: every record counts.
        """
        ...

    def result(self, result: Any) -> Record:
        """The output record of one window (a ``Result``) or session (a ``Session``) of one key.

        ``received`` is its timestamp on Kafka: with 0 a topic that keeps a week may delete it at once.
        One for which this raises is put aside with its figures.
        """
        ...


@dataclass(frozen=True)
class PartitionTopology:
    """A job over the partitions of a topic: its tasks, one a partition, are what ``streams.agents`` and a bare loop run.

    Attributes:
        wall: the machine's clock, for when something was put aside, and for what is too far in the future as a first time.
        target: the topic that results go to, into the partition of the same number.
        side: topic for what cannot be counted, with its cause, into the partition of the same number; None: it is logged and
            counted only.
        idle_ms: a partition that showed nothing for this long is silent, and its clock runs on as time passes; None: its last
            windows stay open until the next record.
        flush_when_silent: once silent, close everything at once instead of when its time is over.
        seconds: a clock that never goes back; None: the loop's.
    """

    log: EventLog
    wall: Clock
    job: WindowJob
    source: str
    target: str
    partitions: int
    side: str | None = None
    idle_ms: int | None = 2_000
    flush_when_silent: bool = False
    policy: CommitPolicy = POLICY
    faults: Faults = no_faults
    seconds: Callable[[], float] | None = None

    poll_records: int = 20_000
    """A record costs a microsecond here, so that many are a step of some 20 ms."""

    def inputs(self, group: str) -> tuple[str, ...]:
        return (self.source,)

    def build(self, task: TaskId, open_reader: OpenReader | None = None) -> "PartitionTask":
        return PartitionTask(task, self, open_reader)


class PartitionTask(StreamTask):
    """Runs a job over one partition."""

    def __init__(self, task: TaskId, topology: PartitionTopology, open_reader: OpenReader | None = None) -> None:
        super().__init__(task, Wiring(topology.log, topology.policy, topology.faults, open_reader))
        self._seconds = topology.seconds or asyncio.get_running_loop().time
        self._wall = topology.wall
        self._job = topology.job
        self._source = TopicPartition(topology.source, task.partition)
        self._target = topology.target
        self._side = topology.side
        self._idle_ms = topology.idle_ms
        self._flush = topology.flush_when_silent
        spec = topology.job.window
        self._table: WindowTable | SessionTable = WindowTable(spec) if isinstance(spec, WindowSpec) else SessionTable(spec)
        # A first record from the future would make all that follow late, for good.
        self._table.ceiling = topology.wall.now_ms() + spec.max_jump_ms
        self._seen = SeenIds()
        self._position = 0
        self._heard: int | None = None
        """When the last records came (the start, before there were any), in ms, and where the clock stood then."""
        self._heard_clock = 0
        self._empty_until = 0
        self._decoder = msgspec.json.Decoder(topology.job.record)

    @property
    def clock(self) -> int:
        return self._table.clock

    @property
    def late(self) -> int:
        """Records that came after their window was let go."""
        return self._table.late

    @property
    def too_far_ahead(self) -> int:
        """Records so far ahead of the clock that there was no room for them."""
        return self._table.ahead.refused

    @property
    def duplicates(self) -> int:
        """Second copies of records that were left out."""
        return self._seen.duplicates

    async def run(self) -> None:
        """As of every task; and at once UnknownPartition if one of its topics has no partition of this number.

        The first window, or the first record to be put aside, would find out otherwise, and perhaps weeks later.
        """
        outputs = [topic for topic in (self._target, self._side) if topic is not None]
        await self._log.end_positions([self._source, *(TopicPartition(topic, self._source.partition) for topic in outputs)])
        await super().run()

    def positions(self) -> dict[TopicPartition, int]:
        return {self._source: self._position}

    def process(self, pieces: Sequence[Slice], outputs: Outputs) -> int:
        count = 0
        for piece in pieces:
            if piece.position != self._position:
                raise ValueError(f"{piece.topic}/{piece.partition}: read from {piece.position}, expected {self._position}")
            aside: list[Aside] = []
            records, where = self._decode(piece, outputs)
            try:
                rows, ids = self._mapped(records)
            except Exception:  # noqa: BLE001 - whatever a job raises
                rows, ids, where = self._mapped_alone(records, where, piece, outputs)
            copies: list[int] = []
            folded: Iterable[tuple[str, int, int]] = rows
            if ids is not None:
                folded = self._seen.unseen(rows, ids, self._job.window.pane_ms, copies, aside)
            self._emit(self._table.fold(folded, aside), outputs)
            for one in aside:
                detail = {"key": one.key, "time": one.time, "value": one.value, "clock": self._table.clock}
                self._refuse(piece, where[_without(copies, one.row)], {one.cause: detail}, outputs)
            self._position = piece.next_position
            count += len(piece)
        if pieces or self._heard is None:
            self._heard, self._heard_clock = self._now_ms(), self._table.clock
        return count

    def _now_ms(self) -> int:
        return int(self._seconds() * 1_000)

    def _decode(self, piece: Slice, outputs: Outputs) -> tuple[list[Any], Sequence[int]]:
        """The records that decode, and which of the slice they are.

        Each value for itself: joined as one list, two halves and a value that is two would pass for three of them.
        """
        try:
            return list(map(self._decoder.decode, piece.values)), range(len(piece))
        except NOT_DECODED:
            pass
        found, where = [], []
        for number, value in enumerate(piece.values):
            try:
                found.append(self._decoder.decode(value))
                where.append(number)
            except NOT_DECODED as error:
                self._refuse(piece, number, _error(error), outputs)
        return found, where

    def _mapped(self, records: Sequence[Any]) -> tuple[Sequence[tuple[str, int, int]], Sequence[int] | None]:
        """What the job makes of records, once it is sure that all of it can be counted."""
        rows, ids = self._job.rows(records), self._job.ids(records)
        if len(rows) != len(records) or (ids is not None and len(ids) != len(records)):
            raise ValueError(f"{len(rows)} rows and {'no' if ids is None else len(ids)} ids of {len(records)} records")
        check_rows(rows)
        if ids is not None:
            array("q", ids)
        return rows, ids

    def _mapped_alone(
        self, records: Sequence[Any], where: Sequence[int], piece: Slice, outputs: Outputs
    ) -> tuple[list[tuple[str, int, int]], list[int] | None, list[int]]:
        """As ``_mapped``, a record at a time; those that cannot be mapped are put aside."""
        rows: list[tuple[str, int, int]] = []
        ids: list[int] = []
        kept: list[int] = []
        for number, record in zip(where, records, strict=True):
            try:
                row, id_ = self._mapped([record])
            except Exception as error:  # noqa: BLE001 - as above
                self._refuse(piece, number, _error(error), outputs)
                continue
            rows += row
            ids += id_ or ()
            kept.append(number)
        return rows, ids if len(ids) == len(rows) else None, kept

    def _emit(self, results: Sequence[Result] | Sequence[Session], outputs: Outputs) -> None:
        make, target, partition = self._job.result, self._target, self._source.partition
        for result in results:
            try:
                outputs.add(target, partition, make(result))
            except Exception as error:  # noqa: BLE001 - as above
                origin = f"{self._source.topic}/{partition}/{self._position}"
                self._put_aside(origin, {**_error(error), "result": result._asdict()}, b"", outputs)

    def _refuse(self, piece: Slice, number: int, cause: Mapping[str, Any], outputs: Outputs) -> None:
        """Put one record of a slice aside, with its position, its cause and what it holds."""
        origin = f"{piece.topic}/{piece.partition}/{piece.offsets[number]}"
        self._put_aside(origin, cause, piece.values[number], outputs)

    def _put_aside(self, origin: str, cause: Mapping[str, Any], value: bytes, outputs: Outputs) -> None:
        self.progress.dead_letters += 1
        if self._side is None:
            logger.warning("%s: %s not counted: %s", self.task, origin, cause)
            return
        body = {"origin": origin, "job": self._job.name, **cause, "value": value[:65_536].decode(errors="replace")}
        headers = Headers(received=self._wall.now_ms(), type=SIDE_TYPE, upstream=str(self.task), origin=origin)
        outputs.add(self._side, self._source.partition, Record(origin.encode(), msgspec.json.encode(body), headers))

    async def rest(self, outputs: Outputs) -> None:
        """Notice silence: once the log has had nothing for ``idle_ms``, the clock runs on from where it stood."""
        now = self._now_ms()
        if self._idle_ms is None or self._heard is None or now - self._heard < self._idle_ms:
            return
        # With nothing open the clock stands, but not for so long that whatever comes next seems to be from the future.
        jump = self._job.window.max_jump_ms
        ran_on = self._heard_clock + now - self._heard
        stood = self._table.clock > 0 and ran_on - self._table.clock >= jump // 2
        if self._table.last_close <= self._table.clock and not stood:
            return
        try:
            if not await self._read_all():
                return
        except LogUnavailable:
            self._heard = now  # the log is away: nobody knows what is silent
            return
        last = self._table.last_close
        clock = ran_on if stood else last if self._flush else min(last, ran_on)
        self._emit(self._table.advance(clock), outputs)

    async def _read_all(self) -> bool:
        """Whether the log holds nothing behind our position but, at most, markers and aborted records."""
        end = (await self._log.end_positions([self._source]))[self._source]
        start = max(self._position, self._empty_until)
        while start < end:
            until = min(end, start + LOOK_RECORDS)
            if len(await self._log.read_range(self._source, start, until)):
                return False
            start = self._empty_until = until
        return True

    def checkpoint(self) -> dict[bytes, bytes | None]:
        spec = self._job.window
        before = self._table.clock - spec.size_ms - spec.lateness_ms - spec.keep_ms - spec.pane_ms
        if isinstance(self._table, SessionTable):  # a session takes any time between its ends
            before = min(before, self._table.oldest - 2 * spec.pane_ms)
        self._seen.forget(before)
        return {**self._table.checkpoint(), **self._seen.checkpoint()}

    def restore(self, state: TaskState) -> None:
        self._position = state.positions.get(self._source, 0)
        self._table.restore(state.entries)
        self._seen.restore(state.entries)


def _without(copies: Iterable[int], row: int) -> int:
    """The number, among all rows, of one that is the ``row``-th of those that are no copies.

    >>> [_without([1, 2, 5], row) for row in range(4)]
    [0, 3, 4, 6]
    """
    for copy in copies:
        if copy > row:
            break
        row += 1
    return row


def _error(error: Exception) -> dict[str, str]:
    return {"error": f"{type(error).__name__}: {error}"[:512]}


def result_id(job: str, result: Result) -> tuple[str, str]:
    """Id of a result, and of the one that it corrects (empty for a first)."""
    own = derived_id(job, 1, result.key, result.start, result.revision)
    return own, derived_id(job, 1, result.key, result.start, result.revision - 1) if result.revision else ""
