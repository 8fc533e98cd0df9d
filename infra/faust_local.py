"""Faust transport over any event log of this process (``hengliu-local://``): all partitions are this worker's.

One process, so there is no membership to negotiate; what Faust gives here is the same shell that runs on Kafka.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from faust.transport import base
from faust.types import TP

from infra.faust_batch import BatchConsumer

__all__ = ["Transport"]


class Consumer(BatchConsumer, base.Consumer):  # type: ignore[misc]
    """Every partition of its topics, from the first moment on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._generation = 0

    async def subscribe(self, topics: Iterable[str]) -> None:
        # The conductor waits for this call, and the assignment waits for the conductor: so it goes on beside.
        self.add_future(self._rebalance(frozenset(topics)))

    async def _rebalance(self, topics: frozenset[str]) -> None:
        specs = {spec.name: spec.partitions for spec in await self.host.log.topics()}
        revoked = set(self._assigned)
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(revoked)
        self._generation += 1
        self.app.consumer_generation_id = self._generation
        everything = {TP(t, p) for t in topics for p in range(specs.get(t, 0))}
        await self.on_partitions_assigned(everything, self._generation)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """There is no consumer group to tell."""
        return True


class Transport(base.Transport):  # type: ignore[misc]
    """``hengliu-local://``."""

    Consumer: ClassVar[type] = Consumer
    default_port = 0
    driver_version = "hengliu"
