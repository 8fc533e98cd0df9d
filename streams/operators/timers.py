"""Timers on recorded time, kept in a table of the operator's own state.

A row holds the timers that are due in one minute, so that the next one is found among a few hundred keys rather than all
waiting subjects. A timer is never cancelled: the operator looks when it fires whether its subject still waits.
"""

from heapq import heapify, heappop, heappush

import msgspec

from streams.kernel.state import Scratch

__all__ = ["TIMER_TABLE", "TimerRow", "Timers"]

TIMER_TABLE = "timers"
_MINUTE_MS = 60_000


class TimerRow(msgspec.Struct, frozen=True):
    """Timers of one minute: (due in ms, subject), ascending and distinct."""

    timers: list[tuple[int, str]]


class Timers:
    """The timers of one step. Call ``save`` once at its end."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._minutes = [int(key) for key in scratch.keys(TIMER_TABLE)]
        heapify(self._minutes)
        self._queued = set(self._minutes)
        self._open: dict[int, list[tuple[int, str]]] = {}

    def set(self, due: int, subject: str) -> None:
        """Fire for ``subject`` at ``due`` (ms). The same pair twice fires once."""
        minute = due // _MINUTE_MS
        heap = self._open.get(minute)
        if heap is None:
            heap = self._read(minute)
        if minute not in self._queued:
            heappush(self._minutes, minute)
            self._queued.add(minute)
        heappush(heap, (due, subject))

    def _read(self, minute: int) -> list[tuple[int, str]]:
        known: TimerRow | None = self._scratch.get(TIMER_TABLE, str(minute))
        heap = self._open[minute] = list(known.timers) if known is not None else []
        return heap

    def pop(self, until: int) -> tuple[int, str] | None:
        """The earliest timer due at or before ``until``, ties by subject; None when there is none."""
        while self._minutes and self._minutes[0] * _MINUTE_MS <= until:
            minute = self._minutes[0]
            heap = self._open.get(minute)
            if heap is None:
                heap = self._read(minute)
            if not heap:
                self._queued.discard(heappop(self._minutes))
                continue
            if heap[0][0] > until:
                return None
            first = heappop(heap)
            while heap and heap[0] == first:
                heappop(heap)
            return first
        return None

    def save(self) -> None:
        """Write the minutes that changed back to the scratch."""
        for minute, heap in self._open.items():
            if heap:
                self._scratch.put(TIMER_TABLE, str(minute), TimerRow(sorted(set(heap))))
            else:
                self._scratch.delete(TIMER_TABLE, str(minute))
