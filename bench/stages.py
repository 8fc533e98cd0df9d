"""Each stage after intake over real engines, beside its own limit: ``python -m bench.stages --engine local``.

The records of a simulated city (12 sites, a week at scale 1, about 150,000) are put once into the canonical topics with the
headers that intake stamps, each partition closed by a clock mark. Fraud and faults of every kind are planted in it, and all
rules are on with their defaults, so that each operator has what it looks for. Then one stage after the other runs alone in this
process, from its start until its committed clock has passed the last record: the exchange, each operator group over what the
ones before it wrote, and the projector over all of it. So every stage has real input, and none competes with another.

Limits: for tasks, the same records read through the port and decoded with msgspec, without merge, step, output or commit; for
the projector, a bare insert of the same blocks. One JSON object on standard output, progress on standard error.

What it does not prove: nothing of several processes, of Faust around the tasks, of a live stream, of months of state. The
last commit waits up to 100 ms (tasks) or a second (small tables), which weighs more the smaller the scale.
"""

import argparse
import asyncio
import cProfile
import gc
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bench.engines import ENGINES, event_log, kafka_of, warehouse
from bench.report import ENVELOPE, Result, print_results
from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import CLOCK_TYPE, EventLog, Headers, Record, TopicKind, TopicPartition, partition_for
from hengliu.ports.warehouse import Parameter, TableSchema, Warehouse
from hengliu.ports.warehouse import Result as QueryResult
from projections.catalog import tables
from projections.migrate import migrate
from projections.projector import Flush, Projector
from simulator.city import City, registry
from simulator.world import World
from streams.supervisor import Supervisor
from streams.topology import EXCHANGE, Topology

PARTITIONS = 4
START = 1_772_409_600_000
"""2026-03-02T00:00:00Z."""
HOUR_MS = 3_600_000
HOURS = 168
CHUNK = 2_000
WAIT_S = 120.0
"""A stage that takes longer has failed."""


class Envelope(msgspec.Struct):
    """What the limit decodes: all of the event."""

    id: str
    source: str
    time: datetime
    data: dict[str, Any]


_decode = msgspec.json.Decoder(Envelope).decode


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


# ---- input -----------------------------------------------------------------------------------------------------------------


def city_records(catalog: Catalog, hours: int) -> tuple[dict[TopicPartition, list[Record]], int]:
    """Records by canonical partition in the order of receipt, as intake would have written them, and the last clock."""
    city = City(1, "measure", "all")
    facts = registry(city)
    sites = {d["site"]: (str(d["enterprise"]), str(d["site"]), str(d["division"])) for t, d in facts if t == "site.registered"}
    scopes = {d["source"]: sites[d["site"]] for t, d in facts if t == "device.registered"}
    found: dict[TopicPartition, list[Record]] = {}
    source = "/aggregates/registry"
    place = TopicPartition(topics.REGISTRY, partition_for(source.encode(), PARTITIONS))
    until = START + hours * HOUR_MS
    world = World(city, START)
    prefix = {d.id: d.source for d in city.devices()}
    for sent in world.advance(until):
        if sent.expect != "accepted":
            continue
        key = prefix[sent.device]
        tp = TopicPartition(catalog[sent.type].topic, partition_for(key.encode(), PARTITIONS))
        headers = Headers(sent.at, sent.type, "bench", *scopes[key])
        found.setdefault(tp, []).append(Record(key.encode(), sent.body, headers))
    told = [(START - 1, type_, data) for type_, data in facts]
    told += sorted((one for one in world.registrations if one[0] < until), key=lambda one: one[0])
    found[place] = [
        Record(source.encode(), encode_event(type_, source, str(n), at, data), Headers(at, type_, "bench"))
        for n, (at, type_, data) in enumerate(told)
    ]
    end = until + HOUR_MS
    for name, kind in topics.TOPICS.items():
        if kind in (TopicKind.CANONICAL, TopicKind.BROADCAST):
            for p in range(PARTITIONS):
                found.setdefault(TopicPartition(name, p), []).append(Record(b"", b"", Headers(end, CLOCK_TYPE)))
    return found, end


def chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for first in range(0, len(records), CHUNK):
        yield records[first : first + CHUNK]


async def load(log: EventLog, records: Mapping[TopicPartition, Sequence[Record]]) -> None:
    async def one(tp: TopicPartition) -> None:
        for part in chunks(records[tp]):
            await log.append(tp.topic, tp.partition, part)

    await asyncio.gather(*(one(tp) for tp in records))


def forget(records: dict[TopicPartition, list[Record]]) -> None:
    """Let go of the input, and keep what is left from the collector: a process that runs a stage has no such heap to scan.

    (With 45,000 records alive, collections took a third of the kernel's time.)
    """
    records.clear()
    gc.collect()
    gc.freeze()


async def read_all(
    log: EventLog, names: Sequence[str], take: Callable[[bytes], object] = _decode
) -> tuple[Counter[str], float, float]:
    """Records by type, seconds until the last came, processor seconds: the limit of whoever reads these topics."""
    reader = await log.open_reader({TopicPartition(name, p): 0 for name in names for p in range(PARTITIONS)})
    counts: Counter[str] = Counter()
    began = last = time.perf_counter()
    cpu = time.process_time()
    try:
        while pieces := await reader.poll(5_000, 1_000):
            for piece in pieces:
                for value, headers in zip(piece.values, piece.headers, strict=True):
                    if headers.type != CLOCK_TYPE:
                        take(value)
                        counts[headers.type] += 1
            last = time.perf_counter()
    finally:
        await reader.close()
    return counts, last - began, time.process_time() - cpu


# ---- tasks -----------------------------------------------------------------------------------------------------------------


class Stopwatch:
    """Wall-clock and processor seconds of a block, and, asked for, where the processor time went."""

    def __init__(self, profile: bool = False) -> None:
        self.wall = self.cpu = 0.0
        self._profile = cProfile.Profile() if profile else None

    def __enter__(self) -> "Stopwatch":
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        if self._profile is not None:
            self._profile.enable()
        return self

    def __exit__(self, *_: object) -> None:
        if self._profile is not None:
            self._profile.disable()
            pstats.Stats(self._profile, stream=sys.stderr).sort_stats("tottime").print_stats(22)
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


async def run_group(topology: Topology, group: str, end: int, profile: bool = False) -> tuple[Stopwatch, int, int]:
    """Run a group's tasks until each has committed the clock ``end``; time, outputs, commits.

    Raises:
        RuntimeError: a task failed, wrote a dead letter, or did not get there in time.
    """
    ids = topology.task_ids([group])
    supervisor = Supervisor(topology, ids)
    with Stopwatch(profile) as watch:
        await supervisor.start()
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    progress = list(supervisor.progress().values())
                    if len(progress) == len(ids) and all(p.clock >= end for p in progress):
                        break
                    if supervisor.failures:
                        raise RuntimeError(f"{group}: {supervisor.failures}")
                    await asyncio.sleep(0.005)
        except BaseException:
            await supervisor.stop()
            raise
    await supervisor.stop()
    if dead := sum(p.dead_letters for p in progress):
        raise RuntimeError(f"{group}: {dead} dead letters")
    return watch, sum(p.outputs for p in progress), sum(p.commits for p in progress)


# ---- projector ---------------------------------------------------------------------------------------------------------------


class Kept:
    """A warehouse that remembers what was inserted."""

    def __init__(self, inner: Warehouse) -> None:
        self._inner = inner
        self.blocks: list[tuple[TableSchema, pa.Table]] = []

    async def execute(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> None:
        await self._inner.execute(sql, parameters)

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> QueryResult:
        return await self._inner.query(sql, parameters)

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        await self._inner.insert(table, data, token)
        if table.name != "projection_position":
            self.blocks.append((table, data))

    async def close(self) -> None:
        await self._inner.close()


async def bench_projector(log: EventLog, engine: str, store: Warehouse, catalog: Catalog, profile: bool) -> Result:
    declared = tables(catalog)
    await migrate(store, declared)
    names = sorted({topic for table in declared for topic in table.topics})
    counts, _, _ = await read_all(log, names)
    expected = sum(counts[type_] for table in declared for type_ in table.types)
    kept = Kept(store)
    projector = Projector(log, kept, declared, PARTITIONS, SystemClock())
    last = 0.0

    def flushed(flush: Flush) -> None:
        nonlocal last
        last = time.perf_counter()

    projector.subscribe(flushed)
    began = time.perf_counter()
    with Stopwatch(profile) as watch:
        running = asyncio.create_task(projector.run())
        async with asyncio.timeout(WAIT_S):
            while projector.counters.rows < expected and not running.done():  # noqa: ASYNC110 (its counters wake nobody)
                await asyncio.sleep(0.005)
    if running.done():
        await running
    counters = projector.counters
    await projector.stop()
    await running
    if counters.rows != expected or counters.refused:
        raise RuntimeError(f"projector: {counters.rows} rows and {counters.refused} refused of {expected}")
    used = {schema.name for schema, _ in kept.blocks}
    for name in used:
        await store.execute(f"TRUNCATE TABLE {name}")
    bare, bare_cpu = time.perf_counter(), time.process_time()
    for number, (schema, data) in enumerate(kept.blocks):
        await store.insert(schema, data, f"bare-{number}")
    bare, bare_cpu = time.perf_counter() - bare, time.process_time() - bare_cpu
    return Result(
        "projector", engine, ENVELOPE, f"{len(used)} tables", expected, expected / (last - began), expected / bare, "",
        watch.cpu / expected * 1e6, bare_cpu / expected * 1e6,
        f"{len(kept.blocks)} inserts of {expected // len(kept.blocks):,} rows on average",
    )  # fmt: skip


# ---- all ---------------------------------------------------------------------------------------------------------------------


async def run(engine: str, scale: float, folder: Path, only: Sequence[str], profile: bool) -> list[Result]:
    catalog = Catalog()
    records, end = city_records(catalog, max(2, round(HOURS * scale)))
    total = sum(map(len, records.values()))
    say(f"{total:,} records")
    results: list[Result] = []
    async with kafka_of(engine, folder) as bootstrap, event_log(folder, bootstrap) as log:
        await log.create_topics(catalog.topic_specs(PARTITIONS))
        began = time.perf_counter()
        await load(log, records)
        forget(records)
        say(f"loaded in {time.perf_counter() - began:.1f} s")
        topology = Topology(log, catalog, PARTITIONS)
        spent = wall = limit = 0.0
        for group in topology.group_names:
            wanted = not only or group in only
            watch, outputs, commits = await run_group(topology, group, end, profile and wanted)
            counts, limit_s, limit_cpu = await read_all(log, topology.inputs(group))
            events = counts.total()
            say(f"{group}: {events:,} in {watch.wall:.2f} s, limit {limit_s:.2f} s")
            if group != EXCHANGE:
                spent, wall, limit = spent + watch.cpu, wall + watch.wall, limit + limit_s
            if wanted:
                detail = f"{outputs:,} outputs, {commits} commits"
                results.append(
                    Result(
                        group,
                        engine,
                        ENVELOPE,
                        f"{PARTITIONS} tasks",
                        events,
                        events / watch.wall,
                        events / limit_s,
                        "",
                        watch.cpu / events * 1e6,
                        limit_cpu / events * 1e6,
                        detail,
                    )
                )
        if not only:
            accepted = results[0].events
            results.append(
                Result(
                    "operators",
                    engine,
                    ENVELOPE,
                    "all groups, one after another",
                    accepted,
                    accepted / wall,
                    accepted / limit,
                    "",
                    spent / accepted * 1e6,
                    None,
                    f"{len(topology.groups)} groups, per event that the exchange read",
                )
            )
        if not only or "projector" in only:
            async with warehouse(engine, folder) as store:
                results.append(await bench_projector(log, engine, store, catalog, profile))
                say(f"projector: {results[-1].rate:,.0f} rows/s, limit {results[-1].limit:,.0f}")
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the simulated week")
    parser.add_argument("--only", default="", help=f"stages to report, comma separated ({EXCHANGE}, meter, projector, ...)")
    parser.add_argument("--profile", action="store_true", help="where the processor time goes; rates are then worthless")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="hengliu-bench-") as folder:
        print_results(asyncio.run(run(arguments.engine, arguments.scale, Path(folder), only, arguments.profile)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
