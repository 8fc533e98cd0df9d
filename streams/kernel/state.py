"""Keyed operator state: tables of msgspec rows, changed only by what a step returns.

Persisted as buckets: a table's rows are spread over 64 buckets by key, and a commit rewrites the buckets that hold a dirty
key. One bucket is one state entry of the task, so a checkpoint is incremental on either log without delta chains to merge.
``docs/decisions/003`` has the measurements.
"""

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any, Generic, TypeVar
from zlib import crc32

import msgspec

__all__ = ["BUCKETS", "Changes", "Scratch", "State", "StateStore"]

BUCKETS = 64

Changes = dict[tuple[str, str], dict[str, msgspec.Struct | None]]
"""(operator, table) to key to the new row; None deletes."""

Row = TypeVar("Row", bound=msgspec.Struct)


class State:
    """What an operator may read: its own tables, and the reference data as of the batch's first record."""

    def __init__(self, operator: str, store: "StateStore", reference: Any, lane: int = 0) -> None:
        self.lane = lane
        """Partition number of the task. Part of the identity of what several partitions may emit for one key."""
        self._operator = operator
        self._store = store
        self.reference = reference
        """A ``streams.kernel.reference.Reference``."""

    def get(self, table: str, key: str) -> Any:
        """The row, or None."""
        return self._store.table(self._operator, table).get(key)

    def items(self, table: str) -> ItemsView[str, Any]:
        return self._store.table(self._operator, table).items()

    def scratch(self) -> "Scratch":
        """A working copy-on-write view for one step."""
        return Scratch(self)


class Scratch:
    """Reads through to the state, keeps writes apart, and hands them over as the step's changes."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._writes: Changes = {}

    def get(self, table: str, key: str) -> Any:
        written = self._writes.get((self._state._operator, table))
        if written is not None and key in written:
            return written[key]
        return self._state.get(table, key)

    def put(self, table: str, key: str, row: msgspec.Struct) -> None:
        """Rows are replaced, never changed in place: a frozen Struct makes sure of it."""
        self._writes.setdefault((self._state._operator, table), {})[key] = row

    def delete(self, table: str, key: str) -> None:
        self._writes.setdefault((self._state._operator, table), {})[key] = None

    def keys(self, table: str) -> Iterator[str]:
        """Keys of live rows, in no promised order: sort where the order shows."""
        written = self._writes.get((self._state._operator, table), {})
        for key in self._state._store.table(self._state._operator, table):
            if key not in written:
                yield key
        for key, row in written.items():
            if row is not None:
                yield key

    @property
    def changes(self) -> Changes:
        return self._writes


class _Table(Generic[Row]):
    def __init__(self, row_type: type[Row]) -> None:
        self.rows: dict[str, Row] = {}
        self.encoder = msgspec.msgpack.Encoder()
        self.decoder: msgspec.msgpack.Decoder[dict[str, Row]] = msgspec.msgpack.Decoder(dict[str, row_type])  # type: ignore[valid-type]
        self.buckets: dict[int, dict[str, Row]] = {}


def _bucket(key: str) -> int:
    return crc32(key.encode()) % BUCKETS


class StateStore:
    """All tables of one task, with dirty buckets tracked between checkpoints."""

    def __init__(self, tables: Mapping[tuple[str, str], type[msgspec.Struct]]) -> None:
        self._tables: dict[tuple[str, str], _Table[Any]] = {name: _Table(row) for name, row in tables.items()}
        self._dirty: set[tuple[str, str, int]] = set()

    def table(self, operator: str, table: str) -> Mapping[str, Any]:
        return self._tables[operator, table].rows

    def apply(self, changes: Changes) -> None:
        """Make a step's changes the state."""
        for name, rows in changes.items():
            table = self._tables[name]
            for key, row in rows.items():
                number = _bucket(key)
                bucket = table.buckets.setdefault(number, {})
                if row is None:
                    bucket.pop(key, None)
                    table.rows.pop(key, None)
                else:
                    bucket[key] = row
                    table.rows[key] = row
                self._dirty.add((*name, number))

    def checkpoint(self) -> dict[bytes, bytes | None]:
        """Entries of the buckets that changed since the last call; an emptied bucket is deleted."""
        entries: dict[bytes, bytes | None] = {}
        for operator, name, number in sorted(self._dirty):
            table = self._tables[operator, name]
            bucket = table.buckets.get(number)
            entries[f"{operator}/{name}/{number}".encode()] = table.encoder.encode(bucket) if bucket else None
        self._dirty.clear()
        return entries

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Load what checkpoints left. Entries of tables that no operator declares any more are ignored."""
        for key, blob in entries.items():
            parts = key.decode().split("/")
            if len(parts) != 3 or (parts[0], parts[1]) not in self._tables:
                continue
            table = self._tables[parts[0], parts[1]]
            bucket = table.decoder.decode(blob)
            table.buckets[int(parts[2])] = bucket
            table.rows.update(bucket)
