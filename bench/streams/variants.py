"""Our worker over other inputs, one after another on one broker: ``python -m bench.streams.variants``.

Late records and second copies (one in a hundred each), a million keys, the platform's own envelope with headers, every
registered detector on each final window, and ten times the records, whose memory must not be more. The last figures of every
window are compared with a recomputation, and so is every warning: raised, updated and cleared, once each.

Detectors are measured twice, beside the same job without them on the same records. *Some silent*: the records as always (1,000
devices, a hundred records a window), but a tenth of the devices is silent for a while, so that there is something to find; 5
million records are 50 windows a device, in which no detector of values has begun to judge. *Long*: the same of 200 devices with
ten records a window, so many windows that all but the hour of the week is known.

What it does not prove: nothing of several machines; the records lie there already, so nothing of latency.
"""

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient

from bench.report import Machine, machine, write_page
from bench.streams.data import BASE, Figures, Shape, create, expected, write
from bench.streams.detecting import Change, recomputed
from bench.streams.job import PARTITIONS, WINDOW_MS
from hengliu.events.envelope import ms_of
from streams.detectors.catalog import DETECTORS

__all__ = ["Measured", "measure", "page"]

HZ = os.sysconf("SC_CLK_TCK")
PAGE = "variants"
"""The markers in docs/benchmarks.md."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Rate in records/s from the first record decoded to the last window that a record closed (those that silence
    closes wait for it); CPU s per million records, to the last window; peak of resident memory.

    ``warnings`` and ``state_bytes`` are None where the worker was not asked for them; ``state_bytes`` are of all keys.
    """

    case: str
    records: int
    rate: float
    cpu_per_million: float
    rss_mb: float
    windows: int
    corrections: int
    faults: list[str]
    keys: int = 0
    warnings: Counter[str] | None = None
    state_bytes: int | None = None


_PLAIN, _ALL = {"RULES": "none"}, {"RULES": "all"}
_LONG = Shape(0, keys=200, step_ms=30.0, quiet=True)
CASES: dict[str, tuple[Shape, dict[str, str]]] = {
    "flat": (Shape(0), {}),
    "1 % late, corrected": (Shape(0, late=0.01), {}),
    "1 % late, waited for": (Shape(0, late=0.01), {"LATE": "120000"}),
    "1 % second copies": (Shape(0, copies=0.01), {"RECORD": "unique"}),
    "1,000,000 keys": (Shape(0, keys=1_000_000), {}),
    "envelope": (Shape(0, envelope=True), {"RECORD": "envelope"}),
    "some silent, plain": (Shape(0, quiet=True), _PLAIN),
    "some silent, all detectors": (Shape(0, quiet=True), _ALL),
    "long, plain": (_LONG, _PLAIN),
    "long, all detectors": (_LONG, _ALL),
}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(slots=True)
class _Reading:
    """What has come to the output topic."""

    wanted: Figures
    until: int
    """Windows that begin before it were closed by records. When the last of them was read is when the worker had done them:
    a message's time says nothing here, the job's headers hold none."""
    found: Figures = field(default_factory=dict)
    wrong: set[tuple[str, int]] = field(default_factory=set)
    rows: int = 0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.wrong = set(self.wanted)

    def take(self, message: confluent_kafka.Message) -> None:
        row = json.loads(message.value() or b"")
        key = (row["device"], row["w"])
        self.found[key] = (row["sum"], row["n"], row["mn"], row["mx"])
        self.rows += 1
        if self.found[key] == self.wanted.get(key):
            self.wrong.discard(key)
        elif key in self.wanted:
            self.wrong.add(key)
        if row["w"] < self.until:
            self.ended = time.time()

    @property
    def records(self) -> int:
        """In windows that records closed."""
        return sum(row[1] for (_, w), row in self.wanted.items() if w < self.until)


async def measure(
    bootstrap: str, case: str, topic: str, shape: Shape, count: int, wanted: Figures, extra: dict[str, str]
) -> Measured:
    """Run the worker until the output has the last figures of every window; the last ones close when the input is silent.

    Args:
        count: records in the topic.
    """
    out, warn, detecting = f"out-{topic}-{time.time_ns()}", f"warn-{topic}", extra.get("RULES") == "all"
    for made in (out, warn) if detecting else (out,):
        create(bootstrap, made)
    environment = os.environ | {"KAFKA": bootstrap, "IN": topic, "OUT": out, "WARN": warn, "GROUP": f"g-{out}", "FLUSH": "1"}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.streams.hengliu", env=environment | extra, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    last = BASE + int(shape.records * shape.step_ms)
    late = int(extra.get("LATE", "0")) + (WINDOW_MS if shape.late else 1_000)
    reading = _Reading(wanted, last - late - WINDOW_MS)
    consumer = _reader(bootstrap, out)
    peak = 0.0
    try:
        started = float((await worker.stdout.readline()).split()[1])
        cpu = _cpu(worker.pid)
        deadline = time.time() + 120 + count / 5_000
        while reading.wrong and time.time() < deadline:
            for message in await asyncio.to_thread(consumer.consume, 20_000, 0.05):
                if message.error() is None:
                    reading.take(message)
        cpu, peak = _cpu(worker.pid) - cpu, _peak_mb(worker.pid)
    finally:
        worker.send_signal(signal.SIGTERM)
        said = (await worker.stdout.read()).decode().split()
        await worker.wait()
        await asyncio.to_thread(consumer.close)
    faults = [f"{key}: {reading.found.get(key)}, wanted {wanted[key]}" for key in sorted(reading.wrong)[:3]]
    warnings: Counter[str] | None = None
    if detecting:
        told = await asyncio.to_thread(_warnings, bootstrap, warn)
        due = Counter(recomputed({key: row[0] for key, row in wanted.items()}, WINDOW_MS))
        faults += [f"{n} times, not {due[one]}: {one}" for one, n in (told - due).items()][:3]
        faults += [f"{told[one]} times, not {n}: {one}" for one, n in (due - told).items()][:3]
        warnings = Counter(detector for _, detector, change, _ in told.elements() if change == "raised")
    seconds = max(0.001, reading.ended - started)
    return Measured(
        case, count, reading.records / seconds, cpu / count * 1e6, peak, len(wanted), reading.rows - len(reading.found), faults,
        len({device for device, _ in wanted}), warnings, int(said[1]) if said[:1] == ["STATE"] else None,
    )  # fmt: skip


def _reader(bootstrap: str, topic: str) -> confluent_kafka.Consumer:
    """Of what is committed, from the beginning."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "isolation.level": "read_committed", "log_level": 2}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    return consumer


def _warnings(bootstrap: str, topic: str) -> Counter[Change]:
    """Everything that was raised, updated and cleared."""
    consumer = _reader(bootstrap, topic)
    found: Counter[Change] = Counter()
    try:
        ends = [
            consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)
        ]
        deadline = time.time() + 30
        while time.time() < deadline:
            messages = consumer.consume(20_000, 0.5)
            for message in messages:
                if message.error() is None:
                    event = json.loads(message.value() or b"")
                    data, change = event["data"], event["type"].removeprefix("warning.")
                    found[
                        data["subject"], data["parameters"]["detector"], change, ms_of(datetime.fromisoformat(event["time"]))
                    ] += 1
            places = consumer.position([confluent_kafka.TopicPartition(topic, p) for p in range(PARTITIONS)])
            if not messages and all(place.offset >= end or not end for place, end in zip(places, ends, strict=True)):
                break
    finally:
        consumer.close()
    return found


async def run(bootstrap: str, count: int, cases: Sequence[str], long: int) -> list[Measured]:
    results = []
    plan = [(case, *CASES[case], count) for case in cases]
    if long:
        plan += [(f"{n:,} records", Shape(0), {}, n) for n in (long // 5, long)]
    for number, (case, shape, extra, records) in enumerate(plan):
        shape = replace(shape, records=records)
        topic = f"variant-{number}-{time.time_ns()}"
        written = await asyncio.to_thread(write, bootstrap, topic, shape)
        wanted = await asyncio.to_thread(expected, shape)
        result = await measure(bootstrap, case, topic, shape, written, wanted, extra)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.delete_topics([topic])[topic].result(30)
        results.append(result)
        print(f"{' | '.join(cells(result))}, faults: {result.faults or 'none'}", flush=True)
    return results


def cells(result: Measured) -> list[str]:
    """A row of the table."""
    raised = "" if result.warnings is None else f"{result.warnings.total():,}"
    state = "" if result.state_bytes is None else f"{result.state_bytes / max(1, result.keys):,.0f}"
    return [
        result.case, f"{result.records:,}", f"{result.rate / 1e3:,.0f}", f"{result.cpu_per_million:.2f}",
        f"{result.rss_mb:.0f}", f"{result.windows:,}", f"{result.corrections:,}", raised, state,
        "no" if result.faults else "yes",
    ]  # fmt: skip


HEADS = ("input", "records", "k records/s", "CPU s/M", "peak RSS MB", "windows", "corrections", "warnings raised",
         "state, bytes a key", "exact")  # fmt: skip


def cost(results: Mapping[str, Measured]) -> Iterator[str]:
    """What the detectors add, of each pair that was run."""
    for name in ("some silent", "long"):
        plain, all_ = results.get(f"{name}, plain"), results.get(f"{name}, all detectors")
        if plain is None or all_ is None or all_.warnings is None:
            continue
        more = (all_.cpu_per_million * all_.records - plain.cpu_per_million * plain.records) / all_.windows
        by = ", ".join(f"`{detector}` {n:,}" for detector, n in sorted(all_.warnings.items())) or "none"
        rate, cpu = all_.rate / plain.rate, all_.cpu_per_million / plain.cpu_per_million
        yield (
            f"*{name}*: {len(DETECTORS)} detectors on {all_.windows:,} windows cost {more:.0f} µs a window; {rate:.2f} of the "
            f"rate, {cpu:.2f} times the CPU. Raised: {by}."
        )


def page(results: Sequence[Measured], here: Machine, command: str) -> str:
    """The part of docs/benchmarks.md between the markers."""
    where = f"{here.cores} cores of {here.processor}, {here.memory_gb} GB, kernel {here.kernel}, Python {here.python}"
    return "\n".join([
        f"- {here.at}, commit `{here.commit}`, `{command}`",
        f"- {where}; load average at the start: {here.load_1min}",
        "",
        f"| {' | '.join(HEADS)} |",
        "|---|" + "--:|" * (len(HEADS) - 2) + "---|",
        *(f"| {' | '.join(cells(result))} |" for result in results),
        "",
        *cost({result.case: result for result in results}),
    ])  # fmt: skip


async def main(kafka: str, count: int, cases: Sequence[str], long: int) -> list[Measured]:
    from infra.services.kafka import KafkaService

    if kafka:
        return await run(kafka, count, cases, long)
    with tempfile.TemporaryDirectory() as folder:
        async with KafkaService(Path(folder), heap_mb=1024) as bootstrap:
            return await run(bootstrap, count, cases, long)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="", help="host:port of a broker; one is started unless given")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--long", type=int, default=0, help="also so many records, and a fifth of them")
    parser.add_argument("--write", type=Path, default=None, help="docs/benchmarks.md")
    given = parser.parse_args()
    here = machine()
    found = asyncio.run(main(given.kafka, given.records, given.case, given.long))
    said = [a for n, a in enumerate(sys.argv[1:]) if a != "--write" and sys.argv[n] != "--write"]
    text = page(found, here, shlex.join(["python", "-m", "bench.streams.variants", *said]))
    print(text)
    if given.write is not None:
        write_page(given.write, PAGE, text)
    raise SystemExit(any(result.faults for result in found))
