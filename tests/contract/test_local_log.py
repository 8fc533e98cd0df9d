"""What the local log promises beyond the contract: durability, one writer, readers in other processes, its layout."""

import asyncio
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ports.log import Append, Fenced, Headers, LogUnavailable, Record, TaskState, TopicKind, TopicPartition, TopicSpec
from infra.local_log import LocalLog, LogFormat, LogLocked, LogReadOnly
from infra.local_log.codec import HEADER_FIELDS, MAX_ROW_RECORDS, decode, encode
from infra.log_guards import ALL_GUARDS, STEPS
from tests.contract.event_log_support import LocalBed, make_topic, read_until, record, task, values, values_of

ROOT = Path(__file__).resolve().parents[2]

texts = st.text(max_size=20)
record_headers = st.builds(
    Headers,
    received=st.integers(0, 2**50),
    type=texts,
    principal=texts,
    enterprise=texts,
    site=texts,
    division=texts,
    known_at=st.integers(0, 2**50),
    upstream=texts,
    origin=texts,
    raw=texts,
)
records = st.builds(Record, st.binary(max_size=20), st.binary(max_size=50) | st.just(b"\n"), record_headers)


class TestLayout:
    def test_columns_are_the_headers_fields(self) -> None:
        """A field added to Headers must be added to the end of HEADER_FIELDS, or stored rows are read into wrong fields."""
        assert Headers.__struct_fields__ == HEADER_FIELDS

    @given(st.lists(records, min_size=1, max_size=20) | st.builds(lambda r, n: [r] * n, records, st.integers(1, 20)))
    @settings(max_examples=200, deadline=None)
    def test_a_row_gives_back_what_was_put_in(self, given_records: list[Record]) -> None:
        row = encode(given_records)
        keys, values_, headers = decode(row.count, row.plain, row.meta, row.val)
        assert [Record(k, v, h) for k, v, h in zip(keys, values_, headers, strict=True)] == given_records
        assert row.plain == (not any(b"\n" in r.value for r in given_records))

    def test_constant_columns_are_stored_once(self) -> None:
        same = [record("v", received=7)] * 1000
        assert len(encode(same).meta) < 4200  # 4 bytes of length each, and the rest once

    async def test_a_long_append_is_cut_into_rows(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            tp = await make_topic(log, local_bed)
            count = MAX_ROW_RECORDS * 2 + 5
            end = await log.append(tp.topic, 0, [record(str(i)) for i in range(count)])
            assert end == count  # no hole inside
            found = await log.read_range(tp, 0, end)
            assert list(found.values) == [str(i).encode() for i in range(count)]
            middle = await log.read_range(tp, MAX_ROW_RECORDS - 2, MAX_ROW_RECORDS + 2)
            assert list(middle.offsets) == list(range(MAX_ROW_RECORDS - 2, MAX_ROW_RECORDS + 2))
        with apsw.Connection(str(local_bed.path), flags=apsw.SQLITE_OPEN_READONLY) as connection:
            assert [n for (n,) in connection.execute("SELECT n FROM batch ORDER BY pos")] == [MAX_ROW_RECORDS] * 2 + [5]
        connection.close()

    async def test_the_file_is_as_declared(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            await make_topic(log, local_bed)
        connection = apsw.Connection(str(local_bed.path))
        assert connection.pragma("page_size") == 16384
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("integrity_check") == "ok"
        connection.close()
        # Behind 3.51.2: before it, a checkpoint racing a commit could corrupt the file.
        assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)

    async def test_another_file_is_refused(self, tmp_path: Path) -> None:
        foreign = tmp_path / "other.db"
        connection = apsw.Connection(str(foreign))
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 100)
        for path in (foreign, tmp_path / "text.db"):
            with pytest.raises(LogFormat, match="不是本版本的日志文件"):
                await LocalLog.open(path)
            with pytest.raises(LogFormat):
                await LocalLog.open_read_only(path)

    async def test_concurrent_appends_share_transactions_and_keep_their_own_positions(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            tp = await make_topic(log, local_bed)
            ends = await asyncio.gather(*(log.append(tp.topic, 0, [record(str(i))]) for i in range(200)))
            assert len(set(ends)) == 200
            found = await log.read_range(tp, 0, max(ends))
            by_offset = dict(zip(found.offsets, found.values, strict=True))
            assert [by_offset[end - 1] for end in ends] == [str(i).encode() for i in range(200)]
        connection = apsw.Connection(str(local_bed.path))
        rows = [n for (n,) in connection.execute("SELECT n FROM batch")]
        connection.close()
        assert len(rows) < 100


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 1), st.lists(st.integers(0, 1), max_size=3), st.integers(0, 4)),
        st.tuples(st.just("append"), st.integers(0, 1), st.integers(0, 1), st.integers(1, 30)),
        st.tuples(st.just("zombie"), st.integers(0, 1)),
        st.tuples(st.just("poll"), st.integers(1, 12)),
        st.tuples(st.just("seek"), st.integers(0, 1), st.integers(0, 60)),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


@given(OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_any_history_equals_a_model(operations: list[tuple[Any, ...]]) -> None:
    """Commits of two tasks, appends, zombies, partial polls, seeks and reopenings, in any order, beside plain lists."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_history(Path(directory) / "log.db", operations))


async def _history(path: Path, operations: list[tuple[Any, ...]]) -> None:
    topic, tps = "t", [TopicPartition("t", p) for p in (0, 1)]
    model: list[list[tuple[int, bytes]]] = [[], []]
    states: list[dict[bytes, bytes]] = [{}, {}]
    consumed = [dict.fromkeys(tps, 0) for _ in (0, 1)]
    number = itertools.count()

    def written(p: int, count: int, end: int, made: list[Record]) -> None:
        floor = model[p][-1][0] + 2 if model[p] else 0  # behind the hole of the commit before
        assert end - count >= floor
        model[p] += [(end - count + i, r.value) for i, r in enumerate(made)]

    log = await LocalLog.open(path)
    await log.create_topics([TopicSpec(topic, TopicKind.CANONICAL, 2)])
    sessions = [await log.open_task(task(n)) for n in (0, 1)]
    reader = await log.open_reader(dict.fromkeys(tps, 0))
    at = dict.fromkeys(tps, 0)
    for operation in [*operations, ("reopen",)]:
        match operation:
            case ("commit", n, partitions, entries):
                made = {p: [record(str(next(number))) for _ in range(p + 1)] for p in partitions}
                changes = {b"%d" % i: None if i == 3 else b"%d" % next(number) for i in range(entries)}
                consumed[n][tps[0]] += 1
                outputs = [Append(topic, p, part) for p, part in made.items()]
                ends = await sessions[n].commit(outputs, changes, {tps[0]: consumed[n][tps[0]]})
                for p, part in made.items():
                    written(p, len(part), ends[tps[p]], part)
                states[n] |= {key: value for key, value in changes.items() if value is not None}
                for key in [key for key, value in changes.items() if value is None]:
                    states[n].pop(key, None)
            case ("append", p, _, count):
                made_ = [record(f"{next(number)}\n") for _ in range(count)]
                written(p, count, await log.append(topic, p, made_), made_)
            case ("zombie", n):
                old, sessions[n] = sessions[n], await log.open_task(task(n))
                with pytest.raises(Fenced):
                    await old.commit([Append(topic, 0, [record("never")])], {b"never": b""}, {tps[0]: 99})
            case ("poll", most):
                slices = await reader.poll(most, 0)
                assert sum(map(len, slices)) <= most
                for found in slices:
                    wanted = [r for r in model[found.partition] if r[0] >= at[found.tp]][: len(found)]
                    assert list(zip(found.offsets, found.values, strict=True)) == wanted
                    at[found.tp] = found.next_position
            case ("seek", p, position):
                at[tps[p]] = position
                reader.seek(tps[p], position)
            case ("reopen",):
                await log.close()
                log = await LocalLog.open(path)
                sessions = [await log.open_task(task(n)) for n in (0, 1)]
                for n in (0, 1):
                    positions = {tps[0]: consumed[n][tps[0]]} if consumed[n][tps[0]] else {}
                    assert await sessions[n].restore() == TaskState(positions, states[n])
                reader = await log.open_reader(at)
    for p, tp in enumerate(tps):
        found = await log.read_range(tp, 0, 10_000)
        assert list(zip(found.offsets, found.values, strict=True)) == model[p]
        assert (await log.end_positions([tp]))[tp] == (model[p][-1][0] + 2 if model[p] else 0)
    await log.close()


class TestDurability:
    """fsync before the answer, seen from outside."""

    SCRIPT = """
        import asyncio, os, sys
        from dataclasses import replace
        from pathlib import Path
        from hengliu.ports.log import Append, Headers, Record, TaskId, TopicKind, TopicSpec
        from infra.local_log import LocalLog
        from infra.log_guards import ALL_GUARDS, STEPS

        async def main():
            guards = replace(ALL_GUARDS, sync=sys.argv[2] == "sync")
            async with LocalLog.open(Path(sys.argv[1]), guards=guards) as log:
                await log.create_topics([TopicSpec("t", TopicKind.CANONICAL, 1)])
                session = await log.open_task(TaskId("g", 0))
                for i in range(5):
                    records = [Record(b"k", b"payload-%d" % i, Headers(1, "t"))]
                    os.write(1, b"ASK%d" % i)
                    if i % 2:
                        await log.append("t", 0, records)
                    else:
                        await session.commit([Append("t", 0, records)], {b"s": b"%d" % i}, {})
                    os.write(1, b"ANSWER%d" % i)

        asyncio.run(main())
    """

    def _trace(self, directory: Path, how: str) -> list[str]:
        strace = shutil.which("strace")
        assert strace is not None, "strace is needed: apt-get install strace"
        script, trace = directory / "script.py", directory / "trace"
        script.write_text(textwrap.dedent(self.SCRIPT))
        command = [strace, "-f", "-y", "-s", "64", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", str(trace)]
        command += [sys.executable, str(script), str(directory / "log.db"), how]
        subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, timeout=60)
        return trace.read_text().splitlines()

    def _unsynced(self, lines: list[str]) -> list[int]:
        """Requests between whose asking and answering no sync of the -wal ended behind the last write to it."""
        bad = []
        for i in range(5):
            ask = next(n for n, line in enumerate(lines) if f'"ASK{i}"' in line)
            answer = next(n for n, line in enumerate(lines) if f'"ANSWER{i}"' in line)
            between = lines[ask:answer]
            writes = [n for n, line in enumerate(between) if re.search(r"pwrite64\(\d+<[^>]*-wal>", line)]
            # A call that another thread interrupts is printed in two lines, and counts from where it began.
            syncs = [n for n, line in enumerate(between) if re.search(r"f(data)?sync\(\d+<[^>]*-wal>", line)]
            ended = [n for n, line in enumerate(between) if re.search(r"sync(\(| resumed).*= 0$", line)]
            if not (writes and syncs and ended and syncs[-1] > writes[-1] and ended[-1] >= syncs[-1]):
                bad.append(i)
        return bad

    def test_an_answer_leaves_after_the_log_reached_the_disk(self, tmp_path: Path) -> None:
        assert self._unsynced(self._trace(tmp_path, "sync")) == []

    def test_guard_sync_off_answers_before(self, tmp_path: Path) -> None:
        assert self._unsynced(self._trace(tmp_path, "no")) == [0, 1, 2, 3, 4]


class TestOneWriter:
    async def test_a_second_process_is_told_in_both_languages(self, local_bed: LocalBed) -> None:
        async with local_bed.open():
            with pytest.raises(LogLocked) as refusal:
                await LocalLog.open(local_bed.path)
            assert "正由另一个进程使用" in str(refusal.value)
            assert "is in use by another process" in str(refusal.value)
            assert str(local_bed.path) in str(refusal.value)
            script = f"""
import asyncio
from pathlib import Path
from infra.local_log import LocalLog

async def main():
    await LocalLog.open(Path({str(local_bed.path)!r}))

asyncio.run(main())
"""
            other = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
            _, said = await other.communicate()
            assert other.returncode == 1
            assert b"LogLocked" in said
        async with local_bed.open():  # given up when closed
            pass

    async def test_a_log_that_was_closed_answers_no_more(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            tp = await make_topic(log, local_bed)
            session = await log.open_task(task())
            reader = await log.open_reader({tp: 0})
            waiting = asyncio.create_task(reader.poll(10, 60_000))
            await asyncio.sleep(0.01)
        with pytest.raises(LogUnavailable):
            await waiting
        with pytest.raises(LogUnavailable):
            await session.commit([], {b"k": b"v"}, {})
        with pytest.raises(LogUnavailable):
            await log.read_range(tp, 0, 1)


class TestOtherProcess:
    async def test_a_read_only_log_follows_the_writer(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            tp = await make_topic(log, local_bed)
            session = await log.open_task(task())
            await session.commit([Append(tp.topic, 0, [record("a")])], {}, {})
            async with LocalLog.open_read_only(local_bed.path) as other:
                assert [s.name for s in await other.topics()] == [tp.topic]
                reader = await other.open_reader({tp: 0})
                assert values(await read_until(reader, 1)) == [b"a"]
                for i in range(3):
                    waiting = asyncio.create_task(reader.poll(10, 10_000))
                    await asyncio.sleep(0.01)
                    await session.commit([Append(tp.topic, 0, [record(str(i))])], {}, {})
                    assert values(await waiting) == [str(i).encode()]
                assert await other.end_positions([tp]) == await log.end_positions([tp])
                # A topic that came later is found when it is asked for.
                later = TopicSpec("later", TopicKind.DERIVED, 1)
                await log.create_topics([later])
                await log.append("later", 0, [record("x")])
                assert await values_of(other, TopicPartition("later", 0), 1) == [b"x"]

    async def test_a_read_only_log_refuses_every_write(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            tp = await make_topic(log, local_bed)
        async with LocalLog.open_read_only(local_bed.path) as other:  # also when nobody writes
            for write in (
                other.append(tp.topic, 0, [record("x")]),
                other.open_task(task()),
                other.create_topics([TopicSpec("new", TopicKind.DERIVED, 1)]),
            ):
                with pytest.raises(LogReadOnly, match="只读方式"):
                    await write

    async def test_there_must_be_a_log_to_read(self, tmp_path: Path) -> None:
        path = tmp_path / "none.db"
        with pytest.raises(LogUnavailable):
            await LocalLog.open_read_only(path)
        with pytest.raises(LogUnavailable):
            await LocalLog.open_read_only(path)  # the first attempt made none either


class TestFailure:
    async def test_a_full_disk_refuses_and_recovers(self, local_bed: LocalBed) -> None:
        """SQLITE_FULL is provoked by a page limit: nothing of the failing commit is visible, smaller ones go on."""
        async with local_bed.open() as log:
            assert isinstance(log, LocalLog)
            tp = await make_topic(log, local_bed)
            session = await log.open_task(task())
            assert log._store is not None
            connection = log._store._c

            def limit(pages: int) -> None:
                connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

            loop = asyncio.get_running_loop()
            await loop.run_in_executor(log._writer, limit, 20)
            big = [record(b"x" * 100_000) for _ in range(20)]
            small = log.append(tp.topic, 1, [record("small")])
            results = await asyncio.gather(
                session.commit([Append(tp.topic, 0, big)], {b"k": b"v"}, {tp: 1}), small, return_exceptions=True
            )
            assert isinstance(results[0], LogUnavailable)
            assert results[1] == 1
            assert await session.restore() == TaskState()
            await loop.run_in_executor(log._writer, limit, 1_000_000)
            await session.commit([Append(tp.topic, 0, big)], {b"k": b"v"}, {tp: 1})
            assert len(await values_of(log, tp, 20)) == 20

    async def test_a_cancelled_commit_leaves_the_log_usable(self, local_bed: LocalBed) -> None:
        async with local_bed.open() as log:
            tp = await make_topic(log, local_bed)
            session = await log.open_task(task())
            pending = asyncio.create_task(session.commit([Append(tp.topic, 0, [record("?")])], {}, {}))
            await asyncio.sleep(0)
            pending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pending
            again = await log.open_task(task())
            with pytest.raises(Fenced):
                await session.commit([Append(tp.topic, 0, [record("zombie")])], {}, {})
            await again.commit([Append(tp.topic, 0, [record("after")])], {}, {})
            found = await values_of(log, tp, 1)
            assert found in ([b"?", b"after"], [b"after"])


class TestProtocol:
    def test_guards_are_all_on_unless_somebody_says_otherwise(self) -> None:
        assert all(getattr(ALL_GUARDS, name) for name in ALL_GUARDS.__slots__)

    def test_the_document_names_every_step_guard_and_test(self) -> None:
        document = (ROOT / "docs/protocols/commit.md").read_text()
        assert tuple(re.findall(r"^\| \d \| `(\d-[a-z]+)`", document, re.MULTILINE)) == STEPS
        assert re.findall(r"^\| `([a-z_]+)` \|", document, re.MULTILINE) == list(ALL_GUARDS.__slots__)
        tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*/test_*.py"))
        for name in re.findall(r"`(test_guard_[a-z_]+)`", document):
            assert f"def {name}(" in tests
