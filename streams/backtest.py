"""Back-test of a rule: history through the operators' own ``step``, with other parameters, beside what was raised.

It reads the log and writes nothing. What is replayed are the records of the exchange and derived topics that the rule's
operators read, with the registry, in the kernel's own order (``streams.kernel.merge``), partition by partition as the tasks
do; so without other parameters the same warnings come out, with the same ids. Other parameters are laid over every version of
the rule that was in force (and over the defaults before the first), as if they had been published like that.

*From* and *to* are event times of warnings. Records are read by their receive time: from the warm-up before *from* on, so that
the operators have the state that they would have had, to the end of the log, because what happened may be told much later.
A warning that began before the warm-up and still stood is not known to the replay; a longer warm-up knows it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event, ms_of
from hengliu.ports.log import CLOCK_TYPE, EventLog, Headers, Record, Slice, TaskId, TopicPartition
from hengliu.reference.rules import RuleDeclaration
from streams.kernel.merge import Arrival, Merge
from streams.kernel.operator import Operator
from streams.kernel.reference import GAP_MS, KEYS
from streams.kernel.task import OperatorTask, Outputs, Wiring
from streams.operators.catalog import GROUPS, Group
from streams.topology import Topology

__all__ = ["Backtest", "Comparison", "Progress", "Raised", "compare"]

CHUNK: Final = 10_000
"""Offsets read at once."""
RULE_TYPE: Final = "rule.published"


@dataclass(frozen=True, slots=True)
class Raised:
    """One ``warning.raised``: the replay's, or the log's."""

    warning: str
    code: str
    subject: str
    severity: str
    since: str
    time: int
    enterprise: str
    site: str
    parameters: Mapping[str, str]
    rule_version: int
    operator_version: int

    @property
    def cause(self) -> tuple[str, str, str]:
        """What it is about, where ids of two operator versions cannot be compared."""
        return self.code, self.subject, self.since


@dataclass(frozen=True, slots=True)
class Comparison:
    """What would have been raised beside what was.

    Attributes:
        only_now: raised by the replay alone.
        only_then: in the log alone.
        both: (now, then) of the same warning.
        changed: of ``both``, those whose severity or parameters differ.
    """

    only_now: tuple[Raised, ...]
    only_then: tuple[Raised, ...]
    both: tuple[tuple[Raised, Raised], ...]

    @property
    def changed(self) -> tuple[tuple[Raised, Raised], ...]:
        return tuple((a, b) for a, b in self.both if (a.severity, a.parameters) != (b.severity, b.parameters))


def compare(now: Iterable[Raised], then: Iterable[Raised]) -> Comparison:
    """Match by id, and what is left by code, subject and beginning."""
    left = {r.warning: r for r in then}
    both: list[tuple[Raised, Raised]] = []
    rest: list[Raised] = []
    for raised in now:
        known = left.pop(raised.warning, None)
        if known is None:
            rest.append(raised)
        else:
            both.append((raised, known))
    causes: dict[tuple[str, str, str], list[Raised]] = {}
    for raised in left.values():
        causes.setdefault(raised.cause, []).append(raised)
    only_now: list[Raised] = []
    for raised in rest:
        found = causes.get(raised.cause)
        if found:
            both.append((raised, found.pop(0)))
        else:
            only_now.append(raised)
    only_then = [raised for found in causes.values() for raised in found]
    ordered = [tuple(sorted(rows, key=lambda r: (r.time, r.warning))) for rows in (only_now, only_then)]
    return Comparison(ordered[0], ordered[1], tuple(sorted(both, key=lambda pair: (pair[0].time, pair[0].warning))))


@dataclass(slots=True)
class Progress:
    """How far a replay is. Offsets are sparse: ``done`` of ``total`` is a share, not a count."""

    done: int = 0
    total: int = 0
    records: int = 0
    clock: int = 0


class _Data(msgspec.Struct):
    warning: str
    code: str
    severity: str
    subject: str
    since: str
    enterprise: str = ""
    site: str = ""
    parameters: dict[str, str] = {}
    rule: str = ""
    rule_version: int = 0


class _Event(msgspec.Struct):
    time: datetime
    data: _Data
    operatorversion: int = 0


_decode = msgspec.json.Decoder(_Event).decode


@dataclass
class Backtest:
    """One back-test. ``run`` may be called once.

    Args:
        from_ms, to_ms: event times of the warnings that are compared, ms; the latter exclusive.
        parameters: those that differ, by name.
        active: count the rule as active where it was retired.
        warm_up_ms: recorded time replayed before ``from_ms``; None: from the beginning of the log.
        received_until_ms: records received from then on are not replayed; None: to the end of the log.
    """

    log: EventLog
    catalog: Catalog
    rule: RuleDeclaration
    from_ms: int
    to_ms: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    active: bool = False
    warm_up_ms: int | None = None
    received_until_ms: int | None = None
    groups: Sequence[Group] = GROUPS
    told: Callable[[Progress], None] = lambda progress: None

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.seconds = 0.0
        self.clocks: dict[str, int] = {}
        """Task to the clock that its replay reached: what the live task did later is not compared."""
        self.beyond = 0
        """Warnings of the log that lie behind those clocks."""
        self._passed: dict[str, str] = {}
        """Derived topics that one replayed group hands to another (it alone writes them), by the writing group. Else what a
        changed parameter does to the first would not reach the second."""
        self._outputs: dict[tuple[str, int], list[Record]] = {}
        self.other_version = 0
        """Warnings of the log that another version of the operator raised: their ids may differ."""

    async def run(self) -> Comparison:
        """Replay and compare.

        Raises:
            LogError: the log does not answer, or does not hold what it is asked for.
        """
        began = time.perf_counter()
        partitions = next(s.partitions for s in await self.log.topics() if s.name == topics.REGISTRY)
        now: list[Raised] = []
        versions: dict[str, int] = {}
        for group, operators in self._groups():
            versions |= {o.name: o.version for o in operators}
            now += await self._replay(group, operators, partitions)
        then = await self._then(partitions)
        current = {versions[name] for name in self.rule.operators if name in versions}
        self.other_version = sum(r.operator_version not in current for r in then)
        self.seconds = time.perf_counter() - began
        return compare(now, then)

    # ---- what would have been --------------------------------------------------------------------------------------------

    def _groups(self) -> list[tuple[Group, tuple[Operator, ...]]]:
        """The groups to replay with their operators, each after those whose topics it takes from the replay."""
        left = [(group, needed) for group in self.groups if (needed := _needed(group, self.rule.operators))]
        for group, operators in left:
            for topic in {self.catalog[t].topic for o in operators for t in o.emits} - {topics.WARNING}:
                writers = {o.name for g in self.groups for o in g.operators if topic in self._written(o)}
                if writers <= {o.name for o in operators} and any(topic in g.inputs for g, _ in left if g is not group):
                    self._passed[topic] = group.name
        ordered: list[tuple[Group, tuple[Operator, ...]]] = []
        while left:
            ahead = {group.name for group, _ in left}
            ready = [pair for pair in left if not any(self._passed.get(t) in ahead - {pair[0].name} for t in pair[0].inputs)]
            ordered += ready
            left = [pair for pair in left if pair not in ready]
        return ordered

    def _written(self, operator: Operator) -> set[str]:
        return {self.catalog[t].topic for t in operator.emits}

    async def _replay(self, group: Group, operators: Sequence[Operator], partitions: int) -> list[Raised]:
        """One group, all partitions in step, so that the registry is read once."""
        topology = Topology(self.log, self.catalog, partitions, self.groups)
        clocked = {t: topology.writers(t) for t in group.inputs}
        every = list(range(partitions))
        wiring = Wiring(self.log)
        tasks = [OperatorTask(TaskId(group.name, p), wiring, self.catalog, partitions, operators, clocked) for p in every]
        merges = [
            Merge(clocked, [topics.REGISTRY], {topics.REGISTRY: every, **{t: [p] for t in clocked}}, gap_ms=GAP_MS)
            for p in every
        ]
        passed = {t for t in clocked if self._passed.get(t, group.name) != group.name}
        tps = [TopicPartition(t, p) for t in (topics.REGISTRY, *clocked) if t not in passed for p in every]
        ends = dict(await self.log.end_positions(tps))
        at = dict.fromkeys(tps, 0)
        start = None if self.warm_up_ms is None else self.from_ms - self.warm_up_ms
        for tp in tps:
            if start is not None and tp.topic != topics.REGISTRY:
                at[tp] = await _position_at(self.log, tp, clocked[tp.topic], start, ends[tp])
        for p, merge in enumerate(merges):
            own = {tp: at[tp] for tp in tps if tp.topic == topics.REGISTRY or tp.partition == p}
            merge.restore(merge.state(), own)
        for topic in passed:
            for p in every:
                piece = self._handed(topic, p, clocked[topic])
                merges[p].offer(piece)
                at[piece.tp] = ends[piece.tp] = piece.next_position
        self.progress.total += sum(ends[tp] - at[tp] for tp in tps)
        found: list[Raised] = []
        # As a task has it that learns the rule before anything else; a version that the log holds for always replaces it.
        first = self._first_version()
        for task in tasks:
            task.transform(first, 0, Outputs())
        waiting = set(every)
        while waiting:
            for p in sorted(waiting):
                arrivals, clock = merges[p].release()
                if start is not None:  # where the reading began depends on who wrote first; what is replayed must not
                    arrivals = [a for a in arrivals if a.received >= start or a.headers.type in KEYS]
                found += self._step(tasks[p], arrivals, clock)
                upstream = merges[p].waiting_for
                registry = upstream.topic == topics.REGISTRY
                tp = TopicPartition(upstream.topic, int(upstream.writer) if registry else p)
                if at[tp] >= ends[tp] or (self.received_until_ms is not None and clock >= self.received_until_ms):
                    waiting.discard(p)  # what holds the clock back has no more: the live task stands here, too
                    continue
                piece = await self.log.read_range(tp, at[tp], min(at[tp] + CHUNK, ends[tp]))
                self.progress.done += piece.next_position - at[tp]
                at[tp] = piece.next_position
                for q in every if registry else (p,):
                    merges[q].offer(piece)
                self.progress.clock = min(merge.clock for merge in merges)
                self.told(self.progress)
        return found

    def _step(self, task: OperatorTask, arrivals: Sequence[Arrival], clock: int) -> list[Raised]:
        outputs = Outputs()
        if arrivals or clock > self.clocks.get(str(task.task), 0):
            task.transform([self._as_published(a) for a in arrivals], clock, outputs)
        self.clocks[str(task.task)] = clock
        self.progress.records += len(arrivals)
        found: list[Raised] = []
        for append in outputs.appends():
            if append.topic == topics.WARNING:
                found += self._of_rule((record.headers, record.value) for record in append.records)
            elif self._passed.get(append.topic) == task.task.group:
                self._outputs.setdefault((append.topic, append.partition), []).extend(append.records)
        return found

    def _handed(self, topic: str, partition: int, writers: Sequence[str]) -> Slice:
        """What a replayed group wrote to one partition, and its clocks, in place of what the log has there."""
        records = self._outputs.pop((topic, partition), [])
        ticks = [
            Record(b"", b"", Headers(received=self.clocks.get(writer, 0), type=CLOCK_TYPE, upstream=writer))
            for writer in writers
        ]
        rows = [*records, *ticks]
        return Slice(
            topic, partition, 0, len(rows), range(len(rows)), [r.key for r in rows], [r.value for r in rows],
            [r.headers for r in rows],
        )  # fmt: skip

    def _first_version(self) -> list[Arrival]:
        if not (self.parameters or self.active):
            return []
        data = {"rule": self.rule.rule, "version": max(self.rule.version, 1), "parameters": dict(self.parameters)}
        value = encode_event(RULE_TYPE, "/backtest", "0", 0, data)
        return [Arrival(0, 0, topics.REGISTRY, 0, 0, b"", value, Headers(received=0, type=RULE_TYPE))]

    def _as_published(self, arrival: Arrival) -> Arrival:
        """The arrival, or what it would have been had the rule been published with the other parameters."""
        if arrival.headers.type != RULE_TYPE or not (self.parameters or self.active):
            return arrival
        event: dict[str, Any] = msgspec.json.decode(arrival.value)
        data = event["data"]
        if data["rule"] != self.rule.rule:
            return arrival
        data["parameters"] = {**data["parameters"], **self.parameters}
        if self.active:
            data["status"] = "active"
        return arrival._replace(value=msgspec.json.encode(event))

    # ---- what was --------------------------------------------------------------------------------------------------------

    async def _then(self, partitions: int) -> list[Raised]:
        tps = [TopicPartition(topics.WARNING, p) for p in range(partitions)]
        ends = await self.log.end_positions(tps)
        found: list[Raised] = []
        for tp in tps:
            at = 0  # no clocks are written here to find a place by, and warnings are few
            while at < ends[tp]:
                piece = await self.log.read_range(tp, at, min(at + CHUNK, ends[tp]))
                at = piece.next_position
                rows = list(zip(piece.headers, piece.values, strict=True))
                reached = [row for row in rows if row[0].received < self.clocks.get(row[0].upstream, 1 << 62)]
                found += self._of_rule(reached)
                if len(reached) < len(rows):
                    self.beyond += len(self._of_rule(rows)) - len(self._of_rule(reached))
        return found

    def _of_rule(self, rows: Iterable[tuple[Headers, bytes]]) -> list[Raised]:
        """The rule's warnings that were raised in the time asked for."""
        found: list[Raised] = []
        for headers, value in rows:
            if headers.type != "warning.raised":
                continue
            event = _decode(value)
            data = event.data
            at = ms_of(event.time)
            if data.rule == self.rule.rule and self.from_ms <= at < self.to_ms:
                found.append(
                    Raised(
                        data.warning, data.code, data.subject, data.severity, data.since, at, data.enterprise, data.site,
                        data.parameters, data.rule_version, event.operatorversion,
                    )
                )  # fmt: skip
        return found


def _needed(group: Group, names: Sequence[str]) -> tuple[Operator, ...]:
    """The rule's operators of a group, and those before them whose output they take."""
    needed: list[Operator] = []
    wanted: set[str] = set()
    for operator in reversed(group.operators):
        if operator.name in names or operator.emits & wanted:
            needed.insert(0, operator)
            wanted |= operator.inputs
    return tuple(needed)


async def _position_at(log: EventLog, tp: TopicPartition, writers: Sequence[str], received: int, end: int) -> int:
    """A position from which on every record is there that was received at ``received`` or later.

    Receive times rise within what one task wrote, not through the partition (after a stop one task may be hours ahead of
    another), so each writer's place is looked for by itself. Clocks are written to every partition, so each is met soon.
    """
    found = end
    for writer in writers:
        low, high = 0, end
        while low < high:
            middle = (low + high) // 2
            seen = await _next_of(log, tp, writer, middle, high)
            if seen is None or seen[1] >= received:
                high = middle
            else:
                low = seen[0] + 1
        found = min(found, low)
    return found


async def _next_of(log: EventLog, tp: TopicPartition, writer: str, at: int, end: int) -> tuple[int, int] | None:
    """(offset, receive time) of the first record that a task wrote, from a position on."""
    span = 64
    while at < end:
        piece = await log.read_range(tp, at, min(at + span, end))
        for offset, headers in zip(piece.offsets, piece.headers, strict=True):
            if headers.upstream == writer:
                return offset, headers.received
        at, span = piece.next_position, min(span * 8, CHUNK)
    return None
