"""Intake's speed beside its own limits, in one run of well under a minute: ``python -m bench.intake``.

Limits: parsing beside ``orjson.loads`` alone and beside pydantic alone on the same events; submitting beside the log's
``append`` alone with the same bytes, keys and headers in the same batches. One JSON object on standard output.

What it does not prove: nothing of HTTP, of a disk that other processes share, or of many sources (``--sources``).
Generating the events is not timed.
"""

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from bench.engines import ENGINES, event_log, kafka_of
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.intake.directory import Directory
from hengliu.intake.parse import Accepted, ParsePolicy, parse
from hengliu.intake.service import Intake, IntakePolicy
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import EventLog, Headers, Record, partition_for
from hengliu.rights import PLATFORM, Principal, Role

DEVICE = Principal("bench", frozenset({Role.DEVICE}), ("urn:dev:org:32473-*",))


def source(number: int) -> str:
    return f"urn:dev:org:32473-wb-bench-{number}"


def events(count: int, sources: int, type_: str, epoch: str) -> list[bytes]:
    """Events of the catalogue's own example, ids in order per source."""
    family = Catalog()[type_]
    now = SystemClock().now_ms() - 3_600_000
    return [
        encode_event(type_, source(n % sources), f"{epoch}-{n // sources}", now + n, dict(family.example_data))
        for n in range(count)
    ]


def best(work: Callable[[], object], count: int, repeat: int = 3) -> float:
    """Most per second of processor time of a few runs: what one core does, however busy the machine is."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return count / min(times)


def bench_parse(count: int) -> dict[str, Any]:
    """Events/s of one core, per family."""
    catalog, policy, now = Catalog(), ParsePolicy(), SystemClock().now_ms()
    report: dict[str, Any] = {}
    for type_ in ("weighing.measured", "meter.read", "vehicle.located", "device.reported"):
        values = events(count, 64, type_, "e1")
        validate = catalog[type_].data.__pydantic_validator__.validate_json
        payloads = [orjson.dumps(orjson.loads(value)["data"]) for value in values]

        def run(values: list[bytes] = values) -> None:
            for value in values:
                assert type(parse(value, catalog, policy, now)) is Accepted

        def loads(values: list[bytes] = values) -> None:
            for value in values:
                orjson.loads(value)

        def model(payloads: list[bytes] = payloads, validate: Callable[[bytes], object] = validate) -> None:
            for payload in payloads:
                validate(payload)

        report[type_] = {
            "bytes": len(values[0]),
            "parse_and_validate_per_s": round(best(run, count)),
            "limit_orjson_loads_per_s": round(best(loads, count)),
            "limit_pydantic_per_s": round(best(model, count)),
        }
    return report


async def bench_submit(
    bootstrap: str, epoch: str, count: int, sources: int, batch: int, clients: int, partitions: int
) -> dict[str, Any]:
    """Events/s through intake into the log, and of the log alone with the same records."""
    catalog, clock = Catalog(), SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        async with event_log(Path(folder), bootstrap) as log:
            await log.create_topics(catalog.topic_specs(partitions))
            directory = Directory(log, partitions)
            await directory.start()
            intake = Intake(log, catalog, partitions, clock, IntakePolicy(), directory)
            await intake.start()
            await register(intake, epoch, sources)
            values = events(count, sources, "weighing.measured", epoch)
            latencies: list[float] = []

            async def client(mine: list[bytes]) -> None:
                for first in range(0, len(mine), batch):
                    start = time.perf_counter()
                    outcomes = await intake.submit(DEVICE, mine[first : first + batch])
                    latencies.append(time.perf_counter() - start)
                    assert all(outcome.status == "accepted" for outcome in outcomes)

            start, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(client(values[n::clients]) for n in range(clients)))
            took, cpu = time.perf_counter() - start, time.process_time() - cpu
            start = time.perf_counter()
            for first in range(0, count, 1000):
                outcomes = await intake.submit(DEVICE, values[first : first + 1000])
                assert all(outcome.status == "duplicate" for outcome in outcomes)
            again = time.perf_counter() - start
            batches = intake.counts.batches
            await intake.stop()
            await directory.stop()
            alone = await append_alone(log, values, clock.now_ms(), batch, clients, partitions)
    latencies.sort()
    return {
        "events": count, "sources": sources, "batch": batch, "clients": clients, "partitions": partitions,
        "submit_per_s": round(count / took),
        "cpu_us_per_event": round(cpu / count * 1e6, 1),
        "answer_p50_ms": round(latencies[len(latencies) // 2] * 1e3, 1),
        "answer_p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 1),
        "commits": batches,
        "duplicates_per_s": round(count / again),
        "limit_append_per_s": round(alone),
        "share_of_limit": round(count / took / alone, 3),
    }  # fmt: skip


async def append_alone(log: EventLog, values: list[bytes], now: int, batch: int, clients: int, partitions: int) -> float:
    """The same values, keys and header sizes straight into the log, by as many writers in batches of the same size."""
    records: list[tuple[int, Record]] = []
    for value in values:
        key = orjson.loads(value)["source"].encode()
        headers = Headers(now, "weighing.measured", "bench", "m01", "m01", "150303")
        records.append((partition_for(key, partitions), Record(key, value, headers)))

    async def writer(mine: list[tuple[int, Record]]) -> None:
        for first in range(0, len(mine), batch):
            parts: dict[int, list[Record]] = {}
            for partition, record in mine[first : first + batch]:
                parts.setdefault(partition, []).append(record)
            await asyncio.gather(*(log.append("weighing", partition, part) for partition, part in parts.items()))

    start = time.perf_counter()
    await asyncio.gather(*(writer(records[n::clients]) for n in range(clients)))
    return len(values) / (time.perf_counter() - start)


async def register(intake: Intake, epoch: str, sources: int) -> None:
    """One site and its devices."""
    now = intake.clock.now_ms()
    site = {"site": "m01", "enterprise": "m01", "name": "示例煤矿", "division": "150303", "kind": "mine"}
    facts: list[tuple[str, Mapping[str, str]]] = [("site.registered", site)]
    facts += [
        ("device.registered", {"device": f"wb-{n}", "source": source(n), "kind": "weighbridge", "site": "m01"})
        for n in range(sources)
    ]
    elements = [encode_event(type_, "/aggregates/registry", f"{epoch}-{n}", now, data) for n, (type_, data) in enumerate(facts)]
    for first in range(0, len(elements), 2000):
        outcomes = await intake.submit(PLATFORM, elements[first : first + 2000])
        assert all(outcome.status == "accepted" for outcome in outcomes)


async def bench_both(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Batches by a few callers, then single events by many."""
    cases = [("e1", options.events, options.batch, options.clients), ("e2", options.events // 8, 1, 64)]
    with tempfile.TemporaryDirectory(prefix="hengliu-bench-") as folder:
        async with kafka_of(options.engine, Path(folder)) as bootstrap:
            return [
                await bench_submit(bootstrap, epoch, count, min(options.sources, count), batch, clients, options.partitions)
                for epoch, count, batch, clients in cases
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--sources", type=int, default=1_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    report = {
        "python": platform.python_version(),
        "parse": bench_parse(min(20_000, options.events)),
        "submit": asyncio.run(bench_both(options)),
    }
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
