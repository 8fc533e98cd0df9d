"""The log's file, as the one writing thread sees it: layout, units of work, the transaction that carries a group of them.

A unit either does all of its writes or raises before the first one, so that units of one group cannot hurt each other.
Step numbers are those of ``docs/protocols/commit.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from hengliu.ports.log import (
    Append,
    Fenced,
    LogError,
    LogUnavailable,
    Record,
    TaskId,
    TopicKind,
    TopicMismatch,
    TopicPartition,
    TopicSpec,
    UnknownPartition,
)
from infra.local_log.codec import MAX_ROW_BYTES, MAX_ROW_RECORDS, Row, encode
from infra.local_log.errors import LogFormat
from infra.local_log.tail import Batch
from infra.log_guards import Guards, StepHook
from infra.log_limits import check_sizes

__all__ = [
    "OFFSET_BITS",
    "OFFSET_MASK",
    "AppendUnit",
    "CommitUnit",
    "Group",
    "OpenUnit",
    "Store",
    "TopicsUnit",
    "Unit",
    "end_of",
    "load_topics",
    "open_connection",
]

OFFSET_BITS = 40
"""A partition has 2**40 offsets: at 100 bytes a record, 110 TB."""
OFFSET_MASK = (1 << OFFSET_BITS) - 1
FORMAT = 1
APPLICATION_ID = 0x48454E47  # "HENG"
PAGE_BYTES = 16384
CHECKPOINT_PAGES = 512
"""8 MiB: a log of 40 MB was seen to stall for 83 ms, one of 4 MB for 10 ms (docs/decisions/009)."""

SCHEMA = """
CREATE TABLE topic (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, partitions INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE partition (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, UNIQUE (topic, partition)
);
CREATE TABLE batch (
    pos INTEGER PRIMARY KEY, -- partition.id << 40 | offset of the last record
    n INTEGER NOT NULL, received INTEGER NOT NULL, plain INTEGER NOT NULL, meta BLOB NOT NULL, val BLOB NOT NULL
);
CREATE TABLE task (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL);
CREATE TABLE position (
    task INTEGER NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (task, partition)
) WITHOUT ROWID;
CREATE TABLE entry (task INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (task, key)) WITHOUT ROWID;
"""


def open_connection(path: Path, *, writing: bool, sync: bool = True) -> apsw.Connection:
    """A connection with the log's settings. Only the writing one ever checkpoints.

    A checkpoint by one connection racing another's commit is what the WAL-reset corruption of SQLite before 3.51.3 needs;
    apsw brings a newer SQLite, and one checkpointing connection keeps the log out of its reach on any.
    """
    if writing:
        connection = apsw.Connection(str(path))
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "journal_mode = WAL",
            f"synchronous = {'FULL' if sync else 'OFF'}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            "journal_size_limit = 67108864",
            "foreign_keys = OFF",
            "cache_size = -65536",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    else:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.execute("PRAGMA query_only = ON; PRAGMA cache_size = -16384").fetchall()
    connection.set_busy_timeout(5000)
    return connection


def end_of(connection: apsw.Connection, partition_id: int) -> int:
    """End position of a partition: behind its last record and the hole that its commit left; 0 when it is empty."""
    low = partition_id << OFFSET_BITS
    row = connection.execute("SELECT max(pos) FROM batch WHERE pos BETWEEN ? AND ?", (low, low | OFFSET_MASK)).fetchone()
    return 0 if row is None or row[0] is None else (row[0] & OFFSET_MASK) + 2


def load_topics(connection: apsw.Connection) -> tuple[dict[str, TopicSpec], dict[TopicPartition, int]]:
    """Topics by name, and the id of each partition."""
    specs = {
        name: TopicSpec(name, TopicKind(kind), partitions)
        for name, kind, partitions in connection.execute("SELECT name, kind, partitions FROM topic")
    }
    ids = {TopicPartition(t, p): i for i, t, p in connection.execute("SELECT id, topic, partition FROM partition")}
    return specs, ids


@dataclass(slots=True)
class TopicsUnit:
    """Create topics."""

    specs: Sequence[TopicSpec]
    size: int = 256


@dataclass(slots=True)
class OpenUnit:
    """Begin a session of a task: the next epoch."""

    task: TaskId
    size: int = 128


@dataclass(slots=True)
class AppendUnit:
    """Append outside any task."""

    tp: TopicPartition
    records: Sequence[Record]
    size: int


@dataclass(slots=True)
class CommitUnit:
    """The commit primitive."""

    task_id: int
    task: TaskId
    epoch: int
    outputs: Sequence[Append]
    entries: Mapping[bytes, bytes | None]
    positions: Mapping[TopicPartition, int]
    size: int


Unit = TopicsUnit | OpenUnit | AppendUnit | CommitUnit


@dataclass(slots=True)
class Group:
    """What became of a group of units: one result or error each, and what readers should look at."""

    results: list[Any]
    ends: dict[int, int]
    """Partition id to new end position."""
    tails: list[Batch] = field(default_factory=list)
    """What was written, in order, for readers at the end of the log."""
    topics_changed: bool = False


class _Staged:
    """What a transaction changes in memory once it has committed."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        self.tails: list[Batch] = []
        self.epochs: dict[int, int] = {}
        self.specs: dict[str, TopicSpec] = {}
        self.ids: dict[TopicPartition, int] = {}


class Store:
    """The writing connection and what it knows. Every method runs in the writer thread."""

    def __init__(self, path: Path, max_record_bytes: int, guards: Guards, hook: StepHook) -> None:
        self._max_record_bytes = max_record_bytes
        self._guards = guards
        self._hook = hook
        self._broken: Exception | None = None
        self._c = open_connection(path, writing=True, sync=guards.sync)
        try:
            self._prepare(path)
            self.specs, self.ids = load_topics(self._c)
        except BaseException:
            self._c.close()
            raise
        self.ends = {i: end_of(self._c, i) for i in self.ids.values()}
        self._epochs: dict[int, int] = dict(self._c.execute("SELECT id, epoch FROM task"))

    def _prepare(self, path: Path) -> None:
        application, version = self._c.pragma("application_id"), self._c.pragma("user_version")
        tables = self._c.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        if not tables and not application:
            with self._c:
                self._c.execute(SCHEMA)
                self._c.pragma("application_id", APPLICATION_ID)
                self._c.pragma("user_version", FORMAT)
        elif (application, version) != (APPLICATION_ID, FORMAT):
            raise LogFormat(path=str(path), found=str(version), wanted=str(FORMAT))

    def close(self) -> None:
        """Checkpoint and close; the file alone then holds everything."""
        try:
            if self._broken is None:
                self._c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._c.close()

    def read_state(self, task_id: int) -> tuple[dict[TopicPartition, int], dict[bytes, bytes]]:
        """Positions and entries as of the last commit."""
        return read_state(self._c, task_id)

    # -- groups ------------------------------------------------------------------------------------------------------

    def run(self, units: Sequence[Unit]) -> Group:
        """Do all units, in one transaction where none of them breaks it; else each in its own."""
        if self._broken is not None:
            error = LogUnavailable(f"the log failed earlier and must be opened again: {self._broken}")
            return Group([error] * len(units), {})
        rows: list[Any] = [None] * len(units)
        results: list[Any] = [None] * len(units)
        able: list[int] = []
        for i, unit in enumerate(units):
            try:
                rows[i] = self._encode(unit)
                able.append(i)
            except LogError as error:
                results[i] = error
        self._hook("1-encoded")
        group = Group(results, {})
        if not self._guards.transaction:
            for i in able:
                unit = units[i]
                if isinstance(unit, CommitUnit):
                    self._split(unit, rows[i], i, group)
                else:
                    self._try(units, rows, [i], group)
        elif able and not self._try(units, rows, able, group):
            for i in able:
                if not self._try(units, rows, [i], group):
                    results[i] = LogUnavailable(str(results[i]))
        return group

    def _split(self, unit: CommitUnit, rows: Any, i: int, group: Group) -> None:
        """A commit without its transaction, for the test that shows what the transaction is for."""
        outputs = CommitUnit(unit.task_id, unit.task, unit.epoch, unit.outputs, {}, {}, unit.size)
        rest = CommitUnit(unit.task_id, unit.task, unit.epoch, (), unit.entries, unit.positions, unit.size)
        units: list[Unit] = [outputs] * (i + 1)
        if self._try(units, [rows] * (i + 1), [i], group) and not isinstance(group.results[i], Exception):
            ends = group.results[i]
            self._hook("between")
            units = [rest] * (i + 1)
            if self._try(units, [[]] * (i + 1), [i], group) and not isinstance(group.results[i], Exception):
                group.results[i] = ends

    def _try(self, units: Sequence[Unit], rows: Sequence[Any], which: Sequence[int], group: Group) -> bool:
        """One transaction of the units ``which``; False when it was rolled back and may be tried in smaller parts."""
        staged = _Staged()
        outcome: dict[int, Any] = {}
        try:
            self._c.execute("BEGIN IMMEDIATE")  # step 2
            self._hook("2-begun")
            merged: dict[int, list[tuple[int, AppendUnit]]] = {}
            for i in which:
                unit = units[i]
                try:
                    if isinstance(unit, AppendUnit):
                        merged.setdefault(self._id(unit.tp, staged), []).append((i, unit))
                    else:
                        outcome[i] = self._apply(unit, rows[i], staged)
                except LogError as error:
                    outcome[i] = error
            for partition_id, appends in merged.items():
                self._append_merged(partition_id, appends, rows, staged, outcome)
            self._hook("4-written")
            self._c.execute("COMMIT")  # step 5: the -wal is synced before this returns
        except apsw.Error as error:
            self._rollback()
            if isinstance(error, apsw.IOError | apsw.CorruptError | apsw.NotADBError):
                # After a failed sync the kernel may have dropped the dirty pages while a later sync succeeds,
                # so nothing written from here on could be trusted.
                self._broken = error
            for i in which:
                group.results[i] = LogUnavailable(f"{type(error).__name__}: {error}")
            return False
        except BaseException:
            self._rollback()
            raise
        self._hook("5-committed")
        self.ends.update(staged.ends)
        self._epochs.update(staged.epochs)
        self.specs.update(staged.specs)
        self.ids.update(staged.ids)
        group.ends.update(staged.ends)
        group.tails += staged.tails
        group.topics_changed |= bool(staged.specs)
        for i, result in outcome.items():
            group.results[i] = result
        return True

    def _rollback(self) -> None:
        if self._c.in_transaction:
            self._c.execute("ROLLBACK")

    # -- step 1: encode, outside the transaction ---------------------------------------------------------------------

    def _encode(self, unit: Unit) -> Any:
        if isinstance(unit, AppendUnit):
            check_sizes(unit.records, self._max_record_bytes)
            return None
        if isinstance(unit, CommitUnit):
            by_partition: dict[TopicPartition, list[Record]] = {}
            for output in unit.outputs:
                if output.records:
                    check_sizes(output.records, self._max_record_bytes)
                    by_partition.setdefault(TopicPartition(output.topic, output.partition), []).extend(output.records)
            return [(tp, records, _rows(records)) for tp, records in by_partition.items()]
        return None

    # -- steps 3 and 4: check, then write ----------------------------------------------------------------------------

    def _id(self, tp: TopicPartition, staged: _Staged) -> int:
        found = self.ids.get(tp)
        if found is None:
            found = staged.ids.get(tp)
        if found is None:
            raise UnknownPartition(f"{tp.topic}/{tp.partition}")
        return found

    def _apply(self, unit: TopicsUnit | OpenUnit | CommitUnit, rows: Any, staged: _Staged) -> Any:
        if isinstance(unit, CommitUnit):
            return self._commit(unit, rows, staged)
        if isinstance(unit, OpenUnit):
            return self._open(unit.task, staged)
        return self._create(unit.specs, staged)

    def _commit(self, unit: CommitUnit, rows: list[tuple[TopicPartition, Sequence[Record], list[Row]]], staged: _Staged) -> Any:
        # Step 3: the epoch. In memory, since this process alone writes; the row says the same.
        epoch = staged.epochs.get(unit.task_id, self._epochs[unit.task_id])
        if self._guards.fencing and epoch != unit.epoch:
            raise Fenced(f"{unit.task}: session {unit.epoch} was followed by session {epoch}")
        placed = [(self._id(tp, staged), tp, records, parts) for tp, records, parts in rows]
        positions = [(unit.task_id, self._id(tp, staged), position) for tp, position in unit.positions.items()]
        self._hook("3-checked")
        # Step 4.
        ends = {tp: self._insert(partition_id, records, parts, staged) for partition_id, tp, records, parts in placed}
        if positions:
            self._c.executemany("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", positions)
        if unit.entries:
            upserts = [(unit.task_id, key, value) for key, value in unit.entries.items() if value is not None]
            if upserts:
                self._c.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", upserts)
            if len(upserts) < len(unit.entries):
                deletes = [(unit.task_id, key) for key, value in unit.entries.items() if value is None]
                self._c.executemany("DELETE FROM entry WHERE task = ? AND key = ?", deletes)
        return ends

    def _insert(self, partition_id: int, records: Sequence[Record], rows: Sequence[Row], staged: _Staged) -> int:
        """Write records, cut into ``rows``, at the end of a partition; returns the position after the last, one before the
        new end."""
        first = position = staged.ends.get(partition_id, self.ends.get(partition_id, 0))
        base = partition_id << OFFSET_BITS
        for row in rows:
            position += row.count
            if position > OFFSET_MASK:
                raise LogUnavailable(f"partition {partition_id} has used all of its offsets")
            self._c.execute(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)",
                (base | (position - 1), row.count, row.received, row.plain, row.meta, row.val),
            )
        # The hole: one offset a commit, as a transaction marker takes on Kafka, so that nobody comes to rely on density.
        staged.ends[partition_id] = position + 1
        stored = sum(len(row.meta) + len(row.val) for row in rows)
        staged.tails.append(Batch(partition_id, first, position + 1, records, stored))
        return position

    def _append_merged(
        self,
        partition_id: int,
        appends: Sequence[tuple[int, AppendUnit]],
        rows: Sequence[Any],
        staged: _Staged,
        outcome: dict[int, Any],
    ) -> None:
        """All appends of a group to one partition as if they were one: one row, one hole."""
        position = staged.ends.get(partition_id, self.ends.get(partition_id, 0))
        records: list[Record] = []
        for i, unit in appends:
            records.extend(unit.records)
            outcome[i] = position + len(records)
        if records:
            self._insert(partition_id, records, _rows(records), staged)

    def _open(self, task: TaskId, staged: _Staged) -> tuple[int, int]:
        row: Any = self._c.execute(
            "INSERT INTO task (name, epoch) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 "
            "RETURNING id, epoch",
            (str(task),),
        ).fetchall()[0]
        staged.epochs[row[0]] = row[1]
        return row[0], row[1]

    def _create(self, specs: Sequence[TopicSpec], staged: _Staged) -> None:
        new: list[TopicSpec] = []
        for spec in specs:
            found = self.specs.get(spec.name) or staged.specs.get(spec.name)
            if found is None:
                if spec.partitions < 1:
                    raise TopicMismatch(f"{spec.name}: a topic has at least one partition, not {spec.partitions}")
                new.append(spec)
            elif found != spec:
                raise TopicMismatch(
                    f"{spec.name}: exists as {found.kind} with {found.partitions} partitions, "
                    f"declared as {spec.kind} with {spec.partitions}"
                )
        for spec in new:
            if spec.name in staged.specs:
                continue
            self._c.execute("INSERT INTO topic VALUES (?, ?, ?)", (spec.name, spec.kind.value, spec.partitions))
            for p in range(spec.partitions):
                self._c.execute("INSERT INTO partition (topic, partition) VALUES (?, ?)", (spec.name, p))
                staged.ids[TopicPartition(spec.name, p)] = self._c.last_insert_rowid()
            staged.specs[spec.name] = spec


def _rows(records: Sequence[Record]) -> list[Row]:
    """Records cut into rows of bounded length."""
    rows: list[Row] = []
    parts = [records[i : i + MAX_ROW_RECORDS] for i in range(0, len(records), MAX_ROW_RECORDS)]
    while parts:
        part = parts.pop(0)
        if len(part) > 1 and sum(len(r.value) for r in part) > MAX_ROW_BYTES:
            half = len(part) // 2
            parts[:0] = [part[:half], part[half:]]
        else:
            rows.append(encode(part))
    return rows


def read_state(connection: apsw.Connection, task_id: int) -> tuple[dict[TopicPartition, int], dict[bytes, bytes]]:
    """Positions and entries of a task in one snapshot."""
    with connection:
        positions = {
            TopicPartition(topic, partition): position
            for topic, partition, position in connection.execute(
                "SELECT p.topic, p.partition, o.position FROM position o JOIN partition p ON p.id = o.partition "
                "WHERE o.task = ?",
                (task_id,),
            )
        }
        entries = dict(connection.execute("SELECT key, value FROM entry WHERE task = ?", (task_id,)))
    return positions, entries
