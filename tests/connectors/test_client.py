"""Sending: order, push-back, lost connections, a restarted and a missing platform, refusals. The platform here is a small real
HTTP server that misbehaves as told."""

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from connectors.files.client import Loader, LoadError
from connectors.files.convert import Fault, Made, Skipped
from tests.e2e.deployment import free_port

TOKEN = "t"


def event(source: str, number: int, **device: Any) -> Made:
    body = json.dumps({"source": source, "id": str(number)}).encode()
    return Made(number + 2, source, str(number), body, device or None)


class Platform:
    """Answers events, after the mishaps in ``mishaps`` (one a request): a status, ``cut``, or ``lost``: taken and not told."""

    def __init__(self, *mishaps: int | str, limit: int = 500) -> None:
        self.mishaps = list(mishaps)
        self.limit = limit
        self.seen: dict[str, list[int]] = defaultdict(list)
        self.taken: set[tuple[str, str]] = set()
        self.registered: list[tuple[str, dict[str, Any]]] = []
        self.open = self.most_open = 0
        self.largest = 0
        self.port = 0
        self.connections: list[asyncio.Task[Any]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length")), 0)
                answer = await self._answer(head.split()[1], await reader.readexactly(length))
                if answer is None:
                    break
                status, extra, body = answer
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, path: str, body: bytes) -> tuple[int, str, bytes] | None:
        if path == "/healthz":
            return 200, "", b"{}"
        if path.startswith("/v1/registry/"):
            self.registered.append((path.rsplit("/", 1)[1], json.loads(body)))
            return 201, "", b"{}"
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0.005)
        self.open -= 1
        mishap = self.mishaps.pop(0) if self.mishaps else 0
        events = json.loads(body)
        self.largest = max(self.largest, len(events))
        if mishap == "cut":
            return None
        if isinstance(mishap, int) and mishap:
            return mishap, "retry-after: 0\r\n", b'{"code": "overloaded", "detail": "later"}'
        if len(events) > self.limit:
            return 413, "", b"{}"
        results = [self._take(e) for e in events]
        if mishap == "lost":
            return None
        refused = any(r["status"] == "refused" for r in results)
        return 207 if refused else 200, "", json.dumps({"results": results}).encode()

    def _take(self, sent: dict[str, Any]) -> dict[str, Any]:
        key = (sent["source"], sent["id"])
        if sent["id"] == "13":
            problem = {"code": "id-reused", "detail": "编号已用于其他内容。", "errors": []}
            return {"status": "refused", "problem": problem}
        if key in self.taken:
            return {"status": "duplicate"}
        self.taken.add(key)
        self.seen[key[0]].append(int(key[1]))
        return {"status": "accepted"}

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.close()
            await asyncio.gather(*self.connections)
            await server.wait_closed()


def many(sources: int, each: int) -> Iterator[Made | Skipped | Fault]:
    """In order of their sources, as meters stand in a file; ids from 100 on."""
    for source in range(sources):
        for number in range(each):
            yield event(f"s{source}", 100 + number, **({} if number else {"device": f"d{source}"}))


async def test_the_order_of_each_source_is_kept_over_parallel_requests() -> None:
    platform = Platform()
    async with platform.running() as url:
        report = await Loader(url, TOKEN, many(6, 700), [("sites", {"site": "x"})], batch=50, read_ahead=1500).run()
    assert report.accepted == 4200
    assert report.whole
    assert all(numbers == list(range(100, 800)) for numbers in platform.seen.values())
    assert 2 <= platform.most_open <= 4
    assert platform.largest <= 50
    assert platform.registered[0] == ("sites", {"site": "x"})
    assert [d["source"] for k, d in platform.registered if k == "devices"] == [f"s{s}" for s in range(6)]


async def test_push_back_and_lost_connections_lose_and_double_nothing() -> None:
    platform = Platform(429, "cut", 503, "lost", 500, "lost", 429)
    async with platform.running() as url:
        report = await Loader(url, TOKEN, many(3, 400), [], batch=100).run()
    assert report.accepted + report.duplicate == 1200
    assert report.duplicate in (100, 200)  # the two answers that were lost
    assert report.retries == 7
    assert report.whole
    assert Counter(len(v) for v in platform.seen.values()) == {400: 3}


async def test_a_batch_that_is_too_large_is_halved() -> None:
    platform = Platform(limit=30)
    async with platform.running() as url:
        report = await Loader(url, TOKEN, many(1, 200), [], batch=100).run()
    assert report.accepted == 200
    assert platform.seen["s0"] == list(range(100, 300))


async def test_refused_events_and_unreadable_rows_are_told_with_their_lines() -> None:
    results: list[Made | Skipped | Fault] = [
        event("s", 12),
        event("s", 13),
        Fault(9, "off-grid", "when", "x"),
        Skipped(10, "empty", "value", ""),
    ]
    platform = Platform()
    async with platform.running() as url:
        report = await Loader(url, TOKEN, iter(results), []).run()
    assert report.accepted == 1
    assert report.refused == {"id-reused": 1}
    assert report.faults == {("off-grid", "when"): 1}
    assert report.skipped == {("empty", "value"): 1}
    assert not report.whole
    assert sorted((p.line, p.code) for p in report.problems) == [(9, "off-grid"), (15, "id-reused")]
    assert report.settled == report.results == 4


async def test_a_platform_that_restarts_is_waited_for() -> None:
    platform = Platform()
    port = free_port()
    async with platform.running(port) as url:
        loader = Loader(url, TOKEN, many(2, 300), [], batch=100)
        platform.mishaps = ["cut"] * 2
        first = asyncio.create_task(loader.run())
        assert (await asyncio.wait_for(first, 30)).accepted == 600
    assert loader.report.trouble == ""


async def test_a_platform_that_stays_away_ends_the_load() -> None:
    platform = Platform(*[503] * 10_000)
    async with platform.running() as url:
        loader = Loader(url, TOKEN, many(1, 10), [], patience_s=2)
        with pytest.raises(LoadError, match="不可用"):
            await loader.run()
    assert loader.report.retries > 0


async def test_a_refused_request_ends_the_load_at_once() -> None:
    platform = Platform(401)
    async with platform.running() as url:
        with pytest.raises(LoadError, match=r"401.*overloaded: later"):
            await Loader(url, TOKEN, many(1, 10), []).run()


async def test_reading_ahead_is_bounded() -> None:
    """However long the file, no more rows are taken out of it than may wait."""
    platform = Platform()
    taken = 0
    most = 0

    def rows() -> Iterator[Made | Skipped | Fault]:
        nonlocal taken, most
        for result in many(1, 3000):
            taken += 1
            most = max(most, taken - len(platform.taken))
            yield result

    async with platform.running() as url:
        report = await Loader(url, TOKEN, rows(), [], batch=50, read_ahead=300).run()
    assert report.accepted == 3000
    assert most <= 300 + 50 + 1
