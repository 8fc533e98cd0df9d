"""What the tables include, as the reads, the live hub and ``/readyz`` need it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from api.deps import Stage
from hengliu.events.catalog import Catalog
from hengliu.events.family import Writer
from hengliu.ports.log import TopicPartition
from hengliu.ports.warehouse import Warehouse, WarehouseError
from projections.family_table import table_name

__all__ = ["Projector", "ProjectorProgress", "StageOf", "StageProgress", "WarehousePositions", "events_in_tables"]

logger = logging.getLogger(__name__)

POLL_S: Final = 0.02
"""Reading a few dictionaries in memory; short beside the projector's flush of 200 ms."""


class Projector(Protocol):
    """A projector of this process (``projections.projector``)."""

    def progress(self) -> Mapping[TopicPartition, int]: ...
    async def wait_for(self, tp: TopicPartition, position: int, timeout: float) -> bool: ...
    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class StageOf:
    """A stage made of a name and whatever tells its committed positions."""

    name: str
    read: Callable[[], Mapping[TopicPartition, int]]

    def positions(self) -> Mapping[TopicPartition, int]:
        return self.read()


class ProjectorProgress:
    """Progress of a projector in this process: its own waits, woken by its flushes."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._flushes = 0
        self._flushed = asyncio.Event()
        projector.subscribe(self._on_flush)

    def _on_flush(self, flush: Any) -> None:
        self._flushes += 1
        self._flushed.set()

    def positions(self) -> Mapping[TopicPartition, int]:
        return self._projector.progress()

    async def wait_for(self, tp: TopicPartition, position: int, timeout_s: float) -> bool:
        return await self._projector.wait_for(tp, position, timeout_s)

    async def wait_change(self, seen: int, timeout_s: float) -> int:
        if self._flushes == seen:
            self._flushed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._flushed.wait(), timeout_s)
        return self._flushes


async def events_in_tables(warehouse: Warehouse, catalog: Catalog) -> int:
    """How many accepted events are in the tables, ever: each is one row of its family's table.

    The engine's own bookkeeping of rows, so it costs the same however many there are. Raises WarehouseError.
    """
    names = [table_name(f.type) for f in catalog.families.values() if f.writer is not Writer.OPERATOR]
    result = await warehouse.query(
        "SELECT toInt64(sum(ifNull(total_rows, 0))) AS events FROM system.tables"
        " WHERE database = currentDatabase() AND name IN {names:Array(String)}",
        {"names": names},
    )
    count = result.rows[0][0]
    assert isinstance(count, int)
    return count


class StageProgress:
    """Progress of projectors elsewhere: the least committed position of each partition over the stages that read it."""

    def __init__(self, projectors: Sequence[Stage]) -> None:
        self._projectors = projectors

    def positions(self) -> Mapping[TopicPartition, int]:
        least: dict[TopicPartition, int] = {}
        for projector in self._projectors:
            for tp, position in projector.positions().items():
                least[tp] = min(position, least.get(tp, position))
        return least

    async def wait_for(self, tp: TopicPartition, position: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.positions().get(tp, -1) < position:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def wait_change(self, seen: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while True:
            # Positions only grow, so their sum changes exactly when one of them does.
            total = sum(self.positions().values())
            if total != seen or time.monotonic() >= deadline:
                return total
            await asyncio.sleep(5 * POLL_S)


class WarehousePositions:
    """A projector of another process, seen through what it writes to ``projection_position``. ``run`` polls."""

    def __init__(self, warehouse: Warehouse, projector: str, every_s: float = 0.25) -> None:
        self.name = projector
        self._warehouse = warehouse
        self._every_s = every_s
        self._positions: dict[TopicPartition, int] = {}

    def positions(self) -> Mapping[TopicPartition, int]:
        return self._positions

    async def poll(self) -> None:
        """Read the positions once. Raises WarehouseError."""
        result = await self._warehouse.query(
            "SELECT topic AS topic, partition AS partition, max(position) AS position"
            " FROM projection_position WHERE projector = {projector:String} GROUP BY topic, partition",
            {"projector": self.name},
        )
        for topic, partition, position in result.rows:
            assert isinstance(topic, str)
            assert isinstance(partition, int)
            assert isinstance(position, int)
            self._positions[TopicPartition(topic, partition)] = position

    async def run(self) -> None:
        """Poll for ever; a warehouse that is away is tried again."""
        while True:
            try:
                await self.poll()
            except WarehouseError as error:
                logger.warning("positions of %s not read", self.name, exc_info=error)
            await asyncio.sleep(self._every_s)
