"""A cluster of three brokers whose coordinators die: commits go on exactly.

Whoever leads the part of the transaction log in which a task's id lies coordinates its commits. It is killed with -9 while the
task commits, another broker takes over, the dead one comes back, and so on.

``python -m tests.kill.coordinator_move --moves 10`` is the long form.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient

from infra.services.kafka import KafkaCluster
from tests.kill.commit_primitive import Outcome, Site, Worker, compare, prepare
from tests.kill.commit_worker import TASK

TRANSACTIONS = "__transaction_state"
PER_MOVE = 4_000
"""Records a partition for each move: a worker that waits for a successor must still have work when it has one."""


@dataclass
class Moves:
    """What a proof saw."""

    outcome: Outcome
    coordinators: list[int]
    """Brokers by number, as they took over; the first is where it began."""
    lives: int
    seconds: float


def coordinator_of(bootstrap: str, transactional_id: str) -> int:
    """The broker that leads the partition of the transaction log in which an id lies; -1 while there is none."""
    topics = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2}).list_topics(TRANSACTIONS, 30).topics
    partitions = topics[TRANSACTIONS].partitions
    return int(partitions[java_hash(transactional_id) % len(partitions)].leader)


def java_hash(text: str) -> int:
    """``Utils.abs(text.hashCode())`` of Kafka's broker: which partition of the transaction log an id belongs to.

    >>> java_hash("k-copy-0"), java_hash("")
    (1725355898, 0)
    """
    number = 0
    for character in text:
        number = (31 * number + ord(character)) & 0xFFFFFFFF
    return number & 0x7FFFFFFF


async def prove(folder: Path, moves: int) -> Moves:
    """Kill the coordinator ``moves`` times. Raises AssertionError where nobody takes over, or nothing is committed any more."""
    began = time.monotonic()
    cluster = KafkaCluster(folder)
    worker: Worker | None = None
    try:
        site = Site("kafka", await cluster.start(), "k", PER_MOVE * (moves + 1))
        await prepare(site)
        worker = await Worker.start(site, "--pace-ms", "5")
        await worker.working()
        id_ = f"{site.prefix}-{TASK}"
        coordinators = [await asyncio.to_thread(coordinator_of, site.place, id_)]
        lives = 1
        for _ in range(moves):
            killed, before = coordinators[-1], worker.commits
            await cluster.brokers[killed].kill()
            deadline = time.monotonic() + 90
            successor = killed
            while successor in (killed, -1):
                assert time.monotonic() < deadline, "no other broker took the transactions over"
                successor = await asyncio.to_thread(coordinator_of, site.place, id_)
            coordinators.append(successor)
            # A worker may wait the move out, or give up and leave it to the next; in any case more is committed.
            while worker.commits < before + 5:
                assert time.monotonic() < deadline, f"nothing was committed any more; last word: {worker.last}"
                if worker.process.returncode is not None:
                    assert worker.process.returncode != 0, "the input ran out: the proof needs more of it"
                    worker, before, lives = await Worker.start(site, "--pace-ms", "5"), 0, lives + 1
                await asyncio.sleep(0.05)
            await cluster.brokers[killed].start()
        await worker.kill()
        worker = await Worker.start(site, "--pace-ms", "0", "--batch", "500")
        assert await worker.ended() == 0, worker.last
        return Moves(await compare(site), coordinators, lives, time.monotonic() - began)
    finally:
        if worker is not None:
            await worker.kill()
        await cluster.stop()


async def main(moves: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="hengliu-move-") as scratch:
        seen = await prove(Path(scratch), moves)
    outcome = seen.outcome
    print(
        f"{moves} coordinators killed in {seen.seconds:.0f} s, over brokers {seen.coordinators}, {seen.lives} lives of the "
        f"worker: duplicates {outcome.duplicates}, missing {outcome.missing}, wrong {outcome.wrong}"
    )
    return outcome.exact


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=10)
    sys.exit(0 if asyncio.run(main(parser.parse_args().moves)) else 1)
