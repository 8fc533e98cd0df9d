"""Tiles and entry bundles of C2SP tlog-tiles: their names, their bytes, and which become new when a tree grows.

A tile of level ``l`` holds up to 256 hashes, each the root of a full tile of the level below (level 0: leaf hashes). Full tiles
never change; the last one of a level is partial, named by its width, and stays served for every size that a checkpoint was made
of. Reading and writing are functions of whoever calls: here is only what the bytes are.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import HASH_BYTES, Hash
from hengliu.ledger.merkle import Frontier, Nodes, checked_hash, checked_size

__all__ = [
    "MAX_ENTRY", "WIDTH", "Bundle", "Growth", "ReadBundle", "ReadTile", "Tile", "bundle_bytes", "bundle_entries", "grow",
    "grow_bundles", "new_bundles", "new_tiles", "nodes_of_tiles", "parse_path",
]  # fmt: skip

WIDTH = 256
"""Hashes in a full tile."""
MAX_ENTRY = 0xFFFF
"""Largest entry of a bundle: its length is a uint16."""
MAX_LEVEL = 63
"""Greatest level of a path; a tree of int64 size ends at level 7."""
_BITS = 8
_MAX_PATH = 64
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


def _index_path(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def _checked(level: int, index: int, width: int) -> None:
    if not (
        0 <= level <= MAX_LEVEL
        and 1 <= width <= WIDTH
        and index >= 0
        and index * WIDTH + width <= (1 << 63) - 1 >> level * _BITS
    ):
        raise LedgerError("tile-shape", level=level, index=index, width=width)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile of hashes by its name."""

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        _checked(self.level, self.index, self.width)

    @property
    def full(self) -> "Tile":
        """The full tile that takes its place one day."""
        return Tile(self.level, self.index)

    @property
    def path(self) -> str:
        """Path below the log's prefix, for example ``tile/0/x001/067.p/12``."""
        return f"tile/{self.level}/{_index_path(self.index)}" + (f".p/{self.width}" if self.width < WIDTH else "")


@dataclass(frozen=True, slots=True, order=True)
class Bundle:
    """An entry bundle by its name: the entries whose leaf hashes are in the tile of level 0 of the same index and width."""

    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        _checked(0, self.index, self.width)

    @property
    def path(self) -> str:
        return f"tile/entries/{_index_path(self.index)}" + (f".p/{self.width}" if self.width < WIDTH else "")


ReadTile = Callable[[Tile], bytes]
"""Bytes of a tile. Where a partial one is gone, the full tile that took its place may be given instead."""
ReadBundle = Callable[[Bundle], bytes]
"""Bytes of a bundle, exactly as named."""


def parse_path(path: str) -> Tile | Bundle:
    """The tile or bundle of a path below the log's prefix; only the one way of writing it that the specification has."""
    found = _PATH.fullmatch(path) if len(path) <= _MAX_PATH else None
    if found is None:
        raise LedgerError("tile-path", path=path[:_MAX_PATH])
    level, groups, width = found.groups()
    index = int(groups.replace("x", "").replace("/", ""))
    wide = int(width or WIDTH)
    named = Bundle(index, wide) if level == "entries" else Tile(int(level), index, wide)
    if named.path != path:
        raise LedgerError("tile-path", path=path)
    return named


def _grown(level: int, old: int, new: int) -> Iterator[tuple[int, int]]:
    """Index and width of what is new at a level when the tree grows."""
    before, after = old >> level * _BITS, new >> level * _BITS
    for index in range(before // WIDTH, after // WIDTH):
        yield index, WIDTH
    if after % WIDTH and after != before:
        yield after // WIDTH, after % WIDTH


def new_tiles(old: int, new: int) -> list[Tile]:
    """Tiles that a tree of ``new`` leaves has and one of ``old`` leaves has not: lower levels first, the partial one last."""
    if checked_size(old) > checked_size(new):
        raise LedgerError("sizes-order", old=old, new=new)
    levels = range((new.bit_length() + _BITS - 1) // _BITS)
    return [Tile(level, *each) for level in levels for each in _grown(level, old, new)]


def new_bundles(old: int, new: int) -> list[Bundle]:
    """Bundles that become new when the tree grows."""
    if checked_size(old) > checked_size(new):
        raise LedgerError("sizes-order", old=old, new=new)
    return [Bundle(*each) for each in _grown(0, old, new)]


def _read(read: ReadTile, tile: Tile) -> bytes:
    data = read(tile)
    expected = tile.width * HASH_BYTES
    if len(data) not in (expected, WIDTH * HASH_BYTES):
        raise LedgerError("tile-length", path=tile.path, length=len(data), expected=expected)
    return data[:expected]


def nodes_of_tiles(h: Hash, size: int, read: ReadTile) -> Nodes:
    """Nodes of a tree of ``size`` leaves, made from its tiles; each tile is read once while the returned function lives.

    What is read is not checked here: a proof made of it is worth what its verification against a signed root says.
    """
    checked_size(size)
    kept: dict[Tile, bytes] = {}

    def node(level: int, index: int) -> bytes:
        if level < 0 or index < 0 or (index + 1) << level > size:
            raise LedgerError("index-range", index=index << max(level, 0), size=size)
        above, depth = divmod(level, _BITS)
        number, first = divmod(index << depth, WIDTH)
        tile = Tile(above, number, min(WIDTH, (size >> above * _BITS) - number * WIDTH))
        if tile not in kept:
            kept[tile] = _read(read, tile)
        return h.fold(kept[tile][first * HASH_BYTES : (first + (1 << depth)) * HASH_BYTES])

    return node


def _peaks(h: Hash, hashes: bytes) -> list[bytes]:
    """Roots of the perfect subtrees over fewer than 256 joined hashes."""
    count, done, peaks = len(hashes) // HASH_BYTES, 0, []
    for bit in reversed(range(_BITS)):
        if count >> bit & 1:
            end = done + (HASH_BYTES << bit)
            peaks.append(h.fold(hashes[done:end]))
            done = end
    return peaks


@dataclass(frozen=True, slots=True)
class Growth:
    """What appending left: the state to go on from, and every tile that is new, with its bytes."""

    frontier: Frontier
    tiles: Mapping[Tile, bytes]


def grow(h: Hash, frontier: Frontier, leaves: Sequence[bytes], read: ReadTile) -> Growth:
    """Append leaf hashes to a tree.

    Reads the partial tile of each level that changes and checks it against the frontier, so that a tile which was damaged or
    belongs to another history stops the sealing instead of being built on. Pure: nothing changes until the caller stores what
    it gets, tiles first and frontier last, and repeating it gives the same bytes.
    """
    size = checked_size(frontier.size + len(leaves))
    tiles: dict[Tile, bytes] = {}
    coming = b"".join([checked_hash(leaf) for leaf in leaves])
    old_peaks = list(frontier.peaks)
    parts: list[list[bytes]] = []
    level = 0
    while coming:
        index, width = divmod(frontier.size >> level * _BITS, WIDTH)
        held = [old_peaks.pop() for _ in range(width.bit_count())][::-1]
        data = b""
        if width:
            edge = Tile(level, index, width)
            data = _read(read, edge)
            if _peaks(h, data) != held:
                raise LedgerError("tile-edge", path=edge.path)
        data += coming
        full = WIDTH * HASH_BYTES
        roots = []
        for start in range(0, len(data) - full + 1, full):
            tiles[Tile(level, index)] = whole = data[start : start + full]
            roots.append(h.fold(whole))
            index += 1
        rest = data[len(roots) * full :]
        if rest:
            tiles[Tile(level, index, len(rest) // HASH_BYTES)] = rest
        parts.append(_peaks(h, rest))
        coming = b"".join(roots)
        level += 1
    for part in reversed(parts):
        old_peaks += part
    return Growth(Frontier(size, tuple(old_peaks)), tiles)


def bundle_bytes(entries: Sequence[bytes]) -> bytes:
    """Entries behind their lengths as big-endian uint16."""
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise LedgerError("entry-length", length=len(entry), limit=MAX_ENTRY)
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def bundle_entries(bundle: Bundle, data: bytes) -> list[bytes]:
    """The entries of a bundle: as many as its name says, nothing before or behind them."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            raise LedgerError("bundle-end", path=bundle.path)
        if len(entries) == bundle.width:
            raise LedgerError("bundle-width", path=bundle.path, width=bundle.width)
        entries.append(data[at + 2 : end])
        at = end
    if len(entries) != bundle.width:
        raise LedgerError("bundle-width", path=bundle.path, width=bundle.width)
    return entries


def grow_bundles(size: int, entries: Sequence[bytes], read: ReadBundle) -> dict[Bundle, bytes]:
    """Bundles that become new when these entries are appended to a tree of ``size`` leaves."""
    index, width = divmod(checked_size(size), WIDTH)
    held = []
    if width:
        edge = Bundle(index, width)
        held = bundle_entries(edge, read(edge))
    all_ = [*held, *entries]
    made = {}
    for bundle in new_bundles(size, checked_size(size + len(entries))):
        start = (bundle.index - index) * WIDTH
        made[bundle] = bundle_bytes(all_[start : start + bundle.width])
    return made
