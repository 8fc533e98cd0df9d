"""The projector on a real log and a real engine: what arrives, what is refused, how far it is, how it stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hengliu.ports.log import Headers, Record, TopicPartition
from infra.chdb_warehouse import ChdbWarehouse
from infra.local_log import LocalLog
from projections.projector import Policy, Projector
from tests.projections.support import T0, clock_mark, event, log_at, projector, until, warehouse_at, weighing

WEIGHING = TopicPartition("weighing", 0)


@asynccontextmanager
async def running(log: LocalLog, warehouse: ChdbWarehouse, **more: Any) -> AsyncIterator[Projector]:
    made = projector(log, warehouse, **more)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        await made.stop()
        await task


async def ids(warehouse: ChdbWarehouse, table: str) -> list[Any]:
    return [
        row[0] for row in (await warehouse.query(f"SELECT id AS id FROM {table} ORDER BY src_topic, toInt64OrZero(id)")).rows
    ]


async def test_what_is_appended_is_readable_after_wait_for(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse, running(log, warehouse) as made:
        position = await log.append("weighing", 0, [weighing(i, T0 + i) for i in range(5)])
        assert await made.wait_for(WEIGHING, position, 10)
        assert await ids(warehouse, "weighing_measured") == ["0", "1", "2", "3", "4"]
        assert made.progress()[WEIGHING] >= position


async def test_clock_marks_give_no_row_and_move_the_position(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse, running(log, warehouse) as made:
        position = await log.append("weighing", 0, [clock_mark(T0), clock_mark(T0 + 1)])
        assert await made.wait_for(WEIGHING, position, 10)
        assert await ids(warehouse, "weighing_measured") == []
        assert made.counters.clocks == 2


async def test_wait_for_gives_up(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse, running(log, warehouse) as made:
        assert not await made.wait_for(WEIGHING, 1, 0.05)


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
        for start in range(0, 9, 3):
            async with running(log, warehouse) as made:
                position = await log.append("weighing", start % 2, [weighing(i, T0) for i in range(start, start + 3)])
                assert await made.wait_for(TopicPartition("weighing", start % 2), position, 10)
        assert await ids(warehouse, "weighing_measured") == [str(i) for i in range(9)]


async def test_an_undecodable_record_becomes_one_dead_letter_and_stops_nothing(tmp_path: Path) -> None:
    bad = Record(b"s", b'{"id":"7","source":"s","data":{"plate":7}}', Headers(T0, "weighing.measured", "demo", "m01"))
    huge = event("belt.metered", "1", T0, {"belt": "b", "total_kg": 10**30})
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
        async with running(log, warehouse) as made:
            await log.append("metering", 1, [huge])
            position = await log.append("weighing", 0, [weighing(1, T0), bad, weighing(2, T0)])
            assert await made.wait_for(WEIGHING, position, 10)
            assert await ids(warehouse, "weighing_measured") == ["1", "2"]

            async def both() -> bool:
                return len(await ids(warehouse, "event_refused")) == 2

            await until(both)
        async with running(log, warehouse) as made:
            position = await log.append("weighing", 0, [weighing(3, T0)])
            assert await made.wait_for(WEIGHING, position, 10)
        result = await warehouse.query(
            "SELECT reason AS reason, stage AS stage, refused_type AS t, refused_id AS i, enterprise AS e, size_bytes AS n, "
            "JSONExtractString(parameters, 'origin') AS origin FROM event_refused ORDER BY refused_type DESC"
        )
        assert result.rows[0][:6] == ("undecodable", "stream", "weighing.measured", "7", "m01", len(bad.value))
        assert str(result.rows[0][6]).startswith("weighing/0/")
        assert result.rows[1][:4] == ("unfit-value", "stream", "belt.metered", "1")
        assert len(result.rows) == 2


async def test_a_table_that_is_new_is_filled_from_the_whole_log(tmp_path: Path) -> None:
    from hengliu.events.catalog import FAMILIES, Catalog

    old = Catalog(f for f in FAMILIES if f.type != "plate.captured")
    capture = event("plate.captured", "c", T0, {"plate": "蒙C1", "lane": "in-1"})
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
        position = await log.append("weighing", 0, [weighing(1, T0), capture])
        async with running(log, warehouse, catalog=old) as made:
            assert await made.wait_for(WEIGHING, position, 10)
            assert made.counters.unclaimed == 1
        async with running(log, warehouse) as made:
            assert await made.wait_for(WEIGHING, position, 10)
        assert await ids(warehouse, "plate_captured") == ["c"]
        assert await ids(warehouse, "weighing_measured") == ["1"]


async def test_small_tables_wait_and_are_flushed_at_once_for_someone_who_waits(tmp_path: Path) -> None:
    patient = Policy(small_wait_ms=60_000)
    async with (
        log_at(tmp_path / "log") as log,
        warehouse_at(tmp_path / "w") as warehouse,
        running(log, warehouse, policy=patient) as made,
    ):
        position = await log.append("weighing", 0, [weighing(1, T0)])
        await asyncio.sleep(0.5)
        assert await ids(warehouse, "weighing_measured") == []
        assert await made.wait_for(WEIGHING, position, 10)
        assert await ids(warehouse, "weighing_measured") == ["1"]


async def test_the_insert_budget_holds(tmp_path: Path) -> None:
    policy = Policy(flush_ms=1, small_rows=1, inserts_per_second=5)
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
        async with running(log, warehouse, policy=policy) as made:
            loop = asyncio.get_running_loop()
            start = loop.time()
            for i in range(30):
                await log.append("weighing", 0, [weighing(i, T0)])
                await asyncio.sleep(0.05)

            async def all_there() -> bool:
                return made.counters.rows == 30

            await until(all_there, 60)
            spent = loop.time() - start
            inserts = made.counters.inserts
        assert inserts <= 5 + 5 * spent + 1


async def test_the_live_feed_gets_the_rows_when_they_are_readable(tmp_path: Path) -> None:
    seen: list[Any] = []
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse, running(log, warehouse) as made:
        end = made.subscribe(seen.append)
        position = await log.append("weighing", 0, [weighing(1, T0)])
        assert await made.wait_for(WEIGHING, position, 10)

        async def told() -> bool:
            return bool(seen)

        await until(told)
        assert seen[0].data["weighing_measured"].column("mass_kg").to_pylist() == [48_920]
        assert seen[0].positions[WEIGHING] >= position
        end()
        position = await log.append("weighing", 0, [weighing(2, T0)])
        assert await made.wait_for(WEIGHING, position, 10)
        assert len(seen) == 1


async def test_positions_are_told_to_the_warehouse(tmp_path: Path) -> None:
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse, running(log, warehouse) as made:
        position = await log.append("weighing", 1, [weighing(1, T0)])
        assert await made.wait_for(TopicPartition("weighing", 1), position, 10)
        sql = (
            "SELECT max(position) AS p FROM projection_position "
            "WHERE projector = 'projector' AND topic = 'weighing' AND partition = 1"
        )

        async def told() -> bool:
            return int(str((await warehouse.query(sql)).rows[0][0])) >= position

        await until(told)


async def test_a_backlog_larger_than_a_flush_arrives_whole(tmp_path: Path) -> None:
    count = 3_000
    policy = Policy(flush_rows=700, poll_records=300, inserts_per_second=1000)
    async with log_at(tmp_path / "log") as log, warehouse_at(tmp_path / "w") as warehouse:
        for start in range(0, count, 100):
            await log.append("weighing", (start // 100) % 2, [weighing(i, T0 + i) for i in range(start, start + 100)])
        async with running(log, warehouse, policy=policy) as made:
            for p in range(2):
                tp = TopicPartition("weighing", p)
                end = (await log.end_positions([tp]))[tp]
                assert await made.wait_for(tp, end - 1, 20)
        assert made.counters.inserts >= 4
        assert await ids(warehouse, "weighing_measured") == [str(i) for i in range(count)]
