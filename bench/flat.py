"""The kernel beside a bare loop on the flat record that stream processors are compared with: ``python -m bench.flat``.

The job: per device a one-minute tumbling window of event time, sum, count, minimum and maximum of gross less tare; 1,000
devices, JSON of about 113 bytes, 0.6 ms of event time per record, in order inside a partition. Every window is compared with a
recomputation. The operator here is of the bench alone, and runs through the real kernel: records arrive from four upstreams
over one topic, are merged, stepped, and windows, state and positions are committed as one.

Limit, in the same process and run: the same reduction with a dict, no state, no output, no commit, fed by the log's own reader
(local) or by a bare confluent-kafka consumer (Kafka), where the port's reader is shown beside it as a row of its own.

What it does not prove: nothing of several processes or partitions' worth of machines, of late records, of the exchange before
it. The records lie there already, so nothing of latency either.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from bench.engines import ENGINES, event_log, kafka_of
from bench.report import FLAT, Result, print_results
from bench.stages import Stopwatch, chunks, forget, run_group, say
from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.family import EventData, Family, Text, Writer
from hengliu.ports.log import CLOCK_TYPE, EventLog, Headers, Record, TopicPartition, partition_for
from streams.kernel.operator import Batch, Effects, Emit
from streams.kernel.state import State
from streams.operators.catalog import Group
from streams.topology import EXCHANGE, Topology

PARTITIONS = 4
DEVICES = 1_000
WINDOW_MS = 60_000
START = 1_795_000_020_000
"""A full minute."""
EVENTS = 300_000

Sums = dict[tuple[str, int], tuple[int, int, int, int]]
"""(device, window) to sum, count, minimum, maximum."""


class Flat(msgspec.Struct):
    """The record."""

    id: int
    device: str
    plate: str
    gross: int
    tare: int
    ts: int
    coal: str


class FlatSummed(EventData):
    """A closed window; masses in kg."""

    device: str
    start: int
    net_kg: int
    loads: int
    lowest_kg: int
    highest_kg: int


SUMMED = Family("flat.summed", Text("窗口合计", "Window sum"), FlatSummed, topics.LOAD, Writer.OPERATOR, "device")

_decode = msgspec.json.Decoder(Flat).decode


class Window(msgspec.Struct, frozen=True, array_like=True):
    """An open window of one device."""

    start: int
    total: int
    count: int
    low: int
    high: int
    known_at: int


class FlatSums:
    """Receive time is event time here, so a window closes when the task's clock or a record has passed its end."""

    name: Final = "flat-sums"
    version: Final = 1
    inputs: Final = frozenset({"flat.weighed"})
    emits: Final = frozenset({SUMMED.type})
    tables: Final[Mapping[str, type[msgspec.Struct]]] = {"open": Window}

    def step(self, state: State, batch: Batch) -> Effects:
        held = dict(state.items("open"))
        windows = {device: [w.total, w.count, w.low, w.high, w.known_at] for device, w in held.items()}
        start = next(iter(held.values())).start if held else 0
        events: list[Emit] = []
        touched: set[str] = set()

        def close() -> None:
            at = start + WINDOW_MS
            for device in sorted(windows):
                total, count, low, high, known_at = windows[device]
                data = {"device": device, "start": start, "net_kg": total, "loads": count, "lowest_kg": low, "highest_kg": high}
                events.append(Emit(SUMMED.type, (device, start), at, at, known_at, data))
            touched.update(windows)
            windows.clear()

        for value, received in zip(batch.values, batch.received, strict=True):
            row = _decode(value)
            if row.ts >= start + WINDOW_MS:
                close()
                start = row.ts - row.ts % WINDOW_MS
            net = row.gross - row.tare
            window = windows.get(row.device)
            if window is None:
                windows[row.device] = [net, 1, net, net, received]
            else:
                window[0] += net
                window[1] += 1
                if net < window[2]:
                    window[2] = net
                if net > window[3]:
                    window[3] = net
                window[4] = received
        if windows and batch.clock >= start + WINDOW_MS:
            close()
        changes: dict[str, msgspec.Struct | None] = dict.fromkeys(touched - windows.keys())
        for device, (total, count, low, high, known_at) in windows.items():
            changes[device] = Window(start, total, count, low, high, known_at)
        return Effects(events, {(self.name, "open"): changes})


def flat_records(count: int) -> tuple[dict[TopicPartition, list[Record]], Sums, int]:
    """Records by partition of the exchange topic, what must come out, and the last clock."""
    draw = random.Random(7)
    found: dict[TopicPartition, list[Record]] = {TopicPartition(topics.BY_DEVICE, p): [] for p in range(PARTITIONS)}
    places = [partition_for(b"wb-%04d" % n, PARTITIONS) for n in range(DEVICES)]
    sums: Sums = {}
    ts = START
    for n in range(count):
        number, gross, tare = draw.randrange(DEVICES), draw.randint(30_000, 59_999), draw.randint(12_000, 15_999)
        ts = START + n * 6 // 10
        key = b"wb-%04d" % number
        value = b'{"id":%d,"device":"%s","plate":"M%05d","gross":%d,"tare":%d,"ts":%d,"coal":"coking-3"}' % (
            n, key, n % 997, gross, tare, ts,
        )  # fmt: skip
        headers = Headers(ts, "flat.weighed", upstream=f"{EXCHANGE}-{n % PARTITIONS}")
        found[TopicPartition(topics.BY_DEVICE, places[number])].append(Record(key, value, headers))
        window = (key.decode(), ts - ts % WINDOW_MS)
        net = gross - tare
        total, loads, low, high = sums.get(window, (0, 0, net, net))
        sums[window] = (total + net, loads + 1, min(low, net), max(high, net))
    end = ts + 2 * WINDOW_MS
    for records in found.values():
        records += [Record(b"", b"", Headers(end, CLOCK_TYPE, upstream=f"{EXCHANGE}-{p}")) for p in range(PARTITIONS)]
    for p in range(PARTITIONS):
        found[TopicPartition(topics.REGISTRY, p)] = [Record(b"", b"", Headers(end, CLOCK_TYPE))]
    return found, sums, end


def reduce_into(sums: Sums, values: Iterable[bytes]) -> None:
    """The job in a bare loop."""
    for value in values:
        row = _decode(value)
        net = row.gross - row.tare
        window = (row.device, row.ts - row.ts % WINDOW_MS)
        known = sums.get(window)
        if known is None:
            sums[window] = (net, 1, net, net)
        else:
            total, count, low, high = known
            sums[window] = (total + net, count + 1, net if net < low else low, net if net > high else high)


async def by_port(log: EventLog, count: int) -> tuple[Sums, Stopwatch]:
    """The bare loop on the log's own reader."""
    sums: Sums = {}
    reader = await log.open_reader({TopicPartition(topics.BY_DEVICE, p): 0 for p in range(PARTITIONS)})
    seen = 0
    with Stopwatch() as watch:
        while seen < count:
            for piece in await reader.poll(5_000, 1_000):
                values = [v for v in piece.values if v]
                seen += len(values)
                reduce_into(sums, values)
    await reader.close()
    return sums, watch


def by_confluent(bootstrap: str, count: int) -> tuple[Sums, Stopwatch]:
    """The bare loop on a bare consumer."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bare", "enable.auto.commit": False, "queued.min.messages": 200_000,
         "fetch.wait.max.ms": 50, "isolation.level": "read_committed"}
    )  # fmt: skip
    sums: Sums = {}
    consumer.assign([confluent_kafka.TopicPartition(topics.BY_DEVICE, p, 0) for p in range(PARTITIONS)])
    messages = consumer.consume(1, 10)
    seen = 0
    with Stopwatch() as watch:
        while seen < count:
            values = [v for m in messages if (v := m.value())]
            seen += len(values)
            reduce_into(sums, values)
            if seen < count:
                messages = consumer.consume(5_000, 1)
    consumer.close()
    return sums, watch


async def outputs(log: EventLog) -> Sums:
    """The windows that the operator wrote."""
    decode = msgspec.json.Decoder(type=_Out).decode
    reader = await log.open_reader({TopicPartition(topics.LOAD, p): 0 for p in range(PARTITIONS)})
    sums: Sums = {}
    while pieces := await reader.poll(5_000, 1_000):
        for piece in pieces:
            for value in piece.values:
                d = decode(value).data
                if (d.device, d.start) in sums:
                    raise RuntimeError(f"{d.device} {d.start}: twice")
                sums[d.device, d.start] = (d.net_kg, d.loads, d.lowest_kg, d.highest_kg)
    await reader.close()
    return sums


class _Data(msgspec.Struct):
    device: str
    start: int
    net_kg: int
    loads: int
    lowest_kg: int
    highest_kg: int


class _Out(msgspec.Struct):
    data: _Data


def check(what: str, found: Sums, wanted: Sums) -> None:
    if found != wanted:
        wrong = sum(found.get(k) != v for k, v in wanted.items())
        raise RuntimeError(f"{what}: {wrong} of {len(wanted)} windows differ, {len(found)} found")


async def run(engine: str, count: int, folder: Path, profile: bool) -> list[Result]:
    records, wanted, end = flat_records(count)
    catalog = Catalog().extended(SUMMED)
    results: list[Result] = []

    def result(case: str, watch: Stopwatch, limit: Stopwatch, limit_is: str, detail: str = "") -> Result:
        return Result(
            "flat", engine, FLAT, case, count, count / watch.wall, count / limit.wall, limit_is, watch.cpu / count * 1e6,
            limit.cpu / count * 1e6, detail,
        )  # fmt: skip

    async with kafka_of(engine, folder) as bootstrap, event_log(folder, bootstrap) as log:
        await log.create_topics(catalog.topic_specs(PARTITIONS))
        began = time.perf_counter()

        async def load(tp: TopicPartition) -> None:
            for part in chunks(records[tp]):
                await log.append(tp.topic, tp.partition, part)

        await asyncio.gather(*(load(tp) for tp in records))
        forget(records)
        say(f"{count:,} records loaded in {time.perf_counter() - began:.1f} s")
        groups = (Group("flat", (topics.BY_DEVICE,), (FlatSums(),)),)
        topology = Topology(log, catalog, PARTITIONS, groups=groups)
        watch, written, commits = await run_group(topology, "flat", end, profile)
        check("kernel", await outputs(log), wanted)
        found, port = await by_port(log, count)
        check("reader", found, wanted)
        detail = f"{written:,} outputs in {commits} commits, every window exact"
        if bootstrap:
            found, bare = await asyncio.to_thread(by_confluent, bootstrap, count)
            check("consumer", found, wanted)
            results.append(result(f"operator, {PARTITIONS} tasks", watch, bare, "confluent-kafka", detail))
            results.append(result("dict on the port's reader", port, bare, "confluent-kafka"))
        else:
            results.append(result(f"operator, {PARTITIONS} tasks", watch, port, "the log's reader", detail))
    for r in results:
        say(f"{r.case}: {r.rate:,.0f}/s of {r.limit:,.0f}")
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--scale", type=float, default=1.0, help=f"multiplies {EVENTS:,} records")
    parser.add_argument("--profile", action="store_true", help="where the processor time goes; rates are then worthless")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hengliu-bench-") as folder:
        count = max(1_000, int(EVENTS * arguments.scale))
        print_results(asyncio.run(run(arguments.engine, count, Path(folder), arguments.profile)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
