"""A raw HTTP/1.1 client for tests: what a well-behaved library would never send."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from api.server import ApiServer, ServerLimits
from hengliu.metrics import Meters

__all__ = ["Answer", "Wire", "read_answer", "serve"]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One response. Raises asyncio.IncompleteReadError when the connection ends first."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in head[1:]:
        if line:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split(" ")[1]), headers, body)


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, timeout: float = 5.0) -> Answer:
        return await asyncio.wait_for(read_answer(self.reader), timeout)

    async def closed(self, timeout: float = 5.0) -> bool:
        """Whether the server ends the connection within the time (what it still says is dropped)."""
        try:
            async with asyncio.timeout(timeout):
                while await self.reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


@contextlib.asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serve(app: Any, meters: Meters | None = None, limits: ServerLimits | None = None) -> AsyncIterator[ApiServer]:
    """An application on a free loopback port."""
    server = ApiServer(app, "127.0.0.1", 0, limits, meters)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
