"""Where a test may stop a numbered protocol: a hook that is told of each step as it completes.

Every protocol of ``docs/protocols`` calls one at its steps. A kill test ends the process there; what the hook raises ends the
task as a crash would.
"""

from collections.abc import Callable

__all__ = ["Faults", "no_faults"]

Faults = Callable[[str], None]
"""Called with a step's name."""


def no_faults(step: str) -> None:
    """The hook of every deployment."""
