"""The warehouse on one machine: chDB, the ClickHouse engine inside this process.

One session writes, in one thread; a pool of sessions reads, each in its own thread, because one session serialises all
that it is asked (a ``SELECT 1`` behind a 5 s query waits 5 s). One process opens a directory at a time, and one directory
is open in a process at a time: both are the engine's limits. Results travel in the engine's Native format and are decoded
by clickhouse-driver, so that both adapters return the same Python values by construction; it is also faster than Arrow
(200,000 rows x 8 columns into tuples: 0.4 s against 2.7 s by way of ``to_pylist``).
"""

import asyncio
import fcntl
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

import pyarrow as pa
from chdb.session import Session
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.connection import ServerInfo
from clickhouse_driver.context import Context
from clickhouse_driver.errors import UnknownTypeError
from clickhouse_driver.streams.native import BlockInputStream

from hengliu.ports.warehouse import Parameter, Result, TableSchema, WarehouseError, WarehouseUnavailable, identifier
from infra.warehouse_common import (
    InsertGuards,
    ThreadedWarehouse,
    check_parameters,
    engine_error,
    insert_settings,
    one_statement,
    prepare_block,
    text_of,
    to_result,
)

T = TypeVar("T")

_CODE: Final = re.compile(r"Code: (\d+)")
_TSV: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_QUOTED: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


class _Answer(Protocol):
    def bytes(self) -> bytes: ...


class _Session(Protocol):
    """What is used of chdb's untyped Session."""

    def query(self, sql: str, fmt: str, *, params: Mapping[str, str] = ...) -> _Answer: ...

    def close(self) -> None: ...


_open_session: Final[Callable[[str], _Session]] = Session


@dataclass(frozen=True, slots=True)
class ChdbLimits:
    """Memory and time bounds, in bytes and seconds. Left alone, the engine takes 90 % of the machine and a 5 GB cache."""

    server_bytes: int = 2_000_000_000
    query_bytes: int = 1_000_000_000
    mark_cache_bytes: int = 256_000_000
    query_seconds: int = 60
    query_threads: int = 2


class ChdbWarehouse(ThreadedWarehouse):
    """A Warehouse over a directory. Build it with ``open``."""

    def __init__(self, path: Path, readers: int, limits: ChdbLimits, guards: InsertGuards) -> None:
        self._path = path.resolve()
        if "?" in str(self._path):
            raise ValueError(f"{self._path}: the engine reads what follows a question mark as settings")
        # Every session of a path must be opened with the same text.
        self._connection = (
            f"{self._path}?max_server_memory_usage={limits.server_bytes}&mark_cache_size={limits.mark_cache_bytes}"
        )
        self._limits = limits
        self._guards = guards
        self._pid = os.getpid()
        self._sessions: list[_Session] = []
        self._local = threading.local()
        self._writer = ThreadPoolExecutor(1, "chdb-write")
        self._readers = ThreadPoolExecutor(readers, "chdb-read")
        super().__init__(self._writer, self._readers)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        readers: int = 2,
        limits: ChdbLimits | None = None,
        guards: InsertGuards | None = None,
    ) -> Self:
        """Open or create the directory ``path``.

        Raises:
            WarehouseUnavailable: another process has it open (code 76), or this process has another path open (36).
        """
        self = cls(path, readers, limits or ChdbLimits(), guards or InsertGuards())
        return await self._opened(self._writer, self._create)

    async def execute(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> None:
        statement, bound = one_statement(sql), _encode(sql, parameters)
        # The result of DDL may carry the columns of an earlier failed query, so it is not looked at.
        await self._run(self._writer, lambda: self._session().query(statement, "Null", params=bound))

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Result:
        statement, bound = one_statement(sql), _encode(sql, parameters)
        return await self._run(self._readers, lambda: self._query(statement, bound))

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        block = prepare_block(table, data, token, self._guards)
        if block.num_rows:
            await self._run(self._writer, lambda: self._insert(table, block, token), inserting=True)

    async def close(self) -> None:
        """Wait for what runs and release the directory. A second call does nothing, nor one in a forked child."""
        if os.getpid() == self._pid:
            await super().close()

    def _disconnect(self) -> None:
        for session in self._sessions:
            session.close()
        self._sessions.clear()

    # --- in the threads ---

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T], inserting: bool = False) -> T:
        if os.getpid() != self._pid:
            # The engine's threads did not come along: the first query of a forked child would hang for ever.
            raise WarehouseError(text_of("warehouse.fork"))
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(pool, self._guarded, call, inserting)

    def _guarded(self, call: Callable[[], T], inserting: bool) -> T:
        try:
            return call()
        except RuntimeError as error:  # ChdbError is one
            # What a statement had put out before it failed stays in its session, and the next statement returns it as
            # the head of its own result (chDB 26.9: a timeout after 4 rows, then "SELECT 1" gives 5 rows).
            self._discard()
            raise self._translate(error, inserting) from error

    def _discard(self) -> None:
        session: _Session | None = getattr(self._local, "session", None)
        if session is not None:
            self._local.session = None
            self._sessions.remove(session)
            session.close()

    def _create(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        self._session()

    def _session(self, seconds: int = 0) -> _Session:
        """The session of this thread, made at the first call; ``seconds`` bounds its statements (0: no bound)."""
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = _open_session(self._connection)
            self._sessions.append(session)
            limits = self._limits
            session.query(
                f"SET session_timezone = 'UTC', max_memory_usage = {limits.query_bytes}, "
                f"max_threads = {limits.query_threads}, max_execution_time = {seconds}",
                "Null",
            )
            self._local.session = session
        return session

    def _query(self, statement: str, bound: Mapping[str, str]) -> Result:
        session = self._session(self._limits.query_seconds)
        body = session.query(statement, "Native", params=bound).bytes()
        if body:
            return _decode(body)
        # Native writes nothing at all for no rows: ask for the header alone.
        try:
            described = _decode(session.query(f"DESCRIBE TABLE ({statement}\n)", "Native", params=bound).bytes())
        except RuntimeError as error:
            if _code(error) != 62:
                raise
            return Result((), [])  # no SELECT: SHOW, EXISTS
        return Result(tuple(str(row[0]) for row in described.rows), [])

    def _insert(self, table: TableSchema, block: pa.Table, token: str) -> None:
        names = ", ".join(identifier(c.name) for c in table.columns)
        # Python(name) takes the nearest frame's variable of that name: an odd name cannot be met by chance.
        hengliu_block_to_insert = block
        settings = {**insert_settings(token, self._guards), "insert_null_as_default": 0}
        sent = str(settings.pop("insert_deduplication_token")).translate(_TSV)
        clause = ", ".join(f"{k} = {v}" for k, v in settings.items())
        # Named on both sides: without names the engine matches by position.
        self._session().query(
            f"INSERT INTO {identifier(table.name)} ({names}) "  # noqa: S608 - identifiers are checked
            f"SETTINGS {clause}, insert_deduplication_token = {{hengliu_token:String}} "
            f"SELECT {names} FROM Python(hengliu_block_to_insert)",
            "Null",
            params={"hengliu_token": sent},
        )
        del hengliu_block_to_insert

    def _translate(self, error: RuntimeError, inserting: bool) -> WarehouseError:
        text = str(error)
        code = _code(error)
        if "EmbeddedServer already initialized" in text:
            return WarehouseUnavailable(text_of("warehouse.other_path", path=self._path), code)
        if "Error initializing EmbeddedServer" in text and _locked(self._path / "status"):
            return WarehouseUnavailable(text_of("warehouse.locked", path=self._path), 76)
        return engine_error(code, text, inserting=inserting)


def _locked(status: Path) -> bool:
    """Whether another process holds the engine's lock; its own error does not say so."""
    try:
        with status.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _code(error: RuntimeError) -> int:
    match = _CODE.search(str(error))
    return int(match.group(1)) if match else 0


def _encode(sql: str, parameters: Mapping[str, Parameter] | None) -> dict[str, str]:
    """Parameters as the text this engine parses: strings escaped as in TSV, lists as literals."""
    out = {}
    for name, value in check_parameters(sql, parameters).items():
        if isinstance(value, list):
            # A list is parsed as a literal, without the TSV layer.
            out[name] = "[" + ",".join(f"'{v.translate(_QUOTED)}'" if isinstance(v, str) else str(v) for v in value) + "]"
        else:
            out[name] = value.translate(_TSV)
    return out


class _Bytes:
    """What clickhouse-driver's reader asks of a socket, over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def recv_into(self, buffer: Any) -> int:
        chunk = self._data[self._at : self._at + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)


def _decode(body: bytes) -> Result:
    """Native blocks, as ``FORMAT Native`` writes them (protocol revision 0), as a Result."""
    context = Context()
    context.settings = {}
    context.client_settings = {
        "use_numpy": False,
        "strings_as_bytes": False,
        "strings_encoding": "utf-8",
        "namedtuple_as_json": False,
    }
    context.server_info = ServerInfo("chdb", 26, 0, 0, 0, "UTC", "chdb", 0)
    stream = BlockInputStream(BufferedSocketReader(_Bytes(body), 1 << 20), context)
    header: list[tuple[str, str]] = []
    columns: list[list[Any]] = []
    while True:
        try:
            block = stream.read()
        except EOFError:
            break
        except UnknownTypeError as error:
            raise WarehouseError(str(error), 50) from error
        if not header:
            header = block.columns_with_types
            columns = [[] for _ in header]
        for column, part in zip(columns, block.data, strict=False):
            column.extend(part)
    return to_result(header, columns)


__all__ = ["ChdbLimits", "ChdbWarehouse"]
