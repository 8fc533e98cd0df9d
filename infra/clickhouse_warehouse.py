"""The warehouse on a ClickHouse server: queries and DDL over the native protocol, bulk inserts over HTTP as Arrow.

Inserting an Arrow table as one ArrowStream record batch is about seven times faster than clickhouse-driver's columns, exact
for every type used, and needs no Python values. The driver's ``use_numpy`` is never used: it multiplies the caller's
Decimals in place. The first contact of a new warehouse is over HTTP, because a failed native login ends the launcher's
form of the server (infra/services/clickhouse.py).
"""

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pyarrow as pa
from clickhouse_driver import Client, errors

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

_AUTHENTICATION: Final = frozenset({192, 193, 194, 516})


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """``clickhouse://[user[:password]@]host[:9000]/database?http_port=8123``, taken apart."""

    host: str
    port: int
    http_port: int
    user: str
    password: str
    database: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"  # never the password

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError with a text in both languages."""
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        options = parse_qs(parts.query, keep_blank_values=True)
        try:
            if parts.scheme != "clickhouse" or not parts.hostname:
                raise ValueError("clickhouse://host:9000/database?http_port=8123")
            if unknown := set(options) - {"http_port"}:
                raise ValueError(f"?{sorted(unknown)[0]}")
            return cls(
                host=parts.hostname,
                port=parts.port or 9000,
                http_port=int(options.get("http_port", ["8123"])[-1]),
                user=unquote(parts.username or "default"),
                password=unquote(parts.password or ""),
                database=identifier(parts.path.strip("/") or "default"),
            )
        except ValueError as error:
            raise ValueError(text_of("warehouse.url", url=shown, cause=error)) from None


@dataclass(frozen=True, slots=True)
class ClickHouseLimits:
    """Bounds in seconds and bytes."""

    connect_seconds: float = 5
    query_seconds: int = 60
    query_bytes: int = 2_000_000_000
    insert_seconds: float = 120


class ClickHouseWarehouse(ThreadedWarehouse):
    """A Warehouse on a server. Build it with ``open``."""

    def __init__(self, address: ClickHouseAddress, readers: int, limits: ClickHouseLimits, guards: InsertGuards) -> None:
        self._address = address
        self._limits = limits
        self._guards = guards
        self._local = threading.local()
        self._clients: list[Client] = []
        self._http: http.client.HTTPConnection | None = None
        self._readers = ThreadPoolExecutor(readers, "clickhouse-read")
        self._executor = ThreadPoolExecutor(1, "clickhouse-execute")
        self._inserter = ThreadPoolExecutor(1, "clickhouse-insert")
        super().__init__(self._inserter, self._executor, self._readers)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        readers: int = 4,
        limits: ClickHouseLimits | None = None,
        guards: InsertGuards | None = None,
    ) -> Self:
        """Connect; create the database when it is missing.

        Raises:
            ValueError: the URL is malformed.
            WarehouseUnavailable: nobody answers there.
            WarehouseError: code 516, the user or password is refused.
        """
        address = ClickHouseAddress.parse(url)
        self = cls(address, readers, limits or ClickHouseLimits(), guards or InsertGuards())
        return await self._opened(self._inserter, self._create_database)

    async def execute(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> None:
        statement, bound = one_statement(sql), check_parameters(sql, parameters)
        await self._run(self._executor, lambda: self._client(0).execute(statement, bound or None))

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Result:
        statement, bound = one_statement(sql), check_parameters(sql, parameters)
        return await self._run(self._readers, lambda: self._query(statement, bound))

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        block = prepare_block(table, data, token, self._guards)
        if block.num_rows:
            await self._run(self._inserter, lambda: self._insert(table, block, token))

    def _disconnect(self) -> None:
        for client in self._clients:
            client.disconnect()
        self._clients.clear()
        if self._http is not None:
            self._http.close()

    # --- in the threads ---

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        self._check_open()
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, call)
        except errors.UnknownTypeError as error:
            raise WarehouseError(str(error), 50) from error
        except errors.ServerException as error:
            raise self._refusal(error.code, str(error.message)) from error
        except (errors.Error, OSError, EOFError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _client(self, seconds: int) -> Client:
        """This thread's native connection."""
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            address, limits = self._address, self._limits
            client = Client(
                host=address.host,
                port=address.port,
                user=address.user,
                password=address.password,
                database=address.database,
                connect_timeout=limits.connect_seconds,
                send_receive_timeout=limits.query_seconds + 30,
                settings={
                    "server_side_params": True,
                    "namedtuple_as_json": False,
                    "session_timezone": "UTC",
                    "max_memory_usage": limits.query_bytes,
                    "max_execution_time": seconds,
                },
            )
            self._clients.append(client)
            self._local.client = client
        return client

    def _query(self, statement: str, bound: Mapping[str, object]) -> Result:
        client = self._client(self._limits.query_seconds)
        columns, types = client.execute(statement, bound or None, with_column_types=True, columnar=True)
        return to_result(types, columns or [()] * len(types))

    def _create_database(self) -> None:
        self._post({"query": f"CREATE DATABASE IF NOT EXISTS {self._address.database}"}, b"", self._limits.connect_seconds)

    def _insert(self, table: TableSchema, block: pa.Table, token: str) -> None:
        names = ", ".join(identifier(c.name) for c in table.columns)
        settings: dict[str, int | str] = {
            **insert_settings(token, self._guards),
            # The three that keep a NULL or a missing column from becoming 0 or '' in silence.
            "input_format_null_as_default": 0,
            "input_format_arrow_allow_missing_columns": 0,
            "input_format_defaults_for_omitted_fields": 0,
            "input_format_parallel_parsing": 0,
            "wait_end_of_query": 1,
            "database": self._address.database,
            "query": f"INSERT INTO {identifier(table.name)} ({names}) FORMAT ArrowStream",
        }
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, block.schema) as stream:
            for batch in block.to_batches():  # one, unless the guard is off
                stream.write_batch(batch)
        self._post(settings, sink.getvalue(), self._limits.insert_seconds)

    def _post(self, settings: Mapping[str, Any], body: bytes | pa.Buffer, seconds: float) -> None:
        """One request on the kept connection; once more on a new one when the server had closed the kept one.

        Repeating is safe: what goes this way is idempotent or carries its token.
        """
        address = self._address
        headers = {"X-ClickHouse-User": address.user, "X-ClickHouse-Key": address.password}
        path = "/?" + urlencode(settings)
        while True:
            fresh = self._http is None
            connection = self._http or http.client.HTTPConnection(
                address.host, address.http_port, timeout=self._limits.connect_seconds
            )
            self._http = None
            try:
                if fresh:
                    connection.connect()
                connection.sock.settimeout(seconds)
                connection.request("POST", path, body=memoryview(body), headers=headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if fresh or isinstance(error, TimeoutError):
                    raise
                continue
            if response.will_close:
                connection.close()
            else:
                self._http = connection
            if response.status != http.HTTPStatus.OK:
                code = 0
                with contextlib.suppress(ValueError):
                    code = int(response.headers.get("X-ClickHouse-Exception-Code", "0"))
                raise self._refusal(code, answer.decode(errors="replace")[:4000], inserting=True)
            return

    def _refusal(self, code: int, message: str, *, inserting: bool = False) -> WarehouseError:
        if code in _AUTHENTICATION:
            return WarehouseError(text_of("warehouse.login", address=self._address), code)
        return engine_error(code, message, inserting=inserting)

    def _unreachable(self, error: BaseException) -> WarehouseUnavailable:
        cause = str(error) or type(error).__name__
        return WarehouseUnavailable(text_of("warehouse.unreachable", address=self._address, cause=cause))


__all__ = ["ClickHouseAddress", "ClickHouseLimits", "ClickHouseWarehouse"]
