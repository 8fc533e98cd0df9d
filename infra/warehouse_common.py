"""What both warehouse adapters share, so that they cannot differ: the statement lexer, parameters, results, blocks.

Every rule here answers a measured difference between the two engines or a value that an engine changes in silence;
``docs/protocols/warehouse.md`` lists them.
"""

import asyncio
import functools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any, Final, Self
from uuid import uuid4

import pyarrow as pa

from hengliu.events.family import Text
from hengliu.ports.migration import LEXEME, blank_quoted, split_statements
from hengliu.ports.warehouse import (
    Parameter,
    Result,
    SchemaMismatch,
    TableSchema,
    Value,
    WarehouseError,
    WarehouseUnavailable,
    check_schema,
)

MAX_ROWS: Final = 1_048_448
"""Rows of one insert: the engine squashes into blocks of 1,048,449 rows, and two blocks under one token can duplicate."""

MAX_BYTES: Final = 256_000_000
"""Arrow bytes of one insert; the engine's own bound is ``min_insert_block_size_bytes`` = 268,402,944."""

INSERT_SETTINGS: Final[Mapping[str, int | str]] = {
    "insert_deduplicate": 1,
    "async_insert": 0,  # on by default since 26.2, and then the block that is deduplicated is not ours
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # The block borders are part of what the token identifies: pinned, so that another default cannot move them.
    "max_insert_threads": 1,
    "max_block_size": MAX_ROWS + 1,
    "max_insert_block_size": MAX_ROWS + 1,
    "min_insert_block_size_rows": MAX_ROWS + 1,
    "min_insert_block_size_bytes": 268_402_944,
}

MESSAGES: Final[Mapping[str, Text]] = {
    "warehouse.parameter.null": Text("参数 {name} 为空：不绑定 NULL", "parameter {name} is None: NULL is never bound"),
    "warehouse.parameter.datetime": Text(
        "参数 {name} 是时间：请以毫秒整数和 fromUnixTimestamp64Milli 传入",
        "parameter {name} is a datetime: pass epoch milliseconds and use fromUnixTimestamp64Milli",
    ),
    "warehouse.parameter.type": Text(
        "参数 {name} 的类型 {type} 不能绑定", "parameter {name} has type {type}, which cannot be bound"
    ),
    "warehouse.parameter.finite": Text("参数 {name} 不是有限数", "parameter {name} is not a finite number"),
    "warehouse.parameter.text": Text("参数 {name} 不是合法文本", "parameter {name} is not valid text"),
    "warehouse.parameter.range": Text(
        "参数 {name} 的值 {value} 超出 {type}，引擎会悄悄改变它",
        "parameter {name}: {value} does not fit {type}; the engine would change it in silence",
    ),
    "warehouse.parameter.missing": Text("缺少参数 {name}", "parameter {name} is missing"),
    "warehouse.statement.several": Text("一次只能执行一条语句", "more than one statement in one call"),
    "warehouse.statement.empty": Text("语句为空", "the statement is empty"),
    "warehouse.statement.format": Text("语句中不能写 FORMAT", "a statement may not name a FORMAT"),
    "warehouse.value.bytes": Text("列 {column} 含有非 UTF-8 文本", "column {column} holds text that is not UTF-8"),
    "warehouse.value.type": Text("列 {column} 的类型 {type} 不能读出", "column {column} has type {type}, which cannot be read"),
    "warehouse.insert.rows": Text(
        "一次写入 {rows} 行，超过一个数据块的上限 {limit}", "insert of {rows} rows; one block holds at most {limit}"
    ),
    "warehouse.insert.bytes": Text(
        "一次写入 {bytes} 字节，超过一个数据块的上限 {limit}", "insert of {bytes} bytes; one block holds at most {limit}"
    ),
    "warehouse.insert.token": Text("写入必须带去重标识", "an insert needs a deduplication token"),
    "warehouse.closed": Text("仓库已关闭", "the warehouse is closed"),
    "warehouse.fork": Text(
        "仓库在另一个进程中打开：不支持 fork，请用 spawn 或 exec",
        "the warehouse was opened in another process: fork is not supported, use spawn or exec",
    ),
    "warehouse.locked": Text(
        "{path} 正被另一个进程使用；内嵌仓库一次只供一个进程打开，其他程序请走 HTTP 接口",
        "{path} is in use by another process; the embedded warehouse serves one process, others go through its HTTP API",
    ),
    "warehouse.other_path": Text(
        "本进程已打开另一个内嵌仓库，须先关闭；{path} 无法打开",
        "this process has another embedded warehouse open, which must be closed first; cannot open {path}",
    ),
    "warehouse.unreachable": Text("连接不上仓库 {address}：{cause}", "cannot reach the warehouse at {address}: {cause}"),
    "warehouse.login": Text("仓库 {address} 拒绝了用户名或密码", "the warehouse at {address} refused the user or password"),
    "warehouse.url": Text("仓库地址 {url} 不合规：{cause}", "warehouse address {url} is malformed: {cause}"),
}
"""Texts for people, by code. Parameters are named in braces."""


def text_of(code: str, **parameters: object) -> str:
    """The message in both languages, Chinese first: an exception has no reader's language to go by."""
    return MESSAGES[code].filled(**parameters).both()


@dataclass(frozen=True, slots=True)
class InsertGuards:
    """Guards that a test can switch off to see what they prevent. In service all are on."""

    one_block: bool = True
    """Chunks are combined. Off: each chunk goes out as it came, and the same rows in other chunks are counted twice."""
    token: bool = True
    """The insert carries the caller's token. Off: each try carries a new one, as if it were not made of the range of the
    rows, and a replayed insert is counted twice. (No token at all would not show it: the engine then compares content, which
    also drops a second, true batch of equal rows.)"""


# --- statements ------------------------------------------------------------------------------------------------------

_FORMAT: Final = re.compile(r"\bFORMAT\s+[A-Za-z]\w*\s*(?:\bSETTINGS\b[^()]*)?$", re.IGNORECASE)


def one_statement(sql: str) -> str:
    """The single statement in ``sql``, without its closing semicolon.

    The embedded engine runs ``select 1; select 2`` whole where the server refuses it (62), and a FORMAT clause breaks
    the one reader and is ignored by the other: both are refused here, on both, before anything is sent.

    Raises:
        WarehouseError: code 62.
    """
    statements = split_statements(sql)
    if not statements:
        raise WarehouseError(text_of("warehouse.statement.empty"), 62)
    if len(statements) > 1:
        raise WarehouseError(text_of("warehouse.statement.several"), 62)
    if _FORMAT.search(blank_quoted(statements[0]).strip()):
        raise WarehouseError(text_of("warehouse.statement.format"), 62)
    return statements[0]


# --- parameters ------------------------------------------------------------------------------------------------------

_PLACEHOLDER: Final = re.compile(r"\{\s*([A-Za-z_]\w*)\s*:\s*([^{}]+?)\s*\}")
_INTEGER: Final = re.compile(r"(U?)Int(8|16|32|64|128|256)\Z")
_DECIMAL: Final = re.compile(r"Decimal(?:32|64|128|256)?\((?:(\d+)\s*,\s*)?(\d+)\)\Z")
_PRECISION: Final = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
_EXACT: Final = Context(prec=80)


@functools.lru_cache(maxsize=4096)
def placeholders(sql: str) -> tuple[tuple[str, str], ...]:
    """(name, type) of every ``{name:Type}`` of a statement, outside strings and comments."""
    bare = LEXEME.sub(lambda m: m.group() if m.group()[0] == "'" else " " * len(m.group()), sql)
    quoted = [(m.start(), m.end()) for m in LEXEME.finditer(sql) if m.group()[0] == "'"]
    # A zone inside a type, {t:DateTime64(3, 'UTC')}, is a string too: only a placeholder that begins in one is text.
    return tuple((m.group(1), m.group(2)) for m in _PLACEHOLDER.finditer(bare) if not any(a < m.start() < b for a, b in quoted))


def _check_fit(name: str, value: int | Decimal, declared: str) -> None:
    """Refuse what the engines cut in silence: 300 as UInt8 is stored as 44, 1.239 as Decimal(18,2) as 1.23."""
    misfit = WarehouseError(text_of("warehouse.parameter.range", name=name, value=value, type=declared), 69)
    if match := _INTEGER.match(declared):
        bits = int(match.group(2))
        low, high = (0, 2**bits - 1) if match.group(1) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if value != int(value) or not low <= value <= high:
            raise misfit
    elif match := _DECIMAL.match(declared):
        scale = int(match.group(2))
        precision = int(match.group(1) or _PRECISION[declared.split("(")[0]])
        scaled = Decimal(value).scaleb(scale, _EXACT)
        if scaled != scaled.to_integral_value() or abs(scaled) >= 10**precision:
            raise misfit


def _inner(declared: str, wrapper: str) -> str:
    return declared[len(wrapper) + 1 : -1].strip() if declared.startswith(wrapper + "(") else declared


def check_parameters(sql: str, parameters: Mapping[str, Parameter] | None) -> dict[str, str | list[int] | list[str]]:
    """Values as canonical text (lists stay lists), checked against the types that the statement declares.

    Parameters that the statement does not name are left out.

    Raises:
        WarehouseError: code 456 a placeholder without value; 69 out of the declared range; 53 a type that is not a Parameter.
    """
    out: dict[str, str | list[int] | list[str]] = {}
    given = parameters or {}
    for name, declared in placeholders(sql):
        if name not in given:
            raise WarehouseError(text_of("warehouse.parameter.missing", name=name), 456)
        out[name] = _canonical(name, given[name], _inner(_inner(declared, "LowCardinality"), "Nullable"))
    return out


def _canonical(name: str, value: object, declared: str) -> str | list[int] | list[str]:
    if isinstance(value, list | tuple):
        element = _inner(declared, "Array")
        items = list(value)
        if all(isinstance(item, str) for item in items):
            return [_text(name, item) for item in items]
        if all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            for item in items:
                _check_fit(name, item, element)
            return items
    return _scalar(name, value, declared)


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WarehouseError(text_of("warehouse.parameter.text", name=name), 53) from None
    return value


def _scalar(name: str, value: object, declared: str) -> str:
    match value:
        case None:
            raise WarehouseError(text_of("warehouse.parameter.null", name=name), 53)
        case bool():
            return "true" if value else "false"
        case int():
            _check_fit(name, value, declared)
            return str(int(value))
        case float():
            if not math.isfinite(value):
                raise WarehouseError(text_of("warehouse.parameter.finite", name=name), 53)
            if _INTEGER.match(declared) or _DECIMAL.match(declared):
                _check_fit(name, Decimal(repr(value)), declared)
                return format(Decimal(repr(value)), "f")
            return repr(value)
        case Decimal():
            if not value.is_finite():
                raise WarehouseError(text_of("warehouse.parameter.finite", name=name), 53)
            _check_fit(name, value, declared)
            return format(value, "f")
        case str():
            return _text(name, value)
        case datetime():
            raise WarehouseError(text_of("warehouse.parameter.datetime", name=name), 53)
        case date():
            return value.isoformat()
        case _:
            raise WarehouseError(text_of("warehouse.parameter.type", name=name, type=type(value).__name__), 53)


# --- results ---------------------------------------------------------------------------------------------------------

_Convert = Callable[[Any], Value]


def _arguments(declared: str) -> Iterator[str]:
    """The top-level arguments of ``Name(a, b(c, d))``."""
    depth, start, body = 0, 0, declared[declared.index("(") + 1 : -1]
    quoted = False
    for i, c in enumerate(body):
        if c == "'" and body[i - 1 : i] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
        elif c == "," and not depth:
            yield body[start:i].strip()
            start = i + 1
    yield body[start:].strip()


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_PLAIN: Final = re.compile(r"(?:U?Int\d+|Float\d+|BFloat16|Bool|Date|Date32|Nothing|Interval\w+)\Z")


@functools.lru_cache(maxsize=1024)
def converter(declared: str) -> _Convert | None:
    """How a value of a ClickHouse type, as clickhouse-driver decodes it, becomes a Value; None: as it is.

    Raises:
        KeyError: the type cannot be read.
    """
    name = declared.split("(")[0]
    if _PLAIN.match(declared):
        return None
    if name in {"Nullable", "LowCardinality", "SimpleAggregateFunction"}:
        inner = converter(list(_arguments(declared))[-1])
        return None if inner is None else lambda v: None if v is None else inner(v)
    if name in {"String", "FixedString", "Enum8", "Enum16"}:
        return _string
    if name in {"DateTime", "DateTime64"}:
        return _utc
    if name == "Decimal":
        quantum = Decimal(1).scaleb(-int(list(_arguments(declared))[1]))
        return lambda v: v.quantize(quantum, context=_EXACT)
    if name in {"UUID", "IPv4", "IPv6"}:
        return str
    if name == "Array":
        element = converter(next(_arguments(declared))) or (lambda v: v)
        return lambda v: [None if item is None else element(item) for item in v]
    if name == "Map":
        of_key, of_value = (converter(a) or (lambda v: v) for a in _arguments(declared))
        return lambda v: {str(of_key(k)): of_value(x) for k, x in v.items()}
    if name == "Tuple":
        # Members may be named: "Tuple(a UInt8, b String)".
        members = [
            converter(re.sub(r"^(?:`[^`]*`|[A-Za-z_]\w*)\s+(?=[A-Z])", "", a)) or (lambda v: v) for a in _arguments(declared)
        ]
        return lambda v: [None if x is None else m(x) for m, x in zip(members, v, strict=True)]
    raise KeyError(declared)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def to_result(columns_with_types: Sequence[tuple[str, str]], columns: Sequence[Sequence[Any]]) -> Result:
    """Driver columns as a Result of port values.

    Raises:
        WarehouseError: a value or type that the port does not know (code 50), text that is not UTF-8.
    """
    out: list[Sequence[Value]] = []
    for (name, declared), values in zip(columns_with_types, columns, strict=False):
        try:
            convert = converter(declared)
        except KeyError:
            raise WarehouseError(text_of("warehouse.value.type", column=name, type=declared), 50) from None
        try:
            out.append(values if convert is None else [convert(v) for v in values])
        except (TypeError, UnicodeError):
            raise WarehouseError(text_of("warehouse.value.bytes", column=name)) from None
    return Result(tuple(name for name, _ in columns_with_types), list(zip(*out, strict=True)))


# --- inserts ---------------------------------------------------------------------------------------------------------


def prepare_block(table: TableSchema, data: pa.Table, token: str, guards: InsertGuards) -> pa.Table:
    """``data`` checked and in one chunk, ready to go out as one block.

    Raises:
        SchemaMismatch: not exactly the declared columns, a NULL where none may be, or more than one block holds.
    """
    check_schema(table, data)
    if not token:
        raise WarehouseError(text_of("warehouse.insert.token"))
    if data.num_rows > MAX_ROWS:
        raise SchemaMismatch(text_of("warehouse.insert.rows", rows=data.num_rows, limit=MAX_ROWS))
    if data.nbytes > MAX_BYTES:
        raise SchemaMismatch(text_of("warehouse.insert.bytes", bytes=data.nbytes, limit=MAX_BYTES))
    return data.combine_chunks() if guards.one_block else data


def warm_arrow() -> None:
    """Let the first conversion of a process be this one: it imports pandas, 0.5 s, or several on a busy machine."""
    pa.array([1])


class ThreadedWarehouse(ABC):
    """Opening, and closing once, of an adapter whose engine is called in threads."""

    def __init__(self, *pools: ThreadPoolExecutor) -> None:
        self._pools = pools
        self._closed = False

    async def _opened(self, inserter: ThreadPoolExecutor, create: Callable[[], None]) -> Self:
        """Run ``create`` in the inserting thread; what it started is closed again when it fails."""
        try:
            await self._run(inserter, create)
        except BaseException:
            await self.close()
            raise
        inserter.submit(warm_arrow)
        return self

    async def close(self) -> None:
        """Wait for what runs, then let go of the engine. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for pool in self._pools:
            pool.shutdown(wait=True)
        self._disconnect()

    def _check_open(self) -> None:
        if self._closed:
            raise WarehouseError(text_of("warehouse.closed"))

    @abstractmethod
    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Any:
        """Call in one of the pools; errors as the port's."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close every session of every thread; none is at work any more."""


def insert_settings(token: str, guards: InsertGuards) -> dict[str, int | str]:
    """Settings of one insert, the same on both engines."""
    return {**INSERT_SETTINGS, "insert_deduplication_token": token if guards.token else uuid4().hex}


_LATER: Final = frozenset({202, 209, 210, 236, 425, 999})
"""Codes that mean "not now": too many queries, socket timeout, network, aborted, system call, Keeper."""

_INSERT_LATER: Final = frozenset({159, 242, 243, 252})
"""For an insert also: timeout, read-only table, no space on the disk, too many parts (merging will have fewer)."""


def engine_error(code: int, message: str, *, inserting: bool) -> WarehouseError:
    """The port's error for the engine's: WarehouseUnavailable where the same call may succeed later.

    Repeating an insert is safe because of its token. The server's memory limit passes, a query's own does not.
    """
    later = code in _LATER or (
        inserting and (code in _INSERT_LATER or (code == 241 and "Query memory limit exceeded" not in message))
    )
    return WarehouseUnavailable(message, code) if later else WarehouseError(message, code)


__all__ = [
    "INSERT_SETTINGS",
    "MAX_BYTES",
    "MAX_ROWS",
    "MESSAGES",
    "InsertGuards",
    "check_parameters",
    "converter",
    "engine_error",
    "insert_settings",
    "one_statement",
    "placeholders",
    "prepare_block",
    "text_of",
    "to_result",
    "warm_arrow",
]
