"""The live view: one producer, one serialisation, a bounded queue per client.

A frame is a whole picture, so a client that missed some has missed nothing: queues hold at most two frames and drop the
oldest. The producer runs the panels' named queries when the projectors have committed something, at most once a second, and
only while somebody looks. ``GET /v1/live/snapshot`` answers the same frame for a first paint.

A frame: ``{"at": RFC 3339, "seq": n, "<panel>": rows or row, …, "failed": [panel, …]}``. A panel whose query failed is null
and named in ``failed``: missing is not zero.

Warnings do not wait for the second: when the tables have new ones, a *part* is sent, a frame of the panels marked ``at_once``
alone. A panel that a frame does not have stands as it was. A frame or part never shows less of such a panel than one before it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from api.access import deps_of, reading_scope, require_reader
from api.deps import Progress
from api.encode import dumps
from api.problems import Problem, Refusal, language_of, problem_response
from hengliu.events import topics
from hengliu.events.envelope import iso_ms
from hengliu.metrics import Meters
from hengliu.ports.clock import Clock

__all__ = ["PANELS", "Client", "Hub", "Panel", "endpoint", "serve_client", "shanghai_day_start"]

logger = logging.getLogger(__name__)

MIN_INTERVAL_S: Final = 1.0
PART_INTERVAL_S: Final = 0.05
"""Between two parts: what comes meanwhile is in the next one."""
IDLE_INTERVAL_S: Final = 5.0
"""A frame is sent at least this often, so that clocks and "today" move and a dead producer shows."""
QUEUE_FRAMES: Final = 2
MAX_CLIENT_MESSAGES: Final = 100
"""Clients have nothing to say; one that talks this much is closed (1008)."""

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
SHANGHAI_OFFSET_MS: Final = 28_800_000
"""Asia/Shanghai is UTC+8 without daylight saving since 1991-09-15 (IANA tz database); frames are of today."""


def shanghai_day_start(now_ms: int) -> int:
    """Epoch ms of the last midnight in Asia/Shanghai.

    >>> shanghai_day_start(1_772_331_000_000)  # 2026-03-01T02:10Z is 10:10 there
    1772294400000
    """
    return now_ms - (now_ms + SHANGHAI_OFFSET_MS) % DAY_MS


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of the frame.

    Attributes:
        name: member of the frame.
        query: named query.
        parameters: its parameters at a time (epoch ms); times are epoch ms.
        limit: rows at most.
        single: the member is the first row (or null) instead of a list.
        at_once: topic whose rows do not wait for the next whole frame; empty: none.
    """

    name: str
    query: str
    parameters: Callable[[int], Mapping[str, object]]
    limit: int = 1000
    single: bool = False
    at_once: str = ""


def _nothing(now_ms: int) -> Mapping[str, object]:
    return {}


PANELS: tuple[Panel, ...] = (
    Panel("overview", "overview", lambda now: {"now": now}, 1, single=True),
    Panel("weighings", "weighings", _nothing, 20),
    Panel(
        "flows_today",
        "flows",
        lambda now: {"from": shanghai_day_start(now), "group": "hour,division,commodity,direction"},
    ),
    Panel("stocks", "stocks", _nothing, 500),
    Panel("warnings", "warnings", _nothing, 20, at_once=topics.WARNING),
    Panel("loads", "load-curves", lambda now: {"from": now - HOUR_MS, "slot": "60"}, 200),
)
"""The explicit list: a new panel is one line here. Every client gets every row every second, so panels hold what changed
lately; curves and tables over longer times are read through their own routes when a frame says that something moved."""

RunPanel = Callable[[Panel, int], Awaitable[list[dict[str, Any]]]]
"""Rows of one panel at a time (epoch ms), with the rights of somebody who sees the whole city."""


class Client:
    """One viewer's queue of frames. ``offer`` never waits: the oldest frame makes room, a part only for a newer part."""

    def __init__(self) -> None:
        self._frames: deque[str] = deque(maxlen=QUEUE_FRAMES)
        self._part: str | None = None
        self._ready = asyncio.Event()
        self.dropped = 0

    def offer(self, frame: str) -> None:
        if len(self._frames) == QUEUE_FRAMES:
            self.dropped += 1
        self._frames.append(frame)
        self._part = None  # all of it is in the frame
        self._ready.set()

    def offer_part(self, part: str) -> None:
        self.dropped += self._part is not None
        self._part = part
        self._ready.set()

    async def next(self) -> str:
        while not self._frames and self._part is None:
            self._ready.clear()
            await self._ready.wait()
        if self._frames:
            return self._frames.popleft()
        part, self._part = self._part, None
        assert part is not None
        return part


class Hub:
    """Makes frames and hands them to every client. ``run`` is a task of ``hengliu.compose``."""

    def __init__(
        self,
        run_panel: RunPanel,
        progress: Progress,
        clock: Clock,
        meters: Meters,
        panels: tuple[Panel, ...] = PANELS,
        max_clients: int = 200,
        idle_s: float = IDLE_INTERVAL_S,
    ) -> None:
        self._run_panel = run_panel
        self._progress = progress
        self._clock = clock
        self._meters = meters
        self._panels = panels
        self._max_clients = max_clients
        self._idle_s = idle_s
        self._clients: set[Client] = set()
        self._joined = asyncio.Event()
        self._lock = asyncio.Lock()
        self._frame = b""
        self._made_at = float("-inf")
        self._seq = 0
        self._asked = 0
        self._newest: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        """Of each panel ``at_once``: when its newest rows were asked for, counted, and they."""

    @property
    def clients(self) -> int:
        return len(self._clients)

    def join(self) -> Client | None:
        """A new client, or None when all places are taken."""
        if len(self._clients) >= self._max_clients:
            return None
        client = Client()
        self._clients.add(client)
        self._meters.set("live_clients", len(self._clients))
        self._joined.set()
        return client

    def leave(self, client: Client) -> None:
        self._clients.discard(client)
        self._meters.set("live_clients", len(self._clients))
        if client.dropped:
            self._meters.count("live_frames_total", client.dropped, result="dropped")
        if not self._clients:
            self._joined.clear()

    async def frame(self) -> bytes:
        """The newest frame; made now if the last one is older than a second. Many askers share one making."""
        async with self._lock:
            if time.monotonic() - self._made_at >= MIN_INTERVAL_S:
                await self._make()
            return self._frame

    async def run(self) -> None:
        """Produce frames and parts for as long as anyone looks. Never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_frames())
            group.create_task(self._run_parts())

    async def _run_parts(self) -> None:
        hurried = {p.at_once for p in self._panels if p.at_once}
        seen, before = -1, -1
        while True:
            await self._joined.wait()
            seen = await self._progress.wait_change(seen, self._idle_s)
            # Positions only grow, so their sum changes exactly when one of them does.
            now = sum(position for tp, position in self._progress.positions().items() if tp.topic in hurried)
            if now == before:
                continue
            first, before = before < 0, now
            if not first:
                await self._send_part()
            await asyncio.sleep(PART_INTERVAL_S)

    async def _send_part(self) -> None:
        now_ms = self._clock.now_ms()
        part: dict[str, Any] = {"at": iso_ms(now_ms), "seq": 0}
        for panel in self._panels:
            if panel.at_once:
                try:
                    part[panel.name] = await self._ask(panel, now_ms)
                except Exception as error:  # the next whole frame says it to the viewers
                    logger.warning("live panel %s failed", panel.name, exc_info=error)
                    return
        self._seq += 1
        part |= {"seq": self._seq, "failed": []}
        text = dumps(part).decode()
        for client in self._clients:
            client.offer_part(text)
        self._meters.count("live_frames_total", len(self._clients), result="sent")

    async def _ask(self, panel: Panel, now_ms: int) -> list[dict[str, Any]]:
        """Rows of a panel; those of an ``at_once`` one are never older than what was answered before."""
        self._asked += 1
        asked = self._asked
        rows = await self._run_panel(panel, now_ms)
        if panel.at_once:
            if asked > self._newest.get(panel.name, (0, rows))[0]:
                self._newest[panel.name] = (asked, rows)
            return self._newest[panel.name][1]
        return rows

    async def _run_frames(self) -> None:
        seen = -1
        while True:
            await self._joined.wait()
            began = time.monotonic()
            frame = (await self.frame()).decode()
            for client in self._clients:
                client.offer(frame)
            self._meters.count("live_frames_total", len(self._clients), result="sent")
            await asyncio.sleep(max(0.0, MIN_INTERVAL_S - (time.monotonic() - began)))
            seen = await self._progress.wait_change(seen, max(0.0, self._idle_s - MIN_INTERVAL_S))

    async def _make(self) -> None:
        began = time.monotonic()
        now_ms = self._clock.now_ms()
        frame: dict[str, Any] = {"at": iso_ms(now_ms), "seq": 0}
        failed: list[str] = []
        for panel in self._panels:
            try:
                rows = await self._ask(panel, now_ms)
                frame[panel.name] = (rows[0] if rows else None) if panel.single else rows
            except Exception as error:
                logger.warning("live panel %s failed", panel.name, exc_info=error)
                frame[panel.name] = None
                failed.append(panel.name)
        for panel in self._panels:
            if panel.at_once and frame[panel.name] is not None:
                frame[panel.name] = self._newest[panel.name][1]  # a part may have gone out while the others were asked
        self._seq += 1
        frame |= {"seq": self._seq, "failed": failed}
        self._frame = dumps(frame)
        self._made_at = time.monotonic()
        self._meters.observe("live_frame_seconds", self._made_at - began)


async def endpoint(websocket: WebSocket) -> None:
    """``/v1/live``: frames as text messages for whoever may see the whole city. Origin and Host were checked by the gate."""
    language = language_of(websocket.headers.get("accept-language", ""))
    try:
        if not reading_scope(require_reader(websocket)).everything:
            raise Refusal(Problem("whole-city-only"))
        hub = deps_of(websocket).hub
        client = hub.join()
        if client is None:
            raise Refusal(Problem("too-many-viewers", {"seconds": "10"}), retry_after_s=10)
    except Refusal as refusal:
        await websocket.send_denial_response(problem_response(refusal, language))
        return
    try:
        await websocket.accept()
    except BaseException:
        hub.leave(client)
        raise
    await serve_client(websocket, hub, client)


async def serve_client(websocket: WebSocket, hub: Hub, client: Client) -> None:
    """Send frames to an accepted WebSocket until either side ends it."""

    async def listen() -> None:
        for _ in range(MAX_CLIENT_MESSAGES):
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
        await websocket.close(1008)

    async def feed() -> None:
        client.offer((await hub.frame()).decode())
        while True:
            await websocket.send_text(await client.next())

    tasks = {asyncio.create_task(listen()), asyncio.create_task(feed())}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect | RuntimeError):
                raise error
    finally:
        hub.leave(client)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
