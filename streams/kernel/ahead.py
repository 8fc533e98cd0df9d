"""Times too far ahead of a partition's clock: when they are believed, and how many wait until then.

A time further ahead than ``max_jump_ms`` comes from a device whose clock is wrong, or from a stream that has jumped. It is the
stream once so many in a row, of different keys or in different panes, say so: however much one fast device sends within a pane
counts once, and a single good time begins the count anew. Until then what they say waits in panes of its own. So that a wrong
clock cannot open panes without end, a key has only so many of them, and all keys together; nor do more than so many records
wait, since their ids may be held (``streams.kernel.seen``). For what is beyond there is no room, and it is refused.
"""

from collections import Counter
from collections.abc import Mapping
from enum import Enum

import msgspec

__all__ = ["AHEAD_PANES", "FAR_MOST", "FAR_PER_KEY", "FAR_RECORDS", "Ahead", "Fate"]

AHEAD_PANES = 64
"""So many pairs of a key and a pane in a row are believed."""
FAR_PER_KEY = AHEAD_PANES
"""Panes of one key that wait: as many as it takes for the only key of a partition to be believed."""
FAR_MOST = 4_096
"""Pairs of a key and a pane that wait, of a partition."""
FAR_RECORDS = 100_000
"""Records in them."""

PREFIX = b"ahead/"
_META = tuple[int, list[tuple[str, int]], dict[int, int]]
_encode = msgspec.msgpack.Encoder().encode


class Fate(Enum):
    """What becomes of a record that is too far ahead."""

    BELIEVED = "believed"
    WAITS = "waits"
    REFUSED = "refused"


class Ahead:
    """What of one partition lies too far ahead."""

    def __init__(self, pane_ms: int, max_jump_ms: int) -> None:
        self.refused = 0
        """How many records there was no room for."""
        self.in_row: dict[tuple[str, int], None] = {}
        """(key, pane) of those that came without a good time in between; whoever meets one clears it."""
        self._pane_ms = pane_ms
        self._max_jump_ms = max_jump_ms
        self._waiting: dict[int, set[str]] = {}
        """Keys by pane."""
        self._panes_of: Counter[str] = Counter()
        self._count = 0
        self._records: dict[int, int] = {}
        """By pane."""
        self._records_count = 0
        self._least = 0
        """The first pane that waits."""
        self._dirty: set[int] = set()
        self._written = b""

    def judge(self, key: str, time: int, clock: int) -> Fate:
        """The fate of a record whose time is more than ``max_jump_ms`` ahead of the clock."""
        pane = time - time % self._pane_ms
        self.in_row[key, pane] = None
        if len(self.in_row) >= AHEAD_PANES:
            self.in_row.clear()
            return Fate.BELIEVED
        if self._least + self._pane_ms <= clock + self._max_jump_ms:
            self._let_go(clock)
        known = key in self._waiting.get(pane, ())
        full = self._count >= FAR_MOST or self._panes_of[key] >= FAR_PER_KEY
        if (full and not known) or self._records_count >= FAR_RECORDS:
            self.refused += 1
            return Fate.REFUSED
        self._records[pane] = self._records.get(pane, 0) + 1
        self._records_count += 1
        if not known:
            self._least = min(self._least, pane) if self._waiting else pane
            self._waiting.setdefault(pane, set()).add(key)
            self._panes_of[key] += 1
            self._count += 1
            self._dirty.add(pane)
        return Fate.WAITS

    def _let_go(self, clock: int) -> None:
        """Panes that the clock has come near to do not wait any more."""
        for pane in [p for p in self._waiting if p + self._pane_ms <= clock + self._max_jump_ms]:
            keys = self._waiting.pop(pane)
            self._count -= len(keys)
            self._records_count -= self._records.pop(pane)
            self._dirty.add(pane)
            for key in keys:
                self._panes_of[key] -= 1
                if not self._panes_of[key]:
                    del self._panes_of[key]
        self._least = min(self._waiting, default=0)

    def checkpoint(self) -> dict[bytes, bytes | None]:
        """State entries since the last call: how many wait, and of each pane that changed its keys."""
        entries: dict[bytes, bytes | None] = {}
        for pane in self._dirty:
            keys = self._waiting.get(pane)
            entries[PREFIX + b"%d" % pane] = _encode(sorted(keys)) if keys else None
        self._dirty.clear()
        blob = _encode((self.refused, list(self.in_row), self._records))
        if blob != self._written:
            entries[PREFIX] = self._written = blob
        return entries

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take over what checkpoints left."""
        for name, blob in entries.items():
            if name == PREFIX:
                self._written = blob
                self.refused, in_row, self._records = msgspec.msgpack.decode(blob, type=_META)
                self._records_count = sum(self._records.values())
                self.in_row = dict.fromkeys(in_row)
            elif name.startswith(PREFIX):
                keys = msgspec.msgpack.decode(blob, type=set[str])
                self._waiting[int(name.removeprefix(PREFIX))] = keys
                self._panes_of.update(keys)
                self._count += len(keys)
        self._least = min(self._waiting, default=0)
