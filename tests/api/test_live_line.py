"""/v1/live over a real WebSocket."""

import asyncio
import contextlib
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.live import PANELS, Hub, Panel
from api.server import ServerLimits
from tests.api.conftest import Running, beside
from tests.api.test_events import event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")


def line(api: Running, **headers: str) -> Any:
    return connect(f"ws://127.0.0.1:{api.port}/v1/live", additional_headers=headers, proxy=None)


async def frame_of(socket: Any) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(await asyncio.wait_for(socket.recv(), 10))
    return made


async def close_code(socket: Any) -> int | None:
    """What the server closed the line with."""
    try:
        for _ in range(100):
            await asyncio.wait_for(socket.recv(), 10)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None
    raise AssertionError("the line stays open")


async def test_a_frame_comes_at_once_and_another_after_a_weighing(api: Running) -> None:
    async with line(api) as socket:
        first = await frame_of(socket)
        assert set(first) == {"at", "seq", "failed", *(p.name for p in PANELS)}
        assert first["failed"] == []
        assert first["overview"] is not None
        sent = event(data={"plate": "蒙C77777", "mass_kg": 30_000})
        assert (await post(api, sent)).status_code == 200
        for _ in range(10):
            frame = await frame_of(socket)
            if any(w["id"] == sent["id"] for w in frame["weighings"]):
                break
        else:
            raise AssertionError("the weighing never came")
        assert frame["seq"] > first["seq"]


async def test_the_snapshot_is_the_same_frame(api: Running) -> None:
    answer = await api.client.get("/v1/live/snapshot")
    assert answer.status_code == 200
    assert set(answer.json()) == {"at", "seq", "failed", *(p.name for p in PANELS)}
    assert answer.headers["cache-control"] == "no-store"


async def test_many_viewers_get_the_same_bytes(api: Running) -> None:
    async def first_new(api: Running) -> dict[int, bytes]:
        async with line(api) as socket:
            seen = {}
            for _ in range(3):
                data = await asyncio.wait_for(socket.recv(decode=False), 10)
                seen[orjson.loads(data)["seq"]] = data
            return seen

    everybody = await asyncio.gather(*(first_new(api) for _ in range(20)))
    assert any(all(seq in seen for seen in everybody) for seq in everybody[0])
    by_seq: dict[int, set[bytes]] = {}
    for seen in everybody:
        for seq, data in seen.items():
            by_seq.setdefault(seq, set()).add(data)
    assert all(len(variants) == 1 for variants in by_seq.values())


async def test_a_viewer_that_never_reads_is_dropped_and_the_others_are_served(api: Running) -> None:
    # Large frames fill the socket's buffers quickly.
    panel = Panel("weighings", "weighings", lambda now: {}, 20)

    async def much(panel: Panel, now_ms: int) -> list[dict[str, Any]]:
        return [{"text": "x" * 4_000_000}]

    hub = Hub(much, api.deps.progress, api.deps.clock, api.deps.meters, (panel,), idle_s=1.0)
    running_hub = asyncio.create_task(hub.run())
    limit = 100_000_000
    try:
        async with (
            beside(api, ServerLimits(write_timeout_s=0.5), hub=hub) as made,
            connect(f"ws://127.0.0.1:{made.port}/v1/live", proxy=None, max_size=limit, close_timeout=0.1) as deaf,
            connect(f"ws://127.0.0.1:{made.port}/v1/live", proxy=None, max_size=limit) as other,
        ):
            deaf.transport.pause_reading()
            for _ in range(5):
                assert (await frame_of(other))["weighings"]
            assert hub.clients == 1, "only the one that reads is left"
    finally:
        running_hub.cancel()
        await asyncio.gather(running_hub, return_exceptions=True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"X-Forwarded-For": "10.0.0.1"}, 401),
    ],
)
async def test_who_may_not_look_is_refused_before_the_handshake(api: Running, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with line(api, **headers):
            pass
    assert refused.value.response.status_code == status
    assert orjson.loads(refused.value.response.body)["type"].startswith("/problems/")


async def test_a_token_of_a_narrow_scope_does_not_see_the_whole_city(api: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with line(api, Authorization=f"Bearer {api.tokens['reader']}"):
            pass
    assert refused.value.response.status_code == 403
    answer = await api.client.get("/v1/live/snapshot", headers=api.bearer("reader"))
    assert (answer.status_code, answer.json()["code"]) == (403, "whole-city-only")
    async with line(api, Authorization=f"Bearer {api.tokens['everything']}") as socket:
        assert await frame_of(socket)


async def test_our_own_page_may_look(api: Running) -> None:
    async with line(api, Origin=api.url) as socket:
        assert await frame_of(socket)


async def test_a_viewer_who_talks_is_closed(api: Running) -> None:
    async with line(api) as socket:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                await socket.send("hello")
                await asyncio.sleep(0)
        assert await close_code(socket) == 1008


async def test_a_large_message_is_refused(api: Running) -> None:
    async with line(api) as socket:
        await frame_of(socket)
        await socket.send("x" * 100_000)
        assert await close_code(socket) == 1009


async def test_viewers_who_leave_leave_nothing_behind(api: Running) -> None:
    for _ in range(30):
        async with line(api) as socket:
            await frame_of(socket)
    for _ in range(50):
        if api.deps.hub.clients == 0:
            break
        await asyncio.sleep(0.05)
    assert api.deps.hub.clients == 0


async def test_places_are_limited(api: Running) -> None:
    hub = api.deps.hub
    taken = []
    while (client := hub.join()) is not None:
        taken.append(client)
    try:
        with pytest.raises(InvalidStatus) as refused:
            async with line(api):
                pass
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["retry-after"]) >= 1
    finally:
        for client in taken:
            hub.leave(client)
