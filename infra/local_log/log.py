"""The port's face of the local log: sessions, readers, group commit and wake-up, all on one event loop.

Threads: one writer thread owns the only writing connection; a few reader threads share read-only ones. Everything else
runs on the loop that opened the log, so its dictionaries need no lock. ``LocalLog`` is not for use from other threads.
"""

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import apsw

from hengliu.ports.log import (
    Append,
    LogError,
    LogUnavailable,
    Record,
    Slice,
    TaskId,
    TaskState,
    TopicPartition,
    TopicSpec,
    UnknownPartition,
)
from infra.local_log.codec import decode
from infra.local_log.errors import LogFormat, LogLocked, LogReadOnly
from infra.local_log.store import (
    APPLICATION_ID,
    FORMAT,
    OFFSET_BITS,
    OFFSET_MASK,
    AppendUnit,
    CommitUnit,
    OpenUnit,
    Store,
    TopicsUnit,
    Unit,
    end_of,
    load_topics,
    open_connection,
    read_state,
)
from infra.local_log.tail import Batch, Tail
from infra.log_guards import ALL_GUARDS, Guards, StepHook, no_hook
from infra.log_limits import MAX_RECORD_BYTES
from infra.opening import Opening

__all__ = ["LocalLog", "LocalReader", "LocalTaskSession"]

MAX_SLICE_BYTES = 8 << 20
"""A poll stops behind the row that reaches this many value bytes."""
MAX_GROUP_BYTES = 32 << 20
"""A transaction takes no further unit behind this many bytes, so that one bulk load does not hold everybody's answer."""
MAX_PENDING_BYTES = 128 << 20
"""Writers wait for room above this."""
READ_THREADS = 2
POLL_SECONDS = 0.002
"""How often another process looks for new commits (p50 2 ms, 3.4 % of a core while somebody waits: docs/decisions/009)."""

T = TypeVar("T")


@dataclass(slots=True)
class _Pending:
    unit: Unit
    done: asyncio.Future[Any]


class LocalLog:
    """An ``EventLog`` in one SQLite file. Made by ``open`` (the one writing process) or ``open_read_only`` (others)."""

    def __init__(
        self,
        path: Path,
        store: Store | None,
        lock: int | None,
        writer: ThreadPoolExecutor | None,
        guards: Guards,
        hook: StepHook,
    ) -> None:
        self._path = path
        self._store = store
        self._lock = lock
        self._writer = writer
        self._guards = guards
        self._hook = hook
        self._loop = asyncio.get_running_loop()
        self._readers_pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="log-read")
        self._connections: list[apsw.Connection] = [open_connection(path, writing=False) for _ in range(READ_THREADS)]
        self._specs: dict[str, TopicSpec] = {}
        self._ids: dict[TopicPartition, int] = {}
        self._ends: dict[int, int] = {}
        self._watchers: dict[int, set[LocalReader]] = {}
        self._tail = Tail()
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._closed = False
        self._watch: apsw.Connection | None = None
        self._seen_version = -1
        if store is not None:
            self._specs, self._ids, self._ends = dict(store.specs), dict(store.ids), dict(store.ends)
            self._worker = self._loop.create_task(self._write(), name="log-writer")
            self._worker.add_done_callback(self._writer_ended)
        else:
            self._watch = open_connection(path, writing=False)
            self._look()
            self._worker = self._loop.create_task(self._follow(), name="log-follower")

    # -- opening and closing -----------------------------------------------------------------------------------------

    @staticmethod
    def open(
        path: Path,
        *,
        max_record_bytes: int = MAX_RECORD_BYTES,
        guards: Guards = ALL_GUARDS,
        hook: StepHook = no_hook,
    ) -> Opening["LocalLog"]:
        """Open or create the log file ``path`` as its one writing process: ``await`` it, or ``async with`` it.

        ``max_record_bytes`` bounds key, value and headers of one record together.

        Raises:
            LogLocked: another process writes it.
            LogFormat: the file is something else.
        """
        return Opening(LocalLog._open(path, max_record_bytes, guards, hook))

    @staticmethod
    def open_read_only(path: Path) -> Opening["LocalLog"]:
        """Open an existing log beside the process that writes it: reading works, any write raises ``LogReadOnly``."""
        return Opening(LocalLog._open_read_only(path))

    @staticmethod
    async def _open(path: Path, max_record_bytes: int, guards: Guards, hook: StepHook) -> "LocalLog":
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(path)
        writer = ThreadPoolExecutor(1, thread_name_prefix="log-write")
        try:
            loop = asyncio.get_running_loop()
            try:
                store = await loop.run_in_executor(writer, Store, path, max_record_bytes, guards, hook)
            except apsw.NotADBError:
                raise LogFormat(path=str(path), found="?", wanted=str(FORMAT)) from None
            return LocalLog(path, store, lock, writer, guards, hook)
        except BaseException:
            writer.shutdown()
            os.close(lock)
            raise

    @staticmethod
    async def _open_read_only(path: Path) -> "LocalLog":
        try:
            connection = open_connection(path, writing=False)
            try:
                found = (connection.pragma("application_id"), connection.pragma("user_version"))
            finally:
                connection.close()
        except apsw.CantOpenError as error:
            raise LogUnavailable(f"{path}: {error}") from error
        except apsw.NotADBError:
            raise LogFormat(path=str(path), found="?", wanted=str(FORMAT)) from None
        if found != (APPLICATION_ID, FORMAT):
            raise LogFormat(path=str(path), found=str(found[1]), wanted=str(FORMAT))
        return LocalLog(path, None, None, None, ALL_GUARDS, no_hook)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what was asked, then close everything and give up the lock. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._room.set()
        for readers in self._watchers.values():
            for reader in readers:
                reader._event.set()
        if self._store is None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        else:
            await self._worker
        await self._loop.run_in_executor(None, self._readers_pool.shutdown)
        self._closed = True
        for connection in self._connections:
            connection.close()
        if self._watch is not None:
            self._watch.close()
        if self._store is not None and self._writer is not None:
            # The writing connection goes last: only then can it checkpoint the whole WAL away.
            await self._loop.run_in_executor(self._writer, self._store.close)
            await self._loop.run_in_executor(None, self._writer.shutdown)
        if self._lock is not None:
            os.close(self._lock)

    # -- writing -----------------------------------------------------------------------------------------------------

    async def _do(self, unit: Unit) -> Any:
        """Queue a unit for the writer and wait for its own outcome."""
        if self._store is None:
            raise LogReadOnly(path=str(self._path))
        while self._pending_bytes > MAX_PENDING_BYTES and not self._closing:
            self._room.clear()
            await self._room.wait()
        if self._closing:
            raise LogUnavailable("the log is closed")
        pending = _Pending(unit, self._loop.create_future())
        self._pending.append(pending)
        self._pending_bytes += unit.size
        self._wake.set()
        return await pending.done

    async def _write(self) -> None:
        """Group commit: take what is there, one transaction, answer all of it."""
        assert self._store is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                group: list[_Pending] = []
                size = 0
                while self._pending and size <= MAX_GROUP_BYTES:
                    pending = self._pending.popleft()
                    size += pending.unit.size
                    group.append(pending)
                self._pending_bytes -= size
                self._room.set()
                units = [pending.unit for pending in group]
                try:
                    outcome = await self._loop.run_in_executor(self._writer, self._store.run, units)
                except Exception as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
                    for pending in group:
                        _answer(pending.done, _unavailable(error))
                    continue
                if outcome.topics_changed:
                    # The writer thread is idle until the next group, so its dictionaries hold still.
                    self._specs, self._ids = dict(self._store.specs), dict(self._store.ids)
                self._publish(outcome.ends, outcome.tails)  # step 6
                self._hook("6-published")
                for pending, result in zip(group, outcome.results, strict=True):
                    _answer(pending.done, result)  # step 7
            if self._closing:
                return

    def _writer_ended(self, worker: asyncio.Task[None]) -> None:
        """Whatever ended the writer, nobody may wait for it any longer."""
        self._closing = True
        for pending in self._pending:
            _answer(pending.done, LogUnavailable("the log's writer has ended"))
        self._pending.clear()
        self._room.set()

    def _publish(self, ends: Mapping[int, int], tails: Sequence[Batch] = ()) -> None:
        """Tell readers what became readable."""
        for batch in tails:
            self._tail.add(batch)
        self._ends.update(ends)
        for partition_id in ends:
            for reader in self._watchers.get(partition_id, ()):
                reader._advanced(partition_id)

    # -- following another process -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """See what another process committed since the last look: new topics, and the ends of what readers here watch."""
        assert self._watch is not None
        version = self._watch.pragma("data_version")
        if version == self._seen_version:
            return
        self._seen_version = version
        topics = self._watch.execute("SELECT count(*) FROM topic").fetchall()[0][0]
        if topics != len(self._specs):
            self._specs, self._ids = load_topics(self._watch)
        self._look_at(self._watchers)

    def _look_at(self, partition_ids: Iterable[int]) -> None:
        assert self._watch is not None
        ends = {i: end_of(self._watch, i) for i in partition_ids}
        self._publish({i: end for i, end in ends.items() if self._ends.get(i, 0) != end})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if any(reader._waiting for readers in self._watchers.values() for reader in readers):
                self._look()

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        def run() -> T:
            connection = self._connections.pop()
            try:
                return work(connection)
            finally:
                self._connections.append(connection)

        if self._closing:
            raise LogUnavailable("the log is closed")
        try:
            return await self._loop.run_in_executor(self._readers_pool, run)
        except apsw.Error as error:
            raise LogUnavailable(f"{type(error).__name__}: {error}") from error

    def _partition_id(self, tp: TopicPartition) -> int:
        found = self._ids.get(tp)
        if found is None:
            if self._watch is not None:
                self._look()
                found = self._ids.get(tp)
            if found is None:
                raise UnknownPartition(f"{tp.topic}/{tp.partition}")
        return found

    # -- the port ----------------------------------------------------------------------------------------------------

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._do(TopicsUnit(tuple(specs)))

    async def topics(self) -> Sequence[TopicSpec]:
        if self._watch is not None:
            self._look()
        return sorted(self._specs.values(), key=lambda spec: spec.name)

    async def adopt(self, names: Sequence[str]) -> Sequence[TopicSpec]:
        known = {spec.name: spec for spec in await self.topics()}
        missing = [name for name in names if name not in known]
        if missing:
            raise UnknownPartition(", ".join(missing))
        return [known[name] for name in names]

    async def open_task(self, task: TaskId) -> "LocalTaskSession":
        if not self._guards.fence_before_restore:
            return LocalTaskSession(self, task, None, await self._read(lambda c: _state(c, _task_row(c, task))))
        return LocalTaskSession(self, task, await self._do(OpenUnit(task)), None)

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        size = sum(len(r.value) + len(r.key) + 200 for r in records)
        position: int = await self._do(AppendUnit(TopicPartition(topic, partition), records, size))
        return position

    async def open_reader(self, positions: Mapping[TopicPartition, int], *, bulk: bool = False) -> "LocalReader":
        return LocalReader(self, positions)

    async def read_range(self, tp: TopicPartition, start: int, end: int) -> Slice:
        partition_id = self._partition_id(tp)
        if end <= start:
            return Slice(tp.topic, tp.partition, start, start, [], [], [], [])
        found = await self._read(lambda c: _read_partition(c, tp, partition_id, start, end, 1 << 62, 1 << 62, end))
        return found[0] if found else Slice(tp.topic, tp.partition, start, end, [], [], [], [])

    async def end_positions(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        ids = {tp: self._partition_id(tp) for tp in tps}
        if self._watch is not None:
            self._look_at(ids.values())
        return {tp: self._ends.get(i, 0) for tp, i in ids.items()}


class LocalTaskSession:
    """One epoch of a task."""

    def __init__(self, log: LocalLog, task: TaskId, opened: tuple[int, int] | None, stale: TaskState | None) -> None:
        self._log = log
        self._task = task
        self._opened = opened
        self._stale = stale
        self._closed = False

    @property
    def task(self) -> TaskId:
        return self._task

    async def restore(self) -> TaskState:
        if self._stale is not None:
            return self._stale
        assert self._opened is not None
        task_id = self._opened[0]
        return await self._log._read(lambda connection: _state(connection, task_id))

    async def commit(
        self,
        outputs: Sequence[Append],
        entries: Mapping[bytes, bytes | None],
        positions: Mapping[TopicPartition, int],
    ) -> Mapping[TopicPartition, int]:
        if self._closed:
            raise LogError(f"{self._task}: this session was closed")
        if self._opened is None:
            self._opened = await self._log._do(OpenUnit(self._task))
        size = 64 * (len(entries) + len(positions)) + sum(len(value) for value in entries.values() if value is not None)
        for output in outputs:
            size += sum(len(r.value) + len(r.key) + 200 for r in output.records)
        task_id, epoch = self._opened
        ends: Mapping[TopicPartition, int] = await self._log._do(
            CommitUnit(task_id, self._task, epoch, outputs, entries, positions, size)
        )
        return ends

    async def close(self) -> None:
        self._closed = True


class LocalReader:
    """Reads a fixed set of partitions. Cheap when idle: one event; cheap when few advanced: only those are queried."""

    def __init__(self, log: LocalLog, positions: Mapping[TopicPartition, int]) -> None:
        self._log = log
        self._event = asyncio.Event()
        self._waiting = False
        self._closed = False
        self._id_of = {tp: log._partition_id(tp) for tp in positions}
        self._tp_of = {i: tp for tp, i in self._id_of.items()}
        self._positions = dict(positions)
        # Where the last slice of each partition ended. A hole is skipped without a slice; the next one then starts before it,
        # so that slices are contiguous for whoever checks.
        self._told = dict(positions)
        # Partitions that may hold something, in turn: one that was read and has more goes to the end.
        self._ready: dict[TopicPartition, None] = dict.fromkeys(positions)
        for i in self._tp_of:
            log._watchers.setdefault(i, set()).add(self)
        if log._watch is not None:
            log._look_at(self._tp_of)

    def _advanced(self, partition_id: int) -> None:
        self._ready[self._tp_of[partition_id]] = None
        self._event.set()

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Slice]:
        loop = self._log._loop
        deadline = loop.time() + timeout_ms / 1000
        while True:
            if self._closed or self._log._closing:
                raise LogUnavailable("the reader is closed")
            self._event.clear()
            slices = await self._take(max_records)
            if slices:
                return slices
            remaining = deadline - loop.time()
            if remaining <= 0:
                return []
            self._waiting = True
            try:
                async with asyncio.timeout(remaining):
                    await self._event.wait()
            except TimeoutError:
                if not self._ready:
                    return []
            finally:
                self._waiting = False

    async def _take(self, max_records: int) -> list[Slice]:
        wanted: list[tuple[TopicPartition, int, int, int]] = []
        slices: list[Slice] = []
        records, size = max_records, MAX_SLICE_BYTES
        for tp in list(self._ready):
            partition_id, position = self._id_of[tp], self._positions[tp]
            end = self._log._ends.get(partition_id, 0)
            if end - position <= 1:
                # Nothing, or only the hole of the last commit: every commit that writes here leaves a record before it.
                self._positions[tp] = max(position, end)
                del self._ready[tp]
                continue
            # From the first one that memory does not have, the file is asked, so that each has its turn.
            recent = None if wanted else self._log._tail.read(tp, partition_id, position, records, size)
            if recent is None:
                wanted.append((tp, partition_id, position, end))
            else:
                slices.append(recent)
                records -= len(recent)
                size -= sum(map(len, recent.values))
                if records <= 0 or size <= 0:
                    break

        def work(connection: apsw.Connection) -> list[Slice]:
            found: list[Slice] = []
            room, room_bytes = records, size
            for tp, partition_id, position, end in wanted:
                for piece in _read_partition(connection, tp, partition_id, position, OFFSET_MASK, room, room_bytes, end):
                    found.append(piece)
                    room -= len(piece)
                    room_bytes -= sum(map(len, piece.values))
                if room <= 0 or room_bytes <= 0:
                    break
            return found

        if wanted and records > 0 and size > 0:
            slices += await self._log._read(work)
        # Nothing is taken before nothing is waited for any more: a poll may be cancelled.
        return [told for piece in slices if (told := self._taken(piece)) is not None]

    def _taken(self, piece: Slice) -> Slice | None:
        """Move on behind a slice; None when somebody sought elsewhere while a thread was reading it."""
        tp, told = piece.tp, None
        if self._positions[tp] == piece.position:
            told = piece if piece.position == self._told[tp] else replace(piece, position=self._told[tp])
            self._positions[tp] = self._told[tp] = piece.next_position
        self._ready.pop(tp, None)
        if self._positions[tp] < self._log._ends.get(self._id_of[tp], 0):
            self._ready[tp] = None
        return told

    def seek(self, tp: TopicPartition, position: int) -> None:
        if tp not in self._positions:
            raise UnknownPartition(f"{tp.topic}/{tp.partition} is none of this reader's")
        self._positions[tp] = self._told[tp] = position
        self._ready[tp] = None
        self._event.set()

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def close(self) -> None:
        self._closed = True
        self._event.set()
        for i in self._tp_of:
            watchers = self._log._watchers.get(i, set())
            watchers.discard(self)
            if not watchers:
                self._log._watchers.pop(i, None)


def _answer(done: asyncio.Future[Any], result: Any) -> None:
    if done.done():  # the caller was cancelled
        return
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)


def _unavailable(error: Exception) -> LogUnavailable:
    unavailable = LogUnavailable(f"{type(error).__name__}: {error}")
    unavailable.__cause__ = error
    return unavailable


def _take_lock(path: Path) -> int:
    """The log's lock, held until the descriptor is closed, so also when the process is killed.

    A file of its own: closing any descriptor of a file drops the POSIX locks that SQLite holds on it.
    """
    lock_path = path.with_name(path.name + ".lock")
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode("ascii", "replace").strip() or "?"
        os.close(lock)
        raise LogLocked(path=str(path), pid=holder) from None
    except BaseException:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _task_row(connection: apsw.Connection, task: TaskId) -> int:
    row = connection.execute("SELECT id FROM task WHERE name = ?", (str(task),)).fetchone()
    return -1 if row is None else int(row[0])


def _state(connection: apsw.Connection, task_id: int) -> TaskState:
    positions, entries = read_state(connection, task_id)
    return TaskState(positions, entries)


def _read_partition(
    connection: apsw.Connection,
    tp: TopicPartition,
    partition_id: int,
    start: int,
    stop: int,
    max_records: int,
    max_bytes: int,
    known_end: int,
) -> list[Slice]:
    """One slice of the records ``start <= offset < stop``, or none, within the limits (at least one record)."""
    base = partition_id << OFFSET_BITS
    offsets: list[int] = []
    keys: list[bytes] = []
    values: list[bytes] = []
    headers: list[Any] = []
    size = 0
    cursor = connection.cursor()
    try:
        cursor.execute(
            "SELECT pos, n, plain, meta, val FROM batch WHERE pos BETWEEN ? AND ? ORDER BY pos",
            (base | start, base | OFFSET_MASK),
        )
        for pos, count, plain, meta, val in cursor:
            first = (pos & OFFSET_MASK) - count + 1
            if first >= stop:
                break
            low = max(start - first, 0)
            high = min(count, stop - first, low + max_records - len(offsets))
            row_keys, row_values, row_headers = decode(count, bool(plain), meta, val)
            if low == 0 and high == count:
                keys += row_keys
                values += row_values
                headers += row_headers
            else:
                keys += row_keys[low:high]
                values += row_values[low:high]
                headers += row_headers[low:high]
            offsets += range(first + low, first + high)
            size += len(val)
            if len(offsets) >= max_records or size >= max_bytes:
                break
    finally:
        cursor.close()  # an unfinished cursor would hold its snapshot, and the WAL could never be reset
    if not offsets:
        return []
    next_position = offsets[-1] + 1
    # Behind the last record known, the hole of its commit is skipped too, so that "caught up" is position == end.
    if next_position + 1 == known_end or stop == known_end:
        next_position = known_end
    return [Slice(tp.topic, tp.partition, start, next_position, offsets, keys, values, headers)]
