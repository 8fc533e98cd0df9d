"""The last batches of each partition, kept in memory as their readers want them.

Nearly every read in live operation is of what was committed a moment ago, by several readers: the exchange's marks alone go to
every task of every group. From here such a read takes no thread, no query and no decoding. What is not here is in the file.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from hengliu.ports.log import Headers, Record, Slice, TopicPartition

__all__ = ["MAX_BYTES", "Batch", "Tail"]

MAX_BYTES = 16 << 20
"""Of what the batches take in the file and ``RECORD_BYTES`` a record, over all partitions."""
RECORD_BYTES = 250
"""What a record takes in memory beside its value: key, headers and the places in three lists."""


class Batch(NamedTuple):
    """The records of one commit in one partition.

    ``end`` is behind the hole that the commit left, ``stored`` how many bytes it takes in the file.
    """

    partition_id: int
    first: int
    end: int
    records: Sequence[Record]
    stored: int


class _Kept:
    """A batch, as columns from its first reader on: most that is written in bulk is never read from here."""

    __slots__ = ("_columns", "_records", "count", "end", "first", "size")

    def __init__(self, batch: Batch) -> None:
        self.first = batch.first
        self.end = batch.end
        self.count = len(batch.records)
        self.size = RECORD_BYTES * self.count + batch.stored
        self._records: Sequence[Record] = batch.records
        self._columns: tuple[list[bytes], list[bytes], list[Headers]] | None = None

    def columns(self) -> tuple[list[bytes], list[bytes], list[Headers]]:
        """Keys, values and headers."""
        if self._columns is None:
            records = self._records
            self._columns = [r.key for r in records], [r.value for r in records], [r.headers for r in records]
            self._records = ()
        return self._columns


class Tail:
    """Batches by partition, the oldest of all forgotten first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[int, deque[_Kept]] = {}
        self._order: deque[int] = deque()
        """Partition ids, one for each batch, in the order in which they came."""

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    def add(self, batch: Batch) -> None:
        """Keep a committed batch. Batches of a partition come in order."""
        kept = self._kept.setdefault(batch.partition_id, deque())
        if kept and kept[-1].end != batch.first:
            raise AssertionError(f"partition {batch.partition_id}: a batch at {batch.first} does not follow {kept[-1].end}")
        new = _Kept(batch)
        kept.append(new)
        self._order.append(batch.partition_id)
        self._bytes += new.size
        while self._bytes > self._max_bytes:
            self._bytes -= self._kept[self._order.popleft()].popleft().size

    def read(self, tp: TopicPartition, partition_id: int, position: int, max_records: int, max_bytes: int) -> Slice | None:
        """Whole batches from ``position`` on within the limits; None when it is not here, or does not begin a batch."""
        kept = self._kept.get(partition_id)
        if not kept or position < kept[0].first - 1 or position >= kept[-1].end - 1:
            return None
        # The reader is near the end. Behind a batch it stands in its hole, or behind that.
        back = 1
        while kept[-back].first > position + 1:
            back += 1
        if position < kept[-back].first - 1 or position > kept[-back].first:
            return None
        if back == 1:
            only = kept[-1]
            if only.count > max_records:
                return None
            numbers = list(range(only.first, only.first + only.count))
            return Slice(tp.topic, tp.partition, position, only.end, numbers, *only.columns())
        offsets: list[int] = []
        keys: list[bytes] = []
        values: list[bytes] = []
        headers: list[Headers] = []
        end, size = position, 0
        for batch in islice(kept, len(kept) - back, None):
            if len(offsets) + batch.count > max_records or (offsets and size + batch.size > max_bytes):
                break
            offsets += range(batch.first, batch.first + batch.count)
            more_keys, more_values, more_headers = batch.columns()
            keys += more_keys
            values += more_values
            headers += more_headers
            end, size = batch.end, size + batch.size
        if not offsets:
            return None
        return Slice(tp.topic, tp.partition, position, end, offsets, keys, values, headers)
