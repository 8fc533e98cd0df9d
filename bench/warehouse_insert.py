"""Rows per second into the warehouse beside the engine's own limit, under a minute: ``python -m bench.warehouse_insert``.

For each engine and size, interleaved over a few rounds, best of them, on a table of 8 columns as ``create_sql`` makes it
(deduplication window, synced parts):

* ``insert``: the port's ``insert`` of an Arrow table that is there already: schema check, one block, token;
* ``raw``: the same bytes with nothing of ours: chDB's ``Python(table)``, the server's HTTP ArrowStream of a body made before;
* ``engine``: ``INSERT ... SELECT ... FROM numbers()`` into the same columns: the engine alone, no client, no conversion.

With ``--json`` one JSON object on standard output. What it does not prove: nothing of views behind the table, of concurrent
readers, of a network between client and server, of a disk that is slow to sync; the engines run one after the other, so
their rows are not to be compared with each other when the machine is busy.
"""

import argparse
import asyncio
import http.client
import json
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pyarrow as pa
from rich.console import Console
from rich.table import Table as Grid

from hengliu.ports.warehouse import Column, TableSchema, Warehouse, create_sql
from infra.chdb_warehouse import ChdbWarehouse
from infra.clickhouse_warehouse import ClickHouseAddress, ClickHouseWarehouse
from infra.services.clickhouse import ClickHouseService

BENCH = TableSchema(
    "bench",
    (
        Column("id", "String", pa.string()),
        Column("at", "DateTime64(3, 'UTC')", pa.timestamp("ms", "UTC")),
        Column("enterprise", "LowCardinality(String)", pa.string()),
        Column("plate", "String", pa.string()),
        Column("mass_kg", "Int64", pa.int64()),
        Column("amount", "Decimal(18, 4)", pa.decimal128(18, 4)),
        Column("off", "Int64", pa.int64()),
        Column("part", "Int32", pa.int32()),
    ),
    order_by=("enterprise", "at"),
)

FROM_NUMBERS = (
    "SELECT toString(number) AS id, fromUnixTimestamp64Milli(1767225600000 + toInt64(number), 'UTC') AS at, "
    "concat('e', toString(number % 20)) AS enterprise, concat('S', toString(number % 3000)) AS plate, "
    "toInt64(number % 50000) AS mass_kg, toDecimal64(number % 1000, 4) AS amount, toInt64(number) AS off, toInt32(1) AS part "
    "FROM numbers({rows})"
)


def rows_of(count: int) -> pa.Table:
    """The same rows as FROM_NUMBERS, in one chunk."""
    numbers = range(count)
    columns = [
        pa.array([str(i) for i in numbers]),
        pa.array([1_767_225_600_000 + i for i in numbers], pa.timestamp("ms", "UTC")),
        pa.array([f"e{i % 20}" for i in numbers]),
        pa.array([f"S{i % 3000}" for i in numbers]),
        pa.array([i % 50_000 for i in numbers], pa.int64()),
        pa.array([Decimal(i % 1000) for i in numbers], pa.decimal128(18, 4)),
        pa.array(numbers, pa.int64()),
        pa.array([1] * count, pa.int32()),
    ]  # fmt: skip
    return pa.table(columns, schema=BENCH.arrow_schema)


@dataclass(frozen=True, slots=True)
class Figure:
    """Best rows per second of each way, for one engine and size."""

    engine: str
    rows: int
    insert: float
    raw: float
    limit: float


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def measure(
    name: str, warehouse: Warehouse, raw: Callable[[pa.Table], Awaitable[object]], sizes: list[int], seconds: float
) -> list[Figure]:
    """Interleaved rounds for each size, until its share of ``seconds`` is used (at least two)."""
    figures = []
    serial = 0
    for size in sizes:
        data = rows_of(size)
        best = {"insert": float("inf"), "raw": float("inf"), "limit": float("inf")}
        await warehouse.execute("DROP TABLE IF EXISTS bench SYNC")
        await warehouse.execute(create_sql(BENCH))
        end = time.perf_counter() + seconds / len(sizes)
        rounds = 0
        while rounds < 2 or time.perf_counter() < end:
            serial += 1
            token = f"t{serial}"
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "insert": lambda data=data, token=token: warehouse.insert(BENCH, data, token),  # type: ignore[misc]
                "raw": lambda data=data: raw(data),  # type: ignore[misc]
                "limit": lambda size=size: warehouse.execute("INSERT INTO bench " + FROM_NUMBERS.format(rows=size)),  # type: ignore[misc]
            }
            for way, work in ways.items():
                best[way] = min(best[way], await timed(work))
            rounds += 1
            if rounds % 5 == 0:
                await warehouse.execute("TRUNCATE TABLE bench")
        figures.append(Figure(name, size, size / best["insert"], size / best["raw"], size / best["limit"]))
        Console(stderr=True).print(f"{name} {size:,}: {rounds} rounds")
    return figures


async def on_chdb(directory: Path, sizes: list[int], seconds: float) -> list[Figure]:
    from chdb.session import Session

    warehouse = await ChdbWarehouse.open(directory)
    session: Any = Session(warehouse._connection)  # type: ignore[no-untyped-call]

    async def raw(data: pa.Table) -> None:
        def insert() -> None:
            hengliu_bench_rows = data
            session.query("INSERT INTO bench SELECT * FROM Python(hengliu_bench_rows)", "Null")
            del hengliu_bench_rows

        await asyncio.to_thread(insert)

    try:
        return await measure("chdb", warehouse, raw, sizes, seconds)
    finally:
        session.close()
        await warehouse.close()


async def on_clickhouse(directory: Path, sizes: list[int], seconds: float) -> list[Figure]:
    async with ClickHouseService(directory) as url:
        address = ClickHouseAddress.parse(url)
        warehouse = await ClickHouseWarehouse.open(url)
        connection = http.client.HTTPConnection(address.host, address.http_port)
        headers = {"X-ClickHouse-User": address.user, "X-ClickHouse-Key": address.password}
        settings = {"database": address.database, "query": "INSERT INTO bench FORMAT ArrowStream", "async_insert": 0}
        bodies: dict[int, pa.Buffer] = {}

        async def raw(data: pa.Table) -> None:
            if data.num_rows not in bodies:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, data.schema) as stream:
                    stream.write_table(data)
                bodies[data.num_rows] = sink.getvalue()

            def insert() -> None:
                # Without a token of its own the engine would compare contents and drop the second round.
                path = "/?" + urlencode({**settings, "insert_deduplication_token": uuid4().hex})
                connection.request("POST", path, body=memoryview(bodies[data.num_rows]), headers=headers)
                response = connection.getresponse()
                answer = response.read()
                assert response.status == http.HTTPStatus.OK, answer

            await asyncio.to_thread(insert)

        try:
            return await measure("clickhouse", warehouse, raw, sizes, seconds)
        finally:
            connection.close()
            await warehouse.close()


ENGINES = {"chdb": on_chdb, "clickhouse": on_clickhouse}


async def run(engines: list[str], sizes: list[int], seconds: float) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="hengliu-bench-") as name:
        for engine in engines:
            figures += await ENGINES[engine](Path(name) / engine, sizes, seconds / len(engines))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="5000,100000,500000", help="rows of one insert, comma separated")
    parser.add_argument("--seconds", type=float, default=30, help="time for the rounds, in all")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    engines = list(ENGINES) if arguments.engine == "both" else [arguments.engine]
    figures = asyncio.run(run(engines, [int(s) for s in arguments.sizes.split(",")], arguments.seconds))
    if arguments.json:
        rows = [
            {"engine": f.engine, "rows": f.rows, "insert_rows_s": round(f.insert), "raw_rows_s": round(f.raw),
             "engine_rows_s": round(f.limit)}
            for f in figures
        ]  # fmt: skip
        sys.stdout.write(json.dumps({"python": platform.python_version(), "figures": rows}) + "\n")
        return
    grid = Grid(title="rows/s into the warehouse, best of the rounds")
    for heading in ("engine", "rows an insert", "insert (ms)", "insert", "raw client", "engine alone", "of raw", "of engine"):
        grid.add_column(heading, justify="left" if heading == "engine" else "right")
    for f in figures:
        grid.add_row(
            f.engine, f"{f.rows:,}", f"{1000 * f.rows / f.insert:.1f}", f"{f.insert:,.0f}", f"{f.raw:,.0f}", f"{f.limit:,.0f}",
            f"{f.insert / f.raw:.0%}", f"{f.insert / f.limit:.0%}",
        )  # fmt: skip
    Console(width=120).print(grid)


if __name__ == "__main__":
    main()
