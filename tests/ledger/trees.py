"""Naive trees to compare with: the definitions of RFC 6962 section 2.1 as they are written, recursion and all."""

from collections.abc import Sequence
from pathlib import Path

from hengliu.ledger.hashes import SHA256, Hash
from hengliu.ledger.merkle import Frontier, Nodes
from hengliu.ledger.tiles import Tile, grow

HASH_OF = [SHA256.leaf(b"%d" % n) for n in range(700)]
"""Leaf hashes of a tree to try things on."""


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def naive_root(h: Hash, leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) over leaf hashes."""
    if not leaves:
        return h.digest(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return h.digest(b"\x01" + naive_root(h, leaves[:k]) + naive_root(h, leaves[k:]))


def naive_path(h: Hash, m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*naive_path(h, m, leaves[:k]), naive_root(h, leaves[k:])]
    return [*naive_path(h, m - k, leaves[k:]), naive_root(h, leaves[:k])]


def naive_proof(h: Hash, m: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """PROOF(m, D[n]) = SUBPROOF(m, D[n], true) of section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(h, leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*naive_proof(h, m, leaves[:k], whole), naive_root(h, leaves[k:])]
    return [*naive_proof(h, m - k, leaves[k:], False), naive_root(h, leaves[:k])]


class Store:
    """Tiles in memory, as a growing log keeps them."""

    def __init__(self, h: Hash = SHA256) -> None:
        self.hash = h
        self.frontier = Frontier()
        self.tiles: dict[Tile, bytes] = {}

    def append(self, leaves: Sequence[bytes]) -> None:
        growth = grow(self.hash, self.frontier, leaves, self.tiles.__getitem__)
        self.tiles.update(growth.tiles)
        self.frontier = growth.frontier

    def write(self, folder: Path) -> None:
        for tile, data in self.tiles.items():
            path = folder / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def nodes_of(h: Hash, leaves: Sequence[bytes]) -> Nodes:
    """Nodes straight from the leaves."""
    made: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        if (level, index) not in made:
            made[level, index] = h.node(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))
        return made[level, index]

    return node
