"""Workers under kill -9 on Kafka: windows of event time equal a batch recomputation.

Two workers, then three, then one, ordinary members of one consumer group, run the job of ``bench.streams`` while records are
still being written; live members are killed at random and started again, and the broker is killed and restarted in between.
The source topic is plain, compacted (keys of their own, tombstones between), written in transactions of which some abort, or
both of these.
At the end every final window stands in the output exactly once, as a plain recomputation of what the source topic holds has it.

``python -m tests.kill.windows --kills 100`` is the long form; test_windows.py runs a short one a kind of topic.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.streams.job import PARTITIONS, WINDOW_MS
from infra.services.kafka import KafkaService

KINDS = ("plain", "compacted", "transactional", "both")
DEVICES = 200
STEP_MS = 30
"""Event time from record to record: 2,000 records a window."""
BASE = 1_795_000_020_000
PHASES = (2, 3, 1)
"""How many workers run, one after another."""


@dataclass
class Outcome:
    """What a proof saw."""

    kills: int = 0
    broker_restarts: int = 0
    records: int = 0
    windows: int = 0
    broker: str = ""
    """Where the source topic does not hold what was committed to it."""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


Figures = tuple[int, int, int, int]


class Source:
    """Writes the records, in order inside each partition, and keeps what it wrote."""

    def __init__(self, bootstrap: str, topic: str, kind: str, rng: random.Random) -> None:
        settings: dict[str, str | int] = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5, "log_level": 2}
        settings |= {"enable.idempotence": "true"}
        self._compacted = kind in ("compacted", "both")
        self._transactional = kind in ("transactional", "both")
        if self._transactional:
            settings["transactional.id"] = f"source-{topic}"
        self._producer = confluent_kafka.Producer(settings)
        self._topic, self._rng = topic, rng
        if self._transactional:
            self._producer.init_transactions(30)
        self.written: list[tuple[str, int, int]] = []
        """Device, time and net mass of each committed record, or of one that is on its way to be."""

    def write(self, count: int) -> None:
        """The next records, as one transaction where the kind says so, and perhaps one before it that aborts."""
        if self._transactional:
            if self._rng.random() < 0.3:
                self._producer.begin_transaction()
                for _ in range(50):
                    self._send(self._rng.randrange(PARTITIONS), b"aborted", self._value("wb-000", BASE, 1))
                # Delivered before it is aborted: a record that reached the broker after the marker would open a transaction
                # that nobody ends, and hold back every committed reader of its partition for good (KIP-890).
                self._producer.flush(120)
                self._producer.abort_transaction(90)
            self._producer.begin_transaction()
        for _ in range(count):
            device = self._rng.randrange(DEVICES)
            name, partition = f"wb-{device:03d}", device % PARTITIONS
            number = len(self.written)
            at, net = BASE + number * STEP_MS, self._rng.randrange(10_000, 40_000)
            key = name.encode()
            if self._compacted:
                key = b"%d" % number  # every record stays; what is compacted away is tombstones and their dead
                if self._rng.random() < 0.02:
                    self._send(partition, b"dead", None)
            self._send(partition, key, self._value(name, at, net))
            self.written.append((name, at, net))
        if self._transactional:
            self._commit()
        else:
            self._producer.flush(120)

    def _commit(self, seconds: float = 120) -> None:
        """Until the broker is back: a commit that timed out may be asked for again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._producer.commit_transaction(30)
            except confluent_kafka.KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    @staticmethod
    def _value(device: str, at: int, net: int) -> bytes:
        return json.dumps({"device": device, "gross": net + 15_000, "tare": 15_000, "ts": at}).encode()

    def _send(self, partition: int, key: bytes, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key=key, partition=partition)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return


class Worker:
    """One ordinary worker as a process of its own."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.streams.hengliu", env=self._environment, stdout=out, stderr=out
            )

    async def end(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


async def prove(kind: str, kills: int, seed: int, folder: Path, records: int = 0) -> Outcome:
    """One kind of source topic, from two workers to three to one."""
    began = time.monotonic()
    rng = random.Random(seed)
    outcome = Outcome()
    broker = KafkaService(folder / "kafka", port=_port())
    bootstrap = await broker.start()
    workers: list[Worker] = []
    try:
        await asyncio.to_thread(_topics, bootstrap, kind)
        source = Source(bootstrap, "in", kind, random.Random(seed + 1))
        environment = os.environ | {
            "KAFKA": bootstrap, "IN": "in", "OUT": "out", "GROUP": "proof", "IDLE_MS": "0", "COMMIT_MS": "100",
        }  # fmt: skip
        done = asyncio.Event()

        async def feed() -> None:
            while not done.is_set() or len(source.written) < records:
                await asyncio.to_thread(source.write, 500)
                await asyncio.sleep(0.1)

        feeding = asyncio.create_task(feed())
        for phase, size in enumerate(PHASES):
            while len(workers) < size:
                workers.append(Worker(environment, folder / f"worker-{phase}-{len(workers)}.log"))
                await workers[-1].start()
            while len(workers) > size:
                await workers.pop().end(signal.SIGTERM)
            share = kills * (phase + 1) // len(PHASES)
            while outcome.kills < share:
                await asyncio.sleep(rng.uniform(0.5, 3.0))
                victim = rng.choice(workers)
                await victim.end(signal.SIGKILL)
                outcome.kills += 1
                if rng.random() < 0.5:  # half of them come back only when the others have taken over
                    await asyncio.sleep(rng.uniform(0.0, 8.0) if size > 1 else 0)
                await victim.start()
                print(f"{kind}: kill {outcome.kills}/{kills}, {size} workers, {len(source.written)} records", flush=True)
            if phase < len(PHASES) - 1:
                await broker.kill()
                await asyncio.sleep(rng.uniform(0, 2))
                await broker.start()
                outcome.broker_restarts += 1
        done.set()
        await feeding
        outcome.records = len(source.written)
        await _settled(bootstrap, kind, source, outcome)
    finally:
        for worker in workers:
            await worker.end(signal.SIGKILL)
        await broker.stop()
    if outcome.faults:
        outcome.faults += await asyncio.to_thread(_logs, folder)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _settled(bootstrap: str, kind: str, source: Source, outcome: Outcome, seconds: float = 90) -> None:
    """Read the output, committed records only, until it has what it must; then compare.

    What it must have is recomputed from the source topic as a plain reader finds it, since that is all that a worker can know.
    Where this is not what was committed there, the broker did it: told apart, and a fault with every kind but ``both``, where
    a broker that is killed does so once in a while (docs/protocols/commit.md).
    """
    held = await asyncio.to_thread(_held, bootstrap)
    wanted = _windows(held)
    if sorted(held) != sorted(source.written):
        lost, more = Counter(source.written) - Counter(held), Counter(held) - Counter(source.written)
        outcome.broker = f"{lost.total()} committed records lost and {more.total()} that are not committed on the source topic"
        if kind != "both":
            outcome.faults.append(outcome.broker)
    found: Counter[tuple[tuple[str, int], Figures]] = Counter()
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "isolation.level": "read_committed", "log_level": 2}
    )
    consumer.assign([confluent_kafka.TopicPartition("out", p, 0) for p in range(PARTITIONS)])
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and len(found) < len(wanted):
            for message in await asyncio.to_thread(consumer.consume, 10_000, 0.5):
                if message.error() is None:
                    row = json.loads(message.value() or b"")
                    found[(row["device"], row["w"]), (row["sum"], row["n"], row["mn"], row["mx"])] += 1
    finally:
        await asyncio.to_thread(consumer.close)
    outcome.windows = len(wanted)
    have = dict(found.keys())
    outcome.faults += [f"twice: {row} x{n}" for row, n in found.items() if n > 1][:5]
    missing = [at for at in wanted if at not in have]
    if missing:
        by_partition = Counter(int(device[3:]) % PARTITIONS for device, _ in missing)
        starts = sorted({(start - BASE) // WINDOW_MS for _, start in missing})
        outcome.faults.append(f"missing {len(missing)}: by partition {dict(by_partition)}, windows {starts[:20]}")
    outcome.faults += [f"wrong: {at}: {have[at]}, wanted {w}" for at, w in wanted.items() if at in have and have[at] != w][:5]
    outcome.faults += [f"not final: {at}" for at in have if at not in wanted][:5]


def _windows(records: Iterable[tuple[str, int, int]]) -> dict[tuple[str, int], Figures]:
    """The windows that the clock of their own partition has closed."""
    sums: dict[tuple[str, int], list[int]] = defaultdict(list)
    clock: Counter[int] = Counter()
    for device, at, net in records:
        sums[device, at - at % WINDOW_MS].append(net)
        partition = int(device[3:]) % PARTITIONS
        clock[partition] = max(clock[partition], at)
    return {
        (device, start): (sum(v), len(v), min(v), max(v))
        for (device, start), v in sums.items()
        if start + WINDOW_MS <= clock[int(device[3:]) % PARTITIONS]
    }


def _held(bootstrap: str) -> list[tuple[str, int, int]]:
    """Every record that a plain reader finds on the source topic."""
    settings: dict[str, str | int | bool] = {"bootstrap.servers": bootstrap, "group.id": "held", "log_level": 2}
    asker = confluent_kafka.Consumer(settings | {"isolation.level": "read_uncommitted"})
    ends = {p: asker.get_watermark_offsets(confluent_kafka.TopicPartition("in", p), 30)[1] for p in range(PARTITIONS)}
    asker.close()
    consumer = confluent_kafka.Consumer(settings | {"isolation.level": "read_committed", "enable.partition.eof": True})
    consumer.assign([confluent_kafka.TopicPartition("in", p, 0) for p in range(PARTITIONS)])
    found: list[tuple[str, int, int]] = []
    deadline = time.monotonic() + 60
    try:
        while ends:
            assert time.monotonic() < deadline, f"not at the end of partitions {sorted(ends)} after a minute"
            for message in consumer.consume(10_000, 0.5):
                partition, offset = message.partition() or 0, message.offset() or 0
                if message.error() is not None:  # its end for now, behind the last marker once all of them are written
                    if offset >= ends.get(partition, 0):
                        ends.pop(partition, None)
                elif value := message.value():
                    row = json.loads(value)
                    found.append((row["device"], row["ts"], row["gross"] - row["tare"]))
    finally:
        consumer.close()
    return found


def _logs(folder: Path) -> list[str]:
    return [f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in folder.glob("worker-*.log")]


def _topics(bootstrap: str, kind: str) -> None:
    compacted = {
        "cleanup.policy": "compact",
        "segment.ms": "2000",
        "min.cleanable.dirty.ratio": "0.01",
        # Longer than a run, as anywhere (a day unless set) longer than a broker is away: docs/protocols/commit.md says why.
        # With 1 ms a broker that was killed under this source alone, without a worker, showed aborted records.
        "delete.retention.ms": "600000",
    }
    admin = AdminClient({"bootstrap.servers": bootstrap})
    settings = compacted if kind in ("compacted", "both") else {}
    topics = [
        NewTopic("in", PARTITIONS, 1, config=settings),
        # The job's results carry no receive time, so their timestamp is 1970: with the broker's usual retention of a week they
        # may be deleted half a minute after a restart, before they have been compared.
        NewTopic("out", PARTITIONS, 1, config={"retention.ms": "-1"}),
    ]
    for future in admin.create_topics(topics).values():
        future.result(30)


def _port() -> int:
    """A port that the broker keeps over its restarts."""
    import socket

    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def main(kills: int, seed: int, kinds: list[str]) -> int:
    failed = False
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            outcome = await prove(kind, kills, seed, Path(folder))
        failed |= bool(outcome.faults)
        print(
            f"{kind}: {outcome.kills} kills and {outcome.broker_restarts} broker restarts in {outcome.seconds:.0f} s, "
            f"{outcome.records} records, {outcome.windows} windows, "
            f"{outcome.broker or 'the source topic holds what was committed'}, faults: {outcome.faults or 'none'}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="for all kinds together")
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    raise SystemExit(asyncio.run(main(max(3, given.kills // len(given.kind)), given.seed, given.kind)))
