"""The guards of the event log adapters, and the places where a test may stop a commit.

Each guard is on in every deployment. A named test of ``tests/contract/test_event_log.py`` (or of ``tests/kill``) switches
one off and asserts that the violation which it prevents really happens.
"""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ALL_GUARDS", "STEPS", "Guards", "StepHook", "no_hook"]


@dataclass(frozen=True, slots=True)
class Guards:
    """Which protections of the commit primitive are on."""

    transaction: bool = True
    """Outputs, state entries and positions in one transaction. Off: outputs first, then the rest."""
    fencing: bool = True
    """A later session of a task shuts out the earlier ones. Off: an old session goes on writing."""
    fence_before_restore: bool = True
    """Opening fences, then state is read. Off: state is read first and the predecessor fenced with the first commit."""
    read_committed: bool = True
    """Readers see committed records only. Off on Kafka: aborted and open ones too. (SQLite has no such switch to turn.)"""
    sync: bool = True
    """Local log: the write-ahead log reaches the disk before a commit is answered. Off: whenever the system likes."""


ALL_GUARDS = Guards()

STEPS = ("1-encoded", "2-begun", "3-checked", "4-written", "5-committed", "6-published")
"""The numbered steps of ``docs/protocols/commit.md``. On Kafka 3 and 6 are the broker's: the client has no such moment."""

StepHook = Callable[[str], None]
"""Called with the name of a step when it has been done, in the thread that did it, and with ``between`` where the transaction
guard is off. What it raises up to step 4 aborts the commit there, as a crash would."""


def no_hook(step: str) -> None:
    """The hook of every deployment."""
