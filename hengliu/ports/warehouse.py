"""The warehouse port: columnar tables that answer questions, fed by projections alone.

Both engines (chDB embedded, ClickHouse server) take the same SQL with ``{name:Type}`` parameters and give the same
values and Python types back.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Protocol, TypeAlias, Union

import pyarrow as pa

Value: TypeAlias = Union[  # noqa: UP007 - recursive
    bool, int, float, str, Decimal, date, datetime, Sequence["Value"], Mapping[str, "Value"], None
]
"""What a query returns: datetimes are aware and UTC (DateTime too); Decimal keeps its declared scale; Enum, LowCardinality,
UUID and IP addresses are str; Array and Tuple are lists; Map is a dict with str keys. Text that is not UTF-8 and
aggregate states are errors."""

Parameter: TypeAlias = bool | int | float | str | Decimal | date | Sequence[int] | Sequence[str]
"""What a query takes. Times go in as epoch milliseconds (Int64) with ``fromUnixTimestamp64Milli``; NULL is never bound."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its ClickHouse type and the exact Arrow type that an insert must carry."""

    name: str
    type: str
    arrow: pa.DataType
    transport: bool = False
    """Position and batch-range columns, which differ between two correct runs; equality of tables leaves them out."""
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table as declared. ``create_sql`` is made from it; a drift test compares it with the engine."""

    name: str
    columns: tuple[Column, ...]
    order_by: tuple[str, ...]
    partition_by: str = ""
    engine: str = "MergeTree"

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns])

    @property
    def content_columns(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if not c.transport)


DEDUPLICATION_WINDOW: Final = 10_000
"""How many **parts** (insert x partition x block) a table remembers the tokens of; the engine's default is 0, off."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_EXPRESSION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\([A-Za-z0-9_, ()]*\))?\Z")
_TYPE: Final = re.compile(r"[A-Z][A-Za-z0-9]*(?:\((?:[\w\s(),=.+/-]|'(?:[^'\\]|\\.)*')*\))?\Z")
_ENGINE: Final = re.compile(
    r"(?:Replacing|Summing|Aggregating|CoalescingMerge|Collapsing|VersionedCollapsing)?MergeTree(?:\([\w, ()]*\))?\Z"
)


def identifier(name: str) -> str:
    """``name`` if it may stand in SQL as a table or column name without quotes.

    Raises:
        ValueError: it may not.
    """
    if not _IDENTIFIER.match(name):
        raise ValueError(f"not an identifier: {name!r}")
    return name


def _bare_type(declared: str) -> str:
    for wrapper in ("LowCardinality(", "Nullable("):
        if declared.startswith(wrapper):
            declared = declared[len(wrapper) : -1]
    return declared


def _arrow_fits(declared: str, arrow: pa.DataType) -> bool:
    """Whether every value of the Arrow type is stored unchanged. Types not listed are left to the engine."""
    bare = _bare_type(declared)
    if match := re.match(r"(U?)Int(\d+)\Z", bare):
        unsigned, bits = bool(match.group(1)), int(match.group(2))
        return bool(
            pa.types.is_integer(arrow)
            and (
                (pa.types.is_unsigned_integer(arrow) == unsigned and arrow.bit_width <= bits)
                or (not unsigned and pa.types.is_unsigned_integer(arrow) and arrow.bit_width < bits)
            )
        )
    if match := re.match(r"Decimal\((\d+),\s*(\d+)\)\Z", bare):
        return bool(
            pa.types.is_decimal(arrow) and arrow.precision <= int(match.group(1)) and arrow.scale == int(match.group(2))
        )
    if match := re.match(r"DateTime64\((\d), 'UTC'\)\Z", bare):
        return bool(pa.types.is_timestamp(arrow) and arrow.unit == {"0": "s", "3": "ms", "6": "us"}.get(match.group(1)))
    if bare.startswith("DateTime"):
        return False
    if bare in {"Float32", "Float64"}:
        return bool(pa.types.is_floating(arrow) and arrow.bit_width <= int(bare[5:]))
    if bare == "Bool":
        return bool(pa.types.is_boolean(arrow))
    if bare == "String":
        text = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
        return bool(pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text))
    return True


def check_declaration(table: TableSchema) -> None:
    """Refuse a declaration that cannot be written as SQL or whose Arrow types the engine would change in silence.

    Every time declares 'UTC': without a zone the two engines read it back differently. A NULL in a column that is not
    nullable becomes 0 or '', so ``nullable`` and ``Nullable(...)`` must agree.

    Raises:
        ValueError: names the table, the column and the fault.
    """
    identifier(table.name)
    names = [identifier(c.name) for c in table.columns]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{table.name}: columns are missing or named twice")
    if not table.order_by:
        raise ValueError(f"{table.name}: ORDER BY is missing; the engine would accept a table without a key")
    for expression in (*table.order_by, *((table.partition_by,) if table.partition_by else ())):
        if not _EXPRESSION.match(expression) or not any(re.search(rf"\b{name}\b", expression) for name in names):
            raise ValueError(f"{table.name}: {expression!r} is no column or function of columns")
    if not _ENGINE.match(table.engine):
        raise ValueError(f"{table.name}: engine {table.engine!r} is not of the MergeTree family")
    for column in table.columns:
        where = f"{table.name}.{column.name}"
        if not _TYPE.match(column.type):
            raise ValueError(f"{where}: {column.type!r} is not a type")
        if column.nullable != column.type.startswith(("Nullable(", "LowCardinality(Nullable(")):
            raise ValueError(f"{where}: nullable={column.nullable} but the type is {column.type}")
        if not _arrow_fits(column.type, column.arrow):
            raise ValueError(f"{where}: {column.arrow} is not stored as {column.type} unchanged")


def create_sql(table: TableSchema) -> str:
    """``CREATE TABLE IF NOT EXISTS`` for a declared table, the same on both engines. Targets of views need it too.

    Settings: the deduplication window, without which a repeated token inserts again; and the two fsync settings, off by
    default, without which a power loss takes acknowledged inserts that the log already counts as projected (on one
    machine nothing else holds a copy; they cost 1-2 ms an insert).

    Raises:
        ValueError: see check_declaration.
    """
    check_declaration(table)
    columns = ",\n".join(f"    {c.name} {c.type}" for c in table.columns)
    partition = f"PARTITION BY {table.partition_by}\n" if table.partition_by else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name}\n(\n{columns}\n)\n"
        f"ENGINE = {table.engine}\n{partition}ORDER BY ({', '.join(table.order_by)})\n"
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
        "fsync_after_insert = 1, fsync_part_directory = 1"
    )


def add_column_sql(table: TableSchema, name: str) -> str:
    """``ALTER TABLE ... ADD COLUMN IF NOT EXISTS`` for one declared column, at its declared place.

    Raises:
        ValueError: no such column, or see check_declaration.
    """
    check_declaration(table)
    names = [c.name for c in table.columns]
    if name not in names:
        raise ValueError(f"{table.name} declares no column {name!r}")
    index = names.index(name)
    place = f"AFTER {names[index - 1]}" if index else "FIRST"
    return f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {name} {table.columns[index].type} {place}"


class WarehouseError(Exception):
    """A statement failed. ``code`` is ClickHouse's error code, the same on both engines; 0 when there is none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class WarehouseUnavailable(WarehouseError):
    """The warehouse cannot be reached; retry with the same token."""


class SchemaMismatch(WarehouseError):
    """An insert whose Arrow schema is not exactly the declared one; refused before anything is sent."""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a query, in order, with their column names."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]

    def dicts(self) -> list[dict[str, Value]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Warehouse(Protocol):
    """A columnar store. One writer per table; many readers."""

    async def execute(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> None:
        """Run one statement that returns nothing (DDL, maintenance)."""
        ...

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Result:
        """Run one SELECT. Alias every expression; declare a zone on every time."""
        ...

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        """Insert all rows as **one block** under a deduplication token; the same token twice inserts once.

        No rows: nothing is sent. Raises SchemaMismatch if ``data.schema`` is not exactly ``table.arrow_schema`` or the
        rows are more than one block holds (1,048,448 rows, 256 MB). After WarehouseUnavailable, or when the call was
        cancelled, the rows may or may not be in: repeat it with the same token and the same rows.
        """
        ...

    async def close(self) -> None: ...


def check_schema(table: TableSchema, data: pa.Table) -> None:
    """Refuse what the engines would take silently: NULL as 0, floats cut to integers, columns left out or reordered.

    Raises:
        SchemaMismatch: names each column that differs.
    """
    expected = table.arrow_schema
    if data.schema.equals(expected, check_metadata=False):
        for column in table.columns:
            if not column.nullable and data.column(column.name).null_count:
                raise SchemaMismatch(f"{table.name}.{column.name}: NULL in a column that is not nullable")
        return
    have = {f.name: f for f in data.schema}
    want = {f.name: f for f in expected}
    faults = [f"{name}: missing" for name in want if name not in have]
    faults += [f"{name}: not declared" for name in have if name not in want]
    faults += [
        f"{name}: is {have[name].type}{'' if have[name].nullable else ' not null'}, declared {want[name].type}"
        f"{'' if want[name].nullable else ' not null'}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if not faults:
        faults = [f"order is {[f.name for f in data.schema]}, declared {[f.name for f in expected]}"]
    raise SchemaMismatch(f"{table.name}: " + "; ".join(faults))
