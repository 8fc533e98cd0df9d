"""Which records have been counted, by the pane of event time that they fall in: a second copy is left out.

For sources that number their records and send some again. (What comes through intake has been told apart there already.) Ids
are kept as long as their pane can still be corrected; a copy that comes later is late like any other record.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

__all__ = ["SeenIds"]

Row = tuple[str, int, int]

PREFIX = b"seen/"
PARTS = 64
"""So many parts of a pane are made one."""


class SeenIds:
    """Ids (signed 64-bit integers, of which whoever calls makes sure) by pane start. About 70 bytes an id in memory, 8 in the
    state."""

    def __init__(self) -> None:
        self.duplicates = 0
        self._panes: dict[int, set[int]] = {}
        self._fresh: dict[int, array[int]] = {}
        self._parts: dict[int, int] = {}
        self._dropped: list[bytes] = []

    def unseen(
        self, rows: Iterable[Row], ids: Iterable[int], pane_ms: int, copies: list[int], aside: Sequence[object]
    ) -> Iterator[Row]:
        """Those of the rows (key, time, value) whose id has not been seen in their pane, in order.

        ``copies`` gets the numbers of the others. To be folded as they come: an id is remembered when the next row is asked
        for, and not when its own went to ``aside``.
        """
        start: int | None = None
        pane: set[int] | None = None
        refused = len(aside)
        fresh = array("q")
        for number, (row, id_) in enumerate(zip(rows, ids, strict=True)):
            time = row[1]
            if time - time % pane_ms != start:
                start = time - time % pane_ms
                pane = self._panes.get(start)
                fresh = self._fresh.setdefault(start, array("q"))
            if pane is not None and id_ in pane:
                self.duplicates += 1
                copies.append(number)
                continue
            yield row
            if len(aside) != refused:
                refused = len(aside)
                continue
            if pane is None:
                pane = self._panes[start] = set()
            pane.add(id_)
            fresh.append(id_)

    def forget(self, before: int) -> None:
        """Let go the panes that begin before ``before``."""
        for start in [s for s in self._panes if s < before]:
            del self._panes[start]
            self._fresh.pop(start, None)
            self._dropped += [_name(start, number) for number in range(self._parts.pop(start, 0))]

    def checkpoint(self) -> dict[bytes, bytes | None]:
        """State entries since the last call: the ids that are new."""
        entries: dict[bytes, bytes | None] = dict.fromkeys(self._dropped)
        self._dropped = []
        for start, fresh in self._fresh.items():
            if not fresh:
                continue
            number = self._parts.get(start, 0)
            if number == PARTS:
                entries |= {_name(start, n): None for n in range(1, PARTS)}
                fresh, number = array("q", self._panes[start]), 0
            entries[_name(start, number)] = fresh.tobytes()
            self._parts[start] = number + 1
        self._fresh = {}
        entries[PREFIX] = msgspec.msgpack.encode(self.duplicates)
        return entries

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take over what checkpoints left."""
        for name, blob in entries.items():
            if name == PREFIX:
                self.duplicates = msgspec.msgpack.decode(blob, type=int)
            elif name.startswith(PREFIX):
                start, number = (int(part) for part in name.removeprefix(PREFIX).split(b"/"))
                ids = array("q")
                ids.frombytes(blob)
                self._panes.setdefault(start, set()).update(ids)
                self._parts[start] = max(self._parts.get(start, 0), number + 1)


def _name(start: int, number: int) -> bytes:
    return PREFIX + b"%d/%d" % (start, number)
