"""The port's face of Kafka: sessions, readers, topics, all on the event loop that opened the log.

Step numbers are those of ``docs/protocols/commit.md``.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaError,
    OffsetOutOfRangeError,
    ProducerFenced,
)
from aiokafka.producer import sender

from hengliu.ports.log import (
    Append,
    Column,
    Fenced,
    Headers,
    LogError,
    LogUnavailable,
    Record,
    Slice,
    TaskId,
    TaskState,
    TopicKind,
    TopicMismatch,
    TopicPartition,
    TopicSpec,
    UnknownPartition,
)
from infra.kafka_log.admin import COMPACTED, Admin, record_topic_settings
from infra.kafka_log.bulk import BulkReader
from infra.kafka_log.codec import (
    POSITIONS_KEY,
    StateReader,
    decode_headers,
    encode_entry,
    encode_headers,
    encode_positions,
)
from infra.log_guards import ALL_GUARDS, Guards, StepHook, no_hook
from infra.log_limits import MAX_RECORD_BYTES, check_sizes
from infra.opening import Opening

__all__ = ["KafkaLog", "KafkaReader", "KafkaTaskSession"]

BATCH_BYTES = 512 << 10
"""Record batches of a commit are closed above this; a larger record goes alone."""
TRANSACTION_TIMEOUT_MS = 10_000
"""A producer that stopped with a transaction open holds every reader of its partitions back for this long. Ours is open for
milliseconds."""
CALL_SECONDS = 25.0
"""Any call that did not end by then raises LogUnavailable. Just-created topics were seen to take 5 s (docs/decisions/009)."""
RETRY_MS = 50
"""The client's default of 100 ms is what a new session would wait while its coordinator ends the predecessor's transaction."""
MARKER_SECONDS = 0.002
"""How long a producer waits when the broker is still writing the markers of its last transaction. With the client's 20 ms one
task committed every 34 ms, with this every 6 ms (same broker, back to back)."""
FETCH_BYTES = 8 << 20
PARTITION_FETCH_BYTES = 512 << 10

T = TypeVar("T")

_KafkaRecord = tuple[bytes, bytes | None, int | None, list[tuple[str, bytes]]]


class _TopicEntry(msgspec.Struct, frozen=True):
    kind: TopicKind
    partitions: int


class KafkaLog:
    """An ``EventLog`` on a Kafka cluster. Made by ``open``."""

    def __init__(
        self,
        bootstrap: str,
        admin: Admin,
        prefix: str,
        state_partitions: int,
        max_record_bytes: int,
        guards: Guards,
        hook: StepHook,
    ) -> None:
        self._bootstrap = bootstrap
        self._admin = admin
        self._prefix = prefix
        self._state_partitions = state_partitions
        self._max_record_bytes = max_record_bytes
        self._guards = guards
        self._hook = hook
        self._catalogue = f"{prefix}-topics"
        self._specs: dict[str, TopicSpec] = {}
        self._state_topics: set[str] = set()
        self._admin_lock = asyncio.Lock()
        self._append_producer: AIOKafkaProducer | None = None
        self._append_lock = asyncio.Lock()
        self._appends: dict[TopicPartition, list[tuple[Sequence[Record], asyncio.Future[int]]]] = {}
        self._append_locks: dict[TopicPartition, asyncio.Lock] = {}
        self._asker: AIOKafkaConsumer | None = None
        self._asker_lock = asyncio.Lock()
        self._open: set[KafkaReader | BulkReader | KafkaTaskSession] = set()
        self._closed = False

    # -- opening and closing -----------------------------------------------------------------------------------------

    @staticmethod
    def open(
        bootstrap: str,
        *,
        prefix: str = "hengliu",
        state_partitions: int = 16,
        replication: int = -1,
        max_record_bytes: int = MAX_RECORD_BYTES,
        guards: Guards = ALL_GUARDS,
        hook: StepHook = no_hook,
    ) -> Opening["KafkaLog"]:
        """Connect to ``host:port[,host:port]``: ``await`` it, or ``async with`` it.

        ``prefix`` begins the names of state topics, the topic catalogue and transactional ids. ``state_partitions`` is how
        many tasks a group may have at most; ``replication`` -1 is the cluster's default. ``max_record_bytes`` bounds key,
        value and headers of one record together.
        """
        return Opening(KafkaLog._connect(bootstrap, prefix, state_partitions, replication, max_record_bytes, guards, hook))

    @staticmethod
    async def _connect(
        bootstrap: str,
        prefix: str,
        state_partitions: int,
        replication: int,
        max_record_bytes: int,
        guards: Guards,
        hook: StepHook,
    ) -> "KafkaLog":
        admin = Admin(bootstrap, replication)
        sender.BACKOFF_OVERRIDE = MARKER_SECONDS  # the client has no setting for it
        log = KafkaLog(bootstrap, admin, prefix, state_partitions, max_record_bytes, guards, hook)
        try:
            await log._administer(lambda: admin.ensure({log._catalogue: (1, COMPACTED)}))
            await log._load_catalogue()
        except BaseException:
            await log.close()
            raise
        return log

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for opened in list(self._open):
            await opened.close()
        if self._append_producer is not None:
            await _stop(self._append_producer)
        if self._asker is not None:
            await self._asker.stop()

    # -- topics ------------------------------------------------------------------------------------------------------

    async def _administer(self, work: Callable[[], T]) -> T:
        async with self._admin_lock:
            return await asyncio.to_thread(work)

    async def _load_catalogue(self) -> None:
        """Kafka knows no kinds of topics, so they stand in a compacted topic of their own."""
        tp = TopicPartition(self._catalogue, 0)
        for record in await self._read_to_end(tp):
            if record.value is not None:
                entry = msgspec.json.decode(record.value, type=_TopicEntry)
                name = record.key.decode()
                self._specs[name] = TopicSpec(name, entry.kind, entry.partitions)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._load_catalogue()
        for spec in specs:
            found = self._specs.get(spec.name)
            if spec.partitions < 1 or (found is not None and found != spec):
                raise TopicMismatch(f"{spec.name}: exists as {found}, declared as {spec}")
        settings = record_topic_settings(self._max_record_bytes)
        await self._administer(lambda: self._admin.ensure({s.name: (s.partitions, settings) for s in specs}))
        new = [spec for spec in specs if spec.name not in self._specs]
        if new:
            producer = await self._appender()
            builder = producer.create_batch()
            for spec in new:
                value = msgspec.json.encode(_TopicEntry(spec.kind, spec.partitions))
                builder.append(timestamp=None, key=spec.name.encode(), value=value)
            async with _calls("create_topics"):
                await (await producer.send_batch(builder, self._catalogue, partition=0))
            self._specs |= {spec.name: spec for spec in new}

    async def topics(self) -> Sequence[TopicSpec]:
        await self._load_catalogue()
        return sorted(self._specs.values(), key=lambda spec: spec.name)

    async def adopt(self, names: Sequence[str]) -> Sequence[TopicSpec]:
        found = await self._administer(lambda: self._admin.partitions(names))
        missing = [name for name in names if name not in found]
        if missing:
            raise UnknownPartition(", ".join(missing))
        specs = [TopicSpec(name, TopicKind.FOREIGN, found[name]) for name in names]
        self._specs |= {spec.name: spec for spec in specs if spec.name not in self._specs}
        return specs

    async def _check(self, tps: Sequence[TopicPartition]) -> None:
        """The client would assert, or wait for a topic that never comes."""
        for attempt in (1, 2):
            wrong = [
                tp for tp in tps if tp.topic not in self._specs or not 0 <= tp.partition < self._specs[tp.topic].partitions
            ]
            if not wrong:
                return
            if attempt == 1:
                await self._load_catalogue()
        raise UnknownPartition(f"{wrong[0].topic}/{wrong[0].partition}")

    # -- writing -----------------------------------------------------------------------------------------------------

    def _producer(self, transactional_id: str | None) -> AIOKafkaProducer:
        settings: dict[str, Any] = {"enable_idempotence": True}
        if transactional_id is not None:
            settings = {"transactional_id": transactional_id, "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            max_batch_size=min(BATCH_BYTES, self._max_record_bytes),
            max_request_size=self._max_record_bytes + (64 << 10),
            request_timeout_ms=20_000,
            retry_backoff_ms=RETRY_MS,
            **settings,
        )

    async def _appender(self) -> AIOKafkaProducer:
        async with self._append_lock:
            if self._append_producer is None:
                producer = self._producer(None)
                await _start(producer)
                self._append_producer = producer
            return self._append_producer

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        tp = TopicPartition(topic, partition)
        await self._check([tp])
        check_sizes(records, self._max_record_bytes)
        if not records:
            return (await self.end_positions([tp]))[tp]
        # Appends that meet go as one batch. (Left to the client, they contend for its one open batch a partition, and its
        # waiting time shrinks with every turn: 64 writers soon got KafkaTimeoutError.)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._appends.setdefault(tp, []).append((records, done))
        async with self._append_locks.setdefault(tp, asyncio.Lock()):
            if not done.done():
                await self._append_all(tp)
        return await done

    async def _append_all(self, tp: TopicPartition) -> None:
        """Send what waits for a partition. Whoever holds the lock does it for all, cancelled or not."""
        waiting = self._appends.pop(tp)
        records = [record for part, _ in waiting for record in part]
        try:
            async with _calls("append"):
                end = (await _send(await self._appender(), [(tp, records)]))[tp]
        except BaseException as error:
            for _, done in waiting:
                if not done.done():
                    done.set_exception(error if isinstance(error, LogError) else LogUnavailable(f"append: {error!r}"))
                    done.exception()  # the callers that wait get it; one that was cancelled must not leave it unseen
            if not isinstance(error, LogError):
                raise
            return
        position = end - len(records)
        for part, done in waiting:
            position += len(part)
            if not done.done():
                done.set_result(position)

    async def open_task(self, task: TaskId) -> "KafkaTaskSession":
        topic = f"{self._prefix}-state-{task.group}"
        if not 0 <= task.partition < self._state_partitions:
            raise UnknownPartition(f"{topic}/{task.partition}")
        if topic not in self._state_topics:
            partitions = self._state_partitions
            await self._administer(lambda: self._admin.ensure({topic: (partitions, COMPACTED)}))
            self._state_topics.add(topic)
        session = KafkaTaskSession(self, task, TopicPartition(topic, task.partition))
        await session._begin()
        self._open.add(session)
        return session

    # -- reading -----------------------------------------------------------------------------------------------------

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed" if self._guards.read_committed else "read_uncommitted",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_wait_ms=500,
            request_timeout_ms=20_000,
        )

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer for one read. Not pooled: this client's fetcher dies when an assignment is taken away from it."""
        consumer = await self._started()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def _started(self) -> AIOKafkaConsumer:
        consumer = self._consumer()
        try:
            async with _calls("connect"):
                await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        return consumer

    async def _read_to_end(self, tp: TopicPartition, at_least: int = 0) -> list[Any]:
        """Every committed record of a partition, up to the last stable offset of this moment, or ``at_least`` if that is later.

        The end is compared with the consumer's position, never with the last record: the tail may be nothing but markers
        and aborted records.
        """
        kafka_tp = KafkaPartition(*tp)
        records: list[Any] = []
        async with self._reading() as consumer, _calls("read"):
            consumer.assign([kafka_tp])  # first: it makes the topic known to the client, which else backs off for 100 ms
            consumer.seek(kafka_tp, 0)
            end = max(at_least, (await consumer.end_offsets([kafka_tp]))[kafka_tp])
            while await consumer.position(kafka_tp) < end:
                for found in (await consumer.getmany(kafka_tp, timeout_ms=100)).values():
                    records.extend(found)
        return records

    async def open_reader(self, positions: Mapping[TopicPartition, int], *, bulk: bool = False) -> "KafkaReader | BulkReader":
        await self._check(list(positions))
        reader: KafkaReader | BulkReader
        if bulk and positions:
            reader = BulkReader(
                self._bootstrap, positions, committed_only=self._guards.read_committed, closed=self._open.discard
            )
        else:
            reader = KafkaReader(self, await self._started(), positions)
        self._open.add(reader)
        return reader

    async def read_range(self, tp: TopicPartition, start: int, end: int) -> Slice:
        await self._check([tp])
        kafka_tp = KafkaPartition(*tp)
        records: list[Any] = []
        if end > start:
            async with self._reading() as consumer, _calls("read_range"):
                consumer.assign([kafka_tp])
                consumer.seek(kafka_tp, start)
                # A commit is answered before its marker is written: wait for the position, do not look once.
                while await consumer.position(kafka_tp) < end:
                    for found in (await consumer.getmany(kafka_tp, timeout_ms=100)).values():
                        records.extend(record for record in found if record.offset < end)
        return _slice(tp, start, max(start, end), records, lazily=self._specs[tp.topic].kind is TopicKind.FOREIGN)

    async def end_positions(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        await self._check(tps)
        async with self._asker_lock:
            if self._asker is None:
                self._asker = await self._started()
        async with _calls("end_positions"):
            ends = await self._asker.end_offsets([KafkaPartition(*tp) for tp in tps])
        return {tp: ends[KafkaPartition(*tp)] for tp in tps}


class KafkaTaskSession:
    """One transactional producer: the holder of the task's ``transactional.id``."""

    def __init__(self, log: KafkaLog, task: TaskId, state_tp: TopicPartition) -> None:
        self._log = log
        self._task = task
        self._state_tp = state_tp
        self._producer: AIOKafkaProducer | None = None
        self._positions: dict[TopicPartition, int] | None = None
        self._chunks: dict[bytes, int] = {}
        self._state_end = 0
        """Behind the last state record of this session: its own commits may not be readable yet when it reads them."""
        self._stale: TaskState | None = None
        self._dead: LogError | None = None
        self._lock = asyncio.Lock()

    @property
    def task(self) -> TaskId:
        return self._task

    async def _begin(self) -> None:
        if self._log._guards.fence_before_restore:
            await self._fence()
        else:
            self._stale = await self._read_state()

    async def _fence(self) -> None:
        """init_transactions: shuts the predecessor out, ends what it left open, returns when the markers stand."""
        own = f"{self._log._prefix}-{self._task}"
        if not self._log._guards.fencing:
            own += f"-{uuid.uuid4()}"
        producer = self._log._producer(own)
        await _start(producer)
        self._producer = producer

    async def _read_state(self) -> TaskState:
        records = await self._log._read_to_end(self._state_tp, self._state_end)
        reader = StateReader()
        for record in records:
            reader.add(record.key, record.value)
        state, self._chunks = reader.result()
        self._positions = dict(state.positions)
        return state

    async def restore(self) -> TaskState:
        if self._stale is not None:
            return self._stale
        return await self._read_state()

    async def commit(
        self,
        outputs: Sequence[Append],
        entries: Mapping[bytes, bytes | None],
        positions: Mapping[TopicPartition, int],
    ) -> Mapping[TopicPartition, int]:
        async with self._lock:
            if self._dead is not None:
                raise self._dead
            if self._producer is None:
                await self._fence()
            if self._positions is None:
                await self._read_state()  # positions are merged into what the last commit left
            # Step 1: everything that can be refused is refused before the transaction is opened.
            by_partition: dict[TopicPartition, list[Record]] = {}
            for output in outputs:
                if output.records:
                    check_sizes(output.records, self._log._max_record_bytes)
                    by_partition.setdefault(TopicPartition(output.topic, output.partition), []).extend(output.records)
            await self._log._check([*by_partition, *positions])
            state: list[tuple[bytes, bytes | None]] = []
            chunks: dict[bytes, int] = {}
            for key, value in entries.items():
                records, chunks[key] = encode_entry(key, value, self._chunks.get(key, 0))
                state.extend(records)
            assert self._positions is not None
            merged = self._positions | dict(positions)
            if positions:
                state.append((POSITIONS_KEY, encode_positions(merged)))
            self._log._hook("1-encoded")
            try:
                async with _calls(f"commit of {self._task}"):
                    ends = await self._transaction(by_partition, state)
            except BaseException as error:
                await self._die(error)
                raise
            self._positions = merged
            self._chunks |= chunks
            return ends

    async def _transaction(
        self, outputs: Mapping[TopicPartition, Sequence[Record]], state: Sequence[tuple[bytes, bytes | None]]
    ) -> Mapping[TopicPartition, int]:
        producer, hook = self._producer, self._log._hook
        assert producer is not None
        ends: dict[TopicPartition, int] = {}
        await producer.begin_transaction()  # step 2, on the client alone
        hook("2-begun")
        if not self._log._guards.transaction:
            ends = await _send(producer, list(outputs.items()))
            await producer.commit_transaction()
            hook("between")
            await producer.begin_transaction()
            outputs = {}
        # Steps 3 and 4: the coordinator checks the epoch as partitions are added, then the records go out. Every
        # delivery is awaited before the commit: this client would commit around a batch that was refused.
        sent = await _send(producer, list(outputs.items()), (self._state_tp, state))
        hook("4-written")
        await producer.commit_transaction()  # step 5
        hook("5-committed")
        self._state_end = sent.pop(self._state_tp, self._state_end)
        return ends or sent

    async def _die(self, error: BaseException) -> None:
        """After any error the producer is thrown away: what it holds in flight is unknown, and the next one fences it."""
        self._dead = error if isinstance(error, LogError) else LogUnavailable(f"{self._task}: {error!r}")
        producer, self._producer = self._producer, None
        if producer is not None:
            # Aborting frees the readers of these partitions at once instead of after the transaction's time-out.
            with contextlib.suppress(KafkaError, AssertionError, TimeoutError, IllegalOperation):
                async with asyncio.timeout(2):
                    await producer.abort_transaction()
            await _stop(producer)

    async def close(self) -> None:
        self._log._open.discard(self)
        if self._dead is None:
            self._dead = LogError(f"{self._task}: this session was closed")
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


class KafkaReader:
    """One consumer without a group, assigned to a fixed set of partitions."""

    def __init__(self, log: KafkaLog, consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]) -> None:
        self._log = log
        self._consumer = consumer
        self._positions = dict(positions)
        # Where the last slice of each partition ended: markers move a position, but slices stay contiguous.
        self._told = dict(positions)
        self._kafka = {KafkaPartition(*tp): tp for tp in positions}
        if positions:
            consumer.assign(list(self._kafka))
            for tp, position in positions.items():
                consumer.seek(KafkaPartition(*tp), position)

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Slice]:
        if not self._positions:
            await asyncio.sleep(timeout_ms / 1000)
            return []
        try:
            found = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
            slices: list[Slice] = []
            for kafka_tp, records in found.items():
                tp = self._kafka[kafka_tp]
                end = await self._consumer.position(kafka_tp)
                slices.append(_slice(tp, self._told[tp], end, records))
                self._told[tp] = end
            # Markers and aborted records move a position without giving a record.
            for kafka_tp, tp in self._kafka.items():
                self._positions[tp] = await self._consumer.position(kafka_tp)
        except ConsumerStoppedError as error:
            raise LogUnavailable("the reader is closed") from error
        except OffsetOutOfRangeError as error:
            # Never reset by itself: a position that the log does not have means that this is another log, or a cut one.
            raise LogError(f"a position outside of what the log holds: {error.args[0]}") from error
        except KafkaError as error:
            raise LogUnavailable(f"poll: {error!r}") from error
        return slices

    def seek(self, tp: TopicPartition, position: int) -> None:
        if tp not in self._positions:
            raise UnknownPartition(f"{tp.topic}/{tp.partition} is none of this reader's")
        self._positions[tp] = self._told[tp] = position
        self._consumer.seek(KafkaPartition(*tp), position)

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def close(self) -> None:
        self._log._open.discard(self)
        await self._consumer.stop()


def _slice(tp: TopicPartition, position: int, next_position: int, records: Sequence[Any], *, lazily: bool = False) -> Slice:
    """``lazily``: headers are read when somebody looks at them. Another program's records have none that could be read."""

    def made() -> list[Headers]:
        return [decode_headers(r.headers, tp.topic, r.offset) for r in records]

    headers: Sequence[Headers] = Column(len(records), made) if lazily else made()
    return Slice(
        tp.topic,
        tp.partition,
        position,
        next_position,
        [r.offset for r in records],
        [r.key or b"" for r in records],
        [r.value or b"" for r in records],
        headers,
    )


async def _send(
    producer: AIOKafkaProducer,
    outputs: Sequence[tuple[TopicPartition, Sequence[Record]]],
    state: tuple[TopicPartition, Sequence[tuple[bytes, bytes | None]]] | None = None,
) -> dict[TopicPartition, int]:
    """Send everything, partitions beside each other, and wait for every delivery; positions after the last records."""
    work = {tp: _send_one(producer, tp, _encoded(records)) for tp, records in outputs}
    if state is not None and state[1]:
        work[state[0]] = _send_one(producer, state[0], [(key, value, None, []) for key, value in state[1]])
    ends: dict[TopicPartition, int] = {}
    for tp, end in zip(work, await asyncio.gather(*work.values(), return_exceptions=True), strict=True):
        if isinstance(end, BaseException):
            raise end
        ends[tp] = end
    return ends


def _encoded(records: Sequence[Record]) -> list[_KafkaRecord]:
    """Key, value, timestamp and headers of each. Neighbours often share one ``Headers``, which is then encoded once."""
    encoded: list[_KafkaRecord] = []
    last, pairs = None, list[tuple[str, bytes]]()
    for record in records:
        headers = record.headers
        if headers is not last:
            last, pairs = headers, encode_headers(headers)
        encoded.append((record.key, record.value, headers.received, pairs))
    return encoded


async def _send_one(
    producer: AIOKafkaProducer,
    tp: TopicPartition,
    records: Sequence[_KafkaRecord],
) -> int:
    """Send the records of one partition in batches; the position after the last one."""
    deliveries: list[tuple[asyncio.Future[Any], int]] = []
    builder, count = producer.create_batch(), 0
    try:
        for key, value, timestamp, headers in records:
            if builder.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                deliveries.append((await producer.send_batch(builder, tp.topic, partition=tp.partition), count))
                builder, count = producer.create_batch(), 0
                builder.append(timestamp=timestamp, key=key, value=value, headers=headers)
            count += 1
        deliveries.append((await producer.send_batch(builder, tp.topic, partition=tp.partition), count))
    finally:
        results = await asyncio.gather(*(delivery for delivery, _ in deliveries), return_exceptions=True)
    end = -1
    for (_, size), metadata in zip(deliveries, results, strict=True):
        if isinstance(metadata, BaseException):
            raise metadata
        if metadata.offset < 0:
            raise LogUnavailable(f"{tp.topic}/{tp.partition}: delivered, but the broker no longer knows where")
        end = metadata.offset + size
    return end


async def _start(producer: AIOKafkaProducer) -> None:
    try:
        async with _calls("connect"):
            await producer.start()
    except BaseException:
        await _stop(producer)
        raise


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer that may be broken; never hangs, never raises."""
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except (KafkaError, TimeoutError, AssertionError):
        await producer.client.close()
    # What killed the sender was answered to the caller already; unseen in these futures, the loop would report it again.
    manager, accumulator = producer._txn_manager, producer._message_accumulator
    futures = [producer._sender.sender_task, None if manager is None else manager._transaction_waiter]
    for batches in [*accumulator._batches.values(), accumulator._pending_batches]:
        futures += [batch._drain_waiter for batch in batches]
    for future in futures:
        if future is not None and future.done() and not future.cancelled():
            future.exception()


def _fenced(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ProducerFenced | InvalidProducerEpoch):
            return True
        error = error.__cause__
    return False


@contextlib.asynccontextmanager
async def _calls(what: str) -> AsyncIterator[None]:
    """Bounds a call in time and turns the client's errors into the port's."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except LogError:
        raise
    except TimeoutError as error:
        raise LogUnavailable(f"{what}: no answer within {CALL_SECONDS:.0f} s") from error
    except (KafkaError, OSError, AssertionError) as error:
        if _fenced(error):
            raise Fenced(f"{what}: {error!r}") from error
        raise LogUnavailable(f"{what}: {error!r}") from error
