"""Feeding a table of windows or sessions whole, or cut up with its state written and read back in between."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from streams.kernel.windows import Aside

END = 1 << 50
"""A time at which everything has closed."""

Row = tuple[str, int, int]
Folded = tuple[list[Any], list[Aside]]
"""What closed or was corrected, and what nothing takes."""


class Table(Protocol):
    def fold(self, rows: Sequence[Row], aside: list[Aside]) -> list[Any]: ...

    def advance(self, clock: int) -> list[Any]: ...

    def checkpoint(self) -> dict[bytes, bytes | None]: ...

    def restore(self, entries: Mapping[bytes, bytes]) -> None: ...


def cut_up(make: Callable[[], Any], rows: Sequence[Row], cuts: Sequence[tuple[int, bool]]) -> Folded:
    """In slices that end before the given rows; where told, the state is written, and a new table goes on from it."""
    table: Table = make()
    aside, results = list[Aside](), list[Any]()
    entries: dict[bytes, bytes] = {}
    at = 0
    for cut, restored in sorted(cuts):
        results += table.fold(rows[at:cut], aside)
        at = max(at, cut)
        for name, blob in table.checkpoint().items():
            if blob is None:
                entries.pop(name, None)
            else:
                entries[name] = blob
        if restored:
            table = make()
            table.restore(entries)
    results += table.fold(rows[at:], aside)
    # The number of a row says where it stands in its slice; everything else must not depend on the cuts.
    return results + table.advance(END), [one._replace(row=0) for one in aside]
