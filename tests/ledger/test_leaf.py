"""The bytes of a leaf: every stored field is in them, and no two records share them. Offsets have an index of their own."""

import dataclasses
import shutil
import subprocess

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256, SM3, Hash
from hengliu.ledger.leaf import FIELDS, LEAF_LINE, MAX_VERBATIM, LoggedRecord, leaf_bytes, leaf_hash
from hengliu.ledger.offsets import MAX_RUN, Run, checked_runs, offsets_origin, runs
from hengliu.ledger.tiles import MAX_ENTRY
from hengliu.ports.log import MAX_RECORD_BYTES, Headers

HEADERS = Headers(
    received=1_700_000_000_123, type="weighing.recorded", principal="device:32473-7", enterprise="E1", site="S1",
    division="140502", known_at=0, upstream="exchange-1", origin="weighings/0/17", raw="sha256:00",
)  # fmt: skip
RECORD = LoggedRecord("weighings", 3, b"urn:dev:org:32473-7", '{"煤": 1}'.encode(), HEADERS)


def read(entry: bytes) -> list[bytes | tuple[int, bytes]]:
    """The fields of a leaf, by its definition: verbatim, or length and digest."""
    assert entry.startswith(LEAF_LINE)
    at, fields = len(LEAF_LINE), []
    while at < len(entry):
        digested = entry[at : at + 1] == b"#"
        colon = entry.index(b":", at)
        length = int(entry[at + digested : colon])
        end = colon + 1 + (64 if digested else length)
        assert entry[end : end + 1] == b","
        body = entry[colon + 1 : end]
        fields.append((length, bytes.fromhex(body.decode())) if digested else body)
        at = end + 1
    return fields


def expected(h: Hash, record: LoggedRecord) -> list[bytes | tuple[int, bytes]]:
    """The fields of a record, in the order of ``FIELDS``, by their names."""
    made: list[bytes | tuple[int, bytes]] = []
    for name in FIELDS:
        value = getattr(record, name) if hasattr(record, name) else getattr(record.headers, name)
        data = value if isinstance(value, bytes) else str(value).encode()
        made.append((len(data), h.digest(data)) if name == "value" or len(data) > MAX_VERBATIM else data)
    return made


def test_the_fields_are_all_that_a_log_stores_but_the_offset() -> None:
    stored = {f.name for f in dataclasses.fields(LoggedRecord)} - {"headers"} | set(Headers.__struct_fields__)
    assert set(FIELDS) == stored, "a header more needs another version of the leaf"
    assert FIELDS[4:] == Headers.__struct_fields__


def test_a_leaf_as_it_is_written() -> None:
    record = LoggedRecord("weighings", 0, b"urn:a", b"{}", Headers(received=5, type="weighing.recorded"))
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # printf '{}' | sha256sum
    assert leaf_bytes(SHA256, record).decode() == (
        f"hengliu-record-v1\n9:weighings,1:0,5:urn:a,#2:{digest},1:5,17:weighing.recorded,0:,0:,0:,0:,1:0,0:,0:,0:,"
    )


@pytest.mark.parametrize(("h", "command"), [(SHA256, ["sha256sum"]), (SM3, ["openssl", "dgst", "-sm3", "-r"])])
def test_a_leaf_is_hashed_by_hand(h: Hash, command: list[str]) -> None:
    assert shutil.which(command[0]), f"{command[0]} is missing"
    told = subprocess.run(command, input=b"\0" + leaf_bytes(h, RECORD), capture_output=True, check=True).stdout
    assert told.split()[0].decode() == leaf_hash(h, RECORD).hex()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
RECORDS = st.builds(
    LoggedRecord, TEXTS, st.integers(0, 99), st.binary(max_size=30), st.binary(max_size=30),
    st.builds(Headers, received=st.integers(0, 1 << 45), type=TEXTS, principal=TEXTS, enterprise=TEXTS, site=TEXTS,
              division=TEXTS, known_at=st.integers(0, 1 << 45), upstream=TEXTS, origin=TEXTS, raw=TEXTS),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(RECORDS, st.sampled_from([SHA256, SM3]), st.sampled_from(FIELDS), st.integers(0, 3000))
def test_a_leaf_gives_its_fields_back(record: LoggedRecord, h: Hash, long: str, length: int) -> None:
    """So two records that differ in a field differ in their leaf: it is read in one way only."""
    if long == "key":
        record = dataclasses.replace(record, key=b"," * length)
    elif long in Headers.__struct_fields__ and isinstance(getattr(record.headers, long), str):
        record = dataclasses.replace(record, headers=msgspec.structs.replace(record.headers, **{long: "#" * length}))
    assert read(leaf_bytes(h, record)) == expected(h, record)


TEXT_HEADERS = [name for name in Headers.__struct_fields__ if name not in ("received", "known_at")]


@pytest.mark.parametrize("name", TEXT_HEADERS)
def test_a_header_stands_as_it_is_up_to_its_longest_and_then_as_its_digest(name: str) -> None:
    """In ASCII and not, alone and beside others that together are longer than one may be."""
    for text in ("", "x", "煤", "x" * 900, "x" * 1023, "x" * 1024, "x" * 1025, "煤" * 341, "煤" * 342, "x" * 3000):
        for others in ("", "y" * 600, "é"):
            headers = msgspec.structs.replace(HEADERS, **dict.fromkeys(TEXT_HEADERS, others) | {name: text})
            record = dataclasses.replace(RECORD, headers=headers)
            assert read(leaf_bytes(SHA256, record)) == expected(SHA256, record)


def flips(data: bytes) -> list[bytes]:
    """With each of its bits flipped."""
    bits = range(len(data) * 8)
    return [data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :] for bit in bits]


def test_each_flipped_bit_of_a_record_changes_its_leaf() -> None:
    """Every bit of key and value and of each header's text; numbers by one and by each bit."""
    leaf = leaf_hash(SHA256, RECORD)
    others = [dataclasses.replace(RECORD, key=each) for each in flips(RECORD.key)]
    others += [dataclasses.replace(RECORD, value=each) for each in flips(RECORD.value)]
    others += [dataclasses.replace(RECORD, topic="weighingt"), dataclasses.replace(RECORD, partition=2)]
    for name in Headers.__struct_fields__:
        was = getattr(HEADERS, name)
        changes: list[object] = (
            [was ^ 1 << bit for bit in range(63)] if isinstance(was, int)
            else [was[:n] + chr(ord(was[n]) ^ 1 << bit) + was[n + 1 :] for n in range(len(was)) for bit in range(7)]
        )  # fmt: skip
        others += [dataclasses.replace(RECORD, headers=msgspec.structs.replace(HEADERS, **{name: each})) for each in changes]
    texts = sum(len(getattr(HEADERS, name)) for name in TEXT_HEADERS)
    assert len(others) == 8 * len(RECORD.key + RECORD.value) + 2 + 2 * 63 + 7 * texts
    leaves = [leaf_hash(SHA256, other) for other in others]
    assert leaf not in leaves
    assert len(set(leaves)) == len(leaves)


def test_what_stands_at_a_border_stands_on_one_side() -> None:
    """Moving bytes from one field to the next is another record."""
    pairs = (("ab", "c"), ("a", "bc"), ("", "abc"), ("1:a,2", "bc"))
    headers = [msgspec.structs.replace(HEADERS, site=a, division=b) for a, b in pairs]
    assert len({leaf_hash(SHA256, dataclasses.replace(RECORD, headers=each)) for each in headers}) == 4
    digest = SHA256.digest(b"x" * 2000)
    posed = f"#2000:{digest.hex()}".encode()
    long, short = (dataclasses.replace(RECORD, key=key) for key in (b"x" * 2000, posed))
    assert leaf_hash(SHA256, long) != leaf_hash(SHA256, short)


def test_the_leaf_of_the_largest_record_fits_a_bundle() -> None:
    large = "煤" * 340_000
    headers = Headers(
        received=(1 << 63) - 1, type=large, principal=large, enterprise=large, site=large, division=large,
        known_at=(1 << 63) - 1, upstream=large, origin=large, raw=large,
    )  # fmt: skip
    assert len(leaf_bytes(SHA256, LoggedRecord(large, 1 << 30, large.encode(), bytes(MAX_RECORD_BYTES), headers))) < MAX_ENTRY
    short = "x" * MAX_VERBATIM
    headers = msgspec.structs.replace(headers, **dict.fromkeys(TEXT_HEADERS, short))
    longest = LoggedRecord(short, 1 << 30, short.encode(), bytes(9), headers)
    assert 10 * MAX_VERBATIM < len(leaf_bytes(SHA256, longest)) < MAX_ENTRY // 4


def test_a_text_that_is_no_utf8_has_no_leaf() -> None:
    with pytest.raises(LedgerError, match="Field site cannot be written"):
        leaf_bytes(SHA256, dataclasses.replace(RECORD, headers=msgspec.structs.replace(HEADERS, site="\ud800")))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 40), st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_a_run_of_offsets_is_read_back(first: int, gaps: list[int]) -> None:
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    (run,) = runs(first, offsets)
    assert Run.from_bytes(run.to_bytes()) == run
    assert (run.first_rank, run.next_rank, list(run.offsets)) == (first, first + len(gaps), offsets)


def test_runs_count_every_rank_once_and_fit_a_bundle() -> None:
    offsets = [n * 3 + n % 2 for n in range(2 * MAX_RUN + 5)]
    entries = [run.to_bytes() for run in runs(0, offsets)]
    assert max(map(len, entries)) <= MAX_ENTRY
    assert [offset for run in checked_runs(entries) for offset in run.offsets] == offsets
    assert runs(7, []) == []
    with pytest.raises(LedgerError, match="starts at 16000; it has to start at 8000"):
        list(checked_runs([entries[0], entries[2]]))
    with pytest.raises(LedgerError, match="starts at 8000"):
        list(checked_runs(entries[1:]))
    with pytest.raises(LedgerError, match="not above"):
        list(checked_runs([Run(0, (5, 6)).to_bytes(), Run(2, (6,)).to_bytes()]))


def test_every_changed_bit_of_a_run_is_refused_or_another_statement() -> None:
    """What is refused is no run at all; what is not refused has other bytes, so the index's root is another."""
    entry = Run(8, (10, 12, 500)).to_bytes()
    seen = {entry}
    for bit in range(len(entry) * 8):
        changed = bytearray(entry)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            run = Run.from_bytes(bytes(changed))
        except LedgerError:
            continue
        assert run.to_bytes() == bytes(changed)
        seen.add(run.to_bytes())
    assert len(seen) > 100


@pytest.mark.parametrize(
    "entry",
    [b"", b"hengliu-offsets-v1\n", Run(0, (1,)).to_bytes()[:-8], Run(0, (1,)).to_bytes()[:-1], Run(0, (1,)).to_bytes() + b"\0",
     b"H" + Run(0, (1,)).to_bytes()[1:], Run(0, (1,)).to_bytes() + bytes(8 * MAX_RUN)],
)  # fmt: skip
def test_what_is_no_run_is_refused(entry: bytes) -> None:
    with pytest.raises(LedgerError, match="index of offsets is damaged"):
        Run.from_bytes(entry)


def test_a_run_that_cannot_be_is_not_made() -> None:
    for first, offsets in ((0, ()), (-1, (1,)), ((1 << 63) - 1, (1,)), (0, tuple(range(MAX_RUN + 1)))):
        with pytest.raises(LedgerError, match="damaged"):
            Run(first, offsets)
    for offsets in ((1, 1), (2, 1), (-1,), (1 << 63,)):
        with pytest.raises(LedgerError, match="not above"):
            Run(0, offsets)
    assert offsets_origin("hengliu.example/ledger/weighings-0") == "hengliu.example/ledger/weighings-0/offsets"
