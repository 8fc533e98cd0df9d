"""All benches of one deployment, one after the other, each in a process of its own: ``python -m bench``.

``--write`` puts the table into ``docs/benchmarks.md``, between the markers of the deployment, with the machine and the load
average at which it was taken. Under four minutes for the embedded default and five for Kafka and ClickHouse on two idle cores.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.engines import ENGINES
from bench.report import (
    Machine,
    OfOutput,
    Result,
    grid,
    machine,
    of_ingest,
    of_intake,
    of_log_append,
    of_results,
    of_warehouse_insert,
    page,
    write_page,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
TIMEOUT_S = 150
"""Of one bench: all of them together stay bounded whatever hangs."""


@dataclass(frozen=True, slots=True)
class Job:
    """A bench, its arguments and how to read what it prints."""

    module: str
    arguments: tuple[str, ...]
    results: OfOutput


def jobs(engine: str, scale: float) -> list[Job]:
    """What is run, in this order."""
    size = str(scale)
    seconds = max(0.1, 0.6 * scale)
    return [
        Job("log_append", ("--log", engine, "--seconds", f"{seconds:.2f}", "--json"), of_log_append),
        Job("intake", ("--engine", engine, "--events", str(max(800, int(40_000 * scale)))), of_intake),
        Job("ingest", ("--engine", engine, "--scale", size), of_ingest),
        Job("stages", ("--engine", engine, "--scale", size), of_results),
        Job("flat", ("--engine", engine, "--scale", size), of_results),
        Job(
            "warehouse_insert",
            ("--engine", "chdb" if engine == "local" else "clickhouse", "--seconds", str(max(1.0, 15 * scale)), "--json"),
            of_warehouse_insert,
        ),
    ]


def run(job: Job, engine: str, console: Console) -> list[Result]:
    """Results of one bench; none if it failed, which is shown."""
    command = [sys.executable, "-m", f"bench.{job.module}", *job.arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        return job.results(json.loads(done.stdout), engine)
    except subprocess.TimeoutExpired:
        console.print(f"[red]bench.{job.module} took longer than {TIMEOUT_S} s and was ended")
    except subprocess.CalledProcessError as error:
        console.print(f"[red]bench.{job.module} failed ({error.returncode}):")
        console.print(error.stderr[-3_000:], markup=False, highlight=False)
    return []


def measure(engine: str, scale: float, only: list[str], console: Console) -> tuple[list[Result], list[str]]:
    """Results, and the benches that gave none."""
    results: list[Result] = []
    failed: list[str] = []
    todo = [job for job in jobs(engine, scale) if not only or job.module in only]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        line = progress.add_task(engine, total=len(todo))
        for job in todo:
            progress.update(line, description=f"{engine}: {job.module}")
            began = time.perf_counter()
            found = run(job, engine, console)
            console.print(f"bench.{job.module}: {len(found)} results in {time.perf_counter() - began:.0f} s")
            results += found
            if not found:
                failed.append(f"bench.{job.module}")
            progress.advance(line)
    return results, failed


def warn(where: Machine, console: Console) -> None:
    if where.busy:
        console.print(
            f"[bold red]负载 {where.load_1min}：机器正忙，下面的数字偏低，不可引用。[/]\n"
            f"[bold red]LOAD AVERAGE {where.load_1min}: this machine is busy with other programs. The rates below are too low "
            "by an unknown factor; do not quote them.[/]"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--engine", choices=ENGINES, default="local", help="kafka: Kafka and ClickHouse, started here")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies sizes and times; below 1 only for trying it out")
    parser.add_argument("--only", default="", help="benches, comma separated: " + ", ".join(j.module for j in jobs("local", 1)))
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - {job.module for job in jobs("local", 1)}:
        parser.error(f"no bench called {', '.join(sorted(unknown))}")
    console = Console(stderr=True)
    where = machine()
    warn(where, console)
    results, failed = measure(arguments.engine, arguments.scale, only, console)
    Console(width=None if sys.stdout.isatty() else 200).print(
        grid(results, f"{arguments.engine}, {where.at}, load average {where.load_1min} at the start")
    )
    warn(where, console)
    if arguments.write:
        command = shlex.join(["python", "-m", "bench", *(a for a in sys.argv[1:] if a != "--write")])
        write_page(PAGE, arguments.engine, page(results, where, command, failed, os.getloadavg()[0], arguments.scale))
        console.print(f"written to {PAGE.relative_to(ROOT)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
