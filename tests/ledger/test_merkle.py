"""Roots and proofs: published vectors, the definitions of RFC 6962 themselves, and proofs of which something was changed."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256, SM3, Hash
from hengliu.ledger.merkle import (
    MAX_SIZE,
    Frontier,
    prove_consistency,
    prove_inclusion,
    root,
    verify_consistency,
    verify_inclusion,
)
from tests.ledger.trees import HASH_OF, naive_path, naive_proof, naive_root, nodes_of

# The eight entries, the roots of their trees and the proofs below are those of the reference implementation of Certificate
# Transparency (merkletree/merkle_tree_test.cc) and of transparency-dev/merkle (testdata/inclusion, testdata/consistency).
ENTRIES = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSIONS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCIES = {
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def test_leaf_and_node_hashes_are_the_published_ones() -> None:
    # transparency-dev/merkle, rfc6962/rfc6962_test.go
    assert SHA256.leaf(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert SHA256.leaf(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert SHA256.node(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


def test_roots_and_proofs_of_the_published_tree() -> None:
    leaves = [SHA256.leaf(entry) for entry in ENTRIES]
    node = nodes_of(SHA256, leaves)
    assert [root(SHA256, leaves[:size]).hex() for size in range(9)] == ROOTS
    for (index, size), proof in INCLUSIONS.items():
        assert [each.hex() for each in prove_inclusion(SHA256, index, size, node)] == proof
        verify_inclusion(SHA256, leaves[index], index, size, [bytes.fromhex(p) for p in proof], bytes.fromhex(ROOTS[size]))
    for (old, new), proof in CONSISTENCIES.items():
        assert [each.hex() for each in prove_consistency(SHA256, old, new, node)] == proof
        roots = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
        verify_consistency(SHA256, old, roots[0], new, roots[1], [bytes.fromhex(p) for p in proof])


@pytest.mark.parametrize("h", [SHA256, SM3], ids=lambda h: h.name)
def test_every_proof_of_every_size_is_the_definitions_and_verifies(h: Hash) -> None:
    largest = 40
    leaves = [h.leaf(b"%d" % n) for n in range(largest)]
    node = nodes_of(h, leaves)
    roots = [naive_root(h, leaves[:size]) for size in range(largest + 1)]
    for size in range(1, largest + 1):
        assert root(h, leaves[:size]) == roots[size]
        for index in range(size):
            path = prove_inclusion(h, index, size, node)
            assert list(path) == naive_path(h, index, leaves[:size])
            verify_inclusion(h, leaves[index], index, size, path, roots[size])
        for old in range(1, size + 1):
            proof = prove_consistency(h, old, size, node)
            assert list(proof) == naive_proof(h, old, leaves[:size])
            verify_consistency(h, old, roots[old], size, roots[size], proof)
        verify_consistency(h, 0, h.empty, size, roots[size], ())


def test_every_proof_of_larger_trees_verifies() -> None:
    node = nodes_of(SHA256, HASH_OF)
    frontier = Frontier()
    roots = [SHA256.empty]
    for leaf in HASH_OF[:330]:
        frontier = frontier.extended(SHA256, [leaf])
        roots.append(frontier.root(SHA256))
    for size in (127, 128, 129, 255, 256, 257, 330):
        for n in range(size):
            path = prove_inclusion(SHA256, n, size, node)
            verify_inclusion(SHA256, HASH_OF[n], n, size, path, roots[size])
            proof = prove_consistency(SHA256, n + 1, size, node)
            verify_consistency(SHA256, n + 1, roots[n + 1], size, roots[size], proof)


def flipped(data: bytes, bit: int) -> bytes:
    bit %= len(data) * 8
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def changed(proof: list[bytes], how: int, where: int) -> list[bytes]:
    """The proof with one thing changed: a bit, a hash left out, doubled, swapped with the next, or put in."""
    made = list(proof)
    at = where % len(made)
    if how == 0:
        made[at] = flipped(made[at], where)
    elif how == 1:
        del made[at]
    elif how == 2:
        made.insert(at, made[at])
    elif how == 3:
        made.insert(at, bytes(32))
    else:
        made[at], made[at - 1] = made[at - 1], made[at]
    return made


def test_two_thousand_changed_proofs_are_refused() -> None:
    random = Random(6962)
    node = nodes_of(SHA256, HASH_OF)
    refused = {"inclusion": 0, "consistency": 0}
    while min(refused.values()) < 1000:
        size = random.randint(2, 400)
        index, how, where = random.randrange(size), random.randrange(5), random.randrange(10_000)
        whole = Frontier().extended(SHA256, HASH_OF[:size]).root(SHA256)
        path = list(prove_inclusion(SHA256, index, size, node))
        if (other := changed(path, how, where)) != path:
            with pytest.raises(LedgerError):
                verify_inclusion(SHA256, HASH_OF[index], index, size, other, whole)
            refused["inclusion"] += 1
        proof = list(prove_consistency(SHA256, index + 1, size, node))
        if proof and (other := changed(proof, how, where)) != proof:
            with pytest.raises(LedgerError):
                verify_consistency(SHA256, index + 1, root(SHA256, HASH_OF[: index + 1]), size, whole, other)
            refused["consistency"] += 1


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 200), st.data())
def test_a_proof_holds_for_its_leaf_place_size_and_roots_alone(size: int, data: st.DataObject) -> None:
    node = nodes_of(SHA256, HASH_OF)
    index, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 255))
    whole = root(SHA256, HASH_OF[:size])
    path = prove_inclusion(SHA256, index, size, node)
    wrong: list[Callable[[], None]] = [
        lambda: verify_inclusion(SHA256, flipped(HASH_OF[index], bit), index, size, path, whole),
        lambda: verify_inclusion(SHA256, HASH_OF[index], index ^ 1, size, path, whole),
        lambda: verify_inclusion(SHA256, HASH_OF[index], index + 2**62, 2**63 - 1, path, whole),
        lambda: verify_inclusion(SHA256, HASH_OF[index], index, size, path, flipped(whole, bit)),
        lambda: verify_inclusion(SM3, HASH_OF[index], index, size, path, whole),
    ]
    old = data.draw(st.integers(1, size - 1))
    was = root(SHA256, HASH_OF[:old])
    proof = prove_consistency(SHA256, old, size, node)
    wrong += [
        lambda: verify_consistency(SHA256, old, flipped(was, bit), size, whole, proof),
        lambda: verify_consistency(SHA256, old, was, size, flipped(whole, bit), proof),
        lambda: verify_consistency(SHA256, size, whole, old, was, proof),
        lambda: verify_consistency(SHA256, old, was, MAX_SIZE, whole, proof),
    ]
    for verify in wrong:
        with pytest.raises(LedgerError):
            verify()


def test_a_proof_of_the_largest_tree_is_as_short_as_it_is_deep() -> None:
    """Lengths are known before anything is hashed: one hash more than the tree is deep is refused."""
    leaf = SHA256.leaf(b"")
    with pytest.raises(LedgerError, match="it has to have 63"):
        verify_inclusion(SHA256, leaf, 0, MAX_SIZE, [leaf] * 100_000, leaf)
    with pytest.raises(LedgerError, match="another root"):
        verify_inclusion(SHA256, leaf, 0, MAX_SIZE, [leaf] * 63, leaf)
    with pytest.raises(LedgerError, match="it has to have 63"):
        verify_consistency(SHA256, MAX_SIZE - 1, leaf, MAX_SIZE, leaf, [leaf] * 100_000)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 60), max_size=8))
def test_a_frontier_survives_its_bytes_at_any_point(steps: list[int]) -> None:
    frontier, done = Frontier(), 0
    for step in steps:
        frontier = Frontier.from_bytes(frontier.to_bytes()).extended(SHA256, HASH_OF[done : done + step])
        done += step
        assert frontier.size == done
        assert len(frontier.to_bytes()) == 8 + 32 * done.bit_count()
    assert frontier.root(SHA256) == naive_root(SHA256, HASH_OF[:done])
