"""Reading many partitions fast: librdkafka's batch consume, slices whose other columns are made only when looked at.

A record costs one message object and the call that takes its value out; everything else (offset, key, headers) is a call per
record that ``Column`` puts off. Measured in docs/benchmarks.md.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import confluent_kafka
from confluent_kafka import Message

from hengliu.ports.log import Column, Headers, LogError, LogUnavailable, Slice, TopicPartition, UnknownPartition
from infra.kafka_log.codec import decode_headers

__all__ = ["BulkReader"]

logger = logging.getLogger(__name__)

WAIT_S = 0.1
"""How long the reader's thread waits for a first record at once; closing waits for it."""
QUEUE_KBYTES = 16_384
FETCH_WAIT_MS = 50

_END_OF_PARTITION = confluent_kafka.KafkaError._PARTITION_EOF
_LOST = (confluent_kafka.KafkaError.OFFSET_OUT_OF_RANGE, confluent_kafka.KafkaError._AUTO_OFFSET_RESET)


class BulkReader:
    """One librdkafka consumer without a group, assigned to a fixed set of partitions. A ``LogReader``."""

    def __init__(
        self,
        bootstrap: str,
        positions: Mapping[TopicPartition, int],
        *,
        committed_only: bool,
        closed: Callable[["BulkReader"], None],
    ) -> None:
        self._on_close = closed
        self._positions = dict(positions)
        # Where the last slice of each partition ended: markers move a position, but slices stay contiguous.
        self._told = dict(positions)
        self._tps = {tp: tp for tp in positions}
        self._one_topic = next(iter(positions)).topic if len({tp.topic for tp in positions}) == 1 else ""
        self._thread = ThreadPoolExecutor(1, "kafka-reader")
        self._first: asyncio.Future[Any] | None = None
        self._closed = False
        self._anew = False
        """What the client has fetched is not what comes next: a seek or an error came in between."""
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "-",  # the client wants one; nothing is ever committed to it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # A position that the log does not have means another log, or a cut one: never begin somewhere else.
                "auto.offset.reset": "error",
                "isolation.level": "read_committed" if committed_only else "read_uncommitted",
                # The end of a partition is told as an event; it moves the position past markers and aborted records.
                "enable.partition.eof": True,
                "queued.min.messages": 200_000,
                "queued.max.messages.kbytes": QUEUE_KBYTES,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.queue.backoff.ms": 5,
                "check.crcs": False,
                # What matters comes as an event to ``poll``; the client's own lines would go to standard error.
                "log_level": 2,
            }
        )
        self._assign()

    def _assign(self) -> None:
        """Read on behind what was told. Position 0 is the beginning, wherever that is now."""
        begin = confluent_kafka.OFFSET_BEGINNING
        self._consumer.assign([confluent_kafka.TopicPartition(*tp, offset or begin) for tp, offset in self._told.items()])
        self._anew = False

    async def poll(self, max_records: int, timeout_ms: int) -> Sequence[Slice]:
        """Slices that hold at least one record, or none after ``timeout_ms``.

        After a seek, also one made while a poll waits, and after an error, the next poll reads every partition from behind
        what it has told of it: what had been fetched is neither lost nor told twice. So where the cause of an error has
        gone the reader goes on, and where it has not it raises again.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while True:
            found: Any = None
            if self._first is not None:
                first = self._first
                done, _ = await asyncio.wait([first], timeout=max(0.0, deadline - loop.time()))
                if not done and not self._closed:
                    return []
            if self._closed:
                raise LogUnavailable("the reader is closed")
            try:
                if self._first is not None:
                    first, self._first = self._first, None
                    found = first.result()
                if self._anew:
                    # Only now, that no thread takes from the client's queue: what is there is from before, and goes.
                    found = None
                    self._assign()
                slices = self._slices(
                    ([found] if found is not None else []) + self._consumer.consume(max_records - (found is not None), 0)
                )
            except confluent_kafka.KafkaException as error:
                self._anew = True
                raise LogUnavailable(f"poll: {error}") from error
            except Exception:
                self._anew = True
                raise
            if slices or loop.time() >= deadline:
                return slices
            # Nothing is here: a thread waits for the first record. A cancelled poll leaves it waiting, and the next one takes
            # what it found.
            self._first = loop.run_in_executor(self._thread, self._consumer.poll, WAIT_S)

    def _slices(self, messages: list[Any]) -> list[Slice]:
        if not messages:
            return []
        found: dict[TopicPartition, list[Any]] = {}
        # Messages come in runs of one partition.
        which: Callable[[Any], Any] = Message.partition if self._one_topic else _where
        for where, run in groupby(messages, which):
            tp: TopicPartition = TopicPartition(self._one_topic, where) if self._one_topic else where
            of_run = list(run)
            if any(map(Message.error, of_run)):
                of_run = self._told_apart(of_run, tp)
            if tp not in self._tps:
                continue  # fetched before a seek took the partition away
            if tp in found:
                found[tp] += of_run
            else:
                found[tp] = of_run
        return [self._slice(tp, run) for tp, run in found.items() if run]

    def _told_apart(self, run: list[Any], tp: TopicPartition) -> list[Any]:
        """The records among events. Raises what cannot be read on from."""
        records = []
        for message in run:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == _END_OF_PARTITION:
                self._positions[tp] = max(self._positions[tp], message.offset())
            elif error.code() in _LOST:
                raise LogError(f"{tp.topic}/{tp.partition}: a position outside of what the log holds: {error.str()}")
            elif error.retriable() or error.code() in _PASSING:
                logger.warning("Kafka: %s", error.str())
            else:
                raise LogUnavailable(f"poll: {error.str()}")
        return records

    def _slice(self, tp: TopicPartition, run: list[Any]) -> Slice:
        start = self._told[tp]
        end = run[-1].offset() + 1
        self._told[tp] = end
        self._positions[tp] = max(self._positions[tp], end)
        values: list[Any] = list(map(Message.value, run))
        if None in values:
            values = [value or b"" for value in values]
        size = len(run)
        return Slice(
            tp.topic,
            tp.partition,
            start,
            end,
            Column(size, lambda: [message.offset() for message in run]),
            Column(size, lambda: [message.key() or b"" for message in run]),
            values,
            Column(size, lambda: _headers(tp.topic, run)),
        )

    def seek(self, tp: TopicPartition, position: int) -> None:
        if tp not in self._tps:
            raise UnknownPartition(f"{tp.topic}/{tp.partition} is none of this reader's")
        self._positions[tp] = self._told[tp] = position
        # What is in the client's queue for this partition is from before the seek: assigning anew empties it. The next poll
        # does so, since a thread may be taking from that queue now.
        self._anew = True

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        if self._first is not None:
            await asyncio.wait([self._first])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        self._thread.shutdown(wait=False)


_PASSING = (
    confluent_kafka.KafkaError._TRANSPORT,
    confluent_kafka.KafkaError._ALL_BROKERS_DOWN,
    confluent_kafka.KafkaError._RESOLVE,
    confluent_kafka.KafkaError._TIMED_OUT,
)
"""The client goes on by itself after these."""


def _where(message: Any) -> TopicPartition:
    return TopicPartition(message.topic(), message.partition())


def _headers(topic: str, run: Sequence[Any]) -> list[Headers]:
    return [decode_headers(message.headers() or (), topic, message.offset()) for message in run]
