"""Whatever is changed in a sealed log or its files is found, and found where."""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from hengliu.ledger.keys import SHA256_ED25519
from hengliu.ledger.leaf import FIELDS, LoggedRecord
from hengliu.ledger.offsets import offsets_origin
from hengliu.ledger.sealing import LedgerKeys, LogState, log_name, offsets_of, seal
from hengliu.ledger.tiles import new_bundles, new_tiles
from hengliu.ledger.verifying import FINDINGS, Finding, PartitionCheck, verify
from hengliu.ports.log import Headers, Slice, TopicKind, TopicPartition, TopicSpec
from hengliu.ports.tiles import CHECKPOINT
from infra.local_log import LocalLog
from infra.tile_files import TileFiles
from tests.ledger.test_sealer import TPS, keys, records, run_until, sealer_of

KEYS = LedgerKeys(SHA256_ED25519, "city.example/ledger", bytes(range(32)))
NAME = "weighings-0"
SIZE = 600
"""Two full tiles and a partial one."""


@dataclass(frozen=True)
class Stored:
    """A log in memory with its offsets, and the files that were published of it."""

    records: tuple[tuple[int, LoggedRecord], ...]
    files: dict[tuple[str, str], bytes]

    def read(self, prefix: str, path: str) -> bytes | None:
        return self.files.get((prefix, path))


def logged(n: int) -> LoggedRecord:
    value = b'{"mass_kg":%d}' % n if n % 50 else b"x" * 3_000
    headers = Headers(
        1_000 + n, "weighing.measured", principal="gate", enterprise="m01", site=f"s{n % 3}", division="150303",
        known_at=n, upstream="intake-0", origin=f"o/{n}", raw="aa" * 40,
    )  # fmt: skip
    return LoggedRecord("weighings", 0, b"wb-%d" % (n % 7), value, headers)


@pytest.fixture(scope="module")
def whole() -> Stored:
    return sealed_log()


def sealed_log() -> Stored:
    found = tuple((n * 3 + n // 100, logged(n)) for n in range(SIZE))
    files: dict[tuple[str, str], bytes] = {}
    state = LogState(KEYS.origin(NAME), KEYS.suite.name)
    at = 0
    for count in (1, 200, 255, 144):
        part = found[at : at + count]
        at += count
        rows = [r for _, r in part]
        sealed = seal(KEYS, NAME, state, rows, [o for o, _ in part], Stored((), files).read)
        state = sealed.state
        for prefix, tree in sealed.trees.items():
            files |= {(prefix, path): data for path, data in tree.files.items()}
            files[prefix, CHECKPOINT] = tree.state.checkpoint
            for full in tree.filled:
                for name in [name for name in files if name[0] == prefix and name[1].startswith(f"{full}.p/")]:
                    del files[name]
    assert at == SIZE
    return Stored(found, files)


def check(stored: Stored, size: int = 37) -> list[Finding]:
    """Fed in slices of some size, which makes no difference."""
    origin = KEYS.origin(NAME)
    found = PartitionCheck(
        NAME, KEYS.suite.hash, KEYS.signer(origin).verifier, KEYS.signer(offsets_origin(origin)).verifier, stored.read
    )
    for at in range(0, len(stored.records), size):
        part = stored.records[at : at + size]
        rows = [r for _, r in part]
        found.feed(
            Slice(
                "weighings", 0, 0, 0, [o for o, _ in part], [r.key for r in rows], [r.value for r in rows],
                [r.headers for r in rows],
            )
        )  # fmt: skip
    return found.finish()


def said(findings: Sequence[Finding]) -> list[tuple[str, dict[str, object]]]:
    return [(one.code, dict(one.parameters)) for one in findings]


@pytest.mark.parametrize("size", [1, 37, 256, 1_000])
def test_what_was_sealed_has_no_findings(whole: Stored, size: int) -> None:
    assert check(whole, size) == []


def test_what_lies_behind_the_checkpoint_is_left_alone(whole: Stored) -> None:
    more = (*whole.records, (99_999, logged(1)))
    assert check(replace(whole, records=more)) == []


def changed(record: LoggedRecord, name: str) -> LoggedRecord:
    if name == "partition":
        return record  # the partition is where it was read from
    if name in ("topic", "key", "value"):
        if name == "topic":
            return record
        return replace(record, **{name: getattr(record, name) + b"!"})
    old = getattr(record.headers, name)
    return replace(
        record, headers=msgspec.structs.replace(record.headers, **{name: old + 1 if isinstance(old, int) else old + "!"})
    )


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("topic", "partition")])
def test_each_field_of_one_record_is_covered_and_named(whole: Stored, name: str) -> None:
    rows = list(whole.records)
    offset, record = rows[300]
    rows[300] = (offset, changed(record, name))
    found = check(replace(whole, records=tuple(rows)))
    assert said(found) == [("record-altered", {"rank": 300, "offset": offset, "field": name})]


def test_an_offset_that_was_changed_is_found(whole: Stored) -> None:
    rows = list(whole.records)
    offset, record = rows[300]
    rows[300] = (offset + 1, record)
    assert said(check(replace(whole, records=tuple(rows)))) == [
        ("offset-altered", {"rank": 300, "offset": offset + 1, "sealed": offset})
    ]


@pytest.mark.parametrize("rank", [0, 255, 300, SIZE - 1])
def test_a_record_that_is_gone_is_found_and_hides_nothing_behind_it(whole: Stored, rank: int) -> None:
    rows = list(whole.records)
    offset, _ = rows.pop(rank)
    wanted: list[tuple[str, dict[str, object]]] = [("record-missing", {"rank": rank, "offset": offset})]
    if rank < 400:
        at, record = rows[400]
        rows[400] = (at, changed(record, "value"))
        wanted.append(("record-altered", {"rank": 401, "offset": at, "field": "value"}))
    assert said(check(replace(whole, records=tuple(rows)))) == wanted


def test_a_record_that_was_put_in_is_found(whole: Stored) -> None:
    rows = list(whole.records)
    rows.insert(300, (rows[300][0] - 1, logged(5_000)))
    assert said(check(replace(whole, records=tuple(rows)))) == [("record-extra", {"offset": rows[300][0]})]


def test_two_records_that_changed_places_are_found(whole: Stored) -> None:
    rows = list(whole.records)
    (a, first), (b, second) = rows[300], rows[301]
    rows[300], rows[301] = (a, second), (b, first)
    found = check(replace(whole, records=tuple(rows)))
    assert {one.parameters["rank"] for one in found} == {300, 301}


def damaged(whole: Stored, name: tuple[str, str], at: int, bit: int = 1) -> Stored:
    data = bytearray(whole.files[name])
    data[at] ^= bit
    return replace(whole, files={**whole.files, name: bytes(data)})


def test_a_tile_is_found_with_the_hash_that_is_wrong(whole: Stored) -> None:
    found = check(damaged(whole, (NAME, "tile/0/001"), 40 * 32 + 5))
    assert said(found) == [("tile-altered", {"path": f"{NAME}/tile/0/001", "number": 40})]
    assert said(check(damaged(whole, (NAME, "tile/1/000.p/2"), 5))) == [
        ("tile-altered", {"path": f"{NAME}/tile/1/000.p/2", "number": 0})
    ]


def covered(whole: Stored) -> list[tuple[str, str]]:
    """The files that the newest checkpoints speak of. Partial ones of earlier checkpoints may stay, and nobody needs them."""
    runs = whole.files[offsets_of(NAME), CHECKPOINT].splitlines()[1]
    names = []
    for prefix, size in ((NAME, SIZE), (offsets_of(NAME), int(runs))):
        names += [(prefix, tile.path) for tile in new_tiles(0, size)]
        names += [(prefix, bundle.path) for bundle in new_bundles(0, size)]
        names.append((prefix, CHECKPOINT))
    return names


def test_each_file_is_covered(whole: Stored) -> None:
    """Changed, gone or cut."""
    for name in covered(whole):
        path = f"{name[0]}/{name[1]}"
        found = check(damaged(whole, name, len(whole.files[name]) // 2))
        assert found, path
        gone = check(replace(whole, files={n: data for n, data in whole.files.items() if n != name}))
        assert found, path
        assert any(path in str(one.parameters) for one in gone), path
        cut = check(replace(whole, files={**whole.files, name: whole.files[name][:-1]}))
        assert cut, path


def test_another_checkpoint_is_not_believed(whole: Stored) -> None:
    other = LedgerKeys(SHA256_ED25519, KEYS.name, bytes(32 - 1) + b"\x05")
    note = whole.files[NAME, CHECKPOINT]
    from hengliu.ledger.checkpoint import open_checkpoint, sign_checkpoint

    checkpoint = open_checkpoint(note, KEYS.signer(KEYS.origin(NAME)).verifier).checkpoint
    forged = sign_checkpoint(checkpoint, other.signer(KEYS.origin(NAME))).to_bytes()
    assert [one.code for one in check(replace(whole, files={**whole.files, (NAME, CHECKPOINT): forged}))] == ["checkpoint"]


def test_a_root_that_is_not_of_these_records_is_found(whole: Stored) -> None:
    """Signed by the right key, over another root."""
    from hengliu.ledger.checkpoint import Checkpoint, sign_checkpoint

    note = sign_checkpoint(Checkpoint(KEYS.origin(NAME), SIZE, bytes(32)), KEYS.signer(KEYS.origin(NAME))).to_bytes()
    assert said(check(replace(whole, files={**whole.files, (NAME, CHECKPOINT): note}))) == [("root", {"size": SIZE})]


FLIPS = 150
"""``make flips`` does 10,000."""


def flips(whole: Stored, count: int, rng: random.Random) -> Iterator[tuple[str, Callable[[], Stored]]]:
    """One random bit of a record's key, value, header, offset or time, or of a file."""
    names = covered(whole)
    for _ in range(count):
        if rng.random() < 0.5:
            rank = rng.randrange(SIZE)
            yield f"record {rank}", lambda rank=rank: _flipped(whole, rank, rng)  # type: ignore[misc]
        else:
            name = rng.choice(names)
            at, bit = rng.randrange(len(whole.files[name])), 1 << rng.randrange(8)
            yield f"{name} byte {at}", lambda name=name, at=at, bit=bit: damaged(whole, name, at, bit)  # type: ignore[misc]


def _flipped(whole: Stored, rank: int, rng: random.Random) -> Stored:
    rows = list(whole.records)
    offset, record = rows[rank]
    what = rng.choice(["offset", "key", "value", *Headers.__struct_fields__])
    if what == "offset":
        offset ^= 1 << rng.randrange(12)
    elif what in ("key", "value"):
        data = bytearray(getattr(record, what))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        record = replace(record, key=bytes(data)) if what == "key" else replace(record, value=bytes(data))
    else:
        old = getattr(record.headers, what)
        if isinstance(old, int):
            new: object = old ^ 1 << rng.randrange(40)
        else:
            text = bytearray(old.encode())
            text[rng.randrange(len(text))] ^= 1 << rng.randrange(6)  # stays ASCII
            new = text.decode()
        record = replace(record, headers=msgspec.structs.replace(record.headers, **{what: new}))
    rows[rank] = (offset, record)
    rows.sort(key=lambda row: row[0])
    return replace(whole, records=tuple(rows))


def test_any_flipped_bit_is_found(whole: Stored) -> None:
    for where, make in flips(whole, FLIPS, random.Random(5)):
        assert check(make(), 200), where


def test_findings_have_words() -> None:
    parameters = dict.fromkeys(("rank", "offset", "field", "sealed", "path", "number", "size", "reason"), 7)
    for code in FINDINGS:
        words = Finding("log", code, parameters).words
        assert words.zh
        assert words.en


async def test_a_real_log_is_verified_whole_and_its_end_is_missed(tmp_path: Path) -> None:
    store = TileFiles(tmp_path / "ledger")
    async with LocalLog.open(tmp_path / "log.sqlite") as log:
        await log.create_topics([TopicSpec("weighings", TopicKind.CANONICAL, len(TPS))])
        for n in range(4):
            await log.append("weighings", 0, records(n * 100, 100))
            await log.append("weighings", 1, records(n * 10, 10))
            await run_until(sealer_of(log, store), log)
        told: list[tuple[int, int]] = []
        assert await verify(log, keys(), TPS, store.read, lambda done, total: told.append((done, total))) == []
        assert told[-1] == (440, 440)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
    async with LocalLog.open(tmp_path / "other.sqlite") as other:
        await other.create_topics([TopicSpec("weighings", TopicKind.CANONICAL, len(TPS))])
        await other.append("weighings", 0, records(0, 100))
        found = await verify(other, keys(), [TopicPartition("weighings", 0)], store.read)
        assert [one.code for one in found if one.code == "record-missing"] == ["record-missing"] * 300
    assert log_name(*TPS[0]) == NAME
    assert offsets_of(NAME) == f"{NAME}/offsets"


def main(count: int, seed: int) -> int:
    """``python -m tests.ledger.test_verifying --flips 10000``: the long form."""
    whole, began = sealed_log(), time.monotonic()
    codes: Counter[str] = Counter()
    missed = []
    for number, (where, make) in enumerate(flips(whole, count, random.Random(seed)), 1):
        found = check(make(), 600)
        codes.update({one.code for one in found})
        if not found:
            missed.append(where)
        if number % 1_000 == 0:
            print(f"{number:,} of {count:,} flips, {len(missed)} not found, {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{count:,} flips in {time.monotonic() - began:.0f} s: not found {missed or 'none'}; said: {dict(codes.most_common())}"
    )
    return bool(missed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    raise SystemExit(main(given.flips, given.seed))
