"""Faust transport over Kafka (``hengliu-kafka://host:port``): slices, read_committed, co-partitioned assignment."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, ClassVar

import aiokafka
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from infra.faust_batch import BatchConsumer

__all__ = ["CoPartitionAssignor", "Transport", "assign"]

REQUEST_MS = 30_000
"""A request to the broker. (Faust's own setting of that name also bounds how long tasks may take to open.)"""


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


class _Listener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Hears of assignments in the consumer's thread."""

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        # This client only keeps our place in the group; what it would fetch is read by the log's bulk reader.
        self._thread._ensure_consumer().pause(*assigned)
        await super().on_partitions_assigned(assigned)


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that keeps the group membership."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = CoPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[CoPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000.0),
            request_timeout_ms=REQUEST_MS,
            session_timeout_ms=int(conf.broker_session_timeout * 1000.0),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000.0),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000.0),
        )


class Consumer(BatchConsumer, driver.Consumer):  # type: ignore[misc]
    """Membership and assignment through aiokafka, which takes an assignor of ours; records through librdkafka."""

    RebalanceListener = _Listener

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        # A member that does not poll for ``max_poll_interval_ms`` is taken for dead: our polls are what tells that we live.
        polling = self._thread._ensure_consumer()._subscription.fetch_context()
        polling.__enter__()
        try:
            return await super()._getmany(active_partitions, timeout)
        finally:
            # Not by ``with``: the client's context does not count down what ends with an error, and a member that seems to be
            # polling for ever is never taken for dead.
            polling.__exit__(None, None, None)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """The driver would look for fetches of its own client. Liveness is tied to what tasks commit (``/readyz``)."""


class Transport(driver.Transport):  # type: ignore[misc]
    """``hengliu-kafka://host:port``."""

    Consumer: ClassVar[type] = Consumer
