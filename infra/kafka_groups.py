"""How far worker processes are, as they tell their consumer groups.

Every operator group of every worker commits to its consumer group what its tasks have committed (``infra.faust_batch``), about
once a second. That is advisory: where a task reads on comes from its own state. For whoever watches from another process
it is exactly what is wanted: a position that is told was committed, and one that is not told any more stands still.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from hengliu.ports.log import LogUnavailable, TopicPartition

__all__ = ["ConsumerGroupPositions"]

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0


class ConsumerGroupPositions:
    """Committed positions of some consumer groups, read once every ``every_s`` and held. ``run`` polls.

    Args:
        bootstrap: ``host:port``, or several with commas.
        groups: names of the consumer groups.
    """

    def __init__(self, bootstrap: str, groups: Iterable[str], every_s: float = 1.0) -> None:
        self._bootstrap = bootstrap
        self._groups = tuple(groups)
        self._every_s = every_s
        self._client: Any = None
        self._positions: dict[str, dict[TopicPartition, int]] = {group: {} for group in self._groups}

    def of(self, group: str) -> Mapping[TopicPartition, int]:
        """What the last look found; empty before the group has ever committed."""
        return self._positions[group]

    async def poll(self) -> None:
        """Look once. Raises LogUnavailable; what was found before then stays."""
        # Not librdkafka's client: it dereferences a null pointer when a broker answers that it is not this group's coordinator
        # (2.16.1, rd_kafka_handle_OffsetFetch, seen while a new broker was still loading its groups).
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._client is None:
                    client = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, request_timeout_ms=int(TIMEOUT_S * 1000))
                    try:
                        await client.start()
                    except BaseException:
                        await client.close()
                        raise
                    self._client = client
                for group in self._groups:
                    found = await self._client.list_consumer_group_offsets(group)
                    told = {TopicPartition(tp.topic, tp.partition): place.offset for tp, place in found.items()}
                    self._positions[group].update(told)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise LogUnavailable(f"consumer groups: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def run(self) -> None:
        """Poll for ever; a broker that is away is asked again, and told of now and then."""
        failed = 0
        try:
            while True:
                try:
                    await self.poll()
                    failed = 0
                except LogUnavailable as error:
                    failed += 1  # a new broker keeps no group for its first seconds, which is nothing to tell
                    logger.log(
                        logging.WARNING if failed % 60 == 10 else logging.DEBUG, "workers' positions not read: %s", error
                    )
                await asyncio.sleep(self._every_s)
        finally:
            await self.close()
