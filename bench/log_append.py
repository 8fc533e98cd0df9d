"""Appends and commits of the event log beside its own limits, in one run of under a minute: ``python -m bench.log_append``.

Two records: the flat one of 113 bytes that the comparison of stream processors used, and a CloudEvent of about 600 bytes
with the headers that intake stamps. Limits, measured in the same run with the same bytes: for the local log the same number
of values joined into one row a transaction on a bare connection with the same settings (apsw; page 16 KiB, WAL, FULL); for
Kafka the bare client's ``send_batch`` with acks=all (idempotent, no headers, no transaction).

What it does not prove: nothing of reading, of a disk whose sync is slow (a virtual disk answers in 0.1 ms), of a broker that
syncs or replicates, or of a machine with more than this one's cores: broker, client and log share them.
"""

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from hengliu.ports.log import Append, EventLog, Headers, Record, TaskId, TopicKind, TopicSpec
from infra.local_log import LocalLog

TOPIC = "bench"
NOW = 1_764_000_000_000


@dataclass
class Row:
    """One line of the table; rates are events a second of wall-clock time."""

    log: str
    record: str
    what: str
    batch: int
    writers: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_million: float
    """Of this process: the local log works in it, a broker does not."""
    limit: float | None = None


def flat(number: int) -> Record:
    """113 bytes."""
    value = b'{"device":"wb-%06d","ts":%d,"gross":%05d,"tare":%05d,"net":%05d,"kind":"coal","site":"S%02d","lane":%d}' % (
        number % 1000,
        NOW + number,
        49000 + number % 999,
        15000 + number % 999,
        34000,
        number % 30,
        number % 4,
    )
    return Record(b"wb-%06d" % (number % 1000), value.ljust(113), Headers(NOW + number, "flat"))


def envelope(number: int) -> Record:
    """A weighing as a weighbridge sends it, with what intake knows of it."""
    source = f"urn:dev:org:32473-wb-{number % 1000}"
    event = {
        "specversion": "1.0",
        "type": "weighing.measured",
        "source": source,
        "id": f"2026-{number}",
        "time": "2026-11-21T05:00:00.123Z",
        "datacontenttype": "application/json",
        "data": {
            "plate": "晋B12345",
            "mass_kg": 49_000 + number % 999,
            "axles": 6,
            "direction": "out",
            "commodity": "steam-coal",
            "use": "power",
            "site": "S07",
            "lane": 2,
            "stable": True,
            "photos": ["sha256:" + "0" * 64, "sha256:" + "1" * 64],
            "operator": "self-service",
        },
    }
    headers = Headers(NOW + number, "weighing.measured", "wb", "E-0007", "S07", "140602")
    return Record(source.encode(), json.dumps(event, ensure_ascii=False).encode(), headers)


RECORDS: dict[str, Callable[[int], Record]] = {"flat 113 B": flat, "envelope": envelope}


async def closed_loop(
    writers: int, batch: int, seconds: float, write: Callable[[int], Awaitable[object]]
) -> tuple[float, float, float, float]:
    """``writers`` loops that each write a batch, wait for its answer, and go on; rate, p50 and p99 ms, CPU s per million."""
    took: list[float] = []
    cpu = time.process_time()
    began = time.perf_counter()

    async def loop(number: int) -> None:
        while time.perf_counter() - began < seconds:
            at = time.perf_counter()
            await write(number)
            took.append(time.perf_counter() - at)

    await asyncio.gather(*(loop(n) for n in range(writers)))
    elapsed = time.perf_counter() - began
    cpu = time.process_time() - cpu
    took.sort()
    events = len(took) * batch
    return events / elapsed, took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000, cpu / events * 1e6


async def measure(log: EventLog, name: str, record: str, batch: int, writers: int, seconds: float, *, commit: bool) -> Row:
    """Append batches outside tasks, or commit them with a position and one state entry of 4 KB."""
    batches = [[RECORDS[record](n * batch + i) for i in range(batch)] for n in range(min(writers, 8))]
    if commit:
        sessions = [await log.open_task(TaskId("bench", n)) for n in range(writers)]
        state = {b"bucket": b"s" * 4096}

        async def write(number: int) -> object:
            outputs = [Append(TOPIC, number % 4, batches[number % len(batches)])]
            return await sessions[number].commit(outputs, state, {})
    else:
        sessions = []

        async def write(number: int) -> object:
            return await log.append(TOPIC, number % 4, batches[number % len(batches)])

    for number in range(writers):
        await write(number)
    rate, p50, p99, cpu = await closed_loop(writers, batch, seconds, write)
    for session in sessions:
        await session.close()
    return Row(name, record, "commit" if commit else "append", batch, writers, rate, p50, p99, cpu)


def raw_sqlite(path: Path, record: str, batch: int, seconds: float) -> float:
    """Rows of the same values, one a transaction, nothing else: what the disk and SQLite allow."""
    connection = apsw.Connection(str(path))
    for pragma in ("page_size = 16384", "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 512"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE IF NOT EXISTS batch (pos INTEGER PRIMARY KEY, val BLOB)")
    value = b"\n".join(RECORDS[record](i).value for i in range(batch))
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO batch (val) VALUES (?)", (value,))
        connection.execute("COMMIT")
        count += batch
    rate = count / (time.perf_counter() - began)
    connection.close()
    return rate


async def raw_kafka(bootstrap: str, record: str, batch: int, writers: int, seconds: float) -> float:
    """The same values through the bare client."""
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=512 << 10) as producer:
        records = [RECORDS[record](i) for i in range(batch)]

        async def write(number: int) -> None:
            if batch == 1:  # single records are merged by the client itself; its batches would contend
                await producer.send_and_wait(TOPIC, records[0].value, records[0].key, partition=number % 4)
                return
            waiting = []
            builder = producer.create_batch()
            for r in records:
                if builder.append(timestamp=r.headers.received, key=r.key, value=r.value) is None:
                    waiting.append(await producer.send_batch(builder, TOPIC, partition=number % 4))
                    builder = producer.create_batch()
                    builder.append(timestamp=r.headers.received, key=r.key, value=r.value)
            waiting.append(await producer.send_batch(builder, TOPIC, partition=number % 4))
            await asyncio.gather(*waiting)

        await write(0)
        return (await closed_loop(writers, batch, seconds, write))[0]


LOCAL = [(1, 1, False), (1, 64, False), (50, 8, False), (500, 4, False), (5000, 4, False), (500, 4, True)]
KAFKA = [(1, 64, False), (500, 4, False), (5000, 4, False), (500, 1, True), (500, 4, True)]
"""Batch, concurrent writers, commit or append."""


async def bench_local(directory: Path, seconds: float) -> list[Row]:
    rows: list[Row] = []
    raw = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    async with LocalLog.open(directory / "log.db") as log:
        await log.create_topics([TopicSpec(TOPIC, TopicKind.CANONICAL, 4)])
        for record in RECORDS:
            for batch, writers, commit in LOCAL:
                row = await measure(log, "local", record, batch, writers, seconds, commit=commit)
                # The limit merges what is there at once into one row, as the log's group commit may.
                size = batch * writers
                row.limit = await loop.run_in_executor(raw, raw_sqlite, directory / "raw.db", record, size, seconds / 2)
                rows.append(row)
    raw.shutdown()
    return rows


async def bench_kafka(directory: Path, seconds: float) -> list[Row]:
    from infra.kafka_log import KafkaLog
    from infra.services.kafka import KafkaService

    rows: list[Row] = []
    async with KafkaService(directory, heap_mb=512) as bootstrap, KafkaLog.open(bootstrap) as log:
        await log.create_topics([TopicSpec(TOPIC, TopicKind.CANONICAL, 4)])
        for record in RECORDS:
            for batch, writers, commit in KAFKA:
                row = await measure(log, "kafka", record, batch, writers, seconds, commit=commit)
                row.limit = await raw_kafka(bootstrap, record, batch, writers, seconds / 2)
                rows.append(row)
    return rows


def table(rows: list[Row]) -> str:
    head = f"{'log':6} {'record':11} {'what':7} {'batch':>6} {'writers':>7} {'events/s':>10} {'limit/s':>10} {'of limit':>8}"
    head += f" {'p50 ms':>8} {'p99 ms':>8}"
    lines = [head, "-" * len(head)]
    for r in rows:
        assert r.limit is not None
        lines.append(
            f"{r.log:6} {r.record:11} {r.what:7} {r.batch:6} {r.writers:7} {r.rate:10,.0f} {r.limit:10,.0f} "
            f"{r.rate / r.limit:8.0%} {r.p50_ms:8.2f} {r.p99_ms:8.2f}"
        )
    return "\n".join(lines)


async def main(options: argparse.Namespace) -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="hengliu-bench-", dir=options.directory) as scratch:
        if options.log in ("local", "both"):
            rows += await bench_local(Path(scratch), options.seconds)
        if options.log in ("kafka", "both"):
            rows += await bench_kafka(Path(scratch) / "kafka", options.seconds)
    if options.json:
        about = {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version(), "rows": [asdict(r) for r in rows]}
        print(json.dumps(about, ensure_ascii=False))
    else:
        print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=["local", "kafka", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=0.8, help="time of one cell; its limit takes half of that")
    parser.add_argument("--directory", default=None, help="where to write: the disk that is to be measured")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    sys.exit(asyncio.run(main(parser.parse_args())))
