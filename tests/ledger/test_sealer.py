"""The sealing task on a real log and real files: it publishes what a recomputation from the log has, whenever it dies."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.keys import SHA256_ED25519, SM3_SM2, Suite
from hengliu.ledger.leaf import LoggedRecord, leaf_bytes
from hengliu.ledger.merkle import prove_consistency, root, verify_consistency
from hengliu.ledger.offsets import checked_runs, offsets_origin
from hengliu.ledger.sealer import STEPS, Sealer, SealingPolicy
from hengliu.ledger.sealing import LedgerKeys, LogState, log_name, offsets_of, seal
from hengliu.ledger.tiles import Bundle, Tile, bundle_entries, nodes_of_tiles
from hengliu.ports.faults import Faults, no_faults
from hengliu.ports.log import CLOCK_TYPE, Append, EventLog, Headers, Record, TaskId, TopicKind, TopicPartition, TopicSpec
from hengliu.ports.tiles import CHECKPOINT
from infra.local_log import LocalLog
from infra.tile_files import TileFiles

SECRET = bytes(range(32))
TPS = [TopicPartition("weighings", 0), TopicPartition("weighings", 1)]
AT_ONCE = SealingPolicy(interval_ms=0, quiet_ms=0)


def keys(suite: Suite = SHA256_ED25519) -> LedgerKeys:
    return LedgerKeys(suite, "city.example/ledger", SECRET)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    async with LocalLog.open(tmp_path / "log.sqlite") as opened:
        await opened.create_topics([TopicSpec("weighings", TopicKind.CANONICAL, len(TPS))])
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> TileFiles:
    return TileFiles(tmp_path / "ledger")


def records(first: int, count: int, type_: str = "weighing.measured") -> list[Record]:
    return [
        Record(b"wb-%d" % (n % 7), b'{"mass_kg":%d}' % n, Headers(1_000 + n, type_, site=f"s{n % 3}"))
        for n in range(first, first + count)
    ]


class Died(Exception):
    pass


async def run_until(sealer: Sealer, log: EventLog, tps: Sequence[TopicPartition] = TPS) -> None:
    """Run it until it has sealed what is in the log now; what it raises is raised here."""
    ends = await log.end_positions(tps)
    running = asyncio.create_task(sealer.run())
    async with asyncio.timeout(20):
        while not running.done():
            progress = sealer.progress()
            if progress and all(progress[tp] >= end for tp, end in ends.items()):
                break
            await asyncio.sleep(0.005)
    await sealer.stop()
    await running


def sealer_of(log: EventLog, store: TileFiles, suite: Suite = SHA256_ED25519, faults: Faults = no_faults) -> Sealer:
    return Sealer(log, store, keys(suite), TPS, policy=AT_ONCE, faults=faults)


def published(store: TileFiles, tp: TopicPartition, suite: Suite = SHA256_ED25519) -> Checkpoint:
    name = log_name(*tp)
    note = store.read(name, CHECKPOINT)
    assert note is not None
    return open_checkpoint(note, keys(suite).signer(keys().origin(name)).verifier).checkpoint


def entries_of(store: TileFiles, place: str, size: int) -> list[bytes]:
    found: list[bytes] = []
    for index in range((size + 255) // 256):
        bundle = Bundle(index, min(256, size - index * 256))
        data = store.read(place, bundle.path)
        assert data is not None, bundle.path
        found += bundle_entries(bundle, data)
    return found


def tile(store: TileFiles, place: str, named: Tile) -> bytes:
    data = store.read(place, named.path)
    if data is None:
        data = store.read(place, named.full.path)
    assert data is not None, named.path
    return data


async def assert_published_whole(log: EventLog, store: TileFiles, tp: TopicPartition, suite: Suite = SHA256_ED25519) -> None:
    """Tree, tiles, bundles and index of offsets are what the log says, computed without any of the sealing's code."""
    h, name = suite.hash, log_name(*tp)
    piece = await log.read_range(tp, 0, (await log.end_positions([tp]))[tp])
    leaves = [
        leaf_bytes(h, LoggedRecord(tp.topic, tp.partition, key, value, headers))
        for key, value, headers in zip(piece.keys, piece.values, piece.headers, strict=True)
    ]
    checkpoint = published(store, tp, suite)
    assert checkpoint.size == len(leaves)
    assert checkpoint.root == root(h, map(h.leaf, leaves))
    assert entries_of(store, name, checkpoint.size) == leaves
    nodes = nodes_of_tiles(h, checkpoint.size, lambda named: tile(store, name, named))
    assert [nodes(0, n) for n in range(len(leaves))] == [h.leaf(leaf) for leaf in leaves]
    index_note = store.read(offsets_of(name), CHECKPOINT)
    assert index_note is not None
    key = keys(suite).signer(offsets_origin(keys().origin(name))).verifier
    index = open_checkpoint(index_note, key).checkpoint
    runs = entries_of(store, offsets_of(name), index.size)
    assert index.root == root(h, map(h.leaf, runs))
    assert [offset for run in checked_runs(runs) for offset in run.offsets] == list(piece.offsets)


@pytest.mark.parametrize("suite", [SHA256_ED25519, SM3_SM2], ids=lambda suite: suite.name)
async def test_a_partition_is_published_as_its_records_and_offsets_are(log: EventLog, store: TileFiles, suite: Suite) -> None:
    """Over full tiles and partial ones, holes in the offsets, and several runs of the task."""
    first = 0
    for count in (1, 3, 252, 1, 300, 40):
        await log.append("weighings", 0, records(first, count))
        await log.append("weighings", 1, records(first, 2))
        first += count
        await run_until(sealer_of(log, store, suite), log)
    for tp in TPS:
        await assert_published_whole(log, store, tp, suite)


async def test_offsets_of_commits_have_holes_and_ranks_have_none(log: EventLog, store: TileFiles) -> None:
    session = await log.open_task(TaskId("intake", 0))
    for n in range(5):
        await session.commit([Append("weighings", 0, records(n * 3, 3))], {}, {})
        await run_until(sealer_of(log, store), log)
    await session.close()
    piece = await log.read_range(TPS[0], 0, (await log.end_positions(TPS))[TPS[0]])
    assert list(piece.offsets) != list(range(len(piece)))
    await assert_published_whole(log, store, TPS[0])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sealing", [1, 3])
async def test_dying_after_a_step_forks_and_loses_nothing(log: EventLog, store: TileFiles, step: str, sealing: int) -> None:
    """At its first or third sealing. Whatever was published before and after belongs to one history."""
    seen: list[Checkpoint] = []
    count = 0

    def dying(now: str) -> None:
        nonlocal count
        count += now == step
        if count == sealing:
            raise Died

    first = 0
    died = 0
    for size in (200, 100, 300, 5):
        await log.append("weighings", 0, records(first, size))
        first += size
        try:
            await run_until(sealer_of(log, store, faults=dying), log)
        except Died:
            died += 1
            count += 1  # only once
        if store.read("weighings-0", CHECKPOINT) is not None:
            seen.append(published(store, TPS[0]))
    assert died == 1
    await run_until(sealer_of(log, store), log)
    await assert_published_whole(log, store, TPS[0])
    last = published(store, TPS[0])
    h = SHA256_ED25519.hash
    nodes = nodes_of_tiles(h, last.size, lambda named: tile(store, "weighings-0", named))
    for one in seen:
        verify_consistency(h, one.size, one.root, last.size, last.root, prove_consistency(h, one.size, last.size, nodes))


@pytest.mark.logs_errors
async def test_a_damaged_edge_halts_its_log_alone(log: EventLog, store: TileFiles) -> None:
    for p in (0, 1):
        await log.append("weighings", p, records(0, 3))
    await run_until(sealer_of(log, store), log)
    edge = Tile(0, 0, 3).path
    damaged = bytearray(store.read("weighings-0", edge) or b"")
    damaged[5] ^= 1
    store.write({("weighings-0", edge): bytes(damaged)})
    for p in (0, 1):
        await log.append("weighings", p, records(3, 3))
    sealer = sealer_of(log, store)
    await run_until(sealer, log, TPS[1:])
    assert {name: error.fault for name, error in sealer.halted.items()} == {"weighings-0": "tile-edge"}
    assert published(store, TPS[0]).size == 3
    await assert_published_whole(log, store, TPS[1])


@pytest.mark.logs_errors
async def test_a_lost_edge_halts_its_log(log: EventLog, store: TileFiles) -> None:
    await log.append("weighings", 0, records(0, 3))
    await run_until(sealer_of(log, store), log)
    store.drop_partials("weighings-0", Tile(0, 0).path)
    await log.append("weighings", 0, records(3, 3))
    sealer = sealer_of(log, store)
    await run_until(sealer, log, TPS[1:])
    while not sealer.halted:
        await run_until(sealer, log, TPS[1:])
    assert sealer.halted["weighings-0"].fault == "tile-missing"


@pytest.mark.logs_errors
async def test_it_refuses_to_go_on_below_what_was_signed(log: EventLog, store: TileFiles, tmp_path: Path) -> None:
    """Another log under the same files, as after restoring an old backup of the log."""
    await log.append("weighings", 0, records(0, 3))
    await run_until(sealer_of(log, store), log)
    async with LocalLog.open(tmp_path / "other.sqlite") as other:
        await other.create_topics([TopicSpec("weighings", TopicKind.CANONICAL, len(TPS))])
        await other.append("weighings", 0, records(0, 2))
        sealer = sealer_of(other, store)
        await run_until(sealer, other, TPS[1:])
        assert sealer.halted["weighings-0"].fault == "sealing-behind"
    assert published(store, TPS[0]).size == 3


@pytest.mark.parametrize("failing", ["write", "publish"])
async def test_a_disk_that_was_full_delays_and_forks_nothing(
    log: EventLog, store: TileFiles, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fails three times, before or after its work is half done, and then has room again."""
    real, left = getattr(store, failing), [3]

    def full(*arguments: object) -> None:
        if left[0]:
            left[0] -= 1
            if left[0] == 1 and failing == "write":
                files = dict(arguments[0])  # type: ignore[call-overload]
                real(dict(list(files.items())[:2]))
            raise OSError(28, "No space left on device")
        real(*arguments)

    await log.append("weighings", 0, records(0, 300))
    monkeypatch.setattr(store, failing, full)
    await run_until(sealer_of(log, store), log)
    assert left == [0]
    await assert_published_whole(log, store, TPS[0])


async def test_marks_of_the_clock_wait_and_hold_nothing_back(log: EventLog, store: TileFiles) -> None:
    marks = [Record(b"", b"", Headers(5, CLOCK_TYPE))]
    await log.append("weighings", 0, marks)
    slow = Sealer(log, store, keys(), TPS, policy=SealingPolicy(interval_ms=0, quiet_ms=3_600_000))
    await run_until(slow, log)
    assert store.read("weighings-0", CHECKPOINT) is None
    await log.append("weighings", 0, [*marks, *records(0, 1)])
    await run_until(Sealer(log, store, keys(), TPS, policy=SealingPolicy(interval_ms=0, quiet_ms=3_600_000)), log)
    await assert_published_whole(log, store, TPS[0])


@pytest.mark.logs_errors
async def test_another_name_or_suite_is_another_log(log: EventLog, store: TileFiles) -> None:
    await log.append("weighings", 0, records(0, 3))
    await run_until(sealer_of(log, store), log)
    sealer = Sealer(log, store, LedgerKeys(SHA256_ED25519, "other.example", SECRET), TPS, policy=AT_ONCE)
    await run_until(sealer, log, TPS[1:])
    assert sealer.halted["weighings-0"].fault == "sealing-origin"


def test_files_are_whole_and_partial_ones_go(store: TileFiles, tmp_path: Path) -> None:
    store.write({("a-0", "tile/0/000.p/3"): b"x" * 96, ("a-0", "tile/0/000.p/4"): b"x" * 128})
    store.drop_partials("a-0", "tile/0/000")
    store.drop_partials("a-0", "tile/0/000")
    assert store.read("a-0", "tile/0/000.p/3") is None
    assert store.read("a-0", "tile/0/000") is None
    store.write({("a-0", "tile/0/000"): b"y", ("a-0", "tile/0/000.p/5"): b"z"})
    assert store.read("a-0", "tile/0/000.p/5") == b"z"
    store.publish({"a-0": b"one"})
    store.publish({"a-0": b"two"})
    assert store.read("a-0", CHECKPOINT) == b"two"
    assert not list((tmp_path / "ledger").rglob(".*"))


def test_offsets_that_do_not_rise_are_refused() -> None:
    state = LogState("city.example/ledger/a-0", SHA256_ED25519.name, last_offset=7)
    one = LoggedRecord("a", 0, b"", b"", Headers(1, "t"))
    with pytest.raises(LedgerError) as refused:
        seal(keys(), "a-0", state, [one], [7], lambda prefix, path: None)
    assert refused.value.fault == "offsets-order"
