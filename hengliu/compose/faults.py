"""Why a command ended, said to a person: one line in each language and an exit code, where the cause is known.

What is not in ``KNOWN`` is a fault of this program and keeps its traceback. Exit code 2: what was asked for cannot be done
like this (settings, a port or a folder in use, tables of another version). Exit code 1: it failed now and may work later.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from hengliu.events.family import Text
from hengliu.ports.log import Fenced, LogError, TopicMismatch
from hengliu.rights import TokenStoreError
from hengliu.settings import Settings

__all__ = ["KNOWN", "MESSAGES", "Fault", "fault_of"]

MESSAGES: dict[str, Text] = {
    "start.port": Text(
        "地址 {host}:{port} 已被占用：请停止占用它的程序，或另设 HENGLIU_PORT（0 表示自动选择）。",
        "{host}:{port} is in use: stop the program that uses it, or set another HENGLIU_PORT (0 picks a free one).",
    ),
    "start.address": Text(
        "本机没有地址 {host}：请检查 HENGLIU_HOST。", "This machine has no address {host}: look at HENGLIU_HOST."
    ),
    "start.file": Text("无法使用 {path}：{reason}。", "{path} cannot be used: {reason}."),
    "start.disk": Text("磁盘已满：{path}。", "The disk is full: {path}."),
    "start.topics": Text(
        "事件日志中的主题与声明不一致：{detail}。分区数（HENGLIU_PARTITIONS）在日志建立后不能更改。",
        "Topics of the log differ from their declaration: {detail}. The partition count (HENGLIU_PARTITIONS) is fixed once the "
        "log exists.",
    ),
    "start.tokens": Text("令牌文件不可用：{detail}", "The token file cannot be used: {detail}"),
    "start.log": Text("事件日志 {address} 没有应答：{detail}", "The event log {address} does not answer: {detail}"),
    "start.warehouse": Text(
        "数据仓库 {address} 不可用：{detail}", "The warehouse {address} cannot be used: {detail}"
    ),
    "start.fenced": Text(
        "另一个进程接管了本进程的任务：{detail}", "Another process has taken over this one's task: {detail}"
    ),
    "start.extension": Text(
        "HENGLIU_EXTENSIONS 无法载入：{detail}", "HENGLIU_EXTENSIONS cannot be loaded: {detail}"
    ),
    "start.parts": Text(
        "缺少平台组件 {name}：请安装 pip install 'hengliu[platform]'。",
        "The platform's part {name} is not installed: pip install 'hengliu[platform]'.",
    ),
}  # fmt: skip
"""Code to text; parameters in braces."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What to tell a person, and the exit code."""

    text: Text
    code: int


def _said(key: str, code: int, **parameters: object) -> Fault:
    return Fault(MESSAGES[key].filled(**parameters), code)


def _own_words(code: int) -> Callable[[BaseException, Settings], Fault]:
    """The error already speaks both languages: as ``text``, or one a line, or divided by ``" / "``."""

    def words(error: BaseException, settings: Settings) -> Fault:
        text = getattr(error, "text", None)
        if isinstance(text, Text):
            return Fault(text, code)
        zh, _, en = str(error).partition("\n")
        if not en:
            zh, _, en = str(error).partition(" / ")
        return Fault(Text(zh.strip(), en.strip()), code)

    return words


def _os_error(error: BaseException, settings: Settings) -> Fault | None:
    assert isinstance(error, OSError)
    if error.errno == errno.EADDRINUSE:
        return _said("start.port", 2, host=settings.host, port=settings.port)
    if error.errno == errno.EADDRNOTAVAIL:
        return _said("start.address", 2, host=settings.host)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _said("start.disk", 1, path=error.filename or settings.data_dir)
    if error.filename is not None:
        return _said("start.file", 2, path=error.filename, reason=error.strerror)
    return None


def _missing(error: BaseException, settings: Settings) -> Fault | None:
    """A library of the extra ``platform``. Our own modules and those of extensions are another matter."""
    assert isinstance(error, ModuleNotFoundError)
    name = (error.name or "").partition(".")[0]
    if any(extension.partition(":")[0].partition(".")[0] == name for extension in settings.extensions):
        return _said("start.extension", 2, detail=error)
    return _said("start.parts", 2, name=name)


KNOWN: tuple[tuple[type[BaseException] | str, Callable[[BaseException, Settings], Fault | None]], ...] = (
    ("infra.local_log.errors:LogLocked", _own_words(2)),
    ("infra.local_log.errors:LogFormat", _own_words(2)),
    ("infra.services.common:ServiceFailed", _own_words(1)),
    ("hengliu.compose.engines:FolderInUse", _own_words(2)),
    ("projections.migrate:SchemaDrift", _own_words(2)),
    ("projections.projector:WarehouseAhead", _own_words(2)),
    ("hengliu.ports.migration:MigrationError", _own_words(2)),
    (TopicMismatch, lambda e, s: _said("start.topics", 2, detail=e)),
    (Fenced, lambda e, s: _said("start.fenced", 1, detail=e)),
    (LogError, lambda e, s: _said("start.log", 1, address=s.log, detail=e)),
    (
        "hengliu.ports.warehouse:WarehouseError",
        lambda e, s: _said("start.warehouse", 1, address=_public(s.warehouse), detail=e),
    ),
    (TokenStoreError, lambda e, s: _said("start.tokens", 2, detail=e)),
    ("hengliu.compose.adapters:ExtensionError", lambda e, s: _said("start.extension", 2, detail=e)),
    (ModuleNotFoundError, _missing),
    (OSError, _os_error),
)
"""Errors that a person can do something about, the first that fits. Those of parts that may not be installed go by name."""


def _public(url: str) -> str:
    """A URL without its password."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else url


def fault_of(error: BaseException, settings: Settings) -> Fault | None:
    """What to say about an error, or None where it is a fault of this program. Of a group, the first that is known."""
    if isinstance(error, BaseExceptionGroup):
        return next((f for inner in error.exceptions if (f := fault_of(inner, settings)) is not None), None)
    names = {f"{c.__module__}:{c.__qualname__}" for c in type(error).__mro__}
    for kind, describe in KNOWN:
        if (kind in names) if isinstance(kind, str) else isinstance(error, kind):
            return describe(error, settings)
    return None
