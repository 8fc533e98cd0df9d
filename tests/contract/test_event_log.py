"""The event log's contract: one suite, every adapter. What an adapter promises beyond it is tested beside it."""

import asyncio
import itertools
import os
import random
from dataclasses import replace

import pytest

from hengliu.ports.log import (
    CLOCK_TYPE,
    Append,
    Fenced,
    Headers,
    LogError,
    LogUnavailable,
    Record,
    RecordTooLarge,
    TaskId,
    TaskState,
    TopicKind,
    TopicMismatch,
    TopicPartition,
    TopicSpec,
    UnknownPartition,
)
from infra.log_guards import ALL_GUARDS
from tests.contract.event_log_support import (
    KafkaBed,
    LocalBed,
    end_after,
    make_topic,
    read_until,
    record,
    task,
    values,
    values_of,
)

Bed = LocalBed | KafkaBed


class Crash(Exception):
    """Raised by a hook where a process would have died."""


def crash_at(step: str):  # type: ignore[no-untyped-def]
    """A hook that crashes at ``step`` while ``armed`` is set."""

    class Hook:
        armed = False

        def __call__(self, at: str) -> None:
            if self.armed and at == step:
                raise Crash(step)

    return Hook()


class TestCommit:
    async def test_outputs_state_and_positions_become_visible_together(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            other = TopicPartition(tp.topic, 1)
            session = await log.open_task(task())
            assert await session.restore() == TaskState()
            ends = await session.commit(
                [Append(tp.topic, 0, [record("a"), record("b")]), Append(tp.topic, 1, [record("c")])],
                {b"k": b"v"},
                {other: 7},
            )
            assert ends == {tp: 2, other: 1}
            assert await values_of(log, tp, 2) == [b"a", b"b"]
            assert await values_of(log, other, 1) == [b"c"]
            assert await session.restore() == TaskState({other: 7}, {b"k": b"v"})

    async def test_a_commit_that_dies_before_its_end_leaves_nothing(self, bed: Bed) -> None:
        hook = crash_at("4-written")
        async with bed.open(hook=hook) as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [record("kept")])], {b"k": b"1"}, {tp: 1})
            hook.armed = True
            with pytest.raises((Crash, LogUnavailable)):
                await session.commit([Append(tp.topic, 0, [record("lost")])], {b"k": b"2"}, {tp: 2})
            hook.armed = False
            session = await log.open_task(task())
            assert await session.restore() == TaskState({tp: 1}, {b"k": b"1"})
            await session.commit([Append(tp.topic, 0, [record("again")])], {b"k": b"2"}, {tp: 2})
            assert await values_of(log, tp, 2) == [b"kept", b"again"]

    async def test_guard_transaction_off_shows_outputs_without_their_state(self, bed: Bed) -> None:
        """The same death, the guard off: the output is visible, its position is not, so it will be made again."""
        hook = crash_at("between")
        async with bed.open(replace(ALL_GUARDS, transaction=False), hook) as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            hook.armed = True
            with pytest.raises((Crash, LogUnavailable)):
                await session.commit([Append(tp.topic, 0, [record("doubled")])], {b"k": b"1"}, {tp: 1})
            hook.armed = False
            session = await log.open_task(task())
            assert await session.restore() == TaskState()
            await session.commit([Append(tp.topic, 0, [record("doubled")])], {b"k": b"1"}, {tp: 1})
            assert await values_of(log, tp, 2) == [b"doubled", b"doubled"]

    async def test_positions_are_merged(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            other = TopicPartition(tp.topic, 1)
            session = await log.open_task(task())
            await session.commit([], {}, {tp: 3, other: 5})
            await session.commit([], {}, {tp: 4})
            await session.commit([], {b"unrelated": b"x"}, {})
            assert (await session.restore()).positions == {tp: 4, other: 5}
            session = await log.open_task(task())
            await session.commit([], {}, {other: 6})  # merged even where nobody asked for the state first
            assert (await session.restore()).positions == {tp: 4, other: 6}

    async def test_entries_are_upserted_and_deleted(self, bed: Bed) -> None:
        async with bed.open() as log:
            session = await log.open_task(task())
            await session.commit([], {b"a": b"1", b"b": b"2", b"\xff\x00": b""}, {})
            await session.commit([], {b"a": None, b"b": b"3", b"never": None}, {})
            expected = TaskState({}, {b"b": b"3", b"\xff\x00": b""})
            assert await session.restore() == expected
            assert await (await log.open_task(task())).restore() == expected

    async def test_large_entries_come_back_whole_also_after_shrinking_and_growing(self, bed: Bed) -> None:
        big, bigger = os.urandom(1_000_000), os.urandom(2_500_000)
        async with bed.open() as log:
            session = await log.open_task(task())
            for value in (big, bigger, b"small", big):
                await session.commit([], {b"blob": value, b"beside": b"x"}, {})
                session = await log.open_task(task())
                assert (await session.restore()).entries == {b"blob": value, b"beside": b"x"}
            await session.commit([], {b"blob": None}, {})
            assert (await (await log.open_task(task())).restore()).entries == {b"beside": b"x"}

    async def test_tasks_do_not_see_each_other(self, bed: Bed) -> None:
        async with bed.open() as log:
            one, two, other = [await log.open_task(t) for t in (TaskId("vehicle", 0), TaskId("vehicle", 1), TaskId("meter", 0))]
            await one.commit([], {b"k": b"one"}, {})
            await two.commit([], {b"k": b"two"}, {})
            assert (await one.restore()).entries == {b"k": b"one"}
            assert (await two.restore()).entries == {b"k": b"two"}
            assert await other.restore() == TaskState()

    async def test_everything_survives_reopening(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            before = await session.commit([Append(tp.topic, 0, [record("a")])], {b"k": b"v"}, {tp: 1})
            end = await end_after(log, tp, before[tp])
        async with bed.open() as log:
            assert await log.end_positions([tp]) == {tp: end}
            assert await values_of(log, tp, 1) == [b"a"]
            session = await log.open_task(task())
            assert await session.restore() == TaskState({tp: 1}, {b"k": b"v"})
            after = await session.commit([Append(tp.topic, 0, [record("b")])], {}, {})
            assert after[tp] > end
            assert await values_of(log, tp, 2) == [b"a", b"b"]

    async def test_concurrent_commits_of_many_tasks(self, bed: Bed) -> None:
        tasks, rounds = 6, 12
        async with bed.open() as log:
            tp = await make_topic(log, bed, partitions=2)

            async def run(number: int) -> None:
                session = await log.open_task(task(number))
                for i in range(rounds):
                    outputs = [Append(tp.topic, i % 2, [record(f"{number}/{i}/{j}") for j in range(number + 1)])]
                    await session.commit(outputs, {b"round": b"%d" % i}, {tp: i + 1})

            await asyncio.gather(*(run(number) for number in range(tasks)))
            each = rounds * tasks * (tasks + 1) // 4
            found = [await values_of(log, TopicPartition(tp.topic, p), each) for p in (0, 1)]
            for number in range(tasks):
                for p in (0, 1):
                    mine = [v for v in found[p] if v.startswith(b"%d/" % number)]
                    assert mine == [b"%d/%d/%d" % (number, i, j) for i in range(p, rounds, 2) for j in range(number + 1)]
                state = await (await log.open_task(task(number))).restore()
                assert state == TaskState({tp: rounds}, {b"round": b"%d" % (rounds - 1)})
            assert sum(map(len, found)) == rounds * tasks * (tasks + 1) // 2

    async def test_a_failing_commit_hurts_no_other(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            old = await log.open_task(task(0))
            sessions = [await log.open_task(task(n)) for n in range(4)]
            large = record(b"x" * (bed.max_record_bytes + 1))
            results = await asyncio.gather(
                sessions[0].commit([Append(tp.topic, 0, [record("zero")])], {}, {}),
                sessions[1].commit([Append(tp.topic, 0, [record("never"), large])], {b"k": b"v"}, {}),
                old.commit([Append(tp.topic, 0, [record("never")])], {}, {}),
                sessions[2].commit([Append("no-such-topic", 0, [record("never")])], {b"k": b"v"}, {}),
                sessions[3].commit([Append(tp.topic, 0, [record("three")])], {}, {}),
                return_exceptions=True,
            )
            kinds = [type(r) for r in results if isinstance(r, BaseException)]
            assert kinds == [RecordTooLarge, Fenced, UnknownPartition]
            assert sorted(await values_of(log, tp, 2)) == [b"three", b"zero"]
            assert await sessions[1].restore() == TaskState()
            # Too large is refused before anything is written: the session stays usable.
            await sessions[1].commit([Append(tp.topic, 0, [record("one")])], {}, {})
            assert sorted(await values_of(log, tp, 3)) == [b"one", b"three", b"zero"]

    async def test_a_closed_session_writes_nothing(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            await session.close()
            with pytest.raises(LogError):
                await session.commit([Append(tp.topic, 0, [record("late")])], {}, {})
            await log.append(tp.topic, 0, [record("other")])
            assert await values_of(log, tp, 1) == [b"other"]


class TestFencing:
    async def test_an_older_session_is_fenced_and_nothing_of_it_becomes_visible(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            old = await log.open_task(task())
            await old.commit([Append(tp.topic, 0, [record("a")])], {b"k": b"1"}, {tp: 1})
            new = await log.open_task(task())
            assert await new.restore() == TaskState({tp: 1}, {b"k": b"1"})
            for _ in range(2):
                with pytest.raises(Fenced):
                    await old.commit([Append(tp.topic, 0, [record("zombie")])], {b"k": b"zombie"}, {tp: 99})
            await new.commit([Append(tp.topic, 0, [record("b")])], {b"k": b"2"}, {tp: 2})
            with pytest.raises(Fenced):
                await old.commit([], {}, {})
            assert await values_of(log, tp, 2) == [b"a", b"b"]
            assert await new.restore() == TaskState({tp: 2}, {b"k": b"2"})

    async def test_guard_fencing_off_lets_a_zombie_write(self, bed: Bed) -> None:
        async with bed.open(replace(ALL_GUARDS, fencing=False)) as log:
            tp = await make_topic(log, bed)
            old = await log.open_task(task())
            new = await log.open_task(task())
            await new.commit([Append(tp.topic, 0, [record("a")])], {}, {tp: 1})
            await old.commit([Append(tp.topic, 0, [record("a")])], {}, {tp: 1})
            assert await values_of(log, tp, 2) == [b"a", b"a"]

    async def test_what_the_predecessor_committed_is_in_the_restored_state(self, bed: Bed) -> None:
        """A take-over of a running task: whatever the old one managed to commit, the new one knows of."""
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            old = await log.open_task(task())
            await old.commit([Append(tp.topic, 0, [record("1")])], {}, {tp: 1})
            new = await log.open_task(task())
            with pytest.raises(Fenced):
                await old.commit([Append(tp.topic, 0, [record("2")])], {}, {tp: 2})
            done = (await new.restore()).positions[tp]
            await new.commit([Append(tp.topic, 0, [record(str(done + 1))])], {}, {tp: done + 1})
            assert await values_of(log, tp, 2) == [b"1", b"2"]

    async def test_guard_fence_before_restore_off_doubles(self, bed: Bed) -> None:
        """State read before the predecessor was shut out is older than its last commit."""
        async with bed.open(replace(ALL_GUARDS, fence_before_restore=False)) as log:
            tp = await make_topic(log, bed)
            old = await log.open_task(task())
            await old.commit([Append(tp.topic, 0, [record("1")])], {}, {tp: 1})
            new = await log.open_task(task())
            await old.commit([Append(tp.topic, 0, [record("2")])], {}, {tp: 2})
            # On Kafka even the first commit may not have been readable.
            done = (await new.restore()).positions.get(tp, 0)
            assert done < 2
            await new.commit([Append(tp.topic, 0, [record(str(done + 1))])], {}, {tp: done + 1})
            assert await values_of(log, tp, 3) == [b"1", b"2", str(done + 1).encode()]


class TestPositions:
    async def test_offsets_are_sparse(self, bed: Bed) -> None:
        """Each commit wastes an offset, so code that counts by subtracting is wrong on every adapter."""
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            for i in range(5):
                last = await session.commit([Append(tp.topic, 0, [record(f"{i}a"), record(f"{i}b")])], {}, {})
            end = await end_after(log, tp, last[tp])
            found = await log.read_range(tp, 0, end)
            assert len(found) == 10
            assert end >= 15
            steps = [b - a for a, b in itertools.pairwise(found.offsets)]
            assert min(steps) == 1
            assert steps.count(1) == 5  # within a commit
            assert all(step >= 2 for step in steps[1::2])  # between commits

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_caught_up_is_position_equal_to_end(self, bed: Bed, bulk: bool) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [record("a")])], {}, {})
            last = await session.commit([Append(tp.topic, 0, [record("b")])], {}, {})
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            slices = await read_until(reader, 2)
            assert values(slices) == [b"a", b"b"]
            assert slices[0].position == 0
            assert slices[-1].next_position >= last[tp] == slices[-1].offsets[-1] + 1
            end = await end_after(log, tp, last[tp])
            assert await reader.poll(10, 300) == []
            assert reader.position(tp) == end > slices[-1].offsets[-1] + 1
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_reading_goes_on_at_any_position(self, bed: Bed, bulk: bool) -> None:
        """A stored position may be a record's, or in a hole behind it: both go on with the next record."""
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            for i in range(6):
                last = await session.commit([Append(tp.topic, 0, [record(str(3 * i + j)) for j in range(3)])], {}, {})
            end = await end_after(log, tp, last[tp])
            whole = await log.read_range(tp, 0, end)
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            for start in range(end):
                wanted = [v for o, v in zip(whole.offsets, whole.values, strict=True) if o >= start]
                reader.seek(tp, start)
                assert reader.position(tp) == start
                assert values(await read_until(reader, len(wanted), 0.0 if not wanted else 20.0)) == wanted
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_a_seek_while_a_poll_waits_is_where_reading_goes_on(self, bed: Bed, bulk: bool) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            await log.append(tp.topic, 0, [record(str(i)) for i in range(5)])
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            await read_until(reader, 5)
            for start in (0, 3, 1):
                waiting = asyncio.create_task(reader.poll(100, 20_000))
                await asyncio.sleep(0.03)
                reader.seek(tp, start)
                await asyncio.sleep(0.15)
                await log.append(tp.topic, 0, [record("later")])  # it wakes who waits without looking
                slices = [*await waiting]
                slices += await read_until(reader, 1, 0.5)
                assert slices[0].position == start
                assert values(slices)[: 5 - start] == [str(i).encode() for i in range(start, 5)]
                assert [s.position for s in slices[1:]] == [s.next_position for s in slices[:-1]]
                await read_until(reader, 1, 0.0)
            await reader.close()

    async def test_read_range_with_holes(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            for i in range(4):
                last = await session.commit([Append(tp.topic, 0, [record(str(2 * i)), record(str(2 * i + 1))])], {}, {})
            end = await end_after(log, tp, last[tp])
            whole = await log.read_range(tp, 0, end)
            assert (whole.topic, whole.partition, whole.position, whole.next_position) == (*tp, 0, end)
            pairs = list(zip(whole.offsets, whole.values, strict=True))
            for start in range(0, end, 2):
                for stop in range(start, end + 1, 3):
                    part = await log.read_range(tp, start, stop)
                    assert list(zip(part.offsets, part.values, strict=True)) == [p for p in pairs if start <= p[0] < stop]
                    assert (part.position, part.next_position) == (start, stop)
                    assert len(part.keys) == len(part.headers) == len(part)

    async def test_end_of_an_empty_partition_is_zero(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            assert await log.end_positions([tp]) == {tp: 0}
            assert await values_of(log, tp, 0) == []

    async def test_append_answers_the_position_after_the_last_record(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            for batch in (["a"], ["b", "c", "d"], ["e"]):
                position = await log.append(tp.topic, 0, [record(v) for v in batch])
                found = await log.read_range(tp, 0, position)
                assert found.values[-1] == batch[-1].encode()
                assert found.offsets[-1] == position - 1
            assert await values_of(log, tp, 5) == [b"a", b"b", b"c", b"d", b"e"]

    async def test_concurrent_appends_keep_their_own_positions(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            ends = await asyncio.gather(
                *(log.append(tp.topic, 0, [record(f"{i}/{j}") for j in range(1 + i % 3)]) for i in range(100))
            )
            found = await log.read_range(tp, 0, max(ends))
            at = dict(zip(found.offsets, found.values, strict=True))
            assert len(found) == sum(1 + i % 3 for i in range(100))
            for i, end in enumerate(ends):
                n = 1 + i % 3
                assert [at[o] for o in range(end - n, end)] == [b"%d/%d" % (i, j) for j in range(n)]


class TestReading:
    @pytest.mark.parametrize("bulk", [False, True])
    async def test_nothing_uncommitted_is_read(self, bed: Bed, bulk: bool) -> None:
        """A reader that waits across a commit that dies sees what was committed before and after, and nothing of it."""
        hook = crash_at("4-written")
        async with bed.open(hook=hook) as log:
            tp = await make_topic(log, bed)
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [record("before")])], {}, {})
            hook.armed = True
            with pytest.raises((Crash, LogUnavailable)):
                await session.commit([Append(tp.topic, 0, [record("never")])], {}, {})
            hook.armed = False
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [record("after")])], {}, {})
            found = values(await read_until(reader, 2))
            found += values(await reader.poll(10, 200))
            assert found == [b"before", b"after"]
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_order_within_a_partition(self, bed: Bed, bulk: bool) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            chance = random.Random(7)
            sent: list[bytes] = []
            while len(sent) < 500:
                batch = [record(f"{len(sent) + i}") for i in range(chance.randint(1, 60))]
                sent += [r.value for r in batch]
                await session.commit([Append(tp.topic, 0, batch)], {}, {})
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            slices = await read_until(reader, len(sent))
            assert values(slices) == sent
            offsets = [o for found in slices for o in found.offsets]
            assert offsets == sorted(set(offsets))
            assert all(a.next_position == b.position for a, b in itertools.pairwise(slices))
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_poll_gives_no_more_than_asked(self, bed: Bed, bulk: bool) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            for p in (0, 1):
                await session.commit([Append(tp.topic, p, [record(f"{p}/{i}") for i in range(50)])], {}, {})
            reader = await log.open_reader({tp: 0, TopicPartition(tp.topic, 1): 0}, bulk=bulk)
            found: list[bytes] = []
            for _ in range(200):
                slices = await reader.poll(7, 200)
                assert sum(map(len, slices)) <= 7
                assert all(len(s) > 0 for s in slices)
                found += values(slices)
                if len(found) >= 100:
                    break
            for p in (0, 1):
                assert [v for v in found if v.startswith(b"%d/" % p)] == [b"%d/%d" % (p, i) for i in range(50)]
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_poll_is_empty_after_its_time(self, bed: Bed, bulk: bool) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await reader.poll(10, 150) == []
            assert 0.14 <= loop.time() - began < 5
            assert await reader.poll(10, 0) == []
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_a_waiting_reader_wakes_soon(self, bed: Bed, bulk: bool) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [record("first")])], {}, {})
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            await read_until(reader, 1)
            loop = asyncio.get_running_loop()
            waits: list[float] = []
            for i in range(5):
                waiting = asyncio.create_task(reader.poll(10, 20_000))
                await asyncio.sleep(0.05)
                await session.commit([Append(tp.topic, 0, [record(str(i))])], {}, {})
                committed = loop.time()
                assert values(await waiting) == [str(i).encode()]
                waits.append((loop.time() - committed) * 1000)
            assert sorted(waits)[2] < bed.wake_ms
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_one_poll_over_many_partitions(self, bed: Bed, bulk: bool) -> None:
        partitions, topics = 10, 6
        async with bed.open() as log:
            names = [bed.name(f"many-{i}") for i in range(topics)]
            await log.create_topics([TopicSpec(name, TopicKind.EXCHANGE, partitions) for name in names])
            reader = await log.open_reader({TopicPartition(n, p): 0 for n in names for p in range(partitions)}, bulk=bulk)
            session = await log.open_task(task())
            touched = [TopicPartition(names[0], 3), TopicPartition(names[2], 9), TopicPartition(names[5], 0)]
            for round_ in range(3):
                outputs = [Append(tp.topic, tp.partition, [record(f"{round_}/{tp.partition}")]) for tp in touched]
                await session.commit(outputs, {}, {})
                slices = await read_until(reader, len(touched))
                assert sorted((s.tp, s.values[0]) for s in slices) == sorted(
                    (tp, b"%d/%d" % (round_, tp.partition)) for tp in touched
                )
            assert await reader.poll(10, 100) == []
            await reader.close()

    @pytest.mark.parametrize("bulk", [False, True])
    async def test_many_records_of_one_append_are_read_in_bounded_slices(self, bed: Bed, bulk: bool) -> None:
        """12 MB: more than one slice may hold, in order, nothing twice."""
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            body = b"x" * 1200
            await session.commit([Append(tp.topic, 0, [record(b"%06d" % i + body) for i in range(10_000)])], {}, {})
            reader = await log.open_reader({tp: 0}, bulk=bulk)
            seen = 0
            while seen < 10_000:
                slices = await reader.poll(100_000, 10_000)
                assert slices
                assert sum(len(v) for v in values(slices)) <= 16 << 20
                for value in values(slices):
                    assert int(value[:6]) == seen
                    seen += 1
            await reader.close()


class TestRecords:
    async def test_bytes_are_verbatim(self, bed: Bed) -> None:
        chosen = [
            Record(b"", b"", Headers(1, CLOCK_TYPE)),
            Record(b"\xff\xfe\x00", b"\n", Headers(2, "t")),
            Record("车牌".encode(), b"\n\nline\n", Headers(3, "t")),
            Record(b"k", bytes(range(256)), Headers(4, "t")),
            Record(b"k\n", b"\xef\xbb\xbf{}", Headers(5, "t")),
            Record(b"k", b'{"a": 1.10}\r\n', Headers(6, "t")),
        ]
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, chosen)], {}, {})
            for one in chosen:  # alone too: a batch of one is stored in another way than a mixed one
                await session.commit([Append(tp.topic, 0, [one])], {}, {})
            end = await log.append(tp.topic, 0, chosen)
            found = await log.read_range(tp, 0, end)
            assert list(found.keys) == [r.key for r in chosen * 3]
            assert list(found.values) == [r.value for r in chosen * 3]
            assert list(found.headers) == [r.headers for r in chosen * 3]

    async def test_every_header_field_comes_back(self, bed: Bed) -> None:
        full = Headers(
            received=1_764_000_000_123,
            type="weighing.measured",
            principal="令牌-7",
            enterprise="911406000000000000",
            site="site/1",
            division="140602",
            known_at=1_763_999_999_000,
            upstream="exchange-3",
            origin="weighing/3/12345678901",
            raw="sha256:00ff",
        )
        assert all(getattr(full, name) for name in Headers.__struct_fields__)
        assert Headers.__struct_defaults__ == ("", "", "", "", 0, "", "", "")
        variants = [full, Headers(1, "t")]
        variants += [Headers(**{"received": 5, "type": "t", n: getattr(full, n)}) for n in Headers.__struct_fields__[2:]]
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [Record(b"k", b"v", h) for h in variants])], {}, {})
            last = await session.commit([Append(tp.topic, 0, [Record(b"k", b"v", full)] * 3)], {}, {})
            found = await log.read_range(tp, 0, last[tp])
            assert list(found.headers) == [*variants, full, full, full]

    async def test_the_largest_record_fits_and_a_larger_one_is_refused(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed)
            session = await log.open_task(task())
            fitting = record(os.urandom(bed.max_record_bytes - 1000))
            large = record(os.urandom(bed.max_record_bytes + 1))
            await session.commit([Append(tp.topic, 0, [record("a"), fitting, record("b")])], {}, {})
            with pytest.raises(RecordTooLarge):
                await session.commit([Append(tp.topic, 0, [record("c"), large])], {b"k": b"v"}, {tp: 1})
            with pytest.raises(RecordTooLarge):
                await log.append(tp.topic, 0, [large])
            assert await values_of(log, tp, 3) == [b"a", fitting.value, b"b"]
            assert await session.restore() == TaskState()


class TestTopics:
    async def test_creating_is_idempotent_and_topics_are_listed(self, bed: Bed) -> None:
        specs = [TopicSpec(bed.name("a"), TopicKind.CANONICAL, 3), TopicSpec(bed.name("b"), TopicKind.BROADCAST, 1)]
        async with bed.open() as log:
            await log.create_topics(specs)
            await log.create_topics([*specs, TopicSpec(bed.name("c"), TopicKind.DERIVED, 2)])
            listed = {spec.name: spec for spec in await log.topics()}
            assert [listed[spec.name] for spec in specs] == specs
        async with bed.open() as log:
            assert {spec.name for spec in await log.topics()} == {bed.name(n) for n in "abc"}

    @pytest.mark.parametrize("wrong", [{"partitions": 4}, {"kind": TopicKind.DERIVED}, {"partitions": 0}])
    async def test_a_differing_topic_is_refused_and_creates_nothing(self, bed: Bed, wrong: dict[str, object]) -> None:
        spec = TopicSpec(bed.name("a"), TopicKind.CANONICAL, 3)
        async with bed.open() as log:
            await log.create_topics([spec])
            with pytest.raises(TopicMismatch):
                await log.create_topics([TopicSpec(bed.name("new"), TopicKind.DERIVED, 1), replace(spec, **wrong)])  # type: ignore[arg-type]
            assert [s.name for s in await log.topics()] == [spec.name]

    async def test_unknown_partitions_are_refused(self, bed: Bed) -> None:
        async with bed.open() as log:
            tp = await make_topic(log, bed, partitions=2)
            session = await log.open_task(task())
            for missing in (TopicPartition("no-such", 0), TopicPartition(tp.topic, 2)):
                with pytest.raises(UnknownPartition):
                    await log.append(*missing, [record("x")])
                with pytest.raises(UnknownPartition):
                    await log.open_reader({missing: 0})
                with pytest.raises(UnknownPartition):
                    await log.read_range(missing, 0, 1)
                with pytest.raises(UnknownPartition):
                    await log.end_positions([missing])
                with pytest.raises(UnknownPartition):
                    await session.commit([], {}, {missing: 1})
