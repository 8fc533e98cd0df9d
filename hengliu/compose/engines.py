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
    services: tuple[contextlib.AbstractAsyncContextManager[str], ...] = (
        KafkaService(folder / "kafka"),
        ClickHouseService(folder / "clickhouse"),
        PostgresService(folder / "postgres"),
    )
    found = await asyncio.gather(*(service.__aenter__() for service in services), return_exceptions=True)
    failed = next((answer for answer in found if isinstance(answer, BaseException)), None)
    try:
        if failed is not None:
            raise failed
        kafka, clickhouse, postgres = (str(answer) for answer in found)
        yield EngineUrls(f"kafka://{kafka}", clickhouse, postgres)
    finally:
        # Side by side too: one after the other they take longer than a person waits after Ctrl-C.
        started = [s for s, answer in zip(services, found, strict=True) if not isinstance(answer, BaseException)]
        await asyncio.gather(*(service.__aexit__(None, None, None) for service in started))
