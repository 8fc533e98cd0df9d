"""The ingest API's speed beside its own limits, in one run of under a minute: ``python -m bench.ingest``.

The server is a process of its own (log, intake, API; with ``--engine kafka`` beside a broker); the client is this process and
sends requests made beforehand over a few keep-alive connections, one request at a time on each, as devices do.

Limits, same bytes and connections: an application on the same server that reads the body and answers a constant (what HTTP
alone allows), and ``Intake.submit`` called in the server's process (what intake alone allows). One JSON object on standard
output; processor times are of the server.

What it does not prove: nothing of tables, streams, TLS or a real network; nothing of a machine with a free core for
the client, since both share this one's.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from api.app import create_app
from api.deps import ApiLimits, Deps
from api.health import Monitor
from api.live import Hub, Panel
from api.progress import StageProgress
from api.server import ApiServer
from bench.engines import ENGINES, event_log, kafka_of
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.intake.directory import Directory
from hengliu.intake.service import Intake, IntakePolicy
from hengliu.metrics import Meters
from hengliu.ports.clock import SystemClock
from hengliu.rights import PLATFORM, Principal, Role, TokenStore
from projections.queries import QUERIES, family_query, run_query

PARTITIONS = 4
SOURCES = 16
PREFIX = "urn:dev:org:32473-wb-bench-"
DEVICE = Principal("bench", frozenset({Role.DEVICE}), (f"{PREFIX}*",))


def events(count: int, epoch: str) -> list[bytes]:
    """Weighings of the catalogue's own example, over several devices."""
    family = Catalog()["weighing.measured"]
    now = SystemClock().now_ms() - 3_600_000
    return [
        encode_event(family.type, f"{PREFIX}{n % SOURCES}", f"{epoch}-{n // SOURCES}", now + n, dict(family.example_data))
        for n in range(count)
    ]


def bodies(elements: Sequence[bytes], batch: int) -> list[bytes]:
    if batch == 1:
        return list(elements)
    return [b"[" + b",".join(elements[i : i + batch]) + b"]" for i in range(0, len(elements), batch)]


# ---- the server's process ----------------------------------------------------------------------------------------------


async def constant(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and answers the same few bytes."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"14"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"results":[]}'})


async def _no_panel(panel: Panel, now_ms: int) -> list[dict[str, Any]]:
    return []


async def serve(folder: Path, bootstrap: str) -> None:
    """Serve both applications; commands come on standard input, one JSON array a line, answers go to standard output."""
    catalog, clock, meters = Catalog(), SystemClock(), Meters()
    tokens = TokenStore(folder / "tokens.json", clock)
    token = tokens.issue("bench", [Role.DEVICE], sources=[f"{PREFIX}*"])
    async with event_log(folder, bootstrap) as log:
        await log.create_topics(catalog.topic_specs(PARTITIONS))
        directory = Directory(log, PARTITIONS)
        await directory.start()
        intake = Intake(log, catalog, PARTITIONS, clock, IntakePolicy(), directory)
        await intake.start()
        site = {"site": "b", "enterprise": "b", "name": "b", "division": "150303", "kind": "mine"}
        registrations = [("site.registered", site)] + [
            ("device.registered", {"device": f"b-{n}", "source": f"{PREFIX}{n}", "kind": "weighbridge", "site": "b"})
            for n in range(SOURCES)
        ]
        outcomes = await intake.submit(
            PLATFORM,
            [
                encode_event(type_, "/aggregates/registry", str(n), clock.now_ms(), data)
                for n, (type_, data) in enumerate(registrations)
            ],
        )
        assert all(o.status == "accepted" for o in outcomes), outcomes
        progress = StageProgress([])
        deps = Deps(
            catalog=catalog,
            intake=intake,
            warehouse=cast("Any", None),  # nothing is read here
            log=log,
            tokens=tokens,
            clock=clock,
            queries=QUERIES,
            family_query=family_query,
            run_query=run_query,
            progress=progress,
            hub=Hub(_no_panel, progress, clock, meters),
            monitor=Monitor(log, [], meters),
            partitions=PARTITIONS,
            limits=ApiLimits(),
            meters=meters,
        )
        api = ApiServer(create_app(deps, pages=False), "127.0.0.1", 0, None, meters)
        floor = ApiServer(constant, "127.0.0.1", 0, None, meters)
        await api.start()
        await floor.start()
        print(json.dumps([api.port, floor.port, token]), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command, *arguments = json.loads(line)
            if command == "cpu":
                print(json.dumps(time.process_time()), flush=True)
            elif command == "submit":
                print(json.dumps(await submit(intake, *arguments)), flush=True)
        await api.stop()
        await floor.stop()
        await intake.stop()
        await directory.stop()


async def submit(intake: Intake, count: int, batch: int, connections: int) -> float:
    """Seconds that intake alone takes for the same events in the same batches by as many callers."""
    elements = events(count, f"direct-{batch}-{time.time_ns()}")
    batches = [elements[i : i + batch] for i in range(0, count, batch)]
    began = time.perf_counter()

    async def caller(number: int) -> None:
        for part in batches[number::connections]:
            await intake.submit(DEVICE, part)

    await asyncio.gather(*(caller(n) for n in range(connections)))
    return time.perf_counter() - began


# ---- the client ----------------------------------------------------------------------------------------------------------


async def send_all(
    port: int, token: str, sent: Sequence[bytes], media_type: str, connections: int
) -> tuple[float, list[float]]:
    """Send every body; seconds in all and of each request."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: {media_type}\r\n"
        "Content-Length: "
    ).encode()
    requests = [head + str(len(body)).encode() + b"\r\n\r\n" + body for body in sent]
    latencies: list[float] = []

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        for request in requests[number::connections]:
            began = time.perf_counter()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer[:200])
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if b'"refused"' in body or b'"duplicate"' in body:
                raise RuntimeError(body[:300])
            latencies.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(n) for n in range(connections)))
    return time.perf_counter() - began, sorted(latencies)


async def run(counts: dict[int, int], connections: int, folder: Path, bootstrap: str) -> dict[str, Any]:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.ingest",
        "--serve",
        str(folder),
        "--bootstrap",
        bootstrap,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    stdin, stdout = server.stdin, server.stdout

    async def ask(*command: Any) -> Any:
        stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(await stdout.readline())

    api, floor, token = json.loads(await stdout.readline())
    rows = []
    try:
        for batch, count in counts.items():
            media_type = "application/cloudevents+json" if batch == 1 else "application/cloudevents-batch+json"
            sent = bodies(events(count, f"http-{batch}-{time.time_ns()}"), batch)
            floor_cpu = await ask("cpu")
            floor_s, _ = await send_all(floor, token, sent, media_type, connections)
            floor_cpu = await ask("cpu") - floor_cpu
            cpu = await ask("cpu")
            seconds, latencies = await send_all(api, token, sent, media_type, connections)
            cpu = await ask("cpu") - cpu
            intake_s = await ask("submit", count, batch, connections)
            rows.append(
                {
                    "events_per_request": batch,
                    "events": count,
                    "events_per_s": round(count / seconds),
                    "requests_per_s": round(len(sent) / seconds),
                    "server_cpu_us_per_event": round(cpu / count * 1e6, 1),
                    "p50_ms": round(latencies[len(latencies) // 2] * 1000, 2),
                    "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 2),
                    "http_alone_cpu_us_per_request": round(floor_cpu / len(sent) * 1e6, 1),
                    "limit_http_alone_events_per_s": round(count / floor_s),
                    "limit_intake_alone_events_per_s": round(count / intake_s),
                }
            )
    finally:
        stdin.close()
        await server.wait()
    return {
        "bench": "ingest",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "connections": connections,
        "bytes_per_event": len(events(1, "x")[0]),
        "rows": rows,
    }


async def on(engine: str, counts: dict[int, int], connections: int, folder: Path) -> dict[str, Any]:
    async with kafka_of(engine, folder) as bootstrap:
        return await run(counts, connections, folder, bootstrap)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of events")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve, arguments.bootstrap))
        return 0
    counts = {1: int(4_000 * arguments.scale), 100: int(40_000 * arguments.scale), 1000: int(80_000 * arguments.scale)}
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(on(arguments.engine, counts, arguments.connections, Path(folder))), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
