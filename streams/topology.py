"""Which tasks there are: the exchange, and each operator group over each partition.

A topic that an operator group reads beside the registry is *clocked*: its records name the task that wrote them, and the
reader waits for the clock of every such task. Who writes what follows from the declarations alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import EventLog, TaskId, TopicKind
from streams.kernel.task import CommitPolicy, ExchangeTask, OpenReader, OperatorTask, StreamTask, Wiring
from streams.operators.catalog import GROUPS, Group

__all__ = ["EXCHANGE", "Topology"]

EXCHANGE = "exchange"

QUIET_MS = 1_000
"""Positions and state without an output are committed after so long. Nobody waits for them; a restart reads a second again."""

STAGE_MS = 15
"""A stage looks and commits this much after the one before it: what that takes for a second's share of a city's records."""


@dataclass(frozen=True)
class Topology:
    """Tasks by id, made from the declared groups. ``build`` makes a fresh task each time: a stopped one is thrown away.

    ``waited``: the policy of the exchange and of groups so marked, for whose warnings a person waits; None: as the others.
    """

    log: EventLog
    catalog: Catalog
    partitions: int
    groups: Sequence[Group] = GROUPS
    policy: CommitPolicy = field(default_factory=CommitPolicy)
    faults: Faults = no_faults
    waited: CommitPolicy | None = None
    poll_records: int = 2_000
    """An operator takes up to 50 microseconds a record. With 20,000 at once the steps of a worker's tasks kept a commit between
    them open for more than its ten seconds on a busy machine, and the broker ended it."""

    @property
    def group_names(self) -> tuple[str, ...]:
        return (EXCHANGE, *(g.name for g in self.groups))

    def task_ids(self, groups: Sequence[str] = ()) -> list[TaskId]:
        """Every task of the named groups (all, if none is named)."""
        return [TaskId(g, p) for g in (groups or self.group_names) for p in range(self.partitions)]

    def inputs(self, group: str) -> tuple[str, ...]:
        """Topics of which a task of the group reads its own partition."""
        if group == EXCHANGE:
            return tuple(sorted({f.topic for f in self.catalog.families.values() if f.routes}))
        return self._group(group).inputs

    def _group(self, name: str) -> Group:
        return next(g for g in self.groups if g.name == name)

    def writers(self, topic: str) -> tuple[str, ...]:
        """Tasks that write a clocked topic, as they name themselves in ``Headers.upstream``."""
        if topics.TOPICS[topic] is TopicKind.EXCHANGE:
            return tuple(str(TaskId(EXCHANGE, p)) for p in range(self.partitions))
        writing = [g for g in self.groups if any(self.catalog[t].topic == topic for op in g.operators for t in op.emits)]
        return tuple(str(TaskId(g.name, p)) for g in writing for p in range(self.partitions))

    def clocked_outputs(self, group: str) -> tuple[str, ...]:
        """Topics this group writes and another group reads: it forwards its clock there."""
        read = {t for g in self.groups for t in g.inputs}
        if group == EXCHANGE:
            routed = {t for f in self.catalog.families.values() for t in f.routes}
            return tuple(sorted(routed & read))
        written = {self.catalog[t].topic for op in self._group(group).operators for t in op.emits}
        return tuple(sorted(written & read))

    def stage(self, group: str) -> int:
        """How many groups what it reads has passed behind intake: 1 for the exchange, 2 for who reads that."""
        if group == EXCHANGE:
            return 1
        read = set(self._group(group).inputs)
        writing = [name for name in self.group_names if name != group and not read.isdisjoint(self.clocked_outputs(name))]
        return 1 + max(self.stage(name) for name in writing)

    def build(self, task: TaskId, open_reader: OpenReader | None = None) -> StreamTask:
        """A task ready to run."""
        if task.group == EXCHANGE:
            wiring = Wiring(self.log, self._policy(EXCHANGE, waited=True), self.faults, open_reader)
            return ExchangeTask(task, wiring, self.catalog, self.partitions, self.clocked_outputs(EXCHANGE))
        group = self._group(task.group)
        wiring = Wiring(self.log, self._policy(group.name, group.waited), self.faults, open_reader)
        clocked = {t: self.writers(t) for t in group.inputs}
        return OperatorTask(
            task, wiring, self.catalog, self.partitions, group.operators, clocked, self.clocked_outputs(group.name)
        )

    def _policy(self, group: str, waited: bool) -> CommitPolicy:
        policy = (self.waited if waited else None) or self.policy
        return replace(
            policy,
            phase_ms=(self.stage(group) * STAGE_MS) % policy.interval_ms,
            quiet_ms=QUIET_MS,
            # Every group waits for every exchange task, also for one that just now has nothing.
            clock_ms=policy.interval_ms if group == EXCHANGE else policy.clock_ms,
        )
