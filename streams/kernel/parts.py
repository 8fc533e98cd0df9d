"""State entries of what changes a little at each commit: what changed is added as a part, until the parts outweigh the whole.

Then the whole is written anew and its parts are deleted, so that a commit writes about twice what changed, and restoring reads
at most twice what there is.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Parts"]


@dataclass(slots=True)
class _Stored:
    """What of a whole lies in the state: number of its last part, bytes of the whole and of the parts after it."""

    last: int
    whole: int
    parts: int


class Parts:
    """Numbered wholes, in entries ``<prefix><number>/<part>``; part 0 is the whole."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._stored: dict[int, _Stored] = {}
        self._dropped: list[bytes] = []

    def dropped(self) -> dict[bytes, bytes | None]:
        """State entries that are deleted since the last call; to be merged before what is written."""
        entries: dict[bytes, bytes | None] = dict.fromkeys(self._dropped)
        self._dropped = []
        return entries

    def write(self, number: int, part: bytes, whole: Callable[[], bytes]) -> dict[bytes, bytes | None]:
        """State entries for what changed of a whole."""
        stored = self._stored.get(number)
        if stored is not None and stored.parts + len(part) <= stored.whole:
            stored.last += 1
            stored.parts += len(part)
            return {self._name(number, stored.last): part}
        entries: dict[bytes, bytes | None] = {}
        if stored is not None:
            entries = {self._name(number, n): None for n in range(1, stored.last + 1)}
        entries[self._name(number, 0)] = blob = whole()
        self._stored[number] = _Stored(0, len(blob), 0)
        return entries

    def drop(self, number: int) -> None:
        stored = self._stored.pop(number, None)
        if stored is not None:
            self._dropped += [self._name(number, n) for n in range(stored.last + 1)]

    def restore(self, entries: Mapping[bytes, bytes]) -> dict[int, list[bytes]]:
        """What checkpoints left, by number: the whole, then its parts in order.

        Raises:
            ValueError: a part is missing.
        """
        found: dict[int, dict[int, bytes]] = defaultdict(dict)
        for name, blob in entries.items():
            if name.startswith(self._prefix):
                number, part = (int(one) for one in name.removeprefix(self._prefix).split(b"/"))
                found[number][part] = blob
        wholes: dict[int, list[bytes]] = {}
        for number, by_part in found.items():
            blobs = [by_part[n] for n in sorted(by_part)]
            if max(by_part) != len(blobs) - 1:
                raise ValueError(f"{self._prefix!r}{number}: parts {sorted(by_part)} are not all there are")
            self._stored[number] = _Stored(len(blobs) - 1, len(blobs[0]), sum(map(len, blobs[1:])))
            wholes[number] = blobs
        return wholes

    def _name(self, number: int, part: int) -> bytes:
        return self._prefix + b"%d/%d" % (number, part)
