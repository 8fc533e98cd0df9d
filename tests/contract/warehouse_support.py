"""Both warehouse adapters behind one handle, for the contract suite."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pytest

from hengliu.ports.warehouse import Column, TableSchema, Value, Warehouse
from infra.chdb_warehouse import ChdbWarehouse
from infra.clickhouse_warehouse import ClickHouseWarehouse
from infra.services.clickhouse import ClickHouseService
from infra.warehouse_common import InsertGuards

ROOT = Path(__file__).resolve().parents[2]

FACT = TableSchema(
    "fact",
    (
        Column("part", "Int32", pa.int32()),
        Column("off", "Int64", pa.int64()),
        Column("plate", "LowCardinality(String)", pa.string()),
        Column("kg", "Int64", pa.int64()),
        Column("at", "DateTime64(3, 'UTC')", pa.timestamp("ms", "UTC")),
    ),
    order_by=("part", "off"),
)

PARTITIONED = TableSchema("fact", FACT.columns, FACT.order_by, partition_by="part")


def facts(rows: int, start: int = 0, parts: int = 1) -> pa.Table:
    """``rows`` rows with offsets from ``start``, spread over ``parts`` partitions."""
    offsets = range(start, start + rows)
    return pa.table(
        [
            pa.array([i % parts for i in offsets], pa.int32()),
            pa.array(offsets, pa.int64()),
            pa.array([f"苏A{i % 100:05d}" for i in offsets], pa.string()),
            pa.array([i % 7 for i in offsets], pa.int64()),
            pa.array([1_700_000_000_000 + i for i in offsets], pa.timestamp("ms", "UTC")),
        ],
        schema=FACT.arrow_schema,
    )


def chunked(table: pa.Table, pieces: int) -> pa.Table:
    """The same rows in ``pieces`` chunks."""
    step = -(-table.num_rows // pieces)
    return pa.concat_tables([table.slice(i, step) for i in range(0, table.num_rows, step)])


class Engine:
    """One engine over one directory; opens warehouses on the same data, and closes what a test left open."""

    def __init__(self, name: str, directory: Path, service: ClickHouseService | None, url: str = "") -> None:
        self.name = name
        self.directory = directory
        self.service = service
        self.url = url
        self._open: list[Warehouse] = []

    async def open(self, guards: InsertGuards | None = None, readers: int = 2) -> Warehouse:
        warehouse: Warehouse
        if self.service is None:
            warehouse = await ChdbWarehouse.open(self.directory, readers=readers, guards=guards)
        else:
            warehouse = await ClickHouseWarehouse.open(self.url, readers=readers, guards=guards)
        self._open.append(warehouse)
        return warehouse

    async def close(self) -> None:
        """Close every warehouse that was opened."""
        while self._open:
            await self._open.pop().close()

    @property
    def open_code(self) -> str:
        """Python text of an expression that opens this warehouse in another process."""
        if self.service is None:
            return f"__import__('infra.chdb_warehouse').chdb_warehouse.ChdbWarehouse.open(Path({str(self.directory)!r}))"
        return f"__import__('infra.clickhouse_warehouse').clickhouse_warehouse.ClickHouseWarehouse.open({self.url!r})"


class Script:
    """An asyncio program in another process, which prints ``ready`` when it has come so far and then waits for its end."""

    def __init__(self, body: str, **environment: str) -> None:
        indented = "\n".join("    " + line for line in body.strip("\n").splitlines())
        self._text = (
            "import asyncio, os, sys\nfrom pathlib import Path\n"
            "from tests.contract.warehouse_support import *\n"
            "from hengliu.ports.warehouse import *\n"
            f"async def main():\n{indented}\nasyncio.run(main())\n"
        )
        self._environment = environment

    def run(self) -> str:
        """What it printed. Fails if it fails."""
        done = subprocess.run(
            [sys.executable, "-c", self._text],
            cwd=ROOT,
            env={**_environment(), **self._environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self._text],
            cwd=ROOT,
            env={**_environment(), **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


async def scalar(warehouse: Warehouse, sql: str, **parameters: Any) -> Value:
    """The one value of a query."""
    result = await warehouse.query(sql, parameters)
    assert len(result.rows) == 1
    assert len(result.rows[0]) == 1
    return result.rows[0][0]


_databases = itertools.count()

ENGINES = ["chdb", pytest.param("clickhouse", marks=pytest.mark.clickhouse)]


@pytest.fixture(scope="module")
def clickhouse_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseService]:
    service = ClickHouseService(tmp_path_factory.mktemp("clickhouse"))
    service.start()
    yield service
    service.stop()


def engine_of(request: pytest.FixtureRequest, directory: Path) -> Engine:
    """The engine that the fixture's parameter names: a fresh directory of chDB, or a fresh database of the module's server."""
    if request.param == "chdb":
        return Engine("chdb", directory / "warehouse", None)
    service = request.getfixturevalue("clickhouse_service")
    return Engine("clickhouse", directory, service, service.url.replace("/hengliu?", f"/test_{next(_databases)}?"))


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """A fresh engine for each test."""
    made = engine_of(request, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def warehouse(engine: Engine) -> Warehouse:
    return await engine.open()


__all__ = [
    "ENGINES",
    "FACT",
    "PARTITIONED",
    "ROOT",
    "Engine",
    "Script",
    "asyncio",
    "chunked",
    "clickhouse_service",
    "engine",
    "engine_of",
    "facts",
    "scalar",
    "warehouse",
]
