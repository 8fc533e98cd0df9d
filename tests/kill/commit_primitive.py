"""Proof of the commit primitive under kill -9 and under stopped processes; the long form of the tests beside it.

``python -m tests.kill.commit_primitive --kills 50 --log local`` (or ``kafka``) kills a worker at random moments, lets
another take over, and compares what it wrote with a recomputation.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hengliu.ports.log import LogReader, TopicPartition
from infra.services.kafka import KafkaService
from tests.kill.commit_worker import PARTITIONS, expected, load, open_log, topic

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Site:
    """Where a proof runs: which log, where it is, under which names, how much input."""

    log: str
    place: str
    prefix: str
    per_partition: int

    @property
    def total(self) -> int:
        return self.per_partition * PARTITIONS


@dataclass
class Outcome:
    """What ``out`` holds against what it must hold."""

    duplicates: int
    missing: int
    wrong: int
    lives: int = 1
    deaths: Counter[str] = field(default_factory=Counter)
    """The last word of each killed worker: where the kill found it."""

    @property
    def exact(self) -> bool:
        return not (self.duplicates or self.missing or self.wrong)


class Worker:
    """A running worker, and the last word that it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.last = "start"
        self.commits = 0
        self.restored = -1
        self.moving = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @staticmethod
    async def start(site: Site, *options: str) -> "Worker":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.kill.commit_worker",
            *("--log", site.log, "--place", site.place, "--prefix", site.prefix, "--total", str(site.total)),
            *options,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        return Worker(process)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            word = line.decode().strip()
            if word.startswith("restored"):
                self.restored = int(word.split()[1])
            elif word == "end":
                self.commits += 1
                if self.commits == 2:
                    self.moving.set()
            self.last = word

    async def working(self, seconds: float = 60.0) -> None:
        """Wait until it has committed twice in this life."""
        ended = asyncio.create_task(self.ended())
        moving = asyncio.create_task(self.moving.wait())
        done, pending = await asyncio.wait({ended, moving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for waiting in pending:
            waiting.cancel()
        if not done:
            raise TimeoutError(f"the worker did nothing for {seconds} s; last word: {self.last}")

    async def ended(self) -> int:
        """Its exit status, once everything that it said has been read."""
        status = await self.process.wait()
        await self._listening
        return status

    async def kill(self) -> int:
        if self.process.returncode is None:
            self.process.kill()
        return await self.ended()


async def prepare(site: Site) -> None:
    async with open_log(site.log, site.place, site.prefix) as log:
        await load(log, site.prefix, site.per_partition)


async def compare(site: Site) -> Outcome:
    """Read ``out`` to its end, committed records only, and compare."""
    found: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
    tps = [TopicPartition(topic(site.prefix, "out"), p) for p in range(PARTITIONS)]
    async with open_log(site.log, site.place, site.prefix) as log:
        reader: LogReader = await log.open_reader(dict.fromkeys(tps, 0))
        deadline = time.monotonic() + 60
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            slices = await reader.poll(10_000, 300)
            for part in slices:
                found[part.partition] += part.values
            complete = all(len(found[p]) >= site.per_partition for p in found)
            quiet = 0 if slices else quiet + 1 if complete else quiet + 0.1  # type: ignore[assignment]
        await reader.close()
    duplicates = missing = wrong = 0
    for p, values in found.items():
        wanted = expected(p, site.per_partition)
        counts = Counter(v.split(b"/")[1] for v in values)
        duplicates += sum(n - 1 for n in counts.values())
        missing += sum(1 for i in range(site.per_partition) if b"%d" % i not in counts)
        wrong += len(set(values) - set(wanted))
        if not (duplicates or missing or wrong) and values != wanted:
            wrong += sum(1 for a, b in zip(values, wanted, strict=True) if a != b)
    return Outcome(duplicates, missing, wrong)


async def random_kills(site: Site, kills: int, seed: int, *options: str, longest: float = 0.4) -> Outcome:
    """Kill ``kills`` workers in mid-stream at random moments, let the last one finish, compare."""
    chance = random.Random(seed)
    deaths: Counter[str] = Counter()
    lives = 0
    while sum(deaths.values()) < kills:
        worker = await Worker.start(site, *options)
        lives += 1
        try:
            await worker.working()
            await asyncio.sleep(chance.uniform(0, longest))
        finally:
            status = await worker.kill()
        if status == 0:
            raise AssertionError(f"the input ran out after {sum(deaths.values())} kills: the proof needs more of it")
        if status != -signal.SIGKILL:
            raise AssertionError(f"a worker ended by itself with status {status} after {worker.last}")
        deaths[worker.last] += 1
    worker = await Worker.start(site, "--pace-ms", "0", "--batch", "500")
    status = await worker.ended()
    if status != 0 or worker.last != "done":
        raise AssertionError(f"the last worker ended with status {status} after {worker.last}")
    if not 0 < worker.restored < site.total:
        raise AssertionError(f"the last worker took over at {worker.restored} of {site.total}: no kill was in mid-stream")
    outcome = await compare(site)
    outcome.lives, outcome.deaths = lives + 1, deaths
    return outcome


async def _main(options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="hengliu-kill-") as scratch:
        service = KafkaService(Path(scratch) / "kafka") if options.log == "kafka" else None
        place = str(Path(scratch) / "log.db") if service is None else await service.start()
        try:
            rate = 1200 if service is None else 500
            site = Site(options.log, place, "k", 2000 + rate * options.kills)
            await prepare(site)
            began = time.monotonic()
            outcome = await random_kills(site, options.kills, options.seed, "--dwell-ms", "0.5")
        finally:
            if service is not None:
                await service.stop()
    print(f"log {options.log}: {options.kills} kills in {time.monotonic() - began:.0f} s, {site.total} records")
    print("  found at: " + ", ".join(f"{word} {n}" for word, n in outcome.deaths.most_common()))
    print(f"  duplicates {outcome.duplicates}, missing {outcome.missing}, wrong {outcome.wrong}")
    return outcome.exact


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--log", choices=["local", "kafka"], default="local")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(0 if asyncio.run(_main(parser.parse_args())) else 1)
