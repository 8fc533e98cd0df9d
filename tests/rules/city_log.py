"""A simulated city on a local log, worked through by the live tasks: what a platform leaves behind."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.ports.log import CLOCK_TYPE, EventLog, Headers, Record, partition_for
from infra.local_log import LocalLog
from simulator.city import City, Size, registry
from simulator.world import World
from streams.operators.catalog import GROUPS
from streams.supervisor import Supervisor
from streams.topology import Topology
from tests.simulator.test_world import SMALL

__all__ = ["START", "build", "fill"]

START = 1_772_409_600_000
"""2026-03-02T00:00:00Z."""
PARTITIONS = 2
CATALOG = Catalog()


@dataclass(frozen=True)
class _Written:
    received: int
    record: Record


async def build(path: Path, hours: int, rules: Sequence[tuple[int, Mapping[str, Any]]] = ()) -> None:
    """``fill`` a new local log."""
    async with LocalLog.open(path) as log:
        await fill(log, hours, rules, groups=[g.name for g in GROUPS], irregular="all")


async def fill(
    log: EventLog,
    hours: int,
    rules: Sequence[tuple[int, Mapping[str, Any]]] = (),
    size: str | Size = SMALL,
    partitions: int = PARTITIONS,
    groups: Sequence[str] = ("vehicle",),
    irregular: str = "none",
) -> None:
    """Write the city's events as intake would, and let the tasks of the groups work them off.

    Args:
        rules: (receive time, payload) of versions published on the way.
    """
    end = START + hours * 3_600_000
    world = World(City(3, size, irregular), START)
    sent_by_devices = sorted(world.advance(end), key=lambda s: (s.at, s.order))
    scopes = {}
    by_partition: dict[tuple[str, int], list[_Written]] = defaultdict(list)
    published: list[tuple[int, str, Mapping[str, Any]]] = [(START - 1_000, t, data) for t, data in registry(world.city)]
    published += [(at, "rule.published", data) for at, data in rules]
    published += [(at, t, data) for at, t, data in world.registrations if at < end]
    for number, (at, type_, data) in enumerate(sorted(published, key=lambda p: p[0])):
        value = encode_event(type_, "/aggregates/registry", str(number), at, data)
        by_partition[topics.REGISTRY, 0].append(_Written(at, Record(b"r", value, Headers(received=at, type=type_))))
        if type_ == "device.registered":
            site = world.city.sites.get(str(data["site"]))
            scopes[str(data["source"])] = ("", "", "") if site is None else (site.id, site.id, site.division)
    sources = {str(d["device"]): str(d["source"]) for t, d in registry(world.city) if t == "device.registered"}
    seen: set[tuple[str, bytes]] = set()
    for sent in sent_by_devices:
        source = sources.get(sent.device, sent.device)
        family = CATALOG.families.get(sent.type)
        if sent.expect != "accepted" or family is None or source not in scopes or (source, sent.body) in seen:
            continue
        seen.add((source, sent.body))
        enterprise, site_id, division = scopes[source]
        headers = Headers(received=sent.at, type=sent.type, enterprise=enterprise, site=site_id, division=division)
        key = source.encode()
        record = Record(key, sent.body, headers)
        by_partition[family.topic, partition_for(key, partitions)].append(_Written(sent.at, record))
    await log.create_topics(CATALOG.topic_specs(partitions))
    for topic in CATALOG.canonical_topics():
        for partition in range(partitions):
            rows = sorted(by_partition[topic, partition], key=lambda w: w.received)
            records = [w.record for w in rows]
            tick = Record(b"", b"", Headers(received=end, type=CLOCK_TYPE))
            for n in range(0, len(records), 2_000):
                await log.append(topic, partition, records[n : n + 2_000])
            await log.append(topic, partition, [tick])
    topology = Topology(log, CATALOG, partitions, [g for g in GROUPS if g.name in groups])
    supervisor = Supervisor(topology, topology.task_ids())
    await supervisor.start()
    try:
        for _ in range(4_000):
            clocks = [p.clock for p in supervisor.progress().values()]
            assert not supervisor.failures
            if len(clocks) == len(topology.task_ids()) and min(clocks) >= end:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("the tasks did not reach the end")
    finally:
        await supervisor.stop()
