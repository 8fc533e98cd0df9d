"""When the projector flushes which tables. Pure: times come in, decisions go out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Held", "Pace", "Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """When to flush. Times in ms."""

    flush_ms: int = 200
    flush_rows: int = 5_000
    """All tables together."""
    small_rows: int = 500
    """A table with fewer rows than this waits ``small_wait_ms``, so that it does not cost an insert each flush."""
    small_wait_ms: int = 1_000
    inserts_per_second: int = 10
    """Over all tables, in a back-fill and for what is asked for. The embedded engine does 85 to 100 whatever their size, and
    reads share the machine. What has waited ``small_wait_ms`` in live operation goes out beyond it: one insert a table then."""
    max_rows: int = 50_000
    """How far gathering goes on while the insert budget is spent: what makes a back-fill fast."""
    max_bytes: int = 64_000_000
    at_once: frozenset[str] = frozenset({"warning"})
    """Tables that a person waits for. Each goes out after ``at_once_ms``, whatever the budget says; gathering for so long
    bounds what a flood of them costs."""
    at_once_ms: int = 10
    flush_tables: int = 1
    """Tables of one flush in live operation, where one of ``at_once`` is among the tables: it would wait behind all of them
    (18 inserts of 12 ms are 216 ms). What is due at once goes alone, for it is readable when the flush ends; else what somebody
    asked for goes first, then the oldest."""
    poll_records: int = 1_000
    """With records of 90 KB at most this and ``max_bytes`` stay under the 256 MB that one block may have."""
    idle_commit_ms: int = 1_000
    """Positions that no intent carried along are committed after so long."""
    position_ms: int = 500
    """Pace of ``projection_position``. With it a row is known to be readable in another process within 1.75 s (a second for
    a small table, this, and a look each 250 ms), inside the 2 s that a read waits for ``after``."""
    retry_ms: int = 100
    retry_max_ms: int = 5_000


class Held(NamedTuple):
    """What one table has gathered: rows, bytes, time of the oldest (s), whether somebody waits for some of it, and
    whether it is one of ``Policy.at_once``."""

    rows: int
    size: int
    since: float
    asked: bool
    at_once: bool = False


class Pace:
    """The insert budget, and what is due within it.

    Live (few rows in all): a table that has waited ``small_wait_ms`` is due whatever the budget says. There are at most as many
    of those a second as there are tables; within the budget twenty tables and the positions would share ten inserts, and each
    would wait two seconds and more. In a back-fill (``flush_rows``) everything is due, and the budget alone says when: fewer
    and larger inserts are what makes it fast.
    """

    def __init__(self, policy: Policy, now: float = 0.0) -> None:
        self._policy = policy
        self._tokens = float(policy.inserts_per_second)
        self._at = now

    def spend(self) -> None:
        """One insert was made."""
        self._tokens -= 1

    def due(self, held: Sequence[Held], now: float) -> list[int]:
        """Indices of the tables to flush now (s), in the order in which to insert them."""
        policy = self._policy
        rate = float(policy.inserts_per_second)
        self._tokens = min(rate, self._tokens + (now - self._at) * rate)
        self._at = now
        filled = [i for i, table in enumerate(held) if table.rows]
        affordable = self._tokens >= 1
        if sum(held[i].rows for i in filled) >= policy.flush_rows or sum(held[i].size for i in filled) >= policy.max_bytes:
            return filled if affordable else []
        # A back-fill that begins now pays for a second of what live operation has overdrawn, and not for hours of it.
        self._tokens = max(self._tokens, -rate)
        ages = {i: (now - held[i].since) * 1000 for i in filled}
        # Along with one that has waited long enough go those that have waited half of it: one flush, and one commit, for all.
        waited = policy.small_wait_ms / (2 if max(ages.values(), default=0) >= policy.small_wait_ms else 1)
        found = [
            i
            for i in filled
            if ages[i] >= waited
            or (held[i].at_once and ages[i] >= policy.at_once_ms)
            or (affordable and (held[i].asked or (ages[i] >= policy.flush_ms and held[i].rows >= policy.small_rows)))
        ]
        if not any(table.at_once for table in held):
            return found
        hurried = [i for i in found if held[i].at_once]
        found.sort(key=lambda i: (not held[i].asked, held[i].since))
        return hurried or found[: policy.flush_tables]
