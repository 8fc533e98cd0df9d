"""Ten thousand mutated events, and bodies that would fill the memory: a clear refusal each, nothing else lost."""

import asyncio
import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from api.schemas import example_event
from hengliu.events.catalog import Catalog
from hengliu.events.family import Writer
from tests.api.conftest import Running, beside
from tests.api.test_events import BATCH, EVENT, event, post
from tests.api.wire import wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

CATALOG = Catalog()
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 1e308, "", " ", "\x00", "é" * 300, "蒙", "../..", "{}", "'; DROP TABLE x; --", [], [[]], {},
    {"a": {"b": []}}, "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "1e5", "NaN", 1.5, "\ufffe",
)  # fmt: skip


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        for name, child in value.items():
            found += _paths(child, (*at, name))
    return found


def _parent(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        value = value[step]
    return value


def mutate(rng: random.Random, made: dict[str, Any]) -> Any:
    """One or two faults in a valid event: a member lost, renamed, added, or of another type or value."""
    value: Any = copy.deepcopy(made)
    for _ in range(rng.randint(1, 2)):
        paths = _paths(value)
        if not paths:
            break
        path = rng.choice(paths)
        parent = _parent(value, path)
        match rng.randrange(5):
            case 0:
                del parent[path[-1]]
            case 1:
                parent[path[-1]] = rng.choice(ODD)
            case 2:
                parent[rng.choice(["x", "", "ID", "é", "data_base64", "specversion", "a" * 200])] = rng.choice(ODD)
            case 3:
                parent[str(path[-1]).upper()] = parent.pop(path[-1])
            case _:
                text = str(parent[path[-1]])
                cut = rng.randrange(len(text) + 1)
                parent[path[-1]] = text[:cut] + chr(rng.randrange(32, 0x2FFF)) + text[cut:]
    return value


def garble(rng: random.Random, body: bytes) -> bytes:
    """A few bytes changed, lost, doubled or moved."""
    made = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made))
        match rng.randrange(4):
            case 0:
                made[at] = rng.randrange(256)
            case 1:
                del made[at : at + rng.randint(1, 10)]
            case 2:
                made[at:at] = made[at : at + rng.randint(1, 20)]
            case _:
                made[at:at] = bytes(rng.choice([b'"', b"{", b"[", b"\\", b"\xff", b"\x00", b"\\ud800", b",", b"1e999"]))
        if not made:
            made = bytearray(b" ")
    return bytes(made)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.slow
async def test_ten_thousand_mutated_events(api: Running) -> None:
    rng = random.Random(20260301)
    families = [f for f in CATALOG.families.values() if f.writer is Writer.DEVICE]
    now = api.deps.clock.now_ms()
    before = resident_bytes()
    good: set[str] = set()
    statuses = {"accepted": 0, "duplicate": 0, "refused": 0}
    number = 0

    def fresh() -> dict[str, Any]:
        nonlocal number
        number += 1
        return example_event(families[number % len(families)], now, f"mut-{number}")

    for _ in range(16):
        batch: list[Any] = []
        expected: list[str | None] = []
        for _ in range(500):
            batch.append(mutate(rng, fresh()))
            expected.append(None)
            if rng.random() < 0.05:
                sound = event()
                good.add(sound["id"])
                batch.append(sound)
                expected.append(sound["id"])
        answer = await post(api, batch, BATCH)
        assert answer.status_code in (200, 207), answer.text
        results = answer.json()["results"]
        assert len(results) == len(batch)
        for result, id_ in zip(results, expected, strict=True):
            statuses[result["status"]] += 1
            if id_ is not None:
                assert (result["id"], result["status"]) == (id_, "accepted")
            elif result["status"] == "refused":
                problem = result["problem"]
                assert problem["code"]
                assert problem["title"]
                assert problem["detail"]
                assert problem["type"] == f"/problems/{problem['code']}"
    codes = {200: 0, 207: 0, 400: 0}
    for _ in range(20):
        bodies = [garble(rng, orjson.dumps(fresh())) for _ in range(100)]
        for answer in await asyncio.gather(*(post(api, body, rng.choice([EVENT, "application/json"])) for body in bodies)):
            codes[answer.status_code] += 1
    assert statuses["refused"] > 4_000
    assert codes[400] > 200
    assert codes[207] > 200
    assert api.deps.meters.value("http_faults_total") == 0
    for _ in range(200):
        read = await api.client.get("/v1/events/weighing.measured", params={"limit": "1000", "id": ",".join(sorted(good))})
        if len(read.json()["items"]) == len(good):
            break
        await asyncio.sleep(0.1)
    assert {row["id"] for row in read.json()["items"]} == good, "the sound events between them are all there, once"
    assert len(read.json()["items"]) == len(good)
    stats = (await api.client.get("/v1/stats")).json()
    kept = api.intake.counts.quarantined + api.intake.counts.unquarantined
    assert kept == stats["events"]["refused"], "every refusal is kept, or counted beyond the quota"
    assert api.intake.counts.quarantined > 5_000
    assert (await api.client.get("/readyz")).status_code == 200
    assert resident_bytes() - before < 400_000_000


async def _hold(made: Running, size: int, release: asyncio.Event) -> int:
    """Send most of a body, wait, send the rest."""
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {EVENT}\r\nContent-Length: {size}\r\n"
    async with wire(made.port) as w:
        await w.send(f"{head}Authorization: Bearer {made.tokens['device']}\r\n\r\n".encode())
        try:
            await w.send(b" " * (size - 2))
            await release.wait()
            await w.send(b"{}")
        except ConnectionError:
            pass
        answer = await w.answer(10)
        if answer.status == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["code"] == "overloaded"
        return answer.status


def _limits(made: Running, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(made.deps.limits, **changes)


async def test_bodies_beyond_the_memory_set_aside_are_pushed_back(api: Running) -> None:
    async with beside(api, limits=_limits(api, body_bytes=1_000_000, bodies_bytes=3_000_000, body_idle_s=10)) as made:
        release = asyncio.Event()
        clients = [asyncio.create_task(_hold(made, 900_000, release)) for _ in range(10)]
        await asyncio.sleep(1)
        release.set()
        statuses = sorted(await asyncio.gather(*clients))
        assert statuses == [207] * 3 + [429] * 7
        assert (await post(made, event())).status_code == 200, "the memory was given back"


async def test_without_that_limit_all_of_them_are_held(api: Running) -> None:
    async with beside(api, limits=_limits(api, body_bytes=1_000_000, bodies_bytes=10**9, body_idle_s=10)) as made:
        release = asyncio.Event()
        clients = [asyncio.create_task(_hold(made, 900_000, release)) for _ in range(10)]
        await asyncio.sleep(1)
        release.set()
        assert await asyncio.gather(*clients) == [207] * 10


async def _flood(send: Callable[[], Any], times: int) -> list[int]:
    return [(await send()).status_code for _ in range(times)]


async def test_a_hundred_slow_clients_do_not_stop_a_fast_one(api: Running) -> None:
    connections = []
    try:
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n")
            connections.append((reader, writer))
        async with httpx.AsyncClient(base_url=api.url, trust_env=False) as client:

            async def send() -> httpx.Response:
                return await client.post(
                    "/v1/events", content=orjson.dumps(event()), headers={"Content-Type": EVENT, **api.bearer("device")}
                )

            assert await _flood(send, 20) == [200] * 20
    finally:
        for _, writer in connections:
            writer.close()
