"""What the local log says to people, in Chinese and English."""

from hengliu.events.family import Text
from hengliu.ports.log import LogError

__all__ = ["MESSAGES", "LogFormat", "LogLocked", "LogReadOnly"]

MESSAGES: dict[str, Text] = {
    "log.locked": Text(
        zh="日志 {path} 正由另一个进程使用（进程号 {pid}）。请先停止该进程，或为本进程另设数据目录（HENGLIU_DATA_DIR）。",
        en="The log {path} is in use by another process (pid {pid}). Stop that process first, or give this one another data "
        "directory (HENGLIU_DATA_DIR).",
    ),
    "log.read-only": Text(
        zh="日志 {path} 以只读方式打开，不能写入。",
        en="The log {path} was opened read-only and cannot be written.",
    ),
    "log.format": Text(
        zh="{path} 不是本版本的日志文件（文件格式 {found}，需要 {wanted}）。",
        en="{path} is no log file of this version (format {found}, wanted {wanted}).",
    ),
}
"""Code to text; parameters in braces."""


class _Coded(LogError):
    """An error with a code of ``MESSAGES`` and parameters; its text is both languages, one a line."""

    code = ""

    def __init__(self, **parameters: str) -> None:
        self.parameters = parameters
        super().__init__(MESSAGES[self.code].filled(**parameters).both("\n"))


class LogLocked(_Coded):
    """Another live process holds the log's lock."""

    code = "log.locked"


class LogReadOnly(_Coded):
    """A write was asked of a log that was opened read-only."""

    code = "log.read-only"


class LogFormat(_Coded):
    """The file exists and is not a log of this format."""

    code = "log.format"
