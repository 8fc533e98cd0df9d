"""Numbered SQL files over the warehouse port, on both engines: order, record, refusals, repair after a crash, drift."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from hengliu.ports.migration import (
    Migration,
    MigrationError,
    apply_migrations,
    lint,
    read_migrations,
    schema_drift,
    split_statements,
)
from hengliu.ports.warehouse import (
    Column,
    Parameter,
    Result,
    TableSchema,
    Warehouse,
    WarehouseError,
    add_column_sql,
    check_declaration,
    create_sql,
)
from tests.contract.warehouse_support import FACT, Engine, clickhouse_service, engine, facts, scalar, warehouse

__all__ = ["clickhouse_service", "engine", "warehouse"]

NOW = 1_767_225_600_000
FIRST = create_sql(FACT) + ";\n"
EXTRA = Column("axles", "Nullable(Int64)", pa.int64(), nullable=True)
WIDER = TableSchema("fact", (*FACT.columns[:3], EXTRA, *FACT.columns[3:]), FACT.order_by)


def folder(base: Path, files: Mapping[str, str]) -> Path:
    base.mkdir(exist_ok=True)
    for name, text in files.items():
        (base / name).write_text(text, encoding="utf-8")
    return base


async def test_files_are_applied_once_in_order(warehouse: Warehouse, tmp_path: Path) -> None:
    files = folder(tmp_path / "fact", {"0001_create.sql": FIRST})
    first = await apply_migrations(warehouse, read_migrations("fact", files), NOW)
    assert [str(m) for m in first] == ["fact/0001_create.sql"]
    await warehouse.insert(FACT, facts(10), "a")
    folder(files, {"0002_axles.sql": f"-- axles came later; they may be unknown\n{add_column_sql(WIDER, 'axles')}"})
    assert [m.number for m in await apply_migrations(warehouse, read_migrations("fact", files), NOW + 1)] == [2]
    assert await apply_migrations(warehouse, read_migrations("fact", files), NOW + 2) == []
    assert await schema_drift(warehouse, [WIDER]) == []
    assert await scalar(warehouse, "SELECT countIf(axles IS NULL) AS n FROM fact") == 10
    recorded = await warehouse.query(
        "SELECT table_name AS t, version AS v, file AS f, length(digest) AS d, toUnixTimestamp64Milli(at) AS at "
        "FROM schema_migration ORDER BY v"
    )
    assert list(recorded.rows) == [("fact", 1, "0001_create.sql", 64, NOW), ("fact", 2, "0002_axles.sql", 64, NOW + 1)]


async def test_a_changed_file_and_an_older_version_are_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    files = folder(tmp_path / "fact", {"0001_create.sql": FIRST, "0002_axles.sql": add_column_sql(WIDER, "axles")})
    await apply_migrations(warehouse, read_migrations("fact", files), NOW)
    folder(files, {"0001_create.sql": FIRST + "\n-- an afterthought\n"})
    with pytest.raises(MigrationError, match="was changed after it was applied") as caught:
        await apply_migrations(warehouse, read_migrations("fact", files), NOW)
    assert (caught.value.code, "执行之后被修改" in str(caught.value)) == ("migration.changed", True)
    folder(files, {"0001_create.sql": FIRST})
    (files / "0002_axles.sql").unlink()
    with pytest.raises(MigrationError, match=re.escape("has applied fact/0002_axles.sql")) as caught:
        await apply_migrations(warehouse, read_migrations("fact", files), NOW)
    assert caught.value.code == "migration.downgrade"
    # A scope that this process does not bring along is none of its business.
    await apply_migrations(warehouse, [], NOW)


class Stumbling:
    """A warehouse whose process dies after ``allowed`` statements and inserts."""

    def __init__(self, inner: Warehouse, allowed: int) -> None:
        self._inner = inner
        self._left = allowed

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt

    async def execute(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> None:
        self._step()
        await self._inner.execute(sql, parameters)

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Result:
        return await self._inner.query(sql, parameters)

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        self._step()
        await self._inner.insert(table, data, token)

    async def close(self) -> None:
        await self._inner.close()


async def test_a_crash_after_any_step_is_repaired_by_the_next_start(warehouse: Warehouse, tmp_path: Path) -> None:
    total = TableSchema("total", (Column("kg", "Int64", pa.int64()),), ("kg",))
    view = "CREATE MATERIALIZED VIEW IF NOT EXISTS to_total TO total AS SELECT sum(kg) AS kg FROM fact"
    files = folder(
        tmp_path / "fact",
        {"0001_create.sql": f"{FIRST}{create_sql(total)};\n{view};", "0002_axles.sql": add_column_sql(WIDER, "axles")},
    )
    migrations = read_migrations("fact", files)
    steps = 0
    while True:
        for name in ("to_total", "total", "fact", "schema_migration"):
            await warehouse.execute(f"DROP TABLE IF EXISTS {name} SYNC")
        try:
            done = await apply_migrations(Stumbling(warehouse, steps), migrations, NOW)
        except KeyboardInterrupt:
            await apply_migrations(warehouse, migrations, NOW)
        else:
            assert len(done) == 2
            break
        finally:
            assert await schema_drift(warehouse, [WIDER, total]) == []
            assert await scalar(warehouse, "SELECT arraySort(groupArray(version)) AS v FROM schema_migration") == [1, 2]
        steps += 1
    assert steps == 7  # the record's own table; 3 statements and a record; 1 statement and a record


async def test_a_statement_that_fails_is_not_recorded(warehouse: Warehouse, tmp_path: Path) -> None:
    files = folder(tmp_path / "fact", {"0001_create.sql": FIRST, "0002_bad.sql": "ALTER TABLE nowhere DROP COLUMN IF EXISTS a"})
    with pytest.raises(WarehouseError) as caught:
        await apply_migrations(warehouse, read_migrations("fact", files), NOW)
    assert caught.value.code == 60
    assert await scalar(warehouse, "SELECT max(version) AS v FROM schema_migration") == 1


class Meeting(Stumbling):
    """A warehouse whose user, having read, waits until another has read too."""

    def __init__(self, inner: Warehouse, barrier: asyncio.Barrier) -> None:
        super().__init__(inner, 1000)
        self._barrier = barrier

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Result:
        result = await super().query(sql, parameters)
        await self._barrier.wait()
        return result


async def test_two_starts_at_once_leave_one_record(engine: Engine, tmp_path: Path) -> None:
    migrations = read_migrations("fact", folder(tmp_path / "fact", {"0001_create.sql": FIRST}))
    barrier = asyncio.Barrier(2)
    first, second = await engine.open(), await engine.open()
    done = await asyncio.gather(*(apply_migrations(Meeting(w, barrier), migrations, NOW) for w in (first, second)))
    assert [len(applied) for applied in done] == [1, 1]
    assert await scalar(first, "SELECT count() AS n FROM schema_migration") == 1
    assert await schema_drift(first, [FACT]) == []


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"0002_create.sql": FIRST}, "migration.gap"),
        ({"0001_create.sql": FIRST, "0003_more.sql": FIRST}, "migration.gap"),
        ({"0001_create.sql": FIRST, "0001_again.sql": FIRST}, "migration.gap"),
        ({"1_create.sql": FIRST}, "migration.name"),
        ({"0001_create.sql": "SELECT 1"}, "migration.lint"),
    ],
)
def test_numbers_and_names(tmp_path: Path, files: dict[str, str], code: str) -> None:
    with pytest.raises(MigrationError) as caught:
        read_migrations("fact", folder(tmp_path / "fact", files))
    assert caught.value.code == code
    assert " / " in str(caught.value)


WINDOW = "SETTINGS non_replicated_deduplication_window = 10000"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "holds no statement"),
        ("-- nothing; yet\n", "holds no statement"),
        (f"CREATE TABLE a (x Int8) ENGINE = MergeTree ORDER BY x {WINDOW}", "cannot run twice"),
        (f"CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = MergeTree {WINDOW}", "no ORDER BY"),
        (f"CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = MergeTree -- ORDER BY x\n {WINDOW}", "no ORDER BY"),
        ("CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = MergeTree ORDER BY x", "no deduplication window"),
        (f"CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Log ORDER BY x {WINDOW}", "not of the MergeTree family"),
        (f"CREATE TABLE IF NOT EXISTS a (x DateTime) ENGINE = MergeTree ORDER BY x {WINDOW}", "without the zone"),
        (f"CREATE TABLE IF NOT EXISTS a (x DateTime64(3)) ENGINE = MergeTree ORDER BY x {WINDOW}", "without the zone"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v ENGINE = MergeTree ORDER BY x AS SELECT 1 AS x", "needs TO"),
        ("ALTER TABLE a ADD COLUMN x Int8", "cannot run twice"),
        ("ALTER TABLE a DROP COLUMN x", "cannot run twice"),
        ("INSERT INTO a SELECT 1", "is no schema change"),
        ("EXCHANGE TABLES a AND b", "cannot run twice"),
        ("DROP TABLE a", "cannot run twice"),
        (f"{FIRST} TRUNCATE TABLE fact", "is no schema change"),
    ],
)
def test_lint_finds(text: str, fault: str) -> None:
    faults = lint(Migration("s", 1, "0001_x.sql", text))
    assert any(fault in found for found in faults), faults


@pytest.mark.parametrize(
    "text",
    [
        FIRST,
        "/* why; */ ALTER TABLE a ADD COLUMN IF NOT EXISTS x Int8 AFTER y;",
        "DROP VIEW IF EXISTS v; CREATE MATERIALIZED VIEW IF NOT EXISTS v TO t AS SELECT ';' AS x",
        "ALTER TABLE a MODIFY SETTING non_replicated_deduplication_window = 5",
        f"CREATE TABLE IF NOT EXISTS a (x DateTime('UTC'), y DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY x {WINDOW}",
    ],
)
def test_lint_passes(text: str) -> None:
    assert lint(Migration("s", 1, "0001_x.sql", text)) == []


def test_statements_end_at_semicolons_that_are_code() -> None:
    sql = "a ';' \"x;y\" `;`; -- b;\n /* ; */ # ;\n; c $$ ; $$ d; 'it''s;' '\\';' e"
    assert split_statements(sql) == ["a ';' \"x;y\" `;`", "c $$ ; $$ d", "'it''s;' '\\';' e"]


# --- declarations and drift ------------------------------------------------------------------------------------------


async def test_drift_is_every_difference(warehouse: Warehouse) -> None:
    assert [d.declared for d in await schema_drift(warehouse, [FACT])] == ["a table"]
    await warehouse.execute(create_sql(FACT))
    assert await schema_drift(warehouse, [FACT]) == []

    async def drifts(declared: TableSchema) -> list[tuple[str, str, str]]:
        return [(d.column, d.declared, d.found) for d in await schema_drift(warehouse, [declared])]

    assert await drifts(WIDER) == [("axles", "Nullable(Int64)", "nothing")]
    assert await drifts(replace(FACT, columns=FACT.columns[:4])) == [("at", "nothing", "DateTime64(3, 'UTC')")]
    narrow = Column("kg", "Int32", pa.int32())
    assert await drifts(replace(FACT, columns=(*FACT.columns[:3], narrow, FACT.columns[4]))) == [("kg", "Int32", "Int64")]
    swapped = (FACT.columns[1], FACT.columns[0], *FACT.columns[2:])
    ((column, declared, found),) = await drifts(replace(FACT, columns=swapped))
    assert (column, declared, found) == ("", "order off, part, plate, kg, at", "order part, off, plate, kg, at")
    assert await drifts(replace(FACT, order_by=("off",))) == [("", "ORDER BY off", "ORDER BY part, off")]
    assert await drifts(replace(FACT, partition_by="part")) == [("", "PARTITION BY part", "PARTITION BY ")]
    assert await drifts(replace(FACT, engine="SummingMergeTree")) == [("", "ENGINE SummingMergeTree", "ENGINE MergeTree")]
    await warehouse.execute("ALTER TABLE fact MODIFY SETTING non_replicated_deduplication_window = 7")
    assert await drifts(FACT) == [("", "deduplication window 10000", "deduplication window 7")]
    await warehouse.execute("ALTER TABLE fact RESET SETTING non_replicated_deduplication_window")
    assert await drifts(FACT) == [("", "deduplication window 10000", "deduplication window off")]


async def test_added_columns_stand_where_they_are_declared(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(FACT))
    first = TableSchema("fact", (Column("zero", "Nullable(String)", pa.string(), nullable=True), *WIDER.columns), FACT.order_by)
    for _ in range(2):
        await warehouse.execute(add_column_sql(first, "axles"))
        await warehouse.execute(add_column_sql(first, "zero"))
    assert await schema_drift(warehouse, [first]) == []


def _column(declared: str, arrow: pa.DataType, nullable: bool = False) -> TableSchema:
    return TableSchema("t", (Column("a", declared, arrow, nullable=nullable),), ("a",))


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (replace(FACT, name="fact; DROP TABLE x"), "not an identifier"),
        (replace(FACT, name="事实"), "not an identifier"),
        (TableSchema("t", (Column("a b", "Int8", pa.int8()),), ("a",)), "not an identifier"),
        (replace(FACT, columns=(*FACT.columns, FACT.columns[0])), "named twice"),
        (replace(FACT, order_by=()), "ORDER BY is missing"),
        (replace(FACT, order_by=("nope",)), "no column"),
        (replace(FACT, order_by=("part) ENGINE = Log --",)), "no column"),
        (replace(FACT, partition_by="toYYYYMM(nope)"), "no column"),
        (replace(FACT, engine="Log"), "not of the MergeTree family"),
        (replace(FACT, engine="MergeTree ORDER BY part; --"), "not of the MergeTree family"),
        (_column("Int64) ENGINE = Log --", pa.int64()), "is not a type"),
        (_column("Nullable(Int64)", pa.int64()), "nullable=False"),
        (_column("Int64", pa.int64(), nullable=True), "nullable=True"),
        (_column("Int64", pa.float64()), "not stored as Int64"),
        (_column("UInt64", pa.int64()), "not stored as UInt64"),
        (_column("Int32", pa.int64()), "not stored as Int32"),
        (_column("Decimal(18, 2)", pa.decimal128(18, 3)), "not stored as Decimal"),
        (_column("Decimal(18, 2)", pa.float64()), "not stored as Decimal"),
        (_column("DateTime64(3)", pa.timestamp("ms", "UTC")), "not stored as DateTime64"),
        (_column("DateTime64(3, 'UTC')", pa.timestamp("us", "UTC")), "not stored as DateTime64"),
        (_column("DateTime", pa.uint32()), "not stored as DateTime"),
        (_column("String", pa.binary()), "not stored as String"),
        (_column("Bool", pa.uint8()), "not stored as Bool"),
        (_column("Float32", pa.float64()), "not stored as Float32"),
    ],
)
def test_declarations_that_lose_something_are_refused(table: TableSchema, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        check_declaration(table)
    with pytest.raises(ValueError, match=re.escape(fault)):
        create_sql(table)


def test_a_column_that_is_not_declared_cannot_be_added() -> None:
    with pytest.raises(ValueError, match="declares no column"):
        add_column_sql(FACT, "axles")
