"""The intake tasks: events in, one commit per batch, outcomes out.

Task p owns partition p of every canonical topic and of quarantine. The steps, numbered as in ``docs/protocols/intake.md``:

1. parse and validate each element, and put it in line at the task of its source (bounded: Overloaded)
2. decide: scope, dedup; make records, refusals and state entries, all with one receive time
3. commit records, refusals, dedup state and receive time together
4. the commit is durable
5. answer

One batch at a time per task, so a second copy of an event is decided after the first one's commit, or in the same batch and
answered with it: it never hears "duplicate" of something that is not written. What a failed commit decided is thrown away
whole, with the task's memory; the task opens anew and restores, and senders are told to come again.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.families.registry import REGISTRAR
from hengliu.events.family import Writer
from hengliu.events.refused import KEPT_BYTES, Payload, Refused, refused_record
from hengliu.intake.dedup import DedupPolicy, Seen, Verdict
from hengliu.intake.directory import Directory, Scope, Unscoped
from hengliu.intake.guards import ALL_GUARDS, STEPS, Guards
from hengliu.intake.parse import Accepted, FieldFault, ParsePolicy, Refusal, parse, pointer_of
from hengliu.intake.received import ReceiveClock
from hengliu.ledger.chain import Chains
from hengliu.ports.clock import Clock
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import (
    CLOCK_TYPE,
    MAX_RECORD_BYTES,
    Append,
    EventLog,
    Fenced,
    Headers,
    LogError,
    Record,
    RecordTooLarge,
    TaskId,
    TaskSession,
    TopicPartition,
    partition_for,
    record_size,
)
from hengliu.reference.rules import Fault
from hengliu.rights import PLATFORM, Principal, Role

__all__ = [
    "ALL_GUARDS",
    "Checks",
    "Counts",
    "Guards",
    "Intake",
    "IntakePolicy",
    "NotPermitted",
    "Outcome",
    "Overloaded",
    "Position",
    "Status",
    "Unavailable",
]

logger = logging.getLogger(__name__)

GROUP = "intake"
SOURCE = "/intake"
_STATE = b"i\0"
_NO_SCOPE = Scope()
CLOCK_AHEAD_MS = 1_000
"""Receive times this far ahead of the wall clock are told; less is what time services correct every day."""
Checks = Mapping[str, Callable[[Mapping[str, Any]], Iterable[Fault]]]
"""Type of a family that the platform writes to what is wrong with a payload that its model takes."""
_SLICE = 100
"""Elements parsed before other coroutines get a turn: about 2 ms."""


@dataclass(frozen=True, slots=True)
class IntakePolicy:
    """Limits and times of intake."""

    max_event_bytes: int = 65_536
    max_record_bytes: int = MAX_RECORD_BYTES
    """What the log takes. An event within ``max_event_bytes`` whose record is larger is refused by itself; the log would refuse
    the whole commit."""
    parse: ParsePolicy | None = None
    """None: the defaults with ``max_event_bytes``."""
    dedup: DedupPolicy = field(default_factory=DedupPolicy)
    batch_events: int = 2_000
    """Events of one commit at most (a submission is never split)."""
    queue_events: int = 50_000
    """Events that may wait at one task."""
    queue_bytes: int = 64 * 1024 * 1024
    """Bytes that may wait at one task."""
    tick_after_ms: int = 1_000
    """Silence of a topic partition after which its clock is written."""
    busy_tick_after_ms: int = 40
    """The same while events come, to whichever partition of this process: what was received waits downstream for the clocks of
    the silent partitions (docs/decisions/002), and with it whoever waits for a warning."""
    reopen_min_s: float = 0.1
    reopen_max_s: float = 5.0
    keep_payload_bytes: int = KEPT_BYTES
    """Bytes of a refused payload that quarantine keeps."""
    quarantine_records: int = 10_000
    """Refusals kept per principal and hour; beyond it only a counter."""
    quarantine_bytes: int = 64 * 1024 * 1024
    """Payload bytes kept per principal and hour."""

    def parsing(self) -> ParsePolicy:
        return self.parse if self.parse is not None else ParsePolicy(max_event_bytes=self.max_event_bytes)


class Status(StrEnum):
    """What became of one element."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a commit ended: everything of this partition before ``position`` includes it."""

    topic: str
    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for one element. ``position`` is None for duplicates and where nothing was written."""

    id: str | None
    source: str | None
    status: Status
    problem: Refusal | None = None
    position: Position | None = None


class NotPermitted(Exception):
    """The token may not write at all (403)."""


class Overloaded(Exception):
    """Too much is waiting (429)."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too much is waiting; again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Unavailable(Exception):
    """The log cannot be written just now, or this process no longer owns the partition (503). Nothing is known to be written;
    sending the same events again is safe."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"events cannot be written; again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Counts:
    """What intake has done since it started; for metrics. What waits just now is ``Intake.queue``."""

    accepted: int = 0
    duplicate: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By code."""
    quarantined: int = 0
    unquarantined: int = 0
    """Refusals beyond a principal's quota: counted, not kept."""
    unauthenticated: int = 0
    chain_breaks: int = 0
    batches: int = 0
    ticks: int = 0
    reopened: int = 0
    written: Counter[str] = field(default_factory=Counter)
    """Records by topic."""


class _State(msgspec.Struct, array_like=True):
    """What a task keeps beside dedup: the last receive time and the number of refusals written."""

    received: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class _Refused:
    """An element that is refused, with what quarantine keeps."""

    refusal: Refusal
    payload: Payload
    scope: Scope = _NO_SCOPE


@dataclass(slots=True)
class _Submission:
    """Elements of one caller at one task, and where its outcomes go."""

    principal: Principal
    items: list[tuple[int, Accepted | _Refused]]
    size: int
    done: "asyncio.Future[list[tuple[int, Outcome]]]"


class _Quota:
    """What a principal has put into quarantine this hour."""

    __slots__ = ("hour", "payload_bytes", "records")

    def __init__(self) -> None:
        self.hour = -1
        self.records = 0
        self.payload_bytes = 0


@lru_cache(maxsize=65_536)
def _partition(source: str, partitions: int) -> int:
    # murmur2 in Python costs as much as the whole JSON parse.
    return partition_for(source.encode(), partitions)


class _Batch:
    """What one commit will hold, and what is answered after it."""

    def __init__(self, received: int) -> None:
        self.received = received
        self.records: dict[str, list[Record]] = {}
        self.outcomes: list[tuple[_Submission, list[tuple[int, str, Outcome]]]] = []
        """(index, topic of the record or "", outcome)"""


class _Task:
    """One partition."""

    def __init__(self, intake: "Intake", partition: int) -> None:
        self._intake = intake
        self._partition = partition
        self._queue: deque[_Submission] = deque()
        self._wake = asyncio.Event()
        self._seen = Seen(intake.policy.dedup)
        self._chains = Chains()
        self._state = _State()
        self._received = ReceiveClock()
        self._told_ahead = False
        self._last_written: dict[str, int] = {}
        self._session: TaskSession | None = None
        self._retry_s = intake.policy.reopen_min_s
        self.events = 0
        self.bytes = 0
        self.open = asyncio.Event()
        self.closing = False

    # -- queue --

    def room_for(self, events: int, size: int) -> bool:
        """Whether that much may wait here too. An empty queue takes anything: a body is bounded already."""
        policy = self._intake.policy
        return not self.events or (self.events + events <= policy.queue_events and self.bytes + size <= policy.queue_bytes)

    def put(self, submission: _Submission) -> None:
        self._queue.append(submission)
        self.events += len(submission.items)
        self.bytes += submission.size
        self._wake.set()

    def wake(self) -> None:
        """Look again what is due."""
        self._wake.set()

    def _take(self) -> list[_Submission]:
        taken: list[_Submission] = []
        events = 0
        while self._queue and (not taken or events + len(self._queue[0].items) <= self._intake.policy.batch_events):
            submission = self._queue.popleft()
            events += len(submission.items)
            self.events -= len(submission.items)
            self.bytes -= submission.size
            if not submission.done.done():  # the caller has gone: nobody was told anything, so nothing is owed
                taken.append(submission)
        return taken

    def _fail(self, submissions: Sequence[_Submission]) -> None:
        retry = max(1, math.ceil(self._retry_s))
        for submission in submissions:
            if not submission.done.done():
                submission.done.set_exception(Unavailable(retry))

    def fail_waiting(self) -> None:
        """Send everybody who waits away."""
        waiting, self._queue = list(self._queue), deque()
        self.events = self.bytes = 0
        self._fail(waiting)

    # -- life --

    def close(self) -> None:
        """Take nothing new; ``run`` ends when what waits is done."""
        self.closing = True
        self._wake.set()

    async def run(self) -> None:
        """Open, work, and open again after an error, until closed or cancelled."""
        policy = self._intake.policy
        while True:
            try:
                await self._open()
                await self._work()
            except Fenced:
                # Whoever took over is at work; coming back at once would only take turns with it.
                logger.warning("intake-%d was taken over by another session", self._partition)
                self._retry_s = policy.reopen_max_s
            except LogError:
                logger.warning("intake-%d: the log failed", self._partition, exc_info=True)
            except Exception:
                # Whoever waits is sent away below (503), nothing was acknowledged, and the next session restores.
                logger.exception("intake-%d failed", self._partition)
            finally:
                self.open.clear()
                self.fail_waiting()
                await self._close()
            if self.closing:
                return
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, policy.reopen_max_s)
            self._intake.counts.reopened += 1

    async def _open(self) -> None:
        # Open first, restore second: state read before the predecessor is fenced can be older than its last commit.
        self._session = await self._intake.log.open_task(TaskId(GROUP, self._partition))
        restored = await self._session.restore()
        stored = restored.entries.get(_STATE)
        self._state = _State() if stored is None else msgspec.msgpack.decode(stored, type=_State)
        self._received = ReceiveClock(self._state.received)
        self._seen = Seen(self._intake.policy.dedup)
        self._seen.restore(restored.entries)
        self._chains = Chains()
        self._chains.restore(restored.entries)
        # The clock of a partition is owed from the restart on, however long ago its last record was.
        self._last_written = dict.fromkeys(self._intake.canonical, self._state.received)
        self.open.set()

    async def _close(self) -> None:
        if self._session is not None:
            with contextlib.suppress(LogError):
                await self._session.close()
            self._session = None

    async def _work(self) -> None:
        while True:
            submissions = self._take()
            if submissions:
                await self._process(submissions)
                continue
            if self.closing:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(self._until_tick_s()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if not self._queue and self._silent(self._now()):
                self._state.received = self._now()
                await self._commit({}, {})

    # -- receive time and ticks --

    def _now(self) -> int:
        """The receive time of what is written next."""
        wall = self._intake.clock.now_ms()
        now = self._received.now(wall)
        ahead = self._received.ahead_ms
        if ahead >= CLOCK_AHEAD_MS and not self._told_ahead:
            self._told_ahead = True
            logger.warning(
                "intake-%d: the machine's clock is %.1f s behind the last receive time (it was set back, or had run ahead): "
                "receive times go on at half speed until it has caught up",
                self._partition,
                ahead / 1000,
            )
        elif not ahead and self._told_ahead:
            self._told_ahead = False
            logger.warning("intake-%d: receive times follow the machine's clock again", self._partition)
        return now if self._intake.guards.monotone_received else wall

    @property
    def ahead_ms(self) -> int:
        return self._received.ahead_ms

    def _silent(self, now: int) -> list[str]:
        """Topics whose partition has been silent long enough, and whose clock would advance."""
        after = self._intake.tick_after_ms
        return [topic for topic, last in self._last_written.items() if now - last >= after]

    def _until_tick_s(self) -> float:
        after = self._intake.tick_after_ms
        due = min(self._last_written.values(), default=0) + after
        return min(max(due - self._intake.clock.now_ms(), 10), after) / 1000

    async def _commit(
        self, records: Mapping[str, Sequence[Record]], entries: Mapping[bytes, bytes | None]
    ) -> Mapping[TopicPartition, int]:
        """Commit records, and with them the clock of every topic partition that has been silent.

        A tick says that everything received before it is written. Being part of this task's commits it is: what was
        decided before stands before it, and what is decided later gets this receive time or a later one. It goes along
        with a batch too, or a busy topic would keep the clock of a silent one from advancing.
        """
        assert self._session is not None
        received = self._state.received
        silent = [topic for topic in self._silent(received) if topic not in records]
        tick = Record(b"", b"", Headers(received=received, type=CLOCK_TYPE, upstream=f"{GROUP}-{self._partition}"))
        outputs = [Append(topic, self._partition, rows) for topic, rows in records.items()]
        outputs += [Append(topic, self._partition, [tick]) for topic in silent]
        written = await self._session.commit(outputs, {**entries, _STATE: msgspec.msgpack.encode(self._state)}, {})
        for topic in (*records, *silent):
            if topic in self._last_written:
                self._last_written[topic] = received
        self._retry_s = self._intake.policy.reopen_min_s
        self._intake.counts.ticks += len(silent)
        return written

    # -- a batch --

    async def _process(self, submissions: Sequence[_Submission]) -> None:
        intake = self._intake
        intake.heard()
        try:
            batch = self._decide(submissions)
            intake.faults(STEPS[1])
            if not intake.guards.commit_before_answer:
                self._answer(batch, {})
            written: Mapping[TopicPartition, int] = {}
            if batch.records:
                intake.faults(STEPS[2])
                written = await self._commit(batch.records, {**self._seen.take_changes(), **self._chains.take_changes()})
                intake.faults(STEPS[3])
                # This process stamps by its own registrations at once, not when it has read them back.
                for record in batch.records.get(topics.REGISTRY, ()):
                    intake.directory.apply(record.headers, record.value)
        except BaseException as error:
            if isinstance(error, RecordTooLarge):
                logger.error("intake-%d: max_record_bytes is more than the log takes", self._partition)
            self._fail(submissions)
            raise
        self._answer(batch, written)
        intake.faults(STEPS[4])
        self._count(batch)

    def _decide(self, submissions: Sequence[_Submission]) -> _Batch:
        guards = self._intake.guards
        received = self._now()
        self._state.received = max(received, self._state.received)
        batch = _Batch(received)
        self._seen.sweep(received, sum(len(submission.items) for submission in submissions))
        for submission in submissions:
            outcomes: list[tuple[int, str, Outcome]] = []
            for index, item in submission.items:
                if isinstance(item, _Refused):
                    outcomes.append((index, *self._refuse(batch, submission.principal, item)))
                else:
                    outcomes.append((index, *self._decide_one(batch, submission.principal, item)))
            batch.outcomes.append((submission, outcomes))
            if not guards.in_flight_wait and all(o.status is Status.DUPLICATE for _, _, o in outcomes):
                submission.done.set_result([(index, outcome) for index, _, outcome in outcomes])
        return batch

    def _decide_one(self, batch: _Batch, principal: Principal, event: Accepted) -> tuple[str, Outcome]:
        family = event.family
        directory = self._intake.directory
        scope: Scope | Unscoped
        if family.writer is Writer.PLATFORM:
            scope = directory.scope_of_registration(event.data)
        else:
            scope = directory.scope_of(event.source, event.time_ms)
            if isinstance(scope, Unscoped):
                return self._refuse_event(batch, principal, event, Refusal(scope.code, "/source", scope.parameters))
        headers = Headers(
            received=batch.received,
            type=family.type,
            principal=_in_whose_name(principal, event),
            enterprise=scope.enterprise,
            site=scope.site,
            division=scope.division,
        )
        record = Record(event.source.encode(), event.value, headers)
        excess = record_size(record) - self._intake.policy.max_record_bytes
        if excess > 0:  # before its id is taken
            size = len(event.value)
            refusal = Refusal("too-large", "", {"size": str(size), "limit": str(size - excess)})
            return self._refuse_event(batch, principal, event, refusal, scope)
        verdict = self._seen.add(event.source, event.id, event.digest, batch.received, event.time_ms)
        if verdict is Verdict.REUSED:
            parameters = {"source": event.source, "id": event.id}
            return self._refuse_event(batch, principal, event, Refusal("id-reused", "/id", parameters), scope)
        if verdict is Verdict.DUPLICATE and self._intake.guards.dedup:
            return "", Outcome(event.id, event.source, Status.DUPLICATE)
        if scope.chained:
            self._check_chain(batch, principal, event, scope)
        batch.records.setdefault(family.topic, []).append(record)
        return family.topic, Outcome(event.id, event.source, Status.ACCEPTED)

    def _check_chain(self, batch: _Batch, principal: Principal, event: Accepted, scope: Scope) -> None:
        """A break is kept where people look, under its own code; the event itself stays accepted."""
        link = self._chains.add(event.source, event.extensions.get("prev"), event.value)
        if link.broken:
            self._intake.counts.chain_breaks += 1
            self._refuse_event(batch, principal, event, Refusal(link.value, "/prev", {"source": event.source}), scope)

    def _refuse_event(
        self, batch: _Batch, principal: Principal, event: Accepted, refusal: Refusal, scope: Scope | None = None
    ) -> tuple[str, Outcome]:
        named = msgspec.structs.replace(refusal, id=event.id, source=event.source, type=event.family.type)
        payload = Payload.of(event.value, self._intake.policy.keep_payload_bytes)
        return self._refuse(batch, principal, _Refused(named, payload, scope or _NO_SCOPE))

    def _refuse(self, batch: _Batch, principal: Principal, refused: _Refused) -> tuple[str, Outcome]:
        refusal = refused.refusal
        outcome = Outcome(refusal.id, refusal.source, Status.REFUSED, refusal)
        if not self._intake.within_quota(principal, len(refused.payload.head)):
            return "", outcome
        self._state.refusals += 1
        scope = refused.scope
        said = Refused(
            refusal.code,
            refused.payload,
            principal.name,
            # The faults of a payload go along as parameters, pointer to code.
            {**refusal.parameters, **{fault.pointer[:256]: fault.code for fault in refusal.errors}},
            refusal.pointer,
            refusal.source,
            refusal.id,
            refusal.type,
            (scope.enterprise, scope.site, scope.division),
            "intake",
        )
        number = f"{self._partition}-{self._state.refusals}"
        record = refused_record(said, SOURCE, number, batch.received, batch.received)
        batch.records.setdefault(topics.QUARANTINE, []).append(record)
        return topics.QUARANTINE, outcome

    def _answer(self, batch: _Batch, written: Mapping[TopicPartition, int]) -> None:
        places: dict[str, Position] = {}
        for submission, outcomes in batch.outcomes:
            if submission.done.done():
                continue
            answers: list[tuple[int, Outcome]] = []
            for index, topic, outcome in outcomes:
                position = written.get(TopicPartition(topic, self._partition)) if topic else None
                if position is not None:
                    place = places.get(topic)
                    if place is None:
                        place = places[topic] = Position(topic, self._partition, position)
                    outcome = Outcome(outcome.id, outcome.source, outcome.status, outcome.problem, place)
                answers.append((index, outcome))
            submission.done.set_result(answers)

    def _count(self, batch: _Batch) -> None:
        counts = self._intake.counts
        counts.batches += 1
        for topic, records in batch.records.items():
            counts.written[topic] += len(records)
        for _, outcomes in batch.outcomes:
            for _, topic, outcome in outcomes:
                if outcome.status is Status.ACCEPTED:
                    counts.accepted += 1
                elif outcome.status is Status.DUPLICATE:
                    counts.duplicate += 1
                else:
                    assert outcome.problem is not None
                    counts.refused[outcome.problem.code] += 1
                    if topic:
                        counts.quarantined += 1
                    else:
                        counts.unquarantined += 1


class Intake:
    """The intake of one process: a task for each partition that it owns.

    Args:
        log: where events go.
        catalog: the families.
        partitions: the common partition count.
        clock: receive time.
        policy: limits.
        directory: devices; started by the caller.
        guards: protections, all on outside tests.
        faults: fault hook of kill tests.
        owned: partitions of this process; None for all.
        checks: what only the rest of the platform knows of a payload. Not asked of what the registry publishes: it has checked
            that when it took it, and the outbox would stop at what a later release no longer declares.
    """

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        partitions: int,
        clock: Clock,
        policy: IntakePolicy,
        directory: Directory,
        guards: Guards = ALL_GUARDS,
        faults: Faults = no_faults,
        owned: Sequence[int] | None = None,
        checks: Checks | None = None,
    ) -> None:
        self.log = log
        self.catalog = catalog
        self.partitions = partitions
        self.clock = clock
        self.policy = policy
        self.directory = directory
        self.guards = guards
        self.faults = faults
        self.counts = Counts()
        self.canonical = catalog.canonical_topics()
        self._parsing = policy.parsing()
        self._checks = checks or {}
        self._quotas: dict[str, _Quota] = {}
        self._tasks = {p: _Task(self, p) for p in (range(partitions) if owned is None else owned)}
        self._running: list[asyncio.Task[None]] = []
        self._heard_ms: int | None = None

    @property
    def tick_after_ms(self) -> int:
        """Silence after which a clock is written, now: shorter for as long after the last submission as it is otherwise."""
        policy = self.policy
        busy = self._heard_ms is not None and 0 <= self.clock.now_ms() - self._heard_ms < policy.tick_after_ms
        return min(policy.tick_after_ms, policy.busy_tick_after_ms) if busy else policy.tick_after_ms

    def heard(self) -> None:
        """Events have come."""
        idle = self.tick_after_ms > self.policy.busy_tick_after_ms
        self._heard_ms = self.clock.now_ms()
        if idle:
            for task in self._tasks.values():
                task.wake()

    async def start(self) -> None:
        """Open every task; returns when all can be written."""
        self._running = [asyncio.create_task(task.run(), name=f"intake-{p}") for p, task in self._tasks.items()]
        for task in self._tasks.values():
            await task.open.wait()

    async def stop(self) -> None:
        """Finish what is in line, then close. Who comes later gets Unavailable."""
        for task in self._tasks.values():
            task.close()
        done, pending = await asyncio.wait(self._running, timeout=5) if self._running else (set(), set())
        for running in pending:
            running.cancel()
        for running in (*done, *pending):
            with contextlib.suppress(asyncio.CancelledError):
                await running
        for task in self._tasks.values():
            task.fail_waiting()
        self._running = []

    @property
    def open(self) -> bool:
        """Whether every task can be written just now."""
        return all(task.open.is_set() for task in self._tasks.values())

    @property
    def clock_ahead_ms(self) -> int:
        """How far receive times are ahead of the machine's clock: 0, unless it was set back or had run ahead."""
        return max((task.ahead_ms for task in self._tasks.values()), default=0)

    def count_unauthenticated(self) -> None:
        """A request without a valid token: counted, nothing kept."""
        self.counts.unauthenticated += 1

    def within_quota(self, principal: Principal, size: int) -> bool:
        """Whether quarantine keeps one more payload of this principal in this hour; counts it if so."""
        hour = self.clock.now_ms() // 3_600_000
        quota = self._quotas.setdefault(principal.name, _Quota())
        if quota.hour != hour:
            quota.hour, quota.records, quota.payload_bytes = hour, 0, 0
        if quota.records >= self.policy.quarantine_records or quota.payload_bytes + size > self.policy.quarantine_bytes:
            return False
        quota.records += 1
        quota.payload_bytes += size
        return True

    async def submit(self, principal: Principal, elements: Sequence[bytes]) -> list[Outcome]:
        """Take events; returns after all of them are durable, one outcome each, in order.

        Raises:
            NotPermitted: the principal has neither the role ``device`` nor ``registrar``.
            Overloaded: nothing was taken.
            Unavailable: some may be written, none is acknowledged; sending all again is safe.
        """
        if not (principal.has(Role.DEVICE) or principal.has(Role.REGISTRAR)):
            raise NotPermitted
        if not elements:
            return []
        self._check_room(elements)
        now = self.clock.now_ms()
        by_partition: dict[int, list[tuple[int, Accepted | _Refused]]] = {}
        sizes: Counter[int] = Counter()
        for index, element in enumerate(elements):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            item = self._examine(principal, element, now)
            source = item.source if isinstance(item, Accepted) else (item.refusal.source or principal.name)
            partition = _partition(source, self.partitions)
            by_partition.setdefault(partition, []).append((index, item))
            sizes[partition] += len(element)
        return await self._hand_over(principal, by_partition, sizes, len(elements))

    async def refuse(self, principal: Principal, refusal: Refusal, payload: Payload | bytes) -> Outcome:
        """Put something into quarantine that never became an element: a body that is no batch, or too large.

        Raises:
            Overloaded, Unavailable: as ``submit``.
        """
        if isinstance(payload, bytes):
            payload = Payload.of(payload, self.policy.keep_payload_bytes)
        partition = partition_for(principal.name.encode(), self.partitions)
        items: dict[int, list[tuple[int, Accepted | _Refused]]] = {partition: [(0, _Refused(refusal, payload))]}
        return (await self._hand_over(principal, items, Counter({partition: len(payload.head)}), 1))[0]

    def _check_room(self, elements: Sequence[bytes]) -> None:
        # Before anything is parsed: an overload must not cost more than it saves. Which task is full is known only after.
        size = sum(map(len, elements))
        if not any(task.room_for(len(elements), size) for task in self._tasks.values()):
            raise Overloaded(1)

    async def _hand_over(
        self,
        principal: Principal,
        by_partition: Mapping[int, list[tuple[int, Accepted | _Refused]]],
        sizes: Mapping[int, int],
        count: int,
    ) -> list[Outcome]:
        for partition, items in by_partition.items():
            task = self._tasks.get(partition)
            if task is None or not task.open.is_set() or task.closing:
                raise Unavailable(1)
            if not task.room_for(len(items), sizes[partition]):
                raise Overloaded(1)
        loop = asyncio.get_running_loop()
        waiting = []
        for partition, items in by_partition.items():
            submission = _Submission(principal, items, sizes[partition], loop.create_future())
            self._tasks[partition].put(submission)
            waiting.append(submission.done)
        self.faults(STEPS[0])
        outcomes: list[Outcome | None] = [None] * count
        # Every task is waited for even when one fails: a future that nobody looks at would log its error as lost.
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(answer, BaseException):
                failure = answer
                break
            for index, outcome in answer:
                outcomes[index] = outcome
        else:
            return [outcome for outcome in outcomes if outcome is not None]
        raise failure

    def _examine(self, principal: Principal, element: bytes, now: int) -> Accepted | _Refused:
        found = parse(element, self.catalog, self._parsing, now)
        if isinstance(found, Accepted):
            refusal = _not_covered(principal, found) or self._not_fitting(principal, found)
            if refusal is None:
                return found
            found = refusal
        return _Refused(found, Payload.of(element, self.policy.keep_payload_bytes))

    def _not_fitting(self, principal: Principal, event: Accepted) -> Refusal | None:
        """Why a valid payload cannot be what it says, or None."""
        check = self._checks.get(event.family.type)
        if check is None or principal.name == PLATFORM.name or not isinstance(event.data, Mapping):
            return None
        faults = tuple(FieldFault(pointer_of(f.member), f.code, f.parameters) for f in check(event.data))
        if not faults:
            return None
        return Refusal(
            "data-invalid", faults[0].pointer, {"count": str(len(faults))}, faults[: self._parsing.max_faults],
            event.id, event.source, event.family.type,
        )  # fmt: skip

    @property
    def queue(self) -> tuple[int, int]:
        """Events and bytes that wait."""
        return sum(t.events for t in self._tasks.values()), sum(t.bytes for t in self._tasks.values())


def _in_whose_name(principal: Principal, event: Accepted) -> str:
    """Whom the record names as its sender: of a reference event whoever registered it, which a registrar's word stands for."""
    named = event.extensions.get(REGISTRAR) if event.family.writer is Writer.PLATFORM else None
    return named if isinstance(named, str) and named else principal.name


def _not_covered(principal: Principal, event: Accepted) -> Refusal | None:
    """Why this principal may not send this event, or None."""
    if event.family.writer is Writer.PLATFORM:
        if not principal.has(Role.REGISTRAR):
            refusal = Refusal("registrar-only", "/type", {"type": event.family.type})
        elif not principal.may_send_for(event.source):
            refusal = Refusal("out-of-scope", "/source", {"source": event.source})
        else:
            return None
    elif principal.has(Role.DEVICE) and principal.may_send_for(event.source):
        return None
    else:
        refusal = Refusal("out-of-scope", "/source", {"source": event.source})
    return msgspec.structs.replace(refusal, id=event.id, source=event.source, type=event.family.type)
