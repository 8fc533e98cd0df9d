"""The event log of one machine: SQLite in WAL mode, one writing process, many readers.

Owns: the file's layout, its process lock, group commit, wake-up. Does not own: which topics exist, what records mean.
The numbered steps of a commit, and what a death after each leaves behind, are in ``docs/protocols/commit.md``.
"""

from infra.local_log.errors import LogFormat, LogLocked, LogReadOnly
from infra.local_log.log import LocalLog, LocalReader, LocalTaskSession
from infra.log_guards import Guards

__all__ = ["Guards", "LocalLog", "LocalReader", "LocalTaskSession", "LogFormat", "LogLocked", "LogReadOnly"]
