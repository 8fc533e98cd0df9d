"""How long a task's state of many keys takes to come back, and what it weighs: ``python -m bench.streams.restore``.

A pane of a million keys is committed as a worker commits it (whole, then a part with what changed), then a new session of the
same task restores it, on either log. What it does not prove: nothing of a broker on another machine.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

from bench.engines import event_log, kafka_of
from bench.streams.job import WINDOW_MS
from hengliu.compose.collector import tune_collector
from hengliu.ports.log import TaskId
from streams.kernel.windows import WindowSpec, WindowTable

BASE = 1_795_000_020_000


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError


async def measure(engine: str, keys: int, folder: Path) -> str:
    async with kafka_of(engine, folder) as bootstrap, event_log(folder, bootstrap) as log:
        session = await log.open_task(TaskId("restore", 0))
        before = rss_mb()
        table = WindowTable(WindowSpec(WINDOW_MS))
        table.fold(((f"wb-{key:07d}", BASE, key) for key in range(keys)), [])
        held = rss_mb() - before
        began = time.perf_counter()
        entries = table.checkpoint()
        encoded = time.perf_counter() - began
        await session.commit([], entries, {})
        whole = time.perf_counter() - began
        table.fold(((f"wb-{key:07d}", BASE + 1, key) for key in range(0, keys, 100)), [])
        began = time.perf_counter()
        part = table.checkpoint()
        await session.commit([], part, {})
        some = time.perf_counter() - began
        await session.close()
        began = time.perf_counter()
        state = await (await log.open_task(TaskId("restore", 0))).restore()
        read = time.perf_counter() - began
        again = WindowTable(WindowSpec(WINDOW_MS))
        again.restore(state.entries)
        restored = time.perf_counter() - began
        assert again.advance(1 << 50) == table.advance(1 << 50), "what was restored is not what was committed"
        size, changed = (sum(len(blob or b"") for blob in of.values()) for of in (entries, part))
        return (
            f"{engine}: {keys:,} keys, {size / 1e6:.1f} MB of state; held in {held * 1024 * 1024 / keys:.0f} bytes a key; "
            f"first commit {whole:.2f} s (encoding {encoded:.2f}), "
            f"a commit of {keys // 100:,} changed keys {some * 1000:.0f} ms ({changed / 1e3:.0f} kB); "
            f"restored in {restored:.2f} s (reading {read:.2f}); "
            f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        )


async def main(engines: list[str], keys: int) -> None:
    for engine in engines:
        with tempfile.TemporaryDirectory() as folder:
            print(await measure(engine, keys, Path(folder)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", nargs="*", default=["local", "kafka"], choices=["local", "kafka"])
    parser.add_argument("--keys", type=int, default=1_000_000)
    given = parser.parse_args()
    tune_collector()
    asyncio.run(main(given.engine, given.keys))
