"""The whole platform under kill -9: nothing acknowledged is lost, nothing is counted twice.

A simulated city sends its history while processes are killed at random moments and started again. At each kill it is asserted
that tickets were half made and windows open. At the end

1. every acknowledged event stands in the log exactly once;
2. every derived event has an id of its own;
3. each table holds what the log holds, row for row by id;
4. every figure equals the ledger of the simulator, which shares no code with the operators.

``python -m tests.kill.platform --engine local --kills 50`` is the long form; test_platform.py runs three kills a deployment.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec

from hengliu.compose.adapters import open_log_for_reading, open_warehouse
from hengliu.compose.engines import engines
from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.ports.log import CLOCK_TYPE, EventLog, TopicPartition
from hengliu.settings import Settings
from simulator.city import City, registry
from simulator.run import Feeder, wall_ms
from tests.e2e.deployment import Deployment
from tests.e2e.figures import settled

HOUR_MS = 3_600_000
PARTITIONS = 2


class _Identity(msgspec.Struct):
    id: str
    source: str


@dataclass
class Outcome:
    """What a proof saw."""

    kills: int = 0
    half_tickets: list[int] = field(default_factory=list)
    open_windows: list[int] = field(default_factory=list)
    events: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def _ids(log: EventLog, topic: str, partitions: int) -> Counter[tuple[str, str, str]]:
    """(type, source, id) of every record of a topic, with how often it stands there."""
    decode = msgspec.json.Decoder(_Identity).decode
    found: Counter[tuple[str, str, str]] = Counter()
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    ends = await log.end_positions(tps)
    for tp in tps:
        piece = await log.read_range(tp, 0, ends[tp])
        for headers, value in zip(piece.headers, piece.values, strict=True):
            if headers.type != CLOCK_TYPE:
                event = decode(value)
                found[headers.type, event.source, event.id] += 1
    return found


async def _unfinished(settings: Settings) -> tuple[int, int]:
    """(crossings that no ticket has, tickets that no flow pane has) as the log stands: half tickets and open windows."""
    async with open_log_for_reading(settings) as log:
        weighings = sum(
            n for (t, _, _), n in (await _ids(log, topics.WEIGHING, PARTITIONS)).items() if t == "weighing.measured"
        )
        tickets = sum((await _ids(log, topics.TICKET, PARTITIONS)).values())
        flows = 0
        tps = [TopicPartition(topics.FLOW, p) for p in range(PARTITIONS)]
        ends = await log.end_positions(tps)
        for tp in tps:
            piece = await log.read_range(tp, 0, ends[tp])
            for value, headers in zip(piece.values, piece.headers, strict=True):
                if headers.type != CLOCK_TYPE:
                    flows += msgspec.json.decode(value)["data"]["tickets"]
    return weighings - 2 * tickets, weighings - 2 * flows


async def log_faults(settings: Settings, accepted: int) -> list[str]:
    """Claims 1 and 2 over the log, 3 over the tables."""
    faults: list[str] = []
    catalog = Catalog()
    by_type: dict[str, Counter[tuple[str, str, str]]] = {}
    async with open_log_for_reading(settings) as log:
        for topic in topics.TOPICS:
            if topics.TOPICS[topic] == "exchange":
                continue
            ids = await _ids(log, topic, PARTITIONS)
            twice = [i for i, n in ids.items() if n > 1]
            faults += [f"{topic}: {len(twice)} ids stand twice, first {twice[0]}"] if twice else []
            for (type_, source, id_), n in ids.items():
                by_type.setdefault(type_, Counter())[type_, source, id_] += n
    devices = {f.type for f in catalog.accepted.values() if f.topic != topics.REGISTRY}
    stored = sum(sum(ids.values()) for type_, ids in by_type.items() if type_ in devices)
    if stored != accepted:
        faults.append(f"{accepted} events were acknowledged, {stored} stand in the log")
    warehouse = await open_warehouse(settings)
    try:
        for type_, ids in sorted(by_type.items()):
            table, where = (type_.replace(".", "_"), "")
            if type_.startswith("warning."):
                table, where = "warning", f" WHERE change = '{type_.partition('.')[2]}'"
            result = await warehouse.query(f"SELECT source AS source, id AS id FROM {table}{where}")
            rows = Counter((type_, str(source), str(id_)) for source, id_ in result.rows)
            if rows != ids:
                faults.append(f"{table}: {sum(rows.values())} rows, {sum(ids.values())} records in the log, or other ids")
    finally:
        await warehouse.close()
    return faults


async def prove(
    deployment: Deployment, settings: Settings, kills: int, rng: random.Random, hours: int, say: object = print
) -> Outcome:
    """Feed a city and kill; ``settings`` are those of the deployment."""
    outcome = Outcome()
    began = time.monotonic()
    city = City(rng.randrange(1_000), "tiny")
    await deployment.start()
    await deployment.register(registry(city))
    until = wall_ms() // HOUR_MS * HOUR_MS
    start = until - hours * HOUR_MS
    feeder = Feeder(city, deployment.url, deployment.token, start=start, until=until, batch=50, in_flight=2)
    victims = [r for r in deployment.roles if r != "outbox"]

    async def killer() -> None:
        while outcome.kills < kills and not feed.done():
            # Killed while it works, not while it starts: some hundred more events are acknowledged first.
            target = feeder.report.accepted + rng.randrange(100, 400)
            while feeder.report.accepted < target and not feed.done():  # noqa: ASYNC110 - a counter, not a signal
                await asyncio.sleep(rng.uniform(0.01, 0.2))
            if feed.done():
                return
            role = victims[outcome.kills % len(victims)]
            deployment.kill(role)
            await deployment.processes[role].wait()
            half, windows = await _unfinished(settings)
            if half > 0 and windows > 0:
                outcome.kills += 1
                outcome.half_tickets.append(half)
                outcome.open_windows.append(windows)
            print(
                f"kill {outcome.kills}/{kills} of {role}: {half} half tickets, {windows} crossings in open windows", flush=True
            )
            await deployment.start_role(role)
            if role in ("up", "api"):
                await _answers(deployment)

    feed = asyncio.create_task(_paced(feeder, outcome, kills))
    await asyncio.gather(killer(), feed)
    report = feed.result()
    outcome.events = report
    await deployment.wait_ready(120)
    if outcome.kills < kills:
        outcome.faults.append(f"only {outcome.kills} of {kills} kills hit half tickets and open windows before the feed ended")
    async with deployment.client() as client:
        balance = feeder.world.ledger.as_of(until, time_outs=False)
        outcome.faults += await settled(client, lambda: balance, start, until, 120)
        if outcome.faults:  # what a person would look at first
            outcome.faults.append((await client.get("/readyz")).text)
            outcome.faults += [f"{role}: {deployment.output(role)}" for role in deployment.roles]
        accepted = sum(balance.accepted.values())
    await deployment.stop()
    outcome.faults += await log_faults(settings, accepted)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _paced(feeder: Feeder, outcome: Outcome, kills: int) -> int:
    """Feed; slowly enough that all kills fall into it (``Feeder`` repeats what was not acknowledged)."""
    report = await feeder.run()
    if report.unexpected_count:
        outcome.faults.append(f"unexpected answers: {report.unexpected[:3]}")
    return report.events


async def _answers(deployment: Deployment, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    async with httpx.AsyncClient() as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"{deployment.url}/healthz", timeout=5)).status_code == 200:
                    return
            await asyncio.sleep(0.1)
    raise AssertionError("the API did not come back:\n" + deployment.output(deployment.roles[0]))


@contextlib.asynccontextmanager
async def deployed(engine: str, folder: Path) -> AsyncIterator[tuple[Deployment, Settings]]:
    """A deployment that is not started yet, and the settings of its processes."""
    async with contextlib.AsyncExitStack() as stack:
        urls = await stack.enter_async_context(engines(folder / "engines")) if engine == "kafka" else None
        # The least that the broker allows, so that a killed worker's tasks are soon at work again.
        deployment = Deployment(folder / "data", urls, {"HENGLIU_WORKER_SESSION_S": "6"})
        settings = Settings(data_dir=folder / "data", partitions=PARTITIONS)
        if urls is not None:
            addresses = {"log": urls.log, "warehouse": urls.warehouse, "event_store": urls.event_store}
            settings = settings.model_copy(update=addresses)
        try:
            yield deployment, settings
        finally:
            await deployment.stop()


async def main(engine: str, kills: int, seed: int, hours: int, kept: Path | None) -> int:
    with contextlib.ExitStack() as stack:
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hengliu-kill-")))
        async with deployed(engine, folder) as (deployment, settings):
            outcome = await prove(deployment, settings, kills, random.Random(seed), hours)
    print(
        f"{engine}: {outcome.kills} kills in {outcome.seconds:.0f} s, {outcome.events} events, "
        f"half tickets at each kill {min(outcome.half_tickets, default=0)}..{max(outcome.half_tickets, default=0)}, "
        f"faults: {outcome.faults or 'none'}"
    )
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "kafka"), default="local")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hours", type=int, default=0, help="hours of the city that are fed; default: 4 a kill, 12 at least")
    parser.add_argument("--folder", type=Path, help="keep data and the servers' logs here; default: nothing is kept")
    arguments = parser.parse_args()
    hours = arguments.hours or max(12, 4 * arguments.kills)
    sys.exit(asyncio.run(main(arguments.engine, arguments.kills, arguments.seed, hours, arguments.folder)))
