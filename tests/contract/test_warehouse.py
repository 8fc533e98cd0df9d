"""The warehouse port's contract, run on chDB and on a ClickHouse server. docs/protocols/warehouse.md says what and why.

Much of this is how the engine happens to work inside, not what it promises: it is pinned so that a new version that changes
it fails here.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hengliu.ports.warehouse import (
    Column,
    Parameter,
    SchemaMismatch,
    TableSchema,
    Warehouse,
    WarehouseError,
    WarehouseUnavailable,
    create_sql,
)
from infra.chdb_warehouse import ChdbWarehouse
from infra.clickhouse_warehouse import ClickHouseAddress, ClickHouseWarehouse
from infra.services.clickhouse import ClickHouseService
from infra.services.common import free_ports
from infra.warehouse_common import MAX_ROWS, InsertGuards
from tests.contract.warehouse_support import (
    FACT,
    PARTITIONED,
    Engine,
    Script,
    chunked,
    clickhouse_service,
    engine,
    facts,
    scalar,
    warehouse,
)

__all__ = ["clickhouse_service", "engine", "warehouse"]

NASTY = "a'b\\c\td\ne\rf\0g\"h`i{x:Int8}%s %% 衡流 😀\\n\b\f\v\a -- /* ; FORMAT JSON"

TYPES = TableSchema(
    "every_type",
    (
        Column("i", "Int64", pa.int64()),
        Column("u", "UInt8", pa.uint8()),
        Column("f", "Float64", pa.float64()),
        Column("d", "Decimal(18, 4)", pa.decimal128(18, 4)),
        Column("wide", "Decimal(38, 6)", pa.decimal128(38, 6)),
        Column("s", "String", pa.string()),
        Column("low", "LowCardinality(String)", pa.string()),
        Column("coded", "LowCardinality(String)", pa.dictionary(pa.int32(), pa.string())),
        Column("at", "DateTime64(3, 'UTC')", pa.timestamp("ms", "UTC")),
        Column("micro", "DateTime64(6, 'UTC')", pa.timestamp("us", "UTC")),
        Column("day", "Date", pa.date32()),
        Column("b", "Bool", pa.bool_()),
        Column("e", "Enum8('进' = 1, '出' = 2)", pa.string()),
        Column("tags", "Array(String)", pa.list_(pa.string())),
        Column("m", "Map(String, String)", pa.map_(pa.string(), pa.string())),
        Column("maybe", "Nullable(Int64)", pa.int64(), nullable=True),
        Column("maybe_s", "LowCardinality(Nullable(String))", pa.string(), nullable=True),
        Column("maybe_d", "Nullable(Decimal(18, 3))", pa.decimal128(18, 3), nullable=True),
        Column("maybe_at", "Nullable(DateTime64(3, 'UTC'))", pa.timestamp("ms", "UTC"), nullable=True),
    ),
    order_by=("i",),
)

ROWS = [
    (
        -(2**63), 0, -0.5, Decimal("1.2300"), Decimal("-12345678901234567890123456789012.000001"), NASTY, "苏A12345", "煤",
        datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), date(1970, 1, 1),
        True, "进", ["a'b", ""], {"k\\": "v\n"}, None, None, None, None,
    ),
    (
        2**63 - 1, 255, 1e300, Decimal("-99999999999999.9999"), Decimal("0.000000"), "", "", "焦",
        datetime(1999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), datetime(2100, 6, 7, 8, 9, 10, 123456, tzinfo=UTC),
        date(2100, 2, 28), False, "出", [], {}, 0, "", Decimal("0.001"), datetime(2026, 1, 1, tzinfo=UTC),
    ),
]  # fmt: skip


def typed_rows(rows: Sequence[tuple[object, ...]]) -> pa.Table:
    columns = []
    for column, values in zip(TYPES.columns, zip(*rows, strict=True), strict=True):
        given_values = [list(v.items()) if isinstance(v, dict) else v for v in values]
        columns.append(pa.array(given_values, column.arrow))
    return pa.table(columns, schema=TYPES.arrow_schema)


# --- values ----------------------------------------------------------------------------------------------------------


async def test_every_type_comes_back_as_it_went_in(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(TYPES))
    await warehouse.insert(TYPES, typed_rows(ROWS), "t")
    result = await warehouse.query("SELECT * FROM every_type ORDER BY i")
    assert result.columns == tuple(c.name for c in TYPES.columns)
    assert list(result.rows) == ROWS
    for have, want in zip(result.rows, ROWS, strict=True):
        assert [type(v) for v in have] == [type(v) for v in want]
        assert [str(v) for v in have] == [str(v) for v in want]  # a Decimal's scale, a time's zone


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("count()", 1),
        ("toDecimal64('1.2300', 4)", Decimal("1.2300")),
        ("sum(toDecimal64('0.10', 2))", Decimal("0.10")),
        ("toStartOfHour(toDateTime64('2026-01-01 08:30:00.123', 3, 'UTC'))", datetime(2026, 1, 1, 8, tzinfo=UTC)),
        ("toStartOfDay(toDateTime64('2026-01-01 08:30:00.123', 3, 'UTC'))", datetime(2026, 1, 1, tzinfo=UTC)),
        ("toDateTime('2026-01-01 08:00:00')", datetime(2026, 1, 1, 8, tzinfo=UTC)),
        ("toDateTime('2026-01-01 08:00:00', 'Asia/Shanghai')", datetime(2026, 1, 1, tzinfo=UTC)),
        ("toStartOfDay(toDateTime64('2026-01-01 17:00:00', 3, 'UTC'), 'Asia/Shanghai')", datetime(2026, 1, 1, 16, tzinfo=UTC)),
        ("fromUnixTimestamp64Milli(toInt64(1767225600123), 'UTC')", datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ("toDate('2026-01-01')", date(2026, 1, 1)),
        ("CAST('出' AS Enum8('进' = 1, '出' = 2))", "出"),
        ("toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", "61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
        ("toIPv4('127.0.0.1')", "127.0.0.1"),
        ("toFixedString('ab', 4)", "ab"),
        ("toInt128('170141183460469231731687303715884105727')", 2**127 - 1),
        ("[1, 2]", [1, 2]),
        ("[toDecimal32(1, 2)]", [Decimal("1.00")]),
        ("[NULL, 'a']", [None, "a"]),
        ("tuple(1, 'a', toDecimal32(1, 2))", [1, "a", Decimal("1.00")]),
        ("CAST(tuple(1, 'a'), 'Tuple(n UInt8, s String)')", [1, "a"]),
        ("map('k', toDecimal32(1, 2))", {"k": Decimal("1.00")}),
        ("groupArray(toDateTime64(0, 3, 'UTC'))", [datetime(1970, 1, 1, tzinfo=UTC)]),
        ("NULL", None),
        ("CAST(NULL AS Nullable(Decimal(9, 2)))", None),
        ("true", True),
        ("1 / 0", math.inf),
        ("anyLast(toLowCardinality('x'))", "x"),
    ],
)
async def test_computed_values(warehouse: Warehouse, expression: str, expected: object) -> None:
    value = await scalar(warehouse, f"SELECT {expression} AS v")
    assert (value, str(value), type(value)) == (expected, str(expected), type(expected))


async def test_values_of_nothing(warehouse: Warehouse) -> None:
    result = await warehouse.query(
        "SELECT avg(number) AS a, max(toDateTime64(number, 3, 'UTC')) AS m, count() AS n, maxOrNull(number) AS o "
        "FROM numbers(10) WHERE number > 10"
    )
    average, greatest, count, or_null = result.rows[0]
    assert isinstance(average, float)
    assert math.isnan(average)
    assert (greatest, count, or_null) == (datetime(1970, 1, 1, tzinfo=UTC), 0, None)


async def test_text_that_is_not_utf8_is_an_error(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="column raw holds text that is not UTF-8"):
        await warehouse.query("SELECT unhex('ff00') AS raw")


@pytest.mark.parametrize("expression", ["sumState(number)", "toTime(toDateTime(0, 'UTC'))::Time"])
async def test_types_that_cannot_be_read_are_errors(warehouse: Warehouse, expression: str) -> None:
    with pytest.raises(WarehouseError) as caught:
        await warehouse.query(f"SELECT {expression} AS v FROM numbers(1) GROUP BY number")
    assert caught.value.code == 50


async def test_an_empty_result_has_its_columns(warehouse: Warehouse) -> None:
    result = await warehouse.query(
        "SELECT number AS n, {s:String} AS s FROM numbers(5) WHERE number > 9 LIMIT 3 -- nothing", {"s": "x"}
    )
    assert (result.columns, list(result.rows), result.dicts()) == (("n", "s"), [], [])


async def test_many_blocks_in_order(warehouse: Warehouse) -> None:
    result = await warehouse.query("SELECT number AS n, toString(number) AS s FROM numbers(200000) ORDER BY n")
    assert list(result.rows) == [(i, str(i)) for i in range(200_000)]


async def test_times_do_not_depend_on_the_machines_zone(engine: Engine) -> None:
    printed = Script(
        f"w = await {engine.open_code}\n"
        "r = await w.query(\"SELECT toDateTime('2026-01-01 08:00:00') AS a, toDateTime64(0, 3) AS b, timezone() AS z\")\n"
        "print(*r.rows[0], sep='|')\n"
        "await w.close()",
        TZ="Asia/Shanghai",
    ).run()
    assert printed.strip() == "2026-01-01 08:00:00+00:00|1970-01-01 00:00:00+00:00|UTC"


# --- parameters ------------------------------------------------------------------------------------------------------


async def test_parameters_arrive_as_they_are(warehouse: Warehouse) -> None:
    given_values: dict[str, Parameter] = {
        "s": NASTY, "l": [NASTY, "", "\\N"], "i": [-1, 2**40], "d": Decimal("1.23"), "big": Decimal("1E+3"),
        "day": date(2026, 2, 28), "b": True, "f": 1e-9, "u": 2**64 - 1, "none": "\\N", "empty": "",
        "nothing": [], "e": "出", "x": "ignored",
    }  # fmt: skip
    result = await warehouse.query(
        "SELECT {s:String} AS s, {l:Array(String)} AS l, {i:Array(Int64)} AS i, {d:Decimal(18, 4)} AS d, "
        "{big:Decimal(9, 1)} AS big, {day:Date} AS day, {b:Bool} AS b, {f:Float64} AS f, {u:UInt64} AS u, "
        "{none:String} AS none, {empty:String} AS empty, {nothing:Array(Int64)} AS nothing, "
        "{e:Enum8('进' = 1, '出' = 2)} AS e, '{x:Int8}' AS text",
        given_values,
    )
    want = {**given_values, "d": Decimal("1.2300"), "big": Decimal("1000.0"), "text": "{x:Int8}"}
    del want["x"]
    assert result.dicts() == [want]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30))
async def test_any_text_survives_as_a_parameter(warehouse: Warehouse, texts: list[str]) -> None:
    names = [f"p{i}" for i in range(len(texts))]
    columns = ", ".join(f"{{{n}:String}} AS {n}" for n in names)
    result = await warehouse.query(
        f"SELECT {columns}, {{all:Array(String)}} AS every", {**dict(zip(names, texts, strict=True)), "all": texts}
    )
    assert list(result.rows) == [(*texts, texts)]


async def test_no_parameter_becomes_sql(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(FACT))
    await warehouse.insert(FACT, facts(10), "t")
    for attack in ("' OR 1 = 1 --", "'; DROP TABLE fact; --", "\\' OR 1=1 --", "x' UNION ALL SELECT 1 --", "{plate:String}"):
        assert await scalar(warehouse, "SELECT count() AS n FROM fact WHERE plate = {p:String}", p=attack) == 0
        assert await scalar(warehouse, "SELECT count() AS n FROM fact WHERE plate IN {p:Array(String)}", p=[attack]) == 0
        with pytest.raises(WarehouseError):
            await warehouse.query("SELECT * FROM {t:Identifier}", {"t": attack})
    assert await scalar(warehouse, "SELECT count() AS n FROM {t:Identifier}", t="fact") == 10


@pytest.mark.parametrize(
    ("declared", "value", "code"),
    [
        ("String", None, 53),
        ("DateTime64(3, 'UTC')", datetime(2026, 1, 1, tzinfo=UTC), 53),
        ("Float64", math.nan, 53),
        ("Float64", math.inf, 53),
        ("String", b"x", 53),
        ("Map(String, String)", {"a": "b"}, 53),
        ("Array(String)", ["a", None], 53),
        ("Array(String)", ["a", 1], 53),
        ("String", "\ud800", 53),
        ("UInt8", 300, 69),
        ("UInt64", -1, 69),
        ("Array(UInt8)", [1, 256], 69),
        ("Nullable(Int8)", 128, 69),
        ("Int64", 1.7, 69),
        ("Decimal(18, 2)", Decimal("1.239"), 69),
        ("Decimal64(2)", 1.239, 69),
        ("Decimal(4, 2)", Decimal("100.00"), 69),
    ],
)
async def test_parameters_that_would_be_changed_or_refused_late(
    warehouse: Warehouse, declared: str, value: object, code: int
) -> None:
    with pytest.raises(WarehouseError) as caught:
        await warehouse.query(f"SELECT {{p:{declared}}} AS v", {"p": value})  # type: ignore[dict-item]
    assert caught.value.code == code
    assert " / " in str(caught.value)


async def test_a_placeholder_without_value(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="parameter p is missing") as caught:
        await warehouse.query("SELECT {p:String} AS v", {"q": "x"})
    assert caught.value.code == 456


# --- statements and errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS a; SELECT 2 AS b", "SELECT 1 AS a FORMAT JSON", "SELECT 1 format  Native;", " ; ", "-- no"]
)
async def test_one_statement_without_format(warehouse: Warehouse, sql: str) -> None:
    with pytest.raises(WarehouseError) as caught:
        await warehouse.query(sql)
    assert caught.value.code == 62
    with pytest.raises(WarehouseError):
        await warehouse.execute(sql)


async def test_semicolons_and_formats_in_text_are_text(warehouse: Warehouse) -> None:
    result = await warehouse.query("/* ; */ SELECT '; FORMAT JSON' AS `a;b` -- ; FORMAT CSV\n;\n")
    assert (result.columns, list(result.rows)) == (("a;b",), [("; FORMAT JSON",)])


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT toUInt8('x') AS v", 6),
        ("SELECT nope('x') AS v", 46),
        ("SELECT nope AS v FROM numbers(1)", 47),
        ("SELECT v FROM nowhere", 60),
        ("SELECT 1 +", 62),
        ("SELECT * FROM nowhere.nothing", 81),
        ("SELECT 1 AS v SETTINGS no_such_setting = 1", 115),
        ("SELECT sleepEachRow(0.2) AS v FROM numbers(20) SETTINGS max_execution_time = 1, max_block_size = 1", 159),
        ("SELECT groupArray(number) AS v FROM numbers(100000000) SETTINGS max_memory_usage = 1000000", 241),
        ("SELECT throwIf(1) AS v", 395),
        ("SELECT {p:UInt8} AS v", 457),
    ],
)
async def test_error_codes_are_the_same(warehouse: Warehouse, sql: str, code: int) -> None:
    with pytest.raises(WarehouseError) as caught:
        await warehouse.query(sql, {"p": "x"})
    assert caught.value.code == code
    assert await scalar(warehouse, "SELECT 1 AS v") == 1


async def test_a_failed_query_leaves_nothing_to_the_next(engine: Engine) -> None:
    """A statement that fails after its first rows: chDB's session would give those rows to whatever it is asked next."""
    warehouse = await engine.open(readers=1)
    for _ in range(3):
        with pytest.raises(WarehouseError):
            await warehouse.query(
                "SELECT sleepEachRow(0.05) AS v, throwIf(number = 3) AS w FROM numbers(5) "
                "SETTINGS max_block_size = 1, max_threads = 1"
            )
        result = await warehouse.query("SELECT 1 AS v")
        assert (result.columns, list(result.rows)) == (("v",), [(1,)])


async def test_ddl_errors(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(FACT))
    await warehouse.execute(create_sql(FACT))
    with pytest.raises(WarehouseError) as caught:
        await warehouse.execute("CREATE TABLE fact (a Int8) ENGINE = MergeTree ORDER BY a")
    assert caught.value.code == 57
    await warehouse.execute("ALTER TABLE {t:Identifier} DELETE WHERE off = {o:Int64}", {"t": "fact", "o": 1})


# --- schema ----------------------------------------------------------------------------------------------------------


def _with(name: str, values: pa.Array) -> pa.Table:
    data = facts(3)
    index = data.schema.get_field_index(name)
    return data.set_column(index, pa.field(name, values.type, nullable=False), values)


NULLABLE = pa.schema([pa.field(f.name, f.type, nullable=True) for f in FACT.arrow_schema])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (facts(3).drop_columns(["kg"]), "kg: missing"),
        (facts(3).append_column(pa.field("extra", pa.int64(), nullable=False), pa.array([1, 2, 3])), "extra: not declared"),
        (facts(3).select(["off", "part", "plate", "kg", "at"]), "order is"),
        (_with("kg", pa.array([1.7, 2.0, 3.0])), "kg: is double not null, declared int64"),
        (_with("kg", pa.array([1, 2, 3], pa.int32())), "kg: is int32"),
        (_with("plate", pa.array([b"a", b"b", b"c"])), "plate: is binary"),
        (_with("at", pa.array([1, 2, 3], pa.timestamp("ms"))), "at: is timestamp"),
        (facts(3).cast(NULLABLE), "part: is int32, declared"),
        (_with("kg", pa.array([1, None, 3], pa.int64())), "fact.kg: NULL"),
    ],
)
async def test_another_schema_is_refused_before_anything_is_sent(warehouse: Warehouse, data: pa.Table, message: str) -> None:
    await warehouse.execute(create_sql(FACT))
    with pytest.raises(SchemaMismatch, match=message):
        await warehouse.insert(FACT, data, "t")
    assert await scalar(warehouse, "SELECT count() AS n FROM fact") == 0


async def test_the_engine_refuses_null_when_the_declaration_lies(warehouse: Warehouse) -> None:
    """Without the strict settings it would store 0 and say nothing."""
    await warehouse.execute("CREATE TABLE lie (a Int64, b String) ENGINE = MergeTree ORDER BY a")
    lie = TableSchema(
        "lie", (Column("a", "Int64", pa.int64()), Column("b", "Nullable(String)", pa.string(), nullable=True)), ("a",)
    )
    with pytest.raises(WarehouseError) as caught:
        await warehouse.insert(lie, pa.table([[1], pa.array([None], pa.string())], schema=lie.arrow_schema), "t")
    assert caught.value.code == 349
    assert await scalar(warehouse, "SELECT count() AS n FROM lie") == 0


async def test_no_rows_and_no_token(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(FACT))
    await warehouse.insert(FACT, facts(0), "t")
    await warehouse.insert(FACT, facts(5), "t")
    with pytest.raises(WarehouseError, match="needs a deduplication token"):
        await warehouse.insert(FACT, facts(5), "")
    assert await scalar(warehouse, "SELECT count() AS n FROM fact") == 5


async def test_more_than_a_block_is_refused(warehouse: Warehouse) -> None:
    one = TableSchema("one", (Column("a", "UInt8", pa.uint8()),), ("a",))
    await warehouse.execute(create_sql(one))
    many = pa.table([pa.repeat(pa.scalar(0, pa.uint8()), MAX_ROWS + 1)], schema=one.arrow_schema)
    with pytest.raises(SchemaMismatch, match="one block holds at most"):
        await warehouse.insert(one, many, "t")
    wide = TableSchema("wide", (Column("s", "String", pa.string()),), ("s",))
    with pytest.raises(SchemaMismatch, match="bytes; one block holds"):
        await warehouse.insert(wide, pa.table([pa.array(["x" * 2_600_000] * 100)], schema=wide.arrow_schema), "t")
    # As many as one block holds is one block, however it was cut before.
    for pieces in (1, 7):
        await warehouse.insert(one, chunked(many.slice(1), pieces), "full")
    assert await scalar(warehouse, "SELECT count() AS n FROM one") == MAX_ROWS


async def test_the_table_is_missing(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError) as caught:
        await warehouse.insert(FACT, facts(3), "t")
    assert caught.value.code == 60


async def test_what_passes_by_itself_is_unavailable_not_an_error(warehouse: Warehouse) -> None:
    """Too many parts: merging will make it fewer. The caller repeats the insert instead of giving up."""
    sql = create_sql(FACT) + ", parts_to_throw_insert = 1, parts_to_delay_insert = 0, old_parts_lifetime = 1"
    await warehouse.execute(sql)
    await warehouse.insert(FACT, facts(10), "a")
    await warehouse.execute("SYSTEM STOP MERGES fact")

    async def three_more() -> None:
        for i in range(3):
            await warehouse.insert(FACT, facts(10, start=10 * i + 10), f"b{i}")

    with pytest.raises(WarehouseUnavailable) as caught:
        await three_more()
    assert caught.value.code == 252
    await warehouse.execute("ALTER TABLE fact MODIFY SETTING parts_to_throw_insert = 3000")
    await three_more()
    assert await count(warehouse) == (40, 40)


# --- tokens and blocks -----------------------------------------------------------------------------------------------


async def count(warehouse: Warehouse, table: str = "fact") -> tuple[object, ...]:
    """(rows, distinct offsets)."""
    result = await warehouse.query(f"SELECT count() AS n, uniqExact(off) AS d FROM {table}")
    return result.rows[0]


async def test_a_token_inserts_once(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(FACT))
    for _ in range(3):
        await warehouse.insert(FACT, facts(1000), "a")
    assert await count(warehouse) == (1000, 1000)
    await warehouse.insert(FACT, facts(1000, start=5000), "a")  # the token wins over the data
    assert await count(warehouse) == (1000, 1000)
    await warehouse.insert(FACT, facts(1000), "b")  # equal rows under another token are other rows
    assert await count(warehouse) == (2000, 1000)
    await warehouse.insert(FACT, facts(1000, start=1000), NASTY)
    await warehouse.insert(FACT, facts(1000, start=1000), NASTY)
    assert await count(warehouse) == (3000, 2000)


@pytest.mark.parametrize("rows", [500, 20_000, 200_000])
async def test_the_same_rows_in_other_chunks_are_one_block(warehouse: Warehouse, rows: int) -> None:
    await warehouse.execute(create_sql(FACT))
    data = facts(rows)
    for pieces in (1, 5, 2):
        await warehouse.insert(FACT, chunked(data, pieces), "a")
    assert await count(warehouse) == (rows, rows)
    assert (
        await scalar(warehouse, "SELECT count() AS n FROM system.parts WHERE table = 'fact' AND database = currentDatabase()")
        == 1
    )


async def test_guard_one_block_off_counts_twice(engine: Engine) -> None:
    """Guard one_block: without it the same rows, cut otherwise, are inserted again under the same token."""
    seen = {}
    for on in (True, False):
        warehouse = await engine.open(InsertGuards(one_block=on))
        await warehouse.execute("DROP TABLE IF EXISTS fact SYNC")
        await warehouse.execute(create_sql(FACT))
        data = facts(20_000)
        await warehouse.insert(FACT, data, "a")
        await warehouse.insert(FACT, chunked(data, 5), "a")
        seen[on] = await count(warehouse)
        await engine.close()
    assert seen[True] == (20_000, 20_000)
    rows, distinct = seen[False]
    assert isinstance(rows, int)
    assert rows > 20_000
    assert distinct == 20_000


async def test_guard_token_off_counts_twice(engine: Engine) -> None:
    """Guard token: without it a replayed insert is counted again."""
    seen = {}
    for on in (True, False):
        warehouse = await engine.open(InsertGuards(token=on))
        await warehouse.execute("DROP TABLE IF EXISTS fact SYNC")
        await warehouse.execute(create_sql(FACT))
        for _ in range(2):
            await warehouse.insert(FACT, facts(1000), "a")
        seen[on] = await count(warehouse)
        await engine.close()
    assert seen == {True: (1000, 1000), False: (2000, 1000)}


async def test_tokens_survive_reopening(engine: Engine) -> None:
    warehouse = await engine.open()
    await warehouse.execute(create_sql(FACT))
    await warehouse.insert(FACT, facts(1000), "a")
    await engine.close()
    warehouse = await engine.open()
    await warehouse.insert(FACT, chunked(facts(1000), 3), "a")
    assert await count(warehouse) == (1000, 1000)


TOTAL = TableSchema(
    "total", (Column("plate", "String", pa.string()), Column("kg", "Int64", pa.int64())), ("plate",), engine="SummingMergeTree"
)


async def with_view(warehouse: Warehouse) -> None:
    """The fact table, and its sums by a view."""
    await warehouse.execute(create_sql(FACT))
    await warehouse.execute(create_sql(TOTAL))
    await warehouse.execute(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS to_total TO total AS SELECT plate AS plate, kg AS kg FROM fact"
    )


async def test_a_kill_loses_nothing_and_a_replay_completes_the_views(engine: Engine) -> None:
    """Killed with -9 in the middle of inserts: what was acknowledged is there, the replay of all adds only the rest.

    Between kill and replay table and view may disagree (in half the kills, when they hit an insert); afterwards never.
    """
    batches = 40
    await with_view(await engine.open())
    await engine.close()
    body = (
        f"w = await {engine.open_code}\n"
        f"for i in range({batches}):\n"
        "    if i == 10: print('ready', flush=True)\n"
        "    await w.insert(FACT, facts(500, start=500 * i), f'fact-{i}')\n"
        "    await asyncio.sleep(0.02 if i >= 10 else 0)"
    )
    with Script(body) as script:
        await asyncio.to_thread(script.wait_ready)
        await asyncio.sleep(0.1)
        if engine.service is not None:
            await asyncio.to_thread(engine.service.kill)
        script.kill()
    if engine.service is not None:
        await asyncio.to_thread(engine.service.start)
    warehouse = await engine.open()
    rows, distinct = await count(warehouse)
    assert isinstance(rows, int)
    assert 5000 <= rows < 500 * batches
    assert rows == distinct
    for i in range(batches):
        await warehouse.insert(FACT, chunked(facts(500, start=500 * i), 1 + i % 3), f"fact-{i}")
    assert await count(warehouse) == (500 * batches, 500 * batches)
    sums = await warehouse.query("SELECT (SELECT sum(kg) FROM fact) AS facts, (SELECT sum(kg) FROM total) AS totals")
    facts_kg, totals_kg = sums.rows[0]
    assert facts_kg == totals_kg


async def test_racing_inserts_of_one_token(engine: Engine) -> None:
    """Two handles, as two projectors before one of them is fenced, insert the same batches at the same time."""
    first, second = await engine.open(), await engine.open()
    await first.execute(create_sql(FACT))
    for i in range(10):
        batch = facts(500, start=500 * i)
        await asyncio.gather(first.insert(FACT, batch, f"t{i}"), second.insert(FACT, chunked(batch, 2), f"t{i}"))
    assert await count(first) == (5000, 5000)


async def test_the_window_counts_parts(warehouse: Warehouse) -> None:
    """A window of 5 holds one insert of 4 partitions and one part of another: the second of three inserts is forgotten."""
    for window, expected in ((5, 16), (10_000, 12)):
        await warehouse.execute("DROP TABLE IF EXISTS fact SYNC")
        sql = create_sql(PARTITIONED).replace("deduplication_window = 10000", f"deduplication_window = {window}")
        await warehouse.execute(sql)
        for token in ("a", "b", "c", "b"):
            await warehouse.insert(PARTITIONED, facts(4, parts=4), token)
        assert await scalar(warehouse, "SELECT count() AS n FROM fact") == expected


async def test_views_deduplicate_where_their_target_has_a_window(warehouse: Warehouse) -> None:
    await with_view(warehouse)
    await warehouse.execute("CREATE TABLE open_total (plate String, kg Int64) ENGINE = SummingMergeTree ORDER BY plate")
    await warehouse.execute("CREATE MATERIALIZED VIEW to_open_total TO open_total AS SELECT plate AS plate, kg AS kg FROM fact")
    for pieces in (1, 3, 2):
        await warehouse.insert(FACT, chunked(facts(1000), pieces), "a")
    kg = await scalar(warehouse, "SELECT sum(kg) AS kg FROM fact")
    assert isinstance(kg, int)
    assert await scalar(warehouse, "SELECT sum(kg) AS kg FROM total") == kg
    assert (
        await scalar(warehouse, "SELECT sum(kg) AS kg FROM open_total") == 3 * kg
    )  # why create_sql gives every table a window


async def test_an_insert_that_failed_half_way_is_completed_by_its_replay(warehouse: Warehouse) -> None:
    """The second view throws: the table and the first view have the rows. The same insert again gives the second its own."""
    targets = [TableSchema(f"target{i}", (Column("off", "Int64", pa.int64()),), ("off",)) for i in (1, 2)]
    await warehouse.execute(create_sql(FACT))
    for target in targets:
        await warehouse.execute(create_sql(target))
        guard = "throwIf((SELECT count() FROM target1) >= 0) = 0" if target is targets[1] else "1"
        await warehouse.execute(
            f"CREATE MATERIALIZED VIEW to_{target.name} TO {target.name} AS SELECT off AS off FROM fact WHERE {guard}"
        )
    with pytest.raises(WarehouseError) as caught:
        await warehouse.insert(FACT, facts(1000), "a")
    assert caught.value.code == 395
    await warehouse.execute("DROP VIEW to_target2 SYNC")
    await warehouse.execute("CREATE MATERIALIZED VIEW to_target2 TO target2 AS SELECT off AS off FROM fact")
    for _ in range(2):
        await warehouse.insert(FACT, facts(1000), "a")
    for table in ("fact", "target1", "target2"):
        assert await count(warehouse, table) == (1000, 1000)


async def test_truncate_forgets_tokens_and_delete_keeps_them(warehouse: Warehouse) -> None:
    """Operations that look alike and are not: after a lightweight DELETE a replay restores nothing."""
    await warehouse.execute(create_sql(FACT))
    await warehouse.insert(FACT, facts(100), "a")
    await warehouse.execute("TRUNCATE TABLE fact")
    await warehouse.insert(FACT, facts(100), "a")
    assert await count(warehouse) == (100, 100)
    await warehouse.execute("DELETE FROM fact WHERE 1")
    await warehouse.insert(FACT, facts(100), "a")
    assert await count(warehouse) == (0, 0)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROW = st.tuples(st.integers(0, 2**31 - 1), st.integers(-(2**63), 2**63 - 1), TEXT, st.integers(0, 2**40))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, min_size=1, max_size=50), pieces=st.integers(1, 5))
async def test_any_rows_come_back(warehouse: Warehouse, rows: list[tuple[int, int, str, int]], pieces: int) -> None:
    await warehouse.execute("DROP TABLE IF EXISTS fact SYNC")
    await warehouse.execute(create_sql(FACT))
    part, off, plate, at = zip(*rows, strict=True)
    columns = [part, off, plate, off, at]
    data = pa.table([pa.array(v, c.arrow) for v, c in zip(columns, FACT.columns, strict=True)], schema=FACT.arrow_schema)
    await warehouse.insert(FACT, chunked(data, pieces), "t")
    result = await warehouse.query(
        "SELECT part AS part, off AS off, plate AS plate, toUnixTimestamp64Milli(at) AS at FROM fact"
    )
    assert sorted(result.rows) == sorted((p, o, s, a) for p, o, s, a in rows)


# --- concurrency and life --------------------------------------------------------------------------------------------


async def test_a_long_query_holds_up_neither_reads_nor_inserts(engine: Engine) -> None:
    warehouse = await engine.open(readers=2)
    await warehouse.execute(create_sql(FACT))
    long = asyncio.create_task(
        warehouse.query("SELECT sum(sleepEachRow(0.5)) AS s FROM numbers(4) SETTINGS max_block_size = 1, max_threads = 1")
    )
    await asyncio.sleep(0.3)
    start = time.monotonic()
    for i in range(5):
        assert await scalar(warehouse, "SELECT 1 AS v") == 1
        await warehouse.insert(FACT, facts(100, start=100 * i), f"t{i}")
    assert await count(warehouse) == (500, 500)
    assert time.monotonic() - start < 1.5
    assert not long.done()
    await long


async def test_many_readers_at_once(warehouse: Warehouse) -> None:
    results = await asyncio.gather(*(scalar(warehouse, "SELECT {i:Int64} * 2 AS v", i=i) for i in range(100)))
    assert results == [2 * i for i in range(100)]


async def test_closed_is_closed(engine: Engine) -> None:
    warehouse = await engine.open()
    await warehouse.close()
    await warehouse.close()
    with pytest.raises(WarehouseError, match="the warehouse is closed"):
        await warehouse.query("SELECT 1 AS v")


async def test_a_cancelled_insert_can_be_repeated(warehouse: Warehouse) -> None:
    await warehouse.execute(create_sql(FACT))
    for i in range(10):
        task = asyncio.create_task(warehouse.insert(FACT, facts(500, start=500 * i), f"t{i}"))
        await asyncio.sleep(0.001 * i)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await warehouse.insert(FACT, facts(500, start=500 * i), f"t{i}")
    assert await count(warehouse) == (5000, 5000)


# --- chDB alone ------------------------------------------------------------------------------------------------------


async def test_chdb_serves_one_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("chdb")
    warehouse = await ChdbWarehouse.open(directory)
    try:
        printed = await asyncio.to_thread(
            Script(
                "from infra.chdb_warehouse import ChdbWarehouse\n"
                "try:\n"
                f"    await ChdbWarehouse.open(Path({str(directory)!r}))\n"
                "except WarehouseUnavailable as error:\n"
                "    print(error.code, error)"
            ).run
        )
        code, text = printed.strip().split(" ", 1)
        assert code == "76"
        assert text.startswith(f"{directory} 正被另一个进程使用")
        assert "is in use by another process" in text
        with pytest.raises(WarehouseUnavailable, match="another embedded warehouse open"):
            await ChdbWarehouse.open(directory / "other")
    finally:
        await warehouse.close()


async def test_chdb_refuses_use_after_fork(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("chdb")
    printed = await asyncio.to_thread(
        Script(
            "from infra.chdb_warehouse import ChdbWarehouse\n"
            f"w = await ChdbWarehouse.open(Path({str(directory)!r}))\n"
            "pid = os.fork()\n"
            "if not pid:\n"
            "    try: await w.query('SELECT 1 AS v')\n"
            "    except WarehouseError as error: print(error, flush=True)\n"
            "    await w.close()\n"
            "    os._exit(0)\n"
            "os.waitpid(pid, 0)\n"
            "r = await w.query('SELECT 1 AS v')\n"
            "print(list(r.rows))\n"
            "await w.close()"
        ).run
    )
    refused, alive = printed.strip().splitlines()
    assert "fork is not supported" in refused
    assert alive == "[(1,)]"


def test_chdb_directory_with_a_question_mark(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match="question mark"):
        asyncio.run(ChdbWarehouse.open(tmp_path_factory.mktemp("chdb") / "a?b"))


# --- ClickHouse alone ------------------------------------------------------------------------------------------------


async def test_clickhouse_that_is_not_there() -> None:
    tcp, web = free_ports(2)
    with pytest.raises(WarehouseUnavailable, match="cannot reach the warehouse at"):
        await ClickHouseWarehouse.open(f"clickhouse://127.0.0.1:{tcp}/hengliu?http_port={web}")


@pytest.mark.clickhouse
async def test_clickhouse_wrong_password_is_told_and_harms_nobody(clickhouse_service: ClickHouseService) -> None:
    wrong = ClickHouseAddress.parse(clickhouse_service.url)
    for _ in range(3):
        with pytest.raises(WarehouseError, match="refused the user or password") as caught:
            await ClickHouseWarehouse.open(
                f"clickhouse://hengliu:wrong@127.0.0.1:{wrong.port}/hengliu?http_port={wrong.http_port}"
            )
        assert caught.value.code == 516
        assert wrong.password not in str(caught.value)
    warehouse = await ClickHouseWarehouse.open(clickhouse_service.url)
    assert await scalar(warehouse, "SELECT currentUser() AS u") == "hengliu"
    await warehouse.close()


@pytest.mark.clickhouse
async def test_clickhouse_that_goes_and_comes_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    service = ClickHouseService(tmp_path_factory.mktemp("clickhouse"), password="a b:c/d@e?f")
    async with service as url:
        warehouse = await ClickHouseWarehouse.open(url, readers=1)
        await warehouse.execute(create_sql(FACT))
        await warehouse.insert(FACT, facts(100), "a")
        await asyncio.to_thread(service.kill)
        for call in (
            warehouse.query("SELECT 1 AS v"),
            warehouse.execute("DROP TABLE IF EXISTS nothing"),
            warehouse.insert(FACT, facts(100, start=100), "b"),
        ):
            with pytest.raises(WarehouseUnavailable) as caught:
                await call
            assert "连接不上仓库" in str(caught.value)
        assert await asyncio.to_thread(service.start) == url
        await warehouse.insert(FACT, facts(100), "a")
        await warehouse.insert(FACT, facts(100, start=100), "b")
        await warehouse.execute("DROP TABLE IF EXISTS nothing")
        assert await count(warehouse) == (200, 200)
        await warehouse.close()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8123/x", "clickhouse:///x", "clickhouse://h:9000/x?secure=1", "clickhouse://h:9000/a;b", "clickhouse://h:99999/x",
     "clickhouse://u:secret@h:9000/x?http_port=y"],
)  # fmt: skip
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(ValueError, match="malformed") as caught:
        ClickHouseAddress.parse(url)
    assert "secret" not in str(caught.value)
