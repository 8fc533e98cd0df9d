"""The whole way behind the API, on the embedded default: local log, intake, chDB, projector, registry. No streams."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

import projections.queries
from aggregates.outbox import Outbox
from aggregates.registry import Registry, event_store_environment
from api.app import create_app
from api.deps import ApiLimits, Deps
from api.health import Monitor
from api.live import Hub, Panel
from api.progress import ProjectorProgress, StageOf
from api.server import ApiServer, ServerLimits
from hengliu.events.catalog import Catalog
from hengliu.intake.directory import Directory
from hengliu.intake.service import Checks, Intake, IntakePolicy
from hengliu.metrics import Meters
from hengliu.ports.clock import Clock, SystemClock
from hengliu.reference.rules import faults_of_version
from hengliu.registrations import RegistryCommands
from hengliu.rights import ALL, PLATFORM, Role, TokenStore
from infra.chdb_warehouse import ChdbWarehouse
from infra.local_log import LocalLog
from projections.catalog import tables
from projections.migrate import migrate
from projections.projector import Policy, Projector
from streams.rules.catalog import RULES, RULES_BY_NAME

PARTITIONS = 2
CHECKS: Checks = {"rule.published": partial(faults_of_version, RULES_BY_NAME)}

DEVICES = ("wb-m01-1", "cam-m01-1", "em-m01-1", "belt-m01-1", "gps-0001", "yard-m01", "market-wh")
KINDS = ("weighbridge", "camera", "meter", "belt-scale", "gps", "yard", "market")

REGISTER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("district.registered", {"division": "150303", "name": "海南区", "name_en": "Hainan"}),
    ("enterprise.registered", {"enterprise": "m01", "name": "示例煤矿", "kind": "mine", "division": "150303"}),
    ("site.registered", {"site": "m01", "enterprise": "m01", "name": "示例煤矿", "division": "150303", "kind": "mine"}),
    *(
        ("device.registered", {"device": d, "source": f"urn:dev:org:32473-{d}", "kind": k, "site": "m01"})
        for d, k in zip(DEVICES, KINDS, strict=True)
    ),
)


@dataclass
class Running:
    """A running API and what stands behind it."""

    url: str
    port: int
    deps: Deps
    intake: Intake
    log: LocalLog
    tokens: Mapping[str, str]
    client: httpx.AsyncClient
    path: Path
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def bearer(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"}


@contextlib.asynccontextmanager
async def running(
    path: Path,
    limits: ApiLimits | None = None,
    server_limits: ServerLimits | None = None,
    *,
    intake_policy: IntakePolicy | None = None,
    catalog: Catalog | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Running]:
    """Everything, opened and closed in order. Devices of the demo's names are registered."""
    catalog, clock, meters = catalog or Catalog(), clock or SystemClock(), Meters()
    limits = limits or ApiLimits()
    tokens = TokenStore(path / "tokens.json", clock)
    texts = {
        "device": tokens.issue("devices", [Role.DEVICE], sources=["urn:dev:org:32473-*"]),
        "other": tokens.issue("other", [Role.DEVICE], sources=["urn:dev:org:32473-elsewhere"]),
        "reader": tokens.issue("reader", [Role.READER], enterprises=["m02"]),
        "everything": tokens.issue("everything", [Role.READER], enterprises=ALL, divisions=ALL),
        "registrar": tokens.issue("registrar", [Role.REGISTRAR]),
        "rules": tokens.issue("rules", [Role.REGISTRAR], sources=["urn:dev:org:32473-*"]),
        "admin": tokens.issue("admin", [Role.ADMIN]),
    }
    async with contextlib.AsyncExitStack() as stack:
        log = await stack.enter_async_context(LocalLog.open(path / "log.sqlite"))
        await log.create_topics(catalog.topic_specs(PARTITIONS))
        warehouse = await ChdbWarehouse.open(path / "warehouse")
        stack.push_async_callback(warehouse.close)
        declared = tables(catalog)
        await migrate(warehouse, declared)
        directory = Directory(log, PARTITIONS)
        await directory.start()
        stack.push_async_callback(directory.stop)
        intake = Intake(log, catalog, PARTITIONS, clock, intake_policy or IntakePolicy(), directory, checks=CHECKS)
        await intake.start()
        stack.push_async_callback(intake.stop)
        registry = Registry(event_store_environment("sqlite", str(path)), clock, RULES_BY_NAME)
        stack.callback(registry.close)

        async def submit(events: Any) -> list[str]:
            return [str(outcome.status) for outcome in await intake.submit(PLATFORM, events)]

        outbox = Outbox(registry, log, submit)
        commands = RegistryCommands(registry, log, directory, PARTITIONS, outbox)
        projector = Projector(
            log, warehouse, declared, PARTITIONS, clock, policy=Policy(flush_ms=50, small_wait_ms=50, inserts_per_second=50)
        )
        progress = ProjectorProgress(projector)
        stages = [StageOf("projector", projector.progress)]

        async def run_panel(panel: Panel, now_ms: int) -> list[dict[str, Any]]:
            page = await projections.queries.run_query(
                warehouse,
                projections.queries.QUERIES[panel.query],
                PLATFORM.scope(),
                panel.parameters(now_ms),
                None,
                panel.limit,
            )
            return page.rows

        hub = Hub(run_panel, progress, clock, meters, max_clients=limits.live_clients, idle_s=1.0)
        monitor = Monitor(log, stages, meters, stalled_s=limits.stalled_s)
        deps = Deps(
            catalog=catalog,
            intake=intake,
            warehouse=warehouse,
            log=log,
            tokens=tokens,
            clock=clock,
            queries=projections.queries.QUERIES,
            family_query=projections.queries.family_query,
            run_query=projections.queries.run_query,
            progress=progress,
            hub=hub,
            monitor=monitor,
            partitions=PARTITIONS,
            rules=RULES,
            commands=commands,
            limits=limits,
            meters=meters,
            open_reading=True,
            version="0.0.0",
        )
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("projector", projector.run()),
                ("outbox", outbox.run()),
                ("registrations", commands.run()),
                ("hub", hub.run()),
                ("monitor", monitor.run()),
            )
        ]

        async def end() -> None:
            await projector.stop()
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(end)
        await commands.register_all(PLATFORM, REGISTER)
        server = ApiServer(create_app(deps), "127.0.0.1", 0, server_limits, meters)
        await server.start()
        stack.push_async_callback(server.stop)
        url = f"http://127.0.0.1:{server.port}"
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20, trust_env=False))
        yield Running(url, server.port, deps, intake, log, texts, client, path, tasks)


@contextlib.asynccontextmanager
async def beside(
    made: Running, server_limits: ServerLimits | None = None, gate: Mapping[str, bool] | None = None, **changes: Any
) -> AsyncIterator[Running]:
    """Another server over the same parts (a process has one embedded warehouse), with other settings."""
    deps = dataclasses.replace(made.deps, **changes)
    server = ApiServer(create_app(deps, **(gate or {})), "127.0.0.1", 0, server_limits, deps.meters)
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            yield dataclasses.replace(made, url=url, port=server.port, deps=deps, client=client)
    finally:
        await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One API for the tests of a module; they use ids of their own."""
    limits = ApiLimits(body_bytes=200_000, batch_events=1_000, drain_bytes=2_000_000, body_idle_s=0.5, body_total_s=5)
    async with running(tmp_path_factory.mktemp("api"), limits) as made:
        yield made
