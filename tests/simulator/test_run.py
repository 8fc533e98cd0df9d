"""Feeding over HTTP against a server that answers as the contract says and misbehaves on demand."""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from simulator.almanac import HOUR_MS
from simulator.city import City
from simulator.cli import simulate
from simulator.run import Feeder, FeedError, FeedReport, Progress
from simulator.world import World
from tests.simulator.recount import Desk

START = 1_772_409_600_000  # 2026-03-02T00:00:00Z
TOKEN = "hlt_" + "t" * 8


class Platform:
    """The smallest server that keeps the contract of POST /v1/events. ``plan``: what to do with the next requests:
    an HTTP status, ``drop`` (close before the events are taken) or ``lose`` (take them, close before the answer)."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.statuses: Counter[str] = Counter()
        self.plan: list[int | str] = []
        self.requests = 0
        self.sizes: list[int] = []
        self.busy = 0
        self.most_busy = 0
        self.order: dict[str, list[int]] = {}
        self.max_events = 5_000
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
                length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
                body = await reader.readexactly(length)
                self.requests += 1
                todo = self.plan.pop(0) if self.plan else 200
                if todo == "drop":
                    break
                status, answer = (200, b"{}") if todo in (200, "lose") else (int(todo), b'{"title":"not now"}')
                if f"authorization: bearer {TOKEN}" not in head.lower():
                    status, answer = 401, b'{"title":"unknown token"}'
                self.busy += 1
                self.most_busy = max(self.busy, self.most_busy)
                await asyncio.sleep(0.002)
                if status == 200:
                    status, answer = self.take(body)
                self.busy -= 1
                if todo == "lose":
                    break
                retry = "Retry-After: 0\r\n" if status in (429, 503) else ""
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n{retry}\r\n".encode() + answer)
                await writer.drain()
        writer.close()

    def take(self, body: bytes) -> tuple[int, bytes]:
        elements = json.loads(body)
        if len(elements) > self.max_events:
            return 413, b'{"title":"too many"}'
        self.sizes.append(len(elements))
        results = []
        for element in elements:
            status = self.desk.answer(json.dumps(element, ensure_ascii=False).encode())
            self.statuses[status] += 1
            if status == "accepted":
                self.order.setdefault(element["source"], []).append(int(element["id"]))
            known = element if isinstance(element, dict) else {}
            results.append({"id": known.get("id"), "source": known.get("source"), "status": status})
        return 207 if any(r["status"] == "refused" for r in results) else 200, json.dumps({"results": results}).encode()


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    server = await asyncio.start_server(platform.handle, "127.0.0.1", 0, limit=1 << 24)
    platform.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield platform


async def eventually(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110  what is waited for is a figure, not an event
            await asyncio.sleep(0.005)


def expected(hours: int, seed: int = 4) -> Counter[str]:
    return Counter(s.expect for s in World(City(seed, "tiny"), START).advance(START + hours * HOUR_MS))


async def feed(city: City, url: str, token: str = TOKEN, **options: Any) -> FeedReport:
    return await Feeder(city, url, token, **options).run()


async def test_everything_is_sent_once_and_answered_as_the_ledger_expects(platform: Platform) -> None:
    told: list[Progress] = []
    report = await feed(
        City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 24 * HOUR_MS, batch=200, progress=told.append
    )
    assert platform.statuses == expected(24)
    assert (report.accepted, report.duplicates, report.refused) == tuple(
        platform.statuses[s] for s in ("accepted", "duplicate", "refused")
    )
    assert report.unexpected_count == 0
    assert report.retries == 0
    assert report.sent_until_ms == START + 24 * HOUR_MS
    figures = report.ledger.summary(report.sent_until_ms)
    assert figures["accepted_total"] == report.accepted
    assert figures["refused"] == report.refused > 0
    assert max(platform.sizes) <= 200
    assert platform.most_busy <= 2
    assert told[-1].phase == "done"
    assert told[-1].percent == 100
    assert told[-1].events == report.events


async def test_each_device_is_heard_in_order_with_several_requests_in_flight(platform: Platform) -> None:
    await feed(City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 12 * HOUR_MS, batch=50, in_flight=4)
    assert platform.most_busy > 1
    assert len(platform.order) > 10
    for ids in platform.order.values():
        assert ids == sorted(ids)


async def test_busy_and_failing_answers_are_waited_for(platform: Platform) -> None:
    platform.plan = [503, 200, 429, 500, 200, 503]
    report = await feed(City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 6 * HOUR_MS)
    assert platform.statuses == expected(6)
    assert report.retries == 4
    assert report.unexpected_count == 0


async def test_lost_connections_and_lost_answers_lose_and_double_nothing(platform: Platform) -> None:
    platform.plan = ["drop", 200, "lose", 200, "lose"]
    report = await feed(City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 6 * HOUR_MS, batch=300)
    assert platform.statuses["accepted"] == expected(6)["accepted"]
    assert platform.statuses["duplicate"] > expected(6)["duplicate"], "what was taken before the answer was lost is sent again"
    assert report.unexpected_count == 0
    assert report.retries == 3


async def test_a_server_that_is_away_is_waited_for() -> None:
    platform = Platform()
    server = await asyncio.start_server(platform.handle, "127.0.0.1", 0, limit=1 << 24)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    told: list[Progress] = []
    task = asyncio.create_task(
        feed(City(4, "tiny"), f"http://127.0.0.1:{port}", TOKEN, start=START, until=START + HOUR_MS, progress=told.append)
    )
    await asyncio.sleep(0.5)
    assert not task.done()
    async with await asyncio.start_server(platform.handle, "127.0.0.1", port, limit=1 << 24):
        report = await asyncio.wait_for(task, 20)
    assert report.accepted == expected(1)["accepted"]
    assert "connection" in {p.trouble for p in told}


async def test_a_batch_that_is_too_large_is_halved(platform: Platform) -> None:
    platform.max_events = 60
    report = await feed(City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 3 * HOUR_MS, batch=200)
    assert report.accepted == expected(3)["accepted"]
    assert max(platform.sizes) <= 60


async def test_a_wrong_token_ends_the_feed(platform: Platform) -> None:
    with pytest.raises(FeedError) as error:
        await feed(City(4, "tiny"), platform.url, "nobody", start=START, until=START + HOUR_MS)
    assert error.value.status == 401
    assert "unknown token" in error.value.detail


async def test_a_cancelled_feed_goes_on_where_it_was(platform: Platform, tmp_path: Path) -> None:
    position = tmp_path / "run" / "position.json"
    until = START + 30 * HOUR_MS
    first = Feeder(City(4, "tiny"), platform.url, TOKEN, start=START, until=until, batch=100, position=position)
    task = asyncio.create_task(first.run())
    await eventually(lambda: platform.statuses["accepted"] >= 2_000)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reached = json.loads(position.read_text("utf-8"))["sent_until_ms"]
    assert START < reached < until
    # Another start is given and does not count: the file's run goes on.
    second = await feed(
        City(4, "tiny"), platform.url, TOKEN, start=START + 7 * HOUR_MS, until=until, batch=100, position=position
    )
    assert platform.statuses["accepted"] == expected(30)["accepted"]
    assert second.unexpected_count == 0
    assert second.events < sum(expected(30).values()), "what was acknowledged is not sent again"
    whole = World(City(4, "tiny"), START)
    whole.advance(until)
    assert second.ledger.summary(until) == whole.ledger.summary(until)


async def test_a_finished_feed_sends_nothing_when_started_again(platform: Platform, tmp_path: Path) -> None:
    async def once() -> FeedReport:
        return await feed(
            City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 3 * HOUR_MS, position=tmp_path / "p.json"
        )

    assert (await once()).events > 0
    requests = platform.requests
    assert (await once()).events == 0
    assert platform.requests == requests


async def test_a_lost_position_file_sends_everything_again_and_counts_nothing_twice(platform: Platform) -> None:
    for _ in range(2):
        report = await feed(City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 6 * HOUR_MS)
        assert report.unexpected_count == 0
    assert platform.statuses["accepted"] == expected(6)["accepted"]
    assert report.accepted == 0


def test_a_position_file_of_another_city_is_refused(tmp_path: Path) -> None:
    position = tmp_path / "p.json"
    position.write_text(
        json.dumps({"version": 1, "seed": 9, "size": "tiny", "start_ms": START, "sent_until_ms": START}), "utf-8"
    )
    with pytest.raises(ValueError, match="seed=9 size=tiny"):
        Feeder(City(4, "tiny"), "http://127.0.0.1:1", TOKEN, start=START, position=position)
    position.write_text("[]", "utf-8")
    with pytest.raises(ValueError, match="no position file"):
        Feeder(City(9, "tiny"), "http://127.0.0.1:1", TOKEN, start=START, position=position)


async def test_live_keeps_the_pace_of_the_clock_and_never_runs_ahead(platform: Platform) -> None:
    now = START + 5 * HOUR_MS
    feeder = Feeder(City(4, "tiny"), platform.url, TOKEN, start=START, live_from=now, speed=1, clock=lambda: now)
    task = asyncio.create_task(feeder.run())
    await eventually(lambda: feeder.report.sent_until_ms >= now)
    await asyncio.sleep(0.6)
    assert feeder.report.sent_until_ms == now
    taken = platform.statuses["accepted"]
    assert taken == expected(5)["accepted"]
    now += 20 * 60_000
    await eventually(lambda: feeder.report.sent_until_ms >= now)
    assert platform.statuses["accepted"] > taken
    assert max(e["ms"] for e in platform.desk.accepted if "camera" not in e["type"]) <= now + 24 * HOUR_MS
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_speed_multiplies_time(platform: Platform) -> None:
    wall = 0
    feeder = Feeder(City(4, "tiny"), platform.url, TOKEN, start=START, speed=60, until=START + HOUR_MS, clock=lambda: wall)
    task = asyncio.create_task(feeder.run())
    await asyncio.sleep(0.3)
    wall = 30_000
    await eventually(lambda: feeder.report.sent_until_ms >= START + 29 * 60_000)
    assert feeder.report.sent_until_ms <= START + 30 * 60_000
    wall = 61_000
    report = await asyncio.wait_for(task, 20)
    assert report.sent_until_ms == START + HOUR_MS
    assert report.accepted == expected(1)["accepted"]


async def test_an_answer_that_the_city_did_not_plant_is_reported(platform: Platform) -> None:
    real = platform.desk.answer
    platform.desk.answer = lambda body: "refused" if b'"price.quoted"' in body else real(body)  # type: ignore[method-assign]
    report = await feed(City(4, "tiny"), platform.url, TOKEN, start=START, until=START + 24 * HOUR_MS)
    assert report.unexpected_count == 6
    assert report.unexpected[0]["expected"] == "accepted"
    assert report.unexpected[0]["type"] == "price.quoted"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import typer; from simulator.cli import simulate; typer.run(simulate)", *arguments]


async def test_the_command_feeds_and_says_what_was_answered(platform: Platform, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n", "ascii")
    process = await asyncio.create_subprocess_exec(
        *command("--url", platform.url, "--token-file", str(token), "--seed", "4", "--size", "tiny"),
        *("--start", "2026-03-02T00:00:00+00:00", "--days", "0.25", "--speed", "max", "--state", str(tmp_path / "s.json")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await asyncio.wait_for(process.communicate(), 60)
    text = " ".join(output.decode().split())
    assert process.returncode == 0, text
    assert f"{expected(6)['accepted']:,} accepted" in text
    assert "(0 unexpected)" in text
    assert json.loads((tmp_path / "s.json").read_text("utf-8"))["sent_until_ms"] == START + 6 * HOUR_MS


async def test_the_command_stops_when_it_is_told_to(platform: Platform, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, "ascii")
    process = await asyncio.create_subprocess_exec(
        *command("--url", platform.url, "--token-file", str(token), "--size", "tiny", "--history-hours", "1"),
        stderr=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: platform.statuses["accepted"] > 50)
    process.terminate()
    _, output = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0, output
    assert b"accepted" in output


@pytest.mark.parametrize(
    "wrong",
    [["--start", "yesterday"], ["--speed", "fast"], ["--speed", "0"], ["--size", "huge"], ["--start", "2026-03-02T00:00:00"]],
)
def test_the_command_refuses_what_it_cannot_understand(tmp_path: Path, wrong: list[str]) -> None:
    app = typer.Typer()
    app.command()(simulate)
    token = tmp_path / "token"
    token.write_text(TOKEN, "ascii")
    assert CliRunner().invoke(app, ["--token-file", str(token), *wrong]).exit_code == 2
    missing = CliRunner().invoke(app, ["--token-file", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "demo.token" in " ".join(missing.output.split())
