"""The loop that reads, merges, steps and commits. It is ours and runs the same bare, under Faust, in tests and in replay.

The numbered steps (docs/protocols/stream.md says what a crash after each one leaves):

1. open the session: fences every earlier one of this task
2. restore positions, merge state and operator state
3. read from those positions
4. merge: release what every upstream's clock has passed
5. step the operators over the released records
6. commit outputs, state changes and positions as one
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import derived_id, encode_event
from hengliu.events.refused import Payload, Refused, refused_record
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import (
    CLOCK_TYPE,
    Append,
    EventLog,
    Headers,
    LogReader,
    Record,
    Slice,
    TaskId,
    TaskSession,
    TaskState,
    TopicPartition,
    partition_for,
)
from streams.kernel.merge import Arrival, Merge, MergeState
from streams.kernel.operator import Batch, Emit, Operator
from streams.kernel.reference import GAP_MS, KEYS, REFERENCE_TABLES, Reference, Versions, read_reference
from streams.kernel.state import State, StateStore

__all__ = [
    "CommitPolicy",
    "ExchangeTask",
    "MergedTask",
    "OpenReader",
    "OperatorTask",
    "Outputs",
    "Progress",
    "StreamTask",
    "Wiring",
]

logger = logging.getLogger(__name__)

OpenReader = Callable[[Mapping[TopicPartition, int]], Awaitable[LogReader]]
"""What opens a task's input at given positions: the log's ``open_reader``, or whoever feeds the task (``streams.agents``)."""


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """When a task commits.

    Attributes:
        interval_ms: at most this long after the first uncommitted output. 250 for throughput, 50 where a person waits
            (docs/decisions/009).
        phase_ms: while little comes, look at the input and commit only at the multiples of ``interval_ms`` of the loop's clock
            shifted by this much. Tasks of one stage then commit together, which is one write, and whoever reads them all wakes
            once; stages that follow each other at growing phases wait little for each other. None: whenever something comes.
        light_records: a poll that brought fewer is little.
        quiet_ms: the same as ``interval_ms`` for what nobody waits for, positions and state without an output. None: as that.
        clock_ms: a task whose clock others wait for forwards it when it has advanced by this much.
        max_records: records polled at once.
        max_pending: uncommitted input records at most.
    """

    interval_ms: int = 100
    phase_ms: int | None = None
    light_records: int = 500
    quiet_ms: int | None = None
    clock_ms: int = 200
    max_records: int = 5_000
    max_pending: int = 50_000

    def next_look(self, now: float) -> float:
        """When to look again after little came; both in seconds of the loop's clock.

        >>> policy = CommitPolicy(interval_ms=50, phase_ms=10)
        >>> round(policy.next_look(7.001), 3), round(policy.next_look(7.011), 3)
        (7.01, 7.06)
        >>> CommitPolicy().next_look(7.001)
        7.001
        """
        if self.phase_ms is None:
            return now
        interval, phase = self.interval_ms / 1_000, self.phase_ms / 1_000
        return phase + ((now - phase) // interval + 1) * interval


@dataclass(frozen=True, slots=True)
class Wiring:
    """What any task runs on: its log, when it commits, and who feeds it (None: the log's own readers)."""

    log: EventLog
    policy: CommitPolicy = field(default_factory=CommitPolicy)
    faults: Faults = no_faults
    open_reader: OpenReader | None = None


@dataclass(slots=True)
class Progress:
    """What a task has committed; liveness is tied to this, not to the loop turning."""

    records: int = 0
    outputs: int = 0
    commits: int = 0
    dead_letters: int = 0
    clock: int = 0
    positions: dict[TopicPartition, int] = field(default_factory=dict)


class Outputs:
    """Records by output partition, in order."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, int], list[Record]] = {}
        self.count = 0

    def add(self, topic: str, partition: int, record: Record) -> None:
        self._records.setdefault((topic, partition), []).append(record)
        self.count += 1

    def appends(self) -> list[Append]:
        return [Append(topic, partition, records) for (topic, partition), records in self._records.items()]

    def clear(self) -> None:
        self._records.clear()
        self.count = 0


_MERGE_ENTRY = b"merge"
_merge_encoder = msgspec.msgpack.Encoder()
_merge_decoder = msgspec.msgpack.Decoder(MergeState)


class StreamTask(ABC):
    """One (group, partition): the loop around a transformation. Subclasses say what becomes of what was read."""

    def __init__(
        self,
        task: TaskId,
        wiring: Wiring,
        clocked_outputs: Sequence[str] = (),
        partitions: int = 0,
    ) -> None:
        self.task = task
        self.progress = Progress()
        self._log = wiring.log
        self._clocked_outputs = tuple(clocked_outputs)
        self._partitions = partitions
        self._policy = wiring.policy
        self._faults = wiring.faults
        self._open_reader = wiring.open_reader or wiring.log.open_reader
        self._stopping = False
        self._outputs = Outputs()
        self._forwarded = 0

    @property
    @abstractmethod
    def clock(self) -> int:
        """What the task has processed up to, ms; it never goes back."""

    @abstractmethod
    def positions(self) -> dict[TopicPartition, int]:
        """Where a restart must read on."""

    @abstractmethod
    def process(self, pieces: Sequence[Slice], outputs: Outputs) -> int:
        """Take in what was read (nothing, when a second has passed without) and add outputs; how many records are done with."""

    @abstractmethod
    def checkpoint(self) -> dict[bytes, bytes | None]:
        """State entries that changed since the last commit."""

    @abstractmethod
    def restore(self, state: TaskState) -> None:
        """Take over what the last commit left."""

    async def rest(self, outputs: Outputs) -> None:  # noqa: B027 - most tasks have nothing to do then
        """Called when a poll brought nothing."""

    def stop(self) -> None:
        """Ask the loop to end after the step it is in. What is uncommitted then is discarded and read again."""
        self._stopping = True

    async def run(self) -> None:
        """Run until stopped or fenced.

        Raises:
            Fenced: another session owns the task.
            LogUnavailable: throw this object away and build a new one.
        """
        session = await self._log.open_task(self.task)
        self._faults("1")
        try:
            await self._run(session)
        finally:
            await session.close()

    async def _run(self, session: TaskSession) -> None:
        self.restore(await session.restore())
        self._forwarded = self.clock
        self._faults("2")
        reader = await self._open_reader(self.positions())
        try:
            await self._loop(session, reader)
        finally:
            await reader.close()

    async def _loop(self, session: TaskSession, reader: LogReader) -> None:
        policy = self._policy
        # By the loop's clock, which never goes back: with the machine's, a step back by an hour held every commit for one.
        now = asyncio.get_running_loop().time
        uncommitted = 0
        due: float | None = None
        look = 0.0
        while not self._stopping:
            rested = look > now()
            if rested:
                await asyncio.sleep(look - now())
            timeout = 1_000 if due is None else max(1, int((due - now()) * 1_000))
            pieces = await reader.poll(policy.max_records, timeout)
            self._faults("3")
            uncommitted += self.process(pieces, self._outputs)
            if not pieces:
                await self.rest(self._outputs)
            self._faults("5")
            light = sum(map(len, pieces)) < policy.light_records
            look = policy.next_look(now()) if light and (pieces or due is not None) else 0.0
            paced = light and policy.phase_ms is not None
            soon = (now() if rested else look) if paced else now() + policy.interval_ms / 1_000
            due = self._due(due, uncommitted, now(), soon)
            if due is not None and (uncommitted >= policy.max_pending or now() >= due):
                await self._commit(session)
                self.progress.records += uncommitted
                uncommitted, due = 0, None
                self._faults("6")

    def _due(self, due: float | None, uncommitted: int, now: float, soon: float) -> float | None:
        """When to commit, given when it was due before: ``soon`` what somebody waits for, later what nobody does."""
        policy = self._policy
        ahead = self.clock - self._forwarded
        if self._outputs.count or (self._clocked_outputs and ahead >= policy.clock_ms):
            return soon if due is None else min(due, soon)
        if due is None and (uncommitted or ahead >= policy.clock_ms):
            return now + (policy.interval_ms if policy.quiet_ms is None else policy.quiet_ms) / 1_000
        return due

    async def _commit(self, session: TaskSession) -> None:
        produced = self._outputs.count
        clock, positions = self.clock, self.positions()
        for topic in self._clocked_outputs:
            mark = Record(b"", b"", Headers(received=clock, type=CLOCK_TYPE, upstream=str(self.task)))
            for partition in range(self._partitions):
                self._outputs.add(topic, partition, mark)
        await session.commit(self._outputs.appends(), self.checkpoint(), positions)
        self._outputs.clear()
        self._forwarded = clock
        progress = self.progress
        progress.commits += 1
        progress.outputs += produced
        progress.clock = clock
        progress.positions = positions


class MergedTask(StreamTask):
    """A task over several upstreams, whose records it sees in one total order (``streams.kernel.merge``)."""

    def __init__(
        self,
        task: TaskId,
        wiring: Wiring,
        merge: Merge,
        clocked_outputs: Sequence[str],
        partitions: int,
    ) -> None:
        super().__init__(task, wiring, clocked_outputs, partitions)
        self._merge = merge
        self._clock = 0

    @abstractmethod
    def transform(self, arrivals: Sequence[Arrival], clock: int, outputs: Outputs) -> None:
        """Turn released records into output records and state changes."""

    def keyed_state(self) -> dict[bytes, bytes | None]:
        """Changed entries of the subclass's own state."""
        return {}

    def load(self, entries: Mapping[bytes, bytes]) -> None:
        """Take over the subclass's own state."""

    @property
    def clock(self) -> int:
        return self._clock

    def positions(self) -> dict[TopicPartition, int]:
        return self._merge.positions()

    def process(self, pieces: Sequence[Slice], outputs: Outputs) -> int:
        for piece in pieces:
            self._merge.offer(piece)
        arrivals, clock = self._merge.release()
        self._faults("4")
        if arrivals or clock > self._clock:
            self.transform(arrivals, clock, outputs)
            self._clock = clock
        return len(arrivals)

    def checkpoint(self) -> dict[bytes, bytes | None]:
        return {**self.keyed_state(), _MERGE_ENTRY: _merge_encoder.encode(self._merge.state())}

    def restore(self, state: TaskState) -> None:
        merge_entry = state.entries.get(_MERGE_ENTRY)
        if merge_entry is not None:
            self._merge.restore(_merge_decoder.decode(merge_entry), state.positions)
        self._clock = self._merge.state().released_before
        self.load(state.entries)

    def _dead_letter(self, row: "_Row", stage: str, error: Exception, outputs: Outputs) -> None:
        logger.error("%s: %s refused %s: %s: %s", self.task, stage, row.origin, type(error).__name__, error)
        self.progress.dead_letters += 1
        refused = Refused(
            reason="operator-failed",
            payload=Payload.of(row.value),
            principal=row.principal,
            parameters={"operator": stage, "origin": row.origin, "error": f"{type(error).__name__}: {error}"[:512]},
            type=row.type,
            scope=row.scope,
        )
        id_ = derived_id(stage, 0, "dead-letter", row.origin)
        record = refused_record(
            refused, f"/streams/{stage}", id_, row.received, row.received, key=row.origin, upstream=str(self.task)
        )
        outputs.add(topics.QUARANTINE, self.task.partition, record)


class ExchangeTask(MergedTask):
    """Forwards canonical records verbatim to the exchange topics, keyed by subject as their family declares."""

    def __init__(
        self,
        task: TaskId,
        wiring: Wiring,
        catalog: Catalog,
        partitions: int,
        clocked_outputs: Sequence[str],
    ) -> None:
        routed = {f.type: {t: m for t, m in f.routes.items() if t in clocked_outputs} for f in catalog.families.values()}
        routes = {t: r for t, r in routed.items() if r}
        inputs = sorted({catalog[t].topic for t in routes})
        merge = Merge({}, inputs, {t: [task.partition] for t in inputs})
        super().__init__(task, wiring, merge, clocked_outputs, partitions)
        self._routes = {t: tuple(r.items()) for t, r in routes.items()}
        self._decoders = {t: msgspec.json.Decoder(_key_struct(r.values())) for t, r in routes.items()}

    def transform(self, arrivals: Sequence[Arrival], clock: int, outputs: Outputs) -> None:
        upstream = str(self.task)
        for arrival in arrivals:
            routes = self._routes.get(arrival.headers.type)
            if routes is None:
                continue
            try:
                decoded = self._decoders[arrival.headers.type].decode(arrival.value)
            except msgspec.MsgspecError as error:
                self._dead_letter(_row_of(arrival), "exchange", error, outputs)
                continue
            headers = msgspec.structs.replace(
                arrival.headers,
                upstream=upstream,
                origin=f"{arrival.topic}/{arrival.partition}/{arrival.offset}",
            )
            for topic, member in routes:
                if member == "@source":
                    key = decoded.source
                elif member == "@site":
                    key = arrival.headers.site
                else:
                    key = getattr(decoded.data, member)
                if key:
                    raw = key.encode()
                    outputs.add(topic, _partition_of(raw, self._partitions), Record(raw, arrival.value, headers))


def _key_struct(members: Iterable[str]) -> Any:
    """A struct that decodes the source and the named members of ``data``, and nothing else."""
    data = msgspec.defstruct("Data", [(m, str | None, None) for m in sorted(set(members)) if not m.startswith("@")])
    return msgspec.defstruct("Event", [("source", str), ("data", data)])


_REFERENCE = "reference"
_EMPTY = Versions([], [])


class OperatorTask(MergedTask):
    """Runs a group's operators, in order, over one partition of its inputs.

    A later operator also receives what earlier ones emitted, where it declares the type. A record that makes an operator
    raise goes to quarantine as ``event.refused`` with the cause, and the rest goes on: steps are pure, so the batch is
    simply stepped again record by record.
    """

    def __init__(
        self,
        task: TaskId,
        wiring: Wiring,
        catalog: Catalog,
        partitions: int,
        operators: Sequence[Operator],
        clocked_inputs: Mapping[str, Sequence[str]],
        clocked_outputs: Sequence[str] = (),
    ) -> None:
        every = list(range(partitions))
        merge = Merge(
            clocked_inputs,
            [topics.REGISTRY],
            {topics.REGISTRY: every, **{t: [task.partition] for t in clocked_inputs}},
            gap_ms=GAP_MS,
        )
        super().__init__(task, wiring, merge, clocked_outputs, partitions)
        self._catalog = catalog
        self._operators = tuple(operators)
        tables = {(_REFERENCE, name): row for name, row in REFERENCE_TABLES.items()}
        for operator in self._operators:
            tables |= {(operator.name, name): row for name, row in operator.tables.items()}
        self._store = StateStore(tables)
        self._reference = Reference({name: self._store.table(_REFERENCE, name) for name in REFERENCE_TABLES})

    def load(self, entries: Mapping[bytes, bytes]) -> None:
        self._store.restore(entries)

    def keyed_state(self) -> dict[bytes, bytes | None]:
        return self._store.checkpoint()

    def transform(self, arrivals: Sequence[Arrival], clock: int, outputs: Outputs) -> None:
        # Cut at reference events, so that a record, or a timer, sees exactly the registrations received before it. The cut is
        # made even without records: a timer due before the registration must not see it just because both came in one batch.
        run: list[Arrival] = []
        stepped = -1
        for arrival in arrivals:
            if arrival.headers.type in KEYS:
                if run or arrival.received > stepped:
                    self._step_run(run, arrival.received, outputs)
                    run, stepped = [], arrival.received
                self._learn(arrival, outputs)
            else:
                run.append(arrival)
        self._step_run(run, clock, outputs)

    def _learn(self, arrival: Arrival, outputs: Outputs) -> None:
        try:
            table, key, since, payload = read_reference(arrival.headers.type, arrival.value)
        except (msgspec.MsgspecError, ValueError) as error:
            self._dead_letter(_row_of(arrival), "reference", error, outputs)
            return
        known = self._store.table(_REFERENCE, table).get(key)
        versions = (known or _EMPTY).with_version(since, payload)
        self._store.apply({(_REFERENCE, table): {key: versions}})

    def _step_run(self, run: Sequence[Arrival], clock: int, outputs: Outputs) -> None:
        base = [_row_of(arrival) for arrival in run]
        emitted: list[tuple[int, int, Emit, bytes]] = []
        derived: list[_Row] = []
        for number, operator in enumerate(self._operators):
            wanted = [row for row in base if row.type in operator.inputs]
            extra = [row for row in derived if row.type in operator.inputs]
            rows = sorted([*wanted, *extra], key=lambda r: r.received) if extra else wanted
            for emit in self._step(operator, rows, clock, outputs):
                if emit.type not in operator.emits:
                    raise TypeError(f"{operator.name} emits {emit.type}, which it does not declare")
                id_ = derived_id(operator.name, operator.version, *emit.identity)
                value = _encode(operator, emit, id_)
                emitted.append((emit.at, number, emit, value))
                derived.append(_Row(emit.type, emit.at, emit.known_at, "", value, emit.scope, id_, ""))
        emitted.sort(key=lambda e: (e[0], e[1]))
        for _, _, emit, value in emitted:
            self._write(emit, value, outputs)

    def _step(self, operator: Operator, rows: "Sequence[_Row]", clock: int, outputs: Outputs) -> Sequence[Emit]:
        state = State(operator.name, self._store, self._reference, lane=self.task.partition)
        try:
            effects = operator.step(state, _batch(rows, clock))
        except Exception as error:
            if len(rows) <= 1:
                if not rows:
                    raise
                self._dead_letter(rows[0], operator.name, error, outputs)
                return self._step(operator, [], clock, outputs)
            emits: list[Emit] = []
            for index, row in enumerate(rows):
                until = rows[index + 1].received if index + 1 < len(rows) else clock
                emits += self._step(operator, [row], until, outputs)
            return emits
        self._store.apply(effects.changes)
        return effects.events

    def _write(self, emit: Emit, value: bytes, outputs: Outputs) -> None:
        family = self._catalog[emit.type]
        key = str(emit.data[family.key]).encode()
        headers = Headers(
            received=emit.at, type=emit.type, enterprise=emit.scope[0], site=emit.scope[1], division=emit.scope[2],
            known_at=emit.known_at, upstream=str(self.task),
        )  # fmt: skip
        outputs.add(family.topic, _partition_of(key, self._partitions), Record(key, value, headers))


class _Row(NamedTuple):
    # Made once a record: a frozen dataclass of eight members takes several times as long to make.
    type: str
    received: int
    known_at: int
    key: str
    value: bytes
    scope: tuple[str, str, str]
    origin: str
    principal: str


@lru_cache(maxsize=16_384)
def _partition_of(key: bytes, partitions: int) -> int:
    """``partition_for``: murmur2 in Python took a quarter of the exchange's time, and a task meets the same keys again."""
    return partition_for(key, partitions)


def _row_of(arrival: Arrival) -> _Row:
    h = arrival.headers
    return _Row(
        h.type, arrival.received, h.known_at or arrival.received, arrival.key.decode(), arrival.value,
        (h.enterprise, h.site, h.division), h.origin or f"{arrival.topic}/{arrival.partition}/{arrival.offset}",
        h.principal,
    )  # fmt: skip


def _encode(operator: Operator, emit: Emit, id_: str) -> bytes:
    extensions: dict[str, str | int] = {"operator": operator.name, "operatorversion": operator.version}
    if emit.cause:
        extensions["cause"] = emit.cause
    if emit.corrects:
        extensions["corrects"] = emit.corrects
    return encode_event(emit.type, f"/streams/{operator.name}", id_, emit.time, emit.data, **extensions)


def _batch(rows: Sequence[_Row], clock: int) -> Batch:
    return Batch(
        clock,
        [r.type for r in rows],
        [r.received for r in rows],
        [r.key for r in rows],
        [r.value for r in rows],
        [r.scope for r in rows],
        [r.origin for r in rows],
        [r.known_at for r in rows],
    )
