"""The generic query of any family: its raw rows, newest first."""

# ruff: noqa: S608  (the pieces are constants of this package; values are bound by name)

from hengliu.events import topics
from hengliu.events.family import Family, Text, Writer
from projections.family_table import column_name, members, table_name
from projections.queries.parts import DIVISION, ENTERPRISE, SITE, texts
from projections.queries.query import Bounds, ColumnKind, NamedQuery, QueryColumn, ScopeColumns
from projections.tables.warning import CHANGES

__all__ = ["family_query"]

_KINDS: dict[str, ColumnKind] = {
    "text": "text",
    "code": "text",
    "integer": "integer",
    "decimal": "decimal",
    "time": "time",
    "date": "date",
    "bool": "boolean",
    "float": "number",
    "json": "json",
}

_ENVELOPE = {
    "id": ("text", Text("编号", "Id")),
    "source": ("text", Text("来源", "Source")),
    "time": ("time", Text("时间", "Time")),
    "known_at": ("time", Text("获知时间", "Known at")),
    "enterprise": ("text", Text("企业", "Enterprise")),
    "site": ("text", Text("场所", "Site")),
    "division": ("text", Text("行政区划", "Division")),
}

_DERIVED = {
    "cause": ("text", Text("依据", "Cause")),
    "corrects": ("text", Text("更正", "Corrects")),
    "operator": ("text", Text("算子", "Operator")),
    "operator_version": ("integer", Text("算子版本", "Operator version")),
}


def family_query(family: Family) -> NamedQuery:
    """All content columns of a family's table; filters ``source``, ``id`` and scope. Last 7 days unless ``from`` is given;
    the registry, which is small and old, is not bounded."""
    trusted = family.writer is not Writer.DEVICE
    own = {column_name(family, m): m for m in members(family)}
    envelope = dict(_ENVELOPE) if family.writer is not Writer.OPERATOR else {**_ENVELOPE, **_DERIVED}
    columns = [
        QueryColumn(name, _KINDS[kind], title if not trusted or name not in own else own[name].title)
        for name, (kind, title) in envelope.items()
    ]
    columns += [QueryColumn(name, _KINDS[m.kind], m.title, m.nullable) for name, m in own.items() if name not in envelope]
    table = "warning" if family.type in CHANGES else table_name(family.type)
    change = f" AND change = '{CHANGES[family.type]}'" if family.type in CHANGES else ""
    return NamedQuery(
        name=f"events/{family.type}",
        title=family.title,
        sql=f"""
SELECT {", ".join(c.name for c in columns)}
FROM {table}
WHERE $scope AND $known AND $filters{change}""",
        parameters=(texts("source", "来源", "Source"), texts("id", "编号", "Id"), ENTERPRISE, SITE, DIVISION),
        columns=tuple(columns),
        scope=ScopeColumns(),
        keyset=("-time", "source", "id"),
        bounds=Bounds(default_days=None if family.topic == topics.REGISTRY else 7),
    )
