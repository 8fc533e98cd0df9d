"""Whether a log still is what was sealed: every record, offset, tile, bundle and root, hashed again and compared.

Nothing of what is stored is believed but the signature on a checkpoint. What differs is *located*: the field of a record, the
rank and the offset, the path of a file. One difference does not hide the next: a record that is gone or changed is replaced by
what was sealed in its place, so that the ranks behind it stay where they were.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hengliu.events.family import Text
from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import HASH_BYTES, Hash
from hengliu.ledger.keys import VerifierKey
from hengliu.ledger.leaf import FIELDS, LoggedRecord, leaf_bytes, leaf_fields
from hengliu.ledger.merkle import Frontier
from hengliu.ledger.offsets import checked_runs, offsets_origin
from hengliu.ledger.sealing import LedgerKeys, ReadFile, log_name, offsets_of
from hengliu.ledger.tiles import WIDTH, Bundle, Tile, bundle_bytes, bundle_entries, grow, new_bundles, new_tiles
from hengliu.ports.log import EventLog, Slice, TopicPartition
from hengliu.ports.tiles import CHECKPOINT

__all__ = ["FINDINGS", "Finding", "PartitionCheck", "verify"]

FINDINGS: Final[Mapping[str, Text]] = {
    "record-altered": Text(
        "序号 {rank}（位移 {offset}）的记录：字段 {field} 与封存时不同。",
        "The record of rank {rank} (offset {offset}): field {field} is not what was sealed.",
    ),
    "record-missing": Text(
        "序号 {rank}（位移 {offset}）的记录不见了。", "The record of rank {rank} (offset {offset}) is gone."
    ),
    "record-extra": Text("位移 {offset} 处多出一条未封存的记录。", "A record that was never sealed stands at offset {offset}."),
    "offset-altered": Text(
        "序号 {rank} 的记录在位移 {offset}，封存时在 {sealed}。",
        "The record of rank {rank} stands at offset {offset}; it was sealed at {sealed}.",
    ),
    "tile-altered": Text("瓦片 {path} 第 {number} 个散列不对。", "Hash {number} of tile {path} is wrong."),
    "bundle-altered": Text("条目包 {path} 与记录不符。", "Bundle {path} is not that of the records."),
    "file-missing": Text("缺少文件 {path}。", "File {path} is missing."),
    "root": Text("检查点的根不是这些记录的根（{size} 条）。", "The checkpoint's root is not that of the {size} records."),
    "index": Text("位移索引不可用：{reason}", "The index of offsets cannot be used: {reason}"),
    "checkpoint": Text("检查点不成立：{reason}", "The checkpoint does not hold: {reason}"),
}
"""Code of a finding to its words."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was sealed, and where."""

    log: str
    code: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def words(self) -> Text:
        text = FINDINGS[self.code]
        return Text(text.zh.format(**self.parameters), text.en.format(**self.parameters))


def _stored(read: ReadFile, prefix: str, named: Tile | Bundle) -> bytes | None:
    """A file; in place of a partial one that is gone the full one, which begins like it."""
    data = read(prefix, named.path)
    return read(prefix, replace(named, width=WIDTH).path) if data is None and named.width < WIDTH else data


class _Tree:
    """Grows a tree of its own beside the stored one and compares file by file."""

    def __init__(self, h: Hash, prefix: str, size: int, read: ReadFile) -> None:
        self._h, self._prefix, self._read = h, prefix, read
        self.frontier = Frontier()
        self._edges: dict[int, bytes] = {}
        """The partial tile of each level, as it would be stored."""
        self._entries: list[bytes] = []
        self._tiles = set(new_tiles(0, size))
        self._last = {bundle.index: bundle for bundle in new_bundles(0, size)}

    def append(self, entries: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[str, dict[str, object]]]:
        """Entries with their leaf hashes; what differs in the files that they complete."""
        growth = grow(self._h, self.frontier, [leaf for _, leaf in entries], lambda tile: self._edges[tile.level])
        bundle_at = self.frontier.size // WIDTH
        self.frontier = growth.frontier
        self._edges |= {tile.level: data for tile, data in growth.tiles.items() if tile.width < WIDTH}
        for tile, data in growth.tiles.items():
            if tile in self._tiles:
                yield from self._compare_tile(tile, data)
        self._entries += [entry for entry, _ in entries]
        while self._entries:
            bundle = self._last[bundle_at]
            if len(self._entries) < bundle.width:
                break
            chosen, self._entries = self._entries[: bundle.width], self._entries[bundle.width :]
            yield from self._compare_bundle(bundle, bundle_bytes(chosen))
            bundle_at += 1

    def _compare_tile(self, tile: Tile, data: bytes) -> Iterator[tuple[str, dict[str, object]]]:
        stored = _stored(self._read, self._prefix, tile)
        path = f"{self._prefix}/{tile.path}"
        if stored is None:
            yield "file-missing", {"path": path}
        elif stored[: len(data)] != data or len(stored) not in (len(data), WIDTH * HASH_BYTES):
            yield from (
                ("tile-altered", {"path": path, "number": n // HASH_BYTES})
                for n in range(0, max(len(data), min(len(stored), WIDTH * HASH_BYTES)), HASH_BYTES)
                if stored[n : n + HASH_BYTES] != data[n : n + HASH_BYTES]
            )

    def _compare_bundle(self, bundle: Bundle, data: bytes) -> Iterator[tuple[str, dict[str, object]]]:
        path = f"{self._prefix}/{bundle.path}"
        own = self._read(self._prefix, bundle.path)
        stored = own if own is not None else _stored(self._read, self._prefix, bundle)
        if stored is None:
            yield "file-missing", {"path": path}
        elif (stored if own is not None else stored[: len(data)]) != data:
            yield "bundle-altered", {"path": path}


class PartitionCheck:
    """One partition. ``feed`` it every record from the beginning, in order; then ``finish``.

    Args:
        log: prefix under which it is published.
        key, offsets_key: public keys of the log and of its index.
        read: the stored files.
    """

    def __init__(self, log: str, h: Hash, key: VerifierKey, offsets_key: VerifierKey, read: ReadFile) -> None:
        self.log = log
        self._h, self._read = h, read
        self.findings: list[Finding] = []
        self._offsets: list[int] | None = None
        self._tree = _Tree(h, log, 0, read)
        self.rank = 0
        """How many of the sealed records have been accounted for."""
        self._tile_at, self._tile = -1, b""
        """Index and bytes of the tile of level 0 that was read last."""
        self._checkpoint: Checkpoint | None = self._opened(log, key)
        if self._checkpoint is not None:
            self._tree = _Tree(h, log, self._checkpoint.size, read)
            self._offsets = self._index(offsets_key)

    @property
    def size(self) -> int:
        """How many records the checkpoint covers; 0 without one."""
        return 0 if self._checkpoint is None else self._checkpoint.size

    def _find(self, code: str, **parameters: object) -> None:
        self.findings.append(Finding(self.log, code, parameters))

    def _opened(self, prefix: str, key: VerifierKey) -> Checkpoint | None:
        note = self._read(prefix, CHECKPOINT)
        if note is None:
            self._find("file-missing", path=f"{prefix}/{CHECKPOINT}")
            return None
        try:
            return open_checkpoint(note, key).checkpoint
        except LedgerError as error:
            self._find("checkpoint", reason=str(error))
            return None

    def _index(self, key: VerifierKey) -> list[int] | None:
        """Offsets by rank as they were sealed; None where the index itself does not hold."""
        prefix = offsets_of(self.log)
        checkpoint = self._opened(prefix, key)
        if checkpoint is None:
            return None
        tree = _Tree(self._h, prefix, checkpoint.size, self._read)
        entries: list[bytes] = []
        try:
            for bundle in new_bundles(0, checkpoint.size):
                entries += bundle_entries(bundle, self._file(prefix, bundle))
            for code, parameters in tree.append([(entry, self._h.leaf(entry)) for entry in entries]):
                self._find(code, **parameters)
            if tree.frontier.root(self._h) != checkpoint.root:
                self._find("index", reason="root")
                return None
            offsets = [offset for run in checked_runs(entries) for offset in run.offsets]
        except LedgerError as error:
            self._find("index", reason=str(error))
            return None
        return offsets

    def _file(self, prefix: str, bundle: Bundle) -> bytes:
        data = self._read(prefix, bundle.path)
        if data is None and bundle.width < WIDTH:
            whole = self._read(prefix, Bundle(bundle.index).path)
            if whole is not None:
                data = bundle_bytes(bundle_entries(Bundle(bundle.index), whole)[: bundle.width])
        if data is None:
            raise LedgerError("tile-missing", path=f"{prefix}/{bundle.path}")
        return data

    def feed(self, piece: Slice) -> None:
        """The next records. What lies behind the checkpoint is left alone."""
        batch: list[tuple[bytes, bytes]] = []
        for key, value, headers, offset in zip(piece.keys, piece.values, piece.headers, piece.offsets, strict=True):
            if self.rank >= self.size:
                break
            entry = leaf_bytes(self._h, LoggedRecord(piece.topic, piece.partition, key, value, headers))
            self._take(entry, offset, batch)
        self._append(batch)

    def _take(self, entry: bytes, offset: int, batch: list[tuple[bytes, bytes]]) -> None:
        leaf = self._h.leaf(entry)
        while self.rank < self.size:
            sealed_at = offset if self._offsets is None else self._offsets[self.rank]
            same = leaf == self._sealed_hash(self.rank)
            if offset == sealed_at or same:
                if offset != sealed_at:
                    self._find("offset-altered", rank=self.rank, offset=offset, sealed=sealed_at)
                if not same:
                    entry, leaf = self._differs(entry, leaf, offset)
                batch.append((entry, leaf))
                self.rank += 1
                return
            if offset < sealed_at:
                self._find("record-extra", offset=offset)
                return
            self._find("record-missing", rank=self.rank, offset=sealed_at)
            batch.append(self._sealed(self.rank))
            self.rank += 1

    def _sealed_hash(self, rank: int) -> bytes:
        index, number = divmod(rank, WIDTH)
        width = min(WIDTH, self.size - index * WIDTH)
        if self._tile_at != index:
            self._tile_at, self._tile = index, _stored(self._read, self.log, Tile(0, index, width)) or b""
        return self._tile[number * HASH_BYTES : (number + 1) * HASH_BYTES]

    def _sealed(self, rank: int) -> tuple[bytes, bytes]:
        """Entry and leaf hash as they were sealed: by the bundle where it has what the tile says."""
        index, number = divmod(rank, WIDTH)
        bundle = Bundle(index, min(WIDTH, self.size - index * WIDTH))
        try:
            entry = bundle_entries(bundle, self._file(self.log, bundle))[number]
        except LedgerError:
            entry = b""
        known = self._sealed_hash(rank)
        return entry, known if len(known) == HASH_BYTES else self._h.leaf(entry)

    def _differs(self, entry: bytes, leaf: bytes, offset: int) -> tuple[bytes, bytes]:
        """The record, the tile, or both: whichever two of record, bundle and tile agree are right."""
        sealed, known = self._sealed(self.rank)
        if self._h.leaf(sealed) == leaf:
            return entry, leaf  # the tile is wrong, and comparing it says so
        if self._h.leaf(sealed) != known:  # bundle and tile contradict each other: nobody knows what was sealed
            self._find("record-altered", rank=self.rank, offset=offset, field="?")
            return entry, leaf
        for name, now, before in zip(FIELDS, leaf_fields(entry), leaf_fields(sealed), strict=True):
            if now != before:
                self._find("record-altered", rank=self.rank, offset=offset, field=name)
        return sealed, known

    def _append(self, batch: Sequence[tuple[bytes, bytes]]) -> None:
        if batch:
            for code, parameters in self._tree.append(batch):
                self._find(code, **parameters)

    def finish(self) -> list[Finding]:
        """What is missing at the end, and whether the whole has the signed root."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return self.findings
        batch = []
        while self.rank < checkpoint.size:
            at = "?" if self._offsets is None else self._offsets[self.rank]
            self._find("record-missing", rank=self.rank, offset=at)
            batch.append(self._sealed(self.rank))
            self.rank += 1
        self._append(batch)
        if self._tree.frontier.root(self._h) != checkpoint.root:
            self._find("root", size=checkpoint.size)
        return self.findings


RECORDS = 10_000
"""Read and hashed at once."""


def _nothing(checked: int, size: int) -> None:
    """Nobody watches."""


async def verify(
    log: EventLog,
    keys: LedgerKeys,
    tps: Sequence[TopicPartition],
    read: ReadFile,
    progress: Callable[[int, int], None] = _nothing,
) -> list[Finding]:
    """Check partitions whole, one after another. ``progress`` is told how many records of how many were checked."""
    checks = {}
    for tp in tps:
        name = log_name(*tp)
        origin = keys.origin(name)
        own, index = keys.signer(origin).verifier, keys.signer(offsets_origin(origin)).verifier
        checks[tp] = await asyncio.to_thread(PartitionCheck, name, keys.suite.hash, own, index, read)
    total = sum(check.size for check in checks.values())
    findings: list[Finding] = []
    done = 0
    for tp, check in checks.items():
        reader = await log.open_reader({tp: 0}, bulk=True)
        try:
            while check.rank < check.size:
                pieces = await reader.poll(RECORDS, 1_000)
                if not pieces and reader.position(tp) >= (await log.end_positions([tp]))[tp]:
                    break  # the log ends before what was sealed
                for piece in pieces:
                    await asyncio.to_thread(check.feed, piece)
                progress(done + check.rank, total)
        finally:
            await reader.close()
        findings += await asyncio.to_thread(check.finish)
        done += check.size
        progress(done, total)
    return findings
