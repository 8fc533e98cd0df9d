"""Starts Kafka, ClickHouse and PostgreSQL in a folder, for the demonstration and the tests. Not for production."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EngineUrls", "engines"]


@dataclass(frozen=True, slots=True)
class EngineUrls:
    """Values of HENGLIU_LOG, HENGLIU_WAREHOUSE and HENGLIU_EVENT_STORE."""

    log: str
    warehouse: str
    event_store: str


@contextlib.asynccontextmanager
async def engines(folder: Path) -> AsyncIterator[EngineUrls]:
    """All three engines, started side by side and stopped at the end. Their data stays in ``folder``."""
    from infra.services.clickhouse import ClickHouseService
    from infra.services.kafka import KafkaService
    from infra.services.postgres import PostgresService

    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        kafka, clickhouse, postgres = await asyncio.gather(
            stack.enter_async_context(KafkaService(folder / "kafka")),
            stack.enter_async_context(ClickHouseService(folder / "clickhouse")),
            stack.enter_async_context(PostgresService(folder / "postgres")),
        )
        yield EngineUrls(f"kafka://{kafka}", clickhouse, postgres)
