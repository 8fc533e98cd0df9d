"""Records as intake and the operators write them, and a log and warehouse to put them into."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import CLOCK_TYPE, Headers, Record, TopicPartition
from hengliu.ports.warehouse import TableSchema, Warehouse
from infra.chdb_warehouse import ChdbWarehouse
from infra.local_log import LocalLog
from projections.catalog import tables
from projections.migrate import migrate
from projections.projector import Policy, Projector

PARTITIONS = 2
_inserts = itertools.count()
"""Every insert is one of its own, also into a table that was emptied."""
T0 = 1_772_330_400_000
"""2026-03-01T02:00:00Z, ten in the morning of a Sunday in Shanghai."""
HOUR = 3_600_000

FAST = Policy(flush_ms=1, small_wait_ms=5, small_rows=1, inserts_per_second=1000, idle_commit_ms=10, position_ms=10)
"""No waiting: what a test writes is due at once."""


def event(
    type_: str,
    id_: str,
    time: int,
    data: Mapping[str, Any],
    *,
    source: str = "urn:dev:org:32473-wb-m01-1",
    scope: tuple[str, str, str] = ("m01", "m01", "150303"),
    received: int | None = None,
    known_at: int = 0,
    **extensions: str | int,
) -> Record:
    """One record; ``received`` defaults to a second after ``time``."""
    at = time + 1000 if received is None else received
    enterprise, site, division = scope
    headers = Headers(
        received=at,
        type=type_,
        principal="demo",
        enterprise=enterprise,
        site=site,
        division=division,
        known_at=known_at,
    )
    return Record(source.encode(), encode_event(type_, source, id_, time, dict(data), **extensions), headers)


def clock_mark(received: int) -> Record:
    return Record(b"", b"", Headers(received=received, type=CLOCK_TYPE))


def weighing(n: int, time: int, mass_kg: int = 48_920, plate: str = "蒙C12345", **more: Any) -> Record:
    data = {"plate": plate, "mass_kg": mass_kg, **{k: v for k, v in more.items() if k in ("axles", "commodity", "use")}}
    rest = {k: v for k, v in more.items() if k not in data}
    return event("weighing.measured", str(n), time, data, **rest)


@asynccontextmanager
async def warehouse_at(path: Path, catalog: Catalog | None = None) -> AsyncIterator[ChdbWarehouse]:
    """A migrated warehouse."""
    warehouse = await ChdbWarehouse.open(path)
    try:
        await migrate(warehouse, tables(catalog or Catalog()))
        yield warehouse
    finally:
        await warehouse.close()


@asynccontextmanager
async def log_at(path: Path, catalog: Catalog | None = None) -> AsyncIterator[LocalLog]:
    """A log with every topic."""
    log = await LocalLog.open(path)
    try:
        await log.create_topics((catalog or Catalog()).topic_specs(PARTITIONS))
        yield log
    finally:
        await log.close()


async def put(warehouse: Warehouse, records: Iterable[Record], catalog: Catalog | None = None) -> None:
    """Rows of the records straight into their tables, without log and projector."""
    from projections.table import Range, Records

    declared = catalog or Catalog()
    by_type = {t: table for table in tables(declared) for t in table.types}
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(by_type[record.headers.type].name, []).append(record)
    for name, group in groups.items():
        table = next(t for t in by_type.values() if t.name == name)
        before = await warehouse.query(f"SELECT toInt64(count()) AS n FROM {name}")
        number = next(_inserts)
        start = int(str(before.rows[0][0]))
        span = Range(sorted(table.topics)[0], 0, start, start + len(group))
        columns = Records(
            [span] * len(group),
            list(range(start, start + len(group))),
            [r.value for r in group],
            [r.headers for r in group],
        )
        rows = table.rows(columns)
        assert not rows.faults, rows.faults
        await warehouse.insert(table.schema, rows.data, f"{name}-{number}")


async def content(warehouse: Warehouse, schema: TableSchema) -> list[tuple[Any, ...]]:
    """All rows of a table, content columns only, sorted."""
    columns = ", ".join(schema.content_columns)
    result = await warehouse.query(f"SELECT {columns} FROM {schema.name} ORDER BY source, id")
    return [tuple(row) for row in result.rows]


def projector(log: LocalLog, warehouse: ChdbWarehouse, **more: Any) -> Projector:
    declared = more.pop("catalog", None) or Catalog()
    policy = more.pop("policy", FAST)
    return Projector(log, warehouse, tables(declared), PARTITIONS, SystemClock(), policy=policy, **more)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Wait until the condition holds."""
    for _ in range(int(seconds / 0.02)):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the condition did not come true")


async def ends(log: LocalLog, *topics: str) -> dict[TopicPartition, int]:
    return dict(await log.end_positions([TopicPartition(t, p) for t in topics for p in range(PARTITIONS)]))
