"""Columns and parameters that several queries share."""

# ruff: noqa: S608  (the pieces are constants of this package; values are bound by name)

from hengliu.events.family import Text
from projections.queries.query import QueryColumn, QueryParameter

__all__ = [
    "COMMODITY",
    "DIVISION",
    "ENTERPRISE",
    "PLATE",
    "SITE",
    "USE",
    "boolean",
    "bound",
    "decimal",
    "divisions",
    "integer",
    "json",
    "latest",
    "text",
    "texts",
    "time",
]


def text(name: str, zh: str, en: str, *, nullable: bool = False) -> QueryColumn:
    return QueryColumn(name, "text", Text(zh, en), nullable)


def integer(name: str, zh: str, en: str, *, nullable: bool = False) -> QueryColumn:
    return QueryColumn(name, "integer", Text(zh, en), nullable)


def decimal(name: str, zh: str, en: str, *, nullable: bool = False) -> QueryColumn:
    return QueryColumn(name, "decimal", Text(zh, en), nullable)


def time(name: str, zh: str, en: str, *, nullable: bool = False) -> QueryColumn:
    return QueryColumn(name, "time", Text(zh, en), nullable)


def boolean(name: str, zh: str, en: str, *, nullable: bool = False) -> QueryColumn:
    return QueryColumn(name, "boolean", Text(zh, en), nullable)


def json(name: str, zh: str, en: str, *, nullable: bool = False) -> QueryColumn:
    return QueryColumn(name, "json", Text(zh, en), nullable)


def texts(name: str, zh: str, en: str, *, column: str = "", slot: str = "filters") -> QueryParameter:
    """A filter on a text column by any of a comma list."""
    return QueryParameter(name, "texts", Text(zh, en), f"{column or name} IN {{p_{name}:Array(String)}}", slot)


def bound(name: str, zh: str, en: str, column: str, comparison: str) -> QueryParameter:
    """A bound on a time column other than the one that ``from`` and ``to`` are about."""
    return QueryParameter(
        name, "time", Text(zh, en), f"{column} {comparison} fromUnixTimestamp64Milli({{p_{name}:Int64}}, 'UTC')"
    )


def divisions(column: str = "division") -> QueryParameter:
    """The filter ``division`` by any of a comma list; one that ends in ``00`` covers what lies in it."""
    clause = f"arrayExists(p -> startsWith({column}, p), {{p_division:Array(String)}})"
    return QueryParameter("division", "divisions", Text("行政区划", "Division"), clause)


def latest(table: str, key: str, columns: str) -> str:
    """Subquery: the latest version of each ``key`` of a reference table, by ``valid_from`` (absent: since always), then by
    receive time."""
    return f"""(
    SELECT {columns} FROM {table} WHERE $known
    ORDER BY {key}, ifNull(valid_from, toDateTime64('1900-01-01 00:00:00', 3, 'UTC')) DESC, known_at DESC, src_offset DESC
    LIMIT 1 BY {key}
)"""


ENTERPRISE = texts("enterprise", "企业", "Enterprise")
SITE = texts("site", "场所", "Site")
DIVISION = divisions()
COMMODITY = texts("commodity", "煤种", "Commodity")
USE = texts("use", "用途", "Use")
PLATE = texts("plate", "车牌号", "Plate")
