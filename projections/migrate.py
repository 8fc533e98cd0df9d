"""Bringing the warehouse to what the code declares, and refusing to start when it is not there.

Generated tables are created from their declaration; a family that gained optional members gains the columns. Hand-declared
tables have numbered files (``hengliu.ports.migration`` runs them). Every statement can run twice, since a crash may come
anywhere.

No table is partitioned. A back-fill brings thirty years in one insert: by month that is 384 partitions, which the engine
refuses (``max_partitions_per_insert_block`` = 100), and every partition touched is one part, so that one such insert would
push hundreds of tokens out of the deduplication window and would not be atomic. Unpartitioned, an insert is one part: all or
nothing, and the window counts inserts. What partitions usually give is had otherwise: sorting keys begin with the week
(``projections.table.week``), and nothing is dropped by age, since everything is kept.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from hengliu.events.family import Text
from hengliu.ports.clock import Clock, SystemClock
from hengliu.ports.migration import Drift, Migration, apply_migrations, read_migrations, schema_drift
from hengliu.ports.warehouse import Column, TableSchema, Warehouse, add_column_sql, create_sql
from projections.table import Table
from projections.tables import projection_position

__all__ = ["MESSAGES", "SchemaDrift", "declared_migrations", "declared_schemas", "migrate"]

MESSAGES: Final[Mapping[str, Text]] = {
    "projection.drift": Text(
        "仓库的表与声明不一致，拒绝启动：{faults}", "the warehouse's tables are not as declared, refusing to start: {faults}"
    )
}


class SchemaDrift(Exception):
    """The engine's tables differ from the declared ones in a way that no migration covers."""

    def __init__(self, drifts: Iterable[Drift]) -> None:
        self.drifts = tuple(drifts)
        faults = "; ".join(f"{d.table}{'.' if d.column else ''}{d.column}: {d.declared} / {d.found}" for d in self.drifts)
        self.text = MESSAGES["projection.drift"].filled(faults=faults)
        super().__init__(self.text.both())


def declared_migrations(tables: Iterable[Table]) -> list[Migration]:
    """The files of all hand-declared tables, and of the projector's own ``projection_position``."""
    folders = [(t.name, t.migrations) for t in tables if t.migrations is not None]
    folders.append((projection_position.SCHEMA.name, projection_position.MIGRATIONS))
    return [migration for name, folder in folders for migration in read_migrations(name, folder)]


def declared_schemas(tables: Iterable[Table]) -> list[TableSchema]:
    """Everything that the warehouse must have."""
    return [*(t.schema for t in tables), projection_position.SCHEMA]


async def migrate(warehouse: Warehouse, tables: Iterable[Table], clock: Clock = SystemClock()) -> None:  # noqa: B008 (no state)
    """Create, migrate and check every table. Idempotent. ``clock`` dates the records of migrations.

    Raises:
        SchemaDrift: what stands in the engine is neither the declaration nor an older state of it.
        MigrationError: a migration file that must not run, or was edited after it ran.
    """
    declared = tuple(tables)
    await apply_migrations(warehouse, declared_migrations(declared), clock.now_ms())
    columns = await _columns(warehouse)
    for table in declared:
        if table.migrations is not None:
            continue
        if table.name not in columns:
            await warehouse.execute(create_sql(table.schema))
            continue
        for column in table.schema.columns:
            if column.name not in columns[table.name] and (column.nullable or column.name in table.defaults):
                await warehouse.execute(_add_column(table, column))
    drifts = await schema_drift(warehouse, declared_schemas(declared))
    if drifts:
        raise SchemaDrift(drifts)


def _add_column(table: Table, column: Column) -> str:
    """Rows that are there already read NULL in a column that may be NULL, else the model's default."""
    sql = add_column_sql(table.schema, column.name)
    if column.nullable:
        return sql
    place = sql.rindex(f" {column.type} ") + len(column.type) + 2
    return f"{sql[:place]}DEFAULT {table.defaults[column.name]} {sql[place:]}"


async def _columns(warehouse: Warehouse) -> dict[str, set[str]]:
    """Table to its columns, as the engine has them."""
    result = await warehouse.query(
        "SELECT table AS table_name, name AS name FROM system.columns WHERE database = currentDatabase()"
    )
    found: dict[str, set[str]] = {}
    for table, column in result.rows:
        found.setdefault(str(table), set()).add(str(column))
    return found
