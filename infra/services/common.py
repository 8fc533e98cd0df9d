"""What the launchers of ClickHouse and PostgreSQL share."""

import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
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
    "service.missing": Text("没有找到 {name}。请安装：{command}", "{name} was not found. Install it: {command}"),
}
"""Texts for people, by code."""


def both(code: str, **parameters: object) -> str:
    """Chinese, then English."""
    text = MESSAGES[code]
    return f"{text.zh.format(**parameters)}\n{text.en.format(**parameters)}"


def say(code: str, **parameters: object) -> None:
    """Tell whoever waits, on standard error."""
    sys.stderr.write(both(code, **parameters) + "\n")
    sys.stderr.flush()


class ServiceFailed(RuntimeError):
    """A server could not be fetched or started. ``code`` is a key of MESSAGES; the text is in both languages."""

    def __init__(self, code: str, **parameters: object) -> None:
        self.code = code
        super().__init__(both(code, **parameters))


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


__all__ = ["MESSAGES", "ServiceFailed", "both", "free_ports", "say", "write_private"]
