"""The guards of intake and its fault points, numbered as in ``docs/protocols/intake.md``."""

from dataclasses import dataclass

__all__ = ["ALL_GUARDS", "STEPS", "Guards"]


@dataclass(frozen=True, slots=True)
class Guards:
    """Which protections are on; all of them in every deployment.

    A named test of ``tests/intake/test_guards.py`` switches one off and asserts that the violation really happens.
    """

    dedup: bool = True
    """An id that was seen is not written again. Off: it is, and counts twice."""
    commit_before_answer: bool = True
    """Outcomes leave after the commit. Off: before it, and a crash loses what was acknowledged."""
    monotone_received: bool = True
    """Receive times never go back. Off: they follow the machine's clock, and a record falls behind a tick."""
    in_flight_wait: bool = True
    """A second copy waits for the first one's outcome. Off: it is a duplicate at once, of an event that may never be."""


ALL_GUARDS = Guards()

STEPS = (
    "intake.1-queued",
    "intake.2-decided",
    "intake.3-committing",
    "intake.4-committed",
    "intake.5-answered",
)
"""Step names in the order of the protocol. The hook (``ports.faults``) is called after each; 3 is right before the commit."""
