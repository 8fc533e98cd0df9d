"""Tiles and bundles: their names, what becomes new, and that any way of cutting the growth gives the same bytes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256, SM3, Hash
from hengliu.ledger.merkle import Frontier, prove_consistency, prove_inclusion, root, verify_consistency, verify_inclusion
from hengliu.ledger.tiles import (
    Bundle,
    Tile,
    bundle_bytes,
    bundle_entries,
    grow,
    grow_bundles,
    new_bundles,
    new_tiles,
    nodes_of_tiles,
    parse_path,
)
from tests.ledger.trees import HASH_OF, Store, naive_root, nodes_of


def test_paths_are_those_of_the_specification() -> None:
    # C2SP tlog-tiles, Merkle Tree: index 1234067 is x001/x234/067.
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(1, 0, 17).path == "tile/1/000.p/17"
    assert Tile(0, 1067).path == "tile/0/x001/067"
    assert Bundle(1067, 255).path == "tile/entries/x001/067.p/255"
    assert Bundle(0).path == "tile/entries/000"


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 6), st.data(), st.integers(1, 256), st.booleans())
def test_a_path_is_read_back(level: int, data: st.DataObject, width: int, entries: bool) -> None:
    index = data.draw(st.integers(0, ((1 << 63) - 1 >> 8 * (0 if entries else level)) // 256 - 1))
    named = Bundle(index, width) if entries else Tile(level, index, width)
    assert parse_path(named.path) == named


@pytest.mark.parametrize(
    "path",
    [
        "", "tile", "tile/0", "tile/0/", "tile/0/1", "tile/0/0001", "tile/00/001", "tile/-1/001", "tile/0/x000/001",
        "tile/0/001/002", "tile/0/x001", "tile/0/001.p", "tile/0/001.p/0", "tile/0/001.p/01", "tile/0/001.p/256", "tile/0/001/",
        "/tile/0/001", "tile/0/001\n", "tile/0/001.p/1\n", "tile/0/٠٠١", "tile/entry/001", "tile/data/001", "tile/0/X001/001",
        "tile/0/../001", "tile/0/x001x234/067", "tile/0/" + "x001/" * 500 + "001", "checkpoint",
    ],
)  # fmt: skip
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(LedgerError, match="Not the path of a tile"):
        parse_path(path)


@pytest.mark.parametrize(
    "path",
    ["tile/64/000", "tile/99/000", "tile/8/000", "tile/0/001.p/999", "tile/7/128", "tile/0/x999/x999/x999/x999/x999/x999/999"],
)
def test_a_path_of_a_tile_that_no_tree_has_is_refused(path: str) -> None:
    with pytest.raises(LedgerError, match="There is no tile"):
        parse_path(path)


def test_the_tiles_of_a_size_are_those_of_the_specification() -> None:
    # C2SP tlog-tiles, Partial Tiles: a tree of 70,000 and one of 256.
    tiles = new_tiles(0, 70_000)
    assert [t for t in tiles if t.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert [t for t in tiles if t.width == 256] == [*(Tile(0, n) for n in range(273)), Tile(1, 0)]
    assert new_tiles(0, 256) == [Tile(0, 0), Tile(1, 0, 1)]
    assert new_tiles(0, 0) == new_tiles(70_000, 70_000) == []
    assert new_tiles(255, 257) == [Tile(0, 0), Tile(0, 1, 1), Tile(1, 0, 1)]
    assert new_tiles(49_516_517, 49_516_586) == [Tile(0, 193_423), Tile(0, 193_424, 42), Tile(1, 755, 144)]


@pytest.mark.parametrize("h", [SHA256, SM3], ids=lambda h: h.name)
def test_a_tile_is_the_hashes_of_the_specification(h: Hash) -> None:
    """The n-th tile of level l is MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l]) for i from 0."""
    leaves = [h.leaf(b"%d" % n) for n in range(600)]
    store = Store(h)
    store.append(leaves)
    assert set(store.tiles) == set(new_tiles(0, 600))
    for tile, data in store.tiles.items():
        each = 256**tile.level
        at = [(tile.index * 256 + i) * each for i in range(tile.width)]
        assert data == b"".join(naive_root(h, leaves[start : start + each]) for start in at)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 700), max_size=12))
def test_any_cut_gives_the_same_tiles_and_state(cuts: list[int]) -> None:
    """State goes through its bytes at each cut; tiles written are exactly those that are announced as new."""
    whole = Store()
    whole.append(HASH_OF)
    store, done = Store(), 0
    for end in [*sorted(cuts), len(HASH_OF)]:
        growth = grow(SHA256, Frontier.from_bytes(store.frontier.to_bytes()), HASH_OF[done:end], store.tiles.__getitem__)
        assert list(growth.tiles) == new_tiles(done, end)
        store.tiles.update(growth.tiles)
        store.frontier, done = growth.frontier, end
    assert store.frontier == whole.frontier == Frontier().extended(SHA256, HASH_OF)
    assert whole.tiles.items() <= store.tiles.items()


def test_growth_over_three_levels_reads_only_the_edges() -> None:
    size = 65_536 + 256 + 3
    leaves = [SHA256.leaf(b"%d" % n) for n in range(size + 600)]
    first = grow(SHA256, Frontier(), leaves[:size], Store().tiles.__getitem__)
    read: list[Tile] = []

    def reading(tile: Tile) -> bytes:
        read.append(tile)
        return first.tiles[tile]

    second = grow(SHA256, first.frontier, leaves[size:], reading)
    assert read == [Tile(0, 257, 3), Tile(1, 1, 1)]
    assert second.frontier == Frontier().extended(SHA256, leaves)
    assert list(second.tiles) == new_tiles(size, size + 600)
    tiles = {**first.tiles, **second.tiles}
    whole = second.frontier.root(SHA256)
    node = nodes_of_tiles(SHA256, len(leaves), tiles.__getitem__)
    for index in (0, 65_535, 65_536, size, len(leaves) - 1):
        path = prove_inclusion(SHA256, index, len(leaves), node)
        verify_inclusion(SHA256, leaves[index], index, len(leaves), path, whole)
    proof = prove_consistency(SHA256, size, len(leaves), node)
    verify_consistency(SHA256, size, first.frontier.root(SHA256), len(leaves), whole, proof)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 700), st.data())
def test_proofs_made_from_tiles_are_those_made_from_leaves(size: int, data: st.DataObject) -> None:
    store = Store()
    store.append(HASH_OF[:size])
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    made, straight = nodes_of_tiles(SHA256, size, store.tiles.__getitem__), nodes_of(SHA256, HASH_OF)
    assert prove_inclusion(SHA256, index, size, made) == prove_inclusion(SHA256, index, size, straight)
    assert prove_consistency(SHA256, old, size, made) == prove_consistency(SHA256, old, size, straight)


def test_a_full_tile_may_stand_for_a_partial_one_that_is_gone() -> None:
    store = Store()
    store.append(HASH_OF[:100])
    store.append(HASH_OF[100:600])
    full = {tile: data for tile, data in store.tiles.items() if tile != Tile(0, 0, 100)}
    node = nodes_of_tiles(SHA256, 100, lambda tile: full.get(tile) or full[tile.full])
    path = prove_inclusion(SHA256, 99, 100, node)
    verify_inclusion(SHA256, HASH_OF[99], 99, 100, path, root(SHA256, HASH_OF[:100]))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 255), st.integers(0, 255 * 32 * 8))
def test_sealing_stops_at_a_tile_that_was_changed(size: int, bit: int) -> None:
    store = Store()
    store.append(HASH_OF[:size])
    tile = Tile(0, 0, size)
    bit %= size * 256
    data = bytearray(store.tiles[tile])
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LedgerError, match="contradicts"):
        grow(SHA256, store.frontier, HASH_OF[size : size + 1], {tile: bytes(data)}.__getitem__)


def test_what_is_repeated_after_a_crash_is_the_same() -> None:
    """Tiles were stored, the frontier was not: the same growth again writes the same bytes over them."""
    store = Store()
    store.append(HASH_OF[:300])
    growth = grow(SHA256, store.frontier, HASH_OF[300:420], store.tiles.__getitem__)
    tiles = {**store.tiles, **growth.tiles}
    assert grow(SHA256, store.frontier, HASH_OF[300:420], tiles.__getitem__) == growth


def test_tiles_are_static_files(tmp_path: Path) -> None:
    store = Store()
    for end in (100, 600):
        store.append(HASH_OF[store.frontier.size : end])
    store.write(tmp_path)
    node = nodes_of_tiles(SHA256, 600, lambda tile: (tmp_path / tile.path).read_bytes())
    verify_inclusion(SHA256, HASH_OF[42], 42, 600, prove_inclusion(SHA256, 42, 600, node), root(SHA256, HASH_OF[:600]))
    assert {parse_path(str(p.relative_to(tmp_path))) for p in tmp_path.rglob("*") if p.is_file()} == set(store.tiles)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256))
def test_a_bundle_gives_its_entries_back(entries: list[bytes]) -> None:
    assert bundle_entries(Bundle(0, len(entries)), bundle_bytes(entries)) == entries


def test_a_bundle_is_the_specifications_bytes() -> None:
    assert bundle_bytes([b"", b"ab", bytes(256)]) == b"\0\0" + b"\0\2ab" + b"\1\0" + bytes(256)
    assert bundle_entries(Bundle(0, 1), bundle_bytes([bytes(65_535)])) == [bytes(65_535)]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 600), max_size=6))
def test_any_cut_gives_the_same_bundles(cuts: list[int]) -> None:
    entries = [b"entry %d" % n for n in range(600)]
    made: dict[Bundle, bytes] = {}
    done = 0
    for end in [*sorted(cuts), 600]:
        new = grow_bundles(done, entries[done:end], made.__getitem__)
        assert list(new) == new_bundles(done, end)
        made.update(new)
        done = end
    whole = grow_bundles(0, entries, dict[Bundle, bytes]().__getitem__)
    assert whole.items() <= made.items()
    assert [entry for bundle in new_bundles(0, 600) for entry in bundle_entries(bundle, made[bundle])] == entries


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 20_000), st.integers(0, 2000))
def test_new_tiles_are_the_difference_of_all_tiles(old: int, more: int) -> None:
    new = old + more
    assert set(new_tiles(old, new)) == set(new_tiles(0, new)) - set(new_tiles(0, old))
    assert [Bundle(t.index, t.width) for t in new_tiles(old, new) if t.level == 0] == new_bundles(old, new)
