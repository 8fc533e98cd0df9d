"""Input of the variants: as the comparison's, and with late records, second copies, many keys, or the platform's envelope."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import confluent_kafka
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.streams.job import PARTITIONS, WINDOW_MS

__all__ = ["BASE", "Figures", "Shape", "create", "expected", "records", "write"]

BASE = 1_795_000_020_000
"""A full minute."""
STEP = 0.6
"""Event time from record to record, ms."""
QUIET_EVERY = 10
"""Of a shape with quiet devices, every so many-th is one."""
LATE_BY_MS = 90_000
"""A late record is up to this much behind."""
COPY_WITHIN = 1_000
"""A second copy follows within so many records."""

Figures = dict[tuple[str, int], tuple[int, int, int, int]]
"""(device, window) to sum, count, minimum, maximum."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the input looks like. Shares are of all records."""

    records: int
    keys: int = 1_000
    late: float = 0.0
    copies: float = 0.0
    envelope: bool = False
    seed: int = 7
    step_ms: float = STEP
    """Event time from record to record."""
    quiet: bool = False
    """Whether some devices send nothing between six and nine tenths of the time: something for a detector to find."""


def records(shape: Shape) -> Iterator[tuple[int, str, int, int, int, int]]:
    """(number, device, gross, tare, event time, partition) in the order of writing."""
    rng = random.Random(shape.seed)
    waiting: list[tuple[int, tuple[int, str, int, int, int, int]]] = []
    for number in range(shape.records):
        device = rng.randrange(shape.keys)
        if shape.quiet and device % QUIET_EVERY == 0 and 6 * shape.records <= 10 * number < 9 * shape.records:
            device += 1
        at = BASE + int(number * shape.step_ms)
        if shape.late and rng.random() < shape.late:
            at = max(BASE, at - rng.randrange(1, LATE_BY_MS))
        row = (
            number, f"wb-{device:04d}", rng.randrange(30_000, 60_000), rng.randrange(12_000, 16_000), at, device % PARTITIONS,
        )  # fmt: skip
        yield row
        if shape.copies and rng.random() < shape.copies:
            waiting.append((number + rng.randrange(1, COPY_WITHIN), row))
        if waiting and waiting[0][0] <= number:
            yield waiting.pop(0)[1]
    yield from (row for _, row in waiting)


def encoded(shape: Shape) -> Iterator[tuple[str, bytes, int]]:
    """(device, value, partition) of each record."""
    for number, device, gross, tare, at, partition in records(shape):
        flat = b'{"id":%d,"device":"%s","plate":"M%05d","gross":%d,"tare":%d,"ts":%d,"coal":"coking-3"}' % (
            number, device.encode(), number % 997, gross, tare, at,
        )  # fmt: skip
        if shape.envelope:
            flat = (
                b'{"specversion":"1.0","id":"%d","source":"urn:dev:org:32473-%s","type":"weighing.measured",'
                b'"time":"2026-11-18T08:00:00.000Z","datacontenttype":"application/json","data":%s}'
            ) % (number, device.encode(), flat)
        yield device, flat, partition


def expected(shape: Shape) -> Figures:
    """Every window, of records that count once."""
    sums: dict[tuple[str, int], list[int]] = {}
    seen = set[int]()
    for number, device, gross, tare, at, _ in records(shape):
        if shape.copies:
            if number in seen:
                continue
            seen.add(number)
        net, key = gross - tare, (device, at - at % WINDOW_MS)
        row = sums.get(key)
        if row is None:
            sums[key] = [net, 1, net, net]
        else:
            row[0] += net
            row[1] += 1
            row[2] = min(row[2], net)
            row[3] = max(row[3], net)
    return {key: (row[0], row[1], row[2], row[3]) for key, row in sums.items()}


def create(bootstrap: str, topic: str) -> None:
    """Make a topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must outlive its futures
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


def write(bootstrap: str, topic: str, shape: Shape) -> int:
    """Write the topic; how many records."""
    create(bootstrap, topic)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.num.messages": 5_000, "acks": "all", "log_level": 2}
    )
    headers: dict[str, str | bytes | None] | None = None
    if shape.envelope:
        headers = {"received": b"1795000020000", "type": b"weighing.measured", "site": b"m01", "principal": b"demo"}
    count = 0
    for device, value, partition in encoded(shape):
        while True:
            try:
                producer.produce(topic, value, key=device, partition=partition, headers=headers)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        count += 1
        if count % 5_000 == 0:
            producer.poll(0)
    producer.flush(60)
    return count
