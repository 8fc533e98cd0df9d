"""Our worker over other inputs, one after another on one broker: ``python -m bench.streams.variants``.

Late records and second copies (one in a hundred each), a million keys, the platform's own envelope with headers, and ten times
the records, whose memory must not be more. The last figures of every window are compared with a recomputation.

What it does not prove: nothing of several machines; the records lie there already, so nothing of latency.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient

from bench.streams.data import Figures, Shape, create, expected, write
from bench.streams.job import PARTITIONS

__all__ = ["Measured", "measure"]

HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Rates in records/s from the first record decoded to the last output; CPU of that time, s per million records."""

    case: str
    records: int
    rate: float
    cpu_per_million: float
    rss_mb: float
    windows: int
    corrections: int
    faults: list[str]


CASES: dict[str, tuple[Shape, dict[str, str]]] = {
    "flat": (Shape(0), {}),
    "1 % late, corrected": (Shape(0, late=0.01), {}),
    "1 % late, waited for": (Shape(0, late=0.01), {"LATE": "120000"}),
    "1 % second copies": (Shape(0, copies=0.01), {"RECORD": "unique"}),
    "1,000,000 keys": (Shape(0, keys=1_000_000), {}),
    "envelope": (Shape(0, envelope=True), {"RECORD": "envelope"}),
}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def measure(bootstrap: str, case: str, topic: str, count: int, wanted: Figures, extra: dict[str, str]) -> Measured:
    """Run the worker until the output has the last figures of every window; the last ones close when the input is silent."""
    out = f"out-{topic}-{time.time_ns()}"
    create(bootstrap, out)
    environment = os.environ | {"KAFKA": bootstrap, "IN": topic, "OUT": out, "GROUP": f"g-{out}", "FLUSH": "1"} | extra
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.streams.hengliu", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "log_level": 2})
    consumer.assign([confluent_kafka.TopicPartition(out, p, 0) for p in range(PARTITIONS)])
    found: Figures = {}
    wrong = set(wanted)
    rows, rss, ended = 0, 0.0, 0.0
    try:
        started = float((await worker.stdout.readline()).split()[1])
        cpu = _cpu(worker.pid)
        deadline = time.time() + 120 + count / 20_000
        while wrong and time.time() < deadline:
            for message in await asyncio.to_thread(consumer.consume, 20_000, 0.2):
                if message.error() is None:
                    row = json.loads(message.value() or b"")
                    key = (row["device"], row["w"])
                    found[key] = (row["sum"], row["n"], row["mn"], row["mx"])
                    rows += 1
                    if found[key] == wanted.get(key):
                        wrong.discard(key)
                    elif key in wanted:
                        wrong.add(key)
                    ended = max(ended, (message.timestamp()[1] or 0) / 1000)
            rss = max(rss, _rss(worker.pid))
        cpu = _cpu(worker.pid) - cpu
    finally:
        worker.send_signal(signal.SIGTERM)
        await worker.wait()
        await asyncio.to_thread(consumer.close)
    faults = [f"{key}: {found.get(key)}, wanted {wanted[key]}" for key in sorted(wrong)[:3]]
    seconds = max(0.001, time.time() - started)
    return Measured(case, count, count / seconds, cpu / count * 1e6, rss, len(wanted), rows - len(found), faults)


async def run(bootstrap: str, count: int, cases: list[str], long: int) -> list[Measured]:
    results = []
    plan = [(case, *CASES[case], count) for case in cases]
    if long:
        plan += [(f"{n:,} records", Shape(0), {}, n) for n in (long // 5, long)]
    for number, (case, shape, extra, records) in enumerate(plan):
        shape = replace(shape, records=records)
        topic = f"variant-{number}-{time.time_ns()}"
        written = await asyncio.to_thread(write, bootstrap, topic, shape)
        wanted = await asyncio.to_thread(expected, shape)
        result = await measure(bootstrap, case, topic, written, wanted, extra)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.delete_topics([topic])[topic].result(30)
        results.append(result)
        print(
            f"{case}: {result.rate / 1e3:,.0f} k records/s, {result.cpu_per_million:.2f} CPU s/M, {result.rss_mb:.0f} MB, "
            f"{result.windows:,} windows, {result.corrections:,} corrections, faults: {result.faults or 'none'}",
            flush=True,
        )
    return results


async def main(kafka: str, count: int, cases: list[str], long: int) -> int:
    from infra.services.kafka import KafkaService

    if kafka:
        return int(any(r.faults for r in await run(kafka, count, cases, long)))
    with tempfile.TemporaryDirectory() as folder:
        async with KafkaService(Path(folder), heap_mb=1024) as bootstrap:
            return int(any(r.faults for r in await run(bootstrap, count, cases, long)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="", help="host:port of a broker; one is started unless given")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--long", type=int, default=0, help="also so many records, and a fifth of them")
    given = parser.parse_args()
    raise SystemExit(asyncio.run(main(given.kafka, given.records, given.case, given.long)))
