"""The process that the proof of the commit primitive kills: consume, compute, commit, for ever.

It reads topic ``in``, keeps a running sum per key and partition in its state, and writes one record an input record to
``out``: ``partition/index/key/sum``. So a record that is counted twice, lost, or summed over a state that does not belong
to its positions shows in every later record of its key.

Standard output tells the parent where it is, one word a line: ``restored N``, ``begin``, a step of the commit, ``end``,
``done``. Exit status 3 means fenced.
"""

import argparse
import asyncio
import ctypes
import os
import random
import signal
import sys
import threading
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from hengliu.ports.log import Append, EventLog, Fenced, Headers, Record, TaskId, TopicKind, TopicPartition, TopicSpec
from infra.local_log import LocalLog
from infra.log_guards import ALL_GUARDS, Guards, StepHook, no_hook

PARTITIONS = 2
KEYS = 7
TASK = TaskId("copy", 0)
FENCED = 3
_WORKING = threading.Event()


def topic(prefix: str, name: str) -> str:
    return f"{prefix}-{name}"


def open_log(
    log: str, place: str, prefix: str, guards: Guards = ALL_GUARDS, hook: StepHook = no_hook
) -> AbstractAsyncContextManager[EventLog]:
    """``place`` is the log file's path, or the broker's address."""
    if log == "local":
        return LocalLog.open(Path(place), guards=guards, hook=hook)
    from infra.kafka_log import KafkaLog  # half a second of imports that a life on the local log need not pay

    return KafkaLog.open(place, prefix=prefix, state_partitions=2, guards=guards, hook=hook)


async def load(log: EventLog, prefix: str, per_partition: int) -> None:
    """Create both topics and write the input."""
    names = [topic(prefix, "in"), topic(prefix, "out")]
    await log.create_topics([TopicSpec(name, TopicKind.CANONICAL, PARTITIONS) for name in names])
    for p in range(PARTITIONS):
        for start in range(0, per_partition, 1000):
            stop = min(start + 1000, per_partition)
            records = [Record(b"k%d" % (i % KEYS), b"%d" % i, Headers(i + 1, "in")) for i in range(start, stop)]
            await log.append(names[0], p, records)


def expected(partition: int, per_partition: int) -> list[bytes]:
    """What ``out`` must hold, computed without any of the above."""
    sums = [0] * KEYS
    out = []
    for i in range(per_partition):
        sums[i % KEYS] += i
        out.append(b"%d/%d/k%d/%d" % (partition, i, i % KEYS, sums[i % KEYS]))
    return out


def _say(word: str) -> None:
    os.write(1, word.encode() + b"\n")


async def work(log: EventLog, prefix: str, total: int, batch: int, pace_ms: float) -> None:
    """Until all of the input is committed."""
    session = await log.open_task(TASK)
    state = await session.restore()
    sums = {key: int(value) for key, value in state.entries.items() if key != b"done"}
    done = int(state.entries.get(b"done", b"0"))
    _say(f"restored {done}")
    _WORKING.set()
    inputs = [TopicPartition(topic(prefix, "in"), p) for p in range(PARTITIONS)]
    reader = await log.open_reader({tp: state.positions.get(tp, 0) for tp in inputs})
    chance = random.Random()
    while done < total:
        slices = await reader.poll(chance.randint(1, batch), 1000)
        outputs, positions, entries = [], {}, {}
        for found in slices:
            records = []
            for key, value, headers in zip(found.keys, found.values, found.headers, strict=True):
                name = b"%d/%s" % (found.partition, key)
                sums[name] = sums.get(name, 0) + int(value)
                entries[name] = b"%d" % sums[name]
                text = b"%d/%s/%s/%d" % (found.partition, value, key, sums[name])
                records.append(Record(key, text, replace_type(headers)))
            outputs.append(Append(topic(prefix, "out"), found.partition, records))
            positions[found.tp] = found.next_position
            done += len(found)
        entries[b"done"] = b"%d" % done
        _say("begin")
        await session.commit(outputs, entries, positions)
        _say("end")
        if pace_ms:
            await asyncio.sleep(pace_ms / 1000)
    _say("done")
    await reader.close()
    await session.close()


def replace_type(headers: Headers) -> Headers:
    return Headers(headers.received, "out", upstream=str(TASK))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", choices=["local", "kafka"], required=True)
    parser.add_argument("--place", required=True)
    parser.add_argument("--prefix", default="k")
    parser.add_argument("--total", type=int, required=True)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--pace-ms", type=float, default=2.0)
    parser.add_argument("--dwell-ms", type=float, default=0.0, help="stay this long at each step, so that kills find it")
    parser.add_argument("--die-at", default="", help="kill -9 itself at this step")
    parser.add_argument("--die-on", type=int, default=5, help="... of this commit")
    parser.add_argument("--guard-off", action="append", default=[])
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # dies with the test
    seen = 0

    def hook(step: str) -> None:
        nonlocal seen
        if not _WORKING.is_set():  # opening the session is a transaction too
            return
        _say(step)
        if step == options.die_at:
            seen += 1
            if seen == options.die_on:
                os.kill(os.getpid(), signal.SIGKILL)
        if options.dwell_ms:
            time.sleep(options.dwell_ms / 1000)

    guards = replace(ALL_GUARDS, **dict.fromkeys(options.guard_off, False))

    async def run() -> None:
        async with open_log(options.log, options.place, options.prefix, guards, hook) as log:
            await work(log, options.prefix, options.total, options.batch, options.pace_ms)

    try:
        asyncio.run(run())
    except Fenced:
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main())
