"""The HTTP server: uvicorn, with the limits that it does not have.

uvicorn bounds the keep-alive pause and nothing else: a client that sends its headers one byte a minute, or never reads its
answer, holds a connection for ever, and a full server answers in plain text without Retry-After. The two protocol classes
below add, per connection:

* ``header_timeout_s`` from the connection (or the first byte of a next request) to the end of the headers, then 408;
* ``write_timeout_s`` for a client that does not read;
* ``max_connections``: one more is answered 503 with Retry-After, and far more are dropped at once;
* an answer given before the request was read to its end is followed by ``linger_s`` of reading and dropping, because a
  connection closed with unread data is reset, and the reset takes the answer away from the client;
* faults of the HTTP syntax answered as problem documents (431 when the headers are too long).

Time limits of the body are the reading handler's (``api.ingest.read_body``), which knows whose body it is.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from api.problems import ALL_PROBLEMS, Problem, Refusal, problem_response, render
from hengliu.metrics import Meters
from hengliu.reference.problems import fill

__all__ = ["ApiServer", "ServerLimits"]

logger = logging.getLogger(__name__)

DROP_BEYOND: Final = 2
"""Connections beyond this multiple of the limit are closed without an answer."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Connection limits. Times in seconds, sizes in bytes."""

    max_connections: int = 512
    backlog: int = 512
    header_bytes: int = 16_384
    header_timeout_s: float = 10.0
    write_timeout_s: float = 30.0
    linger_s: float = 2.0
    linger_bytes: int = 16 * 1024 * 1024
    keep_alive_s: int = 15
    shutdown_s: int = 5
    """How long a running request may go on after the stop was asked."""
    live_message_bytes: int = 4_096
    """Largest WebSocket message taken from a client."""
    live_ping_s: float = 20.0


class _WriteTimeout:
    """Aborts a transport whose peer does not read."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, seconds: float, transport: asyncio.Transport, meters: Meters) -> None:
        def abort() -> None:
            meters.count("http_connections_refused_total", reason="slow-reader")
            transport.abort()

        self.stop()
        self._timer = loop.call_later(seconds, abort)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Lingering:
    """A transport whose ``close`` first lets the peer finish, when it is still sending."""

    def __init__(self, transport: asyncio.Transport, protocol: "_LimitedHttp") -> None:
        self._transport = transport
        self._protocol = protocol
        self._dropped = 0
        self.lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        protocol, transport = self._protocol, self._transport
        if self.is_closing() or not protocol.unread() or not transport.can_write_eof():
            transport.close()
            return
        self.lingering = True
        transport.write_eof()
        transport.resume_reading()
        protocol.loop.call_later(protocol.limits.linger_s, transport.abort)

    def drop(self, size: int) -> None:
        """Count what arrives while lingering."""
        self._dropped += size
        if self._dropped > self._protocol.limits.linger_bytes:
            self._transport.abort()


async def _too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Refusal(Problem("too-many-connections", {"seconds": "1"}), retry_after_s=1, close=True)
    await problem_response(refusal, "zh")(scope, receive, send)


class _LimitedHttp(H11Protocol):
    """One HTTP connection with limits. ``limits`` and ``meters`` are set on the subclass that ``ApiServer`` makes."""

    limits: ServerLimits
    meters: Meters

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_timer: asyncio.TimerHandle | None = None
        self._write = _WriteTimeout()
        self._received = False
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = _Lingering(transport, self)
        super().connection_made(cast("asyncio.Transport", self._lingering))
        open_now = len(self.connections)
        self.meters.set("http_connections", open_now)
        if open_now > self.limits.max_connections:
            self.meters.count("http_connections_refused_total", reason="too-many")
            if open_now > DROP_BEYOND * self.limits.max_connections:
                transport.abort()
                return
            self._refused = True
            self.app = _too_many_connections
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._write.stop()
        super().connection_lost(exc)
        self.meters.set("http_connections", len(self.connections))

    def unread(self) -> bool:
        """Whether the peer may be in the middle of a request."""
        return self.transport.get_protocol() is self and self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def eof_received(self) -> None:
        if self._lingering.lingering:
            self._lingering.abort()

    def data_received(self, data: bytes) -> None:
        if self._lingering.lingering:
            self._lingering.drop(len(data))
            return
        self._received = True
        super().data_received(data)
        upgraded = self.transport.get_protocol() is not self
        answering = bool(self.cycle) and not self.cycle.response_complete  # None before the first request
        if self.transport.is_closing() or upgraded or answering:
            self._disarm()
        elif self._header_timer is None and self.timeout_keep_alive_task is None:
            self._arm()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write.start(self.loop, self.limits.write_timeout_s, self.transport, self.meters)

    def resume_writing(self) -> None:
        self._write.stop()
        super().resume_writing()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        if self._refused:
            self._send_problem("too-many-connections", {"seconds": "1"})
            return
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        # Called inside uvicorn's "except RemoteProtocolError", so the error that carries the status is the current one.
        error = sys.exc_info()[1]
        hint = getattr(error, "error_status_hint", 400)
        self.meters.count("http_connections_refused_total", reason="malformed")
        self._send_problem("headers-too-large" if hint == 431 else "malformed-request", {})

    def _arm(self) -> None:
        self._disarm()
        self._header_timer = self.loop.call_later(self.limits.header_timeout_s, self._too_slow)

    def _disarm(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        self._header_timer = None
        if self.transport.is_closing():
            return
        self.meters.count("http_connections_refused_total", reason="slow-headers")
        if self._received:
            self._send_problem("slow-request", {"seconds": f"{self.limits.header_timeout_s:g}"})
        else:
            self.transport.close()

    def _send_problem(self, code: str, parameters: dict[str, str]) -> None:
        """Answer without the application; the language is not known before the headers are."""
        words = ALL_PROBLEMS[code]
        document = render(code, parameters, "zh", status=words.status)
        document["title"] = f"{words.title.zh} / {words.title.en}"
        document["detail"] = f"{document['detail']} / {fill(words.detail.en, parameters)}"
        body = orjson.dumps(document)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if words.status == 503:
            headers.append((b"retry-after", b"1"))
        try:
            for part in (
                h11.Response(status_code=words.status, headers=headers, reason=STATUS_PHRASES[words.status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                output = self.conn.send(part)
                if output:
                    self.transport.write(output)
        except h11.LocalProtocolError:
            # An answer is already under way (the body of its request broke off): nothing more can be said.
            self.transport.abort()
            return
        self.transport.close()


class _LimitedWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket connection that is aborted when its peer does not read."""

    limits: ServerLimits
    meters: Meters

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._write = _WriteTimeout()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # uvicorn 0.54 leaves this open after a denial, then logs an error and tries to answer 500 as well.
            self.handshake_complete = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._write.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write.start(self.loop, self.limits.write_timeout_s, self.transport, self.meters)

    def resume_writing(self) -> None:
        self._write.stop()
        super().resume_writing()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would take SIGTERM from ``hengliu.compose``."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Serves one ASGI application on one socket until it is stopped.

    Signals are the caller's: ``hengliu.compose`` stops its parts in order, so this server installs no handler.
    """

    def __init__(
        self, app: ASGIApp, host: str, port: int, limits: ServerLimits | None = None, meters: Meters | None = None
    ) -> None:
        limits = limits or ServerLimits()
        meters = meters or Meters()
        attributes = {"limits": limits, "meters": meters}
        config = uvicorn.Config(
            cast("Any", app),
            host=host,
            port=port,
            http=type("LimitedHttp", (_LimitedHttp,), attributes),
            ws=type("LimitedWebSocket", (_LimitedWebSocket,), attributes),
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the client's address decides who may read; a header must not
            server_header=False,
            backlog=limits.backlog,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=limits.shutdown_s,
            h11_max_incomplete_event_size=limits.header_bytes,
            ws_max_size=limits.live_message_bytes,
            ws_ping_interval=limits.live_ping_s,
            ws_ping_timeout=limits.live_ping_s,
            ws_per_message_deflate=False,  # one serialisation for all clients; compressing per client would undo it
        )
        self._server = _Server(config)
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The bound port (useful after binding port 0)."""
        assert self._socket is not None, "not started"
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # With the protocol named: asyncio switches Nagle's algorithm off only for sockets that say they are TCP, and accepted
        # ones say what the listening one does. h11 writes head and body of an answer apart, so that with it on the body waits
        # for the client's delayed acknowledgement: 44 ms a request on a kept connection.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self._host, self._port))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http-server")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the HTTP server stopped while starting")
            await asyncio.sleep(0.005)

    async def wait(self) -> None:
        """Return when the server has stopped; raise what stopped it."""
        assert self._task is not None, "not started"
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Stop listening, let running requests end within ``shutdown_s``, close the rest."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        if self._socket is not None:
            self._socket.close()
