"""Faust transport over Kafka (``hengliu-kafka://host:port``): slices, read_committed, co-partitioned assignment."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, ClassVar

import aiokafka
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from hengliu.ports.log import Slice
from infra.faust_batch import BatchConsumer
from infra.kafka_log.codec import decode_headers

__all__ = ["CoPartitionAssignor", "Transport", "assign"]


def assign(partitions: int, members: Iterable[str]) -> dict[str, list[int]]:
    """Partition numbers by member: balanced to within one, and most stay where they were when members come or go.

    Rendezvous hashing with a cap: each partition goes to the member that weighs most for it and has room. It needs no memory
    of the last assignment, so every leader computes the same.
    """
    names = sorted(members)
    cap, spare = divmod(partitions, len(names))
    loads: dict[str, list[int]] = {name: [] for name in names}

    def weight(name: str, partition: int) -> bytes:
        return blake2b(f"{partition}/{name}".encode(), digest_size=8).digest()

    for partition in range(partitions):
        at_cap = sum(1 for held in loads.values() if len(held) > cap)
        free = [n for n in names if len(loads[n]) < cap or (len(loads[n]) == cap and at_cap < spare)]
        loads[max(free, key=lambda n: weight(n, partition))].append(partition)
    return loads


class CoPartitionAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """A member gets the same partition numbers of every topic: a task is partition p of all inputs of its group."""

    name = "hengliu-copartition"
    version = 0

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        topics = sorted({t for metadata in members.values() for t in metadata.subscription})
        counts = {t: len(cluster.partitions_for_topic(t) or ()) for t in topics}
        shares = assign(max(counts.values(), default=0), members)
        return {
            member: ConsumerProtocolMemberAssignment(
                cls.version, [(t, [p for p in shares[member] if p < counts[t]]) for t in topics], b""
            )
            for member in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> Any:
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: Any) -> None:
        """Nothing is remembered."""


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that talks to the broker."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._next: dict[TP, int] = {}
        self._assignor = CoPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[CoPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000.0),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            # The stock driver waits 1.5 s for a fetch to fill; a person waits at the end of this one.
            fetch_max_wait_ms=100,
            request_timeout_ms=int(conf.broker_request_timeout * 1000.0),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000.0),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000.0),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000.0),
            # Outputs of open or aborted transactions must never reach an operator.
            isolation_level="read_committed",
        )

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Mapping[TP, list[Any]]:
        fetched = await super()._fetch_records(*args, **kwargs)
        out: dict[TP, list[Any]] = {}
        for raw_tp, records in fetched.items():
            if not records:
                continue
            tp = TP(raw_tp.topic, raw_tp.partition)
            # After a rebalance the consumer may stand before what it fetched last. A slice never starts behind its first
            # record: a host that waits for exactly that position would take these records a second time.
            start = min(self._next.get(tp, records[0].offset), records[0].offset)
            end = records[-1].offset + 1
            self._next[tp] = end
            out[tp] = [
                Slice(
                    tp.topic, tp.partition, start, end, [r.offset for r in records], [r.key or b"" for r in records],
                    [r.value or b"" for r in records], [decode_headers(r.headers, tp.topic, r.offset) for r in records],
                )
            ]  # fmt: skip
        return out

    async def seek_to_positions(self, positions: Mapping[TP, int]) -> None:
        """Seek in the consumer's own thread."""
        await self.call_thread(self._seek_positions, positions)

    async def _seek_positions(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, position in positions.items():
            consumer.seek(aiokafka.TopicPartition(tp.topic, tp.partition), position)
            self._next[tp] = position

    def seek(self, partition: TP, offset: int) -> None:
        super().seek(partition, offset)
        self._next[TP(partition.topic, partition.partition)] = offset


class Consumer(BatchConsumer, driver.Consumer):  # type: ignore[misc]
    """The aiokafka consumer with slices and our own positions."""

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        positions = await self._positions([TP(tp.topic, tp.partition) for tp in self.assignment()])
        await self._thread.seek_to_positions(positions)
        return positions


class Transport(driver.Transport):  # type: ignore[misc]
    """``hengliu-kafka://host:port``."""

    Consumer: ClassVar[type] = Consumer
