"""Faust transport over any event log of this process (``hengliu-local://``): all partitions are this worker's.

One process, so there is no membership to negotiate; what Faust gives here is the same shell that runs on Kafka.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from faust.transport import base
from faust.types import TP

from hengliu.ports.log import LogReader, LogUnavailable, TopicPartition
from infra.faust_batch import BatchConsumer

__all__ = ["Transport"]

MAX_RECORDS = 5_000


class Consumer(BatchConsumer, base.Consumer):  # type: ignore[misc]
    """Reads the log through its port."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._assigned: set[TP] = set()
        self._positions_now: dict[TP, int] = {}
        self._reader: LogReader | None = None
        self._reading: frozenset[TP] = frozenset()
        self._generation = 0

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Topics are created by composition."""

    async def subscribe(self, topics: Iterable[str]) -> None:
        # The conductor waits for this call, and the assignment waits for the conductor: so it goes on beside.
        self.add_future(self._rebalance(frozenset(topics)))

    async def _rebalance(self, topics: frozenset[str]) -> None:
        specs = {spec.name: spec.partitions for spec in await self.host.log.topics()}
        revoked = set(self._assigned)
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(revoked)
        self._assigned = {TP(t, p) for t in topics for p in range(specs.get(t, 0))}
        self._generation += 1
        self.app.consumer_generation_id = self._generation
        await self.on_partitions_assigned(set(self._assigned), self._generation)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        await self._drop_reader()
        self._positions_now = dict(await self._positions(self._assigned))
        return dict(self._positions_now)

    async def _drop_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.close()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        active = frozenset(TP(tp.topic, tp.partition) for tp in (active_partitions or self._assigned))
        if self._reader is None or active != self._reading:
            await self._drop_reader()
            self._reader = await self.host.log.open_reader(
                {TopicPartition(tp.topic, tp.partition): self._positions_now.get(tp, 0) for tp in active}
            )
            self._reading = active
        found: dict[TP, list[Any]] = {}
        reader = self._reader
        try:
            pieces = await reader.poll(MAX_RECORDS, int(min(timeout, 1.0) * 1000))
        except LogUnavailable:
            if reader is self._reader:
                raise
            return {}
        if reader is not self._reader:
            return {}  # a seek came in between: what was read is from before it, and must not move the positions
        for piece in pieces:
            tp = TP(piece.topic, piece.partition)
            self._positions_now[tp] = piece.next_position
            found.setdefault(tp, []).append(piece)
        return found

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions_now[TP(partition.topic, partition.partition)] = offset
        await self._drop_reader()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def position(self, tp: TP) -> int | None:
        return self._positions_now.get(tp)

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    def highwater(self, tp: TP) -> int:
        return self._positions_now.get(tp, 0)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    def topic_partitions(self, topic: str) -> int | None:
        return sum(1 for tp in self._assigned if tp.topic == topic) or None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        return partition

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Advisory, and nobody looks: positions live in task state."""
        return True

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def close(self) -> None:
        """The reader is closed by ``on_stop``."""

    async def on_stop(self) -> None:
        await super().on_stop()
        await self._drop_reader()


class Transport(base.Transport):  # type: ignore[misc]
    """``hengliu-local://``."""

    Consumer: ClassVar[type] = Consumer
    default_port = 0
    driver_version = "hengliu"
