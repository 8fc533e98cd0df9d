"""Numbered SQL files over any Warehouse: applied in order, once, recorded; and the comparison of tables with declarations.

A folder holds the migrations of one scope (a table, or a set of tables): ``0001_create.sql``, ``0002_add_axles.sql`` ...,
each with one or more statements ended by semicolons. Protocol, for each file that is not recorded:

1. run its statements in order;
2. record (scope, number, file name, digest) in ``schema_migration``, under a token made of the three.

A crash after any statement, or between 1 and 2, is repaired by the next start, which runs the whole file again: ``lint``
therefore refuses a statement that cannot run twice. Two processes that start at once do the same work twice, to the same
end, and the token leaves one record.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import pyarrow as pa

from hengliu.events.family import Text
from hengliu.ports.warehouse import DEDUPLICATION_WINDOW, Column, TableSchema, Warehouse, create_sql

MESSAGES: Final[Mapping[str, Text]] = {
    "migration.changed": Text(
        "迁移文件 {file} 执行之后被修改；请另写新文件", "migration {file} was changed after it was applied; write a new file"
    ),
    "migration.gap": Text(
        "{scope} 的迁移编号不连续：应为 {expected}，却是 {found}",
        "migrations of {scope} are not numbered without gaps: expected {expected}, found {found}",
    ),
    "migration.downgrade": Text(
        "仓库已执行 {file}，本版本没有它：拒绝以旧版本启动",
        "the warehouse has applied {file}, which this version does not have: refusing to start an older version",
    ),
    "migration.name": Text("{file} 不是 NNNN_name.sql 这样的文件名", "{file} is not named NNNN_name.sql"),
    "migration.lint": Text("迁移文件 {file}：{fault}", "migration {file}: {fault}"),
}
"""Texts for people, by code."""


class MigrationError(Exception):
    """A migration that must not run. ``code`` is a key of MESSAGES; the message is in both languages."""

    def __init__(self, code: str, **parameters: object) -> None:
        self.code = code
        self.text = MESSAGES[code].filled(**parameters)
        super().__init__(self.text.both())


RECORD: Final = TableSchema(
    "schema_migration",
    (
        Column("table_name", "String", pa.string()),
        Column("version", "Int64", pa.int64()),
        Column("file", "String", pa.string()),
        Column("digest", "String", pa.string()),
        Column("at", "DateTime64(3, 'UTC')", pa.timestamp("ms", "UTC")),
    ),
    order_by=("table_name", "version"),
)
"""What has been applied: scope, number, file name, SHA-256 of the file's text, when."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    scope: str
    number: int
    file: str
    text: str

    @property
    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        return split_statements(self.text)

    def __str__(self) -> str:
        return f"{self.scope}/{self.file}"


# --- text of statements ----------------------------------------------------------------------------------------------

_COMMENT: Final = r"--[^\n]*|\#[ !][^\n]*|/\*.*?\*/"
LEXEME: Final = re.compile(
    r"'(?:[^'\\]|\\.|'')*'"  # string
    r'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`'  # quoted names
    rf"|{_COMMENT}"
    r"|\$(\w*)\$.*?\$\1\$",  # heredoc
    re.DOTALL,
)
"""What in a statement is not code: strings, quoted names, comments, heredocs."""


def blank_quoted(sql: str) -> str:
    """``sql`` at the same length with every string, quoted name, comment and heredoc blanked out."""
    return LEXEME.sub(lambda m: " " * len(m.group()), sql)


def split_statements(sql: str) -> list[str]:
    """The statements between top-level semicolons, stripped; what holds nothing but comments is left out."""
    bare = blank_quoted(sql)
    out, start = [], 0
    for end in [*(m.start() for m in re.finditer(";", bare)), len(sql)]:
        piece = sql[start:end].strip()
        if re.sub(_COMMENT, "", piece, flags=re.DOTALL).strip():
            out.append(piece)
        start = end + 1
    return out


_RERUNNABLE: Final = (
    re.compile(r"CREATE\s+(?:MATERIALIZED\s+VIEW|TABLE|VIEW|DICTIONARY)\s+IF\s+NOT\s+EXISTS\b", re.IGNORECASE),
    re.compile(r"CREATE\s+OR\s+REPLACE\s+VIEW\b", re.IGNORECASE),
    re.compile(r"DROP\s+(?:TABLE|VIEW|DICTIONARY)\s+IF\s+EXISTS\b", re.IGNORECASE),
    re.compile(r"ALTER\s+TABLE\s+\w+\s+(?:ADD\s+(?:COLUMN|INDEX|PROJECTION|CONSTRAINT)\s+IF\s+NOT\s+EXISTS)\b", re.IGNORECASE),
    re.compile(r"ALTER\s+TABLE\s+\w+\s+DROP\s+(?:COLUMN|INDEX|PROJECTION|CONSTRAINT)\s+IF\s+EXISTS\b", re.IGNORECASE),
    re.compile(
        r"ALTER\s+TABLE\s+\w+\s+(?:MODIFY\s+(?:SETTING|COLUMN\s+IF\s+EXISTS|ORDER\s+BY|TTL)|RENAME\s+COLUMN\s+IF\s+EXISTS)\b",
        re.IGNORECASE,
    ),
)


def lint(migration: Migration) -> list[str]:
    """Faults of a file, in English for its author: statements that cannot run twice, tables that lose data in silence."""
    faults = []
    if not migration.statements:
        faults.append("holds no statement")
    for statement in migration.statements:
        bare = " ".join(blank_quoted(statement).split())
        head = bare[:60]
        if not any(pattern.match(bare) for pattern in _RERUNNABLE):
            faults.append(f"cannot run twice, or is no schema change: {head}")
        if re.match(r"CREATE\s+TABLE\b", bare, re.IGNORECASE):
            if re.search(r"\bENGINE\b", bare, re.IGNORECASE) is None or re.search(r"MergeTree\b", bare) is None:
                faults.append(f"not of the MergeTree family: {head}")
            if re.search(r"\bORDER\s+BY\b", bare, re.IGNORECASE) is None:
                faults.append(f"no ORDER BY, which the engine accepts and which makes a table without a key: {head}")
            if "non_replicated_deduplication_window" not in bare:
                faults.append(f"no deduplication window, so that a repeated token inserts again: {head}")
        if re.match(r"CREATE\s+MATERIALIZED\b", bare, re.IGNORECASE) and (
            re.search(r"\bTO\s+\w+", bare, re.IGNORECASE) is None or re.search(r"\bPOPULATE\b", bare, re.IGNORECASE)
        ):
            faults.append(f"a view needs TO a table of its own with a deduplication window, and no POPULATE: {head}")
        kept = LEXEME.sub(lambda m: m.group() if m.group()[0] == "'" else " ", statement)
        if re.search(r"\bDateTime(?!64)(?!\s*\(\s*'UTC')", kept) or re.search(r"\bDateTime64\s*\(\s*\d\s*\)", kept):
            faults.append(f"a time without the zone 'UTC': {head}")
    return faults


# --- applying --------------------------------------------------------------------------------------------------------


def read_migrations(scope: str, folder: Path) -> list[Migration]:
    """The files of a folder in order of their numbers, linted.

    Raises:
        MigrationError: a file named otherwise, numbers that do not run 1, 2, 3 ..., or a fault of ``lint``.
    """
    out = []
    for expected, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        if not re.match(r"\d{4}_[a-z0-9][a-z0-9_-]*\.sql\Z", path.name):
            raise MigrationError("migration.name", file=f"{scope}/{path.name}")
        migration = Migration(scope, int(path.name[:4]), path.name, path.read_text(encoding="utf-8"))
        if migration.number != expected:
            raise MigrationError("migration.gap", scope=scope, expected=expected, found=migration.number)
        if faults := lint(migration):
            raise MigrationError("migration.lint", file=str(migration), fault="; ".join(faults))
        out.append(migration)
    return out


async def apply_migrations(warehouse: Warehouse, migrations: Sequence[Migration], now_ms: int) -> list[Migration]:
    """Apply what is not recorded; the ones applied. Everything is checked before anything runs.

    ``migrations`` holds whole scopes; recorded scopes that are not among them are left alone.

    Raises:
        MigrationError: an applied file has other content now, or is missing from its scope (an older version of the code).
    """
    await warehouse.execute(create_sql(RECORD))
    result = await warehouse.query(
        "SELECT table_name AS scope, version AS number, any(file) AS file, any(digest) AS digest FROM schema_migration "
        "GROUP BY scope, number ORDER BY scope, number"
    )
    known = {(m.scope, m.number): m for m in migrations}
    scopes = {m.scope for m in migrations}
    recorded = set()
    for scope, number, file, digest in ((str(r[0]), int(str(r[1])), str(r[2]), str(r[3])) for r in result.rows):
        if scope not in scopes:
            continue
        migration = known.get((scope, number))
        if migration is None:
            raise MigrationError("migration.downgrade", file=f"{scope}/{file}")
        if migration.digest != digest:
            raise MigrationError("migration.changed", file=str(migration))
        recorded.add((scope, number))
    applied = []
    for migration in sorted(migrations, key=lambda m: (m.scope, m.number)):
        if (migration.scope, migration.number) in recorded:
            continue
        for statement in migration.statements:
            await warehouse.execute(statement)  # 1
        row = [[migration.scope], [migration.number], [migration.file], [migration.digest], [now_ms]]
        arrays = [pa.array(values, column.arrow) for values, column in zip(row, RECORD.columns, strict=True)]
        token = f"{migration.scope}-{migration.number}-{migration.digest}"
        await warehouse.insert(RECORD, pa.table(arrays, schema=RECORD.arrow_schema), token)  # 2
        applied.append(migration)
    return applied


# --- drift -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between a declaration and the engine. ``column`` is empty for the table itself."""

    table: str
    column: str
    declared: str
    found: str


def _plain(declared: str) -> str:
    """A type without the spaces in which two spellings of it differ."""
    return "".join(
        part if i % 2 else part.replace(" ", "") for i, part in enumerate(re.split(r"('(?:[^'\\]|\\.)*')", declared))
    )


async def schema_drift(warehouse: Warehouse, tables: Iterable[TableSchema]) -> list[Drift]:
    """Every difference in existence, columns, types, order of columns, keys, engine and deduplication window."""
    columns = await warehouse.query(
        "SELECT table AS table_name, name AS name, type AS type FROM system.columns "
        "WHERE database = currentDatabase() ORDER BY table, position"
    )
    found: dict[str, dict[str, str]] = {}
    for table, name, type_ in columns.rows:
        found.setdefault(str(table), {})[str(name)] = str(type_)
    described = await warehouse.query(
        "SELECT name AS name, sorting_key AS sorting_key, partition_key AS partition_key, engine_full AS engine_full "
        "FROM system.tables WHERE database = currentDatabase()"
    )
    engines = {str(row[0]): (str(row[1]), str(row[2]), str(row[3])) for row in described.rows}
    out = []
    for schema in tables:
        have = found.get(schema.name)
        if have is None or schema.name not in engines:
            out.append(Drift(schema.name, "", "a table", "nothing"))
            continue
        want = {c.name: c.type for c in schema.columns}
        differing = [
            Drift(schema.name, name, want.get(name, "nothing"), have.get(name, "nothing"))
            for name in {**want, **have}
            if _plain(want.get(name, "")) != _plain(have.get(name, ""))
        ]
        out += differing
        if not differing and list(want) != list(have):
            out.append(Drift(schema.name, "", f"order {', '.join(want)}", f"order {', '.join(have)}"))
        sorting, partition, engine = engines[schema.name]
        pairs = (
            ("ORDER BY ", ", ".join(schema.order_by), sorting),
            ("PARTITION BY ", schema.partition_by, partition),
            ("ENGINE ", schema.engine, re.split(r" PARTITION BY | ORDER BY | PRIMARY KEY ", engine)[0]),
        )
        out += [
            Drift(schema.name, "", what + declared, what + actual)
            for what, declared, actual in pairs
            if _plain(declared).strip("()") != _plain(actual).strip("()")
        ]
        window = re.search(r"non_replicated_deduplication_window = (\d+)", engine)
        if window is None or int(window.group(1)) != DEDUPLICATION_WINDOW:
            actual = window.group(1) if window else "off"
            out.append(Drift(schema.name, "", f"deduplication window {DEDUPLICATION_WINDOW}", f"deduplication window {actual}"))
    return out


__all__ = [
    "LEXEME",
    "MESSAGES",
    "RECORD",
    "Drift",
    "Migration",
    "MigrationError",
    "apply_migrations",
    "blank_quoted",
    "lint",
    "read_migrations",
    "schema_drift",
    "split_statements",
]
