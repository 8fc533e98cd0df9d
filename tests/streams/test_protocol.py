"""docs/protocols/stream.md: a task that dies after each numbered step loses nothing and writes nothing twice."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from hengliu.events import topics
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.ports.faults import no_faults
from hengliu.ports.log import CLOCK_TYPE, EventLog, Headers, Record, TaskId, TopicPartition
from infra.local_log import LocalLog
from streams.kernel.task import CommitPolicy, StreamTask
from streams.topology import EXCHANGE, Topology

ROOT = Path(__file__).parents[2]
STEPS = ("1", "2", "3", "4", "5", "6")
EVENTS = 60
T0 = 1_772_000_000_000


class Died(BaseException):
    """Stands for the death of the process: no handler of the task may make it good."""


class Killer:
    """Dies the ``times``-th time that a step completes."""

    def __init__(self, step: str, times: int) -> None:
        self._step, self._left = step, times

    def __call__(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                raise Died(step)


async def filled(log: EventLog, bad: int | None = None) -> None:
    """Weighings of one scale in partition 0, and what tells that every other input is silent."""
    catalog = Catalog()
    await log.create_topics(catalog.topic_specs(1))
    for index in range(EVENTS):
        data = {"plate": f"蒙C{index:05d}", "mass_kg": 20_000 + index}
        value = encode_event("weighing.measured", "urn:dev:org:32473-wb-m01-1", str(index), T0 + index, data)
        if index == bad:
            value = value.replace(b'"data"', b'"date"')
        headers = Headers(received=T0 + index, type="weighing.measured", enterprise="m01", site="m01", division="150303")
        await log.append(topics.WEIGHING, 0, [Record(b"s", value, headers)])
    tick = Record(b"", b"", Headers(received=T0 + 10 * EVENTS, type=CLOCK_TYPE))
    for topic in Catalog.canonical_topics():
        await log.append(topic, 0, [tick])


def exchange(log: EventLog, killer: Killer | None = None) -> StreamTask:
    policy = CommitPolicy(interval_ms=10, max_records=7)
    return Topology(log, Catalog(), 1, policy=policy, faults=killer or no_faults).build(TaskId(EXCHANGE, 0))


async def written(log: EventLog, topic: str = topics.BY_VEHICLE) -> Counter[str]:
    """Origins of what stands in a topic, clock marks aside."""
    tp = TopicPartition(topic, 0)
    piece = await log.read_range(tp, 0, (await log.end_positions([tp]))[tp])
    return Counter(h.origin or h.type for h in piece.headers if h.type != CLOCK_TYPE)


async def finished(log: EventLog, count: int) -> None:
    """Run a new task until so many records are out, and a moment longer, in which a second copy would come."""
    task = exchange(log)
    running = asyncio.create_task(task.run())
    try:
        async with asyncio.timeout(20):
            while sum((await written(log)).values()) < count:
                if running.done():
                    running.result()
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    finally:
        task.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("step", "times"), [(step, 1) for step in STEPS] + [(step, 3) for step in ("3", "4", "5")])
async def test_a_death_after_each_step_loses_and_doubles_nothing(step: str, times: int, tmp_path: Path) -> None:
    async with LocalLog.open(tmp_path / "log.sqlite") as log:
        await filled(log)
        with pytest.raises(Died, match=step):
            async with asyncio.timeout(20):
                await exchange(log, Killer(step, times)).run()
        before = await written(log)
        if step in ("1", "2"):
            assert not before
        if step == "6":
            assert before, "what is committed is visible"
        await finished(log, EVENTS)
        after = await written(log)
    assert len(after) == EVENTS
    assert set(after.values()) == {1}
    assert before <= after


@pytest.mark.logs_errors
async def test_a_record_that_cannot_be_decoded_goes_to_quarantine_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with LocalLog.open(tmp_path / "log.sqlite") as log:
        await filled(log, bad=5)
        await finished(log, EVENTS - 1)
        assert len(await written(log)) == EVENTS - 1
        assert await written(log, topics.QUARANTINE) == {"event.refused": 1}


def test_the_document_has_the_steps_of_the_code() -> None:
    code = (ROOT / "streams/kernel/task.py").read_text(encoding="utf-8")
    document = (ROOT / "docs/protocols/stream.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| (\d) \w+ \|", document, re.M)) == STEPS
    assert tuple(re.findall(r"^(\d)\. ", code.partition('"""')[2].partition('"""')[0], re.M)) == STEPS
    assert set(re.findall(r'_faults\("(\d)"\)', code)) == set(STEPS)


def test_the_tests_and_files_that_the_document_names_exist() -> None:
    document = (ROOT / "docs/protocols/stream.md").read_text(encoding="utf-8")
    tests = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", document):
        assert f"def {name}(" in tests, name
