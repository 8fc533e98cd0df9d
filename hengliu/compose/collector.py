"""The garbage collector of a process that makes many objects for the length of a slice, and few cycles."""

import gc

__all__ = ["tune_collector"]

OBJECTS = 100_000
"""Objects between two collections of the youngest generation. With Python's 700, collections ran over the messages and
records of a slice again and again while it was made: folding the flat record took 3.4 CPU seconds a million, with this 2.0."""


def tune_collector() -> None:
    """Call once, when the process begins. Only cycles wait longer; everything else is freed by its count as ever."""
    gc.set_threshold(OBJECTS, 20, 100)
