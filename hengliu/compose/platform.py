"""One process of the platform.

A ``Platform`` opens log, warehouse and migrations, intake, projections, stream tasks, outbox and HTTP server in that order on
one event loop, as far as its roles ask for them, and closes them in reverse within a deadline.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console

import api.app
import projections.queries
from aggregates.kinds.rule import RULE
from aggregates.outbox import Outbox
from aggregates.registry import Registry, event_store_environment
from api.deps import ApiLimits, Deps, Progress
from api.health import Monitor
from api.live import Hub, Panel
from api.progress import ProjectorProgress, StageOf, StageProgress, WarehousePositions
from api.server import ApiServer, ServerLimits
from hengliu import __version__
from hengliu.compose.adapters import (
    catalog_of,
    consumer_groups,
    open_log,
    open_warehouse,
    register_transports,
    worker_positions,
)
from hengliu.compose.collector import tune_collector
from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.intake.directory import Directory
from hengliu.intake.http import HttpIntake
from hengliu.intake.service import Intake, IntakePolicy
from hengliu.metrics import Meters
from hengliu.ports.clock import Clock, SystemClock
from hengliu.ports.log import EventLog, TopicPartition
from hengliu.ports.warehouse import Warehouse
from hengliu.reference.rules import faults_of_version
from hengliu.registrations import RegistryCommands
from hengliu.rights import PLATFORM, TokenStore
from hengliu.settings import Role, Settings
from projections.catalog import tables
from projections.migrate import migrate
from projections.projector import Projector
from streams.agents import FaustShell
from streams.kernel.task import CommitPolicy
from streams.rules.catalog import RULES, RULES_BY_NAME
from streams.supervisor import Supervisor
from streams.topology import Topology

__all__ = ["Platform", "serve", "try_address"]

logger = logging.getLogger(__name__)

STOP_DEADLINE_S = 12.0
"""``make demo`` stops within 15 s of SIGTERM; what has not closed by this is cancelled, and the log's guarantees take over."""


def try_address(host: str, port: int) -> None:
    """Bind and let go, before anything is started that would have to be stopped again. Raises OSError when it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


LOCAL_PARTITIONS = 2
"""Of a new local log. All its tasks run in one process, to which each further partition is work without gain; two still let two
workers share a group once the log has moved to Kafka (docs/decisions/013)."""
KAFKA_PARTITIONS = 4


async def _partitions_of(log: EventLog) -> int:
    """The partition count that the log was made with; 0 when it is new."""
    return next((spec.partitions for spec in await log.topics() if spec.name == topics.REGISTRY), 0)


class Platform:
    """One process of the platform.

    Args:
        roles: what this process does.
        catalog: event families; those of the settings unless given.
        clock: wall clock.
    """

    def __init__(
        self,
        settings: Settings,
        roles: Iterable[Role] = tuple(Role),
        *,
        catalog: Catalog | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.roles = frozenset(roles)
        self.catalog = catalog or catalog_of(settings)
        self.clock = clock or SystemClock()
        self.meters = Meters()
        self.partitions = 0
        """Common partition count; known once the log is open."""
        self.log: EventLog
        self.warehouse: Warehouse
        self.intake: Intake | None = None
        self.commands: RegistryCommands | None = None
        self.tokens = TokenStore(settings.data_dir / "tokens.json")
        self.url = ""
        self.failed: asyncio.Future[None] | None = None
        """Done, with the error, when a background part of the platform has ended on its own."""
        self._closers: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    async def start(self) -> None:
        """Open everything the roles need. On an error what is open is closed again."""
        self.failed = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self.settings
        if Role.API in self.roles:
            try_address(settings.host, settings.port)
        self.log = await open_log(settings)
        self._closers.append(("log", self.log.close))
        usual = KAFKA_PARTITIONS if settings.kafka_bootstrap else LOCAL_PARTITIONS
        self.partitions = settings.partitions or await _partitions_of(self.log) or usual
        await self.log.create_topics(self.catalog.topic_specs(self.partitions))
        declared = tables(self.catalog)
        stages: list[StageOf] = []
        if self.roles & {Role.API, Role.PROJECTOR}:
            self.warehouse = await open_warehouse(settings)
            self._closers.append(("warehouse", self.warehouse.close))
            if Role.PROJECTOR in self.roles:
                await migrate(self.warehouse, declared)
        directory: Directory | None = None
        if Role.API in self.roles:
            directory = Directory(self.log, self.partitions)
            await directory.start()
            self._closers.append(("directory", directory.stop))
            self.intake = Intake(
                self.log, self.catalog, self.partitions, self.clock,
                IntakePolicy(max_event_bytes=settings.max_event_bytes), directory,
                checks={RULE.event_type: partial(faults_of_version, RULES_BY_NAME)},
            )  # fmt: skip
            await self.intake.start()
            self._closers.append(("intake", self.intake.stop))
        projector: Projector | None = None
        if Role.PROJECTOR in self.roles:
            projector = Projector(
                self.log, self.warehouse, declared, self.partitions, self.clock, tell_positions=not settings.one_process
            )
            self._spawn("projector", projector.run())
            self._closers.append(("projector", projector.stop))
            stages.append(StageOf("projector", projector.progress))
        if Role.WORKER in self.roles:
            stages += await self._start_streams()
        registry: Registry | None = None
        outbox: Outbox | None = None
        if self.roles & {Role.API, Role.OUTBOX}:
            environment = event_store_environment(settings.event_store, str(settings.data_dir))
            registry = Registry(environment, self.clock, RULES_BY_NAME)
            closing = registry.close
            self._closers.append(("registry", lambda: asyncio.to_thread(closing)))
        if Role.OUTBOX in self.roles:
            assert registry is not None
            outbox = Outbox(registry, self.log, await self._way_to_intake())
            self._spawn("outbox", outbox.run())
        if Role.API in self.roles:
            assert registry is not None
            assert directory is not None
            self.commands = RegistryCommands(registry, self.log, directory, self.partitions, outbox)
            self._spawn("registrations", self.commands.run())
            await self._start_http(stages, projector)

    async def _start_streams(self) -> list[StageOf]:
        interval_ms = self.settings.commit_interval_ms
        topology = Topology(
            self.log, self.catalog, self.partitions,
            policy=CommitPolicy(interval_ms=interval_ms), waited=CommitPolicy(interval_ms=max(1, interval_ms // 2)),
        )  # fmt: skip
        supervisor: Supervisor | FaustShell
        if self.settings.stream_engine == "faust":
            register_transports()
            bootstrap = self.settings.kafka_bootstrap
            broker = f"hengliu-kafka://{bootstrap}" if bootstrap else "hengliu-local://"
            supervisor = FaustShell(topology, consumer_groups(self.settings), broker, self.settings.worker_session_s)
        else:
            supervisor = Supervisor(topology, topology.task_ids())
        await supervisor.start()
        self._closers.append(("streams", supervisor.stop))

        def of_group(group: str) -> Callable[[], Mapping[TopicPartition, int]]:
            def read() -> Mapping[TopicPartition, int]:
                found: dict[TopicPartition, int] = {}
                for task, progress in supervisor.progress().items():
                    if task.group == group:
                        for tp, position in progress.positions.items():
                            found[tp] = min(position, found.get(tp, position))
                return found

            return read

        return [StageOf(group, of_group(group)) for group in topology.group_names]

    async def _way_to_intake(self) -> Callable[[Sequence[bytes]], Awaitable[Sequence[str]]]:
        if self.intake is not None:
            intake = self.intake

            async def in_process(events: Sequence[bytes]) -> Sequence[str]:
                return [str(outcome.status) for outcome in await intake.submit(PLATFORM, events)]

            return in_process
        client = HttpIntake(f"http://{self.settings.host}:{self.settings.port}", self.settings.data_dir / "platform.token")
        self._closers.append(("way to intake", client.close))
        return client.submit

    async def _start_http(self, stages: Sequence[StageOf], projector: Projector | None) -> None:
        settings = self.settings
        progress: Progress
        if projector is not None:
            progress = ProjectorProgress(projector)  # a read that waits for its own event has it flushed at once
        else:
            positions = WarehousePositions(self.warehouse, "projector")
            self._spawn("projector positions", positions.run())
            progress = StageProgress([positions])

        async def run_panel(panel: Panel, now_ms: int) -> list[dict[str, Any]]:
            page = await projections.queries.run_query(
                self.warehouse, projections.queries.QUERIES[panel.query], PLATFORM.scope(), panel.parameters(now_ms), None,
                panel.limit,
            )  # fmt: skip
            return list(page.rows)

        workers = worker_positions(settings)
        if workers is not None:
            # They may be in other processes, and several: what they tell their groups covers all of them, ours included.
            self._spawn("worker positions", workers.run())
            groups = consumer_groups(settings)
            stages = [s for s in stages if s.name not in groups]
            stages += [StageOf(name, partial(workers.of, group)) for name, group in groups.items()]
        limits = ApiLimits(body_bytes=settings.max_body_bytes, batch_events=settings.max_batch_events)
        hub = Hub(run_panel, progress, self.clock, self.meters, max_clients=limits.live_clients)
        monitor = Monitor(self.log, stages, self.meters, stalled_s=limits.stalled_s)
        assert self.intake is not None
        deps = Deps(
            catalog=self.catalog, intake=self.intake, warehouse=self.warehouse, log=self.log, tokens=self.tokens,
            clock=self.clock, queries=projections.queries.QUERIES, family_query=projections.queries.family_query,
            run_query=projections.queries.run_query, progress=progress, hub=hub, partitions=self.partitions,
            commands=self.commands, rules=RULES,
            limits=limits,
            meters=self.meters, open_reading=settings.open_reading, allowed_hosts=settings.allowed_hosts,
            version=__version__, monitor=monitor, city=(settings.city, settings.city_en),
        )  # fmt: skip
        app = api.app.create_app(deps)
        server = ApiServer(app, settings.host, settings.port, limits=ServerLimits(), meters=self.meters)
        await server.start()
        self.url = f"http://{settings.host}:{server.port}"
        self._closers.append(("http", server.stop))
        self._spawn("live", hub.run())
        self._spawn("monitor", monitor.run())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        async def guard() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.exception("%s has failed", name)
                if self.failed is not None and not self.failed.done():
                    self.failed.set_exception(error)

        task = asyncio.create_task(guard(), name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            work.close()  # a task that is cancelled before its first step has never awaited it

        self._closers.append((name, end))

    async def stop(self) -> bool:
        """Close in reverse order within the deadline; whether everything closed cleanly.

        What is not committed by then was never acknowledged.
        """
        clean = True
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                for name, close in reversed(self._closers):
                    try:
                        await close()
                    except Exception:
                        # Told, with its cause, and the rest is still closed: a log left open would keep its lock.
                        clean = False
                        logger.exception("%s did not close cleanly", name)
        except TimeoutError:
            clean = False
            logger.error("not everything closed within %.0f s; the rest is abandoned", STOP_DEADLINE_S)
        finally:
            self._closers.clear()
            if self.failed is not None and not self.failed.done():
                self.failed.cancel()
        return clean


async def serve(settings: Settings, roles: frozenset[Role], ready: Callable[[Platform], Awaitable[None]] | None = None) -> int:
    """Run the roles until SIGTERM, SIGINT or a failure; returns the exit code, 1 also when something did not close cleanly."""
    console = Console(stderr=True, highlight=False)
    if settings.one_process and roles != frozenset(Role):
        console.print(
            "[red]本地事件日志和内嵌数据仓库只允许一个进程，请用 hengliu up[/red]\n"
            "The local log and the embedded warehouse allow one process only: use `hengliu up`."
        )
        return 2
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tune_collector()
    platform = Platform(settings, roles)
    await platform.start()
    code = 0
    try:
        names = ", ".join(sorted(roles))
        console.print(f"衡流已就绪 / ready: {platform.url or names}")
        if ready is not None:
            await ready(platform)
        stopping = asyncio.create_task(stop.wait())
        assert platform.failed is not None
        waiting: set[asyncio.Future[Any]] = {stopping, platform.failed}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if platform.failed.done() and not platform.failed.cancelled():
            error = platform.failed.exception()
            console.print(f"[red]停止：{error}[/red] / stopping: {type(error).__name__}: {error}")
            code = 1
        else:
            console.print("正在停止 / stopping")
    finally:
        clean = await platform.stop()
    return code if clean else 1
