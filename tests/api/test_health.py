"""Readiness follows committed progress; on the real local log."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from api.health import Monitor
from hengliu.events.envelope import encode_event
from hengliu.metrics import Meters
from hengliu.ports.clock import SystemClock
from hengliu.ports.log import Headers, Record, TopicKind, TopicPartition, TopicSpec
from infra.local_log import LocalLog
from tests.api.conftest import running

TP = TopicPartition("weighing", 0)
DATA = {"plate": "蒙C12345", "mass_kg": 48_920, "axles": 6, "commodity": "raw", "use": "power"}


class Stage:
    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 0

    def positions(self) -> Mapping[TopicPartition, int]:
        return {TP: self.position}


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[LocalLog]:
    async with LocalLog.open(tmp_path / "log") as opened:
        await opened.create_topics([TopicSpec("weighing", TopicKind.CANONICAL, 1)])
        yield opened


async def write(log: LocalLog) -> int:
    return await log.append("weighing", 0, [Record(b"k", b"{}", Headers(1, "x"))])


class Wall(SystemClock):
    """The machine's clock, set back by a test."""

    back_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() - self.back_ms


async def test_a_clock_that_was_set_back_is_a_warning_and_no_reason(tmp_path: Path) -> None:
    clock = Wall()
    async with running(tmp_path, clock=clock) as made:
        clock.back_ms = 90_000
        answer = await made.client.post(
            "/v1/events",
            content=encode_event("weighing.measured", "urn:dev:org:32473-wb-m01-1", "1", clock.now_ms(), DATA),
            headers={**made.bearer("device"), "Content-Type": "application/cloudevents+json"},
        )
        assert answer.status_code == 200, answer.text
        found = (await made.client.get("/readyz")).json()
        assert [w["code"] for w in found["warnings"]] == ["clock-set-back"]
        assert 80 < found["warnings"][0]["seconds"] <= 90
        assert not any(r["code"] == "clock-set-back" for r in found["reasons"])
        metrics = (await made.client.get("/metrics")).text
        assert float(metrics.split("\nhengliu_intake_clock_ahead_seconds ")[1].split("\n")[0]) > 80


async def test_not_ready_before_the_first_look(log: LocalLog) -> None:
    assert [r["code"] for r in Monitor(log, [], Meters()).health().reasons] == ["starting"]


async def test_a_stuck_stage_makes_it_not_ready_and_moving_on_makes_it_ready(log: LocalLog) -> None:
    clock, stage, meters = Seconds(), Stage("vehicle"), Meters()
    monitor = Monitor(log, [stage], meters, stalled_s=10, every_s=1, monotonic=clock)
    await write(log)
    end = (await log.end_positions([TP]))[TP]
    for _ in range(10):
        await monitor.look()
        clock.now += 1
    assert monitor.health().ready, "behind for nine seconds only"
    for _ in range(3):
        await monitor.look()
        clock.now += 1
    health = monitor.health()
    assert not health.ready
    assert health.reasons[0]["stage"] == "vehicle"
    assert (health.reasons[0]["topic"], health.reasons[0]["position"], health.reasons[0]["end"]) == ("weighing", 0, end)
    assert meters.value("ready") == 0
    stage.position = end
    await monitor.look()
    assert monitor.health().ready
    assert meters.value("stage_stalled_seconds", {"stage": "vehicle"}) == 0


async def test_a_stage_that_lags_and_moves_is_ready(log: LocalLog) -> None:
    clock, stage = Seconds(), Stage("vehicle")
    monitor = Monitor(log, [stage], Meters(), stalled_s=5, every_s=1, monotonic=clock)
    for n in range(30):
        await write(log)
        await write(log)
        stage.position = n
        await monitor.look()
        clock.now += 1
        assert monitor.health().ready


async def test_a_position_that_rests_before_a_transaction_marker_is_not_behind(log: LocalLog) -> None:
    clock, stage = Seconds(), Stage("vehicle")
    monitor = Monitor(log, [stage], Meters(), stalled_s=5, every_s=1, monotonic=clock)
    stage.position = await write(log)
    assert stage.position < (await log.end_positions([TP]))[TP]
    for _ in range(20):
        await monitor.look()
        clock.now += 1
    assert monitor.health().ready


async def test_a_monitor_that_stopped_looking_is_not_ready(log: LocalLog) -> None:
    clock = Seconds()
    monitor = Monitor(log, [Stage("x")], Meters(), every_s=1, monotonic=clock)
    await monitor.look()
    assert monitor.health().ready
    clock.now += 60
    assert [r["code"] for r in monitor.health().reasons] == ["monitor-stalled"]


async def test_a_stage_that_vanishes_stands_where_it_was(log: LocalLog) -> None:
    clock = Seconds()

    class Vanishing(Stage):
        gone = False

        def positions(self) -> Mapping[TopicPartition, int]:
            return {} if self.gone else {TP: self.position}

    stage = Vanishing("vehicle")
    monitor = Monitor(log, [stage], Meters(), stalled_s=5, every_s=1, monotonic=clock)
    await monitor.look()
    stage.gone = True
    await write(log)
    for _ in range(8):
        await monitor.look()
        clock.now += 1
    assert [r["code"] for r in monitor.health().reasons] == ["stage-stalled"]


async def test_a_stage_that_never_came_is_absent(log: LocalLog) -> None:
    clock = Seconds()

    class Absent(Stage):
        def positions(self) -> Mapping[TopicPartition, int]:
            return {}

    monitor = Monitor(log, [Absent("meter")], Meters(), stalled_s=5, every_s=1, monotonic=clock)
    for _ in range(8):
        await monitor.look()
        clock.now += 1
    assert [(r["code"], r["stage"]) for r in monitor.health().reasons] == [("stage-absent", "meter")]


async def test_a_clock_that_is_not_written_means_that_intake_does_not_commit(log: LocalLog) -> None:
    clock = Seconds()
    monitor = Monitor(log, [], Meters(), stalled_s=5, every_s=1, monotonic=clock)
    monitor.expect_ticks([TP])
    for _ in range(8):
        await write(log)
        await monitor.look()
        clock.now += 1
    assert monitor.health().ready
    for _ in range(8):
        await monitor.look()
        clock.now += 1
    assert [r["code"] for r in monitor.health().reasons] == ["intake-stalled"]
