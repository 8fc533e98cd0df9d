"""Faust around the loop: the one place that knows Faust.

Each operator group is a Faust app of its own, hence a consumer group of its own, so that a new operator has its own position.
Faust brings membership, assignment and delivery of slices; the loop that merges, steps and commits is ``StreamTask`` and runs
the same without it. Faust's tables, windows, web server, producer and leader topic stay off.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import faust
from faust.app.base import BootStrategy

from hengliu.events import topics
from hengliu.ports.log import EventLog, Fenced, LogReader, Slice, TaskId, TopicPartition
from streams.kernel.task import OpenReader, Progress, StreamTask
from streams.supervisor import BACK_OFF_S

__all__ = ["FaustShell", "GroupHost", "Tasks"]

logger = logging.getLogger(__name__)

FEED_RECORDS = 5_000
"""Records that wait for a task; more stay with Faust, which stops fetching."""


BROADCAST_REST_S = 0.25
BROADCAST_LIGHT = 200
"""What is broadcast is little beside its clocks, which every task reads; after so few records it is looked at again when the
task looks at its input, or after this long."""

RESEEK_S = 1.0
"""Seeks of one partition are so far apart: one is enough for all that was fetched before it."""

APP_STOP_S = 5.0

CHANNEL_SLICES = 512
"""The transports let 32 and one a partition wait (``infra.faust_batch``); at four fifths of this Faust would take a partition
out of what is read."""

ASSIGN_S = 600.0
"""How long Faust waits for tasks to open after an assignment. At its end it would stop resuming anything, without an error."""

COMMIT_S = 1.0
"""How often the positions that tasks have committed are told to the consumer group."""


class Tasks(Protocol):
    """What a group host needs of a topology: ``streams.topology``, or ``streams.kernel.partition``."""

    @property
    def log(self) -> EventLog: ...

    @property
    def poll_records(self) -> int: ...

    def inputs(self, group: str) -> tuple[str, ...]: ...

    def build(self, task: TaskId, open_reader: OpenReader | None = None) -> StreamTask: ...


class _Feed:
    """A task's input: slices that Faust delivers, and the broadcast partitions that the task reads itself."""

    def __init__(self, positions: Mapping[TopicPartition, int], broadcast: LogReader | None) -> None:
        self._expected = dict(positions)
        self._broadcast = broadcast
        self._waiting: deque[Slice] = deque()
        self._records = 0
        self._changed = asyncio.Condition()
        self._asked = asyncio.Event()
        self._pump = asyncio.create_task(self._read_broadcast()) if broadcast is not None else None
        self._closed = False

    async def _read_broadcast(self) -> None:
        assert self._broadcast is not None
        while True:
            pieces = await self._broadcast.poll(1_000, 1_000)
            for piece in pieces:
                await self._queue(piece)
            if sum(map(len, pieces)) < BROADCAST_LIGHT:
                self._asked.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BROADCAST_REST_S):
                        await self._asked.wait()

    async def _queue(self, piece: Slice) -> None:
        """Wait for room, which there is for any slice once nothing else waits."""
        async with self._changed:
            while self._waiting and self._records + len(piece) > FEED_RECORDS and not self._closed:
                await self._changed.wait()
            self._waiting.append(piece)
            self._records += len(piece)
            self._changed.notify_all()

    async def put(self, piece: Slice) -> int | None:
        """Take a slice in; None when it was, else the position from which to deliver again.

        A slice that starts before the expected position was fetched before a seek: dropped without a word. One that starts
        after it means that Faust dropped a slice in between (it does when its flow stops for a moment).
        """
        expected = self._expected.get(piece.tp)
        if self._closed or expected is None or piece.position < expected:
            return None
        if piece.position > expected:
            return expected
        self._expected[piece.tp] = piece.next_position
        try:
            await self._queue(piece)
        except asyncio.CancelledError:
            # The app that delivers is going; the next one reads the slice again.
            self._expected[piece.tp] = piece.position
            raise
        return None

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Slice]:
        if self._pump is not None and self._pump.done():
            # Looked at each time, not when the queue is empty: clocks of the other inputs see to it that it never is, and
            # without the registry's the merge would stand still for good.
            self._pump.result()
        self._asked.set()
        await asyncio.sleep(0)  # the broadcast's turn; and a queue that is never empty would never let another task run
        async with self._changed:
            if not self._waiting:
                try:
                    async with asyncio.timeout(timeout_ms / 1000):
                        await self._changed.wait_for(lambda: self._waiting)
                except TimeoutError:
                    return []
            pieces: list[Slice] = []
            count = 0
            while self._waiting and (not pieces or count < max_records):
                pieces.append(self._waiting.popleft())
                count += len(pieces[-1])
            self._records -= count
            self._changed.notify_all()
        return pieces

    def seek(self, tp: TopicPartition, position: int) -> None:
        raise NotImplementedError("Faust seeks")

    def position(self, tp: TopicPartition) -> int:
        return self._expected[tp]

    async def close(self) -> None:
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._broadcast is not None:
            await self._broadcast.close()
        async with self._changed:  # whoever waits to put must not wait for ever
            self._waiting.clear()
            self._changed.notify_all()


class _Running:
    """One task with its feed, from opening its session to its end."""

    def __init__(self, host: "GroupHost", task: TaskId) -> None:
        self._host = host
        self.id = task
        self.feed: _Feed | None = None
        self.positions: asyncio.Future[Mapping[TopicPartition, int]] = asyncio.get_running_loop().create_future()
        self.stream: StreamTask = host.topology.build(task, self._open)
        self.loop = asyncio.create_task(self._run(), name=str(task))

    async def _open(self, positions: Mapping[TopicPartition, int]) -> LogReader:
        fed = {tp: p for tp, p in positions.items() if tp.topic != topics.REGISTRY}
        broadcast = {tp: p for tp, p in positions.items() if tp.topic == topics.REGISTRY}
        if topics.REGISTRY in self._host.topology.inputs(self.id.group):
            # Read as any input, a partition a task: the exchange forwards what is in it.
            fed, broadcast = dict(positions), {}
        reader = await self._host.log.open_reader(broadcast) if broadcast else None
        self.feed = _Feed(fed, reader)
        self.positions.set_result(fed)
        return self.feed

    async def _run(self) -> None:
        try:
            await self.stream.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not self.positions.done():
                self.positions.set_exception(error)
                self.positions.exception()  # told by the loop's end; whoever waits here only sees that it is not open
            raise

    async def end(self) -> None:
        """End after the step that is running; what is uncommitted is read again by whoever comes next."""
        self.stream.stop()
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)
        if not self.positions.done():
            self.positions.cancel()
        elif not self.positions.cancelled():
            self.positions.exception()


class GroupHost:
    """The tasks of one group that this worker has, as Faust assigns partitions (``hengliu.ports.membership``)."""

    def __init__(self, topology: Tasks, group: str) -> None:
        self.topology = topology
        self.group = group
        self.failures: dict[TaskId, str] = {}
        self._running: dict[int, _Running] = {}
        self._sought: dict[TopicPartition, float] = {}
        """When a partition may be sought again."""
        self._missing: dict[TopicPartition, int] = {}
        """Where a task last stood when a slice came that begins behind that."""
        self._seeking: dict[TopicPartition, asyncio.Task[None]] = {}
        self._rebuilding: set[asyncio.Task[None]] = set()
        self._attempts: dict[int, int] = {}
        """How often a partition's task has been rebuilt without a commit in between."""
        self._app: Any = None
        self._assigning = asyncio.Lock()
        self._stopped = False

    @property
    def log(self) -> EventLog:
        return self.topology.log

    @property
    def poll_records(self) -> int:
        return self.topology.poll_records

    def attach(self, app: Any) -> None:
        self._app = app

    def progress(self) -> dict[TaskId, Progress]:
        return {r.id: r.stream.progress for r in self._running.values()}

    def committed(self, tp: TopicPartition) -> int | None:
        running = self._running.get(tp.partition)
        return None if running is None else running.stream.progress.positions.get(tp)

    async def assigned(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        wanted = {tp.partition for tp in tps}
        async with self._assigning:
            # Of two that overlap the first must not begin what the second has given away.
            if self._stopped:
                return {}
            await self._end([self._running.pop(p) for p in list(self._running) if p not in wanted])
            # Those that stayed keep producer, state and what they have read. One that an assignment before this one was opening
            # is waited for: a second one beside it could be fenced by the first.
            opening = []
            for partition in sorted(wanted):
                running = self._running.get(partition)
                if running is None or running.loop.done():
                    running = self._begin(partition)
                opening.append(running.positions)
        # Side by side, and not in each other's way: opening waits for what a predecessor left open, and for its state. Faust
        # may give up waiting (an app that stops, a rebalance that is overtaken); that cancels nothing of what is opened.
        if opening:
            await asyncio.wait(opening)
        return {tp: position for tp in tps if (position := self._stands(tp)) is not None}

    def _begin(self, partition: int) -> _Running:
        running = self._running[partition] = _Running(self, TaskId(self.group, partition))
        running.loop.add_done_callback(lambda _: self._ended(running))
        return running

    def _stands(self, tp: TopicPartition) -> int | None:
        """Where the task of a partition stands; None while it is not open: whoever opens it seeks."""
        running = self._running.get(tp.partition)
        return None if running is None or running.feed is None else running.feed.position(tp)

    async def _end(self, leaving: Sequence[_Running]) -> None:
        await asyncio.gather(*(running.end() for running in leaving))
        for running in leaving:
            self.failures.pop(running.id, None)

    async def revoked(self, tps: Collection[TopicPartition]) -> None:
        """Nothing to do yet: delivery has stopped, and whoever gets a task fences ours before it reads state."""

    async def deliver(self, piece: Slice) -> None:
        """A slice from Faust. Without a task it is dropped; the next assignment reads it again."""
        running = self._running.get(piece.partition)
        if running is None or running.feed is None:
            return
        again = await running.feed.put(piece)
        if again is None:
            return
        self._missing[piece.tp] = again
        if piece.tp not in self._seeking:
            seeking = asyncio.create_task(self._read_again(piece.tp), name=f"seek {running.id}")
            self._seeking[piece.tp] = seeking
            seeking.add_done_callback(lambda _: self._seeking.pop(piece.tp, None))

    async def _read_again(self, tp: TopicPartition) -> None:
        """Seek to where a task stands, unless what it misses comes by itself.

        What was fetched before a seek still arrives for a moment, and one seek is enough for all of it: so the next waits until
        the last is ``RESEEK_S`` ago. It must not be left out, since nothing else may ever arrive that would ask again.
        """
        now = asyncio.get_running_loop().time
        while tp in self._missing:
            await asyncio.sleep(max(0.0, self._sought.get(tp, 0.0) - now()))
            position = self._stands(tp)
            if self._missing.pop(tp) != position:
                continue
            self._sought[tp] = now() + RESEEK_S
            logger.info("%s: a slice of %s/%s is missing, reading again from %s", self.group, *tp, position)
            try:
                await self._app.consumer.seek(faust.types.TP(*tp), position)
            except Exception as error:  # noqa: BLE001 - a partition that is just being assigned anew, or an app that is going
                logger.info("%s: %s: %s; the next assignment seeks", self.group, type(error).__name__, error)

    def _ended(self, running: _Running) -> None:
        if running.loop.cancelled() or self._running.get(running.id.partition) is not running:
            return
        error = running.loop.exception()
        if error is None:
            return
        self.failures[running.id] = f"{type(error).__name__}: {error}"
        if isinstance(error, Fenced):
            logger.warning("%s: fenced, another worker runs it", running.id)
        else:
            logger.error("%s failed; it is rebuilt from its last commit", running.id, exc_info=error)
        rebuilding = asyncio.create_task(self._rebuild(running), name=f"rebuild {running.id}")
        self._rebuilding.add(rebuilding)
        rebuilding.add_done_callback(self._rebuilding.discard)

    async def _rebuild(self, failed: _Running) -> None:
        partition = failed.id.partition
        if failed.stream.progress.commits:
            self._attempts[partition] = 0
        attempt = self._attempts.get(partition, 0)
        self._attempts[partition] = attempt + 1
        await asyncio.sleep(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
        if self._running.get(partition) is not failed:
            return  # it was revoked or assigned anew meanwhile
        running = self._begin(partition)
        await asyncio.wait([running.positions])
        if running.feed is None or self._running.get(partition) is not running:
            return  # what could not be opened is rebuilt in its turn
        self.failures.pop(running.id, None)
        try:
            for tp in running.positions.result():
                await self._app.consumer.seek(faust.types.TP(tp.topic, tp.partition), running.feed.position(tp))
        except Exception as error:  # noqa: BLE001 - a partition that is just being assigned anew, or an app that is going
            logger.info("%s: %s: %s; the next assignment seeks", running.id, type(error).__name__, error)

    async def stop(self) -> None:
        self._stopped = True
        besides = [*self._rebuilding, *self._seeking.values()]
        for one in besides:
            one.cancel()
        await asyncio.gather(*besides, return_exceptions=True)
        async with self._assigning:
            await self._end([self._running.pop(p) for p in list(self._running)])


class _Boot(BootStrategy):  # type: ignore[misc]
    """Outputs leave through the commit primitive, so Faust has no producer."""

    enable_kafka_producer = False
    enable_web = False


class _GroupApp(faust.App):  # type: ignore[misc]
    BootStrategy = _Boot
    host: GroupHost


class _SliceSchema(faust.Schema):  # type: ignore[misc]
    """Values are slices already."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.value


class _Shell:
    """One group under one Faust app, which is built again when it has crashed.

    Under its own worker program a crashed Faust app ends the process; embedded it would sit there for ever. The tasks stay: the
    new app asks their host for positions, as after any assignment.
    """

    def __init__(self, host: GroupHost, consumer_group: str, broker: str, session_s: float) -> None:
        self.host = host
        self._consumer_group = consumer_group
        self._session_s = session_s
        self._broker = broker
        self._app: _GroupApp | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._start_app()
        self._watch = asyncio.create_task(self._keep(), name=f"{self.host.group} shell")

    async def _start_app(self) -> None:
        app = _build_app(self.host, self._consumer_group, self._broker, self._session_s)
        self._app = app
        self.host.attach(app)
        app.finalize()
        await app.start()

    async def _keep(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(1.0)
            app = self._app
            assert app is not None
            if not _has_crashed(app):
                continue
            logger.warning("%s: its Faust app has crashed and is built again", self.host.group)
            await self._end_app(app)
            await asyncio.sleep(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
            attempt += 1
            try:
                await self._start_app()
            except Exception as error:  # noqa: BLE001 - whatever it was
                # The broker may be away for longer than one try, and nothing else tries again.
                logger.warning("%s: its Faust app did not start: %s: %s", self.host.group, type(error).__name__, error)

    async def _end_app(self, app: _GroupApp) -> None:
        try:
            async with asyncio.timeout(APP_STOP_S):
                await app.stop()
        except (TimeoutError, asyncio.CancelledError):
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            logger.warning("%s: its Faust app did not stop within %.0f s", self.host.group, APP_STOP_S)

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.host.stop()
        if self._app is not None:
            await self._end_app(self._app)


def _has_crashed(app: _GroupApp) -> bool:
    """Whether the app or a service that feeds it has crashed or stopped by itself."""
    services = (app, app.consumer, app._fetcher, app.topics, app.tables)
    return any(bool(s.crashed) or s.should_stop for s in services)


def _build_app(host: GroupHost, consumer_group: str, broker: str, session_s: float) -> _GroupApp:
    app = _GroupApp(
        consumer_group,
        broker=broker,
        store="memory://",
        autodiscover=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 5,
        broker_request_timeout=ASSIGN_S,
        broker_commit_interval=COMMIT_S,
        key_serializer="raw",
        value_serializer="raw",
    )
    app.host = host
    source = app.topic(*host.topology.inputs(host.group), schema=_SliceSchema(), maxsize=CHANNEL_SLICES)

    async def deliver(stream: Any) -> None:
        async for piece in stream:
            await host.deliver(piece)

    app.agent(source, name=f"{host.group}.deliver")(deliver)
    return app


class FaustShell:
    """All groups of one worker process, each under a Faust app of its own.

    Args:
        groups: operator group to its consumer group.
        broker: ``hengliu-local://`` or ``hengliu-kafka://host:port``.
        session_s: how long a worker that has died keeps its partitions; the broker's own least is 6.
    """

    def __init__(self, topology: Tasks, groups: Mapping[str, str], broker: str, session_s: float = 10.0) -> None:
        self._shells = [_Shell(GroupHost(topology, g), consumers, broker, session_s) for g, consumers in groups.items()]

    async def start(self) -> None:
        await asyncio.gather(*(shell.start() for shell in self._shells))

    async def stop(self) -> None:
        await asyncio.gather(*(shell.stop() for shell in self._shells))

    def progress(self) -> dict[TaskId, Progress]:
        """What each task that this worker has has committed."""
        return {id_: p for shell in self._shells for id_, p in shell.host.progress().items()}

    @property
    def failures(self) -> dict[TaskId, str]:
        return {id_: f for shell in self._shells for id_, f in shell.host.failures.items()}
