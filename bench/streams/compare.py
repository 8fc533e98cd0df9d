"""Our worker, its peers and the ceiling on one broker, interleaved and paired: ``python -m bench.streams.compare``.

Needs a folder with the peers' programs and their harness (``--peers``; ``run.sh`` there prepares them: Kafka Streams and Flink
through Maven and PyPI, Quix and stock Faust in this environment). Every contestant does the same job on the same topic, every
output window is compared with a recomputation by the harness, and CPU is that of the whole process tree.

Rounds are interleaved: in each, every contestant runs once, and ratios are formed inside a round; the table has their medians,
least and greatest. What it does not prove: nothing of several machines, of replication, or of a disk slower than memory.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Machine, machine

OURS = "hengliu"
CEILING = "ceiling"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program. ``short``: runs on the small topic, fewer rounds."""

    label: str
    title: str
    state: str
    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    short: bool = False


def contestants(peers: Path, work: Path) -> list[Contestant]:
    """Who is there. Their commands are those of the harness's own run."""
    python = sys.executable
    worker = (python, "-m", "bench.streams.hengliu")
    classes = f"{work}/ks/target/ks-1.jar:{work}/ks/lib/*"
    java = ("java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classes, "peers.Ks")
    flink = (f"{work}/vfl/bin/python", str(peers / "c_flink.py"))
    bytewax = (f"{work}/vbw/bin/python", "-m", "bytewax.run", "c_bytewax:flow")
    # Quix pins another Kafka client than this project; with an environment of its own it runs there.
    own = work / "vqx" / "bin" / "python"
    quix = (str(own) if own.exists() else python, str(peers / "c_quix.py"), "final", "key")
    jars = ("TMO=120", "CKPT=2s", f"JARS={work}/flinkjars")
    ours, lost = "committed with the outputs, 500 ms", "lost in a crash"

    def script(name: str, *arguments: str) -> tuple[str, ...]:
        return (python, str(peers / name), *arguments)

    return [
        Contestant(OURS, "Hengliu worker under Faust", ours, worker),
        Contestant("bare", "Hengliu, the same loop bare", ours, worker, ("SHELL_KIND=bare",)),
        Contestant(CEILING, "bare consumer, msgspec, dict", lost, script("c_ceiling.py", "msgspec")),
        Contestant("ks1", "Kafka Streams, 1 thread", "changelog", java, ("THREADS=1", "TMO=90")),
        Contestant("ks2", "Kafka Streams, 2 threads", "changelog", java, ("THREADS=2", "TMO=90")),
        Contestant("flink1", "PyFlink SQL, p=1", "checkpoint 2 s", (*flink, "1"), jars),
        Contestant("flink2", "PyFlink SQL, p=2", "checkpoint 2 s", (*flink, "2"), jars),
        Contestant("bytewax", "Bytewax", lost, bytewax, ("TMO=60", "COMMIT_WAIT=1"), short=True),
        Contestant("faust", "stock Faust", lost, script("c_faust.py", "stock"), ("TMO=90", "COMMIT_WAIT=9"), short=True),
        Contestant("quix", "Quix", "changelog", quix, ("TMO=60", "CHANGELOG=1"), short=True),
    ]


def run_one(peers: Path, work: Path, bootstrap: str, who: Contestant, topic: str) -> dict[str, Any]:
    """One run through the harness; its line of results."""
    command = [sys.executable, str(peers / "bench.py"), who.label, topic, *who.environment, "--", *who.command]
    environment = os.environ | {"KAFKA": bootstrap, "WORK": str(work), "QUIET": "20"}
    environment["PYTHONPATH"] = os.pathsep.join((str(Path.cwd()), str(peers)))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    for line in reversed(done.stdout.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            found: dict[str, Any] = json.loads(line)
            return found
    raise RuntimeError(f"{who.label}: {done.stdout[-500:]} {done.stderr[-1500:]}")


def exact(result: Mapping[str, Any]) -> bool:
    return bool(result["done"]) and not (result["wrong"] or result["missing"] or result["dup"])


def net_cpu(result: Mapping[str, Any]) -> float:
    """CPU seconds a million records, without start-up."""
    return float((result["cpu"] - (result["cpu_start"] or 0)) / result["n"] * 1e6)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (least to greatest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(who: Sequence[Contestant], results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Lines of the table, best median first."""
    yield (
        "| contestant | state | runs | records | k records/s | CPU s/M net | RSS MB | exact | rate, ours over theirs "
        "| CPU, ours over theirs |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|---|--:|--:|"
    ours = results[OURS]
    for one in who:
        runs = [r for r in results.get(one.label, ()) if r.get("rate")]
        if not runs:
            yield f"| {one.title} | {one.state} | 0 | | did not run | | | | | |"
            continue
        pairs = [(a, b) for a, b in zip(ours, results[one.label], strict=False) if a.get("rate") and b.get("rate")]
        rates = [a["rate"] / b["rate"] for a, b in pairs]
        cpus = [net_cpu(a) / net_cpu(b) for a, b in pairs]
        paired = (spread(rates), spread(cpus)) if one.label != OURS and not one.short else ("", "")
        yield (
            f"| {one.title} | {one.state} | {len(runs)} | {runs[0]['n']:,} | {spread([r['rate'] / 1e3 for r in runs], 0)} "
            f"| {spread([net_cpu(r) for r in runs])} | {max(r['rss'] for r in runs):.0f} "
            f"| {sum(map(exact, runs))} of {len(runs)} | {paired[0]} | {paired[1]} |"
        )


def page(here: Machine, who: Sequence[Contestant], results: Mapping[str, Sequence[Mapping[str, Any]]], rounds: int) -> str:
    where = f"{here.cores} cores of {here.processor}, {here.memory_gb} GB, kernel {here.kernel}, Python {here.python}"
    foreign = [abs(r["foreign"]) for of in results.values() for r in of if r.get("foreign") is not None]
    lines = [
        f"- {here.at}, commit `{here.commit}`, `python -m bench.streams.compare --rounds {rounds}`",
        f"- {where}; cores that others used meanwhile: at most {max(foreign, default=0):.2f}",
        "",
        *table(who, results),
    ]
    return "\n".join(lines)


async def main(here: Machine, kafka: str, peers: Path, work: Path, rounds: int, only: Sequence[str], write: Path | None) -> int:
    async with contextlib.AsyncExitStack() as stack:
        if not kafka:
            from infra.services.kafka import KafkaService

            folder = stack.enter_context(tempfile.TemporaryDirectory())
            kafka = await stack.enter_async_context(KafkaService(Path(folder), heap_mb=1024))
            for topic in ("in-l", "in-s"):
                environment = os.environ | {"KAFKA": kafka, "WORK": str(work)}
                await asyncio.to_thread(
                    subprocess.run, [sys.executable, str(peers / "load.py"), topic], env=environment, check=True
                )
        who = [c for c in contestants(peers, work) if not only or c.label in only]
        results: dict[str, list[dict[str, Any]]] = {c.label: [] for c in who}
        for number in range(rounds):
            for one in who:
                if one.short and number >= 3:
                    continue
                try:
                    found = await asyncio.to_thread(run_one, peers, work, kafka, one, "in-s" if one.short else "in-l")
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"round {number + 1} {one.label}: {error}", flush=True)
                    found = {}
                results[one.label].append(found)
                if found:
                    rate = f"{found['rate'] / 1e3:.0f} k/s" if found["rate"] else "no end"
                    print(
                        f"round {number + 1} {one.label}: {rate}, {net_cpu(found):.2f} CPU s/M, {found['rss']} MB, "
                        f"exact {exact(found)}, others {found['foreign']}",
                        flush=True,
                    )
    text = page(here, who, results, rounds)
    print(text)
    if write is not None:
        old = await asyncio.to_thread(write.read_text)
        begin, end = "<!-- bench:streams -->", "<!-- /bench:streams -->"
        head, rest = old.split(begin)
        await asyncio.to_thread(write.write_text, f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")
    return 0 if all(exact(r) for r in results[OURS]) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="", help="host:port of a broker that has the topics; one is started unless given")
    parser.add_argument("--peers", type=Path, default=Path("../shared/peers"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/peers"), help="where the peers were prepared")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--write", type=Path, default=None, help="docs/benchmarks.md")
    given = parser.parse_args()
    here = machine()
    raise SystemExit(asyncio.run(main(here, given.kafka, given.peers, given.work, given.rounds, given.only, given.write)))
