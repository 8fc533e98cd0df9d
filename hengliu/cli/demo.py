"""``hengliu demo``: the whole platform with a simulated coal city, on either deployment.

Embedded: one process for the platform and one for the city, which is a client like any other. Kafka: brokers and servers are
started in the data folder, and each role is a process of its own.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from rich.console import Console

from aggregates.registry import Registry, event_store_environment
from hengliu.compose.engines import engines
from hengliu.compose.platform import Platform, serve, try_address
from hengliu.compose.tokens import DEMO_RIGHTS, write_token
from hengliu.ports.clock import SystemClock
from hengliu.rights import PLATFORM, TokenStore
from hengliu.settings import Role, Settings
from simulator.city import City, registry
from streams.rules.catalog import RULES_BY_NAME

__all__ = ["Demo"]

console = Console(stderr=True, highlight=False)

SEED = 20_260_301
"""The demonstration is the same city everywhere."""

KILL_AFTER_S = 6.0


class Child:
    """One process of the demo, in its own session so that a Ctrl-C reaches it through us, in order."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hengliu", *self._arguments, env=self._environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, preexec_fn=_die_with_parent,
        )  # fmt: skip

    async def stop(self) -> None:
        """SIGTERM, and after six seconds SIGKILL: what is acknowledged is durable either way."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), KILL_AFTER_S)
        except TimeoutError:
            console.print(f"{self.name} 未及时停止，强制结束 / {self.name} did not stop in time and is killed")
            process.kill()
            await process.wait()


async def _stop_all(children: Sequence[Child]) -> None:
    """At once: each is safe without the others, and what one has not finished it does when it starts again."""
    await asyncio.gather(*(child.stop() for child in children))


def _die_with_parent() -> None:
    """Linux: SIGTERM when the parent is gone, however it went (prctl(2), PR_SET_PDEATHSIG = 1)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Demo:
    """One run of the demonstration."""

    def __init__(self, settings: Settings, engine: str, size: str, history_h: float, speed: float, simulate: bool) -> None:
        self._settings = settings.model_copy(update={"open_reading": True})
        self._engine = engine
        self._size = size
        self._history_h = history_h
        self._speed = speed
        self._simulate = simulate
        self._started = time.monotonic()

    async def run(self) -> int:
        """Run until SIGTERM or Ctrl-C."""
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        if self._engine == "local":
            city: list[Child] = []

            async def ready(platform: Platform) -> None:
                assert platform.commands is not None
                write_token(platform.tokens, "demo", self._token_path, **DEMO_RIGHTS)
                await platform.commands.register_all(PLATFORM, self._registrations(), timeout_s=60)
                city.extend(await self._start_city(platform.url))
                self._greet(platform.url)

            try:
                return await serve(self._settings, frozenset(Role), ready)
            finally:
                for child in city:
                    await child.stop()
        return await self._run_kafka()

    @property
    def _token_path(self) -> Path:
        return self._settings.data_dir / "demo.token"

    def _registrations(self) -> list[tuple[str, dict[str, object]]]:
        return [(type_, dict(data)) for type_, data in registry(City(SEED, self._size))]

    def _greet(self, url: str) -> None:
        seconds = time.monotonic() - self._started
        console.rule(style="green")
        console.print(f"打开页面 / open the page:  [bold]{url}/[/bold]   （{seconds:.1f} s）", soft_wrap=True)
        console.print(f"接口 / API: {url}/openapi.json   令牌 / token: {self._token_path}", soft_wrap=True)
        console.print("停止 / stop: Ctrl-C")
        console.rule(style="green")

    async def _start_city(self, url: str) -> list[Child]:
        if not self._simulate:
            return []
        child = Child(
            "simulator",
            [
                "simulate", "--seed", str(SEED), "--size", self._size, "--url", url, "--token-file", str(self._token_path),
                "--history-hours", str(self._history_h), "--speed", str(self._speed),
                "--state", str(self._settings.data_dir / "simulator.json"),
            ],
            os.environ,
        )  # fmt: skip
        await child.start()
        return [child]

    async def _run_kafka(self) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # Before the engines: else a platform that is there already would answer for ours, and ours be started again and again.
        try_address(self._settings.host, self._settings.port)
        async with contextlib.AsyncExitStack() as stack:
            urls = await stack.enter_async_context(engines(self._settings.data_dir / "engines"))
            environment = {
                **os.environ,
                "HENGLIU_DATA_DIR": str(self._settings.data_dir),
                "HENGLIU_LOG": urls.log,
                "HENGLIU_WAREHOUSE": urls.warehouse,
                "HENGLIU_EVENT_STORE": urls.event_store,
                "HENGLIU_OPEN_READING": "true",
            }
            store = TokenStore(self._settings.data_dir / "tokens.json")
            write_token(store, "demo", self._token_path, **DEMO_RIGHTS)
            write_token(
                store, "platform", self._settings.data_dir / "platform.token", roles=["registrar"], sources=["/aggregates/*"]
            )
            url = f"http://{self._settings.host}:{self._settings.port}"
            # The projector first: it creates the tables that the API reads.
            roles = [Child(r, [r], environment) for r in ("projector", "api", "worker", "outbox")]
            running: list[Child] = []
            stack.push_async_callback(_stop_all, running)
            for child in roles:
                running.append(child)
                await child.start()
            await self._wait_ready(url, roles, stop)
            if not stop.is_set():
                await self._register(url, urls.event_store)
                running.extend(await self._start_city(url))
                self._greet(url)
            await self._watch(roles, stop)
        return 0

    async def _wait_ready(self, url: str, roles: Sequence[Child], stop: asyncio.Event) -> None:
        async with httpx.AsyncClient() as client:
            for _ in range(600):
                for child in roles:
                    if child.process is not None and child.process.returncode not in (None, 0):
                        raise RuntimeError(f"{child.name} 启动失败 / did not start (exit code {child.process.returncode})")
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{url}/healthz")).status_code == 200:
                        return
                if stop.is_set():
                    return
                await asyncio.sleep(0.2)
        raise RuntimeError("两分钟内未就绪 / the API did not answer within two minutes")

    async def _register(self, url: str, event_store: str) -> None:
        """Into the event store at once; then one command over HTTP, which answers when intake has read all of it."""
        registrations = self._registrations()
        registry = Registry(event_store_environment(event_store, str(self._settings.data_dir)), SystemClock(), RULES_BY_NAME)
        try:
            await asyncio.to_thread(registry.register, registrations, PLATFORM.name)
        finally:
            registry.close()
        token = self._token_path.read_text(encoding="ascii").strip()
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            data = next(data for type_, data in registrations if type_ == "district.registered")
            for _ in range(20):
                answer = await client.post("/v1/registry/districts", json=data)
                if answer.status_code != 503:
                    answer.raise_for_status()
                    return
        raise RuntimeError("登记未在限时内生效 / the registrations were not published in time")

    async def _watch(self, roles: Sequence[Child], stop: asyncio.Event) -> None:
        """Start a role again when it has died; its state is in the log."""
        while not stop.is_set():
            for child in roles:
                process = child.process
                if process is not None and process.returncode is not None:
                    console.print(f"{child.name} 已退出（{process.returncode}），重新启动 / has ended and is started again")
                    await child.start()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
        console.print("正在停止 / stopping")
