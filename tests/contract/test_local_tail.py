"""What readers at the end of the local log are given from memory is what stands in the file."""

import asyncio
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ports.log import Append, Headers, Record, TopicKind, TopicPartition, TopicSpec
from infra.local_log import LocalLog
from infra.local_log.tail import RECORD_BYTES, Batch, Tail
from tests.contract.event_log_support import LocalBed, make_topic, record, task

TP = TopicPartition("t", 0)


def batch(first: int, count: int, size: int = 1) -> Batch:
    records = [Record(b"k", b"v" * size, Headers(received=first + n, type="x")) for n in range(count)]
    return Batch(1, first, first + count + 1, records, count * (size + 1))


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.integers(200, 4_000),
    st.integers(0, 60),
    st.integers(1, 12),
    st.integers(1, 1_500),
)
@settings(max_examples=300)
def test_what_it_gives_is_a_run_of_whole_batches(
    counts: list[int], room: int, position: int, max_records: int, max_bytes: int
) -> None:
    tail = Tail(room)
    everything: list[tuple[int, bytes]] = []
    end = 0
    starts = set()
    for count in counts:
        new = batch(end, count)
        tail.add(new)
        starts |= {end, end - 1}
        everything += [(end + n, record.value) for n, record in enumerate(new.records)]
        end = new.end
        assert tail.size <= room
    found = tail.read(TP, 1, position, max_records, max_bytes)
    if found is None:
        return
    assert position in starts
    assert 0 < len(found) <= max_records
    offsets = list(found.offsets)
    expected = [(o, v) for o, v in everything if position <= o < found.next_position]
    assert list(zip(offsets, found.values, strict=True)) == expected
    assert found.next_position in starts | {end}


def test_the_oldest_of_all_partitions_goes_first() -> None:
    tail = Tail(3 * (RECORD_BYTES + 11))
    tail.add(batch(0, 1, 10))
    tail.add(batch(0, 1, 10)._replace(partition_id=2))
    tail.add(batch(2, 2, 10))
    assert tail.read(TP, 1, 0, 10, 10_000) is None
    assert tail.read(TP, 2, 0, 10, 10_000) is not None
    assert tail.read(TP, 1, 2, 10, 10_000) is not None


async def test_a_reader_from_memory_and_one_from_the_file_see_the_same(local_bed: LocalBed) -> None:
    """With every third commit by a task, of several records and over two partitions, so that there are holes."""
    async with local_bed.open() as log:
        tp = await make_topic(log, local_bed, partitions=2)
        other = TopicPartition(tp.topic, 1)
        behind = await log.open_reader({tp: 0, other: 0})
        session = await log.open_task(task())
        live = await log.open_reader({tp: 0, other: 0})
        seen: list[tuple[int, int, bytes, Headers]] = []
        for n in range(30):
            if n % 3:
                await log.append(tp.topic, n % 2, [record(f"{n}-{i}", received=n) for i in range(1 + n % 4)])
            else:
                await session.commit([Append(tp.topic, p, [record(f"{n}-{p}", received=n)]) for p in (0, 1)], {}, {})
            for piece in await live.poll(100, 1_000):
                seen += zip([piece.partition] * len(piece), piece.offsets, piece.values, piece.headers, strict=True)
        log._tail = Tail(0)  # type: ignore[attr-defined]  # from here on the file alone
        stored: list[tuple[int, int, bytes, Headers]] = []
        while pieces := await behind.poll(7, 10):
            for piece in pieces:
                stored += zip([piece.partition] * len(piece), piece.offsets, piece.values, piece.headers, strict=True)
        assert sorted(seen, key=lambda s: s[:2]) == sorted(stored, key=lambda s: s[:2])
        assert len(seen) == len({s[:2] for s in seen})
        assert live.position(tp) == behind.position(tp)
        await live.close()
        await behind.close()
        await session.close()


async def test_a_cancelled_poll_loses_nothing(tmp_path: Path) -> None:
    """One partition is in memory, the other only in the file: whoever is cancelled while the file is read gets both later."""
    async with LocalLog.open(tmp_path / "log.db") as log:
        await log.create_topics([TopicSpec("t", TopicKind.CANONICAL, 2)])
        await log.append("t", 1, [record("old")])
        log._tail = Tail()
        await log.append("t", 0, [record("new")])
        reader = await log.open_reader({TopicPartition("t", 0): 0, TopicPartition("t", 1): 0})
        poll = asyncio.create_task(reader.poll(100, 1_000))
        await asyncio.sleep(0)  # it has seen what is in memory and waits for the thread
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        assert poll.cancelled()
        found: set[bytes] = set()
        while pieces := await reader.poll(100, 50):
            found |= {bytes(value) for piece in pieces for value in piece.values}
        assert found == {b"old", b"new"}
        await reader.close()
