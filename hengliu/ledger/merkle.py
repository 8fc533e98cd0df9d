"""The Merkle tree of RFC 6962 section 2.1 (the same as RFC 9162): roots, proofs, and their verification.

Nothing here recurses, and every length is known before a proof is looked at: a proof that has one hash too many or too few is
refused without hashing, so a hostile one costs at most 63 hashes (126 for consistency).

Words: a *node* ``(level, index)`` is the perfect subtree over the leaves ``index << level`` to ``(index + 1) << level``;
*peaks* are the roots of the perfect subtrees that a tree consists of, from left (largest) to right.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import HASH_BYTES, Hash

__all__ = [
    "MAX_SIZE", "Frontier", "Nodes", "bagged", "prove_consistency", "prove_inclusion", "root", "root_of_nodes",
    "verify_consistency", "verify_inclusion",
]  # fmt: skip

MAX_SIZE = (1 << 63) - 1
"""Most leaves of a tree: sizes are int64 in the clients that exist."""

Nodes = Callable[[int, int], bytes]
"""Hash of the node ``(level, index)``; called only for nodes that the tree really has."""


def checked_size(size: int) -> int:
    """The size itself. Raises LedgerError where it cannot be one."""
    if not 0 <= size <= MAX_SIZE:
        raise LedgerError("size-range", size=size)
    return size


def checked_hash(value: bytes) -> bytes:
    """The hash itself. Raises LedgerError for any other length."""
    if len(value) != HASH_BYTES:
        raise LedgerError("hash-length", length=len(value), expected=HASH_BYTES)
    return value


def bagged(h: Hash, peaks: Sequence[bytes]) -> bytes:
    """Root over peaks from left to right: the last two are joined first."""
    if not peaks:
        return h.empty
    top = peaks[-1]
    for peak in reversed(peaks[:-1]):
        top = h.node(peak, top)
    return top


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that has to be kept of a tree to go on from it: its size and its peaks, at most 63 hashes.

    As bytes: size as big-endian uint64, then the peaks from left to right.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        checked_size(self.size)
        if len(self.peaks) != self.size.bit_count():
            raise LedgerError("frontier", length=8 + HASH_BYTES * len(self.peaks), size=self.size)
        for peak in self.peaks:
            checked_hash(peak)

    def root(self, h: Hash) -> bytes:
        return bagged(h, self.peaks)

    def extended(self, h: Hash, leaves: Iterable[bytes]) -> "Frontier":
        """With these leaf hashes appended."""
        size, peaks = self.size, list(self.peaks)
        for leaf in leaves:
            top, carry = checked_hash(leaf), size
            while carry & 1:
                top = h.node(peaks.pop(), top)
                carry >>= 1
            peaks.append(top)
            size += 1
        return Frontier(size, tuple(peaks))

    def to_bytes(self) -> bytes:
        return self.size.to_bytes(8, "big") + b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Frontier":
        """Raises LedgerError for bytes that ``to_bytes`` never gives."""
        size = int.from_bytes(data[:8], "big")
        if len(data) != 8 + HASH_BYTES * size.bit_count():
            raise LedgerError("frontier", length=len(data), size=size)
        return cls(size, tuple(data[n : n + HASH_BYTES] for n in range(8, len(data), HASH_BYTES)))


def root(h: Hash, leaves: Iterable[bytes]) -> bytes:
    """Root over leaf hashes."""
    return Frontier().extended(h, leaves).root(h)


def root_of_nodes(h: Hash, start: int, end: int, nodes: Nodes) -> bytes:
    """Hash of the leaves from ``start`` to before ``end``, where ``start`` is a multiple of the least power of two not below
    the length.

    These are the ranges that proofs consist of: a node where the length is a power of two, else several joined from the right.
    """
    peaks = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(nodes(level, start >> level))
        start += 1 << level
    return bagged(h, peaks)


def _split(length: int) -> int:
    """Largest power of two below the length (RFC 6962 section 2.1)."""
    return 1 << (length - 1).bit_length() - 1


def prove_inclusion(h: Hash, index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1: the siblings from the leaf to the root."""
    if not 0 <= index < checked_size(size):
        raise LedgerError("index-range", index=index, size=size)
    ranges, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return tuple(root_of_nodes(h, *each, nodes) for each in reversed(ranges))


def prove_consistency(h: Hash, old: int, new: int, nodes: Nodes) -> tuple[bytes, ...]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty for an old tree that is empty or of the same size."""
    if checked_size(old) > checked_size(new):
        raise LedgerError("sizes-order", old=old, new=new)
    if old in (0, new):
        return ()
    ranges, start, end, whole = [], 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    if not whole:
        ranges.append((start, end))
    return tuple(root_of_nodes(h, *each, nodes) for each in reversed(ranges))


def _checked_proof(proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise LedgerError("proof-length", length=len(proof), expected=expected)
    for each in proof:
        checked_hash(each)


def sides(index: int, size: int) -> list[bool]:
    """For each hash of an inclusion proof, whether it is joined from the left: the leaf lies in the right half there."""
    inner = (index ^ (size - 1)).bit_length()
    # Below ``inner`` the leaf has a sibling at each level; above, it lies on the right edge and only left siblings are there.
    return [bool(index >> level & 1) for level in range(inner)] + [True] * (index >> inner).bit_count()


def verify_inclusion(h: Hash, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash stands at ``index`` of the tree of that size and root (RFC 9162 section 2.1.3.2, its path worked
    out beforehand).

    Raises LedgerError saying what does not fit.
    """
    if not 0 <= index < checked_size(size):
        raise LedgerError("index-range", index=index, size=size)
    checked_hash(root)
    top = checked_hash(leaf)
    _checked_proof(proof, len(sides(index, size)))
    for sibling, left in zip(proof, sides(index, size), strict=True):
        top = h.node(sibling, top) if left else h.node(top, sibling)
    if top != root:
        raise LedgerError("inclusion-root")


def consistency_length(old: int, new: int) -> int:
    """Hashes in a consistency proof between two trees, neither empty nor equal in size.

    The path of the old tree's last leaf from the least perfect subtree that ends there; that subtree itself too, unless it is
    the whole old tree, whose root the verifier has.
    """
    least = old & -old
    return len(sides(old - 1, new)) - (least.bit_length() - 1) + (old != least)


def verify_consistency(h: Hash, old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the new tree begins with all of the old one (RFC 9162 section 2.1.4.2, its path worked out beforehand).

    An empty old tree is consistent with any other, with an empty proof. Raises LedgerError saying what does not fit.
    """
    if checked_size(old) > checked_size(new):
        raise LedgerError("sizes-order", old=old, new=new)
    checked_hash(old_root)
    checked_hash(new_root)
    for size, root_ in ((old, old_root), (new, new_root)):
        if size == 0 and root_ != h.empty:
            raise LedgerError("empty-root")
    if old in (0, new):
        _checked_proof(proof, 0)
        if old == new and old_root != new_root:
            raise LedgerError("roots-differ", size=old)
        return
    _checked_proof(proof, consistency_length(old, new))
    least = old & -old
    # Where the old tree is one perfect subtree, it is itself the first node on the path and is left out of the proof.
    first, *path = (old_root, *proof) if old == least else tuple(proof)
    was = now = first
    for sibling, left in zip(path, sides(old - 1, new)[least.bit_length() - 1 :], strict=True):
        if left:
            was = h.node(sibling, was)
        now = h.node(sibling, now) if left else h.node(now, sibling)
    if was != old_root:
        raise LedgerError("consistency-old-root")
    if now != new_root:
        raise LedgerError("consistency-new-root")
