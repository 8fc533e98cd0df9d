"""Which (source, id) have been seen, for ever, in little memory and in small changes per commit.

Two forms, chosen by the id alone:

*Numbered* ids, ``<digits>`` or ``<prefix>-<digits>`` (the prefix is an epoch or a channel), fall into chunks of 256
consecutive numbers per source and prefix. A chunk is a bitmap and, for ids of the last 32 days, four bytes of content digest
each; a full chunk whose digests are dropped melts into a range, so ids in order end as one range however many they are.
256 and not more: a chunk is rewritten with each batch that touches it (``docs/decisions/010``).

A series whose numbers lie far apart (times as ids), and prefixes beyond a source's share (order numbers as prefixes), would
cost a chunk an id; their further ids are kept like the others. Only the cost differs, never the verdict.

*Other* ids are kept one by one, as 64 bits of hash, digest and receive second: in memory in sorted leaves (about 25 bytes
an id), in the task's state in leaves per source and event day, which only grow at their end. They are never dropped. Two
ids of a task meet in 64 bits once in 10**12 ids at ten million ids held; the later one would count as a duplicate.

Digests are compared while the chunk's last id is younger than 32 days, so for at least 32 days after an id was received;
later the same id is a duplicate, uncompared. When digests outgrow ``max_digest_bytes`` the oldest go early: memory is bounded
before comparison is.
"""

import re
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from heapq import heapify, heappop, heappush

import msgspec

__all__ = ["DedupPolicy", "Seen", "Verdict", "split_id"]

CHUNK = 256
"""Consecutive ids of one chunk."""
_FULL = (1 << CHUNK) - 1
_BITS_BYTES = CHUNK // 8
_DIGEST = 4
_LEAF = 128
"""Natural ids of one state entry: 2 KiB."""
_SORTED_LEAF = 1024
_DAY_MS = 86_400_000

_NUMBERED = re.compile(r"(?:.*-)?(0|[1-9][0-9]{0,17}|0[0-9]{1,17})", re.DOTALL)

CHUNK_KEY = b"c\0"
SERIES_KEY = b"s\0"
NATURAL_KEY = b"n\0"


class Verdict(Enum):
    """What an id is."""

    NEW = "new"
    DUPLICATE = "duplicate"
    REUSED = "reused"
    """Seen with other content, and still compared."""


@dataclass(frozen=True, slots=True)
class DedupPolicy:
    """How long and how much is compared."""

    compare_ms: int = 32 * _DAY_MS
    """How long content is compared after receipt."""
    max_digest_bytes: int = 256 * 1024 * 1024
    """Digests of numbered ids held by one task; 64 million ids."""
    sweep_chunks: int = 64
    """Chunks whose digests are dropped per batch beside two for each event, so that no batch pays for many."""
    sparse_chunks: int = 64
    """Chunks from which on a series counts as sparse if they hold fewer than ``sparse_ids`` ids each."""
    sparse_ids: int = 8
    prefixes: int = 256
    """Prefixes of one source that get a series."""
    open_leaves: int = 1024
    """Leaves of natural ids that are still appended to; more than that close early."""


def split_id(id_: str) -> tuple[str, int] | None:
    """A numbered id as (series, number), or None. One-to-one: ids that differ give pairs that differ.

    Leading zeros are part of the series (``e1-0042`` is number 42 of ``e1-`` in four digits).
    """
    match = _NUMBERED.fullmatch(id_)
    if match is None:
        return None
    digits = match[1]
    prefix = id_[: len(id_) - len(digits)]
    if digits[0] == "0" and len(digits) > 1:
        return f"{prefix}\x1f{len(digits)}", int(digits)
    return prefix, int(digits)


class _Chunk:
    """256 consecutive ids: which were seen, and the digests of those still compared, in order of their numbers."""

    __slots__ = ("bits", "digests", "number", "plain", "received", "series")

    def __init__(self, series: "_Series", number: int) -> None:
        self.series = series
        self.number = number
        self.plain = 0
        self.bits = 0
        self.digests = bytearray()
        self.received = 0

    def encode(self) -> bytes:
        return b"".join((
            self.received.to_bytes(8, "big"),
            self.plain.to_bytes(_BITS_BYTES, "little"),
            self.bits.to_bytes(_BITS_BYTES, "little"),
            self.digests,
        ))  # fmt: skip

    def decode(self, value: bytes) -> None:
        self.received = int.from_bytes(value[:8], "big")
        self.plain = int.from_bytes(value[8 : 8 + _BITS_BYTES], "little")
        self.bits = int.from_bytes(value[8 + _BITS_BYTES : 8 + 2 * _BITS_BYTES], "little")
        self.digests = bytearray(value[8 + 2 * _BITS_BYTES :])


class _Series:
    """All numbers of one source and prefix: ranges of full chunks without digests, and the chunks that are neither."""

    __slots__ = ("chunks", "ends", "ids", "key", "sparse", "starts")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.chunks: dict[int, _Chunk] = {}
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.ids = 0
        """Ids in ``chunks``."""
        self.sparse = False
        """No more chunks: what falls into none of them is kept like a natural id."""

    def covers(self, chunk: int) -> bool:
        at = bisect_right(self.starts, chunk)
        return at > 0 and chunk < self.ends[at - 1]

    def cover(self, chunk: int) -> None:
        at = bisect_right(self.starts, chunk)
        left = at > 0 and self.ends[at - 1] == chunk
        right = at < len(self.starts) and self.starts[at] == chunk + 1
        if left and right:
            self.ends[at - 1] = self.ends[at]
            del self.starts[at], self.ends[at]
        elif left:
            self.ends[at - 1] = chunk + 1
        elif right:
            self.starts[at] = chunk
        else:
            self.starts.insert(at, chunk)
            self.ends.insert(at, chunk + 1)

    def encode(self) -> bytes:
        flat: list[int] = []
        last = 0
        for start, end in zip(self.starts, self.ends, strict=True):
            flat += (start - last, end - start)
            last = end
        return msgspec.msgpack.encode((self.sparse, flat))

    def decode(self, value: bytes) -> None:
        self.sparse, flat = msgspec.msgpack.decode(value, type=tuple[bool, list[int]])
        self.starts.clear()
        self.ends.clear()
        last = 0
        for gap, length in zip(flat[::2], flat[1::2], strict=True):
            self.starts.append(last + gap)
            last += gap + length
            self.ends.append(last)


class _Hashes:
    """A sorted map of 64-bit hashes to 64-bit words in leaves of plain arrays: no rehash pause, 16 bytes an entry and air."""

    __slots__ = ("_keys", "_lows", "_words", "count")

    def __init__(self) -> None:
        self._lows: list[int] = [0]
        self._keys: list[array[int]] = [array("Q")]
        self._words: list[array[int]] = [array("Q")]
        self.count = 0

    def get(self, key: int) -> int | None:
        leaf = bisect_right(self._lows, key) - 1
        keys = self._keys[leaf]
        at = bisect_right(keys, key) - 1
        return self._words[leaf][at] if at >= 0 and keys[at] == key else None

    def put(self, key: int, word: int) -> None:
        """Add a key that is not there."""
        leaf = bisect_right(self._lows, key) - 1
        keys, words = self._keys[leaf], self._words[leaf]
        at = bisect_right(keys, key)
        keys.insert(at, key)
        words.insert(at, word)
        self.count += 1
        if len(keys) > _SORTED_LEAF:
            half = len(keys) // 2
            self._keys[leaf : leaf + 1] = [keys[:half], keys[half:]]
            self._words[leaf : leaf + 1] = [words[:half], words[half:]]
            self._lows.insert(leaf + 1, keys[half])


class Seen:
    """The ids that one intake task has accepted. Changes since the last ``take_changes`` go into the same commit as the events.

    After a commit that failed the object is thrown away and restored from the task's state.
    """

    def __init__(self, policy: DedupPolicy | None = None) -> None:
        self._policy = policy or DedupPolicy()
        self._series: dict[tuple[str, str], _Series] = {}
        self._prefixes: Counter[str] = Counter()
        self._hashes = _Hashes()
        self._open: OrderedDict[tuple[str, int], tuple[bytes, bytearray]] = OrderedDict()
        self._next_leaf = 0
        self._ages: list[tuple[int, int, _Chunk]] = []
        self._filed = 0
        self._dirty_chunks: dict[_Chunk, None] = {}
        self._dirty_series: dict[_Series, None] = {}
        self._dirty_leaves: dict[bytes, bytearray] = {}
        self._melted: dict[bytes, None] = {}
        self.digest_bytes = 0
        """Bytes of digests held in memory."""

    @property
    def chunks(self) -> int:
        """Chunks held in memory."""
        return sum(len(series.chunks) for series in self._series.values())

    @property
    def natural_ids(self) -> int:
        """Natural ids held in memory."""
        return self._hashes.count

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take the state of the task's last commit; entries of others are left alone."""
        for key, value in entries.items():
            kind = key[:2]
            if kind == CHUNK_KEY:
                series = self._series_of(key[2:-9])
                chunk = _Chunk(series, int.from_bytes(key[-8:], "big"))
                chunk.decode(value)
                series.chunks[chunk.number] = chunk
                series.ids += (chunk.plain | chunk.bits).bit_count()
                self.digest_bytes += len(chunk.digests)
                if chunk.digests:
                    self._ages.append((chunk.received, self._filed, chunk))
                    self._filed += 1
            elif kind == SERIES_KEY:
                self._series_of(key[2:]).decode(value)
            elif kind == NATURAL_KEY:
                self._next_leaf = max(self._next_leaf, int.from_bytes(key[-8:], "big") + 1)
                words = array("Q", value)
                for at in range(0, len(words), 2):
                    self._hashes.put(words[at], words[at + 1])
        heapify(self._ages)

    def _series_of(self, key: bytes) -> _Series:
        source, prefix = key.decode().split("\0")
        series = self._series.get((source, prefix))
        if series is None:
            series = self._series[source, prefix] = _Series(key)
            self._prefixes[source] += 1
        return series

    def add(self, source: str, id_: str, digest: bytes, received_ms: int, event_ms: int) -> Verdict:
        """Look an id up and, if it is new, take it.

        Args:
            source: CloudEvents source; no control characters.
            id_: CloudEvents id; no control characters.
            digest: four bytes over the content.
            received_ms: receive time of the batch, never less than that of the call before.
            event_ms: event time, whose day places a natural id.
        """
        numbered = split_id(id_)
        if numbered is None:
            return self._add_natural(source, id_, digest, received_ms, event_ms)
        prefix, number = numbered
        series = self._series.get((source, prefix))
        if series is None:
            # The number of prefixes never falls, so what was kept as natural is looked for there ever after.
            if self._prefixes[source] >= self._policy.prefixes:
                return self._add_natural(source, id_, digest, received_ms, event_ms)
            series = self._series_of(f"{source}\0{prefix}".encode())
        chunk = series.chunks.get(number // CHUNK)
        if chunk is None:
            if series.covers(number // CHUNK):
                return Verdict.DUPLICATE
            if not series.sparse and len(series.chunks) >= self._policy.sparse_chunks:
                series.sparse = series.ids < self._policy.sparse_ids * len(series.chunks)
                if series.sparse:
                    self._dirty_series[series] = None
            if series.sparse:
                return self._add_natural(source, id_, digest, received_ms, event_ms)
            chunk = series.chunks[number // CHUNK] = _Chunk(series, number // CHUNK)
        bit = 1 << (number % CHUNK)
        if chunk.plain & bit:
            return Verdict.DUPLICATE
        at = _DIGEST * (chunk.bits & (bit - 1)).bit_count()
        if chunk.bits & bit:
            if received_ms - chunk.received > self._policy.compare_ms or chunk.digests[at : at + _DIGEST] == digest:
                return Verdict.DUPLICATE
            return Verdict.REUSED
        if not chunk.bits:
            heappush(self._ages, (received_ms, self._filed, chunk))
            self._filed += 1
        chunk.bits |= bit
        chunk.digests[at:at] = digest
        chunk.received = received_ms
        series.ids += 1
        self.digest_bytes += _DIGEST
        self._dirty_chunks[chunk] = None
        return Verdict.NEW

    def _add_natural(self, source: str, id_: str, digest: bytes, received_ms: int, event_ms: int) -> Verdict:
        key = int.from_bytes(blake2b(f"{source}\0{id_}".encode(), digest_size=8).digest(), "big")
        word = self._hashes.get(key)
        if word is not None:
            if received_ms // 1000 - (word & 0xFFFFFFFF) > self._policy.compare_ms // 1000 or word >> 32 == int.from_bytes(
                digest, "big"
            ):
                return Verdict.DUPLICATE
            return Verdict.REUSED
        word = int.from_bytes(digest, "big") << 32 | (received_ms // 1000) & 0xFFFFFFFF
        self._hashes.put(key, word)
        day = event_ms // _DAY_MS
        place = (source, day)
        opened = self._open.get(place)
        if opened is None or len(opened[1]) >= 16 * _LEAF:
            # Days before 1970 wrap into the upper half; the number only groups.
            name = b"%s%s\0%s%s" % (
                NATURAL_KEY,
                source.encode(),
                (day % 2**32).to_bytes(4, "big"),
                self._next_leaf.to_bytes(8, "big"),
            )
            self._next_leaf += 1
            opened = self._open[place] = (name, bytearray())
            if len(self._open) > self._policy.open_leaves:
                self._open.popitem(last=False)
        self._open.move_to_end(place)
        opened[1].extend(array("Q", (key, word)).tobytes())
        self._dirty_leaves[opened[0]] = opened[1]
        return Verdict.NEW

    def _drop_digests(self, chunk: _Chunk) -> None:
        self.digest_bytes -= len(chunk.digests)
        chunk.plain |= chunk.bits
        chunk.bits = 0
        chunk.digests = bytearray()
        if chunk.plain == _FULL:
            series = chunk.series
            del series.chunks[chunk.number]
            series.ids -= CHUNK
            series.cover(chunk.number)
            self._dirty_chunks.pop(chunk, None)
            self._melted[self._chunk_key(chunk)] = None
            self._dirty_series[series] = None
        else:
            self._dirty_chunks[chunk] = None

    def sweep(self, received_ms: int, events: int = 0) -> None:
        """Drop digests that are no longer compared, or that no longer fit; a bounded number of chunks a call.

        ``events`` is how many may be added before the next call: two chunks each, so that the sweep outpaces them.
        """
        for _ in range(self._policy.sweep_chunks + 2 * events):
            if not self._ages:
                return
            filed, _, chunk = self._ages[0]
            crowded = self.digest_bytes > self._policy.max_digest_bytes
            if not crowded and received_ms - filed <= self._policy.compare_ms:
                return
            heappop(self._ages)
            if chunk.received != filed and not crowded:
                heappush(self._ages, (chunk.received, self._filed, chunk))
                self._filed += 1
            else:
                self._drop_digests(chunk)

    def _chunk_key(self, chunk: _Chunk) -> bytes:
        return b"%s%s\0%s" % (CHUNK_KEY, chunk.series.key, chunk.number.to_bytes(8, "big"))

    def take_changes(self) -> dict[bytes, bytes | None]:
        """State entries that changed since the last call."""
        changes: dict[bytes, bytes | None] = {}
        changes.update(self._melted)
        for chunk in self._dirty_chunks:
            changes[self._chunk_key(chunk)] = chunk.encode()
        for series in self._dirty_series:
            changes[SERIES_KEY + series.key] = series.encode()
        for name, leaf in self._dirty_leaves.items():
            changes[name] = bytes(leaf)
        self._melted.clear()
        self._dirty_chunks.clear()
        self._dirty_series.clear()
        self._dirty_leaves.clear()
        return changes
