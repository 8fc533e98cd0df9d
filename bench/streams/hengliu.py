"""Hengliu as a contestant: the job as an ordinary worker, until it is told to stop.

    KAFKA=127.0.0.1:9092 IN=in-l OUT=out GROUP=g STATE=/tmp/state python -m bench.streams.hengliu

Environment:
    KAFKA: ``host:port``, or ``local:DIR`` for the local log in that folder (``DIR/log.sqlite``).
    IN, OUT: topics; OUT has as many partitions as IN.
    GROUP: consumer group that membership and committed positions are told to; names the tasks' state, too.
    LATE: how long windows stay open after their end, ms (0).
    KEEP: how long closed windows can be corrected, ms (600000).
    FLUSH: 1 closes the last windows as soon as the input is silent, instead of when their time is over.
    IDLE_MS: a partition without records for so long is silent, and its clock runs on as time passes (2000; 0: never).
    COMMIT_MS: commit interval (500).
    SESSION_S: how long the group waits for a worker that has died (6).
    RECORD: ``flat`` (default); ``envelope``: the same members as the data of a CloudEvent; ``unique``: a number counts once.
    RULES: ``all``: every registered detector with its defaults on each final window, warnings to the topic ``WARN`` in the same
        commit (``bench.streams.detecting``); ``none``: the same task without them. With either the last line that is printed is
        ``STATE <bytes>``, what the tasks keep. Unset (default): the plain task.
    SHELL_KIND: ``faust`` (default), or ``bare``: the same loop without Faust.
    LOG_LEVEL: WARNING unless given.
    STATE: taken for the others' sake; state lies in the log.

Prints ``START <epoch seconds>`` when the first record has been decoded. Killed and started again with the same environment it
goes on exactly: outputs, window state and input positions are committed together.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.streams.detecting import DetectingTopology, WindowAnomalies
from bench.streams.job import WINDOW_MS, EnvelopeJob, FlatJob, UniqueJob
from hengliu.compose.adapters import register_transports
from hengliu.compose.collector import tune_collector
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import EventLog, TopicPartition
from streams.agents import FaustShell, GroupHost
from streams.kernel.partition import PartitionTopology, WindowJob
from streams.kernel.task import CommitPolicy
from streams.kernel.windows import WindowSpec

__all__ = ["main"]


JOBS = {"flat": FlatJob, "envelope": EnvelopeJob, "unique": UniqueJob}


class _Announced:
    """A job that says once that its first slice has been decoded."""

    def __init__(self, job: WindowJob) -> None:
        self.name, self.record, self.window = job.name, job.record, job.window
        self.ids, self.result = job.ids, job.result
        self._job = job
        self._said = False

    def rows(self, records: Sequence[Any]) -> Sequence[tuple[str, int, int]]:
        if not self._said and records:
            self._said = True
            print(f"START {time.time():.3f}", flush=True)
        return self._job.rows(records)


async def open_log(kafka: str, group: str) -> EventLog:
    """The log that ``KAFKA`` names. State topics and transactional ids begin with the group's name."""
    if kafka.startswith("local:"):
        from infra.local_log import LocalLog

        return await LocalLog.open(Path(kafka.removeprefix("local:")) / "log.sqlite")
    from infra.kafka_log import KafkaLog

    return await KafkaLog.open(kafka, prefix=group)


async def bare(topology: PartitionTopology, group: str) -> None:
    """The loop without Faust: every partition is ours."""
    host = GroupHost(topology, group)
    tps = [TopicPartition(topology.source, p) for p in range(topology.partitions)]
    reader = await topology.log.open_reader(await host.assigned(tps), bulk=True)
    try:
        while True:
            for piece in await reader.poll(topology.poll_records, 1_000):
                await host.deliver(piece)
            await asyncio.sleep(0)
    finally:
        await reader.close()
        await host.stop()


async def run() -> None:
    env = os.environ
    kafka, group = env["KAFKA"], env["GROUP"]
    log = await open_log(kafka, group)
    try:
        rules, warnings = env.get("RULES", ""), env.get("WARN", "")
        partitions = (await log.adopt([env["IN"], env["OUT"], *([warnings] if rules == "all" else [])]))[0].partitions
        window = WindowSpec(WINDOW_MS, lateness_ms=int(env.get("LATE", "0")), keep_ms=int(env.get("KEEP", "600000")))
        job = _Announced(JOBS[env.get("RECORD", "flat")](window))
        given: dict[str, Any] = {
            "idle_ms": int(env.get("IDLE_MS", "2000")) or None,
            "flush_when_silent": env.get("FLUSH") == "1",
            "policy": CommitPolicy(interval_ms=int(env.get("COMMIT_MS", "500")), max_records=20_000, max_pending=1_000_000),
        }
        place = (log, SystemClock(), job, env["IN"], env["OUT"], partitions)
        topology = PartitionTopology(*place, **given)
        if rules:
            operators = (WindowAnomalies(WINDOW_MS),) if rules == "all" else ()
            topology = DetectingTopology(*place, **given, operators=operators, warnings=warnings)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        if env.get("SHELL_KIND", "faust") == "bare":
            loop = asyncio.create_task(bare(topology, "windows"))
            await asyncio.wait([loop, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        else:
            register_transports()
            broker = "hengliu-local://" if kafka.startswith("local:") else f"hengliu-kafka://{kafka}"
            shell = FaustShell(topology, {"windows": group}, broker, session_s=float(env.get("SESSION_S", "6")))
            await shell.start()
            await stopped.wait()
            await shell.stop()
        if isinstance(topology, DetectingTopology):
            print(f"STATE {topology.state_bytes()}", flush=True)
    finally:
        await log.close()


def main() -> None:
    missing = [name for name in ("KAFKA", "IN", "OUT", "GROUP") if name not in os.environ]
    if missing:
        sys.exit(f"{__doc__}\n缺少环境变量 / missing in the environment: {', '.join(missing)}")
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "WARNING"), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    tune_collector()
    asyncio.run(run())


if __name__ == "__main__":
    main()
