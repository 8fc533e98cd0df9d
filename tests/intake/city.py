"""A registered site with devices, on a real local log, for the tests of intake."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.intake.directory import Directory
from hengliu.intake.guards import ALL_GUARDS, Guards
from hengliu.intake.service import Intake, IntakePolicy
from hengliu.ports.clock import Clock, ManualClock
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import CLOCK_TYPE, EventLog, Headers, TopicPartition
from hengliu.rights import ALL, Principal, Role
from infra.local_log import LocalLog
from infra.log_guards import StepHook, no_hook

NOW = 1_772_330_000_000
"""2026-03-01T01:53:20Z."""
PARTITIONS = 4
DEVICE = Principal("tester", frozenset({Role.DEVICE}), ("urn:dev:org:32473-*",))
REGISTRAR = Principal("registrar", frozenset({Role.REGISTRAR}), ("/aggregates/*",), ALL, ALL)
SOURCE = "urn:dev:org:32473-wb-m01-1"


def weighing(number: int | str, source: str = SOURCE, time_ms: int = NOW, **data: Any) -> bytes:
    """One crossing of a scale."""
    payload = {"plate": "蒙C12345", "mass_kg": 48_920, "axles": 6, "commodity": "raw", "use": "power", **data}
    return encode_event("weighing.measured", source, str(number), time_ms, payload)


def registration(type_: str, number: int, **data: Any) -> bytes:
    return encode_event(type_, "/aggregates/registry", str(number), NOW, data)


def city_events(devices: int = 8, prefix: str = "urn:dev:org:32473-wb-m01-") -> list[bytes]:
    """An enterprise with one site and its weighbridges, whose sources are the prefix and a number from one."""
    return [
        registration("enterprise.registered", 1, enterprise="m01", name="示例煤矿", kind="mine", division="150303"),
        registration("site.registered", 2, site="m01", enterprise="m01", name="示例煤矿", division="150303", kind="mine"),
        *(
            registration(
                "device.registered", 2 + n, device=f"wb-m01-{n}", source=f"{prefix}{n}", kind="weighbridge",
                site="m01",
            )
            for n in range(1, devices + 1)
        ),
    ]  # fmt: skip


@dataclass
class City:
    log: EventLog
    intake: Intake
    directory: Directory
    clock: ManualClock

    async def records(self, topic: str, *, ticks: bool = False) -> list[tuple[Headers, bytes]]:
        return await records(self.log, topic, ticks=ticks)


async def records(
    log: EventLog, topic: str, *, ticks: bool = False, partitions: int = PARTITIONS
) -> list[tuple[Headers, bytes]]:
    """Everything in a topic, partition by partition."""
    found: list[tuple[Headers, bytes]] = []
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    ends = await log.end_positions(tps)
    for tp in tps:
        part = await log.read_range(tp, 0, ends[tp])
        found += [(h, bytes(v)) for h, v in zip(part.headers, part.values, strict=True) if ticks or h.type != CLOCK_TYPE]
    return found


def decoded(value: bytes) -> Mapping[str, Any]:
    return msgspec.json.decode(value, type=dict[str, Any])


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until a condition holds, or fail."""
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"did not come true in {seconds} s")


@contextlib.asynccontextmanager
async def running(
    place: Path | AbstractAsyncContextManager[EventLog],
    *,
    policy: IntakePolicy | None = None,
    guards: Guards = ALL_GUARDS,
    faults: Faults = no_faults,
    register: bool = True,
    clock: Clock | None = None,
    log_hook: StepHook = no_hook,
) -> AsyncIterator[City]:
    """Intake on a local log at ``place``, or on the log given, with a registered city."""
    manual = ManualClock(NOW)
    catalog = Catalog()
    async with LocalLog.open(place, hook=log_hook) if isinstance(place, Path) else place as log:
        await log.create_topics(catalog.topic_specs(PARTITIONS))
        directory = Directory(log, PARTITIONS)
        await directory.start()
        intake = Intake(log, catalog, PARTITIONS, clock or manual, policy or IntakePolicy(), directory, guards, faults)
        await intake.start()
        try:
            if register:
                outcomes = await intake.submit(REGISTRAR, city_events())
                assert [o.problem for o in outcomes if o.problem] == []
            yield City(log, intake, directory, manual)
        finally:
            await intake.stop()
            await directory.stop()
