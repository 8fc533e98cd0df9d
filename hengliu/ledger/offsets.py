"""The index of offsets: which offset the record of each rank has in one log, as a tree of its own.

Records are counted by rank (0, 1, 2, ... without holes) and the tree of records knows nothing of offsets, which differ between
a log and its copy and have holes. Each sealing appends one *run* to the index: the ranks it sealed and their offsets. The index
is a transparency log like the other, with tiles, bundles and a checkpoint under the origin ``<origin>/offsets``, so an offset
that is changed in the log, or in the index, is found, and found where.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hengliu.ledger.faults import LedgerError

__all__ = ["MAX_RUN", "OFFSETS", "RUN_LINE", "Run", "checked_runs", "offsets_origin", "runs"]

OFFSETS = "offsets"
"""What the index adds to a log's origin, and to the prefix under which it is published."""
RUN_LINE = b"hengliu-offsets-v1\n"
MAX_RUN = 8000
"""Offsets of a run, so that it fits a bundle's entry (19 + 8 + 8 * 8,000 bytes)."""
_OFFSET_BYTES = 8
_HEAD = len(RUN_LINE) + _OFFSET_BYTES
_MAX = (1 << 63) - 1


def offsets_origin(origin: str) -> str:
    """Origin of the index of a log."""
    return f"{origin}/{OFFSETS}"


@dataclass(frozen=True, slots=True)
class Run:
    """Offsets of consecutive ranks. Entry: the line, then as big-endian uint64 the first rank and each offset."""

    first_rank: int
    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.offsets) <= MAX_RUN or not 0 <= self.first_rank <= _MAX - len(self.offsets):
            raise LedgerError("offsets-run")
        before = -1
        for offset in self.offsets:
            if not before < offset <= _MAX:
                raise LedgerError("offsets-order", offset=offset)
            before = offset

    @property
    def next_rank(self) -> int:
        return self.first_rank + len(self.offsets)

    def to_bytes(self) -> bytes:
        return RUN_LINE + struct.pack(f">{1 + len(self.offsets)}Q", self.first_rank, *self.offsets)

    @classmethod
    def from_bytes(cls, entry: bytes) -> "Run":
        """Raises LedgerError for an entry that ``to_bytes`` never gives."""
        count, rest = divmod(len(entry) - _HEAD, _OFFSET_BYTES)
        if not entry.startswith(RUN_LINE) or rest or not 1 <= count <= MAX_RUN:
            raise LedgerError("offsets-run")
        first, *offsets = struct.unpack_from(f">{1 + count}Q", entry, len(RUN_LINE))
        return cls(first, tuple(offsets))


def runs(first_rank: int, offsets: Sequence[int]) -> list[Run]:
    """Runs for the offsets of newly sealed records, in order."""
    return [Run(first_rank + n, tuple(offsets[n : n + MAX_RUN])) for n in range(0, len(offsets), MAX_RUN)]


def checked_runs(entries: Iterable[bytes]) -> Iterator[Run]:
    """Runs of an index from its beginning: ranks without hole or overlap, offsets increasing throughout. Raises LedgerError."""
    rank, before = 0, -1
    for entry in entries:
        run = Run.from_bytes(entry)
        if run.first_rank != rank:
            raise LedgerError("offsets-rank", rank=run.first_rank, expected=rank)
        if run.offsets[0] <= before:
            raise LedgerError("offsets-order", offset=run.offsets[0])
        rank, before = run.next_rank, run.offsets[-1]
        yield run
