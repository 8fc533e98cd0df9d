"""From a reading posted to its warning on a viewer's screen: ``python -m bench.latency --seconds 20 --rate 2000``.

The platform runs as a process on the embedded default. Gateways (8 keep-alive connections, TCP_NODELAY, one request at a time
on each) post 20 events a request, together ``--rate`` events/s: 60 % positions, 20 % registers, 10 % weighings, 10 %
heartbeats. Among them are ``--warnings`` readings a second that one event decides, in turn: a scale that shows 300 kg
when empty (``idle-not-zero``) and a device that has lost its power (``power-lost``); each is well again a second later.
A client of the page's own WebSocket, ``/v1/live``, looks for the rows of these warnings.

A latency is from just before the request with the reading is written to the receipt of the first message that shows the
warning, on one clock. Every warning must come, and each reading must have given one only. One clear line on standard output,
with ``--json`` an object; ``--stages`` also follows the log from this process and says where the time went.

What it does not prove: nothing of a real network, a browser's drawing, many viewers, tables of years, or of warnings that
wait for several events. Client and platform share the machine.
"""

import argparse
import asyncio
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bench.report import BUSY_LOAD, Machine, machine, write_page
from hengliu.compose.platform import LOCAL_PARTITIONS
from hengliu.events import topics
from hengliu.events.envelope import encode_event, iso_ms
from hengliu.ports.log import TopicPartition
from infra.local_log import LocalLog
from tests.e2e.deployment import Deployment

__all__ = ["Figures", "Load", "measure"]

PREFIX = "urn:dev:org:32473-"
SITE = "latency-site"
PARTITIONS = LOCAL_PARTITIONS
TRACKERS, METERS, SCALES, WATCHED = 60, 40, 16, 16
WELL_AGAIN_S = 1.0
LAST_S = 15.0
"""How long the last warnings are waited for."""
GOAL_MS = 500
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Load:
    """What is posted.

    Attributes:
        seconds: how long is measured.
        rate: events/s, all of them.
        warnings: of these, readings a second that raise a warning.
        batch: events a request.
        connections: requests under way at once, at most.
        warm_s: how long the same load runs before, not measured.
    """

    seconds: float = 20.0
    rate: int = 2_000
    warnings: int = 5
    batch: int = 20
    connections: int = 8
    warm_s: float = 3.0


DEFAULT = Load()


@dataclass(slots=True)
class Marked:
    """A reading that must give a warning. Times are of ``time.perf_counter``."""

    measured: bool
    posted: float = 0.0
    answered: float = 0.0
    canonical: float = 0.0
    exchanged: float = 0.0
    raised: float = 0.0
    made: float = 0.0
    """When the platform began to make the message (its member ``at``)."""
    received: float = 0.0
    warnings: set[str] = field(default_factory=set)
    """Ids of the warnings that were shown for it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out. Latencies in ms."""

    seconds: float
    rate: int
    posted_per_s: float
    batch: int
    connections: int
    raised: int
    missing: int
    doubled: int
    other_warnings: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    post_p50_ms: float
    post_p99_ms: float
    platform_cores: float
    load_1min: float
    stages: dict[str, tuple[float, float]]
    """Stage to p50 and p99; empty unless asked for."""

    def line(self) -> str:
        """The one line."""
        stages = "".join(f", {name} {p50:.0f}/{p99:.0f}" for name, (p50, p99) in self.stages.items())
        return (
            f"latency: reading posted to warning received at {self.rate:,} events/s (posted {self.posted_per_s:,.0f}/s, "
            f"{self.batch} a request, {self.connections} connections, {self.seconds:g} s): p50 {self.p50_ms:.0f} ms, p99 "
            f"{self.p99_ms:.0f} ms, max {self.max_ms:.0f} ms, {self.raised} warnings, {self.missing} missing, {self.doubled} "
            f"doubled; POST p50 {self.post_p50_ms:.1f} ms, p99 {self.post_p99_ms:.1f} ms; platform {self.platform_cores:.2f} "
            f"cores; load average {self.load_1min:.1f}" + (f"; stages p50/p99 ms{stages}" if stages else "")
        )


def registrations() -> list[tuple[str, dict[str, Any]]]:
    """The site and its devices."""
    until = iso_ms(time.time_ns() // 1_000_000 + 86_400_000)
    facts: list[tuple[str, dict[str, Any]]] = [
        ("enterprise.registered", {"enterprise": SITE, "name": "Latency", "kind": "mine", "division": "150303"}),
        ("site.registered", {"site": SITE, "enterprise": SITE, "name": "Latency", "division": "150303", "kind": "mine"}),
    ]
    for kind, prefix, count in (
        ("gps", "gps", TRACKERS), ("meter", "em", METERS), ("weighbridge", "wb", SCALES), ("other", "power", WATCHED),
    ):  # fmt: skip
        for n in range(count):
            device = f"latency-{prefix}-{n}"
            data = {"device": device, "source": f"{PREFIX}{device}", "kind": kind, "site": SITE}
            if kind == "weighbridge":
                data["calibrated_until"] = until
            if kind == "meter":
                data["quantity"] = "electricity"
            facts.append(("device.registered", data))
    return facts


class _Gateways:
    """Makes and posts the load."""

    def __init__(self, port: int, token: str, load: Load) -> None:
        self._load = load
        self._port = port
        self._head = (
            f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/cloudevents-batch+json\r\nContent-Length: "
        ).encode()
        self.marked: dict[tuple[str, str], Marked] = {}
        """By the warning's subject and beginning."""
        self.by_id: dict[str, Marked] = {}
        self.posts: list[float] = []
        self.posted = 0
        self._numbers: dict[str, int] = {}
        self._due = self._ordinary()
        self._well: list[tuple[float, int]] = []
        self._count = 0
        self._measuring = False

    def _ordinary(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        n = 0
        while True:
            for turn in range(10):
                n += 1
                if turn < 6:
                    t = n % TRACKERS
                    data: dict[str, Any] = {
                        "plate": f"蒙C{10_000 + t}", "latitude": "39.4400000", "longitude": "106.8900000", "speed_kmh": "0.00",
                    }  # fmt: skip
                    yield f"latency-gps-{t}", "vehicle.located", data
                elif turn < 8:
                    m = n % METERS
                    data = {"meter": f"latency-em-{m}", "quantity": "electricity", "reading": "register"}
                    yield f"latency-em-{m}", "meter.read", data | {"value": f"{n * 0.01:.2f}", "unit": "kWh"}
                elif turn < 9:
                    # Each vehicle once, and lighter than any limit: nothing of it gives a warning.
                    data = {"plate": f"蒙C{20_000 + n // 10 % 80_000}", "mass_kg": 15_000, "axles": 6, "commodity": "raw"}
                    yield f"latency-wb-{n // 10 % SCALES}", "weighing.measured", data
                else:
                    yield f"latency-power-{n % WATCHED}", "device.reported", {"kind": "heartbeat", "state": "ok"}

    def _event(self, device: str, type_: str, data: dict[str, Any], now_ms: int) -> tuple[str, bytes]:
        number = self._numbers.get(device, 0)
        self._numbers[device] = number + 1
        id_ = f"{device}-{number}"
        return id_, encode_event(type_, PREFIX + device, id_, now_ms, data)

    def _decided(self, number: int, now_ms: int, ill: bool) -> tuple[str, str, bytes]:
        """A reading that one event decides: its id, its source and itself."""
        if number % 2:
            device, type_ = f"latency-power-{number // 2 % WATCHED}", "device.reported"
            data: dict[str, Any] = {"kind": "power", "state": "lost" if ill else "ok"}
        else:
            device, type_ = f"latency-wb-{number // 2 % SCALES}", "weighing.measured"
            data = {"plate": f"蒙D{10_000 + 2 * number + ill}", "mass_kg": 15_000, "axles": 6, "zero_kg": 300 if ill else 0}
        id_, event = self._event(device, type_, data, now_ms)
        return id_, PREFIX + device, event

    def _body(self, marking: int | None, now: float) -> tuple[bytes, list[Marked]]:
        """A request's events: ordinary ones, and of the others what is due."""
        now_ms = time.time_ns() // 1_000_000
        events: list[bytes] = []
        marked: list[Marked] = []
        if marking is not None:
            id_, source, event = self._decided(marking, now_ms, ill=True)
            one = Marked(measured=self._measuring)
            self.marked[source, iso_ms(now_ms)] = self.by_id[id_] = one
            marked.append(one)
            events.append(event)
            self._well.append((now + WELL_AGAIN_S, marking))
        while self._well and self._well[0][0] <= now and len(events) < self._load.batch:
            _, number = self._well.pop(0)
            events.append(self._decided(number, now_ms, ill=False)[2])
        while len(events) < self._load.batch:
            device, type_, data = next(self._due)
            events.append(self._event(device, type_, data, now_ms)[1])
        body = b"[" + b",".join(events) + b"]"
        return self._head + str(len(body)).encode() + b"\r\n\r\n" + body, marked

    async def run(self) -> float:
        """Post the load; seconds that the measured part took."""
        await self._post_for(self._load.warm_s)
        self._measuring = True
        self.posts.clear()
        self.posted = 0
        began = time.perf_counter()
        await self._post_for(self._load.seconds)
        return time.perf_counter() - began

    async def _post_for(self, seconds: float) -> None:
        load = self._load
        requests = max(1, round(seconds * load.rate / load.batch))
        interval = seconds / requests
        every = max(1, round(load.rate / load.batch / load.warnings))
        began = time.perf_counter()

        async def gateway(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)  # asyncio sets TCP_NODELAY
            for n in range(number, requests, load.connections):
                await asyncio.sleep(max(0.0, began + n * interval - time.perf_counter()))
                marking = None
                if n % every == 0:
                    marking, self._count = self._count, self._count + 1
                request, marked = self._body(marking, time.perf_counter())
                posted = time.perf_counter()
                for one in marked:
                    one.posted = posted
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                answer = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                answered = time.perf_counter()
                if not head.startswith(b"HTTP/1.1 200") or b'"refused"' in answer or b'"duplicate"' in answer:
                    raise RuntimeError((head[:100] + answer[:500]).decode(errors="replace"))
                for one in marked:
                    one.answered = answered
                self.posts.append(answered - posted)
                self.posted += load.batch
            writer.close()

        await asyncio.gather(*(gateway(n) for n in range(load.connections)))


class _Viewer:
    """A client of the live line."""

    def __init__(self, url: str, token: str, gateways: _Gateways) -> None:
        self._url = url.replace("http://", "ws://") + "/v1/live"
        self._token = token
        self._gateways = gateways
        self.connected = asyncio.Event()
        self.others: set[str] = set()

    async def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        async with connect(self._url, additional_headers=headers, proxy=None, max_size=None) as socket:
            self.connected.set()
            while True:
                try:
                    text = await socket.recv()
                except ConnectionClosed:
                    return
                received = time.perf_counter()
                lag = time.time() - received
                frame = orjson.loads(text)
                for row in frame.get("warnings") or ():
                    one = self._gateways.marked.get((row["subject"], row["since"]))
                    if one is None:
                        self.others.add(row["warning"])
                        continue
                    one.warnings.add(row["warning"])
                    if not one.received:
                        one.received = received
                        one.made = datetime.fromisoformat(frame["at"]).timestamp() - lag


async def follow(path: Path, gateways: _Gateways) -> None:
    """Note when each marked reading, its forwarded copy and its warning could be read from the log. Until cancelled."""
    followed = (topics.WEIGHING, topics.TELEMETRY, topics.BY_DEVICE, topics.WARNING)
    origins: dict[str, Marked] = {}
    async with LocalLog.open_read_only(path) as log:
        tps = [TopicPartition(topic, p) for topic in followed for p in range(PARTITIONS)]
        reader = await log.open_reader(await log.end_positions(tps))
        try:
            while True:
                pieces = await reader.poll(1_000, 1_000)
                now = time.perf_counter()
                for piece in pieces:
                    for value, headers in zip(piece.values, piece.headers, strict=True):
                        if not value:
                            continue
                        if piece.topic == topics.WARNING:
                            one = origins.get(orjson.loads(value).get("cause", ""))
                            if one is not None and not one.raised:
                                one.raised = now
                        elif b'"lost"' in value or b'"zero_kg":300' in value:
                            one = gateways.by_id.get(orjson.loads(value)["id"])
                            if one is None:
                                continue
                            if piece.topic == topics.BY_DEVICE:
                                origins[headers.origin] = one
                                one.exchanged = now
                            else:
                                one.canonical = now
        finally:
            await reader.close()


STAGES = ("intake", "exchange", "operator", "projector", "live feed")
"""In ``Marked`` the times between which they lie."""


def stages_of(marked: list[Marked]) -> dict[str, tuple[float, float]]:
    """p50 and p99 of each stage, ms."""
    seen = [m for m in marked if m.received and m.canonical and m.exchanged and m.raised]
    if not seen:
        return {}
    spans = [(m.posted, m.canonical, m.exchanged, m.raised, m.made, m.received) for m in seen]
    return {stage: _quantiles([(times[i + 1] - times[i]) * 1_000 for times in spans])[:2] for i, stage in enumerate(STAGES)}


def _quantiles(values: list[float]) -> tuple[float, float, float]:
    """p50, p99 and the greatest (each 0 of none)."""
    if not values:
        return 0.0, 0.0, 0.0
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], ordered[-1]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(load: Load, folder: Path, stages: bool = False) -> Figures:
    """Run the platform in ``folder`` under the load.

    Raises:
        RuntimeError: an event was not accepted.
    """
    async with Deployment(folder, environment={"HENGLIU_PARTITIONS": str(PARTITIONS)}) as running:
        await register(running)
        gateways = _Gateways(running.port, running.token, load)
        viewer = _Viewer(running.url, running.token, gateways)
        beside = [asyncio.create_task(viewer.run())]
        if stages:
            beside.append(asyncio.create_task(follow(folder / "log.sqlite", gateways)))
        try:
            await asyncio.wait_for(viewer.connected.wait(), 20)
            pid = running.processes["up"].pid
            cpu, began = cpu_seconds(pid), time.perf_counter()
            seconds = await gateways.run()
            cpu, elapsed = cpu_seconds(pid) - cpu, time.perf_counter() - began
            deadline = time.perf_counter() + LAST_S
            while time.perf_counter() < deadline and any(not m.received for m in gateways.by_id.values()):
                for task in beside:
                    if task.done():
                        task.result()
                        raise RuntimeError("the live line was closed")
                await asyncio.sleep(0.05)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    marked = [m for m in gateways.by_id.values() if m.measured]
    came = [m for m in marked if m.received]
    p50, p99, most = _quantiles([(m.received - m.posted) * 1_000 for m in came])
    post_p50, post_p99, _ = _quantiles([s * 1_000 for s in gateways.posts])
    return Figures(
        seconds=load.seconds,
        rate=load.rate,
        posted_per_s=round(gateways.posted / seconds, 1),
        batch=load.batch,
        connections=load.connections,
        raised=len(marked),
        missing=len(marked) - len(came),
        doubled=sum(len(m.warnings) > 1 for m in marked),
        other_warnings=len(viewer.others),
        p50_ms=round(p50, 1),
        p99_ms=round(p99, 1),
        max_ms=round(most, 1),
        post_p50_ms=round(post_p50, 2),
        post_p99_ms=round(post_p99, 2),
        platform_cores=round(cpu / elapsed, 2),
        load_1min=round(os.getloadavg()[0], 1),
        stages={name: (round(a, 1), round(b, 1)) for name, (a, b) in stages_of(came).items()} if stages else {},
    )


async def register(running: Deployment) -> None:
    """Register what the readings come from. The site first; of the devices several at once."""
    facts = registrations()
    await running.register(facts[:2])
    await asyncio.gather(*(running.register(facts[2 + n :: 8]) for n in range(8)))


def text_of(figures: Figures, where: Machine, command: str) -> str:
    """The paragraph of ``docs/benchmarks.md``, without its markers."""
    verdict = "within" if figures.p99_ms < GOAL_MS and not figures.missing else "**not** within"
    busy = (
        " **The machine was busy with other programs, with which latency grows out of all proportion: only CPU and counts are "
        "good for anything here.**"
        if where.load_1min > BUSY_LOAD
        else ""
    )
    lines = [
        f"- {where.at}, commit `{where.commit}`, `{command}`",
        f"- {where.cores} cores of {where.processor}, {where.memory_gb} GB, kernel {where.kernel}, Python {where.python}",
        f"- load average at the start: {where.load_1min}, at the end: {figures.load_1min} (the bench's own included).{busy}",
        "",
        (
            f"{figures.raised} warnings, {figures.missing} missing, {figures.doubled} doubled: p50 {figures.p50_ms:.0f} ms, "
            f"p99 {figures.p99_ms:.0f} ms, greatest {figures.max_ms:.0f} ms; {verdict} the goal of {GOAL_MS} ms. Posted: "
            f"{figures.posted_per_s:,.0f} of {figures.rate:,} events/s, {figures.batch} a request over {figures.connections} "
            f"connections; a request took p50 {figures.post_p50_ms:.1f} ms, p99 {figures.post_p99_ms:.1f} ms. The platform "
            f"used {figures.platform_cores:.2f} cores."
        ),
    ]
    if figures.stages:
        lines += ["", "| stage | p50 ms | p99 ms |", "|---|--:|--:|"]
        lines += [f"| {name} | {p50:.0f} | {p99:.0f} |" for name, (p50, p99) in figures.stages.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=DEFAULT.seconds)
    parser.add_argument("--rate", type=int, default=DEFAULT.rate, help="events/s")
    parser.add_argument("--warnings", type=int, default=DEFAULT.warnings, help="readings a second that raise a warning")
    parser.add_argument("--batch", type=int, default=DEFAULT.batch, help="events a request")
    parser.add_argument("--connections", type=int, default=DEFAULT.connections)
    parser.add_argument("--stages", action="store_true", help="also follow the log, which costs some of the machine")
    parser.add_argument("--json", action="store_true", help="an object in place of the line")
    parser.add_argument("--write", action="store_true", help=f"put the figures into docs/{PAGE.name}")
    arguments = parser.parse_args()
    load = Load(arguments.seconds, arguments.rate, arguments.warnings, arguments.batch, arguments.connections)
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(load, Path(folder) / "data", arguments.stages))
    print(json.dumps(asdict(figures)) if arguments.json else figures.line())
    if arguments.write:
        command = shlex.join(["python", "-m", "bench.latency", *(a for a in sys.argv[1:] if a != "--write")])
        write_page(PAGE, "latency", text_of(figures, where, command))
    return 1 if figures.missing or figures.doubled else 0


if __name__ == "__main__":
    sys.exit(main())
