"""The two deployments' engines for a bench, each alone in a folder of its own."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hengliu.ports.log import EventLog
from hengliu.ports.warehouse import Warehouse

__all__ = ["ENGINES", "event_log", "kafka_of", "warehouse"]

ENGINES = ("local", "kafka")
"""``local``: local log and chDB; ``kafka``: one Kafka broker and ClickHouse."""


@contextlib.asynccontextmanager
async def kafka_of(engine: str, folder: Path) -> AsyncIterator[str]:
    """``host:port`` of a new broker; empty for the local deployment."""
    if engine == "local":
        yield ""
        return
    from infra.services.kafka import KafkaService

    async with KafkaService(folder / "kafka") as bootstrap:
        yield bootstrap


@contextlib.asynccontextmanager
async def event_log(folder: Path, bootstrap: str) -> AsyncIterator[EventLog]:
    """The log at ``bootstrap``, or a local one."""
    if bootstrap:
        from infra.kafka_log import KafkaLog

        async with KafkaLog.open(bootstrap) as log:
            yield log
        return
    from infra.local_log import LocalLog

    async with LocalLog.open(folder / "log.sqlite") as log:
        yield log


@contextlib.asynccontextmanager
async def warehouse(engine: str, folder: Path) -> AsyncIterator[Warehouse]:
    """An empty warehouse."""
    store: Warehouse
    async with contextlib.AsyncExitStack() as stack:
        if engine == "local":
            from infra.chdb_warehouse import ChdbWarehouse

            store = await ChdbWarehouse.open(folder / "warehouse")
        else:
            from infra.clickhouse_warehouse import ClickHouseWarehouse
            from infra.services.clickhouse import ClickHouseService

            store = await ClickHouseWarehouse.open(await stack.enter_async_context(ClickHouseService(folder / "clickhouse")))
        try:
            yield store
        finally:
            await store.close()
