"""Bringing the warehouse to what the code declares, and refusing to start when it is not there.

Generated tables are created from their declaration; a family that gained optional members gains the columns. Hand-declared
tables have numbered files, ``NNNN_what.sql``, one statement each, applied in order, once, and recorded in
``schema_migration`` with the digest of the file. Every statement is idempotent, since a crash may come between a statement
and its record.

No table is partitioned. A back-fill brings thirty years in one insert: by month that is 384 partitions, which the engine
refuses (``max_partitions_per_insert_block`` = 100), and every partition touched is one part, so that one such insert would
push dozens of tokens out of the deduplication window and would not be atomic. Unpartitioned, an insert is one part: all or
nothing, and the window counts inserts. What partitions usually give is had otherwise: the sorting key prunes by time within
the few enterprises, and nothing is dropped by age, since everything is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hengliu.events.family import Text
from hengliu.ports.warehouse import (
    DEDUPLICATION_WINDOW,
    TableSchema,
    Warehouse,
    add_column_sql,
    create_sql,
)
from projections.table import Table
from projections.tables import projection_position

__all__ = ["MESSAGES", "Drift", "MigrationChanged", "SchemaDrift", "check_drift", "migrate"]

MESSAGES: Mapping[str, Text] = {
    "projection.drift": Text(
        "仓库的表与声明不一致，拒绝启动：{faults}", "the warehouse's tables are not as declared, refusing to start: {faults}"
    ),
    "projection.migration-changed": Text(
        "迁移文件 {file} 在执行之后被修改；请另写一个新的迁移文件",
        "migration {file} was changed after it had been applied; write a new one instead",
    ),
}


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between declaration and engine."""

    table: str
    column: str
    declared: str
    found: str

    def __str__(self) -> str:
        where = f"{self.table}.{self.column}" if self.column else self.table
        return f"{where}: declared {self.declared or 'nothing'}, found {self.found or 'nothing'}"


class SchemaDrift(Exception):
    """The engine's tables differ from the declared ones in a way that no migration covers."""

    def __init__(self, drifts: Iterable[Drift]) -> None:
        self.drifts = tuple(drifts)
        self.text = _text("projection.drift", faults="; ".join(map(str, self.drifts)))
        super().__init__(f"{self.text.zh} / {self.text.en}")


class MigrationChanged(Exception):
    """A file that was applied has other content now."""

    def __init__(self, file: str) -> None:
        self.text = _text("projection.migration-changed", file=file)
        super().__init__(f"{self.text.zh} / {self.text.en}")


def _text(code: str, **parameters: str) -> Text:
    return Text(MESSAGES[code].zh.format(**parameters), MESSAGES[code].en.format(**parameters))


_RECORD_SQL = f"""CREATE TABLE IF NOT EXISTS schema_migration
(
    table_name String,
    version Int64,
    file String,
    digest String,
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree ORDER BY (table_name, version)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, fsync_after_insert = 1, fsync_part_directory = 1"""


async def migrate(warehouse: Warehouse, tables: Iterable[Table]) -> None:
    """Create, migrate and check every table, and the projector's own ``projection_position``. Idempotent.

    Raises:
        SchemaDrift: what stands in the engine is neither the declaration nor an older state of it.
        MigrationChanged: an applied migration file was edited.
    """
    declared = tuple(tables)
    folders = [(t.name, t.migrations) for t in declared if t.migrations is not None]
    folders.append((projection_position.SCHEMA.name, projection_position.MIGRATIONS))
    await warehouse.execute(_RECORD_SQL)
    applied = await _applied(warehouse)
    for name, folder in folders:
        await _apply(warehouse, name, folder, applied)
    generated = [t for t in declared if t.migrations is None]
    columns = await _columns(warehouse)
    for table in generated:
        if table.name not in columns:
            await warehouse.execute(create_sql(table.schema))
            continue
        for column in table.schema.columns:
            if column.name in columns[table.name]:
                continue
            if column.nullable:
                await warehouse.execute(add_column_sql(table.schema, column.name))
            elif column.name in table.defaults:
                added = add_column_sql(table.schema, column.name)
                place = added.rindex(f" {column.type} ") + len(column.type) + 2
                await warehouse.execute(f"{added[:place]}DEFAULT {table.defaults[column.name]} {added[place:]}")
    drifts = await check_drift(warehouse, [*(t.schema for t in declared), projection_position.SCHEMA])
    if drifts:
        raise SchemaDrift(drifts)


async def _applied(warehouse: Warehouse) -> dict[tuple[str, int], str]:
    result = await warehouse.query(
        "SELECT table_name AS table_name, version AS version, any(digest) AS digest FROM schema_migration "
        "GROUP BY table_name, version"
    )
    return {(str(name), int(str(version))): str(digest) for name, version, digest in result.rows}


def _files(folder: Path) -> list[tuple[str, int, str]]:
    """(file name, version, statement) of a folder's migrations, in order."""
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(file.name, int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


async def _apply(warehouse: Warehouse, name: str, folder: Path, applied: Mapping[tuple[str, int], str]) -> None:
    for file, version, statement in _files(folder):
        digest = sha256(statement.encode()).hexdigest()
        before = applied.get((name, version))
        if before is not None:
            if before != digest:
                raise MigrationChanged(f"{name}/{file}")
            continue
        await warehouse.execute(statement)
        await warehouse.execute(
            "INSERT INTO schema_migration (table_name, version, file, digest) "
            "VALUES ({table_name:String}, {version:Int64}, {file:String}, {digest:String})",
            {"table_name": name, "version": version, "file": file, "digest": digest},
        )


def _plain(type_: str) -> str:
    return "".join(type_.split())


async def _columns(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """Table to column to type, as the engine has them."""
    result = await warehouse.query(
        "SELECT table AS table_name, name AS name, type AS type FROM system.columns WHERE database = currentDatabase()"
    )
    found: dict[str, dict[str, str]] = {}
    for table, column, type_ in result.rows:
        found.setdefault(str(table), {})[str(column)] = str(type_)
    return found


async def check_drift(warehouse: Warehouse, schemas: Iterable[TableSchema]) -> list[Drift]:
    """Every difference in columns, types, sorting key, engine and deduplication window. Column order is free: inserts name
    their columns."""
    columns = await _columns(warehouse)
    result = await warehouse.query(
        "SELECT name AS name, sorting_key AS sorting_key, partition_key AS partition_key, engine_full AS engine_full "
        "FROM system.tables WHERE database = currentDatabase()"
    )
    tables = {str(row[0]): tuple(str(v) for v in row[1:]) for row in result.rows}
    drifts = []
    for schema in schemas:
        if schema.name not in tables:
            drifts.append(Drift(schema.name, "", "a table", ""))
            continue
        have = columns.get(schema.name, {})
        want = {c.name: c.type for c in schema.columns}
        drifts += [
            Drift(schema.name, name, want.get(name, ""), have.get(name, ""))
            for name in {**want, **have}
            if _plain(want.get(name, "")) != _plain(have.get(name, ""))
        ]
        sorting, partition, engine = tables[schema.name]
        keys = (", ".join(schema.order_by), schema.partition_by, schema.engine)
        for what, declared, found in (
            ("ORDER BY", keys[0], sorting),
            ("PARTITION BY", keys[1], partition),
            ("ENGINE", keys[2], engine.partition(" PARTITION BY ")[0].partition(" ORDER BY ")[0]),
        ):
            if _plain(declared) != _plain(found) and f"({_plain(declared)})" != _plain(found):
                drifts.append(Drift(schema.name, what, declared, found))
        window = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
        if window not in engine:
            drifts.append(Drift(schema.name, "SETTINGS", window, "another window or none"))
    return drifts
