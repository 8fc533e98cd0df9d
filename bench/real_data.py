"""All of the real data through a running platform: ``python -m bench.real_data --engine local --data FOLDER``.

Starts a deployment (processes, loopback), loads each file by its bundled mapping, waits until the tables hold it, and compares
the tables with a plain recomputation from the file that shares no code with loader or platform. One line of JSON a file.

``events_per_s`` is acknowledged events by the time of the load (until durable in the log); ``tables_after_s`` is how long
after the last acknowledgement the tables were equal to the file. What it does not prove: nothing of a network, and the loader
shares the machine with the platform.
"""

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from connectors.files.command import load_file
from connectors.files.mapping import find_mapping
from hengliu.compose.engines import engines
from tests.connectors import asked, recount
from tests.e2e.deployment import Deployment

Compare = Callable[[httpx.AsyncClient, Path, int | None], Awaitable[list[str]]]


async def _london(client: httpx.AsyncClient, data: Path, rows: int | None) -> list[str]:
    mine = await asyncio.to_thread(recount.london, data, rows)
    return asked.differences("kWh", mine, await asked.consumption(client, "real-london"))


async def _steel(client: httpx.AsyncClient, data: Path, rows: int | None) -> list[str]:
    mine = await asyncio.to_thread(recount.steel, data, rows)
    return asked.differences("kWh", mine, await asked.hours(client, "steelworks-main"))


async def _alicante(client: httpx.AsyncClient, data: Path, rows: int | None) -> list[str]:
    mine = await asyncio.to_thread(lambda: recount.alicante(recount.alicante_rows(data, rows)))
    found = asked.differences("m3", mine, await asked.consumption(client, "real-alicante"))
    if rows is None:
        told = {(f"alicante-{recount.DOUBLED}", "register-interleaved"): 1,
                (f"alicante-{recount.GARBLED}", "reading-implausible"): 1}  # fmt: skip
        found += asked.differences("warning", told, await asked.warnings(client, "real-alicante"))
    return found


async def _jersey(client: httpx.AsyncClient, data: Path, rows: int | None) -> list[str]:
    return asked.differences("fix", recount.jersey(data, rows), await asked.positions(client))


async def _blantyre(client: httpx.AsyncClient, data: Path, rows: int | None) -> list[str]:
    return asked.differences("passage", recount.blantyre(data, rows), await asked.passages(client))


async def _metro(client: httpx.AsyncClient, data: Path, rows: int | None) -> list[str]:
    return asked.differences("load", recount.metro(data, rows), await asked.declared_loads(client))


FILES: tuple[tuple[str, str, Compare], ...] = (
    ("steelworks", recount.STEEL, _steel),
    ("metro-loads", recount.METRO, _metro),
    ("blantyre-gate", recount.BLANTYRE, _blantyre),
    ("jersey-positions", recount.JERSEY, _jersey),
    ("alicante-water", recount.ALICANTE, _alicante),
    ("london-electricity", recount.LONDON, _london),
)
"""Mapping, file, comparison."""


@contextlib.asynccontextmanager
async def _deployment(folder: Path, engine: str) -> AsyncIterator[Deployment]:
    if engine == "local":
        async with Deployment(folder / "data") as running:
            yield running
        return
    async with engines(folder / "engines") as urls, Deployment(folder / "data", urls) as running:
        yield running


async def _equal(compare: Callable[[], Awaitable[list[str]]], patience_s: float) -> list[str]:
    deadline = time.monotonic() + patience_s
    while True:
        left = await compare()
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(2)


async def run(engine: str, data: Path, only: list[str], rows: int | None, again: bool, patience_s: float) -> int:
    """Load, compare and print. The number of files whose figures differ."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hengliu-real-") as folder:
        async with _deployment(Path(folder), engine) as deployment, deployment.client(timeout=120) as client:
            for name, file, compare in FILES:
                if only and name not in only:
                    continue
                for turn in range(1 + again):
                    began = time.monotonic()
                    report = await load_file(data / file, find_mapping(name), deployment.url, deployment.token, limit=rows or 0)
                    loaded = time.monotonic()
                    left = await _equal(lambda compare=compare: compare(client, data, rows), patience_s)  # type: ignore[misc]
                    wrong += bool(left) or not report.whole or (turn == 1 and report.accepted > 0)
                    print(json.dumps({
                        "engine": engine, "mapping": name, "run": turn + 1, "rows": report.results,
                        "accepted": report.accepted, "duplicate": report.duplicate, "refused": dict(report.refused),
                        "no_event": {f"{c} {k}".strip(): n for (c, k), n in (report.skipped + report.faults).items()},
                        "load_s": round(loaded - began, 1), "events_per_s": round(report.events / (loaded - began)),
                        "tables_after_s": round(time.monotonic() - loaded, 1), "equal": not left, "differences": left[:6],
                    }, ensure_ascii=False), flush=True)  # fmt: skip
    return wrong


def main() -> int:
    """Arguments, then ``run``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "kafka"), default="local")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HENGLIU_REAL_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="*", default=[], help="mappings, all unless given")
    parser.add_argument("--rows", type=int, default=None, help="data rows of each file, all unless given")
    parser.add_argument("--again", action="store_true", help="load each file twice; the second run must add nothing")
    parser.add_argument("--patience", type=float, default=300, help="seconds that the tables may take after a load")
    given: Any = parser.parse_args()
    return min(1, asyncio.run(run(given.engine, given.data, given.only, given.rows, given.again, given.patience)))


if __name__ == "__main__":
    raise SystemExit(main())
