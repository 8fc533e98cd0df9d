"""The benchmark's job with every detector: windows and warnings as recomputed, also when it is ended in the middle."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path

import pytest

from bench import report
from bench.__main__ import PAGE
from bench.streams.data import BASE
from bench.streams.detecting import Change, DetectingTask, DetectingTopology, WindowAnomalies, recomputed
from bench.streams.job import WINDOW_MS, FlatJob
from bench.streams.variants import Measured, page
from hengliu.events.envelope import ms_of
from hengliu.ports.clock import ManualClock
from hengliu.ports.log import EventLog, Headers, Record, TaskId, TaskState, TopicKind, TopicPartition, TopicSpec
from infra.local_log import LocalLog
from streams.kernel.task import CommitPolicy
from streams.kernel.windows import WindowSpec

WINDOWS = 150
HEADERS = Headers(received=0, type="test")
DEVICES = ("hangs", "silent", "usual")


def records() -> list[Record]:
    """Two weighings a window; one device hangs in the end, one is silent for a while."""
    rng = random.Random(11)
    found = []
    for number in range(WINDOWS):
        for device in DEVICES:
            if device == "silent" and 80 <= number < 90:
                continue
            for second in (10, 40):
                gross = 49_000 if device == "hangs" and number >= 100 else rng.randrange(30_000, 60_000)
                ts = BASE + number * WINDOW_MS + second * 1_000
                body = {"id": number, "device": device, "gross": gross, "tare": 14_000, "ts": ts}
                found.append(Record(device.encode(), json.dumps(body).encode(), HEADERS))
    return found


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    async with LocalLog.open(tmp_path / "log.sqlite") as opened:
        await opened.create_topics([TopicSpec(name, TopicKind.DERIVED, 1) for name in ("in", "out", "warn")])
        yield opened


def topology(log: EventLog) -> DetectingTopology:
    return DetectingTopology(
        log, ManualClock(BASE + 10**9), FlatJob(WindowSpec(WINDOW_MS)), "in", "out", 1, idle_ms=None,
        policy=CommitPolicy(interval_ms=0, max_records=40), operators=(WindowAnomalies(WINDOW_MS),), warnings="warn",
    )  # fmt: skip


async def rows(log: EventLog, topic: str) -> list[dict[str, object]]:
    tp = TopicPartition(topic, 0)
    end = (await log.end_positions([tp]))[tp]
    return [json.loads(value) for value in (await log.read_range(tp, 0, end)).values]


async def run_over(log: EventLog, part: list[Record]) -> DetectingTask:
    """Send a part and run a new task until it has written the windows that it closes, then end it where it stands."""
    await log.append("in", 0, part)
    now = max(json.loads(record.value)["ts"] for record in part)
    windows = len(sums(r for r in records() if json.loads(r.value)["ts"] < now - now % WINDOW_MS))
    task = topology(log).build(TaskId("windows", 0))
    running = asyncio.create_task(task.run())
    try:
        async with asyncio.timeout(30):
            while len(await rows(log, "out")) < windows:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.005)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return task


def sums(of: Iterable[Record]) -> dict[tuple[str, int], int]:
    """Net mass by device and window."""
    found: Counter[tuple[str, int]] = Counter()
    for record in of:
        row = json.loads(record.value)
        found[row["device"], row["ts"] - row["ts"] % WINDOW_MS] += row["gross"] - row["tare"]
    return dict(found)


async def warnings(log: EventLog) -> Counter[Change]:
    found: Counter[Change] = Counter()
    for event in await rows(log, "warn"):
        data = event["data"]
        assert isinstance(data, dict)
        at = ms_of(datetime.fromisoformat(str(event["time"])))
        found[data["subject"], data["parameters"]["detector"], str(event["type"]).removeprefix("warning."), at] += 1
    return found


async def test_every_warning_is_as_recomputed_over_restarts(log: EventLog) -> None:
    sent = records()
    closed = {key: total for key, total in sums(sent).items() if key[1] < BASE + (WINDOWS - 1) * WINDOW_MS}
    for part in (sent[:301], sent[301:650], sent[650:]):
        last = await run_over(log, part)
    assert {(row["device"], row["w"]): row["sum"] for row in await rows(log, "out")} == closed
    due = Counter(recomputed(closed, WINDOW_MS))
    assert {(device, detector) for device, detector, change, _ in due if change == "raised"} >= {
        ("hangs", "flat-line"), ("silent", "missing"),
    }  # fmt: skip
    assert await warnings(log) == due
    state = await (await log.open_task(TaskId("windows", 0))).restore()
    assert sum(last.sizes.values()) == sum(map(len, state.entries.values()))


async def test_without_its_state_a_restart_loses_warnings(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above holds hangs on the rows that are committed."""
    restore = DetectingTask.restore

    def forgetful(task: DetectingTask, state: TaskState) -> None:
        restore(task, TaskState(state.positions, {k: v for k, v in state.entries.items() if not k.startswith(b"window-a")}))

    monkeypatch.setattr(DetectingTask, "restore", forgetful)
    for part in (records()[:650], records()[650:]):
        await run_over(log, part)
    found = {(device, detector) for device, detector, change, _ in await warnings(log) if change == "raised"}
    assert ("hangs", "flat-line") not in found


def test_the_page_sets_the_detectors_beside_the_plain_run() -> None:
    plain = Measured("long, plain", 1_000_000, 500_000.0, 3.0, 240.0, 10_000, 0, [], 200, None, 80_000)
    raised = Counter({"missing": 20})
    judged = Measured("long, all detectors", 1_000_000, 250_000.0, 4.0, 280.0, 10_000, 0, [], 200, raised, 2_800_000)
    text = page([plain, judged], report.Machine("2026-01-01", 2, "a processor", 8, "6.1", "3.11.7", 0.5, "abc"), "command")
    assert "| long, all detectors | 1,000,000 | 250 | 4.00 | 280 | 10,000 | 0 | 20 | 14,000 | yes |" in text
    assert "7 detectors on 10,000 windows cost 100 µs a window; 0.50 of the rate, 1.33 times the CPU" in text
    assert "<!-- bench:variants -->" in PAGE.read_text()
