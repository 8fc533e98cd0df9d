"""What one sealing makes of new records: the next state of a log, and the files that are new. No I/O of its own.

A log is published as two trees: of its records, and of the offsets that they have (``offsets``). Both grow together, so one
state holds both, and one sealing signs both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.keys import SigningKey, Suite
from hengliu.ledger.leaf import LoggedRecord, leaf_bytes
from hengliu.ledger.merkle import Frontier
from hengliu.ledger.offsets import OFFSETS, offsets_origin, runs
from hengliu.ledger.tiles import Bundle, Tile, grow, grow_bundles
from hengliu.ports.tiles import CHECKPOINT

__all__ = [
    "OFFSETS",
    "LedgerKeys",
    "LogState",
    "ReadFile",
    "Sealed",
    "SealedTree",
    "TreeState",
    "log_name",
    "offsets_of",
    "seal",
]

ReadFile = Callable[[str, str], bytes | None]
"""A stored file by its log's prefix and its path below that; None where there is none."""


def log_name(topic: str, partition: int) -> str:
    """Prefix under which a partition's log is published.

    >>> log_name("weighings", 0)
    'weighings-0'
    """
    return f"{topic}-{partition}"


def offsets_of(log: str) -> str:
    """Prefix of the index of a log's offsets.

    >>> offsets_of("weighings-0")
    'weighings-0/offsets'
    """
    return f"{log}/{OFFSETS}"


@dataclass(frozen=True, slots=True)
class LedgerKeys:
    """The operator's key. Each log signs under its own name, so that a checkpoint of one is never one of another.

    Attributes:
        name: what every origin begins with: ``city.example/ledger``.
        secret: 32 bytes, the same for all logs.
    """

    suite: Suite
    name: str
    secret: bytes = field(repr=False)

    def origin(self, log: str) -> str:
        return f"{self.name}/{log}"

    def signer(self, origin: str) -> SigningKey:
        return SigningKey(origin, self.suite.log, self.secret)


class TreeState(msgspec.Struct, frozen=True):
    """All that is kept of a tree beside its files."""

    frontier: bytes = Frontier().to_bytes()
    checkpoint: bytes = b""
    """The newest signed one; empty before the first."""

    @property
    def size(self) -> int:
        return Frontier.from_bytes(self.frontier).size


class LogState(msgspec.Struct, frozen=True):
    """All that is kept of a log: both trees, and the last offset that was sealed (-1 before the first)."""

    origin: str
    suite: str
    records: TreeState = TreeState()
    offsets: TreeState = TreeState()
    last_offset: int = -1


def check_start(keys: LedgerKeys, log: str, state: LogState, position: int, end: int, read: ReadFile) -> dict[str, bytes]:
    """Whether a log may be sealed further; gives what a crash before publishing left unpublished, by prefix.

    Args:
        position: up to where the state has sealed.
        end: where the log ends.

    Raises:
        LedgerError: ``sealing-origin``, ``sealing-end``, ``sealing-behind``, or what ``open_checkpoint`` raises for a published
            checkpoint.
    """
    origin = keys.origin(log)
    if (state.origin, state.suite) != (origin, keys.suite.name):
        raise LedgerError("sealing-origin", origin=state.origin, expected=origin, suite=state.suite)
    if end < position:
        raise LedgerError("sealing-end", log=log, end=end, position=position)
    unpublished = {}
    trees = ((log, origin, state.records), (offsets_of(log), offsets_origin(origin), state.offsets))
    for prefix, name, tree in trees:
        published = read(prefix, CHECKPOINT)
        if published is not None:
            size = open_checkpoint(published, keys.signer(name).verifier).checkpoint.size
            if size > tree.size:
                raise LedgerError("sealing-behind", log=prefix, size=tree.size, published=size)
        if tree.checkpoint and published != tree.checkpoint:
            unpublished[prefix] = tree.checkpoint
    return unpublished


@dataclass(frozen=True, slots=True)
class SealedTree:
    """What a sealing made of one tree: its new files by path, and which full ones have put partial ones out of use."""

    state: TreeState
    files: Mapping[str, bytes]

    @property
    def filled(self) -> list[str]:
        return [path for path in self.files if ".p/" not in path]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealing: the state to go on from, and both of its trees by the prefix under which they are published."""

    state: LogState
    trees: Mapping[str, SealedTree]


def seal(
    keys: LedgerKeys, log: str, state: LogState, records: Sequence[LoggedRecord], offsets: Sequence[int], read: ReadFile
) -> Sealed:
    """Append records and their offsets, which both are new and in order, and sign the trees that result.

    Pure but for ``read``: repeated on the same state it gives the same files. (An SM2 signature differs each time; checkpoints
    are no files of a sealing.)

    Raises:
        LedgerError: ``offsets-order`` for an offset that is not above the last one; ``tile-missing`` or ``tile-edge`` where
            what is stored is not what the state says, so that a damaged file is never built on.
    """
    h = keys.suite.hash
    if not records:
        raise LedgerError("sealing-empty")
    before = state.last_offset
    for offset in offsets:
        if offset <= before:
            raise LedgerError("offsets-order", offset=offset)
        before = offset
    leaves = [leaf_bytes(h, record) for record in records]
    of_offsets = [run.to_bytes() for run in runs(state.records.size, offsets)]
    grown = _grown(keys, state.origin, log, state.records, leaves, read)
    indexed = _grown(keys, offsets_origin(state.origin), offsets_of(log), state.offsets, of_offsets, read)
    after = LogState(state.origin, state.suite, grown.state, indexed.state, before)
    return Sealed(after, {log: grown, offsets_of(log): indexed})


def _grown(keys: LedgerKeys, origin: str, prefix: str, tree: TreeState, entries: Sequence[bytes], read: ReadFile) -> SealedTree:
    def stored(named: Tile | Bundle) -> bytes:
        data = read(prefix, named.path)
        if data is None:
            raise LedgerError("tile-missing", path=f"{prefix}/{named.path}")
        return data

    h = keys.suite.hash
    before = Frontier.from_bytes(tree.frontier)
    growth = grow(h, before, [h.leaf(entry) for entry in entries], stored)
    files = {tile.path: data for tile, data in growth.tiles.items()}
    files |= {bundle.path: data for bundle, data in grow_bundles(before.size, entries, stored).items()}
    after = growth.frontier
    note = sign_checkpoint(Checkpoint(origin, after.size, after.root(h)), keys.signer(origin))
    return SealedTree(TreeState(after.to_bytes(), note.to_bytes()), files)
