"""What the launchers of Kafka, ClickHouse and PostgreSQL share."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from hengliu.events.family import Text

MESSAGES: Final[Mapping[str, Text]] = {
    "service.platform": Text(
        "{name} 的引擎包只支持 Linux x86_64；请自备服务器并设置 {setting}",
        "the engine package of {name} runs on Linux x86_64 only; run a server of your own and set {setting}",
    ),
    "service.fetching": Text(
        "首次使用：下载 {name}（{megabytes} MB）到 {path} ……", "first use: fetching {name} ({megabytes} MB) into {path} ..."
    ),
    "service.progress": Text("  {done} / {total} MB", "  {done} of {total} MB"),
    "service.npm": Text(
        "本机没有 npm：将 {package}（约 60 MB）装入 {prefix}",
        "no npm on this machine: installing {package} (about 60 MB) into {prefix}",
    ),
    "service.fetch-failed": Text("下载 {name} 失败：\n{cause}", "fetching {name} failed:\n{cause}"),
    "service.digest": Text(
        "{name} 的 SHA-512 是 {found}，应为 {expected}：拒绝使用", "{name} has SHA-512 {found}, expected {expected}: not used"
    ),
    "service.in-place": Text("{name} 已就绪：{path}", "{name} is in place: {path}"),
    "service.ended": Text("{name} 启动时退出：\n{cause}", "{name} ended at start:\n{cause}"),
    "service.silent": Text("{name} 没有应答：\n{cause}", "{name} does not answer:\n{cause}"),
    "service.again": Text(
        "{name} 自行退出（{exit_code}），正在重新启动", "{name} ended by itself ({exit_code}) and is started again"
    ),
    "service.given-up": Text(
        "{name} 又自行退出（{exit_code}）：一分钟内已重启 {times} 次，不再重启",
        "{name} has ended by itself again ({exit_code}): it was started again {times} times within a minute and stays down",
    ),
    "service.missing": Text("没有找到 {name}。请安装：{command}", "{name} was not found. Install it: {command}"),
}
"""Texts for people, by code."""


def both(code: str, **parameters: object) -> str:
    """Chinese, then English."""
    return MESSAGES[code].filled(**parameters).both("\n")


def tell(line: str) -> None:
    """Tell whoever waits, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def say(code: str, **parameters: object) -> None:
    """Tell whoever waits a text of MESSAGES."""
    tell(both(code, **parameters))


class ServiceFailed(RuntimeError):
    """A server could not be fetched or started. ``code`` is a key of MESSAGES; the text is in both languages."""

    def __init__(self, code: str, **parameters: object) -> None:
        self.code = code
        super().__init__(both(code, **parameters))


class BlockingService(ABC):
    """A server started and stopped by blocking calls; a context manager of either kind that gives its URL."""

    @abstractmethod
    def start(self) -> str:
        """Start, and wait until it answers; the URL."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it in order. Safe to call twice."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a crash would."""

    @abstractmethod
    def _wait(self, deadline: float) -> None:
        """Return when it answers. Raises ServiceFailed when it has ended, or at the deadline (``time.monotonic``)."""

    def _answering(self, choose_ports: Callable[[], None], launch: Callable[[], None], again: bool, deadline: float) -> None:
        """Launch it until it answers: on other ports where somebody was faster, unless it had its ports before (``again``)."""
        while True:
            if not again:
                choose_ports()
            launch()
            try:
                self._wait(deadline)
            except ServiceFailed as error:
                self.kill()
                if "Address already in use" in str(error) and time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                raise
            return

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> str:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def end(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Close its standard input, upon which it ends, and wait; kill it if it does not in time (seconds)."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where fetched programs are kept: ``$HENGLIU_CACHE``, by default ``~/.cache/hengliu``."""
    return Path(environment.get("HENGLIU_CACHE") or Path.home() / ".cache" / "hengliu").expanduser()


def free_ports(count: int) -> list[int]:
    """Ports that were free on loopback a moment ago. Another process may take one before use: starting tries again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


__all__ = [
    "MESSAGES",
    "BlockingService",
    "ServiceFailed",
    "both",
    "cache_directory",
    "end",
    "free_ports",
    "say",
    "tell",
    "write_private",
]
