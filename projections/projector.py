"""The projector: from the log into the warehouse, each row once, whatever dies when.

The protocol (``docs/protocols/projection.md`` has what a death after each step leaves behind; ``STEPS`` are its names):

1. Open the task (which fences any earlier projector), then restore: a position per table and partition, and the intent.
   Compare with the ranges that stand in the rows: a table that lost rows (a restored backup) goes back to what it has.
2. An intent is pending: read exactly its ranges again, build the same blocks, insert them under the same tokens.
3. Poll and gather, until a table is due and the insert budget allows.
4. Commit the intent: the range vector of every table that is to be inserted, and the dead letters of those ranges. The
   positions of the flush before go in the same commit.
5. Insert, per table: one block, rows in the order of (topic, partition, offset), token = digest(table, range vector).
6. Commit the positions: with the next intent, or alone when nothing more comes.

Positions are kept per table, since a table with few rows waits longer than a busy one. So a table that is new in the code
begins at the start of its topics and is filled from the whole log, while the others skip what they have.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeVar

import msgspec
import pyarrow as pa

from hengliu.events import topics as topic_names
from hengliu.events.envelope import derived_id
from hengliu.events.family import Text
from hengliu.events.refused import Payload, Refused, refused_record
from hengliu.ports.clock import Clock
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import (
    CLOCK_TYPE,
    Append,
    EventLog,
    Headers,
    LogReader,
    LogUnavailable,
    Record,
    Slice,
    TaskId,
    TaskSession,
    TaskState,
    TopicPartition,
)
from hengliu.ports.warehouse import TableSchema, Warehouse, WarehouseUnavailable
from projections.pace import Held, Pace, Policy
from projections.table import Fault, Range, Records, Rows, Table
from projections.tables import projection_position

__all__ = [
    "INTENT_KEY",
    "MESSAGES",
    "STEPS",
    "TASK",
    "Counters",
    "Flush",
    "Guards",
    "Policy",
    "Projector",
    "WarehouseAhead",
    "token_of",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

TASK: Final = TaskId("projector", 0)

STEPS: Final = ("1-restored", "2-settled", "3-gathered", "4-intended", "5-inserted-one", "5-inserted", "6-committed")
"""Places where a test may stop the process: right after the step of that number (``5-inserted-one``: after each table's)."""

LIVE: Final = Policy()

INTENT_KEY: Final = b"intent"
"""State entry of the pending intent: table to [topic, partition, start, end] of each range."""


@dataclass(frozen=True, slots=True)
class Guards:
    """What makes it exactly once. A test switches each off and sees rows doubled."""

    intent: bool = True
    """Ranges are committed before the insert. Off: a restart cuts other ranges, whose tokens nobody has seen."""
    token: bool = True
    """The token follows from the ranges. Off: every attempt has its own."""
    order: bool = True
    """Ranges and rows stand in one order everywhere. Off: a flush has the order of arrival, a replay that of the intent."""
    ranges: bool = True
    """At the start the ranges in the rows are asked, which survive what the engine's tokens do not. Off: after a restored
    backup rows are doubled or missing."""


@dataclass(slots=True)
class Counters:
    """Since the start of this object; for metrics."""

    records: int = 0
    rows: int = 0
    refused: int = 0
    clocks: int = 0
    unclaimed: int = 0
    """Records of a type that no table takes (a family of a newer version, for example)."""
    flushes: int = 0
    inserts: int = 0
    settled: int = 0
    """Intents found pending at a start."""
    retries: int = 0
    reopened: int = 0
    rewound: int = 0
    """Tables that had lost rows at a start."""


@dataclass(frozen=True, slots=True)
class Flush:
    """What a flush has just made readable; for the live feed."""

    at_ms: int
    data: Mapping[str, pa.Table]
    """Table name to its new rows."""
    positions: Mapping[TopicPartition, int]


def token_of(table: str, ranges: Sequence[Range]) -> str:
    """Deduplication token of an insert: digest of the table and its range vector."""
    vector = [[r.topic, r.partition, r.start, r.end] for r in ranges]
    return sha256(msgspec.json.encode([table, vector])).hexdigest()


MESSAGES: Final[Mapping[str, Text]] = {
    "projection.ahead": Text(
        "表 {table} 含有日志尚未投影的位置（{topic}/{partition}：表中到 {found}，日志中到 {known}）：它属于另一个日志，"
        "或日志、任务状态被恢复成了旧的。继续会重复计数，拒绝启动；请换一个仓库，或删除这些表以重建",
        "table {table} holds positions that this log has not projected ({topic}/{partition}: the table has {found}, the log "
        "{known}): it belongs to another log, or log or task state were restored to an older one. Going on would count twice, "
        "so this refuses to start; use another warehouse, or drop the tables to rebuild them",
    )
}


class WarehouseAhead(Exception):
    """A table holds rows of ranges that the projector's state has never seen."""

    def __init__(self, table: str, tp: TopicPartition, found: int, known: int) -> None:
        self.table, self.tp, self.found, self.known = table, tp, found, known
        words = {"table": table, "topic": tp.topic, "partition": tp.partition, "found": found, "known": known}
        self.text = MESSAGES["projection.ahead"].filled(**words)
        super().__init__(self.text.both())


class _Stopped(Exception):
    """``stop`` came while an insert was being retried; its intent stays for the next start."""


@dataclass(slots=True)
class _Lane:
    """What one table has from one partition."""

    position: int
    """Everything before it is in the warehouse or gives no row."""
    inserted: int = 0
    """End of the last range that gave rows: the greatest ``batch_max`` that the table must hold."""
    told: int = 0
    """Dead letters of everything before it are out. Beyond ``position`` only after the table went back."""
    start: int = 0
    offsets: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)


@dataclass(slots=True)
class _Buffer:
    """What one table has gathered."""

    table: Table
    lanes: dict[TopicPartition, _Lane]
    arrived: list[TopicPartition] = field(default_factory=list)
    """Lanes that hold records, in the order in which they began to."""
    count: int = 0
    size: int = 0
    since: float = 0.0
    """Loop time of the oldest record."""

    def clear(self) -> None:
        for tp in self.arrived:
            lane = self.lanes[tp]
            lane.offsets, lane.values, lane.headers = [], [], []
        self.arrived, self.count, self.size = [], 0, 0


@dataclass(frozen=True, slots=True)
class _Block:
    """One insert: a table, its range vector, its records and what they gave."""

    table: Table
    ranges: tuple[Range, ...]
    records: Records
    rows: Rows

    @property
    def filled(self) -> set[Range]:
        """Ranges that gave at least one row."""
        refused = {fault.row for fault in self.rows.faults}
        return {r for row, r in enumerate(self.records.ranges) if row not in refused}


_Stored = list[tuple[str, int, int, int, int]]
"""State entry of a table: topic, partition, position, inserted, told."""
_Intent = dict[str, list[tuple[str, int, int, int]]]


class _Probe(msgspec.Struct):
    """Whatever identity an undecodable value still shows."""

    id: str | None = None
    source: str | None = None


class Projector:
    """Runs the protocol. One object, one run."""

    def __init__(
        self,
        log: EventLog,
        warehouse: Warehouse,
        tables: Iterable[Table],
        partitions: int,
        clock: Clock,
        *,
        topics: Iterable[str] | None = None,
        policy: Policy = LIVE,
        guards: Guards = Guards(),
        faults: Faults = no_faults,
        tell_positions: bool = True,
    ) -> None:
        """``topics``: read these alone; None: all topics of the tables. ``tell_positions``: into ``projection_position``, for
        other processes; where there is none it would only cost two inserts a second."""
        self._log = log
        self._warehouse = warehouse
        self._clock = clock
        self._policy = policy
        self._guards = guards
        self._faults = faults
        self._tables = tuple(tables)
        wanted = None if topics is None else frozenset(topics)
        names = sorted({t for table in self._tables for t in table.topics if wanted is None or t in wanted})
        self._tps = [TopicPartition(name, p) for name in names for p in range(partitions)]
        self._by_type: dict[tuple[str, str], list[str]] = {}
        for table in self._tables:
            for topic in table.topics:
                for type_ in table.types:
                    self._by_type.setdefault((topic, type_), []).append(table.name)
        self._buffers: dict[str, _Buffer] = {}
        self._read: dict[TopicPartition, int] = {}
        self._intended = False
        self._dirty = False
        self._tell = tell_positions
        self._pace = Pace(policy)
        self._committed_at = 0.0
        self._positions_at = 0.0
        self._positions_told: dict[TopicPartition, int] = {}
        self._waiters: list[tuple[TopicPartition, int, asyncio.Future[None]]] = []
        self._subscribers: list[Callable[[Flush], None]] = []
        self._stopping = asyncio.Event()
        self._done = asyncio.Event()
        self._started = False
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="projector")
        self.counters = Counters()

    # --- what others see of it ---------------------------------------------------------------------------------------

    @property
    def topic_partitions(self) -> Sequence[TopicPartition]:
        return self._tps

    def progress(self) -> Mapping[TopicPartition, int]:
        """Position of each partition up to which every table is readable in the warehouse; empty before step 3."""
        return {tp: self._flushed(tp) for tp in self._read}

    async def wait_for(self, tp: TopicPartition, position: int, timeout: float) -> bool:
        """Whether all before ``position`` became readable within ``timeout`` seconds. Tables of ``tp`` stop waiting for more.

        Raises:
            ValueError: the projector does not read this partition.
        """
        if tp not in self._tps:
            raise ValueError(f"{tp.topic}/{tp.partition} is not projected")
        if tp in self._read and self._flushed(tp) >= position:
            return True
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (tp, position, reached)
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(reached, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiters = [w for w in self._waiters if w is not waiter]
        return True

    def subscribe(self, callback: Callable[[Flush], None]) -> Callable[[], None]:
        """Call ``callback`` on the loop after each flush, when its rows are readable. Returns what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def run(self) -> None:
        """Project until ``stop``.

        Raises:
            Fenced: another projector was opened; do not start again at once.
            WarehouseAhead: the warehouse does not belong to this state of the log.
            WarehouseError: an insert failed for good. The intent stays, so a later start settles it.
        """
        self._started = True
        wait = self._policy.retry_ms
        try:
            while not self._stopping.is_set():
                try:
                    await self._session()
                except LogUnavailable:
                    # Unknown whether the last commit is visible: throw away what is in memory and begin at step 1.
                    self.counters.reopened += 1
                    logger.warning("the log did not answer; opening the projector anew in %d ms", wait)
                    await self._pause(wait / 1000)
                    wait = min(wait * 2, self._policy.retry_max_ms)
        except _Stopped:
            pass
        finally:
            self._executor.shutdown(wait=True)
            self._done.set()

    async def stop(self) -> None:
        """End after the flush that is under way; rows only gathered are read again at the next start."""
        self._stopping.set()
        if self._started:
            await self._done.wait()

    # --- the protocol ------------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        session = await self._log.open_task(TASK)
        try:
            state = await session.restore()
            self._restore(state)
            stored = state.entries.get(INTENT_KEY)
            intent = msgspec.json.decode(stored, type=_Intent) if stored is not None else {}
            held = await self._reconcile(intent) if self._guards.ranges else {}
            self._faults("1-restored")
            if stored is not None:
                await self._settle(session, intent, held)
            self._faults("2-settled")
            starts = {tp: self._floor(tp) for tp in self._tps}
            reader = await self._log.open_reader(starts)
            try:
                self._read = dict(starts)
                self._wake()
                await self._loop(session, reader)
            finally:
                await reader.close()
        finally:
            await session.close()

    def _restore(self, state: TaskState) -> None:
        """Step 1: positions of every table; 0 for a table that is new."""
        self._read = {}
        self._intended = False
        self._dirty = False
        self._buffers = {}
        for table in self._tables:
            lanes = {tp: _Lane(0) for tp in self._tps if tp.topic in table.topics}
            stored = state.entries.get(_table_key(table.name))
            if stored is not None:
                for topic, partition, position, inserted, told in msgspec.json.decode(stored, type=_Stored):
                    tp = TopicPartition(topic, partition)
                    if tp in lanes:
                        lanes[tp] = _Lane(position, inserted, told)
            self._buffers[table.name] = _Buffer(table, lanes)

    async def _reconcile(self, intent: _Intent) -> dict[str, dict[TopicPartition, int]]:
        """Step 1: what each table really holds, by the ranges in its rows. A table that has less than it was given goes back
        to what it has; its pending intent is void, since everything from there on is read again."""
        held = {name: await self._held(name) for name in self._buffers}
        for name, buffer in self._buffers.items():
            pending = {TopicPartition(topic, p): end for topic, p, _, end in intent.get(name, ())}
            for tp, lane in buffer.lanes.items():
                found = held[name].get(tp, 0)
                known = max(lane.position, pending.get(tp, 0))
                if found > known:
                    raise WarehouseAhead(name, tp, found, known)
            if any(held[name].get(tp, 0) < lane.inserted for tp, lane in buffer.lanes.items()):
                self.counters.rewound += 1
                logger.warning("table %s has lost rows (a restored backup?); it is filled again from what it has", name)
                for tp, lane in buffer.lanes.items():
                    lane.told = max(lane.told, lane.position, pending.get(tp, 0))
                    if held[name].get(tp, 0) < lane.inserted:
                        lane.position = lane.inserted = held[name].get(tp, 0)
                intent.pop(name, None)
        return held

    async def _held(self, name: str) -> dict[TopicPartition, int]:
        """Greatest ``batch_max`` of each partition in a table."""
        sql = (
            "SELECT src_topic AS topic, src_partition AS partition, max(batch_max) AS high "  # noqa: S608 (a declared name)
            f"FROM {name} GROUP BY src_topic, src_partition"
        )
        result = await self._patiently(name, lambda: self._warehouse.query(sql))
        return {TopicPartition(str(t), int(str(p))): int(str(high)) for t, p, high in result.rows}

    async def _settle(self, session: TaskSession, intent: _Intent, held: Mapping[str, Mapping[TopicPartition, int]]) -> None:
        """Step 2. The dead letters of the ranges went out with the intent, so faults are not told again."""
        self.counters.settled += 1
        blocks = []
        for name, vector in sorted(intent.items()):
            buffer = self._buffers.get(name)
            if buffer is None:
                continue  # the code no longer has this table
            ranges = tuple(Range(*r) for r in vector)
            slices = [await self._log.read_range(r.tp, r.start, r.end) for r in ranges]
            records = _claimed(buffer.table, ranges, slices)
            blocks.append(_Block(buffer.table, ranges, records, await self._rows(buffer.table, records)))
        # An insert is one part, all or nothing: one of its ranges in the rows says that all of it is there.
        there = {b.table.name for b in blocks if any(held.get(b.table.name, {}).get(r.tp, 0) >= r.end for r in b.filled)}
        await self._insert_all([b for b in blocks if b.table.name not in there])
        for block in blocks:
            self._passed(block)
        self._intended = True
        self._dirty = True
        await self._commit_positions(session)

    def _passed(self, block: _Block) -> None:
        """The block is in the warehouse."""
        lanes = self._buffers[block.table.name].lanes
        filled = block.filled
        for r in block.ranges:
            lane = lanes.get(r.tp)
            if lane is not None:
                lane.position = r.end
                lane.told = max(lane.told, r.end)
                if r in filled:
                    lane.inserted = r.end

    async def _loop(self, session: TaskSession, reader: LogReader) -> None:
        loop = asyncio.get_running_loop()
        self._committed_at = self._positions_at = loop.time()
        self._pace = Pace(self._policy, loop.time())
        while not self._stopping.is_set():
            await self._gather(reader)
            due = self._due(loop.time())
            if due:
                self._faults("3-gathered")
                await self._flush(session, due)
            elif self._dirty and loop.time() - self._committed_at >= self._policy.idle_commit_ms / 1000:
                await self._commit_positions(session)
            await self._tell_positions(loop.time())
        if self._dirty:
            await self._commit_positions(session)

    async def _gather(self, reader: LogReader) -> None:
        """Step 3: one poll."""
        policy = self._policy
        held = sum(b.count for b in self._buffers.values())
        if held >= policy.max_rows or sum(b.size for b in self._buffers.values()) >= policy.max_bytes:
            await self._pause(0.01)  # full; only the insert budget is missing
            return
        wait = 20 if held else policy.flush_ms
        slices = await reader.poll(min(policy.poll_records, policy.max_rows - held), wait)
        now = asyncio.get_running_loop().time()
        for piece in slices:
            self._take(piece, now)
        if slices:
            self._dirty = True
            self._wake()

    def _take(self, piece: Slice, now: float) -> None:
        tp = piece.tp
        counters = self.counters
        counters.records += len(piece)
        topic = tp.topic
        by_type = self._by_type
        for i, headers in enumerate(piece.headers):
            if headers.type == CLOCK_TYPE:
                counters.clocks += 1
                continue
            names = by_type.get((topic, headers.type))
            if names is None:
                counters.unclaimed += 1
                continue
            offset = piece.offsets[i]
            for name in names:
                buffer = self._buffers[name]
                lane = buffer.lanes[tp]
                if offset < lane.position:
                    continue  # this table has it; another one made the reader start earlier
                if not lane.offsets:
                    lane.start = max(piece.position, lane.position)
                    buffer.arrived.append(tp)
                    if not buffer.count:
                        buffer.since = now
                lane.offsets.append(offset)
                lane.values.append(piece.values[i])
                lane.headers.append(headers)
                buffer.count += 1
                buffer.size += len(piece.values[i])
        self._read[tp] = piece.next_position

    def _due(self, now: float) -> list[_Buffer]:
        """Buffers to flush now, in the order of the tables."""
        asked = {tp for tp, _, _ in self._waiters}
        buffers = list(self._buffers.values())
        at_once = self._policy.at_once
        held = [Held(b.count, b.size, b.since, not asked.isdisjoint(b.arrived), b.table.name in at_once) for b in buffers]
        return [buffers[i] for i in self._pace.due(held, now)]

    async def _flush(self, session: TaskSession, due: Sequence[_Buffer]) -> None:
        blocks = []
        for buffer in due:
            ranges, records = self._records(buffer)
            blocks.append(_Block(buffer.table, ranges, records, await self._rows(buffer.table, records)))
        letters = self._dead_letters(blocks)
        if self._guards.intent:
            # Step 4. Stored sorted, whatever the order of arrival was.
            intent = {b.table.name: [(r.topic, r.partition, r.start, r.end) for r in sorted(b.ranges)] for b in blocks}
            await self._commit(session, letters, {INTENT_KEY: msgspec.json.encode(intent)})
            self._intended = True
            self._faults("4-intended")
        await self._insert_all(blocks)  # step 5
        self._faults("5-inserted")
        for block, buffer in zip(blocks, due, strict=True):
            self._passed(block)
            buffer.clear()
        self.counters.flushes += 1
        self._dirty = True
        if not self._guards.intent:
            await self._commit(session, letters, {})
        self._announce(blocks)

    def _records(self, buffer: _Buffer) -> tuple[tuple[Range, ...], Records]:
        """What a buffer holds: its range vector, and its records in that order."""
        ranges = tuple(
            Range(tp.topic, tp.partition, buffer.lanes[tp].start, self._read[tp])
            for tp in (sorted(buffer.arrived) if self._guards.order else buffer.arrived)
        )
        lanes = [(r, buffer.lanes[r.tp]) for r in ranges]
        return ranges, Records(
            [r for r, lane in lanes for _ in lane.offsets],
            [offset for _, lane in lanes for offset in lane.offsets],
            [value for _, lane in lanes for value in lane.values],
            [headers for _, lane in lanes for headers in lane.headers],
        )

    async def _rows(self, table: Table, records: Records) -> Rows:
        return await asyncio.get_running_loop().run_in_executor(self._executor, table.rows, records)

    async def _insert_all(self, blocks: Sequence[_Block]) -> None:
        """Step 5 for every block that has rows."""
        for block in blocks:
            self.counters.refused += len(block.rows.faults)
            if block.rows.data.num_rows:
                token = token_of(block.table.name, block.ranges) if self._guards.token else uuid.uuid4().hex
                await self._insert(block.table.schema, block.rows.data, token)
                self.counters.rows += block.rows.data.num_rows
            self._faults("5-inserted-one")

    async def _insert(self, schema: TableSchema, data: pa.Table, token: str) -> None:
        """One insert, again and again under the same token while the warehouse cannot be reached."""
        await self._patiently(schema.name, lambda: self._warehouse.insert(schema, data, token))
        self._pace.spend()
        self.counters.inserts += 1

    async def _patiently(self, table: str, ask: Callable[[], Awaitable[T]]) -> T:
        wait = self._policy.retry_ms
        while True:
            try:
                return await ask()
            except WarehouseUnavailable:
                self.counters.retries += 1
                if self._stopping.is_set():
                    raise _Stopped from None
                logger.warning("the warehouse cannot be reached for %s; again in %d ms", table, wait)
                await self._pause(wait / 1000)
                wait = min(wait * 2, self._policy.retry_max_ms)

    async def _commit(self, session: TaskSession, outputs: Sequence[Append], entries: Mapping[bytes, bytes | None]) -> None:
        """Commit the positions as they stand, with what else belongs there."""
        tables = {}
        for name, buffer in self._buffers.items():
            stored: _Stored = []
            for tp, lane in buffer.lanes.items():
                position = self._table_position(lane, tp)
                stored.append((tp.topic, tp.partition, position, lane.inserted, max(lane.told, position)))
            tables[_table_key(name)] = msgspec.json.encode(stored)
        positions = {tp: self._floor(tp) if tp not in self._read else self._flushed(tp) for tp in self._tps}
        await session.commit(outputs, {**tables, **entries}, positions)
        self._committed_at = asyncio.get_running_loop().time()
        self._dirty = False

    async def _commit_positions(self, session: TaskSession) -> None:
        """Step 6, alone."""
        await self._commit(session, (), {INTENT_KEY: None} if self._intended else {})
        self._intended = False
        self._faults("6-committed")

    # --- positions ---------------------------------------------------------------------------------------------------

    def _table_position(self, lane: _Lane, tp: TopicPartition) -> int:
        """A table that waits for nothing from a partition is as far as the reader."""
        return lane.position if lane.offsets else max(lane.position, self._read.get(tp, 0))

    def _flushed(self, tp: TopicPartition) -> int:
        return min(self._table_position(b.lanes[tp], tp) for b in self._buffers.values() if tp in b.lanes)

    def _floor(self, tp: TopicPartition) -> int:
        return min(b.lanes[tp].position for b in self._buffers.values() if tp in b.lanes)

    def _wake(self) -> None:
        for tp, position, reached in self._waiters:
            if not reached.done() and tp in self._read and self._flushed(tp) >= position:
                reached.set_result(None)

    def _announce(self, blocks: Sequence[_Block]) -> None:
        self._wake()
        if not self._subscribers:
            return
        data = {b.table.name: b.rows.data for b in blocks if b.rows.data.num_rows}
        flush = Flush(self._clock.now_ms(), data, self.progress())
        for callback in tuple(self._subscribers):
            try:
                callback(flush)
            except Exception:  # the feed is a convenience, the tables are not: a broken page must not stop them
                logger.exception("a subscriber of the live feed failed")

    async def _tell_positions(self, now: float) -> None:
        """Into ``projection_position``, at a leisurely pace."""
        if not self._tell or now - self._positions_at < self._policy.position_ms / 1000:
            return
        self._positions_at = now
        moved = {tp: p for tp, p in self.progress().items() if self._positions_told.get(tp) != p}
        if moved:
            rows = projection_position.position_rows(TASK.group, moved, self._clock.now_ms())
            ranges = [Range(tp.topic, tp.partition, 0, position) for tp, position in sorted(moved.items())]
            schema = projection_position.SCHEMA
            await self._insert(schema, rows, token_of(schema.name, ranges))
            self._positions_told.update(moved)

    # --- dead letters ------------------------------------------------------------------------------------------------

    def _dead_letters(self, blocks: Sequence[_Block]) -> list[Append]:
        """One ``event.refused`` for each record that gave no row, into the partition of the same number."""
        now = self._clock.now_ms()
        by_partition: dict[int, list[Record]] = {}
        for block in blocks:
            lanes = self._buffers[block.table.name].lanes
            for fault in block.rows.faults:
                r = block.records.ranges[fault.row]
                if block.records.offsets[fault.row] < lanes[r.tp].told:
                    continue  # the table is being filled again
                by_partition.setdefault(r.partition, []).append(_dead_letter(block, fault, now))
        return [Append(topic_names.QUARANTINE, p, records) for p, records in sorted(by_partition.items())]

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past ``stop``."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _table_key(name: str) -> bytes:
    return b"table/" + name.encode()


def _claimed(table: Table, ranges: Sequence[Range], slices: Sequence[Slice]) -> Records:
    """The records of ``table`` in its ranges, as they were gathered the first time."""
    chosen = [
        (r, piece.offsets[i], piece.values[i], headers)
        for r, piece in zip(ranges, slices, strict=True)
        for i, headers in enumerate(piece.headers)
        if headers.type in table.types
    ]
    return Records([c[0] for c in chosen], [c[1] for c in chosen], [c[2] for c in chosen], [c[3] for c in chosen])


def _dead_letter(block: _Block, fault: Fault, now_ms: int) -> Record:
    r = block.records.ranges[fault.row]
    offset = block.records.offsets[fault.row]
    value = block.records.values[fault.row]
    headers = block.records.headers[fault.row]
    try:
        probe = msgspec.json.decode(value, type=_Probe)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        probe = _Probe()
    known_at = headers.known_at or headers.received
    place = f"{r.topic}/{r.partition}/{offset}"
    said = Refused(
        fault.code,
        Payload.of(value),
        headers.principal,
        {**fault.parameters, "origin": place, "table": block.table.name},
        source=probe.source,
        id=probe.id,
        type=headers.type,
        scope=(headers.enterprise, headers.site, headers.division),
    )
    identity = derived_id("projector", 1, block.table.name, r.topic, r.partition, offset)
    return refused_record(
        said, f"/projections/{block.table.name}", identity, known_at, now_ms,
        known_at=known_at, upstream=str(TASK), operator="projector", operatorversion=1, cause=place,
    )  # fmt: skip
