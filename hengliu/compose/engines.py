"""Starts Kafka, ClickHouse and PostgreSQL in a folder, for the demonstration and the tests. Not for production."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from hengliu.events.family import Text

__all__ = ["EngineUrls", "FolderInUse", "engines"]


@dataclass(frozen=True, slots=True)
class EngineUrls:
    """Values of HENGLIU_LOG, HENGLIU_WAREHOUSE and HENGLIU_EVENT_STORE."""

    log: str
    warehouse: str
    event_store: str


class FolderInUse(Exception):
    """Another process has started engines in this folder. ``text`` says so to a person."""

    def __init__(self, folder: Path, pid: str) -> None:
        self.text = Text(
            f"数据目录 {folder} 正由另一个进程使用（进程号 {pid}）。请先停止该进程，或另设 HENGLIU_DATA_DIR。",
            f"{folder} is in use by another process (pid {pid}). Stop it first, or set another HENGLIU_DATA_DIR.",
        )
        super().__init__(self.text.en)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Without it a second start would write over the configuration of the first one's
    servers, and end its PostgreSQL when its own does not come up beside it. The kernel frees it however this process ends."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(folder, os.pread(handle, 20, 0).decode().strip() or "?") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


@contextlib.asynccontextmanager
async def engines(folder: Path) -> AsyncIterator[EngineUrls]:
    """All three engines, started side by side and stopped at the end. Their data stays in ``folder``.

    Raises:
        FolderInUse: another process has them.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with _alone(folder):
        async with _started(folder) as urls:
            yield urls


@contextlib.asynccontextmanager
async def _started(folder: Path) -> AsyncIterator[EngineUrls]:
    from infra.services.clickhouse import ClickHouseService
    from infra.services.kafka import KafkaService
    from infra.services.postgres import PostgresService

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
