"""Feeding a platform: a city's events over ``POST /v1/events``, history as fast as possible, then at the pace of a clock.

Protocol of one round (the numbers stand in docs/simulator.md):

1. let the city run to the next instant and take what it sends;
2. post it, each lane (a site, a truck) in order; a refused request is repeated, a refused event is not;
3. when every event was answered, write the instant to the position file.

A process that dies after 1 or 2 sends the round again when it is started again: ids are a function of the plan and the instant,
so the platform answers ``duplicate``. After 3 nothing is sent twice.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from simulator.almanac import HOUR_MS
from simulator.city import City, Rates
from simulator.ledger import Ledger
from simulator.wire import Sent
from simulator.world import ROUND_MS, World

__all__ = ["FeedError", "FeedReport", "Feeder", "Progress", "wall_ms"]

LOOKAHEAD_MS = 22 * HOUR_MS
"""No event is written down longer than this before it leaves (a long drive with a breakdown, or parked over night; an outage),
so bodies are encoded again from here when a run skips what was sent before."""


def wall_ms() -> int:
    """The machine's clock, epoch ms."""
    return time.time_ns() // 1_000_000


class FeedError(Exception):
    """The platform refuses whole requests and will go on doing so.

    Attributes:
        status: HTTP status.
        detail: what it said.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a feed is. ``phase``: ``skip`` (what an earlier run sent), ``history``, ``live`` or ``done``.

    ``trouble`` says what stands in the way just now: empty, ``connection``, ``busy`` (429 or 503) or ``server`` (5xx).
    """

    phase: str
    city_ms: int
    percent: float
    events: int
    events_per_s: float
    seconds_left: float | None
    accepted: int
    duplicates: int
    refused: int
    unexpected: int
    trouble: str = ""


@dataclass(slots=True)
class FeedReport:
    """What was answered. ``unexpected``: answers other than the city expects, the first 50, with the platform's problem."""

    sent_until_ms: int = 0
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    retries: int = 0
    unexpected: list[dict[str, Any]] = field(default_factory=list)
    unexpected_count: int = 0
    ledger: Ledger = field(default_factory=Ledger)


class _Answer(msgspec.Struct):
    status: str
    id: Any = None
    source: Any = None
    problem: Any = None


class _Answers(msgspec.Struct):
    results: list[_Answer]


_decode = msgspec.json.Decoder(_Answers).decode


class Feeder:
    """One feed. ``run`` does the work; ``report`` and ``world`` can be looked at meanwhile.

    Args:
        city: the plan; registered with the platform beforehand (``simulator.city.registry``).
        base_url: of the platform, ``http://127.0.0.1:8000``.
        token: bearer token whose scope covers the city's devices.
        start: epoch ms at which the city starts; a position file's own start wins, so that a run goes on.
        until: epoch ms of the city at which to stop; None: run until cancelled.
        speed: city seconds per second once ``live_from`` is reached; None: as fast as possible throughout.
        live_from: epoch ms up to which everything is history, sent as fast as possible. None: with a speed, the start.
        position: file that remembers what was acknowledged; None: remember nothing.
        batch: events per request, at most.
        in_flight: requests at the same time.
        progress: called about once a second, and at the end.
        rates: irregularities, instead of those of the city's size.
        client: an HTTP client to use instead of an own one (tests of in-process applications).
        clock: epoch ms; paces the live part.

    Raises:
        ValueError: the position file is of another city.
    """

    def __init__(
        self,
        city: City,
        base_url: str,
        token: str,
        *,
        start: int,
        until: int | None = None,
        speed: float | None = None,
        live_from: int | None = None,
        position: Path | None = None,
        batch: int = 500,
        in_flight: int = 2,
        progress: Callable[[Progress], None] | None = None,
        rates: Rates | None = None,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        self._city = city
        self._url = base_url.rstrip("/") + "/v1/events"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents-batch+json"}
        self._until = until
        self._speed = speed
        self._position = position
        self._batch = batch
        self._in_flight = in_flight
        self._progress = progress
        self._client = client
        self._clock = clock
        self._trouble = ""
        self._told = 0.0
        self._state: tuple[str, float, int, int | None] = ("history", time.monotonic(), 0, None)
        self._skip_to: int | None = None
        if position is not None and (known := _read_position(position)) is not None:
            theirs = (known["seed"], known["size"], known.get("irregularities", "none"))
            if theirs != (city.seed, city.size_name, city.irregularities.name):
                raise ValueError(
                    f"{position} belongs to the city seed={known['seed']} size={known['size']} irregularities={theirs[2]}; "
                    f"run that one, or remove the file and use an empty platform"
                )
            start, self._skip_to = known["start_ms"], known["sent_until_ms"]
        self.world = World(city, start, rates=rates, encode=self._skip_to is None)
        self._start = self.world.start_ms
        self._live_from = self._start if live_from is None and speed is not None else live_from
        self.report = FeedReport(ledger=self.world.ledger)

    async def run(self) -> FeedReport:
        """Feed until the end (or for ever).

        Raises:
            FeedError: the platform refuses the requests themselves (token, media type, address).
            asyncio.CancelledError: on cancellation; the position file then names the last whole round.
        """
        if self._client is not None:
            await self._run(self._client)
        else:
            limits = httpx.Limits(max_connections=self._in_flight, max_keepalive_connections=self._in_flight)
            async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10), limits=limits, trust_env=False) as client:
                await self._run(client)
        return self.report

    async def _run(self, client: httpx.AsyncClient) -> None:
        now = self._start - 1
        if self._skip_to is not None:
            now = await self._skip(self._skip_to)
        began, first = time.monotonic(), now
        stride = 60_000.0
        end = self._until if self._speed is None else self._live_from
        assert end is not None or self._speed is None
        while end is None or now < end:
            now = now + max(1, int(stride)) if end is None else min(end, now + max(1, int(stride)))
            sent = self.world.advance(now)
            await self._post(client, sent, now)
            self._tell("history", now, began, first, end)
            # A round holds about two requests' worth of events for each that may be in flight, and never more time than the
            # city promises to keep apart: between devices the platform receives a round in any order.
            stride = min(ROUND_MS, max(1_000.0, stride * min(4.0, 2 * self._batch * self._in_flight / max(1, len(sent)))))
        if self._speed is not None and (self._until is None or now < self._until):
            await self._live(client, now)
        self._remember()
        self._tell("done", self.report.sent_until_ms, began, first, end, force=True)

    async def _skip(self, to: int) -> int:
        """Run the city over what an earlier run sent, in slices that leave the loop to others."""
        began, now = time.monotonic(), self._start - 1
        while now < to:
            if now >= to - LOOKAHEAD_MS:
                self.world.encode = True
            now = min(to, now + 10 * 60_000)
            self.world.advance(now)
            self._tell("skip", now, began, self._start, to)
            await asyncio.sleep(0)
        self.world.encode = True
        self.report.sent_until_ms = to
        return to

    async def _live(self, client: httpx.AsyncClient, now: int) -> None:
        assert self._speed is not None
        assert self._live_from is not None
        # At 1x the city keeps the machine's time, also what passed while history was loaded; faster or slower it starts here.
        origin_city, origin_wall = now, self._clock()
        if self._speed == 1 and 0 <= origin_wall - now < 48 * HOUR_MS:
            origin_city = origin_wall
        began = time.monotonic()
        while self._until is None or now < self._until:
            target = int(origin_city + (self._clock() - origin_wall) * self._speed)
            target = target if self._until is None else min(target, self._until)
            if target > now:
                # However far behind, a round stays small enough to be held and sent.
                now = min(target, now + ROUND_MS)
                await self._post(client, self.world.advance(now), now)
            self._tell("live", now, began, now, None)
            if now >= target:
                await asyncio.sleep(0.25)

    # ---- sending

    async def _post(self, client: httpx.AsyncClient, events: Sequence[Sent], now: int) -> None:
        lanes: list[list[Sent]] = [[] for _ in range(self._in_flight)]
        for sent in events:
            lanes[sent.lane % self._in_flight].append(sent)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes:
                    if lane:
                        group.create_task(self._post_lane(client, lane))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        self.report.sent_until_ms = now
        if events:
            self._remember()

    def _remember(self) -> None:
        if self._position is not None:
            _write_position(self._position, self._city, self._start, self.report.sent_until_ms, self.report.events)

    async def _post_lane(self, client: httpx.AsyncClient, lane: Sequence[Sent]) -> None:
        for first in range(0, len(lane), self._batch):
            await self._post_batch(client, lane[first : first + self._batch])

    async def _post_batch(self, client: httpx.AsyncClient, batch: Sequence[Sent]) -> None:
        """One request, repeated until it is answered."""
        assert all(sent.body for sent in batch), "an event was taken from the skipped part of the run"
        body = b"[" + b",".join(sent.body for sent in batch) + b"]"
        wait = 0.2
        while True:
            try:
                response = await client.post(self._url, content=body, headers=self._headers)
            except httpx.TransportError:
                self._trouble = "connection"
            else:
                if response.status_code in (200, 207):
                    self._trouble = ""
                    self._take(batch, _decode(response.content).results)
                    return
                if response.status_code == 413 and len(batch) > 1:
                    half = len(batch) // 2
                    await self._post_batch(client, batch[:half])
                    await self._post_batch(client, batch[half:])
                    return
                if response.status_code not in (429, 503) and response.status_code < 500:
                    raise FeedError(response.status_code, response.text[:500])
                self._trouble = "busy" if response.status_code in (429, 503) else "server"
                wait = _retry_after(response, wait)
            self.report.retries += 1
            phase, began, begun_at, end = self._state
            self._tell(phase, self.report.sent_until_ms, began, begun_at, end)
            await asyncio.sleep(wait)
            wait = min(10.0, wait * 2)

    def _take(self, batch: Sequence[Sent], answers: Sequence[_Answer]) -> None:
        report = self.report
        if len(answers) != len(batch):
            raise FeedError(200, f"{len(batch)} events were sent and {len(answers)} results came back")
        for sent, answer in zip(batch, answers, strict=True):
            report.events += 1
            if answer.status == "accepted":
                report.accepted += 1
            elif answer.status == "duplicate":
                report.duplicates += 1
            else:
                report.refused += 1
            # A repeated request turns "accepted" into "duplicate"; nothing else may differ from what the city planted.
            if answer.status != sent.expect and not (sent.expect == "accepted" and answer.status == "duplicate"):
                report.unexpected_count += 1
                if len(report.unexpected) < 50:
                    report.unexpected.append(
                        {"expected": sent.expect, "status": answer.status, "type": sent.type, "id": answer.id,
                         "source": answer.source, "problem": answer.problem}
                    )  # fmt: skip

    def _tell(self, phase: str, now: int, began: float, first: int, end: int | None, *, force: bool = False) -> None:
        self._state = (phase, began, first, end)
        at = time.monotonic()
        if self._progress is None or (not force and at - self._told < 1.0):
            return
        self._told = at
        report = self.report
        spent = max(1e-6, at - began)
        percent = 100.0 if not end or end <= self._start else min(100.0, 100 * (now - self._start) / (end - self._start))
        left = None
        if end is not None and now > first:
            left = max(0.0, (end - now) * spent / (now - first))
        rate = report.events / spent
        self._progress(
            Progress(phase, now, percent, report.events, rate, left, report.accepted, report.duplicates, report.refused,
                     report.unexpected_count, self._trouble)
        )  # fmt: skip


def _retry_after(response: httpx.Response, otherwise: float) -> float:
    """Seconds of a Retry-After header, at most 60; a date or nothing: ``otherwise``."""
    text = response.headers.get("Retry-After", "")
    return min(60.0, float(text)) if text.isdecimal() else otherwise


def _read_position(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    position = json.loads(path.read_text("utf-8"))
    if not isinstance(position, dict) or position.get("version") != 1:
        raise ValueError(f"{path} is no position file of the simulator")
    return position


def _write_position(path: Path, city: City, start_ms: int, sent_until_ms: int, events: int) -> None:
    """Replaced as a whole; a machine that loses the last write only makes some events be sent again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    text = json.dumps({"version": 1, "seed": city.seed, "size": city.size_name,
                       "irregularities": city.irregularities.name, "start_ms": start_ms, "sent_until_ms": sent_until_ms,
                       "events_this_run": events})  # fmt: skip
    new.write_text(text, "utf-8")
    new.replace(path)
