"""Which adapter stands behind each port, by the settings. The only place that names them."""

import asyncio
import contextlib
import errno
import importlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from hengliu.events.catalog import FAMILIES, Catalog
from hengliu.events.family import Family
from hengliu.ports.log import EventLog, TopicPartition
from hengliu.ports.warehouse import Warehouse, WarehouseUnavailable
from hengliu.settings import Settings
from streams.operators.catalog import GROUPS
from streams.topology import EXCHANGE

__all__ = [
    "ExtensionError",
    "WorkerPositions",
    "catalog_of",
    "consumer_groups",
    "open_log",
    "open_log_for_reading",
    "open_warehouse",
    "register_transports",
    "worker_positions",
]


CONNECT_SECONDS = 10.0
"""How long a start waits for a server that does not answer yet."""


class ExtensionError(ValueError):
    """An entry of HENGLIU_EXTENSIONS cannot be imported, or is not a Family or several."""


def catalog_of(settings: Settings) -> Catalog:
    """The declared families and those of the extensions.

    Raises:
        ExtensionError: see there.
    """
    more: list[Family] = []
    for name in settings.extensions:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ExtensionError(f"{name}: {error}") from error
        many = found if isinstance(found, (list, tuple)) else [found]
        for family in many:
            if not isinstance(family, Family):
                raise ExtensionError(f"{name}: 不是事件族 / not an event family")
            more.append(family)
    try:
        return Catalog((*FAMILIES, *more))
    except ValueError as error:
        raise ExtensionError(str(error)) from error


async def open_log(settings: Settings) -> EventLog:
    """The event log that the settings name."""
    if settings.kafka_bootstrap:
        from infra.kafka_log import KafkaLog

        return await KafkaLog.open(settings.kafka_bootstrap, prefix=settings.application)
    from infra.local_log import LocalLog

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return await LocalLog.open(settings.data_dir / "log.sqlite")


@contextlib.asynccontextmanager
async def open_log_for_reading(settings: Settings) -> AsyncIterator[EventLog]:
    """The log for a tool that only looks; works beside the process that owns the local log."""
    if settings.kafka_bootstrap:
        log = await open_log(settings)
    else:
        from infra.local_log import LocalLog

        path = settings.data_dir / "log.sqlite"
        if not await asyncio.to_thread(path.exists):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        log = await LocalLog.open_read_only(path)
    try:
        yield log
    finally:
        await log.close()


async def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse that the settings name.

    Raises:
        WarehouseUnavailable: nobody answered there for ``CONNECT_SECONDS``.
    """
    if settings.warehouse == "chdb":
        from infra.chdb_warehouse import ChdbWarehouse

        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return await ChdbWarehouse.open(settings.data_dir / "warehouse")
    from infra.clickhouse_warehouse import ClickHouseWarehouse

    now = asyncio.get_running_loop().time
    deadline = now() + CONNECT_SECONDS
    while True:
        try:
            return await ClickHouseWarehouse.open(settings.warehouse)
        except WarehouseUnavailable:
            # It may be starting, as the log may, which waits as long for its broker.
            if now() >= deadline:
                raise
            await asyncio.sleep(0.2)


class WorkerPositions(Protocol):
    """What the operator groups have committed, wherever their workers run. ``run`` looks for ever."""

    def of(self, group: str) -> Mapping[TopicPartition, int]: ...

    async def run(self) -> None: ...


def consumer_groups(settings: Settings) -> Mapping[str, str]:
    """Operator group to the consumer group of its workers."""
    return {group: f"{settings.application}-{group}" for group in (EXCHANGE, *(g.name for g in GROUPS))}


def worker_positions(settings: Settings) -> WorkerPositions | None:
    """Positions of workers in other processes; None where there are none (one process), or where they tell nobody (bare)."""
    if not settings.kafka_bootstrap or settings.stream_engine != "faust":
        return None
    from infra.kafka_groups import ConsumerGroupPositions

    return ConsumerGroupPositions(settings.kafka_bootstrap, consumer_groups(settings).values())


def register_transports() -> None:
    """Name our transports to Faust. The package's entry points do the same; this works from a source tree that is not
    installed."""
    from faust.transport.drivers import TRANSPORTS

    TRANSPORTS.aliases["hengliu-local"] = "infra.faust_local:Transport"
    TRANSPORTS.aliases["hengliu-kafka"] = "infra.faust_kafka:Transport"
