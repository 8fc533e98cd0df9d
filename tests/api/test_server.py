"""Connection limits, on real sockets."""

import asyncio
import socket

import pytest
from starlette.types import Receive, Scope, Send

from api.server import ServerLimits
from hengliu.metrics import Meters
from tests.api.wire import serve, wire

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_a_request_is_answered_and_the_connection_kept() -> None:
    async with serve(hello) as server, wire(server.port) as w:
        for _ in range(3):
            await w.send(GET)
            answer = await w.answer()
            assert (answer.status, answer.body) == (200, b"ok")


async def test_headers_that_dribble_are_cut_off_with_408() -> None:
    meters = Meters()
    async with serve(hello, meters, ServerLimits(header_timeout_s=0.3)) as server, wire(server.port) as w:
        await w.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(2):
            await asyncio.sleep(0.1)
            await w.send(b"X-A: b\r\n")
        answer = await w.answer()
        assert answer.status == 408
        assert answer.json()["code"] == "slow-request"
        assert await w.closed()
    assert meters.value("http_connections_refused_total", {"reason": "slow-headers"}) == 1


async def test_without_the_header_limit_a_dribble_holds_its_connection() -> None:
    async with serve(hello, limits=ServerLimits(header_timeout_s=3600)) as server, wire(server.port) as w:
        await w.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert not await w.closed(timeout=1.0)


async def test_a_silent_connection_is_closed() -> None:
    async with serve(hello, limits=ServerLimits(header_timeout_s=0.2)) as server, wire(server.port) as w:
        assert await w.closed(timeout=2.0)


async def test_a_dribble_after_a_first_request_is_cut_off_too() -> None:
    async with serve(hello, limits=ServerLimits(header_timeout_s=0.3)) as server, wire(server.port) as w:
        await w.send(GET)
        assert (await w.answer()).status == 200
        await w.send(b"GET / HT")
        assert (await w.answer()).status == 408


async def test_idle_keep_alive_connections_are_closed() -> None:
    async with serve(hello, limits=ServerLimits(header_timeout_s=60, keep_alive_s=1)) as server, wire(server.port) as w:
        await w.send(GET)
        assert (await w.answer()).status == 200
        assert await w.closed(timeout=3.0)


async def test_a_slow_answer_is_not_cut_by_the_header_timer() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.6)
        await hello(scope, receive, send)

    async with serve(slow, limits=ServerLimits(header_timeout_s=0.2)) as server, wire(server.port) as w:
        await w.send(GET)
        assert (await w.answer()).status == 200


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS hello\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000, 431, "headers-too-large"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed-request"),
    ],
)
async def test_what_is_not_http_gets_a_problem_document(sent: bytes, status: int, code: str) -> None:
    async with serve(hello) as server, wire(server.port) as w:
        await w.send(sent)
        answer = await w.answer()
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["code"] == code
        assert " / " in answer.json()["title"], "both languages, since none was asked for yet"


async def test_one_connection_too_many_is_told_when_to_come_back() -> None:
    async with serve(hello, limits=ServerLimits(max_connections=2)) as server:
        async with wire(server.port) as a, wire(server.port) as b, wire(server.port) as c:
            for w in (a, b):
                await w.send(GET)
                assert (await w.answer()).status == 200
            await c.send(GET)
            answer = await c.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert await c.closed()
        async with wire(server.port) as again:
            await asyncio.sleep(0.05)
            await again.send(GET)
            assert (await again.answer()).status == 200


async def test_far_too_many_connections_are_dropped() -> None:
    async with (
        serve(hello, limits=ServerLimits(max_connections=1)) as server,
        wire(server.port),
        wire(server.port),
        wire(server.port) as third,
    ):
        assert await third.closed(timeout=2.0)


async def test_a_client_that_never_reads_is_dropped() -> None:
    meters = Meters()
    done = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        finally:
            done.set()

    async with serve(flood, meters, ServerLimits(write_timeout_s=0.3)) as server, wire(server.port) as w:
        w.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await w.send(GET)
        await asyncio.wait_for(done.wait(), 10)
    assert meters.value("http_connections_refused_total", {"reason": "slow-reader"}) == 1


@pytest.mark.logs_errors
async def test_stopping_ends_within_its_deadline_though_a_client_hangs() -> None:
    async def forever(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    async with serve(forever, limits=ServerLimits(shutdown_s=1)) as server, wire(server.port) as w:
        await w.send(GET)
        await asyncio.sleep(0.1)
        began = loop.time()
        await server.stop()
        assert loop.time() - began < 4


async def refuse_unread(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"2"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


async def _send_much(port: int) -> int:
    """Send a large body without looking, then read. Returns the status; raises ConnectionError when it was lost."""
    async with wire(port) as w:
        await w.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
        for _ in range(50):
            await w.send(b"x" * 100_000)
            await asyncio.sleep(0.001)
        return (await w.answer()).status


async def test_an_answer_before_the_end_of_the_body_reaches_a_client_that_is_still_sending() -> None:
    async with serve(refuse_unread) as server:
        assert [await _send_much(server.port) for _ in range(5)] == [401] * 5


async def test_without_lingering_such_an_answer_is_lost() -> None:
    async with serve(refuse_unread, limits=ServerLimits(linger_bytes=0)) as server:
        lost = 0
        for _ in range(5):
            try:
                await _send_much(server.port)
            except (ConnectionError, asyncio.IncompleteReadError):
                lost += 1
        assert lost


async def test_lingering_ends() -> None:
    async with serve(refuse_unread, limits=ServerLimits(linger_s=0.3)) as server, wire(server.port) as w:
        await w.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
        assert (await w.answer()).status == 401
        await asyncio.sleep(0.6)
        for _ in range(100):
            try:
                await w.send(b"x" * 100_000)
            except ConnectionError:
                return
        raise AssertionError("the server still reads")


async def test_answers_do_not_wait_for_the_acknowledgement_of_their_head() -> None:
    async with serve(hello) as server, wire(server.port) as w:
        await w.send(GET)
        await w.answer()
        (connection,) = server._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "Nagle's algorithm: 40 ms more an answer"
