"""The warehouse port: columnar tables that answer questions, fed by projections alone.

Both engines (chDB embedded, ClickHouse server) take the same SQL with ``{name:Type}`` parameters and give the same
values and Python types back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol, TypeAlias, Union

import pyarrow as pa

Value: TypeAlias = Union[bool, int, float, str, Decimal, date, datetime, Sequence["Value"], None]  # noqa: UP007 - recursive
"""What a query returns: datetimes are aware and UTC; Decimal keeps its declared scale; Enum and LowCardinality are str."""

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

        Raises SchemaMismatch if ``data.schema`` is not exactly ``table.arrow_schema``.
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
