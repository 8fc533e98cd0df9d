"""Both deployments as real processes, for end-to-end, kill and browser tests: started by the command line, asked over HTTP."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from hengliu.compose.engines import EngineUrls, engines
from hengliu.compose.tokens import DEMO_RIGHTS, write_token
from hengliu.rights import TokenStore

__all__ = ["Deployment", "deployment", "free_port"]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Deployment:
    """A running platform: one process on the embedded engines, or a process a role on given servers.

    Args:
        folder: its data directory.
        engines: None for the embedded default.
        environment: further HENGLIU_ variables.
    """

    def __init__(self, folder: Path, engines: EngineUrls | None = None, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.roles = ("up",) if engines is None else ("projector", "api", "worker", "outbox")
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        store = TokenStore(folder / "tokens.json")
        self.token = write_token(store, "demo", folder / "demo.token", **DEMO_RIGHTS)
        write_token(store, "platform", folder / "platform.token", roles=["registrar"], sources=["/aggregates/*"])
        self.environment = {
            **os.environ,
            "HENGLIU_DATA_DIR": str(folder),
            "HENGLIU_PORT": str(self.port),
            "HENGLIU_OPEN_READING": "true",
            "HENGLIU_PARTITIONS": "2",
            "HENGLIU_LOG_LEVEL": os.environ.get("HENGLIU_LOG_LEVEL", "WARNING"),
            **(environment or {}),
        }
        if engines is not None:
            self.environment |= {
                "HENGLIU_LOG": engines.log,
                "HENGLIU_WAREHOUSE": engines.warehouse,
                "HENGLIU_EVENT_STORE": engines.event_store,
            }

    async def start(self, timeout_s: float = 90) -> None:
        """Start every role and wait until the API is ready."""
        for role in self.roles:
            await self.start_role(role)
        await self.wait_ready(timeout_s)

    async def start_role(self, role: str) -> None:
        with (self.folder / f"{role}.log").open("ab") as output:
            self.processes[role] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hengliu", role, env=self.environment, stdout=output, stderr=output,
                stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip

    def output(self, role: str) -> str:
        """What a role has printed, its last 4,000 characters."""
        return (self.folder / f"{role}.log").read_text(errors="replace")[-4_000:]

    async def wait_ready(self, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        async with httpx.AsyncClient() as client:
            while time.monotonic() < deadline:
                for role, process in self.processes.items():
                    if process.returncode is not None:
                        raise AssertionError(f"{role} ended with {process.returncode}:\n{self.output(role)}")
                try:
                    if (await client.get(f"{self.url}/readyz", timeout=5)).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)
        raise AssertionError(f"not ready within {timeout_s} s:\n" + "\n".join(self.output(r) for r in self.roles))

    def kill(self, role: str) -> None:
        """kill -9."""
        process = self.processes[role]
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)

    async def restart(self, role: str) -> None:
        """Start a killed role again."""
        await self.processes[role].wait()
        await self.start_role(role)

    async def stop(self) -> dict[str, int]:
        """SIGTERM to all, in reverse; exit codes by role."""
        for role in reversed(self.roles):
            process = self.processes.get(role)
            if process is not None and process.returncode is None:
                process.terminate()
        codes = {}
        for role, process in self.processes.items():
            try:
                codes[role] = await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                codes[role] = await process.wait()
        return codes

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def client(self, **kwargs: Any) -> httpx.AsyncClient:
        """An HTTP client with the demo's token."""
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=kwargs.pop("timeout", 30), **kwargs
        )

    async def register(self, registrations: list[tuple[str, dict[str, Any]]]) -> None:
        """Register everything, one command each."""
        async with self.client() as client:
            for type_, data in registrations:
                answer = await client.post(f"/v1/registry/{KIND_PATHS[type_]}", json=data)
                assert answer.status_code in (200, 201, 202), (type_, answer.status_code, answer.text)


@pytest.fixture(
    params=["local", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.postgres])]
)
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    """Both deployments, one after the other: a test that takes it runs on each. Import it where it is used."""
    if request.param == "local":
        async with Deployment(tmp_path / "data") as running:
            yield running
        return
    async with engines(tmp_path / "engines") as urls, Deployment(tmp_path / "data", urls) as running:
        yield running


KIND_PATHS = {
    "district.registered": "districts",
    "enterprise.registered": "enterprises",
    "site.registered": "sites",
    "device.registered": "devices",
    "vehicle.registered": "vehicles",
    "rule.published": "rules",
}
