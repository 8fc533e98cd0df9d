"""The projection protocol under death: kill -9 after every numbered step, zombies, lost answers, and each guard switched off.

What the tables hold is compared with a recomputation over the log that shares no code with the projections. Run as a program,
this file is the process that gets killed. The kills are on the local log and chDB; the rest on ClickHouse too.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hengliu.events.catalog import Catalog
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import Append, Fenced, Headers, LogUnavailable, Record, TaskId, TaskSession, TopicPartition
from hengliu.ports.warehouse import DEDUPLICATION_WINDOW, Result, TableSchema, Warehouse, WarehouseUnavailable
from infra.chdb_warehouse import ChdbWarehouse
from infra.local_log import LocalLog
from projections.catalog import tables
from projections.migrate import migrate
from projections.projector import INTENT_KEY, STEPS, TASK, Guards, Policy, Projector, WarehouseAhead
from tests.contract.warehouse_support import Engine, clickhouse_service, engine
from tests.projections.support import PARTITIONS, T0, clock_mark, event, log_at, warehouse_at, weighing

__all__ = ["clickhouse_service", "engine"]

ROOT = Path(__file__).parents[2]
POLICY = Policy(flush_ms=5, small_wait_ms=20, small_rows=1, poll_records=7, inserts_per_second=1000, idle_commit_ms=50)
"""Several small flushes in a run, so that there is always a next one to be killed in."""
TOPICS = ("weighing", "metering", "ticket", "warning")
COMPARED = ("weighing_measured", "meter_read", "weighing_recorded", "warning")


PENDING = frozenset({"4-intended", "5-inserted-one", "5-inserted"})
"""Steps after which an intent is pending. (From the second flush on it is pending after step 3 as well: the positions of the
flush before travel with the next intent.)"""


# --- what goes in ----------------------------------------------------------------------------------------------------


def batch(number: int) -> dict[TopicPartition, list[Record]]:
    """Forty records over four topics and both partitions, two of them undecodable, one clock mark."""
    out: dict[TopicPartition, list[Record]] = {}
    for i in range(10):
        n, p = number * 10 + i, i % PARTITIONS
        time = T0 + n * 1000
        out.setdefault(TopicPartition("weighing", p), []).append(weighing(n, time, 20_000 + n))
        read = {"meter": f"em-{p}", "quantity": "electricity", "reading": "register", "value": f"{n}.{i:03}", "unit": "kWh"}
        out.setdefault(TopicPartition("metering", p), []).append(event("meter.read", str(n), time, read))
        ticket = {"enterprise": "m01", "site": "m01", "division": "150303", "plate": f"蒙C{n}", "direction": "out",
                  "gross_kg": 40_000 + n, "tare_kg": 15_000, "net_kg": 25_000 + n, "gross_time": "2026-03-01T10:00:00+08:00",
                  "tare_source": "measured", "commodity": "raw", "use": "power"}  # fmt: skip
        out.setdefault(TopicPartition("ticket", p), []).append(
            event("weighing.recorded", f"t{n}", time, ticket, source="/streams/tickets", known_at=time + 5, operator="tickets",
                  operatorversion=1, cause=str(n))
        )  # fmt: skip
        change = ("raised", "updated", "cleared")[n % 3]
        body = {"warning": f"{n // 3:032x}", "code": "overload", "severity": "high", "subject": "x",
                "parameters": {"n": str(n)}, "since": "2026-03-01T02:00:00Z"}  # fmt: skip
        out.setdefault(TopicPartition("warning", p), []).append(
            event(f"warning.{change}", f"w{n}", time, body, source="/streams/overload", known_at=time)
        )
    bad = Record(b"s", b'{"id":"bad%d","source":"s","data":{"plate":%d}}' % (number, number), Headers(T0, "weighing.measured"))
    out[TopicPartition("weighing", 0)].insert(3, bad)
    out[TopicPartition("metering", 1)].append(event("meter.read", f"bad{number}", T0, {"meter": "m"}))
    out[TopicPartition("weighing", 1)].append(clock_mark(T0 + number))
    return out


async def append(log: LocalLog, records: Mapping[TopicPartition, Sequence[Record]]) -> None:
    for tp, several in records.items():
        await log.append(tp.topic, tp.partition, several)


# --- what must come out ----------------------------------------------------------------------------------------------


async def recomputed(log: LocalLog) -> dict[str, Counter[str]]:
    """Rows of each table from the log alone: plain json, no code of the projections."""
    rows: dict[str, Counter[str]] = {name: Counter() for name in (*COMPARED, "event_refused")}
    for topic in TOPICS:
        for p in range(PARTITIONS):
            tp = TopicPartition(topic, p)
            end = (await log.end_positions([tp]))[tp]
            piece = await log.read_range(tp, 0, end)
            for offset, value, headers in zip(piece.offsets, piece.values, piece.headers, strict=True):
                if headers.type == "clock.ticked":
                    continue
                body = json.loads(value)
                if str(body["id"]).startswith("bad"):
                    rows["event_refused"][f"{topic}/{p}/{offset}"] += 1
                    continue
                table = "warning" if topic == "warning" else headers.type.replace(".", "_")
                rows[table][_expected(body, headers)] += 1
    return rows


def _expected(body: dict[str, Any], headers: Headers) -> str:
    data = body["data"]
    row = {
        "id": body["id"],
        "source": body["source"],
        "time": _moment(body["time"]),
        "known_at": _moment(datetime.fromtimestamp((headers.known_at or headers.received) / 1000, UTC).isoformat()),
        "enterprise": headers.enterprise,
        "site": headers.site,
        "division": headers.division,
        **{k: v for k, v in data.items() if not isinstance(v, dict)},
        **{k: dict(v) for k, v in data.items() if isinstance(v, dict)},
    }
    for name in ("value",):
        if name in row:
            row[name] = str(Decimal(row[name]).quantize(Decimal("0.000001")))
    for name in ("gross_time", "since"):
        if name in row:
            row[name] = _moment(row[name])
    row |= {k: body[k] for k in ("cause", "operator") if body.get(k)}
    if "warning" in row:
        row["change"] = headers.type.split(".")[1]
    return json.dumps({k: v for k, v in row.items() if v not in (None, "", {})}, sort_keys=True, ensure_ascii=False)


def _moment(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds")


_FILLED = {"operator_version", "flow", "quality", "rule_version", "commodity_assumed"}
"""Columns that a default fills where the event is silent."""


async def held(warehouse: Warehouse) -> dict[str, Counter[str]]:
    """Rows of each table as the warehouse has them, in the same form."""
    schemas = {table.name: table.schema for table in tables(Catalog())}
    out: dict[str, Counter[str]] = {}
    for name in COMPARED:
        columns = [c for c in schemas[name].content_columns if c not in _FILLED]
        result = await warehouse.query(f"SELECT {', '.join(columns)} FROM {name}")
        out[name] = Counter(_shown(row) for row in result.dicts())
    result = await warehouse.query("SELECT JSONExtractString(parameters, 'origin') AS origin FROM event_refused")
    out["event_refused"] = Counter(str(row[0]) for row in result.rows)
    return out


def _shown(row: Mapping[str, Any]) -> str:
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        if isinstance(value, datetime):
            shown[name] = value.isoformat(timespec="milliseconds")
        elif name == "parameters":
            shown[name] = json.loads(value)
        else:
            shown[name] = str(value) if isinstance(value, Decimal) else value
    return json.dumps(shown, sort_keys=True, ensure_ascii=False)


async def assert_equal(log: LocalLog, warehouse: Warehouse) -> None:
    assert await held(warehouse) == await recomputed(log)


# --- the process that dies -------------------------------------------------------------------------------------------


class Killer:
    """Fault hook that kills its process with SIGKILL at the n-th time of a step."""

    def __init__(self, step: str, times: int) -> None:
        self.step, self.left = step, times

    def __call__(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def finish(log: LocalLog, projector: Projector) -> None:
    """Run until everything in the log is readable, dead letters included, then stop."""
    task = asyncio.create_task(projector.run())
    try:
        for topic in (*TOPICS, "quarantine"):
            for p in range(PARTITIONS):
                tp = TopicPartition(topic, p)
                end = (await log.end_positions([tp]))[tp]
                last = (await log.read_range(tp, 0, end)).offsets
                waiting = asyncio.create_task(projector.wait_for(tp, last[-1] + 1 if len(last) else 0, 90))
                done, _ = await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if task in done:
                    waiting.cancel()
                    await task
                assert await waiting
    finally:
        await projector.stop()
        await asyncio.gather(task, return_exceptions=True)


async def victim(folder: Path, step: str, times: int) -> None:
    log = await LocalLog.open(folder / "log")
    warehouse = await ChdbWarehouse.open(folder / "w")
    await migrate(warehouse, tables(Catalog()))
    projector = Projector(
        log, warehouse, tables(Catalog()), PARTITIONS, SystemClock(), policy=POLICY, faults=Killer(step, times)
    )
    await finish(log, projector)
    await warehouse.close()
    await log.close()
    print(json.dumps({"settled": projector.counters.settled, "rows": projector.counters.rows}))


def run_victim(folder: Path, step: str = "never", times: int = 1) -> tuple[int, dict[str, int]]:
    """Exit status, and the counters that a process which lives to its end prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill.test_projection_protocol", str(folder), step, str(times)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("times", "steps"),
    [
        (1, (*STEPS[:-1], "1-restored", "2-settled", STEPS[-1])),
        (3, ("3-gathered", "4-intended", "5-inserted-one", "5-inserted")),
    ],
    ids=["first-time", "third-time"],
)
async def test_kill_9_after_each_step_loses_and_doubles_nothing(tmp_path: Path, times: int, steps: tuple[str, ...]) -> None:
    """One deployment dies after every step in turn, with more records written in between, so that a restart which did not
    keep the old ranges would cut others."""
    pending = False
    for number, step in enumerate(steps):
        async with log_at(tmp_path / "log") as log:
            await append(log, batch(number))
        assert run_victim(tmp_path, step, times)[0] == -signal.SIGKILL, step
        async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
            expected = await recomputed(log)
            for table, rows in (await held(warehouse)).items():
                assert rows <= expected[table], (step, table)
            state = await (await log.open_task(TASK)).restore()
        pending = step in PENDING or times > 1 or (step == "1-restored" and pending)
        assert (INTENT_KEY in state.entries) == pending, step
    status, counters = run_victim(tmp_path)
    assert status == 0
    assert counters["settled"] == pending
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
        await assert_equal(log, warehouse)
        assert sum((await recomputed(log))["weighing_measured"].values()) == 10 * len(steps)


# --- in one process: a death is an exception that nothing catches ----------------------------------------------------


class Death(Exception):
    """Thrown by a fault hook."""


def dying(step: str, times: int = 1) -> Callable[[str], None]:
    left = times

    def hook(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0:
                raise Death(step)

    return hook


@asynccontextmanager
async def both(folder: Path, engine: Engine) -> AsyncIterator[tuple[LocalLog, Warehouse]]:
    """A new log, and the engine's warehouse with nothing in it."""
    warehouse = await engine.open()
    for table in (*tables(Catalog()), "schema_migration", "projection_position"):
        await warehouse.execute(f"DROP TABLE IF EXISTS {getattr(table, 'name', table)} SYNC")
    await migrate(warehouse, tables(Catalog()))
    async with log_at(folder / "log") as log:
        yield log, warehouse
    await engine.close()


def projector(log: Any, warehouse: Any, **more: Any) -> Projector:
    return Projector(log, warehouse, tables(Catalog()), PARTITIONS, SystemClock(), **{"policy": POLICY, **more})


async def weighing_ids(warehouse: Warehouse) -> list[int]:
    result = await warehouse.query("SELECT toInt64(id) AS n FROM weighing_measured ORDER BY n")
    return [int(str(row[0])) for row in result.rows]


async def crash_between_insert_and_commit(folder: Path, engine: Engine, guards: Guards) -> list[int]:
    """Ids in the table after: insert, death before the positions are committed, more records, restart."""
    async with both(folder, engine) as (log, warehouse):
        await log.append("weighing", 0, [weighing(i, T0) for i in range(3)])
        with pytest.raises(Death):
            await projector(log, warehouse, guards=guards, faults=dying("5-inserted")).run()
        assert await weighing_ids(warehouse) == [0, 1, 2]
        await log.append("weighing", 0, [weighing(3, T0)])
        await finish(log, projector(log, warehouse, guards=guards, policy=Policy(small_wait_ms=20, inserts_per_second=1000)))
        return await weighing_ids(warehouse)


async def test_guard_intent(tmp_path: Path, engine: Engine) -> None:
    """Without the intent a restart cuts a longer range, whose token nobody has seen."""
    assert await crash_between_insert_and_commit(tmp_path / "on", engine, Guards()) == [0, 1, 2, 3]
    with pytest.raises(WarehouseAhead):  # the ranges in the rows still stop it
        await crash_between_insert_and_commit(tmp_path / "seen", engine, Guards(intent=False))
    unseen = await crash_between_insert_and_commit(tmp_path / "off", engine, Guards(intent=False, ranges=False))
    assert unseen == [0, 0, 1, 1, 2, 2, 3]


class Through:
    """A warehouse that hands everything on; what a test does on the way is in its subclasses."""

    def __init__(self, inner: Warehouse) -> None:
        self.inner = inner

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Result:
        return await self.inner.query(sql, parameters)

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        await self.inner.insert(table, data, token)


class Hanging(Through):
    """Inserts wait for ``go``."""

    def __init__(self, inner: Warehouse) -> None:
        super().__init__(inner)
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
        self.reached.set()
        await self.go.wait()
        await super().insert(table, data, token)


async def zombie_wakes(folder: Path, engine: Engine, guards: Guards) -> int:
    """A projector hangs between intent and insert while another one is opened, settles and goes on; then it wakes. How many
    rows there are too many after that."""
    async with both(folder, engine) as (log, warehouse):
        await append(log, batch(0))
        hanging = Hanging(warehouse)
        zombie = asyncio.create_task(projector(log, hanging, guards=guards).run())
        await asyncio.wait_for(hanging.reached.wait(), 10)
        await append(log, batch(1))
        await finish(log, projector(log, warehouse, guards=guards))
        hanging.go.set()
        with pytest.raises(Fenced):
            await asyncio.wait_for(zombie, 10)
        expected = await recomputed(log)
        found = await held(warehouse)
        assert all(expected[table] <= rows for table, rows in found.items())
        return sum((rows - expected[table]).total() for table, rows in found.items())


async def test_guard_token(tmp_path: Path, engine: Engine) -> None:
    """Without a token made of the ranges the insert of a zombie counts beside that of its successor."""
    assert await zombie_wakes(tmp_path / "on", engine, Guards()) == 0
    assert await zombie_wakes(tmp_path / "off", engine, Guards(token=False)) > 0


async def backup_restored_between_insert_and_commit(folder: Path, engine: Engine, guards: Guards) -> list[int]:
    """The engine forgets its tokens, as a restored backup does, while an intent is pending. Ids in the table after."""
    async with both(folder, engine) as (log, warehouse):
        await log.append("weighing", 0, [weighing(i, T0) for i in range(3)])
        with pytest.raises(Death):
            await projector(log, warehouse, faults=dying("5-inserted")).run()
        for window in (0, DEDUPLICATION_WINDOW):
            await warehouse.execute(
                f"ALTER TABLE weighing_measured MODIFY SETTING non_replicated_deduplication_window = {window}"
            )
        await finish(log, projector(log, warehouse, guards=guards))
        return await weighing_ids(warehouse)


async def older_backup_restored(folder: Path, engine: Engine, guards: Guards) -> list[int]:
    """Rows that the projector had committed are gone again. Ids in the table after a restart, and dead letters told."""
    async with both(folder, engine) as (log, warehouse):
        await append(log, batch(0))
        await finish(log, projector(log, warehouse))
        await append(log, batch(1))
        await finish(log, projector(log, warehouse))
        await warehouse.execute("TRUNCATE TABLE weighing_measured")
        made = projector(log, warehouse, guards=guards)
        await finish(log, made)
        assert made.counters.rewound == guards.ranges
        if guards.ranges:
            await assert_equal(log, warehouse)
        await finish(log, projector(log, warehouse, guards=guards))
        return await weighing_ids(warehouse)


async def test_guard_ranges(tmp_path: Path, engine: Engine) -> None:
    """Without the ranges in the rows a restored backup, whose tokens are gone, doubles; an older one loses."""
    assert await backup_restored_between_insert_and_commit(tmp_path / "a", engine, Guards()) == [0, 1, 2]
    doubled = await backup_restored_between_insert_and_commit(tmp_path / "b", engine, Guards(ranges=False))
    assert doubled == [0, 0, 1, 1, 2, 2]
    assert await older_backup_restored(tmp_path / "c", engine, Guards()) == list(range(20))
    assert await older_backup_restored(tmp_path / "d", engine, Guards(ranges=False)) == []


async def test_an_older_backup_with_an_intent_pending(tmp_path: Path, engine: Engine) -> None:
    """The intent of a table that lost rows is void: what it named is read again with the rest."""
    async with both(tmp_path, engine) as (log, warehouse):
        await append(log, batch(0))
        await finish(log, projector(log, warehouse))
        await append(log, batch(1))
        with pytest.raises(Death):
            await projector(log, warehouse, faults=dying("4-intended")).run()
        for table in ("weighing_measured", "warning"):
            await warehouse.execute(f"TRUNCATE TABLE {table}")
        made = projector(log, warehouse)
        await finish(log, made)
        assert (made.counters.settled, made.counters.rewound) == (1, 2)
        await assert_equal(log, warehouse)


async def test_a_table_that_was_dropped_is_rebuilt_from_the_log(tmp_path: Path, engine: Engine) -> None:
    async with both(tmp_path, engine) as (log, warehouse):
        for number in range(2):
            await append(log, batch(number))
            await finish(log, projector(log, warehouse))
        await warehouse.execute("DROP TABLE meter_read SYNC")
        await migrate(warehouse, tables(Catalog()))
        await finish(log, projector(log, warehouse))
        await assert_equal(log, warehouse)


async def test_a_warehouse_of_another_log_is_refused(tmp_path: Path, engine: Engine) -> None:
    async with both(tmp_path / "one", engine) as (log, warehouse):
        await append(log, batch(0))
        await finish(log, projector(log, warehouse))
    async with log_at(tmp_path / "two") as other:
        await append(other, batch(0))
        again = await engine.open()
        with pytest.raises(WarehouseAhead) as caught:
            await projector(other, again).run()
        assert caught.value.known == 0
        assert caught.value.table in caught.value.text.zh


async def crash_after_arrival_out_of_order(folder: Path, engine: Engine, guards: Guards) -> list[int]:
    """Partition 1 arrives before partition 0; death after the insert; restart."""
    patient = Policy(small_wait_ms=1500, inserts_per_second=1000)
    async with both(folder, engine) as (log, warehouse):
        first = projector(log, warehouse, guards=guards, policy=patient, faults=dying("5-inserted"))
        running = asyncio.create_task(first.run())
        await log.append("weighing", 1, [weighing(1, T0)])
        async with asyncio.timeout(10):
            while first.counters.records < 1:  # noqa: ASYNC110 (the counter is what tells)
                await asyncio.sleep(0.01)
        await log.append("weighing", 0, [weighing(0, T0)])
        with pytest.raises(Death):
            await running
        assert await weighing_ids(warehouse) == [0, 1]
        await finish(log, projector(log, warehouse, guards=guards))
        return await weighing_ids(warehouse)


async def test_guard_order(tmp_path: Path, engine: Engine) -> None:
    """Without one order the vector of the replay differs from that of the flush, and so does its token."""
    assert await crash_after_arrival_out_of_order(tmp_path / "on", engine, Guards()) == [0, 1]
    assert await crash_after_arrival_out_of_order(tmp_path / "off", engine, Guards(order=False, ranges=False)) == [0, 0, 1, 1]


async def test_a_settled_intent_rebuilds_the_identical_block(tmp_path: Path, engine: Engine) -> None:
    """The insert that a restart repeats has the same token and the same rows, to the byte."""
    seen: list[tuple[str, str, pa.Table]] = []

    class Watching(Through):
        async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
            seen.append((table.name, token, data))
            await self.inner.insert(table, data, token)

    async with both(tmp_path, engine) as (log, warehouse):
        await append(log, batch(0))
        policy = Policy(small_wait_ms=100, inserts_per_second=1000, at_once=frozenset())  # all tables in one flush
        with pytest.raises(Death):
            await projector(log, Watching(warehouse), policy=policy, faults=dying("5-inserted")).run()
        first = {(name, token): data for name, token, data in seen}
        seen.clear()
        await append(log, batch(1))
        # The ranges in the rows would spare the repetition.
        await finish(log, projector(log, Watching(warehouse), policy=policy, guards=Guards(ranges=False)))
        again = [(name, token, data) for name, token, data in seen if (name, token) in first]
        assert {name for name, _, _ in again} >= set(COMPARED)
        for name, token, data in again:
            assert data.equals(first[name, token])
        await assert_equal(log, warehouse)


async def test_an_answer_lost_after_the_insert_is_retried_under_the_same_token(tmp_path: Path, engine: Engine) -> None:
    class Flaky(Through):
        calls = 0

        async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
            self.calls += 1
            if self.calls % 3 == 1:
                raise WarehouseUnavailable("refused before")
            await self.inner.insert(table, data, token)
            if self.calls % 3 == 2:
                raise WarehouseUnavailable("the answer was lost")

    async with both(tmp_path, engine) as (log, warehouse):
        await append(log, batch(0))
        made = projector(log, Flaky(warehouse), policy=Policy(small_wait_ms=20, inserts_per_second=1000, retry_ms=1))
        await finish(log, made)
        assert made.counters.retries >= 8
        await assert_equal(log, warehouse)


async def test_a_commit_of_unknown_outcome_is_found_out_by_opening_anew(tmp_path: Path, engine: Engine) -> None:
    class Doubtful:
        """A log whose every third commit is visible, or not, and answers neither."""

        def __init__(self, inner: LocalLog) -> None:
            self.inner, self.commits = inner, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def open_task(self, task: TaskId) -> "DoubtfulSession":
            return DoubtfulSession(self, await self.inner.open_task(task))

    class DoubtfulSession:
        def __init__(self, log: Doubtful, inner: TaskSession) -> None:
            self.log, self.inner = log, inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def commit(
            self, outputs: Sequence[Append], entries: Mapping[bytes, bytes | None], positions: Mapping[TopicPartition, int]
        ) -> Mapping[TopicPartition, int]:
            self.log.commits += 1
            if self.log.commits % 6 == 3:
                raise LogUnavailable("not committed")
            ends = await self.inner.commit(outputs, entries, positions)
            if self.log.commits % 6 == 0:
                raise LogUnavailable("committed")
            return ends

    async with both(tmp_path, engine) as (log, warehouse):
        for number in range(3):
            await append(log, batch(number))
        policy = Policy(flush_ms=5, small_wait_ms=20, small_rows=1, poll_records=20, inserts_per_second=1000, retry_ms=1)
        made = projector(Doubtful(log), warehouse, policy=policy)
        await finish(log, made)
        assert made.counters.reopened >= 2
        await assert_equal(log, warehouse)


async def test_stop_while_the_warehouse_is_away_leaves_the_intent_for_the_next_start(tmp_path: Path, engine: Engine) -> None:
    class Away(Through):
        async def insert(self, table: TableSchema, data: pa.Table, token: str) -> None:
            raise WarehouseUnavailable("away")

    async with both(tmp_path, engine) as (log, warehouse):
        await append(log, batch(0))
        first = projector(log, Away(warehouse), policy=Policy(small_wait_ms=20, retry_ms=10))
        running = asyncio.create_task(first.run())
        async with asyncio.timeout(10):
            while first.counters.retries < 3:  # noqa: ASYNC110 (the counter is what tells)
                await asyncio.sleep(0.01)
        await asyncio.wait_for(first.stop(), 5)
        await running
        second = projector(log, warehouse)
        await finish(log, second)
        assert second.counters.settled == 1
        await assert_equal(log, warehouse)


async def test_the_comparison_sees_a_doubled_and_a_lost_row(tmp_path: Path, engine: Engine) -> None:
    async with both(tmp_path, engine) as (log, warehouse):
        await append(log, batch(0))
        await finish(log, projector(log, warehouse))
        await assert_equal(log, warehouse)
        table = next(t for t in tables(Catalog()) if t.name == "weighing_measured")
        columns = ", ".join(c.name for c in table.schema.columns)
        await warehouse.execute(f"INSERT INTO weighing_measured SELECT {columns} FROM weighing_measured WHERE id = '1'")
        with pytest.raises(AssertionError):
            await assert_equal(log, warehouse)
        await warehouse.execute("DELETE FROM weighing_measured WHERE id = '1'")
        with pytest.raises(AssertionError):
            await assert_equal(log, warehouse)


if __name__ == "__main__":
    asyncio.run(victim(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
