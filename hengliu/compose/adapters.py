"""Which adapter stands behind each port, by the settings. The only place that names them."""

import contextlib
import importlib
from collections.abc import AsyncIterator

from hengliu.events.catalog import FAMILIES, Catalog
from hengliu.events.family import Family
from hengliu.ports.log import EventLog
from hengliu.ports.warehouse import Warehouse
from hengliu.settings import Settings

__all__ = ["catalog_of", "open_log", "open_log_for_reading", "open_warehouse"]


def catalog_of(settings: Settings) -> Catalog:
    """The declared families and those of the extensions.

    Raises:
        ValueError: an extension does not name a Family or several.
    """
    more: list[Family] = []
    for name in settings.extensions:
        module, _, attribute = name.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        many = [found] if isinstance(found, Family) else list(found)
        if not all(isinstance(f, Family) for f in many):
            raise ValueError(f"HENGLIU_EXTENSIONS: {name} 不是事件族 / is not an event family")
        more += many
    return Catalog((*FAMILIES, *more))


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

        log = await LocalLog.open_read_only(settings.data_dir / "log.sqlite")
    try:
        yield log
    finally:
        await log.close()


async def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse that the settings name."""
    if settings.warehouse == "chdb":
        from infra.chdb_warehouse import ChdbWarehouse

        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return await ChdbWarehouse.open(settings.data_dir / "warehouse")
    from infra.clickhouse_warehouse import ClickHouseWarehouse

    return await ClickHouseWarehouse.open(settings.warehouse)
