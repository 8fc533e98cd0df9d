"""Named queries: what one declares, and the one function that runs them.

A query's SQL is a template. Its slots are filled here and nowhere else:

``$scope``
    the rights filter, made from the reader's scope and the query's scope columns. A query without the slot is refused when
    it is declared, unless it declares itself public: this is the one place where rights meet SQL.
``$known``
    ``as_of``: only what was known then (``known_at <= as_of``).
``$filters``
    the conditions of the given parameters and the bounds in time.
``$from``, ``$to``
    the bounds as expressions, for queries that cut by them.
others
    the fragment of a parameter with choices.

Values are bound as ``{name:Type}`` parameters, never written into the text. Pages follow a keyset: the cursor holds the sort
key of the last row, so a page costs the same however deep, and rows that arrive meanwhile move nothing.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from string import Template
from typing import Any, Literal, Protocol

import msgspec

from hengliu.events.envelope import ms_of
from hengliu.events.family import Text
from hengliu.ports.warehouse import Parameter, Value, Warehouse
from projections.table import MAX_TIME_MS, MIN_TIME_MS, week

__all__ = [
    "AS_OF",
    "COMMON",
    "ERRORS",
    "MAX_ROWS",
    "NOW",
    "SHANGHAI_MS",
    "Bounds",
    "ColumnKind",
    "NamedQuery",
    "Page",
    "QueryColumn",
    "QueryError",
    "QueryParameter",
    "Scope",
    "ScopeColumns",
    "is_end",
    "run_query",
]

SHANGHAI_MS = 8 * 3_600_000
"""Asia/Shanghai is UTC+8 without daylight saving since 1991-09-15 (IANA tz database); days of people are its days."""

MAX_ROWS = 10_000
"""Largest page."""


class Scope(Protocol):
    """What the reader may see: rows whose enterprise or division is named, or everything. Empty sets see nothing."""

    @property
    def everything(self) -> bool: ...

    @property
    def enterprises(self) -> AbstractSet[str]: ...

    @property
    def divisions(self) -> AbstractSet[str]:
        """Codes of GB/T 2260; one that ends in ``00`` covers what lies in it."""
        ...


@dataclass(frozen=True, slots=True)
class ScopeColumns:
    """Which expressions hold a row's scope where ``$scope`` stands. ``public``: names and codes that everyone may read."""

    enterprise: str = "enterprise"
    division: str = "division"
    public: bool = False


ColumnKind = Literal["text", "integer", "decimal", "time", "boolean", "json", "number", "date"]
"""integer: int; decimal: Decimal; time: aware, UTC; json: stored as text, given as a value; number: a float."""


@dataclass(frozen=True, slots=True)
class QueryColumn:
    """One member of a result row."""

    name: str
    kind: ColumnKind
    title: Text
    nullable: bool = False


ParameterKind = Literal["time", "integer", "text", "texts", "divisions", "choice", "subset"]


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """One parameter of a query.

    Attributes:
        kind: ``texts`` and ``divisions`` take a comma list; a division that ends in ``00`` covers what lies in it.
            ``choice`` takes one of ``choices`` (bound as text), ``subset`` a comma list of them.
        clause: condition added to ``slot`` when the parameter is given; the value is bound as ``{p_<name>:Type}``.
        slot: slot that takes the clause, or the chosen fragment.
        choices: choice to the SQL fragment for ``slot`` (``choice``; ``$known`` may stand in it), or to nothing (``subset``
            binds ``by_<choice>``).
        default: choice (or subset) when absent.
        required: absence is an error.
    """

    name: str
    kind: ParameterKind
    title: Text
    clause: str = ""
    slot: str = "filters"
    choices: Mapping[str, str] | None = None
    default: str = ""
    required: bool = False


AS_OF = QueryParameter("as_of", "time", Text("截至（当时所知）", "As known at"))
NOW = QueryParameter("now", "time", Text("现在", "Now"))
COMMON: tuple[QueryParameter, ...] = (AS_OF, NOW)
"""Every query takes these. ``now`` is the caller's clock, for default bounds; absent, the engine's clock stands for it."""

FROM = QueryParameter("from", "time", Text("自", "From"))
TO = QueryParameter("to", "time", Text("至", "To"))


@dataclass(frozen=True, slots=True)
class Bounds:
    """``from`` and ``to`` of a query: half-open, ``from <= t < to``.

    ``default_days``: without ``from``, so many days before ``to`` or now; None: since always. Big tables are never read whole
    by an omission. The weeks are implied by the times, and repeated for the sorting key (``table.week``).
    """

    lower: str = f"time >= $from AND {week('time')} >= {week('$from')}"
    upper: str = f"time < $to AND {week('time')} <= {week('$to')}"
    default_days: int | None = 7
    slot: str = "filters"


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One question to the warehouse.

    ``keyset``: names of result columns that order the rows and are unique together; ``-`` before a name: descending.
    """

    name: str
    title: Text
    sql: str
    parameters: tuple[QueryParameter, ...]
    columns: tuple[QueryColumn, ...]
    scope: ScopeColumns
    keyset: tuple[str, ...]
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        slots = set(Template(self.sql).get_identifiers())
        if not self.scope.public and "scope" not in slots:
            raise ValueError(f"{self.name}: no $scope in its SQL")
        if "known" not in slots:
            raise ValueError(f"{self.name}: no $known in its SQL")
        unknown = slots - {"scope", "known", "filters", "from", "to"} - {p.slot for p in self.parameters}
        unknown -= {self.bounds.slot} if self.bounds else set()
        if unknown:
            raise ValueError(f"{self.name}: nothing fills {sorted(unknown)}")
        names = {c.name for c in self.columns}
        if missing := {k.lstrip("-") for k in self.keyset} - names:
            raise ValueError(f"{self.name}: keyset names no column: {sorted(missing)}")

    @property
    def accepted(self) -> Mapping[str, QueryParameter]:
        """Every parameter by name, common ones included."""
        own = self.parameters + ((FROM, TO) if self.bounds else ()) + COMMON
        return {p.name: p for p in own}


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the cursor of the next page (None: these were the last)."""

    rows: list[dict[str, Any]]
    next: str | None


ERRORS: Mapping[str, Text] = {
    "unknown-parameter": Text("没有参数 {parameter}", "there is no parameter {parameter}"),
    "missing-parameter": Text("缺少参数 {parameter}", "parameter {parameter} is missing"),
    "not-a-time": Text(
        "{parameter} 应为毫秒时间戳、带时区的 RFC 3339 时间，或日期（按北京时间）",
        "{parameter} is epoch milliseconds, an RFC 3339 time with an offset, or a date (of Asia/Shanghai)",
    ),
    "not-an-integer": Text("{parameter} 应为整数", "{parameter} is an integer"),
    "not-text": Text("{parameter} 应为非空文本", "{parameter} is text that is not empty"),
    "not-a-choice": Text("{parameter} 应为其中之一：{choices}", "{parameter} is one of: {choices}"),
    "not-a-division": Text("{parameter} 应为六位行政区划代码", "{parameter} is a division code of six digits"),
    "empty-range": Text("时间范围为空：to 应晚于 from", "the range is empty: to comes after from"),
    "bad-cursor": Text("游标无效，或不属于这个查询", "the cursor is not valid, or belongs to another query"),
    "bad-limit": Text("limit 应在 1 与 {most} 之间", "limit is between 1 and {most}"),
}
"""Texts by code; in braces what ``QueryError.details`` holds."""


class QueryError(Exception):
    """A parameter that cannot be used; the caller's fault. ``text`` is for people, in both languages."""

    def __init__(self, code: str, parameter: str, **details: str) -> None:
        self.code = code
        self.parameter = parameter
        self.details = {"parameter": parameter, **details}
        self.text = ERRORS[code].filled(**self.details)
        super().__init__(self.text.both())


# --- parameters ------------------------------------------------------------------------------------------------------

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")


def is_end(name: str) -> bool:
    """Whether a parameter of kind ``time`` is the end of a span."""
    return name == "to" or name.endswith("_to")


def _time(name: str, value: object) -> int:
    """Epoch ms. A plain date is that day in Asia/Shanghai: its beginning, or for ``to`` (and ``…_to``) its end, so that a day
    named in both is a whole day."""
    ms: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        ms = value
    elif isinstance(value, datetime):
        ms = ms_of(value) if value.tzinfo else None
    elif isinstance(value, str):
        try:
            if _INTEGER.match(value):
                ms = int(value)
            elif _DATE.match(value):
                day = date.fromisoformat(value) + timedelta(days=1 if is_end(name) else 0)
                ms = ms_of(datetime(day.year, day.month, day.day, tzinfo=UTC)) - SHANGHAI_MS
            else:
                # A "+" of an offset arrives as a space when a client did not escape it.
                parsed = datetime.fromisoformat(value.replace(" ", "+"))
                ms = ms_of(parsed) if parsed.tzinfo else None
        except (ValueError, OverflowError):
            ms = None
    if ms is None or not MIN_TIME_MS <= ms <= MAX_TIME_MS:
        raise QueryError("not-a-time", name)
    return ms


def _texts(name: str, value: object) -> list[str]:
    if isinstance(value, str):
        parts = [part for part in value.split(",") if part]
    elif isinstance(value, Sequence):
        parts = [part for part in value if isinstance(part, str) and part]
        if len(parts) != len(value):
            raise QueryError("not-text", name)
    else:
        raise QueryError("not-text", name)
    if not parts:
        raise QueryError("not-text", name)
    return parts


def _prefix(division: str) -> str:
    """Digits that a division code fixes: 150300 (a city) covers 1503.., 150000 (a province) 15.. (GB/T 2260-2007, 3)."""
    return division[:2] if division.endswith("0000") else division[:4] if division.endswith("00") else division


def _divisions(name: str, value: object) -> list[str]:
    codes = _texts(name, value)
    if any(not re.fullmatch(r"[0-9]{6}", code) for code in codes):
        raise QueryError("not-a-division", name)
    return sorted({_prefix(code) for code in codes})


def _choice(parameter: QueryParameter, value: object) -> str:
    choices = parameter.choices or {}
    text = str(value) if isinstance(value, str | int) else ""
    if text not in choices:
        raise QueryError("not-a-choice", parameter.name, choices=", ".join(choices))
    return text


@dataclass(slots=True)
class _Plan:
    """Slots and bindings of one run."""

    clauses: dict[str, list[str]]
    fragments: dict[str, str]
    values: dict[str, Parameter]


def _bind(parameter: QueryParameter, value: object, plan: _Plan) -> None:
    name = parameter.name
    bound = f"p_{name}"
    match parameter.kind:
        case "choice":
            chosen = _choice(parameter, value)
            plan.values[bound] = chosen
            plan.fragments[parameter.slot] = (parameter.choices or {})[chosen]
            return
        case "subset":
            wanted = {_choice(parameter, part) for part in _texts(name, value)}
            for choice in parameter.choices or {}:
                plan.values[f"by_{choice}"] = choice in wanted
            return
        case "time":
            plan.values[bound] = _time(name, value)
        case "integer":
            text = str(value)
            if isinstance(value, bool) or not _INTEGER.match(text):
                raise QueryError("not-an-integer", name)
            plan.values[bound] = int(text)
        case "text":
            if not isinstance(value, str) or not value:
                raise QueryError("not-text", name)
            plan.values[bound] = value
        case "texts":
            plan.values[bound] = _texts(name, value)
        case "divisions":
            plan.values[bound] = _divisions(name, value)
    if parameter.clause:
        plan.clauses.setdefault(parameter.slot, []).append(f"({parameter.clause})")


_BEGINNING = "toDateTime64('1900-01-01 00:00:00.000', 3, 'UTC')"
_END = "toDateTime64('2299-12-31 23:59:59.999', 3, 'UTC')"


def _at(name: str) -> str:
    return f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')"


def _bound(query: NamedQuery, given: Mapping[str, object], plan: _Plan) -> None:
    """``$from`` and ``$to``."""
    if query.bounds is None:
        return
    start, end = given.get("from"), given.get("to")
    lower, upper = _BEGINNING, _END
    if end is not None:
        plan.values["to_ms"] = _time("to", end)
        upper = _at("to_ms")
    if start is not None:
        plan.values["from_ms"] = _time("from", start)
        lower = _at("from_ms")
        if end is not None and _time("from", start) >= _time("to", end):
            raise QueryError("empty-range", "to")
    elif query.bounds.default_days is not None:
        if given.get("now") is not None:
            plan.values["now_ms"] = _time("now", given["now"])
        base = upper if end is not None else _at("now_ms") if given.get("now") is not None else "now64(3, 'UTC')"
        lower = f"({base} - INTERVAL {query.bounds.default_days} DAY)"
    plan.fragments["from"], plan.fragments["to"] = lower, upper
    clauses = plan.clauses.setdefault(query.bounds.slot, [])
    for template in (query.bounds.lower, query.bounds.upper):
        clauses.append("(" + Template(template).substitute({"from": lower, "to": upper}) + ")")


def _rights(columns: ScopeColumns, scope: Scope, plan: _Plan) -> str:
    """The rights filter: the only place where one is made."""
    if scope.everything or columns.public:
        return "1"
    allowed = []
    if columns.enterprise and scope.enterprises:
        plan.values["scope_enterprises"] = sorted(scope.enterprises)
        allowed.append(f"{columns.enterprise} IN {{scope_enterprises:Array(String)}}")
    if columns.division and scope.divisions:
        plan.values["scope_divisions"] = sorted({_prefix(code) for code in scope.divisions})
        allowed.append(f"arrayExists(p -> startsWith({columns.division}, p), {{scope_divisions:Array(String)}})")
    return f"({' OR '.join(allowed)})" if allowed else "0"


# --- pages -----------------------------------------------------------------------------------------------------------

_BOUND_TYPES = {"text": "String", "integer": "Int64", "time": "Int64", "boolean": "Bool"}
_NULL_VALUES: Mapping[str, str | int | bool] = {"text": "", "integer": -(2**63), "time": MIN_TIME_MS, "boolean": False}
_NULLS = {"text": "''", "integer": "toInt64(-9223372036854775808)", "time": _BEGINNING, "boolean": "false"}


@dataclass(frozen=True, slots=True)
class _Key:
    """One column of the sort order. NULL sorts as the least value of its type."""

    column: QueryColumn
    descending: bool

    @property
    def sql(self) -> str:
        name = self.column.name
        return f"ifNull({name}, {_NULLS[self.column.kind]})" if self.column.nullable else name

    def bind(self, index: int) -> str:
        placeholder = f"{{k{index}:{_BOUND_TYPES[self.column.kind]}}}"
        return f"fromUnixTimestamp64Milli({placeholder}, 'UTC')" if self.column.kind == "time" else placeholder

    def value(self, row: Mapping[str, Value]) -> str | int | bool:
        found = row[self.column.name]
        if found is None:
            return _NULL_VALUES[self.column.kind]
        if isinstance(found, datetime):
            return ms_of(found)
        assert isinstance(found, str | int)
        return found

    def fits(self, value: object) -> bool:
        wanted: type = {"text": str, "boolean": bool}.get(self.column.kind, int)
        return type(value) is wanted


def _keys(query: NamedQuery) -> tuple[_Key, ...]:
    columns = {c.name: c for c in query.columns}
    return tuple(_Key(columns[k.lstrip("-")], k.startswith("-")) for k in query.keyset)


def _after(keys: Sequence[_Key]) -> str:
    """Condition "behind the cursor": one column after the other, each in its own direction."""
    alternatives = []
    for i, key in enumerate(keys):
        equal = [f"{k.sql} = {k.bind(j)}" for j, k in enumerate(keys[:i])]
        beyond = f"{key.sql} {'<' if key.descending else '>'} {key.bind(i)}"
        alternatives.append("(" + " AND ".join([*equal, beyond]) + ")")
    first = keys[0]
    # Implied by the alternatives, and the one form of it that the sorting key can use.
    start = f"{first.sql} {'<=' if first.descending else '>='} {first.bind(0)}"
    return f"{start} AND ({' OR '.join(alternatives)})"


class _Cursor(msgspec.Struct, array_like=True):
    fingerprint: str
    values: list[str | int | bool]


def _fingerprint(query: NamedQuery, given: Mapping[str, object]) -> str:
    """What a cursor belongs to: the query and its filters (``now`` moves with every request and is left out)."""
    filters = sorted((name, str(value)) for name, value in given.items() if value is not None and name != "now")
    return sha256(msgspec.json.encode([query.name, filters])).hexdigest()[:12]


def _decode_cursor(cursor: str, fingerprint: str, keys: Sequence[_Key]) -> list[str | int | bool]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        decoded = msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=_Cursor)
    except (UnicodeEncodeError, binascii.Error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise QueryError("bad-cursor", "cursor") from error
    if decoded.fingerprint != fingerprint or len(decoded.values) != len(keys):
        raise QueryError("bad-cursor", "cursor")
    if any(not key.fits(value) for key, value in zip(keys, decoded.values, strict=True)):
        raise QueryError("bad-cursor", "cursor")
    if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in decoded.values):
        raise QueryError("bad-cursor", "cursor")
    return decoded.values


async def run_query(
    warehouse: Warehouse,
    query: NamedQuery,
    scope: Scope,
    parameters: Mapping[str, object],
    cursor: str | None = None,
    limit: int = 100,
) -> Page:
    """One page of a named query, of what ``scope`` may see. A parameter that is None counts as absent.

    Raises:
        QueryError: a parameter, the cursor or the limit cannot be used; nothing was asked of the warehouse.
        WarehouseError: from the engine.
    """
    if isinstance(limit, bool) or not 1 <= limit <= MAX_ROWS:
        raise QueryError("bad-limit", "limit", most=str(MAX_ROWS))
    given = {name: value for name, value in parameters.items() if value is not None}
    accepted = query.accepted
    for name in given:
        if name not in accepted:
            raise QueryError("unknown-parameter", name)
    plan = _Plan({}, {}, {})
    for parameter in query.parameters:
        value = given.get(parameter.name, parameter.default or None)
        if value is None:
            if parameter.required:
                raise QueryError("missing-parameter", parameter.name)
            continue
        _bind(parameter, value, plan)
    _bound(query, given, plan)
    known = "1"
    if "as_of" in given:
        plan.values["as_of_ms"] = _time("as_of", given["as_of"])
        known = f"(known_at <= {_at('as_of_ms')})"
    if "now" in given:
        plan.values.setdefault("p_now", _time("now", given["now"]))
    slots = {"scope": _rights(query.scope, scope, plan), "known": known}
    wanted = set(Template(query.sql).get_identifiers())
    for slot in wanted - set(slots):
        chosen = plan.fragments.get(slot)
        slots[slot] = Template(chosen).substitute(known=known) if chosen else " AND ".join(plan.clauses.get(slot, ())) or "1"
    inner = Template(query.sql).substitute(slots)
    keys = _keys(query)
    fingerprint = _fingerprint(query, given)
    where = ""
    if cursor is not None:
        if not keys:
            raise QueryError("bad-cursor", "cursor")
        for i, value in enumerate(_decode_cursor(cursor, fingerprint, keys)):
            plan.values[f"k{i}"] = value
        where = f"\nWHERE {_after(keys)}"
    order = ", ".join(f"{k.sql} {'DESC' if k.descending else 'ASC'}" for k in keys)
    names = ", ".join(c.name for c in query.columns)
    plan.values["page_limit"] = limit + 1
    sql = f"SELECT {names}\nFROM\n(\n{inner}\n)" + where + (f"\nORDER BY {order}" if order else "")
    result = await warehouse.query(sql + "\nLIMIT {page_limit:UInt64}", plan.values)
    rows: list[dict[str, Any]] = list(result.dicts())
    more = len(rows) > limit
    rows = rows[:limit]
    token = None
    if more and keys:
        encoded = msgspec.json.encode(_Cursor(fingerprint, [key.value(rows[-1]) for key in keys]))
        token = base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()
    json_names = [c.name for c in query.columns if c.kind == "json"]
    for row in rows:
        for name in json_names:
            row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    return Page(rows, token)
